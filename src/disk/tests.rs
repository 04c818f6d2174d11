//! What the disk's threads promise, on real folders: files appear whole, killed ones are recovered, old ones go.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::config::{RecordFormat, RecordRule, RecordWish, WhenFull};
use crate::media::{Codec, Frame, MediaEvent, MediaTime, Stamp, Track, TrackId, TrackShape, Tracks};
use crate::protocol::record::{Action, Append, DiskOrder, FileStart, FileTag, Progress, Recorder, Settings};
use crate::session::StreamKey;

/// A folder that goes away.
pub(super) struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("shardcast-disk-{name}-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    /// All files below it, sorted.
    fn files(&self) -> Vec<String> {
        let (mut files, mut folders) = (Vec::new(), vec![self.0.clone()]);
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path)
                } else {
                    files.push(path.strip_prefix(&self.0).unwrap().display().to_string())
                }
            }
        }
        files.sort();
        files
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A disk on a folder, and what it has told.
pub(super) struct Setup {
    orders: Option<Orders>,
    disk: Disk,
    news: flume::Receiver<DiskNews>,
}

impl Setup {
    pub fn new(folder: &Path, change: impl FnOnce(&mut Record)) -> Self {
        let mut record = Record { folder: folder.to_owned(), free_bytes_min: 0, ..Record::default() };
        change(&mut record);
        let (tell, news) = flume::unbounded();
        let (orders, disk) = start(&Arc::new(record), move |news| tell.send(news).unwrap()).unwrap();
        Setup { orders: Some(orders), disk, news }
    }

    /// Records so many seconds of a stream from a moment on.
    pub fn record(&self, format: RecordFormat, number: u64, start_ms: u64, seconds: i64) -> FileTag {
        self.record_as("live/a", RecordWish { format: Some(format), ..RecordWish::default() }, number, start_ms, seconds)
    }

    fn record_as(&self, stream: &str, wish: RecordWish, number: u64, start_ms: u64, seconds: i64) -> FileTag {
        let record = Record { path: "{name}-{time}".to_owned(), ..Record::default() };
        let settings = Settings { plan: Arc::new(record.plan(&wish)), shard: 0, epoch_micros: 0 };
        let mut recorder = Recorder::new(settings, StreamKey::parse(stream).unwrap(), number);
        let orders = self.orders.as_ref().unwrap();
        recorder.push(Stamp::ZERO, &events(start_ms, seconds), &mut |order| orders.give(order));
        recorder.finish(&mut |order| orders.give(order));
        FileTag { shard: 0, recorder: number, file: 0 }
    }

    /// Waits until what was left over is finished, and lets the rest be carried out.
    fn recovered(self, folder: &Folder) -> Vec<Arc<Entry>> {
        wait("left-overs", || folder.files().iter().all(|name| !name.ends_with(".start")).then_some(()));
        self.end()
    }

