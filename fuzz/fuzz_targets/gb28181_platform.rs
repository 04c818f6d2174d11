//! Whatever devices send, the operator asks, viewers want and shards say → `Platform`: no panic, what is due is done, each question is answered
//! once, what it keeps is bounded, and in the end every receiver and sender that was opened is closed.
//!
//! Input: steps: what happens, a byte for which, sized bytes where any will do. Most messages are made from what was sent, so that they fit.
#![no_main]

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use shardcast::config::{Config, MediaTransport};
use shardcast::format::rtp::demux::Received;
use shardcast::media::Stamp;
use shardcast::protocol::gb28181::platform::ask::{Ask, CallOptions, Channel, PlayingControl};
use shardcast::protocol::gb28181::platform::calls::{CALLS_MAX, ENDED_MAX};
use shardcast::protocol::gb28181::platform::{CallId, Clock, Input, Output, Platform, Saved, Ticket};
use shardcast::protocol::gb28181::sip::digest::Challenge;
use shardcast::protocol::gb28181::sip::message::{Message, Method, Request, Response};
use shardcast::protocol::gb28181::sip::{Carrier, ConnectionId, Hop};
use shardcast::session::{Reception, ReceptionEnd, ReceptionState, Sending, SendingState, StreamKey};
use shardcast_fuzz::Choices;

const DEVICES: [&str; 2] = ["34020000001110000001", "34020000001110000002"];
const CHANNELS: [&str; 4] = ["34020000001310000001", "34020000001310000002", "34020000001370000001", "34020000001110000001"];
const PLATFORM: &str = "<sip:34020000002000000001@3402000000>";
const SDPS: [&str; 6] = [
    "v=0\r\nc=IN IP4 192.168.1.64\r\nm=video 15060 TCP/RTP/AVP 96\r\na=setup:active\r\n",
    "v=0\r\nc=IN IP4 192.168.1.64\r\nm=video 15060 TCP/RTP/AVP 96\r\na=setup:passive\r\ny=0200000009\r\n",
    "v=0\r\nm=audio 9000 RTP/AVP 8 96\r\na=recvonly\r\n",
    "v=0\r\nm=audio 9000 TCP/RTP/AVP 8\r\na=setup:active\r\n",
    "v=0\r\n",
    "",
];
/// What is looked at of what was sent.
const KEPT: usize = 32;
/// How long everything may go on by itself.
const LONGEST_MS: u64 = 600_000;

struct World {
    platform: Platform,
    now_ms: u64,
    sent: Vec<Request>,
    challenge: Option<Challenge>,
    /// Receivers and senders; `false`: not yet answered.
    receivers: BTreeMap<CallId, bool>,
    senders: BTreeMap<CallId, bool>,
    waiting: HashSet<Ticket>,
    /// INVITEs of devices and what we have answered.
    accepted: Vec<(Request, Response)>,
    number: u32,
}

fn hop(choice: u8) -> Hop {
    let carrier = if choice & 1 == 0 { Carrier::Udp } else { Carrier::Tcp(ConnectionId(u64::from(choice >> 1 & 1))) };
    Hop { carrier, peer: ([192, 0, 2, 10 + (choice >> 2 & 1)], 5_060).into(), local: ([198, 51, 100, 1], 5_060).into() }
}

fn camera(choice: u8) -> Channel {
    Channel { device: DEVICES[usize::from(choice & 1)].to_owned(), channel: CHANNELS[usize::from(choice >> 1 & 3)].to_owned() }
}

impl World {
    fn new() -> Self {
        let mut config = Config::default();
        config.gb28181.password = "p".to_owned();
        World {
            platform: Platform::new(Arc::new(config), Saved::default(), [1; 32]),
            now_ms: 1_000_000,
            sent: Vec::new(),
            challenge: None,
            receivers: BTreeMap::new(),
            senders: BTreeMap::new(),
            waiting: HashSet::new(),
            accepted: Vec::new(),
            number: 0,
        }
    }

    fn tell(&mut self, input: Input<'_>) {
        let clock = Clock { now: Stamp::from_millis(self.now_ms), unix_ms: 1_767_337_445_000 + self.now_ms };
        let mut out = Vec::new();
        self.platform.handle(clock, input, &mut out);
        for output in out {
            self.take(output);
        }
    }

