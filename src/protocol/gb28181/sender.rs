//! A stream → RTP to one receiver, as a program stream or as G.711 A-law: to an upper platform, to a loudspeaker, or wherever the API says.
//!
//! GB/T 28181 Annex C. Over UDP from a port of its own; over TCP behind lengths (RFC 4571), on a connection that it was started with, or that
//! somebody makes to its port. The session waits for the stream as a viewer does, longer if it is asked to, says which codecs have no place
//! in the payload, and is over when the stream or the connection is. Not here: how packets are made (`format::rtp::mux`), RTCP.

use std::fmt::Write;
use std::net::SocketAddr;

use crate::format::Format;
use crate::format::ps::write::carried;
use crate::format::rtp::mux::g711a;
use crate::format::rtp::{RtpSource, SourceContent};
use crate::media::{Codec, Stamp, TrackKind, Tracks};
use crate::session::{
    CloseReason, Delivery, Input, Output, PairId, PairTarget, PlayRequest, Refusal, Sending, SendingState, Session, SessionError,
    Start, StreamKey,
};

/// The label under which it is counted and shown until it sends.
pub const NAME: &str = "rtp";
/// The payload types that receivers expect where nothing else is agreed.
pub const PS_PAYLOAD_TYPE: u8 = 96;
pub const G711A_PAYLOAD_TYPE: u8 = 8;

const PAIR: PairId = 0;
/// How often it is asked what the stream consists of.
const LOOK_MS: u64 = 1_000;

/// How packets reach the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp {
        to: SocketAddr,
    },
    /// On the connection of the session, which was made to there.
    TcpActive {
        to: SocketAddr,
    },
    /// On the first connection that is made to a port of ours.
    TcpPassive,
}

impl Transport {
    pub const fn name(self) -> &'static str {
        match self {
            Transport::Udp { .. } => "udp",
            Transport::TcpActive { .. } => "tcp_active",
            Transport::TcpPassive => "tcp_passive",
        }
    }
}

/// What is wanted of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub key: StreamKey,
    pub transport: Transport,
    pub content: SourceContent,
    pub ssrc: u32,
    pub payload_type: u8,
    /// How long a connection, and then the stream, is waited for.
    pub wait_ms: u64,
}

impl Request {
    const fn payload(&self) -> &'static str {
        match self.content {
            SourceContent::Ps => "ps",
            SourceContent::G711A => "g711a",
        }
    }

    const fn protocol(&self) -> &'static str {
        match self.transport {
            Transport::Udp { .. } => "rtp-udp",
            Transport::TcpActive { .. } | Transport::TcpPassive => "rtp-tcp",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    New,
    /// Waits for the port, then for somebody to connect.
    Opening,
    /// Waits for the stream.
    Asking,
    Sending,
    Over,
}

pub struct Sender {
    request: Request,
    phase: Phase,
    port: Option<u16>,
    to: Option<SocketAddr>,
    tracks: Vec<&'static str>,
    left_out: Vec<&'static str>,
    refusal: Option<Refusal>,
    /// Why it is over.
    over: String,
    wait_until: Stamp,
    next_look: Stamp,
}

impl Sender {
    pub fn boxed(request: Request) -> Box<dyn Session> {
        Box::new(Sender::new(request))
    }

    pub fn new(request: Request) -> Self {
        let to = match request.transport {
            Transport::Udp { to } | Transport::TcpActive { to } => Some(to),
            Transport::TcpPassive => None,
        };
        Sender {
            phase: Phase::New,
            port: None,
            to,
            tracks: Vec::new(),
            left_out: Vec::new(),
            refusal: None,
            over: String::new(),
            wait_until: Stamp::ZERO,
            next_look: Stamp::ZERO,
            request,
        }
    }

    fn begin(&mut self, now: Stamp, out: &mut Vec<Output>) {
        self.wait_until = now.after_millis(self.request.wait_ms);
        self.phase = Phase::Opening;
        match self.request.transport {
            Transport::Udp { .. } => out.push(Output::OpenPair(PAIR)),
            Transport::TcpPassive => out.push(Output::AwaitPeer),
            Transport::TcpActive { .. } => self.ask(now, out),
        }
    }

