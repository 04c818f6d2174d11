//! Feeds a [`Core`] from sockets, channels and the clock, on one thread.
//!
//! Tasks of a shard: one per listener, one per connection (it reads, and waits for writability when the kernel is full), one per
//! inbox and lane, one timer, and one that flushes. The flush task runs after the tasks that were ready before it, so that one pass
//! sends everything that has arrived in a turn.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustc_hash::FxHashMap;
use rustls::ServerConfig;

use super::conn::Socket;
use super::core::{Core, OpenedGroup, OpenedPair, OpenedPort, OpenedShared, Ports};
use super::message::{Batch, Command, Handoff, Message, Receiving, Report, ShardId, ShardSnapshot};
use super::ports::TcpPorts;
use super::shared_ports::{self, SharedPorts};
use super::udp::{GroupPorts, UdpPorts, tcp_pool};
use crate::config::Config;
use crate::disk::Orders;
use crate::format::MuxerContext;
use crate::hub::Directory;
use crate::hub::fanout::ConnIndex;
use crate::hub::outgoing::Sent;
use crate::io::tls::TlsConn;
use crate::io::udp::{Receiver, SendWay};
use crate::io::{self as rt, Backend, Listener, Tcp, clock, socket};
use crate::media::Stamp;
use crate::protocol::common::auth::Authority;
use crate::protocol::record::DiskOrder;
use crate::protocol::{PROTOCOLS, Protocol, SessionContext};
use crate::session::{PairId, Refusal, Session};

/// Bytes per read; the buffer is one per shard, so an idle connection has none.
const READ_BYTES: usize = 64 * 1024;
/// Reads per connection and turn.
const READS_PER_TURN: usize = 4;
/// The timer task looks at least this often.
const TICK: Duration = Duration::from_millis(50);
/// How long accepting pauses when the process has no file descriptors left.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Everything a shard is made from; built by the main thread.
pub struct Parts {
    pub id: ShardId,
    pub config: Arc<Config>,
    pub directory: Arc<Directory>,
    pub authority: Arc<Authority>,
    pub backend: Backend,
    /// How datagrams are sent.
    pub send_way: SendWay,
    pub core_id: Option<usize>,
    pub listeners: Vec<Listening>,
    /// The port for many sessions.
    pub shared: Option<shared_ports::Sockets>,
    pub commands: flume::Receiver<Command>,
    pub inbox: flume::Receiver<Message>,
    /// Where the shards take messages, by shard.
    pub inboxes: Vec<flume::Sender<Message>>,
    /// Media to every shard; `None` for this one.
    pub lanes_out: Vec<Option<flume::Sender<Batch>>>,
    /// Media from every other shard.
    pub lanes_in: Vec<(ShardId, flume::Receiver<Batch>)>,
    pub heartbeats: Arc<[AtomicU64]>,
    pub reports: flume::Sender<Report>,
    pub disk: Orders,
}

/// One listener of a shard.
pub struct Listening {
    pub protocol: &'static Protocol,
    pub socket: OwnedFd,
    /// For connections over TLS.
    pub tls: Option<Arc<ServerConfig>>,
}

/// What the driver measures; the core copies it into its reports.
struct Gauges {
    backend: Backend,
    core_id: Option<usize>,
    stall_micros_max: Cell<u64>,
    stall_micros_recent: Cell<u64>,
    accept_pauses: Cell<u64>,
    /// Panics contained outside sessions.
    panics: Cell<u64>,
}

/// The real world.
pub(super) struct NetPorts {
    inboxes: Vec<flume::Sender<Message>>,
    lanes: Vec<Option<flume::Sender<Batch>>>,
    reports: flume::Sender<Report>,
    /// `None`: the shard ends, and nothing more is recorded.
    disk: Option<Orders>,
    gauges: Rc<Gauges>,
    random: fastrand::Rng,
    udp: UdpPorts,
    tcp: TcpPorts,
    shared: SharedPorts,
    groups: GroupPorts,
    config: Arc<Config>,
    authority: Arc<Authority>,
    /// Connections over TLS.
    tls: FxHashMap<Socket, TlsConn>,
}

impl NetPorts {
    pub(super) fn shared(&mut self) -> &mut SharedPorts {
        &mut self.shared
    }

    fn new_session(&mut self, protocol: &Protocol, peer: SocketAddr, encrypted: bool, now: Stamp) -> Box<dyn Session> {
        let (config, authority) = (self.config.clone(), self.authority.clone());
        (protocol.session)(&SessionContext { config, peer, encrypted, authority, seed: self.random.u64(..) }, now)
    }
}

