//! RTSP clients that do what none should, while a stream plays: each is answered or closed, and counted; the stream does not notice.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::api::wait_closed;
use crate::harness::flv::{self, AUDIO, VIDEO};
use crate::harness::limits::many_files;
use crate::harness::media::H264_AAC;
use crate::harness::rtsp_client::{RtspClient, SDP};
use crate::harness::{Options, Over, Publisher, Runtime, SOON, Server, Viewer, missing, wait_for};

on_both_runtimes!(hostile_clients, half_open_connections, halves_of_requests, sessions_leave_nothing_behind);

const HANDSHAKE_MS_MAX: u64 = 2_000;
const HALF_OPEN: usize = 5_000;

fn errors(server: &Server, reason: &str) -> f64 {
    server.metric("shardcast_session_errors_total", &format!("protocol=\"rtsp\",reason=\"{reason}\""))
}

/// Runs `attack` while a stream is published by RTMP and watched over everything; every viewer must get every frame.
fn beside_a_stream(server: &Server, attack: impl FnOnce()) {
    let streaming = Publisher::connect(server, "live/calm").stream(H264_AAC.tags().unwrap());
    server.wait_live("live/calm");
    let viewers = Over::ALL.map(|over| Viewer::open(server, over, "live/calm"));
    for viewer in &viewers {
        viewer.wait_frames(VIDEO, 5);
    }
    attack();
    let sent = streaming.finish();
    for viewer in &viewers {
        let seen = viewer.wait_over().tags;
        flv::assert_tail(&seen, &sent, VIDEO);
        flv::assert_tail(&seen, &sent, AUDIO);
    }
    assert_eq!(server.metric("shardcast_shard_panics_total", ""), 0.0);
}

