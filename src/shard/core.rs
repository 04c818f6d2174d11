//! One shard without its input and output: the table of connections and streams, and what each input does to them.
//!
//! The driver ([`super::driver`]) feeds it from sockets and channels; tests feed it with a virtual clock. Everything that leaves goes
//! through [`Ports`]. Nothing here waits, and nothing is shared with another thread but the directory.
//!
//! What is where: this file drives sessions and timers · `streams.rs` publishes, plays and watches · `pairs.rs` has the UDP ports,
//! `receptions.rs` what the operator has started and its TCP ports, `shared.rs` the port that many receive on, `sendings.rs` those that send,
//! `groups.rs` the multicast groups, `tunnels.rs` connections that belong together, `recorders.rs` what is recorded ·
//! `segments.rs` answers those who fetch · `flush.rs` sends · `snapshot.rs` reports.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use slab::Slab;

use super::conn::{Conn, Playing, Socket, State, StreamIndex};
use super::message::{Batch, Command, Message, Report, SessionId, ShardId, ShardSnapshot, Traveller};
use super::passes::Passes;
use super::recorders::RecorderTable;
use super::segments::Segments;
use super::shared::Shared;
use super::streams::Slot;
use crate::config::Config;
use crate::format::MuxerContext;
use crate::format::rtp::RtpStart;
use crate::hub::Directory;
use crate::hub::fanout::{ConnIndex, SentLog};
use crate::hub::joined::Joined;
use crate::hub::outgoing::Sent;
use crate::hub::stats::{DropReason, Latency};
use crate::media::{Stamp, Tracks};
use crate::protocol::record::DiskOrder;
use crate::session::{
    CloseReason, Fetched, Group, Input, Output, PairId, Reception, Refusal, Sending, Session, SessionError, StreamKey,
};

/// How long a connection that is closed may take to get its last bytes out.
const CLOSING_MS: u64 = 5_000;
/// How often streams and blocked viewers are looked at.
const SWEEP_MS: u64 = 100;

