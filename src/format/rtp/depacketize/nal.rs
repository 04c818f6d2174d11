//! H.264 (RFC 6184: single NAL unit, STAP-A, FU-A) and H.265 (RFC 7798: single, AP, FU, with and without DONL) → access units.
//!
//! **Where a unit ends.** As a rule at the marker bit. A sender may never set it, or set it on each of a picture's slices; both show:
//!
//! | state | a unit ends | leaves it when |
//! |---|---|---|
//! | `Marker` | at a marker behind a slice, or when the timestamp changes | eight units in a row had no marker; or a slice follows a marker inside its picture |
//! | `Timestamp` | when the timestamp changes or a picture begins | the last eight units had the same number of slices |
//! | `Slices(n)` | as soon as the n-th slice is complete | another slice of the same picture comes: it is left out, and learning begins anew |
//!
//! So a sender without markers costs a frame of delay only until it is known. The packetizations for interleaved mode (STAP-B, MTAP, FU-B)
//! are left out and counted. Parameter sets go into `Track::config`, delimiters and types that mean a packet in RTP nowhere; none of
//! them stand in the units.

use bytes::{BufMut, Bytes, BytesMut};

use super::parameter_sets::{ParameterSets, SetKind};
use super::{AccessUnit, Depacketized, Piece, UNIT_BYTES_MAX};
use crate::format::rtp::nal_packets::{FU_END, FU_START, H264_FU_A, H264_STAP_A, H265_AP, H265_FU};
use crate::media::nal::{annex_b_units, has_recovery_point, starts_with_start_code};
use crate::media::{Discard, h264, h265};

const LENGTH_BYTES: usize = 4;
/// Units in a row that show a sender's habit.
const HABIT: u32 = 8;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    H264,
    H265 { donl: bool },
}

/// What a NAL unit is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Slice {
        key: bool,
    },
    Set(SetKind),
    /// A delimiter, or of a type that means a packet in RTP.
    LeftOut,
    /// A sei message that says: decoding may begin here.
    RecoveryPoint,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Marker,
    Timestamp,
    Slices(u32),
}

pub struct NalUnits {
    dialect: Dialect,
    sets: ParameterSets,
    /// The record that is known from outside has not been given out yet.
    record_due: bool,
    unit: Unit,
    buffer: BytesMut,
    /// Packets are missing before the next one.
    gap: bool,
    /// Timestamp of the unit that was given out or given up last.
    ended: Option<i64>,
    ending: Ending,
    /// Units in a row that ended without a marker.
    unmarked: u32,
    /// Slices of the last unit, and how many units in a row had as many.
    habit: (u32, u32),
}

/// The unit in progress.
#[derive(Default)]
struct Unit {
    timestamp: Option<i64>,
    slices: u32,
    key: bool,
    /// Something is missing or wrong; it is counted already, and the rest of the unit is passed over.
    broken: bool,
    /// Where the NAL unit in fragments starts.
    fragment: Option<usize>,
    arrival: crate::media::Stamp,
}

impl NalUnits {
    pub fn new(dialect: Dialect, config: &Bytes) -> Self {
        let sets = ParameterSets::new(dialect == Dialect::H264, config);
        NalUnits {
            dialect,
            record_due: !sets.record().is_empty(),
            sets,
            unit: Unit::default(),
            buffer: BytesMut::new(),
            gap: false,
            ended: None,
            ending: Ending::Marker,
            unmarked: 0,
            habit: (0, 0),
        }
    }

    pub fn lost(&mut self) {
        self.gap = true;
    }

    pub fn restart(&mut self) {
        self.clear_unit();
        (self.gap, self.ended) = (false, None);
        (self.ending, self.unmarked, self.habit) = (Ending::Marker, 0, (0, 0));
    }

    pub fn held_bytes(&self) -> usize {
        self.buffer.len()
    }

