//! Ranges of single values and relations between them: what a type cannot say.
//!
//! The first thing that is wrong is reported, with the path of its key. Not here: where the key stands in a file (`load.rs`).

use std::net::{Ipv4Addr, SocketAddr};

use super::{Config, PortRange, SHARDS_MAX, Shards};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const DAY_MS: u64 = 86_400_000;

/// A key and what is wrong with its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct Invalid {
    /// `section.key`.
    pub key: &'static str,
    pub problem: Problem,
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("must be {min} to {max}")]
    OutOfRange { min: u64, max: u64 },
    #[error("must be at least {than} ({value})")]
    Less { than: &'static str, value: u64 },
    #[error("must be below {than} ({value})")]
    NotBelow { than: &'static str, value: u64 },
    #[error("give an address here, in http.listen or in rtsp.listen: the server would serve nobody")]
    NoListener,
    #[error("{address} is taken by {other} of {by}")]
    AddressTaken { address: SocketAddr, other: SocketAddr, by: &'static str },
    #[error("must be `*`, one origin such as `https://example.org`, or empty")]
    NoOrigin,
    #[error("give a file: {0} wants TLS")]
    NoCertificate(&'static str),
    #[error("must begin, with all its {0} neighbours, in 224.0.1.0 to 239.255.255.255")]
    NotMulticast(u16),
    #[error("must be even, and leave four ports for each of the {0} addresses")]
    GroupPorts(u16),
    #[error("must be at least the number of shards ({0}), or 0")]
    FewerThanShards(u16),
    #[error("must hold, for each of the {0} shards, an even port and the one behind it")]
    TooFewPorts(u16),
    #[error("must be without quotes, backslashes and control characters")]
    NoRealm,
    #[error("a name must not be empty")]
    NoName,
    #[error("a name must be without colons and control characters: {0:?}")]
    BadName(String),
    #[error("{0:?} is there twice")]
    NameTwice(String),
    #[error("must be {min} to {max} digits")]
    Digits { min: usize, max: usize },
    #[error("must be an address that devices can send to, or null for the one at which they reach the server")]
    NoSingleAddress,
    #[error("give an address for SIP, or set gb28181.enabled: false")]
    NoSipListener,
    #[error("must be -{0} to {0}")]
    UtcOffset(i32),
    #[error("must be even, and leave two ports for each of the {0} shards; or 0")]
    SharedPort(u16),
    #[error("must be outside {by} ({range}), up to two ports for each shard")]
    SharedPortTaken { by: &'static str, range: PortRange },
    #[error("must be outside {by} ({range}), or the same")]
    RangeTaken { by: &'static str, range: PortRange },
    #[error("{address} of {by} is in it")]
    AddressInRange { by: &'static str, address: SocketAddr },
    #[error("must hold a port for each of the {0} shards")]
    FewerPortsThanShards(u16),
    #[error("must be 0, or 50 to half of hls.segment_ms ({0})")]
    PartLength(u64),
    #[error("{0:?} is no id of a device")]
    NoDeviceId(String),
    #[error("{0:?} must be 8 to 20 digits")]
    UpstreamId(String),
    #[error("{0} has no address with a port")]
    UpstreamAddress(String),
    #[error("of {0} expires_s must be 60 to 31536000, keepalive_ms 1000 to 3600000, calls_max 1 to 10000")]
    UpstreamRange(String),
    #[error("{0:?} has no password")]
    NoDevicePassword(String),
    #[error("{0:?} must be letters, digits, `-`, `_`, `.` and placeholders, not empty and not beginning with a dot")]
    RecordPath(String),
    #[error("{0:?} may have {{app}}, {{name}}, {{date}}, {{time}}, {{year}} and {{month}} in braces, nothing else")]
    RecordPlaceholder(String),
    #[error("must have {0}, so that the files of a stream differ")]
    RecordNoTime(&'static str),
    #[error("give a folder")]
    NoFolder,
    #[error("a rule must have a pattern of streams")]
    NoPattern,
    #[error("rule {number}: {field}: {problem}")]
    Rule { number: usize, field: &'static str, problem: Box<Problem> },
}

impl Config {
    /// Whether every value is in its range and fits the others; else the first that does not.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.check_ranges()?;
        self.check_relations()?;
        self.check_listeners()?;
        self.check_udp_ports()?;
        self.check_multicast()?;
        self.check_auth()?;
        self.check_gb28181()?;
        self.check_record()?;
        if !self.rtsp.tls_listen.is_empty() {
            let files = [("tls.certificate", &self.tls.certificate), ("tls.private_key", &self.tls.private_key)];
            if let Some((key, _)) = files.into_iter().find(|(_, file)| file.as_os_str().is_empty()) {
                return Err(Invalid { key, problem: Problem::NoCertificate("rtsp.tls_listen") });
            }
        }
        let origin = &self.http.allow_origin;
        if !is_origin(origin) {
            return Err(Invalid { key: "http.allow_origin", problem: Problem::NoOrigin });
        }
        Ok(())
    }

    fn check_ranges(&self) -> Result<(), Invalid> {
        let Config { server, hls, rtsp, rtp, auth, stream, viewer, limits, control, metrics, .. } = self;
        let shards = match server.shards {
            Shards::Auto => 1,
            Shards::Fixed(count) => u64::from(count),
        };
        let ranges = [
            ("server.shards", shards, 1, u64::from(SHARDS_MAX)),
            ("server.drain_ms", server.drain_ms, 0, 600_000),
            ("hls.segment_ms", hls.segment_ms, 1_000, 20_000),
            ("hls.part_ms", hls.part_ms, 0, 2_000),
            ("hls.segments", hls.segments as u64, 3, 100),
            ("hls.idle_ms", hls.idle_ms, 1_000, DAY_MS),
            ("hls.session_ms", hls.session_ms, 60_000, 30 * DAY_MS),
            ("hls.bytes_max", hls.bytes_max as u64, MIB, GIB),
            ("rtsp.receive_buffer_bytes", u64::from(rtsp.receive_buffer_bytes), 64 * KIB, 64 * MIB),
            ("rtsp.reorder_ms", rtsp.reorder_ms, 0, 1_000),
            ("rtp.reorder_ms", rtp.reorder_ms, 0, 1_000),
            ("rtsp.session_timeout_ms", rtsp.session_timeout_ms, 5_000, 3_600_000),
            ("auth.nonce_ms", auth.nonce_ms, 1_000, DAY_MS),
            ("auth.failures_per_minute_max", u64::from(auth.failures_per_minute_max), 1, 1_000_000),
            ("stream.takeover_silence_ms", stream.takeover_silence_ms, 0, 600_000),
            ("stream.publisher_grace_ms", stream.publisher_grace_ms, 0, DAY_MS),
            ("stream.gop_bytes_max", stream.gop_bytes_max as u64, 0, GIB),
            ("stream.gop_ms_max", stream.gop_ms_max, 0, 600_000),
            ("viewer.wait_ms", viewer.wait_ms, 0, 600_000),
            ("viewer.lag_ms_max", viewer.lag_ms_max, 1, 60_000),
            ("viewer.stall_ms_max", viewer.stall_ms_max, 1, 600_000),
            ("viewer.merge_ms", viewer.merge_ms, 0, 1_000),
            ("viewer.kernel_unsent_bytes_max", u64::from(viewer.kernel_unsent_bytes_max), 4 * KIB, 16 * MIB),
            ("limits.connections_per_shard_max", limits.connections_per_shard_max as u64, 1, 1_000_000),
            ("limits.streams_per_shard_max", limits.streams_per_shard_max as u64, 1, 1_000_000),
            ("limits.handshake_ms_max", limits.handshake_ms_max, 1, 600_000),
            ("limits.message_bytes_max", limits.message_bytes_max as u64, 64 * KIB, 64 * MIB),
            ("limits.media_bytes_max", limits.media_bytes_max as u64, MIB, 1024 * GIB),
            ("limits.ring_bytes_max", limits.ring_bytes_max as u64, 64 * KIB, 4 * GIB),
            ("limits.outbox_bytes_max", limits.outbox_bytes_max as u64, 4 * KIB, 16 * MIB),
            ("limits.held_bytes_max", limits.held_bytes_max as u64, MIB, 1024 * GIB),
            ("limits.lane_batches_max", limits.lane_batches_max as u64, 1, 1_048_576),
            ("limits.idle_ms_max", limits.idle_ms_max, 1, DAY_MS),
            ("control.body_bytes_max", control.body_bytes_max as u64, 0, 16 * MIB),
            ("metrics.max_streams", metrics.max_streams as u64, 0, 100_000),
        ];
        for (key, value, min, max) in ranges.into_iter().chain(self.gb28181.ranges()).chain(self.record.ranges()) {
            if !(min..=max).contains(&value) {
                return Err(Invalid { key, problem: Problem::OutOfRange { min, max } });
            }
        }
        Ok(())
    }

    fn check_relations(&self) -> Result<(), Invalid> {
        let half = self.hls.segment_ms / 2;
        if self.hls.part_ms != 0 && !(50..=half).contains(&self.hls.part_ms) {
            return Err(Invalid { key: "hls.part_ms", problem: Problem::PartLength(half) });
        }
        let Config { stream, viewer, limits, .. } = self;
        let at_least = [
            ("viewer.stall_ms_max", viewer.stall_ms_max, "viewer.lag_ms_max", viewer.lag_ms_max),
            // A newcomer begins in the ring: the GOP that is kept for it must fit in.
            ("limits.ring_bytes_max", limits.ring_bytes_max as u64, "stream.gop_bytes_max", stream.gop_bytes_max as u64),
        ];
        for (key, value, than, least) in at_least {
            if value < least {
                return Err(Invalid { key, problem: Problem::Less { than, value: least } });
            }
        }
        // What has waited is as old for a viewer as what it was late to take: it would be skipped at once.
        let reorder_ms = if self.has_rtsp() { self.rtsp.reorder_ms } else { 0 };
        let rtp_reorder_ms = if self.has_rtp() { self.rtp.reorder_ms } else { 0 };
        let waits = [("viewer.merge_ms", viewer.merge_ms), ("rtsp.reorder_ms", reorder_ms), ("rtp.reorder_ms", rtp_reorder_ms)];
        for (key, value) in waits {
            if value >= viewer.lag_ms_max {
                let problem = Problem::NotBelow { than: "viewer.lag_ms_max", value: viewer.lag_ms_max };
                return Err(Invalid { key, problem });
            }
        }
        Ok(())
    }

    fn check_listeners(&self) -> Result<(), Invalid> {
        if self.rtmp.listen.is_empty() && self.http.listen.is_empty() && !self.has_rtsp() {
            return Err(Invalid { key: "rtmp.listen", problem: Problem::NoListener });
        }
        let mut taken: Vec<(&'static str, SocketAddr)> = Vec::new();
        for (key, addresses) in self.listeners() {
            for &address in addresses {
                if let Some(&(by, other)) = taken.iter().find(|(_, other)| collide(address, *other)) {
                    return Err(Invalid { key, problem: Problem::AddressTaken { address, other, by } });
                }
                taken.push((key, address));
            }
        }
        Ok(())
    }
}

impl Config {
    /// The addresses of all TCP listeners, by key. Those of GB28181 are open over UDP as well.
    pub(super) fn listeners(&self) -> [(&'static str, &[SocketAddr]); 6] {
        [
            ("rtmp.listen", &self.rtmp.listen),
            ("http.listen", &self.http.listen),
            ("rtsp.listen", &self.rtsp.listen),
            ("rtsp.tls_listen", &self.rtsp.tls_listen),
            ("control.listen", &self.control.listen),
            ("gb28181.listen", if self.gb28181.enabled { &self.gb28181.listen } else { &[] }),
        ]
    }

    fn has_rtsp(&self) -> bool {
        !(self.rtsp.listen.is_empty() && self.rtsp.tls_listen.is_empty())
    }

    /// Whether anybody can ask for plain RTP: through the API, or by a call.
    pub(super) fn has_rtp(&self) -> bool {
        !self.control.listen.is_empty() || self.gb28181.enabled
    }

    /// Each shard gives out ports of its own.
    fn check_udp_ports(&self) -> Result<(), Invalid> {
        let (range, shards) = (self.rtsp.udp_ports, self.server.shards.count());
        let is_needed = self.has_rtsp() || self.gb28181.enabled && self.gb28181.udp_ports.is_none();
        if is_needed && range.pairs() < u64::from(shards) {
            return Err(Invalid { key: "rtsp.udp_ports", problem: Problem::TooFewPorts(shards) });
        }
        Ok(())
    }

    fn check_multicast(&self) -> Result<(), Invalid> {
        let multicast = &self.rtsp.multicast;
        if multicast.addresses == 0 {
            return Ok(());
        }
        let shards = self.server.shards.count();
        if self.has_rtsp() && multicast.addresses < shards {
            return Err(Invalid { key: "rtsp.multicast.addresses", problem: Problem::FewerThanShards(shards) });
        }
        let (lowest, highest) = (Ipv4Addr::new(224, 0, 1, 0).to_bits(), Ipv4Addr::new(239, 255, 255, 255).to_bits());
        let first = multicast.first_address.to_bits();
        if first < lowest || first > highest - u32::from(multicast.addresses - 1) {
            let problem = Problem::NotMulticast(multicast.addresses);
            return Err(Invalid { key: "rtsp.multicast.first_address", problem });
        }
        let last_port = u32::from(multicast.first_port) + 4 * u32::from(multicast.addresses) - 1;
        if multicast.first_port == 0 || !multicast.first_port.is_multiple_of(2) || last_port > u32::from(u16::MAX) {
            let problem = Problem::GroupPorts(multicast.addresses);
            return Err(Invalid { key: "rtsp.multicast.first_port", problem });
        }
        Ok(())
    }
}

impl Config {
    /// What stands in a challenge between quotes, and names as `Basic` can carry them (RFC 7617 §2).
    fn check_auth(&self) -> Result<(), Invalid> {
        if self.auth.realm.contains(|c: char| c.is_control() || matches!(c, '"' | '\\')) {
            return Err(Invalid { key: "auth.realm", problem: Problem::NoRealm });
        }
        for (at, user) in self.auth.users.iter().enumerate() {
            let name = &user.name;
            let problem = match name.as_str() {
                "" => Problem::NoName,
                _ if name.contains(|c: char| c.is_control() || c == ':') => Problem::BadName(name.clone()),
                _ if self.auth.users[..at].iter().any(|other| other.name == *name) => Problem::NameTwice(name.clone()),
                _ => continue,
            };
            return Err(Invalid { key: "auth.users", problem });
        }
        Ok(())
    }
}

/// Whether two listeners would get each other's connections: the same port on the same address, or on all addresses of the family.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let address = a.ip() == b.ip() || (a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified()));
    a.port() == b.port() && a.port() != 0 && address
}

/// What a browser may send as `Origin` (RFC 6454 §6.2), for which the answer has to be the same bytes; or `*`, or nothing. A path, a port that
/// is the scheme's own, and capital letters are never sent.
fn is_origin(text: &str) -> bool {
    if matches!(text, "" | "*" | "null") {
        return true;
    }
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'-' | b'.'));
    // Of an IPv6 address the brackets belong to the host.
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match inner {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok_and(|parsed| parsed.to_string() == address),
        None => !host.is_empty() && host.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_')),
    };
    let is_own_port = |port: u16| matches!((scheme, port), ("http", 80) | ("https", 443));
    let is_port =
        port.is_none_or(|port| port.parse().is_ok_and(|number: u16| number.to_string() == port && !is_own_port(number)));
    is_scheme && is_host && is_port
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{PortRange, Tls, User};

    type Change = fn(&mut Config);

    fn user(name: &str) -> User {
        User { name: name.to_owned(), password: "secret".to_owned(), publish: vec![], play: vec![] }
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn good_values_at_the_edges() {
        let cases: [(&str, Change); 12] = [
            ("no control plane", |c| c.control.listen.clear()),
            ("only http", |c| c.rtmp.listen.clear()),
            ("any port, often", |c| {
                c.rtmp.listen = vec![([127, 0, 0, 1], 0).into(); 2];
                c.http.listen = c.rtmp.listen.clone();
                c.control.listen = c.rtmp.listen.clone();
            }),
            ("both families on one port", |c| c.rtmp.listen.push("[::]:1935".parse().unwrap())),
            ("only RTSPS", |c| {
                for listen in [&mut c.rtmp.listen, &mut c.http.listen, &mut c.rtsp.listen] {
                    listen.clear();
                }
                c.rtsp.tls_listen = vec![([0, 0, 0, 0], 322).into()];
                c.tls = Tls { certificate: "c.pem".into(), private_key: "k.pem".into() };
            }),
            ("a pair of ports for each shard", |c| {
                c.server.shards = Shards::Fixed(2);
                c.rtsp.udp_ports = PortRange { first: 20_001, last: 20_005 };
            }),
            ("no ports, as nobody needs them", |c| {
                c.rtsp.listen.clear();
                c.rtsp.udp_ports = PortRange { first: 20_001, last: 20_002 };
            }),
            ("a group for each shard", |c| {
                c.server.shards = Shards::Fixed(2);
                c.rtsp.multicast.addresses = 2;
            }),
            ("no multicast", |c| c.rtsp.multicast.addresses = 0),
            ("users and a realm", |c| {
                c.auth.users = vec![user("ann"), user("摄 \"x\"")];
                c.auth.realm = "die Kameras – (1)".into();
            }),
            ("no CORS", |c| c.http.allow_origin.clear()),
            ("stall as soon as lag", |c| c.viewer.stall_ms_max = c.viewer.lag_ms_max),
        ];
        for (name, change) in cases {
            let mut config = Config::default();
            change(&mut config);
            assert_eq!(config.validate(), Ok(()), "{name}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let cases: [(Change, &str); 38] = [
            (|c| c.server.shards = Shards::Fixed(0), "server.shards: must be 1 to 256"),
            (|c| c.server.drain_ms = 600_001, "server.drain_ms: must be 0 to 600000"),
            (|c| c.viewer.lag_ms_max = 60_001, "viewer.lag_ms_max: must be 1 to 60000"),
            (|c| c.viewer.stall_ms_max = 499, "viewer.stall_ms_max: must be at least viewer.lag_ms_max (500)"),
            (|c| c.hls.segment_ms = 999, "hls.segment_ms: must be 1000 to 20000"),
            (|c| c.hls.bytes_max = (GIB + 1) as usize, "hls.bytes_max: must be 1048576 to 1073741824"),
            (|c| c.hls.session_ms = 59_999, "hls.session_ms: must be 60000 to 2592000000"),
            (|c| c.hls.segments = 2, "hls.segments: must be 3 to 100"),
            (|c| c.hls.part_ms = 49, "hls.part_ms: must be 0, or 50 to half of hls.segment_ms (1000)"),
            (|c| c.hls.part_ms = 1_001, "hls.part_ms: must be 0, or 50 to half of hls.segment_ms (1000)"),
            (|c| c.viewer.merge_ms = 500, "viewer.merge_ms: must be below viewer.lag_ms_max (500)"),
            (|c| c.rtsp.reorder_ms = 500, "rtsp.reorder_ms: must be below viewer.lag_ms_max (500)"),
            (|c| c.rtp.reorder_ms = 500, "rtp.reorder_ms: must be below viewer.lag_ms_max (500)"),
            (|c| c.rtp.reorder_ms = 1_001, "rtp.reorder_ms: must be 0 to 1000"),
            (|c| c.viewer.kernel_unsent_bytes_max = 0, "viewer.kernel_unsent_bytes_max: must be 4096 to 16777216"),
            (|c| c.limits.message_bytes_max = 65_535, "limits.message_bytes_max: must be 65536 to 67108864"),
            (|c| c.limits.message_bytes_max = 67_108_865, "limits.message_bytes_max: must be 65536 to 67108864"),
            (|c| c.limits.ring_bytes_max = 1 << 20, "limits.ring_bytes_max: must be at least stream.gop_bytes_max (16777216)"),
            (
                |c| c.rtsp.multicast.first_address = [192, 168, 0, 1].into(),
                "rtsp.multicast.first_address: must begin, with all its 256 neighbours, in 224.0.1.0 to 239.255.255.255",
            ),
            (
                |c| c.rtsp.multicast.first_address = [239, 255, 255, 3].into(),
                "rtsp.multicast.first_address: must begin, with all its 256 neighbours, in 224.0.1.0 to 239.255.255.255",
            ),
            (
                |c| c.rtsp.multicast.first_port = 64_521,
                "rtsp.multicast.first_port: must be even, and leave four ports for each of the 256 addresses",
            ),
            (
                |c| {
                    c.server.shards = Shards::Fixed(3);
                    c.rtsp.udp_ports = PortRange { first: 20_001, last: 20_005 };
                },
                "rtsp.udp_ports: must hold, for each of the 3 shards, an even port and the one behind it",
            ),
            (
                |c| {
                    c.server.shards = Shards::Fixed(3);
                    c.rtsp.multicast.addresses = 2;
                },
                "rtsp.multicast.addresses: must be at least the number of shards (3), or 0",
            ),
            (|c| c.auth.realm = "a \"b\"".into(), "auth.realm: must be without quotes, backslashes and control characters"),
            (|c| c.auth.realm = "a\\b".into(), "auth.realm: must be without quotes, backslashes and control characters"),
            (|c| c.auth.realm = "a\r\nb: c".into(), "auth.realm: must be without quotes, backslashes and control characters"),
            (|c| c.auth.users = vec![user("")], "auth.users: a name must not be empty"),
            (
                |c| c.auth.users = vec![user("ann"), user("a:b")],
                "auth.users: a name must be without colons and control characters: \"a:b\"",
            ),
            (
                |c| c.auth.users = vec![user("a\nb")],
                "auth.users: a name must be without colons and control characters: \"a\\nb\"",
            ),
            (|c| c.auth.users = vec![user("ann"), user("bob"), user("ann")], "auth.users: \"ann\" is there twice"),
            (|c| c.rtsp.tls_listen = vec![([0, 0, 0, 0], 322).into()], "tls.certificate: give a file: rtsp.tls_listen wants TLS"),
            (|c| c.limits.connections_per_shard_max = 0, "limits.connections_per_shard_max: must be 1 to 1000000"),
            (
                |c| {
                    c.rtmp.listen.clear();
                    c.http.listen.clear();
                    c.rtsp.listen.clear();
                },
                "rtmp.listen: give an address here, in http.listen or in rtsp.listen: the server would serve nobody",
            ),
            (|c| c.http.listen = c.rtmp.listen.clone(), "http.listen: 0.0.0.0:1935 is taken by 0.0.0.0:1935 of rtmp.listen"),
            (|c| c.rtmp.listen.push(c.rtmp.listen[0]), "rtmp.listen: 0.0.0.0:1935 is taken by 0.0.0.0:1935 of rtmp.listen"),
            (
                |c| c.control.listen = vec![([127, 0, 0, 1], 8080).into()],
                "control.listen: 127.0.0.1:8080 is taken by 0.0.0.0:8080 of http.listen",
            ),
            (
                |c| c.http.allow_origin = "a\r\nb".into(),
                "http.allow_origin: must be `*`, one origin such as `https://example.org`, or empty",
            ),
            (
                |c| c.http.allow_origin = "a, b".into(),
                "http.allow_origin: must be `*`, one origin such as `https://example.org`, or empty",
            ),
        ];
        for (change, expected) in cases {
            let mut config = Config::default();
            change(&mut config);
            assert_eq!(config.validate().unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn origins_are_written_as_browsers_send_them() {
        let sent = [
            "",
            "*",
            "null",
            "https://example.org",
            "http://example.org:8080",
            "http://127.0.0.1:3000",
            "http://[::1]:3000",
            "http://[2001:db8::1]",
            "https://a-b.example.org:80",
            "capacitor://localhost",
            "http://localhost:443",
        ];
        for origin in sent {
            assert!(is_origin(origin), "{origin:?}");
        }
        let never = [
            "example.org",
            "https://",
            "https://example.org/",
            "https://example.org/page",
            "https://example.org:443",
            "http://example.org:80",
            "https://Example.org",
            "HTTPS://example.org",
            "https://user@example.org",
            "https://*.example.org",
            "https://example.org:",
            "https://example.org:080",
            "https://example.org:70000",
            "https://a.org https://b.org",
            "https://a.org,https://b.org",
            "https://bücher.example",
            "http://[::1",
            "http://[0:0::1]",
            "://example.org",
            "https://example.org?x",
            "https://example.org ",
        ];
        for origin in never {
            assert!(!is_origin(origin), "{origin:?}");
        }
    }
}