/// What a shard needs from the world.
pub trait Ports {
    /// The time.
    fn now(&self) -> Stamp;
    /// Sends what the kernel takes at once; `WouldBlock` when that is nothing.
    fn send(&mut self, socket: Socket, slices: &[IoSlice<'_>]) -> io::Result<Sent>;
    /// Ends our side of the connection.
    fn finish(&mut self, socket: Socket);
    /// Opens a pair of UDP ports, at the local address of a connection if there is one; what comes to them is given to [`Core::datagram`].
    fn open_pair(&mut self, socket: Option<Socket>, index: ConnIndex, pair: PairId) -> Option<OpenedPair>;
    fn close_pair(&mut self, handle: usize);
    /// Opens a TCP port; who connects there is told by [`Core::connected`].
    fn open_port(&mut self, index: ConnIndex) -> Option<OpenedPort>;
    fn close_port(&mut self, handle: usize);
    /// The port that the shard has for many sessions; what comes there is told by [`Core::shared_datagram`] and [`Core::shared_offer`].
    fn shared_port(&self) -> Option<OpenedShared>;
    /// Ends a connection that came to it.
    fn close_shared(&mut self, handle: usize);
    /// Opens a TCP port; the first who connects there is given to [`Core::peer_connected`].
    fn await_peer(&mut self, index: ConnIndex) -> Option<OpenedPort>;
    /// A multicast group that nobody uses, and the socket to send to it; `None`: there is none.
    fn open_group(&mut self) -> Option<OpenedGroup>;
    fn close_group(&mut self, handle: usize);
    /// A new session of another protocol for a connection.
    fn session(&mut self, protocol: &'static str, peer: SocketAddr, now: Stamp) -> Option<Box<dyn Session>>;
    /// Sends datagrams of `datagram_bytes` each (the last may be shorter) and says how many of them the kernel took, from the front;
    /// `WouldBlock` when that is none for now.
    fn send_datagrams(&mut self, socket: Socket, to: SocketAddr, bytes: &[u8], datagram_bytes: u16) -> io::Result<usize>;
    /// Sends a message to another shard. May drop it when that shard's inbox is full: all messages are repeated or time out.
    fn post(&mut self, to: ShardId, message: Message);
    /// Sends media to another shard; `false` when the lane is full.
    fn lane(&mut self, to: ShardId, batch: Batch) -> bool;
    /// Tells the control plane; `false`: there is no room.
    fn report(&mut self, report: Report) -> bool;
    /// Gives the disk an order; `false`: it is behind.
    fn disk(&mut self, order: DiskOrder) -> bool;
    /// What a new muxer needs to know of the world.
    fn muxer_context(&mut self) -> MuxerContext;
    /// Adds what only the driver knows to a report.
    fn complete(&self, snapshot: &mut ShardSnapshot);
}

/// What became of [`Ports::open_pair`].
#[derive(Clone, Copy, Debug)]
pub struct OpenedPair {
    /// The port for RTP; RTCP has the next one.
    pub port: u16,
    pub handle: usize,
    pub rtp: Socket,
    pub rtcp: Socket,
}

/// What became of [`Ports::open_port`].
#[derive(Clone, Copy, Debug)]
pub struct OpenedPort {
    pub port: u16,
    pub handle: usize,
}

/// What [`Ports::shared_port`] gives.
#[derive(Clone, Copy, Debug)]
pub struct OpenedShared {
    /// The port for RTP over UDP and TCP; RTCP has the next one.
    pub port: u16,
    pub rtp: Socket,
    pub rtcp: Socket,
}

/// What [`Ports::open_group`] gives.
#[derive(Clone, Copy, Debug)]
pub struct OpenedGroup {
    pub group: Group,
    pub handle: usize,
    pub socket: Socket,
}

/// A datagram as it came.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    pub pair: PairId,
    pub rtcp: bool,
    pub from: SocketAddr,
    pub bytes: &'a [u8],
}

/// What a session is told by its own shard.
#[derive(Debug)]
pub enum Answer {
    Publishing,
    Playing(Option<RtpStart>),
    Described(Tracks),
    PairOpened(PairId, Option<u16>),
    PortOpened(Option<u16>),
    GroupJoined(Group),
    Unwatched,
    Fetched(Fetched),
    Sent,
    /// Bytes that came through the other half of its tunnel, or before it became what it is.
    Bytes(Bytes),
    Refused(Refusal),
    Ended,
    Closing(CloseReason),
}

/// Plain counters of the shard.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub accepted: u64,
    pub refused: u64,
    pub panics: u64,
    pub lane_full: u64,
    pub reports_dropped: u64,
    pub bytes_in: u64,
    /// Of connections that are gone.
    pub bytes_out: u64,
    pub session_errors: BTreeMap<(&'static str, &'static str), u64>,
    /// Of streams that are over.
    pub latency: Vec<(&'static str, Latency)>,
    pub dropped: [u64; DropReason::ALL.len()],
}

pub struct Core<P: Ports> {
    pub ports: P,
    pub(super) id: ShardId,
    pub(super) shards: ShardId,
    pub(super) config: Arc<Config>,
    pub(super) directory: Arc<Directory>,
    pub(super) conns: Slab<Conn>,
    pub(super) streams: Slab<Slot>,
    pub(super) by_key: HashMap<StreamKey, StreamIndex>,
    /// Viewers of streams that are not there yet.
    pub(super) waiting: HashMap<StreamKey, VecDeque<ConnIndex>>,
    pub(super) dirty_streams: VecDeque<StreamIndex>,
    pub(super) passes: Passes,
    pub(super) dirty_conns: VecDeque<ConnIndex>,
    /// Empty between calls.
    pub(super) sent_log: SentLog,
    /// What it holds is forgotten before each round.
    pub(super) joined: Joined,
    /// Viewers who have more to send, at the stamp.
    pub(super) paced: VecDeque<(Stamp, ConnIndex)>,
    /// Connections that have opened a tunnel.
    pub(super) tunnels: HashMap<Arc<str>, ConnIndex>,
    pub(super) counters: Counters,
    pub(super) shared: Shared,
    pub(super) segments: Segments,
    pub(super) recorders: RecorderTable,
    pub(super) next_watch: u64,
    /// What all connections hold of what their peers sent, and the most that they may.
    pub(super) held_bytes: usize,
    pub(super) held_bytes_max: usize,
    /// What sessions that the operator has started said last, once they are over.
    pub(super) receptions_over: VecDeque<(SessionId, Reception)>,
    pub(super) sendings_over: VecDeque<(SessionId, Sending)>,
    /// When it is said again which streams are waited for.
    pub(super) next_wanted: Stamp,
    answers: VecDeque<(ConnIndex, Answer)>,
    scratch: Vec<Output>,
    timers: BinaryHeap<Reverse<(Stamp, ConnIndex)>>,
    next_number: u64,
    swept: Stamp,
    pub(super) draining: bool,
}

impl<P: Ports> Core<P> {
    pub fn new(id: ShardId, shards: ShardId, config: Arc<Config>, directory: Arc<Directory>, ports: P) -> Self {
        let held_bytes_max = config.limits.held_bytes_of_a_shard(usize::from(shards));
        let recorders = RecorderTable::new(&config.record);
        let passes = Passes::new(config.viewer.merge_ms);
        Core {
            ports,
            id,
            shards,
            config,
            directory,
            conns: Slab::new(),
            streams: Slab::new(),
            by_key: HashMap::new(),
            waiting: HashMap::new(),
            dirty_streams: VecDeque::new(),
            passes,
            dirty_conns: VecDeque::new(),
            sent_log: SentLog::default(),
            joined: Joined::default(),
            paced: VecDeque::new(),
            tunnels: HashMap::new(),
            counters: Counters::default(),
            shared: Shared::default(),
            segments: Segments::default(),
            recorders,
            next_watch: 0,
            held_bytes: 0,
            held_bytes_max,
            receptions_over: VecDeque::new(),
            sendings_over: VecDeque::new(),
            next_wanted: Stamp::ZERO,
            answers: VecDeque::new(),
            scratch: Vec::new(),
            timers: BinaryHeap::new(),
            next_number: 0,
            swept: Stamp::ZERO,
            draining: false,
        }
    }

    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    pub fn draining(&self) -> bool {
        self.draining
    }

    /// Draining, and all connections have ended.
    pub fn drained(&self) -> bool {
        self.draining && self.conns.is_empty()
    }

    /// Whether nothing of any stream is left.
    #[cfg(test)]
    pub fn holds_no_stream(&self) -> bool {
        self.streams.is_empty() && self.by_key.is_empty()
    }

    /// Bytes of media that all streams keep.
    #[cfg(test)]
    pub fn media_bytes(&self) -> usize {
        self.streams.iter().map(|(_, slot)| slot.stream.media_bytes()).sum()
    }

    /// Something waits for [`Core::flush`].
    pub fn wants_flush(&self) -> bool {
        !self.dirty_streams.is_empty() || !self.dirty_conns.is_empty() || self.in_rounds()
    }

    /// Viewers wait for their turn in a round.
    pub fn in_rounds(&self) -> bool {
        self.passes.goes_on()
    }

    /// Takes a new connection, or refuses it at the limit.
    pub fn accept(
        &mut self,
        now: Stamp,
        session: Box<dyn Session>,
        protocol: &'static str,
        peer: SocketAddr,
        socket: Socket,
    ) -> Option<ConnIndex> {
        if self.draining || self.conns.len() >= self.config.limits.connections_per_shard_max {
            self.counters.refused += 1;
            return None;
        }
        self.counters.accepted += 1;
        let index = self.insert(now, session, protocol);
        let conn = &mut self.conns[index];
        conn.peer = Some(peer);
        conn.socket = Some(socket);
        self.arm(index);
        Some(index)
    }

    /// Starts a session that has no peer; it is driven by its timer alone.
    pub fn start_internal(&mut self, now: Stamp, session: Box<dyn Session>, protocol: &'static str) -> u64 {
        let index = self.insert(now, session, protocol);
        let number = self.conns[index].number;
        self.drive(index, now, Input::Timeout);
        self.settle_answers(now);
        number
    }

    /// Takes a connection over from another shard.
    pub fn adopt(&mut self, now: Stamp, traveller: Traveller, socket: Socket) -> ConnIndex {
        let index = self.insert(now, traveller.session, traveller.protocol);
        let conn = &mut self.conns[index];
        conn.peer = traveller.peer;
        conn.agent = traveller.agent;
        conn.accepted = traveller.accepted;
        conn.bytes_in = traveller.bytes_in;
        conn.out.bytes_sent = traveller.bytes_out;
        conn.moves = traveller.moves;
        conn.socket = Some(socket);
        for bytes in traveller.unsent {
            conn.out.push(bytes);
        }
        if let Some(tunnel) = traveller.tunnel {
            self.tunnels.insert(tunnel.name().clone(), index);
            conn.tunnel = Some(tunnel);
        }
        self.mark_conn(index);
        self.apply_all(index, now, traveller.outputs);
        self.answers.extend(traveller.answers.into_iter().map(|answer| (index, answer)));
        if self.draining {
            self.close_with(index, CloseReason::ShuttingDown);
        }
        self.settle_answers(now);
        self.arm(index);
        index
    }

    pub(super) fn insert(&mut self, now: Stamp, session: Box<dyn Session>, protocol: &'static str) -> ConnIndex {
        self.next_number += 1;
        self.conns.insert(Conn::new(self.next_number, session, protocol, now))
    }

    /// The task behind a connection says how it is woken.
    pub fn set_waker(&mut self, index: ConnIndex, waker: &Waker) {
        if let Some(conn) = self.conns.get_mut(index)
            && !conn.waker.as_ref().is_some_and(|known| known.will_wake(waker))
        {
            conn.waker = Some(waker.clone());
        }
    }

    /// Takes bytes from the peer.
    pub fn received(&mut self, now: Stamp, index: ConnIndex, bytes: &[u8]) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        conn.last_input = now;
        conn.bytes_in += bytes.len() as u64;
        self.counters.bytes_in += bytes.len() as u64;
        self.drive(index, now, Input::Bytes(bytes));
        self.settle_answers(now);
    }

    /// The peer has closed its side.
    pub fn received_end(&mut self, now: Stamp, index: ConnIndex) {
        self.tell_disconnected(now, index);
        self.drop_conn(now, index);
        self.settle_answers(now);
    }

    /// The socket failed.
    pub fn failed(&mut self, now: Stamp, index: ConnIndex, error: &io::Error) {
        if let Some(conn) = self.conns.get(index) {
            log::debug!("{} {}: {error}", conn.protocol, conn.peer_text());
        }
        self.tell_disconnected(now, index);
        self.drop_conn(now, index);
        self.settle_answers(now);
    }

    /// What the peer sends is not TLS, or it does not like the certificate.
    pub fn tls_failed(&mut self, now: Stamp, index: ConnIndex, error: &io::Error) {
        self.blame(index, "tls_failed", &format!("TLS: {error}"));
        self.drop_conn(now, index);
        self.settle_answers(now);
    }

    /// The connection's task has closed its socket: forget it.
    pub fn remove(&mut self, now: Stamp, index: ConnIndex) {
        if self.conns.contains(index) {
            self.drop_conn(now, index);
            self.forget(index);
            self.settle_answers(now);
        }
    }

    /// Takes a connection out of the table; what it has sent stays counted.
    pub(super) fn forget(&mut self, index: ConnIndex) {
        let conn = self.conns.remove(index);
        self.keep_reception(&conn);
        self.keep_sending(&conn);
        self.held_bytes -= conn.held_bytes;
        self.counters.bytes_out += conn.out.bytes_sent;
    }

    /// Whether the task is to close the socket and call [`Core::remove`].
    pub fn is_gone(&self, index: ConnIndex) -> bool {
        self.conns.get(index).is_none_or(|conn| conn.state == State::Gone)
    }

    /// The socket takes no more until it is writable, as its task has found.
    pub fn block(&mut self, now: Stamp, index: ConnIndex) {
        if let Some(conn) = self.conns.get_mut(index) {
            conn.out.block(now);
        }
    }

    /// The socket has taken some of what counts as sent already, but takes no more for now.
    pub fn took(&mut self, now: Stamp, index: ConnIndex) {
        if let Some(conn) = self.conns.get_mut(index) {
            conn.out.took(now);
        }
    }

    /// Whether the kernel's buffer was full when this connection last sent.
    pub fn is_blocked(&self, index: ConnIndex) -> bool {
        self.conns.get(index).is_some_and(|conn| conn.out.blocked)
    }

    /// If the connection is to move: where to, and what goes along. The caller sends it and the socket there and calls
    /// [`Core::remove`].
    pub fn take_traveller(&mut self, index: ConnIndex) -> Option<(ShardId, Traveller)> {
        let conn = self.conns.get_mut(index)?;
        let moving = conn.moving.take()?;
        let tunnel = conn.tunnel.take();
        if let Some(tunnel) = &tunnel {
            self.tunnels.remove(tunnel.name());
            tunnel.move_to(moving.to);
        }
        let traveller = Traveller {
            session: conn.session.take()?,
            protocol: conn.protocol,
            peer: conn.peer,
            agent: conn.agent.take(),
            accepted: conn.accepted,
            bytes_in: conn.bytes_in,
            bytes_out: std::mem::take(&mut conn.out.bytes_sent),
            unsent: conn.out.take_unsent(),
            outputs: moving.outputs,
            answers: moving.answers,
            tunnel,
            moves: moving.moves,
        };
        conn.state = State::Gone;
        Some((moving.to, traveller))
    }

    pub fn message(&mut self, now: Stamp, message: Message) {
        match message {
            Message::Published(key) => self.published(now, &key),
            Message::Watch { key, watch, from } => self.watch_asked(&key, watch, from),
            Message::Unwatch { key, watch, from } => self.unwatch_asked(&key, watch, from),
            Message::Gone { key, watch } => self.watch_refused(now, &key, watch),
            Message::Fetch { ticket, request } => self.serve_fetch(ticket, request, now),
            Message::Fetched(answers) => {
                answers.into_iter().for_each(|(ticket, fetched)| self.fetched(ticket, fetched));
            }
            Message::Kept { key, from, ms } => self.kept_elsewhere(now, key, from, ms),
            Message::Disk(news) => self.disk_told(now, &news),
            Message::Adopt(_) => unreachable!("the driver takes connections over"),
        }
        self.settle_answers(now);
    }

    pub fn command(&mut self, now: Stamp, command: Command) {
        // A reply that nobody waits for any more is no fault.
        match command {
            Command::Streams { key, reply } => {
                let _ = reply.try_send(self.stream_snapshots(key.as_ref(), now));
            }
            Command::Names(reply) => {
                let _ = reply.try_send(self.stream_names());
            }
            Command::Sessions(reply) => {
                let _ = reply.try_send(self.session_snapshots(now));
            }
            Command::Shard(reply) => {
                let _ = reply.try_send(self.shard_snapshot());
            }
            Command::Close { session, reason, done } => {
                let found = self.find_conn(session);
                if let Some(index) = found {
                    self.close_with(index, reason);
                }
                let _ = done.try_send(found.is_some());
            }
            Command::Receive { session, protocol, reply } => {
                let _ = reply.try_send(self.receive(now, session, protocol));
            }
            Command::Adopt { .. } => unreachable!("the driver takes connections over"),
            Command::Expect { session, source, done } => {
                let found = self.find_conn(session);
                if let Some(index) = found {
                    self.expect_shared(index, source);
                    self.drive(index, now, Input::Expect(source));
                }
                let _ = done.try_send(found.is_some());
            }
            Command::Receptions(reply) => {
                let _ = reply.try_send(self.receptions());
            }
            Command::Sendings(reply) => {
                let _ = reply.try_send(self.sendings());
            }
            Command::Record { key, wish, reply } => {
                let _ = reply.try_send(self.record(now, &key, &wish));
            }
            Command::StopRecording { key, format, reply } => {
                let _ = reply.try_send(self.stop_recording(&key, format));
            }
            Command::Recorders(reply) => {
                let _ = reply.try_send(self.recorder_snapshots());
            }
            Command::PublishClip(key) => {
                let session = crate::protocol::clip::ClipPublisher::boxed(key);
                self.start_internal(now, session, crate::protocol::clip::NAME);
            }
            Command::Drain => self.drain(),
        }
        self.settle_answers(now);
    }

    fn find_conn(&self, session: SessionId) -> Option<ConnIndex> {
        self.conns.iter().find(|(_, conn)| conn.number == session.number).map(|(index, _)| index)
    }

    fn drain(&mut self) {
        self.draining = true;
        let all: Vec<ConnIndex> = self.conns.iter().map(|(index, _)| index).collect();
        for index in all {
            self.close_with(index, CloseReason::ShuttingDown);
        }
    }

    /// Says goodbye and closes.
    pub(super) fn close_with(&mut self, index: ConnIndex, reason: CloseReason) {
        self.answers.push_back((index, Answer::Closing(reason)));
    }

    pub(super) fn answer(&mut self, index: ConnIndex, answer: Answer) {
        self.answers.push_back((index, answer));
    }

    /// Gives sessions the answers that are due. Answers are queued, not given on the spot, so that the outputs of one call are all
    /// carried out before the next begins.
    pub(super) fn settle_answers(&mut self, now: Stamp) {
        while let Some((index, answer)) = self.answers.pop_front() {
            if let Some(moving) = self.conns.get_mut(index).and_then(|conn| conn.moving.as_mut()) {
                moving.answers.push(answer);
                continue;
            }
            let (input, closes) = match answer {
                Answer::Publishing => (Input::Publishing, false),
                Answer::Playing(start) => (Input::Playing(start), false),
                Answer::Described(ref tracks) => (Input::Described(tracks), false),
                Answer::PairOpened(pair, port) => (Input::PairOpened { pair, port }, false),
                Answer::PortOpened(port) => (Input::PortOpened(port), false),
                Answer::GroupJoined(group) => (Input::GroupJoined(group), false),
                Answer::Unwatched => (Input::Unwatched, false),
                Answer::Fetched(fetched) => (Input::Fetched(fetched), false),
                Answer::Sent => (Input::Sent, false),
                Answer::Bytes(ref bytes) => (Input::Bytes(bytes), false),
                Answer::Refused(refusal) => (Input::Refused(refusal), false),
                Answer::Ended => (Input::Ended, false),
                Answer::Closing(reason) => (Input::Closing(reason), true),
            };
            self.drive(index, now, input);
            if closes {
                self.close(index, now);
            }
        }
    }

    /// Gives one input to one session and carries out what it asks for.
    pub(super) fn drive(&mut self, index: ConnIndex, now: Stamp, input: Input<'_>) {
        let Some(conn) = self.conns.get_mut(index).filter(|conn| conn.state == State::Open && conn.moving.is_none()) else {
            return;
        };
        let Some(mut session) = conn.session.take() else { return };
        let mut outputs = std::mem::take(&mut self.scratch);
        let result = catch_unwind(AssertUnwindSafe(|| session.handle(now, input, &mut outputs)));
        match result {
            Ok(result) => {
                self.conns[index].session = Some(session);
                self.apply_all(index, now, outputs.drain(..));
                if let Err(error) = result {
                    self.session_failed(index, now, &error);
                }
            }
            Err(_) => {
                outputs.clear();
                self.counters.panics += 1;
                let conn = &self.conns[index];
                log::error!("{} {}: the session panicked and is closed", conn.protocol, conn.peer_text());
                self.drop_conn(now, index);
            }
        }
        self.scratch = outputs;
        self.bound_held(index, now);
        self.arm(index);
    }

    fn session_failed(&mut self, index: ConnIndex, now: Stamp, error: &SessionError) {
        self.blame(index, error.reason, &error.message);
        self.close(index, now);
    }

    /// Logs and counts what a peer has done wrong.
    fn blame(&mut self, index: ConnIndex, reason: &'static str, message: &str) {
        let Some(conn) = self.conns.get(index) else { return };
        log::warn!("{} {}: {message} ({reason})", conn.protocol, conn.peer_text());
        *self.counters.session_errors.entry((conn.protocol, reason)).or_default() += 1;
    }

    fn apply_all(&mut self, index: ConnIndex, now: Stamp, outputs: impl IntoIterator<Item = Output>) {
        for output in outputs {
            // An internal session that closes is gone at once.
            let Some(conn) = self.conns.get_mut(index) else { return };
            match &mut conn.moving {
                Some(moving) => moving.outputs.push(output),
                None => self.apply(index, now, output),
            }
        }
    }

    fn apply(&mut self, index: ConnIndex, now: Stamp, output: Output) {
        match output {
            Output::Send(bytes) => self.send_own(index, now, bytes),
            Output::Body(pieces) => self.send_body(index, &pieces),
            Output::Fetch(request) => self.fetch(index, now, request),
            Output::Media(event) => self.publish_event(index, now, event),
            Output::Publish(key) => self.publish(index, now, key),
            Output::Unpublish => self.unpublish(index, now),
            Output::Play(request) => self.play(index, now, request),
            Output::Pause(paused) => self.pause(index, paused),
            Output::Stop => self.stop_playing(index, now),
            Output::Discarded(discard) => self.count_discard(index, discard),
            Output::Agent(agent) => self.conns[index].agent = Some(agent),
            Output::Close => self.close(index, now),
            Output::Describe(key) => self.describe(index, now, key),
            Output::OpenPair(pair) => self.open_pair(index, pair),
            Output::ClosePair(pair) => self.close_pair(index, pair),
            Output::OpenPort => self.open_port(index),
            Output::OpenShared { pair, source } => self.open_shared(index, pair, source),
            Output::AwaitPeer => self.await_peer(index),
            Output::AskUnwatched(ms) => self.conns[index].unwatched_ms = Some(ms),
            Output::Peer(peer) => self.conns[index].peer = Some(peer),
            Output::Redirect(target) => self.redirect(index, target),
            Output::SendDatagram { pair, rtcp, to, bytes } => self.send_datagram(index, pair, rtcp, to, &bytes),
            Output::JoinGroup { key, format, protocol } => self.join_group(index, now, key, format, protocol),
            Output::LeaveGroup => self.leave_group(index, now),
            Output::OpenTunnel(name) => self.open_tunnel(index, name),
            Output::Tunnel { name, bytes } => self.tunnel(index, now, name, bytes),
            Output::Become { protocol, bytes } => self.become_other(index, now, protocol, bytes),
            Output::Note { reason: Some(reason), message } => self.blame(index, reason, &message),
            Output::Note { reason: None, message } => {
                let conn = &self.conns[index];
                log::info!("{} {}: {message}", conn.protocol, conn.peer_text());
            }
            Output::Received(received) => self.count_received(index, received),
        }
    }

    fn send_own(&mut self, index: ConnIndex, now: Stamp, bytes: Bytes) {
        let limit = self.config.limits.outbox_bytes_max;
        let conn = &mut self.conns[index];
        conn.out.push(bytes);
        if conn.out.queued_bytes() > limit && conn.out.blocked {
            log::warn!("{} {}: takes no replies, closed", conn.protocol, conn.peer_text());
            *self.counters.session_errors.entry((conn.protocol, "outbox_full")).or_default() += 1;
            self.drop_conn(now, index);
            return;
        }
        self.mark_conn(index);
    }

    /// What others share: it does not count as held by the connection, whose session sends nothing more before it is gone.
    fn send_body(&mut self, index: ConnIndex, pieces: &[Bytes]) {
        let conn = &mut self.conns[index];
        pieces.iter().for_each(|piece| conn.out.push_shared(piece.clone()));
        conn.sent_due = true;
        self.mark_conn(index);
    }

    pub(super) fn mark_conn(&mut self, index: ConnIndex) {
        if let Some(conn) = self.conns.get_mut(index)
            && !std::mem::replace(&mut conn.dirty, true)
        {
            self.dirty_conns.push_back(index);
        }
    }

    /// Lets what was queued go out, then closes. The connection leaves its streams now.
    pub(super) fn close(&mut self, index: ConnIndex, now: Stamp) {
        if let Some(at) = self.group_viewed(index) {
            return self.end_group(at, now);
        }
        let Some(conn) = self.conns.get_mut(index).filter(|conn| conn.state == State::Open) else { return };
        conn.state = State::Closing(now.after_millis(CLOSING_MS));
        conn.moving = None;
        self.leave(index, now);
        self.mark_conn(index);
        self.arm(index);
        if self.conns[index].socket.is_none() {
            self.forget(index);
        }
    }

    /// Ends the connection without another word.
    pub(super) fn drop_conn(&mut self, now: Stamp, index: ConnIndex) {
        if let Some(at) = self.group_viewed(index) {
            return self.end_group(at, now);
        }
        let Some(conn) = self.conns.get_mut(index) else { return };
        conn.state = State::Gone;
        conn.moving = None;
        conn.wake();
        self.leave(index, now);
        if self.conns[index].socket.is_none() {
            self.forget(index);
        }
    }

    fn leave(&mut self, index: ConnIndex, now: Stamp) {
        self.close_pairs(index);
        self.close_port(index);
        self.leave_shared(index);
        self.close_tunnel(index);
        self.leave_group(index, now);
        self.publisher_left(index, now);
        self.stop_playing(index, now);
    }

    fn arm(&mut self, index: ConnIndex) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        let Some(deadline) = conn.next_deadline() else { return };
        if conn.armed.is_none_or(|armed| deadline < armed) {
            conn.armed = Some(deadline);
            self.timers.push(Reverse((deadline, index)));
        }
    }

