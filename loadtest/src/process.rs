//! What a process has used and holds, from `/proc`.

use std::fs;
use std::io;

/// Used so far, and held now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time of all threads, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory, in bytes.
    pub rss_bytes: u64,
    /// Of all threads.
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
    /// Threads, and open descriptors.
    pub tasks: u64,
    pub descriptors: u64,
}

impl Usage {
    pub fn of(pid: u32) -> io::Result<Usage> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The command's name may hold spaces: fields are counted from its closing parenthesis, behind which the third one begins.
        let fields: Vec<u64> = match stat.rsplit_once(')') {
            Some((_, rest)) => rest.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0)).collect(),
            None => return Err(io::ErrorKind::InvalidData.into()),
        };
        let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
        // SAFETY: the call takes no pointers.
        let (ticks, page) = unsafe { (libc::sysconf(libc::_SC_CLK_TCK), libc::sysconf(libc::_SC_PAGESIZE)) };
        let mut usage = Usage {
            cpu_seconds: (field(14) + field(15)) as f64 / ticks as f64,
            rss_bytes: field(24) * page as u64,
            descriptors: descriptors(pid),
            ..Usage::default()
        };
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may end while this reads.
            let status = fs::read_to_string(task?.path().join("status")).unwrap_or_default();
            let count = |name: &str| {
                let value = status.lines().find_map(|line| line.strip_prefix(name));
                value.and_then(|value| value.trim().parse::<u64>().ok()).unwrap_or(0)
            };
            usage.tasks += 1;
            usage.voluntary_switches += count("voluntary_ctxt_switches:");
            usage.involuntary_switches += count("nonvoluntary_ctxt_switches:");
        }
        Ok(usage)
    }
}

/// Since Linux 6.2 the folder's size is their number, which costs nothing; before, they are counted.
fn descriptors(pid: u32) -> u64 {
    let folder = format!("/proc/{pid}/fd");
    match fs::metadata(&folder).map(|metadata| std::os::unix::fs::MetadataExt::size(&metadata)) {
        Ok(size) if size > 0 => size,
        _ => fs::read_dir(&folder).map_or(0, |entries| entries.count() as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_used_something() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.rss_bytes > 100_000 && usage.voluntary_switches + usage.involuntary_switches > 0, "{usage:?}");
        assert!(usage.tasks >= 1 && usage.descriptors >= 3, "{usage:?}");
    }
}
