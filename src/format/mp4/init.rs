//! The init segment: `ftyp` and a `moov` without samples. The boxes of `moov` that plain files have too are written here.
//!
//! ISO/IEC 14496-12 §4.3, §8.2 to §8.8.3. Not here: sample entries, tables of samples.

use bytes::{BufMut, Bytes, BytesMut};

use super::boxes::{put_box, put_full_box};
use super::carried::{Carried, carried};
use super::clock::ticks;
use crate::media::Tracks;

/// Ticks of `mvhd`, `tkhd` and `elst`.
pub const MOVIE_TIMESCALE: u32 = 1_000;

/// ISO 639-2 "und" in three times five bits.
const LANGUAGE_UNDETERMINED: u16 = 0x55C4;

/// `ftyp` and `moov` in front of fragments. `None`: none of the tracks can be carried. Tracks are numbered from 1 in the order of those carried.
pub fn init_segment(tracks: &Tracks) -> Option<Bytes> {
    init_segment_from(tracks, 0)
}

/// As [`init_segment`], where the presentation begins at this time of the pictures, in microseconds: what B-frames put in front of it is taken
/// away by an edit list, which holds for all fragments that follow (§8.6.6: an edit without duration). Sound has none, for ffmpeg takes it for
/// samples to be left out.
pub fn init_segment_from(tracks: &Tracks, begin_micros: i64) -> Option<Bytes> {
    let carried = carried(tracks);
    if carried.is_empty() {
        return None;
    }
    let mut out = BytesMut::with_capacity(1_024);
    // iso6: signed composition offsets and offsets that begin at the moof.
    put_ftyp(&mut out, b"iso6", &[b"iso6", b"iso5", b"mp41"]);
    put_box(&mut out, b"moov", |out| {
        put_mvhd(out, 0, carried.len() as u32 + 1);
        for (track, _) in &carried {
            let begin = ticks(begin_micros, track.timescale).max(0) as u64;
            let edit = (track.is_video && begin > 0).then_some((0, begin));
            put_track(out, track, TrackTimes { edit, ..TrackTimes::default() }, |out| {
                for kind in [b"stts", b"stsc", b"stco"] {
                    put_full_box(out, kind, 0, 0, |out| out.put_u32(0));
                }
                put_full_box(out, b"stsz", 0, 0, |out| out.put_u64(0));
            });
        }
        put_box(out, b"mvex", |out| {
            for (track, _) in &carried {
                put_full_box(out, b"trex", 0, 0, |out| {
                    out.put_u32(track.number);
                    // The first and only sample entry; everything else stands in the fragments.
                    out.put_u32(1);
                    out.put_bytes(0, 12);
                });
            }
        });
    });
    Some(out.freeze())
}

pub fn put_ftyp(out: &mut BytesMut, major: &[u8; 4], compatible: &[&[u8; 4]]) {
    put_box(out, b"ftyp", |out| {
        out.put_slice(major);
        out.put_u32(512);
        compatible.iter().for_each(|brand| out.put_slice(&brand[..]));
    });
}

/// `duration` in [`MOVIE_TIMESCALE`].
pub fn put_mvhd(out: &mut BytesMut, duration: u64, next_track: u32) {
    const RATE_ONE: u32 = 0x0001_0000;
    const VOLUME_ONE: u16 = 0x0100;
    let wide = is_wide(duration);
    put_full_box(out, b"mvhd", wide.into(), 0, |out| {
        put_times(out, wide);
        out.put_u32(MOVIE_TIMESCALE);
        put_unsigned(out, wide, duration);
        out.put_u32(RATE_ONE);
        out.put_u16(VOLUME_ONE);
        out.put_bytes(0, 10);
        put_unity_matrix(out);
        out.put_bytes(0, 24);
        out.put_u32(next_track);
    });
}

/// What a track's headers say of its time. In front of fragments all are zero but the beginning.
#[derive(Clone, Copy, Debug, Default)]
pub struct TrackTimes {
    /// Of the samples, in ticks of the track.
    pub media: u64,
    /// Of the edits, in [`MOVIE_TIMESCALE`].
    pub presented: u64,
    /// Ticks of the movie before the track begins, and where its own time begins then. `None`: no edit list.
    pub edit: Option<(u64, u64)>,
}

/// A `trak`; `tables` writes what follows `stsd`.
pub fn put_track(out: &mut BytesMut, track: &Carried, times: TrackTimes, tables: impl FnOnce(&mut BytesMut)) {
    put_box(out, b"trak", |out| {
        put_tkhd(out, track, times.presented);
        if let Some((delay, begin)) = times.edit {
            put_edits(out, delay, begin, times.presented);
        }
        put_box(out, b"mdia", |out| {
            put_mdhd(out, track.timescale, times.media);
            put_hdlr(out, track.is_video);
            put_box(out, b"minf", |out| {
                match track.is_video {
                    true => put_full_box(out, b"vmhd", 0, 1, |out| out.put_u64(0)),
                    false => put_full_box(out, b"smhd", 0, 0, |out| out.put_u32(0)),
                }
                put_box(out, b"dinf", |out| {
                    put_full_box(out, b"dref", 0, 0, |out| {
                        out.put_u32(1);
                        // Flag 1: in this file.
                        put_full_box(out, b"url ", 0, 1, |_| {});
                    });
                });
                put_box(out, b"stbl", |out| {
                    put_full_box(out, b"stsd", 0, 0, |out| {
                        out.put_u32(1);
                        out.put_slice(&track.entry);
                    });
                    tables(out);
                });
            });
        });
    });
}

