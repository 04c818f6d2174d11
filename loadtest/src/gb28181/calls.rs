//! Calls: INVITE, ACK, CANCEL, INFO, BYE (GB/T 28181 §9.2, §9.8, Annex B). Media itself is in `sender.rs`.

use serde_json::json;

use super::agent::{Dialog, T1, T2, TIMEOUT, Why};
use super::device::{CALLS_MAX, Device, Queued, millis};
use super::media::TICKS_PER_SECOND;
use super::sdp::{self, Description, Purpose};
use super::sender::{Plan, Sender, Sent};
use super::sip::{Message, user};
use super::turn::Turn;
use crate::poll::NANOS_PER_SECOND;

/// Between the last packet and what says that it was the last: media and SIP go different ways.
const LINGER: u64 = NANOS_PER_SECOND / 2;
/// After its goodbye a device keeps its sockets for so long: the other side closes first.
const CLOSE_AFTER: u64 = 2 * NANOS_PER_SECOND;

enum State {
    /// The answer goes at that time.
    Waiting {
        answer_at: u64,
    },
    /// The answer is repeated until it is acknowledged.
    Answered {
        bytes: Vec<u8>,
        resend_at: u64,
        interval: u64,
        until: u64,
    },
    Running,
    /// The last packet was sent.
    Ending {
        at: u64,
    },
    /// Everything was said; the other side hangs up.
    Ended,
    /// This side has hung up.
    Over {
        close_at: u64,
    },
}

pub struct Call {
    dialog: Dialog,
    invite: Message,
    channel: String,
    offer: Description,
    sender: Sender,
    state: State,
}

impl Call {
    pub fn next_due(&self) -> u64 {
        let media = self.sender.next_due();
        match &self.state {
            State::Waiting { answer_at } => *answer_at,
            State::Answered { resend_at, until, .. } => (*resend_at).min(*until),
            State::Running => media,
            State::Ending { at } => *at,
            State::Over { close_at } => *close_at,
            State::Ended => u64::MAX,
        }
    }

    pub fn sent(&self) -> Sent {
        self.sender.sent
    }

    pub fn go(&mut self, now: u64) {
        self.sender.go(now);
    }
}

impl Device {
    fn call(&self, request: &Message) -> Option<usize> {
        let call_id = request.header("Call-ID")?;
        let is_it = |call: &Call| call.dialog.call_id == call_id && !matches!(call.state, State::Over { .. });
        self.calls.iter().position(|call| call.as_ref().is_some_and(is_it))
    }

    pub fn invited(&mut self, request: &Message, turn: &mut Turn<'_>) {
        if let Some(at) = self.call(request) {
            // The same again, or a change that this device takes no notice of.
            return self.answer_invite(at, request, turn);
        }
        let channel = request.target().unwrap_or_default().to_owned();
        let offer = Description::parse(&request.body);
        self.tell_invite(request, &channel, offer.as_ref(), turn);
        if self.settings.quirks.silent {
            return;
        }
        if self.settings.quirks.busy {
            return self.respond(request, 486, "Busy Here", turn);
        }
        if !self.inventory.has(&channel) {
            return self.respond(request, 404, "Not Found", turn);
        }
        let Some(offer) = offer.filter(|offer| offer.purpose != Purpose::Talk) else {
            return self.respond(request, 488, "Not Acceptable Here", turn);
        };
        let Some(at) = self.calls.iter().position(Option::is_none) else {
            return self.respond(request, 486, "Busy Here", turn);
        };
        let tag = self.agent.random.word();
        let Some(dialog) = Dialog::of_request(request, &tag) else { return self.respond(request, 400, "Bad Request", turn) };
        let sender = match Sender::open(self.plan(&offer), &offer, self.agent.identity.local) {
            Ok(sender) => sender,
            Err(error) => {
                self.tell("failed", json!({ "channel": channel, "error": error.to_string() }), turn);
                return self.respond(request, 480, "Temporarily Unavailable", turn);
            }
        };
        self.agent.put(&Message::response(request, 100, "Trying"), turn);
        let late = if self.settings.quirks.late { millis(self.settings.args.late_ms) } else { 0 };
        let state = State::Waiting { answer_at: turn.now + late };
        self.calls[at] = Some(Call { dialog, invite: request.clone(), channel, offer, sender, state });
        if late == 0 {
            self.answer_invite(at, request, turn);
        }
    }

    fn tell_invite(&self, request: &Message, channel: &str, offer: Option<&Description>, turn: &mut Turn<'_>) {
        let offer = offer.map(|offer| {
            json!({ "purpose": offer.purpose.name(), "transport": offer.transport.name(), "ssrc": offer.ssrc, "address": offer.address,
                "start": offer.times.0, "end": offer.times.1, "speed": offer.speed })
        });
        let fields = json!({ "channel": channel, "subject": request.header("Subject"), "offer": offer });
        self.tell("invite", fields, turn);
    }

