//! A row for each answer that is not 200, for limits, and for the times after which a connection is given up.

use super::flows::{ANNOUNCE_CAMERA, ANNOUNCE_FFMPEG};
use super::*;

const TCP: &str = "SETUP rtsp://h/live/a/trackID=0\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1";
const RECORD_SETUP: &str = "SETUP rtsp://h/live/a/streamid=0\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1;mode=record";
const RECORD_SET_UP: &str = "<200 #2 ID | Transport: RTP/AVP/TCP;unicast;interleaved=0-1;mode=record>";

/// Has set one track of two up.
const READY: &[Step] =
    &[(TCP, "[describe live/a]"), ("!described va", "<200 #1 ID | Transport: RTP/AVP/TCP;unicast;interleaved=0-1>")];
/// Has set both tracks up.
const BOTH: &[Step] = &[
    READY[0],
    READY[1],
    (
        "SETUP rtsp://h/live/a/trackID=1\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1",
        "<200 #2 ID | Transport: RTP/AVP/TCP;unicast;interleaved=2-3>",
    ),
];
const PLAYING: &[Step] = &[
    BOTH[0],
    BOTH[1],
    BOTH[2],
    ("PLAY rtsp://h/live/a", "[play live/a channels 0/1 2/3 Gop rtsp-tcp]"),
    ("!playing", "<200 #3 ID | Range: npt=now->"),
];
/// Plays by multicast.
const MEMBER: &[Step] = &[
    ("SETUP rtsp://h/live/a/trackID=0\nTransport: RTP/AVP;multicast", "[describe live/a]"),
    ("!described v", "[join live/a rtsp-multicast]"),
    ("!joined", "<200 #1 ID | Transport: RTP/AVP;multicast;destination=239.0.0.1;port=5004-5005;ttl=16>"),
    ("PLAY rtsp://h/live/a", "<200 #2 ID | Range: npt=now->"),
];
const ANNOUNCED: &[Step] = &[(ANNOUNCE_FFMPEG, "[publish live/a]"), ("!publishing", "<200 #1>")];
const RECORDING: &[Step] =
    &[ANNOUNCED[0], ANNOUNCED[1], (RECORD_SETUP, RECORD_SET_UP), ("RECORD rtsp://h/live/a", "<200 #3 ID | Range: npt=now->")];

