//! Bytes of each format → frames, in the pieces in which they come from the network: what a publisher costs per frame.

use std::hint::black_box;
use std::ops::Range;

use bytes::Bytes;
use shardcast::format::flv::{Demuxed as FlvDemuxed, FlvDemuxer, TagReader};
use shardcast::format::mp4;
use shardcast::format::ps::PsDemuxer;
use shardcast::format::rtp::demux::{DemuxOptions, Demuxed, OnLoss, RtpDemuxer};
use shardcast::format::rtp::{Flow, RtpHeader, payload};
use shardcast::format::ts::demux::TsDemuxer;
use shardcast::format::{Format, Packet};
use shardcast::media::nal::canonical_access_unit;
use shardcast::media::{Codec, MediaEvent, Stamp, h264};

use super::chunk::MESSAGE_BYTES_MAX;
use super::media::Feed;
use super::mux::{self, packets};
use super::{CALLS_PREPARED, Case, GROUP, Work};

/// How long a gap in the sequence of packets is waited for, as `rtsp.reorder_ms`.
const REORDER_MS: u64 = 50;

pub fn cases() -> Vec<Case> {
    use Codec::{Aac, H264, H265, Opus};
    /// What it is called, what makes its work, and for which codecs.
    type Row = (&'static str, fn(Codec) -> Work, &'static [Codec]);
    let table: [Row; 6] = [
        ("flv", flv, &[H264, H265, Aac, Opus]),
        ("rtp", |codec| rtp(codec, Some(REORDER_MS)), &[H264, H265, Aac, Opus]),
        ("rtp_interleaved", |codec| rtp(codec, None), &[H264, Aac]),
        ("ps", ps, &[H264, H265, Aac]),
        ("ts", ts, &[H264, H265, Aac, Opus]),
        ("fmp4", fmp4, &[H264, Aac]),
    ];
    let of_format = |(name, set_up, codecs): (&str, fn(Codec) -> Work, &[Codec])| {
        let case = |codec: &Codec| {
            let codec = *codec;
            Case::new(format!("demux_{name}/{}", codec.name().to_lowercase()), "frame", move || set_up(codec))
        };
        codecs.iter().map(case).collect::<Vec<Case>>()
    };
    let mut cases: Vec<Case> = table.into_iter().flat_map(of_format).collect();
    cases.push(Case::new("access_unit/avcc", "frame", || access_unit(false)));
    cases.push(Case::new("access_unit/annex_b", "frame", || access_unit(true)));
    cases
}

/// Input for [`CALLS_PREPARED`] calls of a group each, behind what stands in front; then all of it again, for a new reader.
struct Input<P> {
    begin: Vec<P>,
    groups: Vec<Vec<P>>,
    next: usize,
}

impl<P> Input<P> {
    /// From what a viewer of the format gets, cut by `cut`.
    fn new(format: Format, codec: Codec, cut: impl Fn(&Packet) -> Vec<P>) -> Input<P> {
        let mut groups: Vec<Vec<P>> = packets(format, codec).iter().map(|group| group.iter().flat_map(&cut).collect()).collect();
        let begin = groups.remove(0);
        Input { begin, groups, next: 0 }
    }
}

/// A demuxer that takes `Input` by `push`, which says how many frames it has given.
fn work<D: 'static, P: 'static>(
    mut input: Input<P>,
    new: impl Fn() -> D + 'static,
    mut push: impl FnMut(&mut D, &P) -> usize + 'static,
) -> Work {
    let mut demuxer = new();
    let mut call = move || {
        if input.next.is_multiple_of(input.groups.len()) {
            demuxer = new();
            input.begin.iter().for_each(|piece| _ = push(&mut demuxer, piece));
        }
        let group = &input.groups[input.next % input.groups.len()];
        input.next += 1;
        group.iter().map(|piece| push(&mut demuxer, piece)).sum::<usize>()
    };
    // The last frame of a group may need what follows to be known as whole.
    let given: usize = (0..CALLS_PREPARED).map(|_| call()).sum();
    assert!(given >= GROUP * CALLS_PREPARED - 2, "the demuxer gave {given} frames");
    Work::group(move || _ = black_box(call()))
}

fn is_frame(demuxed: &Demuxed) -> bool {
    matches!(demuxed, Demuxed::Event(MediaEvent::Frame(_)))
}

/// How many frames a demuxer has given; `out` is empty again.
fn frames(out: &mut Vec<Demuxed>) -> usize {
    let frames = black_box(&*out).iter().filter(|demuxed| is_frame(demuxed)).count();
    out.clear();
    frames
}

fn whole(packet: &Packet) -> Bytes {
    packet.parts.concat().into()
}

