//! What a frame costs between its stream and the kernel: muxing once, the ring, and the pump per viewer with a kernel that takes all.

use std::hint::black_box;
use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shardcast::format::{Envelope, Format, HevcForm, MuxerContext};
use shardcast::hub::fanout::SentLog;
use shardcast::hub::outgoing::{Sent, Subscription};
use shardcast::hub::stats::Latency;
use shardcast::hub::{Fanout, Outgoing, Ring};
use shardcast::media::{Codec, Frame, MediaEvent, MediaTime, Stamp, Track, TrackId, TrackShape, Tracks};
use shardcast::session::Start;

const FLV: Format = Format::Flv { hevc: HevcForm::Enhanced, envelope: Envelope::HttpChunk };
const RTMP: Format = Format::Rtmp { hevc: HevcForm::Enhanced, message_stream: 1 };
const FRAMES_PER_GOP: u64 = 60;
const FRAME_MS: u64 = 33;
const RING_BYTES_MAX: usize = 32 * 1024 * 1024;
const KEEP_MS: u64 = 500;

fn tracks() -> MediaEvent {
    let shape = TrackShape::Video { width: 1280, height: 720, frames_per_second: 30.0 };
    let config = Bytes::from_static(&[1, 100, 0, 31, 0xFF, 0xE0, 0]);
    MediaEvent::Tracks(Tracks::new(vec![Track { id: TrackId(0), codec: Codec::H264, config, shape }], Bytes::new()))
}

/// An endless stream: one keyframe per GOP, time goes on.
struct Frames {
    data: Bytes,
    next: u64,
}

impl Frames {
    fn new(bytes: usize) -> Frames {
        Frames { data: Bytes::from(vec![7; bytes]), next: 0 }
    }

    fn next(&mut self) -> MediaEvent {
        let millis = self.next * FRAME_MS;
        let key = self.next.is_multiple_of(FRAMES_PER_GOP);
        self.next += 1;
        MediaEvent::Frame(Frame {
            data: self.data.clone(),
            arrival: Stamp::from_millis(millis),
            dts: MediaTime::from_millis(millis as i64),
            cts: 0,
            segment: 0,
            track: TrackId(0),
            key,
        })
    }
}

fn mux(c: &mut Criterion) {
    let mut group = c.benchmark_group("mux");
    for (name, format) in [("flv", FLV), ("rtmp", RTMP)] {
        for bytes in [1_000, 60_000] {
            group.throughput(Throughput::Elements(1));
            group.bench_function(BenchmarkId::new(name, bytes), |bencher| {
                let (mut muxer, mut frames, mut packets) =
                    (format.muxer(MuxerContext::default()), Frames::new(bytes), Vec::new());
                muxer.push(&tracks(), &mut packets);
                bencher.iter(|| {
                    packets.clear();
                    muxer.push(&frames.next(), &mut packets);
                    black_box(packets.len())
                });
            });
        }
    }
    group.finish();
}

fn ring(c: &mut Criterion) {
    c.bench_function("ring/push", |bencher| {
        let (mut muxer, mut packets) = (FLV.muxer(MuxerContext::default()), Vec::new());
        muxer.push(&tracks(), &mut packets);
        packets.clear();
        let mut frames = Frames::new(8_000);
        (0..FRAMES_PER_GOP).for_each(|_| muxer.push(&frames.next(), &mut packets));
        let mut ring = Ring::new(RING_BYTES_MAX, KEEP_MS);
        ring.set_has_video(true);
        let mut at = 0;
        bencher.iter(|| {
            let mut packet = packets[at % packets.len()].clone();
            packet.arrival = Stamp::from_millis(at as u64 * FRAME_MS);
            at += 1;
            ring.push(packet);
            black_box(ring.bytes())
        });
    });
}

/// One frame to all viewers, as a turn does it.
fn pump(c: &mut Criterion) {
    let mut group = c.benchmark_group("pump");
    for viewers in [1, 100, 10_000] {
        group.throughput(Throughput::Elements(viewers));
        group.bench_function(BenchmarkId::new("viewers", viewers), |bencher| {
            let mut fanout = Fanout::new(FLV, "bench", Ring::new(RING_BYTES_MAX, KEEP_MS), MuxerContext::default());
            let mut frames = Frames::new(8_000);
            fanout.push(&tracks());
            fanout.push(&frames.next());
            let viewer = || {
                let mut viewer = Outgoing::default();
                viewer.subscription = Some(Subscription::new(&fanout.ring, Start::Gop, false));
                viewer
            };
            let mut viewers: Vec<Outgoing> = (0..viewers).map(|_| viewer()).collect();
            let (mut sent, mut latency) = (SentLog::default(), Latency::default());
            bencher.iter(|| {
                fanout.push(&frames.next());
                let now = Stamp::from_millis(frames.next * FRAME_MS);
                for viewer in &mut viewers {
                    black_box(viewer.skip_if_late(&fanout.ring, now, KEEP_MS));
                    black_box(viewer.pump(Some(&fanout), now, &mut sent, take_all));
                }
                sent.record(now, &mut latency)
            });
        });
    }
    group.finish();
}

fn take_all(slices: &[IoSlice<'_>]) -> io::Result<Sent> {
    Ok(Sent { count: black_box(slices).iter().map(|slice| slice.len()).sum(), full: false })
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(20);
    targets = mux, ring, pump
}
criterion_main!(benches);
