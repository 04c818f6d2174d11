//! Streams to measure with: real access units in groups of [`GROUP`], padded to 2 Mb/s as the load generator pads them.
//!
//! H.264 and AAC come from the server's built-in clip, H.265 and Opus from a capture. Pictures are padded by a filler NAL unit (H.264 §7.3.2.7,
//! H.265 §7.3.2.8) that holds bytes of real slices instead of FF, because code that looks for start codes cares what the bytes are.

use bytes::Bytes;
use shardcast::format::flv::{Demuxed, FlvDemuxer, TagReader};
use shardcast::media::{Codec, Frame, MediaEvent, MediaTime, Stamp, TrackKind, Tracks};
use shardcast::protocol::clip::CLIP;

use super::GROUP;

const HEVC_OPUS: &[u8] = include_bytes!("../../tests/corpus/flv/hevc_opus.flv");
const FILE_BYTES_MAX: usize = 1 << 20;
/// 59 of these and a key picture five times as large are 2 Mb/s at 30 pictures a second.
const PICTURE_BYTES: usize = 7_800;
const KEY_BYTES: usize = 5 * PICTURE_BYTES;
const PICTURE_MICROS: i64 = 33_333;
const AAC_MICROS: i64 = 23_220;
const OPUS_MICROS: i64 = 20_000;
const LENGTH_BYTES: usize = 4;

/// One track as a stream of its own that never ends; each call gives the next frame.
pub struct Feed {
    pub tracks: Tracks,
    group: Vec<MediaEvent>,
    step_micros: i64,
    next: usize,
}

impl Feed {
    pub fn new(codec: Codec) -> Feed {
        let (file, step_micros) = match codec {
            Codec::H264 => (CLIP, PICTURE_MICROS),
            Codec::Aac => (CLIP, AAC_MICROS),
            Codec::H265 => (HEVC_OPUS, PICTURE_MICROS),
            Codec::Opus => (HEVC_OPUS, OPUS_MICROS),
            _ => unreachable!("there is no sample of {}", codec.name()),
        };
        let (tracks, frames) = read(file, codec);
        let group = match codec.kind() {
            TrackKind::Video => pictures(codec, &frames),
            _ => frames.iter().cycle().take(GROUP).cloned().collect(),
        };
        Feed { tracks, group: group.into_iter().map(MediaEvent::Frame).collect(), step_micros, next: 0 }
    }

    pub fn announcement(&self) -> MediaEvent {
        MediaEvent::Tracks(self.tracks.clone())
    }

    /// The next frame; its times go on.
    pub fn next(&mut self) -> &MediaEvent {
        let micros = self.next as i64 * self.step_micros;
        let event = &mut self.group[self.next % GROUP];
        self.next += 1;
        if let MediaEvent::Frame(frame) = event {
            (frame.dts, frame.arrival) = (MediaTime::from_micros(micros), Stamp::from_nanos(micros.unsigned_abs() * 1_000));
        }
        event
    }

    /// When the last frame came.
    pub fn now(&self) -> Stamp {
        Stamp::from_nanos((self.next as u64).saturating_sub(1) * self.step_micros.unsigned_abs() * 1_000)
    }
}

/// The track of that codec alone, and its frames, without composition times.
fn read(file: &[u8], codec: Codec) -> (Tracks, Vec<Frame>) {
    const VALID: &str = "the sample is a valid FLV file";
    let (mut reader, mut demuxer, mut out) = (TagReader::new(FILE_BYTES_MAX), FlvDemuxer::new(), Vec::new());
    reader.push(file);
    while let Some((tag, timestamp_ms, body)) = reader.next_tag().expect(VALID) {
        demuxer.push(tag, timestamp_ms, body, Stamp::ZERO, &mut out).expect(VALID);
    }
    let tracks = demuxer.tracks().only(|track| track.codec == codec);
    let tracks = Tracks::new(tracks.iter().cloned().collect(), Bytes::new());
    let id = tracks.first(codec.kind()).expect("the sample has that track").id;
    let frames = out.into_iter().filter_map(|item| match item {
        Demuxed::Event(MediaEvent::Frame(frame)) if frame.track == id => Some(Frame { cts: 0, ..frame }),
        _ => None,
    });
    (tracks, frames.collect())
}

fn pictures(codec: Codec, frames: &[Frame]) -> Vec<Frame> {
    let filler_header: &[u8] = if codec == Codec::H265 { &[38 << 1, 1] } else { &[12] };
    let slices: Vec<u8> = frames.iter().flat_map(|frame| &frame.data[LENGTH_BYTES + 16..]).copied().collect();
    let key = frames.iter().find(|frame| frame.key).expect("the sample has a key picture");
    let others: Vec<&Frame> = frames.iter().filter(|frame| !frame.key).collect();
    let mut at = 0;
    let mut padded = |frame: &Frame, bytes: usize| {
        let mut data = frame.data.to_vec();
        let filler_bytes = bytes.saturating_sub(data.len() + LENGTH_BYTES).max(filler_header.len() + 1);
        data.extend_from_slice(&(filler_bytes as u32).to_be_bytes());
        data.extend_from_slice(filler_header);
        let end = data.len() + filler_bytes - filler_header.len() - 1;
        while data.len() < end {
            let piece = &slices[at..slices.len().min(at + end - data.len())];
            at = (at + piece.len()) % slices.len();
            data.extend_from_slice(piece);
        }
        without_start_codes(&mut data[end - (end - frame.data.len() - LENGTH_BYTES - filler_header.len())..]);
        data.push(0x80);
        Frame { data: data.into(), ..frame.clone() }
    };
    let first = padded(key, KEY_BYTES);
    let rest = others.iter().cycle().take(GROUP - 1).map(|frame| padded(frame, PICTURE_BYTES));
    std::iter::once(first).chain(rest).collect()
}

/// Lengths and joints may have made what a NAL unit cannot have in it.
fn without_start_codes(bytes: &mut [u8]) {
    for at in 2..bytes.len() {
        if bytes[at - 2..at] == [0, 0] && bytes[at] < 3 {
            bytes[at] = 3;
        }
    }
}