    fn delete(&self, id: &str) -> Result<(), KeepError> {
        let (reply, answer) = flume::bounded(1);
        self.disk.keeps.send(KeepOrder::Delete { id: id.to_owned(), reply }).unwrap();
        answer.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    fn whole(&self, count: usize) -> Vec<Arc<Entry>> {
        wait("recordings are whole", || Some(self.disk.index.whole()).filter(|whole| whole.len() == count))
    }

    /// Lets everything be carried out.
    pub fn end(mut self) -> Vec<Arc<Entry>> {
        self.orders = None;
        assert!(self.disk.wait(Duration::from_secs(20)));
        self.disk.index.find(&Query::default(), 0, 100).1
    }
}

/// VP9 and Opus, 25 pictures a second with a key each second.
fn events(start_ms: u64, seconds: i64) -> Vec<MediaEvent> {
    let video = TrackShape::Video { width: 640, height: 360, frames_per_second: 25.0 };
    let audio = TrackShape::Audio { sample_rate: 48_000, channels: 2 };
    let track = |id, codec, shape| Track { id: TrackId(id), codec, config: Bytes::new(), shape };
    let tracks = Tracks::new(vec![track(0, Codec::Vp9, video), track(1, Codec::Opus, audio)], Bytes::new());
    let mut events = vec![MediaEvent::Tracks(tracks)];
    for ms in (0..seconds * 1_000).step_by(40) {
        for track in [0, 1] {
            events.push(MediaEvent::Frame(Frame {
                data: Bytes::from(vec![ms as u8; 200]),
                arrival: Stamp::from_millis(start_ms + ms as u64),
                dts: MediaTime::from_millis(ms),
                cts: 0,
                segment: 0,
                track: TrackId(track),
                key: track == 1 || ms % 1_000 == 0,
            }));
        }
    }
    events
}

fn wait<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn files_appear_whole_with_what_is_known_of_them() {
    for (format, endings) in [
        (RecordFormat::Fmp4, vec!["mp4", "mp4.json"]),
        (RecordFormat::Mp4, vec!["mp4", "mp4.json"]),
        (RecordFormat::Flv, vec!["flv", "flv.json"]),
    ] {
        let folder = Folder::new("whole");
        let setup = Setup::new(&folder.0, |_| ());
        setup.record(format, 1, 1_000, 3);
        let found = setup.end();
        let [entry] = &found[..] else { panic!("{found:?}") };
        let names: Vec<String> = endings.iter().map(|ending| format!("a-00-00-01.000.{ending}")).collect();
        assert_eq!(folder.files(), names);
        assert_eq!((entry.state, entry.path.as_str()), (EntryState::Whole, names[0].as_str()));
        let recording = &entry.recording;
        assert_eq!(
            (recording.start_micros, recording.duration_micros, recording.frames),
            (1_000_000, 3_000_000, 75),
            "{format:?}"
        );
        assert_eq!(recording.bytes, fs::metadata(folder.0.join(&entry.path)).unwrap().len());
        assert_eq!(recording.tracks[0].codec_string.as_deref().map(|name| &name[..4]), Some("vp09"));
        let again = Setup::new(&folder.0, |_| ()).end();
        assert_eq!((again[0].id.as_str(), &again[0].recording), (entry.id.as_str(), recording), "found again");
    }
}

#[test]
fn a_name_that_is_taken_gets_a_number_and_links_are_not_followed() {
    let folder = Folder::new("taken");
    let outside = Folder::new("outside");
    let victim = outside.0.join("victim");
    fs::write(&victim, "precious").unwrap();
    std::os::unix::fs::symlink(&victim, folder.0.join("a-00-00-01.000.flv")).unwrap();
    std::os::unix::fs::symlink(&victim, folder.0.join(".a-00-00-01.000-2.flv.part")).unwrap();
    let setup = Setup::new(&folder.0, |_| ());
    setup.record(RecordFormat::Flv, 1, 1_000, 1);
    let found = setup.end();
    assert_eq!(found.iter().map(|entry| entry.path.as_str()).collect::<Vec<_>>(), ["a-00-00-01.000-3.flv"]);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn what_was_cut_off_anywhere_is_recovered_to_what_is_whole() {
    for format in [RecordFormat::Fmp4, RecordFormat::Mp4, RecordFormat::Flv] {
        let made = Folder::new("made");
        let setup = Setup::new(&made.0, |_| ());
        // As it lies there while it is written.
        setup.record(if format == RecordFormat::Mp4 { RecordFormat::Fmp4 } else { format }, 1, 1_000, 3);
        let entry = setup.end().remove(0);
        let bytes = fs::read(made.0.join(&entry.path)).unwrap();
        let mut known = entry.recording.clone();
        known.format = format;
        let mut frames_before = 0;
        for tenth in [0, 1, 4, 5, 9, 10] {
            let folder = Folder::new("cut");
            let whole = folder.0.join(&entry.path);
            fs::write(files::part_of(&whole), &bytes[..bytes.len() * tenth / 10]).unwrap();
            sidecar::write(&files::start_of(&whole), &known).unwrap();
            let unfinished = fs::File::create(files::beside(&whole, ".", ".new")).unwrap();
            unfinished.set_modified(std::time::UNIX_EPOCH).unwrap();
            let found = Setup::new(&folder.0, |_| ()).recovered(&folder);
            if tenth == 0 || tenth == 1 && format != RecordFormat::Flv {
                assert!(found.is_empty() && folder.files().is_empty(), "{format:?}: {:?}", folder.files());
                continue;
            }
            let [entry] = &found[..] else { panic!("{format:?} {tenth}: {found:?}") };
            let frames = entry.recording.frames;
            assert!(frames > frames_before && frames <= 75, "{format:?} {tenth}: {frames}");
            assert!(entry.recording.cut_short && entry.recording.format == format);
            assert_eq!(folder.files().len(), 2, "{:?}", folder.files());
            frames_before = if tenth == 4 { frames - 1 } else { frames };
        }
    }
}

#[test]
fn every_last_step_may_be_the_one_that_is_missing() {
    let made = Folder::new("made");
    let setup = Setup::new(&made.0, |_| ());
    setup.record(RecordFormat::Fmp4, 1, 1_000, 2);
    let entry = setup.end().remove(0);
    let whole = made.0.join(&entry.path);
    // Renamed, but its start is still there.
    sidecar::write(&files::start_of(&whole), &entry.recording).unwrap();
    let found = Setup::new(&made.0, |_| ()).recovered(&made);
    assert_eq!((found.len(), found[0].recording.frames, found[0].recording.cut_short), (1, 50, false));
    // Not even created.
    let other = made.0.join("b.mp4");
    sidecar::write(&files::start_of(&other), &entry.recording).unwrap();
    assert_eq!(Setup::new(&made.0, |_| ()).recovered(&made).len(), 1);
    assert_eq!(made.files().len(), 2);
    // Nothing was on the disk when power was lost, or not even the head.
    for (start, part) in [("", ""), (&*serde_json::to_string(&entry.recording).unwrap(), "\0\0\0\x20ftyp")] {
        fs::write(files::start_of(&other), start).unwrap();
        fs::write(files::part_of(&other), part).unwrap();
        assert_eq!(Setup::new(&made.0, |_| ()).recovered(&made).len(), 1);
        assert_eq!(made.files().len(), 2);
    }
}

#[test]
fn old_recordings_and_too_many_go_the_oldest_first() {
    let folder = Folder::new("old");
    let setup = Setup::new(&folder.0, |_| ());
    for hour in 0..4 {
        setup.record(RecordFormat::Flv, hour, hour * 3_600_000, 1);
    }
    let found = setup.end();
    assert_eq!(found.len(), 4);
    let one = found[0].recording.bytes;
    let left = |change: fn(&mut Record, u64)| {
        let setup = Setup::new(&folder.0, |record| change(record, one));
        wait("the keeper has looked", || (setup.disk.index.size().0 < 4).then_some(()));
        setup.end().iter().map(|entry| entry.path.clone()).collect::<Vec<_>>()
    };
    let kept = left(|record, one| record.total_bytes_max = 3 * one + 1);
    assert_eq!(kept, ["a-01-00-00.000.flv", "a-02-00-00.000.flv", "a-03-00-00.000.flv"]);
    assert_eq!(left(|record, _| record.keep_ms = 1_000), [""; 0], "they are of 1970");
    assert!(folder.files().is_empty());
}

#[test]
fn what_a_rule_or_the_operator_keeps_goes_by_its_own_bounds() {
    type Change = fn(&mut Record, u64);
    fn rule(record: &mut Record) -> &mut RecordRule {
        let rule = RecordRule { streams: vec!["vip/*".to_owned()], format: Some(RecordFormat::Flv), ..RecordRule::default() };
        record.rules = vec![rule];
        &mut record.rules[0]
    }
    // All of them are of 1970.
    let cases: [(&str, Change, &[&str]); 4] = [
        ("the operator's wish", |_, _| (), &["a-00-00-10.000.flv", "a-00-00-20.000.flv", "b-00-00-40.000.flv"]),
        (
            "a rule that keeps for ever",
            |record, _| {
                record.keep_ms = 1_000;
                rule(record).keep_ms = Some(0);
            },
            &["a-00-00-10.000.flv", "a-00-00-20.000.flv"],
        ),
        ("a rule that keeps a second", |record, _| rule(record).keep_ms = Some(1_000), &["b-00-00-40.000.flv"]),
        (
            "a rule with a limit",
            |record, one| rule(record).total_bytes_max = Some(one + 1),
            &["a-00-00-20.000.flv", "b-00-00-40.000.flv"],
        ),
    ];
    for (name, change, kept) in cases {
        let folder = Folder::new("rules");
        let setup = Setup::new(&folder.0, |_| ());
        for (number, stream, keep_ms) in [(1, "vip/a", None), (2, "vip/a", None), (3, "live/b", Some(1_000)), (4, "live/b", None)]
        {
            let wish = RecordWish { format: Some(RecordFormat::Flv), keep_ms, ..RecordWish::default() };
            setup.record_as(stream, wish, number, number * 10_000, 1);
        }
        let one = setup.end()[0].recording.bytes;
        let setup = Setup::new(&folder.0, |record| change(record, one));
        wait(name, || (setup.disk.index.size().0 == kept.len()).then_some(()));
        let left: Vec<String> = setup.end().iter().map(|entry| entry.path.clone()).collect();
        assert_eq!(left, kept, "{name}");
    }
}

#[test]
fn files_of_which_nothing_is_known_go_or_are_listed() {
    let made = Folder::new("made");
    let setup = Setup::new(&made.0, |_| ());
    setup.record(RecordFormat::Flv, 1, 1_000, 2);
    let bytes = fs::read(made.0.join(&setup.end()[0].path)).unwrap();
    let folder = Folder::new("orphans");
    for (name, bytes) in [("empty.flv", &[][..]), ("head.mp4", b"\0\0\0\x08ftyp"), ("media.flv", &bytes)] {
        let part = files::part_of(&folder.0.join(name));
        fs::write(&part, bytes).unwrap();
        fs::File::options()
            .write(true)
            .open(&part)
            .unwrap()
            .set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_000))
            .unwrap();
    }
    let setup = Setup::new(&folder.0, |_| ());
    wait("all were looked at", || (folder.files() == [".media.flv.part"] && setup.disk.index.size().0 == 1).then_some(()));
    let entry = setup.disk.index.find(&Query { state: Some(EntryState::Failed), ..Query::default() }, 0, 9).1.remove(0);
    assert_eq!((entry.recording.frames, entry.recording.start_micros), (50, 998_000_000));
    assert!(entry.error.contains("which stream"), "{}", entry.error);
    setup.delete(&entry.id).unwrap();
    assert!(setup.end().is_empty() && folder.files().is_empty());
}

