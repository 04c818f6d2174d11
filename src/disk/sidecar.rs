//! What is known of a recording, as JSON in a file beside it: `NAME.json`, and `.NAME.start` while it is written.

use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::files;
use crate::config::RecordFormat;
use crate::media::codec_string::codec_string;
use crate::media::{Track, TrackKind, TrackShape};
use crate::protocol::record::{FileStart, Progress};

/// A larger file is not ours.
const SIDECAR_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// One recording. Times are microseconds; `start_micros` since 1970.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recording {
    pub stream: String,
    pub format: RecordFormat,
    pub start_micros: i64,
    pub duration_micros: i64,
    pub bytes: u64,
    pub frames: u64,
    pub tracks: Vec<RecordedTrack>,
    /// Of HLS: the parts that the playlist names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// How long after its end it is deleted, where the operator wished so; 0: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_ms: Option<u64>,
    /// Its end is missing: the process was killed, or the disk failed.
    #[serde(default)]
    pub cut_short: bool,
    /// Left out inside of it, because the disk was behind.
    #[serde(default)]
    pub gops_dropped: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RecordedTrack {
    pub kind: String,
    pub codec: String,
    /// As RFC 6381 names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codec_string: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_rate: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<u8>,
}

/// A part of a file that can be played by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub offset: u64,
    /// Where it begins in the recording.
    pub start_micros: i64,
    /// For how long nothing was recorded in front of it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hole_micros: i64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde calls it.
fn is_zero(micros: &i64) -> bool {
    *micros == 0
}

impl Recording {
    /// One that has just begun.
    pub fn begun(start: &FileStart) -> Self {
        let media = start.tracks.iter().filter(|track| track.codec.kind() != TrackKind::Data);
        Recording {
            stream: start.stream.to_string(),
            format: start.format,
            start_micros: start.start_micros,
            duration_micros: 0,
            bytes: 0,
            frames: 0,
            tracks: media.map(RecordedTrack::from).collect(),
            parts: Vec::new(),
            keep_ms: start.keep_ms,
            cut_short: false,
            gops_dropped: 0,
        }
    }

    pub fn set_progress(&mut self, progress: Progress) {
        self.duration_micros = progress.duration_micros;
        self.frames = progress.frames;
        self.gops_dropped = progress.gops_dropped;
    }

    pub fn end_micros(&self) -> i64 {
        self.start_micros.saturating_add(self.duration_micros)
    }
}

impl From<&Track> for RecordedTrack {
    fn from(track: &Track) -> Self {
        let known = |number: u32| (number != 0).then_some(number);
        let kind = if track.codec.kind() == TrackKind::Video { "video" } else { "audio" };
        let plain = RecordedTrack {
            kind: kind.to_owned(),
            codec: track.codec.name().to_owned(),
            codec_string: codec_string(track),
            ..RecordedTrack::default()
        };
        match track.shape {
            TrackShape::Video { width, height, .. } => RecordedTrack { width: known(width), height: known(height), ..plain },
            TrackShape::Audio { sample_rate, channels } => {
                RecordedTrack { sample_rate: known(sample_rate), channels: (channels != 0).then_some(channels), ..plain }
            }
            TrackShape::Data => plain,
        }
    }
}

/// Reads a sidecar file.
pub(super) fn read(path: &Path) -> io::Result<Recording> {
    let mut text = Vec::new();
    files::open(path)?.take(SIDECAR_BYTES_MAX).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// Writes a sidecar file, whole or not at all.
pub(super) fn write(path: &Path, recording: &Recording) -> io::Result<()> {
    files::replace(path, &serde_json::to_vec(recording)?, true)
}

/// Writes it without waiting for the disk: whoever has the time syncs it.
pub(super) fn write_quickly(path: &Path, recording: &Recording) -> io::Result<()> {
    files::replace(path, &serde_json::to_vec(recording)?, false)
}
