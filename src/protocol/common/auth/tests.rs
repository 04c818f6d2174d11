//! Verdicts over credentials in clear, Basic and Digest; the order and form of challenges; staleness; throttling; patterns.

use md5::{Digest as _, Md5};

use super::*;
use crate::config::{Rights, User};

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const NOW: Stamp = Stamp::from_millis(1_000_000);
const DENIED: Verdict = Verdict::Denied { stale: false };
const STALE: Verdict = Verdict::Denied { stale: true };

fn config() -> Auth {
    let user = |name: &str, password: &str, publish: &[&str], play: &[&str]| {
        let owned = |patterns: &[&str]| patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        User { name: name.to_owned(), password: password.to_owned(), publish: owned(publish), play: owned(play) }
    };
    Auth {
        users: vec![
            user("camera", "secret", &["live/*"], &[]),
            user("viewer", "pass:word", &[], &["*"]),
            user("摄", "像头", &["live/*"], &["live/*"]),
        ],
        anonymous: Rights { publish: vec![], play: vec!["public/*".to_owned()] },
        failures_per_minute_max: 3,
        ..Auth::default()
    }
}

fn authority_with(change: impl FnOnce(&mut Auth)) -> Authority {
    let mut config = config();
    change(&mut config);
    Authority::new(&config, [7; 32])
}

fn authority() -> Authority {
    authority_with(|_| {})
}

fn key(text: &str) -> StreamKey {
    StreamKey::parse(text).unwrap()
}

fn basic(credentials: &str) -> String {
    format!("Basic {}", BASE64.encode(credentials))
}