impl Ports for NetPorts {
    fn now(&self) -> Stamp {
        clock::now()
    }

    fn send(&mut self, socket: Socket, slices: &[IoSlice<'_>]) -> io::Result<Sent> {
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        let Some(tls) = self.tls.get_mut(&socket) else {
            let count = socket::send(socket, slices)?;
            return Ok(Sent { count, full: count < wanted });
        };
        if !flush_tls(socket, tls)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = tls.encrypt(slices)?;
        let empty = flush_tls(socket, tls)?;
        Ok(Sent { count, full: count < wanted || !empty })
    }

    fn finish(&mut self, socket: Socket) {
        if let Some(tls) = self.tls.get_mut(&socket) {
            tls.close();
            // Who takes no goodbye does without.
            drop(flush_tls(socket, tls));
        }
        socket::finish(socket);
    }

    fn open_pair(&mut self, socket: Option<Socket>, index: ConnIndex, pair: PairId) -> Option<OpenedPair> {
        let Some(socket) = socket else {
            return self.udp.open_own(self.config.datagrams().address, index, pair);
        };
        match socket::local_address(socket) {
            Ok(local) => self.udp.open(local.ip(), index, pair),
            Err(error) => {
                log::debug!("a connection without a local address: {error}");
                None
            }
        }
    }

    fn close_pair(&mut self, handle: usize) {
        self.udp.close(handle);
    }

    fn open_port(&mut self, index: ConnIndex) -> Option<OpenedPort> {
        self.tcp.open(index)
    }

    fn close_port(&mut self, handle: usize) {
        self.tcp.close(handle);
    }

    fn shared_port(&self) -> Option<OpenedShared> {
        self.shared.opened()
    }

    fn close_shared(&mut self, handle: usize) {
        self.shared.close(handle);
    }

    fn await_peer(&mut self, index: ConnIndex) -> Option<OpenedPort> {
        self.tcp.await_peer(index)
    }

    fn open_group(&mut self) -> Option<OpenedGroup> {
        self.groups.open()
    }

    fn close_group(&mut self, handle: usize) {
        self.groups.close(handle);
    }

    fn session(&mut self, protocol: &'static str, peer: SocketAddr, now: Stamp) -> Option<Box<dyn Session>> {
        let protocol = PROTOCOLS.iter().find(|known| known.name == protocol)?;
        Some(self.new_session(protocol, peer, false, now))
    }

    fn send_datagrams(&mut self, socket: Socket, to: SocketAddr, bytes: &[u8], datagram_bytes: u16) -> io::Result<usize> {
        self.udp.send(socket, to, bytes, datagram_bytes)
    }

    fn post(&mut self, to: ShardId, message: Message) {
        if self.inboxes[usize::from(to)].try_send(message).is_err() {
            log::warn!("the inbox of shard {to} is full, a message is lost");
        }
    }

    fn lane(&mut self, to: ShardId, batch: Batch) -> bool {
        self.lanes[usize::from(to)].as_ref().is_some_and(|lane| lane.try_send(batch).is_ok())
    }

    fn report(&mut self, report: Report) -> bool {
        self.reports.try_send(report).is_ok()
    }

    fn disk(&mut self, order: DiskOrder) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.give(order))
    }

    fn muxer_context(&mut self) -> MuxerContext {
        MuxerContext { epoch_nanos: clock::epoch_nanos(), seed: self.random.u64(..) }
    }

    fn complete(&self, snapshot: &mut ShardSnapshot) {
        snapshot.runtime = self.gauges.backend.name();
        snapshot.core = self.gauges.core_id;
        snapshot.cpu_micros = clock::thread_cpu().as_micros() as u64;
        snapshot.stall_micros_max = self.gauges.stall_micros_max.get();
        snapshot.stall_micros_max_recent = self.gauges.stall_micros_recent.replace(0);
        snapshot.accept_pauses = self.gauges.accept_pauses.get();
        snapshot.panics += self.gauges.panics.get();
    }
}

