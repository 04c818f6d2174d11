//! VP9: what the first bits of a frame say, and the configuration record (`vpcC`), which VP8 has too.
//!
//! VP9 bitstream specification v0.6, §6.2 (`uncompressed_header`), Annex A (levels); VP Codec ISO Media File Format Binding v1.0 (record).
//! Not here: decoding, superframes, layers.
//!
//! ```text
//! profile | level | bit depth (4), chroma (3), full range (1) | primaries | transfer | matrix | 0000
//! ```

use super::bits::BitReader;

const FRAME_MARKER: u32 = 2;

/// Without the version and flags of the box.
pub const RECORD_BYTES: usize = 8;
/// 8 bit, 4:2:0 with the chroma samples where those of luma are, limited range.
const COMMON_FORM: u8 = 0x82;
/// "Unspecified" for primaries, transfer and matrix.
const UNSPECIFIED: u8 = 2;

/// Ten times the level by the largest picture in luma samples.
const LEVELS: [(u64, u8); 8] =
    [(36_864, 10), (73_728, 11), (122_880, 20), (245_760, 21), (552_960, 30), (983_040, 31), (2_228_224, 40), (8_912_896, 50)];
const LEVEL_HIGHEST: u8 = 60;

/// The record of a stream: the given one, with or without the version and flags of a box in front, else an assumed one of profile 0 with 8
/// bit and a level that suits the picture. Decoders go by the frames.
pub fn record(config: &[u8], width: u32, height: u32) -> [u8; RECORD_BYTES] {
    // A record begins with profile and level, and no level is 0.
    let given = config.strip_prefix(&[1, 0, 0, 0]).unwrap_or(config);
    if let Some([profile, level, form, colours @ .., _, _]) = given.first_chunk::<RECORD_BYTES>() {
        // Whoever does not know the level has written 0.
        let level = if *level == 0 { level_for(width, height) } else { *level };
        let [primaries, transfer, matrix] = *colours;
        return [*profile, level, *form, primaries, transfer, matrix, 0, 0];
    }
    [0, level_for(width, height), COMMON_FORM, UNSPECIFIED, UNSPECIFIED, UNSPECIFIED, 0, 0]
}

fn level_for(width: u32, height: u32) -> u8 {
    let samples = u64::from(width) * u64::from(height);
    // An unknown size has no samples; nearly every picture fits into level 4.
    let samples = if samples == 0 { 2_228_224 } else { samples };
    LEVELS.iter().find(|(max, _)| samples <= *max).map_or(LEVEL_HIGHEST, |(_, level)| *level)
}

/// Whether decoding may begin with a frame; `false` also for what is no VP9.
pub fn is_key(frame: &[u8]) -> bool {
    read_is_key(&mut BitReader::new(frame)).unwrap_or(false)
}

fn read_is_key(bits: &mut BitReader<'_>) -> Option<bool> {
    if bits.bits(2)? != FRAME_MARKER {
        return Some(false);
    }
    let (low, high) = (bits.bits(1)?, bits.bits(1)?);
    if high << 1 | low == 3 {
        bits.skip(1)?;
    }
    let shows_existing = bits.flag()?;
    let is_inter = bits.flag()?;
    Some(!shows_existing && !is_inter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        let given = [2, 31, 0xA2, 9, 16, 9, 0, 0];
        let boxed = [&[1, 0, 0, 0][..], &given].concat();
        type Case<'a> = (&'a str, &'a [u8], (u32, u32), [u8; 8]);
        let cases: [Case<'_>; 6] = [
            ("given", &given, (1, 1), given),
            ("with the box's version and flags", &boxed, (1, 1), given),
            ("without a level", &[0, 0, 0x82, 2, 2, 2, 0, 0], (1280, 720), [0, 31, 0x82, 2, 2, 2, 0, 0]),
            ("none, of unknown size", &[], (0, 0), [0, 40, 0x82, 2, 2, 2, 0, 0]),
            ("none, small", &[], (160, 120), [0, 10, 0x82, 2, 2, 2, 0, 0]),
            ("cut off, huge", &given[..7], (16_384, 8_192), [0, 60, 0x82, 2, 2, 2, 0, 0]),
        ];
        for (name, config, (width, height), expected) in cases {
            assert_eq!(record(config, width, height), expected, "{name}");
        }
    }

    #[test]
    fn keys() {
        let cases: [(&str, &[u8], bool); 8] = [
            ("a key", &[0b1000_0010, 0x49, 0x83, 0x42], true),
            ("inter", &[0b1000_0110], false),
            ("an existing frame", &[0b1000_1000], false),
            ("profile 1, a key", &[0b1010_0010], true),
            ("profile 3, a key", &[0b1011_0001], true),
            ("profile 3, inter", &[0b1011_0010], false),
            ("no frame", &[0b0100_0010], false),
            ("nothing", &[], false),
        ];
        for (name, frame, expected) in cases {
            assert_eq!(is_key(frame), expected, "{name}");
        }
    }
}
