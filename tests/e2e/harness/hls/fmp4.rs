//! Fragmented MP4 by hand: what an initialisation section says of its tracks, what fragments hold, and whether one goes on where the last ended.
//!
//! Spec: ISO/IEC 14496-12 §8.8 (movie fragments).

use std::collections::BTreeMap;

use super::Fault;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    pub timescale: u64,
    /// `vide` or `soun`.
    pub handler: String,
    /// `avc1`, `mp4a` …
    pub entry: String,
    default_duration: u32,
    default_flags: u32,
}

/// The tracks of an initialisation section by their number.
pub type Init = BTreeMap<u32, Track>;

/// What one fragment holds of one track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub track: u32,
    /// Decoding time of the first sample, and of the end of the last, in ticks.
    pub begin: u64,
    pub end: u64,
    pub samples: usize,
    /// Whether the first sample is a keyframe.
    pub key: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    pub sequence: u32,
    pub runs: Vec<Run>,
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn number(&mut self, bytes: usize) -> Result<u64, Fault> {
        let (number, rest) = self.0.split_at_checked(bytes).ok_or("a box is cut off")?;
        self.0 = rest;
        Ok(number.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)))
    }

    /// Version and flags.
    fn full(&mut self) -> Result<(u64, u64), Fault> {
        Ok((self.number(1)?, self.number(3)?))
    }
}

/// A box: type, where it begins, content.
type Found<'a> = (String, usize, &'a [u8]);

fn boxes(bytes: &[u8]) -> Result<Vec<Found<'_>>, Fault> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let size = Cursor(&bytes[at..]).number(4)? as usize;
        let whole = bytes.get(at..at + size).filter(|whole| whole.len() >= 8).ok_or(format!("a box of {size} bytes at {at}"))?;
        found.push((String::from_utf8_lossy(&whole[4..8]).into_owned(), at, &whole[8..]));
        at += size;
    }
    Ok(found)
}

fn child<'a>(bytes: &'a [u8], path: &[&str]) -> Result<&'a [u8], Fault> {
    path.iter().try_fold(bytes, |bytes, name| {
        let found = boxes(bytes)?.into_iter().find(|(kind, ..)| kind == name);
        found.map(|(.., content)| content).ok_or(format!("no {name} of {path:?}"))
    })
}

pub fn init(bytes: &[u8]) -> Result<Init, Fault> {
    let top: Vec<String> = boxes(bytes)?.into_iter().map(|(kind, ..)| kind).collect();
    if top != ["ftyp", "moov"] {
        return Err(format!("an initialisation section is ftyp and moov, this is {top:?}"));
    }
    let moov = child(bytes, &["moov"])?;
    let mut tracks = Init::new();
    for (_, _, trak) in boxes(moov)?.into_iter().filter(|(kind, ..)| kind == "trak") {
        let mut tkhd = Cursor(child(trak, &["tkhd"])?);
        let wide = tkhd.full()?.0 == 1;
        tkhd.number(if wide { 16 } else { 8 })?;
        let id = tkhd.number(4)? as u32;
        let mut mdhd = Cursor(child(trak, &["mdia", "mdhd"])?);
        let wide = mdhd.full()?.0 == 1;
        mdhd.number(if wide { 16 } else { 8 })?;
        let mut hdlr = Cursor(child(trak, &["mdia", "hdlr"])?);
        hdlr.number(8)?;
        let entries = child(trak, &["mdia", "minf", "stbl", "stsd"])?;
        let (entry, ..) = boxes(entries.get(8..).ok_or("stsd is cut off")?)?.into_iter().next().ok_or("stsd is empty")?;
        let track = Track {
            timescale: mdhd.number(4)?,
            handler: String::from_utf8_lossy(hdlr.0.get(..4).ok_or("hdlr is cut off")?).into_owned(),
            entry,
            default_duration: 0,
            default_flags: 0,
        };
        tracks.insert(id, track);
    }
    for (_, _, trex) in boxes(child(moov, &["mvex"])?)?.into_iter().filter(|(kind, ..)| kind == "trex") {
        let mut trex = Cursor(trex);
        trex.full()?;
        let track = tracks.get_mut(&(trex.number(4)? as u32)).ok_or("trex of no track")?;
        trex.number(4)?;
        track.default_duration = trex.number(4)? as u32;
        trex.number(4)?;
        track.default_flags = trex.number(4)? as u32;
    }
    if tracks.is_empty() { Err("no track".to_owned()) } else { Ok(tracks) }
}

/// The fragments of a segment or part, whose data must lie where they say, without a gap.
pub fn fragments(bytes: &[u8], init: &Init) -> Result<Vec<Fragment>, Fault> {
    let (mut found, mut moof) = (Vec::new(), None);
    for (kind, at, content) in boxes(bytes)? {
        match kind.as_str() {
            "styp" | "sidx" | "prft" | "emsg" if moof.is_none() => {}
            "moof" if moof.is_none() => moof = Some((at, content)),
            "mdat" => {
                let (from, content_of_moof) = moof.take().ok_or("mdat without moof")?;
                found.push(fragment(content_of_moof, init, at + 8 - from..at + 8 - from + content.len())?);
            }
            _ => return Err(format!("{kind} at {at} in a segment")),
        }
    }
    match moof {
        Some(_) => Err("moof without mdat".to_owned()),
        None => Ok(found),
    }
}

