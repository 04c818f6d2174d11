//! What others have written plays TS, fragmented MP4 and HLS: GStreamer, mpv and VLC get a stream whole, packet by packet, up to its end.
//! ffmpeg comes in the midst of a stream that goes on, and what it copies and what it decodes is what was sent from a keyframe on; more of
//! it is in the tests of each format. Browsers are in `browser.rs`.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::framemd5::{self, Stream, Streams};
use crate::harness::media::{AAC_ONLY, H264_AAC, H264_MP3, LIVE, LIVE_HEVC, LIVE_MS, Recipe};
use crate::harness::rtsp::{ADTS, hashes, hashes_of, micros};
use crate::harness::{Client, Options, Publisher, Runtime, SOON, Server, compare, flv, fresh_folder, missing, wait_for};

on_both_runtimes!(ts, fmp4, hls, hls_ts, sound, ffmpeg_in_the_midst);

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

/// `.aac` and `.mp3`, to GStreamer and VLC.
fn sound(runtime: Runtime) {
    if missing(&["ffmpeg", "gst-launch-1.0", "cvlc"]) || H264_MP3.file().is_none() {
        return;
    }
    let server = Server::start(Options::new(runtime).shards(2).set("viewer.wait_ms", 40_000));
    let rows = [("aac", AAC_ONLY, "aacparse ! audio/mpeg,stream-format=adts"), ("mp3", H264_MP3, "mpegaudioparse")];
    for (form, recipe, parse) in rows {
        let url = format!("http://{}/live/{form}.{form}", server.http);
        let folder = fresh_folder("played");
        let parsed = folder.join("parsed");
        let pipeline = format!("souphttpsrc timeout=60 location={url} ! {parse} ! filesink location={}", parsed.display());
        let mut gstreamer = Client::start(Command::new("gst-launch-1.0").arg("-q").args(pipeline.split_whitespace()));
        let mut vlc = vlc(&url, &folder);
        recipe.push(&server.rtmp_url(&format!("live/{form}"))).unwrap().succeed();
        for client in [&mut gstreamer, &mut vlc] {
            client.wait(SOON);
        }
        let mut sent = hashes(&recipe, &recipe.file().unwrap());
        sent.remove("video");
        let mut by_vlc = hashes(&recipe, &folder.join("out.ts"));
        // Its file ends somewhere within a packet.
        by_vlc.values_mut().for_each(|stream| drop(stream.lines.pop()));
        let by_gstreamer = hashes_of(&recipe, Some(form), &parsed);
        for (player, seen, missing_max) in [("GStreamer", by_gstreamer, 0), ("VLC", by_vlc, VLC_KEEPS)] {
            let who = format!("{} {player} .{form}", runtime.name());
            let missing = compare::assert_part(&seen, &sent, None, &who);
            assert!(missing["audio"] <= missing_max, "{who}: at the end {missing:?} are missing");
            assert!(seen["audio"].lines.len() * 2 >= sent["audio"].lines.len(), "{who}: half of it at least");
        }
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

/// What can be opened while a publisher goes on.
const LIVE_URLS: [&str; 5] = [".ts", ".mp4", ".mp4?frag=gop", "/index.m3u8", "/ts.m3u8"];
/// How far times may be off a common offset, in microseconds: FLV has milliseconds, TS ninetieths of them.
const SLACK_MICROS: i64 = 2_500;
/// What begins together may be a frame apart.
const APART_MICROS_MAX: i64 = 40_000;

fn ffmpeg_in_the_midst(runtime: Runtime) {
    if missing(&["ffmpeg"]) || LIVE_HEVC.file().is_none() {
        return;
    }
    let server = Server::start(Options::new(runtime).shards(2));
    let folder = fresh_folder("midst");
    let publishers = [("live/h264", LIVE), ("live/h265", LIVE_HEVC)].map(|(key, recipe)| {
        let streaming = Publisher::connect(&server, key).stream_every(recipe.live_tags().unwrap(), LIVE_MS);
        (key, recipe, streaming)
    });
    for (key, ..) in &publishers {
        wait_for("the stream has run for three seconds", SOON, || {
            server.stream(key).filter(|stream| stream["age_ms"].as_u64() > Some(3_000))
        });
    }
    let opened = LIVE_URLS.map(|url| (0, url)).into_iter().chain(["/index.m3u8", "/ts.m3u8"].map(|url| (1, url)));
    let clients = opened.enumerate().map(|(at, (publisher, url))| {
        let (key, recipe, _): &(&str, Recipe, _) = &publishers[publisher];
        let outputs = ["copied", "decoded"].map(|name| folder.join(format!("{name}-{at}")));
        let client = copy_and_decode(recipe, &format!("http://{}/{key}{url}", server.http), &outputs);
        (*key, url, client, outputs)
    });
    // All run at the same time.
    let clients: Vec<_> = clients.collect();
    let seen = clients.into_iter().map(|(key, url, client, outputs)| {
        let said = client.succeed();
        assert_eq!(said.trim(), "", "{key}{url}");
        (key, url, outputs.map(|output| framemd5::read(&output)))
    });
    let seen: Vec<_> = seen.collect();
    for (key, recipe, streaming) in publishers {
        let tags = streaming.finish();
        let file = folder.join("sent.flv");
        flv::write(&file, &tags);
        let (sent, pictures) = (hashes(&recipe, &file), decoded(&recipe, &file));
        for (_, url, [copied, shown]) in seen.iter().filter(|(seen, ..)| *seen == key) {
            let who = format!("{} {key}{url}", runtime.name());
            let missing = compare::assert_part(copied, &sent, Some(SLACK_MICROS), &who);
            let from = sent["video"].lines.len() - missing["video"] - copied["video"].lines.len();
            assert!(
                flv::of_kind(&tags, flv::VIDEO).nth(from).unwrap().is_key(),
                "{who} begins with picture {from}, which is no key"
            );
            compare::assert_part(shown, &pictures, Some(SLACK_MICROS), &format!("{who}, decoded"));
            for (kind, stream) in copied {
                assert!(micros(stream, span(stream)) >= 3_000_000, "{who}: {kind} of {} ticks", span(stream));
            }
            // A stream begins where its key is decoded, which is before it is shown where there are B-frames.
            let begin = |kind: &str| micros(&copied[kind], copied[kind].lines.iter().map(|line| line.dts).min().unwrap());
            let apart = begin("video") - begin("audio");
            assert!(apart.abs() <= APART_MICROS_MAX, "{who}: sound begins {apart} µs before the picture");
        }
    }
    let _ = std::fs::remove_dir_all(folder);
}

fn span(stream: &Stream) -> i64 {
    stream.lines.last().unwrap().dts - stream.lines[0].dts
}

/// Reads for some seconds, and writes the hashes of what comes and of the pictures that are in it.
fn copy_and_decode(recipe: &Recipe, url: &str, [copied, decoded]: &[PathBuf; 2]) -> Client {
    const SECONDS: &str = "4";
    let mut command = recipe.ffmpeg().unwrap();
    command.args(["-i", url, "-map", "0:v", "-map", "0:a", "-t", SECONDS, "-c", "copy"]);
    command.args(["-bsf:v", recipe.video().unwrap().filter()]);
    if url.contains(".ts") || url.contains("/ts.") {
        command.args(["-bsf:a", "aac_adtstoasc"]);
    }
    command.args(["-f", "framemd5"]).arg(copied);
    command.args(["-map", "0:v", "-t", SECONDS, "-fps_mode", "passthrough", "-f", "framemd5"]).arg(decoded);
    Client::start(&mut command)
}

/// The pictures of a file, each as its hash.
fn decoded(recipe: &Recipe, file: &Path) -> Streams {
    let output = file.with_extension("decoded");
    let mut command = recipe.ffmpeg().unwrap();
    command.args(["-copyts", "-i"]).arg(file).args(["-map", "0:v", "-fps_mode", "passthrough", "-f", "framemd5"]).arg(&output);
    Client::start(&mut command).succeed();
    framemd5::read(&output)
}
