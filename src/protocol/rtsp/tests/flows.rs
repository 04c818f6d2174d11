//! What clients send, in their own words, step by step; the same in one go, cut at every byte.

use super::*;

const SDP_FFMPEG: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=No Name\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\na=tool:libavformat 59.27.100\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1; sprop-parameter-sets=Z0LAHtkA2D3n4QAAAwABAAADADIPFi5I,aMuDyyA=; profile-level-id=42C01E\r\na=control:streamid=0\r\n\
    m=audio 0 RTP/AVP 97\r\nb=AS:128\r\na=rtpmap:97 MPEG4-GENERIC/44100/2\r\na=fmtp:97 profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3; config=1210\r\na=control:streamid=1\r\n";

pub(super) const ANNOUNCE_FFMPEG: &str = "ANNOUNCE rtsp://h:8554/live/a\nContent-Type: application/sdp\n\n\
    v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=No Name\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\na=tool:libavformat 59.27.100\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1; sprop-parameter-sets=Z0LAHtkA2D3n4QAAAwABAAADADIPFi5I,aMuDyyA=; profile-level-id=42C01E\r\na=control:streamid=0\r\n\
    m=audio 0 RTP/AVP 97\r\nb=AS:128\r\na=rtpmap:97 MPEG4-GENERIC/44100/2\r\na=fmtp:97 profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3; config=1210\r\na=control:streamid=1\r\n";

/// GStreamer's rtspclientsink lists the audio first, here as LATM, and sets `stream=1` up before `stream=0`.
const ANNOUNCE_GST: &str = "ANNOUNCE rtsp://h/live/a\nUser-Agent: GStreamer/1.22.0\nContent-Type: application/sdp\n\n\
    v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=Session streamed with GStreamer\r\nt=0 0\r\na=tool:GStreamer\r\na=type:broadcast\r\na=control:*\r\n\
    m=audio 0 RTP/AVP 96\r\nc=IN IP4 127.0.0.1\r\na=rtpmap:96 MP4A-LATM/44100/2\r\na=fmtp:96 cpresent=0;config=40002410adca00\r\na=control:stream=0\r\n\
    m=video 0 RTP/AVP 97\r\nc=IN IP4 127.0.0.1\r\na=rtpmap:97 H264/90000\r\na=fmtp:97 packetization-mode=1;profile-level-id=42c01e\r\na=control:stream=1\r\n";

/// A camera that pushes: absolute controls, and metadata that nobody can receive.
pub(super) const ANNOUNCE_CAMERA: &str = "ANNOUNCE rtsp://h/cam/1\nContent-Type: application/sdp\n\n\
    v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=Camera\r\nt=0 0\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:rtsp://10.1.1.1/cam/1/trackID=1\r\n\
    m=application 0 RTP/AVP 107\r\na=rtpmap:107 vnd.onvif.metadata/90000\r\na=control:rtsp://10.1.1.1/cam/1/trackID=4\r\n";

const PLAY_FFMPEG_TCP: &[Step] = &[
    (
        "OPTIONS rtsp://h:8554/live/a\nUser-Agent: Lavf59.27.100",
        "[agent Lavf59.27.100]<200 #1 | Public: OPTIONS, DESCRIBE, ANNOUNCE, SETUP, PLAY, PAUSE, RECORD, TEARDOWN, GET_PARAMETER, SET_PARAMETER>",
    ),
    ("DESCRIBE rtsp://h:8554/live/a\nAccept: application/sdp\nUser-Agent: Lavf59.27.100", "[describe live/a]"),
    ("!described va", "<200 #2 | Content-Base: rtsp://h:8554/live/a/ | 2 sections>"),
    (
        "SETUP rtsp://h:8554/live/a/trackID=0\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1",
        "<200 #3 ID | Transport: RTP/AVP/TCP;unicast;interleaved=0-1>",
    ),
    (
        "SETUP rtsp://h:8554/live/a/trackID=1\nTransport: RTP/AVP/TCP;unicast;interleaved=2-3\nSession: ID",
        "<200 #4 ID | Transport: RTP/AVP/TCP;unicast;interleaved=2-3>",
    ),
    ("PLAY rtsp://h:8554/live/a/\nRange: npt=0.000-\nSession: ID", "[play live/a channels 0/1 2/3 Gop rtsp-tcp]"),
    (
        "!playing at",
        "<200 #5 ID | Range: npt=0.000- | RTP-Info: url=rtsp://h:8554/live/a/trackID=0;seq=11;rtptime=1111,\
         url=rtsp://h:8554/live/a/trackID=1;seq=22;rtptime=2222>",
    ),
    ("GET_PARAMETER rtsp://h:8554/live/a/\nSession: ID", "<200 #6 ID>"),
    ("TEARDOWN rtsp://h:8554/live/a/\nSession: ID", "[stop]<200 #7 | Connection: close>[close]"),
];

