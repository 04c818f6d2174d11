//! What a shard promises of recorders, in the simulated world: rules and wishes start them, a disk that stands costs viewers nothing.

use super::message::{Command, Message, RecordAnswer, RecorderSnapshot};
use super::sim::World;
use super::tests::{Actor, key, run, tracks};
use crate::config::{Config, RecordFormat, RecordRule, RecordWish};
use crate::protocol::record::{Action, DiskNews, DiskOrder, FileTag, RecorderState};
use crate::session::Output;

fn config(format: Option<RecordFormat>) -> Config {
    let mut config = Config::default();
    config.record.fragment_ms = 200;
    config.record.format = RecordFormat::Flv;
    config.record.rules = vec![RecordRule { streams: vec!["*".to_owned()], format, ..RecordRule::default() }];
    config
}

fn recorders(world: &mut World, shard: usize) -> Vec<RecorderSnapshot> {
    let (reply, answer) = flume::bounded(1);
    world.command(shard, Command::Recorders(reply));
    answer.try_recv().unwrap()
}

fn record(world: &mut World, shard: usize, format: Option<RecordFormat>) -> RecordAnswer {
    wish(world, shard, RecordWish { format, ..RecordWish::default() })
}

fn wish(world: &mut World, shard: usize, wish: RecordWish) -> RecordAnswer {
    let (reply, answer) = flume::bounded(1);
    world.command(shard, Command::Record { key: key(), wish: Box::new(wish), reply });
    answer.try_recv().unwrap()
}

fn stop(world: &mut World, shard: usize) -> usize {
    let (reply, answer) = flume::bounded(1);
    world.command(shard, Command::StopRecording { key: key(), format: None, reply });
    answer.try_recv().unwrap()
}

/// `C` for a file that begins, `A` for bytes, `F` for its end.
fn shape(orders: &[DiskOrder]) -> String {
    let letter = |order: &DiskOrder| match order.action {
        Action::Create(_) => 'C',
        Action::Append(_) => 'A',
        Action::Finish => 'F',
    };
    orders.iter().map(letter).collect()
}

fn frames_of(orders: &[DiskOrder]) -> u64 {
    let appends = orders.iter().filter_map(|order| match &order.action {
        Action::Append(append) => Some(append.progress.frames),
        _ => None,
    });
    appends.max().unwrap_or(0)
}

#[test]
fn a_rule_records_from_the_first_key_frame_to_the_end() {
    let mut world = World::new(2, config(None));
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks()]);
    assert!(recorders(&mut world, 0).is_empty(), "nothing has come yet");
    run(&mut world, &publisher, 0, 2_000);
    let running = recorders(&mut world, 0);
    assert_eq!(running.len(), 1);
    assert_eq!((running[0].status.state, running[0].status.format), (RecorderState::Recording, RecordFormat::Flv));
    assert!(recorders(&mut world, 1).is_empty(), "the owner records, and nobody else");
    publisher.act(&mut world, [Output::Unpublish]);
    let orders = world.take_orders();
    let shape = shape(&orders);
    assert!(shape.starts_with("CA") && shape.ends_with("AF") && shape.matches('C').count() == 1, "{shape}");
    assert_eq!(frames_of(&orders), 50);
    world.pass(1_000);
    assert!(recorders(&mut world, 0).is_empty());
    assert!(world.take_orders().is_empty(), "a file is ended once");
}

#[test]
fn the_operator_starts_and_stops_a_recording_with_what_is_kept() {
    let mut config = config(None);
    config.record.rules.clear();
    let mut world = World::new(2, config);
    assert_eq!(record(&mut world, 0, None), RecordAnswer::NotHere);
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks()]);
    run(&mut world, &publisher, 0, 1_520);
    assert_eq!(record(&mut world, 1, None), RecordAnswer::NotHere, "another shard's");
    assert_eq!(record(&mut world, 0, None), RecordAnswer::Started(RecordFormat::Flv));
    assert_eq!(record(&mut world, 0, None), RecordAnswer::Already(RecordFormat::Flv));
    assert_eq!(record(&mut world, 0, Some(RecordFormat::Ts)), RecordAnswer::Started(RecordFormat::Ts));
    run(&mut world, &publisher, 1_520, 2_000);
    assert_eq!(stop(&mut world, 0), 2);
    let orders = world.take_orders();
    let flv: Vec<DiskOrder> = orders.into_iter().filter(|order| order.tag.recorder == 1).collect();
    // From the key frame before the wish on: the pre-roll is the GOP.
    assert_eq!(frames_of(&flv), 25, "{}", shape(&flv));
    run(&mut world, &publisher, 2_000, 3_000);
    assert!(world.take_orders().is_empty(), "nothing is recorded any more");
    assert_eq!(stop(&mut world, 0), 0);
}

