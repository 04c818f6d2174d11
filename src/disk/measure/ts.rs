//! Transport streams as the server writes them: packets in a row, tables in front of each key frame (ISO/IEC 13818-1 §2.4.3).
//!
//! Only as much is read as tells times and places: the first packet of each PES packet. Not here: what is inside.

use std::fs::File;
use std::io::{self, BufReader, Read};

use super::{Measured, Part};
use crate::disk::heads::PesHead;
use crate::format::ts::PACKET_BYTES;
use crate::media::MediaTime;
use crate::media::timeline::WireClock;

const SYNC: u8 = 0x47;
const READ_BYTES: usize = PACKET_BYTES * 2048;
const PAT_PID: u16 = 0;
/// A part is about so long.
const PART_MICROS: i64 = 6_000_000;

/// Times of one kind of stream.
struct Times {
    clock: WireClock,
    frames: u64,
    first: i64,
    newest: i64,
    lasted: i64,
}

impl Times {
    fn new() -> Self {
        Times { clock: WireClock::new(33, 90_000), frames: 0, first: 0, newest: 0, lasted: 0 }
    }

    fn add(&mut self, ticks: u64) -> i64 {
        let time: MediaTime = self.clock.unwrap(ticks);
        let micros = time.as_micros();
        if self.frames == 0 {
            self.first = micros;
        } else {
            self.lasted = (micros - self.newest).max(0);
        }
        self.frames += 1;
        self.newest = micros;
        micros
    }

    fn end(&self) -> i64 {
        self.newest + self.lasted
    }
}

pub fn measure(file: &File, with_parts: bool) -> io::Result<Measured> {
    let mut reader = BufReader::with_capacity(READ_BYTES, file);
    let (mut video, mut audio) = (Times::new(), Times::new());
    let mut parts: Vec<Part> = Vec::new();
    let mut tables_at = None;
    let mut at = 0;
    let mut packet = [0; PACKET_BYTES];
    loop {
        match reader.read_exact(&mut packet) {
            Ok(()) if packet[0] == SYNC => {}
            Ok(()) => break,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
        let pid = u16::from_be_bytes([packet[1] & 0x1F, packet[2]]);
        if pid == PAT_PID {
            tables_at = Some(at);
        } else if let Some(PesHead { is_video, dts_ticks: ticks, .. }) = PesHead::of(&packet) {
            let micros = if is_video { video.add(ticks) } else { audio.add(ticks) };
            // What stands behind tables in front of a picture can be played by itself.
            if let Some(offset) = tables_at.filter(|_| is_video || video.frames == 0) {
                let start_micros = if parts.is_empty() { 0 } else { micros - zero(&video, &audio) };
                if parts.last().is_none_or(|last| start_micros - last.start_micros >= PART_MICROS) {
                    parts.push(Part { offset, start_micros, hole_micros: 0 });
                }
                tables_at = None;
            }
        }
        at += PACKET_BYTES as u64;
    }
    let main = if video.frames > 0 { &video } else { &audio };
    let mut measured = Measured { bytes: at, ..Measured::default() };
    measured.progress.frames = main.frames;
    measured.progress.duration_micros = video.end().max(audio.end()) - zero(&video, &audio);
    if main.frames == 0 {
        measured.bytes = 0;
    }
    if with_parts {
        measured.parts = parts;
    }
    Ok(measured)
}

/// What the file's times count from.
fn zero(video: &Times, audio: &Times) -> i64 {
    [video, audio].iter().filter(|times| times.frames > 0).map(|times| times.first).min().unwrap_or(0)
}
