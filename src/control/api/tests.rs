//! The API over scripted shards, through a real socket.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::config::Config;
use crate::control::testing::*;
use crate::media::{Codec, Track, TrackId, TrackShape, Tracks};
use crate::session::{Reception, ReceptionState, Refusal, Sending, SendingState};
use crate::shard::message::*;

fn tracks() -> Tracks {
    let video = TrackShape::Video { width: 1280, height: 720, frames_per_second: 29.97 };
    let audio = TrackShape::Audio { sample_rate: 48_000, channels: 2 };
    let track = |id, codec, shape| Track { id: TrackId(id), codec, config: Default::default(), shape };
    let silent = TrackShape::Video { width: 0, height: 0, frames_per_second: 0.0 };
    Tracks::new(
        vec![
            track(0, Codec::H264, video),
            track(1, Codec::Aac, audio),
            track(2, Codec::Vp9, silent),
            track(3, Codec::Script, TrackShape::Data),
        ],
        Default::default(),
    )
}

/// `live/room/a` is on shard 0 and watched by shard 1; `live/b` waits on shard 1; `cam/c` is only on shard 1.
fn scripts() -> Vec<Script> {
    let mut a = owned("live/room/a", 0, 3);
    a.tracks = tracks();
    a.counters.frames_in = 100;
    a.counters.packets_out = 1_000;
    a.counters.bytes_out = 50_000;
    a.counters.dropped = [5, 0, 0, 0];
    a.counters.skips = 2;
    a.counters.bitrate = 2_000_000;
    a.counters.frames_per_second = 29.97;
    a.counters.gop_ms = 2_000;
    a.counters.gop_frames = 60;
    a.counters.repairs = [1, 0, 0, 4];
    a.counters.discarded = [0, 9, 0, 0, 0, 0];
    a.counters.packets_in = [100, 3, 2, 1, 0];
    a.latency = vec![("rtmp", latency(&[1, 2, 3, 150], 1))];
    if let StreamRole::Owner { watching_shards, .. } = &mut a.role {
        *watching_shards = vec![1];
    }
    let mut watching = watched("live/room/a", 1, 4);
    watching.viewers.push(("http-flv", 2));
    watching.counters.frames_in = 77;
    watching.counters.packets_out = 500;
    watching.counters.dropped = [1, 0, 2, 3];
    watching.latency = vec![("rtmp", latency(&[1, 1], 1)), ("http-flv", latency(&[5], 2))];
    let mut b = owned("live/b", 1, 0);
    b.role = StreamRole::Owner { publisher: None, watching_shards: Vec::new(), age_ms: 10 };
    let first = Script {
        streams: vec![a],
        sessions: vec![
            session(0, 9, SessionRole::Viewer, Some("live/room/a")),
            session(0, 7, SessionRole::Publisher, Some("live/room/a")),
        ],
        shard: ShardSnapshot {
            shard: 0,
            runtime: "epoll",
            core: Some(0),
            connections: 2,
            cpu_micros: 1_500_000,
            ..Default::default()
        },
        ..Script::default()
    };
    let second = Script {
        streams: vec![watching, b, owned("cam/c", 1, 1)],
        sessions: vec![session(1, 1, SessionRole::Idle, None)],
        shard: ShardSnapshot {
            shard: 1,
            runtime: "epoll",
            stall_micros_max: 2_500,
            session_errors: vec![("rtmp", "bad_chunk", 3)],
            ..Default::default()
        },
        ..Script::default()
    };
    vec![first, second]
}

