//! Streams that are sent as RTP, started through the API: one server sends, another receives, and players of that one get what was published
//! to the first, bit for bit. What is written as a program stream is read by ffmpeg too.
//!
//! | over | codecs |
//! |---|---|
//! | UDP, TCP with the sender connecting, TCP with the receiver connecting | H.264 with B-frames + AAC, H.264 + G.711A, H.265 + AAC |

use std::net::UdpSocket;

use serde_json::{Value, json};
use shardcast::format::ps::write::ProgramWriter;

use crate::harness::api::{Response, request, request_with};
use crate::harness::media::{AAC_ONLY, Audio, H264_AAC, H264_ALAW, H264_MP3, HEVC_AAC, Video};
use crate::harness::rtsp::{Expected, Play, Player, Push, assert_run, hashes};
use crate::harness::{Client, Options, Runtime, SOON, Server, flv, fresh_folder, missing, wait_for};

on_both_runtimes!(two_servers, only_the_sound, ends_have_words);

const PLAYERS: [Play; 2] = [Play::FfmpegTcp, Play::HttpFlv];
const SSRC: u32 = 200_000_001;

fn options(runtime: Runtime) -> Options {
    Options::new(runtime).shards(2).set("viewer.wait_ms", 40_000).set("rtp.address", "127.0.0.1")
}

impl Server {
    /// `POST /api/v1/rtp/senders`.
    fn ask_to_send(&self, body: &Value) -> Response {
        let head = ["Content-Type: application/json"];
        request_with(self.control, "POST", "/api/v1/rtp/senders", &head, &body.to_string())
    }

    /// The same, which must succeed.
    #[track_caller]
    fn send_rtp(&self, body: &Value) -> Value {
        let response = self.ask_to_send(body);
        assert_eq!(response.status, 201, "{}", response.text());
        response.json()
    }

    #[track_caller]
    fn wait_sender(&self, id: &str, state: &str) -> Value {
        wait_for(&format!("sender {id} is {state}"), SOON, || {
            Some(self.api(&format!("rtp/senders/{id}"))).filter(|sender| sender["state"] == state)
        })
    }
}

/// Connects a sender of one server with a receiver of the other; the ids of both.
fn join(sending: &Server, receiving: &Server, transport: &str) -> (String, String) {
    let (stream, wait_ms) = ("live/cam", 40_000);
    let receive = |body: Value| {
        let response = receiving.open_rtp(&body);
        assert_eq!(response.status, 201, "{}", response.text());
        let answer = response.json();
        (answer["id"].as_str().unwrap().to_owned(), answer["port"].as_u64())
    };
    let send = |body: Value| {
        let answer = sending.send_rtp(&body);
        (answer["id"].as_str().unwrap().to_owned(), answer["port"].as_u64())
    };
    let timeout_ms = 40_000;
    if transport == "tcp_passive" {
        let (sender, port) = send(json!({"stream": stream, "transport": transport, "ssrc": SSRC, "wait_ms": wait_ms}));
        let address = format!("127.0.0.1:{}", port.unwrap());
        let body =
            json!({"stream": "live/copy", "transport": "tcp_active", "address": address, "ssrc": SSRC, "timeout_ms": timeout_ms});
        return (sender, receive(body).0);
    }
    let receiver = if transport == "udp" { "udp" } else { "tcp_passive" };
    let (receiver, port) = receive(json!({"stream": "live/copy", "transport": receiver, "ssrc": SSRC, "timeout_ms": timeout_ms}));
    let address = format!("127.0.0.1:{}", port.unwrap());
    let body = json!({"stream": stream, "transport": transport, "address": address, "ssrc": SSRC, "wait_ms": wait_ms});
    (send(body).0, receiver)
}

