//! Frames → `TsMuxer` → `TsDemuxer`: the same bytes, keys and times; and whatever frames hold, packets are whole, in order, and told the clock
//! in time.
//!
//! Input: two bytes for the picture's codec and the sound's, one for the options; then frames, see `Source::next`.
#![no_main]

use bytes::{BufMut, Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use shardcast::format::rtp::demux::Demuxed;
use shardcast::format::ts::PACKET_BYTES;
use shardcast::format::ts::demux::{Faults, TsDemuxer};
use shardcast::format::ts::mux::TsMuxer;
use shardcast::format::{Envelope, Muxer};
use shardcast::media::{Codec, Frame, MediaEvent, MediaTime, Stamp, Track, TrackKind, Tracks};
use shardcast_fuzz::{Choices, track};

/// A tick of 90 kHz in each direction.
const ROUNDING_MICROS: i64 = 24;
const FRAMES_MAX: usize = 64;
const CLOCK_TICKS_MAX: u64 = 9_000;

/// Bytes that tell where they are from, of a length that the input chooses, in which no start code stands.
fn filling(choices: &mut Choices<'_>, bytes_max: usize) -> Vec<u8> {
    let (length, first) = (usize::from(choices.word()) * 4, choices.byte());
    (0..length.min(bytes_max)).map(|at| first.wrapping_add(at as u8).max(4)).collect()
}

/// One slice, as an encoder could have made it.
fn access_unit(codec: Codec, key: bool, choices: &mut Choices<'_>) -> Bytes {
    let header: &[u8] = match (codec, key) {
        (Codec::H264, true) => &[0x65, 0x88],
        (Codec::H264, false) => &[0x41, 0x9A],
        (_, true) => &[0x26, 0x01, 0xAF],
        (_, false) => &[0x02, 0x01, 0xD0],
    };
    let (mut unit, body) = (BytesMut::new(), filling(choices, 150_000));
    unit.put_u32((header.len() + body.len() + 1) as u32);
    unit.put_slice(header);
    unit.put_slice(&body);
    unit.put_u8(0x80);
    unit.freeze()
}

struct Source {
    tracks: Vec<Track>,
    /// Frames hold what the input has, whatever that is.
    anything: bool,
    millis: [i64; 2],
}

impl Source {
    fn new(choices: &mut Choices<'_>) -> Self {
        let (picture, sound) = ([Codec::H264, Codec::H265], [Codec::Aac, Codec::Opus, Codec::G711A, Codec::G711U]);
        let (video, audio) = (usize::from(choices.byte()), usize::from(choices.byte()));
        let codecs = [picture.get(video % 3), sound.get(audio % 5)];
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
}

fn send(source: &Source, frames: &[Frame]) -> Vec<u8> {
    let (mut muxer, mut out) = (TsMuxer::new(Envelope::None), Vec::new());
    muxer.push(&MediaEvent::Tracks(Tracks::new(source.tracks.clone(), Bytes::new())), &mut out);
    for frame in frames {
        muxer.push(&MediaEvent::Frame(frame.clone()), &mut out);
    }
    out.iter().flat_map(|packet| packet.parts.concat()).collect()
}

/// Whole packets, in order of their counters; the clock often enough, and never backwards.
fn check(bytes: &[u8]) {
    let (mut counters, mut clock) = (std::collections::BTreeMap::new(), None);
    for packet in bytes.chunks(PACKET_BYTES) {
        assert!(packet.len() == PACKET_BYTES && packet[0] == 0x47);
        let (pid, counter) = (u16::from_be_bytes([packet[1], packet[2]]), packet[3] & 0x0F);
        let has_payload = u8::from(packet[3] & 0x10 != 0);
        if let Some(last) = counters.insert(pid & 0x1FFF, counter) {
            assert_eq!(counter, (last + has_payload) & 0x0F, "{pid:x}");
        }
        if packet[3] & 0x20 != 0 && packet[4] >= 7 && packet[5] & 0x10 != 0 {
            let [a, b, c, d, e] = [6, 7, 8, 9, 10].map(|at| u64::from(packet[at]));
            let ticks = a << 25 | b << 17 | c << 9 | d << 1 | e >> 7;
            if let Some(last) = clock.replace(ticks) {
                assert!((last..=last + CLOCK_TICKS_MAX).contains(&ticks), "{ticks} behind {last}");
            }
        }
    }
}

fn receive(bytes: &[u8]) -> (Tracks, Vec<Frame>) {
    let (mut demuxer, mut out) = (TsDemuxer::new(), Vec::new());
    demuxer.push(Stamp::ZERO, bytes, &mut out);
    demuxer.finish(Stamp::ZERO, &mut out);
    assert_eq!(demuxer.faults(), Faults::default());
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

fn compare(source: &Source, given: &[Frame], tracks: &Tracks, received: &[Frame]) {
    let mut shift = None;
    for track in &source.tracks {
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

fuzz_target!(|input: &[u8]| {
    let mut choices = Choices::new(input);
    let mut source = Source::new(&mut choices);
    let mut frames = Vec::new();
    while !choices.is_over() && frames.len() < FRAMES_MAX {
        frames.extend(source.next(&mut choices));
    }
    let bytes = send(&source, &frames);
    check(&bytes);
    let (tracks, received) = receive(&bytes);
    if !source.anything {
        compare(&source, &frames, &tracks, &received);
    }
});
