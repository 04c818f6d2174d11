//! Calls of platforms above: an INVITE becomes a sender, and everything that happens to either is told to the other.
//!
//! GB/T 28181-2016 §9.2, §9.8, §9.9. Of a device the platform below is asked first, so that its refusal is the answer; a stream has to be
//! there. Media goes by UDP, once the answer is acknowledged, or by TCP with either side connecting. Answers: 404 for what it is not shown, 480 for what is offline, 486
//! above `calls_max`, 488 for an offer without a program stream. A call is over with BYE of either side: ours where the source is lost.
//!
//! While a call runs, the platform above is asked each [`PROBE_MS`] whether it knows it still (OPTIONS, RFC 3261 §12.2.1.2): 408, 481, and
//! silence where it has answered before or has registered us anew, end it.
//!
//! Limits: `calls_max`, [`ASK_MS`], [`STREAM_WAIT_MS`]. Not here: how media is sent (`sender`).

use std::net::SocketAddr;

use super::channels::{Shown, Source};
use super::questions::{Question, status_of};
use super::subscriptions::Subscription;
use super::view::UpstreamCallView;
use super::{CALLS_OVER_MAX, Cascade, Clock, Output, Wish, link};
use crate::format::rtp::SourceContent;
use crate::media::Stamp;
use crate::protocol::gb28181::manscdp::{Body, END_OF_MEDIA, Notify};
use crate::protocol::gb28181::platform::CallId;
use crate::protocol::gb28181::platform::ask::{Answer, Ask, CallOptions, PlayingControl};
use crate::protocol::gb28181::sdp::{self, Description, Kind, Setup};
use crate::protocol::gb28181::sender::{Request as SenderRequest, Transport};
use crate::protocol::gb28181::sip::Hop;
use crate::protocol::gb28181::sip::dialog::Dialog;
use crate::protocol::gb28181::sip::message::{Method, Request, Response, reason_of};
use crate::protocol::gb28181::sip::transaction::{ClientId, ServerId};
use crate::protocol::gb28181::{mansrtsp, sip};
use crate::session::{Sending, SendingState, StreamKey};

/// How long a device may take to answer, and then a sender to begin.
pub const ASK_MS: u64 = 30_000;
/// How long a sender waits for whoever connects, and for the stream.
pub const STREAM_WAIT_MS: u64 = 15_000;
/// How long the end of a playback waits for the platform above to hang up.
const END_MS: u64 = 5_000;
/// How often a platform above is asked whether it still knows a call.
pub const PROBE_MS: u64 = 60_000;
const SDP: &str = "APPLICATION/SDP";
const MANSRTSP: &str = "Application/MANSRTSP";
/// Where nothing listens: the port of who connects.
const DISCARD_PORT: u16 = 9;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A device is asked, or a sender is opened, until the stamp.
    Invited(Stamp),
    /// The answer is sent.
    Answered,
    /// The answer is acknowledged, and a sender is opened, until the stamp.
    Starting(Stamp),
    Confirmed,
    /// The platform above has been told of the end, and has until the stamp to hang up.
    Ending(Stamp),
}

#[derive(Debug)]
pub(super) struct Call {
    pub upstream: usize,
    server: ServerId,
    invite: Request,
    hop: Hop,
    offer: Description,
    kind: Kind,
    channel: String,
    /// Of the media that is sent: the stream that the platform below has named, for recordings.
    key: StreamKey,
    transport: Transport,
    payload_type: u8,
    ssrc: u32,
    /// The call of the platform below that brings a recording.
    below: Option<CallId>,
    phase: Phase,
    has_sender: bool,
    dialog: Option<Dialog>,
    began: Stamp,
    detail: String,
    to: Option<SocketAddr>,
    bytes: u64,
    sends: bool,
    probe: Option<ClientId>,
    next_probe: Stamp,
    /// The platform above may have begun anew since it made the call.
    is_doubted: bool,
}

impl Call {
    pub fn next_timeout(&self) -> Option<Stamp> {
        match self.phase {
            Phase::Invited(until) | Phase::Starting(until) | Phase::Ending(until) => Some(until),
            Phase::Confirmed if self.probe.is_none() => Some(self.next_probe),
            Phase::Answered | Phase::Confirmed => None,
        }
    }

