//! A byte stream of MPEG-TS: the access units of H.264. Spec: ISO/IEC 13818-1 §2.4.3, §2.4.4.
//!
//! Where an access unit does not say its length, its end is known when the next one begins, or by [`TsScanner::end`].

use super::{Broken, Found, Header, PREFIX_BYTES};
use crate::mark::Mark;

const PACKET_BYTES: usize = 188;
const STREAM_TYPE_H264: u8 = 0x1B;
/// Start code, stream id, length.
const PES_LENGTH_END: usize = 6;

/// One PES packet as it comes.
#[derive(Default)]
struct Pes {
    prefix: Vec<u8>,
    bytes: usize,
    key: bool,
    mark: Option<Mark>,
    open: bool,
}

#[derive(Default)]
pub struct TsScanner {
    packet: Header<PACKET_BYTES>,
    pmt: Option<u16>,
    video: Option<u16>,
    pes: Pes,
}

impl TsScanner {
    pub fn feed(&mut self, mut input: &[u8], found: &mut impl FnMut(Found<'_>)) -> Result<(), Broken> {
        while self.packet.collect(PACKET_BYTES, &mut input) {
            self.packet.len = 0;
            let packet = self.packet.bytes;
            self.take(&packet, found)?;
        }
        Ok(())
    }

    /// Nothing more belongs to the last access unit.
    pub fn end(&mut self, found: &mut impl FnMut(Found<'_>)) {
        if std::mem::take(&mut self.pes.open)
            && let Some(mark) = self.pes.mark
        {
            found(Found::Last { mark, key: self.pes.key });
        }
    }

    fn take(&mut self, packet: &[u8; PACKET_BYTES], found: &mut impl FnMut(Found<'_>)) -> Result<(), Broken> {
        if packet[0] != 0x47 {
            return Err(Broken("a TS packet without its sync byte"));
        }
        let pid = u16::from_be_bytes([packet[1] & 0x1F, packet[2]]);
        let (starts, has_field) = (packet[1] & 0x40 != 0, packet[3] & 0x20 != 0);
        let field = if has_field { usize::from(packet[4]) + 1 } else { 0 };
        let payload = if packet[3] & 0x10 != 0 { packet.get(4 + field..).unwrap_or_default() } else { &[] };
        if pid == 0 && starts {
            self.pmt = table(payload).and_then(|table| pid_at(table, 10));
        } else if Some(pid) == self.pmt && starts {
            self.video = table(payload).and_then(video_of);
        } else if Some(pid) == self.video {
            if starts {
                self.end(found);
                self.pes = Pes { open: true, key: field > 1 && packet[5] & 0x40 != 0, ..Pes::default() };
            }
            self.payload(payload, found);
        }
        Ok(())
    }

    fn payload(&mut self, payload: &[u8], found: &mut impl FnMut(Found<'_>)) {
        let pes = &mut self.pes;
        if !pes.open {
            return;
        }
        pes.bytes += payload.len();
        let copied = payload.len().min(PREFIX_BYTES - pes.prefix.len());
        pes.prefix.extend_from_slice(&payload[..copied]);
        if copied > 0 && pes.mark.is_none() {
            pes.mark = Mark::find(&pes.prefix);
            if let Some(mark) = pes.mark {
                found(Found::First(mark));
            }
        }
        let length = pes.prefix.get(4..PES_LENGTH_END).map_or(0, |two| usize::from(u16::from_be_bytes([two[0], two[1]])));
        if length > 0 && pes.bytes >= PES_LENGTH_END + length {
            self.end(found);
        }
    }
}

/// A table behind its pointer.
fn table(payload: &[u8]) -> Option<&[u8]> {
    payload.get(1 + usize::from(*payload.first()?)..)
}

fn pid_at(table: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([table.get(at)? & 0x1F, *table.get(at + 1)?]))
}

/// The first stream of H.264 in a PMT.
fn video_of(pmt: &[u8]) -> Option<u16> {
    let length = |at| Some(usize::from(pid_at(pmt, at)? & 0x0FFF));
    let end = 3 + length(1)?.checked_sub(4)?;
    let mut at = 12 + length(10)?;
    while at < end {
        if *pmt.get(at)? == STREAM_TYPE_H264 {
            return pid_at(pmt, at + 1);
        }
        at += 5 + length(at + 3)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::testing::{Seen, scan_in_pieces};

    const VIDEO: u16 = 256;

    /// Packets of one PES or table, stuffed by an adaptation field.
    fn packets(pid: u16, key: bool, mut bytes: &[u8]) -> Vec<u8> {
        let (mut out, mut starts) = (Vec::new(), true);
        while !bytes.is_empty() {
            let room = PACKET_BYTES - 4 - if starts && key { 2 } else { 0 };
            let take = bytes.len().min(room);
            let field = PACKET_BYTES - 4 - take;
            let [high, low] = pid.to_be_bytes();
            out.extend([0x47, high | if starts { 0x40 } else { 0 }, low, if field > 0 { 0x30 } else { 0x10 }]);
            if field > 0 {
                out.push(field as u8 - 1);
                out.extend([if starts && key { 0x40 } else { 0 }].iter().chain(&[0xFF; 188]).take(field - 1));
            }
            out.extend(&bytes[..take]);
            (bytes, starts) = (&bytes[take..], false);
        }
        out
    }

    fn pes(sequence: u32, bounded: bool) -> Vec<u8> {
        let mark = Mark { sent: 5, sequence, publisher: 0 }.encode();
        let body = [&[0x80, 0x80, 5, 0x21, 0, 1, 0, 1, 0, 0, 0, 1, 9, 0xF0][..], &mark, &[0xFF; 700]].concat();
        let length = if bounded { body.len() as u16 } else { 0 };
        [&[0, 0, 1, 0xE0][..], &length.to_be_bytes(), &body].concat()
    }

    #[test]
    fn access_units_are_found_with_and_without_a_length() {
        let pat = [0, 0, 0xB0, 13, 0, 1, 0xC1, 0, 0, 0, 1, 0xF0, 0, 1, 2, 3, 4];
        let pmt =
            [0, 2, 0xB0, 23, 0, 1, 0xC1, 0, 0, 0xE1, 0, 0xF0, 0, 0x0F, 0xE1, 1, 0xF0, 0, 0x1B, 0xE1, 0, 0xF0, 0, 1, 2, 3, 4];
        let stream = [
            packets(0, false, &pat),
            packets(4096, false, &pmt),
            packets(VIDEO, true, &pes(1, true)),
            packets(257, false, &pes(99, true)),
            packets(VIDEO, false, &pes(2, false)),
            packets(VIDEO, false, &pes(3, false)),
        ]
        .concat();
        let seen =
            scan_in_pieces(&stream, TsScanner::default, |scanner, bytes, found| scanner.feed(bytes, &mut |f| found(f)).unwrap());
        let expected = [Seen::First(1), Seen::Last(1, true), Seen::First(2), Seen::Last(2, false), Seen::First(3)];
        assert_eq!(seen, expected);
        let (mut scanner, mut ends) = (TsScanner::default(), 0);
        scanner.feed(&stream, &mut |_| {}).unwrap();
        scanner.end(&mut |_| ends += 1);
        scanner.end(&mut |_| ends += 1);
        assert_eq!(ends, 1);
        assert!(TsScanner::default().feed(&[0; 188], &mut |_| {}).is_err());
    }
}
