//! mpegts.js in headless Chromium plays the built-in clip. `browser.mjs` is the page and its driver; `target/e2e/screenshot-*.png`
//! shows what was on the screen.

use std::process::Command;

use crate::harness::client::find;
use crate::harness::{Client, Options, Runtime, Server, missing, skip, target};

on_both_runtimes!(http_flv, websocket_flv);

fn http_flv(runtime: Runtime) {
    plays_in_chromium(runtime, "http");
}

fn websocket_flv(runtime: Runtime) {
    plays_in_chromium(runtime, "ws");
}

fn plays_in_chromium(runtime: Runtime, scheme: &str) {
    let modules = target().join("clients/node_modules");
    if missing(&["node", "chromium"]) {
        return;
    }
    if !modules.join("mpegts.js").exists() || !modules.join("playwright-core").exists() {
        return skip("no mpegts.js or playwright-core in target/clients");
    }
    let server = Server::start(Options::new(runtime).demo().shards(2));
    let clip = server.wait_live("live/demo");
    let tracks = clip["tracks"].as_array().unwrap();
    let picture = tracks.iter().find(|track| track["kind"] == "video").unwrap();
    let screenshot = target().join(format!("e2e/screenshot-{scheme}-{}.png", runtime.name()));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/browser.mjs");
    let mut node = Command::new("node");
    node.arg(script).arg(modules).arg(find("chromium").unwrap());
    node.arg(format!("{scheme}://{}/live/demo.flv", server.http)).arg(&screenshot);
    let output = Client::start(&mut node).succeed();
    let last = output.lines().last().unwrap_or_default();
    let result: serde_json::Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {output}"));
    println!("{result}");
    assert_eq!(result["errors"], serde_json::json!([]), "{result}");
    assert!(result["time"].as_f64().unwrap() >= result["first"].as_f64().unwrap() + 2.0, "{result}");
    assert_eq!((&result["width"], &result["height"]), (&picture["width"], &picture["height"]), "{result}");
    assert!(std::fs::metadata(&screenshot).unwrap().len() > 1_000);
}
