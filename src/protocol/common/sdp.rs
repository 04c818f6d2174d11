//! Session descriptions (SDP) ⇄ payload formats of tracks.
//!
//! RFC 8866 (lines and attributes), RFC 3551 §6 (static payload types), and for `rtpmap` and `fmtp`: RFC 6184 §8.1 (H.264), RFC 7798 §7.1
//! (H.265), RFC 3640 §4.1 (mpeg4-generic), RFC 6416 §7.3 (LATM), RFC 7587 §6.1 (Opus), RFC 2326 appendix C (control, range).
//!
//! [`parse`] takes what encoders and cameras really send: either line end, missing lines, unknown lines, any case, base64 with or
//! without padding. What cannot be received is kept, so that the sections can still be counted and named. [`write()`] says how our own
//! packets stand, by `format::rtp::payload::outgoing`.
//!
//! Limits: [`TEXT_BYTES_MAX`]; [`MEDIA_MAX`] sections; [`PAYLOAD_TYPES_MAX`] and [`ATTRIBUTES_MAX`] of each section, the latter of
//! [`ATTRIBUTE_BYTES_MAX`]; [`CONTROL_BYTES_MAX`]. A [`Description`] owns what it says. Not here: control URLs and how they are resolved.

mod encoding;
mod read;
mod write;

use crate::format::rtp::RtpPayload;
use crate::media::TrackKind;

pub use read::parse;
pub use write::write;

/// A longer text is not read: each payload type is looked up in all of it.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

/// The most `m=` sections that are read.
pub const MEDIA_MAX: usize = 16;

/// Payload types of a section after this many are ignored.
pub const PAYLOAD_TYPES_MAX: usize = 64;

/// `rtpmap` and `fmtp` lines of a section after this many, each, are ignored.
pub const ATTRIBUTES_MAX: usize = 64;

/// A longer `rtpmap` or `fmtp` is ignored: it would be read for every section.
pub const ATTRIBUTE_BYTES_MAX: usize = 8 * 1024;

/// A longer `control` counts as absent.
pub const CONTROL_BYTES_MAX: usize = 1024;

/// What a description offers, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Description {
    /// Of the whole session (`a=control` before the first `m=`).
    pub control: Option<String>,
    pub media: Vec<Media>,
}

/// One `m=` section.
#[derive(Clone, Debug, PartialEq)]
pub struct Media {
    /// `None`: neither audio nor video.
    pub kind: Option<TrackKind>,
    pub control: Option<String>,
    /// Of the first payload type that can be received; else what is wrong with the first.
    pub payload: Result<RtpPayload, Unusable>,
}

/// Why a section cannot be received.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("{0} is not carried")]
    Codec(String),
    #[error("interleaved packetization (mode 2) is not supported")]
    Interleaved,
    #[error("the section's parameters cannot be read")]
    Parameters,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    #[error("no session description")]
    NotSdp,
    #[error("a session description may have {TEXT_BYTES_MAX} bytes at most")]
    TooLong,
    #[error("more than {MEDIA_MAX} media sections")]
    TooManyMedia,
}

#[cfg(test)]
mod tests;
