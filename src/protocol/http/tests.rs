//! Requests → exact outputs; the same, cut at every byte boundary; the life of viewers; a WebSocket client of independent make.

use std::io::{Cursor, Read, Write};

use tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
use tungstenite::{ClientHandshake, HandshakeError, Message};

use super::*;
use crate::format::HevcForm;
use crate::media::{Codec, Track, TrackId, TrackShape};
use crate::session::Fault;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn session_with(config: Config) -> HttpSession {
    let peer = std::net::SocketAddr::from(([127, 0, 0, 1], 5000));
    HttpSession::new(&SessionContext::lone(config, peer), Stamp::ZERO)
}

fn session() -> HttpSession {
    session_with(Config::default())
}

fn text_of(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The outputs as text, so that tables can be compared; adjoining sends are joined.
fn show(out: &[Output]) -> String {
    let mut text = String::new();
    for output in out {
        match output {
            Output::Send(bytes) => text.push_str(&text_of(bytes)),
            Output::Play(play) => {
                text.push_str(&format!("[play {} {:?} {:?} {}]", play.key, play.format, play.start, play.protocol));
            }
            Output::Describe(key) => text.push_str(&format!("[describe {key}]")),
            Output::Agent(agent) => text.push_str(&format!("[agent {agent}]")),
            Output::Close => text.push_str("[close]"),
            Output::Note { reason, message } => text.push_str(&format!("[note {}: {message}]", reason.unwrap_or("-"))),
            other => text.push_str(&format!("[{other:?}]")),
        }
    }
    text.replace("\r\n", "\n")
}

/// Feeds `pieces`; after an error its label stands at the end.
fn feed<'a>(session: &mut HttpSession, pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut out = Vec::new();
    for piece in pieces {
        if let Err(error) = session.handle(Stamp::ZERO, Input::Bytes(piece), &mut out) {
            return format!("{}[error {}]", show(&out), error.reason);
        }
    }
    show(&out)
}

fn input(session: &mut HttpSession, now: Stamp, input: Input<'_>) -> String {
    let mut out = Vec::new();
    match session.handle(now, input, &mut out) {
        Ok(()) => show(&out),
        Err(error) => format!("{}[error {}]", show(&out), error.reason),
    }
}

fn cors_error(line: &str, close: bool, message: &str) -> String {
    let close = if close { "Connection: close\n" } else { "" };
    let len = message.len() + 14;
    format!(
        "HTTP/1.1 {line}\n{close}Access-Control-Allow-Origin: *\nContent-Type: application/json\nCache-Control: no-cache\n\
         Content-Length: {len}\n\n{{\"error\": \"{message}\"}}\n"
    )
}

const PLAY: &str = "[play live/a Flv { hevc: Enhanced, envelope: HttpChunk } Gop http-flv]";
const FLV_HEAD: &str = "HTTP/1.1 200 OK\nConnection: close\nAccess-Control-Allow-Origin: *\nContent-Type: video/x-flv\nCache-Control: no-cache\nTransfer-Encoding: chunked\n\n";
const HEAD_ANSWER: &str = "HTTP/1.1 200 OK\nAccess-Control-Allow-Origin: *\nContent-Type: video/x-flv\nCache-Control: no-cache\nTransfer-Encoding: chunked\n\n";
const OPTIONS_ANSWER: &str = "HTTP/1.1 204 No Content\nAccess-Control-Allow-Origin: *\nAllow: GET, HEAD, OPTIONS\n\
     Access-Control-Allow-Methods: GET, HEAD, OPTIONS\nAccess-Control-Allow-Headers: *, Authorization\nAccess-Control-Max-Age: 86400\n";

fn request(line: &str, headers: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
}