/// rtspsrc tries UDP; its first request has headers of RealNetworks and its name twice.
const PLAY_GST_UDP: &[Step] = &[
    (
        "OPTIONS rtsp://h/live/a\nUser-Agent: GStreamer/1.22.0\nClientChallenge: 9e26d33f2984236010ef6253fb1887f7\n\
         CompanyID: KnKV4M4I/B2FjJ1TToLycw==\nUser-Agent: RealMedia Player",
        "[agent GStreamer/1.22.0]<200 #1 | Public: OPTIONS, DESCRIBE, ANNOUNCE, SETUP, PLAY, PAUSE, RECORD, TEARDOWN, GET_PARAMETER, SET_PARAMETER>",
    ),
    ("DESCRIBE rtsp://h/live/a\nAccept: application/sdp", "[describe live/a]"),
    ("!described va", "<200 #2 | Content-Base: rtsp://h/live/a/ | 2 sections>"),
    ("SETUP rtsp://h/live/a/trackID=0\nTransport: RTP/AVP;unicast;client_port=5000-5001", "[open 0]"),
    ("!port 0 20000", "<200 #3 ID | Transport: RTP/AVP;unicast;client_port=5000-5001;server_port=20000-20001>"),
    ("SETUP rtsp://h/live/a/trackID=1\nSession: ID\nTransport: RTP/AVP;unicast;client_port=5002-5003", "[open 1]"),
    ("!port 1 20002", "<200 #4 ID | Transport: RTP/AVP;unicast;client_port=5002-5003;server_port=20002-20003>"),
    (
        "PLAY rtsp://h/live/a/\nRange: npt=now-\nSession: ID",
        "[play live/a datagrams 0>10.0.0.9:5000+5001 1>10.0.0.9:5002+5003 Gop rtsp-udp]",
    ),
    (
        "!playing at",
        "<200 #5 ID | Range: npt=now- | RTP-Info: url=rtsp://h/live/a/trackID=0;seq=11;rtptime=1111,\
         url=rtsp://h/live/a/trackID=1;seq=22;rtptime=2222>",
    ),
    ("TEARDOWN rtsp://h/live/a/\nSession: ID", "[stop][close 0][close 1]<200 #6 | Connection: close>[close]"),
];

const PUBLISH_FFMPEG_TCP: &[Step] = &[
    (
        "OPTIONS rtsp://h:8554/live/a",
        "<200 #1 | Public: OPTIONS, DESCRIBE, ANNOUNCE, SETUP, PLAY, PAUSE, RECORD, TEARDOWN, GET_PARAMETER, SET_PARAMETER>",
    ),
    (ANNOUNCE_FFMPEG, "[publish live/a]"),
    ("!publishing", "<200 #2>"),
    (
        "SETUP rtsp://h:8554/live/a/streamid=0\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1;mode=record",
        "<200 #3 ID | Transport: RTP/AVP/TCP;unicast;interleaved=0-1;mode=record>",
    ),
    (
        "SETUP rtsp://h:8554/live/a/streamid=1\nTransport: RTP/AVP/TCP;unicast;interleaved=2-3;mode=record\nSession: ID",
        "<200 #4 ID | Transport: RTP/AVP/TCP;unicast;interleaved=2-3;mode=record>",
    ),
    ("RECORD rtsp://h:8554/live/a\nRange: npt=0.000-\nSession: ID", "<200 #5 ID | Range: npt=now->"),
    ("TEARDOWN rtsp://h:8554/live/a\nSession: ID", "[unpublish]<200 #6 ID | Connection: close>[close]"),
];

