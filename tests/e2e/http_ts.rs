//! MPEG-TS, AAC and MP3 over HTTP and WebSocket: every packet is the publisher's, in every codec that has a place, and players play it.

use std::path::Path;
use std::process::Command;

use crate::harness::framemd5::{self, Stream, Streams};
use crate::harness::media::{AAC_ONLY, Audio, H264_AAC, H264_B_AAC, H264_MP3, H265_OPUS, Recipe};
use crate::harness::rtsp::hashes;
use crate::harness::viewer::messages;
use crate::harness::{Client, Options, Runtime, SOON, Server, fresh_folder, missing, wait_for};

on_both_runtimes!(bit_exact, sound_alone, players);

/// Transport streams count 90 kHz, files of FLV milliseconds, ADTS whole samples.
const TIME_TOLERANCE_MICROS: i64 = 2_500;

fn url(server: &Server, path: &str) -> String {
    format!("http://{}/{path}", server.http)
}

/// What ffmpeg reads at a URL or in a file, comparable with what [`hashes`] says of the source. It may not complain.
fn reader(recipe: &Recipe, input: &str, output: &Path) -> Option<Client> {
    let mut command = recipe.ffmpeg()?;
    command.args(["-copyts", "-i", input, "-map", "0:v?", "-map", "0:a?", "-c", "copy"]);
    if let Some(video) = recipe.video() {
        command.args(["-bsf:v", video.filter()]);
    }
    if recipe.audio() == Some(Audio::Aac) {
        command.args(["-bsf:a", "aac_adtstoasc"]);
    }
    Some(Client::start(command.args(["-f", "framemd5"]).arg(output)))
}

#[track_caller]
fn finish(reader: Client, output: &Path) -> Streams {
    // The newer ffmpeg takes the end of every chunked body behind which the connection closes, FLV too, for an error.
    let is_end = |line: &&str| line.trim().is_empty() || line.ends_with("Error during demuxing: Input/output error");
    let said = reader.succeed();
    assert!(said.lines().all(|line| is_end(&line)), "{said}");
    framemd5::read(output)
}

fn micros(stream: &Stream, ticks: i64) -> i64 {
    let (num, den) = stream.time_base.split_once('/').unwrap();
    ticks * 1_000_000 * num.parse::<i64>().unwrap() / den.parse::<i64>().unwrap()
}

/// Fails unless every stream of `seen` is what its counterpart in `sent` ends with, at times that differ by one constant.
#[track_caller]
fn assert_tail(seen: &Streams, sent: &Streams, who: &str) {
    assert!(!seen.is_empty(), "{who}: nothing");
    let mut shift = None;
    for (kind, seen) in seen {
        let sent = &sent[kind];
        assert!(
            seen.lines.len() * 2 >= sent.lines.len(),
            "{who}: {} of {} packets of {kind}",
            seen.lines.len(),
            sent.lines.len()
        );
        let from = sent.lines.len().checked_sub(seen.lines.len()).unwrap_or_else(|| panic!("{who}: more {kind} than was sent"));
        for (at, (a, b)) in seen.lines.iter().zip(&sent.lines[from..]).enumerate() {
            assert_eq!(a.hash, b.hash, "{who}: packet {at} of {kind}");
            let (seen_at, sent_at) = (micros(seen, a.pts), micros(sent, b.pts));
            let off = seen_at - sent_at - *shift.get_or_insert(seen_at - sent_at);
            assert!(off.abs() <= TIME_TOLERANCE_MICROS, "{who}: packet {at} of {kind} is {off} µs off");
        }
    }
}

fn bit_exact(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let recipes = [("h264", H264_B_AAC), ("h265", H265_OPUS), ("mp3", H264_MP3), ("sound", AAC_ONLY)];
    // Made one after the other before they are all sent at the same time.
    for (_, recipe) in &recipes {
        let _ = recipe.file();
    }
    let server = Server::start(Options::new(runtime).shards(2));
    std::thread::scope(|scope| {
        for (name, recipe) in &recipes {
            let server = &server;
            scope.spawn(move || transport_stream(server, recipe, &format!("live/{name}")));
        }
    });
}

