//! A publisher over UDP behind a bad network: what is lost, late or sent twice is counted as such, no frame is ever forwarded that is not
//! whole, and those that are whole do not wait longer than `reorder_ms` allows.
//!
//! The publisher, the network and both viewers are our own; the same clip goes through every row at the same time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::bad_network::{BadNetwork, Counts};
use crate::harness::flv::{self, AUDIO, VIDEO};
use crate::harness::media::H264_SLICES_AAC;
use crate::harness::rtp_publisher::{Clip, Report, SentFrame};
use crate::harness::rtsp_viewer::{RtspViewer, Unit};
use crate::harness::{Client, Options, Over, Runtime, SOON, Server, Tag, Viewer, ffmpeg, fresh_folder, missing, wait_for};

on_both_runtimes!(bad_networks);

/// What a frame may take beyond the time that a gap is waited for.
const BEYOND: Duration = Duration::from_millis(10);
/// How long a frame may be held up by whatever else this machine does.
const OTHERS_WORK: Duration = Duration::from_millis(100);
/// A window that a delay of the network never fills, even if this machine pauses now and then.
const WIDE_MS: u64 = 400;

struct Row {
    name: &'static str,
    network: BadNetwork,
    reorder_ms: u64,
    drop_gop: bool,
    markers: bool,
}

const GOOD: BadNetwork = BadNetwork { seed: 3, lost: 0.0, late: 0.0, late_ms_max: 20, twice: 0.0 };
const PLAIN: Row = Row { name: "", network: GOOD, reorder_ms: 50, drop_gop: false, markers: true };

const ROWS: [Row; 7] = [
    Row { name: "loss-1", network: BadNetwork { lost: 0.01, ..GOOD }, ..PLAIN },
    Row { name: "loss-5", network: BadNetwork { lost: 0.05, ..GOOD }, ..PLAIN },
    Row { name: "no-markers", network: BadNetwork { lost: 0.01, ..GOOD }, markers: false, ..PLAIN },
    Row { name: "short-window", network: BadNetwork { lost: 0.05, ..GOOD }, reorder_ms: 10, ..PLAIN },
    Row { name: "drop-gop", network: BadNetwork { lost: 0.01, ..GOOD }, drop_gop: true, ..PLAIN },
    Row { name: "reordered", network: BadNetwork { late: 0.1, twice: 0.05, ..GOOD }, reorder_ms: WIDE_MS, ..PLAIN },
    Row { name: "all", network: BadNetwork { lost: 0.05, late: 0.1, twice: 0.05, ..GOOD }, reorder_ms: WIDE_MS, ..PLAIN },
];

/// A row under way.
struct Run<'a> {
    row: &'a Row,
    server: Server,
    flv: Viewer,
    rtsp: RtspViewer,
}

fn bad_networks(runtime: Runtime) {
    if missing(&["ffmpeg"]) {
        return;
    }
    let tags = H264_SLICES_AAC.tags().unwrap();
    let runs: Vec<Run<'_>> = ROWS.iter().map(|row| row.start(runtime)).collect();
    let witness = Witness::default();
    std::thread::scope(|scope| {
        scope.spawn(|| witness.watch());
        let threads: Vec<_> = runs.into_iter().map(|run| scope.spawn(|| run.finish(&tags, &witness))).collect();
        let ends: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        witness.stop();
        if let Some(panic) = ends.into_iter().find_map(Result::err) {
            std::panic::resume_unwind(panic);
        }
    });
}

