//! NAL units of H.264 and H.265: whatever framing an encoder uses becomes the canonical access unit of [`crate::media`].
//!
//! Spec: ISO/IEC 14496-15 §5.3.3/§8.3.3 (length prefix), H.264/H.265 Annex B (start codes). Canonical input is passed on as the same
//! memory; everything else is copied once, into at most two and a half times its size. Not here: what is inside a NAL unit,
//! but for one message that makes a picture a place to begin.

use bytes::{BufMut, Bytes, BytesMut};

/// Parameter sets of one kind that are kept of a stream.
pub const SETS_MAX: usize = 32;
/// A longer parameter set is left out.
pub const SET_BYTES_MAX: usize = 4_096;

/// A decoder configuration record that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("the record is cut off")]
    Truncated,
    #[error("the record has the unknown version {0}")]
    UnknownVersion(u8),
}

/// The length prefixes of an access unit do not add up to its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lengths of the NAL units do not add up")]
pub struct BrokenFrame;

/// Makes the NAL units of one access unit canonical: each behind a 4-byte length, without empty units and access unit delimiters.
/// `nal_length_bytes` (1 to 4) is what the configuration record says; start codes are recognised in spite of it. The result shares
/// `data` if that is canonical, or is so behind leading delimiters. `None`: nothing remains.
pub fn canonical_access_unit(
    data: Bytes,
    nal_length_bytes: usize,
    is_aud: fn(&[u8]) -> bool,
) -> Result<Option<Bytes>, BrokenFrame> {
    let is_left_out = |nal: &[u8]| nal.is_empty() || is_aud(nal);
    let Some(survey) = survey(&data, nal_length_bytes, is_left_out) else {
        if starts_with_start_code(&data) {
            let kept = annex_b_units(&data).filter(|nal| !is_left_out(nal));
            return Ok(rewrite(kept, data.len()));
        }
        return Err(BrokenFrame);
    };
    if survey.kept == 0 {
        return Ok(None);
    }
    if nal_length_bytes == 4 && !survey.left_out_inside {
        return Ok(Some(data.slice(survey.first_kept..)));
    }
    let kept = LengthPrefixed { rest: &data, length_bytes: nal_length_bytes }.flatten().filter(|nal| !is_left_out(nal));
    Ok(rewrite(kept, data.len()))
}

/// The NAL units of a canonical access unit, up to the first whose length does not fit.
pub fn canonical_units(unit: &[u8]) -> impl Iterator<Item = &[u8]> {
    LengthPrefixed { rest: unit, length_bytes: 4 }.map_while(|nal| nal)
}

/// What stands in length-prefixed data.
struct Survey {
    kept: usize,
    /// Offset of the first kept unit's length prefix.
    first_kept: usize,
    /// Something behind the first kept unit has to go.
    left_out_inside: bool,
}

/// `None`: the lengths do not add up.
fn survey(data: &[u8], length_bytes: usize, is_left_out: impl Fn(&[u8]) -> bool) -> Option<Survey> {
    let mut survey = Survey { kept: 0, first_kept: 0, left_out_inside: false };
    for nal in (LengthPrefixed { rest: data, length_bytes }) {
        let nal = nal?;
        if !is_left_out(nal) {
            survey.kept += 1;
        } else if survey.kept == 0 {
            survey.first_kept += length_bytes + nal.len();
        } else {
            survey.left_out_inside = true;
        }
    }
    Some(survey)
}

/// Walks over length-prefixed NAL units; a `None` inside is a length that does not fit, and the last item.
struct LengthPrefixed<'a> {
    rest: &'a [u8],
    length_bytes: usize,
}

impl<'a> Iterator for LengthPrefixed<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let unit = self.rest.split_at_checked(self.length_bytes).and_then(|(prefix, rest)| {
            let len = prefix.iter().fold(0usize, |len, byte| len << 8 | usize::from(*byte));
            rest.split_at_checked(len)
        });
        self.rest = unit.map_or(&[][..], |(_, rest)| rest);
        Some(unit.map(|(nal, _)| nal))
    }
}

