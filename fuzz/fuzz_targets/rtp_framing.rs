//! A byte stream → `Framing`: no panic; the same packets wherever it is cut; no more bytes come out, or are kept, than went in or may be.
//!
//! Input: a byte for the size of the pieces, one that says whether a source is expected; then the stream.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardcast::format::rtp::framing::{Framing, HELD_BYTES_MAX};

fn run(ssrc: Option<u32>, bytes: &[u8], piece: usize) -> Vec<(bool, Vec<u8>)> {
    let (mut framing, mut out, mut given) = (Framing::new(ssrc), Vec::new(), 0);
    for piece in bytes.chunks(piece) {
        framing.push(piece, |follows, packet| {
            given += packet.len();
            out.push((follows, packet.to_vec()));
        });
        assert!(framing.held_bytes() <= HELD_BYTES_MAX);
    }
    let passed_over = framing.take_passed_over() as usize;
    assert!(given + passed_over + framing.held_bytes() <= bytes.len());
    out
}

fuzz_target!(|input: &[u8]| {
    let [piece, expects, bytes @ ..] = input else { return };
    let ssrc = (expects & 1 != 0).then_some(7);
    let whole = run(ssrc, bytes, usize::MAX);
    // A whole stream is given in pieces too, of other sizes.
    assert_eq!(run(ssrc, bytes, usize::from(*piece).max(1)), whole);
});