fn rows() -> Vec<(&'static str, &'static [Step], Vec<Step>)> {
    const PUBLIC: &str =
        "<200 #1 | Public: OPTIONS, DESCRIBE, ANNOUNCE, SETUP, PLAY, PAUSE, RECORD, TEARDOWN, GET_PARAMETER, SET_PARAMETER>";
    const ALLOW: &str =
        "<405 #1 | Allow: OPTIONS, DESCRIBE, ANNOUNCE, SETUP, PLAY, PAUSE, RECORD, TEARDOWN, GET_PARAMETER, SET_PARAMETER>";
    vec![
        // The message itself.
        ("OPTIONS *", &[], vec![("OPTIONS *", PUBLIC)]),
        ("no CSeq", &[], vec![("raw OPTIONS * RTSP/1.0\n\n", "<400>"), ("OPTIONS *", PUBLIC)]),
        ("CSeq that is no number", &[], vec![("raw OPTIONS * RTSP/1.0\nCSeq: x\n\n", "<400 #x>")]),
        ("RTSP 2.0", &[], vec![("raw OPTIONS * RTSP/2.0\nCSeq: 1\n\n", "<505 #1>"), ("OPTIONS *", PUBLIC)]),
        ("garbage", &[], vec![("raw \x16\x03\x01", "<400>[error not_rtsp]")]),
        ("bad first line", &[], vec![("raw OPTIONS\n\n", "<400>[error bad_first_line]")]),
        ("bad length", &[], vec![("raw OPTIONS * RTSP/1.0\nContent-Length: x\n\n", "<400>[error bad_content_length]")]),
        ("large body", &[], vec![("raw SET_PARAMETER * RTSP/1.0\nContent-Length: 1048577\n\n", "<413>[error body_too_large]")]),
        ("tunnel", &[], vec![("raw GET /live/a HTTP/1.1\n\n", "<HTTP/1.1 404 Not Found>[error not_tunnel]")]),
        ("unknown method", &[], vec![("FROB rtsp://h/live/a", "<501 #1>")]),
        ("method of servers", &[], vec![("REDIRECT rtsp://h/live/a", ALLOW)]),
        ("response", &[], vec![("raw RTSP/1.0 200 OK\nCSeq: 1\n\n", ""), ("OPTIONS *", PUBLIC)]),
        (
            "ONVIF back channel",
            &[],
            vec![(
                "DESCRIBE rtsp://h/live/a\nRequire: www.onvif.org/ver20/backchannel",
                "<551 #1 | Unsupported: www.onvif.org/ver20/backchannel>",
            )],
        ),
        ("Proxy-Require", &[], vec![("OPTIONS *\nProxy-Require: x", "<551 #1 | Unsupported: x>")]),
        (
            "parameters",
            &[],
            vec![("GET_PARAMETER *", "<200 #1>"), ("SET_PARAMETER rtsp://h/live/a\n\nvolume: 1\r\n", "<200 #2>")],
        ),
        // URLs.
        (
            "no stream can have that name",
            &[],
            vec![("DESCRIBE rtsp://h/live", "<404 #1>"), ("DESCRIBE rtsp://h/live/..", "<404 #2>")],
        ),
        ("broken URL", &[], vec![("DESCRIBE *", "<400 #1>"), ("DESCRIBE rtsp://h/live/%zz", "<400 #2>")]),
        // What the shard says.
        ("DESCRIBE not found", &[], vec![("DESCRIBE rtsp://h/live/a", "[describe live/a]"), ("!refused not-found", "<404 #1>")]),
        ("DESCRIBE at the limit", &[], vec![("DESCRIBE rtsp://h/live/a", "[describe live/a]"), ("!refused limit", "<503 #1>")]),
        ("SETUP not found", &[], vec![(TCP, "[describe live/a]"), ("!refused not-found", "<404 #1>")]),
        ("nothing to describe", &[], vec![("DESCRIBE rtsp://h/live/a", "[describe live/a]"), ("!described s", "<415 #1>")]),
        (
            "PLAY refused",
            READY,
            vec![("PLAY rtsp://h/live/a", "[play live/a channels 0/1 - Gop rtsp-tcp]"), ("!refused not-found", "<404 #2 ID>")],
        ),
        ("ANNOUNCE in use", &[], vec![(ANNOUNCE_FFMPEG, "[publish live/a]"), ("!refused in-use", "<403 #1>"), ANNOUNCED_AGAIN]),
        ("ANNOUNCE at the limit", &[], vec![(ANNOUNCE_FFMPEG, "[publish live/a]"), ("!refused limit", "<503 #1>")]),
        ("ANNOUNCE at the end", &[], vec![(ANNOUNCE_FFMPEG, "[publish live/a]"), ("!refused down", "<503 #1>")]),
        ("closing answers what waits", &[], vec![("DESCRIBE rtsp://h/live/a", "[describe live/a]"), ("!closing", "<503 #1>")]),
        ("closing says nothing else", PLAYING, vec![("!closing", ""), ("OPTIONS *", "")]),
        (
            "no ports left",
            &[],
            vec![
                ("SETUP rtsp://h/live/a/trackID=0\nTransport: RTP/AVP;unicast;client_port=6-7", "[describe live/a]"),
                ("!described v", "[open 0]"),
                ("!port 0 none", "<453 #1>"),
                ("SETUP rtsp://h/live/a/trackID=0\nTransport: RTP/AVP;unicast;client_port=6-7", "[open 1]"),
                ("!port 0 20000", ""),
                ("!port 1 20002", "<200 #2 ID | Transport: RTP/AVP;unicast;client_port=6-7;server_port=20002-20003>"),
            ],
        ),
        (
            "what was never asked",
            PLAYING,
            vec![("!publishing", ""), ("!described v", ""), ("!port 9 20000", ""), ("!playing", ""), ("!refused limit", "")],
        ),
        // Content.
        (
            "Accept",
            &[],
            vec![
                ("DESCRIBE rtsp://h/live/a\nAccept: text/html", "<406 #1>"),
                ("DESCRIBE rtsp://h/live/a\nAccept: application/rtsl, application/sdp", "[describe live/a]"),
            ],
        ),
        (
            "ANNOUNCE of something else",
            &[],
            vec![
                ("ANNOUNCE rtsp://h/live/a\nContent-Type: text/plain\n\nv=0\r\n", "<415 #1>"),
                // Said once, as each is a line of the log.
                (
                    "ANNOUNCE rtsp://h/live/a\nContent-Type: application/sdp\n\nhello",
                    "[note bad_description: ANNOUNCE of live/a: no session description]<400 #2 | Connection: close>[close]",
                ),
                ("ANNOUNCE rtsp://h/live/a", ""),
            ],
        ),
        (
            "ANNOUNCE of nothing",
            &[],
            vec![(
                "ANNOUNCE rtsp://h/live/a",
                "[note bad_description: ANNOUNCE of live/a: no session description]<400 #1 | Connection: close>[close]",
            )],
        ),
        (
            "ANNOUNCE without media",
            &[],
            vec![(
                "ANNOUNCE rtsp://h/live/a\n\nv=0\r\n",
                "[note bad_description: ANNOUNCE of live/a: no media section]<400 #1 | Connection: close>[close]",
            )],
        ),
        (
            "ANNOUNCE of codecs that are not carried",
            &[],
            vec![(
                "ANNOUNCE rtsp://h/live/a\n\nv=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 theora/90000\r\n\
                 m=video 0 RTP/AVP 97\r\na=rtpmap:97 H264/90000\r\na=fmtp:97 packetization-mode=2\r\n",
                "[note unsupported_media: ANNOUNCE of live/a: theora is not carried; interleaved packetization (mode 2) is not \
                 supported]<415 #1 | Connection: close>[close]",
            )],
        ),
        (
            "PLAY at the limit",
            READY,
            vec![
                ("PLAY rtsp://h/live/a", "[play live/a channels 0/1 - Gop rtsp-tcp]"),
                ("!refused limit", "<503 #2 ID | Connection: close>[close]"),
            ],
        ),
        (
            "ANNOUNCE of metadata only",
            &[],
            vec![(
                "ANNOUNCE rtsp://h/live/a\nContent-Type: application/sdp\n\nv=0\r\no=- 1 1 IN IP4 1.1.1.1\r\ns=x\r\nt=0 0\r\n\
             m=application 0 RTP/AVP 107\r\na=rtpmap:107 vnd.onvif.metadata/90000\r\na=control:x\r\n",
                "[note unsupported_media: ANNOUNCE of live/a: vnd.onvif.metadata is not carried]<415 #1 | Connection: close>[close]",
            )],
        ),
        // Sessions and states.
        ("wrong session", READY, vec![("PLAY rtsp://h/live/a\nSession: 12345678", "<454 #2 ID>")]),
        (
            "no session",
            &[],
            vec![("PLAY rtsp://h/live/a\nSession: 12345678", "<454 #1>"), ("TEARDOWN rtsp://h/live/a", "<454 #2>")],
        ),
        (
            "too early",
            &[],
            vec![
                ("PLAY rtsp://h/live/a", "<455 #1>"),
                ("PAUSE rtsp://h/live/a", "<455 #2>"),
                ("RECORD rtsp://h/live/a", "<455 #3>"),
                (RECORD_SETUP, "<455 #4>"),
            ],
        ),
        ("PAUSE before PLAY", READY, vec![("PAUSE rtsp://h/live/a", "<455 #2 ID>")]),
        ("RECORD of a viewer", READY, vec![("RECORD rtsp://h/live/a", "<455 #2 ID>"), (ANNOUNCE_FFMPEG, "<455 #3 ID>")]),
        ("SETUP while playing", PLAYING, vec![(TCP, "<455 #4 ID>")]),
        (
            "RECORD before SETUP",
            ANNOUNCED,
            vec![
                ("RECORD rtsp://h/live/a", "<455 #2>"),
                ("PAUSE rtsp://h/live/a", "<455 #3>"),
                ("PLAY rtsp://h/live/a", "<455 #4>"),
                (ANNOUNCE_CAMERA, "<455 #5>"),
            ],
        ),
        ("SETUP while recording", RECORDING, vec![(RECORD_SETUP, "<455 #4 ID>")]),
        (
            "PAUSE and SETUP of another track",
            READY,
            vec![
                ("PLAY rtsp://h/live/a", "[play live/a channels 0/1 - Gop rtsp-tcp]"),
                ("!playing", "<200 #2 ID | Range: npt=now->"),
                ("PAUSE rtsp://h/live/a", "[pause]<200 #3 ID>"),
                ("PAUSE rtsp://h/live/a", "<200 #4 ID>"),
                (
                    "SETUP rtsp://h/live/a/trackID=1\nSession: ID\nTransport: RTP/AVP/TCP",
                    "[stop]<200 #5 ID | Transport: RTP/AVP/TCP;unicast;interleaved=2-3>",
                ),
                ("PLAY rtsp://h/live/a", "[play live/a channels 0/1 2/3 Gop rtsp-tcp]"),
            ],
        ),
        // Aggregates and tracks.
        (
            "SETUP of an aggregate",
            &[],
            vec![("SETUP rtsp://h/live/a\nTransport: RTP/AVP/TCP", "[describe live/a]"), ("!described va", "<459 #1>")],
        ),
        ("SETUP of an aggregate to record", ANNOUNCED, vec![("SETUP rtsp://h/live/a\nTransport: RTP/AVP/TCP", "<459 #2>")]),
        (
            "unknown track",
            READY,
            vec![
                ("SETUP rtsp://h/live/a/trackID=2\nTransport: RTP/AVP/TCP", "<404 #2 ID>"),
                ("SETUP rtsp://h/live/a/trackID=x\nTransport: RTP/AVP/TCP", "<404 #3 ID>"),
                ("PLAY rtsp://h/live/a/trackID=1", "<404 #4 ID>"),
            ],
        ),
        ("track that the stream lacks", &[], vec![(TCP, "[describe live/a]"), ("!described a", "<404 #1>")]),
        ("unknown section", ANNOUNCED, vec![("SETUP rtsp://h/live/a/streamid=7\nTransport: RTP/AVP/TCP", "<404 #2>")]),
        (
            "another stream",
            BOTH,
            vec![
                ("PLAY rtsp://h/live/b", "<404 #3 ID>"),
                ("TEARDOWN rtsp://h/live/b", "<404 #4 ID>"),
                ("SETUP rtsp://h/live/b/trackID=0\nSession: ID\nTransport: RTP/AVP/TCP", "<459 #5 ID>"),
                ("DESCRIBE rtsp://h/live/b", "[describe live/b]"),
                ("!described v", "<200 #6 ID | Content-Base: rtsp://h/live/b/ | 1 sections>"),
                ("SETUP rtsp://h/live/b/trackID=0\nSession: ID\nTransport: RTP/AVP/TCP", "<459 #7 ID>"),
            ],
        ),
        (
            "PLAY and PAUSE of one track",
            BOTH,
            vec![("PLAY rtsp://h/live/a/trackID=0", "<460 #3 ID>"), ("PAUSE rtsp://h/live/a/trackID=0", "<460 #4 ID>")],
        ),
        (
            "RECORD of one section",
            ANNOUNCED,
            vec![
                (RECORD_SETUP, RECORD_SET_UP),
                ("RECORD rtsp://h/live/a/streamid=0", "<460 #3 ID>"),
                ("RECORD rtsp://h/live/a/x", "<404 #4 ID>"),
            ],
        ),
        ("TEARDOWN of one section", RECORDING, vec![("TEARDOWN rtsp://h/live/a/streamid=0", "<460 #4 ID>")]),
        (
            "TEARDOWN of one track",
            BOTH,
            vec![
                ("TEARDOWN rtsp://h/live/a/trackID=0", "<200 #3 ID>"),
                ("PLAY rtsp://h/live/a", "[play live/a channels - 2/3 Gop rtsp-tcp]"),
            ],
        ),
        (
            "TEARDOWN of one track while playing",
            PLAYING,
            vec![
                ("TEARDOWN rtsp://h/live/a/trackID=0", "<460 #4 ID>"),
                ("TEARDOWN rtsp://h/live/a", "[stop]<200 #5 | Connection: close>[close]"),
            ],
        ),
        // Transports.
        ("no transport", READY, vec![("SETUP rtsp://h/live/a/trackID=1", "<461 #2 ID>")]),
        (
            "unknown transport",
            READY,
            vec![("SETUP rtsp://h/live/a/trackID=1\nTransport: RTP/SAVP;unicast;client_port=6-7", "<461 #2 ID>")],
        ),
        (
            "two transports in a session",
            READY,
            vec![("SETUP rtsp://h/live/a/trackID=1\nSession: ID\nTransport: RTP/AVP;unicast;client_port=6-7", "<461 #2 ID>")],
        ),
        (
            "one channel for two flows",
            &[],
            vec![
                ("SETUP rtsp://h/live/a/trackID=0\nTransport: RTP/AVP/TCP;interleaved=4-4", "[describe live/a]"),
                ("!described va", "<200 #1 ID | Transport: RTP/AVP/TCP;unicast;interleaved=0-1>"),
            ],
        ),
        (
            "another transport for the only track",
            READY,
            vec![
                ("SETUP rtsp://h/live/a/trackID=0\nSession: ID\nTransport: RTP/AVP;unicast;client_port=6-7", "[open 0]"),
                ("!port 0 20000", "<200 #2 ID | Transport: RTP/AVP;unicast;client_port=6-7;server_port=20000-20001>"),
                ("SETUP rtsp://h/live/a/trackID=0\nSession: ID\nTransport: RTP/AVP;unicast;client_port=8-9", "[close 0][open 1]"),
            ],
        ),
        (
            "channels that are taken, to record",
            ANNOUNCED,
            vec![
                (RECORD_SETUP, RECORD_SET_UP),
                ("SETUP rtsp://h/live/a/streamid=1\nTransport: RTP/AVP/TCP;interleaved=1-2;mode=record", "<461 #3 ID>"),
                (
                    "SETUP rtsp://h/live/a/streamid=1\nTransport: RTP/AVP/TCP;mode=record",
                    "<200 #4 ID | Transport: RTP/AVP/TCP;unicast;interleaved=2-3;mode=record>",
                ),
            ],
        ),
        ("multicast to record", ANNOUNCED, vec![("SETUP rtsp://h/live/a/streamid=0\nTransport: RTP/AVP;multicast", "<461 #2>")]),
    ]
}

