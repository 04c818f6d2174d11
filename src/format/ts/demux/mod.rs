//! A transport stream, in pieces of any size → media events.
//!
//! ISO/IEC 13818-1 §2.4. [`sync`] finds the packets, [`tables`] tell what is in them, [`pes`] puts them together, `format::pes` makes frames of
//! their payload. The first program is taken, and of each kind the first stream that is carried: H.264, H.265, AAC in ADTS, MP3, Opus of one
//! or two channels, G.711. A frame goes out when its own last byte is in, if its PES packet has a length; a picture's packet of
//! [`WHOLE_BYTES_MAX`] or more, and those of a sender that has ever gone on with a picture in the next one, end where the next begins. Behind a
//! hole (a counter says so) the frame under way is left out. Limits: [`HELD_BYTES_MAX`]. Not here: the clock (PCR), encryption, M2TS.

mod opus;
mod pes;
mod sync;
mod tables;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use smallvec::SmallVec;

use self::opus::Opus;
use self::pes::{Part, PesReader};
use self::sync::{Counter, Found, Order, Packet, Sync};
use self::tables::{Entry, Sections};
use super::PAT_PID;
use crate::format::pes::announced::{AUDIO, Announced, VIDEO};
use crate::format::pes::audio::{Audio, Sound};
use crate::format::pes::video::{Moment, Picture, Setup, Times, Video};
use crate::format::pes::{PTS_BITS, PTS_PER_SECOND};
use crate::format::rtp::demux::Demuxed;
use crate::format::rtp::depacketize::UNIT_BYTES_MAX;
use crate::media::timeline::WireClock;
use crate::media::{Codec, Discard, Frame, MediaEvent, MediaTime, Stamp, TrackKind, TrackShape};

/// What is kept of a stream at most: a unit under way, a packet of sound, headers and tables.
pub const HELD_BYTES_MAX: usize = UNIT_BYTES_MAX + 192 * 1024;

/// A PES packet of more may be the first of several with one picture.
const WHOLE_BYTES_MAX: usize = 60_000;

/// What did not come as it should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Packets were missing, as the counters say.
    pub holes: u64,
    /// Something else than a packet stood where one should begin.
    pub sync_losses: u64,
    /// Packets that were damaged or encrypted.
    pub useless: u64,
}

pub struct TsDemuxer {
    sync: Sync,
    program: Program,
}

impl Default for TsDemuxer {
    fn default() -> Self {
        TsDemuxer::new()
    }
}

impl TsDemuxer {
    pub fn new() -> Self {
        TsDemuxer { sync: Sync::new(), program: Program::new() }
    }

    pub fn push(&mut self, now: Stamp, bytes: &[u8], out: &mut Vec<Demuxed>) {
        let TsDemuxer { sync, program } = self;
        program.began.get_or_insert(now);
        sync.push(bytes, &mut |found| match found {
            Found::Packet(packet) => program.packet(now, packet, out),
            Found::Lost => program.sync_lost(out),
        });
    }

    /// Nothing more comes: gives out what only the next packet would have shown to be whole.
    pub fn finish(&mut self, now: Stamp, out: &mut Vec<Demuxed>) {
        self.program.finish(now, out);
    }

    pub fn faults(&self) -> Faults {
        self.program.faults
    }

    /// Bytes of what is not complete.
    pub fn held_bytes(&self) -> usize {
        self.sync.held_bytes() + self.program.held_bytes()
    }
}

/// A stream of the program that is taken.
struct Stream {
    entry: Entry,
    counter: Counter,
    pes: PesReader,
}

impl Stream {
    fn new(entry: Entry) -> Self {
        Stream { entry, counter: Counter::default(), pes: PesReader::new() }
    }
}

/// Everything behind the packets.
struct Program {
    pat: Sections,
    pat_counter: Counter,
    pmt_pid: Option<u16>,
    pmt: Sections,
    pmt_counter: Counter,
    entries: SmallVec<[Entry; 4]>,
    video_stream: Option<Stream>,
    audio_stream: Option<Stream>,
    clock: WireClock,
    video: Video,
    /// The picture's packet at hand ends by its length.
    ends_by_length: bool,
    /// A picture has gone on in the packet behind.
    spans_packets: bool,
    setup: Option<Setup>,
    audio: Audio,
    opus: Opus,
    sound: Option<Setup>,
    announced: Announced,
    began: Option<Stamp>,
    faults: Faults,
}

