//! Audio payloads → frames: AAC in AU headers (RFC 3640) or LATM (RFC 6416), Opus (RFC 7587), G.711 (RFC 3551 §4.5.14) and MPEG audio
//! (RFC 2250 §3.5). What cameras do to AAC is borne: ADTS headers inside the units, or instead of the AU headers.

use bytes::{Bytes, BytesMut};

use super::{AccessUnit, Depacketized, Piece, UNIT_BYTES_MAX};
use crate::format::rtp::{PayloadForm, RtpPayload};
use crate::media::aac::{AacConfig, adts_frame, is_adts};
use crate::media::latm::{StreamMux, read_element};
use crate::media::mp3;
use crate::media::opus::OpusHead;
use crate::media::{Discard, Stamp};

/// Access units in one packet: at 13 bits of size there is no room for more.
const UNITS_MAX: usize = 512;

pub struct Audio {
    form: PayloadForm,
    clock_rate: u32,
    config: Bytes,
    config_due: bool,
    /// Ticks from one AAC frame of a packet to the next.
    frame_ticks: i64,
    mux: Option<StreamMux>,
    /// A frame that came in part, and how many bytes it will have; 0: as many as come until the marker.
    partial: BytesMut,
    partial_bytes: usize,
    partial_timestamp: i64,
    /// Packets are missing before the next one; or before what is at hand, which may be the end of something.
    gap: bool,
    doubtful: bool,
}

impl Audio {
    pub fn new(payload: &RtpPayload) -> Self {
        let config = match payload.form {
            PayloadForm::Opus if payload.config.is_empty() => {
                OpusHead { channels: payload.channels.clamp(1, 2), pre_skip: 0, input_sample_rate: payload.clock_rate }.build()
            }
            _ => payload.config.clone(),
        };
        let mut audio = Audio {
            form: payload.form,
            clock_rate: payload.clock_rate,
            config: Bytes::new(),
            config_due: false,
            frame_ticks: 0,
            mux: None,
            partial: BytesMut::new(),
            partial_bytes: 0,
            partial_timestamp: 0,
            gap: false,
            doubtful: false,
        };
        // Where the elements bring the config, it may be long until the first that does.
        if matches!(payload.form, PayloadForm::Latm { .. }) && !config.is_empty() {
            audio.mux = Some(StreamMux::of_config(config.clone()));
        }
        audio.set_config(config);
        audio
    }

    fn set_config(&mut self, config: Bytes) {
        if config.is_empty() || config == self.config {
            return;
        }
        if let Some(aac) = AacConfig::parse(&config) {
            let core = i64::from(aac.core_sample_rate.max(1));
            self.frame_ticks = i64::from(aac.frame_samples) * i64::from(self.clock_rate) / core;
        }
        (self.config, self.config_due) = (config, true);
    }

    pub fn lost(&mut self, out: &mut Vec<Depacketized>) {
        self.gap = true;
        self.give_up(out);
    }

    fn give_up(&mut self, out: &mut Vec<Depacketized>) {
        if !self.partial.is_empty() {
            self.partial.clear();
            out.push(Depacketized::Discarded(Discard::Incomplete));
        }
    }

    pub fn restart(&mut self) {
        self.partial.clear();
        self.gap = false;
    }

    pub fn held_bytes(&self) -> usize {
        self.partial.len()
    }

    pub fn push(&mut self, piece: Piece<'_>, out: &mut Vec<Depacketized>) {
        if piece.timestamp != self.partial_timestamp {
            // The rest never comes: perhaps the end of a frame was taken for its beginning.
            self.give_up(out);
        }
        if self.partial.is_empty() {
            (self.doubtful, self.partial_timestamp) = (std::mem::take(&mut self.gap), piece.timestamp);
        }
        let is_understood = match self.form {
            PayloadForm::AacHbr { size_bits, index_bits, index_delta_bits } => {
                self.aac(piece, [size_bits, index_bits, index_delta_bits], out)
            }
            PayloadForm::Latm { config_in_band } => self.latm(piece, config_in_band, out),
            PayloadForm::Mpa => self.mpa(piece, out),
            _ => {
                self.copied(piece.payload, piece.timestamp, piece.arrival, out);
                Some(())
            }
        };
        if is_understood.is_none() {
            self.partial.clear();
            out.push(Depacketized::Discarded(Discard::BrokenFrame));
        }
    }

