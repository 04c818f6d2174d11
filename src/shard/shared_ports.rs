//! The sockets of a shard's shared port: datagrams and connections for many sessions.
//!
//! A connection is given to a session by its first packet (RFC 4571); until then no more than [`FRONT_BYTES`] are read of it. Limits: so
//! many wait at most ([`UNDECIDED_MAX`]; over it the oldest goes) and each for so long ([`UNDECIDED_MS`]). Not here: whose it is
//! (`shared.rs`).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;

use super::core::OpenedShared;
use super::driver::{ACCEPT_PAUSE, Driver};
use super::shared::Offer;
use crate::hub::fanout::ConnIndex;
use crate::io::udp::Udp;
use crate::io::{self as rt, Listener, Tcp};

/// Connections that have no session yet.
const UNDECIDED_MAX: usize = 64;
const UNDECIDED_MS: u64 = 10_000;
/// How often it is looked whether a connection's session is there.
const LOOK: Duration = Duration::from_millis(100);
/// What tells whose a connection is: `$` and channel, length, and a header of RTP up to its SSRC.
const FRONT_BYTES: usize = 4 + 12;
/// Reads before others have their turn.
const READS_PER_TURN: usize = 4;

/// The sockets as they were opened at the start.
pub struct Sockets {
    pub port: u16,
    pub rtp: OwnedFd,
    pub rtcp: OwnedFd,
    pub listener: OwnedFd,
}

/// The shared port as its shard sees it.
#[derive(Default)]
pub struct SharedPorts {
    opened: Option<OpenedShared>,
    connections: Slab<Rc<Gate>>,
    undecided: VecDeque<Rc<Gate>>,
}

