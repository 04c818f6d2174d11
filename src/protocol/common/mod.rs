//! What several protocols share.
pub mod url;
