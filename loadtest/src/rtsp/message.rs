//! The server's bytes → responses and interleaved frames; requests → bytes. Spec: RFC 2326 §6, §7, §10.12.
//!
//! ```text
//! RTSP/1.0 SP status SP reason CRLF *(name: value CRLF) CRLF [body of Content-Length]
//! '$' channel(8) length(16) data
//! ```
//!
//! A frame that lies whole in the input is given out as a slice of it; what is cut off is kept until the rest comes. Limits:
//! [`HEAD_BYTES_MAX`], [`BODY_BYTES_MAX`]. Not here: what a response means.

use std::fmt::Write as _;
use std::io;

use crate::scan::Broken;

const HEAD_BYTES_MAX: usize = 16 * 1024;
const BODY_BYTES_MAX: usize = 256 * 1024;
/// `$`, channel and length.
pub const FRAME_HEADER_BYTES: usize = 4;
const FRAME_MARK: u8 = b'$';

/// The answer to a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub reason: String,
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    /// The first header of that name, without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// A head up to its empty line; `None`: it is no response.
    pub fn parse(head: &str) -> Option<Response> {
        let mut lines = head.lines();
        let mut words = lines.next()?.strip_prefix("RTSP/1.0 ")?.splitn(2, ' ');
        let status = words.next()?.trim().parse().ok()?;
        let reason = words.next().unwrap_or_default().trim().to_owned();
        let header = |line: &str| line.split_once(':').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
        Some(Response { status, reason, headers: lines.filter_map(header).collect(), body: String::new() })
    }
}

/// What stands at the front of the bytes.
#[derive(Debug)]
pub enum Item<'a> {
    Response(Response),
    Frame { channel: u8, payload: &'a [u8] },
}

/// Cuts a stream of bytes into items. Requests of the server are left out.
#[derive(Default)]
pub struct Reader {
    /// An item that was cut off.
    kept: Vec<u8>,
    /// The response in front of `kept` that lacks its body, and where its body begins and ends.
    response: Option<(Option<Response>, usize, usize)>,
}

