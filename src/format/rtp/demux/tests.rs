//! The demuxer as a whole: what the muxer sends through a bad network, sources that change, and lip sync.

use bytes::Bytes;

use super::clock::START_MICROS;
use super::*;
use crate::format::rtp::RtpCarriage;
use crate::format::rtp::mux::RtpMuxer;
use crate::format::rtp::mux::tests::{datagrams, frame, h264_config, track, unit};
use crate::format::rtp::payload::outgoing;
use crate::format::{Muxer, MuxerContext};

fn av() -> Vec<Track> {
    vec![track(0, Codec::H264, h264_config()), track(1, Codec::G711A, Bytes::new())]
}

fn demuxer(reorder_ms: Option<u64>, on_loss: OnLoss) -> RtpDemuxer {
    let payloads = av().iter().map(|track| outgoing(track).unwrap()).collect();
    RtpDemuxer::new(payloads, DemuxOptions { reorder_ms, on_loss, ssrc: 1 })
}

/// Video of 30 pictures per second in several packets each: when each packet is sent (ms), and the packet.
fn video(pictures: u64) -> Vec<(u64, Vec<u8>)> {
    let mut muxer = RtpMuxer::new(RtpCarriage::Datagrams, MuxerContext { epoch_nanos: 0, seed: 5 });
    let mut packets = Vec::new();
    let mut out = Vec::new();
    muxer.push(&MediaEvent::Tracks(Tracks::new(av(), Bytes::new())), &mut out);
    for picture in 0..pictures {
        let ms = picture * 33;
        let key = picture % 30 == 0;
        let mut nal = vec![if key { 0x65 } else { 0x41 }, 0x80];
        nal.extend(picture.to_be_bytes());
        nal.resize(3_000, picture as u8 | 1);
        muxer.push(&MediaEvent::Frame(frame(0, ms as i64, key, unit(&[&nal]))), &mut out);
        let media = out.drain(..).filter(|packet| packet.arrival != Stamp::ZERO);
        packets.extend(media.flat_map(|packet| datagrams(&packet)).map(|datagram| (ms, datagram)));
    }
    packets
}

fn frames(out: &[Demuxed]) -> Vec<&Frame> {
    let frame = |result| if let &Demuxed::Event(MediaEvent::Frame(ref frame)) = result { Some(frame) } else { None };
    out.iter().filter_map(frame).collect()
}

fn discards(out: &[Demuxed], discard: Discard) -> usize {
    out.iter().filter(|result| **result == Demuxed::Discarded(discard)).count()
}

/// The picture's number, if the frame is one that was sent, whole.
fn picture(frame: &Frame) -> u64 {
    let data = &frame.data[4..];
    let number = u64::from_be_bytes(data[2..10].try_into().unwrap());
    assert!(data.len() == 3_000 && data[10..].iter().all(|byte| *byte == number as u8 | 1), "a picture that was not sent");
    number
}

/// A network that loses and delays, in one order for each seed. Gives the results with the time of each.
fn through_network(loss: f64, delay_ms: u64, on_loss: OnLoss) -> (Vec<(u64, Demuxed)>, Received, usize) {
    const REORDER_MS: u64 = 50;
    let mut random = fastrand::Rng::with_seed(7);
    let mut arrivals: Vec<(u64, usize, Vec<u8>)> = Vec::new();
    let mut lost = 0;
    for (at, (ms, packet)) in video(1_500).into_iter().enumerate() {
        if random.f64() < loss {
            lost += 1;
            continue;
        }
        let late = if random.u8(..) < 26 { random.u64(0..=delay_ms) } else { 0 };
        arrivals.push((ms + late, at, packet));
    }
    arrivals.sort_by_key(|(ms, at, _)| (*ms, *at));
    let mut demuxer = demuxer(Some(REORDER_MS), on_loss);
    let mut out = Vec::new();
    let mut all = Vec::new();
    let end = arrivals.last().unwrap().0 + 1_000;
    let mut arrivals = arrivals.into_iter().peekable();
    for ms in 0..end {
        let now = Stamp::from_millis(ms);
        while let Some((_, _, packet)) = arrivals.next_if(|(at, ..)| *at <= ms) {
            demuxer.rtp(now, 0, &packet, &mut out);
        }
        if demuxer.next_timeout().is_some_and(|at| at <= now) {
            demuxer.timeout(now, &mut out);
        }
        all.extend(out.drain(..).map(|result| (ms, result)));
    }
    (all, demuxer.take_received(), lost)
}

