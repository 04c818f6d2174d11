//! The configuration: one struct per section, each with its defaults. `config.yaml` says the same values with words.
//!
//! [`load()`] turns a YAML file and the operator's `--set` options into a [`Config`] that has passed [`Config::validate`], or into one
//! sentence that names the line and the key at fault. A file has 1 MiB at most. A `Config` is made once, at the start, and shared
//! read-only. Not here: what a value does (its reader's business), and the command line (`cli.rs`).

mod budget;
mod gb28181;
mod load;
mod record;
mod validate;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use budget::Budget;
pub use load::{ConfigError, Override, load, parse};
pub use record::{Record, RecordFormat, RecordPlan, RecordRule, RecordWish, WhenFull};
pub use validate::Invalid;
pub use validate::Problem;

use crate::format::HevcForm;
use crate::format::rtp::demux::OnLoss;

/// Connections to the control plane at the same time; more wait in the kernel's queue.
pub const CONTROL_CONNECTIONS_MAX: usize = 64;

/// What all connections that carry SIP may hold together: messages that are not complete, and messages that they do not take. Over it the
/// largest holder is closed.
pub const SIP_HELD_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Messages and news of connections that wait for the platform. Datagrams have 64 KiB at most; what came by connections counts above.
pub const SIP_EVENTS_MAX: usize = 256;
/// Receive buffer asked for per UDP socket for SIP: a thousand devices that register in the same moment.
pub const SIP_RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Everything that an operator can set. A missing section or key has its default; an unknown one is an error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub rtmp: Rtmp,
    pub http: Http,
    pub hls: Hls,
    pub rtsp: Rtsp,
    pub rtp: Rtp,
    pub gb28181: Gb28181,
    pub auth: Auth,
    pub tls: Tls,
    pub stream: Stream,
    pub viewer: Viewer,
    pub record: Record,
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
    /// The folder for what survives a restart; made when it is needed.
    pub data: PathBuf,
}

/// RTMP in and out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rtmp {
    pub listen: Vec<SocketAddr>,
    /// For players that do not say which form of H.265 they take.
    pub hevc: HevcForm,
}

/// What players fetch over HTTP and WebSocket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    pub listen: Vec<SocketAddr>,
    pub hevc: HevcForm,
    /// `Access-Control-Allow-Origin`; empty: no CORS headers.
    pub allow_origin: String,
}

/// Streams in segments, for players that fetch them over HTTP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hls {
    pub enabled: bool,
    /// Cut every stream from its beginning on, not only those that somebody asks for.
    pub always: bool,
    /// How long a segment should be at least; it ends at a keyframe.
    pub segment_ms: u64,
    /// How long a part of a segment should be, for players with low latency; 0: no parts.
    pub part_ms: u64,
    /// Segments in a playlist; more where they are short.
    pub segments: usize,
    /// A stream is cut no longer when nobody has asked for anything of it for this time.
    pub idle_ms: u64,
    /// Where playing needs a password: how long an address holds that was given to a viewer who had it.
    pub session_ms: u64,
    /// What the segments of one stream may hold; over it the oldest go early.
    pub bytes_max: usize,
}

/// RTSP in and out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rtsp {
    pub listen: Vec<SocketAddr>,
    /// RTSPS: the same over TLS.
    pub tls_listen: Vec<SocketAddr>,
    /// UDP ports for RTP and RTCP; each shard has an equal part.
    pub udp_ports: PortRange,
    pub udp_segmentation: UdpSegmentation,
    /// `SO_RCVBUF` asked for per UDP port that a publisher sends to.
    pub receive_buffer_bytes: u32,
    /// How long a gap in the packets of a UDP publisher is waited for.
    pub reorder_ms: u64,
    pub on_loss: OnLoss,
    /// A session from which neither requests nor RTCP nor media come for this time is ended.
    pub session_timeout_ms: u64,
    pub multicast: Multicast,
}

/// RTP that the operator has asked for through the API. Its ports are those of calls (`gb28181.udp_ports`, `gb28181.tcp_ports`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rtp {
    /// Where its ports are opened.
    pub address: IpAddr,
    /// How long a gap in the packets over UDP is waited for.
    pub reorder_ms: u64,
    pub on_loss: OnLoss,
}

