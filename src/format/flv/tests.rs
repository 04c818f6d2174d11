//! Tests of the FLV demuxer: hand-made tags as tables, and real files cut everywhere.

use bytes::BufMut;

use super::*;

const H264_AAC: &[u8] = include_bytes!("../../../tests/corpus/flv/h264_bframes_aac.flv");
const HEVC_OPUS: &[u8] = include_bytes!("../../../tests/corpus/flv/hevc_opus.flv");
const AV1_AAC: &[u8] = include_bytes!("../../../tests/corpus/flv/av1_aac.flv");
const VP9_MP3: &[u8] = include_bytes!("../../../tests/corpus/flv/vp9_mp3.flv");
const G711A: &[u8] = include_bytes!("../../../tests/corpus/flv/g711a.flv");
const G711U: &[u8] = include_bytes!("../../../tests/corpus/flv/g711u.flv");
const MULTITRACK: &[u8] = include_bytes!("../../../tests/corpus/flv/multitrack.flv");
const CORPUS: [&[u8]; 7] = [H264_AAC, HEVC_OPUS, AV1_AAC, VP9_MP3, G711A, G711U, MULTITRACK];

const AVCC: &[u8] = include_bytes!("../../../tests/corpus/h264/avcc");
const HVCC: &[u8] = include_bytes!("../../../tests/corpus/h265/hvcc");
const NAL: &[u8] = &[0, 0, 0, 2, 0x65, 0x88];

fn tags(file: &[u8]) -> Vec<(TagType, u32, Bytes)> {
    let mut reader = TagReader::new(1 << 20);
    reader.push(file);
    std::iter::from_fn(|| reader.next_tag().unwrap()).collect()
}

fn push(demuxer: &mut FlvDemuxer, tag: TagType, millis: u32, body: &[u8]) -> Result<Vec<Demuxed>, FlvError> {
    let mut out = Vec::new();
    demuxer.push(tag, millis, Bytes::copy_from_slice(body), Stamp::from_millis(9), &mut out)?;
    Ok(out)
}

fn demux(file: &[u8]) -> (FlvDemuxer, Vec<Demuxed>) {
    let mut demuxer = FlvDemuxer::new();
    let mut out = Vec::new();
    for (tag, millis, body) in tags(file) {
        demuxer.push(tag, millis, body, Stamp::ZERO, &mut out).unwrap();
    }
    (demuxer, out)
}

fn cat(pieces: &[&[u8]]) -> Vec<u8> {
    pieces.concat()
}

/// One letter per result: T tracks, K key frame, F other frame, and the discards.
fn letters(results: &[Demuxed]) -> String {
    let letter = |result: &Demuxed| match result {
        Demuxed::Event(MediaEvent::Tracks(_)) => 'T',
        Demuxed::Event(MediaEvent::Frame(frame)) if frame.key => 'K',
        Demuxed::Event(MediaEvent::Frame(_)) => 'F',
        Demuxed::Event(MediaEvent::End) => 'E',
        Demuxed::Discarded(Discard::UnknownCodec) => 'u',
        Demuxed::Discarded(Discard::BrokenFrame) => 'b',
        Demuxed::Discarded(Discard::ExtraTrack) => 'x',
        Demuxed::Discarded(Discard::NoConfig) => 'n',
        Demuxed::Discarded(Discard::Incomplete | Discard::AfterLoss) => unreachable!("FLV loses nothing"),
    };
    results.iter().map(letter).collect()
}

fn frames(results: &[Demuxed]) -> Vec<&Frame> {
    let frame = |result| if let &Demuxed::Event(MediaEvent::Frame(ref frame)) = result { Some(frame) } else { None };
    results.iter().filter_map(frame).collect()
}

/// A demuxer that knows H.264 and AAC, both announced.
fn ready() -> FlvDemuxer {
    let mut demuxer = FlvDemuxer::new();
    push(&mut demuxer, TagType::Video, 0, &cat(&[&[0x17, 0, 0, 0, 0], AVCC])).unwrap();
    push(&mut demuxer, TagType::Audio, 0, &[0xAF, 0, 0x12, 0x08]).unwrap();
    let first = push(&mut demuxer, TagType::Video, 0, &cat(&[&[0x17, 1, 0, 0, 0], NAL])).unwrap();
    assert_eq!(letters(&first), "TK");
    demuxer
}

fn shapes(tracks: &Tracks) -> Vec<(u8, Codec, TrackShape)> {
    tracks.iter().map(|track| (track.id.0, track.codec, track.shape)).collect()
}

