//! Calls that receive: a port, INVITE, the answer, and then media. GB/T 28181-2016 §9.2, §9.8, §9.9, Annex F and L.

use std::net::{IpAddr, SocketAddr};

use super::call::{Call, Phase};
use super::end::{Cause, End};
use super::probe::PROBE_MS;
use super::{CALL_FACTOR, CALLS_MAX, Calls, OPEN_MS, Registry, Sent, names, refused, silence_ms};
use crate::config::MediaTransport;
use crate::protocol::gb28181::platform::ask::{Answer, CallOptions, Channel, Refused, RefusedKind};
use crate::protocol::gb28181::platform::context::Context;
use crate::protocol::gb28181::platform::view::CallKind;
use crate::protocol::gb28181::platform::{CallId, Output, Ticket};
use crate::protocol::gb28181::receiver;
use crate::protocol::gb28181::sdp::{self, Description, Kind, Offer};
use crate::protocol::gb28181::sip::dialog::Dialog;
use crate::protocol::gb28181::sip::message::{Method, Response};
use crate::session::ExpectedSource;

pub const SDP_TYPE: &str = "APPLICATION/SDP";
/// The fastest download that can be asked for, as a multiple of the natural speed.
const SPEED_MAX: u32 = 64;
/// A receiver that nobody closes is over after that: recordings may be paused for long, and are watched here.
const RECORDED_MS: u64 = 3_600_000;

/// What somebody wants to receive.
#[derive(Clone, Debug)]
pub struct Wish {
    pub kind: CallKind,
    pub of: Channel,
    pub options: CallOptions,
    /// Seconds since 1970.
    pub span: (u64, u64),
    pub speed: Option<u32>,
}

impl Wish {
    pub fn live(of: Channel, options: CallOptions) -> Self {
        Wish { kind: CallKind::Play, of, options, span: (0, 0), speed: None }
    }

    pub fn recorded(of: Channel, span: (u64, u64), speed: Option<u32>, options: CallOptions) -> Self {
        let kind = if speed.is_some() { CallKind::Download } else { CallKind::Playback };
        Wish { kind, of, options, span, speed }
    }

    fn check(&self) -> Result<(), Refused> {
        if self.kind != CallKind::Play && self.span.0 >= self.span.1 {
            return Err(refused(RefusedKind::Bad, "the span of a recording ends before it begins"));
        }
        if self.speed.is_some_and(|speed| !(1..=SPEED_MAX).contains(&speed)) {
            return Err(refused(RefusedKind::Bad, format!("the speed of a download is 1 to {SPEED_MAX}")));
        }
        Ok(())
    }
}

impl Calls {
    pub(super) fn play_asked(
        &mut self,
        context: &mut Context<'_>,
        registry: &mut dyn Registry,
        ticket: Ticket,
        wish: Wish,
    ) -> Result<(), Refused> {
        let key = names::stream_key(wish.kind, &wish.of, wish.options.stream_number, CallId(0));
        let running = key.ok().and_then(|key| self.by_key.get(&key)).copied();
        let id = match running {
            Some(id) => id,
            None => self.begin(context, registry, wish)?,
        };
        self.wait_for_answer(context, ticket, id);
        Ok(())
    }

    pub(super) fn recording_asked(
        &mut self,
        context: &mut Context<'_>,
        registry: &mut dyn Registry,
        ticket: Ticket,
        wish: Wish,
    ) -> Result<(), Refused> {
        let id = self.begin(context, registry, wish)?;
        self.wait_for_answer(context, ticket, id);
        Ok(())
    }

    /// The ticket is answered when the device has answered, which may be so already.
    pub(super) fn wait_for_answer(&mut self, context: &mut Context<'_>, ticket: Ticket, id: CallId) {
        match self.calls.get_mut(&id) {
            Some(call) if matches!(call.phase, Phase::Running | Phase::Draining(_)) => {
                context.answer(ticket, Answer::Call(Box::new(call.view(context.now()))));
            }
            Some(call) => call.tickets.push(ticket),
            // It has failed at once, and the reason is the newest of those that are over.
            None => {
                let why = self.ended.back().map(|ended| ended.view(context.now()).detail).unwrap_or_default();
                context.answer(ticket, Answer::refused(RefusedKind::Full, why));
            }
        }
    }

