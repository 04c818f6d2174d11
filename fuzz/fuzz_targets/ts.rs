//! Bytes and packets → `TsDemuxer`: no panic; no more is kept than the limit; frames are canonical and of tracks that were announced; and the
//! same comes out wherever the bytes are cut.
//!
//! Input: a byte for the size of the pieces, then steps: a byte and a sized payload. The byte: raw bytes; tables of tracks that it chooses; a PES
//! packet of a picture or sound, with or without its length; or the same with a packet missing.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use shardcast::format::rtp::demux::Demuxed;
use shardcast::format::ts::PACKET_BYTES;
use shardcast::format::ts::demux::{HELD_BYTES_MAX, TsDemuxer};
use shardcast::format::ts::write::TsWriter;
use shardcast::media::{Codec, Stamp, Tracks};
use shardcast_fuzz::elementary::check;
use shardcast_fuzz::{Choices, track};

const SOUND: [Codec; 5] = [Codec::Aac, Codec::Mp3, Codec::Opus, Codec::G711A, Codec::G711U];
const VIDEO_PID: u16 = 0x100;
const AUDIO_PID: u16 = 0x101;
const BODY_BYTES: usize = 184;
const VIDEO: [Option<Codec>; 4] = [None, Some(Codec::H264), Some(Codec::H265), Some(Codec::Av1)];
const AUDIO: [Option<Codec>; 8] = [
    None,
    Some(Codec::Aac),
    Some(Codec::Mp3),
    Some(Codec::Opus),
    Some(Codec::G711A),
    Some(Codec::G711U),
    Some(Codec::Script),
    Some(Codec::Aac),
];

fn build(choices: &mut Choices<'_>) -> Vec<u8> {
    let (mut writer, mut counters, mut bytes) = (TsWriter::new(), [0u8; 2], Vec::new());
    while !choices.is_over() {
        let step = choices.byte();
        match step & 7 {
            0 => bytes.extend_from_slice(choices.sized()),
            1 => {
                let codecs = [VIDEO[usize::from(step >> 3 & 3)], AUDIO[usize::from(step >> 5)]];
                let tracks = codecs.into_iter().flatten().zip(0..).map(|(codec, id)| track(id, codec)).collect();
                writer.set_tracks(&Tracks::new(tracks, Bytes::new()));
                let mut tables = BytesMut::new();
                writer.tables(&mut tables);
                bytes.extend_from_slice(&tables);
            }
            kind => {
                let is_video = kind & 1 == 0;
                let pes = pes(step, is_video, choices);
                let missing = if kind < 6 { usize::MAX } else { usize::from(choices.byte()) };
                packets(is_video, &mut counters[usize::from(is_video)], &pes, missing, &mut bytes);
            }
        }
    }
    bytes
}

fn pes(step: u8, is_video: bool, choices: &mut Choices<'_>) -> Vec<u8> {
    let mut pes = vec![0, 0, 1, if is_video { 0xE0 } else { 0xC0 }, 0, 0, 0x80, 0, 0];
    if step & 0x08 != 0 {
        let time = choices.number();
        let [a, b, c, d] = time.to_be_bytes();
        pes[7..9].copy_from_slice(&[0x80, 5]);
        pes.extend_from_slice(&[0x21 | a & 0x0E, b, c | 1, d, 1]);
    }
    pes.extend_from_slice(choices.sized());
    if step & 0x10 != 0 {
        let length = u16::try_from(pes.len() - 6).unwrap_or(0);
        pes[4..6].copy_from_slice(&length.to_be_bytes());
    }
    pes
}

/// Cut into packets, of which one may be missing; the last is filled up in front.
fn packets(is_video: bool, counter: &mut u8, pes: &[u8], missing: usize, bytes: &mut Vec<u8>) {
    let [high, low] = if is_video { VIDEO_PID } else { AUDIO_PID }.to_be_bytes();
    for (at, payload) in pes.chunks(BODY_BYTES).enumerate() {
        let stuffing = BODY_BYTES - payload.len();
        let head = [0x47, u8::from(at == 0) << 6 | high, low, 0x10 | u8::from(stuffing > 0) << 5 | *counter & 0x0F];
        *counter = counter.wrapping_add(1);
        if at == missing {
            continue;
        }
        bytes.extend_from_slice(&head);
        if stuffing > 0 {
            bytes.push(stuffing as u8 - 1);
        }
        if stuffing > 1 {
            bytes.push(0);
            bytes.resize(bytes.len() + stuffing - 2, 0xFF);
        }
        bytes.extend_from_slice(payload);
    }
    assert!(missing != usize::MAX || pes.is_empty() || bytes.len() >= PACKET_BYTES);
}

fn run<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Demuxed> {
    let (mut demuxer, mut out) = (TsDemuxer::new(), Vec::new());
    for piece in pieces {
        demuxer.push(Stamp::ZERO, piece, &mut out);
        assert!(demuxer.held_bytes() <= HELD_BYTES_MAX);
    }
    demuxer.finish(Stamp::ZERO, &mut out);
    out
}

fuzz_target!(|input: &[u8]| {
    let [piece, steps @ ..] = input else { return };
    // Captures begin with a packet, and are taken as they are.
    let bytes = if *piece == 0x47 { input.to_vec() } else { build(&mut Choices::new(steps)) };
    let whole = run([&bytes[..]]);
    check(&whole, &SOUND);
    assert!(run(bytes.chunks(usize::from(*piece).max(1))) == whole, "cuts show");
});
