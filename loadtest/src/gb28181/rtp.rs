//! Packs → RTP packets (RFC 3550 §5.1), as datagrams or behind their lengths (RFC 4571); H.264 without packs as RFC 6184 has it.

use super::media::TICKS_PER_SECOND;

/// As cameras send.
const PAYLOAD_BYTES_MAX: usize = 1_400;
const HEADER_BYTES: usize = 12;
const MARKER: u8 = 0x80;
const FU_A: u8 = 28;

/// The packets of one unit. Kept for its capacity.
#[derive(Default)]
pub struct Packets {
    pub bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Each packet stands behind its length.
    pub framed: bool,
}

impl Packets {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }

    pub fn count(&self) -> u64 {
        self.ends.len() as u64
    }
}

/// One source.
#[derive(Debug)]
pub struct Source {
    pub ssrc: u32,
    pub sequence: u16,
    pub payload_type: u8,
    /// Markers also where a PES packet ends that is not the last.
    pub double_marker: bool,
}

impl Source {
    /// A pack, whose PES packets end at `ends`.
    pub fn pack(&mut self, timestamp: u64, pack: &[u8], ends: &[usize], out: &mut Packets) {
        let count = pack.len().div_ceil(PAYLOAD_BYTES_MAX);
        for (at, piece) in pack.chunks(PAYLOAD_BYTES_MAX).enumerate() {
            let range = at * PAYLOAD_BYTES_MAX..at * PAYLOAD_BYTES_MAX + piece.len();
            // As of a device that counts slices, or sets one where it should not.
            let doubled = self.double_marker && (ends.iter().any(|end| range.contains(end)) || at == count / 2);
            self.put(at + 1 == count || doubled, timestamp, &[piece], out);
        }
    }

    /// A pack of somebody else. `last`: nothing comes behind it, which nothing else tells.
    pub fn pieces(&mut self, timestamp: u64, pack: &[u8], last: bool, out: &mut Packets) {
        let count = pack.len().div_ceil(PAYLOAD_BYTES_MAX);
        for (at, piece) in pack.chunks(PAYLOAD_BYTES_MAX).enumerate() {
            self.put(last && at + 1 == count, timestamp, &[piece], out);
        }
    }

    /// NAL units behind start codes.
    pub fn h264(&mut self, timestamp: u64, annex_b: &[u8], out: &mut Packets) {
        let nals: Vec<&[u8]> = nal_units(annex_b).collect();
        for (at, nal) in nals.iter().enumerate() {
            let last = at + 1 == nals.len();
            if nal.len() <= PAYLOAD_BYTES_MAX {
                self.put(last, timestamp, &[nal], out);
                continue;
            }
            let pieces = nal[1..].chunks(PAYLOAD_BYTES_MAX - 2);
            let count = pieces.len();
            for (piece_at, piece) in pieces.enumerate() {
                let (start, end) = (piece_at == 0, piece_at + 1 == count);
                let header = [nal[0] & 0xE0 | FU_A, u8::from(start) << 7 | u8::from(end) << 6 | nal[0] & 0x1F];
                self.put(last && end, timestamp, &[&header, piece], out);
            }
        }
    }

    fn put(&mut self, marker: bool, timestamp: u64, parts: &[&[u8]], out: &mut Packets) {
        let payload_bytes: usize = parts.iter().map(|part| part.len()).sum();
        if out.framed {
            out.bytes.extend_from_slice(&((HEADER_BYTES + payload_bytes) as u16).to_be_bytes());
        }
        out.bytes.extend_from_slice(&[0x80, self.payload_type | if marker { MARKER } else { 0 }]);
        out.bytes.extend_from_slice(&self.sequence.to_be_bytes());
        out.bytes.extend_from_slice(&(timestamp as u32).to_be_bytes());
        out.bytes.extend_from_slice(&self.ssrc.to_be_bytes());
        parts.iter().for_each(|part| out.bytes.extend_from_slice(part));
        out.ends.push(out.bytes.len());
        self.sequence = self.sequence.wrapping_add(1);
    }
}

