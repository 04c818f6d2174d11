//! The command line, and everything that the program says to a person: help, log lines, URLs, complaints.

use std::error::Error;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use log::Level;

use shardcast::config::{self, Override};
use shardcast::session::StreamKey;
use shardcast::shard;

/// The stream that `shardcast demo` publishes.
const DEMO: &str = "live/demo";

const AFTER_HELP: &str = "\
Serves RTMP and RTSP (publish and play), HLS, and FLV, MPEG-TS and MP4 over HTTP and WebSocket; records. Without --config it
runs on built-in defaults, which config.yaml in the repository spells out: RTMP on 1935, RTSP on 8554, HTTP on 8080, API and
metrics on 127.0.0.1:9090.

Publish:  ffmpeg -re -i FILE -c copy -f flv rtmp://HOST/live/NAME
          ffmpeg -re -i FILE -c copy -f rtsp rtsp://HOST:8554/live/NAME
Play:     rtmp://HOST/live/NAME            rtsp://HOST:8554/live/NAME
          http://HOST:8080/live/NAME.flv   ws://HOST:8080/live/NAME.flv   (also .ts .mp4 .aac .mp3)
          http://HOST:8080/live/NAME/index.m3u8   (HLS; ts.m3u8 with MPEG-TS)
Record:   --set 'record.rules=[{streams: [\"live/*\"]}]', or POST /api/v1/recorders
Cameras:  GB/T 28181, SIP on 5060: --set gb28181.enabled=true --set gb28181.password=SECRET
          play rtsp://HOST:8554/gb/DEVICE/CHANNEL, or that name over any other protocol
Users:    rtsp://USER:PASSWORD@HOST:8554/live/NAME, or ?user=USER&pass=PASSWORD over RTMP and HTTP, once auth.users has any
Inspect:  curl http://127.0.0.1:9090/api/v1/streams   (docs/API.md lists all routes)

Signals: SIGTERM or SIGINT stops accepting, says goodbye and exits within server.drain_ms; a second one exits at once.
         SIGHUP reads the certificate for TLS again.

Environment:
  RUST_LOG   What is logged to standard error: error, warn, info (default), debug, trace, or per module,
             for example RUST_LOG=info,shardcast::control=debug.

Exit codes: 0 ended on a signal; 1 could not start, `check` found a fault, a shard died, or a second signal cut the end short;
            2 the command line makes no sense.";

/// Real-time live media server: RTMP, RTSP and GB/T 28181 in; RTMP, RTSP, HLS, FLV, MPEG-TS and MP4 out; recording.
#[derive(Debug, Parser)]
#[command(name = "shardcast", version, after_help = AFTER_HELP)]
pub struct Args {
    /// Read the configuration from this YAML file; what it leaves out has its default
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,

    /// Set one key, over the file: server.shards=4, rtmp.listen=[127.0.0.1:0]. May be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE", global = true)]
    pub set: Vec<Override>,

    #[command(subcommand)]
    pub action: Option<Action>,
}

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Serve, and publish a built-in test clip as live/demo; prints the URLs to open.
    Demo,
    /// Say whether a configuration file is valid, and if not, which line and key are at fault.
    Check {
        /// The file, YAML.
        file: PathBuf,
    },
}

impl Args {
    /// Reads the command line; prints help, version or a complaint and exits if that is all there is to do.
    pub fn read() -> Self {
        let args = Args::parse();
        if args.config.is_some() && matches!(args.action, Some(Action::Check { .. })) {
            Args::command().error(ErrorKind::ArgumentConflict, "`check` takes the file by itself, without --config").exit();
        }
        args
    }
}

/// `shardcast check FILE`.
pub fn check(file: &Path, set: &[Override]) -> Result<ExitCode, Box<dyn Error>> {
    let config = config::load(Some(file), set)?;
    shard::certificates(&config).map_err(|error| format!("{}: {error}", file.display()))?;
    for warning in config.warnings() {
        print(&format!("{}: warning: {warning}\n", file.display()));
    }
    print(&format!("{}: ok\n", file.display()));
    Ok(ExitCode::SUCCESS)
}

