//! Bytes of a connection → requests and interleaved frames; responses → bytes.
//!
//! RFC 2326 §4, §6 and §7 (messages, with the line and header rules of RFC 2616 §2.2 and §4), §10.12 (interleaved binary data):
//!
//! ```text
//! METHOD SP url SP RTSP/1.0 CRLF *(name: value CRLF) CRLF [body of Content-Length]
//! '$' channel(8) length(16) data
//! ```
//!
//! A bare LF ends a line too, and empty lines may stand before a message. Limits: [`HEAD_BYTES_MAX`], [`BODY_BYTES_MAX`],
//! [`HEADERS_MAX`]. A frame that lies whole in the input is passed on as a slice of it; what is cut off is kept in the [`Reader`],
//! which owns it until the next call. A [`Request`] owns its text.
//!
//! Not here: what a method means, and the values of headers.

use bytes::Bytes;

use super::error::RtspError;
use crate::protocol::common::sdp;

/// The largest message head, from the first line to the empty one.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The largest message body: that of a session description, as nothing else of a body is read.
pub const BODY_BYTES_MAX: usize = sdp::TEXT_BYTES_MAX;
/// Headers that are kept of a message; what follows is ignored.
pub const HEADERS_MAX: usize = 64;

/// `$`, channel and length.
pub const FRAME_HEADER_BYTES: usize = 4;
const FRAME_MARK: u8 = b'$';
const METHOD_BYTES_MAX: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// RTSP/1.0.
    Rtsp1,
    /// Another version of RTSP.
    RtspOther,
    /// HTTP/1.x: somebody wants a tunnel, or has the wrong port.
    Http,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// As sent.
    pub url: String,
    pub version: Version,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// The first header of that name, without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Bytes of its head, without what separates its parts.
    fn head_bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len());
        self.method.len() + self.url.len() + headers.sum::<usize>()
    }
}

/// What stands at the front of the bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    Request(Request),
    /// The head of an HTTP request. Its body, if it has one, is left in the input.
    Http(Request),
    /// An answer to a request of ours; its content does not matter.
    Response,
    Frame {
        channel: u8,
        payload: &'a [u8],
    },
}

/// Cuts a stream of bytes into items.
#[derive(Debug, Default)]
pub struct Reader {
    /// The beginning of a message or frame that was cut off, or the body of `request`.
    buffer: Vec<u8>,
    /// The frame in `buffer` has been given out.
    delivered: bool,
    /// A request that lacks its body, and the length of that.
    request: Option<Box<(Request, usize)>>,
    /// What is left of the body of a response.
    skip_bytes: usize,
}

impl Reader {
    /// Bytes of a message or frame that is not complete.
    pub fn held_bytes(&self) -> usize {
        self.buffer.len() + self.request.as_ref().map_or(0, |unfinished| unfinished.0.head_bytes())
    }

    /// Takes what belongs to the next item from `input`; `None` when all of it is taken and the item is still incomplete.
    pub fn next<'r, 'i: 'r>(&'r mut self, input: &mut &'i [u8]) -> Result<Option<Item<'r>>, RtspError> {
        if std::mem::take(&mut self.delivered) {
            self.buffer.clear();
        }
        if self.skip_bytes > 0 {
            let len = self.skip_bytes.min(input.len());
            *input = &input[len..];
            self.skip_bytes -= len;
        }
        if self.request.is_some() {
            return Ok(self.body(input).map(Item::Request));
        }
        if self.buffer.is_empty() {
            let start = input.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(input.len());
            *input = &input[start..];
        }
        match self.buffer.first().or(input.first()) {
            None => Ok(None),
            Some(&FRAME_MARK) => Ok(self.frame(input)),
            Some(byte) if byte.is_ascii_alphabetic() => self.message(input),
            Some(byte) => Err(RtspError::NotRtsp(*byte)),
        }
    }

