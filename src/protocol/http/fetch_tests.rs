//! What players ask of HLS over HTTP, and what they are answered.

use super::*;
use crate::config::{Auth, Config, User};
use crate::protocol::SessionContext;
use crate::session::fetch::Packing;
use crate::session::{Input, Session as _};

fn session_with(config: Config) -> HttpSession {
    HttpSession::new(&SessionContext::lone(config, ([127, 0, 0, 1], 5000).into()), Stamp::ZERO)
}

fn session() -> HttpSession {
    session_with(Config::default())
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
}

fn input(session: &mut HttpSession, input: Input<'_>) -> Vec<Output> {
    let mut out = Vec::new();
    if let Err(error) = session.handle(Stamp::ZERO, input, &mut out) {
        out.push(Output::Note { reason: Some(error.reason), message: String::new() });
    }
    out
}

fn ask(session: &mut HttpSession, request: &str) -> Vec<Output> {
    input(session, Input::Bytes(request.as_bytes()))
}

/// What is fetched for a request, if it is the only consequence.
fn fetched_for(session: &mut HttpSession, request: &str) -> Option<FetchRequest> {
    match &ask(session, request)[..] {
        [Output::Fetch(fetch)] => Some((**fetch).clone()),
        _ => None,
    }
}

fn status(out: &[Output]) -> u16 {
    match out.iter().find_map(|output| if let Output::Send(bytes) = output { Some(bytes) } else { None }) {
        Some(bytes) => std::str::from_utf8(&bytes[9..12]).unwrap().parse().unwrap(),
        None => 0,
    }
}

fn head(out: &[Output]) -> String {
    match out.first() {
        Some(Output::Send(bytes)) => String::from_utf8(bytes.to_vec()).unwrap().replace("\r\n", "\n"),
        other => panic!("{other:?}"),
    }
}

fn body(out: &[Output]) -> Option<Vec<u8>> {
    out.iter().find_map(|output| if let Output::Body(pieces) = output { Some(pieces.concat()) } else { None })
}

fn segment() -> Body {
    let pieces: Arc<[Bytes]> = [Bytes::from_static(b"01234"), Bytes::from_static(b"56789")].into();
    Body::segment(pieces, Content::Fmp4, 0xAB)
}

fn text() -> Body {
    Body::text("#EXTM3U\n".to_owned(), Lifetime::Checked, Some(0xCD))
}

/// The answer to a request for a segment or a playlist.
fn answer(path: &str, headers: &str, body: Body) -> Vec<Output> {
    let mut session = session();
    assert!(fetched_for(&mut session, &get(path, headers)).is_some(), "{path}");
    input(&mut session, Input::Fetched(Fetched::Body(body)))
}

const SEGMENT: &str = "/live/a/seg-e-5.m4s";
const PLAYLIST: &str = "/live/a/media.m3u8";

#[test]
fn paths_name_streams_and_pieces() {
    let playlist = |packing, wanted, skip| Resource::Playlist { packing, wanted, skip };
    let fmp4 = Packing::Fmp4;
    let place = |msn, part| Some(Place { msn, part });
    let cases = [
        ("/live/a/index.m3u8", "live/a", Resource::Multivariant(fmp4)),
        ("/live/a/ts.m3u8", "live/a", Resource::Multivariant(Packing::Ts)),
        ("/a/b/c/media.m3u8", "a/b/c", playlist(fmp4, None, false)),
        ("/live/%E6%91%84/media-ts.m3u8?x=1", "live/摄", playlist(Packing::Ts, None, false)),
        ("/live/a/media.m3u8?_HLS_msn=7&_HLS_part=3&_HLS_skip=YES", "live/a", playlist(fmp4, place(7, Some(3)), true)),
        ("/live/a/media.m3u8?_HLS_skip=v2&_HLS_msn=7", "live/a", playlist(fmp4, place(7, None), true)),
        ("/live/a/media.m3u8?_HLS_skip=no", "live/a", playlist(fmp4, None, false)),
        ("/live/a/media.m3u8?_HLS_msn=7&_HLS_part=99999999999", "live/a", playlist(fmp4, place(7, Some(u32::MAX)), false)),
        ("/live/a/init-e-1.mp4", "live/a", Resource::Init { epoch: 14, number: 1 }),
        ("/live/a/seg-e-5.m4s", "live/a", Resource::Segment { epoch: 14, packing: fmp4, msn: 5 }),
        ("/live/a/seg-e-5.ts", "live/a", Resource::Segment { epoch: 14, packing: Packing::Ts, msn: 5 }),
        ("/live/a/part-e-5-0.m4s?token=t", "live/a", Resource::Part { epoch: 14, msn: 5, part: 0 }),
    ];
    for (path, key, resource) in cases {
        let fetch = fetched_for(&mut session(), &get(path, "")).unwrap_or_else(|| panic!("{path}"));
        assert_eq!((fetch.key.as_str(), fetch.resource), (key, resource), "{path}");
    }
}

