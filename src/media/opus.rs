//! Opus: the identification header (`OpusHead`), read and written, and the length of a packet.
//!
//! Spec: RFC 7845 §5.1, little-endian; RFC 6716 §3.1 (the first byte of a packet). Not here: what is in a packet.

use bytes::{BufMut, Bytes, BytesMut};

use super::TrackShape;

/// Opus always decodes at this rate, whatever the input was.
pub const SAMPLE_RATE: u32 = 48_000;

const MAGIC: &[u8; 8] = b"OpusHead";

/// What an `OpusHead` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpusHead {
    pub channels: u8,
    /// Samples at 48 kHz that a decoder drops at the beginning.
    pub pre_skip: u16,
    /// Rate of the encoder's input in Hz; 0: not said.
    pub input_sample_rate: u32,
}

impl OpusHead {
    /// Gain and channel mapping are not looked at. The upper half of the version is the incompatible part.
    pub fn parse(head: &[u8]) -> Option<OpusHead> {
        let fields = head.strip_prefix(MAGIC)?.first_chunk::<11>()?;
        let [version, channels, skip_low, skip_high, rate @ .., _gain_low, _gain_high, _family] = fields;
        if version >> 4 != 0 || *channels == 0 {
            return None;
        }
        let pre_skip = u16::from_le_bytes([*skip_low, *skip_high]);
        Some(OpusHead { channels: *channels, pre_skip, input_sample_rate: u32::from_le_bytes(*rate) })
    }

    /// Builds a header without gain and with mapping family 0, which has one or two channels.
    pub fn build(self) -> Bytes {
        let mut head = BytesMut::with_capacity(19);
        head.put_slice(MAGIC);
        head.put_u8(1);
        head.put_u8(self.channels.clamp(1, 2));
        head.put_u16_le(self.pre_skip);
        head.put_u32_le(self.input_sample_rate);
        head.put_slice(&[0, 0, 0]);
        head.freeze()
    }

    pub fn shape(&self) -> TrackShape {
        TrackShape::Audio { sample_rate: SAMPLE_RATE, channels: self.channels }
    }
}

/// Samples of a packet at 48 kHz; `None`: it is none, or longer than the 120 ms that a packet may have.
pub fn packet_samples(packet: &[u8]) -> Option<u32> {
    const PACKET_SAMPLES_MAX: u32 = 5_760;
    let first = *packet.first()?;
    let frame_samples = match first >> 3 {
        silk @ 0..12 => [480, 960, 1_920, 2_880][usize::from(silk & 3)],
        hybrid @ 12..16 => [480, 960][usize::from(hybrid & 1)],
        celt => [120, 240, 480, 960][usize::from(celt & 3)],
    };
    let frames = match first & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1)? & 0x3F),
    };
    Some(frame_samples * frames).filter(|samples| (1..=PACKET_SAMPLES_MAX).contains(samples))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_say_their_length() {
        let cases: [(&str, &[u8], Option<u32>); 8] = [
            ("SILK, 60 ms", &[0x18], Some(2_880)),
            ("hybrid, 10 ms", &[0x60], Some(480)),
            ("CELT, 20 ms", &[0xFC, 0xFF], Some(960)),
            ("CELT, two of 20 ms", &[0xFD], Some(1_920)),
            ("CELT, six of 2.5 ms", &[0xE3, 0x06], Some(720)),
            ("too long", &[0x1B, 0x03], None),
            ("a count that is cut off", &[0xFF], None),
            ("nothing", &[], None),
        ];
        for (name, packet, expected) in cases {
            assert_eq!(packet_samples(packet), expected, "{name}");
        }
    }

    #[test]
    fn reads_and_writes_the_header() {
        let bytes = b"OpusHead\x01\x02\x38\x01\x80\xBB\x00\x00\x00\x00\x00";
        let head = OpusHead { channels: 2, pre_skip: 312, input_sample_rate: 48_000 };
        assert_eq!(OpusHead::parse(bytes), Some(head));
        assert_eq!(&head.build()[..], bytes);
        for cut in 0..bytes.len() {
            assert_eq!(OpusHead::parse(&bytes[..cut]), None, "cut at {cut}");
        }
        for (name, broken) in [("version", b"OpusHead\x10\x02"), ("no channels", b"OpusHead\x01\x00")] {
            let header = [&broken[..], &bytes[10..]].concat();
            assert_eq!(OpusHead::parse(&header), None, "{name}");
        }
    }
}
