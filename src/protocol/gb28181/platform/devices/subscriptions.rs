//! What is subscribed to at devices (GB/T 28181-2016 §9.11, Annex P; RFC 6665): asked for when a device comes, refreshed before it ends, asked
//! for again where a device has ended or refused it, and as soon as it is reached again where there was no way to it.
//!
//! A NOTIFY that belongs to no subscription is answered 481, so that a device gives up what it remembers from before a restart. Not here: what
//! a notification means (`messages`).

use super::{Devices, Id, Presence, Sent, Timer};
use crate::config;
use crate::media::Stamp;
use crate::protocol::gb28181::manscdp::{self, AlarmQuery, Body, Charset, Message, Query};
use crate::protocol::gb28181::platform::context::{Context, MANSCDP_TYPE};
use crate::protocol::gb28181::sip::Hop;
use crate::protocol::gb28181::sip::dialog::Dialog;
use crate::protocol::gb28181::sip::message::{Method, Request, Response};
use crate::protocol::gb28181::sip::transaction::{Failure, ServerId};

/// For how long we subscribe.
const EXPIRES_S: u32 = 3_600;
const EXPIRES_S_MAX: u32 = 7 * 86_400;
/// When one that a device has ended is asked for again.
const RESUBSCRIBE_MS: u64 = 60_000;
/// When one that a device has refused is asked for again.
const RETRY_MS: u64 = 300_000;
/// Those of a device that seems to begin anew again and again are refreshed once in this time.
const REFRESH_PAUSE_MS: u64 = 60_000;
/// How often a position is told.
const POSITION_INTERVAL_S: u32 = 5;

pub(super) const SUBJECTS: [config::Subscription; 3] =
    [config::Subscription::Catalog, config::Subscription::Alarm, config::Subscription::MobilePosition];

#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// By the place in [`SUBJECTS`].
    of: [Option<Subscription>; SUBJECTS.len()],
    /// When all were refreshed because the device may have forgotten them.
    refreshed: Option<Stamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Asked,
    Active,
    Ended,
}

#[derive(Debug)]
pub(super) struct Subscription {
    pub state: State,
    /// Why it is ended.
    pub detail: String,
    pub expires: Option<Stamp>,
    /// It has ended because there was no way to the device.
    is_missed: bool,
    /// The first request of its dialog, which the answer makes a dialog of.
    request: Request,
    dialog: Option<Dialog>,
    due: Stamp,
}

impl Subscription {
    fn call_id(&self) -> &str {
        self.request.headers.get("Call-ID").unwrap_or_default()
    }
}

impl Subscriptions {
    pub fn all(&self) -> impl Iterator<Item = (config::Subscription, &Subscription)> {
        SUBJECTS.into_iter().zip(&self.of).filter_map(|(subject, subscription)| Some((subject, subscription.as_ref()?)))
    }
}

#[cfg(test)]
impl Subscriptions {
    pub fn has(&self, place: usize) -> bool {
        self.of[place].is_some()
    }
}

impl Devices {
    pub(super) fn subscribe_all(&mut self, context: &mut Context<'_>, id: &Id) {
        for (place, subject) in SUBJECTS.into_iter().enumerate() {
            if context.settings.subscribe.contains(&subject) {
                self.subscribe(context, id, place);
            }
        }
    }

