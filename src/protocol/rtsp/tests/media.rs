//! What is carried between the requests: interleaved frames, datagrams, reports, addresses behind a NAT.

use super::flows::{ANNOUNCE_CAMERA, ANNOUNCE_FFMPEG};
use super::*;

/// An RTP packet: an IDR slice in one NAL unit, or what `payload` is.
fn rtp(sequence: u16, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let timestamp = 90_000 + 3_600 * u32::from(sequence);
    let mut packet = vec![0x80, 0x80 | 96];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&timestamp.to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

const IDR: &[u8] = &[0x65, 0x88, 0x84, 0x00, 0x10, 0xFF];

fn frame(channel: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[b'$', channel, len[0], len[1]], payload].concat()
}

fn publisher(transports: [&str; 2]) -> Peer {
    let mut peer = Peer::new(Config::default());
    peer.say(ANNOUNCE_FFMPEG);
    peer.say("!publishing");
    for (section, transport) in transports.iter().enumerate() {
        peer.say(&format!("SETUP rtsp://h:8554/live/a/streamid={section}\nTransport: {transport};mode=record"));
        if transport.contains("client_port") {
            peer.say(&format!("!port {section} {}", 20_000 + 2 * section));
        }
    }
    assert_eq!(peer.say("RECORD rtsp://h:8554/live/a"), "<200 #4 ID | Range: npt=now->");
    peer
}

fn tcp_publisher() -> Peer {
    publisher(["RTP/AVP/TCP;unicast;interleaved=10-11", "RTP/AVP/TCP;unicast;interleaved=4-200"])
}

fn udp_publisher() -> Peer {
    publisher(["RTP/AVP;unicast;client_port=5000-5001", "RTP/AVP;unicast;client_port=5002-5003"])
}

fn frames(shown: &str) -> usize {
    shown.matches("[media 0 ").count()
}

fn datagram(peer: &mut Peer, pair: u8, from: &str, bytes: &[u8]) -> String {
    peer.input(Input::Datagram { pair, rtcp: false, from: address(from), bytes })
}

#[test]
fn a_publisher_over_tcp_makes_frames() {
    let mut stream = Vec::new();
    for sequence in 0..5 {
        stream.extend(frame(10, &rtp(sequence, 7, IDR)));
        stream.extend(b"GET_PARAMETER * RTSP/1.0\r\nCSeq: 9\r\n\r\n");
    }
    let whole = tcp_publisher().input(Input::Bytes(&stream));
    assert!(whole.contains("[tracks H264"), "{whole}");
    assert!(frames(&whole) >= 4, "{whole}");
    assert_eq!(whole.matches("<200 #9 ID>").count(), 5, "{whole}");
    for cut in 1..stream.len() {
        let mut peer = tcp_publisher();
        let pieces = peer.input(Input::Bytes(&stream[..cut])) + &peer.input(Input::Bytes(&stream[cut..]));
        assert_eq!(pieces, whole, "cut at {cut}");
    }
}

#[test]
fn a_frame_does_not_wait_for_the_next_request() {
    let mut peer = tcp_publisher();
    let mut shown = String::new();
    for sequence in 0..5 {
        shown.push_str(&peer.input(Input::Bytes(&frame(10, &rtp(sequence, 7, IDR)))));
    }
    assert!(frames(&shown) >= 4, "{shown}");
}

#[test]
fn a_publisher_is_told_what_has_arrived() {
    let mut peer = tcp_publisher();
    peer.input(Input::Bytes(&frame(10, &rtp(0, 7, IDR))));
    let shown = peer.say("!after 1000");
    assert!(shown.contains("[frame 11 ") && shown.contains("[received 1+0]"), "{shown}");
    assert_eq!(peer.say("!due"), "5000");

    let mut peer = udp_publisher();
    datagram(&mut peer, 0, "10.0.0.9:5000", &rtp(0, 7, IDR));
    let shown = peer.say("!after 1000");
    assert!(shown.contains("[to 10.0.0.9:5001 from 0 rtcp]"), "{shown}");
}

#[test]
fn a_publisher_over_udp_makes_frames() {
    let mut peer = udp_publisher();
    let mut shown = String::new();
    for sequence in 0..5 {
        shown.push_str(&datagram(&mut peer, 0, "10.0.0.9:5000", &rtp(sequence, 7, IDR)));
    }
    assert!(frames(&shown) >= 4, "{shown}");
    let end = peer.say("TEARDOWN rtsp://h:8554/live/a");
    assert_eq!(end, "[received 5+0][unpublish][close 0][close 1]<200 #5 ID | Connection: close>[close]");
}

