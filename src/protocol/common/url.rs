//! URLs