    fn take(&mut self, output: Output) {
        match output {
            Output::Send { bytes, .. } => match Message::parse(&bytes).expect("what we send can be read") {
                Message::Request(request) => self.sent.push(request),
                Message::Response(response) => {
                    let challenge = response.headers.get("WWW-Authenticate").and_then(Challenge::parse);
                    self.challenge = challenge.or(self.challenge.take());
                    if let Some((_, answer)) = self.accepted.last_mut() {
                        *answer = response;
                    }
                }
            },
            Output::OpenReceiver { call, .. } => assert_eq!(self.receivers.insert(call, false), None, "opened twice"),
            Output::CloseReceiver(call) => assert!(self.receivers.remove(&call).is_some(), "closed, and not open"),
            Output::OpenSender { call, .. } => assert_eq!(self.senders.insert(call, false), None, "opened twice"),
            Output::CloseSender(call) => assert!(self.senders.remove(&call).is_some(), "closed, and not open"),
            Output::ExpectSource { call, .. } => assert!(self.receivers.contains_key(&call)),
            Output::Answer { ticket, .. } => assert!(self.waiting.remove(&ticket), "answered twice"),
            Output::Note { message, .. } => assert!(message.len() < 4_096),
            Output::DeviceChanged(_) => {}
            Output::Save | Output::SaveLater | Output::Hangup(_) | Output::Reach { .. } | Output::ListStreams => {}
        }
        let begin = self.sent.len().saturating_sub(KEPT);
        self.sent.drain(..begin);
    }

    fn pass(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while let Some(due) = self.platform.next_timeout().map(|due| due.as_nanos().div_ceil(1_000_000)).filter(|due| *due <= end)
        {
            self.now_ms = self.now_ms.max(due);
            self.tell(Input::Timeout);
            let next = self.platform.next_timeout();
            assert!(next.is_none_or(|next| next > Stamp::from_millis(self.now_ms)), "due again at once");
        }
        self.now_ms = end;
    }

    fn request(&mut self, choice: u8, from: &str, method: Method) -> Request {
        self.number += 1;
        let number = self.number;
        let mut request = Request::new(method, "sip:34020000002000000001@3402000000");
        request.headers.push("Via", &format!("SIP/2.0/UDP 192.168.1.64;rport;branch=z9hG4bK{number}"));
        request.headers.push("From", &format!("<sip:{from}@3402000000>;tag=d{}", choice >> 6));
        request.headers.push("To", PLATFORM);
        request.headers.push("Call-ID", &format!("c{}", choice >> 5));
        request.headers.push("CSeq", &format!("{number} {}", request.method));
        request
    }

    fn register(&mut self, choice: u8) {
        let device = DEVICES[usize::from(choice & 1)];
        for answered in [false, true] {
            let mut request = self.request(choice, device, Method::Register);
            request.headers.push("Expires", if choice & 0x80 == 0 { "3600" } else { "0" });
            if let Some(challenge) = self.challenge.take().filter(|_| answered) {
                request.headers.push("Authorization", &challenge.answer(device, "p", "REGISTER", "sip:p", "c"));
            }
            self.tell(Input::Message { hop: hop(choice & 6), bytes: &request.to_bytes() });
        }
    }

    /// The device answers something that it was sent.
    fn answer(&mut self, what: u8, choice: u8, body: &[u8]) {
        let Some(request) = self.sent.get(usize::from(choice) % KEPT) else { return };
        let status = [100, 180, 200, 200, 200, 404, 486, 487][usize::from(what >> 5)];
        let mut answer = request.response(status);
        answer.headers.push("Contact", "<sip:x@192.168.1.64>");
        if body.is_empty() {
            answer.set_body("APPLICATION/SDP", SDPS[usize::from(choice >> 5) % SDPS.len()]);
        } else {
            answer.set_body("APPLICATION/SDP", body.to_vec());
        }
        self.tell(Input::Message { hop: hop(0), bytes: &answer.to_bytes() });
    }

