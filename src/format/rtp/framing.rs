//! A byte stream → RTP packets, each behind its length.
//!
//! RFC 4571 §2: u16 length, packet. Some senders write `$` and a channel in front of the length, as RTSP does (RFC 2326 §10.12): the first
//! packet tells. A length that leads to no packet is a sender's fault: then two packets are looked for of which the second stands where the
//! first one's length says, and both are of the same source, the known one if there is one. Limits: a packet has 65,535 bytes; as much
//! again is kept while looking. Packets are given out where they stand; nothing is copied but into the buffer. Not here: RTP beyond
//! its first byte and SSRC.

use bytes::{Buf, BytesMut};

const HEADER_BYTES: usize = 12;
const VERSION_MASK: u8 = 0xC0;
const VERSION_2: u8 = 0x80;
const DOLLAR: u8 = b'$';
/// Two of the largest packets with what stands in front of them.
pub const HELD_BYTES_MAX: usize = 2 * (4 + 65_535);

#[derive(Debug)]
pub struct Framing {
    buffer: BytesMut,
    /// Bytes in front of each packet, the last two of them its length; `None`: not known yet.
    prefix: Option<usize>,
    in_step: bool,
    /// Of the packets so far.
    ssrc: Option<u32>,
    /// Bytes that were passed over since the last time.
    passed_over: u64,
}

impl Framing {
    /// `ssrc`: of the source that is expected.
    pub fn new(ssrc: Option<u32>) -> Self {
        Framing { buffer: BytesMut::new(), prefix: None, in_step: true, ssrc, passed_over: 0 }
    }

    pub fn held_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// How many bytes belonged to no packet, since the last time.
    pub fn take_passed_over(&mut self) -> u64 {
        std::mem::take(&mut self.passed_over)
    }

    /// Gives each whole packet. `false` to `each`: bytes are missing in front of it.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(bool, &[u8])) {
        for piece in bytes.chunks(HELD_BYTES_MAX / 2) {
            self.buffer.extend_from_slice(piece);
            self.packets(&mut each);
        }
    }

    fn packets(&mut self, each: &mut impl FnMut(bool, &[u8])) {
        let mut follows = true;
        loop {
            if !self.in_step {
                if !self.find_step() {
                    return;
                }
                (self.in_step, follows) = (true, false);
            }
            let Some(prefix) = self.prefix.or_else(|| self.learn()) else { return };
            self.prefix = Some(prefix);
            let Some(length) = self.length_at(0, prefix) else { return };
            if !self.may_be_packet(0, prefix, length) {
                self.in_step = false;
                continue;
            }
            let Some(packet) = self.buffer.get(prefix..prefix + length) else { return };
            self.ssrc = self.ssrc.or(ssrc_of(packet));
            each(std::mem::replace(&mut follows, true), packet);
            self.buffer.advance(prefix + length);
        }
    }

    /// Whether `$` and a channel stand in front of the length.
    fn learn(&self) -> Option<usize> {
        let [first, _, third, _, fifth] = *self.buffer.first_chunk::<5>()?;
        let is_plain = third & VERSION_MASK == VERSION_2;
        Some(if first == DOLLAR && fifth & VERSION_MASK == VERSION_2 && !is_plain { 4 } else { 2 })
    }

    fn length_at(&self, at: usize, prefix: usize) -> Option<usize> {
        let [high, low] = *self.buffer.get(at + prefix - 2..)?.first_chunk::<2>()?;
        Some(usize::from(u16::from_be_bytes([high, low])))
    }

    /// As far as its first byte has come.
    fn may_be_packet(&self, at: usize, prefix: usize, length: usize) -> bool {
        let first = self.buffer.get(at + prefix);
        // Reports are shorter than media.
        length >= 8 && first.is_none_or(|first| first & VERSION_MASK == VERSION_2) && (prefix == 2 || self.buffer[at] == DOLLAR)
    }

    /// Looks for two packets in a row. `false`: more bytes are needed.
    fn find_step(&mut self) -> bool {
        let mut at = 0;
        while at + 4 + HEADER_BYTES <= self.buffer.len() {
            match self.is_step(at) {
                Some(Some(prefix)) => {
                    self.pass_over(at);
                    self.prefix = Some(prefix);
                    return true;
                }
                // It may be one, when more has come.
                Some(None) if self.buffer.len() < HELD_BYTES_MAX => break,
                _ => at += 1,
            }
        }
        self.pass_over(at);
        false
    }

    fn pass_over(&mut self, count: usize) {
        self.buffer.advance(count);
        self.passed_over += count as u64;
    }

    /// Whether a packet of the right source stands here and another behind it; `Some(None)`: what would be there has not come yet.
    fn is_step(&self, at: usize) -> Option<Option<usize>> {
        for prefix in self.prefix.map_or(2..=4, |prefix| prefix..=prefix).step_by(2) {
            let Some(length) = self.length_at(at, prefix).filter(|length| *length >= HEADER_BYTES) else { continue };
            let Some(ssrc) = self.source_at(at, prefix).filter(|ssrc| self.ssrc.is_none_or(|known| known == *ssrc)) else {
                continue;
            };
            let next = at + prefix + length;
            if self.buffer.len() < next + prefix + HEADER_BYTES {
                return Some(None);
            }
            if self.source_at(next, prefix) == Some(ssrc) {
                return Some(Some(prefix));
            }
        }
        None
    }

    fn source_at(&self, at: usize, prefix: usize) -> Option<u32> {
        let packet = self.buffer.get(at + prefix..)?;
        let starts = packet.first().is_some_and(|first| first & VERSION_MASK == VERSION_2);
        ssrc_of(packet).filter(|_| starts && (prefix == 2 || self.buffer[at] == DOLLAR))
    }
}

