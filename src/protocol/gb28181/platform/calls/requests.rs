//! What devices want in a call: to hang up, mostly. GB/T 28181-2016 §9.2.

use super::call::Phase;
use super::end::{Cause, End};
use super::finish::way;
use super::{Calls, Registry};
use crate::protocol::gb28181::platform::CallId;
use crate::protocol::gb28181::platform::context::Context;
use crate::protocol::gb28181::sip::dialog::Dialog;
use crate::protocol::gb28181::sip::message::{Method, Request};
use crate::protocol::gb28181::sip::transaction::ServerId;
use crate::protocol::gb28181::sip::{Carrier, Hop};

/// What can be asked of us, for a device that asks for anything else.
pub const ALLOWED: &str = "REGISTER, MESSAGE, INVITE, ACK, BYE, CANCEL, INFO, OPTIONS, NOTIFY";

impl Calls {
    /// Whether a request that has come the way `hop` belongs to a call.
    pub fn has(&self, registry: &dyn Registry, hop: Hop, request: &Request) -> bool {
        self.call_of(registry, hop, request).is_some()
    }

    /// The call of a dialog, if the request has come from its device: Call-IDs and tags are read by whoever is on the way.
    fn call_of(&self, registry: &dyn Registry, hop: Hop, request: &Request) -> Option<CallId> {
        let id = *Dialog::keys_of(request)?.iter().find_map(|key| self.by_dialog.get(key))?;
        let call = self.calls.get(&id)?;
        let way = way(registry, call);
        let is_connection = hop.carrier != Carrier::Udp && hop.carrier == way.carrier;
        let is_device = is_connection || hop.peer.ip().to_canonical() == way.peer.ip().to_canonical();
        (is_device && call.dialog.as_ref()?.has(request)).then_some(id)
    }

    /// A request in a call, or one that looks so: BYE, INFO, INVITE once more.
    pub fn request(
        &mut self,
        context: &mut Context<'_>,
        registry: &mut dyn Registry,
        (id, hop): (ServerId, Hop),
        request: &Request,
    ) {
        let Some(call_id) = self.call_of(registry, hop, request) else {
            return context.respond_once(id, &request.response(481));
        };
        let Some(call) = self.calls.get_mut(&call_id) else { return };
        let is_new = call.dialog.as_mut().is_some_and(|dialog| dialog.take_number(request));
        // Devices that count anew for it hang up all the same.
        if !is_new && request.method != Method::Bye {
            return context.respond(id, &request.response(500));
        }
        match &request.method {
            Method::Bye => {
                context.respond(id, &request.response(200));
                self.hung_up(context, registry, call_id);
            }
            Method::Info | Method::Options => context.respond(id, &request.response(200)),
            // Nothing of a call is changed while it runs.
            Method::Invite => context.respond(id, &request.response(488)),
            Method::Other(name) if &**name == "UPDATE" => context.respond(id, &request.response(488)),
            _ => {
                let mut response = request.response(405);
                response.headers.push("Allow", ALLOWED);
                context.respond(id, &response);
            }
        }
    }

    fn hung_up(&mut self, context: &mut Context<'_>, registry: &mut dyn Registry, id: CallId) {
        let is_recorded = self.calls.get(&id).is_some_and(super::Call::is_recorded);
        self.forget_dialog(id);
        // A camera that hangs up by itself is not called again at once.
        let cause = if is_recorded { Cause::Wish } else { Cause::Gone };
        self.drain(context, registry, id, End::new(cause, "the device has hung up"));
    }

    /// The answer to the INVITE of a device has arrived.
    pub fn acknowledged(&mut self, invite: ServerId) {
        self.accepted.remove(&invite);
    }

    /// An INVITE of a device is wanted no more, or its answer is not acknowledged.
    pub fn given_up(&mut self, context: &mut Context<'_>, registry: &mut dyn Registry, invite: ServerId, words: &str) {
        let of_it = |phase: &Phase| matches!(phase, Phase::Accepting { server, .. } if *server == invite);
        let accepting = self.calls.values().find(|call| of_it(&call.phase)).map(|call| call.id);
        let accepted = || self.accepted.get(&invite).copied();
        if let Some(id) = accepting.or_else(accepted) {
            self.end(context, registry, id, End::new(Cause::Gone, words));
        }
    }
}