#[test]
fn files_of_ffmpeg() {
    let video = TrackShape::Video { width: 176, height: 144, frames_per_second: 25.0 };
    let video_10 = TrackShape::Video { width: 176, height: 144, frames_per_second: 10.0 };
    let audio = |sample_rate, channels| TrackShape::Audio { sample_rate, channels };
    type Expected<'a> = (&'a str, &'a [u8], &'a [(u8, Codec, TrackShape)], &'a str);
    let cases: [Expected<'_>; 7] = [
        ("H.264", H264_AAC, &[(0, Codec::H264, video), (1, Codec::Aac, audio(44_100, 1))], "T"),
        ("H.265", HEVC_OPUS, &[(0, Codec::H265, video), (1, Codec::Opus, audio(48_000, 2))], "T"),
        // AV1's record comes behind the first audio frame.
        ("AV1", AV1_AAC, &[(0, Codec::Av1, video_10), (1, Codec::Aac, audio(44_100, 1))], "TT"),
        ("VP9", VP9_MP3, &[(0, Codec::Vp9, video_10), (1, Codec::Mp3, audio(44_100, 1))], "T"),
        ("G.711 A", G711A, &[(0, Codec::G711A, audio(8_000, 1))], "T"),
        ("G.711 µ", G711U, &[(0, Codec::G711U, audio(8_000, 1))], "T"),
        ("multitrack", MULTITRACK, &[(0, Codec::H264, video), (1, Codec::Aac, audio(44_100, 1))], "T"),
    ];
    for (name, file, tracks, announcements) in cases {
        let (demuxer, results) = demux(file);
        assert_eq!(shapes(demuxer.tracks()), tracks, "{name}");
        let letters = letters(&results);
        assert_eq!(letters.chars().filter(|letter| *letter == 'T').collect::<String>(), announcements, "{name}: {letters}");
        assert!(letters.trim_start_matches('x').starts_with("TK"), "{name}: {letters}");
        assert_eq!(letters.contains('x'), name == "multitrack", "{name}: {letters}");
        assert!(!letters.contains(['u', 'b', 'n']), "{name}: {letters}");
        assert!(!demuxer.tracks().metadata().is_empty(), "{name}");
    }
}

#[test]
fn every_cut_of_every_tag_is_survived() {
    for file in CORPUS {
        let tags = tags(file);
        for (index, (tag, millis, body)) in tags.iter().enumerate().take(12) {
            let mut demuxer = FlvDemuxer::new();
            let mut out = Vec::new();
            for (tag, millis, body) in &tags[..index] {
                demuxer.push(*tag, *millis, body.clone(), Stamp::ZERO, &mut out).unwrap();
            }
            for cut in 0..body.len() {
                let _ = demuxer.push(*tag, *millis, body.slice(..cut), Stamp::ZERO, &mut out);
            }
        }
    }
}

#[test]
fn times_are_taken_from_the_tag() {
    let (_, results) = demux(H264_AAC);
    let video: Vec<(i64, i32)> = frames(&results)
        .iter()
        .filter(|frame| frame.track == TrackId(0))
        .map(|frame| (frame.dts.as_millis(), frame.cts))
        .take(4)
        .collect();
    assert_eq!(video, [(0, 80_000), (40, 160_000), (80, 40_000), (120, 40_000)], "as ffprobe shows them");
    let mut demuxer = ready();
    let negative = push(&mut demuxer, TagType::Video, 40, &cat(&[&[0x27, 1, 0xFF, 0xFF, 0xD8], NAL])).unwrap();
    assert_eq!(frames(&negative)[0].cts, -40_000);
    let absurd = push(&mut demuxer, TagType::Video, 40, &cat(&[&[0x27, 1, 0x80, 0, 0], NAL])).unwrap();
    assert_eq!(frames(&absurd)[0].cts, i32::MIN);
}

#[test]
fn the_clock_wraps_and_headers_do_not_touch_it() {
    let mut demuxer = FlvDemuxer::new();
    push(&mut demuxer, TagType::Video, 0, &cat(&[&[0x17, 0, 0, 0, 0], AVCC])).unwrap();
    let body = cat(&[&[0x17, 1, 0, 0, 0], NAL]);
    let mut seen = Vec::new();
    for millis in [0xFFFF_FFF0, 0x10, 0x80] {
        push(&mut demuxer, TagType::Video, 0, &cat(&[&[0x17, 0, 0, 0, 0], AVCC])).unwrap();
        push(&mut demuxer, TagType::Audio, 0, &[]).unwrap();
        let results = push(&mut demuxer, TagType::Video, millis, &body).unwrap();
        seen.push(frames(&results)[0].dts.as_millis());
    }
    assert_eq!(seen, [0xFFFF_FFF0, 0x1_0000_0010, 0x1_0000_0080]);
}

