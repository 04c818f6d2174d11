//! RTSP over TLS, and who may publish and play over every protocol: real clients with real passwords.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::api::request;
use crate::harness::media::H264_PLAIN_AAC;
use crate::harness::rtsp::{Expected, Play, Player, Push, assert_run, hashes};
use crate::harness::{Client, Options, Runtime, SOON, Server, ffmpeg, fresh_folder, missing, wait_for};

on_both_runtimes!(tls, certificate_is_renewed, users_over_rtsp, users_over_rtmp_and_http);

/// A self-signed certificate for `name`, and its key.
fn make_certificate(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", &format!("/CN={name}")]);
    Client::start(command.arg("-keyout").arg(&key).arg("-out").arg(&certificate)).succeed();
    (certificate, key)
}

fn with_tls(runtime: Runtime, (certificate, key): &(PathBuf, PathBuf)) -> Options {
    let options = Options::new(runtime).shards(2).set("viewer.wait_ms", 40_000).set("rtsp.tls_listen", "['127.0.0.1:0']");
    options.set("tls.certificate", certificate.display()).set("tls.private_key", key.display())
}

fn tls(runtime: Runtime) {
    if missing(&["ffmpeg", "gst-launch-1.0", "openssl"]) {
        return;
    }
    let folder = fresh_folder("tls");
    let server = Server::start(with_tls(runtime, &make_certificate(&folder, "first")));
    let sent = hashes(&H264_PLAIN_AAC, &H264_PLAIN_AAC.file().unwrap());
    let mut plain = ffmpeg();
    let in_the_clear = format!("rtsp://{}/live/a", server.address("rtsps"));
    assert!(!Client::start(plain.args(["-i", &in_the_clear, "-f", "null", "-"])).wait(SOON).success());
    server.wait_log("who does not speak TLS is named", |line| line.contains(" TLS: ") && line.ends_with("(tls_failed)"));
    let plays = [Play::FfmpegTls, Play::GstTls, Play::FfmpegTcp];
    let players = plays.map(|play| (play, Player::start(play, &H264_PLAIN_AAC, &server, "live/a").unwrap()));
    server.wait_sessions("waiting", players.len());
    let publisher = H264_PLAIN_AAC.publish(Push::FfmpegTls, &server, "live/a").unwrap();
    Push::FfmpegTls.finish(publisher, &server, "live/a");
    for (play, player) in players {
        assert_run(&player.finish(), &H264_PLAIN_AAC, &sent, Expected::of(Push::FfmpegTls, play));
    }
    let _ = std::fs::remove_dir_all(folder);
}

/// What the server shows to a new connection.
fn shown_name(server: &Server) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &server.address("rtsps").to_string()]);
    Client::start(&mut command).succeed()
}

fn certificate_is_renewed(runtime: Runtime) {
    if missing(&["ffmpeg", "openssl"]) {
        return;
    }
    let folder = fresh_folder("renewed");
    let server = Server::start(with_tls(runtime, &make_certificate(&folder, "first")));
    assert!(shown_name(&server).contains("CN = first"));
    let publisher = H264_PLAIN_AAC.publish(Push::FfmpegTls, &server, "live/a").unwrap();
    let before = server.wait_live("live/a")["publisher"]["session"].clone();
    make_certificate(&folder, "second");
    server.signal(libc::SIGHUP);
    wait_for("new connections get the new certificate", SOON, || shown_name(&server).contains("CN = second").then_some(()));
    assert_eq!(server.wait_live("live/a")["publisher"]["session"], before, "the connection that was there goes on");
    std::fs::write(folder.join("certificate.pem"), "broken").unwrap();
    server.signal(libc::SIGHUP);
    server.wait_log("the broken certificate is refused", |line| line.contains("the old certificate stays in use"));
    assert!(shown_name(&server).contains("CN = second"));
    publisher.succeed();
    let _ = std::fs::remove_dir_all(folder);
}

