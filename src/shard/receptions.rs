//! Sessions that the operator has started to receive a stream: how they begin, their TCP ports, and what they say of themselves.
//!
//! Such a session has no connection of its own and cannot move, so it begins on the shard that owns its stream, if one does. What it said
//! last is kept when it is over, for the newest [`OVER_MAX`].

use std::net::SocketAddr;

use super::conn::{Conn, Socket};
use super::core::{Answer, Core, Ports};
use super::message::{Receiving, SessionId, ShardId};
use crate::hub::fanout::ConnIndex;
use crate::media::Stamp;
use crate::session::{Input, Reception, Refusal, Session};

/// Sessions that are over of which something is known; the oldest go.
const OVER_MAX: usize = 256;

impl<P: Ports> Core<P> {
    pub(super) fn receive(&mut self, now: Stamp, session: Box<dyn Session>, protocol: &'static str) -> Receiving {
        if let Some(owner) = self.other_owner(&*session) {
            return Receiving::Elsewhere(owner);
        }
        if self.draining() {
            return Receiving::Refused(Refusal::ShuttingDown);
        }
        if self.conns.len() >= self.config.limits.connections_per_shard_max {
            self.counters.refused += 1;
            return Receiving::Refused(Refusal::LimitReached);
        }
        self.counters.accepted += 1;
        let id = SessionId { shard: self.id, number: self.start_internal(now, session, protocol) };
        self.begun(id)
    }

    fn begun(&self, id: SessionId) -> Receiving {
        let received = self.receptions().into_iter().find(|(of, _)| *of == id);
        let sent = self.sendings().into_iter().find(|(of, _)| *of == id);
        match (received, sent) {
            (Some((id, reception)), _) => Receiving::Started(id, reception),
            (None, Some((id, sending))) => Receiving::Sends(id, sending),
            // It panicked.
            (None, None) => Receiving::Refused(Refusal::LimitReached),
        }
    }

    /// Starts a session on a connection that was made for it. It has begun, or been refused, before anything comes.
    pub fn begin(
        &mut self,
        now: Stamp,
        session: Box<dyn Session>,
        protocol: &'static str,
        peer: SocketAddr,
        socket: Socket,
    ) -> (Receiving, Option<ConnIndex>) {
        if let Some(owner) = self.other_owner(&*session) {
            return (Receiving::Elsewhere(owner), None);
        }
        let Some(index) = self.accept(now, session, protocol, peer, socket) else {
            let refusal = if self.draining() { Refusal::ShuttingDown } else { Refusal::LimitReached };
            return (Receiving::Refused(refusal), None);
        };
        self.drive(index, now, Input::Timeout);
        self.settle_answers(now);
        if self.conns[index].moving.is_some() {
            // Another shard has taken the name at this very moment.
            self.drop_conn(now, index);
            return (Receiving::Refused(Refusal::NameInUse), Some(index));
        }
        let id = SessionId { shard: self.id, number: self.conns[index].number };
        (self.begun(id), Some(index))
    }

    /// The other shard that owns the stream that a session receives.
    fn other_owner(&self, session: &dyn Session) -> Option<ShardId> {
        let key = session.reception()?.key;
        self.directory.owner(&key).filter(|owner| *owner != self.id)
    }

    pub(super) fn receptions(&self) -> Vec<(SessionId, Reception)> {
        let running = self.conns.iter().filter_map(|(_, conn)| self.reception(conn));
        running.chain(self.receptions_over.iter().rev().cloned()).collect()
    }

    fn reception(&self, conn: &Conn) -> Option<(SessionId, Reception)> {
        let reception = conn.session.as_ref()?.reception()?;
        Some((SessionId { shard: self.id, number: conn.number }, reception))
    }

    pub(super) fn keep_reception(&mut self, conn: &Conn) {
        if let Some(last) = self.reception(conn) {
            if self.receptions_over.len() == OVER_MAX {
                self.receptions_over.pop_front();
            }
            self.receptions_over.push_back(last);
        }
    }

    pub(super) fn open_port(&mut self, index: ConnIndex) {
        self.close_port(index);
        let opened = self.ports.open_port(index);
        self.conns[index].port = opened.map(|opened| opened.handle);
        if opened.is_none() {
            log::warn!("{} {}: no TCP port is left", self.conns[index].protocol, self.conns[index].peer_text());
        }
        self.answer(index, Answer::PortOpened(opened.map(|opened| opened.port)));
    }

    pub(super) fn close_port(&mut self, index: ConnIndex) {
        if let Some(handle) = self.conns[index].port.take() {
            self.ports.close_port(handle);
        }
    }

    /// Somebody has connected to a session's port.
    pub fn connected(&mut self, now: Stamp, index: ConnIndex, peer: SocketAddr) {
        self.drive(index, now, Input::Connected(peer));
        self.settle_answers(now);
    }

    /// The connection of a session is over; those that the operator has started say so.
    pub(super) fn tell_disconnected(&mut self, now: Stamp, index: ConnIndex) {
        let session = self.conns.get(index).and_then(|conn| conn.session.as_ref());
        if session.is_some_and(|session| session.reception().is_some() || session.sending().is_some()) {
            self.drive(index, now, Input::Disconnected);
        }
    }

    /// Whoever was connected to a session's port is not any more.
    pub fn disconnected(&mut self, now: Stamp, index: ConnIndex) {
        self.drive(index, now, Input::Disconnected);
        self.settle_answers(now);
    }
}
