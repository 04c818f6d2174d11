//! RTP that somebody has agreed on elsewhere → a published stream.
//!
//! GB/T 28181 Annex C: a program stream (payload type 96, or whatever begins as one), or H.264, H.265, G.711 by themselves, by payload
//! type. Over UDP, or over TCP behind lengths (RFC 4571), whoever connects. The session claims the stream's name, opens its port unless
//! it was given a connection, and is over when nothing has come, or nobody has watched, for the time that was asked for.
//!
//! Whose packets are taken: [`Sources`]. Over UDP the address is settled by the first packet and followed with the guard of [`Source`].
//! Limits: those of `format::rtp` and `format::ps`. Not here: RTCP, which is passed over.

mod request;
mod source;

use std::fmt::Write;
use std::net::SocketAddr;

use crate::config::Config;
use crate::format::ps::PsDemuxer;
use crate::format::rtp::demux::{DemuxOptions, Demuxed, OnLoss, Ordered, Place, Received, RtpDemuxer, Sequence};
use crate::format::rtp::framing::Framing;
use crate::format::rtp::payload::VIDEO_CLOCK_RATE;
use crate::format::rtp::{PayloadForm, RtpHeader, RtpPayload, rtcp};
use crate::media::{Codec, MediaEvent, Stamp};
use crate::protocol::common::source::{Sender, Source};
use crate::session::{
    CloseReason, ExpectedSource, Fault, Input, Output, PairId, Reception, ReceptionState, Refusal, Session, SessionError,
};

pub use self::request::{Request, TIMEOUT_MS_DEFAULT, Transport};
pub use self::source::RELOCK_SILENCE_MS;
use self::source::{Sources, Verdict};

/// The label under which it is counted and shown.
pub const NAME: &str = "rtp";

const PAIR: PairId = 0;
/// How often the shard is told what has arrived.
const COUNT_MS: u64 = 1_000;
const PS_PAYLOAD_TYPE: u8 = 96;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    New,
    /// Waits for the name, then for the port.
    Asking,
    Open,
    Over,
}

/// What the payloads are.
enum Media {
    Unknown,
    Ps(Box<PsDemuxer>),
    Elementary(Box<RtpDemuxer>),
}

pub struct Receiver {
    request: Request,
    reorder_ms: Option<u64>,
    on_loss: OnLoss,
    phase: Phase,
    state: ReceptionState,
    /// Why it is over.
    over: String,
    refusal: Option<Refusal>,
    port: Option<u16>,
    sources: Sources,
    source: Source,
    address: Option<SocketAddr>,
    /// A payload type that is none of those known; the last one seen.
    odd_type: Option<u8>,
    last_media: Stamp,
    framing: Framing,
    sequence: Sequence,
    media: Media,
    /// The last packet was the end of a frame.
    at_end: bool,
    arrival: Stamp,
    tracks: Vec<&'static str>,
    new: Received,
    total: Received,
    next_count: Stamp,
    demuxed: Vec<Demuxed>,
}

impl Receiver {
    pub fn boxed(request: Request, config: &Config) -> Box<dyn Session> {
        Box::new(Receiver::new(request, config))
    }

    pub fn new(request: Request, config: &Config) -> Self {
        let reorder_ms = (request.transport == Transport::Udp).then_some(config.rtp.reorder_ms);
        Receiver {
            reorder_ms,
            on_loss: config.rtp.on_loss,
            phase: Phase::New,
            state: ReceptionState::Waiting,
            over: String::new(),
            refusal: None,
            port: None,
            sources: Sources::new(request.source),
            source: Source::unknown(),
            address: None,
            odd_type: None,
            last_media: Stamp::ZERO,
            framing: Framing::new(request.source.ssrc.filter(|_| request.source.strict)),
            sequence: Sequence::new(reorder_ms),
            media: Media::Unknown,
            at_end: false,
            arrival: Stamp::ZERO,
            tracks: Vec::new(),
            new: Received::default(),
            total: Received::default(),
            next_count: Stamp::ZERO,
            demuxed: Vec::new(),
            request,
        }
    }

