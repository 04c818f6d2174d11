//! Where in a file of FLV or of a transport stream decoding may begin, as the server writes them: only heads of tags and packets are read.
//!
//! FLV 10.1 §E.4; ISO/IEC 13818-1 §2.4.3: tables stand in front of each key frame, and its first packet is marked as a random access point.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use crate::disk::heads::{PesHead, is_audio_header, is_video_header};
use crate::format::ts::PACKET_BYTES;
use crate::media::timeline::WireClock;

const READ_BYTES: usize = PACKET_BYTES * 2048;
/// Places closer together are of no use: a week has a million.
const APART_MICROS: i64 = 500_000;

/// A place to begin, and the decoding time there, in microseconds as the file has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub offset: u64,
    pub dts: i64,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// Up to here stands what a decoder must have before any frame.
    pub head_bytes: u64,
    pub keys: Vec<Key>,
    has_video: bool,
}

impl Keys {
    fn add(&mut self, key: Key, is_video: bool) {
        if is_video && !self.has_video {
            self.has_video = true;
            self.keys.clear();
        }
        let is_new = self.keys.last().is_none_or(|last| (key.dts - last.dts).abs() >= APART_MICROS);
        if is_video == self.has_video && is_new {
            self.keys.push(key);
        }
    }

    /// Where to begin for what is shown at `from`: a key earlier than need be, because sound may stand in front of its picture.
    pub fn before(&self, from: i64) -> Option<Key> {
        let behind = self.keys.partition_point(|key| key.dts <= from);
        self.keys.get(behind.saturating_sub(2)).copied()
    }
}

/// Of FLV: tags of frames that can be decoded by themselves.
pub fn of_flv(file: &File) -> io::Result<Keys> {
    const FILE_HEADER_BYTES: u64 = 13;
    const TAG_HEADER_BYTES: u64 = 11;
    const TRAILER_BYTES: u64 = 4;
    let len = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(READ_BYTES, file);
    reader.seek(SeekFrom::Start(FILE_HEADER_BYTES))?;
    let (mut keys, mut at) = (Keys::default(), FILE_HEADER_BYTES);
    let mut clock = WireClock::new(32, 1_000);
    while at + TAG_HEADER_BYTES + 2 + TRAILER_BYTES <= len {
        let mut header = [0; TAG_HEADER_BYTES as usize + 2];
        reader.read_exact(&mut header)?;
        let [kind, s2, s1, s0, t2, t1, t0, t3, _, _, _, first, second] = header;
        let end = at + TAG_HEADER_BYTES + u64::from(u32::from_be_bytes([0, s2, s1, s0])) + TRAILER_BYTES;
        let is_key = match kind {
            9 if !is_video_header(first, second) => Some(first >> 4 & 7 == 1),
            8 if !is_audio_header(first, second) => Some(true),
            _ => None,
        };
        if let Some(is_key) = is_key {
            if keys.head_bytes == 0 {
                keys.head_bytes = at;
            }
            let dts = clock.unwrap(u32::from_be_bytes([t3, t2, t1, t0]).into()).as_micros();
            if is_key {
                keys.add(Key { offset: at, dts }, kind == 9);
            }
        }
        reader.seek_relative(end as i64 - at as i64 - header.len() as i64)?;
        at = end;
    }
    Ok(keys)
}

/// Of a transport stream: tables with a random access point behind them.
pub fn of_ts(file: &File) -> io::Result<Keys> {
    let mut reader = BufReader::with_capacity(READ_BYTES, file);
    reader.seek(SeekFrom::Start(0))?;
    let (mut keys, mut clock) = (Keys::default(), WireClock::new(33, 90_000));
    let (mut at, mut tables_at) = (0, 0);
    let mut packet = [0; PACKET_BYTES];
    loop {
        match reader.read_exact(&mut packet) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(keys),
            read => read?,
        }
        if u16::from_be_bytes([packet[1] & 0x1F, packet[2]]) == 0 {
            tables_at = at;
        } else if let Some(PesHead { is_video, is_access, dts_ticks }) = PesHead::of(&packet) {
            let dts = clock.unwrap(dts_ticks).as_micros();
            if is_access || !is_video {
                keys.add(Key { offset: tables_at, dts }, is_video);
            }
        }
        at += PACKET_BYTES as u64;
    }
}