    pub(super) fn begin(
        &mut self,
        context: &mut Context<'_>,
        registry: &mut dyn Registry,
        wish: Wish,
    ) -> Result<CallId, Refused> {
        wish.check()?;
        let hop = registry.hop(&wish.of.device)?;
        let id = self.next_id();
        let key = names::stream_key(wish.kind, &wish.of, wish.options.stream_number, id);
        let key = key.map_err(|error| refused(RefusedKind::Bad, error.to_string()))?;
        registry.check_channel(&wish.of)?;
        if self.calls.len() >= CALLS_MAX {
            return Err(refused(RefusedKind::Full, format!("{CALLS_MAX} calls are under way")));
        }
        let ssrc = self.ssrcs.take(wish.kind != CallKind::Play);
        let ssrc = ssrc.ok_or_else(|| refused(RefusedKind::Full, "all numbers of sources are in use"))?;
        let call = Call {
            transport: wish.options.transport.unwrap_or(context.settings.transport),
            stream_number: wish.options.stream_number,
            span: wish.span,
            speed: wish.speed,
            ssrc: Some(ssrc),
            taken_ssrc: Some(ssrc),
            ..Call::new(id, wish.kind, wish.of, key.clone(), hop, context.now())
        };
        let transport = call.transport;
        self.add(call);
        self.by_key.insert(key, id);
        match transport {
            MediaTransport::Udp => self.open(context, id, receiver::Transport::Udp),
            MediaTransport::TcpPassive => self.open(context, id, receiver::Transport::TcpPassive),
            MediaTransport::TcpActive => self.invite(context, registry, id),
        }
        Ok(id)
    }

    /// Asks for a receiver.
    fn open(&mut self, context: &mut Context<'_>, id: CallId, transport: receiver::Transport) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.has_media_session = true;
        let settings = context.settings;
        let timeout_ms = match call.is_recorded() {
            true => RECORDED_MS,
            // The device has not been asked yet.
            false => settings.media_ms + (CALL_FACTOR + 1) * settings.answer_ms,
        };
        let request = receiver::Request {
            key: call.key.clone(),
            transport,
            source: expected(call),
            timeout_ms,
            idle_ms: Some(settings.idle_ms),
            shared_port: settings.shared_port != 0,
            receiver_reports: settings.receiver_reports,
        };
        context.out.push(Output::OpenReceiver { call: id, request });
        self.wait(id, context.now().after_millis(OPEN_MS));
    }

