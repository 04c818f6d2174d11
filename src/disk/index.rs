//! All recordings, in order of their beginning: shared by the control plane and the disk's threads, locked for moments.
//!
//! Grows with the files in the folder, by some hundred bytes each; retention bounds those.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::sidecar::Recording;
use crate::config::RecordFormat;
use crate::protocol::common::auth::matches;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryState {
    /// Is written to.
    Recording,
    /// Has ended, and is being put in order.
    Finishing,
    Whole,
    /// Has ended, and could not be put in order: it lies under its other name, and the next start tries again.
    Failed,
}

impl EntryState {
    pub const ALL: [EntryState; 4] = [EntryState::Recording, EntryState::Finishing, EntryState::Whole, EntryState::Failed];

    pub const fn name(self) -> &'static str {
        match self {
            EntryState::Recording => "recording",
            EntryState::Finishing => "finishing",
            EntryState::Whole => "whole",
            EntryState::Failed => "failed",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Entry {
    /// Names it for operators, over restarts too.
    pub id: String,
    /// Relative to the folder.
    pub path: String,
    pub state: EntryState,
    pub recording: Recording,
    /// What went wrong, where it failed.
    pub error: String,
}

impl Entry {
    pub fn new(path: String, state: EntryState, recording: Recording) -> Self {
        Entry { id: id_of(&path), path, state, recording, error: String::new() }
    }

    pub fn failed(path: String, recording: Recording, error: String) -> Self {
        Entry { error, ..Entry::new(path, EntryState::Failed, recording) }
    }
}

/// The same path has the same id: FNV-1a, 64 bits.
fn id_of(path: &str) -> String {
    let hash = path.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    format!("{hash:016x}")
}

/// Which recordings are looked for.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// A pattern of `app/name`.
    pub stream: Option<String>,
    pub format: Option<RecordFormat>,
    pub state: Option<EntryState>,
    /// Those that have something behind this moment, and before that one; in microseconds since 1970.
    pub from: Option<i64>,
    pub to: Option<i64>,
}

impl Query {
    fn fits(&self, Entry { state, recording, .. }: &Entry) -> bool {
        self.stream.as_ref().is_none_or(|pattern| matches(pattern, &recording.stream))
            && self.format.is_none_or(|format| format == recording.format)
            && self.state.is_none_or(|wanted| wanted == *state)
            && self.from.is_none_or(|from| recording.end_micros() > from)
            && self.to.is_none_or(|to| recording.start_micros < to)
    }
}

type Place = (i64, String);

#[derive(Debug, Default)]
struct Entries {
    by_start: BTreeMap<Place, Arc<Entry>>,
    starts: HashMap<String, i64>,
    bytes: u64,
}

#[derive(Debug, Default)]
pub struct Index {
    entries: Mutex<Entries>,
    finish_failures: AtomicU64,
}

impl Index {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Every change is one insertion or removal: a panic elsewhere leaves nothing half done.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an entry, or puts it in the place of the one with its id.
    pub fn put(&self, entry: Entry) {
        let mut entries = self.lock();
        entries.remove(&entry.id);
        entries.bytes += entry.recording.bytes;
        entries.starts.insert(entry.id.clone(), entry.recording.start_micros);
        entries.by_start.insert((entry.recording.start_micros, entry.id.clone()), Arc::new(entry));
    }

    pub fn remove(&self, id: &str) -> Option<Arc<Entry>> {
        self.lock().remove(id)
    }

    pub fn get(&self, id: &str) -> Option<Arc<Entry>> {
        let entries = self.lock();
        let start = *entries.starts.get(id)?;
        entries.by_start.get(&(start, id.to_owned())).cloned()
    }

    /// How many fit, and those of them on one page, the earliest first.
    pub fn find(&self, query: &Query, offset: usize, limit: usize) -> (usize, Vec<Arc<Entry>>) {
        let entries = self.lock();
        let mut total = 0;
        let mut page = Vec::new();
        for entry in entries.by_start.values().filter(|entry| query.fits(entry)) {
            if total >= offset && page.len() < limit {
                page.push(entry.clone());
            }
            total += 1;
        }
        (total, page)
    }

    /// Those that are whole, in order of their end.
    pub fn whole(&self) -> Vec<Arc<Entry>> {
        let is_whole = |entry: &&Arc<Entry>| entry.state == EntryState::Whole;
        let mut whole: Vec<Arc<Entry>> = self.lock().by_start.values().filter(is_whole).cloned().collect();
        whole.sort_by_key(|entry| entry.recording.end_micros());
        whole
    }

