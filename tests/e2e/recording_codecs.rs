//! Recordings of other codecs than H.264 with AAC, which are in `recording.rs`: every format that carries them holds what was sent, at its
//! time, and ffprobe and MediaInfo agree on it. One server records all of them in all formats at the same time.

use std::path::Path;

use serde_json::Value;

use crate::harness::media::{AAC_ONLY, H264_OPUS, H265_OPUS, HEVC_AAC, Recipe};
use crate::harness::recording::{Expected, PROGRAMS, assert_agree};
use crate::harness::rtsp::hashes;
use crate::harness::{Options, Runtime, Server, compare, fresh_folder, missing};
use crate::recording::{path_of, pictures_by};

on_both_runtimes!(other_codecs);

/// A stream: its name, what is sent, and ffmpeg's names of its codecs.
type Row = (&'static str, Recipe, Option<&'static str>, &'static str);

const ROWS: [Row; 4] = [
    ("h265-aac", HEVC_AAC, Some("hevc"), "aac"),
    ("h265-opus", H265_OPUS, Some("hevc"), "opus"),
    ("h264-opus", H264_OPUS, Some("h264"), "opus"),
    ("aac", AAC_ONLY, None, "aac"),
];
/// All of them carry all of these.
pub const FORMATS: [&str; 5] = ["fmp4", "mp4", "flv", "ts", "hls"];
/// FLV has milliseconds, TS ninetieths of them; MP4 puts sound back on its sample clock.
const SLACK_MICROS: i64 = 2_500;

/// A server that records every stream in every format, below a folder of that name.
pub fn in_every_format(runtime: Runtime, folder: &Path) -> Options {
    with_rules(runtime, folder, |format| format!("{{streams: [\"*\"], format: {format}, path: \"{format}/{{name}}/{{time}}\"}}"))
}

/// A server with a rule for each format.
pub fn with_rules(runtime: Runtime, folder: &Path, rule: impl Fn(&str) -> String) -> Options {
    let rules: Vec<String> = FORMATS.iter().map(|format| rule(format)).collect();
    Options::new(runtime)
        .shards(2)
        .set("record.folder", folder.display())
        .set("record.rules", format!("[{}]", rules.join(", ")))
        .set("record.free_bytes_min", 0)
}

fn other_codecs(runtime: Runtime) {
    if missing(&["ffmpeg"]) || missing(&PROGRAMS) || ROWS.iter().any(|(_, recipe, ..)| recipe.file().is_none()) {
        return;
    }
    let folder = fresh_folder("record");
    let server = Server::start(in_every_format(runtime, &folder));
    let pushes = ROWS.map(|(name, recipe, ..)| recipe.push(&server.rtmp_url(&format!("live/{name}"))).unwrap());
    pushes.into_iter().for_each(|push| drop(push.succeed()));
    let recordings = server.wait_recordings(ROWS.len() * FORMATS.len());
    std::thread::scope(|scope| {
        for row in &ROWS {
            let (recordings, folder) = (&recordings, &folder);
            scope.spawn(move || {
                let key = format!("live/{}", row.0);
                let own: Vec<&Value> = recordings.iter().filter(|recording| recording["stream"] == key.as_str()).collect();
                let mut formats: Vec<&str> = own.iter().map(|recording| recording["format"].as_str().unwrap()).collect();
                formats.sort_unstable();
                assert_eq!(formats, ["flv", "fmp4", "hls", "mp4", "ts"], "{key}");
                own.into_iter().for_each(|recording| assert_is_what_was_sent(row, recording, folder));
            });
        }
    });
    let _ = std::fs::remove_dir_all(folder);
}

fn assert_is_what_was_sent((name, recipe, video, audio): &Row, recording: &Value, folder: &Path) {
    let format = recording["format"].as_str().unwrap();
    let who = format!("{name} as {format}");
    let (file, original) = (path_of(folder, recording), recipe.file().unwrap());
    let (sent, seen) = (hashes(recipe, &original), hashes(recipe, &file));
    let missing = compare::assert_part(&seen, &sent, Some(SLACK_MICROS), &who);
    for (kind, stream) in &sent {
        assert_eq!((seen[kind].lines.len(), missing[kind]), (stream.lines.len(), 0), "{who}: all of the {kind}");
    }
    if video.is_some() {
        let pictures = |path: &Path| pictures_by(recipe.ffmpeg().unwrap(), path.to_str().unwrap());
        assert!(pictures(&file) == pictures(&original), "{who}: the pictures differ");
    }
    let frames = |kind: &str| sent.get(kind).map(|stream| stream.lines.len() as u64);
    assert_eq!(recording["frames"].as_u64(), frames("video").or(frames("audio")), "{who}: {recording}");
    assert_eq!(recording["cut_short"], false, "{who}");
    // The two programs read no FLV with FourCC tags.
    if format == "flv" && (*video == Some("hevc") || *audio == "opus") {
        return;
    }
    let expected = Expected {
        video: *video,
        audio: Some(audio),
        video_frames: frames("video"),
        audio_frames: frames("audio"),
        ..Expected::default()
    };
    let facts = assert_agree(&file, &expected);
    let begin = facts.values().map(|facts| facts.begin).fold(f64::MAX, f64::min);
    let end = facts.values().map(|facts| facts.end).fold(f64::MIN, f64::max);
    let off = recording["duration_ms"].as_f64().unwrap() - 1_000.0 * (end - begin);
    assert!(off.abs() <= 41.0, "{who}: {recording} by the API, {facts:?} by ffprobe");
}
