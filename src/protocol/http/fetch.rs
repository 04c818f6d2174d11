//! HLS over HTTP: requests for playlists and segments → what is fetched of the stream, and the answer → a response.
//!
//! RFC 9110 §8.8 (validators), §13 (304), §14 (one range; of several none is taken), RFC 9111 §5.2 (`Cache-Control`); draft-pantos-hls-rfc8216bis
//! §6.2.5 (`_HLS_msn`, `_HLS_part`, `_HLS_skip`) and its statuses: 400 for what can never come, 503 for what has not come in time.
//!
//! Where playing needs a password, the multivariant playlist names a session that is signed, and the media playlist gives each segment a
//! token of the stream: both hold instead of credentials for `hls.session_ms`, a session beyond that as long as its viewer goes on asking (the
//! stream's owner knows), a token up to twice as long. The token is the same for all viewers, so a cache serves its addresses to them all
//! (`public`); what was granted to credentials is `private`. Without passwords a session only tells viewers apart.
//!
//! A response owns no memory but its head. Limits: one request at a time, [`HELD_BYTES_MAX`] of those that follow it, [`SENDING_MS_MAX`].

use std::sync::Arc;

use bytes::Bytes;

use super::error::HttpError;
use super::request::{BODY_BYTES_MAX, HEAD_BYTES_MAX, Method, Request};
use super::response::{Responder, Status};
use super::{HttpSession, State};
use crate::media::Stamp;
use crate::protocol::common::auth::{Authority, Right};
use crate::protocol::common::ranges::{Wanted, lists, parse_range};
use crate::protocol::common::segment_names::{self, number};
use crate::protocol::common::url::{Query, percent_decode};
use crate::session::fetch::{Body, Content, Lifetime, Place, Resource};
use crate::session::{FetchRequest, Fetched, Output, StreamKey};

/// What may come behind a request that is not answered yet: another request with its body.
pub const HELD_BYTES_MAX: usize = HEAD_BYTES_MAX + BODY_BYTES_MAX as usize;
/// How long a response may take to be sent.
pub const SENDING_MS_MAX: u64 = 120_000;
/// How long a segment may be kept by a cache: longer than anybody can want it.
const SEGMENT_SECONDS: u64 = 3_600;

/// What is said to somebody who has said nothing of himself.
pub const NOBODY: &str = "name and password are wanted";

/// What of a request matters for its response.
pub struct Pending {
    pub(super) keep_alive: bool,
    pub(super) body_bytes: u64,
    pub(super) head_only: bool,
    /// Only this client may get the answer.
    is_private: bool,
    if_none_match: Option<String>,
    range: Option<String>,
    if_range: Option<String>,
}

/// The stream and the piece of it that a path names; `None`: another kind of path. `Err`: no stream can have that name.
pub fn target(path: &str) -> Option<Result<(StreamKey, Resource), String>> {
    let (_, name) = path.rsplit_once('/')?;
    // Players do not encode these names, but proxies may.
    let resource = segment_names::parse(&percent_decode(name)?)?;
    let stream = path.strip_suffix(name)?.strip_prefix('/')?.strip_suffix('/')?;
    let Some(stream) = percent_decode(stream) else {
        return Some(Err("the path has a broken percent-encoding".to_owned()));
    };
    match StreamKey::parse(&stream) {
        Ok(key) => Some(Ok((key, resource))),
        // `/live/seg-1.ts` may be a stream of that name.
        Err(_) if !stream.contains('/') && resource.playlist().is_none() => None,
        Err(error) => Some(Err(error.to_string())),
    }
}

/// Adds what the query says of a playlist. `Err`: what is wrong with it.
fn with_query(resource: Resource, query: &Query) -> Result<Resource, &'static str> {
    let Resource::Playlist { packing, .. } = resource else { return Ok(resource) };
    let numeral = |name: &str| match query.get(name) {
        None => Ok(None),
        Some(text) => number(text).map(Some).ok_or("_HLS_msn and _HLS_part are numbers"),
    };
    let (msn, part) = (numeral("_HLS_msn")?, numeral("_HLS_part")?);
    let wanted = match (msn, part) {
        (None, Some(_)) => return Err("_HLS_part needs _HLS_msn"),
        (None, None) => None,
        (Some(msn), part) => Some(Place { msn, part: part.map(|part| u32::try_from(part).unwrap_or(u32::MAX)) }),
    };
    let skip = matches!(query.get("_HLS_skip"), Some("YES" | "v2"));
    Ok(Resource::Playlist { packing, wanted, skip })
}