#[test]
fn one_tag_at_a_time() {
    use TagType::{Audio, Script, Video};
    let nano = cat(&[&[0x97, 2, 0x01, 0x86, 0xA0, 0x03], b"avc1", NAL]);
    let long_ex = cat(&[&[0x97, 0xFF, 0x00, 0xFF], &[7; 256], &[0x13], b"avc1", NAL]);
    let many = cat(&[&[0x96, 0x13], b"avc1", &[1, 0, 0, 6], NAL, &[0, 0, 0, 6], NAL]);
    let many_codecs = cat(&[&[0x96, 0x23], b"hvc1", &[1, 0, 0, 6], NAL, b"avc1", &[0, 0, 0, 6], NAL]);
    let many_broken = cat(&[&[0x96, 0x13], b"avc1", &[0, 0, 0, 6], NAL, &[1, 0, 9, 9], NAL]);
    let cases: Vec<(&str, TagType, Vec<u8>, &str)> = vec![
        ("classic key frame", Video, cat(&[&[0x17, 1, 0, 0, 0], NAL]), "K"),
        ("classic inter frame", Video, cat(&[&[0x27, 1, 0, 0, 0], NAL]), "F"),
        ("disposable frame", Video, cat(&[&[0x37, 1, 0, 0, 0], NAL]), "F"),
        ("generated key frame", Video, cat(&[&[0x47, 1, 0, 0, 0], NAL]), "K"),
        ("command frame", Video, vec![0x57, 0], ""),
        ("end of sequence", Video, vec![0x17, 2, 0, 0, 0], ""),
        ("end of sequence, short", Video, vec![0x17, 2], ""),
        ("no payload", Video, vec![0x17, 1, 0, 0, 0], ""),
        ("only a delimiter", Video, vec![0x17, 1, 0, 0, 0, 0, 0, 0, 2, 9, 0x10], ""),
        ("broken lengths", Video, cat(&[&[0x17, 1, 0, 0, 0], &[0xFF; 8]]), "b"),
        ("no body", Video, vec![], ""),
        ("same header again", Video, cat(&[&[0x17, 0, 0, 0, 0], AVCC]), ""),
        ("empty header", Video, vec![0x17, 0, 0, 0, 0], ""),
        ("unknown packet type", Video, vec![0x17, 9, 0, 0, 0, 1], "u"),
        ("Sorenson", Video, vec![0x12, 1, 2, 3], "u"),
        ("other codec without its header", Video, cat(&[&[0x1C, 1, 0, 0, 0], NAL]), "n"),
        ("enhanced AVC with time", Video, cat(&[&[0x91], b"avc1", &[0, 0, 40], NAL]), "K"),
        ("enhanced AVC without time", Video, cat(&[&[0xA3], b"avc1", NAL]), "F"),
        ("enhanced, same header", Video, cat(&[&[0x90], b"avc1", AVCC]), ""),
        ("enhanced end", Video, cat(&[&[0x92], b"avc1"]), ""),
        ("enhanced metadata", Video, cat(&[&[0xD4], b"avc1", &[2, 0, 0]]), ""),
        ("enhanced command", Video, vec![0xD1, 0], ""),
        ("MPEG-2 TS header", Video, cat(&[&[0x95], b"av01", &[1]]), "u"),
        ("VVC", Video, cat(&[&[0x91], b"vvc1", &[0, 0, 0, 1]]), "u"),
        ("nanoseconds", Video, nano, "K"),
        ("long extension of another type", Video, long_ex, "K"),
        ("track 0 of one", Video, cat(&[&[0x96, 0x03], b"avc1", &[0], NAL]), "K"),
        ("track 1 of one", Video, cat(&[&[0x96, 0x03], b"avc1", &[1], NAL]), "x"),
        ("tracks 1 and 0", Video, many, "xK"),
        ("tracks 1 and 0 of two codecs", Video, many_codecs, "xK"),
        ("second track broken", Video, many_broken, "Kb"),
        ("multitrack cut off", Video, vec![0x96, 0x13, b'a'], "b"),
        ("multitrack of an unknown form", Video, vec![0x96, 0x53], "u"),
        ("multitrack in itself", Video, vec![0x96, 0x06], "u"),
        ("AAC frame", Audio, vec![0xAF, 1, 0xDE], "K"),
        ("AAC, nothing", Audio, vec![0xAF, 1], ""),
        ("enhanced AAC", Audio, cat(&[&[0x91], b"mp4a", &[0xDE]]), "K"),
        ("Speex", Audio, vec![0xB6, 1, 2], "u"),
        ("FLAC", Audio, cat(&[&[0x91], b"fLaC", &[1]]), "u"),
        ("order of channels", Audio, cat(&[&[0x94], b"mp4a", &[1, 1, 0, 0, 0, 4]]), ""),
        ("audio track 1", Audio, cat(&[&[0x95, 0x01], b"mp4a", &[1, 0xDE]]), "x"),
        ("order of channels of track 1", Audio, cat(&[&[0x95, 0x04], b"mp4a", &[1, 1, 1]]), ""),
        ("no audio body", Audio, vec![], ""),
        ("cue", Script, b"\x02\x00\x05onCue\x05".to_vec(), "TK"),
        ("cue, to be set", Script, b"\x02\x00\x0D@setDataFrame\x02\x00\x05onCue\x05".to_vec(), "TK"),
        ("metadata that is none", Script, b"\x02\x00\x0AonMetaData\x05".to_vec(), ""),
        ("clear", Script, b"\x02\x00\x0F@clearDataFrame\x02\x00\x0AonMetaData".to_vec(), ""),
        ("script without a name", Script, vec![5], "u"),
        ("no script", Script, vec![], ""),
    ];
    for (name, tag, body, expected) in cases {
        let results = push(&mut ready(), tag, 40, &body).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(letters(&results), expected, "{name}");
    }
}

