//! The clock of a transport stream (PCR): when it is told, and what it says.
//!
//! ISO/IEC 13818-1 §2.4.2.2 and §2.7.2: at most 100 ms apart, never backwards, always before the decoding times. It follows the track that
//! carries it; the other track brings it on when the carrier is slow, as far as it is itself ahead of the carrier by habit. Not here: packets.

use crate::format::pes::PTS_PER_SECOND;

/// How far the clock is behind the decoding times: what a receiver may hold.
const DELAY_TICKS: i64 = 7 * PTS_PER_SECOND as i64 / 10;
/// The longest way between two moments that are told.
const INTERVAL_TICKS_MAX: i64 = PTS_PER_SECOND as i64 / 10;
/// The other track tells the next moment when the last is so old.
const INTERVAL_TICKS_DUE: i64 = 7 * PTS_PER_SECOND as i64 / 100;
/// A clock that has to go back, or on, by more is another one.
const STEP_TICKS_MAX: i64 = 10 * PTS_PER_SECOND as i64;

/// What is told of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// In 90 kHz, before it is cut to 33 bits.
    pub ticks: i64,
    /// It has nothing to do with those before (`discontinuity_indicator`).
    pub is_new: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Clock {
    last: Option<i64>,
    /// The newest decoding time of the other track.
    other: Option<i64>,
    /// How far that was ahead when a frame of the carrier came last.
    lead: i64,
}

impl Clock {
    /// Another track carries it from now on.
    pub fn hand_over(&mut self) {
        (self.other, self.lead) = (None, 0);
    }

    /// A frame of the carrier: what stands in front of it. `between` gets the moments that are to be told before, if the last is long ago.
    pub fn carrier(&mut self, dts: i64, mut between: impl FnMut(Moment)) -> Moment {
        self.lead = self.other.map_or(0, |other| (other - dts).clamp(0, STEP_TICKS_MAX));
        let wanted = dts - DELAY_TICKS;
        let step = self.last.map(|last| wanted - last).filter(|step| step.abs() < STEP_TICKS_MAX);
        let (Some(last), Some(step)) = (self.last, step) else {
            let is_new = self.last.is_some();
            self.last = Some(wanted);
            return Moment { ticks: wanted, is_new };
        };
        let pieces = (step + INTERVAL_TICKS_MAX - 1) / INTERVAL_TICKS_MAX;
        for piece in 1..pieces {
            between(Moment { ticks: last + step * piece / pieces, is_new: false });
        }
        let ticks = wanted.max(last);
        self.last = Some(ticks);
        Moment { ticks, is_new: false }
    }

    /// A frame of the other track: what is to be told in front of it.
    pub fn other(&mut self, dts: i64) -> Option<Moment> {
        self.other = Some(dts);
        let last = self.last?;
        let ticks = dts - self.lead - DELAY_TICKS;
        if !(INTERVAL_TICKS_DUE..STEP_TICKS_MAX).contains(&(ticks - last)) {
            return None;
        }
        // Sound may have a gap as well.
        let ticks = ticks.min(last + INTERVAL_TICKS_MAX);
        self.last = Some(ticks);
        Some(Moment { ticks, is_new: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = PTS_PER_SECOND as i64;
    const MS: i64 = SECOND / 1000;

    /// All moments that are told of the given decoding times in milliseconds; `true`: of the carrier.
    fn told(frames: impl Iterator<Item = (bool, i64)>) -> Vec<i64> {
        let (mut clock, mut told) = (Clock::default(), Vec::new());
        for (carries, ms) in frames {
            if carries {
                let moment = clock.carrier(ms * MS, |moment| told.push(moment.ticks));
                assert!(!moment.is_new);
                told.push(moment.ticks);
                assert!(moment.ticks < ms * MS, "{ms}");
            } else {
                told.extend(clock.other(ms * MS).map(|moment| moment.ticks));
            }
        }
        told
    }

    /// Picture every `interval_ms`, sound every 20 ms, which comes earlier by `lead_ms`.
    fn mixed(interval_ms: i64, lead_ms: i64) -> impl Iterator<Item = (bool, i64)> {
        (0..5_000).flat_map(move |ms| {
            let picture = (ms % interval_ms == 0).then_some((true, ms));
            let sound = ((ms + lead_ms) % 20 == 0).then_some((false, ms + lead_ms));
            picture.into_iter().chain(sound)
        })
    }

    #[test]
    fn it_is_told_often_enough_and_never_goes_back() {
        for (interval_ms, lead_ms) in
            [(20, 0), (40, 0), (100, 7), (200, 0), (1_000, 3), (40, 500), (40, -500), (250, 480), (333, -200)]
        {
            let told = told(mixed(interval_ms, lead_ms));
            let steps: Vec<i64> = told.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let name = format!("pictures every {interval_ms} ms, sound ahead by {lead_ms} ms");
            assert!(steps.iter().all(|step| (0..=INTERVAL_TICKS_MAX).contains(step)), "{name}: {steps:?}");
            assert!(told.last() > Some(&(4 * SECOND - DELAY_TICKS)), "{name}");
        }
    }

    #[test]
    fn a_pause_is_filled_and_a_jump_is_said() {
        assert_eq!(told([(true, 1_000), (true, 1_350)].into_iter()).len(), 2 + 3);
        let mut clock = Clock::default();
        for (dts, is_new) in [(SECOND, false), (30 * SECOND, true), (SECOND, true), (2 * SECOND, false)] {
            assert_eq!(clock.carrier(dts, |_| {}), Moment { ticks: dts - DELAY_TICKS, is_new });
        }
        assert_eq!(clock.carrier(SECOND, |_| {}).ticks, 2 * SECOND - DELAY_TICKS, "it does not go back by a little");
    }
}
