//! Publishes a built-in clip over and over: a publisher without a socket, driven by its timer.
//!
//! The clip is a small FLV file with H.264 and AAC. Its frames are sent at their times; each round goes on where the last one ended.

use std::time::Duration;

use crate::format::flv::{Demuxed, FlvDemuxer, TagReader};
use crate::media::{Frame, MediaEvent, MediaTime, Stamp};
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
        let events = clip_events();
        let frames = || events.iter().filter_map(as_frame);
        let first = frames().map(|frame| frame.dts).min().unwrap_or_default();
        let last = frames().map(|frame| frame.dts).max().unwrap_or_default();
        let video_count = frames().filter(|frame| frame.track == crate::media::TrackId(0)).count().max(2) as i64;
        // One frame's time lies between the last frame of a round and the first of the next.
        let period = last.micros_since(first) * video_count / (video_count - 1);
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
