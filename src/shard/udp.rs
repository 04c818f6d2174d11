//! The UDP ports of a shard: which are free, which sessions have them, and the tasks that read them.
//!
//! A shard has its own part of the configured range, so no two shards try the same port. Ports are given out in the order in which
//! they became free: what still arrives for an earlier session meets a closed port, not somebody else. A port is free again when
//! its sockets are closed. Another program may hold some of the range; those are stepped over.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};

use slab::Slab;

use super::core::{Datagram, OpenedGroup, OpenedPair};
use super::driver::Driver;
use super::message::ShardId;
use crate::config::{Datagrams, Multicast, PortRange};
use crate::hub::fanout::ConnIndex;
use crate::io::udp::{self, SendWay, Sender, Udp};
use crate::io::{self as rt};
use crate::session::{Group, PairId};

/// Ports tried for one pair before it is refused.
pub(super) const TRIES_MAX: usize = 256;
/// Reads of one socket before others have their turn; each takes many datagrams.
const READS_PER_TURN: usize = 4;

pub(super) type Pool = Rc<RefCell<VecDeque<u16>>>;

pub struct UdpPorts {
    driver: Weak<Driver>,
    /// Even ports whose pair is free, the longest free one first.
    pool: Pool,
    /// The same for sessions without a connection of their own.
    own: Pool,
    pairs: Slab<Rc<OpenPair>>,
    sender: Sender,
    receive_buffer_bytes: u32,
}

struct OpenPair {
    index: ConnIndex,
    id: PairId,
    port: u16,
    rtp: Socket,
    rtcp: Socket,
    /// The session has given it back: nothing more is read.
    closed: Cell<bool>,
    pool: Pool,
}

struct Socket {
    udp: Udp,
    waker: RefCell<Option<Waker>>,
    /// The kernel's total of datagrams that it had no room for, when last seen.
    kernel_drops: Cell<u32>,
}

impl Drop for OpenPair {
    fn drop(&mut self) {
        self.pool.borrow_mut().push_back(self.port);
    }
}

/// The even ports of a shard's part of the range that have a next one.
fn pairs(range: PortRange, shard: (ShardId, ShardId), random: &mut fastrand::Rng) -> VecDeque<u16> {
    part((range.first..range.last).filter(|port| port % 2 == 0), shard, random)
}

/// A shard's part of the ports, shuffled, so that servers that share a range seldom try the same.
fn part(ports: impl Iterator<Item = u16>, (id, shards): (ShardId, ShardId), random: &mut fastrand::Rng) -> VecDeque<u16> {
    let mut ports: Vec<u16> = ports.skip(usize::from(id)).step_by(usize::from(shards)).collect();
    random.shuffle(&mut ports);
    ports.into()
}

/// A shard's part of a range of TCP ports.
pub(super) fn tcp_pool(range: PortRange, shard: (ShardId, ShardId), random: &mut fastrand::Rng) -> Pool {
    Rc::new(RefCell::new(part(range.first..=range.last, shard, random)))
}

impl UdpPorts {
    pub fn new(
        driver: Weak<Driver>,
        config: Datagrams<'_>,
        way: SendWay,
        shard: (ShardId, ShardId),
        random: &mut fastrand::Rng,
    ) -> Self {
        let mut pool_of = |range| Rc::new(RefCell::new(pairs(range, shard, random)));
        let pool: Pool = pool_of(config.ports);
        let own = config.own_udp_ports.map_or_else(|| pool.clone(), pool_of);
        let receive_buffer_bytes = config.receive_buffer_bytes;
        UdpPorts { driver, pool, own, pairs: Slab::new(), sender: Sender::with(way), receive_buffer_bytes }
    }

    /// The ports for sessions without a connection of their own that are free, for whoever else takes of them.
    pub fn own_pool(&self) -> Pool {
        self.own.clone()
    }

    /// For a session whose connection has the address `local`.
    pub fn open(&mut self, local: IpAddr, index: ConnIndex, id: PairId) -> Option<OpenedPair> {
        self.open_of(self.pool.clone(), local, index, id)
    }

    /// For a session without a connection of its own.
    pub fn open_own(&mut self, local: IpAddr, index: ConnIndex, id: PairId) -> Option<OpenedPair> {
        self.open_of(self.own.clone(), local, index, id)
    }

    fn open_of(&mut self, pool: Pool, local: IpAddr, index: ConnIndex, id: PairId) -> Option<OpenedPair> {
        let tries = pool.borrow().len().min(TRIES_MAX);
        for _ in 0..tries {
            let port = pool.borrow_mut().pop_front()?;
            match self.bind(&pool, local, port, index, id) {
                Ok(pair) => {
                    let (rtp, rtcp) = (pair.rtp.udp.as_raw_fd(), pair.rtcp.udp.as_raw_fd());
                    self.read(&pair);
                    return Some(OpenedPair { port, handle: self.pairs.insert(pair), rtp, rtcp });
                }
                Err(error) => {
                    pool.borrow_mut().push_back(port);
                    if error.kind() != io::ErrorKind::AddrInUse {
                        log::warn!("UDP port {port} at {local}: {error}");
                        return None;
                    }
                }
            }
        }
        None
    }

