//! Which shard owns which stream: the one map that all shards share.
//!
//! Touched when a stream begins or ends and when a shard first watches a stream, never per frame.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::session::StreamKey;

type ShardId = u16;

#[derive(Debug, Default)]
pub struct Directory {
    owners: Mutex<HashMap<StreamKey, ShardId>>,
}

/// What [`Directory::claim`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The name is the caller's, now or already.
    Owned,
    /// Another shard owns it.
    HeldBy(ShardId),
}

impl Directory {
    pub fn claim(&self, key: &StreamKey, shard: ShardId) -> Claim {
        match *self.owners().entry(key.clone()).or_insert(shard) {
            owner if owner == shard => Claim::Owned,
            owner => Claim::HeldBy(owner),
        }
    }

    pub fn owner(&self, key: &StreamKey) -> Option<ShardId> {
        self.owners().get(key).copied()
    }

    /// Gives the name up if `shard` owns it.
    pub fn release(&self, key: &StreamKey, shard: ShardId) {
        let mut owners = self.owners();
        if owners.get(key) == Some(&shard) {
            owners.remove(key);
        }
    }

    /// A panic elsewhere cannot leave the map half changed: each change is one call.
    fn owners(&self) -> MutexGuard<'_, HashMap<StreamKey, ShardId>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_claim_wins_until_released() {
        let directory = Directory::default();
        let key = StreamKey::parse("live/a").unwrap();
        assert_eq!(directory.claim(&key, 1), Claim::Owned);
        assert_eq!(directory.claim(&key, 1), Claim::Owned);
        assert_eq!(directory.claim(&key, 2), Claim::HeldBy(1));
        directory.release(&key, 2);
        assert_eq!(directory.owner(&key), Some(1));
        directory.release(&key, 1);
        assert_eq!(directory.owner(&key), None);
        assert_eq!(directory.claim(&key, 2), Claim::Owned);
    }
}
