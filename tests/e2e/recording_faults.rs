//! Disks that are full, read-only or frozen, and a process that is killed: viewers notice nothing, and recordings say what is wrong.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::harness::flv::{self, AUDIO, VIDEO};
use crate::harness::media::{H264_AAC, H264_AAC_HEAVY, Recipe};
use crate::harness::publisher::Streaming;
use crate::harness::recording::ffprobe;
use crate::harness::standstill::Standstill;
use crate::harness::{Over, Publisher, Runtime, SOON, Server, Viewer, fresh_folder, missing, skip, wait_for};
use crate::recording::{options, path_of, pictures};

on_both_runtimes!(killed, full, read_only, frozen);

/// A file system of its own; gone when dropped.
struct Disk(PathBuf);

impl Disk {
    /// `None`: only root may.
    fn mount(size: &str) -> Option<Self> {
        let folder = fresh_folder("disk");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&folder).status();
        mount.is_ok_and(|status| status.success()).then_some(Disk(folder))
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

fn killed(runtime: Runtime) {
    if missing(&["ffmpeg", "ffprobe"]) {
        return;
    }
    for format in ["fmp4", "mp4", "flv", "ts", "hls"] {
        let folder = fresh_folder("killed");
        let server = Server::start(options(runtime, &folder, format));
        let streaming = Publisher::connect(&server, "live/a").stream(H264_AAC.tags().unwrap());
        let written = wait_for("some seconds are written", SOON, || {
            server.recordings("").into_iter().find(|recording| recording["frames"].as_u64() >= Some(75))
        });
        server.signal(libc::SIGKILL);
        let (_, sent) = streaming.stop();
        drop(server);
        let last_sent = f64::from(sent.iter().map(|tag| tag.timestamp).max().unwrap()) / 1_000.0;
        let whole = path_of(&folder, &written);
        let part = whole.with_file_name(format!(".{}.part", whole.file_name().unwrap().to_str().unwrap()));
        let facts = ffprobe(&part);
        let lost = last_sent - (facts["video"].end - facts["video"].begin);
        // What was gathered, and what was under way when the process died.
        assert!(lost <= 1.0 + 1.0, "{format}: {lost} s are lost: {facts:?}");
        let server = Server::start(options(runtime, &folder, format));
        let recovered = server.wait_recordings(1).remove(0);
        assert_eq!(recovered["cut_short"], true, "{recovered}");
        assert_eq!(recovered["frames"], facts["video"].frames, "{format}: {recovered}");
        assert!(number(&recovered["frames"]) >= number(&written["frames"]));
        assert!(!part.exists());
        assert_eq!(pictures(whole.to_str().unwrap()).len() as u64, facts["video"].frames, "{format}");
        println!("{format}: killed, {:.0} ms lost, {} frames kept", 1_000.0 * lost, recovered["frames"]);
        let _ = std::fs::remove_dir_all(folder);
    }
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
    for (folder, server, streaming, viewers) in pair {
        end(streaming, viewers);
        let recording = server.wait_recordings(1).remove(0);
        let file = path_of(&folder, &recording);
        assert_eq!(pictures(file.to_str().unwrap()).len() as u64, number(&recording["frames"]), "{recording}");
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
