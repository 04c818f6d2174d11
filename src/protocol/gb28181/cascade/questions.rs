//! What is asked of the platform that devices register with, on behalf of one above: channels, records, presets, movements, calls.
//!
//! Limits: [`QUESTIONS_MAX`] under way; more find nobody. Not here: how the platform above is answered (`answers`, `calls`).

use std::collections::{BTreeMap, HashSet};

use super::{Cascade, Clock, Output};
use crate::media::Stamp;
use crate::protocol::gb28181::manscdp::{Outcome, Preset, Presets, Response};
use crate::protocol::gb28181::platform::ask::{Answer, Ask, RefusedKind};
use crate::protocol::gb28181::platform::view::ChannelView;
use crate::protocol::gb28181::platform::{CallId, Ticket};
use crate::protocol::gb28181::sip::message::Request;
use crate::protocol::gb28181::sip::transaction::ServerId;

pub const QUESTIONS_MAX: usize = 4_096;
/// Devices of which it is remembered that they have news.
const DEVICES_NEWS_MAX: usize = 1_024;
/// How often all are asked, in case something was overlooked.
const ALL_DEVICES_MS: u64 = 60_000;
/// The time from one look at the devices to the next: a thousand that come at once are looked at together.
const LOOK_MS: u64 = 2_000;

/// What is done about an answer. `at`: the link; `sn` and `device`: of what the platform above has asked.
#[derive(Debug)]
pub(super) enum Question {
    Devices,
    Channels {
        device: String,
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

/// A look at the devices: how many answers of those that are asked for their channels are missing.
#[derive(Debug, Default)]
pub(super) struct Look {
    missing: usize,
    is_news: bool,
}

/// What is known of devices. Only those are asked again for their channels that have changed, or have another number of them.
#[derive(Debug, Default)]
pub(super) struct Below {
    devices: BTreeMap<String, Known>,
    /// Those that have changed since they were asked; more than [`DEVICES_NEWS_MAX`] are all.
    news: HashSet<String>,
    looked: Option<Stamp>,
    /// When all are asked.
    next_all: Stamp,
}

#[derive(Debug, Default)]
struct Known {
    online: bool,
    count: usize,
    channels: Vec<ChannelView>,
}

impl Below {
    fn has_news(&self, device: &str) -> bool {
        self.news.len() > DEVICES_NEWS_MAX || self.news.contains(device)
    }
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

    /// A device has come or gone, or has other channels.
    pub fn device_changed(&mut self, now: Stamp, device: String) {
        if !self.looks_at_devices {
            return;
        }
        if self.below.news.len() <= DEVICES_NEWS_MAX {
            self.below.news.insert(device);
        }
        let soon = self.below.looked.map_or(now, |looked| looked.after_millis(LOOK_MS).max(now));
        self.next_look = self.next_look.min(soon);
    }

    pub(super) fn look_at_devices(&mut self, now: Stamp, out: &mut Vec<Output>) {
        self.look = Some(Look::default());
        if now >= self.below.next_all {
            self.below.next_all = now.after_millis(ALL_DEVICES_MS);
            self.below.devices.values_mut().for_each(|known| known.count = 0);
        }
        (self.below.looked, self.next_look) = (Some(now), self.below.next_all);
        self.ask(Question::Devices, Ask::Devices, out);
    }

    pub(super) fn question_answered(&mut self, clock: Clock, ticket: Ticket, answer: Answer, out: &mut Vec<Output>) {
        let Some(question) = self.questions.remove(&ticket) else { return };
        match question {
            Question::Devices => self.devices_found(clock, answer, out),
            Question::Channels { device } => self.channels_found(clock, &device, answer, out),
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
        let mut before = std::mem::take(&mut self.below.devices);
        let (mut asks, mut is_news) = (Vec::new(), false);
        for device in devices.into_iter().filter(|device| device.channels > 0) {
            let mut known = before.remove(&device.id).unwrap_or_default();
            is_news |= known.online != device.online;
            if known.count != device.channels || self.below.has_news(&device.id) {
                asks.push(device.id.clone());
            }
            (known.online, known.count) = (device.online, device.channels);
            self.below.devices.insert(device.id, known);
        }
        self.below.news.clear();
        self.look = Some(Look { missing: asks.len(), is_news: is_news || !before.is_empty() });
        if asks.is_empty() {
            return self.look_is_over(clock, out);
        }
        for device in asks {
            self.ask(Question::Channels { device: device.clone() }, Ask::Channels(device), out);
        }
    }

    fn channels_found(&mut self, clock: Clock, device: &str, answer: Answer, out: &mut Vec<Output>) {
        let Some(look) = &mut self.look else { return };
        if let (Answer::Channels(channels), Some(known)) = (answer, self.below.devices.get_mut(device))
            && known.channels != channels
        {
            known.channels = channels;
            look.is_news = true;
        }
        look.missing = look.missing.saturating_sub(1);
        if look.missing == 0 {
            self.look_is_over(clock, out);
        }
    }

    fn look_is_over(&mut self, clock: Clock, out: &mut Vec<Output>) {
        if !self.look.take().is_some_and(|look| look.is_news) {
            return;
        }
        let all = self.below.devices.values();
        let cameras = all.flat_map(|known| known.channels.iter().map(|channel| (known.online, channel.clone())));
        if self.channels.set_cameras(cameras.collect()) {
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
