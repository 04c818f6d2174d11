//! Whether a device is there: it is for as long as it is heard, and its registration has not ended (GB/T 28181-2016 §9.6).
//!
//! One timer a device, which is looked at when it is due and set anew: a keepalive costs nothing but a note of the time.

use super::{Absence, Device, Devices, Id, News, Presence, Timer};
use crate::media::Stamp;
use crate::protocol::gb28181::platform::Output;
use crate::protocol::gb28181::platform::context::Context;
use crate::protocol::gb28181::sip::Hop;

impl Devices {
    /// Something has come from a device, the way `hop`.
    pub(super) fn heard(&mut self, context: &mut Context<'_>, hop: Hop, id: &Id) {
        let Some(device) = self.by_id.get_mut(id) else { return };
        device.heard = context.now();
        if device.hop != Some(hop) {
            let old_peer = device.peer;
            device.move_to(hop);
            self.note_peer(old_peer, hop, id);
            context.out.push(Output::Save);
        }
        if self.by_id.get(id).is_some_and(|device| device.presence != Presence::Online) {
            self.came(context, id);
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
        let due = device.heard.after_millis(silence_ms).min(device.expires);
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
        if device.expires <= now {
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
        device.due = device.expires;
        self.timers.insert((device.due, Timer::Presence(id.clone())));
    }

    pub(super) fn note_peer(&mut self, old: std::net::SocketAddr, hop: Hop, id: &Id) {
        if old != hop.peer && self.by_peer.get(&old) == Some(id) {
            self.by_peer.remove(&old);
        }
        self.by_peer.insert(hop.peer, id.clone());
    }

    /// Nothing of it is kept.
    pub(super) fn forget(&mut self, id: &Id) {
        self.drop_subscriptions(id);
        let Some(device) = self.by_id.remove(id) else { return };
        self.timers.remove(&(device.due, Timer::Presence(id.clone())));
        if self.by_peer.get(&device.peer) == Some(id) {
            self.by_peer.remove(&device.peer);
        }
        self.bytes.give_back(device.channels.bytes());
        self.events.forget(id);
    }
}

impl Device {
    /// Whether what comes from it counts: it is registered, though it may have been silent.
    pub(super) fn may_send(&self, now: Stamp) -> bool {
        let is_gone = matches!(self.presence, Presence::Offline(Absence::Unregistered | Absence::Expired));
        !is_gone && self.expires > now
    }
}

/// After so long without a sign a device is offline.
fn silence_ms(context: &Context<'_>) -> u64 {
    context.settings.keepalive_ms.saturating_mul(context.settings.keepalive_count)
}
