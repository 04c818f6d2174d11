//! The most memory that the limits allow, summed by holder: what an operator compares with the machine before the evening does.
//!
//! It is the worst case (every connection and every stream that the limits admit, each at its limit), so it is far above what a
//! server uses; lower the limits to lower it. Bytes that are shared are counted at each holder.

use std::fmt;

use super::{CONTROL_CONNECTIONS_MAX, Config, PortRange, SIP_EVENTS_MAX, SIP_HELD_BYTES_MAX, SIP_RECEIVE_BUFFER_BYTES};

/// What a connection costs in user space when nothing waits for it.
const CONNECTION_BYTES: u64 = 8 * 1024;
/// A waiting batch itself; its frames are the owner's.
const LANE_BATCH_BYTES: u64 = 64;
/// Cipher text of a connection that waits to be sent, with the record that goes over the limit.
const TLS_UNSENT_BYTES: u64 = (64 + 16) * 1024;
/// Cipher text of the record that comes in (RFC 5246 §6.2.3).
const TLS_RECORD_BYTES: u64 = 18 * 1024;
/// Each pair has two sockets, and the kernel takes a receive buffer twice for what it needs beside the datagrams.
const RECEIVE_BUFFERS_PER_PAIR: u64 = 4;

/// What connections hold, and datagrams that wait.
const SIP_BYTES: u64 = (SIP_HELD_BYTES_MAX + SIP_EVENTS_MAX * 64 * 1024) as u64;

/// Bytes at most, over all shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    pub shards: u64,
    /// Frames kept for newcomers and for viewers that lag.
    pub media_bytes: u64,
    /// What peers have sent that is not complete or not due, and replies that they do not take.
    pub held_bytes: u64,
    pub connections_bytes: u64,
    /// Cipher text of connections over TLS.
    pub tls_bytes: u64,
    /// Batches between shards.
    pub lanes_bytes: u64,
    /// Requests to the control plane.
    pub control_bytes: u64,
    /// Messages of SIP that are not complete, not read or not taken.
    pub sip_bytes: u64,
    /// Recordings that wait for the disk.
    pub record_bytes: u64,
    /// Unsent bytes, and datagrams not yet read, in the kernel: not the process's memory, but the machine's.
    pub kernel_bytes: u64,
}

impl Config {
    /// Sums the limits, for the number of shards that this machine gets.
    pub fn budget(&self) -> Budget {
        let shards = u64::from(self.server.shards.count());
        let limits = &self.limits;
        let connections = shards.saturating_mul(limits.connections_per_shard_max as u64);
        let lanes = shards.saturating_mul(shards - 1);
        let has_tls = !self.rtsp.tls_listen.is_empty();
        let has_rtsp = has_tls || !self.rtsp.listen.is_empty();
        let own_pairs = self.datagrams().own_udp_ports.map_or(0, PortRange::pairs);
        let rtsp_pairs = if has_rtsp || self.has_rtp() && own_pairs == 0 { self.rtsp.udp_ports.pairs() } else { 0 };
        let pairs = rtsp_pairs.saturating_add(if self.has_rtp() { own_pairs } else { 0 });
        let sip_sockets = if self.gb28181.enabled { self.gb28181.listen.len() as u64 } else { 0 };
        let shared = self.datagrams().shared_port.map_or(0, |_| u64::from(self.datagrams().shared_receive_buffer_bytes));
        let datagrams =
            pairs.saturating_mul(u64::from(self.rtsp.receive_buffer_bytes)).saturating_add(shards.saturating_mul(shared));
        let datagrams = datagrams.saturating_mul(RECEIVE_BUFFERS_PER_PAIR);
        Budget {
            shards,
            media_bytes: limits.media_bytes_max as u64,
            held_bytes: shards.saturating_mul(limits.held_bytes_of_a_shard(usize::from(self.server.shards.count())) as u64),
            connections_bytes: connections.saturating_mul(CONNECTION_BYTES),
            tls_bytes: if has_tls { connections.saturating_mul(TLS_UNSENT_BYTES + TLS_RECORD_BYTES) } else { 0 },
            lanes_bytes: lanes.saturating_mul(limits.lane_batches_max as u64).saturating_mul(LANE_BATCH_BYTES),
            control_bytes: (CONTROL_CONNECTIONS_MAX as u64).saturating_mul(self.control.body_bytes_max as u64),
            sip_bytes: if self.gb28181.enabled { SIP_BYTES } else { 0 },
            record_bytes: if self.may_record() { self.record.queue_bytes_max as u64 } else { 0 },
            // The kernel takes a receive buffer twice.
            kernel_bytes: connections
                .saturating_mul(u64::from(self.viewer.kernel_unsent_bytes_max))
                .saturating_add(datagrams)
                .saturating_add(sip_sockets.saturating_mul(2 * SIP_RECEIVE_BUFFER_BYTES as u64)),
        }
    }
}

