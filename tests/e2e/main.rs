//! The whole server against real clients, and against hostile ones. Each test starts a server of its own on free ports and runs on
//! both runtimes: `on_both_runtimes!` makes `io_uring::name` and `epoll::name` out of `name(runtime)`.
//!
//! A client program that is not installed skips its test with a line that says so, or fails it with `SHARDCAST_E2E_STRICT=1`.

/// Makes a test function per runtime out of each `fn name(runtime: Runtime)`.
macro_rules! on_both_runtimes {
    ($($name:ident),+ $(,)?) => {
        mod io_uring {
            $(#[test] fn $name() { crate::harness::on(crate::harness::Runtime::IoUring, super::$name); })+
        }
        mod epoll {
            $(#[test] fn $name() { crate::harness::on(crate::harness::Runtime::Epoll, super::$name); })+
        }
    };
}

mod harness;

mod browser;
mod cascade;
mod codecs;
mod faults;
mod gb28181;
mod gb28181_platform;
mod gb28181_quirks;
mod gb28181_sipp;
mod gb28181_state;
mod gb28181_talk;
mod hls;
mod hls_crowd;
mod http;
mod http_mp4;
mod http_ts;
mod idle;
mod life;
mod limits;
mod lip_sync;
mod loss;
mod multicast;
mod obs;
mod peers;
mod players;
mod preempted;
mod pull;
mod reconnect;
mod recording;
mod recording_codecs;
mod recording_export;
mod recording_faults;
mod recording_keeping;
mod rtp_senders;
mod rtsp;
mod rtsp_faults;
mod rtsp_secure;
mod slow;
mod startup;
mod syscalls;
mod tracks;
