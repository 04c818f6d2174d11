//! What peers have sent that is not complete, and replies that they do not take: bounded for the shard as a whole.
//!
//! Each connection has limits of its own, but there may be twenty thousand of them. Over `limits.held_bytes_max` the connection that
//! holds most is closed: whoever fills a server with halves of messages meets its own limit, and a publisher's frame does not.

use super::core::{Core, Ports};
use crate::hub::fanout::ConnIndex;
use crate::media::Stamp;

impl<P: Ports> Core<P> {
    /// After an input: notes what the connection holds now, and closes the largest while the shard holds too much.
    pub(super) fn bound_held(&mut self, index: ConnIndex, now: Stamp) {
        self.note_held(index);
        if self.held_bytes <= self.held_bytes_max {
            return;
        }
        // Replies that went out since are still counted: look again before anybody is closed.
        let all: Vec<ConnIndex> = self.conns.iter().map(|(index, _)| index).collect();
        all.into_iter().for_each(|index| self.note_held(index));
        while self.held_bytes > self.held_bytes_max {
            let Some((largest, conn)) = self.conns.iter().max_by_key(|(_, conn)| conn.held_bytes) else { return };
            log::warn!(
                "{} {}: holds {} KiB, limits.held_bytes_max is reached, closed",
                conn.protocol,
                conn.peer_text(),
                conn.held_bytes / 1024
            );
            *self.counters.session_errors.entry((conn.protocol, "held_bytes")).or_default() += 1;
            // The session goes at once: its memory is what is wanted.
            self.conns[largest].session = None;
            self.drop_conn(now, largest);
            self.note_held(largest);
        }
    }

    fn note_held(&mut self, index: ConnIndex) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        let held = conn.session.as_ref().map_or(0, |session| session.held_bytes() + conn.out.queued_bytes());
        self.held_bytes = self.held_bytes - conn.held_bytes + held;
        conn.held_bytes = held;
    }
}
