//! What the tests of MP4 share: a track of every codec.

use bytes::Bytes;

use crate::media::h264::AvcConfig;
use crate::media::opus::OpusHead;
use crate::media::{Codec, Track, TrackId, TrackShape, Tracks};

/// An SPS of 320×240 and its PPS.
pub const SPS: &[u8] = &[0x67, 0x42, 0xC0, 0x0D, 0xDA, 0x05, 0x07, 0xC4];
pub const PPS: &[u8] = &[0x68, 0xCE, 0x3C, 0x80];

fn avc_record() -> Bytes {
    AvcConfig::record(&[Bytes::from_static(SPS)], &[Bytes::from_static(PPS)])
}

/// H.264 and AV1 first, whose broken records are not carried.
pub fn every_track() -> Vec<Track> {
    let video = TrackShape::Video { width: 320, height: 240, frames_per_second: 25.0 };
    let audio = |sample_rate, channels| TrackShape::Audio { sample_rate, channels };
    let opus = OpusHead { channels: 2, pre_skip: 312, input_sample_rate: 44_100 }.build();
    let all: Vec<(Codec, Bytes, TrackShape)> = vec![
        (Codec::H264, avc_record(), video),
        (Codec::Aac, Bytes::from_static(&[0x12, 0x10]), audio(44_100, 2)),
        (Codec::Av1, Bytes::new(), video),
        (Codec::Av1, Bytes::from_static(&[0x81, 0x04, 0x0C, 0]), video),
        (Codec::Vp8, Bytes::new(), video),
        (Codec::Vp9, Bytes::from_static(&[2, 31, 0xA2, 9, 16, 9, 0, 0]), video),
        (Codec::Opus, opus, audio(48_000, 2)),
        (Codec::Mp3, Bytes::new(), audio(44_100, 2)),
        (Codec::Mp3, Bytes::new(), audio(22_050, 1)),
        (Codec::G711A, Bytes::new(), audio(8_000, 1)),
        (Codec::G711U, Bytes::new(), audio(8_000, 2)),
    ];
    (0..).zip(all).map(|(id, (codec, config, shape))| Track { id: TrackId(id), codec, config, shape }).collect()
}

pub fn tracks(tracks: Vec<Track>) -> Tracks {
    Tracks::new(tracks, Bytes::new())
}
