//! The platform of GB/T 28181 as a part of the server: its sockets, its routes, its series, and what it knows after a restart. The devices
//! are a few lines of SIP.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

use md5::{Digest, Md5};
use serde_json::json;
use sm3::Sm3;

use crate::harness::api::request;
use crate::harness::{Options, Runtime, SOON, Server, fresh_folder, wait_for};

on_both_runtimes!(
    a_device_is_known_after_a_restart,
    a_broken_file_stops_nobody,
    nobody_registers_without_a_password,
    a_device_of_2022_registers_with_sm3,
    a_stopped_platform_says_so
);

static ASKED: AtomicU32 = AtomicU32::new(1);
const DEVICE: &str = "34020000001110000001";
const PASSWORD: &str = "secret";

fn options(runtime: Runtime) -> Options {
    Options::new(runtime).shards(2).set("gb28181.enabled", true).set("gb28181.password", PASSWORD)
}

/// Where a device speaks from.
enum Way {
    Udp(UdpSocket),
    Tcp(BufReader<TcpStream>),
}

impl Way {
    fn udp(server: &Server) -> Way {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server.address("gb28181 udp")).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        Way::Udp(socket)
    }

    fn tcp(server: &Server) -> Way {
        let socket = TcpStream::connect(server.address("gb28181 tcp")).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        Way::Tcp(BufReader::new(socket))
    }

    fn name(&self) -> &'static str {
        match self {
            Way::Udp(_) => "UDP",
            Way::Tcp(_) => "TCP",
        }
    }

    fn local(&self) -> SocketAddr {
        match self {
            Way::Udp(socket) => socket.local_addr().unwrap(),
            Way::Tcp(socket) => socket.get_ref().local_addr().unwrap(),
        }
    }

    fn send(&mut self, text: &str) {
        match self {
            Way::Udp(socket) => drop(socket.send(text.as_bytes()).unwrap()),
            Way::Tcp(socket) => socket.get_mut().write_all(text.as_bytes()).unwrap(),
        }
    }

    /// The head of the next answer; requests are passed over.
    fn answer(&mut self) -> String {
        loop {
            let text = match self {
                Way::Udp(socket) => {
                    let mut buffer = [0; 65_536];
                    let count = socket.recv(&mut buffer).expect("an answer comes");
                    String::from_utf8_lossy(&buffer[..count]).into_owned()
                }
                Way::Tcp(socket) => {
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") {
                        assert_ne!(socket.read_line(&mut head).expect("an answer comes"), 0, "{head}");
                    }
                    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
                    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
                    std::io::Read::read_exact(socket, &mut body).unwrap();
                    head
                }
            };
            if text.starts_with("SIP/2.0 ") {
                return text;
            }
        }
    }

    /// Registers, and returns the status of the last answer.
    fn register(&mut self, password: &str) -> u16 {
        self.register_with(password, "MD5", md5, "")
    }

    /// `headers`: what stands in each request beside the rest.
    fn register_with(&mut self, password: &str, algorithm: &str, hash: fn(&str) -> String, headers: &str) -> u16 {
        let challenge = self.ask(headers);
        if status(&challenge) != 401 {
            return status(&challenge);
        }
        let is_known =
            |line: &&str| line.starts_with("WWW-Authenticate: Digest ") && line.contains(&format!("algorithm={algorithm}"));
        let line = challenge.lines().find(is_known).expect("a challenge");
        let field = |name: &str| line.split(&format!("{name}=\"")).nth(1).map(|rest| rest.split('"').next().unwrap().to_owned());
        let (realm, nonce) = (field("realm").unwrap(), field("nonce").unwrap());
        let uri = "sip:34020000002000000001@3402000000";
        let (ha1, ha2) = (hash(&format!("{DEVICE}:{realm}:{password}")), hash(&format!("REGISTER:{uri}")));
        let inner = hash(&format!("{ha1}:{nonce}:{ha2}"));
        let authorization = format!(
            "Authorization: Digest username=\"{DEVICE}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", response=\"{inner}\", \
             algorithm={algorithm}\r\n{headers}"
        );
        status(&self.ask(&authorization))
    }

    fn ask(&mut self, headers: &str) -> String {
        // Whoever asks the same again gets the same answer.
        let number = ASKED.fetch_add(1, Ordering::Relaxed);
        let (local, way) = (self.local(), self.name());
        let text = format!(
            "REGISTER sip:34020000002000000001@3402000000 SIP/2.0\r\nVia: SIP/2.0/{way} {local};rport;branch=z9hG4bK{number}-{}\r\n\
             From: <sip:{DEVICE}@3402000000>;tag=a\r\nTo: <sip:{DEVICE}@3402000000>\r\nCall-ID: c@{local}\r\nCSeq: {number} REGISTER\r\n\
             Contact: <sip:{DEVICE}@{local}>\r\nMax-Forwards: 70\r\nExpires: 3600\r\n{headers}Content-Length: 0\r\n\r\n",
            local.port()
        );
        self.send(&text);
        self.answer()
    }
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

