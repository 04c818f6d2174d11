//! What a connection costs that does nothing: at most 8 KiB of the server's memory, with 10,000 of them.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::limits::many_files;
use crate::harness::{Options, Runtime, SOON, Server, wait_for};

on_both_runtimes!(memory_per_connection);

const CONNECTIONS: u64 = 10_000;
/// What the first connections make the server allocate once is not theirs.
const WARM_UP: u64 = 60;
const BYTES_MAX: u64 = 8 * 1024;

/// A third says nothing, a third has begun an HTTP request, a third has finished the RTMP handshake.
fn idle_connection(server: &Server, at: u64) -> TcpStream {
    let address = if at.is_multiple_of(3) { server.http } else { server.rtmp };
    let mut stream = TcpStream::connect(address).unwrap();
    if at.is_multiple_of(3) {
        stream.write_all(b"GET /live/x.flv HTTP/1.1\r\nHost: local").unwrap();
    } else if at % 3 == 1 {
        let mut answer = [0; 1 + 2 * 1536];
        stream.write_all(&[3]).unwrap();
        stream.write_all(&[0; 1536]).unwrap();
        stream.read_exact(&mut answer).unwrap();
        stream.write_all(&answer[1..1537]).unwrap();
    }
    stream
}

fn memory_per_connection(runtime: Runtime) {
    let Some(_files) = many_files(CONNECTIONS + WARM_UP) else { return };
    let server = Server::start(Options::new(runtime).shards(2).set("limits.handshake_ms_max", 600_000));
    let connections = || {
        let shards = server.api("shards");
        shards["shards"].as_array().unwrap().iter().map(|shard| shard["connections"].as_u64().unwrap()).sum::<u64>()
    };
    let mut idle: Vec<TcpStream> = (0..WARM_UP).map(|at| idle_connection(&server, at)).collect();
    wait_for("the first connections are there", SOON, || (connections() == WARM_UP).then_some(()));
    let before = server.rss_bytes();
    idle.extend((0..CONNECTIONS).map(|at| idle_connection(&server, at)));
    wait_for("all connections are there", SOON, || (connections() == WARM_UP + CONNECTIONS).then_some(()));
    let each = server.rss_bytes().saturating_sub(before) / CONNECTIONS;
    println!("{}: {each} bytes for each of {CONNECTIONS} idle connections", runtime.name());
    assert!(each <= BYTES_MAX, "{each} bytes per idle connection");
    drop(idle);
    wait_for("all connections are gone", SOON, || (connections() == 0).then_some(()));
}
