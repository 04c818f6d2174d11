//! Streams that are not one picture and one sound from the beginning to the end: one of them missing, late, announced in vain, or
//! changing its size or codec.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::flv::{self, AUDIO, VIDEO, of_kind};
use crate::harness::media::{H264_AAC, H264_AAC_LARGE, HEVC_AAC, Recipe, only};
use crate::harness::{Options, Over, Publisher, Runtime, SOON, Seen, Server, Tag, Viewer, missing, wait_for};

on_both_runtimes!(audio_only, video_only, late_audio, late_video, audio_never_comes, new_resolution, new_codec);

/// Sends tags at once.
fn send_all(publisher: &mut Publisher, tags: &[Tag]) {
    assert!(tags.iter().all(|tag| publisher.send(tag)));
}

/// A viewer over everything, before there is a publisher.
fn waiting_viewers(server: &Server, key: &str) -> Vec<Viewer> {
    let viewers: Vec<Viewer> = Over::ALL.iter().map(|over| Viewer::open(server, *over, key)).collect();
    server.wait_sessions("waiting", viewers.len());
    viewers
}

fn config_of(tags: &[Tag], kind: u8) -> &Tag {
    tags.iter().find(|tag| tag.kind == kind && tag.is_config()).unwrap()
}

/// The tags with time stamps that begin at `from_ms`.
fn shifted(tags: &[Tag], from_ms: u32) -> Vec<Tag> {
    let first = tags[0].timestamp;
    tags.iter().map(|tag| Tag { timestamp: tag.timestamp - first + from_ms, ..tag.clone() }).collect()
}

fn audio_only(runtime: Runtime) {
    one_kind(runtime, AUDIO, 0x04);
}

fn video_only(runtime: Runtime) {
    one_kind(runtime, VIDEO, 0x01);
}

fn one_kind(runtime: Runtime, kind: u8, flags: u8) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let tags = only(&H264_AAC.tags().unwrap(), kind);
    let server = Server::start(Options::new(runtime).shards(2));
    let viewers = waiting_viewers(&server, "live/one");
    let streaming = Publisher::connect(&server, "live/one").stream(tags);
    for viewer in &viewers {
        viewer.wait_frames(kind, 50);
    }
    let sent = streaming.finish();
    for (viewer, over) in viewers.iter().zip(Over::ALL) {
        let seen = viewer.wait_over();
        flv::assert_tail(&seen.tags, &sent, kind);
        assert_eq!(of_kind(&seen.tags, AUDIO + VIDEO - kind).count(), 0, "{}", viewer.name);
        let expected = if over == Over::Rtmp { None } else { Some(flags) };
        assert_eq!(seen.flags, expected, "{}: the flags of the FLV header", viewer.name);
    }
}

fn late_audio(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let tags = H264_AAC.tags().unwrap();
    let server = Server::start(Options::new(runtime));
    let viewers = waiting_viewers(&server, "live/late");
    let mut publisher = Publisher::connect(&server, "live/late");
    let (early, late): (Vec<Tag>, Vec<Tag>) = tags.iter().cloned().partition(|tag| tag.timestamp < 3_000);
    send_all(&mut publisher, &only(&early, VIDEO));
    for viewer in &viewers {
        viewer.wait_frames(VIDEO, 50);
    }
    let config = config_of(&tags, AUDIO);
    assert!(publisher.send(&Tag { timestamp: 3_000, ..config.clone() }));
    send_all(&mut publisher, &late);
    publisher.finish();
    for viewer in &viewers {
        let seen = viewer.wait_over().tags;
        assert_eq!(flv::assert_tail(&seen, &tags, VIDEO), of_kind(&tags, VIDEO).count(), "{}", viewer.name);
        assert_eq!(flv::assert_tail(&seen, &late, AUDIO), of_kind(&late, AUDIO).count(), "{}", viewer.name);
        let place = |wanted: &dyn Fn(&Tag) -> bool| seen.iter().position(|tag| tag.kind == AUDIO && wanted(tag)).unwrap();
        assert!(place(&Tag::is_config) < place(&Tag::is_frame), "{}: the configuration comes before the sound", viewer.name);
    }
}

fn late_video(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let tags = H264_AAC.tags().unwrap();
    let server = Server::start(Options::new(runtime));
    let viewers = waiting_viewers(&server, "live/late");
    // In real time: only after a second without a picture does sound count as all there is.
    let streaming = Publisher::connect(&server, "live/late").stream(only(&tags, AUDIO));
    for viewer in &viewers {
        viewer.wait_frames(AUDIO, 50);
    }
    let (mut publisher, early) = streaming.stop();
    let key = tags.iter().rposition(Tag::is_key).unwrap();
    let config = config_of(&tags, VIDEO);
    let with_config = [&[Tag { timestamp: tags[key].timestamp, ..config.clone() }], &tags[key..]].concat();
    let late = shifted(&with_config, early.last().unwrap().timestamp + 40);
    send_all(&mut publisher, &late);
    publisher.finish();
    let all = [early, late.clone()].concat();
    for viewer in &viewers {
        let seen = viewer.wait_over().tags;
        assert_eq!(flv::assert_tail(&seen, &late, VIDEO), of_kind(&late, VIDEO).count(), "{}", viewer.name);
        assert!(flv::assert_tail(&seen, &all, AUDIO) >= 50 + of_kind(&late, AUDIO).count(), "{}", viewer.name);
        let first = seen.iter().position(|tag| tag.kind == VIDEO).unwrap();
        assert_eq!(seen[first].body, config.body, "{}: the configuration comes before the picture", viewer.name);
        flv::assert_monotonic(&seen, AUDIO);
    }
}

