//! Whole streams through the muxer and back through the demuxer of program streams; G.711 by itself.

use super::*;
use crate::format::flv::{Demuxed as FlvDemuxed, FlvDemuxer, TagReader};
use crate::format::ps::PsDemuxer;
use crate::format::rtp::RtpHeader;
use crate::format::rtp::demux::{Demuxed, OnLoss};
use crate::format::rtp::framing::Framing;
use crate::format::rtp::mux::tests::{datagrams, frame, h264_config, track, unit};
use crate::media::{Stamp, Track};

const SSRC: u32 = 200_000_001;
const H264_FILE: &[u8] = include_bytes!("../../../../../tests/corpus/flv/h264_bframes_aac.flv");
const H265_FILE: &[u8] = include_bytes!("../../../../../tests/corpus/flv/hevc_opus.flv");

fn source(content: SourceContent, framed: bool) -> RtpSource {
    RtpSource { content, ssrc: SSRC, payload_type: 96, framed }
}

fn file(bytes: &[u8]) -> (Tracks, Vec<Frame>) {
    let (mut reader, mut demuxer, mut out) = (TagReader::new(1 << 20), FlvDemuxer::new(), Vec::new());
    reader.push(bytes);
    while let Some((kind, timestamp, body)) = reader.next_tag().unwrap() {
        demuxer.push(kind, timestamp, body, Stamp::ZERO, &mut out).unwrap();
    }
    let frames = out.into_iter().filter_map(|demuxed| match demuxed {
        FlvDemuxed::Event(MediaEvent::Frame(frame)) => Some(frame),
        _ => None,
    });
    let frames = frames.collect();
    (demuxer.tracks().clone(), frames)
}

/// The picture of one file, and a sound: of the other file, or silence in G.711.
fn stream(picture: &[u8], sound: Codec) -> (Tracks, Vec<Frame>) {
    let kind = |tracks: &Tracks, frame: &Frame| tracks.get(frame.track).unwrap().codec.kind();
    let (tracks, mut frames) = file(picture);
    frames.retain(|frame| kind(&tracks, frame) == TrackKind::Video);
    let video = Track { id: TrackId(0), ..tracks.first(TrackKind::Video).unwrap().clone() };
    frames.iter_mut().for_each(|frame| frame.track = TrackId(0));
    let (audio, sounds) = match sound {
        Codec::Aac => {
            let (tracks, mut sounds) = file(H264_FILE);
            sounds.retain(|frame| kind(&tracks, frame) == TrackKind::Audio);
            (Track { id: TrackId(1), ..tracks.first(TrackKind::Audio).unwrap().clone() }, sounds)
        }
        codec => {
            let silence = |ms: i64| super::super::tests::frame(1, ms, true, Bytes::from(vec![ms as u8; 320]));
            (track(1, codec, Bytes::new()), (0..50).map(|at| silence(at * 40)).collect())
        }
    };
    frames.extend(sounds.into_iter().map(|frame| Frame { track: TrackId(1), ..frame }));
    frames.sort_by_key(|frame| frame.dts);
    (Tracks::new(vec![video, audio], Bytes::new()), frames)
}

/// The RTP packets that a muxer makes.
fn send(framed: bool, content: SourceContent, tracks: &Tracks, frames: &[Frame]) -> Vec<Vec<u8>> {
    let mut muxer = SingleMuxer::new(source(content, framed), MuxerContext { epoch_nanos: 0, seed: 3 });
    let mut out = Vec::new();
    muxer.push(&MediaEvent::Tracks(tracks.clone()), &mut out);
    for frame in frames {
        muxer.push(&MediaEvent::Frame(frame.clone()), &mut out);
    }
    if !framed {
        return out.iter().flat_map(datagrams).collect();
    }
    let (mut framing, mut packets) = (Framing::new(Some(SSRC)), Vec::new());
    for packet in &out {
        assert!(packet.train.is_none());
        framing.push(&packet.parts.concat(), |follows, packet| {
            assert!(follows);
            packets.push(packet.to_vec());
        });
    }
    packets
}

fn receive(packets: &[Vec<u8>]) -> (Tracks, Vec<Frame>) {
    let (mut demuxer, mut out) = (PsDemuxer::new(OnLoss::Pass), Vec::new());
    let mut last: Option<RtpHeader> = None;
    for packet in packets {
        let header = RtpHeader::parse(packet).unwrap();
        assert_eq!((header.ssrc, header.payload_type), (SSRC, 96));
        if let Some(last) = &last {
            assert_eq!(header.sequence, last.sequence.wrapping_add(1));
            assert!(last.marker || last.timestamp == header.timestamp, "a unit has one timestamp");
        }
        demuxer.push(Stamp::ZERO, &packet[header.payload.clone()], &mut out);
        if header.marker {
            demuxer.frame_end(Stamp::ZERO, &mut out);
        }
        last = Some(header);
    }
    assert!(last.unwrap().marker);
    let (mut tracks, mut frames) = (Tracks::default(), Vec::new());
    for demuxed in out {
        match demuxed {
            Demuxed::Event(MediaEvent::Tracks(new)) => tracks = new,
            Demuxed::Event(MediaEvent::Frame(frame)) => frames.push(frame),
            other => panic!("{other:?}"),
        }
    }
    (tracks, frames)
}

