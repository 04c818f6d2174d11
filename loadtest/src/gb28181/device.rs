//! One device: who it is, what has come for it and what it does next. Its parts are in `registration.rs`, `calls.rs`, `notify.rs`,
//! `talk.rs`; its SIP transactions in `agent.rs`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;

use serde_json::json;

use super::agent::{Agent, Identity, Why};
use super::answers::{Channel, Inventory};
use super::args::{DeviceArgs, Quirks, SipTransport, count_up};
use super::calls::Call;
use super::media::Media;
use super::notify::Subscription;
use super::registration::Registration;
use super::sender::Sent;
use super::sip::Message;
use super::talk::Talk;
use super::turn::Turn;
use super::xml::{decode, element, root};
use crate::poll::NANOS_PER_SECOND;

/// As the standard writes it.
pub const MANSCDP: &str = "Application/MANSCDP+xml";
/// Sockets of a device: 0 is for SIP, those of calls follow, the last is for a broadcast.
pub const CALLS_MAX: usize = 60;
const TALK_SLOT: usize = CALLS_MAX + 1;
/// Messages that wait for their turn.
const QUEUE_MAX: usize = 1_000;

/// What all devices have in common.
pub struct Settings {
    pub args: DeviceArgs,
    pub quirks: Quirks,
    /// More than one: sent in turn.
    pub clips: Vec<Rc<Media>>,
}

/// What is to be sent when the message before is answered.
pub enum Queued {
    Body(String),
    /// The invitation that follows a broadcast's answer.
    Broadcast {
        source: String,
        target: String,
    },
}

pub struct Device {
    pub settings: Rc<Settings>,
    pub number: usize,
    pub agent: Agent,
    pub inventory: Inventory,
    pub registration: Registration,
    pub queue: VecDeque<Queued>,
    pub subscriptions: Vec<Subscription>,
    pub calls: Vec<Option<Call>>,
    pub talk: Option<Talk>,
    /// Is gone for everybody.
    pub vanished: bool,
    /// Of messages that are this device's idea.
    serial: u32,
}

impl Device {
    /// `local`: where its SIP socket is.
    pub fn new(settings: Rc<Settings>, number: usize, local: SocketAddr, seed: u64) -> Device {
        let DeviceArgs { id, channel_id, channels, server_id, domain, sip, .. } = &settings.args;
        let device = count_up(id, number as u64);
        let first = number as u64 * u64::from(*channels);
        let channel = |at: u16| Channel { id: count_up(channel_id, first + u64::from(at)), online: true };
        let speaker = settings.args.speaker.then(|| speaker_of(&device));
        let quirks = &settings.quirks;
        let inventory = Inventory {
            device: device.clone(),
            channels: (0..*channels).map(channel).collect(),
            speaker,
            charset: quirks.charset,
            records: settings.args.records,
            items: settings.args.items as usize,
            expires: settings.args.expires,
            keepalive_ms: settings.args.keepalive_ms,
        };
        let identity = Identity {
            device,
            server_id: server_id.clone(),
            domain: domain.clone(),
            local,
            tcp: *sip == SipTransport::Tcp,
            compact: quirks.compact,
            twice: quirks.retransmits,
            nat: quirks.nat,
        };
        let mut agent = Agent::new(identity, number, seed ^ (number as u64) << 32);
        let registration = Registration::new(&mut agent);
        Device {
            settings,
            number,
            agent,
            inventory,
            registration,
            queue: VecDeque::new(),
            subscriptions: Vec::new(),
            calls: (0..CALLS_MAX).map(|_| None).collect(),
            talk: None,
            vanished: false,
            serial: 0,
        }
    }

    pub fn id(&self) -> &str {
        &self.inventory.device
    }

    pub fn tell(&self, event: &str, fields: serde_json::Value, turn: &mut Turn<'_>) {
        turn.tell(event, self.id(), fields);
    }

    pub fn serial(&mut self) -> u32 {
        self.serial += 1;
        self.serial
    }

    pub fn next_due(&self) -> u64 {
        if self.vanished {
            return u64::MAX;
        }
        let subscriptions = self.subscriptions.iter().map(Subscription::next_due);
        let calls = self.calls.iter().flatten().map(Call::next_due);
        let talk = self.talk.iter().map(Talk::next_due);
        let all = [self.agent.next_due(), self.registration.next_due()];
        all.into_iter().chain(subscriptions).chain(calls).chain(talk).min().unwrap_or(u64::MAX)
    }

