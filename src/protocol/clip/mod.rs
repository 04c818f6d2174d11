//! Publishes a built-in clip over and over: a publisher without a socket, driven by its timer.
//!
//! The clip is a small FLV file with H.264 and AAC. Its frames are sent at their times; each round goes on where the last one ended.

use std::time::Duration;

use crate::format::flv::{Demuxed, FlvDemuxer, TagReader};
use crate::media::{Frame, MediaEvent, MediaTime, Stamp, TrackId, TrackKind};
use crate::session::{Input, Output, Session, SessionError, StreamKey};

/// The label of the built-in publisher.
pub const NAME: &str = "clip";

/// The clip as an FLV file.
pub const CLIP: &[u8] = include_bytes!("../../../assets/demo.flv");

/// The largest tag in the clip.
const TAG_BYTES_MAX: usize = 1 << 20;

pub struct ClipPublisher {
    key: StreamKey,
    events: Vec<MediaEvent>,
    /// Length of one round, in microseconds.
    period: i64,
    next: usize,
    round: i64,
    /// When the first round began; `None` before the answer to `Publish`.
    began: Option<Stamp>,
    asked: bool,
}

impl ClipPublisher {
    pub fn boxed(key: StreamKey) -> Box<dyn Session> {
        let mut events = clip_events();
        let period = period(&events);
        // The sound is a little longer than the picture; it may not run into the next round.
        events.retain(|event| as_frame(event).is_none_or(|frame| frame.dts.as_micros() < period));
        Box::new(ClipPublisher { key, events, period, next: 0, round: 0, began: None, asked: false })
    }

    /// The time of the next frame since the beginning.
    fn next_offset(&self) -> MediaTime {
        let frame = self.events[self.next..].iter().find_map(as_frame);
        frame.map_or(MediaTime::ZERO, |frame| frame.dts.offset(self.round * self.period))
    }

    fn send_due(&mut self, began: Stamp, now: Stamp, out: &mut Vec<Output>) {
        let passed = now.since(began).as_micros() as i64;
        while self.next_offset().as_micros() <= passed {
            let event = match &self.events[self.next] {
                MediaEvent::Frame(frame) => {
                    MediaEvent::Frame(Frame { dts: frame.dts.offset(self.round * self.period), arrival: now, ..frame.clone() })
                }
                other => other.clone(),
            };
            out.push(Output::Media(event));
            self.next += 1;
            if self.next == self.events.len() {
                self.next = 0;
                self.round += 1;
            }
        }
    }
}

impl Session for ClipPublisher {
    fn handle(&mut self, now: Stamp, input: Input<'_>, out: &mut Vec<Output>) -> Result<(), SessionError> {
        match input {
            Input::Publishing => self.began = Some(now),
            Input::Refused(_) | Input::Closing(_) => out.push(Output::Close),
            _ if !self.asked => {
                self.asked = true;
                out.push(Output::Publish(self.key.clone()));
            }
            _ => {}
        }
        if let Some(began) = self.began {
            self.send_due(began, now, out);
        }
        Ok(())
    }

    fn next_timeout(&self) -> Option<Stamp> {
        let began = self.began?;
        let micros = u64::try_from(self.next_offset().as_micros()).unwrap_or(0);
        Some(began.after(Duration::from_micros(micros)))
    }

    fn held_bytes(&self) -> usize {
        0
    }
}

/// The video's length: from its first frame to one frame's time behind its last.
fn period(events: &[MediaEvent]) -> i64 {
    let is_video = |id: TrackId| {
        let mut tracks =
            events.iter().filter_map(|event| if let MediaEvent::Tracks(tracks) = event { tracks.get(id) } else { None });
        tracks.any(|track| track.codec.kind() == TrackKind::Video)
    };
    let times: Vec<MediaTime> =
        events.iter().filter_map(as_frame).filter(|frame| is_video(frame.track)).map(|frame| frame.dts).collect();
    match (times.first(), times.last(), times.len() as i64) {
        (Some(first), Some(last), count) if count > 1 => last.micros_since(*first) * count / (count - 1),
        _ => 1_000_000,
    }
}

fn as_frame(event: &MediaEvent) -> Option<&Frame> {
    match event {
        MediaEvent::Frame(frame) => Some(frame),
        _ => None,
    }
}

/// The events of the clip, its first frame at time zero.
pub fn clip_events() -> Vec<MediaEvent> {
    const VALID: &str = "the built-in clip is a valid FLV file";
    let mut reader = TagReader::new(TAG_BYTES_MAX);
    let mut demuxer = FlvDemuxer::new();
    let mut demuxed = Vec::new();
    reader.push(CLIP);
    while let Some((tag, timestamp_ms, body)) = reader.next_tag().expect(VALID) {
        demuxer.push(tag, timestamp_ms, body, Stamp::ZERO, &mut demuxed).expect(VALID);
    }
    demuxed
        .into_iter()
        .filter_map(|item| match item {
            Demuxed::Event(event) => Some(event),
            Demuxed::Discarded(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Drives the publisher over three rounds; returns the decoding times per track.
    fn rounds() -> Vec<(TrackId, MediaTime)> {
        let mut session = ClipPublisher::boxed(StreamKey::parse("live/demo").unwrap());
        let mut out = Vec::new();
        session.handle(Stamp::ZERO, Input::Timeout, &mut out).unwrap();
        assert!(matches!(out[..], [Output::Publish(_)]));
        session.handle(Stamp::ZERO, Input::Publishing, &mut out).unwrap();
        for _ in 0..20_000 {
            let Some(due) = session.next_timeout().filter(|due| *due < Stamp::from_millis(18_500)) else { break };
            session.handle(due, Input::Timeout, &mut out).unwrap();
        }
        let frame =
            |output| if let Output::Media(MediaEvent::Frame(frame)) = output { Some((frame.track, frame.dts)) } else { None };
        out.into_iter().filter_map(frame).collect()
    }

    #[test]
    fn no_track_goes_back_at_a_seam() {
        for id in [TrackId(0), TrackId(1)] {
            let times: Vec<MediaTime> = rounds().into_iter().filter(|(track, _)| *track == id).map(|(_, dts)| dts).collect();
            assert!(times.is_sorted_by(|a, b| a < b));
        }
    }

    #[test]
    fn rounds_follow_each_other_without_a_gap() {
        let video = clip_events().iter().filter_map(as_frame).find(|frame| !frame.key).unwrap().track;
        let times: Vec<i64> = rounds().iter().filter(|(track, _)| *track == video).map(|(_, dts)| dts.as_millis()).collect();
        assert!(times.len() > 450);
        for pair in times.windows(2) {
            assert_eq!(pair[1] - pair[0], 40, "after {} ms", pair[0]);
        }
    }
}