#[test]
fn a_stream_is_the_owners_word_and_the_sum_of_what_all_send() {
    let server = Server::start(Config::default(), scripts());
    let answer = server.get("/api/v1/streams/live/room/a");
    assert_eq!(answer.status, 200);
    let stream = answer.json();
    let expected = [
        ("/app", json!("live/room")),
        ("/name", json!("a")),
        ("/state", json!("live")),
        ("/owner_shard", json!(0)),
        ("/watching_shards", json!([1])),
        ("/age_ms", json!(90_000)),
        ("/publisher", json!({"session": "0-7", "peer": "192.0.2.1:50000", "protocol": "rtmp", "agent": "FMLE/3.0"})),
        (
            "/tracks/0",
            json!({"id": 0, "kind": "video", "codec": "H264", "width": 1280, "height": 720, "frames_per_second": 29.97}),
        ),
        ("/tracks/1", json!({"id": 1, "kind": "audio", "codec": "AAC", "sample_rate": 48_000, "channels": 2})),
        ("/tracks/2", json!({"id": 2, "kind": "video", "codec": "VP9"})),
        ("/tracks/3", json!({"id": 3, "kind": "data", "codec": "script"})),
        ("/viewers", json!({"total": 9, "protocols": {"rtmp": 7, "http-flv": 2}})),
        ("/frames_in", json!(100)),
        ("/packets_out", json!(1_500)),
        ("/bytes_out", json!(50_000)),
        ("/dropped_packets", json!({"viewer_lag": 6, "ring_full": 0, "lane_full": 2, "not_taken": 3})),
        ("/skips", json!(2)),
        ("/bitrate_bits_per_second", json!(2_000_000)),
        ("/frames_per_second", json!(29.97)),
        ("/gop", json!({"ms": 2_000, "frames": 60, "not_kept": 0})),
        ("/repairs", json!({"forward_jump": 1, "backward_jump": 0, "backward_step": 0, "equal": 4})),
        ("/discarded_frames/broken_frame", json!(9)),
        ("/rtp_packets_in", json!({"received": 100, "reordered": 3, "lost": 2, "useless": 1, "kernel_drop": 0})),
        ("/latency/protocols/rtmp/count", json!(6)),
        ("/latency/protocols/http-flv/count", json!(2)),
        ("/latency/all/count", json!(8)),
        ("/latency/all/share_within_slo", json!(0.875)),
    ];
    for (pointer, value) in expected {
        assert_eq!(stream.pointer(pointer), Some(&value), "{pointer}");
    }
    let worst = stream.pointer("/latency/all/max_ms").unwrap().as_f64().unwrap();
    assert!((149.0..152.0).contains(&worst), "{worst}");
    assert_eq!(stream.pointer("/latency/all/p99_99_ms").unwrap().as_f64().unwrap(), worst);
}

#[test]
fn streams_are_sorted_filtered_and_cut_into_pages() {
    let server = Server::start(Config::default(), scripts());
    let cases = [
        ("", 3, vec!["cam/c", "live/b", "live/room/a"]),
        ("?app=live", 1, vec!["live/b"]),
        ("?app=live%2Froom", 1, vec!["live/room/a"]),
        ("?limit=1", 3, vec!["cam/c"]),
        ("?limit=2&offset=1", 3, vec!["live/b", "live/room/a"]),
        ("?offset=18446744073709551615", 3, vec![]),
        ("?app=none", 0, vec![]),
    ];
    for (query, total, keys) in cases {
        let page = server.get(&format!("/api/v1/streams{query}")).json();
        let found: Vec<_> = page["streams"].as_array().unwrap().iter().map(|stream| stream["key"].as_str().unwrap()).collect();
        assert_eq!((page["total"].as_u64(), found), (Some(total), keys), "{query}");
        assert_eq!(page["silent_shards"], json!([]));
    }
    let states = server.get("/api/v1/streams").json();
    assert_eq!(states.pointer("/streams/1/state"), Some(&json!("waiting")));
}

