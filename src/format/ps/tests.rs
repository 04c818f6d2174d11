//! Program streams with the quirks of cameras, whole and cut at every byte, and 10⁵ that are cut, flipped and repeated.

use super::*;
use crate::format::flv::{Demuxed as FlvDemuxed, FlvDemuxer, TagReader};
use crate::media::TrackId;
use crate::media::h264::AvcConfig;
use crate::media::h265::HevcConfig;

mod ends;

use ps_writer::{AAC, G711A, H264, H265, Lengths, PLAIN, Style, adts, annex_b, pes};

const H264_FILE: &[u8] = include_bytes!("../../../tests/corpus/flv/h264_bframes_aac.flv");
const H265_FILE: &[u8] = include_bytes!("../../../tests/corpus/flv/hevc_opus.flv");
const START: u64 = 900_000;

/// The frames of a file's picture and, of AAC, its sound; and its parameter sets.
struct Clip {
    codec: Codec,
    sets: Vec<Vec<u8>>,
    pictures: Vec<Frame>,
    sounds: Vec<Frame>,
}

fn clip(file: &'static [u8]) -> Clip {
    let (mut reader, mut demuxer, mut out) = (TagReader::new(1 << 20), FlvDemuxer::new(), Vec::new());
    reader.push(file);
    while let Some((kind, timestamp, body)) = reader.next_tag().unwrap() {
        demuxer.push(kind, timestamp, body, Stamp::ZERO, &mut out).unwrap();
    }
    let tracks = demuxer.tracks().clone();
    let video = tracks.first(crate::media::TrackKind::Video).unwrap();
    let sets = match video.codec {
        Codec::H265 => {
            let config = HevcConfig::parse(&video.config).unwrap();
            [config.vps, config.sps, config.pps].concat()
        }
        _ => {
            let config = AvcConfig::parse(&video.config).unwrap();
            [config.sps, config.pps].concat()
        }
    };
    let frames = |id: TrackId| {
        let frame = |demuxed: &FlvDemuxed| match demuxed {
            FlvDemuxed::Event(MediaEvent::Frame(frame)) if frame.track == id => Some(frame.clone()),
            _ => None,
        };
        out.iter().filter_map(frame).collect::<Vec<_>>()
    };
    let sounds = tracks.iter().find(|track| track.codec == Codec::Aac).map_or(Vec::new(), |track| frames(track.id));
    let sets = sets.iter().map(|set| set.to_vec()).collect();
    Clip { codec: video.codec, sets, pictures: frames(video.id), sounds }
}

/// 90 kHz, so that it comes back as the same microseconds.
fn ticks(time: MediaTime) -> u64 {
    START + (time.as_micros() * 9 / 100) as u64
}

/// What is sent: each frame's bytes; a picture has the sound that belongs in front of it behind it.
fn sent(clip: &Clip, style: &Style, sound: u8) -> Vec<Vec<u8>> {
    let mut sounds = clip.sounds.iter().peekable();
    let mut out = Vec::new();
    for picture in &clip.pictures {
        let sets = if picture.key { &clip.sets[..] } else { &[] };
        let pts = picture.dts.offset(picture.cts.into());
        out.push(style.picture(picture.key, ticks(pts), ticks(picture.dts), &annex_b(sets, &picture.data)));
        while let Some(frame) = sounds.next_if(|frame| frame.dts <= picture.dts) {
            let payload = if sound == AAC { adts(4, 1, &frame.data) } else { vec![0xD5; 160] };
            out.push(style.sound(ticks(frame.dts), &payload));
        }
    }
    out
}

fn demux(packets: &[Vec<u8>], piece: usize, marks: bool) -> (Vec<Demuxed>, PsDemuxer) {
    let (mut demuxer, mut out) = (PsDemuxer::new(OnLoss::Pass), Vec::new());
    for packet in packets {
        for piece in packet.chunks(piece) {
            demuxer.push(Stamp::ZERO, piece, &mut out);
        }
        if marks {
            demuxer.frame_end(Stamp::ZERO, &mut out);
        }
    }
    (out, demuxer)
}

fn frames(out: &[Demuxed], id: TrackId) -> Vec<&Frame> {
    let frame = |demuxed: &'_ Demuxed| matches!(demuxed, Demuxed::Event(MediaEvent::Frame(frame)) if frame.track == id);
    let as_frame = |demuxed| match demuxed {
        &Demuxed::Event(MediaEvent::Frame(ref frame)) => Some(frame),
        _ => None,
    };
    out.iter().filter(|demuxed| frame(demuxed)).filter_map(as_frame).collect()
}