/// Gives the kernel the cipher text that waits; `false`: it did not take all.
fn flush_tls(socket: Socket, tls: &mut TlsConn) -> io::Result<bool> {
    while !tls.unsent().is_empty() {
        match socket::send(socket, &[IoSlice::new(tls.unsent())]) {
            Ok(count) => tls.sent(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

pub struct Driver {
    core: RefCell<Core<NetPorts>>,
    gauges: Rc<Gauges>,
    flush_waker: RefCell<Option<Waker>>,
    timer_waker: RefCell<Option<Waker>>,
    /// When the timer task wakes by itself; [`Stamp::ZERO`]: it is awake, or has been woken.
    timer_until: Cell<Stamp>,
    pub(super) buffer: RefCell<Vec<u8>>,
    /// Plain text of what has just been read over TLS.
    plain: RefCell<Vec<u8>>,
    pub(super) receiver: RefCell<Receiver>,
}

/// Runs a shard to its end, on the calling thread.
pub fn run(parts: Parts) -> io::Result<()> {
    let gauges = Rc::new(Gauges {
        backend: parts.backend,
        core_id: parts.core_id,
        stall_micros_max: Cell::new(0),
        stall_micros_recent: Cell::new(0),
        accept_pauses: Cell::new(0),
        panics: Cell::new(0),
    });
    let shards = parts.inboxes.len() as ShardId;
    let mut random = fastrand::Rng::new();
    let (inboxes, lanes, reports, disk) = (parts.inboxes, parts.lanes_out, parts.reports, parts.disk);
    let (config, directory) = (parts.config, parts.directory);
    let driver = Rc::new_cyclic(|driver: &Weak<Driver>| {
        let (datagrams, shard) = (config.datagrams(), (parts.id, shards));
        let udp = UdpPorts::new(driver.clone(), datagrams, parts.send_way, shard, &mut random);
        let tcp_pool = datagrams.own_tcp_ports.map_or_else(|| udp.own_pool(), |range| tcp_pool(range, shard, &mut random));
        let tcp = TcpPorts::new(driver.clone(), tcp_pool, datagrams.address);
        let groups = GroupPorts::new(config.datagrams().multicast, (parts.id, shards));
        let ports = NetPorts {
            inboxes,
            lanes,
            reports,
            disk: Some(disk),
            gauges: gauges.clone(),
            random,
            udp,
            tcp,
            shared: SharedPorts::default(),
            groups,
            config: config.clone(),
            authority: parts.authority,
            tls: FxHashMap::default(),
        };
        Driver {
            core: RefCell::new(Core::new(parts.id, shards, config, directory, ports)),
            gauges,
            flush_waker: RefCell::new(None),
            timer_waker: RefCell::new(None),
            timer_until: Cell::new(Stamp::ZERO),
            buffer: RefCell::new(vec![0; READ_BYTES]),
            plain: RefCell::new(Vec::new()),
            receiver: RefCell::new(Receiver::new()),
        }
    });
    rt::run(parts.backend, &format!("shard-{}", parts.id), parts.core_id, || async move {
        for Listening { protocol, socket, tls } in parts.listeners {
            match Listener::new(socket) {
                Ok(listener) => rt::spawn(accept_loop(driver.clone(), protocol, tls, listener)),
                Err(error) => log::error!("{}: cannot listen: {error}", protocol.name),
            }
        }
        if let Some(Err(error)) = parts.shared.map(|sockets| shared_ports::serve(&driver, sockets)) {
            log::error!("the shared port cannot be served: {error}");
        }
        rt::spawn(command_loop(driver.clone(), parts.commands));
        rt::spawn(inbox_loop(driver.clone(), parts.inbox));
        for (from, lane) in parts.lanes_in {
            rt::spawn(lane_loop(driver.clone(), from, lane));
        }
        rt::spawn(flush_loop(driver.clone()));
        timer_loop(driver, &parts.heartbeats[usize::from(parts.id)]).await;
    })
}

impl Driver {
    /// Gives the core an input, and wakes the tasks for which that made work.
    pub(super) fn with<T>(&self, call: impl FnOnce(&mut Core<NetPorts>, Stamp) -> T) -> T {
        let mut core = self.core.borrow_mut();
        let result = call(&mut core, clock::now());
        if core.wants_flush()
            && let Some(waker) = self.flush_waker.borrow_mut().take()
        {
            waker.wake();
        }
        self.wake_timer(&core);
        result
    }

    /// Wakes the timer task if something is due before it would wake by itself.
    fn wake_timer(&self, core: &Core<NetPorts>) {
        if core.next_deadline().is_some_and(|deadline| deadline < self.timer_until.get()) {
            self.timer_until.set(Stamp::ZERO);
            if let Some(waker) = self.timer_waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }

    /// Sleeps until `until`, or until [`Driver::wake_timer`] finds that to be too late.
    async fn sleep_until(&self, until: Stamp, duration: Duration) {
        self.timer_until.set(until);
        let woken = poll_fn(|cx| {
            if self.timer_until.get() == Stamp::ZERO {
                return Poll::Ready(());
            }
            *self.timer_waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        });
        futures_lite::future::or(woken, rt::sleep(duration)).await;
        self.timer_until.set(Stamp::ZERO);
    }
}

impl Driver {
    /// The kernel has taken cipher text of a blocked connection.
    fn sent_tls(&self, index: ConnIndex, socket: Socket, count: usize) {
        let mut core = self.core.borrow_mut();
        if let Some(tls) = core.ports.tls.get_mut(&socket) {
            tls.sent(count);
        }
        core.took(clock::now(), index);
    }
}

/// Runs one step of a task that the shard cannot do without. A panic in it is our fault; it is counted and logged, and the task lives
/// on, because a shard that no longer flushes or keeps time would be dead for all its streams.
fn contained(driver: &Driver, step: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(step)).is_err() {
        driver.gauges.panics.set(driver.gauges.panics.get() + 1);
        log::error!("a step of the shard panicked; it goes on");
    }
}

async fn accept_loop(driver: Rc<Driver>, protocol: &'static Protocol, tls: Option<Arc<ServerConfig>>, listener: Listener) {
    // A pause is said once, not five times a second.
    let mut paused = false;
    loop {
        match listener.accept().await {
            Ok((tcp, peer)) => {
                paused = false;
                if driver.core.borrow().draining() {
                    return;
                }
                contained(&driver, || accepted(&driver, protocol, tls.as_ref(), tcp, peer));
            }
            Err(error) if is_exhausted(&error) => {
                driver.gauges.accept_pauses.set(driver.gauges.accept_pauses.get() + 1);
                if !std::mem::replace(&mut paused, true) {
                    log::warn!("{}: accepting pauses: {error}", protocol.name);
                }
                rt::sleep(ACCEPT_PAUSE).await;
            }
            // The peer was gone before it was accepted.
            Err(error) => log::debug!("{}: accept: {error}", protocol.name),
        }
    }
}

fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

fn accepted(driver: &Rc<Driver>, protocol: &'static Protocol, tls: Option<&Arc<ServerConfig>>, tcp: Tcp, peer: SocketAddr) {
    let socket = tcp.as_raw_fd();
    let tls = match tls.map(TlsConn::new).transpose() {
        Ok(tls) => tls,
        Err(error) => return log::error!("{}: TLS cannot begin: {error}", protocol.name),
    };
    let index = driver.with(|core, now| {
        let config = core.config().clone();
        if let Err(error) = socket::prepare(socket, config.viewer.kernel_unsent_bytes_max) {
            log::debug!("{} {peer}: {error}", protocol.name);
            return None;
        }
        let session = core.ports.new_session(protocol, peer, tls.is_some(), now);
        let index = core.accept(now, session, protocol.name, peer, socket)?;
        if let Some(tls) = tls {
            core.ports.tls.insert(socket, tls);
        }
        Some(index)
    });
    if let Some(index) = index {
        rt::spawn(connection(driver.clone(), index, tcp));
    }
}

/// Removes a connection from the table before its socket is closed, whichever way its task ends.
struct Registered {
    driver: Rc<Driver>,
    index: ConnIndex,
    tcp: Tcp,
}

impl Drop for Registered {
    fn drop(&mut self) {
        // During a panic inside the core the table cannot be changed; the shard is beyond help then.
        if let Ok(mut core) = self.driver.core.try_borrow_mut() {
            core.remove(clock::now(), self.index);
            core.ports.tls.remove(&self.tcp.as_raw_fd());
        }
    }
}

/// Somebody has connected to the port of a session that waited for that: the connection is its own.
pub(super) fn peer_connected(driver: &Rc<Driver>, index: ConnIndex, tcp: Tcp, peer: SocketAddr) {
    let socket = tcp.as_raw_fd();
    let is_taken = driver.with(|core, now| {
        if let Err(error) = socket::prepare(socket, core.config().viewer.kernel_unsent_bytes_max) {
            log::debug!("{peer}: {error}");
        }
        core.peer_connected(now, index, peer, socket)
    });
    if is_taken {
        rt::spawn(connection(driver.clone(), index, tcp));
    }
}

async fn connection(driver: Rc<Driver>, index: ConnIndex, tcp: Tcp) {
    let mut registered = Registered { driver, index, tcp };
    poll_fn(|cx| poll_connection(&mut registered, cx)).await;
}

fn poll_connection(registered: &mut Registered, cx: &mut Context<'_>) -> Poll<()> {
    let Registered { driver, index, tcp } = registered;
    let (driver, index) = (&*driver, *index);
    driver.core.borrow_mut().set_waker(index, cx.waker());
    for _ in 0..READS_PER_TURN {
        let traveller = driver.core.borrow_mut().take_traveller(index);
        if let Some((to, connection)) = traveller {
            send_away(driver, tcp, to, connection);
            return Poll::Ready(());
        }
        if driver.core.borrow().is_gone(index) {
            return Poll::Ready(());
        }
        poll_blocked(driver, index, tcp, cx);
        let mut buffer = driver.buffer.borrow_mut();
        match tcp.poll_read(cx, &mut buffer) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(0)) => driver.with(|core, now| core.received_end(now, index)),
            Poll::Ready(Ok(count)) => received(driver, index, tcp.as_raw_fd(), &buffer[..count]),
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Poll::Ready(Err(error)) => driver.with(|core, now| core.failed(now, index, &error)),
        }
    }
    // Others first; there may be more to read.
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// Bytes have come on a connection, in plain or over TLS.
fn received(driver: &Driver, index: ConnIndex, socket: Socket, bytes: &[u8]) {
    driver.with(|core, now| {
        let Some(tls) = core.ports.tls.get_mut(&socket) else {
            return core.received(now, index, bytes);
        };
        let mut plain = driver.plain.borrow_mut();
        plain.clear();
        let result = tls.received(bytes, &mut plain);
        match flush_tls(socket, tls) {
            Ok(true) => {}
            Ok(false) => core.block(now, index),
            Err(error) => return core.failed(now, index, &error),
        }
        if !plain.is_empty() {
            core.received(now, index, &plain);
        }
        match result {
            Ok(true) => {}
            Ok(false) => core.received_end(now, index),
            Err(error) => core.tls_failed(now, index, &error),
        }
    });
}

/// While the kernel takes nothing, lets the runtime watch the socket by offering it the first slice.
fn poll_blocked(driver: &Driver, index: ConnIndex, tcp: &mut Tcp, cx: &mut Context<'_>) {
    loop {
        let core = driver.core.borrow();
        if !core.is_blocked(index) {
            return;
        }
        if let Some(tls) = core.ports.tls.get(&tcp.as_raw_fd()) {
            if tls.unsent().is_empty() {
                drop(core);
                driver.with(|core, now| core.wrote(now, index, 0));
                continue;
            }
            let result = tcp.poll_write(cx, tls.unsent());
            drop(core);
            match result {
                Poll::Pending => return,
                Poll::Ready(Ok(count)) => driver.sent_tls(index, tcp.as_raw_fd(), count),
                Poll::Ready(Err(error)) => return driver.with(|core, now| core.failed(now, index, &error)),
            }
            continue;
        }
        let Some(front) = core.front(index) else {
            // What it was blocked on is gone (it skipped): try again with what comes next.
            drop(core);
            return driver.with(|core, now| core.wrote(now, index, 0));
        };
        let result = tcp.poll_write(cx, front);
        drop(core);
        match result {
            Poll::Pending => return,
            Poll::Ready(Ok(count)) => driver.with(|core, now| core.wrote(now, index, count)),
            Poll::Ready(Err(error)) => return driver.with(|core, now| core.failed(now, index, &error)),
        }
    }
}

fn send_away(driver: &Driver, tcp: &Tcp, to: ShardId, connection: super::message::Traveller) {
    match socket::duplicate(tcp) {
        Ok(socket) => {
            let tls = driver.core.borrow_mut().ports.tls.remove(&tcp.as_raw_fd());
            let handoff = Box::new(Handoff { socket, tls, connection });
            driver.core.borrow_mut().ports.post(to, Message::Adopt(handoff));
        }
        Err(error) => log::warn!("a connection cannot move to shard {to}: {error}"),
    }
}

fn adopt(driver: &Rc<Driver>, handoff: Handoff) {
    match Tcp::new(handoff.socket) {
        Ok(tcp) => {
            let socket = tcp.as_raw_fd();
            let index = driver.with(|core, now| {
                let waits = handoff.tls.as_ref().is_some_and(|tls| !tls.unsent().is_empty());
                if let Some(tls) = handoff.tls {
                    core.ports.tls.insert(socket, tls);
                }
                let index = core.adopt(now, handoff.connection, socket);
                if waits {
                    // Its task sends that before anything else.
                    core.block(now, index);
                }
                index
            });
            rt::spawn(connection(driver.clone(), index, tcp));
        }
        Err(error) => log::warn!("a connection cannot be taken over: {error}"),
    }
}

/// Starts a session on a connection that the control plane has made.
fn begin(driver: &Rc<Driver>, socket: OwnedFd, session: Box<dyn Session>, protocol: &'static str, peer: SocketAddr) -> Receiving {
    let prepared = Tcp::new(socket).and_then(|tcp| {
        let unsent_bytes_max = driver.core.borrow().config().viewer.kernel_unsent_bytes_max;
        socket::prepare(tcp.as_raw_fd(), unsent_bytes_max)?;
        Ok(tcp)
    });
    match prepared {
        Ok(tcp) => {
            let (receiving, index) = driver.with(|core, now| core.begin(now, session, protocol, peer, tcp.as_raw_fd()));
            if let Some(index) = index {
                rt::spawn(connection(driver.clone(), index, tcp));
            }
            receiving
        }
        Err(error) => {
            log::warn!("{protocol} {peer}: a connection cannot be taken: {error}");
            Receiving::Refused(Refusal::LimitReached)
        }
    }
}

async fn command_loop(driver: Rc<Driver>, commands: flume::Receiver<Command>) {
    while let Ok(command) = commands.recv_async().await {
        contained(&driver, || match command {
            Command::Adopt { socket, session, protocol, peer, reply } => {
                // A reply that nobody waits for any more is no fault.
                let _ = reply.try_send(begin(&driver, socket, session, protocol, peer));
            }
            other => driver.with(|core, now| core.command(now, other)),
        });
    }
}

async fn inbox_loop(driver: Rc<Driver>, inbox: flume::Receiver<Message>) {
    while let Ok(message) = inbox.recv_async().await {
        contained(&driver, || match message {
            Message::Adopt(handoff) => adopt(&driver, *handoff),
            other => driver.with(|core, now| core.message(now, other)),
        });
    }
}

async fn lane_loop(driver: Rc<Driver>, from: ShardId, lane: flume::Receiver<Batch>) {
    while let Ok(batch) = lane.recv_async().await {
        contained(&driver, || driver.with(|core, now| core.batch(now, from, &batch)));
    }
}

async fn flush_loop(driver: Rc<Driver>) {
    loop {
        poll_fn(|cx| {
            if driver.core.borrow().wants_flush() {
                return Poll::Ready(());
            }
            *driver.flush_waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        if driver.core.borrow().in_rounds() {
            // What has come during the last turn goes out with the rest of the round.
            rt::look_around().await;
        } else {
            // Whoever is ready now has its turn before the bytes go out.
            futures_lite::future::yield_now().await;
        }
        contained(&driver, || {
            let mut core = driver.core.borrow_mut();
            core.flush(clock::now());
            driver.wake_timer(&core);
        });
    }
}

/// The shard's timer; ends when the shard is to end.
async fn timer_loop(driver: Rc<Driver>, heartbeat: &AtomicU64) {
    let mut drain_until: Option<Stamp> = None;
    loop {
        let now = clock::now();
        let due = driver.core.borrow().next_deadline().map_or(TICK, |deadline| deadline.since(now).min(TICK));
        driver.sleep_until(now.after(due), due).await;
        let woken = clock::now();
        measure_stall(&driver.gauges, woken.since(now).saturating_sub(due));
        heartbeat.store(woken.as_nanos() / 1_000_000, Ordering::Relaxed);
        contained(&driver, || driver.with(|core, now| core.tick(now)));
        let core = driver.core.borrow();
        if core.draining() {
            let until = *drain_until.get_or_insert(woken.after_millis(core.config().server.drain_ms));
            if core.drained() || woken >= until {
                drop(core);
                contained(&driver, || driver.with(|core, _| core.finish_recorders()));
                // A runtime may keep the driver: the disk must know that nothing more comes.
                driver.core.borrow_mut().ports.disk = None;
                return;
            }
        }
    }
}

fn measure_stall(gauges: &Gauges, late: Duration) {
    let micros = late.as_micros() as u64;
    gauges.stall_micros_max.set(gauges.stall_micros_max.get().max(micros));
    gauges.stall_micros_recent.set(gauges.stall_micros_recent.get().max(micros));
}
