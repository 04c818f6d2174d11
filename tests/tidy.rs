//! The house rules that a test can hold: which folder may import which, what protocol code may not touch, and what every file says
//! of itself. Reads the sources as text.

use std::fs;
use std::path::{Path, PathBuf};

struct Source {
    /// Relative to the repository, with slashes.
    path: String,
    text: String,
}

impl Source {
    /// Lines of code outside comments and strings of documentation, with their numbers.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(at, line)| (at + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// As [`Source::code`], up to the file's tests.
    fn production(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_test_file = self.path.ends_with("/tests.rs") || self.path.ends_with("/sim.rs");
        self.code().take_while(move |(_, line)| !is_test_file && !line.starts_with("#[cfg(test)]"))
    }
}

fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
                found.push(Source { path, text });
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has no sources");
    found
}

/// Fails with every place where `forbidden` stands in the production code of files below one of `folders`.
#[track_caller]
fn forbid(folders: &[&str], forbidden: &[&str], why: &str) {
    let mut faults = Vec::new();
    for source in sources("src") {
        if !folders.iter().any(|folder| source.path.starts_with(folder)) {
            continue;
        }
        for (number, line) in source.production() {
            for word in forbidden.iter().filter(|word| line.contains(**word)) {
                faults.push(format!("{}:{number}: {word}: {why}", source.path));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn imports_go_one_way() {
    let cases: [(&[&str], &[&str]); 6] = [
        (
            &["src/media/"],
            &["crate::format", "crate::session", "crate::protocol", "crate::hub", "crate::io", "crate::shard", "crate::control"],
        ),
        (&["src/format/"], &["crate::session", "crate::protocol", "crate::hub", "crate::io", "crate::shard", "crate::control"]),
        (&["src/session.rs"], &["crate::protocol", "crate::hub", "crate::io", "crate::shard", "crate::control"]),
        (&["src/protocol/"], &["crate::hub", "crate::io", "crate::shard", "crate::control"]),
        (&["src/hub/"], &["crate::protocol", "crate::io", "crate::shard", "crate::control"]),
        (&["src/io/"], &["crate::format", "crate::session", "crate::protocol", "crate::hub", "crate::shard", "crate::control"]),
    ];
    for (folders, forbidden) in cases {
        forbid(folders, forbidden, "imports go media ◀ format ◀ session ◀ protocol, format ◀ hub, and io knows none of them");
    }
}

#[test]
fn protocols_do_not_know_each_other() {
    let protocols = ["rtmp", "http", "rtsp", "clip"];
    for protocol in protocols {
        let others: Vec<String> =
            protocols.iter().filter(|other| **other != protocol).map(|other| format!("protocol::{other}")).collect();
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        forbid(&[&format!("src/protocol/{protocol}/")], &others, "what two protocols share belongs into protocol/common");
    }
    forbid(
        &["src/protocol/common/"],
        &["protocol::rtmp", "protocol::http", "protocol::rtsp", "super::super::rtmp"],
        "common knows no protocol",
    );
}

#[test]
fn the_core_knows_no_protocol() {
    let names = ["rtmp", "Rtmp", "RTMP", "http", "Http", "rtsp", "websocket", "flv"];
    forbid(&["src/hub/", "src/io/"], &names, "hub and io serve any protocol");
}

#[test]
fn protocol_and_format_code_is_sans_io() {
    let folders = ["src/media/", "src/format/", "src/protocol/", "src/session.rs"];
    let forbidden = [
        "Instant::now",
        "SystemTime",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "async fn",
        ".await",
        "Mutex",
        "RwLock",
        "std::thread",
        "thread::spawn",
        "tokio",
        "glommio",
        "flume",
        "libc::",
    ];
    forbid(&folders, &forbidden, "bytes and the time go in, outputs come out");
}

#[test]
fn runtimes_stay_in_their_folders() {
    let all = [
        "src/media/",
        "src/format/",
        "src/protocol/",
        "src/session.rs",
        "src/hub/",
        "src/shard/",
        "src/config",
        "src/main.rs",
        "src/cli",
    ];
    forbid(&all, &["tokio::", "glommio::"], "only io and control name a runtime");
    forbid(&["src/control/"], &["glommio::"], "glommio belongs to io");
}

#[test]
fn locks_and_clocks_stay_where_they_are_allowed() {
    let paths: Vec<String> = sources("src").into_iter().map(|source| source.path).collect();
    let without = |allowed: &[&str]| -> Vec<String> {
        paths.iter().filter(|path| !allowed.iter().any(|folder| path.starts_with(folder))).cloned().collect()
    };
    let no_locks = without(&["src/hub/directory.rs", "src/io/tls.rs", "src/control/"]);
    forbid(
        &no_locks.iter().map(String::as_str).collect::<Vec<_>>(),
        &["Mutex<", "RwLock<"],
        "shards share nothing but the directory",
    );
    let no_clock = without(&["src/io/", "src/control/"]);
    forbid(
        &no_clock.iter().map(String::as_str).collect::<Vec<_>>(),
        &["Instant::now", "SystemTime::now"],
        "the clock is read in io",
    );
}

#[test]
fn every_file_says_what_it_is() {
    let folders = ["src", "tests", "loadtest", "benches", "fuzz/src", "fuzz/fuzz_targets"];
    for source in folders.into_iter().flat_map(sources) {
        let header = source.text.lines().find(|line| !line.starts_with("#!["));
        assert!(header.is_some_and(|line| line.starts_with("//! ")), "{}: begins without a //! header", source.path);
    }
}

#[test]
fn files_and_lines_stay_readable() {
    for source in sources("src").into_iter().chain(sources("tests")).chain(sources("loadtest")) {
        let lines = source.text.lines().count();
        assert!(lines <= 1_000, "{}: {lines} lines; one subject a file", source.path);
    }
}

#[test]
fn nothing_is_left_open() {
    for source in sources("src").into_iter().chain(sources("loadtest")) {
        for (number, line) in source.code() {
            for word in ["todo!(", "unimplemented!(", "dbg!("] {
                assert!(!line.contains(word), "{}:{number}: {word}", source.path);
            }
        }
        for (number, line) in source.text.lines().enumerate() {
            for word in ["TODO", "FIXME", "XXX"] {
                assert!(!line.contains(word), "{}:{}: {word}", source.path, number + 1);
            }
        }
    }
}

#[test]
fn every_parser_and_session_has_a_fuzz_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
    for target in fs::read_dir(root.join("fuzz/fuzz_targets")).unwrap() {
        let path = target.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(manifest.contains(&format!("\"{name}\"")), "fuzz target {name} is not in fuzz/Cargo.toml");
    }
    let needed = [
        "amf0",
        "flv",
        "h264",
        "h265",
        "rtmp_chunk",
        "rtmp_handshake",
        "rtmp_session",
        "http_session",
        "websocket",
        "rtsp_message",
        "rtsp_session",
        "rtsp_transport",
        "sdp",
        "digest",
        "rtcp",
        "rtp_header",
        "rtp_h264",
        "rtp_h265",
        "rtp_aac",
        "rtp_latm",
        "rtp_video",
        "rtp_demux",
        "rtp_roundtrip",
    ];
    for target in needed {
        assert!(root.join(format!("fuzz/fuzz_targets/{target}.rs")).exists(), "no fuzz target {target}");
    }
}

#[test]
fn features_name_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/FEATURES.md")).unwrap();
    let e2e = sources("tests/e2e");
    let names = |source: &Source, test: &str| source.text.contains(&format!("fn {test}("));
    let mut checked = 0;
    for name in page.split('`').filter_map(|piece| piece.strip_prefix("e2e ")) {
        let Some((module, test)) = name.split_once("::").filter(|(_, test)| !test.is_empty()) else { continue };
        let path = format!("tests/e2e/{module}.rs");
        assert!(e2e.iter().any(|source| source.path == path && names(source, test)), "docs/FEATURES.md names {name}");
        checked += 1;
    }
    assert!(checked > 20, "docs/FEATURES.md names {checked} end-to-end tests only");
}

#[test]
fn the_architecture_page_stays_short() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lines = fs::read_to_string(root.join("docs/ARCHITECTURE.md")).unwrap().lines().count();
    assert!(lines <= 300, "docs/ARCHITECTURE.md has {lines} lines");
}
