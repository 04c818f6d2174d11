//! What publishers send: the frames of the server's built-in clip, in GOPs of the wanted length, padded to the wanted rate.
//!
//! The clip has short GOPs. A longer one is put together from several pieces, each the beginning of one of the clip's GOPs, and only
//! the first frame is announced as a keyframe: the others are IDR pictures too, which a decoder takes like any other. Pieces are cut
//! only where no displayed picture is missing. RTMP says itself what is a keyframe; over RTSP every IDR picture is one, so there the GOPs
//! are the clip's. Padding is a filler data NAL unit (H.264 §7.3.2.7) behind the slices.

use std::ops::Range;

use bytes::Bytes;
use shardcast::format::HevcForm;
use shardcast::format::flv_mux::{Muxed, Tag, TagMuxer};
use shardcast::media::h264::AvcConfig;
use shardcast::media::{Frame, MediaEvent, TrackKind, TrackShape, Tracks};
use shardcast::protocol::clip::clip_events;

use crate::mark::MARK_BYTES;
use crate::poll::NANOS_PER_SECOND;

/// A keyframe is this many times as large as the frames between.
const KEY_FACTOR: usize = 5;
/// Samples per AAC frame.
pub const AAC_SAMPLES: u64 = 1024;
/// FLV frame type, codec, packet type and composition time.
const VIDEO_HEAD_BYTES: usize = 5;
/// Length prefix, NAL header, trailing bits: a filler NAL unit is no smaller.
const FILLER_BYTES_MIN: usize = 6;
const NAL_TYPE_FILLER: u8 = 12;

/// What the operator wants of each stream.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub frames_per_second: u32,
    pub gop_ms: u64,
    pub bits_per_second: u64,
}

/// One access unit of the clip.
struct AccessUnit {
    data: Bytes,
    /// Presentation minus decoding time, in frames.
    delay: u32,
}

/// One access unit as it is sent.
pub struct Planned<'a> {
    pub key: bool,
    pub data: &'a Bytes,
    pub delay: u32,
    /// 4-byte length and header of the filler NAL unit, its bytes, its end; empty when there is none.
    pub filler: [&'a [u8]; 3],
}

struct Step {
    unit: usize,
    key: bool,
    filler: usize,
}

/// How the clip is coded.
#[derive(Clone, Debug)]
pub struct Codecs {
    /// Sequence parameter sets, then picture parameter sets.
    pub parameter_sets: Vec<Bytes>,
    /// AudioSpecificConfig.
    pub audio_config: Bytes,
    pub sample_rate: u32,
    pub channels: u8,
}

impl Codecs {
    fn new(tracks: &Tracks) -> Codecs {
        let config = |kind| tracks.first(kind).map(|track| track.config.clone()).unwrap_or_default();
        let AvcConfig { sps, pps, .. } = AvcConfig::parse(&config(TrackKind::Video)).expect("the clip has parameter sets");
        let (sample_rate, channels) = match tracks.first(TrackKind::Audio).map(|track| track.shape) {
            Some(TrackShape::Audio { sample_rate, channels }) if sample_rate > 0 => (sample_rate, channels),
            _ => (44_100, 2),
        };
        Codecs { parameter_sets: [sps, pps].concat(), audio_config: config(TrackKind::Audio), sample_rate, channels }
    }
}

/// The stream that every publisher sends, over and over.
pub struct Clip {
    units: Vec<AccessUnit>,
    steps: Vec<Step>,
    /// Per step: length prefix and header of its filler NAL unit.
    filler_heads: Vec<[u8; 5]>,
    filler: Vec<u8>,
    audio: Vec<Bytes>,
    /// Time between two audio frames, in nanoseconds.
    pub audio_nanos: u64,
    /// Metadata and sequence headers.
    pub config: Vec<Tag>,
    pub codecs: Codecs,
    pub frames_per_gop: usize,
}

impl Clip {
    pub fn new(shape: Shape) -> Clip {
        let events = clip_events();
        let tracks = events.iter().rev().find_map(|event| match event {
            MediaEvent::Tracks(tracks) => Some(tracks.clone()),
            _ => None,
        });
        let tracks = tracks.expect("the clip has tracks");
        let Muxed::Config(config) = TagMuxer::new(HevcForm::default()).push(&MediaEvent::Tracks(tracks.clone())) else {
            unreachable!("tracks make a config")
        };
        let frames = |kind| {
            let track = tracks.first(kind).map(|track| track.id);
            events.iter().filter_map(move |event| match event {
                MediaEvent::Frame(frame) if Some(frame.track) == track => Some(frame),
                _ => None,
            })
        };
        let video: Vec<&Frame> = frames(TrackKind::Video).collect();
        let audio: Vec<Bytes> = frames(TrackKind::Audio).map(|frame| frame.data.clone()).collect();
        let codecs = Codecs::new(&tracks);
        let sample_rate = u64::from(codecs.sample_rate);
        let audio_nanos = AAC_SAMPLES * NANOS_PER_SECOND / sample_rate;
        let audio_rate = audio.iter().map(Bytes::len).sum::<usize>() as u64 * 8 * sample_rate / AAC_SAMPLES / audio.len() as u64;
        let frame_micros = video[1].dts.micros_since(video[0].dts);
        let delay = |frame: &Frame| (i64::from(frame.cts) / frame_micros) as u32;
        let units = video.iter().map(|frame| AccessUnit { data: frame.data.clone(), delay: delay(frame) }).collect();
        let keys: Vec<usize> = (0..video.len()).filter(|at| video[*at].key).collect();
        let frames_per_gop = (u64::from(shape.frames_per_second) * shape.gop_ms / 1000).max(1) as usize;
        let mut clip = Clip {
            units,
            steps: vec![],
            filler_heads: vec![],
            filler: vec![],
            audio,
            audio_nanos,
            config,
            codecs,
            frames_per_gop,
        };
        clip.plan(&keys);
        clip.pad(shape, shape.bits_per_second.saturating_sub(audio_rate));
        clip
    }

