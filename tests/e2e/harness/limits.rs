//! The limits of the test process itself.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::skip;

/// What the other tests of this process may have open at the same time.
const OTHER_FILES: u64 = 2_000;

/// For a test that opens `count` files by itself: one such test at a time, or two would ask for more than a process may have. `None`:
/// so many are not allowed here.
pub fn many_files(count: u64) -> Option<MutexGuard<'static, ()>> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let files = raise_file_limit();
    if files < count + OTHER_FILES {
        skip(&format!("only {files} open files are allowed"));
        return None;
    }
    // A failure of another test says nothing of this one.
    Some(ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Allows this process as many files as it may have; says how many.
fn raise_file_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for both calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
    limit.rlim_cur
}
