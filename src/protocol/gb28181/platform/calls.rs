//! Calls: live media, recordings and talks, from the wish to the end.
//!
//! GB/T 28181-2016 §9.2 (live), §9.8 (playback), §9.9 (download), §9.12 (talk), Annex B (MANSRTSP), Annex L (who connects). Wishes of viewers
//! and of the operator, SIP answers and requests, and what receivers and senders say go in; INVITE, BYE and INFO, receivers and senders, and
//! answers for the operator come out.
//!
//! A call that receives asks for a port, sends INVITE with it, and acknowledges the answer; where the server connects, INVITE comes first.
//! A talk announces itself by a MESSAGE, upon which the device calls. However a call ends, the other side is told (CANCEL or BYE), its port is
//! closed, and it is kept for the operator with its reason.
//!
//! | file | holds |
//! |---|---|
//! | `call` | one call, and how it is shown |
//! | `names` | the names of streams |
//! | `ssrc` | numbers of sources |
//! | `invite` | calls that receive, up to their media |
//! | `requests` | what devices want in a call, and their calls |
//! | `talk` | calls that send |
//! | `probe` | whether the device still knows a call that sends |
//! | `playing` | pause, seek and the like |
//! | `demand` | wishes of viewers, and how often a device is asked that fails |
//! | `end`, `finish` | why calls end, and what is done then |
//!
//! Limits: [`CALLS_MAX`] calls, [`ON_DEMAND_PER_DEVICE_MAX`] of a device that viewers have begun, [`ENDED_MAX`] of those that are over. Not here: devices, SIP itself, media.

mod call;
mod demand;
mod end;
mod finish;
mod invite;
mod names;
mod playing;
mod probe;
mod requests;
mod ssrc;
mod talk;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

pub use self::demand::ON_DEMAND_PER_DEVICE_MAX;
pub use self::requests::ALLOWED;

use self::call::{Call, Ended, Phase};
use self::demand::Demand;
use self::end::{ALL_SENT, Cause, End, seconds};
use self::invite::Wish;
use self::playing::Asked;
use self::ssrc::Ssrcs;
use super::ask::{Answer, Ask, Channel, Refused, RefusedKind};
use super::context::Context;
use super::view::CallKind;
use super::{CallId, Ticket};
use crate::config::{Gb28181, MediaTransport};
use crate::media::Stamp;
use crate::protocol::gb28181::manscdp::Charset;
use crate::protocol::gb28181::sip::Hop;
use crate::protocol::gb28181::sip::dialog::{Dialog, DialogKey};
use crate::protocol::gb28181::sip::message::{Method, Request, Response};
use crate::protocol::gb28181::sip::transaction::{ClientId, Failure, LIMIT_MS, ServerId};
use crate::session::{Reception, ReceptionEnd, ReceptionState, StreamKey};

/// More are refused.
pub const CALLS_MAX: usize = 10_000;
/// Of those that are over, the newest are shown.
pub const ENDED_MAX: usize = 256;
/// How long a shard is waited for.
const OPEN_MS: u64 = 10_000;
/// What is still on its way when a device says that all is sent.
const DRAIN_MS: u64 = 500;
/// Packets are counted each second: a pause in media must be longer to be seen.
const PAUSE_SEEN_MS_MIN: u64 = 3_000;
/// The answer to an INVITE, and the call of a device that is asked to, have so many times `answer_ms`: recorders wake cameras first.
const CALL_FACTOR: u64 = 3;

/// What calls must know of devices.
pub trait Registry {
    /// How a device that is there is reached.
    fn hop(&self, device: &str) -> Result<Hop, Refused>;
    /// Whether a viewer may make a device be asked for that channel.
    fn camera(&self, of: &Channel) -> Camera;
    /// Refuses a channel that the device does not have, as far as that is known.
    fn check_channel(&self, of: &Channel) -> Result<(), Refused>;
    fn charset(&self, device: &str) -> Charset;
    /// For a message that is answered with another one.
    fn next_sn(&mut self) -> u64;
}

/// Whether a device has a camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Camera {
    No,
    /// The catalog of the device has not come.
    MayBe,
    Listed,
}

/// Who waits for an answer to a request of ours.
#[derive(Debug)]
enum Sent {
    Invite(CallId),
    /// An INVITE that is wanted no more: a late 2xx is acknowledged and ended.
    Late {
        invite: Box<Request>,
        hop: Hop,
    },
    Playing(Asked),
    Announcement(CallId),
    /// Whether the device still knows the call.
    Probe(CallId),
}