    fn opened(&mut self, now: Stamp, port: Option<u16>, out: &mut Vec<Output>) {
        self.port = port;
        if port.is_none() {
            self.refusal = Some(Refusal::LimitReached);
            self.end("no port is left", out);
        } else if self.request.transport != Transport::TcpPassive {
            self.ask(now, out);
        }
    }

    fn ask(&mut self, now: Stamp, out: &mut Vec<Output>) {
        (self.phase, self.wait_until) = (Phase::Asking, now.after_millis(self.request.wait_ms));
        out.push(Output::Describe(self.request.key.clone()));
    }

    fn described(&mut self, tracks: &Tracks, out: &mut Vec<Output>) {
        let before = std::mem::take(&mut self.left_out);
        (self.tracks, self.left_out) = match self.request.content {
            SourceContent::Ps => carried(tracks),
            SourceContent::G711A => {
                let sound = tracks.first(TrackKind::Audio).map(|track| track.codec.name());
                let is_sent = g711a(tracks).is_some();
                (sound.into_iter().filter(|_| is_sent).collect(), sound.into_iter().filter(|_| !is_sent).collect())
            }
        };
        if !self.left_out.is_empty() && self.left_out != before {
            let (key, names) = (&self.request.key, self.left_out.join(", "));
            let message = format!("{key}: sent without {names}, which has no place in {}", self.request.payload());
            out.push(Output::Note { reason: None, message });
        }
        if self.phase != Phase::Asking {
            return;
        }
        if self.tracks.is_empty() {
            let why = match self.request.content {
                SourceContent::Ps if self.left_out.is_empty() => "the stream has neither picture nor sound".to_owned(),
                SourceContent::Ps => {
                    format!("a program stream carries nothing of the stream, which is {}", self.left_out.join(", "))
                }
                SourceContent::G711A => {
                    let sound = self.left_out.first().unwrap_or(&"absent");
                    format!("{} is wanted, and the stream's sound is {sound}", Codec::G711A.name())
                }
            };
            return self.end(&why, out);
        }
        self.play(out);
    }

    fn play(&self, out: &mut Vec<Output>) {
        let Request { key, transport, content, ssrc, payload_type, .. } = self.request.clone();
        let (framed, delivery) = match transport {
            Transport::Udp { to } => {
                let target = Some(PairTarget { pair: PAIR, rtp: to, rtcp: to });
                let (video, audio) = if content == SourceContent::Ps { (target, None) } else { (None, target) };
                (false, Delivery::Datagrams { video, audio })
            }
            Transport::TcpActive { .. } | Transport::TcpPassive => (true, Delivery::Connection),
        };
        let format = Format::Single(RtpSource { content, ssrc, payload_type, framed });
        out.push(Output::Play(PlayRequest { key, format, start: Start::Gop, delivery, protocol: self.request.protocol() }));
    }

    fn refused(&mut self, now: Stamp, refusal: Refusal, out: &mut Vec<Output>) {
        // Once it sends, a question alone was refused.
        if self.phase != Phase::Asking {
            return;
        }
        match refusal {
            Refusal::NotFound if now < self.wait_until => out.push(Output::Describe(self.request.key.clone())),
            Refusal::NotFound => self.not_there(out),
            Refusal::NotCarried => {
                self.refusal = Some(refusal);
                self.end("the stream has nothing that can be sent so", out);
            }
            Refusal::NameInUse | Refusal::LimitReached => {
                self.refusal = Some(refusal);
                self.end("a limit of the server is reached", out);
            }
            Refusal::ShuttingDown => {
                self.refusal = Some(refusal);
                self.end("the server is shutting down", out);
            }
        }
    }

    fn not_there(&mut self, out: &mut Vec<Output>) {
        self.end(&format!("there was no such stream for {} ms", self.request.wait_ms), out);
    }

