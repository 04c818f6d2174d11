//! Players in headless Chromium: mpegts.js on FLV and TS, hls.js on HLS and LL-HLS, and a page that appends fragmented MP4 as it comes play the
//! built-in clip; and one a stream that announces sound in vain. `browser.mjs` is the page and its driver;
//! `target/e2e/screenshot-*.png` shows what was on the screen.
//!
//! How old a picture is on the screen is measured by what is in it: [`CLOCK`]'s pictures say their number.

use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::harness::client::find;
use crate::harness::flv::AUDIO;
use crate::harness::media::{CLOCK, H264_AAC};
use crate::harness::{Client, Lateness, Options, Publisher, Runtime, Server, Tag, missing, skip, target};

on_both_runtimes!(
    http_flv,
    websocket_flv,
    http_ts,
    websocket_ts,
    http_fmp4,
    websocket_fmp4,
    hls,
    hls_ts,
    low_latency,
    sound_never_comes
);

fn http_flv(runtime: Runtime) {
    plays_the_clip(runtime, "flv", "http", ".flv");
}

fn websocket_flv(runtime: Runtime) {
    plays_the_clip(runtime, "flv", "ws", ".flv");
}

fn http_ts(runtime: Runtime) {
    plays_the_clip(runtime, "mpegts", "http", ".ts");
}

fn websocket_ts(runtime: Runtime) {
    plays_the_clip(runtime, "mpegts", "ws", ".ts");
}

fn http_fmp4(runtime: Runtime) {
    plays_the_clip(runtime, "mse", "http", ".mp4");
}

fn websocket_fmp4(runtime: Runtime) {
    plays_the_clip(runtime, "mse", "ws", ".mp4");
}

fn hls(runtime: Runtime) {
    plays_the_clip(runtime, "hls", "http", "/index.m3u8");
}

fn hls_ts(runtime: Runtime) {
    plays_the_clip(runtime, "hls", "http", "/ts.m3u8");
}

fn plays_the_clip(runtime: Runtime, player: &str, scheme: &str, suffix: &str) {
    if lacks_a_browser() {
        return;
    }
    let server = Server::start(Options::new(runtime).demo().shards(2));
    let name = format!("{scheme}{}-{}", suffix.replace(['/', '.'], "-"), runtime.name());
    plays_in_chromium(&server, player, scheme, "live/demo", suffix, &name, None);
}

fn sound_never_comes(runtime: Runtime) {
    if lacks_a_browser() || missing(&["ffmpeg"]) {
        return;
    }
    let mut tags = H264_AAC.tags().unwrap();
    tags.retain(|tag| tag.kind != AUDIO || Tag::is_config(tag));
    let server = Server::start(Options::new(runtime).shards(2));
    let _streaming = Publisher::connect(&server, "live/mute").stream(tags);
    plays_in_chromium(&server, "flv", "http", "live/mute", ".flv", &format!("mute-{}", runtime.name()), None);
}

/// What a viewer with hls.js and parts of 200 ms lags behind at most, of a stream with a keyframe per second.
const LATENCY_MAX: Duration = Duration::from_millis(1_500);

fn low_latency(runtime: Runtime) {
    if lacks_a_browser() || missing(&["ffmpeg"]) {
        return;
    }
    let tags = CLOCK.tags().unwrap();
    let period = tags.iter().map(|tag| tag.timestamp).max().unwrap() + 40;
    let server = Server::start(Options::new(runtime).shards(2));
    let publisher = Publisher::connect(&server, "live/clock");
    let began = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
    let _streaming = publisher.stream(tags);
    let lateness = Lateness::of(&server, "live/clock");
    let clock = serde_json::json!({"began": began, "period": period, "frame": 40}).to_string();
    let name = format!("low-latency-{}", runtime.name());
    let result = plays_in_chromium(&server, "ll-hls", "http", "live/clock", "/index.m3u8", &name, Some(&clock));
    // The last one was good and the one before too, or the machine was busy all the time.
    let windows = result["windows"].as_array().unwrap();
    let age = |window: &serde_json::Value, figure: &str| window[figure].as_f64().unwrap();
    let is_seen = |window: &&serde_json::Value| {
        let is_measured = ["glass", "latency"].iter().all(|figure| age(window, figure) >= 0.0);
        is_measured && window["pictures"].as_u64() >= Some(20) && window["unread"].as_u64() <= Some(5)
    };
    let oldest = |window: &serde_json::Value| age(window, "glass").max(age(window, "latency"));
    let best = windows.iter().filter(is_seen).min_by(|a, b| oldest(a).total_cmp(&oldest(b)));
    let best = best.unwrap_or_else(|| panic!("no window can be judged: {result}"));
    let late = lateness.worst();
    println!("{}: {best} ms behind; nothing came for {late:?}", runtime.name());
    assert!(oldest(best) <= (LATENCY_MAX + late).as_millis() as f64, "{late:?}: {result}");
}

fn modules() -> std::path::PathBuf {
    target().join("clients/node_modules")
}

fn lacks_a_browser() -> bool {
    if missing(&["node", "chromium"]) {
        return true;
    }
    let is_there = |name: &&str| modules().join(name).exists();
    if !["mpegts.js", "hls.js", "playwright-core"].iter().all(is_there) {
        skip("no mpegts.js, hls.js or playwright-core in target/clients");
        return true;
    }
    false
}

fn plays_in_chromium(
    server: &Server,
    player: &str,
    scheme: &str,
    key: &str,
    suffix: &str,
    name: &str,
    clock: Option<&str>,
) -> serde_json::Value {
    let stream = server.wait_live(key);
    let tracks = stream["tracks"].as_array().unwrap();
    let picture = tracks.iter().find(|track| track["kind"] == "video").unwrap();
    let screenshot = target().join(format!("e2e/screenshot-{name}.png"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/browser.mjs");
    let mut node = Command::new("node");
    node.arg(script).arg(modules()).arg(find("chromium").unwrap()).arg(player);
    node.arg(format!("{scheme}://{}/{key}{suffix}", server.http)).arg(&screenshot).args(clock);
    let output = Client::start(&mut node).succeed();
    let last = output.lines().last().unwrap_or_default();
    let result: serde_json::Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {output}"));
    println!("{result}");
    assert_eq!(result["errors"], serde_json::json!([]), "{result}");
    assert!(result["time"].as_f64().unwrap() >= result["first"].as_f64().unwrap() + 2.0, "{result}");
    assert_eq!((&result["width"], &result["height"]), (&picture["width"], &picture["height"]), "{result}");
    assert!(std::fs::metadata(&screenshot).unwrap().len() > 1_000);
    result
}
