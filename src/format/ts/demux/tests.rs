//! What the writer writes comes back, whatever the pieces; what others write, and what is broken, by hand.

use bytes::BytesMut;

use super::*;
use crate::format::flv::{self, FlvDemuxer, TagReader};
use crate::format::rtp::mux::tests::{frame, h264_config, track, unit};
use crate::format::ts::write::{TsWriter, carries};
use crate::format::ts::{BODY_BYTES, PACKET_BYTES};
use crate::media::aac::AacConfig;
use crate::media::opus::OpusHead;
use crate::media::{Track, Tracks};

const CORPUS: [(&str, &[u8]); 5] = [
    ("H.264 with B-frames, AAC", include_bytes!("../../../../tests/corpus/flv/h264_bframes_aac.flv")),
    ("H.265, Opus", include_bytes!("../../../../tests/corpus/flv/hevc_opus.flv")),
    ("MP3", include_bytes!("../../../../tests/corpus/flv/vp9_mp3.flv")),
    ("G.711 A-law", include_bytes!("../../../../tests/corpus/flv/g711a.flv")),
    ("G.711 µ-law", include_bytes!("../../../../tests/corpus/flv/g711u.flv")),
];

/// All tracks and frames of a file that a transport stream carries.
fn read(file: &[u8]) -> (Tracks, Vec<Frame>) {
    let (mut reader, mut demuxer, mut out) = (TagReader::new(1 << 20), FlvDemuxer::new(), Vec::new());
    reader.push(file);
    while let Some((tag, millis, body)) = reader.next_tag().unwrap() {
        demuxer.push(tag, millis, body, Stamp::ZERO, &mut out).unwrap();
    }
    let tracks = demuxer.tracks().only(carries);
    let frames = out.into_iter().filter_map(|demuxed| match demuxed {
        flv::Demuxed::Event(MediaEvent::Frame(frame)) => tracks.get(frame.track).is_some().then_some(frame),
        _ => None,
    });
    let frames = frames.collect();
    (tracks, frames)
}

fn write(tracks: &Tracks, frames: &[Frame]) -> BytesMut {
    let (mut writer, mut bytes) = (TsWriter::new(), BytesMut::new());
    writer.set_tracks(tracks);
    writer.tables(&mut bytes);
    for frame in frames {
        writer.frame(frame, &mut bytes);
    }
    bytes
}

/// What comes out of pieces.
#[derive(Debug, Default)]
struct Seen {
    tracks: Tracks,
    frames: Vec<Frame>,
    discarded: Vec<Discard>,
    faults: Faults,
}

fn demux<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Seen {
    let (mut demuxer, mut out) = (TsDemuxer::new(), Vec::new());
    for piece in pieces {
        demuxer.push(Stamp::ZERO, piece, &mut out);
    }
    demuxer.finish(Stamp::ZERO, &mut out);
    let mut seen = Seen { faults: demuxer.faults(), ..Seen::default() };
    for demuxed in out {
        match demuxed {
            Demuxed::Event(MediaEvent::Tracks(tracks)) => seen.tracks = tracks,
            Demuxed::Event(MediaEvent::Frame(frame)) => seen.frames.push(frame),
            Demuxed::Event(MediaEvent::End) => panic!("a demuxer does not end a stream"),
            Demuxed::Discarded(discard) => seen.discarded.push(discard),
        }
    }
    seen
}

/// The writer puts media time zero here.
const BEGIN_MICROS: i64 = 1_000_000;