    fn frame<'r, 'i: 'r>(&'r mut self, input: &mut &'i [u8]) -> Option<Item<'r>> {
        if self.buffer.is_empty()
            && let Some((channel, end)) = frame_header(input)
            && let Some((frame, rest)) = input.split_at_checked(end)
        {
            *input = rest;
            return Some(Item::Frame { channel, payload: &frame[FRAME_HEADER_BYTES..] });
        }
        self.fill(FRAME_HEADER_BYTES, input);
        let (channel, end) = frame_header(&self.buffer)?;
        self.buffer.reserve_exact(end.saturating_sub(self.buffer.len()));
        self.fill(end, input);
        if self.buffer.len() < end {
            return None;
        }
        self.delivered = true;
        Some(Item::Frame { channel, payload: &self.buffer[FRAME_HEADER_BYTES..] })
    }

    fn message(&mut self, input: &mut &[u8]) -> Result<Option<Item<'static>>, RtspError> {
        let Some(head) = self.head(input)? else { return Ok(None) };
        match head {
            Head::Response { body_bytes } => {
                let skipped = body_bytes.min(input.len());
                *input = &input[skipped..];
                self.skip_bytes = body_bytes - skipped;
                Ok(Some(Item::Response))
            }
            Head::Request { request, .. } if request.version == Version::Http => Ok(Some(Item::Http(request))),
            Head::Request { request, body_bytes: 0 } => Ok(Some(Item::Request(request))),
            Head::Request { request, body_bytes } => {
                self.request = Some(Box::new((request, body_bytes)));
                Ok(self.body(input).map(Item::Request))
            }
        }
    }

    /// Takes bytes up to the end of a message head.
    fn head(&mut self, input: &mut &[u8]) -> Result<Option<Head>, RtspError> {
        let before = self.buffer.len();
        if before == 0
            && let Some(end) = head_end(&input[..input.len().min(HEAD_BYTES_MAX)], 0)
        {
            let (head, rest) = input.split_at(end);
            *input = rest;
            return Head::parse(head).map(Some);
        }
        let room = (HEAD_BYTES_MAX - before).min(input.len());
        self.buffer.extend_from_slice(&input[..room]);
        // The empty line may have begun in the last two bytes that were there.
        if let Some(end) = head_end(&self.buffer, before.saturating_sub(2)) {
            *input = &input[end - before..];
            let mut head = std::mem::take(&mut self.buffer);
            head.truncate(end);
            return Head::parse(&head).map(Some);
        }
        *input = &input[room..];
        if self.buffer.len() == HEAD_BYTES_MAX { Err(RtspError::HeadTooLarge) } else { Ok(None) }
    }

    fn body(&mut self, input: &mut &[u8]) -> Option<Request> {
        let need = self.request.as_ref()?.1;
        self.fill(need, input);
        if self.buffer.len() < need {
            return None;
        }
        let (mut request, _) = *self.request.take()?;
        request.body = std::mem::take(&mut self.buffer);
        Some(request)
    }

    /// Moves bytes from `input` until `len` are buffered.
    fn fill(&mut self, len: usize, input: &mut &[u8]) {
        let (taken, rest) = input.split_at(len.saturating_sub(self.buffer.len()).min(input.len()));
        self.buffer.extend_from_slice(taken);
        *input = rest;
    }
}

/// The channel of a frame, and its length with its header.
fn frame_header(bytes: &[u8]) -> Option<(u8, usize)> {
    let header = bytes.first_chunk::<FRAME_HEADER_BYTES>()?;
    Some((header[1], FRAME_HEADER_BYTES + usize::from(u16::from_be_bytes([header[2], header[3]]))))
}

/// The header of an interleaved frame that we send.
pub fn write_frame_header(channel: u8, payload_bytes: u16) -> [u8; FRAME_HEADER_BYTES] {
    let [high, low] = payload_bytes.to_be_bytes();
    [FRAME_MARK, channel, high, low]
}

/// Where the head ends: behind the first empty line whose preceding line ends at `from` or later.
fn head_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += bytes.get(at..)?.iter().position(|byte| *byte == b'\n')? + 1;
        match bytes[at..] {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
}

