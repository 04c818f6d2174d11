//! MP3: what a frame header says, for formats that do not say it themselves.
//!
//! Spec: ISO/IEC 11172-3 §2.4.1.3, ISO/IEC 13818-3 (half rates); the quarter rates of "MPEG 2.5" are customary. Not here: anything else.

use super::TrackShape;

/// The four bytes at the start of a frame of MPEG audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub sample_rate: u32,
    pub channels: u8,
    /// Of the whole frame, header included.
    pub bytes: usize,
    pub samples: u32,
}

/// kbit/s by index: MPEG-1 layers I, II, III; then MPEG-2 layer I, and II with III.
const BIT_RATES: [[u16; 15]; 5] = [
    [0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448],
    [0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384],
    [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
    [0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256],
    [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];

impl Header {
    /// `None`: no header, or one without a bit rate ("free format"), whose length it does not say.
    pub fn parse(frame: &[u8]) -> Option<Header> {
        let [_, version, rate, _] = *frame.first_chunk::<4>()?;
        let TrackShape::Audio { sample_rate, channels } = shape(frame)? else { return None };
        let is_mpeg1 = version >> 3 & 3 == 3;
        let layer = 4 - (version >> 1 & 3);
        let table = match (is_mpeg1, layer) {
            (_, 4) => return None,
            (true, layer) => usize::from(layer) - 1,
            (false, 1) => 3,
            (false, _) => 4,
        };
        let bit_rate = u32::from(*BIT_RATES[table].get(usize::from(rate >> 4)).filter(|rate| **rate > 0)?) * 1000;
        let padding = u32::from(rate >> 1 & 1);
        let samples = match (is_mpeg1, layer) {
            (_, 1) => 384,
            (false, 3) => 576,
            _ => 1152,
        };
        let bytes =
            if layer == 1 { (12 * bit_rate / sample_rate + padding) * 4 } else { samples / 8 * bit_rate / sample_rate + padding };
        Some(Header { sample_rate, channels, bytes: bytes as usize, samples })
    }
}

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
    fn frames_say_their_length() {
        type Case<'a> = (&'a str, [u8; 4], Option<(usize, u32)>);
        let cases: [Case<'_>; 5] = [
            ("MPEG-1 layer III, 128 kbit/s, 44.1 kHz", [0xFF, 0xFB, 0x90, 0x64], Some((417, 1152))),
            ("the same, padded", [0xFF, 0xFB, 0x92, 0x64], Some((418, 1152))),
            ("MPEG-2 layer III, 64 kbit/s, 22.05 kHz", [0xFF, 0xF3, 0x80, 0x64], Some((208, 576))),
            ("MPEG-1 layer II, 192 kbit/s, 48 kHz", [0xFF, 0xFD, 0xA4, 0x00], Some((576, 1152))),
            ("free format", [0xFF, 0xFB, 0x00, 0x64], None),
        ];
        for (name, header, expected) in cases {
            assert_eq!(Header::parse(&header).map(|header| (header.bytes, header.samples)), expected, "{name}");
        }
    }

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
