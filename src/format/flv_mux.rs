//! FLV tags out: media events become tags, once for every framing that carries them (FLV itself, WebSocket messages, RTMP chunks).
//!
//! Spec: FLV 10.1 Annex E; Enhanced RTMP v2 for Opus, AV1, VP8, VP9 and, by [`HevcForm`], H.265; the private codec id 12 for the other
//! form of H.265. A frame's payload is shared, never copied; what stands before it is at most [`HEAD_BYTES_MAX`] bytes and made anew. A tag holds
//! 16 MiB less one byte; a larger frame is left out. Carries the first track of each kind. Not here: chunks, who is sent what.

mod metadata;
#[cfg(test)]
mod tests;

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::{SmallVec, smallvec};

use super::envelope::{ENVELOPE_BYTES_MAX, Envelope};
use super::flv::TagType;
use super::{HevcForm, Muxer, Packet, PacketKind};
use crate::media::{Codec, Frame, MediaEvent, MediaTime, Stamp, Track, TrackKind, TrackShape, Tracks};

/// The largest tag body: its size has 24 bits.
const TAG_BYTES_MAX: usize = 0xFF_FFFF;
/// Type and codec, FourCC, composition time.
const HEAD_BYTES_MAX: usize = 8;
const TAG_HEADER_BYTES: usize = 11;
const PREVIOUS_TAG_SIZE_BYTES: usize = 4;

/// One FLV tag without the framing around it: `head` and `body` together are the FLV tag data, or an RTMP message body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    pub tag: TagType,
    /// Low 32 bits of the decoding time in milliseconds.
    pub timestamp_ms: u32,
    /// What stands before the payload: codec, packet type, FourCC, composition time.
    pub head: SmallVec<[u8; 16]>,
    /// The payload, shared with the frame.
    pub body: Bytes,
}

impl Tag {
    /// Size of the FLV tag data in bytes.
    pub fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What an event makes.
#[derive(Clone, Debug, PartialEq)]
pub enum Muxed {
    Nothing,
    /// Metadata and sequence headers: one packet of kind `Config`.
    Config(Vec<Tag>),
    Frame {
        tag: Tag,
        kind: PacketKind,
        arrival: Stamp,
        dts: MediaTime,
    },
}

/// Turns events into tags.
#[derive(Clone, Debug)]
pub struct TagMuxer {
    hevc: HevcForm,
    tracks: Tracks,
    /// The newest decoding time so far, for the tags that have none.
    newest: MediaTime,
}

impl TagMuxer {
    pub fn new(hevc: HevcForm) -> Self {
        TagMuxer { hevc, tracks: Tracks::default(), newest: MediaTime::ZERO }
    }

    pub fn push(&mut self, event: &MediaEvent) -> Muxed {
        match event {
            MediaEvent::Tracks(tracks) => {
                self.tracks = tracks.clone();
                Muxed::Config(self.config())
            }
            MediaEvent::Frame(frame) => self.frame(frame),
            MediaEvent::End => Muxed::Nothing,
        }
    }

    /// The FLV header's flags for the tracks known now: 0x04 audio, 0x01 video.
    pub fn flags(&self) -> u8 {
        let flag = |kind, bit| if self.tracks.has(kind) { bit } else { 0 };
        flag(TrackKind::Audio, 0x04) | flag(TrackKind::Video, 0x01)
    }

    /// The newest decoding time so far: where a config packet stands on the timeline.
    pub fn newest(&self) -> MediaTime {
        self.newest
    }

    fn config(&self) -> Vec<Tag> {
        let timestamp_ms = wire_millis(self.newest);
        let metadata = metadata::encode(&self.tracks, self.hevc);
        let mut tags = vec![Tag { tag: TagType::Script, timestamp_ms, head: SmallVec::new(), body: metadata }];
        let kinds = [(TrackKind::Video, TagType::Video), (TrackKind::Audio, TagType::Audio)];
        for (kind, tag) in kinds {
            let Some(track) = self.tracks.first(kind) else { continue };
            if !track.config.is_empty() && has_sequence_header(track.codec) {
                let head = self.head(track, Content::SequenceHeader);
                tags.push(Tag { tag, timestamp_ms, head, body: track.config.clone() });
            }
        }
        tags.retain(|tag| tag.len() <= TAG_BYTES_MAX);
        tags
    }