    /// One could not be put in order.
    pub(super) fn finish_failed(&self, entry: Entry) {
        self.finish_failures.fetch_add(1, Ordering::Relaxed);
        self.put(entry);
    }

    /// How many could not be put in order since the start.
    pub fn finish_failures(&self) -> u64 {
        self.finish_failures.load(Ordering::Relaxed)
    }

    /// How many there are, and how large they are together.
    pub fn size(&self) -> (usize, u64) {
        let entries = self.lock();
        (entries.by_start.len(), entries.bytes)
    }
}

impl Entries {
    fn remove(&mut self, id: &str) -> Option<Arc<Entry>> {
        let (id, start) = self.starts.remove_entry(id)?;
        let entry = self.by_start.remove(&(start, id))?;
        self.bytes = self.bytes.saturating_sub(entry.recording.bytes);
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(stream: &str, path: &str, start: i64, duration: i64) -> Entry {
        let recording = Recording {
            stream: stream.to_owned(),
            format: RecordFormat::Fmp4,
            start_micros: start,
            duration_micros: duration,
            bytes: 10,
            frames: 1,
            tracks: Vec::new(),
            parts: Vec::new(),
            keep_ms: None,
            cut_short: false,
            gops_dropped: 0,
        };
        Entry::new(path.to_owned(), EntryState::Whole, recording)
    }

    #[test]
    fn recordings_are_found_by_stream_and_time() {
        let index = Index::default();
        index.put(entry("live/a", "3", 300, 100));
        index.put(entry("live/a", "1", 100, 100));
        index.put(entry("live/b", "2", 200, 100));
        let find = |stream: Option<&str>, from, to| {
            let query = Query { stream: stream.map(str::to_owned), from, to, ..Query::default() };
            index.find(&query, 0, 10).1.iter().map(|entry| entry.path.clone()).collect::<String>()
        };
        let cases = [
            (None, None, None, "123"),
            (Some("live/a"), None, None, "13"),
            (None, Some(200), None, "23"),
            (None, Some(199), None, "123"),
            (None, None, Some(200), "1"),
            (None, Some(250), Some(301), "23"),
            (Some("live/c"), None, None, ""),
            (Some("live/*"), Some(250), None, "23"),
        ];
        for (stream, from, to, found) in cases {
            assert_eq!(find(stream, from, to), found, "{stream:?} {from:?} {to:?}");
        }
        let count = |query: Query| index.find(&query, 0, 0).0;
        assert_eq!(count(Query { format: Some(RecordFormat::Flv), ..Query::default() }), 0);
        assert_eq!(count(Query { format: Some(RecordFormat::Fmp4), state: Some(EntryState::Whole), ..Query::default() }), 3);
        assert_eq!(count(Query { state: Some(EntryState::Failed), ..Query::default() }), 0);
        let (total, page) = index.find(&Query::default(), 1, 1);
        assert_eq!((total, page[0].path.as_str()), (3, "2"));
    }

    #[test]
    fn whole_ones_are_told_in_order_of_their_end() {
        let index = Index::default();
        for (path, start, duration) in [("long", 100, 1_000), ("early", 200, 100), ("late", 900, 300)] {
            index.put(entry("live/a", path, start, duration));
        }
        let mut unfinished = entry("live/a", "unfinished", 0, 1);
        unfinished.state = EntryState::Finishing;
        index.put(unfinished);
        let paths: Vec<String> = index.whole().iter().map(|entry| entry.path.clone()).collect();
        assert_eq!(paths, ["early", "long", "late"]);
    }

    #[test]
    fn sizes_follow_what_is_put_and_removed() {
        let index = Index::default();
        index.put(entry("live/a", "1", 100, 100));
        let mut longer = entry("live/a", "1", 100, 200);
        longer.recording.bytes = 30;
        index.put(longer);
        assert_eq!(index.size(), (1, 30));
        let id = index.whole()[0].id.clone();
        assert_eq!(index.get(&id).unwrap().recording.duration_micros, 200);
        assert!(index.remove(&id).is_some() && index.remove(&id).is_none() && index.get(&id).is_none());
        assert_eq!(index.size(), (0, 0));
    }
}