    /// Begins a new subscription.
    fn subscribe(&mut self, context: &mut Context<'_>, id: &Id, place: usize) {
        let hop = match self.hop(id) {
            Ok(hop) => hop,
            Err(refused) => return self.retry_later(context, id, place, refused.why),
        };
        self.end_dialog(id, place);
        let (sn, charset) = (self.next_sn(), self.charset(id));
        let mut request = context.request(Method::Subscribe, &hop, id);
        let event = match SUBJECTS[place] {
            config::Subscription::Catalog => format!("Catalog;id={sn}"),
            config::Subscription::Alarm | config::Subscription::MobilePosition => "presence".to_owned(),
        };
        request.headers.push("Event", &event);
        request.headers.push("Expires", &EXPIRES_S.to_string());
        request.set_body(MANSCDP_TYPE, body(sn, id, place, charset));
        let call_id = request.headers.get("Call-ID").unwrap_or_default().to_owned();
        self.dialogs.insert(call_id, (id.clone(), place));
        let (state, due) = (State::Asked, Stamp::from_nanos(u64::MAX));
        let subscription = Subscription {
            state,
            detail: String::new(),
            expires: None,
            is_missed: false,
            request: request.clone(),
            dialog: None,
            due,
        };
        if let Some(device) = self.by_id.get_mut(id) {
            device.subscriptions.of[place] = Some(subscription);
        }
        self.send_subscribe(context, hop, id, place, request);
    }

    fn send_subscribe(&mut self, context: &mut Context<'_>, hop: Hop, id: &Id, place: usize, request: Request) {
        let call_id = request.headers.get("Call-ID").unwrap_or_default().to_owned();
        match context.send(hop, request) {
            Some(sent) => {
                self.sent.insert(sent, Sent::Subscribe(id.clone(), place, call_id));
            }
            None => self.retry_later(context, id, place, "too many requests are under way".to_owned()),
        }
    }

    /// One that is about to end is asked for again in its dialog.
    fn refresh_subscription(&mut self, context: &mut Context<'_>, id: &Id, place: usize) {
        let (sn, hop, charset) = (self.next_sn(), self.hop(id), self.charset(id));
        let Some(subscription) = self.subscription(id, place) else { return };
        let (Ok(hop), Some(dialog)) = (hop, &mut subscription.dialog) else { return self.subscribe(context, id, place) };
        let mut request = dialog.request(Method::Subscribe);
        for name in ["Event", "Expires"] {
            request.headers.push(name, subscription.request.headers.get(name).unwrap_or_default());
        }
        request.set_body(MANSCDP_TYPE, body(sn, id, place, charset));
        self.send_subscribe(context, hop, id, place, request);
    }

    /// `call_id`: of the request that is answered.
    pub(super) fn subscribe_answered(
        &mut self,
        context: &mut Context<'_>,
        (id, place): (&Id, usize),
        call_id: &str,
        response: &Response,
    ) {
        let now = context.now();
        let Some(subscription) = self.subscription(id, place).filter(|subscription| subscription.call_id() == call_id) else {
            return;
        };
        if response.status == 481 && subscription.dialog.is_some() {
            // The device has begun anew, and knows nothing of what is refreshed.
            return self.subscribe(context, id, place);
        }
        if !response.is_success() {
            return self.subscribe_failed(context, id, place, response.words());
        }
        let expires_s = response.headers.get("Expires").and_then(|expires| expires.trim().parse().ok()).unwrap_or(EXPIRES_S);
        if expires_s == 0 {
            return self.subscribe_failed(context, id, place, "it grants no time".to_owned());
        }
        if subscription.dialog.is_none() {
            // As it was sent: with the Via that the transaction has put in.
            let mut request = subscription.request.clone();
            request.headers.push_front("Via", response.headers.get("Via").unwrap_or_default());
            subscription.dialog = Dialog::of_answer(&request, response);
        }
        subscription.state = State::Active;
        self.expect_end(now, id, place, expires_s);
    }

    pub(super) fn subscribe_unanswered(
        &mut self,
        context: &mut Context<'_>,
        (id, place): (&Id, usize),
        call_id: &str,
        failure: Failure,
    ) {
        if self.subscription(id, place).is_some_and(|subscription| subscription.call_id() == call_id) {
            self.subscribe_failed(context, id, place, failure.to_string());
        }
    }

    /// It will end in `expires_s`, and is refreshed when a quarter of that is left.
    fn expect_end(&mut self, now: Stamp, id: &Id, place: usize, expires_s: u32) {
        let expires_ms = u64::from(expires_s.min(EXPIRES_S_MAX)) * 1_000;
        if let Some(subscription) = self.subscription(id, place) {
            subscription.expires = Some(now.after_millis(expires_ms));
        }
        self.schedule(id, place, now.after_millis((expires_ms / 4 * 3).max(1_000)));
    }

