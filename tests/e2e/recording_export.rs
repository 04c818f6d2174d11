//! A range of time as one MP4, over several files and out of every format: where it begins, how long it is, and what is in it.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::harness::media::{H264_AAC, LIVE, LIVE_MS};
use crate::harness::recording::{Expected, PROGRAMS, assert_agree, ffprobe};
use crate::harness::rtsp::hashes;
use crate::harness::{Options, Publisher, Runtime, SOON, Server, compare, fresh_folder, missing, wait_for};
use crate::recording::pictures;
use crate::recording_codecs::{FORMATS, with_rules};

on_both_runtimes!(one_file_of_many, over_a_pause);

/// From and to, in milliseconds from the first picture on; none is a keyframe's, of which one stands at each second. Files are two seconds long.
const RANGES: [(f64, f64); 4] = [
    // Inside of one file.
    (2_600.0, 3_400.0),
    // Over one split, and over two.
    (3_500.0, 5_010.0),
    (1_300.0, 4_900.0),
    // Up to the very end.
    (6_700.0, 20_000.0),
];
const FRAME_MS: f64 = 40.0;
/// FLV has milliseconds, TS ninetieths of them; MP4 puts sound back on its sample clock.
const SLACK_MICROS: i64 = 2_500;

/// Each format has the streams of an app.
fn options(runtime: Runtime, folder: &Path) -> Options {
    with_rules(runtime, folder, |format| {
        format!("{{streams: [\"{format}/*\"], format: {format}, split_ms: 2000, path: \"{format}/{{time}}\"}}")
    })
}

fn one_file_of_many(runtime: Runtime) {
    if missing(&["ffmpeg"]) || missing(&PROGRAMS) {
        return;
    }
    let folder = fresh_folder("record");
    let server = Server::start(options(runtime, &folder));
    let pushes = FORMATS.map(|format| H264_AAC.push(&server.rtmp_url(&format!("{format}/a"))).unwrap());
    pushes.into_iter().for_each(|push| drop(push.succeed()));
    server.wait_recordings(4 * FORMATS.len());
    let sent = pictures(H264_AAC.file().unwrap().to_str().unwrap());
    for format in FORMATS {
        exports(&server, format, &folder, &sent);
    }
    let _ = std::fs::remove_dir_all(folder);
}

fn exports(server: &Server, format: &str, folder: &Path, sent: &[String]) {
    let recordings = server.recordings(&format!("&stream={format}/a"));
    assert_eq!(recordings.len(), 4, "{format}: {recordings:?}");
    for recording in &recordings {
        let expected = Expected { video: Some("h264"), audio: Some("aac"), video_frames: Some(50), ..Expected::default() };
        assert_agree(&folder.join(recording["path"].as_str().unwrap()), &expected);
    }
    let milliseconds = |recording: &Value, what: &str| recording[what].as_f64().unwrap();
    let (first, last) = (&recordings[0], recordings.last().unwrap());
    let start = milliseconds(first, "start_ms");
    let end = milliseconds(last, "start_ms") + milliseconds(last, "duration_ms");
    let path = |from: f64, to: f64| format!("recordings/export?stream={format}/a&from={from}&to={to}");
    let whole = folder.join("all.mp4");
    std::fs::write(&whole, server.get(&path(start - 1.0, end + 1.0), &[]).body).unwrap();
    assert!(pictures(whole.to_str().unwrap()) == sent, "{format}: all files make what was sent");
    // Sound may begin before the picture.
    let facts = ffprobe(&folder.join(first["path"].as_str().unwrap()));
    let lead = 1_000.0 * (facts["video"].begin - facts.values().map(|facts| facts.begin).fold(f64::MAX, f64::min));
    let zero = start + lead;
    let original = hashes(&H264_AAC, &H264_AAC.file().unwrap());
    for (from, to) in RANGES {
        let who = format!("{format}, {from} ms to {to} ms");
        let answer = server.get(&path(zero + from, zero + to), &[]);
        assert_eq!(answer.status, 200, "{who}: {}", answer.text());
        let part = folder.join("part.mp4");
        std::fs::write(&part, &answer.body).unwrap();
        // From the keyframe before, which is where the answer says, up to the last picture before the end.
        let key = (from / 1_000.0).floor();
        let seconds = (to.min(8_000.0) - 1_000.0 * key) / 1_000.0;
        let begins = 1_000.0 * unix_seconds(answer.header("x-recording-start").unwrap());
        assert!((begins - zero - 1_000.0 * key).abs() <= FRAME_MS, "{who} begins at {} ms", begins - zero);
        let (seen, at) = (pictures(part.to_str().unwrap()), 25 * key as usize);
        // Up to two pictures may be behind the end, because those before it need them.
        let over = seen.len() as f64 - 25.0 * seconds;
        assert!((-0.5..=3.0).contains(&over), "{who}: {} pictures in {seconds} s", seen.len());
        assert!(sent[at..].starts_with(&seen), "{who}: the pictures from the keyframe on");
        let facts = ffprobe(&part);
        assert!(facts["video"].begin.abs() <= 0.001 && facts["audio"].begin.abs() <= 0.04, "{who}: {facts:?}");
        let longest = facts.values().map(|facts| facts.end).fold(f64::MIN, f64::max);
        let said: f64 = answer.header("x-recording-duration-ms").unwrap().parse().unwrap();
        assert!((1_000.0 * longest - said).abs() <= FRAME_MS, "{who}: {longest} s, {said} ms are said");
        assert!((facts["video"].end - 0.04 * seen.len() as f64).abs() <= 0.002, "{who}: {facts:?}, {} pictures", seen.len());
        // Sound and picture stay together over a split.
        compare::assert_part(&hashes(&H264_AAC, &part), &original, Some(SLACK_MICROS), &who);
        let range = server.get(&path(zero + from, zero + to), &["Range: bytes=1000-60000"]);
        assert!(range.status == 206 && range.body == answer.body[1_000..=60_000.min(answer.body.len() - 1)], "{who}");
    }
    let export = |from: f64, to: f64| server.get(&path(from, to), &[]).status;
    assert_eq!((export(end + 10_000.0, end + 20_000.0), export(end, start)), (404, 400), "{format}");
    // By time, as the index has it.
    let found = server.recordings(&format!("&stream={format}/a&from={}&to={}", start + 2_500.0, start + 3_000.0));
    assert_eq!(found.len(), 1, "{found:?}");
}

