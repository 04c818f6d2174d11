//! Streams that are not one picture and one sound from the beginning to the end: one of them missing, late, or changing its size.

use crate::harness::flv::{self, AUDIO, VIDEO, of_kind};
use crate::harness::media::{H264_AAC, H264_AAC_LARGE, only};
use crate::harness::{Options, Over, Publisher, Runtime, Server, Tag, Viewer, missing};

on_both_runtimes!(audio_only, video_only, late_audio, new_resolution);

/// Sends tags at once.
fn send_all(publisher: &mut Publisher, tags: &[Tag]) {
    assert!(tags.iter().all(|tag| publisher.send(tag)));
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
    let viewers: Vec<Viewer> = Over::ALL.iter().map(|over| Viewer::open(&server, *over, "live/one")).collect();
    server.wait_sessions("waiting", 3);
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
    let viewers: Vec<Viewer> = Over::ALL.iter().map(|over| Viewer::open(&server, *over, "live/late")).collect();
    server.wait_sessions("waiting", 3);
    let mut publisher = Publisher::connect(&server, "live/late");
    let (early, late): (Vec<Tag>, Vec<Tag>) = tags.iter().cloned().partition(|tag| tag.timestamp < 3_000);
    assert!(only(&early, VIDEO).iter().all(|tag| publisher.send(tag)));
    for viewer in &viewers {
        viewer.wait_frames(VIDEO, 50);
    }
    let config = tags.iter().find(|tag| tag.kind == AUDIO && tag.is_config()).unwrap();
    assert!(publisher.send(&Tag { timestamp: 3_000, ..config.clone() }));
    assert!(late.iter().all(|tag| publisher.send(tag)));
    publisher.finish();
    for viewer in &viewers {
        let seen = viewer.wait_over().tags;
        assert_eq!(flv::assert_tail(&seen, &tags, VIDEO), of_kind(&tags, VIDEO).count(), "{}", viewer.name);
        assert_eq!(flv::assert_tail(&seen, &late, AUDIO), of_kind(&late, AUDIO).count(), "{}", viewer.name);
        let place = |wanted: &dyn Fn(&Tag) -> bool| seen.iter().position(|tag| tag.kind == AUDIO && wanted(tag)).unwrap();
        assert!(place(&Tag::is_config) < place(&Tag::is_frame), "{}: the configuration comes before the sound", viewer.name);
    }
}

fn new_resolution(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let (small, large) = (H264_AAC.tags().unwrap(), H264_AAC_LARGE.tags().unwrap());
    let server = Server::start(Options::new(runtime).shards(4));
    let viewers: Vec<Viewer> = (0..6).map(|at| Viewer::open(&server, Over::ALL[at % 3], "live/size")).collect();
    server.wait_sessions("waiting", 6);
    let mut publisher = Publisher::connect(&server, "live/size");
    // A viewer on another shard begins at the newest keyframe: all have begun before the second one comes.
    let (begin, rest) = small.split_at(small.iter().position(|tag| tag.timestamp >= 500).unwrap());
    send_all(&mut publisher, begin);
    for viewer in &viewers {
        viewer.wait_frames(VIDEO, 1);
    }
    send_all(&mut publisher, rest);
    let width = |width: u64| {
        crate::harness::wait_for(&format!("the picture is {width} wide"), crate::harness::SOON, || {
            let stream = server.stream("live/size")?;
            stream["tracks"].as_array()?.iter().any(|track| track["width"] == width).then_some(())
        })
    };
    width(320);
    for viewer in &viewers {
        viewer.wait_frames(VIDEO, of_kind(&small, VIDEO).count());
    }
    send_all(&mut publisher, &shifted(&large, 8_040));
    width(640);
    publisher.finish();
    let config = |tags: &[Tag]| tags.iter().find(|tag| tag.kind == VIDEO && tag.is_config()).unwrap().body.clone();
    for viewer in &viewers {
        let seen = viewer.wait_over().tags;
        let change = seen.iter().position(|tag| tag.body == config(&large)).expect("the new configuration");
        let (before, after) = seen.split_at(change);
        assert_eq!(config(before), config(&small), "{}", viewer.name);
        assert_eq!(flv::assert_tail(before, &small, VIDEO), of_kind(&small, VIDEO).count(), "{}", viewer.name);
        assert_eq!(flv::assert_tail(after, &large, VIDEO), of_kind(&large, VIDEO).count(), "{}", viewer.name);
        assert!(of_kind(after, VIDEO).next().unwrap().is_key(), "{}", viewer.name);
        flv::assert_monotonic(&seen, VIDEO);
        flv::assert_monotonic(&seen, AUDIO);
    }
}
