//! Which shard owns which stream, and which has which tunnel: the only maps that all shards share.
//!
//! Touched when a stream begins or ends, when a shard first watches a stream, and when the halves of a tunnel meet; never per frame.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::session::StreamKey;

type ShardId = u16;

#[derive(Debug, Default)]
pub struct Directory {
    owners: Mutex<HashMap<StreamKey, ShardId>>,
    tunnels: Mutex<HashMap<Arc<str>, ShardId>>,
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

    /// `false`: the name is taken.
    pub fn open_tunnel(&self, name: &Arc<str>, shard: ShardId) -> bool {
        match self.tunnels().entry(name.clone()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(free) => {
                free.insert(shard);
                true
            }
        }
    }

    pub fn tunnel(&self, name: &str) -> Option<ShardId> {
        self.tunnels().get(name).copied()
    }

    pub fn close_tunnel(&self, name: &str) {
        self.tunnels().remove(name);
    }

    fn tunnels(&self) -> MutexGuard<'_, HashMap<Arc<str>, ShardId>> {
        self.tunnels.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn a_tunnel_has_one_opener() {
        let directory = Directory::default();
        let name: Arc<str> = "cookie".into();
        assert!(directory.open_tunnel(&name, 1));
        assert!(!directory.open_tunnel(&name, 2));
        assert_eq!(directory.tunnel("cookie"), Some(1));
        directory.close_tunnel("cookie");
        assert_eq!(directory.tunnel("cookie"), None);
    }

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
