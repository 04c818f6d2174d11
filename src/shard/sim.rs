//! Shards in a simulated world, for tests: a virtual clock, sockets that take as much as a test allows, and lanes of any depth.
//!
//! Each shard is the real [`Core`]; only [`Ports`] is made up. Nothing here depends on real time or on chance, so a failure repeats.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::conn::Socket;
use super::core::{Core, Datagram, OpenedGroup, OpenedPair, OpenedPort, OpenedShared, Ports};
use super::message::{Batch, Command, Message, Receiving, Report, ShardId, ShardSnapshot};
use crate::config::Config;
use crate::format::MuxerContext;
use crate::hub::Directory;
use crate::hub::fanout::ConnIndex;
use crate::hub::outgoing::Sent;
use crate::media::Stamp;
use crate::protocol::record::DiskOrder;
use crate::session::{Group, PairId, Session};

/// The group that the world has, and the socket that sends to it.
pub const GROUP_ADDRESS: Ipv4Addr = Ipv4Addr::new(239, 0, 0, 1);
pub const GROUP_SOCKET: Socket = 19_999;
const GROUPS_MAX: usize = 1;

/// One end of a simulated connection.
#[derive(Default)]
pub struct Wire {
    /// What the server sent.
    pub received: Vec<u8>,
    /// What the peer's window still takes; `None`: everything.
    pub window: Option<usize>,
    pub finished: bool,
    /// The network is gone: every send fails.
    pub broken: bool,
}

#[derive(Default)]
struct Net {
    /// Sessions that wait for somebody to connect.
    awaiting: Vec<ConnIndex>,
    wires: HashMap<Socket, Wire>,
    inboxes: HashMap<ShardId, VecDeque<Message>>,
    /// So many messages find a full inbox.
    messages_lost: usize,
    lanes: HashMap<(ShardId, ShardId), VecDeque<Batch>>,
    lane_batches_max: usize,
    pairs_opened: usize,
    open_pairs: HashSet<usize>,
    ports_opened: usize,
    open_ports: HashSet<usize>,
    /// What the server sent from its UDP ports: from, to, content.
    datagrams: Vec<(Socket, SocketAddr, Vec<u8>)>,
    groups_open: usize,
    /// So many sends find a full buffer.
    datagrams_fail: usize,
    /// How many datagrams the buffer takes of one send; `None`: all.
    datagrams_fit: Option<usize>,
    /// Every send of datagrams fails.
    datagrams_refused: bool,
    /// What the shards have told the control plane, and how much of that it takes.
    reports: Vec<(ShardId, Report)>,
    reports_max: usize,
    /// What the shards have ordered from the disk, and whether it takes more.
    orders: Vec<DiskOrder>,
    disk_stands: bool,
    /// Connections to shared ports that the server has closed.
    shared_closed: Vec<usize>,
    /// How long each send on a connection takes, and how many there were.
    send_takes: Duration,
    sends: usize,
    clock_reads: usize,
}

pub struct SimPorts {
    id: ShardId,
    shared_port: Option<u16>,
    now: Rc<Cell<Stamp>>,
    net: Rc<RefCell<Net>>,
}

impl Ports for SimPorts {
    fn now(&self) -> Stamp {
        self.net.borrow_mut().clock_reads += 1;
        self.now.get()
    }

    fn send(&mut self, socket: Socket, slices: &[IoSlice<'_>]) -> io::Result<Sent> {
        let mut net = self.net.borrow_mut();
        self.now.set(self.now.get().after(net.send_takes));
        net.sends += 1;
        let wire = net.wires.get_mut(&socket).expect("a socket is known while its connection lives");
        if wire.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let (mut sent, mut full) = (0, false);
        for slice in slices {
            let take = slice.len().min(wire.window.unwrap_or(usize::MAX));
            wire.received.extend_from_slice(&slice[..take]);
            wire.window = wire.window.map(|window| window - take);
            sent += take;
            full = take < slice.len();
            if full {
                break;
            }
        }
        if sent == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(Sent { count: sent, full }) }
    }

    fn finish(&mut self, socket: Socket) {
        self.net.borrow_mut().wires.get_mut(&socket).expect("a known socket").finished = true;
    }

