//! The TCP ports of a shard that sessions open: out of a pool of their own or that of the pairs of UDP ports, one
//! connection at a time.
//!
//! Whoever connects while another is connected waits until that one ends or has been silent for [`REBIND_SILENCE_MS`]: nobody takes a
//! running connection over, and nobody blocks the port by saying nothing. One waits at most, the last. Nothing is ever sent. Of a session
//! that sends, the first who connects becomes an ordinary connection.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use std::{io, mem};

use slab::Slab;

use super::core::OpenedPort;
use super::driver::Driver;
use super::udp::{Pool, TRIES_MAX};
use crate::hub::fanout::ConnIndex;
use crate::io::{self as rt, Listener, Tcp, socket};
use crate::media::Stamp;
use crate::protocol::common::source::REBIND_SILENCE_MS;

/// Connections that wait to be taken.
const BACKLOG: i32 = 8;
/// Reads before others have their turn.
const READS_PER_TURN: usize = 4;

pub struct TcpPorts {
    driver: Weak<Driver>,
    pool: Pool,
    address: IpAddr,
    open: Slab<Rc<OpenPort>>,
}

struct OpenPort {
    index: ConnIndex,
    closed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// Gives the port back once its listener is closed.
struct Taken {
    port: u16,
    pool: Pool,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.pool.borrow_mut().push_back(self.port);
    }
}

impl TcpPorts {
    pub fn new(driver: Weak<Driver>, pool: Pool, address: IpAddr) -> Self {
        TcpPorts { driver, pool, address, open: Slab::new() }
    }

    pub fn open(&mut self, index: ConnIndex) -> Option<OpenedPort> {
        self.listen(index, |driver, open, listener, taken| rt::spawn(serve(driver, open, listener, taken)))
    }

    /// A port that is closed as soon as somebody has connected, who then is the session's connection.
    pub fn await_peer(&mut self, index: ConnIndex) -> Option<OpenedPort> {
        self.listen(index, |driver, open, listener, taken| rt::spawn(hand_over(driver, open, listener, taken)))
    }

