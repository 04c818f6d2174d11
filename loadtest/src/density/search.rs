//! Which number of viewers to try next: doubles until one fails, halves the distance until it is small, then lets the answer prove
//! itself for longer. Sans-IO: what came of a try is handed in.

/// One number of viewers to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    pub viewers: usize,
    /// For the whole time: this may be the answer.
    pub confirms: bool,
}

pub struct Search {
    next: Option<Probe>,
    /// The most that held, and the fewest that failed.
    held: usize,
    failed: Option<usize>,
    most: usize,
    /// Share of the answer that it may be wrong by.
    resolution: f64,
}

impl Search {
    pub fn new(from: usize, most: usize, resolution: f64) -> Search {
        let first = Probe { viewers: from.min(most), confirms: false };
        Search { next: Some(first), held: 0, failed: None, most, resolution: resolution.max(0.001) }
    }

    pub fn next(&self) -> Option<Probe> {
        self.next
    }

    /// What came of the probe that was next.
    pub fn take(&mut self, holds: bool) {
        let Some(probe) = self.next else { return };
        match (holds, probe.confirms) {
            (true, true) => {
                self.held = probe.viewers;
                self.next = None;
                return;
            }
            (true, false) => self.held = self.held.max(probe.viewers),
            (false, true) => {
                // It held for a short time only.
                self.failed = Some(probe.viewers);
                self.held = probe.viewers - self.step(probe.viewers).min(probe.viewers);
            }
            (false, false) => self.failed = Some(probe.viewers),
        }
        self.next = match self.failed {
            Some(_) if self.held == 0 && probe.viewers <= 1 => None,
            Some(failed) if failed - self.held > self.step(failed) => {
                Some(Probe { viewers: (self.held + failed) / 2, confirms: false })
            }
            None if self.held < self.most => Some(Probe { viewers: (self.held * 2).min(self.most), confirms: false }),
            _ => Some(Probe { viewers: self.held, confirms: true }).filter(|probe| probe.viewers > 0),
        };
    }

    fn step(&self, viewers: usize) -> usize {
        ((viewers as f64 * self.resolution) as usize).max(1)
    }

    /// The answer, once nothing is next.
    pub fn found(&self) -> usize {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer and the probes on the way to it, of a server that holds `short` viewers for a short and `long` for a long time.
    fn search(from: usize, short: usize, long: usize) -> (usize, Vec<usize>) {
        let mut search = Search::new(from, 10_000, 0.05);
        let mut tried = Vec::new();
        while let Some(Probe { viewers, confirms }) = search.next() {
            tried.push(viewers);
            assert!(tried.len() < 100, "{tried:?}");
            search.take(viewers <= if confirms { long } else { short });
        }
        (search.found(), tried)
    }

    #[test]
    fn the_answer_is_near_to_what_the_server_holds() {
        for (from, holds) in [(500, 1_700), (500, 500), (500, 40), (1, 9_999), (500, 20_000), (3, 1)] {
            let (found, tried) = search(from, holds, holds);
            let limit = holds.min(10_000);
            assert!(found <= limit && found as f64 >= limit as f64 * 0.94 - 1.0, "{holds}: {found} after {tried:?}");
            assert!(tried.len() < 25, "{tried:?}");
        }
    }

    #[test]
    fn what_holds_for_a_short_time_only_is_not_the_answer() {
        let (found, tried) = search(500, 1_700, 1_500);
        assert!((1_400..=1_500).contains(&found), "{found} after {tried:?}");
    }

    #[test]
    fn a_server_that_holds_nobody_has_no_answer() {
        assert_eq!(search(500, 0, 0).0, 0);
    }
}
