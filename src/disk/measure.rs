//! How much of a file is whole, and how long that is: for files whose writer was killed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::sidecar::Part;
use crate::config::RecordFormat;
use crate::format::mp4::demux::{self, ReadError, Source};
use crate::media::TrackKind;
use crate::protocol::record::Progress;

mod flv;
mod ts;

/// What there is of a file.
#[derive(Debug, Default, PartialEq)]
pub struct Measured {
    /// Behind them nothing is whole.
    pub bytes: u64,
    pub progress: Progress,
    /// Of HLS.
    pub parts: Vec<Part>,
}

pub fn measure(format: RecordFormat, file: &File) -> io::Result<Measured> {
    match format {
        RecordFormat::Flv => flv::measure(file),
        RecordFormat::Fmp4 | RecordFormat::Mp4 => mp4(file),
        RecordFormat::Ts | RecordFormat::Hls => ts::measure(file, format == RecordFormat::Hls),
    }
}

fn mp4(file: &File) -> io::Result<Measured> {
    let movie = match demux::read(&mut FileSource::new(file)?) {
        // Not even its head is whole.
        Err(ReadError::NoMovie) => return Ok(Measured::default()),
        read => read.map_err(io::Error::other)?,
    };
    let main = movie.tracks.iter().find(|track| track.track.codec.kind() == TrackKind::Video).or(movie.tracks.first());
    let frames = main.map_or(0, |track| track.samples.len() as u64);
    let duration_micros = movie.span_micros().map_or(0, |(start, end)| end - start);
    // The head alone is no recording.
    let bytes = if frames > 0 { movie.whole_bytes } else { 0 };
    Ok(Measured { bytes, progress: Progress { duration_micros, frames, gops_dropped: 0 }, parts: Vec::new() })
}

/// A file that is read at any place.
pub struct FileSource<'a> {
    file: &'a File,
    len: u64,
}

impl<'a> FileSource<'a> {
    pub fn new(file: &'a File) -> io::Result<Self> {
        Ok(FileSource { file, len: file.metadata()?.len() })
    }
}

impl Source for FileSource<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }
}
