//! FLV tags in: tag bodies, which are also RTMP message bodies of type 8, 9 and 18, become media events.
//!
//! Spec: FLV 10.1 Annex E; Enhanced RTMP v2 for FourCC codecs; the private codec ids 12 (H.265) and 13 (Opus) that older encoders use.
//! Carries one video, one audio and one data track. Frames share the memory of the bodies, unless an encoder's NAL units have to be
//! rewritten. The caller bounds the size of a body. Not here: chunks, files ([`TagReader`] finds the tags in a byte stream), and
//! the mending of timestamps, which is the stream's.

mod body;
mod reader;
#[cfg(test)]
mod tests;

use bytes::{Bytes, BytesMut};

use self::body::{Coded, Part};
pub use self::reader::TagReader;
use super::amf0::{self, Amf0Error, Value};
use crate::media::aac::AacConfig;
use crate::media::h264::{self, AvcConfig};
use crate::media::h265::{self, HevcConfig};
use crate::media::nal::{ConfigError, canonical_access_unit};
use crate::media::opus::{self, OpusHead};
use crate::media::timeline::WireClock;
use crate::media::{Codec, Discard, Frame, MediaEvent, MediaTime, Stamp, Track, TrackId, TrackKind, TrackShape, Tracks, mp3};

/// The tag types that carry media; the numbers are also those of the RTMP messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TagType {
    Audio = 8,
    Video = 9,
    Script = 18,
}

impl TagType {
    pub const fn from_byte(byte: u8) -> Option<TagType> {
        match byte {
            8 => Some(TagType::Audio),
            9 => Some(TagType::Video),
            18 => Some(TagType::Script),
            _ => None,
        }
    }
}

/// What a tag became.
#[derive(Clone, Debug, PartialEq)]
pub enum Demuxed {
    Event(MediaEvent),
    /// The tag, or a part of it, was left out; the stream goes on.
    Discarded(Discard),
}

/// The peer's FLV is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlvError {
    #[error("an FLV tag ends within its header")]
    TruncatedTag,
    #[error("the AVC configuration cannot be read: {0}")]
    BadAvcConfig(ConfigError),
    #[error("the HEVC configuration cannot be read: {0}")]
    BadHevcConfig(ConfigError),
    #[error("the AAC configuration cannot be read")]
    BadAacConfig,
    #[error("the Opus header cannot be read")]
    BadOpusHead,
    #[error("script data cannot be read: {0}")]
    BadScript(#[from] Amf0Error),
    #[error("the data does not begin with an FLV header")]
    NotFlv,
    #[error("an FLV tag of {size} bytes is over the limit of {size_max}")]
    TagTooLarge { size: usize, size_max: usize },
}

impl FlvError {
    /// The label under which the error is counted.
    pub const fn label(&self) -> &'static str {
        match self {
            FlvError::TruncatedTag => "flv_truncated_tag",
            FlvError::BadAvcConfig(_) => "flv_bad_avc_config",
            FlvError::BadHevcConfig(_) => "flv_bad_hevc_config",
            FlvError::BadAacConfig => "flv_bad_aac_config",
            FlvError::BadOpusHead => "flv_bad_opus_head",
            FlvError::BadScript(_) => "flv_bad_script",
            FlvError::NotFlv => "flv_not_flv",
            FlvError::TagTooLarge { .. } => "flv_tag_too_large",
        }
    }
}

const SET_DATA_FRAME: &str = "@setDataFrame";
const CLEAR_DATA_FRAME: &str = "@clearDataFrame";
const ON_METADATA: &str = "onMetaData";

/// Turns the tags of one publisher into media events.
#[derive(Debug)]
pub struct FlvDemuxer {
    clock: WireClock,
    /// At most one per kind, in order of appearance.
    slots: Vec<Slot>,
    metadata: Bytes,
    said: Said,
    tracks: Tracks,
    /// `tracks` differs from what was sent last.
    changed: bool,
}

