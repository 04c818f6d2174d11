//! RTMP chunks ⇄ messages, and the muxer that writes a stream's FLV tags as RTMP messages.
//!
//! Adobe RTMP 1.0 §5.3 (chunk stream) and §5.4.1, §5.4.2 (Set Chunk Size and Abort, which the reader carries out itself).
//!
//! Limits: [`CHUNK_STREAMS_MAX`]; a message's length and the declared lengths of all unfinished messages together, both checked before
//! memory is taken. A reader that waits for a first message owns no heap.
//!
//! Memory: a payload is copied once, from the caller's bytes into a buffer of exactly the declared length, which becomes
//! [`Message::body`]. On the way out the payload of a large message is shared, not copied: the chunk headers stand in parts of their own.
//!
//! Not here: what the messages mean (`protocol::rtmp`), and what a tag holds (`format::flv`, `format::flv_mux`).

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

use super::flv::TagType;
use super::flv_mux::{Muxed, Tag, TagMuxer};
use super::{HevcForm, Muxer, Packet, PacketKind};
use crate::media::{MediaEvent, MediaTime, Stamp};

#[cfg(test)]
mod tests;

/// The chunk size of both directions until a Set Chunk Size says otherwise (§5.4.1), in bytes.
pub const CHUNK_SIZE_DEFAULT: usize = 128;

/// The chunk size in which the server sends once it has announced it, in bytes: most frames fit into one chunk.
pub const OUT_CHUNK_SIZE: usize = 60_000;

/// A message's length has 24 bits, so a larger chunk size means the same as this one (§5.4.1).
const CHUNK_SIZE_MAX: u32 = 0xFF_FFFF;

/// How many chunk streams a peer may use. Clients use four to six.
pub const CHUNK_STREAMS_MAX: usize = 64;

/// A 24-bit time stamp with this value says that 32 bits follow the header (§5.3.1.3).
const EXTENDED: u32 = 0xFF_FFFF;

/// Basic header (3), message header (11), extended time stamp (4).
const HEADER_BYTES_MAX: usize = 18;

/// Message types (§5.4, §7.1) by their names in the specification.
pub mod message_type {
    pub const SET_CHUNK_SIZE: u8 = 1;
    pub const ABORT: u8 = 2;
    pub const ACKNOWLEDGEMENT: u8 = 3;
    pub const USER_CONTROL: u8 = 4;
    pub const WINDOW_ACKNOWLEDGEMENT_SIZE: u8 = 5;
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    pub const AUDIO: u8 = 8;
    pub const VIDEO: u8 = 9;
    pub const DATA_AMF3: u8 = 15;
    pub const COMMAND_AMF3: u8 = 17;
    pub const DATA_AMF0: u8 = 18;
    pub const COMMAND_AMF0: u8 = 20;
    pub const AGGREGATE: u8 = 22;
}

/// The chunk streams on which this program sends.
pub mod chunk_stream {
    /// The specification fixes this one (§5.4).
    pub const CONTROL: u8 = 2;
    pub const COMMAND: u8 = 3;
    pub const AUDIO: u8 = 4;
    pub const DATA: u8 = 5;
    pub const VIDEO: u8 = 6;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error("a message of {length} bytes is longer than the limit of {limit}")]
    MessageTooLong { length: usize, limit: usize },
    #[error("the unfinished messages together are longer than {limit} bytes")]
    TooMuchUnfinished { limit: usize },
    #[error("more than {CHUNK_STREAMS_MAX} chunk streams")]
    TooManyChunkStreams,
    #[error("chunk stream {0} begins with a header that refers to an earlier one")]
    NoEarlierHeader(u32),
    #[error("a new message on chunk stream {0} begins inside another one")]
    MessageInMessage(u32),
    #[error("a chunk of type 3 on chunk stream {0} repeats another extended time stamp than its message's")]
    ExtendedTimestamp(u32),
    #[error("a chunk size that is not allowed")]
    ChunkSize,
    #[error("a chunk control message is shorter than its fields")]
    ControlTooShort,
}

/// One message, put together from its chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub chunk_stream: u32,
    /// Absolute, in milliseconds; wraps.
    pub timestamp: u32,
    /// See [`message_type`].
    pub message_type: u8,
    pub message_stream: u32,
    pub body: Bytes,
}

