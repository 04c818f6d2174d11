//! Presentation times in decoding order → decoding times, without delay.
//!
//! RTP carries presentation times only. With D pictures of reordering the decoding time of the n-th picture is the (n−D)-th smallest
//! presentation time: it is known as soon as the picture is there, goes forward, and is never behind the picture's own. D comes from the
//! sequence parameter set. If that says nothing, D is learnt when a time goes back further than D explains, and forgotten when
//! [`HABIT`] pictures did not need it. Times in front of the first picture's are counted back by the frame interval.

use std::collections::VecDeque;

/// Pictures of reordering that H.264 and H.265 allow.
const DEPTH_MAX: usize = 16;
/// A step of more is a new beginning.
const JUMP_MICROS: i64 = 10_000_000;
/// A step of more is not reordering: pictures are missing, and those that waited before wait no longer.
const GAP_MICROS: i64 = 1_000_000;
const INTERVAL_MICROS: i64 = 40_000;
/// A longer interval is not believed: counted back as often as can be, it would be a jump.
const INTERVAL_MICROS_MAX: i64 = 500_000;
/// Pictures that show how deep a sender's reordering is.
const HABIT: u32 = 128;

pub struct DecodingTimes {
    depth: usize,
    /// The sequence parameter set says the depth.
    is_stated: bool,
    interval_micros: i64,
    /// Presentation times not yet used, sorted.
    waiting: VecDeque<i64>,
    last_micros: Option<i64>,
    /// The next picture is the first one, or has nothing to do with those before.
    begins: bool,
    /// Pictures that were looked at, and the deepest reordering among them.
    seen: u32,
    seen_depth: usize,
}

impl DecodingTimes {
    /// `depth`: pictures of reordering, as far as known. `frames_per_second`: 0 if not known.
    pub fn new(depth: Option<u8>, frames_per_second: f32) -> Self {
        let mut times = DecodingTimes {
            depth: 0,
            is_stated: false,
            interval_micros: INTERVAL_MICROS,
            waiting: VecDeque::new(),
            last_micros: None,
            begins: true,
            seen: 0,
            seen_depth: 0,
        };
        times.configure(depth, frames_per_second);
        times
    }

    /// As for [`DecodingTimes::new`], for the pictures that follow.
    pub fn configure(&mut self, depth: Option<u8>, frames_per_second: f32) {
        let interval_micros = if frames_per_second > 0.0 { (1e6 / frames_per_second) as i64 } else { INTERVAL_MICROS };
        self.interval_micros = interval_micros.min(INTERVAL_MICROS_MAX);
        self.is_stated = depth.is_some();
        self.depth = usize::from(depth.unwrap_or(0)).min(DEPTH_MAX);
        self.restart();
    }

    /// The next picture has nothing to do with those before, but is decoded behind them.
    pub fn restart(&mut self) {
        self.begins = true;
        (self.seen, self.seen_depth) = (0, 0);
        if !self.is_stated {
            self.depth = 0;
        }
    }

    /// A presentation time that steps back by more is not of a picture out of order.
    pub fn reordering_micros_max(&self) -> i64 {
        let depth = if self.is_stated { self.depth } else { DEPTH_MAX };
        GAP_MICROS.max(depth as i64 * self.interval_micros)
    }

    /// The decoding time of the next picture in decoding order, in microseconds.
    pub fn next(&mut self, presentation_micros: i64) -> i64 {
        let back_micros_max = self.reordering_micros_max();
        let is_jump = |last: i64| presentation_micros - last > JUMP_MICROS || last - presentation_micros > back_micros_max;
        if self.last_micros.is_some_and(is_jump) {
            self.restart();
            self.last_micros = None;
        }
        let is_behind = |time: &i64| presentation_micros - time > GAP_MICROS;
        let is_gap = self.last_micros.as_ref().is_some_and(is_behind) && self.waiting.back().is_none_or(is_behind);
        if std::mem::take(&mut self.begins) || is_gap {
            self.waiting.clear();
            let depth = self.depth as i64;
            self.waiting.extend((1..=depth).rev().map(|back| presentation_micros - back * self.interval_micros));
        }
        let at = self.waiting.partition_point(|waiting| *waiting <= presentation_micros);
        self.waiting.insert(at, presentation_micros);
        let is_late = at == 0 && self.last_micros.is_some_and(|last| presentation_micros < last);
        let earliest = if is_late && !self.is_stated && self.depth < DEPTH_MAX {
            // It should have been decoded already: one more picture of reordering. This one keeps its place in the queue.
            self.depth += 1;
            self.seen_depth = self.depth;
            presentation_micros
        } else {
            self.observe(self.waiting.len() - 1 - at);
            self.waiting.pop_front().unwrap_or(presentation_micros)
        };
        let decoding = self.last_micros.map_or(earliest, |last| earliest.max(last + 1));
        self.last_micros = Some(decoding);
        decoding
    }

