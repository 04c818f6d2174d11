//! Bytes cut anywhere → packets of a transport stream.
//!
//! ISO/IEC 13818-1 §2.4.3.2, §2.4.3.4. A stream is taken to begin with a packet. Where one does not begin with the sync byte, bytes are left out
//! up to a place from which three sync bytes stand where they should. Limits: [`HELD_BYTES_MAX`] are kept. Not here: what is in the packets.

use bytes::{Buf, BytesMut};

use crate::format::ts::{HEADER_BYTES, PACKET_BYTES, SYNC};

/// What it takes to see three packets begin.
pub const HELD_BYTES_MAX: usize = 2 * PACKET_BYTES + 1;

/// What the bytes show.
#[derive(Debug, PartialEq)]
pub enum Found<'a> {
    Packet(&'a [u8; PACKET_BYTES]),
    /// What comes next does not follow what came before.
    Lost,
}

pub struct Sync {
    held: BytesMut,
    is_found: bool,
}

impl Sync {
    pub fn new() -> Self {
        Sync { held: BytesMut::new(), is_found: true }
    }

    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }

    pub fn push(&mut self, mut bytes: &[u8], sink: &mut dyn FnMut(Found<'_>)) {
        while !bytes.is_empty() {
            if self.held.is_empty() && self.is_found {
                bytes = straight(bytes, sink);
            }
            let (now, later) = bytes.split_at(bytes.len().min(HELD_BYTES_MAX - self.held.len()));
            self.held.extend_from_slice(now);
            bytes = later;
            while self.step(sink) {}
        }
    }

    /// Takes what is kept a step further; `false`: it takes more bytes.
    fn step(&mut self, sink: &mut dyn FnMut(Found<'_>)) -> bool {
        if !self.is_found {
            let at = (0..self.held.len()).find(|at| begins(&self.held[*at..]) != Some(false)).unwrap_or(self.held.len());
            self.held.advance(at);
            self.is_found = begins(&self.held) == Some(true);
            return self.is_found;
        }
        let Some(packet) = self.held.first_chunk::<PACKET_BYTES>().filter(|packet| packet[0] == SYNC) else {
            self.is_found = self.held.first().is_none_or(|first| *first == SYNC);
            if !self.is_found {
                sink(Found::Lost);
            }
            return !self.is_found;
        };
        sink(Found::Packet(packet));
        self.held.advance(PACKET_BYTES);
        true
    }
}

/// Takes the packets off the front that need not be kept.
fn straight<'a>(mut bytes: &'a [u8], sink: &mut dyn FnMut(Found<'_>)) -> &'a [u8] {
    while let Some((packet, rest)) = bytes.split_first_chunk::<PACKET_BYTES>()
        && packet[0] == SYNC
    {
        sink(Found::Packet(packet));
        bytes = rest;
    }
    bytes
}

/// Whether three packets begin with these bytes; `None`: it takes more to see that.
fn begins(bytes: &[u8]) -> Option<bool> {
    for at in [0, PACKET_BYTES, 2 * PACKET_BYTES] {
        if *bytes.get(at)? != SYNC {
            return Some(false);
        }
    }
    Some(true)
}

/// One packet, taken apart.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    pub pid: u16,
    /// A unit (a section or PES packet) begins with the payload, or in it.
    pub starts: bool,
    pub counter: u8,
    /// The counter and the clock may be others from here on.
    pub is_new: bool,
    /// `None`: there is none.
    pub payload: Option<&'a [u8]>,
}

impl Packet<'_> {
    /// `None`: it was damaged on its way, is encrypted, or does not add up.
    pub fn parse(bytes: &[u8; PACKET_BYTES]) -> Option<Packet<'_>> {
        let [_, high, low, flags] = *bytes.first_chunk::<HEADER_BYTES>()?;
        if high & 0x80 != 0 || flags & 0xC0 != 0 {
            return None;
        }
        let mut body = &bytes[HEADER_BYTES..];
        let mut is_new = false;
        if flags & 0x20 != 0 {
            let length = usize::from(body[0]);
            let adaptation = body.get(1..1 + length)?;
            is_new = adaptation.first().is_some_and(|flags| flags & 0x80 != 0);
            body = &body[1 + length..];
        }
        let payload = (flags & 0x10 != 0).then_some(body);
        Some(Packet {
            pid: u16::from_be_bytes([high & 0x1F, low]),
            starts: high & 0x40 != 0,
            counter: flags & 0x0F,
            is_new,
            payload,
        })
    }
}

/// What the counter of a packet says of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Follows,
    /// The same once more.
    Again,
    Missing,
}

/// Watches the counters of one PID.
#[derive(Debug, Default)]
pub struct Counter(Option<u8>);

