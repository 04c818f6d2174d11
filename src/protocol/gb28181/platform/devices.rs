//! The devices that are registered: who they are, where they are reached, what they have and what they tell.
//!
//! GB/T 28181-2016 §9.1 (registration), §9.5 (queries), §9.6 (keepalives), §9.11 (subscriptions), §9.3 (control). Requests of devices and
//! answers to ours go in, as the transactions give them out; SIP answers, new requests, answers for the operator and notes come out.
//!
//! | file | holds |
//! |---|---|
//! | `registration` | REGISTER: passwords, expiry, capacity |
//! | `messages` | who may send MESSAGE and NOTIFY, and where what they say belongs |
//! | `queries` | questions to devices, and the parts of their answers |
//! | `commands` | DeviceControl, in the operator's words and in the standard's |
//! | `subscriptions` | SUBSCRIBE, refreshed before it ends |
//! | `channels` | the catalog of a device |
//! | `events` | the last alarms and positions |
//! | `presence` | keepalives that do not come, registrations that end |
//! | `asks`, `shown` | what the operator asks and is shown |
//! | `saved` | what survives a restart |
//!
//! **Where a device is**: at the last address from which it has registered, or has sent a message from the same IP address while it had no
//! open connection. A message from another IP address is refused, so that it registers again. Limits: `gb28181.devices_max`, of which offline devices give way to new ones, and those
//! that the files name. Not here: calls, and SIP itself.

mod asks;
mod channels;
mod commands;
mod events;
mod messages;
mod presence;
mod queries;
mod registration;
mod saved;
mod shown;
mod subscriptions;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use self::channels::{Bytes, Channels};
use self::events::Events;
use self::queries::Query;
use self::subscriptions::Subscriptions;
use super::ask::{Channel, Refused, RefusedKind};
use super::context::Context;
use crate::config::Gb28181;
use crate::media::Stamp;
use crate::protocol::common::auth::Keyed;
use crate::protocol::common::auth::guard::{Guard, network};
use crate::protocol::gb28181::manscdp::{Charset, DeviceInfo, DeviceStatus, Item};
use crate::protocol::gb28181::sip::digest::{Challenges, LastNonce};
use crate::protocol::gb28181::sip::message::Response;
use crate::protocol::gb28181::sip::transaction::{ClientId, Failure};
use crate::protocol::gb28181::sip::{ConnectionId, Hop};

pub use self::saved::{Saved, SavedDevice};
pub use self::shown::kind_of;

/// The longest id of a device, in bytes. The standard's have 20.
pub const ID_BYTES_MAX: usize = 64;
/// A text of a device that is kept is cut behind so many bytes.
const TEXT_KEPT_BYTES_MAX: usize = 256;
/// A fault that anybody can cause is logged once in this time.
const LOG_PAUSE_MS: u64 = 10_000;

/// The id of a device.
pub type Id = Arc<str>;

/// What other parts of the platform may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    Online(Id),
    Offline(Id),
    /// Channels have come, gone or changed, or it is forgotten.
    Catalog(Id),
    /// What was recorded is at its end. `call_id`: of the MESSAGE, which may be that of the call.
    EndOfMedia {
        device: Id,
        channel: String,
        call_id: String,
    },
    /// Whether a device wants to hear what the broadcast with this number announced.
    Broadcast {
        device: Id,
        sn: u64,
        agreed: bool,
    },
}

/// Whether a device is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// Known from before the restart.
    Unheard,
    Online,
    Offline(Absence),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Absence {
    Unregistered,
    Expired,
    Silent,
}

impl Absence {
    const fn words(self) -> &'static str {
        match self {
            Absence::Unregistered => "it has unregistered",
            Absence::Expired => "its registration has ended",
            Absence::Silent => "its keepalives have not come",
        }
    }
}

#[derive(Debug)]
struct Device {
    /// `None`: its connection is over.
    hop: Option<Hop>,
    /// Where it was last.
    peer: SocketAddr,
    local: SocketAddr,
    is_udp: bool,
    presence: Presence,
    registered: Option<Stamp>,
    expires: Stamp,
    /// Of its registration: another one is that of a device that has begun anew.
    call_id: String,
    nonce: Option<LastNonce>,
    heard: Stamp,
    keepalive: Option<Stamp>,
    /// When its presence is looked at.
    due: Stamp,
    charset: Charset,
    version: Option<String>,
    agent: Option<String>,
    info: DeviceInfo,
    status: Option<DeviceStatus>,
    channels: Channels,
    subscriptions: Subscriptions,
    /// Questions that are under way, and that for the catalog.
    queries: BTreeSet<u64>,
    catalog_query: Option<u64>,
    /// When it was last asked what it is, because it had come.
    asked: Option<Stamp>,
    /// It may be another than it was when it was asked.
    is_unsure: bool,
    /// The log says that it notifies of what is not subscribed to.
    is_stale_notify_told: bool,
}

