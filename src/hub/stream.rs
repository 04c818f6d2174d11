//! One stream on one shard: places frames on the timeline, keeps the GOP, feeds the fan-outs, and collects what other shards watch.
//!
//! The owner's stream takes a publisher's events through [`Stream::publish`]; a watcher's takes the owner's, already placed, through
//! [`Stream::push`]. Everything after that is the same.

use super::fanout::Fanout;
use super::ring::Ring;
use super::stats::{Latency, StreamCounters, merge_latency};
use crate::config::Config;
use crate::format::{Format, MuxerContext};
use crate::media::timeline::Timeline;
use crate::media::{Codec, Frame, Gop, MediaEvent, MediaTime, Stamp, TrackGate, TrackKind, Tracks};
use crate::session::StreamKey;

/// Without video for this long, a stream counts as audio only.
const SETTLE_MS: u64 = 1_000;
/// The beginning of sound alone is kept until it has settled, and for no more than this.
const BEGINNING_MS_MAX: u64 = 2 * SETTLE_MS;
const BEGINNING_FRAMES_MAX: usize = 512;
/// A stream that has sound or picture only is described so when it is this old: the other may be on its way.
const COMPLETE_MS: u64 = 500;
/// Formats of which clients have made up the numbers: each costs a muxer and a ring, whoever asks for it.
pub const MADE_UP_FORMATS_MAX: usize = 8;
/// The bit rate is taken over at least this time.
const RATE_WINDOW_MS: u64 = 1_000;

pub struct Stream {
    pub key: StreamKey,
    pub counters: StreamCounters,
    pub fanouts: Vec<Fanout>,
    /// What happened in this turn, for the shards that watch. Filled only while `watched`.
    pub outgoing: Vec<MediaEvent>,
    pub watched: bool,
    /// Latency of fan-outs that are gone.
    retired: Vec<(&'static str, Latency)>,
    tracks: Tracks,
    track_changes: u64,
    gate: TrackGate,
    /// What came through the gate, for the time of a call.
    passed: Vec<MediaEvent>,
    timeline: Timeline,
    gop: Gop,
    /// Sound alone from its first frame on, which no GOP has: for what records it. `None`: it has pictures, or has run for a while.
    beginning: Option<Vec<Frame>>,
    segment: u32,
    settled: bool,
    first_arrival: Option<Stamp>,
    rate: RateWindow,
    gop_began: Option<(MediaTime, u64)>,
    limits: Limits,
}

#[derive(Clone, Copy)]
struct Limits {
    ring_bytes_max: usize,
    lag_ms_max: u64,
}

#[derive(Default)]
struct RateWindow {
    began: Option<Stamp>,
    bytes: u64,
    video_frames: u64,
}

impl Stream {
    pub fn new(key: StreamKey, config: &Config) -> Self {
        Stream {
            key,
            counters: StreamCounters::default(),
            fanouts: Vec::new(),
            outgoing: Vec::new(),
            watched: false,
            retired: Vec::new(),
            tracks: Tracks::default(),
            track_changes: 0,
            gate: TrackGate::new(config.stream.gop_bytes_max),
            passed: Vec::new(),
            timeline: Timeline::new(),
            gop: Gop::new(config.stream.gop_bytes_max, config.stream.gop_ms_max),
            beginning: Some(Vec::new()),
            segment: 0,
            settled: false,
            first_arrival: None,
            rate: RateWindow::default(),
            gop_began: None,
            limits: Limits { ring_bytes_max: config.limits.ring_bytes_max, lag_ms_max: config.viewer.lag_ms_max },
        }
    }

    pub fn tracks(&self) -> &Tracks {
        &self.tracks
    }

    /// How often the tracks have changed.
    pub fn track_changes(&self) -> u64 {
        self.track_changes
    }

    pub fn gop(&self) -> &Gop {
        &self.gop
    }

    /// Whether viewers may begin: it is known whether there is video, and a first keyframe of it has come.
    pub fn settled(&self) -> bool {
        self.settled
    }