    pub fn view(&self, now: Stamp) -> UpstreamCallView {
        let state = match self.phase {
            Phase::Invited(_) => "invited",
            Phase::Ending(_) => "ended",
            Phase::Answered | Phase::Starting(_) | Phase::Confirmed if self.sends => "sending",
            Phase::Answered | Phase::Starting(_) | Phase::Confirmed => "answered",
        };
        UpstreamCallView {
            kind: self.kind,
            channel: self.channel.clone(),
            stream: self.key.to_string(),
            state,
            detail: self.detail.clone(),
            transport: self.transport.name(),
            to: self.to.map(|to| to.to_string()),
            ssrc: self.ssrc,
            bytes: self.bytes,
            age_ms: now.millis_since(self.began),
        }
    }
}

/// What an offer comes to.
struct Wanted {
    transport: Transport,
    payload_type: u8,
    kind: Kind,
}

/// `None`: nothing that can be sent.
fn wanted(offer: &Description, peer: SocketAddr) -> Option<Wanted> {
    let media = offer.media.first()?;
    let ps = media.payloads.iter().find(|payload| payload.encoding.eq_ignore_ascii_case("PS"))?;
    let kind = offer.kind.unwrap_or_default();
    let ip = media.address.filter(|address| !address.is_unspecified()).unwrap_or(peer.ip());
    let to = SocketAddr::new(ip, media.port);
    let transport = match (media.tcp, media.setup) {
        (false, _) => Transport::Udp { to },
        (true, Some(Setup::Active)) => Transport::TcpPassive,
        (true, Some(Setup::Passive) | None) => Transport::TcpActive { to },
    };
    let is_sent = kind != Kind::Talk && (media.port != 0 || transport == Transport::TcpPassive);
    is_sent.then_some(Wanted { transport, payload_type: ps.payload_type, kind })
}

impl Cascade {
    pub(super) fn invite(&mut self, clock: Clock, at: usize, id: ServerId, hop: Hop, request: Request, out: &mut Vec<Output>) {
        let refusal = match self.admit(at, &request, hop) {
            Ok((shown, wanted, offer)) => {
                return self.begin(clock, Incoming { at, id, hop, request }, shown, wanted, offer, out);
            }
            Err((status, why)) => (status, why),
        };
        let (status, why) = refusal;
        let words = reason_of(status);
        let upstream = self.links[at].config.id.clone();
        let mut world = self.world(clock, out);
        world.note(
            log::Level::Info,
            Some("upstream_call_refused"),
            format!("upstream {upstream}: a call is answered {status} {words}: {why}"),
        );
        world.respond_with(id, &request, status);
    }

    /// Whether a call can be served; else the status of its answer, and why.
    fn admit(&self, at: usize, request: &Request, hop: Hop) -> Result<(Shown, Wanted, Description), (u16, String)> {
        let link = &self.links[at];
        let of_uri = sip::headers::uri_user(&request.uri);
        let named = [of_uri, request.to_user().unwrap_or_default()];
        let shown = named.iter().find_map(|id| self.channels.find(&link.config, id));
        let shown = shown.ok_or_else(|| (404, format!("it is not shown a channel {of_uri}")))?;
        if request.identity().is_some_and(|identity| identity.to.tag().is_some()) {
            return Err((488, "a call that runs does not change".to_owned()));
        }
        let offer = sdp::parse(&request.body).map_err(|error| (488, error.to_string()))?;
        let wanted = wanted(&offer, hop.peer).ok_or_else(|| (488, "nothing of the offer can be sent".to_owned()))?;
        if wanted.kind != Kind::Play && shown.source == Source::Stream {
            return Err((404, format!("{} has no records", shown.name)));
        }
        if self.calls.values().filter(|call| call.upstream == at).count() >= link.config.calls_max {
            return Err((486, format!("{} calls run", link.config.calls_max)));
        }
        if !shown.online {
            return Err((480, format!("{} is offline", shown.name)));
        }
        if self.finishing {
            return Err((503, "the server is shutting down".to_owned()));
        }
        Ok((shown, wanted, offer))
    }

