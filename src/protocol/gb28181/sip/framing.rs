//! Bytes of a TCP connection → whole SIP messages, by their Content-Length.
//!
//! RFC 3261 §18.3 and §7.5: empty lines in front of a message, which devices send to keep the connection open, are passed over. Owns what
//! is not complete, at most [`HELD_BYTES_MAX`]. An error ends the connection: where the next message begins is not known any more.

use bytes::{Buf as _, Bytes, BytesMut};

use super::message::{BODY_BYTES_MAX, HEAD_BYTES_MAX, Head, Message, MessageError, blank_lines, empty_line};

/// Bytes that are kept at most: one message.
pub const HELD_BYTES_MAX: usize = HEAD_BYTES_MAX + BODY_BYTES_MAX;

/// Why a connection ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct FramingError {
    pub error: MessageError,
    /// The last word to a request that is understood so far.
    pub answer: Option<Bytes>,
}

impl FramingError {
    /// The label under which it is counted.
    pub fn reason(&self) -> &'static str {
        self.error.reason()
    }
}

#[derive(Debug, Default)]
pub struct Framing {
    buffer: BytesMut,
    /// Bytes in which the end of the head has been looked for.
    searched: usize,
    /// Bytes of the message whose head is complete.
    length: Option<usize>,
}

impl Framing {
    pub fn held_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Takes what belongs to the next message from `input`; `None` when all is taken and no message is complete.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Bytes>, FramingError> {
        loop {
            if let Some(length) = self.length {
                self.fill(input, length);
                if self.buffer.len() < length {
                    return Ok(None);
                }
                (self.length, self.searched) = (None, 0);
                return Ok(Some(self.buffer.split_to(length).freeze()));
            }
            if !self.find_head(input)? {
                return Ok(None);
            }
        }
    }

    fn fill(&mut self, input: &mut &[u8], length: usize) {
        let count = input.len().min(length.saturating_sub(self.buffer.len()));
        self.buffer.extend_from_slice(&input[..count]);
        input.advance(count);
    }

    /// Whether the head is complete; its message is known by its length then.
    fn find_head(&mut self, input: &mut &[u8]) -> Result<bool, FramingError> {
        self.skip_blank_lines(input);
        self.fill(input, HEAD_BYTES_MAX + 1);
        // The empty line may be cut anywhere.
        let from = self.searched.saturating_sub(3);
        let Some(end) = empty_line(&self.buffer[from..]).map(|end| from + end) else {
            self.searched = self.buffer.len();
            let is_full = self.buffer.len() > HEAD_BYTES_MAX;
            return if is_full { Err(MessageError::HeadTooLong.into()) } else { Ok(false) };
        };
        let head = Message::parse_head(&self.buffer[..end])?;
        self.length = Some(end + body_length(&head)?);
        Ok(true)
    }

    fn skip_blank_lines(&mut self, input: &mut &[u8]) {
        if self.searched == 0 {
            self.buffer.advance(blank_lines(&self.buffer));
            if self.buffer.is_empty() {
                input.advance(blank_lines(input));
            }
        }
    }
}

/// Over a stream, a message without Content-Length has no body.
fn body_length(head: &Head) -> Result<usize, FramingError> {
    let length = head.length.unwrap_or(0);
    if length <= BODY_BYTES_MAX {
        return Ok(length);
    }
    let error = MessageError::BodyTooLong;
    let answer = match &head.message {
        Message::Request(request) if request.identity().is_some() => Some(request.response(error.status()).to_bytes()),
        _ => None,
    };
    Err(FramingError { error, answer })
}

impl From<MessageError> for FramingError {
    fn from(error: MessageError) -> Self {
        FramingError { error, answer: None }
    }
}
