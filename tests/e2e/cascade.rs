//! Two servers, one a platform above the other: what is published to the lower one by RTMP or RTSP is called for and played from the upper one, bit for
//! bit, over each transport of media and of SIP.
//!
//! | media | SIP | codecs | published by |
//! |---|---|---|---|
//! | UDP | UDP | H.264 with B-frames + AAC, H.265 + AAC | RTMP, RTSP |
//! | TCP, the lower one connecting | TCP | H.264 + G.711A, H.265 + AAC | RTMP, RTSP |
//! | TCP, the upper one connecting | UDP | H.265 + AAC; H.264 + AAC | RTMP, RTSP; RTSP |

use std::net::{SocketAddr, UdpSocket};

use serde_json::{Value, json};

use crate::harness::api::request;
use crate::harness::device::{CHANNEL, STREAM};
use crate::harness::flv::VIDEO;
use crate::harness::media::{H264_AAC, H264_ALAW, HEVC_AAC, Recipe};
use crate::harness::rtsp::{Expected, Play, Player, Push, assert_run, hashes};
use crate::harness::{Device, Options, Over, Runtime, SOON, Server, Viewer, missing, wait_for};

on_both_runtimes!(
    live_streams,
    a_camera_of_the_lower_one,
    a_wrong_password_is_said,
    a_platform_that_sends_elsewhere,
    a_stream_that_is_not_there
);

const PLAYERS: [Play; 2] = [Play::FfmpegTcp, Play::HttpFlv];
const UPPER: &str = "34010000002000000001";
const LOWER: &str = "34020000002000000001";
const PASSWORD: &str = "secret";

fn options(runtime: Runtime) -> Options {
    let options = Options::new(runtime).shards(2).set("viewer.wait_ms", 40_000);
    options.set("rtp.address", "127.0.0.1").set("gb28181.enabled", true).set("gb28181.listen", "[\"127.0.0.1:0\"]")
}

fn upper(runtime: Runtime, transport: &str) -> Server {
    let options = options(runtime).set("gb28181.id", format!("\"{UPPER}\"")).set("gb28181.domain", "\"3401000000\"");
    Server::start(options.set("gb28181.password", PASSWORD).set("gb28181.transport", transport).set("gb28181.answer_ms", 10_000))
}

fn lower(runtime: Runtime, upper: &Server, sip: &str, password: &str) -> Server {
    lower_of(runtime, upper.address(&format!("gb28181 {sip}")), sip, password)
}

fn lower_of(runtime: Runtime, address: SocketAddr, sip: &str, password: &str) -> Server {
    let upstream = format!(
        "[{{ address: \"{address}\", transport: {sip}, id: \"{UPPER}\", password: {password}, share: [\"live/cam\"], \
         names: {{ live/cam: Gate }} }}]"
    );
    Server::start(options(runtime).set("gb28181.upstream", upstream))
}

impl Server {
    /// What it says of the platform above it.
    fn upstream(&self) -> Value {
        self.api("gb28181/upstreams")["upstreams"][0].clone()
    }

    #[track_caller]
    fn wait_upstream(&self, what: &str, enough: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, SOON, || Some(self.upstream()).filter(|upstream| enough(upstream)))
    }

    /// The name under which the only channel of the lower server is played here.
    #[track_caller]
    fn wait_channel(&self) -> String {
        wait_for("the catalog", SOON, || {
            let channels = request(self.control, "GET", &format!("/api/v1/gb28181/devices/{LOWER}/channels"), &[]);
            let channel = channels.json()["channels"][0].clone();
            let name = channel["stream"].as_str()?.to_owned();
            assert_eq!((&channel["name"], &channel["parent_id"]), (&"Gate".into(), &LOWER.into()), "{channel}");
            Some(name)
        })
    }
}

fn live_streams(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let rows = [
        ("udp", "udp", H264_AAC, Push::Rtmp),
        ("tcp_passive", "tcp", H264_ALAW, Push::Rtmp),
        ("tcp_active", "udp", HEVC_AAC, Push::Rtmp),
        ("udp", "udp", HEVC_AAC, Push::FfmpegTcp),
        ("tcp_passive", "tcp", HEVC_AAC, Push::FfmpegTcp),
        ("tcp_active", "udp", HEVC_AAC, Push::FfmpegTcp),
        // Its first frame of sound is 23 ms older than its picture, which comes first over RTSP.
        ("tcp_active", "udp", H264_AAC, Push::FfmpegTcp),
    ];
    for (transport, sip, recipe, push) in rows {
        if let (Some(_), Some(_)) = (recipe.file(), recipe.ffmpeg()) {
            println!("-- {recipe:?} by {push:?}, {transport}, SIP over {sip}");
            live_stream(runtime, (transport, sip), recipe, push);
        }
    }
}

