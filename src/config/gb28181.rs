//! The section `gb28181`: what must hold of it, and what an operator should be told although it is valid.
//!
//! GB/T 28181-2016 Annex D has ids of 20 digits; those of devices are taken as they come, because many keep to no rule. Not here: the
//! listeners, which are checked with all others (`validate.rs`).

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use super::validate::Problem;
use super::{Config, Gb28181, Invalid, Upstream};

/// The longest id of a device, in bytes.
const DEVICE_ID_BYTES_MAX: usize = 64;
const DIGITS_MAX: usize = 20;
/// The source numbers of media carry digits 4 to 8 of the domain (Annex E).
const DOMAIN_DIGITS_MIN: usize = 8;
/// No place on earth is further from Greenwich.
const UTC_OFFSET_MINUTES_MAX: i32 = 14 * 60;

impl Gb28181 {
    /// The ranges of its numbers.
    pub(super) fn ranges(&self) -> [(&'static str, u64, u64, u64); 7] {
        [
            ("gb28181.devices_max", self.devices_max as u64, 1, 1_000_000),
            ("gb28181.keepalive_ms", self.keepalive_ms, 1_000, 3_600_000),
            ("gb28181.keepalive_count", self.keepalive_count, 1, 100),
            ("gb28181.answer_ms", self.answer_ms, 100, 60_000),
            ("gb28181.media_ms", self.media_ms, 1_000, 600_000),
            ("gb28181.idle_ms", self.idle_ms, 0, 3_600_000),
            ("gb28181.shared_port", u64::from(self.shared_port), 0, u64::from(u16::MAX)),
        ]
    }
}

impl Config {
    /// What the ranges do not say. A section that is not enabled is checked as well: it will be.
    pub(super) fn check_gb28181(&self) -> Result<(), Invalid> {
        let section = &self.gb28181;
        let wrong = |key, problem| Err(Invalid { key, problem });
        if !has_digits(&section.id, 1) {
            return wrong("gb28181.id", Problem::Digits { min: 1, max: DIGITS_MAX });
        }
        if !has_digits(&section.domain, DOMAIN_DIGITS_MIN) {
            return wrong("gb28181.domain", Problem::Digits { min: DOMAIN_DIGITS_MIN, max: DIGITS_MAX });
        }
        if section.address.is_some_and(|address| address.is_unspecified() || address.is_multicast()) {
            return wrong("gb28181.address", Problem::NoSingleAddress);
        }
        if section.enabled && section.listen.is_empty() {
            return wrong("gb28181.listen", Problem::NoSipListener);
        }
        if section.utc_offset_minutes.abs() > UTC_OFFSET_MINUTES_MAX {
            return wrong("gb28181.utc_offset_minutes", Problem::UtcOffset(UTC_OFFSET_MINUTES_MAX));
        }
        let shards = self.server.shards.count();
        let last = u32::from(section.shared_port) + 2 * u32::from(shards) - 1;
        if section.shared_port != 0 && (!section.shared_port.is_multiple_of(2) || last > u32::from(u16::MAX)) {
            return wrong("gb28181.shared_port", Problem::SharedPort(shards));
        }
        self.check_call_ports()?;
        for (at, device) in section.devices.iter().enumerate() {
            let is_id =
                (1..=DEVICE_ID_BYTES_MAX).contains(&device.id.len()) && device.id.bytes().all(|byte| byte.is_ascii_graphic());
            let problem = match device.id.as_str() {
                id if !is_id => Problem::NoDeviceId(id.to_owned()),
                id if device.password.is_empty() => Problem::NoDevicePassword(id.to_owned()),
                id if section.devices[..at].iter().any(|other| other.id == id) => Problem::NameTwice(id.to_owned()),
                _ => continue,
            };
            return wrong("gb28181.devices", problem);
        }
        self.check_upstream()
    }

