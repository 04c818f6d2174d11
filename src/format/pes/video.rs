//! The payload of a picture's PES packets → access units: H.264 and H.265 in Annex B, cut anywhere.
//!
//! NAL units are found by their start codes; the depacketizer of RTP makes units of them, to which each is a packet. A unit ends when the
//! sender says so, else where the next begins (H.264 §7.4.1.2.3, H.265 §7.4.2.4.4). Its time is that of the first PES packet in which it
//! begins and in which no other has begun before; a unit without one comes a frame interval behind the last. The parameter sets tell the
//! codec, whatever the sender says. The two fields of a frame are one unit where nothing stands between them. Limits: [`UNIT_BYTES_MAX`] for
//! all that is not complete. Not here: PES packets; presentation times of B pictures that begin in another's packet: they have those of
//! their decoding.

use bytes::{Buf, Bytes, BytesMut};

use crate::format::rtp::depacketize::{AccessUnit, Depacketized, Depacketizer, Piece, UNIT_BYTES_MAX};
use crate::format::rtp::payload::VIDEO_CLOCK_RATE;
use crate::format::rtp::{PayloadForm, RtpPayload};
use crate::media::h264::{self, AvcConfig, FIELD_BYTES, Field, FieldCoding};
use crate::media::h265::{self, HevcConfig};
use crate::media::nal::start_code;
use crate::media::{Codec, Discard, Stamp, TrackShape};

const INTERVAL_MICROS: i64 = 40_000;
/// Between units whose clock stands still.
const STEP_MICROS: i64 = 1_000;
/// How far RTP's clock may be behind half of what passes, and ahead of twice that: packets come unevenly.
const LATE_MICROS: i64 = 30_000;
const EARLY_MICROS: i64 = 1_000_000;
/// A longer interval is not one of frames.
const INTERVAL_MICROS_MAX: i64 = 500_000;
/// A picture without a time is taken to come a frame interval behind the last one, unless clocks say that it is further off than this.
const ALONE_OFF_MICROS_MAX: i64 = 500_000;

/// Presentation and decoding time in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    pub pts: i64,
    pub dts: i64,
}

#[derive(Debug, PartialEq)]
pub enum Picture {
    /// How the units that follow are set up, in order with them; `None`: that is not known yet.
    Setup(Option<Setup>),
    Unit {
        unit: AccessUnit,
        times: Times,
    },
    Discarded(Discard),
    /// Packets are missing here.
    Lost,
}

/// Codec, decoder configuration record and size.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    pub codec: Codec,
    pub config: Bytes,
    pub shape: TrackShape,
}

/// When a PES packet came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    /// By the clock of RTP, in microseconds.
    pub rtp: Option<i64>,
    pub arrival: Stamp,
}

/// Where a NAL unit began.
#[derive(Clone, Copy, Debug, Default)]
struct Origin {
    /// Counts the PES packets.
    packet: u64,
    times: Option<Times>,
    /// It is the first thing in its packet.
    at_front: bool,
    moment: Moment,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Slice {
        first: bool,
    },
    /// Stands in front of the slices of its unit.
    Front,
    Other,
    LeftOut,
}

