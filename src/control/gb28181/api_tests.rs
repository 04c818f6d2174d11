//! The routes of the platform, through a real socket, with a desk that answers from a table.

use serde_json::{Value, json};

use super::Desk;
use crate::config::{Config, SipTransport};
use crate::control::testing::{Script, Server, watched};
use crate::format::rtp::demux::Received;
use crate::protocol::gb28181::cascade::view::{UpstreamCallView, UpstreamView};
use crate::protocol::gb28181::platform::CallId;
use crate::protocol::gb28181::platform::ask::{Answer, Ask, RefusedKind};
use crate::protocol::gb28181::platform::view::*;
use crate::protocol::gb28181::sdp::Kind;

fn device(id: &str, online: bool) -> DeviceView {
    let status = online.then(StatusView::default);
    DeviceView { id: id.to_owned(), online, detail: "keepalive".to_owned(), status, ..DeviceView::default() }
}

fn call(id: u64) -> CallView {
    CallView {
        id: CallId(id),
        kind: CallKind::Play,
        device: "d".to_owned(),
        channel: "c".to_owned(),
        stream: "gb/d/c".to_owned(),
        state: CallState::TracksFound,
        detail: "PS has no PSM: codec guessed H264".to_owned(),
        transport: "tcp_passive",
        port: Some(20_000),
        ssrc: Some(200_000_001),
        source: Some("192.0.2.1:5000".to_owned()),
        tracks: vec!["H264"],
        packets: Received::default(),
        age_ms: 100,
        lasted_ms: None,
        answered_ms: Some(20),
        media_ms: None,
    }
}

fn upstream() -> UpstreamView {
    UpstreamView {
        id: "34010000002000000009".to_owned(),
        address: "192.0.2.1:5060".to_owned(),
        transport: SipTransport::Udp,
        state: "online",
        detail: "registered".to_owned(),
        registered_age_ms: Some(1_000),
        expires_ms: Some(3_599_000),
        keepalive_age_ms: None,
        keepalives_missed: 0,
        channels: 2,
        channels_online: 1,
        subscriptions: 1,
        calls: vec![UpstreamCallView {
            kind: Kind::Play,
            channel: "34020000001310123456".to_owned(),
            stream: "live/gate".to_owned(),
            state: "sending",
            detail: "sending H264 to 192.0.2.1:30000".to_owned(),
            transport: "udp",
            to: Some("192.0.2.1:30000".to_owned()),
            ssrc: 200_000_001,
            bytes: 1_000,
            age_ms: 20,
        }],
    }
}

