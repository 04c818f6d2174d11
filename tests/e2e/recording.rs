//! Recordings: every format holds what was sent, two programs agree on it, and the API lists, serves, joins and deletes.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::api::{Response, request, request_with};
use crate::harness::flv::{self, VIDEO, of_kind};
use crate::harness::media::{H264_AAC, H264_AAC_HEAVY, H264_B_AAC, Recipe};
use crate::harness::recording::{Expected, PROGRAMS, assert_agree, ffprobe};
use crate::harness::{Client, Options, Publisher, Runtime, SOON, Server, ffmpeg, fresh_folder, missing, wait_for};

on_both_runtimes!(every_format, wished, ranges, parts_of_a_change, split_by_a_jump, ended_in_order, nothing_leads_out);

/// A server that records everything that is published, in one format.
pub fn options(runtime: Runtime, folder: &Path, format: &str) -> Options {
    let rules = format!("[{{streams: [\"*\"], format: {format}}}]");
    Options::new(runtime)
        .shards(2)
        .set("record.folder", folder.display())
        .set("record.rules", rules)
        .set("record.free_bytes_min", 0)
}

impl Server {
    pub fn recordings(&self, query: &str) -> Vec<Value> {
        self.api(&format!("recordings?limit=1000{query}"))["recordings"].as_array().unwrap().clone()
    }

    /// Waits until so many recordings are there and finished.
    #[track_caller]
    pub fn wait_recordings(&self, count: usize) -> Vec<Value> {
        wait_for(&format!("there are {count} recordings"), SOON, || {
            let found = self.recordings("");
            let is_whole = found.iter().all(|recording| recording["state"] == "whole");
            (is_whole && found.len() >= count).then_some(found)
        })
    }

    pub fn recorder(&self) -> Value {
        self.api("recorders")["recorders"][0].clone()
    }

    #[track_caller]
    pub fn wait_recorder(&self, state: &str) -> Value {
        wait_for(&format!("a recorder is {state}"), SOON, || Some(self.recorder()).filter(|recorder| recorder["state"] == state))
    }

    pub fn get(&self, path: &str, headers: &[&str]) -> Response {
        request(self.control, "GET", &format!("/api/v1/{path}"), headers)
    }
}

pub fn path_of(folder: &Path, recording: &Value) -> PathBuf {
    folder.join(recording["path"].as_str().unwrap())
}

/// The pictures of a file, decoded, each as its hash. ffmpeg must have nothing to complain of.
#[track_caller]
pub fn pictures(input: &str) -> Vec<String> {
    pictures_by(ffmpeg(), input)
}

/// As [`pictures`], by a certain ffmpeg.
#[track_caller]
pub fn pictures_by(mut command: Command, input: &str) -> Vec<String> {
    command.args(["-v", "error", "-i", input, "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framemd5", "-"]);
    let said = Client::start(&mut command).succeed();
    let lines = said.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| line.rsplit(',').next().unwrap_or_else(|| panic!("{line}")).trim().to_owned()).collect()
}

/// The pieces of AAC of a file as they are in it, without the headers that transport streams have, each as its hash.
#[track_caller]
fn sounds(input: &str) -> Vec<String> {
    let mut command = ffmpeg();
    command.args(["-v", "error", "-i", input, "-map", "0:a:0", "-c", "copy", "-bsf:a", "aac_adtstoasc", "-f", "framemd5", "-"]);
    let said = Client::start(&mut command).succeed();
    let lines = said.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    // What comes behind the hash is what a container says beside the piece.
    lines.map(|line| line.split(',').nth(5).unwrap_or_else(|| panic!("{line}")).trim().to_owned()).collect()
}

#[track_caller]
fn milliseconds(recording: &Value) -> f64 {
    recording["duration_ms"].as_f64().unwrap()
}

/// Publishes a whole file in real time and waits until it is recorded.
fn record(server: &Server, recipe: &Recipe, key: &str) -> Value {
    recipe.push(&server.rtmp_url(key)).unwrap().succeed();
    server.wait_recordings(1).remove(0)
}