    fn subscribe_failed(&mut self, context: &mut Context<'_>, id: &Id, place: usize, why: String) {
        let name = name(SUBJECTS[place]);
        let message = format!("device {id} has not taken the subscription to {name}: {why}");
        self.note_fault(context, "gb28181_not_subscribed", message);
        self.retry_later(context, id, place, why);
    }

    fn retry_later(&mut self, context: &Context<'_>, id: &Id, place: usize, why: String) {
        self.ended(id, place, why, context.now().after_millis(RETRY_MS));
    }

    /// Over; begun anew at `again`.
    fn ended(&mut self, id: &Id, place: usize, why: String, again: Stamp) {
        let is_missed = self.hop(id).is_err();
        if let Some(subscription) = self.subscription(id, place) {
            (subscription.state, subscription.detail, subscription.expires) = (State::Ended, why, None);
            (subscription.dialog, subscription.is_missed) = (None, is_missed);
        }
        self.schedule(id, place, again);
    }

    fn schedule(&mut self, id: &Id, place: usize, due: Stamp) {
        let Some(subscription) = self.by_id.get_mut(id).and_then(|device| device.subscriptions.of[place].as_mut()) else {
            return;
        };
        self.timers.remove(&(subscription.due, Timer::Subscription(id.clone(), place)));
        subscription.due = due;
        self.timers.insert((due, Timer::Subscription(id.clone(), place)));
    }

    pub(super) fn subscription_due(&mut self, context: &mut Context<'_>, id: &Id, place: usize) {
        if self.by_id.get(id).is_none_or(|device| device.presence != Presence::Online) {
            return;
        }
        match self.subscription(id, place).map(|subscription| subscription.state) {
            Some(State::Active) => self.refresh_subscription(context, id, place),
            Some(State::Asked | State::Ended) => self.subscribe(context, id, place),
            None => {}
        }
    }

    /// There is a way to the device again.
    pub(super) fn subscribe_to_missed(&mut self, context: &mut Context<'_>, id: &Id) {
        for place in 0..SUBJECTS.len() {
            if self.subscription(id, place).is_some_and(|subscription| subscription.is_missed) {
                self.subscription_due(context, id, place);
            }
        }
    }

    /// Of a device that may have forgotten them.
    pub(super) fn refresh_subscriptions(&mut self, context: &mut Context<'_>, id: &Id) {
        let now = context.now();
        let Some(device) = self.by_id.get_mut(id) else { return };
        let refreshed = &mut device.subscriptions.refreshed;
        if refreshed.is_some_and(|refreshed| now.millis_since(refreshed) < REFRESH_PAUSE_MS) {
            return;
        }
        *refreshed = Some(now);
        for place in 0..SUBJECTS.len() {
            if self.subscription(id, place).is_some_and(|subscription| subscription.state == State::Active) {
                self.refresh_subscription(context, id, place);
            }
        }
    }

    /// Of a device that has gone or come: it has forgotten them.
    pub(super) fn drop_subscriptions(&mut self, id: &Id) {
        for place in 0..SUBJECTS.len() {
            self.end_dialog(id, place);
        }
    }

    fn end_dialog(&mut self, id: &Id, place: usize) {
        let Some(device) = self.by_id.get_mut(id) else { return };
        if let Some(subscription) = device.subscriptions.of[place].take() {
            self.dialogs.remove(subscription.call_id());
            self.timers.remove(&(subscription.due, Timer::Subscription(id.clone(), place)));
        }
    }

    fn subscription(&mut self, id: &Id, place: usize) -> Option<&mut Subscription> {
        self.by_id.get_mut(id)?.subscriptions.of[place].as_mut()
    }

