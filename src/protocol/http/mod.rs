//! The media HTTP server: requests in, streams out in the containers of [`target`], over plain HTTP/1 or in WebSocket messages.
//!
//! RFC 9110 and 9112 (HTTP/1.1 with persistent and pipelined requests; HTTP/1.0), RFC 6455 (WebSocket).
//!
//! | request | answer |
//! |---|---|
//! | `GET /{app}/{name}.flv` or another container | the stream, ended by closing the connection; with a WebSocket upgrade the same in binary messages |
//! | `GET` and `HEAD` of `/{app}/{name}/index.m3u8` and what it leads to | a piece of the stream, see [`fetch`] |
//! | `HEAD` of a stream | the headers, or the 404 that `GET` would get |
//! | `OPTIONS` | 204 and the CORS headers |
//! | a half of an RTSP tunnel | none: the connection goes on as RTSP, if that is served in the clear |
//! | else | 404, 405 or 400 with `{"error": …}` |
//!
//! Query: `start=live|gop`, and what the container knows; other values count as absent. `Range` is ignored for a live stream, which has none.
//! The head of a stream's response waits for the stream, so that an absent one is a 404 for WebSocket clients as well.
//!
//! Limits: those of [`request`]; `limits.handshake_ms_max` from the accept or the last response to the end of the next request head;
//! [`IGNORED_BYTES_MAX`] from a viewer. A connection owns no buffer but an incomplete request head, and none once it plays.
//!
//! Not here: the media behind the head (each viewer is a cursor into the shared packets), TLS, how streams are cut into segments, files, the REST API.

mod error;
mod fetch;
mod request;
mod response;
mod target;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use self::error::HttpError;
use self::fetch::Pending;
use self::request::{Method, Request, Upgrade};
use self::response::{Responder, Status};
use self::target::{Container, Target};
use super::{Protocol, SessionContext};
use crate::config::Config;
use crate::format::envelope::LAST_CHUNK;
use crate::format::websocket::{ClientFrame, FrameReader, Opcode, close_code, close_frame, control_frame};
use crate::format::{Envelope, Format};
use crate::media::{Stamp, TrackKind, Tracks};
use crate::protocol::common::auth::{Authority, Right, Verdict, is_basic};
use crate::protocol::common::random::SplitMix64;
use crate::session::{CloseReason, Delivery, Input, Output, PlayRequest, Refusal, Session, SessionError, StreamKey};

pub const PROTOCOL: Protocol = Protocol {
    name: "http",
    listen: |config| &config.http.listen,
    tls: None,
    session: |context, now| Box::new(HttpSession::new(context, now)),
};

/// What a plain HTTP viewer may send behind its request: it has nothing to say.
const IGNORED_BYTES_MAX: usize = 64 * 1024;

/// How often a WebSocket viewer is pinged, so that proxies keep the connection of a silent stream.
const PING_MS: u64 = 20_000;

/// Who takes over a connection that is half of a tunnel.
const TUNNEL_PROTOCOL: &str = "rtsp";

/// One connection.
pub struct HttpSession {
    config: Arc<Config>,
    authority: Arc<Authority>,
    address: IpAddr,
    state: State,
    /// The request head so far. Empty between requests.
    head: Vec<u8>,
    /// A response has been sent: from now on silence between requests is no fault.
    answered: bool,
    agent_told: bool,
    refusal_told: bool,
    /// Who fetches on this connection and gives no session, and numbers for those who begin one.
    viewer: u64,
    viewers: SplitMix64,
}

enum State {
    /// Between requests, or inside one.
    Request {
        /// What is left of the last request's body.
        skip_bytes: u64,
        deadline: Stamp,
    },
    /// Asked to play; no answer yet.
    Waiting { head: Bytes, envelope: Envelope, ignored_bytes: usize },
    /// Plays over plain HTTP.
    Playing { chunked: bool, ignored_bytes: usize },
    /// Plays in WebSocket messages.
    WebSocket { frames: FrameReader, ping_at: Stamp },
    /// Has asked by HEAD for a stream; requests that come meanwhile wait in `head`.
    Asking(Box<Asked>),
    /// Has asked for a piece of a stream; requests that come meanwhile wait in `head`.
    Fetching(Box<Pending>),
    /// Sends it, until the stamp at the most.
    Sending(Box<Pending>, Stamp),
    /// The last word is said.
    Closed,
}

/// A HEAD whose stream is waited for.
struct Asked {
    keep_alive: bool,
    body_bytes: u64,
    http_1_1: bool,
    content_type: &'static str,
    format: Format,
}

