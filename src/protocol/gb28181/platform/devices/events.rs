//! The last alarms and positions of devices, as they came.
//!
//! Limits: [`ALARMS_PER_DEVICE_MAX`] and [`ALARMS_MAX`], the oldest go; [`POSITIONS_PER_DEVICE_MAX`] and [`POSITIONS_MAX`], those of more
//! channels are not kept and counted. Texts are cut.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::{Devices, Id, cut, kept};
use crate::media::Stamp;
use crate::protocol::gb28181::manscdp::{Alarm, Position};
use crate::protocol::gb28181::platform::context::Context;
use crate::protocol::gb28181::platform::view::{AlarmView, PositionView};

pub const ALARMS_PER_DEVICE_MAX: usize = 100;
/// Of all devices.
pub const ALARMS_MAX: usize = 50_000;
pub const POSITIONS_PER_DEVICE_MAX: usize = 1_000;
/// Of all devices.
pub const POSITIONS_MAX: usize = 50_000;

#[derive(Debug)]
struct Told<T> {
    at: Stamp,
    device: Id,
    channel: String,
    what: T,
}

#[derive(Debug, Default)]
pub(super) struct Events {
    /// In order.
    alarms: BTreeMap<u64, Told<Alarm>>,
    alarms_of: HashMap<Id, VecDeque<u64>>,
    last_alarm: u64,
    positions_of: HashMap<Id, BTreeMap<String, Told<Position>>>,
    positions: usize,
}

impl Events {
    fn add_alarm(&mut self, told: Told<Alarm>) {
        self.last_alarm += 1;
        let of_device = self.alarms_of.entry(told.device.clone()).or_default();
        of_device.push_back(self.last_alarm);
        let oldest = if of_device.len() > ALARMS_PER_DEVICE_MAX { of_device.pop_front() } else { None };
        self.alarms.insert(self.last_alarm, told);
        if let Some(oldest) = oldest {
            self.alarms.remove(&oldest);
        } else if self.alarms.len() > ALARMS_MAX {
            self.drop_oldest_alarm();
        }
    }

    fn drop_oldest_alarm(&mut self) {
        let Some((_, told)) = self.alarms.pop_first() else { return };
        // Numbers grow, so it is the oldest of its device as well.
        if let Some(of_device) = self.alarms_of.get_mut(&told.device) {
            of_device.pop_front();
            if of_device.is_empty() {
                self.alarms_of.remove(&told.device);
            }
        }
    }

    /// `false`: there is no room for one more channel.
    fn set_position(&mut self, told: Told<Position>) -> bool {
        let of_device = self.positions_of.entry(told.device.clone()).or_default();
        let is_new = !of_device.contains_key(&told.channel);
        if is_new && (of_device.len() >= POSITIONS_PER_DEVICE_MAX || self.positions >= POSITIONS_MAX) {
            return false;
        }
        self.positions += usize::from(is_new);
        of_device.insert(told.channel.clone(), told);
        true
    }

    pub fn forget(&mut self, device: &Id) {
        for number in self.alarms_of.remove(device).unwrap_or_default() {
            self.alarms.remove(&number);
        }
        self.positions -= self.positions_of.remove(device).map_or(0, |positions| positions.len());
    }

    /// The newest first; of all devices if there is no `device`.
    pub fn alarms(&self, now: Stamp, device: Option<&str>) -> Vec<AlarmView> {
        match device {
            Some(device) => {
                let numbers = self.alarms_of.get(device).into_iter().flatten().rev();
                numbers.filter_map(|number| self.alarms.get(number)).map(|told| told.alarm_view(now)).collect()
            }
            None => self.alarms.values().rev().map(|told| told.alarm_view(now)).collect(),
        }
    }

