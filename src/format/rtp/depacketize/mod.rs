//! RTP payloads in sequence order → canonical access units (see [`crate::media`]).
//!
//! `nal` H.264 (RFC 6184) and H.265 (RFC 7798), with `parameter_sets` · `audio` AAC (RFC 3640), LATM (RFC 6416), Opus (RFC 7587), G.711 (RFC 3551), MPEG audio
//! (RFC 2250) · `video` AV1, VP8 (RFC 7741), VP9 (RFC 9628). A unit is given out when it is known to be whole, without waiting for the
//! next one where the sender allows that; a unit of which a packet is missing is never given out.
//!
//! Limits: a unit in progress has [`UNIT_BYTES_MAX`]. Each payload is copied once, into the unit's buffer; what is only understood as a
//! whole and comes in pieces (an AAC frame, an element of LATM, an OBU) once more.
//!
//! Not here: sequence numbers, clocks, loss counting ([`super::demux`]).

mod audio;
mod nal;
mod parameter_sets;
#[cfg(test)]
mod tests;
mod video;

use bytes::Bytes;

use super::{PayloadForm, RtpPayload};
use crate::media::{Discard, Stamp};

/// A unit in progress that grows beyond this is given up.
pub const UNIT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// One RTP packet's payload; packets come in sequence order.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    pub payload: &'a [u8],
    /// Unwrapped, in ticks of the payload's clock.
    pub timestamp: i64,
    pub marker: bool,
    pub arrival: Stamp,
}

/// A complete canonical access unit.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessUnit {
    pub data: Bytes,
    /// Presentation time, unwrapped, in ticks.
    pub timestamp: i64,
    pub key: bool,
    /// Of the packet that completed it.
    pub arrival: Stamp,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Depacketized {
    /// `Track::config` is known or has changed; holds for the units that follow.
    Config(Bytes),
    Unit(AccessUnit),
    Discarded(Discard),
    /// Packets are missing here: what was given out before is not concerned.
    Lost,
}

/// One track's payload format.
pub struct Depacketizer(Form);

enum Form {
    Nal(nal::NalUnits),
    Audio(audio::Audio),
    Video(video::Video),
}

impl Depacketizer {
    pub fn new(payload: &RtpPayload) -> Self {
        Depacketizer(match payload.form {
            PayloadForm::H264 => Form::Nal(nal::NalUnits::new(nal::Dialect::H264, &payload.config)),
            PayloadForm::H265 { donl } => Form::Nal(nal::NalUnits::new(nal::Dialect::H265 { donl }, &payload.config)),
            PayloadForm::Av1 => Form::Video(video::Video::new(video::Dialect::Av1)),
            PayloadForm::Vp8 => Form::Video(video::Video::new(video::Dialect::Vp8)),
            PayloadForm::Vp9 => Form::Video(video::Video::new(video::Dialect::Vp9)),
            PayloadForm::AacHbr { .. } | PayloadForm::Latm { .. } | PayloadForm::Opus | PayloadForm::Mpa | PayloadForm::G711 => {
                Form::Audio(audio::Audio::new(payload))
            }
        })
    }

    pub fn push(&mut self, piece: Piece<'_>, out: &mut Vec<Depacketized>) {
        match &mut self.0 {
            Form::Nal(nals) => nals.push(piece, out),
            Form::Audio(audio) => audio.push(piece, out),
            Form::Video(video) => video.push(piece, out),
        }
    }

    /// Bytes of the unit that is not complete.
    pub fn held_bytes(&self) -> usize {
        match &self.0 {
            Form::Nal(nals) => nals.held_bytes(),
            Form::Audio(audio) => audio.held_bytes(),
            Form::Video(video) => video.held_bytes(),
        }
    }

    /// Packets are missing before the next one.
    pub fn lost(&mut self, out: &mut Vec<Depacketized>) {
        out.push(Depacketized::Lost);
        match &mut self.0 {
            Form::Nal(nals) => nals.lost(),
            Form::Audio(audio) => audio.lost(out),
            Form::Video(video) => video.lost(),
        }
    }

    /// Another source, or its numbers begin anew: forgets what is incomplete and what was learnt of the sender.
    pub fn restart(&mut self) {
        match &mut self.0 {
            Form::Nal(nals) => nals.restart(),
            Form::Audio(audio) => audio.restart(),
            Form::Video(video) => video.restart(),
        }
    }
}