    fn opened(&mut self, now: Stamp, port: Option<u16>, out: &mut Vec<Output>) {
        self.port = port;
        if port.is_none() {
            out.push(Output::Unpublish);
            return self.refused(Refusal::LimitReached, "no port is left", out);
        }
        self.open(now, out);
    }

    /// Media may come from now on.
    fn open(&mut self, now: Stamp, out: &mut Vec<Output>) {
        (self.phase, self.last_media, self.next_count) = (Phase::Open, now, now.after_millis(COUNT_MS));
        out.extend(self.request.idle_ms.map(Output::AskUnwatched));
    }

    fn refused(&mut self, refusal: Refusal, why: &str, out: &mut Vec<Output>) {
        self.refusal = Some(refusal);
        self.end(why);
        out.push(Output::Close);
    }

    fn end(&mut self, why: &str) {
        (self.phase, self.state) = (Phase::Over, ReceptionState::Ended);
        why.clone_into(&mut self.over);
    }

    fn datagram(&mut self, now: Stamp, from: SocketAddr, bytes: &[u8], out: &mut Vec<Output>) {
        let Some(header) = self.header(bytes) else { return };
        let verdict = self.judge(now, header.ssrc, Some(from));
        if verdict == Verdict::Foreign {
            return;
        }
        if verdict == Verdict::Follow {
            self.source = Source::unknown();
        }
        match self.source.datagram(now, from, true) {
            Sender::Stranger => {
                self.new.useless += 1;
                return;
            }
            Sender::Moved => self.peer(from, out),
            Sender::Known => {}
        }
        self.sources.take(header.ssrc, Some(from.ip()));
        self.packet(now, &header, bytes, verdict == Verdict::Follow, out);
    }

    fn peer(&mut self, address: SocketAddr, out: &mut Vec<Output>) {
        self.address = Some(address);
        out.push(Output::Peer(address));
    }

    /// Bytes of the connection.
    fn bytes(&mut self, now: Stamp, bytes: &[u8], out: &mut Vec<Output>) {
        let mut framing = std::mem::replace(&mut self.framing, Framing::new(None));
        framing.push(bytes, |follows, packet| {
            if !follows {
                self.lost(out);
            }
            let Some(header) = self.header(packet) else { return };
            let verdict = self.judge(now, header.ssrc, self.address);
            if verdict != Verdict::Foreign {
                self.sources.take(header.ssrc, self.address.map(|address| address.ip()));
                self.packet(now, &header, packet, verdict == Verdict::Follow, out);
            }
        });
        self.framing = framing;
    }

    /// Another connection has nothing to do with the one before, but for its source.
    fn connected(&mut self, address: SocketAddr, out: &mut Vec<Output>) {
        self.framing = Framing::new(self.sources.certain());
        self.sequence.reset();
        self.lost(out);
        self.peer(address, out);
    }

    /// `None`: no packet of media.
    fn header(&mut self, packet: &[u8]) -> Option<RtpHeader> {
        if rtcp::is_rtcp(packet) {
            return None;
        }
        let header = RtpHeader::parse(packet).ok();
        self.new.useless += u64::from(header.is_none());
        header
    }

    fn judge(&mut self, now: Stamp, ssrc: u32, from: Option<SocketAddr>) -> Verdict {
        let verdict = self.sources.judge(ssrc, from.map(|from| from.ip()), now.millis_since(self.last_media));
        self.new.useless += u64::from(verdict == Verdict::Foreign);
        verdict
    }

    /// Something else has been agreed.
    fn expect(&mut self, expected: ExpectedSource, out: &mut Vec<Output>) {
        if self.sources.expect(expected) {
            self.source = Source::unknown();
            self.restart(out);
        }
    }

