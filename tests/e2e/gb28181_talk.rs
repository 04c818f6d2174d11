//! Talk: the sound of a published stream to a device, which calls back for it. What the device hears is what was published, byte for byte.

use serde_json::json;

use crate::harness::device::{DEVICE, platform};
use crate::harness::flv::{AUDIO, of_kind};
use crate::harness::media::{H264_ALAW, H264_PLAIN_AAC};
use crate::harness::{Device, Runtime, SOON, Server, missing, wait_for};

on_both_runtimes!(sound_goes_to_a_device, what_is_no_g711_is_refused, what_is_not_there_is_refused_at_once);

const SPEAKER: &str = "34020000001370000001";

fn sound_goes_to_a_device(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let Some(tags) = H264_ALAW.tags() else { return };
    let sound: Vec<&[u8]> = of_kind(&tags, AUDIO).map(|tag| &tag.body[1..]).collect();
    let server = Server::start_platform(platform(runtime).shards(2));
    for talk in ["udp", "tcp-connect", "tcp-listen"] {
        let device = Device::start(&server, &format!("--speaker --talk {talk}"));
        server.wait_channels(DEVICE, 2);
        let publisher = H264_ALAW.push(&server.rtmp_url("live/voice")).unwrap();
        server.wait_live("live/voice");
        let body = json!({ "device": DEVICE, "channel": SPEAKER, "stream": "live/voice" });
        let call = server.ask_gb("talk", &body);
        assert_eq!(call["kind"], "talk", "{call}");
        device.wait("broadcast");
        publisher.succeed();
        let ended = device.wait("talk_ended");
        assert_eq!(ended["payload_type"], 8, "{ended}");
        let bytes = ended["bytes"].as_u64().unwrap() as usize;
        let run = runs(&sound).find(|run| run.len() == bytes).map(|run| md5(&run));
        assert_eq!(run.as_deref(), ended["md5"].as_str(), "{talk}: {bytes} bytes were heard: {ended}");
        assert!(bytes > 160, "more than one packet: {talk}: {ended}");
        device.leave();
        wait_for("the stream is over", SOON, || server.stream("live/voice").is_none().then_some(()));
    }
}

/// What the sound ends with, from each packet on.
fn runs<'a>(sound: &'a [&[u8]]) -> impl Iterator<Item = Vec<u8>> + 'a {
    (0..sound.len()).map(|from| sound[from..].concat())
}

fn md5(bytes: &[u8]) -> String {
    use md5::{Digest, Md5};
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn what_is_not_there_is_refused_at_once(runtime: Runtime) {
    let server = Server::start_platform(platform(runtime));
    let device = Device::start(&server, "--speaker");
    server.wait_channels(DEVICE, 2);
    let answer = server.post_gb("talk", &json!({ "device": DEVICE, "channel": SPEAKER, "stream": "live/nothing" }));
    assert_eq!((answer.status, &answer.json()["error"]), (404, &json!("no stream live/nothing")));
    // The device was not even asked.
    assert!(server.calls().is_empty() && device.events("broadcast").is_empty());
}

fn what_is_no_g711_is_refused(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let server = Server::start_platform(platform(runtime));
    let device = Device::start(&server, "--speaker");
    server.wait_channels(DEVICE, 2);
    let publisher = H264_PLAIN_AAC.push_forever(&server.rtmp_url("live/song"));
    server.wait_live("live/song");
    server.post_gb("talk", &json!({ "device": DEVICE, "channel": SPEAKER, "stream": "live/song" }));
    assert_eq!(device.wait("talk_ended")["packets"], 0);
    let failed = server.wait_call("live/song", "failed");
    assert!(failed["detail"].as_str().unwrap().contains("the stream's sound is AAC"), "{failed}");
    drop(publisher);
}
