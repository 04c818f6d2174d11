//! What a shard promises its publishers and viewers, in the simulated world.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::message::{Command, SessionRole, SessionSnapshot, StreamSnapshot};
use super::sim::{Peer, World};
use crate::config::{Config, PublishConflict};
use crate::format::flv::{Demuxed, FlvDemuxer, TagReader};
use crate::format::rtp::{Channels, RtpCarriage};
use crate::format::{AudioForm, Envelope, Format, HevcForm};
use crate::hub::stats::DropReason;
use crate::media::{Codec, Frame, MediaEvent, MediaTime, Stamp, Track, TrackId, TrackKind, TrackShape, Tracks};
use crate::session::{CloseReason, Delivery, Input, Output, PlayRequest, Refusal, Session, SessionError, Start, StreamKey};

/// A session under a test's thumb: each byte that it gets is a command, and what it is told is written down.
#[derive(Default)]
struct Puppet {
    log: Log,
    script: Script,
    /// What came behind the command to hoard.
    hoard: Vec<u8>,
}

type Log = Arc<Mutex<Vec<String>>>;
type Script = Arc<Mutex<Vec<Output>>>;

impl Session for Puppet {
    fn handle(&mut self, _now: Stamp, input: Input<'_>, out: &mut Vec<Output>) -> Result<(), SessionError> {
        match input {
            Input::Bytes(b"panic") => panic!("as the test wishes"),
            Input::Bytes([b'+', bytes @ ..]) => self.hoard.extend_from_slice(bytes),
            Input::Bytes(b"-") => self.hoard.clear(),
            Input::Bytes(_) => out.append(&mut self.script.lock().unwrap()),
            Input::Ended => {
                self.log.lock().unwrap().push("Ended".to_owned());
                out.push(Output::Close);
            }
            other => self.log.lock().unwrap().push(format!("{other:?}")),
        }
        Ok(())
    }

    fn next_timeout(&self) -> Option<Stamp> {
        None
    }

    fn held_bytes(&self) -> usize {
        self.hoard.len()
    }
}

/// A puppet and its strings.
pub(super) struct Actor {
    pub peer: Peer,
    log: Log,
    script: Script,
    reader: TagReader,
    demuxer: FlvDemuxer,
}

impl Actor {
    pub fn new(world: &mut World, shard: usize) -> Actor {
        let (log, script) = (Log::default(), Script::default());
        let peer = world.connect(shard, Box::new(Puppet { log: log.clone(), script: script.clone(), hoard: Vec::new() }));
        Actor { peer, log, script, reader: TagReader::new(1 << 20), demuxer: FlvDemuxer::new() }
    }

    pub fn publisher(world: &mut World, shard: usize) -> Actor {
        let actor = Actor::new(world, shard);
        actor.act(world, [Output::Publish(key())]);
        actor
    }

    pub fn viewer(world: &mut World, shard: usize) -> Actor {
        let actor = Actor::new(world, shard);
        actor.act(world, [Output::Play(request(Start::Gop))]);
        actor
    }

    /// What it asks for when it is given bytes next.
    pub fn prepare(&self, outputs: impl IntoIterator<Item = Output>) {
        self.script.lock().unwrap().extend(outputs);
    }

    pub fn act(&self, world: &mut World, outputs: impl IntoIterator<Item = Output>) {
        self.prepare(outputs);
        world.send(self.peer, b"go");
    }

    fn publish_video(&self, world: &mut World, ms: i64, is_key: bool) {
        let event = MediaEvent::Frame(video(world, ms, is_key));
        self.act(world, [Output::Media(event)]);
    }

    pub fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }

    /// The decoding times in milliseconds of the frames received since the last call.
    pub fn frames(&mut self, world: &mut World) -> Vec<i64> {
        self.events(world)
            .iter()
            .filter_map(|event| if let MediaEvent::Frame(f) = event { Some(f.dts.as_millis()) } else { None })
            .collect()
    }

    pub fn events(&mut self, world: &mut World) -> Vec<MediaEvent> {
        self.reader.push(&world.take(self.peer));
        let mut demuxed = Vec::new();
        while let Some((tag, timestamp_ms, body)) = self.reader.next_tag().unwrap() {
            self.demuxer.push(tag, timestamp_ms, body, Stamp::ZERO, &mut demuxed).unwrap();
        }
        let event = |item| if let Demuxed::Event(event) = item { Some(event) } else { None };
        demuxed.into_iter().filter_map(event).collect()
    }
}

pub(super) fn key() -> StreamKey {
    StreamKey::parse("live/a").unwrap()
}

pub(super) fn request(start: Start) -> PlayRequest {
    PlayRequest {
        key: key(),
        format: Format::Flv { hevc: HevcForm::Enhanced, envelope: Envelope::None },
        start,
        delivery: Delivery::Connection,
        protocol: "sim-flv",
    }
}

/// VP9: a codec without a mandatory config keeps the frames of these tests small.
pub(super) fn tracks() -> Output {
    let shape = TrackShape::Video { width: 0, height: 0, frames_per_second: 0.0 };
    let track = Track { id: TrackId(0), codec: Codec::Vp9, config: Bytes::from_static(b"vpcC-record!"), shape };
    Output::Media(MediaEvent::Tracks(Tracks::new(vec![track], Bytes::new())))
}

