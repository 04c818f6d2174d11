//! RTMP chunks ⇄ messages: what a publisher's bytes cost per megabyte, read in pieces as the kernel gives them.

use std::hint::black_box;

use shardcast::format::rtmp_chunk::{CHUNK_SIZE_DEFAULT, ChunkReader, MessageHeader, chunk_stream, message_type, write_message};

use super::{Case, Work};

const STREAM_BYTES: usize = 1_000_000;
const READ_BYTES: usize = 64 * 1024;
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

pub fn cases() -> Vec<Case> {
    let shapes = [(8_000, CHUNK_SIZE_DEFAULT), (8_000, 4096), (8_000, 60_000), (100_000, 60_000)];
    let reads = shapes.into_iter().map(|(message_bytes, chunk_size)| {
        Case::new(format!("chunk_read/{message_bytes}_by_{chunk_size}"), "MB", move || read(message_bytes, chunk_size))
    });
    let writes = shapes[..2].iter().map(|&(message_bytes, chunk_size)| {
        Case::new(format!("chunk_write/{message_bytes}_by_{chunk_size}"), "MB", move || write(message_bytes, chunk_size))
    });
    reads.chain(writes).collect()
}

/// About a megabyte of video messages, behind a Set Chunk Size unless that is the default.
fn stream(message_bytes: usize, chunk_size: usize, out: &mut Vec<u8>) {
    let mut write = |chunk_stream, message_type, timestamp, payload: &[u8], chunk_size| {
        let header = MessageHeader { chunk_stream, timestamp, message_type, message_stream: 1 };
        write_message(&header, &[payload], chunk_size, out);
    };
    if chunk_size != CHUNK_SIZE_DEFAULT {
        let size = (chunk_size as u32).to_be_bytes();
        write(chunk_stream::CONTROL, message_type::SET_CHUNK_SIZE, 0, &size, CHUNK_SIZE_DEFAULT);
    }
    let payload = vec![7; message_bytes];
    for number in 0..STREAM_BYTES / message_bytes {
        write(chunk_stream::VIDEO, message_type::VIDEO, number as u32 * 33, &payload, chunk_size);
    }
}

fn megabytes(bytes: &[u8]) -> f64 {
    bytes.len() as f64 / 1e6
}

fn read(message_bytes: usize, chunk_size: usize) -> Work {
    let mut bytes = Vec::new();
    stream(message_bytes, chunk_size, &mut bytes);
    Work::new(megabytes(&bytes), move || {
        let mut reader = ChunkReader::new(MESSAGE_BYTES_MAX);
        for mut piece in bytes.chunks(READ_BYTES) {
            while let Some(message) = reader.read(&mut piece).expect("the stream is valid") {
                black_box(message);
            }
        }
    })
}

fn write(message_bytes: usize, chunk_size: usize) -> Work {
    let mut bytes = Vec::new();
    stream(message_bytes, chunk_size, &mut bytes);
    Work::new(megabytes(&bytes), move || {
        bytes.clear();
        stream(message_bytes, chunk_size, &mut bytes);
        black_box(&bytes);
    })
}
