//! The open bitstream units of an AV1 temporal unit in the low-overhead format (AV1 specification §5.3, §4.10.5).
//!
//! An OBU is a header byte, perhaps an extension byte, perhaps a size (leb128), and its payload. Borrows what it walks over.

use bytes::{BufMut, BytesMut};
use smallvec::SmallVec;

pub const SEQUENCE_HEADER: u8 = 1;
pub const TEMPORAL_DELIMITER: u8 = 2;

const EXTENSION_FLAG: u8 = 0x04;
const SIZE_FLAG: u8 = 0x02;

/// One unit: its header bytes without the size, and its payload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Obu<'a> {
    header: u8,
    extension: Option<u8>,
    pub payload: &'a [u8],
}

impl<'a> Obu<'a> {
    /// `obu_type`.
    pub fn kind(&self) -> u8 {
        self.header >> 3 & 0x0F
    }

    /// One or two bytes, saying that no size follows.
    pub fn header_without_size(&self) -> SmallVec<[u8; 2]> {
        std::iter::once(self.header & !SIZE_FLAG).chain(self.extension).collect()
    }

    /// Takes one unit whose end is the end of `bytes`, or where its own size says so; gives what is behind it.
    pub fn take(bytes: &'a [u8]) -> Option<(Obu<'a>, &'a [u8])> {
        let (header, mut rest) = bytes.split_first()?;
        let mut extension = None;
        if header & EXTENSION_FLAG != 0 {
            let (byte, behind) = rest.split_first()?;
            (extension, rest) = (Some(*byte), behind);
        }
        let mut size = rest.len();
        if header & SIZE_FLAG != 0 {
            (size, rest) = take_leb128(rest)?;
        }
        let (payload, behind) = rest.split_at_checked(size)?;
        Some((Obu { header: *header, extension, payload }, behind))
    }

    /// Appends the unit with its size.
    pub fn write(&self, out: &mut BytesMut) {
        out.put_u8(self.header | SIZE_FLAG);
        out.extend(self.extension);
        put_leb128(self.payload.len(), out);
        out.put_slice(self.payload);
    }
}

/// The units of a temporal unit, up to the first that is broken.
pub fn iter(unit: &[u8]) -> impl Iterator<Item = Obu<'_>> {
    let mut rest = unit;
    std::iter::from_fn(move || {
        let (obu, behind) = Obu::take(rest)?;
        rest = behind;
        Some(obu)
    })
}

/// A number of at most 32 bits, and what is behind it.
pub fn take_leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value: u64 = 0;
    for (at, byte) in bytes.iter().take(8).enumerate() {
        value |= u64::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            let value = u32::try_from(value).ok()?;
            return Some((value as usize, &bytes[at + 1..]));
        }
    }
    None
}

fn put_leb128(mut value: usize, out: &mut BytesMut) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_walked_and_written() {
        let unit: &[u8] = &[0x12, 0, 0x0A, 2, 7, 8, 0x36, 0x20, 1, 9];
        let obus: Vec<Obu<'_>> = iter(unit).collect();
        let kinds: Vec<(u8, &[u8])> = obus.iter().map(|obu| (obu.kind(), obu.payload)).collect();
        assert_eq!(kinds, [(TEMPORAL_DELIMITER, &[][..]), (SEQUENCE_HEADER, &[7, 8]), (6, &[9])]);
        assert_eq!(&obus[2].header_without_size()[..], [0x34, 0x20]);
        let mut out = BytesMut::new();
        obus.iter().for_each(|obu| obu.write(&mut out));
        assert_eq!(&out[..], unit);
    }

    #[test]
    fn broken_units_end_the_walk() {
        for unit in
            [&[0x0A][..], &[0x0A, 3, 1], &[0x0A, 0x80], &[0x0C], &[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1]]
        {
            assert_eq!(iter(unit).count(), 0, "{unit:?}");
        }
        assert_eq!(take_leb128(&[0xE5, 0x8E, 0x26, 1]), Some((624_485, &[1][..])));
    }

    #[test]
    fn numbers_of_any_length() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 8_000_000] {
            let mut out = BytesMut::new();
            put_leb128(value, &mut out);
            assert_eq!(take_leb128(&out), Some((value, &[][..])));
        }
    }
}
