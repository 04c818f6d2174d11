//! A scripted device against [`Devices`], over the real transactions and in virtual time.

mod anything;
mod asking;
mod registering;
mod telling;
mod troubles;

use serde_json::json;

use super::*;
use crate::config::{DevicePassword, Subscription};
use crate::protocol::gb28181::manscdp::{self, Body};
use crate::protocol::gb28181::platform::ask::{Answer, Ask, Channel};
use crate::protocol::gb28181::platform::{Clock, Output, Ticket};
use crate::protocol::gb28181::sip::Carrier;
use crate::protocol::gb28181::sip::digest::Challenge;
use crate::protocol::gb28181::sip::message::{Message, Method, Request};
use crate::protocol::gb28181::sip::tokens::Tokens;
use crate::protocol::gb28181::sip::transaction::{Event, Transactions};

const NVR: &str = "34020000001110000001";
const CAMERA: &str = "34020000001310000001";
const PASSWORD: &str = "12345678";
const URI: &str = "sip:34020000002000000001@3402000000";
/// 2026-01-02T07:04:05.123 UTC.
const EPOCH_MS: u64 = 1_767_337_445_123;

fn udp(peer: &str) -> Hop {
    Hop { carrier: Carrier::Udp, peer: peer.parse().unwrap(), local: "198.51.100.1:5060".parse().unwrap() }
}

fn tcp(peer: &str, connection: u64) -> Hop {
    Hop { carrier: Carrier::Tcp(ConnectionId(connection)), ..udp(peer) }
}

/// The platform's part that is tested, and what has come out of it.
struct World {
    devices: Devices,
    transactions: Transactions,
    tokens: Tokens,
    settings: Gb28181,
    now_ms: u64,
    out: Vec<Output>,
    sent: Vec<(Hop, Message)>,
    /// What makes requests of devices differ.
    requests: u32,
    tickets: u64,
}

impl World {
    fn new() -> Self {
        Self::with(Gb28181 { password: PASSWORD.to_owned(), ..Gb28181::default() })
    }

    fn with(settings: Gb28181) -> Self {
        World {
            devices: Devices::new(&settings, &[1; 32]),
            transactions: Transactions::new(&[2; 32]),
            tokens: Tokens::new(&[3; 32]),
            settings,
            now_ms: 1_000,
            out: Vec::new(),
            sent: Vec::new(),
            requests: 0,
            tickets: 0,
        }
    }

