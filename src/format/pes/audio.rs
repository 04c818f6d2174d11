//! The payload of a sound's PES packets → frames: AAC in ADTS, MP3, G.711.
//!
//! ISO/IEC 13818-7 §6.2 (ADTS), ISO/IEC 11172-3 (MP3). A frame of AAC or MP3 goes out when its own length is there, wherever packets are
//! cut; G.711 goes out as it came, a packet a frame. What the sender says of the codec is checked against the bytes: ADTS and MP3 show
//! themselves, and what shows nothing is G.711. Limits: [`HELD_BYTES_MAX`]. Not here: which packets are the sound's.

use bytes::{Buf, Bytes, BytesMut};

use super::video::Setup;
use crate::media::aac::{self, AacConfig};
use crate::media::{Codec, Discard, TrackShape, mp3};

/// A frame of AAC has 8 KiB at most, a packet 64 KiB.
const HELD_BYTES_MAX: usize = 64 * 1024;
/// Packets without ADTS after which nothing but G.711 is left.
const MISSES_MAX: u32 = 4;
/// Packets without a frame after which the codec is asked for again.
const BROKEN_MAX: u32 = 8;

/// A frame and its time in microseconds.
#[derive(Debug, PartialEq)]
pub enum Sound {
    /// How the frames that follow are set up, in order with them.
    Setup(Option<Setup>),
    Frame {
        data: Bytes,
        time: i64,
    },
    Discarded(Discard),
}

#[derive(Default)]
pub struct Audio {
    /// What the sender says; `None`: nothing that is known.
    declared: Option<Codec>,
    pub codec: Option<Codec>,
    config: Bytes,
    shape: Option<TrackShape>,
    /// What was said last.
    setup: Option<Setup>,
    buffer: BytesMut,
    /// Bytes in front that came with an earlier packet.
    carried: usize,
    /// Time of the first frame that begins in the packet at hand.
    pending: Option<i64>,
    /// Time of a frame, and how many samples (at `rate`) have come since then.
    base: Option<i64>,
    samples: i64,
    rate: u32,
    misses: u32,
    broken: u32,
    /// A frame is looked for; that something is broken has been said.
    is_lost: bool,
}

impl Audio {
    pub fn declare(&mut self, codec: Option<Codec>) {
        if self.declared == codec {
            return;
        }
        self.declared = codec;
        self.codec = None;
        self.misses = 0;
        self.buffer.clear();
    }

    pub fn held_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Bytes are missing.
    pub fn lost(&mut self) {
        self.buffer.clear();
        self.carried = 0;
    }

    pub fn begin(&mut self, pts: Option<i64>) {
        self.carried = self.buffer.len();
        self.pending = pts;
    }

    pub fn payload(&mut self, bytes: &[u8], out: &mut Vec<Sound>) {
        if self.buffer.len() + bytes.len() > HELD_BYTES_MAX {
            self.lost();
            return out.push(Sound::Discarded(Discard::BrokenFrame));
        }
        self.buffer.extend_from_slice(bytes);
        self.frames(out);
    }

    /// The packet is over.
    pub fn end(&mut self, now_micros: i64, out: &mut Vec<Sound>) {
        if self.codec.is_none() || self.codec.is_some_and(is_g711) {
            self.recognise();
        }
        match self.codec {
            Some(codec) if is_g711(codec) => {
                let data = self.buffer.split().freeze();
                if !data.is_empty() {
                    self.rate = 8_000;
                    let samples = data.len() as i64;
                    let time = self.next_time(true, samples, now_micros);
                    self.say_setup(out);
                    out.push(Sound::Frame { data, time });
                }
            }
            Some(_) => {
                self.frames(out);
                self.broken += 1;
                if self.broken > BROKEN_MAX {
                    (self.codec, self.broken, self.misses) = (None, 0, 0);
                    self.buffer.clear();
                }
            }
            None => self.buffer.clear(),
        }
        self.carried = self.buffer.len();
    }

    /// Decides what the packet at hand is of.
    fn recognise(&mut self) {
        let says_g711 = self.declared.is_some_and(is_g711);
        let at_front = says_g711 || self.codec.is_some();
        let adts = frames_at(&self.buffer, at_front, aac::adts_bytes).map(|at| (at, Codec::Aac));
        let mp3 = || frames_at(&self.buffer, at_front, mp3_bytes).map(|at| (at, Codec::Mp3));
        match adts.or_else(mp3) {
            Some((at, codec)) => {
                self.buffer.advance(at);
                self.set_codec(codec);
            }
            None if self.codec.is_some() => {}
            None => match self.declared {
                Some(codec) => self.set_codec(codec),
                None => {
                    self.misses += 1;
                    if self.misses >= MISSES_MAX {
                        self.set_codec(Codec::G711A);
                    }
                }
            },
        }
    }

