//! Sequence numbers (RFC 3550 §5.1, A.1): packets as they come → packets in order, and where some are missing.
//!
//! A gap is waited for at most `reorder_ms` from the first packet behind it; without a window (a transport that keeps the order) it is a
//! loss at once. Packets in order pass without a copy; one that came early is copied. Limits: [`HELD_PACKETS_MAX`] and
//! [`HELD_BYTES_MAX`]; over them the gap is given up. A step that no loss explains restarts the sequence once two packets follow each
//! other there; whoever restarts it takes out first what is held.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Received;
use crate::format::rtp::RtpHeader;
use crate::media::Stamp;

const HELD_PACKETS_MAX: usize = 512;
pub const HELD_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Forward steps up to this are losses (RFC 3550 A.1: `MAX_DROPOUT`).
const DROPOUT_MAX: i32 = 3_000;
/// Backward steps up to this are packets that come late (`MAX_MISORDER`).
const MISORDER_MAX: i32 = 100;

/// What the sequence gives out.
#[derive(Debug, PartialEq)]
pub enum Ordered<'a> {
    /// The next packet's header and payload, and when it came.
    Packet(&'a RtpHeader, &'a [u8], Stamp),
    /// Packets are missing here.
    Lost,
}

/// What a packet is to the sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Part of it: given out or held.
    Inside,
    /// It came twice, too late, or from nowhere.
    Outside,
    /// The numbers begin anew with it: it wants to be pushed again once the sequence is released and reset.
    Anew,
}

#[derive(Debug)]
pub struct Sequence {
    window_ms: Option<u64>,
    /// The number that comes next, wrapped-around numbers counted on.
    next: Option<i64>,
    held: BTreeMap<i64, (RtpHeader, Bytes, Stamp)>,
    held_bytes: usize,
    /// When the first of those that are held came.
    held_since: Option<Stamp>,
    /// The number at which the sequence would go on if it has begun anew.
    restart_at: Option<u16>,
}

impl Sequence {
    pub fn new(window_ms: Option<u64>) -> Self {
        Sequence { window_ms, next: None, held: BTreeMap::new(), held_bytes: 0, held_since: None, restart_at: None }
    }

