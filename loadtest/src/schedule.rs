//! What happens when: a queue of times. Of two with the same time the one added first is first.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

pub struct Schedule<T> {
    turns: BinaryHeap<Reverse<Turn<T>>>,
    count: u64,
}

struct Turn<T> {
    /// Time, then number.
    order: (u64, u64),
    what: T,
}

impl<T> Default for Schedule<T> {
    fn default() -> Self {
        Schedule { turns: BinaryHeap::new(), count: 0 }
    }
}

impl<T> Schedule<T> {
    pub fn add(&mut self, time: u64, what: T) {
        self.count += 1;
        self.turns.push(Reverse(Turn { order: (time, self.count), what }));
    }

    /// The time of the next turn; never, if there is none.
    pub fn next(&self) -> u64 {
        self.turns.peek().map_or(u64::MAX, |Reverse(turn)| turn.order.0)
    }

    /// Takes the next turn whose time has come.
    pub fn take_due(&mut self, now: u64) -> Option<T> {
        if self.next() > now {
            return None;
        }
        self.turns.pop().map(|Reverse(turn)| turn.what)
    }
}

impl<T> PartialEq for Turn<T> {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl<T> Eq for Turn<T> {}

impl<T> PartialOrd for Turn<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Turn<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order.cmp(&other.order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_in_the_order_of_their_times() {
        let mut schedule = Schedule::default();
        assert_eq!((schedule.next(), schedule.take_due(u64::MAX - 1)), (u64::MAX, None));
        for (time, what) in [(30, 'd'), (10, 'a'), (20, 'c'), (10, 'b')] {
            schedule.add(time, what);
        }
        let due: String = std::iter::from_fn(|| schedule.take_due(20)).collect();
        assert_eq!((due.as_str(), schedule.next()), ("abc", 30));
    }
}
