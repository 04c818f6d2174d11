//! What the control plane remembers of each shard between two answers: its CPU share and its longest recent stall.
//!
//! A shard forgets its recent stall once it has told it, whoever asked; so every snapshot passes through here, and only
//! `GET /api/v1/shards` takes what has gathered. Not here: asking.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::shard::message::{ShardId, ShardSnapshot};

/// Answers that follow each other faster repeat the load: over a shorter time it would be noise.
const LOAD_PERIOD: Duration = Duration::from_millis(100);

/// The memory, indexed by [`ShardId`].
#[derive(Debug)]
pub struct Loads(Vec<Load>);

#[derive(Clone, Debug)]
struct Load {
    measured: Instant,
    cpu_micros: u64,
    /// CPU seconds per second between the last two measurements.
    share: f64,
    stall_micros_recent: u64,
}

impl Loads {
    pub fn new(shards: usize, now: Instant) -> Self {
        Loads(vec![Load { measured: now, cpu_micros: 0, share: 0.0, stall_micros_recent: 0 }; shards])
    }

    /// Keeps what a snapshot tells only once.
    pub fn note(&mut self, snapshot: &ShardSnapshot) {
        if let Some(load) = self.0.get_mut(usize::from(snapshot.shard)) {
            load.stall_micros_recent = load.stall_micros_recent.max(snapshot.stall_micros_max_recent);
        }
    }

    /// The share of one CPU since the previous call, and the longest stall since then, in microseconds.
    fn take(&mut self, snapshot: &ShardSnapshot, now: Instant) -> (f64, u64) {
        self.note(snapshot);
        let Some(load) = self.0.get_mut(usize::from(snapshot.shard)) else { return (0.0, snapshot.stall_micros_max_recent) };
        let passed = now.saturating_duration_since(load.measured);
        if passed >= LOAD_PERIOD {
            load.share = snapshot.cpu_micros.saturating_sub(load.cpu_micros) as f64 / passed.as_micros() as f64;
            load.measured = now;
            load.cpu_micros = snapshot.cpu_micros;
        }
        (load.share, std::mem::take(&mut load.stall_micros_recent))
    }

    /// One shard as the API shows it; `None`: it did not answer.
    pub fn view(&mut self, shard: ShardId, snapshot: Option<ShardSnapshot>, still_ms: u64, now: Instant) -> ShardView {
        let state = snapshot.map(|snapshot| {
            let (load, stall_micros_recent) = self.take(&snapshot, now);
            ShardState::new(&snapshot, load, stall_micros_recent)
        });
        ShardView { shard, answers: state.is_some(), heartbeat_age_ms: still_ms, state }
    }
}

#[derive(Debug, Serialize)]
pub struct ShardView {
    shard: ShardId,
    answers: bool,
    heartbeat_age_ms: u64,
    #[serde(flatten)]
    state: Option<ShardState>,
}

#[derive(Debug, Serialize)]
struct ShardState {
    runtime: &'static str,
    core: Option<usize>,
    load: f64,
    cpu_seconds: f64,
    stall_ms_max: f64,
    stall_ms_max_recent: f64,
    connections: u64,
    streams: u64,
    viewers: u64,
    accepted: u64,
    refused: u64,
    accept_pauses: u64,
    panics: u64,
    lane_full: u64,
    reports_dropped: u64,
    stray_datagrams: u64,
    stray_connections: u64,
    shared_kernel_drops: u64,
    bytes_in: u64,
    bytes_out: u64,
    session_errors: Vec<SessionErrorView>,
}

#[derive(Debug, Serialize)]
struct SessionErrorView {
    protocol: &'static str,
    reason: &'static str,
    count: u64,
}

impl ShardState {
    fn new(snapshot: &ShardSnapshot, load: f64, stall_micros_recent: u64) -> Self {
        let errors = snapshot.session_errors.iter();
        ShardState {
            runtime: snapshot.runtime,
            core: snapshot.core,
            load: (load * 10_000.0).round() / 10_000.0,
            cpu_seconds: snapshot.cpu_micros as f64 / 1e6,
            stall_ms_max: snapshot.stall_micros_max as f64 / 1e3,
            stall_ms_max_recent: stall_micros_recent as f64 / 1e3,
            connections: snapshot.connections,
            streams: snapshot.streams,
            viewers: snapshot.viewers,
            accepted: snapshot.accepted,
            refused: snapshot.refused,
            accept_pauses: snapshot.accept_pauses,
            panics: snapshot.panics,
            lane_full: snapshot.lane_full,
            reports_dropped: snapshot.reports_dropped,
            stray_datagrams: snapshot.stray_datagrams,
            stray_connections: snapshot.stray_connections,
            shared_kernel_drops: snapshot.shared_kernel_drops,
            bytes_in: snapshot.bytes_in,
            bytes_out: snapshot.bytes_out,
            session_errors: errors
                .map(|(protocol, reason, count)| SessionErrorView { protocol, reason, count: *count })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_the_cpu_share_since_the_previous_answer() {
        let start = Instant::now();
        let mut loads = Loads::new(1, start);
        let at = |ms| start + Duration::from_millis(ms);
        let snapshot = |cpu_ms: u64| ShardSnapshot { cpu_micros: cpu_ms * 1000, ..ShardSnapshot::default() };
        assert_eq!(loads.take(&snapshot(500), at(1_000)).0, 0.5);
        assert_eq!(loads.take(&snapshot(501), at(1_010)).0, 0.5, "too soon: repeated");
        assert_eq!(loads.take(&snapshot(1_500), at(2_000)).0, 1.0);
    }

    #[test]
    fn a_stall_told_to_metrics_still_reaches_the_api_once() {
        let mut loads = Loads::new(1, Instant::now());
        let snapshot = |recent| ShardSnapshot { stall_micros_max_recent: recent, ..ShardSnapshot::default() };
        loads.note(&snapshot(900));
        assert_eq!(loads.take(&snapshot(10), Instant::now()).1, 900);
        assert_eq!(loads.take(&snapshot(20), Instant::now()).1, 20);
    }
}
