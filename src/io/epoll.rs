//! The epoll runtime: one tokio current-thread runtime per shard, used for tasks, timers and to wait for readiness.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_lite::FutureExt;
use socket2::SockRef;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::task::LocalSet;

pub use tokio::net::{TcpListener as Listener, TcpStream as Stream};

use super::{moderation, socket};

pub fn run<F: Future<Output = ()> + 'static>(core: Option<usize>, main: impl FnOnce() -> F) -> io::Result<()> {
    if let Some(core) = core {
        socket::pin_thread(core)?;
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().on_thread_park(moderation::before_waiting).build()?;
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, async { main().await });
    Ok(())
}

/// tokio contains a panic by itself; this only says so in the log.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    tokio::task::spawn_local(async {
        if std::panic::AssertUnwindSafe(task).catch_unwind().await.is_err() {
            log::error!("a task panicked and has ended");
        }
    });
}

pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

pub async fn look_around() {
    tokio::task::yield_now().await;
}

pub fn listener(socket: OwnedFd) -> io::Result<Listener> {
    let listener = std::net::TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Listener::from_std(listener)
}

pub fn stream(socket: OwnedFd) -> io::Result<Stream> {
    let stream = std::net::TcpStream::from(socket);
    stream.set_nonblocking(true)?;
    Stream::from_std(stream)
}

pub async fn accept(listener: &Listener) -> io::Result<Stream> {
    listener.accept().await.map(|(stream, _)| stream)
}

pub fn poll_read(stream: &mut Stream, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    Pin::new(stream).poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().len())
}

pub fn poll_write(stream: &mut Stream, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    Pin::new(stream).poll_write(cx, bytes)
}

/// Waits to read only: that there is room for more is nothing to wake up for, and the kernel would say it after each datagram that is sent.
pub type Datagrams = AsyncFd<OwnedFd>;

pub fn datagrams(socket: OwnedFd) -> io::Result<Datagrams> {
    SockRef::from(&socket).set_nonblocking(true)?;
    // SAFETY: the descriptor is owned here and stays the same until it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}

pub async fn readable(socket: &Datagrams) -> io::Result<()> {
    socket.readable().await.map(drop)
}

/// Calls `receive`, which says whether it has left something; if not, tokio waits for the kernel to report more.
pub fn receive(socket: &Datagrams, receive: impl FnOnce() -> bool) {
    // What it says is known to the caller.
    let _ = socket.try_io(Interest::READABLE, |_| if receive() { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) });
}