    /// Whether it can be said what the stream consists of.
    pub fn is_complete(&self, now: Stamp) -> bool {
        let has_both = self.tracks.has(TrackKind::Video) && self.tracks.has(TrackKind::Audio);
        let is_old = || self.first_arrival.is_some_and(|first| now.millis_since(first) >= COMPLETE_MS);
        self.settled && (has_both || is_old())
    }

    /// The owner of a watched stream has settled, so this one has.
    pub fn settle(&mut self) {
        self.settled = true;
        self.beginning = None;
    }

    /// A publisher begins, the first or one that takes over.
    pub fn begin_segment(&mut self) {
        if self.counters.publishers > 0 {
            self.segment += 1;
            self.timeline.begin_segment();
            self.gate.begin_segment();
        }
        self.counters.publishers += 1;
    }

    /// Takes the publisher's next event: on the owner only.
    pub fn publish(&mut self, event: MediaEvent) {
        let event = match event {
            MediaEvent::Frame(mut frame) => {
                frame.dts = self.place(&frame);
                frame.segment = self.segment;
                self.count_frame(&frame);
                MediaEvent::Frame(frame)
            }
            other => other,
        };
        self.through_gate(|gate, out| gate.push(event, out));
    }

    /// Lets go what is held for tracks that have not been heard: the stream ends. On the owner only.
    pub fn release(&mut self) {
        self.through_gate(TrackGate::open);
    }

    fn through_gate(&mut self, act: impl FnOnce(&mut TrackGate, &mut Vec<MediaEvent>)) {
        let mut passed = std::mem::take(&mut self.passed);
        act(&mut self.gate, &mut passed);
        passed.drain(..).for_each(|event| self.push(event));
        self.passed = passed;
    }

    /// Takes an event that is placed already.
    pub fn push(&mut self, event: MediaEvent) {
        match &event {
            MediaEvent::Tracks(tracks) if *tracks == self.tracks => return,
            MediaEvent::Tracks(tracks) => {
                // Frames of the old codec or size are of no use to a newcomer who gets the new set-up.
                if tracks.first(TrackKind::Video) != self.tracks.first(TrackKind::Video) {
                    self.gop.clear();
                }
                self.tracks = tracks.clone();
                self.track_changes += 1;
            }
            MediaEvent::Frame(frame) => self.keep(frame),
            MediaEvent::End => {}
        }
        for fanout in &mut self.fanouts {
            fanout.push(&event);
        }
        if self.watched {
            self.outgoing.push(event);
        }
    }

    fn keep(&mut self, frame: &Frame) {
        let kind = kind_in(&self.tracks, frame);
        let has_video = self.tracks.has(TrackKind::Video);
        self.gop.push(frame, kind, has_video);
        self.keep_beginning(frame, has_video);
        self.counters.gops_not_kept = self.gop.not_kept();
        let first = *self.first_arrival.get_or_insert(frame.arrival);
        if !self.settled {
            let video_began = kind == TrackKind::Video && frame.key;
            let audio_only = !has_video && kind == TrackKind::Audio && frame.arrival.millis_since(first) >= SETTLE_MS;
            self.settled = video_began || audio_only;
        }
    }

    /// Bytes of media that the stream keeps here. What its GOP and its rings share counts once, by the largest of them; what a format
    /// has written for itself counts at each.
    pub fn media_bytes(&self) -> usize {
        let rings = || self.fanouts.iter().map(|fanout| &fanout.ring);
        let shared = self.fanouts.iter().map(Fanout::shared_bytes).fold(self.gop.bytes(), usize::max);
        let beginning = self.beginning.iter().flatten().map(|frame| frame.data.len()).sum::<usize>();
        shared + beginning + rings().map(|ring| ring.bytes() - ring.shared_bytes()).sum::<usize>() + self.gate.held_bytes()
    }

    /// Forgets all media that is kept: newcomers and lagging viewers wait for the next keyframe.
    pub fn forget_media(&mut self) {
        self.gop.give_up();
        self.beginning = None;
        self.gate.forget();
        self.fanouts.iter_mut().for_each(Fanout::forget);
    }