#[test]
fn broken_tags_are_errors() {
    let version = FlvError::BadAvcConfig(ConfigError::UnknownVersion(9));
    let cases: Vec<(&str, TagType, Vec<u8>, FlvError)> = vec![
        ("AVC without packet type", TagType::Video, vec![0x17], FlvError::TruncatedTag),
        ("AVC without time", TagType::Video, vec![0x17, 1, 0, 0], FlvError::TruncatedTag),
        ("FourCC cut off", TagType::Video, vec![0x91, b'h', b'v'], FlvError::TruncatedTag),
        ("enhanced time cut off", TagType::Video, cat(&[&[0x91], b"hvc1", &[0, 0]]), FlvError::TruncatedTag),
        ("extension cut off", TagType::Video, vec![0x97, 9, 0], FlvError::TruncatedTag),
        ("AAC without packet type", TagType::Audio, vec![0xAF], FlvError::TruncatedTag),
        ("avcC", TagType::Video, vec![0x17, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0], version),
        ("hvcC", TagType::Video, cat(&[&[0x90], b"hvc1", &[1]]), FlvError::BadHevcConfig(ConfigError::Truncated)),
        ("ASC", TagType::Audio, vec![0xAF, 0, 0], FlvError::BadAacConfig),
        ("OpusHead", TagType::Audio, cat(&[&[0x90], b"Opus", &[1]]), FlvError::BadOpusHead),
        ("AMF", TagType::Script, vec![2, 0], FlvError::BadScript(Amf0Error::Truncated)),
        ("AMF of a cue", TagType::Script, b"\x02\x00\x05onCue\x04".to_vec(), FlvError::BadScript(Amf0Error::UnknownMarker(4))),
    ];
    for (name, tag, body, error) in cases {
        assert_eq!(push(&mut ready(), tag, 0, &body), Err(error), "{name}");
        assert!(error.label().starts_with("flv_"));
    }
}

#[test]
fn nanoseconds_are_kept_to_the_microsecond() {
    let body = cat(&[&[0x97, 2, 0x01, 0x86, 0xA0, 0x01], b"avc1", &[0, 0, 40], NAL]);
    let results = push(&mut ready(), TagType::Video, 40, &body).unwrap();
    assert_eq!(frames(&results)[0].cts, 40_100);
}

