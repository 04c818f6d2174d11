//! The thread that creates files and appends to them.
//!
//! It does nothing that takes long on a healthy disk: no fsync, no copying; what has begun and what has ended goes to the keeper. An error ends the file with
//! what it has, cut back to the last whole append, and is told to the recorder once; what is still queued for that file is let go. How much
//! room there is is looked at every [`ROOM_MS`]. Names that are taken get a number. A panic costs the file at hand, not the thread.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use super::files;
use super::index::{Entry, EntryState, Index};
use super::keeper::KeepOrder;
use super::queue::Ordered;
use super::sidecar::{self, Part, Recording};
use crate::config::{Record, RecordFormat};
use crate::io::clock;
use crate::media::Stamp;
use crate::protocol::record::{Action, Append, DiskNews, DiskOrder, FileStart, FileTag};

const ROOM_MS: u64 = 500;
/// So many files of one name.
const NAMES_MAX: u32 = 1_000;

/// A file that gets no more bytes.
pub struct Finished {
    pub file: File,
    /// Relative to the folder.
    pub path: String,
    pub recording: Recording,
}

struct Open {
    file: File,
    path: String,
    recording: Recording,
}

pub(super) struct Writer {
    record: Arc<Record>,
    index: Arc<Index>,
    keeper: flume::Sender<KeepOrder>,
    tell: Box<dyn Fn(DiskNews) + Send>,
    files: HashMap<FileTag, Open>,
    /// When it was looked how much room there is, and what is wrong with that.
    looked: Option<Stamp>,
    no_room: Option<String>,
}

impl Writer {
    pub fn new(
        record: Arc<Record>,
        index: Arc<Index>,
        keeper: flume::Sender<KeepOrder>,
        tell: Box<dyn Fn(DiskNews) + Send>,
    ) -> Self {
        Writer { record, index, keeper, tell, files: HashMap::new(), looked: None, no_room: None }
    }

    /// Until nobody is left to give orders.
    pub fn run(mut self, ordered: &Ordered) {
        while let Some((order, bytes)) = ordered.next() {
            let tag = order.tag;
            if catch_unwind(AssertUnwindSafe(|| self.carry_out(order))).is_err() {
                self.panicked(tag);
            }
            ordered.done(bytes);
        }
        let left: Vec<FileTag> = self.files.keys().copied().collect();
        left.into_iter().for_each(|tag| self.finish(tag, false));
        let _ = self.keeper.send(KeepOrder::End);
    }

    fn carry_out(&mut self, DiskOrder { tag, action }: DiskOrder) {
        match action {
            Action::Create(start) => {
                if let Err(why) = self.create(tag, &start) {
                    self.failed(tag, &start.stream.to_string(), why);
                }
            }
            Action::Append(append) => self.append(tag, &append),
            Action::Finish => self.finish(tag, false),
        }
    }

    fn create(&mut self, tag: FileTag, start: &FileStart) -> Result<(), String> {
        let folder = &self.record.folder;
        fs::create_dir_all(folder).map_err(|error| format!("cannot make the folder {}: {error}", folder.display()))?;
        self.check_room()?;
        let (path, file) = self.create_file(start).map_err(|error| format!("cannot create {}: {error}", start.path))?;
        let recording = Recording::begun(start);
        self.index.put(Entry::new(path.clone(), EntryState::Recording, recording.clone()));
        let started = files::start_of(&self.record.folder.join(&path));
        if let Err(error) = sidecar::write_quickly(&started, &recording) {
            self.index.remove(&Entry::new(path.clone(), EntryState::Recording, recording).id);
            drop(fs::remove_file(files::part_of(&self.record.folder.join(&path))));
            return Err(format!("cannot write {}: {error}", started.display()));
        }
        // The keeper lives as long as this thread.
        let _ = self.keeper.send(KeepOrder::Begun { path: path.clone() });
        self.files.insert(tag, Open { file, path, recording });
        Ok(())
    }

