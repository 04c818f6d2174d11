//! Media events → an MPEG-2 program stream, as GB/T 28181 Annex C wants it.
//!
//! ISO/IEC 13818-1 §2.5.3.3 (pack), §2.5.3.5 (system header), §2.5.4 (stream map), §2.4.3.6 (PES). Each frame is a pack of its own: pack
//! header, at a key picture (in a stream without picture: always) system header and stream map, then PES packets of [`PES_BYTES_MAX`] at most, the
//! first with the times. H.264 and H.265 have start codes of four bytes, parameter sets in front of key pictures, and no access unit delimiters: so
//! cameras write it. The first track of each kind is taken, if its codec has a place: AAC behind ADTS, MP3, G.711 at 8 kHz. Nothing is
//! copied here: pieces go to a sink. Not here: RTP.

use bytes::Bytes;
use smallvec::SmallVec;

use super::{PTS_BITS, PTS_PER_SECOND};
use crate::format::rtp::payload::ticks_of_micros;
use crate::media::aac::AdtsHeader;
use crate::media::nal::canonical_units;
use crate::media::{Codec, Frame, MediaTime, Track, TrackId, TrackKind, TrackShape, Tracks};

/// The payload of one PES packet: its length field holds no more than 65,535, headers included.
pub const PES_BYTES_MAX: usize = 65_000;

const VIDEO_ID: u8 = 0xE0;
const AUDIO_ID: u8 = 0xC0;
/// What the stream announces as its rate at most, in 50 bytes per second: 40 Mb/s.
const MUX_RATE: u32 = 100_000;
/// Media time zero: times may begin a little before it.
const BEGIN_TICKS: i64 = PTS_PER_SECOND as i64;
/// What reads on goes on from the last pack's time unless that is further ahead.
const CLOCK_STEP_TICKS: i64 = 10 * PTS_PER_SECOND as i64;
const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// One track on its way out.
struct Sender {
    track: TrackId,
    stream_type: u8,
    form: Form,
}

enum Form {
    /// Parameter sets of a key picture.
    Picture(Vec<Bytes>),
    Adts(AdtsHeader),
    Plain,
}

/// Writes one stream.
#[derive(Default)]
pub struct ProgramWriter {
    video: Option<Sender>,
    audio: Option<Sender>,
    /// Of the stream map: grows when that changes.
    version: u8,
    map_due: bool,
    clock_ticks: Option<i64>,
}

/// What a track is called in a stream map, and how it is written. `None`: it has no place there.
fn form(track: &Track) -> Option<(u8, Form)> {
    Some(match track.codec {
        Codec::H264 => (0x1B, Form::Picture(track.parameter_sets())),
        Codec::H265 => (0x24, Form::Picture(track.parameter_sets())),
        Codec::Aac => (0x0F, Form::Adts(AdtsHeader::from_config(&track.config)?)),
        Codec::G711A if is_narrow(track) => (0x90, Form::Plain),
        Codec::G711U if is_narrow(track) => (0x91, Form::Plain),
        // MPEG-2 audio has half the rates of MPEG-1.
        Codec::Mp3 if matches!(track.shape, TrackShape::Audio { sample_rate: 1..32_000, .. }) => (0x04, Form::Plain),
        Codec::Mp3 => (0x03, Form::Plain),
        Codec::G711A | Codec::G711U | Codec::Av1 | Codec::Vp8 | Codec::Vp9 | Codec::Opus | Codec::Script => return None,
    })
}

/// Whether a sound has 8 kHz and one channel, or says nothing else: all that is understood of G.711 without words.
pub fn is_narrow(track: &Track) -> bool {
    matches!(track.shape, TrackShape::Audio { sample_rate: 0 | 8_000, channels: 0 | 1 })
}

/// Which tracks a program stream carries, and which it leaves out: names of codecs.
pub fn carried(tracks: &Tracks) -> (Vec<&'static str>, Vec<&'static str>) {
    let (mut carried, mut left_out) = (Vec::new(), Vec::new());
    for track in tracks.iter().filter(|track| track.codec.kind() != TrackKind::Data) {
        let is_first = tracks.first(track.codec.kind()).is_some_and(|first| first.id == track.id);
        if is_first && form(track).is_some() { &mut carried } else { &mut left_out }.push(track.codec.name());
    }
    (carried, left_out)
}

