//! Publishing: `ANNOUNCE`, `SETUP`, `RECORD`, `PAUSE` and `TEARDOWN` of a publisher, its media, and our reports to it.
//!
//! RFC 2326 §10.3, §10.11, appendix C.1 (control URLs); RFC 3550 §6.2 (reports every [`REPORT_MS`]). A section of the description that
//! cannot be received (metadata of a camera, an unknown codec, a second picture) is set up like the others, so that the publisher goes
//! on, and what comes on it is left out.
//!
//! Limits: [`sdp::MEDIA_MAX`] sections. Media is taken from the input as a slice; the demuxer makes frames of it. Not here: payload
//! formats, the order of packets, clocks.

use std::net::{IpAddr, SocketAddr};

use super::message::{Request, Response, Status, write_frame_header};
use super::path::{self, Pair, Path};
use super::requests::{Answer, scramble};
use super::session::{Role, RtspSession, Wait, Whose};
use super::transport::{Kind, Lower, PortPair};
use super::url::Url;
use crate::format::rtp::demux::{DemuxOptions, Demuxed, Received, RtpDemuxer};
use crate::format::rtp::{Channels, RtpPayload};
use crate::media::{Discard, Stamp, TrackKind};
use crate::protocol::common::auth::Right;
use crate::protocol::common::sdp::{self, Description, SdpError};
use crate::protocol::common::source::Sender;
use crate::session::{Output, PairId, StreamKey};

/// How often a publisher is told what has arrived.
pub const REPORT_MS: u64 = 5_000;
/// The first report comes early: senders measure the way with it.
pub const FIRST_REPORT_MS: u64 = 1_000;

/// One `m=` section of the description.
struct Section {
    control: Option<String>,
    /// What it carries, or why that is left out.
    payload: Result<RtpPayload, Discard>,
    path: Option<Path>,
    /// Its number in the demuxer.
    track: Option<usize>,
}

struct Recording {
    demuxer: RtpDemuxer,
    /// Kept for its capacity.
    demuxed: Vec<Demuxed>,
    paused: bool,
    last_media: Stamp,
    next_report: Stamp,
}

/// A publisher, from its `ANNOUNCE` on.
pub(super) struct Publisher {
    key: StreamKey,
    base: Url,
    /// Of all sections together, as the description says.
    control: Option<String>,
    sections: Vec<Section>,
    /// Why some of them cannot be received.
    left_out: Option<String>,
    recording: Option<Recording>,
    /// Datagrams that came from elsewhere.
    strange: u64,
}

impl Publisher {
    fn new(key: StreamKey, base: Url, description: Description) -> Self {
        let left_out = left_out(&description);
        let mut kinds: Vec<TrackKind> = Vec::new();
        let mut sections = Vec::new();
        for media in description.media {
            let payload = match (media.payload, media.kind) {
                (Ok(_), Some(kind)) if kinds.contains(&kind) => Err(Discard::ExtraTrack),
                (Ok(payload), Some(kind)) => {
                    kinds.push(kind);
                    Ok(payload)
                }
                (Ok(_), None) | (Err(_), _) => Err(Discard::UnknownCodec),
            };
            sections.push(Section { control: media.control, payload, path: None, track: None });
        }
        Publisher { key, base, control: description.control, sections, left_out, recording: None, strange: 0 }
    }

    /// The name is the publisher's.
    pub fn granted(&mut self, out: &mut Vec<Output>) {
        if let Some(why) = self.left_out.take() {
            out.push(Output::Note { reason: None, message: format!("{}: left out: {why}", self.key) });
        }
    }

    /// The section that a URL names.
    fn section(&self, url: &Url) -> Result<usize, Status> {
        let names = |section: &Section| section.control.as_deref().is_some_and(|control| url.is_control(&self.base, control));
        match self.sections.iter().position(names) {
            Some(section) => Ok(section),
            None if !self.is_base(url) => Err(Status::NotFound),
            None if self.sections.len() == 1 => Ok(0),
            None => Err(Status::AggregateNotAllowed),
        }
    }

    fn is_base(&self, url: &Url) -> bool {
        let is_control = |control: &str| url.is_control(&self.base, control);
        url.behind(&self.base).is_some_and(|behind| behind.is_empty()) || self.control.as_deref().is_some_and(is_control)
    }