const PUBLISH_GST_UDP: &[Step] = &[
    (ANNOUNCE_GST, "[agent GStreamer/1.22.0][publish live/a]"),
    ("!publishing", "<200 #1>"),
    ("SETUP rtsp://h/live/a/stream=1\nTransport: RTP/AVP/UDP;unicast;client_port=5000-5001;mode=RECORD", "[open 0]"),
    ("!port 0 20000", "<200 #2 ID | Transport: RTP/AVP/UDP;unicast;client_port=5000-5001;server_port=20000-20001;mode=record>"),
    (
        "SETUP rtsp://h/live/a/stream=0\nSession: ID\nTransport: RTP/AVP/UDP;unicast;client_port=5002-5003;mode=\"RECORD\"",
        "[open 1]",
    ),
    ("!port 1 20002", "<200 #3 ID | Transport: RTP/AVP/UDP;unicast;client_port=5002-5003;server_port=20002-20003;mode=record>"),
    ("RECORD rtsp://h/live/a\nSession: ID", "<200 #4 ID | Range: npt=now->"),
    ("TEARDOWN rtsp://h/live/a\nSession: ID", "[unpublish][close 1][close 0]<200 #5 ID | Connection: close>[close]"),
];

const FLOWS: &[(&str, &[Step])] = &[
    ("ffmpeg plays over TCP", PLAY_FFMPEG_TCP),
    ("GStreamer plays over UDP", PLAY_GST_UDP),
    ("ffmpeg publishes over TCP", PUBLISH_FFMPEG_TCP),
    ("GStreamer publishes over UDP", PUBLISH_GST_UDP),
];

#[test]
fn step_by_step() {
    assert!(ANNOUNCE_FFMPEG.ends_with(SDP_FFMPEG));
    for (name, steps) in FLOWS {
        Peer::converse(name, Config::default(), steps);
    }
}

#[test]
fn in_one_go_and_cut_at_every_byte() {
    for (name, steps) in FLOWS {
        let mut writer = Peer::new(Config::default());
        let said: Vec<u8> =
            steps.iter().filter(|(said, _)| !said.starts_with('!')).flat_map(|(said, _)| writer.request(said)).collect();
        let expected: String = steps.iter().map(|(_, expected)| *expected).collect();
        assert_eq!(pipeline(Config::default(), &said, &[]), expected, "{name}");
        for cut in 1..said.len() {
            assert_eq!(pipeline(Config::default(), &said, &[cut]), expected, "{name}, cut at {cut}");
        }
        let every: Vec<usize> = (1..said.len()).collect();
        assert_eq!(pipeline(Config::default(), &said, &every), expected, "{name}, byte by byte");
    }
}

#[test]
fn a_query_stays_in_front_of_the_control() {
    Peer::converse(
        "query",
        Config::default(),
        &[
            ("DESCRIBE rtsp://u:p@h/live/a?token=x&start=live", "[describe live/a]"),
            ("!described va", "<200 #1 | Content-Base: rtsp://h/live/a?token=x&start=live/ | 2 sections>"),
            (
                "SETUP rtsp://h/live/a?token=x&start=live/trackID=1\nTransport: RTP/AVP/TCP",
                "<200 #2 ID | Transport: RTP/AVP/TCP;unicast;interleaved=0-1>",
            ),
            ("PLAY rtsp://h/live/a?token=x&start=live/", "[play live/a channels - 0/1 Live rtsp-tcp]"),
            (
                "!playing at",
                "<200 #3 ID | Range: npt=now- | RTP-Info: url=rtsp://h/live/a?token=x&start=live/trackID=1;seq=22;rtptime=2222>",
            ),
        ],
    );
}