    /// Does what is due.
    pub fn timeout(&mut self, turn: &mut Turn<'_>) {
        if self.vanished {
            return;
        }
        for why in self.agent.timeout(turn) {
            self.tell("unanswered", json!({ "request": format!("{why:?}") }), turn);
            self.unanswered(&why, turn);
        }
        self.registration_due(turn);
        self.subscriptions_due(turn);
        self.calls_due(turn);
        self.talk_due(turn);
    }

    /// A SIP message has come.
    pub fn message(&mut self, message: &Message, turn: &mut Turn<'_>) {
        if self.vanished {
            return;
        }
        match message.method() {
            Some("ACK") => self.acknowledged(message, turn),
            Some(method) => {
                if !self.agent.is_repeated(message, turn) {
                    self.request(method, message, turn);
                }
            }
            None => {
                // A repeated answer to an invitation wants its ACK again.
                self.acknowledge_again(message, turn);
                if let Some(why) = self.agent.answered(message) {
                    self.answered(&why, message, turn);
                }
            }
        }
    }

    fn request(&mut self, method: &str, request: &Message, turn: &mut Turn<'_>) {
        match method {
            "MESSAGE" => self.manscdp(request, turn),
            "INVITE" => self.invited(request, turn),
            "CANCEL" => self.cancelled(request, turn),
            "BYE" => self.goodbye(request, turn),
            "INFO" => self.info(request, turn),
            "SUBSCRIBE" => self.subscribed(request, turn),
            "OPTIONS" => self.respond(request, 200, "OK", turn),
            _ => self.respond(request, 501, "Not Implemented", turn),
        }
    }

    pub fn respond(&mut self, request: &Message, status: u16, reason: &str, turn: &mut Turn<'_>) {
        let mut response = Message::response(request, status, reason);
        let tag = self.agent.random.word();
        response.change("To", |to| {
            if !to.contains("tag=") {
                to.push_str(&format!(";tag={tag}"));
            }
        });
        self.agent.respond(request, &response, turn);
    }

    fn answered(&mut self, why: &Why, response: &Message, turn: &mut Turn<'_>) {
        match why {
            Why::Register | Why::Unregister => self.register_answered(response, turn),
            Why::Keepalive => self.keepalive_answered(response, turn),
            Why::Queued => self.send_queued(turn),
            Why::Broadcast => self.broadcast_answered(response, turn),
            Why::Notify | Why::Bye => {}
        }
    }

    fn unanswered(&mut self, why: &Why, turn: &mut Turn<'_>) {
        match why {
            Why::Register | Why::Unregister => self.register_failed(turn),
            Why::Keepalive => self.keepalive_failed(turn),
            Why::Queued => self.send_queued(turn),
            Why::Broadcast => self.talk = None,
            Why::Notify | Why::Bye => {}
        }
    }

    /// A query, a command or a notice of the platform.
    fn manscdp(&mut self, request: &Message, turn: &mut Turn<'_>) {
        let text = decode(&request.body);
        let (command, sn) = (element(&text, "CmdType").unwrap_or_default(), element(&text, "SN").unwrap_or_default());
        self.respond(request, 200, "OK", turn);
        match root(&text) {
            Some("Query") => {
                self.tell("query", json!({ "command": command, "sn": sn }), turn);
                let answers = self.inventory.answer(&text);
                answers.into_iter().flatten().for_each(|body| self.queue(Queued::Body(body), turn));
            }
            Some("Control") if command == "DeviceControl" => self.control(&text, sn, turn),
            Some("Notify") if command == "Broadcast" => self.broadcast(&text, sn, turn),
            // The answer to what this device told.
            Some("Response") => {}
            _ => self.tell("ignored", json!({ "body": text }), turn),
        }
    }

