//! SIPp as the device: what the platform says in the unusual turns of SIP. The scenarios are in `tests/sipp`.

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::thread;

use serde_json::{Value, json};

use crate::harness::device::{CHANNEL, DEVICE, PASSWORD, STREAM, platform};
use crate::harness::server::signal_process;
use crate::harness::{Client, Runtime, SOON, Server, fresh_folder, missing, wait_for};

on_both_runtimes!(registrations_and_keepalives, answers_to_invitations, malformed_messages);

/// SIPp ends when the calls that it has are over.
const QUIT: i32 = libc::SIGUSR1;

/// A device's port, which SIPp keeps from scenario to scenario.
struct Sipp<'a> {
    server: &'a Server,
    port: u16,
    password: &'a str,
}

impl Sipp<'_> {
    fn new(server: &Server) -> Sipp<'_> {
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Sipp { server, port, password: PASSWORD }
    }

    fn start(&self, scenario: &Path, calls: Option<u32>) -> Client {
        let mut command = Command::new("sipp");
        command.arg(self.server.address("gb28181 udp").to_string()).arg("-sf").arg(scenario);
        command.args(["-i", "127.0.0.1", "-p", &self.port.to_string(), "-s", DEVICE, "-au", DEVICE, "-ap", self.password]);
        // Without its own idea of what is a repetition: the same answer twice is what is looked for.
        command.args(["-nr", "-nostdin", "-timeout", "40", "-timeout_error", "-recv_timeout", "30000"]);
        if let Some(calls) = calls {
            command.args(["-m", &calls.to_string()]);
        }
        Client::start(&mut command)
    }

    /// A scenario of the device's own making, once.
    #[track_caller]
    fn run(&self, name: &str) {
        println!("-- {name}");
        self.start(&scenario(name), Some(1)).succeed();
    }
}

fn scenario(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/sipp/{name}.xml"))
}

fn registrations_and_keepalives(runtime: Runtime) {
    if missing(&["sipp"]) {
        return;
    }
    let server = Server::start_platform(platform(runtime));
    let device = Sipp::new(&server);
    device.run("stranger");
    Sipp { password: "wrong", ..Sipp::new(&server) }.run("wrong_password");
    assert_eq!(server.gb("devices")["total"], 0);
    device.run("register");
    let registered = server.wait_device(DEVICE, true);
    assert_eq!(registered["address"], format!("127.0.0.1:{}", device.port));
    let before = registered["keepalive_age_ms"].clone();
    device.run("keepalive");
    let known = server.wait_device(DEVICE, true);
    assert!(before.is_null() && known["keepalive_age_ms"].is_u64(), "{known}");
    device.run("unregister");
    server.wait_device(DEVICE, false);
    device.run("stranger");
}

/// Scenarios, the status of the operator's request, and how the call ends.
const ANSWERS: [(&str, u16, &str, &str); 6] = [
    ("invite_ringing", 200, "failed", "sent nothing"),
    ("invite_busy", 502, "failed", "486"),
    ("invite_trying", 504, "failed", "no final SIP answer"),
    ("invite_twice", 200, "failed", "sent nothing"),
    ("invite_late", 504, "failed", "no final SIP answer"),
    ("invite_nonsense", 502, "failed", "cannot be understood"),
];

fn answers_to_invitations(runtime: Runtime) {
    if missing(&["sipp"]) {
        return;
    }
    let server = Server::start_platform(platform(runtime).set("gb28181.answer_ms", 1_000).set("gb28181.media_ms", 1_000));
    let device = Sipp::new(&server);
    device.run("register");
    server.wait_device(DEVICE, true);
    for (name, status, state, words) in ANSWERS {
        println!("-- {name}");
        let mut sipp = device.start(&scenario(name), None);
        // It says when it listens by answering.
        wait_listening(device.port);
        let body = json!({ "device": DEVICE, "channel": CHANNEL, "transport": "udp" });
        let answer = thread::scope(|scope| scope.spawn(|| server.post_gb("play", &body)).join().unwrap());
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        let call = server.wait_call(STREAM, state);
        assert!(call["detail"].as_str().unwrap().contains(words), "{name}: {call}");
        signal_process(sipp.pid(), QUIT);
        let ended = sipp.wait(SOON);
        assert!(ended.success(), "{name}: {ended}\n{}", sipp.output());
    }
    let ports: Vec<Value> = server.calls();
    assert_eq!(ports.len(), ANSWERS.len(), "{ports:?}");
}

