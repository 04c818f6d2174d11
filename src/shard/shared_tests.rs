//! Whose what comes to a shard's shared port is, in the simulated world.

use std::net::SocketAddr;

use super::message::{Command, Receiving, SessionId, ShardSnapshot};
use super::shared::Offer;
use super::sim::World;
use crate::config::Config;
use crate::protocol::gb28181::receiver::{NAME, Receiver, Request, Transport};
use crate::session::{CloseReason, ExpectedSource, Reception, Refusal, StreamKey};

const PORT: u16 = 30_000;

fn world() -> World {
    let mut config = Config::default();
    config.gb28181.shared_port = PORT;
    World::new(2, config)
}

fn at(host: u8) -> SocketAddr {
    ([192, 0, 2, host], 5_000).into()
}

fn of(ssrc: Option<u32>, host: Option<u8>) -> ExpectedSource {
    ExpectedSource { ssrc, strict: false, ip: host.map(|host| at(host).ip()) }
}

fn receive(world: &mut World, shard: usize, name: &str, transport: Transport, source: ExpectedSource) -> (SessionId, Reception) {
    let key = StreamKey::parse(&format!("live/{name}")).unwrap();
    let request = Request { shared_port: true, source, timeout_ms: 1_000_000, ..Request::new(key, transport) };
    let (reply, answer) = flume::bounded(1);
    world.command(shard, Command::Receive { session: Receiver::boxed(request, &Config::default()), protocol: NAME, reply });
    match answer.try_recv().unwrap() {
        Receiving::Started(id, reception) => (id, reception),
        other => panic!("{other:?}"),
    }
}

/// 20 ms of sound.
fn rtp(ssrc: u32, sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 0x88, (sequence >> 8) as u8, sequence as u8, 0, 0, 0, 0];
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(&[0xD5; 160]);
    packet
}

/// Sends one packet to the port of shard 0.
fn send(world: &mut World, host: u8, ssrc: u32, sequence: u16) {
    let now = world.now();
    world.shards[0].shared_datagram(now, false, at(host), &rtp(ssrc, sequence));
    world.settle();
}

/// How many packets a session has taken.
fn taken(world: &mut World, id: SessionId) -> u64 {
    let (reply, answer) = flume::bounded(1);
    world.command(0, Command::Receptions(reply));
    let all = answer.try_recv().unwrap();
    all.into_iter().find(|(of, _)| *of == id).unwrap().1.received.received
}

fn shard(world: &mut World) -> ShardSnapshot {
    let (reply, answer) = flume::bounded(1);
    world.command(0, Command::Shard(reply));
    answer.try_recv().unwrap()
}

fn close(world: &mut World, session: SessionId) {
    let (done, answer) = flume::bounded(1);
    world.command(0, Command::Close { session, reason: CloseReason::Kicked, done });
    assert!(answer.try_recv().unwrap());
}

#[test]
fn each_shard_has_one_port_and_each_ssrc_one_session() {
    let mut world = world();
    let (first, reception) = receive(&mut world, 0, "a", Transport::Udp, of(Some(7), None));
    assert_eq!(reception.port, Some(PORT));
    assert_eq!(receive(&mut world, 1, "b", Transport::TcpPassive, of(Some(7), None)).1.port, Some(PORT + 2));
    let (_, refused) = receive(&mut world, 0, "c", Transport::Udp, of(Some(7), None));
    assert_eq!(refused.refusal, Some(Refusal::LimitReached));
    assert_eq!(refused.detail, "no shared port, or its SSRC is another one's there");
    assert_eq!(world.open_ports(), 0, "none of their own");
    close(&mut world, first);
    assert_eq!(receive(&mut world, 0, "c", Transport::Udp, of(Some(7), None)).1.refusal, None, "it is free again");
    let mut without = World::new(1, Config::default());
    assert_eq!(receive(&mut without, 0, "a", Transport::Udp, of(Some(7), None)).1.refusal, Some(Refusal::LimitReached));
}

