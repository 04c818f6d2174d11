//! When viewers are served: at once while there is time, and with more for each at once the more of the time that takes.
//!
//! A pass serves every stream that waits for it, in one round over its viewers; what comes meanwhile waits for the next pass. That begins at
//! once if the last took less than [`SPACED_FROM`], else when as much time has gone by without a pass: so a shard spends half of its time on
//! passes, and what a system call carries grows with the load. They are never held more than [`PERIOD_MAX`] apart for that. What else the shard
//! does during a pass counts as its time: who is busy with receiving has less for sending, too.
//!
//! A server that sent whatever there is as soon as it can would be as busy as it can at a fraction of the load, and so would its viewers'
//! machines be.

use std::collections::VecDeque;
use std::time::Duration;

use super::conn::StreamIndex;
use crate::media::Stamp;

/// Passes that take less are not held apart: that would not pay for the timer.
const SPACED_FROM: Duration = Duration::from_millis(1);
/// From the beginning of a pass to the next one at most, unless the pass takes longer: it is added to the latency of forwarding.
const PERIOD_MAX: Duration = Duration::from_millis(50);

/// Where a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Its viewers have got everything.
    Idle,
    /// In the next pass.
    Waits,
    Served,
}

/// A stream stands in one of the queues, once.
#[derive(Debug)]
pub struct Passes {
    /// How long the first stream that waits does so at least.
    merge_ms: u64,
    waiting: VecDeque<StreamIndex>,
    served: VecDeque<StreamIndex>,
    /// How many passes there have been, with the one that goes on.
    number: u64,
    began: Stamp,
    /// The next pass does not begin earlier.
    from: Stamp,
    goes_on: bool,
}

impl Passes {
    pub fn new(merge_ms: u64) -> Self {
        let (waiting, served) = (VecDeque::new(), VecDeque::new());
        Passes { merge_ms, waiting, served, number: 0, began: Stamp::ZERO, from: Stamp::ZERO, goes_on: false }
    }

    pub fn goes_on(&self) -> bool {
        self.goes_on
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    /// When the next pass is due, if anything waits for it.
    pub fn next(&self) -> Option<Stamp> {
        (!self.goes_on && !self.waiting.is_empty()).then_some(self.from)
    }

    /// Whether a stream that was served last in `last_pass` may join the one that goes on.
    pub fn admits(&self, last_pass: u64) -> bool {
        self.goes_on && last_pass < self.number && self.merge_ms == 0
    }

    /// A stream waits for the next pass.
    pub fn wait(&mut self, at: StreamIndex, now: Stamp) {
        if self.waiting.is_empty() {
            self.from = self.from.max(now.after_millis(self.merge_ms));
        }
        self.waiting.push_back(at);
    }

    /// Whether a pass begins now. Then all that wait are taken by [`Passes::next_waiting`] and given to [`Passes::serve`].
    pub fn begin(&mut self, now: Stamp) -> bool {
        let begins = self.next().is_some_and(|from| from <= now);
        if begins {
            (self.goes_on, self.began, self.number) = (true, now, self.number + 1);
        }
        begins
    }

    pub fn next_waiting(&mut self) -> Option<StreamIndex> {
        self.waiting.pop_front()
    }

    /// A stream takes its turn behind the others of the pass.
    pub fn serve(&mut self, at: StreamIndex) {
        self.served.push_back(at);
    }

    pub fn next_served(&mut self) -> Option<StreamIndex> {
        self.served.pop_front()
    }

    pub fn remove(&mut self, at: StreamIndex) {
        self.waiting.retain(|waiting| *waiting != at);
        self.served.retain(|served| *served != at);
    }

    /// Ends the pass if all have been served.
    pub fn end_if_done(&mut self, now: Stamp) {
        if !self.goes_on || !self.served.is_empty() {
            return;
        }
        self.goes_on = false;
        let took = now.since(self.began);
        if took >= SPACED_FROM {
            self.from = self.from.max(self.began.after((2 * took).min(PERIOD_MAX)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    /// A stream that gets something every millisecond, whose viewers take `took` per pass: when passes begin in a second, and the longest
    /// that anything waits for one to begin.
    fn passes(merge_ms: u64, took: Duration) -> (Vec<Stamp>, Duration) {
        let mut passes = Passes::new(merge_ms);
        let (mut began, mut oldest, mut longest) = (Vec::new(), None, Duration::ZERO);
        let (mut ends, mut last_pass) = (Stamp::ZERO, 0);
        for now in (1..1_000).map(|ms| Stamp::ZERO.after(ms * MILLI)) {
            if passes.goes_on() && now >= ends {
                assert_eq!(passes.next_served(), Some(7));
                passes.end_if_done(ends);
            }
            oldest.get_or_insert(now);
            if passes.waiting.is_empty() && !passes.admits(last_pass) {
                passes.wait(7, now);
            }
            if passes.begin(now) {
                assert_eq!((passes.next_waiting(), passes.next_waiting()), (Some(7), None));
                passes.serve(7);
                last_pass = passes.number();
                (ends, longest) = (now.after(took), longest.max(now.since(oldest.take().unwrap())));
                began.push(now);
            }
        }
        (began, longest)
    }

    #[test]
    fn passes_begin_at_once_until_they_take_half_of_the_time() {
        for (took_micros, period_ms) in [(10, 1), (900, 1), (2_000, 4), (5_000, 10), (24_000, 48), (30_000, 50), (70_000, 70)] {
            let took = Duration::from_micros(took_micros);
            let (began, longest) = passes(0, took);
            assert!(began.windows(2).all(|two| two[1].since(two[0]) == period_ms * MILLI), "{took:?}: {began:?}");
            assert!(longest <= PERIOD_MAX.max(took), "{took:?}: {longest:?}");
        }
    }

    #[test]
    fn merging_holds_the_first_back() {
        let (began, longest) = passes(10, 900 * MILLI / 1_000);
        assert!(began.len() > 80 && began.windows(2).all(|two| two[1].since(two[0]) == 11 * MILLI), "{began:?}");
        assert_eq!(longest, 10 * MILLI);
    }

    #[test]
    fn a_stream_may_join_a_pass_that_goes_on_once() {
        let mut passes = Passes::new(0);
        assert!(!passes.admits(0));
        passes.wait(1, Stamp::ZERO);
        assert!(passes.begin(Stamp::ZERO));
        assert!(passes.admits(0) && !passes.admits(passes.number()));
        assert!(!passes.begin(Stamp::MAX), "it goes on");
    }
}
