//! Bytes ↔ SIP requests and responses.
//!
//! RFC 3261 §7:
//!
//! ```text
//! METHOD SP uri SP SIP/2.0 CRLF  |  SIP/2.0 SP status SP reason CRLF
//! *(name: value CRLF) CRLF [body]
//! ```
//!
//! A bare LF ends a line too, a line that begins with a blank continues the one before, and bytes that are not UTF-8 are replaced. The body
//! is as long as Content-Length says, else all that follows (§18.3). Limits: [`HEAD_BYTES_MAX`], [`HEADERS_MAX`], [`BODY_BYTES_MAX`].
//!
//! Not here: where a message begins in the bytes of a connection (`framing`), and whether a request makes sense (`transaction`).

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

use super::Hop;
use super::headers::{Address, CSeq, Headers, Via, via_received};
use super::tokens::Tokens;

/// The largest message head, from the first line to the empty one, in bytes.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Headers of a message; with more it is refused.
pub const HEADERS_MAX: usize = 128;
/// The largest body, in bytes. Devices that have more to say send several messages.
pub const BODY_BYTES_MAX: usize = 256 * 1024;
const METHOD_BYTES_MAX: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("the head of a SIP message is longer than {HEAD_BYTES_MAX} bytes")]
    HeadTooLong,
    #[error("a SIP message has more than {HEADERS_MAX} headers")]
    TooManyHeaders,
    #[error("the body of a SIP message is longer than {BODY_BYTES_MAX} bytes")]
    BodyTooLong,
    #[error("a SIP message has no empty line behind its head")]
    NoEnd,
    #[error("this is no SIP message: its first line is neither a request nor a response")]
    BadFirstLine,
    #[error("a SIP message has a version other than SIP/2.0")]
    BadVersion,
    #[error("a SIP message has a header line without a name and a colon")]
    BadHeader,
    #[error("a SIP message has a Content-Length that is no number")]
    BadLength,
    #[error("a SIP message is shorter than its Content-Length says")]
    BodyCut,
    #[error("a SIP message lacks Via, From, To, Call-ID or CSeq, or one of them is broken")]
    NoIdentity,
}

impl MessageError {
    /// The label under which it is counted.
    pub fn reason(self) -> &'static str {
        match self {
            MessageError::HeadTooLong => "sip_head_too_long",
            MessageError::TooManyHeaders => "sip_too_many_headers",
            MessageError::BodyTooLong => "sip_body_too_long",
            MessageError::NoEnd => "sip_no_end",
            MessageError::BadFirstLine => "sip_bad_first_line",
            MessageError::BadVersion => "sip_bad_version",
            MessageError::BadHeader => "sip_bad_header",
            MessageError::BadLength => "sip_bad_length",
            MessageError::BodyCut => "sip_body_cut",
            MessageError::NoIdentity => "sip_no_identity",
        }
    }

    /// What a request of this kind is answered, if it can be.
    pub fn status(self) -> u16 {
        match self {
            MessageError::BodyTooLong | MessageError::HeadTooLong => 413,
            MessageError::BadVersion => 505,
            _ => 400,
        }
    }
}

/// RFC 3261 §7.1, RFC 3428, RFC 6086, RFC 6665. Case matters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    Register,
    Message,
    Invite,
    Ack,
    Bye,
    Cancel,
    Info,
    Options,
    Subscribe,
    Notify,
    Other(Box<str>),
}