    pub(super) fn rearm(&mut self, index: ConnIndex) {
        self.arm(index);
    }

    /// When [`Core::tick`] is needed next: for a connection's timer, or for viewers that wait for their next round.
    pub fn next_deadline(&self) -> Option<Stamp> {
        let timer = self.timers.peek().map(|Reverse((deadline, _))| *deadline);
        let paced = self.paced.front().map(|(due, _)| *due);
        timer.into_iter().chain(paced).chain(self.passes.next()).min()
    }

    /// Does what is due: timers of connections, and ten times a second a look at streams and blocked viewers.
    pub fn tick(&mut self, now: Stamp) {
        while let Some(Reverse((deadline, index))) = self.timers.peek().copied() {
            if deadline > now {
                break;
            }
            self.timers.pop();
            // Timers are not taken back: this one may belong to an earlier connection or have been moved.
            if self.conns.get(index).is_some_and(|conn| conn.armed == Some(deadline)) {
                self.conns[index].armed = None;
                self.deadline_passed(index, now);
                self.arm(index);
            }
        }
        while let Some((due, index)) = self.paced.front().copied()
            && due <= now
        {
            self.paced.pop_front();
            self.mark_conn(index);
        }
        self.begin_pass(now);
        if now.millis_since(self.swept) >= SWEEP_MS {
            self.swept = now;
            self.sweep_streams(now);
            self.sweep_segments(now);
            self.sweep_blocked(now);
            self.tell_strays(now);
        }
        self.settle_answers(now);
    }

