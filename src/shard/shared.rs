//! The port of a shard that many sessions receive on: whose a datagram is, or a connection.
//!
//! RFC 3550 §8: the SSRC tells. One that nobody expects goes to the only session that expects media from that address and has none, or has
//! had none for [`RELOCK_SILENCE_MS`]: from then on it is that session's. Everything else is a stray: counted, and now and then told with
//! an example. Each datagram costs one look-up, or two, whoever sends it. A connection is given away once, with the guard of a session's
//! own TCP port. Not here: sockets, and connections that nobody has got yet (`shared_ports.rs`).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::conn::Pair;
use super::core::{Answer, Core, Datagram, Ports};
use crate::format::rtp::rtcp;
use crate::hub::fanout::ConnIndex;
use crate::media::Stamp;
use crate::protocol::common::source::{REBIND_SILENCE_MS, RELOCK_SILENCE_MS};
use crate::session::{ExpectedSource, Input, PairId};

/// How often strays are told.
const TELL_MS: u64 = 10_000;

/// Who receives on the port.
#[derive(Debug, Default)]
pub(super) struct Shared {
    members: HashMap<ConnIndex, Member>,
    by_ssrc: HashMap<u32, ConnIndex>,
    /// Those that take another SSRC from there.
    by_ip: HashMap<IpAddr, Vec<ConnIndex>>,
    pub stray_datagrams: u64,
    pub stray_connections: u64,
    pub kernel_drops: u64,
    /// What was told already, when, and the last stray since.
    told: u64,
    told_at: Stamp,
    example: Option<(u32, SocketAddr)>,
}

#[derive(Debug)]
struct Member {
    /// Over UDP, as this pair; `None`: over TCP.
    pair: Option<PairId>,
    expected: ExpectedSource,
    learned: Option<u32>,
    /// When something came last.
    heard: Option<Stamp>,
    /// Names its connection to the ports.
    connection: Option<usize>,
}

impl Member {
    fn has_media(&self, now: Stamp) -> bool {
        self.heard.is_some_and(|heard| now.millis_since(heard) < RELOCK_SILENCE_MS)
    }

    /// From where it takes an SSRC that was not agreed.
    fn learns_from(&self) -> Option<IpAddr> {
        self.expected.ip.filter(|_| !self.expected.strict).map(|ip| ip.to_canonical())
    }
}

impl Shared {
    /// `false`: another one has agreed on that SSRC.
    fn join(&mut self, index: ConnIndex, pair: Option<PairId>, expected: ExpectedSource) -> bool {
        if expected.ssrc.is_some_and(|ssrc| self.is_agreed(ssrc)) {
            return false;
        }
        self.members
            .insert(index, Member { pair, expected: ExpectedSource::default(), learned: None, heard: None, connection: None });
        self.expect(index, expected);
        true
    }

    fn is_agreed(&self, ssrc: u32) -> bool {
        self.by_ssrc.get(&ssrc).is_some_and(|index| self.members[index].expected.ssrc == Some(ssrc))
    }

    fn expect(&mut self, index: ConnIndex, expected: ExpectedSource) {
        self.unlist(index);
        let Some(member) = self.members.get_mut(&index) else { return };
        member.expected = expected;
        // What was learned stays, unless the agreement has none of it.
        let learned = member.learned.take().filter(|learned| !expected.strict || expected.ssrc == Some(*learned));
        let ip = member.learns_from();
        if let Some(ip) = ip {
            self.by_ip.entry(ip).or_default().push(index);
        }
        for ssrc in [learned, expected.ssrc].into_iter().flatten() {
            self.give(ssrc, index);
        }
    }

    /// What is agreed goes before what was learned, the first who has agreed before others.
    fn give(&mut self, ssrc: u32, index: ConnIndex) {
        if self.is_agreed(ssrc) {
            return;
        }
        if let Some(member) = self.by_ssrc.insert(ssrc, index).and_then(|before| self.members.get_mut(&before)) {
            member.learned = None;
        }
        if let Some(member) = self.members.get_mut(&index)
            && member.expected.ssrc != Some(ssrc)
        {
            member.learned = Some(ssrc);
        }
    }

    /// Takes a member out of both look-ups.
    fn unlist(&mut self, index: ConnIndex) {
        let Some(member) = self.members.get_mut(&index) else { return };
        for ssrc in [member.expected.ssrc, member.learned].into_iter().flatten() {
            if self.by_ssrc.get(&ssrc) == Some(&index) {
                self.by_ssrc.remove(&ssrc);
            }
        }
        if let Some(ip) = member.learns_from()
            && let Some(list) = self.by_ip.get_mut(&ip)
        {
            list.retain(|listed| *listed != index);
            if list.is_empty() {
                self.by_ip.remove(&ip);
            }
        }
    }

    /// The connection that it had.
    fn leave(&mut self, index: ConnIndex) -> Option<usize> {
        self.unlist(index);
        self.members.remove(&index)?.connection
    }

    /// Whose an SSRC is.
    fn find(&mut self, now: Stamp, ssrc: u32, ip: IpAddr, is_udp: bool) -> Option<ConnIndex> {
        if let Some(index) = self.by_ssrc.get(&ssrc).copied() {
            return Some(index).filter(|index| self.members[index].pair.is_some() == is_udp);
        }
        let listed = self.by_ip.get(&ip.to_canonical())?;
        let is_free = |index: &&ConnIndex| {
            let member = &self.members[*index];
            member.pair.is_some() == is_udp && !member.has_media(now)
        };
        let mut free = listed.iter().filter(is_free);
        let (first, second) = (free.next().copied(), free.next());
        let index = first.filter(|_| second.is_none())?;
        let member = self.members.get_mut(&index)?;
        // What it had learned before is over, unless that was agreed since.
        if let Some(old) = member.learned.take().filter(|old| member.expected.ssrc != Some(*old)) {
            self.by_ssrc.remove(&old);
        }
        self.give(ssrc, index);
        Some(index)
    }

