//! MP3: sample rate and channels from a frame header, for formats that do not say them.
//!
//! Spec: ISO/IEC 11172-3 §2.4.1.3, ISO/IEC 13818-3 (half rates); the quarter rates of "MPEG 2.5" are customary. Not here: anything else.

use super::TrackShape;

/// Reads the four header bytes at the start of a frame; `None` if they are none.
pub fn shape(frame: &[u8]) -> Option<TrackShape> {
    let [sync, version, rate, mode] = *frame.first_chunk::<4>()?;
    if sync != 0xFF || version & 0xE0 != 0xE0 {
        return None;
    }
    let halvings = match version >> 3 & 3 {
        0 => 2,
        2 => 1,
        3 => 0,
        _ => return None,
    };
    let full_rate: u32 = *[44_100, 48_000, 32_000].get(usize::from(rate >> 2 & 3))?;
    let channels = if mode >> 6 == 3 { 1 } else { 2 };
    Some(TrackShape::Audio { sample_rate: full_rate >> halvings, channels })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_frame_headers() {
        type Case<'a> = (&'a str, &'a [u8], Option<(u32, u8)>);
        let cases: [Case<'_>; 7] = [
            ("44.1 kHz mono", &[0xFF, 0xFB, 0x10, 0xC4], Some((44_100, 1))),
            ("48 kHz joint stereo", &[0xFF, 0xFB, 0x94, 0x64], Some((48_000, 2))),
            ("22.05 kHz", &[0xFF, 0xF3, 0x40, 0xC0], Some((22_050, 1))),
            ("8 kHz", &[0xFF, 0xE3, 0x18, 0xC4], Some((8_000, 1))),
            ("reserved rate", &[0xFF, 0xFB, 0x9C, 0x64], None),
            ("no sync", &[0xFE, 0xFB, 0x94, 0x64], None),
            ("cut off", &[0xFF, 0xFB, 0x94], None),
        ];
        for (name, frame, expected) in cases {
            let expected = expected.map(|(sample_rate, channels)| TrackShape::Audio { sample_rate, channels });
            assert_eq!(shape(frame), expected, "{name}");
        }
    }
}