    fn deadline_passed(&mut self, index: ConnIndex, now: Stamp) {
        let conn = &self.conns[index];
        match conn.state {
            State::Closing(until) | State::Finished(until) if until <= now => self.drop_conn(now, index),
            State::Open => {
                if matches!(&conn.playing, Playing::Waiting { until, .. } | Playing::Describing { until, .. } if *until <= now) {
                    self.give_up_waiting(index);
                }
                if matches!(&self.conns[index].playing, Playing::Fetching { until, .. } if *until <= now) {
                    self.give_up_fetching(index);
                }
                let session = self.conns.get(index).and_then(|conn| conn.session.as_ref());
                if session.and_then(|session| session.next_timeout()).is_some_and(|at| at <= now) {
                    self.drive(index, now, Input::Timeout);
                }
            }
            _ => {}
        }
    }

    fn sweep_blocked(&mut self, now: Stamp) {
        let stall_ms_max = self.config.viewer.stall_ms_max;
        let stalled = self.conns.iter().filter(|(_, conn)| conn.out.stalled_ms(now) > stall_ms_max);
        let late: Vec<ConnIndex> = stalled.map(|(index, _)| index).collect();
        for index in late {
            let conn = &self.conns[index];
            log::info!("{} {}: took nothing for {stall_ms_max} ms, closed", conn.label(), conn.peer_text());
            *self.counters.session_errors.entry((conn.label(), "stalled")).or_default() += 1;
            // It takes nothing, so no goodbye would reach it.
            self.drop_conn(now, index);
        }
    }
}