fn flv(codec: Codec) -> Work {
    let format = Format::Flv { hevc: Default::default(), envelope: shardcast::format::Envelope::None };
    let head = Bytes::copy_from_slice(&shardcast::format::flv_mux::file_header(5));
    let mut input = Input::new(format, codec, |packet| vec![whole(packet)]);
    input.begin.insert(0, head);
    let mut out = Vec::new();
    work(
        input,
        || (TagReader::new(MESSAGE_BYTES_MAX), FlvDemuxer::new()),
        move |(reader, demuxer), bytes| {
            reader.push(bytes);
            while let Some((tag, timestamp_ms, body)) = reader.next_tag().expect("the stream is valid") {
                demuxer.push(tag, timestamp_ms, body, Stamp::ZERO, &mut out).expect("the tag is valid");
            }
            let frames = black_box(&out).iter().filter(|item| matches!(item, FlvDemuxed::Event(MediaEvent::Frame(_)))).count();
            out.clear();
            frames
        },
    )
}

/// One datagram and when it came.
struct Datagram {
    arrival: Stamp,
    bytes: Bytes,
}

/// The datagrams of media; reports are left out.
fn datagrams(packet: &Packet) -> Vec<Datagram> {
    let Some(train) = packet.train.filter(|train| matches!(train.flow, Flow::Media(_))) else { return Vec::new() };
    let bytes = whole(packet);
    let cut = |start| bytes.slice(start..bytes.len().min(start + usize::from(train.datagram_bytes.get())));
    let starts = (0..bytes.len()).step_by(train.datagram_bytes.get().into());
    starts.map(|start| Datagram { arrival: packet.arrival, bytes: cut(start) }).collect()
}

fn rtp(codec: Codec, reorder_ms: Option<u64>) -> Work {
    let tracks = Feed::new(codec).tracks;
    let payload = tracks.iter().find_map(payload::outgoing).expect("the codec has a payload format");
    let mut out = Vec::new();
    work(
        Input::new(mux::RTP, codec, datagrams),
        move || RtpDemuxer::new(vec![payload.clone()], DemuxOptions { reorder_ms, on_loss: OnLoss::Pass, ssrc: 1 }),
        move |demuxer, datagram| {
            demuxer.rtp(datagram.arrival, 0, &datagram.bytes, &mut out);
            frames(&mut out)
        },
    )
}

/// The payload of an RTP packet in sequence.
struct Payload {
    datagram: Datagram,
    range: Range<usize>,
    timestamp: u32,
    marker: bool,
}

fn payloads(packet: &Packet) -> Vec<Payload> {
    let read = |datagram: Datagram| {
        let header = RtpHeader::parse(&datagram.bytes).expect("our own packets are valid");
        Payload { datagram, range: header.payload, timestamp: header.timestamp, marker: header.marker }
    };
    datagrams(packet).into_iter().map(read).collect()
}

fn ps(codec: Codec) -> Work {
    let mut out = Vec::new();
    let mut at_end = false;
    work(
        Input::new(mux::PS, codec, payloads),
        || PsDemuxer::new(OnLoss::Pass),
        move |demuxer, payload| {
            let (arrival, bytes) = (payload.datagram.arrival, &payload.datagram.bytes[payload.range.clone()]);
            if std::mem::replace(&mut at_end, payload.marker) {
                demuxer.frame_begins(arrival, bytes, &mut out);
            }
            demuxer.timestamp(payload.timestamp);
            demuxer.push(arrival, bytes, &mut out);
            if payload.marker {
                demuxer.frame_end(arrival, &mut out);
            }
            frames(&mut out)
        },
    )
}

fn ts(codec: Codec) -> Work {
    let mut out = Vec::new();
    work(Input::new(mux::TS, codec, |packet| vec![whole(packet)]), TsDemuxer::new, move |demuxer, bytes| {
        demuxer.push(Stamp::ZERO, bytes, &mut out);
        frames(&mut out)
    })
}

/// The table of a file of one group, a fragment per frame.
fn fmp4(codec: Codec) -> Work {
    let file: Vec<u8> = packets(mux::FMP4, codec)[..2].iter().flatten().flat_map(|packet| packet.parts.concat()).collect();
    let read = move || mp4::demux::read(&mut &file[..]).expect("our own file is valid");
    let samples: usize = read().tracks.iter().map(|track| track.samples.len()).sum();
    assert_eq!(samples, GROUP);
    Work::group(move || _ = black_box(read()))
}

/// Access units as an encoder frames them, made canonical: by lengths as they are, by start codes anew.
fn access_unit(annex_b: bool) -> Work {
    let mut feed = Feed::new(Codec::H264);
    let units: Vec<Bytes> = (0..GROUP)
        .map(|_| match feed.next() {
            MediaEvent::Frame(frame) if annex_b => {
                let nals = shardcast::media::nal::canonical_units(&frame.data);
                nals.flat_map(|nal| [&[0, 0, 0, 1], nal].concat()).collect::<Vec<u8>>().into()
            }
            MediaEvent::Frame(frame) => frame.data.clone(),
            _ => unreachable!("a feed gives frames"),
        })
        .collect();
    Work::group(move || {
        for unit in &units {
            black_box(canonical_access_unit(unit.clone(), 4, h264::is_aud).expect("the unit is whole"));
        }
    })
}
