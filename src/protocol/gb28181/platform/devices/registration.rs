//! REGISTER (GB/T 28181-2016 §9.1) → devices that are there, or an answer that says why not.
//!
//! A device without a password of its own needs the one of all; without either nobody can register, and the log says what to set. After
//! [`WRONG_PASSWORDS_PER_MINUTE_MAX`] or [`WRONG_PASSWORDS_PER_ADDRESS_MAX`] nothing more is looked at in that minute: those count that answer a
//! challenge which was given to that address, so that nobody fails in another's name. Not here: digests
//! (`sip/digest`).

use std::collections::BTreeSet;

use super::{Absence, Device, Devices, ID_BYTES_MAX, Id, LastNonce, Presence, Stamp, Subscriptions, kept};
use crate::config::Gb28181;
use crate::protocol::gb28181::moment;
use crate::protocol::gb28181::platform::Output;
use crate::protocol::gb28181::platform::context::Context;
use crate::protocol::gb28181::sip::digest::{Verdict, with_sm3};
use crate::protocol::gb28181::sip::message::{Request, Response};
use crate::protocol::gb28181::sip::transaction::ServerId;
use crate::protocol::gb28181::sip::{Carrier, Hop};

/// In the name of one device from one address, or from an IPv6 network of 64 bits.
pub const WRONG_PASSWORDS_PER_MINUTE_MAX: u32 = 20;
/// In the name of any device from one address in a minute: one wrong camera does not shut out those behind the same router.
pub const WRONG_PASSWORDS_PER_ADDRESS_MAX: u32 = 200;
/// Where a device does not say for how long it registers (§9.1).
const EXPIRES_S: u32 = 86_400;
const EXPIRES_S_MAX: u32 = 7 * 86_400;
/// The version that we say to devices that say theirs (2022, Annex I): 3.0 is the standard of 2022.
const VERSION: &str = "3.0";
const VERSION_HEADER: &str = "X-GB-Ver";
const VERSION_WITH_SM3: u32 = 3;

impl Devices {
    pub fn register(&mut self, context: &mut Context<'_>, id: ServerId, hop: Hop, request: &Request) {
        let mut response = match self.registered(context, hop, request) {
            Ok(response) => response,
            Err(Refusal { status, challenge, note }) => {
                if let Some((reason, message)) = note {
                    self.note_fault(context, reason, message);
                }
                let mut response = request.response(status);
                if let Some(challenge) = challenge {
                    response.headers.push("WWW-Authenticate", &challenge);
                    // Behind the one that all know: who takes the first that it knows, or the first at all, keeps to MD5.
                    if knows_sm3(request) {
                        response.headers.push("WWW-Authenticate", &with_sm3(&challenge));
                    }
                }
                response
            }
        };
        if request.headers.get(VERSION_HEADER).is_some() {
            response.headers.push(VERSION_HEADER, VERSION);
        }
        context.respond(id, &response);
    }

    fn registered(&mut self, context: &mut Context<'_>, hop: Hop, request: &Request) -> Result<Response, Refusal> {
        let user = request.from_user().unwrap_or_default();
        if !is_id(user) || user == context.settings.id {
            let message = format!("{} wants to register with an id that no device may have", hop.peer);
            return Err(Refusal::new(403, "gb28181_bad_id", message));
        }
        let nonce = self.check_password(context, hop, request, user)?;
        let user: Id = user.into();
        let expires_s = request.expires_s().unwrap_or(EXPIRES_S).min(EXPIRES_S_MAX);
        let is_news = if expires_s == 0 {
            self.unregistered(context, &user);
            true
        } else {
            self.make_room(context, hop, &user)?;
            self.take_registration(context, hop, request, &user, expires_s)
        };
        if let Some(device) = self.by_id.get_mut(&user) {
            device.nonce = nonce;
        }
        context.out.push(if is_news { Output::Save } else { Output::SaveLater });
        let mut response = request.response(200);
        let date = moment::text_millis(context.clock.unix_ms, context.settings.utc_offset_minutes);
        response.headers.push("Date", &date);
        response.headers.push("Expires", &expires_s.to_string());
        if let Some(contact) = request.headers.get("Contact").filter(|contact| *contact != "*") {
            response.headers.push("Contact", contact);
        }
        Ok(response)
    }

    /// What is to be kept of the password that was right.
    fn check_password(
        &mut self,
        context: &mut Context<'_>,
        hop: Hop,
        request: &Request,
        user: &str,
    ) -> Result<Option<LastNonce>, Refusal> {
        let (now, peer) = (context.now(), hop.peer);
        let (of_device, of_address) = (self.peer_hash(peer.ip(), user), self.peer_hash(peer.ip(), ""));
        if self.guard.failures(now, of_device) >= WRONG_PASSWORDS_PER_MINUTE_MAX
            || self.guard.failures(now, of_address) >= WRONG_PASSWORDS_PER_ADDRESS_MAX
        {
            let message = format!("too many wrong passwords of device {user} at {peer}: no more are looked at in this minute");
            return Err(Refusal::new(403, "gb28181_throttled", message));
        }
        let Some(password) = password_of(context.settings, user) else {
            let message = format!(
                "device {user} at {peer} cannot register: it has no password; set gb28181.password, or an entry of gb28181.devices"
            );
            return Err(Refusal::new(403, "gb28181_no_password", message));
        };
        let mut last = self.by_id.get(user).and_then(|device| device.nonce);
        let verdict = self.challenges.check(now, request, (user, peer.ip()), password, &mut last);
        match verdict {
            Verdict::Right => Ok(last),
            Verdict::Wrong => {
                self.guard.add_failure(now, of_device);
                self.guard.add_failure(now, of_address);
                let message = format!("device {user} at {peer} has a wrong password");
                Err(Refusal { status: 403, challenge: None, note: verdict.reason().map(|reason| (reason, message)) })
            }
            Verdict::Missing | Verdict::Broken | Verdict::Stale | Verdict::Replayed => {
                let challenge = Some(self.challenges.challenge(now, (user, peer.ip()), verdict.is_stale()));
                // As it happens to devices that refresh with the answer of before.
                if let Some(reason) = verdict.reason() {
                    context.note(log::Level::Debug, Some(reason), format!("device {user} at {peer}: {}", verdict.words()));
                }
                Err(Refusal { status: 401, challenge, note: None })
            }
        }
    }

