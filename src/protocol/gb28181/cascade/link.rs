//! The registration with one platform above: on the way there, registered, refreshed, kept alive, and given back at the end.
//!
//! GB/T 28181-2016 §9.1, §9.6. A registration is refreshed when four fifths of it are over. Without an answer it is tried again after
//! [`RETRY_MS`], longer each time, up to [`REFUSED_RETRY_MS`], which is also how long a refusal is heeded. [`KEEPALIVES_MISSED_MAX`] keepalives
//! without an answer, or one that is refused, and it registers anew. A 302 sends it elsewhere (2022), [`REDIRECTS_MAX`] times; when that
//! is over, or fails, it is back where the configuration has it. Not here: what is said in between (`answers`, `calls`).

use std::collections::VecDeque;
use std::iter::Peekable;

use bytes::Bytes;

use super::World;
use super::answers::{CONNECTION_PART_BYTES_MAX, PART_BYTES_MAX, written_bytes};
use super::channels::Channels;
use super::redirect::Target;
use crate::config::{Gb28181, SipTransport, Upstream};
use crate::media::Stamp;
use crate::protocol::gb28181::manscdp::{self, Body, Catalog, Charset, Item, Keepalive, Notify};
use crate::protocol::gb28181::platform::Output;
use crate::protocol::gb28181::sip::digest::Challenge;
use crate::protocol::gb28181::sip::message::{Method, Request, Response};
use crate::protocol::gb28181::sip::transaction::ClientId;
use crate::protocol::gb28181::sip::{Carrier, ConnectionId, Hop};

pub const RETRY_MS: u64 = 5_000;
pub const REFUSED_RETRY_MS: u64 = 60_000;
pub const KEEPALIVES_MISSED_MAX: u32 = 3;
/// Challenges that are answered one after the other: a second one may say that the first was too old.
const ROUNDS_MAX: u32 = 2;
/// How often it is sent elsewhere on the way to one registration.
const REDIRECTS_MAX: u32 = 3;
/// The version of the standard that REGISTER says (2022, Annex I).
const VERSION: (&str, &str) = ("X-GB-Ver", "3.0");
/// What waits to be told to the platform above, one after the other.
pub const UNSENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Catalogs that wait to be told, beside all else.
pub const CATALOGS_MAX: usize = 4;
pub const MANSCDP: &str = "Application/MANSCDP+xml";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Tries again at a moment.
    Waiting,
    /// Looks for the way there.
    Reaching,
    Registering,
    Online,
    /// Has said goodbye.
    Leaving,
    Gone,
}

impl State {
    pub const fn name(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Reaching => "reaching",
            State::Registering => "registering",
            State::Online => "online",
            State::Leaving => "leaving",
            State::Gone => "gone",
        }
    }
}

/// A REGISTER that is under way.
#[derive(Debug)]
struct Register {
    client: ClientId,
    /// How many challenges have been answered with a password: 0, it has none.
    rounds: u32,
}

/// Of a challenge: the header that brings it, and that of its answer.
type Names = (&'static str, &'static str);
const OF_SERVER: Names = ("WWW-Authenticate", "Authorization");
const OF_PROXY: Names = ("Proxy-Authenticate", "Proxy-Authorization");

/// A catalog that is told part by part. The ids are all that is kept of it: there may be tens of thousands.
#[derive(Debug)]
pub struct CatalogAnswer {
    /// Of the question.
    sn: u64,
    device: String,
    /// How many items all parts have.
    sum: u32,
    ids: Peekable<std::vec::IntoIter<String>>,
}

impl CatalogAnswer {
    pub fn new(sn: u64, device: String, ids: Vec<String>) -> Self {
        CatalogAnswer { sn, device, sum: ids.len() as u32, ids: ids.into_iter().peekable() }
    }

    /// The items of the next part: one at least, if there is one left.
    fn next_items(&mut self, channels: &Channels, config: &Upstream, bytes_max: usize) -> Vec<Item> {
        let (mut items, mut bytes) = (Vec::new(), 0);
        while let Some(id) = self.ids.peek() {
            let item = channels.item_of(config, id);
            bytes += written_bytes::<Item>(item.bytes());
            if bytes > bytes_max && !items.is_empty() {
                break;
            }
            items.push(item);
            self.ids.next();
        }
        items
    }
}