/// Puts messages together. Each chunk stream is bounded on its own; they may be interleaved in any way.
#[derive(Debug)]
pub struct ChunkReader {
    message_bytes_max: usize,
    chunk_size: u32,
    streams: Vec<ChunkStream>,
    /// Declared lengths of all unfinished messages.
    unfinished_bytes: usize,
    /// The header that is being read.
    header: [u8; HEADER_BYTES_MAX],
    header_len: u8,
    /// The chunk whose payload is being read.
    payload: Option<Payload>,
}

#[derive(Clone, Copy, Debug)]
struct Payload {
    /// Index into `streams`.
    stream: usize,
    /// Bytes of this chunk that are still to come.
    left: usize,
}

/// What a chunk stream's headers have said so far, and its unfinished message.
#[derive(Debug)]
struct ChunkStream {
    id: u32,
    /// Absolute time of the newest message.
    timestamp: u32,
    /// The newest time field: absolute in a header of type 0, else the step from the message before.
    field: u32,
    /// `field` was given in 32 bits.
    extended: bool,
    length: u32,
    message_type: u8,
    message_stream: u32,
    unfinished: bool,
    body: BytesMut,
}

/// How a chunk header goes on.
enum HeaderStep {
    /// This many bytes in all, before more is known.
    Need(usize),
    /// The header is complete. The last four bytes must repeat the extended time stamp, else they are payload.
    Repeat {
        at: usize,
        stream: usize,
    },
    Complete,
}

impl ChunkReader {
    /// `message_bytes_max`: the longest message. Unfinished messages on several chunk streams may have twice that together.
    pub fn new(message_bytes_max: usize) -> Self {
        ChunkReader {
            message_bytes_max,
            chunk_size: CHUNK_SIZE_DEFAULT as u32,
            streams: Vec::new(),
            unfinished_bytes: 0,
            header: [0; HEADER_BYTES_MAX],
            header_len: 0,
            payload: None,
        }
    }

    /// Changes the longest message for messages that begin from now on.
    pub fn set_message_bytes_max(&mut self, message_bytes_max: usize) {
        self.message_bytes_max = message_bytes_max;
    }

