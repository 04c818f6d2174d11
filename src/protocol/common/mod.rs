//! What several protocols share.
pub mod auth;
pub mod hex;
pub mod random;
pub mod ranges;
pub mod sdp;
pub mod segment_names;
pub mod source;
pub mod url;
pub mod utc;

/// The header that tells which two HTTP requests are the halves of one RTSP tunnel.
pub const TUNNEL_COOKIE: &str = "x-sessioncookie";