fn tracks(out: &[Demuxed]) -> Vec<Codec> {
    let last = out.iter().rev().find_map(|demuxed| match demuxed {
        Demuxed::Event(MediaEvent::Tracks(tracks)) => Some(tracks.iter().map(|track| track.codec).collect()),
        _ => None,
    });
    last.unwrap_or_default()
}

fn discards(out: &[Demuxed]) -> usize {
    out.iter().filter(|demuxed| matches!(demuxed, Demuxed::Discarded(_))).count()
}

/// Fails unless the pictures are those of the clip up to the last few, with their times.
#[track_caller]
fn assert_pictures(out: &[Demuxed], clip: &Clip, missing_max: usize, name: &str) {
    let seen = frames(out, VIDEO);
    assert!(seen.len() + missing_max >= clip.pictures.len(), "{name}: {} of {}", seen.len(), clip.pictures.len());
    for (at, (seen, sent)) in seen.iter().zip(&clip.pictures).enumerate() {
        assert!(seen.data == sent.data, "{name}: picture {at}");
        assert_eq!((seen.key, seen.cts / 100), (sent.key, sent.cts / 100), "{name}: picture {at}");
        let time = seen.dts.as_micros() - (START as i64) * 100 / 9;
        assert!((time - sent.dts.as_micros()).abs() < 100, "{name}: picture {at}: {time}, {:?}", sent.dts);
    }
}

#[test]
fn streams_of_cameras() {
    let (h264, h265) = (clip(H264_FILE), clip(H265_FILE));
    // What cannot be known to have ended: the last picture, where nothing marks it.
    let cases: [(&str, &Clip, Style, u8, bool, usize); 15] = [
        ("as the standard says", &h264, PLAIN, G711A, true, 0),
        ("AAC", &h264, Style { map: Some((H264, AAC)), ..PLAIN }, AAC, true, 0),
        ("without a map", &h264, Style { map: None, ..PLAIN }, AAC, true, 0),
        ("no system header, stuffing", &h264, Style { system_header: false, stuffing: 7, ..PLAIN }, G711A, true, 0),
        ("the map says no sound", &h264, Style { map: Some((H264, 0)), ..PLAIN }, AAC, true, 0),
        ("the map says G.711, AAC comes", &h264, PLAIN, AAC, true, 0),
        ("the map says H.265, H.264 comes", &h264, Style { map: Some((H265, AAC)), ..PLAIN }, AAC, true, 0),
        ("lengths of zero", &h264, Style { lengths: Lengths::Zero, ..PLAIN }, G711A, true, 0),
        ("lengths too short", &h264, Style { lengths: Lengths::Off(-20), ..PLAIN }, G711A, true, 0),
        ("lengths too long", &h264, Style { lengths: Lengths::Off(3_000), ..PLAIN }, G711A, true, 0),
        ("several packets a picture", &h264, Style { pes_bytes_max: 200, ..PLAIN }, G711A, true, 0),
        ("no markers", &h264, PLAIN, G711A, false, 1),
        ("no markers, several packets a picture", &h264, Style { pes_bytes_max: 200, ..PLAIN }, G711A, false, 1),
        ("H.265", &h265, Style { map: Some((H265, AAC)), ..PLAIN }, AAC, true, 0),
        ("H.265, the map says H.264", &h265, PLAIN, AAC, true, 0),
    ];
    for (name, clip, style, sound, marks, missing_max) in cases {
        let packets = sent(clip, &style, sound);
        let (whole, _) = demux(&packets, usize::MAX, marks);
        assert_pictures(&whole, clip, missing_max, name);
        assert_eq!(discards(&whole), 0, "{name}");
        let sounds = frames(&whole, AUDIO);
        if !clip.sounds.is_empty() {
            let codec = if sound == AAC { Codec::Aac } else { Codec::G711A };
            assert_eq!(tracks(&whole), [clip.codec, codec], "{name}");
            let sent = packets.iter().filter(|packet| packet[3] == ps_writer::AUDIO_ID).count();
            assert_eq!(sounds.len(), sent, "{name}");
            let is_same = |(seen, sent): (&&Frame, &Frame)| sound != AAC || seen.data == sent.data;
            assert!(sounds.iter().zip(&clip.sounds).all(is_same), "{name}");
        }
        for piece in [1, 2, 3, 7, 188, 1_400] {
            let (cut, _) = demux(&packets, piece, marks);
            assert!(cut == whole, "{name}: in pieces of {piece}");
        }
    }
}