/// ffmpeg without UDP packets: pauses, forgets its session and sets everything up over TCP.
#[test]
fn a_player_falls_back_to_tcp() {
    let mut steps = PLAY_GST_UDP[..9].to_vec();
    steps.extend([
        ("PAUSE rtsp://h/live/a/\nSession: ID", "[pause]<200 #6 ID>"),
        (
            "SETUP rtsp://h/live/a/trackID=0\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1",
            "[stop][close 0][close 1]<200 #7 ID2 | Transport: RTP/AVP/TCP;unicast;interleaved=0-1>",
        ),
        (
            "SETUP rtsp://h/live/a/trackID=1\nTransport: RTP/AVP/TCP;unicast;interleaved=2-3\nSession: ID2",
            "<200 #8 ID2 | Transport: RTP/AVP/TCP;unicast;interleaved=2-3>",
        ),
        ("PLAY rtsp://h/live/a/\nSession: ID2", "[play live/a channels 0/1 2/3 Gop rtsp-tcp]"),
        ("!playing", "<200 #9 ID2 | Range: npt=now->"),
    ]);
    Peer::converse("fallback", Config::default(), &steps);
}

const DESCRIBED: &str = "<200 #1 | Content-Base: rtsp://h/live/a/ | 2 sections>";
const GROUP_SET_UP: &str = "<200 #2 ID | Transport: RTP/AVP;multicast;destination=239.0.0.1;port=5004-5005;ttl=16>";

/// The group is joined with the first track, and sent to before PLAY.
#[test]
fn multicast() {
    Peer::converse(
        "multicast",
        Config::default(),
        &[
            ("DESCRIBE rtsp://h/live/a", "[describe live/a]"),
            ("!described va", "<200 #1 | Content-Base: rtsp://h/live/a/ | 2 sections>"),
            ("SETUP rtsp://h/live/a/trackID=0\nTransport: RTP/AVP;multicast", "[join live/a rtsp-multicast]"),
            ("!joined", GROUP_SET_UP),
            (
                "SETUP rtsp://h/live/a/trackID=1\nTransport: RTP/AVP;multicast\nSession: ID",
                "<200 #3 ID | Transport: RTP/AVP;multicast;destination=239.0.0.1;port=5006-5007;ttl=16>",
            ),
            ("PLAY rtsp://h/live/a\nSession: ID", "<200 #4 ID | Range: npt=now->"),
            ("!due", "66000"),
            ("PAUSE rtsp://h/live/a\nSession: ID", "<200 #5 ID>"),
            ("PLAY rtsp://h/live/a\nSession: ID", "<200 #6 ID | Range: npt=now->"),
            ("TEARDOWN rtsp://h/live/a\nSession: ID", "[leave group]<200 #7 | Connection: close>[close]"),
        ],
    );
}