fn cases() -> Vec<(&'static str, String, String)> {
    let not_found = |close| cors_error("404 Not Found", close, "nothing is here");
    let get = |path: &str| request(&format!("GET {path}"), "");
    let play = |key: &str| PLAY.replace("live/a", key);
    let bad = |why: &str| cors_error("400 Bad Request", false, why);
    let segment = "a stream name has an empty, '.' or '..' segment";
    vec![
        ("play", get("/live/a.flv"), play("live/a")),
        ("absolute form", get("http://h:8080/live/a.flv"), play("live/a")),
        ("multi-segment app", get("/a/b/c.flv"), play("a/b/c")),
        ("percent-encoded name", get("/live/%E6%91%84%20x.flv"), play("live/摄 x")),
        (
            "legacy HEVC",
            get("/live/a.flv?hevc=legacy"),
            "[play live/a Flv { hevc: Legacy, envelope: HttpChunk } Gop http-flv]".into(),
        ),
        (
            "live start",
            get("/live/a.flv?x&start=live"),
            "[play live/a Flv { hevc: Enhanced, envelope: HttpChunk } Live http-flv]".into(),
        ),
        ("transport stream", get("/live/a.ts"), "[play live/a Ts { envelope: HttpChunk } Gop http-ts]".into()),
        (
            "a name with the same extension",
            get("/live/a.ts.ts"),
            "[play live/a.ts Ts { envelope: HttpChunk } Gop http-ts]".into(),
        ),
        ("AAC", get("/live/a.aac"), "[play live/a Audio { form: Adts, envelope: HttpChunk } Gop http-aac]".into()),
        (
            "MP3 for HTTP/1.0",
            "GET /live/a.mp3?start=live HTTP/1.0\r\n\r\n".into(),
            "[play live/a Audio { form: Mp3, envelope: None } Live http-mp3]".into(),
        ),
        ("unknown values", get("/live/a.flv?start=7&hevc=x"), play("live/a")),
        ("MP4", get("/live/a.mp4"), "[play live/a Fmp4 { fragments: PerFrame, envelope: HttpChunk } Gop http-fmp4]".into()),
        (
            "MP4 by GOP",
            get("/live/a.flv.mp4?frag=gop"),
            "[play live/a.flv Fmp4 { fragments: PerGop, envelope: HttpChunk } Gop http-fmp4]".into(),
        ),
        ("agent", request("GET /live/a.flv", "User-Agent: VLC/3\r\n"), format!("[agent VLC/3]{PLAY}")),
        ("Range is ignored", request("GET /live/a.flv", "Range: bytes=0-\r\n"), PLAY.into()),
        ("HTTP/1.0", "GET /live/a.flv HTTP/1.0\r\n\r\n".into(), PLAY.replace("HttpChunk", "None")),
        ("HEAD", request("HEAD /live/a.flv", ""), "[describe live/a]".into()),
        ("HEAD elsewhere", request("HEAD /x", ""), not_found(false).split_once('{').unwrap().0.to_owned()),
        ("OPTIONS", request("OPTIONS /live/a.flv", ""), format!("{OPTIONS_ANSWER}\n")),
        ("OPTIONS *", request("OPTIONS *", ""), format!("{OPTIONS_ANSWER}\n")),
        (
            "private network",
            request("OPTIONS /live/a.flv", "Access-Control-Request-Private-Network: true\r\n"),
            format!("{OPTIONS_ANSWER}Access-Control-Allow-Private-Network: true\n\n"),
        ),
        ("root", get("/"), not_found(false)),
        ("other suffix", get("/live/a.txt"), not_found(false)),
        ("HTTP/1.0 ends after the answer", "GET / HTTP/1.0\r\n\r\n".into(), format!("{}[close]", not_found(true))),
        ("close is honoured", request("GET /", "Connection: close\r\n"), format!("{}[close]", not_found(true))),
        ("traversal", get("/live/../a.flv"), bad(segment)),
        ("encoded traversal", get("/live/%2e%2e/a.flv"), bad(segment)),
        ("no name", get("/live/.flv"), bad(segment)),
        ("no app", get("/a.flv"), bad("a stream name needs an app and a name: app/name")),
        ("NUL", get("/live/a%00.flv"), bad("the path has a broken percent-encoding")),
        ("backslash", get("/live/a%5C.flv"), bad("a stream name has a character that is not allowed")),
        ("encoded twice", get("/live/a%252e.flv"), bad("a stream name has a character that is not allowed")),
        (
            "POST with a body, then HEAD",
            format!("{}hello{}", request("POST /live/a.flv", "Content-Length: 5\r\n"), request("HEAD /live/a.flv", "")),
            cors_error("405 Method Not Allowed", false, "this method is not served")
                .replace("Content-Type", "Allow: GET, HEAD, OPTIONS\nContent-Type")
                + "[describe live/a]",
        ),
        (
            "pipeline",
            [get("/"), request("OPTIONS /", ""), get("/live/a.flv")].concat(),
            format!("{}{OPTIONS_ANSWER}\n{PLAY}", not_found(false)),
        ),
        (
            "nothing is answered behind a close",
            format!("{}{}", request("GET /", "Connection: close\r\n"), get("/")),
            format!("{}[close]", not_found(true)),
        ),
        (
            "large body",
            request("POST /", "Content-Length: 5000\r\n"),
            cors_error("413 Content Too Large", true, "a request body may have 4096 bytes at most") + "[error body_too_large]",
        ),
        (
            "chunked body",
            request("POST /", "Transfer-Encoding: chunked\r\n"),
            cors_error("501 Not Implemented", true, "a request body with Transfer-Encoding is not supported")
                + "[error transfer_encoding]",
        ),
        (
            "TLS",
            "\x16\x03\x01\x02".into(),
            cors_error("400 Bad Request", true, "not an HTTP/1 request: invalid token") + "[error malformed_request]",
        ),
        (
            "no Host",
            "GET / HTTP/1.1\r\n\r\n".into(),
            cors_error("400 Bad Request", true, "an HTTP/1.1 request needs exactly one Host header") + "[error bad_host]",
        ),
        (
            "WebSocket",
            websocket("/live/a.flv?hevc=legacy", "13", ""),
            "[play live/a Flv { hevc: Legacy, envelope: WebSocket } Gop ws-flv]".into(),
        ),
        (
            "WebSocket of a transport stream",
            websocket("/live/a.ts", "13", ""),
            "[play live/a Ts { envelope: WebSocket } Gop ws-ts]".into(),
        ),
        (
            "WebSocket of AAC",
            websocket("/live/a.aac", "13", ""),
            "[play live/a Audio { form: Adts, envelope: WebSocket } Gop ws-aac]".into(),
        ),
        ("WebSocket elsewhere", websocket("/chat", "13", ""), not_found(false)),
        (
            "WebSocket version",
            websocket("/live/a.flv", "8", ""),
            cors_error("426 Upgrade Required", true, "only WebSocket version 13 is spoken")
                .replace("close\n", "upgrade, close\nUpgrade: websocket\nSec-WebSocket-Version: 13\n")
                + "[close]",
        ),
        (
            "WebSocket frames too early",
            websocket("/live/a.flv", "13", "") + "\u{1}",
            "[play live/a Flv { hevc: Enhanced, envelope: WebSocket } Gop ws-flv][error ws_early_frames]".into(),
        ),
    ]
}