/// What is known of one track.
#[derive(Debug)]
struct Slot {
    id: TrackId,
    /// The sequence header as it came, to know a repetition.
    received: Bytes,
    setup: Setup,
}

#[derive(Debug)]
struct Setup {
    codec: Codec,
    /// Canonical.
    config: Bytes,
    /// As far as config and frames tell.
    shape: TrackShape,
    nal_length_bytes: usize,
}

/// What the metadata says of the picture. Zero: nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    width: u32,
    height: u32,
    frames_per_second: f32,
}

impl Default for FlvDemuxer {
    fn default() -> Self {
        FlvDemuxer::new()
    }
}

impl FlvDemuxer {
    pub fn new() -> Self {
        FlvDemuxer {
            clock: WireClock::new(32, 1000),
            slots: Vec::new(),
            metadata: Bytes::new(),
            said: Said::default(),
            tracks: Tracks::default(),
            changed: false,
        }
    }

    /// Appends what one tag becomes. `body` is the FLV tag data, `arrival` the moment when its last byte came. A new or changed set of
    /// tracks is announced before the next frame, so that the headers at a stream's start make one announcement.
    pub fn push(
        &mut self,
        tag: TagType,
        timestamp_ms: u32,
        body: Bytes,
        arrival: Stamp,
        out: &mut Vec<Demuxed>,
    ) -> Result<(), FlvError> {
        let parts = match tag {
            TagType::Audio => body::audio(body)?,
            TagType::Video => body::video(body)?,
            TagType::Script => return self.script(timestamp_ms, body, arrival, out),
        };
        for part in parts {
            match part {
                Part::Config { codec, record } => self.configure(codec, record)?,
                Part::Frame(coded) => self.coded(timestamp_ms, coded, arrival, out),
                Part::Discarded(reason) => out.push(Demuxed::Discarded(reason)),
            }
        }
        Ok(())
    }

    /// The tracks that are known now, announced or not.
    pub fn tracks(&self) -> &Tracks {
        &self.tracks
    }

    fn configure(&mut self, codec: Codec, record: Bytes) -> Result<(), FlvError> {
        let known = self.slot(codec.kind()).filter(|slot| slot.setup.codec == codec);
        // ffmpeg begins AV1 with an empty record and sends the real one later; empty never replaces anything.
        let nothing_new = known.is_some_and(|slot| slot.received == record || record.is_empty());
        if nothing_new || (record.is_empty() && codec.needs_config()) {
            return Ok(());
        }
        let setup = Setup::from_record(codec, &record)?;
        self.put_slot(record, setup);
        Ok(())
    }

    fn coded(&mut self, timestamp_ms: u32, coded: Coded, arrival: Stamp, out: &mut Vec<Demuxed>) {
        let Coded { codec, key, cts, data, sound } = coded;
        let known = self.slot(codec.kind()).is_some_and(|slot| slot.setup.codec == codec);
        if !known {
            if codec.needs_config() {
                out.push(Demuxed::Discarded(Discard::NoConfig));
                return;
            }
            self.put_slot(Bytes::new(), Setup::from_frame(codec, &data, sound));
        }
        let Some(slot) = self.slot(codec.kind()) else { return };
        let (track, nal_length_bytes) = (slot.id, slot.setup.nal_length_bytes);
        let canonical = match codec {
            Codec::H264 => canonical_access_unit(data, nal_length_bytes, h264::is_aud),
            Codec::H265 => canonical_access_unit(data, nal_length_bytes, h265::is_aud),
            _ => Ok(Some(data)),
        };
        match canonical {
            Ok(Some(data)) => {
                let dts = self.dts(timestamp_ms);
                self.emit(Frame { data, arrival, dts, cts, segment: 0, track, key }, out);
            }
            Ok(None) => {}
            Err(_) => out.push(Demuxed::Discarded(Discard::BrokenFrame)),
        }
    }

