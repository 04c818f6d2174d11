//! The thread that reads recordings for the control plane, a piece at a time: who reads slowly holds nothing up but its own connection.
//! A panic costs the question at hand, whose asker finds that no answer comes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::files;
use super::index::Entry;
use super::measure::FileSource;
use crate::config::RecordFormat;
use crate::format::mp4::demux::{self, Movie};
use crate::format::mp4::file::{FileError, Piece, SourceRange, plan, trim};

/// Questions that wait.
pub const READS_MAX: usize = 256;
/// The most that is read for one question.
pub const READ_BYTES_MAX: usize = 512 * 1024;
/// Files of one export.
pub const EXPORT_FILES_MAX: usize = 256;
/// Frames of one export: fifteen hours of 25 pictures and 50 pieces of sound a second. Each takes some 100 bytes while it is planned.
const EXPORT_SAMPLES_MAX: usize = 4 * 1024 * 1024;

/// Control → reader. A reply that nobody waits for any more is no fault.
pub enum ReadOrder {
    /// Opens a recording by its path in the folder, under the name of a finished file or of one that is written.
    Open { path: String, reply: flume::Sender<io::Result<Opened>> },
    /// Reads spans of files behind one another, [`READ_BYTES_MAX`] at most.
    Read { spans: Vec<Span>, reply: flume::Sender<io::Result<Bytes>> },
    /// Plans one MP4 of what the recordings have between two moments, in microseconds since 1970.
    Export { entries: Vec<Arc<Entry>>, from: i64, to: i64, reply: flume::Sender<Result<Exported, ExportError>> },
}

#[derive(Clone, Debug)]
pub struct Opened {
    pub file: Arc<File>,
    pub bytes: u64,
}

/// Some bytes of a file.
#[derive(Clone, Debug)]
pub struct Span {
    pub file: Arc<File>,
    pub offset: u64,
    pub len: u64,
}

/// A file that is not there yet: `head`, then the spans.
#[derive(Debug)]
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
    #[error("it is recorded as {0} there: only fmp4 and mp4 can be exported")]
    Format(&'static str),
    #[error("there are more than {EXPORT_FILES_MAX} files in the range: ask for a shorter range")]
    TooMany,
    #[error("there are more than {0} frames in the range: ask for a shorter range")]
    TooLong(usize),
    #[error(transparent)]
    Plan(#[from] FileError),
    #[error("{0}: {1}")]
    Read(String, io::Error),
}

pub(super) struct Reader {
    folder: PathBuf,
    export_samples_max: usize,
}

impl Reader {
    pub fn new(folder: PathBuf) -> Self {
        Reader { folder, export_samples_max: EXPORT_SAMPLES_MAX }
    }

    /// Until nobody asks any more.
    pub fn run(self, orders: &flume::Receiver<ReadOrder>) {
        for order in orders {
            if catch_unwind(AssertUnwindSafe(|| self.carry_out(order))).is_err() {
                log::error!("reading a recording panicked; the others are read on");
            }
        }
    }

    fn carry_out(&self, order: ReadOrder) {
        match order {
            ReadOrder::Open { path, reply } => {
                let _ = reply.try_send(self.open(&path));
            }
            ReadOrder::Read { spans, reply } => {
                let _ = reply.try_send(read(&spans));
            }
            ReadOrder::Export { entries, from, to, reply } => {
                let _ = reply.try_send(self.export(&entries, from, to));
            }
        }
    }

    fn open(&self, path: &str) -> io::Result<Opened> {
        let whole = self.folder.join(path);
        let file = files::open(&whole).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => files::open(&files::part_of(&whole)),
            _ => Err(error),
        })?;
        let bytes = file.metadata()?.len();
        Ok(Opened { file: Arc::new(file), bytes })
    }

    fn export(&self, entries: &[Arc<Entry>], from: i64, to: i64) -> Result<Exported, ExportError> {
        let chosen = choose(entries)?;
        let mut sources: Vec<(Arc<File>, Movie, i64)> = Vec::new();
        let mut samples = 0;
        for entry in chosen {
            let failed = |error| ExportError::Read(entry.path.clone(), error);
            let file = self.open(&entry.path).map_err(failed)?.file;
            let movie = FileSource::new(&file).and_then(|mut source| demux::read(&mut source).map_err(io::Error::other));
            let mut movie = movie.map_err(failed)?;
            let begins = movie.span_micros().map_or(0, |(begins, _)| begins);
            let shift = entry.recording.start_micros.saturating_sub(begins);
            trim(&mut movie, from.saturating_sub(shift), to.saturating_sub(shift));
            samples += movie.tracks.iter().map(|track| track.samples.len()).sum::<usize>();
            if samples > self.export_samples_max {
                return Err(ExportError::TooLong(self.export_samples_max));
            }
            sources.push((file, movie, shift));
        }
        let pieces: Vec<Piece<'_>> = sources
            .iter()
            .enumerate()
            .map(|(source, (_, movie, shift))| {
                let (from, to) = (from.saturating_sub(*shift), to.saturating_sub(*shift));
                Piece { movie, source, from, to, shift: *shift }
            })
            .collect();
        let plan = plan(&pieces)?;
        let span = |range: &SourceRange| Span { file: sources[range.source].0.clone(), offset: range.offset, len: range.len };
        Ok(Exported {
            spans: plan.ranges.iter().map(span).collect(),
            head: plan.head,
            len: plan.len,
            begin_micros: plan.begin_micros,
            duration_micros: plan.duration_micros,
        })
    }
}

