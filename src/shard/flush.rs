//! The end of a turn: everything that has something to send sends it.
//!
//! A round over the viewers of each stream that got something new, one `sendmsg` each. A viewer whose kernel buffer is full is left
//! to its own task, which waits until it is writable; the others are not held up. The clock is read once for
//! [`SENDS_PER_CLOCK`] viewers, after their bytes went out, so that latency is never understated.
//!
//! A turn is bounded by [`TURN`]: what it leaves of a round goes on in the next, after whoever has come in between. When rounds begin says
//! [`super::passes`].

use std::io;
use std::time::Duration;

use super::conn::{Datagrams, Pair, Playing, State, StreamIndex};
use super::core::{Answer, Core, Ports};
use super::passes::Place;
use crate::format::Packet;
use crate::format::rtp::Flow;
use crate::hub::fanout::{ConnIndex, SentLog};
use crate::hub::outgoing::Taken;
use crate::hub::{Fanout, Outgoing, Pump};
use crate::media::{Stamp, TrackKind};
use crate::session::PairTarget;

/// What a viewer gets as datagrams at once, and how long it then waits: at most 262 Mbit/s each, and never more than the receive
/// buffer that a client has by default (212,992 bytes in Linux, of which a datagram of 1,400 bytes takes 2,304).
const PACE_BYTES: usize = 64 * 1024;
const PACE: Duration = Duration::from_millis(2);
/// Viewers served per reading of the clock: 16 system calls take about a tenth of a millisecond.
const SENDS_PER_CLOCK: usize = 16;
/// How long a turn serves rounds, and how long single connections: whoever wants to be read or accepted waits for twice that at most.
const TURN: Duration = Duration::from_millis(1);
/// How long a peer may take to close its side.
const LINGER_MS: u64 = 1_000;

impl<P: Ports> Core<P> {
    /// One turn's worth of sending; [`Core::wants_flush`] says whether something is left.
    pub fn flush(&mut self, now: Stamp) {
        while let Some(at) = self.dirty_streams.pop_front() {
            if let Some(slot) = self.streams.get_mut(at) {
                slot.dirty = false;
                self.enlist(at, now);
                self.forward(at);
            }
        }
        self.begin_pass(now);
        let reached = self.serve_rounds(now);
        self.serve_conns(reached);
        self.settle_answers(reached);
    }

    /// Lets the viewers of a stream have a round, in the pass that goes on or in the next one.
    fn enlist(&mut self, at: StreamIndex, now: Stamp) {
        let slot = &mut self.streams[at];
        if slot.place != Place::Idle {
            return;
        }
        if self.passes.admits(slot.last_pass) {
            self.begin_rounds(at);
        } else {
            slot.place = Place::Waits;
            self.passes.wait(at, now);
        }
    }

    /// Begins the next pass if it is due and something waits for it.
    pub(super) fn begin_pass(&mut self, now: Stamp) {
        if self.passes.begin(now) {
            while let Some(at) = self.passes.next_waiting() {
                self.begin_rounds(at);
            }
        }
    }

    fn begin_rounds(&mut self, at: StreamIndex) {
        let slot = &mut self.streams[at];
        slot.place = Place::Served;
        slot.last_pass = self.passes.number();
        slot.stream.fanouts.iter_mut().for_each(|fanout| fanout.round.begin());
        self.passes.serve(at);
    }

    /// Serves the streams in turn until [`TURN`] is over; says when that was.
    fn serve_rounds(&mut self, now: Stamp) -> Stamp {
        let (mut reached, until) = (now, now.after(TURN));
        while let Some(at) = self.passes.next_served() {
            let Some(fanout_at) = self.streams[at].stream.fanouts.iter().position(|fanout| fanout.round.goes_on()) else {
                self.end_rounds(at, reached);
                continue;
            };
            // A viewer that fails may take its fan-out along: not before the round is left.
            let mut failed = Vec::new();
            reached = self.serve_round(at, fanout_at, reached, until, &mut failed);
            self.passes.serve(at);
            for (index, error) in failed {
                self.failed(reached, index, &error);
            }
            if reached >= until {
                break;
            }
        }
        self.passes.end_if_done(reached);
        reached
    }