#[track_caller]
fn assert_same(seen: &Seen, tracks: &Tracks, frames: &[Frame], name: &str) {
    assert_eq!((seen.faults, &seen.discarded[..]), (Faults::default(), &[][..]), "{name}");
    for kind in [TrackKind::Video, TrackKind::Audio] {
        let (track, expected) = (seen.tracks.first(kind), tracks.first(kind));
        assert_eq!(track.map(|track| track.codec), expected.map(|track| track.codec), "{name}");
        let (Some(track), Some(expected)) = (track, expected) else { continue };
        assert_eq!(track.parameter_sets(), expected.parameter_sets(), "{name}");
        let what = |frame: &Frame, from: i64| {
            let micros = frame.dts.as_micros() - from;
            (frame.data.clone(), micros, frame.cts, frame.key)
        };
        let came: Vec<_> =
            seen.frames.iter().filter(|frame| frame.track == track.id).map(|frame| what(frame, BEGIN_MICROS)).collect();
        let sent: Vec<_> = frames.iter().filter(|frame| frame.track == expected.id).map(|frame| what(frame, 0)).collect();
        assert_eq!(came.len(), sent.len(), "{name}: {kind:?}");
        for (came, sent) in came.iter().zip(&sent) {
            assert_eq!(came, sent, "{name}: {kind:?}");
        }
    }
}

#[test]
fn what_is_written_comes_back() {
    for (name, file) in CORPUS {
        let (tracks, frames) = read(file);
        assert!(!frames.is_empty(), "{name}");
        let bytes = write(&tracks, &frames);
        for size in [1, 7, PACKET_BYTES - 1, PACKET_BYTES, PACKET_BYTES + 1, 1_316, usize::MAX] {
            assert_same(&demux(bytes.chunks(size)), &tracks, &frames, &format!("{name} in pieces of {size}"));
        }
    }
}

fn av() -> Tracks {
    let video = track(0, Codec::H264, h264_config());
    Tracks::new(vec![video, track(1, Codec::Aac, AacConfig::build_lc(48_000, 2))], Bytes::new())
}

/// Pictures and sounds by turns, 40 ms apart; `bytes` is the size of a picture.
fn some_frames(count: i64, bytes: usize) -> Vec<Frame> {
    let slice = |at: i64| [&[if at % 5 == 0 { 0x65 } else { 0x41 }, 0x88 + at as u8][..], &vec![0x55; bytes]].concat();
    let frames = (0..count).flat_map(|at| {
        let sound = vec![0x21 + at as u8; 50];
        let mut picture = frame(0, at * 40, at % 5 == 0, unit(&[&slice(at)]));
        picture.cts = 80_000;
        [picture, frame(1, at * 40 + 3, true, sound.into())]
    });
    frames.collect()
}

#[test]
fn every_cut_gives_the_same() {
    let frames = some_frames(6, 300);
    let bytes = write(&av(), &frames);
    for cut in 0..bytes.len() {
        assert_same(&demux([&bytes[..cut], &bytes[cut..]]), &av(), &frames, &format!("cut at {cut}"));
    }
}

#[test]
fn pictures_of_any_size_come_back_and_go_out_with_their_last_byte() {
    for (bytes, waits) in [(10, false), (50_000, false), (62_000, true), (70_000, true), (1_000_000, true)] {
        let frames = some_frames(4, bytes);
        let written = write(&av(), &frames);
        assert_same(&demux([&written[..]]), &av(), &frames, &format!("{bytes} bytes"));
        let (mut demuxer, mut out) = (TsDemuxer::new(), Vec::new());
        demuxer.push(Stamp::ZERO, &write(&av(), &frames[..1]), &mut out);
        let has_frame = out.iter().any(|demuxed| matches!(demuxed, Demuxed::Event(MediaEvent::Frame(_))));
        assert_eq!(has_frame, !waits, "{bytes} bytes");
    }
}

#[test]
fn times_go_on_where_33_bits_end() {
    const WRAP_MS: i64 = (1 << 33) / 90;
    let mut frames = some_frames(20, 10);
    for frame in &mut frames {
        frame.dts = frame.dts.offset((WRAP_MS - 1_400) * 1_000);
    }
    let seen = demux([&write(&av(), &frames)[..]]);
    assert_same(&seen, &av(), &frames, "over the wrap");
    assert!(seen.frames.last().unwrap().dts > MediaTime::from_millis(WRAP_MS));
}