fn answer(ask: Ask) -> Option<Answer> {
    Some(match ask {
        Ask::Devices => Answer::Devices(vec![device("a", true), device("b", false), device("c", true)]),
        Ask::Device(id) if id == "none" => Answer::refused(RefusedKind::NotFound, "no device none"),
        Ask::Device(id) => Answer::Device(Box::new(device(&id, id != "off"))),
        Ask::Channels(_) | Ask::Refresh(_) => Answer::Channels(vec![ChannelView {
            id: "1".to_owned(),
            stream: Some("gb/a/1".to_owned()),
            ..ChannelView::default()
        }]),
        Ask::Alarms(device) => Answer::Alarms(vec![AlarmView { device: device.unwrap_or_default(), ..AlarmView::default() }]),
        Ask::Positions(_) => Answer::Positions(vec![PositionView::default()]),
        Ask::Subscriptions(_) => Answer::Subscriptions(vec![]),
        Ask::Records { .. } => {
            Answer::Records(RecordsView { announced: 2, complete: false, records: vec![RecordView::default()] })
        }
        Ask::Config { .. } => Answer::Config(ConfigView::default()),
        Ask::Presets(_) => Answer::Presets(vec![PresetView { number: 1, name: Some("door".to_owned()) }]),
        Ask::Cruises(_) => Answer::Cruises(vec![CruiseNameView { number: 1, name: None }]),
        Ask::Cruise { number, .. } => Answer::Cruise(CruiseView {
            track: CruiseNameView { number, name: None },
            points: vec![CruisePointView { preset: 3, stay_s: Some(10), speed: None }],
        }),
        Ask::PtzPosition(_) => Answer::PtzPosition(PtzPositionView { pan: Some(120.5), ..PtzPositionView::default() }),
        Ask::Play { of, .. } if of.device == "silent" => Answer::refused(RefusedKind::Silent, "no SIP answer in 5 s"),
        Ask::Play { of, .. } if of.device == "busy" => Answer::refused(RefusedKind::Device, "the device answers 486"),
        Ask::Play { of, .. } if of.device == "full" => Answer::refused(RefusedKind::Full, "no port is left"),
        Ask::Play { of, .. } if of.device == "off" => Answer::refused(RefusedKind::Conflict, "off is offline"),
        Ask::Play { of, .. } if of.device == "odd" => Answer::refused(RefusedKind::Bad, "odd"),
        Ask::Play { of, .. } if of.device == "gone" => return None,
        Ask::Play { .. } | Ask::Playback { .. } | Ask::Download { .. } | Ask::Talk { .. } => Answer::Call(Box::new(call(7))),
        Ask::Calls => Answer::Calls(vec![call(8), call(7)]),
        Ask::Call(CallId(7)) => Answer::Call(Box::new(call(7))),
        Ask::Call(id) => Answer::refused(RefusedKind::NotFound, format!("no call {}", id.0)),
        Ask::Upstreams => Answer::Upstreams(vec![upstream()]),
        Ask::Forget(_) | Ask::Control { .. } | Ask::Playing { .. } | Ask::Stop(_) => Answer::Done,
    })
}

/// A server, and what the platform was asked.
fn server() -> (Server, flume::Receiver<String>) {
    let (asked, questions) = flume::unbounded();
    let desk = Desk::answered_by(move |ask| {
        // Not every test wants to know.
        let _ = asked.send(format!("{ask:?}"));
        answer(ask)
    });
    let script = Script { streams: vec![watched("live/voice", 0, 0)], ..Script::default() };
    (Server::with_platform(Config::default(), vec![script], Some(desk)), questions)
}

#[test]
fn lists_are_cut_into_pages() {
    let (server, _) = server();
    let cases = [
        ("devices", "devices", json!(["a", "b", "c"]), 3),
        ("devices?online=true", "devices", json!(["a", "c"]), 2),
        ("devices?online=false", "devices", json!(["b"]), 1),
        ("devices?limit=1&offset=1", "devices", json!(["b"]), 3),
        ("devices/a/channels", "channels", json!(["1"]), 1),
        ("devices/a/channels?offset=1", "channels", json!([]), 1),
        ("calls?limit=1", "calls", json!([8]), 2),
        ("calls?offset=1", "calls", json!([7]), 2),
    ];
    for (path, list, ids, total) in cases {
        let answer = server.get(&format!("/api/v1/gb28181/{path}")).json();
        let found: Vec<&Value> = answer[list].as_array().unwrap().iter().map(|entry| &entry["id"]).collect();
        assert_eq!((json!(found), &answer["total"]), (ids, &json!(total)), "{path}");
    }
}

