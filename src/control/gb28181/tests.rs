//! The host between real sockets and scripted shards, with a platform that does what each test says.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flume::RecvTimeoutError;

use super::file::{Found, StateFile};
use super::host::Brain;
use super::*;
use crate::control::testing::{Closed, Folder, Script, owned, spawn_shard};
use crate::format::rtp::SourceContent;
use crate::media::Stamp;
use crate::protocol::gb28181::platform::ask::RefusedKind;
use crate::protocol::gb28181::platform::{CallId, Clock, Input, Output};
use crate::protocol::gb28181::receiver::{Request, Transport};
use crate::protocol::gb28181::sender;
use crate::protocol::gb28181::sip::{Carrier, ConnectionId, Hop};
use crate::session::{Reception, ReceptionState, Refusal, Sending, SendingState, StreamKey};
use crate::shard::message::SessionId;

const PATIENCE: Duration = Duration::from_secs(10);

/// What the platform was told.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Message(Hop, String),
    Closed(ConnectionId),
    Timeout(u64),
    Wanted(String),
    Opened(u64, Result<u16, String>),
    Reception(u64, ReceptionState, String),
    SenderOpened(u64, Result<u16, String>),
    Sending(u64, SendingState, String),
    Reached(SocketAddr, Result<Hop, String>),
    Streams(Vec<String>),
    Finishing,
    Asked,
}

type React = Box<dyn FnMut(&Told, Clock, &mut Vec<Output>) + Send>;

/// Tells the test what it is told, and reacts as the test says.
struct Puppet {
    told: flume::Sender<Told>,
    react: React,
    /// Messages so far: what is saved.
    messages: u32,
    next_timeout: Option<Stamp>,
}

impl Brain for Puppet {
    type Saved = u32;

    fn handle(&mut self, clock: Clock, input: Input<'_>, out: &mut Vec<Output>) {
        let told = match input {
            Input::Message { hop, bytes } => {
                self.messages += 1;
                Told::Message(hop, String::from_utf8_lossy(bytes).into_owned())
            }
            Input::Closed(id) => Told::Closed(id),
            Input::Timeout => {
                self.next_timeout = None;
                Told::Timeout(clock.now.millis_since(Stamp::ZERO))
            }
            Input::Wanted(key) => Told::Wanted(key.to_string()),
            Input::ReceiverOpened { call, port } => Told::Opened(call.0, port),
            Input::Reception { call, reception } => Told::Reception(call.0, reception.state, reception.detail),
            Input::SenderOpened { call, port } => Told::SenderOpened(call.0, port),
            Input::Sending { call, sending } => Told::Sending(call.0, sending.state, sending.detail),
            Input::Reached { to, hop } => Told::Reached(to, hop),
            Input::Streams(names) => Told::Streams(names.iter().map(ToString::to_string).collect()),
            Input::Finishing => Told::Finishing,
            Input::Ask { ticket, ask } => {
                if ask == Ask::Devices {
                    out.push(Output::Answer { ticket, answer: Answer::Done });
                }
                Told::Asked
            }
        };
        (self.react)(&told, clock, out);
        // A test that has seen enough does not listen any more.
        let _ = self.told.send(told);
    }

    fn next_timeout(&self) -> Option<Stamp> {
        self.next_timeout
    }

    fn saved(&self) -> u32 {
        self.messages
    }
}

/// A running host.
struct Rig {
    udp: SocketAddr,
    tcp: SocketAddr,
    told: flume::Receiver<Told>,
    desk: Desk,
    closed: Closed,
    reports: flume::Sender<Report>,
    folder: Folder,
    /// Serving ends when this is dropped.
    _running: flume::Sender<()>,
}

struct Setup {
    config: Config,
    scripts: Vec<Script>,
    next_timeout: Option<Stamp>,
}

impl Default for Setup {
    fn default() -> Self {
        let mut config = Config::default();
        config.gb28181.enabled = true;
        config.gb28181.listen = vec![([127, 0, 0, 1], 0).into()];
        Setup { config, scripts: vec![Script::default()], next_timeout: None }
    }
}