#[test]
fn the_last_frames_behind_a_gap_are_given_out_at_the_end() {
    let mut peer = udp_publisher();
    datagram(&mut peer, 0, "10.0.0.9:5000", &rtp(0, 7, IDR));
    assert_eq!(datagram(&mut peer, 0, "10.0.0.9:5000", &rtp(2, 7, IDR)), "", "it waits for the one in front of it");
    let end = peer.say("TEARDOWN rtsp://h:8554/live/a");
    assert!(end.starts_with("[media 0 10B][received 2+0][unpublish]"), "{end}");
}

#[test]
fn datagrams_are_taken_from_the_publisher_only() {
    let rows: &[(&str, &str, u32, bool)] = &[
        ("another host", "10.0.0.10:5000", 7, false),
        ("another port of the same host, too early", "10.0.0.9:6000", 7, false),
        ("the known address", "10.0.0.9:5000", 7, true),
    ];
    for (name, from, ssrc, taken) in rows {
        let mut peer = udp_publisher();
        datagram(&mut peer, 0, "10.0.0.9:5000", &rtp(0, 7, IDR));
        datagram(&mut peer, 0, from, &rtp(1, *ssrc, IDR));
        let shown = peer.say("!after 1000");
        let expected = if *taken { "[received 2+0]" } else { "[received 1+1]" };
        assert!(shown.contains(expected), "{name}: {shown}");
    }
    // Behind a NAT: silent for two seconds, then the same source from another port.
    for (after_ms, ssrc, expected) in [(1_999, 7, "[received 1+1]"), (2_000, 8, "[received 1+1]"), (2_000, 7, "[received 2+0]")] {
        let mut peer = udp_publisher();
        datagram(&mut peer, 0, "10.0.0.9:5000", &rtp(0, 7, IDR));
        peer.now = peer.now.after_millis(after_ms);
        datagram(&mut peer, 0, "10.0.0.9:6000", &rtp(1, ssrc, IDR));
        let shown = peer.say("!after 5000");
        assert!(shown.contains(expected), "{after_ms} ms, {ssrc}: {shown}");
    }
    // The first packet shows the real port.
    let mut peer = udp_publisher();
    datagram(&mut peer, 0, "10.0.0.9:7777", &rtp(0, 7, IDR));
    let shown = peer.say("!after 1000");
    assert!(shown.contains("[received 1+0]"), "{shown}");
}

#[test]
fn a_silent_publisher_is_given_up() {
    let mut peer = udp_publisher();
    peer.say("!after 1000");
    datagram(&mut peer, 0, "10.0.0.9:5000", &rtp(0, 7, IDR));
    peer.now = peer.now.after_millis(30_000);
    // Requests do not make up for media.
    assert_eq!(peer.say("GET_PARAMETER *"), "<200 #5 ID>");
    assert!(!peer.say("!after 29999").contains("error"));
    assert!(peer.say("!after 1").ends_with("[error publisher_timeout]"));
}

#[test]
fn sections_that_cannot_be_received_are_ignored() {
    let mut peer = Peer::new(Config::default());
    peer.say(ANNOUNCE_CAMERA);
    peer.say("!publishing");
    peer.say("SETUP rtsp://h/cam/1/trackID=1\nTransport: RTP/AVP;unicast;client_port=5000-5001;mode=record");
    peer.say("!port 0 20000");
    assert_eq!(
        peer.say("SETUP rtsp://h/cam/1/trackID=4\nTransport: RTP/AVP;unicast;client_port=5002-5003;mode=record"),
        "[open 1][unknown_codec]"
    );
    peer.say("!port 1 20002");
    peer.say("RECORD rtsp://h/cam/1");
    assert_eq!(datagram(&mut peer, 1, "10.0.0.9:5002", &rtp(0, 9, b"<?xml")), "");
    assert_eq!(peer.say("!after 1000"), "");
    assert_eq!(peer.outputs, []);
    assert_eq!(key("cam/1").app(), "cam");
}

#[test]
fn frames_on_unknown_channels_end_the_connection_in_the_end() {
    let mut peer = tcp_publisher();
    let stray = frame(9, b"x");
    assert_eq!(peer.input(Input::Bytes(&stray.repeat(1_000))), "");
    assert_eq!(peer.input(Input::Bytes(&stray)), "[error stray_frames]");
}

