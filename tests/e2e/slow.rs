//! One viewer of many stops reading: nobody else notices, it skips instead of lagging, costs no memory, and comes back at a keyframe.

use std::collections::HashMap;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::chunked::Chunked;
use crate::harness::flv::{self, AUDIO, Parser, VIDEO, of_kind};
use crate::harness::media::{H264_AAC, H264_AAC_HEAVY};
use crate::harness::viewer::narrow_viewer;
use crate::harness::{Crowd, Options, Over, Publisher, Runtime, SOON, Server, Tag, Viewer, missing, wait_for};

on_both_runtimes!(one_of_twenty_stops_reading, one_of_a_hundred_stops_reading, memory_does_not_grow);

const LAG_MS_MAX: u64 = 500;
/// How long it does not read: shorter than `stall_ms_max`.
const PAUSE: Duration = Duration::from_secs(6);

fn session_of(server: &Server, address: SocketAddr) -> Option<Value> {
    let address = address.to_string();
    server.sessions("viewer").into_iter().find(|session| session["peer"] == address.as_str())
}

fn one_of_twenty_stops_reading(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let tags = H264_AAC_HEAVY.tags().unwrap();
    let server = Server::start(Options::new(runtime).shards(2).set("viewer.lag_ms_max", LAG_MS_MAX));
    let streaming = Publisher::connect(&server, "live/slow").stream(tags);
    server.wait_live("live/slow");
    let over = [Over::HttpFlv, Over::HttpFlv, Over::Rtmp];
    let others: Vec<Viewer> = (0..19).map(|at| Viewer::open(&server, over[at % 3], "live/slow")).collect();
    let mut slow = narrow_viewer(&server, "live/slow");
    server.wait_sessions("viewer", 20);
    for viewer in &others {
        viewer.wait_frames(VIDEO, 30);
    }

    let address = slow.local_addr().unwrap();
    let began = Instant::now();
    let (mut lag_ms_max, mut skips) = (0, 0);
    while began.elapsed() < PAUSE {
        let session = session_of(&server, address).expect("the viewer is not closed");
        lag_ms_max = lag_ms_max.max(session["lag_ms"].as_u64().unwrap());
        skips = session["skips"].as_u64().unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("{}: lag up to {lag_ms_max} ms, {skips} skips", runtime.name());
    assert!(lag_ms_max <= LAG_MS_MAX, "its lag was {lag_ms_max} ms");
    assert!(skips > 0, "it never skipped");

    let resumed = read_on(&mut slow, 100);
    let sent = streaming.finish();
    drop(slow);
    for viewer in &others {
        let seen = viewer.wait_over().tags;
        let frames = flv::assert_tail(&seen, &sent, VIDEO);
        assert!(frames >= 150, "{} saw {frames} pictures", viewer.name);
        flv::assert_tail(&seen, &sent, AUDIO);
        flv::assert_monotonic(&seen, VIDEO);
    }
    check_resumed(&resumed, &others[0].seen().tags);
}

/// Viewers that read, next to the one that does not.
const READERS: usize = 99;
/// Packets over which latency is measured: some five seconds.
const PACKETS: u64 = READERS as u64 * 350;
/// Latency that is no change, whatever it was without the viewer that stopped.
const P99_MS_FINE: f64 = 20.0;
/// The best of so many runs counts: the machine may be busy with something else.
const TRIES: usize = 3;

fn one_of_a_hundred_stops_reading(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let (mut without, mut with) = (f64::MAX, f64::MAX);
    for _ in 0..TRIES {
        without = without.min(p99_ms(runtime, false));
        with = with.min(p99_ms(runtime, true));
        println!("{}: p99 {without} ms, with one that does not read {with} ms", runtime.name());
        if with <= (2.0 * without).max(P99_MS_FINE) {
            return;
        }
    }
    panic!("the others' p99 rose from {without} to {with} ms");
}

/// The p99 of what the server adds for viewers over HTTP-FLV; with another one that stops reading, whose own fate is checked too.
fn p99_ms(runtime: Runtime, with_stalled: bool) -> f64 {
    let server = Server::start(Options::new(runtime).shards(2).set("viewer.lag_ms_max", LAG_MS_MAX));
    let streaming = Publisher::connect(&server, "live/many").stream(H264_AAC.tags().unwrap());
    server.wait_live("live/many");
    let mut stalled = with_stalled.then(|| narrow_viewer(&server, "live/many"));
    let crowd = Crowd::open(&server, "live/many", READERS);
    server.wait_sessions("viewer", READERS + usize::from(with_stalled));
    let address = stalled.as_ref().map(|viewer| viewer.local_addr().unwrap());
    let (mut lag_ms_max, mut skips) = (0, 0);
    let p99 = wait_for("the packets are sent", SOON, || {
        if let Some(address) = address {
            let session = session_of(&server, address).expect("the viewer is not closed");
            lag_ms_max = lag_ms_max.max(session["lag_ms"].as_u64().unwrap());
            skips = session["skips"].as_u64().unwrap();
        }
        let latency = server.stream("live/many")?["latency"]["protocols"]["http-flv"].clone();
        (latency["count"].as_u64()? >= PACKETS).then(|| latency["p99_ms"].as_f64().unwrap())
    });
    crowd.leave();
    if let Some(stalled) = &mut stalled {
        println!("{}: lag up to {lag_ms_max} ms, {skips} skips", runtime.name());
        assert!(lag_ms_max <= LAG_MS_MAX && skips > 0, "its lag was {lag_ms_max} ms, with {skips} skips");
        let resumed = read_on(stalled, 10);
        check_resumed(&resumed, &streaming.finish());
    }
    p99
}

/// What passes a viewer that does not read, from when it has skipped.
const MISSED_BYTES: u64 = 6 << 20;
/// What the server may need more meanwhile. Allocators breathe.
const GROWTH_BYTES_MAX: u64 = 2 << 20;

fn memory_does_not_grow(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    // Sixteen megabits per second.
    let faster = |tag: Tag| Tag { timestamp: tag.timestamp / 4, ..tag };
    let tags: Vec<Tag> = H264_AAC_HEAVY.tags().unwrap().into_iter().map(faster).collect();
    let server = Server::start(Options::new(runtime).set("viewer.lag_ms_max", LAG_MS_MAX));
    let _streaming = Publisher::connect(&server, "live/slow").stream(tags);
    server.wait_live("live/slow");
    let slow = narrow_viewer(&server, "live/slow");
    let address = slow.local_addr().unwrap();
    let skips = || session_of(&server, address).expect("the viewer is not closed")["skips"].as_u64().unwrap();
    let bytes_in = || server.stream("live/slow").unwrap()["bytes_in"].as_u64().unwrap();
    wait_for("the viewer has skipped", SOON, || (skips() >= 2).then_some(()));
    let (from, before) = (bytes_in(), server.rss_bytes());
    wait_for("enough has passed the viewer", SOON, || (bytes_in() - from >= MISSED_BYTES).then_some(()));
    let growth = server.rss_bytes().saturating_sub(before);
    let missed = bytes_in() - from;
    println!("{}: {} KiB more memory while {} KiB passed the viewer", runtime.name(), growth >> 10, missed >> 10);
    assert!(growth <= GROWTH_BYTES_MAX, "the server grew by {growth} bytes");
    assert!(skips() >= 4, "it skipped {} times", skips());
}

/// Reads until a jump in time was seen and `count` pictures behind it.
fn read_on(stream: &mut TcpStream, count: usize) -> Vec<Tag> {
    let (mut chunked, mut parser, mut tags, mut buffer) = (Chunked::default(), Parser::default(), Vec::new(), vec![0; 1 << 16]);
    let deadline = Instant::now() + SOON;
    while jump(&tags).is_none_or(|at| of_kind(&tags, VIDEO).count() < at + count) {
        assert!(Instant::now() < deadline, "{} tags and no jump", tags.len());
        match stream.read(&mut buffer).unwrap() {
            0 => panic!("the slow viewer was closed"),
            count => tags.extend(parser.push(&chunked.push(&buffer[..count]))),
        }
    }
    tags
}

/// Which picture is the first after the viewer skipped.
fn jump(tags: &[Tag]) -> Option<usize> {
    let times: Vec<u32> = of_kind(tags, VIDEO).map(|tag| tag.timestamp).collect();
    times.windows(2).position(|pair| pair[1] > pair[0] + 400).map(|at| at + 1)
}

/// What the slow viewer got is what the others got, less what it skipped; after each gap comes a keyframe.
fn check_resumed(seen: &[Tag], whole: &[Tag]) {
    flv::assert_monotonic(seen, VIDEO);
    flv::assert_monotonic(seen, AUDIO);
    let order: Vec<&Tag> = of_kind(whole, VIDEO).collect();
    let place: HashMap<u32, usize> = order.iter().enumerate().map(|(at, tag)| (tag.timestamp, at)).collect();
    let first = order[0].timestamp;
    let mut before: Option<usize> = None;
    // Of the GOP that was there before them, the two may have got different parts.
    for tag in of_kind(seen, VIDEO).filter(|tag| tag.timestamp >= first) {
        let at = place[&tag.timestamp];
        assert_eq!(tag, order[at], "the picture at {} ms", tag.timestamp);
        assert!(
            before.is_none_or(|before| at == before + 1) || tag.is_key(),
            "after a gap comes no keyframe at {} ms",
            tag.timestamp
        );
        before = Some(at);
    }
}
