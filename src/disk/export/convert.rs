//! A part of a file of FLV or of a transport stream as fragmented MP4, in a file without a name: what the server reads as its own.
//!
//! Whole GOPs around the wanted time are written, so the caller cuts. Memory: one GOP in the making and one tag or picture. Not here: where the
//! part is looked for ([`keys`]), the tables that are made of the result.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;

use super::keys::{self, Key};
use crate::config::RecordFormat;
use crate::format::flv::{self, FlvDemuxer, TagReader};
use crate::format::mp4::{Fmp4Muxer, FragmentMode};
use crate::format::rtp::demux::Demuxed;
use crate::format::ts::demux::TsDemuxer;
use crate::format::{Envelope, Muxer, Packet};
use crate::media::{Frame, MediaEvent, MediaTime, Stamp, TrackId, Tracks};

const READ_BYTES: usize = 256 * 1024;
/// An FLV tag has 24 bits for its size.
const TAG_BYTES_MAX: usize = 1 << 24;
/// What is held until all tracks have been heard, in bytes and in frames: the head of the file names them.
const HELD_BYTES_MAX: usize = 16 * 1024 * 1024;
const HELD_FRAMES_MAX: usize = 1_024;
/// How far behind its time a frame may stand in a file.
const LATE_MICROS: i64 = 2_000_000;
/// The presentation begins somewhere in the first frames.
const FIRST_MICROS: i64 = 3_000_000;
/// Of the clock of transport streams: 33 bits at 90 kHz, in microseconds.
const TS_WRAP_MICROS: f64 = 8_589_934_592.0 / 0.09;

/// Bytes → media events, whatever the file is.
enum Demuxer {
    Flv { reader: TagReader, demuxer: FlvDemuxer, out: Vec<flv::Demuxed> },
    Ts { demuxer: Box<TsDemuxer>, out: Vec<Demuxed> },
}

impl Demuxer {
    fn new(format: RecordFormat) -> Self {
        match format {
            RecordFormat::Flv => {
                Demuxer::Flv { reader: TagReader::new(TAG_BYTES_MAX), demuxer: FlvDemuxer::new(), out: Vec::new() }
            }
            _ => Demuxer::Ts { demuxer: Box::new(TsDemuxer::new()), out: Vec::new() },
        }
    }

    fn push(&mut self, bytes: &[u8], events: &mut Vec<MediaEvent>) -> io::Result<()> {
        match self {
            Demuxer::Flv { reader, demuxer, out } => {
                reader.push(bytes);
                while let Some((tag, timestamp, body)) = reader.next_tag().map_err(io::Error::other)? {
                    demuxer.push(tag, timestamp, body, Stamp::ZERO, out).map_err(io::Error::other)?;
                }
                let media =
                    out.drain(..).filter_map(|part| if let flv::Demuxed::Event(event) = part { Some(event) } else { None });
                events.extend(media);
            }
            Demuxer::Ts { demuxer, out } => {
                demuxer.push(Stamp::ZERO, bytes, out);
                self.take(events);
            }
        }
        Ok(())
    }

    /// What only the next packet would have shown to be whole.
    fn finish(&mut self, events: &mut Vec<MediaEvent>) {
        if let Demuxer::Ts { demuxer, out } = self {
            demuxer.finish(Stamp::ZERO, out);
        }
        self.take(events);
    }

    fn take(&mut self, events: &mut Vec<MediaEvent>) {
        if let Demuxer::Ts { out, .. } = self {
            events.extend(out.drain(..).filter_map(|part| if let Demuxed::Event(event) = part { Some(event) } else { None }));
        }
    }
}

/// Reads pieces of a file and gives out its events.
struct Source<'a> {
    file: &'a File,
    demuxer: Demuxer,
    buffer: Vec<u8>,
    /// Where the next piece stands, and where there is no more.
    at: u64,
    end: u64,
}

impl<'a> Source<'a> {
    fn new(file: &'a File, format: RecordFormat) -> io::Result<Self> {
        Ok(Source { file, demuxer: Demuxer::new(format), buffer: vec![0; READ_BYTES], at: 0, end: file.metadata()?.len() })
    }

    /// `false`: that was all.
    fn next(&mut self, events: &mut Vec<MediaEvent>) -> io::Result<bool> {
        let some = (self.end - self.at).min(READ_BYTES as u64) as usize;
        if some == 0 {
            self.demuxer.finish(events);
            return Ok(false);
        }
        self.file.read_exact_at(&mut self.buffer[..some], self.at)?;
        self.at += some as u64;
        self.demuxer.push(&self.buffer[..some], events)?;
        Ok(true)
    }

    /// Reads the head and goes on at `offset`.
    fn skip(&mut self, head_bytes: u64, offset: u64, events: &mut Vec<MediaEvent>) -> io::Result<()> {
        while self.at < head_bytes {
            let some = (head_bytes - self.at).min(READ_BYTES as u64) as usize;
            self.file.read_exact_at(&mut self.buffer[..some], self.at)?;
            self.at += some as u64;
            self.demuxer.push(&self.buffer[..some], events)?;
        }
        self.at = offset.max(head_bytes);
        Ok(())
    }
}

