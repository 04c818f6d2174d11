//! The command line.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, Subcommand, ValueEnum};

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
    /// How many viewers, spread over the streams
    #[arg(long, default_value_t = 100)]
    pub viewers: usize,
    /// Bit rate of each stream: 800k, 2M, 1.5M
    #[arg(long, default_value = "2M")]
    pub rate: Rate,
    /// How long to measure, once all viewers have a picture
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Where to publish, and to play over RTMP
    #[arg(long, default_value = "rtmp://127.0.0.1:1935/live/load")]
    pub url: RtmpUrl,
    /// Where to play over HTTP and WebSocket: http://HOST:PORT
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub http: HttpUrl,
    /// Also report the CPU time, memory and context switches of this process
    #[arg(long)]
    pub server_pid: Option<u32>,
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
    Rtmp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Play {
    HttpFlv,
    Rtmp,
    WsFlv,
}

impl Play {
    pub fn name(self) -> &'static str {
        match self {
            Play::HttpFlv => "http-flv",
            Play::Rtmp => "rtmp",
            Play::WsFlv => "ws-flv",
        }
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
    pub fn tc_url(&self) -> String {
        format!("rtmp://{}/{}", self.address, self.app)
    }

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
        assert_eq!((url.tc_url().as_str(), url.name.as_str()), ("rtmp://localhost:1935/live/room", "a"));
        assert_eq!(url.stream_name(1, 2), "a-1");
        assert!("rtmp://localhost/live".parse::<RtmpUrl>().is_err());
        assert_eq!("http://127.0.0.1:8080/".parse(), Ok(HttpUrl { address: "127.0.0.1:8080".to_owned() }));
    }
}
