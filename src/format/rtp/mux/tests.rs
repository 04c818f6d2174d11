//! The muxer, byte for byte where that is short; and what tests of the whole folder share.

use bytes::{BufMut, Bytes, BytesMut};

use super::*;
use crate::format::rtp::rtcp::{self, Report};
use crate::format::rtp::start::start_of;
use crate::format::rtp::{RtpHeader, RtpPoint};
use crate::media::h264::AvcConfig;
use crate::media::{Codec, TrackShape};

pub(in crate::format) const INTERLEAVED: RtpCarriage =
    RtpCarriage::Interleaved { video: Some(Channels { rtp: 0, rtcp: 1 }), audio: Some(Channels { rtp: 2, rtcp: 3 }) };

const SPS: &[u8] = &[0x67, 0x42, 0xC0, 0x1E, 0xD9, 0x00, 0xA0, 0x47, 0xFE, 0x88];
const PPS: &[u8] = &[0x68, 0xCE, 0x38, 0x80];

pub(in crate::format) fn h264_config() -> Bytes {
    AvcConfig::record(&[Bytes::from_static(SPS)], &[Bytes::from_static(PPS)])
}

pub(in crate::format) fn track(id: u8, codec: Codec, config: Bytes) -> Track {
    let shape = match codec.kind() {
        TrackKind::Video => TrackShape::Video { width: 0, height: 0, frames_per_second: 0.0 },
        _ => TrackShape::Audio { sample_rate: 8_000, channels: 1 },
    };
    Track { id: TrackId(id), codec, config, shape }
}

pub(in crate::format) fn frame(id: u8, ms: i64, key: bool, data: Bytes) -> Frame {
    Frame {
        data,
        arrival: Stamp::from_millis(1_000 + ms as u64),
        dts: MediaTime::from_millis(ms),
        cts: 0,
        segment: 0,
        track: TrackId(id),
        key,
    }
}

/// A canonical access unit.
pub(in crate::format) fn unit(nals: &[&[u8]]) -> Bytes {
    let mut unit = BytesMut::new();
    for nal in nals {
        unit.put_u32(nal.len() as u32);
        unit.put_slice(nal);
    }
    unit.freeze()
}

/// The datagrams of a packet.
pub(in crate::format) fn datagrams(packet: &Packet) -> Vec<Vec<u8>> {
    let train = packet.train.unwrap();
    packet.parts[0].chunks(usize::from(train.datagram_bytes.get())).map(<[u8]>::to_vec).collect()
}

/// The frames of interleaved bytes: channel, content.
pub(in crate::format) fn interleaved(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [b'$', channel, high, low, rest @ ..] = bytes {
        let (content, behind) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        frames.push((*channel, content.to_vec()));
        bytes = behind;
    }
    assert!(bytes.is_empty(), "only whole frames");
    frames
}

fn muxer(carriage: RtpCarriage, tracks: Vec<Track>) -> RtpMuxer {
    let context = MuxerContext { epoch_nanos: 1_000_000_000_000_000_000, seed: 7 };
    let mut muxer = RtpMuxer::new(carriage, context);
    let mut out = Vec::new();
    muxer.push(&MediaEvent::Tracks(Tracks::new(tracks, Bytes::new())), &mut out);
    assert!(out.is_empty(), "without a frame there is no clock to report");
    muxer
}

fn push(muxer: &mut RtpMuxer, frame: Frame) -> Vec<Packet> {
    let mut out = Vec::new();
    muxer.push(&MediaEvent::Frame(frame), &mut out);
    out
}

fn av() -> Vec<Track> {
    vec![track(0, Codec::H264, h264_config()), track(1, Codec::G711A, Bytes::new())]
}

