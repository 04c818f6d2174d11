//! Random worlds: publishers and viewers come, go, stall and pause on several shards. Whatever happens, what a viewer receives is valid
//! FLV, in order, without a gap that does not end in a keyframe; lag stays within its limit; and nothing is left behind.
//!
//! A failure names its seed; `run(seed)` repeats it.

use std::time::Duration;

use bytes::Bytes;

use super::sim::World;
use super::tests::{Actor, key, request, sessions, streams};
use crate::config::Config;
use crate::media::{Codec, Frame, MediaEvent, MediaTime, Track, TrackId, TrackShape, Tracks};
use crate::session::{Output, PlayRequest, Start};

const SHARDS: usize = 3;
const STEPS: usize = 400;
const STEP_MS: u64 = 40;

/// A small generator (xorshift64*): the test needs repeatable numbers, not good ones.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// The publisher's side: frames carry their number, so that a gap shows.
struct Source {
    actor: Actor,
    began: u64,
}

struct Watching {
    viewer: Actor,
    /// Number of the last frame received.
    last: Option<u64>,
    received: u64,
    /// Times that frames were left out.
    gaps: u64,
    stalled: bool,
}

impl Watching {
    /// Checks what came since the last call.
    fn check(&mut self, world: &mut World) {
        for event in self.viewer.events(world) {
            let MediaEvent::Frame(frame) = event else { continue };
            let number = u64::from_be_bytes(frame.data[..8].try_into().unwrap());
            let follows = self.last.is_some_and(|last| number == last + 1);
            assert!(follows || frame.key, "frame {number} after {:?} is no keyframe", self.last);
            assert!(self.last.is_none_or(|last| number > last), "frame {number} after {:?}", self.last);
            self.gaps += u64::from(self.last.is_some() && !follows);
            self.received += 1;
            self.last = Some(number);
        }
    }
}

fn publish(world: &mut World, random: &mut Random, step: u64) -> Source {
    let shard = random.below(SHARDS as u64) as usize;
    let actor = Actor::publisher(world, shard);
    let shape = TrackShape::Video { width: 0, height: 0, frames_per_second: 0.0 };
    let track = Track { id: TrackId(0), codec: Codec::Vp9, config: Bytes::from_static(b"vpcC-record!"), shape };
    actor.act(world, [Output::Media(MediaEvent::Tracks(Tracks::new(vec![track], Bytes::new())))]);
    Source { actor, began: step }
}

fn send_frame(world: &mut World, source: &Source, step: u64) {
    let mut data = step.to_be_bytes().to_vec();
    data.resize(2_000, 7);
    let frame = Frame {
        data: Bytes::from(data),
        arrival: world.now(),
        dts: MediaTime::from_millis(((step - source.began) * STEP_MS) as i64),
        cts: 0,
        segment: 0,
        track: TrackId(0),
        key: (step - source.began).is_multiple_of(20),
    };
    source.actor.act(world, [Output::Media(MediaEvent::Frame(frame))]);
}

fn disturb(world: &mut World, random: &mut Random, viewers: &mut Vec<Watching>) {
    if viewers.len() < 12 && random.one_in(4) {
        let start = if random.one_in(3) { Start::Live } else { Start::Gop };
        let viewer = Actor::new(world, random.below(SHARDS as u64) as usize);
        let protocol = ["one", "two", "three"][random.below(3) as usize];
        viewer.act(world, [Output::Play(PlayRequest { protocol, ..request(start) })]);
        viewers.push(Watching { viewer, last: None, received: 0, gaps: 0, stalled: false });
    }
    if !viewers.is_empty() && random.one_in(12) {
        let gone = viewers.swap_remove(random.below(viewers.len() as u64) as usize);
        if random.one_in(2) {
            world.hang_up(gone.viewer.peer);
        } else {
            world.cut(gone.viewer.peer);
        }
    }
    for watching in viewers.iter_mut() {
        if random.one_in(25) {
            watching.stalled = !watching.stalled;
            let window = watching.stalled.then(|| random.below(6_000) as usize);
            world.set_window(watching.viewer.peer, window);
        } else if random.one_in(40) {
            let paused = random.one_in(2);
            watching.viewer.act(world, [Output::Pause(paused)]);
        }
    }
}

/// Returns how many frames viewers received, and how many gaps they saw.
fn run(seed: u64) -> (u64, u64) {
    let mut random = Random(seed);
    let mut config = Config::default();
    config.limits.lane_batches_max = 4;
    config.limits.ring_bytes_max = 60_000;
    config.stream.gop_bytes_max = 60_000;
    let lag_ms_max = config.viewer.lag_ms_max;
    let mut world = World::new(SHARDS, config);
    if random.one_in(2) {
        // Rounds do not fit into turns.
        world.set_send_takes(Duration::from_micros(random.below(400)));
    }
    let mut source = publish(&mut world, &mut random, 0);
    let mut viewers: Vec<Watching> = Vec::new();
    let mut totals = (0, 0);
    for step in 1..=STEPS as u64 {
        if random.one_in(80) {
            world.hang_up(source.actor.peer);
            world.pass(random.below(3_000));
            source = publish(&mut world, &mut random, step);
        }
        disturb(&mut world, &mut random, &mut viewers);
        send_frame(&mut world, &source, step);
        world.pass(STEP_MS);
        for watching in &mut viewers {
            watching.check(&mut world);
        }
        let seen = viewers.iter().filter(|watching| !world.is_open(watching.viewer.peer));
        totals = seen.fold(totals, |sum, watching| (sum.0 + watching.received, sum.1 + watching.gaps));
        viewers.retain(|watching| world.is_open(watching.viewer.peer));
        for shard in 0..SHARDS {
            assert!(sessions(&mut world, shard).iter().all(|session| session.lag_ms <= lag_ms_max));
        }
    }
    source.actor.act(&mut world, [Output::Unpublish]);
    for watching in &viewers {
        world.set_window(watching.viewer.peer, None);
        watching.viewer.act(&mut world, [Output::Pause(false)]);
    }
    world.pass(3_000);
    for watching in &viewers {
        assert!(!world.is_open(watching.viewer.peer), "a viewer of {} did not hear of the end", key());
    }
    for shard in 0..SHARDS {
        assert!(streams(&mut world, shard).is_empty());
        assert!(world.shards[shard].holds_no_stream(), "shard {shard} keeps a stream");
    }
    viewers.iter().fold(totals, |sum, watching| (sum.0 + watching.received, sum.1 + watching.gaps))
}

#[test]
fn random_worlds_keep_their_promises() {
    let mut totals = (0, 0);
    for seed in 1..=40 {
        match std::panic::catch_unwind(|| run(seed)) {
            Ok((frames, gaps)) => totals = (totals.0 + frames, totals.1 + gaps),
            Err(_) => panic!("seed {seed}"),
        }
    }
    assert!(totals.0 > 10_000 && totals.1 > 100, "the worlds were too quiet to show anything: {totals:?}");
}
