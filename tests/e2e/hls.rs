//! HLS over a minute of live: segments and parts of fMP4 and of TS, with a publisher that crashes and comes back, another size of picture,
//! another codec, a goodbye and a new beginning; every playlist, part and segment is held to the rules of RFC 8216bis by a player of our own
//! (`harness/hls`), and what was in the segments is, packet by packet, what was sent. Then what a server says to requests that it cannot
//! grant, and cameras that are called because a playlist is asked for.
//!
//! The server has two shards and every request a connection of its own, so both answer. Players that others have written are in
//! `players.rs` and `browser.rs`; what many players cost, in `hls_crowd.rs`.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::compare;
use crate::harness::device::{CHANNEL, DEVICE, STREAM, platform};
use crate::harness::hls::client::{resolve, with_query};
use crate::harness::hls::{Connection, Multivariant, Player, Watched};
use crate::harness::media::{LIVE, LIVE_HEVC, LIVE_LARGE, LIVE_MS, Recipe};
use crate::harness::publisher::Streaming;
use crate::harness::rtsp::hashes;
use crate::harness::{
    Client, Device, Lateness, Options, Publisher, Runtime, SOON, Server, Tag, flv, fresh_folder, missing, wait_for,
};

on_both_runtimes!(a_minute, first_playlist, without_parts, refusals, camera_on_demand);

const KEY: &str = "live/hls";

fn server(runtime: Runtime) -> Options {
    Options::new(runtime).shards(2).set("viewer.wait_ms", 40_000)
}

fn live(server: &Server, recipe: &Recipe) -> Streaming {
    Publisher::connect(server, KEY).stream_every(recipe.live_tags().unwrap(), LIVE_MS)
}

/// The publishers of a stream that comes back twice, by what they send and for how long.
const ACTS: [(Recipe, u64); 3] = [(LIVE, 24), (LIVE_LARGE, 22), (LIVE_HEVC, 18)];

fn a_minute(runtime: Runtime) {
    if missing(&["ffmpeg"]) || LIVE_HEVC.file().is_none() {
        return;
    }
    let server = Server::start(server(runtime));
    std::thread::scope(|scope| {
        let follow = |playlist: &'static str| {
            let server = &server;
            scope.spawn(move || {
                let mut player = Player::open(Connection::fresh(server.http), &format!("/{KEY}/{playlist}"));
                player.follow(|_| false);
                player.seen
            })
        };
        let players = [follow("index.m3u8"), follow("ts.m3u8")];
        let sent = publish_acts(&server);
        let seen = players.map(|player| player.join().unwrap());
        for (seen, parts) in seen.iter().zip([true, false]) {
            let who = format!("{} {}", runtime.name(), seen.path);
            assert_complete(seen, parts, &who);
            assert_eq!(seen.watch.discontinuities, 2, "{who}: a publisher came back twice");
            assert_eq!(seen.watch.maps.len(), if parts { 3 } else { 0 }, "{who}: {:?}", seen.watch.maps);
            assert_runs(seen, &sent, &who);
        }
        begins_anew(&server, &seen);
    });
}

/// Each comes while the one before is not yet given up; the last says goodbye.
fn publish_acts(server: &Server) -> Vec<(Recipe, Vec<Tag>)> {
    let mut sent = Vec::new();
    for (at, (recipe, seconds)) in ACTS.into_iter().enumerate() {
        let streaming = live(server, &recipe);
        std::thread::sleep(Duration::from_secs(seconds));
        if at + 1 == ACTS.len() {
            sent.push((recipe, streaming.finish()));
        } else {
            sent.push((recipe, streaming.stop().1));
            wait_for("the publisher is missed", SOON, || server.stream(KEY).filter(|stream| stream["state"] == "waiting"));
        }
    }
    sent
}

/// Behind the goodbye the stream's name is free: what is then published under it has other numbers and other URIs.
fn begins_anew(server: &Server, before: &[Watched]) {
    let streaming = live(server, &LIVE);
    let lateness = Lateness::of(server, KEY);
    for old in before {
        let asked = Instant::now();
        let name = if old.path.contains("media-ts") { "ts.m3u8" } else { "index.m3u8" };
        let mut player = Player::open(Connection::fresh(server.http), &format!("/{KEY}/{name}"));
        println!("{name}: the first playlist came after {:?}", asked.elapsed());
        let end = old.segments.last_key_value().map(|(msn, _)| *msn).unwrap();
        player.follow(|seen| seen.segments.len() >= 8);
        assert!(player.seen.segments.first_key_value().is_some_and(|(msn, _)| *msn > end), "numbers go on behind {end}");
        let is_new = |path: &String| !old.segments.values().any(|fetched| fetched.path == *path);
        assert!(player.seen.segments.values().all(|fetched| is_new(&fetched.path)), "no URI is used twice");
        player.seen.watch.assert_lively(|from, to| lateness.between(from, to)).unwrap();
        println!("{name}: at most {:?} between two updates", player.seen.watch.longest_silence);
    }
    drop(streaming);
}

