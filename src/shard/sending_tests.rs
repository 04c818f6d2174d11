//! What a shard promises of senders: they send what their stream has from whatever shard they are on, give their ports back however they
//! end, and what they said last is kept.

use bytes::Bytes;

use super::message::{Command, Receiving, SessionId};
use super::sim::World;
use super::tests::{Actor, frame, key};
use crate::config::Config;
use crate::format::rtp::SourceContent;
use crate::media::{Codec, MediaEvent, Track, TrackId, TrackShape, Tracks};
use crate::protocol::gb28181::sender::{NAME, Request, Sender, Transport};
use crate::session::{CloseReason, Output, Sending, SendingState};

const WAIT_MS: u64 = 60_000;

fn send(world: &mut World, shard: usize, transport: Transport) -> (SessionId, Sending) {
    let request = Request { key: key(), transport, content: SourceContent::Ps, ssrc: 7, payload_type: 96, wait_ms: WAIT_MS };
    let (reply, answer) = flume::bounded(1);
    world.command(shard, Command::Receive { session: Sender::boxed(request), protocol: NAME, reply });
    match answer.try_recv().unwrap() {
        Receiving::Sends(id, sending) => (id, sending),
        other => panic!("{other:?}"),
    }
}

fn said(world: &mut World, shard: usize) -> Vec<Sending> {
    let (reply, answer) = flume::bounded(1);
    world.command(shard, Command::Sendings(reply));
    answer.try_recv().unwrap().into_iter().map(|(_, sending)| sending).collect()
}

/// Sound alone: it counts as a stream after a second.
fn publish(world: &mut World, shard: usize) -> Actor {
    let publisher = Actor::publisher(world, shard);
    let shape = TrackShape::Audio { sample_rate: 8_000, channels: 1 };
    let track = Track { id: TrackId(0), codec: Codec::G711A, config: Bytes::new(), shape };
    publisher.act(world, [Output::Media(MediaEvent::Tracks(Tracks::new(vec![track], Bytes::new())))]);
    for ms in (0..2_000).step_by(40) {
        let sound = frame(world, TrackId(0), ms, true);
        publisher.act(world, [Output::Media(MediaEvent::Frame(sound))]);
        world.pass(40);
    }
    publisher
}

#[test]
fn a_stream_of_another_shard_is_sent_as_datagrams() {
    let to = ([192, 0, 2, 1], 6_000).into();
    let mut world = World::new(2, Config::default());
    let (_, waiting) = send(&mut world, 0, Transport::Udp { to });
    assert_eq!((waiting.state, waiting.port), (SendingState::Waiting, Some(20_000)));
    let publisher = publish(&mut world, 1);
    let datagrams = world.take_datagrams();
    assert!(!datagrams.is_empty());
    for (from, to_address, packet) in &datagrams {
        assert_eq!((*from, *to_address), (20_000, to));
        assert_eq!((&packet[..1], &packet[8..12]), (&[0x80][..], &[0, 0, 0, 7][..]));
    }
    let now = said(&mut world, 0).remove(0);
    let sent: usize = datagrams.iter().map(|(_, _, packet)| packet.len()).sum();
    assert_eq!((now.state, now.bytes), (SendingState::Sending, sent as u64), "{}", now.detail);
    publisher.act(&mut world, [Output::Unpublish]);
    world.pass(1_000);
    let over = said(&mut world, 0).remove(0);
    assert_eq!((over.state, over.detail.as_str(), world.open_ports()), (SendingState::Ended, "the stream has ended", 0));
}

#[test]
fn ports_are_given_back_however_it_ends() {
    type End = fn(&mut World, SessionId);
    let to = ([192, 0, 2, 1], 6_000).into();
    for transport in [Transport::Udp { to }, Transport::TcpPassive] {
        let ends: [(&str, End); 3] = [
            ("closed by the operator", |world, session| {
                let (done, answer) = flume::bounded(1);
                world.command(0, Command::Close { session, reason: CloseReason::Kicked, done });
                assert!(answer.try_recv().unwrap());
            }),
            ("the server is shutting down", |world, _| world.command(0, Command::Drain)),
            ("for 60000 ms", |world, _| world.pass(WAIT_MS + 100)),
        ];
        for (detail, end) in ends {
            let mut world = World::new(1, Config::default());
            let (id, _) = send(&mut world, 0, transport);
            assert_eq!(world.open_ports(), 1);
            end(&mut world, id);
            let over = said(&mut world, 0).remove(0);
            assert!(over.detail.ends_with(detail), "{}", over.detail);
            assert_eq!((over.state, world.open_ports()), (SendingState::Ended, 0), "{detail}");
        }
    }
}

#[test]
fn whoever_connects_first_is_sent_to() {
    let mut world = World::new(1, Config::default());
    send(&mut world, 0, Transport::TcpPassive);
    let peer = world.connect_to_port(0).unwrap();
    assert_eq!(world.open_ports(), 0, "nobody else is let in");
    assert_eq!(world.connect_to_port(0), None);
    let _publisher = publish(&mut world, 0);
    let bytes = world.take(peer);
    assert_eq!((&bytes[2..3], &bytes[10..14]), (&[0x80][..], &[0, 0, 0, 7][..]), "a length, then RTP");
    assert_eq!(said(&mut world, 0)[0].to, Some(([127, 0, 0, 1], 10_000 + peer.socket as u16).into()));
    world.hang_up(peer);
    let over = said(&mut world, 0).remove(0);
    assert_eq!((over.state, over.detail.as_str()), (SendingState::Ended, "the receiver has closed the connection"));
}
