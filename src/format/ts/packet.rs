//! Packets of a transport stream: bytes cut to 184, and what stands in front of them.
//!
//! ISO/IEC 13818-1 §2.4.3.2 (header), §2.4.3.4 (adaptation field), §2.4.4 (sections). A packet that is not full is stuffed in its adaptation
//! field. Not here: what the bytes are.

use bytes::{BufMut, BytesMut};

use super::clock::Moment;
use super::{BODY_BYTES, HEADER_BYTES, PACKET_BYTES, SYNC};
use crate::format::pes::{crc32, in_33_bits};

/// Length and flags.
const ADAPTATION_HEAD_BYTES: usize = 2;
const CLOCK_BYTES: usize = 6;

/// Counts the packets of one PID that have a payload; four bits of it are sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Continuity(u8);

impl Continuity {
    fn next(&mut self) -> u8 {
        let counter = self.0;
        self.0 = self.0.wrapping_add(1);
        counter & 0x0F
    }

    /// Of a packet without payload: that of the packet before.
    fn last(self) -> u8 {
        self.0.wrapping_sub(1) & 0x0F
    }
}

/// What is said in front of the first bytes of a frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signs {
    pub clock: Option<Moment>,
    /// Decoding may begin here.
    pub is_key: bool,
}

impl Signs {
    fn bytes(self) -> usize {
        match self {
            Signs { clock: Some(_), .. } => ADAPTATION_HEAD_BYTES + CLOCK_BYTES,
            Signs { clock: None, is_key: true } => ADAPTATION_HEAD_BYTES,
            Signs { clock: None, is_key: false } => 0,
        }
    }

    /// The adaptation field, stuffed to `bytes`: none at all, or room for what it says.
    fn write(self, bytes: usize, out: &mut BytesMut) {
        let end = out.len() + bytes;
        if bytes > 0 {
            out.put_u8(bytes as u8 - 1);
        }
        if bytes >= ADAPTATION_HEAD_BYTES {
            let is_new = self.clock.is_some_and(|moment| moment.is_new);
            out.put_u8(u8::from(is_new) << 7 | u8::from(self.is_key) << 6 | u8::from(self.clock.is_some()) << 4);
        }
        if let Some(moment) = self.clock {
            // 33 bits of 90 kHz, six that are ones, nine of 27 MHz.
            let clock = in_33_bits(moment.ticks) << 15 | 0x3F << 9;
            out.put_slice(&clock.to_be_bytes()[2..]);
        }
        out.put_bytes(0xFF, end - out.len());
    }
}

/// Cuts `pieces` into packets of `pid`; a unit begins with them.
pub fn write_packets(pid: u16, continuity: &mut Continuity, signs: Signs, pieces: &[&[u8]], out: &mut BytesMut) {
    let mut left: usize = pieces.iter().map(|piece| piece.len()).sum();
    let mut pieces = pieces.iter().copied();
    let mut piece: &[u8] = &[];
    let (mut signs, mut is_first) = (signs, true);
    while left > 0 {
        let payload_bytes = left.min(BODY_BYTES - signs.bytes());
        let adaptation_bytes = BODY_BYTES - payload_bytes;
        write_header(pid, is_first, adaptation_bytes > 0, true, continuity.next(), out);
        signs.write(adaptation_bytes, out);
        let mut room = payload_bytes;
        while room > 0 {
            if piece.is_empty() {
                let Some(next) = pieces.next() else { return };
                piece = next;
                continue;
            }
            let (now, later) = piece.split_at(room.min(piece.len()));
            out.put_slice(now);
            (room, piece) = (room - now.len(), later);
        }
        left -= payload_bytes;
        (signs, is_first) = (Signs::default(), false);
    }
}

/// A packet of nothing but the clock.
pub fn write_clock(pid: u16, continuity: Continuity, moment: Moment, out: &mut BytesMut) {
    write_header(pid, false, true, false, continuity.last(), out);
    Signs { clock: Some(moment), is_key: false }.write(BODY_BYTES, out);
}

fn write_header(pid: u16, is_first: bool, has_adaptation: bool, has_payload: bool, counter: u8, out: &mut BytesMut) {
    let [pid_high, pid_low] = pid.to_be_bytes();
    let flags = u8::from(has_adaptation) << 5 | u8::from(has_payload) << 4;
    out.put_slice(&[SYNC, u8::from(is_first) << 6 | pid_high, pid_low, flags | counter]);
}

/// A table that fits into one packet, without its counter. `body` is what stands between the numbers of the section and its checksum.
pub fn section(pid: u16, table: u8, id: u16, version: u8, body: &[u8]) -> [u8; PACKET_BYTES] {
    const HEAD_BYTES: usize = 8;
    const CHECKSUM_BYTES: usize = 4;
    let [pid_high, pid_low] = pid.to_be_bytes();
    let [id_high, id_low] = id.to_be_bytes();
    let mut packet = [0xFF; PACKET_BYTES];
    // Behind the header: the section begins at once.
    packet[..HEADER_BYTES + 1].copy_from_slice(&[SYNC, 0x40 | pid_high, pid_low, 0x10, 0]);
    let section = &mut packet[HEADER_BYTES + 1..];
    let length = (HEAD_BYTES - 3 + body.len() + CHECKSUM_BYTES) as u8;
    section[..HEAD_BYTES].copy_from_slice(&[table, 0xB0, length, id_high, id_low, 0xC1 | version << 1, 0, 0]);
    section[HEAD_BYTES..][..body.len()].copy_from_slice(body);
    let checksum = crc32(&section[..HEAD_BYTES + body.len()]);
    section[HEAD_BYTES + body.len()..][..CHECKSUM_BYTES].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// A table as it is sent next.
pub fn write_table(table: &[u8; PACKET_BYTES], continuity: &mut Continuity, out: &mut BytesMut) {
    let at = out.len();
    out.put_slice(table);
    out[at + 3] |= continuity.next();
}
