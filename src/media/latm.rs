//! LATM: the StreamMuxConfig, and the payloads of one program with one layer behind it.
//!
//! ISO/IEC 14496-3 §1.7.3. Everything else that LATM can do (several programs or layers, CELP, HVXC) is refused. Not here: LOAS, RTP.

use bytes::Bytes;

use super::aac::{self, AacConfig};
use super::bits::BitReader;

/// What a StreamMuxConfig says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamMux {
    /// AudioSpecificConfig, which can be read.
    pub config: Bytes,
    /// Frames in one element, one at least.
    pub frames: usize,
    other_data_bits: usize,
}

/// What an element holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    pub frames: Vec<Vec<u8>>,
    /// Bytes that nothing accounts for: none, as a rule.
    pub bytes_behind: usize,
}

impl StreamMux {
    /// One frame per element of a stream with this AudioSpecificConfig: what a StreamMuxConfig outside the stream nearly always says.
    pub fn of_config(config: Bytes) -> StreamMux {
        StreamMux { config, frames: 1, other_data_bits: 0 }
    }

    pub fn parse(config: &[u8]) -> Option<StreamMux> {
        read_stream_mux(&mut BitReader::new(config), config)
    }

    /// Reads an element (`AudioMuxElement`) without a StreamMuxConfig of its own; `None` if it is broken or cut off.
    pub fn element(&self, element: &[u8]) -> Option<Element> {
        self.read(&mut BitReader::new(element))
    }

    fn read(&self, bits: &mut BitReader<'_>) -> Option<Element> {
        let mut frames = Vec::new();
        for _ in 0..self.frames {
            let mut length = 0;
            loop {
                let byte = bits.bits(8)?;
                length += byte as usize;
                if byte != 255 {
                    break;
                }
            }
            frames.push(bits.bytes(length)?);
        }
        bits.skip(self.other_data_bits)?;
        Some(Element { frames, bytes_behind: bits.bits_left() / 8 })
    }
}

/// Reads an element that may carry its StreamMuxConfig (`muxConfigPresent`); `mux` is the one in force, and is replaced.
pub fn read_element(element: &[u8], mux: &mut Option<StreamMux>) -> Option<Element> {
    let mut bits = BitReader::new(element);
    let same = bits.flag()?;
    if !same {
        *mux = Some(read_stream_mux(&mut bits, element)?);
    }
    mux.as_ref()?.read(&mut bits)
}

fn read_stream_mux(bits: &mut BitReader<'_>, all: &[u8]) -> Option<StreamMux> {
    let version = bits.bits(1)?;
    if version == 1 && bits.flag()? {
        return None;
    }
    if version == 1 {
        latm_value(bits)?;
    }
    let same_time_framing = bits.flag()?;
    let frames = bits.bits(6)? as usize + 1;
    let (programs, layers) = (bits.bits(4)?, bits.bits(3)?);
    if !same_time_framing || programs != 0 || layers != 0 {
        return None;
    }
    let config = if version == 0 {
        let start = bits.position();
        // Its length is not said: all of it has to be understood.
        aac::read_config(bits).filter(|(_, is_whole)| *is_whole)?;
        bits_of(all, start, bits.position() - start)?
    } else {
        let length = latm_value(bits)?;
        let start = bits.position();
        bits.skip(length)?;
        bits_of(all, start, length)?
    };
    AacConfig::parse(&config)?;
    // Some senders cut the rest off where it says nothing: every field of it is zero then.
    let other_data_bits = if bits.bits(3).is_none_or(|frame_length_type| frame_length_type == 0) {
        tail(bits, version).unwrap_or(0)
    } else {
        return None;
    };
    Some(StreamMux { config, frames, other_data_bits })
}

/// From `latmBufferFullness` to the end; gives `otherDataLenBits`.
fn tail(bits: &mut BitReader<'_>, version: u32) -> Option<usize> {
    bits.skip(8)?;
    let other_data_bits = if bits.flag()? { other_data(bits, version)? } else { 0 };
    if bits.flag()? {
        bits.skip(8)?;
    }
    Some(other_data_bits)
}

/// `otherDataLenBits`.
fn other_data(bits: &mut BitReader<'_>, version: u32) -> Option<usize> {
    if version == 1 {
        return latm_value(bits);
    }
    let mut length = 0usize;
    loop {
        let more = bits.flag()?;
        length = length.checked_mul(256)?.checked_add(bits.bits(8)? as usize)?;
        if !more {
            return Some(length);
        }
    }
}