    fn stray(&mut self, ssrc: u32, from: SocketAddr) {
        self.example = Some((ssrc, from));
    }
}

/// The SSRC of a packet of RTP or RTCP, and whether it is the former.
fn ssrc_of(bytes: &[u8]) -> Option<(u32, bool)> {
    let is_media = !rtcp::is_rtcp(bytes);
    let at = if is_media { 8 } else { 4 };
    let ssrc = bytes.get(at..)?.first_chunk::<4>()?;
    (bytes[0] >> 6 == 2).then_some((u32::from_be_bytes(*ssrc), is_media))
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It is this session's.
    Given(ConnIndex),
    /// Its session has another one that is not silent.
    Busy,
    /// Nobody expects it.
    Unknown,
}

impl<P: Ports> Core<P> {
    pub(super) fn open_shared(&mut self, index: ConnIndex, pair: Option<PairId>, expected: ExpectedSource) {
        self.leave_shared(index);
        let opened = self.ports.shared_port().filter(|_| self.shared.join(index, pair, expected));
        let port = opened.map(|opened| opened.port);
        let answer = match pair {
            Some(id) => {
                let shared = opened.map(|opened| Pair { id, handle: None, rtp: opened.rtp, rtcp: opened.rtcp });
                self.conns[index].pairs.extend(shared);
                Answer::PairOpened(id, port)
            }
            None => Answer::PortOpened(port),
        };
        self.answer(index, answer);
    }

    pub(super) fn expect_shared(&mut self, index: ConnIndex, expected: ExpectedSource) {
        self.shared.expect(index, expected);
    }

    pub(super) fn leave_shared(&mut self, index: ConnIndex) {
        if let Some(handle) = self.shared.leave(index) {
            self.ports.close_shared(handle);
        }
    }

    /// A datagram has come to the shared port, or to the one for RTCP behind it.
    pub fn shared_datagram(&mut self, now: Stamp, rtcp: bool, from: SocketAddr, bytes: &[u8]) {
        let Some((ssrc, is_media)) = ssrc_of(bytes) else {
            self.shared.stray_datagrams += 1;
            return;
        };
        let index = if is_media && !rtcp {
            self.shared.find(now, ssrc, from.ip(), true)
        } else {
            self.shared.by_ssrc.get(&ssrc).copied()
        };
        let member = index.and_then(|index| Some((index, self.shared.members.get_mut(&index)?)));
        let Some((index, member)) = member else {
            self.shared.stray_datagrams += 1;
            return self.shared.stray(ssrc, from);
        };
        let Some(pair) = member.pair else { return };
        if is_media {
            member.heard = Some(now);
        }
        self.datagram(now, index, Datagram { pair, rtcp, from, bytes });
    }

    /// The first packet of a connection to the shared port is here; `handle` names the connection to the ports.
    pub fn shared_offer(&mut self, now: Stamp, first: &[u8], peer: SocketAddr, handle: usize) -> Offer {
        let Some((ssrc, _)) = ssrc_of(first) else { return Offer::Unknown };
        let Some(index) = self.shared.find(now, ssrc, peer.ip(), false) else { return Offer::Unknown };
        let Some(member) = self.shared.members.get_mut(&index) else { return Offer::Unknown };
        let is_silent = member.heard.is_none_or(|heard| now.millis_since(heard) >= REBIND_SILENCE_MS);
        if member.connection.is_some() && !is_silent {
            return Offer::Busy;
        }
        member.heard = Some(now);
        if let Some(old) = member.connection.replace(handle) {
            self.ports.close_shared(old);
            self.drive(index, now, Input::Disconnected);
        }
        self.connected(now, index, peer);
        Offer::Given(index)
    }

    pub fn shared_received(&mut self, now: Stamp, index: ConnIndex, bytes: &[u8]) {
        if let Some(member) = self.shared.members.get_mut(&index) {
            member.heard = Some(now);
        }
        self.received(now, index, bytes);
    }

    /// A connection that was given away is over.
    pub fn shared_ended(&mut self, now: Stamp, index: ConnIndex, handle: usize) {
        let Some(member) = self.shared.members.get_mut(&index) else { return };
        if member.connection == Some(handle) {
            member.connection = None;
            self.disconnected(now, index);
        }
    }

    /// A connection that nobody has got is given up.
    pub fn shared_gave_up(&mut self, first: &[u8], peer: SocketAddr) {
        self.shared.stray_connections += 1;
        if let Some((ssrc, _)) = ssrc_of(first) {
            self.shared.stray(ssrc, peer);
        }
    }

    /// The kernel had no room for datagrams to the shared port.
    pub fn shared_lost(&mut self, count: u64) {
        self.shared.kernel_drops += count;
    }

    pub(super) fn tell_strays(&mut self, now: Stamp) {
        let shared = &mut self.shared;
        let strays = shared.stray_datagrams + shared.stray_connections;
        if strays == shared.told || now.millis_since(shared.told_at) < TELL_MS {
            return;
        }
        let new = strays - std::mem::replace(&mut shared.told, strays);
        shared.told_at = now;
        match shared.example.take() {
            Some((ssrc, from)) => {
                log::warn!("shared port: {new} packets or connections of nobody's, the last from {from} with SSRC {ssrc}");
            }
            None => log::warn!("shared port: {new} datagrams or connections that are no RTP"),
        }
    }
}
