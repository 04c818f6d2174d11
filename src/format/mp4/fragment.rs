//! Fragments: `moof` and `mdat` of some samples.
//!
//! ISO/IEC 14496-12 §8.8. A run (`trun`) has each sample's duration, size and composition offset, and for pictures its flags; offsets count from
//! the `moof`. The samples are not copied: [`FragmentParts::payload`] shares their memory.
//!
//! Limits: a fragment has less than 2 GiB, because offsets in runs have 31 bits; segments end at half of `hls.bytes_max`, which is 1 GiB at most.
//! Not here: when a fragment ends.

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

use super::boxes::{SAMPLE_DELTA, SAMPLE_KEY, put_box, put_full_box};
use super::carried::{Carried, carried};
use super::clock::{TrackClock, ticks};
use crate::media::{AudioLength, MediaTime, TrackId, Tracks};

/// One access unit in a fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Canonical payload.
    pub data: Bytes,
    pub dts: MediaTime,
    /// Microseconds up to the next sample of the track; 0: not known. It counts only for the last sample of a fragment: between samples the
    /// difference of their times is taken. Where the codec says how long a frame is, that is taken unless there is a gap.
    pub duration: i64,
    /// Presentation time minus decoding time, in microseconds.
    pub cts: i32,
    pub key: bool,
}

/// The samples of one fragment by track; each list in decoding order, not empty.
#[derive(Clone, Copy, Debug)]
pub struct Fragment<'a> {
    /// Of the whole movie: grows from fragment to fragment.
    pub sequence: u32,
    pub tracks: &'a [(TrackId, &'a [Sample])],
}

/// A fragment as it is written: `head`, then all of `payload`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FragmentParts {
    /// `moof` and the header of `mdat`.
    pub head: Bytes,
    pub payload: SmallVec<[Bytes; 8]>,
    /// Of both together.
    pub len: usize,
}

/// Writes the fragments behind one init segment. Each sample goes through it once, in decoding order.
#[derive(Clone, Debug)]
pub struct FragmentWriter {
    tracks: Vec<(Carried, TrackClock)>,
}

/// The samples of one track in a fragment.
struct Run<'a> {
    at: usize,
    begin: u64,
    entries: Vec<Entry>,
    samples: &'a [Sample],
}

struct Entry {
    duration: u32,
    cts: i32,
}

impl FragmentWriter {
    /// `None`: none of the tracks can be carried.
    pub fn new(tracks: &Tracks) -> Option<Self> {
        let carried = carried(tracks).into_iter();
        let tracks: Vec<_> = carried
            .map(|(carried, track)| {
                let clock = TrackClock::new(carried.timescale, AudioLength::of(track));
                (carried, clock)
            })
            .collect();
        (!tracks.is_empty()).then_some(FragmentWriter { tracks })
    }

    pub fn carries(&self, track: TrackId) -> bool {
        self.tracks.iter().any(|(carried, _)| carried.id == track)
    }

    pub fn is_video(&self, track: TrackId) -> bool {
        self.tracks.iter().any(|(carried, _)| carried.id == track && carried.is_video)
    }