fn sender(tracks: &Tracks, kind: TrackKind) -> Option<Sender> {
    let track = tracks.first(kind)?;
    let (stream_type, form) = form(track)?;
    Some(Sender { track: track.id, stream_type, form })
}

impl ProgramWriter {
    pub fn set_tracks(&mut self, tracks: &Tracks) {
        let types = |writer: &Self| [&writer.video, &writer.audio].map(|sender| sender.as_ref().map(|sender| sender.stream_type));
        let before = types(self);
        self.video = sender(tracks, TrackKind::Video);
        self.audio = sender(tracks, TrackKind::Audio);
        if before != types(self) {
            self.version = self.version.wrapping_add(1) & 0x1F;
            self.map_due = true;
        }
    }

    pub fn has_video(&self) -> bool {
        self.video.is_some()
    }

    /// The kind of a frame that [`ProgramWriter::frame`] writes.
    pub fn kind_of(&self, frame: &Frame) -> Option<TrackKind> {
        let is_of = |sender: &Option<Sender>| sender.as_ref().is_some_and(|sender| sender.track == frame.track);
        match () {
            () if is_of(&self.video) => Some(TrackKind::Video),
            () if is_of(&self.audio) => Some(TrackKind::Audio),
            () => None,
        }
    }

    /// A media time as it stands in the stream, in 90 kHz, before it is cut to 33 bits.
    pub fn ticks(time: MediaTime) -> i64 {
        BEGIN_TICKS + ticks_of_micros(time.as_micros(), PTS_PER_SECOND)
    }

    /// Writes one frame. `false`: it is of no track that is carried, or empty, or too large for ADTS.
    pub fn frame(&mut self, frame: &Frame, sink: &mut dyn FnMut(&[u8])) -> bool {
        let Some(kind) = self.kind_of(frame) else { return false };
        let sender = if kind == TrackKind::Video { &self.video } else { &self.audio };
        let Some(sender) = sender else { return false };
        let adts;
        let mut pieces: SmallVec<[&[u8]; 32]> = SmallVec::new();
        match &sender.form {
            Form::Picture(sets) => {
                let sets = sets.iter().filter(|_| frame.key).map(|set| &set[..]);
                for nal in sets.chain(canonical_units(&frame.data)).filter(|nal| !nal.is_empty()) {
                    pieces.push(&START_CODE);
                    pieces.push(nal);
                }
            }
            Form::Adts(header) => {
                let Some(header) = header.of(frame.data.len()) else { return false };
                adts = header;
                pieces.push(&adts);
                pieces.push(&frame.data);
            }
            Form::Plain => pieces.push(&frame.data),
        }
        if frame.data.is_empty() || pieces.is_empty() {
            return false;
        }
        let (dts, pts) = (Self::ticks(frame.dts), Self::ticks(frame.dts.offset(frame.cts.into())));
        sink(&pack_header(&mut self.clock_ticks, dts));
        let begins = self.video.is_none() || frame.key && kind == TrackKind::Video;
        if begins || std::mem::take(&mut self.map_due) {
            self.map_due = false;
            sink(&self.system_header());
            sink(&self.stream_map());
        }
        write_pes(if kind == TrackKind::Video { VIDEO_ID } else { AUDIO_ID }, pts, dts, &pieces, sink);
        true
    }

    fn system_header(&self) -> SmallVec<[u8; 24]> {
        let (videos, audios) = (u8::from(self.video.is_some()), u8::from(self.audio.is_some()));
        let mut header = SmallVec::from_slice(&[0, 0, 1, 0xBB, 0, 6 + 3 * (videos + audios)]);
        let rate: u32 = 1 << 23 | MUX_RATE << 1 | 1;
        header.extend_from_slice(&rate.to_be_bytes()[1..]);
        header.extend_from_slice(&[audios << 2, 0x20 | videos, 0x7F]);
        if self.video.is_some() {
            // Buffers in units of 1024 bytes: 2 MiB.
            header.extend_from_slice(&[VIDEO_ID, 0xE8, 0]);
        }
        if self.audio.is_some() {
            // Of 128 bytes: 64 KiB.
            header.extend_from_slice(&[AUDIO_ID, 0xC2, 0]);
        }
        header
    }

