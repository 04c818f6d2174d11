//! Client transactions: RFC 3261 §17.1, RFC 6026 §7.2, and CANCEL (§9.1).

use std::collections::HashMap;

use bytes::Bytes;

use super::{
    ClientId, Event, Failure, HELD_BYTES_MAX, LIMIT_MS, PROCEEDING_MS, Shared, T1_MS, T2_MS, T4_MS, TRANSACTIONS_MAX, is_udp,
};
use crate::media::Stamp;
use crate::protocol::gb28181::sip::Hop;
use crate::protocol::gb28181::sip::message::{Identity, Method, Request, Response};

const BRANCH_COOKIE: &str = "z9hG4bK";
const MAX_FORWARDS: &str = "70";
/// What a transaction costs besides its message.
const OVERHEAD_BYTES: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing has come.
    Trying,
    /// A provisional answer has come.
    Proceeding,
    /// Answered; repetitions of the answer are expected.
    Completed,
    /// An INVITE answered with 2xx.
    Accepted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Answer,
    /// CANCEL goes out as soon as a provisional answer allows it.
    Cancel,
    /// CANCEL is out.
    Cancelled,
}

#[derive(Debug)]
struct Client {
    hop: Hop,
    /// With its Via.
    request: Request,
    bytes: Bytes,
    key: String,
    state: State,
    wish: Wish,
    interval_ms: u64,
    ends: Stamp,
    due: Stamp,
    /// The ACK of the final answer, and the To tag of that.
    ack: Option<Bytes>,
    tag: Option<String>,
    /// A CANCEL of our own: nobody waits for its answer.
    is_quiet: bool,
}

impl Client {
    fn is_invite(&self) -> bool {
        self.request.method == Method::Invite
    }

    fn held_bytes(&self) -> usize {
        self.bytes.len() + self.request.held_bytes() + self.ack.as_ref().map_or(0, Bytes::len) + OVERHEAD_BYTES
    }

    /// Whether it is to be repeated until an answer comes.
    fn is_repeated(&self) -> bool {
        let waits = match self.state {
            State::Trying => self.wish == Wish::Answer,
            State::Proceeding => !self.is_invite(),
            State::Completed | State::Accepted => false,
        };
        waits && is_udp(self.hop)
    }
}

#[derive(Debug, Default)]
pub(super) struct Clients {
    by_id: HashMap<u64, Client>,
    /// By method and branch.
    by_key: HashMap<String, u64>,
    pub held_bytes: usize,
    pub refused: u64,
}

impl Clients {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn request(&mut self, shared: &mut Shared, now: Stamp, hop: Hop, mut request: Request, limit_ms: u64) -> Option<u64> {
        if self.len() >= TRANSACTIONS_MAX || self.held_bytes >= HELD_BYTES_MAX / 2 {
            self.refused += 1;
            return None;
        }
        let branch = format!("{BRANCH_COOKIE}{}", shared.tokens.make());
        complete(&mut request, hop, &branch);
        Some(self.start(shared, now, hop, request, &branch, limit_ms, false))
    }

    #[expect(clippy::too_many_arguments, reason = "what a transaction begins with")]
    fn start(
        &mut self,
        shared: &mut Shared,
        now: Stamp,
        hop: Hop,
        request: Request,
        branch: &str,
        limit_ms: u64,
        is_quiet: bool,
    ) -> u64 {
        let (bytes, key) = (request.to_bytes(), key(&request.method, branch));
        let ends = now.after_millis(limit_ms);
        let due = if is_udp(hop) { now.after_millis(T1_MS).min(ends) } else { ends };
        let id = shared.id();
        shared.due.insert((due, id));
        shared.enlist(hop, id);
        shared.send(hop, &bytes);
        let (state, wish, ack, tag) = (State::Trying, Wish::Answer, None, None);
        let client =
            Client { hop, request, bytes, key: key.clone(), state, wish, interval_ms: T1_MS, ends, due, ack, tag, is_quiet };
        self.held_bytes += client.held_bytes();
        self.by_key.insert(key, id);
        self.by_id.insert(id, client);
        id
    }

