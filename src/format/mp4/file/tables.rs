//! `stts`, `ctts`, `stss`, `stsz`, `stsc` and `stco` or `co64` of a track.
//!
//! ISO/IEC 14496-12 §8.6.1, §8.6.2, §8.7.3 to §8.7.5.

use bytes::{BufMut, BytesMut};

use super::{Chunk, OutTrack};
use crate::format::mp4::boxes::put_full_box;
use crate::media::TrackKind;

/// `false`: a pause is too long to be written.
pub fn put_tables(out: &mut BytesMut, track: &OutTrack, chunks: &[Chunk], media_at: u64, wide: bool) -> bool {
    let samples = || track.samples.iter().map(|sample| sample.info);
    let last = samples().next_back().map_or(0, |last| i64::from(last.duration));
    let steps = samples().zip(samples().skip(1)).map(|(sample, next)| next.dts.saturating_sub(sample.dts)).chain([last]);
    let mut fits = true;
    put_runs(
        out,
        b"stts",
        steps.map(|step| {
            u32::try_from(step).unwrap_or_else(|_| {
                fits = false;
                0
            })
        }),
    );
    if samples().any(|sample| sample.cts != 0) {
        let shift = track.offset_shift();
        put_runs(out, b"ctts", samples().map(|sample| (i64::from(sample.cts) + shift) as u32));
    }
    if track.track.codec.kind() == TrackKind::Video && samples().any(|sample| !sample.key) {
        let keys: Vec<u32> = (1..).zip(samples()).filter(|(_, sample)| sample.key).map(|(number, _)| number).collect();
        put_full_box(out, b"stss", 0, 0, |out| {
            out.put_u32(keys.len() as u32);
            keys.iter().for_each(|number| out.put_u32(*number));
        });
    }
    put_sizes(out, track);
    put_chunks(out, chunks, media_at, wide);
    fits
}

/// Values with how many times each stands in a row.
fn put_runs(out: &mut BytesMut, kind: &[u8; 4], values: impl Iterator<Item = u32>) {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for value in values {
        match runs.last_mut() {
            Some((count, last)) if *last == value => *count += 1,
            _ => runs.push((1, value)),
        }
    }
    put_full_box(out, kind, 0, 0, |out| {
        out.put_u32(runs.len() as u32);
        for (count, value) in runs {
            out.put_u32(count);
            out.put_u32(value);
        }
    });
}

fn put_sizes(out: &mut BytesMut, track: &OutTrack) {
    let mut sizes = track.samples.iter().map(|sample| sample.info.size);
    let first = track.samples.first().map_or(0, |sample| sample.info.size);
    let is_equal = sizes.all(|size| size == first);
    put_full_box(out, b"stsz", 0, 0, |out| {
        out.put_u32(if is_equal { first } else { 0 });
        out.put_u32(track.samples.len() as u32);
        if !is_equal {
            track.samples.iter().for_each(|sample| out.put_u32(sample.info.size));
        }
    });
}

fn put_chunks(out: &mut BytesMut, chunks: &[Chunk], media_at: u64, wide: bool) {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for (number, chunk) in (1..).zip(chunks) {
        if runs.last().is_none_or(|(_, samples)| *samples != chunk.samples) {
            runs.push((number, chunk.samples));
        }
    }
    put_full_box(out, b"stsc", 0, 0, |out| {
        out.put_u32(runs.len() as u32);
        for (first, samples) in runs {
            out.put_u32(first);
            out.put_u32(samples);
            // The sample entry.
            out.put_u32(1);
        }
    });
    put_full_box(out, if wide { b"co64" } else { b"stco" }, 0, 0, |out| {
        out.put_u32(chunks.len() as u32);
        for chunk in chunks {
            let offset = media_at + chunk.offset;
            if wide { out.put_u64(offset) } else { out.put_u32(offset as u32) }
        }
    });
}