fn websocket(path: &str, version: &str, more: &str) -> String {
    let headers = format!(
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: {version}\r\n{more}"
    );
    request(&format!("GET {path}"), &headers)
}

#[test]
fn requests_and_their_outputs() {
    for (name, request, expected) in cases() {
        assert_eq!(feed(&mut session(), [request.as_bytes()]), expected, "{name}");
    }
}

#[test]
fn every_cut_gives_the_same_outputs() {
    for (name, request, expected) in cases() {
        let bytes = request.as_bytes();
        for cut in 0..bytes.len() {
            assert_eq!(feed(&mut session(), [&bytes[..cut], &bytes[cut..]]), expected, "{name}, cut at {cut}");
        }
        assert_eq!(feed(&mut session(), bytes.chunks(1)), expected, "{name}, byte by byte");
    }
}

#[test]
fn a_large_head_is_refused_whatever_its_pieces() {
    let head = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}", "y".repeat(20_000));
    let expected =
        cors_error("431 Request Header Fields Too Large", true, "a request head may have 8192 bytes and 64 headers at most")
            + "[error head_too_large]";
    for piece in [1, 100, 8191, 8192, 8193, 30_000] {
        assert_eq!(feed(&mut session(), head.as_bytes().chunks(piece)), expected, "{piece}");
    }
}

