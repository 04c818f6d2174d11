//! Hostile peers, while a stream plays: each is closed and counted, and the stream does not notice.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::harness::api::wait_closed;
use crate::harness::flv::{self, AUDIO, SCRIPT, VIDEO, of_kind};
use crate::harness::media::H264_AAC;
use crate::harness::{Options, Over, Publisher, Runtime, SOON, Server, Tag, Viewer, missing, wait_for};

on_both_runtimes!(hostile_peers);

/// Enough for the good ones on a busy machine.
const HANDSHAKE_MS_MAX: u64 = 2_000;

/// xorshift64*: the same bytes for the same seed.
struct Random(u64);

impl Random {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut next = || {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 56) as u8
        };
        (0..count).map(|_| next()).collect()
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// An RTMP connection after the handshake.
fn shaken(address: SocketAddr) -> TcpStream {
    let mut stream = connect(address);
    stream.write_all(&[3]).unwrap();
    stream.write_all(&[0; 1536]).unwrap();
    let mut answer = [0; 1 + 2 * 1536];
    stream.read_exact(&mut answer).unwrap();
    stream.write_all(&answer[1..1537]).unwrap();
    stream
}

/// A chunk of type 0 on chunk stream 3.
fn chunk(message_type: u8, length: u32, payload: &[u8]) -> Vec<u8> {
    let [_, l2, l1, l0] = length.to_be_bytes();
    [&[3, 0, 0, 0, l2, l1, l0, message_type, 0, 0, 0, 0], payload].concat()
}

/// Random bytes, bare and behind something that makes them look right.
fn send_garbage(server: &Server) {
    for seed in 1..=24u64 {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let bytes = random.bytes(3000);
        let beginning: &[u8] = [&b""[..], &b"\x03"[..], &b"GET /live/x.flv HTTP/1.1\r\n"[..]][seed as usize % 3];
        for address in [server.rtmp, server.http] {
            println!("garbage with seed {seed} to {address}");
            let mut stream = connect(address);
            // The server may close before it has read all.
            let _ = stream.write_all(beginning).and_then(|()| stream.write_all(&bytes));
            let _ = stream.shutdown(Shutdown::Write);
            wait_closed(&stream, "garbage");
        }
        let mut stream = shaken(server.rtmp);
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        wait_closed(&stream, "garbage behind a handshake");
    }
}

fn send_malformed(server: &Server) {
    let cases: [(&str, Vec<u8>); 5] = [
        ("a declared length of 16 MiB", chunk(9, 0xFF_FFFF, &[0; 128])),
        ("AMF that ends within a string", chunk(20, 8, &[2, 0xFF, 0xFF, b'c', b'o', b'n', b'n', b'e'])),
        ("AMF with an unknown marker", chunk(20, 4, &[0x7F; 4])),
        ("a chunk size of zero", [&[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0][..], &[0; 4]].concat()),
        ("a continuation of nothing", vec![0xC4; 64]),
    ];
    for (what, bytes) in cases {
        let before = errors(server, "rtmp");
        let mut stream = shaken(server.rtmp);
        stream.write_all(&bytes).unwrap();
        wait_closed(&stream, what);
        wait_for(&format!("{what} is counted"), SOON, || (errors(server, "rtmp") > before).then_some(()));
    }
}

/// Publishers in good order, up to a tag that cannot be read.
fn send_broken_tags(server: &Server) {
    let cases: [(&str, u8, &[u8], &str); 4] = [
        ("an AVC picture that ends within its time", VIDEO, &[0x17, 1, 0], "flv_truncated_tag"),
        ("a FourCC cut off", VIDEO, &[0x91, b'h', b'v'], "flv_truncated_tag"),
        ("an AVC configuration cut off", VIDEO, &[0x17, 0, 0, 0, 0, 1], "flv_bad_avc_config"),
        ("script data cut off", SCRIPT, &[2, 0], "flv_bad_script"),
    ];
    let good = H264_AAC.tags().unwrap();
    for (at, (what, kind, body, reason)) in cases.into_iter().enumerate() {
        let key = format!("live/broken{at}");
        let counted = || server.metric("shardcast_session_errors_total", &format!("reason=\"{reason}\""));
        let before = counted();
        let mut publisher = Publisher::connect(server, &key);
        assert!(good[..20].iter().all(|tag| publisher.send(tag)));
        let peer = server.wait_live(&key)["publisher"]["peer"].as_str().unwrap().to_owned();
        let broken = Tag { kind, timestamp: good[20].timestamp, body: body.to_vec() };
        wait_for(&format!("the publisher of {what} is closed"), SOON, || (!publisher.send(&broken)).then_some(()));
        server.wait_log(what, |line| line.contains(&format!("rtmp {peer}: ")) && line.ends_with(&format!("({reason})")));
        wait_for(&format!("{what} is counted"), SOON, || (counted() == before + 1.0).then_some(()));
    }
}

/// Those who begin and do not go on, all at once.
fn send_slowly(server: &Server) {
    let began = Instant::now();
    let mut silent: Vec<TcpStream> = (0..8).map(|_| connect(server.rtmp)).chain((0..8).map(|_| connect(server.http))).collect();
    for (at, stream) in silent.iter_mut().enumerate().filter(|(at, _)| at % 2 == 1) {
        let beginning: &[u8] = if at < 8 { &[3; 700] } else { b"GET /live/x.flv HTTP/1.1\r\nHost: " };
        stream.write_all(beginning).unwrap();
    }
    // One byte now and then does not buy time.
    let mut loris = connect(server.http);
    let mut dripped = 0;
    while loris.write_all(b"G").is_ok() && began.elapsed() < SOON {
        dripped += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("the slow loris sent {dripped} bytes in {:?}", began.elapsed());
    assert!(began.elapsed() < SOON, "the slow loris is still connected");
    silent.iter().for_each(|stream| wait_closed(stream, "a silent peer"));
    assert!(began.elapsed() >= Duration::from_millis(HANDSHAKE_MS_MAX), "they had their time");
}

fn errors(server: &Server, protocol: &str) -> f64 {
    server.metric("shardcast_session_errors_total", &format!("protocol=\"{protocol}\""))
}

fn hostile_peers(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let mut server = Server::start(Options::new(runtime).shards(2).set("limits.handshake_ms_max", HANDSHAKE_MS_MAX));
    let streaming = Publisher::connect(&server, "live/calm").stream(H264_AAC.tags().unwrap());
    server.wait_live("live/calm");
    let viewers = Over::ALL.map(|over| Viewer::open(&server, over, "live/calm"));
    for viewer in &viewers {
        viewer.wait_frames(VIDEO, 5);
    }
    send_garbage(&server);
    send_malformed(&server);
    send_broken_tags(&server);
    send_slowly(&server);
    let frames = of_kind(&viewers[0].seen().tags, VIDEO).count();
    viewers[0].wait_frames(VIDEO, frames + 10);
    let counted = (errors(&server, "rtmp"), errors(&server, "http"));
    println!("session errors: rtmp {}, http {}", counted.0, counted.1);
    assert!(counted.0 >= 24.0 && counted.1 >= 12.0, "{}", server.metrics());
    assert_eq!(server.metric("shardcast_shard_panics_total", ""), 0.0);
    let sent = streaming.finish();
    for viewer in &viewers {
        let seen = viewer.wait_over().tags;
        flv::assert_tail(&seen, &sent, VIDEO);
        flv::assert_tail(&seen, &sent, AUDIO);
    }
    assert!(server.is_running());
}
