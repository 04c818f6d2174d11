//! The thread that plans one MP4 out of what recordings have between two moments, over as many files as it takes.
//!
//! fMP4 and MP4 are read where they are. FLV and transport streams are written anew first, as fragmented MP4 in a file without a name
//! ([`mod@convert`]), that goes with its last reader: only the wanted part, [`CONVERTED_BYTES_MAX`] at most, and only while there is room. The
//! newest such plan is kept for a minute, because who seeks asks again. Where codecs or their parameters change the answer is the ranges that can be had.
//! Limits: [`EXPORT_FILES_MAX`], [`EXPORT_SAMPLES_MAX`]. A panic costs the question at hand. Not here: sending it.

mod convert;
mod keys;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::convert::{begins, convert};
use super::files;
use super::index::Entry;
use super::measure::FileSource;
use super::reader::{Span, open};
use crate::config::{Record, RecordFormat};
use crate::format::mp4::demux::{self, Movie};
use crate::format::mp4::file::{FileError, Piece, SourceRange, plan, trim};
use crate::media::{Track, TrackKind};

/// Questions that wait.
pub const EXPORTS_MAX: usize = 8;
/// Files of one export.
pub const EXPORT_FILES_MAX: usize = 256;
/// Frames of one export: fifteen hours of 25 pictures and 50 pieces of sound a second. Each takes some 100 bytes while it is planned.
const EXPORT_SAMPLES_MAX: usize = 4 * 1024 * 1024;
/// What one export may write.
const CONVERTED_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// After so much more it is looked whether there is room.
const ROOM_BYTES: u64 = 64 * 1024 * 1024;
/// How long the newest plan is kept.
const KEEP_MS: u64 = 60_000;

/// Control → exporter. A reply that nobody waits for any more ends the work.
pub struct ExportOrder {
    pub entries: Vec<Arc<Entry>>,
    /// In microseconds since 1970.
    pub from: i64,
    pub to: i64,
    pub reply: flume::Sender<Result<Exported, ExportError>>,
}

/// A file that is not there yet: `head`, then the spans.
#[derive(Clone, Debug)]
pub struct Exported {
    pub head: Bytes,
    pub spans: Vec<Span>,
    pub len: u64,
    /// When it begins, in microseconds since 1970, and how long it is.
    pub begin_micros: i64,
    pub duration_micros: i64,
}

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("nothing is recorded there")]
    Nothing,
    #[error("there are more than {EXPORT_FILES_MAX} files in the range: ask for a shorter range")]
    TooMany,
    #[error("there are more than {0} frames in the range: ask for a shorter range")]
    TooLong(usize),
    #[error("there are more than {CONVERTED_BYTES_MAX} bytes in the range: ask for a shorter range")]
    TooLarge,
    /// Ranges in microseconds since 1970.
    #[error("codecs or their parameters change in the range: ask for one of its {} parts", .0.len())]
    Changes(Vec<(i64, i64)>),
    #[error("too little room is left on the disk: FLV and transport streams are written anew first")]
    NoRoom,
    #[error(transparent)]
    Plan(#[from] FileError),
    #[error("{0}: {1}")]
    Read(String, io::Error),
}

/// What was asked last.
type Question = (Vec<(String, u64)>, i64, i64);

pub(super) struct Exporter {
    record: Arc<Record>,
    samples_max: usize,
    newest: Option<(Question, Exported)>,
}

/// One file of an export.
struct Source {
    file: Arc<File>,
    movie: Movie,
    /// From the movie's times to those since 1970, in microseconds.
    shift: i64,
    span: (i64, i64),
}

impl Exporter {
    pub fn new(record: Arc<Record>) -> Self {
        Exporter { record, samples_max: EXPORT_SAMPLES_MAX, newest: None }
    }

