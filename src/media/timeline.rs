//! Clocks at the door: wire clocks made 64 bits wide, and one timeline per stream that only goes forward.
//!
//! [`WireClock`] belongs to a demuxer and undoes the wrap of a 16- to 33-bit counter. [`Timeline`] belongs to a stream and places
//! each frame: it joins the clocks of successive publishers, and absorbs jumps, backward steps and equal stamps. Every repair is
//! counted and none closes a session. Neither reads the time; `arrival` says when a frame came.

use super::{MediaTime, Stamp, TrackId};

/// Unwraps a counter of fewer than 64 bits. Neighbouring values may differ by less than half the counter's range, either way.
#[derive(Clone, Debug)]
pub struct WireClock {
    bits: u32,
    ticks_per_second: u32,
    /// The last value, unwrapped.
    last: Option<i64>,
}

impl WireClock {
    /// `bits`: 8 to 62.
    pub fn new(bits: u32, ticks_per_second: u32) -> Self {
        assert!((8..=62).contains(&bits) && ticks_per_second > 0);
        WireClock { bits, ticks_per_second, last: None }
    }

    /// The position of `raw` ticks. The first call decides the range: it returns `raw` itself.
    pub fn unwrap(&mut self, raw: u64) -> MediaTime {
        let modulus = 1i64 << self.bits;
        let raw = (raw & (modulus as u64 - 1)) as i64;
        let ticks = match self.last {
            None => raw,
            Some(last) => {
                let step = (raw - last.rem_euclid(modulus)).rem_euclid(modulus);
                if step < modulus / 2 { last + step } else { last + step - modulus }
            }
        };
        self.last = Some(ticks);
        let micros = i128::from(ticks) * 1_000_000 / i128::from(self.ticks_per_second);
        MediaTime::from_micros(micros as i64)
    }
}

/// What [`Timeline::place`] had to mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Repair {
    /// The clock leapt ahead by more than the time that passed; the timeline goes on without the hole.
    ForwardJump,
    /// The clock fell back by more than frames can be out of order; the timeline goes on from where it was.
    BackwardJump,
    /// A frame was a little older than its predecessor on the track.
    BackwardStep,
    /// A frame had its predecessor's stamp.
    Equal,
}

impl Repair {
    pub const ALL: [Repair; 4] = [Repair::ForwardJump, Repair::BackwardJump, Repair::BackwardStep, Repair::Equal];

    pub const fn label(self) -> &'static str {
        match self {
            Repair::ForwardJump => "forward_jump",
            Repair::BackwardJump => "backward_jump",
            Repair::BackwardStep => "backward_step",
            Repair::Equal => "equal",
        }
    }
}

/// A first stamp up to this is kept as it is, so that what goes out equals what came in.
const START_KEPT_MICROS: i64 = 10_000_000;
/// Else the first frame is put here: the other track may begin a little earlier.
const START_MICROS: i64 = 1_000_000;
/// How far ahead of the timeline, beyond the time that passed, a frame may lie.
const FORWARD_MICROS_MAX: i64 = 10_000_000;
/// How far behind the newest frame of any track a frame may lie.
const BACKWARD_MICROS_MAX: i64 = 2_000_000;
/// The step between neighbours when the clock does not give one.
const STEP_MICROS: i64 = 1_000;
/// The step over a seam between two clocks.
const SEAM_MICROS: i64 = 40_000;

/// One stream's timeline: non-negative, and strictly increasing on each track.
#[derive(Debug, Default)]
pub struct Timeline {
    /// What is added to a publisher's clock. The second is the one before the last jump: tracks do not jump at the same frame.
    offset: Option<i64>,
    offset_before: Option<i64>,
    /// Newest position per track of this publisher.
    newest: Vec<(TrackId, i64)>,
    /// The newest position of the publishers before.
    floor: Option<i64>,
    /// Newest position of all, and when that frame came.
    head: Option<(i64, Stamp)>,
}

impl Timeline {
    pub fn new() -> Self {
        Timeline::default()
    }

    /// A new publisher begins: its clock has nothing to do with the last one's.
    pub fn begin_segment(&mut self) {
        self.offset = None;
        self.offset_before = None;
        // Its tracks may have other ids; whatever they are, they go on behind the newest frame of all.
        self.newest.clear();
        self.floor = self.head.map(|(head, _)| head);
    }