    fn packet(&mut self, now: Stamp, header: &RtpHeader, packet: &[u8], is_new: bool, out: &mut Vec<Output>) {
        if is_new {
            self.restart(out);
        }
        let payload = &packet[header.payload.clone()];
        if matches!(self.media, Media::Unknown) && !self.recognise(header.payload_type, payload) {
            self.new.useless += 1;
            self.odd_type = Some(header.payload_type);
            // Whoever sends nothing of use keeps nobody else out.
            self.sources.forget();
            self.source = Source::unknown();
            return;
        }
        self.last_media = now;
        if self.state == ReceptionState::Waiting {
            self.state = ReceptionState::MediaSeen;
            let words = self.words();
            out.push(Output::Note { reason: None, message: format!("{}: {words}", self.request.key) });
        }
        if let Media::Elementary(demuxer) = &mut self.media {
            demuxer.rtp(now, 0, packet, &mut self.demuxed);
            return self.give_out(out);
        }
        if self.order(now, header, payload) == Place::Anew {
            self.restart(out);
            self.recognise(header.payload_type, payload);
            self.order(now, header, payload);
        }
        self.give_out(out);
    }

    fn order(&mut self, now: Stamp, header: &RtpHeader, payload: &[u8]) -> Place {
        let Receiver { sequence, media, demuxed, at_end, arrival, new, .. } = self;
        let Media::Ps(ps) = media else { return Place::Outside };
        sequence.push(now, header, payload, new, &mut |ordered| deliver(ordered, ps, at_end, arrival, demuxed))
    }

    /// Gives out what waits behind gaps whose time has come.
    fn give_up_gaps(&mut self, now: Stamp, out: &mut Vec<Output>) {
        let Receiver { sequence, media, demuxed, at_end, arrival, new, .. } = self;
        match media {
            Media::Unknown => {}
            Media::Ps(ps) => {
                sequence.timeout(now, new, &mut |ordered| deliver(ordered, ps, at_end, arrival, demuxed));
            }
            Media::Elementary(demuxer) => demuxer.timeout(now, demuxed),
        }
        self.give_out(out);
    }

    fn lost(&mut self, out: &mut Vec<Output>) {
        if let Media::Ps(ps) = &mut self.media {
            ps.lost(&mut self.demuxed);
        }
        self.give_out(out);
    }

    /// Another source, or its numbers begin anew.
    fn restart(&mut self, out: &mut Vec<Output>) {
        self.give_up_gaps(Stamp::MAX, out);
        self.sequence.reset();
        self.collect_counts();
        (self.media, self.at_end) = (Media::Unknown, false);
    }

    /// Decides what the payloads are. `false`: nothing that is known.
    fn recognise(&mut self, payload_type: u8, payload: &[u8]) -> bool {
        let is_ps = payload.starts_with(&[0, 0, 1, 0xBA]);
        let (codec, form, clock_rate) = match payload_type {
            PS_PAYLOAD_TYPE => return self.set_ps(),
            _ if is_ps => return self.set_ps(),
            98 => (Codec::H264, PayloadForm::H264, VIDEO_CLOCK_RATE),
            // 100 by the standard of 2022, 99 by those who came before it.
            99 | 100 => (Codec::H265, PayloadForm::H265 { donl: false }, VIDEO_CLOCK_RATE),
            8 => (Codec::G711A, PayloadForm::G711, 8_000),
            0 => (Codec::G711U, PayloadForm::G711, 8_000),
            _ => return false,
        };
        let payload = RtpPayload { payload_type, clock_rate, codec, form, channels: 1, config: bytes::Bytes::new() };
        let options = DemuxOptions { reorder_ms: self.reorder_ms, on_loss: self.on_loss, ssrc: 0 };
        self.media = Media::Elementary(Box::new(RtpDemuxer::new(vec![payload], options)));
        true
    }

    fn set_ps(&mut self) -> bool {
        self.media = Media::Ps(Box::new(PsDemuxer::new(self.on_loss)));
        true
    }