/// What becomes due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Presence(Id),
    Query(u64),
    Subscription(Id, usize),
}

/// Who waits for the answer to a request of ours.
#[derive(Clone, Debug)]
enum Sent {
    Query(u64),
    /// By the Call-ID: it may be over, and another one begun.
    Subscribe(Id, usize, String),
}

pub struct Devices {
    by_id: BTreeMap<Id, Device>,
    /// Where devices are, for messages that do not say whose they are.
    by_peer: HashMap<SocketAddr, Id>,
    /// Who is reached by each connection.
    by_connection: HashMap<ConnectionId, BTreeSet<Id>>,
    timers: BTreeSet<(Stamp, Timer)>,
    sent: HashMap<ClientId, Sent>,
    queries: BTreeMap<u64, Query>,
    /// Subscriptions by the Call-ID of their dialog.
    dialogs: HashMap<String, (Id, usize)>,
    /// Of all catalogs and unfinished answers.
    bytes: Bytes,
    events: Events,
    news: Vec<News>,
    challenges: Challenges,
    keyed: Keyed,
    guard: Guard,
    last_sn: u64,
    loud: Loud,
}

/// Faults of strangers, each of them logged now and then only.
#[derive(Debug, Default)]
struct Loud {
    last: HashMap<&'static str, (Stamp, u64)>,
}

impl Loud {
    /// How many were kept quiet since the last one, if this one is to be logged.
    fn is_due(&mut self, now: Stamp, reason: &'static str) -> Option<u64> {
        match self.last.get_mut(reason) {
            Some((last, quiet)) if now.millis_since(*last) < LOG_PAUSE_MS => {
                *quiet += 1;
                None
            }
            entry => {
                let quiet = entry.map_or(0, |(_, quiet)| *quiet);
                self.last.insert(reason, (now, 0));
                Some(quiet)
            }
        }
    }
}

impl Devices {
    /// `secret`: random, of this process alone.
    pub fn new(settings: &Gb28181, secret: &[u8; 32]) -> Self {
        let keyed = Keyed::new(secret);
        let first_sn = keyed.hash("first sn", &[]);
        Devices {
            by_id: BTreeMap::new(),
            by_peer: HashMap::new(),
            by_connection: HashMap::new(),
            timers: BTreeSet::new(),
            sent: HashMap::new(),
            queries: BTreeMap::new(),
            dialogs: HashMap::new(),
            bytes: Bytes::default(),
            events: Events::default(),
            news: Vec::new(),
            challenges: Challenges::new(secret, &settings.domain),
            keyed,
            guard: Guard::default(),
            // Of few digits, as devices may keep it in 32 bits; answers to questions before a restart fit none of these.
            last_sn: u64::from(u16::from_be_bytes([first_sn[0], first_sn[1]])) * 1_000,
            loud: Loud::default(),
        }
    }

    /// How a device that is there is reached.
    pub fn hop(&self, id: &str) -> Result<Hop, Refused> {
        let refused = |kind, why| Refused { kind, why };
        let device = self.by_id.get(id).ok_or_else(|| refused(RefusedKind::NotFound, format!("no device {id} is registered")))?;
        if let Presence::Offline(absence) = device.presence {
            return Err(refused(RefusedKind::Conflict, format!("device {id} is offline: {}", absence.words())));
        }
        let why = || format!("the SIP connection of device {id} is closed, and it must open the next one");
        device.hop.ok_or_else(|| refused(RefusedKind::Conflict, why()))
    }

    /// A channel of a device, as its catalog has it. A device may be its own channel without listing itself.
    pub fn item(&self, device: &str, channel: &str) -> Option<&Item> {
        self.by_id.get(device)?.channels.get(channel)
    }

    /// Refuses a channel that is missing in a catalog which has come whole since the start. A device may be its own channel, and inputs of
    /// alarms are told with its status.
    pub fn check_channel(&self, of: &Channel) -> Result<(), Refused> {
        let Some(device) = self.by_id.get(of.device.as_str()).filter(|_| of.device != of.channel) else { return Ok(()) };
        let mut inputs = device.status.iter().flat_map(|status| &status.alarm_inputs);
        let is_told = device.channels.get(&of.channel).is_some() || inputs.any(|input| input.device_id == of.channel);
        if is_told || !device.channels.is_whole() {
            return Ok(());
        }
        let why = format!("device {} has no channel {}", of.device, of.channel);
        Err(Refused { kind: RefusedKind::NotFound, why })
    }