#[test]
fn a_bad_network_never_makes_a_bad_picture() {
    for loss in [0.0, 0.01, 0.05] {
        let (all, received, lost) = through_network(loss, 30, OnLoss::Pass);
        assert_eq!(received.lost, lost as u64, "loss {loss}");
        assert!(received.reordered > 100, "the network was too good: {}", received.reordered);
        let results: Vec<Demuxed> = all.iter().map(|(_, result)| result.clone()).collect();
        let pictures: Vec<u64> = frames(&results).iter().map(|frame| picture(frame)).collect();
        assert!(pictures.windows(2).all(|pair| pair[0] < pair[1]), "in order");
        assert!(pictures.len() + lost >= 1_500, "only damaged pictures are left out: {}", pictures.len());
        // Sent at 33 ms a picture; a packet may be 30 ms late, and a gap may cost 50.
        for (ms, result) in &all {
            if let Demuxed::Event(MediaEvent::Frame(frame)) = result {
                assert!(ms - picture(frame) * 33 <= 30 + 50 + 1, "loss {loss}: {} ms", ms - picture(frame) * 33);
            }
        }
    }
}

#[test]
fn behind_a_loss_a_gop_can_be_dropped() {
    let (all, ..) = through_network(0.01, 0, OnLoss::DropGop);
    let results: Vec<Demuxed> = all.into_iter().map(|(_, result)| result).collect();
    assert!(discards(&results, Discard::AfterLoss) > 100);
    let mut expected = None;
    for frame in frames(&results) {
        let number = picture(frame);
        assert!(frame.key || expected == Some(number), "picture {number} refers to one that is missing");
        expected = Some(number + 1);
    }
}

#[test]
fn a_keyframe_between_two_losses_does_not_hide_the_second() {
    let mut demuxer = demuxer(Some(50), OnLoss::DropGop);
    let mut out = Vec::new();
    // The pictures before and behind the keyframe are lost whole, and both gaps are given up at once.
    for (ms, packet) in video(40).into_iter().filter(|(ms, _)| ![29, 31].contains(&(ms / 33))) {
        let now = Stamp::from_millis(if ms / 33 < 29 { ms } else { 1_000 });
        demuxer.rtp(now, 0, &packet, &mut out);
    }
    demuxer.timeout(Stamp::from_millis(1_050), &mut out);
    let pictures: Vec<u64> = frames(&out).iter().map(|frame| picture(frame)).collect();
    let expected: Vec<u64> = (0..29).chain([30]).collect();
    assert_eq!(pictures, expected);
}

#[test]
fn what_comes_from_another_source_waits_for_its_keyframe() {
    let mut demuxer = demuxer(None, OnLoss::DropGop);
    let mut out = Vec::new();
    for (ms, packet) in video(70) {
        let ssrc = if ms / 33 < 20 { packet[8..12].to_vec() } else { vec![7; 4] };
        demuxer.rtp(Stamp::from_millis(ms), 0, &[&packet[..8], &ssrc, &packet[12..]].concat(), &mut out);
    }
    let pictures: Vec<u64> = frames(&out).iter().map(|frame| picture(frame)).collect();
    let expected: Vec<u64> = (0..20).chain(30..70).collect();
    assert_eq!(pictures, expected);
}

