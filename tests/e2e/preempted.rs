//! Shards that lose their cores again and again, at the worst moments: they always wake up again.
//!
//! A real-time hog per core takes the processor for a millisecond or three at a time. The io_uring runtime once went to sleep for good
//! when that happened between two of its steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::harness::api::request;
use crate::harness::{Options, Runtime, Server, skip};

on_both_runtimes!(shards_wake_up_again);

const HOG_TIME: Duration = Duration::from_secs(12);
/// The watchdog speaks of a shard that has not moved for two seconds.
const WATCHDOG_TIME: Duration = Duration::from_millis(2_500);

/// Busy for 1 to 3 ms, idle for 0.5 to 3 ms, until told to stop. `None`: this process may not use real-time priority.
fn hog(core: usize, stop: Arc<AtomicBool>) -> Option<JoinHandle<()>> {
    let (ready, allowed) = std::sync::mpsc::channel();
    let thread = thread::spawn(move || {
        ready.send(take_core(core)).unwrap();
        let mut random = 88_172_645_463_325_252_u64 + core as u64;
        while !stop.load(Ordering::Relaxed) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let until = Instant::now() + Duration::from_micros(1_100 + random % 1_900);
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            thread::sleep(Duration::from_micros(500 + (random >> 32) % 2_500));
        }
    });
    allowed.recv().unwrap().then_some(thread)
}

fn take_core(core: usize) -> bool {
    let priority = libc::sched_param { sched_priority: 50 };
    // SAFETY: both structures are valid for the calls; they concern this thread only.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) == 0
            && libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) == 0
    }
}

fn shards_wake_up_again(runtime: Runtime) {
    let server = Server::start(Options::new(runtime).shards(8));
    let stop = Arc::new(AtomicBool::new(false));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let hogs: Vec<_> = (0..cores).map(|core| hog(core, stop.clone())).collect();
    if hogs.iter().any(Option::is_none) {
        stop.store(true, Ordering::Relaxed);
        return skip("real-time priority is not allowed here");
    }
    // Nothing is asked of the server meanwhile: a question would wake its shards.
    thread::sleep(HOG_TIME);
    stop.store(true, Ordering::Relaxed);
    hogs.into_iter().flatten().for_each(|hog| hog.join().unwrap());
    thread::sleep(WATCHDOG_TIME);
    assert!(!server.log().contains("stands still"), "{}", server.log());
    let answer = request(server.control, "GET", "/healthz", &[]);
    assert_eq!(answer.status, 200, "{}", answer.text());
}
