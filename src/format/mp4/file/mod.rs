//! Plain files: the samples of one or more files as one MP4 with its tables in front ("faststart").
//!
//! ISO/IEC 14496-12 §8.6 and §8.7. The plan is `ftyp`, `moov` and the header of `mdat`, and the ranges of the sources to copy behind them.
//! Tracks are interleaved in chunks of half a second. The presentation begins at zero, with the first picture if there is one: an edit list takes
//! away what B-frames put in front of it and what there is of sound before, and holds back sound that begins later, so that both stay together.
//!
//! A piece with a beginning starts at the key frame before it, and one with an end has no hole in front of its last picture. Pieces that would
//! overlap are moved apart. A track's samples have one sample entry: files whose tracks of a kind differ in codec or config cannot be joined ([`FileError::DifferentTracks`]), because players that
//! change the decoder inside a plain file are rare.
//!
//! Carries the first track of each kind. Limits: those of the files read. Not here: reading and copying.

mod tables;
#[cfg(test)]
mod tests;

use bytes::{BufMut, Bytes, BytesMut};

use self::tables::put_tables;
use super::boxes::put_box;
use super::carried::{Carried, carried};
use super::clock::{micros, ticks};
use super::demux::{Movie, MovieTrack, SampleInfo};
use super::init::{MOVIE_TIMESCALE, TrackTimes, put_ftyp, put_mvhd, put_track};
use crate::media::{Track, TrackId, TrackKind, Tracks};

/// How much of a track lies together.
const CHUNK_MICROS: i64 = 500_000;

/// A part of a file that is to be.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    pub movie: &'a Movie,
    /// The caller's number for the file, which [`SourceRange::source`] repeats.
    pub source: usize,
    /// Presentation times in microseconds, as the movie has them: from there (or from the key frame before) up to there.
    pub from: i64,
    pub to: i64,
    /// What to add to the movie's times so that those of all pieces are on one timeline, in microseconds.
    pub shift: i64,
}

impl<'a> Piece<'a> {
    /// All of a file.
    pub fn whole(movie: &'a Movie, source: usize) -> Self {
        Piece { movie, source, from: i64::MIN, to: i64::MAX, shift: 0 }
    }
}

/// Bytes of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceRange {
    pub source: usize,
    pub offset: u64,
    pub len: u64,
}

/// A whole file: `head`, then `ranges` in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub head: Bytes,
    pub ranges: Vec<SourceRange>,
    /// Of all of it, in bytes.
    pub len: u64,
    pub duration_micros: i64,
    /// Where the presentation begins on the pieces' timeline, in microseconds.
    pub begin_micros: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    #[error("there is nothing in the range")]
    Empty,
    #[error("the files differ in codec or configuration, so they cannot be joined")]
    DifferentTracks,
    #[error("the files are too long to be one")]
    TooLong,
}

/// A track that is being put together.
struct OutTrack {
    track: Track,
    timescale: u32,
    samples: Vec<OutSample>,
}

#[derive(Clone, Copy)]
struct OutSample {
    info: SampleInfo,
    source: usize,
}

/// Some samples of a track that lie together.
#[derive(Clone, Copy)]
struct Chunk {
    /// From the first byte of media.
    offset: u64,
    samples: u32,
}

