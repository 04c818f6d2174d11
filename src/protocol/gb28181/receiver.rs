//! RTP that somebody has agreed on elsewhere → a published stream.
//!
//! Over UDP, or over TCP behind lengths (RFC 4571), whoever connects. The session claims the stream's name, opens its port unless it was
//! given a connection, and is over when nothing has come, or nobody has watched, for the time that was asked for.
//!
//! Whose packets are taken: [`Sources`]. What they may be: [`Payloads`]. Over UDP the address is settled by the first packet and followed
//! with the guard of [`Source`]. Limits: those of `format::rtp` and `format::ps`. Not here: what was agreed, and with whom.

mod health;
mod payload;
mod reports;
mod request;
mod source;

use std::fmt::Write;
use std::net::SocketAddr;

use self::health::Health;
use self::payload::{Payloads, add};
use self::reports::Reports;
pub use self::request::{Request, TIMEOUT_MS_DEFAULT, Transport};
use self::source::{Sources, Verdict};
use crate::config::Config;
use crate::format::rtp::demux::{Demuxed, Place, Received};
use crate::format::rtp::framing::Framing;
use crate::format::rtp::{RtpHeader, rtcp};
use crate::media::{Codec, MediaEvent, Stamp, Track, Tracks};
use crate::protocol::common::source::{Sender, Source};
use crate::session::{
    CloseReason, ExpectedSource, Fault, Input, Output, PairId, Reception, ReceptionEnd, ReceptionState, Refusal, Session,
    SessionError,
};

/// The label under which it is counted and shown.
pub const NAME: &str = "rtp";

const PAIR: PairId = 0;
/// How often the shard is told what has arrived.
const COUNT_MS: u64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    New,
    /// Waits for the name, then for the port.
    Asking,
    Open,
    Over,
}

pub struct Receiver {
    request: Request,
    phase: Phase,
    state: ReceptionState,
    end: Option<ReceptionEnd>,
    /// Why it is over.
    over: String,
    refusal: Option<Refusal>,
    port: Option<u16>,
    sources: Sources,
    source: Source,
    address: Option<SocketAddr>,
    /// A payload type that is none of those known; the last one seen.
    odd_type: Option<u8>,
    now: Stamp,
    last_media: Stamp,
    framing: Framing,
    payloads: Payloads,
    health: Health,
    /// `None`: nobody is told.
    reports: Option<Reports>,
    tracks: Tracks,
    /// Names of codecs that came and are not carried.
    left_out: Vec<&'static str>,
    new: Received,
    total: Received,
    /// Of packets that were taken.
    bytes: u64,
    next_count: Stamp,
    demuxed: Vec<Demuxed>,
}

impl Receiver {
    pub fn boxed(request: Request, config: &Config) -> Box<dyn Session> {
        Box::new(Receiver::new(request, config))
    }

    pub fn new(request: Request, config: &Config) -> Self {
        let is_udp = request.transport == Transport::Udp;
        let sources = Sources::new(request.source);
        Receiver {
            phase: Phase::New,
            state: ReceptionState::Waiting,
            end: None,
            over: String::new(),
            refusal: None,
            port: None,
            source: Source::unknown(),
            address: None,
            odd_type: None,
            now: Stamp::ZERO,
            last_media: Stamp::ZERO,
            framing: Framing::new(sources.certain()),
            payloads: Payloads::new(is_udp.then_some(config.rtp.reorder_ms), config.rtp.on_loss),
            health: Health::default(),
            reports: (is_udp && request.receiver_reports).then(Reports::default),
            tracks: Tracks::default(),
            left_out: Vec::new(),
            new: Received::default(),
            total: Received::default(),
            bytes: 0,
            next_count: Stamp::ZERO,
            demuxed: Vec::new(),
            sources,
            request,
        }
    }

