//! Clients of RTSP, and of everything that plays what RTSP publishes: ffmpeg, GStreamer, mpv, live555. What a player received is compared with
//! what was sent frame by frame, by hash, whatever framing either side uses.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::framemd5::{self, Line, Stream, Streams};
use super::media::{Audio, Recipe, Video};
use super::{Client, Server, fresh_folder, skip, target, wait_for};

/// A GStreamer publisher that has sent nothing for so long has sent all.
const GST_SILENCE: Duration = Duration::from_millis(1_500);

/// How a stream gets into the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    FfmpegTcp,
    FfmpegUdp,
    FfmpegTls,
    GstTcp,
    GstUdp,
    /// Through the HTTP port.
    GstTunnel,
    Rtmp,
}

impl Push {
    fn is_gstreamer(self) -> bool {
        matches!(self, Push::GstTcp | Push::GstUdp | Push::GstTunnel)
    }

    /// How many of the last packets of sound it does not send: ffmpeg gathers AAC and MP3 until an RTP packet is full, and forgets what
    /// it has when it ends.
    fn kept_back(self, sent: &Stream, audio: Option<Audio>) -> usize {
        const RTP_PAYLOAD_BYTES: u64 = 1_460;
        let is_ffmpeg = matches!(self, Push::FfmpegTcp | Push::FfmpegUdp | Push::FfmpegTls);
        if !(is_ffmpeg && matches!(audio, Some(Audio::Aac | Audio::Mp3))) {
            return 0;
        }
        let mut bytes = 0;
        let fits = |line: &&Line| {
            bytes += line.size;
            bytes <= RTP_PAYLOAD_BYTES
        };
        sent.lines.iter().rev().take_while(fits).count()
    }

    /// Waits until the publisher has sent all and ended. GStreamer's sometimes forgets to end: then it is told to.
    #[track_caller]
    pub fn finish(self, mut client: Client, server: &Server, key: &str) {
        if self.is_gstreamer() {
            let mut frames = 0;
            let mut since = Instant::now();
            wait_for("the publisher is done", super::SOON, || {
                let frames_in = server.stream(key).map_or(0, |stream| stream["frames_in"].as_u64().unwrap());
                if frames_in != std::mem::replace(&mut frames, frames_in) {
                    since = Instant::now();
                }
                let is_stuck = frames > 0 && since.elapsed() > GST_SILENCE;
                (is_stuck || !client.is_running()).then_some(())
            });
            if client.is_running() {
                client.signal(libc::SIGINT);
            }
            // It may complain about what it was interrupted in; what counts is what arrived.
            client.wait(super::SOON);
        } else {
            client.succeed();
        }
    }
}

/// How it is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Play {
    FfmpegTcp,
    FfmpegUdp,
    FfmpegMulticast,
    /// Through the RTSP port.
    FfmpegTunnel,
    /// Through the HTTP port.
    FfmpegTunnelHttp,
    GstTcp,
    GstUdp,
    /// Through the RTSP port.
    GstTunnel,
    GstMulticast,
    FfmpegTls,
    GstTls,
    Live555Tcp,
    Live555Udp,
    Mpv,
    Rtmp,
    HttpFlv,
}

impl Play {
    fn is_gstreamer(self) -> bool {
        matches!(self, Play::GstTcp | Play::GstUdp | Play::GstTunnel | Play::GstMulticast | Play::GstTls)
    }

    /// Whether it can play that: our client of live555 writes H.264 and AAC only.
    pub fn suits(self, recipe: &Recipe) -> bool {
        let is_written = matches!(recipe.video(), None | Some(Video::H264)) && recipe.audio() == Some(Audio::Aac);
        !self.is_live555() || is_written
    }

    fn is_live555(self) -> bool {
        matches!(self, Play::Live555Tcp | Play::Live555Udp)
    }

    fn is_rtsp(self) -> bool {
        !matches!(self, Play::Rtmp | Play::HttpFlv)
    }

