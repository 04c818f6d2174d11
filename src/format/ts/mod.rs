//! MPEG-2 transport streams: media events out ([`mod@write`]), and as packets for viewers ([`mux`]).
//!
//! ISO/IEC 13818-1 §2.4; Opus as the draft ETSI TS "Opus in MPEG-TS" (v0.1.3) has it. Carried: H.264, H.265, AAC in ADTS, MP3, Opus, G.711 by
//! the private stream types that surveillance uses.

mod clock;
pub mod demux;
pub mod mux;
mod packet;
pub mod write;

/// Every packet has so many bytes.
pub const PACKET_BYTES: usize = 188;

const SYNC: u8 = 0x47;
const HEADER_BYTES: usize = 4;
/// What a packet has behind its header.
const BODY_BYTES: usize = PACKET_BYTES - HEADER_BYTES;

const PAT_PID: u16 = 0;

/// The stream type of what only descriptors tell.
const PRIVATE_DATA: u8 = 0x06;
const REGISTRATION_DESCRIPTOR: u8 = 0x05;
const EXTENSION_DESCRIPTOR: u8 = 0x7F;
/// What a registration calls Opus.
const OPUS: &[u8; 4] = b"Opus";
