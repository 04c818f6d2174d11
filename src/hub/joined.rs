//! What several viewers need next, as one piece of memory.
//!
//! Packets consist of parts, and a viewer that is served less often than packets come needs several: for the kernel a slice each. Viewers
//! served one after the other mostly stand at the same place, so the parts are copied together once, and each send has one slice.

use super::ring::Ring;

/// A piece is not larger: who is further behind gets the packets as they are.
const BYTES_MAX: usize = 64 * 1024;
/// Fewer slices cost less than the copy.
const SLICES_MIN: usize = 3;

#[derive(Debug, Default)]
pub struct Joined {
    /// The packets from the first number up to the second.
    span: (u64, u64),
    /// Empty, unless they have been copied.
    bytes: Vec<u8>,
    asked: bool,
    tried: bool,
}

impl Joined {
    /// Forgets what it holds: another ring is next.
    pub fn reset(&mut self) {
        self.bytes.clear();
        (self.asked, self.tried) = (false, false);
    }

    /// A viewer is next that needs everything from this number on. The second with the same need pays for the copy.
    pub fn prepare(&mut self, ring: &Ring, from: u64) {
        let span = (from, ring.end());
        if !self.asked || span != self.span {
            self.bytes.clear();
            (self.span, self.asked, self.tried) = (span, true, false);
        } else if !std::mem::replace(&mut self.tried, true) {
            self.copy(ring);
        }
    }

    fn copy(&mut self, ring: &Ring) {
        let packets = || (self.span.0..self.span.1).map_while(|number| ring.get(number));
        let bytes: usize = packets().map(|packet| packet.len).sum();
        let slices: usize = packets().map(|packet| packet.parts.len()).sum();
        if bytes > BYTES_MAX || slices < SLICES_MIN {
            return;
        }
        let mut copy = std::mem::take(&mut self.bytes);
        packets().flat_map(|packet| &packet.parts).for_each(|part| copy.extend_from_slice(part));
        self.bytes = copy;
    }

    /// The piece that begins with this packet, and the number of the one behind it.
    pub fn from(&self, number: u64) -> Option<(&[u8], u64)> {
        (!self.bytes.is_empty() && self.span.0 == number).then_some((&self.bytes[..], self.span.1))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use smallvec::smallvec;

    use super::*;
    use crate::format::{Packet, PacketKind};
    use crate::media::{MediaTime, Stamp};

    fn push(ring: &mut Ring, parts: [&'static [u8]; 2]) {
        let parts = smallvec![Bytes::from_static(parts[0]), Bytes::from_static(parts[1])];
        ring.push(Packet::new(parts, PacketKind::Delta, Stamp::from_millis(1), MediaTime::ZERO));
    }

    #[test]
    fn the_second_viewer_at_a_place_gets_one_piece() {
        let mut ring = Ring::new(1_000_000, 1_000);
        push(&mut ring, [b"a", b"bc"]);
        push(&mut ring, [b"", b"def"]);
        let mut joined = Joined::default();
        joined.prepare(&ring, 0);
        assert_eq!(joined.from(0), None, "the first of them");
        joined.prepare(&ring, 0);
        assert_eq!((joined.from(0), joined.from(1)), (Some((&b"abcdef"[..], 2)), None));
        push(&mut ring, [b"g", b""]);
        assert_eq!(joined.from(0), Some((&b"abcdef"[..], 2)), "what has come since follows by itself");
        joined.prepare(&ring, 0);
        assert_eq!(joined.from(0), None);
        joined.prepare(&ring, 0);
        assert_eq!(joined.from(0), Some((&b"abcdefg"[..], 3)));
        joined.reset();
        assert_eq!(joined.from(0), None);
    }

    #[test]
    fn what_is_small_or_large_goes_as_it_is() {
        let mut ring = Ring::new(1_000_000, 1_000);
        push(&mut ring, [b"a", b"b"]);
        push(&mut ring, [&[0; BYTES_MAX], b"b"]);
        let mut joined = Joined::default();
        for from in [0, 1, 2, 9] {
            for _ in 0..3 {
                joined.prepare(&ring, from);
                assert_eq!(joined.from(from), None, "from {from}");
            }
        }
    }
}