pub(super) fn video(world: &World, ms: i64, is_key: bool) -> Frame {
    frame(world, TrackId(0), ms, is_key)
}

pub(super) fn frame(world: &World, track: TrackId, ms: i64, is_key: bool) -> Frame {
    Frame {
        data: Bytes::from(vec![ms as u8; 1000]),
        arrival: world.now(),
        dts: MediaTime::from_millis(ms),
        cts: 0,
        segment: 0,
        track,
        key: is_key,
    }
}

/// [`tracks`] with sound.
fn tracks_with_sound() -> Output {
    tracks_with(Codec::G711A)
}

fn tracks_with(codec: Codec) -> Output {
    let Output::Media(MediaEvent::Tracks(tracks)) = tracks() else { unreachable!("tracks() makes tracks") };
    let shape = TrackShape::Audio { sample_rate: 8_000, channels: 1 };
    let sound = Track { id: TrackId(1), codec, config: Bytes::new(), shape };
    Output::Media(MediaEvent::Tracks(Tracks::new(tracks.iter().cloned().chain([sound]).collect(), Bytes::new())))
}

/// Publishes a frame every 40 ms from `from` to below `to`, a key every 1000 ms, while time passes.
pub(super) fn run(world: &mut World, publisher: &Actor, from: i64, to: i64) {
    for ms in (from..to).step_by(40) {
        publisher.publish_video(world, ms, ms % 1000 == 0);
        world.pass(40);
    }
}

pub(super) fn streams(world: &mut World, shard: usize) -> Vec<StreamSnapshot> {
    let (reply, answer) = flume::bounded(1);
    world.command(shard, Command::Streams { key: None, reply });
    answer.recv().unwrap()
}

pub(super) fn sessions(world: &mut World, shard: usize) -> Vec<SessionSnapshot> {
    let (reply, answer) = flume::bounded(1);
    world.command(shard, Command::Sessions(reply));
    answer.recv().unwrap()
}

fn viewer_session(world: &mut World, shard: usize) -> SessionSnapshot {
    sessions(world, shard).into_iter().find(|session| session.role == SessionRole::Viewer).unwrap()
}

#[test]
fn streams_have_a_name_for_others_once_they_can_be_viewed() {
    fn names(world: &mut World) -> Vec<String> {
        let mut all = Vec::new();
        for shard in 0..2 {
            let (reply, answer) = flume::bounded(1);
            world.command(shard, Command::Names(reply));
            all.extend(answer.recv().unwrap().iter().map(ToString::to_string));
        }
        all
    }
    let mut world = World::new(2, Config::default());
    let publisher = Actor::publisher(&mut world, 1);
    let _watcher = Actor::viewer(&mut world, 0);
    assert_eq!(names(&mut world), Vec::<String>::new(), "nothing is known of it yet");
    publisher.act(&mut world, [tracks()]);
    run(&mut world, &publisher, 0, 2000);
    assert_eq!(names(&mut world), [key().as_str()], "its owner says so, once");
    world.hang_up(publisher.peer);
    world.pass(10);
    assert_eq!(names(&mut world), Vec::<String>::new(), "it waits for its publisher");
}

#[test]
fn viewers_on_every_shard_get_every_frame() {
    let mut world = World::new(4, Config::default());
    let publisher = Actor::publisher(&mut world, 1);
    assert_eq!(publisher.told(), ["Publishing"]);
    publisher.act(&mut world, [tracks()]);
    let mut viewers: Vec<Actor> = (0..8).map(|n| Actor::viewer(&mut world, n % 4)).collect();
    run(&mut world, &publisher, 0, 2000);
    let expected: Vec<i64> = (0..2000).step_by(40).collect();
    for viewer in &mut viewers {
        assert_eq!(viewer.told(), ["Playing(None)"]);
        assert_eq!(viewer.frames(&mut world), expected, "on shard {}", viewer.peer.shard);
    }
    let owner = &streams(&mut world, 1)[0];
    assert_eq!(owner.viewers, [("sim-flv", 2)]);
    assert_eq!(owner.counters.frames_in, 50);
}

#[test]
fn a_late_viewer_begins_at_the_newest_key_and_live_start_at_the_next() {
    for shard in [0, 1] {
        let mut world = World::new(2, Config::default());
        let publisher = Actor::publisher(&mut world, 0);
        publisher.act(&mut world, [tracks()]);
        run(&mut world, &publisher, 0, 1400);
        let mut gop = Actor::viewer(&mut world, shard);
        assert_eq!(gop.frames(&mut world), (1000..1400).step_by(40).collect::<Vec<i64>>());
        let mut live = Actor::new(&mut world, shard);
        live.act(&mut world, [Output::Play(request(Start::Live))]);
        run(&mut world, &publisher, 1400, 2200);
        assert_eq!(live.frames(&mut world), (2000..2200).step_by(40).collect::<Vec<i64>>());
        assert_eq!(gop.frames(&mut world), (1400..2200).step_by(40).collect::<Vec<i64>>());
    }
}

#[test]
fn a_viewer_of_an_absent_stream_waits_and_then_hears_that_it_is_not_there() {
    let mut world = World::new(2, Config::default());
    let viewer = Actor::viewer(&mut world, 0);
    world.pass(9_900);
    assert!(viewer.told().is_empty());
    world.pass(200);
    assert_eq!(viewer.told(), [format!("Refused({:?})", Refusal::NotFound)]);
}

