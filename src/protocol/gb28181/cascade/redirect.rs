//! Where a platform above is to be found: at the address of the configuration, or where its 302 sends those who register.
//!
//! GB/T 28181-2022 (registration redirect), RFC 3261 §8.1.3.4 and §21.3.3: the first Contact names the other server, Expires for how long.
//! A name instead of an address is refused, as nothing here asks DNS. Not here: when a platform is given up and the first one is asked
//! again (`link`).

use std::net::{IpAddr, SocketAddr};

use crate::config::{SipTransport, Upstream};
use crate::protocol::gb28181::sip::headers::{Address, uri_user};
use crate::protocol::gb28181::sip::message::Response;

const SIP_PORT: u16 = 5_060;
const DOMAIN_DIGITS: usize = 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub address: SocketAddr,
    pub transport: SipTransport,
    /// Whom requests are for.
    pub id: String,
    pub domain: String,
}

impl Target {
    /// `None`: without an address, which a valid configuration has.
    pub fn new(config: &Upstream) -> Option<Self> {
        let domain = if config.domain.is_empty() { domain_of(&config.id) } else { config.domain.clone() };
        Some(Target { address: config.address?, transport: config.transport, id: config.id.clone(), domain })
    }

    /// Where a 302 of this one sends, and for how many seconds, if it says so. The error says what is wrong with it.
    pub fn moved(&self, response: &Response) -> Result<(Self, Option<u32>), String> {
        let contact = response.headers.get("Contact").ok_or("it names no other server")?;
        let address = Address::parse(contact).ok_or_else(|| format!("{contact} is no address"))?;
        let (host, parameters) = host_of(address.uri);
        let to = socket_address(host).ok_or_else(|| format!("{host} is no address and port"))?;
        let is_tcp = parameters.split(';').any(|one| one.trim().eq_ignore_ascii_case("transport=tcp"));
        let is_udp = parameters.split(';').any(|one| one.trim().eq_ignore_ascii_case("transport=udp"));
        let transport = match (is_tcp, is_udp) {
            (true, _) => SipTransport::Tcp,
            (false, true) => SipTransport::Udp,
            (false, false) => self.transport,
        };
        let id = if address.uri.contains('@') { uri_user(address.uri).to_owned() } else { self.id.clone() };
        let domain = if id == self.id { self.domain.clone() } else { domain_of(&id) };
        let seconds = |text: &str| text.trim().parse().ok().filter(|seconds| *seconds > 0);
        let expires_s = response.headers.get("Expires").or_else(|| address.parameter("expires")).and_then(seconds);
        Ok((Target { address: to, transport, id, domain }, expires_s))
    }
}

fn domain_of(id: &str) -> String {
    id.chars().take(DOMAIN_DIGITS).collect()
}

/// Host and port of `sip:user@host:port;parameters`, and the parameters.
fn host_of(uri: &str) -> (&str, &str) {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    rest.split_once(';').unwrap_or((rest, ""))
}

/// `None`: a name, or no address that anybody can be reached at.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let bare = text.trim_matches(['[', ']']);
    let address: SocketAddr = text.parse().ok().or_else(|| Some((bare.parse::<IpAddr>().ok()?, SIP_PORT).into()))?;
    let is_somewhere = address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast();
    is_somewhere.then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::gb28181::sip::message::{Method, Request};

    #[test]
    fn where_a_platform_sends_those_who_register() {
        let config = Upstream {
            address: Some(([198, 51, 100, 1], 5060).into()),
            id: "34010000002000000009".to_owned(),
            ..Upstream::default()
        };
        let home = Target::new(&config).unwrap();
        let other = "34011100002000000008";
        let udp = SipTransport::Udp;
        let cases = [
            (format!("<sip:{other}@203.0.113.5:5080>"), Ok(("203.0.113.5:5080", udp, other, "3401110000"))),
            (format!("<sip:{other}@203.0.113.5>;expires=60"), Ok(("203.0.113.5:5060", udp, other, "3401110000"))),
            ("<sip:203.0.113.5:5080;transport=TCP>".into(), Ok(("203.0.113.5:5080", SipTransport::Tcp, &*home.id, "3401000000"))),
            (format!("sip:{}@[2001:db8::1]:5080", home.id), Ok(("[2001:db8::1]:5080", udp, &*home.id, "3401000000"))),
            ("<sip:[2001:db8::1]>".into(), Ok(("[2001:db8::1]:5060", udp, &*home.id, "3401000000"))),
            (format!("<sip:{other}@above.example:5060>"), Err("above.example:5060 is no address and port")),
            (format!("<sip:{other}@0.0.0.0:5060>"), Err("0.0.0.0:5060 is no address and port")),
            (format!("<sip:{other}@203.0.113.5:0>"), Err("203.0.113.5:0 is no address and port")),
            ("<sip:".into(), Err("<sip: is no address")),
            (String::new(), Err("it names no other server")),
        ];
        for (contact, expected) in cases {
            let mut response = Request::new(Method::Register, "sip:a@b").response(302);
            if !contact.is_empty() {
                response.headers.push("Contact", &contact);
            }
            let moved = home.moved(&response);
            let found = moved.as_ref().map(|(to, _)| (to.address.to_string(), to.transport, &*to.id, &*to.domain));
            let expected = expected.map(|(address, transport, id, domain)| (address.to_owned(), transport, id, domain));
            assert_eq!(found, expected.map_err(str::to_owned).as_ref().map(|it| (it.0.clone(), it.1, it.2, it.3)), "{contact}");
            let expires_s = moved.ok().and_then(|(_, expires_s)| expires_s);
            assert_eq!(expires_s, contact.contains("expires").then_some(60), "{contact}");
        }
    }
}
