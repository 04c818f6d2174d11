//! Devices that do not do as they should: what works all the same, and what ends in a state with a name, a counter and freed ports.

use std::net::UdpSocket;

use serde_json::{Value, json};

use crate::harness::device::{CHANNEL, DEVICE, STREAM, platform};
use crate::harness::flv::VIDEO;
use crate::harness::media::{H264_PLAIN_AAC, HEVC_AAC};
use crate::harness::{Device, Options, Over, Runtime, SOON, Server, Viewer, missing, wait_for};

on_both_runtimes!(quirks_that_play, calls_that_fail, vanished_devices, a_change_of_codec);

/// Time enough for media that comes, and little to wait for what does not.
fn options(runtime: Runtime) -> Options {
    platform(runtime).set("gb28181.answer_ms", 2_000).set("gb28181.media_ms", 3_000).set("gb28181.idle_ms", 10_000)
}

/// Quirks, how the media comes, and words of the call's state.
const PLAYING: [(&str, &str, &str); 18] = [
    ("no-psm", "udp", "guess"),
    ("no-system-header", "tcp_passive", ""),
    ("zero-pes-length", "udp", ""),
    ("wrong-pes-length", "tcp_passive", ""),
    ("bare-audio", "udp", ""),
    ("wrong-ssrc", "udp", "SSRC"),
    ("wrong-ssrc", "tcp_active", "SSRC"),
    ("ssrc-nine-digits", "udp", ""),
    ("no-y", "tcp_passive", ""),
    ("lf-only", "tcp_active", ""),
    ("compact-headers", "udp", ""),
    ("sends-from-elsewhere", "udp", ""),
    ("rtp-raw-h264", "udp", ""),
    ("nat", "udp", ""),
    ("gb18030", "udp", ""),
    ("gb18030,utf8", "udp", ""),
    ("retransmits", "udp", ""),
    ("double-marker,contact-expires", "tcp_passive", ""),
];

fn quirks_that_play(runtime: Runtime) {
    let server = Server::start_platform(platform(runtime).set("gb28181.media_ms", 30_000));
    for (quirk, transport, words) in PLAYING {
        println!("-- {quirk} over {transport}");
        let device = Device::start(&server, &format!("--rate 500k --gop-ms 500 --quirk {quirk}"));
        device.wait("registered");
        // In whatever charset it comes; that with the rare characters is four bytes each in GB18030 and not in GB2312. Until the catalog has come,
        // the name is that of the device before.
        let name = if quirk == "gb18030" { "摄像机镕𠀀1" } else { "摄像机1" };
        wait_for("the channel's name", SOON, || (server.wait_channels(DEVICE, 1)[0]["name"] == name).then_some(()));
        let call = server.ask_gb("play", &json!({ "device": DEVICE, "channel": CHANNEL, "transport": transport }));
        let viewer = Viewer::open(&server, Over::HttpFlv, STREAM);
        viewer.wait_frames(VIDEO, 20);
        let playing = server.wait_call(STREAM, "playing");
        assert!(playing["detail"].as_str().unwrap().contains(words), "{quirk}: {playing}");
        assert_eq!(playing["id"], call["id"]);
        assert_eq!(server.delete_gb(&format!("calls/{}", call["id"])), 204);
        device.wait("bye");
        device.leave();
        server.wait_device(DEVICE, false);
    }
}

/// Quirks, how the media was to come, the status of the operator's request, words of the call's state, and what is counted.
const FAILING: [(&str, &str, u16, &str, &str); 7] = [
    ("busy", "udp", 502, "486", "call_refused"),
    ("silent", "udp", 504, "no SIP answer", "call_silence"),
    ("late-200 --late-ms 9000", "tcp_passive", 504, "no final SIP answer", "call_silence"),
    ("never-sends", "udp", 200, "sent nothing", "call_no_media"),
    ("never-sends", "tcp_active", 200, "sent nothing", "call_no_media"),
    ("never-sends", "tcp_passive", 200, "the device has answered, connected and sent nothing in 3 s", "call_no_media"),
    ("never-connects", "tcp_passive", 200, "the device has answered and not connected in 3 s", "call_no_media"),
];