#[test]
fn datagrams_find_their_session() {
    let mut world = world();
    let agreed = receive(&mut world, 0, "a", Transport::Udp, of(Some(1), None)).0;
    let learns = receive(&mut world, 0, "b", Transport::Udp, of(Some(2), Some(9))).0;
    let strict = receive(&mut world, 0, "c", Transport::Udp, ExpectedSource { strict: true, ..of(Some(3), Some(8)) }).0;
    // Who sends, and what the three sessions have then.
    let steps: [(&str, u8, u32, [u64; 3]); 6] = [
        ("as agreed, from anywhere", 1, 1, [1, 0, 0]),
        ("nobody's", 1, 50, [1, 0, 0]),
        ("another SSRC, from the agreed address", 9, 60, [1, 1, 0]),
        ("it goes on", 9, 60, [1, 2, 0]),
        ("a third one, while that sends", 9, 61, [1, 2, 0]),
        ("another one where only the agreed one is taken", 8, 70, [1, 2, 0]),
    ];
    for (at, (name, host, ssrc, expected)) in steps.into_iter().enumerate() {
        send(&mut world, host, ssrc, at as u16);
        assert_eq!([agreed, learns, strict].map(|id| taken(&mut world, id)), expected, "{name}");
    }
    assert_eq!(shard(&mut world).stray_datagrams, 3);
    // What is no RTP is nobody's either.
    let now = world.now();
    world.shards[0].shared_datagram(now, false, at(9), &[1, 2, 3]);
    world.shards[0].shared_datagram(now, true, at(9), &[0x80, 200, 0, 1, 0, 0, 0, 77]);
    assert_eq!(shard(&mut world).stray_datagrams, 5);
    // After a silence another SSRC of that address is taken.
    world.pass(5_000);
    send(&mut world, 9, 61, 900);
    assert_eq!(taken(&mut world, learns), 3);
    // The answer names what is sent, and another address: the session is told, and the port too.
    let (done, answer) = flume::bounded(1);
    world.command(0, Command::Expect { session: strict, source: of(Some(80), Some(4)), done });
    assert!(answer.try_recv().unwrap());
    send(&mut world, 4, 80, 1);
    assert_eq!(taken(&mut world, strict), 1);
}

#[test]
fn two_that_expect_media_from_one_address_are_not_mixed_up() {
    let mut world = world();
    let ids: Vec<SessionId> =
        (1..=2).map(|ssrc| receive(&mut world, 0, &ssrc.to_string(), Transport::Udp, of(Some(ssrc), Some(9))).0).collect();
    send(&mut world, 9, 60, 1);
    assert_eq!(ids.iter().map(|id| taken(&mut world, *id)).sum::<u64>(), 0, "it may be either's");
    send(&mut world, 9, 1, 1);
    send(&mut world, 9, 60, 1);
    assert_eq!(ids.iter().map(|id| taken(&mut world, *id)).collect::<Vec<_>>(), [1, 1], "one has media: it is the other's");
    // What was learned gives way to who agrees on it, for good.
    let third = receive(&mut world, 0, "c", Transport::Udp, of(Some(60), None)).0;
    send(&mut world, 9, 60, 2);
    assert_eq!((taken(&mut world, ids[1]), taken(&mut world, third)), (1, 1));
    world.pass(5_000);
    send(&mut world, 9, 1, 2);
    send(&mut world, 9, 61, 1);
    send(&mut world, 9, 60, 3);
    assert_eq!([ids[0], ids[1], third].map(|id| taken(&mut world, id)), [2, 2, 2]);
}

#[test]
fn connections_find_their_session() {
    let mut world = world();
    let id = receive(&mut world, 0, "a", Transport::TcpPassive, of(Some(1), Some(9))).0;
    let udp = receive(&mut world, 0, "b", Transport::Udp, of(Some(2), Some(9))).0;
    let offer = |world: &mut World, ssrc: u32, host: u8, handle: usize| {
        let now = world.now();
        world.shards[0].shared_offer(now, &rtp(ssrc, 0), at(host), handle)
    };
    assert_eq!(offer(&mut world, 5, 1, 0), Offer::Unknown);
    assert_eq!(offer(&mut world, 2, 9, 0), Offer::Unknown, "that one comes in datagrams");
    let Offer::Given(index) = offer(&mut world, 5, 9, 1) else { panic!("the session that expects that address") };
    let framed = |sequence: u16| {
        let packet = rtp(5, sequence);
        [&(packet.len() as u16).to_be_bytes()[..], &packet].concat()
    };
    let now = world.now();
    world.shards[0].shared_received(now, index, &framed(1));
    assert_eq!((taken(&mut world, id), taken(&mut world, udp)), (1, 0));
    assert_eq!(offer(&mut world, 1, 9, 2), Offer::Busy);
    world.pass(2_000);
    assert_eq!(offer(&mut world, 1, 9, 2), Offer::Given(index), "the old one is silent");
    assert_eq!(world.take_shared_closed(), [1]);
    let now = world.now();
    world.shards[0].shared_ended(now, index, 1);
    assert_eq!(offer(&mut world, 1, 9, 3), Offer::Busy, "the end of the old one is not the new one's");
    world.shards[0].shared_ended(now, index, 2);
    assert_eq!(offer(&mut world, 1, 9, 3), Offer::Given(index));
    close(&mut world, id);
    assert_eq!(world.take_shared_closed(), [3], "with its session");
    assert_eq!(offer(&mut world, 1, 9, 4), Offer::Unknown);
    world.shards[0].shared_gave_up(&rtp(1, 0), at(9));
    assert_eq!(shard(&mut world).stray_connections, 1);
}
