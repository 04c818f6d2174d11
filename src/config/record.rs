//! The section `record`: which streams are written to disk, how, and what must hold of that.
//!
//! Not here: what a name becomes as a path (`protocol/record/path.rs`), and the writing (`disk/`).

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::validate::Problem;
use super::{Config, Invalid};

const MIB: u64 = 1024 * 1024;
const DAY_MS: u64 = 86_400_000;
/// A hundred years.
const KEEP_MS_MAX: u64 = 36_525 * DAY_MS;
const BYTES_MAX: u64 = 1 << 60;
const SPLIT_MS_MAX: u64 = 7 * DAY_MS;
const PRE_ROLL_MS_MAX: u64 = 600_000;
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

/// Streams that are recorded whenever they are there. What is `None` is as the section has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecordRule {
    /// Patterns of `app/name`.
    pub streams: Vec<String>,
    pub format: Option<RecordFormat>,
    pub path: Option<String>,
    pub split_ms: Option<u64>,
    pub split_bytes: Option<u64>,
    pub keep_ms: Option<u64>,
    /// Of the recordings of this rule; that of the section holds for all together.
    pub total_bytes_max: Option<u64>,
}

/// How the operator wants one stream to be recorded. What is `None` is as the section has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecordWish {
    pub format: Option<RecordFormat>,
    pub path: Option<String>,
    pub split_ms: Option<u64>,
    pub split_bytes: Option<u64>,
    pub keep_ms: Option<u64>,
    pub pre_roll_ms: Option<u64>,
}

/// How one stream is recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordPlan {
    pub format: RecordFormat,
    pub path: String,
    pub fragment_ms: u64,
    pub split_ms: u64,
    pub split_bytes: u64,
    pub retry_ms: u64,
    /// `None`: as rules or section have it when the time has come.
    pub keep_ms: Option<u64>,
    pub pre_roll_ms: u64,
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
    /// Of every stream so much is kept for a recording that the operator starts, whole GOPs; 0: the newest GOP.
    pub pre_roll_ms: u64,
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
            pre_roll_ms: 0,
            keep_ms: 0,
            total_bytes_max: 0,
            free_bytes_min: 512 * 1024 * 1024,
            when_full: WhenFull::Stop,
        }
    }
}

