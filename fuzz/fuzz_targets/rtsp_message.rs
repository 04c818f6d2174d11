//! Any bytes of an RTSP connection → `Reader`: no panic, and the items do not depend on how the bytes were cut. No text of a request can
//! look like the end of a line, and limits hold.
//!
//! Input: two bytes for the cut, one for the size of small pieces, then the bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardcast::protocol::rtsp::error::RtspError;
use shardcast::protocol::rtsp::message::{BODY_BYTES_MAX, Item, Reader, Request};
use shardcast_fuzz::Choices;

/// An item that owns what it has.
#[derive(Debug, PartialEq)]
enum Owned {
    Request(Request),
    Http(Request),
    Response,
    Frame(u8, Vec<u8>),
}

impl From<Item<'_>> for Owned {
    fn from(item: Item<'_>) -> Self {
        match item {
            Item::Request(request) => Owned::Request(request),
            Item::Http(request) => Owned::Http(request),
            Item::Response => Owned::Response,
            Item::Frame { channel, payload } => Owned::Frame(channel, payload.to_vec()),
        }
    }
}

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Owned>, Option<RtspError>) {
    let mut reader = Reader::default();
    let mut items = Vec::new();
    for mut piece in pieces {
        loop {
            match reader.next(&mut piece) {
                Ok(Some(item)) => items.push(item.into()),
                Ok(None) => break,
                Err(error) => return (items, Some(error)),
            }
        }
        assert!(piece.is_empty());
    }
    (items, None)
}

fn check(request: &Request) {
    assert!(request.body.len() <= BODY_BYTES_MAX);
    let headers = ["CSeq", "Session", "Transport", "Require", "User-Agent", "Authorization", "Range"];
    let values = headers.iter().filter_map(|name| request.header(name));
    for text in values.chain([&*request.method, &*request.url]) {
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
}

fuzz_target!(|input: &[u8]| {
    let mut choices = Choices::new(input);
    let (cut, size) = (usize::from(choices.word()), usize::from(choices.byte()).max(1));
    let bytes = choices.rest();
    let whole = read([bytes]);
    let (front, back) = bytes.split_at(cut.min(bytes.len()));
    assert_eq!(read([front, back]), whole);
    assert_eq!(read(bytes.chunks(size)), whole);
    for item in &whole.0 {
        if let Owned::Request(request) | Owned::Http(request) = item {
            check(request);
        }
    }
});
