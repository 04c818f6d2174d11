//! Many players of one stream over HLS: what they are counted as, that they are forgotten, and that they cost requests, not muxers.

use std::time::{Duration, Instant};

use crate::harness::hls::client::resolve;
use crate::harness::hls::{Connection, Multivariant, Player};
use crate::harness::media::{LIVE, LIVE_MS};
use crate::harness::{Options, Publisher, Runtime, SOON, Server, missing, wait_for};

on_both_runtimes!(ten_thousand_players, viewers_come_and_go);

const KEY: &str = "live/crowd";
const PLAYERS: usize = 10_000;
/// Each speaks for many players, one after the other.
const CONNECTIONS: usize = 16;
/// What a session may cost, and what the requests may leave behind in sockets and allocators, in bytes.
const SESSION_BYTES_MAX: u64 = 1_000;
const REST_BYTES_MAX: u64 = 16 << 20;
/// What the stream, of 600 kb/s, holds in segments.
const STREAM_BYTES_MAX: u64 = 6 << 20;

fn viewers(server: &Server, kind: &str) -> u64 {
    server.stream(KEY).and_then(|stream| stream["viewers"]["protocols"][kind].as_u64()).unwrap_or(0)
}

fn ten_thousand_players(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    // So long are players remembered that all are, however slowly they come.
    let server = Server::start(Options::new(runtime).shards(2).set("hls.segment_ms", 6_000));
    let _streaming = Publisher::connect(&server, KEY).stream_every(LIVE.live_tags().unwrap(), LIVE_MS);
    server.wait_live(KEY);
    let mut first = Player::open(Connection::kept(server.http), &format!("/{KEY}/index.m3u8"));
    first.follow(|seen| seen.segments.len() >= 3);
    let before = server.rss_bytes();
    let asked = Instant::now();
    let crowds: Vec<(Vec<String>, u64)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(|| play_for_many(&server, PLAYERS / CONNECTIONS))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let counted = viewers(&server, "hls");
    let took = asked.elapsed();
    let grown = server.rss_bytes().saturating_sub(before);
    let again: u64 = crowds.iter().map(|(_, again)| again).sum();
    let paths: Vec<String> = crowds.into_iter().flat_map(|(paths, _)| paths).collect();
    let who = runtime.name();
    println!("{who}: {} players in {took:?}, who asked {again} times again: {counted} counted, {grown} bytes more", paths.len());
    let segments = server.stream(KEY).unwrap()["segments"].clone();
    println!("{}: {segments}", runtime.name());
    // Requests are all that has become more.
    assert!(again >= PLAYERS as u64, "each asked again: {again}");
    assert!(segments["requests"].as_u64().unwrap() >= PLAYERS as u64 + again, "{segments}");
    assert!(segments["bytes"].as_u64().unwrap() < STREAM_BYTES_MAX && segments["refused"] == 0, "{segments}");
    let mut distinct = paths.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), paths.len(), "every player has a session of its own");
    // The first ones may be forgotten again if the machine is busy.
    let is_slow = took > Duration::from_secs(15);
    assert!(counted >= 2_000 && (is_slow || counted >= PLAYERS as u64), "{counted} viewers after {took:?}");
    let most = PLAYERS as u64 * SESSION_BYTES_MAX + REST_BYTES_MAX;
    assert!(
        grown <= most,
        "{grown} bytes more for {PLAYERS} players, which is more than {most}: {}",
        server.stream(KEY).unwrap()
    );
}

/// For so long players ask again once all of a connection's are there, and until each has asked.
const ROUNDS: Duration = Duration::from_secs(3);

/// Players that ask for both playlists, and then for the second one in turn. Their paths, and how often they asked again.
fn play_for_many(server: &Server, count: usize) -> (Vec<String>, u64) {
    let mut connection = Connection::kept(server.http);
    let index = format!("/{KEY}/index.m3u8");
    let open = |_| {
        let answer = connection.get(&index, &[]);
        assert_eq!(answer.status, 200, "{}", answer.head);
        let media = resolve(&index, &Multivariant::parse(&answer.text()).unwrap().variants[0].uri);
        assert_eq!(connection.get(&media, &[]).status, 200);
        media
    };
    let paths: Vec<String> = (0..count).map(open).collect();
    let (began, mut again) = (Instant::now(), 0);
    while again < count || began.elapsed() < ROUNDS {
        let answer = connection.get(&paths[again % count], &[]);
        assert_eq!(answer.status, 200, "{}", answer.head);
        again += 1;
    }
    (paths, again as u64)
}

fn viewers_come_and_go(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    // They are remembered for three target durations: longer than a busy machine keeps one of them from asking.
    let server = Server::start(Options::new(runtime).shards(2).set("hls.segment_ms", 4_000).set("hls.idle_ms", 2_000));
    let _streaming = Publisher::connect(&server, KEY).stream_every(LIVE.live_tags().unwrap(), LIVE_MS);
    server.wait_live(KEY);
    let open = |name: &str| Player::open(Connection::fresh(server.http), &format!("/{KEY}/{name}"));
    let mut players: Vec<Player> = vec![open("index.m3u8"), open("index.m3u8"), open("ts.m3u8")];
    for _ in 0..3 {
        players.iter_mut().for_each(Player::step);
        assert_eq!((viewers(&server, "hls"), viewers(&server, "hls-ts")), (2, 1), "{}", server.stream(KEY).unwrap());
    }
    drop(players);
    wait_for("the players are forgotten", SOON, || (viewers(&server, "hls") + viewers(&server, "hls-ts") == 0).then_some(()));
}