#[test]
fn names_that_no_stream_can_have_are_refused() {
    let cases = [
        ("/index.m3u8", 404),
        ("/live/index.m3u8", 400),
        ("/live//a/index.m3u8", 400),
        ("/live/../a/index.m3u8", 400),
        ("/../../etc/index.m3u8", 400),
        ("/live/%2e%2e/a/index.m3u8", 400),
        ("/live/a%2f..%2fb/index.m3u8", 400),
        ("/live/a%00/index.m3u8", 400),
        ("/live/a%/index.m3u8", 400),
        ("/live/a%5Cb/seg-e-1.m4s", 400),
        ("/live/a/%2e%2e%2findex.m3u8", 404),
        ("/live/a/index.m3u8%00", 404),
        ("/live/a/seg-e-01.m4s", 404),
        ("/live/a/seg-e-5.m4s/", 404),
        ("/live/a/media.m3u8?_HLS_part=1", 400),
        ("/live/a/media.m3u8?_HLS_msn=x", 400),
        ("/live/a/media.m3u8?_HLS_msn=-1", 400),
        ("/live/a/media.m3u8?_HLS_msn=1&_HLS_part=", 400),
        ("/live/a/other.m3u8", 404),
    ];
    for (path, expected) in cases {
        let out = ask(&mut session(), &get(path, ""));
        assert_eq!(status(&out), expected, "{path}: {out:?}");
    }
    let out = ask(&mut session(), "POST /live/a/index.m3u8 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(status(&out), 405);
    assert_eq!(status(&ask(&mut session(), "OPTIONS /live/a/index.m3u8 HTTP/1.1\r\nHost: x\r\n\r\n")), 204);
    let mut config = Config::default();
    config.hls.enabled = false;
    assert_eq!(status(&ask(&mut session_with(config), &get("/live/a/index.m3u8", ""))), 404);
}

#[test]
fn a_stream_may_be_called_like_a_segment() {
    let out = ask(&mut session(), &get("/live/seg-e-5.ts", ""));
    assert!(matches!(&out[..], [Output::Play(play)] if play.key.as_str() == "live/seg-e-5"), "{out:?}");
}

#[test]
fn responses() {
    let playlist = answer(PLAYLIST, "", text());
    let expected = "HTTP/1.1 200 OK\nAccess-Control-Allow-Origin: *\nAccess-Control-Expose-Headers: Content-Length, Content-Range, ETag\n\
                    Cache-Control: no-cache\nETag: \"00000000000000cd\"\nVary: Accept-Encoding\n\
                    Content-Type: application/vnd.apple.mpegurl\nContent-Length: 8\n\n";
    assert_eq!((head(&playlist).as_str(), body(&playlist)), (expected, Some(b"#EXTM3U\n".to_vec())));
    let out = answer(SEGMENT, "", segment());
    let expected = "HTTP/1.1 200 OK\nAccess-Control-Allow-Origin: *\nAccess-Control-Expose-Headers: Content-Length, Content-Range, ETag\n\
                    Cache-Control: public, max-age=3600, immutable\nETag: \"00000000000000ab\"\n\
                    Content-Type: video/iso.segment\nAccept-Ranges: bytes\nContent-Length: 10\n\n";
    assert_eq!((head(&out).as_str(), body(&out)), (expected, Some(b"0123456789".to_vec())));
    let gzip = answer(PLAYLIST, "", Body { gzip: true, ..text() });
    assert!(head(&gzip).contains("Content-Encoding: gzip\n"));
    let waited = answer(PLAYLIST, "", Body { lifetime: Lifetime::Seconds(12), ..text() });
    assert!(head(&waited).contains("Cache-Control: public, max-age=12\n"));
    let personal = answer(PLAYLIST, "", Body { lifetime: Lifetime::None, tag: None, ..text() });
    assert!(head(&personal).contains("Cache-Control: no-store\n") && !head(&personal).contains("\nETag:"));
}

#[test]
fn what_a_client_has_is_not_sent_again() {
    let tag = "\"00000000000000cd\"";
    let cases = [
        (tag.to_owned(), 304),
        (format!("W/{tag}"), 304),
        (format!("\"x\", {tag}"), 304),
        ("*".to_owned(), 304),
        ("\"x\"".to_owned(), 200),
        ("00000000000000cd".to_owned(), 200),
    ];
    for (value, expected) in cases {
        let out = answer(PLAYLIST, &format!("If-None-Match: {value}\r\n"), text());
        assert_eq!(status(&out), expected, "{value}");
        assert_eq!(body(&out).is_none(), expected == 304);
        assert!(!head(&out).contains("\nContent-Length:") || expected == 200);
    }
}

#[test]
fn ranges_of_segments() {
    let cases = [
        ("bytes=0-3", 206, Some(("bytes 0-3/10", "0123"))),
        ("bytes=3-6", 206, Some(("bytes 3-6/10", "3456"))),
        ("bytes=7-", 206, Some(("bytes 7-9/10", "789"))),
        ("bytes=-4", 206, Some(("bytes 6-9/10", "6789"))),
        ("bytes=-99", 206, Some(("bytes 0-9/10", "0123456789"))),
        ("bytes=5-99999999999999999999999", 206, Some(("bytes 5-9/10", "56789"))),
        ("bytes=10-", 416, Some(("bytes */10", ""))),
        ("bytes=-0", 416, Some(("bytes */10", ""))),
        ("bytes=6-3", 200, None),
        ("bytes=0-1,3-4", 200, None),
        ("bytes=a-b", 200, None),
        ("bytes=", 200, None),
        ("lines=0-1", 200, None),
    ];
    for (range, expected, content) in cases {
        let out = answer(SEGMENT, &format!("Range: {range}\r\n"), segment());
        assert_eq!(status(&out), expected, "{range}");
        if let Some((content_range, bytes)) = content {
            assert!(head(&out).contains(&format!("Content-Range: {content_range}\n")), "{range}: {}", head(&out));
            assert_eq!(body(&out).unwrap_or_default(), bytes.as_bytes(), "{range}");
            assert!(head(&out).contains(&format!("Content-Length: {}\n", bytes.len())), "{range}");
        }
    }
    let with = |if_range: &str| status(&answer(SEGMENT, &format!("Range: bytes=0-3\r\nIf-Range: {if_range}\r\n"), segment()));
    assert_eq!((with("\"00000000000000ab\""), with("\"other\"")), (206, 200));
    assert_eq!(status(&answer(PLAYLIST, "Range: bytes=0-3\r\n", text())), 200, "no ranges of playlists");
}

#[test]
fn head_requests_have_no_body() {
    let mut session = session();
    let request = format!("HEAD {SEGMENT} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-3\r\n\r\n");
    assert!(fetched_for(&mut session, &request).is_some());
    let out = input(&mut session, Input::Fetched(Fetched::Body(segment())));
    assert_eq!((status(&out), body(&out), out.len()), (200, None, 1));
    assert!(head(&out).contains("Content-Length: 10\n"));
    assert!(fetched_for(&mut session, &get(PLAYLIST, "")).is_some(), "and the connection goes on");
}

#[test]
fn what_cannot_be_had_has_a_status() {
    let cases = [
        (Fetched::NotFound, 404),
        (Fetched::Expired, 401),
        (Fetched::TooFar, 400),
        (Fetched::TimedOut, 503),
        (Fetched::Busy, 503),
        (Fetched::ShuttingDown, 503),
    ];
    for (fetched, expected) in cases {
        let mut session = session();
        assert!(fetched_for(&mut session, &get(PLAYLIST, "")).is_some());
        let out = input(&mut session, Input::Fetched(fetched.clone()));
        assert_eq!(status(&out), expected, "{fetched:?}");
        assert!(head(&out).contains("Cache-Control: no-cache\n"));
        assert!(fetched_for(&mut session, &get(PLAYLIST, "")).is_some(), "and the connection goes on");
    }
    assert!(input(&mut session(), Input::Fetched(Fetched::NotFound)).is_empty(), "nobody has asked");
    assert!(input(&mut session(), Input::Sent).is_empty());
}

#[test]
fn requests_are_answered_one_after_the_other() {
    let mut session = session();
    let many = get(SEGMENT, "") + &get(PLAYLIST, "") + &get("/nothing", "Connection: close\r\n");
    let mut out = ask(&mut session, &many);
    assert!(matches!(&out[..], [Output::Fetch(_)]), "{out:?}");
    out = input(&mut session, Input::Fetched(Fetched::Body(segment())));
    assert_eq!((out.len(), body(&out).is_some()), (2, true), "the rest waits until it is sent");
    out = input(&mut session, Input::Sent);
    assert!(matches!(&out[..], [Output::Fetch(fetch)] if fetch.resource.playlist().is_some()), "{out:?}");
    out = input(&mut session, Input::Fetched(Fetched::NotFound));
    assert_eq!((status(&out), out.last()), (404, Some(&Output::Close)));
}

#[test]
fn what_waits_and_what_is_sent_is_bounded() {
    let mut one = session();
    assert!(fetched_for(&mut one, &get(SEGMENT, "")).is_some());
    assert!(ask(&mut one, &"x".repeat(HELD_BYTES_MAX)).is_empty());
    assert_eq!(one.held_bytes(), HELD_BYTES_MAX);
    let out = ask(&mut one, "x");
    assert!(matches!(&out[..], [Output::Note { reason: Some("excess_bytes"), .. }]), "{out:?}");
    let mut slow = session();
    assert!(fetched_for(&mut slow, &get(SEGMENT, "")).is_some());
    assert_eq!(slow.next_timeout(), None, "the shard limits waiting");
    input(&mut slow, Input::Fetched(Fetched::Body(segment())));
    let deadline = slow.next_timeout().unwrap();
    assert_eq!(deadline, Stamp::from_millis(SENDING_MS_MAX));
    let error = slow.handle(deadline, Input::Timeout, &mut Vec::new()).unwrap_err();
    assert_eq!(error.reason, "response_timeout");
}

#[test]
fn sessions_tell_viewers_apart() {
    let mut one = session();
    let first = fetched_for(&mut one, &get("/live/a/index.m3u8", "")).unwrap();
    input(&mut one, Input::Fetched(Fetched::NotFound));
    let second = fetched_for(&mut one, &get("/live/a/index.m3u8", "")).unwrap();
    input(&mut one, Input::Fetched(Fetched::NotFound));
    assert_ne!(first.viewer, second.viewer);
    assert_eq!((&*first.suffix, first.session.len()), ("", 16));
    let again = fetched_for(&mut one, &get(&format!("{PLAYLIST}?session={}", first.session), "")).unwrap();
    input(&mut one, Input::Fetched(Fetched::NotFound));
    assert_eq!(again.viewer, first.viewer);
    let without = |one: &mut HttpSession| {
        let viewer = fetched_for(one, &get(PLAYLIST, "")).unwrap().viewer;
        input(one, Input::Fetched(Fetched::NotFound));
        viewer
    };
    assert_eq!(without(&mut one), without(&mut one), "by the connection");
    for made_up in ["", "x", "0123456789abcde", "+123456789abcdef", "摄摄摄摄摄摄"] {
        let mut other = session();
        let fetch = fetched_for(&mut other, &get(&format!("{PLAYLIST}?session={made_up}"), ""));
        assert!(fetch.is_some(), "{made_up:?}");
    }
}

#[test]
fn compression_is_asked_for() {
    let cases = [
        ("", false),
        ("Accept-Encoding: gzip\r\n", true),
        ("Accept-Encoding: deflate, GZIP;q=0.5\r\n", true),
        ("Accept-Encoding: gzip;q=0\r\n", false),
        ("Accept-Encoding: gzip; q=0.000\r\n", false),
        ("Accept-Encoding: identity\r\n", false),
    ];
    for (headers, expected) in cases {
        assert_eq!(fetched_for(&mut session(), &get(PLAYLIST, headers)).unwrap().gzip, expected, "{headers:?}");
    }
}

#[test]
fn signed_sessions_hold_instead_of_passwords() {
    let user = |name: &str, play: &str| User {
        name: name.to_owned(),
        password: "secret".to_owned(),
        publish: Vec::new(),
        play: vec![play.to_owned()],
    };
    let config = Config { auth: Auth { users: vec![user("ann", "live/*")], ..Auth::default() }, ..Config::default() };
    let ask_for = |path: &str| {
        let mut session = session_with(config.clone());
        let out = ask(&mut session, &get(path, ""));
        match out.into_iter().next() {
            Some(Output::Fetch(fetch)) => Ok((session, *fetch)),
            Some(Output::Send(bytes)) => Err(status(&[Output::Send(bytes)])),
            other => panic!("{other:?}"),
        }
    };
    for path in ["/live/a/index.m3u8", PLAYLIST, SEGMENT, "/live/a/init-e-1.mp4", "/live/a/part-e-5-0.m4s"] {
        assert_eq!(ask_for(path).err(), Some(401), "{path}");
    }
    let (mut session, master) = ask_for("/live/a/index.m3u8?user=ann&pass=secret").unwrap();
    let out = input(&mut session, Input::Fetched(Fetched::Body(Body { lifetime: Lifetime::Seconds(12), ..text() })));
    assert!(head(&out).contains("Cache-Control: private, max-age=12\n"));
    let (_, media) = ask_for(&format!("{PLAYLIST}?session={}", master.session)).unwrap();
    assert_eq!((media.viewer, &media.session), (master.viewer, &master.session));
    for path in [SEGMENT, "/live/a/seg-e-5.ts", "/live/a/init-e-1.mp4", "/live/a/part-e-5-0.m4s"] {
        let (mut session, _) = ask_for(&format!("{path}{}", media.suffix)).unwrap();
        let body = Body { lifetime: Lifetime::Immutable, ..text() };
        let out = input(&mut session, Input::Fetched(Fetched::Body(body)));
        assert!(
            head(&out).contains("Cache-Control: public, max-age=3600, immutable\n"),
            "{path}: a cache serves all of its address"
        );
        let (mut session, _) = ask_for(&format!("{path}?user=ann&pass=secret")).unwrap();
        let body = Body { lifetime: Lifetime::Immutable, ..text() };
        let out = input(&mut session, Input::Fetched(Fetched::Body(body)));
        assert!(head(&out).contains("Cache-Control: private, max-age=3600, immutable\n"), "{path}: passwords are one viewer's");
        assert!(ask_for(&format!("{path}?session={}", media.session)).is_ok(), "{path}");
    }
    let forged = format!("{:016x}{}", master.viewer + 1, &master.session[16..]);
    assert_eq!(master.session.len(), 64);
    let refused = [
        format!("{PLAYLIST}?session={forged}"),
        format!("{PLAYLIST}?session={}", &master.session[..16]),
        format!("{PLAYLIST}{}", media.suffix),
        format!("/live/b/media.m3u8?session={}", master.session),
        format!("/live/b/seg-e-5.m4s{}", media.suffix),
        format!("{SEGMENT}?token="),
        format!("{SEGMENT}?token={}", &media.suffix[8..]),
    ];
    for path in refused {
        assert_eq!(ask_for(&path).err(), Some(401), "{path}");
    }
}

#[test]
fn sessions_and_tokens_grow_old() {
    const HOUR_MS: u64 = 3_600_000;
    let user = User { name: "ann".into(), password: "a+b c".into(), publish: Vec::new(), play: vec!["live/*".into()] };
    let config = Config { auth: Auth { users: vec![user], ..Auth::default() }, ..Config::default() };
    assert_eq!(config.hls.session_ms, 24 * HOUR_MS);
    let ask_at = |ms: u64, path: &str| {
        let (mut session, mut out) = (session_with(config.clone()), Vec::new());
        session.handle(Stamp::from_millis(ms), Input::Bytes(get(path, "").as_bytes()), &mut out).unwrap();
        match out.into_iter().find(|output| !matches!(output, Output::Note { .. })) {
            Some(Output::Fetch(fetch)) => Ok(*fetch),
            Some(Output::Send(bytes)) => Err(status(&[Output::Send(bytes)])),
            other => panic!("{other:?}"),
        }
    };
    let began = 30 * HOUR_MS;
    let given = ask_at(began, "/live/a/index.m3u8?user=ann&pass=a%2Bb%20c").unwrap();
    let path = format!("{PLAYLIST}?session={}", given.session);
    // How long after it was given, and whether the owner must know the viewer.
    for (ms, is_expired) in
        [(0, false), (HOUR_MS, false), (24 * HOUR_MS, false), (24 * HOUR_MS + 1, true), (1_000 * HOUR_MS, true)]
    {
        let fetch = ask_at(began + ms, &path).unwrap();
        assert_eq!((fetch.viewer, fetch.is_expired), (given.viewer, is_expired), "{ms}");
    }
    let late = began + 25 * HOUR_MS;
    assert_eq!(ask_at(late, &path.replace("media.m3u8", "index.m3u8")).err(), Some(401));
    let again = ask_at(late, &format!("{path}&user=ann&pass=a%2Bb+c")).unwrap();
    assert!(!again.is_expired && again.session != given.session, "credentials make it young");
    assert!(ask_at(late, &format!("{path}&user=ann&pass=a%2Bb%20c")).is_ok());
    assert_eq!(ask_at(late, &format!("{path}&user=ann&pass=wrong")).err(), Some(401));
    let mut other_time = given.session.to_string();
    other_time.replace_range(16..32, &format!("{:016x}", Stamp::from_millis(late).as_nanos()));
    assert_eq!(ask_at(late, &format!("{PLAYLIST}?session={other_time}")).err(), Some(401), "a time of one's own");
    // Tokens of segments change with the day, and hold for that one and the next.
    let segment = format!("{SEGMENT}{}", given.suffix);
    for (hours, expected) in [(0, true), (17, true), (41, true), (42, false), (1_000, false)] {
        assert_eq!(ask_at(began + hours * HOUR_MS, &segment).is_ok(), expected, "{hours} hours");
    }
}

#[test]
fn bytes_may_come_one_by_one() {
    let requests = get(SEGMENT, "Range: bytes=1-\r\n") + &get("/live/a/index.m3u8", "Connection: close\r\n");
    let run = |piece: usize| {
        let mut session = session();
        let mut all = Vec::new();
        for bytes in requests.as_bytes().chunks(piece) {
            all.extend(input(&mut session, Input::Bytes(bytes)));
        }
        all.extend(input(&mut session, Input::Fetched(Fetched::Body(segment()))));
        all.extend(input(&mut session, Input::Sent));
        all.extend(input(&mut session, Input::Fetched(Fetched::NotFound)));
        all
    };
    let whole = run(usize::MAX);
    assert_eq!(whole.last(), Some(&Output::Close));
    for piece in 1..requests.len() {
        assert_eq!(run(piece), whole, "{piece}");
    }
}