    fn copied(&mut self, data: &[u8], timestamp: i64, arrival: Stamp, out: &mut Vec<Depacketized>) {
        self.unit(Bytes::copy_from_slice(data), timestamp, arrival, out);
    }

    fn unit(&mut self, data: Bytes, timestamp: i64, arrival: Stamp, out: &mut Vec<Depacketized>) {
        if data.is_empty() {
            return;
        }
        if std::mem::take(&mut self.config_due) {
            out.push(Depacketized::Config(self.config.clone()));
        }
        out.push(Depacketized::Unit(AccessUnit { data, timestamp, key: true, arrival }));
    }

    // ---- AAC

    /// RFC 3640 §3.2: the section of AU headers, its length in bits first, then the units.
    fn aac(&mut self, piece: Piece<'_>, widths: [u8; 3], out: &mut Vec<Depacketized>) -> Option<()> {
        if !self.partial.is_empty() {
            return self.aac_continued(piece, out);
        }
        if is_adts(piece.payload) {
            return self.adts_units(piece, out);
        }
        let (header_bits, rest) = piece.payload.split_first_chunk::<2>()?;
        let header_bits = usize::from(u16::from_be_bytes(*header_bits));
        let (headers, mut units) = rest.split_at_checked(header_bits.div_ceil(8))?;
        let sizes = au_sizes(headers, header_bits, widths)?;
        let mut timestamp = piece.timestamp;
        for (at, size) in sizes.iter().enumerate() {
            if *size > units.len() {
                // One unit alone may go on in the next packet (§3.2.3.2).
                return if sizes.len() == 1 { self.aac_begun(units, *size) } else { None };
            }
            let (unit, behind) = units.split_at(*size);
            self.aac_unit(unit, timestamp, piece.arrival, out);
            timestamp = piece.timestamp + self.frame_ticks * (at as i64 + 1);
            units = behind;
        }
        Some(())
    }

    fn aac_begun(&mut self, bytes: &[u8], size: usize) -> Option<()> {
        if size > UNIT_BYTES_MAX {
            return None;
        }
        self.partial.extend_from_slice(bytes);
        self.partial_bytes = size;
        // An empty first piece would not show as begun.
        (!bytes.is_empty()).then_some(())
    }

    /// Each further piece has the header of the whole unit.
    fn aac_continued(&mut self, piece: Piece<'_>, out: &mut Vec<Depacketized>) -> Option<()> {
        let (header_bits, rest) = piece.payload.split_first_chunk::<2>()?;
        let bytes = rest.get(usize::from(u16::from_be_bytes(*header_bits)).div_ceil(8)..)?;
        if self.partial.len() + bytes.len() > self.partial_bytes {
            return None;
        }
        self.partial.extend_from_slice(bytes);
        if self.partial.len() == self.partial_bytes {
            let unit = self.partial.split();
            self.aac_unit(&unit, piece.timestamp, piece.arrival, out);
        }
        Some(())
    }

    /// A unit, perhaps with an ADTS header that does not belong there.
    fn aac_unit(&mut self, unit: &[u8], timestamp: i64, arrival: Stamp, out: &mut Vec<Depacketized>) {
        let raw = match adts_frame(unit) {
            Some((config, raw, [])) => {
                self.set_config_if_none(config);
                raw
            }
            _ => unit,
        };
        self.copied(raw, timestamp, arrival, out);
    }

    fn adts_units(&mut self, piece: Piece<'_>, out: &mut Vec<Depacketized>) -> Option<()> {
        let (mut rest, mut timestamp) = (piece.payload, piece.timestamp);
        while !rest.is_empty() {
            let (config, raw, behind) = adts_frame(rest)?;
            self.set_config_if_none(config);
            self.copied(raw, timestamp, piece.arrival, out);
            timestamp += self.frame_ticks;
            rest = behind;
        }
        Some(())
    }

    fn set_config_if_none(&mut self, config: Bytes) {
        if self.config.is_empty() {
            self.set_config(config);
        }
    }

