//! What is done when a call ends: the other side is told, ports are closed, whoever waits is answered, and the reason is kept.

use super::call::{Call, Ended, Phase};
use super::end::{ALL_SENT, Cause, End};
use super::{Calls, DRAIN_MS, ENDED_MAX, Registry, Sent};
use crate::protocol::gb28181::platform::ask::{Answer, RefusedKind};
use crate::protocol::gb28181::platform::context::Context;
use crate::protocol::gb28181::platform::view::CallKind;
use crate::protocol::gb28181::platform::{CallId, Output};
use crate::protocol::gb28181::sip::Hop;
use crate::protocol::gb28181::sip::message::Method;

impl Calls {
    /// Ends a call wherever it is.
    pub(super) fn end(&mut self, context: &mut Context<'_>, registry: &mut dyn Registry, id: CallId, end: End) {
        self.wait_no_more(id);
        let Some(mut call) = self.take_off(id) else { return };
        self.say_goodbye(context, registry, &mut call);
        if call.has_media_session {
            context.out.push(match call.kind {
                CallKind::Talk => Output::CloseSender(id),
                _ => Output::CloseReceiver(id),
            });
        }
        if call.kind == CallKind::Talk {
            self.accepted.retain(|_, of| *of != id);
        } else {
            self.by_key.remove(&call.key);
            if end.cause.is_failure() {
                self.demand.failed(context.now(), &call.key);
            }
        }
        if let Some(ssrc) = call.taken_ssrc {
            self.ssrcs.give_back(ssrc);
        }
        for ticket in std::mem::take(&mut call.tickets) {
            context.answer(ticket, Answer::refused(refused_kind(end.cause), end.words.clone()));
        }
        note(context, &call, &end);
        self.ended.push_back(Ended::new(&call, &end, context.now()));
        if self.ended.len() > ENDED_MAX {
            self.ended.pop_front();
        }
    }

    /// The device says that it has sent all: what is on its way is still taken.
    pub(super) fn drain(&mut self, context: &mut Context<'_>, registry: &mut dyn Registry, id: CallId, end: End) {
        let Some(mut call) = self.calls.remove(&id) else { return };
        let has_more = matches!(call.phase, Phase::Running) && call.has_media_session && call.kind != CallKind::Talk;
        if !has_more {
            self.calls.insert(id, call);
            return self.end(context, registry, id, end);
        }
        self.say_goodbye(context, registry, &mut call);
        call.phase = Phase::Draining(end);
        self.calls.insert(id, call);
        self.wait(id, context.now().after_millis(DRAIN_MS));
    }

    /// Tells the other side, if it has not said so itself.
    fn say_goodbye(&mut self, context: &mut Context<'_>, registry: &mut dyn Registry, call: &mut Call) {
        let now = context.now();
        match &call.phase {
            // Whatever has come or failed already is no more under way.
            Phase::Inviting { client, invite, .. } if self.sent.remove(client).is_some() => {
                self.sent.insert(*client, Sent::Late { invite: invite.clone(), hop: call.hop });
                context.transactions.cancel(now, *client);
            }
            Phase::Accepting { server, invite, .. } => context.respond(*server, &invite.response(480)),
            _ => {}
        }
        if let Some(mut dialog) = call.dialog.take() {
            self.by_dialog.remove(&dialog.key());
            let way = way(registry, call);
            let bye = dialog.request(Method::Bye);
            context.send(way, bye);
        }
    }

    /// The other side has hung up: it needs no BYE.
    pub(super) fn forget_dialog(&mut self, id: CallId) {
        if let Some(dialog) = self.calls.get_mut(&id).and_then(|call| call.dialog.take()) {
            self.by_dialog.remove(&dialog.key());
        }
    }

    /// A device is not there any more.
    pub fn device_gone(&mut self, context: &mut Context<'_>, registry: &mut dyn Registry, device: &str) {
        let why = registry.hop(device).err().map_or_else(|| format!("device {device} is gone"), |refused| refused.why);
        for id in self.of_device(device).map(|call| call.id).collect::<Vec<_>>() {
            self.end(context, registry, id, End::new(Cause::Gone, why.clone()));
        }
    }

    /// What was recorded is at its end. `call_id`: of the message that says so, which may be that of the call.
    pub fn end_of_media(
        &mut self,
        context: &mut Context<'_>,
        registry: &mut dyn Registry,
        device: &str,
        channel: &str,
        call_id: &str,
    ) {
        let ours = |call: &&Call| call.of.device == device && call.is_recorded() && matches!(call.phase, Phase::Running);
        let by_dialog =
            self.by_dialog.get(&(call_id.to_owned(), None)).and_then(|id| self.calls.get(id)).filter(ours).map(|call| call.id);
        let is_named = |call: &&Call| call.of.channel == channel || device == channel;
        let mut named = self.of_device(device).filter(ours).filter(is_named).map(|call| call.id);
        // Of several that may be meant none is at once, unless the message says which.
        let first = named.next();
        let others: Vec<CallId> = named.collect();
        let Some(id) = by_dialog.or(first.filter(|_| others.is_empty())) else {
            // It is the one that brings nothing from now on.
            for id in first.into_iter().chain(others) {
                self.calls.entry(id).and_modify(|call| call.end_told = true);
            }
            return;
        };
        self.drain(context, registry, id, End::new(Cause::Wish, ALL_SENT));
    }

    /// The process is about to end.
    pub fn finish(&mut self, context: &mut Context<'_>, registry: &mut dyn Registry) {
        for id in self.calls.keys().copied().collect::<Vec<_>>() {
            self.end(context, registry, id, End::new(Cause::Wish, "the server is shutting down"));
        }
    }
}

/// How the device of a call is reached: where it is now, else where it was.
pub(super) fn way(registry: &dyn Registry, call: &Call) -> Hop {
    registry.hop(&call.of.device).unwrap_or(call.hop)
}

fn refused_kind(cause: Cause) -> RefusedKind {
    match cause {
        Cause::Wish | Cause::Gone => RefusedKind::Conflict,
        Cause::Silence | Cause::NoMedia => RefusedKind::Silent,
        Cause::Refused | Cause::BadAnswer => RefusedKind::Device,
        Cause::NoReceiver | Cause::Full => RefusedKind::Full,
    }
}

fn note(context: &mut Context<'_>, call: &Call, end: &End) {
    let level = if end.cause.is_failure() { log::Level::Warn } else { log::Level::Info };
    let what = match call.kind {
        CallKind::Play => "play",
        CallKind::Playback => "playback",
        CallKind::Download => "download",
        CallKind::Talk => "talk",
    };
    let message = format!("{what} {} (call {}) is over: {}", call.key, call.id.0, end.words);
    context.note(level, end.cause.reason(), message);
}
