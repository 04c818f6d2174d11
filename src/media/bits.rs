//! Bits of parameter sets: fixed-length fields and exp-Golomb codes (ITU-T H.264 and H.265 §9.1/§9.2), as in all headers of MPEG codecs.
//!
//! A [`BitReader`] borrows the bytes and never reads past them: every field is an `Option`. [`rbsp`] undoes emulation prevention into
//! an own, bounded buffer. Not here: what the fields mean.

/// Parameter sets have some hundred bytes; what lies beyond this is not looked at.
const RBSP_BYTES_MAX: usize = 4096;
/// The profiles and levels of seven layers, and some.
const RBSP_START_BYTES: usize = 160;

/// The raw byte sequence payload of a NAL unit's bytes: without the 03 of each 00 00 03 (H.264 §7.4.1).
pub(crate) fn rbsp(nal: &[u8]) -> Vec<u8> {
    let nal = &nal[..nal.len().min(RBSP_BYTES_MAX)];
    let mut payload = Vec::with_capacity(nal.len());
    payload.extend(rbsp_bytes(nal));
    payload
}

/// As [`rbsp`], byte by byte and to the end.
pub(crate) fn rbsp_bytes(nal: &[u8]) -> impl Iterator<Item = u8> {
    let mut zeros = 0;
    nal.iter().copied().filter(move |byte| {
        let is_prevention = zeros >= 2 && *byte == 3;
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        !is_prevention
    })
}

/// As [`rbsp`], of the first bytes only: enough for the ids that parameter sets begin with.
pub(crate) fn rbsp_start(nal: &[u8]) -> Vec<u8> {
    rbsp(&nal[..nal.len().min(RBSP_START_BYTES)])
}

#[derive(Clone)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Bits read so far.
    position: usize,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        BitReader { bytes, position: 0 }
    }

    pub(crate) fn flag(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.position / 8)?;
        let bit = byte >> (7 - self.position % 8) & 1;
        self.position += 1;
        Some(bit == 1)
    }

    /// `count` bits, 32 at most, most significant first.
    pub(crate) fn bits(&mut self, count: u32) -> Option<u32> {
        debug_assert!(count <= 32);
        let mut value = 0u32;
        for _ in 0..count {
            value = value << 1 | u32::from(self.flag()?);
        }
        Some(value)
    }

    pub(crate) fn skip(&mut self, count: usize) -> Option<()> {
        let position = self.position.checked_add(count)?;
        if position > self.bytes.len() * 8 {
            return None;
        }
        self.position = position;
        Some(())
    }

    /// Bits read so far.
    pub(crate) fn position(&self) -> usize {
        self.position
    }

    /// `count` bytes from here, whatever the alignment.
    pub(crate) fn bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        if count.checked_mul(8)? > self.bits_left() {
            return None;
        }
        let (first, shift) = (self.position / 8, self.position % 8);
        self.position += 8 * count;
        // Frames are read with this: bit by bit a large one would cost a fifth of a second.
        Some(match shift {
            0 => self.bytes[first..first + count].to_vec(),
            _ => self.bytes[first..=first + count].windows(2).map(|pair| pair[0] << shift | pair[1] >> (8 - shift)).collect(),
        })
    }

    pub(crate) fn bits_left(&self) -> usize {
        self.bytes.len() * 8 - self.position
    }

    /// Unsigned exp-Golomb, `ue(v)`.
    pub(crate) fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1u32 << zeros) - 1 + self.bits(zeros)?)
    }

    /// Signed exp-Golomb, `se(v)`.
    pub(crate) fn se(&mut self) -> Option<i32> {
        let code = i64::from(self.ue()?);
        let value = if code % 2 == 1 { (code + 1) / 2 } else { -(code / 2) };
        i32::try_from(value).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_codes() {
        let cases: [(&[u8], Option<u32>, Option<i32>); 7] = [
            (&[0b1000_0000], Some(0), Some(0)),
            (&[0b0100_0000], Some(1), Some(1)),
            (&[0b0110_0000], Some(2), Some(-1)),
            (&[0b0010_0000], Some(3), Some(2)),
            (&[0, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFE], Some(u32::MAX - 1), Some(-i32::MAX)),
            (&[0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], None, None),
            (&[0b0010_0000 >> 2], None, None),
        ];
        for (bytes, unsigned, signed) in cases {
            assert_eq!(BitReader::new(bytes).ue(), unsigned, "{bytes:x?}");
            assert_eq!(BitReader::new(bytes).se(), signed, "{bytes:x?}");
        }
    }

    #[test]
    fn fields_end_with_the_bytes() {
        let mut reader = BitReader::new(&[0xA5, 0x0F]);
        assert_eq!((reader.bits(3), reader.flag(), reader.bits(8)), (Some(5), Some(false), Some(0x50)));
        assert_eq!((reader.bits_left(), reader.bits(5)), (4, None));
        let mut reader = BitReader::new(&[0xFF]);
        assert_eq!((reader.skip(9), reader.skip(8), reader.flag()), (None, Some(()), None));
    }

    #[test]
    fn bytes_at_every_alignment() {
        let bytes: Vec<u8> = (0..40).map(|number: u8| number.wrapping_mul(37)).collect();
        for shift in 0..24 {
            for count in 0..=40 {
                let mut reader = BitReader::new(&bytes);
                reader.skip(shift).unwrap();
                let mut slow = reader.clone();
                let expected: Option<Vec<u8>> = (0..count).map(|_| slow.bits(8).map(|byte| byte as u8)).collect();
                assert_eq!(reader.bytes(count), expected, "{count} bytes behind {shift} bits");
                let position = if expected.is_some() { shift + 8 * count } else { shift };
                assert_eq!(reader.position(), position, "{count} bytes behind {shift} bits");
            }
        }
        let mut end = BitReader::new(&bytes);
        end.skip(8 * bytes.len()).unwrap();
        assert_eq!((end.bytes(0), end.bytes(1)), (Some(Vec::new()), None));
    }

    #[test]
    fn emulation_prevention_is_undone() {
        let cases: [(&[u8], &[u8]); 4] = [
            (&[0, 0, 3, 1], &[0, 0, 1]),
            (&[0, 0, 3, 0, 0, 3], &[0, 0, 0, 0]),
            (&[0, 3, 0, 0], &[0, 3, 0, 0]),
            (&[0, 0, 3, 3], &[0, 0, 3]),
        ];
        for (nal, payload) in cases {
            assert_eq!(rbsp(nal), payload, "{nal:x?}");
        }
        assert_eq!(rbsp(&[1; RBSP_BYTES_MAX + 1]).len(), RBSP_BYTES_MAX);
    }
}
