//! Messages as devices send them, read, written, cut and broken.

use bytes::Bytes;

use super::framing::{Framing, FramingError, HELD_BYTES_MAX};
use super::headers::CSeq;
use super::message::*;
use super::{Carrier, Hop};
use crate::protocol::common::random::SplitMix64;

const REGISTER: &str = "REGISTER sip:34020000002000000001@3402000000 SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.168.1.64:5060;rport;branch=z9hG4bK1371463273\r\n\
    From: <sip:34020000001110000001@3402000000>;tag=2043466181\r\n\
    To: <sip:34020000001110000001@3402000000>\r\n\
    Call-ID: 1011047669@192.168.1.64\r\n\
    CSeq: 1 REGISTER\r\n\
    Contact: <sip:34020000001110000001@192.168.1.64:5060>;expires=1800\r\n\
    Max-Forwards: 70\r\n\
    User-Agent: IP Camera\r\n\
    Content-Length: 0\r\n\r\n";

/// As a device that saves bytes: short names, a folded line, bare line feeds, a list of Vias, GB 2312 in a header.
const SHORT: &[u8] = b"\r\n\nMESSAGE sip:34020000002000000001@3402000000 SIP/2.0\n\
    v: SIP/2.0/TCP 192.0.2.10;branch=z9hG4bKa, SIP/2.0/UDP 10.0.0.1:5060\n\
    f: \"\xC9\xE3\xCF\xF1\xCD\xB7\" <sip:34020000001110000001@3402000000>\n  ;tag=k1\n\
    t:<sip:34020000002000000001@3402000000>\n\
    i: c2\ncseq: 20 MESSAGE\nc: Application/MANSCDP+xml ; charset=gb2312\nl: 8\n\n<a></a>\n";

fn hop() -> Hop {
    Hop { carrier: Carrier::Udp, peer: ([192, 0, 2, 10], 6_000).into(), local: ([198, 51, 100, 1], 5_060).into() }
}

