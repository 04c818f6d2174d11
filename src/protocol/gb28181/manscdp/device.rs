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

/// Sections that were asked for, as they come: `BasicParam`, `VideoParamOpt` …
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceConfig {
    pub result: Option<Outcome>,
    pub sections: Vec<Section>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section {
    pub name: String,
    /// Names and texts, of elements that have no others in them.
    pub fields: Vec<(String, String)>,
}

impl DeviceConfig {
    pub(super) fn read(root: &Element) -> Self {
        let named = |element: &&Element| is_name(&element.name);
        let read = |section: &Element| {
            let fields =
                section.children.iter().filter(named).filter(|field| !field.text.is_empty() && field.children.is_empty());
            let fields = fields.map(|field| (field.name.clone(), field.text.clone())).collect();
            Section { name: section.name.clone(), fields }
        };
        let sections = root.children.iter().filter(named).filter(|section| !section.children.is_empty());
        DeviceConfig {
            result: field::value(root, "Result"),
            sections: sections.map(read).filter(|section| !section.fields.is_empty()).collect(),
        }
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.text("Result", &field::Field::write(&self.result));
        for section in self.sections.iter().filter(|section| is_name(&section.name)) {
            writer.element(&section.name, |writer| {
                for (name, text) in section.fields.iter().filter(|(name, _)| is_name(name)) {
                    writer.text(name, text);
                }
            });
        }
    }
}

/// What can stand in a tag as it is.
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
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
