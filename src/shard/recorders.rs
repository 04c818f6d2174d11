//! Recorders of streams owned here: started by rules when a stream settles or by the operator, fed with all of its events, told what the
//! disk says. What they order goes out by [`Ports::disk`], which may refuse; nothing here waits.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::conn::StreamIndex;
use super::core::{Core, Ports};
use super::message::{RecordAnswer, RecorderSnapshot};
use super::pre_roll::PreRoll;
use crate::config::{Record, RecordFormat, RecordPlan, RecordWish};
use crate::hub::Stream;
use crate::media::timeline::Repair;
use crate::media::{MediaEvent, Stamp};
use crate::protocol::common::auth::matches;
use crate::protocol::record::{DiskNews, FileTag, Recorder, RecorderState, RecorderStatus, Settings};
use crate::session::StreamKey;

/// Recorders of one stream: one for each format at most.
#[derive(Default)]
pub struct StreamRecorders {
    all: Vec<Recorder>,
    /// Jumps of the publisher's clock that they know of.
    jumps: u64,
}

impl StreamRecorders {
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn statuses(&self) -> Vec<RecorderStatus> {
        self.all.iter().map(Recorder::status).collect()
    }
}

/// What the shard has for all of them.
pub(super) struct RecorderTable {
    record: Arc<Record>,
    next_number: u64,
    streams: FxHashMap<u64, StreamIndex>,
    /// Of recorders that are over.
    pub retired: RecordTotals,
    /// The file of which the disk spoke last: it may say the same again.
    last_failed: Option<FileTag>,
}

/// Sums over recorders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordTotals {
    pub bytes: u64,
    pub files: u64,
    pub gops_dropped: u64,
    pub failures: u64,
}

impl RecordTotals {
    pub fn add(&mut self, status: &RecorderStatus) {
        self.bytes += status.bytes;
        self.files += status.files;
        self.gops_dropped += status.gops_dropped;
        self.failures += status.failures;
    }

    pub fn merge(&mut self, other: &RecordTotals) {
        self.bytes += other.bytes;
        self.files += other.files;
        self.gops_dropped += other.gops_dropped;
        self.failures += other.failures;
    }
}

impl RecorderTable {
    pub fn new(record: &Record) -> Self {
        RecorderTable {
            record: Arc::new(record.clone()),
            next_number: 0,
            streams: FxHashMap::default(),
            retired: RecordTotals::default(),
            last_failed: None,
        }
    }
}

impl<P: Ports> Core<P> {
    /// A stream has settled: starts what the rules want.
    pub(super) fn start_ruled_recorders(&mut self, at: StreamIndex, now: Stamp) {
        let key = self.streams[at].stream.key.clone();
        let record = self.recorders.record.clone();
        for rule in &record.rules {
            if rule.streams.iter().any(|pattern| matches(pattern, key.as_str())) {
                self.start_recorder(at, now, record.plan_of_rule(rule));
            }
        }
        if record.pre_roll_ms > 0 {
            let (kept, slot) = (self.begin_tap(at), &mut self.streams[at]);
            let mut pre_roll = Box::new(PreRoll::new(record.pre_roll_ms));
            // The tracks that come first are known.
            pre_roll.push(slot.stream.tracks(), kept.get(1..).unwrap_or_default());
            slot.taps.pre_roll = Some(pre_roll);
            slot.collect_events();
        }
        self.streams[at].stream.forget_beginning();
    }

    /// What a recording of a stream that runs begins with.
    fn pre_roll(&mut self, at: StreamIndex, ms: u64) -> Vec<MediaEvent> {
        let events = self.begin_tap(at);
        let taps = &self.streams[at].taps;
        if ms == 0 {
            // The tracks alone: it begins with the next key frame.
            return events.into_iter().take(1).collect();
        }
        taps.pre_roll.as_ref().and_then(|pre_roll| pre_roll.events(ms)).unwrap_or(events)
    }

    /// `false`: there is one of that format.
    fn start_recorder(&mut self, at: StreamIndex, now: Stamp, plan: RecordPlan) -> bool {
        let format = plan.format;
        if self.streams[at].taps.recorders.all.iter().any(|recorder| recorder.format() == format) {
            return false;
        }
        let events = self.pre_roll(at, plan.pre_roll_ms);
        let epoch_micros = i64::try_from(self.ports.muxer_context().epoch_nanos / 1_000).unwrap_or(i64::MAX);
        let settings = Settings { plan: Arc::new(plan), shard: self.id, epoch_micros };
        self.recorders.next_number += 1;
        let number = self.recorders.next_number;
        self.recorders.streams.insert(number, at);
        let slot = &mut self.streams[at];
        let mut recorder = Recorder::new(settings, slot.stream.key.clone(), number);
        recorder.push(now, &events, &mut |order| self.ports.disk(order));
        if slot.taps.recorders.all.is_empty() {
            slot.taps.recorders.jumps = jumps_of(&slot.stream);
        }
        slot.taps.recorders.all.push(recorder);
        slot.collect_events();
        log::info!("{}: recorded as {}", slot.stream.key, format.name());
        true
    }