enum Head {
    Request { request: Request, body_bytes: usize },
    Response { body_bytes: usize },
}

impl Head {
    fn parse(bytes: &[u8]) -> Result<Self, RtspError> {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default().trim();
        let headers = headers(lines);
        if first.starts_with("RTSP/") {
            return Ok(Head::Response { body_bytes: content_length(&headers)? });
        }
        let (method, rest) = first.split_once(' ').ok_or(RtspError::BadFirstLine)?;
        // Some clients write spaces into a URL.
        let (url, version) = rest.trim().rsplit_once(' ').ok_or(RtspError::BadFirstLine)?;
        let version = match version {
            "RTSP/1.0" => Version::Rtsp1,
            other if other.starts_with("RTSP/") => Version::RtspOther,
            other if other.starts_with("HTTP/1.") => Version::Http,
            _ => return Err(RtspError::BadFirstLine),
        };
        if method.len() > METHOD_BYTES_MAX || !method.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)) {
            return Err(RtspError::BadFirstLine);
        }
        // The body of a tunnel has no end, whatever its head says.
        let body_bytes = if version == Version::Http { 0 } else { content_length(&headers)? };
        let request = Request { method: method.to_owned(), url: clean(url), version, headers, body: Vec::new() };
        Ok(Head::Request { request, body_bytes })
    }
}

/// Lines without a colon are left out; one that begins with a blank goes on with the line before it.
fn headers<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in lines {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = headers.last_mut() {
                value.push(' ');
                value.push_str(&clean(line));
            }
        } else if let Some((name, value)) = line.split_once(':') {
            if headers.len() == HEADERS_MAX {
                break;
            }
            headers.push((name.trim().to_owned(), clean(value)));
        }
    }
    headers
}

/// URLs and values come back in responses: nothing in them may look like the end of a line.
fn clean(text: &str) -> String {
    text.trim().chars().filter(|c| !c.is_control()).collect()
}

fn content_length(headers: &[(String, String)]) -> Result<usize, RtspError> {
    let value = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("Content-Length")).map(|(_, value)| value.as_str());
    let Some(value) = value else { return Ok(0) };
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(RtspError::BadContentLength);
    }
    value.parse().ok().filter(|len| *len <= BODY_BYTES_MAX).ok_or(RtspError::BodyTooLarge)
}

/// RFC 2326 §11.1; `HeadTooLarge` is borrowed from RFC 6585 §5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok,
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    BodyTooLarge,
    UnsupportedMediaType,
    HeadTooLarge,
    NotEnoughBandwidth,
    SessionNotFound,
    NotValidInThisState,
    AggregateNotAllowed,
    OnlyAggregateAllowed,
    UnsupportedTransport,
    NotImplemented,
    ServiceUnavailable,
    VersionNotSupported,
    OptionNotSupported,
}

impl Status {
    /// Code and reason, as they stand in the first line.
    pub const fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::BadRequest => "400 Bad Request",
            Status::Unauthorized => "401 Unauthorized",
            Status::Forbidden => "403 Forbidden",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::NotAcceptable => "406 Not Acceptable",
            Status::BodyTooLarge => "413 Request Entity Too Large",
            Status::UnsupportedMediaType => "415 Unsupported Media Type",
            Status::HeadTooLarge => "431 Request Header Fields Too Large",
            Status::NotEnoughBandwidth => "453 Not Enough Bandwidth",
            Status::SessionNotFound => "454 Session Not Found",
            Status::NotValidInThisState => "455 Method Not Valid in This State",
            Status::AggregateNotAllowed => "459 Aggregate Operation Not Allowed",
            Status::OnlyAggregateAllowed => "460 Only Aggregate Operation Allowed",
            Status::UnsupportedTransport => "461 Unsupported Transport",
            Status::NotImplemented => "501 Not Implemented",
            Status::ServiceUnavailable => "503 Service Unavailable",
            Status::VersionNotSupported => "505 RTSP Version Not Supported",
            Status::OptionNotSupported => "551 Option Not Supported",
        }
    }
}

