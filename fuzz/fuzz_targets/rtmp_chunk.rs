//! Any bytes as a chunk stream: no panic, bounded memory, the same messages in all pieces; and what is read can be written and read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardcast::format::rtmp_chunk::{ChunkError, ChunkReader, Message, MessageHeader, write_message};

const MESSAGE_BYTES_MAX: usize = 100_000;

fn read(bytes: &[u8], piece: usize) -> Result<Vec<Message>, ChunkError> {
    let mut reader = ChunkReader::new(MESSAGE_BYTES_MAX);
    let mut messages = Vec::new();
    for mut piece in bytes.chunks(piece) {
        while let Some(message) = reader.read(&mut piece)? {
            messages.push(message);
        }
        assert!(piece.is_empty());
        assert!(reader.unfinished_bytes() <= 2 * MESSAGE_BYTES_MAX);
    }
    Ok(messages)
}

fuzz_target!(|data: &[u8]| {
    let Some((&piece, bytes)) = data.split_first() else { return };
    let whole = read(bytes, usize::MAX);
    assert_eq!(read(bytes, usize::from(piece).max(1)), whole);
    let Ok(messages) = whole else { return };
    let mut written = Vec::new();
    let mut expected = Vec::new();
    for message in messages {
        let header = MessageHeader {
            chunk_stream: 6,
            timestamp: message.timestamp,
            message_type: message.message_type,
            message_stream: message.message_stream,
        };
        write_message(&header, &[&message.body], 128, &mut written);
        expected.push(Message { chunk_stream: 6, ..message });
    }
    assert_eq!(read(&written, 100), Ok(expected));
});