/// Requests that end the connection: what is sent, the status that is said, the reason that is counted.
fn broken_requests() -> Vec<(&'static str, Vec<u8>, &'static str, &'static str)> {
    let long_head = format!("OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nX: {}\r\n\r\n", "x".repeat(17_000));
    let cut_off = b"DESCRIBE rtsp://h/live/calm RTSP/1.0\r\nCSeq: 1\r\nX: ".to_vec();
    vec![
        ("a head over 16 KiB", long_head.into_bytes(), "431", "head_too_large"),
        (
            "a body over 1 MiB",
            b"ANNOUNCE rtsp://h/live/x RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 1048577\r\n\r\n".to_vec(),
            "413",
            "body_too_large",
        ),
        ("what is not RTSP", vec![0x16, 3, 1, 0, 0], "400", "not_rtsp"),
        ("HTTP for no tunnel", b"GET /live/calm HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(), "404", "not_tunnel"),
        ("a request that never ends", cut_off, "", "handshake_timeout"),
        ("frames for channels that were never set up", b"$\x09\x00\x01x".repeat(1_001), "", "stray_frames"),
        ("a tunnel without its other half", b"POST / HTTP/1.0\r\nx-sessioncookie: nobody\r\n\r\nT1BU".to_vec(), "", "bad_tunnel"),
    ]
}

fn hostile_clients(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let options = Options::new(runtime).shards(2).set("limits.handshake_ms_max", HANDSHAKE_MS_MAX);
    let options =
        options.set("viewer.lag_ms_max", 5_000).set("viewer.stall_ms_max", 5_000).set("viewer.kernel_unsent_bytes_max", 4_096);
    let server = Server::start(options);
    beside_a_stream(&server, || {
        for (what, said, status, reason) in broken_requests() {
            let before = errors(&server, reason);
            let mut stream = TcpStream::connect(server.rtsp).unwrap();
            stream.set_read_timeout(Some(SOON)).unwrap();
            let _ = stream.write_all(&said);
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            let answer = String::from_utf8_lossy(&answer);
            assert!(status.is_empty() || answer.contains(&format!(" {status} ")), "{what}: {answer}");
            wait_for(&format!("{what} is counted as {reason}"), SOON, || (errors(&server, reason) > before).then_some(()));
        }
        end_inside_a_frame(&server);
        never_read(&server);
    });
}

/// A publisher's TEARDOWN in the middle of a frame is a part of the frame, its disconnection there an end like any other.
fn end_inside_a_frame(server: &Server) {
    let mut client = RtspClient::connect(server.rtsp);
    client.demand("ANNOUNCE", "live/cut", &["Content-Type: application/sdp"], SDP);
    let transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1;mode=record";
    client.demand("SETUP", "live/cut/streamid=0", &[transport], "");
    client.demand("RECORD", "live/cut", &[], "");
    client.send_bytes(b"$\x00\x40\x00TEARDOWN rtsp://h/live/cut RTSP/1.0\r\nCSeq: 9\r\n\r\n");
    assert!(server.stream("live/cut").is_some());
    drop(client);
    wait_for("the publisher is gone", SOON, || (server.stream("live/cut")?["state"] == "waiting").then_some(()));
}

/// A viewer that takes nothing is closed in the end.
fn never_read(server: &Server) {
    let mut client = RtspClient::connect(server.rtsp);
    socket2::SockRef::from(client.socket()).set_recv_buffer_size(4_096).unwrap();
    client.request("SETUP", "live/calm/trackID=0", &["Transport: RTP/AVP/TCP;unicast;interleaved=0-1"], "");
    client.send("PLAY", "live/calm", &[], "");
    let stalled = || server.metric("shardcast_session_errors_total", "\"stalled\"") > 0.0;
    wait_for("it is closed and counted", SOON, || stalled().then_some(()));
    wait_closed(client.socket(), "a viewer that takes nothing");
}

fn half_open_connections(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let Some(_files) = many_files(HALF_OPEN as u64) else { return };
    let server = Server::start(Options::new(runtime).shards(2).set("limits.handshake_ms_max", HANDSHAKE_MS_MAX));
    beside_a_stream(&server, || {
        let mut half_open = Vec::with_capacity(HALF_OPEN);
        for at in 0..HALF_OPEN {
            let mut stream = TcpStream::connect(server.rtsp).unwrap();
            if at % 2 == 0 {
                stream.write_all(b"SETUP rtsp://h/live/calm/trackID=0 RTSP/1.0\r\nCSe").unwrap();
            }
            half_open.push(stream);
        }
        let reason = "handshake_timeout";
        wait_for("all are given up", SOON, || (errors(&server, reason) >= HALF_OPEN as f64).then_some(()));
    });
}

/// Each of many sends most of a large request and waits: they may hold `limits.held_bytes_max` together, and no more.
fn halves_of_requests(runtime: Runtime) {
    const CLIENTS: usize = 2_400;
    const HALF_BYTES: usize = 50_000;
    const MIB: usize = 1 << 20;
    const HELD_BYTES_MAX: usize = 32 * MIB;
    if missing(&["ffmpeg"]) {
        return;
    }
    let Some(_files) = many_files(CLIENTS as u64) else { return };
    let options = Options::new(runtime).shards(2).set("limits.held_bytes_max", HELD_BYTES_MAX);
    let server = Server::start(options.set("limits.message_bytes_max", MIB).set("limits.handshake_ms_max", 60_000));
    beside_a_stream(&server, || {
        let before = server.rss_bytes();
        let head = format!("ANNOUNCE rtsp://h/live/x RTSP/1.0\r\nCSeq: 1\r\nContent-Length: {}\r\n\r\n", HALF_BYTES + 1);
        let half = [head.as_bytes(), &[b'x'; HALF_BYTES]].concat();
        let mut clients = Vec::with_capacity(CLIENTS);
        for _ in 0..CLIENTS {
            let mut client = TcpStream::connect(server.rtsp).unwrap();
            // One that is closed already has been bounded.
            let _ = client.write_all(&half);
            clients.push(client);
        }
        let closed_min = (CLIENTS * HALF_BYTES - HELD_BYTES_MAX) / (HALF_BYTES + head.len());
        wait_for("the others are closed", SOON, || (errors(&server, "held_bytes") >= closed_min as f64).then_some(()));
        let grown = server.rss_bytes().saturating_sub(before) as usize;
        println!("{}: {} MiB more for {} MiB", runtime.name(), grown / MIB, CLIENTS * HALF_BYTES / MIB);
        assert!(grown <= 2 * HELD_BYTES_MAX, "{grown} bytes");
    });
}

/// Rounds of a whole session each, in parallel.
const ROUNDS: usize = 20_000;
/// More, before: until then the allocator finds its size.
const WARM_UP_ROUNDS: usize = 5_000;
const CLIENTS: usize = 8;
const GROWTH_BYTES_MAX: u64 = 4 << 20;

fn open_files(server: &Server) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count()
}