/// An answer without the headers that all answers have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    status: Status,
    headers: String,
    body: String,
    last: bool,
}

impl From<Status> for Response {
    fn from(status: Status) -> Self {
        Response { status, headers: String::new(), body: String::new(), last: false }
    }
}

impl Response {
    pub fn ok() -> Self {
        Status::Ok.into()
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.extend([name, ": ", value, "\r\n"]);
        self
    }

    pub fn body(mut self, content_type: &str, body: String) -> Self {
        self.body = body;
        self.header("Content-Type", content_type)
    }

    /// The connection ends behind it.
    pub fn last(mut self) -> Self {
        self.last = true;
        self.header("Connection", "close")
    }

    pub const fn is_last(&self) -> bool {
        self.last
    }

    /// `cseq`: of the request, if it has one. `session`: the value of the `Session` header.
    pub fn write(&self, cseq: Option<&str>, session: Option<&str>) -> Bytes {
        const SERVER: &str = concat!("Server: shardcast/", env!("CARGO_PKG_VERSION"), "\r\n");
        let mut text = String::with_capacity(160 + self.headers.len() + self.body.len());
        text.extend(["RTSP/1.0 ", self.status.line(), "\r\n"]);
        for (name, value) in [("CSeq", cseq), ("Session", session)] {
            text.extend(value.into_iter().flat_map(|value| [name, ": ", value, "\r\n"]));
        }
        text.extend([SERVER, &self.headers]);
        if !self.body.is_empty() {
            text.extend(["Content-Length: ", &self.body.len().to_string(), "\r\n"]);
        }
        text.extend(["\r\n", &self.body]);
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything in `pieces`, in short form; after an error its label stands at the end.
    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
        let mut reader = Reader::default();
        let mut shown = String::new();
        for mut piece in pieces {
            loop {
                match reader.next(&mut piece) {
                    Ok(None) => break,
                    Ok(Some(item)) => shown.push_str(&show(item)),
                    Err(error) => return format!("{shown}[{}]", error.label()),
                }
            }
            assert!(piece.is_empty(), "nothing is left when more is wanted");
        }
        shown
    }

    fn show(item: Item<'_>) -> String {
        match item {
            Item::Request(request) => {
                let version = if request.version == Version::Rtsp1 { "" } else { " other version" };
                let headers: String = request.headers.iter().map(|(name, value)| format!(" {name}={value}")).collect();
                let body = String::from_utf8_lossy(&request.body).into_owned();
                format!("[{} {}{version}{headers} {body}]", request.method, request.url)
            }
            Item::Http(request) => format!("[http {} {}]", request.method, request.url),
            Item::Response => "[response]".to_owned(),
            Item::Frame { channel, payload } => format!("[{channel}: {}]", String::from_utf8_lossy(payload)),
        }
    }

