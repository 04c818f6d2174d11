//! Viewers whose network carries less than the stream: each reads so many bytes per interval, and no more.
//!
//! What they get is counted by itself: a server may skip frames for them, or send them away, as long as nobody else notices.

use super::{Buffers, MILLIS, NANOS_PER_SECOND};
use crate::args::LoadArgs;
use crate::schedule::Schedule;
use crate::tally::Tally;
use crate::viewer::Viewer;

/// How often each reads.
const INTERVAL: u64 = 50 * MILLIS;

pub struct Slow {
    /// `None`: sent away.
    viewers: Vec<Option<Viewer>>,
    turns: Schedule<usize>,
    /// As large as what one reads in its turn.
    buffers: Buffers,
    /// Per publisher.
    expecting: Vec<u64>,
    closed: u64,
    pub tally: Tally,
}

impl Slow {
    pub fn new(args: &LoadArgs) -> Slow {
        let bytes = args.slow_rate.0 * INTERVAL / NANOS_PER_SECOND / 8;
        let count = usize::from(args.publishers);
        let (viewers, turns, expecting) = (Vec::new(), Schedule::default(), vec![0; count]);
        Slow { viewers, turns, buffers: Buffers::new(bytes as usize), expecting, closed: 0, tally: Tally::new(count) }
    }

    pub fn add(&mut self, viewer: Viewer, publisher: u16, now: u64) {
        // Not all read at once.
        let offset = self.viewers.len() as u64 * MILLIS % INTERVAL;
        self.turns.add(now + offset, self.viewers.len());
        self.expecting[usize::from(publisher)] += 1;
        self.viewers.push(Some(viewer));
    }

    pub fn next(&self) -> u64 {
        self.turns.next()
    }

    pub fn read_due(&mut self, now: u64) {
        while let Some(at) = self.turns.take_due(now) {
            let Some(viewer) = &mut self.viewers[at] else { continue };
            match viewer.readable(0, now, &mut self.buffers, &mut self.tally) {
                Ok(_) => self.turns.add(now + INTERVAL, at),
                Err(_) => {
                    self.viewers[at] = None;
                    self.closed += 1;
                }
            }
        }
    }

    /// What they got, and how many were sent away. Its `expected` is what all of them together were due.
    pub fn take(&mut self, published: &[u64]) -> Option<(Tally, u64)> {
        if self.viewers.is_empty() {
            return None;
        }
        let mut tally = std::mem::replace(&mut self.tally, Tally::new(published.len()));
        tally.expected = published.iter().zip(&self.expecting).map(|(units, viewers)| units * viewers).collect();
        Some((tally, self.closed))
    }
}
