//! The mark at the front of every access unit: when it was sent, its number and its publisher, in an H.264 SEI NAL unit.
//!
//! Spec: ITU-T H.264 §7.3.2.3, §D.1.7 (user_data_unregistered). All fields are hexadecimal digits, so no emulation prevention byte is
//! ever needed and the mark can be found by its UUID, whatever a server writes before it.
//!
//! ```text
//! |length(4)|06|05|size(1)| UUID(16) | time, ns(16) | sequence(8) | publisher(4) |80|
//! ```

/// Names this program's marks.
const UUID: [u8; 16] = *b"\x9a\x51\xd3\x7e\xc4\x1b\x4f\x86\xa2\x6d\x73\xf1\x5e\x88\xb9\x2c";
const TIME_DIGITS: usize = 16;
const SEQUENCE_DIGITS: usize = 8;
const PUBLISHER_DIGITS: usize = 4;
const DIGITS: usize = TIME_DIGITS + SEQUENCE_DIGITS + PUBLISHER_DIGITS;

const NAL_TYPE_SEI: u8 = 6;
const USER_DATA_UNREGISTERED: u8 = 5;
const RBSP_TRAILING_BITS: u8 = 0x80;

/// Length prefix, NAL header, payload type and size, UUID, digits, trailing bits.
pub const MARK_BYTES: usize = 4 + 3 + UUID.len() + DIGITS + 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// On the machine's monotonic clock, in nanoseconds.
    pub sent: u64,
    /// Counts the access units of a publisher.
    pub sequence: u32,
    pub publisher: u16,
}

impl Mark {
    /// As a NAL unit behind its 4-byte length.
    pub fn encode(&self) -> [u8; MARK_BYTES] {
        let mut out = [0; MARK_BYTES];
        out[..4].copy_from_slice(&(MARK_BYTES as u32 - 4).to_be_bytes());
        out[4..7].copy_from_slice(&[NAL_TYPE_SEI, USER_DATA_UNREGISTERED, (UUID.len() + DIGITS) as u8]);
        let (uuid, rest) = out[7..].split_at_mut(UUID.len());
        uuid.copy_from_slice(&UUID);
        let (time, rest) = rest.split_at_mut(TIME_DIGITS);
        write_hex(self.sent, time);
        let (sequence, rest) = rest.split_at_mut(SEQUENCE_DIGITS);
        write_hex(self.sequence.into(), sequence);
        let (publisher, rest) = rest.split_at_mut(PUBLISHER_DIGITS);
        write_hex(self.publisher.into(), publisher);
        rest[0] = RBSP_TRAILING_BITS;
        out
    }

    /// The first mark in `bytes`.
    pub fn find(bytes: &[u8]) -> Option<Mark> {
        let at = bytes.windows(UUID.len()).position(|window| window[0] == UUID[0] && window == UUID)?;
        let digits = bytes[at + UUID.len()..].first_chunk::<DIGITS>()?;
        let (time, rest) = digits.split_at(TIME_DIGITS);
        let (sequence, publisher) = rest.split_at(SEQUENCE_DIGITS);
        Some(Mark { sent: read_hex(time)?, sequence: read_hex(sequence)? as u32, publisher: read_hex(publisher)? as u16 })
    }
}

fn write_hex(mut value: u64, out: &mut [u8]) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 0xF) as usize];
        value >>= 4;
    }
}

fn read_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, digit| Some(value << 4 | u64::from(char::from(*digit).to_digit(16)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_behind_anything() {
        for mark in [
            Mark { sent: 0, sequence: 0, publisher: 0 },
            Mark { sent: 1_234_567_890_123, sequence: 77, publisher: 3 },
            Mark { sent: u64::MAX, sequence: u32::MAX, publisher: u16::MAX },
        ] {
            let encoded = mark.encode();
            assert_eq!(Mark::find(&encoded), Some(mark));
            assert_eq!(Mark::find(&[&[0x17, 1, 0, 0, 0, 0x9a], &encoded[..], &[0xFF; 9]].concat()), Some(mark));
            assert_eq!(Mark::find(&encoded[..MARK_BYTES - 2]), None, "cut off");
            let nal = &encoded[4..];
            assert!(nal.windows(2).all(|pair| pair != [0, 0]), "needs no emulation prevention");
        }
    }
}