impl Method {
    /// `None`: that is no token.
    pub fn parse(text: &str) -> Option<Self> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte);
        if text.is_empty() || text.len() > METHOD_BYTES_MAX || !text.bytes().all(is_token) {
            return None;
        }
        Some(match text {
            "REGISTER" => Method::Register,
            "MESSAGE" => Method::Message,
            "INVITE" => Method::Invite,
            "ACK" => Method::Ack,
            "BYE" => Method::Bye,
            "CANCEL" => Method::Cancel,
            "INFO" => Method::Info,
            "OPTIONS" => Method::Options,
            "SUBSCRIBE" => Method::Subscribe,
            "NOTIFY" => Method::Notify,
            other => Method::Other(other.into()),
        })
    }

    pub fn as_str(&self) -> &str {
        match self {
            Method::Register => "REGISTER",
            Method::Message => "MESSAGE",
            Method::Invite => "INVITE",
            Method::Ack => "ACK",
            Method::Bye => "BYE",
            Method::Cancel => "CANCEL",
            Method::Info => "INFO",
            Method::Options => "OPTIONS",
            Method::Subscribe => "SUBSCRIBE",
            Method::Notify => "NOTIFY",
            Method::Other(name) => name,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: Method,
    /// As sent.
    pub uri: String,
    pub headers: Headers,
    pub body: Bytes,
    /// The tag of our answers, where it came from the network.
    answer_tag: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub reason: String,
    pub headers: Headers,
    pub body: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Request(Request),
    Response(Response),
}

/// What `framing` must know of a head.
pub(super) struct Head {
    pub message: Message,
    /// Content-Length.
    pub length: Option<usize>,
}

impl Message {
    /// A whole message and nothing else.
    pub fn parse(bytes: &[u8]) -> Result<Message, MessageError> {
        let (head, body) = bytes.split_at(head_end(bytes).ok_or(MessageError::NoEnd)?);
        let Head { mut message, length } = Message::parse_head(head)?;
        let length = length.unwrap_or(body.len());
        if length > BODY_BYTES_MAX {
            return Err(MessageError::BodyTooLong);
        }
        let body = body.get(..length).ok_or(MessageError::BodyCut)?;
        match &mut message {
            Message::Request(Request { body: out, .. }) | Message::Response(Response { body: out, .. }) => {
                *out = Bytes::copy_from_slice(body);
            }
        }
        Ok(message)
    }

    /// What can be said of a message whose body is missing or too long.
    pub(super) fn parse_without_body(bytes: &[u8]) -> Option<Message> {
        let head = bytes.get(..head_end(bytes)?)?;
        Message::parse_head(head).ok().map(|head| head.message)
    }

    /// `head` ends with the empty line.
    pub(super) fn parse_head(head: &[u8]) -> Result<Head, MessageError> {
        if head.len() > HEAD_BYTES_MAX {
            return Err(MessageError::HeadTooLong);
        }
        let text = String::from_utf8_lossy(head);
        let mut lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        let first = lines.by_ref().find(|line| !line.is_empty()).ok_or(MessageError::BadFirstLine)?;
        let mut message = first_line(first)?;
        let headers = message.headers_mut();
        read_headers(lines, headers)?;
        let length = match headers.get("Content-Length") {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| MessageError::BadLength)?),
        };
        headers.remove("Content-Length");
        Ok(Head { message, length })
    }

    pub fn headers(&self) -> &Headers {
        match self {
            Message::Request(request) => &request.headers,
            Message::Response(response) => &response.headers,
        }
    }

    fn headers_mut(&mut self) -> &mut Headers {
        match self {
            Message::Request(request) => &mut request.headers,
            Message::Response(response) => &mut response.headers,
        }
    }
}

/// Where the body begins.
fn head_end(bytes: &[u8]) -> Option<usize> {
    let begin = blank_lines(bytes);
    empty_line(&bytes[begin..]).map(|end| begin + end)
}

/// Bytes of the empty lines in front of a message.
pub(super) fn blank_lines(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}

/// Behind the first empty line.
pub(super) fn empty_line(bytes: &[u8]) -> Option<usize> {
    let mut ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    ends.find_map(|next| match bytes.get(next..)? {
        [b'\n', ..] => Some(next + 1),
        [b'\r', b'\n', ..] => Some(next + 2),
        _ => None,
    })
}

fn first_line(line: &str) -> Result<Message, MessageError> {
    let (first, rest) = line.trim_end().split_once(' ').ok_or(MessageError::BadFirstLine)?;
    let (headers, body) = (Headers::default(), Bytes::new());
    if first.get(..4).is_some_and(|name| name.eq_ignore_ascii_case("SIP/")) {
        check_version(first)?;
        let (status, reason) = rest.trim_start().split_once(' ').unwrap_or((rest.trim(), ""));
        let status = status.parse().ok().filter(|status| (100..700).contains(status)).ok_or(MessageError::BadFirstLine)?;
        return Ok(Message::Response(Response { status, reason: printable(reason), headers, body }));
    }
    let (uri, version) = rest.trim().rsplit_once([' ', '\t']).ok_or(MessageError::BadFirstLine)?;
    let method = Method::parse(first).ok_or(MessageError::BadFirstLine)?;
    check_version(version)?;
    let uri = uri.trim();
    if uri.is_empty() || uri.contains(char::is_whitespace) {
        return Err(MessageError::BadFirstLine);
    }
    Ok(Message::Request(Request { method, uri: printable(uri), headers, body, answer_tag: None }))
}

