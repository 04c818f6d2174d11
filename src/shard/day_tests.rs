//! Long runs in the simulated world: real RTMP sessions at both ends, hours and weeks of virtual time, every clock wrap on the way.

use bytes::Bytes;
use smallvec::SmallVec;

use super::sim::{Peer, World};
use crate::config::Config;
use crate::format::flv::TagType;
use crate::format::flv_mux::Tag;
use crate::format::rtmp_chunk::{Message, message_type};
use crate::protocol::rtmp::PROTOCOL;
use crate::protocol::rtmp::client::{ClientEvent, ClientOutput, RtmpClient};
use crate::protocol::{Protocol, SessionContext};

const MESSAGE_BYTES_MAX: usize = 1 << 20;
const URL: &str = "rtmp://127.0.0.1/live";

/// A client with its connection.
struct Side {
    peer: Peer,
    client: RtmpClient,
    ready: bool,
    messages: Vec<Message>,
}

impl Side {
    fn new(world: &mut World, shard: usize, config: &Config, client: RtmpClient) -> Side {
        let context = SessionContext::lone(config.clone(), ([127, 0, 0, 1], 1).into());
        const RTMP: Protocol = PROTOCOL;
        let session = (RTMP.session)(&context, world.now());
        let peer = world.connect(shard, session);
        let mut side = Side { peer, client, ready: false, messages: Vec::new() };
        side.turn(world);
        side
    }

    /// Exchanges bytes until the server has nothing more to say.
    fn turn(&mut self, world: &mut World) {
        loop {
            let received = world.take(self.peer);
            let mut out = Vec::new();
            self.client.handle(world.now(), &received, &mut out).unwrap();
            let nothing = out.is_empty() && received.is_empty();
            for output in out {
                match output {
                    ClientOutput::Send(bytes) => world.send(self.peer, &bytes),
                    ClientOutput::Event(ClientEvent::Ready { .. }) => self.ready = true,
                    ClientOutput::Event(ClientEvent::Message(message)) => self.messages.push(message),
                    ClientOutput::Event(ClientEvent::Status { error, code, .. }) => assert!(!error, "{code}"),
                    ClientOutput::Event(ClientEvent::Connected) => {}
                }
            }
            if nothing {
                return;
            }
        }
    }

    fn write(&mut self, world: &mut World, tag: &Tag) {
        for part in self.client.write_tag(tag) {
            world.send(self.peer, &part);
        }
    }
}

/// VP9 by Enhanced RTMP: a codec whose frames may be any bytes.
fn video(timestamp_ms: u32, number: u32) -> Tag {
    let head = SmallVec::from_slice(&[0x91, b'v', b'p', b'0', b'9']);
    Tag { tag: TagType::Video, timestamp_ms, head, body: Bytes::copy_from_slice(&number.to_be_bytes()) }
}

/// MP3: no set-up record either.
fn audio(timestamp_ms: u32, number: u32) -> Tag {
    Tag {
        tag: TagType::Audio,
        timestamp_ms,
        head: SmallVec::from_slice(&[0x2F]),
        body: Bytes::copy_from_slice(&number.to_be_bytes()),
    }
}

/// Publishes `count` frames of video `step_ms` apart, the first at `start` on the publisher's 32-bit clock, each with an audio frame
/// half a step later, and checks every one at a player on another shard.
fn run(start: u32, step_ms: u32, count: u32) -> Vec<u32> {
    let config = Config::default();
    let mut world = World::new(2, config.clone());
    let mut publisher = Side::new(&mut world, 0, &config, RtmpClient::publish("live", "day", URL, MESSAGE_BYTES_MAX));
    assert!(publisher.ready);
    let mut player = Side::new(&mut world, 1, &config, RtmpClient::play("live", "day", URL, MESSAGE_BYTES_MAX));
    let mut times = Vec::new();
    let mut numbers = [0, 0];
    for number in 0..count {
        let at = start.wrapping_add(number.wrapping_mul(step_ms));
        publisher.write(&mut world, &video(at, number));
        world.leap(u64::from(step_ms / 2));
        publisher.write(&mut world, &audio(at.wrapping_add(step_ms / 2), number));
        world.leap(u64::from(step_ms - step_ms / 2));
        publisher.turn(&mut world);
        player.turn(&mut world);
        for message in player.messages.drain(..) {
            let track = match message.message_type {
                message_type::VIDEO => 0,
                message_type::AUDIO => 1,
                _ => continue,
            };
            let payload = &message.body[message.body.len() - 4..];
            assert_eq!(
                u32::from_be_bytes(payload.try_into().unwrap()),
                numbers[track],
                "no frame is lost or changes its place, track {track}"
            );
            numbers[track] += 1;
            times.push(message.timestamp);
        }
    }
    assert_eq!(numbers, [count, count]);
    assert!(world.is_open(publisher.peer) && world.is_open(player.peer));
    times
}

/// Consecutive times, audio and video together, are all half a step apart, over every wrap.
fn assert_steady(times: &[u32], half_step_ms: u32) {
    for pair in times.windows(2) {
        assert_eq!(pair[1].wrapping_sub(pair[0]), half_step_ms, "after {}", pair[0]);
    }
}

const DAY_MS: u32 = 24 * 60 * 60 * 1000;

#[test]
fn a_day_crosses_the_24_bit_wrap() {
    let times = run(0, 2_000, DAY_MS / 2_000);
    assert_steady(&times, 1_000);
    assert!(times.first() == Some(&0) && times.last() > Some(&0xFF_FFFF));
}

#[test]
fn a_day_crosses_the_32_bit_wrap_of_the_publishers_clock() {
    let times = run(u32::MAX - DAY_MS / 2, 2_000, DAY_MS / 2_000);
    assert_steady(&times, 1_000);
}

#[test]
fn fifty_days_cross_the_32_bit_wrap_of_what_viewers_get() {
    let step_ms = 30_000;
    let times = run(0, step_ms, 50 * (DAY_MS / step_ms));
    assert_steady(&times, step_ms / 2);
    assert!(times.last() < times.first().map(|first| first + DAY_MS).as_ref(), "it has wrapped: {:?}", times.last());
}
