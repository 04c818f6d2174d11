//! This platform as a lower one: it registers with the platforms above it, shows them its channels, and sends what they call for. Sans-IO.
//!
//! GB/T 28181-2016 §9 and Annex D, the side of the lower domain. SIP messages of the platforms above, the time, the names of streams and news
//! of senders go in; what is to be sent and done comes out, in order, and questions to the platform that devices register with. Nobody but
//! a platform of the configuration is heard, at its address: such platforms are not asked for a password. Limits: [`CALLS_OVER_MAX`], and
//! those of the parts. Not here: media, sockets, devices.

mod answers;
mod calls;
mod channels;
mod link;
mod questions;
mod redirect;
mod routing;
mod subscriptions;
#[cfg(test)]
mod tests;
pub mod view;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;

use self::answers::Asked;
use self::calls::Call;
use self::channels::Channels;
pub use self::channels::Ids;
use self::link::{Change, Link};
use self::questions::Question;
use self::routing::Recent;
use self::subscriptions::Subscription;
use self::view::{UpstreamCallView, UpstreamView};
use super::manscdp::{self, Body, Charset};
use super::platform::ask::{Answer, Ask};
use super::platform::{CallId, Clock, Output as Wish, Ticket};
use super::sip::message::{Method, Request, Response};
use super::sip::tokens::Tokens;
use super::sip::transaction::{ClientId, Event, ServerId, Transactions};
use super::sip::{Carrier, ConnectionId, Hop};
use crate::config::{Gb28181, Upstream};
use crate::media::Stamp;
use crate::session::{Sending, StreamKey};

/// Calls that are over and still shown.
const CALLS_OVER_MAX: usize = 64;
/// How long the first list of streams is waited for.
const LIST_MS: u64 = 3_000;

/// What the cascade is told.
#[derive(Debug)]
pub enum Input<'a> {
    /// A SIP message that [`Cascade::is_for`] it.
    Message {
        hop: Hop,
        bytes: &'a [u8],
    },
    Closed(ConnectionId),
    Timeout,
    /// Answers the wish to reach a platform.
    Reached {
        to: SocketAddr,
        hop: Result<Hop, String>,
    },
    Streams(Vec<StreamKey>),
    SenderOpened {
        call: CallId,
        port: Result<u16, String>,
    },
    Sending {
        call: CallId,
        sending: Sending,
    },
    /// Answers [`Output::Ask`].
    Answered {
        ticket: Ticket,
        answer: Answer,
    },
    Finishing,
}

/// What the cascade wants done, in order.
#[derive(Debug)]
pub enum Output {
    /// By whoever carries out the wishes of the platform. Numbers of calls and tickets are its own.
    Wish(Wish),
    /// By the platform that devices register with.
    Ask { ticket: Ticket, ask: Ask },
}

/// What one step needs beside what it is about.
pub(super) struct World<'a> {
    now: Stamp,
    channels: &'a Channels,
    transactions: &'a mut Transactions,
    tokens: &'a mut Tokens,
    out: &'a mut Vec<Output>,
}

impl World<'_> {
    fn out(&mut self, wish: Wish) {
        self.out.push(Output::Wish(wish));
    }

    fn note(&mut self, level: log::Level, reason: Option<&'static str>, message: String) {
        self.out(Wish::Note { level, reason, message });
    }

    fn token(&mut self) -> String {
        self.tokens.make()
    }

    fn respond(&mut self, id: ServerId, response: &Response) {
        self.transactions.respond(self.now, id, response);
    }

    fn respond_with(&mut self, id: ServerId, request: &Request, status: u16) {
        self.respond(id, &request.response(status));
    }
}

pub struct Cascade {
    section: Gb28181,
    transactions: Transactions,
    tokens: Tokens,
    channels: Channels,
    links: Vec<Link>,
    calls: BTreeMap<CallId, Call>,
    /// The newest last.
    calls_over: VecDeque<(usize, UpstreamCallView)>,
    subscriptions: Vec<Subscription>,
    questions: BTreeMap<Ticket, Question>,
    next_number: u64,
    next_look: Stamp,
    lists_streams: bool,
    /// When it registers: not before it is known which streams there are, because the catalog is asked for at once. `None`: not yet settled.
    begin_at: Option<Stamp>,
    looks_at_devices: bool,
    look: Option<questions::Look>,
    /// What was found by the looks before.
    below: questions::Below,
    /// Branches of requests that went to platforms above, and Call-IDs of requests that came from there.
    branches: Recent,
    call_ids: Recent,
    events: Vec<Event>,
    finishing: bool,
}

