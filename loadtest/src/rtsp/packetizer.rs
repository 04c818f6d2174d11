//! Access units → RTP packets, as one run of bytes with their ends. Spec: RFC 3550 §5.1; RFC 6184 §5.7.1 (STAP-A), §5.8 (FU-A);
//! RFC 3640 §3.3.6 (AAC-hbr, one frame per packet).
//!
//! What is small is aggregated up to the first NAL unit that is not; that one and those behind it travel alone or in fragments. Limits:
//! [`PACKET_BYTES_MAX`] per packet.

use super::message::write_frame_header;

/// As common encoders send: a datagram that fits an Ethernet frame, on a connection too.
const PACKET_BYTES_MAX: usize = 1_400;
const HEADER_BYTES: usize = 12;
const PAYLOAD_BYTES_MAX: usize = PACKET_BYTES_MAX - HEADER_BYTES;
const MARKER: u8 = 0x80;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;
/// Bits of an AAC access unit's size in its header, and of its index.
const AU_HEADER_BITS: u16 = 16;
const AU_INDEX_BITS: u16 = 3;

/// The packets of one access unit. Kept for its capacity.
#[derive(Default)]
pub struct Packets {
    bytes: Vec<u8>,
    /// Where each packet ends.
    ends: Vec<usize>,
    /// Each packet stands behind an interleaved frame header.
    channel: Option<u8>,
}

impl Packets {
    /// `channel`: for the connection; `None`: datagrams.
    pub fn clear(&mut self, channel: Option<u8>) {
        self.bytes.clear();
        self.ends.clear();
        self.channel = channel;
    }

    /// All packets, one behind the other.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }
}

/// One track on its way out.
pub struct Packetizer {
    pub payload_type: u8,
    pub ssrc: u32,
    pub sequence: u16,
    /// Sent so far.
    pub packets: u32,
    pub octets: u32,
}

