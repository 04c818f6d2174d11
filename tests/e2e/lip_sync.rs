//! Lip sync: a flash and a beep at the beginning of every second but one, published and played over everything; they are as far apart
//! when they are played as they are in the file, and the second without is one without both.
//!
//! | published by | played by | codecs |
//! |---|---|---|
//! | ffmpeg over RTMP, RTSP/TCP and RTSP/UDP, GStreamer over RTSP/TCP | ffmpeg over RTMP, HTTP-FLV, RTSP/TCP and RTSP/UDP, GStreamer over RTSP/TCP | H.264 and AAC, without and with B-frames |
//!
//! ffmpeg decodes while it plays; what GStreamer plays is recorded and then decoded.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::media::{FLASH_BEEP, FLASH_BEEP_B, Recipe};
use crate::harness::rtsp::Push;
use crate::harness::{Client, Options, Runtime, SOON, Server, ffmpeg, fresh_folder, missing};

on_both_runtimes!(plain, with_b_frames);

/// How much farther apart flash and beep may be.
const SKEW_MS_MAX: f64 = 20.0;
/// What is played first is not looked at: it may be a part of a second.
const SKIPPED_SECONDS: f64 = 0.5;
/// GStreamer sends some seconds before it says how its tracks belong together: of what it publishes only the last flashes count. The
/// second without one is among them.
const GST_SETTLED: usize = 3;

const PUSHES: [Push; 4] = [Push::Rtmp, Push::FfmpegTcp, Push::FfmpegUdp, Push::GstTcp];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Rtmp,
    HttpFlv,
    RtspTcp,
    RtspUdp,
    Gst,
}

const OUTPUTS: [Output; 5] = [Output::Rtmp, Output::HttpFlv, Output::RtspTcp, Output::RtspUdp, Output::Gst];

fn plain(runtime: Runtime) {
    through_everything(runtime, &FLASH_BEEP);
}

fn with_b_frames(runtime: Runtime) {
    through_everything(runtime, &FLASH_BEEP_B);
}

fn through_everything(runtime: Runtime, recipe: &Recipe) {
    if missing(&["ffmpeg", "gst-launch-1.0"]) {
        return;
    }
    let file = recipe.file().unwrap();
    let source = Measuring::start(&[], file.to_str().unwrap()).finish().offsets_ms(usize::MAX).unwrap();
    // No viewer is to wait because GStreamer leaves without a goodbye.
    let options = Options::new(runtime).shards(2).set("viewer.wait_ms", 40_000);
    let server = Server::start(options.set("stream.publisher_grace_ms", 0));
    let key = |push: Push| format!("live/{push:?}");
    let players: Vec<(Push, Output, Player)> = PUSHES
        .into_iter()
        .flat_map(|push| OUTPUTS.map(|output| (push, output)))
        .map(|(push, output)| (push, output, Player::start(output, &server, &key(push))))
        .collect();
    server.wait_sessions("waiting", players.len());
    let publishers = PUSHES.map(|push| (push, recipe.publish(push, &server, &key(push)).unwrap()));
    for (push, publisher) in publishers {
        push.finish(publisher, &server, &key(push));
    }
    for (push, output, player) in players {
        let who = format!("{push:?} to {output:?}, {recipe:?}");
        let count = if push == Push::GstTcp { GST_SETTLED } else { usize::MAX };
        let played = player.finish().offsets_ms(count).unwrap_or_else(|moments| panic!("{who}: {moments:.3?}"));
        println!("{push:?} to {output:?}: {played:.1?} ms, in the file {:.1} ms", source[0]);
        let skew = played.iter().map(|offset| (offset - source[0]).abs()).fold(0.0, f64::max);
        assert!(skew < SKEW_MS_MAX, "{who}: {skew} ms, {played:.1?}");
    }
}

/// When flashes and beeps begin, in seconds.
#[derive(Clone, Debug)]
struct Moments {
    flashes: Vec<f64>,
    beeps: Vec<f64>,
}

impl Moments {
    /// How far each beep is behind its flash, for the last `count` flashes. The beep of the very last one may have been cut off. `Err`:
    /// they do not go together one by one, or do not show the second without.
    fn offsets_ms(&self, count: usize) -> Result<Vec<f64>, &Moments> {
        let begin = self.flashes.first().map_or(0.0, |first| first + SKIPPED_SECONDS);
        let flashes: Vec<f64> = self.flashes.iter().copied().filter(|flash| *flash > begin).collect();
        let flashes = &flashes[flashes.len().saturating_sub(count)..];
        let [first, .., last] = flashes else { return Err(self) };
        let near = first - 0.5..last + 0.5;
        let beeps: Vec<f64> = self.beeps.iter().copied().filter(|beep| near.contains(beep)).collect();
        let steps = flashes.windows(2).map(|pair| (pair[1] - pair[0]).round() as i64);
        let skipped = steps.filter(|step| *step == 2).count();
        if flashes.len() < GST_SETTLED || skipped != 1 || !(flashes.len() - 1..=flashes.len()).contains(&beeps.len()) {
            return Err(self);
        }
        Ok(flashes.iter().zip(beeps).map(|(flash, beep)| (beep - flash) * 1000.0).collect())
    }
}

