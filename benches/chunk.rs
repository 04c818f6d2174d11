//! What a publisher's bytes cost: RTMP chunks put together into messages, per megabyte, read in pieces as the kernel gives them.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shardcast::format::rtmp_chunk::{CHUNK_SIZE_DEFAULT, ChunkReader, MessageHeader, chunk_stream, message_type, write_message};

const STREAM_BYTES: usize = 1_000_000;
const READ_BYTES: usize = 64 * 1024;
const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// About a megabyte of video messages, behind a Set Chunk Size unless that is the default.
fn stream(message_bytes: usize, chunk_size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut write = |chunk_stream, message_type, timestamp, payload: &[u8], chunk_size| {
        let header = MessageHeader { chunk_stream, timestamp, message_type, message_stream: 1 };
        write_message(&header, &[payload], chunk_size, &mut out);
    };
    if chunk_size != CHUNK_SIZE_DEFAULT {
        let size = (chunk_size as u32).to_be_bytes();
        write(chunk_stream::CONTROL, message_type::SET_CHUNK_SIZE, 0, &size, CHUNK_SIZE_DEFAULT);
    }
    let payload = vec![7; message_bytes];
    for number in 0..STREAM_BYTES / message_bytes {
        write(chunk_stream::VIDEO, message_type::VIDEO, number as u32 * 33, &payload, chunk_size);
    }
    out
}

fn chunk(c: &mut Criterion) {
    let mut group = c.benchmark_group("chunk");
    for (message_bytes, chunk_size) in [(8_000, CHUNK_SIZE_DEFAULT), (8_000, 4096), (8_000, 60_000), (100_000, 60_000)] {
        let stream = stream(message_bytes, chunk_size);
        group.throughput(Throughput::Bytes(stream.len() as u64));
        group.bench_function(BenchmarkId::new(format!("messages_of_{message_bytes}"), chunk_size), |bencher| {
            bencher.iter(|| {
                let mut reader = ChunkReader::new(MESSAGE_BYTES_MAX);
                let mut messages = 0;
                for mut piece in stream.chunks(READ_BYTES) {
                    while let Some(message) = reader.read(&mut piece).expect("the stream is valid") {
                        messages += black_box(message).body.len();
                    }
                }
                messages
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(20);
    targets = chunk
}
criterion_main!(benches);