    fn timeout(&mut self, now: Stamp, out: &mut Vec<Output>) {
        match self.phase {
            Phase::New => self.begin(now, out),
            Phase::Opening if now >= self.wait_until => {
                self.end(&format!("nobody has connected for {} ms", self.request.wait_ms), out);
            }
            Phase::Asking if now >= self.wait_until => self.not_there(out),
            Phase::Sending if now >= self.next_look => {
                self.next_look = now.after_millis(LOOK_MS);
                out.push(Output::Describe(self.request.key.clone()));
            }
            Phase::Opening | Phase::Asking | Phase::Sending | Phase::Over => {}
        }
    }

    fn end(&mut self, why: &str, out: &mut Vec<Output>) {
        if self.phase == Phase::Over {
            return;
        }
        self.phase = Phase::Over;
        why.clone_into(&mut self.over);
        out.push(Output::Note { reason: None, message: format!("{}: sending is over: {why}", self.request.key) });
        out.push(Output::Close);
    }

    /// The state in words.
    fn words(&self) -> String {
        let mut words = match (self.phase, self.to) {
            (Phase::Over, _) => self.over.clone(),
            (Phase::New | Phase::Opening, _) => "waiting for a connection".to_owned(),
            (Phase::Asking, _) => "waiting for the stream".to_owned(),
            (Phase::Sending, Some(to)) => format!("sending {} to {to}", self.tracks.join(", ")),
            (Phase::Sending, None) => format!("sending {}", self.tracks.join(", ")),
        };
        if !self.left_out.is_empty() && self.phase != Phase::Over {
            // Writing into a string cannot fail.
            let _ = write!(words, "; left out: {}", self.left_out.join(", "));
        }
        words
    }
}

impl Session for Sender {
    fn handle(&mut self, now: Stamp, input: Input<'_>, out: &mut Vec<Output>) -> Result<(), SessionError> {
        match input {
            Input::Timeout => self.timeout(now, out),
            Input::PairOpened { port, .. } | Input::PortOpened(port) => self.opened(now, port, out),
            Input::Connected(peer) if self.phase == Phase::Opening => {
                self.to = Some(peer);
                self.ask(now, out);
            }
            Input::Described(tracks) => self.described(tracks, out),
            Input::Playing(_) if self.phase == Phase::Asking => {
                (self.phase, self.next_look) = (Phase::Sending, now.after_millis(LOOK_MS));
                out.push(Output::Note { reason: None, message: format!("{}: {}", self.request.key, self.words()) });
            }
            Input::Refused(refusal) => self.refused(now, refusal, out),
            Input::Disconnected => self.end("the receiver has closed the connection", out),
            Input::Ended => self.end("the stream has ended", out),
            Input::Closing(reason) => self.end(
                match reason {
                    CloseReason::Kicked => "closed by the operator",
                    CloseReason::TakenOver => "taken over",
                    CloseReason::Stalled => "the receiver takes nothing",
                    CloseReason::ShuttingDown => "the server is shutting down",
                },
                out,
            ),
            // Reports of the receiver.
            Input::Bytes(_)
            | Input::Datagram { .. }
            | Input::Publishing
            | Input::Connected(_)
            | Input::Playing(_)
            | Input::Unwatched
            | Input::Fetched(_)
            | Input::Sent
            | Input::Expect(_)
            | Input::GroupJoined(_) => {}
        }
        Ok(())
    }

    fn next_timeout(&self) -> Option<Stamp> {
        match self.phase {
            Phase::New => Some(Stamp::ZERO),
            Phase::Opening | Phase::Asking => Some(self.wait_until),
            Phase::Sending => Some(self.next_look),
            Phase::Over => None,
        }
    }

    fn sending(&self) -> Option<Sending> {
        Some(Sending {
            key: self.request.key.clone(),
            transport: self.request.transport.name(),
            payload: self.request.payload(),
            port: self.port,
            to: self.to,
            ssrc: self.request.ssrc,
            state: match self.phase {
                Phase::New | Phase::Opening | Phase::Asking => SendingState::Waiting,
                Phase::Sending => SendingState::Sending,
                Phase::Over => SendingState::Ended,
            },
            detail: self.words(),
            tracks: self.tracks.clone(),
            left_out: self.left_out.clone(),
            bytes: 0,
            refusal: self.refusal,
        })
    }

    fn held_bytes(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests;
