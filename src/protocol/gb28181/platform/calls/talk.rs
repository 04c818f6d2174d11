//! Calls that send: the sound of a stream to a loudspeaker. GB/T 28181-2016 §9.12: we announce it, the device calls, we answer and send.

use std::net::SocketAddr;

use super::call::{Call, Phase};
use super::end::{Cause, End};
use super::finish::way;
use super::invite::{SDP_TYPE, reachable};
use super::{CALL_FACTOR, CALLS_MAX, Calls, OPEN_MS, Registry, Sent, refused};
use crate::config::MediaTransport;
use crate::format::rtp::SourceContent;
use crate::protocol::gb28181::manscdp::{Body, Message, Notify};
use crate::protocol::gb28181::platform::ask::{Channel, Refused, RefusedKind};
use crate::protocol::gb28181::platform::context::Context;
use crate::protocol::gb28181::platform::view::CallKind;
use crate::protocol::gb28181::platform::{CallId, Output, Ticket};
use crate::protocol::gb28181::sdp::{self, Answer, Description, Direction, PCMA_PAYLOAD_TYPE, PS_PAYLOAD_TYPE, Setup};
use crate::protocol::gb28181::sender;
use crate::protocol::gb28181::sip::Hop;
use crate::protocol::gb28181::sip::dialog::Dialog;
use crate::protocol::gb28181::sip::message::{Request, Response};
use crate::protocol::gb28181::sip::transaction::ServerId;
use crate::session::{Sending, SendingState, StreamKey};

/// Where nothing listens: the port of who connects by itself, RFC 4145 §4.1.
const DISCARD_PORT: u16 = 9;

impl Calls {
    pub(super) fn talk_asked(
        &mut self,
        context: &mut Context<'_>,
        registry: &mut dyn Registry,
        ticket: Ticket,
        of: Channel,
        stream: StreamKey,
    ) -> Result<(), Refused> {
        let hop = registry.hop(&of.device)?;
        if self.calls.len() >= CALLS_MAX {
            return Err(refused(RefusedKind::Full, format!("{CALLS_MAX} calls are under way")));
        }
        self.make_way(context, registry, &of)?;
        let (id, sn) = (self.next_id(), registry.next_sn());
        let source = context.settings.id.clone();
        let body = Body::Notify(Notify::Broadcast { source, target: of.channel.clone() });
        let message = Message { sn, device: String::new(), body };
        let client = context.send_message(hop, &of.device, &message, registry.charset(&of.device));
        let client = client.ok_or_else(|| refused(RefusedKind::Full, "too many SIP requests are under way"))?;
        self.sent.insert(client, Sent::Announcement(id));
        let now = context.now();
        let call = Call {
            phase: Phase::Announced { sn },
            invited: Some(now),
            tickets: vec![ticket],
            ..Call::new(id, CallKind::Talk, of, stream, hop, now)
        };
        self.add(call);
        self.wait(id, now.after_millis(CALL_FACTOR * context.settings.answer_ms));
        Ok(())
    }

    pub(super) fn announcement_answered(
        &mut self,
        context: &mut Context<'_>,
        registry: &mut dyn Registry,
        id: CallId,
        response: &Response,
    ) {
        if !response.is_success() {
            self.announcement_failed(context, registry, id, End::refused(response));
        }
    }

    /// A device that has called already does not take back by that what it asked for.
    pub(super) fn announcement_failed(&mut self, context: &mut Context<'_>, registry: &mut dyn Registry, id: CallId, end: End) {
        if self.calls.get(&id).is_some_and(|call| matches!(call.phase, Phase::Announced { .. })) {
            self.end(context, registry, id, end);
        }
    }

    /// Whether the device wants to hear what was announced with that number.
    pub fn agreed(&mut self, context: &mut Context<'_>, registry: &mut dyn Registry, device: &str, sn: u64, agreed: bool) {
        let is_it = |call: &&Call| matches!(call.phase, Phase::Announced { sn: of } if of == sn);
        let id = self.of_device(device).find(is_it).map(|call| call.id);
        if let Some(id) = id.filter(|_| !agreed) {
            self.end(context, registry, id, End::new(Cause::Refused, "the device does not want to hear it"));
        }
    }

    /// A device that is registered calls.
    pub fn called(
        &mut self,
        context: &mut Context<'_>,
        registry: &mut dyn Registry,
        device: &str,
        (id, hop): (ServerId, Hop),
        request: Request,
    ) {
        let is_expected = |call: &&Call| matches!(call.phase, Phase::Announced { .. });
        let expected: Vec<&Call> = self.of_device(device).filter(is_expected).collect();
        // Of several announcements the one to who calls is meant.
        let caller = request.from_user().unwrap_or_default();
        let call = expected.iter().find(|call| call.of.channel == caller).or(expected.first()).map(|call| call.id);
        let Some(call) = call else {
            context.respond_once(id, &request.response(403));
            let message = format!("device {device} calls, and nothing was announced to it");
            return context.note(log::Level::Warn, Some("call_not_expected"), message);
        };
        match Wanted::read(&request.body, &hop) {
            Ok(wanted) => self.accept(context, call, (id, request), wanted),
            Err(why) => {
                context.respond(id, &request.response(488));
                let words = format!("the device calls for what cannot be sent: {why}");
                self.end(context, registry, call, End::new(Cause::BadAnswer, words));
            }
        }
    }

