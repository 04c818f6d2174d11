//! The client side of RTSP 1.0 (RFC 2326) and RTP (RFC 3550), written for this program so that it measures any server.
//!
//! `message` cuts and writes messages, `sdp` reads and writes descriptions, `client` asks for a stream or announces one, `packetizer`
//! makes RTP of access units, `rtcp` writes and reads reports, `datagrams` is the UDP sockets, `link` holds them
//! together. What is received is looked at in
//! [`crate::scan::rtp`]. Not here: passwords, TLS, multicast, tunnels.

pub mod client;
pub mod datagrams;
pub mod link;
pub mod message;
pub mod packetizer;
pub mod rtcp;
pub mod sdp;

/// Ticks of a video track's timestamp per second (RFC 6184 §8.2.1).
pub const VIDEO_CLOCK: u32 = 90_000;

/// What a track carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Video,
    Audio,
}
