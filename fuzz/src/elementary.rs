//! Frames for muxers of elementary streams, made from the input, and what must come back: for program and transport streams alike.

use bytes::{BufMut, Bytes, BytesMut};
use shardcast::format::rtp::demux::Demuxed;
use shardcast::media::{Codec, Frame, MediaEvent, MediaTime, Stamp, Track, TrackKind, Tracks};

use super::{Choices, check_config, check_unit, track};

/// A tick of 90 kHz in each direction.
const ROUNDING_MICROS: i64 = 24;
const FRAMES_MAX: usize = 64;

/// A publisher of at most one picture and one sound.
pub struct Source {
    pub tracks: Vec<Track>,
    /// Frames hold what the input has, whatever that is.
    pub anything: bool,
    millis: [i64; 2],
}

impl Source {
    /// Two bytes for the picture's codec and the sound's, of those that can be carried, and one for the options.
    pub fn new(sound: &[Codec], choices: &mut Choices<'_>) -> Self {
        let picture = [Codec::H264, Codec::H265];
        let (video, audio) = (usize::from(choices.byte()), usize::from(choices.byte()));
        let codecs = [picture.get(video % 3), sound.get(audio % (sound.len() + 1))];
        let tracks = codecs.into_iter().flatten().zip(0..).map(|(codec, id)| track(id, *codec)).collect();
        Source { tracks, anything: choices.byte() & 1 != 0, millis: [0; 2] }
    }

    /// A byte for the track and the time since its last frame, one for the picture's delay, then what the frame holds.
    fn next(&mut self, choices: &mut Choices<'_>) -> Option<Frame> {
        let what = choices.byte();
        let track = self.tracks.get(usize::from(what & 1))?;
        let is_video = track.codec.kind() == TrackKind::Video;
        let millis = &mut self.millis[usize::from(what & 1)];
        *millis += i64::from(what >> 1) + 1;
        let cts = if is_video { i32::from(choices.byte()) * 1_000 } else { 0 };
        let key = !is_video || choices.byte() & 1 != 0;
        let data = match (self.anything, track.codec) {
            (true, _) => Bytes::copy_from_slice(choices.sized()),
            (false, Codec::H264 | Codec::H265) => access_unit(track.codec, key, choices),
            // Neither the sync word of ADTS nor that of MP3.
            (false, _) => [&[0x21], &filling(choices, 8_000)[..]].concat().into(),
        };
        let (dts, arrival) = (MediaTime::from_millis(*millis), Stamp::from_millis(1_000_000 + *millis as u64));
        Some(Frame { data, arrival, dts, cts, segment: 0, track: track.id, key })
    }

    /// As many as the input has.
    pub fn frames(&mut self, mut choices: Choices<'_>) -> Vec<Frame> {
        let mut frames = Vec::new();
        while !choices.is_over() && frames.len() < FRAMES_MAX {
            frames.extend(self.next(&mut choices));
        }
        frames
    }

    /// Fails unless what was `received` is what was `given`.
    pub fn compare(&self, given: &[Frame], (tracks, received): &(Tracks, Vec<Frame>)) {
        let mut shift = None;
        for track in &self.tracks {
            let mut given: Vec<&Frame> = given.iter().filter(|frame| frame.track == track.id).collect();
            let id = tracks.first(track.codec.kind()).map(|track| track.id);
            let received: Vec<&Frame> = received.iter().filter(|frame| Some(frame.track) == id).collect();
            // Nothing is decoded before the first key.
            let first = given.iter().position(|frame| frame.key).unwrap_or(given.len());
            if track.codec.kind() == TrackKind::Video && received.len() < given.len() {
                given.drain(..first);
            }
            assert_eq!(received.len(), given.len(), "{:?}", track.codec);
            for (given, received) in given.iter().zip(&received) {
                assert!(received.data == given.data && received.key == given.key, "{:?}", track.codec);
                let now = received.dts.micros_since(given.dts);
                let first = *shift.get_or_insert(now);
                assert!((now - first).abs() <= ROUNDING_MICROS, "{:?}: {now} and {first}", track.codec);
                assert!(i64::from(received.cts - given.cts).abs() <= ROUNDING_MICROS, "{:?}", track.codec);
            }
        }
    }
}

/// Bytes that tell where they are from, of a length that the input chooses, in which no start code stands.
fn filling(choices: &mut Choices<'_>, bytes_max: usize) -> Vec<u8> {
    let (length, first) = (usize::from(choices.word()) * 4, choices.byte());
    (0..length.min(bytes_max)).map(|at| first.wrapping_add(at as u8).max(4)).collect()
}

/// One slice or several, as an encoder could have made them.
fn access_unit(codec: Codec, key: bool, choices: &mut Choices<'_>) -> Bytes {
    let header: &[u8] = match (codec, key) {
        (Codec::H264, true) => &[0x65, 0x88],
        (Codec::H264, false) => &[0x41, 0x9A],
        (_, true) => &[0x26, 0x01, 0xAF],
        (_, false) => &[0x02, 0x01, 0xD0],
    };
    let (mut unit, slices) = (BytesMut::new(), choices.byte() >> 6);
    for slice in 0..=slices {
        let body = filling(choices, 70_000);
        unit.put_u32((header.len() + body.len() + 1) as u32);
        unit.put_slice(header);
        // A slice that is not the first of its picture says so.
        if slice > 0 {
            let last = unit.len() - 1;
            unit[last] = if codec == Codec::H264 { 0x1A } else { 0x50 };
        }
        unit.put_slice(&body);
        unit.put_u8(0x80);
    }
    unit.freeze()
}

/// The tracks as they were announced last, and all frames.
pub fn collect(out: Vec<Demuxed>) -> (Tracks, Vec<Frame>) {
    let (mut tracks, mut frames) = (Tracks::default(), Vec::new());
    for demuxed in out {
        match demuxed {
            Demuxed::Event(MediaEvent::Tracks(new)) => tracks = new,
            Demuxed::Event(MediaEvent::Frame(frame)) => frames.push(frame),
            Demuxed::Event(MediaEvent::End) => panic!("a demuxer does not end a stream"),
            Demuxed::Discarded(_) => {}
        }
    }
    (tracks, frames)
}

/// Fails unless frames are canonical, of tracks that were announced before, and their sound in one of the codecs of `sound`.
pub fn check(out: &[Demuxed], sound: &[Codec]) {
    let mut announced = Tracks::default();
    for demuxed in out {
        match demuxed {
            Demuxed::Event(MediaEvent::Tracks(tracks)) => {
                // Sound that the table promises has no config yet.
                let is_known = |track: &&Track| track.codec.kind() == TrackKind::Video || !track.config.is_empty();
                tracks.iter().filter(is_known).for_each(|track| check_config(track.codec, &track.config));
                announced = tracks.clone();
            }
            Demuxed::Event(MediaEvent::Frame(frame)) => {
                let track = announced.get(frame.track).expect("a track that was announced");
                check_config(track.codec, &track.config);
                assert!(!frame.data.is_empty());
                if track.codec.kind() == TrackKind::Video {
                    check_unit(track.codec, &frame.data);
                } else {
                    assert!(frame.key && sound.contains(&track.codec));
                }
            }
            Demuxed::Event(MediaEvent::End) => panic!("a demuxer does not end a stream"),
            Demuxed::Discarded(_) => {}
        }
    }
}