/// ffmpeg writes no stream map, packs of 2,048 bytes, and pictures of more than one packet; GStreamer access unit delimiters, descriptors,
/// and a pack header now and then. Neither has RTP's marks.
#[test]
fn files_of_other_muxers() {
    let (h264, h265) = (clip(H264_FILE), clip(H265_FILE));
    let cases: [(&str, &Clip, &[u8], bool); 4] = [
        ("ffmpeg, vob", &h264, include_bytes!("../../../tests/corpus/ps/ffmpeg_vob_h264"), false),
        ("ffmpeg, mpeg", &h264, include_bytes!("../../../tests/corpus/ps/ffmpeg_mpeg_h264"), false),
        ("ffmpeg, vob, H.265", &h265, include_bytes!("../../../tests/corpus/ps/ffmpeg_vob_h265"), false),
        ("GStreamer", &h264, include_bytes!("../../../tests/corpus/ps/gst_h264_aac"), true),
    ];
    for (name, clip, file, has_sound) in cases {
        for piece in [1, 188, 1_400] {
            let (mut out, mut demuxer) = demux(&[file.to_vec()], piece, false);
            demuxer.frame_end(Stamp::ZERO, &mut out);
            let pictures = frames(&out, VIDEO);
            assert_eq!(pictures.len(), clip.pictures.len(), "{name}, {piece}");
            // GStreamer leaves the decoding times of the first two out, which would be negative.
            let time_of = |frame: &Frame| frame.dts.offset(if has_sound { frame.cts.into() } else { 0 }).as_micros();
            let time_in = |frame: &Frame, frames: &[&Frame]| time_of(frame) - time_of(frames[0]);
            let sent: Vec<&Frame> = clip.pictures.iter().collect();
            for (at, (seen, sent_one)) in pictures.iter().zip(&sent).enumerate() {
                // Without a map the codec shows with its first parameter set: an SEI message in front of that is not understood.
                // ffmpeg repeats that of H.265's set-up record at key pictures.
                let (seen_data, sent_data) = (&seen.data, &sent_one.data);
                let is_nearly = (at == 0 && sent_data.ends_with(seen_data)) || (seen.key && seen_data.ends_with(sent_data));
                let is_same = seen_data == sent_data || (!has_sound && is_nearly);
                assert!(
                    is_same && seen.key == sent_one.key,
                    "{name}, {piece}: picture {at}: {} bytes of {}",
                    seen.data.len(),
                    sent_one.data.len()
                );
                let (time, due) = (time_in(seen, &pictures), time_in(sent_one, &sent));
                // ffmpeg puts small pictures into one packet, with a time for the first: the others' are counted on.
                let off_max = if has_sound { 1_000 } else { 41_000 };
                assert!((time - due).abs() <= off_max, "{name}, {piece}: {time} µs, sent at {due}");
            }
            if has_sound {
                let sounds = frames(&out, AUDIO);
                let is_same = sounds.iter().zip(&clip.sounds).all(|(seen, sent)| seen.data == sent.data);
                assert!(
                    is_same && sounds.len() == clip.sounds.len(),
                    "{name}, {piece}: {} of {}",
                    sounds.len(),
                    clip.sounds.len()
                );
            }
            assert_eq!(discards(&out), 0, "{name}, {piece}");
        }
    }
}

/// As of any publisher: whoever gives a stream out waits for sound that is announced, so players know of it from the start.
#[test]
fn sound_that_the_map_names_is_announced_with_the_first_picture() {
    let first_tracks = |style: Style| {
        let (out, _) = demux(&sent(&clip(H264_FILE), &style, AAC)[..1], usize::MAX, true);
        tracks(&out)
    };
    assert_eq!(first_tracks(Style { map: Some((H264, AAC)), ..PLAIN }), [Codec::H264, Codec::Aac]);
    assert_eq!(first_tracks(PLAIN), [Codec::H264, Codec::G711A]);
    assert_eq!(first_tracks(Style { map: Some((H264, 0)), ..PLAIN }), [Codec::H264]);
    assert_eq!(first_tracks(Style { map: None, ..PLAIN }), [Codec::H264]);
}

#[test]
fn a_picture_is_given_out_under_the_codec_that_it_is_of() {
    let (first, second) = (clip(H264_FILE), clip(H265_FILE));
    // Without lengths and marks the last picture of one codec is known to be whole only by the first of the other.
    for (lengths, marks) in [(PLAIN.lengths, true), (Lengths::Zero, false)] {
        let style = Style { lengths, ..PLAIN };
        let packets = [sent(&first, &style, G711A), sent(&second, &style, G711A)].concat();
        let (out, _) = demux(&packets, usize::MAX, marks);
        let mut codec = None;
        let mut pictures = Vec::new();
        for demuxed in &out {
            match demuxed {
                Demuxed::Event(MediaEvent::Tracks(tracks)) => codec = tracks.get(VIDEO).map(|track| track.codec),
                Demuxed::Event(MediaEvent::Frame(frame)) if frame.track == VIDEO => pictures.push((codec.unwrap(), &frame.data)),
                _ => {}
            }
        }
        let sent = [&first, &second].into_iter().flat_map(|clip| clip.pictures.iter().map(|picture| (clip.codec, &picture.data)));
        let sent: Vec<_> = sent.collect();
        let last = if marks { sent.len() } else { sent.len() - 1 };
        assert!(pictures == sent[..last], "{} of {} pictures, marks: {marks}", pictures.len(), sent.len());
    }
}

