//! FLV: tags, each with its length before and behind it (FLV 10.1 Annex E).

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use super::Measured;
use crate::disk::heads::{is_audio_header, is_video_header};

const FILE_HEADER_BYTES: u64 = 13;
const TAG_HEADER_BYTES: u64 = 11;
const TRAILER_BYTES: u64 = 4;
const READ_BYTES: usize = 256 * 1024;

pub fn measure(file: &File) -> io::Result<Measured> {
    let len = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(READ_BYTES, file);
    reader.seek(SeekFrom::Start(FILE_HEADER_BYTES))?;
    let mut at = FILE_HEADER_BYTES;
    let mut measured = Measured::default();
    let (mut video, mut audio) = (Span::default(), Span::default());
    while at + TAG_HEADER_BYTES + TRAILER_BYTES <= len {
        let mut header = [0; TAG_HEADER_BYTES as usize + 2];
        let some = header.len().min((len - at) as usize);
        reader.read_exact(&mut header[..some])?;
        let [kind, s2, s1, s0, t2, t1, t0, t3, _, _, _, first, second] = header;
        let size = u64::from(u32::from_be_bytes([0, s2, s1, s0]));
        let end = at + TAG_HEADER_BYTES + size + TRAILER_BYTES;
        if end > len {
            break;
        }
        let millis = i64::from(u32::from_be_bytes([t3, t2, t1, t0]));
        match kind {
            9 if !is_video_header(first, second) => video.add(millis),
            8 if !is_audio_header(first, second) => audio.add(millis),
            8 | 9 | 18 => {}
            _ => break,
        }
        reader.seek_relative((end - at) as i64 - some as i64)?;
        at = end;
        measured.bytes = at;
    }
    let main = if video.frames > 0 { video } else { audio };
    measured.progress.frames = main.frames;
    measured.progress.duration_micros = 1_000 * video.end().max(audio.end());
    Ok(measured)
}

#[derive(Clone, Copy, Default)]
struct Span {
    frames: u64,
    newest: i64,
    lasted: i64,
}

impl Span {
    fn add(&mut self, millis: i64) {
        if self.frames > 0 {
            self.lasted = (millis - self.newest).max(0);
        }
        self.frames += 1;
        self.newest = millis;
    }

    fn end(self) -> i64 {
        self.newest + self.lasted
    }
}