    /// Where the frame with the wire position `dts` stands.
    pub fn place(&mut self, track: TrackId, dts: MediaTime, arrival: Stamp) -> (MediaTime, Option<Repair>) {
        let raw = dts.as_micros();
        let (offset, jump) = self.offset_for(raw, arrival);
        let mut position = raw.saturating_add(offset).max(0);
        let mut repair = jump;
        if let Some(last) = self.newest_of(track).or(self.floor)
            && position <= last
        {
            repair = repair.or(Some(if position == last { Repair::Equal } else { Repair::BackwardStep }));
            position = last + STEP_MICROS;
        }
        self.set_newest(track, position);
        if self.head.is_none_or(|(head, _)| position >= head) {
            self.head = Some((position, arrival));
        }
        (MediaTime::from_micros(position), repair)
    }

    /// Where a frame of a data track stands: on the clock of the others if its stamp makes sense there, else with the newest frame.
    /// Encoders stamp script data carelessly; it never moves the timeline.
    pub fn place_data(&self, dts: MediaTime) -> MediaTime {
        let Some((head, _)) = self.head else { return MediaTime::ZERO };
        let position = dts.as_micros().saturating_add(self.offset.unwrap_or(0));
        let near = (-BACKWARD_MICROS_MAX..=BACKWARD_MICROS_MAX).contains(&position.saturating_sub(head));
        MediaTime::from_micros(if near { position.max(0) } else { head })
    }

    fn offset_for(&mut self, raw: i64, arrival: Stamp) -> (i64, Option<Repair>) {
        let Some(offset) = self.offset else {
            let offset = match self.head {
                Some((head, _)) => head.saturating_add(SEAM_MICROS).saturating_sub(raw),
                None if (0..=START_KEPT_MICROS).contains(&raw) => 0,
                None => START_MICROS.saturating_sub(raw),
            };
            self.offset = Some(offset);
            return (offset, None);
        };
        let Some((head, head_arrival)) = self.head else { return (offset, None) };
        let passed = i64::try_from(arrival.since(head_arrival).as_micros()).unwrap_or(i64::MAX);
        let lead = |offset: i64| raw.saturating_add(offset).saturating_sub(head);
        let plausible = |lead: i64| (-BACKWARD_MICROS_MAX..=FORWARD_MICROS_MAX.saturating_add(passed)).contains(&lead);
        // Of the clocks that are plausible, the nearer: around a jump, one track may still run on the old one.
        let candidates = [Some(offset), self.offset_before];
        if let Some(nearest) = candidates.into_iter().flatten().filter(|o| plausible(lead(*o))).min_by_key(|o| lead(*o).abs()) {
            return (nearest, None);
        }
        let repair = if lead(offset) > 0 { Repair::ForwardJump } else { Repair::BackwardJump };
        let mended = head.saturating_add(SEAM_MICROS).saturating_sub(raw);
        self.offset_before = Some(offset);
        self.offset = Some(mended);
        (mended, Some(repair))
    }

    fn newest_of(&self, track: TrackId) -> Option<i64> {
        self.newest.iter().find(|(id, _)| *id == track).map(|(_, position)| *position)
    }