#[test]
fn a_viewer_of_what_a_stream_has_not_hears_so_when_it_can_be_told() {
    let aac = |start| PlayRequest { format: Format::Audio { form: AudioForm::Adts, envelope: Envelope::None }, ..request(start) };
    let mut world = World::new(2, Config::default());
    let viewers = [0, 1].map(|shard| {
        let viewer = Actor::new(&mut world, shard);
        viewer.act(&mut world, [Output::Play(aac(Start::Gop))]);
        viewer
    });
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks()]);
    run(&mut world, &publisher, 0, 400);
    assert!(viewers.iter().all(|viewer| viewer.told().is_empty()), "sound may still come");
    run(&mut world, &publisher, 400, 1_200);
    let late = Actor::new(&mut world, 1);
    late.act(&mut world, [Output::Play(aac(Start::Live))]);
    world.pass(500);
    for viewer in viewers.iter().chain([&late]) {
        assert_eq!(viewer.told(), [format!("Refused({:?})", Refusal::NotCarried)]);
    }
}

#[test]
fn who_wants_the_sound_alone_gets_it_when_it_joins() {
    let mut world = World::new(2, Config::default());
    let viewers = [0, 1].map(|shard| {
        let viewer = Actor::new(&mut world, shard);
        let format = Format::Audio { form: AudioForm::Mp3, envelope: Envelope::None };
        viewer.act(&mut world, [Output::Play(PlayRequest { format, ..request(Start::Gop) })]);
        viewer
    });
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks()]);
    run(&mut world, &publisher, 0, 200);
    publisher.act(&mut world, [tracks_with(Codec::Mp3)]);
    let sound = Output::Media(MediaEvent::Frame(frame(&world, TrackId(1), 180, true)));
    publisher.act(&mut world, [sound]);
    run(&mut world, &publisher, 200, 400);
    for viewer in &viewers {
        assert_eq!(viewer.told(), ["Playing(None)"]);
        assert_eq!(world.take(viewer.peer), [180; 1000], "no picture");
    }
}

#[test]
fn who_wants_the_sound_alone_begins_with_the_newest_and_has_missed_nothing() {
    let mut world = World::new(2, Config::default());
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks_with(Codec::Mp3)]);
    for ms in (0..960).step_by(40) {
        publisher.publish_video(&mut world, ms, ms == 0);
        let sound = Output::Media(MediaEvent::Frame(frame(&world, TrackId(1), ms, true)));
        publisher.act(&mut world, [sound]);
        world.pass(40);
    }
    for shard in 0..2 {
        let viewer = Actor::new(&mut world, shard);
        let format = Format::Audio { form: AudioForm::Mp3, envelope: Envelope::None };
        viewer.act(&mut world, [Output::Play(PlayRequest { format, ..request(Start::Gop) })]);
        world.pass(10);
        assert_eq!(world.take(viewer.peer), [920_i64 as u8; 1000]);
        let stream = &streams(&mut world, shard)[0];
        assert_eq!((stream.counters.skips, stream.counters.dropped), (0, [0; DropReason::ALL.len()]), "shard {shard}");
    }
}

#[test]
fn a_waiting_viewer_is_served_when_the_stream_begins_on_another_shard() {
    let mut world = World::new(3, Config::default());
    let mut viewer = Actor::viewer(&mut world, 0);
    world.pass(5_000);
    let publisher = Actor::publisher(&mut world, 2);
    publisher.act(&mut world, [tracks()]);
    run(&mut world, &publisher, 0, 200);
    assert_eq!(viewer.told(), ["Playing(None)"]);
    assert_eq!(viewer.frames(&mut world), [0, 40, 80, 120, 160]);
}

#[test]
fn sound_that_is_announced_and_never_comes_holds_nobody_up_and_is_not_passed_on() {
    let mut world = World::new(2, Config::default());
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks_with_sound()]);
    let mut viewers = [Actor::viewer(&mut world, 0), Actor::viewer(&mut world, 1)];
    run(&mut world, &publisher, 0, 480);
    assert!(viewers.iter().all(|viewer| viewer.told().is_empty()), "it may still come");
    run(&mut world, &publisher, 480, 800);
    for viewer in &mut viewers {
        let events = viewer.events(&mut world);
        let audible = |event: &MediaEvent| matches!(event, MediaEvent::Tracks(t) if t.has(TrackKind::Audio));
        assert!(!events.iter().any(audible), "{events:?}");
        let frames = events.iter().filter(|event| matches!(event, MediaEvent::Frame(_)));
        assert_eq!(frames.count(), 20, "everything since the first keyframe");
    }
    let sound = Output::Media(MediaEvent::Frame(frame(&world, TrackId(1), 800, true)));
    publisher.act(&mut world, [sound]);
    run(&mut world, &publisher, 800, 1_200);
    for viewer in &mut viewers {
        let tracks = |event: &MediaEvent| matches!(event, MediaEvent::Tracks(t) if t.len() == 2);
        let events = viewer.events(&mut world);
        assert!(events.iter().any(tracks), "it joins when it comes: {events:?}");
    }
}