/// One session: a viewer over UDP or TCP, or a publisher over UDP; ended in order or by hanging up.
fn session(server: &Server, round: usize) {
    let mut client = RtspClient::connect(server.rtsp);
    let udp = "Transport: RTP/AVP;unicast;client_port=40000-40001";
    if round.is_multiple_of(3) {
        let (path, record) = (format!("live/soak{round}"), format!("{udp};mode=record"));
        client.demand("ANNOUNCE", &path, &["Content-Type: application/sdp"], SDP);
        client.demand("SETUP", &format!("{path}/streamid=0"), &[&record], "");
        client.demand("SETUP", &format!("{path}/streamid=1"), &[&record], "");
        client.demand("RECORD", &path, &[], "");
        if round.is_multiple_of(2) {
            client.request("TEARDOWN", &path, &[], "");
        }
        return;
    }
    let transport = if round % 3 == 1 { udp } else { "Transport: RTP/AVP/TCP;unicast" };
    for track in 0..2 {
        client.demand("SETUP", &format!("live/calm/trackID={track}"), &[transport], "");
    }
    client.demand("PLAY", "live/calm", &[], "");
    if round.is_multiple_of(2) {
        client.request("TEARDOWN", "live/calm", &[], "");
    }
}

fn sessions(server: &Server, rounds: usize) {
    std::thread::scope(|scope| {
        for first in 0..CLIENTS {
            scope.spawn(move || (first..rounds).step_by(CLIENTS).for_each(|round| session(server, round)));
        }
    });
    wait_for("all sessions are over", SOON, || {
        // What is left: the publisher of the stream.
        let sessions = server.api("sessions?limit=1000")["sessions"].as_array().unwrap().len();
        (sessions == 1).then_some(())
    });
}

/// In so few ports that not one may be lost.
fn sessions_leave_nothing_behind(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let ports = if runtime == Runtime::IoUring { "24000-24399" } else { "24400-24799" };
    let options = Options::new(runtime).shards(2).set("rtsp.udp_ports", ports).set("stream.publisher_grace_ms", 0);
    // Timers of sessions that are over go when they would have been due: here that is during the test.
    let options = options.set("rtsp.session_timeout_ms", 5_000).set("limits.handshake_ms_max", HANDSHAKE_MS_MAX);
    let server = Server::start(options);
    let streaming = Publisher::connect(&server, "live/calm").stream(H264_AAC.tags().unwrap());
    server.wait_live("live/calm");
    sessions(&server, WARM_UP_ROUNDS);
    let before = (open_files(&server), server.rss_bytes());
    sessions(&server, ROUNDS);
    let files = wait_for("the files are closed", SOON, || Some(open_files(&server)).filter(|files| *files <= before.0));
    let grown = server.rss_bytes().saturating_sub(before.1);
    println!("{}: {files} open files as before, {} KiB more memory after {ROUNDS} sessions", runtime.name(), grown / 1024);
    assert!(grown <= GROWTH_BYTES_MAX, "{grown} bytes more after {ROUNDS} sessions");
    streaming.finish();
}
