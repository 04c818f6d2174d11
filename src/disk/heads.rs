//! Heads of FLV tags and of packets of transport streams, as the server writes them: as much as tells what stands there, and when.
//!
//! FLV 10.1 §E.4; ISO/IEC 13818-1 §2.4.3.6, §2.4.3.7. Not here: walking through a file.

use crate::format::ts::PACKET_BYTES;

/// Whether a video tag, by its first two bytes, holds no picture.
pub fn is_video_header(first: u8, second: u8) -> bool {
    const IS_ENHANCED: u8 = 0x80;
    if first & IS_ENHANCED != 0 { first & 0x0F == 0 } else { second == 0 }
}

/// Whether an audio tag, by its first two bytes, holds no sound.
pub fn is_audio_header(first: u8, second: u8) -> bool {
    match first >> 4 {
        // AAC
        10 => second == 0,
        // Enhanced
        9 => first & 0x0F == 0,
        _ => false,
    }
}

/// What a packet says in which a PES packet begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PesHead {
    pub is_video: bool,
    /// Marked as a random access point.
    pub is_access: bool,
    /// Its decoding time at 90 kHz, 33 bits.
    pub dts_ticks: u64,
}

impl PesHead {
    /// `None`: no PES packet begins there, or none with a time.
    pub fn of(packet: &[u8; PACKET_BYTES]) -> Option<PesHead> {
        const BEGINS: u8 = 0x40;
        const HAS_ADAPTATION: u8 = 0x20;
        const HAS_PAYLOAD: u8 = 0x10;
        const RANDOM_ACCESS: u8 = 0x40;
        (packet[1] & BEGINS != 0 && packet[3] & HAS_PAYLOAD != 0).then_some(())?;
        let has_adaptation = packet[3] & HAS_ADAPTATION != 0;
        let is_access = has_adaptation && packet[4] > 0 && packet[5] & RANDOM_ACCESS != 0;
        let body = if has_adaptation { packet.get(5 + usize::from(packet[4])..)? } else { &packet[4..] };
        let [0, 0, 1, stream_id, _, _, _, flags, _, rest @ ..] = body else { return None };
        // The decoding time stands behind the other.
        let stamp = match flags >> 6 {
            0b10 => rest.get(..5)?,
            0b11 => rest.get(5..10)?,
            _ => return None,
        };
        let bits = |at: usize| u64::from(stamp[at]);
        let dts_ticks = (bits(0) >> 1 & 7) << 30 | bits(1) << 22 | (bits(2) >> 1) << 15 | bits(3) << 7 | bits(4) >> 1;
        Some(PesHead { is_video: stream_id & 0xF0 == 0xE0, is_access, dts_ticks })
    }
}
