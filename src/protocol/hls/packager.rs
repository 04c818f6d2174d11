//! One stream's events → its segments, ready to be fetched.
//!
//! Frames wait in a [`Lane`] per track until a cut of the leading track (see [`super::cutter`]) makes a fragment of everything before it. A
//! frame's duration is the time to the next one, hence a part is complete when the frame behind it has come. Where the publisher changes, the
//! tracks change or the time leaps, the segment ends and a discontinuity follows, which begins at a keyframe.
//!
//! The target duration is fixed when the first playlist is given: it may not change afterwards. The same holds for the part target, which is
//! a whole number of frames as they came in the beginning, and a little more for stamps that are rounded. Who waits for the first segment
//! waits no longer than for a keyframe that is about to come: else the segment ends where it is, and the next one begins without one. A
//! playlist that lists parts alone would come sooner, but hls.js, ffmpeg and GStreamer take it for an empty one.
//!
//! Limits: those of the [`Window`]; a segment that grows to half of `bytes_max` is cut at the next frame. Without video for
//! [`Lengths::limit`], sound decides where to cut.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::Settings;
use super::cutter::{Cut, CutKind, Cutter, Lengths};
use super::window::{Bounds, Part, Segment, Window};
use crate::format::mp4::{Fragment, FragmentWriter, Sample, init_segment};
use crate::format::ts::write::TsWriter;
use crate::media::{Codec, Frame, MediaEvent, Stamp, Track, TrackId, TrackKind, TrackShape, Tracks};

const SECOND: i64 = 1_000_000;
/// Somebody waits for the first segment: it may end so early.
const FIRST_MICROS_MAX: i64 = SECOND;
/// So long somebody waits for a keyframe at which the first segment can end. If none is expected so soon, it ends where it is.
const FIRST_WAIT_MS: u64 = 500;
/// But it has so much at least.
const FIRST_MICROS_MIN: i64 = 300_000;
/// No segment is longer while the target duration is not fixed, and no GOP of that length is known: somebody waits for it.
const UNFIXED_MICROS_MAX: i64 = 12 * SECOND;
/// Who asks for MPEG-TS first gets so many segments of what is listed, as many as players begin with: fewer or more, so that they begin with
/// a keyframe.
const TS_SEGMENTS_FIRST: usize = 3;
/// Longer GOPs are cut in any case.
const TARGET_S_MAX: u64 = 60;
/// A duration is rounded to whole seconds before it is compared with the target duration.
const ROUNDING_MICROS: i64 = 499_999;
/// The part target is taken from so many frames, or from so much time and fewer frames; or from a GOP.
const OBSERVED_FRAMES: usize = 12;
const OBSERVED_FRAMES_MIN: usize = 8;
const OBSERVED_MICROS: i64 = 600_000;
/// Slow video is not looked at any longer, nor is one that has stopped while sound goes on.
const OBSERVED_MICROS_MAX: i64 = SECOND;
/// Stamps are whole milliseconds in many protocols.
const JITTER_MICROS: i64 = 2_000;
/// Steps that differ by less count as equal.
const EVEN_PERCENT_MAX: i64 = 115;
/// With uneven steps, one must fit in here: parts have 85 % of their target at least.
const STEP_OF_PART_PERCENT: i64 = 15;

/// The frames of a track that are in no part yet.
#[derive(Debug)]
struct Lane {
    track: TrackId,
    kind: TrackKind,
    frames: VecDeque<Frame>,
    bytes: usize,
    /// How long a frame lasts whose successor has not come.
    step: i64,
}

impl Lane {
    fn new(track: &Track) -> Self {
        let step = match (track.codec, track.shape) {
            (Codec::Aac, TrackShape::Audio { sample_rate, .. }) if sample_rate > 0 => 1024 * SECOND / i64::from(sample_rate),
            _ if track.codec.kind() == TrackKind::Video => 40_000,
            _ => 20_000,
        };
        Lane { track: track.id, kind: track.codec.kind(), frames: VecDeque::new(), bytes: 0, step }
    }

    fn push(&mut self, frame: Frame) {
        self.bytes += frame.data.len();
        self.frames.push_back(frame);
    }

    fn has_between(&self, from: i64, to: i64) -> bool {
        self.frames.iter().any(|frame| (from..to).contains(&frame.dts.as_micros()))
    }

