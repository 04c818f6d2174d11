//! A batch of media on its way to another shard: into the lane and out of it, on one thread, so nobody is woken.

use std::hint::black_box;
use std::sync::Arc;

use shardcast::media::{Codec, MediaEvent};
use shardcast::session::StreamKey;
use shardcast::shard::message::Batch;

use super::media::Feed;
use super::{Case, GROUP, Work};

/// As `limits.lane_batches_max`.
pub const LANE_BATCHES_MAX: usize = 1024;

pub fn cases() -> Vec<Case> {
    [1, 16].map(|frames| Case::new(format!("lane/{frames}_frames"), "batch", move || lane(frames))).into()
}

fn lane(frames: usize) -> Work {
    const OPEN: &str = "both ends are open";
    let key = StreamKey::parse("live/bench").expect("a valid name");
    let mut feed = Feed::new(Codec::H264);
    let events: Vec<MediaEvent> = (0..frames).map(|_| feed.next().clone()).collect();
    let (sender, receiver) = flume::bounded(LANE_BATCHES_MAX);
    Work::group(move || {
        for _ in 0..GROUP {
            let batch = Batch { key: key.clone(), watch: 1, events: Arc::from(&events[..]) };
            sender.try_send(batch).expect(OPEN);
            let taken = receiver.try_recv().expect(OPEN);
            taken.events.iter().for_each(|event| _ = black_box(event));
        }
    })
}