pub struct Video {
    pub codec: Option<Codec>,
    shape: TrackShape,
    depacketizer: Option<Depacketizer>,
    /// The NAL unit under way, without its start code; before the first one, what may be the beginning of a start code.
    nal: BytesMut,
    is_open: bool,
    /// It has been looked at whether the unit before it is over.
    is_seen: bool,
    origin: Origin,
    packet: Origin,
    packet_bytes: usize,
    /// The PES packet whose time has been used.
    used_packet: u64,
    /// The unit under way, and how many slices it has.
    unit: Option<Times>,
    slices: u32,
    /// Of a stream that may have fields; and the first of the two of the unit under way.
    fields: Option<FieldCoding>,
    first_field: Option<Field>,
    last: Option<Times>,
    interval_micros: i64,
    /// The last unit that said its time, or the first; and when it came.
    anchor: Option<(i64, Moment)>,
    is_rtp_useless: bool,
    /// Units in a row that begin in a packet without a time.
    untimed: u32,
    /// Units in a row of which only the next one told that they had ended.
    pub unmarked: u32,
    /// A unit was said to be over, and nothing has come since.
    is_over: bool,
    /// The rest of a unit that was said to be over is broken; else the depacketizer, which makes no difference of ends, puts it right.
    leaves_rest_out: bool,
    /// Such a rest comes.
    passes_rest: bool,
    /// Behind the end of a unit its rest has come. `true`: the sender had said that it was over.
    pub was_cut: Option<bool>,
    /// The PES packet at hand has shown whether it goes on with the NAL unit of the one before; and does.
    front_seen: bool,
    goes_on: bool,
    /// How many slices units have, all of them so far and so many; `None`: they differ.
    slices_of_all: Option<u32>,
    units: u32,
    /// The unit under way has come from its first slice on.
    from_front: bool,
    /// A PES packet has begun with a slice, or a field, that was not the first of its unit.
    pub slices_apart: bool,
    /// A unit has begun inside a PES packet: their ends say nothing.
    pub begins_inside: bool,
    arrival: Stamp,
    began: Option<Stamp>,
    pieces: Vec<Depacketized>,
}

const UNKNOWN: TrackShape = TrackShape::Video { width: 0, height: 0, frames_per_second: 0.0 };

impl Default for Video {
    fn default() -> Self {
        Video::new()
    }
}

impl Video {
    pub fn new() -> Self {
        Video {
            codec: None,
            shape: UNKNOWN,
            depacketizer: None,
            nal: BytesMut::new(),
            is_open: false,
            is_seen: false,
            origin: Origin::default(),
            packet: Origin::default(),
            packet_bytes: 0,
            used_packet: 0,
            unit: None,
            slices: 0,
            fields: None,
            first_field: None,
            last: None,
            interval_micros: INTERVAL_MICROS,
            anchor: None,
            is_rtp_useless: false,
            untimed: 0,
            unmarked: 0,
            is_over: false,
            leaves_rest_out: false,
            passes_rest: false,
            was_cut: None,
            front_seen: false,
            goes_on: false,
            slices_of_all: Some(0),
            units: 0,
            from_front: false,
            slices_apart: false,
            begins_inside: false,
            arrival: Stamp::ZERO,
            began: None,
            pieces: Vec::new(),
        }
    }

    /// As [`Video::new`], for who learns of [`Video::was_cut`] where units end: what is not of a whole unit is left out.
    pub fn leaving_rests_out() -> Self {
        Video { leaves_rest_out: true, ..Video::new() }
    }

    /// What the sender says; the parameter sets may say otherwise.
    pub fn declare(&mut self, codec: Codec) {
        if self.codec.is_none() {
            self.set_codec(codec);
        }
    }

    fn set_codec(&mut self, codec: Codec) {
        let form = if codec == Codec::H265 { PayloadForm::H265 { donl: false } } else { PayloadForm::H264 };
        let payload =
            RtpPayload { payload_type: 96, clock_rate: VIDEO_CLOCK_RATE, codec, form, channels: 0, config: Bytes::new() };
        self.depacketizer = Some(Depacketizer::new(&payload));
        (self.codec, self.shape) = (Some(codec), UNKNOWN);
        (self.unit, self.slices, self.fields) = (None, 0, None);
    }

    pub fn held_bytes(&self) -> usize {
        self.nal.len() + self.depacketizer.as_ref().map_or(0, Depacketizer::held_bytes)
    }

    /// Bytes are missing.
    pub fn lost(&mut self, out: &mut Vec<Picture>) {
        self.nal.clear();
        (self.is_open, self.is_over, self.unit, self.slices) = (false, false, None, 0);
        (self.from_front, self.passes_rest) = (false, false);
        if let Some(depacketizer) = &mut self.depacketizer {
            depacketizer.lost(&mut self.pieces);
        }
        self.settle(out);
    }