#[test]
fn teardown_inside_a_frame_is_data() {
    let mut peer = tcp_publisher();
    let hidden = frame(11, b"TEARDOWN rtsp://h:8554/live/a RTSP/1.0\r\nCSeq: 5\r\n\r\n");
    assert_eq!(peer.input(Input::Bytes(&hidden)), "");
    let (first, second) = hidden.split_at(20);
    assert_eq!(peer.input(Input::Bytes(first)), "");
    assert_eq!(peer.input(Input::Bytes(second)), "");
    let end = peer.say("TEARDOWN rtsp://h:8554/live/a");
    assert!(end.ends_with("[unpublish]<200 #5 ID | Connection: close>[close]"), "{end}");
    assert_eq!(peer.input(Input::Bytes(&hidden)), "");
}

const UDP_READY: &[Step] = &[
    ("SETUP rtsp://h/live/a/trackID=0\nTransport: RTP/AVP;unicast;client_port=5000-5001", "[describe live/a]"),
    ("!described va", "[open 0]"),
    ("!port 0 20000", "<200 #1 ID | Transport: RTP/AVP;unicast;client_port=5000-5001;server_port=20000-20001>"),
];
const UDP_PLAY: Step = ("PLAY rtsp://h/live/a", "[play live/a datagrams 0>10.0.0.9:5000+5001 - Gop rtsp-udp]");
const UDP_PLAYING: Step = ("!playing", "<200 #2 ID | Range: npt=now->");

#[test]
fn a_viewers_real_address_is_found() {
    let rows: &[(&str, &[Step])] = &[
        (
            "before PLAY",
            &[
                ("!rtp 0 10.0.0.9:6000", ""),
                ("!rtcp 0 10.0.0.9:6001", ""),
                ("PLAY rtsp://h/live/a", "[play live/a datagrams 0>10.0.0.9:6000+6001 - Gop rtsp-udp]"),
                ("!playing", "<200 #2 ID | Range: npt=now->"),
            ],
        ),
        (
            "while PLAY waits",
            &[
                UDP_PLAY,
                ("!rtp 0 10.0.0.9:6000", ""),
                ("!playing", "[redirect 0 10.0.0.9:6000 10.0.0.9:5001]<200 #2 ID | Range: npt=now->"),
            ],
        ),
        (
            "while it plays",
            &[
                UDP_PLAY,
                UDP_PLAYING,
                ("!rtp 0 10.0.0.9:6000", "[redirect 0 10.0.0.9:6000 10.0.0.9:5001]"),
                ("!rtp 0 10.0.0.9:6000", ""),
                ("!rtp 0 10.0.0.9:7000", ""),
                // Nothing in it says whose it is: somebody else behind the same NAT could take the stream.
                ("!after 20000", ""),
                ("!rtp 0 10.0.0.9:7000", ""),
            ],
        ),
        (
            "while it plays, its reports",
            &[
                UDP_PLAY,
                UDP_PLAYING,
                ("!rtcp 0 10.0.0.9:5001", ""),
                ("!rtcp 0 10.0.0.9:6001", ""),
                ("!after 2000", ""),
                ("!rtcp 0 10.0.0.9:6001 2", ""),
                ("!rtcp 0 10.0.0.9:6001", "[redirect 0 10.0.0.9:5000 10.0.0.9:6001]"),
            ],
        ),
        ("another host", &[UDP_PLAY, UDP_PLAYING, ("!rtp 0 10.0.0.8:6000", ""), ("!due", "66000")]),
        ("another pair", &[UDP_PLAY, UDP_PLAYING, ("!rtp 5 10.0.0.9:6000", "")]),
        (
            "the same host in other words",
            &[UDP_PLAY, UDP_PLAYING, ("!rtcp 0 [::ffff:10.0.0.9]:6001", "[redirect 0 10.0.0.9:5000 [::ffff:10.0.0.9]:6001]")],
        ),
    ];
    for (name, steps) in rows {
        let steps: Vec<Step> = UDP_READY.iter().chain(*steps).copied().collect();
        Peer::converse(name, Config::default(), &steps);
    }
}

#[test]
fn reports_and_requests_keep_a_viewer() {
    let mut steps = UDP_READY.to_vec();
    steps.extend([
        UDP_PLAY,
        UDP_PLAYING,
        ("!due", "66000"),
        ("!after 60000", ""),
        ("!rtcp 0 10.0.0.9:5001", ""),
        ("!due", "66000"),
        ("!after 60000", ""),
        ("OPTIONS *", "<200 #3 ID | Public: OPTIONS, DESCRIBE, ANNOUNCE, SETUP, PLAY, PAUSE, RECORD, TEARDOWN, GET_PARAMETER, SET_PARAMETER>"),
        ("!after 60000", ""),
        ("!rtcp 0 10.0.0.8:5001", ""),
        ("!after 6000", "[error session_timeout]"),
    ]);
    Peer::converse("keepalive", Config::default(), &steps);
}