    /// All viewers of a stream have been served in this pass.
    fn end_rounds(&mut self, at: StreamIndex, now: Stamp) {
        let slot = &mut self.streams[at];
        slot.place = Place::Idle;
        if slot.stream.fanouts.iter().any(|fanout| fanout.round.is_wanted()) {
            self.enlist(at, now);
        } else if slot.ended {
            self.finish_viewers(at, now);
        }
    }

    /// Serves the viewers of a fan-out from where its round stands, until it is done or the time is over; says when that was.
    fn serve_round(
        &mut self,
        at: StreamIndex,
        fanout_at: usize,
        now: Stamp,
        until: Stamp,
        failed: &mut Vec<(ConnIndex, io::Error)>,
    ) -> Stamp {
        let mut sent = std::mem::take(&mut self.sent_log);
        self.joined.reset();
        let mut reached = now;
        let mut served = 0;
        while reached < until
            && let Some(index) = self.streams[at].stream.fanouts[fanout_at].next_in_round()
        {
            if let Some(error) = self.serve_viewer(at, fanout_at, index, reached, &mut sent) {
                failed.push((index, error));
            }
            served += 1;
            if served % SENDS_PER_CLOCK == 0 {
                reached = self.ports.now();
                self.record_sent(at, fanout_at, reached, &mut sent);
            }
        }
        if !sent.is_empty() {
            reached = self.ports.now();
            self.record_sent(at, fanout_at, reached, &mut sent);
        }
        self.sent_log = sent;
        reached
    }

    fn record_sent(&mut self, at: StreamIndex, fanout_at: usize, now: Stamp, sent: &mut SentLog) {
        let stream = &mut self.streams[at].stream;
        stream.counters.packets_out += sent.record(now, &mut stream.fanouts[fanout_at].latency);
    }

    fn serve_viewer(
        &mut self,
        at: StreamIndex,
        fanout_at: usize,
        index: ConnIndex,
        now: Stamp,
        sent: &mut SentLog,
    ) -> Option<io::Error> {
        let stream = &mut self.streams[at].stream;
        let fanout = &stream.fanouts[fanout_at];
        let conn = &mut self.conns[index];
        stream.counters.skips += u64::from(conn.out.skip_if_late(&fanout.ring, now, self.config.viewer.lag_ms_max));
        if conn.state != State::Open || (conn.datagrams.is_none() && conn.out.blocked) {
            return None;
        }
        // The session has been told `Playing` by the end of the turn in which the viewer was attached, so its own bytes lead.
        let bytes_before = conn.out.bytes_sent;
        let ports = &mut self.ports;
        let result = match (conn.datagrams.as_deref_mut(), conn.socket) {
            (None, None) => Pump::Idle,
            (None, Some(socket)) => {
                // One packet is as quickly sent in its parts.
                if let Some(place) = conn.out.place().filter(|place| fanout.ring.end() > place + 1) {
                    self.joined.prepare(&fanout.ring, place);
                }
                conn.out.pump(Some(fanout), Some(&self.joined), now, sent, |slices| ports.send(socket, slices))
            }
            // Its own bytes (the reply that announces the media) lead.
            (Some(_), _) if !conn.out.is_empty() => Pump::More,
            (Some(datagrams), _) => pump_datagrams(&mut conn.out, datagrams, fanout, now, sent, ports),
        };
        stream.counters.bytes_out += conn.out.bytes_sent - bytes_before;
        take_drops(&mut conn.out, &mut stream.counters);
        match result {
            Pump::Idle => {}
            // A socket for datagrams that is full for a moment is tried again with the next frame.
            Pump::Blocked if conn.datagrams.is_some() => {}
            Pump::Blocked => conn.wake(),
            // Its datagrams are paced from now on.
            Pump::More if conn.datagrams.is_some() && conn.out.is_empty() => {
                self.paced.push_back((now.after(PACE), index));
            }
            Pump::More => self.mark_conn(index),
            Pump::Failed(error) => return Some(error),
        }
        None
    }