    /// Of the offline devices that which was heard of least recently gives way to a new one.
    fn make_room(&mut self, context: &Context<'_>, hop: Hop, user: &str) -> Result<(), Refusal> {
        if self.by_id.contains_key(user) || self.by_id.len() < context.settings.devices_max {
            return Ok(());
        }
        let offline = self.by_id.iter().filter(|(_, device)| matches!(device.presence, Presence::Offline(_)));
        let Some(oldest) = offline.min_by_key(|(_, device)| device.heard).map(|(id, _)| id.clone()) else {
            let message = format!(
                "device {user} at {} cannot register: {} are there (gb28181.devices_max)",
                hop.peer, context.settings.devices_max
            );
            return Err(Refusal::new(503, "gb28181_devices_max", message));
        };
        self.forget(&oldest);
        Ok(())
    }

    /// `true`: more has changed than until when it is.
    fn take_registration(&mut self, context: &mut Context<'_>, hop: Hop, request: &Request, id: &Id, expires_s: u32) -> bool {
        let now = context.now();
        let expires = now.after_millis(u64::from(expires_s) * 1_000);
        let device = self.by_id.entry(id.clone()).or_insert_with(|| Device::new(hop, now));
        let call_id = request.headers.get("Call-ID").and_then(kept).unwrap_or_default();
        let was_there = device.presence == Presence::Online;
        let (has_another_call_id, has_moved) = (device.call_id != call_id, device.hop != Some(hop));
        device.call_id = call_id;
        (device.registered, device.expires, device.heard) = (Some(now), expires, now);
        let version = request.headers.get(VERSION_HEADER).and_then(kept);
        let is_news = !was_there || has_moved || device.version != version;
        device.version = version;
        device.agent = request.headers.get("User-Agent").and_then(kept);
        self.follow(context, hop, id);
        self.watch_presence(context, id);
        if !was_there || has_moved {
            let transport = if hop.carrier == Carrier::Udp { "udp" } else { "tcp" };
            let message = format!("device {id} has registered from {} ({transport}) for {expires_s} s", hop.peer);
            context.note(log::Level::Info, None, message);
        }
        if !was_there {
            self.came(context, id);
        } else if has_another_call_id {
            self.may_have_begun_anew(context, id);
        }
        is_news
    }

    fn unregistered(&mut self, context: &mut Context<'_>, id: &Id) {
        if self.by_id.contains_key(id) {
            self.went(context, id, Absence::Unregistered);
        }
    }
}

impl Device {
    pub(super) fn new(hop: Hop, now: Stamp) -> Self {
        Device {
            hop: Some(hop),
            peer: hop.peer,
            local: hop.local,
            is_udp: hop.carrier == Carrier::Udp,
            presence: Presence::Unheard,
            registered: None,
            expires: now,
            call_id: String::new(),
            nonce: None,
            heard: now,
            keepalive: None,
            due: Stamp::from_nanos(u64::MAX),
            charset: super::Charset::default(),
            version: None,
            agent: None,
            info: super::DeviceInfo::default(),
            status: None,
            channels: super::Channels::default(),
            subscriptions: Subscriptions::default(),
            queries: BTreeSet::new(),
            catalog_query: None,
            asked: None,
            is_unsure: false,
            is_stale_notify_told: false,
        }
    }

    pub(super) fn move_to(&mut self, hop: Hop) {
        (self.peer, self.local, self.is_udp) = (hop.peer, hop.local, hop.carrier == Carrier::Udp);
        self.hop = Some(hop);
    }
}

/// An answer other than 200, and what the log says of it.
struct Refusal {
    status: u16,
    challenge: Option<String>,
    note: Option<(&'static str, String)>,
}

impl Refusal {
    fn new(status: u16, reason: &'static str, message: String) -> Self {
        Refusal { status, challenge: None, note: Some((reason, message)) }
    }
}

/// Devices of the standard of 2022 may have nothing but SM3 (§9.1).
fn knows_sm3(request: &Request) -> bool {
    let version = request.headers.get(VERSION_HEADER).and_then(|text| text.trim().split('.').next()?.parse::<u32>().ok());
    version.is_some_and(|major| major >= VERSION_WITH_SM3)
}

/// `None`: a device without a password.
fn password_of<'a>(settings: &'a Gb28181, id: &str) -> Option<&'a str> {
    let own = settings.devices.iter().find(|device| device.id == id).map(|device| device.password.as_str());
    Some(own.unwrap_or(&settings.password)).filter(|password| !password.is_empty())
}

/// Ids stand in addresses and in the names of streams.
fn is_id(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_part)
}
