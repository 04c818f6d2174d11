//! GB28181 devices of another make, the load generator's simulator, against the platform: who registers, what they have, what is played
//! of them, what they are told to do.
//!
//! | sent as | codecs | played by |
//! |---|---|---|
//! | program stream over UDP, TCP by the device, TCP by the server | H.264 + G.711A, H.264 + AAC, H.265 + AAC; H.264 + G.711µ over UDP | ffmpeg over RTSP, RTMP and HTTP-FLV |
//! | program streams of ffmpeg's muxers `vob` and `mpeg` | H.264 + MP3, H.265 | the same |
//! | the same to one port for all calls, over UDP and TCP | H.264 + AAC | the same |

use std::path::Path;

use serde_json::{Value, json};

use crate::gb28181::program_stream;
use crate::harness::api::request;
use crate::harness::device::{CHANNEL, DEVICE, PASSWORD, STREAM, platform};
use crate::harness::flv::{self, VIDEO};
use crate::harness::media::{CLOCK, H264_ALAW, H264_MP3, H264_PLAIN_AAC, H264_ULAW, H265_ONLY, HEVC_AAC, Recipe};
use crate::harness::rtsp::{Expected, Play, Player, Push, assert_run, hashes};
use crate::harness::{Device, Over, Runtime, SOON, Server, Viewer, free_ports, fresh_folder, missing, wait_for};

const TRANSPORTS: [&str; 3] = ["udp", "tcp_passive", "tcp_active"];

on_both_runtimes!(
    devices_and_what_they_have,
    what_devices_tell,
    played_bit_for_bit,
    streams_of_other_muxers,
    a_seek_goes_to_its_place,
    reports_in_calls,
    one_port_for_all,
    calls_have_ports_of_their_own,
    on_demand_for_all_viewers,
    commands_arrive,
    recordings,
    a_restart_keeps_devices,
    passwords_and_goodbyes,
    sip_over_tcp,
);

const PLAYERS: [Play; 3] = [Play::FfmpegTcp, Play::Rtmp, Play::HttpFlv];
const SPEAKER: &str = "34020000001370000001";

fn devices_and_what_they_have(runtime: Runtime) {
    let server = Server::start_platform(platform(runtime));
    let device = Device::start(&server, "--channels 3 --speaker --items 2 --records 5");
    assert_eq!(device.wait("registered")["expires"], 3600);
    let channels = server.wait_channels(DEVICE, 4);
    let names: Vec<&Value> = channels.iter().map(|channel| &channel["name"]).collect();
    assert_eq!(names, ["摄像机1", "摄像机2", "摄像机3", "扬声器1"]);
    assert_eq!((&channels[0]["stream"], &channels[0]["kind"]), (&json!(STREAM), &json!("camera")));
    assert_eq!((&channels[3]["id"], &channels[3]["stream"]), (&json!(SPEAKER), &Value::Null));
    assert_eq!(server.ask_gb("refresh", &json!({ "device": DEVICE }))["total"], 4);
    let known = wait_for("the device has told what and how it is", SOON, || {
        Some(server.gb(&format!("devices/{DEVICE}"))).filter(|device| !device["model"].is_null() && !device["status"].is_null())
    });
    for (field, expected) in [
        ("manufacturer", json!("Simulator")),
        ("model", json!("S1")),
        ("name", json!("设备1")),
        ("transport", json!("udp")),
        ("channels", json!(4)),
        ("channels_announced", json!(4)),
    ] {
        assert_eq!(known[field], expected, "{field}: {known}");
    }
    assert_eq!(known["status"]["ok"], true);
    let span = "start=2026-01-02T00:00:00&end=2026-01-02T23:59:59";
    let records = server.gb(&format!("devices/{DEVICE}/records?channel={CHANNEL}&{span}"));
    assert_eq!((&records["announced"], &records["complete"]), (&json!(5), &json!(true)), "{records}");
    let starts: Vec<&Value> = records["records"].as_array().unwrap().iter().map(|record| &record["start"]).collect();
    assert_eq!(starts[..2], ["2026-01-02T00:00:00", "2026-01-02T00:10:00"]);
    assert_eq!(server.gb(&format!("devices/{DEVICE}/config"))["sections"]["BasicParam"]["HeartBeatCount"], "3");
    let presets = server.gb(&format!("devices/{DEVICE}/presets?channel={CHANNEL}"));
    assert_eq!(presets["presets"][0], json!({ "number": 1, "name": "大门" }));
    let of = |path: &str| server.gb(&format!("devices/{DEVICE}/{path}?channel={CHANNEL}"));
    assert_eq!(of("cruises")["cruises"], json!([{ "number": 1, "name": "夜间1" }]));
    let cruise = of("cruises/1");
    assert_eq!(cruise["points"][1], json!({ "preset": 7, "stay_s": 20, "speed": 8 }), "{cruise}");
    let position = of("ptz_position");
    assert_eq!(
        (&position["pan"], &position["tilt"], &position["zoom"]),
        (&json!(120.5), &json!(-3.0), &json!(2.0)),
        "{position}"
    );
    device.leave();
    server.wait_device(DEVICE, false);
}