/// What the names of streams begin with that calls to cameras bring: `gb/{device}/{channel}`.
const GB28181_FOLDER: &str = "gb/";

/// The platform that cameras register with (GB/T 28181).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gb28181 {
    pub enabled: bool,
    /// SIP, over UDP and TCP on each address.
    pub listen: Vec<SocketAddr>,
    /// What devices are told to send to; `None`: the address at which they reach the server.
    pub address: Option<IpAddr>,
    /// The 20 digits of this platform.
    pub id: String,
    /// The realm of registrations: 10 digits.
    pub domain: String,
    /// Of all devices that have none of their own; empty: those may not register.
    pub password: String,
    pub devices: Vec<DevicePassword>,
    /// More are refused.
    pub devices_max: usize,
    pub transport: MediaTransport,
    /// Ports for media over UDP, of calls and of RTP through the API; each shard has an equal part. `None`: those of `rtsp.udp_ports`.
    pub udp_ports: Option<PortRange>,
    /// The same over TCP; `None`: those for UDP.
    pub tcp_ports: Option<PortRange>,
    /// One port per shard for all calls, from this one on, instead of a port per call; 0: a port per call.
    pub shared_port: u16,
    /// Whether the sender of media is sent RTCP receiver reports.
    pub receiver_reports: bool,
    /// A device is offline when so many keepalives have not come.
    pub keepalive_ms: u64,
    pub keepalive_count: u64,
    /// How long the answer to a SIP request is waited for; to an INVITE three times as long.
    pub answer_ms: u64,
    /// How long media is waited for, at the beginning of a call and in it.
    pub media_ms: u64,
    /// How long a call goes on that nobody watches.
    pub idle_ms: u64,
    /// What is subscribed to at devices.
    pub subscribe: Vec<Subscription>,
    /// The time zone of dates in messages: minutes east of UTC.
    pub utc_offset_minutes: i32,
    /// The platforms above this one.
    pub upstream: Vec<Upstream>,
}

/// A platform that this one registers with, as a device would, and what it is shown.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Upstream {
    pub address: Option<SocketAddr>,
    pub transport: SipTransport,
    /// The 20 digits of that platform.
    pub id: String,
    /// Empty: the first 10 digits of its id.
    pub domain: String,
    /// Empty: the id of this platform.
    pub username: String,
    pub password: String,
    /// How long a registration is to hold.
    pub expires_s: u32,
    pub keepalive_ms: u64,
    /// Patterns of `app/name`; `gb/*` are the channels of devices.
    pub share: Vec<String>,
    /// What streams are called in the catalog, by `app/name`; else as they are.
    pub names: BTreeMap<String, String>,
    /// Calls that run at the same time; more are refused.
    pub calls_max: usize,
}

/// A password does not belong into a log.
impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("address", &self.address).field("id", &self.id).finish_non_exhaustive()
    }
}

impl Default for Upstream {
    fn default() -> Self {
        Upstream {
            address: None,
            transport: SipTransport::Udp,
            id: String::new(),
            domain: String::new(),
            username: String::new(),
            password: String::new(),
            expires_s: 3_600,
            keepalive_ms: 60_000,
            share: Vec::new(),
            names: BTreeMap::new(),
            calls_max: 64,
        }
    }
}

/// What carries SIP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SipTransport {
    #[default]
    Udp,
    Tcp,
}

/// A device whose password is its own.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevicePassword {
    pub id: String,
    pub password: String,
}

/// A password does not belong into a log.
impl fmt::Debug for DevicePassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevicePassword").field("id", &self.id).finish_non_exhaustive()
    }
}

/// How a device is asked to send its media.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaTransport {
    Udp,
    /// The device connects.
    #[default]
    TcpPassive,
    /// The server connects.
    TcpActive,
}

/// Something that devices tell on their own once asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subscription {
    Catalog,
    Alarm,
    MobilePosition,
}

/// Where streams go that are played by multicast: one group per stream, with four ports of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Multicast {
    pub first_address: Ipv4Addr,
    /// Neighbouring addresses from the first on; 0: no multicast.
    pub addresses: u16,
    /// The first group's first port; each group has the four behind those of the one before.
    pub first_port: u16,
    /// How many routers may pass it on.
    pub ttl: u8,
    /// The address of the interface that sends; `None`: the system's choice.
    pub interface: Option<Ipv4Addr>,
}

