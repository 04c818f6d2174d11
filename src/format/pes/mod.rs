//! What program and transport streams share: frames as elementary streams, the header of a PES packet, its clock, and the checksum of tables.
//!
//! ISO/IEC 13818-1 §2.4.3.6 (PES), Table 2-34 (stream types), Annex A (CRC). Pictures stand behind start codes of four bytes, key pictures
//! behind their parameter sets; AAC behind ADTS; MP3 and G.711 as they are. Nothing is copied here. The way back is in [`video`] and [`audio`].
//! Not here: packs, packets, tables.

pub mod announced;
pub mod audio;
pub mod video;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::format::rtp::payload::ticks_of_micros;
use crate::media::aac::{ADTS_HEADER_BYTES, AdtsHeader};
use crate::media::nal::canonical_units;
use crate::media::{Codec, Frame, MediaTime, Track, TrackId, TrackKind, TrackShape};

pub const PTS_BITS: u32 = 33;
pub const PTS_PER_SECOND: u32 = 90_000;
pub const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// Media time zero: times may begin a little before it.
const BEGIN_TICKS: i64 = PTS_PER_SECOND as i64;

/// A frame in the order of its bytes.
pub type Pieces<'a> = SmallVec<[&'a [u8]; 32]>;

/// How a track's frames are written.
#[derive(Clone, Debug)]
pub enum Form {
    /// Parameter sets of a key picture.
    Picture(Vec<Bytes>),
    Adts(AdtsHeader),
    Plain,
}

impl Form {
    /// Appends a frame; `header` is where what stands in front of it is kept. `false`: it is empty, or too large for ADTS.
    pub fn append<'a>(&'a self, frame: &'a Frame, header: &'a mut [u8; ADTS_HEADER_BYTES], pieces: &mut Pieces<'a>) -> bool {
        match self {
            Form::Picture(sets) => {
                let before = pieces.len();
                // What the picture has itself is not written twice.
                let is_due = |set: &&[u8]| frame.key && canonical_units(&frame.data).all(|nal| nal != *set);
                let sets = sets.iter().map(|set| &set[..]).filter(is_due);
                for nal in sets.chain(canonical_units(&frame.data)).filter(|nal| !nal.is_empty()) {
                    pieces.push(&START_CODE);
                    pieces.push(nal);
                }
                return !frame.data.is_empty() && pieces.len() > before;
            }
            Form::Adts(adts) => {
                let Some(adts) = adts.of(frame.data.len()) else { return false };
                *header = adts;
                pieces.push(header);
            }
            Form::Plain => {}
        }
        pieces.push(&frame.data);
        !frame.data.is_empty()
    }
}

/// The kind of a frame, where these tracks are carried.
pub fn kind_of(frame: &Frame, video: Option<TrackId>, audio: Option<TrackId>) -> Option<TrackKind> {
    match Some(frame.track) {
        track if track == video => Some(TrackKind::Video),
        track if track == audio => Some(TrackKind::Audio),
        _ => None,
    }
}

/// What a track is called in a table of streams, and how it is written. `None`: it has no place in every such table.
pub fn form(track: &Track) -> Option<(u8, Form)> {
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

/// A media time as it stands in the stream, in 90 kHz, before it is cut to 33 bits.
pub fn ticks(time: MediaTime) -> i64 {
    BEGIN_TICKS + ticks_of_micros(time.as_micros(), PTS_PER_SECOND)
}

pub fn in_33_bits(ticks: i64) -> u64 {
    ticks.cast_unsigned() & ((1 << PTS_BITS) - 1)
}

/// `times` (of presentation and decoding): the payload begins with a frame, which has these. A payload that is too long for the length field
/// has none, which only a picture in a transport stream may have.
pub fn pes_header(id: u8, times: Option<(i64, i64)>, payload_bytes: usize) -> SmallVec<[u8; 19]> {
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
    let length = u16::try_from(header.len() - 6 + payload_bytes).unwrap_or(0);
    header[4..6].copy_from_slice(&length.to_be_bytes());
    header
}

fn time(prefix: u8, ticks: i64) -> [u8; 5] {
    let ticks = in_33_bits(ticks);
    let byte = |shift: u32| (ticks >> shift) as u8;
    [prefix << 4 | (byte(30) & 7) << 1 | 1, byte(22), byte(14) | 1, byte(7), byte(0) << 1 | 1]
}

/// 33 bits in five bytes, with a marker behind 3, 15 and 15 of them. What has no markers is no time.
pub fn read_time(bytes: &[u8]) -> Option<u64> {
    let [a, b, c, d, e] = bytes.first_chunk::<5>()?.map(u64::from);
    (a & c & e & 1 == 1).then_some((a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1)
}

/// Annex A: of all bytes up to the checksum; zero over all with it.
pub fn crc32(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x04C1_1DB7;
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| crc << 1 ^ if crc >> 31 == 1 { POLYNOMIAL } else { 0 })
    })
}