/// A client that keeps its session and sets a track up anew gives up how it travelled before.
#[test]
fn a_track_can_change_its_transport() {
    let rows: &[(&str, &[Step])] = &[
        (
            "group to TCP",
            &[
                ("SETUP rtsp://h/live/a/trackID=0\nTransport: RTP/AVP;multicast", "[join live/a rtsp-multicast]"),
                ("!joined", GROUP_SET_UP),
                (
                    "SETUP rtsp://h/live/a/trackID=0\nTransport: RTP/AVP/TCP;interleaved=0-1\nSession: ID",
                    "[leave group]<200 #3 ID | Transport: RTP/AVP/TCP;unicast;interleaved=0-1>",
                ),
                ("PLAY rtsp://h/live/a", "[play live/a channels 0/1 - Gop rtsp-tcp]"),
            ],
        ),
        (
            "group to UDP, one track torn down before",
            &[
                ("SETUP rtsp://h/live/a/trackID=1\nTransport: RTP/AVP;multicast", "[join live/a rtsp-multicast]"),
                ("!joined", "<200 #2 ID | Transport: RTP/AVP;multicast;destination=239.0.0.1;port=5006-5007;ttl=16>"),
                (
                    "SETUP rtsp://h/live/a/trackID=0\nTransport: RTP/AVP;multicast\nSession: ID",
                    "<200 #3 ID | Transport: RTP/AVP;multicast;destination=239.0.0.1;port=5004-5005;ttl=16>",
                ),
                ("TEARDOWN rtsp://h/live/a/trackID=0\nSession: ID", "<200 #4 ID>"),
                (
                    "SETUP rtsp://h/live/a/trackID=1\nTransport: RTP/AVP;client_port=5000-5001\nSession: ID",
                    "[leave group][open 0]",
                ),
            ],
        ),
        (
            "UDP to group",
            &[
                ("SETUP rtsp://h/live/a/trackID=0\nTransport: RTP/AVP;client_port=5000-5001", "[open 0]"),
                ("!port 0 20000", "<200 #2 ID | Transport: RTP/AVP;unicast;client_port=5000-5001;server_port=20000-20001>"),
                (
                    "SETUP rtsp://h/live/a/trackID=0\nTransport: RTP/AVP;multicast\nSession: ID",
                    "[close 0][join live/a rtsp-multicast]",
                ),
            ],
        ),
    ];
    for (name, steps) in rows {
        let described = [("DESCRIBE rtsp://h/live/a", "[describe live/a]"), ("!described va", DESCRIBED)];
        Peer::converse(name, Config::default(), &[&described, *steps].concat());
    }
}

#[test]
fn without_a_free_group_another_transport_can_be_tried() {
    Peer::converse(
        "fallback",
        Config::default(),
        &[
            ("DESCRIBE rtsp://h/live/a", "[describe live/a]"),
            ("!described v", "<200 #1 | Content-Base: rtsp://h/live/a/ | 1 sections>"),
            ("SETUP rtsp://h/live/a/trackID=0\nTransport: RTP/AVP;multicast", "[join live/a rtsp-multicast]"),
            ("!refused limit", "<453 #2>"),
            (
                "SETUP rtsp://h/live/a/trackID=0\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1",
                "<200 #3 ID | Transport: RTP/AVP/TCP;unicast;interleaved=0-1>",
            ),
        ],
    );
}

/// ffmpeg with `-rtsp_transport http`: both halves, each on a connection of its own.
#[test]
fn the_halves_of_a_tunnel() {
    Peer::converse(
        "GET",
        Config::default(),
        &[
            (
                "raw GET /live/a HTTP/1.1\r\nx-sessioncookie: c00kie\r\nAccept: application/x-rtsp-tunnelled\r\n\r\n",
                "[tunnel c00kie]<HTTP/1.0 200 OK>",
            ),
            ("DESCRIBE rtsp://h/live/a", "[describe live/a]"),
            ("!described v", "<200 #1 | Content-Base: rtsp://h/live/a/ | 1 sections>"),
        ],
    );
    let post = "raw POST /live/a HTTP/1.1\r\nx-sessioncookie: c00kie\r\nContent-Length: 32767\r\n\r\nT1BU";
    Peer::converse("POST alone", Config::default(), &[(post, "[to c00kie OPT]"), ("!refused not-found", "[error bad_tunnel]")]);
    Peer::converse(
        "POST whose GET has ended",
        Config::default(),
        &[(post, "[to c00kie OPT]"), ("raw SU9O", "[to c00kie ION]"), ("!refused not-found", "[close]")],
    );
    let head = "raw POST /live/a HTTP/1.1\r\nx-sessioncookie: c00kie\r\nContent-Length: 2000000000\r\n\r\n";
    Peer::converse(
        "POST alone, its head by itself",
        Config::default(),
        &[(head, ""), ("raw T1BU", "[to c00kie OPT]"), ("!refused not-found", "[error bad_tunnel]")],
    );
    Peer::converse(
        "POST whose GET has ended, its head by itself",
        Config::default(),
        &[(head, ""), ("raw T1BU", "[to c00kie OPT]"), ("raw SU9O", "[to c00kie ION]"), ("!refused not-found", "[close]")],
    );
    Peer::converse("POST with something else", Config::default(), &[(post, "[to c00kie OPT]"), ("raw {}", "[error bad_tunnel]")]);
    Peer::converse(
        "the cookie is taken",
        Config::default(),
        &[
            ("raw GET / HTTP/1.0\r\nx-sessioncookie: c\r\n\r\n", "[tunnel c]<HTTP/1.0 200 OK>"),
            ("!refused in-use", "[error bad_tunnel]"),
        ],
    );
}