    /// The device wants something in a call that we have begun, or that it has.
    fn in_call(&mut self, what: u8, choice: u8) {
        let method = [Method::Bye, Method::Info, Method::Invite, Method::Ack, Method::Cancel, Method::Message]
            [usize::from(what >> 4) % 6]
            .clone();
        let mut request = self.request(choice, CHANNELS[0], method);
        let begun = self.sent.get(usize::from(choice) % KEPT).map(|sent| {
            let answer = sent.response(200);
            (
                answer.headers.get("To").unwrap_or(PLATFORM).to_owned(),
                sent.headers.get("From").unwrap_or(PLATFORM).to_owned(),
                sent.headers.clone(),
            )
        });
        let theirs = self.accepted.last().map(|(invite, answer)| {
            (
                invite.headers.get("From").unwrap_or(PLATFORM).to_owned(),
                answer.headers.get("To").unwrap_or(PLATFORM).to_owned(),
                invite.headers.clone(),
            )
        });
        let Some((from, to, headers)) = (if what & 8 == 0 { begun } else { theirs }) else { return };
        request.headers.set("From", &from);
        request.headers.set("To", &to);
        request.headers.set("Call-ID", headers.get("Call-ID").unwrap_or_default());
        if matches!(request.method, Method::Ack | Method::Cancel) {
            let number = headers.get("CSeq").and_then(|cseq| cseq.split(' ').next()).unwrap_or("1");
            request.headers.set("CSeq", &format!("{number} {}", request.method));
            request.headers.set("Via", headers.get("Via").unwrap_or_default());
        }
        self.tell(Input::Message { hop: hop(0), bytes: &request.to_bytes() });
    }

    fn call_of_device(&mut self, choice: u8, body: &[u8]) {
        let mut request = self.request(choice, DEVICES[usize::from(choice & 1)], Method::Invite);
        let sdp = SDPS[usize::from(choice >> 1) % SDPS.len()].as_bytes();
        request.set_body("APPLICATION/SDP", if body.is_empty() { sdp.to_vec() } else { body.to_vec() });
        let nothing = request.response(100);
        self.accepted.push((request.clone(), nothing));
        self.tell(Input::Message { hop: hop(0), bytes: &request.to_bytes() });
    }

    fn message(&mut self, choice: u8, body: &[u8]) {
        let device = DEVICES[usize::from(choice & 1)];
        let mut request = self.request(choice, device, if choice & 2 == 0 { Method::Message } else { Method::Notify });
        let sn = u32::from(choice >> 4);
        let known = [
            format!("<Notify><CmdType>Keepalive</CmdType><SN>1</SN><DeviceID>{device}</DeviceID></Notify>"),
            format!(
                "<Notify><CmdType>MediaStatus</CmdType><SN>1</SN><DeviceID>{device}</DeviceID><NotifyType>121</NotifyType></Notify>"
            ),
            format!(
                "<Response><CmdType>Broadcast</CmdType><SN>{sn}</SN><DeviceID>{device}</DeviceID><Result>ERROR</Result></Response>"
            ),
        ];
        let xml = if body.is_empty() { known[usize::from(choice >> 2) % 3].clone().into_bytes() } else { body.to_vec() };
        request.set_body("Application/MANSCDP+xml", xml);
        self.tell(Input::Message { hop: hop(0), bytes: &request.to_bytes() });
    }

    fn ask(&mut self, what: u8, choice: u8) {
        self.number += 1;
        let ticket = Ticket(u64::from(self.number));
        let transport = [None, Some(MediaTransport::Udp), Some(MediaTransport::TcpActive)][usize::from(what >> 4) % 3];
        let options = CallOptions { transport, stream_number: None };
        let (of, call) = (camera(choice), CallId(u64::from(choice & 15)));
        let control = [
            PlayingControl::Pause,
            PlayingControl::Resume,
            PlayingControl::Seek(7),
            PlayingControl::Scale(f64::from(what) - 200.0),
        ];
        let ask = match choice >> 4 {
            0..=3 => Ask::Play { of, options },
            4 | 5 => Ask::Playback { of, from_unix_s: 5, to_unix_s: 5 + u64::from(what), options },
            6 => Ask::Download { of, from_unix_s: 5, to_unix_s: 9, speed: u32::from(what), options },
            7 | 8 => Ask::Playing { call, control: control[usize::from(what >> 4) % 4] },
            9 | 10 => Ask::Talk { of, stream: StreamKey::parse("live/a").expect("a name") },
            11 => Ask::Stop(call),
            12 => Ask::Call(call),
            13 => Ask::Refresh(of.device),
            14 => Ask::Presets(of),
            _ => Ask::Devices,
        };
        self.waiting.insert(ticket);
        self.tell(Input::Ask { ticket, ask });
    }