#[test]
fn a_stream_is_the_same_wherever_it_is_cut() {
    let clip = clip(H264_FILE);
    let style = Style { map: Some((H264, AAC)), ..PLAIN };
    let packets = &sent(&clip, &style, AAC)[..6];
    let bytes = packets.concat();
    let run = |cut: usize| {
        let (mut demuxer, mut out) = (PsDemuxer::new(OnLoss::Pass), Vec::new());
        demuxer.push(Stamp::ZERO, &bytes[..cut], &mut out);
        demuxer.push(Stamp::ZERO, &bytes[cut..], &mut out);
        demuxer.frame_end(Stamp::ZERO, &mut out);
        out
    };
    let whole = run(0);
    assert!(frames(&whole, VIDEO).len() > 2 && !frames(&whole, AUDIO).is_empty());
    for cut in 1..bytes.len() {
        assert!(run(cut) == whole, "cut at {cut}");
    }
}

#[test]
fn a_frame_goes_out_with_its_last_byte() {
    let clip = clip(H264_FILE);
    for (name, marks) in [("by the marker", true), ("by the size of its packet, once another has ended so", false)] {
        let (mut demuxer, mut out, mut pictures) = (PsDemuxer::new(OnLoss::Pass), Vec::new(), 0);
        for packet in sent(&clip, &PLAIN, G711A) {
            let is_picture = packet[3] == 0xBA;
            demuxer.push(Stamp::ZERO, &packet, &mut out);
            if marks {
                demuxer.frame_end(Stamp::ZERO, &mut out);
            }
            pictures += usize::from(is_picture);
            if marks || pictures > 1 {
                assert_eq!(frames(&out, VIDEO).len(), pictures, "{name}");
            }
        }
    }
}

/// Datagrams as RTP brings them. A length that is too long is found out by the picture that comes behind it, and believed no more from then on.
#[test]
fn markers_count_whatever_the_lengths_say() {
    let clip = clip(H264_FILE);
    let cases =
        [(Lengths::Right, 0), (Lengths::Off(-20), 0), (Lengths::Zero, 0), (Lengths::Off(20), 1), (Lengths::Off(3_000), 1)];
    for ((lengths, late_max), pes_bytes_max) in cases.into_iter().flat_map(|case| [(case, 65_000), (case, 200)]) {
        let style = Style { lengths, pes_bytes_max, ..PLAIN };
        let name = format!("{lengths:?}, packets of {pes_bytes_max}");
        let (mut demuxer, mut out) = (PsDemuxer::new(OnLoss::Pass), Vec::new());
        for (at, picture) in clip.pictures.iter().enumerate() {
            let sets = if picture.key { &clip.sets[..] } else { &[] };
            let pts = picture.dts.offset(picture.cts.into());
            let packet = style.picture(picture.key, ticks(pts), ticks(picture.dts), &annex_b(sets, &picture.data));
            demuxer.frame_begins(Stamp::ZERO, &packet, &mut out);
            for datagram in packet.chunks(1_400) {
                demuxer.push(Stamp::ZERO, datagram, &mut out);
            }
            demuxer.frame_end(Stamp::ZERO, &mut out);
            let late = at + 1 - frames(&out, VIDEO).len();
            assert!(late == 0 || at < late_max, "{name}: {late} late behind picture {at}");
        }
        assert_pictures(&out, &clip, 0, &name);
        assert_eq!(discards(&out), 0, "{name}");
    }
}

/// As of a sender that counts what it had in front into the last one.
#[test]
fn markers_count_where_only_the_last_length_is_too_long() {
    for with_sound in [false, true] {
        only_the_last_length_is_too_long(with_sound);
    }
}

