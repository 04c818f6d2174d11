//! The sound of a stream alone, frame behind frame: AAC in ADTS (`.aac`), or MP3.
//!
//! ISO/IEC 13818-7 §6.2 (ADTS), ISO/IEC 11172-3 (MP3). A frame's payload is shared, never copied. Every frame is a place to begin, and says all
//! that a decoder has to know. Not here: other codecs, whose frames do not say where they end.

use bytes::Bytes;

use super::envelope::Envelope;
use super::{Muxer, Packet, PacketKind};
use crate::media::aac::AdtsHeader;
use crate::media::{Codec, Frame, MediaEvent, Track, TrackId, Tracks};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AudioForm {
    Adts,
    Mp3,
}

impl AudioForm {
    /// Whether a track can be written so.
    pub fn carries(self, track: &Track) -> bool {
        match self {
            AudioForm::Adts => track.codec == Codec::Aac && AdtsHeader::from_config(&track.config).is_some(),
            AudioForm::Mp3 => track.codec == Codec::Mp3,
        }
    }
}

pub struct AudioMuxer {
    form: AudioForm,
    envelope: Envelope,
    track: Option<TrackId>,
    adts: Option<AdtsHeader>,
}

impl AudioMuxer {
    pub fn new(form: AudioForm, envelope: Envelope) -> Self {
        AudioMuxer { form, envelope, track: None, adts: None }
    }

    fn set_tracks(&mut self, tracks: &Tracks) {
        let track = tracks.iter().find(|track| self.form.carries(track));
        self.track = track.map(|track| track.id);
        self.adts = track.filter(|_| self.form == AudioForm::Adts).and_then(|track| AdtsHeader::from_config(&track.config));
    }

    fn frame(&self, frame: &Frame) -> Option<Packet> {
        if self.track != Some(frame.track) || frame.data.is_empty() {
            return None;
        }
        let parts = match self.adts {
            Some(adts) => self.envelope.enclose(&adts.of(frame.data.len())?, frame.data.clone(), &[]),
            None => self.envelope.enclose(&[], frame.data.clone(), &[]),
        };
        Some(Packet::new(parts, PacketKind::Audio, frame.arrival, frame.dts).sharing(&frame.data))
    }
}

impl Muxer for AudioMuxer {
    fn push(&mut self, event: &MediaEvent, out: &mut Vec<Packet>) {
        match event {
            MediaEvent::Tracks(tracks) => self.set_tracks(tracks),
            MediaEvent::Frame(frame) => out.extend(self.frame(frame)),
            MediaEvent::End => {}
        }
    }

    fn head(&self) -> Option<Bytes> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::rtp::mux::tests::{frame, h264_config, track};
    use crate::media::aac::AacConfig;

    fn sent(form: AudioForm, envelope: Envelope, sound: Track, data: &'static [u8]) -> Vec<Vec<u8>> {
        let mut muxer = AudioMuxer::new(form, envelope);
        let mut out = Vec::new();
        let tracks = vec![track(0, Codec::H264, h264_config()), sound];
        muxer.push(&MediaEvent::Tracks(Tracks::new(tracks, Bytes::new())), &mut out);
        for (id, ms) in [(0, 0), (1, 0), (1, 20)] {
            muxer.push(&MediaEvent::Frame(frame(id, ms, true, Bytes::from_static(data))), &mut out);
        }
        assert!(out.iter().all(|packet| packet.kind == PacketKind::Audio && packet.shared == data.len()));
        out.iter().map(|packet| packet.parts.concat()).collect()
    }

    #[test]
    fn frames_stand_in_their_envelopes() {
        const RAW: &[u8] = &[0x21, 1, 2];
        const ADTS: &[u8] = &[0xFF, 0xF1, 0x4C, 0x80, 0x01, 0x5F, 0xFC, 0x21, 1, 2];
        const MP3: &[u8] = &[0xFF, 0xFB, 0x90, 0x64, 7];
        let aac = || track(1, Codec::Aac, AacConfig::build_lc(48_000, 2));
        let chunk = [b"a\r\n", ADTS, b"\r\n"].concat();
        let message = [&[0x82, 5], MP3].concat();
        assert_eq!(sent(AudioForm::Adts, Envelope::None, aac(), RAW), [ADTS, ADTS]);
        assert_eq!(sent(AudioForm::Adts, Envelope::HttpChunk, aac(), RAW), [&chunk[..], &chunk]);
        assert_eq!(sent(AudioForm::Mp3, Envelope::WebSocket, track(1, Codec::Mp3, Bytes::new()), MP3), [&message[..], &message]);
        assert!(sent(AudioForm::Mp3, Envelope::None, aac(), RAW).is_empty(), "the stream has no such sound");
    }
}