impl Program {
    fn new() -> Self {
        Program {
            pat: Sections::default(),
            pat_counter: Counter::default(),
            pmt_pid: None,
            pmt: Sections::default(),
            pmt_counter: Counter::default(),
            entries: SmallVec::new(),
            video_stream: None,
            audio_stream: None,
            clock: WireClock::new(PTS_BITS, PTS_PER_SECOND),
            video: Video::new(),
            ends_by_length: false,
            spans_packets: false,
            setup: None,
            audio: Audio::default(),
            opus: Opus::default(),
            sound: None,
            announced: Announced::default(),
            began: None,
            faults: Faults::default(),
        }
    }

    fn held_bytes(&self) -> usize {
        let streams = self.video_stream.iter().chain(&self.audio_stream);
        let headers: usize = streams.map(|stream| stream.pes.held_bytes()).sum();
        let tables = self.pat.held_bytes() + self.pmt.held_bytes();
        headers + tables + self.video.held_bytes() + self.audio.held_bytes() + self.opus.held_bytes()
    }

    fn packet(&mut self, now: Stamp, bytes: &[u8; super::PACKET_BYTES], out: &mut Vec<Demuxed>) {
        let Some(packet) = Packet::parse(bytes) else {
            self.faults.useless += 1;
            return;
        };
        let Some(payload) = packet.payload else { return };
        let is_of = |stream: &Option<Stream>| stream.as_ref().is_some_and(|stream| stream.entry.pid == packet.pid);
        match packet.pid {
            PAT_PID => self.pat(&packet, payload),
            pid if self.pmt_pid == Some(pid) => self.pmt(now, &packet, payload, out),
            _ if is_of(&self.video_stream) => self.elementary(now, TrackKind::Video, &packet, payload, out),
            _ if is_of(&self.audio_stream) => self.elementary(now, TrackKind::Audio, &packet, payload, out),
            _ => {}
        }
    }

    fn pat(&mut self, packet: &Packet<'_>, payload: &[u8]) {
        match self.pat_counter.order(packet) {
            Order::Again => return,
            Order::Missing => self.pat.lost(),
            Order::Follows => {}
        }
        let mut found = None;
        self.pat.push(packet.starts, payload, |section| found = found.or_else(|| tables::program_pid(section)));
        if found.is_some() && found != self.pmt_pid {
            (self.pmt_pid, self.pmt, self.pmt_counter) = (found, Sections::default(), Counter::default());
        }
    }

    fn pmt(&mut self, now: Stamp, packet: &Packet<'_>, payload: &[u8], out: &mut Vec<Demuxed>) {
        match self.pmt_counter.order(packet) {
            Order::Again => return,
            Order::Missing => self.pmt.lost(),
            Order::Follows => {}
        }
        let mut found = None;
        self.pmt.push(packet.starts, payload, |section| found = tables::streams(section).or_else(|| found.take()));
        if let Some(entries) = found.filter(|entries| *entries != self.entries) {
            self.set_entries(now, entries, out);
        }
    }

    fn set_entries(&mut self, now: Stamp, entries: SmallVec<[Entry; 4]>, out: &mut Vec<Demuxed>) {
        let first = |kind| entries.iter().find(|entry| entry.codec.is_some_and(|codec| codec.kind() == kind)).copied();
        let (video, audio) = (first(TrackKind::Video), first(TrackKind::Audio));
        let left_out = entries.iter().filter(|entry| Some(**entry) != video && Some(**entry) != audio);
        for entry in left_out {
            out.push(Demuxed::Discarded(if entry.codec.is_some() { Discard::ExtraTrack } else { Discard::UnknownCodec }));
        }
        if self.video_stream.as_ref().map(|stream| stream.entry) != video {
            self.finish_video(now, out);
            self.video_stream = video.map(Stream::new);
            // Another stream may be of another sender: nothing that was learnt holds.
            (self.video, self.setup, self.spans_packets) = (Video::new(), None, false);
            if let Some(codec) = video.and_then(|entry| entry.codec) {
                self.video.declare(codec);
            }
        }
        if self.audio_stream.as_ref().map(|stream| stream.entry) != audio {
            self.finish_audio(now, out);
            self.audio_stream = audio.map(Stream::new);
            (self.audio, self.opus, self.sound) = (Audio::default(), Opus::default(), None);
            self.audio.declare(audio.and_then(|entry| entry.codec));
        }
        self.entries = entries;
    }

