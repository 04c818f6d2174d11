//! The configuration: one struct per section, each with its defaults. `config.yaml` says the same values with words.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::format::HevcForm;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub rtmp: Rtmp,
    pub http: Http,
    pub stream: Stream,
    pub viewer: Viewer,
    pub limits: Limits,
    pub control: Control,
    pub metrics: Metrics,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    #[default]
    Auto,
    IoUring,
    Epoll,
}

/// How many shards: `auto` is one per core that the process may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shards {
    #[default]
    Auto,
    Fixed(u16),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    pub runtime: Runtime,
    pub shards: Shards,
    /// On SIGTERM: how long connections may take to end.
    pub drain_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rtmp {
    pub listen: Vec<SocketAddr>,
    /// For players that do not say which form of H.265 they take.
    pub hevc: HevcForm,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    pub listen: Vec<SocketAddr>,
    pub hevc: HevcForm,
    /// `Access-Control-Allow-Origin`; empty: no CORS headers.
    pub allow_origin: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PublishConflict {
    /// The newcomer is refused.
    Reject,
    /// The newcomer gets the name if the holder has been silent for `takeover_silence_ms`, else it is refused.
    #[default]
    Takeover,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stream {
    pub publish_conflict: PublishConflict,
    pub takeover_silence_ms: u64,
    /// How long viewers stay when the publisher is gone without a goodbye.
    pub publisher_grace_ms: u64,
    /// The GOP that is kept for newcomers: a longer or larger one is not kept.
    pub gop_bytes_max: usize,
    pub gop_ms_max: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Viewer {
    /// How long a viewer of an absent stream waits for it.
    pub wait_ms: u64,
    /// A viewer whose oldest unsent packet is older skips to a keyframe.
    pub lag_ms_max: u64,
    /// A viewer that takes nothing for this time is closed.
    pub stall_ms_max: u64,
    /// Let a flush wait until its oldest packet has this age: fewer, larger writes. 0: never wait.
    pub merge_ms: u64,
    /// Unsent bytes that the kernel may hold per viewer (`TCP_NOTSENT_LOWAT`).
    pub kernel_unsent_bytes_max: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    pub connections_per_shard_max: usize,
    pub streams_per_shard_max: usize,
    pub handshake_ms_max: u64,
    pub message_bytes_max: usize,
    /// Sent packets kept per stream, format and shard for viewers that lag.
    pub ring_bytes_max: usize,
    /// Control bytes waiting per connection.
    pub outbox_bytes_max: usize,
    /// Batches of media waiting per pair of shards.
    pub lane_batches_max: usize,
    /// A publisher that sends nothing for this time is closed.
    pub idle_ms_max: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    /// The REST API and `/metrics`; empty: none.
    pub listen: Vec<SocketAddr>,
    pub body_bytes_max: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Streams with series of their own; the others are summed.
    pub max_streams: usize,
}

impl Default for Server {
    fn default() -> Self {
        Server { runtime: Runtime::Auto, shards: Shards::Auto, drain_ms: 5_000 }
    }
}

impl Default for Rtmp {
    fn default() -> Self {
        Rtmp { listen: vec![SocketAddr::from(([0, 0, 0, 0], 1935))], hevc: HevcForm::Enhanced }
    }
}

impl Default for Http {
    fn default() -> Self {
        Http { listen: vec![SocketAddr::from(([0, 0, 0, 0], 8080))], hevc: HevcForm::Enhanced, allow_origin: "*".to_owned() }
    }
}

impl Default for Stream {
    fn default() -> Self {
        Stream {
            publish_conflict: PublishConflict::Takeover,
            takeover_silence_ms: 2_000,
            publisher_grace_ms: 15_000,
            gop_bytes_max: 16 * 1024 * 1024,
            gop_ms_max: 20_000,
        }
    }
}

impl Default for Viewer {
    fn default() -> Self {
        Viewer { wait_ms: 10_000, lag_ms_max: 500, stall_ms_max: 15_000, merge_ms: 0, kernel_unsent_bytes_max: 128 * 1024 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections_per_shard_max: 20_000,
            streams_per_shard_max: 2_000,
            handshake_ms_max: 10_000,
            message_bytes_max: 8 * 1024 * 1024,
            ring_bytes_max: 32 * 1024 * 1024,
            outbox_bytes_max: 64 * 1024,
            lane_batches_max: 1_024,
            idle_ms_max: 60_000,
        }
    }
}

impl Default for Control {
    fn default() -> Self {
        Control { listen: vec![SocketAddr::from(([127, 0, 0, 1], 9090))], body_bytes_max: 64 * 1024 }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics { max_streams: 200 }
    }
}
