//! AV1: the configuration record (`av1C`), as far as the server needs it.
//!
//! Spec: AV1 Codec ISO Media File Format Binding v1.2 §2.3.3; AV1 bitstream specification Annex A.3 (levels). Not here: OBUs.
//!
//! ```text
//! 81 | profile (3), level (5) | tier, high depth, 12 bit, monochrome, subsampling x, y (1 each), position (2) | delay | OBUs
//! ```

use bytes::Bytes;

const RECORD_BYTES: usize = 4;
const VERSION: u8 = 0x81;
/// 8 bit, 4:2:0.
const COMMON_FORM: u8 = 0x0C;

/// `seq_level_idx` by the largest picture in luma samples.
const LEVELS: [(u64, u8); 6] = [(147_456, 0), (278_784, 1), (665_856, 4), (1_065_024, 5), (2_359_296, 8), (8_912_896, 12)];
const LEVEL_HIGHEST: u8 = 16;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Av1Config {
    pub profile: u8,
    /// `seq_level_idx_0`.
    pub level: u8,
    pub is_high_tier: bool,
    pub bit_depth: u8,
}

impl Av1Config {
    pub fn parse(record: &[u8]) -> Option<Av1Config> {
        let [version, profile_level, form, _delay] = *record.first_chunk::<RECORD_BYTES>()?;
        if version != VERSION {
            return None;
        }
        let bit_depth = match form >> 5 & 3 {
            0 | 1 => 8,
            2 => 10,
            _ => 12,
        };
        Some(Av1Config { profile: profile_level >> 5, level: profile_level & 0x1F, is_high_tier: form >> 7 == 1, bit_depth })
    }
}

/// A record for a stream that came without: of the main profile, 8 bit, with a level that suits the picture. Decoders go by the
/// sequence header in the frames.
pub fn assumed_record(width: u32, height: u32) -> Bytes {
    let samples = u64::from(width) * u64::from(height);
    // An unknown size has no samples; nearly every picture fits into level 4.0.
    let samples = if samples == 0 { 2_359_296 } else { samples };
    let level = LEVELS.iter().find(|(max, _)| samples <= *max).map_or(LEVEL_HIGHEST, |(_, level)| *level);
    Bytes::copy_from_slice(&[VERSION, level, COMMON_FORM, 0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_records() {
        let main = |level, bit_depth| Some(Av1Config { profile: 0, level, is_high_tier: false, bit_depth });
        let cases: [(&str, &[u8], Option<Av1Config>); 5] = [
            ("main, 8 bit", &[0x81, 0x04, 0x0C, 0, 0x0A], main(4, 8)),
            ("main, 10 bit", &[0x81, 0x08, 0x4C, 0], main(8, 10)),
            (
                "professional, high tier, 12 bit",
                &[0x81, 0x4D, 0xE8, 0],
                Some(Av1Config { profile: 2, level: 13, is_high_tier: true, bit_depth: 12 }),
            ),
            ("another version", &[0x82, 0x04, 0x0C, 0], None),
            ("cut off", &[0x81, 0x04, 0x0C], None),
        ];
        for (name, record, expected) in cases {
            assert_eq!(Av1Config::parse(record), expected, "{name}");
        }
    }

    #[test]
    fn assumed_levels_suit_the_picture() {
        for ((width, height), level) in
            [((0, 0), 8), ((320, 240), 0), ((1280, 720), 5), ((1920, 1080), 8), ((3840, 2160), 12), ((7680, 4320), 16)]
        {
            assert_eq!(Av1Config::parse(&assumed_record(width, height)).unwrap().level, level, "{width}×{height}");
        }
    }
}
