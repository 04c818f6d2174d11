//! The tables of a plain file: `stts`, `ctts`, `stss`, `stsz` or `stz2`, `stsc`, `stco` or `co64` → samples.
//!
//! ISO/IEC 14496-12 §8.6.1, §8.6.2, §8.7.3 to §8.7.5. Sound in samples of single bytes, as QuickTime has it, is read in blocks.

use super::movie::ReadingTrack;
use super::{ReadError, SampleInfo};
use crate::format::mp4::boxes::{Fields, child};
use crate::media::TrackKind;

/// Samples up to this size are no frames but single samples of sound.
const SINGLE_BYTES_MAX: u32 = 8;
/// So many of them make a block.
const BLOCK_SAMPLES: u32 = 1_024;

/// The samples of a track; none if it has no tables, as in front of fragments. `room`: how many there may be.
pub fn read(stbl: &[u8], track: &ReadingTrack, room: usize) -> Result<Vec<SampleInfo>, ReadError> {
    let Some(sizes) = Sizes::read(stbl)? else { return Ok(Vec::new()) };
    if sizes.count() == 0 {
        return Ok(Vec::new());
    }
    let mut chunks = Chunks::read(stbl)?;
    let mut durations = Runs::read(child(stbl, b"stts"), "stts")?;
    let mut offsets = Runs::read(child(stbl, b"ctts"), "ctts")?;
    let mut keys = child(stbl, b"stss").map(Fields);
    keys.as_mut().map(|keys| keys.skip(8));
    let mut next_key = keys.as_mut().and_then(Fields::u32);
    let is_audio = track.track.codec.kind() == TrackKind::Audio;
    let is_single = is_audio && matches!(sizes, Sizes::Equal { bytes, .. } if bytes <= SINGLE_BYTES_MAX);
    let mut samples = Vec::new();
    let (mut dts, mut index) = (0i64, 0u32);
    while index < sizes.count() {
        let (mut offset, in_chunk) = chunks.next().ok_or(ReadError::Broken("stsc"))?;
        let end = index.saturating_add(in_chunk).min(sizes.count());
        while index < end {
            if samples.len() >= room {
                return Err(ReadError::TooManySamples);
            }
            let block = if is_single { BLOCK_SAMPLES.min(end - index).min(durations.left()) } else { 1 };
            let size = sizes.of(index).ok_or(ReadError::Broken("stsz"))?.saturating_mul(block);
            let duration = durations.take(block).unwrap_or(0).saturating_mul(block);
            let cts = offsets.take(block).unwrap_or(0) as i32;
            let is_listed = keys.is_none() || next_key == Some(index + 1);
            if next_key == Some(index + 1) {
                next_key = keys.as_mut().and_then(Fields::u32);
            }
            if size > 0 {
                let dts = dts.saturating_add(track.shift);
                samples.push(SampleInfo { offset, dts, size, duration, cts, key: is_audio || is_listed });
            }
            offset = offset.saturating_add(size.into());
            dts = dts.saturating_add(duration.into());
            index += block;
        }
    }
    Ok(samples)
}

enum Sizes<'a> {
    Equal {
        bytes: u32,
        count: u32,
    },
    /// `bits` each: 32, or of `stz2` 4, 8 or 16.
    Table {
        table: &'a [u8],
        bits: usize,
        count: u32,
    },
}

impl<'a> Sizes<'a> {
    fn read(stbl: &'a [u8]) -> Result<Option<Self>, ReadError> {
        let (table, compact) = match (child(stbl, b"stsz"), child(stbl, b"stz2")) {
            (Some(stsz), _) => (stsz, false),
            (None, Some(stz2)) => (stz2, true),
            (None, None) => return Ok(None),
        };
        Sizes::parse(table, compact).map(Some).ok_or(ReadError::Broken("stsz"))
    }