    fn plan(&self, offer: &Description) -> Plan {
        let args = &self.settings.args;
        let speed = offer.speed.filter(|_| offer.purpose == Purpose::Download).unwrap_or(1.0);
        // Keyframes of many devices are spread over their distance.
        let spread = millis(args.gop_ms) + NANOS_PER_SECOND / u64::from(args.fps);
        let offset = spread * self.number as u64 / u64::from(args.devices);
        Plan {
            clips: self.settings.clips.clone(),
            quirks: self.settings.quirks.clone(),
            repeats: !args.once && !offer.purpose.is_recorded(),
            held: args.hold,
            speed: speed.clamp(0.125, 64.0),
            publisher: self.number as u16,
            offset: if args.clip.is_none() { offset } else { 0 },
        }
    }

    fn answer_invite(&mut self, at: usize, request: &Message, turn: &mut Turn<'_>) {
        let Some(call) = &mut self.calls[at] else { return };
        let body = sdp::answer(&call.offer, &call.channel, call.sender.local(), call.sender.media(), &self.settings.quirks);
        let mut response = Message::response(request, 200, "OK").with("Contact", self.agent.identity.contact());
        response.change("To", |to| *to = call.dialog.local.clone());
        let bytes = self.agent.respond(request, &response.with_body("APPLICATION/SDP", body), turn);
        if matches!(call.state, State::Waiting { .. }) {
            call.state = State::Answered { bytes, resend_at: turn.now + T1, interval: T1, until: turn.now + TIMEOUT };
        }
    }

    pub fn acknowledged(&mut self, request: &Message, turn: &mut Turn<'_>) {
        let Some(at) = self.call(request) else { return };
        let Some(call) = &mut self.calls[at] else { return };
        if !matches!(call.state, State::Answered { .. }) {
            return;
        }
        call.state = State::Running;
        let started = call.sender.start(Device::slot(at), turn);
        let channel = call.channel.clone();
        match started {
            Ok(()) => self.tell("acknowledged", json!({ "channel": channel }), turn),
            Err(error) => self.tell("failed", json!({ "channel": channel, "error": error.to_string() }), turn),
        }
    }

    pub fn cancelled(&mut self, request: &Message, turn: &mut Turn<'_>) {
        let Some(at) = self.call(request) else { return self.respond(request, 481, "No Such Call", turn) };
        self.respond(request, 200, "OK", turn);
        self.tell("cancelled", json!({}), turn);
        if self.settings.quirks.late {
            return;
        }
        if let Some(call) = self.calls[at].take_if(|call| matches!(call.state, State::Waiting { .. })) {
            self.respond(&call.invite, 487, "Request Terminated", turn);
        }
    }

    pub fn goodbye(&mut self, request: &Message, turn: &mut Turn<'_>) {
        if self.ends_talk(request) {
            self.respond(request, 200, "OK", turn);
            return self.end_talk(turn);
        }
        let Some(call) = self.call(request).and_then(|at| self.calls[at].take()) else {
            return self.respond(request, 481, "No Such Call", turn);
        };
        self.respond(request, 200, "OK", turn);
        self.tell_bye(&call, "platform", turn);
    }

    fn tell_bye(&self, call: &Call, by: &str, turn: &mut Turn<'_>) {
        self.tell("bye", json!({ "channel": call.channel, "by": by, "sent": call.sender.sent.json() }), turn);
    }

