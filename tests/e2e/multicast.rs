//! RTSP with multicast: every player of a stream listens to one group, to which the server sends once.

use crate::harness::media::{H264_AAC, H265_OPUS_LONG};
use crate::harness::network::in_own_network;
use crate::harness::rtsp::{Expected, Play, Player, Push, assert_run, hashes};
use crate::harness::{Options, Runtime, SOON, Server, missing, wait_for};

on_both_runtimes!(players_share_a_group);

const PLAYERS: [Play; 4] = [Play::FfmpegMulticast, Play::FfmpegMulticast, Play::GstMulticast, Play::FfmpegTcp];

fn players_share_a_group(runtime: Runtime) {
    if missing(&["ffmpeg", "gst-launch-1.0"]) {
        return;
    }
    for recipe in [H264_AAC, H265_OPUS_LONG] {
        let Some(file) = recipe.file() else { return };
        let sent = hashes(&recipe, &file);
        in_own_network(|| {
            let options = Options::new(runtime).shards(2).set("viewer.wait_ms", 40_000);
            let server = Server::start(options.set("rtsp.multicast.interface", "127.0.0.1"));
            let players: Vec<Player> =
                PLAYERS.iter().filter_map(|play| Player::start(*play, &recipe, &server, "live/a")).collect();
            server.wait_sessions("waiting", players.len());
            let publisher = recipe.publish(Push::FfmpegTcp, &server, "live/a").unwrap();
            wait_for("one viewer stands for the group", SOON, || {
                let stream = server.stream("live/a")?;
                (stream["viewers"]["protocols"]["rtsp-multicast"] == 1).then_some(())
            });
            Push::FfmpegTcp.finish(publisher, &server, "live/a");
            for (play, player) in PLAYERS.iter().zip(players) {
                let who = format!("{play:?}, {recipe:?}");
                assert_run(&player.finish(), &sent, Expected { percent: 10, slack_ms: 100 }, &who);
            }
        });
    }
}
