//! RTP packets of one track: access units with their marks, and what became of the packets. Spec: RFC 3550 §5.1; RFC 6184 §5.2, §5.6
//! to §5.8 (H.264: single NAL units, STAP-A, FU-A).
//!
//! Packets may come in any order. An access unit is whole when everything has come from the packet with its mark to the one with the
//! marker bit; parameter sets in front of the mark count as packets only. Audio is counted, not looked into. Limits: [`UNITS`] access
//! units on their way at a time, [`WINDOW`] packets each.

use super::order::{Arrival, Order, WINDOW};
use super::{Found, PREFIX_BYTES};
use crate::mark::Mark;
use crate::rtsp::Kind;

/// Access units whose packets may be mixed up.
const UNITS: usize = 4;
const HEADER_BYTES: usize = 12;
const TYPE_MASK: u8 = 0x1F;
const NAL_TYPE_IDR: u8 = 5;
const NAL_TYPE_SEI: u8 = 6;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const FU_START: u8 = 0x80;

pub struct RtpScanner {
    kind: Kind,
    payload_type: u8,
    order: Order,
    /// Of the source that was heard last.
    ssrc: Option<u32>,
    units: [Unit; UNITS],
    /// The place for the next one.
    next: usize,
}

/// One access unit as its packets come.
#[derive(Default)]
struct Unit {
    timestamp: Option<u32>,
    mark: Option<Mark>,
    /// Numbers of the packets with the mark and with the marker bit.
    begin: Option<u64>,
    end: Option<u64>,
    key: bool,
    whole: bool,
    /// The beginning of an SEI NAL unit that comes in fragments, and the number of the next one.
    sei: Vec<u8>,
    sei_next: u64,
}

/// What a packet's header says, and its payload.
struct Packet<'a> {
    marker: bool,
    payload_type: u8,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Packet<'a>> {
        let (header, mut payload) = bytes.split_at_checked(HEADER_BYTES)?;
        let [first, second, s1, s0, t3, t2, t1, t0, c3, c2, c1, c0] = *header.first_chunk()?;
        if first >> 6 != 2 {
            return None;
        }
        payload = payload.get(4 * usize::from(first & 0xF)..)?;
        if first & 0x10 != 0 {
            let [_, _, w1, w0] = *payload.first_chunk()?;
            payload = payload.get(4 + 4 * usize::from(u16::from_be_bytes([w1, w0]))..)?;
        }
        if first & 0x20 != 0 {
            let padding = usize::from(*payload.last()?);
            payload = payload.get(..payload.len().checked_sub(padding)?)?;
        }
        Some(Packet {
            marker: second & 0x80 != 0,
            payload_type: second & 0x7F,
            sequence: u16::from_be_bytes([s1, s0]),
            timestamp: u32::from_be_bytes([t3, t2, t1, t0]),
            ssrc: u32::from_be_bytes([c3, c2, c1, c0]),
            payload,
        })
    }
}

impl RtpScanner {
    pub fn new(kind: Kind, payload_type: u8) -> RtpScanner {
        RtpScanner { kind, payload_type, order: Order::default(), ssrc: None, units: Default::default(), next: 0 }
    }

    pub fn order(&self) -> &Order {
        &self.order
    }

    pub fn ssrc(&self) -> Option<u32> {
        self.ssrc
    }

    /// Takes one packet; what is no packet of this track is left out.
    pub fn feed(&mut self, bytes: &[u8], found: &mut impl FnMut(Found<'_>)) {
        let Some(packet) = Packet::parse(bytes).filter(|packet| packet.payload_type == self.payload_type) else { return };
        if self.ssrc.replace(packet.ssrc).is_some_and(|ssrc| ssrc != packet.ssrc) {
            // Another source counts anew.
            self.order = Order::default();
            self.units = Default::default();
        }
        let (number, arrival) = self.order.take(packet.sequence);
        found(Found::Packet(arrival));
        match self.kind {
            _ if arrival == Arrival::Duplicate => {}
            Kind::Audio => found(Found::Audio),
            Kind::Video => self.video(number, &packet, found),
        }
    }

    fn video(&mut self, number: u64, packet: &Packet<'_>, found: &mut impl FnMut(Found<'_>)) {
        let known = self.units.iter().position(|unit| unit.timestamp == Some(packet.timestamp));
        let at = known.unwrap_or_else(|| {
            let at = self.next;
            self.next = (at + 1) % UNITS;
            self.units[at] = Unit { timestamp: Some(packet.timestamp), ..Unit::default() };
            at
        });
        let unit = &mut self.units[at];
        let had_mark = unit.mark.is_some();
        unit.payload(number, packet.payload);
        if let Some(mark) = unit.mark.filter(|_| !had_mark) {
            found(Found::First(mark));
        }
        if packet.marker {
            unit.end = Some(number);
        }
        if let (Some(mark), Some(begin), Some(end), false) = (unit.mark, unit.begin, unit.end, unit.whole)
            && (begin..begin + WINDOW).contains(&end)
            && self.order.is_complete(begin, end)
        {
            unit.whole = true;
            found(Found::Last { mark, key: unit.key });
        }
    }
}