impl HttpSession {
    pub(super) fn fetch(&mut self, now: Stamp, request: &Request, key: StreamKey, resource: Resource, out: &mut Vec<Output>) {
        let resource = match with_query(resource, &request.query) {
            Ok(resource) => resource,
            Err(why) => return self.refuse(now, request, Status::BadRequest, why, out),
        };
        let is_private = !self.authority.is_open(Right::Play, &key);
        let session_ms = self.config.hls.session_ms;
        let session = request.query.get("session").and_then(|session| Session::parse(session, &self.authority, &key, now));
        let is_of_address = match resource {
            Resource::Init { .. } | Resource::Segment { .. } | Resource::Part { .. } => {
                request.query.get("token").is_some_and(|token| self.authority.is_segment_token(now, &key, session_ms, token))
            }
            Resource::Multivariant(_) | Resource::Playlist { .. } => false,
        };
        let age_ms = session.as_ref().and_then(|session| session.age_ms);
        let is_granted = !is_private || is_of_address || age_ms.is_some_and(|age_ms| age_ms <= session_ms);
        let names_nobody = request.authorization.is_none() && request.query.get("user").is_none();
        let is_media_playlist = matches!(resource, Resource::Playlist { .. });
        // The owner knows whether that viewer has been here all the time.
        let is_expired = !is_granted && age_ms.is_some() && names_nobody && is_media_playlist;
        if !is_granted && !is_expired && !self.may_play(now, request, &key, out) {
            return;
        }
        let viewer = match (&session, resource) {
            (Some(session), _) => session.viewer,
            (None, Resource::Multivariant(_)) => self.viewers.next(),
            // Who gives no session is told apart by the connection.
            (None, _) => self.viewer,
        };
        let session = if is_private { self.authority.session_token(&key, viewer, now) } else { format!("{viewer:016x}") };
        let suffix: Arc<str> =
            if is_private { format!("?token={}", self.authority.segment_token(now, &key, session_ms)).into() } else { "".into() };
        self.state = State::Fetching(Box::new(Pending {
            keep_alive: request.keep_alive,
            body_bytes: request.body_bytes,
            head_only: request.method == Method::Head,
            // Whoever has the address may have what a cache keeps of it.
            is_private: is_private && !is_of_address,
            if_none_match: request.if_none_match.clone(),
            range: request.range.clone(),
            if_range: request.if_range.clone(),
        }));
        let gzip = request.gzip;
        out.push(Output::Fetch(Box::new(FetchRequest {
            key,
            resource,
            viewer,
            session: session.into(),
            is_expired,
            suffix,
            gzip,
        })));
    }