    /// The samples before `end`; their frames go to `frames`.
    fn take(&mut self, end: i64, frames: &mut Vec<Frame>) -> Vec<Sample> {
        let mut samples = Vec::new();
        while self.frames.front().is_some_and(|frame| frame.dts.as_micros() < end) {
            let Some(frame) = self.frames.pop_front() else { break };
            if let Some(next) = self.frames.front() {
                let step = next.dts.micros_since(frame.dts).max(1);
                if step < SECOND {
                    self.step = step;
                }
                samples.push(sample(&frame, step));
            } else {
                samples.push(sample(&frame, self.step));
            }
            self.bytes -= frame.data.len();
            frames.push(frame);
        }
        samples
    }
}

fn sample(frame: &Frame, duration: i64) -> Sample {
    Sample { data: frame.data.clone(), dts: frame.dts, duration, cts: frame.cts, key: frame.key }
}

/// What runs from one discontinuity to the next.
#[derive(Debug)]
enum Phase {
    /// For a keyframe of the leading track.
    Waiting,
    /// Looks at the steps of the first frames: these are the times of the leading track, and which are keyframes.
    Observing(Vec<(i64, bool)>),
    Cutting(Cutter),
}

pub struct Packager {
    settings: Settings,
    /// Wall-clock time of [`Stamp::ZERO`].
    epoch_nanos: u64,
    tracks: Tracks,
    writer: Option<FragmentWriter>,
    lanes: SmallVec<[Lane; 2]>,
    phase: Phase,
    publisher: Option<u32>,
    /// Arrival and decoding time of a frame, from which the others' times of day follow.
    anchor: Option<(Stamp, i64)>,
    window: Window,
    building: Option<Segment>,
    inits: VecDeque<(u32, Bytes)>,
    next_msn: u64,
    sequence: u32,
    /// The next segment does not go on where the last has ended.
    breaks: bool,
    target_s: u64,
    /// The target durations have been told to somebody.
    fixed: bool,
    /// The longest distance of keyframes that is known; 0: none is.
    gop_ms: u64,
    /// Since when somebody waits for the first segment.
    first_asked: Option<Stamp>,
    part_target: Option<i64>,
    ts: Option<Ts>,
    /// How often MPEG-TS has begun to be written: the same segment has other bytes then.
    ts_rounds: u64,
    ended: bool,
    version: u64,
    now: Stamp,
    cuts: Vec<Cut>,
}

/// Segments are written as MPEG-TS too, one after the other from some number on.
struct Ts {
    writer: TsWriter,
    tracks: Tracks,
    asked: Stamp,
    /// The number of the segment that is written next.
    next_msn: u64,
    /// One has been written: the first begins with a keyframe.
    is_begun: bool,
}

impl Packager {
    /// `gop_ms`: the longest distance of keyframes that is known. `first_msn`: the least number that the first segment may have.
    pub fn new(settings: Settings, epoch_nanos: u64, now: Stamp, gop_ms: u64, first_msn: u64) -> Self {
        let wall_s = (epoch_nanos + now.as_nanos()) / 1_000_000_000;
        Packager {
            settings,
            epoch_nanos,
            tracks: Tracks::default(),
            writer: None,
            lanes: SmallVec::new(),
            phase: Phase::Waiting,
            publisher: None,
            anchor: None,
            window: Window::default(),
            building: None,
            inits: VecDeque::new(),
            next_msn: wall_s.max(first_msn),
            sequence: 0,
            breaks: false,
            target_s: settings.segment_ms.div_ceil(1000).max(((gop_ms + 499) / 1000).min(TARGET_S_MAX)),
            fixed: false,
            gop_ms,
            first_asked: None,
            part_target: None,
            ts: None,
            ts_rounds: 0,
            ended: false,
            version: 0,
            now,
            cuts: Vec::new(),
        }
    }

    pub fn push(&mut self, event: &MediaEvent, now: Stamp) {
        self.now = self.now.max(now);
        match event {
            MediaEvent::Tracks(tracks) => self.set_tracks(tracks),
            MediaEvent::Frame(frame) => self.push_frame(frame),
            MediaEvent::End => {
                self.finish_segment();
                self.ended = true;
                self.version += 1;
                self.write_ts();
            }
        }
    }

    /// Goes on behind what an ended stream of that name has left: not to be called once something has been pushed.
    pub fn follow(&mut self, before: &Packager) {
        self.window = Window::after(before.window.last_discontinuity());
        self.breaks = true;
        self.target_s = self.target_s.max(before.target_s);
        self.next_msn = self.next_msn.max(before.next_msn);
    }