impl Counter {
    /// Of a packet with payload.
    pub fn order(&mut self, packet: &Packet<'_>) -> Order {
        let last = self.0.replace(packet.counter);
        match last {
            None => Order::Follows,
            Some(last) if packet.counter == (last + 1) & 0x0F => Order::Follows,
            Some(_) if packet.is_new => Order::Missing,
            Some(last) if packet.counter == last => Order::Again,
            Some(_) => Order::Missing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(count: u8) -> Vec<u8> {
        (0..count).flat_map(|at| [&[SYNC, 0, 1, 0x10 | at & 0xF][..], &[at + 0x80; 184]].concat()).collect()
    }

    /// The number in each packet; `None`: a loss.
    fn found(pieces: &[&[u8]]) -> Vec<Option<u8>> {
        let (mut sync, mut out) = (Sync::new(), Vec::new());
        for piece in pieces {
            sync.push(piece, &mut |found| match found {
                Found::Packet(packet) => out.push(Some(packet[100] - 0x80)),
                Found::Lost => out.push(None),
            });
            assert!(sync.held_bytes() <= HELD_BYTES_MAX);
        }
        out
    }

    #[test]
    fn packets_come_out_whatever_their_pieces() {
        let stream = packets(5);
        let expected: Vec<Option<u8>> = (0..5).map(Some).collect();
        for cut in 0..stream.len() {
            assert_eq!(found(&[&stream[..cut], &stream[cut..]]), expected, "cut at {cut}");
        }
        for size in [1, 7, 187, 188, 189, 400] {
            assert_eq!(found(&stream.chunks(size).collect::<Vec<_>>()), expected, "{size}");
        }
    }

    #[test]
    fn what_is_out_of_step_is_left_out() {
        let stream = packets(6);
        type Case<'a> = (&'a str, Vec<u8>, &'a [Option<u8>]);
        let all = [Some(0), Some(1), Some(2), Some(3), Some(4), Some(5)];
        let cases: [Case<'_>; 4] = [
            ("rubbish in front", [&[1, SYNC, 3][..], &stream].concat(), &[&[None][..], &all].concat()),
            (
                "rubbish inside",
                [&stream[..376], b"HTTP", &stream[376..]].concat(),
                &[Some(0), Some(1), None, Some(2), Some(3), Some(4), Some(5)],
            ),
            ("bytes missing", [&stream[..300], &stream[304..]].concat(), &[Some(0), Some(1), None, Some(3), Some(4), Some(5)]),
            ("nothing else", vec![7; 2_000], &[None]),
        ];
        for (name, bytes, expected) in cases {
            let mut expected = expected.to_vec();
            if name == "bytes missing" {
                // The packet that is too short looks whole, up to the next one.
                expected = vec![Some(0), Some(1), None, Some(3), Some(4), Some(5)];
            }
            assert_eq!(found(&[&bytes]), expected, "{name}");
            assert_eq!(found(&bytes.chunks(1).collect::<Vec<_>>()), expected, "{name}, byte by byte");
        }
    }

    #[test]
    fn headers_say_what_is_behind_them() {
        let mut packet = [0xAA; PACKET_BYTES];
        packet[..4].copy_from_slice(&[SYNC, 0x41, 0x02, 0x17]);
        let parsed = Packet::parse(&packet).unwrap();
        assert_eq!((parsed.pid, parsed.starts, parsed.counter, parsed.payload.unwrap().len()), (0x102, true, 7, 184));
        packet[3..6].copy_from_slice(&[0x30, 10, 0x80]);
        let parsed = Packet::parse(&packet).unwrap();
        assert_eq!((parsed.is_new, parsed.payload.unwrap().len()), (true, 173));
        packet[3..5].copy_from_slice(&[0x20, 183]);
        assert!(Packet::parse(&packet).unwrap().payload.is_none());
        for (name, at, byte) in [("too long", 4, 184), ("damaged", 1, 0x80), ("encrypted", 3, 0x90)] {
            let mut broken = packet;
            broken[at] = byte;
            assert!(Packet::parse(&broken).is_none(), "{name}");
        }
    }

    #[test]
    fn counters_show_what_is_missing() {
        let mut counter = Counter::default();
        let mut order =
            |counts, is_new| counter.order(&Packet { pid: 0, starts: false, counter: counts, is_new, payload: Some(&[]) });
        let orders = [order(14, false), order(15, false), order(0, false), order(0, false), order(2, false), order(9, true)];
        assert_eq!(orders, [Order::Follows, Order::Follows, Order::Follows, Order::Again, Order::Missing, Order::Missing]);
        assert_eq!(order(10, true), Order::Follows);
    }
}