impl Record {
    /// The ranges of its numbers.
    pub(super) fn ranges(&self) -> [(&'static str, u64, u64, u64); 9] {
        [
            ("record.fragment_ms", self.fragment_ms, 100, 60_000),
            ("record.split_ms", self.split_ms, 0, SPLIT_MS_MAX),
            ("record.split_bytes", self.split_bytes, 0, BYTES_MAX),
            ("record.queue_bytes_max", self.queue_bytes_max as u64, MIB, 64 * 1024 * MIB),
            ("record.retry_ms", self.retry_ms, 100, 3_600_000),
            ("record.pre_roll_ms", self.pre_roll_ms, 0, PRE_ROLL_MS_MAX),
            ("record.keep_ms", self.keep_ms, 0, KEEP_MS_MAX),
            ("record.total_bytes_max", self.total_bytes_max, 0, BYTES_MAX),
            ("record.free_bytes_min", self.free_bytes_min, 0, BYTES_MAX),
        ]
    }

    /// How a stream of a rule is recorded.
    pub fn plan_of_rule(&self, rule: &RecordRule) -> RecordPlan {
        self.plan(&RecordWish {
            format: rule.format,
            path: rule.path.clone(),
            split_ms: rule.split_ms,
            split_bytes: rule.split_bytes,
            // What a rule keeps may change with the configuration.
            keep_ms: None,
            pre_roll_ms: None,
        })
    }

    /// How a stream is recorded that the operator wants.
    pub fn plan(&self, wish: &RecordWish) -> RecordPlan {
        RecordPlan {
            format: wish.format.unwrap_or(self.format),
            path: wish.path.clone().unwrap_or_else(|| self.path.clone()),
            fragment_ms: self.fragment_ms,
            split_ms: wish.split_ms.unwrap_or(self.split_ms),
            split_bytes: wish.split_bytes.unwrap_or(self.split_bytes),
            retry_ms: self.retry_ms,
            keep_ms: wish.keep_ms,
            // Without a wish as much as there is.
            pre_roll_ms: wish.pre_roll_ms.unwrap_or(u64::MAX),
        }
    }

    /// Whether the folder can be written to now, as far as that can be told without writing; else why not, for an operator.
    fn folder_warning(&self) -> Option<String> {
        let is_there = |path: &&Path| path.symlink_metadata().is_ok();
        let absolute = std::path::absolute(&self.folder).ok()?;
        let nearest = absolute.ancestors().find(is_there)?;
        let folder = self.folder.display();
        if !nearest.is_dir() {
            return Some(format!("record.folder: {folder} cannot be a folder: {} is none", nearest.display()));
        }
        let name = CString::new(nearest.as_os_str().as_bytes()).ok()?;
        // SAFETY: the path ends with a zero.
        if unsafe { libc::access(name.as_ptr(), libc::W_OK | libc::X_OK) } == 0 {
            return None;
        }
        let error = io::Error::last_os_error();
        let what = if nearest == absolute { "is not writable" } else { "cannot be made" };
        Some(format!("record.folder: {folder} {what}, so nothing can be recorded: {}: {error}", nearest.display()))
    }
}

impl RecordRule {
    /// Its name and what is wrong with it.
    fn problem(&self) -> Option<(&'static str, Problem)> {
        if self.streams.is_empty() {
            return Some(("streams", Problem::NoPattern));
        }
        let numbers = [
            ("split_ms", self.split_ms, SPLIT_MS_MAX),
            ("split_bytes", self.split_bytes, BYTES_MAX),
            ("keep_ms", self.keep_ms, KEEP_MS_MAX),
            ("total_bytes_max", self.total_bytes_max, BYTES_MAX),
        ];
        own_problem(self.path.as_deref(), &numbers)
    }
}

impl RecordWish {
    /// The name of a field that is not valid, and what is wrong with it.
    pub fn problem(&self) -> Option<(&'static str, Problem)> {
        let numbers = [
            ("split_ms", self.split_ms, SPLIT_MS_MAX),
            ("split_bytes", self.split_bytes, BYTES_MAX),
            ("keep_ms", self.keep_ms, KEEP_MS_MAX),
            ("pre_roll_ms", self.pre_roll_ms, PRE_ROLL_MS_MAX),
        ];
        own_problem(self.path.as_deref(), &numbers)
    }
}

/// What is wrong with settings of one rule or one stream: names, values, and the most that they may be.
fn own_problem(path: Option<&str>, numbers: &[(&'static str, Option<u64>, u64)]) -> Option<(&'static str, Problem)> {
    let is_over = |(_, value, max): &&(&'static str, Option<u64>, u64)| value.is_some_and(|value| value > *max);
    let over = numbers.iter().find(is_over).map(|(name, _, max)| (*name, Problem::OutOfRange { min: 0, max: *max }));
    path.and_then(path_problem).map(|problem| ("path", problem)).or(over)
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
        for (number, rule) in (1..).zip(&section.rules) {
            if let Some((field, problem)) = rule.problem() {
                return Err(Invalid {
                    key: "record.rules",
                    problem: Problem::Rule { number, field, problem: Box::new(problem) },
                });
            }
        }
        Ok(())
    }

    /// What stands in the way of recording now. Only where rules want it: others may be asked for never.
    pub(super) fn record_warnings(&self) -> Option<String> {
        if self.record.rules.is_empty() { None } else { self.record.folder_warning() }
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
    fn a_rule_that_cannot_be_is_named_by_number_and_field() {
        let good = RecordRule { streams: vec!["*".to_owned()], ..RecordRule::default() };
        let cases = [
            (good.clone(), None),
            (RecordRule { streams: Vec::new(), ..good.clone() }, Some("rule 2: streams: a rule must have a pattern of streams")),
            (RecordRule { split_ms: Some(604_800_001), ..good.clone() }, Some("rule 2: split_ms: must be 0 to 604800000")),
            (RecordRule { keep_ms: Some(u64::MAX), ..good.clone() }, Some("rule 2: keep_ms: must be 0 to 3155760000000")),
            (RecordRule { path: Some("{name}".to_owned()), ..good.clone() }, Some("rule 2: path: must have {time}")),
        ];
        for (rule, expected) in cases {
            let mut config = Config::default();
            config.record.rules = vec![good.clone(), rule.clone()];
            let said = config.validate().err().map(|invalid| invalid.to_string());
            let is_right = match expected {
                Some(text) => said.as_ref().is_some_and(|said| said.starts_with(&format!("record.rules: {text}"))),
                None => said.is_none(),
            };
            assert!(is_right, "{rule:?}: {said:?}");
        }
    }

    #[test]
    fn what_a_rule_leaves_open_is_as_the_section_has_it() {
        let section = Record { split_bytes: 7, ..Record::default() };
        let rule = RecordRule { split_ms: Some(60_000), path: Some("vip/{time}".to_owned()), ..RecordRule::default() };
        let plan = section.plan_of_rule(&rule);
        assert_eq!((plan.split_ms, plan.split_bytes, plan.path.as_str()), (60_000, 7, "vip/{time}"));
        assert_eq!(plan.format, section.format);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_told_beforehand() {
        let file = std::env::temp_dir().join(format!("shardcast-no-folder-{}", std::process::id()));
        std::fs::write(&file, "").unwrap();
        let mut config = Config::default();
        config.record.rules = vec![RecordRule { streams: vec!["*".to_owned()], ..RecordRule::default() }];
        let cases = [(file.join("deep"), Some("cannot be a folder")), (std::env::temp_dir().join("not/there/yet"), None)];
        for (folder, expected) in cases {
            config.record.folder = folder;
            let said = config.record_warnings();
            assert_eq!(said.is_some(), expected.is_some(), "{said:?}");
            assert!(said.unwrap_or_default().contains(expected.unwrap_or_default()));
        }
        config.record.rules.clear();
        assert_eq!(config.record_warnings(), None);
        std::fs::remove_file(file).unwrap();
    }

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