#[test]
fn without_an_origin_there_is_no_cors() {
    let mut config = Config::default();
    config.http.allow_origin.clear();
    let mut session = session_with(config);
    assert_eq!(
        feed(&mut session, [request("OPTIONS /", "Access-Control-Request-Private-Network: true\r\n").as_bytes()]),
        "HTTP/1.1 204 No Content\nAllow: GET, HEAD, OPTIONS\n\n"
    );
    assert!(!feed(&mut session, [request("GET /", "").as_bytes()]).contains("Access-Control"));
}

#[test]
fn the_configured_form_of_h265_is_the_default() {
    let mut config = Config::default();
    config.http.hevc = HevcForm::Legacy;
    let out = feed(&mut session_with(config), [request("GET /live/a.flv", "").as_bytes()]);
    assert_eq!(out, "[play live/a Flv { hevc: Legacy, envelope: HttpChunk } Gop http-flv]");
}

/// A session that has asked to play.
fn waiting(request: &str) -> HttpSession {
    let mut session = session();
    assert!(feed(&mut session, [request.as_bytes()]).contains("[play"));
    assert_eq!(session.next_timeout(), None);
    session
}

#[test]
fn a_viewer_over_http() {
    let mut session = waiting(&request("GET /live/a.flv", ""));
    assert_eq!(input(&mut session, Stamp::ZERO, Input::Playing(None)), FLV_HEAD);
    assert_eq!(feed(&mut session, [&b"anything"[..]]), "");
    assert_eq!(session.head.capacity(), 0);
    assert_eq!(input(&mut session, Stamp::ZERO, Input::Ended), "0\n\n[close]");
    assert_eq!(input(&mut session, Stamp::ZERO, Input::Ended), "");
}

#[test]
fn a_viewer_over_http_1_0_gets_no_chunks() {
    let mut session = waiting("GET /live/a.flv HTTP/1.0\r\n\r\n");
    assert_eq!(input(&mut session, Stamp::ZERO, Input::Playing(None)), FLV_HEAD.replace("Transfer-Encoding: chunked\n", ""));
    assert_eq!(input(&mut session, Stamp::ZERO, Input::Ended), "[close]");
}

#[test]
fn a_viewer_that_talks_too_much_is_closed() {
    let mut session = waiting(&request("GET /live/a.flv", ""));
    assert_eq!(feed(&mut session, [&vec![b'x'; IGNORED_BYTES_MAX / 2][..]]), "");
    input(&mut session, Stamp::ZERO, Input::Playing(None));
    assert_eq!(feed(&mut session, [&vec![b'x'; IGNORED_BYTES_MAX / 2][..]]), "");
    assert_eq!(feed(&mut session, [&b"x"[..]]), "[error excess_bytes]");
}

#[test]
fn refusals_are_answered_before_the_close() {
    let cases = [
        (Input::Refused(Refusal::NotFound), "404 Not Found", "no such stream", "[close]"),
        (Input::Refused(Refusal::NotCarried), "404 Not Found", "the stream has nothing that can be had in this form", "[close]"),
        (Input::Refused(Refusal::LimitReached), "503 Service Unavailable", "a limit of the server is reached", "[close]"),
        (Input::Refused(Refusal::ShuttingDown), "503 Service Unavailable", "the server is shutting down", "[close]"),
        (Input::Ended, "404 Not Found", "no such stream", "[close]"),
        (Input::Closing(CloseReason::ShuttingDown), "503 Service Unavailable", "the server is shutting down", ""),
        (Input::Closing(CloseReason::Kicked), "503 Service Unavailable", "the operator closed the connection", ""),
    ];
    for (answer, line, message, close) in cases {
        for request in [request("GET /live/a.flv", ""), websocket("/live/a.flv", "13", "")] {
            let answer = match &answer {
                Input::Refused(refusal) => Input::Refused(*refusal),
                Input::Closing(reason) => Input::Closing(*reason),
                _ => Input::Ended,
            };
            let shown = input(&mut waiting(&request), Stamp::ZERO, answer);
            assert_eq!(shown, cors_error(line, true, message) + close);
        }
    }
}

