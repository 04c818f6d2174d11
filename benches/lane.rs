//! What a batch of media costs on its way from one shard to another: the lane is one flume channel per ordered pair of shards.
//!
//! `alone` sends and takes on one thread, the price of the channel without a second core; `across` sends to a busy thread on another
//! core; `std` is the standard library's channel in the same place, for comparison. Waking a sleeping shard is not in it.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use shardcast::media::{Frame, MediaEvent, MediaTime, Stamp, TrackId};
use shardcast::session::StreamKey;
use shardcast::shard::message::Batch;

const FRAME_BYTES: usize = 8 * 1024;
/// As `limits.lane_batches_max`.
const LANE_BATCHES_MAX: usize = 1024;

fn batch(key: &StreamKey, frames: &[MediaEvent]) -> Batch {
    Batch { key: key.clone(), watch: 1, events: Arc::from(frames) }
}

fn frames(count: usize) -> Vec<MediaEvent> {
    let data = Bytes::from(vec![7; FRAME_BYTES]);
    let frame = |at: usize| Frame {
        data: data.clone(),
        arrival: Stamp::from_millis(at as u64),
        dts: MediaTime::from_millis(at as i64),
        cts: 0,
        segment: 0,
        track: TrackId(0),
        key: at == 0,
    };
    (0..count).map(|at| MediaEvent::Frame(frame(at))).collect()
}

/// What the watching shard does with a batch at least: it looks at each frame.
fn consume(batch: &Batch) -> usize {
    batch.events.iter().map(|event| if let MediaEvent::Frame(frame) = event { frame.data.len() } else { 0 }).sum()
}

/// Time to send `rounds` batches to a thread that takes them all; `send` and `take` are the two ends of a channel.
fn across(
    rounds: u64,
    events: &[MediaEvent],
    key: &StreamKey,
    send: impl Fn(Batch),
    take: impl Fn() -> Batch + Send,
) -> Duration {
    std::thread::scope(|scope| {
        let consumer = scope.spawn(move || (0..rounds).map(|_| consume(&take())).sum::<usize>());
        let began = Instant::now();
        for _ in 0..rounds {
            send(batch(key, events));
        }
        black_box(consumer.join().expect("the consumer does not panic"));
        began.elapsed()
    })
}

fn lane(c: &mut Criterion) {
    const OPEN: &str = "both ends are open";
    let key = StreamKey::parse("live/bench").expect("a valid name");
    for count in [1, 16] {
        let events = frames(count);
        let mut group = c.benchmark_group(format!("lane/{count}_frames"));
        group.throughput(Throughput::Elements(1));
        group.bench_function("alone", |bencher| {
            let (sender, receiver) = flume::bounded(LANE_BATCHES_MAX);
            bencher.iter(|| {
                sender.try_send(batch(&key, &events)).expect(OPEN);
                black_box(consume(&receiver.try_recv().expect(OPEN)))
            });
        });
        group.bench_function("across", |bencher| {
            bencher.iter_custom(|rounds| {
                let (sender, receiver) = flume::bounded(LANE_BATCHES_MAX);
                across(rounds, &events, &key, |batch| sender.send(batch).expect(OPEN), move || receiver.recv().expect(OPEN))
            });
        });
        group.bench_function("std", |bencher| {
            bencher.iter_custom(|rounds| {
                let (sender, receiver) = std::sync::mpsc::sync_channel(LANE_BATCHES_MAX);
                across(rounds, &events, &key, |batch| sender.send(batch).expect(OPEN), move || receiver.recv().expect(OPEN))
            });
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(20);
    targets = lane
}
criterion_main!(benches);
