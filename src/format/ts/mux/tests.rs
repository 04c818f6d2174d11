//! Where the tables stand, and what each packet is for a viewer.

use super::*;
use crate::format::rtp::mux::tests::{frame, h264_config, track, unit};
use crate::format::ts::PACKET_BYTES;
use crate::media::aac::AacConfig;
use crate::media::{Codec, Track, Tracks};

fn push(muxer: &mut TsMuxer, event: MediaEvent) -> Vec<Packet> {
    let mut out = Vec::new();
    muxer.push(&event, &mut out);
    out
}

fn tracks(tracks: Vec<Track>) -> MediaEvent {
    MediaEvent::Tracks(Tracks::new(tracks, Bytes::new()))
}

fn video() -> Track {
    track(0, Codec::H264, h264_config())
}

fn audio() -> Track {
    track(1, Codec::Aac, AacConfig::build_lc(48_000, 2))
}

fn picture(ms: i64, key: bool) -> MediaEvent {
    MediaEvent::Frame(frame(0, ms, key, unit(&[&[if key { 0x65 } else { 0x41 }, 0x88, 1]])))
}

fn sound(ms: i64) -> MediaEvent {
    MediaEvent::Frame(frame(1, ms, true, Bytes::from_static(&[0x21, 1, 2])))
}

/// The PIDs of what a packet of the ring holds.
fn pids(packet: &Packet) -> Vec<u16> {
    let bytes = packet.parts.concat();
    assert_eq!(bytes.len() % PACKET_BYTES, 0);
    bytes.chunks(PACKET_BYTES).map(|packet| u16::from_be_bytes([packet[1], packet[2]]) & 0x1FFF).collect()
}

const TABLES: [u16; 2] = [0, 0x1000];

#[test]
fn key_pictures_have_tables_in_front_and_are_where_viewers_begin() {
    let mut muxer = TsMuxer::new(Envelope::None);
    assert!(push(&mut muxer, tracks(vec![video(), audio()])).is_empty(), "the config is in the key pictures");
    let mut sent = |event| {
        let packets = push(&mut muxer, event);
        assert_eq!(packets.len(), 1);
        (packets[0].kind, pids(&packets[0]))
    };
    let with_tables = |pid| [&TABLES[..], &[pid]].concat();
    assert_eq!(sent(sound(0)), (PacketKind::Audio, with_tables(0x101)), "whatever comes first");
    assert_eq!(sent(picture(0, true)), (PacketKind::Key, with_tables(0x100)));
    assert_eq!(sent(sound(20)), (PacketKind::Audio, vec![0x101]));
    assert_eq!(sent(picture(40, false)), (PacketKind::Delta, vec![0x100]));
    assert_eq!(sent(picture(80, true)), (PacketKind::Key, with_tables(0x100)));
    assert_eq!(sent(picture(560, false)).1.iter().filter(|pid| TABLES.contains(pid)).count(), 0);
    assert_eq!(sent(sound(580)), (PacketKind::Audio, with_tables(0x101)), "500 ms later");
    assert!(push(&mut muxer, MediaEvent::End).is_empty());
}

#[test]
fn sound_alone_has_the_tables_for_config() {
    for left_out in [None, Some(track(0, Codec::Av1, Bytes::new()))] {
        let mut muxer = TsMuxer::new(Envelope::None);
        let config = push(&mut muxer, tracks(left_out.into_iter().chain([audio()]).collect()));
        assert_eq!((config[0].kind, config.len(), pids(&config[0])), (PacketKind::Config, 1, TABLES.to_vec()));
        assert!(push(&mut muxer, picture(0, true)).is_empty());
        let sent: Vec<usize> = (0..100).map(|at| pids(&push(&mut muxer, sound(at * 20))[0]).len()).collect();
        assert_eq!(sent.iter().filter(|pids| **pids == 3).count(), 3, "{sent:?}");
        assert_eq!((sent[24], sent[25]), (1, 3));
    }
}

#[test]
fn envelopes_say_how_much_is_in_them() {
    let of = |envelope| {
        let mut muxer = TsMuxer::new(envelope);
        push(&mut muxer, tracks(vec![video()]));
        push(&mut muxer, picture(0, true))[0].parts.concat()
    };
    let bare = of(Envelope::None);
    assert_eq!(bare.len(), 3 * PACKET_BYTES);
    assert_eq!(of(Envelope::HttpChunk), [b"234\r\n", &bare[..], b"\r\n"].concat());
    assert_eq!(of(Envelope::WebSocket), [&[0x82, 126, 0x02, 0x34], &bare[..]].concat());
}

#[test]
fn what_a_transport_stream_cannot_carry_makes_nothing() {
    let mut muxer = TsMuxer::new(Envelope::None);
    assert!(push(&mut muxer, tracks(vec![track(0, Codec::Vp9, Bytes::new())])).is_empty());
    assert!(push(&mut muxer, picture(0, true)).is_empty());
}