#[test]
fn what_cannot_be_finished_is_counted_and_listed_and_can_be_deleted() {
    let folder = Folder::new("unfinished");
    let setup = Setup::new(&folder.0, |_| ());
    let start = FileStart {
        stream: StreamKey::parse("live/a").unwrap(),
        format: RecordFormat::Flv,
        path: "b".to_owned(),
        start_micros: 0,
        keep_ms: None,
        tracks: Tracks::default(),
    };
    let tag = FileTag { shard: 0, recorder: 5, file: 0 };
    let give = |action| assert!(setup.orders.as_ref().unwrap().give(DiskOrder { tag, action }));
    give(Action::Create(Box::new(start)));
    wait("it is begun", || (setup.disk.index.size().0 == 1).then_some(()));
    let in_the_way = folder.0.join("b.flv");
    fs::create_dir_all(in_the_way.join("deep")).unwrap();
    let parts = vec![Bytes::from_static(b"FLV")];
    let append = Append { parts, len: 3, begins: true, resumes_micros: None, progress: Progress::default() };
    give(Action::Append(append));
    give(Action::Finish);
    let failed = Query { state: Some(EntryState::Failed), ..Query::default() };
    let entry = wait("it has failed", || setup.disk.index.find(&failed, 0, 1).1.first().cloned());
    assert_eq!(setup.disk.index.finish_failures(), 1);
    assert!(entry.error.starts_with("it cannot be finished"), "{}", entry.error);
    fs::remove_dir_all(in_the_way).unwrap();
    setup.delete(&entry.id).unwrap();
    assert!(setup.end().is_empty() && folder.files().is_empty(), "{:?}", folder.files());
}

