//! `moov`: tracks, the defaults of their fragments, edit lists, and the tables of plain files.
//!
//! Not here: the tables themselves, fragments.

use super::tables;
use super::{MovieTrack, ReadError, SAMPLES_MAX, SampleInfo, TRACKS_MAX};
use crate::format::mp4::boxes::{Fields, SAMPLE_NON_SYNC, child, children, descend};
use crate::format::mp4::sample_entry;
use crate::media::{Track, TrackId, TrackKind};

/// A file that is being read.
pub struct Reading {
    pub tracks: Vec<ReadingTrack>,
    samples: usize,
}

pub struct ReadingTrack {
    /// `track_ID`.
    pub number: u32,
    pub track: Track,
    pub timescale: u32,
    /// What to add to a decoding time so that the presentation is as the edit list has it.
    pub shift: i64,
    pub defaults: Defaults,
    /// Where the next fragment begins if it does not say so.
    pub next: i64,
    pub samples: Vec<SampleInfo>,
}

/// What a sample is unless its fragment says otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub struct Defaults {
    pub duration: u32,
    pub size: u32,
    pub flags: u32,
}

impl ReadingTrack {
    /// Sound can begin anywhere, whatever the flags say.
    pub fn is_key(&self, flags: u32) -> bool {
        self.track.codec.kind() == TrackKind::Audio || flags & SAMPLE_NON_SYNC == 0
    }
}

impl Reading {
    /// `moov`: its content. `len`: of the file.
    pub fn new(moov: &[u8], len: u64) -> Result<Self, ReadError> {
        let mvhd = child(moov, b"mvhd").ok_or(ReadError::Broken("mvhd"))?;
        let movie_timescale = header_timescale(mvhd).ok_or(ReadError::Broken("mvhd"))?;
        let mut reading = Reading { tracks: Vec::new(), samples: 0 };
        for (_, trak) in children(moov).filter(|(kind, _)| kind == b"trak") {
            if reading.tracks.len() == TRACKS_MAX {
                break;
            }
            let id = TrackId(reading.tracks.len() as u8);
            let Some(mut track) = read_track(trak, id, movie_timescale)? else { continue };
            let stbl = descend(trak, &[b"mdia", b"minf", b"stbl"]).unwrap_or_default();
            track.samples = tables::read(stbl, &track, reading.room(len))?;
            reading.count(track.samples.len())?;
            reading.tracks.push(track);
        }
        let trexes = child(moov, b"mvex").into_iter().flat_map(children).filter(|(kind, _)| kind == b"trex");
        for (_, trex) in trexes {
            let (number, defaults) = read_trex(trex).ok_or(ReadError::Broken("trex"))?;
            if let Some(track) = reading.tracks.iter_mut().find(|track| track.number == number) {
                track.defaults = defaults;
            }
        }
        Ok(reading)
    }

    /// How many samples may still come. Each has a byte of the file at least.
    pub fn room(&self, len: u64) -> usize {
        let most = usize::try_from(len).unwrap_or(usize::MAX).min(SAMPLES_MAX);
        most.saturating_sub(self.samples)
    }

    pub fn count(&mut self, samples: usize) -> Result<(), ReadError> {
        self.samples += samples;
        if self.samples > SAMPLES_MAX { Err(ReadError::TooManySamples) } else { Ok(()) }
    }

    /// The tracks, and whether samples were left out because the file ends before.
    pub fn finish(self, len: u64) -> (Vec<MovieTrack>, bool) {
        let mut is_cut = false;
        let tracks = self.tracks.into_iter().map(|mut track| {
            if let Some(missing) = track.samples.iter().position(|sample| sample.end() > len) {
                track.samples.truncate(missing);
                is_cut = true;
            }
            MovieTrack { track: track.track, timescale: track.timescale, samples: track.samples }
        });
        (tracks.collect(), is_cut)
    }
}

/// `None`: of a codec that is not carried.
fn read_track(trak: &[u8], id: TrackId, movie_timescale: u32) -> Result<Option<ReadingTrack>, ReadError> {
    let number = child(trak, b"tkhd").and_then(track_number).ok_or(ReadError::Broken("tkhd"))?;
    let mdhd = descend(trak, &[b"mdia", b"mdhd"]);
    let timescale = mdhd.and_then(header_timescale).ok_or(ReadError::Broken("mdhd"))?;
    let stsd = descend(trak, &[b"mdia", b"minf", b"stbl", b"stsd"]).ok_or(ReadError::Broken("stsd"))?;
    // Version, flags and the number of entries stand in front.
    let entry = stsd.get(8..).and_then(|entries| children(entries).next());
    let Some(track) = entry.and_then(|(kind, content)| sample_entry::parse(id, &kind, content)) else { return Ok(None) };
    let edits = descend(trak, &[b"edts", b"elst"]).and_then(read_edits).unwrap_or_default();
    let delay = i128::from(edits.delay) * i128::from(timescale) / i128::from(movie_timescale);
    let shift = i64::try_from(delay).unwrap_or(0).saturating_sub(edits.begin);
    let (defaults, samples) = (Defaults::default(), Vec::new());
    Ok(Some(ReadingTrack { number, track, timescale, shift, defaults, next: 0, samples }))
}

/// Of `mvhd` and `mdhd`; none is 0.
fn header_timescale(header: &[u8]) -> Option<u32> {
    let mut fields = Fields(header);
    let (version, _) = fields.version_and_flags()?;
    fields.skip(if version == 1 { 16 } else { 8 })?;
    fields.u32().filter(|timescale| *timescale > 0)
}

fn track_number(tkhd: &[u8]) -> Option<u32> {
    let mut fields = Fields(tkhd);
    let (version, _) = fields.version_and_flags()?;
    fields.skip(if version == 1 { 16 } else { 8 })?;
    fields.u32()
}

fn read_trex(trex: &[u8]) -> Option<(u32, Defaults)> {
    let mut fields = Fields(trex);
    fields.skip(4)?;
    let number = fields.u32()?;
    fields.skip(4)?;
    Some((number, Defaults { duration: fields.u32()?, size: fields.u32()?, flags: fields.u32()? }))
}

#[derive(Default)]
struct Edits {
    /// Of the movie's ticks, before the track begins.
    delay: u64,
    /// Where the track's own time begins then, in its ticks.
    begin: i64,
}

fn read_edits(elst: &[u8]) -> Option<Edits> {
    let mut fields = Fields(elst);
    let wide = fields.version_and_flags()?.0 == 1;
    let mut edits = Edits::default();
    for _ in 0..fields.u32()? {
        let duration = fields.unsigned(wide)?;
        let begin = if wide { fields.u64()? as i64 } else { fields.i32()?.into() };
        fields.skip(4)?;
        if begin >= 0 {
            edits.begin = begin;
            break;
        }
        edits.delay = edits.delay.saturating_add(duration);
    }
    Some(edits)
}
