//! SUBSCRIBE of the platform, NOTIFY of the device: catalog, alarms, position (GB/T 28181 §9.11, Annex P; RFC 6665).

use serde_json::json;

use super::agent::{Dialog, Why};
use super::device::{Device, MANSCDP, Queued, millis};
use super::sip::Message;
use super::turn::Turn;
use super::xml::{decode, element};
use crate::poll::NANOS_PER_SECOND;

/// Of a subscription that does not say it, in seconds.
const EXPIRES: u64 = 600;
/// Between positions, in seconds, where the subscription does not say it.
const INTERVAL: u64 = 5;
const SUBSCRIPTIONS_MAX: usize = 16;

pub struct Subscription {
    dialog: Dialog,
    /// The Event header, repeated in each NOTIFY.
    event: String,
    /// Catalog, Alarm or MobilePosition.
    command: String,
    expires_at: u64,
    interval: u64,
    notify_at: u64,
}

impl Subscription {
    pub fn next_due(&self) -> u64 {
        self.expires_at.min(self.notify_at)
    }
}

impl Device {
    pub fn subscribed(&mut self, request: &Message, turn: &mut Turn<'_>) {
        let text = decode(&request.body);
        let expires = request.header("Expires").and_then(|expires| expires.parse().ok()).unwrap_or(EXPIRES);
        let expires_at = turn.now + expires * NANOS_PER_SECOND;
        let tag = self.agent.random.word();
        let Some(new) = Dialog::of_request(request, &tag) else { return self.respond(request, 400, "Bad Request", turn) };
        let known = self.subscriptions.iter().position(|subscription| subscription.dialog.call_id == new.call_id);
        let dialog = known.map_or(new, |at| self.subscriptions[at].dialog.clone());
        if known.is_none() && self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return self.respond(request, 486, "Busy Here", turn);
        }
        let mut response = Message::response(request, 200, "OK").with("Expires", expires.to_string());
        response = response.with("Contact", self.agent.identity.contact());
        response.change("To", |to| *to = dialog.local.clone());
        self.agent.respond(request, &response, turn);
        let event = request.header("Event").unwrap_or("presence").to_owned();
        let command = element(&text, "CmdType").unwrap_or("Catalog").to_owned();
        self.tell("subscribed", json!({ "command": command, "expires": expires }), turn);
        if expires == 0 {
            self.subscriptions.retain(|subscription| subscription.dialog.call_id != dialog.call_id);
            return;
        }
        match known {
            Some(at) => self.subscriptions[at].expires_at = expires_at,
            None => {
                let interval = element(&text, "Interval").and_then(|seconds| seconds.parse().ok()).unwrap_or(INTERVAL);
                // A catalog's subscriber is told what has changed, when it has.
                let notify_at = if command == "MobilePosition" { turn.now } else { u64::MAX };
                let interval = interval.max(1) * NANOS_PER_SECOND;
                self.subscriptions.push(Subscription { dialog, event, command, expires_at, interval, notify_at });
            }
        }
    }

    pub fn subscriptions_due(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        self.subscriptions.retain(|subscription| subscription.expires_at > now);
        for at in 0..self.subscriptions.len() {
            if self.subscriptions[at].notify_at <= now {
                self.subscriptions[at].notify_at = now + self.subscriptions[at].interval;
                let serial = self.serial();
                let body = self.inventory.position(serial);
                self.notify(at, &body, turn);
            }
        }
    }

    fn notify(&mut self, at: usize, body: &str, turn: &mut Turn<'_>) {
        let Subscription { dialog, event, expires_at, .. } = &mut self.subscriptions[at];
        let left = expires_at.saturating_sub(turn.now) / millis(1000);
        let request = self.agent.in_dialog("NOTIFY", dialog);
        let request = request
            .with("Event", event.as_str())
            .with("Subscription-State", format!("active;expires={left};retry-after=0"))
            .with("Contact", self.agent.identity.contact())
            .with_body(MANSCDP, self.inventory.charset.encode(body));
        self.agent.send(&request, Why::Notify, turn);
    }

    /// To all who have subscribed to it; as a message, if nobody has and that is usual.
    fn publish(&mut self, command: &str, body: &str, or_message: bool, turn: &mut Turn<'_>) {
        let wanted: Vec<usize> = (0..self.subscriptions.len()).filter(|at| self.subscriptions[*at].command == command).collect();
        wanted.iter().for_each(|at| self.notify(*at, body, turn));
        if wanted.is_empty() && or_message {
            self.queue(Queued::Body(body.to_owned()), turn);
        }
    }

    pub fn alarm(&mut self, turn: &mut Turn<'_>) {
        let serial = self.serial();
        let body = self.inventory.alarm(serial);
        self.publish("Alarm", &body, true, turn);
    }

    pub fn position(&mut self, turn: &mut Turn<'_>) {
        let serial = self.serial();
        let body = self.inventory.position(serial);
        self.publish("MobilePosition", &body, true, turn);
    }

    /// `number`: counts channels from 1.
    pub fn set_online(&mut self, number: usize, online: bool, turn: &mut Turn<'_>) {
        let serial = self.serial();
        let Some(channel) = self.inventory.channels.get_mut(number.wrapping_sub(1)) else { return };
        channel.online = online;
        let channel = channel.clone();
        let body = self.inventory.catalog_event(serial, &channel);
        self.publish("Catalog", &body, false, turn);
    }
}