#[test]
fn a_picture_that_is_announced_and_never_comes_does_not_keep_the_sound_back() {
    let mut world = World::new(2, Config::default());
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks_with_sound()]);
    let viewers = [Actor::viewer(&mut world, 0), Actor::viewer(&mut world, 1)];
    for ms in (0..1_200).step_by(40) {
        let sound = Output::Media(MediaEvent::Frame(frame(&world, TrackId(1), ms, true)));
        publisher.act(&mut world, [sound]);
        world.pass(40);
    }
    for viewer in &viewers {
        assert_eq!(viewer.told(), ["Playing(None)"]);
    }
}

#[test]
fn a_stream_that_ends_before_all_its_tracks_were_heard_is_still_played() {
    let mut world = World::new(2, Config::default());
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks_with_sound()]);
    let mut viewers = [Actor::viewer(&mut world, 0), Actor::viewer(&mut world, 1)];
    run(&mut world, &publisher, 0, 200);
    publisher.act(&mut world, [Output::Unpublish]);
    for viewer in &mut viewers {
        assert_eq!(viewer.frames(&mut world), [0, 40, 80, 120, 160]);
        assert_eq!(viewer.told(), ["Playing(None)", "Ended"]);
    }
}

#[test]
fn a_question_repeated_while_the_stream_settles_brings_no_frame_twice() {
    let mut world = World::new(2, Config::default());
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks()]);
    let mut viewer = Actor::viewer(&mut world, 1);
    // The watching shard loses patience at the moment in which the first keyframe comes in.
    world.pass(900);
    let later = world.now().after_millis(2_000);
    world.shards[1].tick(later);
    let event = MediaEvent::Frame(video(&world, 0, true));
    publisher.prepare([Output::Media(event)]);
    world.shards[0].received(later, publisher.peer.index, b"go");
    world.shards[0].flush(later);
    world.settle();
    run(&mut world, &publisher, 40, 200);
    assert_eq!(viewer.frames(&mut world), [0, 40, 80, 120, 160]);
}

#[test]
fn a_publisher_who_says_goodbye_ends_the_stream_after_its_last_frame() {
    let mut world = World::new(2, Config::default());
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks()]);
    let mut viewers = [Actor::viewer(&mut world, 0), Actor::viewer(&mut world, 1)];
    run(&mut world, &publisher, 0, 80);
    let last = Output::Media(MediaEvent::Frame(video(&world, 80, false)));
    publisher.act(&mut world, [last, Output::Unpublish]);
    for viewer in &mut viewers {
        assert_eq!(viewer.frames(&mut world), [0, 40, 80]);
        assert_eq!(viewer.told(), ["Playing(None)", "Ended"]);
        assert!(!world.is_open(viewer.peer));
    }
    world.pass(3_000);
    assert!(streams(&mut world, 0).is_empty() && streams(&mut world, 1).is_empty());
}

#[test]
fn viewers_stay_while_the_publisher_comes_back_through_another_shard() {
    let mut world = World::new(3, Config::default());
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks()]);
    let mut viewers = [Actor::viewer(&mut world, 0), Actor::viewer(&mut world, 1)];
    run(&mut world, &publisher, 0, 400);
    world.hang_up(publisher.peer);
    world.pass(3_000);
    let back = Actor::publisher(&mut world, 2);
    assert_eq!(back.told(), ["Publishing"]);
    assert_eq!(world.find(back.peer.socket).unwrap().shard, 0, "it has moved to the owner of the stream");
    back.act(&mut world, [tracks()]);
    run(&mut world, &back, 0, 400);
    for viewer in &mut viewers {
        let frames = viewer.frames(&mut world);
        assert_eq!(frames.len(), 20);
        assert!(frames.is_sorted_by(|a, b| a < b), "{frames:?}");
        assert_eq!(viewer.told(), ["Playing(None)"]);
    }
    assert_eq!(streams(&mut world, 0)[0].counters.publishers, 2);
}

#[test]
fn without_a_publisher_the_stream_ends_when_the_grace_is_over() {
    let mut world = World::new(1, Config::default());
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks()]);
    let viewer = Actor::viewer(&mut world, 0);
    run(&mut world, &publisher, 0, 80);
    world.hang_up(publisher.peer);
    world.pass(14_800);
    assert_eq!(viewer.told(), ["Playing(None)"]);
    world.pass(400);
    assert_eq!(viewer.told(), ["Ended"]);
}

#[test]
fn the_built_in_clip_is_never_silent() {
    let mut world = World::new(1, Config::default());
    world.command(0, Command::PublishClip(key()));
    world.pass(60_000);
    let second = Actor::publisher(&mut world, 0);
    assert_eq!(second.told(), [&*format!("Refused({:?})", Refusal::NameInUse)]);
}

#[test]
fn a_second_publisher_is_refused_until_the_first_is_silent() {
    let in_use = format!("Refused({:?})", Refusal::NameInUse);
    for (policy, expected) in [(PublishConflict::Takeover, "Publishing"), (PublishConflict::Reject, &*in_use)] {
        for shard in [0, 1] {
            let mut config = Config::default();
            config.stream.publish_conflict = policy;
            let mut world = World::new(2, config);
            let first = Actor::publisher(&mut world, 0);
            assert_eq!(first.told(), ["Publishing"]);
            let early = Actor::publisher(&mut world, shard);
            assert_eq!(early.told(), [&*in_use]);
            world.pass(2_100);
            let late = Actor::publisher(&mut world, shard);
            assert_eq!(late.told(), [expected], "{policy:?} on shard {shard}");
            let goodbye = format!("Closing({:?})", CloseReason::TakenOver);
            assert_eq!(first.told(), if expected == "Publishing" { vec![goodbye] } else { vec![] });
        }
    }
}

