//! How long recordings are kept by the rules that made them, and how much of each rule.
//!
//! A recording is one of the first rule whose patterns fit its stream and whose format is its own, as the configuration is now: a changed rule
//! holds for what it recorded before. Not here: the bounds of the section, deleting.

use std::sync::Arc;

use super::index::Entry;
use crate::config::{Record, RecordRule};
use crate::protocol::common::auth::matches;

pub struct Retention<'a> {
    record: &'a Record,
    /// How large the recordings of each rule are together.
    bytes: Vec<u64>,
}

impl<'a> Retention<'a> {
    pub fn new(record: &'a Record, whole: &[Arc<Entry>]) -> Self {
        let mut retention = Retention { record, bytes: vec![0; record.rules.len()] };
        if record.rules.iter().any(|rule| rule.total_bytes_max.is_some()) {
            for entry in whole {
                if let Some((at, _)) = retention.rule_of(entry) {
                    retention.bytes[at] += entry.recording.bytes;
                }
            }
        }
        retention
    }

    fn rule_of(&self, entry: &Entry) -> Option<(usize, &'a RecordRule)> {
        let Entry { recording, .. } = entry;
        let is_its_own = |(_, rule): &(usize, &RecordRule)| {
            rule.format.unwrap_or(self.record.format) == recording.format
                && rule.streams.iter().any(|pattern| matches(pattern, &recording.stream))
        };
        self.record.rules.iter().enumerate().find(is_its_own)
    }

    /// How long after its end a recording is deleted; 0: never.
    pub fn keep_ms(&self, entry: &Entry) -> u64 {
        let of_rule = || self.rule_of(entry).and_then(|(_, rule)| rule.keep_ms);
        entry.recording.keep_ms.or_else(of_rule).unwrap_or(self.record.keep_ms)
    }

    /// Whether its rule has too much.
    pub fn is_over(&self, entry: &Entry) -> bool {
        let limit = |rule: &RecordRule| rule.total_bytes_max.filter(|limit| *limit > 0);
        self.rule_of(entry).is_some_and(|(at, rule)| limit(rule).is_some_and(|limit| self.bytes[at] > limit))
    }

    pub fn deleted(&mut self, entry: &Entry) {
        if let Some((at, _)) = self.rule_of(entry) {
            self.bytes[at] = self.bytes[at].saturating_sub(entry.recording.bytes);
        }
    }
}