    /// Fails unless a URL means all sections together.
    fn check_whole(&self, url: &Url) -> Result<(), Status> {
        if self.is_base(url) || self.sections.len() == 1 {
            return Ok(());
        }
        Err(self.section(url).map_or(Status::NotFound, |_| Status::OnlyAggregateAllowed))
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        self.sections.iter().filter_map(|section| section.path.as_ref())
    }

    pub fn set_pair(&mut self, section: usize, pair: PairId, address: IpAddr, client: PortPair) {
        self.sections[section].path = Some(Path::Pair(Pair::new(pair, address, client)));
    }

    pub fn is_recording(&self) -> bool {
        self.recording.as_ref().is_some_and(|recording| !recording.paused)
    }

    /// Of a publisher that sends datagrams: when media came last. `None`: it sends on the connection.
    pub fn last_datagram(&self) -> Option<Stamp> {
        let recording = self.recording.as_ref().filter(|_| self.paths().any(|path| path.kind() == Kind::Udp))?;
        Some(recording.last_media)
    }

    /// Takes an interleaved frame; `false` if its channel was never set up.
    pub fn frame(&mut self, now: Stamp, channel: u8, payload: &[u8], out: &mut Vec<Output>) -> bool {
        let on_channel = |section: &Section| match section.path {
            Some(Path::Channels(channels)) if channels.rtp == channel => Some((section.track, false)),
            Some(Path::Channels(channels)) if channels.rtcp == channel => Some((section.track, true)),
            _ => None,
        };
        let Some((track, rtcp)) = self.sections.iter().find_map(on_channel) else { return false };
        if let (Some(track), Some(recording)) = (track, &mut self.recording) {
            recording.packet(now, track, rtcp, payload, out);
        }
        true
    }

    /// Takes a datagram. `from`: where it comes from if that is the publisher's IP address. `false`: it is a stranger's.
    pub fn datagram(
        &mut self,
        now: Stamp,
        pair: PairId,
        rtcp: bool,
        from: Option<SocketAddr>,
        bytes: &[u8],
        out: &mut Vec<Output>,
    ) -> bool {
        let sections = &mut self.sections;
        let of_pair = |section: &&mut Section| section.path.as_ref().and_then(Path::pair).is_some_and(|own| own.id == pair);
        let Some(section) = sections.iter_mut().find(of_pair) else { return false };
        let Some(own) = section.path.as_mut().and_then(Path::pair_mut) else { return false };
        let recording = self.recording.as_mut();
        let known_ssrc = recording.as_ref().zip(section.track).and_then(|(recording, track)| recording.demuxer.ssrc(track));
        // A changed address must at least go on with the same source.
        let trusted = known_ssrc.is_some() && path::ssrc(bytes, rtcp) == known_ssrc;
        if from.is_none_or(|from| own.datagram(now, rtcp, from, trusted) == Sender::Stranger) {
            self.strange += 1;
            return false;
        }
        if let (Some(track), Some(recording)) = (section.track, recording) {
            recording.packet(now, track, rtcp, bytes, out);
        }
        true
    }

    /// Bytes of access units that are not complete, and of packets behind a gap.
    pub fn held_bytes(&self) -> usize {
        self.recording.as_ref().map_or(0, |recording| recording.demuxer.held_bytes())
    }

    pub fn next_timeout(&self) -> Option<Stamp> {
        let recording = self.recording.as_ref()?;
        Some(recording.demuxer.next_timeout().map_or(recording.next_report, |at| at.min(recording.next_report)))
    }

    pub fn timeout(&mut self, now: Stamp, out: &mut Vec<Output>) {
        let Some(recording) = &mut self.recording else { return };
        recording.demuxer.timeout(now, &mut recording.demuxed);
        recording.give_out(out);
        if now >= recording.next_report {
            recording.next_report = now.after_millis(REPORT_MS);
            for section in &self.sections {
                recording.report(now, section, out);
            }
            self.count_received(out);
        }
    }

    /// What waits behind a gap is given out: nothing will come any more that could close it.
    fn give_up_gaps(&mut self, out: &mut Vec<Output>) {
        if let Some(recording) = &mut self.recording {
            recording.demuxer.timeout(Stamp::MAX, &mut recording.demuxed);
            recording.give_out(out);
        }
    }

    /// Hands over what was counted since the last time.
    pub fn count_received(&mut self, out: &mut Vec<Output>) {
        let Some(recording) = &mut self.recording else { return };
        let mut received = recording.demuxer.take_received();
        received.useless += std::mem::take(&mut self.strange);
        if received != Received::default() {
            out.push(Output::Received(received));
        }
    }
}

