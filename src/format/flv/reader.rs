//! The FLV byte stream, cut into tags.
//!
//! Spec: FLV 10.1 §E.2, §E.3, §E.4.1. Takes pieces of any size; a tag larger than the limit is refused before it is collected, one
//! of an unknown type or encrypted is dropped as it comes. Bodies share the reader's memory. Not here: what a body means.

use bytes::{Buf, Bytes, BytesMut};

use super::{FlvError, TagType};

/// `FLV`, version, flags, u32 offset of what follows.
const FILE_HEADER_BYTES: usize = 9;
/// A larger offset than this is no file header that anyone writes.
const FILE_HEADER_BYTES_MAX: u32 = 1024;
/// Type, u24 size, u24 + u8 timestamp, u24 stream id.
const TAG_HEADER_BYTES: usize = 11;
const PREVIOUS_TAG_SIZE_BYTES: usize = 4;

/// Finds the tags in an FLV byte stream: push bytes, then take tags until there is none.
#[derive(Debug)]
pub struct TagReader {
    buffer: BytesMut,
    tag_bytes_max: usize,
    /// Bytes still to come that nobody wants.
    skip: usize,
    in_tags: bool,
}

impl TagReader {
    /// `tag_bytes_max`: the largest tag body that is accepted.
    pub fn new(tag_bytes_max: usize) -> Self {
        TagReader { buffer: BytesMut::new(), tag_bytes_max, skip: 0, in_tags: false }
    }

    /// Appends bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        self.buffer.extend_from_slice(&bytes[skipped..]);
    }

    /// The next whole tag: type, timestamp in milliseconds, body. `None`: more bytes are needed.
    pub fn next_tag(&mut self) -> Result<Option<(TagType, u32, Bytes)>, FlvError> {
        if !self.in_tags && !self.read_file_header()? {
            return Ok(None);
        }
        loop {
            self.skip_buffered();
            let Some(header) = self.buffer.first_chunk::<TAG_HEADER_BYTES>() else { return Ok(None) };
            let [kind, s2, s1, s0, t2, t1, t0, t3, ..] = *header;
            let size = u32::from_be_bytes([0, s2, s1, s0]) as usize;
            // The upper bits of the type are reserved or say that the tag is encrypted: then it does not match.
            let Some(tag) = TagType::from_byte(kind) else {
                self.skip = TAG_HEADER_BYTES + size + PREVIOUS_TAG_SIZE_BYTES;
                continue;
            };
            if size > self.tag_bytes_max {
                return Err(FlvError::TagTooLarge { size, size_max: self.tag_bytes_max });
            }
            if self.buffer.len() < TAG_HEADER_BYTES + size {
                return Ok(None);
            }
            self.buffer.advance(TAG_HEADER_BYTES);
            let body = self.buffer.split_to(size).freeze();
            self.skip = PREVIOUS_TAG_SIZE_BYTES;
            self.skip_buffered();
            return Ok(Some((tag, u32::from_be_bytes([t3, t2, t1, t0]), body)));
        }
    }

    fn skip_buffered(&mut self) {
        let skipped = self.skip.min(self.buffer.len());
        self.buffer.advance(skipped);
        self.skip -= skipped;
    }

    /// Whether the file header has been read.
    fn read_file_header(&mut self) -> Result<bool, FlvError> {
        let Some(header) = self.buffer.first_chunk::<FILE_HEADER_BYTES>() else { return Ok(false) };
        let [b'F', b'L', b'V', _version, _flags, offset @ ..] = *header else { return Err(FlvError::NotFlv) };
        let offset = u32::from_be_bytes(offset);
        if !(FILE_HEADER_BYTES as u32..=FILE_HEADER_BYTES_MAX).contains(&offset) {
            return Err(FlvError::NotFlv);
        }
        self.skip = offset as usize + PREVIOUS_TAG_SIZE_BYTES;
        self.in_tags = true;
        Ok(true)
    }
}