    fn give_out(&mut self, out: &mut Vec<Output>) {
        for item in self.demuxed.drain(..) {
            match item {
                Demuxed::Event(event) => {
                    match &event {
                        MediaEvent::Tracks(tracks) => {
                            self.tracks = tracks.iter().map(|track| track.codec.name()).collect();
                            self.state = ReceptionState::TracksFound;
                        }
                        MediaEvent::Frame(_) => self.state = ReceptionState::Playing,
                        MediaEvent::End => {}
                    }
                    out.push(Output::Media(event));
                }
                Demuxed::Discarded(discard) => out.push(Output::Discarded(discard)),
            }
        }
        if let Media::Ps(ps) = &mut self.media
            && let Some(name) = ps.take_left_out()
        {
            let message = format!("{}: left out: {name}", self.request.key);
            out.push(Output::Note { reason: Some("unknown_codec"), message });
        }
    }

    fn collect_counts(&mut self) {
        if let Media::Elementary(demuxer) = &mut self.media {
            let counts = demuxer.take_received();
            add(&mut self.new, counts);
        }
    }

    fn count(&mut self, out: &mut Vec<Output>) {
        self.collect_counts();
        let new = std::mem::take(&mut self.new);
        if new != Received::default() {
            add(&mut self.total, new);
            out.push(Output::Received(new));
        }
    }

    fn timeout(&mut self, now: Stamp, out: &mut Vec<Output>) -> Result<(), SessionError> {
        self.give_up_gaps(now, out);
        if now >= self.next_count {
            self.next_count = now.after_millis(COUNT_MS);
            self.count(out);
        }
        if now.millis_since(self.last_media) < self.request.timeout_ms {
            return Ok(());
        }
        self.count(out);
        let Request { key, timeout_ms, .. } = &self.request;
        let was = if self.state == ReceptionState::Waiting { self.words() } else { format!("no media for {timeout_ms} ms") };
        let message = format!("{key}: {was}, over after {timeout_ms} ms");
        self.end(&format!("{was}, over after {timeout_ms} ms"));
        Err(SessionError { fault: Fault::TimedOut, reason: "no_media", message })
    }

    /// Gives out what there is, and is over.
    fn finish(&mut self, why: &str, out: &mut Vec<Output>) {
        self.give_up_gaps(Stamp::MAX, out);
        self.count(out);
        self.end(why);
    }

    fn unwatched(&mut self, out: &mut Vec<Output>) {
        self.finish(&format!("nobody watched for {} ms", self.request.idle_ms.unwrap_or(0)), out);
        out.extend([Output::Unpublish, Output::Close]);
    }

    /// Who was connected is not any more. To a port he may come again.
    fn disconnected(&mut self, out: &mut Vec<Output>) {
        if matches!(self.request.transport, Transport::TcpActive { .. }) {
            self.finish("the sender has closed the connection", out);
            out.push(Output::Close);
        }
    }

    fn closing(&mut self, reason: CloseReason, out: &mut Vec<Output>) {
        if self.phase == Phase::Over {
            return;
        }
        self.finish(
            match reason {
                CloseReason::Kicked => "closed by the operator",
                CloseReason::TakenOver => "another publisher has taken the name",
                CloseReason::Stalled => "stalled",
                CloseReason::ShuttingDown => "the server is shutting down",
            },
            out,
        );
        if reason == CloseReason::Kicked {
            // Nobody will come back.
            out.push(Output::Unpublish);
        }
    }

    /// The state in words.
    fn words(&self) -> String {
        let mut words = match self.state {
            ReceptionState::Waiting => "waiting for media".to_owned(),
            ReceptionState::MediaSeen => "media seen".to_owned(),
            ReceptionState::TracksFound => format!("tracks found: {}", self.tracks.join(", ")),
            ReceptionState::Playing => format!("playing {}", self.tracks.join(", ")),
            ReceptionState::Ended => return self.over.clone(),
        };
        // Writing into a string cannot fail.
        if let (Some(address), Some(ssrc), true) = (self.address, self.sources.ssrc(), self.state != ReceptionState::Waiting) {
            let _ = write!(words, ", from {address} (SSRC {ssrc})");
        }
        if let Some(remark) = self.sources.remark() {
            let _ = write!(words, "; {remark}");
        }
        if let Some(odd) = self.odd_type {
            let _ = write!(words, "; payload type {odd} is not known: ignored");
        }
        words
    }
}