/// On their own, or because the server has subscribed to it.
fn what_devices_tell(runtime: Runtime) {
    let subscribe = "[catalog, alarm, mobile_position]";
    let server = Server::start_platform(platform(runtime).set("gb28181.subscribe", subscribe));
    let mut device = Device::start(&server, "--channels 2");
    device.wait_times("subscribed", 3);
    server.wait_channels(DEVICE, 2);
    device.command("offline 2");
    wait_for("channel 2 is offline", SOON, || {
        (server.gb(&format!("devices/{DEVICE}/channels"))["channels"][1]["online"] == false).then_some(())
    });
    device.command("alarm");
    let alarm = wait_for("an alarm", SOON, || server.gb("alarms")["alarms"].as_array().unwrap().first().cloned());
    assert_eq!((&alarm["device"], &alarm["channel"], &alarm["method"]), (&json!(DEVICE), &json!(CHANNEL), &json!(5)), "{alarm}");
    let position = wait_for("a position", SOON, || server.gb("positions")["positions"].as_array().unwrap().first().cloned());
    assert_eq!((&position["latitude"], &position["speed_km_h"]), (&json!(31.8), &json!(36.0)), "{position}");
    let states = server.gb(&format!("devices/{DEVICE}/subscriptions"));
    assert!(states["subscriptions"].as_array().unwrap().iter().all(|one| one["state"] == "active"), "{states}");
}

/// Three devices send the same clip, each in its own way, to three players each, that wait for it.
fn played_bit_for_bit(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let server = Server::start_platform(platform(runtime).shards(2).set("gb28181.media_ms", 40_000));
    for recipe in [H264_ALAW, H264_PLAIN_AAC, HEVC_AAC] {
        if recipe.file().is_some() && recipe.ffmpeg().is_some() {
            play(&server, &recipe, &recipe.file().unwrap(), &TRANSPORTS);
        }
    }
    play(&server, &H264_ULAW, &H264_ULAW.file().unwrap(), &["udp"]);
}

/// Devices whose program streams ffmpeg has made: no map, padding, or headers of MPEG-1.
fn streams_of_other_muxers(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let server = Server::start_platform(platform(runtime).shards(2).set("gb28181.media_ms", 40_000));
    for (recipe, format, transport) in
        [(H264_MP3, "vob", "udp"), (H264_MP3, "mpeg", "tcp_passive"), (H265_ONLY, "vob", "tcp_active")]
    {
        let Some(path) = program_stream(&recipe, format) else { continue };
        play(&server, &recipe, &path, &[transport]);
        let _ = std::fs::remove_dir_all(path.parent().unwrap());
    }
}

fn one_port_for_all(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let port = free_ports(4);
    let options = platform(runtime).set("gb28181.shared_port", port).set("gb28181.media_ms", 40_000);
    let server = Server::start_platform(options);
    play(&server, &H264_PLAIN_AAC, &H264_PLAIN_AAC.file().unwrap(), &["udp", "tcp_passive", "udp"]);
    for call in server.calls() {
        assert_eq!(call["port"], port, "{call}");
    }
}

