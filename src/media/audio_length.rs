//! How long a frame of sound is, by its codec: for formats that want a duration before the next frame has come.
//!
//! Not here: what stands in the frames.

use super::aac::AacConfig;
use super::{Codec, Track, TrackShape, mp3, opus};

/// How a track's frames tell their length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AudioLength {
    /// Nothing tells it: a picture, or a broken config.
    Unknown,
    /// Every frame has so many samples at that rate.
    Samples { samples: u32, rate: u32 },
    /// In the first bytes of each packet.
    Opus,
    /// In the header of each frame.
    Mp3,
    /// A byte is a sample of one channel.
    Bytes { channels: u8, rate: u32 },
}

impl AudioLength {
    pub fn of(track: &Track) -> Self {
        match (track.codec, track.shape) {
            (Codec::Aac, _) => match AacConfig::parse(&track.config) {
                Some(aac) => AudioLength::Samples { samples: aac.frame_samples.into(), rate: aac.core_sample_rate },
                None => AudioLength::Unknown,
            },
            (Codec::Opus, _) => AudioLength::Opus,
            (Codec::Mp3, _) => AudioLength::Mp3,
            (Codec::G711A | Codec::G711U, TrackShape::Audio { sample_rate, channels }) => {
                const G711_RATE: u32 = 8_000;
                let rate = if sample_rate == 0 { G711_RATE } else { sample_rate };
                AudioLength::Bytes { channels: channels.max(1), rate }
            }
            _ => AudioLength::Unknown,
        }
    }

    /// The length of the frame `data` in ticks; `None`: it is not told.
    pub fn ticks(self, data: &[u8], timescale: u32) -> Option<u32> {
        let (samples, rate) = match self {
            AudioLength::Unknown => return None,
            AudioLength::Samples { samples, rate } => (samples, rate),
            AudioLength::Opus => (opus::packet_samples(data)?, opus::SAMPLE_RATE),
            AudioLength::Mp3 => mp3::Header::parse(data).map(|header| (header.samples, header.sample_rate))?,
            AudioLength::Bytes { channels, rate } => (u32::try_from(data.len()).ok()? / u32::from(channels), rate),
        };
        let ticks = u64::from(samples) * u64::from(timescale) / u64::from(rate.max(1));
        u32::try_from(ticks).ok().filter(|ticks| *ticks > 0)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::TrackId;

    #[test]
    fn lengths() {
        let high_efficiency: &[u8] = &[0x2B, 0x92, 0x08, 0x00];
        type Case<'a> = (&'a str, Codec, &'a [u8], u32, &'a [u8], u32, Option<u32>);
        let cases: [Case<'_>; 8] = [
            ("AAC", Codec::Aac, &[0x12, 0x10], 44_100, &[1], 44_100, Some(1_024)),
            ("AAC with SBR at the output's rate", Codec::Aac, high_efficiency, 44_100, &[1], 44_100, Some(2_048)),
            ("AAC without a config", Codec::Aac, &[], 44_100, &[1], 44_100, None),
            ("Opus", Codec::Opus, &[], 48_000, &[0xFC, 0], 48_000, Some(960)),
            ("MP3", Codec::Mp3, &[], 44_100, &[0xFF, 0xFB, 0x90, 0x64], 44_100, Some(1_152)),
            ("G.711", Codec::G711A, &[], 0, &[0x55; 160], 8_000, Some(160)),
            ("G.711 in 90 kHz", Codec::G711U, &[], 8_000, &[0x55; 160], 90_000, Some(1_800)),
            ("a picture", Codec::H264, &[], 0, &[1], 90_000, None),
        ];
        for (name, codec, config, sample_rate, data, timescale, expected) in cases {
            let shape = match codec {
                Codec::H264 => TrackShape::Video { width: 0, height: 0, frames_per_second: 0.0 },
                _ => TrackShape::Audio { sample_rate, channels: 1 },
            };
            let track = Track { id: TrackId(0), codec, config: Bytes::copy_from_slice(config), shape };
            assert_eq!(AudioLength::of(&track).ticks(data, timescale), expected, "{name}");
        }
    }
}