    fn begin(
        &mut self,
        clock: Clock,
        incoming: Incoming,
        shown: Shown,
        wanted: Wanted,
        offer: Description,
        out: &mut Vec<Output>,
    ) {
        let Incoming { at, id, hop, request } = incoming;
        let call = CallId(self.number());
        let span = offer.span;
        let speed = offer.media.first().and_then(|media| media.download_speed).unwrap_or(1);
        let ssrc = offer.ssrc.unwrap_or_else(|| self.own_ssrc(wanted.kind, call));
        self.calls.insert(
            call,
            Call {
                upstream: at,
                server: id,
                invite: request,
                hop,
                ssrc,
                kind: wanted.kind,
                channel: shown.id,
                key: shown.key,
                to: match wanted.transport {
                    Transport::Udp { to } | Transport::TcpActive { to } => Some(to),
                    Transport::TcpPassive => None,
                },
                transport: wanted.transport,
                payload_type: wanted.payload_type,
                offer,
                below: None,
                phase: Phase::Invited(clock.now.after_millis(ASK_MS)),
                has_sender: false,
                dialog: None,
                began: clock.now,
                detail: "invited".to_owned(),
                bytes: 0,
                sends: false,
                probe: None,
                next_probe: clock.now.after_millis(PROBE_MS),
                is_doubted: false,
            },
        );
        let options = CallOptions::default();
        match (shown.source, wanted.kind) {
            (Source::Stream, _) => self.source_is_there(clock, call, out),
            (Source::Device(of), Kind::Playback) => {
                self.ask(Question::Call(call), Ask::Playback { of, from_unix_s: span.0, to_unix_s: span.1, options }, out);
            }
            (Source::Device(of), Kind::Download) => {
                let ask = Ask::Download { of, from_unix_s: span.0, to_unix_s: span.1, speed: speed.into(), options };
                self.ask(Question::Call(call), ask, out);
            }
            (Source::Device(of), Kind::Play | Kind::Talk) => self.ask(Question::Call(call), Ask::Play { of, options }, out),
        }
    }

    /// Where the platform above names none: digits as Annex E wants them.
    fn own_ssrc(&self, kind: Kind, call: CallId) -> u32 {
        let domain: String = self.section.domain.chars().skip(3).take(5).collect();
        let history = u32::from(kind != Kind::Play);
        history * 1_000_000_000 + domain.parse::<u32>().unwrap_or(0) * 10_000 + (call.0 % 10_000) as u32
    }

    /// There is something to send. Over UDP nothing is sent before the ACK has shown that who calls hears the answer: else anybody could
    /// have media sent anywhere in the name of a platform above. Over TCP the connection shows it.
    fn source_is_there(&mut self, clock: Clock, id: CallId, out: &mut Vec<Output>) {
        match self.calls.get(&id).map(|call| call.transport) {
            // From which port it will come is not known yet; nothing is received there anyhow.
            Some(Transport::Udp { .. }) => self.accept_call(clock, id, DISCARD_PORT, out),
            Some(Transport::TcpActive { .. } | Transport::TcpPassive) => self.open_sender(id, out),
            None => {}
        }
    }

    fn open_sender(&mut self, id: CallId, out: &mut Vec<Output>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.has_sender = true;
        let request = SenderRequest {
            key: call.key.clone(),
            transport: call.transport,
            content: SourceContent::Ps,
            ssrc: call.ssrc,
            payload_type: call.payload_type,
            wait_ms: STREAM_WAIT_MS,
        };
        out.push(Output::Wish(Wish::OpenSender { call: id, request }));
    }

    /// The platform below has said what becomes of a call to a device.
    pub(super) fn device_answered(&mut self, clock: Clock, id: CallId, answer: Answer, out: &mut Vec<Output>) {
        let Some(call) = self.calls.get_mut(&id) else {
            // The platform above has hung up meanwhile; what nobody watches ends by itself.
            return;
        };
        match answer {
            Answer::Call(view) => {
                if call.kind != Kind::Play {
                    call.below = Some(view.id);
                }
                if let Ok(key) = StreamKey::parse(&view.stream) {
                    call.key = key;
                }
                self.source_is_there(clock, id, out);
            }
            Answer::Refused(refused) => self.fail(clock, id, status_of(refused.kind), &refused.why, out),
            _ => self.fail(clock, id, 500, "the platform below has answered something else", out),
        }
    }

