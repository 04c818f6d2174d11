//! Response heads and small JSON bodies → bytes.
//!
//! RFC 9112 §4 (status line), RFC 9110 §15; the CORS headers of the Fetch standard §3.2. Responses to HTTP/1.0 say HTTP/1.1, as RFC
//! 9110 §2.5 wants. There is no `Date`: the session has no wall clock (RFC 9110 §6.6.1 allows that).
//!
//! Every text in here is a constant of the server, except the operator's origin and what [`super::request`] has checked.

use bytes::Bytes;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    SwitchingProtocols,
    Ok,
    NoContent,
    PartialContent,
    NotModified,
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    RangeNotSatisfiable,
    ContentTooLarge,
    UpgradeRequired,
    TooManyRequests,
    RequestHeaderFieldsTooLarge,
    NotImplemented,
    ServiceUnavailable,
}

impl Status {
    const fn line(self) -> &'static str {
        match self {
            Status::SwitchingProtocols => "101 Switching Protocols",
            Status::Ok => "200 OK",
            Status::NoContent => "204 No Content",
            Status::PartialContent => "206 Partial Content",
            Status::NotModified => "304 Not Modified",
            Status::RangeNotSatisfiable => "416 Range Not Satisfiable",
            Status::BadRequest => "400 Bad Request",
            Status::Unauthorized => "401 Unauthorized",
            Status::Forbidden => "403 Forbidden",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::RequestTimeout => "408 Request Timeout",
            Status::ContentTooLarge => "413 Content Too Large",
            Status::UpgradeRequired => "426 Upgrade Required",
            Status::TooManyRequests => "429 Too Many Requests",
            Status::RequestHeaderFieldsTooLarge => "431 Request Header Fields Too Large",
            Status::NotImplemented => "501 Not Implemented",
            Status::ServiceUnavailable => "503 Service Unavailable",
        }
    }
}

/// The methods that the server serves.
const METHODS: &str = "GET, HEAD, OPTIONS";

/// Headers of responses that pages of other sites may read.
const EXPOSED: &str = "Content-Length, Content-Range, ETag";

/// How long a browser may remember a preflight's answer.
const PREFLIGHT_SECONDS: &str = "86400";

/// What is the same for all responses of one request.
#[derive(Clone, Copy, Debug)]
pub struct Responder<'a> {
    /// `Access-Control-Allow-Origin`; empty: no CORS headers.
    pub allow_origin: &'a str,
    /// Announce that the connection ends with this response.
    pub close: bool,
    /// The request was HEAD: the same headers, no body.
    pub head_only: bool,
}

impl Responder<'_> {
    /// The head of a stream: chunked, or (for HTTP/1.0) until the connection ends. The answer to HEAD may leave it open.
    pub fn stream(self, content_type: &str, chunked: bool) -> Bytes {
        let head = self.start(Status::Ok).field("Content-Type", content_type).field("Cache-Control", "no-cache");
        if chunked { head.field("Transfer-Encoding", "chunked").end("") } else { head.end("") }
    }

    /// RFC 6455 §4.2.2.
    pub fn websocket(self, accept: &str, subprotocol: Option<&str>) -> Bytes {
        let head = Head::new(Status::SwitchingProtocols)
            .field("Upgrade", "websocket")
            .field("Connection", "Upgrade")
            .field("Sec-WebSocket-Accept", accept);
        match subprotocol {
            Some(subprotocol) => head.field("Sec-WebSocket-Protocol", subprotocol).end(""),
            None => head.end(""),
        }
    }

    /// The answer to OPTIONS, which is mostly a CORS preflight.
    pub fn options(self, private_network: bool) -> Bytes {
        let mut head = self.start(Status::NoContent).field("Allow", METHODS);
        if !self.allow_origin.is_empty() {
            head = head
                .field("Access-Control-Allow-Methods", METHODS)
                // The star does not stand for this one (Fetch §4.8, "CORS non-wildcard request-header name").
                .field("Access-Control-Allow-Headers", "*, Authorization")
                .field("Access-Control-Max-Age", PREFLIGHT_SECONDS);
            if private_network {
                head = head.field("Access-Control-Allow-Private-Network", "true");
            }
        }
        head.end("")
    }

    /// A head without a body, or one whose body follows.
    pub fn with_fields(self, status: Status, fields: &[(&str, String)]) -> Bytes {
        let mut head = self.start(status);
        if !self.allow_origin.is_empty() {
            head = head.field("Access-Control-Expose-Headers", EXPOSED);
        }
        fields.iter().fold(head, |head, (name, value)| head.field(name, value)).end("")
    }

    /// A refusal in JSON. `message` has nothing that JSON would escape.
    pub fn error(self, status: Status, message: &str) -> Bytes {
        self.error_with(status, message, None)
    }

    /// As [`Responder::error`]; `challenge`: the value of `WWW-Authenticate`.
    pub fn error_with(self, status: Status, message: &str, challenge: Option<&str>) -> Bytes {
        debug_assert!(!message.contains(['"', '\\']) && !message.chars().any(char::is_control));
        let body = format!("{{\"error\": \"{message}\"}}\n");
        let mut head = match status {
            // The option "upgrade" must accompany the header (RFC 9110 §7.8).
            Status::UpgradeRequired => Head::new(status)
                .field("Connection", "upgrade, close")
                .field("Upgrade", "websocket")
                .field("Sec-WebSocket-Version", "13")
                .cors(self.allow_origin),
            _ => self.start(status),
        };
        if status == Status::MethodNotAllowed {
            head = head.field("Allow", METHODS);
        }
        if let Some(challenge) = challenge {
            head = head.field("WWW-Authenticate", challenge);
        }
        head.field("Content-Type", "application/json")
            .field("Cache-Control", "no-cache")
            .field("Content-Length", &body.len().to_string())
            .end(if self.head_only { "" } else { &body })
    }

    fn start(self, status: Status) -> Head {
        let head = Head::new(status);
        let head = if self.close { head.field("Connection", "close") } else { head };
        head.cors(self.allow_origin)
    }
}

/// A response that is being written.
struct Head(String);

impl Head {
    fn new(status: Status) -> Self {
        let mut text = String::with_capacity(256);
        text.push_str("HTTP/1.1 ");
        text.push_str(status.line());
        text.push_str("\r\n");
        Head(text)
    }

    fn field(mut self, name: &str, value: &str) -> Self {
        for part in [name, ": ", value, "\r\n"] {
            self.0.push_str(part);
        }
        self
    }

    fn cors(self, allow_origin: &str) -> Self {
        if allow_origin.is_empty() { self } else { self.field("Access-Control-Allow-Origin", allow_origin) }
    }

    fn end(mut self, body: &str) -> Bytes {
        self.0.push_str("\r\n");
        self.0.push_str(body);
        Bytes::from(self.0)
    }
}
