//! The thread that puts recordings in order: finishes files, finds those of earlier runs, deletes what is too old or too much.
//!
//! A file is finished in steps of which each may be the last: fsync, sidecar file, rename, fsync of the folder, and only then goes
//! `.NAME.start`, which says that there is something to be done. Whoever finds one at the start does the rest ([`super::measure`] says how
//! much of the file is whole), a file at a time whenever there is no order. Retention is looked at every [`TEND_MS`] and after each file;
//! what cannot be deleted is left where it is. A panic costs the file at hand, not the thread.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::files::{self, named_by, part_of, sidecar_of, start_of};
use super::index::{Entry, EntryState, Index};
use super::retention::Retention;
use super::sidecar::{self, Recording};
use super::writer::Finished;
use super::{measure, order};
use crate::config::{Record, RecordFormat, WhenFull};
use crate::io::clock;
use crate::media::Stamp;

const TEND_MS: u64 = 5_000;
/// A larger file of an earlier run in which nothing is found is not taken for one without media.
const EMPTY_BYTES_MAX: u64 = 1024 * 1024;

/// Writer and control → keeper. Not bounded by itself: there is a beginning and an end for each file, and the control plane has few connections.
pub enum KeepOrder {
    /// A file is there; its path in the folder.
    Begun {
        path: String,
    },
    Finish(Finished),
    /// The writer has nothing more.
    End,
    /// Deletes a recording that is whole.
    Delete {
        id: String,
        reply: flume::Sender<Result<(), KeepError>>,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    #[error("it is still being recorded")]
    Busy,
    #[error("there is none")]
    NotFound,
    #[error("it cannot be deleted: {0}")]
    Io(#[from] io::Error),
}

pub(super) struct Keeper {
    record: Arc<Record>,
    index: Arc<Index>,
    tended: Option<Stamp>,
    /// Left over by earlier runs; and files of which not even the beginning is known.
    unfinished: Vec<PathBuf>,
    orphans: Vec<PathBuf>,
    /// Recordings of which it was said that they cannot be deleted.
    kept: HashSet<String>,
}

impl Keeper {
    pub fn new(record: Arc<Record>, index: Arc<Index>) -> Self {
        Keeper { record, index, tended: None, unfinished: Vec::new(), orphans: Vec::new(), kept: HashSet::new() }
    }

    /// Until the writer has ended.
    pub fn run(mut self, orders: &flume::Receiver<KeepOrder>) {
        contained("the folder's search", || self.search());
        loop {
            contained("retention", || self.tend());
            let limit = if self.unfinished.is_empty() && self.orphans.is_empty() { TEND_MS } else { 0 };
            match orders.recv_timeout(Duration::from_millis(limit)) {
                Ok(KeepOrder::End) | Err(flume::RecvTimeoutError::Disconnected) => return,
                Ok(order) => self.carry_out(order),
                Err(flume::RecvTimeoutError::Timeout) => {
                    if let Some(whole) = self.unfinished.pop() {
                        contained(&whole.display().to_string(), || self.go_on(&whole));
                    } else if let Some(whole) = self.orphans.pop() {
                        contained(&whole.display().to_string(), || self.adopt(&whole));
                    }
                }
            }
        }
    }

    fn carry_out(&mut self, order: KeepOrder) {
        match order {
            KeepOrder::Begun { path } => {
                contained(&path, || self.sync_start(&path));
            }
            KeepOrder::Finish(finished) => {
                let (path, recording) = (finished.path.clone(), finished.recording.clone());
                if !contained(&path, || self.finish(finished)) {
                    self.failed(path, recording, "the server failed to finish it: this is a fault in it".to_owned());
                }
            }
            KeepOrder::Delete { id, reply } => {
                contained(&id, || {
                    self.kept.remove(&id);
                    // Nobody may be waiting any more.
                    let _ = reply.try_send(self.delete(&id));
                });
            }
            KeepOrder::End => {}
        }
    }

    fn whole(&self, path: &str) -> PathBuf {
        self.record.folder.join(path)
    }

    /// What is not on the disk under its name is no recording.
    fn forget(&self, path: String) {
        self.index.remove(&Entry::new(path, EntryState::Whole, no_recording()).id);
    }

    /// It stays under its other name, in the list with what is wrong: the next start tries again.
    fn failed(&self, path: String, recording: Recording, error: String) {
        self.index.finish_failed(Entry::failed(path, recording, error));
    }

    // ---- finishing

    /// What is known of a file that was begun is to outlive a loss of power.
    fn sync_start(&self, path: &str) {
        let started = start_of(&self.whole(path));
        let synced = files::open(&started).and_then(|file| file.sync_all()).and_then(|()| files::sync_folder_of(&started));
        if let Err(error) = synced {
            log::warn!("{}: cannot be synced: {error}", started.display());
        }
    }

    fn finish(&mut self, Finished { file, path, mut recording }: Finished) {
        let result = self.put_in_order(&file, &path, &mut recording);
        drop(file);
        match result {
            Ok(true) => {
                let seconds = recording.duration_micros / 1_000_000;
                log::info!("{}: recorded {seconds} s, {} KiB as {path}", recording.stream, recording.bytes / 1024);
                self.index.put(Entry::new(path, EntryState::Whole, recording));
                self.tended = None;
            }
            Ok(false) => self.forget(path),
            Err(error) => {
                log::error!("{path}: cannot be finished: {error}");
                self.failed(path, recording, format!("it cannot be finished: {error}"));
            }
        }
    }

    /// `false`: there is nothing in it, and it is gone.
    fn put_in_order(&self, file: &File, path: &str, recording: &mut Recording) -> io::Result<bool> {
        let whole = self.whole(path);
        let (part, started) = (part_of(&whole), start_of(&whole));
        if recording.bytes == 0 {
            files::remove(&part)?;
            files::remove(&started)?;
            return Ok(false);
        }
        file.sync_all()?;
        let is_rewritten = recording.format == RecordFormat::Mp4 && self.faststart(file, &whole, recording);
        if recording.format == RecordFormat::Hls {
            order::write_playlist(recording, &whole)?;
        }
        sidecar::write(&sidecar_of(&whole), recording)?;
        if is_rewritten {
            fs::remove_file(&part)?
        } else {
            fs::rename(&part, &whole)?
        }
        files::sync_folder_of(&whole)?;
        fs::remove_file(&started)?;
        Ok(true)
    }

    /// `false`: it stays as it was recorded, which is playable too.
    fn faststart(&self, part: &File, whole: &Path, recording: &mut Recording) -> bool {
        match order::faststart(part, whole) {
            Ok(bytes) => recording.bytes = bytes,
            Err(error) => {
                log::warn!("{}: stays fragmented: {error}", whole.display());
                recording.format = RecordFormat::Fmp4;
            }
        }
        recording.format == RecordFormat::Mp4
    }

    // ---- the start

    /// Finds all recordings of earlier runs, and what they have not finished.
    fn search(&mut self) {
        let begun = UNIX_EPOCH + Duration::from_nanos(clock::epoch_nanos());
        let is_old = |path: &Path| path.symlink_metadata().and_then(|found| found.modified()).is_ok_and(|when| when < begun);
        // Links are not followed, so there is an end to the folders.
        let mut folders = vec![self.record.folder.clone()];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for entry in entries.flatten() {
                let path = entry.path();
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => folders.push(path),
                    Ok(kind) if kind.is_file() => {
                        if let Some(whole) = named_by(&path, ".start") {
                            self.unfinished.push(whole);
                        } else if let Some(whole) = named_by(&path, ".part") {
                            if is_old(&path) && !files::is_file(&start_of(&whole)) {
                                self.orphans.push(whole);
                            }
                        } else if named_by(&path, ".new").is_some() {
                            // This run may be writing one.
                            if is_old(&path) {
                                drop(fs::remove_file(&path));
                            }
                        } else {
                            self.found(&path);
                        }
                    }
                    _ => {}
                }
            }
        }
        let (count, bytes) = self.index.size();
        if count > 0 {
            log::info!("{count} recordings, {} MiB in {}", bytes / (1024 * 1024), self.record.folder.display());
        }
    }

