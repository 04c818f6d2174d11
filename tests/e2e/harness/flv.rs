//! FLV by hand, so that the server's own reader does not judge the server's own writer: bytes → tags, and what a tag is. Frames out of
//! tags are the server's reading of them.
//!
//! Spec: FLV 10.1 Annex E; Enhanced RTMP v2 for FourCC tags.

use std::path::Path;

use shardcast::format::flv::{Demuxed, FlvDemuxer, TagType};
use shardcast::media::{Frame, MediaEvent, Stamp, Tracks};

pub const AUDIO: u8 = 8;
pub const VIDEO: u8 = 9;
pub const SCRIPT: u8 = 18;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    pub kind: u8,
    pub timestamp: u32,
    pub body: Vec<u8>,
}

impl Tag {
    fn is_enhanced_video(&self) -> bool {
        self.kind == VIDEO && self.body[0] & 0x80 != 0
    }

    /// The low four bits of the first byte: codec id, or packet type of an enhanced tag.
    fn low_bits(&self) -> u8 {
        self.body[0] & 0x0F
    }

    /// A sequence header.
    pub fn is_config(&self) -> bool {
        match (self.kind, self.body[0] >> 4) {
            (VIDEO, _) if self.is_enhanced_video() => self.low_bits() == 0,
            (VIDEO, _) => matches!(self.low_bits(), 7 | 12) && self.body[1] == 0,
            (AUDIO, 9) => self.low_bits() == 0,
            (AUDIO, 10) => self.body[1] == 0,
            _ => false,
        }
    }

    /// A coded picture or sound.
    pub fn is_frame(&self) -> bool {
        let ends = match (self.kind, self.body[0]) {
            (VIDEO, byte) if byte & 0x80 != 0 => !matches!(byte & 0x0F, 1 | 3),
            (VIDEO, byte) => matches!(byte & 0x0F, 7 | 12) && self.body[1] != 1,
            _ => false,
        };
        self.kind != SCRIPT && !self.is_config() && !ends
    }

    pub fn is_key(&self) -> bool {
        self.kind == VIDEO && self.is_frame() && self.body[0] >> 4 & 7 == 1
    }
}

/// Tags out of a byte stream that comes in pieces.
#[derive(Debug, Default)]
pub struct Parser {
    buffer: Vec<u8>,
    /// The flags of the file header, once it is there.
    pub flags: Option<u8>,
}

impl Parser {
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Tag> {
        self.buffer.extend_from_slice(bytes);
        let mut at = 0;
        if self.flags.is_none() {
            if self.buffer.len() < 13 {
                return Vec::new();
            }
            assert_eq!(self.buffer[..4], *b"FLV\x01", "an FLV header");
            assert_eq!(self.buffer[5..13], [0, 0, 0, 9, 0, 0, 0, 0], "an FLV header");
            self.flags = Some(self.buffer[4]);
            at = 13;
        }
        let mut tags = Vec::new();
        while let Some((tag, length)) = tag_at(&self.buffer[at..]) {
            tags.push(tag);
            at += length;
        }
        self.buffer.drain(..at);
        tags
    }
}

/// A whole tag at the front, and its length with what stands around it.
fn tag_at(bytes: &[u8]) -> Option<(Tag, usize)> {
    let header = bytes.first_chunk::<11>()?;
    let [kind, s2, s1, s0, t2, t1, t0, t3, ..] = *header;
    assert!(matches!(kind, AUDIO | VIDEO | SCRIPT), "a tag of type {kind}");
    let size = u32::from_be_bytes([0, s2, s1, s0]);
    let end = 11 + size as usize;
    let trailer = bytes.get(end..end + 4)?;
    assert_eq!(trailer, (11 + size).to_be_bytes(), "the size behind a tag");
    assert_eq!(header[8..], [0; 3], "the stream id of a tag");
    Some((Tag { kind, timestamp: u32::from_be_bytes([t3, t2, t1, t0]), body: bytes[11..end].to_vec() }, end + 4))
}

/// All whole tags of a file.
pub fn read(path: &Path) -> Vec<Tag> {
    Parser::default().push(&std::fs::read(path).unwrap())
}

/// A file of these tags.
pub fn write(path: &Path, tags: &[Tag]) {
    let mut file = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
    for Tag { kind, timestamp, body } in tags {
        let (size, [t3, t2, t1, t0]) = (body.len() as u32, timestamp.to_be_bytes());
        file.push(*kind);
        file.extend_from_slice(&size.to_be_bytes()[1..]);
        file.extend_from_slice(&[t2, t1, t0, t3, 0, 0, 0]);
        file.extend_from_slice(body);
        file.extend_from_slice(&(size + 11).to_be_bytes());
    }
    std::fs::write(path, file).unwrap();
}

/// Fails unless the frames of one kind in `seen` are, byte for byte and in order, what `sent` ends with; returns how many.
#[track_caller]
pub fn assert_tail(seen: &[Tag], sent: &[Tag], kind: u8) -> usize {
    let frames = |tags: &[Tag]| -> Vec<Vec<u8>> { of_kind(tags, kind).map(|tag| tag.body.clone()).collect() };
    let (seen, sent) = (frames(seen), frames(sent));
    assert!(!seen.is_empty(), "no frame of kind {kind} was seen");
    assert!(seen.len() <= sent.len(), "{} frames of kind {kind} were seen, {} were sent", seen.len(), sent.len());
    let from = sent.len() - seen.len();
    if let Some(at) = (0..seen.len()).find(|at| seen[*at] != sent[from + at]) {
        panic!("kind {kind}: frame {at} of {} differs from frame {} that was sent", seen.len(), from + at);
    }
    seen.len()
}

pub fn of_kind(tags: &[Tag], kind: u8) -> impl Iterator<Item = &Tag> {
    tags.iter().filter(move |tag| tag.kind == kind && tag.is_frame())
}

/// Fails unless the decoding times of the kind's frames grow strictly.
#[track_caller]
pub fn assert_monotonic(tags: &[Tag], kind: u8) {
    let times: Vec<u32> = of_kind(tags, kind).map(|tag| tag.timestamp).collect();
    if let Some(pair) = times.windows(2).find(|pair| pair[1] <= pair[0]) {
        panic!("kind {kind}: {} ms is followed by {} ms", pair[0], pair[1]);
    }
}

/// The tracks and frames that the server reads out of tags.
pub fn demux(tags: &[Tag]) -> (Tracks, Vec<Frame>) {
    let (mut demuxer, mut out) = (FlvDemuxer::new(), Vec::new());
    for tag in tags {
        let kind = TagType::from_byte(tag.kind).unwrap();
        demuxer.push(kind, tag.timestamp, tag.body.clone().into(), Stamp::ZERO, &mut out).unwrap();
    }
    let frames = out.into_iter().filter_map(|demuxed| match demuxed {
        Demuxed::Event(MediaEvent::Frame(frame)) => Some(frame),
        _ => None,
    });
    (demuxer.tracks().clone(), frames.collect())
}