/// Where calls have ranges of ports of their own, each names one of those and is played through it, and the port is free behind it.
fn calls_have_ports_of_their_own(runtime: Runtime) {
    let (udp, tcp) = (free_ports(4), free_ports(4));
    let range = |first: u16| format!("{first}-{}", first + 3);
    let options = platform(runtime).set("gb28181.idle_ms", 1_000);
    let server = Server::start_platform(options.set("gb28181.udp_ports", range(udp)).set("gb28181.tcp_ports", range(tcp)));
    let device = Device::start(&server, "--rate 500k");
    server.wait_channels(DEVICE, 1);
    let port_of = |call: &Value| u16::try_from(call["port"].as_u64().unwrap()).unwrap();
    for (number, (transport, first)) in (1..).zip([("udp", udp), ("tcp_passive", tcp), ("udp", udp), ("tcp_passive", tcp)]) {
        let call = server.ask_gb("play", &json!({ "device": DEVICE, "channel": CHANNEL, "transport": transport }));
        assert!((first..first + 4).contains(&port_of(&call)), "{transport}, {first}: {call}");
        let invite = device.wait_times("invite", number);
        let offered = invite["offer"]["address"].as_str().unwrap();
        assert!(offered.ends_with(&format!(":{}", port_of(&call))), "{invite}");
        let viewer = Viewer::open(&server, Over::HttpFlv, STREAM);
        viewer.wait_frames(VIDEO, 10);
        let playing = server.wait_call(STREAM, "playing");
        assert_eq!((&playing["port"], &playing["transport"]), (&call["port"], &json!(transport)), "{playing}");
        drop(viewer);
        assert_eq!(device.wait_times("bye", number)["by"], "platform");
        wait_for("its port is free", SOON, || {
            let is_free = match transport {
                "udp" => std::net::UdpSocket::bind(("0.0.0.0", port_of(&call))).is_ok(),
                _ => std::net::TcpListener::bind(("0.0.0.0", port_of(&call))).is_ok(),
            };
            is_free.then_some(())
        });
    }
}

/// One device for each of `transports`, which sends `clip`: the file of the recipe, or what was made of it.
fn play(server: &Server, recipe: &Recipe, clip: &Path, transports: &[&str]) {
    let sent = hashes(recipe, &recipe.file().unwrap());
    let count = transports.len();
    let mut device = Device::start_with(server, &format!("--devices {count} --hold --once"), Some(clip));
    device.wait_times("registered", count);
    let before = server.sessions("waiting").len();
    let mut players = Vec::new();
    for (number, transport) in transports.iter().enumerate() {
        let (device_id, channel) = (nth(DEVICE, number), nth(CHANNEL, number));
        let call = server.ask_gb("play", &json!({ "device": device_id, "channel": channel, "transport": transport }));
        assert_eq!((&call["kind"], &call["transport"]), (&json!("play"), &json!(transport)), "{call}");
        let key = format!("gb/{device_id}/{channel}");
        for play in PLAYERS {
            if let Some(player) = Player::start(play, recipe, server, &key) {
                players.push((play, *transport, player));
            }
        }
    }
    device.wait_times("acknowledged", count);
    server.wait_sessions("waiting", before + players.len());
    device.command("go");
    for (play, transport, player) in players {
        println!("{recipe:?} over {transport}, played by {play:?}");
        assert_run(&player.finish(), recipe, &sent, Expected::of(Push::Rtmp, play));
    }
    for number in 0..count {
        let call = server.wait_call(&format!("gb/{}/{}", nth(DEVICE, number), nth(CHANNEL, number)), "failed");
        assert_eq!((&call["detail"], &call["packets"]["lost"]), (&json!("the device has hung up"), &json!(0)), "{call}");
    }
    device.leave();
}

/// The digits of an id, counted up.
fn nth(id: &str, number: usize) -> String {
    format!("{}{}", &id[..19], 1 + number)
}

/// The first viewer begins the call, all share it, and it ends some time after the last has gone.
fn on_demand_for_all_viewers(runtime: Runtime) {
    TRANSPORTS.iter().for_each(|transport| on_demand(runtime, transport));
}

fn on_demand(runtime: Runtime, transport: &str) {
    let server =
        Server::start_platform(platform(runtime).shards(2).set("gb28181.idle_ms", 1_000).set("gb28181.transport", transport));
    let device = Device::start(&server, "--rate 500k");
    device.wait("registered");
    for round in 1..=2 {
        let viewers: Vec<Viewer> = Over::ALL.iter().map(|over| Viewer::open(&server, *over, STREAM)).collect();
        viewers.iter().for_each(|viewer| drop(viewer.wait_frames(VIDEO, 20)));
        let call = server.wait_call(STREAM, "playing");
        assert_eq!((&call["tracks"], &call["packets"]["lost"]), (&json!(["H264", "AAC"]), &json!(0)), "{call}");
        assert!(call["detail"].as_str().unwrap().contains("playing"), "{call}");
        assert_eq!(device.events("invite").len(), round, "one call for all");
        drop(viewers);
        let bye = device.wait_times("bye", round);
        assert_eq!(bye["by"], "platform");
        server.wait_call(STREAM, "ended");
        assert!(server.stream(STREAM).is_none_or(|stream| stream["state"] != "live"));
    }
}