/// When the presentation of a file begins, in microseconds as it has them; `None`: there is no frame in it.
pub fn begins(file: &File, format: RecordFormat) -> io::Result<Option<i64>> {
    let (mut source, mut events) = (Source::new(file, format)?, Vec::new());
    let (mut first, mut begins) = (None, None);
    loop {
        let goes_on = source.next(&mut events)?;
        for event in events.drain(..) {
            let MediaEvent::Frame(frame) = event else { continue };
            let (dts, shown) = (frame.dts.as_micros(), frame.dts.offset(frame.cts.into()).as_micros());
            let first = *first.get_or_insert(dts);
            begins = Some(begins.map_or(shown, |begins: i64| begins.min(shown)));
            if dts - first > FIRST_MICROS {
                return Ok(begins);
            }
        }
        if !goes_on {
            return Ok(begins);
        }
    }
}

/// Writes what is shown between two moments, in microseconds as the file has them. `goes_on` is asked with the bytes written so far.
///
/// `tracks`: how many the file has.
pub fn convert(
    file: &File,
    (format, tracks): (RecordFormat, usize),
    (from, to): (i64, i64),
    out: &File,
    goes_on: &mut dyn FnMut(u64) -> io::Result<()>,
) -> io::Result<()> {
    let keys = if format == RecordFormat::Flv { keys::of_flv(file)? } else { keys::of_ts(file)? };
    let Some(key) = keys.before(from) else { return Ok(()) };
    let (mut source, mut events) = (Source::new(file, format)?, Vec::new());
    source.skip(keys.head_bytes, key.offset, &mut events)?;
    let mut target = Target::new(out, tracks);
    let mut wraps = Wraps::new(format, key);
    let mut is_over = false;
    while !is_over && source.next(&mut events)? {
        for event in events.drain(..) {
            let event = wraps.undo(event);
            is_over |= matches!(&event, MediaEvent::Frame(frame) if frame.dts.as_micros().saturating_sub(LATE_MICROS) > to);
            target.push(event)?;
        }
        goes_on(target.written)?;
    }
    for event in events.drain(..) {
        target.push(wraps.undo(event))?;
    }
    target.finish()
}

/// A demuxer that begins in the middle of a file does not know how often its clock has begun anew.
struct Wraps {
    key: Option<Key>,
    micros: i64,
}

impl Wraps {
    fn new(format: RecordFormat, key: Key) -> Self {
        Wraps { key: Some(key).filter(|_| format != RecordFormat::Flv), micros: 0 }
    }

    fn undo(&mut self, event: MediaEvent) -> MediaEvent {
        let MediaEvent::Frame(frame) = event else { return event };
        if let Some(key) = self.key.take() {
            let wraps = ((key.dts - frame.dts.as_micros()) as f64 / TS_WRAP_MICROS).round();
            self.micros = (wraps * TS_WRAP_MICROS).round() as i64;
        }
        MediaEvent::Frame(Frame { dts: MediaTime::from_micros(frame.dts.as_micros() + self.micros), ..frame })
    }
}

/// Media events → fragments in a file.
struct Target<'a> {
    /// How many tracks are waited for, and those of which a frame has come.
    wanted: usize,
    tracks: Tracks,
    heard: Vec<TrackId>,
    /// `None` once all have been heard.
    held: Option<Vec<Frame>>,
    held_bytes: usize,
    muxer: Fmp4Muxer,
    out: BufWriter<&'a File>,
    packets: Vec<Packet>,
    written: u64,
}

impl<'a> Target<'a> {
    fn new(out: &'a File, wanted: usize) -> Self {
        Target {
            wanted,
            tracks: Tracks::default(),
            heard: Vec::new(),
            held: Some(Vec::new()),
            held_bytes: 0,
            muxer: Fmp4Muxer::new(FragmentMode::PerGop, Envelope::None),
            out: BufWriter::with_capacity(READ_BYTES, out),
            packets: Vec::new(),
            written: 0,
        }
    }

    fn push(&mut self, event: MediaEvent) -> io::Result<()> {
        match event {
            MediaEvent::Tracks(tracks) => self.tracks = tracks,
            MediaEvent::Frame(frame) => match &mut self.held {
                Some(held) => {
                    if !self.heard.contains(&frame.track) {
                        self.heard.push(frame.track);
                    }
                    self.held_bytes += frame.data.len();
                    held.push(frame);
                    if self.heard.len() >= self.wanted || held.len() >= HELD_FRAMES_MAX || self.held_bytes >= HELD_BYTES_MAX {
                        return self.open();
                    }
                }
                None => return self.write(&MediaEvent::Frame(frame)),
            },
            MediaEvent::End => {}
        }
        Ok(())
    }

    /// Begins with what is held. What comes later of other tracks has no place.
    fn open(&mut self) -> io::Result<()> {
        let Some(held) = self.held.take() else { return Ok(()) };
        let tracks = self.tracks.only(|track| self.heard.contains(&track.id));
        self.write(&MediaEvent::Tracks(tracks))?;
        held.into_iter().try_for_each(|frame| self.write(&MediaEvent::Frame(frame)))
    }

    fn write(&mut self, event: &MediaEvent) -> io::Result<()> {
        self.muxer.push(event, &mut self.packets);
        for packet in self.packets.drain(..) {
            self.written += packet.len as u64;
            packet.parts.iter().try_for_each(|part| self.out.write_all(part))?;
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.open()?;
        self.write(&MediaEvent::End)?;
        self.out.flush()
    }
}
