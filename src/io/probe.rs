//! Which runtime this machine can run.
//!
//! glommio panics, or ends the process, where io_uring is missing or incomplete, so this asks the kernel first: a ring can be set up,
//! the operations that glommio insists on are there, and enough memory may be locked.

use io_uring::{IoUring, Probe, opcode};

use super::Backend;
use crate::config::Runtime;

/// What the rings of one shard lock, with room for what else the user runs.
const MEMLOCK_BYTES_PER_SHARD: u64 = 2 * 1024 * 1024;
/// May lock any amount (`capabilities(7)`).
const CAP_IPC_LOCK: u32 = 14;

/// The runtime to use for so many shards, and why in words for the log. An error when the configuration insists on io_uring and it
/// cannot be had.
pub fn choose(wish: Runtime, shards: usize) -> Result<(Backend, String), String> {
    match (wish, io_uring(shards)) {
        (Runtime::Epoll, _) => Ok((Backend::Epoll, "as configured".to_owned())),
        (Runtime::Auto, Ok(())) => Ok((Backend::IoUring, "the kernel offers io_uring".to_owned())),
        (Runtime::IoUring, Ok(())) => Ok((Backend::IoUring, "as configured".to_owned())),
        (Runtime::Auto, Err(why)) => Ok((Backend::Epoll, why)),
        (Runtime::IoUring, Err(why)) => Err(format!("server.runtime is io_uring, but {why}")),
    }
}

fn io_uring(shards: usize) -> Result<(), String> {
    let ring = IoUring::new(2).map_err(|error| format!("io_uring cannot be set up: {error}"))?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|error| format!("io_uring cannot be probed: {error}"))?;
    let missing: Vec<&str> = NEEDED.iter().filter(|(code, _)| !probe.is_supported(*code)).map(|(_, name)| *name).collect();
    if !missing.is_empty() {
        return Err(format!("this kernel's io_uring lacks {}", missing.join(", ")));
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    // glommio itself wants the limit of one shard, whoever it runs as.
    let shards = if has_capability(&status, CAP_IPC_LOCK) { 1 } else { shards };
    check_memlock(memlock_limit(), shards)
}

fn check_memlock(limit: u64, shards: usize) -> Result<(), String> {
    let needed = MEMLOCK_BYTES_PER_SHARD.saturating_mul(shards as u64);
    if limit >= needed {
        return Ok(());
    }
    let (limit, needed) = (limit / 1024, needed / 1024);
    Err(format!("the limit on locked memory is {limit} KiB, io_uring needs {needed} KiB for these shards (ulimit -l)"))
}

/// Reads the line `CapEff` of `/proc/PID/status` (`proc(5)`).
fn has_capability(status: &str, number: u32) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|mask| mask >> number & 1 == 1)
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
        assert_eq!(choose(Runtime::Epoll, 1).unwrap().0, Backend::Epoll);
    }

    #[test]
    fn every_shard_locks_memory() {
        const MIB: u64 = 1024 * 1024;
        assert!(check_memlock(8 * MIB, 4).is_ok());
        let why = check_memlock(8 * MIB, 5).unwrap_err();
        assert!(why.contains("8192 KiB") && why.contains("10240 KiB"), "{why}");
        assert!(check_memlock(libc::RLIM_INFINITY, 256).is_ok());
    }

    #[test]
    fn capabilities_are_bits() {
        for (status, expected) in [
            ("Name:\tx\nCapEff:\t000001ffffffffff\n", true),
            ("CapEff:\t0000000000004000", true),
            ("CapEff:\t0000000000000000", false),
            ("CapPrm:\t000001ffffffffff", false),
            ("", false),
        ] {
            assert_eq!(has_capability(status, CAP_IPC_LOCK), expected, "{status}");
        }
    }

    #[test]
    fn auto_follows_the_probe() {
        let expected = if io_uring(1).is_ok() { Backend::IoUring } else { Backend::Epoll };
        assert_eq!(choose(Runtime::Auto, 1).unwrap().0, expected);
        assert_eq!(choose(Runtime::IoUring, 1).is_ok(), expected == Backend::IoUring);
    }
}