/// One sentence on standard error; `check` prints it bare, as compilers do.
pub fn complain(args: &Args, error: &dyn Error) {
    let who = if matches!(args.action, Some(Action::Check { .. })) { "" } else { "shardcast: " };
    // Nothing is left to tell anybody if this fails.
    let _ = writeln!(std::io::stderr(), "{who}{error}");
}

fn print(text: &str) {
    // A closed pipe is the reader's choice.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Logs to standard error: one line an event, with the time in UTC.
pub fn start_log() {
    // glommio warns of registered memory that sockets never use.
    let filter = env_logger::Env::default().default_filter_or("info,glommio=error");
    env_logger::Builder::from_env(filter)
        .format(|out, record| {
            let (time, style) = (out.timestamp_millis(), out.default_level_style(record.level()));
            let level = label(record.level());
            writeln!(out, "{time} {style}{level}{style:#} {}", one_line(&record.args().to_string()))
        })
        .init();
}

fn label(level: Level) -> &'static str {
    match level {
        Level::Error => "ERROR",
        Level::Warn => "WARN ",
        Level::Info => "INFO ",
        Level::Debug => "DEBUG",
        Level::Trace => "TRACE",
    }
}

/// What peers say of themselves is logged: it must not begin a line or move the cursor.
fn one_line(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// The name of the demo stream.
pub fn demo_key() -> StreamKey {
    StreamKey::parse(DEMO).expect("the constant is a valid name")
}

/// Tells where to watch the demo, for the listeners that are there.
pub fn print_demo_urls(listening: &[(&str, SocketAddr)]) {
    print(&demo_urls(listening));
}

fn demo_urls(listening: &[(&str, SocketAddr)]) -> String {
    let urls = |name: &str, host: SocketAddr| match name {
        "rtmp" => vec![format!("rtmp://{host}/{DEMO}")],
        "http" => ["http", "ws"]
            .map(|scheme| format!("{scheme}://{host}/{DEMO}.flv"))
            .into_iter()
            .chain([format!("http://{host}/{DEMO}/index.m3u8")])
            .collect(),
        "rtsp" => vec![format!("rtsp://{host}/{DEMO}")],
        "control" => vec![format!("http://{host}/api/v1/streams/{DEMO}")],
        _ => Vec::new(),
    };
    let lines = listening.iter().flat_map(|(name, address)| urls(name, reachable(*address)));
    lines.fold("Open the demo:\n".to_owned(), |text, url| text + "  " + &url + "\n")
}

/// An address that a client on this machine can use.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn demo_urls_can_be_opened_as_they_are() {
        let listening =
            [("rtmp", "0.0.0.0:1935"), ("http", "[::]:8080"), ("rtsp", "0.0.0.0:8554"), ("control", "127.0.0.1:9090")];
        let listening = listening.map(|(name, address)| (name, address.parse().unwrap()));
        assert_eq!(
            demo_urls(&listening),
            "Open the demo:\n  rtmp://127.0.0.1:1935/live/demo\n  http://[::1]:8080/live/demo.flv\n  ws://[::1]:8080/live/demo.flv\n  \
             http://[::1]:8080/live/demo/index.m3u8\n  rtsp://127.0.0.1:8554/live/demo\n  http://127.0.0.1:9090/api/v1/streams/live/demo\n"
        );
        assert_eq!(demo_key().as_str(), DEMO);
    }

    #[test]
    fn a_log_line_stays_one_line() {
        let cases = [("plain – text", "plain – text"), ("a\r\nb\u{1b}[2J", "a\\r\\nb\\u{1b}[2J")];
        for (text, expected) in cases {
            assert_eq!(one_line(text), expected);
        }
    }
}