const ANNOUNCED_AGAIN: Step = (ANNOUNCE_FFMPEG, "[publish live/a]");

#[test]
fn every_answer() {
    for (name, before, steps) in rows() {
        let steps: Vec<Step> = before.iter().copied().chain(steps).collect();
        Peer::converse(name, Config::default(), &steps);
    }
}

#[test]
fn over_tls_media_stays_on_the_connection() {
    let offers = [
        ("RTP/AVP;unicast;client_port=6-7", false),
        ("RTP/AVP;multicast", false),
        ("RTP/AVP;unicast;client_port=6-7,RTP/AVP/TCP;interleaved=0-1", true),
    ];
    for (transport, is_taken) in offers {
        let mut peer = Peer::new(Config::default());
        peer.session.encrypted = true;
        peer.say(&format!("SETUP rtsp://h/live/a/trackID=0\nTransport: {transport}"));
        let expected = if is_taken { "<200 #1 ID | Transport: RTP/AVP/TCP;unicast;interleaved=0-1>" } else { "<461 #1>" };
        assert_eq!(peer.say("!described va"), expected, "{transport}");
        let mut peer = Peer::new(Config::default());
        peer.session.encrypted = true;
        ANNOUNCED.iter().for_each(|(step, expected)| assert_eq!(peer.say(step), *expected));
        let answer = peer.say(&format!("SETUP rtsp://h/live/a/streamid=0\nTransport: {transport};mode=record"));
        assert!(answer.starts_with(if is_taken { "<200 #2" } else { "<461 #2" }), "{transport}: {answer}");
    }
}

