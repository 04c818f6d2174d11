//! An MPEG-2 (or MPEG-1) program stream, as cameras send it over RTP → media events.
//!
//! ISO/IEC 13818-1 §2.5, GB/T 28181 Annex C. Bytes come cut anywhere. [`reader`] finds the packets, `pes::video` and `pes::audio` make frames of
//! their payload. Stream maps may be there or not, and may lie: what is in the payload decides. The first stream of each kind is taken.
//! A frame goes out when its own last byte is in:
//!
//! | it ends | if the sender |
//! |---|---|
//! | at [`PsDemuxer::frame_end`], the marker of RTP | says so there, and no packet is under way whose length says otherwise |
//! | with its last PES packet | says no such thing, but lengths that are right; [`ends`] knows that packet by its size |
//! | where the next begins, or the whole stream ends | does neither |
//!
//! Limits: [`HELD_BYTES_MAX`]. Codecs that are not carried are counted, and named by [`PsDemuxer::take_left_out`]. The other way is
//! [`mod@write`]. Not here: RTP.

mod ends;
#[cfg(test)]
#[path = "../../../tests/e2e/harness/ps_writer.rs"]
pub(crate) mod ps_writer;
mod reader;
#[cfg(test)]
mod tests;
pub mod write;

use bytes::Bytes;

use self::ends::Ends;
use self::reader::{Part, Reader};
use crate::format::pes::announced::{AUDIO, Announced, VIDEO};
use crate::format::pes::audio::{Audio, Sound};
use crate::format::pes::video::{Moment, Picture, Setup, Times, Video};
use crate::format::pes::{PTS_BITS, PTS_PER_SECOND};
use crate::format::rtp::demux::{Demuxed, OnLoss};
use crate::format::rtp::depacketize::UNIT_BYTES_MAX;
use crate::media::timeline::WireClock;
use crate::media::{Codec, Discard, Frame, MediaEvent, MediaTime, Stamp, TrackShape};

/// What is kept of a stream at most: a unit under way, a packet of sound, a header.
pub const HELD_BYTES_MAX: usize = UNIT_BYTES_MAX + 128 * 1024;

/// A stream of which nothing has come for so long is replaced by another of its kind.
const SILENT_MS: u64 = 5_000;
const RTP_BITS: u32 = 32;

/// What the stream map says, beside what the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Map {
    Right,
    Missing { is: Codec },
    Wrong { says: Codec, is: Codec },
}

/// Whose payload is at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Video,
    Audio,
    LeftOut,
}

/// The stream that is taken of a kind.
#[derive(Clone, Copy, Debug)]
struct Taken {
    id: u8,
    seen: Stamp,
}

pub struct PsDemuxer {
    reader: Reader,
    demuxer: Demuxer,
}

/// Everything behind the reader.
struct Demuxer {
    clock: WireClock,
    map: Vec<(u8, u8)>,
    video: Video,
    /// Of the picture's units that are given out now.
    setup: Option<Setup>,
    video_stream: Option<Taken>,
    audio: Audio,
    /// Of the sounds that are given out now.
    sound: Option<Setup>,
    audio_stream: Option<Taken>,
    whose: Whose,
    ends: Ends,
    /// The end of a frame was said where it was not.
    marks_lie: bool,
    on_loss: OnLoss,
    after_loss: bool,
    announced: Announced,
    began: Option<Stamp>,
    /// The time of RTP, for packets that have none of their own.
    rtp_clock: WireClock,
    rtp_micros: Option<i64>,
    pictures: Vec<Picture>,
    sounds: Vec<Sound>,
    left_out: Vec<&'static str>,
    left_out_new: Option<&'static str>,
}