fn two_servers(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    for (recipe, transport) in [(H264_AAC, "udp"), (H264_ALAW, "tcp_active"), (HEVC_AAC, "tcp_passive")] {
        let (Some(file), Some(_)) = (recipe.file(), recipe.ffmpeg()) else { continue };
        let sent = hashes(&recipe, &file);
        let (sending, receiving) = (Server::start(options(runtime)), Server::start(options(runtime)));
        let start = |play: &Play| Some((*play, Player::start(*play, &recipe, &receiving, "live/copy")?));
        let players: Vec<(Play, Player)> = PLAYERS.iter().filter_map(start).collect();
        receiving.wait_sessions("waiting", players.len());
        let (sender, receiver) = join(&sending, &receiving, transport);
        sending.wait_sessions("waiting", 1);
        let publisher = recipe.push(&sending.rtmp_url("live/cam")).unwrap();
        let playing = receiving.wait_rtp(&receiver, "playing");
        assert_eq!(playing["tracks"].as_array().unwrap().len(), 2, "{playing}");
        publisher.succeed();
        let ended = sending.wait_sender(&sender, "ended");
        assert_eq!((&ended["detail"], &ended["left_out"]), (&json!("the stream has ended"), &json!([])), "{ended}");
        let bytes = std::fs::metadata(&file).unwrap().len();
        assert!(ended["bytes"].as_u64().unwrap() > bytes * 9 / 10, "{ended}: {bytes}");
        // One that has connected by itself is over with its connection.
        if transport != "tcp_passive" {
            receiving.close_rtp(&receiver);
        }
        let packets = receiving.wait_rtp(&receiver, "ended")["packets"].clone();
        assert_eq!((&packets["lost"], &packets["useless"]), (&json!(0), &json!(0)), "{packets}");
        for (play, player) in players {
            assert_run(&player.finish(), &recipe, &sent, Expected::of(Push::Rtmp, play));
        }
    }
}

/// G.711A as it is, for loudspeakers.
fn only_the_sound(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let loudspeaker = UdpSocket::bind("127.0.0.1:0").unwrap();
    loudspeaker.set_read_timeout(Some(SOON)).unwrap();
    let server = Server::start(options(runtime));
    let address = loudspeaker.local_addr().unwrap();
    let body = json!({"stream": "live/talk", "transport": "udp", "address": address, "ssrc": 7, "payload": "g711a"});
    let answer = server.send_rtp(&body);
    let _publisher = H264_ALAW.push_forever(&server.rtmp_url("live/talk")).unwrap();
    let frames = flv::demux(&H264_ALAW.tags().unwrap()).1;
    let mut buffer = [0; 2_000];
    for at in 0..50 {
        let (count, from) = loudspeaker.recv_from(&mut buffer).unwrap();
        assert_eq!((from.port(), &buffer[..2]), (answer["port"].as_u64().unwrap() as u16, &[0x80, 8][..]), "packet {at}");
        let payload = &buffer[12..count];
        assert!(frames.iter().any(|frame| frame.data.windows(payload.len()).any(|part| part == payload)), "packet {at}");
    }
}

fn ends_have_words(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let server = Server::start(options(runtime));
    let passive = |stream: &str, payload: &str, wait_ms: u64| {
        let body = json!({"stream": stream, "transport": "tcp_passive", "ssrc": 7, "payload": payload, "wait_ms": wait_ms});
        let answer = server.send_rtp(&body);
        (answer["id"].as_str().unwrap().to_owned(), answer["port"].as_u64().unwrap() as u16)
    };
    let (lonely, _) = passive("live/a", "ps", 300);
    assert_eq!(server.wait_sender(&lonely, "ended")["detail"], "nobody has connected for 300 ms");
    let (waiting, port) = passive("live/a", "ps", 4_000);
    let receiver = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert_eq!(server.wait_sender(&waiting, "ended")["detail"], "there was no such stream for 4000 ms");
    drop(receiver);
    let _publisher = H264_AAC.push_forever(&server.rtmp_url("live/a")).unwrap();
    wait_for("the stream is there", SOON, || server.stream("live/a"));
    let (left, port) = passive("live/a", "ps", 40_000);
    let receiver = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let sending = server.wait_sender(&left, "sending");
    assert_eq!(sending["to"], receiver.local_addr().unwrap().to_string());
    drop(receiver);
    assert_eq!(server.wait_sender(&left, "ended")["detail"], "the receiver has closed the connection");
    let (mute, port) = passive("live/a", "g711a", 40_000);
    let _receiver = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert_eq!(server.wait_sender(&mute, "ended")["detail"], "G711A is wanted, and the stream's sound is AAC");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = server.ask_to_send(&json!({"stream": "live/a", "transport": "tcp_active", "address": nobody, "ssrc": 7}));
    assert_eq!(refused.status, 502, "{}", refused.text());
    let body = json!({"stream": "live/a", "transport": "udp", "address": nobody, "ssrc": 7});
    let closed = server.send_rtp(&body)["id"].as_str().unwrap().to_owned();
    server.wait_sender(&closed, "sending");
    assert_eq!(request(server.control, "DELETE", &format!("/api/v1/rtp/senders/{closed}"), &[]).status, 204);
    assert_eq!(server.wait_sender(&closed, "ended")["detail"], "closed by the operator");
}

