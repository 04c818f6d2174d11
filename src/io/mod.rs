//! The only system calls: two runtimes behind one set of functions, and the socket calls that both share.
//!
//! Each shard thread runs either a glommio executor (io_uring) or a tokio current-thread runtime (epoll). The choice is made once,
//! before anything is started, by [`probe`]. Enums, not generics: a branch costs nothing beside a system call, and no signature
//! elsewhere has to name a runtime.

pub mod clock;
mod epoll;
mod moderation;
pub mod probe;
pub mod socket;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod udp;
mod uring;

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::task::{Context, Poll};
use std::time::Duration;

/// Which runtime a shard runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    IoUring,
    Epoll,
}

impl Backend {
    pub const fn name(self) -> &'static str {
        match self {
            Backend::IoUring => "io_uring",
            Backend::Epoll => "epoll",
        }
    }
}

thread_local! {
    static BACKEND: Cell<Backend> = const { Cell::new(Backend::Epoll) };
}

/// Runs `main` to its end on this thread, pinned to `core`. Tasks that are left are dropped.
pub fn run<F: Future<Output = ()> + 'static>(
    backend: Backend,
    name: &str,
    core: Option<usize>,
    main: impl FnOnce() -> F,
) -> io::Result<()> {
    BACKEND.set(backend);
    match backend {
        Backend::IoUring => uring::run(name, core, main),
        Backend::Epoll => epoll::run(core, main),
    }
}

/// Starts a task on this shard. A panic in it is contained: it ends that task only.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    match BACKEND.get() {
        Backend::IoUring => uring::spawn(task),
        Backend::Epoll => epoll::spawn(task),
    }
}

pub async fn sleep(duration: Duration) {
    match BACKEND.get() {
        Backend::IoUring => uring::sleep(duration).await,
        Backend::Epoll => epoll::sleep(duration).await,
    }
}

/// Goes on after the kernel has been asked what has come, and the tasks for which something has had their turn.
pub async fn look_around() {
    match BACKEND.get() {
        Backend::IoUring => uring::look_around().await,
        Backend::Epoll => epoll::look_around().await,
    }
}

/// A listening TCP socket on this shard.
pub enum Listener {
    IoUring(uring::Listener),
    Epoll(epoll::Listener),
}

impl Listener {
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        match BACKEND.get() {
            Backend::IoUring => Ok(Listener::IoUring(uring::listener(socket))),
            Backend::Epoll => epoll::listener(socket).map(Listener::Epoll),
        }
    }

    /// The next connection, and where it comes from.
    pub async fn accept(&self) -> io::Result<(Tcp, SocketAddr)> {
        let tcp = match self {
            Listener::IoUring(listener) => Tcp::IoUring(uring::accept(listener).await?),
            Listener::Epoll(listener) => Tcp::Epoll(epoll::accept(listener).await?),
        };
        let peer = socket::peer(tcp.as_raw_fd())?;
        Ok((tcp, peer))
    }
}

/// A connected TCP socket on this shard. It is closed when this is dropped.
pub enum Tcp {
    IoUring(uring::Stream),
    Epoll(epoll::Stream),
}

impl Tcp {
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        match BACKEND.get() {
            Backend::IoUring => Ok(Tcp::IoUring(uring::stream(socket))),
            Backend::Epoll => epoll::stream(socket).map(Tcp::Epoll),
        }
    }

    pub fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Tcp::IoUring(stream) => uring::poll_read(stream, cx, buffer),
            Tcp::Epoll(stream) => epoll::poll_read(stream, cx, buffer),
        }
    }

    /// Sends what the kernel takes of `bytes`; when that is nothing, the task is woken once the socket is writable.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Tcp::IoUring(stream) => uring::poll_write(stream, cx, bytes),
            Tcp::Epoll(stream) => epoll::poll_write(stream, cx, bytes),
        }
    }
}

impl AsRawFd for Tcp {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Tcp::IoUring(stream) => stream.as_raw_fd(),
            Tcp::Epoll(stream) => stream.as_raw_fd(),
        }
    }
}