#[derive(Debug)]
pub struct Calls {
    calls: BTreeMap<CallId, Call>,
    /// Of calls that receive.
    by_key: HashMap<StreamKey, CallId>,
    /// By device: those that run.
    by_device: HashMap<String, BTreeSet<CallId>>,
    by_dialog: HashMap<DialogKey, CallId>,
    sent: HashMap<ClientId, Sent>,
    /// Calls of devices that were accepted, as long as their ACK may be missing.
    accepted: HashMap<ServerId, CallId>,
    timers: BTreeSet<(Stamp, CallId)>,
    /// The newest last.
    ended: VecDeque<Ended>,
    demand: Demand,
    ssrcs: Ssrcs,
    last_id: u64,
}

impl Calls {
    /// `random`: another number in each process.
    pub fn new(settings: &Gb28181, random: u32) -> Self {
        Calls {
            calls: BTreeMap::new(),
            by_key: HashMap::new(),
            by_device: HashMap::new(),
            by_dialog: HashMap::new(),
            sent: HashMap::new(),
            accepted: HashMap::new(),
            timers: BTreeSet::new(),
            ended: VecDeque::new(),
            demand: Demand::default(),
            ssrcs: Ssrcs::new(&settings.domain, random),
            last_id: 0,
        }
    }

    /// `Err`: a question that is none of these.
    pub fn ask(&mut self, context: &mut Context<'_>, registry: &mut dyn Registry, ticket: Ticket, ask: Ask) -> Result<(), Ask> {
        let outcome = match ask {
            Ask::Play { of, options } => self.play_asked(context, registry, ticket, Wish::live(of, options)),
            Ask::Playback { of, from_unix_s, to_unix_s, options } => {
                self.recording_asked(context, registry, ticket, Wish::recorded(of, (from_unix_s, to_unix_s), None, options))
            }
            Ask::Download { of, from_unix_s, to_unix_s, speed, options } => self.recording_asked(
                context,
                registry,
                ticket,
                Wish::recorded(of, (from_unix_s, to_unix_s), Some(speed), options),
            ),
            Ask::Playing { call, control } => self.playing_asked(context, registry, ticket, call, control),
            Ask::Talk { of, stream } => self.talk_asked(context, registry, ticket, of, stream),
            Ask::Stop(id) => self.stop_asked(context, registry, ticket, id),
            Ask::Calls => {
                context.answer(ticket, Answer::Calls(self.views(context.now())));
                Ok(())
            }
            Ask::Call(id) => self.show(context, ticket, id),
            other => return Err(other),
        };
        if let Err(refused) = outcome {
            context.answer(ticket, Answer::Refused(refused));
        }
        Ok(())
    }

    fn views(&self, now: Stamp) -> Vec<super::view::CallView> {
        let running = self.calls.values().rev().map(|call| call.view(now));
        running.chain(self.ended.iter().rev().map(|ended| ended.view(now))).collect()
    }

    fn show(&self, context: &mut Context<'_>, ticket: Ticket, id: CallId) -> Result<(), Refused> {
        let now = context.now();
        let ended = || self.ended.iter().find(|ended| ended.id() == id).map(|ended| ended.view(now));
        let view = self.calls.get(&id).map(|call| call.view(now)).or_else(ended).ok_or_else(|| no_call(id))?;
        context.answer(ticket, Answer::Call(Box::new(view)));
        Ok(())
    }

    fn stop_asked(
        &mut self,
        context: &mut Context<'_>,
        registry: &mut dyn Registry,
        ticket: Ticket,
        id: CallId,
    ) -> Result<(), Refused> {
        if !self.calls.contains_key(&id) {
            let is_over = self.ended.iter().any(|ended| ended.id() == id);
            return Err(if is_over { refused(RefusedKind::Conflict, format!("call {} is over", id.0)) } else { no_call(id) });
        }
        self.end(context, registry, id, End::new(Cause::Wish, "stopped by the operator"));
        context.answer(ticket, Answer::Done);
        Ok(())
    }

    /// The device of a call, if media of it has come at this moment.
    pub fn heard_now(&self, now: Stamp, id: CallId) -> Option<&str> {
        let call = self.calls.get(&id).filter(|call| call.heard.1 == now && call.heard.0 > 0)?;
        Some(&call.of.device)
    }

    /// The device that a request was sent to which begins a call, or asks whether there still is one.
    pub fn asked(&self, id: ClientId) -> Option<&str> {
        match self.sent.get(&id)? {
            Sent::Invite(call) | Sent::Announcement(call) | Sent::Probe(call) => Some(&self.calls.get(call)?.of.device),
            Sent::Late { .. } | Sent::Playing(_) => None,
        }
    }

    /// A call of a device that is not over.
    pub fn any_of(&self, device: &str) -> Option<CallId> {
        self.of_device(device).next().map(|call| call.id)
    }

