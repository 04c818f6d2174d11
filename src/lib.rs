//! Shardcast: a real-time audio/video live server. `docs/ARCHITECTURE.md` tells how the parts fit; imports go one way, from the
//! top of this list to the bottom.

pub mod media;

pub mod format;

pub mod session;

pub mod protocol;

pub mod hub;

pub mod io;

pub mod disk;

pub mod shard;

pub mod config;
pub mod control;