    fn is_by_datagrams(self) -> bool {
        matches!(self, Play::FfmpegUdp | Play::FfmpegMulticast | Play::GstUdp | Play::GstMulticast | Play::Live555Udp)
    }
}

impl Server {
    pub fn rtsp_url(&self, key: &str) -> String {
        format!("rtsp://{}/{key}", self.rtsp)
    }

    pub fn rtsps_url(&self, key: &str) -> String {
        format!("rtsps://{}/{key}", self.address("rtsps"))
    }
}

impl Recipe {
    /// The same packets in Matroska, from which GStreamer reads every codec.
    fn matroska(&self) -> Option<PathBuf> {
        let path = self.file()?;
        let matroska = path.with_extension("mkv");
        if !matroska.exists() {
            let unfinished =
                target().join("e2e-media").join(format!("{}.{:?}.mkv", std::process::id(), std::thread::current().id()));
            let mut command = self.ffmpeg()?;
            Client::start(command.arg("-i").arg(path).args(["-c", "copy"]).arg(&unfinished)).succeed();
            std::fs::rename(unfinished, &matroska).unwrap();
        }
        Some(matroska)
    }

    /// Sends the file in real time, once. `None`: no program that can.
    pub fn publish(&self, push: Push, server: &Server, key: &str) -> Option<Client> {
        let url = match push {
            Push::Rtmp => server.rtmp_url(key),
            Push::FfmpegTls => server.rtsps_url(key),
            Push::GstTunnel => format!("rtsph://{}/{key}", server.http),
            _ => server.rtsp_url(key),
        };
        self.publish_to(push, &url)
    }

    /// As [`Recipe::publish`], to a URL with all that belongs to it.
    pub fn publish_to(&self, push: Push, url: &str) -> Option<Client> {
        let transport = match push {
            Push::Rtmp => return self.push(url),
            Push::GstTcp => return self.gst_publish("tcp", url),
            Push::GstUdp => return self.gst_publish("udp", url),
            Push::GstTunnel => return self.gst_publish("tcp+http", url),
            Push::FfmpegTcp | Push::FfmpegTls => "tcp",
            Push::FfmpegUdp => "udp",
        };
        let path = self.file()?;
        let mut command = self.ffmpeg()?;
        command.arg("-re").arg("-i").arg(path).args([
            "-c",
            "copy",
            "-strict",
            "experimental",
            "-f",
            "rtsp",
            "-rtsp_transport",
            transport,
        ]);
        Some(Client::start(command.arg(url)))
    }

    fn gst_publish(&self, protocol: &str, url: &str) -> Option<Client> {
        let mut command = Command::new("gst-launch-1.0");
        command.args(["-q", "filesrc"]).arg(format!("location={}", self.matroska()?.display()));
        command.args([
            "!",
            "matroskademux",
            "name=d",
            "rtspclientsink",
            "name=s",
            &format!("location={url}"),
            &format!("protocols={protocol}"),
        ]);
        if let Some(video) = self.video() {
            command.args(["d.video_0", "!", "queue", "!", video.parser(), "!", "identity", "sync=true", "!", "s."]);
        }
        if let Some(audio) = self.audio() {
            command.args(["d.audio_0", "!", "queue", "!", audio.parser(), "!", "identity", "sync=true", "!", "s."]);
        }
        Some(Client::start(&mut command))
    }
}

