//! What several protocols share.
pub mod auth;
pub mod sdp;
pub mod url;