    pub fn response(&mut self, shared: &mut Shared, now: Stamp, hop: Hop, response: Response, events: &mut Vec<Event>) {
        let Some(identity) = Identity::of(&response.headers) else { return };
        let key = identity.via.branch().map(|branch| key(&identity.cseq.method, branch));
        let Some(id) = key.and_then(|key| self.by_key.get(&key)).copied() else { return };
        let Some(client) = self.by_id.get_mut(&id) else { return };
        let is_news = match (client.state, client.is_invite()) {
            (State::Trying | State::Proceeding, true) => self.invite_response(shared, now, id, &response),
            (State::Trying | State::Proceeding, false) => self.plain_response(shared, now, id, &response),
            (State::Completed | State::Accepted, _) => {
                let is_same = client.tag.as_deref() == identity.to.tag() && response.is_final();
                if let Some(ack) = client.ack.as_ref().filter(|_| is_same) {
                    shared.send(client.hop, ack);
                }
                false
            }
        };
        if is_news {
            events.push(Event::Response { id: ClientId(id), hop, response });
        }
    }

    /// Whether the user is told.
    fn plain_response(&mut self, shared: &mut Shared, now: Stamp, id: u64, response: &Response) -> bool {
        let Some(client) = self.by_id.get_mut(&id) else { return false };
        if !response.is_final() {
            client.state = State::Proceeding;
            client.interval_ms = T2_MS;
            return false;
        }
        let is_told = !client.is_quiet;
        client.state = State::Completed;
        if is_udp(client.hop) {
            shared.reschedule(id, &mut client.due, now.after_millis(T4_MS));
            client.ends = client.due;
        } else {
            self.remove(shared, id);
        }
        is_told
    }

    fn invite_response(&mut self, shared: &mut Shared, now: Stamp, id: u64, response: &Response) -> bool {
        let Some(client) = self.by_id.get_mut(&id) else { return false };
        if !response.is_final() {
            let is_first = client.state == State::Trying;
            client.state = State::Proceeding;
            if is_first {
                client.ends = now.after_millis(PROCEEDING_MS);
                shared.reschedule(id, &mut client.due, client.ends);
            }
            self.cancel_if_wanted(shared, now, id);
            return true;
        }
        client.tag = response.identity().and_then(|identity| identity.to.tag().map(str::to_owned));
        client.ends = now.after_millis(LIMIT_MS);
        shared.reschedule(id, &mut client.due, client.ends);
        if response.is_success() {
            client.state = State::Accepted;
            return true;
        }
        client.state = State::Completed;
        let ack = failure_ack(&client.request, response).to_bytes();
        shared.send(client.hop, &ack);
        self.held_bytes += ack.len();
        client.ack = Some(ack);
        if !is_udp(client.hop) {
            self.remove(shared, id);
        }
        true
    }

    pub fn ack(&mut self, shared: &mut Shared, hop: Hop, id: u64, mut request: Request) {
        let branch = format!("{BRANCH_COOKIE}{}", shared.tokens.make());
        complete(&mut request, hop, &branch);
        let bytes = request.to_bytes();
        shared.send(hop, &bytes);
        if let Some(client) = self.by_id.get_mut(&id).filter(|client| client.state == State::Accepted && client.ack.is_none()) {
            self.held_bytes += bytes.len();
            client.ack = Some(bytes);
        }
    }

    pub fn cancel(&mut self, shared: &mut Shared, now: Stamp, id: u64) {
        let Some(client) = self.by_id.get_mut(&id) else { return };
        if client.is_invite() && client.wish == Wish::Answer {
            client.wish = Wish::Cancel;
            self.cancel_if_wanted(shared, now, id);
        }
    }

