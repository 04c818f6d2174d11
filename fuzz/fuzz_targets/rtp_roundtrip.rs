//! Frames → `RtpMuxer` in both carriages → `RtpDemuxer`: the same bytes, keys and times, though neighbouring datagrams change places; and
//! packets of frames that hold anything are well-formed.
//!
//! Input: three bytes for the picture's codec, the sound's, and the options; then frames, see `Source::next`.
#![no_main]

use bytes::{BufMut, Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use shardcast::format::rtp::demux::{DemuxOptions, Demuxed, OnLoss, RtpDemuxer};
use shardcast::format::rtp::mux::RtpMuxer;
use shardcast::format::rtp::payload::outgoing;
use shardcast::format::rtp::{Channels, Flow, RtpCarriage, RtpHeader, rtcp};
use shardcast::format::{Muxer, MuxerContext, Packet};
use shardcast::media::{Codec, Frame, MediaEvent, MediaTime, Stamp, Track, TrackKind, Tracks};
use shardcast_fuzz::{Choices, track};

const INTERLEAVED: RtpCarriage =
    RtpCarriage::Interleaved { video: Some(Channels { rtp: 0, rtcp: 1 }), audio: Some(Channels { rtp: 2, rtcp: 3 }) };
const DATAGRAM_BYTES_MAX: usize = 1_400;
/// Two ticks of the slowest clock, 8 kHz: one in each direction.
const ROUNDING_MICROS: i64 = 250;
const FRAMES_MAX: usize = 64;

/// Bytes that tell where they are from, of a length that the input chooses.
fn filling(choices: &mut Choices<'_>) -> Vec<u8> {
    let (length, first) = (choices.word(), choices.byte());
    // Large ones are rare, small ones take their bytes from the input.
    match length {
        0..64 => choices.bytes(length.into()).to_vec(),
        _ => (0..length & 0x3FFF).map(|at| first.wrapping_add(at as u8)).collect(),
    }
}

/// A frame that an encoder could have made, in its canonical form, and whether decoding may begin there.
fn payload(codec: Codec, choices: &mut Choices<'_>) -> (Bytes, bool) {
    let key = choices.byte() & 1 != 0;
    let body = filling(choices);
    match codec {
        Codec::H264 | Codec::H265 => (access_unit(codec, key, &body, choices), key),
        Codec::Av1 => temporal_unit(key, &body, choices),
        // The lowest bit of the first byte says that it is no key.
        Codec::Vp8 => ([&[u8::from(!key)], &body[..]].concat().into(), key),
        Codec::Vp9 => ([&[0x82], &body[..]].concat().into(), key),
        // Not the sync word of ADTS.
        Codec::Aac => ([&[0x21], &body[..body.len().min(8_000)]].concat().into(), true),
        Codec::Mp3 => (mp3_frame(&body), true),
        _ => ([&[0x55], &body[..body.len().min(1_200)]].concat().into(), true),
    }
}

/// Something in front, one slice or several, and something behind.
fn access_unit(codec: Codec, key: bool, body: &[u8], choices: &mut Choices<'_>) -> Bytes {
    let (header, front, behind): (&[u8], &[u8], &[u8]) = match (codec, key) {
        (Codec::H264, true) => (&[0x65], &[0x06, 0x05, 1, 7, 0x80], &[0x0C, 0xFF, 0x80]),
        (Codec::H264, false) => (&[0x41], &[0x06, 0x05, 1, 7, 0x80], &[0x0C, 0xFF, 0x80]),
        (_, true) => (&[0x26, 0x01], &[0x4E, 0x01, 5, 1, 7, 0x80], &[0x50, 0x01, 5, 1, 7, 0x80]),
        (_, false) => (&[0x02, 0x01], &[0x4E, 0x01, 5, 1, 7, 0x80], &[0x50, 0x01, 5, 1, 7, 0x80]),
    };
    let shape = choices.byte();
    let mut unit = BytesMut::new();
    let mut put = |parts: [&[u8]; 3]| {
        unit.put_u32(parts.iter().map(|part| part.len() as u32).sum());
        parts.iter().for_each(|part| unit.put_slice(part));
    };
    if shape & 1 != 0 {
        put([front, &[], &[]]);
    }
    put([header, &[0x80], body]);
    for _ in 0..shape >> 4 {
        let slice = filling(choices);
        put([header, &[0x00], &slice]);
    }
    if shape & 2 != 0 {
        put([behind, &[], &[]]);
    }
    unit.freeze()
}

/// A sequence header if it is a key, and frames.
fn temporal_unit(key: bool, body: &[u8], choices: &mut Choices<'_>) -> (Bytes, bool) {
    let shape = choices.byte();
    let mut unit = BytesMut::new();
    let mut put = |header: &[u8], body: &[u8]| {
        unit.put_slice(header);
        let mut size = body.len();
        while size >= 0x80 {
            unit.put_u8(size as u8 | 0x80);
            size >>= 7;
        }
        unit.put_u8(size as u8);
        unit.put_slice(body);
    };
    if key {
        put(&[0x0A], &[0, 0, 0, 2]);
    }
    put(if shape & 1 != 0 { &[0x36, 0x20] } else { &[0x32] }, body);
    for _ in 0..shape >> 4 {
        let more = filling(choices);
        put(&[0x32], &more);
    }
    (unit.freeze(), key)
}

/// MPEG-1 layer III, 44.1 kHz, at one of its bit rates.
fn mp3_frame(body: &[u8]) -> Bytes {
    const LENGTHS: [usize; 14] = [104, 130, 156, 182, 208, 261, 313, 365, 417, 522, 626, 731, 835, 1_044];
    let rate = body.first().map_or(0, |byte| usize::from(*byte) % LENGTHS.len());
    let mut frame = vec![0xFF, 0xFB, (rate as u8 + 1) << 4, 0x64];
    frame.extend_from_slice(body);
    frame.resize(LENGTHS[rate], 0);
    frame.into()
}

struct Source {
    tracks: Vec<Track>,
    /// Frames hold what the input has, whatever that is.
    anything: bool,
    swaps: bool,
    millis: [i64; 2],
}

impl Source {
    fn new(choices: &mut Choices<'_>) -> Self {
        let picture = [Codec::H264, Codec::H265, Codec::Av1, Codec::Vp8, Codec::Vp9];
        let sound = [Codec::Aac, Codec::Opus, Codec::Mp3, Codec::G711A, Codec::G711U];
        let (video, audio) = (usize::from(choices.byte()), usize::from(choices.byte()));
        let codecs = [picture.get(video % 6), sound.get(audio % 6)];
        let tracks = codecs.into_iter().flatten().zip(0..).map(|(codec, id)| track(id, *codec)).collect();
        let options = choices.byte();
        Source { tracks, anything: options & 1 != 0, swaps: options & 2 != 0, millis: [0; 2] }
    }

    /// A byte for the track and the time since its last frame, one for the picture's delay, then what the frame holds.
    fn next(&mut self, choices: &mut Choices<'_>) -> Option<Frame> {
        let what = choices.byte();
        let track = self.tracks.get(usize::from(what & 1))?;
        let is_video = track.codec.kind() == TrackKind::Video;
        let millis = &mut self.millis[usize::from(what & 1)];
        *millis += i64::from(what >> 1) + 1;
        let cts = if is_video { i32::from(choices.byte()) * 1_000 } else { 0 };
        let (data, key) = match self.anything {
            true => (Bytes::copy_from_slice(choices.sized()), choices.byte() & 1 != 0),
            false => payload(track.codec, choices),
        };
        let (dts, arrival) = (MediaTime::from_millis(*millis), Stamp::from_millis(1_000_000 + *millis as u64));
        Some(Frame { data, arrival, dts, cts, segment: 0, track: track.id, key })
    }
}

/// What is sent for one frame: track, whether it is RTCP, and the packet.
type Sent = Vec<(usize, bool, Vec<u8>)>;

fn datagrams(packet: &Packet, place: impl Fn(TrackKind) -> Option<usize>, sent: &mut Sent) {
    let train = packet.train.expect("the carriage is datagrams");
    match train.flow {
        Flow::Media(kind) => {
            assert_eq!(packet.parts.len(), 1);
            let size = usize::from(train.datagram_bytes.get());
            assert!(size <= DATAGRAM_BYTES_MAX && packet.len.div_ceil(size) <= 64);
            let track = place(kind).expect("a track of that kind");
            sent.extend(packet.parts[0].chunks(size).map(|datagram| (track, false, datagram.to_vec())));
        }
        Flow::Reports => {
            let kinds = [TrackKind::Video, TrackKind::Audio];
            for (kind, part) in kinds.into_iter().zip(&packet.parts).filter(|(_, part)| !part.is_empty()) {
                sent.push((place(kind).expect("a track of that kind"), true, part.to_vec()));
            }
        }
    }
}

fn interleaved(packet: &Packet, place: impl Fn(TrackKind) -> Option<usize>, sent: &mut Sent) {
    let bytes = packet.parts.concat();
    let mut rest = &bytes[..];
    while let [mark, channel, high, low, behind @ ..] = rest {
        assert!(*mark == b'$' && *channel < 4);
        let (content, behind) = behind.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        let kind = if channel & 2 == 0 { TrackKind::Video } else { TrackKind::Audio };
        sent.push((place(kind).expect("a track of that kind"), channel & 1 != 0, content.to_vec()));
        rest = behind;
    }
    assert!(rest.is_empty(), "whole frames only");
}

fn check_packet(rtcp: bool, packet: &[u8]) {
    if rtcp {
        rtcp::parse(packet, |_| {}).expect("our own report");
    } else {
        assert!(!RtpHeader::parse(packet).expect("our own packet").payload.is_empty());
    }
}

fn send(carriage: RtpCarriage, source: &Source, frames: &[Frame]) -> Vec<(Stamp, Sent)> {
    let mut muxer = RtpMuxer::new(carriage, MuxerContext { epoch_nanos: 1_700_000_000_000_000_000, seed: 1 });
    let mut packets = Vec::new();
    muxer.push(&MediaEvent::Tracks(Tracks::new(source.tracks.clone(), Bytes::new())), &mut packets);
    let place = |kind| source.tracks.iter().position(|track| track.codec.kind() == kind);
    let mut trips = Vec::new();
    for frame in frames {
        muxer.push(&MediaEvent::Frame(frame.clone()), &mut packets);
        let mut sent = Sent::new();
        for packet in packets.drain(..) {
            match carriage {
                RtpCarriage::Datagrams => datagrams(&packet, place, &mut sent),
                RtpCarriage::Interleaved { .. } => interleaved(&packet, place, &mut sent),
            }
        }
        sent.iter().for_each(|(_, rtcp, packet)| check_packet(*rtcp, packet));
        trips.push((frame.arrival, sent));
    }
    trips
}

fn receive(source: &Source, trips: &[(Stamp, Sent)], swap: bool) -> Vec<Frame> {
    let payloads = source.tracks.iter().filter_map(outgoing).collect();
    let options = DemuxOptions { reorder_ms: swap.then_some(50), on_loss: OnLoss::Pass, ssrc: 1 };
    let mut demuxer = RtpDemuxer::new(payloads, options);
    let mut out = Vec::new();
    let mut begun = [false; 2];
    for (now, sent) in trips {
        let mut order: Vec<usize> = (0..sent.len()).collect();
        // Where a track's numbers begin its first packet says.
        if swap && sent.iter().all(|(track, rtcp, _)| *rtcp || begun[*track]) {
            order.chunks_mut(2).for_each(<[usize]>::reverse);
        }
        sent.iter().filter(|(_, rtcp, _)| !rtcp).for_each(|(track, ..)| begun[*track] = true);
        for (track, rtcp, packet) in order.into_iter().map(|at| &sent[at]) {
            match rtcp {
                true => demuxer.rtcp(*now, *track, packet),
                false => demuxer.rtp(*now, *track, packet, &mut out),
            }
        }
    }
    let frame = |result| if let Demuxed::Event(MediaEvent::Frame(frame)) = result { Some(frame) } else { None };
    out.into_iter().filter_map(frame).collect()
}

fn presentation(frame: &Frame) -> i64 {
    frame.dts.as_micros() + i64::from(frame.cts)
}

fn compare(source: &Source, given: &[Frame], received: &[Frame]) {
    let mut shifts = [None; 2];
    for track in &source.tracks {
        let of_track = |frames: &[Frame]| frames.iter().filter(|frame| frame.track == track.id).cloned().collect::<Vec<Frame>>();
        let (given, received) = (of_track(given), of_track(received));
        assert_eq!(received.len(), given.len(), "{:?}", track.codec);
        for (given, received) in given.iter().zip(&received) {
            assert!(received.data == given.data, "{:?}", track.codec);
            assert_eq!(received.key, given.key, "{:?}", track.codec);
            let shift = presentation(received) - presentation(given);
            let first = *shifts[usize::from(track.id.0)].get_or_insert(shift);
            assert!((shift - first).abs() <= ROUNDING_MICROS, "{:?}: {shift} and {first}", track.codec);
        }
    }
    if let [Some(video), Some(audio)] = shifts {
        assert!((video - audio).abs() <= ROUNDING_MICROS, "sound and picture: {video} and {audio}");
    }
}

fuzz_target!(|input: &[u8]| {
    let mut choices = Choices::new(input);
    let mut source = Source::new(&mut choices);
    let mut frames = Vec::new();
    while !choices.is_over() && frames.len() < FRAMES_MAX {
        frames.extend(source.next(&mut choices));
    }
    for (carriage, swap) in [(INTERLEAVED, false), (RtpCarriage::Datagrams, source.swaps)] {
        let trips = send(carriage, &source, &frames);
        let received = receive(&source, &trips, swap);
        if !source.anything {
            compare(&source, &frames, &received);
        }
    }
});