    /// A PES packet begins.
    pub fn begin(&mut self, times: Option<Times>, moment: Moment) {
        self.packet = Origin { packet: self.packet.packet + 1, times, at_front: false, moment };
        self.packet_bytes = 0;
        (self.front_seen, self.goes_on) = (false, false);
    }

    pub fn payload(&mut self, now: Stamp, bytes: &[u8], out: &mut Vec<Picture>) {
        self.began.get_or_insert(now);
        self.arrival = now;
        let held = self.nal.len();
        if held + bytes.len() + self.depacketizer.as_ref().map_or(0, Depacketizer::held_bytes) > UNIT_BYTES_MAX {
            self.lost(out);
            return out.push(Picture::Discarded(Discard::BrokenFrame));
        }
        // Where the packet's payload begins in the buffer, as far as it is still there.
        let mut front = held as i64 - self.packet_bytes as i64;
        self.packet_bytes += bytes.len();
        self.nal.extend_from_slice(bytes);
        let mut from = held.saturating_sub(2);
        while let Some(at) = start_code(&self.nal, from) {
            let at_front = matches!(at as i64 - front, 0 | 1);
            self.goes_on |= !std::mem::replace(&mut self.front_seen, true) && self.is_open && !at_front;
            if self.is_open {
                self.close_nal(at, out);
            } else {
                // What stands there had been taken for the end, or is the end of what was missed.
                self.note_cut(at, out);
            }
            self.nal.advance(at + 3);
            front -= at as i64 + 3;
            from = 0;
            (self.is_open, self.is_seen, self.origin) = (true, false, Origin { at_front, ..self.packet });
        }
        self.look(out);
        if !self.is_open && self.nal.len() > 2 {
            let passed = self.nal.len() - 2;
            self.note_cut(passed, out);
            self.nal.advance(passed);
        }
    }

    /// The unit before the NAL unit under way is over if this one begins another: known from its first bytes.
    fn look(&mut self, out: &mut Vec<Picture>) {
        let enough_bytes = if self.fields.is_some() { FIELD_BYTES } else { 3 };
        if !self.is_open || self.is_seen || self.nal.len() < enough_bytes {
            return;
        }
        self.is_seen = true;
        let kind = self.codec.map(|codec| kind(codec, &self.nal[..enough_bytes]));
        if let Some(kind) = kind {
            self.note_slice(kind, enough_bytes, out);
        }
        let is_next = matches!(kind, Some(Kind::Front | Kind::Slice { first: true }));
        if self.slices > 0 && is_next && !self.is_second_field(&self.nal[..enough_bytes]) {
            self.unmarked += 1;
            self.end_unit(out);
        }
    }

    /// Whether a slice belongs to the other field of the picture under way. Nothing may stand between the two.
    fn is_second_field(&self, nal: &[u8]) -> bool {
        let field = self.field(nal);
        self.slices > 0 && self.first_field.zip(field).is_some_and(|(first, second)| first.is_paired_with(&second))
    }

    fn field(&self, nal: &[u8]) -> Option<Field> {
        let is_slice = nal.first().is_some_and(|header| matches!(h264::nal_type(*header), 1 | 2 | 5));
        self.fields.filter(|_| is_slice).and_then(|fields| fields.field(nal))
    }

    /// A slice that is not the first of its unit, or the second field of one, behind what had been taken for the end.
    fn note_slice(&mut self, kind: Kind, bytes: usize, out: &mut Vec<Picture>) {
        let is_slice = matches!(kind, Kind::Slice { .. });
        if self.is_over && is_slice && !self.begins_after_all(kind, &self.nal[..bytes]) {
            self.slices_apart |= self.origin.at_front;
            self.note_rest(out);
        }
    }

