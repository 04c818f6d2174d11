//! The writer, byte for byte where that is short. What comes back out of a whole stream stands with the muxer, `format/rtp/mux/single`.

use bytes::Bytes;

use super::*;
use crate::format::pes::START_CODE;
use crate::format::rtp::mux::tests::{frame, h264_config, track, unit};
use crate::media::aac::AacConfig;
use crate::media::{Codec, MediaTime, Stamp, Track, TrackShape};

fn writer(tracks: Vec<Track>) -> ProgramWriter {
    let mut writer = ProgramWriter::default();
    writer.set_tracks(&Tracks::new(tracks, Bytes::new()));
    writer
}

fn written(writer: &mut ProgramWriter, frame: &Frame) -> Vec<u8> {
    let mut out = Vec::new();
    writer.frame(frame, &mut |bytes| out.extend_from_slice(bytes));
    out
}

const SPS: &[u8] = &[0x67, 0x42, 0xC0, 0x1E, 0xD9, 0x00, 0xA0, 0x47, 0xFE, 0x88];
const PPS: &[u8] = &[0x68, 0xCE, 0x38, 0x80];

#[test]
fn a_key_picture_has_everything_in_front() {
    let mut writer = writer(vec![track(0, Codec::H264, h264_config()), track(1, Codec::G711A, Bytes::new())]);
    let mut picture = frame(0, 0, true, unit(&[&[0x65, 0x88, 1]]));
    picture.cts = 40_000;
    let expected = [
        // 90,000 ticks.
        &[0, 0, 1, 0xBA, 0x44, 0x00, 0x16, 0xFC, 0x84, 0x01, 0x06, 0x1A, 0x83, 0xF8][..],
        &[0, 0, 1, 0xBB, 0, 12, 0x83, 0x0D, 0x41, 0x04, 0x21, 0x7F, 0xE0, 0xE8, 0, 0xC0, 0xC2, 0],
        &[0, 0, 1, 0xBC, 0, 18, 0xE1, 0xFF, 0, 0, 0, 8, 0x1B, 0xE0, 0, 0, 0x90, 0xC0, 0, 0],
    ]
    .concat();
    let bytes = written(&mut writer, &picture);
    assert_eq!(bytes[..expected.len()], expected);
    let map = &bytes[14 + 18..][..24];
    assert_eq!(crc32(map), 0, "with its checksum");
    let pes = [
        &[0, 0, 1, 0xE0, 0, 42, 0x84, 0xC0, 10, 0x31, 0x00, 0x05, 0xDB, 0x41, 0x11, 0x00, 0x05, 0xBF, 0x21][..],
        &START_CODE,
        SPS,
        &START_CODE,
        PPS,
        &START_CODE,
        &[0x65, 0x88, 1],
    ]
    .concat();
    assert_eq!(bytes[14 + 18 + 24..], pes);
    let next = written(&mut writer, &frame(0, 40, false, unit(&[&[0x41, 0x9A]])));
    assert_eq!((next.len(), &next[..4], &next[14..18]), (14 + 14 + 6, &[0, 0, 1, 0xBA][..], &[0, 0, 1, 0xE0][..]));
    let sound = written(&mut writer, &frame(1, 20, true, Bytes::from_static(&[0xD5; 160])));
    assert_eq!((sound.len(), &sound[14..18]), (14 + 14 + 160, &[0, 0, 1, 0xC0][..]));
    assert_eq!(sound[..14], next[..14], "the clock does not go back");
}

#[test]
fn a_large_picture_has_several_packets_and_its_times_once() {
    let mut writer = writer(vec![track(0, Codec::H264, h264_config())]);
    let slices = [[&[0x41][..], &[0x9A; 99_999]].concat(), [&[0x41][..], &[0x55; 64_999]].concat()];
    let bytes = written(&mut writer, &frame(0, 0, false, unit(&[&slices[0], &slices[1]])));
    // The map is due with the first frame, whatever that is.
    let mut rest = &bytes[14 + 15 + 20..];
    let (mut lengths, mut payload) = (Vec::new(), Vec::new());
    while !rest.is_empty() {
        assert_eq!(rest[..4], [0, 0, 1, 0xE0]);
        let length = usize::from(u16::from_be_bytes([rest[4], rest[5]]));
        let header = usize::from(rest[8]);
        lengths.push((rest[7], length - 3 - header));
        payload.extend_from_slice(&rest[9 + header..6 + length]);
        rest = &rest[6 + length..];
    }
    assert_eq!(lengths, [(0x80, PES_BYTES_MAX), (0, PES_BYTES_MAX), (0, 165_008 - 2 * PES_BYTES_MAX)]);
    assert_eq!(payload, [&START_CODE, &slices[0][..], &START_CODE, &slices[1]].concat());
}