    /// Runs something with the platform's context.
    fn run<T>(&mut self, act: impl FnOnce(&mut Devices, &mut Context<'_>) -> T) -> T {
        let clock = Clock { now: Stamp::from_millis(self.now_ms), unix_ms: EPOCH_MS + self.now_ms - 1_000 };
        let mut context = Context {
            clock,
            settings: &self.settings,
            transactions: &mut self.transactions,
            tokens: &mut self.tokens,
            out: &mut self.out,
        };
        let result = act(&mut self.devices, &mut context);
        let sends = self.transactions.take_sends();
        self.sent.extend(sends.map(|(hop, bytes)| (hop, Message::parse(&bytes).expect("what we send can be read"))));
        result
    }

    /// What the transactions say goes where it belongs.
    fn route(&mut self, events: Vec<Event>) {
        for event in events {
            self.run(|devices, context| match event {
                Event::Request { id, hop, request } => match request.method {
                    Method::Register => devices.register(context, id, hop, &request),
                    Method::Message => devices.message(context, id, hop, &request),
                    Method::Notify => devices.notify(context, id, hop, &request),
                    _ => panic!("{request:?}"),
                },
                Event::Response { id, response, .. } => {
                    devices.response(context, id, &response);
                }
                Event::Failed { id, failure } => {
                    devices.failed(context, id, failure);
                }
                Event::Broken { reason, message, .. } => context.note(log::Level::Warn, Some(reason), message),
                other => panic!("{other:?}"),
            });
        }
    }

    fn receive(&mut self, hop: Hop, bytes: &[u8]) {
        let mut events = Vec::new();
        self.transactions.received(Stamp::from_millis(self.now_ms), hop, bytes, &mut events);
        self.run(|_, _| ());
        self.route(events);
    }

    /// Lets time pass, and what is due happen in order.
    fn pass(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        loop {
            let due = [self.devices.next_timeout(), self.transactions.next_timeout()].into_iter().flatten().min();
            let Some(due) = due.map(|due| due.as_nanos().div_ceil(1_000_000)).filter(|due| *due <= end) else { break };
            self.now_ms = self.now_ms.max(due);
            let mut events = Vec::new();
            self.transactions.timeout(Stamp::from_millis(self.now_ms), &mut events);
            self.route(events);
            self.run(|devices, context| devices.timeout(context));
        }
        self.now_ms = end;
    }

    /// A request of a device: its answer.
    fn request(&mut self, hop: Hop, from: &str, method: Method, fill: impl FnOnce(&mut Request)) -> Option<Response> {
        self.requests += 1;
        let number = self.requests;
        let mut request = Request::new(method, URI);
        request.headers.push("Via", &format!("SIP/2.0/UDP 192.168.1.64:5060;rport;branch=z9hG4bKd{number}"));
        request.headers.push("From", &format!("<sip:{from}@3402000000>;tag=d{number}"));
        request.headers.push("To", &format!("<sip:{from}@3402000000>"));
        request.headers.push("Call-ID", "c1");
        request.headers.push("CSeq", &format!("{number} {}", request.method));
        request.headers.push("Contact", &format!("<sip:{from}@192.168.1.64:5060>"));
        fill(&mut request);
        let begin = self.sent.len();
        self.receive(hop, &request.to_bytes());
        let branch = format!("z9hG4bKd{number}");
        let at = self.sent[begin..].iter().position(
            |(_, message)| matches!(message, Message::Response(response) if response.headers.get("Via").is_some_and(|via| via.contains(&branch))),
        )?;
        match self.sent.remove(begin + at) {
            (to, Message::Response(response)) => {
                assert_eq!(to, hop, "answered where it came from");
                Some(response)
            }
            _ => None,
        }
    }

    /// One REGISTER, with an answer to `challenge` if there is one.
    fn register_once(&mut self, hop: Hop, id: &str, password: &str, challenge: Option<&str>, expires: &str) -> Response {
        let authorization = challenge.map(|challenge| {
            Challenge::parse(challenge).expect("a challenge").answer(id, password, "REGISTER", "sip:192.0.2.1:5060", "n")
        });
        let fill = |request: &mut Request| {
            request.headers.push("Expires", expires);
            request.headers.push("X-GB-Ver", "3.0");
            if let Some(authorization) = &authorization {
                request.headers.push("Authorization", authorization);
            }
        };
        self.request(hop, id, Method::Register, fill).expect("an answer")
    }

    fn challenge(&mut self, hop: Hop, id: &str) -> String {
        let response = self.register_once(hop, id, "", None, "3600");
        assert_eq!(response.status, 401);
        response.headers.get("WWW-Authenticate").expect("a challenge").to_owned()
    }

    fn register(&mut self, hop: Hop, id: &str) -> Response {
        self.register_for(hop, id, "3600")
    }

    fn register_for(&mut self, hop: Hop, id: &str, expires: &str) -> Response {
        let challenge = self.challenge(hop, id);
        let response = self.register_once(hop, id, PASSWORD, Some(&challenge), expires);
        assert_eq!(response.status, 200, "{response:?}");
        response
    }

    /// A MESSAGE of a device: the status of its answer.
    fn message(&mut self, hop: Hop, from: &str, xml: &str) -> u16 {
        self.message_of(hop, from, xml.as_bytes())
    }

    fn message_of(&mut self, hop: Hop, from: &str, body: &[u8]) -> u16 {
        let body = body.to_vec();
        let fill = |request: &mut Request| request.set_body("Application/MANSCDP+xml", body);
        self.request(hop, from, Method::Message, fill).expect("an answer").status
    }

    fn keepalive(&mut self, hop: Hop, from: &str) -> u16 {
        let xml =
            format!("<Notify><CmdType>Keepalive</CmdType><SN>1</SN><DeviceID>{from}</DeviceID><Status>OK</Status></Notify>");
        self.message(hop, from, &xml)
    }

    /// Requests that have been sent since this was asked last; repetitions too.
    fn requests(&mut self) -> Vec<(Hop, Request)> {
        let sent = std::mem::take(&mut self.sent).into_iter();
        let request = |(hop, message)| match message {
            Message::Request(request) => Some((hop, request)),
            Message::Response(_) => None,
        };
        sent.filter_map(request).collect()
    }

    /// The device answers all that was sent to it: SIP 200. What it was asked.
    fn take(&mut self) -> Vec<manscdp::Message> {
        let requests = self.requests();
        let decode = |request: &Request| manscdp::decode(&request.body).expect("a message").0;
        let messages = requests.iter().map(|(_, request)| decode(request)).collect();
        for (hop, request) in requests {
            self.answer(hop, &request, 200, &[]);
        }
        messages
    }

    fn answer(&mut self, hop: Hop, request: &Request, status: u16, headers: &[(&str, &str)]) {
        let mut response = request.response(status);
        for (name, value) in headers {
            response.headers.push(name, value);
        }
        self.receive(hop, &response.to_bytes());
    }

    /// The number of the only question of that command among `messages`.
    fn sn_of(messages: &[manscdp::Message], command: &str) -> u64 {
        let is_it = |message: &&manscdp::Message| match &message.body {
            Body::Query(query) => query.command() == command,
            Body::Control(_) => command == "DeviceControl",
            _ => false,
        };
        let found: Vec<_> = messages.iter().filter(is_it).collect();
        assert_eq!(found.len(), 1, "{command} in {messages:?}");
        found[0].sn
    }

    fn ask(&mut self, ask: Ask) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.run(|devices, context| devices.ask(context, ticket, ask).expect("a question about devices"));
        ticket
    }

