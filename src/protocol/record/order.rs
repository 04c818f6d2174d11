//! What a recorder wants from the disk, and what it hears from it.
//!
//! A file is created, appended to and finished, in that order, by [`DiskOrder`]s that may be refused while the disk is behind. Whoever
//! carries them out keeps the last [`Progress`], so a file whose end never comes can be closed with what is known of it.

use bytes::Bytes;

use crate::config::RecordFormat;
use crate::media::Tracks;
use crate::session::StreamKey;

/// Names one file while it is written: unique in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileTag {
    pub shard: u16,
    /// Which of the shard's recorders.
    pub recorder: u64,
    /// Which of its files.
    pub file: u32,
}

#[derive(Debug)]
pub struct DiskOrder {
    pub tag: FileTag,
    pub action: Action,
}

#[derive(Debug)]
pub enum Action {
    Create(Box<FileStart>),
    Append(Append),
    Finish,
}

/// What is known of a file when it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct FileStart {
    pub stream: StreamKey,
    pub format: RecordFormat,
    /// Relative to the folder, without its ending.
    pub path: String,
    /// Wall-clock time of the file's beginning, in microseconds since 1970.
    pub start_micros: i64,
    /// How long after its end it is deleted; 0: never; `None`: as the configuration has it then.
    pub keep_ms: Option<u64>,
    pub tracks: Tracks,
}

/// The next bytes of a file.
#[derive(Debug)]
pub struct Append {
    pub parts: Vec<Bytes>,
    /// Sum of the lengths of `parts`.
    pub len: usize,
    /// With them a part of the file begins that can be played by itself.
    pub begins: bool,
    /// Something is missing in front of them: where in the file they begin, in microseconds.
    pub resumes_micros: Option<i64>,
    /// Of the file, these bytes included.
    pub progress: Progress,
}

/// How much of a stream a file has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub duration_micros: i64,
    /// Frames of the picture; of the sound if there is no picture.
    pub frames: u64,
    /// Left out inside of the file, because the disk was behind.
    pub gops_dropped: u64,
}

/// Disk → recorder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskNews {
    pub tag: FileTag,
    /// Why the file is over; reads as one sentence.
    pub failed: String,
}