    /// Script data: metadata is kept for the next announcement, everything else is a frame of the data track.
    fn script(&mut self, timestamp_ms: u32, body: Bytes, arrival: Stamp, out: &mut Vec<Demuxed>) -> Result<(), FlvError> {
        if body.is_empty() {
            return Ok(());
        }
        let mut rest = &body[..];
        let mut name_at = 0;
        let mut name = amf0::decode(&mut rest)?;
        if name.as_str() == Some(SET_DATA_FRAME) && !rest.is_empty() {
            name_at = body.len() - rest.len();
            name = amf0::decode(&mut rest)?;
        }
        match name.as_str() {
            Some(ON_METADATA) if !rest.is_empty() => {
                let value_at = body.len() - rest.len();
                let value = amf0::decode(&mut rest)?;
                self.set_metadata(&value, body.slice(value_at..body.len() - rest.len()));
            }
            Some(ON_METADATA | SET_DATA_FRAME | CLEAR_DATA_FRAME) => {}
            Some(_) => {
                amf0::decode_all(rest)?;
                if self.slot(TrackKind::Data).is_none() {
                    self.put_slot(Bytes::new(), Setup::bare(Codec::Script, TrackShape::Data));
                }
                let Some(track) = self.slot(TrackKind::Data).map(|slot| slot.id) else { return Ok(()) };
                let (data, dts) = (body.slice(name_at..), self.dts(timestamp_ms));
                self.emit(Frame { data, arrival, dts, cts: 0, segment: 0, track, key: true }, out);
            }
            None => out.push(Demuxed::Discarded(Discard::UnknownCodec)),
        }
        Ok(())
    }

    fn set_metadata(&mut self, value: &Value, raw: Bytes) {
        if value.properties().is_none() {
            return;
        }
        self.said = Said::from_metadata(value);
        self.metadata = if raw.first() == Some(&amf0::MARKER_AMF3) {
            let mut as_amf0 = Vec::new();
            amf0::encode(value, &mut as_amf0);
            as_amf0.into()
        } else {
            raw
        };
        self.refresh();
    }

    /// Announces the tracks if they have changed, then the frame.
    fn emit(&mut self, frame: Frame, out: &mut Vec<Demuxed>) {
        if self.changed {
            self.changed = false;
            out.push(Demuxed::Event(MediaEvent::Tracks(self.tracks.clone())));
        }
        out.push(Demuxed::Event(MediaEvent::Frame(frame)));
    }

    /// Only frames are asked for: the stamps of headers and metadata mean nothing.
    fn dts(&mut self, timestamp_ms: u32) -> MediaTime {
        self.clock.unwrap(u64::from(timestamp_ms))
    }

    fn slot(&self, kind: TrackKind) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.setup.codec.kind() == kind)
    }

    /// Sets up the track of the codec's kind, anew or for the first time.
    fn put_slot(&mut self, received: Bytes, setup: Setup) {
        let kind = setup.codec.kind();
        match self.slots.iter_mut().find(|slot| slot.setup.codec.kind() == kind) {
            Some(slot) => (slot.received, slot.setup) = (received, setup),
            None => {
                let id = TrackId(self.slots.len() as u8);
                self.slots.push(Slot { id, received, setup });
            }
        }
        self.refresh();
    }

    fn refresh(&mut self) {
        let track = |slot: &Slot| Track {
            id: slot.id,
            codec: slot.setup.codec,
            config: slot.setup.config.clone(),
            shape: self.said.complete(slot.setup.shape),
        };
        let tracks = Tracks::new(self.slots.iter().map(track).collect(), self.metadata.clone());
        if tracks != self.tracks {
            self.tracks = tracks;
            self.changed = true;
        }
    }
}

impl Setup {
    fn bare(codec: Codec, shape: TrackShape) -> Self {
        Setup { codec, config: Bytes::new(), shape, nal_length_bytes: 4 }
    }

