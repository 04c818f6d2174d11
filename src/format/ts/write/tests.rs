//! The writer, byte for byte where that is short. What comes back out of whole streams stands with the demuxer.

use bytes::Bytes;

use super::*;
use crate::format::pes::{START_CODE, crc32};
use crate::format::rtp::mux::tests::{frame, h264_config, track, unit};
use crate::media::aac::AacConfig;

const SPS: &[u8] = &[0x67, 0x42, 0xC0, 0x1E, 0xD9, 0x00, 0xA0, 0x47, 0xFE, 0x88];
const PPS: &[u8] = &[0x68, 0xCE, 0x38, 0x80];

fn writer(tracks: Vec<Track>) -> TsWriter {
    let mut writer = TsWriter::new();
    writer.set_tracks(&Tracks::new(tracks, Bytes::new()));
    writer
}

fn av() -> Vec<Track> {
    vec![track(0, Codec::H264, h264_config()), track(1, Codec::Aac, AacConfig::build_lc(48_000, 2))]
}

fn written(writer: &mut TsWriter, frame: &Frame) -> Vec<[u8; PACKET_BYTES]> {
    let mut out = BytesMut::new();
    writer.frame(frame, &mut out);
    packets(&out)
}

fn tables(writer: &mut TsWriter) -> Vec<[u8; PACKET_BYTES]> {
    let mut out = BytesMut::new();
    writer.tables(&mut out);
    packets(&out)
}

fn packets(bytes: &[u8]) -> Vec<[u8; PACKET_BYTES]> {
    assert_eq!(bytes.len() % PACKET_BYTES, 0, "whole packets");
    bytes.chunks(PACKET_BYTES).map(|packet| packet.try_into().unwrap()).collect()
}

fn pid(packet: &[u8; PACKET_BYTES]) -> u16 {
    u16::from_be_bytes([packet[1], packet[2]]) & 0x1FFF
}

/// Behind the header and the adaptation field.
fn payload(packet: &[u8; PACKET_BYTES]) -> &[u8] {
    let adaptation_bytes = if packet[3] & 0x20 == 0 { 0 } else { 1 + usize::from(packet[4]) };
    &packet[4 + adaptation_bytes..]
}

/// The section of a table, without stuffing.
fn table(packet: &[u8; PACKET_BYTES]) -> &[u8] {
    let length = usize::from(packet[7]);
    assert!(packet[8 + length..].iter().all(|byte| *byte == 0xFF));
    &packet[5..8 + length]
}

#[test]
fn tables_name_the_streams() {
    let mut writer = writer(av());
    let sent = tables(&mut writer);
    assert_eq!(sent[0][..5], [0x47, 0x40, 0x00, 0x10, 0]);
    assert_eq!(table(&sent[0])[..12], [0x00, 0xB0, 13, 0, 1, 0xC1, 0, 0, 0, 1, 0xF0, 0x00]);
    assert_eq!(sent[1][..5], [0x47, 0x50, 0x00, 0x10, 0]);
    let expected = [0x02, 0xB0, 23, 0, 1, 0xC1, 0, 0, 0xE1, 0x00, 0xF0, 0, 0x1B, 0xE1, 0x00, 0xF0, 0, 0x0F, 0xE1, 0x01, 0xF0, 0];
    assert_eq!(table(&sent[1])[..expected.len()], expected);
    assert_eq!((crc32(table(&sent[0])), crc32(table(&sent[1]))), (0, 0), "with their checksums");
    let again = tables(&mut writer);
    assert_eq!((again[0][3], again[1][3]), (0x11, 0x11), "counted");
}

