//! What is counted: latencies and losses of the access units that were sent while measuring.

use hdrhistogram::Histogram;

use crate::mark::Mark;
use crate::scan::order::Arrival;
use crate::timeline::Timeline;

/// Latencies are kept with three digits, up to two minutes.
const NANOS_MAX: u64 = 120_000_000_000;
const DIGITS: u8 = 3;

/// A histogram of times in nanoseconds.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, NANOS_MAX, DIGITS).expect("the bounds are in order")
}

/// What became of an access unit at a viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    InOrder,
    /// Behind one with a higher number.
    Late,
    /// Again.
    Duplicate,
}

/// RTP packets of viewers while measuring.
#[derive(Clone, Copy, Debug, Default)]
pub struct Packets {
    pub received: u64,
    /// Numbers that were left out, be it that they came later.
    pub missing: u64,
    pub late: u64,
    pub duplicated: u64,
}

pub struct Tally {
    /// Access units that were sent from the first time until before the second count, in nanoseconds.
    window: (u64, u64),
    /// Per publisher: access units sent in the window.
    pub expected: Vec<u64>,
    /// From sending to the first byte and to the last byte of each access unit at each viewer.
    pub first: Histogram<u64>,
    pub last: Histogram<u64>,
    /// That of the last byte, over time.
    pub timeline: Timeline,
    /// How late publishers sent.
    pub lateness: Histogram<u64>,
    /// How long a viewer's bytes waited in this program while it read those of others.
    pub reading: Histogram<u64>,
    pub delivered: u64,
    /// Of those: behind one with a higher number.
    pub out_of_order: u64,
    pub duplicated: u64,
    pub packets: Packets,
    /// Bytes that publishers sent while measuring.
    pub bytes_published: u64,
    /// All bytes that viewers received, and audio frames, at any time.
    pub bytes: u64,
    pub audio: u64,
}

impl Tally {
    pub fn new(publishers: usize) -> Tally {
        Tally {
            window: (u64::MAX, u64::MAX),
            expected: vec![0; publishers],
            first: histogram(),
            last: histogram(),
            timeline: Timeline::new(0),
            lateness: histogram(),
            reading: histogram(),
            delivered: 0,
            out_of_order: 0,
            duplicated: 0,
            packets: Packets::default(),
            bytes_published: 0,
            bytes: 0,
            audio: 0,
        }
    }

    /// What is sent from now on until the end counts.
    pub fn measure(&mut self, begin: u64, end: u64) {
        self.window = (begin, end);
        self.timeline = Timeline::new(begin);
    }

    pub fn counts(&self, time: u64) -> bool {
        (self.window.0..self.window.1).contains(&time)
    }

    /// A publisher sends an access unit, `late` nanoseconds after it was due.
    pub fn sent(&mut self, mark: &Mark, late: u64) {
        if self.counts(mark.sent) {
            self.expected[usize::from(mark.publisher)] += 1;
            self.lateness.saturating_record(late);
        }
    }

    pub fn first_byte(&mut self, mark: &Mark, now: u64) {
        if self.counts(mark.sent) {
            self.first.saturating_record(now.saturating_sub(mark.sent));
        }
    }

    pub fn last_byte(&mut self, mark: &Mark, now: u64, fate: Fate) {
        if !self.counts(mark.sent) {
            return;
        }
        if fate == Fate::Duplicate {
            self.duplicated += 1;
            return;
        }
        self.delivered += 1;
        self.out_of_order += u64::from(fate == Fate::Late);
        let latency = now.saturating_sub(mark.sent);
        self.last.saturating_record(latency);
        self.timeline.record(now, latency);
    }

    /// A viewer has got an RTP packet.
    pub fn packet(&mut self, now: u64, arrival: Arrival) {
        if self.counts(now) {
            self.packets.received += 1;
            match arrival {
                Arrival::Ahead { missing } => self.packets.missing += missing,
                Arrival::Late => self.packets.late += 1,
                Arrival::Duplicate => self.packets.duplicated += 1,
            }
        }
    }

    /// A publisher has sent so many bytes.
    pub fn published(&mut self, now: u64, bytes: usize) {
        if self.counts(now) {
            self.bytes_published += bytes as u64;
        }
    }

    /// A viewer's socket is read, `waited` nanoseconds after the kernel said that it is readable.
    pub fn read(&mut self, now: u64, waited: u64) {
        if self.counts(now) {
            self.reading.saturating_record(waited);
        }
    }
}
