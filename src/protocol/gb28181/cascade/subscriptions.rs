//! Subscriptions of platforms above to the catalog: what has changed is told as soon as it is known.
//!
//! GB/T 28181-2016 §9.11 and Annex P, RFC 6665. The first NOTIFY says what is offline, because everything else is taken to be online; each
//! later one what has come, gone, or changed its state. Each refresh is followed by one like the first, and the last one, which may have nothing
//! to tell, says that the subscription is over. One waits for the answer to the one before. Limits: [`SUBSCRIPTIONS_MAX`] of a platform, a
//! newer one in the place of the oldest; [`UNSENT_MAX`] notifications, over which the subscription is given up, so that the platform asks anew.
//! Not here: alarms and positions, which are refused (489).

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::calls::BODY;
use super::channels::Shown;
use super::{Cascade, Clock, Output, World};
use crate::media::Stamp;
use crate::protocol::gb28181::manscdp::{
    self, Body, Catalog, Item, ItemEvent, ItemFields, Notify, Outcome, Query, Response as Answer,
};
use crate::protocol::gb28181::sip::Hop;
use crate::protocol::gb28181::sip::dialog::Dialog;
use crate::protocol::gb28181::sip::message::{Method, Request, Response};
use crate::protocol::gb28181::sip::transaction::{ClientId, ServerId};

pub const SUBSCRIPTIONS_MAX: usize = 8;
pub const UNSENT_MAX: usize = 20_000;
const EXPIRES_S_DEFAULT: u32 = 600;
const EXPIRES_S_MAX: u32 = 86_400 * 7;

#[derive(Debug)]
pub(super) struct Subscription {
    pub upstream: usize,
    dialog: Dialog,
    /// The value of its header `Event`.
    event: String,
    expires: Stamp,
    /// What was told last: whether each channel is online, by id.
    told: BTreeMap<String, bool>,
    unsent: VecDeque<Bytes>,
    under_way: Option<ClientId>,
    /// The last notification waits, or is under way.
    pub is_over: bool,
}

impl Subscription {
    pub fn next_timeout(&self) -> Option<Stamp> {
        (!self.is_over).then_some(self.expires)
    }

    /// Whether a request is about it.
    pub fn is_of(&self, at: usize, request: &Request) -> bool {
        self.upstream == at && self.dialog.has(request)
    }

    fn notify(&mut self, world: &mut World<'_>, hop: Hop, answer_ms: u64) {
        if self.under_way.is_some() {
            return;
        }
        let Some(body) = self.unsent.pop_front() else { return };
        let left_s = self.expires.millis_since(world.now) / 1_000;
        let state = match self.is_over {
            true => "terminated;reason=timeout".to_owned(),
            false => format!("active;expires={};retry-after=0", left_s.max(1)),
        };
        let mut request = self.dialog.request(Method::Notify);
        request.headers.push("Event", &self.event);
        request.headers.push("Subscription-State", &state);
        request.set_body(BODY, body);
        self.under_way = world.transactions.request(world.now, hop, request, answer_ms);
    }
}