    /// Notes how many pictures a picture was behind that are shown behind it, and forgets what was learnt too much.
    fn observe(&mut self, depth: usize) {
        (self.seen, self.seen_depth) = (self.seen + 1, self.seen_depth.max(depth));
        if self.seen < HABIT {
            return;
        }
        while !self.is_stated && self.depth > self.seen_depth {
            self.depth -= 1;
            self.waiting.pop_front();
        }
        (self.seen, self.seen_depth) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(depth: Option<u8>, presentation: &[i64]) -> Vec<i64> {
        let mut times = DecodingTimes::new(depth, 25.0);
        presentation.iter().map(|micros| times.next(micros * 40_000)).map(|micros| micros / 40_000).collect()
    }

    #[test]
    fn decoding_times_of_usual_patterns() {
        type Case<'a> = (&'a str, Option<u8>, &'a [i64], &'a [i64]);
        let cases: [Case<'_>; 8] = [
            ("two fields with the time of their frame", None, &[0, 0, 1, 1, 2, 2], &[0, 0, 1, 1, 2, 2]),
            ("in order", Some(0), &[0, 1, 2, 3], &[0, 1, 2, 3]),
            ("nothing said, in order", None, &[0, 1, 2, 3], &[0, 1, 2, 3]),
            ("one B", Some(1), &[0, 2, 1, 4, 3, 6, 5], &[-1, 0, 1, 2, 3, 4, 5]),
            ("a pyramid", Some(2), &[0, 4, 2, 1, 3, 8, 6, 5, 7], &[-2, -1, 0, 1, 2, 3, 4, 5, 6]),
            ("a frame is missing", Some(0), &[0, 1, 3, 4], &[0, 1, 3, 4]),
            ("seconds are missing", Some(1), &[0, 2, 1, 60, 62, 61, 64], &[-1, 0, 1, 59, 60, 61, 62]),
            ("a picture per two seconds", Some(0), &[0, 50, 100], &[0, 50, 100]),
        ];
        for (name, depth, presentation, expected) in cases {
            assert_eq!(times(depth, presentation), expected, "{name}");
        }
    }

    #[test]
    fn what_is_not_said_is_learnt() {
        let presentation: Vec<i64> =
            (0..40).flat_map(|group| [4 * group, 4 * group + 4 - 2, 4 * group + 1, 4 * group + 3]).collect();
        let mut times = DecodingTimes::new(None, 25.0);
        let mut last = i64::MIN;
        for (at, time) in presentation.iter().enumerate() {
            let (presentation, decoding) = (time * 40_000, times.next(time * 40_000));
            assert!(decoding > last, "picture {at}");
            assert!(at < 8 || decoding <= presentation, "picture {at}: {decoding} {presentation}");
            last = decoding;
        }
    }

    #[test]
    fn a_rate_that_cannot_be_is_not_believed() {
        for frames_per_second in [0.000_1, 0.05, f32::MIN_POSITIVE] {
            let mut times = DecodingTimes::new(Some(16), frames_per_second);
            let delay = |picture: i64, decoding: i64| picture * 40_000 - decoding;
            let mut last = i64::MIN;
            for picture in 0..40 {
                let decoding = times.next(picture * 40_000);
                assert!(decoding > last && delay(picture, decoding) < JUMP_MICROS, "{frames_per_second}: {picture}, {decoding}");
                last = decoding;
            }
        }
    }

    /// Behind a clock that was set back, each picture comes at its time, and sooner or later is decoded then.
    #[test]
    fn a_clock_that_steps_back_leaves_no_delay() {
        // How far back in pictures, the depth that is stated, and pictures until decoding times are as before.
        for (back, stated, settled) in
            [(75, None, 0), (75, Some(0), 0), (75, Some(2), 0), (10, Some(0), 10), (10, Some(2), 12), (10, None, 300)]
        {
            let delay = i64::from(stated.unwrap_or(0)) * 40_000;
            let mut times = DecodingTimes::new(stated, 25.0);
            let mut last = i64::MIN;
            for picture in 0..500 {
                let presentation = (picture - if picture < 100 { 0 } else { back }) * 40_000;
                let decoding = times.next(presentation);
                assert!(decoding > last || (picture == 100 && back > 25), "{back}, {stated:?}: picture {picture}");
                if !(100..100 + settled).contains(&picture) {
                    assert_eq!(presentation - decoding, delay, "{back}, {stated:?}: picture {picture}");
                }
                last = decoding;
            }
        }
    }

    #[test]
    fn what_is_configured_anew_is_decoded_behind() {
        let mut times = DecodingTimes::new(Some(0), 25.0);
        assert_eq!((times.next(0), times.next(40_000)), (0, 40_000));
        times.configure(Some(2), 25.0);
        assert_eq!((times.next(80_000), times.next(160_000), times.next(120_000)), (40_001, 40_002, 80_000));
        times.restart();
        assert_eq!((times.next(90_000), times.next(200_000)), (80_001, 80_002));
    }

    #[test]
    fn a_jump_begins_anew() {
        assert_eq!(times(Some(1), &[0, 2, 1, 10_000, 10_002, 10_001]), [-1, 0, 1, 9_999, 10_000, 10_001]);
        assert_eq!(times(Some(0), &[10_000, 10_001, 5, 6]), [10_000, 10_001, 5, 6]);
    }
}