fn every_format(runtime: Runtime) {
    if missing(&["ffmpeg"]) || missing(&PROGRAMS) {
        return;
    }
    let formats = ["fmp4", "mp4", "flv", "ts", "hls"];
    let original = H264_B_AAC.file().unwrap();
    let (sent, sent_sounds) = (pictures(original.to_str().unwrap()), sounds(original.to_str().unwrap()));
    let facts = ffprobe(&original);
    let sent_apart = facts["video"].begin - facts["audio"].begin;
    std::thread::scope(|scope| {
        for format in formats {
            let (sent, sent_sounds) = (&sent, &sent_sounds);
            scope.spawn(move || {
                let folder = fresh_folder("record");
                let server = Server::start(options(runtime, &folder, format));
                let recording = record(&server, &H264_B_AAC, "live/a");
                let file = path_of(&folder, &recording);
                assert_eq!(recording["format"], format, "{recording}");
                assert_eq!(recording["cut_short"], false);
                assert_eq!(recording["frames"], sent.len(), "{format}");
                assert_eq!(recording["tracks"][0]["codec"], "H264");
                assert_eq!(recording["bytes"], std::fs::metadata(&file).unwrap().len());
                assert!(pictures(file.to_str().unwrap()) == *sent, "{format}: the pictures differ");
                assert!(sounds(file.to_str().unwrap()) == *sent_sounds, "{format}: the sound differs");
                let expected = Expected {
                    video: Some("h264"),
                    audio: Some("aac"),
                    video_frames: Some(sent.len() as u64),
                    ..Expected::default()
                };
                let facts = assert_agree(&file, &expected);
                let begin = facts.values().map(|facts| facts.begin).fold(f64::MAX, f64::min);
                let end = facts.values().map(|facts| facts.end).fold(f64::MIN, f64::max);
                let off = milliseconds(&recording) - 1000.0 * (end - begin);
                assert!(off.abs() <= 41.0, "{format}: {recording} by the API, {facts:?} by ffprobe");
                // The clock of a transport stream is a second ahead of it; of sound that MP4 cuts a frame may lie before.
                let zero = if matches!(format, "ts" | "hls") { 1.0 } else { 0.0 };
                assert!((-0.05..=0.2).contains(&(begin - zero)), "{format}: the file begins at {begin} s");
                // An edit list takes away what B-frames put in front.
                let is_mp4 = matches!(format, "fmp4" | "mp4");
                assert!(!is_mp4 || begin.abs() <= 0.05, "{format}: the file begins at {begin} s");
                // As far apart as they were sent, to one frame of the other.
                let apart = facts["video"].begin - facts["audio"].begin;
                assert!(
                    (apart - sent_apart).abs() <= 0.005,
                    "{format}: sound begins {apart} s before the picture, not {sent_apart}"
                );
                let all = folder.join("all.mp4");
                std::fs::write(&all, server.get("recordings/export?stream=live/a&from=0&to=4000000000000", &[]).body).unwrap();
                assert!(pictures(all.to_str().unwrap()) == *sent, "{format}: the pictures of the export differ");
                assert!(sounds(all.to_str().unwrap()) == *sent_sounds, "{format}: the sound of the export differs");
                if format == "hls" {
                    let playlist = file.with_extension("m3u8");
                    assert!(pictures(playlist.to_str().unwrap()) == *sent, "the pictures of the playlist differ");
                    let id = recording["id"].as_str().unwrap();
                    let url = format!("http://{}/api/v1/recordings/{id}/index.m3u8", server.control);
                    assert!(pictures(&url) == *sent, "the pictures of the playlist of the API differ");
                }
                let names: Vec<_> = file.parent().unwrap().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
                assert!(names.iter().all(|name| !name.to_string_lossy().starts_with('.')), "left over: {names:?}");
                let _ = std::fs::remove_dir_all(folder);
            });
        }
    });
}