#[test]
fn closing_says_goodbye_only_where_that_is_possible() {
    let mut idle = session();
    assert_eq!(input(&mut idle, Stamp::ZERO, Input::Closing(CloseReason::ShuttingDown)), "");
    let mut playing = waiting(&request("GET /live/a.flv", ""));
    input(&mut playing, Stamp::ZERO, Input::Playing(None));
    assert_eq!(input(&mut playing, Stamp::ZERO, Input::Closing(CloseReason::Kicked)), "");
    for (reason, code) in [(CloseReason::ShuttingDown, 1001), (CloseReason::Kicked, 1008), (CloseReason::Stalled, 1008)] {
        let mut viewer = playing_websocket();
        let mut out = Vec::new();
        viewer.handle(Stamp::ZERO, Input::Closing(reason), &mut out).unwrap();
        assert_eq!(out, [Output::Send(close_frame(Some(code)))]);
    }
}

#[test]
fn silence_times_out_once_and_then_closes_quietly() {
    let limit = Config::default().limits.handshake_ms_max;
    let late = Stamp::from_millis(limit);
    let error = |session: &mut HttpSession, out: &mut Vec<Output>| session.handle(late, Input::Timeout, out).unwrap_err();

    let mut silent = session();
    assert_eq!(silent.next_timeout(), Some(late));
    assert_eq!(input(&mut silent, Stamp::from_millis(limit - 1), Input::Timeout), "");
    let mut out = Vec::new();
    let failed = error(&mut silent, &mut out);
    assert_eq!((failed.fault, failed.reason, out.len()), (Fault::TimedOut, "request_timeout", 0));

    let mut slow = session();
    assert_eq!(feed(&mut slow, b"GET / HTTP/1.1\r\nHost: ".chunks(1)), "");
    assert_eq!(slow.next_timeout(), Some(late), "bytes do not move the deadline");
    assert_eq!(error(&mut slow, &mut out).reason, "request_timeout");
    assert_eq!(show(&out), cors_error("408 Request Timeout", true, "no complete request came in time"));

    let mut kept = session();
    let head = request("HEAD /live/a.flv", "");
    let answered_at = Stamp::from_millis(limit / 2);
    assert_eq!(input(&mut kept, Stamp::ZERO, Input::Bytes(head.as_bytes())), "[describe live/a]");
    assert_eq!(kept.next_timeout(), None, "the shard looks after it");
    assert_eq!(input(&mut kept, answered_at, Input::Described(&aac())), HEAD_ANSWER);
    assert_eq!(kept.next_timeout(), Some(answered_at.after_millis(limit)));
    assert_eq!(input(&mut kept, answered_at.after_millis(limit), Input::Timeout), "[close]");
}

/// A stream of nothing but AAC.
fn aac() -> Tracks {
    let shape = TrackShape::Audio { sample_rate: 48_000, channels: 2 };
    let track = Track { id: TrackId(0), codec: Codec::Aac, config: Bytes::from_static(&[0x11, 0x90]), shape };
    Tracks::new(vec![track], Bytes::new())
}

