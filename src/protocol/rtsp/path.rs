//! How one track travels, the same for publishers and players: between the messages of the connection, as datagrams to and from a pair of
//! ports, or to a group.
//!
//! RFC 2326 §10.12, §12.39; RFC 3550 §5.1, §6.4 (who has sent a packet). A path owns nothing but numbers; the ports behind a [`PairId`]
//! are the shard's, which is told when they are given up. Not here: the header in which a path is agreed on (`transport`), and which
//! addresses are believed (`source`).

use std::net::{IpAddr, SocketAddr};

use super::transport::{Kind, PortPair};
use crate::format::rtp::Channels;
use crate::media::Stamp;
use crate::protocol::common::source::{Sender, Source};
use crate::session::{Group, Output, PairId, PairTarget};

#[derive(Clone, Copy)]
pub(super) enum Path {
    Channels(Channels),
    Pair(Pair),
    /// The same group for all tracks, with ports of their own. Only players have it.
    Group(Group),
}

/// A pair of our ports and the peer's.
#[derive(Clone, Copy)]
pub(super) struct Pair {
    pub id: PairId,
    pub rtp: Source,
    pub rtcp: Source,
    /// The peer's address is another one than the shard was told.
    pub moved: bool,
    /// Who sends reports from the peer's address, as the last one said.
    pub reporter: Option<u32>,
}

impl Pair {
    /// `address`: of the peer, with the ports that it has named.
    pub const fn new(id: PairId, address: IpAddr, ports: PortPair) -> Self {
        let (rtp, rtcp) = (SocketAddr::new(address, ports.rtp), SocketAddr::new(address, ports.rtcp));
        Pair { id, rtp: Source::new(rtp), rtcp: Source::new(rtcp), moved: false, reporter: None }
    }

    /// A datagram has come to one of the ports; see [`Source::datagram`].
    pub fn datagram(&mut self, now: Stamp, rtcp: bool, from: SocketAddr, trusted: bool) -> Sender {
        let source = if rtcp { &mut self.rtcp } else { &mut self.rtp };
        let sender = source.datagram(now, from, trusted);
        self.moved |= sender == Sender::Moved;
        sender
    }

    pub const fn target(&self) -> PairTarget {
        PairTarget { pair: self.id, rtp: self.rtp.address(), rtcp: self.rtcp.address() }
    }
}

impl Path {
    pub const fn kind(&self) -> Kind {
        match self {
            Path::Channels(_) => Kind::Tcp,
            Path::Pair(_) => Kind::Udp,
            Path::Group(_) => Kind::Multicast,
        }
    }

    pub const fn channels(&self) -> Option<Channels> {
        match self {
            Path::Channels(channels) => Some(*channels),
            Path::Pair(_) | Path::Group(_) => None,
        }
    }

    pub const fn pair(&self) -> Option<&Pair> {
        match self {
            Path::Pair(pair) => Some(pair),
            Path::Channels(_) | Path::Group(_) => None,
        }
    }

    pub const fn pair_mut(&mut self) -> Option<&mut Pair> {
        match self {
            Path::Pair(pair) => Some(pair),
            Path::Channels(_) | Path::Group(_) => None,
        }
    }
}

/// Gives up how a track has travelled.
pub(super) fn close(path: Option<Path>, out: &mut Vec<Output>) {
    out.extend(path.as_ref().and_then(Path::pair).map(|pair| Output::ClosePair(pair.id)));
}

/// Whether no track has one of these channels yet. `taken`: those of the other tracks.
pub(super) fn are_free(taken: &[Channels], wish: Channels) -> bool {
    taken.iter().flat_map(|taken| [taken.rtp, taken.rtcp]).all(|used| used != wish.rtp && used != wish.rtcp)
}

/// The first even channel that is free with the next one.
pub(super) fn free_channels(taken: &[Channels]) -> Option<Channels> {
    let mut pairs = (0..=u8::MAX - 1).step_by(2).map(|rtp| Channels { rtp, rtcp: rtp + 1 });
    pairs.find(|pair| are_free(taken, *pair))
}

/// Who has sent a packet.
pub(super) fn ssrc(packet: &[u8], rtcp: bool) -> Option<u32> {
    let at = if rtcp { 4 } else { 8 };
    packet.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_given_once() {
        let pair = |rtp, rtcp| Channels { rtp, rtcp };
        let all: Vec<Channels> = (0..=127).map(|half| pair(2 * half, 2 * half + 1)).collect();
        let rows: [(&str, &[Channels], Option<Channels>); 4] = [
            ("none taken", &[], Some(pair(0, 1))),
            ("the first taken", &[pair(0, 1)], Some(pair(2, 3))),
            ("halves of two taken", &[pair(1, 2)], Some(pair(4, 5))),
            ("all taken", &all, None),
        ];
        for (name, taken, free) in rows {
            assert_eq!(free_channels(taken), free, "{name}");
        }
        assert!(are_free(&[pair(0, 1)], pair(7, 9)) && !are_free(&[pair(0, 1)], pair(5, 0)));
    }
}
