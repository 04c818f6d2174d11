//! Frames → `TsMuxer` → `TsDemuxer`: the same bytes, keys and times; and whatever frames hold, packets are whole, in order, and told the clock
//! in time.
//!
//! Input: two bytes for the picture's codec and the sound's, one for the options; then frames, see `elementary::Source`.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use shardcast::format::ts::PACKET_BYTES;
use shardcast::format::ts::demux::{Faults, TsDemuxer};
use shardcast::format::ts::mux::TsMuxer;
use shardcast::format::{Envelope, Muxer};
use shardcast::media::{Codec, Frame, MediaEvent, Stamp, Tracks};
use shardcast_fuzz::Choices;
use shardcast_fuzz::elementary::{Source, collect};

const SOUND: [Codec; 4] = [Codec::Aac, Codec::Opus, Codec::G711A, Codec::G711U];
const CLOCK_TICKS_MAX: u64 = 9_000;

fn send(source: &Source, frames: &[Frame]) -> Vec<u8> {
    let (mut muxer, mut out) = (TsMuxer::new(Envelope::None), Vec::new());
    muxer.push(&MediaEvent::Tracks(Tracks::new(source.tracks.clone(), Bytes::new())), &mut out);
    for frame in frames {
        muxer.push(&MediaEvent::Frame(frame.clone()), &mut out);
    }
    out.iter().flat_map(|packet| packet.parts.concat()).collect()
}

/// Whole packets, in order of their counters; the clock often enough, and never backwards.
fn check(bytes: &[u8]) {
    let (mut counters, mut clock) = (std::collections::BTreeMap::new(), None);
    for packet in bytes.chunks(PACKET_BYTES) {
        assert!(packet.len() == PACKET_BYTES && packet[0] == 0x47);
        let (pid, counter) = (u16::from_be_bytes([packet[1], packet[2]]), packet[3] & 0x0F);
        let has_payload = u8::from(packet[3] & 0x10 != 0);
        if let Some(last) = counters.insert(pid & 0x1FFF, counter) {
            assert_eq!(counter, (last + has_payload) & 0x0F, "{pid:x}");
        }
        if packet[3] & 0x20 != 0 && packet[4] >= 7 && packet[5] & 0x10 != 0 {
            let [a, b, c, d, e] = [6, 7, 8, 9, 10].map(|at| u64::from(packet[at]));
            let ticks = a << 25 | b << 17 | c << 9 | d << 1 | e >> 7;
            if let Some(last) = clock.replace(ticks) {
                assert!((last..=last + CLOCK_TICKS_MAX).contains(&ticks), "{ticks} behind {last}");
            }
        }
    }
}

fn receive(bytes: &[u8]) -> (Tracks, Vec<Frame>) {
    let (mut demuxer, mut out) = (TsDemuxer::new(), Vec::new());
    demuxer.push(Stamp::ZERO, bytes, &mut out);
    demuxer.finish(Stamp::ZERO, &mut out);
    assert_eq!(demuxer.faults(), Faults::default());
    collect(out)
}

fuzz_target!(|input: &[u8]| {
    let mut choices = Choices::new(input);
    let mut source = Source::new(&SOUND, &mut choices);
    let frames = source.frames(choices);
    let bytes = send(&source, &frames);
    check(&bytes);
    let received = receive(&bytes);
    if !source.anything {
        source.compare(&frames, &received);
    }
});