/// A publisher crashes, and comes again while its stream is still there: what came then stands where it was in time.
fn over_a_pause(runtime: Runtime) {
    if missing(&["ffmpeg", "ffprobe"]) {
        return;
    }
    const AWAY: Duration = Duration::from_secs(3);
    // The machine may be busy.
    const SLACK_MS: f64 = 1_500.0;
    let wall_ms = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() * 1_000.0;
    let folder = fresh_folder("record");
    let server = Server::start(options(runtime, &folder));
    let mut seams = Vec::new();
    let mut bytes = 0;
    for round in 0..2 {
        let before = wall_ms();
        let streaming = Publisher::connect(&server, "fmp4/a").stream_every(LIVE.live_tags().unwrap(), LIVE_MS);
        wait_for("more is recorded", SOON, || {
            server.recorder()["bytes"].as_u64().filter(|now| *now > bytes + 200_000).map(|now| bytes = now)
        });
        if round == 0 {
            drop(streaming);
            seams.push((before, wall_ms()));
            std::thread::sleep(AWAY);
        } else {
            streaming.finish();
            seams.push((before, wall_ms()));
        }
    }
    let milliseconds = |recording: &Value, what: &str| recording[what].as_f64().unwrap();
    wait_for("all is whole", SOON, || {
        let found = server.recordings("&stream=fmp4/a");
        let end = |recording: &Value| milliseconds(recording, "start_ms") + milliseconds(recording, "duration_ms");
        let is_whole = found.iter().all(|recording| recording["state"] == "whole");
        (is_whole && found.last().is_some_and(|last| end(last) >= seams[1].1 - SLACK_MS)).then_some(())
    });
    let found = server.recordings("&stream=fmp4/a");
    // Each lies within what one of the two publishers sent, and nothing between them.
    for recording in &found {
        let start = milliseconds(recording, "start_ms");
        let end = start + milliseconds(recording, "duration_ms");
        let is_inside = |(from, to): &(f64, f64)| start >= from - FRAME_MS && end <= to + SLACK_MS;
        assert!(seams.iter().any(is_inside), "{start} to {end}, published {seams:?}: {found:?}");
    }
    let second = found.iter().find(|recording| milliseconds(recording, "start_ms") >= seams[1].0 - FRAME_MS).unwrap();
    let start = milliseconds(second, "start_ms");
    // By the clock, from the pause on.
    let path = |from: f64, to: f64| format!("recordings/export?stream=fmp4/a&from={from}&to={to}");
    let answer = server.get(&path(start - 500.0, start + 900.0), &[]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let begins = 1_000.0 * unix_seconds(answer.header("x-recording-start").unwrap());
    assert!((begins - start).abs() <= FRAME_MS, "begins {} ms off", begins - start);
    // And all of it.
    let whole = folder.join("all.mp4");
    std::fs::write(&whole, server.get(&path(seams[0].0 - 1_000.0, seams[1].1 + 10_000.0), &[]).body).unwrap();
    let frames: f64 = found.iter().map(|recording| milliseconds(recording, "frames")).sum();
    assert_eq!(ffprobe(&whole)["video"].frames as f64, frames, "{found:?}");
    let _ = std::fs::remove_dir_all(folder);
}

/// Of a moment as `2026-01-31T23:59:59.999Z`, in seconds since 1970.
fn unix_seconds(moment: &str) -> f64 {
    let output = std::process::Command::new("date").args(["-u", "-d", moment, "+%s.%N"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}