#[test]
fn a_hole_costs_the_frame_that_it_is_in() {
    let frames = some_frames(10, 1_000);
    let bytes = write(&av(), &frames);
    let packets: Vec<&[u8]> = bytes.chunks(PACKET_BYTES).collect();
    // Two for the tables, then seven for each pair. Without the first picture nothing can be decoded, and nobody misses the last.
    for lost in 9..packets.len() - 7 {
        let pieces = packets.iter().enumerate().filter(|(at, _)| *at != lost).map(|(_, packet)| *packet);
        let seen = demux(pieces);
        assert_eq!(seen.faults.holes, 1, "without {lost}");
        assert_eq!(seen.frames.len(), frames.len() - 1, "without {lost}: {:?}", seen.discarded);
        assert!(seen.frames.iter().all(|frame| frames.iter().any(|sent| sent.data == frame.data)), "without {lost}");
    }
}

#[test]
fn packets_may_come_twice() {
    let frames = some_frames(4, 1_000);
    let bytes = write(&av(), &frames);
    let twice: Vec<u8> = bytes.chunks(PACKET_BYTES).flat_map(|packet| packet.repeat(2)).collect();
    assert_same(&demux([&twice[..]]), &av(), &frames, "twice");
}

#[test]
fn bytes_that_are_no_packets_are_passed_over() {
    let frames = some_frames(10, 1_000);
    let bytes = write(&av(), &frames);
    for at in [0, 5 * PACKET_BYTES, 5 * PACKET_BYTES + 90, 14 * PACKET_BYTES + 1] {
        let noisy = [&bytes[..at], &[0x13, 0x00, 0x47], &bytes[at..]].concat();
        let seen = demux([&noisy[..]]);
        assert_eq!(seen.faults.sync_losses, 1, "at {at}");
        assert!(seen.frames.len() >= frames.len() - 3, "at {at}: {} frames", seen.frames.len());
        assert!(seen.frames.iter().all(|frame| frames.iter().any(|sent| sent.data == frame.data)), "at {at}");
    }
}

#[test]
fn another_program_takes_over() {
    let (mut writer, mut bytes) = (TsWriter::new(), BytesMut::new());
    let opus = Track { shape: TrackShape::Audio { sample_rate: 48_000, channels: 2 }, ..track(1, Codec::Opus, Bytes::new()) };
    let sets: [(Vec<Track>, &[Codec]); 3] = [
        (av().iter().cloned().collect(), &[Codec::H264, Codec::Aac]),
        (vec![track(0, Codec::H264, h264_config()), opus], &[Codec::H264, Codec::Opus]),
        (vec![track(1, Codec::G711A, Bytes::new())], &[Codec::G711A]),
    ];
    let mut frames = some_frames(15, 40).into_iter();
    for (tracks, _) in &sets {
        writer.set_tracks(&Tracks::new(tracks.clone(), Bytes::new()));
        writer.tables(&mut bytes);
        frames.by_ref().take(10).for_each(|frame| writer.frame(&frame, &mut bytes));
    }
    let (mut demuxer, mut out) = (TsDemuxer::new(), Vec::new());
    demuxer.push(Stamp::ZERO, &bytes, &mut out);
    let mut announced: Vec<Vec<Codec>> = Vec::new();
    for demuxed in &out {
        if let Demuxed::Event(MediaEvent::Tracks(tracks)) = demuxed {
            announced.push(tracks.iter().map(|track| track.codec).collect());
        }
    }
    announced.dedup();
    assert_eq!(announced, sets.map(|(_, codecs)| codecs.to_vec()));
}

/// A packet with a payload that fills it, or is stuffed in front.
fn packet(pid: u16, starts: bool, counter: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = pid.to_be_bytes();
    let stuffing = BODY_BYTES - payload.len();
    let mut packet = vec![0x47, u8::from(starts) << 6 | high, low, 0x10 | u8::from(stuffing > 0) << 5 | counter & 0xF];
    match stuffing {
        0 => {}
        1 => packet.push(0),
        more => packet.extend([&[more as u8 - 1, 0][..], &vec![0xFF; more - 2]].concat()),
    }
    packet.extend_from_slice(payload);
    packet
}

