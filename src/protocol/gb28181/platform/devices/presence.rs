//! Whether a device is there: it is for as long as it is heard, and its registration has not ended (GB/T 28181-2016 §9.6). Devices that
//! refresh a registration just when it ends are a little late, and have [`GRACE_MS`] for that.
//!
//! One timer a device, which is looked at when it is due and set anew: a keepalive costs nothing but a note of the time.

use super::{Absence, Device, Devices, Id, News, Presence, Timer};
use crate::media::Stamp;
use crate::protocol::gb28181::platform::context::Context;
use crate::protocol::gb28181::platform::{Clock, Output};
use crate::protocol::gb28181::sip::{Carrier, Hop};

/// So much later than it has said a device may refresh its registration.
pub const GRACE_MS: u64 = 30_000;
/// A device that seems to begin anew again and again is asked once in this time what it has.
const ASK_PAUSE_MS: u64 = 600_000;

impl Devices {
    /// Something that it has said has come from a device, the way `hop`. Nothing proves that it was this device: it is followed to another
    /// port, but a connection that is open stays the way to it until it registers.
    pub(super) fn heard(&mut self, context: &mut Context<'_>, hop: Hop, id: &Id) {
        let Some(device) = self.by_id.get_mut(id) else { return };
        device.heard = context.now();
        let has_connection = device.hop.is_some_and(|hop| hop.carrier != Carrier::Udp);
        if device.hop != Some(hop) && !has_connection {
            self.follow(context, hop, id);
            context.out.push(Output::Save);
        }
        if self.by_id.get(id).is_some_and(|device| device.presence != Presence::Online) {
            self.came(context, id);
        }
    }

    /// A device is reached the way `hop` from now on. What could not be subscribed to for want of a way is.
    pub(super) fn follow(&mut self, context: &mut Context<'_>, hop: Hop, id: &Id) {
        let Some(device) = self.by_id.get_mut(id) else { return };
        let (old_peer, old_hop) = (device.peer, device.hop);
        device.move_to(hop);
        if old_peer != hop.peer && self.by_peer.get(&old_peer) == Some(id) {
            self.by_peer.remove(&old_peer);
        }
        self.by_peer.insert(hop.peer, id.clone());
        self.leave_connection(old_hop, id);
        if let Carrier::Tcp(connection) = hop.carrier {
            self.by_connection.entry(connection).or_default().insert(id.clone());
        }
        if old_hop.is_none() {
            self.subscribe_to_missed(context, id);
        }
    }

    fn leave_connection(&mut self, hop: Option<Hop>, id: &Id) {
        let Some(Hop { carrier: Carrier::Tcp(connection), .. }) = hop else { return };
        if let Some(devices) = self.by_connection.get_mut(&connection) {
            devices.remove(id);
            if devices.is_empty() {
                self.by_connection.remove(&connection);
            }
        }
    }

    /// Its media comes: a device that is there stays, whatever becomes of its keepalives.
    pub fn sign_of_life(&mut self, clock: Clock, id: &str) {
        if let Some(device) = self.by_id.get_mut(id).filter(|device| device.presence == Presence::Online) {
            device.heard = clock.now;
        }
    }

    /// A device that has not been heard of has agreed to a request of ours: it is there. One that is online is to send its keepalives all the
    /// same.
    pub fn agreed(&mut self, context: &mut Context<'_>, id: &str) {
        let now = context.now();
        let is_unheard = |device: &&mut Device| device.presence != Presence::Online && device.may_send(now);
        let Some(device) = self.by_id.get_mut(id).filter(is_unheard) else { return };
        device.heard = now;
        self.came(context, &id.into());
    }

    /// A device that is there has registered with another Call-ID, as some do each time, and all do that have begun anew: then its
    /// subscriptions are unknown to it, and its catalog may be another.
    pub(super) fn may_have_begun_anew(&mut self, context: &mut Context<'_>, id: &Id) {
        self.refresh_subscriptions(context, id);
        if let Some(device) = self.by_id.get_mut(id) {
            device.is_unsure = true;
        }
        self.ask_if_unsure(context, id);
    }

