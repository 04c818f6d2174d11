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
use crate::harness::{Client, Options, Over, Runtime, SOON, Server, Viewer, free_ports, fresh_folder, missing, wait_for};

on_both_runtimes!(
    cameras,
    muxers_of_ffmpeg,
    foreign_sources,
    cut_connections,
    connections_that_come_at_the_same_moment,
    senders_that_are_connected_to,
    one_port_for_many,
    floods_of_strays,
    ports_of_their_own,
    senders_are_told_what_came,
    nobody_watches,
    ports_are_freed
);

const PLAYERS: [Play; 3] = [Play::FfmpegTcp, Play::Rtmp, Play::HttpFlv];
const SSRC: u32 = 200_000_001;

fn options(runtime: Runtime) -> Options {
    Options::new(runtime).shards(2).set("viewer.wait_ms", 40_000).set("rtp.address", "127.0.0.1")
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
    let has_map = bursts.iter().any(|burst| burst.bytes.windows(4).any(|code| code == [0, 0, 1, 0xBC]));
    wait_for("all packets are counted", SOON, || {
        let receiver = server.api(&format!("rtp/{id}"));
        assert_eq!((&receiver["packets"]["lost"], &receiver["packets"]["useless"]), (&json!(0), &json!(0)), "{receiver}");
        (receiver["packets"]["received"] == packets).then_some(())
    });
    let playing = server.wait_rtp(&id, "playing");
    assert_eq!(playing["ssrc"], SSRC);
    let detail = playing["detail"].as_str().unwrap();
    assert_eq!(detail.contains("PS has no PSM: codec guessed H.26"), !has_map, "{detail}");
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
pub fn program_stream(recipe: &Recipe, format: &str) -> Option<PathBuf> {
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
    // Where the agreement is not strict, another one is accepted, and said.
    let (lenient, port) = server.receive_rtp(&json!({ "stream": "live/b", "transport": "udp", "ssrc": 7, "strict": false }));
    let mut other = PsSender::udp(port, SSRC);
    bursts[..10].iter().for_each(|burst| other.burst(burst));
    let detail = server.wait_rtp(&lenient, "playing")["detail"].as_str().unwrap().to_owned();
    assert!(detail.ends_with("; RTP seen with SSRC 200000001, SDP says 7: accepted"), "{detail}");
    assert_eq!(server.metric("shardcast_session_errors_total", "other_ssrc"), 1.0);
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
    let (id, port) = server.receive_rtp(&json!({ "stream": "live/cam", "transport": "tcp_passive", "timeout_ms": 8_000 }));
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
    assert_eq!(ended["detail"], "no media for 8000 ms, over after 8000 ms");
}

/// Whoever connects in the moment in which the one before goes is let in.
fn connections_that_come_at_the_same_moment(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let bursts = camera(&H264_ALAW.tags().unwrap(), PLAIN);
    let server = Server::start(options(runtime));
    let (id, port) = server.receive_rtp(&json!({ "stream": "live/cam", "transport": "tcp_passive" }));
    let mut sender = PsSender::tcp(port, 11);
    for number in 1..=20 {
        sender.burst(&bursts[1]);
        wait_for(&format!("connection {number} is heard"), SOON, || {
            let receiver = server.api(&format!("rtp/{id}"));
            (receiver["packets"]["received"].as_u64() >= Some(number)).then_some(())
        });
        // A server that stands still for a moment finds both at once.
        server.signal(libc::SIGSTOP);
        sender = sender.reconnect(port);
        server.signal(libc::SIGCONT);
    }
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

/// Where calls have ranges of ports of their own, media comes to those, over UDP and over TCP.
fn ports_of_their_own(runtime: Runtime) {
    let (udp, tcp) = (free_ports(8), free_ports(8));
    let range = |first: u16| format!("{first}-{}", first + 7);
    let server = Server::start(options(runtime).set("gb28181.udp_ports", range(udp)).set("gb28181.tcp_ports", range(tcp)));
    for (transport, first) in [("udp", udp), ("tcp_passive", tcp)] {
        for number in 0..3 {
            let (_, port) = server.receive_rtp(&json!({ "stream": format!("live/{transport}{number}"), "transport": transport }));
            assert!((first..first + 8).contains(&port), "{transport}: {port} of {first}");
        }
    }
}

/// A server with a port for many receivers, one pair for each of two shards.
fn sharing(runtime: Runtime) -> (Server, u16) {
    let port = free_ports(4);
    (Server::start(options(runtime).set("gb28181.shared_port", port)), port)
}

/// Cameras with SSRCs of their own on one port per shard, over UDP and TCP; one of them does not keep to what was agreed.
fn one_port_for_many(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let bursts = camera(&H264_ALAW.tags().unwrap(), PLAIN);
    let (server, port) = sharing(runtime);
    let rows = [
        ("udp", json!({ "ssrc": 1 }), 1),
        ("tcp_passive", json!({ "ssrc": 2 }), 2),
        ("udp", json!({ "source": "127.0.0.1" }), 333),
        ("tcp_passive", json!({ "source": "127.0.0.1" }), 444),
        ("udp", json!({ "ssrc": "0000000005" }), 5),
    ];
    let mut cameras = Vec::new();
    for (at, (transport, source, ssrc)) in rows.into_iter().enumerate() {
        let key = format!("live/cam{at}");
        let mut body = json!({ "stream": key, "transport": transport, "shared_port": true, "timeout_ms": 15_000 });
        body.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        let viewer = Viewer::open(&server, Over::HttpFlv, &key);
        let (id, given) = server.receive_rtp(&body);
        assert!(given == port || given == port + 2, "{given}");
        let sender = if transport == "udp" { PsSender::udp(given, ssrc) } else { PsSender::tcp(given, ssrc) };
        cameras.push((id, viewer, sender));
    }
    let taken = server.open_rtp(&json!({ "stream": "live/x", "transport": "udp", "ssrc": 1, "shared_port": true }));
    let again = server.open_rtp(&json!({ "stream": "live/y", "transport": "udp", "ssrc": 1, "shared_port": true }));
    // On one of the two shards somebody has it.
    assert!([taken.status, again.status].contains(&503), "{} {}", taken.text(), again.text());
    let (first, others) = cameras.split_first_mut().unwrap();
    first.2.send_with(&bursts, |burst| others.iter_mut().for_each(|(_, _, sender)| sender.burst(burst)));
    for (at, (id, viewer, sender)) in cameras.iter().enumerate() {
        let pictures = |seen: &crate::harness::Seen| seen.tags.iter().filter(|tag| tag.kind == 9 && tag.is_frame()).count() > 40;
        viewer.wait(&format!("pictures of camera {at}"), pictures);
        let receiver = server.wait_rtp(id, "playing");
        assert_eq!((&receiver["ssrc"], &receiver["packets"]["lost"]), (&json!(sender.ssrc), &json!(0)), "{receiver}");
    }
    let ids: Vec<String> = cameras.iter().map(|(id, ..)| id.clone()).collect();
    drop(cameras);
    for id in ids {
        assert_eq!(server.wait_rtp(&id, "ended")["detail"], "no media for 15000 ms, over after 15000 ms");
    }
}

/// What is nobody's is counted and costs nobody else's.
fn floods_of_strays(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let bursts = camera(&H264_ALAW.tags().unwrap(), PLAIN);
    let (server, _) = sharing(runtime);
    let viewer = Viewer::open(&server, Over::HttpFlv, "live/cam");
    let body = json!({ "stream": "live/cam", "transport": "udp", "ssrc": SSRC, "shared_port": true });
    let (id, port) = server.receive_rtp(&body);
    let (mut sender, mut stranger) = (PsSender::udp(port, SSRC), PsSender::udp(port, 7));
    sender.send_with(&bursts, |_| (0..20).for_each(|_| stranger.burst(&bursts[1])));
    // A connection that says nothing, and one of nobody's.
    let silent = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut nobody = PsSender::tcp(port, 8);
    nobody.burst(&bursts[1]);
    let pictures = |seen: &crate::harness::Seen| seen.tags.iter().filter(|tag| tag.kind == 9 && tag.is_frame()).count() > 40;
    viewer.wait("pictures", pictures);
    let receiver = server.wait_rtp(&id, "playing");
    assert_eq!((&receiver["packets"]["useless"], &receiver["packets"]["lost"]), (&json!(0), &json!(0)), "{receiver}");
    assert!(server.metric("shardcast_shard_stray_datagrams_total", "") > 1_000.0, "{}", server.metrics());
    wait_for("both connections are given up", SOON, || {
        (server.metric("shardcast_shard_stray_connections_total", "") == 2.0).then_some(())
    });
    drop(silent);
}

/// RTCP over UDP: a sender hears what came of its packets.
fn senders_are_told_what_came(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let bursts = camera(&H264_ALAW.tags().unwrap(), PLAIN);
    let server = Server::start(options(runtime));
    let media = free_ports(2);
    let (media, reports) = (UdpSocket::bind(("127.0.0.1", media)).unwrap(), UdpSocket::bind(("127.0.0.1", media + 1)).unwrap());
    let (_, port) = server.receive_rtp(&json!({ "stream": "live/cam", "transport": "udp", "receiver_reports": true }));
    media.connect(("127.0.0.1", port)).unwrap();
    PsSender::over(media, SSRC).send(&bursts[..20]);
    reports.set_read_timeout(Some(SOON)).unwrap();
    let mut report = [0; 1_500];
    let count = reports.recv(&mut report).unwrap();
    // A receiver report with one block, of this source, of which nothing is lost.
    assert!(count >= 32 && report[..2] == [0x81, 201], "{:?}", &report[..count]);
    assert_eq!((&report[8..12], &report[12..16]), (&SSRC.to_be_bytes()[..], &[0; 4][..]));
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
    let port = free_ports(2);
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
        let ended = server.wait_rtp(&id, "ended");
        let waited_for = if transport == "udp" { "media" } else { "media; nobody has connected" };
        assert_eq!(ended["detail"], format!("waiting for {waited_for}, over after 300 ms"));
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
