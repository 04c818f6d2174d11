//! An HTTP response: its head, then its body as one byte stream, chunked or not. Spec: RFC 9112 §4, §6, §7.1.

use super::Broken;

/// A longer head than this is none.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// A longer line with a chunk's size than this is none.
const CHUNK_LINE_BYTES_MAX: usize = 256;

#[derive(Default)]
pub struct HttpScanner {
    head: Vec<u8>,
    body: Body,
}

#[derive(Default)]
enum Body {
    /// The head is not complete.
    #[default]
    None,
    Plain,
    /// Bytes of the chunk still to come; 0: its line is being read into `head`.
    Chunked(usize),
}

impl HttpScanner {
    /// `wanted`: the status of a response that brings media.
    pub fn feed(
        &mut self,
        wanted: u16,
        mut input: &[u8],
        data: &mut impl FnMut(&[u8]) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        while !input.is_empty() {
            match &mut self.body {
                Body::None => self.head_bytes(wanted, &mut input)?,
                Body::Plain => {
                    data(input)?;
                    return Ok(());
                }
                Body::Chunked(0) => self.chunk_line(&mut input)?,
                Body::Chunked(left) => {
                    let (bytes, rest) = input.split_at((*left).min(input.len()));
                    *left -= bytes.len();
                    input = rest;
                    data(bytes)?;
                }
            }
        }
        Ok(())
    }

    fn head_bytes(&mut self, wanted: u16, input: &mut &[u8]) -> Result<(), Broken> {
        while let Some((byte, rest)) = input.split_first() {
            *input = rest;
            self.head.push(*byte);
            if self.head.ends_with(b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&self.head).to_ascii_lowercase();
                if text.split(' ').nth(1) != Some(wanted.to_string().as_str()) {
                    return Err(Broken("the response has another status"));
                }
                let chunked = text.lines().any(|line| line.starts_with("transfer-encoding:") && line.contains("chunked"));
                self.body = if chunked { Body::Chunked(0) } else { Body::Plain };
                self.head.clear();
                return Ok(());
            }
            if self.head.len() > HEAD_BYTES_MAX {
                return Err(Broken("the response has no end of its head"));
            }
        }
        Ok(())
    }

    /// The line with a chunk's size, and the line end of the chunk before.
    fn chunk_line(&mut self, input: &mut &[u8]) -> Result<(), Broken> {
        while let Some((byte, rest)) = input.split_first() {
            *input = rest;
            if *byte != b'\n' {
                self.head.push(*byte);
                if self.head.len() > CHUNK_LINE_BYTES_MAX {
                    return Err(Broken("a chunk without a size"));
                }
                continue;
            }
            let line = String::from_utf8_lossy(&self.head);
            let size = line.split(';').next().unwrap_or_default().trim();
            if !size.is_empty() {
                let size = usize::from_str_radix(size, 16).map_err(|_| Broken("a chunk without a size"))?;
                if size == 0 {
                    return Err(Broken("the response has ended"));
                }
                self.body = Body::Chunked(size);
                self.head.clear();
                return Ok(());
            }
            self.head.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_plain_and_chunked() {
        let cases: [(&str, &[u8]); 2] = [
            ("plain", b"HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\n\r\nabcdefgh"),
            ("chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n5;x=y\r\ndefgh\r\n"),
        ];
        for (name, bytes) in cases {
            for size in [1, 2, 3, 10, bytes.len()] {
                let mut body = Vec::new();
                let mut scanner = HttpScanner::default();
                for piece in bytes.chunks(size) {
                    let mut take = |bytes: &[u8]| {
                        body.extend_from_slice(bytes);
                        Ok(())
                    };
                    scanner.feed(200, piece, &mut take).unwrap();
                }
                assert_eq!(body, b"abcdefgh", "{name} in pieces of {size}");
            }
        }
        let refused = HttpScanner::default().feed(200, b"HTTP/1.1 404 Not Found\r\n\r\n", &mut |_| Ok(()));
        assert_eq!(refused, Err(Broken("the response has another status")));
    }
}