#[test]
fn single_answers_are_shown_as_they_are() {
    let (server, questions) = server();
    let cases = [
        ("devices/a", "/id", json!("a"), "Device(\"a\")"),
        ("devices/%61", "/id", json!("a"), "Device(\"a\")"),
        ("devices/a/status", "/ok", json!(null), "Device(\"a\")"),
        ("devices/a/alarms", "/alarms/0/device", json!("a"), "Alarms(Some(\"a\"))"),
        ("alarms", "/total", json!(1), "Alarms(None)"),
        ("devices/a/positions", "/total", json!(1), "Positions(Some(\"a\"))"),
        ("positions", "/total", json!(1), "Positions(None)"),
        ("devices/a/subscriptions", "/subscriptions", json!([]), "Subscriptions(\"a\")"),
        ("devices/a/presets", "/presets/0/name", json!("door"), "Presets(Channel { device: \"a\", channel: \"a\" })"),
        ("devices/a/presets?channel=1", "/presets/0/number", json!(1), "Presets(Channel { device: \"a\", channel: \"1\" })"),
        ("devices/a/cruises", "/cruises/0/number", json!(1), "Cruises(Channel { device: \"a\", channel: \"a\" })"),
        (
            "devices/a/cruises/2?channel=1",
            "/points/0/stay_s",
            json!(10),
            "Cruise { of: Channel { device: \"a\", channel: \"1\" }, number: 2 }",
        ),
        ("devices/a/ptz_position", "/pan", json!(120.5), "PtzPosition(Channel { device: \"a\", channel: \"a\" })"),
        (
            "devices/a/config?channel=1&kinds=BasicParam,VideoParamOpt",
            "/sections",
            json!({}),
            "Config { of: Channel { device: \"a\", channel: \"1\" }, kinds: [\"BasicParam\", \"VideoParamOpt\"] }",
        ),
        (
            "devices/a/records?channel=1&start=2026-01-02T08:00:00&end=2026-01-02T01:00:00Z&kind=alarm",
            "/announced",
            json!(2),
            "Records { of: Channel { device: \"a\", channel: \"1\" }, from_unix_s: 1767312000, to_unix_s: 1767315600, kind: Alarm }",
        ),
        ("upstreams", "/upstreams/0/transport", json!("udp"), "Upstreams"),
        ("upstreams", "/upstreams/0/calls/0/kind", json!("play"), "Upstreams"),
        ("calls/7", "/detail", json!("PS has no PSM: codec guessed H264"), "Call(CallId(7))"),
    ];
    for (path, pointer, expected, question) in cases {
        let answer = server.get(&format!("/api/v1/gb28181/{path}"));
        assert_eq!((answer.status, answer.json().pointer(pointer)), (200, Some(&expected)), "{path}: {answer:?}");
        assert_eq!(questions.recv().unwrap(), question, "{path}");
    }
}

#[test]
fn what_a_device_is_to_do_is_passed_on() {
    let (server, questions) = server();
    let cases = [
        ("ptz", json!({"pan": -30, "zoom": 1}), "Move { pan: -30, tilt: 0, zoom: 1 }"),
        ("ptz", json!({"pan": 0}), "Move { pan: 0, tilt: 0, zoom: 0 }"),
        ("ptz", json!({"focus": 10, "iris": -255}), "Lens { focus: 10, iris: -255 }"),
        ("ptz_position", json!({"pan": 120.5, "zoom": 2}), "Look { pan: Some(120.5), tilt: None, zoom: Some(2.0) }"),
        ("preset", json!({"action": "call", "number": 1}), "Preset { action: Call, number: 1 }"),
        ("cruise", json!({"action": "add_point", "group": 1, "value": 2}), "Cruise { action: AddPoint, group: 1, value: 2 }"),
        ("scan", json!({"action": "start"}), "Scan { action: Start, group: 0, value: 0 }"),
        ("switch", json!({"number": 1, "on": true}), "Switch { number: 1, on: true }"),
        ("record", json!({"on": true}), "Record { on: true }"),
        ("guard", json!({"on": false}), "Guard { on: false }"),
        (
            "home",
            json!({"on": true, "reset_s": 30, "preset": 2}),
            "HomePosition { on: true, reset_s: Some(30), preset: Some(2) }",
        ),
        ("alarm_reset", json!({}), "ResetAlarm"),
        ("reboot", json!({}), "Reboot"),
        ("keyframe", json!({}), "KeyFrame"),
        (
            "drag_zoom",
            json!({"zoom_in": true, "length": 1, "width": 2, "mid_x": 3, "mid_y": 4, "length_x": 5, "length_y": 6}),
            "DragZoom { zoom_in: true, length: 1, width: 2, mid_x: 3, mid_y: 4, length_x: 5, length_y: 6 }",
        ),
    ];
    for (path, mut body, control) in cases {
        body["device"] = json!("a");
        body["channel"] = json!("1");
        let answer = server.request("POST", &format!("/api/v1/gb28181/{path}"), "", &body.to_string());
        assert_eq!(answer.status, 204, "{path}: {answer:?}");
        let expected = format!("Control {{ of: Channel {{ device: \"a\", channel: \"1\" }}, control: {control} }}");
        assert_eq!(questions.recv().unwrap(), expected, "{path}");
    }
}