impl Cascade {
    /// `secret`: random, of this process alone. `ids`: what survived.
    pub fn new(section: &Gb28181, secret: &[u8; 32], ids: Ids) -> Self {
        let mut tokens = Tokens::new(secret);
        // Branches are made of another secret than tokens, so that neither tells of the other.
        let mut of_branches = *secret;
        of_branches.iter_mut().for_each(|byte| *byte ^= 0xA5);
        let links: Vec<Link> =
            section.upstream.iter().filter_map(|upstream| Link::new(section, upstream, tokens.make())).collect();
        Cascade {
            channels: Channels::new(section, ids),
            transactions: Transactions::new(&of_branches),
            tokens,
            calls: BTreeMap::new(),
            calls_over: VecDeque::new(),
            subscriptions: Vec::new(),
            questions: BTreeMap::new(),
            next_number: 1,
            next_look: Stamp::ZERO,
            lists_streams: links.is_empty(),
            looks_at_devices: links.iter().any(|link| channels::shares_devices(&link.config)),
            begin_at: None,
            look: None,
            below: questions::Below::default(),
            branches: Recent::default(),
            call_ids: Recent::default(),
            events: Vec::new(),
            finishing: false,
            links,
            section: section.clone(),
        }
    }

    /// What survives a restart.
    pub fn ids(&self) -> &Ids {
        self.channels.ids()
    }

    pub fn has_connection(&self, connection: ConnectionId) -> bool {
        self.links.iter().any(|link| link.has_connection(connection))
    }

    pub fn is_leaving(&self) -> bool {
        self.finishing && self.links.iter().any(Link::is_leaving)
    }

    pub fn next_timeout(&self) -> Option<Stamp> {
        if self.links.is_empty() {
            return None;
        }
        let begin_at = self.begin_at.unwrap_or_default();
        let links = self.links.iter().filter_map(Link::next_timeout).map(|due| due.max(begin_at));
        let subscriptions = self.subscriptions.iter().filter_map(Subscription::next_timeout);
        let calls = self.calls.values().filter_map(Call::next_timeout);
        let look = (self.looks_at_devices && self.look.is_none()).then_some(self.next_look);
        let list = (!self.lists_streams).then_some(Stamp::ZERO);
        let mine = links.chain(subscriptions).chain(calls).chain(look).chain(list).min();
        [mine, self.transactions.next_timeout()].into_iter().flatten().min()
    }

    pub fn handle(&mut self, clock: Clock, input: Input<'_>, out: &mut Vec<Output>) {
        let mut events = std::mem::take(&mut self.events);
        let now = clock.now;
        match input {
            Input::Message { hop, bytes } => self.transactions.received(now, hop, bytes, &mut events),
            Input::Closed(connection) => {
                self.transactions.closed(connection, &mut events);
                self.with_link(clock, out, |link| link.has_connection(connection), Link::closed);
            }
            Input::Timeout => {
                self.transactions.timeout(now, &mut events);
                // What fails now may be tried again at once.
                for event in events.drain(..) {
                    self.event(clock, event, out);
                }
                self.timeout(clock, out);
            }
            Input::Reached { to, hop } => {
                let is_it = |link: &Link| link.target.address == to && link.state == link::State::Reaching;
                let mut hop = Some(hop);
                self.with_link(clock, out, is_it, |link, world| {
                    if let Some(hop) = hop.take() {
                        link.reached(world, hop);
                    }
                    Change::None
                });
            }
            Input::Streams(keys) => {
                if !self.channels.are_same(&keys) {
                    self.streams_changed(clock, keys, out);
                }
                if self.begin_at.replace(Stamp::ZERO) != Some(Stamp::ZERO) {
                    self.timeout(clock, out);
                }
            }
            Input::SenderOpened { call, port } => self.sender_opened(clock, call, port, out),
            Input::Sending { call, sending } => self.sending(clock, call, sending, out),
            Input::Answered { ticket, answer } => self.question_answered(clock, ticket, answer, out),
            Input::Finishing => self.finish(clock, out),
        }
        for event in events.drain(..) {
            self.event(clock, event, out);
        }
        self.events = events;
        for (hop, bytes) in self.transactions.take_sends() {
            if let Some(branch) = routing::branch_of(&bytes) {
                self.branches.add(branch);
            }
            out.push(Output::Wish(Wish::Send { hop, bytes }));
        }
    }