    fn accept(&mut self, context: &mut Context<'_>, id: CallId, (server, invite): (ServerId, Request), wanted: Wanted) {
        let Wanted { offer, transport, content } = wanted;
        let taken = if offer.ssrc.is_none() { self.ssrcs.take(false) } else { None };
        let ssrc = offer.ssrc.or(taken).unwrap_or(0);
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.taken_ssrc = taken;
        call.ssrc = Some(ssrc);
        call.transport = match transport {
            sender::Transport::Udp { .. } => MediaTransport::Udp,
            sender::Transport::TcpActive { .. } => MediaTransport::TcpActive,
            sender::Transport::TcpPassive => MediaTransport::TcpPassive,
        };
        call.has_media_session = true;
        let request = sender::Request {
            key: call.key.clone(),
            transport,
            content,
            ssrc,
            payload_type: payload_type(content),
            wait_ms: context.settings.media_ms,
        };
        call.phase = Phase::Accepting { server, invite: Box::new(invite), offer: Box::new(offer) };
        context.out.push(Output::OpenSender { call: id, request });
        self.wait(id, context.now().after_millis(OPEN_MS));
    }

    /// Answers `Output::OpenSender`.
    pub fn sender_opened(
        &mut self,
        context: &mut Context<'_>,
        registry: &mut dyn Registry,
        id: CallId,
        port: Result<u16, String>,
    ) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let port = match port {
            Ok(port) => port,
            Err(why) => {
                call.has_media_session = false;
                return self.end(context, registry, id, End::new(Cause::NoReceiver, why));
            }
        };
        let Phase::Accepting { server, invite, offer } = std::mem::replace(&mut call.phase, Phase::Running) else { return };
        call.hop = way(registry, call);
        call.port = (port != 0).then_some(port);
        let content = if offer_payload(&offer) == Some(PS_PAYLOAD_TYPE) { SourceContent::Ps } else { SourceContent::G711A };
        let answer = offer.answer(&Answer {
            owner: &context.settings.id,
            address: context.settings.address.unwrap_or_else(|| call.hop.local_ip()),
            // RFC 3264 §6: 0 would refuse what is offered.
            port: if port == 0 { DISCARD_PORT } else { port },
            payload_type: payload_type(content),
            ssrc: call.ssrc,
            file_size: None,
        });
        let mut response = invite.response(200);
        response.headers.push("Contact", &format!("<{}>", context.own_uri(&call.hop)));
        response.set_body(SDP_TYPE, answer.to_string());
        let dialog = Dialog::of_request(&invite, &response);
        if let Some(dialog) = &dialog {
            self.by_dialog.insert(dialog.key(), id);
        }
        call.dialog = dialog;
        call.answered = Some(context.now());
        self.accepted.insert(server, id);
        context.respond(server, &response);
        self.run(context, id);
    }

    /// What a sender says of itself.
    pub fn sending(&mut self, context: &mut Context<'_>, registry: &mut dyn Registry, id: CallId, sending: Sending) {
        let Some(call) = self.calls.get_mut(&id).filter(|call| call.kind == CallKind::Talk) else { return };
        if sending.state == SendingState::Sending && call.media.is_none() {
            call.media = Some(context.now());
        }
        let (is_over, words) = (sending.state == SendingState::Ended, sending.detail.clone());
        call.sending = Some(sending);
        if is_over {
            call.has_media_session = false;
            let cause = if call.plays() { Cause::Wish } else { Cause::NoMedia };
            self.end(context, registry, id, End::new(cause, words));
        }
    }
}

/// How and what the device wants to hear.
struct Wanted {
    offer: Description,
    transport: sender::Transport,
    content: SourceContent,
}

impl Wanted {
    fn read(body: &[u8], hop: &Hop) -> Result<Self, String> {
        let offer = sdp::parse(body).map_err(|error| error.to_string())?;
        let media = offer.media.first().ok_or("it has no media")?;
        if matches!(media.direction, Some(Direction::SendOnly | Direction::Inactive)) {
            return Err("it does not want to receive".to_owned());
        }
        let content = match offer_payload(&offer) {
            Some(PS_PAYLOAD_TYPE) => SourceContent::Ps,
            Some(_) => SourceContent::G711A,
            None => return Err("neither G.711 A-law nor a program stream is among its payload types".to_owned()),
        };
        let to = SocketAddr::new(reachable(media.address, hop.peer.ip()), media.port);
        let transport = match (media.tcp, media.setup) {
            (true, Some(Setup::Active)) => sender::Transport::TcpPassive,
            _ if media.port == 0 => return Err("its port is 0".to_owned()),
            (true, _) => sender::Transport::TcpActive { to },
            (false, _) => sender::Transport::Udp { to },
        };
        Ok(Wanted { offer, transport, content })
    }
}

/// G.711 A-law if it is offered, as devices without a demuxer understand it too.
fn offer_payload(offer: &Description) -> Option<u8> {
    let media = offer.media.first()?;
    [PCMA_PAYLOAD_TYPE, PS_PAYLOAD_TYPE].into_iter().find(|payload_type| media.payload(*payload_type).is_some())
}

const fn payload_type(content: SourceContent) -> u8 {
    match content {
        SourceContent::Ps => PS_PAYLOAD_TYPE,
        SourceContent::G711A => PCMA_PAYLOAD_TYPE,
    }
}