    pub(super) fn sender_opened(&mut self, clock: Clock, id: CallId, port: Result<u16, String>, out: &mut Vec<Output>) {
        let Some(call) = self.calls.get_mut(&id) else { return out.push(Output::Wish(Wish::CloseSender(id))) };
        match port {
            Ok(_) if matches!(call.phase, Phase::Starting(_)) => call.phase = Phase::Confirmed,
            Ok(port) => self.accept_call(clock, id, if port == 0 { DISCARD_PORT } else { port }, out),
            Err(why) => {
                call.has_sender = false;
                if matches!(call.phase, Phase::Starting(_)) {
                    return self.hang_up(clock, id, &why, out);
                }
                let status = if why.contains("limit") || why.contains("port") { 486 } else { 480 };
                self.fail(clock, id, status, &why, out);
            }
        }
    }

    fn accept_call(&mut self, clock: Clock, id: CallId, port: u16, out: &mut Vec<Output>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let answer = sdp::Answer {
            owner: &call.channel,
            address: self.section.address.unwrap_or_else(|| call.hop.local_ip()),
            port,
            payload_type: call.payload_type,
            ssrc: Some(call.ssrc),
            file_size: None,
        };
        let mut response = call.invite.response(200);
        response.headers.push("Contact", &format!("<sip:{}@{}>", call.channel, call.hop.local));
        response.set_body(SDP, call.offer.answer(&answer).to_string());
        call.dialog = Dialog::of_request(&call.invite, &response);
        (call.phase, call.detail) = (Phase::Answered, "answered".to_owned());
        let server = call.server;
        self.world(clock, out).respond(server, &response);
    }

    pub(super) fn sending(&mut self, clock: Clock, id: CallId, sending: Sending, out: &mut Vec<Output>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.detail.clone_from(&sending.detail);
        (call.to, call.bytes) = (sending.to.or(call.to), sending.bytes);
        call.sends = sending.state == SendingState::Sending;
        if sending.state != SendingState::Ended {
            return;
        }
        call.has_sender = false;
        if call.kind == Kind::Play {
            return self.hang_up(clock, id, &sending.detail, out);
        }
        // The end of what was recorded: the platform above hangs up when it has heard of it.
        call.phase = Phase::Ending(clock.now.after_millis(END_MS));
        let (at, channel) = (call.upstream, call.channel.clone());
        let body = self.links[at].body(channel, None, Body::Notify(Notify::MediaStatus(END_OF_MEDIA)));
        self.tell(clock, at, vec![body], out);
    }

    pub(super) fn acknowledged(&mut self, clock: Clock, invite: ServerId, out: &mut Vec<Output>) {
        let Some(id) = self.of_invite(invite) else { return };
        let Some(call) = self.calls.get_mut(&id).filter(|call| call.phase == Phase::Answered) else { return };
        if call.has_sender {
            call.phase = Phase::Confirmed;
        } else {
            call.phase = Phase::Starting(clock.now.after_millis(ASK_MS));
            self.open_sender(id, out);
        }
    }

    fn of_invite(&self, invite: ServerId) -> Option<CallId> {
        self.calls.iter().find(|(_, call)| call.server == invite).map(|(id, _)| *id)
    }

    pub(super) fn cancelled(&mut self, clock: Clock, invite: ServerId, out: &mut Vec<Output>) {
        if let Some(id) = self.of_invite(invite) {
            self.end(clock, id, "cancelled by the platform above", out);
        }
    }

    pub(super) fn unacknowledged(&mut self, clock: Clock, invite: ServerId, out: &mut Vec<Output>) {
        if let Some(id) = self.of_invite(invite) {
            self.hang_up(clock, id, "the platform above has not acknowledged the answer", out);
        }
    }

