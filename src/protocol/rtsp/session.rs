//! The server's session: the life of a connection.
//!
//! RFC 2326 §10.12 (interleaved data), §12.37 (timeout), appendix A.2 (server states). This file holds inputs, timeouts, and requests
//! that wait for an answer of the shard: until it comes, what the client sends behind them is kept unread. The methods are in
//! `requests.rs`, `publish.rs` and `play.rs`.
//!
//! Limits: [`HELD_BYTES_MAX`], [`STRAY_FRAMES_MAX`]; `limits.handshake_ms_max` until the first request, `rtsp.session_timeout_ms`
//! (and a tenth more for who has a session) without a sign of life, `limits.idle_ms_max` of silence from a publisher on TCP. A viewer
//! on TCP that plays shows that it lives by taking what it is sent, which the shard watches; one by UDP or multicast has to say something. A
//! connection that waits owns a few
//! hundred bytes.

use std::net::SocketAddr;
use std::sync::Arc;

use super::error::RtspError;
use super::message::{Item, Reader, Request, Response, Status};
use super::play::{Offered, Player};
use super::publish::Publisher;
use super::requests::Answer;
use super::transport::{Offer, PortPair};
use super::tunnel::{self, Half};
use crate::config::Config;
use crate::media::{Stamp, TrackKind};
use crate::protocol::SessionContext;
use crate::protocol::common::auth::{Authority, Right};
use crate::session::{Input, Output, PairId, Refusal, Session, SessionError, StreamKey};

/// Bytes that are kept behind a request whose answer waits for the shard.
pub const HELD_BYTES_MAX: usize = 64 * 1024;
/// How long a player may take to end its session after the goodbye in RTCP. Some pause and tear down over what they think is still open.
const GOODBYE_MS: u64 = 5_000;
/// Interleaved frames on channels that were never set up.
pub const STRAY_FRAMES_MAX: u32 = 1_000;

pub struct RtspSession {
    pub(super) config: Arc<Config>,
    pub(super) authority: Arc<Authority>,
    pub(super) peer: SocketAddr,
    pub(super) encrypted: bool,
    pub(super) seed: u64,
    reader: Reader,
    waiting: Option<Box<Waiting>>,
    held: Held,
    closed: bool,
    /// The id of the RTSP session, from the first `SETUP` on.
    pub(super) id: Option<String>,
    /// How many ids there have been.
    pub(super) ids: u64,
    pub(super) role: Role,
    /// What the stream that was last described offers.
    pub(super) offered: Option<Offered>,
    /// What the client may do is asked once.
    pub(super) granted: Option<(StreamKey, Right)>,
    pub(super) next_pair: PairId,
    pub(super) agent_told: bool,
    pub(super) refusal_told: bool,
    /// A request has come.
    greeted: bool,
    stray_frames: u32,
    tunnel: Option<Half>,
    /// The stream is over; closed then at the latest.
    pub(super) close_at: Option<Stamp>,
    opened: Stamp,
    last_bytes: Stamp,
    /// When a request, RTCP or the like came last.
    pub(super) last_sign: Stamp,
}

/// What the connection is used for.
pub(super) enum Role {
    None,
    Publish(Box<Publisher>),
    Play(Box<Player>),
}

/// A request that the shard has to answer first.
pub(super) struct Waiting {
    cseq: String,
    pub wait: Wait,
}

/// What is waited for.
pub(super) enum Wait {
    /// `ANNOUNCE`; the publisher if it is granted.
    Publishing(Box<Publisher>),
    /// `DESCRIBE`, or a `SETUP` that comes without one. The request, to go on with.
    Described { key: StreamKey, request: Request },
    /// `SETUP` with datagrams.
    Pair { pair: PairId, offer: Offer, client: PortPair, whose: Whose },
    /// `SETUP` with multicast.
    Group { offer: Offer, kind: TrackKind },
    /// `PLAY`; the answer as far as it is known, and the URL of the stream.
    Playing { response: Response, base: String },
}

/// Whose track a pair of ports is for.
#[derive(Clone, Copy)]
pub(super) enum Whose {
    /// A section of the publisher's description.
    Section(usize),
    Track(TrackKind),
}

/// Bytes behind a request that waits.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    /// Those before it have been read.
    at: usize,
}

