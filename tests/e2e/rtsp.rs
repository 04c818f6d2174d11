//! RTSP with real clients: every publisher to every player, frame by frame.
//!
//! | published by | played by | codecs |
//! |---|---|---|
//! | ffmpeg over TCP and UDP, GStreamer over TCP and UDP, ffmpeg over RTMP | ffmpeg over TCP, UDP, the HTTP tunnel on both ports, RTMP, HTTP-FLV; GStreamer over TCP, UDP and the tunnel; mpv; live555 over TCP and UDP, of H.264 and AAC | H.264 + AAC, H.264 with B-frames + AAC, H.265 + Opus, AAC, H.264 + G.711 |
//! | GStreamer through the HTTP tunnel | ffmpeg over TCP, GStreamer through the tunnel, HTTP-FLV | H.264 + AAC, H.265 + Opus |
//! | ffmpeg over TCP, ffmpeg over RTMP | ffmpeg over TCP and UDP, RTMP, HTTP-FLV | VP9 + MP3, AV1, H.264 + G.711 µ-law; AV1 + AAC, not over UDP |
//!
//! One server and one publisher serve all players at once. Multicast is in `multicast.rs`.

use crate::harness::media::{
    AAC_ONLY, AV1_AAC, AV1_ONLY, H264_ALAW, H264_B_AAC, H264_PLAIN_AAC, H264_ULAW, H265_OPUS, Recipe, VP9_MP3,
};
use crate::harness::rtsp::{Expected, Play, Player, Push, assert_run, hashes};
use crate::harness::{Options, Runtime, Server, missing};

on_both_runtimes!(
    ffmpeg_over_tcp,
    ffmpeg_over_udp,
    gstreamer_over_tcp,
    gstreamer_over_udp,
    gstreamer_through_http,
    rtmp,
    other_codecs
);

const RECIPES: [Recipe; 5] = [H264_PLAIN_AAC, H264_B_AAC, H265_OPUS, AAC_ONLY, H264_ALAW];

const PLAYERS: [Play; 12] = [
    Play::FfmpegTcp,
    Play::FfmpegUdp,
    Play::FfmpegTunnel,
    Play::FfmpegTunnelHttp,
    Play::GstTcp,
    Play::GstUdp,
    Play::GstTunnel,
    Play::Live555Tcp,
    Play::Live555Udp,
    Play::Mpv,
    Play::Rtmp,
    Play::HttpFlv,
];

const OTHER_RECIPES: [Recipe; 3] = [VP9_MP3, AV1_ONLY, H264_ULAW];
const OTHER_PLAYERS: [Play; 4] = [Play::FfmpegTcp, Play::FfmpegUdp, Play::Rtmp, Play::HttpFlv];
/// Not over UDP: ffmpeg keeps the fragments of an AV1 picture in a packet that sound, on a socket of its own, gets to in between; of
/// what is sent in full, it then hands on a part.
const AV1_AAC_PLAYERS: [Play; 3] = [Play::FfmpegTcp, Play::Rtmp, Play::HttpFlv];

fn other_codecs(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    for push in [Push::FfmpegTcp, Push::Rtmp] {
        publish(runtime, push, &OTHER_RECIPES, &OTHER_PLAYERS);
        publish(runtime, push, &[AV1_AAC], &AV1_AAC_PLAYERS);
    }
}

fn publish_to_all(runtime: Runtime, push: Push) {
    if missing(&["ffmpeg", "gst-launch-1.0", "mpv"]) {
        return;
    }
    publish(runtime, push, &RECIPES, &PLAYERS);
}

fn publish(runtime: Runtime, push: Push, recipes: &[Recipe], plays: &[Play]) {
    for recipe in recipes {
        let (Some(file), Some(_)) = (recipe.file(), recipe.ffmpeg()) else { continue };
        let sent = hashes(recipe, &file);
        let options = Options::new(runtime).shards(2).set("viewer.wait_ms", 40_000);
        let server = Server::start(options);
        let players: Vec<(Play, Player)> = plays
            .iter()
            .filter(|play| play.suits(recipe))
            .filter_map(|play| Some((*play, Player::start(*play, recipe, &server, "live/a")?)))
            .collect();
        server.wait_sessions("waiting", players.len());
        let publisher = recipe.publish(push, &server, "live/a").unwrap();
        push.finish(publisher, &server, "live/a");
        for (play, player) in players {
            assert_run(&player.finish(), recipe, &sent, Expected::of(push, play));
        }
    }
}

fn ffmpeg_over_tcp(runtime: Runtime) {
    publish_to_all(runtime, Push::FfmpegTcp);
}

fn ffmpeg_over_udp(runtime: Runtime) {
    publish_to_all(runtime, Push::FfmpegUdp);
}

fn gstreamer_over_tcp(runtime: Runtime) {
    publish_to_all(runtime, Push::GstTcp);
}

fn gstreamer_over_udp(runtime: Runtime) {
    publish_to_all(runtime, Push::GstUdp);
}

fn gstreamer_through_http(runtime: Runtime) {
    if missing(&["ffmpeg", "gst-launch-1.0"]) {
        return;
    }
    publish(runtime, Push::GstTunnel, &[H264_PLAIN_AAC, H265_OPUS], &[Play::FfmpegTcp, Play::GstTunnel, Play::HttpFlv]);
}

fn rtmp(runtime: Runtime) {
    publish_to_all(runtime, Push::Rtmp);
}
