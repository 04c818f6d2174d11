//! Depacketizers: tables of packets, and what the muxer makes of random units, with and without losses.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::format::rtp::mux::RtpMuxer;
use crate::format::rtp::mux::tests::{INTERLEAVED, datagrams, frame, h264_config, interleaved, track, unit};
use crate::format::rtp::payload::outgoing;
use crate::format::rtp::{RtpCarriage, RtpHeader};
use crate::format::{Muxer, MuxerContext};
use crate::media::aac::AacConfig;
use crate::media::h264::AvcConfig;
use crate::media::{Codec, MediaEvent, Track, Tracks};

fn h264() -> Depacketizer {
    Depacketizer::new(&outgoing(&track(0, Codec::H264, h264_config())).unwrap())
}

fn piece(payload: &[u8], timestamp: i64, marker: bool) -> Piece<'_> {
    Piece { payload, timestamp, marker, arrival: Stamp::from_millis(timestamp as u64) }
}

/// A letter per result: `C`onfig, `K`ey unit, `U`nit, `i`ncomplete, `b`roken.
fn letters(out: &[Depacketized]) -> String {
    let letter = |result: &Depacketized| match result {
        Depacketized::Config(_) => Some('C'),
        Depacketized::Unit(unit) if unit.key => Some('K'),
        Depacketized::Unit(_) => Some('U'),
        Depacketized::Discarded(Discard::Incomplete) => Some('i'),
        Depacketized::Discarded(_) => Some('b'),
        Depacketized::Lost => None,
    };
    out.iter().filter_map(letter).collect()
}

fn units(out: &[Depacketized]) -> Vec<&AccessUnit> {
    fn unit(result: &Depacketized) -> Option<&AccessUnit> {
        match result {
            Depacketized::Unit(unit) => Some(unit),
            _ => None,
        }
    }
    out.iter().filter_map(unit).collect()
}

/// What happens to a sequence of packets: payload, timestamp, marker; `None`: packets are missing here.
fn run(depacketizer: &mut Depacketizer, packets: &[Option<(&[u8], i64, bool)>]) -> Vec<Depacketized> {
    let mut out = Vec::new();
    for packet in packets {
        match packet {
            Some((payload, timestamp, marker)) => depacketizer.push(piece(payload, *timestamp, *marker), &mut out),
            None => depacketizer.lost(&mut out),
        }
    }
    out
}