    /// The events that bring a newcomer up to date.
    /// As [`Stream::catch_up`], where sound alone has just settled from its first frame on.
    pub fn catch_up_from_beginning(&self) -> Vec<MediaEvent> {
        let Some(beginning) = self.beginning.as_ref().filter(|beginning| !beginning.is_empty()) else { return self.catch_up() };
        let frames = beginning.iter().cloned().map(MediaEvent::Frame);
        std::iter::once(MediaEvent::Tracks(self.tracks.clone())).chain(frames).collect()
    }

    /// Whoever wanted the beginning has it.
    pub fn forget_beginning(&mut self) {
        self.beginning = None;
    }

    fn keep_beginning(&mut self, frame: &Frame, has_video: bool) {
        let Some(beginning) = &mut self.beginning else { return };
        let is_over = |first: &Frame| frame.arrival.millis_since(first.arrival) > BEGINNING_MS_MAX;
        if has_video || beginning.len() >= BEGINNING_FRAMES_MAX || beginning.first().is_some_and(is_over) {
            self.beginning = None;
        } else {
            beginning.push(frame.clone());
        }
    }

    pub fn catch_up(&self) -> Vec<MediaEvent> {
        let frames = self.gop.frames().iter().cloned().map(MediaEvent::Frame);
        std::iter::once(MediaEvent::Tracks(self.tracks.clone())).chain(frames).collect()
    }

    /// Whether a viewer of this format can be served: its fan-out is there, or there may be another one.
    pub fn has_room_for(&self, format: Format) -> bool {
        let mut formats = self.fanouts.iter().map(|fanout| fanout.format);
        let made_up = || self.fanouts.iter().filter(|fanout| fanout.format.is_made_up()).count();
        !format.is_made_up() || formats.any(|other| other == format) || made_up() < MADE_UP_FORMATS_MAX
    }

    /// Whether it has anything for viewers of a format. `None`: it may get a track that is still on its way.
    pub fn has_media_for(&self, format: Format, now: Stamp) -> Option<bool> {
        let carried = format.carried(&self.tracks);
        let has_any = carried.has(TrackKind::Video) || carried.has(TrackKind::Audio);
        (has_any || self.is_complete(now)).then_some(has_any)
    }

    /// The index of the fan-out for a format, made and filled if it is not there yet.
    pub fn fanout(&mut self, format: Format, protocol: &'static str, context: MuxerContext) -> usize {
        let found = self.fanouts.iter().position(|fanout| fanout.format == format && fanout.protocol == protocol);
        found.unwrap_or_else(|| {
            let ring = Ring::new(self.limits.ring_bytes_max, self.limits.lag_ms_max);
            let mut fanout = Fanout::new(format, protocol, ring, context);
            if !self.tracks.is_empty() {
                fanout.fill(&self.tracks, self.gop.frames().iter());
            }
            self.fanouts.push(fanout);
            self.fanouts.len() - 1
        })
    }

    /// Drops a fan-out without viewers and keeps its figures. The last fan-out takes its index.
    pub fn retire_fanout(&mut self, index: usize) {
        let fanout = self.fanouts.swap_remove(index);
        merge_latency(&mut self.retired, &[(fanout.protocol, fanout.latency)]);
    }

    /// Latency per protocol label, of present and past viewers.
    pub fn latency(&self) -> Vec<(&'static str, Latency)> {
        let mut all = self.retired.clone();
        for fanout in &self.fanouts {
            merge_latency(&mut all, &[(fanout.protocol, fanout.latency.clone())]);
        }
        all
    }

