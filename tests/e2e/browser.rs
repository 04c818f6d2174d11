//! mpegts.js in headless Chromium plays the built-in clip, and a stream that announces sound in vain. `browser.mjs` is the page and its
//! driver; `target/e2e/screenshot-*.png` shows what was on the screen.

use std::process::Command;

use crate::harness::client::find;
use crate::harness::flv::AUDIO;
use crate::harness::media::H264_AAC;
use crate::harness::{Client, Options, Publisher, Runtime, Server, Tag, missing, skip, target};

on_both_runtimes!(http_flv, websocket_flv, sound_never_comes);

fn http_flv(runtime: Runtime) {
    plays_the_clip(runtime, "http");
}

fn websocket_flv(runtime: Runtime) {
    plays_the_clip(runtime, "ws");
}

fn plays_the_clip(runtime: Runtime, scheme: &str) {
    if lacks_a_browser() {
        return;
    }
    let server = Server::start(Options::new(runtime).demo().shards(2));
    plays_in_chromium(&server, scheme, "live/demo", &format!("{scheme}-{}", runtime.name()));
}

fn sound_never_comes(runtime: Runtime) {
    if lacks_a_browser() || missing(&["ffmpeg"]) {
        return;
    }
    let mut tags = H264_AAC.tags().unwrap();
    tags.retain(|tag| tag.kind != AUDIO || Tag::is_config(tag));
    let server = Server::start(Options::new(runtime).shards(2));
    let _streaming = Publisher::connect(&server, "live/mute").stream(tags);
    plays_in_chromium(&server, "http", "live/mute", &format!("mute-{}", runtime.name()));
}

fn modules() -> std::path::PathBuf {
    target().join("clients/node_modules")
}

fn lacks_a_browser() -> bool {
    if missing(&["node", "chromium"]) {
        return true;
    }
    let is_there = |name| modules().join(name).exists();
    if !is_there("mpegts.js") || !is_there("playwright-core") {
        skip("no mpegts.js or playwright-core in target/clients");
        return true;
    }
    false
}

fn plays_in_chromium(server: &Server, scheme: &str, key: &str, name: &str) {
    let stream = server.wait_live(key);
    let tracks = stream["tracks"].as_array().unwrap();
    let picture = tracks.iter().find(|track| track["kind"] == "video").unwrap();
    let screenshot = target().join(format!("e2e/screenshot-{name}.png"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/browser.mjs");
    let mut node = Command::new("node");
    node.arg(script).arg(modules()).arg(find("chromium").unwrap());
    node.arg(format!("{scheme}://{}/{key}.flv", server.http)).arg(&screenshot);
    let output = Client::start(&mut node).succeed();
    let last = output.lines().last().unwrap_or_default();
    let result: serde_json::Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {output}"));
    println!("{result}");
    assert_eq!(result["errors"], serde_json::json!([]), "{result}");
    assert!(result["time"].as_f64().unwrap() >= result["first"].as_f64().unwrap() + 2.0, "{result}");
    assert_eq!((&result["width"], &result["height"]), (&picture["width"], &picture["height"]), "{result}");
    assert!(std::fs::metadata(&screenshot).unwrap().len() > 1_000);
}
