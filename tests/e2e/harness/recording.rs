//! What two programs that know nothing of each other say of a recorded file: ffprobe counts its packets, MediaInfo parses all of it. They
//! must agree on the codecs, on how many frames there are, and, to one frame, on how long each track lasts.
//!
//! Not for FLV with FourCC tags: neither of the two, as distributions have them, reads those. Nor for playlists: check their segments.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::Client;

/// What a file is expected to hold; `None` in `frames` or `seconds`: as the two agree.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected<'a> {
    /// ffmpeg's names, `h264` or `aac`; `None`: there is no such track.
    pub video: Option<&'a str>,
    pub audio: Option<&'a str>,
    pub video_frames: Option<u64>,
    pub audio_frames: Option<u64>,
    /// Of the longest track, to one frame.
    pub seconds: Option<f64>,
}

/// One track as ffprobe sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    pub codec: String,
    pub frames: u64,
    /// Presentation time of the first frame, and of the last one's end.
    pub begin: f64,
    pub end: f64,
    /// Of the longest frame.
    pub frame_seconds: f64,
}

impl Facts {
    pub fn seconds(&self) -> f64 {
        self.end - self.begin
    }
}

/// The programs that [`assert_agree`] needs.
pub const PROGRAMS: [&str; 2] = ["ffprobe", "mediainfo"];

/// Fails unless both programs say what is expected; what ffprobe says of `video` and `audio`.
#[track_caller]
pub fn assert_agree(path: &Path, expected: &Expected<'_>) -> BTreeMap<String, Facts> {
    let what = path.display();
    let (probed, parsed) = (ffprobe(path), mediainfo(path));
    let wanted = [("video", expected.video, expected.video_frames), ("audio", expected.audio, expected.audio_frames)];
    for (kind, codec, frames) in wanted {
        let facts = probed.get(kind);
        assert_eq!(facts.map(|facts| facts.codec.as_str()), codec, "{what}: {kind} by ffprobe: {probed:?}");
        let theirs = parsed.iter().find(|track| track["@type"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(kind)));
        assert_eq!(theirs.is_some(), codec.is_some(), "{what}: {kind} by MediaInfo: {parsed:?}");
        let (Some(facts), Some(theirs)) = (facts, theirs) else { continue };
        assert_track(&format!("{what}: {kind}"), facts, theirs);
        if let Some(frames) = frames {
            assert_eq!(facts.frames, frames, "{what}: frames of {kind}");
        }
    }
    if let (Some(seconds), Some(longest)) = (expected.seconds, probed.values().max_by(|a, b| a.seconds().total_cmp(&b.seconds())))
    {
        let (off, frame) =
            ((longest.seconds() - seconds).abs(), probed.values().map(|facts| facts.frame_seconds).fold(0.0, f64::max));
        assert!(off <= frame + 1e-3, "{what} lasts {:.3} s instead of {seconds:.3}", longest.seconds());
    }
    probed
}

#[track_caller]
fn assert_track(what: &str, facts: &Facts, theirs: &Value) {
    let format = theirs["Format"].as_str().unwrap_or_default();
    assert!(is_same_codec(&facts.codec, format), "{what}: {} by ffprobe, {format} by MediaInfo", facts.codec);
    let number = |field: &str| theirs[field].as_str().and_then(|text| text.parse::<f64>().ok());
    // It counts no frames where each sample is one.
    if let Some(frames) = number("FrameCount") {
        assert_eq!(facts.frames as f64, frames, "{what}: frames by ffprobe and by MediaInfo");
    }
    // Of Opus in a transport stream it says nothing.
    if format == "Opus" && theirs["CodecID"] == "6" {
        return;
    }
    let seconds = number("Duration").unwrap_or_else(|| panic!("{what}: MediaInfo does not say how long: {theirs}"));
    // From the track's first frame, or from the beginning of time.
    let off = (seconds - facts.seconds()).abs().min((seconds - facts.end).abs());
    assert!(off <= facts.frame_seconds + 1e-3, "{what}: {facts:?} by ffprobe, {seconds} s by MediaInfo");
}

/// Whether ffmpeg's name and MediaInfo's name one codec.
fn is_same_codec(ffmpeg: &str, mediainfo: &str) -> bool {
    let names = match ffmpeg {
        "h264" => ["AVC", ""],
        "hevc" => ["HEVC", ""],
        "av1" => ["AV1", ""],
        "vp9" => ["VP9", ""],
        "aac" => ["AAC", ""],
        "opus" => ["Opus", ""],
        "mp3" => ["MPEG Audio", ""],
        "pcm_alaw" | "pcm_mulaw" => ["ADPCM", "PCM"],
        _ => ["", ""],
    };
    !mediainfo.is_empty() && names.contains(&mediainfo)
}