impl Recording {
    fn packet(&mut self, now: Stamp, track: usize, rtcp: bool, bytes: &[u8], out: &mut Vec<Output>) {
        if self.paused {
            return;
        }
        if rtcp {
            self.demuxer.rtcp(now, track, bytes);
        } else {
            self.last_media = now;
            self.demuxer.rtp(now, track, bytes, &mut self.demuxed);
        }
        self.give_out(out);
    }

    fn give_out(&mut self, out: &mut Vec<Output>) {
        for item in self.demuxed.drain(..) {
            match item {
                Demuxed::Event(event) => out.push(Output::Media(event)),
                Demuxed::Discarded(discard) => out.push(Output::Discarded(discard)),
            }
        }
    }

    fn report(&mut self, now: Stamp, section: &Section, out: &mut Vec<Output>) {
        let (Some(track), Some(path)) = (section.track, section.path) else { return };
        let Some(report) = self.demuxer.receiver_report(now, track) else { return };
        match path {
            Path::Channels(channels) => {
                let Ok(len) = u16::try_from(report.len()) else { return };
                out.push(Output::Send([&write_frame_header(channels.rtcp, len)[..], &report].concat().into()));
            }
            Path::Pair(pair) => {
                out.push(Output::SendDatagram { pair: pair.id, rtcp: true, to: pair.rtcp.address(), bytes: report });
            }
            // Publishers have none.
            Path::Group(_) => {}
        }
    }
}

impl RtspSession {
    pub(super) fn announce(&mut self, now: Stamp, request: &Request, out: &mut Vec<Output>) -> Result<Answer, Response> {
        let base = Url::parse(&request.url)?;
        let key = base.key()?;
        self.authorize(now, request, Right::Publish, &key, out)?;
        if !matches!(self.role, Role::None) {
            return Err(Status::NotValidInThisState.into());
        }
        let is_sdp = |kind: &str| kind.trim().to_ascii_lowercase().starts_with("application/sdp");
        if request.header("Content-Type").is_some_and(|kind| !is_sdp(kind)) {
            return Err(Status::UnsupportedMediaType.into());
        }
        let description = read_description(&request.body).map_err(|(status, reason, why)| {
            out.push(Output::Note { reason: Some(reason), message: format!("ANNOUNCE of {key}: {why}") });
            Response::from(status).last()
        })?;
        let publisher = Publisher::new(key.clone(), base, description);
        out.push(Output::Publish(key));
        Ok(Answer::Wait(Wait::Publishing(Box::new(publisher))))
    }

    pub(super) fn setup_section(&mut self, now: Stamp, request: &Request, out: &mut Vec<Output>) -> Result<Answer, Response> {
        let url = Url::parse(&request.url)?;
        let key = self.publisher()?.key.clone();
        self.authorize(now, request, Right::Publish, &key, out)?;
        let publisher = self.publisher()?;
        if publisher.recording.is_some() {
            return Err(Status::NotValidInThisState.into());
        }
        let section = publisher.section(&url)?;
        let others = publisher.sections.iter().enumerate().filter(|(at, _)| *at != section).map(|(_, other)| other);
        let others: Vec<Path> = others.filter_map(|other| other.path).collect();
        let taken: Vec<Channels> = others.iter().filter_map(Path::channels).collect();
        let kind = others.first().map(Path::kind).or(self.only_transport());
        let offer = Self::choose(request, kind).ok_or(Status::UnsupportedTransport)?;
        let answer = match offer.lower {
            Lower::Interleaved(wish) => {
                let publisher = self.publisher()?;
                // What a publisher names it uses, so another pair would not help it.
                let channels = match wish {
                    Some(wish) => Some(wish).filter(|wish| path::are_free(&taken, *wish)),
                    None => path::free_channels(&taken),
                };
                let channels = channels.ok_or(Status::UnsupportedTransport)?;
                path::close(publisher.sections[section].path.replace(Path::Channels(channels)), out);
                Answer::Reply(self.set_up(&offer.write_interleaved(channels)))
            }
            Lower::Unicast(client) => {
                path::close(self.publisher()?.sections[section].path.take(), out);
                let used: Vec<PairId> = others.iter().filter_map(Path::pair).map(|pair| pair.id).collect();
                let pair = self.open_pair(&used, out);
                Answer::Wait(Wait::Pair { pair, offer, client, whose: Whose::Section(section) })
            }
            Lower::Multicast => return Err(Status::UnsupportedTransport.into()),
        };
        if let Err(discard) = self.publisher()?.sections[section].payload {
            out.push(Output::Discarded(discard));
        }
        Ok(answer)
    }