    fn from_record(codec: Codec, record: &Bytes) -> Result<Self, FlvError> {
        let config = record.clone();
        Ok(match codec {
            Codec::H264 => {
                let avc = AvcConfig::parse(record).map_err(FlvError::BadAvcConfig)?;
                let config = with_four_byte_lengths(record, h264::LENGTH_SIZE_AT, avc.nal_length_bytes);
                Setup { codec, config, shape: avc.shape(), nal_length_bytes: avc.nal_length_bytes }
            }
            Codec::H265 => {
                let hevc = HevcConfig::parse(record).map_err(FlvError::BadHevcConfig)?;
                let config = with_four_byte_lengths(record, h265::LENGTH_SIZE_AT, hevc.nal_length_bytes);
                Setup { codec, config, shape: hevc.shape(), nal_length_bytes: hevc.nal_length_bytes }
            }
            Codec::Aac => {
                let aac = AacConfig::parse(record).ok_or(FlvError::BadAacConfig)?;
                Setup { config, ..Setup::bare(codec, aac.shape()) }
            }
            Codec::Opus => {
                let head = OpusHead::parse(record).ok_or(FlvError::BadOpusHead)?;
                Setup { config, ..Setup::bare(codec, head.shape()) }
            }
            Codec::Mp3 | Codec::G711A | Codec::G711U | Codec::Script => Setup::bare(codec, unknown_shape(codec)),
            Codec::Av1 | Codec::Vp8 | Codec::Vp9 => Setup { config, ..Setup::bare(codec, unknown_shape(codec)) },
        })
    }

    /// For a track that begins without a sequence header. `sound`: what the tag says.
    fn from_frame(codec: Codec, data: &[u8], sound: Option<TrackShape>) -> Self {
        let said = sound.unwrap_or(unknown_shape(codec));
        match codec {
            Codec::Opus => {
                let channels = if let Some(TrackShape::Audio { channels, .. }) = sound { channels } else { 2 };
                let head = OpusHead { channels, pre_skip: 0, input_sample_rate: opus::SAMPLE_RATE };
                Setup { config: head.build(), ..Setup::bare(codec, head.shape()) }
            }
            Codec::Mp3 => Setup::bare(codec, mp3::shape(data).unwrap_or(said)),
            _ => Setup::bare(codec, said),
        }
    }
}

fn unknown_shape(codec: Codec) -> TrackShape {
    match codec.kind() {
        TrackKind::Video => TrackShape::Video { width: 0, height: 0, frames_per_second: 0.0 },
        TrackKind::Audio => TrackShape::Audio { sample_rate: 0, channels: 0 },
        TrackKind::Data => TrackShape::Data,
    }
}

/// The record, with its length size changed to 4 if it is not. `at`: the byte that has it in its two low bits.
fn with_four_byte_lengths(record: &Bytes, at: usize, nal_length_bytes: usize) -> Bytes {
    if nal_length_bytes == 4 {
        return record.clone();
    }
    let mut changed = BytesMut::from(&record[..]);
    changed[at] |= 3;
    changed.freeze()
}

impl Said {
    fn from_metadata(metadata: &Value) -> Self {
        let number = |key: &str, max: f64| {
            let number = metadata.property(key).and_then(Value::as_number)?;
            (number > 0.0 && number <= max).then_some(number)
        };
        Said {
            width: number("width", 65_535.0).unwrap_or(0.0) as u32,
            height: number("height", 65_535.0).unwrap_or(0.0) as u32,
            frames_per_second: number("framerate", 1_000.0).unwrap_or(0.0) as f32,
        }
    }

    /// Fills in what the codec's own data leaves open.
    fn complete(self, shape: TrackShape) -> TrackShape {
        let TrackShape::Video { width, height, frames_per_second } = shape else { return shape };
        let (width, height) = if width == 0 || height == 0 { (self.width, self.height) } else { (width, height) };
        let frames_per_second = if frames_per_second == 0.0 { self.frames_per_second } else { frames_per_second };
        TrackShape::Video { width, height, frames_per_second }
    }
}
