//! Out of file descriptors: accepting pauses and says so, the live stream goes on, and when there are some again, so does accepting.

use std::net::TcpStream;

use crate::harness::flv::{self, VIDEO, of_kind};
use crate::harness::media::H264_AAC;
use crate::harness::{Options, Over, Publisher, Runtime, SOON, Server, Viewer, missing, wait_for};

on_both_runtimes!(out_of_file_descriptors);

/// Enough to start, less than are asked for.
const FILES_MAX: u64 = 96;

fn out_of_file_descriptors(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let options = Options::new(runtime).files_max(FILES_MAX).set("limits.handshake_ms_max", 60_000);
    let server = Server::start(options);
    let streaming = Publisher::connect(&server, "live/full").stream(H264_AAC.tags().unwrap());
    server.wait_live("live/full");
    let viewer = Viewer::open(&server, Over::HttpFlv, "live/full");
    viewer.wait_frames(VIDEO, 5);
    let crowd: Vec<TcpStream> = (0..FILES_MAX).map(|_| TcpStream::connect(server.http).unwrap()).collect();
    server.wait_log("accepting pauses", |line| line.contains("accepting pauses"));
    let frames = of_kind(&viewer.seen().tags, VIDEO).count();
    viewer.wait_frames(VIDEO, frames + 25);
    drop(crowd);
    let late = Viewer::open(&server, Over::WsFlv, "live/full");
    late.wait_frames(VIDEO, 25);
    wait_for("the pauses are counted", SOON, || (server.metric("shardcast_shard_accept_pauses_total", "") > 0.0).then_some(()));
    let sent = streaming.finish();
    flv::assert_tail(&viewer.wait_end().tags, &sent, VIDEO);
    let lines = server.log().lines().filter(|line| line.contains("accepting pauses")).count();
    println!("{lines} lines of the log say that accepting pauses");
}
