//! The command line.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, Subcommand, ValueEnum};

use crate::gb28181::args::{CHANNEL_ID, DEVICE_ID, DeviceArgs, count_up};

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
    Gb28181Device(Box<DeviceArgs>),
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
    /// Write the report to this file too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
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

/// Bits per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(pub u64);

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (digits, factor) = match text.as_bytes().last() {
            Some(b'k' | b'K') => (&text[..text.len() - 1], 1e3),
            Some(b'm' | b'M') => (&text[..text.len() - 1], 1e6),
            _ => (text, 1.0),
        };
        let rate = digits.parse::<f64>().map_err(|_| "a number, with k or M for thousands or millions")? * factor;
        if (1e3..=1e9).contains(&rate) { Ok(Rate(rate as u64)) } else { Err("1k to 1000M") }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct RtmpUrl {
    pub address: String,
    pub app: String,
    pub name: String,
}

impl RtmpUrl {
    /// Of the stream with this number.
    pub fn stream_name(&self, number: usize, publishers: u16) -> String {
        if publishers == 1 { self.name.clone() } else { format!("{}-{number}", self.name) }
    }
}

impl FromStr for RtmpUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "rtmp://HOST[:PORT]/APP/NAME";
        let (host, path) = text.strip_prefix("rtmp://").and_then(|rest| rest.split_once('/')).ok_or(FORM)?;
        let (app, name) = path.rsplit_once('/').filter(|(app, name)| !app.is_empty() && !name.is_empty()).ok_or(FORM)?;
        Ok(RtmpUrl { address: with_port(host, 1935), app: app.to_owned(), name: name.to_owned() })
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct HttpUrl {
    pub address: String,
}

impl FromStr for HttpUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let host = text.strip_prefix("http://").map(|rest| rest.trim_end_matches('/')).ok_or("http://HOST[:PORT]")?;
        Ok(HttpUrl { address: with_port(host, 80) })
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct RtspUrl {
    pub address: String,
}

impl FromStr for RtspUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let host = text.strip_prefix("rtsp://").map(|rest| rest.trim_end_matches('/')).ok_or("rtsp://HOST[:PORT]")?;
        Ok(RtspUrl { address: with_port(host, 554) })
    }
}

fn with_port(host: &str, port: u16) -> String {
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { host.to_owned() } else { format!("{host}:{port}") }
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
    fn rates_and_urls() {
        assert_eq!("2M".parse(), Ok(Rate(2_000_000)));
        assert_eq!("1.5m".parse(), Ok(Rate(1_500_000)));
        assert_eq!("800k".parse(), Ok(Rate(800_000)));
        assert!("0".parse::<Rate>().is_err() && "fast".parse::<Rate>().is_err());
        let url: RtmpUrl = "rtmp://localhost/live/room/a".parse().unwrap();
        assert_eq!((url.address.as_str(), url.app.as_str(), url.name.as_str()), ("localhost:1935", "live/room", "a"));
        assert_eq!(url.stream_name(1, 2), "a-1");
        assert!("rtmp://localhost/live".parse::<RtmpUrl>().is_err());
        assert_eq!("http://127.0.0.1:8080/".parse(), Ok(HttpUrl { address: "127.0.0.1:8080".to_owned() }));
        assert_eq!("rtsp://localhost".parse(), Ok(RtspUrl { address: "localhost:554".to_owned() }));
    }

    #[test]
    fn protocols_have_their_addresses_and_names() {
        let args = |options: &[&str]| Args::try_parse_from([&["loadtest"], options].concat()).unwrap().load;
        let rtsp = args(&["--publish", "rtsp-udp", "--play", "rtsp-tcp", "--publishers", "2", "--rtsp", "rtsp://h:1"]);
        assert_eq!((rtsp.publish_address(), rtsp.play_address()), ("h:1", "h:1"));
        assert_eq!(rtsp.rtsp_url(1), "rtsp://h:1/live/load-1");
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
