//! The tables of a transport stream: which program there is, and which streams it has.
//!
//! ISO/IEC 13818-1 §2.4.4 (sections, PAT, PMT), §2.6.8 (registration descriptor). The first program is taken. A table with a wrong checksum is
//! left out. Limits: a section has [`SECTION_BYTES_MAX`]. Not here: other tables, other programs.

use smallvec::SmallVec;

use crate::format::pes::crc32;
use crate::format::ts::{EXTENSION_DESCRIPTOR, OPUS, PRIVATE_DATA, REGISTRATION_DESCRIPTOR};
use crate::media::Codec;

/// §2.4.4.3, §2.4.4.8: 1,021 behind the length.
pub const SECTION_BYTES_MAX: usize = 1_024;
/// Up to the length.
const LENGTH_BYTES: usize = 3;
/// Up to what the table says.
const HEAD_BYTES: usize = 8;
const CHECKSUM_BYTES: usize = 4;
const PAT: u8 = 0;
const PMT: u8 = 2;

/// Puts sections of one PID together.
#[derive(Debug, Default)]
pub struct Sections {
    section: Vec<u8>,
    /// One is under way.
    is_open: bool,
}

impl Sections {
    pub fn held_bytes(&self) -> usize {
        self.section.len()
    }

    /// Bytes are missing.
    pub fn lost(&mut self) {
        self.section.clear();
        self.is_open = false;
    }

    /// The payload of a packet. `sink` gets each section that is whole.
    pub fn push(&mut self, starts: bool, payload: &[u8], mut sink: impl FnMut(&[u8])) {
        if !starts {
            return self.take(payload, &mut sink);
        }
        // Behind the pointer and what is left of the section before.
        let Some((pointer, rest)) = payload.split_first() else { return self.lost() };
        let Some((end, begin)) = rest.split_at_checked(usize::from(*pointer)) else { return self.lost() };
        self.take(end, &mut sink);
        self.section.clear();
        self.is_open = true;
        self.take(begin, &mut sink);
    }

    fn take(&mut self, bytes: &[u8], sink: &mut impl FnMut(&[u8])) {
        const STUFFING: u8 = 0xFF;
        for byte in bytes {
            if !self.is_open || (self.section.is_empty() && *byte == STUFFING) {
                self.is_open = false;
                return;
            }
            self.section.push(*byte);
            let whole = self
                .section
                .get(1..LENGTH_BYTES)
                .map(|length| LENGTH_BYTES + usize::from(u16::from_be_bytes([length[0] & 0x0F, length[1]])));
            if whole.is_some_and(|whole| whole > SECTION_BYTES_MAX) {
                return self.lost();
            }
            if whole == Some(self.section.len()) {
                sink(&self.section);
                self.section.clear();
            }
        }
    }
}

/// What a section of `table` says that holds now. `None`: it is another, or broken.
fn content(section: &[u8], table: u8) -> Option<&[u8]> {
    let is_now = *section.first()? == table && section.get(5)? & 1 == 1;
    let content = section.get(HEAD_BYTES..section.len().checked_sub(CHECKSUM_BYTES)?)?;
    (is_now && crc32(section) == 0).then_some(content)
}

/// The PID of the table of the first program, from a section of the PAT.
pub fn program_pid(section: &[u8]) -> Option<u16> {
    let programs = content(section, PAT)?.chunks_exact(4);
    let mut pids = programs.filter(|program| program[..2] != [0, 0]).map(|program| pid(program[2], program[3]));
    pids.next()
}

fn pid(high: u8, low: u8) -> u16 {
    u16::from_be_bytes([high & 0x1F, low])
}

/// A stream of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub pid: u16,
    /// `None`: one that is not carried.
    pub codec: Option<Codec>,
    /// Of Opus, which says it here; else 0.
    pub channels: u8,
}

/// The streams of the program, from a section of the PMT.
pub fn streams(section: &[u8]) -> Option<SmallVec<[Entry; 4]>> {
    let content = content(section, PMT)?;
    let mut rest = content.get(4 + length(content.get(2..4)?)..)?;
    let mut entries = SmallVec::new();
    while let [stream_type, high, low, behind @ ..] = rest {
        let descriptors = behind.get(2..2 + length(behind.get(..2)?))?;
        let (codec, channels) = codec(*stream_type, descriptors);
        entries.push(Entry { pid: pid(*high, *low), codec, channels });
        rest = &behind[2 + descriptors.len()..];
    }
    Some(entries)
}

fn length(bytes: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([bytes[0] & 0x0F, bytes[1]]))
}

fn codec(stream_type: u8, descriptors: &[u8]) -> (Option<Codec>, u8) {
    let codec = match stream_type {
        0x1B => Codec::H264,
        0x24 => Codec::H265,
        0x0F => Codec::Aac,
        0x03 | 0x04 => Codec::Mp3,
        0x90 => Codec::G711A,
        0x91 => Codec::G711U,
        PRIVATE_DATA if descriptor(descriptors, REGISTRATION_DESCRIPTOR) == Some(OPUS) => {
            let channels = descriptor(descriptors, EXTENSION_DESCRIPTOR).and_then(|extension| extension.get(1));
            let channels = channels.copied().unwrap_or(2);
            // More than two need a mapping that is not carried.
            return (matches!(channels, 1 | 2).then_some(Codec::Opus), channels);
        }
        _ => return (None, 0),
    };
    (Some(codec), 0)
}

/// What the first descriptor of a kind says.
fn descriptor(mut descriptors: &[u8], kind: u8) -> Option<&[u8]> {
    while let [tag, length, rest @ ..] = descriptors {
        let (said, behind) = rest.split_at_checked(usize::from(*length))?;
        if *tag == kind {
            return Some(said);
        }
        descriptors = behind;
    }
    None
}