impl Multicast {
    /// Address and first port of a group, the number below `addresses`.
    pub fn group(&self, number: u16) -> (Ipv4Addr, u16) {
        (Ipv4Addr::from_bits(self.first_address.to_bits() + u32::from(number)), self.first_port + 4 * number)
    }
}

/// A port for many sessions has a buffer for so many.
const SHARED_BUFFERS: u32 = 8;

/// What the shards need to know of datagrams, whoever sends them.
#[derive(Clone, Copy, Debug)]
pub struct Datagrams<'a> {
    /// Where sessions receive that have no connection of their own.
    pub address: IpAddr,
    pub ports: PortRange,
    /// Of those sessions. `None`: they share `ports`.
    pub own_udp_ports: Option<PortRange>,
    /// `None`: they share those for UDP.
    pub own_tcp_ports: Option<PortRange>,
    pub segmentation: UdpSegmentation,
    pub receive_buffer_bytes: u32,
    /// The first shard's port for many sessions; each shard has the one two behind. `None`: there is none.
    pub shared_port: Option<u16>,
    pub shared_receive_buffer_bytes: u32,
    pub multicast: &'a Multicast,
}

impl Config {
    /// Whether a stream of this name is brought when somebody wants to view it.
    pub fn on_demand(&self, key: &str) -> bool {
        self.gb28181.enabled && key.starts_with(GB28181_FOLDER)
    }

    /// The ports for media over UDP that is not RTSP.
    pub(crate) fn call_udp_ports(&self) -> PortRange {
        self.gb28181.udp_ports.unwrap_or(self.rtsp.udp_ports)
    }

    /// What all that use datagrams share, whatever they speak.
    pub fn datagrams(&self) -> Datagrams<'_> {
        Datagrams {
            address: self.rtp.address,
            ports: self.rtsp.udp_ports,
            own_udp_ports: self.gb28181.udp_ports.filter(|ports| *ports != self.rtsp.udp_ports),
            own_tcp_ports: self.gb28181.tcp_ports.filter(|ports| *ports != self.call_udp_ports()),
            segmentation: self.rtsp.udp_segmentation,
            receive_buffer_bytes: self.rtsp.receive_buffer_bytes,
            shared_port: Some(self.gb28181.shared_port).filter(|port| *port != 0),
            shared_receive_buffer_bytes: self.rtsp.receive_buffer_bytes.saturating_mul(SHARED_BUFFERS),
            multicast: &self.rtsp.multicast,
        }
    }
}

/// Who may publish and play, for every protocol. Without users everyone may do everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    pub realm: String,
    pub users: Vec<User>,
    /// What those may who give no name.
    pub anonymous: Rights,
    pub digest: DigestAlgorithms,
    /// Whether names and passwords are taken in clear (`Basic`, or in a query).
    pub basic: bool,
    /// Life of a challenge.
    pub nonce_ms: u64,
    /// Wrong passwords per address and minute; more are refused unread.
    pub failures_per_minute_max: u32,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    pub name: String,
    pub password: String,
    #[serde(default)]
    pub publish: Vec<String>,
    #[serde(default)]
    pub play: Vec<String>,
}

/// A password does not belong into a log.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Patterns of stream names, `app/name`; a `*` stands for any text, slashes too.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rights {
    pub publish: Vec<String>,
    pub play: Vec<String>,
}

/// The certificate for everything that listens over TLS. The files are read again when they change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// PEM: the server's certificate, then those that vouch for it.
    pub certificate: PathBuf,
    /// PEM.
    pub private_key: PathBuf,
}

/// Which digest challenges are offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DigestAlgorithms {
    /// SHA-256, and MD5 for those who know no better.
    #[default]
    Sha256AndMd5,
    Sha256,
}

/// Neighbouring ports, both ends included. In YAML: `first-last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

impl PortRange {
    /// How many pairs of an even port and the next one it has.
    pub fn pairs(self) -> u64 {
        let (first, end) = (u64::from(self.first).next_multiple_of(2), u64::from(self.last) + 1);
        end.saturating_sub(first) / 2
    }

