//! A stream as fragmented MP4: the init segment as config, then fragments of one frame or of one GOP.
//!
//! With a fragment per frame nothing waits: a frame goes out when it is there, with the time since the frame before as its duration. The next
//! fragment begins at its own time, so an estimate that was wrong moves nothing. Browsers alone (Media Source Extensions) take a step of more than twice
//! that duration for a seam and wait for the next key frame: after the loss of two pictures in a row, or with a camera that skips pictures at will. With a fragment per GOP the durations are exact and the overhead
//! is small, but a picture waits for the next key frame.
//!
//! Each packet stands in one envelope; over WebSocket the init segment and each fragment are a message of their own.
//!
//! Limits: a GOP in the making is passed on at [`HELD_BYTES_MAX`], [`HELD_FRAMES_MAX`] or [`HELD_MICROS_MAX`], and continued in a further fragment,
//! which is no place to begin. Not here: init and fragments themselves.

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::{SmallVec, smallvec};

use super::fragment::{Fragment, FragmentParts, FragmentWriter, Sample};
use super::init::init_segment;
use crate::format::envelope::{ENVELOPE_BYTES_MAX, Envelope};
use crate::format::{Muxer, Packet, PacketKind};
use crate::media::{Frame, MediaEvent, MediaTime, Stamp, TrackId, Tracks};

const HELD_BYTES_MAX: usize = 8 * 1024 * 1024;
const HELD_FRAMES_MAX: usize = 2_048;
const HELD_MICROS_MAX: i64 = 10_000_000;
/// Sound without pictures has no GOPs.
const AUDIO_FRAGMENT_MICROS: i64 = 1_000_000;

/// What one fragment holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FragmentMode {
    /// Each frame at once.
    #[default]
    PerFrame,
    /// All tracks from one key frame up to the next.
    PerGop,
}

#[derive(Debug)]
pub struct Fmp4Muxer {
    mode: FragmentMode,
    envelope: Envelope,
    /// `None`: nothing of the stream can be carried.
    writer: Option<FragmentWriter>,
    has_video: bool,
    sequence: u32,
    newest: MediaTime,
    /// When each track's last frame was, and how long after the one before.
    steps: SmallVec<[(TrackId, MediaTime, i64); 2]>,
    /// The GOP in the making.
    held: Vec<HeldFrame>,
    held_bytes: usize,
}

#[derive(Debug)]
struct HeldFrame {
    track: TrackId,
    is_video: bool,
    sample: Sample,
}

impl Fmp4Muxer {
    pub fn new(mode: FragmentMode, envelope: Envelope) -> Self {
        Fmp4Muxer {
            mode,
            envelope,
            writer: None,
            has_video: false,
            sequence: 0,
            newest: MediaTime::ZERO,
            steps: SmallVec::new(),
            held: Vec::new(),
            held_bytes: 0,
        }
    }

    /// `None`: there is nothing to carry, and an empty chunk would end an HTTP body.
    fn set_tracks(&mut self, tracks: &Tracks) -> Option<Packet> {
        self.writer = FragmentWriter::new(tracks);
        self.has_video = self.writer.as_ref().is_some_and(|writer| tracks.iter().any(|track| writer.is_video(track.id)));
        self.steps.clear();
        let init = init_segment(tracks)?;
        let mut bytes = BytesMut::with_capacity(init.len() + ENVELOPE_BYTES_MAX);
        self.envelope.open(init.len(), &mut bytes);
        bytes.put_slice(&init);
        self.envelope.close(&mut bytes);
        Some(Packet::new(smallvec![bytes.freeze()], PacketKind::Config, Stamp::ZERO, self.newest))
    }

    fn frame(&mut self, frame: &Frame, out: &mut Vec<Packet>) {
        let Some(writer) = self.writer.as_ref().filter(|writer| writer.carries(frame.track)) else { return };
        let is_video = writer.is_video(frame.track);
        self.newest = self.newest.max(frame.dts);
        // Of sound the codec says how long it is.
        let duration = if is_video { self.step(frame.track, frame.dts) } else { 0 };
        let sample = Sample { data: frame.data.clone(), dts: frame.dts, duration, cts: frame.cts, key: frame.key };
        match self.mode {
            FragmentMode::PerFrame => {
                let kind = match (is_video, frame.key) {
                    (true, true) => PacketKind::Key,
                    (true, false) => PacketKind::Delta,
                    (false, _) => PacketKind::Audio,
                };
                out.extend(self.fragment(&[(frame.track, &[sample])], kind, frame.arrival, frame.dts));
            }
            FragmentMode::PerGop => {
                if is_video && frame.key || self.is_full(frame.dts) {
                    self.set_last_duration(frame);
                    out.extend(self.flush(frame.arrival));
                }
                self.held_bytes += sample.data.len();
                self.held.push(HeldFrame { track: frame.track, is_video, sample });
            }
        }
    }

