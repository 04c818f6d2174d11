//! The most memory that the limits allow, summed by holder: what an operator compares with the machine before the evening does.
//!
//! It is the worst case (every connection and every stream that the limits admit, each at its limit), so it is far above what a
//! server uses; lower the limits to lower it. Bytes that are shared are counted at each holder.

use std::fmt;

use super::{CONTROL_CONNECTIONS_MAX, Config};

/// What a connection costs in user space when nothing waits for it.
const CONNECTION_BYTES: u64 = 8 * 1024;
/// A waiting batch itself; its frames are the owner's.
const LANE_BATCH_BYTES: u64 = 64;

/// Bytes at most, over all shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    pub shards: u64,
    /// Frames kept for newcomers and for viewers that lag.
    pub media_bytes: u64,
    /// Messages of publishers that are being put together.
    pub messages_bytes: u64,
    /// Control bytes waiting to be sent.
    pub outboxes_bytes: u64,
    pub connections_bytes: u64,
    /// Batches between shards.
    pub lanes_bytes: u64,
    /// Requests to the control plane.
    pub control_bytes: u64,
    /// Unsent bytes in the kernel: not the process's memory, but the machine's.
    pub kernel_bytes: u64,
}

impl Config {
    /// Sums the limits, for the number of shards that this machine gets.
    pub fn budget(&self) -> Budget {
        let shards = u64::from(self.server.shards.count());
        let limits = &self.limits;
        let connections = shards.saturating_mul(limits.connections_per_shard_max as u64);
        let streams = shards.saturating_mul(limits.streams_per_shard_max as u64);
        let lanes = shards.saturating_mul(shards - 1);
        Budget {
            shards,
            media_bytes: limits.media_bytes_max as u64,
            messages_bytes: streams.min(connections).saturating_mul(limits.message_bytes_max as u64),
            outboxes_bytes: connections.saturating_mul(limits.outbox_bytes_max as u64),
            connections_bytes: connections.saturating_mul(CONNECTION_BYTES),
            lanes_bytes: lanes.saturating_mul(limits.lane_batches_max as u64).saturating_mul(LANE_BATCH_BYTES),
            control_bytes: (CONTROL_CONNECTIONS_MAX as u64).saturating_mul(self.control.body_bytes_max as u64),
            kernel_bytes: connections.saturating_mul(u64::from(self.viewer.kernel_unsent_bytes_max)),
        }
    }
}

impl Budget {
    fn holders(&self) -> [(&'static str, u64); 6] {
        [
            ("media", self.media_bytes),
            ("messages", self.messages_bytes),
            ("outboxes", self.outboxes_bytes),
            ("connections", self.connections_bytes),
            ("lanes", self.lanes_bytes),
            ("control", self.control_bytes),
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
    fn every_holder_is_summed() {
        let mut config = Config::default();
        config.server.shards = Shards::Fixed(2);
        config.limits.connections_per_shard_max = 1024;
        config.limits.streams_per_shard_max = 10;
        config.limits.lane_batches_max = 8192;
        let budget = config.budget();
        assert_eq!(
            budget.to_string(),
            "memory that the limits allow, 2 shards: 821 MiB (media 512, messages 160, outboxes 128, connections 16, lanes 1, control 4), \
             in the kernel 256 MiB"
        );
        assert_eq!(budget.total_bytes(), 821 * 1024 * 1024);
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