#[test]
fn h264_units_end_where_they_should() {
    type Case<'a> = (&'a str, &'a [Option<(&'a [u8], i64, bool)>], &'a str);
    let (idr, p, p2): (&[u8], &[u8], &[u8]) = (&[0x65, 0x88, 1], &[0x41, 0x9A, 2], &[0x41, 0x40, 3]);
    let cases: [Case<'_>; 21] = [
        (
            "reserved types",
            &[Some((&[0x00, 1], 0, false)), Some((&[0x1E, 1], 0, false)), Some((&[0x7F, 1], 0, false)), Some((idr, 0, true))],
            "CK",
        ),
        ("marker", &[Some((idr, 0, true)), Some((p, 1, true))], "CKU"),
        ("timestamp", &[Some((idr, 0, false)), Some((p, 1, false)), Some((p, 2, false))], "CKU"),
        ("two slices", &[Some((p, 0, false)), Some((p2, 0, true)), Some((p, 1, true))], "CUU"),
        ("marker on a parameter set", &[Some((&[0x67, 1, 2, 3], 0, true)), Some((idr, 0, true))], "CCK"),
        ("STAP-A", &[Some((&[0x78, 0, 2, 0x09, 0x10, 0, 2, 0x65, 0x80], 0, true))], "CK"),
        ("STAP-A cut off", &[Some((&[0x78, 0, 9, 0x65, 0x80], 0, true))], "Cb"),
        (
            "FU-A",
            &[Some((&[0x7C, 0x85, 0x80], 0, false)), Some((&[0x7C, 0x05, 2], 0, false)), Some((&[0x7C, 0x45, 3], 0, true))],
            "CK",
        ),
        ("FU-A without its end", &[Some((&[0x7C, 0x85, 0x80], 0, false)), Some((p, 1, true))], "CiU"),
        ("FU-A without its start", &[Some((&[0x7C, 0x05, 0x80], 0, false)), Some((p, 1, true))], "CiU"),
        ("FU-B", &[Some((&[0x7D, 0x85, 0, 0, 0x80], 0, true)), Some((p, 1, true))], "CbU"),
        (
            "loss inside",
            &[Some((&[0x7C, 0x85, 0x80], 0, false)), None, Some((&[0x7C, 0x45, 3], 0, true)), Some((p, 1, true))],
            "CiU",
        ),
        ("loss between units", &[Some((p, 0, true)), None, Some((p, 2, true))], "CUU"),
        ("loss of the first slice", &[Some((p, 0, true)), None, Some((p2, 1, true)), Some((p, 2, true))], "CUiU"),
        ("loss of the last slice", &[Some((p, 0, false)), None, Some((p, 1, true))], "CiU"),
        ("start codes inside", &[Some((&[0, 0, 0, 1, 0x65, 0x80, 0, 0, 1, 0x65, 0x40], 0, true))], "CK"),
        ("recovery point", &[Some((&[0x06, 6, 1, 0x80], 0, false)), Some((p, 0, true))], "CK"),
        ("gradual refresh", &[Some((&[0x06, 6, 1, 0x08], 0, false)), Some((p, 0, true))], "CK"),
        (
            "recovery point behind other messages",
            &[Some((&[0x06, 1, 1, 0x80, 6, 1, 0x80, 0x80], 0, false)), Some((p, 0, true))],
            "CK",
        ),
        ("another message", &[Some((&[0x06, 5, 1, 0x80], 0, false)), Some((p, 0, true))], "CU"),
        ("nothing but SEI", &[Some((&[0x06, 5, 1, 0x80], 0, true)), Some((p, 1, true))], "CU"),
    ];
    for (name, packets, expected) in cases {
        assert_eq!(letters(&run(&mut h264(), packets)), expected, "{name}");
    }
}

#[test]
fn a_unit_has_arrived_when_its_last_packet_has() {
    let payloads: [&[u8]; 3] = [&[0x7C, 0x85, 0x80], &[0x7C, 0x05, 2], &[0x7C, 0x45, 3]];
    let mut out = Vec::new();
    let mut depacketizer = h264();
    // The second one was late, and the others waited for it.
    for ((payload, arrival_ms), marker) in payloads.into_iter().zip([100, 130, 101]).zip([false, false, true]) {
        depacketizer.push(Piece { arrival: Stamp::from_millis(arrival_ms), ..piece(payload, 7, marker) }, &mut out);
    }
    assert_eq!(units(&out)[0].arrival, Stamp::from_millis(130));
    depacketizer.push(piece(&[0x41, 0x9A, 2], 110, true), &mut out);
    assert_eq!(units(&out)[1].arrival, Stamp::from_millis(110));
}

#[test]
fn new_parameter_sets_come_before_their_picture() {
    let sets: &[u8] = &[0x78, 0, 5, 0x67, 0x42, 0xC0, 0x1F, 0x80, 0, 2, 0x68, 0xCF];
    let out = run(&mut h264(), &[Some((&[0x65, 0x80], 0, true)), Some((sets, 1, false)), Some((&[0x65, 0x80], 1, true))]);
    assert_eq!(letters(&out), "CKCK");
    let expected =
        AvcConfig::record(&[Bytes::from_static(&[0x67, 0x42, 0xC0, 0x1F, 0x80])], &[Bytes::from_static(&[0x68, 0xCF])]);
    assert_eq!(out[2], Depacketized::Config(expected));
    assert_eq!(units(&out)[1].data, unit(&[&[0x65, 0x80]]), "they do not stand in the unit");
}

#[test]
fn a_parameter_set_alone_deletes_no_other() {
    let config = |pps: &[&'static [u8]]| {
        let pps: Vec<Bytes> = pps.iter().copied().map(Bytes::from_static).collect();
        AvcConfig::record(&[Bytes::from_static(&[0x67, 0x42, 0xC0, 0x1F, 0x80])], &pps)
    };
    // Pictures of two kinds, each with a set of its own.
    let payload = RtpPayload {
        config: config(&[&[0x68, 0xC0], &[0x68, 0x50]]),
        ..outgoing(&track(0, Codec::H264, h264_config())).unwrap()
    };
    let mut depacketizer = Depacketizer::new(&payload);
    let packets: [(&[u8], i64, bool); 3] = [(&[0x65, 0x80], 0, true), (&[0x68, 0x50, 7], 1, false), (&[0x65, 0x80], 1, true)];
    let out = run(&mut depacketizer, &packets.map(Some));
    assert_eq!(letters(&out), "CKCK");
    assert_eq!(out[2], Depacketized::Config(config(&[&[0x68, 0xC0], &[0x68, 0x50, 7]])));
}