#[test]
fn a_viewer_that_does_not_read_skips_to_a_keyframe_and_holds_up_nobody() {
    for shard in [0, 1] {
        let mut world = World::new(2, Config::default());
        let publisher = Actor::publisher(&mut world, 0);
        publisher.act(&mut world, [tracks()]);
        let mut slow = Actor::viewer(&mut world, shard);
        let mut other = Actor::viewer(&mut world, shard);
        run(&mut world, &publisher, 0, 400);
        assert_eq!(slow.frames(&mut world).len(), 10);
        world.set_window(slow.peer, Some(300));
        for from in (400..4_000).step_by(400) {
            run(&mut world, &publisher, from, from + 400);
            assert!(sessions(&mut world, shard).iter().all(|session| session.lag_ms <= 500));
        }
        assert_eq!(other.frames(&mut world).len(), 100);
        world.set_window(slow.peer, None);
        run(&mut world, &publisher, 4_000, 4_400);
        let frames = slow.frames(&mut world);
        assert_eq!(frames[0], 400, "the packet that was cut is finished first");
        assert_eq!(frames[1] % 1000, 0, "then comes a keyframe: {frames:?}");
        assert!(frames[1] >= 3_000 && frames.ends_with(&[4_280, 4_320, 4_360]), "{frames:?}");
        let stream = &streams(&mut world, shard)[0];
        assert!(stream.counters.skips > 0 && stream.counters.dropped[DropReason::ViewerLag as usize] > 50);
        assert!(viewer_session(&mut world, shard).lag_ms == 0);
    }
}

#[test]
fn a_viewer_that_takes_nothing_is_closed_at_last() {
    let mut world = World::new(1, Config::default());
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks()]);
    let stuck = Actor::viewer(&mut world, 0);
    run(&mut world, &publisher, 0, 80);
    world.set_window(stuck.peer, Some(0));
    run(&mut world, &publisher, 80, 14_080);
    assert!(world.is_open(stuck.peer));
    run(&mut world, &publisher, 14_080, 15_400);
    assert!(!world.is_open(stuck.peer));
}

#[test]
fn who_has_nothing_left_to_take_is_not_stalled() {
    let mut world = World::new(1, Config::default());
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks()]);
    let mut viewer = Actor::viewer(&mut world, 0);
    run(&mut world, &publisher, 0, 80);
    world.set_window(viewer.peer, Some(0));
    run(&mut world, &publisher, 80, 160);
    viewer.act(&mut world, [Output::Pause(true)]);
    world.set_window(viewer.peer, None);
    run(&mut world, &publisher, 160, 20_160);
    assert!(world.is_open(viewer.peer));
    viewer.act(&mut world, [Output::Pause(false)]);
    run(&mut world, &publisher, 20_160, 21_160);
    assert_eq!(viewer.frames(&mut world), [0, 40].into_iter().chain((21_000..21_160).step_by(40)).collect::<Vec<i64>>());
}

#[test]
fn cipher_text_that_is_not_taken_stalls_a_connection_and_what_is_taken_does_not() {
    let mut world = World::new(1, Config::default());
    let [stuck, slow, done] = std::array::from_fn(|_| Actor::new(&mut world, 0));
    let now = world.now();
    for actor in [&stuck, &slow, &done] {
        world.shards[0].block(now, actor.peer.index);
    }
    for _ in 0..4 {
        world.pass(5_000);
        let now = world.now();
        world.shards[0].took(now, slow.peer.index);
        if world.shards[0].is_blocked(done.peer.index) {
            world.shards[0].took(now, done.peer.index);
            world.shards[0].wrote(now, done.peer.index, 0);
        }
    }
    assert!(!world.is_open(stuck.peer));
    assert!(world.is_open(slow.peer) && world.is_open(done.peer));
    world.pass(14_900);
    assert!(world.is_open(slow.peer), "since it took something last");
    world.pass(200);
    assert!(!world.is_open(slow.peer));
    assert!(world.is_open(done.peer));
}

#[test]
fn a_paused_viewer_goes_on_at_a_keyframe() {
    let mut world = World::new(1, Config::default());
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks()]);
    let mut viewer = Actor::viewer(&mut world, 0);
    run(&mut world, &publisher, 0, 120);
    viewer.act(&mut world, [Output::Pause(true)]);
    run(&mut world, &publisher, 120, 1_480);
    viewer.act(&mut world, [Output::Pause(false)]);
    run(&mut world, &publisher, 1_480, 2_080);
    assert_eq!(viewer.frames(&mut world), [0, 40, 80, 2_000, 2_040]);
}