#[test]
fn streams_come_back_bit_for_bit() {
    const ROUNDING_MICROS: i64 = 12;
    for (picture, codec) in [(H264_FILE, Codec::H264), (H265_FILE, Codec::H265)] {
        for sound in [Codec::Aac, Codec::G711A, Codec::G711U] {
            for framed in [false, true] {
                let name = format!("{}+{}, framed: {framed}", codec.name(), sound.name());
                let (tracks, sent) = stream(picture, sound);
                let (seen, received) = receive(&send(framed, SourceContent::Ps, &tracks, &sent));
                let codecs: Vec<Codec> = seen.iter().map(|track| track.codec).collect();
                assert_eq!(codecs, [codec, sound], "{name}");
                for kind in [TrackKind::Video, TrackKind::Audio] {
                    let of = |tracks: &Tracks, frames: &[Frame]| {
                        let id = tracks.first(kind).unwrap().id;
                        frames.iter().filter(|frame| frame.track == id).cloned().collect::<Vec<Frame>>()
                    };
                    let (sent, received) = (of(&tracks, &sent), of(&seen, &received));
                    assert_eq!(received.len(), sent.len(), "{name}");
                    let shift = received[0].dts.micros_since(sent[0].dts);
                    for (received, sent) in received.iter().zip(&sent) {
                        assert!(received.data == sent.data && received.key == sent.key, "{name}: {:?}", sent.dts);
                        assert!((received.dts.micros_since(sent.dts) - shift).abs() <= ROUNDING_MICROS, "{name}: {:?}", sent.dts);
                        assert!((received.cts - sent.cts).abs() <= ROUNDING_MICROS as i32, "{name}: {:?}", sent.dts);
                    }
                    if kind == TrackKind::Video {
                        let sets = |tracks: &Tracks| tracks.first(kind).unwrap().parameter_sets();
                        assert_eq!(sets(&seen), sets(&tracks), "{name}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_viewer_begins_at_a_key_picture_or_at_any_sound_where_there_is_no_picture() {
    let kinds = |content, tracks: Vec<Track>| {
        let mut muxer = SingleMuxer::new(source(content, false), MuxerContext::default());
        let mut out = Vec::new();
        muxer.push(&MediaEvent::Tracks(Tracks::new(tracks, Bytes::new())), &mut out);
        let large = [&[0x65][..], &[0x88; 100_000]].concat();
        for (id, key, data) in
            [(0, true, unit(&[&large])), (1, true, Bytes::from_static(&[0xD5; 160])), (0, false, unit(&[&[0x41, 0x9A]]))]
        {
            muxer.push(&MediaEvent::Frame(frame(id, 0, key, data)), &mut out);
        }
        out.iter().map(|packet| packet.kind).collect::<Vec<PacketKind>>()
    };
    let (h264, av1) = (track(0, Codec::H264, h264_config()), track(0, Codec::Av1, Bytes::new()));
    let g711 = || track(1, Codec::G711A, Bytes::new());
    let both = [PacketKind::Key, PacketKind::Delta, PacketKind::Audio, PacketKind::Delta];
    assert_eq!(kinds(SourceContent::Ps, vec![h264.clone(), g711()]), both);
    assert_eq!(kinds(SourceContent::Ps, vec![av1, g711()]), [PacketKind::Key]);
    assert_eq!(kinds(SourceContent::G711A, vec![h264.clone(), g711()]), [PacketKind::Key]);
    assert_eq!(kinds(SourceContent::G711A, vec![h264, track(1, Codec::G711U, Bytes::new())]), []);
}

#[test]
fn sound_by_itself_has_its_own_clock() {
    let tracks = Tracks::new(vec![track(1, Codec::G711A, Bytes::new())], Bytes::new());
    let frames: Vec<Frame> = (0..4).map(|at| frame(1, at * 20, true, Bytes::from(vec![at as u8; 160]))).collect();
    let packets = send(false, SourceContent::G711A, &tracks, &frames);
    let headers: Vec<RtpHeader> = packets.iter().map(|packet| RtpHeader::parse(packet).unwrap()).collect();
    for (at, (packet, header)) in packets.iter().zip(&headers).enumerate() {
        assert_eq!(packet[header.payload.clone()], [at as u8; 160]);
        assert_eq!(header.timestamp, headers[0].timestamp.wrapping_add(160 * at as u32));
    }
}

#[test]
fn units_are_trains_of_full_datagrams() {
    let mut muxer = SingleMuxer::new(source(SourceContent::Ps, false), MuxerContext::default());
    let mut out = Vec::new();
    muxer.push(&MediaEvent::Tracks(Tracks::new(vec![track(0, Codec::H264, h264_config())], Bytes::new())), &mut out);
    muxer.push(&MediaEvent::Frame(frame(0, 0, true, unit(&[&[0x65; 200_000]]))), &mut out);
    let counts: Vec<usize> = out.iter().map(|packet| datagrams(packet).len()).collect();
    assert_eq!(counts, [46, 46, 46, 7]);
    let datagrams: Vec<Vec<u8>> = out.iter().flat_map(datagrams).collect();
    let (last, full) = datagrams.split_last().unwrap();
    assert!(full.iter().all(|datagram| datagram.len() == DATAGRAM_BYTES_MAX) && last.len() < DATAGRAM_BYTES_MAX);
}