    /// The answer to a question, if it has come.
    fn answered(&mut self, ticket: Ticket) -> Option<Answer> {
        let at = self.out.iter().position(|output| matches!(output, Output::Answer { ticket: of, .. } if *of == ticket))?;
        match self.out.remove(at) {
            Output::Answer { answer, .. } => Some(answer),
            _ => None,
        }
    }

    fn now(&mut self, ask: Ask) -> Answer {
        let ticket = self.ask(ask);
        self.answered(ticket).expect("an answer at once")
    }

    fn refusal(&mut self, ticket: Ticket) -> (RefusedKind, String) {
        match self.answered(ticket) {
            Some(Answer::Refused(refused)) => (refused.kind, refused.why),
            other => panic!("{other:?}"),
        }
    }

    fn detail(&mut self, id: &str) -> (bool, String) {
        match self.now(Ask::Device(id.to_owned())) {
            Answer::Device(device) => (device.online, device.detail),
            other => panic!("{other:?}"),
        }
    }

    /// Reasons that were counted since this was asked last, each once.
    fn reasons(&mut self) -> Vec<&'static str> {
        let notes = self.out.iter().filter_map(|output| match output {
            Output::Note { reason, .. } => *reason,
            _ => None,
        });
        let mut reasons: Vec<_> = notes.collect();
        self.out.retain(|output| !matches!(output, Output::Note { .. }));
        reasons.dedup();
        reasons
    }

    /// A registered device whose catalog has one camera.
    fn with_camera(hop: Hop) -> Self {
        let mut world = World::new();
        world.register(hop, NVR);
        world.give_catalog(hop, &[item(CAMERA, "Gate")]);
        world.reasons();
        world
    }

    /// Answers the questions that a device is asked when it comes.
    fn give_catalog(&mut self, hop: Hop, items: &[String]) {
        let asked = self.take();
        let (info, catalog) = (Self::sn_of(&asked, "DeviceInfo"), Self::sn_of(&asked, "Catalog"));
        let xml = format!(
            "<Response><CmdType>DeviceInfo</CmdType><SN>{info}</SN><DeviceID>{NVR}</DeviceID><DeviceName>N1</DeviceName>\
            <Manufacturer>X</Manufacturer><Channel>1</Channel></Response>"
        );
        assert_eq!(self.message(hop, NVR, &xml), 200);
        assert_eq!(self.message(hop, NVR, &catalog_part(catalog, items.len(), items)), 200);
    }
}

fn item(id: &str, name: &str) -> String {
    format!("<Item><DeviceID>{id}</DeviceID><Name>{name}</Name><ParentID>{NVR}</ParentID><Status>ON</Status></Item>")
}

fn catalog_part(sn: u64, sum: usize, items: &[String]) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"GB2312\"?><Response><CmdType>Catalog</CmdType><SN>{sn}</SN><DeviceID>{NVR}</DeviceID>\
        <SumNum>{sum}</SumNum><DeviceList Num=\"{}\">{}</DeviceList></Response>",
        items.len(),
        items.concat()
    )
}

fn channel(id: &str) -> Channel {
    Channel { device: NVR.to_owned(), channel: id.to_owned() }
}

/// Ids and names of channels.
fn names(answer: Option<Answer>) -> Vec<(String, String)> {
    match answer {
        Some(Answer::Channels(channels)) => {
            channels.into_iter().map(|channel| (channel.id, channel.name.unwrap_or_default())).collect()
        }
        other => panic!("{other:?}"),
    }
}
