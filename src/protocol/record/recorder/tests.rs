//! When files begin and end, and what a disk that is behind or broken costs.

use super::*;
use crate::config::{Record, RecordWish};
use crate::media::{Codec, Track, TrackShape};

const VIDEO: u8 = 0;
const AUDIO: u8 = 1;
const GOP_MS: i64 = 1_000;

fn tracks(video_config: &'static [u8]) -> Tracks {
    let video_shape = TrackShape::Video { width: 640, height: 360, frames_per_second: 25.0 };
    let audio_shape = TrackShape::Audio { sample_rate: 48_000, channels: 2 };
    let track = |id, codec, config, shape| Track { id: TrackId(id), codec, config: Bytes::from_static(config), shape };
    let video = track(VIDEO, Codec::Vp9, video_config, video_shape);
    Tracks::new(vec![video, track(AUDIO, Codec::Opus, b"", audio_shape)], Bytes::new())
}

fn frame(track: u8, ms: i64, key: bool) -> MediaEvent {
    let arrival = Stamp::from_millis(1_000 + ms as u64);
    let data = Bytes::from(vec![track; 1_000]);
    MediaEvent::Frame(Frame { data, arrival, dts: MediaTime::from_millis(ms), cts: 0, segment: 0, track: TrackId(track), key })
}

/// A recorder and the disk behind it.
struct Setup {
    recorder: Recorder,
    orders: Vec<DiskOrder>,
    takes: bool,
    takes_appends: bool,
    now: Stamp,
}

impl Setup {
    fn new(record: Record, format: RecordFormat) -> Self {
        let plan = Record { format, ..record }.plan(&RecordWish::default());
        let settings = Settings { plan: Arc::new(plan), shard: 3, epoch_micros: 1_000_000_000_000 };
        let recorder = Recorder::new(settings, StreamKey::parse("live/a").unwrap(), 7);
        let mut setup = Setup { recorder, orders: Vec::new(), takes: true, takes_appends: true, now: Stamp::ZERO };
        setup.push(&[MediaEvent::Tracks(tracks(b""))]);
        setup
    }

    fn flv(record: Record) -> Self {
        Setup::new(record, RecordFormat::Flv)
    }

    fn push(&mut self, events: &[MediaEvent]) {
        let (orders, takes, takes_appends) = (&mut self.orders, self.takes, self.takes_appends);
        self.recorder.push(self.now, events, &mut |order| {
            let is_taken = match order.action {
                Action::Create(_) => takes,
                Action::Append(_) => takes && takes_appends,
                Action::Finish => true,
            };
            if is_taken {
                orders.push(order);
            }
            is_taken
        });
    }

    /// 25 pictures a second with a key each second, and sound every 20 ms.
    fn run(&mut self, from_ms: i64, to_ms: i64) {
        for ms in (from_ms..to_ms).step_by(20) {
            self.now = Stamp::from_millis(1_000 + ms as u64);
            if ms % 40 == 0 {
                self.push(&[frame(VIDEO, ms, ms % GOP_MS == 0)]);
            }
            self.push(&[frame(AUDIO, ms, true)]);
        }
    }

    /// Each file as `start ms + appends: duration ms / frames`, `!` where it was ended.
    fn files(&self) -> Vec<String> {
        let mut files: Vec<(FileTag, i64, Vec<Progress>, bool)> = Vec::new();
        for order in &self.orders {
            match &order.action {
                Action::Create(start) => files.push((order.tag, start.start_micros, Vec::new(), false)),
                Action::Append(append) => {
                    let file = files.iter_mut().find(|(tag, ..)| *tag == order.tag).expect("a file is created first");
                    assert_eq!(append.len, append.parts.iter().map(Bytes::len).sum::<usize>());
                    file.2.push(append.progress);
                }
                Action::Finish => files.iter_mut().find(|(tag, ..)| *tag == order.tag).expect("a file is created first").3 = true,
            }
        }
        let show = |(_, start, appends, is_over): &(FileTag, i64, Vec<Progress>, bool)| {
            let last = appends.last().copied().unwrap_or_default();
            let (start, duration) = ((start - 1_000_000_000_000) / 1_000 - 1_000, last.duration_micros / 1_000);
            format!("{start}+{}: {duration}/{}{}", appends.len(), last.frames, if *is_over { "!" } else { "" })
        };
        files.iter().map(show).collect()
    }
}