    /// Takes bytes off the front of `input` until a message is complete or nothing is left. Set Chunk Size and Abort are carried out
    /// and not returned. After an error the reader is of no more use.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Message>, ChunkError> {
        loop {
            if self.payload.is_none() {
                if !self.read_header(input)? {
                    return Ok(None);
                }
                // Already begun if bytes that were read as header turned out to be payload.
                if self.payload.is_none() {
                    self.begin_chunk()?;
                }
            }
            let Some(message) = self.read_payload(input) else {
                if input.is_empty() {
                    return Ok(None);
                }
                continue;
            };
            if !self.control(&message)? {
                return Ok(Some(message));
            }
        }
    }

    /// Declared lengths of the unfinished messages.
    pub fn unfinished_bytes(&self) -> usize {
        self.unfinished_bytes
    }

    /// Bytes of the unfinished messages that have come.
    pub fn held_bytes(&self) -> usize {
        self.streams.iter().map(|stream| stream.body.len()).sum()
    }

    /// Collects one chunk header; false when more bytes are needed.
    fn read_header(&mut self, input: &mut &[u8]) -> Result<bool, ChunkError> {
        loop {
            match self.header_step()? {
                HeaderStep::Complete => return Ok(true),
                HeaderStep::Need(bytes) => {
                    let take = (bytes - usize::from(self.header_len)).min(input.len());
                    if take == 0 {
                        return Ok(false);
                    }
                    self.header[usize::from(self.header_len)..][..take].copy_from_slice(&input[..take]);
                    self.header_len += take as u8;
                    *input = &input[take..];
                }
                HeaderStep::Repeat { at, stream } => {
                    let Some(&byte) = input.first() else { return Ok(false) };
                    let matched = usize::from(self.header_len) - at;
                    if self.streams[stream].field.to_be_bytes()[matched] != byte {
                        return self.take_repeat_as_payload(at, stream).map(|()| true);
                    }
                    self.header[usize::from(self.header_len)] = byte;
                    self.header_len += 1;
                    *input = &input[1..];
                    if matched == 3 {
                        return Ok(true);
                    }
                }
            }
        }
    }

    fn header_step(&self) -> Result<HeaderStep, ChunkError> {
        let header = &self.header[..usize::from(self.header_len)];
        let Some(&first) = header.first() else { return Ok(HeaderStep::Need(1)) };
        let basic = basic_header_len(first);
        let message_header = basic + [11, 7, 3, 0][usize::from(first >> 6)];
        if header.len() < message_header {
            return Ok(HeaderStep::Need(message_header));
        }
        if first >> 6 < 3 {
            let extended = read_u24(&header[basic..]) == EXTENDED;
            let all = message_header + if extended { 4 } else { 0 };
            return Ok(if header.len() < all { HeaderStep::Need(all) } else { HeaderStep::Complete });
        }
        let id = chunk_stream_id(header);
        match self.streams.iter().position(|stream| stream.id == id) {
            None => Err(ChunkError::NoEarlierHeader(id)),
            Some(stream) if self.streams[stream].extended => Ok(HeaderStep::Repeat { at: basic, stream }),
            Some(_) => Ok(HeaderStep::Complete),
        }
    }

    /// Some old encoders do not repeat the extended time stamp in chunks of type 3. The bytes that looked like it are payload.
    fn take_repeat_as_payload(&mut self, at: usize, stream: usize) -> Result<(), ChunkError> {
        let taken: SmallVec<[u8; 4]> = SmallVec::from_slice(&self.header[at..usize::from(self.header_len)]);
        self.header_len = at as u8;
        self.begin_chunk()?;
        let left = self.payload.map_or(0, |payload| payload.left);
        if taken.len() > left {
            return Err(ChunkError::ExtendedTimestamp(self.streams[stream].id));
        }
        self.streams[stream].body.extend_from_slice(&taken);
        self.payload = Some(Payload { stream, left: left - taken.len() });
        Ok(())
    }

    /// The header is complete: notes what it says, and takes memory if it begins a message.
    fn begin_chunk(&mut self) -> Result<(), ChunkError> {
        let header = self.header;
        let fmt = header[0] >> 6;
        let id = chunk_stream_id(&header);
        let index = self.stream_index(id, fmt)?;
        self.header_len = 0;
        let stream = &mut self.streams[index];
        if fmt == 3 {
            if !stream.unfinished {
                stream.timestamp = stream.timestamp.wrapping_add(stream.field);
                self.begin_message(index)?;
            }
        } else {
            if stream.unfinished {
                return Err(ChunkError::MessageInMessage(id));
            }
            stream.apply_header(fmt, &header[basic_header_len(header[0])..]);
            self.begin_message(index)?;
        }
        let stream = &self.streams[index];
        let left = (stream.length as usize - stream.body.len()).min(self.chunk_size as usize);
        self.payload = Some(Payload { stream: index, left });
        Ok(())
    }

    fn stream_index(&mut self, id: u32, fmt: u8) -> Result<usize, ChunkError> {
        if let Some(index) = self.streams.iter().position(|stream| stream.id == id) {
            return Ok(index);
        }
        // Old encoders begin the control chunk stream with a header of type 1, meaning a step from zero.
        if fmt != 0 && !(fmt == 1 && id == u32::from(chunk_stream::CONTROL)) {
            return Err(ChunkError::NoEarlierHeader(id));
        }
        if self.streams.len() == CHUNK_STREAMS_MAX {
            return Err(ChunkError::TooManyChunkStreams);
        }
        self.streams.push(ChunkStream {
            id,
            timestamp: 0,
            field: 0,
            extended: false,
            length: 0,
            message_type: 0,
            message_stream: 0,
            unfinished: false,
            body: BytesMut::new(),
        });
        Ok(self.streams.len() - 1)
    }

    fn begin_message(&mut self, index: usize) -> Result<(), ChunkError> {
        let stream = &mut self.streams[index];
        let length = stream.length as usize;
        if length > self.message_bytes_max {
            return Err(ChunkError::MessageTooLong { length, limit: self.message_bytes_max });
        }
        let limit = self.message_bytes_max.saturating_mul(2);
        if self.unfinished_bytes + length > limit {
            return Err(ChunkError::TooMuchUnfinished { limit });
        }
        self.unfinished_bytes += length;
        stream.unfinished = true;
        stream.body = BytesMut::with_capacity(length);
        Ok(())
    }

    fn read_payload(&mut self, input: &mut &[u8]) -> Option<Message> {
        let payload = self.payload.as_mut()?;
        let stream = &mut self.streams[payload.stream];
        let take = payload.left.min(input.len());
        stream.body.extend_from_slice(&input[..take]);
        *input = &input[take..];
        payload.left -= take;
        if payload.left > 0 {
            return None;
        }
        self.payload = None;
        if stream.body.len() < stream.length as usize {
            return None;
        }
        self.unfinished_bytes -= stream.length as usize;
        Some(stream.finish())
    }

    /// Carries out what concerns the chunks themselves; true if `message` was that.
    fn control(&mut self, message: &Message) -> Result<bool, ChunkError> {
        let field = || message.body.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)).ok_or(ChunkError::ControlTooShort);
        match message.message_type {
            message_type::SET_CHUNK_SIZE => {
                let size = field()?;
                if size == 0 || size > i32::MAX as u32 {
                    return Err(ChunkError::ChunkSize);
                }
                self.chunk_size = size.min(CHUNK_SIZE_MAX);
            }
            message_type::ABORT => {
                let id = field()?;
                if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id && stream.unfinished) {
                    self.unfinished_bytes -= stream.length as usize;
                    stream.finish();
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl ChunkStream {
    /// `fields`: the message header of type 0, 1 or 2 and the extended time stamp.
    fn apply_header(&mut self, fmt: u8, fields: &[u8]) {
        let short = read_u24(fields);
        self.extended = short == EXTENDED;
        let extended_at = [11, 7, 3][usize::from(fmt)];
        self.field = match fields[extended_at..].first_chunk() {
            Some(bytes) if self.extended => u32::from_be_bytes(*bytes),
            _ => short,
        };
        // Modulo 2^32 a step may also lead back: librtmp sends such steps.
        self.timestamp = if fmt == 0 { self.field } else { self.timestamp.wrapping_add(self.field) };
        if fmt < 2 {
            self.length = read_u24(&fields[3..]);
            self.message_type = fields[6];
        }
        if fmt == 0 {
            self.message_stream = u32::from_le_bytes([fields[7], fields[8], fields[9], fields[10]]);
        }
    }

    fn finish(&mut self) -> Message {
        self.unfinished = false;
        Message {
            chunk_stream: self.id,
            timestamp: self.timestamp,
            message_type: self.message_type,
            message_stream: self.message_stream,
            body: std::mem::take(&mut self.body).freeze(),
        }
    }
}

fn basic_header_len(first: u8) -> usize {
    match first & 0x3F {
        0 => 2,
        1 => 3,
        _ => 1,
    }
}

/// `header` holds a whole basic header (§5.3.1.1).
fn chunk_stream_id(header: &[u8]) -> u32 {
    match header[0] & 0x3F {
        0 => 64 + u32::from(header[1]),
        1 => 64 + u32::from(header[1]) + 256 * u32::from(header[2]),
        id => u32::from(id),
    }
}

fn read_u24(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]])
}