    /// A sidecar file with what it belongs to makes an entry.
    fn found(&self, sidecar: &Path) {
        let is_hidden = sidecar.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if is_hidden || sidecar.extension().is_none_or(|extension| extension != "json") {
            return;
        }
        let whole = sidecar.with_extension("");
        if files::is_file(&start_of(&whole)) || !files::is_file(&whole) {
            return;
        }
        match (sidecar::read(sidecar), self.relative(&whole)) {
            (Ok(recording), Some(path)) => self.index.put(Entry::new(path, EntryState::Whole, recording)),
            (Err(error), _) => log::warn!("{}: cannot be understood: {error}", sidecar.display()),
            (Ok(_), None) => {}
        }
    }

    fn relative(&self, whole: &Path) -> Option<String> {
        whole.strip_prefix(&self.record.folder).ok()?.to_str().map(str::to_owned)
    }

    /// Finishes a file of an earlier run.
    fn go_on(&mut self, whole: &Path) {
        let Some(path) = self.relative(whole) else { return };
        // What this run writes is in the index before it is on the disk, until it is finished.
        let id = Entry::new(path.clone(), EntryState::Whole, no_recording()).id;
        if self.index.get(&id).is_some() || !files::is_file(&start_of(whole)) {
            return;
        }
        if let Err(error) = self.recover(whole, path.clone()) {
            log::error!("{}: cannot be recovered: {error}", whole.display());
            let recording = sidecar::read(&start_of(whole)).unwrap_or_else(|_| no_recording());
            self.failed(path, recording, format!("it cannot be recovered: {error}"));
        }
    }