    /// Answers `Output::OpenReceiver`.
    pub fn receiver_opened(
        &mut self,
        context: &mut Context<'_>,
        registry: &mut dyn Registry,
        id: CallId,
        port: Result<u16, String>,
    ) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        match port {
            Err(why) => {
                call.has_media_session = false;
                self.end(context, registry, id, End::new(Cause::NoReceiver, why));
            }
            Ok(port) => {
                call.port = (port != 0).then_some(port);
                match call.phase {
                    Phase::Opening => self.invite(context, registry, id),
                    Phase::Connecting => self.run(context, id),
                    _ => {}
                }
            }
        }
    }

    fn invite(&mut self, context: &mut Context<'_>, registry: &mut dyn Registry, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.hop = registry.hop(&call.of.device).unwrap_or(call.hop);
        let settings = context.settings;
        let offer = Offer {
            owner: &settings.id,
            channel: &call.of.channel,
            kind: match call.kind {
                CallKind::Play => Kind::Play,
                CallKind::Playback => Kind::Playback,
                CallKind::Download => Kind::Download,
                CallKind::Talk => Kind::Talk,
            },
            transport: call.transport,
            address: settings.address.unwrap_or_else(|| call.hop.local_ip()),
            port: call.port.unwrap_or(0),
            ssrc: call.ssrc.unwrap_or(0),
            span: call.span,
            download_speed: call.speed.and_then(|speed| u8::try_from(speed).ok()),
            stream_number: call.stream_number,
        };
        let body = offer.describe().to_string();
        let mut invite = context.request(Method::Invite, &call.hop, &call.of.channel);
        let subject = format!("{}:{:010},{}:0", call.of.channel, offer.ssrc, settings.id);
        invite.headers.push("Subject", &subject);
        invite.set_body(SDP_TYPE, body);
        let now = context.now();
        let Some(client) = context.transactions.invite(now, call.hop, invite.clone()) else {
            return self.end(context, registry, id, End::new(Cause::Full, "too many SIP requests are under way"));
        };
        call.phase = Phase::Inviting { client, invite: Box::new(invite), has_provisional: false };
        call.invited = Some(now);
        self.sent.insert(client, Sent::Invite(id));
        self.wait(id, now.after_millis(silence_ms(context)));
    }

    /// The device is at it.
    pub(super) fn provisional(&mut self, context: &mut Context<'_>, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if let Phase::Inviting { has_provisional, .. } = &mut call.phase
            && !std::mem::replace(has_provisional, true)
            && let Some(invited) = call.invited
        {
            self.wait(id, invited.after_millis(CALL_FACTOR * context.settings.answer_ms));
        }
    }

    pub(super) fn invite_answered(
        &mut self,
        context: &mut Context<'_>,
        registry: &mut dyn Registry,
        id: CallId,
        response: &Response,
    ) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Phase::Inviting { client, invite, .. } = std::mem::replace(&mut call.phase, Phase::Running) else { return };
        if !response.is_success() {
            return self.end(context, registry, id, End::refused(response));
        }
        let Some(dialog) = Dialog::of_answer(&invite, response) else {
            return self.end(context, registry, id, End::new(Cause::BadAnswer, "the device's answer is of another call"));
        };
        context.transactions.ack(call.hop, client, dialog.ack());
        self.by_dialog.insert(dialog.key(), id);
        call.dialog = Some(dialog);
        call.answered = Some(context.now());
        match read_answer(response) {
            Err(words) => self.end(context, registry, id, End::new(Cause::BadAnswer, words)),
            Ok(answer) => self.described(context, registry, id, answer.as_ref()),
        }
    }

    /// What the device says of its media.
    fn described(&mut self, context: &mut Context<'_>, registry: &mut dyn Registry, id: CallId, answer: Option<&Description>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let media = answer.and_then(|answer| answer.media.first());
        if let Some(ssrc) = answer.and_then(|answer| answer.ssrc).filter(|ssrc| call.ssrc != Some(*ssrc)) {
            call.remark = Some(format!("its answer says SSRC {ssrc}, {} was asked for", call.ssrc.unwrap_or(0)));
            let source = ExpectedSource { ssrc: Some(ssrc), ..expected(call) };
            if call.has_media_session {
                context.out.push(Output::ExpectSource { call: id, source });
            }
        }
        if let Some(media) = media
            && media.tcp != (call.transport != MediaTransport::Udp)
        {
            let (said, asked) = if media.tcp { ("TCP", "UDP") } else { ("UDP", "TCP") };
            call.remark = Some(format!("its answer says {said}, {asked} was asked for"));
        }
        if call.transport != MediaTransport::TcpActive {
            return self.run(context, id);
        }
        let Some(media) = media.filter(|media| media.port != 0) else {
            let words = "the device's answer does not say where to connect to";
            return self.end(context, registry, id, End::new(Cause::BadAnswer, words));
        };
        let to = SocketAddr::new(reachable(media.address, call.hop.peer.ip()), media.port);
        call.phase = Phase::Connecting;
        self.open(context, id, receiver::Transport::TcpActive { to });
    }

    /// Both sides are ready: media is waited for.
    pub(super) fn run(&mut self, context: &mut Context<'_>, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.phase = Phase::Running;
        call.heard.1 = context.now();
        for ticket in std::mem::take(&mut call.tickets) {
            context.answer(ticket, Answer::Call(Box::new(call.view(context.now()))));
        }
        if call.kind == CallKind::Talk {
            return self.wait(id, context.now().after_millis(PROBE_MS));
        }
        self.wait(id, context.now().after_millis(context.settings.media_ms));
    }
}

/// Packets of another source are accepted as well, as long as none of this one come.
fn expected(call: &Call) -> ExpectedSource {
    ExpectedSource { ssrc: call.ssrc, strict: false, ip: Some(call.hop.peer.ip()) }
}

/// `None`: it describes nothing, which is enough where the device comes to us.
fn read_answer(response: &Response) -> Result<Option<Description>, String> {
    if response.body.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    sdp::parse(&response.body).map(Some).map_err(|error| format!("the device's answer cannot be understood: {error}"))
}

/// The address that a device says, unless it is one at which nobody but itself can be: then that of its SIP.
pub(super) fn reachable(said: Option<IpAddr>, peer: IpAddr) -> IpAddr {
    match said {
        Some(said) if said.is_unspecified() || said.is_multicast() => peer,
        Some(said) if said.is_loopback() && !peer.is_loopback() => peer,
        Some(said) => said,
        None => peer,
    }
}