    /// Whatever its number: who hangs up and has begun anew may count from the beginning.
    pub(super) fn bye(&mut self, clock: Clock, at: usize, id: ServerId, request: &Request, out: &mut Vec<Output>) {
        let found = self.of_dialog(at, request);
        let status = if found.is_some() { 200 } else { 481 };
        self.world(clock, out).respond_with(id, request, status);
        if let Some(call) = found {
            self.end(clock, call, "ended by the platform above", out);
        }
    }

    fn of_dialog(&self, at: usize, request: &Request) -> Option<CallId> {
        let is_it = |call: &Call| call.upstream == at && call.dialog.as_ref().is_some_and(|dialog| dialog.has(request));
        self.calls.iter().find(|(_, call)| is_it(call)).map(|(id, _)| *id)
    }

    /// Whether a request belongs to a call or a subscription.
    pub(super) fn has_dialog(&self, at: usize, request: &Request) -> bool {
        let subscribes = |known: &Subscription| known.is_of(at, request);
        self.of_dialog(at, request).is_some() || self.subscriptions.iter().any(subscribes)
    }

    /// How a playback is to go on.
    pub(super) fn info(&mut self, clock: Clock, at: usize, id: ServerId, request: &Request, out: &mut Vec<Output>) {
        let Some(call) = self.of_dialog(at, request) else { return self.world(clock, out).respond_with(id, request, 481) };
        let below = self.calls.get(&call).and_then(|call| call.below);
        let wish = mansrtsp::Request::parse(&request.body);
        let (Some(below), Ok((wish, number))) = (below, wish) else {
            let status = if below.is_some() { 400 } else { 200 };
            return self.world(clock, out).respond_with(id, request, status);
        };
        let control = match wish {
            mansrtsp::Request::Pause => PlayingControl::Pause,
            mansrtsp::Request::Play { from: Some(mansrtsp::From::Seconds(seconds)), .. } => PlayingControl::Seek(seconds as u32),
            mansrtsp::Request::Play { scale: Some(scale), .. } => PlayingControl::Scale(scale),
            mansrtsp::Request::Play { .. } => PlayingControl::Resume,
            mansrtsp::Request::Teardown => {
                self.playing_answered(clock, id, request, number, 200, out);
                return self.hang_up(clock, call, "torn down by the platform above", out);
            }
        };
        let question = Question::Playing { id, request: Box::new(request.clone()), number };
        self.ask(question, Ask::Playing { call: below, control }, out);
    }

    pub(super) fn playing_answered(
        &mut self,
        clock: Clock,
        id: ServerId,
        request: &Request,
        number: u32,
        status: u16,
        out: &mut Vec<Output>,
    ) {
        let mut response = request.response(status);
        if response.is_success() {
            response.set_body(MANSRTSP, mansrtsp::Answer { status, cseq: number }.write());
        }
        self.world(clock, out).respond(id, &response);
    }

    pub(super) fn expire_calls(&mut self, clock: Clock, out: &mut Vec<Output>) {
        let late = |call: &Call| call.next_timeout().is_some_and(|until| clock.now >= until);
        let all: Vec<CallId> = self.calls.iter().filter(|(_, call)| late(call)).map(|(id, _)| *id).collect();
        for id in all {
            match self.calls.get(&id).map(|call| call.phase) {
                Some(Phase::Invited(_)) => self.fail(clock, id, 408, "nothing came of it", out),
                Some(Phase::Confirmed) => self.probe(clock, id, out),
                Some(Phase::Starting(_)) => self.hang_up(clock, id, "no sender has begun", out),
                _ => self.hang_up(clock, id, "the recording is at its end", out),
            }
        }
    }

    /// Asks the platform above whether it still knows a call.
    fn probe(&mut self, clock: Clock, id: CallId, out: &mut Vec<Output>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.next_probe = clock.now.after_millis(PROBE_MS);
        // Without a way there the link says when there is one again.
        let Some(hop) = self.links[call.upstream].hop else { return };
        let Some(request) = call.dialog.as_mut().map(|dialog| dialog.request(Method::Options)) else { return };
        let answer_ms = self.section.answer_ms;
        let world = self.world(clock, out);
        let probe = world.transactions.request(world.now, hop, request, answer_ms);
        if let Some(call) = self.calls.get_mut(&id) {
            call.probe = probe;
        }
    }