const USERS: &str =
    "[{name: cam, password: 's3cret', publish: ['live/*']}, {name: eve, password: 'pass word', play: ['live/*']}]";

fn with_users(runtime: Runtime) -> Server {
    Server::start(Options::new(runtime).shards(2).set("auth.users", USERS).set("viewer.wait_ms", 40_000))
}

fn users_over_rtsp(runtime: Runtime) {
    if missing(&["ffmpeg", "gst-launch-1.0"]) {
        return;
    }
    let server = with_users(runtime);
    let sent = hashes(&H264_PLAIN_AAC, &H264_PLAIN_AAC.file().unwrap());
    let plays = [Play::FfmpegTcp, Play::FfmpegUdp, Play::FfmpegTunnel, Play::GstTcp, Play::Mpv];
    let as_eve = |play| Player::start_as(play, &H264_PLAIN_AAC, &server, "live/a", Some("eve:pass%20word")).unwrap();
    let players = plays.map(|play| (play, as_eve(play)));
    server.wait_sessions("waiting", players.len());
    for refused in ["", "eve:wrong@", "eve:pass%20word@", "nobody:s3cret@"] {
        let mut client = H264_PLAIN_AAC.publish_to(Push::FfmpegTcp, &format!("rtsp://{refused}{}/live/a", server.rtsp)).unwrap();
        assert!(!client.wait(SOON).success(), "{refused:?} may not publish");
    }
    let url = format!("rtsp://cam:s3cret@{}/live/a", server.rtsp);
    let publisher = H264_PLAIN_AAC.publish_to(Push::FfmpegUdp, &url).unwrap();
    server.wait_live("live/a");
    let mut stranger =
        Client::start(ffmpeg().args(["-rtsp_transport", "tcp", "-i", &server.rtsp_url("live/a"), "-f", "null", "-"]));
    assert!(!stranger.wait(SOON).success(), "a stranger may not play");
    Push::FfmpegUdp.finish(publisher, &server, "live/a");
    for (play, player) in players {
        assert_run(&player.finish(), &H264_PLAIN_AAC, &sent, Expected::of(Push::FfmpegUdp, play));
    }
}

fn users_over_rtmp_and_http(runtime: Runtime) {
    if missing(&["ffmpeg", "curl"]) {
        return;
    }
    let server = with_users(runtime);
    let mut refused = H264_PLAIN_AAC.push(&server.rtmp_url("live/a?user=cam&pass=wrong")).unwrap();
    assert!(!refused.wait(SOON).success());
    server.wait_log("who was refused", |line| line.ends_with("may not publish live/a: wrong name or password (wrong_password)"));
    let publisher = H264_PLAIN_AAC.push(&server.rtmp_url("live/a?user=cam&pass=s3cret")).unwrap();
    server.wait_live("live/a");
    let status = |path: &str, headers: &[&str]| request(server.http, "HEAD", path, headers).status;
    assert_eq!(status("/live/a.flv", &[]), 401);
    assert_eq!(status("/live/a.flv?user=eve&pass=pass%20word", &[]), 200);
    assert_eq!(status("/live/a.flv?user=cam&pass=s3cret", &[]), 403, "a camera may not play");
    let url = server.flv_url("live/a");
    let mut curl =
        Client::start(Command::new("curl").args(["-s", "-u", "eve:pass word", "--max-time", "1", "-o", "/dev/null", &url]));
    // 28: the time was up while it was still being served.
    assert_eq!(curl.wait(SOON).code(), Some(28));
    let probe = |query: &str| {
        let url = server.rtmp_url(&format!("live/a{query}"));
        let mut client = Client::start(ffmpeg().args(["-i", &url, "-t", "0.2", "-c", "copy", "-f", "null", "-"]));
        client.wait(SOON).success()
    };
    assert!(probe("?user=eve&pass=pass%20word"));
    assert!(!probe("?user=eve&pass=wrong"));
    publisher.succeed();
}
