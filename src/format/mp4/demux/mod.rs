//! MP4 read: tracks with their canonical configs, and a table of where each sample lies and when it is due.
//!
//! ISO/IEC 14496-12 §8.6, §8.7 (tables), §8.8 (fragments). Reads what the server writes and what others do: `moov` in front or behind, fragments
//! with or without `tfdt`, every default of samples. Of an edit list the empty edits at the beginning and the first that is none count: times
//! are those of the presentation, so decoding times may lie before zero. Samples of a second sample entry are taken for such of the first.
//!
//! A file whose end is missing is read up to the last whole fragment, a plain one up to the last sample that is there; [`Movie::is_truncated`]
//! says so. Samples without bytes are left out.
//!
//! Limits: [`MOOV_BYTES_MAX`], [`MOOF_BYTES_MAX`], [`SAMPLES_MAX`], [`TRACKS_MAX`]; nesting is as deep as the format has it. Not here: files
//! (whoever has one implements [`Source`]), the samples' bytes.

mod fragments;
mod movie;
mod tables;
#[cfg(test)]
mod tests;

use std::io;

use super::boxes::Header;
use super::clock;
use crate::media::{Track, Tracks};

pub const MOOV_BYTES_MAX: u64 = 256 * 1024 * 1024;
pub const MOOF_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Of all tracks: a day of 25 pictures and 47 frames of sound per second are six million.
pub const SAMPLES_MAX: usize = 8 * 1024 * 1024;
pub const TRACKS_MAX: usize = 32;

/// Bytes that can be read at any place.
pub trait Source {
    fn len(&self) -> u64;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` with what stands at `offset`.
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
}

impl Source for &[u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let bytes = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)?.get(..buf.len()));
        buf.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("reading failed: {0}")]
    Io(#[from] io::Error),
    #[error("no MP4, or one that was never finished: it has no moov")]
    NoMovie,
    #[error("the box {0} is broken")]
    Broken(&'static str),
    #[error("a {kind} of {bytes} bytes is over the limit")]
    TooLarge { kind: &'static str, bytes: u64 },
    #[error("more than {SAMPLES_MAX} samples")]
    TooManySamples,
}

/// A file's tracks and samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Movie {
    /// Those of codecs that are carried. [`TrackId`](crate::media::TrackId)s count from 0.
    pub tracks: Vec<MovieTrack>,
    /// Up to here everything is whole.
    pub whole_bytes: u64,
    /// Something stood behind that was not.
    pub is_truncated: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct MovieTrack {
    pub track: Track,
    /// Ticks per second.
    pub timescale: u32,
    /// In decoding order.
    pub samples: Vec<SampleInfo>,
}

/// Where a sample lies and when it is due, in ticks of its track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleInfo {
    pub offset: u64,
    pub dts: i64,
    pub size: u32,
    pub duration: u32,
    /// Presentation time minus decoding time.
    pub cts: i32,
    pub key: bool,
}

impl Movie {
    pub fn tracks(&self) -> Tracks {
        Tracks::new(self.tracks.iter().map(|track| track.track.clone()).collect(), bytes::Bytes::new())
    }

    /// First and last moment of the presentation in microseconds; `None`: there are no samples.
    pub fn span_micros(&self) -> Option<(i64, i64)> {
        let spans = self.tracks.iter().filter_map(MovieTrack::span_micros);
        spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }
}

impl MovieTrack {
    /// `ticks` of this track in microseconds.
    pub fn micros(&self, ticks: i64) -> i64 {
        clock::micros(ticks, self.timescale)
    }

    fn span_micros(&self) -> Option<(i64, i64)> {
        let begin = self.samples.iter().map(|sample| sample.pts()).min()?;
        let end = self.samples.iter().map(|sample| sample.pts().saturating_add(sample.duration.into())).max()?;
        Some((self.micros(begin), self.micros(end)))
    }
}

impl SampleInfo {
    /// Presentation time.
    pub fn pts(&self) -> i64 {
        self.dts.saturating_add(self.cts.into())
    }

    /// Just behind its last byte.
    fn end(&self) -> u64 {
        self.offset.saturating_add(self.size.into())
    }
}

/// Reads the tables of a whole file, without its media.
pub fn read(source: &mut impl Source) -> Result<Movie, ReadError> {
    let len = source.len();
    let (mut at, mut whole_bytes, mut is_truncated) = (0, 0, false);
    let mut movie: Option<movie::Reading> = None;
    while at < len {
        let header = header_at(source, at)?.map(|header| (header, at.checked_add(header.bytes.unwrap_or(len - at))));
        let Some((header, Some(end))) = header else {
            is_truncated = true;
            break;
        };
        match (&header.kind, &mut movie) {
            // The media of a plain file may be cut off: its samples are checked one by one.
            (b"mdat", _) if end > len => is_truncated = true,
            _ if end > len => {
                is_truncated = true;
                break;
            }
            (b"moov", movie @ None) => {
                *movie = Some(movie::Reading::new(&content(source, at, &header, "moov", MOOV_BYTES_MAX)?, len)?);
            }
            (b"moof", Some(movie)) => {
                let moof = content(source, at, &header, "moof", MOOF_BYTES_MAX)?;
                if !movie.add_fragment(&moof, at, len)? {
                    is_truncated = true;
                    break;
                }
            }
            _ => {}
        }
        at = end;
        // A fragment is whole with its media.
        if &header.kind != b"moof" && end <= len {
            whole_bytes = end;
        }
    }
    let (tracks, is_cut) = movie.ok_or(ReadError::NoMovie)?.finish(len);
    Ok(Movie { tracks, whole_bytes, is_truncated: is_truncated || is_cut })
}

/// `None`: what stands there is no box.
fn header_at(source: &mut impl Source, at: u64) -> Result<Option<Header>, ReadError> {
    let mut bytes = [0; Header::BYTES_MAX];
    let there = usize::try_from(source.len() - at).unwrap_or(usize::MAX).min(bytes.len());
    source.read_at(at, &mut bytes[..there])?;
    // Blocks of zeros, as a crash may leave them, are no box to the end of the file.
    let is_box = |header: &Header| header.kind.iter().all(|byte| *byte >= b' ');
    Ok(Header::parse(&bytes[..there]).filter(is_box))
}

fn content(source: &mut impl Source, at: u64, header: &Header, kind: &'static str, bytes_max: u64) -> Result<Vec<u8>, ReadError> {
    let bytes = header.bytes.unwrap_or(source.len() - at) - header.header_bytes;
    if bytes > bytes_max {
        return Err(ReadError::TooLarge { kind, bytes });
    }
    let mut content = vec![0; bytes as usize];
    source.read_at(at + header.header_bytes, &mut content)?;
    Ok(content)
}