#[derive(Debug)]
pub struct Link {
    pub config: Upstream,
    /// Where it registers: at home, or where home has sent it.
    pub target: Target,
    home: Target,
    redirects: u32,
    /// When it is back home. `None`: it is there, or stays away until something fails.
    away_until: Option<Stamp>,
    own: String,
    own_domain: String,
    answer_ms: u64,
    pub state: State,
    /// The state in words, with its reason.
    pub detail: String,
    pub hop: Option<Hop>,
    /// In which the platform above writes.
    pub charset: Charset,
    register: Option<Register>,
    challenge: Option<(Challenge, Names)>,
    /// Of all its registrations.
    call_id: String,
    number: u32,
    next_try: Stamp,
    tries: u32,
    pub registered: Option<Stamp>,
    pub expires: Option<Stamp>,
    refresh_at: Option<Stamp>,
    keepalive: Option<ClientId>,
    next_keepalive: Stamp,
    pub kept_alive: Option<Stamp>,
    pub missed: u32,
    sn: u64,
    unsent: VecDeque<Bytes>,
    unsent_bytes: usize,
    /// Told when nothing else waits.
    pub catalogs: VecDeque<CatalogAnswer>,
    telling: Option<ClientId>,
    /// It has come as a device too: the two platforms register with each other.
    pub is_below: bool,
    /// It answers OPTIONS, so that silence means that it is gone.
    pub answers_options: bool,
}

/// What a change means for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    None,
    /// The platform above does not answer any more, or does not know us: its calls and subscriptions are over.
    Lost,
    /// Registered, after a while of not being: the platform above may have begun anew.
    Anew,
}

impl Link {
    /// `None`: without an address, which a valid configuration has.
    pub fn new(section: &Gb28181, config: &Upstream, call_id: String) -> Option<Self> {
        let home = Target::new(config)?;
        Some(Link {
            target: home.clone(),
            home,
            redirects: 0,
            away_until: None,
            config: config.clone(),
            own: section.id.clone(),
            own_domain: section.domain.clone(),
            answer_ms: section.answer_ms,
            state: State::Waiting,
            detail: "not tried yet".to_owned(),
            hop: None,
            charset: Charset::default(),
            register: None,
            challenge: None,
            call_id,
            number: 0,
            next_try: Stamp::ZERO,
            tries: 0,
            registered: None,
            expires: None,
            refresh_at: None,
            keepalive: None,
            next_keepalive: Stamp::ZERO,
            kept_alive: None,
            missed: 0,
            sn: 0,
            unsent: VecDeque::new(),
            unsent_bytes: 0,
            catalogs: VecDeque::new(),
            telling: None,
            is_below: false,
            answers_options: false,
        })
    }

    /// Whether something of this connection is this link's.
    pub fn has_connection(&self, connection: ConnectionId) -> bool {
        self.hop.is_some_and(|hop| hop.carrier == Carrier::Tcp(connection))
    }

    pub fn next_timeout(&self) -> Option<Stamp> {
        match self.state {
            State::Waiting => Some(self.next_try),
            State::Online => [self.refresh_at, self.away_until, Some(self.next_keepalive)].into_iter().flatten().min(),
            State::Reaching | State::Registering | State::Leaving | State::Gone => None,
        }
    }

    pub fn timeout(&mut self, world: &mut World<'_>) {
        match self.state {
            State::Waiting if world.now >= self.next_try => self.reach(world),
            State::Online if self.away_until.is_some_and(|until| world.now >= until) => {
                self.again(world, "the time is over for which it was sent elsewhere");
            }
            State::Online => {
                if self.refresh_at.is_some_and(|at| world.now >= at) {
                    self.refresh_at = None;
                    self.register(world, self.config.expires_s, 0);
                }
                if world.now >= self.next_keepalive {
                    self.keep_alive(world);
                }
            }
            _ => {}
        }
    }

    fn reach(&mut self, world: &mut World<'_>) {
        self.state = State::Reaching;
        self.detail = format!("on the way to {}", self.target.address);
        world.out(Output::Reach { to: self.target.address, tcp: self.target.transport == SipTransport::Tcp });
    }

    /// The platform above has said that another one takes the registration.
    fn moved(&mut self, world: &mut World<'_>, response: &Response) {
        let moved = match self.target.moved(response) {
            _ if self.redirects == REDIRECTS_MAX => Err(format!("more than {REDIRECTS_MAX} servers, one behind the other")),
            moved => moved,
        };
        let (to, expires_s) = match moved {
            Ok(moved) => moved,
            Err(why) => return self.retry(world, format!("the registration is sent elsewhere: {why}"), true),
        };
        let message = format!("upstream {}: {} sends the registration to {}", self.config.id, self.target.address, to.address);
        world.note(log::Level::Info, None, message);
        self.redirects += 1;
        self.away_until = expires_s.map(|seconds| world.now.after_millis(u64::from(seconds) * 1_000));
        (self.target, self.challenge) = (to, None);
        self.hang_up(world);
        self.forget_registration();
        self.reach(world);
    }

