//! REGISTER with its digest, again before it ends, and keepalives (GB/T 28181 §9.1, §9.6).

use serde_json::json;

use super::agent::{Agent, Why};
use super::device::{Device, millis};
use super::digest::Challenge;
use super::sip::{Message, parameter};
use super::turn::Turn;
use crate::poll::NANOS_PER_SECOND;

/// So many keepalives without an answer, and the device registers anew.
const KEEPALIVES_LOST_MAX: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Off,
    Registering,
    On,
    Leaving,
}

pub struct Registration {
    pub state: State,
    call_id: String,
    tag: String,
    sequence: u32,
    challenge: Option<Challenge>,
    /// This request has answered a challenge: another one means no.
    has_answered: bool,
    /// When to register next, and when the next keepalive goes.
    register_at: u64,
    keepalive_at: u64,
    keepalives_lost: u32,
}

impl Registration {
    pub fn new(agent: &mut Agent) -> Registration {
        let (call_id, tag) = (agent.random.word(), agent.random.word());
        Registration {
            state: State::Off,
            call_id,
            tag,
            sequence: 0,
            challenge: None,
            has_answered: false,
            register_at: u64::MAX,
            keepalive_at: u64::MAX,
            keepalives_lost: 0,
        }
    }

    pub fn next_due(&self) -> u64 {
        self.register_at.min(self.keepalive_at)
    }
}

impl Device {
    pub fn register_now(&mut self, turn: &mut Turn<'_>) {
        self.registration.state = State::Registering;
        self.registration.has_answered = false;
        self.send_register(self.settings.args.expires, Why::Register, turn);
    }

    pub fn unregister(&mut self, turn: &mut Turn<'_>) {
        if self.registration.state == State::On {
            (self.registration.register_at, self.registration.keepalive_at) = (u64::MAX, u64::MAX);
            self.registration.state = State::Leaving;
            self.registration.has_answered = false;
            self.send_register(0, Why::Unregister, turn);
        }
    }

    fn send_register(&mut self, expires: u64, why: Why, turn: &mut Turn<'_>) {
        self.registration.register_at = u64::MAX;
        self.registration.sequence += 1;
        let identity = self.agent.identity.clone();
        let uri = format!("sip:{}@{}", identity.server_id, identity.domain);
        let own = format!("<{}>", identity.address(&identity.device));
        let Registration { call_id, tag, sequence, .. } = &self.registration;
        let (from, call_id) = (format!("{own};tag={tag}"), format!("{call_id}@{}", identity.local.ip()));
        let request = self.agent.message("REGISTER", &uri, &from, &own, &call_id, *sequence);
        let mut request = if self.settings.quirks.contact_expires {
            request.with("Contact", format!("{};expires={expires}", identity.contact()))
        } else {
            request.with("Contact", identity.contact()).with("Expires", expires.to_string())
        };
        if let Some(challenge) = &mut self.registration.challenge {
            let nonce = self.agent.random.word();
            let answer = challenge.answer(&identity.device, &self.settings.args.password, "REGISTER", &uri, &nonce);
            request = request.with("Authorization", answer);
        }
        self.agent.send(&request, why, turn);
    }

    pub fn register_answered(&mut self, response: &Message, turn: &mut Turn<'_>) {
        let leaving = self.registration.state == State::Leaving;
        let expires = if leaving { 0 } else { self.settings.args.expires };
        let why = if leaving { Why::Unregister } else { Why::Register };
        match response.status() {
            Some(200..300) if leaving => {
                self.registration.state = State::Off;
                self.tell("unregistered", json!({}), turn);
            }
            Some(200..300) => self.registered(response, turn),
            Some(401 | 407) if !self.registration.has_answered => {
                let header = response.header("WWW-Authenticate").or(response.header("Proxy-Authenticate"));
                self.registration.challenge = header.and_then(Challenge::parse);
                self.registration.has_answered = true;
                match self.registration.challenge {
                    Some(_) => self.send_register(expires, why, turn),
                    None => self.register_refused(response, turn),
                }
            }
            _ => self.register_refused(response, turn),
        }
    }

    fn registered(&mut self, response: &Message, turn: &mut Turn<'_>) {
        let granted = response.header("Expires").and_then(|expires| expires.parse::<u64>().ok());
        let in_contact = response.header("Contact").and_then(|contact| parameter(contact, "expires")?.parse().ok());
        let expires = granted.or(in_contact).unwrap_or(self.settings.args.expires);
        let registration = &mut self.registration;
        registration.has_answered = false;
        // Well before it ends.
        registration.register_at = turn.now + (expires * NANOS_PER_SECOND) * 3 / 4;
        registration.keepalives_lost = 0;
        let was_on = std::mem::replace(&mut registration.state, State::On) == State::On;
        if registration.keepalive_at == u64::MAX {
            registration.keepalive_at = turn.now + millis(self.settings.args.keepalive_ms);
        }
        let date = response.header("Date").unwrap_or_default().to_owned();
        let event = if was_on { "refreshed" } else { "registered" };
        self.tell(event, json!({ "expires": expires, "date": date }), turn);
    }

    fn register_refused(&mut self, response: &Message, turn: &mut Turn<'_>) {
        self.tell("refused", json!({ "status": response.status() }), turn);
        self.registration.challenge = None;
        self.register_failed(turn);
    }

    pub fn register_failed(&mut self, turn: &mut Turn<'_>) {
        let leaving = self.registration.state == State::Leaving;
        self.registration.state = State::Off;
        self.registration.keepalive_at = u64::MAX;
        self.registration.has_answered = false;
        self.registration.register_at = if leaving { u64::MAX } else { turn.now + millis(self.settings.args.retry_ms) };
    }

    /// The connection that SIP went over is new: nobody may know this device any more.
    pub fn reconnected(&mut self, turn: &mut Turn<'_>) {
        if !self.vanished && self.registration.state != State::Leaving {
            self.registration.state = State::Off;
            self.agent.forget();
            self.register_now(turn);
        }
    }

    pub fn registration_due(&mut self, turn: &mut Turn<'_>) {
        if self.registration.register_at <= turn.now {
            let was_on = self.registration.state == State::On;
            self.register_now(turn);
            if was_on {
                self.registration.state = State::On;
            }
        }
        if self.registration.keepalive_at <= turn.now {
            self.registration.keepalive_at = turn.now + millis(self.settings.args.keepalive_ms);
            let serial = self.serial();
            let body = self.inventory.keepalive(serial);
            self.tell_platform(&body, Why::Keepalive, turn);
        }
    }

    pub fn keepalive_answered(&mut self, response: &Message, turn: &mut Turn<'_>) {
        match response.status() {
            Some(200..300) => self.registration.keepalives_lost = 0,
            _ => {
                self.tell("forgotten", json!({ "status": response.status() }), turn);
                self.registration.keepalive_at = u64::MAX;
                self.register_now(turn);
            }
        }
    }

    pub fn keepalive_failed(&mut self, turn: &mut Turn<'_>) {
        self.registration.keepalives_lost += 1;
        if self.registration.keepalives_lost >= KEEPALIVES_LOST_MAX {
            self.registration.keepalives_lost = 0;
            self.registration.keepalive_at = u64::MAX;
            self.register_now(turn);
        }
    }
}