/// Standard bytes of commands (GB/T 28181 Annex A.3).
fn commands_arrive(runtime: Runtime) {
    let server = Server::start_platform(platform(runtime));
    let device = Device::start(&server, "");
    server.wait_channels(DEVICE, 1);
    let rows = [
        ("ptz", json!({ "pan": 64 }), "ptz", "A50F0101400000F6"),
        ("ptz", json!({ "tilt": 64 }), "ptz", "A50F0108004000FD"),
        ("ptz", json!({ "zoom": 8 }), "ptz", "A50F011000008045"),
        ("ptz", json!({ "pan": 0, "tilt": 0, "zoom": 0 }), "ptz", "A50F0100000000B5"),
        ("ptz", json!({ "iris": 16 }), "ptz", "A50F014400100009"),
        ("ptz_position", json!({ "pan": 120.5, "zoom": 2 }), "look", "<Pan>120.5</Pan><Zoom>2</Zoom>"),
        ("preset", json!({ "action": "call", "number": 1 }), "ptz", "A50F018200010038"),
        ("record", json!({ "on": true }), "record", "Record"),
        ("guard", json!({ "on": false }), "guard", "ResetGuard"),
        ("keyframe", json!({}), "key_frame", "Send"),
        ("reboot", json!({}), "boot", "Boot"),
    ];
    for (number, (path, fields, command, value)) in (1..).zip(rows) {
        let mut body = json!({ "device": DEVICE, "channel": CHANNEL });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        assert_eq!(server.post_gb(path, &body).status, 204, "{path} {body}");
        let event = device.wait_times("control", number);
        assert_eq!((&event["command"], &event["value"]), (&json!(command), &json!(value)), "{path} {body}");
    }
    let unknown = server.post_gb("ptz", &json!({ "device": "34020000001110000009", "pan": 1 }));
    assert_eq!(unknown.status, 404, "{}", unknown.text());
}

fn recordings(runtime: Runtime) {
    TRANSPORTS.iter().for_each(|transport| recording(runtime, transport));
}

fn recording(runtime: Runtime, transport: &str) {
    let server = Server::start_platform(platform(runtime).set("gb28181.transport", transport));
    let device = Device::start(&server, "--rate 500k --gop-ms 1000");
    server.wait_channels(DEVICE, 1);
    let span = json!({ "device": DEVICE, "channel": CHANNEL, "start": "2026-01-02T00:00:00", "end": "2026-01-02T01:00:00" });
    let call = server.ask_gb("playback", &span);
    let invite = device.wait("invite");
    // Beijing is eight hours ahead.
    let offer = (&invite["offer"]["purpose"], &invite["offer"]["start"], &invite["offer"]["end"]);
    assert_eq!(offer, (&json!("Playback"), &json!(1_767_283_200u32), &json!(1_767_286_800u32)));
    assert!(invite["offer"]["ssrc"].as_str().unwrap().starts_with('1'), "{invite}");
    let stream = call["stream"].as_str().unwrap().to_owned();
    let control = format!("calls/{}/control", call["id"]);
    let viewer = Viewer::open(&server, Over::HttpFlv, &stream);
    viewer.wait_frames(VIDEO, 10);
    for (number, (body, command, field, value)) in (1..).zip([
        (json!({ "action": "pause" }), "PAUSE", "range", Value::Null),
        (json!({ "action": "resume" }), "PLAY", "range", json!("npt=now-")),
        (json!({ "action": "scale", "value": 2 }), "PLAY", "scale", json!("2.0")),
        (json!({ "action": "seek", "value": 3 }), "PLAY", "range", json!("npt=3-")),
    ]) {
        assert_eq!(server.post_gb(&control, &body).status, 204, "{body}");
        let event = device.wait_times("info", number);
        assert_eq!((&event["command"], &event[field]), (&json!(command), &value), "{body}: {event}");
    }
    let before = flv::of_kind(&viewer.seen().tags, VIDEO).count();
    viewer.wait_frames(VIDEO, before + 20);
    // The end is told, the call ends, and so does the stream.
    device.wait("played");
    assert_eq!(device.wait("bye")["by"], "platform");
    let seen = viewer.wait_over();
    flv::assert_monotonic(&seen.tags, VIDEO);
    let ended = server.wait_call(&stream, "ended");
    assert_eq!(ended["kind"], "playback");
    let mut fast = span.clone();
    fast["speed"] = json!(4);
    let call = server.ask_gb("download", &fast);
    assert_eq!(device.wait_times("invite", 2)["offer"]["speed"], 4.0);
    let stopped = server.delete_gb(&format!("calls/{}", call["id"]));
    assert_eq!(stopped, 204);
    device.wait_times("bye", 2);
    let live = server.ask_gb("play", &json!({ "device": DEVICE, "channel": CHANNEL }));
    let refused = server.post_gb(&format!("calls/{}/control", live["id"]), &json!({ "action": "pause" }));
    assert_eq!(refused.status, 409, "{}", refused.text());
}