fn md5(text: &str) -> String {
    Md5::digest(text).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

fn sm3(text: &str) -> String {
    Sm3::digest(text).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

/// It says its version, and is offered what that version has.
fn a_device_of_2022_registers_with_sm3(runtime: Runtime) {
    let server = Server::start(options(runtime));
    let version = "X-GB-Ver: 3.0\r\n";
    for mut way in [Way::udp(&server), Way::tcp(&server)] {
        assert_eq!(way.register_with("wrong", "SM3", sm3, version), 403);
        assert_eq!(way.register_with(PASSWORD, "SM3", sm3, version), 200);
    }
    assert_eq!(server.api(&format!("gb28181/devices/{DEVICE}"))["version"], "3.0");
}

fn a_device_is_known_after_a_restart(runtime: Runtime) {
    let data = fresh_folder("state");
    let options = || options(runtime).set("server.data", data.display());
    for (round, way) in [Way::udp as fn(&Server) -> Way, Way::tcp].into_iter().enumerate() {
        let mut server = Server::start(options());
        let before = server.api("gb28181/devices");
        assert_eq!(
            (&before["total"], &before["devices"][0]["online"]),
            (&json!(round), &if round == 0 { json!(null) } else { json!(false) })
        );
        let mut way = way(&server);
        assert_eq!(way.register("wrong"), 403);
        assert_eq!(way.register(PASSWORD), 200);
        let device = server.api(&format!("gb28181/devices/{DEVICE}"));
        let transport = way.name().to_lowercase();
        let expected = (json!(true), json!(transport), json!(way.local().to_string()));
        assert_eq!((device["online"].clone(), device["transport"].clone(), device["address"].clone()), expected, "{device}");
        let page = request(server.control, "GET", "/metrics", &[]).text();
        assert!(page.contains("shardcast_gb28181_devices{state=\"online\"} 1"), "{page}");
        assert!(page.contains(&format!("shardcast_gb28181_received_messages_total{{transport=\"{transport}\"}} 4")), "{page}");
        // A crash; `gb28181_platform::a_restart_keeps_devices` ends in order.
        let written = || std::fs::read_to_string(data.join("gb28181.json")).is_ok_and(|text| text.contains(DEVICE));
        wait_for("it is written", SOON, || written().then_some(()));
        server.signal(libc::SIGKILL);
        assert!(!server.wait_exit().success());
    }
    let _ = std::fs::remove_dir_all(data);
}

fn a_broken_file_stops_nobody(runtime: Runtime) {
    let data = fresh_folder("broken-state");
    std::fs::write(data.join("gb28181.json"), "{\"devices\": [").unwrap();
    let server = Server::start(options(runtime).set("server.data", data.display()));
    assert!(server.log().contains("gb28181.json cannot be understood"), "{}", server.log());
    assert!(data.join("gb28181.json.broken").exists());
    assert_eq!(Way::udp(&server).register(PASSWORD), 200);
    let _ = std::fs::remove_dir_all(data);
}

fn nobody_registers_without_a_password(runtime: Runtime) {
    let server = Server::start(options(runtime).set("gb28181.password", ""));
    assert!(server.log().contains("there is no password, so every registration is refused"), "{}", server.log());
    let answered = Way::udp(&server).register("");
    assert!([401, 403].contains(&answered), "{answered}");
    assert_eq!(server.api("gb28181/devices")["total"], 0);
}

fn a_stopped_platform_says_so(runtime: Runtime) {
    let server = Server::start(Options::new(runtime).shards(2));
    let answer = request(server.control, "GET", "/api/v1/gb28181/devices", &[]);
    assert_eq!(answer.status, 404);
    assert!(answer.text().contains("gb28181.enabled: true"), "{}", answer.text());
    assert!(!server.log().contains("gb28181 udp"), "{}", server.log());
    assert!(!request(server.control, "GET", "/metrics", &[]).text().contains("gb28181"));
}