    /// What a receiver says of itself.
    pub fn reception(&mut self, context: &mut Context<'_>, registry: &mut dyn Registry, id: CallId, reception: Reception) {
        let now = context.now();
        let Some(call) = self.calls.get_mut(&id).filter(|call| call.kind != CallKind::Talk) else { return };
        if reception.received.received > call.heard.0 {
            call.heard = (reception.received.received, now);
        }
        let has_media = !matches!(reception.state, ReceptionState::Waiting | ReceptionState::Ended);
        if has_media && call.media.is_none() {
            // It is asked now and then: media came before that.
            let age_ms = reception.media_age_ms.unwrap_or(0).min(now.millis_since(call.began));
            (call.media, call.heard.1) = (Some(now.before_millis(age_ms)), now);
            self.demand.succeeded(&call.key);
        }
        let is_over = reception.state == ReceptionState::Ended;
        let (how, words) = (reception.end, reception.detail.clone());
        call.reception = Some(reception);
        if is_over {
            call.has_media_session = false;
            match std::mem::replace(&mut call.phase, Phase::Running) {
                Phase::Draining(end) => {
                    call.phase = Phase::Draining(end.clone());
                    self.end(context, registry, id, end);
                }
                phase => {
                    call.phase = phase;
                    let end = reception_end(call, how, words);
                    self.end(context, registry, id, end);
                }
            }
        }
    }

    /// An answer to a request of ours. `false`: it is none of these.
    pub fn response(
        &mut self,
        context: &mut Context<'_>,
        registry: &mut dyn Registry,
        id: ClientId,
        response: &Response,
    ) -> bool {
        let Some(sent) = self.sent.remove(&id) else { return false };
        if !response.is_final() {
            if let Sent::Invite(call) = sent {
                self.provisional(context, call);
            }
            self.sent.insert(id, sent);
            return true;
        }
        match sent {
            Sent::Invite(call) => self.invite_answered(context, registry, call, response),
            Sent::Late { invite, hop } => end_late(context, id, hop, &invite, response),
            Sent::Playing(asked) => self.playing_answered(context, &asked, response),
            Sent::Announcement(call) => self.announcement_answered(context, registry, call, response),
            Sent::Probe(call) => self.probe_answered(context, registry, call, response),
        }
        true
    }

    /// A request of ours that is not answered. `false`: it is none of these.
    pub fn failed(&mut self, context: &mut Context<'_>, registry: &mut dyn Registry, id: ClientId, failure: Failure) -> bool {
        let Some(sent) = self.sent.remove(&id) else { return false };
        let limit_ms = if matches!(sent, Sent::Invite(_)) { silence_ms(context) } else { context.settings.answer_ms };
        let end = match failure {
            Failure::Silence => End::silence(limit_ms),
            Failure::Closed => End::new(Cause::Gone, failure.to_string()),
        };
        match sent {
            Sent::Invite(call) => self.end(context, registry, call, end),
            Sent::Announcement(call) => self.announcement_failed(context, registry, call, end),
            Sent::Probe(call) => self.probe_failed(context, registry, call, &end),
            Sent::Playing(asked) => context.answer(asked.ticket, Answer::refused(RefusedKind::Silent, end.words)),
            Sent::Late { .. } => {}
        }
        true
    }

    pub fn next_timeout(&self) -> Option<Stamp> {
        self.timers.first().map(|(due, _)| *due)
    }

    pub fn timeout(&mut self, context: &mut Context<'_>, registry: &mut dyn Registry) {
        while let Some((due, id)) = self.timers.first().copied().filter(|(due, _)| *due <= context.now()) {
            self.timers.remove(&(due, id));
            if let Some(call) = self.calls.get_mut(&id) {
                call.due = None;
                self.due(context, registry, id);
            }
        }
    }

    fn due(&mut self, context: &mut Context<'_>, registry: &mut dyn Registry, id: CallId) {
        let Some(call) = self.calls.get(&id) else { return };
        let waited = seconds(OPEN_MS);
        let end = match &call.phase {
            Phase::Opening => End::new(Cause::NoReceiver, format!("no port was opened in {waited}")),
            Phase::Connecting => End::new(Cause::NoReceiver, format!("no connection to the device was made in {waited}")),
            Phase::Accepting { .. } => End::new(Cause::NoReceiver, format!("no sender was started in {waited}")),
            Phase::Inviting { has_provisional: false, .. } => End::silence(silence_ms(context)),
            Phase::Inviting { .. } => {
                let waited = seconds(CALL_FACTOR * context.settings.answer_ms);
                End::new(Cause::Silence, format!("no final SIP answer in {waited}, though the device was at it"))
            }
            Phase::Announced { .. } => {
                let waited = seconds(CALL_FACTOR * context.settings.answer_ms);
                End::new(Cause::Silence, format!("the device has not called in {waited}"))
            }
            Phase::Draining(end) => end.clone(),
            Phase::Running if call.kind == CallKind::Talk => return self.probe(context, registry, id),
            Phase::Running => match self.media_end(context, id) {
                Some(end) => end,
                None => return,
            },
        };
        self.end(context, registry, id, end);
    }