/// Of recordings in order of their beginning those that make one file: a stream may be recorded in two formats at the same time.
fn choose(entries: &[Arc<Entry>]) -> Result<Vec<&Entry>, ExportError> {
    /// Files that follow one another may seem to overlap by so much.
    const OVERLAP_MICROS_MAX: i64 = 500_000;
    let is_mp4 = |entry: &&Arc<Entry>| matches!(entry.recording.format, RecordFormat::Fmp4 | RecordFormat::Mp4);
    let first = entries.first().ok_or(ExportError::Nothing)?;
    let mut chosen: Vec<&Entry> = Vec::new();
    for entry in entries.iter().filter(is_mp4) {
        let is_new = |last: &&Entry| entry.recording.start_micros >= last.recording.end_micros() - OVERLAP_MICROS_MAX;
        if entry.recording.bytes > 0 && chosen.last().is_none_or(is_new) {
            chosen.push(entry);
        }
    }
    match chosen.len() {
        0 => Err(ExportError::Format(first.recording.format.name())),
        1..=EXPORT_FILES_MAX => Ok(chosen),
        _ => Err(ExportError::TooMany),
    }
}

fn read(spans: &[Span]) -> io::Result<Bytes> {
    let wanted = spans.iter().map(|span| span.len).sum::<u64>().min(READ_BYTES_MAX as u64) as usize;
    let mut bytes = BytesMut::zeroed(wanted);
    let mut rest = &mut bytes[..];
    for span in spans {
        let some = rest.len().min(usize::try_from(span.len).unwrap_or(usize::MAX));
        let (now, later) = rest.split_at_mut(some);
        span.file.read_exact_at(now, span.offset)?;
        rest = later;
    }
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::tests::{Folder, Setup};

    #[test]
    fn the_frames_of_an_export_are_bounded_over_all_files() {
        let folder = Folder::new("export");
        let setup = Setup::new(&folder.0, |_| ());
        for second in [1, 3, 5] {
            setup.record(RecordFormat::Fmp4, second, second * 1_000, 2);
        }
        let entries = setup.end();
        // Two seconds have fifty pictures and fifty pieces of sound.
        for (samples_max, from, to, is_granted) in
            [(300, 0, 9, true), (299, 0, 9, false), (100, 1, 3, true), (100, 3, 5, true), (99, 3, 5, false), (50, 3, 4, true)]
        {
            let reader = Reader { export_samples_max: samples_max, ..Reader::new(folder.0.clone()) };
            let (from, to) = (from * 1_000_000, to * 1_000_000);
            let is_in = |entry: &&Arc<Entry>| entry.recording.end_micros() > from && entry.recording.start_micros < to;
            let entries: Vec<Arc<Entry>> = entries.iter().filter(is_in).cloned().collect();
            let exported = reader.export(&entries, from, to);
            let name = format!("{from} to {to}, {samples_max} frames: {:?}", exported.as_ref().err());
            assert_eq!(exported.is_ok(), is_granted, "{name}");
            assert!(is_granted || matches!(exported, Err(ExportError::TooLong(_))), "{name}");
        }
    }
}
