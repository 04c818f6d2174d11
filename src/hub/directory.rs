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

    /// `None`: the name is taken.
    pub fn open_tunnel(self: &Arc<Self>, name: &Arc<str>, shard: ShardId) -> Option<Tunnel> {
        match self.tunnels().entry(name.clone()) {
            Entry::Occupied(_) => None,
            Entry::Vacant(free) => {
                free.insert(shard);
                Some(Tunnel { name: name.clone(), directory: self.clone() })
            }
        }
    }

    pub fn tunnel(&self, name: &str) -> Option<ShardId> {
        self.tunnels().get(name).copied()
    }

    fn tunnels(&self) -> MutexGuard<'_, HashMap<Arc<str>, ShardId>> {
        self.tunnels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A panic elsewhere cannot leave the map half changed: each change is one call.
    fn owners(&self) -> MutexGuard<'_, HashMap<StreamKey, ShardId>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of a tunnel that is open. It is free again when this is dropped, wherever its opener has got to.
#[derive(Debug)]
pub struct Tunnel {
    name: Arc<str>,
    directory: Arc<Directory>,
}

impl Tunnel {
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its opener goes to another shard.
    pub fn move_to(&self, shard: ShardId) {
        self.directory.tunnels().insert(self.name.clone(), shard);
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.directory.tunnels().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_has_one_opener() {
        let directory = Arc::new(Directory::default());
        let name: Arc<str> = "cookie".into();
        let tunnel = directory.open_tunnel(&name, 1).unwrap();
        assert!(directory.open_tunnel(&name, 2).is_none());
        assert_eq!(directory.tunnel("cookie"), Some(1));
        tunnel.move_to(2);
        assert_eq!(directory.tunnel("cookie"), Some(2));
        drop(tunnel);
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