impl Video {
    fn parser(self) -> &'static str {
        match self {
            Video::H264 => "h264parse",
            Video::H265 => "h265parse",
            Video::Av1 => "av1parse",
            Video::Vp9 => "vp9parse",
        }
    }

    /// What makes packets comparable: start codes, and no parameter sets, delimiters and messages, which may stand inside or outside.
    pub fn filter(self) -> &'static str {
        match self {
            Video::H264 => "h264_mp4toannexb,filter_units=remove_types=6-9",
            Video::H265 => "hevc_mp4toannexb,filter_units=remove_types=32-40",
            Video::Av1 => "av1_metadata=td=remove",
            Video::Vp9 => "null",
        }
    }

    /// Without a container: GStreamer's leave out frames whose time it does not know.
    fn gst_receive(self) -> &'static str {
        match self {
            Video::H264 => "rtph264depay ! h264parse ! video/x-h264,stream-format=byte-stream,alignment=au",
            Video::H265 => "rtph265depay ! h265parse ! video/x-h265,stream-format=byte-stream,alignment=au",
            Video::Vp9 => "rtpvp9depay ! vp9parse ! matroskamux",
            Video::Av1 => panic!("the distribution's GStreamer cannot receive AV1"),
        }
    }

    /// What ffmpeg calls the file that [`Video::gst_receive`] makes.
    fn raw_format(self) -> &'static str {
        match self {
            Video::H264 => "h264",
            Video::H265 => "hevc",
            Video::Av1 | Video::Vp9 => "matroska",
        }
    }
}

impl Audio {
    fn parser(self) -> &'static str {
        match self {
            Audio::Aac => "aacparse",
            Audio::Opus => "opusparse",
            Audio::Mp3 => "mpegaudioparse",
            Audio::Alaw | Audio::Ulaw => "identity",
        }
    }

    fn gst_receive(self) -> &'static str {
        match self {
            Audio::Aac => "rtpmp4gdepay ! aacparse ! matroskamux",
            Audio::Opus => "rtpopusdepay ! opusparse ! matroskamux",
            Audio::Mp3 => "rtpmpadepay ! mpegaudioparse ! matroskamux",
            Audio::Alaw => "rtppcmadepay ! matroskamux",
            Audio::Ulaw => "rtppcmudepay ! matroskamux",
        }
    }
}

/// A player that runs.
pub struct Player {
    play: Play,
    recipe: Recipe,
    client: Client,
    folder: PathBuf,
}

impl Player {
    /// `None`: no program that can.
    pub fn start(play: Play, recipe: &Recipe, server: &Server, key: &str) -> Option<Player> {
        Player::start_as(play, recipe, server, key, None)
    }

    /// `user`: `name:password`, as it stands in the URL of RTSP.
    pub fn start_as(play: Play, recipe: &Recipe, server: &Server, key: &str, user: Option<&str>) -> Option<Player> {
        let folder = fresh_folder("player");
        let user = user.map_or_else(String::new, |user| format!("{user}@"));
        let rtsp = format!("rtsp://{user}{}/{key}", server.rtsp);
        let tunnel = format!("rtsp://{user}{}/{key}", server.http);
        let ffmpeg = |options: &[&str], url: &str| {
            let mut command = recipe.ffmpeg()?;
            command.args(options).args(["-i", url]);
            if recipe.video().is_some() {
                command.args(["-map", "0:v"]);
            }
            if recipe.audio().is_some() {
                command.args(["-map", "0:a"]);
            }
            command.args(["-copyts", "-c", "copy"]);
            if recipe.video() == Some(Video::Vp9) {
                // Of VP9 in RTP, ffmpeg does not see what is a keyframe.
                command.arg("-copyinkf");
            }
            if let Some(video) = recipe.video() {
                command.args(["-bsf:v", video.filter()]);
            }
            Some(Client::start(command.args(["-f", "framemd5"]).arg(folder.join("out"))))
        };
        let client = match play {
            Play::FfmpegTcp => ffmpeg(&["-rtsp_transport", "tcp"], &rtsp),
            Play::FfmpegUdp => ffmpeg(&["-rtsp_transport", "udp"], &rtsp),
            Play::FfmpegMulticast => ffmpeg(&["-rtsp_transport", "udp_multicast"], &rtsp),
            Play::FfmpegTls => ffmpeg(&["-rtsp_transport", "tcp"], &server.rtsps_url(key)),
            Play::FfmpegTunnel => ffmpeg(&["-rtsp_transport", "http"], &rtsp),
            Play::FfmpegTunnelHttp => ffmpeg(&["-rtsp_transport", "http"], &tunnel),
            Play::Rtmp => ffmpeg(&[], &server.rtmp_url(key)),
            Play::HttpFlv => ffmpeg(&[], &server.flv_url(key)),
            Play::Mpv => {
                let options = ["--no-config", "--no-terminal", "--vo=null", "--ao=null"];
                let record = format!("--stream-record={}", folder.join("out.mkv").display());
                Some(Client::start(Command::new("mpv").args(options).arg(record).arg(&rtsp)))
            }
            Play::GstTcp => Some(gst(recipe, "tcp", &rtsp, &folder)),
            Play::GstUdp => Some(gst(recipe, "udp", &rtsp, &folder)),
            // The tunnel is in the URL; what goes through it is as over TCP.
            Play::GstTunnel => Some(gst(recipe, "tcp+http", &rtsp.replacen("rtsp:", "rtsph:", 1), &folder)),
            Play::GstMulticast => Some(gst(recipe, "udp-mcast", &rtsp, &folder)),
            Play::GstTls => Some(gst(recipe, "tcp", &server.rtsps_url(key), &folder)),
            Play::Live555Tcp => live555("tcp", &rtsp, &folder),
            Play::Live555Udp => live555("udp", &rtsp, &folder),
        };
        Some(Player { play, recipe: *recipe, client: client?, folder })
    }