/// A viewer would take them for a packet of that type, once they are sent alone.
#[test]
fn types_that_mean_a_packet_stand_in_no_unit() {
    let packets: [(&[u8], bool); 4] = [
        (&[0x78, 0, 2, 0x7C, 0x85, 0, 1, 0x00, 0, 2, 0x65, 0x80], false),
        (&[0x7C, 0xDF, 0x80], false),
        (&[0, 0, 1, 0x18, 5, 0, 0, 1, 0x65, 0x40], false),
        (&[0x65, 0x20], true),
    ];
    let out = run(&mut h264(), &packets.map(|(payload, marker)| Some((payload, 0, marker))));
    assert_eq!(letters(&out), "CK");
    assert_eq!(units(&out)[0].data, unit(&[&[0x65, 0x80], &[0x65, 0x40], &[0x65, 0x20]]));
}

#[test]
fn a_sender_without_markers_costs_no_delay_once_known() {
    for slices in [1usize, 3] {
        let mut depacketizer = h264();
        let mut late = 0;
        for picture in 0..40 {
            let mut out = Vec::new();
            for slice in 0..slices {
                let payload = [0x41, if slice == 0 { 0x80 } else { 0x40 }, picture];
                depacketizer.push(piece(&payload, i64::from(picture), false), &mut out);
            }
            let newest = units(&out).last().map(|unit| unit.timestamp);
            late += u32::from(newest != Some(i64::from(picture)));
        }
        assert_eq!(
            late, 15,
            "{slices} slices: eight show that there are no markers, the last of them is the first of eight to count"
        );
    }
}

#[test]
fn markers_on_every_slice_are_seen_through() {
    let mut depacketizer = h264();
    let mut given = Vec::new();
    for picture in 0..30u8 {
        for slice in 0..2u8 {
            let payload = [0x41, if slice == 0 { 0x80 } else { 0x40 }, picture];
            depacketizer.push(piece(&payload, i64::from(picture), true), &mut given);
        }
    }
    let whole = |unit: &&&AccessUnit| {
        unit.data
            == crate::format::rtp::mux::tests::unit(&[&[0x41, 0x80, unit.timestamp as u8], &[0x41, 0x40, unit.timestamp as u8]])
    };
    let units = units(&given);
    assert_eq!(units.iter().filter(whole).count(), 29, "all but the first");
    assert_eq!(units.len(), 30);
}