    /// The ranges hold something for each shard, and nobody else's ports.
    fn check_call_ports(&self) -> Result<(), Invalid> {
        const UDP: &str = "gb28181.udp_ports";
        const TCP: &str = "gb28181.tcp_ports";
        let (section, rtsp, shards) = (&self.gb28181, self.rtsp.udp_ports, self.server.shards.count());
        let wrong = |key, problem| Err(Invalid { key, problem });
        if let Some(range) = section.udp_ports {
            if range.pairs() < u64::from(shards) {
                return wrong(UDP, Problem::TooFewPorts(shards));
            }
            if range != rtsp && range.meets(rtsp) {
                return wrong(UDP, Problem::RangeTaken { by: "rtsp.udp_ports", range: rtsp });
            }
        }
        if section.tcp_ports.is_some_and(|range| range.last - range.first < shards - 1) {
            return wrong(TCP, Problem::FewerPortsThanShards(shards));
        }
        // Over UDP only SIP listens; over TCP the same ports serve, where there are no others.
        let over_udp = section.udp_ports.map(|range| (UDP, range, false));
        let over_tcp = section.tcp_ports.map(|range| (TCP, range, true)).or(section.udp_ports.map(|range| (UDP, range, true)));
        for (key, range, tcp) in [over_udp, over_tcp].into_iter().flatten() {
            let listeners = self.listeners().into_iter().filter(|(by, _)| tcp || *by == "gb28181.listen");
            for (by, addresses) in listeners {
                let is_within = |address: &&SocketAddr| (range.first..=range.last).contains(&address.port());
                if let Some(&address) = addresses.iter().find(is_within) {
                    return wrong(key, Problem::AddressInRange { by, address });
                }
            }
        }
        if section.shared_port != 0 {
            let last = u32::from(section.shared_port) + 2 * u32::from(shards) - 1;
            let ranges = [("rtsp.udp_ports", Some(rtsp)), (UDP, section.udp_ports), (TCP, section.tcp_ports)];
            for (by, range) in ranges.into_iter().filter_map(|(by, range)| Some((by, range?))) {
                if u32::from(section.shared_port) <= u32::from(range.last) && last >= u32::from(range.first) {
                    return wrong("gb28181.shared_port", Problem::SharedPortTaken { by, range });
                }
            }
        }
        Ok(())
    }

    fn check_upstream(&self) -> Result<(), Invalid> {
        let section = &self.gb28181;
        for (at, upstream) in section.upstream.iter().enumerate() {
            let others = &section.upstream[..at];
            let is_set = |address: &SocketAddr| address.port() != 0 && !address.ip().is_unspecified();
            let in_range = |value: u64, range: RangeInclusive<u64>| range.contains(&value);
            let problem = match upstream {
                Upstream { id, .. } if !has_digits(id, DOMAIN_DIGITS_MIN) => Problem::UpstreamId(id.clone()),
                Upstream { id, .. } if *id == section.id || others.iter().any(|other| other.id == *id) => {
                    Problem::NameTwice(id.clone())
                }
                Upstream { id, address, .. } if !address.as_ref().is_some_and(is_set) => Problem::UpstreamAddress(id.clone()),
                Upstream { id, domain, .. } if !domain.is_empty() && !has_digits(domain, DOMAIN_DIGITS_MIN) => {
                    Problem::UpstreamId(format!("{id}: {domain}"))
                }
                Upstream { id, expires_s, keepalive_ms, calls_max, .. }
                    if !in_range(u64::from(*expires_s), 60..=86_400 * 365)
                        || !in_range(*keepalive_ms, 1_000..=3_600_000)
                        || !in_range(*calls_max as u64, 1..=10_000) =>
                {
                    Problem::UpstreamRange(id.clone())
                }
                _ => continue,
            };
            return Err(Invalid { key: "gb28181.upstream", problem });
        }
        Ok(())
    }

    /// What is allowed and most likely not meant, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let section = &self.gb28181;
        let mut warnings = Vec::new();
        if section.enabled && section.password.is_empty() && section.devices.is_empty() {
            warnings.push(
                "gb28181: there is no password, so every registration is refused; set gb28181.password for all devices, or \
                 gb28181.devices for some: --set gb28181.password=SECRET"
                    .to_owned(),
            );
        }
        if section.enabled && !section.id.starts_with(&section.domain) {
            warnings.push(format!(
                "gb28181.domain: {} is not how gb28181.id {} begins; most devices expect that",
                section.domain, section.id
            ));
        }
        for upstream in section.upstream.iter().filter(|upstream| section.enabled && upstream.share.is_empty()) {
            warnings.push(format!("gb28181.upstream: {} is shown nothing; share: [\"live/*\"] shows it streams", upstream.id));
        }
        warnings.extend(self.record_warnings());
        warnings
    }
}

