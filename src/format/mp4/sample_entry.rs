//! Sample entries: what `stsd` says of a codec, written and read.
//!
//! ISO/IEC 14496-12 §12.1.3, §12.2.3 (visual and audio entries); 14496-14 §5.6 and 14496-1 §7.2.6 (`esds`); 14496-15 §5.4.2, §8.4.1; Opus, AV1
//! and VP bindings. Not here: other boxes of `stsd`, colours, pixel aspect (decoders take both from the stream).

use bytes::{BufMut, Bytes, BytesMut};

use super::boxes::{Fields, Kind, child, descend, put_box, put_full_box};
use crate::media::aac::AacConfig;
use crate::media::h264::AvcConfig;
use crate::media::h265::HevcConfig;
use crate::media::opus::{self, OpusHead};
use crate::media::{Codec, Track, TrackId, TrackShape, av1, vp9};

/// Of what stands before the boxes in an entry.
const VISUAL_BYTES: usize = 78;
const AUDIO_BYTES: usize = 28;

/// `objectTypeIndication` (14496-1 Table 5).
const OTI_AAC: u8 = 0x40;
const OTI_AAC_MPEG2: [u8; 3] = [0x66, 0x67, 0x68];
const OTI_MP3_MPEG2: u8 = 0x69;
const OTI_MP3: u8 = 0x6B;

/// Tags of descriptors (14496-1 Table 1).
const ES_DESCRIPTOR: u8 = 3;
const DECODER_CONFIG: u8 = 4;
const DECODER_SPECIFIC: u8 = 5;
const SYNC_LAYER: u8 = 6;

/// The entry of a track, a whole box; `None`: it cannot be carried.
pub fn entry(track: &Track) -> Option<Bytes> {
    let mut out = BytesMut::new();
    let config = &track.config[..];
    match (track.codec, track.shape) {
        (Codec::H264, TrackShape::Video { width, height, .. }) => {
            AvcConfig::parse(&track.config).ok()?;
            put_visual(&mut out, b"avc1", width, height, |out| put_box(out, b"avcC", |out| out.put_slice(config)));
        }
        (Codec::H265, TrackShape::Video { width, height, .. }) => {
            HevcConfig::parse(&track.config).ok()?;
            put_visual(&mut out, b"hvc1", width, height, |out| put_box(out, b"hvcC", |out| out.put_slice(config)));
        }
        (Codec::Av1, TrackShape::Video { width, height, .. }) => {
            let record = if config.is_empty() { av1::assumed_record(width, height) } else { track.config.clone() };
            put_visual(&mut out, b"av01", width, height, |out| put_box(out, b"av1C", |out| out.put_slice(&record)));
        }
        (Codec::Vp8 | Codec::Vp9, TrackShape::Video { width, height, .. }) => {
            let kind = if track.codec == Codec::Vp8 { b"vp08" } else { b"vp09" };
            let record = vp9::record(config, width, height);
            put_visual(&mut out, kind, width, height, |out| put_full_box(out, b"vpcC", 1, 0, |out| out.put_slice(&record)));
        }
        (Codec::Aac, TrackShape::Audio { sample_rate, channels }) => {
            AacConfig::parse(config)?;
            put_audio(&mut out, b"mp4a", sample_rate, channels, |out| put_esds(out, OTI_AAC, config));
        }
        (Codec::Mp3, TrackShape::Audio { sample_rate, channels }) => {
            // The half rates are of MPEG-2.
            let indication = if (1..=24_000).contains(&sample_rate) { OTI_MP3_MPEG2 } else { OTI_MP3 };
            put_audio(&mut out, b"mp4a", sample_rate, channels, |out| put_esds(out, indication, &[]));
        }
        (Codec::Opus, TrackShape::Audio { channels, .. }) => {
            let channels = if channels == 0 { 2 } else { channels };
            put_audio(&mut out, b"Opus", opus::SAMPLE_RATE, channels, |out| {
                put_box(out, b"dOps", |out| put_dops(out, config, channels))
            });
        }
        (Codec::G711A, TrackShape::Audio { sample_rate, channels }) => put_g711(&mut out, b"alaw", sample_rate, channels),
        (Codec::G711U, TrackShape::Audio { sample_rate, channels }) => put_g711(&mut out, b"ulaw", sample_rate, channels),
        _ => return None,
    }
    Some(out.freeze())
}