fn live_stream(runtime: Runtime, (transport, sip): (&str, &str), recipe: Recipe, push: Push) {
    let sent = hashes(&recipe, &recipe.file().unwrap());
    let upper = upper(runtime, transport);
    let mut lower = lower(runtime, &upper, sip, PASSWORD);
    lower.wait_upstream("it is registered", |upstream| upstream["state"] == "online");
    let device = upper.api(&format!("gb28181/devices/{LOWER}"));
    assert_eq!((&device["online"], &device["transport"]), (&true.into(), &sip.into()), "{device}");
    let stream = upper.wait_channel();
    let publisher = recipe.publish(push, &lower, "live/cam").unwrap();
    lower.wait_upstream("the stream is shown", |upstream| upstream["channels_online"] == 1);
    let start = |play: &Play| Some((*play, Player::start(*play, &recipe, &upper, &stream)?));
    let players: Vec<(Play, Player)> = PLAYERS.iter().filter_map(start).collect();
    let called = lower.wait_upstream("it is called for", |upstream| upstream["calls"][0]["to"].is_string());
    let call = &called["calls"][0];
    assert_eq!((&call["stream"], &call["kind"]), (&"live/cam".into(), &"play".into()), "{call}");
    push.finish(publisher, &lower, "live/cam");
    let over = lower.wait_upstream("the call is over", |upstream| upstream["calls"][0]["state"] == "ended");
    // Over TCP the platform above sees the closed connection and hangs up, maybe before the news of the end has come to the cascade.
    let why = over["calls"][0]["detail"].as_str().unwrap();
    let hung_up = transport != "udp" && why == "ended by the platform above";
    assert!(why == "the stream has ended" || hung_up, "{over}");
    // On a busy machine the first may come before the stream is there.
    let is_early = |call: &&serde_json::Value| call["detail"].as_str().is_some_and(|detail| detail.starts_with("answered 480"));
    let calls = over["calls"].as_array().unwrap();
    assert_eq!(calls.iter().filter(|call| !is_early(call)).count(), 1, "one call for all viewers there: {over}");
    for (play, player) in players {
        // It came when the stream was known above.
        assert_run(&player.finish(), &recipe, &sent, Expected::of(push, play).late());
    }
    // In order it gives its registration back.
    lower.signal(libc::SIGTERM);
    assert_eq!(lower.wait_exit().code(), Some(0));
    wait_for("it is offline above", SOON, || (upper.api(&format!("gb28181/devices/{LOWER}"))["online"] == false).then_some(()));
}

