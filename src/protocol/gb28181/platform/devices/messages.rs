//! MESSAGE and NOTIFY of devices → who sent them, and where what they say belongs.
//!
//! **Who may send**: a device that is registered, from the IP address that it is known at; its port and its connection may change. Who sends
//! in the name of a channel is known by its address. Only a message that can be read is followed there (`presence`). All others are answered 403, upon which a device registers again. A MESSAGE is answered
//! 200 before anything is done about it, and 400 if it cannot be read.

use bytes::Bytes;

use super::{Devices, Id, News};
use crate::protocol::gb28181::manscdp::{self, Body, Charset, END_OF_MEDIA, Message, Notify, Outcome, Response};
use crate::protocol::gb28181::platform::context::Context;
use crate::protocol::gb28181::sip::Hop;
use crate::protocol::gb28181::sip::message::Request;
use crate::protocol::gb28181::sip::transaction::ServerId;

/// Why a request does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    pub reason: &'static str,
    pub message: String,
}

impl Devices {
    /// Whose request that is, for requests that need no password of their own.
    pub fn sender(&self, context: &Context<'_>, hop: Hop, request: &Request) -> Result<Id, Stranger> {
        let user = request.from_user().unwrap_or_default();
        let known = self.by_id.get_key_value(user).map(|(id, _)| id).or_else(|| self.by_peer.get(&hop.peer));
        let Some((id, device)) = known.and_then(|id| Some((id.clone(), self.by_id.get(id)?))) else {
            let user: String = user.chars().take(super::ID_BYTES_MAX).collect();
            let message = format!("{} of {user} at {}, which is not registered", request.method, hop.peer);
            return Err(Stranger { reason: "gb28181_unregistered", message });
        };
        if device.peer.ip().to_canonical() != hop.peer.ip().to_canonical() {
            let known = device.peer.ip();
            let message = format!("{} of device {id} from {}, which has registered from {known}", request.method, hop.peer);
            return Err(Stranger { reason: "gb28181_foreign_address", message });
        }
        if !device.may_send(context.now()) {
            let message = format!("{} of device {id} at {}, whose registration is over", request.method, hop.peer);
            return Err(Stranger { reason: "gb28181_unregistered", message });
        }
        Ok(id)
    }

    /// Answers 403 and notes why.
    pub fn refuse(&mut self, context: &mut Context<'_>, id: ServerId, request: &Request, stranger: Stranger) {
        context.respond(id, &request.response(403));
        self.note_fault(context, stranger.reason, stranger.message);
    }

    pub fn message(&mut self, context: &mut Context<'_>, id: ServerId, hop: Hop, request: &Request) {
        let sender = match self.sender(context, hop, request) {
            Ok(sender) => sender,
            Err(stranger) => return self.refuse(context, id, request, stranger),
        };
        if let Some(message) = self.read(context, (id, hop), &sender, request) {
            let call_id = request.headers.get("Call-ID").unwrap_or_default();
            if matches!(message.body, Body::Notify(Notify::Alarm(_))) {
                self.acknowledge(context, hop, &sender, &message);
            }
            self.take(context, &sender, message, call_id);
        }
    }

    /// Decodes a body and answers the request that it came with. What can be read is a sign of life, and shows where the device is.
    pub(super) fn read(
        &mut self,
        context: &mut Context<'_>,
        (id, hop): (ServerId, Hop),
        sender: &Id,
        request: &Request,
    ) -> Option<Message> {
        match manscdp::decode(&request.body) {
            Ok((message, charset)) => {
                context.respond(id, &request.response(200));
                self.heard(context, hop, sender);
                self.learn_charset(sender, charset, &request.body);
                Some(message)
            }
            Err(error) => {
                context.respond(id, &request.response(400));
                let message = format!("{} of device {sender}: {error}", request.method);
                self.note_fault(context, error.reason(), message);
                None
            }
        }
    }

    /// Bytes of ASCII alone say nothing unless they are declared as UTF-8.
    fn learn_charset(&mut self, id: &Id, charset: Charset, body: &Bytes) {
        if let Some(device) = self.by_id.get_mut(id).filter(|_| charset == Charset::Utf8 || !body.is_ascii()) {
            device.charset = charset;
        }
    }

    /// What a device says, with a MESSAGE or a NOTIFY.
    pub(super) fn take(&mut self, context: &mut Context<'_>, sender: &Id, message: Message, call_id: &str) {
        let Message { sn, device: about, body } = message;
        match body {
            Body::Notify(Notify::Keepalive(_)) => self.keepalive(context, sender),
            Body::Notify(Notify::Alarm(alarm)) => self.alarm(context, sender, &about, &alarm),
            Body::Notify(Notify::MobilePosition(position)) => self.position(context, sender, &about, &position),
            Body::Notify(Notify::Catalog(catalog)) => self.catalog_changes(context, sender, catalog),
            Body::Notify(Notify::MediaStatus(END_OF_MEDIA)) => {
                self.news.push(News::EndOfMedia { device: sender.clone(), channel: about, call_id: call_id.to_owned() });
            }
            Body::Response(Response::Plain { command, result }) if command.eq_ignore_ascii_case("Broadcast") => {
                self.news.push(News::Broadcast { device: sender.clone(), sn, agreed: result != Some(Outcome::Error) });
            }
            Body::Response(response) => self.query_part(context, sender, sn, response),
            Body::Notify(_) | Body::Query(_) | Body::Control(_) => {
                let message = format!("device {sender} has sent a message that is not expected of a device");
                self.note_fault(context, "gb28181_unexpected_message", message);
            }
        }
    }

    fn keepalive(&mut self, context: &mut Context<'_>, sender: &Id) {
        let now = context.now();
        let Some(device) = self.by_id.get_mut(sender) else { return };
        device.keepalive = Some(now);
        self.ask_if_unsure(context, sender);
        self.ask_again(context, sender);
    }

    /// An alarm that comes as a MESSAGE is answered with another one (§9.4).
    fn acknowledge(&mut self, context: &mut Context<'_>, hop: Hop, sender: &Id, alarm: &Message) {
        let body = Body::Response(Response::plain("Alarm", Outcome::Ok));
        let message = Message { sn: alarm.sn, device: alarm.device.clone(), body };
        context.send_message(hop, sender, &message, self.charset(sender));
    }
}