    fn frame(&mut self, frame: &Frame) -> Muxed {
        let Some(track) = self.tracks.get(frame.track) else { return Muxed::Nothing };
        let codec_kind = track.codec.kind();
        let is_carried = self.tracks.first(codec_kind).is_some_and(|first| first.id == track.id);
        if !is_carried || frame.data.len() > TAG_BYTES_MAX - HEAD_BYTES_MAX {
            return Muxed::Nothing;
        }
        let (tag, kind) = match codec_kind {
            TrackKind::Video if frame.key => (TagType::Video, PacketKind::Key),
            TrackKind::Video => (TagType::Video, PacketKind::Delta),
            TrackKind::Audio => (TagType::Audio, PacketKind::Audio),
            TrackKind::Data => (TagType::Script, PacketKind::Audio),
        };
        let cts_ms = frame.dts.offset(i64::from(frame.cts)).as_millis() - frame.dts.as_millis();
        let head = self.head(track, Content::Frame { key: frame.key, cts_ms: cts_ms as i32 });
        self.newest = self.newest.max(frame.dts);
        let tag = Tag { tag, timestamp_ms: wire_millis(frame.dts), head, body: frame.data.clone() };
        Muxed::Frame { tag, kind, arrival: frame.arrival, dts: frame.dts }
    }

    fn head(&self, track: &Track, content: Content) -> SmallVec<[u8; 16]> {
        match (track.codec, self.hevc) {
            (Codec::H264, _) => classic_video(7, content),
            (Codec::H265, HevcForm::Legacy) => classic_video(metadata::HEVC_LEGACY_ID, content),
            (Codec::H265, HevcForm::Enhanced) => enhanced_video(b"hvc1", true, content),
            (Codec::Av1, _) => enhanced_video(b"av01", false, content),
            (Codec::Vp8, _) => enhanced_video(b"vp08", false, content),
            (Codec::Vp9, _) => enhanced_video(b"vp09", false, content),
            (Codec::Aac, _) => smallvec![0xAF, content.packet_type()],
            (Codec::Opus, _) => {
                let mut head: SmallVec<[u8; 16]> = smallvec![0x90 | content.packet_type()];
                head.extend_from_slice(b"Opus");
                head
            }
            (Codec::Mp3, _) => smallvec![mp3_byte(track.shape)],
            (Codec::G711A, _) => smallvec![0x72 | stereo_bit(track.shape)],
            (Codec::G711U, _) => smallvec![0x82 | stereo_bit(track.shape)],
            (Codec::Script, _) => SmallVec::new(),
        }
    }
}

/// MP3 and G.711 have no place for a config in a classic tag.
fn has_sequence_header(codec: Codec) -> bool {
    !matches!(codec, Codec::Mp3 | Codec::G711A | Codec::G711U | Codec::Script)
}

/// What a tag carries.
#[derive(Clone, Copy)]
enum Content {
    SequenceHeader,
    Frame { key: bool, cts_ms: i32 },
}

impl Content {
    /// 0 for a sequence header, 1 for a frame: the packet type of almost every codec.
    fn packet_type(self) -> u8 {
        matches!(self, Content::Frame { .. }).into()
    }

    /// 1 for key frames and sequence headers, 2 for others (§E.4.3.1).
    fn frame_type(self) -> u8 {
        if let Content::Frame { key: false, .. } = self { 2 } else { 1 }
    }