#[test]
fn a_picture_may_go_on_in_the_next_packet() {
    let mut bytes = write(&av(), &[]).to_vec();
    let slice: Vec<u8> = [&[0x65, 0x88][..], &[0x44; 120]].concat();
    let mut counter = 0;
    for at in 0..12u8 {
        let mut first = vec![0, 0, 1, 0xE0, 0, 0, 0x80, 0x80, 5, 0x21, 0, 1, at << 4 | 1, 1];
        first.extend_from_slice(&[0, 0, 1, 9, 0xF0, 0, 0, 1]);
        first.extend_from_slice(&h264_sets());
        first.extend_from_slice(&slice[..60]);
        let mut second = vec![0, 0, 1, 0xE0, 0, 0, 0x80, 0, 0];
        second.extend_from_slice(&slice[60..]);
        for mut pes in [first, second] {
            let length = (pes.len() - 6) as u16;
            pes[4..6].copy_from_slice(&length.to_be_bytes());
            bytes.extend(packet(0x100, true, counter, &pes));
            counter += 1;
        }
    }
    let seen = demux([&bytes[..]]);
    let whole = seen.frames.iter().filter(|frame| frame.data == unit(&[&slice])).count();
    assert!(whole >= 11, "{whole} of {}, {:?}", seen.frames.len(), seen.discarded);
}

fn h264_sets() -> Vec<u8> {
    let sets = track(0, Codec::H264, h264_config()).parameter_sets();
    sets.iter().flat_map(|set| [set, &[0, 0, 1][..]].concat()).collect()
}

#[test]
fn several_sounds_may_share_a_packet() {
    let mut bytes = write(&av(), &[]).to_vec();
    let adts = crate::media::aac::AdtsHeader::from_config(&AacConfig::build_lc(48_000, 2)).unwrap();
    let one = |at: u8| [&adts.of(3).unwrap()[..], &[0x21, at, 7]].concat();
    let mut pes = vec![0, 0, 1, 0xC0, 0, 38, 0x80, 0x80, 5, 0x21, 0, 1, 0x01, 1];
    (0..3).for_each(|at| pes.extend(one(at)));
    bytes.extend(packet(0x101, true, 0, &pes));
    let seen = demux([&bytes[..]]);
    let times: Vec<i64> = seen.frames.iter().map(|frame| frame.dts.as_micros() - seen.frames[0].dts.as_micros()).collect();
    assert_eq!(times, [0, 21_333, 42_666], "{:?}", seen.discarded);
    assert_eq!(seen.tracks.first(TrackKind::Audio).unwrap().config, AacConfig::build_lc(48_000, 2));
}

#[test]
fn what_is_not_carried_is_counted() {
    type Case<'a> = (&'a str, &'a [(u8, u16, &'a [u8])], &'a [Discard]);
    let cases: [Case<'_>; 3] = [
        ("MPEG-2 video", &[(0x02, 0x100, &[]), (0x0F, 0x101, &[])], &[Discard::UnknownCodec]),
        ("a second sound", &[(0x0F, 0x101, &[]), (0x03, 0x102, &[])], &[Discard::ExtraTrack]),
        (
            "private data and Opus",
            &[(0x06, 0x100, &[]), (0x06, 0x101, &[5, 4, b'O', b'p', b'u', b's', 0x7F, 2, 0x80, 1])],
            &[Discard::UnknownCodec],
        ),
    ];
    for (name, streams, expected) in cases {
        let mut program = vec![0xE1, 0x01, 0xF0, 0];
        for (stream_type, pid, descriptors) in streams {
            program.extend_from_slice(&[*stream_type, 0xE0 | (pid >> 8) as u8, *pid as u8, 0xF0, descriptors.len() as u8]);
            program.extend_from_slice(descriptors);
        }
        let pmt = crate::format::ts::packet::section(0x1000, 2, 1, 0, &program);
        let bytes = [&write(&Tracks::default(), &[])[..PACKET_BYTES], &pmt].concat();
        assert_eq!(demux([&bytes[..]]).discarded, expected, "{name}");
    }
}

