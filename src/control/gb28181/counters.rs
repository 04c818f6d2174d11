//! What is counted of SIP, for `/metrics`. Sums since the start; written by the host of the platform, read by scrapes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What carries a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Udp,
    Tcp,
}

impl Way {
    pub const ALL: [Way; 2] = [Way::Udp, Way::Tcp];

    pub const fn label(self) -> &'static str {
        match self {
            Way::Udp => "udp",
            Way::Tcp => "tcp",
        }
    }
}

#[derive(Debug, Default)]
pub struct Counters {
    received: [AtomicU64; 2],
    sent: [AtomicU64; 2],
    /// Messages and connections that the transport dropped, by reason.
    dropped: ByReason,
    /// What the platform has refused, by reason.
    refused: ByReason,
    connections: AtomicU64,
    /// Lines of the log that were left out.
    notes_left_out: AtomicU64,
}

#[derive(Debug, Default)]
struct ByReason(Mutex<BTreeMap<&'static str, u64>>);

impl ByReason {
    fn add(&self, reason: &'static str) {
        // A panic elsewhere leaves sums behind that are at worst one short.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
    }

    fn all(&self) -> Vec<(&'static str, u64)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(reason, count)| (*reason, *count)).collect()
    }
}

impl Counters {
    pub fn received(&self, way: Way) {
        self.received[way as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn sent(&self, way: Way) {
        self.sent[way as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn dropped(&self, reason: &'static str) {
        self.dropped.add(reason);
    }

    pub fn refused(&self, reason: &'static str) {
        self.refused.add(reason);
    }

    pub fn note_left_out(&self) {
        self.notes_left_out.fetch_add(1, Ordering::Relaxed);
    }

    pub fn set_connections(&self, count: usize) {
        self.connections.store(count as u64, Ordering::Relaxed);
    }

    pub fn view(&self) -> CountersView {
        let both = |counts: &[AtomicU64; 2]| Way::ALL.map(|way| (way.label(), counts[way as usize].load(Ordering::Relaxed)));
        CountersView {
            received: both(&self.received),
            sent: both(&self.sent),
            dropped: self.dropped.all(),
            refused: self.refused.all(),
            connections: self.connections.load(Ordering::Relaxed),
            notes_left_out: self.notes_left_out.load(Ordering::Relaxed),
        }
    }
}

/// One look at the counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountersView {
    pub received: [(&'static str, u64); 2],
    pub sent: [(&'static str, u64); 2],
    pub dropped: Vec<(&'static str, u64)>,
    pub refused: Vec<(&'static str, u64)>,
    pub connections: u64,
    pub notes_left_out: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_kept_by_way_and_reason() {
        let counters = Counters::default();
        counters.received(Way::Udp);
        counters.received(Way::Tcp);
        counters.received(Way::Tcp);
        counters.sent(Way::Udp);
        for reason in ["not_taken", "no_route", "not_taken"] {
            counters.dropped(reason);
        }
        counters.refused("wrong_password");
        counters.set_connections(3);
        let expected = CountersView {
            received: [("udp", 1), ("tcp", 2)],
            sent: [("udp", 1), ("tcp", 0)],
            dropped: vec![("no_route", 1), ("not_taken", 2)],
            refused: vec![("wrong_password", 1)],
            connections: 3,
            notes_left_out: 0,
        };
        assert_eq!(counters.view(), expected);
    }
}
