//! What one connection still has to send: its own bytes, the rest of a packet that was cut, and its cursor into a ring.
//!
//! A viewer has no queue. Its own bytes (replies, heads, configs) go before media, but never into the middle of a packet. The only
//! media that it holds is the packet that the kernel took in part.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};
use smallvec::SmallVec;

use super::fanout::{Fanout, SentLog};
use super::joined::Joined;
use super::ring::{Cursor, Ring};
use super::stats::DropReason;
use crate::format::Packet;
use crate::media::Stamp;
use crate::session::Start;

/// Slices per system call.
const SLICES_MAX: usize = 64;
/// System calls per viewer and turn: a newcomer's burst must not hold up the others.
const SENDS_PER_TURN: usize = 4;

/// A viewer's place in its fan-out.
#[derive(Debug)]
pub struct Subscription {
    cursor: Cursor,
    /// Numbers below this were sent or, if they were configs, replaced: what lies between this and the cursor was dropped.
    seen: u64,
    /// Why the viewer waits for a key, if it skipped.
    skipping: Option<DropReason>,
    /// While a newcomer has not caught up with the stream since it got a GOP that was there before it: how old what it needed was at
    /// best, in milliseconds. That is no lag, as long as it shrinks.
    behind_ms: Option<u64>,
    /// When the viewer had caught up: what arrived earlier does not count as latency.
    since: Stamp,
    /// Head and config have been queued.
    begun: bool,
    /// The viewer gets whole packets as datagrams, not bytes of the connection.
    datagrams: bool,
    /// The config that goes out before the next packet of the ring, as a datagram.
    config_due: Option<Box<Packet>>,
    paused: bool,
    pub skips: u64,
}

impl Subscription {
    pub fn new(ring: &Ring, start: Start, datagrams: bool) -> Self {
        Subscription {
            cursor: ring.begin(start),
            seen: ring.end(),
            skipping: None,
            behind_ms: None,
            since: Stamp::ZERO,
            begun: false,
            datagrams,
            config_due: None,
            paused: false,
            skips: 0,
        }
    }

    /// The place that is next.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Everything that is there has been sent.
    fn caught_up(&mut self, now: Stamp) {
        if self.behind_ms.take().is_some() {
            self.since = now;
        }
    }

    fn counts(&self, packet: &Packet) -> bool {
        self.behind_ms.is_none() && packet.arrival > self.since
    }
}

/// What a send took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    pub count: usize,
    /// Nothing more is taken until the socket is writable.
    pub full: bool,
}

/// What the kernel took of a packet that travels as datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub bytes: usize,
    /// Nothing of it is left: what is, is lost.
    pub whole: bool,
}

/// How a [`Outgoing::pump`] ended.
#[derive(Debug)]
pub enum Pump {
    /// Nothing is left to send.
    Idle,
    /// The kernel takes no more now.
    Blocked,
    /// There is more, but others are to have their turn.
    More,
    Failed(io::Error),
}

#[derive(Debug, Default)]
pub struct Outgoing {
    /// The connection's own bytes.
    queue: VecDeque<Bytes>,
    queue_bytes: usize,
    /// How many at the end of `queue` are the memory of others, and their bytes.
    shared: usize,
    shared_bytes: usize,
    /// A packet of which the kernel took a part, front part advanced.
    partial: SmallVec<[Bytes; 3]>,
    /// When that packet's frame arrived, if its latency counts.
    partial_arrival: Option<Stamp>,
    pub subscription: Option<Subscription>,
    /// The kernel's buffer was full at the last send: wait until the socket is writable.
    pub blocked: bool,
    /// Since when the kernel has taken nothing, though it was offered something.
    stalled_since: Option<Stamp>,
    pub bytes_sent: u64,
    /// Packets of the ring that were not sent, in the order of [`DropReason::ALL`]; the owner of this takes and counts them.
    pub dropped: [u64; DropReason::ALL.len()],
}