    pub fn push(&mut self, piece: Piece<'_>, out: &mut Vec<Depacketized>) {
        if std::mem::take(&mut self.record_due) {
            out.push(Depacketized::Config(self.sets.record().clone()));
        }
        if self.unit.timestamp != Some(piece.timestamp) {
            self.end_by_timestamp(out);
            self.unit.timestamp = Some(piece.timestamp);
        } else if std::mem::take(&mut self.gap) {
            self.break_unit(Discard::Incomplete, out);
        }
        // Packets that came early have waited for the one that came late.
        self.unit.arrival = self.unit.arrival.max(piece.arrival);
        self.payload(piece, out);
        if self.unit.broken && piece.marker {
            return self.end(out);
        }
        if self.unit.slices == 0 || self.unit.fragment.is_some() {
            return;
        }
        match self.ending {
            Ending::Marker if piece.marker => {
                self.unmarked = 0;
                self.end(out);
            }
            Ending::Slices(count) if self.unit.slices >= count => self.end(out),
            _ => {}
        }
    }

    fn end_by_timestamp(&mut self, out: &mut Vec<Depacketized>) {
        if self.unit.timestamp.is_some() && (self.unit.slices > 0 || self.unit.broken || self.unit.fragment.is_some()) {
            if self.gap || self.unit.fragment.is_some() {
                // What is missing may be the rest of this unit.
                self.break_unit(Discard::Incomplete, out);
            }
            if self.ending == Ending::Marker && !self.unit.broken {
                self.unmarked += 1;
                if self.unmarked >= HABIT {
                    self.set_ending(Ending::Timestamp);
                }
            }
            self.end(out);
        } else {
            // Nothing but what stands in front of slices: of no use without them.
            self.clear_unit();
        }
    }

    /// Gives the unit out, unless it is broken.
    fn end(&mut self, out: &mut Vec<Depacketized>) {
        let Some(timestamp) = self.unit.timestamp else { return };
        if !self.unit.broken && self.unit.slices > 0 {
            self.learn(self.unit.slices);
            if self.sets.take_effect() {
                out.push(Depacketized::Config(self.sets.record().clone()));
            }
            let data = self.buffer.split().freeze();
            let Unit { key, arrival, .. } = self.unit;
            out.push(Depacketized::Unit(AccessUnit { data, timestamp, key, arrival }));
        }
        self.ended = Some(timestamp);
        self.clear_unit();
    }

    fn clear_unit(&mut self) {
        self.unit = Unit::default();
        self.buffer.clear();
    }

    fn break_unit(&mut self, discard: Discard, out: &mut Vec<Depacketized>) {
        if !std::mem::replace(&mut self.unit.broken, true) {
            out.push(Depacketized::Discarded(discard));
        }
        self.unit.fragment = None;
        self.buffer.clear();
    }

    fn set_ending(&mut self, ending: Ending) {
        (self.ending, self.habit) = (ending, (0, 0));
    }

    /// Notes how many slices a sender without markers gives its pictures.
    fn learn(&mut self, slices: u32) {
        if self.ending != Ending::Timestamp {
            return;
        }
        self.habit = if self.habit.0 == slices { (slices, self.habit.1 + 1) } else { (slices, 1) };
        if self.habit.1 >= HABIT {
            self.ending = Ending::Slices(slices);
        }
    }

    fn payload(&mut self, piece: Piece<'_>, out: &mut Vec<Depacketized>) {
        let payload = piece.payload;
        if starts_with_start_code(payload) {
            // No NAL unit begins like that: a camera has left its own framing inside.
            return annex_b_units(payload).for_each(|nal| self.whole(nal, out));
        }
        let Some(first) = payload.first() else { return };
        match self.dialect {
            Dialect::H264 => match h264::nal_type(*first) {
                1..H264_STAP_A => self.whole(payload, out),
                H264_STAP_A => self.aggregate(&payload[1..], false, out),
                H264_FU_A => self.h264_fragment(payload, out),
                // Reserved, and to be ignored (RFC 6184 §5.4).
                0 | 30.. => {}
                _ => self.refuse(out),
            },
            Dialect::H265 { donl } => match h265::nal_type(*first) {
                H265_AP if payload.len() > 2 => self.aggregate(&payload[2..], donl, out),
                H265_FU => self.h265_fragment(payload, donl, out),
                // PACI (§4.4.4) wraps hints that may be ignored, but also the unit: nobody sends it.
                50.. => self.refuse(out),
                _ if donl && payload.len() > 4 => self.nal(&payload[..2], &payload[4..], out),
                _ => self.whole(payload, out),
            },
        }
    }