    /// A file of an earlier run of which nothing is known. What has no media goes; the rest is listed, so that somebody may look into it.
    fn adopt(&mut self, whole: &Path) {
        let (Some(path), part) = (self.relative(whole), part_of(whole)) else { return };
        let id = Entry::new(path.clone(), EntryState::Whole, no_recording()).id;
        let found = files::open(&part).and_then(|file| {
            let measured = measure::measure(format_of(whole), &file)?;
            let modified = file.metadata()?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            Ok((measured, modified, file.metadata()?.len()))
        });
        let has_started = files::is_file(&start_of(whole)) || self.index.get(&id).is_some();
        match found {
            _ if has_started => {}
            Ok((measured, ..)) if measured.bytes == 0 => {
                log::info!("{}: deleted, nothing was recorded in it", part.display());
                drop(fs::remove_file(&part));
            }
            Ok((measured, modified, bytes)) => {
                let end_micros = i64::try_from(modified.as_micros()).unwrap_or(i64::MAX);
                let start_micros = end_micros.saturating_sub(measured.progress.duration_micros);
                let cut = Recording { format: format_of(whole), start_micros, bytes, cut_short: true, ..no_recording() };
                let mut recording = cut;
                recording.set_progress(measured.progress);
                log::warn!("{}: nothing says of which stream it is; it is left as it is", part.display());
                self.failed(
                    path,
                    recording,
                    "nothing says of which stream it is; its time is that of its last change".to_owned(),
                );
            }
            Err(error) => log::warn!("{}: cannot be read: {error}", part.display()),
        }
    }

    /// The process that wrote it did not end it.
    fn recover(&mut self, whole: &Path, path: String) -> io::Result<()> {
        let (part, started) = (part_of(whole), start_of(whole));
        let mut recording = match sidecar::read(&started) {
            // Power was lost before anything was on the disk.
            Err(_) if !files::is_file(whole) && part.symlink_metadata().map_or(0, |found| found.len()) == 0 => {
                files::remove(&part)?;
                return files::remove(&started);
            }
            read => read?,
        };
        if !files::is_file(&part) && files::is_file(whole) {
            // Only its last step is missing.
            fs::rename(whole, &part)?;
        }
        if !files::is_file(&part) {
            return fs::remove_file(&started);
        }
        let file = files::open_to_write(&part)?;
        let measured = measure::measure(recording.format, &file)?;
        if measured.bytes == 0 && file.metadata()?.len() > EMPTY_BYTES_MAX {
            return Err(io::Error::other("nothing in it can be read; it is left as it is"));
        }
        file.set_len(measured.bytes)?;
        recording.bytes = measured.bytes;
        recording.set_progress(measured.progress);
        recording.parts = measured.parts;
        // If it had come to that file, only the last steps are missing.
        recording.cut_short = sidecar::read(&sidecar_of(whole)).map_or(true, |ended| ended.cut_short);
        log::info!("{path}: was not ended; it has {} ms", measured.progress.duration_micros / 1000);
        self.finish(Finished { file, path, recording });
        Ok(())
    }