    /// One GOP for each that the clip has, so that the plan's end leads to its beginning.
    fn plan(&mut self, keys: &[usize]) {
        let ends = keys[1..].iter().copied().chain([self.units.len()]);
        let gops: Vec<Range<usize>> = keys.iter().copied().zip(ends).map(|(from, to)| from..to).collect();
        let mut next = 0;
        for _ in &gops {
            let mut left = self.frames_per_gop;
            while left > 0 {
                let gop = gops[next % gops.len()].clone();
                next += 1;
                let length = self.longest_piece(gop.clone(), left);
                let first = left == self.frames_per_gop;
                let steps = (0..length).map(|at| Step { unit: gop.start + at, key: first && at == 0, filler: 0 });
                self.steps.extend(steps);
                left -= length;
            }
        }
    }

    /// The most frames, up to `limit`, from the beginning of `gop` that are displayed without a gap.
    fn longest_piece(&self, gop: Range<usize>, limit: usize) -> usize {
        let first_shown = self.units[gop.start].delay as usize;
        let mut last_shown = 0;
        let mut longest = 1;
        for (at, unit) in self.units[gop].iter().take(limit).enumerate() {
            last_shown = last_shown.max(at + unit.delay as usize);
            if last_shown - first_shown == at {
                longest = at + 1;
            }
        }
        longest
    }

    fn pad(&mut self, shape: Shape, bits_per_second: u64) {
        let gop_bytes = bits_per_second as usize / 8 * self.frames_per_gop / shape.frames_per_second as usize;
        let delta_bytes = gop_bytes / (self.frames_per_gop - 1 + KEY_FACTOR);
        for step in &mut self.steps {
            let wanted = delta_bytes * if step.key { KEY_FACTOR } else { 1 };
            let is = VIDEO_HEAD_BYTES + MARK_BYTES + self.units[step.unit].data.len();
            step.filler = wanted.checked_sub(is).filter(|filler| *filler >= FILLER_BYTES_MIN).unwrap_or(0);
            let [a, b, c, d] = (step.filler.saturating_sub(4) as u32).to_be_bytes();
            self.filler_heads.push([a, b, c, d, NAL_TYPE_FILLER]);
        }
        let longest = self.steps.iter().map(|step| step.filler).max().unwrap_or(0);
        self.filler = vec![0xFF; longest];
    }

    pub fn video(&self, number: u64) -> Planned<'_> {
        let at = (number % self.steps.len() as u64) as usize;
        let Step { unit, key, filler } = self.steps[at];
        let AccessUnit { data, delay } = &self.units[unit];
        let filler: [&[u8]; 3] = match filler {
            0 => [&[]; 3],
            bytes => [&self.filler_heads[at], &self.filler[..bytes - FILLER_BYTES_MIN], &[0x80]],
        };
        Planned { key, data, delay: *delay, filler }
    }

    pub fn audio(&self, number: u64) -> &Bytes {
        &self.audio[(number % self.audio.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gop_has_the_wanted_length_size_and_a_gapless_display_order() {
        for (frames_per_second, gop_ms, bits_per_second) in
            [(30, 2000, 2_000_000), (25, 1000, 500_000), (60, 5000, 20_000_000), (30, 33, 1_000_000)]
        {
            let clip = Clip::new(Shape { frames_per_second, gop_ms, bits_per_second });
            let count = clip.steps.len() as u64;
            let keys = (0..count).filter(|at| clip.video(*at).key).count();
            assert_eq!(clip.steps.len(), keys * clip.frames_per_gop);
            let mut shown: Vec<u64> = (0..count).map(|at| at + u64::from(clip.video(at).delay)).collect();
            shown.sort_unstable();
            assert!(shown.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{frames_per_second} fps, GOP {gop_ms} ms");
            let size = |at| {
                let planned = clip.video(at);
                VIDEO_HEAD_BYTES + MARK_BYTES + planned.data.len() + planned.filler.iter().map(|part| part.len()).sum::<usize>()
            };
            let bits: usize = (0..count).map(size).sum::<usize>() * 8;
            let rate = bits as f64 * f64::from(frames_per_second) / count as f64;
            assert!((rate / bits_per_second as f64 - 1.0).abs() < 0.2, "{rate} bit/s instead of {bits_per_second}");
        }
    }
}
