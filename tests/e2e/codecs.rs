//! Every codec that is carried, bit for bit; H.265 in both of its FLV forms.

use crate::harness::flv::{self, VIDEO, of_kind};
use crate::harness::media::{AV1_AAC, H264_ALAW, H264_OPUS, H264_ULAW, HEVC_AAC, Recipe, VP9_MP3};
use crate::harness::{Client, Options, Over, Publisher, Runtime, Server, Tag, Viewer, ffmpeg, framemd5, fresh_folder, missing};
use crate::pull::assert_bit_exact;

on_both_runtimes!(carried, legacy_hevc, not_carried);

fn carried(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let cases: [(&str, Recipe, &[&str]); 6] = [
        ("hevc", HEVC_AAC, &["H265", "AAC"]),
        ("opus", H264_OPUS, &["H264", "Opus"]),
        ("av1", AV1_AAC, &["AV1", "AAC"]),
        ("vp9", VP9_MP3, &["VP9", "MP3"]),
        ("alaw", H264_ALAW, &["H264", "G711A"]),
        ("ulaw", H264_ULAW, &["H264", "G711U"]),
    ];
    // Made one after the other before they are all sent at the same time.
    for (_, recipe, _) in &cases {
        let _ = recipe.file();
    }
    let server = Server::start(Options::new(runtime));
    std::thread::scope(|scope| {
        for (name, recipe, codecs) in &cases {
            let server = &server;
            scope.spawn(move || assert_bit_exact(server, recipe, &format!("live/{name}"), codecs));
        }
    });
}

/// Enhanced RTMP's `hvc1` tags rewritten to codec id 12, the way encoders wrote H.265 before.
fn to_legacy(tag: &Tag) -> Option<Tag> {
    if tag.kind != VIDEO {
        return Some(tag.clone());
    }
    assert_eq!(tag.body[1..5], *b"hvc1");
    let (first, rest) = (tag.body[0], &tag.body[5..]);
    let (packet_type, time_and_data) = match first & 0x0F {
        0 => (0, [&[0; 3], rest].concat()),
        1 => (1, rest.to_vec()),
        3 => (1, [&[0; 3], rest].concat()),
        _ => return None,
    };
    let mut body = vec![first & 0x70 | 12, packet_type];
    body.extend(time_and_data);
    Some(Tag { body, ..tag.clone() })
}

fn legacy_hevc(runtime: Runtime) {
    let (Some(tags), Some(sent)) = (HEVC_AAC.tags(), HEVC_AAC.framemd5()) else { return };
    let legacy: Vec<Tag> = tags.iter().filter_map(to_legacy).collect();
    let server = Server::start(Options::new(runtime));
    let folder = fresh_folder("legacy");
    let viewer = |query: &str| Viewer::open(&server, Over::HttpFlv, &format!("live/old{query}"));
    let (enhanced, back) = (viewer(""), viewer("?hevc=legacy"));
    let over_rtmp = Viewer::open(&server, Over::Rtmp, "live/old?hevc=legacy");
    let output = folder.join("md5");
    let pull = Client::start(HEVC_AAC.ffmpeg().unwrap().args(framemd5::arguments(&server.flv_url("live/old"), &output)));
    server.wait_sessions("waiting", 4);
    let mut publisher = Publisher::connect(&server, "live/old");
    assert!(legacy.iter().all(|tag| publisher.send(tag)));
    publisher.finish();
    for (viewer, expected) in [(&enhanced, &tags), (&back, &legacy)] {
        let seen = viewer.wait_end().tags;
        assert_eq!(flv::assert_tail(&seen, expected, VIDEO), of_kind(expected, VIDEO).count(), "{}", viewer.name);
        let config = |tags: &[Tag]| tags.iter().find(|tag| tag.kind == VIDEO && tag.is_config()).unwrap().body.clone();
        assert_eq!(config(&seen), config(expected), "{}", viewer.name);
    }
    let seen = over_rtmp.wait_over().tags;
    flv::assert_tail(&seen, &legacy, VIDEO);
    pull.succeed();
    framemd5::assert_tail(&framemd5::read(&output), &sent, "the newer ffmpeg");
    let _ = std::fs::remove_dir_all(folder);
}

/// An encoder that sends what nobody can be given is not refused, as other tracks may come; the operator hears of it once.
fn not_carried(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let server = Server::start(Options::new(runtime));
    let mut push = ffmpeg();
    push.args(["-re", "-f", "lavfi", "-i", "testsrc2=s=160x120:r=25", "-t", "1", "-c:v", "flv1", "-f", "flv"]);
    Client::start(push.arg(server.rtmp_url("live/odd"))).succeed();
    server.wait_log("the end", |line| line.contains("live/odd: ended by its publisher"));
    let said = server.log().lines().filter(|line| line.contains("live/odd: has media in a codec that is not carried")).count();
    assert_eq!(said, 1, "{}", server.log());
}
