//! Whatever a platform above sends, and shards and devices answer → `Cascade`: no panic, what is due is done, what it keeps is bounded, and in the
//! end every sender that was opened is closed.
//!
//! Input: steps: what happens, a byte for which, sized bytes where any will do. Most messages are made so that they fit.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use shardcast::config::{Gb28181, SipTransport, Upstream};
use shardcast::media::Stamp;
use shardcast::protocol::gb28181::cascade::{Cascade, Ids, Input, Output};
use shardcast::protocol::gb28181::platform::ask::{Answer, Ask, RefusedKind};
use shardcast::protocol::gb28181::platform::view::{ChannelView, DeviceView, PresetView, RecordView, RecordsView};
use shardcast::protocol::gb28181::platform::{CallId, Clock, Output as Wish, Ticket};
use shardcast::protocol::gb28181::sip::message::{Message, Method, Request};
use shardcast::protocol::gb28181::sip::{Carrier, ConnectionId, Hop};
use shardcast::session::{Sending, SendingState, StreamKey};
use shardcast_fuzz::Choices;

const ABOVE: &str = "34010000002000000009";
const OWN: &str = "34020000002000000001";
const NVR: &str = "34020000001180000001";
const DOOR: &str = "34020000001310000001";
const BODIES: [&str; 8] = [
    "<Query><CmdType>Catalog</CmdType><SN>1</SN><DeviceID>34020000002000000001</DeviceID></Query>",
    "<Query><CmdType>DeviceInfo</CmdType><SN>2</SN><DeviceID>34020000002000000001</DeviceID></Query>",
    "<Query><CmdType>RecordInfo</CmdType><SN>3</SN><DeviceID>34020000001310000001</DeviceID><StartTime>2026-01-02T00:00:00</StartTime>\
     <EndTime>2026-01-02T23:59:59</EndTime></Query>",
    "<Query><CmdType>PresetQuery</CmdType><SN>4</SN><DeviceID>34020000001310000001</DeviceID></Query>",
    "<Control><CmdType>DeviceControl</CmdType><SN>5</SN><DeviceID>34020000001310000001</DeviceID><PTZCmd>A50F0101400000F6</PTZCmd></Control>",
    "<Control><CmdType>DeviceControl</CmdType><SN>6</SN><DeviceID>34020000001310000001</DeviceID><GuardCmd>SetGuard</GuardCmd></Control>",
    "v=0\r\ns=Play\r\nc=IN IP4 198.51.100.9\r\nm=video 30000 TCP/RTP/AVP 96\r\na=setup:active\r\ny=0200000001\r\n",
    "v=0\r\ns=Playback\r\nc=IN IP4 198.51.100.9\r\nt=1 2\r\nm=video 30000 RTP/AVP 96\r\n",
];
/// What is looked at of what was sent.
const KEPT: usize = 32;

struct World {
    cascade: Cascade,
    hop: Hop,
    now_ms: u64,
    sent: Vec<Request>,
    asked: Vec<(Ticket, Ask)>,
    senders: BTreeSet<CallId>,
    calls: Vec<CallId>,
    number: u32,
}

fn section(tcp: bool) -> Gb28181 {
    let upstream = Upstream {
        address: Some(([198, 51, 100, 1], 5_060).into()),
        transport: if tcp { SipTransport::Tcp } else { SipTransport::Udp },
        id: ABOVE.to_owned(),
        password: "secret".to_owned(),
        share: vec!["live/*".to_owned(), "gb/*".to_owned()],
        calls_max: 4,
        ..Upstream::default()
    };
    Gb28181 { upstream: vec![upstream], ..Gb28181::default() }
}

impl World {
    fn input(&mut self, input: Input<'_>) {
        let clock = Clock { now: Stamp::from_millis(self.now_ms), unix_ms: 1_767_312_245_000 + self.now_ms };
        let mut out = Vec::new();
        self.cascade.handle(clock, input, &mut out);
        let mut reach = None;
        for output in out {
            match output {
                Output::Ask { ticket, ask } => self.asked.push((ticket, ask)),
                Output::Wish(Wish::Send { bytes, .. }) => {
                    if let Message::Request(request) = Message::parse(&bytes).expect("our own message") {
                        self.sent.push(request);
                    }
                }
                Output::Wish(Wish::Reach { to, .. }) => reach = Some(to),
                Output::Wish(Wish::OpenSender { call, .. }) => {
                    assert!(self.senders.insert(call), "a number is used once");
                    self.calls.push(call);
                }
                Output::Wish(Wish::CloseSender(call)) => drop(self.senders.remove(&call)),
                Output::Wish(_) => {}
            }
        }
        let excess = self.sent.len().saturating_sub(KEPT);
        self.sent.drain(..excess);
        if let Some(to) = reach {
            let hop = Ok(self.hop);
            self.input(Input::Reached { to, hop });
        }
    }

    fn message(&mut self, bytes: &[u8]) {
        if self.cascade.is_for(self.hop, bytes) {
            self.input(Input::Message { hop: self.hop, bytes });
        }
    }

    fn answer(&mut self, choices: &mut Choices<'_>) {
        let status = [100, 200, 401, 403, 481, 500][usize::from(choices.byte() % 6)];
        let at = usize::from(choices.byte());
        let Some(request) = self.sent.get(at % self.sent.len().max(1)) else { return };
        let mut response = request.response(status);
        if status == 401 {
            response.headers.push("WWW-Authenticate", "Digest realm=\"3401000000\",nonce=\"1\",algorithm=MD5");
        }
        self.message(&response.to_bytes());
    }

