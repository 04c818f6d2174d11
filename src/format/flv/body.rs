//! The body of an audio or video tag, classic and Enhanced RTMP, taken apart into configs and frames.
//!
//! Spec: FLV 10.1 §E.4.2.1 and §E.4.3.1; Enhanced RTMP v2, "Enhanced Audio" and "Enhanced Video". All parts share the body's memory.
//! Not here: what a config or a frame contains, and any state.

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use super::FlvError;
use crate::media::{Codec, Discard, TrackShape};

/// One thing that a body holds. Bodies that only carry what the server has no use for hold nothing.
#[derive(Debug, PartialEq)]
pub(super) enum Part {
    /// A sequence header.
    Config {
        codec: Codec,
        record: Bytes,
    },
    Frame(Coded),
    Discarded(Discard),
}

#[derive(Debug, PartialEq)]
pub(super) struct Coded {
    pub(super) codec: Codec,
    pub(super) key: bool,
    /// Presentation minus decoding time in microseconds.
    pub(super) cts: i32,
    pub(super) data: Bytes,
    /// What the tag's first byte says of the sound, for codecs without a config.
    pub(super) sound: Option<TrackShape>,
}

pub(super) type Parts = SmallVec<[Part; 1]>;

const FRAME_KEY: u8 = 1;
const FRAME_GENERATED_KEY: u8 = 4;
const FRAME_COMMAND: u8 = 5;

const SEQUENCE_HEADER: u8 = 0;
const RAW: u8 = 1;
const SEQUENCE_END: u8 = 2;

/// What an Enhanced RTMP packet type means; the numbers differ between audio and video.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PacketType {
    SequenceStart,
    CodedFrames,
    /// Coded frames without a composition time.
    CodedFramesX,
    Multitrack,
    ModEx,
    /// Known, and of no use to the server.
    Ignored,
    Unknown,
}

impl PacketType {
    fn video(value: u8) -> Self {
        match value {
            0 => PacketType::SequenceStart,
            1 => PacketType::CodedFrames,
            3 => PacketType::CodedFramesX,
            // The end of a sequence; metadata such as colorInfo.
            2 | 4 => PacketType::Ignored,
            6 => PacketType::Multitrack,
            7 => PacketType::ModEx,
            _ => PacketType::Unknown,
        }
    }

    fn audio(value: u8) -> Self {
        match value {
            0 => PacketType::SequenceStart,
            1 => PacketType::CodedFrames,
            // The end of a sequence; the order of channels.
            2 | 4 => PacketType::Ignored,
            5 => PacketType::Multitrack,
            7 => PacketType::ModEx,
            _ => PacketType::Unknown,
        }
    }
}

pub(super) fn video(mut body: Bytes) -> Result<Parts, FlvError> {
    let Some(first) = body.first().copied() else { return Ok(Parts::new()) };
    let _ = body.split_to(1);
    if first & 0x80 != 0 {
        let frame_type = first >> 4 & 7;
        let enhanced = Enhanced { packet_type: PacketType::video, key: is_key(frame_type), nanos: 0 };
        let is_command = frame_type == FRAME_COMMAND;
        return enhanced.parts(first & 0xF, is_command, body);
    }
    let frame_type = first >> 4;
    if frame_type == FRAME_COMMAND {
        return Ok(Parts::new());
    }
    let codec = match first & 0xF {
        7 => Codec::H264,
        12 => Codec::H265,
        _ => return Ok(smallvec![Part::Discarded(Discard::UnknownCodec)]),
    };
    let packet_type = byte(&mut body)?;
    if packet_type == SEQUENCE_END {
        return Ok(Parts::new());
    }
    let cts = composition_time(&mut body)?;
    let coded = |data| Coded { codec, key: is_key(frame_type), cts, data, sound: None };
    Ok(classic(packet_type, codec, body, coded))
}

pub(super) fn audio(mut body: Bytes) -> Result<Parts, FlvError> {
    let Some(first) = body.first().copied() else { return Ok(Parts::new()) };
    let _ = body.split_to(1);
    let codec = match first >> 4 {
        2 | 14 => Codec::Mp3,
        7 => Codec::G711A,
        8 => Codec::G711U,
        9 => {
            let enhanced = Enhanced { packet_type: PacketType::audio, key: true, nanos: 0 };
            return enhanced.parts(first & 0xF, false, body);
        }
        10 => Codec::Aac,
        13 => Codec::Opus,
        _ => return Ok(smallvec![Part::Discarded(Discard::UnknownCodec)]),
    };
    let coded = |data| Coded { codec, key: true, cts: 0, data, sound: Some(sound(codec, first)) };
    let packet_type = if matches!(codec, Codec::Aac | Codec::Opus) { byte(&mut body)? } else { RAW };
    Ok(classic(packet_type, codec, body, coded))
}

/// What is behind the header of a classic tag.
fn classic(packet_type: u8, codec: Codec, body: Bytes, coded: impl Fn(Bytes) -> Coded) -> Parts {
    match packet_type {
        _ if body.is_empty() => Parts::new(),
        SEQUENCE_HEADER => smallvec![Part::Config { codec, record: body }],
        RAW => smallvec![Part::Frame(coded(body))],
        SEQUENCE_END => Parts::new(),
        _ => smallvec![Part::Discarded(Discard::UnknownCodec)],
    }
}

fn is_key(frame_type: u8) -> bool {
    matches!(frame_type, FRAME_KEY | FRAME_GENERATED_KEY)
}

