//! Bytes → one request head, reduced to what the server acts on.
//!
//! RFC 9112 §2–§3, §6 and §9 (message, request line, body length, persistence) with the crate `httparse`; RFC 6455 §4.2.1 (the
//! WebSocket wish). Both forms of a target that a server meets are taken: origin form and absolute form (§3.2); `*` for OPTIONS.
//!
//! Limits: [`HEAD_BYTES_MAX`], [`HEADERS_MAX`], [`BODY_BYTES_MAX`], [`AGENT_BYTES_MAX`]. A [`Request`] owns its text; the bytes it was
//! read from can go.
//!
//! Not here: bodies (they are skipped by their length), chunked requests, cookies, and what credentials are worth.

use super::error::HttpError;
use crate::format::websocket::{accept_key, is_key};
use crate::protocol::common::TUNNEL_COOKIE;
use crate::protocol::common::url::{Query, split_query};

/// The largest request head, from the request line to the empty line.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;

/// The most headers in a request.
pub const HEADERS_MAX: usize = 64;

/// The largest request body that is skipped.
pub const BODY_BYTES_MAX: u64 = 4 * 1024;

/// A longer `User-Agent` is cut here.
pub const AGENT_BYTES_MAX: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Options,
    /// One that the server does not serve.
    Other,
}

/// The client's wish to go on as a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upgrade {
    WebSocket {
        /// The value of `Sec-WebSocket-Accept`.
        accept: String,
        /// The first subprotocol that the client offers.
        subprotocol: Option<String>,
    },
    /// Another version than 13.
    WrongVersion,
    /// A missing or bad key or subprotocol, or a request with a body.
    Broken,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: Method,
    /// As sent: begins with `/` and still percent-encoded, or is `*`.
    pub path: String,
    pub query: Query,
    /// The connection may serve another request after this one.
    pub keep_alive: bool,
    /// Whether the peer knows chunked bodies.
    pub http_1_1: bool,
    /// Bytes behind the head that belong to this request.
    pub body_bytes: u64,
    pub agent: Option<String>,
    /// As sent, if it is text.
    pub authorization: Option<String>,
    pub upgrade: Option<Upgrade>,
    /// Whether the answer may come compressed.
    pub gzip: bool,
    /// As sent, if they are text.
    pub if_none_match: Option<String>,
    pub range: Option<String>,
    pub if_range: Option<String>,
    /// `Access-Control-Request-Private-Network: true`.
    pub private_network: bool,
    /// One half of a tunnel for another protocol; nothing else of the request has been looked at.
    pub tunnel: bool,
}

impl Request {
    /// The request at the front of `bytes` and the length of its head; `None` while the head is incomplete.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Request, usize)>, HttpError> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Request::new(&mut headers);
        let bounded = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
        match head.parse(bounded) {
            Ok(httparse::Status::Complete(len)) => Ok(Some((Request::from_head(&head)?, len))),
            Ok(httparse::Status::Partial) if bytes.len() >= HEAD_BYTES_MAX => Err(HttpError::HeadTooLarge),
            Ok(httparse::Status::Partial) => Ok(None),
            Err(httparse::Error::TooManyHeaders) => Err(HttpError::HeadTooLarge),
            Err(error) => Err(HttpError::Malformed(error)),
        }
    }

    fn from_head(head: &httparse::Request<'_, '_>) -> Result<Request, HttpError> {
        let headers = Headers(head.headers);
        let method = match head.method.unwrap_or_default() {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "OPTIONS" => Method::Options,
            _ => Method::Other,
        };
        let http_1_1 = head.version == Some(1);
        if headers.all(TUNNEL_COOKIE).next().is_some() {
            return Ok(Request::tunnel(method));
        }
        check_host(&headers, http_1_1)?;
        if headers.all("transfer-encoding").next().is_some() {
            return Err(HttpError::TransferEncoding);
        }
        let body_bytes = content_length(&headers)?;
        let (path, query) = target(method, head.path.unwrap_or_default())?;
        // A client that waits for "100 Continue" may or may not send its body after another answer (RFC 9110 §10.1.1).
        let body_in_doubt = body_bytes > 0 && headers.all("expect").next().is_some();
        Ok(Request {
            method,
            path: path.to_owned(),
            query: Query::parse(query),
            http_1_1,
            keep_alive: http_1_1 && !headers.has_token("connection", "close") && !body_in_doubt,
            body_bytes,
            agent: headers.all("user-agent").next().and_then(agent),
            authorization: headers.text("authorization"),
            upgrade: if http_1_1 && method == Method::Get { upgrade(&headers, body_bytes) } else { None },
            gzip: headers.items("accept-encoding").any(takes_gzip),
            if_none_match: headers.text("if-none-match"),
            range: headers.text("range"),
            if_range: headers.text("if-range"),
            private_network: headers.has_token("access-control-request-private-network", "true"),
            tunnel: false,
        })
    }

    fn tunnel(method: Method) -> Request {
        Request {
            method,
            path: String::new(),
            query: Query::default(),
            keep_alive: false,
            http_1_1: false,
            body_bytes: 0,
            agent: None,
            authorization: None,
            upgrade: None,
            gzip: false,
            if_none_match: None,
            range: None,
            if_range: None,
            private_network: false,
            tunnel: true,
        }
    }
}