fn wished(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let folder = fresh_folder("record");
    let server = Server::start(options(runtime, &folder, "fmp4").set("record.rules", "[]"));
    let post = |body: &str| request_with(server.control, "POST", "/api/v1/recorders", &[], body);
    assert_eq!(post("{\"stream\": \"live/a\"}").status, 404, "it is not there");
    let streaming = Publisher::connect(&server, "live/a").stream(H264_AAC.tags().unwrap());
    server.wait_live("live/a");
    assert_eq!(post("{\"stream\": \"live/a\"}").status, 201);
    assert_eq!(post("{\"stream\": \"live/a\"}").status, 409);
    let flv = "{\"stream\": \"live/a\", \"format\": \"flv\", \"path\": \"wished/{name}/{time}\", \"pre_roll_ms\": 1000, \"keep_ms\": 3600000}";
    assert_eq!(post(flv).status, 201);
    for (body, status) in [
        ("{}", 400),
        ("{\"stream\": \"live/../a\"}", 400),
        ("{\"stream\": \"live/a\", \"format\": \"avi\"}", 400),
        ("{\"stream\": \"live/a\", \"path\": \"../{time}\"}", 400),
        ("{\"stream\": \"live/a\", \"split_ms\": 604800001}", 400),
    ] {
        assert_eq!(post(body).status, status, "{body}");
    }
    wait_for("both have written", SOON, || {
        let stream = server.stream("live/a").unwrap();
        let recorders = stream["recorders"].as_array().unwrap();
        (recorders.len() == 2 && recorders.iter().all(|recorder| recorder["bytes"].as_u64() > Some(100_000))).then_some(())
    });
    assert!(server.metric("shardcast_recorded_bytes_total", "") > 200_000.0);
    assert_eq!(server.metric("shardcast_recorders", "state=\"recording\""), 2.0);
    let delete = |path: &str| request(server.control, "DELETE", &format!("/api/v1/recorders/{path}"), &[]).status;
    assert_eq!(delete("live/a?format=flv"), 204);
    assert_eq!(delete("live/a?format=flv"), 404);
    assert_eq!(delete("live/a"), 204);
    let recordings = server.wait_recordings(2);
    let sent = streaming.finish();
    for recording in &recordings {
        let file = path_of(&folder, recording);
        let facts = ffprobe(&file);
        assert_eq!(recording["frames"], facts["video"].frames, "{recording}");
        let begin = facts.values().map(|facts| facts.begin).fold(f64::MAX, f64::min);
        assert!((0.0..=0.2).contains(&begin), "times begin at zero, not at {begin} s");
        let is_wished = recording["path"].as_str().unwrap().starts_with("wished/a/");
        assert_eq!(is_wished, recording["format"] == "flv", "{recording}");
        if recording["format"] == "flv" {
            let seen: Vec<_> = of_kind(&flv::read(&file), VIDEO).map(|tag| tag.body.clone()).collect();
            let all: Vec<_> = of_kind(&sent, VIDEO).map(|tag| tag.body.clone()).collect();
            assert!(all.windows(seen.len()).any(|window| window == seen), "every frame, from a keyframe on");
        }
    }
    let _ = std::fs::remove_dir_all(folder);
}

fn ranges(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let folder = fresh_folder("record");
    let server = Server::start(options(runtime, &folder, "mp4"));
    let recording = record(&server, &H264_AAC, "live/a");
    let bytes = std::fs::read(path_of(&folder, &recording)).unwrap();
    let path = format!("recordings/{}/file", recording["id"].as_str().unwrap());
    let whole = server.get(&path, &[]);
    assert_eq!((whole.status, whole.header("content-type")), (200, Some("video/mp4")));
    assert!(whole.body == bytes, "the whole file");
    let etag = whole.header("etag").unwrap().to_owned();
    let last = bytes.len() - 1;
    let cases = [
        ("bytes=0-99".to_owned(), 206, &bytes[..100]),
        (format!("bytes={last}-"), 206, &bytes[last..]),
        ("bytes=-1000".to_owned(), 206, &bytes[bytes.len() - 1000..]),
        ("bytes=1000-".to_owned(), 206, &bytes[1000..]),
        (format!("bytes={}-", bytes.len()), 416, &[][..]),
        ("bytes=5-1".to_owned(), 200, &bytes[..]),
    ];
    for (range, status, expected) in cases {
        let answer = server.get(&path, &[&format!("Range: {range}")]);
        assert_eq!(answer.status, status, "{range}");
        assert!(answer.body == expected, "{range}: {} bytes", answer.body.len());
        if status == 416 {
            assert_eq!(answer.header("content-range").unwrap(), format!("bytes */{}", bytes.len()));
        }
    }
    let head = request(server.control, "HEAD", &format!("/api/v1/{path}"), &["Range: bytes=0-9"]);
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (206, Some("10"), 0));
    assert_eq!(server.get(&path, &[&format!("If-None-Match: {etag}")]).status, 304);
    assert_eq!(server.get(&path, &["Range: bytes=0-9", &format!("If-Range: {etag}")]).status, 206);
    assert_eq!(server.get(&path, &["Range: bytes=0-9", "If-Range: \"another\""]).status, 200);
    // A player that seeks reads the end first.
    let url = format!("http://{}/api/v1/{path}", server.control);
    let mut seek = ffmpeg();
    seek.args(["-v", "error", "-ss", "6", "-i", &url, "-frames:v", "1", "-f", "null", "-"]);
    assert_eq!(Client::start(&mut seek).succeed().trim(), "");
    let id = recording["id"].as_str().unwrap();
    assert_eq!(request(server.control, "DELETE", &format!("/api/v1/recordings/{id}"), &[]).status, 204);
    assert_eq!(server.get(&path, &[]).status, 404);
    assert!(server.recordings("").is_empty());
    assert!(folder.read_dir().unwrap().next().is_none(), "folders that are empty go too");
    let _ = std::fs::remove_dir_all(folder);
}