#[test]
fn another_source_is_followed_and_a_stray_packet_is_not() {
    let mut demuxer = demuxer(None, OnLoss::Pass);
    let mut out = Vec::new();
    let foreign = |packet: &[u8], ssrc: u8| [&packet[..8], &[ssrc; 4], &packet[12..]].concat();
    for (at, (ms, packet)) in video(60).into_iter().enumerate() {
        let now = Stamp::from_millis(ms);
        if at == 9 {
            demuxer.rtp(now, 0, &foreign(&packet, 9), &mut out);
        }
        let packet = if at >= 90 { foreign(&packet, 7) } else { packet };
        demuxer.rtp(now, 0, &packet, &mut out);
    }
    let pictures: Vec<u64> = frames(&out).iter().map(|frame| picture(frame)).collect();
    let expected: Vec<u64> = (0..60).filter(|number| *number != 29).collect();
    assert_eq!(pictures, expected, "one is lost where the source changes");
    assert_eq!(demuxer.ssrc(0), Some(0x0707_0707));
}

#[test]
fn tracks_are_announced_as_they_become_known() {
    let mut payloads: Vec<RtpPayload> = av().iter().map(|track| outgoing(track).unwrap()).collect();
    payloads[0].config = Bytes::new();
    let mut demuxer = RtpDemuxer::new(payloads, DemuxOptions { reorder_ms: None, on_loss: OnLoss::Pass, ssrc: 1 });
    let mut out = Vec::new();
    let sound = [&[0x80, 8, 0, 1, 0, 0, 0, 9, 0, 0, 0, 3][..], &[0xD5; 160]].concat();
    demuxer.rtp(Stamp::ZERO, 1, &sound, &mut out);
    let counts = |out: &[Demuxed]| -> Vec<usize> {
        let tracks =
            |result: &Demuxed| if let Demuxed::Event(MediaEvent::Tracks(tracks)) = result { Some(tracks.len()) } else { None };
        out.iter().filter_map(tracks).collect()
    };
    assert_eq!(counts(&out), [1], "sound does not wait");
    for (ms, packet) in video(2) {
        demuxer.rtp(Stamp::from_millis(ms), 0, &packet, &mut out);
    }
    assert_eq!(counts(&out), [1, 2]);
    let Some(Demuxed::Event(MediaEvent::Tracks(tracks))) =
        out.iter().rev().find(|result| matches!(result, Demuxed::Event(MediaEvent::Tracks(_))))
    else {
        panic!("tracks")
    };
    assert_eq!(tracks.get(TrackId(0)).unwrap().config, h264_config(), "from the stream itself");
}

#[test]
fn reports_answer_the_sender() {
    let mut demuxer = demuxer(None, OnLoss::Pass);
    let mut out = Vec::new();
    assert_eq!(demuxer.receiver_report(Stamp::ZERO, 0), None);
    for (ms, packet) in video(3) {
        demuxer.rtp(Stamp::from_millis(ms), 0, &packet, &mut out);
    }
    let report = demuxer.receiver_report(Stamp::from_millis(100), 0).unwrap();
    let block = ReportBlock::of(&report);
    assert_eq!((block.ssrc, block.lost), (demuxer.ssrc(0).unwrap(), 0));
    assert!(report.windows(9).any(|name| name == b"shardcast"));
}

/// What a receiver report says.
#[derive(Debug, PartialEq)]
struct ReportBlock {
    ssrc: u32,
    fraction_lost: u8,
    lost: i32,
    highest: u32,
    jitter: u32,
}

impl ReportBlock {
    fn of(report: &[u8]) -> Self {
        let word = |at: usize| u32::from_be_bytes(report[at..at + 4].try_into().unwrap());
        assert_eq!(word(0), 0x81C9_0007, "a receiver report of one block");
        let lost = word(12);
        ReportBlock {
            ssrc: word(8),
            fraction_lost: (lost >> 24) as u8,
            lost: (lost << 8).cast_signed() >> 8,
            highest: word(16),
            jitter: word(20),
        }
    }
}