    /// Lets connections that have something of their own send it, until [`TURN`] is over.
    fn serve_conns(&mut self, now: Stamp) {
        let until = now.after(TURN);
        let mut reached = now;
        // Who has more to send after its turn stands behind the others, in the next turn.
        for served in 1..=self.dirty_conns.len() {
            let Some(index) = self.dirty_conns.pop_front() else { return };
            if let Some(conn) = self.conns.get_mut(index) {
                conn.dirty = false;
                self.flush_conn(index, reached);
            }
            if served % SENDS_PER_CLOCK == 0 {
                reached = self.ports.now();
                if reached >= until {
                    return;
                }
            }
        }
    }

    /// Sends what one connection has, be it a viewer or not.
    pub(super) fn flush_conn(&mut self, index: ConnIndex, now: Stamp) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        if !matches!(conn.state, State::Open | State::Closing(_)) || conn.moving.is_some() || conn.out.blocked {
            return;
        }
        let mut sent = SentLog::default();
        let bytes_before = conn.out.bytes_sent;
        let place = viewer_place(&conn.playing, &self.streams);
        let fanout = place.map(|(at, fanout_at)| &self.streams[at].stream.fanouts[fanout_at]);
        let ports = &mut self.ports;
        let on_connection = fanout.filter(|_| conn.datagrams.is_none());
        let mut result = match conn.socket {
            Some(socket) => conn.out.pump(on_connection, None, now, &mut sent, |slices| ports.send(socket, slices)),
            None => Pump::Idle,
        };
        let mut paced = false;
        if let (Pump::Idle, Some(fanout), Some(datagrams)) = (&result, fanout, conn.datagrams.as_deref_mut()) {
            result = pump_datagrams(&mut conn.out, datagrams, fanout, now, &mut sent, ports);
            paced = datagrams.paced_until > now;
        }
        if let Some((at, fanout_at)) = place {
            let stream = &mut self.streams[at].stream;
            stream.counters.bytes_out += conn.out.bytes_sent - bytes_before;
            take_drops(&mut conn.out, &mut stream.counters);
            stream.counters.packets_out += sent.record(self.ports.now(), &mut stream.fanouts[fanout_at].latency);
        }
        match result {
            Pump::More if paced => self.paced.push_back((now.after(PACE), index)),
            Pump::Blocked if self.conns[index].datagrams.is_some() && !self.conns[index].out.blocked => {}
            Pump::Idle => self.sent_all(index, now),
            Pump::Blocked => self.conns[index].wake(),
            Pump::More => self.mark_conn(index),
            Pump::Failed(error) => self.failed(now, index, &error),
        }
    }

    fn sent_all(&mut self, index: ConnIndex, now: Stamp) {
        let conn = &mut self.conns[index];
        if std::mem::take(&mut conn.sent_due) && conn.state == State::Open {
            return self.answer(index, Answer::Sent);
        }
        if let (State::Closing(_), Some(socket)) = (conn.state, conn.socket) {
            // Closing at once would destroy what the peer has not read yet, if it still sends.
            self.ports.finish(socket);
            conn.state = State::Finished(now.after_millis(LINGER_MS));
            self.rearm(index);
        } else if let Playing::Viewing { stream, .. } = conn.playing
            && self.streams[stream].ended
        {
            self.finish_viewers(stream, now);
        }
    }

    /// Tells the viewers of a stream that is over, once each has got everything.
    fn finish_viewers(&mut self, at: StreamIndex, now: Stamp) {
        let mut finished: Vec<ConnIndex> = Vec::new();
        for fanout in &self.streams[at].stream.fanouts {
            let done = fanout.viewers.iter().filter(|viewer| self.conns[**viewer].out.at_end(&fanout.ring));
            finished.extend(done.copied());
        }
        for index in finished {
            self.viewer_finished(index, now);
        }
    }

    /// The first bytes that a blocked connection wants to send: its task offers them to the runtime, which then watches the socket.
    pub fn front(&self, index: ConnIndex) -> Option<&[u8]> {
        let conn = self.conns.get(index)?;
        conn.out.front(self.ring_owner(index).map(|fanout| &fanout.ring).filter(|_| conn.datagrams.is_none()))
    }

    /// The runtime has sent `count` of those bytes: the connection is writable again.
    pub fn wrote(&mut self, now: Stamp, index: ConnIndex, count: usize) {
        let Some(conn) = self.conns.get_mut(index) else { return };
        let mut sent = SentLog::default();
        let place = viewer_place(&conn.playing, &self.streams);
        let ring = place.map(|(at, fanout_at)| &self.streams[at].stream.fanouts[fanout_at].ring);
        let ring = ring.filter(|_| conn.datagrams.is_none());
        conn.out.advance(count, ring, &mut sent);
        conn.out.blocked = false;
        if let Some((at, fanout_at)) = place {
            let stream = &mut self.streams[at].stream;
            stream.counters.bytes_out += count as u64;
            stream.counters.packets_out += sent.record(now, &mut stream.fanouts[fanout_at].latency);
        }
        self.flush_conn(index, now);
        self.settle_answers(now);
    }

    fn ring_owner(&self, index: ConnIndex) -> Option<&Fanout> {
        let (at, fanout_at) = viewer_place(&self.conns.get(index)?.playing, &self.streams)?;
        Some(&self.streams[at].stream.fanouts[fanout_at])
    }
}