#[test]
fn a_skew_of_whole_seconds_is_seen() {
    let flashes = vec![0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 7.0];
    let skewed = |by: f64| Moments { beeps: flashes.iter().map(|flash| flash + by).collect(), flashes: flashes.clone() };
    for count in [GST_SETTLED, usize::MAX] {
        assert!(skewed(0.0).offsets_ms(count).unwrap().iter().all(|offset| *offset == 0.0));
        for by in [-2.0, -1.0, 1.0, 2.0] {
            let moments = skewed(by);
            let offsets = moments.offsets_ms(count);
            assert!(offsets.is_err() || offsets.unwrap().iter().any(|offset| offset.abs() > SKEW_MS_MAX), "{by} s");
        }
    }
    let regular = Moments { flashes: vec![0.0, 1.0, 2.0, 3.0, 4.0], beeps: vec![0.0, 1.0, 2.0, 3.0, 4.0] };
    assert!(regular.offsets_ms(usize::MAX).is_err(), "that would tell nothing");
}

/// An ffmpeg that decodes, and notes how bright each picture is and where silence ends.
struct Measuring {
    client: Client,
    folder: PathBuf,
}

impl Measuring {
    fn start(options: &[&str], input: &str) -> Measuring {
        let folder = fresh_folder("lip-sync");
        let (bright, loud) = (folder.join("bright"), folder.join("loud"));
        let picture = format!("signalstats,metadata=mode=print:key=lavfi.signalstats.YAVG:file={}", bright.display());
        let sound = format!("silencedetect=noise=0.1:d=0.3,ametadata=mode=print:key=lavfi.silence_end:file={}", loud.display());
        let mut command = ffmpeg();
        command.args(options).args(["-threads", "1", "-i", input]);
        command.args(["-map", "0:v", "-vf", &picture, "-f", "null", "-"]);
        command.args(["-map", "0:a", "-af", &sound, "-f", "null", "-"]);
        Measuring { client: Client::start(&mut command), folder }
    }

    #[track_caller]
    fn finish(self) -> Moments {
        self.client.succeed();
        let bright = printed(&self.folder.join("bright"), "lavfi.signalstats.YAVG");
        let begins = |pair: &&[(f64, f64)]| pair[0].1 < 100.0 && pair[1].1 > 100.0;
        let flashes = bright.windows(2).filter(begins).map(|pair| pair[1].0).collect();
        let loud = printed(&self.folder.join("loud"), "lavfi.silence_end");
        let _ = std::fs::remove_dir_all(self.folder);
        Moments { flashes, beeps: loud.into_iter().map(|(_, end)| end).collect() }
    }
}

/// What a filter has printed: the time of each frame, and its value for `key`.
fn printed(path: &Path, key: &str) -> Vec<(f64, f64)> {
    let (mut time, mut values) = (0.0, Vec::new());
    for line in std::fs::read_to_string(path).unwrap().lines() {
        if let Some((_, seconds)) = line.split_once("pts_time:") {
            time = seconds.trim().parse().unwrap();
        } else if let Some(value) = line.strip_prefix(key).and_then(|rest| rest.strip_prefix('=')) {
            values.push((time, value.parse().unwrap()));
        }
    }
    values
}

enum Player {
    Ffmpeg(Measuring),
    Gst { client: Client, folder: PathBuf },
}

impl Player {
    fn start(output: Output, server: &Server, key: &str) -> Player {
        match output {
            Output::Rtmp => Player::Ffmpeg(Measuring::start(&[], &server.rtmp_url(key))),
            Output::HttpFlv => Player::Ffmpeg(Measuring::start(&[], &server.flv_url(key))),
            Output::RtspTcp => Player::Ffmpeg(Measuring::start(&["-rtsp_transport", "tcp"], &server.rtsp_url(key))),
            Output::RtspUdp => Player::Ffmpeg(Measuring::start(&["-rtsp_transport", "udp"], &server.rtsp_url(key))),
            Output::Gst => gst(&server.rtsp_url(key)),
        }
    }

    #[track_caller]
    fn finish(self) -> Moments {
        match self {
            Player::Ffmpeg(measuring) => measuring.finish(),
            Player::Gst { mut client, folder } => {
                // It does not always heed a goodbye, and calls it an error when the connection then ends.
                client.wait(SOON);
                let moments = Measuring::start(&[], folder.join("seen.mkv").to_str().unwrap()).finish();
                let _ = std::fs::remove_dir_all(folder);
                moments
            }
        }
    }
}

/// It is told to take the times that the packets say and nothing else: by default it mixes in when they come, which on a busy machine is
/// anything.
fn gst(url: &str) -> Player {
    let folder = fresh_folder("gst-player");
    let file = folder.join("seen.mkv");
    let pipeline = format!(
        "rtspsrc name=r latency=200 buffer-mode=none protocols=tcp location={url} matroskamux name=m streamable=true ! filesink location={} \
         r. ! queue ! rtph264depay ! h264parse ! m. r. ! queue ! rtpmp4gdepay ! aacparse ! m.",
        file.display()
    );
    let client = Client::start(Command::new("gst-launch-1.0").arg("-q").args(pipeline.split_whitespace()));
    Player::Gst { client, folder }
}
