//! Everything that crosses a thread: control → shard, shard → shard, and the snapshots that answer. This file is the interface.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;

use super::core::Answer;
pub use super::recorders::RecordTotals;
use crate::config::{RecordFormat, RecordWish};
use crate::hub::directory::Tunnel;
use crate::hub::fanout::ConnIndex;
use crate::hub::stats::{DropReason, Latency, StreamCounters};
use crate::media::{MediaEvent, Stamp, Tracks};
use crate::protocol::record::{DiskNews, RecorderStatus};
use crate::session::{
    CloseReason, ExpectedSource, FetchRequest, Fetched, Output, Reception, Refusal, Sending, Session, StreamKey,
};

pub type ShardId = u16;

/// Names a connection for the operator: unique while the server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId {
    pub shard: ShardId,
    /// Counts the connections that the shard has accepted.
    pub number: u64,
}

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.shard, self.number)
    }
}

impl std::str::FromStr for SessionId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (shard, number) = text.split_once('-').ok_or(())?;
        Ok(SessionId { shard: shard.parse().map_err(|_| ())?, number: number.parse().map_err(|_| ())? })
    }
}

/// Control → shard.
pub enum Command {
    /// All streams, or the one of that name.
    Streams {
        key: Option<StreamKey>,
        reply: flume::Sender<Vec<StreamSnapshot>>,
    },
    /// The names of the streams that the shard owns and that can be viewed now.
    Names(flume::Sender<Vec<StreamKey>>),
    Sessions(flume::Sender<Vec<SessionSnapshot>>),
    Shard(flume::Sender<ShardSnapshot>),
    /// Answers whether the session was there.
    Close {
        session: SessionId,
        reason: CloseReason,
        done: flume::Sender<bool>,
    },
    /// Starts a session that receives or sends a stream and has no connection of its own.
    Receive {
        session: Box<dyn Session>,
        protocol: &'static str,
        reply: flume::Sender<Receiving>,
    },
    /// Starts a session that receives or sends a stream on a connection that has been made for it.
    Adopt {
        /// Connected, and in blocking mode.
        socket: OwnedFd,
        session: Box<dyn Session>,
        protocol: &'static str,
        peer: SocketAddr,
        reply: flume::Sender<Receiving>,
    },
    /// Tells a session that receives whose packets it is to take; answers whether it was there.
    Expect {
        session: SessionId,
        source: ExpectedSource,
        done: flume::Sender<bool>,
    },
    /// What all such sessions say of themselves, those first that run.
    Receptions(flume::Sender<Vec<(SessionId, Reception)>>),
    /// The same of those that send.
    Sendings(flume::Sender<Vec<(SessionId, Sending)>>),
    /// Records a stream that the shard owns.
    Record {
        key: StreamKey,
        wish: Box<RecordWish>,
        reply: flume::Sender<RecordAnswer>,
    },
    /// Ends a stream's recorders, or the one of a format; answers how many.
    StopRecording {
        key: StreamKey,
        format: Option<RecordFormat>,
        reply: flume::Sender<usize>,
    },
    Recorders(flume::Sender<Vec<RecorderSnapshot>>),
    /// Publishes the built-in clip, over and over.
    PublishClip(StreamKey),
    /// Stop accepting, say goodbye, end within `drain_ms`.
    Drain,
}

/// Shard → control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A viewer waits for a stream of a name that is brought on demand; repeated as long as somebody waits.
    Wanted(StreamKey),
}

/// What became of [`Command::Receive`] or [`Command::Adopt`].
#[derive(Debug)]
pub enum Receiving {
    /// It runs, or says why it is over already.
    Started(SessionId, Reception),
    /// The same of a session that sends.
    Sends(SessionId, Sending),
    /// Its stream belongs to another shard; a connection for it was let go.
    Elsewhere(ShardId),
    Refused(Refusal),
}

/// What became of [`Command::Record`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordAnswer {
    Started(RecordFormat),
    Already(RecordFormat),
    /// The shard does not own such a stream, or nothing has come of it yet.
    NotHere,
}

/// One recorder of one stream.
#[derive(Clone, Debug)]
pub struct RecorderSnapshot {
    pub key: StreamKey,
    pub shard: ShardId,
    pub status: RecorderStatus,
}

/// Shard → shard, apart from media; and disk → shard.
pub enum Message {
    /// A stream has begun somewhere: viewers who wait for it may be served.
    Published(StreamKey),
    /// Asks the owner for a stream's events, under a number that the watcher chose.
    Watch {
        key: StreamKey,
        watch: u64,
        from: ShardId,
    },
    Unwatch {
        key: StreamKey,
        watch: u64,
        from: ShardId,
    },
    /// Answers a watch: there is no such stream here.
    Gone {
        key: StreamKey,
        watch: u64,
    },
    /// Asks for a piece of a stream that the receiver owns, or has owned.
    Fetch {
        ticket: Ticket,
        request: Box<FetchRequest>,
    },
    /// Answers to such requests, as many as there are at once.
    Fetched(Vec<(Ticket, Fetched)>),
    /// A stream has ended, and its segments can be fetched for so many milliseconds.
    Kept {
        key: StreamKey,
        from: ShardId,
        ms: u64,
    },
    /// A connection moves to the shard that has what it wants: the stream that it publishes, its group, the other half of its tunnel.
    Adopt(Box<Handoff>),
    /// A file of one of the shard's recorders has failed; repeated for whatever else is ordered for it.
    Disk(DiskNews),
}