    pub fn reached(&mut self, world: &mut World<'_>, hop: Result<Hop, String>) {
        if self.state != State::Reaching {
            return;
        }
        match hop {
            Ok(hop) => {
                self.hop = Some(hop);
                self.state = State::Registering;
                "registering".clone_into(&mut self.detail);
                self.register(world, self.config.expires_s, 0);
            }
            Err(why) => self.retry(world, format!("cannot reach {}: {why}", self.target.address), false),
        }
    }

    /// Tries again after a while. `refused`: somebody is there and does not want.
    fn retry(&mut self, world: &mut World<'_>, why: String, refused: bool) {
        if matches!(self.state, State::Leaving | State::Gone) {
            self.state = State::Gone;
            return;
        }
        let level = if self.detail.starts_with(&why) { log::Level::Debug } else { log::Level::Warn };
        world.note(level, refused.then_some("upstream_refused"), format!("upstream {}: {why}", self.config.id));
        let wait_ms = if refused { REFUSED_RETRY_MS } else { (RETRY_MS << self.tries.min(4)).min(REFUSED_RETRY_MS) };
        self.tries += 1;
        self.next_try = world.now.after_millis(wait_ms);
        self.detail = format!("{why}; tried again {} s later", wait_ms / 1_000);
        self.hang_up(world);
        self.state = State::Waiting;
        self.forget_registration();
        self.target.clone_from(&self.home);
        (self.redirects, self.away_until) = (0, None);
    }

    fn hang_up(&mut self, world: &mut World<'_>) {
        if let Some(Hop { carrier: Carrier::Tcp(connection), .. }) = self.hop.take() {
            world.out(Output::Hangup(connection));
        }
    }

    fn forget_registration(&mut self) {
        (self.registered, self.expires, self.refresh_at) = (None, None, None);
        (self.register, self.keepalive, self.telling, self.missed) = (None, None, None, 0);
        self.forget_unsent();
    }

    fn forget_unsent(&mut self) {
        self.unsent.clear();
        self.catalogs.clear();
        self.unsent_bytes = 0;
    }

    fn register(&mut self, world: &mut World<'_>, expires_s: u32, rounds: u32) {
        let Some(hop) = self.hop else { return };
        let uri = format!("sip:{}@{}", self.target.id, self.target.domain);
        let mut request = Request::new(Method::Register, &uri);
        let own = format!("<sip:{}@{}>", self.own, self.own_domain);
        self.number += 1;
        request.headers.push("From", &format!("{own};tag={}", world.token()));
        request.headers.push("To", &own);
        request.headers.push("Call-ID", &self.call_id);
        request.headers.push("CSeq", &format!("{} REGISTER", self.number));
        request.headers.push("Contact", &format!("<{}>", self.contact(hop)));
        request.headers.push("Expires", &expires_s.to_string());
        request.headers.push(VERSION.0, VERSION.1);
        if let Some((challenge, (_, name))) = self.challenge.as_ref().filter(|_| rounds > 0) {
            let username = if self.config.username.is_empty() { &self.own } else { &self.config.username };
            let value = challenge.answer(username, &self.config.password, "REGISTER", &uri, &world.token());
            request.headers.push(name, &value);
        }
        let sent = world.transactions.request(world.now, hop, request, self.answer_ms);
        self.register = sent.map(|client| Register { client, rounds });
        if self.register.is_none() {
            self.retry(world, "too many SIP requests are under way".to_owned(), false);
        }
    }

    /// Our address as the platform above is told.
    pub fn contact(&self, hop: Hop) -> String {
        format!("sip:{}@{}", self.own, hop.local)
    }

    fn keep_alive(&mut self, world: &mut World<'_>) {
        self.next_keepalive = world.now.after_millis(self.config.keepalive_ms);
        if self.keepalive.is_some() {
            return;
        }
        let keepalive = Keepalive { status: "OK".to_owned(), faulty: Vec::new() };
        let body = self.body(self.own.clone(), None, Body::Notify(Notify::Keepalive(keepalive)));
        self.keepalive = self.send(world, body);
    }