#[test]
fn calls_are_begun_told_and_ended() {
    let (server, questions) = server();
    let cases = [
        (
            "POST",
            "play",
            r#"{"device": "a", "channel": "1", "transport": "udp", "stream_number": 1}"#,
            200,
            "Play { of: Channel { device: \"a\", channel: \"1\" }, options: CallOptions { transport: Some(Udp), stream_number: Some(1) } }",
        ),
        (
            "POST",
            "play",
            r#"{"device": "a"}"#,
            200,
            "Play { of: Channel { device: \"a\", channel: \"a\" }, options: CallOptions { transport: None, stream_number: None } }",
        ),
        (
            "POST",
            "playback",
            r#"{"device": "a", "channel": "1", "start": "2026-01-02T08:00:00", "end": 1767315600}"#,
            200,
            "Playback { of: Channel { device: \"a\", channel: \"1\" }, from_unix_s: 1767312000, to_unix_s: 1767315600, \
             options: CallOptions { transport: None, stream_number: None } }",
        ),
        (
            "POST",
            "download",
            r#"{"device": "a", "channel": "1", "start": 1, "end": 2, "speed": 4}"#,
            200,
            "Download { of: Channel { device: \"a\", channel: \"1\" }, from_unix_s: 1, to_unix_s: 2, speed: 4, \
             options: CallOptions { transport: None, stream_number: None } }",
        ),
        (
            "POST",
            "talk",
            r#"{"device": "a", "channel": "1", "stream": "live/voice"}"#,
            200,
            "Talk { of: Channel { device: \"a\", channel: \"1\" }, stream: \"live/voice\" }",
        ),
        ("POST", "refresh", r#"{"device": "a"}"#, 200, "Refresh(\"a\")"),
        ("POST", "calls/7/control", r#"{"action": "pause"}"#, 204, "Playing { call: CallId(7), control: Pause }"),
        ("POST", "calls/7/control", r#"{"action": "resume"}"#, 204, "Playing { call: CallId(7), control: Resume }"),
        (
            "POST",
            "calls/7/control",
            r#"{"action": "scale", "value": 0.5}"#,
            204,
            "Playing { call: CallId(7), control: Scale(0.5) }",
        ),
        (
            "POST",
            "calls/7/control",
            r#"{"action": "seek", "value": 100}"#,
            204,
            "Playing { call: CallId(7), control: Seek(100) }",
        ),
        ("DELETE", "calls/7", "", 204, "Stop(CallId(7))"),
        ("DELETE", "devices/a", "", 204, "Forget(\"a\")"),
    ];
    for (method, path, body, status, question) in cases {
        let answer = server.request(method, &format!("/api/v1/gb28181/{path}"), "", body);
        assert_eq!(answer.status, status, "{path} {body}: {answer:?}");
        assert_eq!(questions.recv().unwrap(), question, "{path} {body}");
    }
}

#[test]
fn every_refusal_has_its_status_and_a_sentence() {
    let (server, _) = server();
    let span = "must be a time such as 2026-01-02T15:04:05";
    let cases = [
        ("GET", "devices/none", "", 404, "no device none"),
        ("GET", "devices/off/status", "", 404, "device off has not told its status yet"),
        ("GET", "devices?limit=0", "", 400, "limit must be 1 to 1000"),
        ("GET", "devices?online=maybe", "", 400, "the query is not what this route takes: `online` must be true or false"),
        (
            "GET",
            "devices?colour=red",
            "",
            400,
            "the query is not what this route takes: `colour` is not known; there are `online`",
        ),
        ("GET", "devices/a/records?start=1&end=1", "", 400, "end must be later than start"),
        ("GET", "devices/a/records?start=x&end=1", "", 400, &format!("start {span}")),
        ("GET", "devices/a/records?start=1&end=y", "", 400, &format!("end {span}")),
        ("GET", "devices/a/records?end=1", "", 400, "the query is not what this route takes: `start` is missing"),
        ("GET", "calls/9", "", 404, "no call 9"),
        ("GET", "calls/x", "", 400, "a call id is a number"),
        ("PUT", "calls/7", "", 405, "this route does not take that method"),
        ("GET", "nothing", "", 404, "no such route"),
        ("POST", "play", "", 400, "the body is not what this route takes"),
        ("POST", "play", r#"{"device": "a", "colour": 1}"#, 400, "the body is not what this route takes: `colour` is not known"),
        ("POST", "play", r#"{"device": "silent"}"#, 504, "no SIP answer in 5 s"),
        ("POST", "play", r#"{"device": "busy"}"#, 502, "the device answers 486"),
        ("POST", "play", r#"{"device": "full"}"#, 503, "no port is left"),
        ("POST", "play", r#"{"device": "off"}"#, 409, "off is offline"),
        ("POST", "play", r#"{"device": "odd"}"#, 400, "odd"),
        ("POST", "play", r#"{"device": "gone"}"#, 503, "the platform is not running"),
        ("POST", "playback", r#"{"device": "a", "start": "x", "end": 2}"#, 400, &format!("start {span}")),
        ("POST", "talk", r#"{"device": "a", "stream": "voice"}"#, 400, "stream: a stream name needs an app and a name"),
        ("POST", "talk", r#"{"device": "a", "stream": "live/none"}"#, 404, "no stream live/none"),
        ("POST", "ptz", r#"{"device": "a"}"#, 400, "give pan, tilt and zoom, or focus and iris"),
        ("POST", "ptz", r#"{"device": "a", "pan": 1, "iris": 1}"#, 400, "give pan, tilt and zoom, or focus and iris"),
        ("POST", "ptz", r#"{"device": "a", "pan": 256}"#, 400, "pan must be -255 to 255"),
        ("POST", "ptz", r#"{"device": "a", "zoom": -16}"#, 400, "zoom must be -15 to 15"),
        ("POST", "ptz", r#"{"device": "a", "focus": -256}"#, 400, "focus must be -255 to 255"),
        ("POST", "calls/7/control", r#"{"action": "scale"}"#, 400, "scale needs a value"),
        ("POST", "calls/7/control", r#"{"action": "scale", "value": 0.1}"#, 400, "scale must be 0.25 to 4, or"),
        ("POST", "calls/7/control", r#"{"action": "scale", "value": 8}"#, 400, "scale must be 0.25 to 4, or"),
        ("POST", "calls/7/control", r#"{"action": "scale", "value": -4.5}"#, 400, "scale must be 0.25 to 4, or"),
        ("POST", "calls/7/control", r#"{"action": "scale", "value": 0}"#, 400, "scale must be 0.25 to 4, or"),
        ("POST", "calls/7/control", r#"{"action": "seek"}"#, 400, "seek needs a value"),
        (
            "POST",
            "calls/7/control",
            r#"{"action": "seek", "value": -5}"#,
            400,
            "seek must be 0 to 4294967295 seconds from the beginning of the span, and is never negative",
        ),
        ("POST", "calls/7/control", r#"{"action": "rewind"}"#, 400, "the body is not what this route takes"),
    ];
    for (method, path, body, status, sentence) in cases {
        let answer = server.request(method, &format!("/api/v1/gb28181/{path}"), "", body);
        let (found, said) = answer.error();
        assert!(found == status && said.starts_with(sentence), "{method} {path} {body}: {found} {said}");
    }
}

#[test]
fn a_platform_that_is_not_enabled_says_how_to_enable_it() {
    let server = Server::start(Config::default(), vec![Script::default()]);
    let cases =
        [("GET", "devices", ""), ("GET", "calls/7", ""), ("POST", "play", r#"{"device": "a"}"#), ("DELETE", "calls/7", "")];
    for (method, path, body) in cases {
        let (status, said) = server.request(method, &format!("/api/v1/gb28181/{path}"), "", body).error();
        assert!(status == 404 && said.contains("gb28181.enabled: true"), "{path}: {status} {said}");
    }
}