/// The picture behind a seek is the one that stands in the recording at that time, forwards and back again.
fn a_seek_goes_to_its_place(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    TRANSPORTS.iter().for_each(|transport| seek_over(runtime, transport));
}

fn seek_over(runtime: Runtime, transport: &str) {
    let Some(clip) = CLOCK.file() else { return };
    let tags = CLOCK.tags().unwrap();
    let pictures: Vec<&flv::Tag> = flv::of_kind(&tags, VIDEO).collect();
    // Each second begins with a keyframe, behind whose head no picture is like another.
    let picture = |second: usize| pictures[25 * second].body[pictures[25 * second].body.len() / 4..].to_vec();
    let server = Server::start_platform(platform(runtime).set("gb28181.transport", transport));
    let device = Device::start_with(&server, "", Some(&clip));
    server.wait_channels(DEVICE, 1);
    let span = json!({ "device": DEVICE, "channel": CHANNEL, "start": "2026-01-02T00:00:00", "end": "2026-01-02T01:00:00" });
    let call = server.ask_gb("playback", &span);
    let viewer = Viewer::open(&server, Over::HttpFlv, call["stream"].as_str().unwrap());
    viewer.wait_frames(VIDEO, 2);
    let seek = |seconds: u32| {
        let body = json!({ "action": "seek", "value": seconds });
        assert_eq!(server.post_gb(&format!("calls/{}/control", call["id"]), &body).status, 204);
    };
    let seen = |tags: &[flv::Tag], second: usize| {
        let wanted = picture(second);
        flv::of_kind(tags, VIDEO).filter(|tag| tag.body.ends_with(&wanted)).count()
    };
    // A device begins at the last keyframe up to that time.
    let place = |second: usize| (0..=second).rev().find(|at| pictures[25 * at].timestamp as usize <= 1_000 * second).unwrap();
    seek(13);
    let there = viewer.wait("the picture of second 13", |all| seen(&all.tags, place(13)) > 0);
    // It has jumped: unless the machine stood still for seconds, those in between were not sent.
    assert_eq!((place(13) - 4..place(13)).map(|second| seen(&there.tags, second)).sum::<usize>(), 0);
    let before = seen(&there.tags, place(2));
    seek(2);
    viewer.wait("the picture of second 2 once more", |all| seen(&all.tags, place(2)) > before);
    let back = viewer.wait("and the one behind it", |all| seen(&all.tags, place(2) + 1) > 0);
    flv::assert_monotonic(&back.tags, VIDEO);
    assert_eq!(device.wait_times("info", 2)["range"], "npt=2-");
}

/// A camera that is called over UDP hears what came of it, where the configuration says so.
fn reports_in_calls(runtime: Runtime) {
    let server = Server::start_platform(platform(runtime).set("gb28181.transport", "udp").set("gb28181.receiver_reports", true));
    let mut device = Device::start(&server, "--rate 500k");
    server.wait_channels(DEVICE, 1);
    let call = server.ask_gb("play", &json!({ "device": DEVICE, "channel": CHANNEL }));
    let viewer = Viewer::open(&server, Over::HttpFlv, STREAM);
    viewer.wait_frames(VIDEO, 5);
    wait_for("reports have come", SOON, || {
        device.command("sent");
        device.events("sent").last().filter(|sent| sent["sent"]["reports"].as_u64() >= Some(2)).map(|_| ())
    });
    assert_eq!(server.delete_gb(&format!("calls/{}", call["id"])), 204);
    let bye = device.wait("bye");
    assert_eq!(bye["sent"]["lost"], 0, "{bye}");
}