#[test]
fn opus_keeps_its_channels() {
    for channels in [1, 2] {
        let shape = TrackShape::Audio { sample_rate: 48_000, channels };
        let tracks = Tracks::new(vec![Track { shape, ..track(1, Codec::Opus, Bytes::new()) }], Bytes::new());
        let frames: Vec<Frame> = (0..3).map(|at| frame(1, at * 20, true, vec![0xF8; 300].into())).collect();
        let seen = demux([&write(&tracks, &frames)[..]]);
        assert_same(&seen, &tracks, &frames, "Opus");
        let track = seen.tracks.first(TrackKind::Audio).unwrap();
        assert_eq!((track.shape, OpusHead::parse(&track.config).unwrap().channels), (shape, channels));
    }
}

#[test]
fn nothing_that_comes_is_kept_beyond_the_limit() {
    let mut bytes = write(&av(), &[]).to_vec();
    // A picture without end, and sections that never end.
    bytes.extend(packet(0x100, true, 0, &[0, 0, 1, 0xE0, 0, 0, 0x80, 0, 0, 0, 0, 1, 0x65, 0x88]));
    let (mut demuxer, mut out) = (TsDemuxer::new(), Vec::new());
    demuxer.push(Stamp::ZERO, &bytes, &mut out);
    let mut counter = 1;
    for _ in 0..60_000 {
        demuxer.push(Stamp::ZERO, &packet(0x100, false, counter, &[0x55; 184]), &mut out);
        counter = (counter + 1) & 0xF;
        assert!(demuxer.held_bytes() <= HELD_BYTES_MAX);
    }
    assert!(out.contains(&Demuxed::Discarded(Discard::BrokenFrame)));
}

#[test]
fn files_of_others_are_read() {
    type Case<'a> = (&'a str, &'a [u8], &'a [u8]);
    let cases: [Case<'_>; 4] = [
        ("ffmpeg, H.264 and AAC", include_bytes!("../../../../tests/corpus/ts/ffmpeg_h264_aac"), CORPUS[0].1),
        ("GStreamer, H.264 and AAC", include_bytes!("../../../../tests/corpus/ts/gst_h264_aac"), CORPUS[0].1),
        ("ffmpeg, H.265 and Opus", include_bytes!("../../../../tests/corpus/ts/ffmpeg_h265_opus"), CORPUS[1].1),
        ("ffmpeg, MP3", include_bytes!("../../../../tests/corpus/ts/ffmpeg_mp3"), CORPUS[2].1),
    ];
    for (name, file, source) in cases {
        let (tracks, frames) = read(source);
        let seen = demux([file]);
        for kind in [TrackKind::Video, TrackKind::Audio] {
            let data = |tracks: &Tracks, frames: &[Frame]| -> Vec<Bytes> {
                let id = tracks.first(kind).map(|track| track.id);
                frames.iter().filter(|frame| Some(frame.track) == id).map(|frame| frame.data.clone()).collect()
            };
            let (came, sent) = (data(&seen.tracks, &seen.frames), data(&tracks, &frames));
            // GStreamer leaves one sound out itself.
            assert!(came.len() + 1 >= sent.len(), "{name}: {} of {} of {kind:?}", came.len(), sent.len());
            // ffmpeg puts in front of key pictures what else is in the configuration record of H.265.
            let same = |run: &[Bytes]| came.iter().zip(run).all(|(came, sent)| came.ends_with(sent));
            assert!(came.is_empty() || sent.windows(came.len()).any(same), "{name}: {kind:?}");
        }
        let by_writer = demux([&write(&tracks, &frames)[..]]);
        let cts =
            |seen: &Seen| seen.frames.iter().filter(|frame| frame.track == VIDEO).map(|frame| frame.cts).collect::<Vec<_>>();
        assert_eq!(cts(&seen), cts(&by_writer), "{name}");
        assert_eq!(seen.discarded, [], "{name}");
    }
}