#[track_caller]
fn json(command: &mut Command) -> Value {
    let output = Client::start(command).succeed();
    let from = output.find('{').unwrap_or_else(|| panic!("{command:?} says {output}"));
    // Complaints of the program may stand around it.
    let mut values = serde_json::Deserializer::from_str(&output[from..]).into_iter();
    values.next().unwrap().unwrap_or_else(|error| panic!("{command:?}: {error}: {output}"))
}

/// The tracks of a file or of what is at a URL, by kind.
#[track_caller]
pub fn ffprobe(path: &Path) -> BTreeMap<String, Facts> {
    let mut command = Command::new("ffprobe");
    command.args([
        "-v",
        "error",
        "-of",
        "json",
        "-show_entries",
        "stream=index,codec_type,codec_name:packet=stream_index,pts_time,duration_time",
    ]);
    let probed = json(command.arg(path));
    let mut tracks = BTreeMap::new();
    for stream in probed["streams"].as_array().unwrap() {
        let packets = probed["packets"].as_array().unwrap().iter().filter(|packet| packet["stream_index"] == stream["index"]);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let seconds = |value: &Value| value.as_str().and_then(|text| text.parse::<f64>().ok());
        let times: Vec<(f64, Option<f64>)> =
            packets.filter_map(|packet| Some((seconds(&packet["pts_time"])?, seconds(&packet["duration_time"])))).collect();
        // Of Opus in fragments it does not say how long a packet is: as long as it is to the next one.
        let steps = times.windows(2).map(|pair| pair[1].0 - pair[0].0).filter(|step| *step > 0.0);
        let usual = if times.iter().all(|(_, duration)| duration.is_none()) { steps.fold(f64::MAX, f64::min) } else { 0.0 };
        let times: Vec<(f64, f64)> = times.into_iter().map(|(pts, duration)| (pts, duration.unwrap_or(usual))).collect();
        let (Some(kind), Some(codec), false) = (text(&stream["codec_type"]), text(&stream["codec_name"]), times.is_empty())
        else {
            continue;
        };
        let facts = Facts {
            codec,
            frames: times.len() as u64,
            begin: times.iter().map(|(pts, _)| *pts).fold(f64::MAX, f64::min),
            end: times.iter().map(|(pts, duration)| pts + duration).fold(f64::MIN, f64::max),
            frame_seconds: times.iter().map(|(_, duration)| *duration).fold(0.0, f64::max),
        };
        assert!(tracks.insert(kind.clone(), facts).is_none(), "{}: two tracks of {kind}", path.display());
    }
    tracks
}

#[track_caller]
fn mediainfo(path: &Path) -> Vec<Value> {
    // The whole file is parsed, not only its beginning.
    let said = json(Command::new("mediainfo").args(["--ParseSpeed=1", "--Output=JSON"]).arg(path));
    said["media"]["track"].as_array().cloned().unwrap_or_default()
}

mod tests {
    use super::*;
    use crate::harness::media::H264_AAC;
    use crate::harness::{ffmpeg, fresh_folder, missing};

    #[test]
    fn both_agree_on_what_ffmpeg_writes() {
        if missing(&["ffmpeg"]) || missing(&PROGRAMS) {
            return;
        }
        let folder = fresh_folder("agree");
        let cases: [(&str, &[&str]); 4] = [
            ("fragments.mp4", &["-movflags", "frag_keyframe+empty_moov+default_base_moof"]),
            ("plain.mp4", &["-movflags", "faststart"]),
            ("a.ts", &[]),
            ("a.flv", &[]),
        ];
        for (name, options) in cases {
            let file = folder.join(name);
            Client::start(ffmpeg().arg("-i").arg(H264_AAC.file().unwrap()).args(["-c", "copy"]).args(options).arg(&file))
                .succeed();
            let right = Expected {
                video: Some("h264"),
                audio: Some("aac"),
                video_frames: Some(200),
                seconds: Some(8.06),
                ..Expected::default()
            };
            let facts = assert_agree(&file, &right);
            println!("{name}: {facts:?}");
            for wrong in [
                Expected { video: Some("hevc"), ..right },
                Expected { audio: None, ..right },
                Expected { video_frames: Some(199), ..right },
                Expected { seconds: Some(8.2), ..right },
            ] {
                let accepted = std::panic::catch_unwind(|| assert_agree(&file, &wrong));
                assert!(accepted.is_err(), "{name} is no {wrong:?}");
            }
        }
        let _ = std::fs::remove_dir_all(folder);
    }
}