impl Outgoing {
    pub fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.queue_bytes += bytes.len();
            // What waits in front of it counts as its own from now on.
            (self.shared, self.shared_bytes) = (0, 0);
            self.queue.push_back(bytes);
        }
    }

    /// As [`Outgoing::push`], for bytes that others hold as well.
    pub fn push_shared(&mut self, bytes: Bytes) {
        let len = bytes.len();
        if len > 0 {
            self.queue_bytes += len;
            self.queue.push_back(bytes);
            self.shared += 1;
            self.shared_bytes += len;
        }
    }

    /// Own bytes that wait.
    pub fn queued_bytes(&self) -> usize {
        self.queue_bytes - self.shared_bytes
    }

    /// Nothing but the ring is left.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.partial.is_empty()
    }

    /// Everything that waits outside the ring, taken out: for a connection that moves to another shard.
    pub fn take_unsent(&mut self) -> Vec<Bytes> {
        self.queue_bytes = 0;
        (self.shared, self.shared_bytes) = (0, 0);
        self.partial.drain(..).chain(self.queue.drain(..)).collect()
    }

    pub fn set_paused(&mut self, paused: bool, ring: &Ring) {
        let Some(subscription) = &mut self.subscription else { return };
        if paused && !subscription.paused {
            if let Cursor::At(at) = subscription.cursor {
                subscription.seen = at;
            }
            subscription.skipping = None;
            subscription.cursor = Cursor::NextKey(ring.end());
            subscription.behind_ms = None;
        } else if !paused && subscription.paused {
            subscription.cursor = Cursor::NextKey(ring.end());
        }
        subscription.paused = paused;
    }

    /// How far the viewer has fallen back: the age of the oldest packet in the ring that it still needs. What was there before it
    /// came is no lag, unless it falls back from there.
    pub fn lag_ms(&self, ring: &Ring, now: Stamp) -> u64 {
        let behind_ms = self.subscription.as_ref().and_then(|subscription| subscription.behind_ms).unwrap_or(0);
        self.age_ms(ring, now).saturating_sub(behind_ms)
    }

    /// Age of the oldest packet in the ring that this viewer still needs. Who has not begun has had no chance to send.
    fn age_ms(&self, ring: &Ring, now: Stamp) -> u64 {
        let Some(at) = self.ready_at() else { return 0 };
        // A config has no age of its own: what counts is the frame behind it.
        let mut packets = (at.max(ring.base())..ring.end()).filter_map(|number| ring.get(number));
        let frame = packets.find(|packet| packet.arrival != Stamp::ZERO);
        frame.map_or(0, |packet| now.millis_since(packet.arrival))
    }

    /// Whether everything of the ring has been sent, or nothing of it can be any more.
    pub fn at_end(&self, ring: &Ring) -> bool {
        self.is_empty()
            && self.subscription.as_ref().is_none_or(|s| match s.cursor {
                // Who pauses wants nothing that is there now.
                _ if s.paused => true,
                Cursor::At(at) => at >= ring.end(),
                Cursor::NextKey(from) => ring.key_from(from).is_none(),
            })
    }

    /// Applies the rules for slow viewers; says whether this one skips.
    pub fn skip_if_late(&mut self, ring: &Ring, now: Stamp, lag_ms_max: u64) -> bool {
        let age_ms = self.age_ms(ring, now);
        let Some(subscription) = self.subscription.as_mut().filter(|s| !s.paused) else { return false };
        let Cursor::At(at) = subscription.cursor else { return false };
        if at < ring.base() && !subscription.begun {
            // Its place went by in the turn in which it came: it has missed nothing.
            (subscription.cursor, subscription.seen) = (ring.begin(Start::Gop), ring.end());
            return false;
        }
        let is_newcomer = subscription.behind_ms.is_some();
        let at_best_ms = subscription.behind_ms.as_mut().map_or(0, |best| {
            *best = age_ms.min(*best);
            *best
        });
        let reason = if at < ring.base() && !is_newcomer {
            DropReason::RingFull
        } else if at < ring.base() || age_ms - at_best_ms > lag_ms_max {
            DropReason::ViewerLag
        } else {
            return false;
        };
        subscription.caught_up(now);
        subscription.cursor = ring.skip_from(at, now, lag_ms_max);
        subscription.seen = at;
        subscription.skipping = Some(reason);
        subscription.skips += 1;
        if let Cursor::At(key) = subscription.cursor {
            self.resume_at(key, ring);
        }
        true
    }

    /// Ends the subscription. What a skip has left out so far counts as dropped, though the viewer never goes on.
    pub fn unsubscribe(&mut self, ring: Option<&Ring>) {
        let Some(subscription) = self.subscription.take() else { return };
        if let (Some(reason), Some(ring)) = (subscription.skipping, ring) {
            self.dropped[reason as usize] += ring.end().saturating_sub(subscription.seen);
        }
    }

    /// The packet of the ring that is next, unless something goes before it.
    pub fn place(&self) -> Option<u64> {
        self.ready_at().filter(|_| self.is_empty())
    }

    /// Sends until the kernel is full, nothing is left, or the turn is over. `joined`: what others at the same place have sent as one piece.
    /// `sent` collects what latency is recorded for.
    pub fn pump(
        &mut self,
        fanout: Option<&Fanout>,
        joined: Option<&Joined>,
        now: Stamp,
        sent: &mut SentLog,
        mut send: impl FnMut(&[IoSlice<'_>]) -> io::Result<Sent>,
    ) -> Pump {
        for _ in 0..SENDS_PER_TURN {
            if let Some(fanout) = fanout {
                self.begin_if_due(fanout);
            }
            let ring = fanout.map(|fanout| &fanout.ring);
            let mut slices = SmallVec::new();
            self.gather(ring, joined, &mut slices);
            if slices.is_empty() {
                drop(slices);
                return self.idle(now);
            }
            let result = send(&slices);
            drop(slices);
            match result {
                Ok(Sent { count, full }) => {
                    self.advance(count, ring, sent);
                    if full {
                        self.block(now);
                        return Pump::Blocked;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.block(now);
                    return Pump::Blocked;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Pump::Failed(error),
            }
        }
        Pump::More
    }

    /// As [`Outgoing::pump`], for a viewer that gets datagrams: whole packets, `bytes_max` at once and a packet more. `send` says what
    /// was taken of what this viewer wants of the packet. A full kernel buffer holds the viewer's place: it goes on in the next turn.
    pub fn pump_datagrams(
        &mut self,
        fanout: &Fanout,
        now: Stamp,
        bytes_max: usize,
        sent: &mut SentLog,
        mut send: impl FnMut(&Packet) -> io::Result<Taken>,
    ) -> Pump {
        let mut bytes = 0;
        loop {
            self.begin_if_due(fanout);
            let Some(at) = self.ready_at() else { return Pump::Idle };
            let Some(subscription) = self.subscription.as_mut() else { return Pump::Idle };
            let config = subscription.config_due.take();
            let is_config = config.is_some();
            let Some(packet) = config.as_deref().or_else(|| fanout.ring.get(at)) else { return self.idle(now) };
            let taken = match send(packet) {
                Ok(taken) => taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    subscription.config_due = config;
                    return Pump::Blocked;
                }
                // The address may be wrong or out of reach for now: that is the peer's business, and its keepalives tell.
                Err(_) => Taken { bytes: 0, whole: false },
            };
            bytes += taken.bytes;
            self.bytes_sent += taken.bytes as u64;
            if !taken.whole {
                self.dropped[DropReason::NotTaken as usize] += 1;
            }
            if !is_config {
                subscription.cursor = Cursor::At(at + 1);
                if taken.whole && taken.bytes > 0 && subscription.counts(packet) {
                    sent.add(packet.arrival);
                }
            }
            if bytes >= bytes_max {
                return Pump::More;
            }
        }
    }

    fn idle(&mut self, now: Stamp) -> Pump {
        if let Some(subscription) = &mut self.subscription {
            subscription.caught_up(now);
        }
        Pump::Idle
    }

    /// Nothing more is taken until the socket is writable.
    pub fn block(&mut self, now: Stamp) {
        self.blocked = true;
        self.stalled_since.get_or_insert(now);
    }

    /// While it is blocked, something has gone that counts as sent already.
    pub fn took(&mut self, now: Stamp) {
        self.stalled_since = Some(now);
    }

    /// How long the kernel has taken nothing of what there is to send.
    pub fn stalled_ms(&self, now: Stamp) -> u64 {
        self.stalled_since.filter(|_| self.blocked).map_or(0, |since| now.millis_since(since))
    }

    /// The first bytes to send, for a writer that takes one slice.
    pub fn front<'a>(&'a self, ring: Option<&'a Ring>) -> Option<&'a [u8]> {
        if let Some(part) = self.partial.first().or(self.queue.front()) {
            return Some(part);
        }
        let (ring, at) = (ring?, self.ready_at()?);
        let mut parts = (at..).map_while(|number| ring.get(number)).flat_map(|packet| &packet.parts);
        parts.find(|part| !part.is_empty()).map(|part| &part[..])
    }

    /// Takes `count` bytes as sent.
    pub fn advance(&mut self, count: usize, ring: Option<&Ring>, sent: &mut SentLog) {
        self.bytes_sent += count as u64;
        if count > 0 {
            self.stalled_since = None;
        }
        let mut left = count;
        take(&mut self.partial, &mut left);
        if self.partial.is_empty()
            && let Some(arrival) = self.partial_arrival.take()
        {
            sent.add(arrival);
        }
        while left > 0 {
            let Some(front) = self.queue.front_mut() else { break };
            let step = left.min(front.len());
            front.advance(step);
            self.queue_bytes -= step;
            left -= step;
            let is_gone = front.is_empty();
            if self.shared == self.queue.len() {
                self.shared_bytes -= step;
                self.shared -= usize::from(is_gone);
            }
            if is_gone {
                self.queue.pop_front();
            }
        }
        if left > 0 {
            self.advance_ring(left, ring, sent);
        }
    }

    fn advance_ring(&mut self, mut left: usize, ring: Option<&Ring>, sent: &mut SentLog) {
        let (Some(ring), Some(subscription)) = (ring, self.subscription.as_mut()) else { return };
        let Cursor::At(mut at) = subscription.cursor else { return };
        while left > 0 {
            let Some(packet) = ring.get(at) else { break };
            at += 1;
            let counts = subscription.counts(packet);
            if left >= packet.len {
                left -= packet.len;
                if counts {
                    sent.add(packet.arrival);
                }
            } else {
                self.partial = packet.parts.clone();
                take(&mut self.partial, &mut left);
                self.partial_arrival = counts.then_some(packet.arrival);
            }
        }
        subscription.cursor = Cursor::At(at);
    }

    /// A viewer whose place to begin has come gets the head and the config that belong to it.
    fn begin_if_due(&mut self, fanout: &Fanout) {
        let ring = &fanout.ring;
        let Some(subscription) = self.subscription.as_mut().filter(|s| !s.paused) else { return };
        let begun = subscription.begun;
        match subscription.cursor {
            Cursor::At(_) if begun => return,
            // The GOP was there before the viewer.
            Cursor::At(_) => subscription.behind_ms = Some(u64::MAX),
            Cursor::NextKey(from) => {
                let Some(key) = ring.key_from(from) else { return };
                if begun {
                    return self.resume_at(key, ring);
                }
                subscription.cursor = Cursor::At(key);
            }
        }
        subscription.begun = true;
        if let Some(head) = fanout.head() {
            self.push(head);
        }
        self.queue_config(ring.key_config());
    }

    /// Goes on at `key` after a pause or a skip, with the config if that changed on the way.
    fn resume_at(&mut self, key: u64, ring: &Ring) {
        let Some(subscription) = self.subscription.as_mut() else { return };
        subscription.cursor = Cursor::At(key);
        if let Some(reason) = subscription.skipping.take() {
            self.dropped[reason as usize] += key.saturating_sub(subscription.seen);
        }
        let config = ring.config_since(subscription.seen);
        self.queue_config(config);
    }

    /// Sends the config in force once more, before the next packet: somebody has joined those who listen.
    pub fn repeat_config(&mut self, ring: &Ring) {
        if self.subscription.as_ref().is_some_and(|subscription| subscription.begun) {
            self.queue_config(ring.key_config());
        }
    }

    fn queue_config(&mut self, config: Option<&Packet>) {
        if let Some(subscription) = self.subscription.as_mut().filter(|subscription| subscription.datagrams) {
            subscription.config_due = config.cloned().map(Box::new);
            return;
        }
        for part in config.into_iter().flat_map(|packet| packet.parts.iter()) {
            self.push(part.clone());
        }
    }

    fn ready_at(&self) -> Option<u64> {
        let subscription = self.subscription.as_ref().filter(|s| !s.paused && s.begun)?;
        match subscription.cursor {
            Cursor::At(at) => Some(at),
            Cursor::NextKey(_) => None,
        }
    }

    /// Into a place of the caller's, because the slices of one call fill a kilobyte, which would be moved.
    fn gather<'a>(
        &'a self,
        ring: Option<&'a Ring>,
        joined: Option<&'a Joined>,
        slices: &mut SmallVec<[IoSlice<'a>; SLICES_MAX]>,
    ) {
        let own = self.partial.iter().chain(&self.queue).filter(|part| !part.is_empty());
        slices.extend(own.take(SLICES_MAX).map(|part| IoSlice::new(part)));
        let (Some(ring), Some(mut at)) = (ring, self.ready_at()) else { return };
        if slices.is_empty()
            && let Some((bytes, next)) = joined.and_then(|joined| joined.from(at))
        {
            slices.push(IoSlice::new(bytes));
            at = next;
        }
        for number in at.. {
            let Some(packet) = ring.get(number) else { break };
            for part in packet.parts.iter().filter(|part| !part.is_empty()) {
                if slices.len() == SLICES_MAX {
                    return;
                }
                slices.push(IoSlice::new(part));
            }
        }
    }
}

/// Removes up to `left` bytes from the front of `parts`, and as many from `left`.
fn take(parts: &mut SmallVec<[Bytes; 3]>, left: &mut usize) {
    while let Some(front) = parts.first_mut() {
        if *left < front.len() {
            front.advance(*left);
            *left = 0;
            return;
        }
        *left -= front.len();
        parts.remove(0);
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::format::{Envelope, Format, HevcForm, MuxerContext, PacketKind};
    use crate::media::MediaTime;

    #[test]
    fn what_others_share_does_not_count_as_held() {
        let mut out = Outgoing::default();
        out.push(Bytes::from_static(b"head"));
        out.push_shared(Bytes::from_static(b"0123"));
        out.push_shared(Bytes::from_static(b"4567"));
        let mut sent = SentLog::default();
        for (count, own) in [(1, 4), (2, 3), (1, 1), (2, 0), (3, 0)] {
            assert_eq!(out.queued_bytes(), own);
            out.advance(count, None, &mut sent);
        }
        assert_eq!((out.front(None), out.bytes_sent), (Some(&b"567"[..]), 9), "what is left of the last");
        out.advance(3, None, &mut sent);
        assert!(out.is_empty());
        out.push(Bytes::from_static(b"next"));
        assert_eq!(out.queued_bytes(), 4);
    }

    #[test]
    fn a_blocked_viewer_offers_what_it_would_send_next() {
        let format = Format::Flv { hevc: HevcForm::Enhanced, envelope: Envelope::None };
        let mut fanout = Fanout::new(format, "test", Ring::new(1_000, 1_000), MuxerContext::default());
        for part in [&b""[..], b"media"] {
            let parts = smallvec![Bytes::from_static(part)];
            fanout.ring.push(Packet::new(parts, PacketKind::Audio, Stamp::from_millis(1), MediaTime::ZERO));
        }
        let start = Cursor::At(0);
        let subscription = Subscription { cursor: start, ..Subscription::new(&fanout.ring, Start::Gop, false) };
        let mut out = Outgoing { subscription: Some(subscription), ..Outgoing::default() };
        let head = fanout.head().unwrap().len();
        let send = |_: &[IoSlice<'_>]| Ok(Sent { count: head, full: true });
        let pump = out.pump(Some(&fanout), None, Stamp::from_millis(1), &mut SentLog::default(), send);
        assert!(matches!(pump, Pump::Blocked));
        assert_eq!(out.front(Some(&fanout.ring)), Some(&b"media"[..]), "not the empty packet before it");
    }
}
