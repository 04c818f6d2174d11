//! A server's WebSocket frames: the payload of the data frames is one byte stream. Spec: RFC 6455 §5.2.

use super::{Broken, Header};

/// Two bytes and a 64-bit length; servers do not mask.
const HEADER_BYTES_MAX: usize = 10;
const CLOSE: u8 = 8;

#[derive(Default)]
pub struct WebSocketScanner {
    header: Header<HEADER_BYTES_MAX>,
    left: u64,
    is_data: bool,
}

impl WebSocketScanner {
    pub fn feed(&mut self, mut input: &[u8], data: &mut impl FnMut(&[u8]) -> Result<(), Broken>) -> Result<(), Broken> {
        while !input.is_empty() {
            if self.left > 0 {
                let (payload, rest) = input.split_at(usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len()));
                self.left -= payload.len() as u64;
                input = rest;
                if self.is_data {
                    data(payload)?;
                }
            } else {
                self.header(&mut input)?;
            }
        }
        Ok(())
    }

    fn header(&mut self, input: &mut &[u8]) -> Result<(), Broken> {
        if !self.header.collect(2, input) {
            return Ok(());
        }
        let [first, length, ..] = self.header.bytes;
        let wanted = match length {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        if !self.header.collect(wanted, input) {
            return Ok(());
        }
        if length > 127 {
            return Err(Broken("a masked WebSocket frame"));
        }
        if first & 0xF == CLOSE {
            return Err(Broken("closed by a WebSocket frame"));
        }
        let more = self.header.bytes[2..wanted].iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        self.left = if wanted == 2 { length.into() } else { more };
        self.is_data = first & 0x8 == 0;
        self.header.len = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_joined_and_control_frames_left_out() {
        let mut stream = vec![0x82, 3, 1, 2, 3, 0x89, 2, 9, 9, 0x82, 126, 1, 0];
        stream.extend([4; 256]);
        stream.extend([0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        stream.extend(vec![5; 65536]);
        for size in [1, 2, 5, 300, stream.len()] {
            let mut joined = Vec::new();
            let mut scanner = WebSocketScanner::default();
            for piece in stream.chunks(size) {
                let mut take = |bytes: &[u8]| {
                    joined.extend_from_slice(bytes);
                    Ok(())
                };
                scanner.feed(piece, &mut take).unwrap();
            }
            assert_eq!(joined.len(), 3 + 256 + 65536, "pieces of {size}");
            assert!(joined.starts_with(&[1, 2, 3, 4]) && joined.ends_with(&[5]));
        }
    }
}