    /// Video tracks come first. Tracks that are not carried are left out.
    pub fn fragment(&mut self, fragment: &Fragment<'_>) -> FragmentParts {
        let mut runs: SmallVec<[Run<'_>; 2]> = SmallVec::new();
        for (id, samples) in fragment.tracks {
            runs.extend(self.run(*id, samples));
        }
        runs.sort_by_key(|run| !self.tracks[run.at].0.is_video);
        let payload: SmallVec<[Bytes; 8]> = runs.iter().flat_map(|run| run.samples).map(|sample| sample.data.clone()).collect();
        let payload_bytes: usize = payload.iter().map(Bytes::len).sum();
        let head = self.head(fragment.sequence, &runs, payload_bytes);
        FragmentParts { len: head.len() + payload_bytes, head, payload }
    }

    fn run<'a>(&mut self, id: TrackId, samples: &'a [Sample]) -> Option<Run<'a>> {
        let at = self.tracks.iter().position(|(carried, _)| carried.id == id)?;
        let (carried, clock) = &mut self.tracks[at];
        let scale = carried.timescale;
        let places: SmallVec<[_; 8]> = samples.iter().map(|sample| clock.place(sample.dts, &sample.data)).collect();
        let (first, last, last_sample) = (places.first()?, places.last()?, samples.last()?);
        let end = ticks(last_sample.dts.as_micros().saturating_add(last_sample.duration), scale);
        let stated = Some(end - last.ticks).filter(|_| last_sample.duration > 0);
        let last_ticks = match (last.length.map(i64::from), stated) {
            (Some(length), Some(stated)) if !clock.is_rounding(stated - length) => stated,
            (Some(length), _) => length,
            (None, stated) => stated.unwrap_or(carried.usual_ticks.into()),
        };
        let ends = places.iter().skip(1).map(|place| place.ticks).chain([last.ticks.saturating_add(last_ticks)]);
        let entry = |(end, (place, sample)): (i64, (&super::clock::Place, &Sample))| {
            let shown = ticks(sample.dts.as_micros().saturating_add(sample.cts.into()), scale);
            Entry {
                duration: u32::try_from(end - place.ticks).unwrap_or(if end > place.ticks { u32::MAX } else { 0 }),
                // Sound is presented as it is decoded; its ticks may be counted, so the difference of stamps says nothing.
                cts: if sample.cts == 0 { 0 } else { (shown - place.ticks).clamp(i32::MIN.into(), i32::MAX.into()) as i32 },
            }
        };
        let entries = ends.zip(places.iter().zip(samples)).map(entry).collect();
        Some(Run { at, begin: first.ticks.max(0) as u64, entries, samples })
    }

    fn head(&self, sequence: u32, runs: &[Run<'_>], payload_bytes: usize) -> Bytes {
        const MDAT_HEADER_BYTES: usize = 8;
        const ENTRY_BYTES_MAX: usize = 16;
        const TRACK_BYTES: usize = 80;
        let samples: usize = runs.iter().map(|run| run.samples.len()).sum();
        let mut out = BytesMut::with_capacity(32 + TRACK_BYTES * runs.len() + ENTRY_BYTES_MAX * samples);
        let mut offsets_at: SmallVec<[usize; 2]> = SmallVec::new();
        put_box(&mut out, b"moof", |out| {
            put_full_box(out, b"mfhd", 0, 0, |out| out.put_u32(sequence));
            for run in runs {
                put_box(out, b"traf", |out| offsets_at.push(put_run(out, &self.tracks[run.at].0, run)));
            }
        });
        // Now that the length of the moof is known, each run is told where its samples begin.
        let mut offset = out.len() + MDAT_HEADER_BYTES;
        for (at, run) in offsets_at.into_iter().zip(runs) {
            out[at..at + 4].copy_from_slice(&(offset as u32).to_be_bytes());
            offset += run.samples.iter().map(|sample| sample.data.len()).sum::<usize>();
        }
        out.put_u32((MDAT_HEADER_BYTES + payload_bytes) as u32);
        out.put_slice(b"mdat");
        out.freeze()
    }
}

/// Returns where the data offset stands.
fn put_run(out: &mut BytesMut, track: &Carried, run: &Run<'_>) -> usize {
    const BASE_IS_MOOF: u32 = 0x02_0000;
    const DEFAULT_FLAGS: u32 = 0x20;
    const DATA_OFFSET: u32 = 0x1;
    const DURATIONS: u32 = 0x100;
    const SIZES: u32 = 0x200;
    const FLAGS: u32 = 0x400;
    const OFFSETS: u32 = 0x800;
    let has_offsets = run.entries.iter().any(|entry| entry.cts != 0);
    let mut flags = DATA_OFFSET | DURATIONS | SIZES;
    flags |= if track.is_video { FLAGS } else { 0 };
    flags |= if has_offsets { OFFSETS } else { 0 };
    put_full_box(out, b"tfhd", 0, BASE_IS_MOOF | DEFAULT_FLAGS, |out| {
        out.put_u32(track.number);
        out.put_u32(if track.is_video { SAMPLE_DELTA } else { SAMPLE_KEY });
    });
    put_full_box(out, b"tfdt", 1, 0, |out| out.put_u64(run.begin));
    let mut offset_at = 0;
    put_full_box(out, b"trun", 1, flags, |out| {
        out.put_u32(run.entries.len() as u32);
        offset_at = out.len();
        out.put_u32(0);
        for (entry, sample) in run.entries.iter().zip(run.samples) {
            out.put_u32(entry.duration);
            out.put_u32(sample.data.len() as u32);
            if track.is_video {
                out.put_u32(if sample.key { SAMPLE_KEY } else { SAMPLE_DELTA });
            }
            if has_offsets {
                out.put_i32(entry.cts);
            }
        }
    });
    offset_at
}

#[cfg(test)]
mod tests {
    use super::super::boxes::{Fields, child, children, descend};
    use super::super::testing::{every_track, tracks};
    use super::*;

    const VIDEO: TrackId = TrackId(0);
    const AUDIO: TrackId = TrackId(1);

    fn sample(millis: i64, duration: i64, cts: i32, data: &'static [u8]) -> Sample {
        Sample { data: Bytes::from_static(data), dts: MediaTime::from_millis(millis), duration, cts, key: millis % 1000 == 0 }
    }

