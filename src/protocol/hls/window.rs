//! The segments of a stream that can be fetched, and which of them the playlist lists.
//!
//! RFC 8216bis §6.2.2: the playlist keeps three target durations at least, and a segment that has left it can be fetched for its own
//! duration and that of the playlist. Limit: `bytes_max`; over it the oldest go early, those that are not listed first, and are counted.
//! Segments share the frames' memory. Not here: how segments come about (`packager.rs`), and how they are listed (`playlist.rs`).

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::media::{Frame, Stamp, TrackKind, Tracks};

/// A playlist keeps so many segments even if they are too large together.
const LISTED_MIN: usize = 3;

/// One fragment of fMP4.
#[derive(Clone, Debug)]
pub struct Part {
    pub pieces: Arc<[Bytes]>,
    pub len: usize,
    /// Microseconds.
    pub duration: i64,
    /// Begins with a keyframe.
    pub independent: bool,
}

#[derive(Clone, Debug)]
pub struct Segment {
    pub msn: u64,
    /// Microseconds; 0 while it is not complete.
    pub duration: i64,
    pub parts: Vec<Part>,
    /// Nothing joins it to the one before.
    pub discontinuity: bool,
    pub independent: bool,
    /// The number of its initialisation segment.
    pub init: u32,
    /// When its first frame came, in nanoseconds since 1970.
    pub wall_nanos: u64,
    pub tracks: Tracks,
    /// What is in it, for other packings.
    pub frames: Vec<Frame>,
    pub video_frames: usize,
    pub ts: Option<Bytes>,
    /// Of one that is not listed any more.
    keep_until: Stamp,
}

impl Segment {
    pub fn new(msn: u64, discontinuity: bool, init: u32, wall_nanos: u64, tracks: Tracks) -> Self {
        Segment {
            msn,
            duration: 0,
            parts: Vec::new(),
            discontinuity,
            independent: true,
            init,
            wall_nanos,
            tracks,
            frames: Vec::new(),
            video_frames: 0,
            ts: None,
            keep_until: Stamp::MAX,
        }
    }

    /// What it has in fMP4.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len).sum()
    }

    /// What it holds.
    pub fn bytes(&self) -> usize {
        self.len() + self.frames.len() * size_of::<Frame>() + self.ts.as_ref().map_or(0, Bytes::len)
    }

    /// Its first picture, if it has any, can be decoded without what came before. In a transport stream the parameter sets are there alone.
    pub fn begins_with_key(&self) -> bool {
        let Some(video) = self.tracks.first(TrackKind::Video) else { return true };
        self.frames.iter().find(|frame| frame.track == video.id).is_none_or(|frame| frame.key)
    }

    pub fn pieces(&self) -> Arc<[Bytes]> {
        match &self.parts[..] {
            [part] => part.pieces.clone(),
            parts => parts.iter().flat_map(|part| part.pieces.iter().cloned()).collect(),
        }
    }
}

#[derive(Debug, Default)]
pub struct Window {
    /// Those that are not listed any more, then those that are.
    segments: VecDeque<Segment>,
    listed: usize,
    bytes: usize,
    discontinuities: u64,
    dropped: u64,
}

/// What bounds a window.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub segments: usize,
    pub target_micros: i64,
    pub bytes_max: usize,
}

impl Window {
    pub fn push(&mut self, segment: Segment, now: Stamp, bounds: Bounds) {
        self.bytes += segment.bytes();
        self.segments.push_back(segment);
        self.listed += 1;
        while self.listed > bounds.segments && self.duration() - self.first_duration() >= 3 * bounds.target_micros {
            self.unlist(now);
        }
        self.bound(now, bounds.bytes_max);
    }

    pub fn listed(&self) -> impl DoubleEndedIterator<Item = &Segment> + ExactSizeIterator {
        self.segments.range(self.segments.len() - self.listed..)
    }

    /// Those too that have left the playlist.
    pub fn get(&self, msn: u64) -> Option<&Segment> {
        let first = self.segments.front()?.msn;
        self.segments.get(usize::try_from(msn.checked_sub(first)?).ok()?)
    }

    pub fn oldest(&self) -> Option<&Segment> {
        self.segments.front()
    }

    pub fn last_msn(&self) -> Option<u64> {
        self.segments.back().map(|segment| segment.msn)
    }

    pub fn is_empty(&self) -> bool {
        self.listed == 0
    }

    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// Of what is listed, in microseconds.
    pub fn duration(&self) -> i64 {
        self.listed().map(|segment| segment.duration).sum()
    }

    /// Discontinuities that have left the playlist (RFC 8216bis §4.4.3.3).
    pub fn discontinuities(&self) -> u64 {
        self.discontinuities
    }

    /// The discontinuity sequence of the segment that came last.
    pub fn last_discontinuity(&self) -> u64 {
        self.discontinuities + self.listed().filter(|segment| segment.discontinuity).count() as u64
    }

