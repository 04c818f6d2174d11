//! SIP messages and the time → requests and responses, each of them once; what is sent is repeated until it is answered.
//!
//! RFC 3261 §17 with the corrections of RFC 6026: client and server transactions, of INVITE and of all else, over UDP (timers A to K) and
//! TCP. §9: CANCEL both ways. §13.3.1.4: our 2xx to an INVITE is repeated until its ACK comes; a 2xx that is repeated to us is
//! acknowledged again.
//!
//! A transaction of the other side is known by branch, sent-by, Call-ID, From tag and number: devices that begin their branches anew, or
//! make them without the magic cookie (RFC 2543), are told apart by the rest.
//!
//! | file | holds |
//! |---|---|
//! | `client` | requests of ours |
//! | `server` | requests of the other side |
//!
//! At most [`TRANSACTIONS_MAX`] of each kind with [`HELD_BYTES_MAX`] bytes; INVITEs that were refused give way first, then other answered requests
//! of the other side, then requests are answered 503 and counted. The answers to strangers are sent once, and nothing of them is kept
//! (RFC 3261 §8.2.7): a source address may be another's. Not here: dialogs, and how long an INVITE is waited for.

mod client;
mod server;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;

use self::client::Clients;
use self::server::Servers;
use super::headers::Headers;
use super::message::{Identity, Message, MessageError, Method, Request, Response};
use super::tokens::Tokens;
use super::{Carrier, ConnectionId, Hop};
use crate::media::Stamp;

/// RFC 3261 §17.1.1.1: the round trip, the longest pause between repetitions, the longest time a message stays in the network.
pub const T1_MS: u64 = 500;
pub const T2_MS: u64 = 4_000;
pub const T4_MS: u64 = 5_000;
/// Timers B, D, F, H, J, L and M: after so long nothing more is expected.
pub const LIMIT_MS: u64 = 64 * T1_MS;
/// Timer C: an INVITE with nothing but provisional answers.
pub const PROCEEDING_MS: u64 = 180_000;

/// Requests of ours, and requests of others, at the same time.
pub const TRANSACTIONS_MAX: usize = 65_536;
/// Bytes of messages that are kept to be repeated.
pub const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A request of the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(u64);

/// A request of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(u64);

#[derive(Debug, PartialEq)]
pub enum Event {
    /// A new request, which must be answered. INVITE is answered with 100 unless it is answered before `take_sends`.
    Request { id: ServerId, hop: Hop, request: Request },
    /// The ACK of a 2xx to the INVITE `invite`.
    Ack { invite: ServerId, hop: Hop, request: Request },
    /// An INVITE is wanted no more; it has been answered with 487.
    Cancelled { invite: ServerId },
    /// No ACK has come to a 2xx.
    Unacknowledged { invite: ServerId },
    /// An answer: for INVITE each provisional one and the first final one, for all else the first final one.
    Response { id: ClientId, hop: Hop, response: Response },
    /// There will be no answer.
    Failed { id: ClientId, failure: Failure },
    /// A message that is good for nothing. `reason`: the label under which it is counted.
    Broken { hop: Hop, reason: &'static str, message: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("no SIP answer")]
    Silence,
    #[error("the SIP connection was closed")]
    Closed,
}

/// What both kinds share: when each transaction is due, what is to be sent, names.
#[derive(Debug)]
struct Shared {
    due: BTreeSet<(Stamp, u64)>,
    /// Those that would end with their connection.
    by_connection: HashMap<ConnectionId, BTreeSet<u64>>,
    sends: Vec<(Hop, Bytes)>,
    next_id: u64,
    tokens: Tokens,
}

impl Shared {
    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn send(&mut self, hop: Hop, bytes: &Bytes) {
        self.sends.push((hop, bytes.clone()));
    }

    fn enlist(&mut self, hop: Hop, id: u64) {
        if let Carrier::Tcp(connection) = hop.carrier {
            self.by_connection.entry(connection).or_default().insert(id);
        }
    }

    fn delist(&mut self, hop: Hop, id: u64) {
        let Carrier::Tcp(connection) = hop.carrier else { return };
        if let Some(ids) = self.by_connection.get_mut(&connection) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_connection.remove(&connection);
            }
        }
    }

    /// Moves what is due at `old` to `new`.
    fn reschedule(&mut self, id: u64, old: &mut Stamp, new: Stamp) {
        self.due.remove(&(*old, id));
        self.due.insert((new, id));
        *old = new;
    }
}

#[derive(Debug)]
pub struct Transactions {
    shared: Shared,
    clients: Clients,
    servers: Servers,
}

impl Transactions {
    /// `secret`: random, of this process alone; branches and the tags of answers are made with it.
    pub fn new(secret: &[u8; 32]) -> Self {
        let (due, by_connection, sends) = (BTreeSet::new(), HashMap::new(), Vec::new());
        let shared = Shared { due, by_connection, sends, next_id: 0, tokens: Tokens::new(secret) };
        Transactions { shared, clients: Clients::default(), servers: Servers::default() }
    }