fn only_the_last_length_is_too_long(with_sound: bool) {
    let clip = clip(H264_FILE);
    let (mut demuxer, mut out) = (PsDemuxer::new(OnLoss::Pass), Vec::new());
    for (at, picture) in clip.pictures.iter().enumerate() {
        let sets = if picture.key { &clip.sets[..] } else { &[] };
        let unit = annex_b(sets, &picture.data);
        let (full, last) = unit.split_at(unit.len() / 2);
        let time = ticks(picture.dts);
        let packet =
            [PLAIN.picture(picture.key, time, time, full), pes(ps_writer::VIDEO_ID, None, last, Lengths::Off(20))].concat();
        demuxer.frame_begins(Stamp::ZERO, &packet, &mut out);
        demuxer.push(Stamp::ZERO, &packet, &mut out);
        demuxer.frame_end(Stamp::ZERO, &mut out);
        let late = at + 1 - frames(&out, VIDEO).len();
        assert!(late == 0 || at == 0, "{late} late behind picture {at}, sound {with_sound}");
        if with_sound {
            let sound = pes(ps_writer::AUDIO_ID, Some((time, time)), &[0x55; 160], Lengths::Right);
            demuxer.frame_begins(Stamp::ZERO, &sound, &mut out);
            demuxer.push(Stamp::ZERO, &sound, &mut out);
            demuxer.frame_end(Stamp::ZERO, &mut out);
        }
    }
}

#[test]
fn markers_that_lie_are_not_heeded() {
    let clip = clip(H264_FILE);
    for lengths in [Lengths::Right, Lengths::Zero] {
        let (mut demuxer, mut out) = (PsDemuxer::new(OnLoss::Pass), Vec::new());
        for packet in sent(&clip, &Style { lengths, ..PLAIN }, G711A) {
            for piece in packet.chunks(150) {
                demuxer.push(Stamp::ZERO, piece, &mut out);
                demuxer.frame_end(Stamp::ZERO, &mut out);
            }
        }
        let seen = frames(&out, VIDEO);
        let broken = seen.iter().filter(|frame| !clip.pictures.iter().any(|sent| sent.data == frame.data)).count();
        assert!(broken <= usize::from(lengths == Lengths::Zero), "{lengths:?}: {broken}");
        assert!(seen.len() + 2 >= clip.pictures.len(), "{lengths:?}: {}", seen.len());
    }
}

#[test]
fn behind_a_loss_the_next_pack_counts() {
    let clip = clip(H264_FILE);
    let packets = sent(&clip, &PLAIN, G711A);
    let (mut demuxer, mut out) = (PsDemuxer::new(OnLoss::Pass), Vec::new());
    let lost = packets.iter().rposition(|packet| packet[3] == 0xBA && packet.len() > 60).unwrap() / 2;
    let lost = (lost..).find(|at| packets[*at][3] == 0xBA).unwrap();
    for (at, packet) in packets.iter().enumerate() {
        if at == lost {
            demuxer.push(Stamp::ZERO, &packet[..packet.len() / 2], &mut out);
            demuxer.lost(&mut out);
            continue;
        }
        demuxer.push(Stamp::ZERO, packet, &mut out);
        demuxer.frame_end(Stamp::ZERO, &mut out);
    }
    let seen = frames(&out, VIDEO);
    assert_eq!(seen.len() + 1, clip.pictures.len());
    assert!(seen.iter().all(|frame| clip.pictures.iter().any(|sent| sent.data == frame.data)));
}

#[test]
fn codecs_that_are_not_carried_have_names() {
    let clip = clip(H264_FILE);
    let packets = sent(&clip, &Style { map: Some((0x80, 0x9B)), ..PLAIN }, G711A);
    let (out, mut demuxer) = demux(&packets[..2], usize::MAX, true);
    assert_eq!((demuxer.take_left_out(), demuxer.take_left_out()), (Some("SVAC video"), None));
    assert!(out.iter().all(|demuxed| *demuxed == Demuxed::Discarded(Discard::UnknownCodec)));
}

#[test]
fn the_clock_wraps() {
    let clip = clip(H264_FILE);
    let wrap = 1 << 33;
    let (mut demuxer, mut out) = (PsDemuxer::new(OnLoss::Pass), Vec::new());
    for (number, picture) in clip.pictures.iter().take(10).enumerate() {
        let sets = if picture.key { &clip.sets[..] } else { &[] };
        let time = (wrap - 18_000 + 3_600 * number as u64) % wrap;
        demuxer.push(Stamp::ZERO, &PLAIN.picture(picture.key, time, time, &annex_b(sets, &picture.data)), &mut out);
        demuxer.frame_end(Stamp::ZERO, &mut out);
    }
    let times: Vec<i64> = frames(&out, VIDEO).iter().map(|frame| frame.dts.as_micros()).collect();
    assert_eq!(times.len(), 10);
    assert!(times.windows(2).all(|pair| (39_999..=40_001).contains(&(pair[1] - pair[0]))), "{times:?}");
}

