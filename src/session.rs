//! The contract between a connection and everything else.
//!
//! A [`Session`] is a state machine without socket, clock, thread, lock or await. Bytes and the time go in; every consequence is
//! appended to `out`, in order. The shard carries the outputs out and answers those that ask something (`Publish`, `Play`) with a
//! later input. A session may be moved to another shard between two inputs, hence `Send`.

pub mod fetch;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;

use crate::format::Format;
use crate::format::rtp::RtpStart;
use crate::format::rtp::demux::Received;
use crate::media::{Discard, MediaEvent, Stamp, Tracks};

pub use fetch::{FetchRequest, Fetched};

/// The longest stream name that is accepted, in bytes.
pub const STREAM_KEY_BYTES_MAX: usize = 256;

/// `app/name`: the name under which a stream is published and played, the same for every protocol. Cloning shares the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey(Arc<str>);

impl StreamKey {
    /// Accepts two or more segments separated by single slashes: printable, without `..`, `\`, `?`, `#`, `%` and control characters.
    pub fn parse(text: &str) -> Result<Self, StreamKeyError> {
        if text.len() > STREAM_KEY_BYTES_MAX {
            return Err(StreamKeyError::TooLong);
        }
        let mut segments = 0;
        for segment in text.split('/') {
            if segment.is_empty() || segment == "." || segment == ".." {
                return Err(StreamKeyError::BadSegment);
            }
            if segment.chars().any(|c| c.is_control() || matches!(c, '\\' | '?' | '#' | '%')) {
                return Err(StreamKeyError::BadCharacter);
            }
            segments += 1;
        }
        if segments < 2 {
            return Err(StreamKeyError::NoApp);
        }
        Ok(StreamKey(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Everything before the last slash.
    pub fn app(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(app, _)| app)
    }

    /// The last segment.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, name)| name)
    }
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamKeyError {
    #[error("a stream name may have {STREAM_KEY_BYTES_MAX} bytes at most")]
    TooLong,
    #[error("a stream name has an empty, '.' or '..' segment")]
    BadSegment,
    #[error("a stream name has a character that is not allowed")]
    BadCharacter,
    #[error("a stream name needs an app and a name: app/name")]
    NoApp,
}

/// What a session is told.
#[derive(Debug)]
pub enum Input<'a> {
    /// The next bytes from the peer, in order, in pieces of any size. Valid during the call only: copy what must stay.
    Bytes(&'a [u8]),
    /// [`Session::next_timeout`] has passed. May come early or late; check `now`.
    Timeout,
    /// Answers [`Output::Publish`]: events may be sent from now on.
    Publishing,
    /// Answers [`Output::Play`]: the stream is there; media is sent behind whatever this call sends. `Some` for RTP formats, if it is
    /// known where the viewer begins.
    Playing(Option<RtpStart>),
    /// Answers [`Output::Describe`].
    Described(&'a Tracks),
    /// A datagram has come to a port pair that this session has opened.
    Datagram { pair: PairId, rtcp: bool, from: SocketAddr, bytes: &'a [u8] },
    /// Answers [`Output::OpenPair`]: the port for RTP; RTCP has the next one. `None`: no ports are left.
    PairOpened { pair: PairId, port: Option<u16> },
    /// Answers [`Output::JoinGroup`]: the stream is sent there.
    GroupJoined(Group),
    /// Answers [`Output::OpenPort`] and [`Output::AwaitPeer`]. `None`: no port is left.
    PortOpened(Option<u16>),
    /// Somebody has connected to the port of the session: the bytes that follow are from there.
    Connected(SocketAddr),
    /// That connection is over. Told also to a session that the operator has started, of its own connection, before it is dropped.
    Disconnected,
    /// Answers [`Output::AskUnwatched`]: nobody has watched its stream for that long. Told once.
    Unwatched,
    /// Whose packets are to be taken has become known, or is another from now on.
    Expect(ExpectedSource),
    /// Answers [`Output::Fetch`].
    Fetched(Fetched),
    /// After [`Output::Body`]: everything that was to be sent has gone.
    Sent,
    /// Answers [`Output::Publish`], [`Output::Play`], [`Output::Describe`], [`Output::JoinGroup`] or one of the outputs of a tunnel.
    Refused(Refusal),
    /// The stream that was played has ended; everything of it that will be sent has been sent.
    Ended,
    /// The server is about to close the connection: say goodbye if the protocol can. Closed after this call, once flushed.
    Closing(CloseReason),
}

/// Why a wish was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No such stream appeared within `wait_ms`.
    NotFound,
    /// The stream is there, and has nothing that the wished format carries.
    NotCarried,
    /// Another publisher holds the name.
    NameInUse,
    /// A limit of the server is reached.
    LimitReached,
    /// The server is shutting down.
    ShuttingDown,
}

/// Why the server closes a connection that did nothing wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The operator asked for it.
    Kicked,
    /// A newer publisher took the name.
    TakenOver,
    /// The peer has taken nothing for `stall_ms_max`.
    Stalled,
    /// The server is shutting down.
    ShuttingDown,
}

/// Where a viewer begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// At the newest keyframe that is kept: a picture at once.
    #[default]
    Gop,
    /// At the next keyframe: nothing old.
    Live,
}

/// A session's own number for a pair of UDP ports (RTP and RTCP).
pub type PairId = u8;

/// Where one track of a viewer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairTarget {
    pub pair: PairId,
    pub rtp: SocketAddr,
    pub rtcp: SocketAddr,
}