impl Unit {
    fn payload(&mut self, number: u64, payload: &[u8]) {
        match payload {
            [indicator, fragment, data @ ..] if indicator & TYPE_MASK == FU_A => self.fragment(number, *fragment, data),
            [indicator, units @ ..] if indicator & TYPE_MASK == STAP_A => {
                let mut rest = units;
                while let Some((length, behind)) = rest.split_first_chunk() {
                    let Some((nal, behind)) = behind.split_at_checked(usize::from(u16::from_be_bytes(*length))) else { return };
                    self.nal(number, nal);
                    rest = behind;
                }
            }
            nal => self.nal(number, nal),
        }
    }

    fn nal(&mut self, number: u64, nal: &[u8]) {
        match nal.first().map(|header| header & TYPE_MASK) {
            Some(NAL_TYPE_IDR) => self.key = true,
            Some(NAL_TYPE_SEI) if self.mark.is_none() => {
                self.mark = Mark::find(nal);
                self.begin = self.mark.map(|_| number);
            }
            _ => {}
        }
    }

    fn fragment(&mut self, number: u64, header: u8, data: &[u8]) {
        match header & TYPE_MASK {
            NAL_TYPE_IDR => self.key = true,
            NAL_TYPE_SEI if self.mark.is_none() => {
                if header & FU_START != 0 {
                    self.sei.clear();
                    self.begin = Some(number);
                } else if self.begin.is_none() || number != self.sei_next {
                    return;
                }
                self.sei_next = number + 1;
                self.sei.extend_from_slice(&data[..data.len().min(PREFIX_BYTES - self.sei.len())]);
                self.mark = Mark::find(&self.sei);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Seen, seen};
    use super::*;
    use crate::mark::MARK_BYTES;

    const PAYLOAD_TYPE: u8 = 96;

    fn packet(sequence: u16, timestamp: u32, marker: bool, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x80, PAYLOAD_TYPE | if marker { 0x80 } else { 0 }];
        packet.extend_from_slice(&sequence.to_be_bytes());
        packet.extend_from_slice(&timestamp.to_be_bytes());
        packet.extend_from_slice(&7u32.to_be_bytes());
        packet.extend_from_slice(payload);
        packet
    }

    /// The NAL unit of a mark.
    fn sei(sequence: u32) -> Vec<u8> {
        Mark { sent: 5, sequence, publisher: 0 }.encode()[4..].to_vec()
    }

    fn stap_a(nals: &[&[u8]]) -> Vec<u8> {
        let sized = nals.iter().flat_map(|nal| [&(nal.len() as u16).to_be_bytes()[..], *nal].concat());
        std::iter::once(STAP_A).chain(sized).collect()
    }

    fn fu_a(nal: &[u8], pieces: usize) -> Vec<Vec<u8>> {
        let size = (nal.len() - 1).div_ceil(pieces);
        let ends = |at: usize| if at == 0 { FU_START } else { 0 } | if at + 1 == pieces { 0x40 } else { 0 };
        let piece = |(at, data): (usize, &[u8])| [&[nal[0] & 0xE0 | FU_A, ends(at) | nal[0] & TYPE_MASK], data].concat();
        nal[1..].chunks(size).enumerate().map(piece).collect()
    }

    /// An access unit as a mark in a packet of its own and a slice in fragments, from `first` on.
    fn unit(first: u16, number: u32, nal_type: u8, fragments: usize) -> Vec<Vec<u8>> {
        let slice: Vec<u8> = std::iter::once(0x60 | nal_type).chain(vec![9; 300]).collect();
        let mut payloads = vec![sei(number)];
        payloads.extend(fu_a(&slice, fragments));
        let last = payloads.len() - 1;
        let packets = payloads.iter().enumerate();
        packets.map(|(at, payload)| packet(first.wrapping_add(at as u16), number * 3000, at == last, payload)).collect()
    }

    fn scan<'a>(packets: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<Seen> {
        let mut all = Vec::new();
        let mut scanner = RtpScanner::new(Kind::Video, PAYLOAD_TYPE);
        for packet in packets {
            scanner.feed(packet, &mut |found| all.push(seen(&found)));
        }
        all
    }

    /// What is found of access units, and packets that are missing, came late, and came twice.
    fn result(seen: &[Seen]) -> (Vec<Seen>, (u64, u64, u64)) {
        let mut counts = (0, 0, 0);
        for item in seen {
            match item {
                Seen::Packet(Arrival::Ahead { missing }) => counts.0 += missing,
                Seen::Packet(Arrival::Late) => counts.1 += 1,
                Seen::Packet(Arrival::Duplicate) => counts.2 += 1,
                _ => {}
            }
        }
        (seen.iter().filter(|item| !matches!(item, Seen::Packet(_))).cloned().collect(), counts)
    }

