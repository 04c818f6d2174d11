//! An FLV byte stream. Spec: FLV 10.1 §E.2 to §E.4.1.

use super::{Broken, Found, Header, Unit};

const FILE_HEADER_BYTES: usize = 9;
const TAG_HEADER_BYTES: usize = 11;
const PREVIOUS_TAG_SIZE_BYTES: usize = 4;

#[derive(Default)]
pub struct FlvScanner {
    unit: Unit,
    in_body: bool,
    began: bool,
    skip: usize,
    header: Header<TAG_HEADER_BYTES>,
}

impl FlvScanner {
    pub fn feed(&mut self, mut input: &[u8], found: &mut impl FnMut(Found<'_>)) -> Result<(), Broken> {
        while !input.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(input.len());
                self.skip -= skipped;
                input = &input[skipped..];
            } else if self.in_body {
                let (body, rest) = input.split_at(self.unit.left().min(input.len()));
                self.unit.feed(body, found);
                input = rest;
                self.end_if_done();
            } else if !self.began {
                self.file_header(&mut input)?;
            } else if self.header.collect(TAG_HEADER_BYTES, &mut input) {
                let [kind, s2, s1, s0, ..] = self.header.bytes;
                self.header.len = 0;
                self.unit.begin(kind, u32::from_be_bytes([0, s2, s1, s0]) as usize);
                self.in_body = true;
                self.end_if_done();
            }
        }
        Ok(())
    }

    fn end_if_done(&mut self) {
        if self.unit.left() == 0 {
            self.in_body = false;
            self.skip = PREVIOUS_TAG_SIZE_BYTES;
        }
    }

    fn file_header(&mut self, input: &mut &[u8]) -> Result<(), Broken> {
        if self.header.collect(FILE_HEADER_BYTES, input) {
            if !self.header.bytes.starts_with(b"FLV") {
                return Err(Broken("not FLV"));
            }
            self.header.len = 0;
            self.skip = PREVIOUS_TAG_SIZE_BYTES;
            self.began = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Seen, scan_in_pieces, video};
    use super::*;

    pub fn tag(kind: u8, body: &[u8]) -> Vec<u8> {
        let [_, a, b, c] = (body.len() as u32).to_be_bytes();
        [&[kind, a, b, c, 0, 0, 0, 0, 0, 0, 0], body, &(body.len() as u32 + 11).to_be_bytes()[..]].concat()
    }

    #[test]
    fn tags_are_found_in_any_pieces() {
        let mut stream = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
        stream.extend(tag(18, b"metadata"));
        stream.extend(tag(9, &[0x17, 0, 0, 0, 0, 1]));
        stream.extend(tag(8, &[0xAF, 1, 7]));
        stream.extend(tag(9, &[]));
        stream.extend(tag(9, &video(1, true, 5000)));
        stream.extend(tag(9, &video(2, false, 90)));
        let seen = scan_in_pieces(&stream, FlvScanner::default, |s, bytes, mut found| s.feed(bytes, &mut found).unwrap());
        let expected =
            [Seen::Other(18, 8), Seen::Audio, Seen::First(1), Seen::Last(1, true), Seen::First(2), Seen::Last(2, false)];
        assert_eq!(seen, expected);
    }

    #[test]
    fn other_data_is_refused() {
        assert_eq!(FlvScanner::default().feed(b"<html> not found", &mut |_| {}), Err(Broken("not FLV")));
    }
}
