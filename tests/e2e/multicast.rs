//! RTSP with multicast: every player of a stream listens to one group, to which the server sends once.
//!
//! One real player is the group's first member, another one of the same kind comes later, in the middle of what is sent.

use crate::harness::media::{AAC_ONLY, H264_AAC, H264_ALAW, H264_B_AAC, H265_OPUS_LONG, Recipe};
use crate::harness::network::in_own_network;
use crate::harness::rtsp::{Expected, Play, Player, Push, assert_run, hashes};
use crate::harness::rtsp_client::RtspClient;
use crate::harness::{Options, Runtime, SOON, Server, missing, wait_for};

on_both_runtimes!(players_share_a_group);

const PUBLISHERS: [Push; 5] = [Push::FfmpegTcp, Push::FfmpegUdp, Push::GstTcp, Push::GstUdp, Push::Rtmp];
const RECIPES: [Recipe; 5] = [H264_AAC, H265_OPUS_LONG, H264_B_AAC, AAC_ONLY, H264_ALAW];

fn players_share_a_group(runtime: Runtime) {
    if missing(&["ffmpeg", "gst-launch-1.0"]) {
        return;
    }
    in_own_network(|| play_beside_another(runtime, Push::FfmpegTcp, Play::GstMulticast, &H264_AAC));
    for push in PUBLISHERS {
        for recipe in RECIPES {
            in_own_network(|| play_beside_another(runtime, push, Play::FfmpegMulticast, &recipe));
        }
    }
}

fn play_beside_another(runtime: Runtime, push: Push, play: Play, recipe: &Recipe) {
    let (Some(file), Some(_)) = (recipe.file(), recipe.ffmpeg()) else { return };
    let sent = hashes(recipe, &file);
    let options = Options::new(runtime).shards(2).set("viewer.wait_ms", 40_000);
    let server = Server::start(options.set("rtsp.multicast.interface", "127.0.0.1"));
    let Some(player) = Player::start(play, recipe, &server, "live/a") else { return };
    server.wait_sessions("waiting", 1);
    let publisher = recipe.publish(push, &server, "live/a").unwrap();
    let one_viewer = || {
        let stream = server.stream("live/a")?;
        (stream["viewers"]["protocols"]["rtsp-multicast"] == 1).then_some(())
    };
    wait_for("one viewer stands for the group", SOON, one_viewer);
    let Some(late) = Player::start(play, recipe, &server, "live/a") else { return };
    let track = if recipe.video().is_some() { 0 } else { 1 };
    let mut member = RtspClient::connect(server.rtsp);
    let answer = member.demand("SETUP", &format!("live/a/trackID={track}"), &["Transport: RTP/AVP;multicast"], "");
    assert!(
        answer.header("Transport").is_some_and(|transport| transport.contains(";destination=239.255.42.")),
        "{}",
        answer.head
    );
    member.demand("PLAY", "live/a", &[], "");
    assert_eq!(one_viewer(), Some(()), "it is sent once");
    push.finish(publisher, &server, "live/a");
    let expected = Expected::of(push, play);
    assert_run(&player.finish(), recipe, &sent, expected);
    assert_run(&late.finish(), recipe, &sent, expected.late());
}
