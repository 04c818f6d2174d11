//! Turns are bounded: with more viewers than a turn has time for, a round over them goes on in the next turn, with what has come since. Rounds
//! that take long are held apart.

use std::time::Duration;

use super::sim::World;
use super::tests::{Actor, request, tracks, video};
use crate::config::Config;
use crate::media::MediaEvent;
use crate::session::{Output, Start};

const VIEWERS: usize = 100;
/// A turn has time for ten of them, and looks at the clock after sixteen.
const SEND_TAKES: Duration = Duration::from_micros(100);
const SENDS_PER_TURN_MAX: usize = 16;

/// A publisher, and viewers who have got its first picture.
fn crowd() -> (World, Actor, Vec<Actor>) {
    let mut world = World::new(1, Config::default());
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks()]);
    show(&mut world, &publisher, 0, true);
    while turn(&mut world) {}
    let mut viewers: Vec<Actor> = (0..VIEWERS).map(|_| Actor::viewer(&mut world, 0)).collect();
    for viewer in &mut viewers {
        assert_eq!(viewer.frames(&mut world), [0]);
    }
    world.set_send_takes(SEND_TAKES);
    world.take_sends();
    (world, publisher, viewers)
}

/// A picture arrives; nothing is sent yet.
fn show(world: &mut World, publisher: &Actor, ms: i64, is_key: bool) {
    let frame = video(world, ms, is_key);
    publisher.prepare([Output::Media(MediaEvent::Frame(frame))]);
    world.receive(publisher.peer, b"go");
}

/// One turn; whether it left something for the next.
fn turn(world: &mut World) -> bool {
    let now = world.now();
    world.shards[0].flush(now);
    world.shards[0].wants_flush()
}

#[test]
fn a_round_over_many_viewers_goes_on_in_the_next_turn() {
    let (mut world, publisher, mut viewers) = crowd();
    show(&mut world, &publisher, 40, false);
    let mut turns = 1;
    while turn(&mut world) {
        assert!(world.take_sends() <= SENDS_PER_TURN_MAX, "turn {turns}");
        turns += 1;
    }
    assert!(turns >= VIEWERS / SENDS_PER_TURN_MAX, "{turns} turns");
    for (at, viewer) in viewers.iter_mut().enumerate() {
        assert_eq!(viewer.frames(&mut world), [40], "viewer {at}");
    }
}

#[test]
fn what_comes_during_a_round_goes_out_with_the_rest_of_it_and_to_the_others_in_the_next() {
    let (mut world, publisher, mut viewers) = crowd();
    let began = world.now();
    show(&mut world, &publisher, 40, false);
    for ms in [80, 120] {
        assert!(turn(&mut world) && turn(&mut world));
        show(&mut world, &publisher, ms, false);
    }
    while turn(&mut world) {}
    assert_eq!(world.take_sends(), VIEWERS, "each has its turn once");
    let took = world.now().since(began);
    let next = world.shards[0].next_deadline().expect("the next round");
    assert!(next >= world.now() && next <= began.after(2 * took), "{next:?} after {took:?} from {began:?}");

    world.pass(next.millis_since(world.now()) + 1);
    // Only those served early needed another send.
    assert!(world.take_sends() < VIEWERS);
    for (at, viewer) in viewers.iter_mut().enumerate() {
        assert_eq!(viewer.frames(&mut world), [40, 80, 120], "viewer {at}");
    }
}

#[test]
fn who_has_something_of_its_own_to_say_does_not_wait_for_the_next_round() {
    let (mut world, publisher, _viewers) = crowd();
    show(&mut world, &publisher, 40, false);
    while turn(&mut world) {}
    show(&mut world, &publisher, 80, false);
    assert!(!turn(&mut world), "the next round is not due yet");
    assert_eq!(world.take_sends(), VIEWERS);
    let mut newcomer = Actor::new(&mut world, 0);
    newcomer.prepare([Output::Play(request(Start::Gop))]);
    world.receive(newcomer.peer, b"go");
    turn(&mut world);
    assert_eq!(newcomer.frames(&mut world), [0, 40, 80]);
}

#[test]
fn streams_take_turns() {
    let (mut world, publisher, _viewers) = crowd();
    show(&mut world, &publisher, 40, false);
    assert!(turn(&mut world));
    let other = crate::session::StreamKey::parse("live/b").unwrap();
    let lone = Actor::new(&mut world, 0);
    lone.prepare([Output::Publish(other.clone())]);
    world.receive(lone.peer, b"go");
    lone.prepare([tracks()]);
    world.receive(lone.peer, b"go");
    show(&mut world, &lone, 0, true);
    let mut watching = Actor::new(&mut world, 0);
    watching.prepare([Output::Play(crate::session::PlayRequest { key: other, ..request(Start::Gop) })]);
    world.receive(watching.peer, b"go");
    assert!(turn(&mut world), "the round over the other stream is not done");
    assert_eq!(watching.frames(&mut world), [0]);
    show(&mut world, &lone, 40, false);
    assert!(turn(&mut world) && turn(&mut world), "the round over the other stream is not done");
    assert_eq!(watching.frames(&mut world), [40]);
}

#[test]
fn viewers_may_go_and_come_during_a_round() {
    for gone in [0, 5, 15, 16, 20, 50, 97, 98, 99] {
        let (mut world, publisher, mut viewers) = crowd();
        show(&mut world, &publisher, 40, false);
        assert!(turn(&mut world));
        let now = world.now();
        let peer = viewers.remove(gone).peer;
        world.shards[0].received_end(now, peer.index);
        let peer = viewers.remove(0).peer;
        world.shards[0].received_end(now, peer.index);
        let newcomer = Actor::new(&mut world, 0);
        newcomer.prepare([Output::Play(request(Start::Gop))]);
        world.receive(newcomer.peer, b"go");
        while turn(&mut world) {}
        for (at, viewer) in viewers.iter_mut().enumerate() {
            assert_eq!(viewer.frames(&mut world), [40], "viewer {at} of those left when {gone} went");
        }
        viewers.push(newcomer);
        assert_eq!(viewers.last_mut().unwrap().frames(&mut world), [0, 40]);
        show(&mut world, &publisher, 80, false);
        while turn(&mut world) {}
        world.pass(2 * VIEWERS as u64 * SEND_TAKES.as_micros() as u64 / 1_000);
        assert!(viewers.iter_mut().all(|viewer| viewer.frames(&mut world) == [80]));
    }
}

#[test]
fn a_crowd_that_joins_at_once_is_let_in_over_several_turns() {
    let (mut world, _publisher, _viewers) = crowd();
    let mut newcomers: Vec<Actor> = (0..VIEWERS).map(|_| Actor::new(&mut world, 0)).collect();
    world.take_sends();
    for newcomer in &newcomers {
        newcomer.prepare([Output::Play(request(Start::Gop))]);
        world.receive(newcomer.peer, b"go");
    }
    let mut turns = 1;
    while turn(&mut world) {
        assert!(world.take_sends() <= SENDS_PER_TURN_MAX, "turn {turns}");
        turns += 1;
    }
    assert!(turns >= VIEWERS / SENDS_PER_TURN_MAX, "{turns} turns");
    assert!(newcomers.iter_mut().all(|newcomer| newcomer.frames(&mut world) == [0]));
}