    // ---- LATM

    /// An element may be cut over packets; the last one has the marker (RFC 6416 §6.1).
    fn latm(&mut self, piece: Piece<'_>, config_in_band: bool, out: &mut Vec<Depacketized>) -> Option<()> {
        let frames = if self.partial.is_empty() {
            // Some senders never set the marker: what is whole by itself is not waited with.
            self.latm_frames(piece.payload, config_in_band)
        } else {
            None
        };
        if let Some(frames) = frames {
            self.latm_units(frames, piece, out);
            return Some(());
        }
        if self.partial.len() + piece.payload.len() > UNIT_BYTES_MAX {
            return None;
        }
        self.partial.extend_from_slice(piece.payload);
        if !piece.marker {
            return Some(());
        }
        let element = self.partial.split();
        match self.latm_frames(&element, config_in_band) {
            Some(frames) => self.latm_units(frames, piece, out),
            None if self.doubtful => out.push(Depacketized::Discarded(Discard::Incomplete)),
            None => return None,
        }
        Some(())
    }

    /// `None`: it is no element; or it may be none, as something is missing in front and something is left over behind.
    fn latm_frames(&mut self, element: &[u8], config_in_band: bool) -> Option<Vec<Vec<u8>>> {
        let mut mux = self.mux.clone();
        let element = if config_in_band { read_element(element, &mut mux)? } else { mux.as_ref()?.element(element)? };
        if self.doubtful && element.bytes_behind > 0 {
            return None;
        }
        self.mux = mux;
        Some(element.frames)
    }

    fn latm_units(&mut self, frames: Vec<Vec<u8>>, piece: Piece<'_>, out: &mut Vec<Depacketized>) {
        if let Some(mux) = &self.mux {
            self.set_config(mux.config.clone());
        }
        for (at, frame) in frames.into_iter().enumerate() {
            self.unit(frame.into(), piece.timestamp + self.frame_ticks * at as i64, piece.arrival, out);
        }
    }

    // ---- MPEG audio

    /// Behind two bytes of nothing and the offset in the frame: whole frames, or a piece of one.
    fn mpa(&mut self, piece: Piece<'_>, out: &mut Vec<Depacketized>) -> Option<()> {
        let ([_, _, high, low], data) = piece.payload.split_first_chunk::<4>()?;
        let offset = usize::from(u16::from_be_bytes([*high, *low]));
        if offset > 0 || !self.partial.is_empty() {
            if offset != self.partial.len() || self.partial.is_empty() {
                return None;
            }
            self.partial.extend_from_slice(data);
            if self.partial.len() >= self.partial_bytes {
                let frame = self.partial.split().freeze();
                self.unit(frame, piece.timestamp, piece.arrival, out);
            }
            return Some(());
        }
        let (mut rest, mut timestamp) = (data, piece.timestamp);
        while !rest.is_empty() {
            let frame = mp3::Header::parse(rest)?;
            if frame.bytes > rest.len() {
                self.partial.extend_from_slice(rest);
                self.partial_bytes = frame.bytes;
                return Some(());
            }
            let (whole, behind) = rest.split_at(frame.bytes);
            self.copied(whole, timestamp, piece.arrival, out);
            timestamp += i64::from(self.clock_rate) * i64::from(frame.samples) / i64::from(frame.sample_rate);
            rest = behind;
        }
        Some(())
    }
}

/// The sizes in a section of AU headers: size and index, then size and index delta of each further unit.
fn au_sizes(headers: &[u8], header_bits: usize, [size_bits, index_bits, delta_bits]: [u8; 3]) -> Option<Vec<usize>> {
    let mut sizes = Vec::new();
    let mut at = 0;
    while at + usize::from(size_bits) <= header_bits && size_bits > 0 {
        if sizes.len() == UNITS_MAX {
            return None;
        }
        let size =
            (at..at + usize::from(size_bits)).fold(0, |size, bit| size << 1 | usize::from(headers[bit / 8] >> (7 - bit % 8) & 1));
        at += usize::from(size_bits) + usize::from(if sizes.is_empty() { index_bits } else { delta_bits });
        sizes.push(size);
    }
    (!sizes.is_empty()).then_some(sizes)
}