impl PsDemuxer {
    pub fn new(on_loss: OnLoss) -> Self {
        let demuxer = Demuxer {
            clock: WireClock::new(PTS_BITS, PTS_PER_SECOND),
            map: Vec::new(),
            video: Video::leaving_rests_out(),
            setup: None,
            video_stream: None,
            audio: Audio::default(),
            sound: None,
            audio_stream: None,
            whose: Whose::LeftOut,
            ends: Ends::default(),
            marks_lie: false,
            on_loss,
            after_loss: false,
            announced: Announced::default(),
            began: None,
            rtp_clock: WireClock::new(RTP_BITS, PTS_PER_SECOND),
            rtp_micros: None,
            pictures: Vec::new(),
            sounds: Vec::new(),
            left_out: Vec::new(),
            left_out_new: None,
        };
        PsDemuxer { reader: Reader::new(), demuxer }
    }

    /// Bytes of what is not complete.
    pub fn held_bytes(&self) -> usize {
        let Demuxer { video, audio, .. } = &self.demuxer;
        self.reader.held_bytes() + video.held_bytes() + audio.held_bytes()
    }

    /// The name of a codec that was found and is not carried; each once.
    pub fn take_left_out(&mut self) -> Option<&'static str> {
        self.demuxer.left_out_new.take()
    }

    /// Whether there are packets of pictures.
    pub fn has_video(&self) -> bool {
        self.demuxer.video_stream.is_some()
    }

    /// `None`: the codec is not known yet.
    pub fn map(&self) -> Option<Map> {
        let Demuxer { map, video, video_stream, audio, audio_stream, .. } = &self.demuxer;
        let (stream, is) = if self.has_video() { (video_stream, video.codec) } else { (audio_stream, audio.codec) };
        let (id, is) = (stream.as_ref()?.id, is?);
        let Some((kind, _)) = map.iter().find(|(_, of)| *of == id) else { return Some(Map::Missing { is }) };
        Some(match carried(*kind) {
            Ok(says) if says != is => Map::Wrong { says, is },
            _ => Map::Right,
        })
    }

    /// The RTP timestamp of the bytes that come next.
    pub fn timestamp(&mut self, timestamp: u32) {
        self.demuxer.rtp_micros = Some(self.demuxer.rtp_clock.unwrap(timestamp.into()).as_micros());
    }

    pub fn push(&mut self, now: Stamp, bytes: &[u8], out: &mut Vec<Demuxed>) {
        self.read(now, out, |reader, sink| reader.push(bytes, sink));
    }

    /// The sender says that a frame ends here.
    pub fn frame_end(&mut self, now: Stamp, out: &mut Vec<Demuxed>) {
        if self.demuxer.marks_lie {
            return;
        }
        let mut ends = false;
        self.read(now, out, |reader, sink| ends = reader.frame_end(sink));
        if ends {
            self.demuxer.end_picture(out);
        }
    }

    /// Behind the end of a frame a packet begins with these bytes.
    pub fn frame_begins(&mut self, now: Stamp, bytes: &[u8], out: &mut Vec<Demuxed>) {
        self.read(now, out, |reader, sink| reader.frame_begins(bytes, sink));
    }

    /// Bytes are missing before the next ones.
    pub fn lost(&mut self, out: &mut Vec<Demuxed>) {
        self.reader.reset();
        self.demuxer.out_of_step(out);
    }

    fn read(&mut self, now: Stamp, out: &mut Vec<Demuxed>, call: impl FnOnce(&mut Reader, &mut dyn FnMut(Part<'_>))) {
        let PsDemuxer { reader, demuxer } = self;
        demuxer.began.get_or_insert(now);
        call(reader, &mut |part| demuxer.part(now, part, out));
    }
}

impl Demuxer {
    fn part(&mut self, now: Stamp, part: Part<'_>, out: &mut Vec<Demuxed>) {
        match part {
            Part::Begin { id, pts, dts, bytes } => {
                self.whose = self.whose(now, id, out);
                self.begin(now, pts, dts, bytes);
            }
            Part::Payload(bytes) => self.payload(now, bytes, out),
            Part::End { by_length } => self.end(now, by_length, out),
            Part::Map(map) => self.set_map(map),
            Part::StreamEnd => self.end_picture(out),
            Part::OutOfStep => self.out_of_step(out),
        }
    }

    fn out_of_step(&mut self, out: &mut Vec<Demuxed>) {
        self.whose = Whose::LeftOut;
        self.ends.lost();
        self.audio.lost();
        self.video.lost(&mut self.pictures);
        self.settle_pictures(out);
    }

    fn set_map(&mut self, map: &[(u8, u8)]) {
        if self.map == map {
            return;
        }
        self.map = map.to_vec();
        let is_gone = |taken: &Taken| !map.iter().any(|(_, id)| *id == taken.id);
        if self.video_stream.as_ref().is_some_and(is_gone) {
            self.video_stream = None;
        }
        if self.audio_stream.as_ref().is_some_and(is_gone) {
            self.audio_stream = None;
        }
    }

    /// Who takes the packet of a stream.
    fn whose(&mut self, now: Stamp, id: u8, out: &mut Vec<Demuxed>) -> Whose {
        let is_video = id & 0xF0 == 0xE0;
        let declared = self.map.iter().find(|(_, of)| *of == id).map(|(kind, _)| carried(*kind));
        if let Some(Err(name)) = declared {
            if !self.left_out.contains(&name) {
                self.left_out.push(name);
                self.left_out_new = Some(name);
            }
            out.push(Demuxed::Discarded(Discard::UnknownCodec));
            return Whose::LeftOut;
        }
        let stream = if is_video { &mut self.video_stream } else { &mut self.audio_stream };
        match stream {
            Some(taken) if taken.id != id && now.millis_since(taken.seen) < SILENT_MS => {
                out.push(Demuxed::Discarded(Discard::ExtraTrack));
                return Whose::LeftOut;
            }
            _ => *stream = Some(Taken { id, seen: now }),
        }
        let codec = declared.and_then(Result::ok).filter(|codec| (codec.kind() == crate::media::TrackKind::Video) == is_video);
        match (is_video, codec) {
            (true, Some(codec)) => self.video.declare(codec),
            (true, None) => {}
            (false, codec) => self.audio.declare(codec),
        }
        if is_video { Whose::Video } else { Whose::Audio }
    }

    fn begin(&mut self, now: Stamp, pts: Option<u64>, dts: Option<u64>, bytes: Option<usize>) {
        let mut micros = |ticks: Option<u64>| ticks.map(|ticks| self.clock.unwrap(ticks).as_micros());
        let (dts, pts) = (micros(dts), micros(pts));
        match self.whose {
            Whose::Video => {
                self.ends.begin(bytes);
                let times = pts.map(|pts| Times { pts, dts: dts.unwrap_or(pts) });
                self.video.begin(times, Moment { rtp: self.rtp_micros, arrival: now });
            }
            Whose::Audio => self.audio.begin(pts),
            Whose::LeftOut => {}
        }
    }

    fn payload(&mut self, now: Stamp, bytes: &[u8], out: &mut Vec<Demuxed>) {
        match self.whose {
            Whose::Video => {
                let ended = self.video.unmarked;
                self.video.payload(now, bytes, &mut self.pictures);
                self.settle_pictures(out);
                if self.video.unmarked > ended {
                    self.ends.picture_ended();
                }
                if let Some(by_mark) = self.video.was_cut.take() {
                    self.marks_lie |= by_mark;
                    self.ends.was_wrong |= !by_mark;
                    self.after_loss = true;
                }
            }
            Whose::Audio => {
                self.audio.payload(bytes, &mut self.sounds);
                self.settle_sounds(now, out);
            }
            Whose::LeftOut => {}
        }
    }

    fn end(&mut self, now: Stamp, by_length: bool, out: &mut Vec<Demuxed>) {
        match self.whose {
            Whose::Video => {
                if self.video.goes_on() {
                    self.ends.went_on();
                }
                if by_length && self.ends.is_last(&self.video) {
                    let unmarked = self.video.unmarked;
                    self.end_picture(out);
                    self.video.unmarked = unmarked;
                }
            }
            Whose::Audio => {
                let micros = self.began.map_or(0, |began| now.since(began).as_micros() as i64);
                self.audio.end(micros, &mut self.sounds);
                self.settle_sounds(now, out);
            }
            Whose::LeftOut => {}
        }
    }

    fn end_picture(&mut self, out: &mut Vec<Demuxed>) {
        self.video.end(&mut self.pictures);
        self.settle_pictures(out);
    }

    fn settle_pictures(&mut self, out: &mut Vec<Demuxed>) {
        let mut pictures = std::mem::take(&mut self.pictures);
        for picture in pictures.drain(..) {
            match picture {
                Picture::Setup(setup) => self.setup = setup,
                Picture::Lost => self.after_loss = true,
                Picture::Discarded(discard) => {
                    self.after_loss |= discard == Discard::Incomplete;
                    out.push(Demuxed::Discarded(discard));
                }
                Picture::Unit { unit, times } => {
                    self.after_loss &= !unit.key;
                    if self.setup.is_none() {
                        out.push(Demuxed::Discarded(Discard::NoConfig));
                    } else if self.after_loss && self.on_loss == OnLoss::DropGop {
                        out.push(Demuxed::Discarded(Discard::AfterLoss));
                    } else {
                        self.announce(out);
                        out.push(Demuxed::Event(MediaEvent::Frame(Frame {
                            data: unit.data,
                            arrival: unit.arrival,
                            dts: MediaTime::from_micros(times.dts),
                            cts: i32::try_from(times.pts - times.dts).unwrap_or(0),
                            segment: 0,
                            track: VIDEO,
                            key: unit.key,
                        })));
                    }
                }
            }
        }
        self.pictures = pictures;
    }

    fn settle_sounds(&mut self, now: Stamp, out: &mut Vec<Demuxed>) {
        let mut sounds = std::mem::take(&mut self.sounds);
        for sound in sounds.drain(..) {
            match sound {
                Sound::Discarded(discard) => out.push(Demuxed::Discarded(discard)),
                Sound::Setup(setup) => self.sound = setup,
                Sound::Frame { data, time } => {
                    self.announce(out);
                    let dts = MediaTime::from_micros(time);
                    out.push(Demuxed::Event(MediaEvent::Frame(Frame {
                        data,
                        arrival: now,
                        dts,
                        cts: 0,
                        segment: 0,
                        track: AUDIO,
                        key: true,
                    })));
                }
            }
        }
        self.sounds = sounds;
    }

    /// Says what there is, if that is new.
    fn announce(&mut self, out: &mut Vec<Demuxed>) {
        let sound = self.sound.clone().or_else(|| self.promised_sound());
        self.announced.tell(self.setup.clone(), sound, out);
    }
}

impl Demuxer {
    /// The sound that the stream map names, while none has come: who gives the stream out waits for it.
    fn promised_sound(&self) -> Option<Setup> {
        let mut codecs = self.map.iter().filter_map(|(kind, _)| carried(*kind).ok());
        let codec = codecs.find(|codec| codec.kind() == crate::media::TrackKind::Audio)?;
        // What it is like is known with its first frame.
        Some(Setup { codec, config: Bytes::new(), shape: TrackShape::Audio { sample_rate: 0, channels: 0 } })
    }
}

/// The codec of a type in a stream map, or its name if it is not carried.
fn carried(kind: u8) -> Result<Codec, &'static str> {
    match kind {
        0x1B => Ok(Codec::H264),
        0x24 => Ok(Codec::H265),
        0x0F => Ok(Codec::Aac),
        0x03 | 0x04 => Ok(Codec::Mp3),
        0x90 => Ok(Codec::G711A),
        0x91 => Ok(Codec::G711U),
        0x01 | 0x02 => Err("MPEG-2 video"),
        0x10 => Err("MPEG-4 video"),
        0x80 => Err("SVAC video"),
        0x9B => Err("SVAC audio"),
        0x92 => Err("G.722.1"),
        0x93 => Err("G.723.1"),
        0x99 => Err("G.729"),
        0x9C => Err("Opus in PS"),
        _ => Err("a codec of an unknown type"),
    }
}