    /// Bytes behind a request that is not answered yet.
    pub(super) fn hold(&mut self, bytes: &[u8]) -> Result<(), HttpError> {
        if self.head.len() + bytes.len() > HELD_BYTES_MAX {
            return Err(HttpError::ExcessBytes);
        }
        self.head.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn fetched(&mut self, now: Stamp, fetched: Fetched, out: &mut Vec<Output>) -> Result<(), HttpError> {
        if !matches!(self.state, State::Fetching(_)) {
            return Ok(());
        }
        let State::Fetching(pending) = std::mem::replace(&mut self.state, State::Closed) else { return Ok(()) };
        let responder =
            Responder { allow_origin: &self.config.http.allow_origin, close: !pending.keep_alive, head_only: pending.head_only };
        let (status, message) = match fetched {
            Fetched::Body(body) => {
                let (head, pieces) = respond(responder, &pending, &body);
                out.push(Output::Send(head));
                return match pieces {
                    Some(pieces) => {
                        out.push(Output::Body(pieces));
                        self.state = State::Sending(pending, now.after_millis(SENDING_MS_MAX));
                        Ok(())
                    }
                    None => self.answered(now, pending.keep_alive, pending.body_bytes, out),
                };
            }
            Fetched::Expired => {
                let challenge = self.authority.basic_challenge();
                let status = if challenge.is_some() { Status::Unauthorized } else { Status::Forbidden };
                out.push(Output::Send(responder.error_with(status, NOBODY, challenge.as_deref())));
                return self.answered(now, pending.keep_alive, pending.body_bytes, out);
            }
            Fetched::NotFound => (Status::NotFound, "no such stream, or not that of it"),
            Fetched::TooFar => (Status::BadRequest, "that is too far behind the end of the playlist"),
            Fetched::TimedOut => (Status::ServiceUnavailable, "it did not come in time"),
            Fetched::Busy => (Status::ServiceUnavailable, "too many wait for this stream"),
            Fetched::ShuttingDown => (Status::ServiceUnavailable, "the server is shutting down"),
        };
        out.push(Output::Send(responder.error(status, message)));
        self.answered(now, pending.keep_alive, pending.body_bytes, out)
    }

    /// All of a response has been sent.
    pub(super) fn sent(&mut self, now: Stamp, out: &mut Vec<Output>) -> Result<(), HttpError> {
        if !matches!(self.state, State::Sending(..)) {
            return Ok(());
        }
        let State::Sending(pending, _) = std::mem::replace(&mut self.state, State::Closed) else { return Ok(()) };
        self.answered(now, pending.keep_alive, pending.body_bytes, out)
    }
}

/// The head of a response, and its body if it has one.
fn respond(responder: Responder<'_>, pending: &Pending, body: &Body) -> (Bytes, Option<Arc<[Bytes]>>) {
    let tag = body.tag.map(|tag| format!("\"{tag:016x}\""));
    let is_known = tag.as_deref().is_some_and(|tag| pending.if_none_match.as_deref().is_some_and(|list| lists(list, tag)));
    let mut fields: Vec<(&str, String)> = vec![("Cache-Control", cache_control(body.lifetime, pending.is_private))];
    fields.extend(tag.clone().map(|tag| ("ETag", tag)));
    if body.content == Content::Playlist {
        fields.push(("Vary", "Accept-Encoding".to_owned()));
    }
    if is_known {
        return (responder.with_fields(Status::NotModified, &fields), None);
    }
    fields.push(("Content-Type", content_type(body.content).to_owned()));
    if body.gzip {
        fields.push(("Content-Encoding", "gzip".to_owned()));
    }
    let mut status = Status::Ok;
    let mut pieces = body.parts.clone();
    let mut len = body.len;
    if body.content != Content::Playlist {
        fields.push(("Accept-Ranges", "bytes".to_owned()));
        let is_current = pending.if_range.as_deref().is_none_or(|of| Some(of.trim()) == tag.as_deref());
        let range = pending.range.as_deref().filter(|_| is_current && !pending.head_only);
        match range.map_or(Wanted::All, |range| parse_range(range, len as u64)) {
            Wanted::All => {}
            Wanted::Some(start, end) => {
                status = Status::PartialContent;
                fields.push(("Content-Range", format!("bytes {start}-{}/{len}", end - 1)));
                // Both are within what is in memory.
                let (start, end) = (start as usize, end as usize);
                pieces = slice(&body.parts, start, end);
                len = end - start;
            }
            Wanted::Nothing => {
                let fields = [("Content-Range", format!("bytes */{len}")), ("Content-Length", "0".to_owned())];
                return (responder.with_fields(Status::RangeNotSatisfiable, &fields), None);
            }
        }
    }
    fields.push(("Content-Length", len.to_string()));
    let head = responder.with_fields(status, &fields);
    (head, (!pending.head_only && len > 0).then_some(pieces))
}

fn slice(pieces: &[Bytes], start: usize, end: usize) -> Arc<[Bytes]> {
    let mut at = 0;
    let mut sliced = Vec::new();
    for piece in pieces {
        let (from, to) = (start.max(at), end.min(at + piece.len()));
        if from < to {
            sliced.push(piece.slice(from - at..to - at));
        }
        at += piece.len();
    }
    sliced.into()
}

fn cache_control(lifetime: Lifetime, is_private: bool) -> String {
    let who = if is_private { "private" } else { "public" };
    match lifetime {
        Lifetime::None => "no-store".to_owned(),
        Lifetime::Checked => "no-cache".to_owned(),
        Lifetime::Seconds(seconds) => format!("{who}, max-age={seconds}"),
        Lifetime::Immutable => format!("{who}, max-age={SEGMENT_SECONDS}, immutable"),
    }
}

fn content_type(content: Content) -> &'static str {
    match content {
        Content::Playlist => "application/vnd.apple.mpegurl",
        Content::Init => "video/mp4",
        Content::Fmp4 => "video/iso.segment",
        Content::Ts => "video/mp2t",
    }
}

/// A viewer as the address of its playlist names it.
struct Session {
    viewer: u64,
    /// `None`: anybody may have made it up.
    age_ms: Option<u64>,
}

impl Session {
    fn parse(text: &str, authority: &Authority, key: &StreamKey, now: Stamp) -> Option<Session> {
        let viewer = text.get(..16).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        let viewer = u64::from_str_radix(viewer, 16).ok()?;
        Some(Session { viewer, age_ms: authority.session_token_age_ms(now, key, viewer, text) })
    }
}

#[cfg(test)]
mod tests;
