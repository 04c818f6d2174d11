//! HTTP responses one after the other on one connection, each with its length. Spec: RFC 9112 §4, §6.2.

use super::Broken;

/// A longer head than this is none.
const HEAD_BYTES_MAX: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A head has come: its status.
    Head(u16),
    Body(&'a [u8]),
    /// A response is complete.
    End,
}

#[derive(Default)]
pub struct ResponseScanner {
    head: Vec<u8>,
    /// Bytes of the present body that are still to come; `None`: the head is not complete.
    left: Option<usize>,
}

impl ResponseScanner {
    pub fn feed(&mut self, mut input: &[u8], event: &mut impl FnMut(Event<'_>) -> Result<(), Broken>) -> Result<(), Broken> {
        loop {
            match self.left {
                Some(0) => {
                    self.left = None;
                    event(Event::End)?;
                }
                _ if input.is_empty() => return Ok(()),
                Some(left) => {
                    let (bytes, rest) = input.split_at(left.min(input.len()));
                    (self.left, input) = (Some(left - bytes.len()), rest);
                    event(Event::Body(bytes))?;
                }
                None => self.head_byte(&mut input, event)?,
            }
        }
    }

    fn head_byte(&mut self, input: &mut &[u8], event: &mut impl FnMut(Event<'_>) -> Result<(), Broken>) -> Result<(), Broken> {
        self.head.push(input[0]);
        *input = &input[1..];
        if self.head.len() > HEAD_BYTES_MAX {
            return Err(Broken("the response has no end of its head"));
        }
        if !self.head.ends_with(b"\r\n\r\n") {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&self.head).to_ascii_lowercase();
        let status =
            text.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(Broken("a response without a status"))?;
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        self.left = match (status, length) {
            (204 | 304, _) => Some(0),
            (_, Some(length)) => Some(length),
            (_, None) => return Err(Broken("a response without its length")),
        };
        self.head.clear();
        event(Event::Head(status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_follow_each_other_in_pieces_of_any_size() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n\
            HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nd";
        for size in 1..=bytes.len() {
            let (mut scanner, mut body, mut statuses, mut ends) = (ResponseScanner::default(), Vec::new(), Vec::new(), 0);
            for piece in bytes.chunks(size) {
                let mut take = |event: Event<'_>| {
                    match event {
                        Event::Head(status) => statuses.push(status),
                        Event::Body(bytes) => body.extend_from_slice(bytes),
                        Event::End => ends += 1,
                    }
                    Ok(())
                };
                scanner.feed(piece, &mut take).unwrap();
            }
            assert_eq!(
                (body.as_slice(), statuses.as_slice(), ends),
                (b"abcd".as_slice(), [200, 304, 404, 200].as_slice(), 4),
                "{size}"
            );
        }
        let endless = ResponseScanner::default().feed(b"HTTP/1.1 200 OK\r\n\r\n", &mut |_| Ok(()));
        assert_eq!(endless, Err(Broken("a response without its length")));
    }
}