    /// `sn`: of the question that it answers; else a new one.
    pub fn body(&mut self, device: String, sn: Option<u64>, body: Body) -> Bytes {
        let sn = sn.unwrap_or_else(|| {
            self.sn += 1;
            self.sn
        });
        manscdp::encode(&manscdp::Message { sn, device, body }, self.charset).into()
    }

    fn send(&mut self, world: &mut World<'_>, body: Bytes) -> Option<ClientId> {
        let hop = self.hop?;
        let mut request = Request::new(Method::Message, &format!("sip:{}@{}", self.target.id, self.target.domain));
        request.headers.push("From", &format!("<sip:{}@{}>;tag={}", self.own, self.own_domain, world.token()));
        request.headers.push("To", &format!("<sip:{}@{}>", self.target.id, self.target.domain));
        request.headers.push("Call-ID", &world.token());
        request.headers.push("CSeq", "20 MESSAGE");
        request.set_body(MANSCDP, body);
        world.transactions.request(world.now, hop, request, self.answer_ms)
    }

    /// Whether so much more may wait to be told.
    pub fn has_room(&self, bodies: &[Bytes]) -> bool {
        self.unsent_bytes + bodies.iter().map(Bytes::len).sum::<usize>() <= UNSENT_BYTES_MAX
    }

    /// Tells the platform above, each message after the answer to the one before. `false`: too much waits.
    pub fn tell(&mut self, world: &mut World<'_>, bodies: Vec<Bytes>) -> bool {
        if !self.has_room(&bodies) {
            return false;
        }
        self.unsent_bytes += bodies.iter().map(Bytes::len).sum::<usize>();
        self.unsent.extend(bodies);
        self.tell_next(world);
        true
    }

    pub fn has_room_for_catalog(&self) -> bool {
        self.catalogs.len() < CATALOGS_MAX
    }

    /// Tells the platform above a catalog, part by part, after everything else that waits.
    pub fn tell_catalog(&mut self, world: &mut World<'_>, answer: CatalogAnswer) {
        self.catalogs.push_back(answer);
        self.tell_next(world);
    }

    fn tell_next(&mut self, world: &mut World<'_>) {
        if self.telling.is_some() {
            return;
        }
        let body = match self.unsent.pop_front() {
            Some(body) => {
                self.unsent_bytes -= body.len();
                Some(body)
            }
            None => self.next_part(world.channels),
        };
        if let Some(body) = body {
            self.telling = self.send(world, body);
        }
    }

    fn next_part(&mut self, channels: &Channels) -> Option<Bytes> {
        let bytes_max = self.part_bytes_max();
        let mut answer = self.catalogs.pop_front()?;
        let items = answer.next_items(channels, &self.config, bytes_max);
        let (sn, device) = (answer.sn, answer.device.clone());
        let catalog = Catalog { sum: Some(answer.sum), items };
        if answer.ids.peek().is_some() {
            self.catalogs.push_front(answer);
        }
        Some(self.body(device, Some(sn), Body::Response(manscdp::Response::Catalog(catalog))))
    }

    /// How long a part of an answer may be.
    pub fn part_bytes_max(&self) -> usize {
        let is_udp = self.hop.is_none_or(|hop| hop.carrier == Carrier::Udp);
        if is_udp { PART_BYTES_MAX } else { CONNECTION_PART_BYTES_MAX }
    }

    /// Whether the answer was to a request of this link; `response`: `None` if there is none.
    pub fn answered(&mut self, world: &mut World<'_>, id: ClientId, response: Option<&Response>) -> Option<Change> {
        if self.register.as_ref().is_some_and(|register| register.client == id) {
            let Register { rounds, .. } = self.register.take()?;
            return Some(self.registered(world, rounds, response));
        }
        if self.keepalive == Some(id) {
            self.keepalive = None;
            return Some(self.kept_alive(world, response));
        }
        if self.telling == Some(id) {
            self.telling = None;
            if response.is_none() {
                // What is left of the answer would find nobody either.
                self.forget_unsent();
            }
            self.tell_next(world);
            return Some(Change::None);
        }
        None
    }