#[test]
fn another_program_has_another_version() {
    let version = |writer: &mut TsWriter| table(&tables(writer)[1])[5] >> 1 & 0x1F;
    let mut writer = writer(av());
    assert_eq!(version(&mut writer), 0);
    writer.set_tracks(&Tracks::new(av(), Bytes::new()));
    assert_eq!(version(&mut writer), 0, "the same again");
    writer.set_tracks(&Tracks::new(av()[..1].to_vec(), Bytes::new()));
    assert_eq!(version(&mut writer), 1);
    for _ in 0..31 {
        writer.set_tracks(&Tracks::new(vec![track(1, Codec::Mp3, Bytes::new())], Bytes::new()));
        writer.set_tracks(&Tracks::new(av(), Bytes::new()));
    }
    assert_eq!(version(&mut writer), (1 + 62) & 0x1F, "five bits");
}

#[test]
fn a_key_picture_has_everything_in_front() {
    let mut writer = writer(av());
    let mut picture = frame(0, 0, true, unit(&[&[0x65, 0x88, 1]]));
    picture.cts = 40_000;
    let sent = written(&mut writer, &picture);
    assert_eq!(sent.len(), 1);
    let packet = &sent[0];
    let pes_bytes = 19 + 6 + 4 + SPS.len() + 4 + PPS.len() + 4 + 3;
    assert_eq!(packet[..4], [0x47, 0x41, 0x00, 0x30]);
    // 27,000 ticks: 0.7 s before 1 s.
    assert_eq!(packet[4..12], [(184 - pes_bytes - 1) as u8, 0x50, 0x00, 0x00, 0x34, 0xBC, 0x7E, 0x00]);
    assert!(packet[12..188 - pes_bytes].iter().all(|byte| *byte == 0xFF), "stuffing");
    let pes =
        [
            &[
                0,
                0,
                1,
                0xE0,
                0,
                (pes_bytes - 6) as u8,
                0x84,
                0xC0,
                10,
                0x31,
                0x00,
                0x05,
                0xDB,
                0x41,
                0x11,
                0x00,
                0x05,
                0xBF,
                0x21,
            ][..],
            &[0, 0, 0, 1, 0x09, 0xF0],
            &START_CODE,
            SPS,
            &START_CODE,
            PPS,
            &START_CODE,
            &[0x65, 0x88, 1],
        ]
        .concat();
    assert_eq!(payload(packet), pes);
    let own = frame(0, 40, true, unit(&[SPS, PPS, &[0x65, 0x88, 1]]));
    assert_eq!(payload(&written(&mut writer, &own)[0])[14..], pes[19..], "its own sets are not written twice");
    let next = written(&mut writer, &frame(0, 80, false, unit(&[&[0x41, 0x9A]])));
    assert_eq!(payload(&next[0])[14..], [0, 0, 0, 1, 0x09, 0xF0, 0, 0, 0, 1, 0x41, 0x9A]);
    assert_eq!((next[0][3], next[0][5]), (0x32, 0x10), "counted, with the clock, no place to begin");
    let sound = written(&mut writer, &frame(1, 20, true, Bytes::from_static(&[0x21, 1, 2])));
    assert_eq!((pid(&sound[0]), sound[0][5], &payload(&sound[0])[..9]), (0x101, 0, &[0, 0, 1, 0xC0, 0, 18, 0x84, 0x80, 5][..]));
    assert_eq!(payload(&sound[0])[14..], [0xFF, 0xF1, 0x4C, 0x80, 0x01, 0x5F, 0xFC, 0x21, 1, 2]);
}

#[test]
fn every_length_fits() {
    let mut writer = writer(vec![track(1, Codec::G711A, Bytes::new())]);
    for length in 1..600 {
        let data: Vec<u8> = (0..length).map(|at| at as u8).collect();
        let sent = written(&mut writer, &frame(1, length, true, data.clone().into()));
        let carried: Vec<u8> = sent.iter().flat_map(payload).copied().collect();
        assert_eq!(carried[14..], data, "{length}");
        assert_eq!(usize::from(carried[5]) | usize::from(carried[4]) << 8, carried.len() - 6, "{length}");
        let first: Vec<bool> = sent.iter().map(|packet| packet[1] & 0x40 != 0).collect();
        assert!(first[0] && !first[1..].contains(&true), "{length}");
    }
}

