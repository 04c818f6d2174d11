//! Any bytes as the peer's side of the handshake, for the server and for the client: no panic, the same answers in all pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardcast::protocol::rtmp::handshake::{ClientHandshake, HandshakeError, ServerHandshake, Step};

/// What is sent, and what is left for the chunk reader once the handshake is done.
fn run(
    bytes: &[u8],
    piece: usize,
    mut step: impl FnMut(&mut &[u8]) -> Result<Step, HandshakeError>,
) -> Result<(Vec<u8>, Option<Vec<u8>>), HandshakeError> {
    let (mut sent, mut rest) = (Vec::new(), None::<Vec<u8>>);
    for mut piece in bytes.chunks(piece) {
        while rest.is_none() {
            match step(&mut piece)? {
                Step::Wait => break,
                Step::Send(bytes) => sent.extend_from_slice(&bytes),
                Step::Done => rest = Some(Vec::new()),
            }
        }
        match &mut rest {
            Some(rest) => rest.extend_from_slice(piece),
            None => assert!(piece.is_empty()),
        }
    }
    Ok((sent, rest))
}

fuzz_target!(|data: &[u8]| {
    let Some((&piece, bytes)) = data.split_first() else { return };
    let run_server = |piece| {
        let mut handshake = ServerHandshake::default();
        run(bytes, piece, |input| handshake.step(input, 1, 2))
    };
    let run_client = |piece| {
        let mut handshake = ClientHandshake::default();
        run(bytes, piece, |input| handshake.step(input, 1, 2))
    };
    let piece = usize::from(piece).max(1);
    assert_eq!(run_server(piece), run_server(usize::MAX));
    assert_eq!(run_client(piece), run_client(usize::MAX));
});