#[test]
fn a_head_that_is_too_large_is_answered() {
    let mut peer = Peer::new(Config::default());
    assert_eq!(peer.input(Input::Bytes(&[b'A'; 20_000])), "<431>[error head_too_large]");
}

#[test]
fn a_body_that_is_too_large_is_refused_by_its_head() {
    for (announced, expected) in [(64 * 1024, ""), (64 * 1024 + 1, "<413>[error body_too_large]")] {
        let mut peer = Peer::new(Config::default());
        let head = format!("ANNOUNCE rtsp://h/live/a RTSP/1.0\nCSeq: 1\nContent-Length: {announced}\n\n");
        assert_eq!(peer.input(Input::Bytes(head.as_bytes())), expected, "{announced}");
    }
    // Within the bound, but longer once it is text.
    let mut peer = Peer::new(Config::default());
    let head = b"ANNOUNCE rtsp://h/live/a RTSP/1.0\nCSeq: 1\nContent-Length: 60000\n\n";
    let shown = peer.input(Input::Bytes(&[&head[..], &[0xFF; 60_000]].concat()));
    assert!(
        shown.starts_with("[note bad_description: ANNOUNCE of live/a: ")
            && shown.ends_with("<413 #1 | Connection: close>[close]"),
        "{shown}"
    );
}