impl Rig {
    fn start(name: &str, react: impl FnMut(&Told, Clock, &mut Vec<Output>) + Send + 'static) -> Self {
        Rig::with(name, Setup::default(), react)
    }

    fn with(name: &str, setup: Setup, react: impl FnMut(&Told, Clock, &mut Vec<Output>) + Send + 'static) -> Self {
        let sockets = bind(&setup.config).unwrap();
        let [(UDP, udp), (TCP, tcp)] = *sockets.listening() else { panic!("{:?}", sockets.listening()) };
        let (told_to, told) = flume::unbounded();
        let puppet = Puppet { told: told_to, react: Box::new(react), messages: 0, next_timeout: setup.next_timeout };
        let closed = Closed::default();
        let shards = Shards::new(setup.scripts.into_iter().map(|script| spawn_shard(script, closed.clone())).collect());
        let (reports, reported) = flume::bounded(16);
        let folder = Folder::new(name);
        let file = StateFile::new(folder.path(), "state.json");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let desk = {
            let _inside = runtime.enter();
            sockets.serve(&Arc::new(setup.config), shards, reported, puppet, file).unwrap()
        };
        let (running, ended) = flume::bounded::<()>(1);
        std::thread::spawn(move || {
            runtime.block_on(async move {
                let _ = ended.recv_async().await;
            })
        });
        Rig { udp, tcp, told, desk, closed, reports, folder, _running: running }
    }

    #[track_caller]
    fn next(&self) -> Told {
        self.told.recv_timeout(PATIENCE).expect("the platform is told something")
    }

    #[track_caller]
    fn until(&self, wanted: impl Fn(&Told) -> bool) -> Told {
        loop {
            let told = self.next();
            if wanted(&told) {
                return told;
            }
        }
    }

    /// Has a message sent to the platform without a connection.
    fn poke(&self, text: &str) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(text.as_bytes(), self.udp).unwrap();
    }

    #[track_caller]
    fn counted(&self, reason: &str) -> u64 {
        let view = self.desk.counters();
        view.dropped.iter().chain(&view.refused).find(|(counted, _)| *counted == reason).map_or(0, |(_, count)| *count)
    }

    #[track_caller]
    fn wait(&self, what: &str, done: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done() {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.desk.counters());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn ask(&self, ask: Ask) -> Result<Answer, NoAnswer> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.desk.ask(ask))
    }
}

fn nothing(_: &Told, _: Clock, _: &mut Vec<Output>) {}

/// Sends every message back.
fn echo(told: &Told, _: Clock, out: &mut Vec<Output>) {
    if let Told::Message(hop, text) = told {
        out.push(Output::Send { hop: *hop, bytes: Bytes::from(text.clone()) });
    }
}

