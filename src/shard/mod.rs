//! Where they meet.
pub mod message;