fn put_tkhd(out: &mut BytesMut, track: &Carried, duration: u64) {
    /// Enabled, in the movie, in the preview.
    const FLAGS: u32 = 7;
    let wide = is_wide(duration);
    put_full_box(out, b"tkhd", wide.into(), FLAGS, |out| {
        put_times(out, wide);
        out.put_u32(track.number);
        out.put_u32(0);
        put_unsigned(out, wide, duration);
        out.put_u64(0);
        out.put_u16(0);
        // Players choose one track of a group; sound and picture are no alternatives.
        out.put_u16(if track.is_video { 0 } else { 1 });
        out.put_u16(if track.is_video { 0 } else { 0x0100 });
        out.put_u16(0);
        put_unity_matrix(out);
        out.put_u32(track.width.min(0xFFFF) << 16);
        out.put_u32(track.height.min(0xFFFF) << 16);
    });
}

/// An empty edit of `delay`, then everything from `begin` on (§8.6.6).
fn put_edits(out: &mut BytesMut, delay: u64, begin: u64, presented: u64) {
    const RATE_ONE: u32 = 0x0001_0000;
    let wide = is_wide(begin.max(presented));
    put_box(out, b"edts", |out| {
        put_full_box(out, b"elst", wide.into(), 0, |out| {
            out.put_u32(if delay > 0 { 2 } else { 1 });
            if delay > 0 {
                put_unsigned(out, wide, delay);
                if wide {
                    out.put_i64(-1)
                } else {
                    out.put_i32(-1)
                }
                out.put_u32(RATE_ONE);
            }
            put_unsigned(out, wide, presented.saturating_sub(delay));
            put_unsigned(out, wide, begin);
            out.put_u32(RATE_ONE);
        });
    });
}

fn put_mdhd(out: &mut BytesMut, timescale: u32, duration: u64) {
    let wide = is_wide(duration);
    put_full_box(out, b"mdhd", wide.into(), 0, |out| {
        put_times(out, wide);
        out.put_u32(timescale);
        put_unsigned(out, wide, duration);
        out.put_u16(LANGUAGE_UNDETERMINED);
        out.put_u16(0);
    });
}

fn put_hdlr(out: &mut BytesMut, is_video: bool) {
    let (handler, name): (_, &[u8]) = if is_video { (b"vide", b"VideoHandler\0") } else { (b"soun", b"SoundHandler\0") };
    put_full_box(out, b"hdlr", 0, 0, |out| {
        out.put_u32(0);
        out.put_slice(handler);
        out.put_bytes(0, 12);
        out.put_slice(name);
    });
}

/// When it was made and changed: not said.
fn put_times(out: &mut BytesMut, wide: bool) {
    out.put_bytes(0, if wide { 16 } else { 8 });
}

fn put_unity_matrix(out: &mut BytesMut) {
    for value in [0x0001_0000, 0, 0, 0, 0x0001_0000, 0, 0, 0, 0x4000_0000] {
        out.put_u32(value);
    }
}

/// Whether a box needs its version 1. The largest value of 31 bits is left out because some readers take it for "unknown".
fn is_wide(value: u64) -> bool {
    value >= 0x7FFF_FFFF
}

fn put_unsigned(out: &mut BytesMut, wide: bool, value: u64) {
    if wide { out.put_u64(value) } else { out.put_u32(value as u32) }
}

#[cfg(test)]
mod tests {
    use super::super::boxes::{children, descend};
    use super::super::testing::{every_track, tracks};
    use super::*;
    use crate::media::{Codec, Track, TrackId, TrackShape};

    #[test]
    fn tracks_are_numbered_as_they_are_carried() {
        let script = Track { id: TrackId(9), codec: Codec::Script, config: Bytes::new(), shape: TrackShape::Data };
        let mut all = every_track();
        all.insert(1, script.clone());
        let init = init_segment(&tracks(all)).unwrap();
        let moov = descend(&init, &[b"moov"]).unwrap();
        let numbers: Vec<u8> =
            children(moov).filter(|(kind, _)| kind == b"trak").map(|(_, trak)| descend(trak, &[b"tkhd"]).unwrap()[15]).collect();
        assert_eq!(numbers, (1..=every_track().len() as u8).collect::<Vec<_>>());
        assert_eq!(children(descend(moov, &[b"mvex"]).unwrap()).count(), every_track().len());
        assert_eq!(init_segment(&tracks(vec![script])), None);
    }

    #[test]
    fn what_b_frames_put_in_front_is_taken_away_from_the_pictures() {
        let tracks = tracks(every_track());
        let edits = |init: &[u8]| -> Vec<(bool, Vec<u8>)> {
            let traks = children(descend(init, &[b"moov"]).unwrap()).filter(|(kind, _)| kind == b"trak");
            let with_edits = traks.filter_map(|(_, trak)| {
                let handler = descend(trak, &[b"mdia", b"hdlr"]).unwrap()[8..12] == *b"vide";
                Some((handler, descend(trak, &[b"edts", b"elst"])?.to_vec()))
            });
            with_edits.collect()
        };
        assert_eq!(edits(&init_segment(&tracks).unwrap()), []);
        let found = edits(&init_segment_from(&tracks, 80_000).unwrap());
        assert!(!found.is_empty());
        for (is_video, elst) in found {
            // One edit without duration, from tick 7200 on, at the usual rate.
            let expected = [0, 1, 0, 7_200, 0x1_0000].map(u32::to_be_bytes).concat();
            assert_eq!((is_video, elst), (true, expected));
        }
    }

    #[test]
    fn boxes_fill_the_segment() {
        let init = init_segment(&tracks(every_track())).unwrap();
        let kinds: Vec<_> = children(&init).map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [*b"ftyp", *b"moov"]);
        assert_eq!(children(&init).map(|(_, content)| content.len() + 8).sum::<usize>(), init.len());
    }
}