fn options(call: &str, body: &str) -> String {
    format!(
        "OPTIONS sip:1@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:5060;branch=z9hG4bK{call}\r\nCall-ID: {call}\r\n\
         CSeq: 1 OPTIONS\r\nFrom: <sip:2@127.0.0.1>;tag=1\r\nTo: <sip:1@127.0.0.1>\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn connect(rig: &Rig) -> TcpStream {
    let socket = TcpStream::connect(rig.tcp).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[track_caller]
fn read_exactly(socket: &mut TcpStream, length: usize) -> String {
    let mut bytes = vec![0; length];
    socket.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Whether the other side has closed.
#[track_caller]
fn is_closed(socket: &mut TcpStream) -> bool {
    match socket.read(&mut [0; 1024]) {
        Ok(0) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
        Ok(count) => panic!("{count} bytes came"),
    }
}

#[test]
fn an_answer_goes_back_the_way_that_the_question_came() {
    let rig = Rig::start("ways", echo);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(b"hello", rig.udp).unwrap();
    let hop = Hop { carrier: Carrier::Udp, peer: socket.local_addr().unwrap(), local: rig.udp };
    assert_eq!(rig.next(), Told::Message(hop, "hello".to_owned()));
    let mut buffer = [0; 16];
    let (count, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..count], from), (&b"hello"[..], rig.udp));

    let mut socket = connect(&rig);
    let (first, second) = (options("a", ""), options("b", "body"));
    let all = format!("\r\n\r\n{first}{second}");
    for piece in all.as_bytes().chunks(100) {
        socket.write_all(piece).unwrap();
    }
    let hop = Hop { carrier: Carrier::Tcp(ConnectionId(1)), peer: socket.local_addr().unwrap(), local: rig.tcp };
    for text in [&first, &second] {
        assert_eq!(rig.next(), Told::Message(hop, text.clone()));
        assert_eq!(read_exactly(&mut socket, text.len()), *text);
    }
    rig.wait("both are counted", || rig.desk.counters().sent == [("udp", 1), ("tcp", 2)]);
    let counters = rig.desk.counters();
    assert_eq!((counters.received, counters.connections), ([("udp", 1), ("tcp", 2)], 1));
    drop(socket);
    assert_eq!(rig.next(), Told::Closed(ConnectionId(1)));
    rig.wait("it is gone", || rig.desk.counters().connections == 0);
}

#[test]
fn the_address_of_the_configuration_is_what_devices_are_told() {
    let mut setup = Setup::default();
    setup.config.gb28181.listen = vec![([0, 0, 0, 0], 0).into()];
    setup.config.gb28181.address = Some([203, 0, 113, 7].into());
    let mut rig = Rig::with("told", setup, echo);
    rig.udp.set_ip([127, 0, 0, 1].into());
    rig.tcp.set_ip([127, 0, 0, 1].into());
    let expected = SocketAddr::from(([203, 0, 113, 7], rig.udp.port()));
    rig.poke("x");
    assert!(matches!(rig.next(), Told::Message(Hop { local, .. }, _) if local == expected));
    let mut socket = connect(&rig);
    let text = options("a", "");
    socket.write_all(text.as_bytes()).unwrap();
    assert!(matches!(rig.next(), Told::Message(Hop { local, .. }, _) if local == expected));
    assert_eq!(read_exactly(&mut socket, text.len()), text);
}

#[test]
fn a_port_in_use_is_said_before_anything_starts() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = Setup::default().config;
    for taken in [udp.local_addr().unwrap(), tcp.local_addr().unwrap()] {
        config.gb28181.listen = vec![taken];
        let (address, error) = bind(&config).unwrap_err();
        assert_eq!((address, error.kind()), (taken, ErrorKind::AddrInUse));
    }
    config.gb28181.enabled = false;
    assert_eq!(bind(&config).unwrap().listening(), []);
}

#[test]
fn a_port_that_is_free_for_both_is_found() {
    let mut config = Setup::default().config;
    config.gb28181.listen = vec![([127, 0, 0, 1], 0).into(), "[::1]:0".parse().unwrap()];
    let sockets = bind(&config).unwrap();
    for pair in sockets.listening().chunks(2) {
        assert_eq!((pair[0].0, pair[1].0, pair[0].1), (UDP, TCP, pair[1].1));
        assert_ne!(pair[0].1.port(), 0);
    }
}

#[test]
fn a_hangup_comes_after_the_last_word() {
    let rig = Rig::start("hangup", |told, _, out| {
        if let Told::Message(hop, _) = told {
            out.push(Output::Send { hop: *hop, bytes: Bytes::from_static(b"bye") });
            let Carrier::Tcp(id) = hop.carrier else { return };
            out.push(Output::Hangup(id));
            out.push(Output::Send { hop: *hop, bytes: Bytes::from_static(b"too late") });
        }
    });
    let mut socket = connect(&rig);
    socket.write_all(options("a", "").as_bytes()).unwrap();
    assert_eq!(read_exactly(&mut socket, 3), "bye");
    assert!(is_closed(&mut socket));
    rig.wait("what came behind is counted", || rig.counted("no_connection") == 1);
    // Told because of what came behind, and only once.
    assert_eq!(rig.until(|told| matches!(told, Told::Closed(_))), Told::Closed(ConnectionId(1)));
    assert_eq!(rig.told.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout));
}

