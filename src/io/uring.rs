//! The io_uring runtime: glommio, used for tasks, timers and to wait for readiness.
//!
//! Its defaults do not suit a media server: 10 MiB of registered memory per executor that sockets never use, and a preemption timer
//! under which a busy shard hears of messages from other shards 100 ms late.

use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::moderation;
use futures_lite::{AsyncRead, AsyncWrite, FutureExt};
use glommio::{GlommioError, LocalExecutorBuilder, Placement};

pub use glommio::net::{TcpListener as Listener, TcpStream as Stream};

const IO_MEMORY_BYTES: usize = 64 * 1024;
const RING_DEPTH: usize = 1024;
const PREEMPT_TIMER: Duration = Duration::from_millis(1);

pub fn run<F: Future<Output = ()> + 'static>(name: &str, core: Option<usize>, main: impl FnOnce() -> F) -> io::Result<()> {
    let placement = core.map_or(Placement::Unbound, Placement::Fixed);
    let executor = LocalExecutorBuilder::new(placement)
        .name(name)
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .preempt_timer(PREEMPT_TIMER)
        .make()
        .map_err(to_io)?;
    glommio::set_before_sleep(moderation::before_waiting);
    executor.run(async { main().await });
    Ok(())
}

/// A panic in a glommio task would end the whole executor.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    let contained = async {
        if AssertUnwindSafe(task).catch_unwind().await.is_err() {
            log::error!("a task panicked and has ended");
        }
    };
    glommio::spawn_local(contained).detach();
}

pub async fn sleep(duration: Duration) {
    glommio::timer::sleep(duration).await;
}

/// The executor looks by itself, once per [`PREEMPT_TIMER`].
pub async fn look_around() {
    glommio::executor().yield_now().await;
}

pub fn listener(socket: OwnedFd) -> Listener {
    // SAFETY: the descriptor is owned and given away.
    unsafe { Listener::from_raw_fd(socket.into_raw_fd()) }
}

pub fn stream(socket: OwnedFd) -> Stream {
    // SAFETY: the descriptor is owned and given away.
    unsafe { Stream::from_raw_fd(socket.into_raw_fd()) }
}

pub async fn accept(listener: &Listener) -> io::Result<Stream> {
    listener.accept().await.map_err(to_io)
}

pub fn poll_read(stream: &mut Stream, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
    Pin::new(stream).poll_read(cx, buffer)
}

pub fn poll_write(stream: &mut Stream, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    Pin::new(stream).poll_write(cx, bytes)
}

fn to_io(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::IoError(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

pub use std::os::fd::OwnedFd as Datagrams;

pub fn datagrams(socket: OwnedFd) -> Datagrams {
    socket
}

pub async fn readable(socket: &Datagrams) -> io::Result<()> {
    glommio::net::readable(socket.as_raw_fd()).await
}
