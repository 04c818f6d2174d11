//! The payload of an Opus PES packet → packets of Opus.
//!
//! Draft ETSI TS "Opus in MPEG-TS" (v0.1.3): each packet stands behind a control header with its size. Limits: [`HELD_BYTES_MAX`]. Not here: what
//! the table of the program says of the channels.

use bytes::{Bytes, BytesMut};

use crate::media::Discard;
use crate::media::opus::{OpusHead, SAMPLE_RATE, packet_samples};

/// A PES packet has no more.
pub const HELD_BYTES_MAX: usize = 64 * 1024;

/// A packet and its time in microseconds.
#[derive(Debug, PartialEq)]
pub enum Sound {
    Frame { data: Bytes, time: i64 },
    Discarded(Discard),
}

#[derive(Default)]
pub struct Opus {
    buffer: BytesMut,
    /// Of the packet at hand, or behind the last one.
    time: i64,
    /// What a decoder drops at the beginning, as the first packet has said.
    pre_skip: Option<u16>,
}

impl Opus {
    pub fn held_bytes(&self) -> usize {
        self.buffer.len()
    }

    pub fn lost(&mut self) {
        self.buffer.clear();
    }

    pub fn begin(&mut self, pts: Option<i64>) {
        self.buffer.clear();
        self.time = pts.unwrap_or(self.time);
    }

    pub fn payload(&mut self, bytes: &[u8]) {
        let room = HELD_BYTES_MAX - self.buffer.len();
        self.buffer.extend_from_slice(&bytes[..room.min(bytes.len())]);
    }

    pub fn config(&self, channels: u8) -> Bytes {
        OpusHead { channels, pre_skip: self.pre_skip.unwrap_or(0), input_sample_rate: SAMPLE_RATE }.build()
    }

    /// The PES packet is over.
    pub fn end(&mut self, out: &mut Vec<Sound>) {
        let mut rest = self.buffer.split().freeze();
        while !rest.is_empty() {
            let Some((start_trim, header_bytes, bytes)) = control_header(&rest) else {
                return out.push(Sound::Discarded(Discard::BrokenFrame));
            };
            if rest.len() < header_bytes + bytes {
                return out.push(Sound::Discarded(Discard::BrokenFrame));
            }
            let _header = rest.split_to(header_bytes);
            let data = rest.split_to(bytes);
            self.pre_skip.get_or_insert(start_trim);
            if !data.is_empty() {
                let samples = i64::from(packet_samples(&data).unwrap_or(0));
                out.push(Sound::Frame { data, time: self.time });
                self.time += samples * 1_000_000 / i64::from(SAMPLE_RATE);
            }
        }
    }
}

/// What is cut off at the start, the header's length and that of the packet behind it.
fn control_header(bytes: &[u8]) -> Option<(u16, usize, usize)> {
    let [0x7F, flags, ..] = *bytes else { return None };
    if flags & 0xE0 != 0xE0 {
        return None;
    }
    let (has_start, has_end, has_extension) = (flags & 0x10 != 0, flags & 0x08 != 0, flags & 0x04 != 0);
    let (mut at, mut size) = (2, 0);
    loop {
        let byte = *bytes.get(at)?;
        (at, size) = (at + 1, size + usize::from(byte));
        if byte != 0xFF {
            break;
        }
    }
    let mut start_trim = 0;
    if has_start {
        start_trim = u16::from_be_bytes([*bytes.get(at)? & 0x1F, *bytes.get(at + 1)?]);
        at += 2;
    }
    if has_end {
        at += 2;
    }
    if has_extension {
        at += 1 + usize::from(*bytes.get(at)?);
    }
    Some((start_trim, at, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_stand_behind_their_sizes() {
        // 20 ms of CELT, full band.
        const TOC: u8 = 0xF8;
        let long = [&[TOC][..], &[7; 299]].concat();
        let mut payload = vec![0x7F, 0xF0, 0xFF, 45, 0x01, 0x38];
        payload.extend_from_slice(&long);
        payload.extend_from_slice(&[0x7F, 0xEC, 2, 0x00, 0x10, 3, 9, 9, 9, TOC, 1]);
        for cut in 0..payload.len() {
            let (mut opus, mut out) = (Opus::default(), Vec::new());
            opus.begin(Some(5_000));
            opus.payload(&payload[..cut]);
            opus.payload(&payload[cut..]);
            opus.end(&mut out);
            let expected = [
                Sound::Frame { data: long.clone().into(), time: 5_000 },
                Sound::Frame { data: Bytes::from_static(&[TOC, 1]), time: 25_000 },
            ];
            assert_eq!(out, expected, "cut at {cut}");
            assert_eq!(OpusHead::parse(&opus.config(2)).unwrap().pre_skip, 312);
        }
    }

    #[test]
    fn broken_packets_are_left_out() {
        for (name, payload) in [("no header", &[1, 2, 3][..]), ("cut off", &[0x7F, 0xE0, 9, 1]), ("no size", &[0x7F, 0xE0, 0xFF])]
        {
            let (mut opus, mut out) = (Opus::default(), Vec::new());
            opus.begin(None);
            opus.payload(payload);
            opus.end(&mut out);
            assert_eq!(out, [Sound::Discarded(Discard::BrokenFrame)], "{name}");
        }
    }
}