/// There is room for one call: it has to leave its port.
fn calls_that_fail(runtime: Runtime) {
    let port = free_pair();
    let options = options(runtime).set("gb28181.idle_ms", 20_000);
    let server = Server::start_platform(options.set("rtsp.udp_ports", format!("{port}-{}", port + 1)));
    let good = Device::start(&server, "--id 34020000001110000007 --channel-id 34020000001310000007 --rate 500k");
    good.wait("registered");
    for (quirk, transport, status, words, reason) in FAILING {
        println!("-- {quirk} over {transport}");
        let before = server.metric("shardcast_gb28181_refused_total", reason);
        let device = Device::start(&server, &format!("--rate 500k --quirk {quirk}"));
        server.wait_channels(DEVICE, 1);
        let answer = server.post_gb("play", &json!({ "device": DEVICE, "channel": CHANNEL, "transport": transport }));
        assert_eq!(answer.status, status, "{quirk}: {}", answer.text());
        let failed = server.wait_call(STREAM, "failed");
        assert!(failed["detail"].as_str().unwrap().contains(words), "{quirk}: {failed}");
        let counted = || (server.metric("shardcast_gb28181_refused_total", reason) > before).then_some(());
        wait_for(&format!("{quirk} is counted as {reason}"), SOON, counted);
        if quirk.starts_with("late") {
            // What comes too late is ended at once.
            device.wait("cancelled");
            device.wait("bye");
        }
        let stream = "gb/34020000001110000007/34020000001310000007";
        let viewer = Viewer::open(&server, Over::HttpFlv, stream);
        viewer.wait_frames(VIDEO, 5);
        drop(viewer);
        let call = server.wait_call(stream, "playing");
        assert_eq!(server.delete_gb(&format!("calls/{}", call["id"])), 204);
        server.wait_call(stream, "ended");
        device.leave();
        server.wait_device(DEVICE, false);
    }
}

/// An even port that is free together with the next one.
fn free_pair() -> u16 {
    wait_for("two free ports", SOON, || {
        let first = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port() & !1;
        drop(first);
        (UdpSocket::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port + 1)).is_ok()).then_some(port)
    })
}

/// No goodbye, no keepalive, no media: the call ends for want of media, the device for want of keepalives.
fn vanished_devices(runtime: Runtime) {
    let options = options(runtime).set("gb28181.keepalive_ms", 1_000).set("gb28181.keepalive_count", 4);
    let server = Server::start_platform(options);
    for transport in ["udp", "tcp_passive"] {
        let device = Device::start(&server, "--rate 500k --keepalive-ms 400 --quirk vanishes --vanish-ms 3000");
        server.wait_channels(DEVICE, 1);
        server.ask_gb("play", &json!({ "device": DEVICE, "channel": CHANNEL, "transport": transport }));
        let viewer = Viewer::open(&server, Over::HttpFlv, STREAM);
        viewer.wait_frames(VIDEO, 5);
        device.wait("vanished");
        let failed = server.wait_call(STREAM, "failed");
        assert!(failed["detail"].as_str().unwrap().contains("no media"), "{transport}: {failed}");
        let offline = server.wait_device(DEVICE, false);
        assert!(offline["detail"].as_str().unwrap().contains("keepalive"), "{transport}: {offline}");
        viewer.wait_over();
    }
}

/// H.264 and H.265 in turn, in one call.
fn a_change_of_codec(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let (Some(first), Some(second)) = (H264_PLAIN_AAC.file(), HEVC_AAC.file()) else { return };
    let server = Server::start_platform(options(runtime));
    let options = format!("--quirk changes-codec,h265-as-1b --then {}", second.display());
    let device = Device::start_with(&server, &options, Some(&first));
    server.wait_channels(DEVICE, 1);
    let viewer = Viewer::open(&server, Over::HttpFlv, STREAM);
    viewer.wait_frames(VIDEO, 5);
    let tracks = |name: &str| {
        wait_for(&format!("the picture is {name}"), SOON, || {
            let call = server.wait_call(STREAM, "playing");
            (call["tracks"].as_array().is_some_and(|tracks| tracks.contains(&Value::from(name)))).then_some(())
        });
    };
    tracks("H264");
    tracks("H265");
    tracks("H264");
    assert_eq!(device.events("invite").len(), 1);
}
