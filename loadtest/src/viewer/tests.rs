//! Viewers against a server that is made up: what it does to the stream is what is measured. Once with times that are handed in, once over
//! a real connection.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use clap::Parser;

use super::*;
use crate::args::Args;
use crate::poll::{NANOS_PER_SECOND, now};

const MILLIS: u64 = 1_000_000;
const FRAMES: u32 = 1_000;

/// An FLV tag with a marked access unit.
fn tag(sent: u64, sequence: u32) -> Vec<u8> {
    let mut body = vec![if sequence.is_multiple_of(50) { 0x17 } else { 0x27 }, 1, 0, 0, 0];
    body.extend_from_slice(&Mark { sent, sequence, publisher: 0 }.encode());
    body.resize(700, 0xFF);
    let [_, l2, l1, l0] = (body.len() as u32).to_be_bytes();
    let header = [9, l2, l1, l0, 0, 0, 0, 0, 0, 0, 0];
    let size = (body.len() as u32 + header.len() as u32).to_be_bytes();
    [&header[..], &body, &size].concat()
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn head() -> Vec<u8> {
    let flv = [&b"FLV\x01\x05\0\0\0\x09"[..], &[0; 4]].concat();
    [&b"HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\nTransfer-Encoding: chunked\r\n\r\n"[..], &chunk(&flv)].concat()
}

/// A viewer over HTTP-FLV that times are handed in to.
struct Timed {
    http: HttpScanner,
    flv: FlvScanner,
    progress: Progress,
    tally: Tally,
}

impl Timed {
    fn new() -> Timed {
        let mut tally = Tally::new(1);
        tally.measure(0, u64::MAX);
        (0..FRAMES).for_each(|sequence| tally.sent(&Mark { sent: 0, sequence, publisher: 0 }, 0));
        Timed { http: HttpScanner::default(), flv: FlvScanner::default(), progress: Progress::default(), tally }
    }

    fn feed(&mut self, now: u64, bytes: &[u8]) {
        let Timed { http, flv, progress, tally } = self;
        let mut found = |found: Found<'_>| progress.take(&found, now, 0, tally);
        http.feed(200, bytes, &mut |data| flv.feed(data, &mut found)).unwrap();
    }
}

#[test]
fn a_server_that_delays_by_20_ms_reads_20_ms() {
    let mut viewer = Timed::new();
    viewer.feed(0, &head());
    for sequence in 0..FRAMES {
        let sent = u64::from(sequence) * 33 * MILLIS;
        let bytes = chunk(&tag(sent, sequence));
        // The mark comes after 20 ms, the last byte 5 ms later, and every read ends somewhere else.
        let (first, last) = bytes.split_at(100 + sequence as usize % 500);
        viewer.feed(sent + 20 * MILLIS, first);
        viewer.feed(sent + 25 * MILLIS, last);
    }
    let Timed { tally, progress, .. } = viewer;
    assert_eq!((tally.delivered, tally.out_of_order, tally.duplicated, progress.missing), (u64::from(FRAMES), 0, 0, 0));
    for percentile in [0.0, 50.0, 99.99, 100.0] {
        let read = |histogram: &hdrhistogram::Histogram<u64>| histogram.value_at_percentile(percentile) as f64 / MILLIS as f64;
        assert!((read(&tally.first) - 20.0).abs() < 0.1, "first byte, p{percentile}: {}", read(&tally.first));
        assert!((read(&tally.last) - 25.0).abs() < 0.1, "last byte, p{percentile}: {}", read(&tally.last));
    }
    assert_eq!(progress.join, Some(25 * MILLIS));
}

#[test]
fn a_server_that_drops_every_100th_frame_is_caught() {
    let mut viewer = Timed::new();
    viewer.feed(0, &head());
    for sequence in (0..FRAMES).filter(|sequence| sequence % 100 != 99) {
        viewer.feed(MILLIS, &chunk(&tag(0, sequence)));
    }
    assert_eq!(viewer.tally.expected[0] - viewer.tally.delivered, 10);
    assert_eq!(viewer.progress.missing, 9, "the last one of all is not known to be missing");
}

#[test]
fn frames_that_come_twice_or_late_are_caught() {
    let mut viewer = Timed::new();
    viewer.feed(0, &head());
    for sequence in [0, 1, 3, 2, 3, 4] {
        viewer.feed(MILLIS, &chunk(&tag(0, sequence)));
    }
    let tally = viewer.tally;
    assert_eq!((tally.delivered, tally.out_of_order, tally.duplicated, viewer.progress.missing), (5, 1, 1, 0));
}

#[test]
fn access_units_come_in_order_late_or_again() {
    let mut progress = Progress::default();
    let steps = [
        (10, Fate::InOrder),
        (10, Fate::Duplicate),
        (12, Fate::InOrder),
        (11, Fate::Late),
        (11, Fate::Duplicate),
        (10, Fate::Duplicate),
        (9, Fate::Late),
        (200, Fate::InOrder),
        (137, Fate::Late),
        (136, Fate::Duplicate),
    ];
    for (at, (sequence, expected)) in steps.into_iter().enumerate() {
        assert_eq!(progress.fate(&Mark { sent: 0, sequence, publisher: 0 }), expected, "step {at}");
    }
    assert_eq!(progress.missing, 186, "of those between 12 and 200 only 137 has come, and 9 stood before the first");
}

/// Stamps frames, waits, sends them; drops every tenth. Returns how long each that it sent was really held.
fn serve(listener: &TcpListener, hold: Duration) -> Vec<u64> {
    let (mut socket, _) = listener.accept().unwrap();
    socket.set_nodelay(true).unwrap();
    let mut request = [0; 1024];
    let count = socket.read(&mut request).unwrap();
    assert!(request[..count].starts_with(b"GET /live/load.flv HTTP/1.1\r\n"));
    socket.write_all(&head()).unwrap();
    let mut held = Vec::new();
    for sequence in (0..40).filter(|sequence| sequence % 10 != 9) {
        let sent = now();
        thread::sleep(hold);
        let bytes = chunk(&tag(sent, sequence));
        held.push(now() - sent);
        socket.write_all(&bytes).unwrap();
    }
    held
}

#[test]
fn over_a_real_connection_the_delay_is_what_the_server_made_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let route = Route { address: listener.local_addr().unwrap(), relay: None };
    let server = thread::spawn(move || serve(&listener, Duration::from_millis(20)));
    let args = Args::try_parse_from(["loadtest", "--play", "http-flv"]).unwrap().load;
    let mut viewer = Viewer::connect(&args, &route, 0, false).unwrap();
    let (mut buffers, mut tally) = (Buffers::new(64 * 1024), Tally::new(1));
    tally.measure(0, u64::MAX);
    let limit = now() + 60 * NANOS_PER_SECOND;
    while tally.delivered < 36 && now() < limit {
        wait_readable(&viewer.socket);
        viewer.readable(0, now(), &mut buffers, &mut tally).unwrap();
    }
    let held = server.join().unwrap();
    assert_eq!((tally.delivered, viewer.missing()), (36, 3), "every tenth is dropped, the last of them unseen");
    // Neither end of the scale can be below what the server held; how much more there is depends on the machine, half of all but little.
    let least = *held.iter().min().unwrap();
    assert!(tally.last.min() as f64 >= least as f64 * 0.999 && tally.first.min() as f64 >= least as f64 * 0.999);
    let (measured, real) = (tally.last.value_at_percentile(50.0), median(held));
    assert!(measured as f64 >= real as f64 * 0.999, "{measured} of {real}");
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values[(values.len() - 1) / 2]
}

fn wait_readable(socket: &TcpStream) {
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one descriptor is given, and it lives through the call.
    unsafe { libc::poll(&raw mut poll, 1, 1_000) };
}
