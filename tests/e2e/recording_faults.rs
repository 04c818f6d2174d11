//! Disks that are full, read-only or frozen, and a process that is killed: viewers notice nothing, and recordings say what is wrong.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use shardcast::protocol::common::random::SplitMix64;

use crate::harness::flv::{self, AUDIO, VIDEO};
use crate::harness::media::{H264_AAC, H264_AAC_HEAVY, Recipe};
use crate::harness::publisher::Streaming;
use crate::harness::recording::ffprobe;
use crate::harness::standstill::Standstill;
use crate::harness::{Lateness, Over, Publisher, Runtime, SOON, Server, Viewer, fresh_folder, missing, skip, wait_for};
use crate::recording::{options, path_of, pictures};
use crate::recording_codecs::in_every_format;

on_both_runtimes!(killed, full, read_only, frozen);

/// A file system of its own; gone when dropped.
pub struct Disk(PathBuf);

impl Disk {
    /// `None`: only root may.
    pub fn mount(size: &str) -> Option<Self> {
        let folder = fresh_folder("disk");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&folder).status();
        mount.is_ok_and(|status| status.success()).then_some(Disk(folder))
    }

    pub fn folder(&self) -> &Path {
        &self.0
    }

    pub fn free_bytes(&self) -> u64 {
        let said = Command::new("stat").args(["--file-system", "--format=%a %S"]).arg(&self.0).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let (blocks, size) = said.trim().split_once(' ').unwrap();
        blocks.parse::<u64>().unwrap() * size.parse::<u64>().unwrap()
    }

    fn remount(&self, how: &str) {
        assert!(Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn publish(server: &Server, recipe: &Recipe) -> (Streaming, Vec<Viewer>) {
    let streaming = Publisher::connect(server, "live/a").stream(recipe.tags().unwrap());
    server.wait_live("live/a");
    (streaming, Over::ALL.map(|over| Viewer::open(server, over, "live/a")).into())
}

/// Ends the stream; every viewer must have got every frame from its first on.
fn end(streaming: Streaming, viewers: Vec<Viewer>) {
    let sent = streaming.finish();
    for viewer in viewers {
        let seen = viewer.wait_end().tags;
        flv::assert_tail(&seen, &sent, VIDEO);
        flv::assert_tail(&seen, &sent, AUDIO);
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

/// How long behind the writing of a fragment the process is killed, in milliseconds: seeded, one in each third of a fragment.
fn kills() -> [u64; 3] {
    const SEED: u64 = 5;
    let mut random = SplitMix64::new(SEED);
    [0, 1, 2].map(|third| third * 333 + random.next() % 333)
}

/// In every format at the same time. A fragment is a second long.
fn killed(runtime: Runtime) {
    if missing(&["ffmpeg", "ffprobe"]) {
        return;
    }
    for behind_ms in kills() {
        let folder = fresh_folder("killed");
        let server = Server::start(in_every_format(runtime, &folder));
        let streaming = Publisher::connect(&server, "live/a").stream(H264_AAC.tags().unwrap());
        server.wait_live("live/a");
        let lateness = Lateness::of(&server, "live/a");
        let frames = || server.recordings("").iter().map(|recording| number(&recording["frames"])).min().unwrap_or(0);
        wait_for("two seconds are written in every format", SOON, || {
            (server.recordings("").len() == 5 && frames() >= 50).then_some(())
        });
        let before = frames();
        let written = wait_for("a fragment is written", SOON, || {
            let all = server.recordings("");
            all.iter().all(|recording| number(&recording["frames"]) > before).then_some(all)
        });
        std::thread::sleep(Duration::from_millis(behind_ms));
        server.signal(libc::SIGKILL);
        let died = Instant::now();
        let (_, sent) = streaming.stop();
        drop(server);
        // What the machine kept from the server was not the server's to lose.
        let stalled = lateness.between(died - Duration::from_secs(2), died).as_secs_f64();
        let last_sent = f64::from(sent.iter().map(|tag| tag.timestamp).max().unwrap()) / 1_000.0;
        let parts: Vec<_> = written.iter().map(|recording| assert_little_lost(recording, &folder, last_sent, stalled)).collect();
        println!("{}: killed {behind_ms} ms behind a fragment: {parts:?} s lost, {stalled} s stalled", runtime.name());
        let server = Server::start(in_every_format(runtime, &folder));
        let recovered = server.wait_recordings(5);
        for recording in &recovered {
            let whole = path_of(&folder, recording);
            assert_eq!(recording["cut_short"], true, "{recording}");
            let then = written.iter().find(|written| written["format"] == recording["format"]).unwrap();
            assert!(number(&recording["frames"]) >= number(&then["frames"]), "{recording}");
            assert!(!part_of(&whole).exists(), "{recording}");
            assert_eq!(pictures(whole.to_str().unwrap()).len() as u64, number(&recording["frames"]), "{recording}");
        }
        drop(server);
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// What a file is called while it is written.
fn part_of(whole: &Path) -> PathBuf {
    whole.with_file_name(format!(".{}.part", whole.file_name().unwrap().to_str().unwrap()))
}

/// A file that the dead process left lacks at most the last fragment, as ffprobe reads it. How much it lacks, in seconds.
fn assert_little_lost(recording: &Value, folder: &Path, last_sent: f64, stalled: f64) -> f64 {
    const FRAGMENT: f64 = 1.0;
    const FRAME: f64 = 0.04;
    let facts = ffprobe(&part_of(&path_of(folder, recording)));
    let lost = last_sent + FRAME - (facts["video"].end - facts["video"].begin);
    assert!(lost <= FRAGMENT + 2.0 * FRAME + stalled, "{recording}: {lost} s are lost, {stalled} s stalled: {facts:?}");
    lost
}

fn full(runtime: Runtime) {
    if missing(&["ffmpeg", "ffprobe"]) {
        return;
    }
    // By the bound, and by the system.
    for (free_bytes_min, why) in [(1 << 20, "less than record.free_bytes_min"), (0, "No space left on device")] {
        let Some(disk) = Disk::mount("4m") else { return skip("only root can mount a small disk") };
        let ballast = disk.0.join("ballast");
        std::fs::write(&ballast, vec![0; 2_200_000]).unwrap();
        let options =
            options(runtime, &disk.0.join("r"), "fmp4").set("record.retry_ms", 500).set("record.free_bytes_min", free_bytes_min);
        let server = Server::start(options);
        let (streaming, viewers) = publish(&server, &H264_AAC_HEAVY);
        let failed = server.wait_recorder("failed");
        let said = failed["last_error"].as_str().unwrap().to_owned();
        assert!(said.contains(why), "{said}");
        std::fs::remove_file(&ballast).unwrap();
        server.wait_recorder("recording");
        wait_for("it goes on", SOON, || (number(&server.recorder()["bytes"]) > number(&failed["bytes"])).then_some(()));
        end(streaming, viewers);
        let recordings = server.wait_recordings(1);
        let cut_short = recordings.iter().find(|recording| recording["cut_short"] == true).expect("one was cut short");
        let frames = pictures(path_of(&disk.0.join("r"), cut_short).to_str().unwrap()).len() as u64;
        assert_eq!(cut_short["frames"], frames, "{cut_short}");
    }
}

fn read_only(runtime: Runtime) {
    if missing(&["ffmpeg", "ffprobe"]) {
        return;
    }
    let Some(disk) = Disk::mount("64m") else { return skip("only root can mount a disk") };
    disk.remount("ro");
    let server = Server::start(options(runtime, &disk.0.join("r"), "fmp4").set("record.retry_ms", 500));
    let (streaming, viewers) = publish(&server, &H264_AAC);
    let failed = server.wait_recorder("failed");
    assert!(failed["last_error"].as_str().unwrap().contains("Read-only file system"), "{failed}");
    assert!(number(&failed["failures"]) >= 1);
    disk.remount("rw");
    let recording = server.wait_recorder("recording");
    assert!(recording["last_error"].as_str().unwrap().contains("Read-only file system"), "it still says what was: {recording}");
    wait_for("it is written", SOON, || server.recordings("").first().filter(|found| number(&found["bytes"]) > 0).map(|_| ()));
    end(streaming, viewers);
    let recording = server.wait_recordings(1).remove(0);
    assert!(!pictures(path_of(&disk.0.join("r"), &recording).to_str().unwrap()).is_empty());
}

/// p99.99 of all viewers, in milliseconds, and packets.
fn latency(server: &Server) -> (f64, u64) {
    let all = &server.stream("live/a").unwrap()["latency"]["all"];
    (all["p99_99_ms"].as_f64().unwrap(), number(&all["count"]))
}

/// Two servers at the same time, so that what the machine does beside happens to both: of one the thread that writes is held.
fn frozen(runtime: Runtime) {
    if missing(&["ffmpeg", "ffprobe"]) {
        return;
    }
    let start = || {
        let folder: PathBuf = fresh_folder("frozen");
        let server = Server::start(options(runtime, &folder, "fmp4").set("record.queue_bytes_max", 1 << 20));
        let (streaming, viewers) = publish(&server, &H264_AAC_HEAVY);
        server.wait_recorder("recording");
        (folder, server, streaming, viewers)
    };
    let pair = [start(), start()];
    let [(_, free, ..), (_, held, ..)] = &pair;
    let Some(standstill) = Standstill::of(held.pid(), "disk-writer") else { return skip("a thread cannot be held") };
    let dropping = held.wait_recorder("dropping");
    assert!(number(&dropping["gops_dropped"]) > 0, "{dropping}");
    // Long enough for a thousand packets to each viewer.
    let before = [latency(free).1, latency(held).1];
    for (server, before) in [free, held].into_iter().zip(before) {
        wait_for("the stream goes on", Duration::from_secs(90), || (latency(server).1 > before + 3_000).then_some(()));
    }
    assert_eq!(free.recorder()["state"], "recording");
    assert_eq!(held.recorder()["state"], "dropping");
    assert!(held.metric("shardcast_disk_queue_bytes", "") <= f64::from(1 << 20));
    drop(standstill);
    held.wait_recorder("recording");
    let p99_99_ms = [latency(free).0, latency(held).0];
    let held_pid = held.pid();
    for (folder, server, streaming, viewers) in pair {
        end(streaming, viewers);
        let recording = server.wait_recordings(1).remove(0);
        let file = path_of(&folder, &recording);
        assert_eq!(pictures(file.to_str().unwrap()).len() as u64, number(&recording["frames"]), "{recording}");
        assert_eq!(number(&recording["gops_dropped"]) > 0, server.pid() == held_pid, "{recording}");
        let _ = std::fs::remove_dir_all(folder);
    }
    println!(
        "{}: p99.99 {:.2} ms with a disk that works, {:.2} ms with one that stands",
        runtime.name(),
        p99_99_ms[0],
        p99_99_ms[1]
    );
    assert!(p99_99_ms[1] <= 3.0 * p99_99_ms[0] + 20.0, "{p99_99_ms:?}");
}