fn ssrc_of(packet: &[u8]) -> Option<u32> {
    packet.get(8..)?.first_chunk::<4>().map(|ssrc| u32::from_be_bytes(*ssrc))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence: u16, bytes: usize) -> Vec<u8> {
        let mut packet = vec![0x80, 96, (sequence >> 8) as u8, sequence as u8, 0, 0, 0, 0, 0, 0, 0, 7];
        packet.resize(bytes, 0x42);
        packet
    }

    fn framed(packet: &[u8]) -> Vec<u8> {
        [&(packet.len() as u16).to_be_bytes()[..], packet].concat()
    }

    fn run(bytes: &[u8], piece: usize) -> (Vec<(bool, Vec<u8>)>, u64) {
        let (mut framing, mut out) = (Framing::new(Some(7)), Vec::new());
        for piece in bytes.chunks(piece) {
            framing.push(piece, |follows, packet| out.push((follows, packet.to_vec())));
            assert!(framing.held_bytes() <= HELD_BYTES_MAX);
        }
        (out, framing.take_passed_over())
    }

    #[test]
    fn packets_come_out_whole_wherever_they_are_cut() {
        let packets = [packet(1, 100), packet(2, 12), packet(3, 1_400)];
        let plain: Vec<u8> = packets.iter().flat_map(|packet| framed(packet)).collect();
        let dollar: Vec<u8> = packets.iter().flat_map(|packet| [&[b'$', 0][..], &framed(packet)].concat()).collect();
        for bytes in [plain, dollar] {
            for piece in 1..bytes.len() {
                let (out, passed_over) = run(&bytes, piece);
                let expected: Vec<(bool, Vec<u8>)> = packets.iter().map(|packet| (true, packet.clone())).collect();
                assert_eq!((out, passed_over), (expected, 0), "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_wrong_length_is_got_over() {
        let mut wrong = framed(&packet(2, 200));
        wrong[1] -= 30;
        let bytes = [framed(&packet(1, 100)), wrong, framed(&packet(3, 300)), framed(&packet(4, 50)), framed(&packet(5, 60))];
        for piece in [1, 13, 10_000] {
            let (out, passed_over) = run(&bytes.concat(), piece);
            let numbers: Vec<(bool, u8)> = out.iter().map(|(follows, packet)| (*follows, packet[3])).collect();
            assert_eq!(numbers, [(true, 1), (true, 2), (false, 3), (true, 4), (true, 5)], "in pieces of {piece}");
            assert_eq!(passed_over, 30);
        }
    }

    #[test]
    fn rubbish_is_passed_over_and_bounded() {
        let mut random = fastrand::Rng::with_seed(1);
        let rubbish: Vec<u8> = (0..1_000_000).map(|_| random.u8(..)).collect();
        let bytes = [rubbish, framed(&packet(1, 100)), framed(&packet(2, 100)), framed(&packet(3, 100))].concat();
        let (out, _) = run(&bytes, 1_460);
        assert!(out.iter().any(|(_, packet)| packet.len() == 100 && packet[3] == 3));
    }
}