    /// The operator wants a stream to be recorded.
    pub(super) fn record(&mut self, now: Stamp, key: &StreamKey, wish: &RecordWish) -> RecordAnswer {
        let Some(at) = self.owned_here(key).filter(|at| self.streams[*at].stream.settled()) else { return RecordAnswer::NotHere };
        let plan = self.recorders.record.plan(wish);
        let format = plan.format;
        if self.start_recorder(at, now, plan) { RecordAnswer::Started(format) } else { RecordAnswer::Already(format) }
    }

    /// Ends a stream's recorders, or the one of a format; says how many.
    pub(super) fn stop_recording(&mut self, key: &StreamKey, format: Option<RecordFormat>) -> usize {
        let Some(at) = self.owned_here(key) else { return 0 };
        // What has come in this turn belongs to them.
        self.send_outgoing(at);
        let is_meant = |recorder: &Recorder| format.is_none_or(|format| recorder.format() == format);
        let all = std::mem::take(&mut self.streams[at].taps.recorders.all);
        let (stopped, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(is_meant);
        self.streams[at].taps.recorders.all = kept;
        self.streams[at].collect_events();
        let count = stopped.len();
        stopped.into_iter().for_each(|recorder| self.retire_recorder(recorder));
        count
    }

    fn retire_recorder(&mut self, mut recorder: Recorder) {
        recorder.finish(&mut |order| self.ports.disk(order));
        self.recorders.streams.remove(&recorder.number());
        self.recorders.retired.add(&recorder.status());
    }

    /// A stream is gone, and what records it.
    pub(super) fn retire_recorders(&mut self, recorders: StreamRecorders) {
        recorders.all.into_iter().for_each(|recorder| self.retire_recorder(recorder));
    }

    /// The shard ends: all files are ended.
    pub fn finish_recorders(&mut self) {
        let all: Vec<StreamIndex> = self.streams.iter().map(|(at, _)| at).collect();
        for at in all {
            self.send_outgoing(at);
            let recorders = std::mem::take(&mut self.streams[at].taps.recorders);
            self.retire_recorders(recorders);
        }
    }

    /// Gives what has happened in this turn to the recorders.
    pub(super) fn feed_recorders(&mut self, at: StreamIndex, events: &[MediaEvent]) {
        let slot = &mut self.streams[at];
        if slot.taps.recorders.is_empty() {
            return;
        }
        let now = self.ports.now();
        let jumps = jumps_of(&slot.stream);
        let has_jumped = std::mem::replace(&mut slot.taps.recorders.jumps, jumps) != jumps;
        for recorder in &mut slot.taps.recorders.all {
            if has_jumped {
                recorder.jumped();
            }
            let before = recorder.state();
            recorder.push(now, events, &mut |order| self.ports.disk(order));
            tell_change(&slot.stream.key, before, recorder);
        }
    }

    /// The disk tells how a file went.
    pub(super) fn disk_told(&mut self, now: Stamp, news: &DiskNews) {
        let is_new = self.recorders.last_failed.replace(news.tag) != Some(news.tag);
        let at = self.recorders.streams.get(&news.tag.recorder).copied();
        if at.is_none() && is_new {
            // Its recorder is over.
            self.recorders.retired.failures += 1;
        }
        let Some(slot) = at.and_then(|at| self.streams.get_mut(at)) else { return };
        if let Some(recorder) = slot.taps.recorders.all.iter_mut().find(|recorder| recorder.number() == news.tag.recorder) {
            recorder.heard(now, news);
        }
    }

    pub(super) fn recorder_snapshots(&self) -> Vec<RecorderSnapshot> {
        let live = self.streams.iter().filter(|(_, slot)| !slot.ended);
        let of_slot = |slot: &super::streams::Slot| {
            let key = slot.stream.key.clone();
            let statuses = slot.taps.recorders.statuses().into_iter();
            statuses.map(move |status| RecorderSnapshot { key: key.clone(), shard: self.id, status }).collect::<Vec<_>>()
        };
        live.flat_map(|(_, slot)| of_slot(slot)).collect()
    }
}

/// Once when a recorder begins to drop or has caught up, not per frame.
fn tell_change(key: &StreamKey, before: RecorderState, recorder: &Recorder) {
    match (before, recorder.state()) {
        (RecorderState::Dropping, RecorderState::Dropping) => {}
        (_, RecorderState::Dropping) => log::warn!("{key}: the disk is behind, the recording drops GOPs"),
        (RecorderState::Dropping, RecorderState::Recording) => {
            log::info!("{key}: is recorded again, {} GOPs were dropped so far", recorder.status().gops_dropped);
        }
        _ => {}
    }
}

fn jumps_of(stream: &Stream) -> u64 {
    let repairs = &stream.counters.repairs;
    repairs[Repair::ForwardJump as usize] + repairs[Repair::BackwardJump as usize]
}