impl Budget {
    fn holders(&self) -> [(&'static str, u64); 8] {
        [
            ("media", self.media_bytes),
            ("held", self.held_bytes),
            ("connections", self.connections_bytes),
            ("tls", self.tls_bytes),
            ("lanes", self.lanes_bytes),
            ("control", self.control_bytes),
            ("sip", self.sip_bytes),
            ("record", self.record_bytes),
        ]
    }

    /// The process's own memory: everything but the kernel's part.
    pub fn total_bytes(&self) -> u64 {
        self.holders().iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes.div_ceil(1024 * 1024);
        write!(f, "memory that the limits allow, {} shards: {} MiB (", self.shards, mib(self.total_bytes()))?;
        for (index, (holder, bytes)) in self.holders().into_iter().enumerate() {
            write!(f, "{}{holder} {}", if index == 0 { "" } else { ", " }, mib(bytes))?;
        }
        write!(f, "), in the kernel {} MiB", mib(self.kernel_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Shards;

    #[test]
    fn what_is_said_here_is_what_is_held_there() {
        use crate::io::tls;
        assert_eq!(TLS_UNSENT_BYTES, (tls::UNSENT_BYTES_MAX + tls::RECORD_BYTES_MAX) as u64);
    }

    #[test]
    fn every_holder_is_summed() {
        let mut config = Config::default();
        config.server.shards = Shards::Fixed(2);
        config.limits.connections_per_shard_max = 1024;
        config.limits.lane_batches_max = 8192;
        config.rtsp.listen.clear();
        config.control.listen.clear();
        let budget = config.budget();
        assert_eq!(
            budget.to_string(),
            "memory that the limits allow, 2 shards: 661 MiB (media 384, held 256, connections 16, tls 0, lanes 1, control 4, sip 0, \
             record 0), in the kernel 256 MiB"
        );
        assert_eq!(budget.total_bytes(), 661 * 1024 * 1024);
        config.rtsp.tls_listen.push(([127, 0, 0, 1], 0).into());
        config.rtsp.udp_ports = "20000-20019".parse().unwrap();
        assert_eq!(
            config.budget().to_string(),
            "memory that the limits allow, 2 shards: 857 MiB (media 384, held 256, connections 16, tls 196, lanes 1, control 4, \
             sip 0, record 0), in the kernel 336 MiB"
        );
        config.gb28181.enabled = true;
        assert_eq!(
            config.budget().to_string(),
            "memory that the limits allow, 2 shards: 905 MiB (media 384, held 256, connections 16, tls 196, lanes 1, control 4, \
             sip 48, record 0), in the kernel 344 MiB"
        );
        config.gb28181.udp_ports = "20020-20039".parse().ok();
        assert!(config.budget().to_string().ends_with("in the kernel 424 MiB"), "{}", config.budget());
        config.gb28181.udp_ports = None;
        config.gb28181.shared_port = 40_000;
        assert!(config.budget().to_string().ends_with("in the kernel 472 MiB"), "{}", config.budget());
    }

    #[test]
    fn the_defaults_fit_into_a_gibibyte_on_two_shards() {
        let mut config = Config::default();
        config.server.shards = Shards::Fixed(2);
        assert!(config.budget().total_bytes() < 1024 * 1024 * 1024, "{}", config.budget());
    }

    #[test]
    fn the_largest_limits_do_not_overflow() {
        let mut config = Config::default();
        config.server.shards = Shards::Fixed(256);
        config.limits.connections_per_shard_max = usize::MAX;
        config.limits.streams_per_shard_max = usize::MAX;
        assert_eq!(config.budget().total_bytes(), u64::MAX);
    }
}
