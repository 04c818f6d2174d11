//! A stream as a transport stream for any number of viewers: packets of the ring, each with whole frames and its envelope.
//!
//! Tables stand in front of key pictures and of whatever comes first after a change of tracks, and are repeated every [`TABLES_MS_MAX`]. Without
//! a picture that is carried they are the config too, because every sound is a place to begin then. Not here: the bytes ([`super::write`]).

use bytes::{Buf, Bytes, BytesMut};
use smallvec::smallvec;

use super::write::TsWriter;
use crate::format::envelope::{ENVELOPE_BYTES_MAX, Envelope};
use crate::format::{Muxer, Packet, PacketKind};
use crate::media::{Frame, MediaEvent, MediaTime, Stamp, TrackKind};

/// How far apart tables are at most.
const TABLES_MS_MAX: i64 = 500;

pub struct TsMuxer {
    writer: TsWriter,
    envelope: Envelope,
    /// Where the tables stand that were written last; `None`: they are due.
    tables_at: Option<MediaTime>,
    /// The newest decoding time so far.
    newest: MediaTime,
}

impl TsMuxer {
    pub fn new(envelope: Envelope) -> Self {
        TsMuxer { writer: TsWriter::new(), envelope, tables_at: None, newest: MediaTime::ZERO }
    }

    fn frame(&mut self, frame: &Frame) -> Option<Packet> {
        let kind = match self.writer.kind_of(frame)? {
            TrackKind::Video if frame.key => PacketKind::Key,
            TrackKind::Video => PacketKind::Delta,
            _ => PacketKind::Audio,
        };
        let repeats = |at: MediaTime| !(0..TABLES_MS_MAX).contains(&(frame.dts.as_millis() - at.as_millis()));
        let has_tables = kind == PacketKind::Key || self.tables_at.is_none_or(repeats);
        let bytes = self.enclose(|writer, out| {
            if has_tables {
                writer.tables(out);
            }
            let before = out.len();
            writer.frame(frame, out);
            out.len() > before
        })?;
        if has_tables {
            self.tables_at = Some(frame.dts);
        }
        self.newest = self.newest.max(frame.dts);
        Some(Packet::new(smallvec![bytes], kind, frame.arrival, frame.dts))
    }

    /// What `write` writes, in its envelope; `None`: it was in vain.
    fn enclose(&mut self, write: impl FnOnce(&mut TsWriter, &mut BytesMut) -> bool) -> Option<Bytes> {
        // The front of the envelope says how long the rest is: its place is kept.
        let mut bytes = BytesMut::zeroed(ENVELOPE_BYTES_MAX);
        if !write(&mut self.writer, &mut bytes) {
            return None;
        }
        let mut front = BytesMut::new();
        self.envelope.open(bytes.len() - ENVELOPE_BYTES_MAX, &mut front);
        bytes.advance(ENVELOPE_BYTES_MAX - front.len());
        bytes[..front.len()].copy_from_slice(&front);
        self.envelope.close(&mut bytes);
        Some(bytes.freeze())
    }
}

impl Muxer for TsMuxer {
    fn push(&mut self, event: &MediaEvent, out: &mut Vec<Packet>) {
        match event {
            MediaEvent::Tracks(tracks) => {
                self.writer.set_tracks(tracks);
                self.tables_at = None;
                if self.writer.has_sound_only() {
                    let tables = self.enclose(|writer, out| {
                        writer.tables(out);
                        true
                    });
                    let config = |bytes| Packet::new(smallvec![bytes], PacketKind::Config, Stamp::ZERO, self.newest);
                    out.extend(tables.map(config));
                    self.tables_at = Some(self.newest);
                }
            }
            MediaEvent::Frame(frame) => out.extend(self.frame(frame)),
            MediaEvent::End => {}
        }
    }

    fn head(&self) -> Option<Bytes> {
        None
    }
}

#[cfg(test)]
mod tests;