    fn refuse(&mut self, out: &mut Vec<Depacketized>) {
        if self.begins_cleanly(true, out) {
            self.break_unit(Discard::BrokenFrame, out);
        }
    }

    /// STAP-A and AP: 16-bit sizes and NAL units; with `donl` a decoding order number of two bytes first, of one between (RFC 7798 §4.4.2).
    fn aggregate(&mut self, units: &[u8], donl: bool, out: &mut Vec<Depacketized>) {
        let mut rest = if donl { units.get(2..).unwrap_or_default() } else { units };
        while !rest.is_empty() {
            let Some((nal, behind)) = take_sized(rest) else {
                return self.break_unit(Discard::BrokenFrame, out);
            };
            self.whole(nal, out);
            rest = if donl { behind.get(1..).unwrap_or_default() } else { behind };
        }
    }

    fn h264_fragment(&mut self, payload: &[u8], out: &mut Vec<Depacketized>) {
        let [indicator, fu, body @ ..] = payload else { return self.refuse(out) };
        let header = [(indicator & 0xE0) | h264::nal_type(*fu)];
        self.fragment(&header, *fu, body, out);
    }

    fn h265_fragment(&mut self, payload: &[u8], donl: bool, out: &mut Vec<Depacketized>) {
        let [first, second, fu, body @ ..] = payload else { return self.refuse(out) };
        let header = [(first & 0x81) | (fu & 0x3F) << 1, *second];
        let body = if donl && fu & FU_START != 0 { body.get(2..).unwrap_or_default() } else { body };
        self.fragment(&header, *fu, body, out);
    }

    /// `fu`: start bit, end bit, type.
    fn fragment(&mut self, header: &[u8], fu: u8, body: &[u8], out: &mut Vec<Depacketized>) {
        let (start, end) = (fu & FU_START != 0, fu & FU_END != 0);
        if start {
            if !self.begin_nal(header, body, out) {
                return;
            }
        } else if !self.begins_cleanly(false, out) {
            return;
        }
        let Some(at) = self.unit.fragment else { return };
        if !self.append(body, out) {
            return;
        }
        if end {
            self.unit.fragment = None;
            self.close_nal(at, out);
        }
    }

    fn whole(&mut self, nal: &[u8], out: &mut Vec<Depacketized>) {
        let header_bytes = self.header_bytes();
        if let Some((header, body)) = nal.split_at_checked(header_bytes) {
            self.nal(header, body, out);
        }
    }

    fn nal(&mut self, header: &[u8], body: &[u8], out: &mut Vec<Depacketized>) {
        if self.begin_nal(header, body, out)
            && self.append(body, out)
            && let Some(at) = self.unit.fragment.take()
        {
            self.close_nal(at, out);
        }
    }

    /// Opens a NAL unit in the buffer; `false`: it is passed over.
    fn begin_nal(&mut self, header: &[u8], body: &[u8], out: &mut Vec<Depacketized>) -> bool {
        let class = self.class(header, body);
        let is_slice = matches!(class, Class::Slice { .. });
        let first_slice = is_slice && self.is_first_slice(body);
        if !self.begins_cleanly(first_slice || !is_slice, out) {
            return false;
        }
        if self.unit.fragment.is_some() {
            // The end of the last one never came.
            self.break_unit(Discard::Incomplete, out);
            return false;
        }
        let timestamp = self.unit.timestamp;
        if is_slice && !first_slice && self.unit.slices == 0 && self.ended == timestamp {
            return self.stray(out);
        }
        if first_slice && self.unit.slices > 0 && self.ending != Ending::Marker {
            // A picture behind a picture with the same timestamp.
            let arrival = self.unit.arrival;
            self.end(out);
            (self.unit.timestamp, self.unit.arrival) = (timestamp, arrival);
        }
        self.unit.fragment = Some(self.buffer.len());
        self.buffer.put_u32(0);
        self.buffer.put_slice(header);
        true
    }

    /// A slice of a picture that has been given out: it ended elsewhere than was thought. Always `false`.
    fn stray(&mut self, out: &mut Vec<Depacketized>) -> bool {
        self.break_unit(Discard::BrokenFrame, out);
        self.unmarked = 0;
        self.set_ending(Ending::Timestamp);
        false
    }

