//! Any `Authorization` header: no panic, and nobody is let in who does not know the password; the right answer is taken in any order of
//! fields, with any names and spaces, and not for another method, stream or address.
//!
//! Input: a byte of options, then the header.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use md5::{Digest as _, Md5};
use shardcast::config::{Auth, User};
use shardcast::media::Stamp;
use shardcast::protocol::common::auth::{Authority, Right, Verdict};
use shardcast::protocol::common::url::Query;
use shardcast::session::StreamKey;

/// No seed holds it, and it cannot be guessed.
const PASSWORD: &str = "c40f1cfeab7d5c1a";
const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));
const NOW: Stamp = Stamp::from_millis(1_000_000);
const URI: &str = "rtsp://h/live/a";

fn user(name: &str, streams: &str) -> User {
    let streams = vec![streams.to_owned()];
    User { name: name.to_owned(), password: PASSWORD.to_owned(), publish: streams.clone(), play: streams }
}

fn key(text: &str) -> StreamKey {
    StreamKey::parse(text).expect("a name")
}

fn md5(parts: &[&str]) -> String {
    Md5::digest(parts.join(":").as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The quoted value of a field of a challenge.
fn field<'a>(challenge: &'a str, name: &str) -> &'a str {
    let (_, behind) = challenge.split_once(&format!("{name}=\"")).expect("the field");
    behind.split_once('"').expect("the end of the field").0
}

/// The right answer of a user, its fields turned by `options`, with what `filling` makes of other fields and spaces.
fn answer(authority: &Authority, options: u8, filling: &str) -> String {
    let challenges = authority.challenges(NOW, PEER, false);
    let challenge = challenges.iter().find(|challenge| challenge.starts_with("Digest ") && !challenge.contains("SHA-256"));
    let challenge = challenge.expect("a challenge for MD5");
    let (realm, nonce) = (field(challenge, "realm"), field(challenge, "nonce"));
    let (ha1, ha2) = (md5(&["ann", realm, PASSWORD]), md5(&["DESCRIBE", URI]));
    let cnonce: String = filling.chars().filter(char::is_ascii_alphanumeric).take(20).collect();
    let is_counted = options & 1 != 0;
    let response = match is_counted {
        true => md5(&[&ha1, nonce, "00000001", &cnonce, "auth", &ha2]),
        false => md5(&[&ha1, nonce, &ha2]),
    };
    let mut fields = vec![
        "username=\"ann\"".to_owned(),
        format!("realm=\"{realm}\""),
        format!("nonce=\"{nonce}\""),
        format!("uri=\"{URI}\""),
        format!("response=\"{response}\""),
    ];
    if is_counted {
        fields.extend([format!("cnonce=\"{cnonce}\""), "nc=00000001".to_owned(), "qop=auth".to_owned()]);
    }
    let turn = usize::from(options >> 1) % fields.len();
    fields.rotate_left(turn);
    let spaces = if filling.len() % 2 == 0 { ", " } else { " ,\t" };
    format!("Digest {}", fields.join(spaces))
}

fn check_right_answer(authority: &Authority, options: u8, filling: &str) {
    let header = answer(authority, options, filling);
    let verdict =
        |peer, header: &str, method, stream| authority.check_header(NOW, peer, Some(header), method, Right::Play, &key(stream));
    assert_eq!(verdict(PEER, &header, "DESCRIBE", "live/a"), Verdict::Granted, "{header}");
    assert_ne!(verdict(PEER, &header, "PLAY", "live/a"), Verdict::Granted);
    assert_ne!(verdict(PEER, &header, "DESCRIBE", "live/b"), Verdict::Granted);
    assert_ne!(verdict(IpAddr::from([10, 0, 0, 8]), &header, "DESCRIBE", "live/a"), Verdict::Granted);
    let wrong = header.replace("username=\"ann\"", "username=\"bob\"");
    assert_ne!(verdict(PEER, &wrong, "DESCRIBE", "live/a"), Verdict::Granted);
}

fuzz_target!(|input: &[u8]| {
    let Some((options, header)) = input.split_first() else { return };
    let header = String::from_utf8_lossy(header);
    let auth = Auth { users: vec![user("ann", "live/*"), user("bob", "other/*")], ..Auth::default() };
    let authority = Authority::new(&auth, [7; 32]);
    let verdict = authority.check_header(NOW, PEER, Some(&header), "DESCRIBE", Right::Play, &key("live/a"));
    assert!(matches!(verdict, Verdict::Denied { stale: false }), "{verdict:?}");
    let verdict = authority.check_query(NOW, PEER, &Query::parse(&header), Right::Publish, &key("live/a"));
    assert!(matches!(verdict, Verdict::Denied { stale: false }), "{verdict:?}");
    check_right_answer(&authority, *options, &header);
});
