//! AV1 (AOMedia RTP payload format v1.0.0), VP8 (RFC 7741) and VP9 (RFC 9628) → frames.
//!
//! A frame ends at the marker or when the timestamp changes. Behind a gap it is whole only if its first packet says that it begins there.

use bytes::{BufMut, BytesMut};

use super::{AccessUnit, Depacketized, Piece, UNIT_BYTES_MAX};
use crate::format::rtp::obu::{self, Obu};
use crate::media::{Discard, Stamp, vp9};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Av1,
    Vp8,
    Vp9,
}

pub struct Video {
    dialect: Dialect,
    buffer: BytesMut,
    /// AV1: the OBU of which only a part has come.
    obu: BytesMut,
    timestamp: Option<i64>,
    key: bool,
    broken: bool,
    gap: bool,
    arrival: Stamp,
}

/// What a payload descriptor says.
struct Described<'a> {
    begins: bool,
    /// Said by the packet that begins a frame.
    key: bool,
    data: &'a [u8],
}

impl Video {
    pub fn new(dialect: Dialect) -> Self {
        Video {
            dialect,
            buffer: BytesMut::new(),
            obu: BytesMut::new(),
            timestamp: None,
            key: false,
            broken: false,
            gap: false,
            arrival: Stamp::ZERO,
        }
    }

    pub fn lost(&mut self) {
        self.gap = true;
    }

    pub fn restart(&mut self) {
        self.clear();
        self.gap = false;
    }

    fn clear(&mut self) {
        self.buffer.clear();
        self.obu.clear();
        (self.timestamp, self.key, self.broken, self.arrival) = (None, false, false, Stamp::ZERO);
    }

    pub fn held_bytes(&self) -> usize {
        self.buffer.len() + self.obu.len()
    }

    pub fn push(&mut self, piece: Piece<'_>, out: &mut Vec<Depacketized>) {
        if self.timestamp.is_some_and(|timestamp| timestamp != piece.timestamp) {
            if self.gap {
                self.break_off(Discard::Incomplete, out);
            }
            self.end(out);
        }
        let is_new = self.timestamp.is_none();
        self.timestamp = Some(piece.timestamp);
        // Packets that came early have waited for the one that came late.
        self.arrival = self.arrival.max(piece.arrival);
        let gap = std::mem::take(&mut self.gap);
        match self.describe(piece.payload) {
            Some(described) if !self.fits(&described, is_new, gap) => self.break_off(Discard::Incomplete, out),
            Some(described) => {
                self.key |= described.begins && described.key;
                if !self.broken && self.append(&described).is_none() {
                    self.break_off(Discard::BrokenFrame, out);
                }
            }
            None => self.break_off(Discard::BrokenFrame, out),
        }
        if piece.marker {
            self.end(out);
        }
    }

    /// Whether nothing is missing in front of this packet. That an OBU begins does not say that a unit begins: behind a gap only the
    /// first packet of a sequence is sure to.
    fn fits(&self, described: &Described<'_>, is_new: bool, gap: bool) -> bool {
        match (is_new, gap) {
            (false, gap) => !gap,
            (true, true) if self.dialect == Dialect::Av1 => described.begins && described.key,
            (true, _) => described.begins,
        }
    }

    fn break_off(&mut self, discard: Discard, out: &mut Vec<Depacketized>) {
        if !std::mem::replace(&mut self.broken, true) {
            out.push(Depacketized::Discarded(discard));
        }
    }

    fn end(&mut self, out: &mut Vec<Depacketized>) {
        if !self.obu.is_empty() {
            self.break_off(Discard::Incomplete, out);
        }
        if let (Some(timestamp), false, false) = (self.timestamp, self.broken, self.buffer.is_empty()) {
            let data = self.buffer.split().freeze();
            out.push(Depacketized::Unit(AccessUnit { data, timestamp, key: self.key, arrival: self.arrival }));
        }
        self.clear();
    }

