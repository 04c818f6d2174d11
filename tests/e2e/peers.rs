//! GStreamer and librtmp push and play: the frames that come out are the frames that went in. VLC plays, and has nothing to complain of.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;

use crate::harness::client::find;
use crate::harness::flv::{self, AUDIO, VIDEO};
use crate::harness::media::H264_AAC;
use crate::harness::{Client, Options, Over, Runtime, SOON, Server, Tag, Viewer, fresh_folder, missing, skip};

on_both_runtimes!(gstreamer, librtmp_publishes, librtmp_plays, vlc);

/// `unheard`: how many of the last frames of a track may be missing.
#[track_caller]
fn assert_same_frames(seen: &[Tag], sent: &[Tag], unheard: usize, who: &str) {
    for kind in [VIDEO, AUDIO] {
        let of_kind = |tags: &[Tag]| -> Vec<Bytes> {
            let tags: Vec<Tag> = tags.iter().filter(|tag| tag.kind == kind).cloned().collect();
            // Free of what servers may leave out (access unit delimiters).
            flv::demux(&tags).1.into_iter().map(|frame| frame.data).collect()
        };
        let (seen, sent) = (of_kind(seen), of_kind(sent));
        assert!(seen.len() >= 40 && seen.len() <= sent.len(), "{who}: {} of {} frames of kind {kind}", seen.len(), sent.len());
        let last = seen.last().unwrap();
        let end = (0..=unheard).map(|left| sent.len() - left).find(|end| sent[end - 1] == *last).unwrap_or(sent.len());
        assert!(seen.len() <= end, "{who}: {} frames of kind {kind} of the first {end}", seen.len());
        let from = end - seen.len();
        let differs = (0..seen.len()).find(|at| seen[*at] != sent[from + at]);
        let place = sent.iter().position(|frame| *frame == seen[0]);
        assert_eq!(
            differs,
            None,
            "{who}: of {} frames of kind {kind}, the first of which is number {place:?} of {}",
            seen.len(),
            sent.len()
        );
    }
}

/// Five seconds of H.264 and AAC into `sink`; `copy` gets the same FLV tags.
fn gst_publish(sink: &str, copy: &Path) -> Client {
    let picture = "videotestsrc is-live=true num-buffers=125 pattern=ball ! video/x-raw,width=320,height=180,framerate=25/1 \
                   ! x264enc tune=zerolatency key-int-max=25 ! h264parse ! flvmux name=m streamable=true ! tee name=t";
    let sound = "audiotestsrc is-live=true num-buffers=215 wave=pink-noise ! audio/x-raw,rate=44100 ! voaacenc ! aacparse ! m.";
    let mut command = Command::new("gst-launch-1.0");
    command.arg("-q").args(picture.split_whitespace());
    command.args(["t.", "!", "queue", "!"]).args(sink.split_whitespace());
    command.args(["t.", "!", "queue", "!", "filesink"]).arg(format!("location={}", copy.display()));
    Client::start(command.args(sound.split_whitespace()))
}

/// Whether GStreamer has none of `elements`.
fn missing_elements(elements: &[&str]) -> bool {
    if missing(&["gst-launch-1.0", "gst-inspect-1.0"]) {
        return true;
    }
    let there = |element: &&&str| !Command::new("gst-inspect-1.0").args(["--exists", element]).status().unwrap().success();
    let absent = elements.iter().find(there);
    if let Some(element) = absent {
        skip(&format!("GStreamer has no {element}"));
    }
    absent.is_some()
}

fn gstreamer(runtime: Runtime) {
    if missing_elements(&["rtmp2sink", "rtmp2src", "x264enc", "voaacenc", "flvmux"]) {
        return;
    }
    let server = Server::start(Options::new(runtime));
    let folder = fresh_folder("gst");
    let (copy, played) = (folder.join("sent.flv"), folder.join("played.flv"));
    let url = server.rtmp_url("live/gst");
    let mut play = Command::new("gst-launch-1.0");
    play.args(["-q", "rtmp2src", &format!("location={url}"), "!", "filesink", &format!("location={}", played.display())]);
    let play = Client::start(&mut play);
    let viewer = Viewer::open(&server, Over::HttpFlv, "live/gst");
    server.wait_sessions("waiting", 2);
    gst_publish(&format!("rtmp2sink location={url}"), &copy).succeed();
    let seen = viewer.wait_end().tags;
    play.succeed();
    let sent = flv::read(&copy);
    assert_same_frames(&seen, &sent, 0, "HTTP-FLV");
    // It ends with the connection, and may leave what it has in its queue: now and then the last frame of sound is not in the file.
    assert_same_frames(&flv::read(&played), &sent, 2, "rtmp2src");
    let _ = std::fs::remove_dir_all(folder);
}

