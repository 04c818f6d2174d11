//! Tests of the FLV muxer: what goes out reads back as what went in, for every codec, and for real files.

use super::*;
use crate::format::amf0::{self, Value};
use crate::format::flv::{Demuxed, FlvDemuxer, TagReader};
use crate::media::TrackId;
use crate::media::aac::AacConfig;
use crate::media::opus::OpusHead;

const AVCC: &[u8] = include_bytes!("../../../tests/corpus/h264/avcc");
const HVCC: &[u8] = include_bytes!("../../../tests/corpus/h265/hvcc");
const CORPUS: [(&str, &[u8]); 7] = [
    ("H.264, AAC", include_bytes!("../../../tests/corpus/flv/h264_bframes_aac.flv")),
    ("H.265, Opus", include_bytes!("../../../tests/corpus/flv/hevc_opus.flv")),
    ("AV1, AAC", include_bytes!("../../../tests/corpus/flv/av1_aac.flv")),
    ("VP9, MP3", include_bytes!("../../../tests/corpus/flv/vp9_mp3.flv")),
    ("G.711 A", include_bytes!("../../../tests/corpus/flv/g711a.flv")),
    ("G.711 µ", include_bytes!("../../../tests/corpus/flv/g711u.flv")),
    ("two tracks of a kind", include_bytes!("../../../tests/corpus/flv/multitrack.flv")),
];

fn track(id: u8, codec: Codec) -> Track {
    let picture = TrackShape::Video { width: 176, height: 144, frames_per_second: 25.0 };
    let head = OpusHead { channels: 2, pre_skip: 312, input_sample_rate: 44_100 };
    let sound = |sample_rate, channels| TrackShape::Audio { sample_rate, channels };
    let (config, shape) = match codec {
        Codec::H264 => (Bytes::from_static(AVCC), picture),
        Codec::H265 => (Bytes::from_static(HVCC), picture),
        Codec::Av1 => (Bytes::from_static(&[0x81, 0, 12, 0]), picture),
        Codec::Vp8 => (Bytes::new(), picture),
        Codec::Vp9 => (Bytes::from_static(&[1, 0, 0, 0, 0, 10]), picture),
        Codec::Aac => (AacConfig::build_lc(48_000, 2), sound(48_000, 2)),
        Codec::Opus => (head.build(), sound(48_000, 2)),
        Codec::Mp3 => (Bytes::new(), sound(44_100, 1)),
        Codec::G711A | Codec::G711U => (Bytes::new(), sound(8_000, 1)),
        Codec::Script => (Bytes::new(), TrackShape::Data),
    };
    Track { id: TrackId(id), codec, config, shape }
}

fn frame(track: u8, codec: Codec, index: i64) -> Frame {
    let data: &'static [u8] = match codec.kind() {
        TrackKind::Video => &[0, 0, 0, 3, 0x65, 0x88, 0x84, 0, 0, 0, 2, 0x65, 0x77],
        TrackKind::Audio => &[0xFF, 0xFB, 0x10, 0xC4, 0x01, 0x02],
        TrackKind::Data => b"\x02\x00\x05onCue\x05",
    };
    // Composition times exist only where the format has a place for them.
    let cts = if matches!(codec, Codec::H264 | Codec::H265) { [80_000, 0, -40_000][index as usize % 3] } else { 0 };
    Frame {
        data: Bytes::from_static(data),
        arrival: Stamp::ZERO,
        dts: MediaTime::from_millis(1000 + 40 * index),
        cts,
        segment: 0,
        track: TrackId(track),
        key: index == 0 || codec.kind() != TrackKind::Video,
    }
}

/// The events as the bytes of an FLV file.
fn mux(events: &[MediaEvent], hevc: HevcForm) -> Vec<u8> {
    let mut muxer = FlvMuxer::new(hevc, Envelope::None);
    let mut packets = Vec::new();
    events.iter().for_each(|event| muxer.push(event, &mut packets));
    let mut bytes = muxer.head().unwrap().to_vec();
    for packet in packets {
        assert_eq!(packet.len, packet.parts.iter().map(Bytes::len).sum::<usize>());
        packet.parts.iter().for_each(|part| bytes.extend_from_slice(part));
    }
    bytes
}

fn demux(file: &[u8]) -> Vec<MediaEvent> {
    let mut reader = TagReader::new(1 << 20);
    reader.push(file);
    let mut demuxer = FlvDemuxer::new();
    let mut out = Vec::new();
    while let Some((tag, millis, body)) = reader.next_tag().unwrap() {
        demuxer.push(tag, millis, body, Stamp::ZERO, &mut out).unwrap();
    }
    let event = |result| if let Demuxed::Event(event) = result { Some(event) } else { None };
    out.into_iter().filter_map(event).collect()
}

