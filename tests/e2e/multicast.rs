//! RTSP with multicast: every player of a stream listens to one group, to which the server sends once.
//!
//! One real player is the group's first member, another one of the same kind comes later, in the middle of what is sent.

use crate::harness::media::{H264_AAC, H265_OPUS_LONG, Recipe};
use crate::harness::network::in_own_network;
use crate::harness::rtsp::{Expected, Play, Player, Push, assert_run, hashes};
use crate::harness::rtsp_client::RtspClient;
use crate::harness::{Options, Runtime, SOON, Server, missing, wait_for};

on_both_runtimes!(players_share_a_group);

const PLAYERS: [(Play, Recipe); 3] =
    [(Play::FfmpegMulticast, H264_AAC), (Play::FfmpegMulticast, H265_OPUS_LONG), (Play::GstMulticast, H264_AAC)];

fn players_share_a_group(runtime: Runtime) {
    if missing(&["ffmpeg", "gst-launch-1.0"]) {
        return;
    }
    for (play, recipe) in PLAYERS {
        in_own_network(|| play_beside_another(runtime, play, &recipe));
    }
}

fn play_beside_another(runtime: Runtime, play: Play, recipe: &Recipe) {
    let Some(file) = recipe.file() else { return };
    let sent = hashes(recipe, &file);
    // No viewer is to skip because the machine is busy.
    let options = Options::new(runtime).shards(2).set("viewer.wait_ms", 40_000).set("viewer.lag_ms_max", 10_000);
    let server = Server::start(options.set("rtsp.multicast.interface", "127.0.0.1"));
    let Some(player) = Player::start(play, recipe, &server, "live/a") else { return };
    server.wait_sessions("waiting", 1);
    let publisher = recipe.publish(Push::FfmpegTcp, &server, "live/a").unwrap();
    let one_viewer = || {
        let stream = server.stream("live/a")?;
        (stream["viewers"]["protocols"]["rtsp-multicast"] == 1).then_some(())
    };
    wait_for("one viewer stands for the group", SOON, one_viewer);
    let Some(late) = Player::start(play, recipe, &server, "live/a") else { return };
    let mut member = RtspClient::connect(server.rtsp);
    let answer = member.demand("SETUP", "live/a/trackID=0", &["Transport: RTP/AVP;multicast"], "");
    assert!(
        answer.header("Transport").is_some_and(|transport| transport.contains(";destination=239.255.42.")),
        "{}",
        answer.head
    );
    member.demand("PLAY", "live/a", &[], "");
    assert_eq!(one_viewer(), Some(()), "it is sent once");
    Push::FfmpegTcp.finish(publisher, &server, "live/a");
    let expected = Expected::of(Push::FfmpegTcp, play);
    assert_run(&player.finish(), recipe, &sent, expected);
    assert_run(&late.finish(), recipe, &sent, expected.late());
}