/// Until the port is taken.
fn wait_listening(port: u16) {
    wait_for("SIPp listens", SOON, || UdpSocket::bind(("127.0.0.1", port)).is_err().then_some(()));
}

/// What is wrong, what stands in the place of a request, the status of the answer if there is one, and as what it is counted.
fn broken() -> Vec<(&'static str, String, Option<u16>, &'static str)> {
    let request = |via: &str, sequence: &str, length: &str, more: &str| {
        format!(
            "MESSAGE sip:34020000002000000001@3402000000 SIP/2.0\nVia: {via}\nFrom: <sip:[service]@3402000000>;tag=1\n\
             To: <sip:34020000002000000001@3402000000>\nCall-ID: [call_id]\nCSeq: {sequence}\nMax-Forwards: 70\n{more}\
             Content-Length: {length}\n\nabc\n"
        )
    };
    let via = "SIP/2.0/[transport] [local_ip]:[local_port];rport;branch=[branch]";
    let plain = || request(via, "1 MESSAGE", "3", "");
    let long = format!("Subject: {}\n", "x".repeat(9_000));
    let huge = long.repeat(2);
    let xml = "Content-Type: Application/MANSCDP+xml\n";
    vec![
        ("a Via that is none", request("nonsense", "1 MESSAGE", "3", ""), Some(400), "sip_no_identity"),
        ("no Via", plain().replace(&format!("Via: {via}\n"), ""), None, "sip_no_identity"),
        ("a CSeq that is no number", request(via, "many MESSAGE", "3", ""), Some(400), "sip_no_identity"),
        ("a Content-Length of more than there is", request(via, "1 MESSAGE", "3000", ""), Some(400), "sip_body_cut"),
        ("a Content-Length that is no number", request(via, "1 MESSAGE", "-3", ""), None, "sip_bad_length"),
        ("a long header", request(via, "1 MESSAGE", "3", &long), Some(403), "gb28181_unregistered"),
        ("a huge header", request(via, "1 MESSAGE", "3", &huge), None, "sip_head_too_long"),
        ("a body that is no XML", request(via, "1 MESSAGE", "3", xml), Some(403), "gb28181_unregistered"),
        ("another version", plain().replace("SIP/2.0\nVia", "SIP/7.0\nVia"), None, "sip_bad_version"),
        ("no SIP at all", "GET / HTTP/1.1\nHost: here\nCall-ID: [call_id]\n\n".to_owned(), None, "sip_bad_first_line"),
        ("no known method", plain().replace("MESSAGE", "DANCE"), Some(405), ""),
    ]
}

fn malformed_messages(runtime: Runtime) {
    if missing(&["sipp"]) {
        return;
    }
    let mut server = Server::start_platform(platform(runtime));
    let template = std::fs::read_to_string(scenario("malformed")).unwrap();
    let folder = fresh_folder("sipp");
    for (what, bytes, status, reason) in broken() {
        println!("-- {what}");
        let before = server.metric("shardcast_gb28181_refused_total", reason);
        let answer = match status {
            Some(status) => format!("<recv response=\"{status}\"/>"),
            // An answer that comes all the same is one that is not expected.
            None => "<pause milliseconds=\"100\"/>".to_owned(),
        };
        let path = folder.join("malformed.xml");
        std::fs::write(&path, template.replace("BROKEN", bytes.trim_end_matches('\n')).replace("ANSWER", &answer)).unwrap();
        Sipp::new(&server).start(&path, Some(1)).succeed();
        if !reason.is_empty() {
            let after = wait_for(&format!("{what} is counted as {reason}"), SOON, || {
                Some(server.metric("shardcast_gb28181_refused_total", reason)).filter(|after| *after > before)
            });
            assert_eq!(after, before + 1.0, "{what} is counted once as {reason}");
        }
    }
    assert!(server.is_running());
    assert_eq!(server.gb("devices")["total"], 0);
    let _ = std::fs::remove_dir_all(folder);
}
