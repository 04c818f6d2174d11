//! The RTMP handshake: C0 C1 C2 ⇄ S0 S1 S2.
//!
//! Adobe RTMP 1.0 §5.2 (simple), and the undocumented digest form that Flash and ffmpeg use (complex):
//!
//! ```text
//! C1/S1: time (4) | version (4) | block (764) | block (764)        one block holds the digest, the other a key that only RTMPE needs
//! block with a digest: offset (4 bytes, summed, mod 728) | … | digest (32) | …
//! ```
//!
//! Limits: one packet of 1536 bytes is kept, and only while it is incomplete. C2 is counted and not looked at: GStreamer changes its
//! second time field, and ffmpeg signs or echoes it depending on its role. Not here: RTMPE, and chunks, which may follow C2 at once.

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::protocol::common::random::SplitMix64;

/// Length of C1, C2, S1 and S2.
pub const PACKET_BYTES: usize = 1536;
/// Plain RTMP.
const VERSION: u8 = 3;
const DIGEST_BYTES: usize = 32;
/// What S1 says in its version field in complex mode.
const SERVER_VERSION: [u8; 4] = [4, 5, 0, 1];

/// The first 36 bytes sign S1, all 68 are the base of the key that signs S2.
const SERVER_KEY: &[u8; 68] = b"Genuine Adobe Flash Media Server 001\
    \xF0\xEE\xC2\x4A\x80\x68\xBE\xE8\x2E\x00\xD0\xD1\x02\x9E\x7E\x57\x6E\xEC\x5D\x2D\x29\x80\x6F\xAB\x93\xB8\xE6\x36\xCF\xEB\x31\xAE";
const SERVER_KEY_TEXT_BYTES: usize = 36;
/// Signs C1.
const PLAYER_KEY: &[u8; 30] = b"Genuine Adobe Flash Player 001";

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    #[error("the first byte is {0}, not an RTMP version")]
    NotRtmp(u8),
    #[error("encrypted RTMP (version {0}) is not supported")]
    Encrypted(u8),
}

/// Where C1 keeps its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    DigestFirst,
    KeyFirst,
}

impl Scheme {
    /// Where the digest begins in `packet`: the sum of the block's first four bytes decides.
    pub(super) fn digest_position(self, packet: &[u8; PACKET_BYTES]) -> usize {
        let block = match self {
            Scheme::DigestFirst => 8,
            Scheme::KeyFirst => 772,
        };
        let sum: usize = packet[block..block + 4].iter().map(|byte| usize::from(*byte)).sum();
        block + 4 + sum % 728
    }
}

/// The server's side.
#[derive(Debug, Default)]
pub struct ServerHandshake {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Version,
    /// C1, and how much of it is there.
    Hello(Box<[u8; PACKET_BYTES]>, usize),
    /// So many bytes of C2 are still to come.
    Echo(usize),
}

/// What a step of the handshake asks of its owner.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// More bytes are needed.
    Wait,
    Send(Bytes),
    /// What is left of the input are chunks.
    Done,
}

impl ServerHandshake {
    /// Takes bytes off the front of `input`. Call again until it says `Wait` or `Done`. `time_ms` and `seed` go into S1.
    pub fn step(&mut self, input: &mut &[u8], time_ms: u32, seed: u64) -> Result<Step, HandshakeError> {
        loop {
            match &mut self.state {
                State::Version => {
                    let Some((&version, rest)) = input.split_first() else { return Ok(Step::Wait) };
                    check_version(version)?;
                    *input = rest;
                    self.state = State::Hello(Box::new([0; PACKET_BYTES]), 0);
                }
                State::Hello(hello, len) => {
                    *len += take(input, &mut hello[*len..]);
                    if *len < PACKET_BYTES {
                        return Ok(Step::Wait);
                    }
                    let answer = answer(hello, time_ms, seed);
                    self.state = State::Echo(PACKET_BYTES);
                    return Ok(Step::Send(answer));
                }
                State::Echo(left) => {
                    let skipped = (*left).min(input.len());
                    *input = &input[skipped..];
                    *left -= skipped;
                    return Ok(if *left == 0 { Step::Done } else { Step::Wait });
                }
            }
        }
    }
}