/// Names a request for segments: whose it is, and which of that connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub shard: ShardId,
    pub index: ConnIndex,
    pub id: u64,
}

/// A connection on its way to another shard.
pub struct Handoff {
    pub socket: OwnedFd,
    pub tls: Option<crate::io::tls::TlsConn>,
    pub connection: Traveller,
}

/// What a connection takes along, apart from its socket.
pub struct Traveller {
    pub session: Box<dyn Session>,
    pub protocol: &'static str,
    pub peer: Option<SocketAddr>,
    pub agent: Option<String>,
    pub accepted: Stamp,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// What waits to be sent.
    pub unsent: Vec<Bytes>,
    /// What the session asked for when it moved, and after.
    pub outputs: Vec<Output>,
    /// What the session is to be told after that.
    pub answers: Vec<Answer>,
    /// The tunnel that it has opened.
    pub tunnel: Option<Tunnel>,
    /// How often it has moved for this wish.
    pub moves: u8,
}

/// One batch of a stream's events on its way to a watching shard.
#[derive(Clone, Debug)]
pub struct Batch {
    pub key: StreamKey,
    /// Which watch it answers: batches of an earlier watch are ignored.
    pub watch: u64,
    pub events: Arc<[MediaEvent]>,
}

/// What one shard knows of one stream: the owner has a publisher (or waits for one), a watcher has only viewers.
#[derive(Clone, Debug)]
pub struct StreamSnapshot {
    pub key: StreamKey,
    pub shard: ShardId,
    pub role: StreamRole,
    pub tracks: Tracks,
    pub counters: StreamCounters,
    /// Viewers per protocol label.
    pub viewers: Vec<(&'static str, u64)>,
    /// Latency per protocol label.
    pub latency: Vec<(&'static str, Latency)>,
    /// Of an owner.
    pub recorders: Vec<RecorderStatus>,
    /// Of an owner, while the stream is cut into segments.
    pub segments: Option<SegmentsSnapshot>,
}

/// What is held of a stream in segments, and what has become of requests since it has been cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentsSnapshot {
    pub segments: u64,
    pub parts: u64,
    pub bytes: u64,
    /// Segments that went before their time, for want of memory.
    pub dropped: u64,
    /// Requests that wait.
    pub waiting: u64,
    pub requests: u64,
    pub timed_out: u64,
    /// Requests that found too many waiting.
    pub refused: u64,
}

impl SegmentsSnapshot {
    pub fn add(&mut self, other: &SegmentsSnapshot) {
        self.segments += other.segments;
        self.parts += other.parts;
        self.bytes += other.bytes;
        self.dropped += other.dropped;
        self.waiting += other.waiting;
        self.requests += other.requests;
        self.timed_out += other.timed_out;
        self.refused += other.refused;
    }
}

#[derive(Clone, Debug)]
pub enum StreamRole {
    Owner {
        /// `None` while the stream waits for its publisher to come back.
        publisher: Option<PublisherSnapshot>,
        watching_shards: Vec<ShardId>,
        age_ms: u64,
    },
    Watcher {
        owner: ShardId,
    },
}

#[derive(Clone, Debug)]
pub struct PublisherSnapshot {
    pub session: SessionId,
    pub peer: Option<SocketAddr>,
    pub protocol: &'static str,
    pub agent: Option<String>,
}

#[derive(Clone, Debug)]
pub struct SessionSnapshot {
    pub id: SessionId,
    pub peer: Option<SocketAddr>,
    pub protocol: &'static str,
    pub role: SessionRole,
    pub stream: Option<StreamKey>,
    pub agent: Option<String>,
    pub age_ms: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Of a viewer: the age of its oldest unsent packet.
    pub lag_ms: u64,
    /// Of a viewer: how often it was moved to a keyframe because it lagged.
    pub skips: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionRole {
    Idle,
    Publisher,
    /// Waits for a stream that is not there.
    Waiting,
    Viewer,
}

#[derive(Clone, Debug, Default)]
pub struct ShardSnapshot {
    pub shard: ShardId,
    pub runtime: &'static str,
    pub core: Option<usize>,
    pub connections: u64,
    pub streams: u64,
    pub viewers: u64,
    pub accepted: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// CPU time of the shard's thread since it started.
    pub cpu_micros: u64,
    /// The longest delay of the shard's timer since the start, and since the last snapshot.
    pub stall_micros_max: u64,
    pub stall_micros_max_recent: u64,
    /// Connections refused at a limit.
    pub refused: u64,
    /// Times that accepting paused for want of file descriptors.
    pub accept_pauses: u64,
    /// Panics contained.
    pub panics: u64,
    /// Batches that found a full lane.
    pub lane_full: u64,
    /// Reports to the control plane that found no room.
    pub reports_dropped: u64,
    /// Datagrams and connections to the shared port that were nobody's, and datagrams there that the kernel had no room for.
    pub stray_datagrams: u64,
    pub stray_connections: u64,
    pub shared_kernel_drops: u64,
    /// Sessions that ended with an error, and what was refused, by protocol and reason.
    pub session_errors: Vec<(&'static str, &'static str, u64)>,
    /// Of recorders that are over.
    pub retired_recorders: RecordTotals,
    /// Latency per protocol label in streams that are over.
    pub retired_latency: Vec<(&'static str, Latency)>,
    /// Packets dropped in streams that are over, in the order of [`DropReason::ALL`].
    pub retired_dropped: [u64; DropReason::ALL.len()],
}
