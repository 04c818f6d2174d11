//! The `shardcast` program.
fn main() {}