#[test]
fn what_is_no_message_ends_the_connection() {
    let rig = Rig::start("nonsense", nothing);
    let cases = [("GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), false), (format!("{}\r\n", "x".repeat(100_000)), false)];
    for (text, has_answer) in cases {
        let mut socket = connect(&rig);
        // It may be closed before all is written.
        let _ = socket.write_all(text.as_bytes());
        if !has_answer {
            assert!(is_closed(&mut socket));
        }
    }
    let mut socket = connect(&rig);
    let huge = options("a", "").replace("Content-Length: 0", "Content-Length: 1000000");
    socket.write_all(huge.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("SIP/2.0 "), "{answer:?}");
    rig.wait("all are gone", || rig.desk.counters().connections == 0);
}

#[test]
fn whoever_takes_nothing_is_closed() {
    let rig = Rig::start("stalled", |told, _, out| {
        if let Told::Message(hop, _) = told {
            out.push(Output::Send { hop: *hop, bytes: Bytes::from(vec![b'x'; 200_000]) });
        }
    });
    let mut socket = connect(&rig);
    let text = options("a", "");
    let deadline = Instant::now() + PATIENCE;
    // The other side may have closed already.
    while rig.counted("connection_stalled") == 0 && socket.write_all(text.as_bytes()).is_ok() {
        assert!(Instant::now() < deadline);
    }
    rig.until(|told| matches!(told, Told::Closed(_)));
    assert_eq!((rig.counted("connection_stalled"), rig.desk.counters().connections), (1, 0));
}

#[test]
fn whoever_says_nothing_makes_room_for_others() {
    let rig = Rig::start("strangers", |told: &Told, _: Clock, out: &mut Vec<Output>| {
        if let Told::Message(hop, text) = told {
            let (status, method) = if text.starts_with("REGISTER") { (200, "REGISTER") } else { (200, "OPTIONS") };
            let text = format!("SIP/2.0 {status} OK\r\nCSeq: 1 {method}\r\n\r\n");
            out.push(Output::Send { hop: *hop, bytes: Bytes::from(text) });
        }
    });
    let say = |socket: &mut TcpStream, method: &str| {
        let expected = format!("SIP/2.0 200 OK\r\nCSeq: 1 {method}\r\n\r\n");
        socket.write_all(options("a", "").replace("OPTIONS", method).as_bytes()).unwrap();
        assert_eq!(read_exactly(socket, expected.len()), expected);
    };
    // A hundred devices behind one router, and one that asks for nothing but OPTIONS.
    let mut devices: Vec<_> = (0..100)
        .map(|_| {
            let mut device = connect(&rig);
            say(&mut device, "REGISTER");
            device
        })
        .collect();
    let mut stranger = connect(&rig);
    say(&mut stranger, "OPTIONS");
    let mut strangers: Vec<_> = (0..70).map(|_| connect(&rig)).collect();
    rig.wait("the oldest are closed", || rig.counted("stranger_replaced") == 7);
    assert!(is_closed(&mut stranger) && is_closed(&mut strangers[0]));
    for socket in devices.iter_mut().chain(strangers.last_mut()) {
        say(socket, "OPTIONS");
    }
}

/// A connection on which the platform, here an echo, has asked something.
fn no_stranger(rig: &Rig) -> TcpStream {
    let mut socket = connect(rig);
    let text = options("a", "");
    socket.write_all(text.as_bytes()).unwrap();
    assert_eq!(read_exactly(&mut socket, text.len()), text);
    socket
}

#[test]
fn connections_have_a_number_and_bytes_at_most() {
    let mut setup = Setup::default();
    setup.config.gb28181.devices_max = 1;
    let rig = Rig::with("full", setup, echo);
    let mut open: Vec<_> = (0..321).map(|_| no_stranger(&rig)).collect();
    rig.wait("all are there", || rig.desk.counters().connections == 321);
    assert!(is_closed(&mut connect(&rig)));
    assert_eq!(rig.counted("connections_full"), 1);
    drop(open.split_off(1));

    let rig = Rig::start("held", echo);
    let half = options("a", "").replace("Content-Length: 0", "Content-Length: 262000") + &"x".repeat(261_000);
    let mut holders: Vec<_> = (0..140).map(|_| no_stranger(&rig)).collect();
    for holder in &mut holders {
        // Those that are closed meanwhile cannot take all.
        let _ = holder.write_all(half.as_bytes());
    }
    rig.wait("some had to go", || rig.counted("held_bytes") > 0);
    let left = rig.desk.counters().connections;
    assert!((100..140).contains(&left), "{left} are left");
}

#[test]
fn a_flood_of_datagrams_keeps_no_operator_out() {
    let rig = Rig::start("flood", nothing);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = rig.udp;
    let (stop, stopped) = flume::bounded::<()>(0);
    let flood = std::thread::spawn(move || {
        while !stopped.is_disconnected() {
            // A full buffer is what is wanted.
            let _ = socket.send_to(b"flood", to);
        }
    });
    rig.next();
    for _ in 0..20 {
        let began = Instant::now();
        assert_eq!(rig.ask(Ask::Devices), Ok(Answer::Done));
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
    drop(stop);
    flood.join().unwrap();
}

#[test]
fn questions_that_are_never_answered_do_not_pile_up() {
    let rig = Rig::start("questions", nothing);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        for _ in 0..1_024 {
            let desk = rig.desk.clone();
            tokio::spawn(async move { desk.ask(Ask::Calls).await });
        }
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if rig.told.len() == 1_024 {
                return rig.desk.ask(Ask::Calls).await;
            }
        }
    });
    assert!(matches!(&answer, Ok(Answer::Refused(refused)) if refused.kind == RefusedKind::Full), "{answer:?}");
    drop(runtime);
    // Those who asked are gone, and make room.
    assert_eq!(rig.ask(Ask::Devices), Ok(Answer::Done));
}

