//! The `Transport` header: what a client offers → one offer that the server takes; what the server chose → its value.
//!
//! RFC 2326 §12.39. Offers are separated by commas and stand in the order of preference; parameters are separated by semicolons and
//! compared without case. Limits: [`OFFERS_MAX`]. An offer is plain numbers and owns nothing.
//!
//! Not here: which offers a session can take, and ports and channels that the server assigns.

use std::net::IpAddr;

use crate::format::rtp::Channels;

/// Offers after this many are not read.
pub const OFFERS_MAX: usize = 16;

/// The ports of a peer or of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortPair {
    pub rtp: u16,
    pub rtcp: u16,
}

/// How one track is to travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lower {
    /// Between the messages of the connection; `None`: the client leaves the channels to the server.
    Interleaved(Option<Channels>),
    /// To and from these ports of the client.
    Unicast(PortPair),
    /// To a group, which the server chooses.
    Multicast,
}

impl Lower {
    pub const fn kind(self) -> Kind {
        match self {
            Lower::Interleaved(_) => Kind::Tcp,
            Lower::Unicast(_) => Kind::Udp,
            Lower::Multicast => Kind::Multicast,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tcp,
    Udp,
    Multicast,
}

/// One alternative of a `Transport` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    pub lower: Lower,
    /// `mode=record`: the client sends.
    pub record: bool,
    /// The client wrote `RTP/AVP/UDP` and not `RTP/AVP`, and may look for it in the answer.
    says_udp: bool,
}

impl Offer {
    /// The value of the answer's `Transport` header for interleaved media.
    pub fn write_interleaved(&self, channels: Channels) -> String {
        format!("RTP/AVP/TCP;unicast;interleaved={}-{}{}", channels.rtp, channels.rtcp, self.mode())
    }

    /// The value of the answer's `Transport` header for datagrams.
    pub fn write_unicast(&self, client: PortPair, server: PortPair) -> String {
        let protocol = if self.says_udp { "RTP/AVP/UDP" } else { "RTP/AVP" };
        let (PortPair { rtp, rtcp }, mode) = (client, self.mode());
        format!("{protocol};unicast;client_port={rtp}-{rtcp};server_port={}-{}{mode}", server.rtp, server.rtcp)
    }

    /// The value of the answer's `Transport` header for a group.
    pub fn write_multicast(&self, group: IpAddr, ports: PortPair, ttl: u8) -> String {
        let PortPair { rtp, rtcp } = ports;
        format!("RTP/AVP;multicast;destination={group};port={rtp}-{rtcp};ttl={ttl}")
    }

    const fn mode(&self) -> &'static str {
        if self.record { ";mode=record" } else { "" }
    }
}

/// The offers that can be read, in the client's order.
pub fn parse(header: &str) -> impl Iterator<Item = Offer> {
    split(header, ',').take(OFFERS_MAX).filter_map(offer)
}

fn offer(text: &str) -> Option<Offer> {
    let mut parameters = split(text, ';').map(str::trim);
    let protocol = parameters.next()?.to_ascii_uppercase();
    let (mut tcp, says_udp) = match protocol.as_str() {
        "RTP/AVP" => (false, false),
        "RTP/AVP/UDP" => (false, true),
        "RTP/AVP/TCP" => (true, false),
        _ => return None,
    };
    let (mut multicast, mut record) = (false, false);
    let (mut channels, mut client_ports) = (None, None);
    for parameter in parameters {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "multicast" => multicast = true,
            "mode" => record = value.eq_ignore_ascii_case("record") || value.eq_ignore_ascii_case("receive"),
            "interleaved" => {
                let (rtp, rtcp) = range(value, u8::MAX.into())?;
                channels = Some(Channels { rtp: u8::try_from(rtp).ok()?, rtcp: u8::try_from(rtcp).ok()? });
                tcp = true;
            }
            "client_port" => client_ports = Some(port_pair(value)?),
            _ => {}
        }
    }
    // RFC 2326 takes what says neither for multicast; the clients that say neither mean unicast.
    let lower = match (tcp, multicast) {
        (true, false) => Lower::Interleaved(channels),
        (true, true) => return None,
        (false, false) => Lower::Unicast(client_ports?),
        (false, true) => Lower::Multicast,
    };
    Some(Offer { lower, record, says_udp })
}

fn port_pair(text: &str) -> Option<PortPair> {
    range(text, u16::MAX).filter(|(rtp, rtcp)| *rtp > 0 && *rtcp > 0).map(|(rtp, rtcp)| PortPair { rtp, rtcp })
}

/// `4-5`, or `4` for that and the next.
fn range(text: &str, max: u16) -> Option<(u16, u16)> {
    let (first, second) = match text.split_once('-') {
        Some((first, second)) => (first.trim().parse().ok()?, second.trim().parse().ok()?),
        None => {
            let first: u16 = text.parse().ok()?;
            (first, first.checked_add(1)?)
        }
    };
    (first <= max && second <= max).then_some((first, second))
}

