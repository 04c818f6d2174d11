//! What is asked of the platform that devices register with, on behalf of one above: channels, records, presets, movements, calls.
//!
//! Limits: [`QUESTIONS_MAX`] under way; more find nobody. Not here: how the platform above is answered (`answers`, `calls`).

use super::{Cascade, Clock, Output};
use crate::protocol::gb28181::manscdp::{Outcome, Preset, Presets, Response};
use crate::protocol::gb28181::platform::ask::{Answer, Ask, RefusedKind};
use crate::protocol::gb28181::platform::view::ChannelView;
use crate::protocol::gb28181::platform::{CallId, Ticket};
use crate::protocol::gb28181::sip::message::Request;
use crate::protocol::gb28181::sip::transaction::ServerId;

pub const QUESTIONS_MAX: usize = 4_096;

/// What is done about an answer. `at`: the link; `sn` and `device`: of what the platform above has asked.
#[derive(Debug)]
pub(super) enum Question {
    Devices,
    Channels {
        online: bool,
    },
    Records {
        at: usize,
        sn: u64,
        device: String,
        name: String,
    },
    Presets {
        at: usize,
        sn: u64,
        device: String,
    },
    Control {
        at: usize,
        sn: u64,
        device: String,
        is_answered: bool,
    },
    /// A device is to send what a call wants.
    Call(CallId),
    /// How a playback goes on.
    Playing {
        id: ServerId,
        request: Box<Request>,
        number: u32,
    },
    /// Nobody waits for the answer.
    Nothing,
}

/// A look at the channels of all devices.
#[derive(Debug, Default)]
pub(super) struct Look {
    missing: usize,
    found: Vec<(bool, ChannelView)>,
}

impl Cascade {
    pub(super) fn ask(&mut self, question: Question, ask: Ask, out: &mut Vec<Output>) {
        let ticket = Ticket(self.number());
        // Those about channels are ours, and answered at once.
        let is_own = matches!(question, Question::Devices | Question::Channels { .. });
        if is_own || self.questions.len() < QUESTIONS_MAX {
            self.questions.insert(ticket, question);
        }
        out.push(Output::Ask { ticket, ask });
    }

    pub(super) fn look_at_devices(&mut self, out: &mut Vec<Output>) {
        self.look = Some(Look::default());
        self.ask(Question::Devices, Ask::Devices, out);
    }

    pub(super) fn question_answered(&mut self, clock: Clock, ticket: Ticket, answer: Answer, out: &mut Vec<Output>) {
        let Some(question) = self.questions.remove(&ticket) else { return };
        match question {
            Question::Devices => self.devices_found(clock, answer, out),
            Question::Channels { online } => self.channels_found(clock, online, answer, out),
            Question::Records { at, sn, device, name } => {
                let records = match answer {
                    Answer::Records(view) => view.records,
                    _ => Vec::new(),
                };
                let parts = self.record_parts(at, &name, records);
                self.tell_answer(clock, at, sn, &device, parts, out);
            }
            Question::Presets { at, sn, device } => {
                let presets = match answer {
                    Answer::Presets(presets) => presets,
                    _ => Vec::new(),
                };
                let preset = |view: crate::protocol::gb28181::platform::view::PresetView| Preset {
                    id: view.number.to_string(),
                    name: view.name.unwrap_or_default(),
                };
                let presets: Vec<Preset> = presets.into_iter().map(preset).collect();
                let answer = Response::PresetQuery(Presets { sum: Some(presets.len() as u32), presets });
                self.tell_answer(clock, at, sn, &device, vec![answer], out);
            }
            Question::Control { at, sn, device, is_answered } if is_answered => {
                let outcome = if matches!(answer, Answer::Refused(_)) { Outcome::Error } else { Outcome::Ok };
                self.tell_answer(clock, at, sn, &device, vec![Response::plain("DeviceControl", outcome)], out);
            }
            Question::Control { .. } | Question::Nothing => {}
            Question::Call(call) => self.device_answered(clock, call, answer, out),
            Question::Playing { id, request, number } => {
                let status = match answer {
                    Answer::Refused(refused) => status_of(refused.kind),
                    _ => 200,
                };
                self.playing_answered(clock, id, &request, number, status, out);
            }
        }
    }

    fn devices_found(&mut self, clock: Clock, answer: Answer, out: &mut Vec<Output>) {
        let Answer::Devices(devices) = answer else {
            self.look = None;
            return;
        };
        let cameras = devices.into_iter().filter(|device| device.channels > 0);
        let asks: Vec<(bool, String)> = cameras.map(|device| (device.online, device.id)).collect();
        self.look = Some(Look { missing: asks.len(), found: Vec::new() });
        if asks.is_empty() {
            return self.look_is_over(clock, out);
        }
        for (online, device) in asks {
            self.ask(Question::Channels { online }, Ask::Channels(device), out);
        }
    }

    fn channels_found(&mut self, clock: Clock, online: bool, answer: Answer, out: &mut Vec<Output>) {
        let Some(look) = &mut self.look else { return };
        if let Answer::Channels(channels) = answer {
            look.found.extend(channels.into_iter().map(|channel| (online, channel)));
        }
        look.missing = look.missing.saturating_sub(1);
        if look.missing == 0 {
            self.look_is_over(clock, out);
        }
    }

    fn look_is_over(&mut self, clock: Clock, out: &mut Vec<Output>) {
        if let Some(look) = self.look.take()
            && self.channels.set_cameras(look.found)
        {
            self.channels_changed(clock, out);
        }
    }
}

/// What the platform above is told where the one below has refused.
pub(super) fn status_of(kind: RefusedKind) -> u16 {
    match kind {
        RefusedKind::NotFound => 404,
        RefusedKind::Bad => 400,
        RefusedKind::Conflict | RefusedKind::Device => 480,
        RefusedKind::Full => 486,
        RefusedKind::Silent => 408,
    }
}
