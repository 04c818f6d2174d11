//! What a shard promises viewers and publishers that use datagrams, members of multicast groups, and who asks what a stream consists of.

use std::net::SocketAddr;

use bytes::Bytes;

use super::conn::Socket;
use super::core::Datagram;
use super::message::Command;
use super::sim::{GROUP_ADDRESS, GROUP_SOCKET, World};
use super::tests::{Actor, frame, key, request, run, sessions, streams, tracks, video};
use crate::config::Config;
use crate::format::Format;
use crate::format::rtp::rtcp::{self, Report};
use crate::format::rtp::{RtpCarriage, RtpHeader};
use crate::hub::stats::DropReason;
use crate::media::{Codec, Frame, MediaEvent, Track, TrackId, TrackShape, Tracks};
use crate::session::{Delivery, Output, PairTarget, PlayRequest, Refusal, Start};

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 9], port))
}

fn target(port: u16) -> PairTarget {
    PairTarget { pair: 0, rtp: address(port), rtcp: address(port + 1) }
}

fn play() -> Output {
    let delivery = Delivery::Datagrams { video: Some(target(5000)), audio: None };
    Output::Play(PlayRequest {
        format: Format::Rtp(RtpCarriage::Datagrams),
        delivery,
        protocol: "sim-udp",
        ..request(Start::Gop)
    })
}

/// Its ports are open and it plays; RTP comes from the socket 20000.
fn viewer(world: &mut World) -> Actor {
    let actor = Actor::new(world, 0);
    actor.act(world, [Output::OpenPair(0)]);
    assert_eq!(actor.told(), ["PairOpened { pair: 0, port: Some(20000) }"]);
    actor.act(world, [play()]);
    actor
}

fn publisher(world: &mut World) -> Actor {
    let actor = Actor::publisher(world, 0);
    actor.act(world, [tracks()]);
    actor
}

/// `report`, `bye`, or the sequence number behind that of the first RTP packet ever seen, in the order in which they were sent.
fn shown(first: &mut Option<u16>, datagrams: &[(Socket, SocketAddr, Vec<u8>)]) -> Vec<String> {
    let mut shown = Vec::new();
    for (_, _, content) in datagrams {
        if !rtcp::is_rtcp(content) {
            let number = RtpHeader::parse(content).unwrap().sequence;
            shown.push(number.wrapping_sub(*first.get_or_insert(number)).to_string());
            continue;
        }
        let mut what = "report";
        rtcp::parse(content, |report| {
            if matches!(report, Report::Bye { .. }) {
                what = "bye";
            }
        })
        .unwrap();
        shown.push(what.to_owned());
    }
    shown
}

#[test]
fn reports_lead_and_every_packet_goes_to_the_address_of_its_kind() {
    let mut world = World::new(1, Config::default());
    let publisher = publisher(&mut world);
    run(&mut world, &publisher, 0, 80);
    viewer(&mut world);
    run(&mut world, &publisher, 80, 160);
    let sent = world.take_datagrams();
    assert_eq!(shown(&mut None, &sent), ["report", "0", "1", "2", "3"]);
    let (from, to, _) = &sent[0];
    assert_eq!((*from, *to), (20_001, address(5001)), "reports");
    assert!(sent[1..].iter().all(|(from, to, _)| (*from, *to) == (20_000, address(5000))), "media");
}

#[test]
fn goodbye_is_not_late_however_long_the_publisher_was_silent() {
    let mut world = World::new(1, Config::default());
    let publisher = publisher(&mut world);
    run(&mut world, &publisher, 0, 80);
    let viewer = viewer(&mut world);
    world.pass(3_000);
    publisher.act(&mut world, [Output::Unpublish]);
    assert_eq!(shown(&mut None, &world.take_datagrams()), ["report", "0", "1", "bye"]);
    assert_eq!(viewer.told().last().unwrap(), "Ended");
}

#[test]
fn a_full_buffer_holds_the_place() {
    let mut world = World::new(1, Config::default());
    let publisher = publisher(&mut world);
    run(&mut world, &publisher, 0, 40);
    viewer(&mut world);
    let mut first = None;
    assert_eq!(shown(&mut first, &world.take_datagrams()), ["report", "0"]);
    world.fail_datagrams(2);
    run(&mut world, &publisher, 40, 120);
    assert!(world.take_datagrams().is_empty());
    run(&mut world, &publisher, 120, 160);
    assert_eq!(shown(&mut first, &world.take_datagrams()), ["1", "2", "3"], "with the next frame");
}