/// `LatmGetValue`.
fn latm_value(bits: &mut BitReader<'_>) -> Option<usize> {
    let bytes = bits.bits(2)? + 1;
    bits.bits(8 * bytes).map(|value| value as usize)
}

/// `count` bits from `start` on, filled up with zeros to whole bytes.
fn bits_of(all: &[u8], start: usize, count: usize) -> Option<Bytes> {
    let mut bits = BitReader::new(all);
    bits.skip(start)?;
    let mut bytes = bits.bytes(count / 8)?;
    let rest = (count % 8) as u32;
    if rest > 0 {
        bytes.push((bits.bits(rest)? << (8 - rest)) as u8);
    }
    Some(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_captured_config_is_read() {
        let mux = StreamMux::parse(&[0x40, 0x00, 0x24, 0x10, 0xAD, 0xCA, 0x00]).unwrap();
        let config = AacConfig::parse(&mux.config).unwrap();
        assert_eq!((mux.frames, config.object_type, config.sample_rate, config.channels), (1, 2, 44_100, 1));
    }

    /// Both versions: the first says where the config ends, the second how long it is.
    #[test]
    fn a_config_that_cannot_be_read_is_refused() {
        // In its own words: 1, 0, one byte of buffer; framing, frames, programs, layers; 32 bits of a config with a reserved rate.
        let broken =
            ["1", "0", "00", "00000000", "1", "000000", "0000", "000", "00", "00100000", "10111110101000000000000100000000"];
        let readable = broken.concat().replace("1011111010100000", "0001001000010000");
        for (bits, is_readable) in [(broken.concat(), false), (readable, true)] {
            let bits: Vec<bool> = bits.chars().chain("0".repeat(24).chars()).map(|bit| bit == '1').collect();
            let bytes: Vec<u8> =
                bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |value, bit| value << 1 | u8::from(*bit))).collect();
            assert_eq!(StreamMux::parse(&bytes).is_some(), is_readable, "{bytes:x?}");
        }
    }

    #[test]
    fn frames_behind_their_lengths() {
        let mux = StreamMux { config: Bytes::new(), frames: 1, other_data_bits: 0 };
        let found = |frames: &[&[u8]], bytes_behind| {
            Some(Element { frames: frames.iter().map(|frame| frame.to_vec()).collect(), bytes_behind })
        };
        assert_eq!(mux.element(&[2, 7, 8]), found(&[&[7, 8]], 0));
        assert_eq!(mux.element(&[2, 7, 8, 9]), found(&[&[7, 8]], 1));
        assert_eq!(mux.element(&[2, 7]), None);
        let long = [&[255, 1][..], &[9; 256]].concat();
        assert_eq!(mux.element(&long), found(&[&[9; 256]], 0));
        let two = StreamMux { frames: 2, ..mux };
        assert_eq!(two.element(&[1, 7, 1, 8]), found(&[&[7], &[8]], 0));
    }

    #[test]
    fn an_element_with_its_config_is_not_aligned() {
        // useSameStreamMux 0, then the config without its padding, then one frame of two bytes.
        let config = [0x40, 0x00, 0x24, 0x10, 0x3F, 0xC0];
        let mut reader = BitReader::new(&config);
        let wanted = read_stream_mux(&mut reader, &config).unwrap();
        let mut bits: Vec<bool> = vec![false];
        let mut again = BitReader::new(&config);
        bits.extend((0..reader.position()).map(|_| again.flag().unwrap()));
        for byte in [2u8, 0xAB, 0xCD] {
            bits.extend((0..8).map(|bit| byte >> (7 - bit) & 1 == 1));
        }
        bits.resize(bits.len().next_multiple_of(8), false);
        let element: Vec<u8> = bits.chunks(8).map(|byte| byte.iter().fold(0, |value, bit| value << 1 | u8::from(*bit))).collect();
        let mut mux = None;
        let found = read_element(&element, &mut mux).unwrap();
        assert_eq!((found.frames, found.bytes_behind), (vec![vec![0xAB, 0xCD]], 0));
        assert_eq!(mux, Some(wanted));
        for cut in 0..element.len() {
            assert_eq!(read_element(&element[..cut], &mut None), None, "cut at {cut}");
        }
    }
}
