//! WebSocket framing, the server's side (RFC 6455 §4.2.2, §5, §7.4).
//!
//! [`frame_header`] and [`control_frame`] write unmasked frames; [`FrameReader`] reads the masked frames of a client that has
//! nothing to say but control frames.
//!
//! ```text
//! |FIN RSV1-3 opcode(4)|MASK length(7)| length(16 | 64) if 126 | 127 | masking key(32) if MASK | payload ... |
//! ```
//!
//! Limits: a client's message may have [`MESSAGE_BYTES_MAX`] bytes, a control frame [`CONTROL_BYTES_MAX`]. The reader owns at most
//! one control payload; what a client sends as data is counted and dropped, not kept and not checked for UTF-8.
//!
//! Not here: the HTTP upgrade, extensions (none is negotiated, so reserved bits are errors), when to ping.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{BufMut, Bytes, BytesMut};
use sha1::{Digest, Sha1};

/// The largest payload of a control frame (§5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// The largest data message, over all its fragments, that is accepted from a client.
pub const MESSAGE_BYTES_MAX: u64 = 64 * 1024;

/// The longest header: 2 bytes, a 64-bit length, a masking key.
const HEADER_BYTES_MAX: usize = 14;

/// Close codes (§7.4.1).
pub mod close_code {
    pub const NORMAL: u16 = 1000;
    pub const GOING_AWAY: u16 = 1001;
    pub const PROTOCOL_ERROR: u16 = 1002;
    pub const POLICY_VIOLATION: u16 = 1008;
    pub const MESSAGE_TOO_BIG: u16 = 1009;
}

/// What a frame is (§5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xA,
}

impl Opcode {
    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xA => Opcode::Pong,
            _ => return None,
        })
    }

    const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// How a client broke the framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebSocketError {
    #[error("a client's WebSocket frame is not masked")]
    Unmasked,
    #[error("a WebSocket frame has reserved bits set")]
    ReservedBits,
    #[error("unknown WebSocket opcode {0}")]
    UnknownOpcode(u8),
    #[error("a WebSocket length is not written in the shortest form")]
    LengthNotMinimal,
    #[error("a WebSocket control frame is fragmented")]
    FragmentedControl,
    #[error("a WebSocket control frame has more than {CONTROL_BYTES_MAX} bytes")]
    ControlTooLong,
    #[error("a WebSocket message has more than {MESSAGE_BYTES_MAX} bytes")]
    MessageTooBig,
    #[error("a WebSocket continuation frame continues nothing")]
    NothingToContinue,
    #[error("a WebSocket message begins inside another")]
    MessageInterrupted,
    #[error("a WebSocket close frame has half a code or one that must not be sent")]
    BadClose,
}

impl WebSocketError {
    /// Stable name for counters.
    pub const fn label(self) -> &'static str {
        match self {
            WebSocketError::Unmasked => "ws_unmasked",
            WebSocketError::ReservedBits => "ws_reserved_bits",
            WebSocketError::UnknownOpcode(_) => "ws_unknown_opcode",
            WebSocketError::LengthNotMinimal => "ws_length_not_minimal",
            WebSocketError::FragmentedControl => "ws_fragmented_control",
            WebSocketError::ControlTooLong => "ws_control_too_long",
            WebSocketError::MessageTooBig => "ws_message_too_big",
            WebSocketError::NothingToContinue => "ws_nothing_to_continue",
            WebSocketError::MessageInterrupted => "ws_message_interrupted",
            WebSocketError::BadClose => "ws_bad_close",
        }
    }

    /// The code to close with.
    pub const fn close_code(self) -> u16 {
        match self {
            WebSocketError::MessageTooBig => close_code::MESSAGE_TOO_BIG,
            _ => close_code::PROTOCOL_ERROR,
        }
    }
}

/// `Sec-WebSocket-Accept` for a client's `Sec-WebSocket-Key` (§4.2.2).
pub fn accept_key(sec_websocket_key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(sec_websocket_key);
    hash.update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64.encode(hash.finalize())
}

/// Whether `key` is what a client must send: 16 bytes in Base64 (§4.1).
pub fn is_key(key: &str) -> bool {
    key.len() == 24 && BASE64.decode(key).is_ok_and(|nonce| nonce.len() == 16)
}

/// Appends the header of an unfragmented, unmasked frame. A payload of `payload_bytes` follows.
pub fn frame_header(opcode: Opcode, payload_bytes: usize, out: &mut impl BufMut) {
    out.put_u8(0x80 | opcode as u8);
    match payload_bytes {
        0..=125 => out.put_u8(payload_bytes as u8),
        126..=0xFFFF => {
            out.put_u8(126);
            out.put_u16(payload_bytes as u16);
        }
        _ => {
            out.put_u8(127);
            out.put_u64(payload_bytes as u64);
        }
    }
}

/// A whole ping or pong. What of `payload` exceeds [`CONTROL_BYTES_MAX`] is cut off.
pub fn control_frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    let payload = &payload[..payload.len().min(CONTROL_BYTES_MAX)];
    let mut frame = BytesMut::with_capacity(2 + payload.len());
    frame_header(opcode, payload.len(), &mut frame);
    frame.put_slice(payload);
    frame.freeze()
}

/// A whole close frame, without a reason in words.
pub fn close_frame(code: Option<u16>) -> Bytes {
    match code {
        Some(code) => control_frame(Opcode::Close, &code.to_be_bytes()),
        None => control_frame(Opcode::Close, &[]),
    }
}