#[test]
fn what_has_no_place_is_left_out_by_name() {
    type Case<'a> = (&'a str, Vec<Track>, &'a [&'static str], &'a [&'static str]);
    let wide = Track { shape: TrackShape::Audio { sample_rate: 16_000, channels: 1 }, ..track(1, Codec::G711A, Bytes::new()) };
    let cases: [Case<'_>; 5] = [
        ("all", vec![track(0, Codec::H264, h264_config()), track(1, Codec::Mp3, Bytes::new())], &["H264", "MP3"], &[]),
        ("AV1 and Opus", vec![track(0, Codec::Av1, Bytes::new()), track(1, Codec::Opus, Bytes::new())], &[], &["AV1", "Opus"]),
        ("wide G.711", vec![track(0, Codec::H264, h264_config()), wide], &["H264"], &["G711A"]),
        ("AAC at an odd rate", vec![track(1, Codec::Aac, AacConfig::build_lc(12_345, 1))], &[], &["AAC"]),
        (
            "a second sound",
            vec![track(1, Codec::G711U, Bytes::new()), track(2, Codec::G711A, Bytes::new())],
            &["G711U"],
            &["G711A"],
        ),
    ];
    for (name, tracks, carries, leaves_out) in cases {
        let ids: Vec<u8> = tracks.iter().map(|track| track.id.0).collect();
        let set = Tracks::new(tracks, Bytes::new());
        assert_eq!(carried(&set), (carries.to_vec(), leaves_out.to_vec()), "{name}");
        let mut writer = writer(set.iter().cloned().collect());
        let count =
            ids.into_iter().filter(|id| !written(&mut writer, &frame(*id, 0, true, unit(&[&[0x65, 1]]))).is_empty()).count();
        assert_eq!(count, carries.len(), "{name}");
    }
}

#[test]
fn without_picture_every_frame_is_a_beginning() {
    let mut writer = writer(vec![track(0, Codec::Av1, Bytes::new()), track(1, Codec::Aac, AacConfig::build_lc(48_000, 2))]);
    for ms in [0, 20] {
        let bytes = written(&mut writer, &frame(1, ms, true, Bytes::from_static(&[0x21, 1, 2])));
        assert_eq!((&bytes[14..18], &bytes[29..33]), (&[0, 0, 1, 0xBB][..], &[0, 0, 1, 0xBC][..]));
        assert!(bytes.ends_with(&[0xFF, 0xF1, 0x4C, 0x80, 0x01, 0x5F, 0xFC, 0x21, 1, 2]), "{bytes:x?}");
    }
}

#[test]
fn another_codec_makes_another_map() {
    let mut writer = writer(vec![track(1, Codec::G711A, Bytes::new())]);
    let version = |bytes: &[u8]| bytes[29 + 6];
    let first = written(&mut writer, &frame(1, 0, true, Bytes::from_static(&[0xD5; 160])));
    writer.set_tracks(&Tracks::new(vec![track(1, Codec::G711A, Bytes::new())], Bytes::new()));
    let same = written(&mut writer, &frame(1, 20, true, Bytes::from_static(&[0xD5; 160])));
    writer.set_tracks(&Tracks::new(vec![track(1, Codec::G711U, Bytes::new())], Bytes::new()));
    let other = written(&mut writer, &frame(1, 40, true, Bytes::from_static(&[0xD5; 160])));
    assert_eq!([version(&first), version(&same), version(&other)], [0xE1, 0xE1, 0xE2]);
}

#[test]
fn times_wrap_and_the_clock_follows_a_jump() {
    let mut writer = writer(vec![track(1, Codec::G711A, Bytes::new())]);
    let mut clock = |ms: i64| {
        let mut sound = frame(1, 0, true, Bytes::from_static(&[0xD5; 160]));
        (sound.dts, sound.arrival) = (MediaTime::from_millis(ms), Stamp::ZERO);
        written(&mut writer, &sound)[4..10].to_vec()
    };
    // 2³³ ticks are 95443717.69 ms.
    let (far, behind, anew) = (clock(95_443_717), clock(95_443_000), clock(-1_000));
    assert_eq!(far, behind);
    assert_eq!(anew, [0x44, 0x00, 0x04, 0x00, 0x04, 0x01], "zero");
    assert_eq!(clock(95_443_717 - 1_000)[0] & 0xC0, 0x40);
}