    /// A packet of a picture or sound.
    fn elementary(&mut self, now: Stamp, kind: TrackKind, packet: &Packet<'_>, payload: &[u8], out: &mut Vec<Demuxed>) {
        let stream = if kind == TrackKind::Video { &mut self.video_stream } else { &mut self.audio_stream };
        let Some(mut stream) = stream.take() else { return };
        match stream.counter.order(packet) {
            Order::Again => {}
            order => {
                if order == Order::Missing {
                    self.faults.holes += 1;
                    stream.pes.lost();
                    self.lost(kind, out);
                }
                stream.pes.push(packet.starts, payload, &mut |part| self.part(now, kind, stream.entry, part, out));
            }
        }
        *(if kind == TrackKind::Video { &mut self.video_stream } else { &mut self.audio_stream }) = Some(stream);
    }

    fn sync_lost(&mut self, out: &mut Vec<Demuxed>) {
        self.faults.sync_losses += 1;
        self.pat.lost();
        self.pmt.lost();
        for stream in self.video_stream.iter_mut().chain(&mut self.audio_stream) {
            stream.pes.lost();
        }
        self.lost(TrackKind::Video, out);
        self.lost(TrackKind::Audio, out);
    }

    /// The frame under way is not whole.
    fn lost(&mut self, kind: TrackKind, out: &mut Vec<Demuxed>) {
        if kind == TrackKind::Video {
            let mut pictures = Vec::new();
            self.video.lost(&mut pictures);
            self.settle_pictures(pictures, out);
        } else {
            self.audio.lost();
            self.opus.lost();
        }
    }

    fn finish(&mut self, now: Stamp, out: &mut Vec<Demuxed>) {
        self.finish_video(now, out);
        self.finish_audio(now, out);
    }

    fn finish_video(&mut self, now: Stamp, out: &mut Vec<Demuxed>) {
        let Some(mut stream) = self.video_stream.take() else { return };
        stream.pes.finish(&mut |part| self.part(now, TrackKind::Video, stream.entry, part, out));
        self.end_picture(out);
        self.video_stream = Some(stream);
    }

    fn finish_audio(&mut self, now: Stamp, out: &mut Vec<Demuxed>) {
        let Some(mut stream) = self.audio_stream.take() else { return };
        stream.pes.finish(&mut |part| self.part(now, TrackKind::Audio, stream.entry, part, out));
        self.audio_stream = Some(stream);
    }

    fn part(&mut self, now: Stamp, kind: TrackKind, entry: Entry, part: Part<'_>, out: &mut Vec<Demuxed>) {
        if let Part::Broken = part {
            out.push(Demuxed::Discarded(Discard::BrokenFrame));
            return self.lost(kind, out);
        }
        match (kind, entry.codec) {
            (TrackKind::Video, _) => self.video_part(now, part, out),
            (_, Some(Codec::Opus)) => self.opus_part(now, entry, part, out),
            _ => self.audio_part(now, part, out),
        }
    }

    fn micros(&mut self, ticks: Option<u64>) -> Option<i64> {
        ticks.map(|ticks| self.clock.unwrap(ticks).as_micros())
    }

