//! One stream into files of one format: when a file begins, ends and is tried again.
//!
//! A file begins at a keyframe (without picture: at any frame) and ends where it is long or large enough, where the tracks change, where
//! the publisher's clock jumped, where the next publisher comes after a pause, of which the stream's times know nothing, and with the stream.
//! Frames are gathered for `fragment_ms` (or until [`PENDING_BYTES_MAX`]) and handed
//! over as one order. A refused order is a dropped GOP: what follows up to the next keyframe is left out and counted, and where it goes on a part of the file begins; a file whose first
//! frames are refused is none, and another begins there. After an error the recorder waits `retry_ms` and for a keyframe. Times in a file begin near zero; where it begins on the wall clock stands in its
//! [`FileStart`]. Bounded: what is gathered; everything else is a handful of numbers.

use std::sync::Arc;

use bytes::Bytes;

use super::container::Container;
use super::order::{Action, Append, DiskNews, DiskOrder, FileStart, FileTag, Progress};
use super::path::path_of;
use crate::config::{RecordFormat, RecordPlan};
use crate::media::{Frame, MediaEvent, MediaTime, Stamp, TrackId, TrackKind, Tracks};
use crate::session::StreamKey;

/// More is handed over before its time.
const PENDING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// So many orders of a file that the disk took and said nothing of: what failed before goes well.
const APPENDS_WITHOUT_NEWS: u32 = 2;
/// A part of an HLS recording is about so long.
const PART_MICROS: i64 = 6_000_000;
/// Where the wall clock is so far ahead of the file, the file ends: its times would lie.
const DRIFT_MICROS_MAX: i64 = 10_000_000;
/// The same where one publisher follows another, which is where the stream's times leave a pause out. Otherwise so much is jitter.
const PAUSE_MICROS_MAX: i64 = 500_000;
/// A file that follows another without a hole begins where that ended, by the clock of the stream; if the wall clock is further off, by that.
const FOLLOWS_MICROS_MAX: i64 = 500_000;
/// Of a frame behind which nothing comes and before which nothing was.
const FRAME_MICROS: i64 = 40_000;

/// How a recorder works.
#[derive(Clone, Debug)]
pub struct Settings {
    pub plan: Arc<RecordPlan>,
    pub shard: u16,
    /// Wall-clock time of [`Stamp::ZERO`], in microseconds since 1970.
    pub epoch_micros: i64,
}

/// What a recorder does, in a word for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecorderState {
    /// For a keyframe.
    Waiting,
    Recording,
    /// The disk is behind.
    Dropping,
    /// It is tried again.
    Failed,
}

impl RecorderState {
    pub const ALL: [RecorderState; 4] =
        [RecorderState::Waiting, RecorderState::Recording, RecorderState::Dropping, RecorderState::Failed];

    pub const fn name(self) -> &'static str {
        match self {
            RecorderState::Waiting => "waiting",
            RecorderState::Recording => "recording",
            RecorderState::Dropping => "dropping",
            RecorderState::Failed => "failed",
        }
    }
}

/// What a recorder says of itself.
#[derive(Clone, Debug)]
pub struct RecorderStatus {
    pub state: RecorderState,
    pub format: RecordFormat,
    /// Handed over to the disk, in all files.
    pub bytes: u64,
    /// Files begun.
    pub files: u64,
    pub gops_dropped: u64,
    pub bytes_dropped: u64,
    /// Times that a file ended for an error.
    pub failures: u64,
    /// What went wrong last; empty: nothing.
    pub last_error: String,
    /// Of the file that is being written, without its ending.
    pub path: Option<String>,
    pub file_start_micros: Option<i64>,
    pub file_duration_micros: Option<i64>,
}

pub struct Recorder {
    settings: Settings,
    key: StreamKey,
    number: u64,
    tracks: Tracks,
    file: Option<Open>,
    /// The last order was refused.
    dropping: bool,
    /// Frames are left out up to the next beginning.
    skipping: bool,
    /// After an error: when it is tried again.
    retry: Option<Stamp>,
    /// It has been tried again since an error, and is not yet known to be well: the disk says only what goes wrong.
    doubtful: bool,
    /// The publisher's clock has jumped.
    jumped: bool,
    next_file: u32,
    /// Of which an error was counted last: it may be told more than once.
    failed_file: Option<u32>,
    /// Wall-clock time of the stream's zero, as the file before had it.
    zero_micros: Option<i64>,
    status: Totals,
}