fn parts_of_a_change(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let folder = fresh_folder("record");
    let server = Server::start(options(runtime, &folder, "ts"));
    for (recipe, count) in [(&H264_AAC, 1), (&H264_AAC_HEAVY, 2)] {
        recipe.push(&server.rtmp_url("live/a")).unwrap().succeed();
        server.wait_recordings(count);
    }
    let export = |from: &str, to: &str| server.get(&format!("recordings/export?stream=live/a&from={from}&to={to}"), &[]);
    let refused = export("0", "4000000000000");
    assert_eq!(refused.status, 409, "{}", refused.text());
    let said: Value = serde_json::from_str(&refused.text()).unwrap();
    let ranges = said["ranges"].as_array().unwrap();
    assert_eq!(ranges.len(), 2, "{said}");
    for (range, recipe) in ranges.iter().zip([&H264_AAC, &H264_AAC_HEAVY]) {
        let answer = export(range["from"].as_str().unwrap(), range["to"].as_str().unwrap());
        assert_eq!(answer.status, 200, "{range}: {}", answer.text());
        let name = answer.header("content-disposition").unwrap();
        assert!(name.starts_with("inline; filename=\"live_a_2") && name.ends_with("Z.mp4\""), "{name}");
        let part = folder.join("part.mp4");
        std::fs::write(&part, &answer.body).unwrap();
        let sent = pictures(recipe.file().unwrap().to_str().unwrap());
        let seen = pictures(part.to_str().unwrap());
        assert!(seen.len() + 3 >= sent.len() && sent[..seen.len() - 3] == seen[..seen.len() - 3], "{} pictures", seen.len());
    }
    let found = |query: &str| server.recordings(query).len();
    assert_eq!(
        ["&stream=live/*", "&stream=vip/*", "&format=ts", "&format=flv", "&state=whole", "&state=failed"].map(found),
        [2, 0, 2, 0, 2, 0]
    );
    assert_eq!(server.get("recordings?state=lost", &[]).status, 400);
    let _ = std::fs::remove_dir_all(folder);
}

fn split_by_a_jump(runtime: Runtime) {
    if missing(&["ffmpeg"]) || missing(&PROGRAMS) {
        return;
    }
    for (name, shift) in [("hours ahead", 3 * 3_600_000_i64), ("back", -3_000)] {
        let folder = fresh_folder("record");
        let server = Server::start(options(runtime, &folder, "fmp4"));
        let mut publisher = Publisher::connect(&server, "live/a");
        let tags = H264_AAC.tags().unwrap();
        let began = std::time::Instant::now();
        let jumped = tags.iter().map(|tag| {
            let is_later = tag.timestamp >= 4_000 && tag.is_frame();
            let timestamp = if is_later { i64::from(tag.timestamp) + shift } else { tag.timestamp.into() };
            (tag.timestamp, flv::Tag { timestamp: timestamp as u32, ..tag.clone() })
        });
        for (due, tag) in jumped {
            std::thread::sleep(
                (began + std::time::Duration::from_millis(due.into())).saturating_duration_since(std::time::Instant::now()),
            );
            assert!(publisher.send(&tag));
        }
        publisher.finish();
        let recordings = server.wait_recordings(2);
        assert_eq!(recordings.len(), 2, "{name}: {recordings:?}");
        let frames: u64 = recordings.iter().map(|recording| recording["frames"].as_u64().unwrap()).sum();
        assert_eq!(frames, 200, "{name}: nothing is lost");
        for recording in &recordings {
            let facts = assert_agree(
                &path_of(&folder, recording),
                &Expected { video: Some("h264"), audio: Some("aac"), ..Expected::default() },
            );
            assert!(facts["video"].seconds() < 6.0, "{name}: {facts:?}");
        }
        let _ = std::fs::remove_dir_all(folder);
    }
}