#[test]
fn without_room_it_says_so_and_goes_on_later_or_deletes() {
    let folder = Folder::new("room");
    let setup = Setup::new(&folder.0, |record| record.free_bytes_min = 1 << 59);
    let tag = setup.record(RecordFormat::Flv, 1, 1_000, 1);
    let news = setup.news.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(news.tag, tag);
    assert!(news.failed.contains("record.free_bytes_min"), "{}", news.failed);
    assert!(setup.end().is_empty());
    let setup = Setup::new(&folder.0, |_| ());
    setup.record(RecordFormat::Flv, 1, 1_000, 1);
    assert_eq!(setup.end().len(), 1);
    let setup = Setup::new(&folder.0, |record| (record.free_bytes_min, record.when_full) = (1 << 59, WhenFull::DeleteOldest));
    wait("the oldest goes", || (setup.disk.index.size().0 == 0 && folder.files().is_empty()).then_some(()));
    setup.end();
}

#[test]
fn a_folder_that_cannot_be_made_is_told_once_per_file() {
    let folder = Folder::new("file");
    fs::write(folder.0.join("in-the-way"), "").unwrap();
    let setup = Setup::new(&folder.0.join("in-the-way"), |_| ());
    setup.record(RecordFormat::Flv, 1, 1_000, 1);
    let news = setup.news.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(news.failed.starts_with("cannot make the folder"), "{}", news.failed);
    setup.end();
}

