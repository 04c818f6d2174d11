//! Whether the shards live: their heartbeats, watched from outside.
//!
//! A shard's heartbeat is a counter that grows at least every 200 ms. [`watch`] looks at all of them every [`PERIOD_MS`] and keeps how
//! long each has stood still. Time during which this thread itself did not run (a suspended machine) is not held against a shard.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::shard::message::ShardId;

/// A shard whose heartbeat stands still for longer is reported.
pub const STILL_MS_MAX: u64 = 2_000;
/// Between two looks.
const PERIOD_MS: u64 = 250;

/// What the watchdog knows; read by `/healthz` and the API.
#[derive(Debug)]
pub struct Health {
    heartbeats: Arc<[AtomicU64]>,
    /// Per shard: for how long its heartbeat has not moved.
    still_ms: Box<[AtomicU64]>,
    draining: AtomicBool,
}

/// What a look at one heartbeat brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// It has now stood still for longer than [`STILL_MS_MAX`].
    Stopped(ShardId),
    /// It moves again, after so many milliseconds.
    Recovered(ShardId, u64),
}

impl Health {
    pub fn new(heartbeats: Arc<[AtomicU64]>) -> Self {
        let still_ms = heartbeats.iter().map(|_| AtomicU64::new(0)).collect();
        Health { heartbeats, still_ms, draining: AtomicBool::new(false) }
    }

    /// Shards end from now on, so a heartbeat that stops is no fault.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// For how long the heartbeat of `shard` has not moved, in milliseconds.
    pub fn still_ms(&self, shard: ShardId) -> u64 {
        self.still_ms.get(usize::from(shard)).map_or(0, |still| still.load(Ordering::Relaxed))
    }

    /// The shards that stand still, with the time.
    pub fn stopped(&self) -> Vec<(ShardId, u64)> {
        (0..)
            .zip(&self.still_ms)
            .map(|(shard, still)| (shard, still.load(Ordering::Relaxed)))
            .filter(|(_, ms)| *ms > STILL_MS_MAX)
            .collect()
    }

    /// One look, `passed_ms` after the last one. `seen`: the heartbeats then.
    fn look(&self, seen: &mut [u64], passed_ms: u64) -> Vec<Change> {
        let mut changes = Vec::new();
        for (shard, ((beat, still), seen)) in (0..).zip(self.heartbeats.iter().zip(&self.still_ms).zip(seen)) {
            let beat = beat.load(Ordering::Relaxed);
            let before = still.load(Ordering::Relaxed);
            if beat != *seen {
                *seen = beat;
                still.store(0, Ordering::Relaxed);
                if before > STILL_MS_MAX {
                    changes.push(Change::Recovered(shard, before));
                }
                continue;
            }
            let after = before + passed_ms.min(2 * PERIOD_MS);
            still.store(after, Ordering::Relaxed);
            if before <= STILL_MS_MAX && after > STILL_MS_MAX {
                changes.push(Change::Stopped(shard));
            }
        }
        changes
    }
}

/// Looks until the end of the process; logs each shard that stops and each that recovers, once.
pub async fn watch(health: Arc<Health>) {
    let mut seen: Vec<u64> = health.heartbeats.iter().map(|beat| beat.load(Ordering::Relaxed)).collect();
    let mut last = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(PERIOD_MS)).await;
        let passed_ms = u64::try_from(last.elapsed().as_millis()).unwrap_or(u64::MAX);
        last = tokio::time::Instant::now();
        for change in health.look(&mut seen, passed_ms) {
            match change {
                _ if health.is_draining() => {}
                Change::Stopped(shard) => log::warn!("shard {shard} stands still: no heartbeat for more than {STILL_MS_MAX} ms"),
                Change::Recovered(shard, ms) => log::warn!("shard {shard} runs again after {ms} ms"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_still_heartbeat_is_reported_once_and_again_when_it_moves() {
        let beats: Arc<[AtomicU64]> = (0..2).map(|_| AtomicU64::new(5)).collect();
        let health = Health::new(beats.clone());
        let mut seen = vec![5, 5];
        let mut changes = Vec::new();
        for _ in 0..12 {
            beats[0].fetch_add(1, Ordering::Relaxed);
            changes.extend(health.look(&mut seen, PERIOD_MS));
        }
        assert_eq!(changes, [Change::Stopped(1)]);
        assert_eq!((health.still_ms(0), health.stopped()), (0, vec![(1, 3_000)]));
        beats[1].fetch_add(1, Ordering::Relaxed);
        assert_eq!(health.look(&mut seen, PERIOD_MS)[..], [Change::Recovered(1, 3_000)]);
        assert_eq!(health.stopped(), []);
    }

    #[test]
    fn a_suspended_machine_is_no_fault_of_a_shard() {
        let health = Health::new((0..1).map(|_| AtomicU64::new(0)).collect());
        assert_eq!(health.look(&mut [0], 3_600_000), []);
        assert_eq!(health.still_ms(0), 2 * PERIOD_MS);
    }
}