    pub(super) fn probe_of(&self, client: ClientId) -> Option<CallId> {
        self.calls.iter().find(|(_, call)| call.probe == Some(client)).map(|(id, _)| *id)
    }

    pub(super) fn probed(&mut self, clock: Clock, id: CallId, response: Option<&Response>, out: &mut Vec<Output>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let link = &mut self.links[call.upstream];
        call.probe = None;
        match response.map(|response| response.status) {
            Some(408 | 481) => self.hang_up(clock, id, "the platform above does not know it any more", out),
            Some(_) => (link.answers_options, call.is_doubted) = (true, false),
            // Not all answer OPTIONS.
            None if link.answers_options || call.is_doubted => {
                self.hang_up(clock, id, "the platform above does not say whether it still knows it", out);
            }
            None => {}
        }
    }

    /// A platform above has registered us anew: perhaps it has forgotten its calls.
    pub(super) fn doubt_calls(&mut self, clock: Clock, at: usize, out: &mut Vec<Output>) {
        let is_old = |call: &Call| call.upstream == at && call.phase == Phase::Confirmed;
        let old: Vec<CallId> = self.calls.iter().filter(|(_, call)| is_old(call)).map(|(id, _)| *id).collect();
        for id in old {
            if let Some(call) = self.calls.get_mut(&id) {
                call.is_doubted = true;
            }
            self.probe(clock, id, out);
        }
    }

    /// Answers a call that has not been answered.
    fn fail(&mut self, clock: Clock, id: CallId, status: u16, why: &str, out: &mut Vec<Output>) {
        if let Some(call) = self.calls.get(&id) {
            let (server, response) = (call.server, call.invite.response(status));
            let mut world = self.world(clock, out);
            world.note(log::Level::Info, Some("upstream_call_refused"), format!("upstream: a call is answered {status}: {why}"));
            world.respond(server, &response);
        }
        self.end(clock, id, &format!("answered {status}: {why}"), out);
    }

    /// Ends a call, with a BYE if it has been answered.
    pub(super) fn hang_up(&mut self, clock: Clock, id: CallId, why: &str, out: &mut Vec<Output>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if matches!(call.phase, Phase::Invited(_)) {
            return self.fail(clock, id, 480, why, out);
        }
        let bye = call.dialog.as_mut().map(|dialog| dialog.request(Method::Bye));
        // A new connection may have taken the place of the one that the call came by.
        let hop = self.links[call.upstream].hop.unwrap_or(call.hop);
        let answer_ms = self.section.answer_ms;
        if let Some(bye) = bye {
            let world = self.world(clock, out);
            world.transactions.request(world.now, hop, bye, answer_ms);
        }
        self.end(clock, id, why, out);
    }

    fn end(&mut self, clock: Clock, id: CallId, why: &str, out: &mut Vec<Output>) {
        let Some(call) = self.calls.remove(&id) else { return };
        if call.has_sender {
            out.push(Output::Wish(Wish::CloseSender(id)));
        }
        if let Some(below) = call.below {
            self.ask(Question::Nothing, Ask::Stop(below), out);
        }
        let upstream = &self.links[call.upstream].config.id;
        let message = format!("upstream {upstream}: {} of {} is over: {why}", call.kind.name(), call.channel);
        out.push(Output::Wish(Wish::Note { level: log::Level::Info, reason: None, message }));
        if self.calls_over.len() == CALLS_OVER_MAX {
            self.calls_over.pop_front();
        }
        let view = UpstreamCallView { state: "ended", detail: why.to_owned(), ..call.view(clock.now) };
        self.calls_over.push_back((call.upstream, view));
    }
}

/// A request for a call, and where it came from.
struct Incoming {
    at: usize,
    id: ServerId,
    hop: Hop,
    request: Request,
}

/// What bodies of messages are called.
pub(super) const BODY: &str = link::MANSCDP;
