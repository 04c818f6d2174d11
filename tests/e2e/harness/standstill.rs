//! One thread of a process that stands still, as one does that a frozen disk holds in a system call; the others run on.
//!
//! By `ptrace`: whoever seizes a thread must also let it go, so a thread of its own does both.

use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

/// A thread that stands; goes on when this is dropped.
pub struct Standstill {
    release: Option<Sender<()>>,
    holder: Option<JoinHandle<()>>,
}

impl Standstill {
    /// `None`: the system does not allow it.
    pub fn of(pid: u32, thread: &str) -> Option<Self> {
        let tid = tid_of(pid, thread).unwrap_or_else(|| panic!("process {pid} has no thread {thread}"));
        let (release, released) = channel::<()>();
        let (seized, is_seized) = channel();
        let holder = std::thread::spawn(move || {
            let is_held = seize(tid);
            seized.send(is_held).unwrap();
            if is_held {
                // Until the other end is gone.
                let _ = released.recv();
                // SAFETY: takes no pointers.
                unsafe { libc::ptrace(libc::PTRACE_DETACH, tid, 0, 0) };
            }
        });
        is_seized.recv().unwrap().then_some(Standstill { release: Some(release), holder: Some(holder) })
    }
}

impl Drop for Standstill {
    fn drop(&mut self) {
        drop(self.release.take());
        if let Some(holder) = self.holder.take() {
            let _ = holder.join();
        }
    }
}

fn seize(tid: i32) -> bool {
    // SAFETY: no pointers but the status of `waitpid`, which is valid for the call.
    unsafe {
        let mut status = 0;
        libc::ptrace(libc::PTRACE_SEIZE, tid, 0, 0) == 0
            && libc::ptrace(libc::PTRACE_INTERRUPT, tid, 0, 0) == 0
            && libc::waitpid(tid, &raw mut status, libc::__WALL) == tid
    }
}

fn tid_of(pid: u32, thread: &str) -> Option<i32> {
    let mut tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    tasks.find_map(|task| {
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        (name.trim() == thread).then(|| task.file_name().to_str()?.parse().ok()).flatten()
    })
}