    /// RFC 3261 §9.1: not before a provisional answer.
    fn cancel_if_wanted(&mut self, shared: &mut Shared, now: Stamp, id: u64) {
        let Some(client) = self.by_id.get_mut(&id) else { return };
        if client.wish != Wish::Cancel || client.state != State::Proceeding {
            return;
        }
        client.wish = Wish::Cancelled;
        client.ends = now.after_millis(LIMIT_MS);
        shared.reschedule(id, &mut client.due, client.ends);
        let (hop, cancel) = (client.hop, same_transaction(&client.request, Method::Cancel));
        let branch = client.key.rsplit(' ').next().unwrap_or_default().to_owned();
        self.start(shared, now, hop, cancel, &branch, LIMIT_MS, true);
    }

    /// Whether `id` is one of these.
    pub fn timeout(&mut self, shared: &mut Shared, now: Stamp, id: u64, events: &mut Vec<Event>) -> bool {
        let Some(client) = self.by_id.get_mut(&id) else { return false };
        if now >= client.ends {
            if matches!(client.state, State::Trying | State::Proceeding) && !client.is_quiet {
                events.push(Event::Failed { id: ClientId(id), failure: Failure::Silence });
            }
            self.remove(shared, id);
            return true;
        }
        let mut next = client.ends;
        if client.is_repeated() {
            shared.send(client.hop, &client.bytes);
            client.interval_ms *= 2;
            if !client.is_invite() {
                client.interval_ms = client.interval_ms.min(T2_MS);
            }
            next = next.min(now.after_millis(client.interval_ms));
        }
        shared.reschedule(id, &mut client.due, next);
        true
    }

    /// The connection of one of these is over, or of another one.
    pub fn closed(&mut self, shared: &mut Shared, id: u64, events: &mut Vec<Event>) {
        let waits = |client: &Client| matches!(client.state, State::Trying | State::Proceeding) && !client.is_quiet;
        if self.by_id.get(&id).is_some_and(waits) {
            events.push(Event::Failed { id: ClientId(id), failure: Failure::Closed });
        }
        self.remove(shared, id);
    }

    fn remove(&mut self, shared: &mut Shared, id: u64) {
        if let Some(client) = self.by_id.remove(&id) {
            self.held_bytes -= client.held_bytes();
            self.by_key.remove(&client.key);
            shared.due.remove(&(client.due, id));
            shared.delist(client.hop, id);
        }
    }
}

fn key(method: &Method, branch: &str) -> String {
    format!("{method} {branch}")
}

/// Puts in what every request of ours has.
fn complete(request: &mut Request, hop: Hop, branch: &str) {
    let transport = if is_udp(hop) { "UDP" } else { "TCP" };
    request.headers.push_front("Via", &format!("SIP/2.0/{transport} {};rport;branch={branch}", hop.local));
    if request.headers.get("Max-Forwards").is_none() {
        request.headers.push("Max-Forwards", MAX_FORWARDS);
    }
}

/// RFC 3261 §9.1 and §17.1.1.3: a request with the branch and the number of another.
fn same_transaction(invite: &Request, method: Method) -> Request {
    let mut request = Request::new(method, &invite.uri);
    if let Some(via) = invite.headers.get("Via") {
        request.headers.push("Via", via);
    }
    for name in ["From", "To", "Call-ID", "Route", "Max-Forwards"] {
        for value in invite.headers.all(name) {
            request.headers.push(name, value);
        }
    }
    let number = invite.identity().map_or(0, |identity| identity.cseq.number);
    let method = &request.method;
    request.headers.push("CSeq", &format!("{number} {method}"));
    request
}

fn failure_ack(invite: &Request, response: &Response) -> Request {
    let mut ack = same_transaction(invite, Method::Ack);
    if let Some(to) = response.headers.get("To") {
        ack.headers.set("To", to);
    }
    ack
}
