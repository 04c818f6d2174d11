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
        let is_test_file = self.path.ends_with("tests.rs") || self.path.ends_with("/sim.rs");
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
    forbid_but(folders, forbidden, &[], why);
}

/// As [`forbid`], where what begins with one of `allowed` does not count.
#[track_caller]
fn forbid_but(folders: &[&str], forbidden: &[&str], allowed: &[&str], why: &str) {
    let mut faults = Vec::new();
    for source in sources("src") {
        if !folders.iter().any(|folder| source.path.starts_with(folder)) {
            continue;
        }
        for (number, line) in source.production() {
            let line = allowed.iter().fold(line.to_owned(), |line, allowed| line.replace(allowed, ""));
            for word in forbidden.iter().filter(|word| line.contains(**word)) {
                faults.push(format!("{}:{number}: {word}: {why}", source.path));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn imports_go_one_way() {
    let cases: [(&[&str], &[&str]); 9] = [
        (
            &["src/media/"],
            &["crate::format", "crate::session", "crate::protocol", "crate::hub", "crate::io", "crate::shard", "crate::control"],
        ),
        (&["src/format/"], &["crate::session", "crate::protocol", "crate::hub", "crate::io", "crate::shard", "crate::control"]),
        (&["src/media/", "src/format/"], &["crate::config"]),
        (&["src/session.rs"], &["crate::protocol", "crate::hub", "crate::io", "crate::shard", "crate::control"]),
        (&["src/protocol/"], &["crate::hub", "crate::io", "crate::shard", "crate::control"]),
        (&["src/hub/"], &["crate::protocol", "crate::io", "crate::shard", "crate::control"]),
        (&["src/io/"], &["crate::format", "crate::session", "crate::protocol", "crate::hub", "crate::shard", "crate::control"]),
        (&["src/media/", "src/format/", "src/session.rs", "src/protocol/", "src/hub/", "src/io/"], &["crate::disk"]),
        (&["src/disk/"], &["crate::hub", "crate::shard", "crate::control"]),
    ];
    for (folders, forbidden) in cases {
        forbid(folders, forbidden, "imports go media ◀ format ◀ session ◀ protocol, format ◀ hub, and io knows none of them");
    }
    forbid_but(&["src/control/"], &["crate::io"], &["crate::io::tls"], "control hands over certificates and opens nothing else");
}

#[test]
fn protocols_do_not_know_each_other() {
    let protocols = ["rtmp", "http", "hls", "rtsp", "gb28181", "record", "clip"];
    for protocol in protocols {
        let others: Vec<String> =
            protocols.iter().filter(|other| **other != protocol).map(|other| format!("protocol::{other}")).collect();
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        forbid(&[&format!("src/protocol/{protocol}/")], &others, "what two protocols share belongs into protocol/common");
    }
    forbid(
        &["src/protocol/common/"],
        &[
            "protocol::rtmp",
            "protocol::http",
            "protocol::hls",
            "protocol::rtsp",
            "protocol::gb28181",
            "protocol::record",
            "super::super::rtmp",
        ],
        "common knows no protocol",
    );
}

#[test]
fn the_core_knows_no_protocol() {
    let names = ["rtmp", "Rtmp", "RTMP", "http", "Http", "rtsp", "websocket", "flv", "gb28181", "Gb28181"];
    forbid(&["src/hub/", "src/io/"], &names, "hub and io serve any protocol");
    forbid(
        &["src/shard/"],
        &["config.rtmp", "config.http", "config.rtsp", "config.rtp", "config.gb28181", "protocol::rtsp", "protocol::gb28181"],
        "the shards serve any protocol",
    );
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
    let no_locks = without(&["src/hub/directory.rs", "src/io/tls.rs", "src/control/", "src/disk/index.rs"]);
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
        "rtp_framing",
        "ps",
        "ps_roundtrip",
        "ts",
        "ts_roundtrip",
        "gb28181_cascade",
        "rtp_receiver",
        "manscdp",
        "gb28181_sdp",
        "gb28181_devices",
        "gb28181_platform",
        "sip_message",
        "sip_transaction",
        "mp4",
    ];
    for target in needed {
        assert!(root.join(format!("fuzz/fuzz_targets/{target}.rs")).exists(), "no fuzz target {target}");
    }
}

/// What docs/FEATURES.md says before the name of a unit test, and where that stands.
const SHORT_NAMES: [(&str, &str); 4] =
    [("rtmp ", "src/protocol/rtmp"), ("http ", "src/protocol/http"), ("shard ", "src/shard"), ("flv_mux ", "src/format/flv_mux")];

/// Where a test stands that docs/FEATURES.md names, as the beginning of a path, and its path inside. `None`: not the name of a test.
fn named_test(name: &str) -> Option<(String, Vec<&str>)> {
    if name.contains('…') {
        return None;
    }
    for (short, place) in SHORT_NAMES {
        if let Some(test) = name.strip_prefix(short) {
            return Some((place.to_owned(), vec![test]));
        }
    }
    let is_e2e = name.starts_with("e2e ");
    let segments: Vec<&str> = name.trim_start_matches("e2e ").split("::").collect();
    let is_name = |segment: &&str| !segment.is_empty() && segment.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_'));
    if !segments.iter().all(is_name) {
        return None;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if is_e2e || segments.len() > 1 && !root.join("src").join(segments[0]).is_dir() {
        return Some((format!("tests/e2e/{}", segments[0]), segments[1..].to_vec()));
    }
    if segments.len() > 1 {
        let inside = segments.iter().position(|segment| segment.ends_with("tests")).unwrap_or(segments.len() - 1);
        return Some((format!("src/{}", segments[..inside].join("/")), segments[inside..].to_vec()));
    }
    // The name of a test is a sentence: one word alone is something else.
    segments[0].contains('_').then(|| (String::new(), segments))
}

impl Source {
    /// Whether it stands at `place`, which is a file without its ending, or a folder.
    fn is_at(&self, place: &str) -> bool {
        place.is_empty() || self.path.strip_prefix(place).is_some_and(|rest| rest.starts_with(['.', '/']))
    }

    /// Whether there is a test of this name, made by `#[test]` or by the macro of the end-to-end tests.
    fn has_test(&self, name: &str) -> bool {
        let macros = self.text.split("on_both_runtimes!(").skip(1).filter_map(|rest| rest.split_once(");"));
        let mut on_both = macros.flat_map(|(names, _)| names.split(',')).map(str::trim);
        let marked = self.text.split("#[test]\n").skip(1);
        let mut marked = marked.filter_map(|rest| rest.trim_start().strip_prefix("fn ")?.split_once('('));
        on_both.any(|listed| listed == name) || marked.any(|(marked, _)| marked == name)
    }

    /// Whether it is the module `inside` of `place`, or declares it.
    fn has_tests(&self, place: &str, inside: &[&str]) -> bool {
        let declares = self.path == format!("{place}.rs") || self.path == format!("{place}/mod.rs");
        self.path == format!("{place}/{}.rs", inside.join("/"))
            || matches!(inside, [module] if declares && self.text.contains(&format!("mod {module} {{")))
    }
}

#[test]
fn features_name_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/FEATURES.md")).unwrap();
    let all: Vec<Source> = sources("tests/e2e").into_iter().chain(sources("src")).collect();
    let mut checked = 0;
    for name in page.split('`').skip(1).step_by(2) {
        let Some((place, inside)) = named_test(name) else { continue };
        let mut there = all.iter().filter(|source| source.is_at(&place));
        let exists = match inside.last() {
            None => there.next().is_some(),
            Some(test) => there.any(|source| source.has_test(test) || source.has_tests(&place, &inside)),
        };
        assert!(exists, "docs/FEATURES.md names {name}");
        checked += 1;
    }
    assert!(checked > 100, "docs/FEATURES.md names {checked} tests only");
}

#[test]
fn names_of_tests_are_told_from_other_words() {
    let cases = [
        ("e2e pull::one_shard", Some("tests/e2e/pull: one_shard")),
        ("pull::epoll::one_shard", Some("tests/e2e/pull: epoll::one_shard")),
        ("e2e rtsp", Some("tests/e2e/rtsp: ")),
        ("rtmp amf3_envelopes", Some("src/protocol/rtmp: amf3_envelopes")),
        ("media::timeline::tests", Some("src/media/timeline: tests")),
        ("format::flv::tests::files_of_ffmpeg", Some("src/format/flv: tests::files_of_ffmpeg")),
        ("files_of_ffmpeg", Some(": files_of_ffmpeg")),
        ("sendmsg", None),
        ("cargo test --test e2e pull::", None),
    ];
    for (name, expected) in cases {
        let found = named_test(name).map(|(place, inside)| format!("{place}: {}", inside.join("::")));
        assert_eq!(found.as_deref(), expected, "{name}");
    }
}

#[test]
fn the_architecture_page_stays_short() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lines = fs::read_to_string(root.join("docs/ARCHITECTURE.md")).unwrap().lines().count();
    assert!(lines <= 300, "docs/ARCHITECTURE.md has {lines} lines");
}