/// `None`: there is no ffmpeg for that.
fn transport_stream(server: &Server, recipe: &Recipe, key: &str) -> Option<()> {
    let sent = hashes(recipe, &recipe.file()?);
    let folder = fresh_folder("ts");
    let push = recipe.push(&server.rtmp_url(key))?;
    server.wait_live(key);
    let (over_http, over_websocket) = (folder.join("http"), folder.join("websocket"));
    let pull = reader(recipe, &url(server, &format!("{key}.ts")), &over_http)?;
    let messages = messages(server, &format!("{key}.ts"));
    push.succeed();
    let seen = finish(pull, &over_http);
    assert_eq!(seen.keys().collect::<Vec<_>>(), sent.keys().collect::<Vec<_>>(), "{key}: the streams");
    assert_tail(&seen, &sent, &format!("{key} over HTTP"));
    let messages = messages.join().unwrap();
    assert!(messages.iter().all(|message| message.len() % 188 == 0 && message[0] == 0x47), "{key}: whole packets");
    let file = folder.join("messages.ts");
    std::fs::write(&file, messages.concat()).unwrap();
    let seen = finish(reader(recipe, file.to_str()?, &over_websocket)?, &over_websocket);
    assert_tail(&seen, &sent, &format!("{key} over WebSocket"));
    let _ = std::fs::remove_dir_all(folder);
    Some(())
}

/// `.aac` and `.mp3`, and the other of the two, which is not to be had.
fn sound_alone(runtime: Runtime) {
    if missing(&["ffmpeg", "curl"]) {
        return;
    }
    let server = Server::start(Options::new(runtime));
    for (recipe, own, other) in [(H264_B_AAC, "aac", "mp3"), (H264_MP3, "mp3", "aac")] {
        let (Some(path), Some(_)) = (recipe.file(), recipe.ffmpeg()) else { continue };
        let mut sent = hashes(&recipe, &path);
        sent.remove("video");
        let folder = fresh_folder("sound");
        let key = format!("live/{own}");
        let push = recipe.push(&server.rtmp_url(&key)).unwrap();
        server.wait_live(&key);
        let file = |name: &str| folder.join(format!("{name}.{own}"));
        let curl = |path: &str, output: &Path| {
            let mut curl = Command::new("curl");
            Client::start(curl.args(["-s", "-w", "%{http_code} %{content_type}", "-o"]).arg(output).arg(url(&server, path)))
        };
        let over_http = curl(&format!("{key}.{own}"), &file("http"));
        let messages = messages(&server, &format!("{key}.{own}"));
        assert_eq!(curl(&format!("{key}.{other}"), &file("none")).succeed(), "404 application/json");
        push.succeed();
        assert_eq!(over_http.succeed(), if own == "aac" { "200 audio/aac" } else { "200 audio/mpeg" });
        std::fs::write(file("websocket"), messages.join().unwrap().concat()).unwrap();
        for way in ["http", "websocket"] {
            let mut command = recipe.ffmpeg().unwrap();
            command.args(["-f", own, "-i"]).arg(file(way)).args(["-c", "copy"]);
            if own == "aac" {
                command.args(["-bsf:a", "aac_adtstoasc"]);
            }
            let output = folder.join("md5");
            Client::start(command.args(["-f", "framemd5"]).arg(&output)).succeed();
            let (seen, sent) = (&framemd5::read(&output)["audio"].lines, &sent["audio"].lines);
            assert!(seen.len() * 2 >= sent.len(), "{way}: {} of {} packets", seen.len(), sent.len());
            let tail = &sent[sent.len() - seen.len()..];
            assert!(seen.iter().zip(tail).all(|(seen, sent)| seen.hash == sent.hash), "{own} over {way}");
        }
        let _ = std::fs::remove_dir_all(folder);
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
    let websockets = ["ts", "aac"].map(|extension| messages(&server, &format!("live/play.{extension}")));
    wait_for("the API to count viewers over WebSocket", SOON, || {
        let protocols = &server.stream("live/play")?["viewers"]["protocols"];
        (protocols["ws-ts"] == 1 && protocols["ws-aac"] == 1).then_some(())
    });
    let ts = url(&server, "live/play.ts");
    let mut mpv = Command::new("mpv");
    mpv.args(["--no-config", "--vo=null", "--ao=null", "--untimed", "--frames=50", "--msg-level=all=warn", &ts]);
    let pipeline = format!(
        "souphttpsrc location={ts} is-live=true ! tsdemux name=d d. ! queue ! h264parse ! avdec_h264 ! fakesink num-buffers=50 \
         d. ! queue ! aacparse ! fakesink num-buffers=50"
    );
    let mut gst = Command::new("gst-launch-1.0");
    gst.arg("-q").args(pipeline.split(' ').filter(|word| !word.is_empty()));
    for mut player in [mpv, gst] {
        let said = Client::start(&mut player).succeed();
        assert!(!said.to_ascii_lowercase().contains("error"), "{said}");
    }
    drop(server);
    assert!(websockets.into_iter().all(|websocket| websocket.join().unwrap().len() > 50));
}