impl Cascade {
    pub(super) fn subscribe(
        &mut self,
        clock: Clock,
        at: usize,
        id: ServerId,
        hop: Hop,
        request: &Request,
        out: &mut Vec<Output>,
    ) {
        let event = request.headers.get("Event").unwrap_or_default().to_owned();
        let decoded = manscdp::decode(&request.body).ok().map(|(message, _)| message);
        let is_catalog = event.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("catalog"));
        let asks_catalog = decoded.as_ref().is_some_and(|message| matches!(message.body, Body::Query(Query::Catalog { .. })));
        let known = self.subscriptions.iter().position(|known| !known.is_over && known.is_of(at, request));
        if known.is_none() && !is_catalog && !asks_catalog {
            return self.world(clock, out).respond_with(id, request, 489);
        }
        let expires_s = request.expires_s().unwrap_or(EXPIRES_S_DEFAULT).min(EXPIRES_S_MAX);
        let mut response = request.response(200);
        response.headers.push("Expires", &expires_s.to_string());
        response.headers.push("Contact", &format!("<{}>", self.links[at].contact(hop)));
        if let Some(message) = decoded {
            let body = Body::Response(Answer::plain("Catalog", Outcome::Ok));
            let charset = self.links[at].charset;
            response.set_body(BODY, manscdp::encode(&manscdp::Message { sn: message.sn, device: message.device, body }, charset));
        }
        self.world(clock, out).respond(id, &response);
        let expires = clock.now.after_millis(u64::from(expires_s) * 1_000);
        match known {
            Some(known) => {
                let subscription = &mut self.subscriptions[known];
                subscription.dialog.take_number(request);
                subscription.expires = expires;
                self.refresh_subscription(clock, known, expires_s == 0, out);
            }
            None if expires_s == 0 => {}
            None => self.begin_subscription(clock, at, event, expires, (request, &response), out),
        }
    }

    fn begin_subscription(
        &mut self,
        clock: Clock,
        at: usize,
        event: String,
        expires: Stamp,
        (request, response): (&Request, &Response),
        out: &mut Vec<Output>,
    ) {
        let Some(dialog) = Dialog::of_request(request, response) else { return };
        let mut known = (0..self.subscriptions.len()).filter(|index| {
            let known = &self.subscriptions[*index];
            known.upstream == at && !known.is_over
        });
        if known.clone().count() >= SUBSCRIPTIONS_MAX
            && let Some(oldest) = known.next()
        {
            self.end_subscription(oldest);
        }
        let event = if event.is_empty() { "Catalog".to_owned() } else { event };
        self.subscriptions.push(Subscription {
            upstream: at,
            dialog,
            event,
            expires,
            told: BTreeMap::new(),
            unsent: VecDeque::new(),
            under_way: None,
            is_over: false,
        });
        self.refresh_subscription(clock, self.subscriptions.len() - 1, false, out);
    }

    /// RFC 6665 §4.2.1.2: the state of all, or that it is over.
    fn refresh_subscription(&mut self, clock: Clock, index: usize, is_over: bool, out: &mut Vec<Output>) {
        if is_over {
            self.end_subscription(index);
        } else {
            let at = self.subscriptions[index].upstream;
            let shown = self.channels.shown(&self.links[at].config);
            let told = shown.iter().map(|shown| (shown.id.clone(), shown.online)).collect();
            let offline = shown.iter().filter(|shown| !shown.online).map(|shown| changed(shown.id.clone(), ItemEvent::Off));
            let unsent = self.notifications(at, offline.collect(), true);
            let subscription = &mut self.subscriptions[index];
            subscription.told = told;
            subscription.unsent.extend(unsent);
        }
        self.notify_all(clock, out);
    }

    /// What waits to be told is not told any more, only that it is over.
    fn end_subscription(&mut self, index: usize) {
        let last = self.notifications(self.subscriptions[index].upstream, Vec::new(), true);
        let subscription = &mut self.subscriptions[index];
        (subscription.unsent, subscription.is_over) = (last, true);
    }

    /// Bodies of notifications; one without items if `always`.
    fn notifications(&mut self, at: usize, items: Vec<Item>, always: bool) -> VecDeque<Bytes> {
        if items.is_empty() && !always {
            return VecDeque::new();
        }
        let (sum, bytes_max) = (Some(items.len() as u32), self.part_bytes_max(at));
        let (own, link) = (self.section.id.clone(), &mut self.links[at]);
        let parts = super::answers::in_parts(items, bytes_max, Item::bytes).into_iter();
        parts.map(|items| link.body(own.clone(), None, Body::Notify(Notify::Catalog(Catalog { sum, items })))).collect()
    }

    /// Something may have come, gone, or changed its state.
    pub(super) fn channels_changed(&mut self, clock: Clock, out: &mut Vec<Output>) {
        if self.channels.take_full() {
            let message = format!("upstream: no more than {} streams have ids of channels", super::channels::NAMES_MAX);
            self.world(clock, out).note(log::Level::Warn, Some("upstream_names_full"), message);
        }
        for index in 0..self.subscriptions.len() {
            if self.subscriptions[index].is_over {
                continue;
            }
            let at = self.subscriptions[index].upstream;
            let shown = self.channels.shown(&self.links[at].config);
            let now: BTreeMap<String, bool> = shown.iter().map(|shown| (shown.id.clone(), shown.online)).collect();
            let items = self.changes(index, &shown, &now);
            let bodies = self.notifications(at, items, false);
            let subscription = &mut self.subscriptions[index];
            subscription.told = now;
            subscription.unsent.extend(bodies);
        }
        self.subscriptions.retain(|subscription| subscription.unsent.len() <= UNSENT_MAX);
        self.notify_all(clock, out);
    }

    fn changes(&self, index: usize, shown: &[Shown], now: &BTreeMap<String, bool>) -> Vec<Item> {
        let told = &self.subscriptions[index].told;
        let gone = told.keys().filter(|id| !now.contains_key(*id)).map(|id| changed(id.clone(), ItemEvent::Delete));
        let here = shown.iter().filter_map(|shown| match told.get(&shown.id) {
            None => {
                let mut item = self.channels.item(shown);
                item.fields.event = Some(ItemEvent::Add);
                Some(item)
            }
            Some(online) if *online != shown.online => {
                Some(changed(shown.id.clone(), if shown.online { ItemEvent::On } else { ItemEvent::Off }))
            }
            Some(_) => None,
        });
        gone.chain(here).collect()
    }

    fn notify_all(&mut self, clock: Clock, out: &mut Vec<Output>) {
        let answer_ms = self.section.answer_ms;
        let Cascade { subscriptions, links, channels, transactions, tokens, .. } = self;
        let mut world = World { now: clock.now, channels, transactions, tokens, out };
        for subscription in subscriptions.iter_mut() {
            // Without a way there it waits for the next one.
            if let Some(hop) = links[subscription.upstream].hop {
                subscription.notify(&mut world, hop, answer_ms);
            }
        }
        subscriptions.retain(|known| !known.is_over || known.under_way.is_some() || !known.unsent.is_empty());
    }

    /// A NOTIFY has an answer, or will have none. Who does not know the subscription, or does not answer, gets no more.
    pub(super) fn notified(&mut self, clock: Clock, id: ClientId, response: Option<&Response>, out: &mut Vec<Output>) {
        let Some(index) = self.subscriptions.iter().position(|known| known.under_way == Some(id)) else { return };
        self.subscriptions[index].under_way = None;
        let is_last = self.subscriptions[index].is_over && self.subscriptions[index].unsent.is_empty();
        if is_last {
            self.subscriptions.remove(index);
        } else if !response.is_some_and(Response::is_success) {
            let over = self.subscriptions.remove(index);
            let why = response.map_or("no answer to a notification".to_owned(), Response::words);
            let message = format!("upstream {}: a subscription is over: {why}", self.links[over.upstream].config.id);
            self.world(clock, out).note(log::Level::Info, None, message);
        }
        self.notify_all(clock, out);
    }

    pub(super) fn expire_subscriptions(&mut self, clock: Clock, out: &mut Vec<Output>) {
        let mut any = false;
        for index in 0..self.subscriptions.len() {
            if self.subscriptions[index].next_timeout().is_some_and(|due| clock.now >= due) {
                self.end_subscription(index);
                any = true;
            }
        }
        if any {
            self.notify_all(clock, out);
        }
    }
}

fn changed(id: String, event: ItemEvent) -> Item {
    Item { fields: ItemFields { device_id: id, event: Some(event), ..ItemFields::default() }, ..Item::default() }
}
