//! The headers of a SIP message, and what stands in those that signalling turns on: Via, From, To, Contact, CSeq, Expires.
//!
//! RFC 3261 §7.3 and §20, RFC 3581 (`rport`). Names are compared without regard to case, and the short forms (`v`, `f`, `t` …) are the long
//! ones. Values own their text, from which control characters are taken out, so that no value can look like another header. Parsers of
//! values borrow it. Not here: reading and writing of whole messages (`message`).

use std::net::SocketAddr;

use super::message::Method;

/// In the order in which they came or will be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    pub fn all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.0.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Behind all others.
    pub fn push(&mut self, name: &str, value: &str) {
        self.0.push((long_name(name).to_owned(), clean(value)));
    }

    /// In front of all others.
    pub fn push_front(&mut self, name: &str, value: &str) {
        self.0.insert(0, (long_name(name).to_owned(), clean(value)));
    }

    /// In the place of the first of that name, else behind all others.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, old)) => *old = clean(value),
            None => self.push(name, value),
        }
    }

    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    }

    /// What was read: values that are lists get an entry for each element.
    pub(super) fn read(&mut self, name: &str, value: &str) {
        let name = long_name(name);
        if ["Via", "Contact", "Route", "Record-Route"].iter().any(|list| name.eq_ignore_ascii_case(list)) {
            for element in elements(value) {
                self.push(name, element);
            }
        } else {
            self.push(name, value);
        }
    }

    /// Bytes of names and values.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// RFC 3261 §7.3.3 and §20, RFC 6665 §8.4.
fn long_name(name: &str) -> &str {
    let &[letter] = name.as_bytes() else { return name };
    match letter.to_ascii_lowercase() {
        b'v' => "Via",
        b'f' => "From",
        b't' => "To",
        b'i' => "Call-ID",
        b'm' => "Contact",
        b'l' => "Content-Length",
        b'c' => "Content-Type",
        b's' => "Subject",
        b'e' => "Content-Encoding",
        b'k' => "Supported",
        b'o' => "Event",
        b'u' => "Allow-Events",
        _ => name,
    }
}

fn clean(value: &str) -> String {
    let printable: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    printable.trim().to_owned()
}

/// The elements of a list: commas in quotes and angle brackets separate nothing.
fn elements(value: &str) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped, mut is_bracketed) = (false, false, false);
    let ends = value.split(move |c: char| {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            '<' if !is_quoted => is_bracketed = true,
            '>' if !is_quoted => is_bracketed = false,
            ',' => return !is_quoted && !is_bracketed,
            _ => {}
        }
        false
    });
    ends.map(str::trim).filter(|element| !element.is_empty())
}

/// The parameter `name` in `;a=b;c`: its value without quotes, empty if it has none.
fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    parameters.split(';').find_map(|parameter| {
        let (known, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        known.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

/// RFC 3261 §20.42: `SIP/2.0/UDP host:port;branch=…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    /// `UDP`, `TCP` …
    pub transport: &'a str,
    /// Host and port, as sent.
    pub sent_by: &'a str,
    parameters: &'a str,
}

impl<'a> Via<'a> {
    pub fn parse(text: &'a str) -> Option<Self> {
        let (front, parameters) = text.split_once(';').unwrap_or((text, ""));
        let (protocol, sent_by) = front.trim_end().rsplit_once([' ', '\t'])?;
        let (version, transport) = protocol.rsplit_once('/')?;
        let is_sip = version.trim_start().get(..3).is_some_and(|name| name.eq_ignore_ascii_case("SIP"));
        is_sip.then_some(Via { transport: transport.trim(), sent_by, parameters })
    }

    pub fn branch(&self) -> Option<&'a str> {
        self.parameter("branch").filter(|branch| !branch.is_empty())
    }

    pub fn parameter(&self, name: &str) -> Option<&'a str> {
        parameter(self.parameters, name)
    }
}

/// A value of Via that says where the request came from: RFC 3261 §18.2.1, RFC 3581 §4.
pub(super) fn via_received(text: &str, from: SocketAddr) -> String {
    let (front, parameters) = text.split_once(';').unwrap_or((text, ""));
    let host = from.ip().to_canonical();
    let wants_port = parameter(parameters, "rport").is_some();
    let mut out = front.trim_end().to_owned();
    for one in parameters.split(';').map(str::trim).filter(|one| !one.is_empty()) {
        let name = one.split('=').next().unwrap_or_default().trim_end();
        if name.eq_ignore_ascii_case("rport") {
            out += &format!(";rport={}", from.port());
        } else if !name.eq_ignore_ascii_case("received") {
            out += &format!(";{one}");
        }
    }
    let sent_by = Via::parse(text).map_or("", |via| via.sent_by);
    if wants_port || host_of(sent_by) != host.to_string() {
        out += &format!(";received={host}");
    }
    out
}

/// Without the port.
fn host_of(host_and_port: &str) -> &str {
    match host_and_port.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host_and_port.split(':').next().unwrap_or_default(),
    }
}

/// RFC 3261 §20.10: `"name" <uri>;parameters`, or `uri;parameters`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address<'a> {
    pub uri: &'a str,
    parameters: &'a str,
}

impl<'a> Address<'a> {
    pub fn parse(text: &'a str) -> Option<Self> {
        let text = behind_quotes(text.trim());
        let (uri, parameters) = match text.split_once('<') {
            Some((_, rest)) => rest.split_once('>')?,
            None => text.split_once(';').unwrap_or((text, "")),
        };
        let uri = uri.trim();
        (!uri.is_empty()).then_some(Address { uri, parameters })
    }

