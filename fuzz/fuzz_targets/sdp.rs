//! Any text as a session description: no panic; limits hold; what can be received can be begun with; and what is described of it again
//! is read as the same.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use shardcast::format::rtp::RtpPayload;
use shardcast::format::rtp::demux::{DemuxOptions, OnLoss, RtpDemuxer};
use shardcast::format::rtp::payload::{CLOCK_RATES, outgoing};
use shardcast::media::{Stamp, Track, TrackId, TrackKind, TrackShape, Tracks};
use shardcast::protocol::common::sdp::{self, CONTROL_BYTES_MAX, Description, MEDIA_MAX, Unusable};
use shardcast_fuzz::check_config;

fn check_limits(description: &Description) {
    assert!(description.media.len() <= MEDIA_MAX);
    let controls = description.media.iter().map(|media| &media.control).chain([&description.control]);
    assert!(controls.flatten().all(|control| (1..=CONTROL_BYTES_MAX).contains(&control.len())));
    for media in &description.media {
        match &media.payload {
            Ok(payload) => {
                assert_eq!(Some(payload.codec.kind()), media.kind);
                assert!(payload.payload_type <= 127 && CLOCK_RATES.contains(&payload.clock_rate));
                if !payload.config.is_empty() {
                    check_config(payload.codec, &payload.config);
                }
            }
            Err(Unusable::Codec(name)) => assert!(name.chars().count() <= 64 && !name.chars().any(char::is_control)),
            Err(Unusable::Interleaved | Unusable::Parameters) => {}
        }
    }
}

fn track(payload: &RtpPayload, id: u8) -> Track {
    let shape = match payload.codec.kind() {
        TrackKind::Video => TrackShape::Video { width: 0, height: 0, frames_per_second: 0.0 },
        _ => TrackShape::Audio { sample_rate: payload.clock_rate, channels: payload.channels },
    };
    Track { id: TrackId(id), codec: payload.codec, config: payload.config.clone(), shape }
}

/// Our own description of the first picture and the first sound.
fn describe_again(text: &str, payloads: &[RtpPayload]) {
    let tracks: Vec<Track> = payloads.iter().zip(0..).map(|(payload, id)| track(payload, id)).collect();
    let tracks = Tracks::new(tracks, Bytes::new());
    let name = text.get(..40).unwrap_or(text);
    let Some(written) = sdp::write(&tracks, name, IpAddr::V4(Ipv4Addr::LOCALHOST)) else { return };
    assert!(written.split_terminator("\r\n").all(|line| line.as_bytes().get(1) == Some(&b'=') && !line.contains('\n')));
    let description = sdp::parse(&written).expect("what is written can be read");
    check_limits(&description);
    let sent = [TrackKind::Video, TrackKind::Audio].into_iter().filter_map(|kind| outgoing(tracks.first(kind)?));
    let sent: Vec<RtpPayload> = sent.collect();
    assert_eq!(description.media.len(), sent.len());
    for (media, sent) in description.media.iter().zip(sent) {
        let read = media.payload.as_ref().expect("what we send can be received");
        let facts = |payload: &RtpPayload| (payload.payload_type, payload.clock_rate, payload.codec, payload.form);
        assert_eq!(facts(read), facts(&sent));
    }
}

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let Ok(description) = sdp::parse(&text) else { return };
    check_limits(&description);
    let payloads: Vec<RtpPayload> = description.media.into_iter().filter_map(|media| media.payload.ok()).collect();
    describe_again(&text, &payloads);
    let options = DemuxOptions { reorder_ms: Some(50), on_loss: OnLoss::Pass, ssrc: 1 };
    let mut demuxer = RtpDemuxer::new(payloads.clone(), options);
    for (track, payload) in payloads.iter().enumerate() {
        let packet = [&[0x80, 0x80 | payload.payload_type, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1], input].concat();
        demuxer.rtp(Stamp::ZERO, track, &packet, &mut Vec::new());
    }
});
