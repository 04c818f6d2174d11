//! What a shard promises of streams on demand, in the simulated world: it says who is waited for, and tells publishers that nobody watches.

use super::message::{Command, Receiving, Report, SessionId};
use super::sim::World;
use super::tests::{Actor, tracks, video};
use crate::config::Config;
use crate::format::{Envelope, Format, HevcForm};
use crate::media::MediaEvent;
use crate::protocol::gb28181::receiver::{NAME, Receiver, Request, Transport};
use crate::session::{Delivery, Output, PlayRequest, Reception, Start, StreamKey};

const IDLE_MS: u64 = 5_000;

fn gb() -> StreamKey {
    StreamKey::parse("gb/34020000001110000001/34020000001320000001").unwrap()
}

fn config() -> Config {
    let mut config = Config::default();
    config.gb28181.enabled = true;
    config
}

fn play(key: &StreamKey) -> Output {
    let format = Format::Flv { hevc: HevcForm::Enhanced, envelope: Envelope::None };
    Output::Play(PlayRequest { key: key.clone(), format, start: Start::Gop, delivery: Delivery::Connection, protocol: "sim" })
}

#[test]
fn control_is_told_what_viewers_wait_for() {
    let mut world = World::new(2, config());
    let reports = |world: &mut World| world.take_reports().len();
    let other = Actor::new(&mut world, 0);
    other.act(&mut world, [play(&StreamKey::parse("live/a").unwrap())]);
    assert_eq!(reports(&mut world), 0, "not a name that can be brought");
    let viewer = Actor::new(&mut world, 0);
    viewer.act(&mut world, [play(&gb())]);
    assert_eq!(world.take_reports(), [(0, Report::Wanted(gb()))], "at once");
    Actor::new(&mut world, 0).act(&mut world, [Output::Describe(gb())]);
    assert_eq!(reports(&mut world), 0, "who comes later is in what is repeated");
    Actor::new(&mut world, 1).act(&mut world, [Output::Describe(gb())]);
    assert_eq!(reports(&mut world), 1, "for a description too, and each shard for itself");
    world.pass(2_000);
    assert!((7..=9).contains(&reports(&mut world)), "twice a second and shard");
    // Nobody waits any more.
    world.pass(config().viewer.wait_ms);
    reports(&mut world);
    world.pass(2_000);
    assert_eq!(reports(&mut world), 0);
}

#[test]
fn reports_that_find_no_room_are_counted() {
    let mut world = World::new(1, config());
    world.set_reports_max(0);
    Actor::new(&mut world, 0).act(&mut world, [play(&gb())]);
    let (reply, answer) = flume::bounded(1);
    world.command(0, Command::Shard(reply));
    assert_eq!(answer.try_recv().unwrap().reports_dropped, 1);
}

#[test]
fn viewers_whose_publisher_is_gone_wait_too() {
    let mut world = World::new(1, config());
    let publisher = Actor::new(&mut world, 0);
    publisher.act(&mut world, [Output::Publish(gb())]);
    publisher.act(&mut world, [tracks()]);
    let frame = Output::Media(MediaEvent::Frame(video(&world, 0, true)));
    publisher.act(&mut world, [frame]);
    let viewer = Actor::new(&mut world, 0);
    viewer.act(&mut world, [play(&gb())]);
    world.pass(1_000);
    assert_eq!(world.take_reports(), []);
    world.hang_up(publisher.peer);
    world.pass(1_000);
    assert_eq!(world.take_reports().len(), 2);
}

/// A receiver of that stream on shard 0.
fn receive(world: &mut World) -> SessionId {
    let request = Request { idle_ms: Some(IDLE_MS), timeout_ms: 1_000_000, ..Request::new(gb(), Transport::Udp) };
    let (reply, answer) = flume::bounded(1);
    world.command(0, Command::Receive { session: Receiver::boxed(request, &config()), protocol: NAME, reply });
    match answer.try_recv().unwrap() {
        Receiving::Started(id, _) => id,
        other => panic!("{other:?}"),
    }
}

fn says(world: &mut World, id: SessionId) -> Reception {
    let (reply, answer) = flume::bounded(1);
    world.command(0, Command::Receptions(reply));
    answer.try_recv().unwrap().into_iter().find(|(of, _)| *of == id).unwrap().1
}

#[test]
fn it_ends_when_nobody_has_watched_it() {
    let mut world = World::new(1, config());
    let id = receive(&mut world);
    world.pass(IDLE_MS - 200);
    assert_eq!(world.open_ports(), 1);
    world.pass(400);
    assert_eq!((world.open_ports(), says(&mut world, id).detail.as_str()), (0, "nobody watched for 5000 ms"));
    assert!(world.shards[0].holds_no_stream());
}

#[test]
fn whoever_watches_or_waits_keeps_it() {
    // The viewer's shard; nothing is sent, so it waits all the time.
    for shard in [0, 1] {
        let mut config = config();
        config.viewer.wait_ms = 20_000;
        let mut world = World::new(2, config);
        let viewer = Actor::new(&mut world, shard);
        viewer.act(&mut world, [play(&gb())]);
        receive(&mut world);
        world.pass(3 * IDLE_MS);
        assert_eq!(world.open_ports(), 1, "a viewer on shard {shard} waits");
        world.hang_up(viewer.peer);
        // The watch of another shard lingers for a second.
        world.pass(IDLE_MS - 200);
        assert_eq!(world.open_ports(), 1, "since the viewer on shard {shard} has gone");
        world.pass(1_500);
        assert_eq!(world.open_ports(), 0, "after the viewer on shard {shard}");
    }
}