/// The rate and type bits (§E.4.2.1), which only matter to MP3 whose frames cannot be read; G.711 is always 8 kHz.
fn sound(codec: Codec, first: u8) -> TrackShape {
    const MP3_8_KHZ: u8 = 14;
    let sample_rate = match codec {
        Codec::G711A | Codec::G711U => 8_000,
        Codec::Opus => 48_000,
        _ if first >> 4 == MP3_8_KHZ => 8_000,
        _ => [5_512, 11_025, 22_050, 44_100][usize::from(first >> 2 & 3)],
    };
    TrackShape::Audio { sample_rate, channels: 1 + (first & 1) }
}

/// A tag with a FourCC.
struct Enhanced {
    packet_type: fn(u8) -> PacketType,
    key: bool,
    /// Added to the presentation time.
    nanos: u32,
}

impl Enhanced {
    fn parts(mut self, packet_type: u8, is_command: bool, mut body: Bytes) -> Result<Parts, FlvError> {
        let mut packet_type = (self.packet_type)(packet_type);
        while packet_type == PacketType::ModEx {
            packet_type = self.mod_ex(&mut body)?;
        }
        // A command frame has one byte and no FourCC, unless it is metadata, which is ignored as well.
        if is_command {
            return Ok(Parts::new());
        }
        if packet_type == PacketType::Multitrack {
            let mut parts = Parts::new();
            if self.multitrack(&mut body, &mut parts).is_err() {
                parts.push(Part::Discarded(Discard::BrokenFrame));
            }
            return Ok(parts);
        }
        let codec = codec_of(&take(&mut body, 4)?);
        Ok(self.media(packet_type, codec, body)?.into_iter().collect())
    }

    /// An extension in front of the packet: size, data, then its type and the next packet type.
    fn mod_ex(&mut self, body: &mut Bytes) -> Result<PacketType, FlvError> {
        const TIMESTAMP_OFFSET_NANO: u8 = 0;
        let mut size = usize::from(byte(body)?) + 1;
        if size == 256 {
            size = usize::from(byte(body)?) << 8 | usize::from(byte(body)?);
            size += 1;
        }
        let data = take(body, size)?;
        let types = byte(body)?;
        if let (TIMESTAMP_OFFSET_NANO, [high, middle, low, ..]) = (types >> 4, &data[..]) {
            self.nanos = u32::from_be_bytes([0, *high, *middle, *low]).min(999_999);
        }
        Ok((self.packet_type)(types & 0xF))
    }

    /// Several tracks in one tag, or one that is not the first. Only track 0 is carried.
    fn multitrack(&self, body: &mut Bytes, parts: &mut Parts) -> Result<(), FlvError> {
        const ONE_TRACK: u8 = 0;
        const MANY_TRACKS_MANY_CODECS: u8 = 2;
        let types = byte(body)?;
        let (form, packet_type) = (types >> 4, (self.packet_type)(types & 0xF));
        if form > MANY_TRACKS_MANY_CODECS || matches!(packet_type, PacketType::Multitrack | PacketType::ModEx) {
            parts.push(Part::Discarded(Discard::UnknownCodec));
            return Ok(());
        }
        let mut codec = None;
        if form != MANY_TRACKS_MANY_CODECS {
            codec = codec_of(&take(body, 4)?);
        }
        while !body.is_empty() {
            if form == MANY_TRACKS_MANY_CODECS {
                codec = codec_of(&take(body, 4)?);
            }
            let track = byte(body)?;
            let size = if form == ONE_TRACK { body.len() } else { u24(body)? as usize };
            let data = take(body, size)?;
            if track == 0 {
                parts.extend(self.media(packet_type, codec, data)?);
            } else if packet_type != PacketType::Ignored {
                parts.push(Part::Discarded(Discard::ExtraTrack));
            }
        }
        Ok(())
    }

    /// One track's packet, behind its FourCC.
    fn media(&self, packet_type: PacketType, codec: Option<Codec>, mut data: Bytes) -> Result<Option<Part>, FlvError> {
        if packet_type == PacketType::Ignored {
            return Ok(None);
        }
        let Some(codec) = codec.filter(|_| packet_type != PacketType::Unknown) else {
            return Ok(Some(Part::Discarded(Discard::UnknownCodec)));
        };
        if packet_type == PacketType::SequenceStart {
            return Ok(Some(Part::Config { codec, record: data }));
        }
        let has_time = packet_type == PacketType::CodedFrames && matches!(codec, Codec::H264 | Codec::H265);
        let cts = if has_time { composition_time(&mut data)? } else { 0 };
        if data.is_empty() {
            return Ok(None);
        }
        let cts = cts.saturating_add((self.nanos / 1000) as i32);
        Ok(Some(Part::Frame(Coded { codec, key: self.key, cts, data, sound: None })))
    }
}

fn codec_of(four_cc: &[u8]) -> Option<Codec> {
    Some(match four_cc {
        b"avc1" => Codec::H264,
        b"hvc1" => Codec::H265,
        b"av01" => Codec::Av1,
        b"vp08" => Codec::Vp8,
        b"vp09" => Codec::Vp9,
        b"mp4a" => Codec::Aac,
        b"Opus" => Codec::Opus,
        b".mp3" => Codec::Mp3,
        _ => return None,
    })
}

/// SI24 milliseconds, as microseconds. More than half an hour is nonsense and is cut to what the type holds.
fn composition_time(body: &mut Bytes) -> Result<i32, FlvError> {
    let millis = (u24(body)? << 8) as i32 >> 8;
    Ok(millis.saturating_mul(1000))
}

fn u24(body: &mut Bytes) -> Result<u32, FlvError> {
    let bytes = take(body, 3)?;
    Ok(u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]))
}

fn byte(body: &mut Bytes) -> Result<u8, FlvError> {
    Ok(take(body, 1)?[0])
}

fn take(body: &mut Bytes, count: usize) -> Result<Bytes, FlvError> {
    if body.len() < count {
        return Err(FlvError::TruncatedTag);
    }
    Ok(body.split_to(count))
}