/// What a client said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientFrame {
    /// To be answered with a pong of the same payload.
    Ping(Vec<u8>),
    Pong,
    /// With the client's code, if it gave one. Nothing may follow.
    Close(Option<u16>),
}

/// The head of the frame that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FrameHead {
    opcode: Opcode,
    fin: bool,
    payload_bytes: u64,
    mask: [u8; 4],
}

/// Reads a client's frames from pieces of any size.
#[derive(Debug, Default)]
pub struct FrameReader {
    header: [u8; HEADER_BYTES_MAX],
    header_bytes: usize,
    /// The frame whose payload is being read, and how much of that is to come.
    frame: Option<(FrameHead, u64)>,
    /// The payload of a control frame so far.
    control: Vec<u8>,
    /// Bytes of the data message that is open for continuation.
    message_bytes: Option<u64>,
}

impl FrameReader {
    pub fn new() -> Self {
        FrameReader::default()
    }

    /// Takes bytes off the front of `input` up to the end of a control frame, which it returns; `None` when all are taken.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<ClientFrame>, WebSocketError> {
        loop {
            if self.frame.is_none() {
                let Some(head) = self.read_header(input)? else { return Ok(None) };
                self.check_order(head)?;
                self.frame = Some((head, head.payload_bytes));
            }
            let Some((head, left)) = &mut self.frame else { return Ok(None) };
            let len = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
            let (payload, rest) = input.split_at(len);
            *input = rest;
            *left -= len as u64;
            if head.opcode.is_control() {
                self.control.extend_from_slice(payload);
            }
            if *left > 0 {
                return Ok(None);
            }
            let head = *head;
            self.frame = None;
            if head.opcode.is_control() {
                return self.finish_control(head).map(Some);
            }
        }
    }

    /// Takes header bytes until they are complete, checking each as soon as it is there.
    fn read_header(&mut self, input: &mut &[u8]) -> Result<Option<FrameHead>, WebSocketError> {
        loop {
            let header = &self.header[..self.header_bytes];
            if let Some(head) = parse_header(header)? {
                self.header_bytes = 0;
                return Ok(Some(head));
            }
            let Some((byte, rest)) = input.split_first() else { return Ok(None) };
            self.header[self.header_bytes] = *byte;
            self.header_bytes += 1;
            *input = rest;
        }
    }

    /// Fragmentation (§5.4) and the size of the message.
    fn check_order(&mut self, head: FrameHead) -> Result<(), WebSocketError> {
        if head.opcode.is_control() {
            return Ok(());
        }
        let before = match (head.opcode, self.message_bytes) {
            (Opcode::Continuation, None) => return Err(WebSocketError::NothingToContinue),
            (Opcode::Continuation, Some(bytes)) => bytes,
            (_, Some(_)) => return Err(WebSocketError::MessageInterrupted),
            (_, None) => 0,
        };
        let bytes = before.saturating_add(head.payload_bytes);
        if bytes > MESSAGE_BYTES_MAX {
            return Err(WebSocketError::MessageTooBig);
        }
        self.message_bytes = (!head.fin).then_some(bytes);
        Ok(())
    }

    fn finish_control(&mut self, head: FrameHead) -> Result<ClientFrame, WebSocketError> {
        let mut payload = std::mem::take(&mut self.control);
        for (byte, key) in payload.iter_mut().zip(head.mask.iter().cycle()) {
            *byte ^= key;
        }
        match head.opcode {
            Opcode::Ping => Ok(ClientFrame::Ping(payload)),
            Opcode::Close => close_of(&payload).map(ClientFrame::Close),
            _ => Ok(ClientFrame::Pong),
        }
    }
}

/// The frame head, if `header` holds all of it.
fn parse_header(header: &[u8]) -> Result<Option<FrameHead>, WebSocketError> {
    let Some(first) = header.first() else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(WebSocketError::ReservedBits);
    }
    let fin = first & 0x80 != 0;
    let opcode = Opcode::from_bits(first & 0x0F).ok_or(WebSocketError::UnknownOpcode(first & 0x0F))?;
    if opcode.is_control() && !fin {
        return Err(WebSocketError::FragmentedControl);
    }
    let Some(second) = header.get(1) else { return Ok(None) };
    if second & 0x80 == 0 {
        return Err(WebSocketError::Unmasked);
    }
    let short = second & 0x7F;
    if opcode.is_control() && usize::from(short) > CONTROL_BYTES_MAX {
        return Err(WebSocketError::ControlTooLong);
    }
    let (length_bytes, least) = match short {
        126 => (2, 126),
        127 => (8, 0x1_0000),
        _ => (0, 0),
    };
    let Some(length) = header.get(2..2 + length_bytes) else { return Ok(None) };
    let payload_bytes = match length {
        [] => u64::from(short),
        length => length.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)),
    };
    if payload_bytes < least {
        return Err(WebSocketError::LengthNotMinimal);
    }
    let Some(&[a, b, c, d]) = header.get(2 + length_bytes..6 + length_bytes) else { return Ok(None) };
    Ok(Some(FrameHead { opcode, fin, payload_bytes, mask: [a, b, c, d] }))
}

/// The code in a close frame's payload (§5.5.1, §7.4).
fn close_of(payload: &[u8]) -> Result<Option<u16>, WebSocketError> {
    let code = match payload {
        [] => return Ok(None),
        [high, low, ..] => u16::from_be_bytes([*high, *low]),
        [_] => return Err(WebSocketError::BadClose),
    };
    match code {
        1000..=1003 | 1007..=1014 | 3000..=4999 => Ok(Some(code)),
        _ => Err(WebSocketError::BadClose),
    }
}

#[cfg(test)]
mod tests;