impl Row {
    fn start(&self, runtime: Runtime) -> Run<'_> {
        let on_loss = if self.drop_gop { "drop_gop" } else { "pass" };
        // Whoever is slow here is the machine, and no viewer is to skip for it.
        let options = Options::new(runtime).shards(2);
        let server = Server::start(options.set("rtsp.reorder_ms", self.reorder_ms).set("rtsp.on_loss", on_loss));
        let key = self.key();
        let (flv, rtsp) = (Viewer::open(&server, Over::HttpFlv, &key), RtspViewer::open(&server, &key));
        server.wait_sessions("waiting", 2);
        Run { row: self, server, flv, rtsp }
    }

    fn key(&self) -> String {
        format!("live/{}", self.name)
    }

    /// The frames of one kind that are to be forwarded.
    fn forwarded<'a>(&self, sent: &'a [SentFrame], kind: u8) -> Vec<&'a SentFrame> {
        let mut behind_loss = false;
        let mut is_forwarded = |frame: &&SentFrame| {
            let is_whole = frame.whole_at.is_some();
            behind_loss = (behind_loss || frame.lost) && !(is_whole && frame.key);
            is_whole && !(self.drop_gop && kind == VIDEO && behind_loss)
        };
        sent.iter().filter(|frame| frame.kind == kind).filter(&mut is_forwarded).collect()
    }
}

impl Run<'_> {
    fn finish(self, tags: &[Tag], witness: &Witness) {
        let Run { row, server, flv, rtsp } = self;
        server_stall(&server);
        let (publishing, report) = Clip::new(tags, row.markers).publish(&server, &row.key(), row.network);
        let counts = wait_for("all is counted", SOON, || {
            Some(counted(&server, &row.key())).filter(|counts| {
                counts.received + counts.useless >= report.counts.received + report.counts.useless
                    && counts.received + counts.lost >= report.counts.received + report.counts.lost
            })
        });
        publishing.finish();
        let (flv, rtsp) = (flv.wait_over(), rtsp.finish());
        let longest_wait = report.wait_max;
        assert!(longest_wait < Duration::from_millis(row.reorder_ms), "{}: this machine paused for {longest_wait:?}", row.name);
        assert_eq!(counts, report.counts, "{}", row.name);
        let stall = server_stall(&server).max(witness.worst());
        for (viewer, units) in [("HTTP-FLV", flv.units()), ("RTSP", rtsp)] {
            row.check(viewer, &units, &report, stall);
        }
        row.check_decodes(&flv.tags);
    }
}

impl Row {
    fn check(&self, viewer: &str, units: &[Unit], report: &Report, stall: Duration) {
        let who = format!("{} over {viewer}", self.name);
        let (mut late, mut waited) = (Vec::new(), Vec::new());
        for kind in [VIDEO, AUDIO] {
            let seen: Vec<&Unit> = units.iter().filter(|unit| unit.kind == kind).collect();
            let places = if self.markers {
                tail(&seen, &self.forwarded(&report.frames, kind), &who)
            } else {
                some(&seen, &report.frames, kind, &who)
            };
            // The first ones came in a burst when the viewer was let in.
            for (frame, unit) in places.into_iter().zip(&seen).skip(seen.len() / 5) {
                let by = unit.at.saturating_duration_since(frame.whole_at.unwrap());
                late.push(by);
                waited.extend(frame.waits.then_some(by));
            }
        }
        late.sort_unstable();
        waited.sort_unstable();
        let percentile = |percent: f64| late[((late.len() - 1) as f64 * percent / 100.0).round() as usize];
        let [p50, p90, p99, p999] = [50.0, 90.0, 99.0, 99.9].map(percentile);
        let Counts { received, lost, reordered, useless } = report.counts;
        println!(
            "{who}: {received} received, {lost} lost, {reordered} reordered, {useless} useless; {} of {} frames; later by {p50:?} (50 %), \
             {p90:?} (90 %), {p99:?} (99 %), {p999:?} (99.9 %); the machine stood still for {stall:?}",
            units.len(),
            report.frames.len()
        );
        // Half of those that have to wait wait no longer than they should; what the worst suffer is also the machine's doing.
        let allowed = Duration::from_millis(self.reorder_ms) + BEYOND + stall;
        if let Some(median) = waited.get(waited.len() / 2) {
            println!("{who}: {} frames were the first behind a loss, half of them later by {median:?}", waited.len());
            assert!(*median < allowed, "{who}: {} frames waited, half of them longer than {median:?}", waited.len());
        }
        // A sender without markers is known only after some pictures.
        if self.markers {
            assert!(p999 < allowed + OTHERS_WORK, "{who}: {p999:?}");
        }
    }

