//! The clocks of a publisher's tracks → one timeline in microseconds.
//!
//! Every track has a clock of its own with a random zero. Until the sender says more, a track begins where its first packet came,
//! counted from the first packet of all, which stands at [`START_MICROS`]. Sender reports give each clock's relation to one wall clock (RFC 3550 §6.4.1); once two tracks
//! have one, the sound is moved so that both agree: exactly when that becomes known, later only by more than
//! [`SKEW_MICROS_MAX`] and if two reports in a row say so, because jitter in reports is no drift. A clock that jumps, or steps back by
//! more than pictures can be out of order, goes on where its packets say by their arrival.

use crate::format::rtp::payload::micros_of_ticks;
use crate::format::rtp::rtcp::SenderReport;
use crate::media::Stamp;

/// Where the first packet stands: reports may say that sound which comes behind it is older.
pub const START_MICROS: i64 = 1_000_000;
/// Less than a listener notices.
const SKEW_MICROS_MAX: i64 = 20_000;
/// A wall clock between the two is not set: 1968-01-20, when the upper bit of NTP's seconds came in, and 2000-01-01.
const UNSET_NTP_SECONDS: std::ops::Range<u64> = 0x8000_0000..3_155_673_600;
/// Seconds in an era of NTP. Without the upper bit they are of the next one, which begins in 2036 (RFC 4330 §3).
const NTP_ERA_SECONDS: u64 = 1 << 32;
/// Reports of two tracks that differ by more are not of one clock.
const WALL_DIFFERENCE_MICROS_MAX: i64 = 3_600_000_000;
/// A clock that is off its arrivals by more has jumped.
const JUMP_MICROS: i64 = 5_000_000;
/// No clock runs so long, but one that jumps all the time may come there. Far from the limits of microseconds at any rate.
const TICKS_MAX: u64 = 1 << 50;

/// One track's clock.
#[derive(Debug)]
pub struct TrackClock {
    clock_rate: u32,
    /// The last timestamp, unwrapped.
    last_ticks: Option<i64>,
    /// Timeline position of tick zero; `None`: no packet has come.
    offset_micros: Option<i64>,
    last: Option<(i64, Stamp)>,
    /// Timestamp and wall clock of the last report, in microseconds both.
    report: Option<(i64, i64)>,
    synced: bool,
    /// The last report asked for a correction that was not made.
    doubted: bool,
}

impl TrackClock {
    pub fn new(clock_rate: u32) -> Self {
        TrackClock { clock_rate, last_ticks: None, offset_micros: None, last: None, report: None, synced: false, doubted: false }
    }

    /// The timestamp with its wraps counted.
    pub fn unwrap(&mut self, timestamp: u32) -> i64 {
        let from_last = |last: i64| last + i64::from(timestamp.wrapping_sub(last as u32).cast_signed());
        let ticks = self.last_ticks.map(from_last).filter(|ticks| ticks.unsigned_abs() <= TICKS_MAX);
        let ticks = ticks.unwrap_or(timestamp.into());
        self.last_ticks = Some(ticks);
        ticks
    }

    fn micros(&self, ticks: i64) -> i64 {
        micros_of_ticks(ticks, self.clock_rate)
    }

    /// What the timeline says when the wall clock says zero; `None`: not known yet.
    fn wall_zero(&self) -> Option<i64> {
        let (stamp, wall) = self.report?;
        Some(self.offset_micros? + stamp - wall)
    }

    /// Another source: its clock has nothing to do with the last one's, but its media goes on behind that one's.
    pub fn restart(&mut self) {
        *self = TrackClock { last: self.last, ..TrackClock::new(self.clock_rate) };
    }
}

/// The clocks of all tracks.
#[derive(Debug)]
pub struct Clocks {
    pub tracks: Vec<TrackClock>,
    /// When the first packet of all came.
    origin: Option<Stamp>,
    /// The track that the others follow.
    leader: usize,
}

impl Clocks {
    /// `leader`: the track that is never moved: the picture, whose times stand in no order.
    pub fn new(clock_rates: impl Iterator<Item = u32>, leader: usize) -> Self {
        Clocks { tracks: clock_rates.map(TrackClock::new).collect(), origin: None, leader }
    }

