//! What is kept: recordings go by age, by their size together, and when the disk runs short; and a recording that is asked for begins before that.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::harness::api::{request, request_with};
use crate::harness::flv::{self, VIDEO, of_kind};
use crate::harness::media::{H264_AAC_HEAVY, H264_B_AAC, LIVE, LIVE_MS};
use crate::harness::{Publisher, Runtime, SOON, Server, fresh_folder, missing, skip, wait_for};
use crate::recording::{options, path_of};
use crate::recording_faults::Disk;

on_both_runtimes!(by_age_and_size_of_a_rule, by_size_of_all, by_room, pre_roll);

fn bytes(recordings: &[Value]) -> u64 {
    recordings.iter().map(|recording| recording["bytes"].as_u64().unwrap()).sum()
}

/// Files of media below a folder, whatever the index says.
fn media_files(folder: &Path) -> usize {
    let entries = folder.read_dir().into_iter().flatten().map(|entry| entry.unwrap().path());
    entries
        .map(|path| if path.is_dir() { media_files(&path) } else { usize::from(path.extension().is_some_and(|end| end == "ts")) })
        .sum()
}

/// Waits until recordings of a stream are so few or so small that the bound holds, and returns them.
fn wait_kept(server: &Server, query: &str, what: &str, is_kept: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    wait_for(what, SOON, || Some(server.recordings(query)).filter(|found| is_kept(found)))
}

fn by_age_and_size_of_a_rule(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    const BYTES_MAX: u64 = 200_000;
    let folder = fresh_folder("record");
    let rules = format!(
        "[{{streams: [\"age/*\"], keep_ms: 1000}}, {{streams: [\"size/*\"], total_bytes_max: {BYTES_MAX}}}, {{streams: [\"kept/*\"]}}]"
    );
    let options =
        options(runtime, &folder, "ts").set("record.rules", rules).set("record.split_ms", 1_000).set("record.format", "ts");
    let server = Server::start(options);
    let pushes = ["age/a", "size/a", "kept/a"].map(|key| H264_B_AAC.push(&server.rtmp_url(key)).unwrap());
    pushes.into_iter().for_each(|push| drop(push.succeed()));
    let kept = wait_kept(&server, "&stream=kept/a", "all of one are there", |found| found.len() >= 4);
    assert!(bytes(&kept) > BYTES_MAX, "there is something to delete");
    wait_kept(&server, "&stream=age/a", "the old ones are deleted", <[Value]>::is_empty);
    let size = wait_kept(&server, "&stream=size/a", "what is too much is deleted", |found| {
        bytes(found) <= BYTES_MAX && found.iter().all(|recording| recording["state"] == "whole")
    });
    // The oldest went: what is left is up to the end.
    let newest = |found: &[Value]| found.last().unwrap()["frames"].clone();
    assert!(!size.is_empty() && newest(&size) == newest(&kept), "{size:?}");
    assert_eq!(server.recordings("&stream=kept/a").len(), kept.len());
    wait_for("their files are gone, too", SOON, || (media_files(&folder) == size.len() + kept.len()).then_some(()));
    let _ = std::fs::remove_dir_all(folder);
}

fn by_size_of_all(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    const BYTES_MAX: u64 = 300_000;
    let folder = fresh_folder("record");
    let options = options(runtime, &folder, "ts").set("record.split_ms", 1_000).set("record.total_bytes_max", BYTES_MAX);
    let server = Server::start(options);
    let pushes = ["live/a", "live/b"].map(|key| H264_B_AAC.push(&server.rtmp_url(key)).unwrap());
    pushes.into_iter().for_each(|push| drop(push.succeed()));
    let found = wait_kept(&server, "", "what is too much is deleted", |found| {
        !found.is_empty() && bytes(found) <= BYTES_MAX && found.iter().all(|recording| recording["state"] == "whole")
    });
    assert!(bytes(&found) > BYTES_MAX / 3, "no more than needs be: {found:?}");
    assert_eq!(media_files(&folder), found.len());
    let _ = std::fs::remove_dir_all(folder);
}