    fn publisher(&mut self) -> Result<&mut Publisher, Status> {
        match &mut self.role {
            Role::Publish(publisher) => Ok(publisher),
            Role::None | Role::Play(_) => Err(Status::NotValidInThisState),
        }
    }

    pub(super) fn record(&mut self, now: Stamp, request: &Request, out: &mut Vec<Output>) -> Result<Answer, Response> {
        let url = Url::parse(&request.url)?;
        let key = self.publisher()?.key.clone();
        self.authorize(now, request, Right::Publish, &key, out)?;
        let rtsp = &self.config.rtsp;
        let (reorder_ms, on_loss) = (rtsp.reorder_ms, rtsp.on_loss);
        let ssrc = scramble(!self.seed) as u32;
        let publisher = self.publisher()?;
        publisher.check_whole(&url)?;
        match &mut publisher.recording {
            Some(recording) => {
                recording.paused = false;
                recording.last_media = now;
            }
            None => {
                let mut payloads = Vec::new();
                for section in &mut publisher.sections {
                    if let (Ok(payload), Some(_)) = (&section.payload, &section.path) {
                        section.track = Some(payloads.len());
                        payloads.push(payload.clone());
                    }
                }
                if payloads.is_empty() {
                    return Err(Status::NotValidInThisState.into());
                }
                let as_datagrams = publisher.paths().any(|path| path.kind() == Kind::Udp);
                let options = DemuxOptions { reorder_ms: as_datagrams.then_some(reorder_ms), on_loss, ssrc };
                publisher.recording = Some(Recording {
                    demuxer: RtpDemuxer::new(payloads, options),
                    demuxed: Vec::new(),
                    paused: false,
                    last_media: now,
                    next_report: now.after_millis(FIRST_REPORT_MS),
                });
            }
        }
        Ok(Answer::Reply(Response::ok().header("Range", "npt=now-")))
    }

    pub(super) fn pause_publisher(&mut self, request: &Request) -> Result<Answer, Response> {
        let url = Url::parse(&request.url)?;
        let publisher = self.publisher()?;
        publisher.check_whole(&url)?;
        publisher.recording.as_mut().ok_or(Status::NotValidInThisState)?.paused = true;
        Ok(Answer::Reply(Response::ok()))
    }

    /// `TEARDOWN`: the stream ends at once.
    pub(super) fn unpublish(&mut self, request: &Request, out: &mut Vec<Output>) -> Result<(), Response> {
        let url = Url::parse(&request.url)?;
        let publisher = self.publisher()?;
        publisher.check_whole(&url)?;
        publisher.give_up_gaps(out);
        publisher.count_received(out);
        out.push(Output::Unpublish);
        for path in publisher.sections.iter_mut().map(|section| section.path.take()) {
            path::close(path, out);
        }
        self.role = Role::None;
        Ok(())
    }
}

/// The description of an `ANNOUNCE`, if something of it can be received; else what is answered, the name under which that is counted, and
/// why, for the operator.
fn read_description(body: &[u8]) -> Result<Description, (Status, &'static str, String)> {
    const BAD: &str = "bad_description";
    let description = sdp::parse(&String::from_utf8_lossy(body)).map_err(|error| match error {
        SdpError::NotSdp => (Status::BadRequest, BAD, error.to_string()),
        SdpError::TooLong | SdpError::TooManyMedia => (Status::BodyTooLarge, BAD, error.to_string()),
    })?;
    if description.media.is_empty() {
        return Err((Status::BadRequest, BAD, "no media section".to_owned()));
    }
    match left_out(&description) {
        Some(why) if description.media.iter().all(|media| media.payload.is_err()) => {
            Err((Status::UnsupportedMediaType, "unsupported_media", why))
        }
        _ => Ok(description),
    }
}

/// Why sections of a description cannot be received; `None`: all can.
fn left_out(description: &Description) -> Option<String> {
    let errors = description.media.iter().filter_map(|media| media.payload.as_ref().err());
    let errors: Vec<String> = errors.map(ToString::to_string).collect();
    (!errors.is_empty()).then(|| errors.join("; "))
}
