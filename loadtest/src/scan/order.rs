//! Sequence numbers of RTP packets as they come → what each says of the way. Spec: RFC 3550 §5.1, §6.4.1, §A.1, §A.3.
//!
//! The last [`WINDOW`] numbers are remembered, one bit each: that tells packets that come late from those that come twice, and whether
//! a run of numbers is complete. Not here: putting packets in order, which a count of them does not need.

/// Packets that are remembered. The largest access unit has to fit.
pub const WINDOW: u64 = 4096;
const WORDS: usize = WINDOW as usize / 64;

/// What one packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The next one, or one behind so many that have not come.
    Ahead { missing: u64 },
    /// Behind a later one. It was missing until now.
    Late,
    /// Again.
    Duplicate,
}

/// The numbers of one source. They are counted on over the end of 16 bits.
pub struct Order {
    /// The first and the highest number.
    range: Option<(u64, u64)>,
    received: u64,
    seen: [u64; WORDS],
}

impl Default for Order {
    fn default() -> Self {
        Order { range: None, received: 0, seen: [0; WORDS] }
    }
}

impl Order {
    /// A packet has come: its number in full, and what it says.
    pub fn take(&mut self, sequence: u16) -> (u64, Arrival) {
        let Some((first, highest)) = self.range else {
            // Far enough from zero for what comes late.
            let number = WINDOW * 16 + u64::from(sequence);
            self.range = Some((number, number));
            self.see(number);
            return (number, Arrival::Ahead { missing: 0 });
        };
        let step = i64::from(sequence.wrapping_sub(highest as u16).cast_signed());
        let number = highest.saturating_add_signed(step);
        if step > 0 {
            let missing = step as u64 - 1;
            for between in highest + 1..=number.min(highest + WINDOW) {
                self.seen[word(between)] &= !bit(between);
            }
            self.range = Some((first, number));
            self.see(number);
            return (number, Arrival::Ahead { missing });
        }
        self.range = Some((first.min(number), highest));
        let arrival = if self.has(number) { Arrival::Duplicate } else { Arrival::Late };
        if arrival == Arrival::Late {
            self.see(number);
        }
        (number, arrival)
    }

    fn see(&mut self, number: u64) {
        self.received += 1;
        if self.remembers(number) {
            self.seen[word(number)] |= bit(number);
        }
    }

    fn remembers(&self, number: u64) -> bool {
        self.range.is_some_and(|(_, highest)| number <= highest && number + WINDOW > highest)
    }

    fn has(&self, number: u64) -> bool {
        self.remembers(number) && self.seen[word(number)] & bit(number) != 0
    }

    /// Whether all of these have come, both ends included.
    pub fn is_complete(&self, first: u64, last: u64) -> bool {
        (first..=last).all(|number| self.has(number))
    }

    /// Packets that should have come and that have, and the highest number, so far.
    pub fn totals(&self) -> Option<Totals> {
        let (first, highest) = self.range?;
        Some(Totals { expected: highest - first + 1, received: self.received, highest: highest as u32 })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    pub expected: u64,
    pub received: u64,
    /// The lower 32 bits.
    pub highest: u32,
}

fn word(number: u64) -> usize {
    (number % WINDOW / 64) as usize
}

fn bit(number: u64) -> u64 {
    1 << (number % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals() {
        let ahead = |missing| Arrival::Ahead { missing };
        let mut order = Order::default();
        let steps = [
            ("the first", 65_533, ahead(0)),
            ("the next", 65_534, ahead(0)),
            ("over the end, two are missing", 1, ahead(2)),
            ("one comes late", 65_535, Arrival::Late),
            ("again", 65_535, Arrival::Duplicate),
            ("the newest again", 1, Arrival::Duplicate),
            ("before the first", 65_532, Arrival::Late),
            ("a long gap", 10_001, ahead(9_999)),
            ("too long ago to be known", 1, Arrival::Late),
            ("inside the gap", 10_000, Arrival::Late),
        ];
        for (name, sequence, expected) in steps {
            assert_eq!(order.take(sequence).1, expected, "{name}");
        }
        let (last, _) = order.take(10_002);
        assert!(order.is_complete(last - 2, last) && !order.is_complete(last - 3, last));
    }

    #[test]
    fn totals_are_what_a_receiver_reports() {
        let mut order = Order::default();
        assert_eq!(order.totals(), None);
        for sequence in [65_535, 0, 3, 2] {
            order.take(sequence);
        }
        let totals = order.totals().unwrap();
        assert_eq!((totals.expected, totals.received, totals.highest as u16), (5, 4, 3));
    }
}
