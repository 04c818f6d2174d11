//! The section `record`: which streams are written to disk, how, and what must hold of that.
//!
//! Not here: what a name becomes as a path (`protocol/record/path.rs`), and the writing (`disk/`).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::validate::Problem;
use super::{Config, Invalid};

const MIB: u64 = 1024 * 1024;
const DAY_MS: u64 = 86_400_000;
/// A hundred years.
const KEEP_MS_MAX: u64 = 36_525 * DAY_MS;
const BYTES_MAX: u64 = 1 << 60;
/// What may stand in braces in `record.path`.
const PLACEHOLDERS: [&str; 6] = ["app", "name", "date", "time", "year", "month"];
/// What a name must have so that those of one stream differ.
const NEEDED: &str = "{time}";

/// How a stream is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordFormat {
    Flv,
    /// Fragmented MP4, readable at any moment.
    #[default]
    Fmp4,
    /// Fragmented while it is written, then put in order with its index in front.
    Mp4,
    Ts,
    /// A transport stream and a playlist of its parts.
    Hls,
}

impl RecordFormat {
    pub const fn name(self) -> &'static str {
        match self {
            RecordFormat::Flv => "flv",
            RecordFormat::Fmp4 => "fmp4",
            RecordFormat::Mp4 => "mp4",
            RecordFormat::Ts => "ts",
            RecordFormat::Hls => "hls",
        }
    }

    /// What the names of its files end with.
    pub const fn extension(self) -> &'static str {
        match self {
            RecordFormat::Flv => "flv",
            RecordFormat::Fmp4 | RecordFormat::Mp4 => "mp4",
            RecordFormat::Ts | RecordFormat::Hls => "ts",
        }
    }
}

/// What is done when less than `record.free_bytes_min` is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Recordings stop, and go on when there is room again.
    #[default]
    Stop,
    /// The oldest recordings are deleted.
    DeleteOldest,
}

/// Streams that are recorded whenever they are there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordRule {
    /// Patterns of `app/name`.
    pub streams: Vec<String>,
    /// `None`: that of the section.
    #[serde(default)]
    pub format: Option<RecordFormat>,
}

/// Recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Record {
    pub rules: Vec<RecordRule>,
    pub format: RecordFormat,
    pub folder: PathBuf,
    /// Where in the folder a file goes: components with placeholders.
    pub path: String,
    /// A killed process loses so much at most.
    pub fragment_ms: u64,
    /// A file is ended at the next keyframe when it is so long, or so large; 0: never.
    pub split_ms: u64,
    pub split_bytes: u64,
    /// What waits for the disk in the whole process. Over it GOPs are dropped.
    pub queue_bytes_max: usize,
    /// How long after an error recording is tried again.
    pub retry_ms: u64,
    /// Recordings that ended so long ago are deleted; 0: none.
    pub keep_ms: u64,
    /// Over it the oldest recordings are deleted; 0: no limit.
    pub total_bytes_max: u64,
    pub free_bytes_min: u64,
    pub when_full: WhenFull,
}

impl Default for Record {
    fn default() -> Self {
        Record {
            rules: Vec::new(),
            format: RecordFormat::Fmp4,
            folder: "recordings".into(),
            path: "{app}/{name}/{date}/{time}".to_owned(),
            fragment_ms: 1_000,
            split_ms: 3_600_000,
            split_bytes: 0,
            queue_bytes_max: 64 * 1024 * 1024,
            retry_ms: 5_000,
            keep_ms: 0,
            total_bytes_max: 0,
            free_bytes_min: 512 * 1024 * 1024,
            when_full: WhenFull::Stop,
        }
    }
}

impl Record {
    /// The ranges of its numbers.
    pub(super) fn ranges(&self) -> [(&'static str, u64, u64, u64); 8] {
        [
            ("record.fragment_ms", self.fragment_ms, 100, 60_000),
            ("record.split_ms", self.split_ms, 0, 7 * DAY_MS),
            ("record.split_bytes", self.split_bytes, 0, BYTES_MAX),
            ("record.queue_bytes_max", self.queue_bytes_max as u64, MIB, 64 * 1024 * MIB),
            ("record.retry_ms", self.retry_ms, 100, 3_600_000),
            ("record.keep_ms", self.keep_ms, 0, KEEP_MS_MAX),
            ("record.total_bytes_max", self.total_bytes_max, 0, BYTES_MAX),
            ("record.free_bytes_min", self.free_bytes_min, 0, BYTES_MAX),
        ]
    }
}

impl Config {
    /// Whether anything can be recorded: by a rule, or because the API is asked to.
    pub(super) fn may_record(&self) -> bool {
        !self.record.rules.is_empty() || !self.control.listen.is_empty()
    }

    /// What the ranges do not say.
    pub(super) fn check_record(&self) -> Result<(), Invalid> {
        let section = &self.record;
        if let Some(problem) = path_problem(&section.path) {
            return Err(Invalid { key: "record.path", problem });
        }
        if section.folder.as_os_str().is_empty() {
            return Err(Invalid { key: "record.folder", problem: Problem::NoFolder });
        }
        if section.rules.iter().any(|rule| rule.streams.is_empty()) {
            return Err(Invalid { key: "record.rules", problem: Problem::NoPattern });
        }
        Ok(())
    }
}

/// What is wrong with a template.
fn path_problem(path: &str) -> Option<Problem> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '{' | '}');
    for component in path.split('/') {
        if component.is_empty() || component.starts_with('.') || !component.chars().all(is_plain) {
            return Some(Problem::RecordPath(component.to_owned()));
        }
        let mut rest = component;
        while let Some(at) = rest.find(['{', '}']) {
            let behind = rest[at..].strip_prefix('{').and_then(|behind| behind.split_once('}'));
            match behind {
                Some((name, behind)) if PLACEHOLDERS.contains(&name) => rest = behind,
                _ => return Some(Problem::RecordPlaceholder(component.to_owned())),
            }
        }
    }
    (!path.contains(NEEDED)).then_some(Problem::RecordNoTime(NEEDED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_nowhere_else() {
        let cases = [
            ("{app}/{name}/{date}/{time}", true),
            ("{year}/{month}/{app}-{name}_{time}.x", true),
            ("{time}", true),
            ("{app}/{name}", false),
            ("/{time}", false),
            ("a//{time}", false),
            ("../{time}", false),
            (".{time}", false),
            ("{time}/", false),
            ("{Time}/{time}", false),
            ("{time", false),
            ("}{time}", false),
            ("{time}}", false),
            ("{{time}", false),
            ("a\\b/{time}", false),
            ("a b/{time}", false),
            ("ä/{time}", false),
            ("\0{time}", false),
            ("", false),
        ];
        for (path, good) in cases {
            assert_eq!(path_problem(path).is_none(), good, "{path:?}");
        }
    }
}
