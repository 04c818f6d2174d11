//! What a viewer costs in system calls: one `send` or `sendmsg` per turn that has something for it, and nothing else. Counted by strace.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use crate::harness::flv::VIDEO;
use crate::harness::media::H264_AAC;
use crate::harness::{Client, Options, Over, Publisher, Runtime, SOON, Server, Viewer, fresh_folder, missing, skip};

on_both_runtimes!(one_send_per_viewer_and_turn);

const VIEWERS: u64 = 60;
const WATCHED: Duration = Duration::from_secs(3);

/// Calls by name, out of the table of `strace -c`.
fn calls(table: &str) -> BTreeMap<String, u64> {
    let rows = table.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let [share, _seconds, _each, count, .., name] = cells[..] else { return None };
        share.parse::<f64>().ok().filter(|_| name != "total")?;
        Some((name.to_owned(), count.parse().ok()?))
    });
    rows.collect()
}

fn one_send_per_viewer_and_turn(runtime: Runtime) {
    if missing(&["ffmpeg", "strace"]) {
        return;
    }
    let server = Server::start(Options::new(runtime));
    let _streaming = Publisher::connect(&server, "live/count").stream(H264_AAC.tags().unwrap());
    server.wait_live("live/count");
    let viewers: Vec<Viewer> = (0..VIEWERS).map(|_| Viewer::open(&server, Over::HttpFlv, "live/count")).collect();
    for viewer in &viewers {
        viewer.wait_frames(VIDEO, 30);
    }
    let folder = fresh_folder("strace");
    let table = folder.join("table");
    let mut strace = Command::new("strace");
    let mut strace = Client::start(strace.args(["-c", "-f", "-p", &server.pid().to_string(), "-o"]).arg(&table));
    let frames_in = || server.stream("live/count").unwrap()["frames_in"].as_u64().unwrap();
    let attached = crate::harness::wait_for("strace attaches or gives up", SOON, || {
        let said = strace.output();
        if said.contains("attached") { Some(true) } else { (!strace.is_running()).then_some(false) }
    });
    if !attached {
        return skip("strace cannot attach");
    }
    let before = frames_in();
    std::thread::sleep(WATCHED);
    let frames = frames_in() - before;
    strace.signal(libc::SIGINT);
    strace.wait(SOON);
    let calls = calls(&std::fs::read_to_string(&table).unwrap());
    println!("{}: {frames} frames to {VIEWERS} viewers: {calls:?}", runtime.name());
    let sends: u64 = ["sendto", "sendmsg"].iter().filter_map(|call| calls.get(*call)).sum();
    let others: u64 = calls.values().sum::<u64>() - sends;
    // Frames that come together share a turn; a little more was traced than was counted.
    assert!(sends <= VIEWERS * (frames + frames / 5 + 10), "{sends} sends");
    assert!(sends >= VIEWERS * frames / 3, "{sends} sends");
    assert!(others <= frames * 20 + 500, "{others} other calls do not depend on the number of viewers");
    let _ = std::fs::remove_dir_all(folder);
}
