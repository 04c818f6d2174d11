//! Chunks by hand, by the writer, and in every cut.

use super::*;

/// What `reader` makes of `bytes` when they come in pieces of `piece` bytes.
fn read_in_pieces(bytes: &[u8], piece: usize) -> Result<Vec<Message>, ChunkError> {
    let mut reader = ChunkReader::new(1 << 20);
    let mut messages = Vec::new();
    for mut piece in bytes.chunks(piece) {
        while let Some(message) = reader.read(&mut piece)? {
            messages.push(message);
        }
        assert!(piece.is_empty(), "the reader stops only for a message");
    }
    Ok(messages)
}

/// What a fresh reader makes of `bytes`: the same for every piece size and for a cut at each byte boundary.
fn read_all(bytes: &[u8]) -> Result<Vec<Message>, ChunkError> {
    let whole = read_in_pieces(bytes, bytes.len().max(1));
    for piece in [1, 2, 3, 7, 64] {
        assert_eq!(read_in_pieces(bytes, piece), whole, "pieces of {piece} bytes");
    }
    for cut in 0..bytes.len().min(2000) {
        let mut reader = ChunkReader::new(1 << 20);
        let mut messages = Vec::new();
        let mut result = Ok(());
        for mut part in [&bytes[..cut], &bytes[cut..]] {
            while result.is_ok() {
                match reader.read(&mut part) {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(error) => result = Err(error),
                }
            }
        }
        assert_eq!(result.map(|()| messages), whole, "cut at {cut}");
    }
    whole
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

fn message(chunk_stream: u32, timestamp: u32, message_type: u8, message_stream: u32, body: &[u8]) -> Message {
    Message { chunk_stream, timestamp, message_type, message_stream, body: Bytes::copy_from_slice(body) }
}

#[test]
fn headers_of_all_types() {
    let cases: [(&str, &str, Vec<Message>); 13] = [
        ("type 0", "04 000028 000002 08 01000000 AA BB", vec![message(4, 40, 8, 1, &[0xAA, 0xBB])]),
        ("message stream is little-endian", "04 000000 000001 08 01020304 AA", vec![message(4, 0, 8, 0x0403_0201, &[0xAA])]),
        (
            "type 1: step, new length and type",
            "04 000028 000001 08 01000000 AA 44 000014 000002 09 BB CC",
            vec![message(4, 40, 8, 1, &[0xAA]), message(4, 60, 9, 1, &[0xBB, 0xCC])],
        ),
        (
            "type 2: step only",
            "04 000028 000001 08 01000000 AA 84 000014 BB",
            vec![message(4, 40, 8, 1, &[0xAA]), message(4, 60, 8, 1, &[0xBB])],
        ),
        (
            "type 3 begins a message with the previous step",
            "04 000028 000001 08 01000000 AA 84 000014 BB C4 CC C4 DD",
            vec![
                message(4, 40, 8, 1, &[0xAA]),
                message(4, 60, 8, 1, &[0xBB]),
                message(4, 80, 8, 1, &[0xCC]),
                message(4, 100, 8, 1, &[0xDD]),
            ],
        ),
        (
            "type 3 after type 0 repeats the absolute value as step",
            "04 000028 000001 08 01000000 AA C4 BB",
            vec![message(4, 40, 8, 1, &[0xAA]), message(4, 80, 8, 1, &[0xBB])],
        ),
        ("two-byte chunk stream id", "00 00 000000 000001 08 01000000 AA", vec![message(64, 0, 8, 1, &[0xAA])]),
        ("largest two-byte id", "00 FF 000000 000001 08 01000000 AA", vec![message(319, 0, 8, 1, &[0xAA])]),
        ("three-byte id, low byte first", "01 02 01 000000 000001 08 01000000 AA", vec![message(322, 0, 8, 1, &[0xAA])]),
        (
            "continued on a two-byte id",
            "02 000000 000004 01 00000000 00000001 00 00 000000 000002 08 01000000 AA C0 00 BB",
            vec![message(64, 0, 8, 1, &[0xAA, 0xBB])],
        ),
        ("empty message", "04 000005 000000 08 01000000", vec![message(4, 5, 8, 1, &[])]),
        (
            "the control chunk stream may begin with type 1",
            "42 000000 000004 03 00000001",
            vec![message(2, 0, 3, 0, &[0, 0, 0, 1])],
        ),
        ("an unfinished header yields nothing", "04 000028 0000", vec![]),
    ];
    for (name, bytes, expected) in cases {
        assert_eq!(read_all(&hex(bytes)), Ok(expected), "{name}");
    }
}

#[test]
fn timestamps() {
    let cases: [(&str, &str, &[u32]); 9] = [
        ("just below the extended range", "04 FFFFFE 000001 08 01000000 AA", &[0xFF_FFFE]),
        ("extended, the smallest", "04 FFFFFF 000001 08 01000000 00FFFFFF AA", &[0xFF_FFFF]),
        ("extended, the largest", "04 FFFFFF 000001 08 01000000 FFFFFFFF AA", &[u32::MAX]),
        ("a step wraps", "04 FFFFFF 000001 08 01000000 FFFFFFF0 AA 84 000020 AA", &[0xFFFF_FFF0, 0x10]),
        ("an extended step", "04 000000 000001 08 01000000 AA 84 FFFFFF 01000000 AA", &[0, 0x0100_0000]),
        ("a negative step", "04 000064 000001 08 01000000 AA 84 FFFFFF FFFFFFDB AA", &[100, 63]),
        (
            "type 3 repeats an extended step",
            "04 000000 000001 08 01000000 AA 84 FFFFFF 01000000 AA C4 01000000 AA",
            &[0, 0x0100_0000, 0x0200_0000],
        ),
        (
            "type 3 does not repeat it",
            "04 000000 000005 08 01000000 AABBCCDDEE 84 FFFFFF 01000000 AABBCCDDEE C4 AABBCCDDEE",
            &[0, 0x0100_0000, 0x0200_0000],
        ),
        (
            "the extended state ends with a short field",
            "04 FFFFFF 000001 08 01000000 01000000 AA 84 000001 AA C4 AA",
            &[0x0100_0000, 0x0100_0001, 0x0100_0002],
        ),
    ];
    for (name, bytes, expected) in cases {
        let stamps: Vec<u32> = read_all(&hex(bytes)).unwrap().iter().map(|message| message.timestamp).collect();
        assert_eq!(stamps, expected, "{name}");
    }
}

/// A message of 300 bytes at 0x01000000 with the default chunk size, whose continuations are made by `continuation`.
fn long_extended(payload: &[u8], continuation: &[u8]) -> Vec<u8> {
    let mut bytes = hex("06 FFFFFF 00012C 09 01000000 01000000");
    for (index, chunk) in payload.chunks(CHUNK_SIZE_DEFAULT).enumerate() {
        if index > 0 {
            bytes.extend_from_slice(continuation);
        }
        bytes.extend_from_slice(chunk);
    }
    bytes
}

#[test]
fn continuations_with_and_without_the_extended_timestamp() {
    let plain: Vec<u8> = (0..300u32).map(|n| n as u8 ^ 0x55).collect();
    let mut like = plain.clone();
    like[128..131].copy_from_slice(&[1, 0, 0]);
    for (name, payload) in [("any payload", &plain), ("a payload that looks almost like the time stamp", &like)] {
        let expected = vec![message(6, 0x0100_0000, 9, 1, payload)];
        assert_eq!(read_all(&long_extended(payload, &hex("C6 01000000"))), Ok(expected.clone()), "repeated, {name}");
        assert_eq!(read_all(&long_extended(payload, &hex("C6"))), Ok(expected), "left out, {name}");
    }
}

#[test]
fn chunk_streams_interleave() {
    let mut bytes = hex("06 000000 000082 09 01000000");
    bytes.extend([1; 128]);
    bytes.extend(hex("04 000007 000081 08 01000000"));
    bytes.extend([2; 128]);
    bytes.extend(hex("C6 0101 C4 02"));
    assert_eq!(read_all(&bytes), Ok(vec![message(6, 0, 9, 1, &[1; 130]), message(4, 7, 8, 1, &[2; 129])]));
}

#[test]
fn chunk_size_changes_between_two_chunks_of_a_message() {
    let mut bytes = hex("06 000000 000120 09 01000000");
    bytes.extend([1; 128]);
    bytes.extend(hex("02 000000 000004 01 00000000 00000050 C6"));
    bytes.extend([1; 80]);
    bytes.extend(hex("C6"));
    bytes.extend([1; 80]);
    assert_eq!(read_all(&bytes), Ok(vec![message(6, 0, 9, 1, &[1; 288])]));
}

#[test]
fn abort_drops_the_unfinished_message_only() {
    let mut bytes = hex("06 000000 000082 09 01000000");
    bytes.extend([1; 128]);
    bytes.extend(hex("02 000000 000004 02 00000000 00000006"));
    bytes.extend(hex("06 000000 000001 09 01000000 AA"));
    bytes.extend(hex("02 000000 000004 02 00000000 00000009"));
    bytes.extend(hex("06 000000 000001 09 01000000 BB"));
    assert_eq!(read_all(&bytes), Ok(vec![message(6, 0, 9, 1, &[0xAA]), message(6, 0, 9, 1, &[0xBB])]));
}

#[test]
fn broken_chunks_are_refused() {
    let cases = [
        ("type 3 first", "C4", ChunkError::NoEarlierHeader(4)),
        ("type 2 first", "84 000000 AA", ChunkError::NoEarlierHeader(4)),
        ("type 1 first, not on the control stream", "44 000000 000001 08 AA", ChunkError::NoEarlierHeader(4)),
        ("too long", "04 000000 FFFFFF 08 01000000", ChunkError::MessageTooLong { length: 0xFF_FFFF, limit: 1 << 20 }),
        ("chunk size zero", "02 000000 000004 01 00000000 00000000", ChunkError::ChunkSize),
        ("chunk size with the top bit", "02 000000 000004 01 00000000 80000000", ChunkError::ChunkSize),
        ("short chunk size", "02 000000 000003 01 00000000 000001", ChunkError::ControlTooShort),
        ("empty abort", "02 000000 000000 02 00000000", ChunkError::ControlTooShort),
        (
            "time stamp that is neither repeated nor left out",
            "04 FFFFFF 000001 08 01000000 01000000 AA C4 01000001",
            ChunkError::ExtendedTimestamp(4),
        ),
    ];
    for (name, bytes, error) in cases {
        assert_eq!(read_all(&hex(bytes)), Err(error), "{name}");
    }
    let mut bytes = hex("06 000000 000082 09 01000000");
    bytes.extend([1; 128]);
    bytes.extend(hex("06 000000 000001 09 01000000"));
    assert_eq!(read_all(&bytes), Err(ChunkError::MessageInMessage(6)));
}

#[test]
fn memory_is_bounded() {
    let reader = ChunkReader::new(1 << 20);
    assert_eq!(reader.streams.capacity(), 0, "an idle reader owns nothing");

    let mut reader = ChunkReader::new(1 << 20);
    let mut result = Ok(None);
    for id in 3..40u8 {
        let mut bytes = vec![id];
        bytes.extend(hex("000000 100000 08 01000000"));
        bytes.extend([0; 128]);
        result = reader.read(&mut &bytes[..]);
        assert!(reader.unfinished_bytes() <= 2 << 20 && reader.held_bytes() <= 128 * (usize::from(id) - 2));
        if result.is_err() {
            break;
        }
    }
    assert_eq!(result, Err(ChunkError::TooMuchUnfinished { limit: 2 << 20 }));

    let bytes: Vec<u8> = (0..65u8).flat_map(|id| [&[0, id][..], &hex("000000 000000 08 01000000")].concat()).collect();
    assert_eq!(read_all(&bytes), Err(ChunkError::TooManyChunkStreams));
}

fn header(timestamp: u32) -> MessageHeader {
    MessageHeader { chunk_stream: 6, timestamp, message_type: 9, message_stream: 1 }
}

#[test]
fn what_is_written_is_read() {
    for timestamp in [0, 1, 0xFF_FFFE, 0xFF_FFFF, 0x0100_0000, u32::MAX] {
        for length in [0, 1, 127, 128, 129, 256, 1024, 1025, 1500] {
            let body: Vec<u8> = (0..length).map(|n| (n * 7) as u8).collect();
            let head = [1, 2, 3];
            let expected = vec![message(6, timestamp, 9, 1, &[&head, &body[..]].concat())];
            let mut written = Vec::new();
            write_message(&header(timestamp), &[&head, &body], CHUNK_SIZE_DEFAULT, &mut written);
            assert_eq!(read_all(&written), Ok(expected), "{length} bytes at {timestamp}");
            let parts = message_parts(&header(timestamp), &head, &Bytes::from(body), CHUNK_SIZE_DEFAULT);
            assert_eq!(parts.concat(), written, "{length} bytes at {timestamp}");
        }
    }
}

#[test]
fn a_large_payload_is_shared_not_copied() {
    let body = Bytes::from(vec![7; 150_000]);
    let parts = message_parts(&header(u32::MAX), &[0x17, 1, 0, 0, 0], &body, OUT_CHUNK_SIZE);
    let lengths: Vec<usize> = parts.iter().map(Bytes::len).collect();
    assert_eq!(lengths, [16 + 5, 59_995, 5, 60_000, 5, 30_005]);
    let mut at = 0;
    for part in parts.iter().skip(1).step_by(2) {
        assert_eq!(part.as_ptr(), body[at..].as_ptr());
        at += part.len();
    }
    assert_eq!(parts[2].as_ptr(), parts[4].as_ptr(), "one continuation header serves all");
    let small = message_parts(&header(0), &[0xAF, 1], &Bytes::from(vec![0; 400]), OUT_CHUNK_SIZE);
    assert_eq!(small.len(), 1, "a small payload makes one part");
}

proptest::proptest! {
    /// Any bytes, in any pieces: no panic, and the same result.
    #[test]
    fn any_bytes_read_alike_in_all_pieces(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400), piece in 1usize..50) {
        proptest::prop_assert_eq!(read_in_pieces(&bytes, piece), read_in_pieces(&bytes, bytes.len().max(1)));
    }
}