fn check_version(version: u8) -> Result<(), HandshakeError> {
    match version {
        VERSION => Ok(()),
        6 | 8 => Err(HandshakeError::Encrypted(version)),
        other => Err(HandshakeError::NotRtmp(other)),
    }
}

/// Moves bytes from the front of `input` to the front of `to`; returns how many.
fn take(input: &mut &[u8], to: &mut [u8]) -> usize {
    let len = to.len().min(input.len());
    to[..len].copy_from_slice(&input[..len]);
    *input = &input[len..];
    len
}

/// S0, S1 and S2.
fn answer(c1: &[u8; PACKET_BYTES], time_ms: u32, seed: u64) -> Bytes {
    let mut s1 = [0; PACKET_BYTES];
    s1[..4].copy_from_slice(&time_ms.to_be_bytes());
    SplitMix64::new(seed).fill(&mut s1[8..]);
    // In simple mode S2 is C1 as it came: the most careful clients compare all of it.
    let mut s2 = *c1;
    if let Some((scheme, c1_digest)) = client_digest(c1) {
        s1[4..8].copy_from_slice(&SERVER_VERSION);
        let at = scheme.digest_position(&s1);
        let digest = packet_digest(&SERVER_KEY[..SERVER_KEY_TEXT_BYTES], &s1, at);
        s1[at..at + DIGEST_BYTES].copy_from_slice(&digest);
        SplitMix64::new(!seed).fill(&mut s2);
        let key = hmac(SERVER_KEY, &[&c1_digest]);
        let (signed, signature) = s2.split_at_mut(PACKET_BYTES - DIGEST_BYTES);
        signature.copy_from_slice(&hmac(&key, &[signed]));
    }
    let mut bytes = Vec::with_capacity(1 + 2 * PACKET_BYTES);
    bytes.push(VERSION);
    bytes.extend_from_slice(&s1);
    bytes.extend_from_slice(&s2);
    Bytes::from(bytes)
}

/// The scheme under which C1's digest is right, and that digest. `None`: answer in simple mode.
fn client_digest(c1: &[u8; PACKET_BYTES]) -> Option<(Scheme, [u8; DIGEST_BYTES])> {
    if c1[4..8] == [0; 4] {
        return None;
    }
    [Scheme::DigestFirst, Scheme::KeyFirst].into_iter().find_map(|scheme| {
        let at = scheme.digest_position(c1);
        let digest = packet_digest(PLAYER_KEY, c1, at);
        (c1[at..at + DIGEST_BYTES] == digest).then_some((scheme, digest))
    })
}

/// The digest of everything in `packet` but the 32 bytes at `at`.
fn packet_digest(key: &[u8], packet: &[u8; PACKET_BYTES], at: usize) -> [u8; DIGEST_BYTES] {
    hmac(key, &[&packet[..at], &packet[at + DIGEST_BYTES..]])
}

fn hmac(key: &[u8], pieces: &[&[u8]]) -> [u8; DIGEST_BYTES] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for piece in pieces {
        mac.update(piece);
    }
    mac.finalize().into_bytes().into()
}

/// The client's side, simple mode.
#[derive(Debug, Default)]
pub struct ClientHandshake {
    state: ClientState,
}

#[derive(Debug, Default)]
enum ClientState {
    #[default]
    Start,
    Version,
    /// S1, and how much of it is there.
    Hello(Box<[u8; PACKET_BYTES]>, usize),
    /// So many bytes of S2 are still to come.
    Echo(usize),
}