    fn stream_map(&self) -> SmallVec<[u8; 32]> {
        let streams = [(&self.video, VIDEO_ID), (&self.audio, AUDIO_ID)];
        let entries = streams.into_iter().filter_map(|(sender, id)| Some((sender.as_ref()?.stream_type, id)));
        let entries: SmallVec<[(u8, u8); 2]> = entries.collect();
        let entries_bytes = 4 * entries.len() as u8;
        let mut map =
            SmallVec::from_slice(&[0, 0, 1, 0xBC, 0, 10 + entries_bytes, 0xE0 | self.version, 0xFF, 0, 0, 0, entries_bytes]);
        for (stream_type, id) in entries {
            map.extend_from_slice(&[stream_type, id, 0, 0]);
        }
        let checksum = crc32(&map);
        map.extend_from_slice(&checksum.to_be_bytes());
        map
    }
}

/// The clock never goes back by the little that sound and picture are out of order.
fn pack_header(last_ticks: &mut Option<i64>, ticks: i64) -> [u8; 14] {
    let ahead = last_ticks.filter(|last| (0..CLOCK_STEP_TICKS).contains(&(last - ticks)));
    let ticks = ahead.unwrap_or(ticks);
    *last_ticks = Some(ticks);
    let clock = in_33_bits(ticks);
    let bits = 1u64 << 46
        | (clock >> 30) << 43
        | 1 << 42
        | (clock >> 15 & 0x7FFF) << 27
        | 1 << 26
        | (clock & 0x7FFF) << 11
        | 1 << 10
        | 1;
    let mut header = [0; 14];
    header[..4].copy_from_slice(&[0, 0, 1, 0xBA]);
    header[4..10].copy_from_slice(&bits.to_be_bytes()[2..]);
    header[10..13].copy_from_slice(&(MUX_RATE << 2 | 3).to_be_bytes()[1..]);
    // No stuffing.
    header[13] = 0xF8;
    header
}

fn in_33_bits(ticks: i64) -> u64 {
    ticks.cast_unsigned() & ((1 << PTS_BITS) - 1)
}

/// The payload as packets, cut wherever they are full.
fn write_pes(id: u8, pts: i64, dts: i64, pieces: &[&[u8]], sink: &mut dyn FnMut(&[u8])) {
    let mut left: usize = pieces.iter().map(|piece| piece.len()).sum();
    let (mut room, mut is_first) = (0, true);
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            if room == 0 {
                room = left.min(PES_BYTES_MAX);
                sink(&pes_header(id, is_first.then_some((pts, dts)), room));
                is_first = false;
            }
            let (now, later) = rest.split_at(room.min(rest.len()));
            sink(now);
            (room, left, rest) = (room - now.len(), left - now.len(), later);
        }
    }
}

/// `times`: the payload begins with a frame, which has these.
fn pes_header(id: u8, times: Option<(i64, i64)>, payload_bytes: usize) -> SmallVec<[u8; 19]> {
    const ALIGNED: u8 = 0x04;
    let mut header: SmallVec<[u8; 19]> = SmallVec::from_slice(&[0, 0, 1, id, 0, 0, 0x80, 0, 0]);
    if let Some((pts, dts)) = times {
        header[6] |= ALIGNED;
        header[7] = if pts == dts { 0x80 } else { 0xC0 };
        header.extend_from_slice(&time(if pts == dts { 0b0010 } else { 0b0011 }, pts));
        if pts != dts {
            header.extend_from_slice(&time(0b0001, dts));
        }
    }
    header[8] = header.len() as u8 - 9;
    // `PES_BYTES_MAX` leaves room for the header.
    let length = (header.len() - 6 + payload_bytes) as u16;
    header[4..6].copy_from_slice(&length.to_be_bytes());
    header
}

fn time(prefix: u8, ticks: i64) -> [u8; 5] {
    let ticks = in_33_bits(ticks);
    let byte = |shift: u32| (ticks >> shift) as u8;
    [prefix << 4 | (byte(30) & 7) << 1 | 1, byte(22), byte(14) | 1, byte(7), byte(0) << 1 | 1]
}

/// Annex A: of all bytes up to the checksum.
fn crc32(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x04C1_1DB7;
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| crc << 1 ^ if crc >> 31 == 1 { POLYNOMIAL } else { 0 })
    })
}

#[cfg(test)]
mod tests;