/// A multicast group to which one stream is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    pub address: IpAddr,
    pub ttl: u8,
    /// Ports for RTP; RTCP has the next one of each.
    pub video_port: u16,
    pub audio_port: u16,
}

/// How media reaches a viewer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// On the connection, between its own bytes.
    #[default]
    Connection,
    /// As datagrams from the session's port pairs; `None`: the track is not wanted.
    Datagrams { video: Option<PairTarget>, audio: Option<PairTarget> },
}

#[derive(Clone, Debug, PartialEq)]
pub struct PlayRequest {
    pub key: StreamKey,
    pub format: Format,
    pub start: Start,
    pub delivery: Delivery,
    /// The name under which this viewer is counted: `rtmp`, `http-flv`, …
    pub protocol: &'static str,
}

/// What a session wants done, in order.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Bytes for the peer. They overtake media that was not yet sent, but never cut into a packet.
    Send(Bytes),
    /// As [`Output::Send`], for memory that the stream shares with others: it does not count as held by this connection. Answered by
    /// [`Input::Sent`]; until then the session sends nothing more.
    Body(Arc<[Bytes]>),
    /// Asks for a piece of a stream that is cut into segments, waiting for it as a viewer does. One at a time.
    Fetch(Box<FetchRequest>),
    /// Asks to publish. At most one publication per session at a time.
    Publish(StreamKey),
    /// The next event of the stream that this session publishes; ignored unless the shard has answered `Publishing`.
    Media(MediaEvent),
    /// The publisher says that it is done: the stream ends at once, without grace.
    Unpublish,
    /// Asks what the stream consists of; waits for it as a viewer does.
    Describe(StreamKey),
    /// Asks for a pair of neighbouring UDP ports on this shard, the lower one even.
    OpenPair(PairId),
    /// Gives the ports back.
    ClosePair(PairId),
    /// Asks for a TCP port on this shard, for one connection at a time. Of a session without a connection of its own; open until it ends.
    OpenPort,
    /// Asks to receive on the port that the shard has for many sessions, over UDP as `pair`, else over TCP. Answered as
    /// [`Output::OpenPair`] or [`Output::OpenPort`]; `None`: there is no such port, or the SSRC is another one's there.
    OpenShared {
        pair: Option<PairId>,
        source: ExpectedSource,
    },
    /// The same for a session that sends: who connects first is its connection from then on, and the port is closed.
    /// Answered as [`Output::OpenPort`] is.
    AwaitPeer,
    /// Of a publisher: asks to be told when nobody has watched its stream, on any shard, for so many milliseconds.
    AskUnwatched(u64),
    /// Of a session without a connection of its own: who sends to it has shown, or is another from now on.
    Peer(SocketAddr),
    /// A viewer's datagrams of this pair go elsewhere from now on: its real address has shown.
    Redirect(PairTarget),
    /// A datagram from one of the session's pairs. Dropped if the kernel does not take it at once.
    SendDatagram {
        pair: PairId,
        rtcp: bool,
        to: SocketAddr,
        bytes: Bytes,
    },
    /// Asks to play. At most one subscription per session at a time; a new one replaces the old.
    Play(PlayRequest),
    /// Stops sending media and keeps the subscription; `false` goes on at the next keyframe.
    Pause(bool),
    /// Ends the subscription.
    Stop,
    /// Something of the peer's media was left out; counted on its stream.
    Discarded(Discard),
    /// Asks that the stream be sent to a multicast group, in `format`, counted as `protocol`; the session is a member until it leaves
    /// or ends, and is told when the stream ends. The connection moves to the stream's owner.
    JoinGroup {
        key: StreamKey,
        format: Format,
        protocol: &'static str,
    },
    LeaveGroup,
    /// This connection can be found under a name by the other half of its tunnel.
    OpenTunnel(Arc<str>),
    /// Bytes that the session which has opened the tunnel takes as its peer's. The connection moves to the shard of that session.
    Tunnel {
        name: Arc<str>,
        bytes: Bytes,
    },
    /// The connection speaks another protocol, from these bytes on.
    Become {
        protocol: &'static str,
        bytes: Bytes,
    },
    /// What became of the packets of the peer's media since the last time; added to the counters of its stream.
    Received(Received),
    /// Who the peer says it is (user agent, flash version), for the operator. Sent at most once.
    Agent(String),
    /// For the log: what of the peer's is refused or left out; the connection goes on. `reason`: counted under that name, as the reason of
    /// a [`SessionError`] is.
    Note {
        reason: Option<&'static str>,
        message: String,
    },
    /// Close once everything before this has been sent.
    Close,
}

