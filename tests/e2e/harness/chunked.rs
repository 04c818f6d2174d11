//! The chunked transfer coding (RFC 9112 §7.1), undone piece by piece.

#[derive(Debug, Default)]
pub struct Chunked {
    buffer: Vec<u8>,
    /// Bytes of the present chunk that are still to come.
    left: usize,
    /// A line end is due behind a chunk.
    line_end: bool,
    /// The last chunk, which is empty, was there.
    pub ended: bool,
}

impl Chunked {
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.buffer.extend_from_slice(bytes);
        let (mut body, mut at) = (Vec::new(), 0);
        while !self.ended {
            let rest = &self.buffer[at..];
            if self.left > 0 {
                let count = self.left.min(rest.len());
                body.extend_from_slice(&rest[..count]);
                at += count;
                self.left -= count;
                self.line_end = true;
                if self.left > 0 {
                    break;
                }
            } else if self.line_end {
                let Some(two) = rest.first_chunk::<2>() else { break };
                assert_eq!(two, b"\r\n", "behind a chunk");
                at += 2;
                self.line_end = false;
            } else {
                let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else { break };
                let size = std::str::from_utf8(&rest[..end]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
                self.left = size.unwrap_or_else(|| panic!("the size of a chunk: {:?}", &rest[..end]));
                self.ended = self.left == 0;
                at += end + 2;
            }
        }
        self.buffer.drain(..at);
        body
    }
}
