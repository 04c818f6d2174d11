//! The command line of the built binary, as far as it needs no running server.

use std::path::PathBuf;
use std::process::{Command, Output};

fn shardcast(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shardcast")).args(args).env_remove("RUST_LOG").output().expect("the binary runs")
}

/// Exit code, standard output, standard error.
fn said(args: &[&str]) -> (i32, String, String) {
    let output = shardcast(args);
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("no signal"), text(output.stdout), text(output.stderr))
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn version_is_one_line() {
    assert_eq!(said(&["--version"]), (0, format!("shardcast {}\n", env!("CARGO_PKG_VERSION")), String::new()));
}

#[test]
fn help_says_it_all() {
    let (code, help, _) = said(&["--help"]);
    assert_eq!(code, 0);
    for word in [
        "--config",
        "--set",
        "demo",
        "check",
        "RUST_LOG",
        "Exit codes",
        "SIGTERM",
        "SIGHUP",
        "rtmp://",
        "rtsp://",
        "ws://",
        ".flv",
        "index.m3u8",
        "record.rules",
    ] {
        assert!(help.contains(word), "{word} is missing in\n{help}");
    }
    assert!(help.lines().all(|line| line.len() <= 130), "{help}");
}

#[test]
fn check_accepts_the_shipped_configuration() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config.yaml");
    assert_eq!(said(&["check", path]), (0, format!("{path}: ok\n"), String::new()));
}

#[test]
fn check_warns_of_a_platform_that_nobody_can_register_with() {
    let path = file("platform.yaml", "gb28181:\n  enabled: true\n");
    let (code, out, err) = said(&["check", path.to_str().unwrap()]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((code, lines.len(), err.as_str()), (0, 2, ""), "{out}");
    assert!(lines[0].contains("warning: gb28181: there is no password") && lines[1].ends_with(": ok"), "{out}");
}

#[test]
fn check_warns_of_a_folder_that_recordings_cannot_go_to() {
    let path = file("folder.yaml", "record:\n  folder: /dev/null/recordings\n  rules: [{streams: [\"*\"], split_ms: 60000}]\n");
    let (code, out, err) = said(&["check", path.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("warning: record.folder: /dev/null/recordings cannot be a folder: /dev/null is none"), "{out}");
}

#[test]
fn check_names_the_line_and_the_key() {
    let cases = [
        ("range", "viewer:\n  lag_ms_max: 0\n", ":2: viewer.lag_ms_max: must be 1 to 60000"),
        ("type", "server:\n  drain_ms: soon\n", ":2:13: server.drain_ms: invalid type: string \"soon\", expected a whole number"),
        (
            "unknown",
            "server:\n  cores: 2\n",
            ":2:3: server.cores: unknown key, expected one of `runtime`, `shards`, `drain_ms`, `data`",
        ),
        (
            "clash",
            "http:\n  listen: [127.0.0.1:1935]\n",
            ":2: http.listen: 127.0.0.1:1935 is taken by 0.0.0.0:1935 of rtmp.listen",
        ),
    ];
    for (name, text, expected) in cases {
        let path = file(&format!("{name}.yaml"), text);
        let path = path.to_str().unwrap();
        assert_eq!(said(&["check", path]), (1, String::new(), format!("{path}{expected}\n")), "{name}");
    }
    let key = file("empty.pem", "");
    let certificates = [
        ("/nonexistent.pem", "tls: cannot read /nonexistent.pem: No such file or directory (os error 2)"),
        (key.to_str().unwrap(), ""),
    ];
    for (certificate, expected) in certificates {
        let text =
            format!("rtsp:\n  tls_listen: [127.0.0.1:0]\ntls: {{certificate: {certificate}, private_key: {}}}\n", key.display());
        let path = file("tls.yaml", &text);
        let (code, _, complaint) = said(&["check", path.to_str().unwrap()]);
        let wanted = format!("{}: {expected}", path.display());
        assert!(code == 1 && complaint.starts_with(&wanted) && complaint.lines().count() == 1, "{complaint}");
    }
    let absent = said(&["check", "/nonexistent.yaml"]);
    assert_eq!(absent, (1, String::new(), "cannot read /nonexistent.yaml: No such file or directory (os error 2)\n".to_owned()));
}

#[test]
fn a_server_that_cannot_start_says_why_and_exits_with_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let bad = file("bad.yaml", "viewer:\n  merge_ms: 600\n");
    let bad = bad.to_str().unwrap();
    let in_use = format!("control.listen=[{address}]");
    let sip_in_use = format!("gb28181.listen=[{address}]");
    let cases: [(&[&str], String); 5] = [
        (&["--config", "/nonexistent.yaml"], "cannot read /nonexistent.yaml: No such file or directory (os error 2)".to_owned()),
        (&["demo", "--config", bad], format!("{bad}:2: viewer.merge_ms: must be below viewer.lag_ms_max (500)")),
        (&["--set", "viewer.lag=1"], "--set viewer.lag=1: there is no key `viewer.lag`".to_owned()),
        (&["--set", &in_use], format!("control.listen: cannot listen on {address}: Address already in use (os error 98)")),
        (
            &["--set", "gb28181.enabled=true", "--set", &sip_in_use],
            format!("gb28181.listen: cannot listen on {address} over UDP and TCP: Address already in use (os error 98)"),
        ),
    ];
    for (args, expected) in cases {
        let (code, out, err) = said(args);
        assert_eq!((code, out.as_str()), (1, ""), "{args:?}");
        assert_eq!(err.lines().last(), Some(format!("shardcast: {expected}").as_str()), "{args:?}");
    }
}

#[test]
fn a_command_line_without_sense_exits_with_2() {
    let cases: [&[&str]; 6] = [
        &["--colour"],
        &["serve"],
        &["check"],
        &["--config"],
        &["--set", "shards=4"],
        &["check", "a.yaml", "--config", "b.yaml"],
    ];
    for args in cases {
        let (code, out, err) = said(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}");
        assert!(err.starts_with("error: "), "{args:?}: {err}");
    }
}