fn request() -> Request {
    Request::new(StreamKey::parse("gb/1/2").unwrap(), Transport::Udp)
}

fn reception(state: ReceptionState, detail: &str) -> Reception {
    Reception {
        key: request().key,
        transport: "udp",
        port: Some(20_000),
        ssrc: Some(7),
        source: None,
        state,
        detail: detail.to_owned(),
        tracks: vec!["H264"],
        received: Default::default(),
        end: None,
        media_age_ms: None,
        bytes: 0,
        refusal: None,
    }
}

/// Opens a receiver for the call that a message has the number of, closes it for one with a minus.
fn opens(told: &Told, _: Clock, out: &mut Vec<Output>) {
    if let Told::Message(_, text) = told {
        for word in text.split_ascii_whitespace() {
            let number: i64 = word.parse().unwrap();
            let call = CallId(number.unsigned_abs());
            out.push(if number > 0 { Output::OpenReceiver { call, request: request() } } else { Output::CloseReceiver(call) });
        }
    }
}

const NINE: SessionId = SessionId { shard: 0, number: 9 };

#[test]
fn the_receiver_of_a_call_is_opened_watched_and_closed() {
    let receptions = vec![(NINE, reception(ReceptionState::Playing, "playing H264"))];
    let setup = Setup { scripts: vec![Script { receptions, ..Script::default() }], ..Setup::default() };
    let rig = Rig::with("opened", setup, opens);
    rig.poke("1");
    assert_eq!(rig.until(|told| matches!(told, Told::Opened(..))), Told::Opened(1, Ok(0)));
    assert_eq!(rig.next(), Told::Reception(1, ReceptionState::Playing, "playing H264".to_owned()));
    // It is told once, as nothing changes.
    assert_eq!(rig.told.recv_timeout(Duration::from_millis(700)), Err(RecvTimeoutError::Timeout));
    rig.poke("-1");
    rig.wait("it is closed", || *rig.closed.lock().unwrap() == [NINE]);
}