#[test]
fn a_recording_is_deleted_when_it_is_whole() {
    let folder = Folder::new("delete");
    let setup = Setup::new(&folder.0, |_| ());
    let start = FileStart {
        stream: StreamKey::parse("live/a").unwrap(),
        format: RecordFormat::Flv,
        path: "deep/er/b".to_owned(),
        start_micros: 0,
        keep_ms: None,
        tracks: Tracks::default(),
    };
    let tag = FileTag { shard: 0, recorder: 5, file: 0 };
    setup.orders.as_ref().unwrap().give(DiskOrder { tag, action: Action::Create(Box::new(start)) });
    let id = wait("it is begun", || setup.disk.index.find(&Query::default(), 0, 1).1.first().map(|entry| entry.id.clone()));
    assert!(matches!(setup.delete(&id), Err(KeepError::Busy)));
    assert!(matches!(setup.delete("nothing"), Err(KeepError::NotFound)));
    setup.end();
    assert!(folder.files().is_empty(), "a file without a byte is none");
}

#[test]
fn what_somebody_else_took_away_can_be_deleted() {
    let folder = Folder::new("taken-away");
    let setup = Setup::new(&folder.0, |_| ());
    setup.record(RecordFormat::Flv, 1, 1_000, 1);
    let entry = setup.whole(1).remove(0);
    fs::remove_file(files::sidecar_of(&folder.0.join(&entry.path))).unwrap();
    setup.delete(&entry.id).unwrap();
    assert!(setup.end().is_empty() && folder.files().is_empty());
}

