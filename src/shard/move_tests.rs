//! What a shard promises connections that belong to another one: halves of tunnels, and sessions on their way.

use std::sync::Arc;

use bytes::Bytes;

use super::sim::World;
use super::tests::{Actor, key, sessions};
use crate::config::Config;
use crate::media::Stamp;
use crate::session::{CloseReason, Fault, Input, Output, Refusal, Session, SessionError};

fn name() -> Arc<str> {
    "cookie".into()
}

fn tunnel(bytes: &'static [u8]) -> Output {
    Output::Tunnel { name: name(), bytes: Bytes::from_static(bytes) }
}

fn opener(world: &mut World, shard: usize) -> Actor {
    let opener = Actor::new(world, shard);
    opener.act(world, [Output::OpenTunnel(name())]);
    opener
}

/// A stream whose publisher is gone, on the second of two shards.
fn world_with_a_stream_elsewhere() -> World {
    let mut world = World::new(2, Config::default());
    let publisher = Actor::publisher(&mut world, 1);
    world.hang_up(publisher.peer);
    world
}

#[test]
fn what_comes_through_a_tunnel_is_its_openers_input() {
    for shard in [0, 1] {
        let mut world = World::new(2, Config::default());
        let publisher = opener(&mut world, 0);
        publisher.act(&mut world, [Output::Publish(key())]);
        let other_half = Actor::new(&mut world, shard);
        for _ in 0..4 {
            world.pass(1_000);
            other_half.act(&mut world, [tunnel(b"media")]);
        }
        let second = Actor::publisher(&mut world, 0);
        assert_eq!(second.told(), [format!("Refused({:?})", Refusal::NameInUse)], "the first is not silent");
        let opener = &sessions(&mut world, 0)[0];
        assert_eq!(opener.bytes_in, 2 + 2 + 4 * 5, "two orders of the test, and what came through the tunnel");
    }
}

#[test]
fn a_tunnel_goes_along_with_its_opener() {
    for shard in [0, 1] {
        let mut world = world_with_a_stream_elsewhere();
        let opener = opener(&mut world, 0);
        let other_half = Actor::new(&mut world, shard);
        other_half.act(&mut world, [tunnel(b"one")]);
        opener.act(&mut world, [Output::Publish(key())]);
        assert_eq!(world.find(opener.peer.socket).unwrap().shard, 1, "with the stream");
        for said in ["two", "three"] {
            opener.prepare([Output::Send(Bytes::from(said))]);
            other_half.act(&mut world, [tunnel(b"go")]);
            assert_eq!(world.take(opener.peer), said.as_bytes(), "from shard {shard}");
        }
        assert_eq!(world.find(other_half.peer.socket).unwrap().shard, 1);
        assert!(other_half.told().is_empty());
        world.hang_up(opener.peer);
        other_half.act(&mut world, [tunnel(b"late")]);
        assert_eq!(other_half.told(), [format!("Refused({:?})", Refusal::NotFound)]);
        let again = self::opener(&mut world, 0);
        assert!(again.told().is_empty(), "the name is free");
    }
}

#[test]
fn what_a_session_is_told_on_its_way_it_hears_at_its_destination() {
    let mut world = world_with_a_stream_elsewhere();
    let (opener, other_half) = (opener(&mut world, 0), Actor::new(&mut world, 0));
    let now = world.now();
    opener.prepare([Output::Publish(key())]);
    world.shards[0].received(now, opener.peer.index, b"go");
    opener.prepare([Output::Send(Bytes::from_static(b"heard"))]);
    other_half.prepare([tunnel(b"go")]);
    world.shards[0].received(now, other_half.peer.index, b"go");
    world.settle();
    assert_eq!(world.take(opener.peer), b"heard");
    assert_eq!(opener.told(), ["Publishing"]);
}

#[test]
fn who_arrives_at_a_shard_that_drains_is_said_goodbye() {
    let mut world = world_with_a_stream_elsewhere();
    let publisher = Actor::new(&mut world, 0);
    let now = world.now();
    publisher.prepare([Output::Publish(key())]);
    world.shards[0].received(now, publisher.peer.index, b"go");
    world.shards[1].command(now, super::message::Command::Drain);
    world.settle();
    let told = publisher.told();
    assert_eq!(told.last(), Some(&format!("Closing({:?})", CloseReason::ShuttingDown)), "{told:?}");
    assert!(!world.is_open(publisher.peer));
}

/// Wants to publish, at once or as soon as it has broken the protocol, and has long run out of time.
struct Hasty {
    fails: bool,
}

impl Session for Hasty {
    fn handle(&mut self, _now: Stamp, _input: Input<'_>, out: &mut Vec<Output>) -> Result<(), SessionError> {
        out.push(Output::Publish(key()));
        if self.fails {
            Err(SessionError { fault: Fault::Misbehaved, reason: "hasty", message: "as the test wishes".to_owned() })
        } else {
            Ok(())
        }
    }

    fn next_timeout(&self) -> Option<Stamp> {
        Some(Stamp::ZERO)
    }

    fn held_bytes(&self) -> usize {
        0
    }
}

#[test]
fn a_shard_does_not_wait_for_a_session_that_is_on_its_way() {
    let mut world = world_with_a_stream_elsewhere();
    let peer = world.connect(0, Box::new(Hasty { fails: false }));
    let now = world.now();
    world.shards[0].received(now, peer.index, b"go");
    world.shards[0].tick(now);
}

#[test]
fn a_session_that_fails_does_not_move() {
    let mut world = world_with_a_stream_elsewhere();
    let peer = world.connect(0, Box::new(Hasty { fails: true }));
    world.send(peer, b"go");
    assert!(!world.is_open(peer));
    assert_eq!(sessions(&mut world, 1).len(), 0);
}
