//! SIP messages (RFC 3261 §7), as a device reads and writes them: bytes → start line, headers, body, and back.
//!
//! Read: long and compact names, lines folded or ended by LF alone. On a connection a message ends where Content-Length says. Limits:
//! [`MESSAGE_BYTES_MAX`]. Not here: what a message means.

/// A message on a connection may be so large.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// Long names and their compact forms (RFC 3261 §7.3.3, RFC 3265).
const COMPACT: [(&str, &str); 10] = [
    ("Via", "v"),
    ("From", "f"),
    ("To", "t"),
    ("Call-ID", "i"),
    ("Contact", "m"),
    ("Content-Length", "l"),
    ("Content-Type", "c"),
    ("Subject", "s"),
    ("Event", "o"),
    ("Supported", "k"),
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    Request { method: String, uri: String },
    Response { status: u16, reason: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub start: Start,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Message {
    pub fn request(method: &str, uri: &str) -> Message {
        let start = Start::Request { method: method.to_owned(), uri: uri.to_owned() };
        Message { start, headers: Vec::new(), body: Vec::new() }
    }

    /// The answer to `request`: what has to be repeated is.
    pub fn response(request: &Message, status: u16, reason: &str) -> Message {
        let repeated = |name: &&(String, String)| {
            ["Via", "From", "To", "Call-ID", "CSeq"].iter().any(|wanted| wanted.eq_ignore_ascii_case(&name.0))
        };
        let headers = request.headers.iter().filter(repeated).cloned().collect();
        Message { start: Start::Response { status, reason: reason.to_owned() }, headers, body: Vec::new() }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Message {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn with_body(mut self, content_type: &str, body: Vec<u8>) -> Message {
        self.body = body;
        self.with("Content-Type", content_type)
    }

    /// Changes the first header of that name.
    pub fn change(&mut self, name: &str, change: impl FnOnce(&mut String)) {
        if let Some((_, value)) = self.headers.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            change(value);
        }
    }

    /// The first header of that name, without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Of a request.
    pub fn method(&self) -> Option<&str> {
        match &self.start {
            Start::Request { method, .. } => Some(method),
            Start::Response { .. } => None,
        }
    }

    /// Of a response.
    pub fn status(&self) -> Option<u16> {
        match &self.start {
            Start::Request { .. } => None,
            Start::Response { status, .. } => Some(*status),
        }
    }

    /// The user of the request's URI.
    pub fn target(&self) -> Option<&str> {
        match &self.start {
            Start::Request { uri, .. } => Some(user(uri)),
            Start::Response { .. } => None,
        }
    }

    /// The branch of the topmost Via: names the transaction.
    pub fn branch(&self) -> Option<&str> {
        parameter(self.header("Via")?, "branch")
    }

    /// The number and the method of CSeq.
    pub fn sequence(&self) -> Option<(u32, &str)> {
        let (number, method) = self.header("CSeq")?.split_once(' ')?;
        Some((number.trim().parse().ok()?, method.trim()))
    }

    /// A whole message, such as a datagram; what is behind Content-Length is left out.
    pub fn parse(bytes: &[u8]) -> Option<Message> {
        let (head_bytes, body_at) = head_end(bytes)?;
        let mut message = Message::parse_head(&bytes[..head_bytes])?;
        let body = &bytes[body_at..];
        let length = message.content_length().unwrap_or(body.len());
        message.body = body.get(..length)?.to_vec();
        Some(message)
    }

    /// Takes the message at the front of what came on a connection. `Err`: it cannot be one, or is too large.
    pub fn take(bytes: &mut Vec<u8>) -> Result<Option<Message>, &'static str> {
        // Between messages, signs of life are empty lines.
        let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        bytes.drain(..blank);
        let Some((head_bytes, body_at)) = head_end(bytes) else {
            return if bytes.len() > MESSAGE_BYTES_MAX { Err("a head of a SIP message that is too long") } else { Ok(None) };
        };
        let mut message = Message::parse_head(&bytes[..head_bytes]).ok_or("something that is no SIP message")?;
        let length = message.content_length().unwrap_or(0);
        if length > MESSAGE_BYTES_MAX {
            return Err("a SIP message that is too long");
        }
        let Some(body) = bytes.get(body_at..body_at + length) else { return Ok(None) };
        message.body = body.to_vec();
        bytes.drain(..body_at + length);
        Ok(Some(message))
    }

    fn parse_head(head: &[u8]) -> Option<Message> {
        let head = String::from_utf8_lossy(head);
        let mut lines = head.lines();
        let start = lines.next()?;
        let start = match start.strip_prefix("SIP/2.0 ") {
            Some(rest) => {
                let (status, reason) = rest.split_once(' ').unwrap_or((rest, ""));
                Start::Response { status: status.parse().ok()?, reason: reason.to_owned() }
            }
            None => {
                let (method, uri) = start.strip_suffix(" SIP/2.0")?.split_once(' ')?;
                Start::Request { method: method.to_owned(), uri: uri.to_owned() }
            }
        };
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in lines {
            match (line.starts_with([' ', '\t']), headers.last_mut()) {
                (true, Some((_, value))) => *value = format!("{value} {}", line.trim()),
                _ => {
                    let (name, value) = line.split_once(':')?;
                    headers.push((long_name(name.trim()).to_owned(), value.trim().to_owned()));
                }
            }
        }
        Some(Message { start, headers, body: Vec::new() })
    }

    fn content_length(&self) -> Option<usize> {
        self.header("Content-Length")?.parse().ok()
    }

    /// With Content-Length. `compact`: under short names.
    pub fn write(&self, compact: bool) -> Vec<u8> {
        let mut head = match &self.start {
            Start::Request { method, uri } => format!("{method} {uri} SIP/2.0\r\n"),
            Start::Response { status, reason } => format!("SIP/2.0 {status} {reason}\r\n"),
        };
        let length = ("Content-Length".to_owned(), self.body.len().to_string());
        for (name, value) in self.headers.iter().chain([&length]) {
            let short = COMPACT.iter().find(|(long, _)| compact && long.eq_ignore_ascii_case(name));
            head += &format!("{}: {value}\r\n", short.map_or(name.as_str(), |(_, short)| short));
        }
        [head.as_bytes(), b"\r\n", &self.body].concat()
    }
}

/// Where the head ends, and where the body begins: behind an empty line.
fn head_end(bytes: &[u8]) -> Option<(usize, usize)> {
    let crlf = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let lf = bytes.windows(2).position(|window| window == b"\n\n");
    match (crlf, lf) {
        (Some(crlf), lf) if lf.is_none_or(|lf| crlf < lf) => Some((crlf, crlf + 4)),
        (_, Some(lf)) => Some((lf, lf + 2)),
        _ => None,
    }
}

fn long_name(name: &str) -> &str {
    COMPACT.iter().find(|(_, short)| short.eq_ignore_ascii_case(name)).map_or(name, |(long, _)| long)
}

/// The user in a URI, be it in angle brackets with a name before; the whole host where there is none.
pub fn user(uri: &str) -> &str {
    let uri = uri.rsplit_once('<').map_or(uri, |(_, uri)| uri);
    let uri = uri.strip_prefix("sip:").unwrap_or(uri);
    uri.split(['@', '>', ';']).next().unwrap_or_default()
}

/// What stands in angle brackets, or all without them: a Contact's URI.
pub fn uri(value: &str) -> &str {
    match value.split_once('<') {
        Some((_, rest)) => rest.split('>').next().unwrap_or_default(),
        None => value.split(';').next().unwrap_or_default().trim(),
    }
}

/// A parameter of a header: `;name=value`.
pub fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let mut parameters = value.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    parameters.find(|(known, _)| known.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim_end_matches('>').trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: &[u8] = b"MESSAGE sip:34020000001110000001@192.0.2.10:5060 SIP/2.0\r\nv: SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bK7;rport\r\n\
        From: \"P\" <sip:34020000002000000001@3402000000>;tag=a\r\nt: <sip:34020000001110000001@3402000000>\r\nCall-ID: x\r\nCSeq: 9 MESSAGE\r\n\
        Subject: a,\r\n b\r\nl: 2\r\n\r\nhi";

    #[test]
    fn messages_are_read_in_any_dress() {
        let message = Message::parse(OPTIONS).unwrap();
        assert_eq!((message.method(), message.target()), (Some("MESSAGE"), Some("34020000001110000001")));
        assert_eq!((message.branch(), message.sequence()), (Some("z9hG4bK7"), Some((9, "MESSAGE"))));
        assert_eq!((message.header("subject"), message.body.as_slice()), (Some("a, b"), &b"hi"[..]));
        assert_eq!(parameter(message.header("From").unwrap(), "tag"), Some("a"));
        assert_eq!(user(message.header("From").unwrap()), "34020000002000000001");
        let lines = String::from_utf8_lossy(OPTIONS).replace("\r\n", "\n");
        assert_eq!(Message::parse(lines.as_bytes()), Some(message));
        for broken in ["", "hello\r\n\r\n", "SIP/2.0 many\r\n\r\n", "A b SIP/2.0\r\nnothing\r\n\r\n"] {
            assert_eq!(Message::parse(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let request = Message::parse(OPTIONS).unwrap();
        let response = Message::response(&request, 200, "OK").with_body("Application/MANSCDP+xml", b"<a/>".to_vec());
        for compact in [false, true] {
            let bytes = response.write(compact);
            let back = Message::parse(&bytes).unwrap();
            assert_eq!((back.status(), back.header("Via"), &back.body), (Some(200), request.header("Via"), &response.body));
            assert_eq!(compact, bytes.windows(4).any(|window| window == b"\nl: "));
        }
    }

    #[test]
    fn a_connection_gives_messages_one_by_one() {
        let whole = [b"\r\n\r\n", OPTIONS, b"\r\n\r\n", OPTIONS].concat();
        for cut in 0..whole.len() {
            let mut bytes = whole[..cut].to_vec();
            let mut found = Vec::new();
            while let Some(message) = Message::take(&mut bytes).unwrap() {
                found.push(message);
            }
            bytes.extend_from_slice(&whole[cut..]);
            while let Some(message) = Message::take(&mut bytes).unwrap() {
                found.push(message);
            }
            assert_eq!(found, vec![Message::parse(OPTIONS).unwrap(); 2], "cut at {cut}");
        }
        assert!(Message::take(&mut vec![b'x'; MESSAGE_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn contacts_with_and_without_brackets() {
        for (value, expected) in
            [("<sip:a@h:1>;expires=3", "sip:a@h:1"), ("sip:a@h:1;x=y", "sip:a@h:1"), ("\"n\" <sip:b@h>", "sip:b@h")]
        {
            assert_eq!(uri(value), expected);
        }
    }
}