#[test]
fn one_that_cannot_be_deleted_does_not_keep_the_others() {
    let folder = Folder::new("stuck");
    let setup = Setup::new(&folder.0, |record| record.total_bytes_max = 60_000);
    setup.record(RecordFormat::Flv, 1, 1_000, 2);
    let stuck = setup.whole(1).remove(0);
    assert!((20_000..30_000).contains(&stuck.recording.bytes), "{}", stuck.recording.bytes);
    fs::remove_file(folder.0.join(&stuck.path)).unwrap();
    fs::create_dir_all(folder.0.join(&stuck.path).join("in the way")).unwrap();
    for number in 2..=4 {
        setup.record(RecordFormat::Flv, number, number * 10_000, 2);
    }
    let last = "a-00-00-40.000.flv";
    wait("the last one is whole", || setup.disk.index.whole().iter().any(|entry| entry.path == last).then_some(()));
    let kept: Vec<String> = setup.end().iter().map(|entry| entry.path.clone()).collect();
    assert_eq!(kept, [&*stuck.path, last]);
}

#[test]
fn recordings_are_found_however_deep() {
    let folder = Folder::new("deep");
    let deep = folder.0.join(["a"; 120].join("/"));
    fs::create_dir_all(&deep).unwrap();
    let setup = Setup::new(&folder.0, |_| ());
    setup.record(RecordFormat::Flv, 1, 1_000, 1);
    let path = folder.0.join(&setup.end().remove(0).path);
    for from in [path.clone(), files::sidecar_of(&path)] {
        fs::rename(&from, deep.join(from.file_name().unwrap())).unwrap();
    }
    assert_eq!(Setup::new(&folder.0, |_| ()).end().len(), 1);
}

#[test]
fn links_in_the_way_of_sidecar_files_are_not_followed() {
    let folder = Folder::new("links");
    let outside = Folder::new("outside");
    let victim = outside.0.join("victim");
    fs::write(&victim, "precious").unwrap();
    for name in ["a-00-00-01.000.flv.json", ".a-00-00-01.000.flv.start"] {
        std::os::unix::fs::symlink(&victim, files::beside(&folder.0.join(name), ".", ".new")).unwrap();
    }
    let setup = Setup::new(&folder.0, |_| ());
    setup.record(RecordFormat::Flv, 1, 1_000, 1);
    assert_eq!(setup.end().len(), 1);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn a_panic_costs_one_file() {
    let folder = Folder::new("panic");
    let record = Record { folder: folder.0.join("folder"), free_bytes_min: 0, ..Record::default() };
    fs::write(&record.folder, "in the way").unwrap();
    let (told, news) = flume::unbounded();
    let calls = AtomicU32::new(0);
    let tell = move |news| {
        assert!(calls.fetch_add(1, Ordering::Relaxed) > 0, "the first one goes wrong");
        told.send(news).unwrap();
    };
    let (orders, disk) = start(&Arc::new(record.clone()), tell).unwrap();
    let setup = Setup { orders: Some(orders), disk, news };
    setup.record(RecordFormat::Flv, 1, 1_000, 1);
    let told = setup.news.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(told.failed.contains("a fault in it"), "{}", told.failed);
    fs::remove_file(&record.folder).unwrap();
    setup.record(RecordFormat::Flv, 2, 2_000, 1);
    assert_eq!(setup.end().len(), 1);
}

#[test]
fn any_bytes_can_be_measured() {
    let folder = Folder::new("any");
    let mut random = fastrand::Rng::with_seed(5);
    for round in 0..300 {
        let mut bytes: Vec<u8> = (0..random.usize(..4_000)).map(|_| random.u8(..)).collect();
        match round % 3 {
            0 => bytes.splice(0..0, *b"FLV\x01\x05\0\0\0\x09\0\0\0\0").for_each(drop),
            1 => bytes.iter_mut().step_by(188).for_each(|byte| *byte = 0x47),
            _ => {}
        }
        let path = folder.0.join("file");
        fs::write(&path, &bytes).unwrap();
        let file = files::open(&path).unwrap();
        for format in [RecordFormat::Flv, RecordFormat::Fmp4, RecordFormat::Hls] {
            if let Ok(measured) = measure::measure(format, &file) {
                assert!(measured.bytes <= bytes.len() as u64);
            }
        }
    }
}