    /// With `drop_gop` or without a loss a decoder finds nothing to complain about. Else it complains of missing pictures, in many
    /// words: there the frames themselves are compared, and only they.
    fn check_decodes(&self, tags: &[Tag]) {
        if !self.drop_gop && self.network.lost > 0.0 {
            return;
        }
        let folder = fresh_folder("loss");
        let file = folder.join("seen.flv");
        flv::write(&file, tags);
        // Into formats without times: those of what is left have gaps.
        let mut decode = ffmpeg();
        decode.arg("-i").arg(&file);
        decode.args(["-map", "0:v", "-vsync", "passthrough", "-f", "rawvideo", "/dev/null"]);
        decode.args(["-map", "0:a?", "-f", "s16le", "/dev/null"]);
        let output = Client::start(&mut decode).succeed();
        let _ = std::fs::remove_dir_all(folder);
        assert_eq!(output, "", "{}: a decoder says", self.name);
    }
}

/// Fails unless the units are what `expected` ends with, byte for byte; gives the frame of each.
fn tail<'a>(seen: &[&Unit], expected: &[&'a SentFrame], who: &str) -> Vec<&'a SentFrame> {
    assert!(seen.len() * 2 > expected.len(), "{who}: {} of {} frames", seen.len(), expected.len());
    assert!(seen.len() <= expected.len(), "{who}: {} frames, {} were whole", seen.len(), expected.len());
    let expected = &expected[expected.len() - seen.len()..];
    for (at, (unit, frame)) in seen.iter().zip(expected).enumerate() {
        assert!(unit.data == frame.data, "{who}: frame {at} of kind {} of {} is another one", unit.kind, seen.len());
    }
    expected.to_vec()
}

/// Fails unless the units are some of the frames that were whole, byte for byte and in order.
fn some<'a>(seen: &[&Unit], sent: &'a [SentFrame], kind: u8, who: &str) -> Vec<&'a SentFrame> {
    let mut whole = sent.iter().filter(|frame| frame.kind == kind && frame.whole_at.is_some());
    let count = whole.clone().count();
    assert!(seen.len() * 4 > count * 3, "{who}: {} of {count} frames of kind {kind}", seen.len());
    let frame =
        |unit: &&Unit| whole.find(|frame| frame.data == unit.data).unwrap_or_else(|| panic!("{who}: not a frame that was sent"));
    seen.iter().map(frame).collect()
}

/// What the server says of the stream's packets.
fn counted(server: &Server, key: &str) -> Counts {
    let stream = server.stream(key).unwrap();
    let count = |fate: &str| stream["rtp_packets_in"][fate].as_u64().unwrap();
    assert_eq!(count("kernel_drop"), 0, "the kernel's buffer is large enough");
    Counts { received: count("received"), lost: count("lost"), reordered: count("reordered"), useless: count("useless") }
}

/// How late the server's timers were at worst since the last time: not its fault, but the machine's.
fn server_stall(server: &Server) -> Duration {
    let shards = server.api("shards");
    let stalls = shards["shards"].as_array().unwrap().iter().map(|shard| shard["stall_ms_max_recent"].as_f64().unwrap());
    Duration::from_secs_f64(stalls.fold(0.0, f64::max) / 1000.0)
}

/// How late a thread of this machine wakes.
#[derive(Default)]
struct Witness {
    stopped: AtomicBool,
    worst_micros: std::sync::atomic::AtomicU64,
}

impl Witness {
    fn watch(&self) {
        const NAP: Duration = Duration::from_millis(2);
        while !self.stopped.load(Ordering::Relaxed) {
            let began = Instant::now();
            std::thread::sleep(NAP);
            self.worst_micros.fetch_max((began.elapsed() - NAP).as_micros() as u64, Ordering::Relaxed);
        }
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn worst(&self) -> Duration {
        Duration::from_micros(self.worst_micros.load(Ordering::Relaxed))
    }
}
