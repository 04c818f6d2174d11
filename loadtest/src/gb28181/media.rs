//! What a device sends: the access units of a clip in the order of their decoding times, as they stand in a program stream (Annex B, ADTS,
//! G.711). From an FLV file (`flv.rs`), from a program stream as it is (`packs.rs`), or from the generator's own clip, each picture of which carries a mark.

use super::{flv, packs};
use crate::clip::{Clip, Shape};
use crate::mark::{MARK_BYTES, Mark};
use crate::poll::NANOS_PER_SECOND;

/// Ticks of all times here, per second.
pub const TICKS_PER_SECOND: u64 = 90_000;
const START_CODE: [u8; 4] = [0, 0, 0, 1];
/// Of the generator's clip there are whole seconds, so that every pass is like the one before.
const FIVE_SECONDS: u64 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VideoCodec {
    H264,
    H265,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AudioCodec {
    Aac,
    Alaw,
    Ulaw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Video {
        key: bool,
    },
    Audio,
    /// A pack of a program stream that another program has made.
    Pack {
        last: bool,
    },
}

/// One access unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    pub kind: Kind,
    /// From the clip's beginning, in ticks.
    pub dts: u64,
    pub pts: u64,
    pub data: Vec<u8>,
    /// Where in `data` a mark's NAL unit stands, behind its start code.
    pub mark_at: Option<usize>,
}

impl Unit {
    /// Says at what time and as which it is sent, if it can.
    pub fn stamp(&self, mark: &Mark, out: &mut [u8]) {
        if let Some(at) = self.mark_at {
            out[at..at + MARK_BYTES - 4].copy_from_slice(&mark.encode()[4..]);
        }
    }
}

#[derive(Debug)]
pub struct Media {
    pub video: Option<VideoCodec>,
    pub audio: Option<AudioCodec>,
    pub units: Vec<Unit>,
    /// Of one pass, in ticks.
    pub duration: u64,
}

impl Media {
    /// The clip of an FLV file, or a program stream.
    pub fn from_file(bytes: &[u8]) -> Result<Media, &'static str> {
        if bytes.starts_with(&packs::PACK) {
            return packs::read(bytes);
        }
        let mut media = flv::read(bytes)?;
        media.units.sort_by_key(|unit| unit.dts);
        let last = media.units.last().ok_or("an FLV file without frames")?.dts;
        let last_but_one = media.units.iter().rev().map(|unit| unit.dts).find(|dts| *dts < last).unwrap_or(last);
        media.duration = 2 * last - last_but_one + u64::from(last == last_but_one);
        Ok(media)
    }

    /// The generator's clip, with its rate, its GOPs and its marks.
    pub fn from_clip(shape: Shape) -> Media {
        let clip = Clip::new(shape);
        let (frames, gop) = (u64::from(shape.frames_per_second), clip.frames_per_gop as u64);
        // A whole number of GOPs, at least five seconds.
        let count = (FIVE_SECONDS * frames).div_ceil(gop) * gop;
        let duration = count * TICKS_PER_SECOND / frames;
        let ticks = |frame: u64| frame * TICKS_PER_SECOND / frames;
        let video = (0..count).map(|at| {
            let planned = clip.video(at);
            let kind = Kind::Video { key: planned.key };
            let mut data = Vec::new();
            if planned.key {
                clip.codecs.parameter_sets.iter().for_each(|set| put_nal(set, &mut data));
            }
            let mark_at = Some(data.len() + START_CODE.len());
            data.resize(data.len() + MARK_BYTES, 0);
            put_start_code(data.len() - MARK_BYTES, &mut data);
            put_nals(planned.data, &mut data);
            put_nals(&planned.filler.concat(), &mut data);
            Unit { kind, dts: ticks(at), pts: ticks(at + u64::from(planned.delay)), data, mark_at }
        });
        let nanos = duration as u128 * u128::from(NANOS_PER_SECOND) / u128::from(TICKS_PER_SECOND);
        let audio = (0..nanos as u64 / clip.audio_nanos).map(|at| {
            let time = at * clip.audio_nanos * 9 / 100_000;
            let data = adts(&clip.codecs.audio_config, clip.audio(at));
            Unit { kind: Kind::Audio, dts: time, pts: time, data, mark_at: None }
        });
        let mut units: Vec<Unit> = video.chain(audio).collect();
        units.sort_by_key(|unit| unit.dts);
        Media { video: Some(VideoCodec::H264), audio: Some(AudioCodec::Aac), units, duration }
    }

    /// Where a reader begins who wants that time: the last keyframe up to it.
    pub fn key_at(&self, ticks: u64) -> usize {
        let keys =
            self.units.iter().enumerate().filter(|(_, unit)| unit.kind == Kind::Video { key: true } || self.video.is_none());
        keys.take_while(|(_, unit)| unit.dts <= ticks).last().map_or(0, |(at, _)| at)
    }

    pub fn bytes(&self) -> usize {
        self.units.iter().map(|unit| unit.data.len()).sum()
    }
}

