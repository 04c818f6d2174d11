//! Media events → an MPEG-2 program stream, as GB/T 28181 Annex C wants it.
//!
//! ISO/IEC 13818-1 §2.5.3.3 (pack), §2.5.3.5 (system header), §2.5.4 (stream map), §2.4.3.6 (PES). Each frame is a pack of its own: pack
//! header, at a key picture (in a stream without picture: always) system header and stream map, then PES packets of [`PES_BYTES_MAX`] at most, the
//! first with the times. H.264 and H.265 have start codes of four bytes, parameter sets in front of key pictures, and no access unit delimiters: so
//! cameras write it. The first track of each kind is taken, if its codec has a place: AAC behind ADTS, MP3, G.711 at 8 kHz. Nothing is
//! copied here: pieces go to a sink. Not here: RTP.

use smallvec::SmallVec;

use crate::format::pes::{Form, PTS_PER_SECOND, Pieces, crc32, form, in_33_bits, kind_of, pes_header, ticks};
use crate::media::aac::ADTS_HEADER_BYTES;
use crate::media::{Frame, TrackId, TrackKind, Tracks};

/// The payload of one PES packet: its length field holds no more than 65,535, headers included.
pub const PES_BYTES_MAX: usize = 65_000;

const VIDEO_ID: u8 = 0xE0;
const AUDIO_ID: u8 = 0xC0;
/// What the stream announces as its rate at most, in 50 bytes per second: 40 Mb/s.
const MUX_RATE: u32 = 100_000;
/// What reads on goes on from the last pack's time unless that is further ahead.
const CLOCK_STEP_TICKS: i64 = 10 * PTS_PER_SECOND as i64;

/// One track on its way out.
struct Sender {
    track: TrackId,
    stream_type: u8,
    form: Form,
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
        let track = |sender: &Option<Sender>| sender.as_ref().map(|sender| sender.track);
        kind_of(frame, track(&self.video), track(&self.audio))
    }

    /// Writes one frame. `false`: it is of no track that is carried, or empty, or too large for ADTS.
    pub fn frame(&mut self, frame: &Frame, sink: &mut dyn FnMut(&[u8])) -> bool {
        let Some(kind) = self.kind_of(frame) else { return false };
        let sender = if kind == TrackKind::Video { &self.video } else { &self.audio };
        let Some(sender) = sender else { return false };
        let mut header = [0; ADTS_HEADER_BYTES];
        let mut pieces = Pieces::new();
        if !sender.form.append(frame, &mut header, &mut pieces) {
            return false;
        }
        let (dts, pts) = (ticks(frame.dts), ticks(frame.dts.offset(frame.cts.into())));
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

#[cfg(test)]
mod tests;