    /// The timeline position of a packet's timestamp. `back_micros_max`: a larger step back is none of pictures out of order.
    pub fn place(&mut self, track: usize, ticks: i64, arrival: Stamp, back_micros_max: i64) -> i64 {
        let origin = *self.origin.get_or_insert(arrival);
        let agreed = self.other_wall_zero(track);
        let clock = &mut self.tracks[track];
        let stamp = clock.micros(ticks);
        let by_arrival = match clock.last {
            Some((last, last_arrival)) => last + micros_between(last_arrival, arrival),
            None => START_MICROS + micros_between(origin, arrival),
        };
        let offset = match (clock.offset_micros, agreed, clock.report) {
            (Some(offset), ..) => {
                let position = offset + stamp;
                let is_back = clock.last.is_some_and(|(last, _)| last - position > back_micros_max);
                if is_back || (position - by_arrival).abs() > JUMP_MICROS {
                    // The old reports speak of another clock.
                    (clock.report, clock.synced) = (None, false);
                    by_arrival - stamp
                } else {
                    offset
                }
            }
            (None, Some(zero), Some((reported, wall))) => {
                clock.synced = true;
                zero + wall - reported
            }
            _ => by_arrival - stamp,
        };
        clock.offset_micros = Some(offset);
        clock.last = Some((offset + stamp, arrival));
        offset + stamp
    }

    /// Takes a sender report of a track.
    pub fn report(&mut self, track: usize, report: &SenderReport) {
        let seconds = report.ntp >> 32;
        if report.ntp == 0 || UNSET_NTP_SECONDS.contains(&seconds) {
            return;
        }
        let era_seconds = if seconds < UNSET_NTP_SECONDS.start { NTP_ERA_SECONDS } else { 0 };
        let clock = &mut self.tracks[track];
        let last = clock.last_ticks;
        let ticks = clock.unwrap(report.rtp_timestamp);
        // A report may speak of a moment ahead: it must not move what packets are unwrapped against, once there are some.
        clock.last_ticks = last.or(Some(ticks));
        // Rounded: the fraction was cut off once already.
        let ntp = u128::from(report.ntp) + (u128::from(era_seconds) << 32);
        let wall = ((ntp * 1_000_000 + (1 << 31)) >> 32) as i64;
        clock.report = Some((clock.micros(ticks), wall));
        self.agree(track);
    }

    /// Moves a track so that it agrees with the leader about the wall clock.
    fn agree(&mut self, reported: usize) {
        let track = match reported == self.leader {
            true => (0..self.tracks.len()).find(|track| *track != self.leader).unwrap_or(reported),
            false => reported,
        };
        let (Some(zero), Some(clock)) = (self.other_wall_zero(track), self.tracks.get_mut(track)) else { return };
        let (Some(own), Some(offset)) = (clock.wall_zero(), clock.offset_micros) else { return };
        let correction = zero - own;
        let is_confirmed = std::mem::replace(&mut clock.doubted, true);
        if !clock.synced || (correction.abs() > SKEW_MICROS_MAX && is_confirmed) {
            clock.offset_micros = Some(offset + correction);
            clock.last = clock.last.map(|(last, arrival)| (last + correction, arrival));
            (clock.synced, clock.doubted) = (true, false);
        } else if correction.abs() <= SKEW_MICROS_MAX {
            clock.doubted = false;
        }
    }

    /// The wall clock of another track, if its reports and this one's can be of one clock.
    fn other_wall_zero(&self, track: usize) -> Option<i64> {
        let (_, wall) = self.tracks.get(track)?.report?;
        let others = self.tracks.iter().enumerate().filter(|(at, _)| *at != track);
        let same_clock =
            |clock: &&TrackClock| clock.report.is_some_and(|(_, other)| (other - wall).abs() < WALL_DIFFERENCE_MICROS_MAX);
        others.map(|(_, clock)| clock).filter(same_clock).find_map(TrackClock::wall_zero)
    }
}