fn put_visual(out: &mut BytesMut, kind: &Kind, width: u32, height: u32, boxes: impl FnOnce(&mut BytesMut)) {
    const RESOLUTION_72_DPI: u32 = 0x0048_0000;
    const DEPTH: u16 = 24;
    put_box(out, kind, |out| {
        out.put_slice(&[0, 0, 0, 0, 0, 0, 0, 1]);
        out.put_bytes(0, 16);
        out.put_u16(saturated(width));
        out.put_u16(saturated(height));
        out.put_u32(RESOLUTION_72_DPI);
        out.put_u32(RESOLUTION_72_DPI);
        out.put_u32(0);
        out.put_u16(1);
        out.put_bytes(0, 32);
        out.put_u16(DEPTH);
        out.put_i16(-1);
        boxes(out);
    });
}

fn put_audio(out: &mut BytesMut, kind: &Kind, sample_rate: u32, channels: u8, boxes: impl FnOnce(&mut BytesMut)) {
    const SAMPLE_BITS: u16 = 16;
    put_box(out, kind, |out| {
        out.put_slice(&[0, 0, 0, 0, 0, 0, 0, 1]);
        out.put_u64(0);
        out.put_u16(if channels == 0 { 2 } else { channels.into() });
        out.put_u16(SAMPLE_BITS);
        out.put_u32(0);
        // 16.16; what does not fit is only in the codec's own record.
        out.put_u32(u16::try_from(sample_rate).map_or(0, |rate| u32::from(rate) << 16));
        boxes(out);
    });
}

fn put_g711(out: &mut BytesMut, kind: &Kind, sample_rate: u32, channels: u8) {
    const G711_RATE: u32 = 8_000;
    let rate = if sample_rate == 0 { G711_RATE } else { sample_rate };
    put_audio(out, kind, rate, channels.max(1), |_| {});
}

fn saturated(value: u32) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

fn put_esds(out: &mut BytesMut, indication: u8, specific: &[u8]) {
    const AUDIO_STREAM: u8 = 5 << 2 | 1;
    put_full_box(out, b"esds", 0, 0, |out| {
        put_descriptor(out, ES_DESCRIPTOR, |out| {
            out.put_slice(&[0, 0, 0]);
            put_descriptor(out, DECODER_CONFIG, |out| {
                out.put_slice(&[indication, AUDIO_STREAM]);
                // Buffer size and bit rates: not known of a live stream.
                out.put_bytes(0, 3 + 4 + 4);
                if !specific.is_empty() {
                    put_descriptor(out, DECODER_SPECIFIC, |out| out.put_slice(specific));
                }
            });
            put_descriptor(out, SYNC_LAYER, |out| out.put_u8(2));
        });
    });
}

/// Tag, then the size in four groups of seven bits, as most writers have it.
fn put_descriptor(out: &mut BytesMut, tag: u8, content: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let at = out.len();
    out.put_u32(0);
    content(out);
    let size = out.len() - at - 4;
    let groups = [21, 14, 7, 0].map(|shift| (size >> shift) as u8 & 0x7F | if shift > 0 { 0x80 } else { 0 });
    out[at..at + 4].copy_from_slice(&groups);
}

/// `OpusHead` with its integers the other way round, and version 0; without a head, an assumed one.
fn put_dops(out: &mut BytesMut, head: &[u8], channels: u8) {
    let assumed = OpusHead { channels, pre_skip: 0, input_sample_rate: opus::SAMPLE_RATE }.build();
    let head = if OpusHead::parse(head).is_some() && head.len() >= assumed.len() { head } else { &assumed };
    // Behind the magic and the version.
    let mut fields = &head[9..];
    out.put_u8(0);
    out.put_u8(bytes::Buf::get_u8(&mut fields));
    out.put_u16(bytes::Buf::get_u16_le(&mut fields));
    out.put_u32(bytes::Buf::get_u32_le(&mut fields));
    out.put_u16(bytes::Buf::get_u16_le(&mut fields));
    out.put_slice(fields);
}

