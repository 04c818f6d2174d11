//! OBS Studio, on a display that nobody sees, streams and records at the same time: what viewers get is what it recorded.

use std::path::Path;
use std::process::Command;

use crate::harness::flv::{self, AUDIO, VIDEO};
use crate::harness::media::H264_AAC;
use crate::harness::{Client, Options, Over, Runtime, SOON, Server, Tag, Viewer, ffmpeg, fresh_folder, missing, wait_for};

on_both_runtimes!(streams);

/// Frames of a kind that both sides must have in common.
const COMMON_MIN: usize = 50;
/// Ctrl-C: OBS stops its outputs and ends.
const SIGINT: i32 = 2;

fn streams(runtime: Runtime) {
    if missing(&["obs", "Xvfb", "ffmpeg"]) {
        return;
    }
    // OBS takes its time to start.
    let server = Server::start(Options::new(runtime).shards(2).set("viewer.wait_ms", 40_000));
    let folder = fresh_folder("obs");
    let viewers: Vec<Viewer> = Over::ALL.iter().map(|over| Viewer::open(&server, *over, "live/obs")).collect();
    server.wait_sessions("waiting", viewers.len());
    let display = Display::open();
    let mut obs = start_obs(&server, &folder, &display, &H264_AAC.file().unwrap());
    for viewer in &viewers {
        viewer.wait_frames(VIDEO, 2 * COMMON_MIN);
    }
    assert_eq!(server.stream("live/obs").unwrap()["tracks"].as_array().unwrap().len(), 2);
    obs.signal(SIGINT);
    assert!(obs.wait(SOON).success(), "{}", obs.output());
    let recorded = recorded(&folder);
    for viewer in &viewers {
        let seen = viewer.wait_over().tags;
        for kind in [VIDEO, AUDIO] {
            let common = assert_one_stream(&bodies(&seen, kind), &bodies(&recorded, kind));
            println!("{}: {common} frames of kind {kind}", viewer.name);
            assert!(common >= COMMON_MIN, "{}: only {common} frames of kind {kind}", viewer.name);
        }
        flv::assert_monotonic(&seen, VIDEO);
        flv::assert_monotonic(&seen, AUDIO);
    }
    let _ = std::fs::remove_dir_all(folder);
}

/// A screen in memory, for a program that insists on one.
struct Display {
    _server: Client,
    name: String,
}

impl Display {
    fn open() -> Display {
        let mut command = Command::new("Xvfb");
        let server = Client::start(command.args(["-displayfd", "1", "-screen", "0", "640x480x24", "-nolisten", "tcp"]));
        let number = || server.output().lines().find_map(|line| line.trim().parse::<u32>().ok());
        let name = format!(":{}", wait_for("the display's number", SOON, number));
        Display { _server: server, name }
    }
}

/// Streams and records `clip` over and over.
fn start_obs(server: &Server, folder: &Path, display: &Display, clip: &Path) -> Client {
    let (profile, scenes) = (folder.join("obs-studio/basic/profiles/Test"), folder.join("obs-studio/basic/scenes"));
    let write = |path: std::path::PathBuf, text: &str| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(
        folder.join("obs-studio/global.ini"),
        "[General]\nFirstRun=true\nEnableAutoUpdates=false\nConfirmOnExit=false\n\
         [Basic]\nProfile=Test\nProfileDir=Test\nSceneCollection=Test\nSceneCollectionFile=Test\nConfigOnNewProfile=false\n",
    );
    // The recording takes the packets of the stream's encoders.
    let output = format!(
        "[General]\nName=Test\n[Output]\nMode=Simple\nReconnect=false\nFilenameFormatting=recorded\n\
         [SimpleOutput]\nFilePath={}\nRecFormat=mkv\nRecQuality=Stream\nVBitrate=800\nABitrate=96\nStreamEncoder=x264\nUseAdvanced=true\n\
         Preset=ultrafast\n\
         [Video]\nBaseCX=320\nBaseCY=240\nOutputCX=320\nOutputCY=240\nFPSCommon=25 PAL\n[Audio]\nSampleRate=48000\n",
        folder.display()
    );
    write(profile.join("basic.ini"), &output);
    let url = server.rtmp_url("live");
    write(
        profile.join("service.json"),
        &serde_json::json!({"type": "rtmp_custom", "settings": {"server": url, "key": "obs"}}).to_string(),
    );
    let scene = serde_json::json!({
        "name": "Test", "current_scene": "Scene", "current_program_scene": "Scene", "scene_order": [{"name": "Scene"}],
        "sources": [
            {"id": "ffmpeg_source", "versioned_id": "ffmpeg_source", "name": "Clip", "enabled": true, "mixers": 255,
             "settings": {"local_file": clip, "looping": true}},
            {"id": "scene", "versioned_id": "scene", "name": "Scene", "enabled": true,
             "settings": {"items": [{"name": "Clip", "id": 1, "visible": true}]}}
        ]
    });
    write(scenes.join("Test.json"), &scene.to_string());
    let mut command = Command::new("obs");
    command.args(["--startstreaming", "--startrecording", "--multi", "--disable-shutdown-check", "--profile", "Test"]);
    command.args(["--collection", "Test"]).current_dir(folder);
    for variable in ["HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"] {
        command.env(variable, folder);
    }
    command.env("DISPLAY", &display.name).env("LIBGL_ALWAYS_SOFTWARE", "1");
    Client::start(&mut command)
}

/// What OBS recorded, as FLV tags.
fn recorded(folder: &Path) -> Vec<Tag> {
    let flv = folder.join("recorded.flv");
    let mut command = ffmpeg();
    command.arg("-i").arg(folder.join("recorded.mkv")).args(["-c", "copy"]).arg(&flv);
    Client::start(&mut command).succeed();
    flv::read(&flv)
}

/// The frames of a kind, without what stands before them in a tag.
fn bodies(tags: &[Tag], kind: u8) -> Vec<&[u8]> {
    let head_bytes = if kind == VIDEO { 5 } else { 2 };
    flv::of_kind(tags, kind).filter(|tag| tag.is_frame()).map(|tag| &tag.body[head_bytes..]).collect()
}

/// Both begin and end where they like; what they have in common must be the same. Returns how much that is.
#[track_caller]
fn assert_one_stream(one: &[&[u8]], other: &[&[u8]]) -> usize {
    let common = |one: &[&[u8]], other: &[&[u8]]| {
        let length = one.len().min(other.len());
        (one[..length] == other[..length]).then_some(length)
    };
    // A frame may come twice, silence for example: each place of it may be the one.
    let begins_in = |one: &[&[u8]], other: &[&[u8]]| (0..one.len()).filter_map(|from| common(&one[from..], other)).max();
    begins_in(one, other).max(begins_in(other, one)).unwrap_or(0)
}
