//! Decoding times of one track → where parts and segments end.
//!
//! The track is the video, or the audio where there is none. A segment ends at the keyframe at which it is nearest to its wished length, but
//! never outgrows the target duration (RFC 8216bis §4.4.3.1): then it ends in front of another frame. A part ends where the next frame would
//! make it longer than the part target, and not below 85 % of it (§4.4.4.9). What could not be foreseen (a frame that lasts longer than
//! those before) is cut afterwards, at the last frame; and inside of that frame where there is sound to fill the parts. The first segment may
//! be told to end early: then the next one ends at the next keyframe.
//!
//! Times are exact: what lies between two cuts is their difference. Not here: frames, bytes, and what a cut makes of them.

/// A part is never shorter than so much of the part target, but the last of a segment.
const PART_PERCENT_MIN: i64 = 85;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutKind {
    Part,
    /// Ends the part too. `key`: the next segment begins with a keyframe.
    Segment {
        key: bool,
    },
    /// The time goes on so much later that nothing joins the two: the segment ends without what lies between.
    Gap,
}

/// Everything before `at`, in microseconds, is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub at: i64,
    pub kind: CutKind,
}

/// Microseconds throughout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    /// What a segment should have.
    pub segment: i64,
    /// What the first should have: somebody waits for it.
    pub first: i64,
    /// What no segment may have more than.
    pub limit: i64,
    /// What no part may have more than; `None`: no parts.
    pub part: Option<i64>,
}

#[derive(Clone, Debug)]
pub struct Cutter {
    pub lengths: Lengths,
    /// No segment has ended at a keyframe yet.
    is_first: bool,
    segment_start: i64,
    part_start: i64,
    last: i64,
    last_is_key: bool,
    last_key: i64,
    /// Between the last two keyframes, and between the last two frames.
    gop: i64,
    interval: i64,
}

impl Cutter {
    /// Begins with a frame at `start`.
    pub fn new(lengths: Lengths, start: i64, is_first: bool) -> Self {
        Cutter {
            lengths,
            is_first,
            segment_start: start,
            part_start: start,
            last: start,
            last_is_key: true,
            last_key: start,
            gop: 0,
            interval: 0,
        }
    }

    /// The beginning of the part that is not complete.
    pub fn part_start(&self) -> i64 {
        self.part_start
    }

    pub fn segment_start(&self) -> i64 {
        self.segment_start
    }

    pub fn last(&self) -> i64 {
        self.last
    }

    pub fn last_key(&self) -> i64 {
        self.last_key
    }

    /// How long a frame lasts whose successor is not known.
    pub fn interval(&self) -> i64 {
        self.interval
    }

    /// The next frame. `is_filled`: whether there is something of another track between two times.
    pub fn push(&mut self, at: i64, key: bool, is_filled: impl Fn(i64, i64) -> bool, cuts: &mut Vec<Cut>) {
        if at <= self.last {
            return;
        }
        self.cut_before(at, &is_filled, cuts);
        self.interval = at - self.last;
        self.last = at;
        self.last_is_key = key;
        if key {
            self.gop = at - self.last_key;
            self.last_key = at;
        }
        let wish = if self.is_first { self.lengths.first } else { self.lengths.segment };
        let elapsed = at - self.segment_start;
        if key && (elapsed + self.gop / 2 >= wish || elapsed + self.gop > self.lengths.limit) {
            return self.cut(at, CutKind::Segment { key }, cuts);
        }
        let Some(part) = self.lengths.part else { return };
        let elapsed = at - self.part_start;
        if elapsed * 100 >= part * PART_PERCENT_MIN && elapsed + self.interval > part {
            self.cut(at, CutKind::Part, cuts);
        }
    }

    /// Ends the segment in front of the frame at `at`, which has been pushed last. Nothing happens where it begins with that frame.
    pub fn cut_segment(&mut self, at: i64, key: bool, cuts: &mut Vec<Cut>) {
        if at > self.segment_start {
            self.cut(at, CutKind::Segment { key }, cuts);
        }
    }

    /// Cuts that would have been due before the frame at `at` came.
    fn cut_before(&mut self, at: i64, is_filled: &impl Fn(i64, i64) -> bool, cuts: &mut Vec<Cut>) {
        if at - self.segment_start > self.lengths.limit && self.last > self.segment_start {
            self.cut(self.last, CutKind::Segment { key: self.last_is_key }, cuts);
        }
        if let Some(part) = self.lengths.part {
            if at - self.part_start > part && self.last > self.part_start {
                self.cut(self.last, CutKind::Part, cuts);
            }
            while at - self.part_start > part && is_filled(self.part_start, self.part_start + part) {
                let end = self.part_start + part;
                // The next part may not fit into this segment any more.
                let is_full = end + part - self.segment_start > self.lengths.limit;
                self.cut(end, if is_full { CutKind::Segment { key: false } } else { CutKind::Part }, cuts);
            }
        }
        while at - self.segment_start > self.lengths.limit {
            let end = self.segment_start + self.lengths.limit;
            if !is_filled(self.part_start, end) {
                self.cut(at, CutKind::Gap, cuts);
                return;
            }
            self.cut(end, CutKind::Segment { key: false }, cuts);
        }
    }

