//! A byte stream of fragmented MP4: the samples of the picture. Spec: ISO/IEC 14496-12 §8.8.
//!
//! Boxes that say where samples are, which are small, are kept until they are complete; the samples themselves are not.

use std::collections::VecDeque;

use super::{AUDIO, Broken, Found, Header, Unit, VIDEO};

const BOX_HEADER_BYTES: usize = 8;
/// A larger moov or moof than this is none.
const BOX_BYTES_MAX: usize = 1 << 20;
const NON_SYNC_SAMPLE: u32 = 0x01_0000;
const CUT_OFF: Broken = Broken("an MP4 box is cut off");

struct Sample {
    bytes: usize,
    video: bool,
    key: bool,
}

#[derive(Default)]
enum State {
    /// Between boxes.
    #[default]
    Header,
    Skip(usize),
    /// A moov or a moof, and how long it will be.
    Keep(usize),
    /// Within an mdat, bytes of which so many are left.
    Data(usize),
}

#[derive(Default)]
pub struct Fmp4Scanner {
    state: State,
    header: Header<BOX_HEADER_BYTES>,
    kept: Vec<u8>,
    /// Number of the track with the picture.
    video: u32,
    samples: VecDeque<Sample>,
    unit: Unit,
    in_sample: bool,
}

impl Fmp4Scanner {
    pub fn feed(&mut self, mut input: &[u8], found: &mut impl FnMut(Found<'_>)) -> Result<(), Broken> {
        while !input.is_empty() {
            match &mut self.state {
                State::Header => self.box_header(&mut input)?,
                State::Skip(left) => {
                    let skipped = (*left).min(input.len());
                    *left -= skipped;
                    input = &input[skipped..];
                    if *left == 0 {
                        self.state = State::Header;
                    }
                }
                State::Keep(length) => {
                    let (bytes, rest) = input.split_at((*length - self.kept.len()).min(input.len()));
                    self.kept.extend_from_slice(bytes);
                    input = rest;
                    if self.kept.len() == *length {
                        self.take_kept()?;
                    }
                }
                State::Data(left) => {
                    let (bytes, rest) = input.split_at((*left).min(input.len()));
                    *left -= bytes.len();
                    if *left == 0 {
                        self.state = State::Header;
                    }
                    input = rest;
                    self.data(bytes, found)?;
                }
            }
        }
        Ok(())
    }

    fn box_header(&mut self, input: &mut &[u8]) -> Result<(), Broken> {
        if !self.header.collect(BOX_HEADER_BYTES, input) {
            return Ok(());
        }
        self.header.len = 0;
        let [s3, s2, s1, s0, kind @ ..] = self.header.bytes;
        let size = u32::from_be_bytes([s3, s2, s1, s0]) as usize;
        let content = size.checked_sub(BOX_HEADER_BYTES).ok_or(Broken("an MP4 box without a size"))?;
        self.state = match &kind {
            b"moov" | b"moof" if content <= BOX_BYTES_MAX => {
                self.kept.clear();
                // Which of the two it is.
                self.kept.push(kind[3]);
                State::Keep(content + 1)
            }
            b"mdat" if content > 0 => State::Data(content),
            _ if content > 0 => State::Skip(content),
            _ => State::Header,
        };
        Ok(())
    }

    fn take_kept(&mut self) -> Result<(), Broken> {
        self.state = State::Header;
        match self.kept.split_first() {
            Some((b'v', moov)) => self.video = video_track(moov)?.unwrap_or(0),
            Some((_, moof)) => {
                let mut samples = std::mem::take(&mut self.samples);
                each_box(
                    moof,
                    |kind, content| {
                        if kind == b"traf" { track_run(content, self.video, &mut samples) } else { Ok(()) }
                    },
                )?;
                self.samples = samples;
            }
            None => {}
        }
        Ok(())
    }

    fn data(&mut self, mut bytes: &[u8], found: &mut impl FnMut(Found<'_>)) -> Result<(), Broken> {
        while !bytes.is_empty() {
            if !self.in_sample {
                let sample = self.samples.pop_front().ok_or(Broken("data of no MP4 sample"))?;
                self.unit.begin_sample(if sample.video { VIDEO } else { AUDIO }, sample.bytes, sample.key);
                self.in_sample = sample.bytes > 0;
                continue;
            }
            let (sample, rest) = bytes.split_at(self.unit.left().min(bytes.len()));
            self.unit.feed(sample, found);
            self.in_sample = self.unit.left() > 0;
            bytes = rest;
        }
        Ok(())
    }
}

fn number(bytes: &[u8], at: usize) -> Result<u32, Broken> {
    let four = bytes.get(at..at + 4).and_then(|four| four.first_chunk::<4>()).ok_or(CUT_OFF)?;
    Ok(u32::from_be_bytes(*four))
}

fn each_box<'a>(mut bytes: &'a [u8], mut each: impl FnMut(&[u8; 4], &'a [u8]) -> Result<(), Broken>) -> Result<(), Broken> {
    while !bytes.is_empty() {
        let size = number(bytes, 0)? as usize;
        let (whole, rest) = bytes.split_at_checked(size).filter(|_| size >= BOX_HEADER_BYTES).ok_or(CUT_OFF)?;
        let (kind, content) = whole[4..].split_first_chunk::<4>().ok_or(CUT_OFF)?;
        each(kind, content)?;
        bytes = rest;
    }
    Ok(())
}

/// The number of the track whose handler is `vide`.
fn video_track(moov: &[u8]) -> Result<Option<u32>, Broken> {
    let mut video = None;
    each_box(moov, |kind, trak| {
        let mut id = 0;
        if kind == b"trak" {
            each_box(trak, |kind, content| {
                if kind == b"tkhd" {
                    id = number(content, if content.first() == Some(&1) { 20 } else { 12 })?;
                }
                // The handler stands in front of what is large.
                if kind == b"mdia" && content.windows(12).any(|window| window.starts_with(b"hdlr") && window.ends_with(&[0; 4])) {
                    let is_video = content.windows(4).any(|window| window == b"vide");
                    video = video.or(is_video.then_some(id));
                }
                Ok(())
            })?;
        }
        Ok(())
    })?;
    Ok(video)
}

fn track_run(traf: &[u8], video: u32, samples: &mut VecDeque<Sample>) -> Result<(), Broken> {
    let (mut track, mut default_bytes, mut default_flags) = (0, 0, 0);
    each_box(traf, |kind, content| {
        let flags = number(content, 0)? & 0xFF_FFFF;
        let mut at = 4;
        let mut next = |present: bool| {
            let is = if present { number(content, at)? } else { 0 };
            at += if present { 4 } else { 0 };
            Ok::<u32, Broken>(is)
        };
        match kind {
            b"tfhd" => {
                track = next(true)?;
                next(flags & 1 != 0)?;
                next(flags & 1 != 0)?;
                next(flags & 2 != 0)?;
                next(flags & 8 != 0)?;
                (default_bytes, default_flags) = (next(flags & 0x10 != 0)?, next(flags & 0x20 != 0)?);
            }
            b"trun" => {
                let count = next(true)?;
                next(flags & 1 != 0)?;
                let first_flags = if flags & 4 != 0 { Some(next(true)?) } else { None };
                for place in 0..count {
                    next(flags & 0x100 != 0)?;
                    let bytes = if flags & 0x200 != 0 { next(true)? } else { default_bytes };
                    let own = if flags & 0x400 != 0 { next(true)? } else { default_flags };
                    next(flags & 0x800 != 0)?;
                    let own = first_flags.filter(|_| place == 0).unwrap_or(own);
                    samples.push_back(Sample { bytes: bytes as usize, video: track == video, key: own & NON_SYNC_SAMPLE == 0 });
                }
            }
            _ => {}
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mark::Mark;
    use crate::scan::testing::{Seen, scan_in_pieces};

    fn boxed(kind: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        [&(content.len() as u32 + 8).to_be_bytes()[..], kind, &content].concat()
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn pictures_are_found_among_sounds() {
        let handler = |kind: &[u8; 4]| boxed(b"mdia", &[&boxed(b"hdlr", &[&words(&[0, 0]), kind, &[0; 13]])]);
        let track = |id, kind: &[u8; 4]| boxed(b"trak", &[&boxed(b"tkhd", &[&words(&[7, 0, 0, id, 0])]), &handler(kind)]);
        let moov = boxed(b"moov", &[&boxed(b"mvhd", &[&[0; 8]]), &track(1, b"soun"), &track(2, b"vide")]);
        let picture = |sequence| [&Mark { sent: 5, sequence, publisher: 0 }.encode()[..], &[0xFF; 500]].concat();
        let size = picture(0).len() as u32;
        let sound = boxed(b"traf", &[&boxed(b"tfhd", &[&words(&[0x02_0010, 1, 4])]), &boxed(b"trun", &[&words(&[1, 2, 0])])]);
        let run = words(&[0x205, 2, 0, 0x0200_0000, size, size]);
        let pictures = boxed(b"traf", &[&boxed(b"tfhd", &[&words(&[0x02_0020, 2, 0x0101_0000])]), &boxed(b"trun", &[&run])]);
        let moof = boxed(b"moof", &[&boxed(b"mfhd", &[&words(&[0, 1])]), &pictures, &sound]);
        let mdat = boxed(b"mdat", &[&picture(7), &picture(8), &[0; 8]]);
        let stream = [boxed(b"ftyp", &[b"iso5"]), moov, moof, mdat].concat();
        let seen = scan_in_pieces(&stream, Fmp4Scanner::default, |scanner, bytes, found| {
            scanner.feed(bytes, &mut |f| found(f)).unwrap()
        });
        let expected = [Seen::First(7), Seen::Last(7, true), Seen::First(8), Seen::Last(8, false), Seen::Audio, Seen::Audio];
        assert_eq!(seen, expected);
        let more = boxed(b"mdat", &[&[0; 9]]);
        assert!(Fmp4Scanner::default().feed(&more, &mut |_| {}).is_err());
    }
}
