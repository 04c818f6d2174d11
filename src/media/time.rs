//! The two clocks of the server: `Stamp`, the machine's monotonic clock, and `MediaTime`, the timeline of one stream.
//!
//! They are different types so that no code can subtract one from the other. Neither reads a clock: whoever owns the loop does
//! that once per turn and hands the value on.

use std::time::Duration;

/// A moment on the machine's monotonic clock, in nanoseconds since an arbitrary start that all shards share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(u64);

impl Stamp {
    pub const ZERO: Stamp = Stamp(0);
    pub const MAX: Stamp = Stamp(u64::MAX);

    pub const fn from_nanos(nanos: u64) -> Self {
        Stamp(nanos)
    }

    pub const fn from_millis(millis: u64) -> Self {
        Stamp(millis * 1_000_000)
    }

    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The moment `delay` later; saturates at [`Stamp::MAX`].
    pub fn after(self, delay: Duration) -> Self {
        Stamp(self.0.saturating_add(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The moment `millis` later; saturates at [`Stamp::MAX`].
    pub const fn after_millis(self, millis: u64) -> Self {
        Stamp(self.0.saturating_add(millis.saturating_mul(1_000_000)))
    }

    /// The moment `millis` earlier; [`Stamp::ZERO`] at the least.
    pub const fn before_millis(self, millis: u64) -> Self {
        Stamp(self.0.saturating_sub(millis.saturating_mul(1_000_000)))
    }

    /// The time from `earlier` to this moment; zero when `earlier` is in fact later.
    pub const fn since(self, earlier: Stamp) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// As [`Stamp::since`], in whole milliseconds.
    pub const fn millis_since(self, earlier: Stamp) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000_000
    }
}

/// A position on a stream's own timeline, in microseconds. Signed: a stream may begin a little before its zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaTime(i64);

impl MediaTime {
    pub const ZERO: MediaTime = MediaTime(0);

    pub const fn from_micros(micros: i64) -> Self {
        MediaTime(micros)
    }

    pub const fn from_millis(millis: i64) -> Self {
        MediaTime(millis * 1000)
    }

    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole milliseconds, rounded down, so that neighbouring frames never change order.
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1000)
    }

    pub const fn offset(self, micros: i64) -> Self {
        MediaTime(self.0.saturating_add(micros))
    }

    /// Microseconds from `earlier` to this position; negative when this one comes first.
    pub const fn micros_since(self, earlier: MediaTime) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_saturate_at_both_ends() {
        assert_eq!(Stamp::from_nanos(5).since(Stamp::from_nanos(9)), Duration::ZERO);
        assert_eq!(Stamp::MAX.after_millis(1), Stamp::MAX);
        assert_eq!(Stamp::from_millis(7).millis_since(Stamp::from_millis(2)), 5);
    }

    #[test]
    fn media_time_rounds_down_below_zero_too() {
        let cases = [(0, 0), (999, 0), (1000, 1), (-1, -1), (-1000, -1), (-1001, -2)];
        for (micros, millis) in cases {
            assert_eq!(MediaTime::from_micros(micros).as_millis(), millis, "{micros} µs");
        }
    }
}