fn micros_between(earlier: Stamp, later: Stamp) -> i64 {
    if later >= earlier {
        (later.since(earlier).as_nanos() / 1000) as i64
    } else {
        -((earlier.since(later).as_nanos() / 1000) as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::rtp::rtcp::ntp_of_nanos;

    fn report(wall_ms: u64, rtp_timestamp: u32) -> SenderReport {
        let ntp = ntp_of_nanos((1_800_000_000_000 + wall_ms) * 1_000_000);
        SenderReport { ssrc: 0, ntp, rtp_timestamp, packets: 0, octets: 0 }
    }

    fn place(clocks: &mut Clocks, track: usize, timestamp: u32, arrival_ms: u64) -> i64 {
        let ticks = clocks.tracks[track].unwrap(timestamp);
        (clocks.place(track, ticks, Stamp::from_millis(arrival_ms), 1_000_000) - START_MICROS) / 1000
    }

    #[test]
    fn tracks_begin_where_their_packets_come() {
        let mut clocks = Clocks::new([90_000, 8_000].into_iter(), 0);
        assert_eq!(place(&mut clocks, 0, 4_000_000_000, 100), 0);
        assert_eq!(place(&mut clocks, 1, 77, 130), 30);
        assert_eq!(place(&mut clocks, 0, 4_000_003_600, 141), 40);
        assert_eq!(place(&mut clocks, 1, 77 + 160, 149), 50);
    }

    #[test]
    fn reports_bring_sound_and_picture_together() {
        // Sound comes 200 ms late on the network; its clock says so.
        for reports_first in [true, false] {
            let mut clocks = Clocks::new([90_000, 8_000].into_iter(), 0);
            if reports_first {
                clocks.report(0, &report(0, 900));
                clocks.report(1, &report(0, 500));
            }
            assert_eq!(place(&mut clocks, 0, 900, 1_000), 0);
            let sound = place(&mut clocks, 1, 500, 1_200);
            assert_eq!(sound, if reports_first { 0 } else { 200 });
            clocks.report(0, &report(0, 900));
            clocks.report(1, &report(0, 500));
            assert_eq!(place(&mut clocks, 1, 660, 1_220), 20, "the moment that it was made");
        }
    }

    #[test]
    fn sound_that_is_older_than_the_first_picture_has_a_place() {
        let mut clocks = Clocks::new([90_000, 44_100].into_iter(), 0);
        clocks.report(0, &report(23, 0));
        clocks.report(1, &report(0, 0));
        assert_eq!(place(&mut clocks, 0, 0, 0), 0);
        let ticks = clocks.tracks[1].unwrap(0);
        let sound = clocks.place(1, ticks, Stamp::from_millis(1), 1_000_000);
        assert!((1..START_MICROS).contains(&sound), "no timeline has room below zero: {sound}");
        assert_eq!((sound - START_MICROS) / 1000, -23);
    }

    #[test]
    fn the_picture_stays_where_it_is() {
        // Listed second, and late on the network.
        let mut clocks = Clocks::new([8_000, 90_000].into_iter(), 1);
        assert_eq!((place(&mut clocks, 0, 0, 0), place(&mut clocks, 1, 0, 30)), (0, 30));
        clocks.report(0, &report(0, 0));
        clocks.report(1, &report(0, 0));
        assert_eq!(place(&mut clocks, 1, 3_600, 70), 70);
        assert_eq!(place(&mut clocks, 0, 160, 20), 50, "the moment that it was made");
    }

    #[test]
    fn jitter_in_reports_moves_nothing_and_real_skew_does() {
        let mut clocks = Clocks::new([90_000, 8_000].into_iter(), 0);
        clocks.report(0, &report(0, 0));
        clocks.report(1, &report(0, 0));
        assert_eq!((place(&mut clocks, 0, 0, 0), place(&mut clocks, 1, 0, 0)), (0, 0));
        clocks.report(1, &report(1_015, 8_000));
        assert_eq!(place(&mut clocks, 1, 8_000, 1_000), 1_000, "15 ms");
        clocks.report(1, &report(2_200, 16_000));
        assert_eq!(place(&mut clocks, 1, 16_000, 2_000), 2_000, "said once");
        clocks.report(1, &report(3_200, 24_000));
        assert_eq!(place(&mut clocks, 1, 24_000, 3_000), 3_200, "and again");
    }

    #[test]
    fn clocks_that_are_not_set_or_not_one_are_not_believed() {
        let mut clocks = Clocks::new([90_000, 8_000].into_iter(), 0);
        let unset = SenderReport { ntp: 5 << 32, ..report(0, 0) };
        clocks.report(0, &unset);
        clocks.report(1, &report(0, 0));
        assert_eq!((place(&mut clocks, 0, 0, 0), place(&mut clocks, 1, 0, 40)), (0, 40));
        clocks.report(0, &report(7_200_000, 0));
        assert_eq!(place(&mut clocks, 1, 160, 60), 60, "two hours apart");
    }

    #[test]
    fn the_wall_clock_may_enter_its_next_era() {
        // 2036-02-07, half a second before NTP's seconds begin at zero again and half a second behind.
        let ntp = u64::from(u32::MAX) << 32 | 1 << 31;
        let mut clocks = Clocks::new([90_000, 8_000].into_iter(), 0);
        clocks.report(0, &SenderReport { ntp, ..report(0, 0) });
        clocks.report(1, &SenderReport { ntp: ntp.wrapping_add(1 << 32), ..report(0, 8_000) });
        assert_eq!((place(&mut clocks, 0, 0, 0), place(&mut clocks, 1, 0, 200)), (0, 0));
    }

    #[test]
    fn a_clock_that_steps_back_goes_on() {
        for back_ms in [1_100, 3_000, 4_900, 9_000] {
            let mut clocks = Clocks::new([90_000].into_iter(), 0);
            let start = 90_000 * 60;
            let mut last = place(&mut clocks, 0, start, 0);
            for ms in (40..2_000).step_by(40) {
                let stepped = if ms > 400 { back_ms } else { 0 };
                let now = place(&mut clocks, 0, start + 90 * ms as u32 - 90 * stepped, ms);
                assert_eq!(now - last, 40, "{back_ms} ms back, at {ms}");
                last = now;
            }
        }
        // Pictures out of order, though the network has held them up.
        let mut clocks = Clocks::new([90_000].into_iter(), 0);
        let seen = [(0, 0), (160, 3_000), (80, 3_000), (120, 3_000)].map(|(ms, at)| place(&mut clocks, 0, 90 * ms, at));
        assert_eq!(seen, [0, 160, 80, 120]);
    }

    #[test]
    fn another_source_goes_on_behind_the_last_one() {
        let mut clocks = Clocks::new([90_000].into_iter(), 0);
        // The first packet came late, so the timeline is ahead of the arrivals.
        assert_eq!((place(&mut clocks, 0, 0, 200), place(&mut clocks, 0, 90_000, 1_000)), (0, 1_000));
        clocks.tracks[0].restart();
        assert_eq!(place(&mut clocks, 0, 5_000_000, 1_040), 1_040);
    }

    #[test]
    fn a_clock_that_only_jumps_stays_within_its_limits() {
        let mut clocks = Clocks::new([1_000].into_iter(), 0);
        let clock = &mut clocks.tracks[0];
        clock.last_ticks = Some((1 << 50) - 5);
        assert_eq!((clock.unwrap((1 << 31) - 7), clock.unwrap(5)), ((1 << 31) - 7, 5));
    }

    #[test]
    fn wraps_and_jumps() {
        let mut clocks = Clocks::new([90_000].into_iter(), 0);
        assert_eq!(place(&mut clocks, 0, u32::MAX - 899, 0), 0);
        assert_eq!(place(&mut clocks, 0, 0, 10), 10, "over the wrap");
        assert_eq!(place(&mut clocks, 0, 2_000_000_000, 50), 50, "a jump");
        assert_eq!(place(&mut clocks, 0, 2_000_003_600, 90), 90);
        assert_eq!(place(&mut clocks, 0, 7, 130), 130, "and back");
    }
}