impl ClientHandshake {
    /// As [`ServerHandshake::step`]. The first call needs no input: the client speaks first.
    pub fn step(&mut self, input: &mut &[u8], time_ms: u32, seed: u64) -> Result<Step, HandshakeError> {
        loop {
            match &mut self.state {
                ClientState::Start => {
                    let mut hello = vec![0; 1 + PACKET_BYTES];
                    hello[0] = VERSION;
                    hello[1..5].copy_from_slice(&time_ms.to_be_bytes());
                    SplitMix64::new(seed).fill(&mut hello[9..]);
                    self.state = ClientState::Version;
                    return Ok(Step::Send(Bytes::from(hello)));
                }
                ClientState::Version => {
                    let Some((&version, rest)) = input.split_first() else { return Ok(Step::Wait) };
                    check_version(version)?;
                    *input = rest;
                    self.state = ClientState::Hello(Box::new([0; PACKET_BYTES]), 0);
                }
                ClientState::Hello(hello, len) => {
                    *len += take(input, &mut hello[*len..]);
                    if *len < PACKET_BYTES {
                        return Ok(Step::Wait);
                    }
                    let echo = Bytes::copy_from_slice(&hello[..]);
                    self.state = ClientState::Echo(PACKET_BYTES);
                    return Ok(Step::Send(echo));
                }
                ClientState::Echo(left) => {
                    let skipped = (*left).min(input.len());
                    *input = &input[skipped..];
                    *left -= skipped;
                    return Ok(if *left == 0 { Step::Done } else { Step::Wait });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sha2::Digest;

    use super::*;

    /// HMAC-SHA256 written out (RFC 2104), so that the tests do not lean on the code that they test.
    fn hmac_by_hand(key: &[u8], text: &[u8]) -> [u8; 32] {
        let mut block = [0u8; 64];
        if key.len() > 64 {
            block[..32].copy_from_slice(&Sha256::digest(key));
        } else {
            block[..key.len()].copy_from_slice(key);
        }
        let inner = Sha256::digest([&block.map(|byte| byte ^ 0x36)[..], text].concat());
        Sha256::digest([&block.map(|byte| byte ^ 0x5C)[..], &inner].concat()).into()
    }

    /// A C1 that is signed at the position which the four bytes at `offset_at` choose.
    fn signed_c1(offset_at: usize, offset: [u8; 4]) -> [u8; PACKET_BYTES] {
        let mut c1 = [0; PACKET_BYTES];
        SplitMix64::new(77).fill(&mut c1);
        c1[4..8].copy_from_slice(&[9, 0, 0x7C, 2]);
        c1[offset_at..offset_at + 4].copy_from_slice(&offset);
        let at = offset_at + 4 + offset.iter().map(|byte| usize::from(*byte)).sum::<usize>() % 728;
        let digest = hmac_by_hand(b"Genuine Adobe Flash Player 001", &[&c1[..at], &c1[at + 32..]].concat());
        c1[at..at + 32].copy_from_slice(&digest);
        c1
    }

    fn exchange(c1: &[u8; PACKET_BYTES], piece: usize) -> Vec<u8> {
        let bytes = [&[3][..], c1, &[0xC2; PACKET_BYTES], b"chunks"].concat();
        let mut handshake = ServerHandshake::default();
        let (mut sent, mut rest, mut done) = (Vec::new(), Vec::new(), false);
        for mut piece in bytes.chunks(piece) {
            while !done {
                match handshake.step(&mut piece, 5, 42).unwrap() {
                    Step::Wait => break,
                    Step::Send(bytes) => sent.extend_from_slice(&bytes),
                    Step::Done => done = true,
                }
            }
            rest.extend_from_slice(piece);
        }
        assert!(done);
        assert_eq!(rest, b"chunks", "what follows C2 is left alone");
        sent
    }

    #[test]
    fn a_signed_hello_gets_signed_answers() {
        let cases = [
            ("digest first", 8, [1, 2, 3, 4]),
            ("digest first, at the end", 8, [255, 255, 217, 0]),
            ("digest first, wraps", 8, [255; 4]),
            ("key first", 772, [4, 3, 2, 1]),
            ("key first, at the end", 772, [255, 255, 217, 0]),
            ("key first, wraps", 772, [255; 4]),
        ];
        let tail = &SERVER_KEY[36..];
        for (name, offset_at, offset) in cases {
            let c1 = signed_c1(offset_at, offset);
            let c1_at = offset_at + 4 + offset.iter().map(|byte| usize::from(*byte)).sum::<usize>() % 728;
            let sent = exchange(&c1, 4000);
            assert_eq!((sent.len(), sent[0]), (3073, 3), "{name}");
            let (s1, s2) = sent[1..].split_at(PACKET_BYTES);
            assert_ne!(s1[4..8], [0; 4], "{name}");
            let s1_at = offset_at + 4 + s1[offset_at..offset_at + 4].iter().map(|byte| usize::from(*byte)).sum::<usize>() % 728;
            let unsigned = [&s1[..s1_at], &s1[s1_at + 32..]].concat();
            assert_eq!(s1[s1_at..s1_at + 32], hmac_by_hand(b"Genuine Adobe Flash Media Server 001", &unsigned), "{name}");
            let key = hmac_by_hand(&[b"Genuine Adobe Flash Media Server 001", tail].concat(), &c1[c1_at..c1_at + 32]);
            assert_eq!(s2[1504..], hmac_by_hand(&key, &s2[..1504]), "{name}");
        }
    }

    #[test]
    fn an_unsigned_hello_gets_an_echo() {
        let mut zero_version = signed_c1(8, [1, 2, 3, 4]);
        zero_version[4..8].fill(0);
        let mut wrong_digest = signed_c1(8, [1, 2, 3, 4]);
        wrong_digest[700] ^= 1;
        for (name, c1) in [("version 0", zero_version), ("wrong digest", wrong_digest)] {
            let sent = exchange(&c1, 4000);
            assert_eq!(sent[1..5], [0, 0, 0, 5], "{name}: time");
            assert_eq!(sent[5..9], [0; 4], "{name}");
            assert_eq!(sent[1 + PACKET_BYTES..], c1, "{name}");
        }
    }

    #[test]
    fn pieces_do_not_matter() {
        let c1 = signed_c1(8, [1, 2, 3, 4]);
        let whole = exchange(&c1, 4000);
        for piece in [1, 2, 1535, 1536, 1537, 3072] {
            assert_eq!(exchange(&c1, piece), whole, "pieces of {piece}");
        }
    }

    #[test]
    fn other_versions_are_refused() {
        for (byte, error) in [
            (6, HandshakeError::Encrypted(6)),
            (8, HandshakeError::Encrypted(8)),
            (b'G', HandshakeError::NotRtmp(b'G')),
            (0x16, HandshakeError::NotRtmp(0x16)),
            (0, HandshakeError::NotRtmp(0)),
        ] {
            assert_eq!(ServerHandshake::default().step(&mut &[byte, 0][..], 0, 0), Err(error));
        }
    }

    #[test]
    fn both_sides_agree() {
        let (mut client, mut server) = (ClientHandshake::default(), ServerHandshake::default());
        let Ok(Step::Send(hello)) = client.step(&mut &[][..], 0, 1) else { panic!("the client speaks first") };
        let mut input = &hello[..];
        let Ok(Step::Send(answer)) = server.step(&mut input, 0, 2) else { panic!("the server answers C1") };
        assert_eq!(server.step(&mut input, 0, 2), Ok(Step::Wait));
        let mut input = &answer[..];
        let Ok(Step::Send(echo)) = client.step(&mut input, 0, 1) else { panic!("the client echoes S1") };
        assert_eq!(client.step(&mut input, 0, 1), Ok(Step::Done));
        assert_eq!(server.step(&mut &echo[..], 0, 2), Ok(Step::Done));
    }
}