    /// MANSRTSP.
    pub fn info(&mut self, request: &Message, turn: &mut Turn<'_>) {
        let Some(at) = self.call(request) else { return self.respond(request, 481, "No Such Call", turn) };
        let Some(call) = &mut self.calls[at] else { return };
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let mut sequence = "0";
        let mut fields = json!({ "channel": call.channel, "command": body.split_whitespace().next() });
        let method = body.split_whitespace().next().unwrap_or_default();
        let mut resumes = method == "PLAY";
        for (name, value) in body.lines().skip(1).filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.trim().to_ascii_lowercase().as_str() {
                "cseq" => sequence = value,
                "scale" => {
                    fields["scale"] = json!(value);
                    if let Some(speed) = value.parse().ok().filter(|speed: &f64| *speed > 0.0) {
                        call.sender.set_speed(speed.clamp(0.125, 64.0), turn.now);
                    }
                    resumes = false;
                }
                "range" => {
                    fields["range"] = json!(value);
                    if let Some(seconds) = range_begin(value) {
                        call.sender.seek((seconds * TICKS_PER_SECOND as f64) as u64, turn.now);
                        call.state = State::Running;
                        resumes = false;
                    }
                }
                _ => {}
            }
        }
        match method {
            "PAUSE" => call.sender.pause(),
            "PLAY" if resumes => call.sender.resume(turn.now),
            "TEARDOWN" => call.state = State::Ending { at: turn.now },
            _ => {}
        }
        let response = Message::response(request, 200, "OK");
        let answer = format!("RTSP/1.0 200 OK\r\nCSeq: {sequence}\r\n");
        self.agent.respond(request, &response.with_body("Application/MANSRTSP", answer.into_bytes()), turn);
        self.tell("info", fields, turn);
    }

    pub fn calls_due(&mut self, turn: &mut Turn<'_>) {
        for at in 0..CALLS_MAX {
            let Some(call) = &mut self.calls[at] else { continue };
            let now = turn.now;
            match &mut call.state {
                State::Waiting { answer_at } if *answer_at <= now => {
                    let invite = call.invite.clone();
                    self.answer_invite(at, &invite, turn);
                }
                State::Answered { until, .. } if *until <= now => {
                    self.tell("failed", json!({ "error": "no ACK" }), turn);
                    self.hang_up(at, turn);
                }
                State::Answered { bytes, resend_at, interval, .. } if *resend_at <= now => {
                    turn.out.push(bytes.clone());
                    *interval = (*interval * 2).min(T2);
                    *resend_at = now + *interval;
                }
                State::Running => self.media_due(at, turn),
                State::Ending { at: ends_at } if *ends_at <= now => self.end(at, turn),
                State::Over { close_at } if *close_at <= now => self.calls[at] = None,
                _ => {}
            }
        }
    }

    fn media_due(&mut self, at: usize, turn: &mut Turn<'_>) {
        let Some(call) = &mut self.calls[at] else { return };
        let before = call.sender.first_sent();
        let done = call.sender.send_due(Device::slot(at), turn);
        if call.sender.is_over() {
            call.state = State::Ending { at: turn.now + LINGER };
        }
        let (channel, first) = (call.channel.clone(), call.sender.first_sent());
        if let Err(error) = done {
            self.tell("failed", json!({ "channel": channel, "error": error.to_string() }), turn);
            self.hang_up(at, turn);
        } else if before.is_none() && first.is_some() {
            self.tell("media", json!({ "channel": channel }), turn);
        }
        let vanish_ms = self.settings.args.vanish_ms;
        if self.settings.quirks.vanishes && first.is_some_and(|first| first + millis(vanish_ms) <= turn.now) {
            self.vanish(turn);
        }
    }

    /// The clip is over: the end of a recording is told (§9.8), a live call is ended.
    fn end(&mut self, at: usize, turn: &mut Turn<'_>) {
        let Some(call) = &mut self.calls[at] else { return };
        if !call.offer.purpose.is_recorded() {
            return self.hang_up(at, turn);
        }
        call.state = State::Ended;
        let channel = call.channel.clone();
        self.tell("played", json!({ "channel": channel }), turn);
        let serial = self.serial();
        let body = self.inventory.media_status(serial, &channel);
        self.queue(Queued::Body(body), turn);
    }

    fn hang_up(&mut self, at: usize, turn: &mut Turn<'_>) {
        let Some(mut call) = self.calls[at].take_if(|call| !matches!(call.state, State::Over { .. })) else { return };
        let request = self.agent.in_dialog("BYE", &mut call.dialog);
        self.agent.send(&request, Why::Bye, turn);
        self.tell_bye(&call, "device", turn);
        call.state = State::Over { close_at: turn.now + CLOSE_AFTER };
        self.calls[at] = Some(call);
    }

    /// How far its calls are.
    pub fn tell_sent(&mut self, turn: &mut Turn<'_>) {
        for call in self.calls.iter().flatten() {
            self.tell("sent", json!({ "channel": call.channel, "sent": call.sender.sent.json() }), turn);
        }
    }

    pub fn end_calls(&mut self, turn: &mut Turn<'_>) {
        (0..CALLS_MAX).for_each(|at| self.hang_up(at, turn));
        self.hang_up_talk(turn);
    }

    pub fn call_ready(&mut self, at: usize, turn: &mut Turn<'_>) {
        let Some(call) = self.calls.get_mut(at).and_then(Option::as_mut) else { return };
        if let Err(error) = call.sender.ready(Device::slot(at), turn) {
            let channel = call.channel.clone();
            self.tell("failed", json!({ "channel": channel, "error": error.to_string() }), turn);
        }
    }
}

/// Seconds out of `npt=100-`, also where it is misspelt; `None` for `npt=now-`.
fn range_begin(value: &str) -> Option<f64> {
    let range = value.strip_prefix("npt=").or(value.strip_prefix("ntp="))?;
    range.split('-').next()?.trim().parse().ok()
}

/// The user that a request is for, be it a channel of this device.
pub fn addressee(request: &Message) -> &str {
    request.target().filter(|target| !target.is_empty()).or(request.header("To").map(user)).unwrap_or_default()
}