    fn cut(&mut self, at: i64, kind: CutKind, cuts: &mut Vec<Cut>) {
        cuts.push(Cut { at, kind });
        self.part_start = at;
        if kind != CutKind::Part {
            self.segment_start = at;
            self.is_first &= kind == CutKind::Segment { key: false };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;
    const LENGTHS: Lengths = Lengths { segment: 2 * SECOND, first: SECOND, limit: 2_499_999, part: None };

    /// The cuts of frames `interval` apart with a keyframe every `gop` of them, in milliseconds.
    fn cuts(lengths: Lengths, interval: i64, gop: i64, frames: i64) -> Vec<(i64, CutKind)> {
        let mut cutter = Cutter::new(lengths, 0, true);
        let mut cuts = Vec::new();
        for number in 1..frames {
            cutter.push(number * interval, number % gop == 0, |_, _| false, &mut cuts);
        }
        cuts.into_iter().map(|cut| (cut.at / 1000, cut.kind)).collect()
    }

    #[test]
    fn segments_end_at_keyframes() {
        use CutKind::Segment;
        let key = Segment { key: true };
        let hard = Segment { key: false };
        type Case<'a> = (&'a str, i64, i64, i64, &'a [(i64, CutKind)]);
        let cases: [Case<'_>; 6] = [
            ("the first ends early", 40_000, 25, 130, &[(1000, key), (3000, key), (5000, key)]),
            ("short GOPs", 40_000, 10, 130, &[(800, key), (2800, key), (4800, key)]),
            ("as long as wished", 40_000, 50, 130, &[(2000, key), (4000, key)]),
            ("two would be too long", 100_000, 13, 60, &[(1300, key), (2600, key), (3900, key), (5200, key)]),
            ("every frame is one", 500_000, 1, 11, &[(1000, key), (3000, key), (5000, key)]),
            ("longer than the target", 100_000, 30, 70, &[(2400, hard), (3000, key), (5400, hard), (6000, key)]),
        ];
        for (name, interval, gop, frames, expected) in cases {
            assert_eq!(cuts(LENGTHS, interval, gop, frames), expected, "{name}");
        }
    }

    #[test]
    fn parts_are_as_long_as_they_may_be() {
        let part = |part| Lengths { part: Some(part), ..LENGTHS };
        let of_frames = cuts(part(202_000), 40_000, 25, 30);
        let ends: Vec<i64> = of_frames.iter().map(|(at, _)| *at).collect();
        assert_eq!(ends, [200, 400, 600, 800, 1000]);
        assert_eq!(of_frames[4].1, CutKind::Segment { key: true });
        let ends: Vec<i64> = cuts(part(210_000), 41_667, 24, 26).iter().map(|(at, _)| *at).collect();
        assert_eq!(ends, [208, 416, 625, 833, 1000], "the last of a segment is shorter");
    }

    #[test]
    fn a_frame_that_lasts_too_long() {
        let lengths = Lengths { part: Some(202_000), ..LENGTHS };
        let run = |gap: i64, is_filled: bool| {
            let mut cutter = Cutter::new(lengths, 0, true);
            let mut cuts = Vec::new();
            for at in [40_000, 80_000, 80_000 + gap] {
                cutter.push(at, false, |_, _| is_filled, &mut cuts);
            }
            cuts.into_iter().map(|cut| (cut.at / 1000, cut.kind)).collect::<Vec<_>>()
        };
        use CutKind::{Gap, Part, Segment};
        let hard = Segment { key: false };
        assert_eq!(run(100_000, false), [(180, Part)], "as long as it may be");
        assert_eq!(run(150_000, false), [(80, Part)], "before it");
        assert_eq!(run(600_000, false), [(80, Part), (680, Part)], "nothing to cut it with");
        assert_eq!(run(600_000, true), [(80, Part), (282, Part), (484, Part), (680, Part)]);
        assert_eq!(run(5_000_000, false), [(80, hard), (5080, Gap)]);
        let filled = run(3_000_000, true);
        assert_eq!(filled[0], (80, hard));
        assert!(filled.windows(2).all(|pair| pair[1].0 - pair[0].0 <= 202), "{filled:?}");
    }
}
