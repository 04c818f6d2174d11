//! The impaired link over real sockets. Times are only judged from below: a busy machine makes everything later.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::*;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PATIENCE: Option<Duration> = Some(Duration::from_secs(20));

#[test]
fn a_connection_takes_its_time_and_loses_nothing() {
    let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let relay = Relay::start("rate=8M,ping=40ms".parse().unwrap(), listener.local_addr().unwrap()).unwrap();
    let server = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.read_exact(&mut [0]).unwrap();
        let answer: Vec<u8> = (0..1_200_000u32).map(|at| (at % 251) as u8).collect();
        socket.write_all(&answer).unwrap();
        // Until the other side has all.
        socket.set_read_timeout(PATIENCE).unwrap();
        socket.read_exact(&mut [0]).unwrap();
        answer
    });
    let began = Instant::now();
    let mut socket = TcpStream::connect(relay.address).unwrap();
    socket.set_read_timeout(PATIENCE).unwrap();
    socket.write_all(&[1]).unwrap();
    let mut came = vec![0; 1_200_000];
    socket.read_exact(&mut came[..1]).unwrap();
    assert!(began.elapsed() >= Duration::from_millis(80), "a ping for the connection, one for the question");
    socket.read_exact(&mut came[1..]).unwrap();
    assert!(began.elapsed() >= Duration::from_millis(1_280), "1.2 MB at 1 MB/s");
    socket.write_all(&[1]).unwrap();
    assert_eq!(came, server.join().unwrap());
}

#[test]
fn doors_lose_what_the_seed_says_and_let_answers_back() {
    let text = "rate=100M,ping=10ms,loss=10%,seed=3";
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let relay = Relay::start(text.parse().unwrap(), nobody).unwrap();
    let (viewer, server) = (Pair::open(LOOPBACK, false).unwrap(), UdpSocket::bind((LOOPBACK, 0)).unwrap());
    let doors = relay.open_doors(LOOPBACK, viewer.ports().unwrap()).unwrap();
    let viewer = viewer.rtp;
    viewer.set_nonblocking(false).unwrap();
    viewer.set_read_timeout(PATIENCE).unwrap();
    let mut lane = Lane::new(text.parse().unwrap(), Way::Down as u64);
    let expected: Vec<u8> = (0..200).filter(|_| lane.datagram(0, 1).is_some()).collect();
    assert!(expected.len() < 195, "the seed loses some");
    for number in 0..200u8 {
        server.send_to(&[number], (LOOPBACK, doors.rtp)).unwrap();
    }
    let mut came = vec![0; expected.len()];
    came.iter_mut().for_each(|byte| assert_eq!(viewer.recv(std::slice::from_mut(byte)).unwrap(), 1));
    assert_eq!(came, expected);
    server.set_read_timeout(PATIENCE).unwrap();
    let mut byte = [0];
    // Ten at once are not all lost: the first that comes is one of them.
    for _ in 0..10 {
        viewer.send_to(&[77], (LOOPBACK, doors.rtp)).unwrap();
    }
    server.recv(&mut byte).unwrap();
    assert_eq!(byte, [77]);
}
