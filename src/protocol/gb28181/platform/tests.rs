//! The whole platform with a scripted device, in virtual time; what tests of its parts share.

use std::sync::Arc;

use super::ask::{Answer, Ask, Refused};
use super::view::CallView;
use super::*;
use crate::config::{Config, Gb28181};
use crate::format::rtp::demux::Received;
use crate::protocol::gb28181::manscdp::{self, Body};
use crate::protocol::gb28181::sip::Carrier;
use crate::protocol::gb28181::sip::digest::Challenge;
use crate::protocol::gb28181::sip::message::{Message, Method, Request, Response};
use crate::session::{ReceptionEnd, ReceptionState};

pub const NVR: &str = "34020000001110000001";
pub const CAMERA: &str = "34020000001310000001";
pub const LOUDSPEAKER: &str = "34020000001370000001";
pub const PASSWORD: &str = "12345678";
const URI: &str = "sip:34020000002000000001@3402000000";
/// 2026-01-02T07:04:05.123 UTC.
const EPOCH_MS: u64 = 1_767_337_445_123;

pub fn udp(peer: &str) -> Hop {
    Hop { carrier: Carrier::Udp, peer: peer.parse().unwrap(), local: "198.51.100.1:5060".parse().unwrap() }
}

/// Where the device is, behind a router: its messages say 192.168.1.64.
pub fn here() -> Hop {
    udp("192.0.2.10:6000")
}

/// The platform, and what has come out of it.
pub struct World {
    pub platform: Platform,
    pub now_ms: u64,
    /// Everything but messages, answers and notes.
    pub out: Vec<Output>,
    pub sent: Vec<(Hop, Message)>,
    pub answers: Vec<(Ticket, Answer)>,
    pub notes: Vec<(log::Level, Option<&'static str>, String)>,
    /// What makes requests of devices differ.
    requests: u32,
    tickets: u64,
}

impl World {
    /// With a device that has registered and told its catalog: a camera and a loudspeaker.
    pub fn new() -> Self {
        World::with(|_| ())
    }

    pub fn with(change: impl FnOnce(&mut Gb28181)) -> Self {
        let mut world = World::empty(change);
        world.register();
        world
    }

    pub fn empty(change: impl FnOnce(&mut Gb28181)) -> Self {
        let mut config = Config::default();
        config.gb28181.password = PASSWORD.to_owned();
        change(&mut config.gb28181);
        World {
            platform: Platform::new(Arc::new(config), Saved::default(), [7; 32]),
            now_ms: 1_000,
            out: Vec::new(),
            sent: Vec::new(),
            answers: Vec::new(),
            notes: Vec::new(),
            requests: 0,
            tickets: 0,
        }
    }

    pub fn tell(&mut self, input: Input<'_>) {
        let clock = Clock { now: Stamp::from_millis(self.now_ms), unix_ms: EPOCH_MS + self.now_ms };
        let mut out = Vec::new();
        self.platform.handle(clock, input, &mut out);
        for output in out {
            match output {
                Output::Send { hop, bytes } => {
                    self.sent.push((hop, Message::parse(&bytes).expect("what we send can be read")));
                }
                Output::Answer { ticket, answer } => self.answers.push((ticket, answer)),
                Output::Note { level, reason, message } => self.notes.push((level, reason, message)),
                Output::Save | Output::SaveLater | Output::DeviceChanged(_) => {}
                other => self.out.push(other),
            }
        }
    }

    pub fn receive(&mut self, bytes: &[u8]) {
        self.receive_from(here(), bytes);
    }

    pub fn receive_from(&mut self, hop: Hop, bytes: &[u8]) {
        self.tell(Input::Message { hop, bytes });
    }