fn ended_in_order(runtime: Runtime) {
    if missing(&["ffmpeg"]) || missing(&["ffprobe"]) {
        return;
    }
    for format in ["fmp4", "mp4", "hls"] {
        let folder = fresh_folder("record");
        let mut server = Server::start(options(runtime, &folder, format));
        let _streaming = Publisher::connect(&server, "live/a").stream(H264_AAC.tags().unwrap());
        wait_for("something is written", SOON, || {
            server.recordings("").first().filter(|recording| recording["frames"].as_u64() > Some(50)).map(|_| ())
        });
        server.signal(libc::SIGTERM);
        assert!(server.wait_exit().success());
        let mut files = Vec::new();
        let mut folders = vec![folder.clone()];
        while let Some(folder) = folders.pop() {
            for entry in folder.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
                if entry.is_dir() { folders.push(entry) } else { files.push(entry) }
            }
        }
        let is_hidden = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with('.');
        assert!(!files.iter().any(is_hidden), "{format}: {files:?}");
        let media = files.iter().find(|path| path.extension().is_some_and(|ending| ending == "mp4" || ending == "ts")).unwrap();
        assert!(!pictures(media.to_str().unwrap()).is_empty());
        let _ = std::fs::remove_dir_all(folder);
    }
}

fn nothing_leads_out(runtime: Runtime) {
    let folder = fresh_folder("record");
    let outside = folder.join("secret.mp4");
    std::fs::write(&outside, "secret").unwrap();
    let server = Server::start(options(runtime, &folder.join("inside"), "fmp4"));
    let ids = [
        "..%2Fsecret.mp4",
        "%2e%2e%2fsecret.mp4",
        "..",
        "../secret.mp4",
        "%00",
        "a%00b",
        "%2Fetc%2Fpasswd",
        "..%5Csecret.mp4",
        "%ff",
    ];
    for id in ids {
        for path in [format!("recordings/{id}"), format!("recordings/{id}/file"), format!("recordings/{id}/index.m3u8")] {
            let answer = server.get(&path, &[]);
            assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
            assert!(!answer.text().contains("secret\""), "{path}");
        }
        let deleted = request(server.control, "DELETE", &format!("/api/v1/recordings/{id}"), &[]).status;
        assert!(matches!(deleted, 400 | 404 | 405), "{id}: {deleted}");
    }
    for stream in ["live/..", "..%2F..%2Fetc%2Fpasswd", "live/a%00b", "/etc/passwd", "live%5Ca%2Fb", "live/%252e%252e"] {
        for path in ["recordings?stream=", "recordings/export?from=0&to=1&stream="] {
            assert_eq!(server.get(&format!("{path}{stream}"), &[]).status, 400, "{path}{stream}");
        }
        let stopped = request(server.control, "DELETE", &format!("/api/v1/recorders/{stream}"), &[]).status;
        assert!(matches!(stopped, 400 | 404), "{stream}: {stopped}");
    }
    // One file is of one stream.
    for pattern in ["live/*", "*", "*/a"] {
        let answer = server.get(&format!("recordings/export?from=0&to=1&stream={pattern}"), &[]);
        let is_said = pattern == "*" || answer.text().contains("is a pattern: an export is of one stream");
        assert!(answer.status == 400 && is_said, "{pattern}: {} {}", answer.status, answer.text());
    }
    for key in ["live/../../out", "live/a\\b"] {
        assert!(Publisher::try_connect(&server, key).is_err(), "{key} can be published");
    }
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "secret");
    assert_eq!(folder.read_dir().unwrap().count(), 1, "nothing was written");
    let _ = std::fs::remove_dir_all(folder);
}
