//! Starting, and not being able to.

use std::net::{TcpListener, TcpStream};
use std::process::Command;

use crate::harness::flv::VIDEO;
use crate::harness::{Client, Options, Over, Runtime, SOON, Server, Viewer, fresh_folder};

on_both_runtimes!(port_in_use, starts_again_at_once, the_control_plane_speaks_json, the_way_of_datagrams_is_said_once);

/// What it printed, and that it ended with code 1.
fn refuses_to_start(mut command: Command) -> String {
    let mut client = Client::start(&mut command);
    let status = client.wait(SOON);
    let output = client.output();
    assert_eq!(status.code(), Some(1), "{output}");
    output
}

fn port_in_use(runtime: Runtime) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for listener in ["rtmp", "http", "control"] {
        let folder = fresh_folder("taken");
        let options = Options::new(runtime).shards(2).set(&format!("{listener}.listen"), format!("[{address}]"));
        let output = refuses_to_start(options.command(&folder));
        let complaints: Vec<&str> = output.lines().filter(|line| line.starts_with("shardcast: ")).collect();
        assert_eq!(complaints.len(), 1, "{listener}: {output}");
        assert!(complaints[0].contains(listener) && complaints[0].contains(&address.to_string()), "{complaints:?}");
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// The kernel keeps the ports of a process that used io_uring for some milliseconds after its end.
fn starts_again_at_once(runtime: Runtime) {
    // On an address that no client of another test gets, because the ports must stay free for a moment.
    let listeners = ["rtmp", "http", "rtsp", "control"];
    let with = |address_of: &dyn Fn(&str) -> String| {
        let options = Options::new(runtime).shards(2);
        listeners.iter().fold(options, |options, name| options.set(&format!("{name}.listen"), format!("[{}]", address_of(name))))
    };
    let mut server = Server::start(with(&|_| "127.0.0.77:0".to_owned()));
    for round in 0..12 {
        let addresses = listeners.map(|name| (name, server.address(name).to_string()));
        // In order, and as after a crash.
        server.signal(if round % 2 == 0 { libc::SIGTERM } else { libc::SIGKILL });
        server.wait_exit();
        server = Server::start(with(&|name| addresses.iter().find(|(of, _)| *of == name).unwrap().1.clone()));
    }
}

fn the_way_of_datagrams_is_said_once(runtime: Runtime) {
    for (wish, said) in [("auto", ": the kernel "), ("off", "datagrams by sendmmsg: as configured")] {
        let server = Server::start(Options::new(runtime).shards(2).set("rtsp.udp_segmentation", wish));
        let log = server.log();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("datagrams by ")).collect();
        assert_eq!(lines.len(), 1, "{wish}: {log}");
        assert!(lines[0].contains(said), "{wish}: {}", lines[0]);
    }
}

#[test]
fn without_io_uring_auto_takes_epoll_and_says_why() {
    let server = Server::start(Options::auto_without_io_uring().demo().shards(2));
    let log = server.log();
    let reasons: Vec<&str> = log.lines().filter(|line| line.contains("runtime epoll")).collect();
    assert_eq!(reasons.len(), 1, "{log}");
    assert!(reasons[0].contains("io_uring cannot be set up"), "{}", reasons[0]);
    Viewer::open(&server, Over::HttpFlv, "live/demo").wait_frames(VIDEO, 25);
}

#[test]
fn a_bad_configuration_is_refused_with_its_line_and_key() {
    let folder = fresh_folder("check");
    let cases = [
        ("unknown key", "server:\n  shards: 1\n  sharts: 2\n", ["3", "sharts"]),
        ("bad value", "server:\n  shards: many\n", ["2", "shards"]),
        ("bad address", "rtmp:\n  listen: [nowhere]\n", ["2", "listen"]),
        ("out of range", "viewer:\n  lag_ms_max: 0\n", ["2", "lag_ms_max"]),
    ];
    for (name, yaml, words) in cases {
        let file = folder.join("config.yaml");
        std::fs::write(&file, yaml).unwrap();
        let mut check = Command::new(env!("CARGO_BIN_EXE_shardcast"));
        check.arg("check").arg(&file);
        let output = refuses_to_start(check);
        assert_eq!(output.lines().count(), 1, "{name}: {output}");
        assert!(words.iter().all(|word| output.contains(word)), "{name}: {output}");
    }
    let _ = std::fs::remove_dir_all(folder);
}

#[test]
fn many_shards_need_more_locked_memory_for_io_uring() {
    const MIB: u64 = 1024 * 1024;
    let server = Server::start(Options::auto_with_memlock(4 * MIB).shards(8));
    server
        .wait_log("why", |line| line.contains("runtime epoll: the limit on locked memory is 4096 KiB, io_uring needs 16384 KiB"));
    assert_eq!(server.api("shards")["shards"].as_array().unwrap().len(), 8);
    if crate::harness::has_io_uring() {
        let server = Server::start(Options::auto_with_memlock(4 * MIB).shards(2));
        server.wait_log("what", |line| line.contains("runtime io_uring"));
        assert!(server.api("shards")["shards"].as_array().unwrap().iter().all(|shard| shard["answers"] == true));
    }
}

fn the_control_plane_speaks_json(runtime: Runtime) {
    let server = Server::start(Options::new(runtime).shards(3));
    assert!(TcpStream::connect(server.control).is_ok());
    assert_eq!(server.api("shards")["shards"].as_array().unwrap().len(), 3);
    let get = |path: &str| crate::harness::api::request(server.control, "GET", path, &[]);
    assert_eq!(get("/healthz").status, 200);
    for (path, status) in [("/api/v1/streams/live/none", 404), ("/api/v1/nothing", 404), ("/api/v1/sessions?limit=0", 400)] {
        let response = get(path);
        assert_eq!(response.status, status, "{path}");
        assert!(response.json()["error"].is_string(), "{path}");
        assert_eq!(response.header("content-type"), Some("application/json"), "{path}");
    }
}