/// What stands behind 4-byte start codes.
fn nal_units(annex_b: &[u8]) -> impl Iterator<Item = &[u8]> {
    let starts: Vec<usize> = annex_b.windows(4).enumerate().filter(|(_, code)| *code == [0, 0, 0, 1]).map(|(at, _)| at).collect();
    let ends: Vec<usize> = starts.iter().skip(1).copied().chain([annex_b.len()]).collect();
    starts.into_iter().zip(ends).map(|(start, end)| &annex_b[start + 4..end]).filter(|nal| !nal.is_empty())
}

/// The payload of a packet that was received. `None`: it is none.
pub fn payload(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    let (sources, extension) = (usize::from(first & 0x0F), first & 0x10 != 0);
    let mut at = HEADER_BYTES + 4 * sources;
    if extension {
        let words = packet.get(at + 2..at + 4)?;
        at += 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
    }
    let padding = if first & 0x20 != 0 { usize::from(*packet.last()?) } else { 0 };
    (first >> 6 == 2).then(|| packet.get(at..packet.len().checked_sub(padding)?)).flatten()
}

/// Nanoseconds in ticks.
pub fn ticks(nanos: u64) -> u64 {
    (u128::from(nanos) * u128::from(TICKS_PER_SECOND) / 1_000_000_000) as u64
}

/// Ticks in nanoseconds.
pub fn nanos(ticks: u64) -> u64 {
    (u128::from(ticks) * 1_000_000_000 / u128::from(TICKS_PER_SECOND)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(double_marker: bool) -> Source {
        Source { ssrc: 0x0102_0304, sequence: 65_535, payload_type: 96, double_marker }
    }

    fn markers(packets: &Packets) -> Vec<bool> {
        packets.iter().map(|packet| packet[usize::from(packets.framed) * 2 + 1] & MARKER != 0).collect()
    }

    #[test]
    fn a_pack_is_cut_into_packets_of_one_time() {
        let pack: Vec<u8> = (0..3_000u32).map(|at| at as u8).collect();
        for framed in [false, true] {
            let mut packets = Packets { framed, ..Packets::default() };
            source(false).pack(7, &pack, &[3_000], &mut packets);
            assert_eq!((packets.count(), markers(&packets)), (3, vec![false, false, true]));
            let head = [0x80, 96, 0xFF, 0xFF, 0, 0, 0, 7, 1, 2, 3, 4, 0];
            let first = packets.iter().next().unwrap();
            assert_eq!(
                first[..13 + usize::from(framed) * 2],
                if framed { [&[0x05, 0x84], &head[..]].concat() } else { head.to_vec() }
            );
            let whole: Vec<u8> =
                packets.iter().flat_map(|packet| payload(&packet[usize::from(framed) * 2..]).unwrap().to_vec()).collect();
            assert_eq!(whole, pack);
        }
        let mut packets = Packets::default();
        source(true).pack(7, &pack, &[1_000, 3_000], &mut packets);
        assert_eq!(markers(&packets), [true, true, true]);
    }

    #[test]
    fn h264_goes_without_packs() {
        let mut packets = Packets::default();
        let large = [&[0, 0, 0, 1, 0x65][..], &[3; 2_000]].concat();
        source(false).h264(7, &[&[0, 0, 0, 1, 0x67, 1][..], &large].concat(), &mut packets);
        let payloads: Vec<&[u8]> = packets.iter().map(|packet| payload(packet).unwrap()).collect();
        assert_eq!(
            (payloads[0], &payloads[1][..3], &payloads[2][..3]),
            (&[0x67, 1][..], &[0x7C, 0x85, 3][..], &[0x7C, 0x45, 3][..])
        );
        assert_eq!(markers(&packets), [false, false, true]);
    }

    #[test]
    fn payloads_are_found_behind_everything() {
        let head = |first: u8| [&[first, 8][..], &[0; 10]].concat();
        for (packet, expected) in [
            ([head(0x80), vec![1, 2]].concat(), Some(&[1, 2][..])),
            ([head(0x81), vec![9; 4], vec![1, 2]].concat(), Some(&[1, 2][..])),
            ([head(0x90), vec![0, 0, 0, 1, 9, 9, 9, 9], vec![1, 2]].concat(), Some(&[1, 2][..])),
            ([head(0xA0), vec![1, 2, 0, 2]].concat(), Some(&[1, 2][..])),
            (head(0x40), None),
            ([head(0xA0), vec![200]].concat(), None),
            (vec![], None),
        ] {
            assert_eq!(payload(&packet), expected, "{packet:?}");
        }
    }
}