    /// SI24; what does not fit is cut to what does.
    fn composition_time(self) -> [u8; 3] {
        let Content::Frame { cts_ms, .. } = self else { return [0; 3] };
        let [_, high, middle, low] = cts_ms.clamp(-0x80_0000, 0x7F_FFFF).to_be_bytes();
        [high, middle, low]
    }
}

fn classic_video(codec_id: u8, content: Content) -> SmallVec<[u8; 16]> {
    let mut head: SmallVec<[u8; 16]> = smallvec![content.frame_type() << 4 | codec_id, content.packet_type()];
    head.extend_from_slice(&content.composition_time());
    head
}

fn enhanced_video(four_cc: &[u8; 4], has_composition_time: bool, content: Content) -> SmallVec<[u8; 16]> {
    const CODED_FRAMES_X: u8 = 3;
    let time = content.composition_time();
    let (packet_type, with_time) = match content {
        Content::SequenceHeader => (0, false),
        Content::Frame { .. } if has_composition_time && time == [0; 3] => (CODED_FRAMES_X, false),
        Content::Frame { .. } => (1, has_composition_time),
    };
    let mut head: SmallVec<[u8; 16]> = smallvec![0x80 | content.frame_type() << 4 | packet_type];
    head.extend_from_slice(four_cc);
    if with_time {
        head.extend_from_slice(&time);
    }
    head
}

/// Format 2 (or 14 for 8 kHz), the nearest rate that the two bits can say, 16 bit, mono or stereo.
fn mp3_byte(shape: TrackShape) -> u8 {
    let TrackShape::Audio { sample_rate, .. } = shape else { return 0x2F };
    let format_and_rate = match sample_rate {
        8_000 => 0xE0,
        5_512 => 0x20,
        11_025 => 0x24,
        22_050 => 0x28,
        _ => 0x2C,
    };
    format_and_rate | 0x02 | stereo_bit(shape)
}

/// Mono is said only when it is known.
fn stereo_bit(shape: TrackShape) -> u8 {
    u8::from(!matches!(shape, TrackShape::Audio { channels: 1, .. }))
}

/// A decoding time as tags carry it.
fn wire_millis(time: MediaTime) -> u32 {
    time.as_millis() as u32
}

/// The 11 bytes in front of the tag data (§E.4.1).
pub fn tag_header(tag: &Tag) -> [u8; TAG_HEADER_BYTES] {
    let [_, s2, s1, s0] = (tag.len() as u32).to_be_bytes();
    let [t3, t2, t1, t0] = tag.timestamp_ms.to_be_bytes();
    [tag.tag as u8, s2, s1, s0, t2, t1, t0, t3, 0, 0, 0]
}

/// The 4 bytes behind the tag data: PreviousTagSize (§E.3).
pub fn tag_trailer(tag: &Tag) -> [u8; PREVIOUS_TAG_SIZE_BYTES] {
    ((TAG_HEADER_BYTES + tag.len()) as u32).to_be_bytes()
}

/// Appends a whole tag with its PreviousTagSize. Copies the payload: for configs.
pub fn write_tag(tag: &Tag, out: &mut BytesMut) {
    out.reserve(TAG_HEADER_BYTES + tag.len() + PREVIOUS_TAG_SIZE_BYTES);
    out.put_slice(&tag_header(tag));
    out.put_slice(&tag.head);
    out.put_slice(&tag.body);
    out.put_slice(&tag_trailer(tag));
}

/// The FLV file header and PreviousTagSize0 (§E.2, §E.3).
pub fn file_header(flags: u8) -> [u8; 13] {
    [b'F', b'L', b'V', 1, flags, 0, 0, 0, 9, 0, 0, 0, 0]
}

/// FLV as a byte stream. Each packet stands in one envelope: a frame's tag, or all tags of a configuration together.
#[derive(Clone, Debug)]
pub struct FlvMuxer {
    tags: TagMuxer,
    envelope: Envelope,
}

impl FlvMuxer {
    pub fn new(hevc: HevcForm, envelope: Envelope) -> Self {
        FlvMuxer { tags: TagMuxer::new(hevc), envelope }
    }

    fn enclose(&self, payload: &[u8]) -> Bytes {
        let mut bytes = BytesMut::with_capacity(payload.len() + ENVELOPE_BYTES_MAX);
        self.envelope.open(payload.len(), &mut bytes);
        bytes.put_slice(payload);
        self.envelope.close(&mut bytes);
        bytes.freeze()
    }

    fn enclose_tag(&self, tag: Tag) -> SmallVec<[Bytes; 3]> {
        let mut front: SmallVec<[u8; 32]> = SmallVec::from_slice(&tag_header(&tag));
        front.extend_from_slice(&tag.head);
        let back = tag_trailer(&tag);
        self.envelope.enclose(&front, tag.body, &back)
    }
}

impl Muxer for FlvMuxer {
    fn push(&mut self, event: &MediaEvent, out: &mut Vec<Packet>) {
        match self.tags.push(event) {
            Muxed::Nothing => {}
            Muxed::Config(tags) => {
                let mut bytes = BytesMut::new();
                tags.iter().for_each(|tag| write_tag(tag, &mut bytes));
                out.push(Packet::new(smallvec![self.enclose(&bytes)], PacketKind::Config, Stamp::ZERO, self.tags.newest));
            }
            Muxed::Frame { tag, kind, arrival, dts } => {
                let body = tag.body.clone();
                out.push(Packet::new(self.enclose_tag(tag), kind, arrival, dts).sharing(&body));
            }
        }
    }

    fn head(&self) -> Option<Bytes> {
        Some(self.enclose(&file_header(self.tags.flags())))
    }
}