    fn cases() -> Vec<(&'static str, Vec<u8>, String)> {
        let big_head = |len: usize| {
            let mut head = b"OPTIONS * RTSP/1.0\r\nA: ".to_vec();
            head.resize(len - 4, b'x');
            [&head[..], b"\r\n\r\n"].concat()
        };
        let head_of_16_k = format!("[OPTIONS * A={} ]", "x".repeat(HEAD_BYTES_MAX - 27));
        let many: String = (0..70).map(|n| format!("h{n}: {n}\n")).collect();
        let kept: String = (0..64).map(|n| format!(" h{n}={n}")).collect();
        let text = |text: &str| text.as_bytes().to_vec();
        let shown = str::to_owned;
        vec![
            ("request", text("OPTIONS rtsp://h/a RTSP/1.0\r\nCSeq: 1\r\n\r\n"), shown("[OPTIONS rtsp://h/a CSeq=1 ]")),
            ("bare LF", text("OPTIONS * RTSP/1.0\nCSeq:1\n\n"), shown("[OPTIONS * CSeq=1 ]")),
            ("mixed line ends", text("OPTIONS * RTSP/1.0\nCSeq: 1\r\n\n"), shown("[OPTIONS * CSeq=1 ]")),
            ("no headers", text("OPTIONS * RTSP/1.0\r\n\r\n"), shown("[OPTIONS * ]")),
            ("empty lines before", text("\r\n\n\r\nPLAY u RTSP/1.0\r\n\r\n\r\n"), shown("[PLAY u ]")),
            ("pipeline", text("PLAY u RTSP/1.0\n\nPAUSE u RTSP/1.0\n\n"), shown("[PLAY u ][PAUSE u ]")),
            ("body", text("ANNOUNCE u RTSP/1.0\nContent-Length: 5\n\nv=0\r\nPLAY u RTSP/1.0\n\n"), {
                shown("[ANNOUNCE u Content-Length=5 v=0\r\n][PLAY u ]")
            }),
            ("empty body", text("PLAY u RTSP/1.0\ncontent-length: 0\n\n$\0\0\x01a"), shown("[PLAY u content-length=0 ][0: a]")),
            ("folded header", text("PLAY u RTSP/1.0\nTransport: a,\r\n b\n\n"), shown("[PLAY u Transport=a, b ]")),
            ("line without a colon", text("PLAY u RTSP/1.0\nnonsense\nA: b\n\n"), shown("[PLAY u A=b ]")),
            ("control characters", text("PLAY u RTSP/1.0\nA: b\rc\x07d\n\n"), shown("[PLAY u A=bcd ]")),
            ("not UTF-8", b"PLAY u\xFF RTSP/1.0\nA: \xFE\n\n".to_vec(), shown("[PLAY u\u{FFFD} A=\u{FFFD} ]")),
            ("control characters in a URL", text("PLAY rtsp://h/a?b\rA: c\x07 RTSP/1.0\n\n"), shown("[PLAY rtsp://h/a?bA: c ]")),
            ("URL with spaces", text("PLAY rtsp://h/a b RTSP/1.0\n\n"), shown("[PLAY rtsp://h/a b ]")),
            ("another version", text("PLAY u RTSP/2.0\n\n"), shown("[PLAY u other version ]")),
            ("many headers", text(&format!("PLAY u RTSP/1.0\n{many}\n")), format!("[PLAY u{kept} ]")),
            ("frames", b"$\x01\0\x02ab$\x02\0\0$\xFF\0\x01c".to_vec(), shown("[1: ab][2: ][255: c]")),
            ("frames between requests", text("PLAY u RTSP/1.0\n\n$\x01\0\x02ab\r\nPAUSE u RTSP/1.0\n\n$\0\0\x01c"), {
                shown("[PLAY u ][1: ab][PAUSE u ][0: c]")
            }),
            (
                "a frame holds anything",
                text("$\0\0\x0FPLAY u RTSP/1.0PAUSE u RTSP/1.0\n\n"),
                shown("[0: PLAY u RTSP/1.0][PAUSE u ]"),
            ),
            ("response", text("RTSP/1.0 200 OK\nCSeq: 1\n\nPLAY u RTSP/1.0\n\n"), shown("[response][PLAY u ]")),
            ("response with a body", text("RTSP/1.0 200 OK\nContent-Length: 4\n\nabcdPLAY u RTSP/1.0\n\n"), {
                shown("[response][PLAY u ]")
            }),
            ("tunnel", text("GET /live/a HTTP/1.1\r\nx-sessioncookie: 1\r\n\r\n"), shown("[http GET /live/a]")),
            ("tunnel the other way", text("POST /live/a HTTP/1.0\nContent-Length: 32767\n\n"), shown("[http POST /live/a]")),
            ("tunnel of any length", text("POST /live/a HTTP/1.0\nContent-Length: 1000000000\n\n"), shown("[http POST /live/a]")),
            ("not RTSP", b"\x16\x03\x01".to_vec(), shown("[not_rtsp]")),
            ("no URL", text("PLAY RTSP/1.0\n\n"), shown("[bad_first_line]")),
            ("no version", text("PLAY u\n\n"), shown("[bad_first_line]")),
            ("another protocol", text("INVITE sip:u SIP/2.0\n\n"), shown("[bad_first_line]")),
            ("method that is none", text("PL\u{E4}Y u RTSP/1.0\n\n"), shown("[bad_first_line]")),
            ("long method", text(&format!("{} u RTSP/1.0\n\n", "X".repeat(33))), shown("[bad_first_line]")),
            ("length that is none", text("PLAY u RTSP/1.0\nContent-Length: -1\n\n"), shown("[bad_content_length]")),
            ("length with a sign", text("PLAY u RTSP/1.0\nContent-Length: +1\n\n"), shown("[bad_content_length]")),
            ("body too large", text("PLAY u RTSP/1.0\nContent-Length: 65537\n\n"), shown("[body_too_large]")),
            ("body beyond numbers", text(&format!("PLAY u RTSP/1.0\nContent-Length: {}\n\n", "9".repeat(40))), {
                shown("[body_too_large]")
            }),
            ("largest head", big_head(HEAD_BYTES_MAX), head_of_16_k),
            ("head too large", big_head(HEAD_BYTES_MAX + 1), shown("[head_too_large]")),
            ("endless line", vec![b'a'; HEAD_BYTES_MAX + 10], shown("[head_too_large]")),
            ("incomplete", text("PLAY u RTSP/1.0\r\nCSeq: 1\r\n"), shown("")),
        ]
    }

