//! The bytes of a file: its head, and then a piece for each run of frames. Where the format allows, payloads are shared with the stream.

use bytes::{Bytes, BytesMut};

use crate::config::RecordFormat;
use crate::format::flv_mux::FlvMuxer;
use crate::format::mp4::{Fragment, FragmentWriter, Sample, init_segment_from};
use crate::format::ts::write::{TsWriter, carries};
use crate::format::{Envelope, HevcForm, Muxer, Packet};
use crate::media::{Frame, MediaEvent, TrackId, TrackKind, Tracks};

/// Writes one file. What it has written is undone by going back to a clone.
#[derive(Clone)]
pub enum Container {
    Flv {
        muxer: FlvMuxer,
        packets: Vec<Packet>,
    },
    /// `begin_micros`: what an edit list takes away from the pictures, and what the sound therefore comes earlier.
    Mp4 {
        writer: FragmentWriter,
        sequence: u32,
        begin_micros: i64,
    },
    Ts {
        writer: Box<TsWriter>,
        video: Option<TrackId>,
    },
}

impl Container {
    /// Appends the head of a file to `out`, in which something is shown from `shown_from` microseconds on; `None`: the format carries nothing
    /// of these tracks.
    pub fn begin(format: RecordFormat, tracks: &Tracks, shown_from: i64, out: &mut Vec<Bytes>) -> Option<Self> {
        match format {
            RecordFormat::Flv => {
                let mut muxer = FlvMuxer::new(HevcForm::Enhanced, Envelope::None);
                let mut packets = Vec::new();
                muxer.push(&MediaEvent::Tracks(tracks.clone()), &mut packets);
                out.extend(muxer.head());
                out.extend(packets.drain(..).flat_map(|packet| packet.parts));
                Some(Container::Flv { muxer, packets })
            }
            RecordFormat::Fmp4 | RecordFormat::Mp4 => {
                let writer = FragmentWriter::new(tracks)?;
                let begin_micros = shown_from.max(0);
                out.push(init_segment_from(tracks, begin_micros)?);
                Some(Container::Mp4 { writer, sequence: 0, begin_micros })
            }
            RecordFormat::Ts | RecordFormat::Hls => {
                tracks.iter().any(carries).then_some(())?;
                let mut writer = Box::new(TsWriter::new());
                writer.set_tracks(tracks);
                let video = tracks.first(TrackKind::Video).map(|track| track.id);
                Some(Container::Ts { writer, video })
            }
        }
    }

    /// Appends the frames, whose times begin near zero, each with how long it lasts in microseconds.
    pub fn append(&mut self, frames: &[(Frame, i64)], out: &mut Vec<Bytes>) {
        match self {
            Container::Flv { muxer, packets } => {
                for (frame, _) in frames {
                    muxer.push(&MediaEvent::Frame(frame.clone()), packets);
                }
                out.extend(packets.drain(..).flat_map(|packet| packet.parts));
            }
            Container::Mp4 { writer, sequence, begin_micros } => {
                let mut tracks = by_track(frames, |track| writer.carries(track));
                for (track, samples) in &mut tracks {
                    if !writer.is_video(*track) {
                        samples.iter_mut().for_each(|sample| sample.dts = sample.dts.offset(-*begin_micros));
                    }
                }
                if tracks.is_empty() {
                    return;
                }
                *sequence += 1;
                let tracks: Vec<(TrackId, &[Sample])> = tracks.iter().map(|(track, samples)| (*track, &samples[..])).collect();
                let parts = writer.fragment(&Fragment { sequence: *sequence, tracks: &tracks });
                out.push(parts.head);
                out.extend(parts.payload);
            }
            Container::Ts { writer, video } => {
                let payload: usize = frames.iter().map(|(frame, _)| frame.data.len()).sum();
                let mut bytes = BytesMut::with_capacity(payload + payload / 8 + 4 * 188 * frames.len());
                for (at, (frame, _)) in frames.iter().enumerate() {
                    if at == 0 || (frame.key && Some(frame.track) == *video) {
                        writer.tables(&mut bytes);
                    }
                    writer.frame(frame, &mut bytes);
                }
                out.push(bytes.freeze());
            }
        }
    }
}

/// The frames of each track that is carried, as samples.
fn by_track(frames: &[(Frame, i64)], carries: impl Fn(TrackId) -> bool) -> Vec<(TrackId, Vec<Sample>)> {
    let mut tracks: Vec<(TrackId, Vec<Sample>)> = Vec::new();
    for (frame, duration) in frames.iter().filter(|(frame, _)| carries(frame.track)) {
        let sample = Sample { data: frame.data.clone(), dts: frame.dts, duration: *duration, cts: frame.cts, key: frame.key };
        match tracks.iter_mut().find(|(track, _)| *track == frame.track) {
            Some((_, samples)) => samples.push(sample),
            None => tracks.push((frame.track, vec![sample])),
        }
    }
    tracks
}