fn assert_complete(seen: &Watched, parts: bool, who: &str) {
    let Watched { watch, segments, packed, deltas, unchanged, old, .. } = seen;
    println!(
        "{who}: {} segments, {} parts, {packed} packed, {deltas} deltas, {unchanged} unchanged, {old} old ones, {:?} between updates",
        segments.len(),
        watch.parts_seen(),
        watch.longest_silence
    );
    assert!(watch.last().unwrap().ended, "{who} ended");
    assert_eq!(watch.segments().count(), segments.len(), "{who}: all that was listed was fetched");
    assert_eq!(watch.parts_seen() > 0, parts, "{who}: parts");
    assert!(*packed > 0 && *unchanged > 0, "{who}: other ways to ask were tried");
    let variant = &seen.multivariant.variants[0];
    let tags = ACTS[0].0.tags().unwrap();
    let config = tags.iter().find(|tag| tag.kind == flv::VIDEO && tag.is_config()).unwrap();
    // Behind the tag's own header: version, profile, constraints, level.
    let codecs = format!("avc1.{:02x}{:02x}{:02x},mp4a.40.2", config.body[6], config.body[7], config.body[8]);
    assert_eq!((variant.codecs.as_str(), variant.resolution), (codecs.as_str(), Some((320, 180))), "{who}: {variant:?}");
    assert!(variant.frame_rate.is_none_or(|rate| (rate - 25.0).abs() < 0.1), "{who}: {variant:?}");
    assert!((300_000..1_500_000).contains(&variant.bandwidth), "{who}: {variant:?}");
}

/// How many of the last packets may be missing: a picture whose end was not sent, and the sound that belongs to it.
const CUT_OFF: usize = 3;
/// How far times may be off a common offset, in microseconds: FLV has milliseconds, TS ninetieths of them.
const SLACK_MICROS: i64 = 2_000;

/// Every run of segments is an unbroken part of what one publisher sent, from a keyframe on and up to its end.
fn assert_runs(seen: &Watched, sent: &[(Recipe, Vec<Tag>)], who: &str) {
    let (runs, folder) = (seen.runs(), fresh_folder("hls-runs"));
    assert_eq!(runs.len(), sent.len(), "{who}: runs");
    for (at, (run, (recipe, tags))) in runs.iter().zip(sent).enumerate() {
        let original = folder.join("sent.flv");
        flv::write(&original, tags);
        let file = folder.join(if seen.inits.is_empty() { "run.ts" } else { "run.mp4" });
        std::fs::write(&file, run).unwrap();
        let sent = hashes(recipe, &original);
        let missing = compare::assert_part(&hashes(recipe, &file), &sent, Some(SLACK_MICROS), &format!("{who}, run {at}"));
        assert!(missing.values().all(|missing| *missing <= CUT_OFF), "{who}, run {at}: at the end {missing:?} are missing");
    }
    assert_decodes(seen, &folder, who);
    let _ = std::fs::remove_dir_all(folder);
}

/// Every third segment can be decoded with nothing but its initialisation section: ffmpeg complains of nothing.
fn assert_decodes(seen: &Watched, folder: &Path, who: &str) {
    for (at, fetched) in seen.segments.values().enumerate().filter(|(at, _)| at % 3 == 0) {
        let file = folder.join(format!("alone-{at}"));
        let init = fetched.segment.map.as_ref().map_or(&[][..], |map| &seen.inits[map]);
        std::fs::write(&file, [init, &fetched.bytes].concat()).unwrap();
        let mut ffmpeg = LIVE_HEVC.ffmpeg().unwrap();
        let output = Client::start(ffmpeg.args(["-xerror", "-i"]).arg(&file).args(["-f", "null", "-"])).succeed();
        assert_eq!(output, "", "{who}: {}", fetched.segment.uri);
    }
}

/// Of a stream that is there, with a keyframe per second, a player that comes gets a playlist within one.
fn first_playlist(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let server = Server::start(server(runtime));
    // Each is the first to ask for its stream.
    for (key, name) in [("live/first", "index.m3u8"), ("live/first-ts", "ts.m3u8")] {
        let _streaming = Publisher::connect(&server, key).stream_every(LIVE.live_tags().unwrap(), LIVE_MS);
        wait_for("the stream has run for three seconds", SOON, || {
            server.stream(key).filter(|stream| stream["age_ms"].as_u64() > Some(3_000))
        });
        let lateness = Lateness::of(&server, key);
        let (asked, path) = (Instant::now(), format!("/{key}/{name}"));
        let mut connection = Connection::fresh(server.http);
        let multivariant = Multivariant::parse(&connection.get(&path, &[]).text()).unwrap();
        let answer = connection.get(&resolve(&path, &multivariant.variants[0].uri), &[]);
        let came = Instant::now();
        let (took, lost) = (came - asked, lateness.between(asked, came));
        println!("{}: {name} after {took:?}, {lost:?} of it was lost", runtime.name());
        assert_eq!(answer.status, 200, "{name}: {}", answer.head);
        assert!(took.saturating_sub(lost) < FIRST_PLAYLIST_MAX, "{name} took {took:?}, {lost:?} of it was lost");
        let player = Player::open(connection, &path);
        assert!(!player.seen.segments.is_empty() || player.seen.watch.parts_seen() > 0, "{name} lists something");
    }
}

