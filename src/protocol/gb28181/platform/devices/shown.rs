//! Devices and their answers, as the operator is shown them.

use std::collections::BTreeMap;

use super::channels::{Channel, Extent};
use super::queries::Parts;
use super::subscriptions::{State, name};
use super::{Device, Devices, Id, Presence};
use crate::media::Stamp;
use crate::protocol::gb28181::manscdp::device::{DutyStatus, OnOff, Online};
use crate::protocol::gb28181::manscdp::{
    CruiseName, CruisePoint, DeviceStatus, ItemEvent, ItemStatus, Outcome, Preset, PtzPosition, Record, RecordType, Section,
};
use crate::protocol::gb28181::platform::view::{
    ChannelView, ConfigView, CruiseNameView, CruisePointView, CruiseView, DeviceView, PresetView, PtzPositionView, RecordView,
    RecordsView, StatusView, SubscriptionView,
};
use crate::session::StreamKey;

/// The first segment of the names of all streams that calls bring.
pub const STREAM_APP: &str = "gb";

impl Devices {
    pub(super) fn device_views(&self, now: Stamp) -> Vec<DeviceView> {
        self.by_id.iter().map(|(id, device)| device.view(now, id)).collect()
    }

    pub(super) fn device_view(&self, now: Stamp, id: &Id) -> DeviceView {
        self.by_id.get(id).map(|device| device.view(now, id)).unwrap_or_default()
    }

    pub(super) fn channel_views(&self, id: &Id) -> Vec<ChannelView> {
        let channels = self.by_id.get(id).into_iter().flat_map(|device| device.channels.all());
        channels.map(|channel| channel_view(id, channel)).collect()
    }

    pub(super) fn subscription_views(&self, now: Stamp, id: &Id) -> Vec<SubscriptionView> {
        let all = self.by_id.get(id).into_iter().flat_map(|device| device.subscriptions.all());
        let view = |(subject, subscription): (_, &super::subscriptions::Subscription)| SubscriptionView {
            event: name(subject),
            state: match subscription.state {
                State::Asked => "asked",
                State::Active => "active",
                State::Ended => "ended",
            },
            detail: subscription.detail.clone(),
            expires_ms: subscription.expires.map(|expires| expires.millis_since(now)),
        };
        all.map(view).collect()
    }
}

impl Device {
    fn view(&self, now: Stamp, id: &Id) -> DeviceView {
        let is_heard = self.presence != Presence::Unheard;
        DeviceView {
            id: id.to_string(),
            online: self.presence == Presence::Online,
            detail: self.detail(),
            transport: is_heard.then_some(if self.is_udp { "udp" } else { "tcp" }),
            address: Some(self.peer.to_string()),
            registered_age_ms: self.registered.map(|registered| now.millis_since(registered)),
            keepalive_age_ms: self.keepalive.map(|keepalive| now.millis_since(keepalive)),
            expires_ms: (self.expires > now).then(|| self.expires.millis_since(now)),
            version: self.version.clone(),
            agent: self.agent.clone(),
            name: some(&self.info.device_name),
            manufacturer: some(&self.info.manufacturer),
            model: some(&self.info.model),
            firmware: some(&self.info.firmware),
            channels: self.channels.len(),
            channels_announced: self.channels.announced,
            status: self.status.as_ref().map(status_view),
        }
    }

