//! Where they meet: one shard per core runs sessions, owns streams and sends to viewers.

pub mod cluster;
pub mod conn;
pub mod core;
#[cfg(test)]
mod datagram_tests;
#[cfg(test)]
mod day_tests;
mod demand;
#[cfg(test)]
mod demand_tests;
pub mod driver;
mod flush;
mod groups;
mod held;
pub mod message;
#[cfg(test)]
mod move_tests;
mod pairs;
mod passes;
mod ports;
mod pre_roll;
#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod reception_tests;
mod receptions;
#[cfg(test)]
mod recorder_tests;
mod recorders;
#[cfg(test)]
mod round_tests;
#[cfg(test)]
mod segment_tests;
mod segments;
#[cfg(test)]
mod sending_tests;
mod sendings;
mod shared;
mod shared_ports;
#[cfg(test)]
mod shared_tests;
#[cfg(test)]
mod sim;
mod snapshot;
#[cfg(test)]
mod steady_tests;
pub mod streams;
mod taps;
#[cfg(test)]
mod tests;
mod tunnels;
mod udp;

pub use cluster::{Cluster, StartError, certificates, start};
