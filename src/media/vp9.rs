//! VP9: what the first bits of a frame say.
//!
//! VP9 bitstream specification v0.6, §6.2 (`uncompressed_header`). Not here: decoding, superframes, layers.

use super::bits::BitReader;

const FRAME_MARKER: u32 = 2;

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