/// What a stream waits for sound that was announced, and the machine's pauses.
const FIRST_PICTURE: Duration = Duration::from_secs(2);

fn audio_never_comes(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let mut tags = H264_AAC.tags().unwrap();
    tags.retain(|tag| tag.kind != AUDIO || tag.is_config());
    assert!(tags.iter().any(|tag| tag.kind == AUDIO), "sound is announced");
    let server = Server::start(Options::new(runtime).shards(2));
    let open = || Viewer::open(&server, Over::HttpFlv, "live/mute");
    let viewers = [open(), open(), open()];
    server.wait_sessions("waiting", 3);
    let publisher = Publisher::connect(&server, "live/mute");
    let began = Instant::now();
    let streaming = publisher.stream(tags);
    for viewer in &viewers {
        viewer.wait_frames(VIDEO, 1);
    }
    let waited = began.elapsed();
    println!("{}: the first picture after {waited:?}", runtime.name());
    assert!(waited <= FIRST_PICTURE, "the first picture came after {waited:?}");
    // Who comes later need not wait either.
    let began = Instant::now();
    let late = open();
    late.wait_frames(VIDEO, 1);
    assert!(began.elapsed() <= FIRST_PICTURE, "a later viewer had to wait for {:?}", began.elapsed());
    let sent = streaming.finish();
    for viewer in &viewers {
        let seen = viewer.wait_over();
        let pictures = flv::assert_tail(&seen.tags, &sent, VIDEO);
        assert_eq!(pictures, of_kind(&sent, VIDEO).count(), "{}: from the first keyframe", viewer.name);
        assert_mute(&seen);
    }
    let seen = late.wait_over();
    flv::assert_tail(&seen.tags, &sent, VIDEO);
    assert_mute(&seen);
}

/// The sound that was announced in vain is not passed on: players would wait for it.
fn assert_mute(seen: &Seen) {
    assert_eq!(seen.flags, Some(0x01), "picture only");
    assert_eq!(of_kind(&seen.tags, AUDIO).count(), 0);
}

fn new_resolution(runtime: Runtime) {
    picture_changes(runtime, &H264_AAC_LARGE, ("width", 320.into()), ("width", 640.into()));
}

fn new_codec(runtime: Runtime) {
    picture_changes(runtime, &HEVC_AAC, ("codec", "H264".into()), ("codec", "H265".into()));
}

/// The publisher goes on with `second` in the same connection; what the API says of the picture before and after it.
fn picture_changes(runtime: Runtime, second: &Recipe, before: (&str, Value), after: (&str, Value)) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let (first, Some(second)) = (H264_AAC.tags().unwrap(), second.tags()) else { return };
    let server = Server::start(Options::new(runtime).shards(4));
    let viewers: Vec<Viewer> = (0..6).map(|at| Viewer::open(&server, Over::ALL[at % 3], "live/change?hevc=enhanced")).collect();
    server.wait_sessions("waiting", 6);
    let mut publisher = Publisher::connect(&server, "live/change");
    // A viewer on another shard begins at the newest keyframe: all have begun before the second one comes.
    let (begin, rest) = first.split_at(first.iter().position(|tag| tag.timestamp >= 500).unwrap());
    send_all(&mut publisher, begin);
    for viewer in &viewers {
        viewer.wait_frames(VIDEO, 1);
    }
    send_all(&mut publisher, rest);
    let wait_track = |(field, value): (&str, Value)| {
        wait_for(&format!("a track has the {field} {value}"), SOON, || {
            let stream = server.stream("live/change")?;
            stream["tracks"].as_array()?.iter().any(|track| track[field] == value).then_some(())
        });
    };
    wait_track(before);
    for viewer in &viewers {
        viewer.wait_frames(VIDEO, of_kind(&first, VIDEO).count());
    }
    send_all(&mut publisher, &shifted(&second, 8_040));
    wait_track(after);
    publisher.finish();
    let config = |tags: &[Tag]| tags.iter().find(|tag| tag.kind == VIDEO && tag.is_config()).unwrap().body.clone();
    for viewer in &viewers {
        let seen = viewer.wait_over().tags;
        let change = seen.iter().position(|tag| tag.body == config(&second)).expect("the new configuration");
        let (before, after) = seen.split_at(change);
        assert_eq!(config(before), config(&first), "{}", viewer.name);
        assert_eq!(flv::assert_tail(before, &first, VIDEO), of_kind(&first, VIDEO).count(), "{}", viewer.name);
        assert_eq!(flv::assert_tail(after, &second, VIDEO), of_kind(&second, VIDEO).count(), "{}", viewer.name);
        assert!(of_kind(after, VIDEO).next().unwrap().is_key(), "{}", viewer.name);
        flv::assert_monotonic(&seen, VIDEO);
        flv::assert_monotonic(&seen, AUDIO);
    }
}
