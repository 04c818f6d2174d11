//! The frames since the newest keyframe: what a newcomer (a viewer's format, another shard) is given first.
//!
//! Bounded by bytes and by media time. A GOP that outgrows either limit is forgotten until the next keyframe: newcomers then wait
//! for that one. Frames are shared, not copied.

use super::{Frame, TrackKind};

#[derive(Debug)]
pub struct Gop {
    frames: Vec<Frame>,
    bytes: usize,
    bytes_max: usize,
    micros_max: i64,
    /// The GOP outgrew its limits.
    given_up: bool,
    not_kept: u64,
}

impl Gop {
    pub fn new(bytes_max: usize, ms_max: u64) -> Self {
        let micros_max = i64::try_from(ms_max.saturating_mul(1000)).unwrap_or(i64::MAX);
        Gop { frames: Vec::new(), bytes: 0, bytes_max, micros_max, given_up: false, not_kept: 0 }
    }

    /// `has_video`: whether the stream has a video track, so that audio alone is no place to begin.
    pub fn push(&mut self, frame: &Frame, kind: TrackKind, has_video: bool) {
        let begins = if has_video { kind == TrackKind::Video && frame.key } else { kind == TrackKind::Audio };
        if begins {
            self.clear();
        } else if self.frames.is_empty() {
            return;
        }
        if self.given_up {
            return;
        }
        self.frames.push(frame.clone());
        self.bytes += frame.data.len();
        let span = frame.dts.micros_since(self.frames[0].dts);
        if self.bytes > self.bytes_max || span > self.micros_max {
            self.give_up();
        }
    }

    /// Forgets the GOP until the next keyframe.
    pub fn give_up(&mut self) {
        self.clear();
        self.given_up = true;
        self.not_kept += 1;
    }

    pub fn clear(&mut self) {
        self.frames.clear();
        self.bytes = 0;
        self.given_up = false;
    }

    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many GOPs were forgotten because of their size.
    pub fn not_kept(&self) -> u64 {
        self.not_kept
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::{MediaTime, Stamp, TrackId};

    fn frame(ms: i64, key: bool, len: usize) -> Frame {
        Frame {
            data: Bytes::from(vec![0; len]),
            arrival: Stamp::ZERO,
            dts: MediaTime::from_millis(ms),
            cts: 0,
            segment: 0,
            track: TrackId(0),
            key,
        }
    }

    #[test]
    fn begins_at_each_key_frame_of_the_video() {
        let mut gop = Gop::new(1000, 10_000);
        gop.push(&frame(0, true, 1), TrackKind::Audio, true);
        gop.push(&frame(0, false, 1), TrackKind::Video, true);
        assert!(gop.frames().is_empty(), "nothing before the first key frame");
        for (ms, key) in [(40, true), (80, false), (120, true), (160, false)] {
            gop.push(&frame(ms, key, 10), TrackKind::Video, true);
        }
        gop.push(&frame(170, true, 5), TrackKind::Audio, true);
        let kept: Vec<i64> = gop.frames().iter().map(|frame| frame.dts.as_millis()).collect();
        assert_eq!(kept, [120, 160, 170]);
        assert_eq!(gop.bytes(), 25);
    }

    #[test]
    fn audio_alone_keeps_its_newest_frame() {
        let mut gop = Gop::new(1000, 10_000);
        gop.push(&frame(0, true, 1), TrackKind::Audio, false);
        gop.push(&frame(20, true, 1), TrackKind::Audio, false);
        assert_eq!(gop.frames().len(), 1);
    }

    #[test]
    fn a_gop_over_a_limit_is_forgotten_until_the_next_key() {
        for (bytes_max, ms_max) in [(25, 10_000), (1000, 50)] {
            let mut gop = Gop::new(bytes_max, ms_max);
            for (ms, key) in [(0, true), (40, false), (80, false), (120, false)] {
                gop.push(&frame(ms, key, 10), TrackKind::Video, true);
            }
            assert!(gop.frames().is_empty());
            assert_eq!(gop.not_kept(), 1);
            gop.push(&frame(160, true, 10), TrackKind::Video, true);
            assert_eq!(gop.frames().len(), 1);
        }
    }
}
