//! AV1 (AOMedia RTP payload format v1.0.0 §4), VP8 (RFC 7741 §4.2) and VP9 (RFC 9628 §4.2): frames → packets.

use super::writer::Writer;
use crate::format::rtp::obu;

const AV1_CONTINUES: u8 = 0x80;
const AV1_CONTINUED: u8 = 0x40;
/// One OBU element, without a size in front.
const AV1_ONE_ELEMENT: u8 = 1 << 4;
const AV1_NEW_SEQUENCE: u8 = 1 << 3;

const VP8_START: u8 = 0x10;

const VP9_INTER: u8 = 0x40;
const VP9_BEGIN: u8 = 0x08;
const VP9_END: u8 = 0x04;

/// One OBU or a piece of one per packet, without its own size field; temporal delimiters are left out (§4.4, §5).
pub fn av1(unit: &[u8], key: bool, writer: &mut Writer) {
    let bytes_max = writer.payload_bytes_max() - 1;
    let mut sequence = if key { AV1_NEW_SEQUENCE } else { 0 };
    for obu in obu::iter(unit).filter(|obu| obu.kind() != obu::TEMPORAL_DELIMITER) {
        let header = obu.header_without_size();
        let (mut head, mut body) = (header.as_slice(), obu.payload);
        let mut continues = 0;
        loop {
            let taken = body.len().min(bytes_max - head.len());
            let (piece, rest) = body.split_at(taken);
            let continued = if rest.is_empty() { 0 } else { AV1_CONTINUED };
            writer.begin();
            writer.put(&[continues | continued | AV1_ONE_ELEMENT | std::mem::take(&mut sequence)]);
            writer.put(head);
            writer.put(piece);
            if rest.is_empty() {
                break;
            }
            (head, body, continues) = (&[], rest, AV1_CONTINUES);
        }
    }
    writer.mark();
}

/// Behind the shortest descriptor; S says where the frame starts.
pub fn vp8(frame: &[u8], writer: &mut Writer) {
    for (at, piece) in frame.chunks(writer.payload_bytes_max() - 1).enumerate() {
        writer.begin();
        writer.put(&[if at == 0 { VP8_START } else { 0 }]);
        writer.put(piece);
    }
    writer.mark();
}

/// Behind the shortest descriptor: whether the frame needs others, and where it begins and ends.
pub fn vp9(frame: &[u8], key: bool, writer: &mut Writer) {
    let step = writer.payload_bytes_max() - 1;
    let last = frame.len().div_ceil(step).saturating_sub(1);
    let inter = if key { 0 } else { VP9_INTER };
    for (at, piece) in frame.chunks(step).enumerate() {
        let begin = if at == 0 { VP9_BEGIN } else { 0 };
        let end = if at == last { VP9_END } else { 0 };
        writer.begin();
        writer.put(&[inter | begin | end]);
        writer.put(piece);
    }
    writer.mark();
}