/// Everything about an outgoing message but its length and its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageHeader {
    /// See [`chunk_stream`]; 2 to 63.
    pub chunk_stream: u8,
    /// Absolute, in milliseconds; wraps.
    pub timestamp: u32,
    pub message_type: u8,
    pub message_stream: u32,
}

impl MessageHeader {
    /// Always of type 0: a viewer may skip packets, so no message may lean on an earlier one.
    fn write(&self, length: usize, out: &mut impl BufMut) {
        debug_assert!((2..64).contains(&self.chunk_stream) && length <= CHUNK_SIZE_MAX as usize);
        out.put_u8(self.chunk_stream);
        out.put_uint(u64::from(self.timestamp.min(EXTENDED)), 3);
        out.put_uint(length as u64, 3);
        out.put_u8(self.message_type);
        out.put_u32_le(self.message_stream);
        self.write_extended(out);
    }

    /// Stands before every further chunk. It repeats the extended time stamp, without which ffmpeg and librtmp lose track.
    fn write_continuation(&self, out: &mut impl BufMut) {
        out.put_u8(0xC0 | self.chunk_stream);
        self.write_extended(out);
    }

    fn write_extended(&self, out: &mut impl BufMut) {
        if self.timestamp >= EXTENDED {
            out.put_u32(self.timestamp);
        }
    }
}

