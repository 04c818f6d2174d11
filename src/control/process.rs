//! The process as Linux sees it: memory, file descriptors. Read from `/proc/self`; a field that cannot be read is left out.

use serde::Serialize;

/// One look at `/proc/self`.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Process {
    /// Resident memory.
    pub rss_bytes: Option<u64>,
    /// Open file descriptors, and how many there may be.
    pub fds: Option<u64>,
    pub fds_max: Option<u64>,
}

impl Process {
    pub fn read() -> Self {
        Process { rss_bytes: rss_bytes(), fds: fds(), fds_max: fds_max() }
    }
}

fn rss_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    // SAFETY: sysconf takes no pointers.
    let page_bytes = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
    Some(pages * page_bytes)
}

fn fds() -> Option<u64> {
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    // One of them is the directory that is being read.
    Some(open.saturating_sub(1))
}

fn fds_max() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive() {
        let process = Process::read();
        assert!(process.rss_bytes.is_some_and(|bytes| bytes > 100_000));
        assert!(process.fds.is_some_and(|fds| fds > 0 && fds <= process.fds_max.unwrap()));
    }
}
