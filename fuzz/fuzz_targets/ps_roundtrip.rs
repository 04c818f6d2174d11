//! Frames → `SingleMuxer`, as datagrams and behind lengths → `PsDemuxer`: the same bytes, keys and times; and packets of frames that hold
//! anything are well-formed.
//!
//! Input: three bytes for the picture's codec, the sound's, and the options; then frames, see `Source::next`.
#![no_main]

use bytes::{BufMut, Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use shardcast::format::ps::PsDemuxer;
use shardcast::format::rtp::demux::{Demuxed, OnLoss};
use shardcast::format::rtp::framing::Framing;
use shardcast::format::rtp::mux::SingleMuxer;
use shardcast::format::rtp::{RtpHeader, RtpSource, SourceContent};
use shardcast::format::{Muxer, MuxerContext};
use shardcast::media::{Codec, Frame, MediaEvent, MediaTime, Stamp, Track, TrackKind, Tracks};
use shardcast_fuzz::{Choices, track};

const SSRC: u32 = 200_000_001;
const DATAGRAM_BYTES_MAX: usize = 1_400;
/// A tick of 90 kHz in each direction.
const ROUNDING_MICROS: i64 = 24;
const FRAMES_MAX: usize = 64;

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

struct Source {
    tracks: Vec<Track>,
    /// Frames hold what the input has, whatever that is.
    anything: bool,
    millis: [i64; 2],
}

impl Source {
    fn new(choices: &mut Choices<'_>) -> Self {
        let (picture, sound) = ([Codec::H264, Codec::H265], [Codec::Aac, Codec::G711A, Codec::G711U]);
        let (video, audio) = (usize::from(choices.byte()), usize::from(choices.byte()));
        let codecs = [picture.get(video % 3), sound.get(audio % 4)];
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

/// The RTP packets of all frames.
fn send(framed: bool, source: &Source, frames: &[Frame]) -> Vec<Vec<u8>> {
    let form = RtpSource { content: SourceContent::Ps, ssrc: SSRC, payload_type: 96, framed };
    let mut muxer = SingleMuxer::new(form, MuxerContext { epoch_nanos: 0, seed: 1 });
    let (mut out, mut packets) = (Vec::new(), Vec::new());
    let mut framing = Framing::new(Some(SSRC));
    muxer.push(&MediaEvent::Tracks(Tracks::new(source.tracks.clone(), Bytes::new())), &mut out);
    for frame in frames {
        muxer.push(&MediaEvent::Frame(frame.clone()), &mut out);
        for packet in out.drain(..) {
            match packet.train {
                None => framing.push(&packet.parts.concat(), |follows, packet| {
                    assert!(framed && follows);
                    packets.push(packet.to_vec());
                }),
                Some(train) => {
                    let size = usize::from(train.datagram_bytes.get());
                    assert!(!framed && size <= DATAGRAM_BYTES_MAX && packet.parts.len() == 1 && packet.len.div_ceil(size) <= 64);
                    packets.extend(packet.parts[0].chunks(size).map(<[u8]>::to_vec));
                }
            }
        }
    }
    assert!(framing.take_passed_over() == 0 && framing.held_bytes() == 0);
    packets
}

fn receive(packets: &[Vec<u8>]) -> (Tracks, Vec<Frame>) {
    let (mut demuxer, mut out, mut next) = (PsDemuxer::new(OnLoss::Pass), Vec::new(), None);
    for packet in packets {
        let header = RtpHeader::parse(packet).expect("our own packet");
        assert!(header.ssrc == SSRC && header.payload_type == 96 && !header.payload.is_empty());
        assert!(next.is_none_or(|next: u16| next == header.sequence));
        next = Some(header.sequence.wrapping_add(1));
        demuxer.push(Stamp::ZERO, &packet[header.payload.clone()], &mut out);
        if header.marker {
            demuxer.frame_end(Stamp::ZERO, &mut out);
        }
    }
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
    for framed in [false, true] {
        let (tracks, received) = receive(&send(framed, &source, &frames));
        if !source.anything {
            compare(&source, &frames, &tracks, &received);
        }
    }
});