    /// Whether both have a port.
    fn meets(self, other: PortRange) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

const PORT_RANGE_EXPECTED: &str = "a range of ports such as 20000-29999";

impl std::str::FromStr for PortRange {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, last) = text.split_once('-').ok_or(PORT_RANGE_EXPECTED)?;
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) if 0 < first && first < last => Ok(PortRange { first, last }),
            _ => Err(PORT_RANGE_EXPECTED),
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl Serialize for PortRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PortRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = PortRange;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(PORT_RANGE_EXPECTED)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<PortRange, E> {
                text.parse().map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// Whether the kernel may be given several datagrams as one piece that it cuts (`UDP_SEGMENT`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UdpSegmentation {
    /// Where the kernel can do it.
    #[default]
    Auto,
    /// Each datagram is a message of its own, many to a call.
    Off,
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
    /// What all peers have sent that is not complete or not due yet, and replies that they do not take, in the whole process. Each
    /// shard has an equal part.
    pub held_bytes_max: usize,
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
        Server { runtime: Runtime::Auto, shards: Shards::Auto, drain_ms: 5_000, data: "data".into() }
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

impl Default for Hls {
    fn default() -> Self {
        Hls {
            enabled: true,
            always: false,
            segment_ms: 2_000,
            part_ms: 200,
            segments: 7,
            idle_ms: 30_000,
            session_ms: 86_400_000,
            bytes_max: 64 * 1024 * 1024,
        }
    }
}

impl Default for Rtsp {
    fn default() -> Self {
        Rtsp {
            listen: vec![SocketAddr::from(([0, 0, 0, 0], 8554))],
            tls_listen: Vec::new(),
            udp_ports: PortRange { first: 20_000, last: 29_999 },
            udp_segmentation: UdpSegmentation::Auto,
            receive_buffer_bytes: 2 * 1024 * 1024,
            reorder_ms: 50,
            on_loss: OnLoss::Pass,
            session_timeout_ms: 60_000,
            multicast: Multicast::default(),
        }
    }
}

impl Default for Rtp {
    fn default() -> Self {
        Rtp { address: Ipv4Addr::UNSPECIFIED.into(), reorder_ms: 50, on_loss: OnLoss::Pass }
    }
}

impl Default for Gb28181 {
    fn default() -> Self {
        Gb28181 {
            enabled: false,
            listen: vec![SocketAddr::from(([0, 0, 0, 0], 5060))],
            address: None,
            id: "34020000002000000001".to_owned(),
            domain: "3402000000".to_owned(),
            password: String::new(),
            devices: Vec::new(),
            devices_max: 10_000,
            transport: MediaTransport::TcpPassive,
            udp_ports: None,
            tcp_ports: None,
            shared_port: 0,
            receiver_reports: false,
            keepalive_ms: 60_000,
            keepalive_count: 3,
            answer_ms: 5_000,
            media_ms: 10_000,
            idle_ms: 15_000,
            subscribe: Vec::new(),
            utc_offset_minutes: 480,
            upstream: Vec::new(),
        }
    }
}

impl Default for Multicast {
    fn default() -> Self {
        let first_address = Ipv4Addr::new(239, 255, 42, 1);
        Multicast { first_address, addresses: SHARDS_MAX, first_port: 30_000, ttl: 16, interface: None }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Auth {
            realm: "shardcast".to_owned(),
            users: Vec::new(),
            anonymous: Rights::default(),
            digest: DigestAlgorithms::Sha256AndMd5,
            basic: true,
            nonce_ms: 60_000,
            failures_per_minute_max: 20,
        }
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

impl Limits {
    /// A shard's part of `held_bytes_max`; a publisher's largest messages fit in any case.
    pub fn held_bytes_of_a_shard(&self, shards: usize) -> usize {
        (self.held_bytes_max / shards.max(1)).max(2 * self.message_bytes_max)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections_per_shard_max: 20_000,
            streams_per_shard_max: 2_000,
            handshake_ms_max: 10_000,
            message_bytes_max: 8 * 1024 * 1024,
            media_bytes_max: 384 * 1024 * 1024,
            ring_bytes_max: 32 * 1024 * 1024,
            outbox_bytes_max: 64 * 1024,
            held_bytes_max: 256 * 1024 * 1024,
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
