//! Any bytes → SIP messages, by themselves and as a stream: no panic, limits hold, the messages of a stream do not depend on how it was cut,
//! and what was read is the same when it is written and read again. No value can look like another header.
//!
//! Input: two bytes for the cut, one for the size of small pieces, then the bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardcast::protocol::gb28181::sip::digest::Challenge;
use shardcast::protocol::gb28181::sip::framing::{Framing, FramingError, HELD_BYTES_MAX};
use shardcast::protocol::gb28181::sip::headers::Address;
use shardcast::protocol::gb28181::sip::message::{BODY_BYTES_MAX, HEAD_BYTES_MAX, HEADERS_MAX, Message};
use shardcast_fuzz::Choices;

fn cut<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Option<FramingError>) {
    let (mut framing, mut messages) = (Framing::default(), Vec::new());
    for mut piece in pieces {
        loop {
            match framing.next(&mut piece) {
                Ok(Some(message)) => messages.push(message.to_vec()),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
        assert!(piece.is_empty() && framing.held_bytes() <= HELD_BYTES_MAX);
    }
    (messages, None)
}

fn check(bytes: &[u8]) {
    let Ok(message) = Message::parse(bytes) else { return };
    let headers = message.headers();
    // Values that are lists get an entry for each element.
    assert!(headers.len() <= HEADERS_MAX + HEAD_BYTES_MAX);
    for (name, value) in headers.iter() {
        assert!(!name.is_empty() && !name.chars().chain(value.chars()).any(char::is_control), "{name}: {value}");
        let _ = (Address::parse(value).map(|address| (address.user(), address.tag())), Challenge::parse(value));
    }
    let (written, body) = match &message {
        Message::Request(request) => {
            let _ = (request.expires_s(), request.from_user(), request.content_type(), request.response(200).to_bytes());
            (request.to_bytes(), &request.body)
        }
        Message::Response(response) => {
            let _ = (response.identity(), response.words());
            (response.to_bytes(), &response.body)
        }
    };
    assert!(body.len() <= BODY_BYTES_MAX);
    // Bytes that are replaced may be longer than they were.
    if written.len() - body.len() <= HEAD_BYTES_MAX {
        assert_eq!(Message::parse(&written).as_ref(), Ok(&message));
    }
}

fuzz_target!(|input: &[u8]| {
    let mut choices = Choices::new(input);
    let (at, size) = (usize::from(choices.word()), usize::from(choices.byte()).max(1));
    let bytes = choices.rest();
    check(bytes);
    let whole = cut([bytes]);
    let (front, back) = bytes.split_at(at.min(bytes.len()));
    assert_eq!(cut([front, back]), whole);
    assert_eq!(cut(bytes.chunks(size)), whole);
    for message in &whole.0 {
        check(message);
    }
});
