//! SIP (RFC 3261) as far as GB/T 28181 needs it, sans-IO: messages, transactions, digests, dialogs.
//!
//! | file | holds |
//! |---|---|
//! | `framing` | bytes of a connection, cut into messages |
//! | `message`, `headers` | messages and what stands in them |
//! | `transaction` | each request once, each answer once, repetitions |
//! | `dialog` | what the requests of a call have in common |
//! | `digest` | passwords, both ways |
//! | `tokens` | branches, tags, names of calls |
//!
//! Not here: sockets (`control/gb28181`), and what the messages are about (`platform`).

pub mod dialog;
pub mod digest;
pub mod framing;
pub mod headers;
pub mod message;
#[cfg(test)]
mod message_tests;
pub mod tokens;
pub mod transaction;

use std::net::{IpAddr, SocketAddr};

/// Names a TCP connection that carries SIP; given out by who owns the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// The way a message came, and the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hop {
    pub carrier: Carrier,
    /// The address of the other side.
    pub peer: SocketAddr,
    /// The address of ours that the other side reaches.
    pub local: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carrier {
    Udp,
    Tcp(ConnectionId),
}

impl Hop {
    /// Our address as it stands in what the other side reads.
    pub fn local_ip(&self) -> IpAddr {
        self.local.ip()
    }
}
