//! What others have written plays TS, fragmented MP4 and HLS: GStreamer, mpv and VLC get a stream whole, packet by packet, up to its end.
//! ffmpeg is in the tests of each format, browsers are in `browser.rs`.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::framemd5::Streams;
use crate::harness::media::{H264_AAC, Recipe};
use crate::harness::rtsp::{ADTS, hashes, hashes_of};
use crate::harness::{Client, Options, Runtime, SOON, Server, compare, fresh_folder, missing};

on_both_runtimes!(ts, fmp4, hls, hls_ts);

const RECIPE: Recipe = H264_AAC;

fn ts(runtime: Runtime) {
    play(runtime, ".ts");
}

fn fmp4(runtime: Runtime) {
    play(runtime, ".mp4");
}

fn hls(runtime: Runtime) {
    play(runtime, "/index.m3u8");
}

fn hls_ts(runtime: Runtime) {
    play(runtime, "/ts.m3u8");
}

/// Who plays, and into which files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Play {
    Gstreamer,
    Mpv,
    Vlc,
}

fn play(runtime: Runtime, suffix: &str) {
    if missing(&["ffmpeg", "gst-launch-1.0", "mpv", "cvlc"]) {
        return;
    }
    let server = Server::start(Options::new(runtime).shards(2).set("viewer.wait_ms", 40_000));
    let url = format!("http://{}/live/played{suffix}", server.http);
    let players = [Play::Gstreamer, Play::Mpv, Play::Vlc].map(|play| {
        let folder = fresh_folder("played");
        (play, play.start(&url, &folder), folder)
    });
    let push = RECIPE.push(&server.rtmp_url("live/played")).unwrap();
    push.succeed();
    let sent = hashes(&RECIPE, &RECIPE.file().unwrap());
    for (play, mut client, folder) in players {
        let who = format!("{} {play:?} {suffix}", runtime.name());
        client.wait(SOON);
        let missing = compare::assert_part(&play.seen(&folder, &client), &sent, None, &who);
        let missing_max = if play == Play::Vlc { VLC_KEEPS } else { 0 };
        assert!(missing.values().all(|missing| *missing <= missing_max), "{who}: at the end {missing:?} are missing");
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// How many packets VLC has in hand, and forgets, when it ends: half a second of sound.
const VLC_KEEPS: usize = 25;

/// The user who owns nothing.
const NOBODY: u32 = 65_534;

impl Play {
    fn start(self, url: &str, folder: &Path) -> Client {
        match self {
            Play::Gstreamer => gstreamer(url, folder),
            Play::Mpv => {
                let options = ["--no-config", "--no-terminal", "--vo=null", "--ao=null", "--untimed"];
                let record = format!("--stream-record={}", folder.join("out.mkv").display());
                Client::start(Command::new("mpv").args(options).arg(record).arg(url))
            }
            Play::Vlc => vlc(url, folder),
        }
    }

    fn seen(self, folder: &Path, client: &Client) -> Streams {
        let file = |name: &str| -> PathBuf {
            let file = folder.join(name);
            assert!(file.metadata().is_ok_and(|file| file.len() > 0), "{self:?} wrote nothing:\n{}", client.output());
            file
        };
        match self {
            Play::Gstreamer => {
                let mut streams = hashes_of(&RECIPE, Some("h264"), &file("video"));
                streams.extend(hashes_of(&RECIPE, Some(ADTS), &file("audio")));
                streams
            }
            Play::Mpv => hashes(&RECIPE, &file("out.mkv")),
            Play::Vlc => {
                let mut streams = hashes(&RECIPE, &file("out.ts"));
                // Its file ends somewhere within a packet.
                streams.values_mut().for_each(|stream| drop(stream.lines.pop()));
                streams
            }
        }
    }
}

fn gstreamer(url: &str, folder: &Path) -> Client {
    let demux = match url {
        _ if url.ends_with("/ts.m3u8") => "hlsdemux ! tsdemux",
        _ if url.ends_with(".m3u8") => "hlsdemux ! qtdemux",
        _ if url.ends_with(".ts") => "tsdemux",
        _ => "qtdemux",
    };
    let to = |name: &str| format!("filesink location={}", folder.join(name).display());
    let pipeline = format!(
        "souphttpsrc timeout=60 location={url} ! {demux} name=d d. ! queue ! h264parse ! \
         video/x-h264,stream-format=byte-stream,alignment=au ! {} d. ! queue ! aacparse ! \
         audio/mpeg,stream-format=adts ! {}",
        to("video"),
        to("audio")
    );
    Client::start(Command::new("gst-launch-1.0").arg("-q").args(pipeline.split_whitespace()))
}

/// It does not play, it writes what it would play.
fn vlc(url: &str, folder: &Path) -> Client {
    let mut command = Command::new("cvlc");
    let to = format!("--sout=#std{{access=file,mux=ts,dst={}}}", folder.join("out.ts").display());
    command.args(["--no-dbus", "--play-and-exit", "--http-reconnect", "--network-caching=1000", &to, url]);
    // SAFETY: takes no pointers.
    if unsafe { libc::geteuid() } == 0 {
        // It does not run for root. A home that is not there is none that it may not read.
        std::os::unix::fs::chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
        command.uid(NOBODY).gid(NOBODY).current_dir("/").env("HOME", "/nonexistent");
    }
    Client::start(&mut command)
}