fn put_start_code(at: usize, data: &mut [u8]) {
    data[at..at + START_CODE.len()].copy_from_slice(&START_CODE);
}

/// A NAL unit behind a start code.
pub fn put_nal(nal: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&START_CODE);
    out.extend_from_slice(nal);
}

/// NAL units, each behind its 4-byte length, behind start codes.
pub fn put_nals(mut unit: &[u8], out: &mut Vec<u8>) {
    while let Some((length, rest)) = unit.split_first_chunk::<4>() {
        let (nal, rest) = rest.split_at((u32::from_be_bytes(*length) as usize).min(rest.len()));
        put_nal(nal, out);
        unit = rest;
    }
}

/// A raw AAC frame behind an ADTS header (ISO/IEC 13818-7 §6.2) that says what an AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1) says.
pub fn adts(config: &[u8], raw: &[u8]) -> Vec<u8> {
    let [first, second] = config.first_chunk().copied().unwrap_or([0x12, 0x10]);
    let profile = (first >> 3).saturating_sub(1) & 3;
    let (rate, channels) = ((first & 7) << 1 | second >> 7, second >> 3 & 7);
    let length = raw.len() + 7;
    let mut out = vec![0xFF, 0xF1, profile << 6 | rate << 2 | channels >> 2, channels << 6 | (length >> 11) as u8];
    out.extend_from_slice(&[(length >> 3) as u8, (length << 5) as u8 | 0x1F, 0xFC]);
    out.extend_from_slice(raw);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { frames_per_second: 30, gop_ms: 2000, bits_per_second: 2_000_000 };

    #[test]
    fn the_generators_clip_has_its_rate_and_its_marks() {
        let media = Media::from_clip(SHAPE);
        assert_eq!(media.duration, 6 * TICKS_PER_SECOND);
        let rate = media.bytes() as f64 * 8.0 / 6.0;
        assert!((rate / 2e6 - 1.0).abs() < 0.2, "{rate} bit/s");
        assert!(media.units.windows(2).all(|pair| pair[0].dts <= pair[1].dts));
        for (sequence, unit) in (0..).zip(media.units.iter().filter(|unit| unit.kind != Kind::Audio)) {
            let mark = Mark { sent: 7, sequence, publisher: 3 };
            let mut data = unit.data.clone();
            unit.stamp(&mark, &mut data);
            assert_eq!(Mark::find(&data), Some(mark));
            let at = unit.mark_at.unwrap();
            assert_eq!((&data[at - 4..at], &data[at + MARK_BYTES - 4..][..4]), (&START_CODE[..], &START_CODE[..]));
        }
    }

    #[test]
    fn a_seek_begins_at_a_keyframe() {
        let media = Media::from_clip(SHAPE);
        for (seconds, expected) in [(0, 0), (1, 0), (3, 2), (5, 4), (99, 4)] {
            let unit = &media.units[media.key_at(seconds * TICKS_PER_SECOND)];
            assert_eq!((unit.kind, unit.dts), (Kind::Video { key: true }, expected * TICKS_PER_SECOND), "{seconds} s");
        }
    }

    #[test]
    fn aac_stands_behind_a_header() {
        // AAC-LC, 44.1 kHz, stereo.
        assert_eq!(adts(&[0x12, 0x10], &[7; 100])[..8], [0xFF, 0xF1, 0x50, 0x80, 0x0D, 0x7F, 0xFC, 7]);
    }
}