pub(crate) fn starts_with_start_code(data: &[u8]) -> bool {
    data.starts_with(&[0, 0, 1]) || data.starts_with(&[0, 0, 0, 1])
}

/// The NAL units between start codes, without the zero bytes that may trail them (Annex B.1).
pub(crate) fn annex_b_units(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = after_start_code(data);
    std::iter::from_fn(move || {
        let start = rest?;
        rest = after_start_code(start);
        let end = rest.map_or(start.len(), |next| start.len() - next.len() - 3);
        let zeros = start[..end].iter().rev().take_while(|byte| **byte == 0).count();
        Some(&start[..end - zeros])
    })
}

/// What follows the next 00 00 01.
fn after_start_code(data: &[u8]) -> Option<&[u8]> {
    start_code(data, 0).map(|at| &data[at + 3..])
}

/// Where the next 00 00 01 begins, from an offset on.
pub(crate) fn start_code(bytes: &[u8], from: usize) -> Option<usize> {
    // Coded media has ones as seldom as any other byte, and they are looked for many bytes at a time.
    let from = from.min(bytes.len());
    memchr::memchr_iter(1, &bytes[from..])
        .map(|at| from + at)
        .find(|at| *at >= from + 2 && bytes[at - 2..*at] == [0, 0])
        .map(|at| at - 2)
}

/// Whether decoding may begin at the picture of this supplemental enhancement information, of which `body` is what stands behind the
/// header: one of its messages is a recovery point (H.264 §D.1.8, H.265 §D.2.8). Also one from which the picture only builds up counts:
/// a stream that refreshes itself bit by bit has no other place to begin.
pub fn has_recovery_point(body: &[u8]) -> bool {
    const RECOVERY_POINT: usize = 6;
    // Behind the last message stands the stop bit, a byte of its own.
    let messages = body.iter().rposition(|byte| *byte == 0x80).map_or(body, |stop| &body[..stop]);
    let mut bytes = super::bits::rbsp_bytes(messages);
    // Type and size are sums of bytes, up to the first that is not 255 (H.264 §7.3.2.3.1).
    let number = |bytes: &mut dyn Iterator<Item = u8>| {
        let mut sum = 0;
        for byte in bytes {
            sum += usize::from(byte);
            if byte != 255 {
                return Some(sum);
            }
        }
        None
    };
    while let (Some(kind), Some(size)) = (number(&mut bytes), number(&mut bytes)) {
        if kind == RECOVERY_POINT {
            return true;
        }
        if size > 0 && bytes.nth(size - 1).is_none() {
            return false;
        }
    }
    false
}