/// Lets a connection's task know that it is over.
#[derive(Default)]
struct Gate {
    closed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Gate {
    fn close(&self) {
        self.closed.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl SharedPorts {
    pub fn opened(&self) -> Option<OpenedShared> {
        self.opened
    }

    pub fn close(&mut self, handle: usize) {
        self.connections.remove(handle).close();
    }

    /// Another connection without a session; over the limit the oldest goes.
    fn wait(&mut self, gate: &Rc<Gate>) {
        self.undecided.push_back(gate.clone());
        if self.undecided.len() > UNDECIDED_MAX
            && let Some(oldest) = self.undecided.pop_front()
        {
            oldest.close();
        }
    }

    fn decided(&mut self, gate: &Rc<Gate>) {
        self.undecided.retain(|waiting| !Rc::ptr_eq(waiting, gate));
    }
}

/// Starts to serve the port.
pub fn serve(driver: &Rc<Driver>, sockets: Sockets) -> io::Result<()> {
    let (rtp, rtcp, listener) = (Udp::new(sockets.rtp)?, Udp::new(sockets.rtcp)?, Listener::new(sockets.listener)?);
    let opened = OpenedShared { port: sockets.port, rtp: rtp.as_raw_fd(), rtcp: rtcp.as_raw_fd() };
    driver.with(|core, _| core.ports.shared().opened = Some(opened));
    rt::spawn(datagrams(driver.clone(), rtp, false));
    rt::spawn(datagrams(driver.clone(), rtcp, true));
    rt::spawn(connections(driver.clone(), listener));
    Ok(())
}

async fn datagrams(driver: Rc<Driver>, udp: Udp, rtcp: bool) {
    let kernel_drops = Cell::new(0);
    loop {
        if let Err(error) = udp.readable().await {
            // An answer of the network to something that was sent; the port goes on.
            log::debug!("shared UDP port: {error}");
        }
        if (0..READS_PER_TURN).all(|_| read_datagrams(&driver, &udp, rtcp, &kernel_drops)) {
            futures_lite::future::yield_now().await;
        }
    }
}

/// Reads what one call gives; says whether there may be more.
fn read_datagrams(driver: &Driver, udp: &Udp, rtcp: bool, kernel_drops: &Cell<u32>) -> bool {
    let mut receiver = driver.receiver.borrow_mut();
    driver.with(|core, now| {
        let result = udp.receive(&mut receiver, |from, bytes| core.shared_datagram(now, rtcp, from, bytes));
        let Ok(batch) = result else { return false };
        if let Some(total) = batch.kernel_drops_total {
            core.shared_lost(u64::from(total.wrapping_sub(kernel_drops.replace(total))));
        }
        batch.full
    })
}

async fn connections(driver: Rc<Driver>, listener: Listener) {
    loop {
        match listener.accept().await {
            Ok((tcp, peer)) => {
                let gate = Rc::new(Gate::default());
                driver.with(|core, _| core.ports.shared().wait(&gate));
                rt::spawn(connection(driver.clone(), gate, tcp, peer));
            }
            Err(error) => {
                log::debug!("shared TCP port: accept: {error}");
                rt::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(driver: Rc<Driver>, gate: Rc<Gate>, mut tcp: Tcp, peer: SocketAddr) {
    let mut front = Vec::with_capacity(FRONT_BYTES);
    let given = {
        let decide = decide(&driver, &gate, &mut tcp, peer, &mut front);
        let give_up = async {
            rt::sleep(Duration::from_millis(UNDECIDED_MS)).await;
            None
        };
        futures_lite::future::or(decide, give_up).await
    };
    driver.with(|core, _| core.ports.shared().decided(&gate));
    let Some((index, handle)) = given else {
        return driver.with(|core, _| core.shared_gave_up(packet(&front), peer));
    };
    driver.with(|core, now| core.shared_received(now, index, &front));
    poll_fn(|cx| read(&driver, &gate, index, &mut tcp, cx)).await;
    if !gate.closed.get() {
        driver.with(|core, now| {
            core.ports.shared().close(handle);
            core.shared_ended(now, index, handle);
        });
    }
}

/// Waits for the first packet, then for its session.
async fn decide(
    driver: &Driver,
    gate: &Rc<Gate>,
    tcp: &mut Tcp,
    peer: SocketAddr,
    front: &mut Vec<u8>,
) -> Option<(ConnIndex, usize)> {
    if !poll_fn(|cx| read_front(gate, tcp, front, cx)).await {
        return None;
    }
    while !gate.closed.get() {
        let given = driver.with(|core, now| {
            let handle = core.ports.shared().connections.insert(gate.clone());
            match core.shared_offer(now, packet(front), peer, handle) {
                Offer::Given(index) => Some((index, handle)),
                Offer::Busy | Offer::Unknown => {
                    core.ports.shared().connections.remove(handle);
                    None
                }
            }
        });
        if given.is_some() {
            return given;
        }
        rt::sleep(LOOK).await;
    }
    None
}

/// The packet that a connection begins with, behind its length or behind `$`, a channel and its length.
fn packet(front: &[u8]) -> &[u8] {
    let behind = |bytes: usize| front.get(bytes..).unwrap_or_default();
    if front.first() == Some(&b'$') && behind(2).first().is_none_or(|first| first >> 6 != 2) { behind(4) } else { behind(2) }
}

/// `false`: it is over.
fn read_front(gate: &Gate, tcp: &mut Tcp, front: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<bool> {
    *gate.waker.borrow_mut() = Some(cx.waker().clone());
    while front.len() < FRONT_BYTES {
        if gate.closed.get() {
            return Poll::Ready(false);
        }
        let mut piece = [0; FRONT_BYTES];
        match tcp.poll_read(cx, &mut piece[front.len()..]) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(0)) => return Poll::Ready(false),
            Poll::Ready(Ok(count)) => {
                let from = front.len();
                front.extend_from_slice(&piece[from..from + count]);
            }
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Poll::Ready(Err(_)) => return Poll::Ready(false),
        }
    }
    Poll::Ready(true)
}

/// Reads until the connection is over.
fn read(driver: &Driver, gate: &Gate, index: ConnIndex, tcp: &mut Tcp, cx: &mut Context<'_>) -> Poll<()> {
    *gate.waker.borrow_mut() = Some(cx.waker().clone());
    for _ in 0..READS_PER_TURN {
        if gate.closed.get() {
            return Poll::Ready(());
        }
        let mut buffer = driver.buffer.borrow_mut();
        match tcp.poll_read(cx, &mut buffer) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(count @ 1..)) => driver.with(|core, now| core.shared_received(now, index, &buffer[..count])),
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Poll::Ready(_) => return Poll::Ready(()),
        }
    }
    // Others first; there may be more to read.
    cx.waker().wake_by_ref();
    Poll::Pending
}