/// The headers of one request; names are compared without case.
struct Headers<'a>(&'a [httparse::Header<'a>]);

impl<'a> Headers<'a> {
    fn all(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }

    /// The items of a comma-separated header, over all its lines (RFC 9110 §5.6.1).
    fn items(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        self.all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .map(|item| item.trim_ascii())
            .filter(|item| !item.is_empty())
    }

    /// The first value of a header, if it is text.
    fn text(&self, name: &'static str) -> Option<String> {
        self.all(name).next().and_then(|value| String::from_utf8(value.to_vec()).ok())
    }

    fn has_token(&self, name: &'static str, token: &str) -> bool {
        self.items(name).any(|item| item.eq_ignore_ascii_case(token.as_bytes()))
    }
}

/// RFC 9112 §3.2.
fn check_host(headers: &Headers<'_>, http_1_1: bool) -> Result<(), HttpError> {
    match headers.all("host").count() {
        1 => Ok(()),
        0 if !http_1_1 => Ok(()),
        _ => Err(HttpError::BadHost),
    }
}

/// RFC 9112 §6.3. Several lengths are an error even if they agree: proxies read them differently.
fn content_length(headers: &Headers<'_>) -> Result<u64, HttpError> {
    let mut values = headers.all("content-length");
    let Some(value) = values.next() else { return Ok(0) };
    if values.next().is_some() || value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(HttpError::BadContentLength);
    }
    let length = value.iter().fold(0u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    if length > BODY_BYTES_MAX { Err(HttpError::BodyTooLarge) } else { Ok(length) }
}

/// Path and query of a target (RFC 9112 §3.2).
fn target(method: Method, target: &str) -> Result<(&str, &str), HttpError> {
    let origin = match split_scheme(target) {
        Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => target,
    };
    // CONNECT's authority form and the like belong to methods that are refused anyhow.
    if origin.starts_with('/') || method == Method::Other || (method == Method::Options && origin == "*") {
        return Ok(split_query(origin));
    }
    Err(HttpError::BadTarget)
}

/// What stands behind `http://`.
fn split_scheme(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_at_checked("http://".len())?;
    scheme.eq_ignore_ascii_case("http://").then_some(rest)
}

fn agent(value: &[u8]) -> Option<String> {
    let value = String::from_utf8_lossy(value);
    let mut text = String::new();
    for c in value.trim().chars().filter(|c| !c.is_control()) {
        if text.len() + c.len_utf8() > AGENT_BYTES_MAX {
            break;
        }
        text.push(c);
    }
    (!text.is_empty()).then_some(text)
}

/// Whether an item of `Accept-Encoding` is gzip, and not with a weight of zero (RFC 9110 §12.5.3).
fn takes_gzip(item: &[u8]) -> bool {
    let mut parts = item.split(|byte| *byte == b';').map(|part| part.trim_ascii());
    let is_gzip = parts.next().is_some_and(|coding| coding.eq_ignore_ascii_case(b"gzip"));
    let is_refused = |weight: &[u8]| {
        let digits = weight.strip_prefix(b"q=").or(weight.strip_prefix(b"Q="));
        digits.is_some_and(|digits| digits.iter().all(|digit| matches!(digit, b'0' | b'.')))
    };
    is_gzip && !parts.any(is_refused)
}

/// RFC 6455 §4.2.1.
fn upgrade(headers: &Headers<'_>, body_bytes: u64) -> Option<Upgrade> {
    if !headers.has_token("upgrade", "websocket") || !headers.has_token("connection", "upgrade") {
        return None;
    }
    if headers.all("sec-websocket-version").next() != Some(b"13") {
        return Some(Upgrade::WrongVersion);
    }
    let mut keys = headers.all("sec-websocket-key");
    let key = keys.next().and_then(|key| std::str::from_utf8(key).ok()).filter(|key| is_key(key));
    let (Some(key), None, 0) = (key, keys.next(), body_bytes) else { return Some(Upgrade::Broken) };
    let subprotocol = match headers.items("sec-websocket-protocol").next() {
        None => None,
        Some(offer) => match token(offer) {
            Some(offer) => Some(offer.to_owned()),
            None => return Some(Upgrade::Broken),
        },
    };
    Some(Upgrade::WebSocket { accept: accept_key(key), subprotocol })
}

/// RFC 9110 §5.6.2.
fn token(text: &[u8]) -> Option<&str> {
    let is_token_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    text.iter().all(is_token_byte).then(|| std::str::from_utf8(text).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<(Request, usize)>, HttpError> {
        Request::parse(text.as_bytes())
    }

    fn one(text: &str) -> Request {
        let (request, len) = parse(text).unwrap().unwrap();
        assert_eq!(len, text.len());
        request
    }

    #[test]
    fn methods_targets_and_persistence() {
        let cases = [
            ("GET /live/a.flv HTTP/1.1\r\nHost: x\r\n\r\n", Method::Get, "/live/a.flv", true),
            ("\r\nGET / HTTP/1.1\nHost: x\n\n", Method::Get, "/", true),
            ("HEAD /a%20b?x=1 HTTP/1.1\r\nhost:x\r\n\r\n", Method::Head, "/a%20b", true),
            ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", Method::Options, "*", true),
            ("GET http://h:1/live/a?x=1 HTTP/1.1\r\nHost: x\r\n\r\n", Method::Get, "/live/a", true),
            ("GET HTTP://h HTTP/1.1\r\nHost: x\r\n\r\n", Method::Get, "/", true),
            ("CONNECT h:443 HTTP/1.1\r\nHost: x\r\n\r\n", Method::Other, "h:443", true),
            ("get / HTTP/1.1\r\nHost: x\r\n\r\n", Method::Other, "/", true),
            ("GET / HTTP/1.0\r\n\r\n", Method::Get, "/", false),
            ("GET / HTTP/1.1\r\nHost: x\r\nConnection: foo, Close\r\n\r\n", Method::Get, "/", false),
            ("GET / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n", Method::Get, "/", false),
        ];
        for (text, method, path, keep_alive) in cases {
            let request = one(text);
            assert_eq!((request.method, &*request.path, request.keep_alive), (method, path, keep_alive), "{text:?}");
        }
    }

    #[test]
    fn refused_heads() {
        use HttpError::*;
        let cases = [
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Malformed(httparse::Error::Version)),
            ("GET /\r\n\r\n", Malformed(httparse::Error::Token)),
            ("\x16\x03\x01\x02", Malformed(httparse::Error::Token)),
            ("GET / HTTP/1.1\r\nHo st: x\r\n\r\n", Malformed(httparse::Error::HeaderName)),
            ("GET / HTTP/1.1\r\n\r\n", BadHost),
            ("GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", BadHost),
            ("GET * HTTP/1.1\r\nHost: x\r\n\r\n", BadTarget),
            ("GET live/a.flv HTTP/1.1\r\nHost: x\r\n\r\n", BadTarget),
            ("GET ftp://h/a HTTP/1.1\r\nHost: x\r\n\r\n", BadTarget),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 4097\r\n\r\n", BodyTooLarge),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n", BodyTooLarge),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", BadContentLength),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n", BadContentLength),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", BadContentLength),
            ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", TransferEncoding),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn heads_are_bounded() {
        let head = |value_bytes: usize| format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(value_bytes));
        let fixed = head(0).len();
        assert!(parse(&head(HEAD_BYTES_MAX - fixed)).unwrap().is_some());
        assert_eq!(parse(&head(HEAD_BYTES_MAX - fixed + 1)), Err(HttpError::HeadTooLarge));
        let headers = |count: usize| format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
        assert!(parse(&headers(HEADERS_MAX)).unwrap().is_some());
        assert_eq!(parse(&headers(HEADERS_MAX + 1)), Err(HttpError::HeadTooLarge));
    }

    #[test]
    fn every_cut_of_a_head_is_incomplete() {
        let text = "GET /live/a.flv?hevc=legacy HTTP/1.1\r\nHost: x\r\nUser-Agent: t\r\nContent-Length: 12\r\n\r\n";
        for cut in 0..text.len() {
            assert_eq!(parse(&text[..cut]), Ok(None), "{cut}");
        }
        let request = one(text);
        assert_eq!((request.body_bytes, request.agent.as_deref(), request.query.get("hevc")), (12, Some("t"), Some("legacy")));
    }

    #[test]
    fn agents_are_cut_and_cleaned() {
        let cases = [("a\tb", Some("ab".to_owned())), (" ", None), (&"é".repeat(300), Some("é".repeat(128)))];
        for (value, expected) in cases {
            assert_eq!(agent(value.as_bytes()), expected);
        }
    }

    #[test]
    fn websocket_wishes() {
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        let yes = |subprotocol: Option<&str>| {
            Some(Upgrade::WebSocket { accept: accept.to_owned(), subprotocol: subprotocol.map(str::to_owned) })
        };
        let cases = [
            ("none", String::new(), None),
            ("no Connection", format!("Upgrade: websocket\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"), None),
            ("another protocol", "Upgrade: h2c\r\nConnection: upgrade\r\n".to_owned(), None),
            ("plain", wish(key, "13", ""), yes(None)),
            ("offers", wish(key, "13", "Sec-WebSocket-Protocol: , flv, x\r\nSec-WebSocket-Protocol: y\r\n"), yes(Some("flv"))),
            ("bad offer", wish(key, "13", "Sec-WebSocket-Protocol: a b\r\n"), Some(Upgrade::Broken)),
            ("version 8", wish(key, "8", ""), Some(Upgrade::WrongVersion)),
            ("short key", wish("AAAA", "13", ""), Some(Upgrade::Broken)),
            ("two keys", wish(key, "13", &format!("Sec-WebSocket-Key: {key}\r\n")), Some(Upgrade::Broken)),
            ("body", wish(key, "13", "Content-Length: 1\r\n"), Some(Upgrade::Broken)),
        ];
        for (name, headers, expected) in cases {
            assert_eq!(one(&format!("GET /a/b.flv HTTP/1.1\r\nHost: x\r\n{headers}\r\n")).upgrade, expected, "{name}");
            assert_eq!(one(&format!("GET /a/b.flv HTTP/1.0\r\n{headers}\r\n")).upgrade, None, "{name}, HTTP/1.0");
        }
    }

    fn wish(key: &str, version: &str, more: &str) -> String {
        format!(
            "upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: {version}\r\n{more}"
        )
    }
}
