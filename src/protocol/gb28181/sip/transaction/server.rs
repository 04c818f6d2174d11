//! Server transactions: RFC 3261 §17.2, RFC 6026 §7.1, and CANCEL (§9.2).

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{
    Event, HELD_BYTES_MAX, LIMIT_MS, PROCEEDING_MS, ServerId, Shared, T1_MS, T2_MS, T4_MS, TRANSACTIONS_MAX, identity, is_udp,
};
use crate::media::Stamp;
use crate::protocol::gb28181::sip::Hop;
use crate::protocol::gb28181::sip::message::{Method, Request, Response};

/// What a transaction costs besides its answer.
const OVERHEAD_BYTES: usize = 256;

/// A hash, so that long texts of strangers are not kept.
type Key = [u8; 16];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Without a final answer.
    Proceeding,
    /// Answered. An INVITE with 300 and above: until its ACK.
    Completed,
    /// An INVITE answered with 2xx, until its ACK.
    Accepted,
    /// An INVITE whose ACK has come.
    Confirmed,
}

#[derive(Debug)]
struct Server {
    key: Key,
    /// By which the ACK of a 2xx is known.
    ack_key: Option<Key>,
    hop: Hop,
    /// Of an INVITE until it is answered, to answer its CANCEL.
    invite: Option<Box<Request>>,
    is_invite: bool,
    state: State,
    response: Option<Bytes>,
    interval_ms: u64,
    ends: Stamp,
    due: Stamp,
}

impl Server {
    fn held_bytes(&self) -> usize {
        let invite = self.invite.as_ref().map_or(0, |invite| invite.held_bytes());
        invite + self.response.as_ref().map_or(0, Bytes::len) + OVERHEAD_BYTES
    }
}

#[derive(Debug)]
pub(super) struct Servers {
    /// For so many there is room.
    pub room: usize,
    by_id: HashMap<u64, Server>,
    by_key: HashMap<Key, u64>,
    /// INVITEs that were answered with 2xx.
    by_ack: HashMap<Key, u64>,
    /// Answered requests that only absorb repetitions, in order; some are gone already.
    answered: VecDeque<u64>,
    /// INVITEs that were refused, which give way before those.
    refused_invites: VecDeque<u64>,
    /// INVITEs that are answered with 100 unless they are answered at once.
    new_invites: Vec<u64>,
    pub held_bytes: usize,
    pub refused: u64,
}

impl Default for Servers {
    fn default() -> Self {
        let (by_id, by_key, by_ack) = (HashMap::new(), HashMap::new(), HashMap::new());
        let (answered, refused_invites, new_invites) = (VecDeque::new(), VecDeque::new(), Vec::new());
        let (room, held_bytes, refused) = (TRANSACTIONS_MAX, 0, 0);
        Servers { room, by_id, by_key, by_ack, answered, refused_invites, new_invites, held_bytes, refused }
    }
}

impl Servers {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn request(&mut self, shared: &mut Shared, now: Stamp, hop: Hop, request: Request, events: &mut Vec<Event>) {
        let key = key_of(&request, &request.method);
        let known = self.by_key.get(&key).copied();
        if let Some((id, server)) = known.and_then(|id| Some((id, self.by_id.get_mut(&id)?))) {
            // The device may have got another address since.
            shared.delist(server.hop, id);
            shared.enlist(hop, id);
            server.hop = hop;
            if let Some(response) =
                server.response.as_ref().filter(|_| matches!(server.state, State::Proceeding | State::Completed))
            {
                shared.send(hop, response);
            }
            return;
        }
        if !self.make_room(shared) {
            self.refused += 1;
            return shared.send(hop, &request.response(503).to_bytes());
        }
        let id = self.start(shared, now, hop, key, &request);
        events.push(Event::Request { id: ServerId(id), hop, request });
    }

    fn start(&mut self, shared: &mut Shared, now: Stamp, hop: Hop, key: Key, request: &Request) -> u64 {
        let is_invite = request.method == Method::Invite;
        let due = now.after_millis(if is_invite { PROCEEDING_MS } else { LIMIT_MS });
        let id = shared.id();
        let server = Server {
            key,
            ack_key: None,
            hop,
            invite: is_invite.then(|| Box::new(request.clone())),
            is_invite,
            state: State::Proceeding,
            response: None,
            interval_ms: T1_MS,
            ends: due,
            due,
        };
        if is_invite {
            self.new_invites.push(id);
        }
        shared.due.insert((due, id));
        shared.enlist(hop, id);
        self.held_bytes += server.held_bytes();
        self.by_key.insert(key, id);
        self.by_id.insert(id, server);
        id
    }