    /// Whether a slice behind the end of a unit is not of that unit.
    fn begins_after_all(&self, kind: Kind, nal: &[u8]) -> bool {
        let is_pair = self.first_field.zip(self.field(nal)).is_some_and(|(first, second)| first.is_paired_with(&second));
        kind == (Kind::Slice { first: true }) && !is_pair
    }

    /// So many bytes in front belong to nothing.
    fn note_cut(&mut self, bytes: usize, out: &mut Vec<Picture>) {
        if self.nal[..bytes].iter().any(|byte| *byte != 0) {
            self.note_rest(out);
        }
    }

    /// What comes now is the rest of a unit that was said to be over, if one was.
    fn note_rest(&mut self, out: &mut Vec<Picture>) {
        if std::mem::take(&mut self.is_over) {
            self.was_cut.get_or_insert(self.unmarked == 0);
            if self.leaves_rest_out {
                self.passes_rest = true;
                out.push(Picture::Discarded(Discard::BrokenFrame));
            }
        }
    }

    /// The packet is over; says whether it went on with the NAL unit of the one before.
    pub fn goes_on(&self) -> bool {
        self.goes_on || !self.front_seen && self.is_open
    }

    /// Whether the unit under way has slices: as many as every one before it, of which there are so many at least.
    pub fn has_all_slices(&self, units: u32) -> bool {
        let is_open_slice = self.is_open && self.codec.is_some_and(|codec| matches!(kind(codec, &self.nal), Kind::Slice { .. }));
        self.units >= units && self.slices_of_all == Some(self.slices + u32::from(is_open_slice))
    }

    /// Whether something of a picture has come, so that it can end.
    pub fn has_slices(&self) -> bool {
        self.slices > 0 || self.is_open && self.codec.is_some_and(|codec| matches!(kind(codec, &self.nal), Kind::Slice { .. }))
    }

    /// The unit under way is whole.
    pub fn end(&mut self, out: &mut Vec<Picture>) {
        if self.is_open {
            self.close_nal(self.nal.len(), out);
        }
        self.nal.clear();
        self.is_open = false;
        if self.slices > 0 {
            (self.unmarked, self.is_over) = (0, true);
            self.end_unit(out);
        }
    }

    fn end_unit(&mut self, out: &mut Vec<Picture>) {
        if let Some(Times { pts, .. }) = self.unit.take() {
            self.piece(&[], pts, true, out);
        }
        if std::mem::take(&mut self.from_front) && self.slices > 0 {
            let is_same = self.units == 0 || self.slices_of_all == Some(self.slices);
            self.slices_of_all = is_same.then_some(self.slices);
            self.units = self.units.saturating_add(1);
        }
        self.slices = 0;
    }

    /// A NAL unit, the first bytes of the buffer, is whole.
    fn close_nal(&mut self, bytes: usize, out: &mut Vec<Picture>) {
        let zeros = self.nal[..bytes].iter().rev().take_while(|byte| **byte == 0).count();
        if bytes == zeros {
            return;
        }
        let nal = self.nal.split_to(bytes - zeros);
        self.nal(&nal, out);
        // The caller drops what stood in front of the next start code.
        self.nal = join(nal, std::mem::take(&mut self.nal));
    }