#[test]
fn who_may_do_what() {
    const DENIED: &str = "<401 #1 | Digest | Digest | Basic>";
    // ann:secret, bob:secret, ann:wrong
    const ANN: &str = "Authorization: Basic YW5uOnNlY3JldA==";
    const BOB: &str = "Authorization: Basic Ym9iOnNlY3JldA==";
    const WRONG: &str = "Authorization: Basic YW5uOndyb25n";
    const NOTE: &str = "[note wrong_password: may not play live/a: wrong name or password]";
    let wrong = format!("{NOTE}{DENIED}");
    let rows: Vec<(&str, Vec<(String, &str)>)> = vec![
        ("OPTIONS is free", vec![("GET_PARAMETER rtsp://h/live/a".into(), "<200 #1>")]),
        ("the anonymous", vec![("DESCRIBE rtsp://h/open/a".into(), "[describe open/a]")]),
        (
            "DESCRIBE",
            vec![
                ("DESCRIBE rtsp://h/live/a".into(), DENIED),
                (format!("DESCRIBE rtsp://h/live/a\n{ANN}"), "[describe live/a]"),
                ("!described v".into(), "<200 #2 | Content-Base: rtsp://h/live/a/ | 1 sections>"),
                // Granted once.
                (
                    "SETUP rtsp://h/live/a/trackID=0\nTransport: RTP/AVP/TCP".into(),
                    "<200 #3 ID | Transport: RTP/AVP/TCP;unicast;interleaved=0-1>",
                ),
                ("PLAY rtsp://h/live/a".into(), "[play live/a channels 0/1 - Gop rtsp-tcp]"),
            ],
        ),
        (
            "another stream is asked for again",
            vec![
                (format!("DESCRIBE rtsp://h/live/a\n{BOB}"), "[describe live/a]"),
                ("!refused not-found".into(), "<404 #1>"),
                ("DESCRIBE rtsp://h/live/b".into(), "<401 #2 | Digest | Digest | Basic>"),
            ],
        ),
        ("SETUP", vec![("SETUP rtsp://h/live/a/trackID=0\nTransport: RTP/AVP/TCP".into(), DENIED)]),
        (
            "ANNOUNCE",
            vec![
                (ANNOUNCE_FFMPEG.into(), DENIED),
                (
                    ANNOUNCE_FFMPEG.replacen('\n', &format!("\n{BOB}\n"), 1),
                    "[note not_allowed: may not publish live/a: this user has no right to]<403 #2>",
                ),
                (ANNOUNCE_FFMPEG.replacen('\n', &format!("\n{ANN}\n"), 1), "[publish live/a]"),
            ],
        ),
        ("wrong password", vec![(format!("DESCRIBE rtsp://h/live/a\n{WRONG}"), &wrong)]),
    ];
    for (name, steps) in rows {
        let mut peer = Peer::new(with_users());
        for (said, expected) in steps {
            assert_eq!(peer.say(&said), expected, "{name}: {said}");
        }
    }
    let mut peer = Peer::new(with_users());
    assert_eq!(peer.say(&format!("DESCRIBE rtsp://h/live/a\n{WRONG}")), wrong);
    // The log has heard of it once; the client is told of every one.
    let last =
        (0..100).map(|_| peer.say(&format!("DESCRIBE rtsp://h/live/a\n{WRONG}"))).find(|answer| !answer.starts_with("<401"));
    assert_eq!(last.as_deref(), Some("<503 #21 | Connection: close>[close]"));
}