    /// Lets one link do something, and follows what that means for its calls.
    fn with_link(
        &mut self,
        clock: Clock,
        out: &mut Vec<Output>,
        is_it: impl Fn(&Link) -> bool,
        act: impl FnOnce(&mut Link, &mut World<'_>) -> Change,
    ) {
        let Some(at) = self.links.iter().position(is_it) else { return };
        let (link, mut world) = self.parts(clock, at, out);
        let change = act(link, &mut world);
        self.changed(clock, at, change, out);
    }

    fn changed(&mut self, clock: Clock, at: usize, change: Change, out: &mut Vec<Output>) {
        match change {
            Change::None => {}
            Change::Lost => self.lost(clock, at, out),
            Change::Anew => self.doubt_calls(clock, at, out),
        }
    }

    fn parts<'a>(&'a mut self, clock: Clock, at: usize, out: &'a mut Vec<Output>) -> (&'a mut Link, World<'a>) {
        let Cascade { links, channels, transactions, tokens, .. } = self;
        (&mut links[at], World { now: clock.now, channels, transactions, tokens, out })
    }

    fn world<'a>(&'a mut self, clock: Clock, out: &'a mut Vec<Output>) -> World<'a> {
        let Cascade { channels, transactions, tokens, .. } = self;
        World { now: clock.now, channels, transactions, tokens, out }
    }

    /// A platform above does not answer any more.
    fn lost(&mut self, clock: Clock, at: usize, out: &mut Vec<Output>) {
        self.subscriptions.retain(|subscription| subscription.upstream != at);
        let calls: Vec<CallId> = self.calls.iter().filter(|(_, call)| call.upstream == at).map(|(id, _)| *id).collect();
        for id in calls {
            self.hang_up(clock, id, "the platform above does not answer", out);
        }
    }

    fn timeout(&mut self, clock: Clock, out: &mut Vec<Output>) {
        if !self.lists_streams {
            self.lists_streams = true;
            out.push(Output::Wish(Wish::ListStreams));
        }
        let begins = clock.now >= *self.begin_at.get_or_insert(clock.now.after_millis(LIST_MS));
        for at in (0..self.links.len()).filter(|_| begins) {
            let (link, mut world) = self.parts(clock, at, out);
            link.timeout(&mut world);
        }
        if self.looks_at_devices && self.look.is_none() && clock.now >= self.next_look {
            self.look_at_devices(clock.now, out);
        }
        self.expire_subscriptions(clock, out);
        self.expire_calls(clock, out);
    }

    fn streams_changed(&mut self, clock: Clock, keys: Vec<StreamKey>, out: &mut Vec<Output>) {
        let upstreams: Vec<Upstream> = self.links.iter().map(|link| link.config.clone()).collect();
        let is_news = self.channels.set_streams(keys, &upstreams);
        if self.channels.take_new() {
            out.push(Output::Wish(Wish::Save));
        }
        if is_news {
            self.channels_changed(clock, out);
        }
    }

    fn finish(&mut self, clock: Clock, out: &mut Vec<Output>) {
        self.finishing = true;
        let calls: Vec<CallId> = self.calls.keys().copied().collect();
        for id in calls {
            self.hang_up(clock, id, "the server is shutting down", out);
        }
        for at in 0..self.links.len() {
            let (link, mut world) = self.parts(clock, at, out);
            link.leave(&mut world);
        }
    }

    fn event(&mut self, clock: Clock, event: Event, out: &mut Vec<Output>) {
        match event {
            Event::Request { id, hop, request } => self.request(clock, id, hop, request, out),
            Event::Ack { invite, .. } => self.acknowledged(clock, invite, out),
            Event::Cancelled { invite } => self.cancelled(clock, invite, out),
            Event::Unacknowledged { invite } => self.unacknowledged(clock, invite, out),
            Event::Response { id, response, .. } => self.response(clock, id, Some(&response), out),
            Event::Failed { id, .. } => self.response(clock, id, None, out),
            Event::Broken { hop, reason, message } => {
                let message = format!("SIP from {}: {message}", hop.peer);
                out.push(Output::Wish(Wish::Note { level: log::Level::Debug, reason: Some(reason), message }));
            }
        }
    }

