//! Framing against tables, cut at every byte boundary, and against an independent implementation; the muxer against [`FlvMuxer`].

use std::io::Cursor;

use tungstenite::protocol::{Role, WebSocket};

use super::super::Envelope;
use super::super::flv_mux::FlvMuxer;
use super::*;
use crate::format::{HevcForm, Muxer, Packet};
use crate::media::{Codec, Frame, MediaEvent, MediaTime, Stamp, Track, TrackId, TrackShape, Tracks};

const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A client's frame: `first` is FIN, reserved bits and opcode.
fn client(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len @ 126..=0xFFFF => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

type Outcome = (Vec<ClientFrame>, Option<WebSocketError>);

fn read_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut reader = FrameReader::new();
    let mut frames = Vec::new();
    for mut piece in pieces {
        loop {
            match reader.read(&mut piece) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        assert!(piece.is_empty());
    }
    (frames, None)
}

#[test]
fn the_example_key_of_the_rfc() {
    assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    for (key, good) in [
        ("dGhlIHNhbXBsZSBub25jZQ==", true),
        ("", false),
        ("dGhlIHNhbXBsZSBub25jZQ", false),
        ("dGhlIHNhbXBsZSBub25jZSE=", false),
        ("!GhlIHNhbXBsZSBub25jZQ==", false),
    ] {
        assert_eq!(is_key(key), good, "{key:?}");
    }
}

#[test]
fn lengths_are_written_in_the_shortest_form() {
    let cases: [(usize, &[u8]); 6] = [
        (0, &[0x82, 0]),
        (125, &[0x82, 125]),
        (126, &[0x82, 126, 0, 126]),
        (65_535, &[0x82, 126, 0xFF, 0xFF]),
        (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        (0x0102_0304, &[0x82, 127, 0, 0, 0, 0, 1, 2, 3, 4]),
    ];
    for (len, expected) in cases {
        let mut header = Vec::new();
        frame_header(Opcode::Binary, len, &mut header);
        assert_eq!(header, expected, "{len}");
    }
}

#[test]
fn control_frames_are_written_whole() {
    assert_eq!(&control_frame(Opcode::Pong, b"hi")[..], b"\x8A\x02hi");
    assert_eq!(control_frame(Opcode::Ping, &[7; 300]).len(), 2 + CONTROL_BYTES_MAX);
    assert_eq!(&close_frame(Some(1000))[..], [0x88, 2, 0x03, 0xE8]);
    assert_eq!(&close_frame(None)[..], [0x88, 0]);
}

#[test]
fn client_frames_and_every_cut_of_them() {
    use ClientFrame::*;
    use WebSocketError::*;
    let long = vec![b'x'; 70_000];
    let cases: Vec<(&str, Vec<u8>, Outcome)> = vec![
        ("nothing", vec![], (vec![], None)),
        ("empty ping", client(0x89, b""), (vec![Ping(vec![])], None)),
        ("ping", client(0x89, b"Hello"), (vec![Ping(b"Hello".to_vec())], None)),
        ("the longest ping", client(0x89, &long[..125]), (vec![Ping(long[..125].to_vec())], None)),
        ("pong", client(0x8A, b"x"), (vec![Pong], None)),
        ("text is dropped", [client(0x81, b"hello"), client(0x89, b"1")].concat(), (vec![Ping(b"1".to_vec())], None)),
        ("two pings", [client(0x89, b"1"), client(0x89, b"2")].concat(), (vec![Ping(b"1".to_vec()), Ping(b"2".to_vec())], None)),
        (
            "a ping between fragments",
            [
                client(0x01, b"a"),
                client(0x89, b"1"),
                client(0x00, b"b"),
                client(0x80, b""),
                client(0x82, &long[..300]),
                client(0x8A, b""),
            ]
            .concat(),
            (vec![Ping(b"1".to_vec()), Pong], None),
        ),
        ("close without a code", client(0x88, b""), (vec![Close(None)], None)),
        ("close 1000 with a reason", client(0x88, b"\x03\xE8bye"), (vec![Close(Some(1000))], None)),
        ("close 4000", client(0x88, b"\x0F\xA0"), (vec![Close(Some(4000))], None)),
        ("half a close code", client(0x88, b"\x03"), (vec![], Some(BadClose))),
        ("close 1005", client(0x88, b"\x03\xED"), (vec![], Some(BadClose))),
        ("close 999", client(0x88, b"\x03\xE7"), (vec![], Some(BadClose))),
        ("unmasked", vec![0x89, 0x00], (vec![], Some(Unmasked))),
        ("reserved bits", client(0xC1, b""), (vec![], Some(ReservedBits))),
        ("opcode 3", client(0x83, b""), (vec![], Some(UnknownOpcode(3)))),
        ("opcode 15", client(0x8F, b""), (vec![], Some(UnknownOpcode(15)))),
        ("fragmented ping", client(0x09, b""), (vec![], Some(FragmentedControl))),
        ("long ping", client(0x89, &long[..126]), (vec![], Some(ControlTooLong))),
        ("16-bit length for 125", vec![0x82, 0xFE, 0, 125], (vec![], Some(LengthNotMinimal))),
        ("64-bit length for 65535", vec![0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], (vec![], Some(LengthNotMinimal))),
        ("continuation of nothing", client(0x80, b"a"), (vec![], Some(NothingToContinue))),
        ("text inside text", [client(0x01, b"a"), client(0x81, b"b")].concat(), (vec![], Some(MessageInterrupted))),
        ("too big", client(0x82, &long)[..14].to_vec(), (vec![], Some(MessageTooBig))),
        ("too big to count", [&[0x82, 0xFF][..], &[0xFF; 8], &MASK].concat(), (vec![], Some(MessageTooBig))),
        (
            "too big in sum",
            [client(0x02, &long[..40_000]), client(0x80, &long[..30_000])].concat(),
            (vec![], Some(MessageTooBig)),
        ),
    ];
    for (name, bytes, expected) in cases {
        assert_eq!(read_pieces([&bytes[..]]), expected, "{name}");
        let cuts = if bytes.len() > 2_000 {
            (0..20).chain(bytes.len() - 20..bytes.len()).collect()
        } else {
            (0..bytes.len()).collect::<Vec<_>>()
        };
        for cut in cuts {
            assert_eq!(read_pieces([&bytes[..cut], &bytes[cut..]]), expected, "{name}, cut at {cut}");
        }
        assert_eq!(read_pieces(bytes.chunks(1)), expected, "{name}, byte by byte");
    }
}

#[test]
fn an_unmasked_frame_is_refused_at_its_second_byte() {
    assert_eq!(read_pieces([&[0x82, 0x05][..]]).1, Some(WebSocketError::Unmasked));
}

fn video(data: &Bytes, key: bool) -> MediaEvent {
    MediaEvent::Frame(Frame {
        data: data.clone(),
        arrival: Stamp::from_millis(7),
        dts: MediaTime::from_millis(40),
        cts: 0,
        segment: 0,
        track: TrackId(0),
        key,
    })
}

fn events(data: &Bytes) -> [MediaEvent; 3] {
    let avcc = Bytes::from_static(&[
        1, 0x42, 0xC0, 0x0A, 0xFF, 0xE1, 0, 8, 0x67, 0x42, 0xC0, 0x0A, 0xDA, 0x0F, 0x0A, 0x68, 1, 0, 4, 0x68, 0xCE, 0x3C, 0x80,
    ]);
    let video_track = Track {
        id: TrackId(0),
        codec: Codec::H264,
        config: avcc,
        shape: TrackShape::Video { width: 16, height: 16, frames_per_second: 25.0 },
    };
    let audio_track = Track {
        id: TrackId(1),
        codec: Codec::Aac,
        config: Bytes::from_static(&[0x12, 0x10]),
        shape: TrackShape::Audio { sample_rate: 44_100, channels: 2 },
    };
    [MediaEvent::Tracks(Tracks::new(vec![video_track, audio_track], Bytes::new())), video(data, true), video(data, false)]
}

fn packets(muxer: &mut dyn Muxer, data: &Bytes) -> Vec<Packet> {
    let mut packets = Vec::new();
    for event in events(data) {
        muxer.push(&event, &mut packets);
    }
    packets
}

fn flat(parts: &[Bytes]) -> Vec<u8> {
    parts.concat()
}

#[test]
fn each_flv_packet_is_one_message() {
    for len in [20, 100, 125, 126, 70_000] {
        let data = Bytes::from(vec![9; len]);
        let (mut flv, mut ws) =
            (FlvMuxer::new(HevcForm::Enhanced, Envelope::None), FlvMuxer::new(HevcForm::Enhanced, Envelope::WebSocket));
        let (plain, framed) = (packets(&mut flv, &data), packets(&mut ws, &data));
        assert_eq!(framed.len(), 3);
        let mut wire = ws.head().unwrap().to_vec();
        for packet in &framed {
            assert_eq!(packet.len, flat(&packet.parts).len());
            wire.extend(flat(&packet.parts));
        }
        let mut client = WebSocket::from_raw_socket(Cursor::new(wire), Role::Client, None);
        let head = client.read().unwrap().into_data();
        assert_eq!(Some(head), flv.head());
        for (plain, framed) in plain.iter().zip(&framed) {
            let message = client.read().unwrap();
            assert!(message.is_binary());
            assert_eq!(message.into_data(), flat(&plain.parts), "{len}");
            assert_eq!((plain.kind, plain.arrival, plain.dts), (framed.kind, framed.arrival, framed.dts));
        }
    }
}

#[test]
fn a_frame_is_shared_and_stays_in_three_parts() {
    let data = Bytes::from(vec![9; 1_000]);
    let framed = packets(&mut FlvMuxer::new(HevcForm::Enhanced, Envelope::WebSocket), &data);
    for packet in &framed[1..] {
        assert_eq!(packet.parts.len(), 3);
        assert_eq!(packet.parts[1].as_ptr(), data.as_ptr());
        assert!(!packet.parts.spilled());
    }
}