fn check_version(version: &str) -> Result<(), MessageError> {
    match version.split_once('/') {
        Some((name, "2.0")) if name.eq_ignore_ascii_case("SIP") => Ok(()),
        Some((name, _)) if name.eq_ignore_ascii_case("SIP") => Err(MessageError::BadVersion),
        _ => Err(MessageError::BadFirstLine),
    }
}

fn printable(text: &str) -> String {
    text.trim().chars().filter(|c| !c.is_control()).collect()
}

/// Up to the empty line.
fn read_headers<'a>(lines: impl Iterator<Item = &'a str>, headers: &mut Headers) -> Result<(), MessageError> {
    let mut whole: Option<(&str, Cow<'_, str>)> = None;
    let mut finish = |header: Option<(&str, Cow<'_, str>)>| {
        if let Some((name, value)) = header {
            headers.read(name, &value);
        }
        if headers.len() > HEADERS_MAX { Err(MessageError::TooManyHeaders) } else { Ok(()) }
    };
    for line in lines.take_while(|line| !line.is_empty()) {
        if line.starts_with([' ', '\t']) {
            let (_, value) = whole.as_mut().ok_or(MessageError::BadHeader)?;
            value.to_mut().push(' ');
            value.to_mut().push_str(line.trim());
            continue;
        }
        finish(whole.take())?;
        let (name, value) = line.split_once(':').ok_or(MessageError::BadHeader)?;
        let name = name.trim();
        if name.is_empty() || name.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(MessageError::BadHeader);
        }
        whole = Some((name, Cow::Borrowed(value.trim())));
    }
    finish(whole)
}

/// What makes a request one of a transaction and a dialog; all of it is there in a request that `transaction` gives out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    pub via: Via<'a>,
    pub from: Address<'a>,
    pub to: Address<'a>,
    pub call_id: &'a str,
    pub cseq: CSeq,
}

impl<'a> Identity<'a> {
    pub fn of(headers: &'a Headers) -> Option<Self> {
        Some(Identity {
            via: Via::parse(headers.get("Via")?)?,
            from: Address::parse(headers.get("From")?)?,
            to: Address::parse(headers.get("To")?)?,
            call_id: headers.get("Call-ID").filter(|id| !id.is_empty())?,
            cseq: CSeq::parse(headers.get("CSeq")?)?,
        })
    }
}

impl Request {
    /// Without headers and body.
    pub fn new(method: Method, uri: &str) -> Self {
        Request { method, uri: printable(uri), headers: Headers::default(), body: Bytes::new(), answer_tag: None }
    }