#[test]
fn a_key_unit_has_its_parameter_sets_and_reports_in_front() {
    let mut muxer = muxer(INTERLEAVED, av());
    let out = push(&mut muxer, frame(0, 0, true, unit(&[&[0x65, 0x88, 1]])));
    let kinds: Vec<PacketKind> = out.iter().map(|packet| packet.kind).collect();
    assert_eq!(kinds, [PacketKind::Config, PacketKind::Key]);
    let frames = interleaved(&out[1].parts[0]);
    assert_eq!(frames.len(), 1);
    let (channel, rtp) = &frames[0];
    let header = RtpHeader::parse(rtp).unwrap();
    assert_eq!((*channel, header.marker, header.payload_type), (0, true, 96));
    let expected = [&[0x78, 0, 10][..], SPS, &[0, 4], PPS, &[0, 3, 0x65, 0x88, 1]].concat();
    assert_eq!(rtp[header.payload], expected, "aggregated: STAP-A");
    let next = push(&mut muxer, frame(0, 40, false, unit(&[&[0x41, 0x9A]])));
    let (_, rtp) = &interleaved(&next[0].parts[0])[0];
    let second = RtpHeader::parse(rtp).unwrap();
    assert_eq!(rtp[second.payload], [0x41, 0x9A], "alone: as it is");
    assert_eq!(second.sequence, header.sequence.wrapping_add(1));
    assert_eq!(second.timestamp, header.timestamp.wrapping_add(3_600));
}

#[test]
fn trains_are_of_equal_size() {
    let mut muxer = muxer(RtpCarriage::Datagrams, av());
    let nals: [Vec<u8>; 3] = [vec![0x06; 600], [&[0x65][..], &[0x88; 99_999]].concat(), [&[0x65][..], &[0x08; 200]].concat()];
    let nals: Vec<&[u8]> = nals.iter().map(|nal| &nal[..]).collect();
    let out = push(&mut muxer, frame(0, 0, true, unit(&nals)));
    let media = &out[1..];
    assert_eq!(media[0].kind, PacketKind::Key);
    assert!(media[1..].iter().all(|packet| packet.kind == PacketKind::Delta), "a viewer begins at the first train only");
    let mut sequence = None;
    let mut markers = 0;
    for packet in media {
        let train = packet.train.unwrap();
        assert_eq!(train.flow, Flow::Media(TrackKind::Video));
        assert!(packet.len <= TRAIN_BYTES_MAX && packet.parts.len() == 1);
        let datagrams = datagrams(packet);
        assert!(datagrams.len() <= TRAIN_DATAGRAMS_MAX);
        for datagram in datagrams {
            assert!(datagram.len() <= DATAGRAM_BYTES_MAX);
            let header = RtpHeader::parse(&datagram).unwrap();
            assert!(sequence.is_none_or(|last: u16| header.sequence == last.wrapping_add(1)));
            sequence = Some(header.sequence);
            markers += u32::from(header.marker);
        }
    }
    assert_eq!(markers, 1);
    // Parameter sets and SEI together, 45 + 28 fragments, and the small slice.
    let counts: Vec<usize> = media.iter().map(|packet| datagrams(packet).len()).collect();
    assert_eq!(counts, [1, 46, 27, 1]);
}

#[test]
fn reports_map_both_clocks_to_one_wall() {
    let mut muxer = muxer(RtpCarriage::Datagrams, av());
    let first = push(&mut muxer, frame(0, 0, true, unit(&[&[0x65]])));
    let sound = push(&mut muxer, frame(1, 10, true, Bytes::from_static(&[0xD5; 160])));
    assert_eq!(sound.len(), 1, "no report is due");
    let later = push(&mut muxer, frame(0, 5_000, false, unit(&[&[0x41]])));
    let report = |packet: &Packet, part: usize| {
        let mut found = None;
        rtcp::parse(&packet.parts[part], |report| found = found.or(Some(report))).unwrap();
        let Some(Report::Sender(report)) = found else { panic!("a sender report") };
        report
    };
    let rtp = |packet: &Packet| RtpHeader::parse(&datagrams(packet)[0]).unwrap();
    let (video, audio) = (report(&first[0], 0), report(&first[0], 1));
    assert_eq!(first[0].train.unwrap().flow, Flow::Reports);
    assert_eq!(video.ntp, ntp_of_nanos(1_000_000_001_500_000_000), "half a second behind the first frame");
    assert_eq!((video.ntp, video.rtp_timestamp), (audio.ntp, rtp(&first[1]).timestamp.wrapping_add(45_000)));
    assert_eq!(rtp(&sound[0]).timestamp, audio.rtp_timestamp.wrapping_add(80).wrapping_sub(4_000), "10 ms of 8 kHz");
    let (video_later, audio_later) = (report(&later[0], 0), report(&later[0], 1));
    assert_eq!(video_later.ntp - video.ntp, 5 << 32);
    assert_eq!(video_later.rtp_timestamp, video.rtp_timestamp.wrapping_add(450_000));
    assert_eq!(audio_later.rtp_timestamp, audio.rtp_timestamp.wrapping_add(40_000));
    assert_eq!((audio_later.packets, audio_later.octets), (1, 160));
}