#[test]
fn sessions_are_listed_shown_and_kicked() {
    let server = Server::start(Config::default(), scripts());
    let cases = [
        ("", vec!["0-7", "0-9", "1-1"]),
        ("?stream=live/room/a", vec!["0-7", "0-9"]),
        ("?stream=live%2Froom%2Fa&role=viewer", vec!["0-9"]),
        ("?role=idle", vec!["1-1"]),
        ("?limit=1&offset=1", vec!["0-9"]),
    ];
    for (query, ids) in cases {
        let page = server.get(&format!("/api/v1/sessions{query}")).json();
        let found: Vec<_> = page["sessions"].as_array().unwrap().iter().map(|session| session["id"].as_str().unwrap()).collect();
        assert_eq!(found, ids, "{query}");
    }
    assert_eq!(
        server.get("/api/v1/sessions/0-9").json(),
        json!({"id": "0-9", "shard": 0, "peer": "192.0.2.9:40000", "protocol": "http-flv", "role": "viewer", "stream": "live/room/a",
               "agent": null, "age_ms": 5_000, "bytes_in": 100, "bytes_out": 2_000, "lag_ms": 3, "skips": 1})
    );
    let kicked = server.request("DELETE", "/api/v1/sessions/0-9", "", "");
    assert_eq!((kicked.status, kicked.body.as_str()), (204, ""));
    assert_eq!(server.request("DELETE", "/api/v1/sessions/1-99", "", "").error(), (404, "no session 1-99".to_owned()));
    assert_eq!(*server.closed.lock().unwrap(), [SessionId { shard: 0, number: 9 }, SessionId { shard: 1, number: 99 }]);
}

#[test]
fn every_error_is_json_with_its_status() {
    let server = Server::start(Config::default(), scripts());
    let cases = [
        ("GET", "/", 404, "no such route"),
        ("GET", "/api/v1/streams/", 404, "no such route"),
        ("GET", "/api/v1/streams/live/none", 404, "no stream live/none"),
        ("GET", "/api/v1/streams/live", 400, "a stream name needs an app and a name: app/name"),
        ("GET", "/api/v1/streams/live/..", 400, "a stream name has an empty, '.' or '..' segment"),
        ("GET", "/api/v1/streams/live/%ff", 400, "Invalid UTF-8 in `key`"),
        ("GET", "/api/v1/streams?limit=0", 400, "limit must be 1 to 1000"),
        ("GET", "/api/v1/sessions?limit=1001", 400, "limit must be 1 to 1000"),
        ("GET", "/api/v1/sessions/7", 400, "a session id looks like 0-42"),
        ("GET", "/api/v1/sessions/0-99", 404, "no session 0-99"),
        ("DELETE", "/api/v1/sessions/9-1", 404, "no session 9-1"),
        ("DELETE", "/api/v1/sessions/x", 400, "a session id looks like 0-42"),
        ("POST", "/api/v1/streams", 405, "this route does not take that method"),
        ("DELETE", "/metrics", 405, "this route does not take that method"),
    ];
    for (method, path, status, message) in cases {
        assert_eq!(server.request(method, path, "", "").error(), (status, message.to_owned()), "{method} {path}");
    }
    for query in ["streams?limit=x", "streams?colour=red", "sessions?role=king", "sessions?offset=-1"] {
        let (status, message) = server.get(&format!("/api/v1/{query}")).error();
        assert_eq!(status, 400, "{query}");
        assert!(message.starts_with("the query is not what this route takes: `"), "{message}");
    }
    assert!(server.request("POST", "/api/v1/streams", "", "").head.contains("allow: get,head"));
}

#[test]
fn pages_of_other_sites_change_nothing() {
    let server = Server::start(Config::default(), scripts());
    let foreign = |origin: &str| server.request("DELETE", "/api/v1/sessions/0-9", &format!("Origin: {origin}\r\n"), "").status;
    assert_eq!(foreign("http://evil.example"), 403);
    assert_eq!(foreign("null"), 403);
    assert_eq!(foreign(&format!("http://{}.evil.example", server.address)), 403);
    assert!(server.closed.lock().unwrap().is_empty());
    assert_eq!(foreign(&format!("http://{}", server.address)), 204);
    let read = server.request("GET", "/api/v1/version", "Origin: http://evil.example\r\n", "");
    assert_eq!(read.status, 200);
}

#[test]
fn bodies_are_bounded() {
    let mut config = Config::default();
    config.control.body_bytes_max = 10;
    let server = Server::start(config, scripts());
    assert_eq!(server.request("DELETE", "/api/v1/sessions/0-9", "", "0123456789").status, 204);
    let (status, message) = server.request("DELETE", "/api/v1/sessions/0-9", "", "0123456789a").error();
    assert_eq!((status, message.as_str()), (413, "the body cannot be read or has more than 10 bytes"));
    let chunked = "b\r\n0123456789a\r\n0\r\n\r\n";
    let head = "Transfer-Encoding: chunked\r\n\r\n";
    assert_eq!(server.request("DELETE", "/api/v1/sessions/0-9", &format!("{head}{chunked}"), "").status, 413);
}