#[test]
fn a_watching_shard_behind_a_full_lane_goes_on_at_a_keyframe() {
    let mut config = Config::default();
    config.limits.lane_batches_max = 2;
    let mut world = World::new(2, config);
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks()]);
    let mut viewer = Actor::viewer(&mut world, 1);
    run(&mut world, &publisher, 0, 200);
    assert_eq!(viewer.frames(&mut world).len(), 5);
    // The watching shard stands still: only the owner has its turns.
    for ms in (200..600).step_by(40) {
        let event = MediaEvent::Frame(video(&world, ms, false));
        publisher.prepare([Output::Media(event)]);
        let (now, index) = (world.now(), publisher.peer.index);
        world.shards[0].received(now, index, b"go");
        world.shards[0].flush(now);
    }
    world.settle();
    assert_eq!(viewer.frames(&mut world), [200, 240], "what the lane held");
    run(&mut world, &publisher, 600, 1_200);
    assert_eq!(viewer.frames(&mut world), [1_000, 1_040, 1_080, 1_120, 1_160]);
    let dropped = streams(&mut world, 0)[0].counters.dropped[DropReason::LaneFull as usize];
    assert_eq!(dropped, 18, "all from 280 ms to 960 ms");
}

#[test]
fn a_new_config_reaches_viewers_before_the_next_keyframe() {
    let mut world = World::new(1, Config::default());
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks()]);
    let mut viewer = Actor::viewer(&mut world, 0);
    run(&mut world, &publisher, 0, 80);
    let shape = TrackShape::Video { width: 0, height: 0, frames_per_second: 0.0 };
    let track = Track { id: TrackId(0), codec: Codec::Vp9, config: Bytes::from_static(b"another-record"), shape };
    publisher.act(&mut world, [Output::Media(MediaEvent::Tracks(Tracks::new(vec![track], Bytes::new())))]);
    publisher.publish_video(&mut world, 1_000, true);
    let events = viewer.events(&mut world);
    let config_at =
        events.iter().rposition(|event| matches!(event, MediaEvent::Tracks(t) if t.iter().any(|t| t.config == "another-record")));
    assert_eq!(config_at, Some(events.len() - 2), "right before the keyframe");
    let mut newcomer = Actor::viewer(&mut world, 0);
    assert_eq!(newcomer.frames(&mut world), [1_000]);
}

#[test]
fn a_late_track_does_not_make_viewers_skip() {
    for shard in [0, 1] {
        let mut world = World::new(2, Config::default());
        let publisher = Actor::publisher(&mut world, 0);
        publisher.act(&mut world, [tracks()]);
        let mut viewer = Actor::viewer(&mut world, shard);
        run(&mut world, &publisher, 0, 640);
        world.pass(2_000);
        let shape = TrackShape::Video { width: 0, height: 0, frames_per_second: 0.0 };
        let video = Track { id: TrackId(0), codec: Codec::Vp9, config: Bytes::from_static(b"vpcC-record!"), shape };
        let shape = TrackShape::Audio { sample_rate: 0, channels: 0 };
        let audio = Track { id: TrackId(1), codec: Codec::Mp3, config: Bytes::new(), shape };
        publisher.act(&mut world, [Output::Media(MediaEvent::Tracks(Tracks::new(vec![video, audio], Bytes::new())))]);
        run(&mut world, &publisher, 640, 800);
        assert_eq!(viewer.frames(&mut world), (0..800).step_by(40).collect::<Vec<i64>>());
        assert_eq!(streams(&mut world, shard)[0].counters.skips, 0);
    }
}

#[test]
fn a_panic_in_a_session_closes_that_connection_only() {
    let mut world = World::new(1, Config::default());
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks()]);
    let mut viewer = Actor::viewer(&mut world, 0);
    let bad = Actor::new(&mut world, 0);
    world.send(bad.peer, b"panic");
    assert!(!world.is_open(bad.peer));
    run(&mut world, &publisher, 0, 80);
    assert_eq!(viewer.frames(&mut world), [0, 40]);
    let (reply, answer) = flume::bounded(1);
    world.command(0, Command::Shard(reply));
    assert_eq!(answer.recv().unwrap().panics, 1);
}

#[test]
fn an_operator_can_close_a_session_and_drain_the_shard() {
    let mut world = World::new(1, Config::default());
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks()]);
    let viewers = [Actor::viewer(&mut world, 0), Actor::viewer(&mut world, 0)];
    run(&mut world, &publisher, 0, 80);
    let session = viewer_session(&mut world, 0).id;
    let (done, found) = flume::bounded(1);
    world.command(0, Command::Close { session, reason: CloseReason::Kicked, done });
    assert!(found.recv().unwrap());
    assert!(!world.is_open(viewers[0].peer) && world.is_open(viewers[1].peer));
    world.command(0, Command::Drain);
    assert!(publisher.told().contains(&format!("Closing({:?})", CloseReason::ShuttingDown)));
    world.pass(2_000);
    assert!(world.shards[0].drained());
    assert!(world.try_connect(0, Box::new(Puppet::default())).is_none());
}

#[test]
fn viewers_on_other_shards_hear_why_the_server_ends_not_that_the_stream_does() {
    let mut world = World::new(2, Config::default());
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks()]);
    let viewer = Actor::viewer(&mut world, 1);
    run(&mut world, &publisher, 0, 80);
    viewer.told();
    world.command(0, Command::Drain);
    world.pass(1_000);
    assert_eq!(viewer.told(), [""; 0], "the owner's shard is the first to be told");
    world.command(1, Command::Drain);
    assert_eq!(viewer.told(), [format!("Closing({:?})", CloseReason::ShuttingDown)]);
}

