//! Program streams in RTP, on ports that are opened through the API: what cameras send is played bit for bit, and what goes wrong has a name.
//!
//! | sent by | over | codecs | played by |
//! |---|---|---|---|
//! | our own writer, with the quirks of cameras | UDP, TCP whoever connects | H.264 + G.711A, H.264 + AAC, H.265 + AAC | ffmpeg over RTSP, RTMP and HTTP-FLV |
//! | ffmpeg's muxers `vob` and `mpeg` | UDP, TCP | H.264 + MP3, H.265 | the same |

use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::harness::media::{H264_ALAW, H264_MP3, H264_PLAIN_AAC, H265_ONLY, HEVC_AAC, Recipe, Video};
use crate::harness::ps_sender::{Burst, PsSender, camera, file};
use crate::harness::ps_writer::{Lengths, PLAIN, Style};
use crate::harness::rtsp::{Expected, Play, Player, Push, assert_run, hashes};
use crate::harness::{Client, Options, Over, Runtime, SOON, Server, Viewer, fresh_folder, missing, wait_for};

on_both_runtimes!(
    cameras,
    muxers_of_ffmpeg,
    foreign_sources,
    cut_connections,
    senders_that_are_connected_to,
    nobody_watches,
    ports_are_freed
);

const PLAYERS: [Play; 3] = [Play::FfmpegTcp, Play::Rtmp, Play::HttpFlv];
const SSRC: u32 = 200_000_001;

/// No viewer is to skip because the machine is busy.
fn options(runtime: Runtime) -> Options {
    Options::new(runtime).shards(2).set("viewer.wait_ms", 40_000).set("viewer.lag_ms_max", 10_000).set("rtp.address", "127.0.0.1")
}

/// Sends bursts to all players, and compares what they got with the clip.
fn play(runtime: Runtime, recipe: &Recipe, transport: &str, bursts: &[Burst]) {
    let sent = hashes(recipe, &recipe.file().unwrap());
    let server = Server::start(options(runtime));
    let start = |play: &Play| Some((*play, Player::start(*play, recipe, &server, "live/cam")?));
    let players: Vec<(Play, Player)> = PLAYERS.iter().filter_map(start).collect();
    server.wait_sessions("waiting", players.len());
    let (id, mut sender) = PsSender::start(&server, &json!({ "stream": "live/cam", "transport": transport, "ssrc": SSRC }), SSRC);
    sender.send(bursts);
    let packets: usize = bursts.iter().map(|burst| burst.bytes.len().div_ceil(1_400)).sum();
    wait_for("all packets are counted", SOON, || {
        let receiver = server.api(&format!("rtp/{id}"));
        assert_eq!((&receiver["packets"]["lost"], &receiver["packets"]["useless"]), (&json!(0), &json!(0)), "{receiver}");
        (receiver["packets"]["received"] == packets).then_some(())
    });
    assert_eq!(server.wait_rtp(&id, "playing")["ssrc"], SSRC);
    server.close_rtp(&id);
    assert_eq!(server.wait_rtp(&id, "ended")["detail"], "closed by the operator");
    for (play, player) in players {
        // As of a publisher over RTMP: nothing is kept back.
        assert_run(&player.finish(), recipe, &sent, Expected::of(Push::Rtmp, play));
    }
}

fn cameras(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let rows = [
        (H264_ALAW, "udp", Style { lengths: Lengths::Off(-20), ..PLAIN }),
        (H264_PLAIN_AAC, "tcp_passive", Style { map: None, lengths: Lengths::Zero, ..PLAIN }),
        (HEVC_AAC, "udp", Style { pes_bytes_max: 1_000, system_header: false, ..PLAIN }),
        (H264_ALAW, "tcp_active", PLAIN),
    ];
    for (recipe, transport, style) in rows {
        if let (Some(tags), Some(_)) = (recipe.tags(), recipe.ffmpeg()) {
            play(runtime, &recipe, transport, &camera(&tags, style));
        }
    }
}

/// The clip as ffmpeg's muxer writes it. `None`: no ffmpeg that can.
fn program_stream(recipe: &Recipe, format: &str) -> Option<PathBuf> {
    let (clip, folder) = (recipe.file()?, fresh_folder("ps"));
    let path = folder.join("ps");
    let mut command = recipe.ffmpeg()?;
    let start_codes = if recipe.video() == Some(Video::H265) { "hevc_mp4toannexb" } else { "h264_mp4toannexb" };
    Client::start(command.arg("-i").arg(clip).args(["-c", "copy", "-bsf:v", start_codes, "-f", format]).arg(&path)).succeed();
    Some(path)
}