#[test]
fn frames_of_sound_may_straddle_packets() {
    let clip = clip(H264_FILE);
    let whole: Vec<u8> = clip.sounds.iter().flat_map(|frame| adts(4, 1, &frame.data)).collect();
    let style = Style { map: Some((H264, AAC)), ..PLAIN };
    let mut packets = vec![style.picture(true, START, START, &annex_b(&clip.sets, &clip.pictures[0].data))];
    packets.extend(whole.chunks(100).map(|piece| pes(ps_writer::AUDIO_ID, None, piece, Lengths::Right)));
    packets[0] =
        Style { map: Some((H264, AAC)), ..PLAIN }.picture(true, START, START, &annex_b(&clip.sets, &clip.pictures[0].data));
    let (out, _) = demux(&packets, usize::MAX, true);
    let seen = frames(&out, AUDIO);
    assert_eq!(seen.len(), clip.sounds.len());
    assert!(seen.iter().zip(&clip.sounds).all(|(seen, sent)| seen.data == sent.data));
}

#[test]
fn a_unit_that_never_ends_is_given_up() {
    let (mut demuxer, mut out) = (PsDemuxer::new(OnLoss::Pass), Vec::new());
    let clip = clip(H264_FILE);
    let mut first = PLAIN.picture(true, START, START, &annex_b(&clip.sets, &clip.pictures[0].data));
    first.extend_from_slice(&pes(ps_writer::VIDEO_ID, None, &[0, 0, 1, 0x41, 0x80], Lengths::Zero));
    demuxer.push(Stamp::ZERO, &first, &mut out);
    let mut held_bytes_max = 0;
    for _ in 0..200 {
        demuxer.push(Stamp::ZERO, &[0x55; 65_536], &mut out);
        held_bytes_max = held_bytes_max.max(demuxer.held_bytes());
    }
    assert!((UNIT_BYTES_MAX / 2..=HELD_BYTES_MAX).contains(&held_bytes_max), "{held_bytes_max}");
    assert!(out.contains(&Demuxed::Discarded(Discard::BrokenFrame)));
}

/// Streams that are cut, flipped and repeated anywhere: no panic, no more than the limit is kept, and what follows a pack header that stands
/// where one can be is understood again.
#[test]
fn broken_streams_are_survived() {
    const CASES: u64 = 100_000;
    let clips = [clip(H264_FILE), clip(H265_FILE)];
    let styles = [
        PLAIN,
        Style { map: None, ..PLAIN },
        Style { lengths: Lengths::Zero, ..PLAIN },
        Style { lengths: Lengths::Off(9), ..PLAIN },
        Style { pes_bytes_max: 120, system_header: false, ..PLAIN },
    ];
    let streams: Vec<(usize, Vec<Vec<u8>>)> =
        (0..10).map(|at| (at % 2, sent(&clips[at % 2], &styles[at / 2], if at % 3 == 0 { AAC } else { G711A }))).collect();
    for seed in 0..CASES {
        let mut random = fastrand::Rng::with_seed(seed);
        let (of, packets) = &streams[random.usize(..streams.len())];
        let from = random.usize(..packets.len() - 4);
        let mut bytes = packets[from..from + 4].concat();
        bytes.truncate(1_500);
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            match random.u8(..3) {
                0 => bytes.truncate(at.max(1)),
                1 => bytes[at] ^= 1 << random.u8(..8),
                _ => {
                    let end = (at + random.usize(1..300)).min(bytes.len());
                    bytes.extend_from_within(at..end);
                }
            }
        }
        let (mut demuxer, mut out) = (PsDemuxer::new(OnLoss::Pass), Vec::new());
        for piece in bytes.chunks(random.usize(1..700)) {
            demuxer.push(Stamp::ZERO, piece, &mut out);
            if random.u8(..4) == 0 {
                demuxer.frame_end(Stamp::ZERO, &mut out);
            }
            assert!(demuxer.held_bytes() <= HELD_BYTES_MAX, "seed {seed}");
        }
        assert_in_step_again(demuxer, &clips[*of], seed % 2 == 0, seed);
    }
}

/// A pack header further it is understood again, whether the transport has told of a loss or not.
#[track_caller]
fn assert_in_step_again(mut demuxer: PsDemuxer, clip: &Clip, is_told: bool, seed: u64) {
    let mut out = Vec::new();
    if is_told {
        demuxer.lost(&mut out);
    }
    let style = Style { map: Some((if clip.codec == Codec::H265 { H265 } else { H264 }, G711A)), ..PLAIN };
    let unit = annex_b(&clip.sets, &clip.pictures[0].data);
    out.clear();
    for number in 0..5 {
        let time = START + 3_600 * number;
        demuxer.push(Stamp::from_millis(10_000), &style.picture(true, time, time, &unit), &mut out);
        demuxer.frame_end(Stamp::from_millis(10_000), &mut out);
    }
    // The first pack may be taken for the rest of a header that was cut, and the last picture goes out when the next begins, if the sender is
    // not believed any more: the three between are there. What was under way before may come too.
    let good = frames(&out, VIDEO).iter().filter(|frame| frame.data == clip.pictures[0].data).count();
    assert!(good >= 3, "seed {seed}: {good}");
}

