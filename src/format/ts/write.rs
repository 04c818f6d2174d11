//! Media events → a transport stream of one program.
//!
//! ISO/IEC 13818-1 §2.4.4 (PAT, PMT), §2.4.3.6 (PES). The first track of each kind is taken that has a place: H.264, H.265; AAC behind
//! ADTS, MP3, Opus of one or two channels, G.711 at 8 kHz. A frame is one PES packet. A picture begins with an access unit delimiter, and has
//! its length where that fits into 16 bits, so that it is known to be whole when its last byte is there. The clock stands in the packets of
//! the picture, or of the sound where there is none. Not here: how often tables are repeated, what stands around the bytes.

use bytes::BytesMut;
use smallvec::SmallVec;

use super::clock::Clock;
use super::packet::{Continuity, Signs, section, write_clock, write_packets, write_table};
use super::{BODY_BYTES, EXTENSION_DESCRIPTOR, OPUS, PACKET_BYTES, PAT_PID, PRIVATE_DATA, REGISTRATION_DESCRIPTOR};
use crate::format::pes::{Form, Pieces, form, kind_of, pes_header, ticks};
use crate::media::aac::ADTS_HEADER_BYTES;
use crate::media::nal::canonical_units;
use crate::media::{Codec, Frame, Track, TrackId, TrackKind, TrackShape, Tracks, h265};

const PROGRAM: u16 = 1;
const PMT_PID: u16 = 0x1000;
const VIDEO_PID: u16 = 0x100;
const AUDIO_PID: u16 = 0x101;
/// Of the clock of a program that has none.
const NO_PID: u16 = 0x1FFF;

const PAT: u8 = 0;
const PMT: u8 = 2;

const VIDEO_ID: u8 = 0xE0;
const AUDIO_ID: u8 = 0xC0;
const PRIVATE_ID: u8 = 0xBD;

/// One track on its way out.
#[derive(Clone)]
struct Sender {
    track: TrackId,
    codec: Codec,
    pid: u16,
    stream_id: u8,
    stream_type: u8,
    /// In the table of the program.
    descriptors: SmallVec<[u8; 12]>,
    form: Form,
}

/// Writes one stream.
#[derive(Clone)]
pub struct TsWriter {
    video: Option<Sender>,
    audio: Option<Sender>,
    /// Of the table of the program: grows when that changes.
    version: u8,
    /// What that says, between its numbers and its checksum.
    program: SmallVec<[u8; 64]>,
    pat: [u8; PACKET_BYTES],
    pmt: [u8; PACKET_BYTES],
    pat_continuity: Continuity,
    pmt_continuity: Continuity,
    video_continuity: Continuity,
    audio_continuity: Continuity,
    clock: Clock,
}

impl Default for TsWriter {
    fn default() -> Self {
        TsWriter::new()
    }
}

impl TsWriter {
    pub fn new() -> Self {
        let [program_high, program_low] = PROGRAM.to_be_bytes();
        let [pid_high, pid_low] = PMT_PID.to_be_bytes();
        let program = program(None, None);
        TsWriter {
            video: None,
            audio: None,
            version: 0,
            pat: section(PAT_PID, PAT, 1, 0, &[program_high, program_low, 0xE0 | pid_high, pid_low]),
            pmt: section(PMT_PID, PMT, PROGRAM, 0, &program),
            program,
            pat_continuity: Continuity::default(),
            pmt_continuity: Continuity::default(),
            video_continuity: Continuity::default(),
            audio_continuity: Continuity::default(),
            clock: Clock::default(),
        }
    }

    /// The table of the program gets another version if it changes.
    pub fn set_tracks(&mut self, tracks: &Tracks) {
        let (had_video, is_first) = (self.has_video(), self.video.is_none() && self.audio.is_none());
        let first = |kind| tracks.iter().filter(|track| track.codec.kind() == kind).find_map(sender);
        (self.video, self.audio) = (first(TrackKind::Video), first(TrackKind::Audio));
        if had_video != self.has_video() {
            self.clock.hand_over();
        }
        let program = program(self.video.as_ref(), self.audio.as_ref());
        if program != self.program {
            self.version = (self.version + u8::from(!is_first)) & 0x1F;
            self.pmt = section(PMT_PID, PMT, PROGRAM, self.version, &program);
            self.program = program;
        }
    }

    pub fn has_video(&self) -> bool {
        self.video.is_some()
    }

    pub fn has_sound_only(&self) -> bool {
        self.video.is_none() && self.audio.is_some()
    }

    /// The kind of a frame that [`TsWriter::frame`] writes.
    pub fn kind_of(&self, frame: &Frame) -> Option<TrackKind> {
        let track = |sender: &Option<Sender>| sender.as_ref().map(|sender| sender.track);
        kind_of(frame, track(&self.video), track(&self.audio))
    }

    /// PAT and PMT, a packet each.
    pub fn tables(&mut self, out: &mut BytesMut) {
        write_table(&self.pat, &mut self.pat_continuity, out);
        write_table(&self.pmt, &mut self.pmt_continuity, out);
    }