    /// Behind a gap a unit is whole only if it is seen to begin: with anything in front of its slices or with its first slice.
    /// `false`: the unit is broken, and what comes of it is passed over.
    fn begins_cleanly(&mut self, is_beginning: bool, out: &mut Vec<Depacketized>) -> bool {
        let fresh = self.unit.slices == 0 && self.unit.fragment.is_none() && self.buffer.is_empty();
        if std::mem::take(&mut self.gap) && !(fresh && is_beginning && self.ended != self.unit.timestamp) {
            self.break_unit(Discard::Incomplete, out);
        } else if !is_beginning && self.unit.fragment.is_none() && fresh && !self.unit.broken && self.ended != self.unit.timestamp
        {
            // It begins in its middle although nothing is missing: the first thing that was ever received of it.
            self.break_unit(Discard::Incomplete, out);
        }
        !self.unit.broken
    }

    fn append(&mut self, body: &[u8], out: &mut Vec<Depacketized>) -> bool {
        if self.buffer.len() + body.len() > UNIT_BYTES_MAX {
            self.break_unit(Discard::BrokenFrame, out);
            return false;
        }
        self.buffer.put_slice(body);
        true
    }

    /// A NAL unit is whole: it stays in the unit, or goes where it belongs.
    fn close_nal(&mut self, at: usize, out: &mut Vec<Depacketized>) {
        let length = self.buffer.len() - at - LENGTH_BYTES;
        let header_bytes = self.header_bytes();
        let nal = &self.buffer[at + LENGTH_BYTES..];
        let class = self.class(&nal[..header_bytes], &nal[header_bytes..]);
        match class {
            Class::Set(kind) => {
                if self.sets.add(kind, nal).is_err() {
                    out.push(Depacketized::Discarded(Discard::BrokenFrame));
                }
                self.buffer.truncate(at);
            }
            Class::LeftOut => self.buffer.truncate(at),
            Class::Slice { key } => {
                self.unit.slices += 1;
                self.unit.key |= key;
                self.set_length(at, length);
            }
            Class::RecoveryPoint => {
                self.unit.key = true;
                self.set_length(at, length);
            }
            Class::Other => self.set_length(at, length),
        }
    }

    fn set_length(&mut self, at: usize, length: usize) {
        self.buffer[at..at + LENGTH_BYTES].copy_from_slice(&(length as u32).to_be_bytes());
    }

    fn header_bytes(&self) -> usize {
        if self.dialect == Dialect::H264 { 1 } else { 2 }
    }

    fn class(&self, header: &[u8], body: &[u8]) -> Class {
        match self.dialect {
            Dialect::H264 => match h264::nal_type(header[0]) {
                kind @ 1..=h264::NAL_IDR => Class::Slice { key: kind == h264::NAL_IDR },
                h264::NAL_SEI if has_recovery_point(body) => Class::RecoveryPoint,
                h264::NAL_SPS => Class::Set(SetKind::Sps),
                h264::NAL_PPS => Class::Set(SetKind::Pps),
                h264::NAL_AUD | 0 | H264_STAP_A.. => Class::LeftOut,
                _ => Class::Other,
            },
            Dialect::H265 { .. } => match h265::nal_type(header[0]) {
                kind @ 0..=31 => Class::Slice { key: (16..=21).contains(&kind) },
                h265::NAL_VPS => Class::Set(SetKind::Vps),
                h265::NAL_SPS => Class::Set(SetKind::Sps),
                h265::NAL_PPS => Class::Set(SetKind::Pps),
                h265::NAL_PREFIX_SEI if has_recovery_point(body) => Class::RecoveryPoint,
                h265::NAL_AUD | H265_AP.. => Class::LeftOut,
                _ => Class::Other,
            },
        }
    }

    /// `first_mb_in_slice` zero, `first_slice_segment_in_pic_flag`: in both the first bit of the slice header.
    fn is_first_slice(&self, body: &[u8]) -> bool {
        body.first().is_some_and(|byte| byte & 0x80 != 0)
    }
}

fn take_sized(units: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = units.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*size)))
}