impl HttpSession {
    pub fn new(context: &SessionContext, now: Stamp) -> Self {
        let deadline = now.after_millis(context.config.limits.handshake_ms_max);
        let mut viewers = SplitMix64::new(context.seed);
        HttpSession {
            config: Arc::clone(&context.config),
            authority: Arc::clone(&context.authority),
            address: context.peer.ip(),
            state: State::Request { skip_bytes: 0, deadline },
            head: Vec::new(),
            answered: false,
            agent_told: false,
            refusal_told: false,
            viewer: viewers.next(),
            viewers,
        }
    }

    fn take_bytes(&mut self, now: Stamp, mut bytes: &[u8], out: &mut Vec<Output>) -> Result<(), HttpError> {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Request { skip_bytes, .. } if *skip_bytes > 0 => {
                    let len = usize::try_from(*skip_bytes).unwrap_or(usize::MAX).min(bytes.len());
                    *skip_bytes -= len as u64;
                    bytes = &bytes[len..];
                }
                State::Request { .. } => bytes = self.read_head(now, bytes, out)?,
                State::Waiting { envelope: Envelope::WebSocket, .. } => return Err(HttpError::EarlyFrames),
                State::Waiting { ignored_bytes, .. } | State::Playing { ignored_bytes, .. } => {
                    *ignored_bytes = ignored_bytes.saturating_add(bytes.len());
                    return if *ignored_bytes > IGNORED_BYTES_MAX { Err(HttpError::ExcessBytes) } else { Ok(()) };
                }
                State::Asking(_) | State::Fetching(_) | State::Sending(..) => return self.hold(bytes),
                State::WebSocket { frames, .. } => match frames.read(&mut bytes)? {
                    Some(ClientFrame::Ping(payload)) => out.push(Output::Send(control_frame(Opcode::Pong, &payload))),
                    Some(ClientFrame::Close(code)) => {
                        out.push(Output::Send(close_frame(code)));
                        self.close(out);
                    }
                    Some(ClientFrame::Pong) | None => {}
                },
                State::Closed => return Ok(()),
            }
        }
        Ok(())
    }

    /// Takes bytes up to the end of a request head and answers the request; returns what stands behind it.
    fn read_head<'a>(&mut self, now: Stamp, bytes: &'a [u8], out: &mut Vec<Output>) -> Result<&'a [u8], HttpError> {
        let before = self.head.len();
        // A head that comes in one piece, as nearly all do, is not copied.
        let parsed = if before == 0 {
            Request::parse(bytes)?
        } else {
            let room = request::HEAD_BYTES_MAX.saturating_sub(before).min(bytes.len());
            self.head.extend_from_slice(&bytes[..room]);
            // Reading again from the start costs a few microseconds per piece at most: the head is bounded.
            Request::parse(&self.head)?
        };
        match parsed {
            Some((request, _)) if request.tunnel && self.config.rtsp.listen.is_empty() => {
                self.refuse_for_good(Status::NotFound, "nothing is here", out);
                Ok(&[])
            }
            Some((request, _)) if request.tunnel => {
                // What the client said so far is for the other protocol, this head included.
                let mut said = std::mem::take(&mut self.head);
                said.truncate(before);
                said.extend_from_slice(bytes);
                self.state = State::Closed;
                out.push(Output::Become { protocol: TUNNEL_PROTOCOL, bytes: said.into() });
                Ok(&[])
            }
            Some((request, len)) => {
                self.head = Vec::new();
                self.answer(now, &request, out);
                // The head was incomplete before these bytes, hence ends inside them.
                Ok(bytes.get(len.saturating_sub(before)..).unwrap_or_default())
            }
            None => {
                if before == 0 {
                    self.head.extend_from_slice(bytes);
                }
                Ok(&[])
            }
        }
    }

    /// What the path of a request names.
    fn target(&self, request: &Request) -> Target {
        match fetch::target(&request.path).filter(|_| self.config.hls.enabled) {
            Some(Ok((key, resource))) => Target::Fetch(key, resource),
            Some(Err(why)) => Target::BadName(why),
            None => Target::of(&request.path),
        }
    }

    fn answer(&mut self, now: Stamp, request: &Request, out: &mut Vec<Output>) {
        if let Some(agent) = request.agent.as_ref().filter(|_| !self.agent_told) {
            self.agent_told = true;
            out.push(Output::Agent(agent.clone()));
        }
        match (request.method, self.target(request)) {
            (Method::Other, _) => self.refuse(now, request, Status::MethodNotAllowed, "this method is not served", out),
            (Method::Options, _) => {
                let response = self.responder(request).options(request.private_network);
                self.respond(now, request, response, out);
            }
            (_, Target::Unknown) => self.refuse(now, request, Status::NotFound, "nothing is here", out),
            (_, Target::BadName(why)) => self.refuse(now, request, Status::BadRequest, &why, out),
            (_, Target::Fetch(key, resource)) => self.fetch(now, request, key, resource, out),
            (_, Target::Stream(_, key)) if !self.may_play(now, request, &key, out) => {}
            (Method::Head, Target::Stream(container, key)) => self.ask(request, container, key, out),
            (Method::Get, Target::Stream(container, key)) => match &request.upgrade {
                Some(Upgrade::WrongVersion) => {
                    self.refuse_for_good(Status::UpgradeRequired, "only WebSocket version 13 is spoken", out);
                }
                Some(Upgrade::Broken) => self.refuse_for_good(Status::BadRequest, "the WebSocket handshake is broken", out),
                Some(Upgrade::WebSocket { accept, subprotocol }) => {
                    let head = self.last_responder().websocket(accept, subprotocol.as_deref());
                    self.play(request, container, key, head, out);
                }
                None => {
                    let head = self.last_responder().stream(container.content_type, request.http_1_1);
                    self.play(request, container, key, head, out);
                }
            },
        }
    }

    /// Asks who it is, by `Authorization: Basic` or by the query; `false`: refused, and said.
    fn may_play(&mut self, now: Stamp, request: &Request, key: &StreamKey, out: &mut Vec<Output>) -> bool {
        let authority = &self.authority;
        let basic = request.authorization.as_deref().filter(|value| is_basic(value));
        let verdict = match basic {
            Some(basic) => authority.check_basic(now, self.address, basic, Right::Play, key),
            None => authority.check_query(now, self.address, &request.query, Right::Play, key),
        };
        // Who has said nothing is only asked; without a way to ask, that is a refusal. A connection that goes on trying is told of once.
        let named = basic.is_some() || request.query.get("user").is_some();
        let is_refused = named || authority.basic_challenge().is_none() || verdict == Verdict::Forbidden;
        if is_refused && !self.refusal_told {
            let note = verdict.note(named, Right::Play, key);
            self.refusal_told = note.is_some();
            out.extend(note);
        }
        let (status, message, challenge) = match verdict {
            Verdict::Granted => return true,
            Verdict::Denied { .. } => match authority.basic_challenge() {
                Some(challenge) if named => (Status::Unauthorized, "the name or the password is wrong", Some(challenge)),
                Some(challenge) => (Status::Unauthorized, fetch::NOBODY, Some(challenge)),
                // A 401 has to offer a way to go on (RFC 9110 §15.5.2), and this server has no other.
                None => (Status::Forbidden, "this stream needs a name, and passwords in clear are not taken (auth.basic)", None),
            },
            Verdict::Forbidden => (Status::Forbidden, "this user may not play this stream", None),
            Verdict::Throttled => (Status::TooManyRequests, "too many wrong passwords", None),
        };
        let response = self.responder(request).error_with(status, message, challenge.as_deref());
        self.respond(now, request, response, out);
        false
    }

    fn play(&mut self, request: &Request, container: &Container, key: StreamKey, head: Bytes, out: &mut Vec<Output>) {
        let (envelope, protocol) = match (&request.upgrade, request.http_1_1) {
            (Some(_), _) => (Envelope::WebSocket, container.websocket_label),
            (None, true) => (Envelope::HttpChunk, container.http_label),
            (None, false) => (Envelope::None, container.http_label),
        };
        self.state = State::Waiting { head, envelope, ignored_bytes: 0 };
        out.push(Output::Play(PlayRequest {
            key,
            format: (container.format)(&self.config, request, envelope),
            start: request.query.start(),
            delivery: Delivery::Connection,
            protocol,
        }));
    }

    fn ask(&mut self, request: &Request, container: &Container, key: StreamKey, out: &mut Vec<Output>) {
        self.state = State::Asking(Box::new(Asked {
            keep_alive: request.keep_alive,
            body_bytes: request.body_bytes,
            http_1_1: request.http_1_1,
            content_type: container.content_type,
            format: (container.format)(&self.config, request, Envelope::None),
        }));
        out.push(Output::Describe(key));
    }

    /// The answer to HEAD.
    fn described(&mut self, now: Stamp, tracks: Result<&Tracks, Refusal>, out: &mut Vec<Output>) -> Result<(), HttpError> {
        if !matches!(self.state, State::Asking(_)) {
            return Ok(());
        }
        let State::Asking(asked) = std::mem::replace(&mut self.state, State::Closed) else { return Ok(()) };
        let has_media = |tracks: &&Tracks| {
            let carried = asked.format.carried(tracks);
            carried.has(TrackKind::Video) || carried.has(TrackKind::Audio)
        };
        let refusal = tracks.and_then(|tracks| Some(tracks).filter(has_media).ok_or(Refusal::NotCarried)).err();
        let responder = Responder { allow_origin: &self.config.http.allow_origin, close: !asked.keep_alive, head_only: true };
        out.push(Output::Send(match refusal.map(words_of) {
            Some((status, message)) => responder.error(status, message),
            None => responder.stream(asked.content_type, asked.http_1_1),
        }));
        self.answered(now, asked.keep_alive, asked.body_bytes, out)
    }

    /// All of a response has been sent. The next request, if there may be one, is what has come meanwhile.
    fn answered(&mut self, now: Stamp, keep_alive: bool, body_bytes: u64, out: &mut Vec<Output>) -> Result<(), HttpError> {
        self.answered = true;
        let held = std::mem::take(&mut self.head);
        if !keep_alive {
            self.close(out);
            return Ok(());
        }
        let deadline = now.after_millis(self.config.limits.handshake_ms_max);
        self.state = State::Request { skip_bytes: body_bytes, deadline };
        self.take_bytes(now, &held, out)
    }

    fn refuse(&mut self, now: Stamp, request: &Request, status: Status, message: &str, out: &mut Vec<Output>) {
        let response = self.responder(request).error(status, message);
        self.respond(now, request, response, out);
    }

    /// Sends `response` and waits for the next request, if there may be one.
    fn respond(&mut self, now: Stamp, request: &Request, response: Bytes, out: &mut Vec<Output>) {
        out.push(Output::Send(response));
        self.answered = true;
        if request.keep_alive {
            let deadline = now.after_millis(self.config.limits.handshake_ms_max);
            self.state = State::Request { skip_bytes: request.body_bytes, deadline };
        } else {
            self.close(out);
        }
    }

    /// The last response of the connection.
    fn refuse_for_good(&mut self, status: Status, message: &str, out: &mut Vec<Output>) {
        out.push(Output::Send(self.last_responder().error(status, message)));
        self.close(out);
    }

    fn responder(&self, request: &Request) -> Responder<'_> {
        Responder {
            allow_origin: &self.config.http.allow_origin,
            close: !request.keep_alive,
            head_only: request.method == Method::Head,
        }
    }

    fn last_responder(&self) -> Responder<'_> {
        Responder { allow_origin: &self.config.http.allow_origin, close: true, head_only: false }
    }

    fn close(&mut self, out: &mut Vec<Output>) {
        self.state = State::Closed;
        out.push(Output::Close);
    }

    fn playing(&mut self, now: Stamp, out: &mut Vec<Output>) {
        let State::Waiting { head, envelope, ignored_bytes } = &mut self.state else { return };
        out.push(Output::Send(std::mem::take(head)));
        self.state = match *envelope {
            Envelope::WebSocket => State::WebSocket { frames: FrameReader::new(), ping_at: now.after_millis(PING_MS) },
            envelope => State::Playing { chunked: envelope == Envelope::HttpChunk, ignored_bytes: *ignored_bytes },
        };
    }

    fn refused(&mut self, now: Stamp, refusal: Refusal, out: &mut Vec<Output>) -> Result<(), HttpError> {
        match self.state {
            State::Waiting { .. } => {
                let (status, message) = words_of(refusal);
                self.refuse_for_good(status, message, out);
                Ok(())
            }
            State::Asking(_) => self.described(now, Err(refusal), out),
            _ => Ok(()),
        }
    }

    fn ended(&mut self, now: Stamp, out: &mut Vec<Output>) -> Result<(), HttpError> {
        match self.state {
            State::Waiting { .. } | State::Asking(_) => return self.refused(now, Refusal::NotFound, out),
            State::Playing { chunked, .. } => {
                // Without it the peer could not tell the end of the stream from a broken connection.
                if chunked {
                    out.push(Output::Send(Bytes::from_static(LAST_CHUNK)));
                }
                self.close(out);
            }
            State::WebSocket { .. } => {
                out.push(Output::Send(close_frame(Some(close_code::NORMAL))));
                self.close(out);
            }
            State::Request { .. } | State::Fetching(_) | State::Sending(..) | State::Closed => {}
        }
        Ok(())
    }

    /// The shard closes the connection after this.
    fn closing(&mut self, reason: CloseReason, out: &mut Vec<Output>) {
        let (code, message) = match reason {
            CloseReason::ShuttingDown => (close_code::GOING_AWAY, "the server is shutting down"),
            CloseReason::Kicked => (close_code::POLICY_VIOLATION, "the operator closed the connection"),
            CloseReason::Stalled => (close_code::POLICY_VIOLATION, "the viewer takes nothing"),
            CloseReason::TakenOver => (close_code::GOING_AWAY, "the stream has a new publisher"),
        };
        match self.state {
            State::Waiting { .. } | State::Asking(_) | State::Fetching(_) => {
                out.push(Output::Send(self.last_responder().error(Status::ServiceUnavailable, message)));
            }
            State::WebSocket { .. } => out.push(Output::Send(close_frame(Some(code)))),
            State::Request { .. } | State::Playing { .. } | State::Sending(..) | State::Closed => {}
        }
        self.state = State::Closed;
    }

    fn timeout(&mut self, now: Stamp, out: &mut Vec<Output>) -> Result<(), HttpError> {
        match &mut self.state {
            State::Request { skip_bytes, deadline } if now >= *deadline => {
                if !self.answered || *skip_bytes > 0 || !self.head.is_empty() {
                    return Err(HttpError::RequestTimeout);
                }
                self.close(out);
            }
            State::Sending(_, deadline) if now >= *deadline => return Err(HttpError::ResponseTimeout),
            State::WebSocket { ping_at, .. } if now >= *ping_at => {
                *ping_at = now.after_millis(PING_MS);
                out.push(Output::Send(control_frame(Opcode::Ping, &[])));
            }
            _ => {}
        }
        Ok(())
    }

    /// Says to the peer what is wrong, where its protocol has words for that.
    fn last_word(&mut self, error: HttpError, out: &mut Vec<Output>) {
        match (error, &self.state) {
            (HttpError::WebSocket(error), _) => out.push(Output::Send(close_frame(Some(error.close_code())))),
            // Who has not begun a request would take a response for the answer to its next one.
            (HttpError::RequestTimeout, _) if self.head.is_empty() => {}
            (error, State::Request { .. }) => {
                if let Some(status) = error.status() {
                    out.push(Output::Send(self.last_responder().error(status, &error.to_string())));
                }
            }
            _ => {}
        }
        self.state = State::Closed;
        self.head = Vec::new();
    }
}