    /// The time since the track's frame before; if this is the first, 0.
    fn step(&mut self, track: TrackId, dts: MediaTime) -> i64 {
        match self.steps.iter_mut().find(|(id, ..)| *id == track) {
            Some((_, last, step)) => {
                *step = dts.micros_since(*last).max(0);
                *last = dts;
                *step
            }
            None => {
                self.steps.push((track, dts, 0));
                0
            }
        }
    }

    fn is_full(&self, now: MediaTime) -> bool {
        let held_micros = self.held.first().map_or(0, |first| now.micros_since(first.sample.dts));
        let micros_max = if self.has_video { HELD_MICROS_MAX } else { AUDIO_FRAGMENT_MICROS };
        held_micros >= micros_max || self.held.len() >= HELD_FRAMES_MAX || self.held_bytes >= HELD_BYTES_MAX
    }

    /// `next` tells how long the last held frame of its track is.
    fn set_last_duration(&mut self, next: &Frame) {
        if let Some(last) = self.held.iter_mut().rev().find(|held| held.track == next.track) {
            last.sample.duration = next.dts.micros_since(last.sample.dts).max(0);
        }
    }

    /// `now`: what completed the fragment, from which its latency counts.
    fn flush(&mut self, now: Stamp) -> Option<Packet> {
        let held = std::mem::take(&mut self.held);
        self.held_bytes = 0;
        let dts = held.first()?.sample.dts;
        let kind = match held.iter().find(|held| held.is_video) {
            // Sound that came before the key frame is still of use by itself.
            Some(first) if first.sample.key => PacketKind::Key,
            Some(_) => PacketKind::Delta,
            None => PacketKind::Audio,
        };
        let mut by_track: SmallVec<[(TrackId, Vec<Sample>); 2]> = SmallVec::new();
        for HeldFrame { track, sample, .. } in held {
            match by_track.iter_mut().find(|(id, _)| *id == track) {
                Some((_, samples)) => samples.push(sample),
                None => by_track.push((track, vec![sample])),
            }
        }
        let tracks: SmallVec<[(TrackId, &[Sample]); 2]> = by_track.iter().map(|(id, samples)| (*id, &samples[..])).collect();
        self.fragment(&tracks, kind, now, dts)
    }

    fn fragment(&mut self, tracks: &[(TrackId, &[Sample])], kind: PacketKind, arrival: Stamp, dts: MediaTime) -> Option<Packet> {
        let writer = self.writer.as_mut()?;
        self.sequence = self.sequence.wrapping_add(1);
        let FragmentParts { head, payload, len } = writer.fragment(&Fragment { sequence: self.sequence, tracks });
        let shared = len - head.len();
        let mut front = BytesMut::with_capacity(head.len() + ENVELOPE_BYTES_MAX);
        self.envelope.open(len, &mut front);
        front.put_slice(&head);
        let before = front.len();
        self.envelope.close(&mut front);
        let mut front = front.freeze();
        let back = front.split_off(before);
        let mut parts: SmallVec<[Bytes; 3]> = SmallVec::with_capacity(payload.len() + 2);
        parts.push(front);
        parts.extend(payload);
        parts.push(back);
        Some(Packet { shared, ..Packet::new(parts, kind, arrival, dts) })
    }
}

impl Muxer for Fmp4Muxer {
    fn push(&mut self, event: &MediaEvent, out: &mut Vec<Packet>) {
        match event {
            MediaEvent::Tracks(tracks) => {
                // What is held is of the tracks before. Nothing waits for it, so its latency is no one's.
                out.extend(self.flush(Stamp::ZERO));
                out.extend(self.set_tracks(tracks));
            }
            MediaEvent::Frame(frame) => self.frame(frame, out),
            MediaEvent::End => out.extend(self.flush(Stamp::ZERO)),
        }
    }

    fn head(&self) -> Option<Bytes> {
        None
    }

    fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    fn forget(&mut self) {
        self.held = Vec::new();
        self.held_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::super::boxes::{children, descend};
    use super::super::testing::{every_track, tracks};
    use super::*;

    const VIDEO: u8 = 0;
    const AUDIO: u8 = 1;

    fn frame(track: u8, millis: i64, key: bool) -> MediaEvent {
        MediaEvent::Frame(Frame {
            data: Bytes::from(vec![track; 10]),
            arrival: Stamp::from_millis(millis as u64 + 5),
            dts: MediaTime::from_millis(millis),
            cts: 0,
            segment: 0,
            track: TrackId(track),
            key,
        })
    }

    fn mux(mode: FragmentMode, envelope: Envelope, tracks: Tracks, events: &[MediaEvent]) -> Vec<Packet> {
        let (mut muxer, mut out) = (Fmp4Muxer::new(mode, envelope), Vec::new());
        muxer.push(&MediaEvent::Tracks(tracks), &mut out);
        events.iter().for_each(|event| muxer.push(event, &mut out));
        out
    }

    fn kinds(packets: &[Packet]) -> Vec<PacketKind> {
        packets.iter().map(|packet| packet.kind).collect()
    }

    fn two_tracks() -> Tracks {
        tracks(every_track()[..2].to_vec())
    }

    #[test]
    fn a_fragment_per_frame() {
        let events = [frame(VIDEO, 0, true), frame(AUDIO, 0, true), frame(VIDEO, 40, false), frame(7, 40, true)];
        let packets = mux(FragmentMode::PerFrame, Envelope::None, two_tracks(), &events);
        assert_eq!(kinds(&packets), [PacketKind::Config, PacketKind::Key, PacketKind::Audio, PacketKind::Delta]);
        for packet in &packets[1..] {
            let bytes = packet.parts.concat();
            assert_eq!((packet.len, packet.shared), (bytes.len(), 10));
            assert_eq!(children(&bytes).map(|(kind, _)| kind).collect::<Vec<_>>(), [*b"moof", *b"mdat"]);
        }
        assert_eq!(packets[3].arrival, Stamp::from_millis(45));
    }

    #[test]
    fn a_fragment_per_gop() {
        let events = [
            frame(AUDIO, 0, true),
            frame(VIDEO, 0, true),
            frame(AUDIO, 23, true),
            frame(VIDEO, 40, false),
            frame(VIDEO, 80, true),
            frame(VIDEO, 120, false),
            MediaEvent::End,
        ];
        let packets = mux(FragmentMode::PerGop, Envelope::HttpChunk, two_tracks(), &events);
        assert_eq!(kinds(&packets), [PacketKind::Config, PacketKind::Audio, PacketKind::Key, PacketKind::Key]);
        assert_eq!((packets[2].shared, packets[2].arrival), (30, Stamp::from_millis(85)));
        assert_eq!((packets[2].dts, packets[3].dts), (MediaTime::ZERO, MediaTime::from_millis(80)));
        for packet in &packets {
            let text = packet.parts.concat();
            let size = text.iter().position(|byte| *byte == b'\r').unwrap();
            let size = usize::from_str_radix(std::str::from_utf8(&text[..size]).unwrap(), 16).unwrap();
            assert!(text.ends_with(b"\r\n") && text.len() > size, "one chunk");
        }
    }

    #[test]
    fn long_gops_and_sound_alone_are_cut() {
        let pictures: Vec<_> = (0..30).map(|second| frame(VIDEO, second * 1_000, second == 0)).chain([MediaEvent::End]).collect();
        let packets = mux(FragmentMode::PerGop, Envelope::None, two_tracks(), &pictures);
        assert_eq!(kinds(&packets), [PacketKind::Config, PacketKind::Key, PacketKind::Delta, PacketKind::Delta]);
        let sound: Vec<_> = (0..100).map(|frame_at| frame(AUDIO, frame_at * 23, true)).collect();
        let packets = mux(FragmentMode::PerGop, Envelope::None, tracks(every_track()[1..2].to_vec()), &sound);
        assert_eq!(kinds(&packets), [PacketKind::Config, PacketKind::Audio, PacketKind::Audio]);
    }

    #[test]
    fn what_is_held_can_be_let_go() {
        let (mut muxer, mut out) = (Fmp4Muxer::new(FragmentMode::PerGop, Envelope::None), Vec::new());
        muxer.push(&MediaEvent::Tracks(two_tracks()), &mut out);
        muxer.push(&frame(VIDEO, 0, true), &mut out);
        assert_eq!(muxer.held_bytes(), 10);
        muxer.forget();
        assert_eq!(muxer.held_bytes(), 0);
        [frame(VIDEO, 40, false), frame(VIDEO, 80, true)].iter().for_each(|event| muxer.push(event, &mut out));
        assert_eq!(kinds(&out), [PacketKind::Config, PacketKind::Delta], "no place to begin");
    }

    #[test]
    fn new_tracks_end_what_is_held() {
        let events = [frame(VIDEO, 0, true), MediaEvent::Tracks(two_tracks()), frame(VIDEO, 40, true), MediaEvent::End];
        let packets = mux(FragmentMode::PerGop, Envelope::WebSocket, two_tracks(), &events);
        assert_eq!(kinds(&packets), [PacketKind::Config, PacketKind::Key, PacketKind::Config, PacketKind::Key]);
        let init = packets[0].parts.concat();
        assert!(init[0] == 0x82 && descend(&init[4..], &[b"moov", b"mvex"]).is_some(), "a binary message");
    }
}
