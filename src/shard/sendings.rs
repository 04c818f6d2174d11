//! Sessions that were started to send a stream: what they say of themselves, and how somebody who connects to one becomes its connection.
//!
//! They are viewers like any other. What one said last is kept when it is over, for the newest [`OVER_MAX`]. Not here: how they are
//! started (`receptions.rs`).

use std::net::SocketAddr;

use super::conn::{Conn, Socket, State};
use super::core::{Answer, Core, Ports};
use super::message::SessionId;
use crate::hub::fanout::ConnIndex;
use crate::media::Stamp;
use crate::session::{Input, Sending, SendingState};

/// Sessions that are over of which something is known; the oldest go.
const OVER_MAX: usize = 256;

impl<P: Ports> Core<P> {
    /// What all such sessions say of themselves, those first that run.
    pub(super) fn sendings(&self) -> Vec<(SessionId, Sending)> {
        let running = self.conns.iter().filter_map(|(_, conn)| self.sending(conn));
        running.chain(self.sendings_over.iter().rev().cloned()).collect()
    }

    pub(super) fn sending(&self, conn: &Conn) -> Option<(SessionId, Sending)> {
        let sending = conn.session.as_ref()?.sending()?;
        Some((SessionId { shard: self.id, number: conn.number }, Sending { bytes: conn.out.bytes_sent, ..sending }))
    }

    pub(super) fn keep_sending(&mut self, conn: &Conn) {
        let Some((id, mut last)) = self.sending(conn) else { return };
        if last.state != SendingState::Ended {
            (last.state, last.detail) = (SendingState::Ended, "the connection is over".to_owned());
        }
        if self.sendings_over.len() == OVER_MAX {
            self.sendings_over.pop_front();
        }
        self.sendings_over.push_back((id, last));
    }

    pub(super) fn await_peer(&mut self, index: ConnIndex) {
        self.close_port(index);
        let opened = self.ports.await_peer(index);
        self.conns[index].port = opened.map(|opened| opened.handle);
        if opened.is_none() {
            log::warn!("{}: no TCP port is left", self.conns[index].protocol);
        }
        self.answer(index, Answer::PortOpened(opened.map(|opened| opened.port)));
    }

    /// Somebody has connected to the port of a session that waited for that. `false`: it does not any more, and the connection is to be
    /// closed; else it is the session's own, for whoever calls to serve.
    pub fn peer_connected(&mut self, now: Stamp, index: ConnIndex, peer: SocketAddr, socket: Socket) -> bool {
        let Some(conn) = self.conns.get_mut(index).filter(|conn| conn.state == State::Open && conn.socket.is_none()) else {
            return false;
        };
        (conn.socket, conn.peer, conn.last_input) = (Some(socket), Some(peer), now);
        self.close_port(index);
        self.drive(index, now, Input::Connected(peer));
        self.settle_answers(now);
        true
    }
}