    pub fn positions(&self, now: Stamp, device: Option<&str>) -> Vec<PositionView> {
        let all = self.positions_of.iter().filter(|(id, _)| device.is_none_or(|device| device == &***id));
        let mut all: Vec<_> = all.flat_map(|(_, positions)| positions.values()).map(|told| told.position_view(now)).collect();
        all.sort_by(|a, b| (&a.device, &a.channel).cmp(&(&b.device, &b.channel)));
        all
    }
}

impl Devices {
    pub(super) fn alarm(&mut self, context: &mut Context<'_>, sender: &Id, about: &str, alarm: &Alarm) {
        let mut alarm = alarm.clone();
        cut(&mut alarm.fields.time);
        cut(&mut alarm.fields.description);
        cut(&mut alarm.event_type);
        let told = Told { at: context.now(), device: sender.clone(), channel: kept(about).unwrap_or_default(), what: alarm };
        context.note(log::Level::Debug, None, format!("alarm of device {sender}: {}", words(&told.what)));
        self.events.add_alarm(told);
    }

    pub(super) fn position(&mut self, context: &mut Context<'_>, sender: &Id, about: &str, position: &Position) {
        let mut position = position.clone();
        cut(&mut position.time);
        let told = Told { at: context.now(), device: sender.clone(), channel: kept(about).unwrap_or_default(), what: position };
        if !self.events.set_position(told) {
            let message = format!("a position of device {sender} is not kept: there are too many");
            self.note_fault(context, "gb28181_positions_full", message);
        }
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

impl Told<Alarm> {
    fn alarm_view(&self, now: Stamp) -> AlarmView {
        let fields = &self.what.fields;
        AlarmView {
            device: self.device.to_string(),
            channel: self.channel.clone(),
            age_ms: now.millis_since(self.at),
            priority: fields.priority,
            method: fields.method,
            kind: fields.alarm_type,
            detail: words(&self.what),
            time: some(&fields.time),
            description: some(&fields.description),
            longitude: fields.longitude,
            latitude: fields.latitude,
        }
    }
}

impl Told<Position> {
    fn position_view(&self, now: Stamp) -> PositionView {
        let position = &self.what;
        PositionView {
            device: self.device.to_string(),
            channel: self.channel.clone(),
            age_ms: now.millis_since(self.at),
            time: some(&position.time),
            longitude: position.longitude,
            latitude: position.latitude,
            speed_km_h: position.speed,
            direction_degrees: position.direction,
            altitude_m: position.altitude,
        }
    }
}

/// GB/T 28181-2016 A.2.5 b: method and type of an alarm.
fn words(alarm: &Alarm) -> String {
    let (method, kind) = (alarm.fields.method, alarm.fields.alarm_type);
    let name = match method {
        Some(1) => "by phone",
        Some(2) => "of a device",
        Some(3) => "by text message",
        Some(4) => "by position",
        Some(5) => "in the picture",
        Some(6) => "fault of a device",
        Some(7) => "of another kind",
        _ => return "of an unknown kind".to_owned(),
    };
    match (kind_words(method, kind), kind) {
        (Some(words), _) => format!("{name}: {words}"),
        (None, Some(kind)) => format!("{name}: type {kind}"),
        (None, None) => name.to_owned(),
    }
}

fn kind_words(method: Option<u8>, kind: Option<u32>) -> Option<&'static str> {
    Some(match (method?, kind?) {
        (2, 1) => "video loss",
        (2, 2) => "tampering",
        (2, 3) => "disk full",
        (2, 4) => "too hot",
        (2, 5) => "too cold",
        (5, 1) => "by hand",
        (5, 2) => "motion",
        (5, 3) => "object left",
        (5, 4) => "object removed",
        (5, 5) => "line crossed",
        (5, 6) => "intrusion",
        (5, 7) => "wrong way",
        (5, 8) => "loitering",
        (5, 9) => "flow",
        (5, 10) => "density",
        (5, 11) => "abnormal video",
        (5, 12) => "fast movement",
        (6, 1) => "disk fault",
        (6, 2) => "fan fault",
        _ => return None,
    })
}