const FIRST_PLAYLIST_MAX: Duration = Duration::from_secs(1);

fn without_parts(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let server = Server::start(server(runtime).set("hls.part_ms", 0).set("hls.segment_ms", 1000));
    let _streaming = live(&server, &LIVE);
    let lateness = Lateness::of(&server, KEY);
    let mut player = Player::open(Connection::kept(server.http), &format!("/{KEY}/index.m3u8"));
    player.follow(|seen| seen.segments.len() >= 10);
    let list = player.last();
    assert_eq!((list.part_target, list.target, &list.hint, list.control.part_hold_back), (None, 1, &None, None));
    player.seen.watch.assert_lively(|from, to| lateness.between(from, to)).unwrap();
}

fn refusals(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let server = Server::start(server(runtime).set("viewer.wait_ms", 2_000));
    let mut connection = Connection::kept(server.http);
    for path in ["/live/nobody/index.m3u8", "/live/nobody/ts.m3u8", "/live/nobody/seg-a-1.m4s", "/live/nobody/init-a-0.mp4"] {
        let answer = connection.get(path, &[]);
        assert_eq!(answer.status, 404, "{path}: {}", answer.head);
    }
    let _streaming = live(&server, &LIVE);
    server.wait_live(KEY);
    let mut player = Player::open(Connection::fresh(server.http), &format!("/{KEY}/index.m3u8"));
    player.follow(|seen| seen.segments.len() >= 4);
    let (msn, part) = player.last().coming();
    let media = player.seen.path.clone();
    let refused = [
        ("a part without a segment", "_HLS_part=1".to_owned()),
        ("a segment beyond the next two", format!("_HLS_msn={}", msn + 10)),
        ("a part far beyond the last", format!("_HLS_msn={msn}&_HLS_part={}", part + 1_000)),
        ("no number", "_HLS_msn=x".to_owned()),
        ("a negative number", "_HLS_msn=-1".to_owned()),
        ("a number beyond all", "_HLS_msn=99999999999999999999999".to_owned()),
        ("no number of a part", format!("_HLS_msn={msn}&_HLS_part=x")),
    ];
    for (what, query) in refused {
        let answer = player.get(&with_query(&media, &query), &[]);
        assert_eq!(answer.status, 400, "{what}: {query}: {}", answer.head);
    }
    let name = player.last().segments.last().unwrap().uri.clone();
    let epoch = name.split('-').nth(1).unwrap();
    assert!(name.starts_with(&format!("seg-{epoch}-{}.m4s", msn - 1)), "{name}");
    let names = [
        format!("seg-{epoch}-{}.m4s", msn + 1_000),
        format!("seg-{epoch}-0.m4s"),
        format!("init-{epoch}-99.mp4"),
        format!("seg-{epoch}-{}.mp4", msn - 1),
        format!("seg-a-{}.m4s", msn - 1),
        format!("seg-{}.m4s", msn - 1),
    ];
    for path in names {
        let answer = player.get(&resolve(&media, &path), &[]);
        assert_eq!(answer.status, 404, "{path}: {}", answer.head);
    }
    // What is there.
    let answer = player.get(&with_query(&media, &format!("_HLS_msn={}&_HLS_part=0", msn - 1)), &[]);
    assert_eq!(answer.status, 200);
    // A part behind the last of a finished segment is the first of the next.
    let answer = player.get(&with_query(&media, &format!("_HLS_msn={}&_HLS_part=15", msn - 1)), &[]);
    assert_eq!(answer.status, 200, "{}", answer.head);
}

fn camera_on_demand(runtime: Runtime) {
    let options = platform(runtime).shards(2).set("gb28181.idle_ms", 500).set("hls.idle_ms", 2_000);
    let server = Server::start_platform(options);
    let device = Device::start(&server, "");
    server.wait_channels(DEVICE, 1);
    assert!(device.events("sending").is_empty(), "nobody watches {CHANNEL}");
    let mut player = Player::open(Connection::fresh(server.http), &format!("/{STREAM}/index.m3u8"));
    player.follow(|seen| seen.segments.len() >= 3);
    server.wait_call(STREAM, "playing");
    drop(player);
    server.wait_call(STREAM, "ended");
}