    /// Waits until the stream has ended and the player with it; what it received.
    #[track_caller]
    pub fn finish(self) -> Streams {
        let Player { play, recipe, mut client, folder } = self;
        let status = client.wait(super::SOON);
        // GStreamer does not always heed a goodbye, and calls it an error when the connection then ends.
        assert!(status.success() || play.is_gstreamer(), "{play:?}: {status}\n{}", client.output());
        let streams = match play {
            _ if play.is_gstreamer() || play.is_live555() => {
                let mut streams = Streams::new();
                if recipe.audio().is_some() {
                    streams.extend(hashes_of(&recipe, play.is_live555().then_some(ADTS), &folder.join("audio")));
                }
                if let Some(video) = recipe.video() {
                    let mut raw = hashes_of(&recipe, Some(video.raw_format()), &folder.join("video"));
                    raw.values_mut().flat_map(|stream| &mut stream.lines).for_each(|line| line.pts = UNKNOWN);
                    streams.extend(raw);
                }
                streams
            }
            Play::Mpv => hashes(&recipe, &folder.join("out.mkv")),
            _ => framemd5::read(&folder.join("out")),
        };
        let _ = std::fs::remove_dir_all(folder);
        streams
    }
}

/// One file per track: without the other to wait for, none is held back.
fn gst(recipe: &Recipe, protocols: &str, url: &str, folder: &Path) -> Client {
    let mut command = Command::new("gst-launch-1.0");
    command.args([
        "-q",
        "rtspsrc",
        "name=r",
        "latency=200",
        "buffer-mode=none",
        "tls-validation-flags=0",
        &format!("location={url}"),
        &format!("protocols={protocols}"),
    ]);
    let mut branch = |receive: &str, kind: &str| {
        let file = folder.join(kind);
        command.args(["r.", "!", "queue", "!"]).args(receive.split(' ')).args(["!", "filesink"]);
        command.arg(format!("location={}", file.display()));
    };
    if let Some(video) = recipe.video() {
        branch(video.gst_receive(), "video");
    }
    if let Some(audio) = recipe.audio() {
        branch(audio.gst_receive(), "audio");
    }
    Client::start(&mut command)
}

/// The client that `scripts/test.sh` builds out of `tests/e2e/clients/live555.cpp`: one file per track. `None`: it is not there.
fn live555(transport: &str, url: &str, folder: &Path) -> Option<Client> {
    let program = target().join("clients/live555/client");
    if !program.is_file() {
        skip("no live555");
        return None;
    }
    Some(Client::start(Command::new(program).args([url, transport]).arg(folder)))
}

/// What ffmpeg calls AAC with a header on each frame.
pub const ADTS: &str = "aac";

