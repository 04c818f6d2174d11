//! The cascade and a platform above it in virtual time, message by message: the other side is made of the same transactions.

mod calls;

use super::*;
use crate::config::SipTransport;
use crate::protocol::gb28181::manscdp::{
    Control, DeviceControl, Item, ItemEvent, Message, Notify, Outcome, Query, Response as Said,
};
use crate::protocol::gb28181::platform::ask::{Channel, DeviceControl as Moved, RefusedKind};
use crate::protocol::gb28181::platform::view::{CallKind, CallState, CallView, ChannelView, DeviceView, RecordView, RecordsView};
use crate::protocol::gb28181::sdp::{self, Description};
use crate::protocol::gb28181::sender::Transport;
use crate::protocol::gb28181::sip::dialog::Dialog;
use crate::protocol::gb28181::sip::digest::{Challenges, LastNonce, Verdict};
use crate::protocol::gb28181::{mansrtsp, ptz};
use crate::session::SendingState;

const OWN: &str = "34020000002000000001";
const ABOVE: &str = "34010000002000000009";
const DOOR: &str = "34020000001310000001";
const NVR: &str = "34020000001180000001";
/// Where the platform above is.
const HOME: &str = "198.51.100.1:5060";

/// How the platform above behaves.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Good,
    /// Answers nothing.
    Silent,
    /// Registrations with a password get this.
    Refuses(u16),
    /// Who registers at its first address is sent to this one, for ten minutes.
    Redirects(&'static str),
    /// Everything else gets this.
    RefusesMessages(u16),
    /// Registrations get this, with a challenge that ends like that.
    Challenges(u16, &'static str),
    /// Messages get no answer until [`Rig::release`].
    Holds,
    /// OPTIONS get this, or no answer.
    Probes(Option<u16>),
}

struct Rig {
    cascade: Cascade,
    above: Transactions,
    challenges: Challenges,
    nonce: Option<LastNonce>,
    mood: Mood,
    now: Stamp,
    hop: Hop,
    back: Hop,
    registers: Vec<Request>,
    /// What the platform above was told, and in which requests.
    told: Vec<Message>,
    notified: Vec<(String, Message)>,
    requests: Vec<Request>,
    responses: Vec<Response>,
    wishes: Vec<Output>,
    held: Vec<(ServerId, Request)>,
    next: u32,
    /// Whether it acknowledges answers to its calls.
    acknowledges: bool,
    /// Events of the upper's client transactions.
    dialog: Option<Dialog>,
}

fn upstream(share: &[&str]) -> Upstream {
    Upstream {
        address: Some(([198, 51, 100, 1], 5060).into()),
        id: ABOVE.to_owned(),
        password: "secret".to_owned(),
        share: share.iter().map(|pattern| (*pattern).to_owned()).collect(),
        ..Upstream::default()
    }
}

fn key(name: &str) -> StreamKey {
    StreamKey::parse(name).unwrap()
}

impl Rig {
    fn new(share: &[&str]) -> Rig {
        Rig::of(upstream(share))
    }

    fn of(upstream: Upstream) -> Rig {
        let carrier = match upstream.transport {
            SipTransport::Udp => Carrier::Udp,
            SipTransport::Tcp => Carrier::Tcp(ConnectionId(7)),
        };
        let (above, own) = (upstream.address.unwrap(), ([192, 0, 2, 1], 5060).into());
        let section = Gb28181 { upstream: vec![upstream], ..Gb28181::default() };
        Rig {
            cascade: Cascade::new(&section, &[7; 32], Ids::default()),
            above: Transactions::new(&[9; 32]),
            challenges: Challenges::new(&[8; 32], "3401000000"),
            nonce: None,
            mood: Mood::Good,
            now: Stamp::from_millis(1_000),
            hop: Hop { carrier, peer: above, local: own },
            back: Hop { carrier, peer: own, local: above },
            registers: Vec::new(),
            told: Vec::new(),
            notified: Vec::new(),
            requests: Vec::new(),
            responses: Vec::new(),
            wishes: Vec::new(),
            held: Vec::new(),
            next: 0,
            acknowledges: true,
            dialog: None,
        }
    }

    fn registered(share: &[&str]) -> Rig {
        let mut rig = Rig::new(share);
        rig.input(Input::Timeout);
        assert_eq!(rig.state(), "online");
        rig
    }

    fn state(&self) -> &'static str {
        self.cascade.views(self.now)[0].state
    }

    fn detail(&self) -> String {
        self.cascade.views(self.now)[0].detail.clone()
    }

    fn clock(&self) -> Clock {
        Clock { now: self.now, unix_ms: 1_767_312_245_000 }
    }

    /// Gives one input and carries messages to and fro until nothing moves.
    fn input(&mut self, input: Input<'_>) {
        let mut out = Vec::new();
        self.cascade.handle(self.clock(), input, &mut out);
        self.carry(out);
    }

    fn carry(&mut self, out: Vec<Output>) {
        let mut all = VecDeque::from(out);
        loop {
            while let Some(output) = all.pop_front() {
                match output {
                    Output::Wish(Wish::Send { hop, bytes }) => {
                        assert_eq!(hop, self.hop);
                        if self.mood != Mood::Silent {
                            self.heard(&bytes);
                        }
                    }
                    Output::Wish(Wish::Reach { to, tcp }) => {
                        if matches!(self.mood, Mood::Redirects(_)) {
                            (self.hop.peer, self.back.local) = (to, to);
                        }
                        assert_eq!((to, tcp), (self.hop.peer, self.hop.carrier != Carrier::Udp));
                        let mut more = Vec::new();
                        self.cascade.handle(self.clock(), Input::Reached { to, hop: Ok(self.hop) }, &mut more);
                        all.extend(more);
                    }
                    Output::Wish(Wish::ListStreams) => {
                        let mut more = Vec::new();
                        self.cascade.handle(self.clock(), Input::Streams(Vec::new()), &mut more);
                        all.extend(more);
                    }
                    other => self.wishes.push(other),
                }
            }
            let sends: Vec<Bytes> = self.above.take_sends().map(|(_, bytes)| bytes).collect();
            if sends.is_empty() {
                return;
            }
            for bytes in sends {
                if !self.cascade.is_for(self.hop, &bytes) {
                    // There is no connection now.
                    assert_ne!(self.hop.carrier, Carrier::Udp);
                    continue;
                }
                let mut more = Vec::new();
                self.cascade.handle(self.clock(), Input::Message { hop: self.hop, bytes: &bytes }, &mut more);
                all.extend(more);
            }
        }
    }

    /// The platform above reads something.
    fn heard(&mut self, bytes: &[u8]) {
        let mut events = Vec::new();
        self.above.received(self.now, self.back, bytes, &mut events);
        for event in events {
            match event {
                Event::Request { id, request, .. } if self.mood == Mood::Holds => self.held.push((id, request)),
                Event::Request { id, request, .. } => {
                    let response = self.answer(&request);
                    if request.method != Method::Options || self.mood != Mood::Probes(None) {
                        self.above.respond(self.now, id, &response);
                    }
                    self.requests.push(request);
                }
                Event::Response { response, .. } => self.responses.push(response),
                Event::Failed { .. } | Event::Ack { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn release(&mut self) {
        self.mood = Mood::Good;
        for (id, request) in std::mem::take(&mut self.held) {
            let response = self.answer(&request);
            self.above.respond(self.now, id, &response);
        }
        self.carry(Vec::new());
    }

    fn answer(&mut self, request: &Request) -> Response {
        let status = match (&request.method, self.mood) {
            (Method::Register, Mood::Challenges(status, end)) => {
                let mut response = request.response(status);
                let name = if status == 407 { "Proxy-Authenticate" } else { "WWW-Authenticate" };
                response.headers.push(name, &format!("Digest realm=\"x\",nonce=\"n{}\"{end}", self.requests.len()));
                return response;
            }
            (Method::Register, Mood::Redirects(contact)) if self.hop.peer == HOME.parse().unwrap() => {
                let mut response = request.response(302);
                response.headers.push("Contact", contact);
                response.headers.push("Expires", "600");
                return response;
            }
            (Method::Register, Mood::Good | Mood::RefusesMessages(_) | Mood::Probes(_) | Mood::Redirects(_)) => {
                self.registers.push(request.clone());
                let verdict = self.challenges.check(
                    self.now,
                    request,
                    (OWN, std::net::Ipv4Addr::LOCALHOST.into()),
                    "secret",
                    &mut self.nonce,
                );
                if verdict != Verdict::Right {
                    let mut response = request.response(401);
                    response.headers.push(
                        "WWW-Authenticate",
                        &self.challenges.challenge(self.now, (OWN, std::net::Ipv4Addr::LOCALHOST.into()), verdict.is_stale()),
                    );
                    return response;
                }
                let mut response = request.response(200);
                response.headers.push("Expires", request.headers.get("Expires").unwrap());
                return response;
            }
            (Method::Register, Mood::Refuses(status)) | (_, Mood::RefusesMessages(status)) => status,
            (Method::Options, Mood::Probes(Some(status))) => status,
            _ => 200,
        };
        if let Ok((message, _)) = manscdp::decode(&request.body) {
            match request.method {
                Method::Notify => {
                    let state = request.headers.get("Subscription-State").unwrap().to_owned();
                    self.notified.push((state, message));
                }
                _ => self.told.push(message),
            }
        }
        request.response(status)
    }

    /// Lets time pass, from deadline to deadline.
    fn pass(&mut self, ms: u64) {
        let end = self.now.after_millis(ms);
        loop {
            let next = [self.cascade.next_timeout(), self.above.next_timeout()].into_iter().flatten().min();
            let Some(due) = next.filter(|due| *due <= end) else { break };
            self.now = self.now.max(due);
            let mut events = Vec::new();
            self.above.timeout(self.now, &mut events);
            self.input(Input::Timeout);
            self.answer_looks();
        }
        self.now = end;
    }

    /// There are no devices.
    fn answer_looks(&mut self) {
        let looks = |output: &Output| matches!(output, Output::Ask { ask: Ask::Devices, .. });
        if let Some(at) = self.wishes.iter().position(looks) {
            let Output::Ask { ticket, .. } = self.wishes.remove(at) else { return };
            self.input(Input::Answered { ticket, answer: Answer::Devices(Vec::new()) });
        }
    }

    /// A request of the platform above.
    fn ask_above(&mut self, method: Method, to: &str, headers: &[(&str, &str)], body: Option<(&str, Vec<u8>)>) -> Response {
        let mut request = Request::new(method, &format!("sip:{to}@192.0.2.1:5060"));
        self.next += 1;
        request.headers.push("From", &format!("<sip:{ABOVE}@3401000000>;tag=a{}", self.next));
        request.headers.push("To", &format!("<sip:{to}@3402000000>"));
        request.headers.push("Call-ID", &format!("call{}", self.next));
        request.headers.push("CSeq", &format!("{} {}", self.next, request.method));
        request.headers.push("Contact", &format!("<sip:{ABOVE}@198.51.100.1:5060>"));
        for (name, value) in headers {
            request.headers.push(name, value);
        }
        if let Some((kind, body)) = body {
            request.set_body(kind, body);
        }
        self.send_above(request)
    }

    fn send_above(&mut self, request: Request) -> Response {
        let is_invite = request.method == Method::Invite;
        let before = self.responses.len();
        let sent = if is_invite {
            self.above.invite(self.now, self.back, request.clone())
        } else {
            self.above.request(self.now, self.back, request.clone(), 5_000)
        };
        self.carry(Vec::new());
        if let (true, Some(last)) = (is_invite, self.responses[before..].last())
            && last.is_success()
            && self.acknowledges
        {
            let dialog = Dialog::of_answer(&request, last).unwrap();
            self.above.ack(self.back, sent.unwrap(), dialog.ack());
            self.dialog = Some(dialog);
            self.carry(Vec::new());
        }
        self.responses[before..].last().cloned().unwrap_or_else(|| request.response(100))
    }

    /// Acknowledges the last answer, which has come later than the call.
    fn acknowledge(&mut self) {
        let response = self.responses.last().unwrap().clone();
        let mut invite = Request::new(Method::Invite, "sip:x@y");
        for name in ["From", "To", "Call-ID", "CSeq"] {
            invite.headers.push(name, response.headers.get(name).unwrap());
        }
        let dialog = Dialog::of_answer(&invite, &response).unwrap();
        let sent = self.above.invite(self.now, self.back, invite);
        self.above.take_sends().for_each(drop);
        self.above.ack(self.back, sent.unwrap(), dialog.ack());
        self.dialog = Some(dialog);
        self.carry(Vec::new());
    }

    fn query(&mut self, device: &str, body: Body) -> u16 {
        let body = manscdp::encode(&Message { sn: 17, device: device.to_owned(), body }, Charset::default());
        self.ask_above(Method::Message, device, &[], Some((link::MANSCDP, body))).status
    }

    /// An offer as platforms make it.
    fn offer(&mut self, channel: &str, media: &str) -> Response {
        let text = format!(
            "v=0\r\no={ABOVE} 0 0 IN IP4 198.51.100.9\r\ns=Play\r\nc=IN IP4 198.51.100.9\r\nt=0 0\r\n{media}a=recvonly\r\n\
             a=rtpmap:96 PS/90000\r\na=rtpmap:98 H264/90000\r\ny=0200000001\r\n"
        );
        self.ask_above(Method::Invite, channel, &[], Some(("APPLICATION/SDP", text.into_bytes())))
    }

    fn open_senders(&self) -> Vec<(CallId, crate::protocol::gb28181::sender::Request)> {
        let opened = |output: &Output| match output {
            Output::Wish(Wish::OpenSender { call, request }) => Some((*call, request.clone())),
            _ => None,
        };
        self.wishes.iter().filter_map(opened).collect()
    }

    fn closed_senders(&self) -> Vec<CallId> {
        let closed = |output: &Output| if let Output::Wish(Wish::CloseSender(call)) = output { Some(*call) } else { None };
        self.wishes.iter().filter_map(closed).collect()
    }

    fn asked(&mut self) -> Option<(Ticket, Ask)> {
        let at = self.wishes.iter().position(|output| matches!(output, Output::Ask { ask, .. } if *ask != Ask::Devices))?;
        let Output::Ask { ticket, ask } = self.wishes.remove(at) else { return None };
        Some((ticket, ask))
    }

    /// The next look at devices finds this one.
    fn look(&mut self, device: DeviceView) {
        let is_look = |output: &Output| matches!(output, Output::Ask { ask: Ask::Devices, .. });
        while !self.wishes.iter().any(is_look) {
            self.now = self.cascade.next_timeout().unwrap().max(self.now);
            self.input(Input::Timeout);
        }
        let at = self.wishes.iter().position(is_look).unwrap();
        let Output::Ask { ticket, .. } = self.wishes.remove(at) else { return };
        self.input(Input::Answered { ticket, answer: Answer::Devices(vec![device]) });
    }

    /// One device with one camera.
    fn look_at_door(&mut self, online: bool) {
        self.look(DeviceView { id: NVR.to_owned(), online, channels: 1, ..DeviceView::default() });
        // It is asked for its channels only once.
        let Some((ticket, ask)) = self.asked() else { return };
        assert_eq!(ask, Ask::Channels(NVR.to_owned()));
        let door = ChannelView {
            id: DOOR.to_owned(),
            device: NVR.to_owned(),
            stream: Some(format!("gb/{NVR}/{DOOR}")),
            name: Some("Door".to_owned()),
            ..ChannelView::default()
        };
        self.input(Input::Answered { ticket, answer: Answer::Channels(vec![door]) });
    }

    fn stream_id(&self, name: &str) -> String {
        let shown = self.cascade.channels.shown(&self.cascade.links[0].config);
        shown.into_iter().find(|shown| shown.key.as_str() == name).unwrap().id
    }
}

fn sending(state: SendingState, detail: &str) -> Sending {
    Sending {
        key: key("live/a"),
        transport: "udp",
        payload: "ps",
        port: Some(20_000),
        to: None,
        ssrc: 200_000_001,
        state,
        detail: detail.to_owned(),
        tracks: vec![],
        left_out: vec![],
        bytes: 5,
        refusal: None,
    }
}

#[test]
fn registers_with_a_password_refreshes_and_keeps_alive() {
    for transport in [SipTransport::Udp, SipTransport::Tcp] {
        let mut rig = Rig::of(Upstream { transport, ..upstream(&[]) });
        rig.input(Input::Timeout);
        assert_eq!((rig.state(), rig.registers.len()), ("online", 2));
        let last = rig.registers.last().unwrap();
        assert_eq!(last.uri, format!("sip:{ABOVE}@3401000000"));
        assert_eq!(last.headers.get("To"), Some(format!("<sip:{OWN}@3402000000>").as_str()));
        assert_eq!(last.headers.get("Contact"), Some(format!("<sip:{OWN}@192.0.2.1:5060>").as_str()));
        rig.pass(60_000 * 3);
        let keepalives = |rig: &Rig| {
            let is_it = |message: &&Message| matches!(&message.body, Body::Notify(Notify::Keepalive(k)) if k.status == "OK");
            rig.told.iter().filter(is_it).count()
        };
        assert_eq!(keepalives(&rig), 3);
        assert!(rig.told.iter().all(|message| message.device == OWN));
        assert_eq!(rig.registers.len(), 2);
        rig.pass(3_600_000 * 4 / 5);
        assert_eq!((rig.registers.len(), rig.state()), (4, "online"), "refreshed, with a new challenge");
        let call_ids: Vec<_> = rig.registers.iter().map(|request| request.headers.get("Call-ID")).collect();
        assert!(call_ids.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

#[test]
fn gives_the_registration_back_at_the_end() {
    let mut rig = Rig::registered(&[]);
    rig.input(Input::Finishing);
    let last = rig.registers.last().unwrap();
    assert_eq!((last.headers.get("Expires"), rig.state(), rig.cascade.is_leaving()), (Some("0"), "gone", false));
    rig.mood = Mood::Silent;
    let mut rig = Rig::registered(&[]);
    rig.mood = Mood::Silent;
    rig.input(Input::Finishing);
    assert!(rig.cascade.is_leaving());
    rig.pass(10_000);
    assert!(!rig.cascade.is_leaving());
}

#[test]
fn a_platform_that_does_not_answer_is_tried_again_later_and_later() {
    let mut rig = Rig::new(&[]);
    rig.mood = Mood::Silent;
    rig.input(Input::Timeout);
    rig.pass(5_000);
    assert_eq!(rig.state(), "waiting");
    assert_eq!(rig.detail(), "no answer to the registration in 5000 ms; tried again 5 s later");
    rig.pass(10_000);
    assert_eq!(rig.detail(), "no answer to the registration in 5000 ms; tried again 10 s later");
    rig.pass(300_000);
    assert!(rig.detail().ends_with("tried again 60 s later"), "{}", rig.detail());
    rig.mood = Mood::Good;
    rig.pass(65_000);
    assert_eq!(rig.state(), "online");
}

#[test]
fn a_refusal_is_heeded_for_a_minute() {
    let cases = [(Mood::Refuses(403), "the registration is refused: 403 Forbidden; tried again 60 s later")];
    for (mood, detail) in cases {
        let mut rig = Rig::new(&[]);
        rig.mood = mood;
        rig.input(Input::Timeout);
        assert_eq!((rig.state(), rig.detail().as_str()), ("waiting", detail));
    }
    let mut rig = Rig::of(Upstream { password: "wrong".to_owned(), ..upstream(&[]) });
    rig.input(Input::Timeout);
    assert_eq!((rig.state(), rig.detail().as_str()), ("waiting", "the password is refused; tried again 60 s later"));
    rig.pass(59_000);
    assert_eq!(rig.registers.len(), 2);
    rig.pass(1_000);
    assert_eq!(rig.registers.len(), 4);
}

#[test]
fn keepalives_without_an_answer_or_refused_make_it_register_anew() {
    let mut rig = Rig::registered(&["live/*"]);
    rig.input(Input::Streams(vec![key("live/a")]));
    let id = rig.stream_id("live/a");
    rig.offer(&id, "m=video 30000 RTP/AVP 96\r\n");
    rig.mood = Mood::Silent;
    rig.pass(60_000 + 5_000);
    assert_eq!((rig.state(), rig.detail().as_str()), ("online", "registered; 1 keepalives without an answer"));
    rig.pass(120_000);
    assert_ne!(rig.state(), "online");
    assert_eq!(rig.closed_senders().len(), 1, "its calls are over");
    rig.mood = Mood::Good;
    rig.pass(120_000);
    assert_eq!(rig.state(), "online");
    let before = rig.registers.len();
    rig.mood = Mood::RefusesMessages(401);
    rig.pass(60_000);
    assert!(rig.registers.len() > before && rig.state() == "online", "registered again at once");
}

#[test]
fn the_catalog_comes_in_parts_one_after_the_other() {
    let mut rig = Rig::registered(&["live/*"]);
    rig.input(Input::Streams((0..10).map(|at| key(&format!("live/{at}"))).collect()));
    rig.told.clear();
    assert_eq!(rig.query(OWN, Body::Query(Query::CATALOG)), 200);
    let parts: Vec<&Message> = rig.told.iter().collect();
    assert!(parts.len() > 2, "{} parts", parts.len());
    let mut items: Vec<Item> = Vec::new();
    for part in parts {
        let Body::Response(Said::Catalog(catalog)) = &part.body else { panic!("{part:?}") };
        assert_eq!((part.sn, part.device.as_str(), catalog.sum), (17, OWN, Some(10)));
        items.extend(catalog.items.clone());
    }
    assert_eq!(items.len(), 10);
    assert!(items.iter().all(|item| item.parent_id == OWN && item.device_id.len() == 20));
    // The second part waits for the answer to the first.
    rig.mood = Mood::Silent;
    rig.told.clear();
    rig.query(OWN, Body::Query(Query::CATALOG));
    rig.mood = Mood::Good;
    assert!(rig.told.is_empty());
}

#[test]
fn a_catalog_of_any_size_is_told_and_keeps_no_short_answer_waiting() {
    let mut rig = Rig::of(Upstream { transport: SipTransport::Tcp, ..upstream(&["gb/*"]) });
    rig.input(Input::Timeout);
    let channel = |at: u32| ChannelView {
        id: format!("3402000000131{at:07}"),
        device: NVR.to_owned(),
        stream: Some(format!("gb/{NVR}/3402000000131{at:07}")),
        name: Some("x".repeat(200)),
        ..ChannelView::default()
    };
    rig.look(DeviceView { id: NVR.to_owned(), online: true, channels: 40_000, ..DeviceView::default() });
    let (ticket, _) = rig.asked().unwrap();
    rig.input(Input::Answered { ticket, answer: Answer::Channels((0..40_000).map(channel).collect()) });
    rig.told.clear();
    rig.mood = Mood::Holds;
    let room = link::CATALOGS_MAX;
    let statuses: Vec<u16> = (0..=room).map(|_| rig.query(OWN, Body::Query(Query::CATALOG))).collect();
    assert_eq!((statuses[0], statuses[room - 1], statuses[room]), (200, 200, 503));
    assert_eq!(rig.query(OWN, Body::Query(Query::DeviceInfo)), 200);
    assert_eq!(rig.held.len(), 1, "one at a time");
    rig.cascade.links[0].catalogs.truncate(1);
    rig.release();
    assert!(matches!(rig.told[1].body, Body::Response(Said::DeviceInfo(_))), "before the second part");
    let parts = rig.told.iter().filter_map(|message| match &message.body {
        Body::Response(Said::Catalog(catalog)) => Some((catalog.sum, catalog.items.len())),
        _ => None,
    });
    let (sums, items): (Vec<_>, Vec<_>) = parts.unzip();
    assert!(sums.iter().all(|sum| *sum == Some(40_000)));
    assert_eq!(items.iter().sum::<usize>(), 40_000);
}

#[test]
fn devices_are_asked_for_their_channels_when_they_have_changed() {
    let mut rig = Rig::registered(&["gb/*"]);
    rig.look_at_door(true);
    let mut device = DeviceView { id: NVR.to_owned(), online: true, channels: 1, ..DeviceView::default() };
    // Who has changed, how many channels the device has, whether it is asked, and how long the look takes to come.
    let cases = [
        (Some(NVR), 1, true, 0..2_001),
        (Some("34020000001180000009"), 1, false, 1_999..2_001),
        (Some("34020000001180000009"), 2, true, 1_999..2_001),
        // All of them, now and then.
        (None, 2, true, 50_000..60_001),
    ];
    for (changed, channels, is_asked, waits) in cases {
        for _ in 0..100 {
            changed.into_iter().for_each(|changed| rig.cascade.device_changed(rig.now, changed.to_owned()));
        }
        device.channels = channels;
        let before = rig.now;
        rig.look(device.clone());
        assert!(waits.contains(&rig.now.millis_since(before)), "{changed:?}: {} ms", rig.now.millis_since(before));
        let asked = rig.asked();
        assert_eq!(asked.is_some(), is_asked, "{changed:?} {channels}");
        if let Some((ticket, _)) = asked {
            rig.input(Input::Answered { ticket, answer: Answer::Channels(Vec::new()) });
        }
    }
}

#[test]
fn questions_about_itself_and_about_channels() {
    let mut rig = Rig::registered(&["live/*"]);
    rig.input(Input::Streams(vec![key("live/a")]));
    let id = rig.stream_id("live/a");
    let cases: [(&str, Query, u16); 8] = [
        (OWN, Query::DeviceInfo, 200),
        (OWN, Query::DeviceStatus, 200),
        (&id, Query::DeviceStatus, 200),
        (&id, Query::CATALOG, 200),
        (&id, Query::PresetQuery, 200),
        ("34020000001310000099", Query::DeviceInfo, 404),
        (OWN, Query::ConfigDownload("BasicParam".to_owned()), 200),
        (&id, Query::RecordInfo(record_query()), 200),
    ];
    for (device, query, status) in cases {
        rig.told.clear();
        let command = query.command().to_owned();
        assert_eq!(rig.query(device, Body::Query(query)), status, "{command} of {device}");
        let answers: Vec<&Message> = rig.told.iter().collect();
        assert_eq!(answers.len(), usize::from(status == 200), "{command}");
        if let Some(Message { sn, device: of, body: Body::Response(said) }) = answers.first() {
            assert_eq!((*sn, of.as_str(), said.command()), (17, device, command.as_str()));
            match said {
                Said::DeviceStatus(status) => assert_eq!(status.fields.device_time, "2026-01-02T08:04:05"),
                Said::RecordInfo(records) => assert_eq!((records.sum, records.records.len()), (Some(0), 0)),
                Said::DeviceInfo(info) => assert_eq!(info.channel, Some(1)),
                _ => {}
            }
        }
    }
}

fn record_query() -> crate::protocol::gb28181::manscdp::RecordQuery {
    crate::protocol::gb28181::manscdp::RecordQuery {
        start_time: "2026-01-02T00:00:00".to_owned(),
        end_time: "2026-01-02T23:59:59".to_owned(),
        ..Default::default()
    }
}

#[test]
fn records_and_movements_are_the_devices_business() {
    let mut rig = Rig::registered(&["gb/*"]);
    rig.look_at_door(true);
    let of = Channel { device: NVR.to_owned(), channel: DOOR.to_owned() };
    assert_eq!(rig.query(DOOR, Body::Query(Query::RecordInfo(record_query()))), 200);
    let (ticket, ask) = rig.asked().unwrap();
    let Ask::Records { of: asked, from_unix_s, to_unix_s, .. } = ask else { panic!("{ask:?}") };
    assert_eq!((asked, from_unix_s, to_unix_s), (of.clone(), 1_767_283_200, 1_767_369_599));
    let record = |at: u32| RecordView { channel: DOOR.to_owned(), name: Some(format!("record {at}")), ..RecordView::default() };
    let records = RecordsView { announced: 9, complete: true, records: (0..9).map(record).collect() };
    rig.told.clear();
    rig.input(Input::Answered { ticket, answer: Answer::Records(records) });
    let mut count = 0;
    for part in &rig.told {
        let Body::Response(Said::RecordInfo(records)) = &part.body else { panic!("{part:?}") };
        assert_eq!((part.sn, records.sum, records.name.as_str()), (17, Some(9), "Door"));
        count += records.records.len();
    }
    assert_eq!(count, 9);

    let control = |command| Body::Control(Control::Device(DeviceControl::from(command)));
    let right = ptz::parse_hex("A50F0101400000F6").unwrap();
    rig.told.clear();
    assert_eq!(rig.query(DOOR, control(manscdp::Command::Ptz(right))), 200);
    let (ticket, ask) = rig.asked().unwrap();
    assert_eq!(ask, Ask::Control { of: of.clone(), control: Moved::Move { pan: 64, tilt: 0, zoom: 0 } });
    rig.input(Input::Answered { ticket, answer: Answer::Done });
    assert!(rig.told.is_empty(), "a movement has no answer");
    assert_eq!(rig.query(DOOR, control(manscdp::Command::Guard(manscdp::GuardAction::Set))), 200);
    let (ticket, _) = rig.asked().unwrap();
    rig.input(Input::Answered { ticket, answer: Answer::refused(RefusedKind::Silent, "no answer") });
    assert_eq!(rig.told[0].body, Body::Response(Said::plain("DeviceControl", Outcome::Error)));
    assert_eq!(rig.query("34020000001310000099", control(manscdp::Command::IFrame)), 404);
    assert_eq!(rig.query(DOOR, control(manscdp::Command::IFrame)), 200);
    assert_eq!(rig.asked().unwrap().1, Ask::Control { of, control: Moved::KeyFrame });
}

#[test]
fn a_stream_is_sent_to_where_the_offer_says() {
    let cases = [
        (
            "m=video 30000 RTP/AVP 96 98\r\n",
            Transport::Udp { to: ([198, 51, 100, 9], 30_000).into() },
            Ok(20_000),
            "m=video 9 RTP/AVP 96\r\n",
            None,
        ),
        (
            "m=video 30000 TCP/RTP/AVP 96\r\na=setup:passive\r\na=connection:new\r\n",
            Transport::TcpActive { to: ([198, 51, 100, 9], 30_000).into() },
            Ok(0),
            "m=video 9 TCP/RTP/AVP 96\r\n",
            Some("a=setup:active\r\n"),
        ),
        (
            "m=video 9 TCP/RTP/AVP 96\r\na=setup:active\r\n",
            Transport::TcpPassive,
            Ok(20_002),
            "m=video 20002 TCP/RTP/AVP 96\r\n",
            Some("a=setup:passive\r\n"),
        ),
    ];
    for (media, transport, port, line, setup) in cases {
        let mut rig = Rig::registered(&["live/*"]);
        rig.input(Input::Streams(vec![key("live/a")]));
        let id = rig.stream_id("live/a");
        let is_udp = matches!(transport, Transport::Udp { .. });
        assert_eq!(rig.offer(&id, media).status, if is_udp { 200 } else { 100 });
        let (call, request) = rig.open_senders().remove(0);
        assert_eq!((request.key, request.transport, request.ssrc), (key("live/a"), transport, 200_000_001));
        rig.input(Input::SenderOpened { call, port });
        let answer = rig.responses.last().unwrap();
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert_eq!(answer.status, 200);
        for expected in [line, "a=sendonly\r\n", "s=Play\r\n", "y=0200000001\r\n", setup.unwrap_or("")] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        assert!(sdp::parse(&answer.body).is_ok_and(|Description { owner, .. }| owner == id));
        rig.input(Input::Sending { call, sending: sending(SendingState::Sending, "sending H264 to x") });
        let view = rig.cascade.views(rig.now)[0].calls[0].clone();
        assert_eq!((view.state, view.detail.as_str(), view.bytes), ("sending", "sending H264 to x", 5));
    }
}

#[test]
fn subscribers_are_told_what_changes() {
    let mut rig = Rig::registered(&["live/*", "other/gate"]);
    rig.input(Input::Streams(vec![key("live/a")]));
    let (a, gate) = (rig.stream_id("live/a"), rig.stream_id("other/gate"));
    let body = manscdp::encode(&Message { sn: 3, device: OWN.to_owned(), body: Body::Query(Query::CATALOG) }, Charset::default());
    let subscribe = |rig: &mut Rig, expires: &str| {
        let headers = [("Event", "Catalog;id=1894"), ("Expires", expires)];
        rig.ask_above(Method::Subscribe, OWN, &headers, Some((link::MANSCDP, body.clone())))
    };
    let answer = subscribe(&mut rig, "600");
    assert_eq!((answer.status, answer.headers.get("Expires")), (200, Some("600")));
    let events = |rig: &mut Rig| -> Vec<(String, Option<ItemEvent>)> {
        let all = std::mem::take(&mut rig.notified);
        let items = all.into_iter().flat_map(|(state, message)| {
            assert!(state.starts_with("active;expires=") || state == "terminated;reason=timeout", "{state}");
            let Body::Notify(Notify::Catalog(catalog)) = message.body else { panic!("{message:?}") };
            catalog.items
        });
        items.map(|item| (item.fields.device_id, item.fields.event)).collect()
    };
    assert_eq!(events(&mut rig), [(gate.clone(), Some(ItemEvent::Off))], "everything else is taken to be online");
    rig.input(Input::Streams(vec![key("live/a"), key("live/b"), key("other/gate")]));
    let b = rig.stream_id("live/b");
    let mut changes = events(&mut rig);
    changes.sort_by(|one, other| one.0.cmp(&other.0));
    let mut expected = [(b.clone(), Some(ItemEvent::Add)), (gate, Some(ItemEvent::On))];
    expected.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(changes, expected);
    rig.input(Input::Streams(vec![key("live/b"), key("other/gate")]));
    assert_eq!(events(&mut rig), [(a, Some(ItemEvent::Off))]);
    rig.input(Input::Streams(vec![key("live/b"), key("other/gate")]));
    assert_eq!(events(&mut rig), []);
    // It is over, and alarms are not to be had.
    rig.pass(601_000);
    rig.input(Input::Streams(vec![]));
    assert_eq!(events(&mut rig), []);
    assert_eq!(rig.ask_above(Method::Subscribe, OWN, &[("Event", "presence"), ("Expires", "60")], None).status, 489);
    // Who does not know its subscription gets no more.
    subscribe(&mut rig, "600");
    events(&mut rig);
    rig.mood = Mood::RefusesMessages(481);
    rig.input(Input::Streams(vec![key("live/b")]));
    rig.mood = Mood::Good;
    rig.notified.clear();
    rig.input(Input::Streams(vec![]));
    assert_eq!(events(&mut rig), []);
}

#[test]
fn a_subscription_is_told_of_its_refresh_and_of_its_end() {
    for is_over_by_time in [false, true] {
        let mut rig = Rig::registered(&["live/*", "other/gate"]);
        let query = Message { sn: 3, device: OWN.to_owned(), body: Body::Query(Query::CATALOG) };
        let body = manscdp::encode(&query, Charset::default());
        let headers = [("Event", "Catalog;id=1"), ("Expires", "600")];
        let answer = rig.ask_above(Method::Subscribe, OWN, &headers, Some((link::MANSCDP, body.clone())));
        let mut request = Request::new(Method::Subscribe, "sip:x@y");
        for name in ["From", "To", "Call-ID", "CSeq"] {
            request.headers.push(name, answer.headers.get(name).unwrap());
        }
        let mut dialog = Dialog::of_answer(&request, &answer).unwrap();
        let mut again = |rig: &mut Rig, expires: &str| {
            let mut request = dialog.request(Method::Subscribe);
            request.headers.push("Event", "Catalog;id=1");
            request.headers.push("Expires", expires);
            assert_eq!(rig.send_above(request).status, 200);
        };
        let states =
            |rig: &mut Rig| -> Vec<String> { std::mem::take(&mut rig.notified).into_iter().map(|(state, _)| state).collect() };
        assert_eq!(states(&mut rig), ["active;expires=600;retry-after=0"]);
        again(&mut rig, "300");
        assert_eq!(states(&mut rig), ["active;expires=300;retry-after=0"]);
        if is_over_by_time {
            rig.pass(300_000);
        } else {
            again(&mut rig, "0");
        }
        assert_eq!(states(&mut rig), ["terminated;reason=timeout"], "{is_over_by_time}");
        assert!(rig.cascade.subscriptions.is_empty());
        rig.input(Input::Streams(vec![key("other/gate")]));
        assert_eq!(states(&mut rig).len(), 0);
    }
}

#[test]
fn it_registers_where_it_is_sent_and_comes_back() {
    let address = |rig: &Rig| rig.cascade.views(rig.now)[0].address.clone();
    let mut rig = Rig::new(&["live/*"]);
    rig.mood = Mood::Redirects("<sip:34011100002000000008@203.0.113.5:5080>");
    rig.input(Input::Timeout);
    assert_eq!((rig.state(), address(&rig).as_str()), ("online", "203.0.113.5:5080"));
    let uris: Vec<&str> = rig.requests.iter().map(|request| request.uri.as_str()).collect();
    let (home, away) = ("sip:34010000002000000009@3401000000", "sip:34011100002000000008@3401110000");
    assert_eq!(uris, [home, away, away], "the second of them with a password");
    assert!(rig.requests.iter().all(|request| request.headers.get("X-GB-Ver") == Some("3.0")));
    // Whoever it is sent to is heard, and the first one is not while it is away.
    assert_eq!(rig.ask_above(Method::Options, OWN, &[], None).status, 200);
    rig.pass(590_000);
    assert_eq!((rig.state(), address(&rig).as_str()), ("online", "203.0.113.5:5080"));
    let asked = rig.requests.iter().filter(|request| request.uri == home).count();
    rig.pass(20_000);
    assert_eq!((rig.state(), address(&rig).as_str()), ("online", "203.0.113.5:5080"), "sent there once more");
    assert_eq!(rig.requests.iter().filter(|request| request.uri == home).count(), asked + 1);
    // What fails there is tried at home.
    rig.mood = Mood::RefusesMessages(403);
    rig.hop.peer = HOME.parse().unwrap();
    rig.back.local = rig.hop.peer;
    let mut out = Vec::new();
    rig.cascade.with_link(rig.clock(), &mut out, |_| true, Link::closed);
    assert_eq!((rig.state(), address(&rig).as_str()), ("waiting", HOME));

    for (contact, why) in [
        ("<sip:34010000002000000009@198.51.100.1:5060>", "more than 3 servers, one behind the other"),
        ("<sip:34010000002000000009@above.example>", "above.example is no address and port"),
    ] {
        let mut rig = Rig::new(&[]);
        rig.mood = Mood::Redirects(contact);
        rig.input(Input::Timeout);
        assert_eq!(rig.detail(), format!("the registration is sent elsewhere: {why}; tried again 60 s later"));
    }
}

#[test]
fn challenges_are_answered_twice_at_most_and_each_as_it_is_asked() {
    let asked = |rig: &Rig, name: &str| rig.requests.iter().filter(|request| request.headers.get(name).is_some()).count();
    let mut rig = Rig::new(&[]);
    rig.mood = Mood::Challenges(401, ",stale=true");
    rig.input(Input::Timeout);
    assert_eq!((rig.requests.len(), asked(&rig, "Authorization"), rig.state()), (3, 2, "waiting"));
    let detail = "each challenge is said to be too old when it is answered; tried again 60 s later";
    assert_eq!(rig.detail(), detail);
    rig.pass(59_000);
    assert_eq!(rig.requests.len(), 3);

    let mut rig = Rig::new(&[]);
    rig.mood = Mood::Challenges(407, "");
    rig.input(Input::Timeout);
    assert_eq!((asked(&rig, "Authorization"), asked(&rig, "Proxy-Authorization")), (0, 1));

    // The last nonce is spent: the goodbye begins without one.
    let mut rig = Rig::registered(&[]);
    rig.input(Input::Finishing);
    let last: Vec<bool> = rig.registers[2..].iter().map(|request| request.headers.get("Authorization").is_some()).collect();
    assert_eq!((last, rig.state()), (vec![false, true], "gone"));
}
