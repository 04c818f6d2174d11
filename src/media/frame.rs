//! `Frame` and `MediaEvent`: the one thing that flows; `Discard`: why something did not.

use bytes::Bytes;

use super::{MediaTime, Stamp, TrackId, Tracks};

/// One access unit of one track. Cloning shares the payload.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Canonical payload, see [`crate::media`].
    pub data: Bytes,
    /// When the frame's last byte was read from the kernel: the start of the latency that the server answers for.
    pub arrival: Stamp,
    /// Decoding time.
    pub dts: MediaTime,
    /// Presentation time minus decoding time, in microseconds.
    pub cts: i32,
    /// Counts the publishers of the stream so far: it grows when an encoder reconnects. Set by the stream, not by demuxers.
    pub segment: u32,
    pub track: TrackId,
    /// Decoding may begin here. Always true for audio and data.
    pub key: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum MediaEvent {
    /// The whole set of tracks, sent first and again whenever one appears or changes.
    Tracks(Tracks),
    Frame(Frame),
    /// Nothing follows.
    End,
}

/// Why a piece of a publisher's media was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Discard {
    /// A codec that the server does not carry.
    UnknownCodec,
    /// A frame whose inner structure is broken.
    BrokenFrame,
    /// A second track of the same kind.
    ExtraTrack,
    /// A frame before its decoder configuration.
    NoConfig,
    /// A frame of which packets were lost on the network.
    Incomplete,
    /// A complete frame behind a loss, left out because the operator wants no picture that may refer to what is missing.
    AfterLoss,
}

impl Discard {
    pub const ALL: [Discard; 6] = [
        Discard::UnknownCodec,
        Discard::BrokenFrame,
        Discard::ExtraTrack,
        Discard::NoConfig,
        Discard::Incomplete,
        Discard::AfterLoss,
    ];

    pub const fn label(self) -> &'static str {
        match self {
            Discard::UnknownCodec => "unknown_codec",
            Discard::BrokenFrame => "broken_frame",
            Discard::ExtraTrack => "extra_track",
            Discard::NoConfig => "no_config",
            Discard::Incomplete => "incomplete",
            Discard::AfterLoss => "after_loss",
        }
    }
}
