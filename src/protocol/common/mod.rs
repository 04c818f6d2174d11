//! What several protocols share.
pub mod auth;
pub mod hex;
pub mod random;
pub mod sdp;
pub mod source;
pub mod url;

/// The header that tells which two HTTP requests are the halves of one RTSP tunnel.
pub const TUNNEL_COOKIE: &str = "x-sessioncookie";
