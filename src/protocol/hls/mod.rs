//! HLS: streams cut into segments and parts that players fetch over HTTP, and the playlists that list them.
//!
//! RFC 8216 and its second edition (draft-pantos-hls-rfc8216bis, "bis" in comments: low latency, delta updates, blocking reload). One
//! [`Shelf`] per stream takes the stream's events and answers requests, at once or when it can; it is made when somebody asks first.
//!
//! | file | holds |
//! |---|---|
//! | `cutter` | times of frames → where parts and segments end |
//! | `packager` | frames → fragments, segments, discontinuities, MPEG-TS |
//! | `window` | the segments that can be fetched; limits |
//! | `playlist` | segments → text |
//! | `shelf` | requests → answers, playlists kept and compressed |
//!
//! Segments are fMP4 that shares the frames' memory, with parts for low latency; the same segments are written as MPEG-TS while somebody asks
//! for those. Numbers of segments begin at the seconds since 1970, so that they go on where a stream comes again; that no address is used twice is
//! the doing of the epoch in it.
//!
//! Not here: HTTP, who waits for what (`shard/segments.rs`), files.

mod cutter;
mod packager;
mod playlist;
mod shelf;
mod window;

pub use shelf::{Holdings, Reply, Shelf};

use crate::config::Hls;

/// What of the configuration a packager needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub segment_ms: u64,
    pub part_ms: u64,
    pub segments: usize,
    pub idle_ms: u64,
    pub bytes_max: usize,
}

impl From<&Hls> for Settings {
    fn from(config: &Hls) -> Self {
        Settings {
            segment_ms: config.segment_ms,
            part_ms: config.part_ms,
            segments: config.segments,
            idle_ms: config.idle_ms,
            bytes_max: config.bytes_max,
        }
    }
}

#[cfg(test)]
mod tests;