    fn registered(&mut self, world: &mut World<'_>, rounds: u32, response: Option<&Response>) -> Change {
        let was_online = self.state == State::Online;
        let lost = if was_online { Change::Lost } else { Change::None };
        let Some(response) = response else {
            self.retry(world, format!("no answer to the registration in {} ms", self.answer_ms), false);
            return lost;
        };
        match response.status {
            401 | 407 => {
                let names = if response.status == 407 { [OF_PROXY, OF_SERVER] } else { [OF_SERVER, OF_PROXY] };
                // Of several the first of a kind that is known: the other side has the one first that it prefers.
                let of = |names: Names| response.headers.all(names.0).find_map(|header| Some((Challenge::parse(header)?, names)));
                self.challenge = names.into_iter().find_map(of);
                let may_answer = self.challenge.as_ref().is_some_and(|(challenge, _)| {
                    // A password that is wrong does not get right.
                    rounds == 0 || challenge.is_stale && rounds < ROUNDS_MAX
                });
                if may_answer {
                    let expires_s = if self.state == State::Leaving { 0 } else { self.config.expires_s };
                    self.register(world, expires_s, rounds + 1);
                    return Change::None;
                }
                let why = match (&self.challenge, rounds) {
                    (None, 0) => "the challenge is of a kind that is not known",
                    (Some((challenge, _)), _) if challenge.is_stale => "each challenge is said to be too old when it is answered",
                    _ => "the password is refused",
                };
                self.retry(world, why.to_owned(), true);
                lost
            }
            _ if response.is_success() && self.state == State::Leaving => {
                self.state = State::Gone;
                Change::None
            }
            _ if response.is_success() => {
                self.online(world, response);
                if was_online { Change::None } else { Change::Anew }
            }
            301 | 302 if self.state != State::Leaving => {
                self.moved(world, response);
                Change::None
            }
            status => {
                let hint = if status == 403 && rounds > 0 { " (is the password right?)" } else { "" };
                self.retry(world, format!("the registration is refused: {}{hint}", response.words()), true);
                lost
            }
        }
    }

    fn online(&mut self, world: &mut World<'_>, response: &Response) {
        let said = response.headers.get("Expires").and_then(|text| text.trim().parse().ok());
        let expires_ms = u64::from(said.filter(|seconds| *seconds > 0).unwrap_or(self.config.expires_s)) * 1_000;
        if self.state != State::Online {
            world.note(log::Level::Info, None, format!("upstream {}: registered for {} s", self.config.id, expires_ms / 1_000));
            self.next_keepalive = world.now.after_millis(self.config.keepalive_ms);
        }
        (self.state, self.tries, self.missed, self.redirects) = (State::Online, 0, 0, 0);
        "registered".clone_into(&mut self.detail);
        self.registered = Some(world.now);
        self.expires = Some(world.now.after_millis(expires_ms));
        self.refresh_at = Some(world.now.after_millis(expires_ms / 5 * 4));
    }

    fn kept_alive(&mut self, world: &mut World<'_>, response: Option<&Response>) -> Change {
        if self.state != State::Online {
            return Change::None;
        }
        match response {
            Some(response) if response.is_success() => {
                (self.missed, self.kept_alive) = (0, Some(world.now));
                "registered".clone_into(&mut self.detail);
                Change::None
            }
            Some(response) => {
                let why = format!("a keepalive is refused: {}", response.words());
                self.again(world, &why);
                Change::Lost
            }
            None => {
                self.missed += 1;
                self.detail = format!("registered; {} keepalives without an answer", self.missed);
                if self.missed < KEEPALIVES_MISSED_MAX {
                    return Change::None;
                }
                let why = format!("{} keepalives without an answer", self.missed);
                self.again(world, &why);
                Change::Lost
            }
        }
    }

    /// Registers anew, at once.
    fn again(&mut self, world: &mut World<'_>, why: &str) {
        self.retry(world, why.to_owned(), false);
        self.next_try = world.now;
    }

    /// The connection is over.
    pub fn closed(&mut self, world: &mut World<'_>) -> Change {
        let was_online = self.state == State::Online;
        self.hop = None;
        self.retry(world, "the connection was closed".to_owned(), false);
        if was_online {
            self.next_try = world.now.after_millis(RETRY_MS / 5);
        }
        // Calls go on; whether the platform above still knows them is asked on the next connection.
        Change::None
    }

    /// The process is about to end.
    pub fn leave(&mut self, world: &mut World<'_>) {
        if self.state != State::Online {
            self.state = State::Gone;
            return;
        }
        self.state = State::Leaving;
        "leaving".clone_into(&mut self.detail);
        // A nonce that was used before may not be taken again.
        self.register(world, 0, 0);
    }

    pub fn is_leaving(&self) -> bool {
        self.state == State::Leaving
    }
}
