//! How many wrong passwords have come from an address in this minute.
//!
//! A table of fixed size without locks, shared by the shards: each slot is one atomic number with a part of the address's hash, the minute,
//! and the count. Two addresses on one slot replace each other: then both may try a little longer, and nobody is refused for another's
//! failures (but once in a million pairs). IPv6 addresses count by their first 64 bits, which one customer has.
//!
//! Minutes are those of the clock, not of the address. Not here: what is a failure, and how many are too many.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::media::Stamp;

const SLOT_BITS: u32 = 12;
const MINUTE_NANOS: u64 = 60_000_000_000;

/// A slot: tag (20 bits), minute (24), count (20). The tag is what of a hash the slot's index does not say.
const COUNT_BITS: u32 = 20;
const MINUTE_BITS: u32 = 24;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

pub(crate) struct Guard {
    slots: Box<[AtomicU64]>,
}

impl Default for Guard {
    fn default() -> Self {
        Guard { slots: (0..1 << SLOT_BITS).map(|_| AtomicU64::new(0)).collect() }
    }
}

/// The bytes of an address that count.
pub(crate) fn network(peer: IpAddr) -> [u8; 9] {
    let mut bytes = [0; 9];
    match peer.to_canonical() {
        IpAddr::V4(address) => {
            bytes[0] = 4;
            bytes[1..5].copy_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            bytes[0] = 6;
            bytes[1..].copy_from_slice(&address.octets()[..8]);
        }
    }
    bytes
}

impl Guard {
    /// Failures in this minute, 1,048,575 at most. `hash`: of the peer's [`network`], with a key that nobody knows.
    pub fn failures(&self, now: Stamp, hash: u32) -> u32 {
        let slot = self.slot(hash).load(Ordering::Relaxed);
        if slot >> COUNT_BITS == owner(now, hash) { (slot & COUNT_MAX) as u32 } else { 0 }
    }

    pub fn add_failure(&self, now: Stamp, hash: u32) {
        let owner = owner(now, hash);
        let count = |slot: u64| if slot >> COUNT_BITS == owner { (slot & COUNT_MAX) + 1 } else { 1 };
        let add = |slot| Some(owner << COUNT_BITS | count(slot).min(COUNT_MAX));
        // `add` never says no.
        let _ = self.slot(hash).fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    fn slot(&self, hash: u32) -> &AtomicU64 {
        &self.slots[(hash & ((1 << SLOT_BITS) - 1)) as usize]
    }
}

/// Tag and minute.
fn owner(now: Stamp, hash: u32) -> u64 {
    let minute = (now.as_nanos() / MINUTE_NANOS) & ((1 << MINUTE_BITS) - 1);
    u64::from(hash >> SLOT_BITS) << MINUTE_BITS | minute
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_count_for_a_minute() {
        let guard = Guard::default();
        let at = |seconds: u64| Stamp::from_millis(seconds * 1000);
        assert_eq!(guard.failures(at(0), 0), 0);
        for _ in 0..3 {
            guard.add_failure(at(61), 7);
        }
        let cases = [("now", 61, 7, 3), ("at the end", 119, 7, 3), ("the next minute", 120, 7, 0), ("another slot", 61, 8, 0)];
        for (name, seconds, hash, expected) in cases {
            assert_eq!(guard.failures(at(seconds), hash), expected, "{name}");
        }
        guard.add_failure(at(120), 7);
        assert_eq!(guard.failures(at(121), 7), 1, "begins anew");
        let same_slot = 7 | 1 << SLOT_BITS;
        assert_eq!(guard.failures(at(121), same_slot), 0, "not for another's");
        guard.add_failure(at(121), same_slot);
        assert_eq!((guard.failures(at(121), same_slot), guard.failures(at(121), 7)), (1, 0), "replaced");
    }

    #[test]
    fn counts_stop_at_their_end() {
        let guard = Guard::default();
        let full = owner(Stamp::ZERO, u32::MAX) << COUNT_BITS | COUNT_MAX;
        guard.slot(u32::MAX).store(full, Ordering::Relaxed);
        guard.add_failure(Stamp::ZERO, u32::MAX);
        assert_eq!(u64::from(guard.failures(Stamp::ZERO, u32::MAX)), COUNT_MAX);
    }

    #[test]
    fn networks() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:0:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("4.0.0.0"), of("400::"));
    }
}