#[test]
fn a_fragment_is_handed_over_when_it_is_whole() {
    for (fragment_ms, appends) in [(1_000, 3), (500, 6), (10_000, 0)] {
        let mut setup = Setup::flv(Record { fragment_ms, ..Record::default() });
        setup.run(0, 3_520);
        let handed = setup.orders.iter().filter(|order| matches!(order.action, Action::Append(_))).count();
        assert_eq!(handed, appends, "{fragment_ms} ms");
        setup.push(&[MediaEvent::End]);
        assert_eq!(setup.files().len(), 1);
        assert!(setup.files()[0].ends_with("3520/88!"), "{:?}", setup.files());
    }
}

#[test]
fn recording_begins_at_a_key_frame() {
    let mut setup = Setup::flv(Record::default());
    setup.run(520, 2_500);
    setup.push(&[MediaEvent::End]);
    assert_eq!(setup.files(), ["1000+2: 1520/38!"]);
}

#[test]
fn sound_before_the_picture_is_zero_and_kept() {
    let mut setup = Setup::flv(Record::default());
    setup.push(&[frame(VIDEO, 1_000, true), frame(AUDIO, 985, true), frame(VIDEO, 1_040, false), MediaEvent::End]);
    assert_eq!(setup.files(), ["985+1: 95/2!"]);
}

#[test]
fn files_are_split_at_key_frames() {
    let cases = [
        (
            "by time",
            Record { split_ms: 1_500, ..Record::default() },
            vec!["0+2: 2000/50!", "2000+2: 2000/50!", "4000+1: 520/13!"],
        ),
        (
            "by size",
            Record { split_bytes: 100_000, ..Record::default() },
            vec!["0+2: 2000/50!", "2000+2: 2000/50!", "4000+1: 520/13!"],
        ),
        ("never", Record { split_ms: 0, ..Record::default() }, vec!["0+5: 4520/113!"]),
    ];
    for (name, record, files) in cases {
        let mut setup = Setup::flv(record);
        setup.run(0, 4_500);
        setup.push(&[MediaEvent::End]);
        assert_eq!(setup.files(), files, "{name}");
    }
}

#[test]
fn a_jump_of_the_publishers_clock_splits() {
    let mut setup = Setup::flv(Record::default());
    setup.run(0, 2_500);
    setup.recorder.jumped();
    setup.run(2_500, 4_500);
    setup.push(&[MediaEvent::End]);
    assert_eq!(setup.files(), ["0+3: 3000/75!", "3000+2: 1520/38!"]);
}

