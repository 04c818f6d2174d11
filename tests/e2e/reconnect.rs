//! The encoder dies and comes back three seconds later: viewers stay connected and go on, with decoding times that only grow.

use std::time::{Duration, Instant};

use crate::harness::flv::{self, AUDIO, VIDEO};
use crate::harness::media::{H264_AAC, H264_AAC_LARGE};
use crate::harness::{Client, Options, Over, Runtime, Server, Viewer, framemd5, fresh_folder, missing};

on_both_runtimes!(one_shard, four_shards);

const AWAY: Duration = Duration::from_secs(3);

fn one_shard(runtime: Runtime) {
    publisher_is_killed(runtime, 1);
}

fn four_shards(runtime: Runtime) {
    publisher_is_killed(runtime, 4);
}

fn publisher_is_killed(runtime: Runtime, shards: u16) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let (first, second) = (H264_AAC.tags().unwrap(), H264_AAC_LARGE.tags().unwrap());
    let second_md5 = H264_AAC_LARGE.framemd5().unwrap();
    let server = Server::start(Options::new(runtime).shards(shards));
    let folder = fresh_folder("reconnect");
    let url = server.rtmp_url("live/back");
    let push = H264_AAC.push_forever(&url).unwrap();
    server.wait_live("live/back");
    let raw: Vec<Viewer> = (0..6).map(|at| Viewer::open(&server, Over::ALL[at % 3], "live/back")).collect();
    let pull = |url: String, name: &str| {
        let output = folder.join(name);
        (Client::start(H264_AAC.ffmpeg().unwrap().args(framemd5::arguments(&url, &output))), output)
    };
    let pulls = [pull(url.clone(), "rtmp"), pull(server.flv_url("live/back"), "flv")];
    let before = ids(&server.wait_sessions("viewer", 8));
    for viewer in &raw {
        viewer.wait_frames(VIDEO, 40);
    }

    let peer = server.stream("live/back").unwrap()["publisher"]["peer"].as_str().unwrap().to_owned();
    push.kill();
    let gone = format!("live/back: publisher {peer} gone, waiting");
    server.wait_log("the publisher is gone", |line| line.contains(&gone));
    let gone = Instant::now();
    assert_eq!(server.stream("live/back").unwrap()["state"], "waiting");
    std::thread::sleep(AWAY.saturating_sub(gone.elapsed()));
    let again = H264_AAC_LARGE.push(&url).unwrap();
    server.wait_live("live/back");
    assert_eq!(ids(&server.wait_sessions("viewer", 8)), before, "all viewers stayed");
    again.succeed();

    for viewer in &raw {
        let seen = viewer.wait_over().tags;
        [VIDEO, AUDIO].iter().for_each(|kind| flv::assert_monotonic(&seen, *kind));
        let fresh = seen.iter().rposition(|tag| tag.kind == VIDEO && tag.is_config()).expect("a new configuration");
        assert!(seen[fresh..].iter().find(|tag| tag.kind == VIDEO && tag.is_frame()).unwrap().is_key(), "{}", viewer.name);
        let pictures = flv::assert_tail(&seen[fresh..], &second, VIDEO);
        assert_eq!(pictures, flv::of_kind(&second, VIDEO).count(), "{}: all of the second publisher", viewer.name);
        assert!(flv::of_kind(&seen[..fresh], VIDEO).all(|tag| first.iter().any(|sent| sent.body == tag.body)), "{}", viewer.name);
    }
    for (client, output) in pulls {
        client.succeed();
        let seen = framemd5::read(&output);
        framemd5::assert_monotonic(&seen, "ffmpeg");
        let hashes =
            |streams: &framemd5::Streams| -> Vec<String> { streams["video"].lines.iter().map(|l| l.hash.clone()).collect() };
        assert!(hashes(&seen).ends_with(&hashes(&second_md5)), "ffmpeg got all of the second publisher");
    }
    let _ = std::fs::remove_dir_all(folder);
}

fn ids(sessions: &[serde_json::Value]) -> Vec<String> {
    sessions.iter().map(|session| session["id"].to_string()).collect()
}