/// `data`: where the data is, counted from the moof.
fn fragment(moof: &[u8], init: &Init, data: std::ops::Range<usize>) -> Result<Fragment, Fault> {
    let mut mfhd = Cursor(child(moof, &["mfhd"])?);
    mfhd.full()?;
    let sequence = mfhd.number(4)? as u32;
    let (mut runs, mut at) = (Vec::new(), data.start);
    for (_, _, traf) in boxes(moof)?.into_iter().filter(|(kind, ..)| kind == "traf") {
        runs.push(run(traf, init, &mut at)?);
    }
    if at != data.end || runs.is_empty() {
        return Err(format!("the samples end at {at}, the data at {}", data.end));
    }
    Ok(Fragment { sequence, runs })
}

const DEFAULT_BASE_IS_MOOF: u64 = 0x02_0000;
const NON_SYNC_SAMPLE: u32 = 0x01_0000;

fn run(traf: &[u8], init: &Init, at: &mut usize) -> Result<Run, Fault> {
    let mut tfhd = Cursor(child(traf, &["tfhd"])?);
    let (_, flags) = tfhd.full()?;
    let track = tfhd.number(4)? as u32;
    let known = init.get(&track).ok_or(format!("track {track} is not in the initialisation section"))?;
    if flags & DEFAULT_BASE_IS_MOOF == 0 || flags & 1 != 0 {
        return Err(format!("tfhd flags {flags:x}: offsets are not counted from the moof"));
    }
    let mut or = |flag: u64, other: u32| if flags & flag != 0 { tfhd.number(4).map(|number| number as u32) } else { Ok(other) };
    or(2, 0)?;
    let (duration, size, sample_flags) = (or(8, known.default_duration)?, or(16, 0)?, or(32, known.default_flags)?);
    let mut tfdt = Cursor(child(traf, &["tfdt"])?);
    let wide = tfdt.full()?.0 == 1;
    let begin = tfdt.number(if wide { 8 } else { 4 })?;
    let mut run = Run { track, begin, end: begin, samples: 0, key: false };
    for (_, _, trun) in boxes(traf)?.into_iter().filter(|(kind, ..)| kind == "trun") {
        let mut trun = Cursor(trun);
        let (_, flags) = trun.full()?;
        let count = trun.number(4)?;
        if flags & 1 != 0 {
            let offset = trun.number(4)? as usize;
            if offset != *at {
                return Err(format!("track {track}: data at {offset}, expected at {at}"));
            }
        }
        let first_flags = if flags & 4 != 0 { Some(trun.number(4)? as u32) } else { None };
        for number in 0..count {
            let mut or =
                |flag: u64, other: u32| if flags & flag != 0 { trun.number(4).map(|number| number as u32) } else { Ok(other) };
            let (duration, size, own_flags) = (or(0x100, duration)?, or(0x200, size)?, or(0x400, sample_flags)?);
            or(0x800, 0)?;
            if run.samples == 0 {
                run.key = first_flags.filter(|_| number == 0).unwrap_or(own_flags) & NON_SYNC_SAMPLE == 0;
            }
            run.end += u64::from(duration);
            run.samples += 1;
            *at += size as usize;
        }
        if !trun.0.is_empty() {
            return Err(format!("track {track}: {} bytes behind a run", trun.0.len()));
        }
    }
    Ok(run)
}

/// Whether fragments follow each other without a gap, track by track.
#[derive(Debug, Default)]
pub struct Continuity {
    next: BTreeMap<u32, u64>,
    sequence: Option<u32>,
    pub samples: BTreeMap<u32, usize>,
}

/// Times that came in milliseconds are a tick or two of those off.
const SLACK_SECONDS: f64 = 0.0025;

impl Continuity {
    /// A discontinuity: what follows begins anew.
    pub fn restart(&mut self) {
        self.next.clear();
    }

    pub fn push(&mut self, fragment: &Fragment, init: &Init) -> Result<(), Fault> {
        if self.sequence.is_some_and(|sequence| fragment.sequence <= sequence) {
            return Err(format!("fragment {} behind {:?}", fragment.sequence, self.sequence));
        }
        self.sequence = Some(fragment.sequence);
        for run in &fragment.runs {
            let (track, expected) = (&init[&run.track], self.next.insert(run.track, run.end));
            if let Some(expected) = expected {
                let off = (run.begin as f64 - expected as f64) / track.timescale as f64;
                if off.abs() > SLACK_SECONDS {
                    let Fragment { sequence, .. } = fragment;
                    return Err(format!("fragment {sequence}: {} begins {off:.4} s off where the last ended", track.handler));
                }
            }
            *self.samples.entry(run.track).or_default() += run.samples;
        }
        Ok(())
    }
}

/// How long the fragments last, in seconds: the picture, or the sound where there is no picture.
pub fn seconds(fragments: &[Fragment], init: &Init) -> f64 {
    let has_picture = init.values().any(|track| track.handler == "vide");
    let runs = fragments.iter().flat_map(|fragment| &fragment.runs);
    let main = runs.filter(|run| !has_picture || init[&run.track].handler == "vide");
    main.map(|run| (run.end - run.begin) as f64 / init[&run.track].timescale as f64).sum()
}
