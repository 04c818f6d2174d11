//! Whether the device still knows a call that only sends: OPTIONS in its dialog, RFC 3261 §11. Nothing else would tell.
//!
//! Any answer but 481 and 408 will do, and 405 as well: the device knows what it is asked about. Silence ends a call if the device has
//! answered before. Not here: calls that receive, whose media
//! tells.

use super::call::{Call, Phase};
use super::end::{Cause, End};
use super::{Calls, Registry, Sent, refused};
use crate::protocol::gb28181::platform::CallId;
use crate::protocol::gb28181::platform::ask::{Channel, Refused, RefusedKind};
use crate::protocol::gb28181::platform::context::Context;
use crate::protocol::gb28181::platform::view::CallKind;
use crate::protocol::gb28181::sip::message::{Method, Response};

/// It is asked so often.
pub const PROBE_MS: u64 = 60_000;
/// A call that has not been answered for so long when its loudspeaker is wanted anew gives way.
pub const DOUBT_MS: u64 = 2_000;

impl Calls {
    /// Asks, unless it is asked already, or its device has no connection just now.
    pub(super) fn probe(&mut self, context: &mut Context<'_>, registry: &mut dyn Registry, id: CallId) {
        let now = context.now();
        self.wait(id, now.after_millis(PROBE_MS));
        let Some(call) = self.calls.get_mut(&id).filter(|call| call.probed.is_none()) else { return };
        let Ok(way) = registry.hop(&call.of.device) else { return };
        let Some(options) = call.dialog.as_mut().map(|dialog| dialog.request(Method::Options)) else { return };
        if let Some(client) = context.send(way, options) {
            call.probed = Some(now);
            self.sent.insert(client, Sent::Probe(id));
        }
    }

    pub(super) fn probe_answered(
        &mut self,
        context: &mut Context<'_>,
        registry: &mut dyn Registry,
        id: CallId,
        response: &Response,
    ) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        (call.probed, call.answers_probes) = (None, true);
        if matches!(response.status, 408 | 481) {
            let words = format!("the device does not know the call any more: {}", response.words());
            self.end(context, registry, id, End::new(Cause::Gone, words));
        }
    }

    /// Some devices never answer OPTIONS: whether those are there, their keepalives tell.
    pub(super) fn probe_failed(&mut self, context: &mut Context<'_>, registry: &mut dyn Registry, id: CallId, end: &End) {
        if let Some(call) = self.calls.get_mut(&id).filter(|call| !call.answers_probes) {
            call.probed = None;
            return;
        }
        let words = format!("the device was asked whether it still knows the call: {}", end.words);
        self.end(context, registry, id, End::new(end.cause, words));
    }

    /// Before a new talk: one to the same loudspeaker that its device does not answer for gives way. `Err`: one that may live; it is asked.
    pub(super) fn make_way(
        &mut self,
        context: &mut Context<'_>,
        registry: &mut dyn Registry,
        of: &Channel,
    ) -> Result<(), Refused> {
        let is_it = |call: &&Call| call.kind == CallKind::Talk && call.of == *of;
        let Some(other) = self.of_device(&of.device).find(is_it) else { return Ok(()) };
        let (id, is_running) = (other.id, matches!(other.phase, Phase::Running));
        if other.probed.is_some_and(|since| context.now().millis_since(since) >= DOUBT_MS) {
            let words = "the device does not answer for it, and another talk to it begins";
            self.end(context, registry, id, End::new(Cause::Silence, words));
            return Ok(());
        }
        if is_running {
            self.probe(context, registry, id);
        }
        Err(refused(RefusedKind::Conflict, format!("call {} talks to it", id.0)))
    }
}