type NamedTrack = (&'static str, Bytes, TrackShape);

/// What must survive: the tracks but for their metadata, which is rewritten, and all frames. Ids follow the order of appearance, in which
/// a codec without a sequence header comes later; so codecs name the tracks here.
fn essence(events: &[MediaEvent]) -> (Vec<NamedTrack>, Vec<(&'static str, Frame)>) {
    let (mut tracks, mut frames) = (Tracks::default(), Vec::new());
    for event in events {
        match event {
            MediaEvent::Tracks(set) => tracks = set.clone(),
            MediaEvent::Frame(frame) => {
                let codec = tracks.get(frame.track).unwrap().codec.name();
                frames.push((codec, Frame { track: TrackId(0), ..frame.clone() }));
            }
            MediaEvent::End => {}
        }
    }
    let mut tracks: Vec<_> = tracks.iter().map(|track| (track.codec.name(), track.config.clone(), track.shape)).collect();
    tracks.sort_by_key(|(codec, ..)| *codec);
    (tracks, frames)
}

#[track_caller]
fn assert_same(seen: &[MediaEvent], expected: &[MediaEvent], name: &str) {
    let ((seen_tracks, seen), (tracks, frames)) = (essence(seen), essence(expected));
    assert_eq!(seen_tracks, tracks, "{name}");
    assert_eq!(seen.len(), frames.len(), "{name}");
    for (index, (seen, expected)) in seen.iter().zip(&frames).enumerate() {
        assert_eq!(seen, expected, "{name}: frame {index}");
    }
}

fn metadata_of(tag: &Tag) -> Vec<(String, Value)> {
    let values = amf0::decode_all(&tag.body).unwrap();
    assert_eq!(values[0].as_str(), Some("onMetaData"));
    values[1].properties().unwrap().to_vec()
}

fn config(muxer: &mut TagMuxer, tracks: Vec<Track>, metadata: Bytes) -> Vec<Tag> {
    match muxer.push(&MediaEvent::Tracks(Tracks::new(tracks, metadata))) {
        Muxed::Config(tags) => tags,
        other => panic!("no config: {other:?}"),
    }
}

#[test]
fn every_codec_comes_back_bit_for_bit() {
    let video = [Codec::H264, Codec::H265, Codec::Av1, Codec::Vp8, Codec::Vp9];
    let audio = [Codec::Aac, Codec::Opus, Codec::Mp3, Codec::G711A, Codec::G711U];
    for (video, audio) in video.into_iter().flat_map(|video| audio.map(|audio| (video, audio))) {
        for hevc in [HevcForm::Enhanced, HevcForm::Legacy] {
            let codecs = [video, audio, Codec::Script];
            let tracks: Vec<Track> = (0..).zip(codecs).map(|(id, codec)| track(id, codec)).collect();
            let mut events = vec![MediaEvent::Tracks(Tracks::new(tracks, Bytes::new()))];
            for index in 0..6 {
                events.extend((0..).zip(codecs).map(|(id, codec)| MediaEvent::Frame(frame(id, codec, index))));
            }
            assert_same(&demux(&mux(&events, hevc)), &events, &format!("{video:?} {audio:?} {hevc:?}"));
        }
    }
}

#[test]
fn real_files_come_back_bit_for_bit() {
    for (name, file) in CORPUS {
        let events = demux(file);
        assert!(events.len() > 2, "{name}");
        for hevc in [HevcForm::Enhanced, HevcForm::Legacy] {
            assert_same(&demux(&mux(&events, hevc)), &events, &format!("{name} {hevc:?}"));
        }
    }
}

#[test]
fn the_bytes_in_front_of_the_payload() {
    use HevcForm::{Enhanced, Legacy};
    type Heads<'a> = (Codec, HevcForm, &'a [u8], [&'a [u8]; 3]);
    let cases: [Heads<'_>; 11] = [
        (Codec::H264, Enhanced, b"\x17\0\0\0\0", [b"\x17\x01\0\0\x50", b"\x27\x01\0\0\0", b"\x27\x01\xFF\xFF\xD8"]),
        (Codec::H265, Legacy, b"\x1C\0\0\0\0", [b"\x1C\x01\0\0\x50", b"\x2C\x01\0\0\0", b"\x2C\x01\xFF\xFF\xD8"]),
        (Codec::H265, Enhanced, b"\x90hvc1", [b"\x91hvc1\0\0\x50", b"\xA3hvc1", b"\xA1hvc1\xFF\xFF\xD8"]),
        (Codec::Av1, Enhanced, b"\x90av01", [b"\x91av01", b"\xA1av01", b"\xA1av01"]),
        (Codec::Vp8, Enhanced, b"", [b"\x91vp08", b"\xA1vp08", b"\xA1vp08"]),
        (Codec::Vp9, Enhanced, b"\x90vp09", [b"\x91vp09", b"\xA1vp09", b"\xA1vp09"]),
        (Codec::Aac, Enhanced, b"\xAF\0", [b"\xAF\x01"; 3]),
        (Codec::Opus, Enhanced, b"\x90Opus", [b"\x91Opus"; 3]),
        (Codec::Mp3, Enhanced, b"", [b"\x2E"; 3]),
        (Codec::G711A, Enhanced, b"", [b"\x72"; 3]),
        (Codec::G711U, Enhanced, b"", [b"\x82"; 3]),
    ];
    for (codec, hevc, header, frame_heads) in cases {
        let mut muxer = TagMuxer::new(hevc);
        let tags = config(&mut muxer, vec![track(0, codec)], Bytes::new());
        let sequence_header: Vec<&[u8]> = tags[1..].iter().map(|tag| &tag.head[..]).collect();
        let expected: Vec<&[u8]> = if header.is_empty() { vec![] } else { vec![header] };
        assert_eq!(sequence_header, expected, "{codec:?} {hevc:?}");
        for (index, head) in (0..).zip(frame_heads) {
            let Muxed::Frame { tag, .. } = muxer.push(&MediaEvent::Frame(frame(0, codec, index))) else { panic!("{codec:?}") };
            assert_eq!(&tag.head[..], head, "{codec:?} {hevc:?} frame {index}");
        }
    }
}

#[test]
fn payloads_are_shared() {
    let mut muxer = FlvMuxer::new(HevcForm::Enhanced, Envelope::None);
    let mut packets = Vec::new();
    muxer.push(&MediaEvent::Tracks(Tracks::new(vec![track(0, Codec::H264)], Bytes::new())), &mut packets);
    let frame = frame(0, Codec::H264, 0);
    muxer.push(&MediaEvent::Frame(frame.clone()), &mut packets);
    let [front, payload, back] = &packets[1].parts[..] else { panic!("three parts") };
    assert_eq!(payload.as_ptr(), frame.data.as_ptr());
    assert_eq!(&front[..], b"\x09\0\0\x12\0\x03\xE8\0\0\0\0\x17\x01\0\0\x50");
    assert_eq!(&back[..], &[0, 0, 0, 29]);
    assert_eq!(packets[1].len, 16 + 13 + 4);
}

#[test]
fn packets_say_what_they_are() {
    let mut muxer = FlvMuxer::new(HevcForm::Enhanced, Envelope::None);
    assert_eq!(&muxer.head().unwrap()[..], b"FLV\x01\x00\0\0\0\x09\0\0\0\0");
    let mut packets = Vec::new();
    let tracks = vec![track(0, Codec::H264), track(1, Codec::Aac), track(2, Codec::Script)];
    muxer.push(&MediaEvent::Tracks(Tracks::new(tracks, Bytes::new())), &mut packets);
    for (id, codec, index) in [(0, Codec::H264, 0), (0, Codec::H264, 1), (1, Codec::Aac, 1), (2, Codec::Script, 1)] {
        muxer.push(&MediaEvent::Frame(frame(id, codec, index)), &mut packets);
    }
    muxer.push(&MediaEvent::Frame(frame(7, Codec::H264, 0)), &mut packets);
    muxer.push(&MediaEvent::End, &mut packets);
    let kinds: Vec<PacketKind> = packets.iter().map(|packet| packet.kind).collect();
    assert_eq!(kinds, [PacketKind::Config, PacketKind::Key, PacketKind::Delta, PacketKind::Audio, PacketKind::Audio]);
    assert_eq!(packets[0].arrival, Stamp::ZERO);
    assert_eq!(muxer.head().unwrap()[4], 5);
}

#[test]
fn the_flags_follow_the_tracks() {
    let cases: [(&[Codec], u8); 5] =
        [(&[], 0), (&[Codec::H264], 1), (&[Codec::Opus], 4), (&[Codec::Opus, Codec::Av1], 5), (&[Codec::Script], 0)];
    for (codecs, flags) in cases {
        let mut muxer = TagMuxer::new(HevcForm::Enhanced);
        config(&mut muxer, (0..).zip(codecs).map(|(id, codec)| track(id, *codec)).collect(), Bytes::new());
        assert_eq!(muxer.flags(), flags, "{codecs:?}");
    }
}

#[test]
fn times_go_through_the_wrap() {
    let cases = [(0, 0), (0xFF_FFFF, 0xFF_FFFF), (0x1_0000_0005, 5), (-1, 0xFFFF_FFFF)];
    for (millis, expected) in cases {
        let mut muxer = TagMuxer::new(HevcForm::Enhanced);
        config(&mut muxer, vec![track(0, Codec::H264)], Bytes::new());
        let late = Frame { dts: MediaTime::from_millis(millis), ..frame(0, Codec::H264, 0) };
        let Muxed::Frame { tag, .. } = muxer.push(&MediaEvent::Frame(late)) else { panic!("a frame") };
        assert_eq!(tag.timestamp_ms, expected);
        let [.., t2, t1, t0, t3, _, _, _] = tag_header(&tag);
        assert_eq!(u32::from_be_bytes([t3, t2, t1, t0]), expected);
        // A config carries the newest time, and that is never before zero.
        let newest = config(&mut muxer, vec![track(0, Codec::H264)], Bytes::new());
        let newest_ms = if millis < 0 { 0 } else { expected };
        assert!(newest.iter().all(|tag| tag.timestamp_ms == newest_ms));
    }
}

#[test]
fn times_between_milliseconds_round_down_on_both_ends() {
    let mut muxer = TagMuxer::new(HevcForm::Enhanced);
    config(&mut muxer, vec![track(0, Codec::H264)], Bytes::new());
    // Decoded at 33.366 ms, shown at 66.733 ms: 33 and 66.
    let frame = Frame { dts: MediaTime::from_micros(33_366), cts: 33_367, ..frame(0, Codec::H264, 0) };
    let Muxed::Frame { tag, .. } = muxer.push(&MediaEvent::Frame(frame)) else { panic!("a frame") };
    assert_eq!((tag.timestamp_ms, &tag.head[2..]), (33, &[0, 0, 33][..]));
}

#[test]
fn the_publishers_metadata_is_kept_and_corrected() {
    let field = |key: &str, value: Value| (key.to_owned(), value);
    let number = Value::Number;
    let sent = vec![
        field("duration", number(0.0)),
        field("videocodecid", number(7.0)),
        field("encoder", Value::String("obs".to_owned())),
        field("width", Value::String("1".to_owned())),
        field("audiocodecid", number(10.0)),
        field("filesize", number(1.0)),
        field("width", number(2.0)),
    ];
    let mut metadata = Vec::new();
    amf0::encode(&Value::Object(sent), &mut metadata);
    for (hevc, codec_id) in [(HevcForm::Enhanced, 1_752_589_105.0), (HevcForm::Legacy, 12.0)] {
        let mut muxer = TagMuxer::new(hevc);
        let tags = config(&mut muxer, vec![track(0, Codec::H265)], Bytes::from(metadata.clone()));
        let expected = [
            field("videocodecid", number(codec_id)),
            field("encoder", Value::String("obs".to_owned())),
            field("width", number(176.0)),
            field("height", number(144.0)),
        ];
        assert_eq!(metadata_of(&tags[0]), expected, "{hevc:?}");
    }
}

#[test]
fn without_metadata_there_is_a_small_own_one() {
    let mut muxer = TagMuxer::new(HevcForm::Enhanced);
    let tags = config(&mut muxer, vec![track(0, Codec::H264), track(1, Codec::Opus)], Bytes::new());
    let field = |key: &str, number| (key.to_owned(), Value::Number(number));
    let expected = [
        field("width", 176.0),
        field("height", 144.0),
        field("framerate", 25.0),
        field("videocodecid", 7.0),
        field("audiocodecid", 1_332_770_163.0),
        field("audiosamplerate", 48_000.0),
        ("stereo".to_owned(), Value::Boolean(true)),
    ];
    assert_eq!(metadata_of(&tags[0]), expected);
    let kinds: Vec<TagType> = tags.iter().map(|tag| tag.tag).collect();
    assert_eq!(kinds, [TagType::Script, TagType::Video, TagType::Audio]);
}

#[test]
fn what_no_tag_can_hold_is_left_out() {
    let mut muxer = TagMuxer::new(HevcForm::Enhanced);
    config(&mut muxer, vec![track(0, Codec::H264), track(1, Codec::H264)], Bytes::new());
    let large = Frame { data: Bytes::from(vec![0; TAG_BYTES_MAX]), ..frame(0, Codec::H264, 0) };
    assert_eq!(muxer.push(&MediaEvent::Frame(large)), Muxed::Nothing);
    assert_eq!(muxer.push(&MediaEvent::Frame(frame(1, Codec::H264, 0))), Muxed::Nothing, "a second video track");
}
