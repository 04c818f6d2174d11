//! Access units → MPEG-2 program stream packs, as cameras write them and as they should not (GB/T 28181 Annex C; ISO/IEC 13818-1 §2.4.3.6,
//! §2.5.3). One unit is one pack: pack header, with a keyframe system header and stream map, PES packets.

use super::media::{AudioCodec, Kind, VideoCodec};

const H264: u8 = 0x1B;
const H265: u8 = 0x24;
const AAC: u8 = 0x0F;
const G711A: u8 = 0x90;
const G711U: u8 = 0x91;
const VIDEO_ID: u8 = 0xE0;
const AUDIO_ID: u8 = 0xC0;
/// A PES packet is no longer, so that its length fits into 16 bits.
const PES_PAYLOAD_BYTES_MAX: usize = 65_400;
/// `01`, SCR base and extension with their marker bits (§2.5.3.3).
const SCR_BITS: u64 = 1 << 46 | 1 << 42 | 1 << 26 | 1 << 10 | 1;
const TIME_MASK: u64 = (1 << 33) - 1;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lengths {
    #[default]
    Right,
    Zero,
    /// A few bytes too short.
    Wrong,
}

/// How a device writes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    pub no_map: bool,
    pub no_system_header: bool,
    pub lengths: Lengths,
    /// The stream map calls H.265 what is H.264's name.
    pub h265_as_h264: bool,
    /// Sound without a pack header of its own.
    pub bare_audio: bool,
}

/// The codecs that the stream map tells.
#[derive(Clone, Copy, Debug)]
pub struct Streams {
    pub video: Option<VideoCodec>,
    pub audio: Option<AudioCodec>,
}

/// One pack on its way out, kept for its capacity.
#[derive(Default)]
pub struct Pack {
    pub bytes: Vec<u8>,
    /// Where PES packets end.
    pub ends: Vec<usize>,
    /// Where the first payload begins.
    pub payload_at: usize,
}

impl Style {
    /// `pts` and `dts` in ticks of 90 kHz, of any size.
    pub fn write(&self, streams: Streams, kind: Kind, pts: u64, dts: u64, data: &[u8], out: &mut Pack) {
        out.bytes.clear();
        out.ends.clear();
        let has_map = match kind {
            Kind::Video { key } => key,
            Kind::Audio => streams.video.is_none(),
            // It has been written already.
            Kind::Pack { .. } => return out.bytes.extend_from_slice(data),
        };
        if !(self.bare_audio && kind == Kind::Audio) {
            put_pack_header(dts, &mut out.bytes);
        }
        if has_map && !self.no_system_header {
            put_system_header(streams, &mut out.bytes);
        }
        if has_map && !self.no_map {
            self.put_map(streams, &mut out.bytes);
        }
        let id = if kind == Kind::Audio { AUDIO_ID } else { VIDEO_ID };
        let mut times = Some((pts, dts));
        for piece in data.chunks(PES_PAYLOAD_BYTES_MAX) {
            let is_first = times.is_some();
            let lengths = if kind == Kind::Audio { Lengths::Right } else { self.lengths };
            put_pes_header(id, times.take(), piece.len(), lengths, &mut out.bytes);
            if is_first {
                out.payload_at = out.bytes.len();
            }
            out.bytes.extend_from_slice(piece);
            out.ends.push(out.bytes.len());
        }
    }

    fn put_map(&self, Streams { video, audio }: Streams, out: &mut Vec<u8>) {
        let video = video.map(|codec| match codec {
            VideoCodec::H265 if !self.h265_as_h264 => H265,
            VideoCodec::H264 | VideoCodec::H265 => H264,
        });
        let audio = audio.map(|codec| match codec {
            AudioCodec::Aac => AAC,
            AudioCodec::Alaw => G711A,
            AudioCodec::Ulaw => G711U,
        });
        let mut map = vec![0, 0, 1, 0xBC, 0, 0, 0xE0, 0xFF, 0, 0, 0, 0];
        for (stream_type, id) in [(video, VIDEO_ID), (audio, AUDIO_ID)] {
            map.extend(stream_type.iter().flat_map(|stream_type| [*stream_type, id, 0, 0]));
        }
        map[11] = map.len() as u8 - 12;
        map[5] = map.len() as u8 - 6 + 4;
        let checksum = crc32(&map);
        out.extend_from_slice(&map);
        out.extend_from_slice(&checksum.to_be_bytes());
    }
}

fn put_pack_header(scr: u64, out: &mut Vec<u8>) {
    let scr = scr & TIME_MASK;
    let bits = SCR_BITS | (scr >> 30) << 43 | (scr >> 15 & 0x7FFF) << 27 | (scr & 0x7FFF) << 11;
    out.extend_from_slice(&[0, 0, 1, 0xBA]);
    out.extend_from_slice(&bits.to_be_bytes()[2..]);
    // A rate that nobody reads, and no stuffing.
    out.extend_from_slice(&[0x02, 0x71, 0x03, 0xF8]);
}

/// §2.5.3.5, with bounds of the buffers of those streams that there are.
fn put_system_header(Streams { video, audio }: Streams, out: &mut Vec<u8>) {
    let bounds = [video.map(|_| [VIDEO_ID, 0xE0, 0xE8]), audio.map(|_| [AUDIO_ID, 0xC0, 0x20])];
    let length = 6 + 3 * bounds.iter().flatten().count() as u8;
    out.extend_from_slice(&[0, 0, 1, 0xBB, 0, length, 0x80, 0xCC, 0xF5]);
    out.extend_from_slice(&[u8::from(audio.is_some()) << 2, 0xE0 | u8::from(video.is_some()), 0x7F]);
    bounds.iter().flatten().for_each(|bound| out.extend_from_slice(bound));
}

