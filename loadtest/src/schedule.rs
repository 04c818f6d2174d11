//! When whose turn is: a queue of times. Each one's next turn is added when the one before is over.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

#[derive(Default)]
pub struct Schedule {
    turns: BinaryHeap<Reverse<(u64, usize)>>,
}

impl Schedule {
    pub fn add(&mut self, time: u64, who: usize) {
        self.turns.push(Reverse((time, who)));
    }

    /// The time of the next turn; never, if there is none.
    pub fn next(&self) -> u64 {
        self.turns.peek().map_or(u64::MAX, |Reverse((time, _))| *time)
    }

    /// Takes the next turn whose time has come.
    pub fn take_due(&mut self, now: u64) -> Option<usize> {
        if self.next() > now {
            return None;
        }
        self.turns.pop().map(|Reverse((_, who))| who)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_in_the_order_of_their_times() {
        let mut schedule = Schedule::default();
        assert_eq!((schedule.next(), schedule.take_due(u64::MAX - 1)), (u64::MAX, None));
        for (time, who) in [(30, 0), (10, 1), (20, 2)] {
            schedule.add(time, who);
        }
        let due: Vec<usize> = std::iter::from_fn(|| schedule.take_due(20)).collect();
        assert_eq!((due, schedule.next()), (vec![1, 2], 30));
    }
}