#[test]
fn frames_share_the_body() {
    let mut demuxer = ready();
    let body = Bytes::from(cat(&[&[0x27, 1, 0, 0, 0], NAL]));
    let mut out = Vec::new();
    demuxer.push(TagType::Video, 1, body.clone(), Stamp::from_millis(3), &mut out).unwrap();
    let frame = frames(&out)[0];
    assert_eq!(frame.data.as_ptr(), body[5..].as_ptr());
    assert_eq!((frame.arrival, frame.segment), (Stamp::from_millis(3), 0));
}

#[test]
fn changes_are_announced_before_the_next_frame() {
    let mut demuxer = ready();
    let key = cat(&[&[0x17, 1, 0, 0, 0], NAL]);
    let mut other = AVCC.to_vec();
    other[3] = 99;
    assert_eq!(letters(&push(&mut demuxer, TagType::Video, 0, &cat(&[&[0x17, 0, 0, 0, 0], &other])).unwrap()), "");
    assert_eq!(letters(&push(&mut demuxer, TagType::Audio, 0, &[0xAF, 1, 1]).unwrap()), "TK", "another config");
    assert_eq!(letters(&push(&mut demuxer, TagType::Video, 0, &key).unwrap()), "K");
    let metadata = b"\x02\x00\x0D@setDataFrame\x02\x00\x0AonMetaData\x08\x00\x00\x00\x00\x00\x01a\x05\x00\x00\x09trailing";
    assert_eq!(letters(&push(&mut demuxer, TagType::Script, 0, metadata).unwrap()), "");
    let results = push(&mut demuxer, TagType::Video, 0, &key).unwrap();
    assert_eq!(letters(&results), "TK", "metadata");
    assert_eq!(&demuxer.tracks().metadata()[..], b"\x08\x00\x00\x00\x00\x00\x01a\x05\x00\x00\x09");
    push(&mut demuxer, TagType::Script, 0, metadata).unwrap();
    assert_eq!(letters(&push(&mut demuxer, TagType::Video, 0, &key).unwrap()), "K", "the same metadata");
    // The codec changes: the track stays.
    push(&mut demuxer, TagType::Video, 0, &cat(&[&[0x1C, 0, 0, 0, 0], HVCC])).unwrap();
    let hevc = push(&mut demuxer, TagType::Video, 0, &cat(&[&[0x1C, 1, 0, 0, 0], NAL])).unwrap();
    assert_eq!(letters(&hevc), "TK");
    let track = demuxer.tracks().first(TrackKind::Video).unwrap();
    assert_eq!((track.id, track.codec, &track.config[..]), (TrackId(0), Codec::H265, HVCC));
    assert_eq!(letters(&push(&mut demuxer, TagType::Video, 0, &key).unwrap()), "n", "the old codec again");
}

#[test]
fn metadata_in_amf3_is_kept_as_amf0() {
    let mut demuxer = ready();
    push(&mut demuxer, TagType::Script, 0, b"\x02\x00\x0AonMetaData\x11\x0A\x0B\x01\x03a\x03\x01").unwrap();
    assert_eq!(&demuxer.tracks().metadata()[..], b"\x03\x00\x01a\x01\x01\x00\x00\x09");
}

#[test]
fn other_length_sizes_become_four() {
    let mut record = AVCC.to_vec();
    record[4] = 0xFD;
    let mut demuxer = FlvDemuxer::new();
    push(&mut demuxer, TagType::Video, 0, &cat(&[&[0x17, 0, 0, 0, 0], &record])).unwrap();
    let results = push(&mut demuxer, TagType::Video, 0, &[0x17, 1, 0, 0, 0, 0, 2, 0x65, 0x88]).unwrap();
    assert_eq!(&frames(&results)[0].data[..], NAL);
    assert_eq!(&demuxer.tracks().first(TrackKind::Video).unwrap().config[..], AVCC);
}