    /// Lets time pass, and what is due happen in order.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while let Some(due) = self.platform.next_timeout() {
            let due = due.as_nanos().div_ceil(1_000_000);
            if due > end {
                break;
            }
            self.now_ms = self.now_ms.max(due);
            self.tell(Input::Timeout);
        }
        self.now_ms = end;
    }

    /// What was sent, and is not looked at again: requests by their method, answers by their status.
    pub fn words(&mut self) -> Vec<String> {
        let word = |(_, message): (Hop, Message)| match message {
            Message::Request(request) => request.method.to_string(),
            Message::Response(response) => response.status.to_string(),
        };
        std::mem::take(&mut self.sent).into_iter().map(word).collect()
    }

    /// The only request of that method that was sent; everything else that was sent is forgotten.
    #[track_caller]
    pub fn sent_request(&mut self, method: Method) -> Request {
        let sent = std::mem::take(&mut self.sent);
        let of_method = |(_, message)| match message {
            Message::Request(request) if request.method == method => Some(request),
            _ => None,
        };
        let mut requests = sent.into_iter().filter_map(of_method);
        let request = requests.next().unwrap_or_else(|| panic!("no {method}"));
        assert_eq!(requests.next(), None, "one {method}");
        request
    }

    /// The last answer that was sent.
    #[track_caller]
    pub fn sent_response(&mut self) -> Response {
        match self.sent.pop() {
            Some((_, Message::Response(response))) => response,
            other => panic!("{other:?}"),
        }
    }

    /// A request of the device outside of any call, and the last answer to it.
    #[track_caller]
    pub fn request(&mut self, from: &str, method: Method, fill: impl FnOnce(&mut Request)) -> Response {
        let request = self.request_of(from, method, fill);
        self.receive(&request.to_bytes());
        let of_it = |(_, message): &(Hop, Message)| match message {
            Message::Response(response) if response.headers.get("Call-ID") == request.headers.get("Call-ID") => {
                Some(response.clone())
            }
            _ => None,
        };
        self.sent.iter().rev().find_map(of_it).expect("an answer")
    }

    pub fn request_of(&mut self, from: &str, method: Method, fill: impl FnOnce(&mut Request)) -> Request {
        self.requests += 1;
        let number = self.requests;
        let mut request = Request::new(method, URI);
        request.headers.push("Via", &format!("SIP/2.0/UDP 192.168.1.64:5060;rport;branch=z9hG4bKd{number}"));
        request.headers.push("From", &format!("<sip:{from}@3402000000>;tag=d{number}"));
        request.headers.push("To", &format!("<{URI}>"));
        request.headers.push("Call-ID", &format!("c{number}"));
        let cseq = format!("{number} {}", request.method);
        request.headers.push("CSeq", &cseq);
        request.headers.push("Contact", &format!("<sip:{from}@192.168.1.64:5060>"));
        fill(&mut request);
        request
    }

    /// The device registers (`Expires: 0`: the other way round).
    pub fn register_for(&mut self, expires_s: u32) {
        let expires = expires_s.to_string();
        let challenged = self.request(NVR, Method::Register, |request| request.headers.push("Expires", &expires));
        let challenge = Challenge::parse(challenged.headers.get("WWW-Authenticate").expect("a challenge")).unwrap();
        let answered = self.request(NVR, Method::Register, |request| {
            request.headers.push("Expires", &expires);
            request.headers.push("Authorization", &challenge.answer(NVR, PASSWORD, "REGISTER", URI, "c"));
        });
        assert_eq!(answered.status, 200);
    }

    pub fn register(&mut self) {
        self.register_for(3_600);
        self.answer_questions();
        assert!(!self.notes.iter().any(|(level, ..)| *level == log::Level::Warn), "{:?}", self.notes);
        self.notes.clear();
    }

    /// The device answers what it was asked by MESSAGE: the question itself, and for the catalog what it has.
    pub fn answer_questions(&mut self) {
        for (_, message) in std::mem::take(&mut self.sent) {
            let Message::Request(question) = message else { continue };
            if question.method != Method::Message {
                continue;
            }
            self.receive(&question.response(200).to_bytes());
            let (message, _) = manscdp::decode(&question.body).unwrap();
            if matches!(message.body, Body::Query(manscdp::Query::Catalog { .. })) {
                let item = |id: &str| format!("<Item><DeviceID>{id}</DeviceID><Name>n</Name><Status>ON</Status></Item>");
                let catalog = format!(
                    "<Response><CmdType>Catalog</CmdType><SN>{}</SN><DeviceID>{NVR}</DeviceID><SumNum>2</SumNum>\
                    <DeviceList Num=\"2\">{}{}</DeviceList></Response>",
                    message.sn,
                    item(CAMERA),
                    item(LOUDSPEAKER)
                );
                self.message(&catalog);
            }
        }
        self.sent.clear();
    }

    /// The device sends a MESSAGE.
    pub fn message(&mut self, xml: &str) {
        let xml = xml.to_owned();
        let answer = self.request(NVR, Method::Message, |request| request.set_body("Application/MANSCDP+xml", xml));
        assert_eq!(answer.status, 200);
    }

    pub fn ask(&mut self, ask: Ask) -> Ticket {
        self.tickets += 1;
        self.tell(Input::Ask { ticket: Ticket(self.tickets), ask });
        Ticket(self.tickets)
    }

    /// A question that is answered at once.
    #[track_caller]
    pub fn answer(&mut self, ask: Ask) -> Answer {
        let ticket = self.ask(ask);
        self.answer_to(ticket).expect("an answer at once")
    }

    pub fn answer_to(&mut self, ticket: Ticket) -> Option<Answer> {
        let at = self.answers.iter().position(|(of, _)| *of == ticket)?;
        Some(self.answers.remove(at).1)
    }

    #[track_caller]
    pub fn refusal(&mut self, ask: Ask) -> Refused {
        match self.answer(ask) {
            Answer::Refused(refused) => refused,
            other => panic!("{other:?}"),
        }
    }

    /// All calls, the newest first.
    pub fn calls(&mut self) -> Vec<CallView> {
        match self.answer(Ask::Calls) {
            Answer::Calls(calls) => calls,
            other => panic!("{other:?}"),
        }
    }

    /// The newest call.
    #[track_caller]
    pub fn call(&mut self) -> CallView {
        self.calls().into_iter().next().expect("a call")
    }

    /// What is to be opened or closed, in words, since it was asked last.
    pub fn media(&mut self) -> Vec<String> {
        let word = |output| match output {
            Output::OpenReceiver { call, request } => format!("open {} {} {:?}", call.0, request.key, request.transport),
            Output::CloseReceiver(call) => format!("close {}", call.0),
            Output::OpenSender { call, request } => {
                format!("send {} {} {:?} {:?}", call.0, request.key, request.transport, request.content)
            }
            Output::CloseSender(call) => format!("close sender {}", call.0),
            Output::ExpectSource { call, source } => format!("expect {} {:?}", call.0, source.ssrc),
            other => panic!("{other:?}"),
        };
        std::mem::take(&mut self.out).into_iter().map(word).collect()
    }

    /// What the receiver of a call says.
    pub fn reception(&mut self, call: u64, state: ReceptionState, detail: &str, packets: u64) {
        let playing = state == ReceptionState::Playing;
        let reception = Reception {
            key: StreamKey::parse("gb/x/y").unwrap(),
            transport: "tcp_passive",
            port: Some(30_000),
            ssrc: Some(200_000_001),
            source: Some("192.0.2.10:15060".parse().unwrap()),
            state,
            end: (state == ReceptionState::Ended).then(|| end_of(detail)),
            detail: detail.to_owned(),
            tracks: if playing { vec!["H264"] } else { Vec::new() },
            received: Received { received: packets, ..Received::default() },
            media_age_ms: (packets > 0).then_some(0),
            bytes: 1_000 * packets,
            refusal: None,
        };
        self.tell(Input::Reception { call: CallId(call), reception });
    }
}