    /// Of a device that may have begun anew; if not now, then with one of its next keepalives.
    pub(super) fn ask_if_unsure(&mut self, context: &mut Context<'_>, id: &Id) {
        let Some(device) = self.by_id.get(id).filter(|device| device.is_unsure) else { return };
        if device.asked.is_none_or(|asked| context.now().millis_since(asked) >= ASK_PAUSE_MS) {
            self.ask_what_it_is(context, id);
        }
    }

    /// A device is online from now on.
    pub(super) fn came(&mut self, context: &mut Context<'_>, id: &Id) {
        let Some(device) = self.by_id.get_mut(id) else { return };
        if device.presence != Presence::Online {
            device.presence = Presence::Online;
            self.news.push(News::Online(id.clone()));
            context.note(log::Level::Info, None, format!("device {id} is online"));
        }
        self.watch_presence(context, id);
        self.drop_subscriptions(id);
        self.ask_what_it_is(context, id);
        self.subscribe_all(context, id);
    }

    /// A device is offline from now on; what it was asked is not answered any more.
    pub(super) fn went(&mut self, context: &mut Context<'_>, id: &Id, absence: Absence) {
        let Some(device) = self.by_id.get_mut(id) else { return };
        let was_offline = matches!(device.presence, Presence::Offline(_));
        device.presence = Presence::Offline(absence);
        if was_offline {
            return;
        }
        self.drop_subscriptions(id);
        self.refuse_queries(context, id, absence.words());
        self.news.push(News::Offline(id.clone()));
        let (level, reason) = match absence {
            Absence::Unregistered => (log::Level::Info, None),
            Absence::Expired => (log::Level::Warn, Some("gb28181_expired")),
            Absence::Silent => (log::Level::Warn, Some("gb28181_keepalives_missed")),
        };
        context.note(level, reason, format!("device {id} is offline: {}", absence.words()));
    }

    /// Sets its timer to be looked at in time.
    pub(super) fn watch_presence(&mut self, context: &Context<'_>, id: &Id) {
        let silence_ms = silence_ms(context);
        let Some(device) = self.by_id.get_mut(id) else { return };
        let due = device.heard.after_millis(silence_ms).min(device.ends());
        if due < device.due {
            self.timers.remove(&(device.due, Timer::Presence(id.clone())));
            device.due = due;
            self.timers.insert((due, Timer::Presence(id.clone())));
        }
    }

    pub(super) fn presence_due(&mut self, context: &mut Context<'_>, id: &Id) {
        let now = context.now();
        let Some(device) = self.by_id.get_mut(id) else { return };
        device.due = Stamp::from_nanos(u64::MAX);
        if device.presence == Presence::Offline(Absence::Unregistered) {
            return;
        }
        if device.ends() <= now {
            return self.went(context, id, Absence::Expired);
        }
        if device.heard.after_millis(silence_ms(context)) > now {
            return self.watch_presence(context, id);
        }
        self.went(context, id, Absence::Silent);
        self.watch_expiry(id);
    }

    /// Of a device that is silent only the end of its registration is waited for.
    fn watch_expiry(&mut self, id: &Id) {
        let Some(device) = self.by_id.get_mut(id) else { return };
        device.due = device.ends();
        self.timers.insert((device.due, Timer::Presence(id.clone())));
    }

    /// Nothing of it is kept.
    pub(super) fn forget(&mut self, id: &Id) {
        self.drop_subscriptions(id);
        let Some(device) = self.by_id.remove(id) else { return };
        self.news.push(News::Catalog(id.clone()));
        self.timers.remove(&(device.due, Timer::Presence(id.clone())));
        if self.by_peer.get(&device.peer) == Some(id) {
            self.by_peer.remove(&device.peer);
        }
        self.leave_connection(device.hop, id);
        self.bytes.give_back(device.channels.bytes());
        self.events.forget(id);
    }
}

impl Device {
    /// Whether what comes from it counts: it is registered, though it may have been silent.
    pub(super) fn may_send(&self, now: Stamp) -> bool {
        let is_gone = matches!(self.presence, Presence::Offline(Absence::Unregistered | Absence::Expired));
        !is_gone && self.ends() > now
    }

    /// When a registration that is not refreshed is over.
    pub(super) fn ends(&self) -> Stamp {
        self.expires.after_millis(GRACE_MS)
    }
}

/// After so long without a sign a device is offline.
fn silence_ms(context: &Context<'_>) -> u64 {
    context.settings.keepalive_ms.saturating_mul(context.settings.keepalive_count)
}
