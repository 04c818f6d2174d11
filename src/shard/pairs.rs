//! The UDP ports of sessions: opened and closed for them, read for them, and written on their word.
//!
//! Both ports of a pair are on the shard of their session and end with it. Media to viewers does not pass here, see `flush.rs`.

use std::net::SocketAddr;

use super::conn::Pair;
use super::core::{Answer, Core, Datagram, Ports};
use crate::format::rtp::demux::Received;
use crate::hub::fanout::ConnIndex;
use crate::hub::stats::PacketFate;
use crate::media::Stamp;
use crate::session::{Input, PairId, PairTarget};

impl<P: Ports> Core<P> {
    pub(super) fn open_pair(&mut self, index: ConnIndex, id: PairId) {
        self.close_pair(index, id);
        let conn = &mut self.conns[index];
        let opened = self.ports.open_pair(conn.socket, index, id);
        if let Some(opened) = opened {
            conn.pairs.push(Pair { id, handle: Some(opened.handle), rtp: opened.rtp, rtcp: opened.rtcp });
        } else {
            log::warn!("{} {}: no pair of UDP ports is left", conn.protocol, conn.peer_text());
        }
        self.answer(index, Answer::PairOpened(id, opened.map(|opened| opened.port)));
    }

    pub(super) fn close_pair(&mut self, index: ConnIndex, id: PairId) {
        let conn = &mut self.conns[index];
        if let Some(at) = conn.pairs.iter().position(|pair| pair.id == id)
            && let Some(handle) = conn.pairs.swap_remove(at).handle
        {
            self.ports.close_pair(handle);
        }
    }

    pub(super) fn close_pairs(&mut self, index: ConnIndex) {
        for handle in self.conns[index].pairs.drain(..).filter_map(|pair| pair.handle) {
            self.ports.close_pair(handle);
        }
    }

    pub(super) fn pair(&self, index: ConnIndex, id: PairId) -> Option<Pair> {
        self.conns[index].pairs.iter().find(|pair| pair.id == id).copied()
    }

    /// A datagram has come to a session's port.
    pub fn datagram(&mut self, now: Stamp, index: ConnIndex, datagram: Datagram<'_>) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        let Datagram { pair, rtcp, from, bytes } = datagram;
        // Anybody can send to a port: only its peer's machine speaks for a session.
        if conn.peer.is_some_and(|peer| peer.ip().to_canonical() == from.ip().to_canonical()) {
            conn.last_input = now;
        }
        conn.bytes_in += bytes.len() as u64;
        self.counters.bytes_in += bytes.len() as u64;
        self.drive(index, now, Input::Datagram { pair, rtcp, from, bytes });
        self.settle_answers(now);
    }

    /// The kernel had no room for datagrams to a session's port.
    pub fn datagrams_lost(&mut self, index: ConnIndex, count: u64) {
        let publishing = self.conns.get(index).and_then(|conn| conn.publishing);
        if let Some(at) = publishing {
            self.streams[at].stream.counters.packets_in[PacketFate::KernelDrop as usize] += count;
        }
    }

    pub(super) fn count_received(&mut self, index: ConnIndex, received: Received) {
        if let Some(at) = self.conns[index].publishing {
            let Received { received, lost, reordered, useless } = received;
            let counts = &mut self.streams[at].stream.counters.packets_in;
            counts[PacketFate::Received as usize] += received;
            counts[PacketFate::Reordered as usize] += reordered;
            counts[PacketFate::Lost as usize] += lost;
            counts[PacketFate::Useless as usize] += useless;
        }
    }

    /// Control packets of a session. They are repeated by their nature, so one that the kernel does not take is gone.
    pub(super) fn send_datagram(&mut self, index: ConnIndex, pair: PairId, rtcp: bool, to: SocketAddr, bytes: &[u8]) {
        let Some(pair) = self.pair(index, pair) else { return };
        let socket = if rtcp { pair.rtcp } else { pair.rtp };
        let datagram_bytes = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        if let Err(error) = self.ports.send_datagrams(socket, to, bytes, datagram_bytes) {
            log::debug!("{} {}: to {to}: {error}", self.conns[index].protocol, self.conns[index].peer_text());
        }
    }

    /// A viewer's real address has shown.
    pub(super) fn redirect(&mut self, index: ConnIndex, target: PairTarget) {
        let Some(datagrams) = self.conns[index].datagrams.as_deref_mut() else { return };
        for (pair, to) in [&mut datagrams.video, &mut datagrams.audio].into_iter().flatten() {
            if pair.id == target.pair {
                *to = target;
            }
        }
    }
}