/// Whose packets a session takes that receives RTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpectedSource {
    /// As it was agreed; `None`: of whoever sends first.
    pub ssrc: Option<u32>,
    /// Packets of any other source are never taken.
    pub strict: bool,
    /// Where it is to send from; `None`: from anywhere.
    pub ip: Option<IpAddr>,
}

/// Who is at fault when a session fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The peer broke the specification.
    Misbehaved,
    /// The peer wants what the server lacks.
    Unsupported,
    /// The peer took too long.
    TimedOut,
}

/// Ends a session. Made from the protocol's own error type, which says it exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionError {
    pub fault: Fault,
    /// Stable, lower-case with underscores: the label under which it is counted.
    pub reason: &'static str,
    /// For the log: one sentence.
    pub message: String,
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SessionError {}

/// How far a session has come that the operator has started to receive a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceptionState {
    Waiting,
    /// Packets come, and nothing is known of what is in them yet.
    MediaSeen,
    TracksFound,
    Playing,
    Ended,
}

/// Why one is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceptionEnd {
    /// Nobody watched, the operator or the end of the process.
    AsWished,
    /// Whoever sent has closed the connection.
    SenderLeft,
    Failed,
}

/// What such a session says of itself, for the operator.
#[derive(Clone, Debug, PartialEq)]
pub struct Reception {
    pub key: StreamKey,
    pub transport: &'static str,
    /// Where it receives; `None`: there was none left.
    pub port: Option<u16>,
    /// The source that is expected, or was found.
    pub ssrc: Option<u32>,
    pub source: Option<SocketAddr>,
    pub state: ReceptionState,
    /// `None`: it is not over.
    pub end: Option<ReceptionEnd>,
    /// The state in words, with its reason.
    pub detail: String,
    /// Names of codecs.
    pub tracks: Vec<&'static str>,
    pub received: Received,
    /// How long it has been since media began.
    pub media_age_ms: Option<u64>,
    /// Of the packets that were taken.
    pub bytes: u64,
    /// Why it could not begin.
    pub refusal: Option<Refusal>,
}

/// How far a session has come that was started to send a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendingState {
    /// For somebody to connect, then for the stream.
    Waiting,
    Sending,
    Ended,
}

/// What such a session says of itself, for the operator.
#[derive(Clone, Debug, PartialEq)]
pub struct Sending {
    pub key: StreamKey,
    pub transport: &'static str,
    pub payload: &'static str,
    /// Where it sends from, or where it waits for somebody to connect; `None`: nowhere of its own, or there was none left.
    pub port: Option<u16>,
    pub to: Option<SocketAddr>,
    pub ssrc: u32,
    pub state: SendingState,
    /// The state in words, with its reason.
    pub detail: String,
    /// Names of codecs that are sent, and that have no place in the payload.
    pub tracks: Vec<&'static str>,
    pub left_out: Vec<&'static str>,
    /// Sent so far; the shard knows it.
    pub bytes: u64,
    /// Why it could not begin.
    pub refusal: Option<Refusal>,
}

/// One connection's protocol.
pub trait Session: Send {
    /// Takes one input and appends its consequences. After an error the session is only dropped: what it appended before is still
    /// sent, so a last word to the peer is possible.
    fn handle(&mut self, now: Stamp, input: Input<'_>, out: &mut Vec<Output>) -> Result<(), SessionError>;

    /// When to send [`Input::Timeout`] next; `None`: never.
    fn next_timeout(&self) -> Option<Stamp>;

    /// What a session that the operator has started says of itself; `None`: it was not.
    fn reception(&self) -> Option<Reception> {
        None
    }

    /// What a session that was started to send a stream says of itself; `None`: it was not.
    fn sending(&self) -> Option<Sending> {
        None
    }

    /// Bytes from the peer that the session keeps because they are not complete or not due yet: messages, requests, access units,
    /// packets behind a gap. Asked after every input.
    fn held_bytes(&self) -> usize;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_keys_need_an_app_and_clean_segments() {
        for good in ["live/a", "live/room/a", "live/摄像头", "live/a b", "a/b.c"] {
            let key = StreamKey::parse(good).unwrap();
            assert_eq!(format!("{}/{}", key.app(), key.name()), good);
        }
        let bad = [
            ("live", StreamKeyError::NoApp),
            ("", StreamKeyError::BadSegment),
            ("live/", StreamKeyError::BadSegment),
            ("/live/a", StreamKeyError::BadSegment),
            ("live//a", StreamKeyError::BadSegment),
            ("live/../a", StreamKeyError::BadSegment),
            ("live/a\0", StreamKeyError::BadCharacter),
            ("live/a?b", StreamKeyError::BadCharacter),
            ("live/%2e%2e", StreamKeyError::BadCharacter),
        ];
        for (text, error) in bad {
            assert_eq!(StreamKey::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(StreamKey::parse(&format!("live/{}", "x".repeat(300))), Err(StreamKeyError::TooLong));
    }
}
