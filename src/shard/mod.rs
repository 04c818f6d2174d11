//! Where they meet: one shard per core runs sessions, owns streams and sends to viewers.

pub mod cluster;
pub mod conn;
pub mod core;
#[cfg(test)]
mod day_tests;
pub mod driver;
mod flush;
pub mod message;
#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod sim;
mod snapshot;
pub mod streams;
#[cfg(test)]
mod tests;

pub use cluster::{Cluster, StartError, start};