    fn nal(&mut self, nal: &[u8], out: &mut Vec<Picture>) {
        if let Some(codec) = codec_of(nal)
            && self.codec != Some(codec)
        {
            self.end_unit(out);
            self.set_codec(codec);
            out.push(Picture::Setup(None));
        }
        let Some(codec) = self.codec else { return };
        if codec == Codec::H264 && nal.first().is_some_and(|header| h264::nal_type(*header) == h264::NAL_SPS) {
            self.fields = h264::Sps::parse(nal).and_then(|sps| sps.fields);
        }
        let kind = kind(codec, nal);
        let is_second_field = self.is_second_field(nal);
        self.slices_apart |= is_second_field && self.origin.at_front;
        let is_rest = self.passes_rest && matches!(kind, Kind::Slice { .. }) && !self.begins_after_all(kind, nal);
        let begins = match kind {
            Kind::LeftOut => return,
            _ if is_rest => return,
            Kind::Other if self.unit.is_none() => return,
            Kind::Other => false,
            Kind::Front => self.unit.is_none() || self.slices > 0,
            Kind::Slice { first: true } if is_second_field => false,
            Kind::Slice { first: true } => self.unit.is_none() || self.slices > 0 || self.is_timed_anew(),
            Kind::Slice { first: false } => {
                self.slices_apart |= self.origin.at_front && self.slices > 0;
                if self.unit.is_none() {
                    self.unit = self.last;
                }
                false
            }
        };
        if begins {
            self.begin_unit(out);
        }
        if kind == (Kind::Slice { first: true }) {
            self.first_field = if is_second_field { None } else { self.field(nal) };
        }
        self.slices += u32::from(matches!(kind, Kind::Slice { .. }));
        if let Some(Times { pts, .. }) = self.unit {
            self.piece(nal, pts, false, out);
        }
    }

    /// What stands in front of the slices had another time, or none of its own.
    fn is_timed_anew(&self) -> bool {
        let Origin { packet, times, .. } = self.origin;
        packet != self.used_packet && times.is_some() && times != self.unit
    }

    fn begin_unit(&mut self, out: &mut Vec<Picture>) {
        if self.slices > 0 {
            self.unmarked += 1;
        }
        (self.is_over, self.passes_rest) = (false, false);
        self.end_unit(out);
        self.from_front = true;
        let Origin { packet, times, at_front, moment } = self.origin;
        self.begins_inside |= !at_front;
        let own = times.filter(|_| packet != self.used_packet);
        let times = own.unwrap_or_else(|| self.guess(packet, moment));
        self.untimed = if own.is_some() { 0 } else { self.untimed + u32::from(packet != self.used_packet) };
        if let Some(last) = self.last
            && own.is_some()
            && !self.has_frame_rate()
            && (1..=INTERVAL_MICROS_MAX).contains(&(times.dts - last.dts))
        {
            self.interval_micros = times.dts - last.dts;
        }
        if own.is_some() || self.last.is_none() {
            self.anchor = Some((times.dts, moment));
        }
        self.used_packet = packet;
        (self.unit, self.last) = (Some(times), Some(times));
    }

    fn has_frame_rate(&self) -> bool {
        matches!(self.shape, TrackShape::Video { frames_per_second, .. } if frames_per_second > 0.0)
    }

    /// The time of a unit that says none: behind the last one by what RTP's clock says, or what has passed; where it shares a packet with
    /// the last one, by a frame interval.
    fn guess(&mut self, packet: u64, moment: Moment) -> Times {
        let time = match self.last {
            Some(last) if packet == self.used_packet => last.dts + self.interval_micros,
            Some(last) => {
                let next = last.dts + self.interval_micros;
                let time = self.by_clock(moment).unwrap_or(next);
                // One alone, whose start code is in two packets for example: clocks are no better, because large pictures take their time.
                let is_alone = self.untimed == 0 && (time - next).abs() <= ALONE_OFF_MICROS_MAX;
                if is_alone { next } else { time.max(last.dts + STEP_MICROS) }
            }
            None => self.began.map_or(0, |began| self.arrival.since(began).as_micros() as i64),
        };
        Times { pts: time, dts: time }
    }

