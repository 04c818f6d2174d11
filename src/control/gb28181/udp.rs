//! The UDP sockets that carry SIP: datagrams in, each one message, with the way that it came; datagrams out.
//!
//! A reader takes [`DATAGRAMS_PER_TURN`] at most before others have their turn, and waits while the platform has enough to do: what comes
//! meanwhile waits in the kernel's buffer, and what finds no room there is lost, as on any network. What the kernel does not take at once is
//! dropped and counted; SIP sends again. Not here: what the datagrams say.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::counters::{Counters, Way};
use super::host::Event;
use crate::config::SIP_RECEIVE_BUFFER_BYTES;
use crate::protocol::gb28181::sip::{Carrier, Hop};

const DATAGRAMS_PER_TURN: usize = 64;
const DATAGRAM_BYTES_MAX: usize = 65_536;
/// Addresses of peers of which our own side is remembered; then all are forgotten.
const KNOWN_PEERS_MAX: usize = 16_384;
/// For so long: routes change.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// After an error that is none of a peer's: how long to wait for better times.
const ERROR_PAUSE: Duration = Duration::from_millis(200);

/// Opens a socket that is not yet read.
pub fn open(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_recv_buffer_size(SIP_RECEIVE_BUFFER_BYTES)?;
    // The kernel takes twice what it grants, for what it needs beside the datagrams.
    let granted = socket.recv_buffer_size()? / 2;
    if granted < SIP_RECEIVE_BUFFER_BYTES {
        log::info!(
            "the kernel grants {granted} bytes of UDP receive buffer for SIP instead of {SIP_RECEIVE_BUFFER_BYTES}: of many devices \
             that register at once some may have to ask again; net.core.rmem_max would have to be raised"
        );
    }
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// All of them.
#[derive(Debug)]
pub struct UdpSockets {
    sockets: Vec<Arc<UdpSocket>>,
    /// Where each is bound.
    bound: Vec<SocketAddr>,
    locals: Locals,
    counters: Arc<Counters>,
}

impl UdpSockets {
    /// Begins to read. Inside the runtime.
    pub fn serve(
        sockets: Vec<std::net::UdpSocket>,
        locals: &Locals,
        events: &mpsc::Sender<Event>,
        counters: &Arc<Counters>,
    ) -> io::Result<Self> {
        let mut all = UdpSockets { sockets: Vec::new(), bound: Vec::new(), locals: locals.clone(), counters: counters.clone() };
        for socket in sockets {
            let socket = Arc::new(UdpSocket::from_std(socket)?);
            let bound = socket.local_addr()?;
            tokio::spawn(read(socket.clone(), bound, locals.clone(), events.clone(), counters.clone()));
            all.sockets.push(socket);
            all.bound.push(bound);
        }
        Ok(all)
    }

    /// The way to somebody who has not been heard of.
    pub fn way(&self, to: SocketAddr) -> Option<Hop> {
        let mut bound = self.bound.iter().filter(|bound| bound.is_ipv4() == to.is_ipv4());
        let local = bound.find_map(|bound| self.locals.of(*bound, to))?;
        Some(Hop { carrier: Carrier::Udp, peer: to, local })
    }

    /// Sends from the socket that the other side reaches.
    pub fn send(&self, local: SocketAddr, to: SocketAddr, bytes: &Bytes) {
        let Some(at) = which(&self.bound, local, to) else { return self.counters.dropped("no_socket") };
        match self.sockets[at].try_send_to(bytes, to) {
            Ok(_) => self.counters.sent(Way::Udp),
            Err(error) => {
                self.counters.dropped("not_taken");
                log::debug!("SIP to {to}: {error}");
            }
        }
    }
}

/// Of the sockets that are bound at `bound` the one for what goes from `local` to a peer: the one at that very address, else one at all
/// addresses with that port, else any with that port (what is told to devices may be another address), else any that reaches the peer.
fn which(bound: &[SocketAddr], local: SocketAddr, to: SocketAddr) -> Option<usize> {
    let same_family = |address: &SocketAddr| address.is_ipv4() == to.is_ipv4();
    let rank = |address: &SocketAddr| {
        (*address != local, address.port() != local.port() || !address.ip().is_unspecified(), address.port() != local.port())
    };
    (0..bound.len()).filter(|at| same_family(&bound[*at])).min_by_key(|at| rank(&bound[*at]))
}

async fn read(socket: Arc<UdpSocket>, bound: SocketAddr, locals: Locals, events: mpsc::Sender<Event>, counters: Arc<Counters>) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        if let Err(error) = socket.readable().await {
            log::warn!("SIP over UDP on {bound}: {error}");
            tokio::time::sleep(ERROR_PAUSE).await;
        }
        for _ in 0..DATAGRAMS_PER_TURN {
            let (length, peer) = match socket.try_recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // A peer to which something was sent is not there: that is for timers to find out.
                Err(_) => continue,
            };
            counters.received(Way::Udp);
            let Some(local) = locals.of(bound, peer) else {
                counters.dropped("no_route");
                continue;
            };
            let hop = Hop { carrier: Carrier::Udp, peer, local };
            let event = Event::Message { hop, bytes: Bytes::copy_from_slice(&buffer[..length]), held: None };
            if events.send(event).await.is_err() {
                return;
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Which of our addresses a peer reaches.
#[derive(Clone, Debug)]
pub struct Locals {
    /// What the operator has set for all.
    told: Option<IpAddr>,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug)]
struct Known {
    since: Instant,
    addresses: HashMap<IpAddr, IpAddr>,
}

impl Locals {
    pub fn new(told: Option<IpAddr>) -> Self {
        Locals { told, known: Arc::new(Mutex::new(Known { since: Instant::now(), addresses: HashMap::new() })) }
    }

    /// `bound`: our end of the socket. `None`: the peer cannot be reached.
    pub fn of(&self, bound: SocketAddr, peer: SocketAddr) -> Option<SocketAddr> {
        if let Some(told) = self.told {
            return Some(SocketAddr::new(told, bound.port()));
        }
        if !bound.ip().is_unspecified() {
            return Some(bound);
        }
        // Whoever panicked here has left a table that is at worst short.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.addresses.len() >= KNOWN_PEERS_MAX || known.since.elapsed() >= KNOWN_FOR {
            known.addresses.clear();
            known.since = Instant::now();
        }
        let address = match known.addresses.get(&peer.ip()) {
            Some(address) => *address,
            None => {
                let address = reached_by(peer).ok()?;
                known.addresses.insert(peer.ip(), address);
                address
            }
        };
        Some(SocketAddr::new(address, bound.port()))
    }
}