    fn response(&mut self, clock: Clock, id: ClientId, response: Option<&Response>, out: &mut Vec<Output>) {
        for at in 0..self.links.len() {
            let (link, mut world) = self.parts(clock, at, out);
            if let Some(change) = link.answered(&mut world, id, response) {
                return self.changed(clock, at, change, out);
            }
        }
        if let Some(call) = self.probe_of(id) {
            return self.probed(clock, call, response, out);
        }
        self.notified(clock, id, response, out);
    }

    fn request(&mut self, clock: Clock, id: ServerId, hop: Hop, request: Request, out: &mut Vec<Output>) {
        if let Some(identity) = request.identity() {
            self.call_ids.add(identity.call_id);
        }
        let Some(at) = self.link_of(hop, request.from_user().unwrap_or_default()) else {
            return self.world(clock, out).respond_with(id, &request, 403);
        };
        match request.method {
            Method::Message => self.message(clock, at, id, &request, out),
            Method::Invite => self.invite(clock, at, id, hop, request, out),
            Method::Bye => self.bye(clock, at, id, &request, out),
            Method::Info => self.info(clock, at, id, &request, out),
            Method::Subscribe => self.subscribe(clock, at, id, hop, &request, out),
            Method::Options => {
                let is_in_dialog = request.identity().is_some_and(|identity| identity.to.tag().is_some());
                let status = if is_in_dialog && !self.has_dialog(at, &request) { 481 } else { 200 };
                self.world(clock, out).respond_with(id, &request, status);
            }
            _ => self.world(clock, out).respond_with(id, &request, 405),
        }
    }

    fn message(&mut self, clock: Clock, at: usize, id: ServerId, request: &Request, out: &mut Vec<Output>) {
        let (message, charset) = match manscdp::decode(&request.body) {
            Ok(decoded) => decoded,
            Err(error) => {
                let mut world = self.world(clock, out);
                world.note(log::Level::Warn, Some(error.reason()), format!("upstream: {error}"));
                return world.respond_with(id, request, 400);
            }
        };
        if charset == Charset::Utf8 {
            self.links[at].charset = charset;
        }
        let asked = Asked { at, id, request, sn: message.sn, device: message.device };
        match message.body {
            Body::Query(query) => self.query(clock, &asked, query, out),
            Body::Control(control) => self.control(clock, &asked, control, out),
            // Of a broadcast and of answers to what was never asked.
            Body::Notify(_) | Body::Response(_) => self.world(clock, out).respond_with(id, request, 200),
        }
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// What the operator is shown.
    pub fn views(&self, now: Stamp) -> Vec<UpstreamView> {
        let view = |(at, link): (usize, &Link)| {
            let running = self.calls.values().rev().filter(|call| call.upstream == at).map(|call| call.view(now));
            let over = self.calls_over.iter().rev().filter(|(of, _)| *of == at).map(|(_, call)| call.clone());
            let (channels, channels_online) = self.channels.count(&link.config);
            UpstreamView {
                id: link.config.id.clone(),
                address: link.target.address.to_string(),
                transport: link.target.transport,
                state: link.state.name(),
                detail: link.detail.clone(),
                registered_age_ms: link.registered.map(|at| now.millis_since(at)),
                expires_ms: link.expires.map(|at| at.millis_since(now)),
                keepalive_age_ms: link.kept_alive.map(|at| now.millis_since(at)),
                keepalives_missed: link.missed,
                channels,
                channels_online,
                subscriptions: self.subscriptions.iter().filter(|known| known.upstream == at && !known.is_over).count(),
                calls: running.chain(over).collect(),
            }
        };
        self.links.iter().enumerate().map(view).collect()
    }

    /// Tells a platform above, each message after the answer to the one before. `false`: too much waits.
    fn tell(&mut self, clock: Clock, at: usize, bodies: Vec<Bytes>, out: &mut Vec<Output>) -> bool {
        let (link, mut world) = self.parts(clock, at, out);
        link.tell(&mut world, bodies)
    }
}