impl Reader {
    pub fn feed(&mut self, mut input: &[u8], each: &mut impl FnMut(Item<'_>) -> io::Result<()>) -> io::Result<()> {
        while let Some(next) = input.first() {
            match self.kept.first().unwrap_or(next) {
                &FRAME_MARK => self.frame(&mut input, each)?,
                _ => self.message(&mut input, each)?,
            }
        }
        Ok(())
    }

    fn frame(&mut self, input: &mut &[u8], each: &mut impl FnMut(Item<'_>) -> io::Result<()>) -> io::Result<()> {
        if self.kept.is_empty()
            && let Some((channel, payload, rest)) = split_frame(input)
        {
            *input = rest;
            return each(Item::Frame { channel, payload });
        }
        self.collect(FRAME_HEADER_BYTES, input);
        if let Some(bytes) = frame_bytes(&self.kept) {
            self.collect(bytes, input);
        }
        if let Some((channel, payload, _)) = split_frame(&self.kept) {
            each(Item::Frame { channel, payload })?;
            self.kept.clear();
        }
        Ok(())
    }

    /// Takes bytes off the front of `input` until `wanted` are kept.
    fn collect(&mut self, wanted: usize, input: &mut &[u8]) {
        let (taken, rest) = input.split_at(wanted.saturating_sub(self.kept.len()).min(input.len()));
        self.kept.extend_from_slice(taken);
        *input = rest;
    }

    fn message(&mut self, input: &mut &[u8], each: &mut impl FnMut(Item<'_>) -> io::Result<()>) -> io::Result<()> {
        if self.response.is_none() {
            self.head(input)?;
        }
        let Some((_, begin, end)) = self.response else { return Ok(()) };
        self.collect(end, input);
        if self.kept.len() < end {
            return Ok(());
        }
        let body = String::from_utf8_lossy(&self.kept[begin..end]).into_owned();
        self.kept.clear();
        match self.response.take() {
            Some((Some(response), ..)) => each(Item::Response(Response { body, ..response })),
            _ => Ok(()),
        }
    }

    /// Messages are few: byte by byte is fast enough.
    fn head(&mut self, input: &mut &[u8]) -> io::Result<()> {
        while let Some((byte, rest)) = input.split_first() {
            *input = rest;
            // Empty lines may stand before a message.
            if !self.kept.is_empty() || !matches!(byte, b'\r' | b'\n') {
                self.kept.push(*byte);
            } else if input.first() == Some(&FRAME_MARK) {
                return Ok(());
            }
            if self.kept.len() > HEAD_BYTES_MAX {
                return Err(Broken("a message without an end of its head").into());
            }
            if self.kept.ends_with(b"\r\n\r\n") || self.kept.ends_with(b"\n\n") {
                let head = String::from_utf8_lossy(&self.kept);
                let length = body_bytes(&head).filter(|length| *length <= BODY_BYTES_MAX);
                let length = length.ok_or(Broken("a message whose body has no usable length"))?;
                let begin = self.kept.len();
                self.response = Some((Response::parse(&head), begin, begin + length));
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Length of a frame with its header, once that is whole.
fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    let [_, _, l1, l0] = *bytes.first_chunk()?;
    Some(FRAME_HEADER_BYTES + usize::from(u16::from_be_bytes([l1, l0])))
}

/// Channel and payload of the frame in front, and what is behind it.
fn split_frame(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (frame, rest) = bytes.split_at_checked(frame_bytes(bytes)?)?;
    Some((frame[1], &frame[FRAME_HEADER_BYTES..], rest))
}

fn body_bytes(head: &str) -> Option<usize> {
    let is_length = |line: &&str| line.get(..15).is_some_and(|name| name.eq_ignore_ascii_case("content-length:"));
    head.lines().find(is_length).map_or(Some(0), |line| line[15..].trim().parse().ok())
}

/// Stands in front of a packet on the connection.
pub fn write_frame_header(channel: u8, packet_bytes: usize, out: &mut Vec<u8>) {
    let [l1, l0] = (packet_bytes as u16).to_be_bytes();
    out.extend_from_slice(&[FRAME_MARK, channel, l1, l0]);
}

/// A request; without a body no length is said.
pub fn write_request(method: &str, url: &str, sequence: u32, headers: &[(&str, &str)], body: &str, out: &mut Vec<u8>) {
    let mut text = format!("{method} {url} RTSP/1.0\r\nCSeq: {sequence}\r\nUser-Agent: shardcast-loadtest\r\n");
    for (name, value) in headers {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    if !body.is_empty() {
        let _ = write!(text, "Content-Length: {}\r\n", body.len());
    }
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reader gives out, in words.
    fn items(bytes: &[u8], size: usize) -> Vec<String> {
        let mut all = Vec::new();
        let mut reader = Reader::default();
        for piece in bytes.chunks(size) {
            let mut each = |item: Item<'_>| {
                all.push(match item {
                    Item::Response(response) => format!("{} {} {:?}", response.status, response.reason, response.body),
                    Item::Frame { channel, payload } => format!("{channel}: {payload:?}"),
                });
                Ok(())
            };
            reader.feed(piece, &mut each).unwrap();
        }
        assert!(reader.kept.is_empty(), "in pieces of {size}");
        all
    }

    #[test]
    fn items_are_found_in_any_pieces() {
        let stream: &[u8] = b"$\x00\x00\x03abcRTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n$\x01\x00\x00$\x02\x00\x01$\r\n\r\n\
            RTSP/1.0 200 OK\r\ncontent-length:  4\r\nCSeq: 2\r\n\r\nv=0\n\
            OPTIONS * RTSP/1.0\r\nContent-Length: 2\r\n\r\nxx\
            RTSP/1.0 404 Stream Not Found\n\n$\x00\x00\x02de\r\n$\x09\x00\x01f";
        let expected = [
            "0: [97, 98, 99]",
            "200 OK \"\"",
            "1: []",
            "2: [36]",
            "200 OK \"v=0\\n\"",
            "404 Stream Not Found \"\"",
            "0: [100, 101]",
            "9: [102]",
        ];
        for size in [1, 2, 3, 4, 5, 7, 11, 50, stream.len()] {
            assert_eq!(items(stream, size), expected, "in pieces of {size}");
        }
    }

    #[test]
    fn what_has_no_end_is_refused() {
        let cases: [(&str, Vec<u8>); 3] = [
            ("a head", vec![b'R'; HEAD_BYTES_MAX + 1]),
            ("a long body", b"RTSP/1.0 200 OK\r\nContent-Length: 99999999\r\n\r\n".to_vec()),
            ("a body of no length", b"RTSP/1.0 200 OK\r\nContent-Length: many\r\n\r\n".to_vec()),
        ];
        for (name, bytes) in cases {
            assert!(Reader::default().feed(&bytes, &mut |_| Ok(())).is_err(), "{name}");
        }
    }

    #[test]
    fn responses_have_headers_without_regard_to_case() {
        let response = Response::parse("RTSP/1.0 454 Session Not Found\r\nCSeq: 7\r\nsession :  ab;timeout=30 \r\n\r\n").unwrap();
        assert_eq!((response.status, response.reason.as_str()), (454, "Session Not Found"));
        assert_eq!((response.header("cseq"), response.header("Session")), (Some("7"), Some("ab;timeout=30")));
        assert_eq!(response.header("Transport"), None);
        for not in ["HTTP/1.1 200 OK\r\n", "OPTIONS * RTSP/1.0\r\n", "RTSP/1.0 x\r\n", ""] {
            assert_eq!(Response::parse(not), None, "{not}");
        }
    }

    #[test]
    fn requests() {
        let mut out = Vec::new();
        write_request("ANNOUNCE", "rtsp://h/a/b", 3, &[("Content-Type", "application/sdp")], "v=0\n", &mut out);
        let expected = "ANNOUNCE rtsp://h/a/b RTSP/1.0\r\nCSeq: 3\r\nUser-Agent: shardcast-loadtest\r\n\
            Content-Type: application/sdp\r\nContent-Length: 4\r\n\r\nv=0\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