    fn parse(table: &'a [u8], compact: bool) -> Option<Self> {
        let mut fields = Fields(table);
        fields.skip(4)?;
        let (first, count) = (fields.u32()?, fields.u32()?);
        let bits = if compact { (first & 0xFF) as usize } else { 32 };
        if !compact && first > 0 {
            return Some(Sizes::Equal { bytes: first, count });
        }
        if !matches!(bits, 4 | 8 | 16 | 32) || fields.0.len() < (count as usize).checked_mul(bits)?.div_ceil(8) {
            return None;
        }
        Some(Sizes::Table { table: fields.0, bits, count })
    }

    fn count(&self) -> u32 {
        let (Sizes::Equal { count, .. } | Sizes::Table { count, .. }) = self;
        *count
    }

    fn of(&self, index: u32) -> Option<u32> {
        match self {
            Sizes::Equal { bytes, .. } => Some(*bytes),
            Sizes::Table { table, bits: 4, .. } => {
                let pair = *table.get(index as usize / 2)?;
                Some(u32::from(if index.is_multiple_of(2) { pair >> 4 } else { pair & 0xF }))
            }
            Sizes::Table { table, bits, .. } => {
                let bytes = bits / 8;
                let field = table.get(index as usize * bytes..)?.get(..bytes)?;
                Some(field.iter().fold(0, |size, byte| size << 8 | u32::from(*byte)))
            }
        }
    }
}

/// Chunks with the number of samples in each.
struct Chunks<'a> {
    offsets: Fields<'a>,
    wide: bool,
    /// What is left of `stsc`: first chunk, samples in each, sample entry.
    runs: Fields<'a>,
    /// Of the next chunk, from 1.
    number: u32,
    in_chunk: u32,
    /// Where the next run begins; `None`: there is none.
    next_run: Option<(u32, u32)>,
}

impl<'a> Chunks<'a> {
    fn read(stbl: &'a [u8]) -> Result<Self, ReadError> {
        let (offsets, wide) = match (child(stbl, b"co64"), child(stbl, b"stco")) {
            (Some(co64), _) => (co64, true),
            (None, Some(stco)) => (stco, false),
            (None, None) => return Err(ReadError::Broken("stco")),
        };
        let (mut offsets, mut runs) = (Fields(offsets), Fields(child(stbl, b"stsc").ok_or(ReadError::Broken("stsc"))?));
        offsets.skip(8).ok_or(ReadError::Broken("stco"))?;
        runs.skip(8).ok_or(ReadError::Broken("stsc"))?;
        let mut chunks = Chunks { offsets, wide, runs, number: 1, in_chunk: 0, next_run: None };
        chunks.next_run = chunks.take_run();
        Ok(chunks)
    }

    fn take_run(&mut self) -> Option<(u32, u32)> {
        let (first, in_chunk, _entry) = (self.runs.u32()?, self.runs.u32()?, self.runs.u32()?);
        Some((first, in_chunk))
    }

    fn next(&mut self) -> Option<(u64, u32)> {
        if let Some((first, in_chunk)) = self.next_run
            && first <= self.number
        {
            self.in_chunk = in_chunk;
            self.next_run = self.take_run();
        }
        let offset = self.offsets.unsigned(self.wide)?;
        self.number = self.number.saturating_add(1);
        Some((offset, self.in_chunk))
    }
}

/// `stts` and `ctts`: so many samples have that value.
struct Runs<'a> {
    fields: Fields<'a>,
    left: u32,
    value: u32,
}

impl<'a> Runs<'a> {
    fn read(table: Option<&'a [u8]>, name: &'static str) -> Result<Self, ReadError> {
        let mut fields = Fields(table.unwrap_or_default());
        if table.is_some() {
            fields.skip(8).ok_or(ReadError::Broken(name))?;
        }
        Ok(Runs { fields, left: 0, value: 0 })
    }

    /// How many samples from here have the same value, one at least.
    fn left(&mut self) -> u32 {
        while self.left == 0 {
            let (Some(left), Some(value)) = (self.fields.u32(), self.fields.u32()) else { return 1 };
            (self.left, self.value) = (left, value);
        }
        self.left
    }

    /// The value of the next `count` samples, which are no more than [`Runs::left`].
    fn take(&mut self, count: u32) -> Option<u32> {
        if self.left() < count || self.left == 0 {
            return None;
        }
        self.left -= count;
        Some(self.value)
    }
}