    /// The file, under the first name that is free.
    fn create_file(&self, start: &FileStart) -> io::Result<(String, File)> {
        for number in 1..=NAMES_MAX {
            let suffix = if number == 1 { String::new() } else { format!("-{number}") };
            let path = format!("{}{suffix}.{}", start.path, start.format.extension());
            let whole = self.record.folder.join(&path);
            if let Some(folder) = whole.parent() {
                fs::create_dir_all(folder)?;
            }
            let is_taken = |path: &PathBuf| path.symlink_metadata().is_ok();
            let playlist = whole.with_extension("m3u8");
            if is_taken(&whole)
                || is_taken(&files::start_of(&whole))
                || (start.format == RecordFormat::Hls && is_taken(&playlist))
            {
                continue;
            }
            match files::create(&files::part_of(&whole)) {
                Ok(file) => return Ok((path, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Whether there is room to write.
    fn check_room(&mut self) -> Result<(), String> {
        let now = clock::now();
        if self.looked.is_none_or(|looked| now.millis_since(looked) >= ROOM_MS) {
            self.looked = Some(now);
            let least = self.record.free_bytes_min;
            self.no_room = match files::free_bytes(&self.record.folder) {
                Ok(free) if free < least => {
                    Some(format!("{free} bytes are free on the disk, less than record.free_bytes_min ({least})"))
                }
                Ok(_) => None,
                Err(error) => Some(format!("{}: {error}", self.record.folder.display())),
            };
        }
        self.no_room.clone().map_or(Ok(()), Err)
    }

    fn append(&mut self, tag: FileTag, append: &Append) {
        if !self.files.contains_key(&tag) {
            // Its recorder may not have heard.
            return (self.tell)(DiskNews { tag, failed: "the file was ended by an error".to_owned() });
        }
        let room = self.check_room();
        let Some(open) = self.files.get_mut(&tag) else { return };
        let good = open.recording.bytes;
        let written = room.and_then(|()| {
            let error = match files::write_all(&mut open.file, &append.parts) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            // What is there of this append is of no use.
            let cut = open.file.set_len(good);
            Err(format!("cannot write {}: {error}{}", open.path, if cut.is_err() { ", nor cut it" } else { "" }))
        });
        match written {
            Ok(()) => {
                let recording = &mut open.recording;
                if append.begins && recording.format == RecordFormat::Hls {
                    let ended = if good == 0 { 0 } else { recording.duration_micros };
                    let start_micros = append.resumes_micros.map_or(ended, |micros| micros.max(ended));
                    recording.parts.push(Part { offset: good, start_micros, hole_micros: start_micros - ended });
                }
                recording.bytes += append.len as u64;
                recording.set_progress(append.progress);
                self.index.put(Entry::new(open.path.clone(), EntryState::Recording, recording.clone()));
            }
            Err(why) => {
                let stream = open.recording.stream.clone();
                self.finish(tag, true);
                self.failed(tag, &stream, why);
            }
        }
    }

    fn finish(&mut self, tag: FileTag, cut_short: bool) {
        let Some(Open { file, path, mut recording }) = self.files.remove(&tag) else { return };
        recording.cut_short = cut_short;
        self.index.put(Entry::new(path.clone(), EntryState::Finishing, recording.clone()));
        let _ = self.keeper.send(KeepOrder::Finish(Finished { file, path, recording }));
    }

    /// A fault of ours: the file has what it has.
    fn panicked(&mut self, tag: FileTag) {
        let stream = self.files.get(&tag).map_or_else(String::new, |open| open.recording.stream.clone());
        self.finish(tag, true);
        self.failed(tag, &stream, "the server failed to write it: this is a fault in it".to_owned());
    }

    fn failed(&self, tag: FileTag, stream: &str, failed: String) {
        log::warn!("{stream}: not recorded: {failed}");
        (self.tell)(DiskNews { tag, failed });
    }
}