    /// The time by RTP's clock if that keeps step with what passes, else by what passes, since a unit that said its own.
    fn by_clock(&mut self, moment: Moment) -> Option<i64> {
        let (dts, anchor) = self.anchor?;
        let passed = moment.arrival.since(anchor.arrival).as_micros() as i64;
        let by_rtp = moment.rtp.zip(anchor.rtp).map(|(now, then)| now - then);
        // Some clocks stand still, or count milliseconds or samples.
        let keeps_step = |by_rtp: &i64| (passed / 2 - LATE_MICROS..=2 * passed + EARLY_MICROS).contains(by_rtp) && *by_rtp > 0;
        let by_rtp = by_rtp.filter(|by_rtp| !self.is_rtp_useless && keeps_step(by_rtp));
        self.is_rtp_useless |= by_rtp.is_none();
        Some(dts + by_rtp.unwrap_or(passed))
    }

    fn piece(&mut self, payload: &[u8], timestamp: i64, marker: bool, out: &mut Vec<Picture>) {
        if let Some(depacketizer) = &mut self.depacketizer {
            depacketizer.push(Piece { payload, timestamp, marker, arrival: self.arrival }, &mut self.pieces);
        }
        // The unit that comes out is the one under way, or the one that ended just now: both have been the last.
        self.settle(out);
    }

    fn settle(&mut self, out: &mut Vec<Picture>) {
        for piece in std::mem::take(&mut self.pieces) {
            match piece {
                Depacketized::Config(config) => self.set_config(config, out),
                Depacketized::Unit(unit) => {
                    let times = self.last.filter(|times| times.pts == unit.timestamp);
                    let times = times.unwrap_or(Times { pts: unit.timestamp, dts: unit.timestamp });
                    out.push(Picture::Unit { unit, times });
                }
                Depacketized::Discarded(discard) => out.push(Picture::Discarded(discard)),
                Depacketized::Lost => out.push(Picture::Lost),
            }
        }
    }

    fn set_config(&mut self, config: Bytes, out: &mut Vec<Picture>) {
        let shape = match self.codec {
            Some(Codec::H265) => HevcConfig::parse(&config).map(|config| config.shape()),
            _ => AvcConfig::parse(&config).map(|config| config.shape()),
        };
        self.shape = shape.unwrap_or(UNKNOWN);
        out.push(Picture::Setup(self.codec.map(|codec| Setup { codec, config, shape: self.shape })));
        if let TrackShape::Video { frames_per_second, .. } = self.shape
            && frames_per_second > 0.0
        {
            self.interval_micros = ((1e6 / frames_per_second) as i64).min(INTERVAL_MICROS_MAX);
        }
    }
}

/// Puts neighbours in memory together again, without a copy.
fn join(mut front: BytesMut, behind: BytesMut) -> BytesMut {
    front.unsplit(behind);
    front
}

/// The codec that a NAL unit can be of alone: a sequence parameter set that can be read, or a video parameter set.
fn codec_of(nal: &[u8]) -> Option<Codec> {
    match nal {
        [0x27 | 0x47 | 0x67, ..] if h264::Sps::parse(nal).is_some() => Some(Codec::H264),
        [0x42, 0x01, ..] if h265::Sps::parse(nal).is_some() => Some(Codec::H265),
        // Its second field: reserved bits that are all ones (§7.3.2.1).
        [0x40, 0x01, _, _, 0xFF, 0xFF, ..] => Some(Codec::H265),
        _ => None,
    }
}

fn kind(codec: Codec, nal: &[u8]) -> Kind {
    let Some(header) = nal.first() else { return Kind::LeftOut };
    let begins = |at: usize| nal.get(at).is_some_and(|byte| byte & 0x80 != 0);
    if codec == Codec::H265 {
        return match h265::nal_type(*header) {
            _ if nal.len() < 3 => Kind::LeftOut,
            0..=31 => Kind::Slice { first: begins(2) },
            32..=35 | 39 | 41..=44 => Kind::Front,
            36..=40 | 45..=47 => Kind::Other,
            _ => Kind::LeftOut,
        };
    }
    match h264::nal_type(*header) {
        1..=5 => Kind::Slice { first: begins(1) },
        6..=9 | 14 | 15 => Kind::Front,
        10..=13 | 16..=23 => Kind::Other,
        _ => Kind::LeftOut,
    }
}