#[test]
fn a_receiver_that_ends_is_told_of_once() {
    let cases = [
        (vec![(NINE, reception(ReceptionState::Ended, "no media for 10 s"))], "no media for 10 s"),
        // So many have ended since that the shard has forgotten it.
        (vec![], "waiting for media; the receiver is gone"),
    ];
    for (at, (receptions, expected)) in cases.into_iter().enumerate() {
        let setup = Setup { scripts: vec![Script { receptions, ..Script::default() }], ..Setup::default() };
        let rig = Rig::with(&format!("ended-{at}"), setup, opens);
        rig.poke("1");
        rig.until(|told| matches!(told, Told::Opened(1, Ok(_))));
        assert_eq!(rig.next(), Told::Reception(1, ReceptionState::Ended, expected.to_owned()));
        rig.poke("-1");
        rig.next();
        assert_eq!(rig.told.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout));
        assert_eq!(*rig.closed.lock().unwrap(), [], "there is nothing to close");
    }
}

#[test]
fn a_receiver_that_is_not_wanted_any_more_is_closed_once_it_is_there() {
    let rig = Rig::start("unwanted", opens);
    rig.poke("1 -1");
    rig.wait("it is closed", || *rig.closed.lock().unwrap() == [NINE]);
    rig.next();
    assert_eq!(rig.told.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout));
}

#[test]
fn why_there_is_no_receiver_is_said() {
    let cases = [
        (Script { refuses: Some(Refusal::NameInUse), ..Script::default() }, "gb/1/2: the name is in use"),
        (
            Script { refuses: Some(Refusal::LimitReached), ..Script::default() },
            "a limit of the server is reached, or it is shutting down",
        ),
        (Script { silent: true, ..Script::default() }, "shard 0 does not answer"),
    ];
    for (at, (script, why)) in cases.into_iter().enumerate() {
        let rig = Rig::with(&format!("refused-{at}"), Setup { scripts: vec![script], ..Setup::default() }, opens);
        rig.poke("1");
        assert_eq!(rig.until(|told| matches!(told, Told::Opened(..))), Told::Opened(1, Err(why.to_owned())));
    }
}

#[test]
fn the_sender_of_a_call_is_opened_watched_and_closed() {
    let sending = |state, detail: &str| Sending {
        key: request().key,
        transport: "udp",
        payload: "g711a",
        port: Some(20_000),
        to: None,
        ssrc: 7,
        state,
        detail: detail.to_owned(),
        tracks: vec!["G711A"],
        left_out: Vec::new(),
        bytes: 0,
        refusal: None,
    };
    let send = |told: &Told, _: Clock, out: &mut Vec<Output>| match told {
        Told::Message(_, text) if text == "close" => out.push(Output::CloseSender(CallId(1))),
        Told::Message(..) => {
            let transport = sender::Transport::Udp { to: ([127, 0, 0, 1], 9).into() };
            let (content, payload_type) = (SourceContent::G711A, 8);
            let request = sender::Request { key: request().key, transport, content, ssrc: 7, payload_type, wait_ms: 1_000 };
            out.push(Output::OpenSender { call: CallId(1), request });
        }
        _ => {}
    };
    let cases = [(SendingState::Sending, "sending G711A", vec![NINE]), (SendingState::Ended, "the stream has ended", vec![])];
    for (state, detail, closed) in cases {
        let script = Script { sendings: vec![(NINE, sending(state, detail))], ..Script::default() };
        let rig = Rig::with("sends", Setup { scripts: vec![script], ..Setup::default() }, send);
        rig.poke("open");
        assert_eq!(rig.until(|told| matches!(told, Told::SenderOpened(..))), Told::SenderOpened(1, Ok(0)));
        assert_eq!(rig.next(), Told::Sending(1, state, detail.to_owned()));
        rig.poke("close");
        rig.next();
        // Behind what the shard was told.
        assert_eq!(rig.ask(Ask::Devices), Ok(Answer::Done));
        rig.wait("it is closed if it runs", || *rig.closed.lock().unwrap() == closed);
    }
}

