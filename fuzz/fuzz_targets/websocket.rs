//! Any bytes from a WebSocket client → `FrameReader`: no panic, and the outcome does not depend on how the bytes were cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardcast::format::websocket::{ClientFrame, FrameReader, WebSocketError};

fn read(pieces: &[&[u8]]) -> (Vec<ClientFrame>, Option<WebSocketError>) {
    let mut reader = FrameReader::new();
    let mut frames = Vec::new();
    for mut piece in pieces.iter().copied() {
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

fuzz_target!(|input: &[u8]| {
    let Some((cut, bytes)) = input.split_first() else { return };
    let whole = read(&[bytes]);
    let (front, back) = bytes.split_at(usize::from(*cut).min(bytes.len()));
    assert_eq!(read(&[front, back]), whole);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(&single), whole);
});
