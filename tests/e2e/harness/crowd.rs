//! Viewers of a stream over HTTP-FLV that look at nothing they get: one thread reads for all of them, so that a hundred cost little.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::Server;

/// How soon the reading thread hears that it is to stop.
const POLL_MS: i32 = 100;

/// The viewers stay until this is dropped or told to leave.
pub struct Crowd {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    pub fn open(server: &Server, key: &str, count: usize) -> Self {
        let open = |_| {
            let mut socket = TcpStream::connect(server.http).unwrap();
            write!(socket, "GET /{key}.flv HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            socket
        };
        let sockets: Vec<TcpStream> = (0..count).map(open).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        Crowd { stop, thread: Some(std::thread::spawn(move || read_all(sockets, &stopped))) }
    }

    /// Fails if one of them was closed before.
    #[track_caller]
    pub fn leave(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().expect("all viewers stayed");
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read_all(mut sockets: Vec<TcpStream>, stop: &AtomicBool) {
    let poll_for = |socket: &TcpStream| libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut polled: Vec<libc::pollfd> = sockets.iter().map(poll_for).collect();
    let mut buffer = vec![0; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        // SAFETY: `polled` is valid for the call; its descriptors belong to `sockets`.
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, POLL_MS) };
        assert!(ready >= 0, "{}", std::io::Error::last_os_error());
        for (socket, _) in sockets.iter_mut().zip(&polled).filter(|(_, polled)| polled.revents != 0) {
            assert!(socket.read(&mut buffer).unwrap() > 0, "a viewer was closed");
        }
    }
}
