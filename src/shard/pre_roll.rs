//! What has been of a stream before somebody wishes that it be recorded: its newest GOPs, as many as `record.pre_roll_ms` wants.
//!
//! Whole GOPs of one set of tracks; the frames share their memory with the rest of the stream. They count in `limits.media_bytes_max`, and
//! are the first that a stream gives up. Without `record.pre_roll_ms` nothing is kept here, and a recording begins with the stream's own GOP.

use std::collections::VecDeque;

use crate::media::{Frame, MediaEvent, TrackKind, Tracks};

/// A longer GOP is let go, with all before it.
const GOP_MICROS_MAX: i64 = 60_000_000;
/// Sound alone can begin anywhere; it is kept in pieces of so long.
const SOUND_MICROS: i64 = 1_000_000;

#[derive(Debug, Default)]
pub struct PreRoll {
    micros: i64,
    tracks: Tracks,
    /// The oldest first; each begins with a place to begin.
    gops: VecDeque<Vec<Frame>>,
    bytes: usize,
}

impl PreRoll {
    pub fn new(ms: u64) -> Self {
        PreRoll { micros: i64::try_from(ms.saturating_mul(1_000)).unwrap_or(i64::MAX), ..PreRoll::default() }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the stream's next events.
    pub fn push(&mut self, tracks: &Tracks, events: &[MediaEvent]) {
        if self.tracks != *tracks {
            self.clear();
            self.tracks = tracks.clone();
        }
        for event in events {
            match event {
                MediaEvent::Tracks(_) | MediaEvent::End => self.clear(),
                MediaEvent::Frame(frame) => self.frame(frame),
            }
        }
    }

    fn frame(&mut self, frame: &Frame) {
        let Some(kind) = self.tracks.get(frame.track).map(|track| track.codec.kind()) else { return };
        if self.begins(frame, kind) {
            self.gops.push_back(Vec::new());
            // Those that are over before the time that is wanted.
            let micros = self.micros;
            let is_over = |next: &Frame| frame.dts.micros_since(next.dts) >= micros;
            while self.gops.get(1).and_then(|next| next.first()).is_some_and(is_over) {
                self.drop_oldest();
            }
        }
        let Some(newest) = self.gops.back_mut() else { return };
        newest.push(frame.clone());
        self.bytes += frame.data.len();
        if newest.first().is_some_and(|first| frame.dts.micros_since(first.dts) > GOP_MICROS_MAX) {
            self.clear();
        }
    }

    /// Whether a recording may begin with this frame.
    fn begins(&self, frame: &Frame, kind: TrackKind) -> bool {
        if self.tracks.has(TrackKind::Video) {
            return kind == TrackKind::Video && frame.key;
        }
        let newest = self.gops.back().and_then(|newest| newest.first());
        kind == TrackKind::Audio && newest.is_none_or(|first| frame.dts.micros_since(first.dts) >= SOUND_MICROS)
    }

    /// Lets the oldest GOP go: how many bytes that was.
    pub fn drop_oldest(&mut self) -> usize {
        let bytes = self.gops.pop_front().into_iter().flatten().map(|frame| frame.data.len()).sum();
        self.bytes -= bytes;
        bytes
    }

    /// The GOPs in which the last `ms` are, as far as they are kept; `None`: nothing is.
    pub fn events(&self, ms: u64) -> Option<Vec<MediaEvent>> {
        let micros = i64::try_from(ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let newest = self.gops.back()?.last()?.dts;
        let is_wanted = |gop: &&Vec<Frame>| gop.first().is_some_and(|first| newest.micros_since(first.dts) <= micros);
        // The one in which the wanted time begins is wanted whole.
        let wanted = self.gops.iter().rev().take_while(is_wanted).count();
        let from = self.gops.len().saturating_sub(wanted + 1);
        let frames = self.gops.iter().skip(from).flatten().cloned().map(MediaEvent::Frame);
        Some(std::iter::once(MediaEvent::Tracks(self.tracks.clone())).chain(frames).collect())
    }

    fn clear(&mut self) {
        self.gops.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::{Codec, MediaTime, Stamp, Track, TrackId, TrackShape};

    fn tracks() -> Tracks {
        let shape = TrackShape::Video { width: 0, height: 0, frames_per_second: 0.0 };
        Tracks::new(vec![Track { id: TrackId(0), codec: Codec::Vp9, config: Bytes::new(), shape }], Bytes::new())
    }

    fn frames(ms: std::ops::Range<i64>) -> Vec<MediaEvent> {
        let frame = |ms: i64| Frame {
            data: Bytes::from_static(&[0; 10]),
            arrival: Stamp::ZERO,
            dts: MediaTime::from_millis(ms),
            cts: 0,
            segment: 0,
            track: TrackId(0),
            key: ms % 1_000 == 0,
        };
        ms.step_by(100).map(|ms| MediaEvent::Frame(frame(ms))).collect()
    }

    fn first(events: Option<Vec<MediaEvent>>) -> Option<i64> {
        events?.iter().find_map(|event| if let MediaEvent::Frame(frame) = event { Some(frame.dts.as_millis()) } else { None })
    }

    #[test]
    fn as_many_gops_are_kept_as_the_time_takes() {
        let mut kept = PreRoll::new(3_000);
        kept.push(&tracks(), &frames(500..10_600));
        // At the key frame of 10 s the three seconds before begin at 7 s.
        assert_eq!((first(kept.events(u64::MAX)), kept.bytes()), (Some(7_000), 360));
        for (ms, from) in [(0, 10_000), (499, 10_000), (500, 9_000), (501, 9_000), (1_600, 8_000), (9_000, 7_000)] {
            assert_eq!(first(kept.events(ms)), Some(from), "the last {ms} ms");
        }
        assert_eq!((kept.drop_oldest(), first(kept.events(9_000))), (100, Some(8_000)));
    }

    #[test]
    fn a_gop_without_end_is_let_go() {
        let mut kept = PreRoll::new(3_000);
        kept.push(&tracks(), &frames(0..1_000));
        let long = frames(1_000..70_000).into_iter().filter(|event| match event {
            MediaEvent::Frame(frame) => !frame.key || frame.dts.as_millis() == 1_000,
            _ => true,
        });
        kept.push(&tracks(), &long.collect::<Vec<_>>());
        assert_eq!((kept.events(1_000).is_none(), kept.bytes()), (true, 0));
    }

    #[test]
    fn other_tracks_and_an_end_begin_anew() {
        let mut kept = PreRoll::new(3_000);
        for event in [MediaEvent::End, MediaEvent::Tracks(tracks())] {
            kept.push(&tracks(), &frames(0..2_000));
            kept.push(&tracks(), &[event]);
            assert_eq!((kept.events(1_000).is_none(), kept.bytes()), (true, 0));
        }
        kept.push(&tracks(), &frames(500..900));
        assert!(kept.events(1_000).is_none(), "no place to begin");
    }

    #[test]
    fn all_of_it_may_be_given_up() {
        let mut kept = PreRoll::new(3_000);
        kept.push(&tracks(), &frames(0..1_500));
        assert_eq!((kept.drop_oldest(), kept.drop_oldest(), kept.drop_oldest(), kept.bytes()), (100, 50, 0, 0));
        kept.push(&tracks(), &frames(1_500..1_900));
        assert_eq!(kept.bytes(), 0, "up to the next key frame");
    }
}