#[test]
fn a_picture_that_is_too_long_for_its_length_says_none() {
    let mut writer = writer(av());
    for (ms, bytes, has_length) in [(0, 65_000, true), (40, 65_600, false), (80, 1_000_000, false)] {
        let slice = [&[0x41][..], &vec![0x9A; bytes]].concat();
        let sent = written(&mut writer, &frame(0, ms, false, unit(&[&slice])));
        let counters: Vec<u8> = sent.iter().map(|packet| packet[3] & 0xF).collect();
        assert!(counters.windows(2).all(|pair| pair[1] == (pair[0] + 1) & 0xF), "{bytes}");
        let carried: Vec<u8> = sent.iter().flat_map(payload).copied().collect();
        assert_eq!(carried[4..6] != [0, 0], has_length, "{bytes}");
        assert_eq!(carried[carried.len() - slice.len()..], slice, "{bytes}");
    }
}

#[test]
fn opus_says_its_channels_and_lengths() {
    for (channels, says) in [(0, 2), (1, 1), (2, 2)] {
        let shape = TrackShape::Audio { sample_rate: 48_000, channels };
        let mut writer = writer(vec![Track { shape, ..track(1, Codec::Opus, Bytes::new()) }]);
        let sent = tables(&mut writer);
        let expected = [0x06, 0xE1, 0x01, 0xF0, 10, 0x05, 4, b'O', b'p', b'u', b's', 0x7F, 2, 0x80, says];
        assert_eq!(table(&sent[1])[12..][..expected.len()], expected);
        for (bytes, header) in [(3, &[0x7F, 0xE0, 3][..]), (255, &[0x7F, 0xE0, 0xFF, 0]), (600, &[0x7F, 0xE0, 0xFF, 0xFF, 90])] {
            let sent = written(&mut writer, &frame(1, 0, true, vec![7; bytes].into()));
            assert_eq!(payload(&sent[0])[..4], [0, 0, 1, 0xBD]);
            assert_eq!(payload(&sent[0])[14..][..header.len()], *header);
        }
    }
}

#[test]
fn a_delimiter_of_h265_is_in_the_layer_of_its_picture() {
    let mut writer = writer(vec![track(0, Codec::H265, Bytes::new())]);
    let sent = written(&mut writer, &frame(0, 0, false, unit(&[&[0x4E, 0x01, 5], &[0x02, 0x03, 0x80]])));
    assert_eq!(payload(&sent[0])[14..][..7], [0, 0, 0, 1, 0x46, 0x03, 0x50]);
}

#[test]
fn what_has_no_place_is_left_out() {
    let wide = TrackShape::Audio { sample_rate: 16_000, channels: 1 };
    let surround = TrackShape::Audio { sample_rate: 48_000, channels: 6 };
    let cases = [
        ("AV1", track(0, Codec::Av1, Bytes::new())),
        ("wide G.711", Track { shape: wide, ..track(0, Codec::G711U, Bytes::new()) }),
        ("Opus of six channels", Track { shape: surround, ..track(0, Codec::Opus, Bytes::new()) }),
        ("AAC at an odd rate", track(0, Codec::Aac, AacConfig::build_lc(12_345, 1))),
        ("script", track(0, Codec::Script, Bytes::new())),
    ];
    for (name, track) in cases {
        assert!(!carries(&track), "{name}");
        let mut writer = writer(vec![track]);
        assert!(written(&mut writer, &frame(0, 0, true, unit(&[&[0x65, 1]]))).is_empty(), "{name}");
        assert_eq!(table(&tables(&mut writer)[1])[8..12], [0xFF, 0xFF, 0xF0, 0], "{name}: no streams, no clock");
    }
    let mut writer = writer(av());
    for data in [Bytes::new(), vec![0; 9_000].into()] {
        assert!(written(&mut writer, &frame(1, 0, true, data)).is_empty());
    }
}