    /// Answers INVITEs that are not answered yet with 100: RFC 3261 §17.2.1.
    pub fn try_new(&mut self, shared: &mut Shared) {
        for id in std::mem::take(&mut self.new_invites) {
            let is_open = |server: &&mut Server| server.state == State::Proceeding && server.response.is_none();
            let Some(server) = self.by_id.get_mut(&id).filter(is_open) else { continue };
            let Some(trying) = server.invite.as_ref().map(|invite| invite.response(100).to_bytes()) else { continue };
            shared.send(server.hop, &trying);
            self.held_bytes += trying.len();
            server.response = Some(trying);
        }
    }

    /// Forgets answered requests: INVITEs that were refused, then others, the oldest first.
    fn make_room(&mut self, shared: &mut Shared) -> bool {
        while self.len() >= self.room || self.held_bytes >= HELD_BYTES_MAX / 2 {
            let Some(id) = self.refused_invites.pop_front().or_else(|| self.answered.pop_front()) else { return false };
            self.remove(shared, id);
        }
        true
    }

    pub fn respond_once(&mut self, shared: &mut Shared, id: u64, response: &Response) {
        if let Some(server) = self.by_id.get(&id).filter(|server| server.state == State::Proceeding) {
            shared.send(server.hop, &response.to_bytes());
            self.remove(shared, id);
        }
    }

    pub fn respond(&mut self, shared: &mut Shared, now: Stamp, id: u64, response: &Response) {
        let Some(server) = self.by_id.get_mut(&id).filter(|server| server.state == State::Proceeding) else { return };
        let bytes = response.to_bytes();
        shared.send(server.hop, &bytes);
        self.held_bytes -= server.held_bytes();
        server.response = Some(bytes);
        if response.is_final() {
            server.invite = None;
        }
        self.held_bytes += server.held_bytes();
        if !response.is_final() {
            return;
        }
        let is_success = server.is_invite && response.is_success();
        server.state = if is_success { State::Accepted } else { State::Completed };
        server.ends = now.after_millis(LIMIT_MS);
        // Of 2xx the network loses the ACK as well, over any transport.
        let repeats = is_success || server.is_invite && is_udp(server.hop);
        let due = if repeats { now.after_millis(T1_MS) } else { server.ends };
        shared.reschedule(id, &mut server.due, due);
        if is_success {
            let ack_key = ack_key(response);
            server.ack_key = ack_key;
            self.by_ack.extend(ack_key.map(|key| (key, id)));
        } else if server.is_invite {
            note_answered(&mut self.refused_invites, &self.by_id, id);
        } else {
            self.answered(shared, id);
        }
    }

    fn answered(&mut self, shared: &mut Shared, id: u64) {
        if self.by_id.get(&id).is_some_and(|server| !is_udp(server.hop)) {
            return self.remove(shared, id);
        }
        note_answered(&mut self.answered, &self.by_id, id);
    }

    pub fn ack(&mut self, shared: &mut Shared, now: Stamp, hop: Hop, request: Request, events: &mut Vec<Event>) {
        let id = self.by_key.get(&key_of(&request, &Method::Invite)).copied();
        if let Some((id, server)) = id.and_then(|id| Some((id, self.by_id.get_mut(&id)?))) {
            if server.state == State::Completed {
                server.state = State::Confirmed;
                server.ends = now.after_millis(if is_udp(server.hop) { T4_MS } else { 0 });
                return shared.reschedule(id, &mut server.due, server.ends);
            }
            if server.state == State::Confirmed {
                return;
            }
        }
        let id = ack_key_of(&request).and_then(|key| self.by_ack.get(&key)).copied();
        let Some((id, server)) = id.and_then(|id| Some((id, self.by_id.get_mut(&id)?))) else { return };
        if server.state == State::Accepted {
            server.state = State::Confirmed;
            shared.reschedule(id, &mut server.due, server.ends);
            events.push(Event::Ack { invite: ServerId(id), hop, request });
        }
    }