    fn request(&mut self, choices: &mut Choices<'_>) {
        let methods =
            [Method::Message, Method::Invite, Method::Bye, Method::Info, Method::Subscribe, Method::Ack, Method::Cancel];
        let method = methods[usize::from(choices.byte()) % methods.len()].clone();
        let which = choices.byte();
        let to = [OWN, DOOR, "34020000001310000000"][usize::from(which % 3)];
        let (number, call) = if which & 0x80 == 0 {
            self.number += 1;
            (self.number, self.number)
        } else {
            (u32::from(which), u32::from(which & 7))
        };
        let mut request = Request::new(method, &format!("sip:{to}@192.0.2.1"));
        request.headers.push("Via", &format!("SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bK{number}"));
        request.headers.push("From", &format!("<sip:{ABOVE}@3401000000>;tag=1"));
        request.headers.push("To", &format!("<sip:{to}@3402000000>"));
        request.headers.push("Call-ID", &format!("c{call}"));
        let cseq = format!("{number} {}", request.method);
        request.headers.push("CSeq", &cseq);
        request.headers.push("Event", "Catalog;id=1");
        request.headers.push("Expires", if which & 0x40 == 0 { "600" } else { "0" });
        match choices.byte() {
            any if any & 0x80 != 0 => request.set_body("x/y", choices.sized().to_vec()),
            which => request.set_body("x/y", BODIES[usize::from(which) % BODIES.len()]),
        }
        self.message(&request.to_bytes());
    }

    fn answer_asked(&mut self, choices: &mut Choices<'_>) {
        let (which, good) = (usize::from(choices.byte()), choices.byte() & 3 != 0);
        if self.asked.is_empty() {
            return;
        }
        let at = which % self.asked.len();
        let (ticket, ask) = self.asked.remove(at);
        let answer = match ask {
            _ if !good => Answer::refused(RefusedKind::Device, "the device answers 486"),
            Ask::Devices => {
                let device = DeviceView { id: NVR.to_owned(), online: true, channels: 1, ..DeviceView::default() };
                Answer::Devices(vec![device])
            }
            Ask::Channels(_) => Answer::Channels(vec![ChannelView {
                id: DOOR.to_owned(),
                device: NVR.to_owned(),
                stream: Some(format!("gb/{NVR}/{DOOR}")),
                ..ChannelView::default()
            }]),
            Ask::Records { .. } => {
                let records = vec![RecordView::default(); usize::from(choices.byte())];
                Answer::Records(RecordsView { announced: 9, complete: true, records })
            }
            Ask::Presets(_) => Answer::Presets(vec![PresetView::default()]),
            _ => Answer::Done,
        };
        self.input(Input::Answered { ticket, answer });
    }

    fn sender(&mut self, choices: &mut Choices<'_>) {
        let (which, what) = (usize::from(choices.byte()), choices.byte());
        let Some(call) = self.calls.get(which % self.calls.len().max(1)).copied() else { return };
        if what & 1 == 0 {
            let port = if what & 2 == 0 { Ok(20_000) } else { Err("no port is left".to_owned()) };
            if port.is_err() {
                self.senders.remove(&call);
            }
            return self.input(Input::SenderOpened { call, port });
        }
        let state = if what & 2 == 0 { SendingState::Sending } else { SendingState::Ended };
        if state == SendingState::Ended {
            self.senders.remove(&call);
        }
        let sending = Sending {
            key: StreamKey::parse("live/a").expect("a name"),
            transport: "udp",
            payload: "ps",
            port: None,
            to: None,
            ssrc: 1,
            state,
            detail: "x".to_owned(),
            tracks: vec![],
            left_out: vec![],
            bytes: 0,
            refusal: None,
        };
        self.input(Input::Sending { call, sending });
    }

    fn pass(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        for _ in 0..10_000 {
            let Some(due) = self.cascade.next_timeout() else { break };
            let due_ms = due.as_nanos().div_ceil(1_000_000);
            if due_ms > end {
                break;
            }
            self.now_ms = self.now_ms.max(due_ms);
            self.input(Input::Timeout);
            let now = Stamp::from_millis(self.now_ms);
            assert!(self.cascade.next_timeout().is_none_or(|next| next > now), "what is due is done");
        }
        self.now_ms = end;
    }
}

fuzz_target!(|input: &[u8]| {
    let mut choices = Choices::new(input);
    let tcp = choices.byte() & 1 != 0;
    let carrier = if tcp { Carrier::Tcp(ConnectionId(1)) } else { Carrier::Udp };
    let hop = Hop { carrier, peer: ([198, 51, 100, 1], 5_060).into(), local: ([192, 0, 2, 1], 5_060).into() };
    let cascade = Cascade::new(&section(tcp), &[7; 32], Ids::default());
    let (sent, asked, senders, calls) = (Vec::new(), Vec::new(), BTreeSet::new(), Vec::new());
    let mut world = World { cascade, hop, now_ms: 1_000, sent, asked, senders, calls, number: 100 };
    world.input(Input::Timeout);
    while !choices.is_over() {
        match choices.byte() % 9 {
            0 => world.message(choices.sized()),
            1 => world.answer(&mut choices),
            2 | 3 => world.request(&mut choices),
            4 => world.answer_asked(&mut choices),
            5 => world.sender(&mut choices),
            6 => world.pass(u64::from(choices.word())),
            7 => {
                let names = choices.byte();
                let keys = (0..names % 8).filter_map(|at| StreamKey::parse(&format!("live/{}", at ^ names)).ok()).collect();
                world.input(Input::Streams(keys));
            }
            _ => world.input(Input::Closed(ConnectionId(u64::from(choices.byte() & 3)))),
        }
        assert!(world.senders.len() <= 4, "as many as calls");
    }
    world.input(Input::Finishing);
    world.pass(60_000);
    assert!(world.senders.is_empty(), "{:?} are left", world.senders);
});