/// The packets of a file as hashes.
#[track_caller]
pub fn hashes(recipe: &Recipe, path: &Path) -> Streams {
    hashes_of(recipe, None, path)
}

/// `format`: of a file that does not say it.
#[track_caller]
pub fn hashes_of(recipe: &Recipe, format: Option<&str>, path: &Path) -> Streams {
    let folder = fresh_folder("hashes");
    let output = folder.join("out");
    let mut command = recipe.ffmpeg().unwrap();
    if let Some(format) = format {
        command.args(["-f", format]);
    }
    command.args(["-copyts", "-i"]).arg(path).args(["-map", "0:v?", "-map", "0:a?", "-c", "copy"]);
    if let Some(video) = recipe.video() {
        command.args(["-bsf:v", video.filter()]);
    }
    let is_ts = path.extension().is_some_and(|extension| extension == "ts");
    if format == Some(ADTS) || is_ts && recipe.audio() == Some(Audio::Aac) {
        command.args(["-bsf:a", "aac_adtstoasc"]);
    }
    Client::start(command.args(["-f", "framemd5"]).arg(&output)).succeed();
    let streams = framemd5::read(&output);
    let _ = std::fs::remove_dir_all(folder);
    streams
}

/// A time of a packet in microseconds.
pub fn micros(stream: &Stream, pts: i64) -> i64 {
    let (numerator, denominator) = stream.time_base.split_once('/').unwrap();
    let (numerator, denominator): (i64, i64) = (numerator.trim().parse().unwrap(), denominator.trim().parse().unwrap());
    pts * 1_000_000 * numerator / denominator
}

/// The time of a packet that has none; ffmpeg may have moved it a little.
const UNKNOWN: i64 = i64::MIN;
const UNKNOWN_MAX: i64 = i64::MIN / 2;

/// What a player must have received of what was sent.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    push: Push,
    play: Play,
    /// Share of the packets of each stream, in percent.
    percent: usize,
    /// How far times may be off a common offset.
    slack_ms: i64,
}

impl Expected {
    /// At least half: some players begin at the second keyframe, and a stream of sound alone is one only after a second.
    pub fn of(push: Push, play: Play) -> Self {
        // GStreamer sends and takes the first packets of its tracks before it says or hears how they belong together.
        let is_late = push.is_gstreamer() || play.is_gstreamer();
        Expected { push, play, percent: 50, slack_ms: if is_late { 100 } else { 20 } }
    }

    /// Of a player that came in the middle of a group that was sent to already: it gets less, but as exactly.
    pub fn late(self) -> Self {
        Expected { percent: 25, ..self }
    }

    /// How many of the last packets of a stream may be missing: those that the publisher did not send, and before them those that the
    /// player did not take. GStreamer takes the distance of the first two AAC frames for that of all. Where sound begins before the
    /// picture, the server puts the first at the picture's beginning, too near to the second: then GStreamer waits with each frame for
    /// the next one, and drops the last.
    fn unheard_max(self, kind: &str, sent: &Stream, audio: Option<Audio>) -> usize {
        let kept = if kind == "audio" { self.push.kept_back(sent, audio) } else { 0 };
        let heard = &sent.lines[..sent.lines.len() - kept];
        let late = if self.play.is_by_datagrams() { said_with_goodbye(kind, sent, heard) } else { 0 };
        let held = usize::from(kind == "audio" && audio == Some(Audio::Aac) && self.play.is_gstreamer());
        kept + late.max(held)
    }
}

/// A player reads the goodbye, which has a port of its own, before the datagrams that came in the same moment. Those are what a
/// publisher from a file sends at once when it is at its end: the last picture, and the sound that waited for one more.
fn said_with_goodbye(kind: &str, sent: &Stream, heard: &[Line]) -> usize {
    const SOUND_MICROS: i64 = 200_000;
    if kind == "video" {
        return 1;
    }
    let end = heard.last().map_or(0, |line| line.pts);
    heard.iter().rev().take_while(|line| micros(sent, end) - micros(sent, line.pts) < SOUND_MICROS).count()
}