    fn control(&mut self, text: &str, sn: &str, turn: &mut Turn<'_>) {
        /// Elements, what they are called here, and whether they are answered (§9.3.2).
        const COMMANDS: [(&str, &str, bool); 12] = [
            ("PTZCmd", "ptz", false),
            ("PTZPreciseCtrl", "look", false),
            ("TeleBoot", "boot", false),
            ("RecordCmd", "record", true),
            ("GuardCmd", "guard", true),
            ("AlarmCmd", "alarm", true),
            ("IFameCmd", "key_frame", false),
            ("IFrameCmd", "key_frame", false),
            ("DragZoomIn", "drag_zoom_in", false),
            ("DragZoomOut", "drag_zoom_out", false),
            ("HomePosition", "home_position", true),
            ("BasicParam", "config", true),
        ];
        let target = element(text, "DeviceID").unwrap_or_default().to_owned();
        let mut last = "";
        for (name, command, is_answered) in COMMANDS {
            // Under both names it is one command.
            let Some(value) = element(text, name).filter(|_| command != last) else { continue };
            last = command;
            let value = value.split_whitespace().collect::<String>();
            self.tell("control", json!({ "target": target, "command": command, "value": value }), turn);
            if is_answered {
                let body = self.inventory.result("DeviceControl", sn, &target);
                self.queue(Queued::Body(body), turn);
            }
        }
    }

    /// Sends it when those before are answered.
    pub fn queue(&mut self, queued: Queued, turn: &mut Turn<'_>) {
        if self.queue.len() < QUEUE_MAX {
            self.queue.push_back(queued);
        }
        if !self.agent.waits_for(&Why::Queued) {
            self.send_queued(turn);
        }
    }

    fn send_queued(&mut self, turn: &mut Turn<'_>) {
        match self.queue.pop_front() {
            Some(Queued::Body(body)) => self.tell_platform(&body, Why::Queued, turn),
            Some(Queued::Broadcast { source, target }) => {
                self.invite_to_broadcast(&source, &target, turn);
                self.send_queued(turn);
            }
            None => {}
        }
    }

    /// A MESSAGE.
    pub fn tell_platform(&mut self, body: &str, why: Why, turn: &mut Turn<'_>) {
        let (device, server) = (self.id().to_owned(), self.agent.identity.address(&self.agent.identity.server_id));
        let body = self.inventory.charset.encode(body);
        let request = self.agent.fresh("MESSAGE", &server, &device, &server).with_body(MANSCDP, body);
        self.agent.send(&request, why, turn);
    }

    /// A line of the standard input.
    pub fn command(&mut self, line: &str, turn: &mut Turn<'_>) {
        let mut words = line.split_whitespace();
        match (words.next(), words.next().and_then(|number| number.parse::<usize>().ok())) {
            (Some("go"), _) => self.calls.iter_mut().flatten().for_each(|call| call.go(turn.now)),
            (Some("alarm"), _) => self.alarm(turn),
            (Some("position"), _) => self.position(turn),
            (Some(state @ ("online" | "offline")), Some(number)) => self.set_online(number, state == "online", turn),
            (Some("bye"), _) => self.end_calls(turn),
            (Some("sent"), _) => self.tell_sent(turn),
            (Some("register"), _) => self.register_now(turn),
            (Some("unregister"), _) => self.unregister(turn),
            (Some("vanish"), _) => self.vanish(turn),
            _ => self.tell("unknown_command", json!({ "line": line }), turn),
        }
    }

    pub fn vanish(&mut self, turn: &mut Turn<'_>) {
        self.tell("vanished", json!({}), turn);
        self.vanished = true;
        self.calls.iter_mut().for_each(|call| *call = None);
        self.talk = None;
        self.agent.forget();
    }

    /// Of the calls that run.
    pub fn sent(&self) -> impl Iterator<Item = Sent> {
        self.calls.iter().flatten().map(Call::sent)
    }

    /// One of its sockets for media has something.
    pub fn ready(&mut self, slot: usize, turn: &mut Turn<'_>) {
        match slot {
            TALK_SLOT => self.talk_ready(turn),
            _ => self.call_ready(slot - 1, turn),
        }
    }

    /// The socket of a call, and of the broadcast.
    pub fn slot(call: usize) -> usize {
        call + 1
    }

    pub fn talk_slot() -> usize {
        TALK_SLOT
    }
}

/// The same number with the type of an audio output, 137.
fn speaker_of(device: &str) -> String {
    match (device.get(..10), device.get(13..)) {
        (Some(front), Some(back)) => format!("{front}137{back}"),
        _ => format!("{device}137"),
    }
}

pub fn millis(millis: u64) -> u64 {
    millis * (NANOS_PER_SECOND / 1000)
}