/// The packet with another number, timestamp and source.
fn renumbered(packet: &[u8], number: u16, timestamp: u32, ssrc: u32) -> Vec<u8> {
    let shifted = u32::from_be_bytes(packet[4..8].try_into().unwrap()).wrapping_add(timestamp);
    let sequence = u16::from_be_bytes(packet[2..4].try_into().unwrap()).wrapping_add(number);
    [&packet[..2], &sequence.to_be_bytes(), &shifted.to_be_bytes(), &ssrc.to_be_bytes(), &packet[12..]].concat()
}

#[test]
fn a_source_that_begins_anew_is_reported_anew() {
    // Half of the packets are lost; then the same sender begins again with other numbers and timestamps.
    let mut demuxer = demuxer(Some(50), OnLoss::Pass);
    let mut out = Vec::new();
    let packets = video(60);
    let total = packets.len() as u64;
    for (at, (ms, packet)) in packets.iter().enumerate() {
        let now = Stamp::from_millis(*ms);
        if at >= 90 {
            demuxer.rtp(now, 0, &renumbered(packet, 30_000, 1_000_000_000, 7), &mut out);
        } else if at % 2 == 0 {
            demuxer.rtp(now, 0, &renumbered(packet, 0, 0, 7), &mut out);
        }
    }
    let block = ReportBlock::of(&demuxer.receiver_report(Stamp::from_millis(2_000), 0).unwrap());
    assert_eq!((block.fraction_lost, block.lost), (0, 0), "{block:?}");
    assert!(block.jitter < 3_000, "{block:?}");
    let received = demuxer.take_received();
    let reported = (received.received, received.lost, received.useless);
    assert_eq!(reported, (45 + total - 91, 44, 1), "nothing vanishes");
}

#[test]
fn decoding_goes_on_behind_another_source() {
    // The clock of the second is anywhere, and half of its packets come with the first one's still held for order.
    for (ssrc, number) in [(7, 0), (9, 5_000)] {
        let mut demuxer = demuxer(Some(50), OnLoss::Pass);
        let mut out = Vec::new();
        let packets = video(60);
        let total = packets.len() as u64;
        for (at, (ms, packet)) in packets.into_iter().enumerate() {
            let packet = match at {
                88 => continue,
                0..90 => renumbered(&packet, 0, 0, 7),
                _ => renumbered(&packet, number + 20_000, 123_456_789, ssrc),
            };
            demuxer.rtp(Stamp::from_millis(ms), 0, &packet, &mut out);
        }
        let frames = frames(&out);
        assert!(frames.len() > 55 && frames.windows(2).all(|pair| pair[0].dts < pair[1].dts), "{ssrc}");
        let received = demuxer.take_received();
        let reported = (received.received, received.lost, received.useless);
        assert_eq!(reported, (total - 2, 1, 1), "{ssrc}: nothing vanishes");
        for frame in frames {
            let delay = frame.arrival.as_nanos() as i64 / 1000 - (frame.dts.as_micros() - START_MICROS);
            assert!(frame.cts == 0 && delay.abs() < 1_000, "{ssrc}: {delay} µs");
        }
    }
}

#[test]
fn behind_a_goodbye_another_source_loses_nothing() {
    let mut demuxer = demuxer(None, OnLoss::Pass);
    let mut out = Vec::new();
    let (first, second): (Vec<_>, Vec<_>) = video(60).into_iter().partition(|(ms, _)| ms / 33 < 30);
    for (ssrc, packets) in [(7, first), (9, second)] {
        if ssrc == 9 {
            let mut goodbye = BytesMut::new();
            rtcp::write_bye(&mut goodbye, 7);
            demuxer.rtp(Stamp::from_millis(990), 0, &goodbye, &mut out);
        }
        for (ms, packet) in packets {
            demuxer.rtp(Stamp::from_millis(ms), 0, &renumbered(&packet, 0, 0, ssrc), &mut out);
        }
    }
    assert_eq!((frames(&out).len(), demuxer.take_received().useless), (60, 0), "RTCP on the port of RTP is told by its type");
}