fn a_restart_keeps_devices(runtime: Runtime) {
    let folder = fresh_folder("restart");
    let options = || platform(runtime).set("server.data", folder.display());
    let mut server = Server::start(options());
    let device = Device::start(&server, "--channels 2");
    let by_tcp = Device::start(&server, &format!("--sip tcp --id {} --channel-id {}", nth(DEVICE, 4), nth(CHANNEL, 4)));
    let channels = server.wait_channels(DEVICE, 2);
    server.wait_channels(&nth(DEVICE, 4), 1);
    let address = server.address("gb28181 udp");
    server.signal(libc::SIGTERM);
    assert!(server.wait_exit().success());
    // At the same address: the device knows no other.
    let server = Server::start(options().set("gb28181.listen", format!("[{address}]")));
    let known = server.gb(&format!("devices/{DEVICE}"));
    assert_eq!((&known["channels"], &known["model"]), (&json!(2), &json!("S1")), "{known}");
    assert_eq!(server.gb(&format!("devices/{DEVICE}/channels"))["channels"][0]["name"], channels[0]["name"]);
    // It need not register again to be called.
    let viewer = Viewer::open(&server, Over::HttpFlv, STREAM);
    viewer.wait_frames(VIDEO, 5);
    assert_eq!(device.events("registered").len(), 1);
    // Over TCP nobody but the device can connect, and a device that has connected registers.
    by_tcp.wait_times("registered", 2);
    let viewer = Viewer::open(&server, Over::HttpFlv, &format!("gb/{}/{}", nth(DEVICE, 4), nth(CHANNEL, 4)));
    viewer.wait_frames(VIDEO, 5);
    let _ = std::fs::remove_dir_all(folder);
}

fn passwords_and_goodbyes(runtime: Runtime) {
    let own = format!("[{{id: \"{}\", password: its own}}]", nth(DEVICE, 1));
    let options = platform(runtime).set("gb28181.devices", own);
    let server = Server::start_platform(options.set("gb28181.keepalive_ms", 1_000).set("gb28181.keepalive_count", 5));
    let wrong = Device::start(&server, "--password wrong");
    assert_eq!(wrong.wait("refused")["status"].as_u64().map(|status| status / 100), Some(4));
    assert_eq!(server.gb("devices")["total"], 0);
    server.wait_log("whose password was wrong", |line| line.contains(DEVICE) && line.contains("password"));
    drop(wrong);
    // The second device has a password of its own, and the first has not.
    let two = Device::start(&server, "--devices 2 --keepalive-ms 100");
    two.wait("registered");
    two.wait("refused");
    let right = Device::start(&server, "--devices 1 --keepalive-ms 100");
    right.wait("registered");
    drop(two);
    right.leave();
    let offline = server.wait_device(DEVICE, false);
    assert!(offline["detail"].as_str().unwrap().contains("unregistered"), "{offline}");
    let mut silent = Device::start(&server, "--keepalive-ms 100");
    server.wait_device(DEVICE, true);
    silent.command("vanish");
    let offline = server.wait_device(DEVICE, false);
    assert!(offline["detail"].as_str().unwrap().contains("keepalive"), "{offline}");
    let refused = server.post_gb("play", &json!({ "device": DEVICE, "channel": CHANNEL }));
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert_eq!(server.delete_gb(&format!("devices/{DEVICE}")), 204);
    let gone = request(server.control, "GET", &format!("/api/v1/gb28181/devices/{DEVICE}"), &[]);
    assert_eq!(gone.status, 404);
}

/// The server's requests go over the connection that the devices made.
fn sip_over_tcp(runtime: Runtime) {
    let server = Server::start_platform(platform(runtime));
    let device = Device::start(&server, "--sip tcp --devices 2 --channels 2 --shared-socket --rate 500k");
    server.wait_channels(DEVICE, 2);
    assert_eq!(server.wait_device(&nth(DEVICE, 1), true)["transport"], "tcp");
    for number in 0..2 {
        let viewer = Viewer::open(&server, Over::HttpFlv, &format!("gb/{}/{}", nth(DEVICE, number), nth(CHANNEL, 2 * number)));
        viewer.wait_frames(VIDEO, 5);
    }
    device.leave();
    server.wait_device(DEVICE, false);
    assert!(!server.log().contains(PASSWORD), "no password in the log");
}
