//! GB/T 28181: media and signalling of cameras and platforms.
//!
//! [`receiver`] takes RTP on a port that was asked for: through the API, or by a call of [`platform`], which devices register with.
//! [`sender`] sends a stream as such a sender would.

pub mod cascade;
pub mod manscdp;
pub mod mansrtsp;
pub mod moment;
pub mod platform;
pub mod ptz;
pub mod receiver;
pub mod sdp;
pub mod sender;
pub mod sip;
#[cfg(test)]
mod tests;