fn librtmp_publishes(runtime: Runtime) {
    if missing_elements(&["rtmpsink", "x264enc", "voaacenc", "flvmux"]) {
        return;
    }
    let server = Server::start(Options::new(runtime).shards(2));
    let folder = fresh_folder("librtmp");
    let copy = folder.join("sent.flv");
    let viewer = Viewer::open(&server, Over::Rtmp, "live/librtmp");
    server.wait_sessions("waiting", 1);
    let sink = format!("rtmpsink location={}", server.rtmp_url("live/librtmp"));
    gst_publish(&sink, &copy).succeed();
    let seen = viewer.wait_over().tags;
    assert_same_frames(&seen, &flv::read(&copy), 0, "RTMP");
    let _ = std::fs::remove_dir_all(folder);
}

fn librtmp_plays(runtime: Runtime) {
    if missing(&["rtmpdump", "ffmpeg"]) {
        return;
    }
    let server = Server::start(Options::new(runtime).shards(2));
    let folder = fresh_folder("rtmpdump");
    let played = folder.join("played.flv");
    let push = H264_AAC.push(&server.rtmp_url("live/dump")).unwrap();
    server.wait_live("live/dump");
    let mut dump = Command::new(find("rtmpdump").unwrap());
    let mut dump = Client::start(dump.args(["-q", "--live", "-r", &server.rtmp_url("live/dump"), "-o"]).arg(&played));
    push.succeed();
    let status = dump.wait(SOON);
    // 2: rtmpdump calls a live stream that ends incomplete.
    assert!(matches!(status.code(), Some(0 | 2)), "rtmpdump: {status}\n{}", dump.output());
    assert_same_frames(&flv::read(&played), &H264_AAC.tags().unwrap(), 0, "rtmpdump");
    let _ = std::fs::remove_dir_all(folder);
}

/// The user who owns nothing.
const NOBODY: u32 = 65_534;
/// Packets of the built-in clip in some three seconds.
const VLC_PACKETS_MIN: u64 = 200;

/// Four seconds of `url`, without a screen and loudspeakers.
fn vlc_plays(url: &str) -> Client {
    let mut command = Command::new("cvlc");
    command.args(["--no-dbus", "--no-audio", "--aout=dummy", "--vout=dummy", "--run-time=4", "--play-and-exit", url]);
    // SAFETY: takes no pointers.
    if unsafe { libc::geteuid() } == 0 {
        // It does not run for root. A home that is not there is none that it may not read.
        command.uid(NOBODY).gid(NOBODY).current_dir("/").env("HOME", "/nonexistent");
    }
    Client::start(&mut command)
}

fn vlc(runtime: Runtime) {
    if missing(&["cvlc"]) {
        return;
    }
    let server = Server::start(Options::new(runtime).shards(2).demo());
    server.wait_live("live/demo");
    for client in [server.rtmp_url("live/demo"), server.flv_url("live/demo")].map(|url| vlc_plays(&url)) {
        let output = client.succeed();
        // Of its interfaces, it finds none that needs a screen.
        let complaints: Vec<&str> = output.lines().filter(|line| line.contains("error") && !line.contains("interface")).collect();
        assert!(complaints.is_empty(), "{output}");
    }
    let stream = server.stream("live/demo").unwrap();
    for protocol in ["rtmp", "http-flv"] {
        let packets = stream["latency"]["protocols"][protocol]["count"].as_u64().unwrap_or(0);
        println!("{}: {packets} packets over {protocol}", runtime.name());
        assert!(packets >= VLC_PACKETS_MIN, "VLC was sent {packets} packets over {protocol}");
    }
    assert_eq!(stream["skips"], 0, "{stream}");
    assert_eq!(stream["dropped_packets"], serde_json::json!({"lane_full": 0, "not_taken": 0, "ring_full": 0, "viewer_lag": 0}));
}