/// The track that an entry describes; `None`: a codec that is not carried, or broken. `content`: of the entry's box.
pub fn parse(id: TrackId, kind: &Kind, content: &[u8]) -> Option<Track> {
    let (codec, config, shape) = match kind {
        b"avc1" | b"avc3" => {
            let config = Bytes::copy_from_slice(visual_record(content, b"avcC")?);
            let avc = AvcConfig::parse(&config).ok().filter(|avc| avc.nal_length_bytes == 4)?;
            if avc.sps.is_empty() || avc.pps.is_empty() {
                return None;
            }
            (Codec::H264, config, shape_or_size(avc.shape(), content)?)
        }
        b"hvc1" | b"hev1" => {
            let config = Bytes::copy_from_slice(visual_record(content, b"hvcC")?);
            let hevc = HevcConfig::parse(&config).ok().filter(|hevc| hevc.nal_length_bytes == 4)?;
            if hevc.sps.is_empty() || hevc.pps.is_empty() {
                return None;
            }
            (Codec::H265, config, shape_or_size(hevc.shape(), content)?)
        }
        b"av01" => (Codec::Av1, Bytes::copy_from_slice(visual_record(content, b"av1C")?), size(content)?),
        b"vp08" | b"vp09" => {
            let codec = if kind == b"vp08" { Codec::Vp8 } else { Codec::Vp9 };
            // Without the version and flags of the box.
            let record = visual_record(content, b"vpcC").and_then(|record| record.get(4..)).unwrap_or_default();
            (codec, Bytes::copy_from_slice(record), size(content)?)
        }
        b"mp4a" | b".mp3" => mpeg_audio(kind, content)?,
        b"Opus" => {
            let head = opus_head(audio_record(content, b"dOps")?)?;
            let shape = OpusHead::parse(&head)?.shape();
            (Codec::Opus, head, shape)
        }
        b"alaw" => (Codec::G711A, Bytes::new(), sound(content)?),
        b"ulaw" => (Codec::G711U, Bytes::new(), sound(content)?),
        _ => return None,
    };
    Some(Track { id, codec, config, shape })
}

fn visual_record<'a>(content: &'a [u8], kind: &Kind) -> Option<&'a [u8]> {
    child(content.get(VISUAL_BYTES..)?, kind)
}

/// QuickTime's second version has more fields, and its boxes in a box `wave`.
fn audio_record<'a>(content: &'a [u8], kind: &Kind) -> Option<&'a [u8]> {
    const QUICKTIME_BYTES: usize = 16;
    let is_quicktime = content.get(8..10)? == [0, 1];
    let boxes = content.get(AUDIO_BYTES + if is_quicktime { QUICKTIME_BYTES } else { 0 }..)?;
    child(boxes, kind).or_else(|| descend(boxes, &[b"wave", kind]))
}

fn size(content: &[u8]) -> Option<TrackShape> {
    let mut fields = Fields(content.get(24..)?);
    let (width, height) = (fields.u16()?, fields.u16()?);
    Some(TrackShape::Video { width: width.into(), height: height.into(), frames_per_second: 0.0 })
}

/// What the parameter sets say, or where they say nothing, the entry.
fn shape_or_size(shape: TrackShape, content: &[u8]) -> Option<TrackShape> {
    match shape {
        TrackShape::Video { width: 0, .. } | TrackShape::Video { height: 0, .. } => size(content),
        shape => Some(shape),
    }
}

fn sound(content: &[u8]) -> Option<TrackShape> {
    let mut fields = Fields(content.get(16..)?);
    let channels = u8::try_from(fields.u16()?).ok()?;
    fields.skip(6)?;
    Some(TrackShape::Audio { sample_rate: fields.u32()? >> 16, channels })
}

fn mpeg_audio(kind: &Kind, content: &[u8]) -> Option<(Codec, Bytes, TrackShape)> {
    if kind == b".mp3" {
        return Some((Codec::Mp3, Bytes::new(), sound(content)?));
    }
    let esds = audio_record(content, b"esds")?;
    let (indication, specific) = decoder_config(esds.get(4..)?)?;
    match indication {
        OTI_MP3 | OTI_MP3_MPEG2 => Some((Codec::Mp3, Bytes::new(), sound(content)?)),
        indication if indication == OTI_AAC || OTI_AAC_MPEG2.contains(&indication) => {
            let aac = AacConfig::parse(specific)?;
            // Layer III may also be an object type of MPEG-4 audio.
            const OBJECT_LAYER_3: u8 = 34;
            if aac.object_type == OBJECT_LAYER_3 {
                return Some((Codec::Mp3, Bytes::new(), aac.shape()));
            }
            Some((Codec::Aac, Bytes::copy_from_slice(specific), aac.shape()))
        }
        _ => None,
    }
}

