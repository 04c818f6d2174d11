//! Bytes, ends of frames and losses → `PsDemuxer`: no panic; no more is kept than the limit; frames are canonical and of tracks that were
//! announced, wherever the bytes are cut.
//!
//! Input: a byte for the size of the pieces, then steps: 0xFD an end of a frame, 0xFC a loss, 0xFB time passes; each twice for itself;
//! everything else is what is sent.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardcast::format::ps::{HELD_BYTES_MAX, PsDemuxer};
use shardcast::format::rtp::demux::{Demuxed, OnLoss};
use shardcast::media::{Codec, Stamp};
use shardcast_fuzz::elementary::check;

const SOUND: [Codec; 4] = [Codec::Aac, Codec::Mp3, Codec::G711A, Codec::G711U];
const END: u8 = 0xFD;
const LOSS: u8 = 0xFC;
const TIME: u8 = 0xFB;

fn run(input: &[u8], piece: usize) -> Vec<Demuxed> {
    let (mut demuxer, mut out, mut now) = (PsDemuxer::new(OnLoss::Pass), Vec::new(), Stamp::from_millis(1_000_000));
    let mut rest = input;
    while let Some(first) = rest.first() {
        match (first, rest.get(1)) {
            (&END, second) if second != Some(&END) => {
                demuxer.frame_end(now, &mut out);
                rest = &rest[1..];
                demuxer.frame_begins(now, rest, &mut out);
                continue;
            }
            (&LOSS, second) if second != Some(&LOSS) => demuxer.lost(&mut out),
            (&TIME, second) if second != Some(&TIME) => now = now.after_millis(1_000),
            (&(END | LOSS | TIME), _) => {
                demuxer.push(now, &rest[..1], &mut out);
                rest = &rest[2..];
                continue;
            }
            _ => {
                let plain = rest.iter().position(|byte| matches!(*byte, END | LOSS | TIME)).unwrap_or(rest.len());
                rest[..plain].chunks(piece).for_each(|piece| demuxer.push(now, piece, &mut out));
                rest = &rest[plain..];
                assert!(demuxer.held_bytes() <= HELD_BYTES_MAX);
                continue;
            }
        }
        rest = &rest[1..];
    }
    out
}

fuzz_target!(|input: &[u8]| {
    let [piece, steps @ ..] = input else { return };
    check(&run(steps, usize::MAX), &SOUND);
    // A frame goes out with its last byte, before what follows could tell that the sender lied: so cuts may show in streams that lie.
    check(&run(steps, usize::from(*piece).max(1)), &SOUND);
});
