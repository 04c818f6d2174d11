//! What the tests share: a server in a child process, client programs, viewers and publishers of our own, and media to send.

pub mod api;
pub mod bad_network;
pub mod chunked;
pub mod client;
pub mod compare;
pub mod crowd;
pub mod device;
pub mod flv;
pub mod framemd5;
pub mod hls;
pub mod lateness;
pub mod limits;
pub mod media;
pub mod network;
pub mod ps_sender;
pub mod ps_writer;
pub mod publisher;
pub mod recording;
pub mod rtp_publisher;
pub mod rtsp;
pub mod rtsp_client;
pub mod rtsp_viewer;
pub mod server;
pub mod standstill;
pub mod viewer;

use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub use client::{Client, ffmpeg, ffmpeg_new, missing};
pub use crowd::Crowd;
pub use device::Device;
pub use flv::Tag;
pub use lateness::Lateness;
pub use publisher::Publisher;
pub use server::{Options, Server};
pub use viewer::{Over, Seen, Viewer};

/// For anything that should happen soon: generous, because the machine may be busy.
pub const SOON: Duration = Duration::from_secs(45);

/// An even port that is free together with those behind it.
pub fn free_ports(count: u16) -> u16 {
    wait_for("free ports", SOON, || {
        let first = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port() & !1;
        drop(first);
        let is_free = |port: u16| UdpSocket::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok();
        (port..port.checked_add(count)?).all(is_free).then_some(port)
    })
}

/// The server's runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    IoUring,
    Epoll,
}

impl Runtime {
    pub fn name(self) -> &'static str {
        match self {
            Runtime::IoUring => "io_uring",
            Runtime::Epoll => "epoll",
        }
    }
}

/// Runs one test on one runtime, unless the machine has none such.
pub fn on(runtime: Runtime, test: fn(Runtime)) {
    match (runtime, no_io_uring()) {
        (Runtime::IoUring, Some(why)) => skip(why),
        _ => test(runtime),
    }
}

/// Why this machine has no io_uring. Asked on a thread of its own: the kernel's work on a ring interrupts system calls of the thread
/// that made it.
fn no_io_uring() -> Option<&'static str> {
    static WHY: OnceLock<Option<String>> = OnceLock::new();
    let ask = || shardcast::io::probe::choose(shardcast::config::Runtime::IoUring, 4).err();
    WHY.get_or_init(|| std::thread::spawn(ask).join().unwrap()).as_deref()
}

pub fn has_io_uring() -> bool {
    no_io_uring().is_none()
}

/// Says that something is not tested, or fails when everything must be.
pub fn skip(why: &str) {
    assert!(std::env::var_os("SHARDCAST_E2E_STRICT").is_none_or(|strict| strict != "1"), "may not be skipped: {why}");
    println!("skipped: {why}");
}

/// Asks again and again until there is an answer; fails after `patience`.
#[track_caller]
pub fn wait_for<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The build directory of the project.
pub fn target() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target")
}

/// A directory of its own for each caller, below `target/`; removed by its owner.
pub fn fresh_folder(name: &str) -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = target().join("e2e").join(format!("{name}-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