impl Held {
    fn push(&mut self, bytes: &[u8]) -> Result<(), RtspError> {
        if self.bytes.len() - self.at + bytes.len() > HELD_BYTES_MAX {
            return Err(RtspError::HeldTooMuch);
        }
        if self.at > 0 {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

impl RtspSession {
    pub fn new(context: &SessionContext, now: Stamp) -> Self {
        RtspSession {
            config: Arc::clone(&context.config),
            authority: Arc::clone(&context.authority),
            peer: context.peer,
            encrypted: context.encrypted,
            seed: context.seed,
            reader: Reader::default(),
            waiting: None,
            held: Held::default(),
            closed: false,
            id: None,
            ids: 0,
            role: Role::None,
            offered: None,
            granted: None,
            next_pair: 0,
            agent_told: false,
            refusal_told: false,
            greeted: false,
            stray_frames: 0,
            tunnel: None,
            close_at: None,
            opened: now,
            last_bytes: now,
            last_sign: now,
        }
    }

    fn input(&mut self, now: Stamp, input: Input<'_>, out: &mut Vec<Output>) -> Result<(), RtspError> {
        match input {
            Input::Bytes(bytes) => {
                self.last_bytes = now;
                if matches!(self.tunnel, Some(Half::Post { .. })) {
                    return self.hand_on(bytes, out);
                }
                if self.waiting.is_some() {
                    return self.held.push(bytes);
                }
                let rest = self.read(now, bytes, out)?;
                return self.held.push(rest);
            }
            Input::Timeout => return self.timeout(now, out),
            Input::Datagram { pair, rtcp, from, bytes } => self.datagram(now, pair, rtcp, from, bytes, out),
            Input::Ended => self.ended(now),
            Input::Closing(_) => self.closing(out),
            // It opens no port and has a connection.
            Input::PortOpened(_) | Input::Connected(_) | Input::Disconnected | Input::Unwatched | Input::Expect(_) => {}
            // It fetches nothing.
            Input::Fetched(_) | Input::Sent => {}
            Input::Publishing
            | Input::GroupJoined(_)
            | Input::Playing(_)
            | Input::Described(_)
            | Input::PairOpened { .. }
            | Input::Refused(_) => {
                return self.answered(now, input, out);
            }
        }
        Ok(())
    }

    /// Reads up to the end, or to a request that waits; returns what is left.
    fn read<'a>(&mut self, now: Stamp, mut bytes: &'a [u8], out: &mut Vec<Output>) -> Result<&'a [u8], RtspError> {
        // Frames borrow from the reader while the session takes them.
        let mut reader = std::mem::take(&mut self.reader);
        while self.waiting.is_none() && !self.closed {
            let Some(item) = reader.next(&mut bytes)? else { break };
            match item {
                Item::Frame { channel, payload } => self.frame(now, channel, payload, out)?,
                Item::Request(request) => {
                    self.greeted = true;
                    self.last_sign = now;
                    self.request(now, &request, out);
                }
                Item::Http(request) => {
                    self.greeted = true;
                    self.last_sign = now;
                    self.begin_tunnel(&request, out)?;
                    if let Some(Half::Post { .. }) = self.tunnel {
                        self.hand_on(bytes, out)?;
                        bytes = &[];
                        break;
                    }
                }
                Item::Response => self.last_sign = now,
            }
        }
        self.reader = reader;
        Ok(if self.closed { &[] } else { bytes })
    }

    /// A request in HTTP: one half of a tunnel, or nothing that is served here.
    fn begin_tunnel(&mut self, request: &Request, out: &mut Vec<Output>) -> Result<(), RtspError> {
        if self.tunnel.is_some() || !matches!(self.role, Role::None) {
            return Err(RtspError::BadTunnel);
        }
        let half = tunnel::half(request).ok_or(RtspError::NotTunnel)?;
        if let Half::Get { name } = &half {
            out.push(Output::OpenTunnel(name.clone()));
            out.push(Output::Send(tunnel::ANSWER.into()));
        }
        self.tunnel = Some(half);
        Ok(())
    }

    /// What the client says goes to the session at the other half of the tunnel.
    fn hand_on(&mut self, text: &[u8], out: &mut Vec<Output>) -> Result<(), RtspError> {
        let Some(Half::Post { name, decoder, pieces }) = &mut self.tunnel else { return Ok(()) };
        let (bytes, is_base64) = decoder.decode(text);
        if !bytes.is_empty() {
            *pieces += 1;
            out.push(Output::Tunnel { name: name.clone(), bytes });
        }
        if is_base64 { Ok(()) } else { Err(RtspError::BadTunnel) }
    }

    fn frame(&mut self, now: Stamp, channel: u8, payload: &[u8], out: &mut Vec<Output>) -> Result<(), RtspError> {
        let known = match &mut self.role {
            Role::Publish(publisher) => publisher.frame(now, channel, payload, out),
            Role::Play(player) => player.has_channel(channel),
            Role::None => false,
        };
        if known {
            self.last_sign = now;
            return Ok(());
        }
        self.stray_frames += 1;
        if self.stray_frames > STRAY_FRAMES_MAX { Err(RtspError::StrayFrames) } else { Ok(()) }
    }

    fn datagram(&mut self, now: Stamp, pair: PairId, rtcp: bool, from: SocketAddr, bytes: &[u8], out: &mut Vec<Output>) {
        let from_peer = from.ip().to_canonical() == self.peer.ip().to_canonical();
        let known = match &mut self.role {
            Role::Publish(publisher) => publisher.datagram(now, pair, rtcp, from_peer.then_some(from), bytes, out),
            Role::Play(player) => from_peer && player.datagram(now, pair, rtcp, from, bytes, out),
            Role::None => false,
        };
        if known {
            self.last_sign = now;
        }
    }

    /// The shard has answered a request that waits.
    fn answered(&mut self, now: Stamp, input: Input<'_>, out: &mut Vec<Output>) -> Result<(), RtspError> {
        let Some(waiting) = self.waiting.take() else {
            return match (input, &self.tunnel) {
                // The session has ended at the other half, the client's last words are late.
                (Input::Refused(_), Some(Half::Post { pieces: 2.., .. })) => {
                    self.close(out);
                    Ok(())
                }
                // There is no other half, or its name is taken.
                (Input::Refused(_), Some(_)) => Err(RtspError::BadTunnel),
                _ => Ok(()),
            };
        };
        let Waiting { cseq, wait } = *waiting;
        let answer = match (input, wait) {
            (Input::Publishing, Wait::Publishing(mut publisher)) => {
                publisher.granted(out);
                self.role = Role::Publish(publisher);
                Ok(Answer::Reply(Response::ok()))
            }
            (Input::Described(tracks), Wait::Described { key, request }) => self.described(now, key, tracks, &request, out),
            (Input::PairOpened { pair: opened, port }, Wait::Pair { pair, offer, client, whose }) if opened == pair => {
                self.pair_opened(pair, port, &offer, client, whose)
            }
            (Input::GroupJoined(group), Wait::Group { offer, kind }) => Ok(self.group_joined(group, &offer, kind)),
            (Input::Playing(start), Wait::Playing { response, base }) => {
                Ok(Answer::Reply(self.playing(start, response, &base, out)))
            }
            (Input::Refused(refusal), wait) => Err(refused(refusal, &wait)),
            // An answer to something else.
            (_, wait) => {
                self.waiting = Some(Box::new(Waiting { cseq, wait }));
                return Ok(());
            }
        };
        self.last_sign = now;
        self.carry_out(cseq, answer, out);
        self.read_held(now, out)
    }

    fn read_held(&mut self, now: Stamp, out: &mut Vec<Output>) -> Result<(), RtspError> {
        let held = std::mem::take(&mut self.held);
        let left = self.read(now, &held.bytes[held.at..], out)?.len();
        if left > 0 {
            self.held = Held { at: held.bytes.len() - left, bytes: held.bytes };
        }
        Ok(())
    }

    /// Sends the answer to a request, or waits for the shard.
    pub(super) fn carry_out(&mut self, cseq: String, answer: Result<Answer, Response>, out: &mut Vec<Output>) {
        match answer {
            Ok(Answer::Reply(response)) | Err(response) => {
                self.send(&response, Some(&cseq), out);
                if response.is_last() {
                    self.close(out);
                }
            }
            Ok(Answer::Wait(wait)) => self.waiting = Some(Box::new(Waiting { cseq, wait })),
        }
    }

    pub(super) fn send(&self, response: &Response, cseq: Option<&str>, out: &mut Vec<Output>) {
        let timeout_s = (self.config.rtsp.session_timeout_ms / 1000).max(1);
        let session = self.id.as_ref().map(|id| format!("{id};timeout={timeout_s}"));
        out.push(Output::Send(response.write(cseq, session.as_deref())));
    }

    /// The stream that was played is over. The goodbye in RTCP has been sent as media; the player ends its session in its own way.
    fn ended(&mut self, now: Stamp) {
        if matches!(self.role, Role::Play(_)) {
            self.close_at = Some(now.after_millis(GOODBYE_MS));
        }
    }

    /// The shard closes the connection after this. RTSP 1.0 has no word for that but an answer that is due.
    fn closing(&mut self, out: &mut Vec<Output>) {
        if let Some(waiting) = self.waiting.take() {
            self.send(&Status::ServiceUnavailable.into(), Some(&waiting.cseq), out);
        }
        self.count_received(out);
        self.closed = true;
    }

    fn close(&mut self, out: &mut Vec<Output>) {
        self.closed = true;
        self.held = Held::default();
        out.push(Output::Close);
    }

    fn count_received(&mut self, out: &mut Vec<Output>) {
        if let Role::Publish(publisher) = &mut self.role {
            publisher.count_received(out);
        }
    }

    fn timeout(&mut self, now: Stamp, out: &mut Vec<Output>) -> Result<(), RtspError> {
        if self.close_at.is_some_and(|close_at| close_at <= now) {
            self.close(out);
            return Ok(());
        }
        if let Some((deadline, error)) = self.patience()
            && now >= deadline
        {
            return Err(error);
        }
        if let Role::Publish(publisher) = &mut self.role {
            publisher.timeout(now, out);
        }
        Ok(())
    }

    /// When the connection is given up, and why.
    fn patience(&self) -> Option<(Stamp, RtspError)> {
        let timeout_ms = self.config.rtsp.session_timeout_ms;
        let handshake_ms = self.config.limits.handshake_ms_max;
        let session_ms = timeout_ms.saturating_add(timeout_ms / 10);
        let session = Some((self.last_sign.after_millis(session_ms), RtspError::SessionTimeout(session_ms)));
        match &self.role {
            // It is the shard's turn.
            _ if self.waiting.is_some() || self.close_at.is_some() => None,
            _ if matches!(self.tunnel, Some(Half::Post { .. })) => {
                Some((self.last_bytes.after_millis(session_ms), RtspError::SessionTimeout(session_ms)))
            }
            Role::None if !self.greeted => {
                Some((self.opened.after_millis(handshake_ms), RtspError::HandshakeTimeout(handshake_ms)))
            }
            Role::None => Some((self.last_sign.after_millis(timeout_ms), RtspError::SessionTimeout(timeout_ms))),
            Role::Publish(publisher) if publisher.is_recording() => {
                let idle_ms = self.config.limits.idle_ms_max;
                Some(match publisher.last_datagram() {
                    Some(last) => (last.after_millis(timeout_ms), RtspError::PublisherTimeout(timeout_ms)),
                    None => (self.last_bytes.after_millis(idle_ms), RtspError::PublisherTimeout(idle_ms)),
                })
            }
            Role::Play(player) if player.takes_stream() => None,
            Role::Publish(_) | Role::Play(_) => session,
        }
    }

    /// Says to the peer what is wrong, where RTSP has words for that.
    fn last_word(&mut self, error: RtspError, out: &mut Vec<Output>) {
        self.count_received(out);
        if error == RtspError::NotTunnel {
            out.push(Output::Send("HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".into()));
        } else if let Some(status) = error.status() {
            self.send(&status.into(), None, out);
        }
        self.closed = true;
        self.held = Held::default();
    }
}

/// The answer to a request that the shard has refused.
fn refused(refusal: Refusal, wait: &Wait) -> Response {
    let status = match (refusal, wait) {
        (Refusal::NameInUse, _) => Status::Forbidden,
        (Refusal::NotFound | Refusal::NotCarried, _) => Status::NotFound,
        (Refusal::LimitReached, Wait::Pair { .. } | Wait::Group { .. }) => Status::NotEnoughBandwidth,
        // Each is a line of the log, so a connection has one.
        (Refusal::LimitReached, Wait::Playing { .. }) => return Response::from(Status::ServiceUnavailable).last(),
        (Refusal::LimitReached | Refusal::ShuttingDown, _) => Status::ServiceUnavailable,
    };
    status.into()
}

impl Session for RtspSession {
    fn handle(&mut self, now: Stamp, input: Input<'_>, out: &mut Vec<Output>) -> Result<(), SessionError> {
        if self.closed {
            return Ok(());
        }
        self.input(now, input, out).map_err(|error| {
            self.last_word(error, out);
            error.into()
        })
    }

    fn next_timeout(&self) -> Option<Stamp> {
        if self.closed {
            return None;
        }
        let patience = self.patience().map(|(deadline, _)| deadline);
        let publisher = match &self.role {
            Role::Publish(publisher) => publisher.next_timeout(),
            Role::None | Role::Play(_) => None,
        };
        patience.into_iter().chain(publisher).chain(self.close_at).min()
    }

    fn held_bytes(&self) -> usize {
        let media = match &self.role {
            Role::Publish(publisher) => publisher.held_bytes(),
            Role::None | Role::Play(_) => 0,
        };
        self.reader.held_bytes() + self.held.bytes.len() + media
    }
}