    fn set_newest(&mut self, track: TrackId, position: i64) {
        match self.newest.iter_mut().find(|(id, _)| *id == track) {
            Some(entry) => entry.1 = position,
            None => self.newest.push((track, position)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V: TrackId = TrackId(0);
    const A: TrackId = TrackId(1);

    #[test]
    fn wire_clocks_unwrap_both_ways() {
        let cases: [(u32, &[u64], &[i64]); 4] = [
            (32, &[0xFFFF_FFF0, 0x10, 0xFFFF_FFF8, 0x20], &[4_294_967_280, 4_294_967_312, 4_294_967_288, 4_294_967_328]),
            (24, &[0xFF_FFFF, 0, 0xFF_FFFF], &[16_777_215, 16_777_216, 16_777_215]),
            (33, &[0x1_FFFF_FFFF, 1], &[8_589_934_591, 8_589_934_593]),
            (16, &[5, 2, 0xFFFF], &[5, 2, -1]),
        ];
        for (bits, raw, ticks) in cases {
            let mut clock = WireClock::new(bits, 1000);
            let seen: Vec<i64> = raw.iter().map(|raw| clock.unwrap(*raw).as_millis()).collect();
            assert_eq!(seen, ticks, "{bits} bits");
        }
    }

    #[test]
    fn a_90_khz_clock_becomes_microseconds() {
        let mut clock = WireClock::new(32, 90_000);
        assert_eq!(clock.unwrap(90_000).as_micros(), 1_000_000);
        assert_eq!(clock.unwrap(90_001).as_micros(), 1_000_011);
    }

    /// Feeds (track, wire ms, arrival ms); expects (position ms, repair).
    #[track_caller]
    fn check(feed: &[(TrackId, i64, u64)], expect: &[(i64, Option<Repair>)]) {
        let mut timeline = Timeline::new();
        for ((track, ms, arrival), (position, repair)) in feed.iter().zip(expect) {
            let placed = timeline.place(*track, MediaTime::from_millis(*ms), Stamp::from_millis(*arrival));
            assert_eq!((placed.0.as_millis(), placed.1), (*position, *repair), "at wire {ms} ms");
        }
    }

    #[test]
    fn a_small_start_is_kept_and_a_large_one_moved() {
        check(&[(V, 80, 0), (A, 60, 0), (V, 120, 40)], &[(80, None), (60, None), (120, None)]);
        check(&[(V, 50_000, 0), (A, 49_980, 0)], &[(1000, None), (980, None)]);
        check(&[(V, -50, 0), (V, 0, 0)], &[(1000, None), (1050, None)]);
    }

    #[test]
    fn equal_and_backward_stamps_step_on() {
        check(
            &[(V, 0, 0), (V, 0, 1), (V, 40, 40), (V, 30, 50), (V, 80, 80)],
            &[(0, None), (1, Some(Repair::Equal)), (40, None), (41, Some(Repair::BackwardStep)), (80, None)],
        );
    }

    #[test]
    fn both_tracks_follow_a_jump_that_they_make_at_different_frames() {
        let jump = 3_600_000;
        check(
            &[(V, 0, 0), (A, 0, 0), (V, 40 + jump, 40), (A, 20, 41), (A, 40 + jump, 60), (V, 80 + jump, 80)],
            &[(0, None), (0, None), (40, Some(Repair::ForwardJump)), (20, None), (40, None), (80, None)],
        );
        check(
            &[(V, 9_000, 0), (A, 9_000, 0), (V, 0, 40), (A, 9_020, 41), (A, 0, 60), (V, 40, 80)],
            &[(9_000, None), (9_000, None), (9_040, Some(Repair::BackwardJump)), (9_020, None), (9_040, None), (9_080, None)],
        );
    }

    #[test]
    fn data_follows_the_timeline_and_never_moves_it() {
        let mut timeline = Timeline::new();
        assert_eq!(timeline.place_data(MediaTime::from_millis(700)), MediaTime::ZERO);
        timeline.place(V, MediaTime::from_millis(60_000), Stamp::ZERO);
        let cases = [(60_500, 1_500), (0, 1_000), (9_000_000, 1_000)];
        for (wire, position) in cases {
            assert_eq!(timeline.place_data(MediaTime::from_millis(wire)).as_millis(), position);
        }
        assert_eq!(timeline.place(V, MediaTime::from_millis(60_040), Stamp::ZERO).0.as_millis(), 1_040);
    }

    #[test]
    fn a_pause_with_a_running_clock_is_no_jump() {
        check(&[(V, 0, 0), (V, 60_000, 60_000)], &[(0, None), (60_000, None)]);
    }

    #[test]
    fn a_new_segment_goes_on_behind_the_last() {
        let mut timeline = Timeline::new();
        timeline.place(V, MediaTime::from_millis(500), Stamp::ZERO);
        timeline.place(A, MediaTime::from_millis(520), Stamp::ZERO);
        timeline.begin_segment();
        let (video, _) = timeline.place(V, MediaTime::from_millis(7), Stamp::ZERO);
        let (audio, _) = timeline.place(A, MediaTime::from_millis(27), Stamp::ZERO);
        assert_eq!((video.as_millis(), audio.as_millis()), (560, 580));
    }

    proptest::proptest! {
        /// Whatever the wire says, each track goes forward, and nothing lies before zero.
        #[test]
        fn every_track_goes_forward(feed in proptest::collection::vec((0..3u8, proptest::prelude::any::<i64>(), 0..100_000u64, 0..20u8), 1..200)) {
            let mut timeline = Timeline::new();
            let mut last = [None; 3];
            let (mut now, mut near) = (0, 0i64);
            for (track, wild, passed, choice) in feed {
                now += passed;
                // Mostly a plausible step, now and then anything at all, or another publisher.
                near = if choice == 0 { wild } else { near.saturating_add(wild % 60_000_000) };
                if choice == 1 {
                    timeline.begin_segment();
                }
                let (position, _) = timeline.place(TrackId(track), MediaTime::from_micros(near), Stamp::from_millis(now));
                proptest::prop_assert!(position >= MediaTime::ZERO);
                proptest::prop_assert!(last[usize::from(track)].is_none_or(|last| position > last));
                last[usize::from(track)] = Some(position);
            }
        }
    }
}
