//! What a shard promises those who fetch a stream in segments, in the simulated world: over HTTP, from any shard.

use bytes::Bytes;

use super::message::{Command, Report, SegmentsSnapshot, StreamSnapshot};
use super::sim::{Peer, World};
use super::tests::{Actor, key, run, streams};
use crate::config::Config;
use crate::media::{Codec, MediaEvent, Track, TrackId, TrackShape, Tracks};
use crate::protocol::{SessionContext, http};
use crate::session::{Output, StreamKey};

const PLAYLIST: &str = "/live/a/media.m3u8";

fn tracks() -> Output {
    let shape = TrackShape::Video { width: 320, height: 240, frames_per_second: 25.0 };
    let config = Bytes::from_static(&[2, 31, 0xA2, 9, 16, 9, 0, 0]);
    let track = Track { id: TrackId(0), codec: Codec::Vp9, config, shape };
    Output::Media(MediaEvent::Tracks(Tracks::new(vec![track], Bytes::new())))
}

fn publish(world: &mut World, shard: usize) -> Actor {
    let publisher = Actor::publisher(world, shard);
    publisher.act(world, [tracks()]);
    publisher
}

/// A client of HTTP.
struct Client {
    peer: Peer,
    received: Vec<u8>,
}

#[derive(Debug, PartialEq)]
struct Response {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Response {
    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The values of a tag, or the names of a kind of file.
    fn first_msn(&self) -> u64 {
        let text = self.text();
        let line = text.lines().find_map(|line| line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:")).unwrap();
        line.parse().unwrap()
    }

    fn names(&self, beginning: &str) -> Vec<String> {
        let text = self.text();
        let quoted = text.split('"').filter(|piece| piece.starts_with(beginning));
        let plain = text.lines().filter(|line| line.starts_with(beginning));
        quoted.chain(plain).map(str::to_owned).collect()
    }
}

impl Client {
    fn new(world: &mut World, shard: usize, config: &Config) -> Client {
        let mut context = SessionContext::lone(config.clone(), ([127, 0, 0, 1], 1).into());
        context.seed = world.next_seed();
        let session = (http::PROTOCOL.session)(&context, world.now());
        Client { peer: world.connect(shard, session), received: Vec::new() }
    }

    fn ask(&mut self, world: &mut World, path: &str) {
        world.send(self.peer, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
    }

    /// The next response, if it has come whole.
    fn response(&mut self, world: &mut World) -> Option<Response> {
        self.received.extend(world.take(self.peer));
        let end = self.received.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(self.received[..end].to_vec()).unwrap();
        let length =
            head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).map_or(0, |length| length.parse().unwrap());
        if self.received.len() < end + length {
            return None;
        }
        let body = self.received[end..end + length].to_vec();
        self.received.drain(..end + length);
        Some(Response { status: head[9..12].parse().unwrap(), head, body })
    }