fn md5(text: &str) -> String {
    Md5::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a client of RFC 2069 makes of a challenge.
fn answer(challenge: &str, name: &str, password: &str, method: &str, uri: &str) -> String {
    let field = |name: &str| challenge.split_once(&format!("{name}=\"")).unwrap().1.split_once('"').unwrap().0;
    let (realm, nonce) = (field("realm"), field("nonce"));
    let response = md5(&format!("{}:{nonce}:{}", md5(&format!("{name}:{realm}:{password}")), md5(&format!("{method}:{uri}"))));
    format!("Digest username=\"{name}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", response=\"{response}\"")
}

/// The answer to our MD5 challenge of the moment `at`.
fn digest(authority: &Authority, at: Stamp, name: &str, password: &str, method: &str, uri: &str) -> String {
    answer(&authority.challenges(at, PEER, false)[1], name, password, method, uri)
}

#[test]
fn without_users_everything_is_granted() {
    let authority = Authority::new(&Auth::default(), [0; 32]);
    for right in [Right::Publish, Right::Play] {
        for header in [None, Some("Basic !"), Some("Digest x"), Some("")] {
            assert_eq!(authority.check_header(NOW, PEER, header, "PLAY", right, &key("a/b")), Verdict::Granted);
        }
        for credentials in [None, Some(("x", "y"))] {
            assert_eq!(authority.check_password(NOW, PEER, credentials, right, &key("a/b")), Verdict::Granted);
        }
    }
}

#[test]
fn passwords_in_clear() {
    use Right::*;
    use Verdict::*;
    let cases = [
        ("publisher", Some(("camera", "secret")), Publish, "live/a", Granted),
        ("deeper", Some(("camera", "secret")), Publish, "live/room/a", Granted),
        ("elsewhere", Some(("camera", "secret")), Publish, "other/a", Forbidden),
        ("publisher plays", Some(("camera", "secret")), Play, "live/a", Forbidden),
        ("viewer", Some(("viewer", "pass:word")), Play, "other/a", Granted),
        ("viewer publishes", Some(("viewer", "pass:word")), Publish, "live/a", Forbidden),
        ("not ASCII", Some(("摄", "像头")), Publish, "live/a", Granted),
        ("wrong password", Some(("camera", "Secret")), Publish, "live/a", DENIED),
        ("another's password", Some(("camera", "pass:word")), Publish, "live/a", DENIED),
        ("longer password", Some(("camera", "secret ")), Publish, "live/a", DENIED),
        ("no password", Some(("camera", "")), Publish, "live/a", DENIED),
        ("unknown user", Some(("nobody", "secret")), Publish, "live/a", DENIED),
        ("the name of nobody", Some((":", "secret")), Publish, "live/a", DENIED),
        ("nothing", Some(("", "")), Play, "live/a", DENIED),
        ("anonymous", None, Play, "live/a", DENIED),
        ("anonymous publisher", None, Publish, "public/a", DENIED),
        ("anonymous, public", None, Play, "public/a", Granted),
        ("wrong, public", Some(("x", "y")), Play, "public/a", DENIED),
    ];
    for (name, credentials, right, stream, expected) in cases {
        assert_eq!(authority().check_password(NOW, PEER, credentials, right, &key(stream)), expected, "{name}");
        let header = credentials.map(|(name, password)| basic(&format!("{name}:{password}")));
        if credentials.is_none_or(|(name, _)| !name.contains(':')) {
            let verdict = authority().check_header(NOW, PEER, header.as_deref(), "PLAY", right, &key(stream));
            assert_eq!(verdict, expected, "{name}, Basic");
        }
    }
}

#[test]
fn switched_off_basic_is_not_looked_at() {
    let authority = authority_with(|config| config.basic = false);
    for _ in 0..10 {
        let verdict = authority.check_password(NOW, PEER, Some(("camera", "secret")), Right::Publish, &key("live/a"));
        assert_eq!(verdict, DENIED);
    }
    assert_eq!(authority.challenges(NOW, PEER, false).len(), 2);
    assert_eq!(authority.basic_challenge(), None);
    let header = digest(&authority, NOW, "camera", "secret", "RECORD", "/live/a");
    let verdict = authority.check_header(NOW, PEER, Some(&header), "RECORD", Right::Publish, &key("live/a"));
    assert_eq!(verdict, Verdict::Granted);
}

#[test]
fn headers_that_are_no_credentials_are_denied_and_not_counted() {
    let authority = authority();
    let headers = ["", " ", "Basic", "Basic !", "Basic YQ==", "Bearer x", "Digest", "Digest username=\"camera\"", "Negotiate"];
    for header in headers.iter().chain(&headers) {
        let verdict = authority.check_header(NOW, PEER, Some(header), "PLAY", Right::Play, &key("public/a"));
        assert_eq!(verdict, DENIED, "{header:?}");
    }
    for header in [basic("camera:secret"), basic("camera:secret").replace("Basic", " bASIC ")] {
        let verdict = authority.check_header(NOW, PEER, Some(&header), "RECORD", Right::Publish, &key("live/a"));
        assert_eq!(verdict, Verdict::Granted, "{header}");
    }
}

#[test]
fn challenges_stand_in_the_order_that_clients_need() {
    let challenges = authority().challenges(NOW, PEER, false);
    let nonce = authority().nonces().make(NOW, PEER);
    let digest = format!("Digest realm=\"shardcast\", nonce=\"{nonce}\"");
    let sha256 = format!("{digest}, algorithm=SHA-256");
    let basic = "Basic realm=\"shardcast\"".to_owned();
    assert_eq!(challenges, [sha256.clone(), digest.clone(), basic.clone()]);
    let stale = authority().challenges(NOW, PEER, true);
    assert_eq!(stale, [format!("{digest}, stale=true, algorithm=SHA-256"), format!("{digest}, stale=true"), basic.clone()]);
    let modern = authority_with(|config| config.digest = DigestAlgorithms::Sha256);
    assert_eq!(modern.challenges(NOW, PEER, false), [sha256, basic]);
}

#[test]
fn digests_belong_to_a_method_and_a_stream() {
    use Verdict::*;
    let authority = authority_with(|config| config.failures_per_minute_max = 100);
    let url = "rtsp://h:8554/live/a";
    let cases = [
        ("the same", url, Granted),
        ("a track", "rtsp://h:8554/live/a/trackID=1", Granted),
        ("trailing slash", "rtsp://h:8554/live/a/", Granted),
        ("only a path", "/live/a", Granted),
        ("a bare path", "live/a", Granted),
        ("a query", "rtsp://h/live/a?token=x", Granted),
        ("a track behind a query", "rtsp://h/live/a?token=x/streamid=0", Granted),
        ("percent-encoded", "rtsp://h/l%69ve/a", Granted),
        ("another stream", "rtsp://h/live/b", DENIED),
        ("a longer name", "rtsp://h/live/ab", DENIED),
        ("only the app", "rtsp://h/live", DENIED),
        ("only the host", "rtsp://h", DENIED),
        ("everything", "*", DENIED),
        ("in the query", "rtsp://h/live/b?/live/a", DENIED),
        ("in the host", "rtsp://live/a", DENIED),
        ("broken encoding", "rtsp://h/live/a%", DENIED),
        ("empty", "", DENIED),
    ];
    for (name, uri, expected) in cases {
        let header = digest(&authority, NOW, "camera", "secret", "ANNOUNCE", uri);
        let check = |method| authority.check_header(NOW, PEER, Some(&header), method, Right::Publish, &key("live/a"));
        assert_eq!((check("ANNOUNCE"), check("RECORD")), (expected, DENIED), "{name}");
    }
}

#[test]
fn digests_of_users() {
    use Verdict::*;
    let cases = [
        ("right", "camera", "secret", Granted),
        ("not ASCII", "摄", "像头", Granted),
        ("no right", "viewer", "pass:word", Forbidden),
        ("wrong password", "camera", "x", DENIED),
        ("unknown user", "nobody", "secret", DENIED),
        ("the name of nobody", ":", "secret", DENIED),
    ];
    for (name, user, password, expected) in cases {
        let authority = authority();
        let header = digest(&authority, NOW, user, password, "RECORD", "/live/a");
        let check = || authority.check_header(NOW, PEER, Some(&header), "RECORD", Right::Publish, &key("live/a"));
        assert_eq!(check(), expected, "{name}");
        let modern = authority_with(|config| config.digest = DigestAlgorithms::Sha256);
        let verdict = modern.check_header(NOW, PEER, Some(&header), "RECORD", Right::Publish, &key("live/a"));
        assert_eq!(verdict, DENIED, "{name}, MD5 not offered");
    }
}

#[test]
fn only_a_right_answer_is_stale() {
    let authority = authority();
    let later = NOW.after_millis(authority.config.nonce_ms + 1);
    let check = |now, peer, header: &str| authority.check_header(now, peer, Some(header), "PLAY", Right::Play, &key("live/a"));
    let right = digest(&authority, NOW, "viewer", "pass:word", "PLAY", "/live/a");
    let wrong = digest(&authority, NOW, "viewer", "password", "PLAY", "/live/a");
    let foreign = answer("realm=\"shardcast\" nonce=\"0123\"", "viewer", "pass:word", "PLAY", "/live/a");
    assert_eq!(check(NOW.after_millis(authority.config.nonce_ms), PEER, &right), Verdict::Granted, "the last moment");
    assert_eq!(check(later, PEER, &right), STALE);
    assert_eq!(check(later, PEER, &wrong), DENIED);
    assert_eq!(check(NOW, PEER, &foreign), STALE, "of an earlier process");
    assert_eq!(check(NOW, [192, 0, 2, 2].into(), &right), STALE, "of another address");
    for _ in 0..10 {
        assert_eq!(check(later, PEER, &right), STALE, "is not counted");
    }
    let renewed = answer(&authority.challenges(later, PEER, true)[1], "viewer", "pass:word", "PLAY", "/live/a");
    assert_eq!(check(later, PEER, &renewed), Verdict::Granted);
}

#[test]
fn wrong_passwords_throttle_their_address() {
    let authority = authority();
    let right = digest(&authority, NOW, "viewer", "pass:word", "PLAY", "/live/a");
    let wrong = digest(&authority, NOW, "viewer", "x", "PLAY", "/live/a");
    let check = |now, peer, header: Option<&str>| authority.check_header(now, peer, header, "PLAY", Right::Play, &key("live/a"));
    let minute = Stamp::from_millis(16 * 60_000);
    for _ in 0..5 {
        assert_eq!(check(minute, PEER, None), DENIED, "no credentials, no failure");
    }
    assert_eq!(check(minute, PEER, Some(&wrong)), DENIED);
    assert_eq!(check(minute, PEER, Some(&basic("viewer:x"))), DENIED);
    let by_query = authority.check_password(minute, PEER, Some(("viewer", "x")), Right::Play, &key("live/a"));
    assert_eq!(by_query, DENIED);
    for header in [&right, &wrong, &basic("viewer:pass:word")] {
        assert_eq!(check(minute, PEER, Some(header)), Verdict::Throttled);
    }
    let by_query = authority.check_password(minute, PEER, Some(("viewer", "pass:word")), Right::Play, &key("live/a"));
    assert_eq!(by_query, Verdict::Throttled);
    assert_eq!(check(minute, PEER, None), DENIED, "who gives no password is not refused for one");
    assert_eq!(check(minute, [192, 0, 2, 2].into(), Some(&basic("viewer:pass:word"))), Verdict::Granted, "another address");
    assert_eq!(check(minute.after_millis(59_999), PEER, Some(&basic("viewer:pass:word"))), Verdict::Throttled);
    assert_eq!(check(minute.after_millis(60_000), PEER, Some(&basic("viewer:pass:word"))), Verdict::Granted);
}

#[test]
fn patterns() {
    let cases = [
        ("live/a", "live/a", true),
        ("live/a", "live/ab", false),
        ("live/ab", "live/a", false),
        ("*", "live/a/b", true),
        ("live/*", "live/a/b", true),
        ("live/*", "live/", true),
        ("live/*", "liv/a", false),
        ("*/a", "live/b/a", true),
        ("*/a", "live/ab", false),
        ("live/*/a", "live/b/c/a", true),
        ("live/*/a", "live/a", false),
        ("l*e/*a*", "live/banana", true),
        ("*a*b*c", "xxaxxbxxbxc", true),
        ("*a*b*c", "xxaxxbxxbx", false),
        ("**", "x/y", true),
        ("live/?", "live/a", false),
        ("", "live/a", false),
    ];
    for (pattern, text, expected) in cases {
        assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
    }
}

#[test]
fn nothing_secret_is_shown() {
    let shown = format!("{:?}", authority());
    assert!(!shown.contains("secret") && !shown.contains("pass:word"), "{shown}");
}
