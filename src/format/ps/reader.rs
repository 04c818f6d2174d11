//! Bytes of a program stream, cut anywhere → its parts: PES packets with their times and payload, and stream maps.
//!
//! ISO/IEC 13818-1 §2.5.3 (pack, system header, program stream map), §2.4.3.6 (PES packet), and the packets of ISO/IEC 11172-1 §2.4.3.3:
//!
//! ```text
//! 000001BA pack     01 SCR … mux rate, stuffing (low 3 bits of byte 13)      0010 SCR, mux rate: MPEG-1, 12 bytes
//! 000001BB, BD–BF, F0–FF   u16 length, skipped                               000001B9 end
//! 000001BC map      u16 length, 2, u16 info, u16 map: { type, id, u16 info }*, CRC (often wrong, not looked at)
//! 000001C0–EF PES   u16 length, 10…, flags, u8 header length, PTS, DTS, …, payload
//! ```
//!
//! **Lengths are hints.** No start code of a picture's codec is as high as one of the system (its first bit is zero), so payload of
//! pictures ends where the next part begins, before its length or behind it; so does any payload without a length. Sound is taken by its
//! length, because G.711 may hold start codes; but not a pack, at which whoever is out of step goes on. Limits: [`MAP_BYTES_MAX`]; nothing but an
//! incomplete header is kept from call to call. Not here: what is in the payload.

use bytes::{Buf, BytesMut};

use crate::format::pes::read_time;
use crate::media::nal::start_code;

/// The start code of a pack, and the byte that tells which it is.
const PACK_BYTES_MIN: usize = 5;
/// A longer map is skipped.
const MAP_BYTES_MAX: usize = 1_024;
/// What the header of a packet of MPEG-1 has behind its length at most.
const MPEG1_HEADER_BYTES_MAX: usize = 16 + 2 + 10;