    fn get(&mut self, world: &mut World, path: &str) -> Option<Response> {
        self.ask(world, path);
        self.response(world)
    }
}

fn get(world: &mut World, shard: usize, path: &str) -> Option<Response> {
    Client::new(world, shard, &Config::default()).get(world, path)
}

fn status(response: Option<Response>) -> u16 {
    response.map_or(0, |response| response.status)
}

fn snapshot(world: &mut World, shard: usize) -> StreamSnapshot {
    streams(world, shard).into_iter().find(|stream| stream.key == key()).unwrap()
}

fn segments(world: &mut World) -> Option<SegmentsSnapshot> {
    snapshot(world, 0).segments
}

#[test]
fn any_shard_answers() {
    let config = Config::default();
    let mut world = World::new(3, config.clone());
    let publisher = publish(&mut world, 0);
    run(&mut world, &publisher, 0, 400);
    assert_eq!(status(get(&mut world, 1, "/live/a/seg-e-1.m4s")), 404);
    assert_eq!(segments(&mut world), None, "not cut before somebody asks for a playlist");
    let mut clients: Vec<Client> = (0..3).map(|shard| Client::new(&mut world, shard, &config)).collect();
    clients.iter_mut().for_each(|client| client.ask(&mut world, "/live/a/index.m3u8"));
    assert!(clients.iter_mut().all(|client| client.response(&mut world).is_none()), "the first segment is not complete");
    assert_eq!(segments(&mut world).unwrap().waiting, 3);
    run(&mut world, &publisher, 400, 1_040);
    let playlists: Vec<Response> = clients.iter_mut().map(|client| client.response(&mut world).unwrap()).collect();
    assert!(playlists.iter().all(|playlist| playlist.status == 200 && playlist.text().contains("RESOLUTION=320x240")));
    run(&mut world, &publisher, 1_040, 3_240);
    let lists: Vec<Response> = clients.iter_mut().map(|client| client.get(&mut world, PLAYLIST).unwrap()).collect();
    assert_eq!((&lists[0], &lists[0]), (&lists[1], &lists[2]));
    let names = [lists[0].names("init-"), lists[0].names("seg-"), lists[0].names("part-")].concat();
    assert!(names.len() > 10, "{names:?}");
    let hint = names.iter().position(|name| lists[0].text().contains(&format!("HINT:TYPE=PART,URI=\"{name}\""))).unwrap();
    for (at, name) in names.iter().enumerate().filter(|(at, _)| *at != hint) {
        let all: Vec<Response> = clients.iter_mut().map(|c| c.get(&mut world, &format!("/live/a/{name}")).unwrap()).collect();
        assert!(all.iter().all(|one| one.status == 200 && !one.body.is_empty()), "{name}");
        assert_eq!((&all[0].body, &all[0].body), (&all[1].body, &all[2].body), "{at}");
    }
    assert_eq!(world.shards[1].media_bytes() + world.shards[2].media_bytes(), 0, "nothing of it is there");
    let viewers = snapshot(&mut world, 0).viewers;
    assert_eq!(viewers, [("hls", 6)], "each of the clients began a session, and played without one");
    run(&mut world, &publisher, 3_240, 10_000);
    assert_eq!(snapshot(&mut world, 0).viewers, [], "nobody has asked for a while");
}

#[test]
fn a_reload_waits_for_its_part() {
    for shard in [0, 1] {
        let config = Config::default();
        let mut world = World::new(2, config.clone());
        let publisher = publish(&mut world, 0);
        get(&mut world, 0, PLAYLIST);
        run(&mut world, &publisher, 0, 1_240);
        let mut client = Client::new(&mut world, shard, &config);
        let first = client.get(&mut world, PLAYLIST).unwrap().first_msn();
        client.ask(&mut world, &format!("{PLAYLIST}?_HLS_msn={}&_HLS_part=1", first + 1));
        run(&mut world, &publisher, 1_240, 1_400);
        assert_eq!(client.response(&mut world), None, "the part has not ended, the next frame has not come");
        run(&mut world, &publisher, 1_400, 1_440);
        let list = client.response(&mut world).unwrap();
        assert!(list.text().contains(&format!("-{}-1.m4s\"\n", first + 1)), "{}", list.text());
        assert!(list.head.contains("Cache-Control: public, max-age=12\r\n"), "{}", list.head);
        let hinted = list.names("part-").pop().unwrap();
        assert!(hinted.ends_with(&format!("-{}-2.m4s", first + 1)), "{hinted}");
        client.ask(&mut world, &format!("/live/a/{hinted}"));
        assert_eq!(client.response(&mut world), None);
        run(&mut world, &publisher, 1_440, 1_640);
        assert_eq!(client.response(&mut world).map(|part| part.status), Some(200));
        assert_eq!(status(client.get(&mut world, &format!("{PLAYLIST}?_HLS_msn={}", first + 9))), 400);
        // No frame comes any more.
        client.ask(&mut world, &format!("{PLAYLIST}?_HLS_msn={}", first + 1));
        world.pass(5_800);
        assert_eq!(client.response(&mut world), None);
        world.pass(400);
        assert_eq!(status(client.response(&mut world)), 503);
        assert_eq!(segments(&mut world).unwrap().timed_out, 1);
    }
}

#[test]
fn a_publisher_that_comes_back_goes_on() {
    let mut world = World::new(2, Config::default());
    let publisher = publish(&mut world, 0);
    get(&mut world, 1, PLAYLIST);
    run(&mut world, &publisher, 0, 3_400);
    let before = get(&mut world, 1, PLAYLIST).unwrap();
    world.hang_up(publisher.peer);
    world.pass(1_000);
    let again = publish(&mut world, 1);
    run(&mut world, &again, 0, 3_400);
    let after = get(&mut world, 1, PLAYLIST).unwrap();
    assert_eq!(after.first_msn(), before.first_msn());
    let names = after.names("seg-");
    assert!(names.starts_with(&before.names("seg-")) && names.len() > before.names("seg-").len());
    assert_eq!(after.text().matches("#EXT-X-DISCONTINUITY\n").count(), 1, "{}", after.text());
    assert_eq!(after.names("init-").len(), 1, "the same tracks");
}

#[test]
fn an_idle_stream_is_cut_no_longer() {
    let mut config = Config::default();
    config.hls.idle_ms = 1_000;
    let mut world = World::new(1, config);
    let publisher = publish(&mut world, 0);
    get(&mut world, 0, PLAYLIST);
    run(&mut world, &publisher, 0, 3_040);
    let first = get(&mut world, 0, PLAYLIST).unwrap();
    assert!(segments(&mut world).unwrap().bytes > 50_000);
    run(&mut world, &publisher, 3_040, 8_920);
    assert!(segments(&mut world).is_some(), "who plays may ask again within three target durations");
    run(&mut world, &publisher, 8_920, 9_240);
    assert_eq!(segments(&mut world), None);
    let mut client = Client::new(&mut world, 0, &Config::default());
    client.ask(&mut world, PLAYLIST);
    run(&mut world, &publisher, 9_240, 10_240);
    let second = client.response(&mut world).unwrap();
    let known: Vec<String> = first.names("seg-");
    assert!(second.names("seg-").iter().all(|name| !known.contains(name)), "no address means something else now");
}

#[test]
fn a_stream_may_be_cut_from_its_beginning() {
    let mut config = Config::default();
    config.hls.always = true;
    config.hls.idle_ms = 1_000;
    let mut world = World::new(1, config);
    let publisher = publish(&mut world, 0);
    run(&mut world, &publisher, 0, 9_040);
    assert_eq!(get(&mut world, 0, PLAYLIST).unwrap().names("seg-").len(), 5, "at once");
    let mut config = Config::default();
    config.hls.enabled = false;
    config.hls.always = true;
    let mut world = World::new(1, config.clone());
    let publisher = publish(&mut world, 0);
    run(&mut world, &publisher, 0, 1_040);
    assert_eq!(segments(&mut world), None);
    assert_eq!(status(Client::new(&mut world, 0, &config).get(&mut world, PLAYLIST)), 404);
}

#[test]
fn lost_messages_are_sent_again() {
    for lost in [1, 2, 3] {
        let config = Config::default();
        let mut world = World::new(2, config.clone());
        let publisher = publish(&mut world, 0);
        get(&mut world, 0, PLAYLIST);
        run(&mut world, &publisher, 0, 1_240);
        let mut client = Client::new(&mut world, 1, &config);
        world.lose_messages(lost);
        client.ask(&mut world, PLAYLIST);
        assert_eq!(client.response(&mut world), None, "{lost}");
        run(&mut world, &publisher, 1_240, 4_600);
        assert_eq!(client.response(&mut world).map(|list| list.status), Some(200), "{lost}");
        assert_eq!(client.response(&mut world), None, "once");
    }
    let config = Config::default();
    let mut world = World::new(2, config.clone());
    publish(&mut world, 0);
    let mut client = Client::new(&mut world, 1, &config);
    world.lose_messages(usize::MAX);
    client.ask(&mut world, PLAYLIST);
    world.pass(config.viewer.wait_ms + 61_000);
    assert!(client.response(&mut world).is_some_and(|response| matches!(response.status, 503 | 404)), "given up");
}

#[test]
fn absent_streams_are_waited_for() {
    let config = Config::default();
    // The publisher is on shard 0.
    for shard in [0, 1] {
        let mut world = World::new(2, config.clone());
        let mut client = Client::new(&mut world, shard, &config);
        assert_eq!(status(client.get(&mut world, "/live/a/seg-e-1.m4s")), 404, "a segment is not waited for");
        client.ask(&mut world, "/live/a/index.m3u8");
        world.pass(config.viewer.wait_ms - 100);
        assert_eq!(client.response(&mut world), None);
        world.pass(200);
        assert_eq!(status(client.response(&mut world)), 404);
        client.ask(&mut world, "/live/a/index.m3u8");
        world.pass(3_000);
        let publisher = publish(&mut world, 0);
        run(&mut world, &publisher, 0, 1_040);
        assert_eq!(status(client.response(&mut world)), 200, "shard {shard}");
        // Who hangs up is forgotten.
        let mut other = Client::new(&mut world, shard, &config);
        other.ask(&mut world, "/live/b/index.m3u8");
        world.hang_up(other.peer);
        world.pass(config.viewer.wait_ms);
    }
}

#[test]
fn streams_on_demand_are_called_and_kept() {
    const IDLE_MS: u64 = 3_000;
    let mut config = Config::default();
    config.gb28181.enabled = true;
    let mut world = World::new(2, config.clone());
    let camera = StreamKey::parse("gb/34020000001110000001/34020000001320000001").unwrap();
    let path = format!("/{camera}/media.m3u8");
    let mut client = Client::new(&mut world, 1, &config);
    client.ask(&mut world, &path);
    assert_eq!(world.take_reports(), [(1, Report::Wanted(camera.clone()))]);
    let publisher = Actor::new(&mut world, 0);
    publisher.act(&mut world, [Output::AskUnwatched(IDLE_MS), Output::Publish(camera.clone())]);
    publisher.act(&mut world, [tracks()]);
    run(&mut world, &publisher, 0, 1_040);
    assert_eq!(status(client.response(&mut world)), 200);
    for round in 0..4 {
        run(&mut world, &publisher, 1_040 + round * 2_000, 3_040 + round * 2_000);
        assert_eq!(status(client.get(&mut world, &path)), 200);
    }
    assert!(!publisher.told().contains(&"Unwatched".to_owned()), "somebody fetches it");
    run(&mut world, &publisher, 9_040, 9_040 + 6_000 + 2_500);
    assert!(!publisher.told().contains(&"Unwatched".to_owned()), "a viewer counts for three target durations");
    run(&mut world, &publisher, 17_560, 18_800);
    assert!(publisher.told().contains(&"Unwatched".to_owned()));
}

#[test]
fn the_end_of_a_stream_can_be_fetched() {
    let config = Config::default();
    let mut world = World::new(3, config.clone());
    let publisher = publish(&mut world, 0);
    let mut waiting = Client::new(&mut world, 2, &config);
    get(&mut world, 1, PLAYLIST);
    run(&mut world, &publisher, 0, 3_240);
    let mut players: Vec<Client> = (0..3).map(|shard| Client::new(&mut world, shard, &config)).collect();
    let lives: Vec<Response> = players.iter_mut().map(|player| player.get(&mut world, PLAYLIST).unwrap()).collect();
    waiting.ask(&mut world, &format!("{PLAYLIST}?_HLS_msn={}", lives[0].first_msn() + 3));
    publisher.act(&mut world, [Output::Unpublish]);
    assert!(waiting.response(&mut world).unwrap().text().ends_with("#EXT-X-ENDLIST\n"), "who waits is told");
    for (shard, player) in players.iter_mut().enumerate() {
        let list = player.get(&mut world, PLAYLIST).unwrap();
        assert!(list.text().ends_with("#EXT-X-ENDLIST\n"), "{shard}");
        let last = list.names("seg-").pop().unwrap();
        assert_eq!(status(get(&mut world, shard, &format!("/live/a/{last}"))), 200);
    }
    // Who comes new is not told of the end, but waits for somebody to publish anew.
    let mut newcomers: Vec<Client> = (0..6).map(|at| Client::new(&mut world, at % 3, &config)).collect();
    let paths = [PLAYLIST, PLAYLIST, PLAYLIST, "/live/a/index.m3u8", "/live/a/index.m3u8", "/live/a/index.m3u8"];
    newcomers.iter_mut().zip(paths).for_each(|(client, path)| client.ask(&mut world, path));
    world.pass(1_000);
    assert!(newcomers.iter_mut().all(|client| client.response(&mut world).is_none()));
    let again = publish(&mut world, 1);
    run(&mut world, &again, 0, 1_040);
    for client in &mut newcomers {
        let list = client.response(&mut world).unwrap();
        assert!(list.status == 200 && !list.text().contains("#EXT-X-ENDLIST"));
    }
    again.act(&mut world, [Output::Unpublish]);
    world.pass(20_000);
    for shard in 0..3 {
        let mut late = Client::new(&mut world, shard, &config);
        late.ask(&mut world, PLAYLIST);
        world.pass(config.viewer.wait_ms + 100);
        assert_eq!(status(late.response(&mut world)), 404, "{shard}");
    }
}

#[test]
fn a_player_may_know_of_the_end_before_its_shard_does() {
    let config = Config::default();
    let mut world = World::new(2, config.clone());
    let publisher = publish(&mut world, 0);
    let mut client = Client::new(&mut world, 1, &config);
    run(&mut world, &publisher, 0, 1_240);
    client.ask(&mut world, PLAYLIST);
    run(&mut world, &publisher, 1_240, 4_600);
    let last = client.response(&mut world).unwrap().names("seg-").pop().unwrap();
    world.lose_messages(usize::MAX);
    publisher.act(&mut world, [Output::Unpublish]);
    world.lose_messages(0);
    assert_eq!(status(get(&mut world, 1, &format!("/live/a/{last}"))), 200);
    assert_eq!(status(get(&mut world, 1, "/live/a/seg-e-1.m4s")), 404);
}

#[test]
fn a_slow_client_holds_nothing_of_its_own() {
    let mut config = Config::default();
    config.limits.outbox_bytes_max = 4_096;
    config.viewer.stall_ms_max = 2_000;
    let mut world = World::new(1, config.clone());
    let publisher = publish(&mut world, 0);
    get(&mut world, 0, PLAYLIST);
    run(&mut world, &publisher, 0, 3_040);
    let list = get(&mut world, 0, PLAYLIST).unwrap();
    let path = format!("/live/a/{}", list.names("seg-").pop().unwrap());
    let mut slow = Client::new(&mut world, 0, &config);
    world.set_window(slow.peer, Some(1_000));
    let two = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\nGET /live/a/nothing HTTP/1.1\r\nHost: x\r\n\r\n");
    world.send(slow.peer, two.as_bytes());
    for _ in 0..100 {
        world.set_window(slow.peer, Some(1_000));
        world.pass(20);
    }
    let segment = slow.response(&mut world).unwrap();
    assert!(segment.body.len() > 10 * config.limits.outbox_bytes_max && segment.status == 200);
    assert_eq!(status(slow.response(&mut world)), 404, "then the next one");
    world.send(slow.peer, two.as_bytes());
    world.set_window(slow.peer, Some(0));
    run(&mut world, &publisher, 3_040, 3_040 + 2_200);
    assert!(!world.is_open(slow.peer), "who takes nothing is closed");
}

#[test]
fn memory_that_all_media_may_have() {
    let mut config = Config::default();
    config.limits.media_bytes_max = 60_000;
    let mut world = World::new(1, config.clone());
    let publisher = publish(&mut world, 0);
    let mut client = Client::new(&mut world, 0, &config);
    client.ask(&mut world, PLAYLIST);
    for second in 0..20 {
        run(&mut world, &publisher, second * 1_000, second * 1_000 + 1_000);
        client.get(&mut world, PLAYLIST);
    }
    let held = segments(&mut world).unwrap();
    assert!(held.dropped > 0 && held.bytes < 250_000, "{held:?}");
    assert!(held.segments >= 3, "a playlist has three in any case");
}

#[test]
fn at_the_end_of_the_process_nobody_waits() {
    let config = Config::default();
    let mut world = World::new(2, config.clone());
    publish(&mut world, 0);
    let mut clients: Vec<Client> = (0..2).map(|shard| Client::new(&mut world, shard, &config)).collect();
    clients.iter_mut().for_each(|client| client.ask(&mut world, PLAYLIST));
    (0..2).for_each(|shard| world.command(shard, Command::Drain));
    for client in &mut clients {
        let status = status(client.response(&mut world));
        assert!(matches!(status, 404 | 503), "the stream is over, or the server: {status}");
    }
}