/// As ffmpeg's muxer does: packs of 2,048 bytes, pictures begin anywhere in them, and their times are with the first that does.
#[test]
fn pictures_may_begin_anywhere() {
    let clip = clip(H264_FILE);
    let pictures = clip.pictures.iter().map(|picture| annex_b(if picture.key { &clip.sets } else { &[] }, &picture.data));
    let stream: Vec<u8> = pictures.collect::<Vec<_>>().concat();
    let mut packets: Vec<Vec<u8>> = stream.chunks(700).map(|piece| PLAIN.picture(false, START, START, piece)).collect();
    packets.push(vec![0, 0, 1, 0xB9]);
    let (out, _) = demux(&packets, 1_400, false);
    let seen = frames(&out, VIDEO);
    assert_eq!(seen.len(), clip.pictures.len(), "the end of the stream ends the last one");
    assert!(seen.iter().zip(&clip.pictures).all(|(seen, sent)| seen.data == sent.data));
}

/// One picture of a camera that says no time, `number` intervals after the first: in RTP of that clock, as it arrives.
fn untimed(
    clip: &Clip,
    number: u64,
    interval_ms: u64,
    rtp: impl Fn(u64) -> u32,
    demuxer: &mut PsDemuxer,
    out: &mut Vec<Demuxed>,
) {
    let picture = &clip.pictures[0];
    let now = Stamp::from_millis(10_000 + number * interval_ms + number % 3);
    demuxer.timestamp(rtp(number * interval_ms));
    demuxer.push(now, &PLAIN.picture(false, START, START, &[]), out);
    demuxer.push(now, &pes(ps_writer::VIDEO_ID, None, &annex_b(&clip.sets, &picture.data), Lengths::Right), out);
    demuxer.frame_end(now, out);
}

#[test]
fn pictures_without_a_time_follow_the_clock_of_rtp_or_their_arrival() {
    let clip = clip(H264_FILE);
    // 15 pictures a second; how far a time may be from the true one: an interval, until a clock is found to be useless.
    type Clock = fn(u64) -> u32;
    let clocks: [(&str, Clock, i64); 5] = [
        ("90 kHz", |ms| (ms * 90) as u32, 100),
        ("90 kHz that wraps", |ms| ((ms * 90) as u32).wrapping_sub(20_000), 100),
        ("it stands still", |_| 7, 3_000),
        ("milliseconds", |ms| ms as u32, 66_000),
        ("8 kHz", |ms| (ms * 8) as u32, 66_000),
    ];
    for (name, clock, off_max) in clocks {
        let (mut demuxer, mut out) = (PsDemuxer::new(OnLoss::Pass), Vec::new());
        for number in 0..100 {
            untimed(&clip, number, 66, clock, &mut demuxer, &mut out);
        }
        let seen = frames(&out, VIDEO);
        assert_eq!(seen.len(), 100, "{name}");
        for (number, frame) in seen.iter().enumerate() {
            let off = frame.dts.as_micros() - seen[0].dts.as_micros() - number as i64 * 66_000;
            assert!(off.abs() <= off_max, "{name}: picture {number} is off by {off} µs");
        }
        assert!(seen.windows(2).all(|pair| pair[0].dts < pair[1].dts), "{name}");
    }
}

/// As where the start code of a picture is in two packets, on a busy sender.
#[test]
fn one_picture_without_a_time_keeps_step_with_its_neighbours() {
    let clip = clip(H264_FILE);
    let unit = annex_b(&clip.sets, &clip.pictures[0].data);
    let (mut demuxer, mut out) = (PsDemuxer::new(OnLoss::Pass), Vec::new());
    for number in 0..20u64 {
        let late_ms = if number % 7 == 5 { 60 } else { 0 };
        let (now, ticks) = (Stamp::from_millis(10_000 + number * 40 + late_ms), START + number * 3_600);
        demuxer.timestamp(((number * 40 + late_ms) * 90) as u32);
        let times = (number % 7 != 5).then_some((ticks, ticks));
        demuxer.push(now, &PLAIN.picture(false, ticks, ticks, &[]), &mut out);
        demuxer.push(now, &pes(ps_writer::VIDEO_ID, times, &unit, Lengths::Right), &mut out);
        demuxer.frame_end(now, &mut out);
    }
    let times: Vec<i64> = frames(&out, VIDEO).iter().map(|frame| frame.dts.as_micros()).collect();
    assert!(times.len() == 20 && times.windows(2).all(|pair| pair[1] - pair[0] == 40_000), "{times:?}");
}