    /// One whole message: a datagram, or cut out of a connection.
    pub fn received(&mut self, now: Stamp, hop: Hop, bytes: &[u8], events: &mut Vec<Event>) {
        // What devices send to keep the way through their router open.
        if bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n' | b' ' | 0)) {
            return;
        }
        match Message::parse(bytes) {
            Ok(Message::Response(response)) => self.clients.response(&mut self.shared, now, hop, response, events),
            Ok(Message::Request(request)) => self.request_received(now, hop, request, events),
            Err(error) => {
                self.answer_broken(hop, bytes, error);
                events.push(broken(hop, error));
            }
        }
    }

    fn request_received(&mut self, now: Stamp, hop: Hop, mut request: Request, events: &mut Vec<Event>) {
        request.note_source(&hop);
        request.set_answer_tag(&self.shared.tokens);
        match request.identity() {
            Some(identity) if identity.cseq.method == request.method => {}
            _ => {
                self.answer_stateless(hop, &request, MessageError::NoIdentity.status());
                return events.push(broken(hop, MessageError::NoIdentity));
            }
        }
        let (servers, shared) = (&mut self.servers, &mut self.shared);
        match request.method {
            Method::Ack => servers.ack(shared, now, hop, request, events),
            Method::Cancel => servers.cancel(shared, now, hop, &request, events),
            _ => servers.request(shared, now, hop, request, events),
        }
    }

    /// Says why, if the head is understood.
    fn answer_broken(&mut self, hop: Hop, bytes: &[u8], error: MessageError) {
        if let Some(Message::Request(mut request)) = Message::parse_without_body(bytes) {
            request.note_source(&hop);
            request.set_answer_tag(&self.shared.tokens);
            self.answer_stateless(hop, &request, error.status());
        }
    }

    fn answer_stateless(&mut self, hop: Hop, request: &Request, status: u16) {
        if request.method != Method::Ack && request.headers.get("Via").is_some() {
            self.shared.send(hop, &request.response(status).to_bytes());
        }
    }

    /// Answers a request; nothing is sent if it has been answered or is forgotten.
    pub fn respond(&mut self, now: Stamp, id: ServerId, response: &Response) {
        self.servers.respond(&mut self.shared, now, id.0, response);
    }

    /// As [`Transactions::respond`], with a final answer that is sent once: nothing of the request is kept, and its repetition is a new one.
    pub fn respond_once(&mut self, id: ServerId, response: &Response) {
        self.servers.respond_once(&mut self.shared, id.0, response);
    }

    /// Sends a request other than INVITE, which is waited for `limit_ms` at most. `None`: too many are under way; counted.
    pub fn request(&mut self, now: Stamp, hop: Hop, request: Request, limit_ms: u64) -> Option<ClientId> {
        self.clients.request(&mut self.shared, now, hop, request, limit_ms.min(LIMIT_MS)).map(ClientId)
    }

    /// As [`Transactions::request`], for INVITE.
    pub fn invite(&mut self, now: Stamp, hop: Hop, request: Request) -> Option<ClientId> {
        self.clients.request(&mut self.shared, now, hop, request, LIMIT_MS).map(ClientId)
    }

    /// Acknowledges a 2xx to an INVITE of ours; repeated as often as the 2xx is.
    pub fn ack(&mut self, hop: Hop, id: ClientId, request: Request) {
        self.clients.ack(&mut self.shared, hop, id.0, request);
    }

    /// An INVITE of ours is wanted no more. It still gets an answer or fails; one of 2xx must be acknowledged and ended with BYE.
    pub fn cancel(&mut self, now: Stamp, id: ClientId) {
        self.clients.cancel(&mut self.shared, now, id.0);
    }

    pub fn next_timeout(&self) -> Option<Stamp> {
        self.shared.due.first().map(|(due, _)| *due)
    }

    pub fn timeout(&mut self, now: Stamp, events: &mut Vec<Event>) {
        while let Some((due, id)) = self.shared.due.first().copied() {
            if due > now {
                return;
            }
            if !self.clients.timeout(&mut self.shared, now, id, events)
                && !self.servers.timeout(&mut self.shared, now, id, events)
            {
                self.shared.due.remove(&(due, id));
            }
        }
    }

    /// Nothing more comes from a connection, and nothing can be sent there.
    pub fn closed(&mut self, connection: ConnectionId, events: &mut Vec<Event>) {
        let ids = self.shared.by_connection.remove(&connection).unwrap_or_default();
        for id in &ids {
            self.clients.closed(&mut self.shared, *id, events);
        }
        for id in ids {
            self.servers.closed(&mut self.shared, id, events);
        }
        self.shared.sends.retain(|(hop, _)| hop.carrier != Carrier::Tcp(connection));
    }

    /// What is to be sent, in order.
    pub fn take_sends(&mut self) -> impl Iterator<Item = (Hop, Bytes)> + use<> {
        self.servers.try_new(&mut self.shared);
        std::mem::take(&mut self.shared.sends).into_iter()
    }

    /// Requests that found no room, of ours and of others.
    pub fn refused(&self) -> u64 {
        self.clients.refused + self.servers.refused
    }

    pub fn len(&self) -> usize {
        self.clients.len() + self.servers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn held_bytes(&self) -> usize {
        self.clients.held_bytes + self.servers.held_bytes
    }
}

fn broken(hop: Hop, error: MessageError) -> Event {
    Event::Broken { hop, reason: error.reason(), message: error.to_string() }
}

/// Of a message that has been looked at.
fn identity(headers: &Headers) -> Identity<'_> {
    Identity::of(headers).expect("messages without are refused before")
}

fn is_udp(hop: Hop) -> bool {
    hop.carrier == Carrier::Udp
}