#[test]
fn times() {
    let rows: &[(&str, &[Step], &[Step])] = &[
        (
            "no request",
            &[],
            &[("!due", "10000"), ("!after 9999", ""), ("!after 1", "[error handshake_timeout]"), ("!due", "never")],
        ),
        ("half a request", &[], &[("raw OPTIONS", ""), ("!after 10000", "[error handshake_timeout]")]),
        (
            "a request and nothing else",
            &[],
            &[
                ("GET_PARAMETER *", "<200 #1>"),
                ("!due", "60000"),
                ("!after 59999", ""),
                ("GET_PARAMETER *", "<200 #2>"),
                ("!after 59999", ""),
                ("!after 1", "[error session_timeout]"),
            ],
        ),
        (
            "waiting for the shard",
            &[("DESCRIBE rtsp://h/live/a", "[describe live/a]")],
            &[("!due", "never"), ("!after 100000", "")],
        ),
        ("ready", READY, &[("!due", "66000"), ("!after 65999", ""), ("!after 1", "[error session_timeout]")]),
        ("playing over TCP", PLAYING, &[("!due", "never"), ("!after 1000000", "")]),
        (
            "member of a group",
            MEMBER,
            &[
                ("!due", "66000"),
                ("!after 60000", ""),
                ("GET_PARAMETER *", "<200 #3 ID>"),
                ("!after 65999", ""),
                ("!after 1", "[error session_timeout]"),
            ],
        ),
        (
            "another session behind the end of a stream",
            PLAYING,
            &[
                ("!ended", ""),
                ("!due", "5000"),
                ("TEARDOWN rtsp://h/live/b", "<404 #4 ID>"),
                ("PAUSE rtsp://h/live/a", "[pause]<200 #5 ID>"),
                (
                    "SETUP rtsp://h/live/a/trackID=0\nTransport: RTP/AVP/TCP",
                    "[stop]<200 #6 ID2 | Transport: RTP/AVP/TCP;unicast;interleaved=0-1>",
                ),
                ("!due", "66000"),
                ("!after 5000", ""),
            ],
        ),
        ("paused over TCP", PLAYING, &[("PAUSE rtsp://h/live/a", "[pause]<200 #4 ID>"), ("!due", "66000")]),
        ("announced", ANNOUNCED, &[("!due", "66000")]),
        (
            "recording over TCP",
            RECORDING,
            &[
                ("!due", "1000"),
                ("!after 1000", ""),
                ("!due", "5000"),
                ("!after 58000", ""),
                ("!due", "1000"),
                ("!after 1000", "[error publisher_timeout]"),
            ],
        ),
    ];
    for (name, before, steps) in rows {
        let steps: Vec<Step> = before.iter().chain(*steps).copied().collect();
        Peer::converse(name, Config::default(), &steps);
    }
}

#[test]
fn what_is_held_is_bounded() {
    let mut peer = Peer::new(Config::default());
    assert_eq!(peer.say("DESCRIBE rtsp://h/live/a"), "[describe live/a]");
    let block = [b'\n'; 16 * 1024];
    for _ in 0..4 {
        assert_eq!(peer.input(Input::Bytes(&block)), "");
    }
    assert_eq!(peer.input(Input::Bytes(b"\n")), "[error held_too_much]");
}

#[test]
fn many_requests_behind_one_that_waits() {
    let one = b"DESCRIBE rtsp://h/live/a RTSP/1.0\nCSeq: 1\n\n";
    let many = one.repeat(1_000);
    let mut peer = Peer::new(Config::default());
    assert_eq!(peer.input(Input::Bytes(&many)), "[describe live/a]");
    for left in (0..1_000).rev() {
        let shown = peer.shard("refused not-found");
        assert_eq!(shown, if left > 0 { "<404 #1>[describe live/a]" } else { "<404 #1>" });
    }
}
