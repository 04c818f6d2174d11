//! Opus: the identification header (`OpusHead`), read and written.
//!
//! Spec: RFC 7845 §5.1; little-endian. Not here: packets.

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

#[cfg(test)]
mod tests {
    use super::*;

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
