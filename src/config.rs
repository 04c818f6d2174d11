//! The configuration: one struct per section, each with its defaults. `config.yaml` says the same values with words.
//!
//! [`load()`] turns a YAML file and the operator's `--set` options into a [`Config`] that has passed [`Config::validate`], or into one
//! sentence that names the line and the key at fault. A file has 1 MiB at most. A `Config` is made once, at the start, and shared
//! read-only. Not here: what a value does (its reader's business), and the command line (`cli.rs`).

mod budget;
mod load;
mod validate;

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use budget::Budget;
pub use load::{ConfigError, Override, load, parse};
pub use validate::Invalid;

use crate::format::HevcForm;

/// Connections to the control plane at the same time; more wait in the kernel's queue.
pub const CONTROL_CONNECTIONS_MAX: usize = 64;

/// Everything that an operator can set. A missing section or key has its default; an unknown one is an error.
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

/// What moves the bytes: io_uring by glommio or epoll by tokio; `auto` probes the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    #[default]
    Auto,
    IoUring,
    Epoll,
}

/// The most shards that can be asked for.
pub const SHARDS_MAX: u16 = 256;

/// How many shards: `auto` is one per core that the process may use. In YAML: the word `auto` or a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shards {
    #[default]
    Auto,
    /// 1 to [`SHARDS_MAX`]; may be more than there are cores.
    Fixed(u16),
}

impl Shards {
    /// The number of shards on this machine, 1 to [`SHARDS_MAX`]. Heeds the affinity mask and the CPU quota of the process.
    pub fn count(self) -> u16 {
        match self {
            Shards::Auto => {
                let cores = std::thread::available_parallelism().map_or(1, usize::from);
                u16::try_from(cores).unwrap_or(SHARDS_MAX).min(SHARDS_MAX)
            }
            Shards::Fixed(count) => count,
        }
    }
}

impl Serialize for Shards {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Shards::Auto => serializer.serialize_str("auto"),
            Shards::Fixed(count) => serializer.serialize_u16(*count),
        }
    }
}

impl<'de> Deserialize<'de> for Shards {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShardsVisitor)
    }
}

struct ShardsVisitor;

impl serde::de::Visitor<'_> for ShardsVisitor {
    type Value = Shards;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`auto` or a number from 1 to {SHARDS_MAX}")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Shards, E> {
        if text == "auto" { Ok(Shards::Auto) } else { Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)) }
    }

    fn visit_u64<E: serde::de::Error>(self, count: u64) -> Result<Shards, E> {
        match u16::try_from(count) {
            Ok(count @ 1..=SHARDS_MAX) => Ok(Shards::Fixed(count)),
            _ => Err(E::invalid_value(serde::de::Unexpected::Unsigned(count), &self)),
        }
    }
}

/// The process as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    pub runtime: Runtime,
    pub shards: Shards,
    /// On SIGTERM: how long connections may take to end.
    pub drain_ms: u64,
}

/// RTMP in and out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rtmp {
    pub listen: Vec<SocketAddr>,
    /// For players that do not say which form of H.265 they take.
    pub hevc: HevcForm,
}

/// HTTP-FLV and WebSocket-FLV.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    pub listen: Vec<SocketAddr>,
    pub hevc: HevcForm,
    /// `Access-Control-Allow-Origin`; empty: no CORS headers.
    pub allow_origin: String,
}

/// What happens when a name is published that has a publisher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PublishConflict {
    /// The newcomer is refused.
    Reject,
    /// The newcomer gets the name if the holder has been silent for `takeover_silence_ms`, else it is refused.
    #[default]
    Takeover,
}

/// The life of a stream.
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

/// What a viewer may expect, and what is done with a slow one.
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

/// Bounds on memory and patience, each per shard or per connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    pub connections_per_shard_max: usize,
    pub streams_per_shard_max: usize,
    pub handshake_ms_max: u64,
    pub message_bytes_max: usize,
    /// Media kept by the whole process (GOPs, and packets for viewers that lag). Each shard has an equal part.
    pub media_bytes_max: usize,
    /// Sent packets kept per stream, format and shard for viewers that lag.
    pub ring_bytes_max: usize,
    /// Control bytes waiting per connection.
    pub outbox_bytes_max: usize,
    /// Batches of media waiting per pair of shards.
    pub lane_batches_max: usize,
    /// A publisher that sends nothing for this time is closed.
    pub idle_ms_max: u64,
}

/// The control plane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    /// The REST API and `/metrics`; empty: none.
    pub listen: Vec<SocketAddr>,
    pub body_bytes_max: usize,
}

/// What `/metrics` shows.
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
            media_bytes_max: 512 * 1024 * 1024,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotated_file_says_the_defaults() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config.yaml");
        assert_eq!(load(Some(&file), &[]).unwrap(), Config::default());
    }

    #[test]
    fn the_annotated_file_names_every_key() {
        let text = include_str!("../config.yaml");
        let written: serde_yaml::Value = serde_yaml::from_str(text).unwrap();
        assert_eq!(written, serde_yaml::to_value(Config::default()).unwrap());
    }

    #[test]
    fn shards_are_a_word_or_a_number() {
        for (text, shards) in [("auto", Shards::Auto), ("1", Shards::Fixed(1)), ("256", Shards::Fixed(256))] {
            assert_eq!(serde_yaml::from_str::<Shards>(text).unwrap(), shards);
            assert_eq!(serde_yaml::to_string(&shards).unwrap().trim(), text);
        }
        assert!((1..=SHARDS_MAX).contains(&Shards::Auto.count()));
        assert_eq!(Shards::Fixed(7).count(), 7);
    }
}
