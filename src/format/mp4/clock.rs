//! Microseconds and ticks, and the clock of sound.
//!
//! A stream's times are often no more than milliseconds, while a frame of AAC has exactly 1024 samples. [`TrackClock`] counts such frames as
//! long as their stamps agree with the count but for rounding, so that no player finds holes of some samples; else it goes by the stamp.

use crate::media::{AudioLength, MediaTime};

/// How far a stamp may be from the count: two roundings to milliseconds, of the first stamp and of this one.
const ROUNDING_MICROS_MAX: i64 = 2_000;

/// `micros` in ticks, rounded to the nearest.
pub fn ticks(micros: i64, timescale: u32) -> i64 {
    let scaled = i128::from(micros) * i128::from(timescale);
    clamp((scaled + 500_000).div_euclid(1_000_000))
}

/// `ticks` in microseconds, rounded to the nearest.
pub fn micros(ticks: i64, timescale: u32) -> i64 {
    let timescale = i128::from(timescale.max(1));
    clamp((i128::from(ticks) * 1_000_000 + timescale / 2).div_euclid(timescale))
}

fn clamp(value: i128) -> i64 {
    value.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

/// Where a frame stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub ticks: i64,
    /// How long it is, where its codec says so.
    pub length: Option<u32>,
}

/// The clock of one track.
#[derive(Clone, Debug)]
pub struct TrackClock {
    timescale: u32,
    length: AudioLength,
    last: Option<i64>,
    /// Where the next frame begins if it follows without a gap.
    next: Option<i64>,
}

impl TrackClock {
    pub fn new(timescale: u32, length: AudioLength) -> Self {
        TrackClock { timescale, length, last: None, next: None }
    }

    /// Whether so many ticks are no more than the rounding of stamps.
    pub fn is_rounding(&self, off: i64) -> bool {
        off.unsigned_abs() <= ticks(ROUNDING_MICROS_MAX, self.timescale).unsigned_abs()
    }

    /// Places the next frame: strictly behind the last one, and nothing lies before zero.
    pub fn place(&mut self, dts: MediaTime, data: &[u8]) -> Place {
        let stamp = ticks(dts.as_micros(), self.timescale);
        let counted = self.next.filter(|next| self.is_rounding(stamp.saturating_sub(*next)));
        let at = counted.unwrap_or(stamp).max(self.last.map_or(0, |last| last.saturating_add(1)));
        let length = self.length.ticks(data, self.timescale);
        self.last = Some(at);
        self.next = length.map(|length| at.saturating_add(length.into()));
        Place { ticks: at, length }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_rounded_once() {
        let cases = [
            (0, 90_000, 0),
            (1_000_000, 90_000, 90_000),
            (33_333, 90_000, 3_000),
            (-5, 90_000, 0),
            (-33_333, 90_000, -3_000),
            (23_220, 44_100, 1_024),
        ];
        for (micros, timescale, expected) in cases {
            assert_eq!(ticks(micros, timescale), expected, "{micros} µs");
        }
        assert_eq!(ticks(i64::MAX, u32::MAX), i64::MAX);
        assert_eq!((micros(1_024, 44_100), micros(-3_000, 90_000), micros(7, 0)), (23_220, -33_333, 7_000_000));
    }

    #[test]
    fn rounded_stamps_keep_the_sample_clock() {
        let mut clock = TrackClock::new(44_100, AudioLength::Samples { samples: 1_024, rate: 44_100 });
        for frame in 0..10_000i64 {
            let millis = (frame * 1_024 * 1_000 + 22_050) / 44_100;
            let place = clock.place(MediaTime::from_millis(500 + millis), &[]);
            assert_eq!(place, Place { ticks: 22_050 + frame * 1_024, length: Some(1_024) });
        }
    }

    #[test]
    fn a_gap_is_kept_and_a_step_back_is_none() {
        let mut clock = TrackClock::new(48_000, AudioLength::Samples { samples: 1_024, rate: 48_000 });
        let mut place = |micros| clock.place(MediaTime::from_micros(micros), &[]).ticks;
        let cases = [(-7, 0), (21_333, 1_024), (121_333, 5_824), (142_000, 6_848), (142_001, 6_849), (142_002, 6_850)];
        for (micros, expected) in cases {
            assert_eq!(place(micros), expected, "{micros} µs");
        }
    }
}