#[test]
fn a_recording_begins_as_far_back_as_is_wished_and_kept() {
    // What is kept, what is wished, and how many frames of 40 ms are recorded at 5.52 s; a key frame stands at each second.
    let cases = [
        (0, None, 14),
        (0, Some(0), 0),
        (0, Some(9_000), 14),
        (3_000, None, 14 + 75),
        (3_000, Some(0), 0),
        (3_000, Some(1_000), 14 + 25),
        (3_000, Some(9_000), 14 + 75),
    ];
    for (kept, pre_roll_ms, frames) in cases {
        let mut config = config(None);
        config.record.rules.clear();
        config.record.pre_roll_ms = kept;
        let mut world = World::new(1, config);
        let publisher = Actor::publisher(&mut world, 0);
        publisher.act(&mut world, [tracks()]);
        run(&mut world, &publisher, 0, 5_560);
        let answer = wish(&mut world, 0, RecordWish { pre_roll_ms, ..RecordWish::default() });
        assert_eq!(answer, RecordAnswer::Started(RecordFormat::Flv));
        assert_eq!(stop(&mut world, 0), 1);
        assert_eq!(frames_of(&world.take_orders()), frames, "{kept} ms are kept, {pre_roll_ms:?} wished");
    }
}

#[test]
fn a_disk_that_stands_costs_viewers_nothing() {
    let mut world = World::new(2, config(None));
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks()]);
    run(&mut world, &publisher, 0, 800);
    let mut viewers = [Actor::viewer(&mut world, 0), Actor::viewer(&mut world, 1)];
    let before: Vec<Vec<i64>> = viewers.iter_mut().map(|viewer| viewer.frames(&mut world)).collect();
    world.set_disk_stands(true);
    run(&mut world, &publisher, 800, 6_000);
    for (viewer, before) in viewers.iter_mut().zip(before) {
        assert_eq!(before.len() + viewer.frames(&mut world).len(), 150, "every frame from the key frame on");
    }
    let status = &recorders(&mut world, 0)[0].status;
    assert_eq!(status.state, RecorderState::Dropping);
    assert!(status.gops_dropped >= 5, "{status:?}");
    world.set_disk_stands(false);
    run(&mut world, &publisher, 6_000, 7_400);
    assert_eq!(recorders(&mut world, 0)[0].status.state, RecorderState::Recording);
}

#[test]
fn an_error_is_stated_and_tried_again() {
    let mut config = config(None);
    config.record.retry_ms = 1_000;
    let mut world = World::new(1, config);
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks()]);
    run(&mut world, &publisher, 0, 800);
    let tag = world.take_orders()[0].tag;
    let news = |tag| Message::Disk(DiskNews { tag, failed: "no space left on device".to_owned() });
    for _ in 0..2 {
        world.tell(0, news(FileTag { recorder: 99, ..tag }));
    }
    assert_eq!(world.shards[0].recorders.retired.failures, 1, "of one that is over, told twice");
    assert_eq!(recorders(&mut world, 0)[0].status.state, RecorderState::Recording);
    world.tell(0, news(tag));
    let status = recorders(&mut world, 0).remove(0).status;
    assert_eq!((status.state, &*status.last_error), (RecorderState::Failed, "no space left on device"));
    run(&mut world, &publisher, 800, 3_200);
    assert_eq!(recorders(&mut world, 0)[0].status.state, RecorderState::Recording);
    assert!(shape(&world.take_orders()).starts_with("CA"), "another file");
}

#[test]
fn the_end_of_a_shard_ends_its_files() {
    let mut world = World::new(1, config(None));
    let publisher = Actor::publisher(&mut world, 0);
    publisher.act(&mut world, [tracks()]);
    run(&mut world, &publisher, 0, 800);
    world.hang_up(publisher.peer);
    world.pass(100);
    // The stream still waits for its publisher.
    world.shards[0].finish_recorders();
    assert!(shape(&world.take_orders()).ends_with('F'));
}
