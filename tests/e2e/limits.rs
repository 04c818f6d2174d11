//! Out of file descriptors: accepting pauses and says so, the live stream goes on, and when there are some again, so does accepting.
//! Out of room for a publisher's datagrams: what the kernel drops is told apart from what the network lost.

use std::net::TcpStream;

use crate::harness::flv::{self, VIDEO, of_kind};
use crate::harness::media::{H264_AAC, H264_AAC_HEAVY};
use crate::harness::rtsp::Push;
use crate::harness::{Options, Over, Publisher, Runtime, SOON, Server, Viewer, missing, wait_for};

on_both_runtimes!(out_of_file_descriptors, out_of_room_for_datagrams);

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

/// Half a second of the heavy clip is several times as much.
const SMALL_BUFFER_BYTES: u32 = 65_536;

fn out_of_room_for_datagrams(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let ports = if runtime == Runtime::IoUring { 24_800..=24_819 } else { 24_820..=24_839 };
    let options = Options::new(runtime).set("rtsp.udp_ports", format!("{}-{}", ports.start(), ports.end()));
    let server = Server::start(options.set("rtsp.receive_buffer_bytes", SMALL_BUFFER_BYTES));
    let publisher = H264_AAC_HEAVY.publish(Push::FfmpegUdp, &server, "live/full").unwrap();
    server.wait_live("live/full");
    let packets = || server.stream("live/full").unwrap()["rtp_packets_in"].clone();
    server.signal(libc::SIGSTOP);
    let dropped = wait_for("the kernel drops datagrams", SOON, || Some(dropped_by_kernel(&ports)).filter(|count| *count > 0));
    server.signal(libc::SIGCONT);
    wait_for("the server tells of them, as lost and as the kernel's", SOON, || {
        let packets = packets();
        let (kernel, lost) = (packets["kernel_drop"].as_u64()?, packets["lost"].as_u64()?);
        (kernel >= dropped && lost > 0 && lost <= kernel).then_some(())
    });
    publisher.succeed();
}

/// What the kernel says it has dropped for sockets with these ports: the last column of its table.
fn dropped_by_kernel(ports: &std::ops::RangeInclusive<u16>) -> u64 {
    let table = std::fs::read_to_string("/proc/net/udp").unwrap();
    let drops = table.lines().skip(1).filter_map(|line| {
        let (_, port) = line.split_whitespace().nth(1)?.rsplit_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        ports.contains(&port).then(|| line.split_whitespace().last()?.parse::<u64>().ok())?
    });
    drops.sum()
}