    /// Bytes of the packets behind a gap.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Takes a packet: its header and its payload.
    pub fn push(
        &mut self,
        now: Stamp,
        header: &RtpHeader,
        payload: &[u8],
        counts: &mut Received,
        give: &mut impl FnMut(Ordered<'_>),
    ) -> Place {
        let Some(next) = self.next else {
            self.next = Some(i64::from(header.sequence) + 1);
            counts.received += 1;
            give(Ordered::Packet(header, payload, now));
            return Place::Inside;
        };
        let step = i32::from(header.sequence.wrapping_sub(next as u16).cast_signed());
        if !(-MISORDER_MAX..=DROPOUT_MAX).contains(&step) {
            return self.far(header.sequence, counts);
        }
        self.restart_at = None;
        let number = next + i64::from(step);
        if step < 0 || self.held.contains_key(&number) {
            counts.useless += 1;
            return Place::Outside;
        }
        counts.received += 1;
        counts.reordered += u64::from(self.held.last_key_value().is_some_and(|(last, _)| *last > number));
        if step == 0 {
            self.next = Some(next + 1);
            give(Ordered::Packet(header, payload, now));
            self.drain(give);
        } else if self.window_ms.is_none() {
            counts.lost += step.unsigned_abs() as u64;
            self.next = Some(number + 1);
            give(Ordered::Lost);
            give(Ordered::Packet(header, payload, now));
        } else {
            self.held_bytes += payload.len();
            self.held_since.get_or_insert(now);
            self.held.insert(number, (header.clone(), Bytes::copy_from_slice(payload), now));
            while self.held.len() > HELD_PACKETS_MAX || self.held_bytes > HELD_BYTES_MAX {
                self.give_up(counts, give);
            }
        }
        Place::Inside
    }

    fn far(&mut self, number: u16, counts: &mut Received) -> Place {
        if self.restart_at.replace(number.wrapping_add(1)) == Some(number) {
            return Place::Anew;
        }
        counts.useless += 1;
        Place::Outside
    }

    /// Waits for nothing any longer.
    pub fn release(&mut self, counts: &mut Received, give: &mut impl FnMut(Ordered<'_>)) {
        while !self.held.is_empty() {
            self.give_up(counts, give);
        }
    }

    pub fn reset(&mut self) {
        *self = Sequence::new(self.window_ms);
    }

    /// Gives out what waits and is next.
    fn drain(&mut self, give: &mut impl FnMut(Ordered<'_>)) {
        let held = self.held.len();
        while let Some(next) = self.next
            && let Some((header, payload, arrival)) = self.held.remove(&next)
        {
            self.held_bytes -= payload.len();
            self.next = Some(next + 1);
            give(Ordered::Packet(&header, &payload, arrival));
        }
        if self.held.len() < held {
            // What is left waits for another gap, which has a time of its own.
            self.held_since = self.held.values().map(|(.., arrival)| *arrival).min();
        }
    }

    /// Does not wait for the packets in front of the first one held any longer.
    fn give_up(&mut self, counts: &mut Received, give: &mut impl FnMut(Ordered<'_>)) {
        let (Some(next), Some((first, _))) = (self.next, self.held.first_key_value()) else { return };
        counts.lost += first.abs_diff(next);
        self.next = Some(*first);
        give(Ordered::Lost);
        self.drain(give);
    }

    /// When the oldest gap is given up.
    pub fn deadline(&self) -> Option<Stamp> {
        Some(self.held_since?.after_millis(self.window_ms?))
    }

    pub fn timeout(&mut self, now: Stamp, counts: &mut Received, give: &mut impl FnMut(Ordered<'_>)) {
        while self.deadline().is_some_and(|deadline| deadline <= now) {
            self.give_up(counts, give);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(number: u16) -> RtpHeader {
        RtpHeader { payload_type: 96, marker: false, sequence: number, timestamp: 0, ssrc: 0, payload: 12..112 }
    }

    /// Feeds numbers at a packet per millisecond; gives back what came out (`None`: a loss) and the counts.
    fn run(window_ms: Option<u64>, numbers: &[u16]) -> (Vec<Option<u16>>, Received) {
        let mut sequence = Sequence::new(window_ms);
        let mut counts = Received::default();
        let mut out = Vec::new();
        let mut give = |ordered: Ordered<'_>| match ordered {
            Ordered::Packet(header, ..) => out.push(Some(header.sequence)),
            Ordered::Lost => out.push(None),
        };
        for (ms, number) in numbers.iter().enumerate() {
            let now = Stamp::from_millis(ms as u64);
            sequence.timeout(now, &mut counts, &mut give);
            while sequence.push(now, &header(*number), &[], &mut counts, &mut give) == Place::Anew {
                sequence.release(&mut counts, &mut give);
                sequence.reset();
            }
        }
        sequence.timeout(Stamp::MAX, &mut counts, &mut give);
        (out, counts)
    }

    #[test]
    fn what_is_held_behind_a_gap_is_known() {
        let mut sequence = Sequence::new(Some(50));
        let mut counts = Received::default();
        for (number, held_bytes) in [(1, 0), (3, 100), (4, 200), (2, 0)] {
            sequence.push(Stamp::ZERO, &header(number), &[0; 100], &mut counts, &mut |_| {});
            assert_eq!(sequence.held_bytes(), held_bytes, "after {number}");
        }
    }

    #[test]
    fn order_is_restored_or_loss_is_said() {
        type Case<'a> = (&'a str, Option<u64>, &'a [u16], &'a [Option<u16>], (u64, u64, u64));
        let cases: [Case<'_>; 10] = [
            ("in order", Some(50), &[1, 2, 3], &[Some(1), Some(2), Some(3)], (0, 0, 0)),
            ("over the wrap", Some(50), &[65_535, 0, 1], &[Some(65_535), Some(0), Some(1)], (0, 0, 0)),
            ("swapped", Some(50), &[1, 3, 2, 4], &[Some(1), Some(2), Some(3), Some(4)], (0, 1, 0)),
            ("several late", Some(50), &[1, 5, 3, 2, 4], &[Some(1), Some(2), Some(3), Some(4), Some(5)], (0, 3, 0)),
            (
                "a gap is waited for from what came first behind it",
                Some(3),
                &[1, 5, 4, 3, 6, 2],
                &[Some(1), None, Some(3), Some(4), Some(5), Some(6)],
                (1, 2, 1),
            ),
            ("missing", Some(50), &[1, 3, 4], &[Some(1), None, Some(3), Some(4)], (1, 0, 0)),
            ("missing, no window", None, &[1, 4, 5], &[Some(1), None, Some(4), Some(5)], (2, 0, 0)),
            ("twice", Some(50), &[1, 2, 2, 4, 4, 3], &[Some(1), Some(2), Some(3), Some(4)], (0, 1, 2)),
            ("too late", Some(2), &[1, 3, 4, 5, 2, 6], &[Some(1), None, Some(3), Some(4), Some(5), Some(6)], (1, 0, 1)),
            ("a stray number", Some(50), &[1, 2, 30_000, 3], &[Some(1), Some(2), Some(3)], (0, 0, 1)),
        ];
        for (name, window_ms, numbers, expected, (lost, reordered, useless)) in cases {
            let (out, counts) = run(window_ms, numbers);
            assert_eq!(out, expected, "{name}");
            assert_eq!((counts.lost, counts.reordered, counts.useless), (lost, reordered, useless), "{name}");
        }
    }

    #[test]
    fn numbers_that_begin_anew_are_followed() {
        let (out, counts) = run(Some(50), &[100, 101, 40_000, 40_001, 40_002]);
        assert_eq!(out, [100, 101, 40_001, 40_002].map(Some));
        assert_eq!((counts.lost, counts.useless), (0, 1));
        // What was held is given out, and what it has waited for is lost.
        let (out, counts) = run(Some(50), &[100, 103, 104, 40_000, 40_001]);
        assert_eq!(out, [Some(100), None, Some(103), Some(104), Some(40_001)]);
        assert_eq!((counts.received, counts.lost, counts.useless), (4, 2, 1));
    }

    #[test]
    fn what_is_held_is_bounded() {
        let numbers: Vec<u16> = [1].into_iter().chain(3..2_000).collect();
        let mut sequence = Sequence::new(Some(1_000_000));
        let (mut counts, mut given) = (Received::default(), 0);
        for number in numbers {
            sequence.push(Stamp::ZERO, &header(number), &[0; 100], &mut counts, &mut |_| given += 1);
        }
        assert_eq!((counts.lost, sequence.held.len()), (1, 0), "the gap was given up");
        assert_eq!(given, 1 + 1 + 1_997);
    }
}