    fn set_codec(&mut self, codec: Codec) {
        (self.codec, self.misses, self.broken) = (Some(codec), 0, 0);
        self.config = Bytes::new();
        let is_g711 = is_g711(codec);
        self.shape = is_g711.then_some(TrackShape::Audio { sample_rate: 8_000, channels: 1 });
    }

    /// Takes the whole frames of AAC and MP3 off the front.
    fn frames(&mut self, out: &mut Vec<Sound>) {
        loop {
            let frame = match self.codec {
                Some(Codec::Aac) => aac::adts_bytes(&self.buffer),
                Some(Codec::Mp3) => mp3_bytes(&self.buffer),
                _ => return,
            };
            match frame {
                Some(bytes) if bytes <= self.buffer.len() => self.frame(bytes, out),
                Some(_) => return,
                None if self.buffer.len() < aac::ADTS_HEADER_BYTES => return,
                None => {
                    // Out of step: on to whatever looks like a header.
                    let next = (1..self.buffer.len()).find(|at| self.buffer[*at] == 0xFF).unwrap_or(self.buffer.len());
                    self.consume(next);
                    if !std::mem::replace(&mut self.is_lost, true) {
                        out.push(Sound::Discarded(Discard::BrokenFrame));
                    }
                }
            }
        }
    }

    fn frame(&mut self, bytes: usize, out: &mut Vec<Sound>) {
        let frame = Bytes::copy_from_slice(&self.buffer[..bytes]);
        let is_of_packet = self.carried == 0;
        self.consume(bytes);
        (self.broken, self.is_lost) = (0, false);
        if self.codec == Some(Codec::Mp3) {
            let Some(header) = mp3::Header::parse(&frame) else { return };
            self.shape = mp3::shape(&frame);
            self.rate = header.sample_rate;
            let time = self.next_time(is_of_packet, i64::from(header.samples), 0);
            self.say_setup(out);
            return out.push(Sound::Frame { data: frame, time });
        }
        let Some((config, raw, _)) = aac::adts_frame(&frame) else {
            return out.push(Sound::Discarded(Discard::BrokenFrame));
        };
        let Some(parsed) = AacConfig::parse(&config) else { return };
        if config != self.config {
            (self.config, self.shape) = (config, Some(parsed.shape()));
        }
        self.rate = parsed.core_sample_rate;
        let time = self.next_time(is_of_packet, i64::from(parsed.frame_samples), 0);
        self.say_setup(out);
        out.push(Sound::Frame { data: frame.slice_ref(raw), time });
    }

    /// Before a frame: how it is set up, if that is another way than the one before.
    fn say_setup(&mut self, out: &mut Vec<Sound>) {
        let setup = self.codec.zip(self.shape).map(|(codec, shape)| Setup { codec, config: self.config.clone(), shape });
        if self.setup != setup {
            self.setup.clone_from(&setup);
            out.push(Sound::Setup(setup));
        }
    }

    fn consume(&mut self, bytes: usize) {
        self.buffer.advance(bytes);
        self.carried = self.carried.saturating_sub(bytes);
    }

    /// The time of a frame of so many samples. `is_of_packet`: it begins in the packet at hand, so that the packet's time is its own if no
    /// other frame has it.
    fn next_time(&mut self, is_of_packet: bool, samples: i64, otherwise: i64) -> i64 {
        if let Some(pts) = self.pending.filter(|_| is_of_packet) {
            self.pending = None;
            (self.base, self.samples) = (Some(pts), 0);
        }
        let base = *self.base.get_or_insert(otherwise);
        let time = base + self.samples * 1_000_000 / i64::from(self.rate.max(1));
        self.samples += samples;
        time
    }
}

fn is_g711(codec: Codec) -> bool {
    matches!(codec, Codec::G711A | Codec::G711U)
}

/// Of layer III; the others are not carried.
fn mp3_bytes(bytes: &[u8]) -> Option<usize> {
    let is_layer_3 = bytes.get(1).is_some_and(|second| second >> 1 & 3 == 1);
    mp3::Header::parse(bytes).filter(|header| is_layer_3 && header.bytes > 4).map(|header| header.bytes)
}

/// Where frames begin: one that ends with the bytes, or with another behind it. `length`: of the frame that bytes begin with.
fn frames_at(bytes: &[u8], at_front: bool, length: fn(&[u8]) -> Option<usize>) -> Option<usize> {
    let last = if at_front { 1 } else { bytes.len() };
    (0..last.min(bytes.len())).find(|at| {
        let rest = &bytes[*at..];
        let behind = length(rest).and_then(|length| rest.get(length..));
        behind.is_some_and(|behind| behind.is_empty() || length(behind).is_some() || behind.len() < 7 && behind[0] == 0xFF)
    })
}