    /// A shard answers, or says what its receiver or sender does.
    fn shard(&mut self, what: u8, choice: u8) {
        let of_sender = what & 8 != 0;
        let sessions = if of_sender { &mut self.senders } else { &mut self.receivers };
        let Some((&call, &is_open)) = sessions.iter().nth(usize::from(choice & 7)) else { return };
        if !is_open {
            let port = if choice & 0x80 == 0 { Ok(u16::from(choice) + 30_000) } else { Err("none is left".to_owned()) };
            match port {
                Ok(_) => sessions.insert(call, true),
                Err(_) => sessions.remove(&call),
            };
            return self.tell(if of_sender { Input::SenderOpened { call, port } } else { Input::ReceiverOpened { call, port } });
        }
        let is_over = choice >> 4 == 15;
        if is_over {
            sessions.remove(&call);
        }
        let key = StreamKey::parse("gb/a/b").expect("a name");
        if of_sender {
            let state = if is_over { SendingState::Ended } else { SendingState::Sending };
            let sending = Sending {
                key,
                transport: "udp",
                payload: "ps",
                port: None,
                to: None,
                ssrc: 7,
                state,
                detail: "d".to_owned(),
                tracks: Vec::new(),
                left_out: Vec::new(),
                bytes: 0,
                refusal: None,
            };
            return self.tell(Input::Sending { call, sending });
        }
        let states = [ReceptionState::Waiting, ReceptionState::MediaSeen, ReceptionState::TracksFound, ReceptionState::Playing];
        let state = if is_over { ReceptionState::Ended } else { states[usize::from(choice >> 4) % 4] };
        let received = Received { received: self.now_ms, ..Received::default() };
        let reception = Reception {
            key,
            transport: "udp",
            port: None,
            ssrc: None,
            source: None,
            state,
            end: is_over.then_some(ReceptionEnd::AsWished),
            detail: "nobody watched".to_owned(),
            tracks: Vec::new(),
            received,
            media_age_ms: None,
            bytes: 0,
            refusal: None,
        };
        self.tell(Input::Reception { call, reception });
    }
}

fuzz_target!(|input: &[u8]| {
    let mut choices = Choices::new(input);
    let mut world = World::new();
    while !choices.is_over() {
        let (what, choice) = (choices.byte(), choices.byte());
        match what & 7 {
            0 => world.pass(u64::from(choice) * u64::from(choice)),
            1 => match what >> 4 & 3 {
                0 => world.tell(Input::Message { hop: hop(choice), bytes: choices.sized() }),
                1 => world.tell(Input::Closed(ConnectionId(u64::from(choice & 1)))),
                _ => {
                    let Channel { device, channel } = camera(choice);
                    let sub = if choice & 0x80 == 0 { "" } else { "/sub" };
                    world.tell(Input::Wanted(StreamKey::parse(&format!("gb/{device}/{channel}{sub}")).expect("a name")));
                }
            },
            2 => world.register(choice),
            3 => {
                let body = if what & 8 == 0 { &[][..] } else { choices.sized() };
                world.answer(what, choice, body);
            }
            4 => world.in_call(what, choice),
            5 => {
                let body = if what & 8 == 0 { &[][..] } else { choices.sized() };
                match what & 16 {
                    0 => world.call_of_device(choice, body),
                    _ => world.message(choice, body),
                }
            }
            6 => world.ask(what, choice),
            _ => world.shard(what, choice),
        }
    }
    world.pass(LONGEST_MS);
    assert!(world.waiting.is_empty(), "nobody answers {:?}", world.waiting);
    world.tell(Input::Finishing);
    assert!(world.receivers.is_empty() && world.senders.is_empty(), "left open");
    const { assert!(ENDED_MAX < CALLS_MAX) };
});