    /// Grows with every change of what can be fetched.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Nothing more comes.
    pub fn ended(&self) -> bool {
        self.ended
    }

    pub fn window(&self) -> &Window {
        &self.window
    }

    pub fn building(&self) -> Option<&Segment> {
        self.building.as_ref()
    }

    pub fn ts_rounds(&self) -> u64 {
        self.ts_rounds
    }

    /// The number of the segment that is complete next.
    pub fn next_msn(&self) -> u64 {
        self.next_msn
    }

    pub fn target_s(&self) -> u64 {
        self.target_s
    }

    /// How long the answer to a request may be waited for, and how long after a request somebody counts as a viewer.
    pub fn patience_ms(&self) -> u64 {
        3 * 1000 * self.target_s
    }

    pub fn part_target(&self) -> Option<i64> {
        self.part_target
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn init(&self, number: u32) -> Option<&Bytes> {
        self.inits.iter().find(|(known, _)| *known == number).map(|(_, init)| init)
    }

    /// What it holds.
    pub fn bytes(&self) -> usize {
        self.window.bytes() + self.unlisted_bytes()
    }

    /// Parts that are complete of a segment that is not.
    pub fn parts(&self) -> usize {
        self.building.iter().chain(self.window.listed()).map(|segment| segment.parts.len()).sum()
    }

    /// Memory is wanted: the oldest segments go.
    pub fn shed(&mut self) {
        self.window.shed(self.now);
        if matches!(self.phase, Phase::Observing(_)) {
            self.drop_frames();
        }
        self.version += 1;
    }

    /// Somebody waits for the first segment.
    pub fn want_first(&mut self, now: Stamp) {
        self.now = self.now.max(now);
        self.first_asked.get_or_insert(self.now);
        self.end_first();
    }

    /// Ends the first segment if it is waited for, and a keyframe is not to be waited for.
    fn end_first(&mut self) {
        let (Some(asked), true) = (self.first_asked, self.window.is_empty()) else { return };
        let Phase::Cutting(cutter) = &self.phase else { return };
        let has_video = self.lanes.first().is_some_and(|lane| lane.kind == TrackKind::Video);
        // Where the distance of keyframes is not known, the target duration has to wait for it.
        if cutter.last() - cutter.segment_start() < FIRST_MICROS_MIN || (has_video && self.gop_ms == 0) {
            return;
        }
        let since_key_ms = u64::try_from((cutter.last() - cutter.last_key()) / 1000).unwrap_or(0);
        let patience_ms = FIRST_WAIT_MS.saturating_sub(self.now.millis_since(asked));
        if patience_ms == 0 || self.gop_ms.saturating_sub(since_key_ms) > patience_ms {
            let (at, part_start) = (cutter.last(), cutter.part_start());
            if let Phase::Cutting(cutter) = &mut self.phase {
                cutter.cut_segment(at, false, &mut self.cuts);
            }
            self.make_cuts(part_start);
        }
    }

    /// From now on a playlist has been given: what may not change any more does not.
    pub fn fix_target(&mut self) {
        if self.fixed {
            return;
        }
        self.fixed = true;
        if let Phase::Cutting(cutter) = &self.phase {
            // The segment that is being made may be longer than all before it.
            let elapsed = cutter.last() + cutter.interval() - cutter.segment_start();
            self.target_s = self.target_s.max(u64::try_from((elapsed + SECOND - 1) / SECOND).unwrap_or(0));
        }
        let lengths = self.lengths();
        if let Phase::Cutting(cutter) = &mut self.phase {
            cutter.lengths = lengths;
        }
    }

    /// Somebody wants MPEG-TS: the end of what is listed is written by and by, and what comes.
    pub fn want_ts(&mut self, now: Stamp) {
        self.now = self.now.max(now);
        if let Some(ts) = &mut self.ts {
            ts.asked = self.now;
            return;
        }
        self.ts_rounds += 1;
        let beginnings = || self.window.listed().rev().enumerate().filter(|(_, segment)| segment.begins_with_key());
        let near = beginnings().take_while(|(place, _)| *place < TS_SEGMENTS_FIRST).last();
        let first = near.or_else(|| beginnings().next());
        let next_msn = first.map_or(self.next_msn, |(_, segment)| segment.msn);
        let (writer, tracks) = (TsWriter::new(), Tracks::default());
        self.ts = Some(Ts { writer, tracks, asked: self.now, next_msn, is_begun: false });
        self.write_ts();
    }

    /// Writes the next segment as MPEG-TS, if there is one that is not written yet: no more than one in a turn. What has ended gets no
    /// further turn, and is written at once.
    pub fn write_ts(&mut self) {
        let Some(ts) = &mut self.ts else { return };
        while ts.next_msn < self.next_msn {
            // One that went before its turn came cannot be written any more.
            ts.next_msn = ts.next_msn.max(self.window.oldest().map_or(0, |segment| segment.msn));
            ts.is_begun |= self.window.get(ts.next_msn).is_some_and(Segment::begins_with_key);
            if !ts.is_begun {
                ts.next_msn += 1;
                continue;
            }
            self.window.change(ts.next_msn, |segment| segment.ts = Some(ts.write(segment)));
            ts.next_msn += 1;
            self.version += 1;
            if !self.ended {
                return;
            }
        }
    }

    /// Whether that segment, or one behind it, is still to be written as MPEG-TS.
    pub fn owes_ts(&self, msn: u64) -> bool {
        self.ts.as_ref().is_some_and(|ts| ts.next_msn <= msn && msn < self.next_msn)
    }

    /// Lets go what is not wanted any more.
    pub fn tick(&mut self, now: Stamp) {
        self.now = self.now.max(now);
        self.window.expire(self.now);
        // Who plays asks once in a target duration.
        let idle_ms = self.settings.idle_ms.max(self.patience_ms());
        if self.ts.as_ref().is_some_and(|ts| self.now.millis_since(ts.asked) >= idle_ms) {
            self.ts = None;
            self.window.update(|segment| segment.ts = None);
            self.version += 1;
        }
        self.write_ts();
    }

    fn unlisted_bytes(&self) -> usize {
        self.building.as_ref().map_or(0, Segment::bytes) + self.lanes.iter().map(|lane| lane.bytes).sum::<usize>()
    }

    // ---- tracks and discontinuities

    fn set_tracks(&mut self, tracks: &Tracks) {
        let init = init_segment(tracks);
        let is_new = match (&init, self.inits.back()) {
            (Some(init), Some((_, current))) => init != current,
            _ => true,
        };
        // The same bytes may be those of tracks that are called otherwise: another publisher's script data came before its video.
        let is_same = !is_new && self.lanes.iter().map(|lane| lane.track).eq(carried(tracks).iter().map(|track| track.id));
        if is_same && self.writer.is_some() {
            self.tracks = tracks.clone();
            return;
        }
        let is_begun = self.building.as_ref().is_some_and(|segment| !segment.parts.is_empty()) || !self.window.is_empty();
        if is_begun {
            self.break_off();
        } else if tracks.first(TrackKind::Video) != self.tracks.first(TrackKind::Video) {
            self.drop_frames();
        }
        self.tracks = tracks.clone();
        self.begin_writer();
        if let Some(init) = init.filter(|_| is_new) {
            let number = u32::try_from(self.next_msn).unwrap_or(u32::MAX);
            // Nothing was cut with that one.
            self.inits.retain(|(known, _)| *known != number);
            self.inits.push_back((number, init));
        }
        if !is_begun {
            // Nothing of it is known to anybody: the frames that wait go on with the new tracks.
            self.inits.drain(..self.inits.len().saturating_sub(1));
            if let (Some(building), Some((number, _))) = (&mut self.building, self.inits.back()) {
                building.init = *number;
                building.tracks = tracks.clone();
            }
        }
    }

    fn begin_writer(&mut self) {
        self.writer = FragmentWriter::new(&self.tracks);
        let mut lanes: SmallVec<[Lane; 2]> = carried(&self.tracks).into_iter().map(Lane::new).collect();
        for lane in &mut lanes {
            if let Some(old) = self.lanes.iter_mut().find(|old| old.track == lane.track && old.kind == lane.kind) {
                lane.frames = std::mem::take(&mut old.frames);
                lane.bytes = old.bytes;
            }
        }
        self.lanes = lanes;
    }

    /// Forgets the frames that are in no part.
    fn drop_frames(&mut self) {
        self.phase = Phase::Waiting;
        self.breaks |= self.building.take().is_some_and(|segment| segment.discontinuity);
        for lane in &mut self.lanes {
            lane.frames.clear();
            lane.bytes = 0;
        }
    }

    /// Ends the segment; what follows does not join it.
    fn break_off(&mut self) {
        self.finish_segment();
        self.drop_frames();
        self.breaks |= !self.window.is_empty();
        // Another publisher's stamps are rounded in another way.
        self.writer = FragmentWriter::new(&self.tracks);
    }

    /// All that has come belongs to the segment, which ends.
    fn finish_segment(&mut self) {
        if matches!(self.phase, Phase::Observing(_)) {
            self.end_observation();
        }
        let Phase::Cutting(cutter) = &self.phase else { return };
        let step = self.lanes.first().map_or(0, |lane| lane.step);
        let end = (cutter.last() + step).min(cutter.segment_start() + cutter.lengths.limit);
        let part_start = cutter.part_start();
        let is_too_long = cutter.lengths.part.is_some_and(|part| end - part_start > part) && cutter.last() > part_start;
        let last_start = if is_too_long { cutter.last() } else { part_start };
        if is_too_long {
            self.close_part(part_start, last_start, last_start);
        }
        self.close_part(last_start, end, i64::MAX);
        self.close_segment();
        self.phase = Phase::Waiting;
    }

    // ---- frames

    fn push_frame(&mut self, frame: &Frame) {
        let Some(place) = self.lanes.iter().position(|lane| lane.track == frame.track) else { return };
        if self.publisher.replace(frame.segment).is_some_and(|publisher| publisher != frame.segment) {
            self.break_off();
        }
        let at = frame.dts.as_micros();
        let is_leading = place == 0;
        match &self.phase {
            Phase::Waiting if is_leading && frame.key => self.begin(frame),
            Phase::Waiting => return,
            Phase::Observing(times) if times.first().is_some_and(|(start, _)| at < *start) => return,
            Phase::Cutting(cutter) if at < cutter.segment_start() && self.is_fresh() => return,
            _ => {}
        }
        self.lanes[place].push(frame.clone());
        let is_full = self.unlisted_bytes() > self.settings.bytes_max / 2;
        match &mut self.phase {
            Phase::Observing(times) => {
                if is_leading {
                    times.push((at, frame.key));
                }
                if is_full || has_seen_enough(times, at) {
                    self.end_observation();
                }
            }
            Phase::Cutting(cutter) => {
                let patience = if is_full { SECOND } else { cutter.lengths.limit };
                let is_starved = !is_leading && at - cutter.last() > patience;
                if is_leading || is_starved {
                    self.advance(at, is_leading && frame.key);
                }
            }
            _ => {}
        }
        self.end_first();
    }

    /// Nothing has been cut since the discontinuity.
    fn is_fresh(&self) -> bool {
        self.building.as_ref().is_none_or(|segment| segment.parts.is_empty())
    }

    fn begin(&mut self, frame: &Frame) {
        let at = frame.dts.as_micros();
        self.anchor = Some((frame.arrival, at));
        self.phase = Phase::Observing(vec![]);
        if self.settings.part_ms == 0 || self.part_target.is_some() {
            self.phase = Phase::Cutting(Cutter::new(self.lengths(), at, self.window.is_empty()));
        }
        self.open_segment(at, true);
    }

    fn end_observation(&mut self) {
        let Phase::Observing(times) = std::mem::replace(&mut self.phase, Phase::Waiting) else { return };
        let Some((start, _)) = times.first().copied() else { return };
        self.part_target.get_or_insert_with(|| part_target(&times, &self.settings));
        self.phase = Phase::Cutting(Cutter::new(self.lengths(), start, self.window.is_empty()));
        for (at, key) in times.into_iter().skip(1) {
            self.advance(at, key);
        }
    }

    fn lengths(&self) -> Lengths {
        let segment = i64::try_from(self.settings.segment_ms).unwrap_or(i64::MAX).saturating_mul(1000);
        let limit = i64::try_from(self.target_s).unwrap_or(i64::MAX).saturating_mul(SECOND);
        let limit = if self.fixed { limit } else { limit.max(UNFIXED_MICROS_MAX) };
        let part = if self.settings.part_ms == 0 { None } else { self.part_target };
        Lengths { segment, first: segment.min(FIRST_MICROS_MAX), limit: limit.saturating_add(ROUNDING_MICROS), part }
    }

    /// Segments may have the length of the GOP that ends at `at`.
    fn learn_gop(&mut self, at: i64) {
        let Phase::Cutting(cutter) = &self.phase else { return };
        let gop_s = u64::try_from((at - cutter.last_key() + ROUNDING_MICROS) / SECOND).unwrap_or(0);
        self.target_s = self.target_s.max(gop_s.min(TARGET_S_MAX));
        self.gop_ms = self.gop_ms.max(u64::try_from((at - cutter.last_key()) / 1000).unwrap_or(0));
        let lengths = self.lengths();
        if let Phase::Cutting(cutter) = &mut self.phase {
            cutter.lengths = lengths;
        }
    }

    /// A frame of the leading track has come, or one without which it is not waited any longer.
    fn advance(&mut self, at: i64, key: bool) {
        if key && !self.fixed {
            self.learn_gop(at);
        }
        let is_full = self.unlisted_bytes() > self.settings.bytes_max / 2;
        let Phase::Cutting(cutter) = &mut self.phase else { return };
        let mut cuts = std::mem::take(&mut self.cuts);
        let part_start = cutter.part_start();
        let others = &self.lanes[1.min(self.lanes.len())..];
        cutter.push(at, key, |from, to| others.iter().any(|lane| lane.has_between(from, to)), &mut cuts);
        if is_full && cuts.iter().all(|cut| cut.kind == CutKind::Part) {
            cutter.cut_segment(at, key, &mut cuts);
        }
        self.cuts = cuts;
        self.make_cuts(part_start);
    }

    /// Makes parts and segments of what begins at `part_start`.
    fn make_cuts(&mut self, mut part_start: i64) {
        let mut cuts = std::mem::take(&mut self.cuts);
        for cut in cuts.drain(..) {
            match cut.kind {
                CutKind::Part => self.close_part(part_start, cut.at, cut.at),
                CutKind::Segment { key } => {
                    if cut.at > part_start {
                        self.close_part(part_start, cut.at, cut.at);
                    }
                    self.close_segment();
                    self.open_segment(cut.at, key);
                }
                CutKind::Gap => {
                    self.leap(part_start, cut.at);
                    break;
                }
            }
            part_start = cut.at;
        }
        cuts.clear();
        self.cuts = cuts;
    }

    /// The time goes on at `at` without anything in between: that frame is the first behind a discontinuity, if it is a keyframe.
    fn leap(&mut self, part_start: i64, at: i64) {
        let Some(lane) = self.lanes.first_mut() else { return };
        let next = lane.frames.back().filter(|frame| frame.dts.as_micros() == at).cloned();
        let end = (part_start + lane.step).min(at);
        self.close_part(part_start, end, end);
        self.close_segment();
        self.break_off();
        if let Some(frame) = next {
            self.push_frame(&frame);
        }
    }

    // ---- parts and segments

    /// `key`: it begins with a keyframe.
    fn open_segment(&mut self, at: i64, key: bool) {
        let init = self.inits.back().map_or(0, |(number, _)| *number);
        let (arrival, dts) = self.anchor.unwrap_or((self.now, at));
        let since = (at - dts).saturating_mul(1000);
        let wall_nanos = (self.epoch_nanos + arrival.as_nanos()).saturating_add_signed(since);
        let breaks = std::mem::take(&mut self.breaks);
        let mut segment = Segment::new(self.next_msn, breaks, init, wall_nanos, self.tracks.clone());
        segment.independent = key;
        self.building = Some(segment);
    }

    /// Makes a part of all samples before `before`; it lasts from `start` to `end`.
    fn close_part(&mut self, start: i64, end: i64, before: i64) {
        let (Some(writer), Some(building)) = (&mut self.writer, &mut self.building) else { return };
        let taken = building.frames.len();
        let samples: SmallVec<[(TrackId, Vec<Sample>); 2]> =
            self.lanes.iter_mut().map(|lane| (lane.track, lane.take(before, &mut building.frames))).collect();
        let tracks: SmallVec<[(TrackId, &[Sample]); 2]> =
            samples.iter().filter(|(_, samples)| !samples.is_empty()).map(|(track, samples)| (*track, &samples[..])).collect();
        if tracks.is_empty() || end <= start {
            return;
        }
        let leading = self.lanes.first().map(|lane| (lane.track, lane.kind));
        let first = samples.first().and_then(|(_, samples)| samples.first());
        let independent = first.is_some_and(|sample| sample.key && sample.dts.as_micros() <= start);
        if leading.is_some_and(|(_, kind)| kind == TrackKind::Video) {
            building.video_frames += samples[0].1.len();
        }
        building.frames[taken..].sort_by_key(|frame| frame.dts);
        if building.parts.is_empty() {
            building.independent = independent;
        }
        self.sequence = self.sequence.wrapping_add(1);
        let fragment = writer.fragment(&Fragment { sequence: self.sequence, tracks: &tracks });
        let pieces = std::iter::once(fragment.head).chain(fragment.payload).collect();
        building.parts.push(Part { pieces, len: fragment.len, duration: end - start, independent });
        self.version += 1;
    }

    fn close_segment(&mut self) {
        let Some(mut segment) = self.building.take() else { return };
        if segment.parts.is_empty() {
            self.breaks |= segment.discontinuity;
            return;
        }
        segment.duration = segment.parts.iter().map(|part| part.duration).sum();
        if !self.fixed {
            let rounded = (segment.duration + SECOND / 2) / SECOND;
            self.target_s = self.target_s.max(u64::try_from(rounded).unwrap_or(0));
        }
        self.next_msn = segment.msn + 1;
        let target_micros = i64::try_from(self.target_s).unwrap_or(i64::MAX).saturating_mul(SECOND);
        let bounds = Bounds { segments: self.settings.segments, target_micros, bytes_max: self.settings.bytes_max };
        self.window.push(segment, self.now, bounds);
        self.window.expire(self.now);
        let oldest = self.window.oldest().map_or(0, |segment| segment.init);
        while self.inits.len() > 1 && self.inits.front().is_some_and(|(number, _)| *number < oldest) {
            self.inits.pop_front();
        }
        self.version += 1;
    }
}

impl Ts {
    fn write(&mut self, segment: &Segment) -> Bytes {
        if self.tracks != segment.tracks {
            self.tracks = segment.tracks.clone();
            self.writer.set_tracks(&self.tracks);
        }
        let mut out = BytesMut::with_capacity(segment.len() + segment.len() / 16 + 4096);
        self.writer.tables(&mut out);
        for frame in &segment.frames {
            self.writer.frame(frame, &mut out);
        }
        out.freeze()
    }
}

/// The tracks that fMP4 carries, the leading one first.
fn carried(tracks: &Tracks) -> SmallVec<[&Track; 2]> {
    let Some(writer) = FragmentWriter::new(tracks) else { return SmallVec::new() };
    let of_kind = |kind| tracks.iter().filter(move |track| track.codec.kind() == kind);
    of_kind(TrackKind::Video).chain(of_kind(TrackKind::Audio)).filter(|track| writer.carries(track.id)).collect()
}

/// What the steps of the leading track are like is known, or not waited for any longer. `at`: of a frame of any track.
fn has_seen_enough(times: &[(i64, bool)], at: i64) -> bool {
    let (Some((start, _)), Some((last, _))) = (times.first(), times.last()) else { return false };
    let keys = times.iter().filter(|(_, key)| *key).count();
    let is_long = last - start >= OBSERVED_MICROS && times.len() >= OBSERVED_FRAMES_MIN;
    let is_slow = last - start >= OBSERVED_MICROS_MAX || at - last > OBSERVED_MICROS_MAX;
    times.len() > OBSERVED_FRAMES || is_long || is_slow || (keys > 1 && times.len() > 2)
}

/// A whole number of frames that is nearest to the wished length.
fn part_target(times: &[(i64, bool)], settings: &Settings) -> i64 {
    let wish = i64::try_from(settings.part_ms).unwrap_or(i64::MAX).saturating_mul(1000);
    let steps = times.windows(2).map(|pair| pair[1].0 - pair[0].0);
    let (Some(longest), Some(last)) = (steps.max(), times.last()) else { return wish };
    let step = ((last.0 - times[0].0) / (times.len() as i64 - 1)).max(1);
    let frames = ((wish + step / 2) / step).max(1);
    let even = (frames * step + JITTER_MICROS + 999) / 1000 * 1000;
    if longest * 100 <= step * EVEN_PERCENT_MAX {
        return even;
    }
    let uneven = longest.max(2 * step) * 100 / STEP_OF_PART_PERCENT;
    let most = i64::try_from(settings.segment_ms / 2).unwrap_or(i64::MAX).saturating_mul(1000);
    uneven.clamp(even.min(most), most) / 1000 * 1000
}