#[test]
fn h265_payloads() {
    let payload = |donl| RtpPayload {
        form: PayloadForm::H265 { donl },
        codec: Codec::H265,
        ..outgoing(&track(0, Codec::H264, h264_config())).unwrap()
    };
    type Case<'a> = (&'a str, bool, &'a [&'a [u8]], Bytes);
    let cases: [Case<'_>; 8] = [
        (
            "recovery point",
            false,
            &[&[0x4E, 1, 1, 1, 0x80, 6, 1, 0x80, 0x80], &[0x02, 1, 0x80, 7]],
            unit(&[&[0x4E, 1, 1, 1, 0x80, 6, 1, 0x80, 0x80], &[0x02, 1, 0x80, 7]]),
        ),
        ("single", false, &[&[0x26, 1, 0x80, 7]], unit(&[&[0x26, 1, 0x80, 7]])),
        ("single with DONL", true, &[&[0x26, 1, 0, 9, 0x80, 7]], unit(&[&[0x26, 1, 0x80, 7]])),
        ("AP", false, &[&[0x60, 1, 0, 3, 0x4E, 1, 5, 0, 3, 0x26, 1, 0x80]], unit(&[&[0x4E, 1, 5], &[0x26, 1, 0x80]])),
        (
            "AP with a type that means a packet",
            false,
            &[&[0x60, 1, 0, 3, 0x62, 1, 0x93, 0, 3, 0x26, 1, 0x80]],
            unit(&[&[0x26, 1, 0x80]]),
        ),
        (
            "AP with DONL",
            true,
            &[&[0x60, 1, 0, 1, 0, 3, 0x4E, 1, 5, 0, 0, 3, 0x26, 1, 0x80]],
            unit(&[&[0x4E, 1, 5], &[0x26, 1, 0x80]]),
        ),
        ("FU", false, &[&[0x62, 1, 0x93, 0x80], &[0x62, 1, 0x53, 8]], unit(&[&[0x26, 1, 0x80, 8]])),
        ("FU with DONL", true, &[&[0x62, 1, 0x93, 0, 4, 0x80], &[0x62, 1, 0x53, 8]], unit(&[&[0x26, 1, 0x80, 8]])),
    ];
    for (name, donl, packets, expected) in cases {
        let mut depacketizer = Depacketizer::new(&payload(donl));
        let mut out = Vec::new();
        for (at, packet) in packets.iter().enumerate() {
            depacketizer.push(piece(packet, 0, at + 1 == packets.len()), &mut out);
        }
        assert_eq!(letters(&out), "K", "{name}");
        assert_eq!(units(&out)[0].data, expected, "{name}");
    }
    let mut out = Vec::new();
    Depacketizer::new(&payload(false)).push(piece(&[0x64, 1, 0], 0, true), &mut out);
    assert_eq!(letters(&out), "b", "PACI");
}

fn aac(form: PayloadForm, config: Bytes) -> Depacketizer {
    let payload = outgoing(&track(0, Codec::Aac, AacConfig::build_lc(48_000, 2))).unwrap();
    Depacketizer::new(&RtpPayload { form, config, ..payload })
}

#[test]
fn aac_in_every_dress() {
    let hbr = PayloadForm::AacHbr { size_bits: 13, index_bits: 3, index_delta_bits: 3 };
    let lbr = PayloadForm::AacHbr { size_bits: 6, index_bits: 2, index_delta_bits: 2 };
    let config = AacConfig::build_lc(48_000, 2);
    let adts: &[u8] = &[0xFF, 0xF1, 0x4C, 0x80, 0x01, 0x3F, 0xFC, 7, 8];
    let in_header = [&[0, 16, 0, 9 << 3][..], adts].concat();
    type Case<'a> = (&'a str, PayloadForm, Bytes, &'a [(&'a [u8], bool)], &'a [(&'a [u8], i64)]);
    let wide = PayloadForm::AacHbr { size_bits: 32, index_bits: 0, index_delta_bits: 0 };
    let cases: [Case<'_>; 11] = [
        ("two units", hbr, config.clone(), &[(&[0, 32, 0, 16, 0, 8, 1, 2, 3], true)], &[(&[1, 2], 0), (&[3], 1024)]),
        ("narrow fields", lbr, config.clone(), &[(&[0, 16, 2 << 2, 1 << 2, 1, 2, 3], true)], &[(&[1, 2], 0), (&[3], 1024)]),
        (
            "in two packets",
            hbr,
            config.clone(),
            &[(&[0, 16, 0, 24, 1, 2], false), (&[0, 16, 0, 24, 3], true)],
            &[(&[1, 2, 3], 0)],
        ),
        (
            "wide fields, in two packets",
            wide,
            config.clone(),
            &[(&[0, 32, 0, 0, 0, 3, 1, 2], false), (&[0, 32, 0, 0, 0, 3, 3], true)],
            &[(&[1, 2, 3], 0)],
        ),
        (
            "more than a frame may have",
            wide,
            config.clone(),
            &[(&[0, 32, 0, 0, 0, 1, 7], true), (&[0, 32, 0x80, 0, 0, 0, 8], false), (&[0, 32, 0, 0, 0, 1, 9], true)],
            &[(&[7], 0), (&[9], 0)],
        ),
        ("ADTS inside", hbr, config.clone(), &[(&in_header, true)], &[(&[7, 8], 0)]),
        ("ADTS alone", hbr, Bytes::new(), &[(adts, true)], &[(&[7, 8], 0)]),
        ("LATM", PayloadForm::Latm { config_in_band: false }, config.clone(), &[(&[2, 7, 8], true)], &[(&[7, 8], 0)]),
        (
            "LATM in two packets",
            PayloadForm::Latm { config_in_band: false },
            config.clone(),
            &[(&[3, 7, 8], false), (&[9], true)],
            &[(&[7, 8, 9], 0)],
        ),
        (
            "LATM without markers",
            PayloadForm::Latm { config_in_band: false },
            config.clone(),
            &[(&[2, 7, 8], false), (&[1, 9], false)],
            &[(&[7, 8], 0), (&[9], 0)],
        ),
        ("cut off", hbr, config, &[(&[0, 32, 0, 16, 0, 8, 1], true)], &[]),
    ];
    for (name, form, config, packets, expected) in cases {
        let mut depacketizer = aac(form, config);
        let mut out = Vec::new();
        packets.iter().for_each(|(packet, marker)| depacketizer.push(piece(packet, 0, *marker), &mut out));
        let seen: Vec<(&[u8], i64)> = units(&out).iter().map(|unit| (&unit.data[..], unit.timestamp)).collect();
        assert_eq!(seen, expected, "{name}");
        if !expected.is_empty() {
            assert_eq!(out[0], Depacketized::Config(AacConfig::build_lc(48_000, 2)), "{name}");
        }
    }
}