/// The simulator of a device, a server with which it is registered, and one above that: everything goes through both.
fn a_camera_of_the_lower_one(runtime: Runtime) {
    let above = options(runtime).set("gb28181.id", format!("\"{UPPER}\"")).set("gb28181.domain", "\"3401000000\"");
    let above = above.set("gb28181.password", PASSWORD).set("gb28181.subscribe", "[catalog]").set("gb28181.idle_ms", 4_000);
    let upper = Server::start_platform(above);
    let upstream = format!(
        "[{{ address: \"{}\", id: \"{UPPER}\", password: {PASSWORD}, share: [\"gb/*\"] }}]",
        upper.address("gb28181 udp")
    );
    let below = options(runtime).set("gb28181.password", PASSWORD).set("gb28181.upstream", upstream);
    let lower = Server::start_platform(below.set("gb28181.idle_ms", 1_000));
    lower.wait_upstream("the upper one has subscribed", |upstream| upstream["subscriptions"] == 1);
    let device = Device::start(&lower, "--rate 500k --gop-ms 1000 --records 5");
    // It is told of as soon as it is there.
    let channels = upper.wait_channels(LOWER, 1);
    assert_eq!((&channels[0]["id"], &channels[0]["name"]), (&json!(CHANNEL), &json!("摄像机1")), "{}", channels[0]);
    let stream = format!("gb/{LOWER}/{CHANNEL}");
    let viewer = Viewer::open(&upper, Over::HttpFlv, &stream);
    viewer.wait_frames(VIDEO, 20);
    let call = upper.wait_call(&stream, "playing");
    assert_eq!((&call["tracks"], &call["packets"]["lost"]), (&json!(["H264", "AAC"]), &json!(0)), "{call}");
    assert_eq!(lower.upstream()["calls"][0]["stream"], STREAM);
    let camera = json!({ "device": LOWER, "channel": CHANNEL });
    let with = |fields: Value| {
        let mut body = camera.clone();
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        body
    };
    upper.ask_gb("ptz", &with(json!({ "pan": 64 })));
    assert_eq!(device.wait("control")["value"], "A50F0101400000F6");
    upper.ask_gb("keyframe", &camera);
    assert_eq!(device.wait_times("control", 2)["command"], "key_frame");
    let span = "start=2026-01-02T00:00:00&end=2026-01-02T23:59:59";
    let records = upper.gb(&format!("devices/{LOWER}/records?channel={CHANNEL}&{span}"));
    assert_eq!((&records["announced"], &records["complete"]), (&json!(5), &json!(true)), "{records}");
    drop(viewer);
    // Nobody watches above, so nobody watches below.
    assert_eq!(device.wait("bye")["by"], "platform");
    let recording = with(json!({ "start": "2026-01-02T00:00:00", "end": "2026-01-02T01:00:00" }));
    let call = upper.ask_gb("playback", &recording);
    assert_eq!(device.wait_times("invite", 2)["offer"]["purpose"], "Playback");
    let viewer = Viewer::open(&upper, Over::HttpFlv, call["stream"].as_str().unwrap());
    viewer.wait_frames(VIDEO, 10);
    upper.ask_gb(&format!("calls/{}/control", call["id"]), &json!({ "action": "pause" }));
    assert_eq!(device.wait("info")["command"], "PAUSE");
    assert_eq!(upper.delete_gb(&format!("calls/{}", call["id"])), 204);
    assert_eq!(device.wait_times("bye", 2)["by"], "platform");
    device.leave();
    wait_for("it is gone above as well", SOON, || {
        let channels = upper.gb(&format!("devices/{LOWER}/channels"))["channels"].clone();
        (channels[0]["online"] == false).then_some(())
    });
}

fn a_wrong_password_is_said(runtime: Runtime) {
    let upper = upper(runtime, "udp");
    let lower = lower(runtime, &upper, "udp", "wrong");
    let expected = "the registration is refused: 403 Forbidden (is the password right?); tried again 60 s later";
    lower.wait_upstream("it is refused", |upstream| upstream["detail"] == expected);
    assert_eq!(upper.api("gb28181/devices")["total"], 0);
}

/// A platform that does nothing but answer registrations with 302 (2022): the lower one registers where it is sent, and shows its streams there.
fn a_platform_that_sends_elsewhere(runtime: Runtime) {
    let upper = upper(runtime, "udp");
    let contact = upper.address("gb28181 udp");
    let front = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = front.local_addr().unwrap();
    // It ends with the test's process.
    std::thread::spawn(move || {
        let mut datagram = [0; 4_096];
        while let Ok((count, from)) = front.recv_from(&mut datagram) {
            let request = String::from_utf8_lossy(&datagram[..count]).into_owned();
            let is_kept = |line: &&str| ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|name| line.starts_with(name));
            let kept: String = request.split("\r\n").filter(is_kept).map(|line| format!("{line}\r\n")).collect();
            let answer = format!(
                "SIP/2.0 302 Moved Temporarily\r\n{kept}Contact: <sip:{UPPER}@{contact}>\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n"
            );
            let _ = front.send_to(answer.as_bytes(), from);
        }
    });
    let lower = lower_of(runtime, address, "udp", PASSWORD);
    lower.wait_upstream("it is registered", |upstream| upstream["state"] == "online");
    assert_eq!(upper.api(&format!("gb28181/devices/{LOWER}"))["online"], true);
    upper.wait_channel();
}

fn a_stream_that_is_not_there(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let upper = upper(runtime, "udp");
    let lower = lower(runtime, &upper, "udp", PASSWORD);
    let stream = upper.wait_channel();
    let (device, channel) = stream.trim_start_matches("gb/").split_once('/').unwrap();
    let body = json!({ "device": device, "channel": channel }).to_string();
    let head = ["Content-Type: application/json"];
    let answer = crate::harness::api::request_with(upper.control, "POST", "/api/v1/gb28181/play", &head, &body);
    assert!(answer.text().contains("480"), "{} {}", answer.status, answer.text());
    assert_eq!(lower.upstream()["channels_online"], 0);
}
