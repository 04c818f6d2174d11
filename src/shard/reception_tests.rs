//! What a shard promises the operator who starts a receiver: it runs where its stream is, its ports are given back however it ends, and what
//! it said last is kept.

use super::message::{Command, Receiving, SessionId};
use super::sim::World;
use super::tests::{Actor, key};
use crate::config::Config;
use crate::protocol::gb28181::receiver::{NAME, Receiver, Request, TIMEOUT_MS_DEFAULT as TIMEOUT_MS, Transport};
use crate::session::{CloseReason, Reception, ReceptionState, Refusal};

fn receive(world: &mut World, shard: usize, transport: Transport) -> Receiving {
    let request = Request::new(key(), transport);
    let (reply, answer) = flume::bounded(1);
    let (session, now) = (Receiver::boxed(request, &Config::default()), world.now());
    world.shards[shard].command(now, Command::Receive { session, protocol: NAME, reply });
    answer.try_recv().unwrap()
}

#[track_caller]
fn started(receiving: Receiving) -> (SessionId, Reception) {
    match receiving {
        Receiving::Started(id, reception) => (id, reception),
        other => panic!("{other:?}"),
    }
}

fn receptions(world: &mut World) -> Vec<(SessionId, Reception)> {
    let (reply, answer) = flume::bounded(1);
    let now = world.now();
    world.shards[0].command(now, Command::Receptions(reply));
    answer.try_recv().unwrap()
}

#[test]
fn ports_are_given_back_however_it_ends() {
    type End = fn(&mut World, SessionId);
    let ends: [(&str, End, &str); 3] = [
        ("a timeout", |world, _| world.pass(TIMEOUT_MS + 100), ", over after 15000 ms"),
        ("the operator", |world, id| close(world, id), "closed by the operator"),
        ("a drain", |world, _| drain(world), "the server is shutting down"),
    ];
    for transport in [Transport::Udp, Transport::TcpPassive] {
        for (name, end, detail) in ends {
            let mut world = World::new(1, Config::default());
            let (id, reception) = started(receive(&mut world, 0, transport));
            let waits = if transport == Transport::Udp { "waiting for media" } else { "waiting for media; nobody has connected" };
            assert_eq!((reception.state, reception.detail.as_str()), (ReceptionState::Waiting, waits));
            assert!(reception.port.is_some() && world.open_ports() == 1, "{name}");
            end(&mut world, id);
            assert_eq!(world.open_ports(), 0, "{name}");
            let over = receptions(&mut world);
            assert_eq!((over.len(), over[0].0), (1, id), "{name}");
            assert!(over[0].1.detail.ends_with(detail), "{name}: {}", over[0].1.detail);
        }
    }
}

fn close(world: &mut World, session: SessionId) {
    let (done, answer) = flume::bounded(1);
    let now = world.now();
    world.shards[0].command(now, Command::Close { session, reason: CloseReason::Kicked, done });
    assert!(answer.try_recv().unwrap());
}

fn drain(world: &mut World) {
    let now = world.now();
    world.shards[0].command(now, Command::Drain);
    assert!(matches!(receive(world, 0, Transport::Udp), Receiving::Refused(Refusal::ShuttingDown)));
}

#[test]
fn it_begins_where_its_stream_is() {
    let mut world = World::new(2, Config::default());
    let publisher = Actor::publisher(&mut world, 1);
    assert!(matches!(receive(&mut world, 0, Transport::Udp), Receiving::Elsewhere(1)));
    let (_, refused) = started(receive(&mut world, 1, Transport::Udp));
    assert_eq!((refused.refusal, refused.detail.as_str()), (Some(Refusal::NameInUse), "the name is in use"));
    assert_eq!(world.open_ports(), 0);
    // Once its publisher has been silent for long enough, the name can be taken.
    world.pass(Config::default().stream.takeover_silence_ms);
    let (_, reception) = started(receive(&mut world, 1, Transport::TcpPassive));
    assert_eq!(reception.refusal, None);
    drop(publisher);
}

#[test]
fn only_the_newest_that_are_over_are_kept() {
    let mut world = World::new(1, Config::default());
    let ids: Vec<SessionId> = (0..300)
        .map(|_| {
            let (id, _) = started(receive(&mut world, 0, Transport::TcpPassive));
            close(&mut world, id);
            id
        })
        .collect();
    let kept: Vec<SessionId> = receptions(&mut world).into_iter().map(|(id, _)| id).collect();
    let newest: Vec<SessionId> = ids.into_iter().rev().take(256).collect();
    assert_eq!(kept, newest);
}

fn active() -> Box<dyn crate::session::Session> {
    let to = ([192, 0, 2, 1], 5_000).into();
    Receiver::boxed(Request::new(key(), Transport::TcpActive { to }), &Config::default())
}

#[test]
fn a_connection_that_was_made_elsewhere_is_served() {
    let mut world = World::new(2, Config::default());
    let (receiving, peer) = world.adopt(0, active());
    let ((id, reception), peer) = (started(receiving), peer.unwrap());
    assert_eq!((reception.state, reception.port, reception.refusal), (ReceptionState::Waiting, None, None));
    // The name is taken on its shard, and another shard sends others there.
    let (elsewhere, nobody) = world.adopt(1, active());
    assert!(matches!(elsewhere, Receiving::Elsewhere(0)) && nobody.is_none());
    let (second, refused) = world.adopt(0, active());
    assert_eq!(started(second).1.refusal, Some(Refusal::NameInUse));
    world.pass(6_000);
    assert!(!world.is_open(refused.unwrap()));
    // The sender goes: that is how it ended, and the stream waits for its publisher as for any.
    world.hang_up(peer);
    let over = receptions(&mut world);
    let (_, last) = over.iter().find(|(of, _)| *of == id).unwrap();
    assert_eq!((last.state, last.detail.as_str()), (ReceptionState::Ended, "the sender has closed the connection"));
    let (again, peer) = world.adopt(0, active());
    assert_eq!(started(again).1.refusal, None);
    // A drain refuses, and closes what is there.
    drain(&mut world);
    world.settle();
    assert!(matches!(world.adopt(0, active()).0, Receiving::Refused(Refusal::ShuttingDown)));
    assert!(!world.is_open(peer.unwrap()));
}