#[test]
fn over_the_limit_on_kept_media_the_largest_stream_begins_anew() {
    let mut config = Config::default();
    config.limits.media_bytes_max = 20_000;
    let mut world = World::new(1, config);
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks()]);
    let mut viewer = Actor::viewer(&mut world, 0);
    run(&mut world, &publisher, 0, 960);
    assert_eq!(viewer.frames(&mut world).len(), 24, "who keeps up loses nothing");
    assert!(streams(&mut world, 0)[0].counters.gops_not_kept > 0);
    let mut newcomer = Actor::viewer(&mut world, 0);
    assert!(newcomer.frames(&mut world).is_empty());
    run(&mut world, &publisher, 960, 1_080);
    assert_eq!(newcomer.frames(&mut world), [1_000, 1_040]);
    assert_eq!(viewer.frames(&mut world), [960, 1_000, 1_040]);
}

#[test]
fn a_viewer_that_joins_in_the_turn_of_a_frame_begins_with_the_old_gop() {
    let mut world = World::new(1, Config::default());
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks()]);
    let mut first = Actor::viewer(&mut world, 0);
    run(&mut world, &publisher, 0, 920);
    assert_eq!(first.frames(&mut world).len(), 23);
    let mut viewer = Actor::new(&mut world, 0);
    viewer.prepare([Output::Play(request(Start::Gop))]);
    let (now, event) = (world.now(), MediaEvent::Frame(video(&world, 920, false)));
    publisher.prepare([Output::Media(event)]);
    world.shards[0].received(now, viewer.peer.index, b"go");
    world.shards[0].received(now, publisher.peer.index, b"go");
    world.settle();
    assert_eq!(viewer.frames(&mut world).len(), 24, "the age of the GOP is not the newcomer's lag");
    assert_eq!(streams(&mut world, 0)[0].counters.skips, 0);
}

#[test]
fn a_newcomer_on_a_narrow_link_catches_up_with_a_long_gop_without_a_jump() {
    // Bytes that the link takes in the time of a frame of a little more than 1,000, and whether the newcomer gets everything.
    for (link_bytes, gets_all) in [(1_500, true), (1_200, true), (900, false)] {
        let mut world = World::new(1, Config::default());
        let publisher = Actor::publisher(&mut world, 0);
        publisher.act(&mut world, [tracks()]);
        let mut next_ms = 0;
        let mut step = |world: &mut World, is_key: bool| {
            publisher.publish_video(world, next_ms, is_key);
            world.pass(40);
            next_ms += 40;
        };
        step(&mut world, true);
        (1..100).for_each(|_| step(&mut world, false));
        let mut viewer = Actor::new(&mut world, 0);
        world.set_window(viewer.peer, Some(0));
        viewer.act(&mut world, [Output::Play(request(Start::Gop))]);
        let (mut frames, mut lag_ms_max) = (Vec::new(), 0);
        for _ in 0..600 {
            world.set_window(viewer.peer, Some(link_bytes));
            step(&mut world, false);
            frames.extend(viewer.frames(&mut world));
            lag_ms_max = viewer_session(&mut world, 0).lag_ms.max(lag_ms_max);
        }
        let has_all = frames.iter().enumerate().all(|(at, ms)| *ms == 40 * at as i64);
        let skips = streams(&mut world, 0)[0].counters.skips;
        assert_eq!(
            (has_all && skips == 0, lag_ms_max <= 500),
            (gets_all, true),
            "{link_bytes}: lag {lag_ms_max} ms, {skips} skips"
        );
        // From the next keyframe on it is live in any case.
        step(&mut world, true);
        world.set_window(viewer.peer, None);
        step(&mut world, false);
        frames.extend(viewer.frames(&mut world));
        assert_eq!(frames.last(), Some(&(next_ms - 40)), "{link_bytes}");
    }
}

#[test]
fn a_newcomer_that_is_still_catching_up_goes_on_at_the_next_keyframe() {
    let mut world = World::new(1, Config::default());
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks()]);
    run(&mut world, &publisher, 0, 920);
    let mut viewer = Actor::new(&mut world, 0);
    world.set_window(viewer.peer, Some(0));
    viewer.act(&mut world, [Output::Play(request(Start::Gop))]);
    for from in (920..2_000).step_by(40) {
        world.set_window(viewer.peer, Some(1_100));
        run(&mut world, &publisher, from, from + 40);
    }
    let frames = viewer.frames(&mut world);
    let jump = frames.windows(2).position(|pair| pair[1] != pair[0] + 40).expect("a jump");
    assert_eq!((frames[0], frames[jump + 1]), (0, 1_000), "{frames:?}");
    let counters = &streams(&mut world, 0)[0].counters;
    let dropped = counters.dropped[DropReason::ViewerLag as usize];
    assert_eq!(dropped as i64, (frames[jump + 1] - frames[jump]) / 40 - 1, "{frames:?}");
    assert_eq!(counters.skips, 1);
}