#[test]
fn a_silent_shard_is_named_and_spoils_nothing_else() {
    let mut scripts = scripts();
    scripts[0].silent = true;
    let server = Server::start(Config::default(), scripts);
    let begun = Instant::now();
    let page = server.get("/api/v1/streams").json();
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert_eq!((page["total"].as_u64(), &page["silent_shards"]), (Some(3), &json!([0])));
    let stream = server.get("/api/v1/streams/live/room/a").json();
    assert_eq!(
        (&stream["state"], &stream["owner_shard"], &stream["viewers"]["total"]),
        (&json!("unknown"), &json!(0), &json!(6))
    );
    assert_eq!(server.get("/api/v1/streams/live/none").error(), (503, "shard 0 does not answer".to_owned()));
    assert_eq!(server.request("DELETE", "/api/v1/sessions/0-9", "", "").error(), (503, "shard 0 does not answer".to_owned()));
    assert_eq!(server.get("/api/v1/sessions/1-1").status, 200);
    let shards = server.get("/api/v1/shards").json();
    assert_eq!(shards.pointer("/shards/0"), Some(&json!({"shard": 0, "answers": false, "heartbeat_age_ms": 0})));
    assert_eq!(shards.pointer("/shards/1/answers"), Some(&json!(true)));
    assert_eq!(server.get("/healthz").error(), (503, "shard 0 does not answer".to_owned()));
    let metrics = server.get("/metrics");
    assert_eq!(metrics.status, 200);
    assert!(metrics.body.contains("shardcast_shard_up{shard=\"0\"} 0\nshardcast_shard_up{shard=\"1\"} 1\n"));
}

#[test]
fn shards_health_and_version() {
    let server = Server::start(Config::default(), scripts());
    let shards = server.get("/api/v1/shards").json();
    assert!(shards.pointer("/process/rss_bytes").unwrap().as_u64().unwrap() > 0);
    let first = shards.pointer("/shards/0").unwrap();
    assert_eq!((&first["runtime"], &first["core"], &first["connections"]), (&json!("epoll"), &json!(0), &json!(2)));
    assert_eq!(first["cpu_seconds"], json!(1.5));
    let second = shards.pointer("/shards/1").unwrap();
    assert_eq!((&second["core"], &second["stall_ms_max"]), (&json!(null), &json!(2.5)));
    assert_eq!(second["session_errors"], json!([{"protocol": "rtmp", "reason": "bad_chunk", "count": 3}]));
    let health = server.get("/healthz");
    assert_eq!((health.status, health.body.as_str()), (200, "ok"));
    assert_eq!(server.get("/api/v1/version").json(), json!({"name": "shardcast", "version": env!("CARGO_PKG_VERSION")}));
    assert_eq!(server.request("HEAD", "/healthz", "", "").status, 200);
    server.app.health.set_draining();
    assert_eq!(server.get("/healthz").error(), (503, "shutting down".to_owned()));
}

