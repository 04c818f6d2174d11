//! One end of an RTMP connection behind the handshake: chunks → messages, and messages → one buffer of chunks per call.
//!
//! Adobe RTMP 1.0 §5.4 (protocol control) and §7.1.7 (user control). What concerns the connection alone is answered here:
//! acknowledgements, bandwidth, pings. Everything else is returned to the owner, server or client.
//!
//! Limits: those of [`ChunkReader`]; one acknowledgement per call. An idle wire owns no buffer.

use bytes::Bytes;

use super::command::Command;
use super::error::RtmpError;
use crate::format::amf0::{self, Value};
use crate::format::rtmp_chunk::{
    CHUNK_SIZE_DEFAULT, ChunkReader, Message, MessageHeader, OUT_CHUNK_SIZE, chunk_stream, message_type, write_message,
};

/// The window that is announced to the peer, and that is taken as the peer's until it announces its own, in bytes.
pub const WINDOW_BYTES: u32 = 2_500_000;

/// The Set Peer Bandwidth limit type "dynamic" (§5.4.5).
const LIMIT_DYNAMIC: u8 = 2;

/// User control events (§7.1.7).
pub mod event {
    pub const STREAM_BEGIN: u16 = 0;
    pub const STREAM_EOF: u16 = 1;
    pub const SET_BUFFER_LENGTH: u16 = 3;
    pub const PING_REQUEST: u16 = 6;
    pub const PING_RESPONSE: u16 = 7;
}

#[derive(Debug)]
pub struct Wire {
    reader: ChunkReader,
    out_chunk_size: usize,
    /// Chunks that wait for [`Wire::take`].
    outbox: Vec<u8>,
    /// Bytes that came and bytes that were acknowledged, both modulo 2^32 (§5.4.3).
    received: u32,
    acknowledged: u32,
    /// The peer wants an acknowledgement each time so many bytes have come.
    window: u32,
    /// The last Window Acknowledgement Size that was sent.
    announced: u32,
}

impl Wire {
    pub fn new(message_bytes_max: usize) -> Self {
        Wire {
            reader: ChunkReader::new(message_bytes_max),
            out_chunk_size: CHUNK_SIZE_DEFAULT,
            outbox: Vec::new(),
            received: 0,
            acknowledged: 0,
            window: WINDOW_BYTES,
            announced: 0,
        }
    }

    /// Changes the longest message that is accepted from now on.
    pub fn set_message_bytes_max(&mut self, message_bytes_max: usize) {
        self.reader.set_message_bytes_max(message_bytes_max);
    }

    /// Bytes of the peer's unfinished messages.
    pub fn held_bytes(&self) -> usize {
        self.reader.held_bytes()
    }

    /// The next message for the owner, or `None` once `input` is used up.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Message>, RtmpError> {
        let before = input.len();
        let result = self.read_message(input);
        self.received = self.received.wrapping_add((before - input.len()) as u32);
        result
    }

    fn read_message(&mut self, input: &mut &[u8]) -> Result<Option<Message>, RtmpError> {
        while let Some(message) = self.reader.read(input)? {
            let too_short = RtmpError::ControlTooShort(message.message_type);
            match message.message_type {
                message_type::ACKNOWLEDGEMENT => {}
                message_type::WINDOW_ACKNOWLEDGEMENT_SIZE => {
                    let window = first_u32(&message.body).ok_or(too_short)?;
                    if window > 0 {
                        self.window = window;
                    }
                }
                message_type::SET_PEER_BANDWIDTH => {
                    let window = first_u32(&message.body).ok_or(too_short)?;
                    if window != self.announced {
                        self.send_window(window);
                    }
                }
                message_type::USER_CONTROL => self.user_control(&message.body).ok_or(too_short)?,
                _ => return Ok(Some(message)),
            }
        }
        Ok(None)
    }

    fn user_control(&mut self, body: &[u8]) -> Option<()> {
        let (event, data) = body.split_first_chunk()?;
        if u16::from_be_bytes(*event) == event::PING_REQUEST {
            self.send_event(event::PING_RESPONSE, first_u32(data)?);
        }
        Some(())
    }

    /// Acknowledges what has come, if the peer's window is full.
    pub fn acknowledge(&mut self) {
        if self.received.wrapping_sub(self.acknowledged) >= self.window {
            self.acknowledged = self.received;
            self.send_control(message_type::ACKNOWLEDGEMENT, &[&self.received.to_be_bytes()]);
        }
    }

    pub fn send_window(&mut self, window: u32) {
        self.announced = window;
        self.send_control(message_type::WINDOW_ACKNOWLEDGEMENT_SIZE, &[&window.to_be_bytes()]);
    }

    pub fn send_peer_bandwidth(&mut self, window: u32) {
        self.send_control(message_type::SET_PEER_BANDWIDTH, &[&window.to_be_bytes(), &[LIMIT_DYNAMIC]]);
    }

    /// Announces [`OUT_CHUNK_SIZE`] and writes with it from then on.
    pub fn send_chunk_size(&mut self) {
        self.send_control(message_type::SET_CHUNK_SIZE, &[&(OUT_CHUNK_SIZE as u32).to_be_bytes()]);
        self.out_chunk_size = OUT_CHUNK_SIZE;
    }

    /// A user control event with one 32-bit field.
    pub fn send_event(&mut self, event: u16, data: u32) {
        self.send_control(message_type::USER_CONTROL, &[&event.to_be_bytes(), &data.to_be_bytes()]);
    }

    pub fn send_buffer_length(&mut self, message_stream: u32, millis: u32) {
        let event = event::SET_BUFFER_LENGTH.to_be_bytes();
        self.send_control(message_type::USER_CONTROL, &[&event, &message_stream.to_be_bytes(), &millis.to_be_bytes()]);
    }

    fn send_control(&mut self, message_type: u8, payload: &[&[u8]]) {
        self.send(chunk_stream::CONTROL, message_type, 0, payload);
    }

    pub fn send_command(&mut self, message_stream: u32, command: &Command) {
        // Clients expect the status of a stream apart from the replies of the connection.
        let chunk_stream = if message_stream == 0 { chunk_stream::COMMAND } else { chunk_stream::DATA };
        self.send(chunk_stream, message_type::COMMAND_AMF0, message_stream, &[&command.encode()]);
    }

    /// A data message: a name and values.
    pub fn send_data(&mut self, message_stream: u32, values: &[Value]) {
        let mut body = Vec::new();
        for value in values {
            amf0::encode(value, &mut body);
        }
        self.send(chunk_stream::DATA, message_type::DATA_AMF0, message_stream, &[&body]);
    }

    fn send(&mut self, chunk_stream: u8, message_type: u8, message_stream: u32, payload: &[&[u8]]) {
        let header = MessageHeader { chunk_stream, timestamp: 0, message_type, message_stream };
        write_message(&header, payload, self.out_chunk_size, &mut self.outbox);
    }

    /// Everything that was sent since the last call.
    pub fn take(&mut self) -> Option<Bytes> {
        if self.outbox.is_empty() { None } else { Some(Bytes::from(std::mem::take(&mut self.outbox))) }
    }

    /// The chunk size in which further messages must be written.
    pub fn out_chunk_size(&self) -> usize {
        self.out_chunk_size
    }
}

fn first_u32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}
