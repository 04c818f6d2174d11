//! The `codecs` parameter: what playlists and browsers call a track's codec.
//!
//! RFC 6381; ISO/IEC 14496-15 Annex E (H.264, H.265); AV1 ISOBMFF binding §5; VP ISOBMFF binding "Codecs Parameter String". A track without a
//! record is called what the container's assumed record says. Not here: MIME types.

use super::av1::{self, Av1Config};
use super::{Codec, Track, TrackShape, vp9};

/// `None`: there is no name for it, or its record is broken.
pub fn codec_string(track: &Track) -> Option<String> {
    let config = &track.config[..];
    let (width, height) = match track.shape {
        TrackShape::Video { width, height, .. } => (width, height),
        TrackShape::Audio { .. } | TrackShape::Data => (0, 0),
    };
    match track.codec {
        Codec::H264 => {
            let [_version, profile, compatibility, level] = config.first_chunk()?;
            Some(format!("avc1.{profile:02x}{compatibility:02x}{level:02x}"))
        }
        Codec::H265 => hevc(config),
        Codec::Av1 if config.is_empty() => av1(&av1::assumed_record(width, height)),
        Codec::Av1 => av1(config),
        Codec::Vp8 => Some(vp("vp08", vp9::record(config, width, height))),
        Codec::Vp9 => Some(vp("vp09", vp9::record(config, width, height))),
        Codec::Aac => aac_object_type(config).map(|object_type| format!("mp4a.40.{object_type}")),
        Codec::Opus => Some("opus".to_owned()),
        // Object type 34 of MPEG-4 audio is layer III: the name that players know.
        Codec::Mp3 => Some("mp4a.40.34".to_owned()),
        Codec::G711A => Some("alaw".to_owned()),
        Codec::G711U => Some("ulaw".to_owned()),
        Codec::Script => None,
    }
}

/// Annex E.3: profile, compatibility flags in reverse order, tier and level, constraint bytes without the zeros at the end.
fn hevc(record: &[u8]) -> Option<String> {
    let [_version, profile, compatibility @ .., c0, c1, c2, c3, c4, c5, level] = record.first_chunk::<13>()?;
    let space = ["", "A", "B", "C"][usize::from(profile >> 6)];
    let tier = if profile & 0x20 == 0 { 'L' } else { 'H' };
    let compatibility = u32::from_be_bytes(*compatibility).reverse_bits();
    let constraints = [*c0, *c1, *c2, *c3, *c4, *c5];
    let said = constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let constraints: String = constraints[..said].iter().map(|byte| format!(".{byte:X}")).collect();
    Some(format!("hvc1.{space}{}.{compatibility:X}.{tier}{level}{constraints}", profile & 0x1F))
}

fn av1(record: &[u8]) -> Option<String> {
    let Av1Config { profile, level, is_high_tier, bit_depth } = Av1Config::parse(record)?;
    let tier = if is_high_tier { 'H' } else { 'M' };
    Some(format!("av01.{profile}.{level:02}{tier}.{bit_depth:02}"))
}

fn vp(four_cc: &str, [profile, level, form, ..]: [u8; vp9::RECORD_BYTES]) -> String {
    format!("{four_cc}.{profile:02}.{level:02}.{:02}", form >> 4)
}

/// The first object type that the config names: 5 where SBR is signalled openly, 29 for parametric stereo.
fn aac_object_type(config: &[u8]) -> Option<u8> {
    let [first, second] = *config.first_chunk::<2>()?;
    const ESCAPE: u8 = 31;
    Some(match first >> 3 {
        0 => return None,
        ESCAPE => 32 + ((first & 7) << 3 | second >> 5),
        object_type => object_type,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::TrackId;

    #[test]
    fn names() {
        let hd = TrackShape::Video { width: 1920, height: 1080, frames_per_second: 0.0 };
        let sound = TrackShape::Audio { sample_rate: 48_000, channels: 2 };
        let main: &[u8] = &[1, 1, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 93, 0xF0];
        let main10: &[u8] = &[1, 0x62, 0x20, 0, 0, 0, 0xB0, 0, 0, 0, 0, 0, 153, 0xF0];
        let cases: [(Codec, &[u8], TrackShape, Option<&str>); 19] = [
            (Codec::H264, &[1, 0x64, 0, 0x1F, 0xFF], hd, Some("avc1.64001f")),
            (Codec::H264, &[1, 0x42, 0xC0, 0x1E, 0xFF], hd, Some("avc1.42c01e")),
            (Codec::H264, &[1, 0x64], hd, None),
            (Codec::H265, main, hd, Some("hvc1.1.6.L93.90")),
            (Codec::H265, main10, hd, Some("hvc1.A2.4.H153.B0")),
            (Codec::H265, &[1; 12], hd, None),
            (Codec::Av1, &[0x81, 0x04, 0x4C, 0], hd, Some("av01.0.04M.10")),
            (Codec::Av1, &[], hd, Some("av01.0.08M.08")),
            (Codec::Av1, &[7], hd, None),
            (Codec::Vp9, &[2, 31, 0xA2, 9, 16, 9, 0, 0], hd, Some("vp09.02.31.10")),
            (Codec::Vp9, &[], hd, Some("vp09.00.40.08")),
            (Codec::Vp8, &[], hd, Some("vp08.00.40.08")),
            (Codec::Aac, &[0x12, 0x10], sound, Some("mp4a.40.2")),
            (Codec::Aac, &[0x2B, 0x92, 0x08, 0x00], sound, Some("mp4a.40.5")),
            (Codec::Aac, &[0xF8, 0xE6], sound, Some("mp4a.40.39")),
            (Codec::Opus, &[], sound, Some("opus")),
            (Codec::Mp3, &[], sound, Some("mp4a.40.34")),
            (Codec::G711A, &[], sound, Some("alaw")),
            (Codec::Script, &[], TrackShape::Data, None),
        ];
        for (codec, config, shape, expected) in cases {
            let track = Track { id: TrackId(0), codec, config: Bytes::copy_from_slice(config), shape };
            assert_eq!(codec_string(&track).as_deref(), expected, "{codec:?} {config:02X?}");
        }
    }
}
