//! `moof` → samples.
//!
//! ISO/IEC 14496-12 §8.8.4 to §8.8.12. Not here: what to do with a fragment that is not whole.

use super::movie::{Defaults, Reading};
use super::{ReadError, SampleInfo};
use crate::format::mp4::boxes::{Fields, child, children};

const BROKEN: ReadError = ReadError::Broken("traf");

/// A track's part of a fragment.
struct Header {
    at: usize,
    base: u64,
    defaults: Defaults,
    dts: i64,
}

impl Reading {
    /// `moof`: its content; it stands at `moof_at`. `false`: some of its media lies behind the end of the file, so nothing was added.
    pub fn add_fragment(&mut self, moof: &[u8], moof_at: u64, len: u64) -> Result<bool, ReadError> {
        let mut room = self.room(len);
        let mut added: Vec<(usize, i64, Vec<SampleInfo>)> = Vec::new();
        // Where the data of the run before ended.
        let mut data_end = moof_at;
        for (_, traf) in children(moof).filter(|(kind, _)| kind == b"traf") {
            let Some(mut header) = self.traf_header(traf, moof_at, data_end)? else { continue };
            // A track may have several parts in a fragment.
            if child(traf, b"tfdt").is_none()
                && let Some((_, next, _)) = added.iter().rev().find(|(at, ..)| *at == header.at)
            {
                header.dts = *next;
            }
            let mut samples = Vec::new();
            data_end = header.base;
            for (_, trun) in children(traf).filter(|(kind, _)| kind == b"trun") {
                self.read_run(trun, &mut header, &mut data_end, room - samples.len(), &mut samples)?;
            }
            if samples.iter().any(|sample| sample.end() > len) {
                return Ok(false);
            }
            room -= samples.len();
            added.push((header.at, header.dts, samples));
        }
        for (at, next, samples) in added {
            self.count(samples.len())?;
            self.tracks[at].next = next;
            self.tracks[at].samples.extend(samples);
        }
        Ok(true)
    }

    /// `None`: of a track that is not carried.
    fn traf_header(&self, traf: &[u8], moof_at: u64, data_end: u64) -> Result<Option<Header>, ReadError> {
        const BASE_IS_MOOF: u32 = 0x02_0000;
        let mut fields = Fields(child(traf, b"tfhd").ok_or(BROKEN)?);
        let (_, flags) = fields.version_and_flags().ok_or(BROKEN)?;
        let number = fields.u32().ok_or(BROKEN)?;
        let Some(at) = self.tracks.iter().position(|track| track.number == number) else { return Ok(None) };
        let mut base = if flags & BASE_IS_MOOF != 0 { moof_at } else { data_end };
        if flags & 1 != 0 {
            base = fields.u64().ok_or(BROKEN)?;
        }
        if flags & 2 != 0 {
            fields.skip(4).ok_or(BROKEN)?;
        }
        let mut defaults = self.tracks[at].defaults;
        for (flag, field) in [(0x8, &mut defaults.duration), (0x10, &mut defaults.size), (0x20, &mut defaults.flags)] {
            if flags & flag != 0 {
                *field = fields.u32().ok_or(BROKEN)?;
            }
        }
        let dts = match child(traf, b"tfdt") {
            Some(tfdt) => decode_time(tfdt).ok_or(ReadError::Broken("tfdt"))?,
            None => self.tracks[at].next,
        };
        Ok(Some(Header { at, base, defaults, dts }))
    }

    /// Moves `header.dts` and `data_end` behind the run.
    fn read_run(
        &self,
        trun: &[u8],
        header: &mut Header,
        data_end: &mut u64,
        room: usize,
        out: &mut Vec<SampleInfo>,
    ) -> Result<(), ReadError> {
        let broken = || ReadError::Broken("trun");
        let track = &self.tracks[header.at];
        let mut fields = Fields(trun);
        let (_, flags) = fields.version_and_flags().ok_or_else(broken)?;
        let count = fields.u32().ok_or_else(broken)?;
        if count as usize > room {
            return Err(ReadError::TooManySamples);
        }
        if flags & 1 != 0 {
            *data_end = header.base.saturating_add_signed(fields.i32().ok_or_else(broken)?.into());
        }
        let first_flags = if flags & 4 != 0 { Some(fields.u32().ok_or_else(broken)?) } else { None };
        // Samples that have no bytes would be no end of work for a few bytes.
        if flags & 0x200 == 0 && header.defaults.size == 0 && count > 0 {
            return Err(broken());
        }
        for index in 0..count {
            let mut field = |flag: u32, default: u32| if flags & flag != 0 { fields.u32() } else { Some(default) };
            let duration = field(0x100, header.defaults.duration).ok_or_else(broken)?;
            let size = field(0x200, header.defaults.size).ok_or_else(broken)?;
            let sample_flags = field(0x400, header.defaults.flags).ok_or_else(broken)?;
            // Unsigned in version 0; nobody has offsets of six hours.
            let cts = field(0x800, 0).ok_or_else(broken)? as i32;
            let sample_flags = first_flags.filter(|_| index == 0).unwrap_or(sample_flags);
            if size > 0 {
                let dts = header.dts.saturating_add(track.shift);
                out.push(SampleInfo { offset: *data_end, dts, size, duration, cts, key: track.is_key(sample_flags) });
            }
            *data_end = data_end.saturating_add(size.into());
            header.dts = header.dts.saturating_add(duration.into());
        }
        Ok(())
    }
}

fn decode_time(tfdt: &[u8]) -> Option<i64> {
    let mut fields = Fields(tfdt);
    let (version, _) = fields.version_and_flags()?;
    fields.unsigned(version == 1).map(|time| i64::try_from(time).unwrap_or(i64::MAX))
}