fn by_room(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    const FREE_MIN: u64 = 3 << 20;
    let Some(disk) = Disk::mount("6m") else { return skip("only root can mount a small disk") };
    let folder = disk.folder().join("r");
    let options = options(runtime, &folder, "ts")
        .set("record.split_ms", 1_000)
        .set("record.retry_ms", 200)
        .set("record.free_bytes_min", FREE_MIN)
        .set("record.when_full", "delete_oldest");
    let server = Server::start(options);
    let streaming = Publisher::connect(&server, "live/a").stream(H264_AAC_HEAVY.tags().unwrap());
    server.wait_live("live/a");
    let first = wait_for("a file is whole", SOON, || server.recordings("").into_iter().find(|found| found["state"] == "whole"));
    // More than the disk could hold with the floor.
    wait_for("more is recorded than there is room for", SOON, || {
        server.recorder()["bytes"].as_u64().filter(|bytes| *bytes > 5 << 20)
    });
    streaming.finish();
    let found = wait_kept(&server, "", "all are whole, and the floor holds", |found| {
        found.iter().all(|recording| recording["state"] == "whole") && disk.free_bytes() >= FREE_MIN
    });
    assert!(!found.is_empty() && found.iter().all(|recording| recording["id"] != first["id"]), "the oldest went: {found:?}");
}

/// In milliseconds since 1970.
fn wall_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() * 1_000.0
}

fn pre_roll(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let folder = fresh_folder("record");
    let server = Server::start(options(runtime, &folder, "flv").set("record.rules", "[]").set("record.pre_roll_ms", 3_000));
    let streaming = Publisher::connect(&server, "live/a").stream_every(LIVE.live_tags().unwrap(), LIVE_MS);
    wait_for("the stream is old enough", SOON, || {
        server.stream("live/a").filter(|stream| stream["age_ms"].as_u64() > Some(4_500))
    });
    let mut known: Vec<Value> = Vec::new();
    // How far back is asked for, and between which distances from now it then begins: a GOP has a second, and the machine may be busy.
    for (pre_roll, [least, most]) in [("2000", [2_000.0, 3_000.0]), ("0", [f64::MIN, 0.0]), ("null", [3_000.0, 4_000.0])] {
        let body = format!("{{\"stream\": \"live/a\", \"format\": \"flv\", \"pre_roll_ms\": {pre_roll}}}");
        let before = wall_ms();
        assert_eq!(request_with(server.control, "POST", "/api/v1/recorders", &[], &body).status, 201, "{pre_roll}");
        let after = wall_ms();
        wait_for("something is recorded", SOON, || server.recorder()["bytes"].as_u64().filter(|bytes| *bytes > 50_000));
        assert_eq!(request(server.control, "DELETE", "/api/v1/recorders/live/a", &[]).status, 204);
        let mut recordings = server.wait_recordings(known.len() + 1);
        recordings.retain(|recording| !known.contains(&recording["id"]));
        let recording = recordings.remove(0);
        known.push(recording["id"].clone());
        let start = recording["start_ms"].as_f64().unwrap();
        println!("{}: pre-roll {pre_roll}: {:.0} ms before", runtime.name(), after - start);
        // Of what is on its way at that moment the one may know and the other not.
        const MARGIN_MS: f64 = 100.0;
        assert!(
            after - start >= least - MARGIN_MS && before - start <= most + MARGIN_MS,
            "{pre_roll}: {} ms before",
            after - start
        );
        let seen: Vec<_> = of_kind(&flv::read(&path_of(&folder, &recording)), VIDEO).cloned().collect();
        assert!(seen[0].is_key(), "{pre_roll}");
        let frames = recording["frames"].as_u64().unwrap();
        assert_eq!(frames, seen.len() as u64, "{pre_roll}");
    }
    let sent = streaming.finish();
    let all: Vec<_> = of_kind(&sent, VIDEO).map(|tag| &tag.body).collect();
    for recording in server.recordings("") {
        let tags = flv::read(&path_of(&folder, &recording));
        let seen: Vec<_> = of_kind(&tags, VIDEO).map(|tag| &tag.body).collect();
        assert!(all.windows(seen.len()).any(|window| window == seen), "every picture is there");
    }
    let _ = std::fs::remove_dir_all(folder);
}