#[test]
fn a_file_ends_where_its_times_would_lie() {
    type Case<'a> = (&'a str, &'a [(u64, bool)], &'a [&'a str]);
    // How long nothing came after each two seconds, and whether another publisher came then.
    let cases: [Case<'_>; 6] = [
        ("late frames of one publisher", &[(3_000, false)], &["0+4: 4000/100!"]),
        ("one that stood still for long", &[(15_000, false)], &["0+2: 2020/50!", "17000+2: 2000/50!"]),
        ("a publisher that follows at once", &[(400, true)], &["0+4: 4000/100!"]),
        ("one that comes after a pause", &[(3_000, true)], &["0+2: 2000/50!", "5000+2: 2000/50!"]),
        ("short pauses do not add up", &[(400, true), (400, true)], &["0+4: 4000/100!", "4800+2: 2000/50!"]),
        (
            "four pauses",
            &[(3_000, true); 4],
            &["0+2: 2000/50!", "5000+2: 2000/50!", "10000+2: 2000/50!", "15000+2: 2000/50!", "20000+2: 2000/50!"],
        ),
    ];
    for (name, pauses, files) in cases {
        let mut setup = Setup::flv(Record::default());
        let (mut away_ms, mut publisher) = (0, 0);
        for (number, (pause_ms, is_other)) in std::iter::once(&(0, false)).chain(pauses).enumerate() {
            away_ms += pause_ms;
            publisher += u32::from(*is_other);
            let from = 2_000 * number as i64;
            for ms in (from..from + 2_000).step_by(20) {
                // The stream's timeline goes on, the world's clock has moved.
                let later = |event| match event {
                    MediaEvent::Frame(frame) => {
                        let arrival = frame.arrival.after_millis(away_ms);
                        MediaEvent::Frame(Frame { arrival, segment: publisher, ..frame })
                    }
                    event => event,
                };
                // A publisher's sound is there first.
                let sound = frame(AUDIO, ms, true);
                let picture = (ms % 40 == 0).then(|| frame(VIDEO, ms, ms % GOP_MS == 0));
                let events: Vec<MediaEvent> = [sound].into_iter().chain(picture).map(later).collect();
                setup.now = Stamp::from_millis(1_000 + ms as u64 + away_ms);
                setup.push(&events);
            }
        }
        setup.push(&[MediaEvent::End]);
        assert_eq!(setup.files(), files, "{name}");
    }
}

#[test]
fn other_tracks_make_another_file() {
    let mut setup = Setup::flv(Record::default());
    setup.run(0, 1_500);
    setup.push(&[MediaEvent::Tracks(tracks(b""))]);
    setup.run(1_500, 2_500);
    setup.push(&[MediaEvent::Tracks(tracks(b"another record"))]);
    setup.run(2_500, 3_500);
    setup.push(&[MediaEvent::End]);
    assert_eq!(setup.files(), ["0+3: 2520/63!", "3000+1: 520/13!"]);
}

#[test]
fn a_disk_that_is_behind_costs_whole_gops() {
    let mut setup = Setup::flv(Record { fragment_ms: 500, ..Record::default() });
    setup.run(0, 2_020);
    assert_eq!(setup.recorder.state(), RecorderState::Recording);
    setup.takes = false;
    setup.run(2_020, 5_020);
    let status = setup.recorder.status();
    assert_eq!((status.state, status.gops_dropped), (RecorderState::Dropping, 3));
    let kept = setup.orders.len();
    setup.takes = true;
    // In the middle of a GOP there is no place to go on.
    setup.run(5_020, 5_500);
    assert_eq!(setup.orders.len(), kept);
    setup.run(5_500, 7_020);
    let status = setup.recorder.status();
    assert_eq!((status.state, status.gops_dropped, status.failures), (RecorderState::Recording, 3, 0));
    setup.push(&[MediaEvent::End]);
    assert_eq!(setup.files().len(), 1, "it is the same file");
    assert!(setup.files()[0].contains(": 7040/"), "{:?}", setup.files());
    let appends = setup.orders.iter().filter_map(|order| match &order.action {
        Action::Append(append) => Some((append.begins, append.resumes_micros, append.progress.gops_dropped)),
        _ => None,
    });
    // It says where it goes on, once, and how much is missing.
    let behind: Vec<_> = appends.skip_while(|(_, resumes, _)| resumes.is_none()).collect();
    assert_eq!(behind[0], (true, Some(5_000_000), 3), "{behind:?}");
    assert!(behind[1..].iter().all(|(_, resumes, dropped)| (*resumes, *dropped) == (None, 3)), "{behind:?}");
}

#[test]
fn a_head_that_was_refused_is_written_later() {
    let mut setup = Setup::flv(Record::default());
    setup.takes = false;
    setup.run(0, 2_020);
    assert!(setup.orders.is_empty());
    assert_eq!(setup.recorder.state(), RecorderState::Dropping);
    setup.takes = true;
    setup.run(2_020, 3_020);
    let Some(Action::Append(append)) = setup.orders.get(1).map(|order| &order.action) else { panic!("{:?}", setup.orders) };
    assert_eq!(&append.parts[0][..3], b"FLV");
}

#[test]
fn a_file_whose_first_frames_are_refused_ends_and_another_begins() {
    let mut setup = Setup::flv(Record::default());
    setup.takes_appends = false;
    setup.run(0, 1_020);
    assert_eq!((setup.recorder.state(), setup.recorder.status().gops_dropped), (RecorderState::Dropping, 1));
    setup.takes_appends = true;
    setup.run(1_020, 3_020);
    setup.push(&[MediaEvent::End]);
    assert_eq!(setup.files(), ["0+0: 0/0!", "1000+3: 2040/51!"]);
    let status = setup.recorder.status();
    assert_eq!((status.files, status.gops_dropped, status.failures), (1, 1, 0));
}

#[test]
fn an_error_of_an_earlier_file_is_counted_once_and_what_was_gathered_is_dropped() {
    let mut setup = Setup::flv(Record { split_ms: 1_000, ..Record::default() });
    setup.run(0, 1_520);
    let (first, second) = (FileTag { shard: 3, recorder: 7, file: 0 }, FileTag { shard: 3, recorder: 7, file: 1 });
    for failed in ["no space left", "it was ended by an error"] {
        setup.recorder.heard(setup.now, &DiskNews { tag: first, failed: failed.to_owned() });
    }
    let status = setup.recorder.status();
    assert_eq!((status.state, status.failures, status.last_error.as_str()), (RecorderState::Recording, 1, "no space left"));
    assert_eq!((status.gops_dropped, status.bytes_dropped), (0, 0));
    setup.recorder.heard(setup.now, &DiskNews { tag: second, failed: "broken".to_owned() });
    let status = setup.recorder.status();
    assert_eq!((status.state, status.failures, status.last_error.as_str()), (RecorderState::Failed, 2, "broken"));
    // Thirteen pictures and twenty-six pieces of sound.
    assert_eq!((status.gops_dropped, status.bytes_dropped), (1, 39_000));
}

#[test]
fn after_an_error_it_is_tried_again() {
    let mut setup = Setup::flv(Record { retry_ms: 2_000, ..Record::default() });
    setup.run(0, 2_020);
    let stale = FileTag { shard: 3, recorder: 7, file: 9 };
    setup.recorder.heard(setup.now, &DiskNews { tag: stale, failed: "another".to_owned() });
    assert_eq!(setup.recorder.state(), RecorderState::Recording, "not its file");
    let tag = setup.orders[0].tag;
    setup.recorder.heard(setup.now, &DiskNews { tag, failed: "no space left".to_owned() });
    let status = setup.recorder.status();
    assert_eq!((status.state, status.last_error.as_str(), status.failures), (RecorderState::Failed, "no space left", 2));
    setup.run(2_020, 3_520);
    assert_eq!(setup.recorder.state(), RecorderState::Failed);
    setup.run(3_520, 5_020);
    let status = setup.recorder.status();
    assert!(status.path.is_some() && status.state == RecorderState::Failed, "it is tried, and not known how it goes");
    setup.run(5_020, 6_020);
    let status = setup.recorder.status();
    assert_eq!((status.state, status.files), (RecorderState::Recording, 2));
    assert_eq!(status.last_error, "no space left", "it is still told what was");
    setup.push(&[MediaEvent::End]);
    assert_eq!(setup.files(), ["0+2: 2000/50", "4000+3: 2040/51!"]);
}

#[test]
fn a_format_that_carries_nothing_says_so_until_the_tracks_change() {
    let mut setup = Setup::new(Record::default(), RecordFormat::Ts);
    let video_only = tracks(b"").only(|track| track.id == TrackId(VIDEO));
    setup.push(&[MediaEvent::Tracks(video_only)]);
    setup.run(0, 20_000);
    let status = setup.recorder.status();
    assert_eq!((status.state, status.failures), (RecorderState::Failed, 1));
    assert_eq!(status.last_error, "ts carries none of the stream's codecs");
    setup.push(&[MediaEvent::Tracks(tracks(b""))]);
    setup.run(20_000, 22_020);
    assert_eq!(setup.recorder.state(), RecorderState::Recording);
}

#[test]
fn sound_alone_is_recorded_too() {
    let mut setup = Setup::flv(Record { split_ms: 1_000, ..Record::default() });
    setup.push(&[MediaEvent::Tracks(tracks(b"").only(|track| track.id == TrackId(AUDIO)))]);
    for ms in (0..2_500).step_by(20) {
        setup.push(&[frame(AUDIO, ms, true)]);
    }
    setup.push(&[MediaEvent::End]);
    assert_eq!(setup.files(), ["0+1: 1000/50!", "1000+1: 1000/50!", "2000+1: 500/25!"]);
}

#[test]
fn a_picture_that_stands_still_does_not_hold_the_sound_up() {
    let mut setup = Setup::flv(Record::default());
    setup.run(0, 1_000);
    for ms in (1_000..8_000).step_by(20) {
        setup.push(&[frame(AUDIO, ms, true)]);
    }
    let handed = setup.orders.iter().filter(|order| matches!(order.action, Action::Append(_))).count();
    assert!(handed >= 3, "{handed}");
}

#[test]
fn every_format_has_a_head_and_shares_the_payload() {
    for format in [RecordFormat::Flv, RecordFormat::Fmp4, RecordFormat::Mp4, RecordFormat::Ts, RecordFormat::Hls] {
        let mut setup = Setup::new(Record::default(), format);
        let MediaEvent::Frame(key) = frame(AUDIO, 0, true) else { unreachable!() };
        setup.push(&[MediaEvent::Tracks(tracks(b"").only(|track| track.id == TrackId(AUDIO)))]);
        setup.push(&[MediaEvent::Frame(key.clone()), MediaEvent::End]);
        let Some(Action::Append(append)) = setup.orders.get(1).map(|order| &order.action) else { panic!("{format:?}") };
        let is_shared = append.parts.iter().any(|part| part.as_ptr() == key.data.as_ptr());
        assert_eq!(is_shared, !matches!(format, RecordFormat::Ts | RecordFormat::Hls), "{format:?}");
        assert!(append.begins);
    }
}