/// A relay sends what was there before at once: the clock that players hear of stays the same.
#[test]
fn a_burst_at_the_beginning_moves_no_clock() {
    let mut muxer = muxer(RtpCarriage::Datagrams, av());
    let mut offsets = Vec::new();
    for ms in (0..20_000).step_by(40) {
        let arrival = Stamp::from_millis(1_000 + (ms as u64).saturating_sub(3_000));
        for packet in push(&mut muxer, Frame { arrival, ..frame(0, ms, ms % 1_000 == 0, unit(&[&[0x41]])) }) {
            if packet.kind == PacketKind::Config {
                rtcp::parse(&packet.parts[0], |report| {
                    if let Report::Sender(report) = report {
                        let seconds = report.ntp as f64 / (1u64 << 32) as f64;
                        offsets.push(
                            seconds
                                - f64::from(report.rtp_timestamp.wrapping_sub(muxer.video.as_ref().unwrap().timestamp_offset))
                                    / 90_000.0,
                        );
                    }
                })
                .unwrap();
            }
        }
    }
    assert!(offsets.len() > 10 && offsets.iter().all(|offset| (offset - offsets[0]).abs() < 0.001), "{offsets:?}");
}

#[test]
fn tracks_that_come_seconds_apart_are_reported_as_seldom_as_others() {
    // How far the sound is ahead, and how much of the picture comes at once.
    for (ahead_ms, burst_ms) in [(1_500, 40), (-1_500, 40), (-3_000, 40), (0, 2_000), (1_500, 2_000)] {
        let mut muxer = muxer(RtpCarriage::Datagrams, av());
        let mut reports: Vec<Stamp> = Vec::new();
        for ms in (4_000..24_000).step_by(40) {
            let arrival = Stamp::from_millis(ms as u64 / burst_ms * burst_ms);
            let picture = frame(0, ms, ms % 2_000 == 0, unit(&[&[0x41]]));
            let sound = frame(1, ms + ahead_ms, true, Bytes::from_static(&[0xD5; 160]));
            for frame in [picture, sound] {
                let out = push(&mut muxer, Frame { arrival, ..frame });
                let count = out.iter().filter(|packet| packet.kind == PacketKind::Config).count();
                reports.extend(std::iter::repeat_n(arrival, count));
            }
        }
        let is_seldom = reports.windows(2).all(|pair| pair[1].millis_since(pair[0]) >= REPORT_MS_MIN);
        assert!(is_seldom && reports.len() <= 12, "{ahead_ms}, {burst_ms}: {}", reports.len());
    }
}

#[test]
fn the_end_says_goodbye_to_each_track() {
    for carriage in [INTERLEAVED, RtpCarriage::Datagrams] {
        let mut muxer = muxer(carriage, av());
        push(&mut muxer, frame(0, 0, true, unit(&[&[0x65]])));
        let mut out = Vec::new();
        muxer.push(&MediaEvent::End, &mut out);
        assert_eq!(out.len(), 1);
        let compounds: Vec<Vec<u8>> = match carriage {
            RtpCarriage::Datagrams => out[0].parts.iter().map(|part| part.to_vec()).collect(),
            _ => out[0].parts.iter().flat_map(|part| interleaved(part)).map(|(_, content)| content).collect(),
        };
        assert_eq!(compounds.len(), 2);
        for compound in compounds {
            let mut goodbye = false;
            rtcp::parse(&compound, |report| goodbye |= matches!(report, Report::Bye { .. })).unwrap();
            assert!(goodbye);
        }
    }
}