#[test]
fn senders_are_started_shown_and_closed() {
    let sending = Sending {
        key: crate::session::StreamKey::parse("live/cam").unwrap(),
        transport: "udp",
        payload: "ps",
        port: Some(20_000),
        to: Some(([192, 0, 2, 1], 5_000).into()),
        ssrc: 7,
        state: SendingState::Sending,
        detail: "sending H264 to 192.0.2.1:5000; left out: Opus".to_owned(),
        tracks: vec!["H264"],
        left_out: vec!["Opus"],
        bytes: 1_000,
        refusal: None,
    };
    let mut scripts = scripts();
    scripts[0].sendings = vec![(SessionId { shard: 0, number: 9 }, sending)];
    let server = Server::start(Config::default(), scripts);
    let list = server.get("/api/v1/rtp/senders").json();
    let one = json!({
        "id": "0-9", "shard": 0, "stream": "live/cam", "transport": "udp", "payload": "ps", "port": 20_000,
        "to": "192.0.2.1:5000", "ssrc": 7, "state": "sending", "detail": "sending H264 to 192.0.2.1:5000; left out: Opus",
        "tracks": ["H264"], "left_out": ["Opus"], "bytes": 1_000
    });
    assert_eq!((&list["total"], &list["senders"]), (&json!(1), &json!([one])));
    assert_eq!(server.get("/api/v1/rtp/senders/0-9").json(), one);
    let receiver = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = receiver.local_addr().unwrap();
    let bodies = [
        json!({"stream": "live/b", "transport": "udp", "address": "192.0.2.1:5000", "ssrc": "0200000001"}),
        json!({"stream": "live/b", "transport": "tcp_passive", "ssrc": 7, "payload": "g711a"}),
        json!({"stream": "live/b", "transport": "tcp_active", "address": address, "ssrc": 7, "payload_type": 100}),
    ];
    for body in bodies {
        let started = server.request("POST", "/api/v1/rtp/senders", "", &body.to_string());
        assert_eq!((started.status, &started.json()["transport"]), (201, &body["transport"]), "{body}");
    }
    receiver.accept().unwrap();
    assert_eq!(server.request("DELETE", "/api/v1/rtp/senders/0-9", "", "").status, 204);
    assert_eq!(*server.closed.lock().unwrap(), [SessionId { shard: 0, number: 9 }]);
    let refused: [(&str, &str, serde_json::Value, u16, &str); 9] = [
        ("GET", "/0-8", json!(null), 404, "no sender 0-8"),
        ("DELETE", "/0-7", json!(null), 404, "no sender 0-7"),
        ("GET", "/7", json!(null), 400, "a session id looks like 0-42"),
        ("POST", "", json!({"stream": "a", "transport": "tcp_passive", "ssrc": 7}), 400, "a stream name needs an app"),
        ("POST", "", json!({"stream": "live/a", "transport": "tcp_passive"}), 400, "the body is not what this route takes"),
        ("POST", "", json!({"stream": "live/a", "transport": "udp", "ssrc": 7}), 400, "address: give the receiver's"),
        ("POST", "", json!({"stream": "live/a", "transport": "tcp_passive", "ssrc": "x"}), 400, "ssrc must be a number"),
        ("POST", "", json!({"stream": "live/a", "transport": "tcp_passive", "ssrc": 7, "wait_ms": 1}), 400, "wait_ms must be"),
        (
            "POST",
            "",
            json!({"stream": "live/a", "transport": "tcp_passive", "ssrc": 7, "payload_type": 128}),
            400,
            "payload_type must be below 128",
        ),
    ];
    for (method, path, body, status, error) in refused {
        let answer = server.request(method, &format!("/api/v1/rtp/senders{path}"), "", &body.to_string());
        let said = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(answer.status == status && said.starts_with(error), "{method} {path} {body}: {} {said}", answer.status);
    }
}