#[derive(Default)]
struct Totals {
    bytes: u64,
    files: u64,
    gops_dropped: u64,
    bytes_dropped: u64,
    failures: u64,
    last_error: String,
}

/// The file that is being written.
struct Open {
    tag: FileTag,
    /// Known when the first frames are handed over: the file is created then.
    begun: Option<Begun>,
    /// Made with the first frames that are handed over.
    container: Option<Container>,
    /// Where its first beginning stands on the stream's timeline, and when that arrived.
    first: (MediaTime, Stamp),
    /// Whose frame came last, see [`Frame::segment`].
    publisher: u32,
    pending: Vec<Frame>,
    pending_bytes: usize,
    bytes: u64,
    /// GOPs that are missing behind what was handed over last.
    missing: u64,
    /// Orders of the disk that it took.
    appends: u32,
    progress: Progress,
    /// Where the newest part by itself began, in the file.
    part_micros: i64,
    /// How long a frame of each track lasted last.
    lasted: Vec<(TrackId, i64)>,
}

impl Open {
    /// How far the wall clock is ahead of the file at a frame.
    fn drift_micros(&self, frame: &Frame) -> i64 {
        let (began, arrived) = self.first;
        frame.arrival.since(arrived).as_micros() as i64 - frame.dts.micros_since(began)
    }

    /// What is zero in the file, and where in it something is shown first.
    fn beginning(&self) -> (MediaTime, i64) {
        if let Some(begun) = &self.begun {
            return (begun.base, begun.shown_from);
        }
        // Sound may begin a little before the picture that came first.
        let base = self.pending.iter().map(|frame| frame.dts).min().unwrap_or(self.first.0);
        (base, self.pending.iter().map(|frame| shown(frame, base)).min().unwrap_or(0))
    }
}

struct Begun {
    path: String,
    /// What is zero in the file.
    base: MediaTime,
    /// Where in the file its first frame is shown, and when that was.
    shown_from: i64,
    start_micros: i64,
}

/// Takes an order; `false`: it does not.
pub type Disk<'a> = dyn FnMut(DiskOrder) -> bool + 'a;