/// Plans a file out of pieces in the order of their time.
pub fn plan(pieces: &[Piece<'_>]) -> Result<Plan, FileError> {
    let mut tracks: Vec<OutTrack> = Vec::new();
    for piece in pieces {
        add_piece(piece, &mut tracks)?;
    }
    tracks.retain(|track| !track.samples.is_empty());
    let begin_micros = begin(&tracks).ok_or(FileError::Empty)?;
    let end_micros = tracks.iter().map(|track| micros(track.end(), track.timescale)).max().unwrap_or(begin_micros);
    let carried = number(&mut tracks);
    if carried.is_empty() {
        return Err(FileError::Empty);
    }
    let (chunks, ranges) = interleave(&tracks);
    let media_bytes = ranges.iter().map(|range| range.len).sum::<u64>();
    let span = (begin_micros, end_micros);
    // The length of the head does not depend on what it says.
    let draft = head(&tracks, &carried, &chunks, span, (0, media_bytes))?;
    let head = head(&tracks, &carried, &chunks, span, (draft.len() as u64, media_bytes))?;
    Ok(Plan {
        len: head.len() as u64 + media_bytes,
        head,
        ranges,
        duration_micros: end_micros.saturating_sub(begin_micros),
        begin_micros,
    })
}

/// Where the presentation begins: with the picture. An edit list takes away what there is of sound before, for which a picture that is held back
/// is no substitute: programs that count frames by the length of the track would count one too many. The sound stays in the file, because it
/// follows that of the file before.
fn begin(tracks: &[OutTrack]) -> Option<i64> {
    let micros_of = |track: &OutTrack| micros(track.begin(), track.timescale);
    let videos = tracks.iter().filter(|track| track.track.codec.kind() == TrackKind::Video);
    videos.map(micros_of).min().or(tracks.iter().map(micros_of).min())
}

/// Numbers the tracks from 1.
fn number(tracks: &mut Vec<OutTrack>) -> Vec<Carried> {
    for (id, out) in (0..).zip(tracks.iter_mut()) {
        out.track.id = TrackId(id);
    }
    let all = Tracks::new(tracks.iter().map(|out| out.track.clone()).collect(), Bytes::new());
    let carried: Vec<Carried> = carried(&all).into_iter().map(|(carried, _)| carried).collect();
    tracks.retain(|out| carried.iter().any(|carried| carried.id == out.track.id));
    carried
}

/// Lets go of a movie's samples that no piece between the two moments has, for movies are large: the plan stays the same.
pub fn trim(movie: &mut Movie, from: i64, to: i64) {
    let first = |kind| movie.tracks.iter().position(|track| track.track.codec.kind() == kind);
    let (video, audio) = (first(TrackKind::Video), first(TrackKind::Audio));
    let from = video.and_then(|at| key_before(&movie.tracks[at], from)).unwrap_or(from);
    for (at, track) in movie.tracks.iter_mut().enumerate() {
        let is_used = Some(at) == video || Some(at) == audio;
        track.samples = if is_used { cut(track, Some(at) == video, from, to).to_vec() } else { Vec::new() };
    }
}

fn add_piece(piece: &Piece<'_>, tracks: &mut Vec<OutTrack>) -> Result<(), FileError> {
    let video = piece.movie.tracks.iter().find(|track| track.track.codec.kind() == TrackKind::Video);
    // Sound begins with the picture.
    let from = video.and_then(|video| key_before(video, piece.from)).unwrap_or(piece.from);
    let mut moved = Vec::new();
    let audio = piece.movie.tracks.iter().find(|track| track.track.codec.kind() == TrackKind::Audio);
    for track in video.into_iter().chain(audio) {
        let is_video = track.track.codec.kind() == TrackKind::Video;
        let at = match tracks.iter().position(|out| out.is_like(&track.track)) {
            Some(at) => at,
            None if tracks.iter().any(|out| out.track.codec.kind() == track.track.codec.kind()) => {
                return Err(FileError::DifferentTracks);
            }
            None => {
                tracks.push(OutTrack { track: track.track.clone(), timescale: track.timescale, samples: Vec::new() });
                tracks.len() - 1
            }
        };
        let samples = cut(track, is_video, from, piece.to);
        let samples = samples.iter().map(|info| rescale(*info, track.timescale, tracks[at].timescale, piece.shift));
        moved.push((at, samples.collect::<Vec<_>>()));
    }
    // All tracks move by the same time, so that they stay together.
    let overlaps = moved.iter().filter_map(|(at, samples)| Some(tracks[*at].overlap_micros(samples.first()?)));
    let apart = overlaps.max().unwrap_or(0).max(0);
    for (at, samples) in moved {
        let out = &mut tracks[at];
        let apart = ticks(apart, out.timescale);
        let moved = samples.into_iter().map(|info| SampleInfo { dts: info.dts.saturating_add(apart), ..info });
        out.samples.extend(moved.map(|info| OutSample { info, source: piece.source }));
    }
    Ok(())
}

/// When the picture is shown that is the last key at or before `from`. Without one a piece goes on where it begins: its sound may begin
/// before its first picture, and follow that of the piece before.
fn key_before(video: &MovieTrack, from: i64) -> Option<i64> {
    let keys = video.samples.iter().filter(|sample| sample.key).map(|sample| video.micros(sample.pts()));
    keys.take_while(|key| *key <= from).last()
}

/// The samples of `track` that are shown between the two moments, and what is decoded with them; pictures from the key on that is shown at `from`.
fn cut(track: &MovieTrack, is_video: bool, from: i64, to: i64) -> &[SampleInfo] {
    let is_in = |sample: &SampleInfo| {
        let begin = track.micros(sample.pts());
        let end = track.micros(sample.pts().saturating_add(sample.duration.into()));
        if is_video { begin >= from && (sample.key || from == i64::MIN) } else { end > from }
    };
    let Some(first) = track.samples.iter().position(is_in) else { return &[] };
    let behind = &track.samples[first..];
    let mut len = behind.iter().rposition(|sample| track.micros(sample.pts()) < to).map_or(0, |last| last + 1);
    // What is decoded next and shown before the last picture: without it there would be a hole.
    let shown = behind[..len].iter().map(SampleInfo::pts).max();
    len += behind[len..].iter().take_while(|sample| Some(sample.pts()) < shown).count();
    &behind[..len]
}

fn rescale(info: SampleInfo, from: u32, to: u32, shift: i64) -> SampleInfo {
    let shift = ticks(shift, to);
    if from == to {
        return SampleInfo { dts: info.dts.saturating_add(shift), ..info };
    }
    let scale = |value: i64| ticks(micros(value, from), to);
    let dts = scale(info.dts);
    SampleInfo {
        dts: dts.saturating_add(shift),
        cts: scale(info.pts()).saturating_sub(dts).clamp(i32::MIN.into(), i32::MAX.into()) as i32,
        duration: scale(info.duration.into()).clamp(0, u32::MAX.into()) as u32,
        ..info
    }
}

impl OutTrack {
    fn is_like(&self, other: &Track) -> bool {
        self.track.codec == other.codec && self.track.config == other.config
    }

    /// How far `next` would have to move to stand behind what is there.
    fn overlap_micros(&self, next: &SampleInfo) -> i64 {
        let Some(last) = self.samples.last() else { return 0 };
        let end = last.info.dts.saturating_add(i64::from(last.info.duration).max(1));
        // A frame's rounding is no overlap.
        let overlap = end.saturating_sub(next.dts);
        if next.dts > last.info.dts && overlap <= i64::from(last.info.duration / 2) {
            return 0;
        }
        micros(overlap, self.timescale)
    }

    /// When the first sample is presented, in ticks.
    fn begin(&self) -> i64 {
        self.samples.iter().map(|sample| sample.info.pts()).min().unwrap_or(0)
    }

    /// When the last one is over.
    fn end(&self) -> i64 {
        self.samples.iter().map(|sample| sample.info.pts().saturating_add(sample.info.duration.into())).max().unwrap_or(0)
    }
}

/// The chunks of each track, and what to copy.
fn interleave(tracks: &[OutTrack]) -> (Vec<Vec<Chunk>>, Vec<SourceRange>) {
    let mut chunks: Vec<Vec<Chunk>> = vec![Vec::new(); tracks.len()];
    let mut ranges: Vec<SourceRange> = Vec::new();
    let mut next = vec![0usize; tracks.len()];
    let mut offset = 0u64;
    let due = |at: usize, index: usize| tracks[at].samples.get(index).map(|sample| micros(sample.info.dts, tracks[at].timescale));
    while let Some((begin, at)) = (0..tracks.len()).filter_map(|at| Some((due(at, next[at])?, at))).min() {
        let first = next[at];
        let chunk_offset = offset;
        // One at least, however late it is.
        while next[at] == first || due(at, next[at]).is_some_and(|due| due < begin.saturating_add(CHUNK_MICROS)) {
            let OutSample { info, source } = tracks[at].samples[next[at]];
            let len = u64::from(info.size);
            match ranges.last_mut() {
                Some(last) if last.source == source && last.offset + last.len == info.offset => last.len += len,
                _ => ranges.push(SourceRange { source, offset: info.offset, len }),
            }
            offset += len;
            next[at] += 1;
        }
        chunks[at].push(Chunk { offset: chunk_offset, samples: (next[at] - first) as u32 });
    }
    (chunks, ranges)
}

/// `ftyp`, `moov` and the header of `mdat`; the media begins at `media_at` and has so many bytes.
fn head(
    tracks: &[OutTrack],
    carried: &[Carried],
    chunks: &[Vec<Chunk>],
    (begin_micros, end_micros): (i64, i64),
    (media_at, media_bytes): (u64, u64),
) -> Result<Bytes, FileError> {
    /// Leaves room for the head itself.
    const NARROW_MAX: u64 = 0xE000_0000;
    let wide = media_bytes > NARROW_MAX;
    let mut out = BytesMut::new();
    let mut fits = true;
    put_ftyp(&mut out, b"isom", &[b"isom", b"iso2", b"mp41"]);
    put_box(&mut out, b"moov", |out| {
        put_mvhd(out, movie_ticks(end_micros.saturating_sub(begin_micros)), carried.len() as u32 + 1);
        for ((track, carried), chunks) in tracks.iter().zip(carried).zip(chunks) {
            let carried = Carried { timescale: track.timescale, ..carried.clone() };
            let times = track.times(begin_micros);
            put_track(out, &carried, times, |out| fits &= put_tables(out, track, chunks, media_at, wide));
        }
    });
    if !fits {
        return Err(FileError::TooLong);
    }
    if wide {
        out.put_u32(1);
        out.put_slice(b"mdat");
        out.put_u64(16 + media_bytes);
    } else {
        out.put_u32(8 + media_bytes as u32);
        out.put_slice(b"mdat");
    }
    Ok(out.freeze())
}

fn movie_ticks(micros: i64) -> u64 {
    ticks(micros, MOVIE_TIMESCALE).max(0) as u64
}

impl OutTrack {
    /// What the presentation lacks in front of the track's first sample, and where in the track's own time it then begins.
    fn times(&self, begin_micros: i64) -> TrackTimes {
        let (Some(first), Some(last)) = (self.samples.first(), self.samples.last()) else { return TrackTimes::default() };
        let media = last.info.dts.saturating_add(last.info.duration.into()).saturating_sub(first.info.dts);
        let lead = micros(self.begin(), self.timescale).saturating_sub(begin_micros);
        let delay = movie_ticks(lead.max(0));
        // Sound that began before the picture.
        let skipped = ticks(lead.min(0).saturating_neg(), self.timescale);
        let skipped_to = self.begin().saturating_add(skipped);
        let begin = skipped_to.saturating_sub(first.info.dts).saturating_add(self.offset_shift());
        let presented = delay.saturating_add(movie_ticks(micros(self.end().saturating_sub(skipped_to), self.timescale)));
        let begin = begin.max(0) as u64;
        TrackTimes { media: media.max(0) as u64, presented, edit: (delay > 0 || begin > 0).then_some((delay, begin)) }
    }

    /// What is added to all composition offsets so that none is negative: old readers know no others.
    fn offset_shift(&self) -> i64 {
        -self.samples.iter().map(|sample| i64::from(sample.info.cts)).min().unwrap_or(0).min(0)
    }
}