/// A part of the stream, as far as it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// A PES packet begins. Times in 90 kHz. `bytes`: of its payload, as it says; `None`: it does not.
    Begin {
        id: u8,
        pts: Option<u64>,
        dts: Option<u64>,
        bytes: Option<usize>,
    },
    Payload(&'a [u8]),
    /// The packet is over. `by_length`: it said so, and the last length of a picture's packet was right.
    End {
        by_length: bool,
    },
    /// The stream's map: type and id of each elementary stream.
    Map(&'a [(u8, u8)]),
    /// The whole stream is over: everything before is complete.
    StreamEnd,
    /// Bytes were left out: what follows begins anew.
    OutOfStep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Looks for a pack.
    Seeking,
    /// A start code comes next. `behind`: of the packet that ended here.
    Between {
        behind: Option<u8>,
    },
    Payload {
        id: u8,
        left: Option<usize>,
    },
    Skipping(usize),
}

pub struct Reader {
    buffer: BytesMut,
    state: State,
    /// The last length of a picture's packet was right: something of the system stood behind it.
    lengths_hold: bool,
    /// A picture was over where the sender said so, though the length of its packet said otherwise.
    marks_hold: bool,
    /// How often the sender said within the packet under way, which is of a picture, that a frame ends there, and was not believed.
    marks_refused: u32,
    /// The last packet ended where it had said.
    ended_by_length: bool,
    map: Vec<(u8, u8)>,
}

fn is_picture(id: u8) -> bool {
    id & 0xF0 == 0xE0
}

impl Reader {
    pub fn new() -> Self {
        Reader {
            buffer: BytesMut::new(),
            state: State::Seeking,
            lengths_hold: true,
            marks_hold: false,
            marks_refused: 0,
            ended_by_length: false,
            map: Vec::new(),
        }
    }

    pub fn held_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Bytes are missing: goes on at the next pack.
    pub fn reset(&mut self) {
        self.buffer.clear();
        self.state = State::Seeking;
    }

    pub fn push(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Part<'_>)) {
        self.buffer.extend_from_slice(bytes);
        while self.step(sink) {}
        if self.buffer.is_empty() {
            // Its memory is used again.
            self.buffer.clear();
        }
    }

    /// The sender says that a frame ends here. `false`: a packet is under way whose length says otherwise and can be believed.
    pub fn frame_end(&mut self, sink: &mut dyn FnMut(Part<'_>)) -> bool {
        let State::Payload { id, left } = self.state else { return true };
        let is_whole = left.is_some_and(|left| left <= self.buffer.len());
        let is_believed = !is_picture(id) || self.lengths_hold && !self.marks_hold;
        if left.is_some() && !is_whole && is_believed {
            self.marks_refused += u32::from(is_picture(id));
            return false;
        }
        self.give(self.buffer.len(), sink);
        self.end(id, is_whole, sink);
        true
    }

    /// A datagram begins with these bytes, behind the end of a frame: if they are a pack, the packet under way said a wrong length, and the
    /// sender's word is better from now on.
    pub fn frame_begins(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Part<'_>)) {
        if let State::Payload { id, left } = self.state
            && bytes.starts_with(&[0, 0, 1, 0xBA])
        {
            if is_picture(id) && left.is_some() {
                (self.lengths_hold, self.marks_hold) = (false, true);
            }
            self.give(self.buffer.len(), sink);
            self.end(id, false, sink);
        }
    }

    fn step(&mut self, sink: &mut dyn FnMut(Part<'_>)) -> bool {
        match self.state {
            State::Seeking => self.seek(),
            State::Skipping(left) => self.skip_on(left),
            State::Between { behind } => self.part(behind, sink),
            State::Payload { id, left } => self.payload(id, left, sink),
        }
    }

    fn seek(&mut self) -> bool {
        let mut from = 0;
        while let Some(at) = start_code(&self.buffer, from) {
            match self.buffer.get(at + 3) {
                Some(0xBA) => {
                    self.buffer.advance(at);
                    self.state = State::Between { behind: None };
                    return true;
                }
                Some(_) => from = at + 3,
                None => break,
            }
        }
        let kept = self.buffer.len().min(3);
        self.buffer.advance(self.buffer.len() - kept);
        false
    }

    fn lose_step(&mut self, sink: &mut dyn FnMut(Part<'_>)) -> bool {
        self.state = State::Seeking;
        sink(Part::OutOfStep);
        true
    }

    /// Reads what begins at the front; `false`: more bytes are needed.
    fn part(&mut self, behind: Option<u8>, sink: &mut dyn FnMut(Part<'_>)) -> bool {
        let known = self.buffer.len().min(3);
        if self.buffer[..known] != [0, 0, 1][..known] || self.buffer.get(3).is_some_and(|id| *id < 0xB9) {
            return match behind {
                // The packet is longer than it said.
                Some(id) if is_picture(id) => {
                    self.lengths_hold = false;
                    self.state = State::Payload { id, left: None };
                    true
                }
                _ => self.lose_step(sink),
            };
        }
        let Some(id) = self.buffer.get(3).copied() else { return false };
        self.lengths_hold |= self.ended_by_length && behind.is_some_and(is_picture);
        match id {
            0xB9 => {
                self.buffer.advance(4);
                self.state = State::Between { behind: None };
                sink(Part::StreamEnd);
                true
            }
            0xBA => self.pack(sink),
            0xBC => self.stream_map(sink),
            0xC0..=0xEF => self.pes(id, sink),
            _ => self.skip(),
        }
    }

    fn pack(&mut self, sink: &mut dyn FnMut(Part<'_>)) -> bool {
        let Some(kind) = self.buffer.get(4).copied() else { return false };
        let bytes = match (kind >> 6, kind >> 4) {
            (0b01, _) => match self.buffer.get(13) {
                Some(stuffing) => 14 + usize::from(stuffing & 7),
                None => return false,
            },
            (_, 0b0010) => 12,
            _ => {
                self.buffer.advance(4);
                return self.lose_step(sink);
            }
        };
        if self.buffer.len() < bytes {
            return false;
        }
        self.buffer.advance(bytes);
        self.state = State::Between { behind: None };
        true
    }

    fn length(&self) -> Option<usize> {
        let [high, low] = *self.buffer.get(4..)?.first_chunk::<2>()?;
        Some(usize::from(u16::from_be_bytes([high, low])))
    }

    fn skip(&mut self) -> bool {
        let Some(length) = self.length() else { return false };
        self.buffer.advance(6);
        self.state = State::Skipping(length);
        true
    }

    fn skip_on(&mut self, left: usize) -> bool {
        let within = left.min(self.buffer.len());
        if let Some(at) = self.pack_inside(within) {
            self.buffer.advance(at);
            self.state = State::Between { behind: None };
            return true;
        }
        let count = if within < left { within - self.begun_pack(within) } else { within };
        self.buffer.advance(count);
        self.state = if count == left { State::Between { behind: None } } else { State::Skipping(left - count) };
        count == left
    }

    /// Where a whole beginning of a pack stands in the first bytes: what its packet said of its length was wrong.
    fn pack_inside(&self, within: usize) -> Option<usize> {
        let bytes = &self.buffer[..within];
        let mut from = 0;
        loop {
            let at = start_code(bytes, from)?;
            match *bytes.get(at + 3..at + PACK_BYTES_MIN)? {
                [0xBA, kind] if kind >> 6 == 0b01 || kind >> 4 == 0b0010 => return Some(at),
                _ => from = at + 3,
            }
        }
    }

    /// How many of the last of the first bytes may be the beginning of a pack, of which there is none before.
    fn begun_pack(&self, within: usize) -> usize {
        const BEGINS: [u8; 4] = [0, 0, 1, 0xBA];
        let bytes = &self.buffer[..within];
        (1..PACK_BYTES_MIN).rev().find(|count| bytes.ends_with(&BEGINS[..*count])).unwrap_or(0)
    }

    fn stream_map(&mut self, sink: &mut dyn FnMut(Part<'_>)) -> bool {
        let Some(length) = self.length() else { return false };
        if length > MAP_BYTES_MAX {
            return self.skip();
        }
        let Some(body) = self.buffer.get(6..6 + length) else { return false };
        self.map.clear();
        if let Some(entries) = map_entries(body) {
            self.map.extend(MapEntries(entries));
            sink(Part::Map(&self.map));
        }
        self.buffer.advance(6 + length);
        self.state = State::Between { behind: None };
        true
    }

    fn pes(&mut self, id: u8, sink: &mut dyn FnMut(Part<'_>)) -> bool {
        let Some(length) = self.length() else { return false };
        let Some(first) = self.buffer.get(6).copied() else { return false };
        let rest = &self.buffer[6..];
        let header = if first & 0xC0 == 0x80 {
            match rest.get(2) {
                Some(bytes) if rest.len() >= 3 + usize::from(*bytes) => mpeg2_header(&rest[..3 + usize::from(*bytes)]),
                _ => return false,
            }
        } else {
            if rest.len() < length.min(MPEG1_HEADER_BYTES_MAX) {
                return false;
            }
            match mpeg1_header(&rest[..length.min(MPEG1_HEADER_BYTES_MAX)]) {
                Some(header) => header,
                None => {
                    self.buffer.advance(4);
                    return self.lose_step(sink);
                }
            }
        };
        // A length that has no room for the header is none.
        let left = length.checked_sub(header.bytes).filter(|_| length > 0);
        self.buffer.advance(6 + header.bytes);
        self.state = State::Payload { id, left };
        self.marks_refused = 0;
        sink(Part::Begin { id, pts: header.pts, dts: header.dts, bytes: left });
        true
    }

    fn payload(&mut self, id: u8, left: Option<usize>, sink: &mut dyn FnMut(Part<'_>)) -> bool {
        let within = left.unwrap_or(usize::MAX).min(self.buffer.len());
        if is_picture(id) || left.is_none() {
            if let Some(at) = self.next_part(within) {
                self.give(at, sink);
                if is_picture(id) && left.is_some() {
                    self.lengths_hold = false;
                    // The only one was right. Who marks every datagram says nothing by it.
                    self.marks_hold |= self.marks_refused == 1;
                }
                self.end(id, false, sink);
                return true;
            }
            // The next part may have begun at the end of these bytes, also where the packet says that they are the last.
            let kept = [3, 2, 1].into_iter().find(|count| self.buffer[..within].ends_with(&[0, 0, 1][..*count])).unwrap_or(0);
            let is_open = kept > 0 && self.buffer.len() < within - kept + 4;
            if is_open || left.is_none_or(|left| within < left) {
                self.give(within - kept, sink);
                return false;
            }
        } else if let Some(at) = self.pack_inside(within) {
            self.give(at, sink);
            self.end(id, false, sink);
            return true;
        }
        let is_whole = left.is_some_and(|left| left == within);
        let kept = if is_whole { 0 } else { self.begun_pack(within) };
        self.give(within - kept, sink);
        match self.state {
            State::Payload { left: Some(0), .. } => {
                self.end(id, true, sink);
                true
            }
            _ => false,
        }
    }

    /// Where a part of the system begins in the first bytes.
    fn next_part(&self, within: usize) -> Option<usize> {
        let mut from = 0;
        loop {
            let at = start_code(&self.buffer, from).filter(|at| *at < within)?;
            if *self.buffer.get(at + 3)? >= 0xB9 {
                return Some(at);
            }
            from = at + 3;
        }
    }

    fn give(&mut self, count: usize, sink: &mut dyn FnMut(Part<'_>)) {
        if count > 0 {
            sink(Part::Payload(&self.buffer[..count]));
            self.buffer.advance(count);
        }
        if let State::Payload { left: Some(left), .. } = &mut self.state {
            *left = left.saturating_sub(count);
        }
    }

    fn end(&mut self, id: u8, by_length: bool, sink: &mut dyn FnMut(Part<'_>)) {
        self.state = State::Between { behind: Some(id) };
        self.ended_by_length = by_length;
        sink(Part::End { by_length: by_length && self.lengths_hold });
    }
}

/// The entries in the body of a map, still as bytes; `None`: its lengths do not fit.
fn map_entries(body: &[u8]) -> Option<&[u8]> {
    let (_, rest) = body.split_at_checked(2)?;
    let (_info, rest) = take_sized(rest)?;
    let (entries, _crc) = take_sized(rest)?;
    Some(entries)
}

fn take_sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*size)))
}

struct MapEntries<'a>(&'a [u8]);

impl Iterator for MapEntries<'_> {
    type Item = (u8, u8);

    fn next(&mut self) -> Option<(u8, u8)> {
        let ([kind, id], rest) = self.0.split_first_chunk::<2>()?;
        let (_, behind) = take_sized(rest)?;
        self.0 = behind;
        Some((*kind, *id))
    }
}

struct PesHeader {
    bytes: usize,
    pts: Option<u64>,
    dts: Option<u64>,
}

/// `header`: two bytes of flags, the length of the rest, and the rest.
fn mpeg2_header(header: &[u8]) -> PesHeader {
    let rest = &header[3..];
    let pts = if header[1] & 0x80 != 0 { read_time(rest) } else { None };
    let dts = if header[1] & 0xC0 == 0xC0 { rest.get(5..).and_then(read_time) } else { None };
    PesHeader { bytes: header.len(), pts, dts }
}

/// ISO/IEC 11172-1 §2.4.3.3: stuffing, the size of a buffer, times.
fn mpeg1_header(bytes: &[u8]) -> Option<PesHeader> {
    let mut at = bytes.iter().take(16).take_while(|byte| **byte == 0xFF).count();
    if bytes.get(at)? >> 6 == 0b01 {
        at += 2;
    }
    let (pts, dts, count) = match bytes.get(at)? >> 4 {
        0b0010 => (Some(read_time(&bytes[at..])?), None, 5),
        0b0011 => (Some(read_time(&bytes[at..])?), Some(read_time(bytes.get(at + 5..)?)?), 10),
        0 if bytes[at] == 0x0F => (None, None, 1),
        _ => return None,
    };
    Some(PesHeader { bytes: at + count, pts, dts })
}