/// What stands between start codes, of three bytes or four. Without parameter sets: ffmpeg puts them elsewhere, and the decoder's set-up is
/// compared where there are two servers.
fn units(video: Video, mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut units = Vec::new();
    while let Some(at) = bytes.windows(3).position(|three| three == [0, 0, 1]) {
        let zeros = bytes[..at].iter().rev().take_while(|byte| **byte == 0).count();
        units.push(&bytes[..at - zeros]);
        bytes = &bytes[at + 3..];
    }
    units.push(bytes);
    let is_set = |unit: &&[u8]| match (video, unit) {
        // ffmpeg repeats the SEI message of the set-up record, too.
        (Video::H265, [first, ..]) => matches!(first >> 1 & 0x3F, 32..=34 | 39),
        (_, [first, ..]) => matches!(first & 0x1F, 7 | 8),
        (_, []) => true,
    };
    units.retain(|unit| !is_set(unit));
    units
}

/// Another reader of program streams finds in ours what was put there.
#[test]
fn ffmpeg_reads_what_is_written() {
    if missing(&["ffmpeg"]) {
        return;
    }
    for recipe in [H264_AAC, H264_MP3, HEVC_AAC, AAC_ONLY] {
        let (Some(file), Some(_)) = (recipe.file(), recipe.ffmpeg()) else { continue };
        let (tracks, mut frames) = flv::demux(&recipe.tags().unwrap());
        frames.sort_by_key(|frame| frame.dts);
        let (mut writer, mut bytes) = (ProgramWriter::default(), Vec::new());
        writer.set_tracks(&tracks);
        for frame in &frames {
            writer.frame(frame, &mut |piece| bytes.extend_from_slice(piece));
        }
        let folder = fresh_folder("ps");
        let path = folder.join("written.ps");
        std::fs::write(&path, bytes).unwrap();
        // Both as elementary streams, because a program stream has no set-up of its own.
        let elementary = |input: &std::path::Path, kind: &str, format: &str, filter: Option<&str>| {
            let output = folder.join(format!("{kind}.{format}"));
            let mut command = recipe.ffmpeg().unwrap();
            command.arg("-y").arg("-i").arg(input).args(["-map", &format!("0:{kind}"), "-c", "copy"]);
            if let Some(filter) = filter {
                command.args(["-bsf", filter]);
            }
            Client::start(command.args(["-f", format]).arg(&output)).succeed();
            std::fs::read(output).unwrap()
        };
        if let Some(video) = recipe.video() {
            let (format, filter) = match video {
                Video::H265 => ("hevc", "hevc_mp4toannexb"),
                _ => ("h264", "h264_mp4toannexb"),
            };
            let (sent, read) = (elementary(&file, "v", format, Some(filter)), elementary(&path, "v", format, None));
            assert!(
                units(video, &sent) == units(video, &read),
                "{recipe:?}: the picture, {} bytes and {}",
                sent.len(),
                read.len()
            );
        }
        let format = if recipe.audio() == Some(Audio::Mp3) { "mp3" } else { "adts" };
        let (sent, read) = (elementary(&file, "a", format, None), elementary(&path, "a", format, None));
        assert!(sent == read, "{recipe:?}: the sound, {} bytes and {}", sent.len(), read.len());
        let _ = std::fs::remove_dir_all(folder);
    }
}