fn request(bytes: &[u8]) -> Request {
    match Message::parse(bytes) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_registration_is_read_and_answered() {
    let mut register = request(REGISTER.as_bytes());
    assert_eq!((register.method.clone(), register.from_user()), (Method::Register, Some("34020000001110000001")));
    assert_eq!((register.to_user(), register.expires_s()), (Some("34020000001110000001"), Some(1_800)));
    let identity = register.identity().unwrap();
    assert_eq!(
        (identity.via.branch(), identity.from.tag(), identity.to.tag()),
        (Some("z9hG4bK1371463273"), Some("2043466181"), None)
    );
    assert_eq!(identity.cseq, CSeq { number: 1, method: Method::Register });
    register.note_source(&hop());
    let answer = String::from_utf8(register.response(200).to_bytes().to_vec()).unwrap();
    let tag = answer.split("3402000000>;tag=").nth(2).and_then(|rest| rest.get(..16)).unwrap();
    let expected = format!(
        "SIP/2.0 200 OK\r\n\
        Via: SIP/2.0/UDP 192.168.1.64:5060;rport=6000;branch=z9hG4bK1371463273;received=192.0.2.10\r\n\
        From: <sip:34020000001110000001@3402000000>;tag=2043466181\r\n\
        To: <sip:34020000001110000001@3402000000>;tag={tag}\r\n\
        Call-ID: 1011047669@192.168.1.64\r\n\
        CSeq: 1 REGISTER\r\n\
        Content-Length: 0\r\n\r\n"
    );
    assert_eq!(answer, expected);
    assert_eq!(register.response(200), register.response(200));
    assert_eq!(register.response(100).headers.get("To"), register.headers.get("To"), "no tag before there is an answer");
}

#[test]
fn odd_but_clear_forms_are_read() {
    let message = request(SHORT);
    assert_eq!(message.headers.all("Via").count(), 2);
    assert_eq!(message.from_user(), Some("34020000001110000001"));
    assert_eq!(message.identity().unwrap().from.tag(), Some("k1"));
    assert_eq!(message.content_type().as_deref(), Some("application/manscdp+xml"));
    assert_eq!(message.body, Bytes::from_static(b"<a></a>\n"));
    // Without a length the rest is the body; what is behind the length is nothing.
    let without = String::from_utf8_lossy(SHORT).replace("l: 8\n", "");
    assert_eq!(request(without.as_bytes()).body.len(), 8);
    assert_eq!(request(&[SHORT, b"more"].concat()).body.len(), 8);
    let answer = b"SIP/2.0 200\r\nVia: SIP/2.0/UDP h\r\n\r\n";
    let Ok(Message::Response(answer)) = Message::parse(answer) else { panic!("an answer without a reason") };
    assert_eq!((answer.status, answer.words().as_str(), answer.identity()), (200, "200 OK", None));
}

#[test]
fn what_is_broken_is_named() {
    let with = |from: &str, to: &str| REGISTER.replacen(from, to, 1).into_bytes();
    let many = "X: 1\r\n".repeat(HEADERS_MAX);
    let long = format!("X: {}\r\nVia", "x".repeat(HEAD_BYTES_MAX));
    let cases = [
        ("nothing", Vec::new(), MessageError::NoEnd),
        ("empty lines", b"\r\n\r\n\r\n".to_vec(), MessageError::NoEnd),
        ("cut in the head", REGISTER.as_bytes()[..200].to_vec(), MessageError::NoEnd),
        ("HTTP", with("SIP/2.0", "HTTP/1.1"), MessageError::BadFirstLine),
        ("another version", with("SIP/2.0", "SIP/3.0"), MessageError::BadVersion),
        ("no address", with("sip:34020000002000000001@3402000000 ", ""), MessageError::BadFirstLine),
        ("no method", with("REGISTER", "REG(ISTER"), MessageError::BadFirstLine),
        ("a status too low", b"SIP/2.0 20 OK\r\n\r\n".to_vec(), MessageError::BadFirstLine),
        ("a line without a colon", with("Max-Forwards: 70", "Max-Forwards 70"), MessageError::BadHeader),
        ("a name with a blank", with("Max-Forwards:", "Max Forwards:"), MessageError::BadHeader),
        ("folded from the start", with("Via:", " Via:"), MessageError::BadHeader),
        ("no length", with("Length: 0", "Length: many"), MessageError::BadLength),
        ("a length below zero", with("Length: 0", "Length: -1"), MessageError::BadLength),
        ("cut in the body", with("Length: 0", "Length: 1"), MessageError::BodyCut),
        ("a body of a megabyte", with("Length: 0", "Length: 1048576"), MessageError::BodyTooLong),
        ("too many headers", with("Via", &format!("{many}Via")), MessageError::TooManyHeaders),
        ("too long a head", with("Via", &long), MessageError::HeadTooLong),
    ];
    for (name, bytes, error) in cases {
        assert_eq!(Message::parse(&bytes).unwrap_err(), error, "{name}");
    }
}

#[test]
fn what_is_written_is_read_again() {
    let mut random = SplitMix64::new(28_181);
    let texts =
        ["", "a", "<sip:1@h>;tag=x", "a\r\nb: c", "\"q, <\" <sip:1@h>", "摄像头", "SIP/2.0/UDP h;branch=z", "\u{7f}\0", ",;=:"];
    let names = ["Via", "f", "T", "Call-ID", "X-GB-Ver", "Contact", "Route"];
    for _ in 0..2_000 {
        let mut pick = |count: usize| (random.next() % count as u64) as usize;
        let mut request = Request::new(Method::Message, "sip:1@h");
        for _ in 0..pick(8) {
            request.headers.push(names[pick(names.len())], texts[pick(texts.len())]);
        }
        request.body = vec![b'\n'; pick(40)].into();
        let once = Message::parse(&request.to_bytes()).unwrap();
        let Message::Request(read) = &once else { panic!() };
        assert_eq!(Message::parse(&read.to_bytes()).unwrap(), once);
        assert_eq!((&read.body, &read.uri), (&request.body, &request.uri));
    }
}

fn cut(bytes: &[u8], piece: usize) -> Result<Vec<Bytes>, FramingError> {
    let (mut framing, mut messages) = (Framing::default(), Vec::new());
    for mut part in bytes.chunks(piece) {
        while let Some(message) = framing.next(&mut part)? {
            messages.push(message);
        }
        assert!(part.is_empty() && framing.held_bytes() <= HELD_BYTES_MAX);
    }
    assert_eq!(framing.held_bytes(), 0);
    Ok(messages)
}

#[test]
fn a_stream_is_cut_into_messages_wherever_it_breaks() {
    let stream = [b"\r\n\r\n", REGISTER.as_bytes(), SHORT, b"\r\n", SHORT, REGISTER.as_bytes(), b"\r\n\r\n"].concat();
    let whole: Vec<Message> =
        [REGISTER.as_bytes(), SHORT, SHORT, REGISTER.as_bytes()].map(|one| Message::parse(one).unwrap()).into();
    for piece in 1..stream.len() {
        let messages = cut(&stream, piece).unwrap();
        let read: Vec<Message> = messages.iter().map(|one| Message::parse(one).unwrap()).collect();
        assert_eq!(read, whole, "pieces of {piece}");
    }
    // Pings alone never fill anything.
    assert_eq!(cut(&b"\r\n".repeat(HEAD_BYTES_MAX), 7).unwrap().len(), 0);
}

#[test]
fn a_stream_that_cannot_go_on_says_why() {
    let huge = REGISTER.replace("Length: 0", "Length: 1048576");
    let error = cut(huge.as_bytes(), 100).unwrap_err();
    assert_eq!((error.reason(), error.error), ("sip_body_too_long", MessageError::BodyTooLong));
    let answer = error.answer.unwrap();
    assert!(answer.starts_with(b"SIP/2.0 413 Request Entity Too Large\r\nVia: SIP/2.0/UDP 192.168.1.64"), "{answer:?}");
    assert_eq!(cut(&[b'x'; HEAD_BYTES_MAX + 1], 1_000).unwrap_err().error, MessageError::HeadTooLong);
    assert_eq!(cut(b"GET / HTTP/1.1\r\n\r\n", 3).unwrap_err(), MessageError::BadFirstLine.into());
}
