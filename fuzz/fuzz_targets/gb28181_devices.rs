//! Devices that send anything, know answers to questions they were not asked, and answer nothing: no panic; every question of the operator
//! is answered once; nothing is left when all is over.
//!
//! Input: steps. Each is a byte that chooses, and what it needs: a number, or a body behind its length.
#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use shardcast::config::{Gb28181, Subscription};
use shardcast::media::Stamp;
use shardcast::protocol::gb28181::platform::ask::{Ask, Channel, RecordKind};
use shardcast::protocol::gb28181::platform::context::Context;
use shardcast::protocol::gb28181::platform::devices::{Devices, Saved, SavedDevice};
use shardcast::protocol::gb28181::platform::{Clock, Output, Ticket};
use shardcast::protocol::gb28181::sip::message::{Message, Method, Request};
use shardcast::protocol::gb28181::sip::tokens::Tokens;
use shardcast::protocol::gb28181::sip::transaction::{Event, Transactions};
use shardcast::protocol::gb28181::sip::{Carrier, Hop};
use shardcast_fuzz::Choices;

const DEVICE: &str = "34020000001110000001";
const DAY_MS: u64 = 86_400_000;
const STEPS_MAX: usize = 200;

fn hop(port: u16) -> Hop {
    Hop { carrier: Carrier::Udp, peer: SocketAddr::from(([192, 0, 2, 1], port)), local: SocketAddr::from(([192, 0, 2, 2], 5060)) }
}

struct World {
    settings: Gb28181,
    devices: Devices,
    transactions: Transactions,
    tokens: Tokens,
    now_ms: u64,
    asked: u64,
    answered: Vec<Ticket>,
    /// Requests that the device has got.
    requests: Vec<Request>,
}

impl World {
    /// A device that was registered before a restart needs no password.
    fn new() -> Self {
        let subscribe = vec![Subscription::Catalog, Subscription::Alarm, Subscription::MobilePosition];
        let settings = Gb28181 { subscribe, ..Gb28181::default() };
        let mut world = World {
            devices: Devices::new(&settings, &[1; 32]),
            settings,
            transactions: Transactions::new(&[2; 32]),
            tokens: Tokens::new(&[3; 32]),
            now_ms: 1,
            asked: 0,
            answered: Vec::new(),
            requests: Vec::new(),
        };
        let device = SavedDevice {
            id: DEVICE.to_owned(),
            peer: hop(5060).peer,
            local: hop(5060).local,
            udp: true,
            expires_unix_ms: DAY_MS,
            charset: Default::default(),
            version: None,
            info: Default::default(),
            channels: Default::default(),
        };
        let saved = Saved { version: 1, devices: vec![device] };
        world.run(|devices, context| devices.restore(context, saved));
        world
    }

    fn run(&mut self, act: impl FnOnce(&mut Devices, &mut Context<'_>)) {
        let mut out = Vec::new();
        let mut context = Context {
            clock: Clock { now: Stamp::from_millis(self.now_ms), unix_ms: self.now_ms },
            settings: &self.settings,
            transactions: &mut self.transactions,
            tokens: &mut self.tokens,
            out: &mut out,
        };
        act(&mut self.devices, &mut context);
        self.answered.extend(out.into_iter().filter_map(|output| match output {
            Output::Answer { ticket, .. } => Some(ticket),
            _ => None,
        }));
        for (_, bytes) in self.transactions.take_sends() {
            if let Message::Request(request) = Message::parse(&bytes).expect("what we send can be read") {
                self.requests.push(request);
            }
        }
        self.devices.take_news();
    }

    fn route(&mut self, events: Vec<Event>) {
        for event in events {
            self.run(|devices, context| match event {
                Event::Request { id, hop, request } => match request.method {
                    Method::Register => devices.register(context, id, hop, &request),
                    Method::Notify => devices.notify(context, id, hop, &request),
                    _ => devices.message(context, id, hop, &request),
                },
                Event::Response { id, response, .. } => drop(devices.response(context, id, &response)),
                Event::Failed { id, failure } => drop(devices.failed(context, id, failure)),
                _ => {}
            });
        }
    }

    fn receive(&mut self, hop: Hop, bytes: &[u8]) {
        let mut events = Vec::new();
        self.transactions.received(Stamp::from_millis(self.now_ms), hop, bytes, &mut events);
        self.run(|_, _| ());
        self.route(events);
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        let mut events = Vec::new();
        self.transactions.timeout(Stamp::from_millis(self.now_ms), &mut events);
        self.route(events);
        self.run(|devices, context| devices.timeout(context));
    }

    fn request(&mut self, method: Method, number: u32, call_id: &str, state: &str, body: &[u8]) {
        let mut request = Request::new(method, "sip:34020000002000000001@3402000000");
        request.headers.push("Via", &format!("SIP/2.0/UDP h;branch=z9hG4bK{number}"));
        request.headers.push("From", &format!("<sip:{DEVICE}@3402000000>;tag=1"));
        request.headers.push("To", "<sip:34020000002000000001@3402000000>");
        request.headers.push("Call-ID", call_id);
        request.headers.push("CSeq", &format!("{number} {}", request.method));
        request.headers.push("Subscription-State", state);
        request.set_body("Application/MANSCDP+xml", body.to_vec());
        self.receive(hop(5060), &request.to_bytes());
    }

    fn ask(&mut self, ask: Ask) {
        self.asked += 1;
        let ticket = Ticket(self.asked);
        self.run(|devices, context| devices.ask(context, ticket, ask).expect("a question about devices"));
    }

    fn step(&mut self, number: u32, choices: &mut Choices<'_>) {
        let of = Channel { device: DEVICE.to_owned(), channel: "1".to_owned() };
        match choices.byte() % 12 {
            0 => self.receive(hop(5060 + u16::from(choices.byte() & 1)), choices.sized()),
            1..=3 => self.request(Method::Message, number, "m", "", choices.sized()),
            4 => {
                let last = self.requests.iter().rev().find(|request| request.method == Method::Subscribe);
                let call_id = last.and_then(|request| request.headers.get("Call-ID")).unwrap_or("n").to_owned();
                let state = String::from_utf8_lossy(choices.sized()).into_owned();
                self.request(Method::Notify, number, &call_id, &state, choices.sized());
            }
            5 => {
                let status = 200 + u16::from(choices.byte());
                let expires = choices.number().to_string();
                if let Some(request) = self.requests.pop() {
                    let mut response = request.response(status);
                    response.headers.push("Expires", &expires);
                    self.receive(hop(5060), &response.to_bytes());
                }
            }
            6 => self.ask(Ask::Refresh(DEVICE.to_owned())),
            7 => self.ask(Ask::Presets(of)),
            8 => self.ask(Ask::Records { of, from_unix_s: choices.number().into(), to_unix_s: u64::MAX, kind: RecordKind::All }),
            9 => self.ask(Ask::Config { of, kinds: vec!["BasicParam".to_owned(); usize::from(choices.byte() & 3)] }),
            10 => self.pass(choices.word().into()),
            _ => self.pass(u64::from(choices.number()) >> 4),
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let mut choices = Choices::new(input);
    let mut world = World::new();
    for number in 1..=STEPS_MAX {
        if choices.is_over() {
            break;
        }
        world.step(number as u32, &mut choices);
    }
    for _ in 0..10 {
        world.pass(DAY_MS);
    }
    world.answered.sort_unstable();
    let asked: Vec<Ticket> = (1..=world.asked).map(Ticket).collect();
    assert_eq!(world.answered, asked, "each question is answered once");
});
