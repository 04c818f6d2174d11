//! What stands around each packet of a byte stream on its way to a viewer: nothing, an HTTP chunk, or a WebSocket message.
//!
//! RFC 9112 §7.1 (chunked transfer coding), RFC 6455 §5. An envelope is written with the packet, once for all viewers.

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

use super::websocket::{self, Opcode};

/// The end of a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The longest that [`Envelope::open`] and [`Envelope::close`] write together.
pub const ENVELOPE_BYTES_MAX: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Envelope {
    None,
    HttpChunk,
    WebSocket,
}

impl Envelope {
    /// What stands before `payload_bytes` of payload.
    pub fn open(self, payload_bytes: usize, out: &mut BytesMut) {
        match self {
            Envelope::None => {}
            Envelope::HttpChunk => {
                let digits = (usize::BITS - payload_bytes.leading_zeros()).div_ceil(4).max(1);
                for digit in (0..digits).rev() {
                    out.put_u8(b"0123456789abcdef"[payload_bytes >> (4 * digit) & 0xF]);
                }
                out.put_slice(b"\r\n");
            }
            Envelope::WebSocket => websocket::frame_header(Opcode::Binary, payload_bytes, out),
        }
    }

    /// A packet in three parts: all headers, the shared `body`, all trailers. One allocation holds the first and the last.
    pub fn enclose(self, front: &[u8], body: Bytes, back: &[u8]) -> SmallVec<[Bytes; 3]> {
        let mut ends = BytesMut::with_capacity(front.len() + back.len() + ENVELOPE_BYTES_MAX);
        self.open(front.len() + body.len() + back.len(), &mut ends);
        ends.put_slice(front);
        let before = ends.len();
        ends.put_slice(back);
        self.close(&mut ends);
        let mut front = ends.freeze();
        let back = front.split_off(before);
        [front, body, back].into_iter().filter(|part| !part.is_empty()).collect()
    }

    /// What stands behind it.
    pub fn close(self, out: &mut BytesMut) {
        if self == Envelope::HttpChunk {
            out.put_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_sized_in_hexadecimal() {
        for (bytes, size) in [(0, "0"), (1, "1"), (15, "f"), (16, "10"), (0x1234, "1234"), (0xFF_FFFF, "ffffff")] {
            let mut out = BytesMut::new();
            Envelope::HttpChunk.open(bytes, &mut out);
            Envelope::HttpChunk.close(&mut out);
            assert_eq!(out, format!("{size}\r\n\r\n").as_bytes());
        }
    }

    #[test]
    fn no_envelope_is_longer_than_said() {
        for envelope in [Envelope::None, Envelope::HttpChunk, Envelope::WebSocket] {
            let mut out = BytesMut::new();
            envelope.open(usize::MAX >> 1, &mut out);
            envelope.close(&mut out);
            assert!(out.len() <= ENVELOPE_BYTES_MAX, "{envelope:?}");
        }
    }
}
