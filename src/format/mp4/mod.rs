//! MP4: init segments, fragments, whole files, and all of them read.
//!
//! ISO/IEC 14496-12 (boxes, fragments), 14496-14 (`mp4a`), 14496-15 (`avc1`, `hvc1`); the bindings of AV1, VP8/VP9 and Opus; `alaw` and `ulaw` as
//! QuickTime has them.
//!
//! | module | turns | into |
//! |---|---|---|
//! | [`init`] | tracks | `ftyp` and `moov` in front of fragments |
//! | [`fragment`] | samples | `moof` and `mdat`, without a copy of the samples |
//! | [`mux`] | a stream's events | packets for viewers: the two above in an envelope |
//! | [`demux`] | a file, fragmented or not | tracks and tables of samples |
//! | [`mod@file`] | tables of samples | the head of a plain file, and what to copy behind it |
//!
//! Times are ticks of the track: 90 kHz for pictures, the sample rate for sound. A tick is the absolute time in microseconds, rounded, so
//! that errors never add up.
//!
//! H.264 and H.265 are always `avc1` and `hvc1`, whose parameter sets stand in the sample entry: a stream whose sets change has new tracks,
//! and so a new init segment. Sets that the frames repeat are left in place, as every decoder takes them. The demuxer reads `avc3` and `hev1` too.
//!
//! Live there is no edit list, with or without B-frames: a viewer may begin anywhere, times are those of the stream, and each sample says by its
//! composition offset when it is shown. Files begin at zero: in a recording and in a plain file an edit list takes away what B-frames put in front.
//!
//! Not here: playlists, files on disks, encryption, subtitles.

mod boxes;
mod carried;
mod clock;
pub mod demux;
pub mod file;
pub mod fragment;
pub mod init;
pub mod mux;
mod sample_entry;
#[cfg(test)]
mod testing;

pub use fragment::{Fragment, FragmentParts, FragmentWriter, Sample};
pub use init::{init_segment, init_segment_from};
pub use mux::{Fmp4Muxer, FragmentMode};

/// Ticks per second of every picture's track.
pub const VIDEO_TIMESCALE: u32 = 90_000;