impl Session for HttpSession {
    fn handle(&mut self, now: Stamp, input: Input<'_>, out: &mut Vec<Output>) -> Result<(), SessionError> {
        let result = match input {
            Input::Bytes(bytes) => self.take_bytes(now, bytes, out),
            // Never asked for.
            Input::Datagram { .. } | Input::PairOpened { .. } | Input::GroupJoined(_) => Ok(()),
            // It has opened no port.
            Input::PortOpened(_) | Input::Connected(_) | Input::Disconnected | Input::Unwatched | Input::Expect(_) => Ok(()),
            Input::Timeout => self.timeout(now, out),
            Input::Fetched(fetched) => self.fetched(now, fetched, out),
            Input::Sent => self.sent(now, out),
            Input::Playing(_) => {
                self.playing(now, out);
                Ok(())
            }
            Input::Described(tracks) => self.described(now, Ok(tracks), out),
            Input::Refused(refusal) => self.refused(now, refusal, out),
            Input::Ended => self.ended(now, out),
            Input::Closing(reason) => {
                self.closing(reason, out);
                Ok(())
            }
            // This protocol does not publish.
            Input::Publishing => Ok(()),
        };
        result.map_err(|error| {
            self.last_word(error, out);
            error.into()
        })
    }

    fn next_timeout(&self) -> Option<Stamp> {
        match &self.state {
            State::Request { deadline, .. } => Some(*deadline),
            State::WebSocket { ping_at, .. } => Some(*ping_at),
            State::Sending(_, deadline) => Some(*deadline),
            // The shard limits waiting (`viewer.wait_ms`) and stalls (`viewer.stall_ms_max`).
            State::Waiting { .. } | State::Playing { .. } | State::Asking(_) | State::Fetching(_) | State::Closed => None,
        }
    }

    fn held_bytes(&self) -> usize {
        self.head.len()
    }
}

/// Why a stream cannot be had, in a status and in words.
fn words_of(refusal: Refusal) -> (Status, &'static str) {
    match refusal {
        Refusal::NotFound => (Status::NotFound, "no such stream"),
        Refusal::NotCarried => (Status::NotFound, "the stream has nothing that can be had in this form"),
        Refusal::LimitReached => (Status::ServiceUnavailable, "a limit of the server is reached"),
        Refusal::NameInUse => (Status::ServiceUnavailable, "the stream cannot be played now"),
        Refusal::ShuttingDown => (Status::ServiceUnavailable, "the server is shutting down"),
    }
}

#[cfg(test)]
mod tests;
