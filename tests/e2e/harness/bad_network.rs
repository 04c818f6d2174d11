//! A bad network of our own: which datagrams are lost, late or sent twice, the same for the same seed; and what a receiver should make of
//! it (RFC 3550): so many received, lost, reordered, useless.

use std::collections::HashSet;
use std::time::{Duration, Instant};

/// What is done to the datagrams of a flow. Shares are of 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct BadNetwork {
    pub seed: u64,
    pub lost: f64,
    /// Come up to `late_ms_max` behind their time, and so behind others.
    pub late: f64,
    pub late_ms_max: u64,
    /// Come once more, up to `late_ms_max` later.
    pub twice: f64,
}

impl BadNetwork {
    /// The delays after which copies of a datagram arrive: none, one or two.
    pub fn fates(self) -> impl FnMut() -> Vec<Duration> {
        let BadNetwork { seed, lost, late, late_ms_max, twice } = self;
        let mut random = fastrand::Rng::with_seed(seed);
        move || {
            // As many numbers for each datagram, whatever becomes of it: one share does not change who suffers another.
            let [is_lost, is_late, is_twice] = [lost, late, twice].map(|share| random.f64() < share);
            let [delay, again] = [0; 2].map(|_: u8| Duration::from_micros(random.u64(1_000..=late_ms_max.max(1) * 1_000)));
            let first = if is_late { delay } else { Duration::ZERO };
            let copies = [(!is_lost).then_some(first), (!is_lost && is_twice).then_some(first + again)];
            copies.into_iter().flatten().collect()
        }
    }
}

/// What became of datagrams, as the server counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub received: u64,
    pub lost: u64,
    pub reordered: u64,
    pub useless: u64,
}

impl std::ops::Add for Counts {
    type Output = Counts;

    fn add(self, other: Counts) -> Counts {
        Counts {
            received: self.received + other.received,
            lost: self.lost + other.lost,
            reordered: self.reordered + other.reordered,
            useless: self.useless + other.useless,
        }
    }
}

/// One flow as it was sent: the place of each datagram in it, and when it went.
#[derive(Debug, Default)]
pub struct Sent {
    pub datagrams: Vec<(usize, Instant)>,
}

impl Sent {
    /// `total`: how many there would be on a good network.
    pub fn counts(&self, total: usize) -> Counts {
        let (mut seen, mut highest) = (HashSet::new(), None);
        let mut counts = Counts::default();
        for (place, _) in &self.datagrams {
            if !seen.insert(*place) {
                counts.useless += 1;
                continue;
            }
            counts.received += 1;
            counts.reordered += u64::from(highest.is_some_and(|highest| highest > *place));
            highest = highest.max(Some(*place));
        }
        counts.lost = total as u64 - counts.received;
        counts
    }

    /// How long a receiver has to wait for a datagram that others have overtaken, at most.
    pub fn wait_max(&self) -> Duration {
        let mut seen = HashSet::new();
        let firsts: Vec<&(usize, Instant)> = self.datagrams.iter().filter(|(place, _)| seen.insert(*place)).collect();
        let mut longest = Duration::ZERO;
        for (at, (place, sent)) in firsts.iter().enumerate() {
            let overtaken_by = firsts[..at].iter().find(|(other, _)| other > place);
            longest = longest.max(overtaken_by.map_or(Duration::ZERO, |(_, first)| *sent - *first));
        }
        longest
    }
}
