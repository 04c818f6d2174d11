//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::gb28181::args::{CHANNEL_ID, DEVICE_ID, DeviceArgs, count_up};
use crate::relay::Profile;
use crate::units::{HttpUrl, Rate, RtmpUrl, RtspUrl};

/// Publishes test streams to a live server, plays them with many viewers, and measures from outside what they get.
///
/// Every video access unit carries the time when it was sent, so latency is measured inside the media: to the first byte and to the
/// last byte of each access unit, on one clock. Publishers and viewers are one thread: pin it to a core of its own.
#[derive(Debug, Parser)]
#[command(name = "shardcast-loadtest", version, args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    pub action: Option<Action>,

    #[command(flatten)]
    pub load: LoadArgs,
}

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Print two groups of runs side by side, as medians, with their ratios.
    Compare {
        /// What the groups are called.
        #[arg(long, num_args = 2, default_values = ["left", "right"])]
        names: Vec<String>,
        /// JSON files of the first group.
        #[arg(long, num_args = 1.., required = true)]
        left: Vec<PathBuf>,
        /// JSON files of the second group.
        #[arg(long, num_args = 1.., required = true)]
        right: Vec<PathBuf>,
    },
    /// Find the most viewers that get everything in time.
    Density(Box<DensityArgs>),
    /// Write one page with the plots of runs.
    Page {
        /// The page
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// JSON files of runs
        #[arg(required = true)]
        runs: Vec<PathBuf>,
    },
    Ratios(RatiosArgs),
    Gb28181Device(Box<DeviceArgs>),
}

#[derive(Clone, Debug, clap::Args)]
pub struct DensityArgs {
    #[command(flatten)]
    pub load: LoadArgs,
    /// Where the search begins
    #[arg(long, default_value_t = 500, value_parser = at_least_one)]
    pub from: usize,
    /// The search goes no further
    #[arg(long, default_value_t = 20_000, value_parser = at_least_one)]
    pub most: usize,
    /// How long each number of viewers is tried; what is found is then tried for --seconds
    #[arg(long, default_value_t = 10)]
    pub probe_seconds: u64,
    /// How near to the limit the search comes, in percent
    #[arg(long, default_value_t = 5.0)]
    pub resolution: f64,
    /// Share of the frames, in percent, that must come within 100 ms: more than this. None may be lost
    #[arg(long, default_value_t = 99.99)]
    pub share: f64,
}

/// Print a table of ratios between runs of the same round, with their spread, in Markdown.
#[derive(Clone, Debug, clap::Args)]
pub struct RatiosArgs {
    /// A folder with one folder per round, each with JSON files of the same names
    pub folder: PathBuf,
    /// LABEL|FIGURE|RUN|BASE|BOUND: the figure of RUN.json divided by that of BASE.json; BOUND is `<=0.95`, `>=3`, or nothing. Without
    /// a BASE the figure itself is judged
    #[arg(long = "row", required = true)]
    pub rows: Vec<crate::ratios::Row>,
}

/// As `usize::from_str`, without zero.
fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "a number above zero".to_owned())
}

#[derive(Clone, Debug, clap::Args)]
pub struct LoadArgs {
    /// How to publish
    #[arg(long, value_enum, default_value = "rtmp")]
    pub publish: Publish,
    /// How many streams to publish; with more than one, -0, -1, … is added to the name
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub publishers: u16,
    /// How to play
    #[arg(long, value_enum, default_value = "http-flv")]
    pub play: Play,
    /// How many viewers, spread over the streams; with 0 only publishing is measured
    #[arg(long, default_value_t = 100)]
    pub viewers: usize,
    /// Bit rate of each stream: 800k, 2M, 1.5M
    #[arg(long, default_value = "2M")]
    pub rate: Rate,
    /// How long to measure, once all viewers have a picture
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Where to publish and play over RTMP, and what the streams are called everywhere
    #[arg(long, default_value = "rtmp://127.0.0.1:1935/live/load")]
    pub url: RtmpUrl,
    /// Where to play over HTTP and WebSocket: http://HOST:PORT
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub http: HttpUrl,
    /// Where to publish and play over RTSP: rtsp://HOST:PORT
    #[arg(long, default_value = "rtsp://127.0.0.1:8554")]
    pub rtsp: RtspUrl,
    /// Where viewers connect instead of the address in their URL: HOST:PORT
    #[arg(long, value_name = "HOST:PORT")]
    pub play_at: Option<String>,
    /// Where devices register, for `--publish gb28181`: HOST:PORT. Streams are then called gb/DEVICE/CHANNEL
    #[arg(long, default_value = "127.0.0.1:5060")]
    pub sip: String,
    #[arg(long, default_value = "")]
    pub sip_password: String,
    /// Where the control plane is asked to let devices send: HOST:PORT
    #[arg(long, default_value = "127.0.0.1:9090")]
    pub control: String,
    /// Let the kernel join datagrams for viewers over RTSP (UDP_GRO). No player does, but over loopback it spares the server's core the
    /// cutting of segmented datagrams, as a network card would
    #[arg(long)]
    pub gro: bool,
    /// Also report the CPU time, memory and context switches of this process
    #[arg(long)]
    pub server_pid: Option<u32>,
    /// Let this thread of the server stand still while measuring, as a disk that hangs does with `disk-writer`: a name as `top -H` shows it
    #[arg(long, value_name = "NAME", requires = "server_pid")]
    pub hold_thread: Option<String>,
    /// Time from keyframe to keyframe
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub gop_ms: u64,
    /// Video frames per second
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub fps: u32,
    /// Further viewers that connect and never read
    #[arg(long, default_value_t = 0)]
    pub stalled: usize,
    /// Further viewers that read as slowly as --slow-rate says, over TCP
    #[arg(long, default_value_t = 0)]
    pub slow: usize,
    #[arg(long, default_value = "500k")]
    pub slow_rate: Rate,
    /// Further viewers that come per second; each stays for --stay seconds
    #[arg(long, default_value_t = 0.0)]
    pub churn: f64,
    #[arg(long, default_value_t = 5)]
    pub stay: u64,
    /// Viewers that connect per second before the measuring begins
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    pub join_rate: u64,
    /// Let viewers be behind an impaired link that they share: rate=100M,ping=10ms,jitter=0ms,loss=0%,reorder=0%,seed=1. Without a
    /// value it is 100 Mbit/s and 10 ms; losses and reordering are for datagrams
    #[arg(long, value_name = "PROFILE", num_args = 0..=1, default_missing_value = Profile::HOME)]
    pub link: Option<Profile>,
    /// Also count the server's system calls, which makes each a little slower; needs --server-pid, root, and tracefs
    #[arg(long)]
    pub syscalls: bool,
    /// What this run is called in tables and plots
    #[arg(long)]
    pub name: Option<String>,
    /// Write the report to this file too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Publish {
    /// Simulated devices register, and are asked to send
    Gb28181,
    Rtmp,
    RtspTcp,
    RtspUdp,
}