fn muxers_of_ffmpeg(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    for (recipe, format, transport) in
        [(H264_MP3, "vob", "udp"), (H264_MP3, "mpeg", "tcp_passive"), (H265_ONLY, "vob", "tcp_passive")]
    {
        let Some(path) = program_stream(&recipe, format) else { continue };
        play(runtime, &recipe, transport, &file(&path, Duration::from_secs(4)));
        let _ = std::fs::remove_dir_all(path.parent().unwrap());
    }
}

/// Packets of another source are counted and change nothing; the state says so.
fn foreign_sources(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let bursts = camera(&H264_ALAW.tags().unwrap(), PLAIN);
    let server = Server::start(options(runtime));
    let (id, port) = server.receive_rtp(&json!({ "stream": "live/cam", "transport": "udp", "ssrc": "0200000001" }));
    let mut stranger = PsSender::udp(port, 7);
    stranger.burst(&bursts[0]);
    let waiting = wait_for("the stranger is seen", SOON, || {
        Some(server.api(&format!("rtp/{id}"))).filter(|receiver| receiver["packets"]["useless"] != 0)
    });
    assert_eq!(waiting["state"], "waiting");
    assert_eq!(waiting["detail"], "waiting for media; RTP seen with SSRC 7, 200000001 expected: ignored");
    let viewer = Viewer::open(&server, Over::HttpFlv, "live/cam");
    let mut camera = PsSender::udp(port, SSRC);
    camera.send_with(&bursts[..100], |burst| stranger.burst(burst));
    let pictures = |seen: &crate::harness::Seen| seen.tags.iter().filter(|tag| tag.kind == 9 && tag.is_frame()).count() > 10;
    viewer.wait("pictures", pictures);
    // Nor does somebody with the right number, but from elsewhere, while the camera sends.
    let before = server.api(&format!("rtp/{id}"));
    PsSender::udp(port, SSRC).burst(&bursts[100]);
    wait_for("the thief is seen", SOON, || {
        let now = server.api(&format!("rtp/{id}"));
        assert_eq!(now["source"], before["source"]);
        (now["packets"]["useless"].as_u64() > before["packets"]["useless"].as_u64()).then_some(())
    });
    let discarded = server.stream("live/cam").unwrap()["discarded_frames"].clone();
    assert!(discarded.as_object().unwrap().values().all(|count| *count == 0), "{discarded}");
}

/// A connection that is cut in the middle of a packet, and the camera connects again.
fn cut_connections(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let bursts = camera(&H264_ALAW.tags().unwrap(), PLAIN);
    let server = Server::start(options(runtime));
    let (id, port) = server.receive_rtp(&json!({ "stream": "live/cam", "transport": "tcp_passive", "timeout_ms": 3_000 }));
    let viewer = Viewer::open(&server, Over::HttpFlv, "live/cam");
    let mut sender = PsSender::tcp(port, 11);
    let (before, behind) = bursts.split_at(bursts.len() / 2);
    sender.send(before);
    let seen = viewer.wait("pictures", |seen| seen.tags.iter().filter(|tag| tag.kind == 9 && tag.is_frame()).count() > 10);
    sender.half_packet();
    let mut sender = sender.reconnect(port);
    sender.send(behind);
    let last = behind.iter().rev().find(|burst| burst.bytes[3] == 0xBA).unwrap();
    let tail = last.bytes[last.bytes.len() - 20..].to_vec();
    viewer.wait("the last picture", |seen| seen.tags.iter().any(|tag| tag.kind == 9 && tag.body.ends_with(&tail)));
    assert!(!seen.tags.is_empty());
    drop(sender);
    let ended = server.wait_rtp(&id, "ended");
    assert_eq!(ended["detail"], "no media for 3000 ms, over after 3000 ms");
}