#[test]
fn a_carriage_without_video_begins_at_any_sound() {
    let carriage = RtpCarriage::Interleaved { video: None, audio: Some(Channels { rtp: 4, rtcp: 5 }) };
    let mut muxer = muxer(carriage, av());
    assert!(push(&mut muxer, frame(0, 0, true, unit(&[&[0x65]]))).is_empty());
    let out = push(&mut muxer, frame(1, 10, true, Bytes::from_static(&[0xD5; 160])));
    assert_eq!(out[1].kind, PacketKind::Key);
    assert_eq!(interleaved(&out[1].parts[0])[0].0, 4);
}

#[test]
fn the_start_is_one_moment_in_all_clocks() {
    // Which of the tracks is ahead, in milliseconds: the other's timestamp is that of the same moment.
    for carriage in [INTERLEAVED, RtpCarriage::Datagrams] {
        for (video_ms, audio_ms) in [(0, 20), (30, 10), (5, 5)] {
            let mut muxer = muxer(carriage, av());
            let mut out = push(&mut muxer, frame(0, video_ms, true, unit(&[&[0x65]])));
            let reports = out.remove(0);
            out.extend(push(&mut muxer, frame(1, audio_ms, true, Bytes::from_static(&[0xD5; 160]))));
            let start = start_of(Some(&reports), out.iter(), carriage, [90_000, 8_000]);
            let earliest = video_ms.min(audio_ms);
            let expected = |sender: &Option<Sender>, clock_rate: i64| {
                let sender = sender.as_ref().unwrap();
                let timestamp = sender.timestamp_offset.wrapping_add((earliest * clock_rate / 1000) as u32);
                Some(RtpPoint { sequence: sender.sequence.wrapping_sub(1), timestamp })
            };
            assert_eq!(start.video, expected(&muxer.video, 90_000), "{video_ms} {audio_ms}");
            assert_eq!(start.audio, expected(&muxer.audio, 8_000), "{video_ms} {audio_ms}");
        }
    }
}

#[test]
fn broken_units_make_no_packets() {
    // The last two have types that mean a packet.
    for data in [&[][..], &[0, 0, 0, 9, 1], &[0, 0, 0, 0], &[0, 0, 0, 3, 0x7C, 0x85, 1], &[0, 0, 0, 2, 0, 1]] {
        let mut muxer = muxer(INTERLEAVED, av());
        let out = push(&mut muxer, frame(0, 0, false, Bytes::copy_from_slice(data)));
        assert_eq!(out.len(), 1, "only the report");
    }
}

#[test]
fn audio_packets() {
    type Case<'a> = (&'a str, Codec, Bytes, usize, Vec<(usize, u32, bool)>);
    let aac = crate::media::aac::AacConfig::build_lc(48_000, 2);
    // Payload bytes, ticks behind the first, marker.
    let cases: [Case<'_>; 6] = [
        ("AAC", Codec::Aac, aac.clone(), 300, vec![(304, 0, true)]),
        ("AAC that does not fit", Codec::Aac, aac, 2_000, vec![(1_388, 0, false), (620, 0, true)]),
        ("G.711", Codec::G711A, Bytes::new(), 320, vec![(320, 0, false)]),
        ("long G.711", Codec::G711U, Bytes::new(), 3_000, vec![(1_280, 0, false), (1_280, 1_280, false), (440, 2_560, false)]),
        ("Opus", Codec::Opus, Bytes::new(), 80, vec![(80, 0, false)]),
        ("MP3", Codec::Mp3, Bytes::new(), 1_440, vec![(1_388, 0, false), (60, 0, true)]),
    ];
    for (name, codec, config, bytes, expected) in cases {
        let mut muxer = muxer(RtpCarriage::Datagrams, vec![track(0, codec, config)]);
        let out = push(&mut muxer, frame(0, 0, true, vec![1; bytes].into()));
        let headers: Vec<RtpHeader> =
            out[1..].iter().flat_map(datagrams).map(|datagram| RtpHeader::parse(&datagram).unwrap()).collect();
        let seen: Vec<(usize, u32, bool)> = headers
            .iter()
            .map(|header| (header.payload.len(), header.timestamp.wrapping_sub(headers[0].timestamp), header.marker))
            .collect();
        assert_eq!(seen, expected, "{name}");
    }
}
