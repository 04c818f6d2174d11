//! Which runtime this machine can run.
//!
//! glommio panics, or ends the process, where io_uring is missing or incomplete, so this asks the kernel first: a ring can be set up,
//! the operations that glommio insists on are there, and enough memory may be locked.

use io_uring::{IoUring, Probe, opcode};

use super::Backend;
use crate::config::Runtime;

/// What glommio's rings lock.
const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

/// The runtime to use, and why in words for the log. An error when the configuration insists on io_uring and it cannot be had.
pub fn choose(wish: Runtime) -> Result<(Backend, String), String> {
    match (wish, io_uring()) {
        (Runtime::Epoll, _) => Ok((Backend::Epoll, "as configured".to_owned())),
        (Runtime::Auto, Ok(())) => Ok((Backend::IoUring, "the kernel offers io_uring".to_owned())),
        (Runtime::IoUring, Ok(())) => Ok((Backend::IoUring, "as configured".to_owned())),
        (Runtime::Auto, Err(why)) => Ok((Backend::Epoll, why)),
        (Runtime::IoUring, Err(why)) => Err(format!("server.runtime is io_uring, but {why}")),
    }
}

fn io_uring() -> Result<(), String> {
    let ring = IoUring::new(2).map_err(|error| format!("io_uring cannot be set up: {error}"))?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|error| format!("io_uring cannot be probed: {error}"))?;
    let missing: Vec<&str> = NEEDED.iter().filter(|(code, _)| !probe.is_supported(*code)).map(|(_, name)| *name).collect();
    if !missing.is_empty() {
        return Err(format!("this kernel's io_uring lacks {}", missing.join(", ")));
    }
    match memlock_limit() {
        limit if limit < MEMLOCK_BYTES_MIN => Err(format!(
            "the limit on locked memory is {} KiB, io_uring needs {} KiB (ulimit -l)",
            limit / 1024,
            MEMLOCK_BYTES_MIN / 1024
        )),
        _ => Ok(()),
    }
}

fn memlock_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the result.
    match unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) } {
        0 => limit.rlim_cur,
        _ => 0,
    }
}

/// The operations without which glommio does not start.
const NEEDED: &[(u8, &str)] = &[
    (opcode::Nop::CODE, "NOP"),
    (opcode::Readv::CODE, "READV"),
    (opcode::Writev::CODE, "WRITEV"),
    (opcode::Fsync::CODE, "FSYNC"),
    (opcode::ReadFixed::CODE, "READ_FIXED"),
    (opcode::WriteFixed::CODE, "WRITE_FIXED"),
    (opcode::PollAdd::CODE, "POLL_ADD"),
    (opcode::PollRemove::CODE, "POLL_REMOVE"),
    (opcode::SendMsg::CODE, "SENDMSG"),
    (opcode::RecvMsg::CODE, "RECVMSG"),
    (opcode::Timeout::CODE, "TIMEOUT"),
    (opcode::TimeoutRemove::CODE, "TIMEOUT_REMOVE"),
    (opcode::Accept::CODE, "ACCEPT"),
    (opcode::LinkTimeout::CODE, "LINK_TIMEOUT"),
    (opcode::Connect::CODE, "CONNECT"),
    (opcode::Fallocate::CODE, "FALLOCATE"),
    (opcode::OpenAt::CODE, "OPENAT"),
    (opcode::Close::CODE, "CLOSE"),
    (opcode::Statx::CODE, "STATX"),
    (opcode::Read::CODE, "READ"),
    (opcode::Write::CODE, "WRITE"),
    (opcode::Send::CODE, "SEND"),
    (opcode::Recv::CODE, "RECV"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoll_is_always_there() {
        assert_eq!(choose(Runtime::Epoll).unwrap().0, Backend::Epoll);
    }

    #[test]
    fn auto_follows_the_probe() {
        let expected = if io_uring().is_ok() { Backend::IoUring } else { Backend::Epoll };
        assert_eq!(choose(Runtime::Auto).unwrap().0, expected);
        assert_eq!(choose(Runtime::IoUring).is_ok(), expected == Backend::IoUring);
    }
}