    pub fn identity(&self) -> Option<Identity<'_>> {
        Identity::of(&self.headers)
    }

    /// Who it is from: the id of a device or platform.
    pub fn from_user(&self) -> Option<&str> {
        self.headers.get("From").and_then(Address::parse).map(|from| from.user())
    }

    /// Whom it is for.
    pub fn to_user(&self) -> Option<&str> {
        self.headers.get("To").and_then(Address::parse).map(|to| to.user())
    }

    /// Of the header, else of the Contact, in seconds.
    pub fn expires_s(&self) -> Option<u32> {
        let contact = || self.headers.get("Contact").and_then(Address::parse).and_then(|contact| contact.parameter("expires"));
        self.headers.get("Expires").or_else(contact)?.trim().parse().ok()
    }

    /// Without parameters, in lower case.
    pub fn content_type(&self) -> Option<String> {
        content_type(&self.headers)
    }

    /// Replaces the body. `kind`: its Content-Type.
    pub fn set_body(&mut self, kind: &str, body: impl Into<Bytes>) {
        self.headers.set("Content-Type", kind);
        self.body = body.into();
    }

    /// An answer with what must be the same in it: RFC 3261 §8.2.6.2. All answers to one request have the same tag.
    pub fn response(&self, status: u16) -> Response {
        let mut headers = Headers::default();
        // The last is of proxies, for the requests that follow (§12.1.1).
        for name in ["Via", "From", "To", "Call-ID", "CSeq", "Record-Route"] {
            for value in self.headers.all(name) {
                headers.push(name, value);
            }
        }
        let to = headers.get("To").unwrap_or_default();
        if status > 100 && Address::parse(to).is_some_and(|to| to.tag().is_none()) {
            let to = format!("{to};tag={}", self.answer_tag.clone().unwrap_or_else(|| self.plain_tag()));
            headers.set("To", &to);
        }
        Response { status, reason: reason_of(status).to_owned(), headers, body: Bytes::new() }
    }

    /// Sets the tag of our answers, made of what is the same in all repetitions, and in a CANCEL. RFC 3261 §19.3: nobody can guess it, as
    /// whoever knows it may speak in the dialog.
    pub(super) fn set_answer_tag(&mut self, tokens: &Tokens) {
        let [call_id, from, cseq] = ["Call-ID", "From", "CSeq"].map(|name| self.headers.get(name).unwrap_or_default());
        let number = cseq.split_ascii_whitespace().next().unwrap_or_default();
        self.answer_tag = Some(tokens.of(&[call_id, from, number]));
    }

    /// The tag in answers to a request that has not come through transactions, of which nothing follows (FNV-1a).
    fn plain_tag(&self) -> String {
        let parts = ["Call-ID", "From", "CSeq"].map(|name| self.headers.get(name).unwrap_or_default());
        let bytes = parts.iter().flat_map(|part| part.bytes());
        let hash = bytes.fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3));
        format!("{hash:016x}")
    }

    /// Notes in its first Via where it came from.
    pub(super) fn note_source(&mut self, hop: &Hop) {
        if let Some(via) = self.headers.get("Via") {
            let via = via_received(via, hop.peer);
            self.headers.set("Via", &via);
        }
    }

    pub fn to_bytes(&self) -> Bytes {
        write(format_args!("{} {} SIP/2.0", self.method, self.uri), &self.headers, &self.body)
    }

    /// About as many as it has.
    pub fn held_bytes(&self) -> usize {
        self.uri.len() + self.headers.bytes() + self.body.len()
    }
}

impl Response {
    pub fn identity(&self) -> Option<Identity<'_>> {
        Identity::of(&self.headers)
    }

    pub fn is_success(&self) -> bool {
        self.status / 100 == 2
    }

    pub fn is_final(&self) -> bool {
        self.status >= 200
    }

    /// Without parameters, in lower case.
    pub fn content_type(&self) -> Option<String> {
        content_type(&self.headers)
    }

    /// Replaces the body. `kind`: its Content-Type.
    pub fn set_body(&mut self, kind: &str, body: impl Into<Bytes>) {
        self.headers.set("Content-Type", kind);
        self.body = body.into();
    }

    /// The status in words, for an operator: `486 Busy Here`.
    pub fn words(&self) -> String {
        let reason = if self.reason.is_empty() { reason_of(self.status) } else { &self.reason };
        format!("{} {reason}", self.status).trim_end().chars().take(100).collect()
    }

    pub fn to_bytes(&self) -> Bytes {
        write(format_args!("SIP/2.0 {} {}", self.status, printable(&self.reason)), &self.headers, &self.body)
    }
}

fn content_type(headers: &Headers) -> Option<String> {
    let value = headers.get("Content-Type")?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

fn write(first_line: fmt::Arguments<'_>, headers: &Headers, body: &[u8]) -> Bytes {
    let mut head = format!("{first_line}\r\n");
    for (name, value) in headers.iter() {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head += &format!("Content-Length: {}\r\n\r\n", body.len());
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    bytes.into()
}

/// RFC 3261 §21, RFC 6665 §7.3.
pub fn reason_of(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        200 => "OK",
        202 => "Accepted",
        302 => "Moved Temporarily",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        413 => "Request Entity Too Large",
        415 => "Unsupported Media Type",
        423 => "Interval Too Brief",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "Version Not Supported",
        _ => "",
    }
}