    #[test]
    fn messages_and_frames() {
        for (name, bytes, expected) in cases() {
            assert_eq!(read([&bytes[..]]), expected, "{name}");
        }
    }

    #[test]
    fn every_cut_gives_the_same() {
        for (name, bytes, expected) in cases() {
            let step = if bytes.len() > 2_000 { 997 } else { 1 };
            for cut in (0..=bytes.len()).step_by(step) {
                assert_eq!(read([&bytes[..cut], &bytes[cut..]]), expected, "{name}, cut at {cut}");
            }
            assert_eq!(read(bytes.chunks(1)), expected, "{name}, byte by byte");
        }
    }

    #[test]
    fn a_frame_in_one_piece_is_not_copied() {
        let bytes = b"$\x01\0\x02ab$\x01\0\x02cd";
        let mut reader = Reader::default();
        let mut input = &bytes[..];
        assert_eq!(reader.next(&mut input).unwrap(), Some(Item::Frame { channel: 1, payload: b"ab" }));
        assert_eq!(reader.next(&mut input).unwrap(), Some(Item::Frame { channel: 1, payload: b"cd" }));
        assert_eq!(reader.buffer.capacity(), 0);
    }

    #[test]
    fn what_is_not_complete_is_known() {
        let mut reader = Reader::default();
        let pieces =
            [("ANNOUNCE rtsp://h/a/b RTSP/1.0\r\n", 32), ("Content-Length: 50\r\n\r\n", 36), ("v=0", 39), (&"x".repeat(47), 0)];
        for (piece, held_bytes) in pieces {
            let complete = reader.next(&mut piece.as_bytes()).unwrap().is_some();
            assert_eq!((reader.held_bytes(), complete), (held_bytes, held_bytes == 0), "{piece}");
        }
    }

    #[test]
    fn responses_have_what_they_need() {
        let server = concat!("Server: shardcast/", env!("CARGO_PKG_VERSION"), "\r\n");
        let plain = Response::from(Status::NotFound).write(None, None);
        assert_eq!(plain, format!("RTSP/1.0 404 Not Found\r\n{server}\r\n"));
        let full = Response::ok().header("Content-Base", "u/").body("application/sdp", "v=0\r\n".to_owned());
        let expected = format!(
            "RTSP/1.0 200 OK\r\nCSeq: 7\r\nSession: 1;timeout=60\r\n{server}Content-Base: u/\r\n\
             Content-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n"
        );
        assert_eq!(full.write(Some("7"), Some("1;timeout=60")), expected);
    }
}