#[test]
fn what_is_held_for_a_silent_track_counts_as_kept_media_and_is_given_up() {
    let mut config = Config::default();
    config.limits.media_bytes_max = 5_000;
    let mut world = World::new(1, config);
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks_with_sound()]);
    for ms in 0..10 {
        publisher.publish_video(&mut world, ms, ms == 0);
    }
    // It sends nothing more, so nothing else would end the wait for the sound.
    world.pass(1_000);
    assert_eq!(world.shards[0].media_bytes(), 0);
}

#[test]
fn halves_of_messages_are_bounded_for_all_together_and_the_largest_pays() {
    let mut config = Config::default();
    config.limits.message_bytes_max = 10_000;
    config.limits.held_bytes_max = 40_000;
    // A shard has 20,000 bytes.
    let mut world = World::new(2, config);
    let send = |world: &mut World, actor: &Actor, bytes: usize| world.send(actor.peer, &[&b"+"[..], &vec![0; bytes]].concat());
    let [innocent, first, second] = [0, 0, 0].map(|shard| Actor::new(&mut world, shard));
    let elsewhere = Actor::new(&mut world, 1);
    send(&mut world, &elsewhere, 19_000);
    send(&mut world, &innocent, 5_000);
    send(&mut world, &first, 8_000);
    send(&mut world, &second, 6_000);
    assert!([&innocent, &first, &second].iter().all(|actor| world.is_open(actor.peer)));
    send(&mut world, &innocent, 2_000);
    assert!(!world.is_open(first.peer), "it holds most");
    assert!([&innocent, &second, &elsewhere].iter().all(|actor| world.is_open(actor.peer)));
    // What was finished or has gone makes room.
    world.send(innocent.peer, b"-");
    world.hang_up(second.peer);
    send(&mut world, &innocent, 19_000);
    assert!(world.is_open(innocent.peer));
    send(&mut world, &innocent, 2_000);
    assert!(!world.is_open(innocent.peer));
    send(&mut world, &elsewhere, 900);
    assert!(world.is_open(elsewhere.peer));
}

#[test]
fn what_a_viewer_skips_is_counted_even_if_it_never_goes_on() {
    let mut world = World::new(1, Config::default());
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks()]);
    let other = Actor::viewer(&mut world, 0);
    let stuck = Actor::viewer(&mut world, 0);
    run(&mut world, &publisher, 0, 200);
    world.set_window(stuck.peer, Some(10));
    run(&mut world, &publisher, 200, 4_200);
    world.hang_up(stuck.peer);
    let dropped = streams(&mut world, 0)[0].counters.dropped[DropReason::ViewerLag as usize];
    assert_eq!(dropped, 99, "all but the frame that was cut, of {}", other.peer.index);
}

#[test]
fn a_viewer_whose_network_is_gone_takes_its_fan_out_along_and_nothing_else() {
    for cut in 0..3 {
        let mut world = World::new(1, Config::default());
        let publisher = Actor::publisher(&mut world, 0);
        publisher.act(&mut world, [tracks()]);
        let mut viewers: Vec<Actor> = ["one", "two", "three"]
            .into_iter()
            .map(|protocol| {
                let actor = Actor::new(&mut world, 0);
                actor.act(&mut world, [Output::Play(PlayRequest { protocol, ..request(Start::Gop) })]);
                actor
            })
            .collect();
        run(&mut world, &publisher, 0, 80);
        let gone = viewers.remove(cut);
        world.cut(gone.peer);
        run(&mut world, &publisher, 80, 160);
        assert!(world.find(gone.peer.socket).is_none());
        for viewer in &mut viewers {
            assert_eq!(viewer.frames(&mut world), [0, 40, 80, 120]);
        }
    }
}

#[test]
fn channels_that_viewers_make_up_are_bounded() {
    let mut world = World::new(1, Config::default());
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks()]);
    run(&mut world, &publisher, 0, 80);
    let play = |world: &mut World, rtp: u8| {
        let actor = Actor::new(world, 0);
        let carriage = RtpCarriage::Interleaved { video: Some(Channels { rtp, rtcp: rtp + 1 }), audio: None };
        let request = PlayRequest { format: Format::Rtp(carriage), protocol: "rtsp-tcp", ..request(Start::Gop) };
        actor.act(world, [Output::Play(request)]);
        let told = actor.told().join(" ");
        (actor, told)
    };
    let refused = format!("Refused({:?})", Refusal::LimitReached);
    let mut viewers: Vec<Actor> = (0..8)
        .map(|number| {
            let (viewer, told) = play(&mut world, 10 + 2 * number);
            assert!(!told.contains(&refused), "{number}: {told}");
            viewer
        })
        .collect();
    assert!(play(&mut world, 100).1.contains(&refused));
    for (name, rtp) in [("the usual", 0), ("the usual of a second track", 2), ("what is there already", 12)] {
        assert!(!play(&mut world, rtp).1.contains(&refused), "{name}");
    }
    world.hang_up(viewers.remove(0).peer);
    assert!(!play(&mut world, 100).1.contains(&refused), "another one is gone");
}

#[test]
fn the_limit_on_connections_refuses_the_next() {
    let mut config = Config::default();
    config.limits.connections_per_shard_max = 2;
    let mut world = World::new(1, config);
    Actor::new(&mut world, 0);
    Actor::new(&mut world, 0);
    assert!(world.try_connect(0, Box::new(Puppet::default())).is_none());
}
