//! A muxed frame on its way to the kernel: the ring, and the pump per viewer, with a kernel that takes all.

use std::hint::black_box;
use std::io::{self, IoSlice};

use shardcast::format::MuxerContext;
use shardcast::hub::fanout::SentLog;
use shardcast::hub::outgoing::{Sent, Subscription};
use shardcast::hub::stats::Latency;
use shardcast::hub::{Fanout, Outgoing, Ring};
use shardcast::media::{Codec, Stamp};
use shardcast::session::Start;

use super::media::Feed;
use super::mux::{FLV, packets};
use super::{Case, GROUP, Work};

const RING_BYTES_MAX: usize = 32 * 1024 * 1024;
const KEEP_MS: u64 = 500;
const FRAME_MS: u64 = 33;

pub fn cases() -> Vec<Case> {
    let pumps =
        [1, 100, 10_000].map(|viewers| Case::new(format!("pump/{viewers}_viewers"), "frame and viewer", move || pump(viewers)));
    std::iter::once(Case::new("ring/push", "packet", push)).chain(pumps).collect()
}

fn push() -> Work {
    let packets = packets(FLV, Codec::H264).swap_remove(1);
    let mut ring = Ring::new(RING_BYTES_MAX, KEEP_MS);
    ring.set_has_video(true);
    let mut millis = 0;
    Work::group(move || {
        for packet in &packets {
            let mut packet = packet.clone();
            packet.arrival = Stamp::from_millis(millis);
            millis += FRAME_MS;
            ring.push(packet);
        }
        black_box(ring.bytes());
    })
}

/// One frame to all viewers.
fn pump(viewers: usize) -> Work {
    let mut fanout = Fanout::new(FLV, "bench", Ring::new(RING_BYTES_MAX, KEEP_MS), MuxerContext::default());
    let mut feed = Feed::new(Codec::H264);
    fanout.push(&feed.announcement());
    fanout.push(feed.next());
    let viewer = || {
        let mut viewer = Outgoing::default();
        viewer.subscription = Some(Subscription::new(&fanout.ring, Start::Gop, false));
        viewer
    };
    let mut crowd: Vec<Outgoing> = (0..viewers).map(|_| viewer()).collect();
    let (mut sent, mut latency) = (SentLog::default(), Latency::default());
    let frames = frames_per_call(viewers);
    let mut call = move || {
        for _ in 0..frames {
            fanout.push(feed.next());
            let now = feed.now();
            for viewer in &mut crowd {
                black_box(viewer.skip_if_late(&fanout.ring, now, KEEP_MS));
                black_box(viewer.pump(Some(&fanout), None, now, &mut sent, take_all));
            }
            sent.record(now, &mut latency);
        }
        crowd.iter().map(|viewer| viewer.bytes_sent).min()
    };
    let sent = call();
    assert!(call() > sent, "every viewer gets something in every call");
    Work::new((frames * viewers) as u32, move || _ = black_box(call()))
}

/// A group, but for so many viewers that one frame is work enough.
pub fn frames_per_call(viewers: usize) -> usize {
    if viewers > 1_000 { 1 } else { GROUP }
}

fn take_all(slices: &[IoSlice<'_>]) -> io::Result<Sent> {
    Ok(Sent { count: black_box(slices).iter().map(|slice| slice.len()).sum(), full: false })
}