    fn listen(&mut self, index: ConnIndex, spawn: impl FnOnce(Rc<Driver>, Rc<OpenPort>, Listener, Taken)) -> Option<OpenedPort> {
        let tries = self.pool.borrow().len().min(TRIES_MAX);
        for _ in 0..tries {
            let port = self.pool.borrow_mut().pop_front()?;
            let taken = Taken { port, pool: self.pool.clone() };
            match socket::listen_alone(SocketAddr::new(self.address, port), BACKLOG).and_then(Listener::new) {
                Ok(listener) => {
                    let open = Rc::new(OpenPort { index, closed: Cell::new(false), waker: RefCell::new(None) });
                    // Without a driver the shard is ending.
                    spawn(self.driver.upgrade()?, open.clone(), listener, taken);
                    return Some(OpenedPort { port, handle: self.open.insert(open) });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => {
                    log::warn!("TCP port {port} at {}: {error}", self.address);
                    return None;
                }
            }
        }
        None
    }

    pub fn close(&mut self, handle: usize) {
        let port = self.open.remove(handle);
        port.closed.set(true);
        if let Some(waker) = port.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// A connection, and when bytes came last.
struct Connection {
    tcp: Tcp,
    heard: Stamp,
}

/// What woke the task.
enum Event {
    Accepted(io::Result<(Tcp, SocketAddr)>),
    /// The connection is over, or it is time to look whether it is silent.
    Look,
    Closed,
}

async fn serve(driver: Rc<Driver>, port: Rc<OpenPort>, listener: Listener, taken: Taken) {
    serve_listener(&driver, &port, &listener, taken.port).await;
    drop(listener);
    drop(taken);
}

async fn serve_listener(driver: &Driver, port: &OpenPort, listener: &Listener, number: u16) {
    let mut connection = None;
    let mut newcomer = None;
    // One that is given up while it is under way may lose a connection that the kernel has accepted already.
    let mut accept = pin!(listener.accept());
    while !port.closed.get() {
        let had = connection.is_some();
        let event = poll_fn(|cx| {
            *port.waker.borrow_mut() = Some(cx.waker().clone());
            read(driver, port, &mut connection, cx);
            if port.closed.get() {
                return Poll::Ready(Event::Closed);
            }
            if had && connection.is_none() {
                return Poll::Ready(Event::Look);
            }
            accept.as_mut().poll(cx).map(Event::Accepted)
        });
        let event = if newcomer.is_some() {
            let look = async {
                rt::sleep(Duration::from_millis(REBIND_SILENCE_MS)).await;
                Event::Look
            };
            futures_lite::future::or(event, look).await
        } else {
            event.await
        };
        match event {
            Event::Accepted(accepted) => {
                accept.set(listener.accept());
                match accepted {
                    Ok(accepted) => newcomer = Some(accepted),
                    Err(error) => {
                        log::debug!("TCP port {number}: accept: {error}");
                        rt::sleep(super::driver::ACCEPT_PAUSE).await;
                    }
                }
            }
            Event::Look => {}
            Event::Closed => break,
        }
        // It may have ended while the pause lasted.
        if !port.closed.get() {
            let_in(driver, port, &mut connection, &mut newcomer);
        }
    }
}

async fn hand_over(driver: Rc<Driver>, port: Rc<OpenPort>, listener: Listener, taken: Taken) {
    loop {
        let mut accept = pin!(listener.accept());
        let accepted = poll_fn(|cx| {
            if port.closed.get() {
                return Poll::Ready(None);
            }
            *port.waker.borrow_mut() = Some(cx.waker().clone());
            accept.as_mut().poll(cx).map(Some)
        });
        match accepted.await {
            Some(Ok((tcp, peer))) => {
                super::driver::peer_connected(&driver, port.index, tcp, peer);
                break;
            }
            Some(Err(error)) => {
                log::debug!("TCP port {}: accept: {error}", taken.port);
                rt::sleep(super::driver::ACCEPT_PAUSE).await;
            }
            None => break,
        }
    }
    drop(listener);
    drop(taken);
}

/// Lets a newcomer in, if nobody is connected or who is says nothing.
fn let_in(driver: &Driver, port: &OpenPort, connection: &mut Option<Connection>, newcomer: &mut Option<(Tcp, SocketAddr)>) {
    driver.with(|core, now| {
        if newcomer.is_none() || connection.as_ref().is_some_and(|old| now.millis_since(old.heard) < REBIND_SILENCE_MS) {
            return;
        }
        if connection.take().is_some() {
            core.disconnected(now, port.index);
        }
        if let Some((tcp, peer)) = newcomer.take() {
            *connection = Some(Connection { tcp, heard: now });
            core.connected(now, port.index, peer);
        }
    });
}

/// Reads what has come; the task is woken when there is more.
fn read(driver: &Driver, port: &OpenPort, connection: &mut Option<Connection>, cx: &mut Context<'_>) {
    for _ in 0..READS_PER_TURN {
        let Some(Connection { tcp, heard }) = connection else { return };
        let mut buffer = mem::take(&mut *driver.buffer.borrow_mut());
        let result = tcp.poll_read(cx, &mut buffer);
        let ended = match &result {
            Poll::Ready(Ok(count @ 1..)) => {
                driver.with(|core, now| {
                    *heard = now;
                    core.received(now, port.index, &buffer[..*count]);
                });
                false
            }
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => false,
            Poll::Ready(_) => true,
            Poll::Pending => false,
        };
        *driver.buffer.borrow_mut() = buffer;
        if ended && !port.closed.get() {
            *connection = None;
            driver.with(|core, now| core.disconnected(now, port.index));
        }
        if ended || result.is_pending() || port.closed.get() {
            return;
        }
    }
    // Others first; there may be more to read.
    cx.waker().wake_by_ref();
}