    fn open_pair(&mut self, _socket: Option<Socket>, _index: ConnIndex, _pair: PairId) -> Option<OpenedPair> {
        let mut net = self.net.borrow_mut();
        let port = 20_000 + 2 * u16::try_from(net.pairs_opened).expect("tests open few ports");
        net.pairs_opened += 1;
        let handle = usize::from(port);
        net.open_pairs.insert(handle);
        Some(OpenedPair { port, handle, rtp: Socket::from(port), rtcp: Socket::from(port + 1) })
    }

    fn close_pair(&mut self, handle: usize) {
        assert!(self.net.borrow_mut().open_pairs.remove(&handle), "a pair is closed once");
    }

    fn open_port(&mut self, _index: ConnIndex) -> Option<OpenedPort> {
        let mut net = self.net.borrow_mut();
        net.ports_opened += 1;
        let port = 40_000 + u16::try_from(net.ports_opened).expect("tests open few ports");
        net.open_ports.insert(port.into());
        Some(OpenedPort { port, handle: port.into() })
    }

    fn await_peer(&mut self, index: ConnIndex) -> Option<OpenedPort> {
        self.net.borrow_mut().awaiting.push(index);
        self.open_port(index)
    }

    fn close_port(&mut self, handle: usize) {
        assert!(self.net.borrow_mut().open_ports.remove(&handle), "a port is closed once");
    }

    fn shared_port(&self) -> Option<OpenedShared> {
        let port = self.shared_port? + 2 * self.id;
        Some(OpenedShared { port, rtp: Socket::from(port), rtcp: Socket::from(port + 1) })
    }

    fn close_shared(&mut self, handle: usize) {
        self.net.borrow_mut().shared_closed.push(handle);
    }

    fn open_group(&mut self) -> Option<OpenedGroup> {
        let mut net = self.net.borrow_mut();
        if net.groups_open == GROUPS_MAX {
            return None;
        }
        net.groups_open += 1;
        let group = Group { address: GROUP_ADDRESS.into(), ttl: 16, video_port: 5004, audio_port: 5006 };
        Some(OpenedGroup { group, handle: 0, socket: GROUP_SOCKET })
    }

    fn close_group(&mut self, _handle: usize) {
        self.net.borrow_mut().groups_open -= 1;
    }

    fn session(&mut self, _protocol: &'static str, _peer: SocketAddr, _now: Stamp) -> Option<Box<dyn Session>> {
        None
    }

    fn send_datagrams(&mut self, socket: Socket, to: SocketAddr, bytes: &[u8], datagram_bytes: u16) -> io::Result<usize> {
        let mut net = self.net.borrow_mut();
        if net.datagrams_fail > 0 {
            net.datagrams_fail -= 1;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if net.datagrams_refused {
            return Err(io::ErrorKind::HostUnreachable.into());
        }
        let fit = net.datagrams_fit.unwrap_or(usize::MAX);
        let sent = bytes.chunks(usize::from(datagram_bytes)).take(fit).map(|datagram| (socket, to, datagram.to_vec()));
        let before = net.datagrams.len();
        net.datagrams.extend(sent);
        Ok(net.datagrams.len() - before)
    }

    fn post(&mut self, to: ShardId, message: Message) {
        let mut net = self.net.borrow_mut();
        if net.messages_lost > 0 {
            net.messages_lost -= 1;
            return;
        }
        net.inboxes.entry(to).or_default().push_back(message);
    }

    fn lane(&mut self, to: ShardId, batch: Batch) -> bool {
        let mut net = self.net.borrow_mut();
        let limit = net.lane_batches_max;
        let lane = net.lanes.entry((self.id, to)).or_default();
        let fits = lane.len() < limit;
        if fits {
            lane.push_back(batch);
        }
        fits
    }

    fn report(&mut self, report: Report) -> bool {
        let mut net = self.net.borrow_mut();
        let fits = net.reports.len() < net.reports_max;
        if fits {
            net.reports.push((self.id, report));
        }
        fits
    }

    fn disk(&mut self, order: DiskOrder) -> bool {
        let mut net = self.net.borrow_mut();
        let fits = !net.disk_stands || matches!(order.action, crate::protocol::record::Action::Finish);
        if fits {
            net.orders.push(order);
        }
        fits
    }

    fn muxer_context(&mut self) -> MuxerContext {
        MuxerContext::default()
    }

    fn complete(&self, _snapshot: &mut ShardSnapshot) {}
}

/// A connection in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub shard: usize,
    pub index: ConnIndex,
    pub socket: Socket,
}

