//! GB/T 28181: media of cameras and platforms.
//!
//! [`receiver`] takes RTP on a port that was asked for through the API: an external SIP platform negotiates, and sends the camera there.
//! Not here: SIP.

pub mod receiver;
#[cfg(test)]
mod tests;