    /// The id of a device or channel.
    pub fn user(&self) -> &'a str {
        uri_user(self.uri)
    }

    pub fn tag(&self) -> Option<&'a str> {
        self.parameter("tag").filter(|tag| !tag.is_empty())
    }

    pub fn parameter(&self, name: &str) -> Option<&'a str> {
        parameter(self.parameters, name)
    }
}

/// Without a name in quotes, which may contain anything.
fn behind_quotes(text: &str) -> &str {
    let Some(quoted) = text.strip_prefix('"') else { return text };
    let mut is_escaped = false;
    let end = quoted.find(|c| {
        let is_end = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_end
    });
    end.map_or(text, |end| &quoted[end + 1..])
}

/// What stands in front of the `@`; all of it where there is none, as some devices leave the domain out.
pub fn uri_user(uri: &str) -> &str {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    let user = rest.split_once('@').map_or(rest, |(user, _)| user);
    user.split([';', ':', '?']).next().unwrap_or_default()
}

/// RFC 3261 §20.16.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CSeq {
    pub number: u32,
    pub method: Method,
}

impl CSeq {
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let (number, method) = (words.next()?.parse().ok()?, Method::parse(words.next()?)?);
        words.next().is_none().then_some(CSeq { number, method })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vias_in_the_forms_of_devices() {
        let cases = [
            ("SIP/2.0/UDP 192.0.2.10:5060;rport;branch=z9hG4bK1", Some(("UDP", "192.0.2.10:5060", Some("z9hG4bK1")))),
            ("SIP/2.0/TCP cam.example;branch = a", Some(("TCP", "cam.example", Some("a")))),
            ("SIP / 2.0 / UDP  [2001:db8::1]:5060 ;branch=", Some(("UDP", "[2001:db8::1]:5060", None))),
            ("sip/2.0/udp 192.0.2.10", Some(("udp", "192.0.2.10", None))),
            ("HTTP/1.1/TCP h", None),
            ("SIP/2.0/UDP", None),
            ("摄摄/2.0/UDP h", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let via = Via::parse(text).map(|via| (via.transport, via.sent_by, via.branch()));
            assert_eq!(via, expected, "{text}");
        }
    }

    #[test]
    fn the_source_of_a_packet_is_told_back() {
        let cases = [
            (
                "SIP/2.0/UDP 192.168.1.64:5060;rport;branch=z9hG4bK1",
                "SIP/2.0/UDP 192.168.1.64:5060;rport=6000;branch=z9hG4bK1;received=192.0.2.10",
            ),
            ("SIP/2.0/UDP 192.0.2.10;branch=a", "SIP/2.0/UDP 192.0.2.10;branch=a"),
            (
                "SIP/2.0/UDP 192.0.2.10:5060;rport=9;branch=a",
                "SIP/2.0/UDP 192.0.2.10:5060;rport=6000;branch=a;received=192.0.2.10",
            ),
            ("SIP/2.0/UDP cam;branch=a;received=10.0.0.1", "SIP/2.0/UDP cam;branch=a;received=192.0.2.10"),
        ];
        for (text, expected) in cases {
            assert_eq!(via_received(text, ([192, 0, 2, 10], 6_000).into()), expected);
        }
    }

    #[test]
    fn addresses_in_the_forms_of_devices() {
        let cases = [
            ("<sip:34020000001110000001@3402000000>;tag=a1", Some(("34020000001110000001", Some("a1")))),
            ("\"Gate; <west>\\\"\" <sip:3402@192.0.2.10:5060;transport=udp>;tag=x", Some(("3402", Some("x")))),
            ("sip:3402@3402000000;tag=b", Some(("3402", Some("b")))),
            ("sip:34020000001110000001", Some(("34020000001110000001", None))),
            ("<sip:3402:pw@h>", Some(("3402", None))),
            ("<sip:3402@h>;tag=", Some(("3402", None))),
            ("<sip:3402@h", None),
            ("<>", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Address::parse(text).map(|address| (address.user(), address.tag())), expected, "{text}");
        }
        let contact = Address::parse("<sip:1@h>;expires=\"60\";q=1").unwrap();
        assert_eq!((contact.parameter("EXPIRES"), contact.parameter("x")), (Some("60"), None));
    }

    #[test]
    fn lists_are_cut_where_they_are_lists() {
        let mut headers = Headers::default();
        headers.read("v", "SIP/2.0/UDP a;branch=1 , SIP/2.0/UDP b;branch=2,");
        headers.read("m", "\"a, b\" <sip:1@h?x=1,2>, <sip:2@h>");
        headers.read("s", "a,b");
        assert_eq!(headers.all("VIA").collect::<Vec<_>>(), ["SIP/2.0/UDP a;branch=1", "SIP/2.0/UDP b;branch=2"]);
        assert_eq!(headers.all("Contact").collect::<Vec<_>>(), ["\"a, b\" <sip:1@h?x=1,2>", "<sip:2@h>"]);
        assert_eq!(headers.get("Subject"), Some("a,b"));
        headers.push("Subject", "a\r\nEvil: 1");
        assert_eq!(headers.all("subject").last(), Some("a  Evil: 1"));
    }

    #[test]
    fn numbers_of_requests() {
        let cases = [
            ("20 INVITE", Some((20, Method::Invite))),
            (" 4294967295\tbye ", Some((u32::MAX, Method::Other("bye".into())))),
            ("4294967296 BYE", None),
            ("20", None),
            ("BYE 20", None),
            ("1 BYE x", None),
        ];
        for (text, expected) in cases {
            assert_eq!(CSeq::parse(text).map(|cseq| (cseq.number, cseq.method)), expected, "{text}");
        }
    }
}