/// Two frames in a packet: how many ticks the second is behind the first.
#[test]
fn frames_of_aac_have_as_many_samples_as_their_config_says() {
    let hbr = PayloadForm::AacHbr { size_bits: 13, index_bits: 3, index_delta_bits: 3 };
    let cases: [(&str, &'static [u8], i64); 6] = [
        ("LC", &[0x11, 0x90], 1_024),
        ("LC, short frames", &[0x11, 0x94], 960),
        ("HE, whose core has half the rate", &[0x2B, 0x11, 0x88, 0x00], 2_048),
        ("LD", &[0xB9, 0x90], 512),
        ("LD, short frames", &[0xB9, 0x94], 480),
        ("ELD", &[0xF8, 0xE6, 0x20, 0x00], 512),
    ];
    for (name, config, ticks) in cases {
        let mut depacketizer = aac(hbr, Bytes::from_static(config));
        let mut out = Vec::new();
        depacketizer.push(piece(&[0, 32, 0, 8, 0, 8, 1, 2], 0, true), &mut out);
        let seen: Vec<i64> = units(&out).iter().map(|unit| unit.timestamp).collect();
        assert_eq!(seen, [0, ticks], "{name}");
    }
}

/// The description may say what the elements say only now and then.
#[test]
fn latm_begins_with_the_config_that_is_known() {
    let form = PayloadForm::Latm { config_in_band: true };
    // The bit that says "as before", then the length and a frame, all shifted by it.
    let same: &[u8] = &[0x81, 0x03, 0x84, 0x00];
    for (config, expected) in [(AacConfig::build_lc(48_000, 2), "CK"), (Bytes::new(), "b")] {
        let mut depacketizer = aac(form, config);
        let mut out = Vec::new();
        depacketizer.push(piece(same, 0, true), &mut out);
        assert_eq!(letters(&out), expected);
        assert!(units(&out).iter().all(|unit| unit.data[..] == [7, 8]));
    }
}

/// A frame whose beginning is lost costs no other, and its end is not taken for a frame.
#[test]
fn a_lost_piece_of_sound_is_counted_once() {
    let hbr = PayloadForm::AacHbr { size_bits: 13, index_bits: 3, index_delta_bits: 3 };
    let latm = PayloadForm::Latm { config_in_band: false };
    let config = AacConfig::build_lc(48_000, 2);
    type Case<'a> = (&'a str, PayloadForm, [&'a [u8]; 3]);
    // The pieces of a frame, and a whole one.
    let cases: [Case<'_>; 2] = [
        ("AAC", hbr, [&[0, 16, 0, 24, 1, 2], &[0, 16, 0, 24, 3], &[0, 16, 0, 8, 9]]),
        ("LATM", latm, [&[6, 7, 8], &[1, 9, 9, 9], &[1, 9]]),
    ];
    for (name, form, [first, last, whole]) in cases {
        let out = run(
            &mut aac(form, config.clone()),
            &[Some((first, 0, false)), None, Some((whole, 1, true)), None, Some((whole, 2, true))],
        );
        assert_eq!(letters(&out), "iCKK", "{name}: the end");
        let out =
            run(&mut aac(form, config.clone()), &[Some((whole, 0, true)), None, Some((last, 1, true)), Some((whole, 2, true))]);
        assert_eq!(letters(&out), "CKiK", "{name}: the beginning");
        let out = run(&mut aac(form, config.clone()), &[Some((first, 0, false)), Some((whole, 1, true))]);
        assert_eq!(letters(&out), "iCK", "{name}: the end, unseen");
    }
}

/// Of the first byte only the number of the partition and its start say where a frame begins; the rest is reserved (RFC 7741 §4.2).
#[test]
fn vp8_frames_begin_with_their_first_partition() {
    let cases: [(&str, &[u8], &str); 7] = [
        ("a key", &[0x10, 0x00, 7], "K"),
        ("no key", &[0x10, 0x01, 7], "U"),
        ("reserved bits", &[0x58, 0x00, 7], "K"),
        ("not referred to", &[0x30, 0x01, 7], "U"),
        ("the second partition", &[0x11, 0x00, 7], "i"),
        ("inside a partition", &[0x00, 0x00, 7], "i"),
        ("every extension", &[0x90, 0xF0, 0x81, 0x02, 3, 4, 0x00, 7], "K"),
    ];
    for (name, payload, expected) in cases {
        let mut depacketizer = Depacketizer::new(&outgoing(&track(0, Codec::Vp8, Bytes::new())).unwrap());
        let mut out = Vec::new();
        depacketizer.push(piece(payload, 0, true), &mut out);
        assert_eq!(letters(&out), expected, "{name}");
    }
}

/// ffmpeg sets neither P nor E; a descriptor may have a picture number, layers and a scalability structure.
#[test]
fn vp9_keys_are_known_by_their_frames() {
    let (key, inter) = (0b1000_0010, 0b1000_0110);
    let cases: [(&str, &[u8], &str); 6] = [
        ("a key of ffmpeg", &[0x08, key], "K"),
        ("no key of ffmpeg", &[0x08, inter], "U"),
        ("a key", &[0x0C, key], "K"),
        ("P", &[0x4C, inter], "U"),
        ("a picture number", &[0x8C, 0x81, 0x02, key], "K"),
        ("layers and a structure", &[0xAE, 0x01, 0, 0, 0x18, 2, 128, 1, 104, 1, 0, key], "K"),
    ];
    for (name, payload, expected) in cases {
        let mut depacketizer = Depacketizer::new(&outgoing(&track(0, Codec::Vp9, Bytes::new())).unwrap());
        let mut out = Vec::new();
        depacketizer.push(piece(payload, 0, true), &mut out);
        assert_eq!(letters(&out), expected, "{name}");
    }
}

// ---- what the muxer makes comes back the same

fn muxed(track: &Track, carriage: RtpCarriage, frames: &[Bytes]) -> Vec<Vec<u8>> {
    let mut muxer = RtpMuxer::new(carriage, MuxerContext { epoch_nanos: 0, seed: 3 });
    let mut out = Vec::new();
    muxer.push(&MediaEvent::Tracks(Tracks::new(vec![track.clone()], Bytes::new())), &mut out);
    for (at, data) in frames.iter().enumerate() {
        muxer.push(&MediaEvent::Frame(frame(0, at as i64 * 40, at % 4 == 0, data.clone())), &mut out);
    }
    let media = out.iter().filter(|packet| packet.arrival != Stamp::ZERO);
    match carriage {
        RtpCarriage::Datagrams => media.flat_map(datagrams).collect(),
        _ => media.flat_map(|packet| interleaved(&packet.parts[0])).map(|(_, rtp)| rtp).collect(),
    }
}

/// Depacketizes all packets but those with `lost` set.
fn received(track: &Track, packets: &[Vec<u8>], lost: &[bool]) -> Vec<Depacketized> {
    let mut depacketizer = Depacketizer::new(&outgoing(track).unwrap());
    let mut out = Vec::new();
    for (at, packet) in packets.iter().enumerate() {
        if lost.get(at).is_some_and(|lost| *lost) {
            depacketizer.lost(&mut out);
            continue;
        }
        let header = RtpHeader::parse(packet).unwrap();
        let payload = &packet[header.payload];
        let (timestamp, arrival) = (i64::from(header.timestamp), Stamp::ZERO);
        depacketizer.push(Piece { payload, timestamp, marker: header.marker, arrival }, &mut out);
    }
    out
}

fn nal_units(h265: bool) -> impl Strategy<Value = Bytes> {
    let nal = (0..40_000usize, any::<u8>()).prop_map(move |(bytes, fill)| {
        let header: &[u8] = if h265 { &[0x02, 1] } else { &[0x41] };
        [header, &[0x80], &vec![fill | 1; bytes]].concat()
    });
    let small = (0..300usize).prop_map(move |bytes| {
        let header: &[u8] = if h265 { &[0x4E, 1] } else { &[0x06] };
        [header, &[5], &vec![3; bytes]].concat()
    });
    (proptest::collection::vec(small, 0..3), nal).prop_map(|(small, slice)| {
        let nals: Vec<&[u8]> = small.iter().map(|nal| &nal[..]).chain([&slice[..]]).collect();
        unit(&nals)
    })
}

fn media() -> impl Strategy<Value = (Track, Vec<Bytes>)> {
    let bytes = |max: usize| proptest::collection::vec((1..max).prop_map(|len| Bytes::from(vec![7; len])), 1..8);
    let obus = (1..5_000usize).prop_map(|len| {
        let mut out = bytes::BytesMut::new();
        for kind in [1u8, 6] {
            let obu = [&[kind << 3][..], &vec![9; len]].concat();
            crate::format::rtp::obu::Obu::take(&obu).unwrap().0.write(&mut out);
        }
        out.freeze()
    });
    prop_oneof![
        proptest::collection::vec(nal_units(false), 1..8).prop_map(|units| (track(0, Codec::H264, h264_config()), units)),
        proptest::collection::vec(nal_units(true), 1..8).prop_map(|units| (track(0, Codec::H265, Bytes::new()), units)),
        bytes(4_000).prop_map(|frames| (track(0, Codec::Aac, AacConfig::build_lc(48_000, 2)), frames)),
        bytes(1_200).prop_map(|frames| (track(0, Codec::Opus, Bytes::new()), frames)),
        bytes(9_000).prop_map(|frames| (track(0, Codec::Vp8, Bytes::new()), frames)),
        bytes(9_000).prop_map(|frames| (track(0, Codec::Vp9, Bytes::new()), frames)),
        proptest::collection::vec(obus, 1..8).prop_map(|units| (track(0, Codec::Av1, Bytes::new()), units)),
    ]
}

/// What of a unit must not be missing: of H.264 and H.265 the slices. A message in front of them may have been lost unseen.
fn pictures(track: &Track, unit: &Bytes) -> Vec<Bytes> {
    if !matches!(track.codec, Codec::H264 | Codec::H265) {
        return vec![unit.clone()];
    }
    let is_slice = |nal: &&[u8]| matches!(nal[0], 0x41 | 0x02);
    crate::media::nal::canonical_units(unit).filter(is_slice).map(Bytes::copy_from_slice).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn what_is_sent_is_received((track, frames) in media(), as_datagrams: bool) {
        let carriage = if as_datagrams { RtpCarriage::Datagrams } else { INTERLEAVED };
        let packets = muxed(&track, carriage, &frames);
        let out = received(&track, &packets, &[]);
        let seen: Vec<&Bytes> = units(&out).iter().map(|unit| &unit.data).collect();
        prop_assert_eq!(seen, frames.iter().collect::<Vec<_>>());
    }

    #[test]
    fn what_is_received_behind_losses_is_whole((track, frames) in media(), lost in proptest::collection::vec(proptest::bool::weighted(0.2), 100)) {
        let packets = muxed(&track, RtpCarriage::Datagrams, &frames);
        for unit in units(&received(&track, &packets, &lost)) {
            let was_sent = frames.iter().any(|frame| pictures(&track, frame) == pictures(&track, &unit.data));
            prop_assert!(was_sent, "a unit that was never sent: {} bytes", unit.data.len());
        }
    }
}