    pub fn notify(&mut self, context: &mut Context<'_>, id: ServerId, hop: Hop, request: &Request) {
        let sender = match self.sender(context, hop, request) {
            Ok(sender) => sender,
            Err(stranger) => return self.refuse(context, id, request, stranger),
        };
        let call_id = request.headers.get("Call-ID").unwrap_or_default();
        let Some(place) = self.dialogs.get(call_id).filter(|(device, _)| *device == sender).map(|(_, place)| *place) else {
            context.respond(id, &request.response(481));
            return self.note_stale_notify(context, &sender);
        };
        let dialog = self.subscription(&sender, place).and_then(|subscription| subscription.dialog.as_mut());
        if dialog.is_some_and(|dialog| !dialog.take_number(request)) {
            // Some count none of them, and over UDP they may overtake each other. What they say counts all the same.
            let message = format!("device {sender} notifies with a number that it has used before");
            context.note(log::Level::Debug, Some("gb28181_notify_order"), message);
        }
        if request.body.is_empty() {
            context.respond(id, &request.response(200));
        } else if let Some(message) = self.read(context, (id, hop), &sender, request) {
            self.take(context, &sender, message, call_id);
        }
        self.take_state(context.now(), &sender, place, request.headers.get("Subscription-State").unwrap_or_default());
    }

    /// As of subscriptions from before a restart, which end with the 481: once for each device.
    fn note_stale_notify(&mut self, context: &mut Context<'_>, sender: &Id) {
        let told = self.by_id.get_mut(sender).map(|device| std::mem::replace(&mut device.is_stale_notify_told, true));
        let level = if told == Some(false) { log::Level::Info } else { log::Level::Debug };
        let message = format!("device {sender} notifies of what is not subscribed to, as from before a restart: answered 481");
        context.note(level, Some("gb28181_not_subscribed_to"), message);
    }

    /// RFC 6665 §4.1.3: `active;expires=590`, `terminated;reason=timeout;retry-after=60`.
    fn take_state(&mut self, now: Stamp, id: &Id, place: usize, text: &str) {
        let mut parts = text.split(';').map(str::trim);
        let state = parts.next().unwrap_or_default().to_ascii_lowercase();
        let number = |wanted: &str| {
            let value = text.split(';').filter_map(|part| part.split_once('=')).find(|(name, _)| name.trim() == wanted)?.1;
            value.trim().parse::<u32>().ok()
        };
        if state == "terminated" {
            let pause_ms = number("retry-after").map_or(RESUBSCRIBE_MS, |seconds| u64::from(seconds.min(EXPIRES_S_MAX)) * 1_000);
            let again = now.after_millis(pause_ms.max(RESUBSCRIBE_MS));
            return self.ended(id, place, "the device has ended it".to_owned(), again);
        }
        let ends = self.subscription(id, place).and_then(|subscription| subscription.expires);
        if let (Some(ends), Some(seconds)) = (ends, number("expires").filter(|seconds| *seconds > 0)) {
            let told = now.after_millis(u64::from(seconds) * 1_000);
            if told.after_millis(RESUBSCRIBE_MS) < ends {
                self.expect_end(now, id, place, seconds);
            }
        }
    }
}

fn body(sn: u64, id: &Id, place: usize, charset: Charset) -> Vec<u8> {
    let query = match SUBJECTS[place] {
        config::Subscription::Catalog => Query::CATALOG,
        // 0: all.
        config::Subscription::Alarm => Query::Alarm(AlarmQuery {
            start_priority: Some(0),
            end_priority: Some(0),
            method: "0".to_owned(),
            ..AlarmQuery::default()
        }),
        config::Subscription::MobilePosition => Query::MobilePosition { interval_s: Some(POSITION_INTERVAL_S) },
    };
    manscdp::encode(&Message { sn, device: id.to_string(), body: Body::Query(query) }, charset)
}

pub(super) const fn name(subject: config::Subscription) -> &'static str {
    match subject {
        config::Subscription::Catalog => "catalog",
        config::Subscription::Alarm => "alarm",
        config::Subscription::MobilePosition => "mobile_position",
    }
}