fn rewrite<'a>(nals: impl Iterator<Item = &'a [u8]>, size_hint: usize) -> Option<Bytes> {
    let mut out = BytesMut::with_capacity(size_hint + 64);
    for nal in nals {
        // A NAL unit is part of a message of less than 4 GiB.
        out.put_u32(nal.len() as u32);
        out.put_slice(nal);
    }
    (!out.is_empty()).then(|| out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_aud(nal: &[u8]) -> bool {
        nal[0] & 0x1F == 9
    }

    #[test]
    fn every_framing_becomes_the_same() {
        let canonical: &[u8] = &[0, 0, 0, 2, 0x65, 1, 0, 0, 0, 3, 0x41, 2, 3];
        let cases: [(&str, usize, &[u8]); 9] = [
            ("canonical", 4, canonical),
            ("aud first", 4, &[0, 0, 0, 2, 9, 0x10, 0, 0, 0, 2, 0x65, 1, 0, 0, 0, 3, 0x41, 2, 3]),
            ("aud inside", 4, &[0, 0, 0, 2, 0x65, 1, 0, 0, 0, 2, 9, 0x10, 0, 0, 0, 3, 0x41, 2, 3]),
            ("empty units", 4, &[0, 0, 0, 0, 0, 0, 0, 2, 0x65, 1, 0, 0, 0, 0, 0, 0, 0, 3, 0x41, 2, 3]),
            ("three bytes", 3, &[0, 0, 2, 0x65, 1, 0, 0, 3, 0x41, 2, 3]),
            ("two bytes", 2, &[0, 2, 0x65, 1, 0, 3, 0x41, 2, 3]),
            ("one byte", 1, &[2, 0x65, 1, 3, 0x41, 2, 3]),
            ("start codes", 4, &[0, 0, 0, 1, 9, 0x10, 0, 0, 1, 0x65, 1, 0, 0, 1, 0x41, 2, 3]),
            ("start codes and zeros", 4, &[0, 0, 1, 0x65, 1, 0, 0, 0, 0, 1, 0x41, 2, 3, 0, 0]),
        ];
        for (name, length_bytes, data) in cases {
            let unit = canonical_access_unit(Bytes::copy_from_slice(data), length_bytes, is_aud);
            assert_eq!(unit, Ok(Some(Bytes::from_static(canonical))), "{name}");
        }
    }

    #[test]
    fn a_recovery_point_may_be_any_of_the_messages() {
        let cases: [(&str, &[u8], bool); 10] = [
            ("alone", &[6, 1, 0x80, 0x80], true),
            ("behind others", &[0, 1, 0x80, 1, 2, 9, 9, 6, 1, 0x80, 0x80], true),
            ("behind one without content", &[1, 0, 6, 1, 0x80, 0x80], true),
            ("behind emulation prevention", &[5, 4, 0, 0, 3, 0, 6, 6, 1, 0x80, 0x80], true),
            ("behind one of type 128", &[128, 1, 7, 6, 1, 0x80, 0x80], true),
            ("another", &[5, 2, 6, 6, 0x80], false),
            ("a long type", &[255, 6, 1, 0x80, 0x80], false),
            ("a size that is not there", &[5, 9, 6, 1, 0x80], false),
            ("cut off", &[255], false),
            ("nothing", &[], false),
        ];
        for (name, body, expected) in cases {
            assert_eq!(has_recovery_point(body), expected, "{name}");
        }
    }

    #[test]
    fn canonical_data_is_not_copied() {
        let data = Bytes::from(vec![0, 0, 0, 2, 0x65, 1, 0, 0, 0, 3, 0x41, 2, 3]);
        let unit = canonical_access_unit(data.clone(), 4, is_aud).unwrap().unwrap();
        assert_eq!(unit.as_ptr(), data.as_ptr());
        let data = Bytes::from(vec![0, 0, 0, 2, 9, 0x10, 0, 0, 0, 2, 0x65, 1]);
        let unit = canonical_access_unit(data.clone(), 4, is_aud).unwrap().unwrap();
        assert_eq!(unit.as_ptr(), data[6..].as_ptr(), "behind a leading delimiter");
    }

    #[test]
    fn nothing_may_remain() {
        let cases: [(&str, &[u8]); 4] = [
            ("empty", &[]),
            ("aud", &[0, 0, 0, 2, 9, 0x10]),
            ("aud with start code", &[0, 0, 0, 1, 9, 0x10]),
            ("code", &[0, 0, 1]),
        ];
        for (name, data) in cases {
            assert_eq!(canonical_access_unit(Bytes::copy_from_slice(data), 4, is_aud), Ok(None), "{name}");
        }
    }

    #[test]
    fn lengths_have_to_add_up() {
        let whole: &[u8] = &[0, 0, 0, 2, 0x65, 1, 0, 0, 0, 3, 0x41, 2, 3];
        for cut in 1..whole.len() {
            let unit = canonical_access_unit(Bytes::copy_from_slice(&whole[..cut]), 4, is_aud);
            assert_eq!(unit.is_err(), cut != 6, "cut at {cut}");
        }
        assert_eq!(canonical_access_unit(Bytes::from_static(&[0xFF; 5]), 4, is_aud), Err(BrokenFrame));
    }
}