    fn opened(&mut self, now: Stamp, port: Option<u16>, out: &mut Vec<Output>) {
        self.port = port;
        if port.is_none() {
            out.push(Output::Unpublish);
            let why =
                if self.request.shared_port { "no shared port, or its SSRC is another one's there" } else { "no port is left" };
            return self.refused(Refusal::LimitReached, why, out);
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
        self.end(ReceptionEnd::Failed, why);
        out.push(Output::Close);
    }

    fn end(&mut self, end: ReceptionEnd, why: &str) {
        (self.phase, self.state, self.end) = (Phase::Over, ReceptionState::Ended, Some(end));
        why.clone_into(&mut self.over);
    }

    fn datagram(&mut self, now: Stamp, from: SocketAddr, bytes: &[u8], out: &mut Vec<Output>) {
        if rtcp::is_rtcp(bytes) {
            return self.reported(now, from, bytes);
        }
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

    /// Only the machine that media comes from speaks of it.
    fn reported(&mut self, now: Stamp, from: SocketAddr, compound: &[u8]) {
        if let Some(reports) = &mut self.reports
            && self.address.is_some_and(|source| source.ip().to_canonical() == from.ip().to_canonical())
        {
            reports.heard(now, from, compound);
        }
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
            if rtcp::is_rtcp(packet) {
                return;
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
        self.payloads.reset_sequence();
        self.lost(out);
        self.peer(address, out);
    }

    /// `None`: no packet of media.
    fn header(&mut self, packet: &[u8]) -> Option<RtpHeader> {
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
        if self.payloads.is_unknown() && !self.payloads.recognise(header.payload_type, payload) {
            self.new.useless += 1;
            self.odd_type = Some(header.payload_type);
            // Whoever sends nothing of use keeps nobody else out.
            self.sources.forget();
            self.source = Source::unknown();
            return;
        }
        self.last_media = now;
        self.bytes += packet.len() as u64;
        self.health.packet(now);
        if let Some(reports) = &mut self.reports {
            reports.packet(now, header, self.payloads.clock_rate());
        }
        if self.state == ReceptionState::Waiting {
            self.state = ReceptionState::MediaSeen;
            // Another source than the agreed one is worth a count.
            let reason = self.sources.is_other().then_some("other_ssrc");
            self.note(reason, self.words(), out);
        }
        if self.payloads.packet(now, header, packet, &mut self.demuxed) == Place::Anew {
            self.restart(out);
            self.payloads.recognise(header.payload_type, payload);
            self.payloads.packet(now, header, packet, &mut self.demuxed);
        }
        self.give_out(out);
    }

    /// Gives out what waits behind gaps whose time has come.
    fn give_up_gaps(&mut self, now: Stamp, out: &mut Vec<Output>) {
        self.payloads.give_up_gaps(now, &mut self.demuxed);
        self.give_out(out);
    }

    fn lost(&mut self, out: &mut Vec<Output>) {
        self.payloads.lost(&mut self.demuxed);
        self.give_out(out);
    }

    /// Another source, or its numbers begin anew.
    fn restart(&mut self, out: &mut Vec<Output>) {
        self.payloads.restart(&mut self.demuxed);
        self.give_out(out);
        self.health.restart();
    }

    fn give_out(&mut self, out: &mut Vec<Output>) {
        let mut demuxed = std::mem::take(&mut self.demuxed);
        for item in demuxed.drain(..) {
            match item {
                Demuxed::Event(MediaEvent::Tracks(tracks)) => {
                    // Behind a change of source sound is known from before, but not yet what it is like now.
                    let has_sound = self.health.has_sound();
                    let is_promise = |track: &Track| track.codec == Codec::Aac && track.config.is_empty();
                    let event = MediaEvent::Tracks(tracks.only(|track| !has_sound || !is_promise(track)));
                    self.event(&event, out);
                    out.push(Output::Media(event));
                }
                Demuxed::Event(event) => {
                    self.event(&event, out);
                    out.push(Output::Media(event));
                }
                Demuxed::Discarded(discard) => out.push(Output::Discarded(discard)),
            }
        }
        self.demuxed = demuxed;
        add(&mut self.new, self.payloads.take_counts());
        if let Some(name) = self.payloads.program_stream().and_then(|ps| ps.take_left_out()) {
            self.note(Some("unknown_codec"), format!("left out: {name}"), out);
            if !self.left_out.contains(&name) {
                self.left_out.push(name);
            }
        }
    }

    fn event(&mut self, event: &MediaEvent, out: &mut Vec<Output>) {
        match event {
            MediaEvent::Tracks(tracks) => {
                self.tracks = tracks.clone();
                self.state = ReceptionState::TracksFound;
            }
            MediaEvent::Frame(frame) => {
                self.state = ReceptionState::Playing;
                if let Some((reason, words)) = self.health.frame(self.now, frame, &self.tracks) {
                    self.note(reason, words, out);
                }
            }
            MediaEvent::End => {}
        }
    }

    fn note(&self, reason: Option<&'static str>, words: String, out: &mut Vec<Output>) {
        out.push(Output::Note { reason, message: format!("{}: {words}", self.request.key) });
    }

    fn count(&mut self, out: &mut Vec<Output>) {
        let new = std::mem::take(&mut self.new);
        if new != Received::default() {
            add(&mut self.total, new);
            out.push(Output::Received(new));
        }
    }

    fn timeout(&mut self, now: Stamp, out: &mut Vec<Output>) -> Result<(), SessionError> {
        self.give_up_gaps(now, out);
        self.report(now, out);
        if now >= self.next_count {
            self.next_count = now.after_millis(COUNT_MS);
            self.count(out);
            if let Some((reason, words)) = self.health.look(now, self.payloads.has_video(), self.payloads.map()) {
                self.note(reason, words, out);
            }
        }
        if now.millis_since(self.last_media) < self.request.timeout_ms {
            return self.refuse_codecs(now);
        }
        self.count(out);
        let Request { key, timeout_ms, .. } = &self.request;
        let was = if self.state == ReceptionState::Waiting { self.words() } else { format!("no media for {timeout_ms} ms") };
        let message = format!("{key}: {was}, over after {timeout_ms} ms");
        self.end(ReceptionEnd::Failed, &format!("{was}, over after {timeout_ms} ms"));
        Err(SessionError { fault: Fault::TimedOut, reason: "no_media", message })
    }

    /// Whoever sends nothing that is carried is told so by name, and does not stay for ever.
    fn refuse_codecs(&mut self, now: Stamp) -> Result<(), SessionError> {
        let is_late = self.health.media_age_ms(now).is_some_and(|age_ms| age_ms >= self.request.timeout_ms);
        if self.state != ReceptionState::MediaSeen || self.left_out.is_empty() || !is_late {
            return Ok(());
        }
        let words = format!("nothing came that is carried, but {}", self.left_out.join(", "));
        let message = format!("{}: {words}", self.request.key);
        self.end(ReceptionEnd::Failed, &words);
        Err(SessionError { fault: Fault::Unsupported, reason: "unknown_codec", message })
    }

    fn report(&mut self, now: Stamp, out: &mut Vec<Output>) {
        if let (Some(reports), Some(source)) = (&mut self.reports, self.address)
            && let Some((to, bytes)) = reports.take_due(now, source)
        {
            out.push(Output::SendDatagram { pair: PAIR, rtcp: true, to, bytes });
        }
    }

    /// Gives out what there is, and is over.
    fn finish(&mut self, end: ReceptionEnd, why: &str, out: &mut Vec<Output>) {
        self.give_up_gaps(Stamp::MAX, out);
        self.count(out);
        self.end(end, why);
    }

    fn unwatched(&mut self, out: &mut Vec<Output>) {
        let words = format!("nobody watched for {} ms", self.request.idle_ms.unwrap_or(0));
        self.finish(ReceptionEnd::AsWished, &words, out);
        out.extend([Output::Unpublish, Output::Close]);
    }

    /// Who was connected is not any more. To a port he may come again.
    fn disconnected(&mut self, out: &mut Vec<Output>) {
        if matches!(self.request.transport, Transport::TcpActive { .. }) {
            self.finish(ReceptionEnd::SenderLeft, "the sender has closed the connection", out);
            out.push(Output::Close);
        }
    }

    fn closing(&mut self, reason: CloseReason, out: &mut Vec<Output>) {
        if self.phase == Phase::Over {
            return;
        }
        let (end, why) = match reason {
            CloseReason::Kicked => (ReceptionEnd::AsWished, "closed by the operator"),
            CloseReason::TakenOver => (ReceptionEnd::Failed, "another publisher has taken the name"),
            CloseReason::Stalled => (ReceptionEnd::Failed, "stalled"),
            CloseReason::ShuttingDown => (ReceptionEnd::AsWished, "the server is shutting down"),
        };
        self.finish(end, why, out);
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
            ReceptionState::TracksFound => format!("tracks found: {}", self.track_names().join(", ")),
            ReceptionState::Playing => format!("playing {}", self.track_names().join(", ")),
            ReceptionState::Ended => return self.over.clone(),
        };
        // Writing into a string cannot fail.
        if let (Some(address), Some(ssrc), true) = (self.address, self.sources.ssrc(), self.state != ReceptionState::Waiting) {
            let _ = write!(words, ", from {address} (SSRC {ssrc})");
        }
        let odd = self.odd_type.map(|odd| format!("payload type {odd} is not known: ignored"));
        let health = self.health.remarks(self.now, self.last_media, self.payloads.has_video(), self.payloads.map());
        let left_out = (!self.left_out.is_empty()).then(|| format!("left out: {}", self.left_out.join(", ")));
        for remark in self.connection_words().into_iter().chain(self.sources.remark()).chain(odd).chain(left_out).chain(health) {
            let _ = write!(words, "; {remark}");
        }
        words
    }

    /// Who connects and sends nothing is another fault than who does not connect.
    fn connection_words(&self) -> Option<String> {
        let Request { transport, shared_port, .. } = &self.request;
        if self.state != ReceptionState::Waiting || *transport != Transport::TcpPassive || *shared_port {
            return None;
        }
        Some(self.address.map_or_else(|| "nobody has connected".to_owned(), |address| format!("{address} has connected")))
    }

    /// Of tracks that were heard: a stream map may name what never comes.
    fn track_names(&self) -> Vec<&'static str> {
        let codecs = self.tracks.iter().map(|track| track.codec);
        codecs.filter(|codec| self.health.has_heard(*codec)).map(Codec::name).collect()
    }
}

impl Session for Receiver {
    fn handle(&mut self, now: Stamp, input: Input<'_>, out: &mut Vec<Output>) -> Result<(), SessionError> {
        self.now = now;
        match input {
            Input::Timeout if self.phase == Phase::New => {
                self.phase = Phase::Asking;
                out.push(Output::Publish(self.request.key.clone()));
            }
            Input::Timeout if self.phase == Phase::Open => return self.timeout(now, out),
            Input::Publishing => match self.request.transport {
                Transport::Udp | Transport::TcpPassive if self.request.shared_port => {
                    let pair = (self.request.transport == Transport::Udp).then_some(PAIR);
                    out.push(Output::OpenShared { pair, source: self.request.source });
                }
                Transport::Udp => out.push(Output::OpenPair(PAIR)),
                Transport::TcpPassive => out.push(Output::OpenPort),
                Transport::TcpActive { to } => {
                    self.address = Some(to);
                    self.open(now, out);
                }
            },
            Input::PairOpened { port, .. } | Input::PortOpened(port) => self.opened(now, port, out),
            Input::Datagram { rtcp: false, from, bytes, .. } if self.phase == Phase::Open => self.datagram(now, from, bytes, out),
            Input::Datagram { rtcp: true, from, bytes, .. } if self.phase == Phase::Open => self.reported(now, from, bytes),
            Input::Bytes(bytes) if self.phase == Phase::Open => self.bytes(now, bytes, out),
            Input::Connected(address) => self.connected(address, out),
            Input::Disconnected if self.phase == Phase::Open => self.disconnected(out),
            Input::Unwatched if self.phase == Phase::Open => self.unwatched(out),
            Input::Expect(expected) => self.expect(expected, out),
            Input::Refused(refusal) => {
                let why = match refusal {
                    Refusal::NameInUse => "the name is in use",
                    Refusal::NotFound | Refusal::NotCarried | Refusal::LimitReached => "a limit of the server is reached",
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
            | Input::Fetched(_)
            | Input::Sent
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
        let gap = self.payloads.deadline();
        let report = self.reports.as_ref().and_then(Reports::deadline);
        let over = self.last_media.after_millis(self.request.timeout_ms);
        [gap, report, Some(over), Some(self.next_count)].into_iter().flatten().min()
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
            end: self.end,
            detail: self.words(),
            tracks: self.track_names(),
            received,
            media_age_ms: self.health.media_age_ms(self.now),
            bytes: self.bytes,
            refusal: self.refusal,
        })
    }

    fn held_bytes(&self) -> usize {
        self.framing.held_bytes() + self.payloads.held_bytes()
    }
}