/// The server connects to the camera; what goes wrong with that is said in words.
fn senders_that_are_connected_to(runtime: Runtime) {
    let server = Server::start(options(runtime));
    let (id, sender) = PsSender::start(&server, &json!({ "stream": "live/cam", "transport": "tcp_active" }), SSRC);
    let receiver = server.api(&format!("rtp/{id}"));
    assert_eq!((&receiver["transport"], &receiver["port"]), (&json!("tcp_active"), &json!(null)));
    assert_eq!(receiver["detail"], "waiting for media");
    let taken = server.open_rtp(&json!({ "stream": "live/cam", "transport": "udp" }));
    assert_eq!(taken.status, 409, "{}", taken.text());
    drop(sender);
    assert_eq!(server.wait_rtp(&id, "ended")["detail"], "the sender has closed the connection");
    // Another one may have the name as soon as nobody publishes.
    let (id, _sender) =
        PsSender::start(&server, &json!({ "stream": "live/cam", "transport": "tcp_active", "timeout_ms": 300 }), SSRC);
    assert_eq!(server.wait_rtp(&id, "ended")["detail"], "waiting for media, over after 300 ms");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = server.open_rtp(&json!({ "stream": "live/b", "transport": "tcp_active", "address": nobody }));
    let error = refused.json()["error"].as_str().unwrap().to_owned();
    assert!(refused.status == 502 && error.starts_with(&format!("cannot connect to {nobody}: ")), "{} {error}", refused.status);
}

/// A receiver is over when its last viewer has been gone for long enough, on whichever shard that was.
fn nobody_watches(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let bursts = camera(&H264_ALAW.tags().unwrap(), PLAIN);
    let server = Server::start(options(runtime));
    // Each connection comes to a shard of the kernel's choice.
    for _ in 0..3 {
        let viewer = Viewer::open(&server, Over::HttpFlv, "live/cam");
        server.wait_sessions("waiting", 1);
        let body = json!({ "stream": "live/cam", "transport": "udp", "idle_ms": 1_000 });
        let (id, mut sender) = PsSender::start(&server, &body, SSRC);
        sender.send(&bursts);
        assert_eq!(server.wait_rtp(&id, "playing")["state"], "playing");
        drop(viewer);
        assert_eq!(server.wait_rtp(&id, "ended")["detail"], "nobody watched for 1000 ms");
        assert!(server.stream("live/cam").is_none());
    }
}

/// With room for one, there is room for the next as soon as one is over, whichever way it ends.
fn ports_are_freed(runtime: Runtime) {
    let port = free_pair();
    let server = Server::start(options(runtime).shards(1).set("rtsp.udp_ports", format!("{port}-{}", port + 1)));
    for transport in ["udp", "tcp_passive", "udp"] {
        let (id, given) = server.receive_rtp(&json!({ "stream": "live/a", "transport": transport }));
        assert_eq!(given, port);
        let refused = server.open_rtp(&json!({ "stream": "live/b", "transport": transport }));
        assert_eq!((refused.status, refused.json()["error"].as_str()), (503, Some("no port is left")));
        let taken = server.open_rtp(&json!({ "stream": "live/a", "transport": transport }));
        assert_eq!(taken.status, 409, "{}", taken.text());
        server.close_rtp(&id);
        let again = || Some(server.open_rtp(&json!({ "stream": "live/c", "transport": transport, "timeout_ms": 300 })));
        let open = wait_for("the port is free", SOON, || again().filter(|answer| answer.status == 201));
        let id = open.json()["id"].as_str().unwrap().to_owned();
        assert_eq!(server.wait_rtp(&id, "ended")["detail"], "waiting for media, over after 300 ms");
        let is_free = || {
            if transport == "udp" {
                UdpSocket::bind(("127.0.0.1", port)).is_ok()
            } else {
                TcpListener::bind(("127.0.0.1", port)).is_ok()
            }
        };
        wait_for("nobody has the port", SOON, || is_free().then_some(()));
    }
    assert_eq!(server.metric("shardcast_session_errors_total", "no_media"), 3.0, "{}", server.metrics());
}

/// An even port that is free together with the next one.
fn free_pair() -> u16 {
    wait_for("two free ports", SOON, || {
        let first = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port() & !1;
        drop(first);
        let all_free = UdpSocket::bind(("127.0.0.1", port)).is_ok()
            && UdpSocket::bind(("127.0.0.1", port + 1)).is_ok()
            && TcpListener::bind(("127.0.0.1", port)).is_ok();
        all_free.then_some(port)
    })
}