#[test]
fn receivers_are_opened_shown_and_closed() {
    let key = crate::session::StreamKey::parse("live/cam").unwrap();
    let reception = Reception {
        key,
        transport: "udp",
        port: Some(20_000),
        ssrc: Some(7),
        source: Some(([192, 0, 2, 1], 5_000).into()),
        state: ReceptionState::Playing,
        detail: "playing H264".to_owned(),
        tracks: vec!["H264"],
        received: Default::default(),
        end: None,
        media_age_ms: None,
        bytes: 1_000,
        refusal: None,
    };
    let mut scripts = scripts();
    scripts[0].receptions = vec![(SessionId { shard: 0, number: 9 }, reception)];
    let server = Server::start(Config::default(), scripts);
    let list = server.get("/api/v1/rtp").json();
    let one = json!({
        "id": "0-9", "shard": 0, "stream": "live/cam", "transport": "udp", "port": 20_000, "ssrc": 7, "source": "192.0.2.1:5000",
        "state": "playing", "detail": "playing H264", "tracks": ["H264"],
        "packets": {"received": 0, "lost": 0, "reordered": 0, "useless": 0}, "bytes": 1_000
    });
    assert_eq!((&list["total"], &list["receivers"]), (&json!(1), &json!([one])));
    assert_eq!(server.get("/api/v1/rtp/0-9").json(), one);
    let opened = server.request("POST", "/api/v1/rtp", "", r#"{"stream": "live/b", "transport": "tcp", "ssrc": "0200000001"}"#);
    let answer = opened.json();
    assert_eq!((opened.status, &answer["stream"], &answer["ssrc"]), (201, &json!("live/b"), &json!(200_000_001)));
    assert_eq!((&answer["state"], &answer["detail"]), (&json!("waiting"), &json!("waiting for media; nobody has connected")));
    // The server connects to the sender.
    let sender = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = sender.local_addr().unwrap();
    let body = json!({"stream": "live/b", "transport": "tcp_active", "address": address, "idle_ms": 5_000}).to_string();
    let opened = server.request("POST", "/api/v1/rtp", "", &body);
    assert_eq!((opened.status, &opened.json()["transport"]), (201, &json!("tcp_active")));
    sender.accept().unwrap();
    drop(sender);
    let refused = server.request("POST", "/api/v1/rtp", "", &body);
    let said = refused.json()["error"].as_str().unwrap().to_owned();
    assert!(refused.status == 502 && said.starts_with(&format!("cannot connect to {address}: ")), "{} {said}", refused.status);
    assert_eq!(server.request("DELETE", "/api/v1/rtp/0-9", "", "").status, 204);
    assert_eq!(*server.closed.lock().unwrap(), [SessionId { shard: 0, number: 9 }]);
    let refused: [(&str, &str, &str, u16, &str); 13] = [
        ("GET", "/api/v1/rtp/0-8", "", 404, "no receiver 0-8"),
        ("DELETE", "/api/v1/rtp/0-7", "", 404, "no receiver 0-7"),
        ("GET", "/api/v1/rtp/7", "", 400, "a session id looks like 0-42"),
        ("POST", "/api/v1/rtp", r#"{"stream": "a", "transport": "udp"}"#, 400, "a stream name needs an app and a name: app/name"),
        ("POST", "/api/v1/rtp", r#"{"stream": "live/a", "transport": "sctp"}"#, 400, "the body is not what this route takes"),
        (
            "POST",
            "/api/v1/rtp",
            r#"{"stream": "live/a", "transport": "udp", "x": 1}"#,
            400,
            "the body is not what this route takes",
        ),
        ("POST", "/api/v1/rtp", r#"{"stream": "live/a", "transport": "udp", "ssrc": "x"}"#, 400, "ssrc must be a number"),
        ("POST", "/api/v1/rtp", r#"{"stream": "live/a", "transport": "udp", "timeout_ms": 1}"#, 400, "timeout_ms must be 100 to"),
        ("POST", "/api/v1/rtp", r#"{"stream": "live/a", "transport": "udp", "idle_ms": 0}"#, 400, "idle_ms must be 100 to"),
        ("POST", "/api/v1/rtp", r#"{"stream": "live/a", "transport": "tcp_active"}"#, 400, "address: give the sender's"),
        ("POST", "/api/v1/rtp", r#"{"stream": "live/a", "transport": "udp", "address": "[::1]:9"}"#, 400, "address: give the"),
        (
            "POST",
            "/api/v1/rtp",
            r#"{"stream": "live/a", "transport": "udp", "shared_port": true}"#,
            400,
            "shared_port: give ssrc",
        ),
        ("POST", "/api/v1/rtp", "", 400, "the body is not what this route takes"),
    ];
    for (method, path, body, status, error) in refused {
        let answer = server.request(method, path, "", body);
        let said = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(answer.status == status && said.starts_with(error), "{method} {path} {body}: {} {said}", answer.status);
    }
    for (refusal, status) in [(Refusal::NameInUse, 409), (Refusal::LimitReached, 503)] {
        let script = Script { refuses: Some(refusal), ..Script::default() };
        let server = Server::start(Config::default(), vec![script]);
        let answer = server.request("POST", "/api/v1/rtp", "", r#"{"stream": "live/b", "transport": "udp"}"#);
        assert_eq!(answer.status, status);
    }
}