#[test]
fn other_platforms_are_reached() {
    let upper = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = upper.local_addr().unwrap();
    let rig = Rig::start("reach", |told, _, out| match told {
        Told::Message(_, text) => {
            let (carrier, to) = text.split_once(' ').unwrap();
            out.push(Output::Reach { to: to.parse().unwrap(), tcp: carrier == "tcp" });
        }
        Told::Reached(_, Ok(hop)) => out.push(Output::Send { hop: *hop, bytes: Bytes::from_static(b"hello") }),
        _ => {}
    });
    rig.poke(&format!("tcp {to}"));
    let (mut socket, peer) = upper.accept().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(read_exactly(&mut socket, 5), "hello");
    let hop = Hop { carrier: Carrier::Tcp(ConnectionId(1)), peer: to, local: peer };
    assert_eq!(rig.until(|told| matches!(told, Told::Reached(..))), Told::Reached(to, Ok(hop)));
    drop(socket);
    assert_eq!(rig.next(), Told::Closed(ConnectionId(1)));
    drop(upper);
    rig.poke(&format!("tcp {to}"));
    let told = rig.until(|told| matches!(told, Told::Reached(..)));
    assert!(matches!(&told, Told::Reached(_, Err(why)) if why.starts_with(&format!("cannot connect to {to}: "))), "{told:?}");

    let upper = UdpSocket::bind("127.0.0.1:0").unwrap();
    upper.set_read_timeout(Some(PATIENCE)).unwrap();
    let to = upper.local_addr().unwrap();
    rig.poke(&format!("udp {to}"));
    let mut buffer = [0; 16];
    assert_eq!(upper.recv_from(&mut buffer).unwrap(), (5, rig.udp));
    let hop = Hop { carrier: Carrier::Udp, peer: to, local: rig.udp };
    assert_eq!(rig.until(|told| matches!(told, Told::Reached(..))), Told::Reached(to, Ok(hop)));
    rig.poke("udp [::1]:5060");
    let told = rig.until(|told| matches!(told, Told::Reached(..)));
    assert!(matches!(&told, Told::Reached(_, Err(why)) if why.starts_with("there is no way to [::1]:5060")), "{told:?}");
}

#[test]
fn streams_are_listed_once_somebody_wants_to_know() {
    let scripts = vec![
        Script { streams: vec![owned("live/a", 0, 0)], ..Script::default() },
        Script { silent: true, ..Script::default() },
        Script { streams: vec![owned("live/b", 2, 0)], ..Script::default() },
    ];
    let rig = Rig::with("streams", Setup { scripts, ..Setup::default() }, |told, _, out| {
        if matches!(told, Told::Message(..)) {
            out.push(Output::ListStreams);
        }
    });
    rig.poke("list");
    rig.poke("list");
    for _ in 0..2 {
        let told = rig.until(|told| matches!(told, Told::Streams(_)));
        assert_eq!(told, Told::Streams(vec!["live/a".to_owned(), "live/b".to_owned()]));
    }
}