/// Appends one message, cut into chunks of `chunk_size` bytes. Copies the payload: for commands and small media.
pub fn write_message(header: &MessageHeader, payload: &[&[u8]], chunk_size: usize, out: &mut Vec<u8>) {
    let length = payload.iter().map(|piece| piece.len()).sum();
    header.write(length, out);
    let mut room = chunk_size;
    for piece in payload {
        let mut piece = *piece;
        while !piece.is_empty() {
            if room == 0 {
                header.write_continuation(out);
                room = chunk_size;
            }
            let take = room.min(piece.len());
            out.extend_from_slice(&piece[..take]);
            room -= take;
            piece = &piece[take..];
        }
    }
}

/// Payloads up to this many bytes are copied behind their header: one part instead of two saves each viewer a slice per packet.
const COPIED_BYTES_MAX: usize = 1024;

/// One message whose payload is `head`, then `body`. A large body is shared: its slices stand between the chunk headers.
pub fn message_parts(header: &MessageHeader, head: &[u8], body: &Bytes, chunk_size: usize) -> SmallVec<[Bytes; 3]> {
    let mut parts = SmallVec::new();
    if body.len() <= COPIED_BYTES_MAX || head.len() >= chunk_size {
        let mut bytes = Vec::with_capacity(HEADER_BYTES_MAX + head.len() + body.len());
        write_message(header, &[head, body], chunk_size, &mut bytes);
        parts.push(Bytes::from(bytes));
        return parts;
    }
    let mut headers = BytesMut::with_capacity(2 * HEADER_BYTES_MAX + head.len());
    header.write(head.len() + body.len(), &mut headers);
    headers.extend_from_slice(head);
    let first_len = headers.len();
    header.write_continuation(&mut headers);
    let headers = headers.freeze();
    parts.push(headers.slice(..first_len));
    let mut at = body.len().min(chunk_size - head.len());
    parts.push(body.slice(..at));
    while at < body.len() {
        let end = body.len().min(at + chunk_size);
        parts.push(headers.slice(first_len..));
        parts.push(body.slice(at..end));
        at = end;
    }
    parts
}

/// Writes a stream as RTMP messages for its viewers.
pub struct RtmpMuxer {
    tags: TagMuxer,
    message_stream: u32,
}

impl RtmpMuxer {
    pub fn new(hevc: HevcForm, message_stream: u32) -> Self {
        RtmpMuxer { tags: TagMuxer::new(hevc), message_stream }
    }

    fn config(&self, tags: &[Tag]) -> Packet {
        let mut bytes = Vec::with_capacity(tags.iter().map(|tag| HEADER_BYTES_MAX + tag.len()).sum());
        for tag in tags {
            write_message(&tag_header(tag, self.message_stream), &[&tag.head, &tag.body], OUT_CHUNK_SIZE, &mut bytes);
        }
        let parts = std::iter::once(Bytes::from(bytes)).collect();
        Packet::new(parts, PacketKind::Config, Stamp::ZERO, MediaTime::ZERO)
    }
}

impl Muxer for RtmpMuxer {
    fn push(&mut self, event: &MediaEvent, out: &mut Vec<Packet>) {
        match self.tags.push(event) {
            Muxed::Nothing => {}
            Muxed::Config(tags) => out.push(self.config(&tags)),
            Muxed::Frame { tag, kind, arrival, dts } => {
                let header = tag_header(&tag, self.message_stream);
                let parts = message_parts(&header, &tag.head, &tag.body, OUT_CHUNK_SIZE);
                out.push(Packet::new(parts, kind, arrival, dts).sharing(&tag.body));
            }
        }
    }

    fn head(&self) -> Option<Bytes> {
        None
    }
}

/// An FLV tag's data is an RTMP message's payload, and its type the message's type.
pub fn tag_header(tag: &Tag, message_stream: u32) -> MessageHeader {
    let (chunk_stream, message_type) = match tag.tag {
        TagType::Audio => (chunk_stream::AUDIO, message_type::AUDIO),
        TagType::Video => (chunk_stream::VIDEO, message_type::VIDEO),
        TagType::Script => (chunk_stream::DATA, message_type::DATA_AMF0),
    };
    MessageHeader { chunk_stream, timestamp: tag.timestamp_ms, message_type, message_stream }
}