/// Sends a viewer its datagrams, as many as may go out now.
fn pump_datagrams<P: Ports>(
    out: &mut Outgoing,
    datagrams: &mut Datagrams,
    fanout: &Fanout,
    now: Stamp,
    sent: &mut SentLog,
    ports: &mut P,
) -> Pump {
    if datagrams.paced_until > now {
        return Pump::Idle;
    }
    let (video, audio) = (datagrams.video, datagrams.audio);
    let result = out.pump_datagrams(fanout, now, PACE_BYTES, sent, |packet| send_packet(packet, video, audio, ports));
    if matches!(result, Pump::More) {
        datagrams.paced_until = now.after(PACE);
    }
    result
}

/// Sends one packet of a ring to the addresses of its track.
fn send_packet<P: Ports>(
    packet: &Packet,
    video: Option<(Pair, PairTarget)>,
    audio: Option<(Pair, PairTarget)>,
    ports: &mut P,
) -> io::Result<Taken> {
    const NOT_WANTED: Taken = Taken { bytes: 0, whole: true };
    let Some(train) = packet.train else { return Ok(NOT_WANTED) };
    let target = match train.flow {
        Flow::Media(TrackKind::Video) => video,
        Flow::Media(_) => audio,
        Flow::Reports => {
            for (part, target) in packet.parts.iter().zip([video, audio]) {
                if let Some((pair, to)) = target.filter(|_| !part.is_empty()) {
                    let datagram_bytes = u16::try_from(part.len()).unwrap_or(u16::MAX);
                    ports.send_datagrams(pair.rtcp, to.rtcp, part, datagram_bytes)?;
                }
            }
            return Ok(NOT_WANTED);
        }
    };
    let Some((pair, to)) = target else { return Ok(NOT_WANTED) };
    let size = usize::from(train.datagram_bytes.get());
    let mut bytes = 0;
    for part in &packet.parts {
        let count = ports.send_datagrams(pair.rtp, to.rtp, part, train.datagram_bytes.get())?;
        bytes += part.len().min(count * size);
    }
    Ok(Taken { bytes, whole: bytes == packet.len })
}

/// The stream and the fan-out that a viewer reads.
pub(super) fn viewer_place(playing: &Playing, streams: &slab::Slab<super::streams::Slot>) -> Option<(StreamIndex, usize)> {
    let Playing::Viewing { stream, format, protocol, .. } = playing else { return None };
    let fanouts = &streams[*stream].stream.fanouts;
    let at = fanouts.iter().position(|f| f.format == *format && f.protocol == *protocol)?;
    Some((*stream, at))
}

/// Counts on the stream what a viewer left out.
pub(super) fn take_drops(out: &mut Outgoing, counters: &mut crate::hub::stats::StreamCounters) {
    for (total, dropped) in counters.dropped.iter_mut().zip(&mut out.dropped) {
        *total += std::mem::take(dropped);
    }
}