impl Publish {
    pub fn name(self) -> &'static str {
        match self {
            Publish::Gb28181 => "gb28181",
            Publish::Rtmp => "rtmp",
            Publish::RtspTcp => "rtsp-tcp",
            Publish::RtspUdp => "rtsp-udp",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Play {
    /// Fragmented MP4 in segments, by polling the playlist
    Hls,
    HlsTs,
    HttpFlv,
    HttpFmp4,
    HttpTs,
    /// By parts, asking for what comes next
    LlHls,
    Rtmp,
    RtspTcp,
    RtspUdp,
    WsFlv,
}

impl Play {
    pub fn name(self) -> &'static str {
        match self {
            Play::Hls => "hls",
            Play::HlsTs => "hls-ts",
            Play::HttpFlv => "http-flv",
            Play::HttpFmp4 => "http-fmp4",
            Play::HttpTs => "http-ts",
            Play::LlHls => "ll-hls",
            Play::Rtmp => "rtmp",
            Play::RtspTcp => "rtsp-tcp",
            Play::RtspUdp => "rtsp-udp",
            Play::WsFlv => "ws-flv",
        }
    }
}

impl LoadArgs {
    /// Where publishers connect: `HOST:PORT`.
    pub fn publish_address(&self) -> &str {
        match self.publish {
            Publish::Gb28181 => &self.sip,
            Publish::Rtmp => &self.url.address,
            Publish::RtspTcp | Publish::RtspUdp => &self.rtsp.address,
        }
    }

    /// Where viewers connect: `HOST:PORT`.
    pub fn play_address(&self) -> &str {
        if let Some(address) = &self.play_at {
            return address;
        }
        match self.play {
            Play::Hls | Play::HlsTs | Play::HttpFlv | Play::HttpFmp4 | Play::HttpTs | Play::LlHls | Play::WsFlv => {
                &self.http.address
            }
            Play::Rtmp => &self.url.address,
            Play::RtspTcp | Play::RtspUdp => &self.rtsp.address,
        }
    }

    /// Application and name of the stream with this number.
    pub fn stream(&self, number: usize) -> (String, String) {
        match self.publish {
            Publish::Gb28181 => (format!("gb/{}", count_up(DEVICE_ID, number as u64)), count_up(CHANNEL_ID, number as u64)),
            _ => (self.url.app.clone(), self.url.stream_name(number, self.publishers)),
        }
    }

    pub fn tc_url(&self, number: usize) -> String {
        format!("rtmp://{}/{}", self.url.address, self.stream(number).0)
    }

    pub fn rtsp_url(&self, number: usize) -> String {
        let (app, name) = self.stream(number);
        format!("rtsp://{}/{app}/{name}", self.rtsp.address)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn protocols_have_their_addresses_and_names() {
        let args = |options: &[&str]| Args::try_parse_from([&["loadtest"], options].concat()).unwrap().load;
        let rtsp = args(&["--publish", "rtsp-udp", "--play", "rtsp-tcp", "--publishers", "2", "--rtsp", "rtsp://h:1"]);
        assert_eq!((rtsp.publish_address(), rtsp.play_address()), ("h:1", "h:1"));
        assert_eq!(rtsp.rtsp_url(1), "rtsp://h:1/live/load-1");
        assert_eq!(args(&["--play", "rtmp", "--play-at", "edge:2"]).play_address(), "edge:2");
        let other = args(&["--play", "ws-flv", "--viewers", "0"]);
        assert_eq!((other.publish_address(), other.play_address()), ("127.0.0.1:1935", "127.0.0.1:8080"));
        let devices = args(&["--publish", "gb28181", "--publishers", "2", "--url", "rtmp://h:1/live/a"]);
        assert_eq!(devices.tc_url(1), "rtmp://h:1/gb/34020000001110000002");
        assert_eq!(devices.stream(1).1, "34020000001310000002");
        for publish in Publish::value_variants() {
            assert_eq!(publish.to_possible_value().unwrap().get_name(), publish.name());
        }
        for play in Play::value_variants() {
            assert_eq!(play.to_possible_value().unwrap().get_name(), play.name());
        }
    }
}
