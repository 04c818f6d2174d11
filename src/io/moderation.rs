//! Wake-ups of a busy shard, spaced as a network card spaces its interrupts.
//!
//! Where packets come one by one from hundreds of sources, a thread that sleeps and wakes for each pays more for that than for the packets.
//! So a thread that has woken for longer than a moment more often than once per [`INTERVAL`] sleeps out the rest of the interval first, and
//! then takes everything that has come. A thread with less to do never waits: it may wake [`BURST`] times at any pace. The rule is that
//! of a leaky bucket as a meter (GCRA, ITU-T I.371).
//!
//! On io_uring packets would end such a sleep, one by one, if completions were not deferred (Linux 6.1); then nothing is won or lost by it.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// What a packet to a busy shard waits at most.
const INTERVAL: Duration = Duration::from_micros(500);
/// Wake-ups in a row that are free.
const BURST: u32 = 16;

thread_local! {
    static METER: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// To be called before the thread waits for events.
pub fn before_waiting() {
    let now = Instant::now();
    let (wait, due) = next(METER.get().unwrap_or(now), now);
    METER.set(Some(due));
    if !wait.is_zero() {
        std::thread::sleep(wait);
    }
}

/// How long to wait when `now` is a wake-up and `due` was the meter's time; and its new time.
fn next(due: Instant, now: Instant) -> (Duration, Instant) {
    let due = due.max(now) + INTERVAL;
    (due.saturating_duration_since(now + INTERVAL * BURST), due)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wakes every `pace` for a second of virtual time; the wake-ups there were, and the longest wait.
    fn wakes(pace: Duration) -> (u32, Duration) {
        let start = Instant::now();
        let (mut now, mut due) = (start, start);
        let (mut count, mut longest) = (0, Duration::ZERO);
        while now < start + Duration::from_secs(1) {
            let wait;
            (wait, due) = next(due, now);
            (count, longest) = (count + 1, longest.max(wait));
            now += pace + wait;
        }
        (count, longest)
    }

    #[test]
    fn a_busy_thread_is_spaced_and_a_quiet_one_never_waits() {
        assert_eq!(wakes(Duration::from_micros(501)).1, Duration::ZERO);
        let (count, longest) = wakes(Duration::from_micros(10));
        assert!((2_000..2_000 + 2 * BURST).contains(&count), "{count}");
        assert!(longest <= INTERVAL, "{longest:?}");
    }

    #[test]
    fn a_burst_is_free() {
        let start = Instant::now();
        let mut due = start;
        for wake in 0..BURST {
            let wait;
            (wait, due) = next(due, start);
            assert_eq!(wait, Duration::ZERO, "wake-up {wake}");
        }
        assert_eq!(next(due, start).0, INTERVAL);
    }
}