/// VLC without live555 asks for a satellite receiver.
#[test]
fn sat_ip_is_not_found() {
    Peer::converse(
        "VLC",
        Config::default(),
        &[
            ("SETUP rtsp://h/?src=1&freq=100\nTransport: RTP/AVP;unicast;client_port=5000-5001", "<404 #1>"),
            ("SETUP rtsp://h/live/a\nTransport: RTP/AVP;unicast;client_port=5000-5001", "[describe live/a]"),
            ("!described va", "<459 #2>"),
        ],
    );
}

#[test]
fn setup_without_describe_and_on_the_bare_url() {
    Peer::converse(
        "bare",
        Config::default(),
        &[
            ("SETUP rtsp://h/live/a\nTransport: RTP/AVP/TCP;unicast;interleaved=4-5", "[describe live/a]"),
            ("!described a", "<200 #1 ID | Transport: RTP/AVP/TCP;unicast;interleaved=4-5>"),
            ("PLAY rtsp://h/live/a/trackID=1\nSession: ID;timeout=60", "[play live/a channels - 4/5 Gop rtsp-tcp]"),
            ("!playing", "<200 #2 ID | Range: npt=now->"),
            ("PAUSE rtsp://h/live/a", "[pause]<200 #3 ID>"),
            ("PLAY rtsp://h/live/a\nScale: 2.0", "[go on]<200 #4 ID | Range: npt=now- | Scale: 1.0>"),
            ("PLAY rtsp://h/live/a", "<200 #5 ID | Range: npt=now->"),
            ("!ended", ""),
            (
                "OPTIONS *",
                "<200 #6 ID | Public: OPTIONS, DESCRIBE, ANNOUNCE, SETUP, PLAY, PAUSE, RECORD, TEARDOWN, GET_PARAMETER, SET_PARAMETER>",
            ),
            ("!due", "5000"),
            ("!after 5000", "[close]"),
            ("OPTIONS *", ""),
        ],
    );
}

#[test]
fn a_camera_pushes_with_metadata_and_absolute_controls() {
    Peer::converse(
        "camera",
        Config::default(),
        &[
            (ANNOUNCE_CAMERA, "[publish cam/1]"),
            ("!publishing", "[note -: cam/1: left out: vnd.onvif.metadata is not carried]<200 #1>"),
            (
                "SETUP rtsp://10.1.1.1/cam/1/trackID=1\nTransport: RTP/AVP/TCP;unicast;interleaved=7-9;mode=receive",
                "<200 #2 ID | Transport: RTP/AVP/TCP;unicast;interleaved=7-9;mode=record>",
            ),
            (
                "SETUP rtsp://h/cam/1/trackID=4\nSession: ID\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1;mode=receive",
                "[unknown_codec]<200 #3 ID | Transport: RTP/AVP/TCP;unicast;interleaved=0-1;mode=record>",
            ),
            ("RECORD rtsp://h/cam/1\nSession: ID", "<200 #4 ID | Range: npt=now->"),
            ("raw $\0\0\x0Cdata of 12 B", ""),
            ("PAUSE rtsp://h/cam/1\nSession: ID", "<200 #5 ID>"),
            ("RECORD rtsp://h/cam/1\nSession: ID", "<200 #6 ID | Range: npt=now->"),
        ],
    );
}
