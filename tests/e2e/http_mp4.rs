//! Fragmented MP4 over HTTP and WebSocket, a fragment per frame and per GOP: every packet is the publisher's, in every codec, and players play it.

use std::path::Path;
use std::process::Command;
use std::thread::JoinHandle;

use crate::harness::api::request;
use crate::harness::framemd5::{Line, Stream, Streams};
use crate::harness::media::{
    AAC_ONLY, AV1_AAC, H264_AAC, H264_ALAW, H264_B_AAC, H264_ULAW, H265_OPUS, Recipe, VP9_MP3, framemd5_of,
};
use crate::harness::viewer::messages;
use crate::harness::{Client, Options, Publisher, Runtime, SOON, Server, framemd5, fresh_folder, missing, wait_for};

on_both_runtimes!(bit_exact, one_message_per_fragment, heads, players);

/// Times go through milliseconds on the way in, and sound is put back on its sample clock on the way out.
const TIME_TOLERANCE_MICROS: i64 = 2_500;

fn url(server: &Server, key: &str, query: &str) -> String {
    format!("http://{}/{key}.mp4{query}", server.http)
}

fn messages_of(server: &Server, key: &str, query: &str) -> JoinHandle<Vec<Vec<u8>>> {
    messages(server, &format!("{key}.mp4{query}"))
}

fn micros(stream: &Stream, ticks: i64) -> i64 {
    let (num, den) = stream.time_base.split_once('/').unwrap();
    ticks * 1_000_000 * num.parse::<i64>().unwrap() / den.parse::<i64>().unwrap()
}

/// Fails unless every stream of `seen` is what its counterpart in `sent` ends with: packets, configuration, and times as far as the
/// clocks allow.
#[track_caller]
fn assert_tail(seen: &Streams, sent: &Streams, who: &str) {
    assert_eq!(seen.keys().collect::<Vec<_>>(), sent.keys().collect::<Vec<_>>(), "{who}: the streams");
    let mut shift = None;
    for (kind, seen) in seen {
        let sent = &sent[kind];
        assert_eq!(seen.config, sent.config, "{who}: the configuration of {kind}");
        assert!(!seen.lines.is_empty() && seen.lines.len() <= sent.lines.len(), "{who}: {} packets of {kind}", seen.lines.len());
        let from = sent.lines.len() - seen.lines.len();
        for (at, (a, b)) in seen.lines.iter().zip(&sent.lines[from..]).enumerate() {
            assert_eq!((a.size, &a.hash), (b.size, &b.hash), "{who}: packet {at} of {kind}");
            let times = |stream: &Stream, line: &Line| [micros(stream, line.dts), micros(stream, line.pts)];
            for (seen_at, sent_at) in times(seen, a).into_iter().zip(times(sent, b)) {
                let shift = *shift.get_or_insert(seen_at - sent_at);
                let off = seen_at - sent_at - shift;
                assert!(off.abs() <= TIME_TOLERANCE_MICROS, "{who}: packet {at} of {kind} is {off} µs off");
            }
        }
    }
}

fn bit_exact(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let recipes = [
        ("h264", H264_B_AAC),
        ("h265", H265_OPUS),
        ("av1", AV1_AAC),
        ("vp9", VP9_MP3),
        ("alaw", H264_ALAW),
        ("ulaw", H264_ULAW),
        ("sound", AAC_ONLY),
    ];
    // Made one after the other before they are all sent at the same time.
    for (_, recipe) in &recipes {
        let _ = recipe.file();
    }
    let server = Server::start(Options::new(runtime));
    std::thread::scope(|scope| {
        for (name, recipe) in &recipes {
            let server = &server;
            scope.spawn(move || every_way(server, recipe, &format!("live/{name}")));
        }
    });
}

/// `None`: there is no ffmpeg for that.
fn every_way(server: &Server, recipe: &Recipe, key: &str) -> Option<()> {
    let sent = recipe.framemd5()?;
    let folder = fresh_folder("mp4");
    let push = recipe.push(&server.rtmp_url(key))?;
    server.wait_live(key);
    let pull = |query: &str, file: &Path| {
        let url = url(server, key, query);
        Some(Client::start(recipe.ffmpeg()?.args(framemd5::arguments(&url, file))))
    };
    let (frames, gops) = (folder.join("frames"), folder.join("gops"));
    let pulled = [(pull("", &frames)?, &frames), (pull("?frag=gop", &gops)?, &gops)];
    let websockets =
        ["", "?frag=gop"].map(|query| (messages_of(server, key, query), folder.join(format!("ws{}.mp4", query.len()))));
    push.succeed();
    for (client, file) in pulled {
        client.succeed();
        assert_tail(&framemd5::read(file), &sent, &format!("{key} {}", file.display()));
    }
    for (messages, file) in websockets {
        std::fs::write(&file, messages.join().unwrap().concat()).unwrap();
        assert_tail(&framemd5_of(recipe.ffmpeg()?, &file), &sent, &format!("{key} {}", file.display()));
    }
    let _ = std::fs::remove_dir_all(folder);
    Some(())
}

