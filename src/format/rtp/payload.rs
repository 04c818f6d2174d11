//! Which payload format a track is sent in: our own choice, for session descriptions and for the muxer alike.
//!
//! One format per codec, with a payload type of its own: the static one of RFC 3551 where there is one, else from the dynamic range.

use std::ops::RangeInclusive;

use super::{PayloadForm, RtpPayload};
use crate::media::aac::AacConfig;
use crate::media::opus::OpusHead;
use crate::media::{Codec, Track, TrackShape};

/// Ticks per second of every video payload, and of MPEG audio.
pub const VIDEO_CLOCK_RATE: u32 = 90_000;

/// Ticks per second that a clock may have: no codec has others, and times stay far from the limits of their types.
pub const CLOCK_RATES: RangeInclusive<u32> = 1_000..=1_000_000;

/// The payload format for a track; `None`: its codec has none, or its config cannot be read or is absurd.
pub fn outgoing(track: &Track) -> Option<RtpPayload> {
    described(track).filter(|payload| CLOCK_RATES.contains(&payload.clock_rate))
}

fn described(track: &Track) -> Option<RtpPayload> {
    let shape_channels = match track.shape {
        TrackShape::Audio { channels, .. } => channels,
        TrackShape::Video { .. } | TrackShape::Data => 0,
    };
    let (payload_type, clock_rate, form, channels) = match track.codec {
        Codec::H264 => (96, VIDEO_CLOCK_RATE, PayloadForm::H264, 0),
        Codec::H265 => (97, VIDEO_CLOCK_RATE, PayloadForm::H265 { donl: false }, 0),
        Codec::Aac => {
            let config = AacConfig::parse(&track.config)?;
            (98, config.sample_rate, PayloadForm::AacHbr { size_bits: 13, index_bits: 3, index_delta_bits: 3 }, config.channels)
        }
        // RFC 7587 §7: always said to be 48000/2.
        Codec::Opus => {
            let channels = OpusHead::parse(&track.config).map_or(shape_channels, |head| head.channels);
            (99, crate::media::opus::SAMPLE_RATE, PayloadForm::Opus, channels)
        }
        Codec::Av1 => (100, VIDEO_CLOCK_RATE, PayloadForm::Av1, 0),
        Codec::Vp8 => (101, VIDEO_CLOCK_RATE, PayloadForm::Vp8, 0),
        Codec::Vp9 => (102, VIDEO_CLOCK_RATE, PayloadForm::Vp9, 0),
        Codec::G711U | Codec::G711A => return g711(track),
        Codec::Mp3 => (14, VIDEO_CLOCK_RATE, PayloadForm::Mpa, shape_channels),
        Codec::Script => return None,
    };
    Some(RtpPayload { payload_type, clock_rate, codec: track.codec, form, channels, config: track.config.clone() })
}

/// The static types are for 8 kHz and one channel; anything else has to be described.
fn g711(track: &Track) -> Option<RtpPayload> {
    let TrackShape::Audio { sample_rate, channels } = track.shape else { return None };
    let (clock_rate, channels) = (if sample_rate == 0 { 8_000 } else { sample_rate }, channels.max(1));
    let payload_type = match (track.codec, clock_rate, channels) {
        (Codec::G711U, 8_000, 1) => 0,
        (Codec::G711A, 8_000, 1) => 8,
        (Codec::G711U, ..) => 103,
        _ => 104,
    };
    let config = track.config.clone();
    Some(RtpPayload { payload_type, clock_rate, codec: track.codec, form: PayloadForm::G711, channels, config })
}

/// Microseconds as ticks of a clock, rounded, so that a time that came from ticks becomes the same ticks again.
pub fn ticks_of_micros(micros: i64, clock_rate: u32) -> i64 {
    let ticks = (i128::from(micros) * i128::from(clock_rate) + 500_000).div_euclid(1_000_000);
    // Holds for 290,000 years at 1 MHz.
    ticks as i64
}

/// Ticks of a clock as microseconds, rounded.
pub fn micros_of_ticks(ticks: i64, clock_rate: u32) -> i64 {
    let rate = i128::from(clock_rate.max(1));
    let micros = (i128::from(ticks) * 1_000_000 + rate / 2).div_euclid(rate);
    micros as i64
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::TrackId;

    fn track(codec: Codec, config: Bytes, sample_rate: u32, channels: u8) -> Track {
        Track { id: TrackId(0), codec, config, shape: TrackShape::Audio { sample_rate, channels } }
    }

    #[test]
    fn payload_types_and_clocks() {
        let aac = AacConfig::build_lc(44_100, 2);
        let cases = [
            ("AAC", track(Codec::Aac, aac, 44_100, 2), Some((98, 44_100, 2))),
            ("AAC at an absurd rate", track(Codec::Aac, AacConfig::build_lc(10_000_000, 2), 0, 0), None),
            ("AAC at no rate", track(Codec::Aac, AacConfig::build_lc(0, 2), 0, 0), None),
            ("AAC without config", track(Codec::Aac, Bytes::new(), 0, 0), None),
            ("Opus", track(Codec::Opus, Bytes::new(), 48_000, 1), Some((99, 48_000, 1))),
            ("static G.711", track(Codec::G711A, Bytes::new(), 8_000, 1), Some((8, 8_000, 1))),
            ("G.711 of FLV, rate not said", track(Codec::G711U, Bytes::new(), 0, 0), Some((0, 8_000, 1))),
            ("wide G.711", track(Codec::G711A, Bytes::new(), 16_000, 2), Some((104, 16_000, 2))),
            ("MP3", track(Codec::Mp3, Bytes::new(), 44_100, 2), Some((14, 90_000, 2))),
            ("script data", track(Codec::Script, Bytes::new(), 0, 0), None),
        ];
        for (name, track, expected) in cases {
            let payload = outgoing(&track).map(|payload| (payload.payload_type, payload.clock_rate, payload.channels));
            assert_eq!(payload, expected, "{name}");
        }
    }

    #[test]
    fn ticks_survive_the_way_through_microseconds() {
        for clock_rate in [8_000, 11_025, 44_100, 48_000, 90_000] {
            for ticks in (-100_000..100_000).chain([i64::from(u32::MAX) * 1000]) {
                assert_eq!(ticks_of_micros(micros_of_ticks(ticks, clock_rate), clock_rate), ticks, "{clock_rate}");
            }
        }
    }
}