/// Pieces between separators that do not stand in quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(rtp: u8, rtcp: u8) -> Lower {
        Lower::Interleaved(Some(Channels { rtp, rtcp }))
    }

    fn udp(rtp: u16, rtcp: u16) -> Lower {
        Lower::Unicast(PortPair { rtp, rtcp })
    }

    #[test]
    fn offers() {
        let group = Lower::Multicast;
        let cases: &[(&str, &[(Lower, bool)])] = &[
            ("RTP/AVP/TCP;unicast;interleaved=0-1", &[(tcp(0, 1), false)]),
            ("RTP/AVP/TCP;unicast;interleaved=2-3;mode=record", &[(tcp(2, 3), true)]),
            ("RTP/AVP/TCP;unicast;interleaved=9", &[(tcp(9, 10), false)]),
            ("RTP/AVP/TCP;unicast;interleaved=255-254", &[(tcp(255, 254), false)]),
            ("RTP/AVP/TCP;unicast;interleaved=4-4", &[(tcp(4, 4), false)]),
            ("RTP/AVP/TCP;unicast", &[(Lower::Interleaved(None), false)]),
            ("RTP/AVP;unicast;interleaved=0-1", &[(tcp(0, 1), false)]),
            ("RTP/AVP;unicast;client_port=5000-5001", &[(udp(5000, 5001), false)]),
            ("rtp/avp/udp; Unicast; CLIENT_PORT=5000", &[(udp(5000, 5001), false)]),
            ("RTP/AVP;client_port=5000-5001", &[(udp(5000, 5001), false)]),
            ("RTP/AVP;unicast;client_port=5000-5001;mode=\"RECORD\"", &[(udp(5000, 5001), true)]),
            ("RTP/AVP;unicast;client_port=5000-5001;mode=receive", &[(udp(5000, 5001), true)]),
            ("RTP/AVP;unicast;client_port=5000-5001;mode=\"PLAY\"", &[(udp(5000, 5001), false)]),
            ("RTP/AVP;unicast;mode=\"PLAY,RECORD\";client_port=5000-5001", &[(udp(5000, 5001), false)]),
            ("RTP/AVP;multicast", &[(group, false)]),
            ("RTP/AVP;multicast;destination=239.1.1.1;port=5000-5001;ttl=16", &[(group, false)]),
            (
                "RTP/AVP/UDP;unicast;client_port=1-2,RTP/AVP/UDP;multicast,RTP/AVP/TCP;unicast;interleaved=0-1",
                &[(udp(1, 2), false), (group, false), (tcp(0, 1), false)],
            ),
            ("RTP/SAVP;unicast;client_port=1-2, RTP/AVP/TCP", &[(Lower::Interleaved(None), false)]),
            ("RTP/AVP;unicast", &[]),
            ("RTP/AVP;unicast;client_port=0-1", &[]),
            ("RTP/AVP;unicast;client_port=5000-0", &[]),
            ("RTP/AVP;unicast;client_port=65535", &[]),
            ("RTP/AVP;unicast;client_port=70000-70001", &[]),
            ("RTP/AVP/TCP;unicast;interleaved=256-257", &[]),
            ("RTP/AVP/TCP;unicast;interleaved=255", &[]),
            ("RTP/AVP/TCP;multicast", &[]),
            ("x-real-rdt/tcp;unicast", &[]),
            ("", &[]),
            (";;,,\"", &[]),
        ];
        for (header, expected) in cases {
            let found: Vec<(Lower, bool)> = parse(header).map(|offer| (offer.lower, offer.record)).collect();
            assert_eq!(found, *expected, "{header}");
        }
        assert_eq!(parse(&"RTP/AVP/TCP,".repeat(100)).count(), OFFERS_MAX);
    }

    #[test]
    fn answers_repeat_the_words_of_the_offer() {
        let offer = |header| parse(header).next().unwrap();
        let (client, server) = (PortPair { rtp: 1, rtcp: 2 }, PortPair { rtp: 20000, rtcp: 20001 });
        let cases = [
            ("RTP/AVP;unicast;client_port=1-2", "RTP/AVP;unicast;client_port=1-2;server_port=20000-20001"),
            (
                "RTP/AVP/UDP;unicast;client_port=1-2;mode=record",
                "RTP/AVP/UDP;unicast;client_port=1-2;server_port=20000-20001;mode=record",
            ),
        ];
        for (header, expected) in cases {
            assert_eq!(offer(header).write_unicast(client, server), expected);
        }
        let answer = offer("RTP/AVP/TCP;mode=RECORD").write_interleaved(Channels { rtp: 4, rtcp: 5 });
        assert_eq!(answer, "RTP/AVP/TCP;unicast;interleaved=4-5;mode=record");
    }
}