    /// One frame as a PES packet. Nothing is written if it is of no track that is carried, or empty, or too large for its form.
    pub fn frame(&mut self, frame: &Frame, out: &mut BytesMut) {
        let Some(kind) = self.kind_of(frame) else { return };
        let has_video = self.has_video();
        let is_video = kind == TrackKind::Video;
        let Some(sender) = (if is_video { &self.video } else { &self.audio }) else { return };
        let front = front(sender.codec, frame);
        let mut adts = [0; ADTS_HEADER_BYTES];
        let pes;
        let mut pieces = Pieces::from_slice(&[&[], &front]);
        if !sender.form.append(frame, &mut adts, &mut pieces) {
            return;
        }
        let payload_bytes = pieces.iter().map(|piece| piece.len()).sum();
        let (dts, pts) = (ticks(frame.dts), ticks(frame.dts.offset(frame.cts.into())));
        pes = pes_header(sender.stream_id, Some((pts, dts)), payload_bytes);
        // Only a picture may have no length (§2.4.3.7).
        if pes[4..6] == [0, 0] && !is_video {
            return;
        }
        pieces[0] = &pes;
        out.reserve((payload_bytes / BODY_BYTES + 3) * PACKET_BYTES);
        let carries_clock = is_video || !has_video;
        let clock = if carries_clock {
            let continuity = if is_video { self.video_continuity } else { self.audio_continuity };
            Some(self.clock.carrier(dts, |moment| write_clock(sender.pid, continuity, moment, out)))
        } else {
            let moment = self.clock.other(dts);
            moment.into_iter().for_each(|moment| write_clock(VIDEO_PID, self.video_continuity, moment, out));
            None
        };
        let signs = Signs { clock, is_key: frame.key && carries_clock };
        let continuity = if is_video { &mut self.video_continuity } else { &mut self.audio_continuity };
        write_packets(sender.pid, continuity, signs, &pieces, out);
    }
}

/// Whether a track has a place.
pub fn carries(track: &Track) -> bool {
    sender(track).is_some()
}

fn sender(track: &Track) -> Option<Sender> {
    let (stream_type, form, descriptors) = match track.codec {
        Codec::Opus => {
            let TrackShape::Audio { channels: channels @ 0..=2, .. } = track.shape else { return None };
            let mut descriptors = registration(OPUS);
            // Where nothing is said of the channels it may be two.
            descriptors.extend_from_slice(&[EXTENSION_DESCRIPTOR, 2, 0x80, if channels == 0 { 2 } else { channels }]);
            (PRIVATE_DATA, Form::Plain, descriptors)
        }
        _ => {
            let (stream_type, form) = form(track)?;
            (stream_type, form, if track.codec == Codec::H265 { registration(b"HEVC") } else { SmallVec::new() })
        }
    };
    let (pid, stream_id) = match (track.codec.kind(), track.codec) {
        (TrackKind::Video, _) => (VIDEO_PID, VIDEO_ID),
        (_, Codec::Opus) => (AUDIO_PID, PRIVATE_ID),
        _ => (AUDIO_PID, AUDIO_ID),
    };
    Some(Sender { track: track.id, codec: track.codec, pid, stream_id, stream_type, descriptors, form })
}

fn registration(name: &[u8; 4]) -> SmallVec<[u8; 12]> {
    let mut descriptor = SmallVec::from_slice(&[REGISTRATION_DESCRIPTOR, name.len() as u8]);
    descriptor.extend_from_slice(name);
    descriptor
}

/// The table of the program: whose clock it has, and its streams.
fn program(video: Option<&Sender>, audio: Option<&Sender>) -> SmallVec<[u8; 64]> {
    let clock_pid = video.or(audio).map_or(NO_PID, |sender| sender.pid);
    let mut program = SmallVec::from_slice(&[0xE0 | (clock_pid >> 8) as u8, clock_pid as u8, 0xF0, 0]);
    for sender in video.into_iter().chain(audio) {
        let [pid_high, pid_low] = sender.pid.to_be_bytes();
        program.extend_from_slice(&[sender.stream_type, 0xE0 | pid_high, pid_low, 0xF0, sender.descriptors.len() as u8]);
        program.extend_from_slice(&sender.descriptors);
    }
    program
}

/// What stands in front of everything else of a frame: the delimiter of a picture, the control header of Opus.
fn front(codec: Codec, frame: &Frame) -> SmallVec<[u8; 16]> {
    match codec {
        // Slices of any kind follow (H.264 §7.4.2.4).
        Codec::H264 => SmallVec::from_slice(&[0, 0, 0, 1, 0x09, 0xF0]),
        // The same (H.265 §7.4.3.5), in the picture's temporal layer (§7.4.2.2).
        Codec::H265 => SmallVec::from_slice(&[0, 0, 0, 1, 0x46, temporal_layer(frame), 0x50]),
        Codec::Opus => {
            let mut header = SmallVec::from_slice(&[0x7F, 0xE0]);
            header.extend(std::iter::repeat_n(0xFF, frame.data.len() / 255));
            header.push((frame.data.len() % 255) as u8);
            header
        }
        _ => SmallVec::new(),
    }
}

/// `nuh_temporal_id_plus1` of a picture's slices.
fn temporal_layer(frame: &Frame) -> u8 {
    let slice = canonical_units(&frame.data).find(|nal| nal.first().is_some_and(|header| h265::nal_type(*header) < 32));
    slice.and_then(|nal| nal.get(1)).map_or(1, |header| header & 7).max(1)
}

#[cfg(test)]
mod tests;