/// Object type and specific config out of an elementary stream descriptor.
fn decoder_config(esds: &[u8]) -> Option<(u8, &[u8])> {
    const DEPENDS: u8 = 0x80;
    const HAS_URL: u8 = 0x40;
    const HAS_CLOCK: u8 = 0x20;
    let mut stream = Fields(descriptor(esds, ES_DESCRIPTOR)?);
    stream.skip(2)?;
    let flags = stream.u8()?;
    if flags & DEPENDS != 0 {
        stream.skip(2)?;
    }
    if flags & HAS_URL != 0 {
        let url = stream.u8()?;
        stream.skip(url.into())?;
    }
    if flags & HAS_CLOCK != 0 {
        stream.skip(2)?;
    }
    let config = descriptor(stream.0, DECODER_CONFIG)?;
    let specific = config.get(13..).and_then(|rest| descriptor(rest, DECODER_SPECIFIC)).unwrap_or_default();
    Some((*config.first()?, specific))
}

/// The content of the descriptor that `bytes` begins with, if it has that tag.
fn descriptor(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let (first, mut rest) = bytes.split_first()?;
    let mut size = 0usize;
    for _ in 0..4 {
        let (byte, behind) = rest.split_first()?;
        rest = behind;
        size = size << 7 | usize::from(byte & 0x7F);
        if byte & 0x80 == 0 {
            break;
        }
    }
    // Some writers count wrongly; what is there is there.
    (*first == tag).then(|| &rest[..size.min(rest.len())])
}

fn opus_head(dops: &[u8]) -> Option<Bytes> {
    let mut fields = Fields(dops);
    let _version = fields.u8()?;
    let (channels, pre_skip, rate, gain) = (fields.u8()?, fields.u16()?, fields.u32()?, fields.u16()?);
    let mut head = BytesMut::from(&b"OpusHead\x01"[..]);
    head.put_u8(channels);
    head.put_u16_le(pre_skip);
    head.put_u32_le(rate);
    head.put_u16_le(gain);
    head.put_slice(fields.0);
    Some(head.freeze())
}

#[cfg(test)]
mod tests {
    use super::super::boxes::children;
    use super::super::testing::every_track;
    use super::*;

    #[test]
    fn every_entry_is_read_as_it_was_written() {
        for track in every_track() {
            let entry = entry(&track).unwrap();
            let (kind, content) = children(&entry).next().unwrap();
            let read = parse(track.id, &kind, content).unwrap();
            // Frame rates are no matter of entries, and records that were assumed are written.
            assert_eq!((read.id, read.codec), (track.id, track.codec));
            if !track.config.is_empty() {
                assert_eq!(read.config, track.config, "{:?}", track.codec);
            }
            if let (TrackShape::Audio { .. }, shape) = (track.shape, read.shape) {
                assert_eq!(shape, track.shape, "{:?}", track.codec);
            }
            for cut in 0..content.len() {
                parse(track.id, &kind, &content[..cut]);
            }
        }
    }

    #[test]
    fn entries_whose_parameter_sets_may_stand_in_the_samples_too_are_read_as_the_others() {
        for track in every_track() {
            let entry = entry(&track).unwrap();
            let (kind, content) = children(&entry).next().unwrap();
            let other = match &kind {
                b"avc1" => b"avc3",
                b"hvc1" => b"hev1",
                _ => continue,
            };
            assert_eq!(parse(track.id, other, content), parse(track.id, &kind, content));
            assert_eq!(parse(track.id, other, content).map(|read| read.config), Some(track.config));
        }
    }

    #[test]
    fn broken_records_are_not_carried() {
        for codec in [Codec::H264, Codec::H265, Codec::Aac] {
            let shape = if codec == Codec::Aac { every_track()[1].shape } else { every_track()[0].shape };
            assert_eq!(entry(&Track { id: TrackId(0), codec, config: Bytes::from_static(&[0; 3]), shape }), None, "{codec:?}");
        }
    }
}