    #[test]
    fn marks_stand_in_any_kind_of_packet() {
        let idr = [0x65, 1, 2, 3];
        let fragmented_sei: Vec<Vec<u8>> =
            fu_a(&sei(1), 3).iter().enumerate().map(|(at, payload)| packet(at as u16, 0, false, payload)).collect();
        let cases: [(&str, Vec<Vec<u8>>); 4] = [
            ("single NAL units", vec![packet(0, 0, false, &sei(1)), packet(1, 0, true, &idr)]),
            ("aggregated", vec![packet(0, 0, true, &stap_a(&[&[0x67, 1], &[0x68, 2], &sei(1), &idr]))]),
            ("parameter sets in front", vec![packet(0, 0, false, &[0x67, 1]), packet(1, 0, true, &stap_a(&[&sei(1), &idr]))]),
            ("in fragments", fragmented_sei.into_iter().chain([packet(3, 0, true, &idr)]).collect()),
        ];
        for (name, packets) in cases {
            assert_eq!(result(&scan(&packets)), (vec![Seen::First(1), Seen::Last(1, true)], (0, 0, 0)), "{name}");
        }
    }

    #[test]
    fn headers_with_everything_in_them() {
        let payload = stap_a(&[&sei(4), &[0x61, 1]]);
        let mut all = packet(9, 0, true, &[]);
        all[0] = 0x80 | 0x20 | 0x10 | 2;
        all.extend([0; 8]);
        all.extend([0xBE, 0xDE, 0, 1, 0, 0, 0, 0]);
        all.extend(&payload);
        all.extend([0, 0, 3]);
        assert_eq!(result(&scan([&all])).0, [Seen::First(4), Seen::Last(4, false)]);
        for cut in 0..all.len() - payload.len() - 3 {
            assert_eq!(result(&scan([&all[..cut].to_vec()])).0, [], "cut to {cut}");
        }
        let mut other = packet(10, 0, true, &payload);
        other[1] = 0x80 | 97;
        assert_eq!(scan([&other]), [], "another payload type");
    }

    #[test]
    fn losses_are_counted_and_break_their_frame_only() {
        let units: Vec<Vec<Vec<u8>>> = vec![unit(65_533, 1, 5, 4), unit(2, 2, 1, 3), unit(6, 3, 1, 2)];
        let packets: Vec<Vec<u8>> = units.concat();
        let (first, last) = (Seen::First, |number| Seen::Last(number, number == 1));
        let all = vec![first(1), last(1), first(2), last(2), first(3), last(3)];
        let without_second = vec![first(1), last(1), first(2), first(3), last(3)];
        assert_eq!(result(&scan(&packets)), (all.clone(), (0, 0, 0)));
        // Packets 0 to 4 are the first access unit, 5 to 8 the second, 9 to 11 the third.
        type Case<'a> = (&'a str, &'a [usize], Vec<Seen>, (u64, u64, u64));
        let cases: [Case<'_>; 6] = [
            ("a fragment is lost", &[0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11], without_second.clone(), (1, 0, 0)),
            ("the end is lost", &[0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11], without_second, (1, 0, 0)),
            ("the mark is lost", &[0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11], vec![first(1), last(1), first(3), last(3)], (1, 0, 0)),
            ("all come twice", &[0, 0, 1, 1, 2, 3, 4, 4, 5, 6, 7, 8, 8, 9, 10, 11], all.clone(), (0, 0, 4)),
            ("out of order", &[1, 0, 2, 4, 3, 5, 6, 8, 7, 9, 10, 11], all, (2, 3, 0)),
            (
                "over the end of a frame",
                &[0, 1, 2, 3, 5, 4, 6, 7, 8, 9, 10, 11],
                vec![first(1), first(2), last(1), last(2), first(3), last(3)],
                (1, 1, 0),
            ),
        ];
        for (name, order, expected, counts) in cases {
            assert_eq!(result(&scan(order.iter().map(|at| &packets[*at]))), (expected, counts), "{name}");
        }
    }

    #[test]
    fn another_source_counts_anew() {
        let mut second = unit(40_000, 2, 5, 2);
        second.iter_mut().for_each(|packet| packet[11] = 8);
        let packets = [unit(10, 1, 5, 2), second].concat();
        let expected = vec![Seen::First(1), Seen::Last(1, true), Seen::First(2), Seen::Last(2, true)];
        assert_eq!(result(&scan(&packets)), (expected, (0, 0, 0)));
    }

    #[test]
    fn audio_is_counted() {
        let mut all = Vec::new();
        let mut scanner = RtpScanner::new(Kind::Audio, PAYLOAD_TYPE);
        for sequence in [1, 2, 2, 4] {
            scanner.feed(&packet(sequence, 0, true, &[0; MARK_BYTES]), &mut |found| all.push(seen(&found)));
        }
        assert_eq!(result(&all), (vec![Seen::Audio; 3], (1, 0, 1)));
        assert_eq!(scanner.order().totals().unwrap().received, 3);
    }
}