impl Session for Receiver {
    fn handle(&mut self, now: Stamp, input: Input<'_>, out: &mut Vec<Output>) -> Result<(), SessionError> {
        match input {
            Input::Timeout if self.phase == Phase::New => {
                self.phase = Phase::Asking;
                out.push(Output::Publish(self.request.key.clone()));
            }
            Input::Timeout if self.phase == Phase::Open => return self.timeout(now, out),
            Input::Publishing => match self.request.transport {
                Transport::Udp => out.push(Output::OpenPair(PAIR)),
                Transport::TcpPassive => out.push(Output::OpenPort),
                Transport::TcpActive { to } => {
                    self.address = Some(to);
                    self.open(now, out);
                }
            },
            Input::PairOpened { port, .. } | Input::PortOpened(port) => self.opened(now, port, out),
            Input::Datagram { rtcp: false, from, bytes, .. } if self.phase == Phase::Open => self.datagram(now, from, bytes, out),
            Input::Bytes(bytes) if self.phase == Phase::Open => self.bytes(now, bytes, out),
            Input::Connected(address) => self.connected(address, out),
            Input::Disconnected if self.phase == Phase::Open => self.disconnected(out),
            Input::Unwatched if self.phase == Phase::Open => self.unwatched(out),
            Input::Expect(expected) => self.expect(expected, out),
            Input::Refused(refusal) => {
                let why = match refusal {
                    Refusal::NameInUse => "the name is in use",
                    Refusal::NotFound | Refusal::LimitReached => "a limit of the server is reached",
                    Refusal::ShuttingDown => "the server is shutting down",
                };
                self.refused(refusal, why, out);
            }
            Input::Closing(reason) => self.closing(reason, out),
            Input::Timeout
            | Input::Datagram { .. }
            | Input::Bytes(_)
            | Input::Disconnected
            | Input::Unwatched
            | Input::Playing(_)
            | Input::Described(_)
            | Input::GroupJoined(_)
            | Input::Ended => {}
        }
        Ok(())
    }

    fn next_timeout(&self) -> Option<Stamp> {
        if self.phase != Phase::Open {
            return None;
        }
        let gap = match &self.media {
            Media::Unknown => None,
            Media::Ps(_) => self.sequence.deadline(),
            Media::Elementary(demuxer) => demuxer.next_timeout(),
        };
        let over = self.last_media.after_millis(self.request.timeout_ms);
        [gap, Some(over), Some(self.next_count)].into_iter().flatten().min()
    }

    fn reception(&self) -> Option<Reception> {
        let mut received = self.total;
        add(&mut received, self.new);
        Some(Reception {
            key: self.request.key.clone(),
            transport: self.request.transport.name(),
            port: self.port,
            ssrc: self.sources.ssrc(),
            source: self.address,
            state: self.state,
            detail: self.words(),
            tracks: self.tracks.clone(),
            received,
            refusal: self.refusal,
        })
    }

    fn held_bytes(&self) -> usize {
        let media = match &self.media {
            Media::Unknown => 0,
            Media::Ps(ps) => ps.held_bytes(),
            Media::Elementary(demuxer) => demuxer.held_bytes(),
        };
        self.framing.held_bytes() + self.sequence.held_bytes() + media
    }
}

fn deliver(ordered: Ordered<'_>, ps: &mut PsDemuxer, at_end: &mut bool, arrival: &mut Stamp, out: &mut Vec<Demuxed>) {
    match ordered {
        Ordered::Packet(header, payload, came) => {
            // Packets that came early have waited for the one that came late.
            *arrival = (*arrival).max(came);
            if std::mem::replace(at_end, header.marker) {
                ps.frame_begins(*arrival, payload, out);
            }
            ps.push(*arrival, payload, out);
            if header.marker {
                ps.frame_end(*arrival, out);
            }
        }
        Ordered::Lost => ps.lost(out),
    }
}

fn add(sum: &mut Received, new: Received) {
    sum.received += new.received;
    sum.lost += new.lost;
    sum.reordered += new.reordered;
    sum.useless += new.useless;
}