#[test]
fn the_platform_says_goodbye_before_the_end() {
    let rig = Rig::start("goodbye", |told, _, out| match told {
        Told::Message(hop, _) => out.push(Output::Send { hop: *hop, bytes: Bytes::from_static(b"hello") }),
        Told::Finishing => out.push(Output::Save),
        _ => {}
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(rig.desk.goodbye());
    assert_eq!(rig.next(), Told::Finishing);
    assert!(matches!(StateFile::new(rig.folder.path(), "state.json").read::<u32>(), Found::Whole(0)));
}

#[test]
fn viewers_that_wait_are_passed_on() {
    let rig = Rig::start("wanted", nothing);
    rig.reports.send(Report::Wanted(request().key)).unwrap();
    assert_eq!(rig.next(), Told::Wanted("gb/1/2".to_owned()));
    drop(rig.reports);
    assert!(rig.told.recv_timeout(Duration::from_millis(50)).is_err(), "shards that are gone say nothing");
}

#[test]
fn what_survives_is_written_now_and_then_and_at_the_end() {
    let rig = Rig::start("saved", |told, _, out| {
        if matches!(told, Told::Message(..)) {
            out.push(Output::Save);
        }
    });
    let file = StateFile::new(rig.folder.path(), "state.json");
    let saved = || match file.read::<u32>() {
        Found::Whole(messages) => messages,
        Found::Nothing => 0,
        Found::Broken(why) => panic!("{why}"),
    };
    rig.poke("a");
    rig.wait("it is written at once", || saved() == 1);
    for n in 2..=20 {
        rig.poke("b");
        rig.next();
        assert!(saved() == 1 || n > 2, "not so soon again");
    }
    rig.wait("all that came in a second is written together", || saved() == 20);
    rig.poke("c");
    rig.until(|told| matches!(told, Told::Message(_, text) if text == "c"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(rig.desk.goodbye());
    assert_eq!(saved(), 21);
}

#[test]
fn changed_times_are_written_in_no_hurry() {
    let rig = Rig::start("times", |told, _, out| match told {
        Told::Message(_, text) if text == "times" => out.push(Output::SaveLater),
        Told::Message(..) => out.push(Output::Save),
        _ => {}
    });
    let file = StateFile::new(rig.folder.path(), "state.json");
    rig.poke("times");
    rig.next();
    assert!(rig.told.recv_timeout(Duration::from_millis(300)).is_err());
    assert!(matches!(file.read::<u32>(), Found::Nothing), "only times");
    rig.poke("more");
    rig.wait("with what is more than that", || matches!(file.read::<u32>(), Found::Whole(2)));
    rig.next();
    rig.poke("times");
    rig.until(|told| matches!(told, Told::Message(_, text) if text == "times"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(rig.desk.goodbye());
    assert!(matches!(file.read::<u32>(), Found::Whole(3)), "and at the end");
}

#[test]
fn a_file_that_cannot_be_written_stops_nobody() {
    let rig = Rig::start("unwritable", |told, _, out| {
        if matches!(told, Told::Message(..)) {
            out.push(Output::Save);
        }
    });
    std::fs::create_dir_all(rig.folder.path().join("state.json")).unwrap();
    rig.poke("a");
    rig.wait("it is counted", || rig.counted("not_saved") == 1);
    assert_eq!(rig.ask(Ask::Devices), Ok(Answer::Done));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(rig.desk.goodbye());
}

#[test]
fn the_platform_is_told_when_its_time_has_come() {
    let setup = Setup { next_timeout: Some(Stamp::from_millis(80)), ..Setup::default() };
    let rig = Rig::with("time", setup, nothing);
    let Told::Timeout(at) = rig.next() else { panic!() };
    assert!((80..5_000).contains(&at), "{at}");
}

#[test]
fn a_panic_and_a_flood_of_notes_are_survived() {
    let rig = Rig::start("panic", |told, _, out| match told {
        Told::Message(_, text) if text == "panic" => panic!("as the test wants"),
        Told::Message(..) => {
            let note = || Output::Note { level: log::Level::Warn, reason: Some("odd"), message: "odd".to_owned() };
            out.extend((0..200).map(|_| note()));
        }
        _ => {}
    });
    rig.poke("panic");
    rig.wait("it is counted", || rig.counted("panic") == 1);
    rig.poke("notes");
    rig.wait("all are counted", || rig.counted("odd") == 200);
    assert_eq!(rig.desk.counters().notes_left_out, 150);
    assert_eq!(rig.ask(Ask::Devices), Ok(Answer::Done));
}