/// Fails unless what was seen is an unbroken run of what was sent up to its end, of the same streams, at times that differ by one
/// constant.
#[track_caller]
pub fn assert_run(seen: &Streams, recipe: &Recipe, sent: &Streams, expected: Expected) {
    let who = format!("{:?} to {:?}, {recipe:?}", expected.push, expected.play);
    let kinds = |streams: &Streams| streams.keys().cloned().collect::<Vec<_>>();
    assert_eq!(kinds(seen), kinds(sent), "{who}: the streams");
    // Sound alone counts as a stream after a second of it; what a player is late on a busy machine comes on top.
    let percent = if sent.contains_key("video") { expected.percent } else { expected.percent / 2 };
    let mut times = Vec::new();
    for (kind, seen) in seen {
        let sent = &sent[kind];
        let first = seen.lines.first().unwrap_or_else(|| panic!("{who}: no {kind}"));
        let from = sent.lines.iter().position(|line| line.hash == first.hash);
        let from = from.unwrap_or_else(|| panic!("{who}: the first packet of {kind} was not sent"));
        assert!(
            seen.lines.len() * 100 >= sent.lines.len() * percent,
            "{who}: {} of {} packets of {kind}",
            seen.lines.len(),
            sent.lines.len()
        );
        for (at, line) in seen.lines.iter().enumerate() {
            let Some(original) = sent.lines.get(from + at) else { panic!("{who}: {kind} goes on behind its end") };
            let near = || {
                let seen = seen.lines.iter().skip(at.saturating_sub(2)).take(8);
                seen.map(|line| sent.lines.iter().position(|sent| sent.hash == line.hash)).collect::<Vec<_>>()
            };
            assert_eq!(line.hash, original.hash, "{who}: packet {at} of {kind} is not number {}: {:?}", from + at, near());
            // ffmpeg does not say the time of a first picture before it knows how pictures are reordered.
            if line.pts > UNKNOWN_MAX {
                times.push((kind, at, micros(seen, line.pts), micros(sent, original.pts)));
            }
        }
        let unheard = sent.lines.len() - from - seen.lines.len();
        let unheard_max = expected.unheard_max(kind, sent, recipe.audio());
        assert!(unheard <= unheard_max, "{who}: the last {unheard} packets of {kind} are missing, {unheard_max} may be");
    }
    assert_times(&times, expected, &who);
}

/// Of two frames of AAC at 44.1 kHz.
const OLDER_SOUND_MICROS_MAX: i64 = 50_000;

/// `times`: of packets, as seen and as sent, in microseconds.
#[track_caller]
fn assert_times(times: &[(&String, usize, i64, i64)], expected: Expected, who: &str) {
    let mut offsets: Vec<i64> = times.iter().map(|(_, _, seen, sent)| seen - sent).collect();
    offsets.sort_unstable();
    let offset = offsets[offsets.len() / 2];
    // Players count from zero: what is older than their first packet, they show at zero.
    for (kind, at, seen, sent) in times.iter().filter(|(_, _, _, sent)| sent + offset >= 0) {
        // Who waited for a publisher over RTSP was told that its first picture is the beginning, before the sound came that is a little
        // older; ffmpeg takes the times from reports only behind that picture.
        let is_early = (1..=OLDER_SOUND_MICROS_MAX).contains(&(sent + offset - seen));
        if expected.push != Push::Rtmp && expected.play.is_rtsp() && (kind.as_str(), *at, *seen) == ("video", 0, 0) && is_early {
            continue;
        }
        let difference = seen - sent - offset;
        let near =
            || times.iter().filter(|near| near.0 == *kind && near.1.abs_diff(*at) < 4).map(|near| (near.2, near.3 + offset));
        assert!(
            difference.abs() <= expected.slack_ms * 1000,
            "{who}: packet {at} of {kind} is {difference} µs off; seen and due: {:?}",
            near().collect::<Vec<_>>()
        );
    }
}