/// How a receiver that says this is over.
fn end_of(detail: &str) -> ReceptionEnd {
    match detail {
        _ if detail.starts_with("nobody watched") => ReceptionEnd::AsWished,
        "the sender has closed the connection" => ReceptionEnd::SenderLeft,
        _ => ReceptionEnd::Failed,
    }
}

#[test]
fn requests_that_belong_to_nothing_are_answered() {
    let mut world = World::empty(|_| ());
    let cases = [
        (Method::Options, 200),
        (Method::Bye, 481),
        (Method::Info, 481),
        (Method::Other("UPDATE".into()), 481),
        (Method::Other("PUBLISH".into()), 405),
        (Method::Invite, 403),
        (Method::Message, 403),
        (Method::Notify, 403),
        (Method::Register, 401),
    ];
    for (method, status) in cases {
        assert_eq!(world.request(NVR, method.clone(), |_| ()).status, status, "{method}");
    }
    let reasons: Vec<_> = world.notes.iter().filter_map(|(_, reason, _)| *reason).collect();
    assert!(reasons.contains(&"gb28181_unregistered"), "{reasons:?}");
    world.receive(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(world.notes.last().and_then(|(_, reason, _)| *reason), Some("sip_bad_first_line"));
}

#[test]
fn what_was_saved_is_there_before_anything_comes() {
    let mut world = World::new();
    let saved = world.platform.saved();
    assert_eq!(saved.devices.len(), 1);
    world.platform = Platform::new(Arc::new(Config::default()), saved.clone(), [8; 32]);
    assert_eq!(world.platform.saved(), saved, "also when it is asked before the first input");
    assert_eq!(world.platform.next_timeout(), Some(Stamp::ZERO));
    world.tell(Input::Timeout);
    let Answer::Channels(channels) = world.answer(Ask::Channels(NVR.to_owned())) else { panic!() };
    assert_eq!(channels.len(), 2);
}

#[test]
fn a_device_whose_media_comes_is_not_offline_for_want_of_keepalives() {
    let mut world = World::new();
    world.ask(Ask::Play {
        of: ask::Channel { device: NVR.to_owned(), channel: CAMERA.to_owned() },
        options: ask::CallOptions::default(),
    });
    world.tell(Input::ReceiverOpened { call: CallId(1), port: Ok(30_000) });
    let is_online = |world: &mut World| match world.answer(Ask::Device(NVR.to_owned())) {
        Answer::Device(device) => device.online,
        other => panic!("{other:?}"),
    };
    let invite = world.sent_request(Method::Invite);
    let mut answer = invite.response(200);
    answer.headers.set("To", &format!("{};tag=a", invite.headers.get("To").unwrap()));
    answer.headers.push("Contact", &format!("<sip:{CAMERA}@192.168.1.64:5060>"));
    let sdp = "v=0\r\no=- 0 0 IN IP4 192.0.2.10\r\ns=Play\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\nm=video 15060 TCP/RTP/AVP 96\r\n\
        a=setup:active\r\na=connection:new\r\na=sendonly\r\na=rtpmap:96 PS/90000\r\n";
    answer.set_body("application/sdp", sdp);
    world.receive(&answer.to_bytes());
    for second in (0..600).step_by(5) {
        world.reception(1, ReceptionState::Playing, "playing H264", second + 1);
        world.pass(5_000);
    }
    assert!(is_online(&mut world), "{:?}", world.notes.last());
    // The receiver goes on to say the same.
    for _ in 0..40 {
        world.reception(1, ReceptionState::Playing, "playing H264", 600);
        world.pass(5_000);
    }
    assert!(!is_online(&mut world));
}

fn unlisted() -> ask::Channel {
    ask::Channel { device: NVR.to_owned(), channel: "34020000001310000009".to_owned() }
}

/// A device that was saved before a restart, and has not been heard of since.
fn remembered() -> World {
    let mut world = World::new();
    let saved = world.platform.saved();
    let mut config = Config::default();
    config.gb28181.password = PASSWORD.to_owned();
    world.platform = Platform::new(Arc::new(config), saved, [8; 32]);
    world.tell(Input::Timeout);
    assert!(!is_online(&mut world));
    world
}

fn is_online(world: &mut World) -> bool {
    match world.answer(Ask::Device(NVR.to_owned())) {
        Answer::Device(device) => device.online,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_remembered_device_that_agrees_to_a_request_is_heard() {
    let of = || ask::Channel { device: NVR.to_owned(), channel: CAMERA.to_owned() };
    for status in [200, 403] {
        let mut world = remembered();
        world.ask(Ask::Control { of: of(), control: ask::DeviceControl::KeyFrame });
        let question = world.sent_request(Method::Message);
        world.receive(&question.response(status).to_bytes());
        assert_eq!(is_online(&mut world), status == 200, "MESSAGE, {status}");

        let mut world = remembered();
        world.ask(Ask::Play { of: of(), options: ask::CallOptions::default() });
        world.tell(Input::ReceiverOpened { call: CallId(1), port: Ok(30_000) });
        let invite = world.sent_request(Method::Invite);
        world.receive(&invite.response(100).to_bytes());
        assert!(!is_online(&mut world), "only asked");
        let mut answer = invite.response(status);
        answer.headers.push("Contact", &format!("<sip:{CAMERA}@192.168.1.64:5060>"));
        world.receive(&answer.to_bytes());
        assert_eq!(is_online(&mut world), status == 200, "INVITE, {status}");
    }
}

#[test]
fn a_device_with_a_call_is_not_forgotten() {
    let mut world = remembered();
    let of = ask::Channel { device: NVR.to_owned(), channel: CAMERA.to_owned() };
    world.ask(Ask::Play { of, options: ask::CallOptions::default() });
    let refused = world.refusal(Ask::Forget(NVR.to_owned()));
    let why = format!("call 1 of device {NVR} is under way: end it first");
    assert_eq!((refused.kind, refused.why), (ask::RefusedKind::Conflict, why));
    assert_eq!(world.answer(Ask::Stop(CallId(1))), Answer::Done);
    assert_eq!(world.answer(Ask::Forget(NVR.to_owned())), Answer::Done);
}

#[test]
fn a_channel_that_a_whole_catalog_lacks_is_not_found() {
    let options = ask::CallOptions::default;
    let questions = |of: ask::Channel| {
        [
            Ask::Control { of: of.clone(), control: ask::DeviceControl::Move { pan: 1, tilt: 0, zoom: 0 } },
            Ask::Control { of: of.clone(), control: ask::DeviceControl::Record { on: true } },
            Ask::Play { of: of.clone(), options: options() },
            Ask::Playback { of: of.clone(), from_unix_s: 1, to_unix_s: 2, options: options() },
            Ask::Download { of, from_unix_s: 1, to_unix_s: 2, speed: 1, options: options() },
        ]
    };
    let mut world = World::new();
    for question in questions(unlisted()) {
        let refused = world.refusal(question);
        let why = format!("device {NVR} has no channel 34020000001310000009");
        assert_eq!((refused.kind, refused.why), (ask::RefusedKind::NotFound, why));
    }
    // It may be its own channel; and what a catalog holds that has not come is not known.
    let mut unknown = World::empty(|_| ());
    unknown.register_for(3_600);
    let itself = ask::Channel { device: NVR.to_owned(), channel: NVR.to_owned() };
    for (mut world, of) in [(world, itself), (unknown, unlisted()), (remembered(), unlisted())] {
        for question in questions(of) {
            let ticket = world.ask(question);
            assert_eq!(world.answer_to(ticket), None, "it is asked");
        }
    }
}