    /// Track, begin, and per sample where it lies in the whole, its duration and its composition offset.
    type ReadRun = (u32, u64, Vec<(usize, u32, i32)>);

    fn runs(parts: &FragmentParts) -> Vec<ReadRun> {
        let moof = child(&parts.head, b"moof").unwrap();
        let trafs = children(moof).filter(|(kind, _)| kind == b"traf").map(|(_, traf)| traf);
        let read = |traf: &[u8]| {
            let mut tfhd = Fields(&child(traf, b"tfhd").unwrap()[4..]);
            let mut tfdt = Fields(&child(traf, b"tfdt").unwrap()[4..]);
            let mut trun = Fields(child(traf, b"trun").unwrap());
            let (_, flags) = trun.version_and_flags().unwrap();
            let (count, mut at) = (trun.u32().unwrap(), trun.u32().unwrap() as usize);
            let samples = (0..count).map(|_| {
                let (duration, size) = (trun.u32().unwrap(), trun.u32().unwrap() as usize);
                if flags & 0x400 != 0 {
                    trun.skip(4).unwrap();
                }
                let cts = if flags & 0x800 == 0 { 0 } else { trun.i32().unwrap() };
                at += size;
                (at - size, duration, cts)
            });
            (tfhd.u32().unwrap(), tfdt.u64().unwrap(), samples.collect())
        };
        trafs.map(read).collect()
    }

    #[test]
    fn a_fragment_says_where_its_samples_lie() {
        let tracks = tracks(every_track());
        let mut writer = FragmentWriter::new(&tracks).unwrap();
        let sound = [sample(21, 0, 0, b"so"), sample(44, 0, 0, b"und")];
        let pictures = [sample(0, 0, 80_000, b"key frame"), sample(40, 33_333, -20_000, b"B")];
        let fragment = Fragment { sequence: 7, tracks: &[(AUDIO, &sound), (VIDEO, &pictures), (TrackId(99), &sound)] };
        let parts = writer.fragment(&fragment);
        let whole = [&parts.head[..], &parts.payload.concat()].concat();
        assert_eq!(whole.len(), parts.len);
        assert_eq!(descend(&parts.head, &[b"moof", b"mfhd"]).unwrap()[4..], 7u32.to_be_bytes());
        let first = parts.head.len();
        let expected = vec![
            (1, 0, vec![(first, 3_600, 7_200), (first + 9, 3_000, -1_800)]),
            // The stamps of sound are rounded, its ticks are counted.
            (2, 926, vec![(first + 10, 1_024, 0), (first + 12, 1_024, 0)]),
        ];
        let sound = [sample(67, 23_000, 0, b"or"), sample(90, 123_000, 0, b"or")];
        let gap = writer.fragment(&Fragment { sequence: 8, tracks: &[(AUDIO, &sound)] });
        let at = gap.head.len();
        assert_eq!(runs(&gap), [(2, 2_974, vec![(at, 1_024, 0), (at + 2, 5_395, 0)])], "a gap is no rounding");
        assert_eq!(runs(&parts), expected);
        assert_eq!(children(&whole).map(|(kind, _)| kind).collect::<Vec<_>>(), [*b"moof", *b"mdat"]);
        let (_, mdat) = children(&whole).nth(1).unwrap();
        assert_eq!(mdat, b"key frameBsound");
    }

    #[test]
    fn a_duration_that_nobody_knows_is_the_usual_one() {
        let mut writer = FragmentWriter::new(&tracks(every_track())).unwrap();
        let parts = writer.fragment(&Fragment { sequence: 1, tracks: &[(VIDEO, &[sample(0, 0, 0, b"x")])] });
        assert_eq!(runs(&parts)[0].2, [(parts.head.len(), 3_600, 0)]);
    }

    /// However long a stream of thirds of 100 ms runs, each fragment begins where the one before ended.
    #[test]
    fn errors_do_not_add_up() {
        let mut writer = FragmentWriter::new(&tracks(every_track())).unwrap();
        let dts = |frame: i64| frame * 1_000_000 / 30;
        let mut end = 0;
        for frame in 0..30_000 {
            let duration = dts(frame + 1) - dts(frame);
            let sample = Sample { dts: MediaTime::from_micros(dts(frame)), ..sample(0, duration, 0, b"x") };
            let (_, begin, samples) = runs(&writer.fragment(&Fragment { sequence: 1, tracks: &[(VIDEO, &[sample])] })).remove(0);
            assert_eq!(begin, end);
            end = begin + u64::from(samples[0].1);
        }
        assert_eq!(end, 30_000 * 3_000);
    }
}