/// The address from which the kernel would send to a peer; nothing is sent.
fn reached_by(peer: SocketAddr) -> io::Result<IpAddr> {
    let any = if peer.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { IpAddr::from(Ipv6Addr::UNSPECIFIED) };
    let socket = std::net::UdpSocket::bind((any, 0))?;
    socket.connect(peer)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_answer_leaves_where_the_question_came() {
        let bound = ["0.0.0.0:5060", "10.0.0.1:5070", "10.0.0.2:5070", "[::]:5060"].map(address);
        let cases = [
            ("192.0.2.1:5060", "198.51.100.9:5060", Some(0)),
            ("10.0.0.2:5070", "198.51.100.9:5060", Some(2)),
            // What devices are told is the address of a router.
            ("203.0.113.7:5070", "198.51.100.9:5060", Some(1)),
            ("203.0.113.7:9", "198.51.100.9:5060", Some(0)),
            ("[2001:db8::1]:5060", "[2001:db8::9]:5060", Some(3)),
        ];
        for (local, to, expected) in cases {
            assert_eq!(which(&bound, address(local), address(to)), expected, "{local} to {to}");
        }
        assert_eq!(which(&bound[..3], address("[2001:db8::1]:5060"), address("[2001:db8::9]:5060")), None);
    }

    #[test]
    fn a_peer_is_told_the_address_that_it_reaches() {
        let peer = address("127.0.0.1:9");
        let cases = [
            (None, "0.0.0.0:5060", "127.0.0.1:5060"),
            (None, "127.0.0.2:5060", "127.0.0.2:5060"),
            (Some("203.0.113.7"), "0.0.0.0:5060", "203.0.113.7:5060"),
        ];
        for (told, bound, expected) in cases {
            let locals = Locals::new(told.map(|told| told.parse().unwrap()));
            for _ in 0..2 {
                assert_eq!(locals.of(address(bound), peer), Some(address(expected)));
            }
        }
    }

    #[test]
    fn what_is_known_of_peers_has_a_limit() {
        let locals = Locals::new(None);
        let loopback = |n: u32| SocketAddr::new(Ipv4Addr::from_bits(0x7F00_0001 + n).into(), 9);
        for n in 0..100 {
            locals.of(address("0.0.0.0:5060"), loopback(n)).unwrap();
        }
        let mut known = locals.known.lock().unwrap();
        assert_eq!(known.addresses.len(), 100);
        for n in 100..KNOWN_PEERS_MAX as u32 {
            known.addresses.insert(loopback(n).ip(), loopback(n).ip());
        }
        drop(known);
        locals.of(address("0.0.0.0:5060"), loopback(1_000_000)).unwrap();
        assert_eq!(locals.known.lock().unwrap().addresses.len(), 1);
    }
}
