//! A connection as its shard sees it.

use std::net::SocketAddr;
use std::task::Waker;

use super::core::Answer;
use super::message::{SessionRole, ShardId};
use crate::format::Format;
use crate::hub::Outgoing;
use crate::hub::directory::Tunnel;
use crate::media::{Stamp, TrackKind};
use crate::session::{FetchRequest, Output, PairId, PairTarget, PlayRequest, Session, StreamKey};

/// A socket's number, as the operating system (or a simulation) names it.
pub type Socket = i32;

/// Index of a stream in the shard's table.
pub type StreamIndex = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Open,
    /// Sends what it has, then finishes; given up at the stamp.
    Closing(Stamp),
    /// Our side of the socket is shut; what the peer still sends is ignored until it closes too, at the stamp at the latest.
    Finished(Stamp),
    /// The socket may be closed.
    Gone,
}

#[derive(Debug, PartialEq)]
pub enum Playing {
    No,
    /// The stream is not there yet; refused at the stamp.
    Waiting {
        request: Box<PlayRequest>,
        until: Stamp,
    },
    /// Wants to know what a stream consists of that is not there yet; refused at the stamp.
    Describing {
        key: StreamKey,
        until: Stamp,
    },
    /// Wants a piece of a stream that is cut into segments; given up at the stamp.
    Fetching {
        id: u64,
        request: Box<FetchRequest>,
        until: Stamp,
        /// When it was last sent to the shard that has the stream; `None`: to none.
        sent: Option<Stamp>,
        /// What an ended stream has left is not for it.
        is_new: bool,
    },
    /// Subscribed to the fan-out of this format and label.
    Viewing {
        stream: StreamIndex,
        key: StreamKey,
        format: Format,
        protocol: &'static str,
        /// Where it stands in the fan-out's list of viewers.
        place: usize,
    },
}

/// A pair of UDP ports that a session has open.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    pub id: PairId,
    /// Names the pair to the ports; `None`: it is the shard's, for many.
    pub handle: Option<usize>,
    pub rtp: Socket,
    pub rtcp: Socket,
}

/// Where a viewer's datagrams go. By kind of track; `None`: that one is not wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Datagrams {
    pub video: Option<(Pair, PairTarget)>,
    pub audio: Option<(Pair, PairTarget)>,
    /// Nothing is sent before: what was sent last is to reach the peer without filling its buffers.
    pub paced_until: Stamp,
}

impl Datagrams {
    pub fn of(&self, kind: TrackKind) -> Option<(Pair, PairTarget)> {
        match kind {
            TrackKind::Video => self.video,
            TrackKind::Audio => self.audio,
            TrackKind::Data => None,
        }
    }
}

/// A connection that is about to move.
pub struct Moving {
    pub to: ShardId,
    /// What the session asked for, the wish that makes it move first.
    pub outputs: Vec<Output>,
    /// What the session is to be told after that.
    pub answers: Vec<Answer>,
    pub moves: u8,
}

/// What is rare is boxed: thousands of viewers have one each.
pub struct Conn {
    pub number: u64,
    /// Absent only while its `handle` runs, and after a panic in it.
    pub session: Option<Box<dyn Session>>,
    pub protocol: &'static str,
    pub peer: Option<SocketAddr>,
    pub agent: Option<String>,
    /// `None`: the session lives inside the server.
    pub socket: Option<Socket>,
    /// Wakes the task that reads and writes the socket.
    pub waker: Option<Waker>,
    pub state: State,
    pub publishing: Option<StreamIndex>,
    pub playing: Playing,
    pub out: Outgoing,
    pub pairs: Vec<Pair>,
    /// Names its TCP port to the ports.
    pub port: Option<usize>,
    /// The stream to whose multicast group it belongs.
    pub group: Option<StreamIndex>,
    /// The tunnel that it has opened.
    pub tunnel: Option<Tunnel>,
    /// Of a viewer that gets datagrams.
    pub datagrams: Option<Box<Datagrams>>,
    /// The session is to be told when everything has been sent.
    pub sent_due: bool,
    pub dirty: bool,
    pub moving: Option<Box<Moving>>,
    pub moves: u8,
    /// The earliest timer that is set for this connection.
    pub armed: Option<Stamp>,
    /// A publisher that is to be told when nobody has watched its stream for so long.
    pub unwatched_ms: Option<u64>,
    pub accepted: Stamp,
    pub last_input: Stamp,
    pub bytes_in: u64,
    /// What its session held when that was last asked, with the replies that wait.
    pub held_bytes: usize,
}

impl Conn {
    pub fn new(number: u64, session: Box<dyn Session>, protocol: &'static str, now: Stamp) -> Self {
        Conn {
            number,
            session: Some(session),
            protocol,
            peer: None,
            agent: None,
            socket: None,
            waker: None,
            state: State::Open,
            publishing: None,
            playing: Playing::No,
            out: Outgoing::default(),
            pairs: Vec::new(),
            port: None,
            group: None,
            tunnel: None,
            datagrams: None,
            sent_due: false,
            dirty: false,
            moving: None,
            moves: 0,
            armed: None,
            unwatched_ms: None,
            accepted: now,
            last_input: now,
            bytes_in: 0,
            held_bytes: 0,
        }
    }

    /// Lets the connection's task look at it again.
    pub fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// The next moment at which something must happen without input.
    pub fn next_deadline(&self) -> Option<Stamp> {
        // On its way it is told nothing, not even that its time is up.
        if self.moving.is_some() {
            return None;
        }
        let state = match self.state {
            State::Open => self.session.as_ref().and_then(|session| session.next_timeout()),
            State::Closing(until) | State::Finished(until) => Some(until),
            State::Gone => None,
        };
        let waiting = match &self.playing {
            Playing::Waiting { until, .. } | Playing::Describing { until, .. } | Playing::Fetching { until, .. } => Some(*until),
            _ => None,
        };
        [state, waiting].into_iter().flatten().min()
    }

    pub fn role(&self) -> SessionRole {
        match (&self.publishing, &self.playing) {
            (Some(_), _) => SessionRole::Publisher,
            (None, Playing::Viewing { .. }) => SessionRole::Viewer,
            (None, Playing::Waiting { .. } | Playing::Describing { .. } | Playing::Fetching { .. }) => SessionRole::Waiting,
            (None, Playing::No) => SessionRole::Idle,
        }
    }

    /// The stream that is played or waited for.
    pub fn played_key(&self) -> Option<&StreamKey> {
        match &self.playing {
            Playing::Waiting { request, .. } => Some(&request.key),
            Playing::Describing { key, .. } | Playing::Viewing { key, .. } => Some(key),
            Playing::Fetching { request, .. } => Some(&request.key),
            Playing::No => None,
        }
    }

    /// The label under which the connection is shown: how it plays, else how it came in.
    pub fn label(&self) -> &'static str {
        match &self.playing {
            Playing::Waiting { request, .. } => request.protocol,
            Playing::Viewing { protocol, .. } => protocol,
            Playing::No | Playing::Describing { .. } | Playing::Fetching { .. } => self.protocol,
        }
    }

    /// `peer` for the log.
    pub fn peer_text(&self) -> String {
        self.peer.map_or_else(|| "internal".to_owned(), |peer| peer.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory per viewer is a figure that is published, and this is its largest part.
    #[test]
    fn a_connection_is_small() {
        assert!(size_of::<Conn>() <= 720, "{} bytes", size_of::<Conn>());
    }
}