fn has_digits(text: &str, min: usize) -> bool {
    (min..=DIGITS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DevicePassword, Shards};

    type Change = fn(&mut Config);

    fn device(id: &str, password: &str) -> DevicePassword {
        DevicePassword { id: id.to_owned(), password: password.to_owned() }
    }

    fn upstream(id: &str) -> Upstream {
        let address = Some(SocketAddr::from(([192, 0, 2, 1], 5060)));
        Upstream { id: id.to_owned(), address, password: "geheim".to_owned(), ..Upstream::default() }
    }

    fn changed(change: Change) -> Config {
        let mut config = Config::default();
        config.gb28181.enabled = true;
        change(&mut config);
        config
    }

    #[test]
    fn what_devices_can_live_with_is_valid() {
        let cases: [Change; 12] = [
            |_| (),
            |c| c.gb28181.udp_ports = "20000-29999".parse().ok(),
            |c| (c.gb28181.udp_ports, c.gb28181.tcp_ports) = ("40000-40099".parse().ok(), "40000-40099".parse().ok()),
            |c| {
                c.server.shards = Shards::Fixed(2);
                (c.gb28181.udp_ports, c.gb28181.tcp_ports) = ("40001-40005".parse().ok(), "40001-40002".parse().ok());
            },
            // Whoever has ports of their own needs none of RTSP.
            |c| {
                c.rtsp.listen.clear();
                (c.rtsp.udp_ports, c.gb28181.udp_ports) = ("20001-20002".parse().unwrap(), "40000-40999".parse().ok());
            },
            |c| c.gb28181.upstream = vec![upstream("34020000002000000009"), upstream("34020000002000000008")],
            |c| c.gb28181.id = "1".into(),
            |c| c.gb28181.domain = "34020000".into(),
            |c| c.gb28181.devices = vec![device("34020000001110000001", "a"), device("my-camera", "b")],
            |c| {
                c.server.shards = Shards::Fixed(2);
                c.gb28181.shared_port = 65_532;
            },
            |c| c.gb28181.utc_offset_minutes = -840,
            |c| {
                c.gb28181.enabled = false;
                c.gb28181.listen.clear();
            },
        ];
        for (at, change) in cases.into_iter().enumerate() {
            assert_eq!(changed(change).validate(), Ok(()), "case {at}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let cases: [(Change, &str); 31] = [
            (|c| c.gb28181.id.clear(), "gb28181.id: must be 1 to 20 digits"),
            (|c| c.gb28181.id = "3402000000200000000x".into(), "gb28181.id: must be 1 to 20 digits"),
            (|c| c.gb28181.domain = "3402".into(), "gb28181.domain: must be 8 to 20 digits"),
            (
                |c| c.gb28181.address = Some([0, 0, 0, 0].into()),
                "gb28181.address: must be an address that devices can send to, or null for the one at which they reach the server",
            ),
            (|c| c.gb28181.listen.clear(), "gb28181.listen: give an address for SIP, or set gb28181.enabled: false"),
            (
                |c| c.gb28181.listen = c.rtsp.listen.clone(),
                "gb28181.listen: 0.0.0.0:8554 is taken by 0.0.0.0:8554 of rtsp.listen",
            ),
            (|c| c.gb28181.devices_max = 0, "gb28181.devices_max: must be 1 to 1000000"),
            (|c| c.gb28181.keepalive_ms = 999, "gb28181.keepalive_ms: must be 1000 to 3600000"),
            (|c| c.gb28181.keepalive_count = 0, "gb28181.keepalive_count: must be 1 to 100"),
            (|c| c.gb28181.answer_ms = 60_001, "gb28181.answer_ms: must be 100 to 60000"),
            (|c| c.gb28181.media_ms = 1, "gb28181.media_ms: must be 1000 to 600000"),
            (|c| c.gb28181.utc_offset_minutes = 841, "gb28181.utc_offset_minutes: must be -840 to 840"),
            (
                |c| {
                    c.server.shards = Shards::Fixed(4);
                    c.gb28181.shared_port = 65_530;
                },
                "gb28181.shared_port: must be even, and leave two ports for each of the 4 shards; or 0",
            ),
            (
                |c| {
                    c.server.shards = Shards::Fixed(4);
                    c.gb28181.shared_port = 19_994;
                },
                "gb28181.shared_port: must be outside rtsp.udp_ports (20000-29999), up to two ports for each shard",
            ),
            (
                |c| c.gb28181.udp_ports = "29998-30099".parse().ok(),
                "gb28181.udp_ports: must be outside rtsp.udp_ports (20000-29999), or the same",
            ),
            (
                |c| {
                    c.server.shards = Shards::Fixed(2);
                    c.gb28181.udp_ports = "40001-40004".parse().ok();
                },
                "gb28181.udp_ports: must hold, for each of the 2 shards, an even port and the one behind it",
            ),
            (
                |c| {
                    c.server.shards = Shards::Fixed(3);
                    c.gb28181.tcp_ports = "40001-40002".parse().ok();
                },
                "gb28181.tcp_ports: must hold a port for each of the 3 shards",
            ),
            (|c| c.gb28181.udp_ports = "5000-5099".parse().ok(), "gb28181.udp_ports: 0.0.0.0:5060 of gb28181.listen is in it"),
            (|c| c.gb28181.udp_ports = "8000-8099".parse().ok(), "gb28181.udp_ports: 0.0.0.0:8080 of http.listen is in it"),
            (|c| c.gb28181.tcp_ports = "1900-2000".parse().ok(), "gb28181.tcp_ports: 0.0.0.0:1935 of rtmp.listen is in it"),
            (
                |c| (c.gb28181.udp_ports, c.gb28181.shared_port) = ("40000-40099".parse().ok(), 40_000),
                "gb28181.shared_port: must be outside gb28181.udp_ports (40000-40099), up to two ports for each shard",
            ),
            (
                |c| (c.gb28181.tcp_ports, c.gb28181.shared_port) = ("40000-40099".parse().ok(), 40_000),
                "gb28181.shared_port: must be outside gb28181.tcp_ports (40000-40099), up to two ports for each shard",
            ),
            (|c| c.gb28181.upstream = vec![upstream("1")], "gb28181.upstream: \"1\" must be 8 to 20 digits"),
            (
                |c| c.gb28181.upstream = vec![Upstream { domain: "x".into(), ..upstream("34020000002000000009") }],
                "gb28181.upstream: \"34020000002000000009: x\" must be 8 to 20 digits",
            ),
            (
                |c| c.gb28181.upstream = vec![upstream("34020000002000000009"); 2],
                "gb28181.upstream: \"34020000002000000009\" is there twice",
            ),
            (
                |c| c.gb28181.upstream = vec![upstream("34020000002000000001")],
                "gb28181.upstream: \"34020000002000000001\" is there twice",
            ),
            (
                |c| c.gb28181.upstream = vec![Upstream { address: None, ..upstream("34020000002000000009") }],
                "gb28181.upstream: 34020000002000000009 has no address with a port",
            ),
            (
                |c| c.gb28181.upstream = vec![Upstream { keepalive_ms: 1, ..upstream("34020000002000000009") }],
                "gb28181.upstream: of 34020000002000000009 expires_s must be 60 to 31536000, keepalive_ms 1000 to 3600000, calls_max 1 \
                 to 10000",
            ),
            (|c| c.gb28181.devices = vec![device("a b", "x")], "gb28181.devices: \"a b\" is no id of a device"),
            (|c| c.gb28181.devices = vec![device("1", "")], "gb28181.devices: \"1\" has no password"),
            (|c| c.gb28181.devices = vec![device("1", "a"), device("1", "b")], "gb28181.devices: \"1\" is there twice"),
        ];
        for (change, expected) in cases {
            assert_eq!(changed(change).validate().unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn an_operator_is_warned_of_a_platform_that_nobody_can_register_with() {
        let cases: [(Change, usize); 6] = [
            (|_| (), 1),
            (|c| c.gb28181.enabled = false, 0),
            (|c| c.gb28181.password = "secret".into(), 0),
            (|c| c.gb28181.devices = vec![device("1", "a")], 0),
            (
                |c| {
                    c.gb28181.password = "secret".into();
                    c.gb28181.upstream = vec![upstream("34020000002000000009")];
                },
                1,
            ),
            (|c| (c.gb28181.password, c.gb28181.domain) = ("secret".into(), "4401000000".into()), 1),
        ];
        for (change, expected) in cases {
            assert_eq!(changed(change).warnings().len(), expected);
        }
        assert!(changed(|_| ()).warnings()[0].contains("--set gb28181.password=SECRET"));
        assert!(!format!("{:?}{:?}", device("1", "geheim"), upstream("1")).contains("geheim"));
    }
}
