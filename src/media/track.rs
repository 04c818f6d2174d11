//! Tracks: what a stream carries, and how each codec is set up.
//!
//! [`Tracks`] is shared between shards and cloned per event, so it is one reference count; a change makes a new set.

use std::sync::Arc;

use bytes::Bytes;

use super::h264::AvcConfig;
use super::h265::HevcConfig;

/// Names one track inside its stream. Demuxers hand them out in the order in which tracks appear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackId(pub u8);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TrackKind {
    Video,
    Audio,
    /// Script data that belongs to the stream's timeline (captions, cue points).
    Data,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    H264,
    H265,
    Av1,
    Vp8,
    Vp9,
    Aac,
    Opus,
    Mp3,
    G711A,
    G711U,
    Script,
}

impl Codec {
    pub const fn kind(self) -> TrackKind {
        match self {
            Codec::H264 | Codec::H265 | Codec::Av1 | Codec::Vp8 | Codec::Vp9 => TrackKind::Video,
            Codec::Aac | Codec::Opus | Codec::Mp3 | Codec::G711A | Codec::G711U => TrackKind::Audio,
            Codec::Script => TrackKind::Data,
        }
    }

    /// The name shown to operators, in the API and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Codec::H264 => "H264",
            Codec::H265 => "H265",
            Codec::Av1 => "AV1",
            Codec::Vp8 => "VP8",
            Codec::Vp9 => "VP9",
            Codec::Aac => "AAC",
            Codec::Opus => "Opus",
            Codec::Mp3 => "MP3",
            Codec::G711A => "G711A",
            Codec::G711U => "G711U",
            Codec::Script => "script",
        }
    }

    /// Whether a decoder needs `Track::config` before the first frame.
    pub const fn needs_config(self) -> bool {
        matches!(self, Codec::H264 | Codec::H265 | Codec::Aac)
    }
}

/// What is known of a track's picture or sound. Zero means "not said by the stream".
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TrackShape {
    Video { width: u32, height: u32, frames_per_second: f32 },
    Audio { sample_rate: u32, channels: u8 },
    Data,
}

/// One elementary stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Track {
    pub id: TrackId,
    pub codec: Codec,
    /// The codec's set-up record; its form per codec stands in [`crate::media`].
    pub config: Bytes,
    pub shape: TrackShape,
}

impl Track {
    /// The parameter sets of H.264 and H.265, as they stand in front of a picture at which decoding may begin.
    pub fn parameter_sets(&self) -> Vec<Bytes> {
        match self.codec {
            Codec::H264 => AvcConfig::parse(&self.config).map(|config| [config.sps, config.pps].concat()).unwrap_or_default(),
            Codec::H265 => {
                HevcConfig::parse(&self.config).map(|config| [config.vps, config.sps, config.pps].concat()).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }
}

/// All tracks of a stream at one moment, in the order in which they appeared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tracks(Arc<TrackSet>);

#[derive(Clone, Debug, Default, PartialEq)]
struct TrackSet {
    tracks: Vec<Track>,
    metadata: Bytes,
}

impl Tracks {
    /// `metadata` is the publisher's `onMetaData` value as AMF0 (an ECMA array or object; empty: none was sent). It stays opaque
    /// here because only formats with script data can carry it on.
    pub fn new(tracks: Vec<Track>, metadata: Bytes) -> Self {
        Tracks(Arc::new(TrackSet { tracks, metadata }))
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Track> {
        self.0.tracks.iter()
    }

    pub fn len(&self) -> usize {
        self.0.tracks.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.tracks.is_empty()
    }

    pub fn get(&self, id: TrackId) -> Option<&Track> {
        self.iter().find(|track| track.id == id)
    }

    /// The first track of `kind`.
    pub fn first(&self, kind: TrackKind) -> Option<&Track> {
        self.iter().find(|track| track.codec.kind() == kind)
    }

    pub fn has(&self, kind: TrackKind) -> bool {
        self.first(kind).is_some()
    }

    /// The same without the tracks that `keep` turns down.
    pub fn only(&self, keep: impl Fn(&Track) -> bool) -> Tracks {
        if self.iter().all(&keep) {
            return self.clone();
        }
        Tracks::new(self.iter().filter(|track| keep(track)).cloned().collect(), self.metadata().clone())
    }

    pub fn metadata(&self) -> &Bytes {
        &self.0.metadata
    }
}