#[test]
fn a_viewer_whose_buffer_stays_full_skips_to_a_keyframe() {
    let mut world = World::new(1, Config::default());
    let publisher = publisher(&mut world);
    run(&mut world, &publisher, 0, 40);
    viewer(&mut world);
    let mut first = None;
    shown(&mut first, &world.take_datagrams());
    world.fail_datagrams(usize::MAX);
    run(&mut world, &publisher, 40, 800);
    world.fail_datagrams(0);
    run(&mut world, &publisher, 800, 1_040);
    assert_eq!(shown(&mut first, &world.take_datagrams()), ["report", "25"], "the key at 1000 ms");
    assert_eq!(streams(&mut world, 0)[0].counters.skips, 1);
}

#[test]
fn what_the_kernel_does_not_take_is_counted() {
    let mut world = World::new(1, Config::default());
    let publisher = publisher(&mut world);
    run(&mut world, &publisher, 0, 40);
    viewer(&mut world);
    world.take_datagrams();
    let publish_large = |world: &mut World, ms| {
        let frame = Frame { data: Bytes::from(vec![0; 5_000]), ..video(world, ms, false) };
        publisher.act(world, [Output::Media(MediaEvent::Frame(frame))]);
    };
    let not_taken = |world: &mut World| streams(world, 0)[0].counters.dropped[DropReason::NotTaken as usize];
    let packets_out = streams(&mut world, 0)[0].counters.packets_out;
    world.cut_datagrams(Some(2));
    publish_large(&mut world, 40);
    let sent = world.take_datagrams();
    assert_eq!(sent.len(), 2, "of four");
    let bytes: usize = sent.iter().map(|(_, _, content)| content.len()).sum();
    let stream = &streams(&mut world, 0)[0];
    assert_eq!(not_taken(&mut world), 1);
    assert_eq!(stream.counters.packets_out, packets_out, "what is cut has not gone out");
    assert_eq!(stream.counters.bytes_out, sessions(&mut world, 0)[1].bytes_out);
    assert!(stream.counters.bytes_out < 1_500 + bytes as u64, "only what went out");
    world.cut_datagrams(None);
    world.refuse_datagrams(true);
    publish_large(&mut world, 80);
    assert_eq!(not_taken(&mut world), 2);
    world.refuse_datagrams(false);
    publish_large(&mut world, 120);
    assert_eq!((world.take_datagrams().len(), not_taken(&mut world)), (4, 2));
}

#[test]
fn a_redirected_viewer_is_sent_to_its_new_address() {
    let mut world = World::new(1, Config::default());
    let publisher = publisher(&mut world);
    run(&mut world, &publisher, 0, 40);
    let viewer = viewer(&mut world);
    world.take_datagrams();
    viewer.act(&mut world, [Output::Redirect(target(6000))]);
    run(&mut world, &publisher, 40, 80);
    let to: Vec<SocketAddr> = world.take_datagrams().iter().map(|(_, to, _)| *to).collect();
    assert_eq!(to, [address(6000)]);
}

#[test]
fn ports_are_given_back() {
    let mut world = World::new(1, Config::default());
    let viewer = viewer(&mut world);
    viewer.act(&mut world, [Output::OpenPair(1)]);
    assert_eq!(world.open_pairs(), 2);
    viewer.act(&mut world, [Output::OpenPair(1)]);
    assert_eq!(world.open_pairs(), 2, "the same pair anew");
    viewer.act(&mut world, [Output::ClosePair(1), Output::ClosePair(1), Output::ClosePair(9)]);
    assert_eq!(world.open_pairs(), 1);
    world.hang_up(viewer.peer);
    assert_eq!(world.open_pairs(), 0);
}

#[test]
fn datagrams_reach_the_session_whose_port_it_is() {
    let mut world = World::new(1, Config::default());
    let viewer = viewer(&mut world);
    let datagram = Datagram { pair: 0, rtcp: true, from: address(5001), bytes: b"x" };
    world.send_datagram(viewer.peer, datagram);
    let told = viewer.told();
    assert_eq!(told, ["Datagram { pair: 0, rtcp: true, from: 10.0.0.9:5001, bytes: [120] }"]);
    assert_eq!(sessions(&mut world, 0)[0].bytes_in, 2 + 2 + 1, "two orders of the test, and the datagram");
}

#[test]
fn a_stranger_does_not_speak_for_a_silent_publisher() {
    let refused = format!("Refused({:?})", Refusal::NameInUse);
    for (from, expected) in [([127, 0, 0, 1], &*refused), ([10, 0, 0, 9], "Publishing")] {
        let mut world = World::new(1, Config::default());
        let publisher = publisher(&mut world);
        publisher.act(&mut world, [Output::OpenPair(0)]);
        for _ in 0..4 {
            world.pass(1_000);
            let datagram = Datagram { pair: 0, rtcp: false, from: (from, 5000).into(), bytes: b"x" };
            world.send_datagram(publisher.peer, datagram);
        }
        assert_eq!(Actor::publisher(&mut world, 0).told(), [expected], "from {from:?}");
    }
}