impl Packetizer {
    fn put(&mut self, marker: bool, timestamp: u32, parts: &[&[u8]], out: &mut Packets) {
        let payload_bytes: usize = parts.iter().map(|part| part.len()).sum();
        let bytes = &mut out.bytes;
        if let Some(channel) = out.channel {
            write_frame_header(channel, HEADER_BYTES + payload_bytes, bytes);
        }
        bytes.extend_from_slice(&[0x80, self.payload_type | if marker { MARKER } else { 0 }]);
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        bytes.extend_from_slice(&timestamp.to_be_bytes());
        bytes.extend_from_slice(&self.ssrc.to_be_bytes());
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        out.ends.push(bytes.len());
        self.sequence = self.sequence.wrapping_add(1);
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload_bytes as u32);
    }

    /// `nals`: of one access unit, each with its header, none empty.
    pub fn h264(&mut self, timestamp: u32, nals: &[&[u8]], out: &mut Packets) {
        let mut aggregate_bytes = 1;
        let small = |nal: &&&[u8]| {
            aggregate_bytes += 2 + nal.len();
            aggregate_bytes <= PAYLOAD_BYTES_MAX
        };
        let (together, alone) = nals.split_at(nals.iter().take_while(small).count());
        match together {
            [] => {}
            [nal] => self.put(alone.is_empty(), timestamp, &[nal], out),
            _ => self.stap_a(alone.is_empty(), timestamp, together, out),
        }
        for (at, nal) in alone.iter().enumerate() {
            let last = at + 1 == alone.len();
            if nal.len() <= PAYLOAD_BYTES_MAX {
                self.put(last, timestamp, &[nal], out);
            } else {
                self.fu_a(last, timestamp, nal, out);
            }
        }
    }

    fn stap_a(&mut self, last: bool, timestamp: u32, nals: &[&[u8]], out: &mut Packets) {
        let importance = nals.iter().map(|nal| nal[0] & 0x60).max().unwrap_or(0);
        let header = [importance | STAP_A];
        let sizes: Vec<[u8; 2]> = nals.iter().map(|nal| (nal.len() as u16).to_be_bytes()).collect();
        let sized = sizes.iter().zip(nals).flat_map(|(size, nal)| [&size[..], *nal]);
        let parts: Vec<&[u8]> = std::iter::once(&header[..]).chain(sized).collect();
        self.put(last, timestamp, &parts, out);
    }

    fn fu_a(&mut self, last: bool, timestamp: u32, nal: &[u8], out: &mut Packets) {
        let indicator = nal[0] & 0xE0 | FU_A;
        let mut pieces = nal[1..].chunks(PAYLOAD_BYTES_MAX - 2).peekable();
        let mut start = 0x80;
        while let Some(piece) = pieces.next() {
            let is_end = pieces.peek().is_none();
            let end = if is_end { 0x40 } else { 0 };
            self.put(last && is_end, timestamp, &[&[indicator, start | end | nal[0] & 0x1F], piece], out);
            start = 0;
        }
    }

    /// One whole frame, shorter than 8 KiB.
    pub fn aac(&mut self, timestamp: u32, frame: &[u8], out: &mut Packets) {
        let [size1, size0] = ((frame.len() as u16) << AU_INDEX_BITS).to_be_bytes();
        let [bits1, bits0] = AU_HEADER_BITS.to_be_bytes();
        self.put(true, timestamp, &[&[bits1, bits0, size1, size0], frame], out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mark::Mark;
    use crate::rtsp::Kind;
    use crate::rtsp::message::FRAME_HEADER_BYTES;
    use crate::scan::order::Arrival;
    use crate::scan::rtp::RtpScanner;
    use crate::scan::testing::{Seen, seen};

    fn packetizer() -> Packetizer {
        Packetizer { payload_type: 96, ssrc: 1, sequence: 65_530, packets: 0, octets: 0 }
    }

    #[test]
    fn viewers_find_what_publishers_send() {
        let mark = |sequence| Mark { sent: 5, sequence, publisher: 0 }.encode()[4..].to_vec();
        let slice = |nal_type: u8, bytes| [&[nal_type][..], &vec![7; bytes]].concat();
        let cases: [(&str, Vec<Vec<u8>>, usize, bool); 4] = [
            ("small", vec![mark(1), slice(0x61, 100)], 1, false),
            ("a large slice", vec![mark(1), slice(0x61, 5_000)], 5, false),
            (
                "parameter sets, fragments, more behind",
                vec![slice(0x67, 9), slice(0x68, 4), mark(1), slice(0x65, 3_000), slice(12, 1_387)],
                5,
                true,
            ),
            ("exactly one packet", vec![mark(1), slice(0x65, PAYLOAD_BYTES_MAX - 1)], 2, true),
        ];
        for channel in [None, Some(4)] {
            for (name, nals, count, key) in &cases {
                let nals: Vec<&[u8]> = nals.iter().map(Vec::as_slice).collect();
                let mut packets = Packets::default();
                packets.clear(channel);
                packetizer().h264(9, &nals, &mut packets);
                assert_eq!(packets.iter().count(), *count, "{name}");
                let mut all = Vec::new();
                let mut scanner = RtpScanner::new(Kind::Video, 96);
                for packet in packets.iter() {
                    let packet = &packet[channel.map_or(0, |_| FRAME_HEADER_BYTES)..];
                    assert!(packet.len() <= PACKET_BYTES_MAX, "{name}");
                    scanner.feed(packet, &mut |found| all.push(seen(&found)));
                }
                all.retain(|seen| *seen != Seen::Packet(Arrival::Ahead { missing: 0 }));
                assert_eq!(all, [Seen::First(1), Seen::Last(1, *key)], "{name}");
            }
        }
    }

    #[test]
    fn sound_stands_behind_its_size() {
        let mut packets = Packets::default();
        packets.clear(Some(2));
        let mut packetizer = packetizer();
        packetizer.aac(0x0102_0304, &[9; 300], &mut packets);
        let expected = [b'$', 2, 1, 60, 0x80, 0xE0, 0xFF, 0xFA, 1, 2, 3, 4, 0, 0, 0, 1, 0, 16, 0x09, 0x60];
        assert_eq!(packets.bytes()[..20], expected);
        assert_eq!((packets.bytes().len(), packetizer.packets, packetizer.octets), (4 + 12 + 4 + 300, 1, 304));
    }
}
