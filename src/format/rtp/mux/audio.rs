//! Audio frames → packets: AAC (RFC 3640, mode AAC-hbr), Opus (RFC 7587), G.711 (RFC 3551 §4.5.14), MPEG audio (RFC 2250 §3.5).

use super::writer::Writer;

/// Samples of one G.711 packet; 20 ms are 160.
const G711_SAMPLES_MAX: usize = 1_280;
/// Size field of an AU header: 13 bits.
const AAC_BYTES_MAX: usize = 0x1FFF;

/// One access unit per packet behind its AU header: 13 bits of size, 3 of index (§3.3.6). One that does not fit is cut; each piece has
/// the header of the whole (§3.2.3.2).
pub fn aac_hbr(frame: &[u8], writer: &mut Writer) {
    if frame.is_empty() || frame.len() > AAC_BYTES_MAX {
        return;
    }
    let [high, low] = ((frame.len() as u16) << 3).to_be_bytes();
    for piece in frame.chunks(writer.payload_bytes_max() - 4) {
        writer.begin();
        writer.put(&[0, 16, high, low]);
        writer.put(piece);
    }
    writer.mark();
}

/// One frame, one packet.
pub fn whole(frame: &[u8], writer: &mut Writer) {
    if !frame.is_empty() && frame.len() <= writer.payload_bytes_max() {
        writer.begin();
        writer.put(frame);
    }
}

/// Any number of samples; a long frame becomes packets with timestamps of their own.
pub fn g711(frame: &[u8], channels: u8, writer: &mut Writer) {
    let channels = usize::from(channels.max(1));
    let step = (G711_SAMPLES_MAX / channels).max(1) * channels;
    for piece in frame.chunks(step) {
        writer.begin();
        writer.put(piece);
        writer.advance((piece.len() / channels) as u32);
    }
}

/// Behind a header with the offset of the piece in its frame.
pub fn mpa(frame: &[u8], writer: &mut Writer) {
    if frame.len() > usize::from(u16::MAX) {
        return;
    }
    let step = writer.payload_bytes_max() - 4;
    for (at, piece) in frame.chunks(step).enumerate() {
        let [high, low] = ((at * step) as u16).to_be_bytes();
        writer.begin();
        writer.put(&[0, 0, high, low]);
        writer.put(piece);
    }
    writer.mark();
}