    fn video_part(&mut self, now: Stamp, part: Part<'_>, out: &mut Vec<Demuxed>) {
        match part {
            Part::Begin { pts, dts, bytes } => {
                // What has a time of its own is a picture of its own.
                if pts.is_some() {
                    self.end_picture(out);
                } else {
                    self.spans_packets = true;
                }
                let (dts, pts) = (self.micros(dts), self.micros(pts));
                self.ends_by_length = bytes.is_some_and(|bytes| bytes < WHOLE_BYTES_MAX) && !self.spans_packets;
                let times = pts.map(|pts| Times { pts, dts: dts.unwrap_or(pts) });
                self.video.begin(times, Moment { rtp: None, arrival: now });
            }
            Part::Payload(bytes) => {
                let mut pictures = Vec::new();
                self.video.payload(now, bytes, &mut pictures);
                self.settle_pictures(pictures, out);
            }
            Part::End { by_length } if by_length && self.ends_by_length => self.end_picture(out),
            Part::End { .. } | Part::Broken => {}
        }
    }

    fn end_picture(&mut self, out: &mut Vec<Demuxed>) {
        let mut pictures = Vec::new();
        self.video.end(&mut pictures);
        self.settle_pictures(pictures, out);
    }

    fn settle_pictures(&mut self, pictures: Vec<Picture>, out: &mut Vec<Demuxed>) {
        for picture in pictures {
            match picture {
                Picture::Setup(setup) => self.setup = setup,
                Picture::Lost => {}
                Picture::Discarded(discard) => out.push(Demuxed::Discarded(discard)),
                Picture::Unit { .. } if self.setup.is_none() => out.push(Demuxed::Discarded(Discard::NoConfig)),
                Picture::Unit { unit, times } => {
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

    fn audio_part(&mut self, now: Stamp, part: Part<'_>, out: &mut Vec<Demuxed>) {
        let mut sounds = Vec::new();
        match part {
            Part::Begin { pts, .. } => {
                let pts = self.micros(pts);
                self.audio.begin(pts);
            }
            Part::Payload(bytes) => self.audio.payload(bytes, &mut sounds),
            Part::End { .. } => {
                let passed_micros = self.began.map_or(0, |began| now.since(began).as_micros() as i64);
                self.audio.end(passed_micros, &mut sounds);
            }
            Part::Broken => {}
        }
        for sound in sounds {
            match sound {
                Sound::Discarded(discard) => out.push(Demuxed::Discarded(discard)),
                Sound::Setup(setup) => self.sound = setup,
                Sound::Frame { data, time } => self.sound(now, data, time, out),
            }
        }
    }

    fn opus_part(&mut self, now: Stamp, entry: Entry, part: Part<'_>, out: &mut Vec<Demuxed>) {
        let mut sounds = Vec::new();
        match part {
            Part::Begin { pts, .. } => {
                let pts = self.micros(pts);
                self.opus.begin(pts);
            }
            Part::Payload(bytes) => self.opus.payload(bytes),
            Part::End { .. } => self.opus.end(&mut sounds),
            Part::Broken => {}
        }
        for sound in sounds {
            match sound {
                opus::Sound::Discarded(discard) => out.push(Demuxed::Discarded(discard)),
                opus::Sound::Frame { data, time } => {
                    let shape = TrackShape::Audio { sample_rate: crate::media::opus::SAMPLE_RATE, channels: entry.channels };
                    let config = self.opus.config(entry.channels);
                    self.sound.get_or_insert(Setup { codec: Codec::Opus, config, shape });
                    self.sound(now, data, time, out);
                }
            }
        }
    }

    fn sound(&mut self, now: Stamp, data: Bytes, time: i64, out: &mut Vec<Demuxed>) {
        self.announce(out);
        out.push(Demuxed::Event(MediaEvent::Frame(Frame {
            data,
            arrival: now,
            dts: MediaTime::from_micros(time),
            cts: 0,
            segment: 0,
            track: AUDIO,
            key: true,
        })));
    }

    /// Says what there is, if that is new.
    fn announce(&mut self, out: &mut Vec<Demuxed>) {
        let sound = self.sound.clone().or_else(|| self.promised_sound());
        self.announced.tell(self.setup.clone(), sound, out);
    }

    /// The sound that the table names, while none has come: who gives the stream out waits for it.
    fn promised_sound(&self) -> Option<Setup> {
        let codec = self.audio_stream.as_ref()?.entry.codec?;
        // What it is like is known with its first frame.
        Some(Setup { codec, config: Bytes::new(), shape: TrackShape::Audio { sample_rate: 0, channels: 0 } })
    }
}