/// `times`: PTS and DTS.
fn put_pes_header(id: u8, times: Option<(u64, u64)>, payload_bytes: usize, lengths: Lengths, out: &mut Vec<u8>) {
    let (flags, header_bytes) = match times {
        None => (0, 0),
        Some((pts, dts)) if pts == dts => (0x80, 5),
        Some(_) => (0xC0, 10),
    };
    let length = 3 + usize::from(header_bytes) + payload_bytes;
    let length = match lengths {
        Lengths::Right => length as u16,
        Lengths::Zero => 0,
        Lengths::Wrong => length.saturating_sub(20).max(1) as u16,
    };
    out.extend_from_slice(&[0, 0, 1, id]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&[0x88, flags, header_bytes]);
    if let Some((pts, dts)) = times {
        put_time(flags >> 6, pts, out);
        if pts != dts {
            put_time(1, dts, out);
        }
    }
}

fn put_time(prefix: u8, ticks: u64, out: &mut Vec<u8>) {
    let ticks = ticks & TIME_MASK;
    let high = prefix << 4 | (ticks >> 29) as u8 & 0x0E | 1;
    let middle = ((ticks >> 15 & 0x7FFF) as u16) << 1 | 1;
    let low = ((ticks & 0x7FFF) as u16) << 1 | 1;
    out.push(high);
    out.extend_from_slice(&middle.to_be_bytes());
    out.extend_from_slice(&low.to_be_bytes());
}

/// ISO/IEC 13818-1 Annex A.
fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| crc << 1 ^ if crc >> 31 == 1 { 0x04C1_1DB7 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAMS: Streams = Streams { video: Some(VideoCodec::H265), audio: Some(AudioCodec::Alaw) };
    const KEY: Kind = Kind::Video { key: true };

    fn written(style: Style, kind: Kind, pts: u64, dts: u64, data: &[u8]) -> Vec<u8> {
        let mut pack = Pack::default();
        style.write(STREAMS, kind, pts, dts, data, &mut pack);
        assert_eq!(pack.ends.last(), Some(&pack.bytes.len()));
        assert!(pack.bytes[pack.payload_at..].starts_with(&data[..data.len().min(9)]));
        pack.bytes
    }

    #[test]
    fn a_keyframe_has_all_headers_and_its_times() {
        let pack = written(Style::default(), KEY, 0x1_2345_6789, 0x1_2345_0000, &[9; 4]);
        let mut expected = vec![0, 0, 1, 0xBA, 0x66, 0x34, 0x54, 0x00, 0x04, 0x01, 0x02, 0x71, 0x03, 0xF8];
        expected.extend_from_slice(&[0, 0, 1, 0xBB, 0, 12, 0x80, 0xCC, 0xF5, 4, 0xE1, 0x7F, 0xE0, 0xE0, 0xE8, 0xC0, 0xC0, 0x20]);
        expected.extend_from_slice(&[0, 0, 1, 0xBC, 0, 18, 0xE0, 0xFF, 0, 0, 0, 8, 0x24, 0xE0, 0, 0, 0x90, 0xC0, 0, 0]);
        let body = expected.len() + 4;
        assert_eq!(pack[..expected.len()], expected);
        assert_eq!(crc32(&pack[32..body]), 0, "the checksum of a stream map with its checksum is none");
        let pes = [0, 0, 1, 0xE0, 0, 17, 0x88, 0xC0, 10, 0x39, 0x8D, 0x15, 0xCF, 0x13, 0x19, 0x8D, 0x15, 0, 1, 9, 9, 9, 9];
        assert_eq!(pack[body..], pes);
    }

    #[test]
    fn devices_leave_out_and_lie() {
        let with = |change: fn(&mut Style)| {
            let mut style = Style::default();
            change(&mut style);
            style
        };
        let has = |bytes: &[u8], id: u8| bytes.windows(4).any(|window| window == [0, 0, 1, id]);
        let length = |bytes: &[u8]| {
            let at = bytes.windows(4).position(|window| window == [0, 0, 1, 0xE0]).unwrap();
            u16::from_be_bytes([bytes[at + 4], bytes[at + 5]])
        };
        let plain = written(Style::default(), KEY, 1, 1, &[9; 100]);
        assert!(has(&plain, 0xBA) && has(&plain, 0xBB) && has(&plain, 0xBC) && length(&plain) == 108);
        assert!(!has(&written(with(|style| style.no_map = true), KEY, 1, 1, &[9; 100]), 0xBC));
        assert!(!has(&written(with(|style| style.no_system_header = true), KEY, 1, 1, &[9; 100]), 0xBB));
        assert_eq!(length(&written(with(|style| style.lengths = Lengths::Zero), KEY, 1, 1, &[9; 100])), 0);
        assert_eq!(length(&written(with(|style| style.lengths = Lengths::Wrong), KEY, 1, 1, &[9; 100])), 88);
        let lying = written(with(|style| style.h265_as_h264 = true), KEY, 1, 1, &[9; 100]);
        assert!(lying.windows(2).any(|window| window == [H264, VIDEO_ID]));
        assert!(!has(&written(with(|style| style.bare_audio = true), Kind::Audio, 1, 1, &[9; 100]), 0xBA));
        assert!(!has(&written(Style::default(), Kind::Video { key: false }, 1, 1, &[9; 100]), 0xBC));
    }

    #[test]
    fn a_large_picture_is_several_pes_packets_with_times_in_the_first() {
        let mut pack = Pack::default();
        Style::default().write(STREAMS, KEY, 5, 5, &[9; 150_000], &mut pack);
        assert_eq!(pack.ends.len(), 3);
        assert_eq!(pack.bytes[pack.ends[0]..][..9], [0, 0, 1, 0xE0, 0xFF, 0x7B, 0x88, 0, 0]);
    }
}
