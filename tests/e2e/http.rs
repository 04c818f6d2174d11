//! What plain HTTP clients see, with curl.

use std::process::Command;

use crate::harness::media::H264_AAC;
use crate::harness::{Client, Options, Publisher, Runtime, Server, missing};

on_both_runtimes!(curl, cors_of_one_site);

/// Status line and headers in lower case; `-m 2` ends a stream that has no end.
fn head_of(arguments: &[&str]) -> String {
    let mut curl = Command::new("curl");
    let mut curl = Client::start(curl.args(["-s", "-m", "2", "-o", "/dev/null", "-D", "-"]).args(arguments));
    let status = curl.wait(crate::harness::SOON);
    // 28: the time is over, which is how a live stream ends here.
    assert!(matches!(status.code(), Some(0 | 28)), "curl {arguments:?}: {status}");
    curl.output().to_ascii_lowercase()
}

fn curl(runtime: Runtime) {
    if missing(&["curl", "ffmpeg"]) {
        return;
    }
    let server = Server::start(Options::new(runtime));
    let _streaming = Publisher::connect(&server, "live/curl").stream(H264_AAC.tags().unwrap());
    server.wait_live("live/curl");
    let url = server.flv_url("live/curl");
    let absent = format!("http://{}/nothing", server.http);
    let cases: [(&str, &[&str], &[&str]); 7] = [
        ("GET", &[&url], &["http/1.1 200", "content-type: video/x-flv", "access-control-allow-origin: *"]),
        ("Range is ignored", &["-r", "100-200", &url], &["http/1.1 200", "content-type: video/x-flv"]),
        ("HEAD", &["-I", &url], &["http/1.1 200", "content-type: video/x-flv", "access-control-allow-origin: *"]),
        (
            "OPTIONS",
            &["-X", "OPTIONS", "-H", "Origin: http://a.example", "-H", "Access-Control-Request-Method: GET", &url],
            &["http/1.1 204", "access-control-allow-methods: get, head, options", "access-control-allow-origin: *"],
        ),
        ("POST", &["-X", "POST", "-d", "x", &url], &["http/1.1 405", "allow: get, head, options"]),
        ("nothing there", &[&absent], &["http/1.1 404", "content-type: application/json"]),
        ("HTTP/1.0", &["-0", &url], &["http/1.1 200", "content-type: video/x-flv"]),
    ];
    for (name, arguments, expected) in cases {
        let head = head_of(arguments);
        for line in expected {
            assert!(head.lines().any(|said| said.starts_with(line)), "{name}: no {line:?} in\n{head}");
        }
        assert!(!head.contains("content-range"), "{name}");
    }
}

fn cors_of_one_site(runtime: Runtime) {
    if missing(&["curl"]) {
        return;
    }
    let url = |server: &Server| server.flv_url("live/none");
    let one = Server::start(Options::new(runtime).set("viewer.wait_ms", 0).set("http.allow_origin", "https://a.example"));
    assert!(head_of(&[&url(&one)]).contains("access-control-allow-origin: https://a.example"));
    let none = Server::start(Options::new(runtime).set("viewer.wait_ms", 0).set("http.allow_origin", "\"\""));
    assert!(!head_of(&[&url(&none)]).contains("access-control-allow-origin"));
}