#[test]
fn a_head_is_answered_when_the_stream_is_there_or_is_not() {
    let not_found = |message| cors_error("404 Not Found", false, message).split_once('{').unwrap().0.to_owned();
    let absent = Input::Refused(Refusal::NotFound);
    let rows = [
        ("/live/a.flv", "", Input::Described(&aac()), HEAD_ANSWER.to_owned()),
        ("/live/a.flv", "Connection: close\r\n", Input::Described(&aac()), format!("{FLV_HEAD}[close]")),
        ("/live/a.mp4", "", Input::Described(&aac()), HEAD_ANSWER.replace("x-flv", "mp4")),
        ("/live/a.ts", "", Input::Described(&aac()), HEAD_ANSWER.replace("x-flv", "mp2t")),
        ("/live/a.aac", "", Input::Described(&aac()), HEAD_ANSWER.replace("video/x-flv", "audio/aac")),
        ("/live/a.mp3", "", Input::Described(&aac()), not_found("the stream has nothing that can be had in this form")),
        ("/live/a.ts", "", absent, not_found("no such stream")),
        ("/live/a.ts", "", Input::Ended, not_found("no such stream")),
    ];
    for (path, headers, told, expected) in rows {
        let mut session = session();
        let head = request(&format!("HEAD {path}"), headers);
        assert_eq!(feed(&mut session, [head.as_bytes()]), "[describe live/a]", "{path}");
        // What comes meanwhile is answered behind it.
        let next = request("OPTIONS /", "");
        assert_eq!(feed(&mut session, next.as_bytes().chunks(5)), "", "{path}");
        let is_kept = !expected.ends_with("[close]");
        let behind = if is_kept { format!("{OPTIONS_ANSWER}\n") } else { String::new() };
        assert_eq!(input(&mut session, Stamp::ZERO, told), format!("{expected}{behind}"), "{path}");
    }
}

#[test]
fn an_idle_connection_owns_no_buffer() {
    let mut session = session();
    assert_eq!(session.head.capacity(), 0);
    feed(&mut session, [&b"OPTIONS / HT"[..], b"TP/1.1\r\nHost: x\r\n\r\n"]);
    assert_eq!(session.head.capacity(), 0);
    assert!(size_of::<HttpSession>() < 256, "{} bytes", size_of::<HttpSession>());
}

fn playing_websocket() -> HttpSession {
    let mut session = waiting(&websocket("/live/a.flv", "13", ""));
    input(&mut session, Stamp::ZERO, Input::Playing(None));
    session
}

#[test]
fn the_websocket_handshake_of_the_rfc() {
    for (offer, echo) in [("", ""), ("Sec-WebSocket-Protocol: chat, superchat\r\n", "Sec-WebSocket-Protocol: chat\n")] {
        let mut session = waiting(&websocket("/live/a.flv", "13", offer));
        let expected = format!(
            "HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: Upgrade\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\n{echo}\n"
        );
        assert_eq!(input(&mut session, Stamp::ZERO, Input::Playing(None)), expected);
    }
}

#[test]
fn a_websocket_viewer_is_pinged_and_ends_with_1000() {
    let mut session = playing_websocket();
    let at = Stamp::from_millis(PING_MS);
    assert_eq!(session.next_timeout(), Some(at));
    let mut out = Vec::new();
    session.handle(at, Input::Timeout, &mut out).unwrap();
    assert_eq!(out, [Output::Send(Bytes::from_static(&[0x89, 0]))]);
    assert_eq!(session.next_timeout(), Some(at.after_millis(PING_MS)));
    out.clear();
    session.handle(at, Input::Ended, &mut out).unwrap();
    assert_eq!(out, [Output::Send(Bytes::from_static(&[0x88, 2, 0x03, 0xE8])), Output::Close]);
    assert_eq!(session.next_timeout(), None);
}

#[test]
fn a_broken_frame_is_answered_with_a_close_frame() {
    for (bytes, code, reason) in
        [(&[0x89, 0][..], 1002, "ws_unmasked"), (&[0x82, 0xFF, 0, 0, 0, 0, 1, 0, 0, 0, 1, 2, 3, 4], 1009, "ws_message_too_big")]
    {
        let mut session = playing_websocket();
        let mut out = Vec::new();
        let error = session.handle(Stamp::ZERO, Input::Bytes(bytes), &mut out).unwrap_err();
        assert_eq!((error.fault, error.reason), (Fault::Misbehaved, reason));
        assert_eq!(out, [Output::Send(close_frame(Some(code)))]);
    }
}