    fn bind(&self, pool: &Pool, local: IpAddr, port: u16, index: ConnIndex, id: PairId) -> io::Result<Rc<OpenPair>> {
        let pair = udp::bind_pair(local, port, self.receive_buffer_bytes)?;
        udp::warn_if_capped(self.receive_buffer_bytes, pair.receive_buffer_bytes_granted);
        let socket = |fd| Udp::new(fd).map(|udp| Socket { udp, waker: RefCell::new(None), kernel_drops: Cell::new(0) });
        let (rtp, rtcp) = (socket(pair.rtp)?, socket(pair.rtcp)?);
        Ok(Rc::new(OpenPair { index, id, port, rtp, rtcp, closed: Cell::new(false), pool: pool.clone() }))
    }

    fn read(&self, pair: &Rc<OpenPair>) {
        // Without a driver the shard is ending.
        let Some(driver) = self.driver.upgrade() else { return };
        rt::spawn(reader(driver.clone(), pair.clone(), false));
        rt::spawn(reader(driver, pair.clone(), true));
    }

    pub fn close(&mut self, handle: usize) {
        let pair = self.pairs.remove(handle);
        pair.closed.set(true);
        for socket in [&pair.rtp, &pair.rtcp] {
            if let Some(waker) = socket.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }

    pub fn send(&mut self, socket: i32, to: SocketAddr, bytes: &[u8], datagram_bytes: u16) -> io::Result<usize> {
        self.sender.send_train(socket, &to, bytes, datagram_bytes)
    }
}

/// The multicast groups of a shard's part of the configured addresses. Each has four ports of its own too: a receiver that listens to
/// a port on any address would get every group that uses it.
pub struct GroupPorts {
    /// Numbers of the groups that are free.
    free: VecDeque<u16>,
    sockets: Slab<(u16, OwnedFd)>,
    config: Multicast,
}

impl GroupPorts {
    pub fn new(config: &Multicast, (id, shards): (ShardId, ShardId)) -> Self {
        let free = (0..config.addresses).skip(usize::from(id)).step_by(usize::from(shards)).collect();
        GroupPorts { free, sockets: Slab::new(), config: config.clone() }
    }

    pub fn open(&mut self) -> Option<OpenedGroup> {
        let number = self.free.pop_front()?;
        let opened = udp::multicast_socket(self.config.interface.map(IpAddr::V4), self.config.ttl);
        let socket = match opened {
            Ok(socket) => socket,
            Err(error) => {
                log::warn!("multicast: {error}");
                self.free.push_back(number);
                return None;
            }
        };
        let (raw, handle) = (socket.as_raw_fd(), self.sockets.insert((number, socket)));
        let (address, video_port) = self.config.group(number);
        let group = Group { address: address.into(), ttl: self.config.ttl, video_port, audio_port: video_port + 2 };
        Some(OpenedGroup { group, handle, socket: raw })
    }

    pub fn close(&mut self, handle: usize) {
        let (number, _closed_here) = self.sockets.remove(handle);
        self.free.push_back(number);
    }
}

async fn reader(driver: Rc<Driver>, pair: Rc<OpenPair>, rtcp: bool) {
    let socket = if rtcp { &pair.rtcp } else { &pair.rtp };
    loop {
        let mut readable = pin!(socket.udp.readable());
        let readable = poll_fn(|cx| {
            if pair.closed.get() {
                return Poll::Ready(None);
            }
            *socket.waker.borrow_mut() = Some(cx.waker().clone());
            readable.as_mut().poll(cx).map(Some)
        });
        match readable.await {
            Some(Ok(())) => {}
            // An answer of the network to something that was sent; the port goes on.
            Some(Err(error)) => log::debug!("UDP port {}: {error}", pair.port),
            None => return,
        }
        if (0..READS_PER_TURN).all(|_| read_once(&driver, &pair, rtcp)) {
            futures_lite::future::yield_now().await;
        }
    }
}

/// Reads what one call gives; says whether there may be more.
fn read_once(driver: &Driver, pair: &OpenPair, rtcp: bool) -> bool {
    let socket = if rtcp { &pair.rtcp } else { &pair.rtp };
    let mut receiver = driver.receiver.borrow_mut();
    driver.with(|core, now| {
        let result = socket.udp.receive(&mut receiver, |from, bytes| {
            if !pair.closed.get() {
                core.datagram(now, pair.index, Datagram { pair: pair.id, rtcp, from, bytes });
            }
        });
        let Ok(batch) = result else { return false };
        if let Some(total) = batch.kernel_drops_total {
            let new = total.wrapping_sub(socket.kernel_drops.replace(total));
            if new > 0 && !pair.closed.get() {
                core.datagrams_lost(pair.index, u64::from(new));
            }
        }
        batch.full
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_have_even_ports_of_their_own() {
        let mut random = fastrand::Rng::with_seed(1);
        let range = PortRange { first: 20_001, last: 20_101 };
        let mut all: Vec<u16> = (0..4).flat_map(|id| pairs(range, (id, 4), &mut random)).collect();
        all.sort_unstable();
        let even: Vec<u16> = (20_002..20_101).step_by(2).collect();
        assert_eq!(all, even, "each once, and the port behind the last is in the range");
        let mut all: Vec<u16> = (0..4).flat_map(|id| tcp_pool(range, (id, 4), &mut random).take()).collect();
        all.sort_unstable();
        assert_eq!(all, (20_001..=20_101).collect::<Vec<u16>>(), "over TCP each port is one");
    }
}