#[test]
fn what_was_sent_to_a_group_stays_counted() {
    let mut world = World::new(1, Config::default());
    let publisher = publisher(&mut world);
    run(&mut world, &publisher, 0, 1_000);
    let member = Actor::new(&mut world, 0);
    let format = Format::Rtp(RtpCarriage::Datagrams);
    member.act(&mut world, [Output::JoinGroup { key: key(), format, protocol: "sim-group" }]);
    run(&mut world, &publisher, 1_000, 2_000);
    let bytes_out = |world: &mut World| {
        let (reply, answer) = flume::bounded(1);
        world.command(0, Command::Shard(reply));
        answer.recv().unwrap().bytes_out
    };
    let before = bytes_out(&mut world);
    assert!(before > 25_000);
    world.hang_up(member.peer);
    assert_eq!(bytes_out(&mut world), before);
}

#[test]
fn a_group_is_sent_to_while_it_has_members() {
    let mut world = World::new(2, Config::default());
    let publisher = publisher(&mut world);
    run(&mut world, &publisher, 0, 1_040);
    let join = || Output::JoinGroup { key: key(), format: Format::Rtp(RtpCarriage::Datagrams), protocol: "sim-group" };
    // One of them lands on another shard and moves.
    let members = [0, 1].map(|shard| Actor::new(&mut world, shard));
    for member in &members {
        member.act(&mut world, [join()]);
        assert!(member.told()[0].starts_with("GroupJoined"), "on shard {}", member.peer.shard);
    }
    run(&mut world, &publisher, 1_040, 2_040);
    let sent = world.take_datagrams();
    assert_eq!(shown(&mut None, &sent), ["report", "0"], "from the next key on, once for all");
    assert!(sent.iter().all(|(from, to, _)| *from == GROUP_SOCKET && to.ip() == GROUP_ADDRESS));
    let late = Actor::new(&mut world, 0);
    late.act(&mut world, [join()]);
    assert_eq!(shown(&mut None, &world.take_datagrams()), ["report"], "a member that comes later learns the clocks at once");
    late.act(&mut world, [Output::LeaveGroup]);
    members[0].act(&mut world, [Output::LeaveGroup]);
    run(&mut world, &publisher, 2_040, 2_080);
    assert_eq!(world.take_datagrams().len(), 1);
    world.hang_up(members[1].peer);
    run(&mut world, &publisher, 2_080, 2_120);
    assert!(world.take_datagrams().is_empty(), "nobody listens");
    members[0].act(&mut world, [join()]);
    publisher.act(&mut world, [Output::Unpublish]);
    assert_eq!(members[0].told().last().unwrap(), "Ended", "with the stream");
}

#[test]
fn a_description_waits_a_moment_for_the_second_track() {
    let sound = || Track {
        id: TrackId(1),
        codec: Codec::G711A,
        config: Default::default(),
        shape: TrackShape::Audio { sample_rate: 8_000, channels: 1 },
    };
    // When the sound appears, and when the description is given.
    for (sound_at_ms, described_at_ms) in [(Some(120), 120), (Some(800), 500), (None, 500)] {
        for shard in [0, 1] {
            let mut world = World::new(2, Config::default());
            let publisher = publisher(&mut world);
            let player = Actor::new(&mut world, shard);
            player.act(&mut world, [Output::Describe(key())]);
            let mut described = None;
            for ms in (0..1_000).step_by(40) {
                if sound_at_ms == Some(ms) {
                    let Output::Media(MediaEvent::Tracks(tracks)) = tracks() else { unreachable!() };
                    let both = tracks.iter().cloned().chain([sound()]).collect();
                    let announced = MediaEvent::Tracks(Tracks::new(both, Default::default()));
                    let heard = MediaEvent::Frame(frame(&world, TrackId(1), ms, true));
                    publisher.act(&mut world, [announced, heard].map(Output::Media));
                }
                if described.is_none() && !player.told().is_empty() {
                    described = Some(ms);
                }
                run(&mut world, &publisher, ms, ms + 40);
            }
            let described = described.expect("an answer");
            // Streams are looked at ten times a second.
            let latest = described_at_ms + 140;
            assert!((described_at_ms..=latest).contains(&described), "shard {shard}, sound at {sound_at_ms:?}: {described} ms");
        }
    }
}