fn one_message_per_fragment(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let server = Server::start(Options::new(runtime));
    let ways = ["", "?frag=gop"].map(|query| messages_of(&server, "live/ws", query));
    server.wait_sessions("waiting", 2);
    H264_B_AAC.push(&server.rtmp_url("live/ws")).unwrap().succeed();
    let [frames, gops] = ways.map(|messages| messages.join().unwrap());
    for messages in [&frames, &gops] {
        let kinds: Vec<&[u8]> = messages.iter().map(|message| &message[4..8]).collect();
        assert_eq!(kinds[0], b"ftyp");
        assert!(kinds[1..].iter().all(|kind| kind == b"moof"), "one init segment, then fragments");
    }
    let sent = H264_B_AAC.framemd5().unwrap();
    assert_eq!(frames.len() - 1, sent.values().map(|stream| stream.lines.len()).sum::<usize>());
    // Four seconds with a key frame in each, and perhaps sound in front of the first.
    assert!((4..=6).contains(&gops.len()), "{} messages", gops.len());
}

fn heads(runtime: Runtime) {
    if missing(&["curl", "ffmpeg"]) {
        return;
    }
    let server = Server::start(Options::new(runtime).shards(2).set("viewer.wait_ms", 500));
    let _streaming = Publisher::connect(&server, "live/a").stream(H264_AAC.tags().unwrap());
    server.wait_live("live/a");
    let head = |key: &str| {
        let mut curl = Command::new("curl");
        Client::start(curl.args(["-s", "-I", &url(&server, key, "")])).succeed().to_ascii_lowercase()
    };
    let cases = [
        ("live/a", &["http/1.1 200", "content-type: video/mp4", "cache-control: no-cache"][..]),
        ("live/none", &["http/1.1 404", "content-type: application/json"]),
    ];
    for (key, lines) in cases {
        let head = head(key);
        for line in lines {
            assert!(head.lines().any(|said| said.starts_with(line)), "{key}: no {line:?} in\n{head}");
        }
    }
    for path in ["/live/none.flv", "/live/none.ts", "/live/none/index.m3u8", "/live/none/ts.m3u8", "/live/a.mp3"] {
        for method in ["HEAD", "GET"] {
            assert_eq!(request(server.http, method, path, &[]).status, 404, "{method} {path}");
        }
    }
}

/// The labels under which the API counts them, too.
fn players(runtime: Runtime) {
    if missing(&["ffmpeg", "mpv", "gst-launch-1.0"]) {
        return;
    }
    let server = Server::start(Options::new(runtime));
    let _push = H264_AAC.push_forever(&server.rtmp_url("live/play")).unwrap();
    server.wait_live("live/play");
    let websocket = messages_of(&server, "live/play", "");
    wait_for("the API to count a viewer over WebSocket", SOON, || {
        let stream = server.stream("live/play")?;
        (stream["viewers"]["protocols"]["ws-fmp4"] == 1).then_some(())
    });
    let mpv = |url: String| {
        let mut mpv = Command::new("mpv");
        mpv.args(["--no-config", "--vo=null", "--ao=null", "--untimed", "--frames=50", "--msg-level=all=warn"]);
        Client::start(mpv.arg(url))
    };
    let gst = |url: String| {
        let pipeline = format!(
            "souphttpsrc location={url} is-live=true ! qtdemux name=d d.video_0 ! queue ! h264parse ! avdec_h264 ! fakesink num-buffers=50 \
             d.audio_0 ! queue ! fakesink num-buffers=50"
        );
        let mut gst = Command::new("gst-launch-1.0");
        Client::start(gst.arg("-q").args(pipeline.split(' ').filter(|word| !word.is_empty())))
    };
    let http = |query| url(&server, "live/play", query);
    for player in [mpv(http("")), mpv(http("?frag=gop")), gst(http("")), gst(http("?frag=gop"))] {
        let said = player.succeed();
        assert!(!said.to_ascii_lowercase().contains("error"), "{said}");
    }
    drop(server);
    assert!(websocket.join().unwrap().len() > 50);
}