pub struct World {
    pub shards: Vec<Core<SimPorts>>,
    now: Rc<Cell<Stamp>>,
    net: Rc<RefCell<Net>>,
    next_socket: Socket,
    peers: Vec<Peer>,
}

impl World {
    pub fn new(shards: usize, config: Config) -> Self {
        let now = Rc::new(Cell::new(Stamp::from_millis(1_000)));
        let net = Rc::new(RefCell::new(Net {
            lane_batches_max: config.limits.lane_batches_max,
            reports_max: usize::MAX,
            ..Net::default()
        }));
        let directory = Arc::new(Directory::default());
        let config = Arc::new(config);
        let make = |id: usize| {
            let shared_port = config.datagrams().shared_port;
            let ports = SimPorts { id: id as ShardId, shared_port, now: now.clone(), net: net.clone() };
            Core::new(id as ShardId, shards as ShardId, config.clone(), directory.clone(), ports)
        };
        World { shards: (0..shards).map(make).collect(), now: now.clone(), net: net.clone(), next_socket: 3, peers: Vec::new() }
    }

    pub fn now(&self) -> Stamp {
        self.now.get()
    }

    pub fn connect(&mut self, shard: usize, session: Box<dyn Session>) -> Peer {
        self.try_connect(shard, session).expect("the shard takes the connection")
    }

    pub fn try_connect(&mut self, shard: usize, session: Box<dyn Session>) -> Option<Peer> {
        let socket = self.next_socket;
        self.next_socket += 1;
        self.net.borrow_mut().wires.insert(socket, Wire::default());
        let address = SocketAddr::from(([127, 0, 0, 1], 10_000 + socket as u16));
        let index = self.shards[shard].accept(self.now.get(), session, "sim", address, socket)?;
        let peer = Peer { shard, index, socket };
        self.peers.push(peer);
        Some(peer)
    }

    /// A session on a connection that was made for it.
    pub fn adopt(&mut self, shard: usize, session: Box<dyn Session>) -> (Receiving, Option<Peer>) {
        let socket = self.next_socket;
        self.next_socket += 1;
        self.net.borrow_mut().wires.insert(socket, Wire::default());
        let address = SocketAddr::from(([127, 0, 0, 1], 10_000 + socket as u16));
        let (receiving, index) = self.shards[shard].begin(self.now.get(), session, "sim", address, socket);
        let peer = index.map(|index| Peer { shard, index, socket });
        self.peers.extend(peer);
        self.settle();
        (receiving, peer)
    }

    /// Somebody connects to the port of the session that waits for that since longest; `None`: none does.
    pub fn connect_to_port(&mut self, shard: usize) -> Option<Peer> {
        let socket = self.next_socket;
        self.next_socket += 1;
        let mut net = self.net.borrow_mut();
        if net.awaiting.is_empty() {
            return None;
        }
        let index = net.awaiting.remove(0);
        net.wires.insert(socket, Wire::default());
        drop(net);
        let peer = Peer { shard, index, socket };
        let address = SocketAddr::from(([127, 0, 0, 1], 10_000 + socket as u16));
        assert!(self.shards[shard].peer_connected(self.now.get(), index, address, socket));
        self.peers.push(peer);
        self.settle();
        Some(peer)
    }

    /// What the shards have told the control plane since the last call.
    pub fn take_reports(&mut self) -> Vec<(ShardId, Report)> {
        std::mem::take(&mut self.net.borrow_mut().reports)
    }

    /// What the shards have ordered from the disk since the last call.
    pub fn take_orders(&mut self) -> Vec<DiskOrder> {
        std::mem::take(&mut self.net.borrow_mut().orders)
    }