impl Recorder {
    /// `number`: unique among the shard's recorders.
    pub fn new(settings: Settings, key: StreamKey, number: u64) -> Self {
        Recorder {
            settings,
            key,
            number,
            tracks: Tracks::default(),
            file: None,
            dropping: false,
            skipping: false,
            retry: None,
            doubtful: false,
            jumped: false,
            next_file: 0,
            failed_file: None,
            zero_micros: None,
            status: Totals::default(),
        }
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn format(&self) -> RecordFormat {
        self.settings.plan.format
    }

    /// Takes the stream's next events.
    pub fn push(&mut self, now: Stamp, events: &[MediaEvent], disk: &mut Disk<'_>) {
        for event in events {
            match event {
                MediaEvent::Tracks(tracks) => self.set_tracks(tracks, disk),
                MediaEvent::Frame(frame) => self.frame(now, frame, disk),
                MediaEvent::End => self.finish(disk),
            }
        }
    }

    /// The publisher's clock has jumped; what is recorded goes on in another file.
    pub fn jumped(&mut self) {
        self.jumped = self.file.is_some();
    }

    /// The disk tells how a file of this recorder went.
    pub fn heard(&mut self, now: Stamp, news: &DiskNews) {
        if self.failed_file.replace(news.tag.file) != Some(news.tag.file) {
            self.status.failures += 1;
            self.status.last_error.clone_from(&news.failed);
        }
        if let Some(file) = self.file.take_if(|file| file.tag == news.tag) {
            self.dropped(self.gops_of(&file), file.pending_bytes as u64);
            self.try_later(now);
        }
    }

    /// Ends the file: nothing more comes, or nothing more is wanted.
    pub fn finish(&mut self, disk: &mut Disk<'_>) {
        self.hand_over(None, disk);
        self.close(disk);
    }

    pub fn state(&self) -> RecorderState {
        match self.file {
            _ if self.retry.is_some() || self.doubtful => RecorderState::Failed,
            _ if self.dropping => RecorderState::Dropping,
            Some(_) => RecorderState::Recording,
            None => RecorderState::Waiting,
        }
    }

    pub fn status(&self) -> RecorderStatus {
        let file = self.file.as_ref();
        let begun = file.and_then(|file| file.begun.as_ref());
        RecorderStatus {
            state: self.state(),
            format: self.format(),
            bytes: self.status.bytes,
            files: self.status.files,
            gops_dropped: self.status.gops_dropped,
            bytes_dropped: self.status.bytes_dropped,
            failures: self.status.failures,
            last_error: self.status.last_error.clone(),
            path: begun.map(|begun| begun.path.clone()),
            file_start_micros: begun.map(|begun| begun.start_micros),
            file_duration_micros: begun.and(file).map(|file| file.progress.duration_micros),
        }
    }

    fn set_tracks(&mut self, tracks: &Tracks, disk: &mut Disk<'_>) {
        let is_media = |tracks: &Tracks| tracks.only(|track| track.codec.kind() != TrackKind::Data);
        if is_media(tracks).iter().ne(is_media(&self.tracks).iter()) {
            self.finish(disk);
            (self.retry, self.doubtful) = (None, false);
        }
        self.tracks = tracks.clone();
    }

    fn frame(&mut self, now: Stamp, frame: &Frame, disk: &mut Disk<'_>) {
        let Some(kind) = self.tracks.get(frame.track).map(|track| track.codec.kind()) else { return };
        let has_video = self.tracks.has(TrackKind::Video);
        let begins = if has_video { kind == TrackKind::Video && frame.key } else { kind == TrackKind::Audio };
        self.skipping &= !begins;
        if self.comes_after_a_pause(frame) || (begins && self.is_over(frame)) {
            self.hand_over(Some(frame), disk);
            self.close(disk);
        }
        if self.file.is_some()
            && !self.skipping
            && self.is_enough(frame, begins && has_video, kind == TrackKind::Video || !has_video)
        {
            self.hand_over(Some(frame), disk);
        }
        if self.file.is_none() && begins && self.retry.is_none_or(|at| at <= now) {
            self.open(frame);
        }
        if self.skipping && !begins {
            self.status.bytes_dropped += frame.data.len() as u64;
            return;
        }
        let Some(file) = &mut self.file else { return };
        // What was refused ends with its GOP.
        self.skipping = false;
        file.pending_bytes += frame.data.len();
        file.pending.push(frame.clone());
    }

    /// Whether this frame is a publisher's first, and the file would tell wrong times of it and of what follows. Each that comes in time is
    /// measured against the file's beginning again: many short pauses do not add up.
    fn comes_after_a_pause(&mut self, frame: &Frame) -> bool {
        let Some(file) = &mut self.file else { return false };
        let is_next = std::mem::replace(&mut file.publisher, frame.segment) != frame.segment;
        is_next && file.drift_micros(frame).abs() > PAUSE_MICROS_MAX
    }

    /// Whether the file ends before this frame, with which another can begin.
    fn is_over(&self, frame: &Frame) -> bool {
        let Some(file) = &self.file else { return false };
        let plan = &self.settings.plan;
        let length = frame.dts.micros_since(file.first.0);
        let is_long = plan.split_ms > 0 && length >= millis(plan.split_ms);
        let is_large = plan.split_bytes > 0 && file.bytes + file.pending_bytes as u64 >= plan.split_bytes;
        is_long || is_large || self.jumped || file.drift_micros(frame) >= DRIFT_MICROS_MAX
    }

    /// Whether what was gathered is handed over before this frame.
    fn is_enough(&self, frame: &Frame, begins: bool, leads: bool) -> bool {
        let Some(file) = &self.file else { return false };
        let Some(first) = file.pending.first() else { return false };
        let fragment = millis(self.settings.plan.fragment_ms);
        let span = frame.dts.micros_since(first.dts);
        let needed = match (begins, leads) {
            (true, _) => fragment / 2,
            (false, true) => fragment,
            // The picture leads, unless it stands still.
            (false, false) => 2 * fragment,
        };
        span >= needed || file.pending_bytes >= PENDING_BYTES_MAX
    }

    fn open(&mut self, frame: &Frame) {
        self.retry = None;
        self.jumped = false;
        let number = self.next_file;
        self.next_file = number.wrapping_add(1);
        self.file = Some(Open {
            tag: FileTag { shard: self.settings.shard, recorder: self.number, file: number },
            begun: None,
            container: None,
            first: (frame.dts, frame.arrival),
            publisher: frame.segment,
            pending: Vec::new(),
            pending_bytes: 0,
            bytes: 0,
            missing: 0,
            appends: 0,
            progress: Progress::default(),
            part_micros: 0,
            lasted: Vec::new(),
        });
    }

    /// Creates the file for what was gathered; `None`: the disk is behind.
    fn begin(&self, file: &Open, disk: &mut Disk<'_>) -> Option<Begun> {
        let (first, arrival) = file.first;
        let (base, shown_from) = file.beginning();
        let arrived = self.settings.epoch_micros + (arrival.as_nanos() / 1000) as i64;
        let measured = arrived - first.as_micros();
        let zero = self.zero_micros.filter(|zero| (zero - measured).abs() <= FOLLOWS_MICROS_MAX).unwrap_or(measured);
        let start_micros = zero + base.as_micros() + shown_from;
        let path = path_of(&self.settings.plan.path, &self.key, start_micros);
        let start = FileStart {
            stream: self.key.clone(),
            format: self.format(),
            path: path.clone(),
            start_micros,
            keep_ms: self.settings.plan.keep_ms,
            tracks: self.tracks.clone(),
        };
        let is_taken = disk(DiskOrder { tag: file.tag, action: Action::Create(Box::new(start)) });
        is_taken.then_some(Begun { path, base, shown_from, start_micros })
    }

    /// Gives what was gathered to the disk. `next` follows it.
    fn hand_over(&mut self, next: Option<&Frame>, disk: &mut Disk<'_>) {
        if self.file.as_ref().is_none_or(|file| file.pending.is_empty()) {
            return;
        }
        let Some(mut file) = self.file.take() else { return };
        let main = self.main_track();
        let is_main = |frame: &Frame| Some(frame.track) == main;
        let gops = self.gops_of(&file);
        let mut parts = Vec::with_capacity(4 * file.pending.len());
        let container = match file.container.take() {
            Some(container) => Some(container),
            None => Container::begin(self.format(), &self.tracks, file.beginning().1, &mut parts),
        };
        let Some(mut container) = container else { return self.give_up(&file, disk) };
        if file.begun.is_none() {
            file.begun = self.begin(&file, disk);
            self.zero_micros = file.begun.as_ref().map(|begun| begun.start_micros - begun.shown_from - begun.base.as_micros());
        }
        let Some(begun) = &file.begun else { return self.refused(gops, file.pending_bytes as u64) };
        let frames = with_durations(&mut file.pending, next, begun.base, &mut file.lasted);
        file.pending_bytes = 0;
        let before = container.clone();
        container.append(&frames, &mut parts);
        let mut progress = file.progress;
        for (frame, duration) in &frames {
            progress.frames += u64::from(is_main(frame));
            let end = frame.dts.as_micros() + i64::from(frame.cts) + duration;
            progress.duration_micros = progress.duration_micros.max(end - begun.shown_from);
        }
        let start = frames.first().map_or(0, |(frame, _)| frame.dts.as_micros());
        progress.gops_dropped += file.missing;
        let shown = frames.iter().map(|(frame, _)| frame.dts.as_micros() + i64::from(frame.cts)).min();
        let resumes_micros = shown.filter(|_| file.missing > 0).map(|shown| shown - begun.shown_from);
        let has_beginning = frames.iter().any(|(frame, _)| is_main(frame) && frame.key);
        let begins = has_beginning && (file.bytes == 0 || file.missing > 0 || start - file.part_micros >= PART_MICROS);
        let len: usize = parts.iter().map(Bytes::len).sum();
        if disk(DiskOrder { tag: file.tag, action: Action::Append(Append { parts, len, begins, resumes_micros, progress }) }) {
            self.status.files += u64::from(file.bytes == 0);
            file.bytes += len as u64;
            file.progress = progress;
            file.container = Some(container);
            if begins {
                file.part_micros = start;
            }
            self.status.bytes += len as u64;
            self.dropping = false;
            file.missing = 0;
            file.appends += 1;
            self.doubtful &= file.appends < APPENDS_WITHOUT_NEWS;
        } else {
            self.refused(gops, len as u64);
            if file.bytes == 0 {
                // Its beginning is lost, on which all its times rest: what comes begins another. Whoever finishes it lets it go.
                let _ = disk(DiskOrder { tag: file.tag, action: Action::Finish });
                return;
            }
            file.missing += gops;
            file.container = Some(before);
        }
        self.file = Some(file);
    }

    fn main_track(&self) -> Option<TrackId> {
        self.tracks.first(TrackKind::Video).or(self.tracks.first(TrackKind::Audio)).map(|track| track.id)
    }

    /// How many GOPs are gathered, begun ones included.
    fn gops_of(&self, file: &Open) -> u64 {
        let main = self.main_track();
        let keys = file.pending.iter().filter(|frame| Some(frame.track) == main && frame.key).count() as u64;
        if self.tracks.has(TrackKind::Video) { keys.max(1) } else { 1 }
    }

    fn dropped(&mut self, gops: u64, bytes: u64) {
        self.status.gops_dropped += gops;
        self.status.bytes_dropped += bytes;
    }

    /// The disk is behind.
    fn refused(&mut self, gops: u64, bytes: u64) {
        self.dropped(gops, bytes);
        self.dropping = true;
        self.skipping = true;
    }

    fn close(&mut self, disk: &mut Disk<'_>) {
        if let Some(file) = self.file.take().filter(|file| file.begun.is_some()) {
            // The end of a file is always taken.
            let _ = disk(DiskOrder { tag: file.tag, action: Action::Finish });
        }
    }

    /// Nothing of the tracks can be written: until they change.
    fn give_up(&mut self, file: &Open, disk: &mut Disk<'_>) {
        if file.begun.is_some() {
            let _ = disk(DiskOrder { tag: file.tag, action: Action::Finish });
        }
        let why = format!("{} carries none of the stream's codecs", self.format().name());
        self.status.failures += 1;
        self.status.last_error = why;
        self.try_later(Stamp::MAX.before_millis(self.settings.plan.retry_ms));
    }

    fn try_later(&mut self, now: Stamp) {
        self.dropping = false;
        self.doubtful = true;
        self.retry = Some(now.after_millis(self.settings.plan.retry_ms));
    }
}

/// When a frame is shown, in microseconds from `base`.
fn shown(frame: &Frame, base: MediaTime) -> i64 {
    frame.dts.micros_since(base) + i64::from(frame.cts)
}

fn millis(millis: u64) -> i64 {
    i64::try_from(millis.saturating_mul(1000)).unwrap_or(i64::MAX)
}

/// Takes the gathered frames with how long each lasts: until the next of its track, else as long as the one before.
fn with_durations(
    pending: &mut Vec<Frame>,
    next: Option<&Frame>,
    base: MediaTime,
    lasted: &mut Vec<(TrackId, i64)>,
) -> Vec<(Frame, i64)> {
    let mut frames: Vec<(Frame, i64)> = pending.drain(..).map(|frame| (frame, 0)).collect();
    // From behind: the time of the next frame of each track.
    let mut following: Vec<(TrackId, MediaTime)> = next.map(|next| (next.track, next.dts)).into_iter().collect();
    let mut unknown: Vec<usize> = Vec::new();
    for at in (0..frames.len()).rev() {
        let (track, dts) = (frames[at].0.track, frames[at].0.dts);
        match following.iter_mut().find(|(id, _)| *id == track) {
            Some((_, later)) => {
                frames[at].1 = later.micros_since(dts).max(0);
                *later = dts;
            }
            None => {
                following.push((track, dts));
                unknown.push(at);
            }
        }
    }
    for at in unknown {
        let track = frames[at].0.track;
        let before = frames[..at].iter().rev().find(|(frame, _)| frame.track == track).map(|(_, duration)| *duration);
        let known = lasted.iter().find(|(id, _)| *id == track).map(|(_, duration)| *duration);
        frames[at].1 = before.or(known).unwrap_or(FRAME_MICROS);
    }
    for (frame, duration) in &mut frames {
        match lasted.iter_mut().find(|(id, _)| *id == frame.track) {
            Some((_, last)) => *last = *duration,
            None => lasted.push((frame.track, *duration)),
        }
        frame.dts = MediaTime::from_micros(frame.dts.micros_since(base).max(0));
    }
    frames
}

#[cfg(test)]
mod tests;