/// A transport with the session at its other end: what the client writes is handled at once, what the session sends can be read.
struct Loopback {
    session: HttpSession,
    to_client: Cursor<Vec<u8>>,
    closed: bool,
}

impl Loopback {
    fn carry(&mut self, input: Input<'_>) {
        let mut out = Vec::new();
        self.session.handle(Stamp::ZERO, input, &mut out).unwrap();
        for output in out {
            match output {
                Output::Send(bytes) => self.to_client.get_mut().extend_from_slice(&bytes),
                Output::Play(_) => self.carry(Input::Playing(None)),
                Output::Close => self.closed = true,
                _ => {}
            }
        }
    }
}

impl Read for Loopback {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.to_client.read(buffer)? {
            0 if !self.closed => Err(std::io::ErrorKind::WouldBlock.into()),
            len => Ok(len),
        }
    }
}

impl Write for Loopback {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.carry(Input::Bytes(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn tungstenite_is_content() {
    let transport = Loopback { session: session(), to_client: Cursor::new(Vec::new()), closed: false };
    let request = tungstenite::client::IntoClientRequest::into_client_request("ws://h/live/a.flv").unwrap();
    let handshake = ClientHandshake::start(transport, request, None).unwrap().handshake();
    let (mut client, response) = match handshake {
        Ok(done) => done,
        Err(HandshakeError::Interrupted(_)) => panic!("the handshake was not answered"),
        Err(HandshakeError::Failure(error)) => panic!("{error}"),
    };
    assert_eq!(response.status().as_u16(), 101);

    client.send(Message::Text("hello".into())).unwrap();
    client.send(Message::Ping("abc".into())).unwrap();
    assert_eq!(client.read().unwrap(), Message::Pong("abc".into()));
    client.get_mut().to_client.get_mut().extend_from_slice(&[0x82, 3, b'F', b'L', b'V']);
    assert_eq!(client.read().unwrap(), Message::Binary("FLV".into()));

    client.close(Some(CloseFrame { code: CloseCode::Normal, reason: "bye".into() })).unwrap();
    let Message::Close(Some(answer)) = client.read().unwrap() else { panic!("no close frame") };
    assert_eq!(answer.code, CloseCode::Normal);
    assert!(matches!(client.read(), Err(tungstenite::Error::ConnectionClosed)));
    assert!(client.get_ref().closed);
}

#[test]
fn users_are_asked_for() {
    use crate::config::{Auth, Rights, User};
    let user =
        |name: &str, play: &str| User { name: name.into(), password: "secret".into(), publish: vec![], play: vec![play.into()] };
    let auth = Auth {
        users: vec![user("ann", "live/*"), user("bob", "other/*")],
        anonymous: Rights { publish: vec![], play: vec!["open/*".into()] },
        failures_per_minute_max: 3,
        ..Auth::default()
    };
    let config = Config { auth, ..Config::default() };
    let challenge = "WWW-Authenticate: Basic realm=\"shardcast\"\nContent-Type";
    let unauthorized = cors_error("401 Unauthorized", false, "name and password are wanted").replace("Content-Type", challenge);
    let refused = cors_error("401 Unauthorized", false, "the name or the password is wrong").replace("Content-Type", challenge);
    let wrong = format!("[note wrong_password: may not play live/a: wrong name or password]{refused}");
    let forbidden = cors_error("403 Forbidden", false, "this user may not play this stream");
    let forbidden = format!("[note not_allowed: may not play live/a: this user has no right to]{forbidden}");
    let get = |path: &str, authorization: &str| {
        let header = if authorization.is_empty() { String::new() } else { format!("Authorization: {authorization}\r\n") };
        request(&format!("GET {path}"), &header)
    };
    let rows = [
        ("nobody", get("/live/a.flv", ""), unauthorized.clone()),
        ("nobody, open", get("/open/a.flv", ""), PLAY.replace("live/a", "open/a")),
        ("Basic", get("/live/a.flv", "Basic YW5uOnNlY3JldA=="), PLAY.to_owned()),
        ("Basic, wrong", get("/live/a.flv", "Basic YW5uOm9vcHM="), wrong.clone()),
        ("another scheme", get("/live/a.flv", "Bearer x"), unauthorized.clone()),
        ("query", get("/live/a.flv?user=ann&pass=secret", ""), PLAY.to_owned()),
        ("another scheme, and a query", get("/live/a.flv?user=ann&pass=secret", "Bearer x"), PLAY.to_owned()),
        ("query, wrong", get("/live/a.flv?user=ann&pass=x", ""), wrong.clone()),
        ("not that stream", get("/live/a.flv?user=bob&pass=secret", ""), forbidden),
        ("HEAD", request("HEAD /live/a.flv", ""), unauthorized.split_once('{').unwrap().0.to_owned()),
        ("preflight", request("OPTIONS /live/a.flv", ""), format!("{OPTIONS_ANSWER}\n")),
    ];
    for (name, said, expected) in rows {
        assert_eq!(feed(&mut session_with(config.clone()), [said.as_bytes()]), expected, "{name}");
    }
    let mut digest_only = config.clone();
    digest_only.auth.basic = false;
    let not_asked =
        cors_error("403 Forbidden", false, "this stream needs a name, and passwords in clear are not taken (auth.basic)");
    let nameless = format!("[note no_password: may not play live/a: no name and password]{not_asked}");
    let named = format!("[note wrong_password: may not play live/a: wrong name or password]{not_asked}");
    let rows = [
        ("nobody", get("/live/a.flv", ""), nameless.clone()),
        ("nobody, open", get("/open/a.flv", ""), PLAY.replace("live/a", "open/a")),
        ("Basic", get("/live/a.flv", "Basic YW5uOnNlY3JldA=="), named.clone()),
        ("Digest", get("/live/a.flv", "Digest username=\"ann\""), nameless),
        ("query", get("/live/a.flv?user=ann&pass=secret", ""), named),
    ];
    for (name, said, expected) in rows {
        assert_eq!(feed(&mut session_with(digest_only.clone()), [said.as_bytes()]), expected, "without Basic: {name}");
    }
    let mut session = session_with(config);
    let said = get("/live/a.flv?user=ann&pass=x", "");
    for expected in [&wrong, &refused, &refused] {
        assert_eq!(&feed(&mut session, [said.as_bytes()]), expected, "told once");
    }
    let throttled = cors_error("429 Too Many Requests", false, "too many wrong passwords");
    assert_eq!(feed(&mut session, [get("/live/a.flv?user=ann&pass=secret", "").as_bytes()]), throttled, "even the right one");
}

/// A tunnel is a way to RTSP: where nobody listens for RTSP in the clear, the HTTP port leads there neither.
#[test]
fn halves_of_a_tunnel_become_rtsp_where_that_is_served() {
    let said = b"GET /live/a HTTP/1.0\r\nx-sessioncookie: c\r\n\r\n";
    for cut in 0..said.len() {
        let mut session = session();
        let mut out = Vec::new();
        for piece in [&said[..cut], &said[cut..]] {
            session.handle(Stamp::ZERO, Input::Bytes(piece), &mut out).unwrap();
        }
        let [Output::Become { protocol: "rtsp", bytes }] = &out[..] else { panic!("cut at {cut}: {out:?}") };
        assert_eq!(bytes, &said[..], "cut at {cut}");
    }
    let mut config = Config::default();
    config.rtsp.tls_listen = std::mem::take(&mut config.rtsp.listen);
    let refused = format!("{}[close]", cors_error("404 Not Found", true, "nothing is here"));
    assert_eq!(feed(&mut session_with(config), [&said[..]]), refused);
}
