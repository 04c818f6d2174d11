//! Where the datagrams of a peer's port come from: the address it named, or the one that shows behind a NAT.
//!
//! The first datagram settles the address, as clients send a small one to open the way. Later it changes only if the known
//! address has been silent for [`REBIND_SILENCE_MS`] and the caller trusts the sender, so that nobody takes a running session over, not
//! even from the peer's own host. Limits: an address and a time per port. Not here: whether the sender has the right IP address and the
//! SSRC that was there before (by which it is trusted); the caller says so.

use std::net::SocketAddr;

use crate::media::Stamp;

/// How long the known address must have been silent before another one is believed.
pub const REBIND_SILENCE_MS: u64 = 2_000;

/// How long the source of a stream must have been silent before another SSRC is followed.
pub const RELOCK_SILENCE_MS: u64 = 5_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    address: SocketAddr,
    /// When a datagram came from it last.
    seen: Option<Stamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    Known,
    /// The peer's address is another one from now on.
    Moved,
    Stranger,
}

impl Source {
    /// `address`: as the peer has named it.
    pub const fn new(address: SocketAddr) -> Self {
        Source { address, seen: None }
    }

    /// Nothing is known: whoever sends first.
    pub const fn unknown() -> Self {
        Source { address: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0), seen: None }
    }

    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// A datagram has come. `trusted`: all else says that it is the peer's.
    pub fn datagram(&mut self, now: Stamp, from: SocketAddr, trusted: bool) -> Sender {
        let sender = match self.seen {
            _ if from == self.address => Sender::Known,
            None => Sender::Moved,
            Some(seen) if trusted && now.millis_since(seen) >= REBIND_SILENCE_MS => Sender::Moved,
            Some(_) => return Sender::Stranger,
        };
        self.address = from;
        self.seen = Some(now);
        sender
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_settle_and_move_with_a_guard() {
        let at = |port| SocketAddr::from(([10, 0, 0, 1], port));
        let mut source = Source::new(at(5000));
        let steps = [
            ("the first datagram shows the real port", 0, 6000, false, Sender::Moved),
            ("the named port is a stranger now", 10, 5000, true, Sender::Stranger),
            ("it goes on", 1_000, 6000, true, Sender::Known),
            ("too early", 2_999, 7000, true, Sender::Stranger),
            ("silent long enough, but not trusted", 3_000, 7000, false, Sender::Stranger),
            ("silent long enough", 3_000, 7000, true, Sender::Moved),
            ("the old one is a stranger", 3_001, 6000, true, Sender::Stranger),
        ];
        for (name, now_ms, port, trusted, expected) in steps {
            assert_eq!(source.datagram(Stamp::from_millis(now_ms), at(port), trusted), expected, "{name}");
        }
        assert_eq!(source.address(), at(7000));
        let mut unknown = Source::unknown();
        assert_eq!(unknown.datagram(Stamp::ZERO, at(5000), false), Sender::Moved);
        assert_eq!(unknown.datagram(Stamp::ZERO, at(5002), true), Sender::Stranger);
        let mut named = Source::new(at(5000));
        assert_eq!(named.datagram(Stamp::ZERO, at(5000), false), Sender::Known);
    }
}