    fn detail(&self) -> String {
        let presence = match self.presence {
            Presence::Unheard => "not heard of since the start",
            Presence::Online if self.hop.is_none() => "online, but its connection is closed, and it must open the next one",
            Presence::Online => "online",
            Presence::Offline(absence) => absence.words(),
        };
        match self.channels.extent {
            Extent::Whole => presence.to_owned(),
            Extent::Nothing => format!("{presence}; its catalog has not come"),
            Extent::Part(items) => format!("{presence}; its catalog is not complete: {items} items have come"),
        }
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn status_view(status: &DeviceStatus) -> StatusView {
    let fields = &status.fields;
    let is_on = |value: Option<OnOff>| value.map(|value| value == OnOff::On);
    let duty = |duty: Option<DutyStatus>| match duty {
        Some(DutyStatus::OnDuty) => "on_duty",
        Some(DutyStatus::OffDuty) => "off_duty",
        Some(DutyStatus::Alarm) => "alarm",
        None => "unknown",
    };
    StatusView {
        online: fields.online.map(|online| online == Online::Online),
        ok: fields.status.map(|status| status == Outcome::Ok),
        reason: some(&fields.reason),
        encoding: is_on(fields.encode),
        recording: is_on(fields.record),
        device_time: some(&fields.device_time),
        alarms: status.alarm_inputs.iter().map(|input| (input.device_id.clone(), duty(input.duty_status).to_owned())).collect(),
    }
}

fn channel_view(device: &Id, channel: &Channel) -> ChannelView {
    let (item, kind) = (&channel.item, kind_of(&channel.item.device_id));
    let is_played = matches!(kind, "camera" | "ip_camera" | "other") || *item.device_id == **device;
    let stream = StreamKey::parse(&format!("{STREAM_APP}/{device}/{}", item.device_id)).ok();
    ChannelView {
        id: item.device_id.clone(),
        device: device.to_string(),
        stream: stream.filter(|_| is_played).map(|stream| stream.to_string()),
        kind,
        name: some(&item.name),
        manufacturer: some(&item.manufacturer),
        model: some(&item.model),
        owner: some(&item.owner),
        civil_code: some(&item.civil_code),
        address: some(&item.address),
        parental: item.parental.map(|parental| parental != 0),
        parent_id: some(&item.parent_id),
        online: item.status.map(|status| status == ItemStatus::On),
        event: channel.event.map(|event| event_name(event).to_owned()),
        ptz_type: item.info.ptz_type,
        longitude: item.longitude,
        latitude: item.latitude,
    }
}

const fn event_name(event: ItemEvent) -> &'static str {
    match event {
        ItemEvent::On => "ON",
        ItemEvent::Off => "OFF",
        ItemEvent::VideoLoss => "VLOST",
        ItemEvent::Defect => "DEFECT",
        ItemEvent::Add => "ADD",
        ItemEvent::Delete => "DEL",
        ItemEvent::Update => "UPDATE",
    }
}

/// GB/T 28181-2016 Annex D.1: digits 11 to 13. Ids of 2 to 8 digits are regions; of others that are not of 20 digits nothing is known.
pub fn kind_of(id: &str) -> &'static str {
    if !id.bytes().all(|byte| byte.is_ascii_digit()) {
        return "other";
    }
    match id.len() {
        0..=8 => return "region",
        20 => {}
        _ => return "other",
    }
    match id[10..13].parse().unwrap_or(0) {
        111u16 => "video_recorder",
        112 => "video_server",
        113 => "encoder",
        114 => "decoder",
        115 | 116 => "matrix",
        117 => "alarm_controller",
        118 => "network_recorder",
        130 => "hybrid_recorder",
        131 => "camera",
        132 => "ip_camera",
        133 => "display",
        134 => "alarm_input",
        135 => "alarm_output",
        136 => "audio_input",
        137 => "audio_output",
        215 => "group",
        216 => "virtual_group",
        200..=299 => "platform",
        300..=499 => "user",
        _ => "other",
    }
}

pub(super) fn records_view(parts: Parts<Record>, complete: bool) -> RecordsView {
    let kept_all = parts.items.len() == parts.seen;
    let announced = parts.sum.unwrap_or(u32::try_from(parts.seen).unwrap_or(u32::MAX));
    RecordsView { announced, complete: complete && kept_all, records: parts.items.into_iter().map(record_view).collect() }
}

fn record_view(record: Record) -> RecordView {
    let some = |text: String| (!text.is_empty()).then_some(text);
    let kind = record.kind.map(|kind| match kind {
        RecordType::All => "all",
        RecordType::Time => "time",
        RecordType::Alarm => "alarm",
        RecordType::Manual => "manual",
    });
    RecordView {
        channel: record.device_id,
        name: some(record.name),
        path: some(record.file_path),
        address: some(record.address),
        start: some(record.start_time),
        end: some(record.end_time),
        secrecy: record.secrecy,
        kind: kind.map(str::to_owned),
        recorder: some(record.recorder_id),
        bytes: record.file_size,
    }
}

pub(super) fn config_view(sections: Vec<Section>) -> ConfigView {
    let fields = |section: Section| (section.name, section.fields.into_iter().collect::<BTreeMap<_, _>>());
    ConfigView { sections: sections.into_iter().map(fields).collect() }
}

/// Presets that have no number are left out.
pub(super) fn preset_views(presets: Vec<Preset>) -> Vec<PresetView> {
    let view = |preset: Preset| Some(PresetView { number: preset.id.parse().ok()?, name: some(&preset.name) });
    presets.into_iter().filter_map(view).collect()
}

/// Tracks that have no number are left out.
pub(super) fn cruise_views(tracks: Vec<CruiseName>) -> Vec<CruiseNameView> {
    tracks.into_iter().filter_map(cruise_name_view).collect()
}

fn cruise_name_view(track: CruiseName) -> Option<CruiseNameView> {
    Some(CruiseNameView { number: track.number?, name: some(&track.name) })
}

/// Points without a preset are left out.
pub(super) fn cruise_view(track: CruiseName, points: Vec<CruisePoint>) -> CruiseView {
    let point = |point: CruisePoint| Some(CruisePointView { preset: point.preset?, stay_s: point.stay_time, speed: point.speed });
    CruiseView { track: cruise_name_view(track).unwrap_or_default(), points: points.into_iter().filter_map(point).collect() }
}

pub(super) fn ptz_position_view(said: &PtzPosition) -> PtzPositionView {
    PtzPositionView {
        pan: said.pan,
        tilt: said.tilt,
        zoom: said.zoom,
        horizontal_angle: said.horizontal_angle,
        vertical_angle: said.vertical_angle,
        distance_m: said.distance,
    }
}