#[test]
fn tracks_without_a_header_are_set_up_from_frame_and_metadata() {
    let mut metadata = b"\x02\x00\x0AonMetaData".to_vec();
    let field = |key: &str, number| (key.to_owned(), Value::Number(number));
    let fields = vec![field("width", 640.0), field("height", 360.0), field("framerate", 30.0)];
    amf0::encode(&Value::EcmaArray(fields), &mut metadata);
    let said = TrackShape::Video { width: 640, height: 360, frames_per_second: 30.0 };
    let audio = |sample_rate, channels| TrackShape::Audio { sample_rate, channels };
    let cases: Vec<(&str, TagType, Vec<u8>, Codec, TrackShape)> = vec![
        ("AV1", TagType::Video, cat(&[&[0x91], b"av01", &[0x12]]), Codec::Av1, said),
        ("VP8", TagType::Video, cat(&[&[0x91], b"vp08", &[0x12]]), Codec::Vp8, said),
        ("VP9", TagType::Video, cat(&[&[0x91], b"vp09", &[0x12]]), Codec::Vp9, said),
        ("Opus", TagType::Audio, cat(&[&[0x91], b"Opus", &[0xFC]]), Codec::Opus, audio(48_000, 2)),
        ("Opus as id 13, mono", TagType::Audio, vec![0xDE, 1, 0xFC], Codec::Opus, audio(48_000, 1)),
        ("MP3", TagType::Audio, vec![0x2F, 0xFF, 0xFB, 0x94, 0x64], Codec::Mp3, audio(48_000, 2)),
        ("MP3, no frame header", TagType::Audio, vec![0x2A, 1, 2, 3, 4], Codec::Mp3, audio(22_050, 1)),
        ("MP3 at 8 kHz", TagType::Audio, vec![0xEE, 1, 2, 3, 4], Codec::Mp3, audio(8_000, 1)),
        ("MP3, enhanced", TagType::Audio, cat(&[&[0x91], b".mp3", &[0xFF, 0xFB, 0x10, 0xC4]]), Codec::Mp3, audio(44_100, 1)),
        ("G.711 A", TagType::Audio, vec![0x72, 0xD5], Codec::G711A, audio(8_000, 1)),
        ("G.711 µ", TagType::Audio, vec![0x8F, 0xD5], Codec::G711U, audio(8_000, 2)),
    ];
    for (name, tag, body, codec, shape) in cases {
        let mut demuxer = FlvDemuxer::new();
        push(&mut demuxer, TagType::Script, 0, &metadata).unwrap();
        assert_eq!(letters(&push(&mut demuxer, tag, 0, &body).unwrap()), "TK", "{name}");
        assert_eq!(shapes(demuxer.tracks()), [(0, codec, shape)], "{name}");
        let config = &demuxer.tracks().iter().next().unwrap().config;
        assert_eq!(config.starts_with(b"OpusHead"), codec == Codec::Opus, "{name}");
    }
}

#[test]
fn the_reader_takes_pieces_of_any_size() {
    let whole = tags(G711A);
    assert!(whole.len() >= 3 && whole[0].0 == TagType::Script);
    for size in 1..40 {
        let mut reader = TagReader::new(4096);
        let mut seen = Vec::new();
        for piece in G711A.chunks(size) {
            reader.push(piece);
            seen.extend(std::iter::from_fn(|| reader.next_tag().unwrap()));
        }
        assert_eq!(seen, whole, "pieces of {size}");
    }
}

#[test]
fn the_reader_skips_unknown_tags_and_refuses_large_ones() {
    let tag = |kind: u8, millis: u32, body: &[u8]| {
        let mut tag = vec![kind];
        tag.put_uint(body.len() as u64, 3);
        tag.put_uint(u64::from(millis) & 0xFF_FFFF, 3);
        tag.put_u8((millis >> 24) as u8);
        cat(&[&tag, &[0, 0, 0], body, &(11 + body.len() as u32).to_be_bytes()])
    };
    let header = b"FLV\x01\x05\x00\x00\x00\x0A?\x00\x00\x00\x00";
    let stream = cat(&[header, &tag(15, 0, &[1; 500]), &tag(0x28, 0, &[1]), &tag(8, 0x0102_0304, &[0xAF])]);
    for size in [1, 7, 600] {
        let mut reader = TagReader::new(100);
        let mut seen = Vec::new();
        for piece in stream.chunks(size) {
            reader.push(piece);
            seen.extend(std::iter::from_fn(|| reader.next_tag().unwrap()));
        }
        assert_eq!(seen, [(TagType::Audio, 0x0102_0304, Bytes::from_static(&[0xAF]))]);
    }
    let mut reader = TagReader::new(100);
    reader.push(&cat(&[header, &tag(9, 0, &[0; 101])[..11]]));
    assert_eq!(reader.next_tag(), Err(FlvError::TagTooLarge { size: 101, size_max: 100 }));
    for no_flv in [&b"FLW\x01\x05\x00\x00\x00\x09"[..], b"FLV\x01\x05\x00\x00\x00\x08", b"FLV\x01\x05\xFF\x00\x00\x09"] {
        let mut reader = TagReader::new(100);
        reader.push(no_flv);
        assert_eq!(reader.next_tag(), Err(FlvError::NotFlv));
    }
}
