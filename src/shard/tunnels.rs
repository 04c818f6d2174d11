//! Connections that belong together: the two halves of a tunnel, wherever they landed, and a connection that changes its protocol.

use std::sync::Arc;

use bytes::Bytes;

use super::core::{Answer, Core, Ports};
use crate::hub::fanout::ConnIndex;
use crate::media::Stamp;
use crate::session::{Output, Refusal};

impl<P: Ports> Core<P> {
    pub(super) fn open_tunnel(&mut self, index: ConnIndex, name: Arc<str>) {
        self.close_tunnel(index);
        let Some(tunnel) = self.directory.open_tunnel(&name, self.id) else {
            return self.answer(index, Answer::Refused(Refusal::NameInUse));
        };
        self.tunnels.insert(name, index);
        self.conns[index].tunnel = Some(tunnel);
    }

    pub(super) fn close_tunnel(&mut self, index: ConnIndex) {
        if let Some(tunnel) = self.conns[index].tunnel.take() {
            self.tunnels.remove(tunnel.name());
        }
    }

    /// What comes through a tunnel is its opener's input: that is who speaks, and who would be silent without it.
    pub(super) fn tunnel(&mut self, index: ConnIndex, now: Stamp, name: Arc<str>, bytes: Bytes) {
        if let Some(opener) = self.tunnels.get(&name).copied() {
            self.conns[index].moves = 0;
            let conn = &mut self.conns[opener];
            conn.last_input = now;
            conn.bytes_in += bytes.len() as u64;
            return self.answer(opener, Answer::Bytes(bytes));
        }
        match self.directory.tunnel(&name) {
            Some(shard) if shard != self.id => self.move_to(index, shard, Output::Tunnel { name, bytes }),
            _ => self.answer(index, Answer::Refused(Refusal::NotFound)),
        }
    }

    pub(super) fn become_other(&mut self, index: ConnIndex, now: Stamp, protocol: &'static str, bytes: Bytes) {
        let Some(peer) = self.conns[index].peer else { return };
        match self.ports.session(protocol, peer, now) {
            Some(session) => {
                let conn = &mut self.conns[index];
                conn.session = Some(session);
                conn.protocol = protocol;
                self.answer(index, Answer::Bytes(bytes));
            }
            None => self.close(index, now),
        }
    }
}