    /// Answers a CANCEL, and the INVITE that it ends.
    pub fn cancel(&mut self, shared: &mut Shared, now: Stamp, hop: Hop, request: &Request, events: &mut Vec<Event>) {
        let id = self.by_key.get(&key_of(request, &Method::Invite)).copied();
        let status = if id.is_some() { 200 } else { 481 };
        shared.send(hop, &request.response(status).to_bytes());
        let Some((id, server)) = id.and_then(|id| Some((id, self.by_id.get_mut(&id)?))) else { return };
        if server.state != State::Proceeding {
            return;
        }
        if let Some(invite) = server.invite.take() {
            self.held_bytes -= invite.held_bytes();
            self.respond(shared, now, id, &invite.response(487));
            events.push(Event::Cancelled { invite: ServerId(id) });
        }
    }

    /// Whether `id` is one of these.
    pub fn timeout(&mut self, shared: &mut Shared, now: Stamp, id: u64, events: &mut Vec<Event>) -> bool {
        let Some(server) = self.by_id.get_mut(&id) else { return false };
        if now >= server.ends {
            if server.state == State::Accepted {
                events.push(Event::Unacknowledged { invite: ServerId(id) });
            }
            self.remove(shared, id);
            return true;
        }
        let mut next = server.ends;
        if let Some(response) = server.response.as_ref().filter(|_| matches!(server.state, State::Completed | State::Accepted)) {
            shared.send(server.hop, response);
            server.interval_ms = (2 * server.interval_ms).min(T2_MS);
            next = next.min(now.after_millis(server.interval_ms));
        }
        shared.reschedule(id, &mut server.due, next);
        true
    }

    /// The connection of one of these is over, or of another one.
    pub fn closed(&mut self, shared: &mut Shared, id: u64, events: &mut Vec<Event>) {
        if self.by_id.get(&id).is_some_and(|server| server.state == State::Accepted) {
            events.push(Event::Unacknowledged { invite: ServerId(id) });
        }
        self.remove(shared, id);
    }

    fn remove(&mut self, shared: &mut Shared, id: u64) {
        if let Some(server) = self.by_id.remove(&id) {
            shared.due.remove(&(server.due, id));
            shared.delist(server.hop, id);
            self.forget(&server);
        }
    }

    fn forget(&mut self, server: &Server) {
        self.held_bytes -= server.held_bytes();
        self.by_key.remove(&server.key);
        if let Some(key) = server.ack_key {
            self.by_ack.remove(&key);
        }
    }
}

/// Notes that a request only absorbs repetitions, and forgets of the oldest ones those that are gone.
fn note_answered(answered: &mut VecDeque<u64>, by_id: &HashMap<u64, Server>, id: u64) {
    while answered.front().is_some_and(|oldest| !by_id.contains_key(oldest)) {
        answered.pop_front();
    }
    answered.push_back(id);
}

/// By which repetitions of a request are known, and with `method` INVITE its ACK and CANCEL.
fn key_of(request: &Request, method: &Method) -> Key {
    let identity = identity(&request.headers);
    let (branch, from_tag) = (identity.via.branch().unwrap_or_default(), identity.from.tag().unwrap_or_default());
    let number = identity.cseq.number.to_string();
    hash(&[method.as_str(), branch, identity.via.sent_by, identity.call_id, from_tag, &number])
}

/// RFC 3261 §13.2.2.4: the ACK of a 2xx is known by its dialog and the number of the INVITE.
fn ack_key_of(ack: &Request) -> Option<Key> {
    let identity = ack.identity()?;
    dialog_hash(identity.call_id, identity.from.tag(), identity.to.tag(), identity.cseq.number)
}

fn ack_key(response: &Response) -> Option<Key> {
    let identity = response.identity()?;
    dialog_hash(identity.call_id, identity.from.tag(), identity.to.tag(), identity.cseq.number)
}

fn dialog_hash(call_id: &str, from_tag: Option<&str>, to_tag: Option<&str>, number: u32) -> Option<Key> {
    Some(hash(&[call_id, from_tag.unwrap_or_default(), to_tag.unwrap_or_default(), &number.to_string()]))
}

fn hash(parts: &[&str]) -> Key {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let hash = hash.finalize();
    std::array::from_fn(|index| hash[index])
}