    /// Begins with a discontinuity sequence.
    pub fn after(discontinuities: u64) -> Self {
        Window { discontinuities, ..Window::default() }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Segments that went before their time.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Lets go what nobody can want any more.
    pub fn expire(&mut self, now: Stamp) {
        while self.segments.len() > self.listed && self.segments.front().is_some_and(|segment| segment.keep_until <= now) {
            self.pop();
        }
    }

    /// Gives up half of what it holds, at the most.
    pub fn shed(&mut self, now: Stamp) {
        self.bound(now, self.bytes / 2);
    }

    /// Changes one segment and keeps count of what it holds.
    pub fn change(&mut self, msn: u64, change: impl FnOnce(&mut Segment)) {
        let Some(index) = self.segments.front().and_then(|first| usize::try_from(msn.checked_sub(first.msn)?).ok()) else {
            return;
        };
        let Some(segment) = self.segments.get_mut(index) else { return };
        let before = segment.bytes();
        change(segment);
        self.bytes = self.bytes - before + segment.bytes();
    }

    /// Changes segments and keeps count of what they hold.
    pub fn update(&mut self, mut change: impl FnMut(&mut Segment)) {
        self.segments.iter_mut().for_each(&mut change);
        self.bytes = self.segments.iter().map(Segment::bytes).sum();
    }

    fn bound(&mut self, now: Stamp, bytes_max: usize) {
        while self.bytes > bytes_max {
            if self.segments.len() == self.listed {
                if self.listed <= LISTED_MIN {
                    return;
                }
                self.unlist(now);
            }
            self.pop();
            self.dropped += 1;
        }
    }

    fn first_duration(&self) -> i64 {
        self.listed().next().map_or(0, |segment| segment.duration)
    }

    fn unlist(&mut self, now: Stamp) {
        let list_micros = self.duration();
        let at = self.segments.len() - self.listed;
        let Some(segment) = self.segments.get_mut(at) else { return };
        let keep_ms = u64::try_from((list_micros + segment.duration) / 1000).unwrap_or(0);
        segment.keep_until = now.after_millis(keep_ms);
        self.discontinuities += u64::from(segment.discontinuity);
        self.listed -= 1;
    }

    fn pop(&mut self) {
        if let Some(segment) = self.segments.pop_front() {
            self.bytes -= segment.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { segments: 4, target_micros: 2_000_000, bytes_max: 10_000 };

    fn segment(msn: u64, seconds: i64, bytes: usize) -> Segment {
        let mut segment = Segment::new(msn, msn.is_multiple_of(2), 0, 0, Tracks::default());
        segment.duration = seconds * 1_000_000;
        let pieces = [Bytes::from(vec![0; bytes])].into();
        segment.parts.push(Part { pieces, len: bytes, duration: segment.duration, independent: true });
        segment
    }

    fn listed(window: &Window) -> Vec<u64> {
        window.listed().map(|segment| segment.msn).collect()
    }

    #[test]
    fn old_segments_leave_the_list_and_later_the_window() {
        let mut window = Window::default();
        for msn in 10..16 {
            window.push(segment(msn, 2, 100), Stamp::from_millis((msn - 10) * 2000), BOUNDS);
        }
        assert_eq!((listed(&window), window.discontinuities()), (vec![12, 13, 14, 15], 1));
        // It left when the list had 10 seconds, at 8 s.
        for (ms, is_there) in [(19_990, true), (20_000, false)] {
            window.expire(Stamp::from_millis(ms));
            assert_eq!(window.get(10).is_some(), is_there, "{ms}");
        }
        assert_eq!(
            (window.get(11).map(|segment| segment.msn), window.get(16).is_none(), window.get(9).is_none()),
            (Some(11), true, true)
        );
        assert_eq!((window.bytes(), window.dropped()), (500, 0));
    }

    #[test]
    fn short_segments_stay_until_the_list_is_long_enough() {
        let mut window = Window::default();
        for msn in 0..12 {
            window.push(segment(msn, 1, 1), Stamp::ZERO, BOUNDS);
        }
        assert_eq!(window.listed().len(), 6);
    }

    #[test]
    fn over_the_limit_the_oldest_go_early() {
        let mut window = Window::default();
        for msn in 0..6 {
            window.push(segment(msn, 2, 3_000), Stamp::ZERO, BOUNDS);
        }
        assert_eq!((listed(&window), window.bytes(), window.dropped()), (vec![3, 4, 5], 9_000, 3));
        window.push(segment(6, 2, 30_000), Stamp::ZERO, BOUNDS);
        assert_eq!((listed(&window), window.dropped()), (vec![4, 5, 6], 4), "three in any case");
        window.shed(Stamp::ZERO);
        assert_eq!(listed(&window), [4, 5, 6]);
    }
}