    /// Viewers per protocol label.
    pub fn viewers(&self) -> Vec<(&'static str, u64)> {
        let mut all: Vec<(&'static str, u64)> = Vec::new();
        for fanout in &self.fanouts {
            let count = fanout.viewers.len() as u64;
            match all.iter_mut().find(|(protocol, _)| *protocol == fanout.protocol) {
                Some((_, viewers)) => *viewers += count,
                None => all.push((fanout.protocol, count)),
            }
        }
        all
    }

    fn place(&mut self, frame: &Frame) -> MediaTime {
        if kind_in(self.gate.announced(), frame) == TrackKind::Data {
            return self.timeline.place_data(frame.dts);
        }
        let (dts, repair) = self.timeline.place(frame.track, frame.dts, frame.arrival);
        if let Some(repair) = repair {
            self.counters.repairs[repair as usize] += 1;
        }
        dts
    }

    fn count_frame(&mut self, frame: &Frame) {
        self.counters.frames_in += 1;
        self.counters.bytes_in += frame.data.len() as u64;
        let is_video = kind_in(self.gate.announced(), frame) == TrackKind::Video;
        let began = *self.rate.began.get_or_insert(frame.arrival);
        let passed = frame.arrival.millis_since(began);
        if passed >= RATE_WINDOW_MS {
            self.counters.bitrate = self.rate.bytes * 8 * 1000 / passed;
            self.counters.frames_per_second = self.rate.video_frames as f32 * 1000.0 / passed as f32;
            self.rate = RateWindow { began: Some(frame.arrival), ..RateWindow::default() };
        }
        self.rate.bytes += frame.data.len() as u64;
        self.rate.video_frames += u64::from(is_video);
        if is_video {
            self.count_gop(frame);
        }
    }

    fn count_gop(&mut self, frame: &Frame) {
        if frame.key {
            if let Some((began, frames)) = self.gop_began {
                self.counters.gop_ms = u64::try_from(frame.dts.micros_since(began) / 1000).unwrap_or(0);
                self.counters.gop_frames = frames;
            }
            self.gop_began = Some((frame.dts, 0));
        }
        if let Some((_, frames)) = &mut self.gop_began {
            *frames += 1;
        }
    }

    /// The codec names of the tracks, for the log.
    pub fn describe(&self) -> String {
        let names: Vec<&str> =
            self.tracks.iter().map(|track| track.codec).filter(|c| *c != Codec::Script).map(Codec::name).collect();
        names.join("+")
    }
}

fn kind_in(tracks: &Tracks, frame: &Frame) -> TrackKind {
    tracks.get(frame.track).map_or(TrackKind::Data, |track| track.codec.kind())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::format::rtp::{Channels, RtpCarriage};
    use crate::format::{Envelope, HevcForm};
    use crate::media::{Track, TrackId, TrackShape};

    #[test]
    fn formats_that_copy_are_counted_by_themselves() {
        const FRAME_BYTES: usize = 50_000;
        const HEADERS_BYTES_MAX: usize = 2_000;
        let hevc = HevcForm::Enhanced;
        let sharing = [Format::Flv { hevc, envelope: Envelope::None }, Format::Rtmp { hevc, message_stream: 1 }];
        let copying = [
            Format::Rtp(RtpCarriage::Datagrams),
            Format::Rtp(RtpCarriage::Interleaved { video: Some(Channels { rtp: 0, rtcp: 1 }), audio: None }),
        ];
        let mut stream = Stream::new(StreamKey::parse("live/a").unwrap(), &Config::default());
        let shape = TrackShape::Video { width: 0, height: 0, frames_per_second: 0.0 };
        let track = Track { id: TrackId(0), codec: Codec::Vp9, config: Bytes::from_static(b"vpcC-record!"), shape };
        stream.push(MediaEvent::Tracks(Tracks::new(vec![track], Bytes::new())));
        let mut copies = 1;
        let assert_kept = |stream: &Stream, copies: usize| {
            let kept = stream.media_bytes();
            let expected = copies * FRAME_BYTES..copies * FRAME_BYTES + HEADERS_BYTES_MAX * copies;
            assert!(expected.contains(&kept), "{kept} bytes for {copies} copies");
        };
        let frame = Frame {
            data: Bytes::from(vec![0; FRAME_BYTES]),
            arrival: Stamp::from_millis(1),
            dts: MediaTime::ZERO,
            cts: 0,
            segment: 0,
            track: TrackId(0),
            key: true,
        };
        stream.push(MediaEvent::Frame(frame));
        assert_kept(&stream, copies);
        for format in sharing {
            stream.fanout(format, "shares", MuxerContext::default());
            assert_kept(&stream, copies);
        }
        for format in copying {
            stream.fanout(format, "copies", MuxerContext::default());
            copies += 1;
            assert_kept(&stream, copies);
        }
        stream.forget_media();
        assert_eq!(stream.media_bytes(), 0);
    }
}