    /// Why a call that runs is over for want of media; else it is looked at again later.
    fn media_end(&mut self, context: &Context<'_>, id: CallId) -> Option<End> {
        let call = self.calls.get_mut(&id)?;
        let media_ms = context.settings.media_ms;
        let limit_ms = if call.plays() { media_ms.max(PAUSE_SEEN_MS_MIN) } else { media_ms };
        let silent_ms = context.now().millis_since(call.heard.1);
        if call.is_paused || silent_ms < limit_ms {
            let from = if call.is_paused { context.now() } else { call.heard.1 };
            self.wait(id, from.after_millis(limit_ms));
            return None;
        }
        if call.end_told {
            return Some(End::new(Cause::Wish, ALL_SENT));
        }
        let says = call.reception.as_ref().map_or("waiting for media", |reception| &reception.detail);
        let words = match call.plays() {
            true => format!("no media for {}, before that: {says}", seconds(limit_ms)),
            false => format!("the device has answered{} in {}, {says}", has_not(context, call), seconds(limit_ms)),
        };
        Some(End::new(Cause::NoMedia, words))
    }

    /// The call is looked at then.
    fn wait(&mut self, id: CallId, due: Stamp) {
        if let Some(call) = self.calls.get_mut(&id) {
            if let Some(old) = call.due.replace(due) {
                self.timers.remove(&(old, id));
            }
            self.timers.insert((due, id));
        }
    }

    fn wait_no_more(&mut self, id: CallId) {
        if let Some(old) = self.calls.get_mut(&id).and_then(|call| call.due.take()) {
            self.timers.remove(&(old, id));
        }
    }

    /// A call begins.
    fn add(&mut self, call: Call) {
        self.by_device.entry(call.of.device.clone()).or_default().insert(call.id);
        self.calls.insert(call.id, call);
    }

    fn take_off(&mut self, id: CallId) -> Option<Call> {
        let call = self.calls.remove(&id)?;
        if let Some(ids) = self.by_device.get_mut(&call.of.device) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_device.remove(&call.of.device);
            }
        }
        Some(call)
    }

    /// The calls of a device that run, the oldest first.
    fn of_device(&self, device: &str) -> impl Iterator<Item = &Call> {
        self.by_device.get(device).into_iter().flatten().filter_map(|id| self.calls.get(id))
    }

    fn next_id(&mut self) -> CallId {
        self.last_id += 1;
        CallId(self.last_id)
    }
}

/// What a device has not done of which no media came, as far as that is known.
fn has_not(context: &Context<'_>, call: &Call) -> &'static str {
    let may_connect = call.transport == MediaTransport::TcpPassive && context.settings.shared_port == 0;
    // Whoever has connected is told of, as anything that changes.
    let has_connected = call.reception.as_ref().is_some_and(|reception| reception.source.is_some());
    match (may_connect, has_connected) {
        (true, false) => " and not connected",
        (true, true) => ", connected and sent nothing",
        (false, _) => " and sent nothing",
    }
}

/// How long an INVITE is waited for of which nothing is heard.
fn silence_ms(context: &Context<'_>) -> u64 {
    (CALL_FACTOR * context.settings.answer_ms).min(LIMIT_MS)
}

/// A late answer to an INVITE that was given up.
fn end_late(context: &mut Context<'_>, id: ClientId, hop: Hop, invite: &Request, response: &Response) {
    if !response.is_success() {
        return;
    }
    if let Some(mut dialog) = Dialog::of_answer(invite, response) {
        context.transactions.ack(hop, id, dialog.ack());
        let bye = dialog.request(Method::Bye);
        context.send(hop, bye);
    }
}

/// A receiver that is over by itself: it says why.
fn reception_end(call: &Call, end: Option<ReceptionEnd>, words: String) -> End {
    let is_wish = match end {
        Some(ReceptionEnd::AsWished) => true,
        // Some devices close the connection when all is sent, and then say so.
        Some(ReceptionEnd::SenderLeft) => call.is_recorded() && call.plays(),
        Some(ReceptionEnd::Failed) | None => false,
    };
    End::new(if is_wish { Cause::Wish } else { Cause::NoMedia }, words)
}

fn refused(kind: RefusedKind, why: impl Into<String>) -> Refused {
    Refused { kind, why: why.into() }
}

fn no_call(id: CallId) -> Refused {
    refused(RefusedKind::NotFound, format!("no call {}", id.0))
}