    /// Until nobody asks any more.
    pub fn run(mut self, orders: &flume::Receiver<ExportOrder>) {
        loop {
            match orders.recv_timeout(Duration::from_millis(KEEP_MS)) {
                Ok(order) => {
                    if catch_unwind(AssertUnwindSafe(|| self.carry_out(&order))).is_err() {
                        log::error!("exporting a recording panicked; others are exported on");
                    }
                }
                Err(flume::RecvTimeoutError::Timeout) => self.newest = None,
                Err(flume::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn carry_out(&mut self, order: &ExportOrder) {
        let files = order.entries.iter().map(|entry| (entry.id.clone(), entry.recording.bytes)).collect();
        let question: Question = (files, order.from, order.to);
        if let Some((_, exported)) = self.newest.as_ref().filter(|(asked, _)| *asked == question) {
            let _ = order.reply.try_send(Ok(exported.clone()));
            return;
        }
        self.newest = None;
        let exported = self.export(&order.entries, (order.from, order.to), &|| !order.reply.is_disconnected());
        if let Ok(exported) = &exported {
            self.newest = Some((question, exported.clone()));
        }
        let _ = order.reply.try_send(exported);
    }

    fn export(
        &self,
        entries: &[Arc<Entry>],
        (from, to): (i64, i64),
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Exported, ExportError> {
        let mut sources: Vec<Source> = Vec::new();
        let (mut samples, mut written) = (0, 0);
        for entry in choose(entries)? {
            let source = match entry.recording.format {
                RecordFormat::Fmp4 | RecordFormat::Mp4 => self.read(entry, (from, to))?,
                _ => self.read_converted(entry, (from, to), &mut written, is_wanted)?,
            };
            samples += source.movie.tracks.iter().map(|track| track.samples.len()).sum::<usize>();
            if samples > self.samples_max {
                return Err(ExportError::TooLong(self.samples_max));
            }
            sources.push(source);
        }
        let pieces: Vec<Piece<'_>> = sources
            .iter()
            .enumerate()
            .map(|(number, Source { movie, shift, .. })| {
                let (from, to) = (from.saturating_sub(*shift), to.saturating_sub(*shift));
                Piece { movie, source: number, from, to, shift: *shift }
            })
            .collect();
        let plan = match plan(&pieces) {
            Err(FileError::DifferentTracks) => return Err(ExportError::Changes(parts(&sources, (from, to)))),
            plan => plan?,
        };
        let span = |range: &SourceRange| Span { file: sources[range.source].file.clone(), offset: range.offset, len: range.len };
        Ok(Exported {
            spans: plan.ranges.iter().map(span).collect(),
            head: plan.head,
            len: plan.len,
            begin_micros: plan.begin_micros,
            duration_micros: plan.duration_micros,
        })
    }

    /// A file that is one of ours as it is.
    fn read(&self, entry: &Entry, range: (i64, i64)) -> Result<Source, ExportError> {
        let failed = |error| ExportError::Read(entry.path.clone(), error);
        let file = open(&self.record.folder, &entry.path).map_err(failed)?.file;
        let movie = read_movie(&file).map_err(failed)?;
        let begins = movie.span_micros().map_or(0, |(begins, _)| begins);
        Ok(source(entry, file, movie, begins, range))
    }

    /// A file of which the wanted part is written anew.
    fn read_converted(
        &self,
        entry: &Entry,
        range: (i64, i64),
        written: &mut u64,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Source, ExportError> {
        let failed = |error| ExportError::Read(entry.path.clone(), error);
        let (folder, recording) = (&self.record.folder, &entry.recording);
        let file = open(folder, &entry.path).map_err(failed)?.file;
        let Some(begins) = begins(&file, recording.format).map_err(failed)? else { return Err(ExportError::Nothing) };
        let shift = recording.start_micros.saturating_sub(begins);
        let wanted = (range.0.saturating_sub(shift), range.1.saturating_sub(shift));
        // It has no name: whatever happens, nothing is left over.
        let nameless = OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE | libc::O_CLOEXEC).open(folder);
        let converted = nameless.map_err(failed)?;
        let (before, mut looked_at) = (*written, None);
        let mut refused = None;
        let mut goes_on = |bytes: u64| {
            *written = before + bytes;
            if looked_at.is_none_or(|looked_at| *written >= looked_at + ROOM_BYTES) {
                looked_at = Some(*written);
                let has_room = files::free_bytes(folder)? >= self.record.free_bytes_min.saturating_add(ROOM_BYTES);
                refused = refused.take().or((!has_room).then_some(ExportError::NoRoom));
            }
            if *written > CONVERTED_BYTES_MAX {
                refused = Some(ExportError::TooLarge);
            }
            if refused.is_none() && is_wanted() { Ok(()) } else { Err(io::ErrorKind::Interrupted.into()) }
        };
        let result = convert(&file, (recording.format, recording.tracks.len()), wanted, &converted, &mut goes_on);
        if let Some(refused) = refused {
            return Err(refused);
        }
        result.map_err(failed)?;
        let movie = match read_movie(&converted) {
            // Nothing of it is in the range.
            Err(_) if converted.metadata().map_err(failed)?.len() == 0 => Movie::default(),
            movie => movie.map_err(failed)?,
        };
        Ok(source(entry, Arc::new(converted), movie, begins, range))
    }
}

fn read_movie(file: &File) -> io::Result<Movie> {
    demux::read(&mut FileSource::new(file)?).map_err(io::Error::other)
}

/// `begins`: when the whole file's presentation begins.
fn source(entry: &Entry, file: Arc<File>, mut movie: Movie, begins: i64, (from, to): (i64, i64)) -> Source {
    let shift = entry.recording.start_micros.saturating_sub(begins);
    trim(&mut movie, from.saturating_sub(shift), to.saturating_sub(shift));
    Source { file, movie, shift, span: (entry.recording.start_micros, entry.recording.end_micros()) }
}

/// Of recordings in order of their beginning those that make one file. A stream may be recorded in several formats at the same time: those
/// that are read as they are go before others.
fn choose(entries: &[Arc<Entry>]) -> Result<Vec<&Entry>, ExportError> {
    /// Files that follow one another may seem to overlap by so much.
    const OVERLAP_MICROS_MAX: i64 = 500_000;
    let is_plain = |entry: &&Arc<Entry>| matches!(entry.recording.format, RecordFormat::Fmp4 | RecordFormat::Mp4);
    let overlaps = |a: &Entry, b: &Entry| {
        a.recording.start_micros < b.recording.end_micros() - OVERLAP_MICROS_MAX
            && b.recording.start_micros < a.recording.end_micros() - OVERLAP_MICROS_MAX
    };
    let mut chosen: Vec<&Entry> = Vec::new();
    let (plain, others): (Vec<_>, Vec<_>) = entries.iter().filter(|entry| entry.recording.bytes > 0).partition(is_plain);
    for entry in plain.into_iter().chain(others) {
        if !chosen.iter().any(|other| overlaps(entry, other)) {
            chosen.push(entry);
        }
    }
    chosen.sort_by_key(|entry| entry.recording.start_micros);
    match chosen.len() {
        0 => Err(ExportError::Nothing),
        1..=EXPORT_FILES_MAX => Ok(chosen),
        _ => Err(ExportError::TooMany),
    }
}

/// The ranges inside which nothing changes, to the millisecond, as those of a question are.
fn parts(sources: &[Source], (from, to): (i64, i64)) -> Vec<(i64, i64)> {
    let track_of = |source: &Source, kind| -> Option<Track> {
        source.movie.tracks.iter().find(|track| track.track.codec.kind() == kind).map(|track| track.track.clone())
    };
    let mut parts: Vec<(i64, i64)> = Vec::new();
    let mut known: [Option<Track>; 2] = [None, None];
    for source in sources {
        let own = [TrackKind::Video, TrackKind::Audio].map(|kind| track_of(source, kind));
        let differs = known.iter().zip(&own).any(|(known, own)| {
            let (Some(known), Some(own)) = (known, own) else { return false };
            known.codec != own.codec || known.config != own.config
        });
        if differs || parts.is_empty() {
            known = [None, None];
            // Sound may reach into what follows.
            let begin = parts.last().map_or(source.span.0, |(_, end)| source.span.0.max(*end)).max(from);
            if let Some((_, end)) = parts.last_mut() {
                *end = (*end).min(begin);
            }
            parts.push((begin, source.span.1.min(to)));
        } else if let Some((_, end)) = parts.last_mut() {
            *end = source.span.1.min(to);
        }
        for (known, own) in known.iter_mut().zip(own) {
            *known = known.take().or(own);
        }
    }
    let rounded = parts.into_iter().map(|(begin, end)| (begin.div_euclid(1_000) * 1_000 + 1_000, end.div_euclid(1_000) * 1_000));
    rounded.filter(|(begin, end)| begin < end).collect()
}