    /// From now on the disk takes nothing, or everything.
    pub fn set_disk_stands(&mut self, stands: bool) {
        self.net.borrow_mut().disk_stands = stands;
    }

    /// Differs from connection to connection.
    pub fn next_seed(&self) -> u64 {
        u64::from(self.next_socket.unsigned_abs())
    }

    /// The next `count` messages between shards are lost.
    pub fn lose_messages(&mut self, count: usize) {
        self.net.borrow_mut().messages_lost = count;
    }

    /// The connections to shared ports that the server has closed since the last call.
    pub fn take_shared_closed(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.net.borrow_mut().shared_closed)
    }

    /// How many reports the control plane takes.
    pub fn set_reports_max(&mut self, reports_max: usize) {
        self.net.borrow_mut().reports_max = reports_max;
    }

    /// From now on each send on a connection takes so long.
    pub fn set_send_takes(&mut self, duration: Duration) {
        self.net.borrow_mut().send_takes = duration;
    }

    /// How often the shards have sent on connections since the last call.
    pub fn take_sends(&mut self) -> usize {
        std::mem::take(&mut self.net.borrow_mut().sends)
    }

    /// How often the shards have read the clock since the last call.
    pub fn take_clock_reads(&mut self) -> usize {
        std::mem::take(&mut self.net.borrow_mut().clock_reads)
    }

    /// What the peer has received is forgotten, and there is room for so much more.
    pub fn make_room(&mut self, peer: Peer, bytes: usize) {
        let mut net = self.net.borrow_mut();
        let received = &mut net.wires.get_mut(&peer.socket).expect("a known socket").received;
        received.clear();
        received.reserve(bytes);
    }

    /// Bytes from the peer, and nothing else yet.
    pub fn receive(&mut self, peer: Peer, bytes: &[u8]) {
        let peer = self.find(peer.socket).expect("the connection lives");
        self.shards[peer.shard].received(self.now.get(), peer.index, bytes);
    }

    /// Bytes from the peer, then everything that follows from them.
    pub fn send(&mut self, peer: Peer, bytes: &[u8]) {
        let peer = self.find(peer.socket).expect("the connection lives");
        self.shards[peer.shard].received(self.now.get(), peer.index, bytes);
        self.settle();
    }

    /// The peer closes, or its machine dies.
    pub fn hang_up(&mut self, peer: Peer) {
        if let Some(peer) = self.find(peer.socket) {
            self.shards[peer.shard].received_end(self.now.get(), peer.index);
        }
        self.settle();
    }

    /// The network between server and peer goes: the next send fails.
    pub fn cut(&mut self, peer: Peer) {
        self.net.borrow_mut().wires.get_mut(&peer.socket).expect("a known socket").broken = true;
        self.retry(peer);
    }

    /// A blocked connection's socket has become writable, or has failed.
    fn retry(&mut self, peer: Peer) {
        if let Some(peer) = self.find(peer.socket)
            && self.shards[peer.shard].is_blocked(peer.index)
        {
            self.shards[peer.shard].wrote(self.now.get(), peer.index, 0);
        }
        self.settle();
    }

    /// Where the connection is now: it may have moved to another shard.
    pub fn find(&self, socket: Socket) -> Option<Peer> {
        self.peers.iter().find(|peer| peer.socket == socket).copied()
    }

    pub fn is_open(&self, peer: Peer) -> bool {
        self.find(peer.socket).is_some() && !self.net.borrow().wires[&peer.socket].finished
    }

    /// What the peer has received since the last call.
    pub fn take(&mut self, peer: Peer) -> Vec<u8> {
        std::mem::take(&mut self.net.borrow_mut().wires.get_mut(&peer.socket).expect("a known socket").received)
    }

    /// How much more the peer's window takes; `None`: no limit.
    pub fn set_window(&mut self, peer: Peer, window: Option<usize>) {
        self.net.borrow_mut().wires.get_mut(&peer.socket).expect("a known socket").window = window;
        self.retry(peer);
    }

    /// What came out of the server's UDP ports since the last call: from, to, content.
    pub fn take_datagrams(&mut self) -> Vec<(Socket, SocketAddr, Vec<u8>)> {
        std::mem::take(&mut self.net.borrow_mut().datagrams)
    }

    /// The next `count` sends of datagrams find a full buffer.
    pub fn fail_datagrams(&mut self, count: usize) {
        self.net.borrow_mut().datagrams_fail = count;
    }

    /// From now on a send of datagrams is cut after `fit`.
    pub fn cut_datagrams(&mut self, fit: Option<usize>) {
        self.net.borrow_mut().datagrams_fit = fit;
    }

    /// Nothing can be sent to where datagrams go.
    pub fn refuse_datagrams(&mut self, refused: bool) {
        self.net.borrow_mut().datagrams_refused = refused;
    }

    /// Pairs of UDP ports and TCP ports.
    pub fn open_ports(&self) -> usize {
        self.open_pairs() + self.net.borrow().open_ports.len()
    }

    pub fn open_pairs(&self) -> usize {
        self.net.borrow().open_pairs.len()
    }

    /// A datagram for a session's port, then everything that follows from it.
    pub fn send_datagram(&mut self, peer: Peer, datagram: Datagram<'_>) {
        let peer = self.find(peer.socket).expect("the connection lives");
        self.shards[peer.shard].datagram(self.now.get(), peer.index, datagram);
        self.settle();
    }

    /// Lets `ms` pass, a tick at a time.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now.get().after_millis(ms);
        while self.now.get() < end {
            self.now.set(self.now.get().after_millis(10).min(end));
            for shard in &mut self.shards {
                shard.tick(self.now.get());
            }
            self.settle();
        }
    }

    /// Lets `ms` pass at once: for long runs in which nothing depends on a timer in between.
    pub fn leap(&mut self, ms: u64) {
        self.now.set(self.now.get().after_millis(ms));
        for shard in &mut self.shards {
            shard.tick(self.now.get());
        }
        self.settle();
    }

    pub fn command(&mut self, shard: usize, command: Command) {
        self.shards[shard].command(self.now.get(), command);
        self.settle();
    }

    /// A message from elsewhere.
    pub fn tell(&mut self, shard: usize, message: Message) {
        self.shards[shard].message(self.now.get(), message);
        self.settle();
    }

    /// Delivers messages and media and flushes until nothing moves.
    pub fn settle(&mut self) {
        loop {
            let mut moved = self.deliver();
            for shard in 0..self.shards.len() {
                moved |= self.shards[shard].wants_flush();
                self.shards[shard].flush(self.now.get());
            }
            moved |= self.tend_connections();
            if !moved {
                return;
            }
        }
    }

    fn deliver(&mut self) -> bool {
        let mut moved = false;
        for to in 0..self.shards.len() {
            while let Some(message) = self.next_message(to) {
                moved = true;
                self.shards[to].message(self.now.get(), message);
            }
            for from in 0..self.shards.len() {
                while let Some(batch) = self.next_batch(from, to) {
                    moved = true;
                    self.shards[to].batch(self.now.get(), from as ShardId, &batch);
                }
            }
        }
        moved
    }

    fn next_message(&mut self, to: usize) -> Option<Message> {
        self.net.borrow_mut().inboxes.get_mut(&(to as ShardId))?.pop_front()
    }

    fn next_batch(&mut self, from: usize, to: usize) -> Option<Batch> {
        self.net.borrow_mut().lanes.get_mut(&(from as ShardId, to as ShardId))?.pop_front()
    }

    /// What the driver's connection tasks do: move, close.
    fn tend_connections(&mut self) -> bool {
        let mut moved = false;
        let mut at = 0;
        while at < self.peers.len() {
            let peer = self.peers[at];
            if let Some((to, traveller)) = self.shards[peer.shard].take_traveller(peer.index) {
                self.shards[peer.shard].remove(self.now.get(), peer.index);
                let shard = usize::from(to);
                let index = self.shards[shard].adopt(self.now.get(), traveller, peer.socket);
                self.peers[at] = Peer { shard, index, socket: peer.socket };
                moved = true;
            } else if self.shards[peer.shard].is_gone(peer.index) {
                self.shards[peer.shard].remove(self.now.get(), peer.index);
                self.peers.remove(at);
                moved = true;
                continue;
            }
            at += 1;
        }
        moved
    }
}
