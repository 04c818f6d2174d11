//! Media events → the RTP packets of one source, with all of the stream in them: a program stream, or G.711 A-law alone.
//!
//! GB/T 28181 Annex C, RFC 2250 §2: a frame is a unit, its packets share a timestamp and the last one is marked; with a program stream the
//! timestamp is the decoding time as it stands in the stream, because that grows. Packets are full but for the last, so a unit is a train.
//! Where there is no picture that is carried, every frame is a place to begin. Not here: reports; who gets the packets.

use bytes::Bytes;
use smallvec::smallvec;

use super::writer::{Lead, Writer};
use super::{DATAGRAM_BYTES_MAX, TRAIN_BYTES_MAX, TRAIN_DATAGRAMS_MAX, audio};
use crate::format::pes::{self, is_narrow};
use crate::format::ps::write::ProgramWriter;
use crate::format::rtp::payload::ticks_of_micros;
use crate::format::rtp::{Flow, RtpSource, SourceContent, Train};
use crate::format::{Muxer, MuxerContext, Packet, PacketKind};
use crate::media::{Codec, Frame, MediaEvent, TrackId, TrackKind, Tracks};

/// Ticks per second of G.711.
const G711_CLOCK_RATE: u32 = 8_000;

pub struct SingleMuxer {
    source: RtpSource,
    sequence: u16,
    /// Of the first timestamp of G.711.
    timestamp_offset: u32,
    program: ProgramWriter,
    /// The sound of a source that has nothing else.
    sound: Option<TrackId>,
}

impl SingleMuxer {
    pub fn new(source: RtpSource, context: MuxerContext) -> Self {
        let mut random = fastrand::Rng::with_seed(context.seed);
        let (sequence, timestamp_offset) = (random.u16(..), random.u32(..));
        SingleMuxer { source, sequence, timestamp_offset, program: ProgramWriter::default(), sound: None }
    }

    fn set_tracks(&mut self, tracks: &Tracks) {
        match self.source.content {
            SourceContent::Ps => self.program.set_tracks(tracks),
            SourceContent::G711A => self.sound = g711a(tracks),
        }
    }

    fn frame(&mut self, frame: &Frame, out: &mut Vec<Packet>) {
        let Some(kind) = self.kind_of(frame) else { return };
        let mut packet_kind = match kind {
            TrackKind::Video if frame.key => PacketKind::Key,
            TrackKind::Video => PacketKind::Delta,
            _ if self.program.has_video() => PacketKind::Audio,
            _ => PacketKind::Key,
        };
        let mut writer = self.writer(frame);
        match self.source.content {
            SourceContent::Ps => {
                self.program.frame(frame, &mut |bytes| writer.pour(bytes));
                writer.mark();
            }
            SourceContent::G711A => audio::g711(&frame.data, 1, &mut writer),
        }
        self.sequence = self.sequence.wrapping_add(writer.counts().0 as u16);
        if self.source.framed {
            let bytes = writer.into_stream();
            out.extend(bytes.map(|bytes| Packet::new(smallvec![bytes], packet_kind, frame.arrival, frame.dts)));
            return;
        }
        let flow = Flow::Media(if self.source.content == SourceContent::Ps { TrackKind::Video } else { TrackKind::Audio });
        for (bytes, datagram_bytes) in writer.into_trains(TRAIN_DATAGRAMS_MAX, TRAIN_BYTES_MAX) {
            let mut packet = Packet::new(smallvec![bytes], packet_kind, frame.arrival, frame.dts);
            packet.train = Some(Train { flow, datagram_bytes });
            out.push(packet);
            if packet_kind == PacketKind::Key {
                packet_kind = PacketKind::Delta;
            }
        }
    }

    fn kind_of(&self, frame: &Frame) -> Option<TrackKind> {
        match self.source.content {
            SourceContent::Ps => self.program.kind_of(frame),
            SourceContent::G711A => (self.sound == Some(frame.track)).then_some(TrackKind::Audio),
        }
    }

    fn writer(&self, frame: &Frame) -> Writer {
        let timestamp = match self.source.content {
            SourceContent::Ps => pes::ticks(frame.dts) as u32,
            // Of the ticks only the lower bits are sent.
            SourceContent::G711A => {
                self.timestamp_offset.wrapping_add(ticks_of_micros(frame.dts.as_micros(), G711_CLOCK_RATE) as u32)
            }
        };
        let RtpSource { ssrc, payload_type, framed, .. } = self.source;
        let lead = if framed { Lead::Length } else { Lead::None };
        Writer::new(payload_type & 0x7F, ssrc, self.sequence, timestamp, lead, DATAGRAM_BYTES_MAX, frame.data.len())
    }
}

/// The sound of a stream that can be sent by itself.
pub fn g711a(tracks: &Tracks) -> Option<TrackId> {
    tracks.first(TrackKind::Audio).filter(|track| track.codec == Codec::G711A && is_narrow(track)).map(|track| track.id)
}

impl Muxer for SingleMuxer {
    fn push(&mut self, event: &MediaEvent, out: &mut Vec<Packet>) {
        match event {
            MediaEvent::Tracks(tracks) => self.set_tracks(tracks),
            MediaEvent::Frame(frame) => self.frame(frame, out),
            MediaEvent::End => {}
        }
    }

    fn head(&self) -> Option<Bytes> {
        None
    }
}

#[cfg(test)]
mod tests;