#[test]
fn sound_that_changes_inside_a_packet_is_told_in_its_place() {
    let mut out = Vec::new();
    let mut demuxer = PsDemuxer::new(OnLoss::Pass);
    let raw = [0x21, 0x1B, 0x80, 0, 0];
    // 44.1 kHz, then 48 kHz.
    demuxer.push(Stamp::ZERO, &PLAIN.picture(false, 0, 0, &[]), &mut out);
    let payload = [adts(4, 2, &raw), adts(4, 2, &raw), adts(3, 2, &raw)].concat();
    demuxer.push(Stamp::ZERO, &pes(ps_writer::AUDIO_ID, Some((0, 0)), &payload, Lengths::Right), &mut out);
    let events: Vec<Option<u32>> = out
        .iter()
        .map(|demuxed| match demuxed {
            Demuxed::Event(MediaEvent::Tracks(tracks)) => match tracks.get(AUDIO).unwrap().shape {
                crate::media::TrackShape::Audio { sample_rate, .. } => Some(sample_rate),
                crate::media::TrackShape::Video { .. } | crate::media::TrackShape::Data => None,
            },
            _ => None,
        })
        .collect();
    assert_eq!(events, [Some(44_100), None, None, Some(48_000), None], "{out:?}");
}

#[test]
fn what_the_map_says_beside_what_is_there() {
    let (h264, h265) = (clip(H264_FILE), clip(H265_FILE));
    let cases: [(&str, &Clip, Style, Map); 4] = [
        ("right", &h264, PLAIN, Map::Right),
        ("none", &h264, Style { map: None, ..PLAIN }, Map::Missing { is: Codec::H264 }),
        ("none of H.265", &h265, Style { map: None, ..PLAIN }, Map::Missing { is: Codec::H265 }),
        ("wrong", &h265, PLAIN, Map::Wrong { says: Codec::H264, is: Codec::H265 }),
    ];
    for (name, clip, style, map) in cases {
        let (_, demuxer) = demux(&sent(clip, &style, G711A), usize::MAX, true);
        assert_eq!(demuxer.map(), Some(map), "{name}");
    }
    assert_eq!(PsDemuxer::new(OnLoss::Pass).map(), None);
}

/// A slice of one field (H.264 §7.3.3): first macroblock 0, type 7 (or 5), set 0, frame number, field, which.
fn field(frame_number_bits: u32, number: u32, is_bottom: bool, is_idr: bool) -> Vec<u8> {
    // ue(0) = 1, ue(7) = 0001000, ue(0) = 1.
    let front = 0b1_0001_0001_u64;
    let bits = ((front << frame_number_bits | u64::from(number)) << 1 | 1) << 1 | u64::from(is_bottom);
    let length = 9 + frame_number_bits + 2;
    let header = if is_idr { 0x65 } else { 0x61 };
    [&[header][..], &(bits << (64 - length) | 0x5555_5555_5555_5555 >> length).to_be_bytes(), &[0x55; 40]].concat()
}

#[test]
fn two_fields_are_one_picture() {
    let sps = include_bytes!("../../../tests/corpus/h264/sps_1080i");
    let bits = crate::media::h264::Sps::parse(sps).unwrap().fields.unwrap().frame_number_bits();
    let annex_b = |nals: &[&[u8]]| nals.iter().flat_map(|nal| [&[0, 0, 0, 1][..], nal].concat()).collect::<Vec<u8>>();
    let pps = [0x68, 0xCE, 0x3C, 0x80];
    let (mut packets, mut sent) = (Vec::new(), Vec::new());
    for number in 0..4u32 {
        let fields = [field(bits, number, false, number == 0), field(bits, number, true, false)];
        let mut nals: Vec<&[u8]> = if number == 0 { vec![sps, &pps] } else { Vec::new() };
        nals.extend(fields.iter().map(Vec::as_slice));
        let time = START + 3_600 * u64::from(number);
        packets.push(PLAIN.picture(number == 0, time, time, &annex_b(&nals)));
        sent.push(fields.map(|field| [&(field.len() as u32).to_be_bytes()[..], &field].concat()).concat());
    }
    for (piece, marks) in [(usize::MAX, true), (1, true), (usize::MAX, false)] {
        let (out, _) = demux(&packets, piece, marks);
        let seen = frames(&out, VIDEO);
        assert_eq!(seen.len(), sent.len(), "in pieces of {piece}, marks {marks}");
        for (at, (seen, sent)) in seen.iter().zip(&sent).enumerate() {
            assert!(seen.data.ends_with(sent), "picture {at}: {:?}", seen.data);
            assert_eq!(seen.dts.as_micros() - frames(&out, VIDEO)[0].dts.as_micros(), 40_000 * at as i64);
        }
    }
}