    /// In what a device writes.
    pub fn charset(&self, id: &str) -> Charset {
        self.by_id.get(id).map_or(Charset::default(), |device| device.charset)
    }

    /// The ids of all devices that are known.
    pub fn ids(&self) -> impl Iterator<Item = &Id> {
        self.by_id.keys()
    }

    /// The items of a device's catalog, by id.
    pub fn items(&self, id: &str) -> impl Iterator<Item = &Item> {
        self.by_id.get(id).into_iter().flat_map(|device| device.channels.items())
    }

    /// A number for a message that will be answered with another one.
    pub fn next_sn(&mut self) -> u64 {
        self.last_sn += 1;
        self.last_sn
    }

    /// What has happened since it was asked last.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// An answer to a request of ours. `false`: it is none of these.
    pub fn response(&mut self, context: &mut Context<'_>, id: ClientId, response: &Response) -> bool {
        let Some(sent) = self.sent.remove(&id) else { return false };
        let device = match &sent {
            Sent::Query(sn) => self.queries.get(sn).map(|query| query.device().clone()),
            Sent::Subscribe(id, ..) => Some(id.clone()),
        };
        match sent {
            Sent::Query(sn) => self.query_answered(context, sn, response),
            Sent::Subscribe(id, subject, call_id) => self.subscribe_answered(context, (&id, subject), &call_id, response),
        }
        if let Some(device) = device.filter(|_| response.is_success()) {
            self.agreed(context, &device);
        }
        true
    }

    /// A request of ours that is not answered. `false`: it is none of these.
    pub fn failed(&mut self, context: &mut Context<'_>, id: ClientId, failure: Failure) -> bool {
        match self.sent.remove(&id) {
            Some(Sent::Query(sn)) => self.query_failed(context, sn, failure),
            Some(Sent::Subscribe(id, subject, call_id)) => self.subscribe_unanswered(context, (&id, subject), &call_id, failure),
            None => return false,
        }
        true
    }

    pub fn next_timeout(&self) -> Option<Stamp> {
        self.timers.first().map(|(due, _)| *due)
    }

    pub fn timeout(&mut self, context: &mut Context<'_>) {
        while let Some((due, _)) = self.timers.first() {
            if *due > context.now() {
                return;
            }
            match self.timers.pop_first() {
                Some((_, Timer::Presence(id))) => self.presence_due(context, &id),
                Some((_, Timer::Query(sn))) => self.query_due(context, sn),
                Some((_, Timer::Subscription(id, subject))) => self.subscription_due(context, &id, subject),
                None => return,
            }
        }
    }

    /// A connection is over: its device stays online until its keepalives are missed, but cannot be reached.
    pub fn closed(&mut self, context: &mut Context<'_>, connection: ConnectionId) {
        for id in self.by_connection.remove(&connection).unwrap_or_default() {
            if let Some(device) = self.by_id.get_mut(&id) {
                device.hop = None;
                let message = format!("device {id} has closed its connection, and cannot be reached until it opens another");
                context.note(log::Level::Info, None, message);
            }
        }
    }

    /// Logs what anybody can cause, and counts it.
    pub fn note_fault(&mut self, context: &mut Context<'_>, reason: &'static str, message: String) {
        match self.loud.is_due(context.now(), reason) {
            Some(0) => context.note(log::Level::Warn, Some(reason), message),
            Some(quiet) => context.note(log::Level::Warn, Some(reason), format!("{message} ({quiet} more since the last)")),
            None => context.note(log::Level::Debug, Some(reason), message),
        }
    }

    /// By which failures of `user` at an address are counted.
    fn peer_hash(&self, peer: IpAddr, user: &str) -> u32 {
        let hash = self.keyed.hash("sip peer", &[&network(peer), user.as_bytes()]);
        u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
    }
}

/// A text of a device as it is kept: not longer than need be. `None`: it is empty.
fn kept(text: &str) -> Option<String> {
    let mut text = text.to_owned();
    cut(&mut text);
    (!text.is_empty()).then_some(text)
}

/// As [`kept`].
fn cut(text: &mut String) {
    if let Some((end, _)) = text.char_indices().find(|(at, c)| at + c.len_utf8() > TEXT_KEPT_BYTES_MAX) {
        text.truncate(end);
    }
}
