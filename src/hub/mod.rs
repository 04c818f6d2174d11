//! One to many.
pub mod stats;
