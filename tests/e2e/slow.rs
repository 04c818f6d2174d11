//! One viewer of twenty stops reading: nobody else notices, it skips instead of lagging, costs no memory, and comes back at a
//! keyframe.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::chunked::Chunked;
use crate::harness::flv::{self, AUDIO, Parser, VIDEO, of_kind};
use crate::harness::media::H264_AAC_HEAVY;
use crate::harness::viewer::read_head;
use crate::harness::{Options, Over, Publisher, Runtime, SOON, Server, Tag, Viewer, missing};

on_both_runtimes!(one_of_twenty_stops_reading);

const LAG_MS_MAX: u64 = 500;
/// How long it does not read: shorter than `stall_ms_max`.
const PAUSE: Duration = Duration::from_secs(6);
/// What the server may need more while one viewer does not read. Debug builds and allocators breathe.
const GROWTH_BYTES_MAX: u64 = 12 << 20;

/// A viewer whose kernel buffer is as small as the kernel allows.
fn narrow_viewer(server: &Server, key: &str) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&server.http.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(SOON)).unwrap();
    write!(stream, "GET /{key}.flv HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert!(read_head(&mut stream).unwrap().starts_with("HTTP/1.1 200"));
    stream
}

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
    let (began, rss) = (Instant::now(), server.rss_bytes());
    let (mut lag_ms_max, mut skips) = (0, 0);
    while began.elapsed() < PAUSE {
        let session = session_of(&server, address).expect("the viewer is not closed");
        lag_ms_max = lag_ms_max.max(session["lag_ms"].as_u64().unwrap());
        skips = session["skips"].as_u64().unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    let growth = server.rss_bytes().saturating_sub(rss);
    println!("{}: lag up to {lag_ms_max} ms, {skips} skips, {} KiB more memory", runtime.name(), growth >> 10);
    assert!(lag_ms_max <= LAG_MS_MAX, "its lag was {lag_ms_max} ms");
    assert!(skips > 0, "it never skipped");
    assert!(growth <= GROWTH_BYTES_MAX, "the server grew by {growth} bytes");

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