    // ---- retention

    fn delete(&self, id: &str) -> Result<(), KeepError> {
        let entry = self.index.get(id).ok_or(KeepError::NotFound)?;
        if matches!(entry.state, EntryState::Recording | EntryState::Finishing) {
            return Err(KeepError::Busy);
        }
        let whole = self.whole(&entry.path);
        if entry.state == EntryState::Failed {
            files::remove(&part_of(&whole))?;
            files::remove(&start_of(&whole))?;
        }
        files::remove(&whole)?;
        if entry.recording.format == RecordFormat::Hls {
            drop(fs::remove_file(whole.with_extension("m3u8")));
        }
        files::remove(&sidecar_of(&whole))?;
        self.index.remove(id);
        // The folder of a day may be empty now; one that is not stays.
        let folders = whole.ancestors().skip(1).take_while(|folder| *folder != self.record.folder.as_path());
        for folder in folders {
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Deletes what is too old, or too much.
    fn tend(&mut self) {
        let now = clock::now();
        if self.tended.is_some_and(|tended| now.millis_since(tended) < TEND_MS) {
            return;
        }
        self.tended = Some(now);
        let whole = self.index.whole();
        let mut retention = Retention::new(&self.record, &whole);
        for oldest in &whole {
            let Some(why) = self.too_much(oldest, &retention) else { continue };
            match self.delete(&oldest.id) {
                Ok(()) => {
                    self.kept.remove(&oldest.id);
                    retention.deleted(oldest);
                    log::info!("{}: deleted, {why}", oldest.path);
                }
                // Others may go.
                Err(error) if self.kept.insert(oldest.id.clone()) => {
                    log::warn!("{}: should go, {why}, but {error}", oldest.path);
                }
                Err(_) => {}
            }
        }
    }

    fn too_much(&self, oldest: &Entry, retention: &Retention<'_>) -> Option<&'static str> {
        let Record { total_bytes_max, free_bytes_min, when_full, .. } = *self.record;
        let keep_ms = retention.keep_ms(oldest);
        let now = i64::try_from((clock::epoch_nanos() + clock::now().as_nanos()) / 1_000).unwrap_or(i64::MAX);
        let age_ms = now.saturating_sub(oldest.recording.end_micros()) / 1_000;
        if keep_ms > 0 && age_ms > i64::try_from(keep_ms).unwrap_or(i64::MAX) {
            return Some("its keep_ms is over");
        }
        if retention.is_over(oldest) {
            return Some("total_bytes_max of its rule is reached");
        }
        if total_bytes_max > 0 && self.index.size().1 > total_bytes_max {
            return Some("record.total_bytes_max is reached");
        }
        // Some more than the bound, so that recordings need not stop first.
        let wanted = free_bytes_min.saturating_add(free_bytes_min / 8);
        let is_low = || files::free_bytes(&self.record.folder).is_ok_and(|free| free < wanted);
        (when_full == WhenFull::DeleteOldest && is_low()).then_some("record.free_bytes_min is reached")
    }
}

/// Does something; `false`: it panicked, which is a fault of ours and costs what it was about, not the thread.
fn contained(what: &str, step: impl FnOnce()) -> bool {
    let is_done = catch_unwind(AssertUnwindSafe(step)).is_ok();
    if !is_done {
        log::error!("{what}: the keeper of recordings panicked; it goes on with the next");
    }
    is_done
}

/// The format of a file whose name alone is known.
fn format_of(whole: &Path) -> RecordFormat {
    match whole.extension().and_then(|extension| extension.to_str()) {
        Some("flv") => RecordFormat::Flv,
        Some("ts") => RecordFormat::Ts,
        _ => RecordFormat::Fmp4,
    }
}

/// For an id alone.
fn no_recording() -> Recording {
    Recording {
        stream: String::new(),
        format: RecordFormat::Fmp4,
        start_micros: 0,
        duration_micros: 0,
        bytes: 0,
        frames: 0,
        tracks: Vec::new(),
        parts: Vec::new(),
        keep_ms: None,
        cut_short: false,
        gops_dropped: 0,
    }
}
