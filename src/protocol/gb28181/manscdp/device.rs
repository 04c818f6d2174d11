//! What a device says of itself when asked (GB/T 28181-2016 A.2.6 c, d, i, j): who it is, how it is, how it is set, its presets.

use super::field::{self, Elements, elements, words};
use super::xml::{Element, Writer};

words! {
    pub enum Outcome {
        Ok = "OK",
        Error = "ERROR",
    }
}

words! {
    pub enum Online {
        Online = "ONLINE" | "ON" | "OK",
        Offline = "OFFLINE" | "OFF",
    }
}

words! {
    pub enum OnOff {
        On = "ON",
        Off = "OFF",
    }
}

words! {
    pub enum DutyStatus {
        OnDuty = "ONDUTY",
        OffDuty = "OFFDUTY",
        Alarm = "ALARM",
    }
}

elements! {
    /// `channel`: how many cameras it has.
    pub struct DeviceInfo {
        pub device_name: String = "DeviceName",
        pub result: Option<Outcome> = "Result",
        pub manufacturer: String = "Manufacturer",
        pub model: String = "Model",
        pub firmware: String = "Firmware",
        pub channel: Option<u32> = "Channel",
    }
}

elements! {
    /// `encode`: whether it encodes; `record`: whether it records; `device_time`: its clock, without a zone.
    pub struct StatusFields {
        pub result: Option<Outcome> = "Result",
        pub online: Option<Online> = "Online",
        pub status: Option<Outcome> = "Status",
        pub reason: String = "Reason",
        pub encode: Option<OnOff> = "Encode",
        pub record: Option<OnOff> = "Record",
        pub device_time: String = "DeviceTime",
    }
}

elements! {
    pub struct AlarmInput {
        pub device_id: String = "DeviceID",
        pub duty_status: Option<DutyStatus> = "DutyStatus",
    }
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct DeviceStatus {
    #[serde(flatten)]
    pub fields: StatusFields,
    pub alarm_inputs: Vec<AlarmInput>,
}

impl DeviceStatus {
    pub(super) fn read(root: &Element) -> Self {
        let alarm_inputs = root.listed("Alarmstatus", "Item").map(AlarmInput::read).collect();
        DeviceStatus { fields: StatusFields::read(root), alarm_inputs }
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        self.fields.write(writer);
        if !self.alarm_inputs.is_empty() {
            writer.list("Alarmstatus", "Item", &self.alarm_inputs, |writer, input| input.write(writer));
        }
    }
}

elements! {
    /// `expiration`, `heart_beat_interval`: seconds; `position_capability`: 0 none, 1 GPS, 2 BeiDou.
    pub struct BasicParam {
        pub name: String = "Name",
        pub device_id: String = "DeviceID",
        pub sip_server_id: String = "SIPServerID",
        pub sip_server_ip: String = "SIPServerIP",
        pub sip_server_port: Option<u16> = "SIPServerPort",
        pub domain_name: String = "DomainName",
        pub expiration: Option<u32> = "Expiration",
        pub heart_beat_interval: Option<u32> = "HeartBeatInterval",
        pub heart_beat_count: Option<u32> = "HeartBeatCount",
        pub position_capability: Option<u8> = "PositionCapability",
        pub longitude: Option<f64> = "Longitude",
        pub latitude: Option<f64> = "Latitude",
    }
}

elements! {
    /// `download_speed`, `resolution`: what it can do, joined by `/`.
    pub struct VideoParamOpt {
        pub download_speed: String = "DownloadSpeed",
        pub resolution: String = "Resolution",
    }
}

/// The settings that were asked for, as far as they are of the two kinds that are not about SVAC.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct DeviceConfig {
    pub result: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic: Option<BasicParam>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video_options: Option<VideoParamOpt>,
}

impl DeviceConfig {
    pub(super) fn read(root: &Element) -> Self {
        DeviceConfig {
            result: field::value(root, "Result"),
            basic: root.child("BasicParam").map(BasicParam::read),
            video_options: root.child("VideoParamOpt").map(VideoParamOpt::read),
        }
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.text("Result", &field::Field::write(&self.result));
        if let Some(basic) = &self.basic {
            writer.element("BasicParam", |writer| basic.write(writer));
        }
        if let Some(options) = &self.video_options {
            writer.element("VideoParamOpt", |writer| options.write(writer));
        }
    }
}

elements! {
    pub struct Preset {
        pub id: String = "PresetID",
        pub name: String = "PresetName",
    }
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Presets {
    /// Of all parts together; only devices of the standard of 2022 say it.
    pub sum: Option<u32>,
    pub presets: Vec<Preset>,
}

impl Presets {
    pub(super) fn read(root: &Element) -> Self {
        Presets { sum: field::value(root, "SumNum"), presets: root.listed("PresetList", "Item").map(Preset::read).collect() }
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.text("SumNum", &field::Field::write(&self.sum));
        writer.list("PresetList", "Item", &self.presets, |writer, preset| preset.write(writer));
    }
}
