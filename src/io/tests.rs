//! One list of promises, kept by both runtimes.

use std::future::poll_fn;
use std::io::{IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Backend, Listener, Tcp, clock, probe, run, sleep, socket, spawn};
use crate::config::Runtime;

/// The runtimes that this machine has.
fn backends() -> Vec<Backend> {
    match probe::choose(Runtime::IoUring, 1) {
        Ok(_) => vec![Backend::IoUring, Backend::Epoll],
        Err(why) => {
            eprintln!("skipped on io_uring: {why}");
            vec![Backend::Epoll]
        }
    }
}

/// Accepts one connection on a shard thread and gives it to `serve`; returns the address to connect to.
fn serve_one<F, S>(backend: Backend, serve: S) -> (SocketAddr, JoinHandle<()>)
where
    F: Future<Output = ()> + 'static,
    S: FnOnce(Tcp) -> F + Send + 'static,
{
    let (address, mut sockets) = socket::listen(SocketAddr::from(([127, 0, 0, 1], 0)), 1).unwrap();
    let socket = sockets.remove(0);
    let main = move || async move {
        let listener = Listener::new(socket).unwrap();
        let (tcp, peer) = listener.accept().await.unwrap();
        assert!(peer.ip().is_loopback());
        serve(tcp).await;
    };
    (address, std::thread::spawn(move || run(backend, "test", None, main).unwrap()))
}

async fn read(tcp: &mut Tcp, buffer: &mut [u8]) -> usize {
    poll_fn(|cx| tcp.poll_read(cx, buffer)).await.unwrap()
}

#[test]
fn bytes_go_both_ways_and_the_end_is_seen() {
    for backend in backends() {
        let (address, shard) = serve_one(backend, |mut tcp| async move {
            let mut buffer = [0; 64];
            let mut seen = Vec::new();
            loop {
                let count = read(&mut tcp, &mut buffer).await;
                if count == 0 {
                    break;
                }
                seen.extend_from_slice(&buffer[..count]);
            }
            let sent = socket::send(tcp.as_raw_fd(), &[IoSlice::new(&seen), IoSlice::new(b" back")]).unwrap();
            assert_eq!(sent, seen.len() + 5);
            socket::finish(tcp.as_raw_fd());
        });
        let mut peer = TcpStream::connect(address).unwrap();
        for piece in ["there", " and"] {
            peer.write_all(piece.as_bytes()).unwrap();
        }
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        peer.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "there and back", "{backend:?}");
        shard.join().unwrap();
    }
}

#[test]
fn a_full_socket_wakes_its_task_once_it_is_writable() {
    const BYTES_MAX: usize = 256 << 20;
    const BYTES_AFTER: usize = 4 << 20;
    for backend in backends() {
        // The peer reads nothing until the socket is full, so that it does fill however fast the peer is.
        let (full, news) = flume::bounded(1);
        let (address, shard) = serve_one(backend, move |mut tcp| async move {
            let block = vec![7; 64 * 1024];
            let mut sent = 0;
            loop {
                match socket::send(tcp.as_raw_fd(), &[IoSlice::new(&block)]) {
                    Ok(count) => sent += count,
                    Err(error) => {
                        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                        break;
                    }
                }
                assert!(sent < BYTES_MAX, "the kernel takes everything");
            }
            let all = sent + BYTES_AFTER;
            full.send(all).unwrap();
            while sent < all {
                let slice = &block[..block.len().min(all - sent)];
                sent += poll_fn(|cx| tcp.poll_write(cx, slice)).await.unwrap();
            }
        });
        let mut peer = TcpStream::connect(address).unwrap();
        let bytes = news.recv_timeout(Duration::from_secs(30)).unwrap();
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        assert!(all.len() == bytes && all.iter().all(|byte| *byte == 7), "{backend:?}");
        shard.join().unwrap();
    }
}

#[test]
fn a_panic_in_a_task_ends_that_task_only() {
    for backend in backends() {
        let main = || async {
            let (alive, news) = flume::bounded(1);
            spawn(async { panic!("as the test wishes") });
            spawn(async move {
                sleep(Duration::from_millis(5)).await;
                alive.send(()).unwrap();
            });
            news.recv_async().await.unwrap();
        };
        run(backend, "test", None, main).unwrap();
    }
}

#[test]
fn sleep_lasts_as_long_as_it_should() {
    for backend in backends() {
        let main = || async {
            let before = clock::now();
            sleep(Duration::from_millis(20)).await;
            assert!(clock::now().millis_since(before) >= 20);
        };
        run(backend, "test", None, main).unwrap();
    }
}

#[test]
fn a_task_is_woken_from_another_thread() {
    for backend in backends() {
        let (ask, questions) = flume::bounded::<u32>(4);
        let (reply, answers) = flume::bounded(4);
        let main = move || async move {
            while let Ok(question) = questions.recv_async().await {
                reply.send(question + 1).unwrap();
            }
        };
        let shard = std::thread::spawn(move || run(backend, "test", None, main).unwrap());
        for question in 0..100 {
            ask.send(question).unwrap();
            assert_eq!(answers.recv_timeout(Duration::from_secs(10)), Ok(question + 1), "{backend:?}");
        }
        drop(ask);
        shard.join().unwrap();
    }
}

#[test]
fn a_port_in_use_is_refused_even_by_those_who_would_share_it() {
    let (address, _sockets) = socket::listen(SocketAddr::from(([127, 0, 0, 1], 0)), 4).unwrap();
    let error = socket::listen(address, 4).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}