    fn describe<'a>(&self, payload: &'a [u8]) -> Option<Described<'a>> {
        match self.dialect {
            Dialect::Av1 => {
                let (first, _) = payload.split_first()?;
                Some(Described { begins: first & 0x80 == 0, key: first & 0x08 != 0, data: payload })
            }
            Dialect::Vp8 => vp8(payload),
            Dialect::Vp9 => vp9(payload),
        }
    }

    fn append(&mut self, described: &Described<'_>) -> Option<()> {
        if self.buffer.len() + self.obu.len() + described.data.len() > UNIT_BYTES_MAX {
            return None;
        }
        if self.dialect == Dialect::Av1 {
            return self.append_obus(described.data);
        }
        self.buffer.put_slice(described.data);
        Some(())
    }

    /// The elements of a packet: each behind its length, but for the last if their number is given (§4.4).
    fn append_obus(&mut self, payload: &[u8]) -> Option<()> {
        let (header, mut rest) = payload.split_first()?;
        let (continues, continued, count) = (header & 0x80 != 0, header & 0x40 != 0, usize::from(header >> 4 & 3));
        if continues == self.obu.is_empty() {
            return None;
        }
        let mut at = 0;
        while !rest.is_empty() {
            at += 1;
            let length;
            (length, rest) = if count > 0 && at == count { (rest.len(), rest) } else { obu::take_leb128(rest)? };
            let (element, behind) = rest.split_at_checked(length)?;
            rest = behind;
            let is_whole = !(rest.is_empty() && continued);
            if is_whole && self.obu.is_empty() {
                self.put_obu(element)?;
                continue;
            }
            self.obu.put_slice(element);
            if is_whole {
                let element = self.obu.split();
                self.put_obu(&element)?;
            }
        }
        Some(())
    }

    fn put_obu(&mut self, element: &[u8]) -> Option<()> {
        let (obu, behind) = Obu::take(element)?;
        if obu.kind() != obu::TEMPORAL_DELIMITER {
            obu.write(&mut self.buffer);
        }
        // A sequence header is what decoding begins with, whatever the packet says.
        self.key |= obu.kind() == obu::SEQUENCE_HEADER;
        behind.is_empty().then_some(())
    }
}

/// RFC 7741 §4.2, §4.3.
fn vp8(payload: &[u8]) -> Option<Described<'_>> {
    let (first, mut rest) = payload.split_first()?;
    // S and the partition's number; the bit in between is reserved, and to be ignored.
    let begins = first & 0x10 != 0 && first & 0x07 == 0;
    if first & 0x80 != 0 {
        let (extension, behind) = rest.split_first()?;
        rest = behind;
        if extension & 0x80 != 0 {
            let wide = rest.first()? & 0x80 != 0;
            rest = rest.get(if wide { 2 } else { 1 }..)?;
        }
        // TL0PICIDX; TID and KEYIDX share a byte.
        let more = usize::from(extension & 0x40 != 0) + usize::from(extension & 0x30 != 0);
        rest = rest.get(more..)?;
    }
    let key = rest.first()? & 1 == 0;
    Some(Described { begins, key, data: rest })
}

/// RFC 9628 §4.2.
fn vp9(payload: &[u8]) -> Option<Described<'_>> {
    let (first, mut rest) = payload.split_first()?;
    let flag = |bit: u8| first & bit != 0;
    let (inter, flexible, begins) = (flag(0x40), flag(0x10), flag(0x08));
    if flag(0x80) {
        let wide = rest.first()? & 0x80 != 0;
        rest = rest.get(if wide { 2 } else { 1 }..)?;
    }
    if flag(0x20) {
        rest = rest.get(if flexible { 1 } else { 2 }..)?;
    }
    if inter && flexible {
        // Up to three reference differences, each saying whether another follows.
        for _ in 0..3 {
            let (difference, behind) = rest.split_first()?;
            rest = behind;
            if difference & 1 == 0 {
                break;
            }
        }
    }
    if flag(0x02) {
        rest = skip_scalability(rest)?;
    }
    // ffmpeg never says that a frame is inter-coded; the frame itself does.
    Some(Described { begins, key: !inter && vp9::is_key(rest), data: rest })
}

/// The scalability structure: sizes of the layers, then the pictures of a group.
fn skip_scalability(rest: &[u8]) -> Option<&[u8]> {
    let (header, mut rest) = rest.split_first()?;
    if header & 0x10 != 0 {
        rest = rest.get(4 * (usize::from(header >> 5) + 1)..)?;
    }
    if header & 0x08 != 0 {
        let (pictures, behind) = rest.split_first()?;
        rest = behind;
        for _ in 0..*pictures {
            let (picture, behind) = rest.split_first()?;
            rest = behind.get(usize::from(picture >> 2 & 3)..)?;
        }
    }
    Some(rest)
}
