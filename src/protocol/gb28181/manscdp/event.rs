//! What a device tells without being asked each time (GB/T 28181-2016 A.2.5): alarms, positions, keepalives. Times are the device's, without
//! a zone.

use super::field::{self, Elements, elements};
use super::xml::{Element, Writer};

elements! {
    /// `priority`: 1 (most urgent) to 4; `method`: 1 phone, 2 device, 3 SMS, 4 GPS, 5 video, 6 device fault, 7 other;
    /// `alarm_type`: what it means depends on the method.
    pub struct AlarmFields {
        pub priority: Option<u8> = "AlarmPriority",
        pub method: Option<u8> = "AlarmMethod",
        pub time: String = "AlarmTime",
        pub description: String = "AlarmDescription",
        pub longitude: Option<f64> = "Longitude",
        pub latitude: Option<f64> = "Latitude",
        pub alarm_type: Option<u32> = "AlarmType",
    }
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Alarm {
    #[serde(flatten)]
    pub fields: AlarmFields,
    /// Of `AlarmTypeParam`: 1 for going in, 2 for going out.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub event_type: String,
}

impl Alarm {
    /// The type stands in `Info`, or beside it.
    pub(super) fn read(root: &Element) -> Self {
        let mut fields = AlarmFields::read(root);
        let mut event_type = String::new();
        if let Some(info) = root.child("Info") {
            fields.alarm_type = field::value(info, "AlarmType").or(fields.alarm_type);
            event_type = info.child("AlarmTypeParam").map(|param| field::read(param, "EventType")).unwrap_or_default();
        }
        Alarm { fields, event_type }
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        AlarmFields { alarm_type: None, ..self.fields.clone() }.write(writer);
        writer.element_of_any("Info", |writer| {
            writer.text("AlarmType", &field::Field::write(&self.fields.alarm_type));
            writer.element_of_any("AlarmTypeParam", |writer| writer.text("EventType", &self.event_type));
        });
    }
}

elements! {
    /// Which alarms a subscriber wants; `alarm_method`: digits, 0 for all.
    pub struct AlarmQuery {
        pub start_priority: Option<u8> = "StartAlarmPriority",
        pub end_priority: Option<u8> = "EndAlarmPriority",
        pub method: String = "AlarmMethod",
        pub alarm_type: String = "AlarmType",
        pub start_time: String = "StartAlarmTime",
        pub end_time: String = "EndAlarmTime",
    }
}

elements! {
    /// Degrees, km/h, degrees from north, metres.
    pub struct Position {
        pub time: String = "Time",
        pub longitude: Option<f64> = "Longitude",
        pub latitude: Option<f64> = "Latitude",
        pub speed: Option<f64> = "Speed",
        pub direction: Option<f64> = "Direction",
        pub altitude: Option<f64> = "Altitude",
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keepalive {
    /// `OK`, or what is wrong.
    pub status: String,
    /// Channels that do not work.
    pub faulty: Vec<String>,
}

impl Keepalive {
    pub(super) fn read(root: &Element) -> Self {
        let faulty = root.listed("Info", "DeviceID").map(|id| id.text.clone()).filter(|id| !id.is_empty()).collect();
        Keepalive { status: field::read(root, "Status"), faulty }
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.text("Status", &self.status);
        writer.element_of_any("Info", |writer| {
            for id in &self.faulty {
                writer.text("DeviceID", id);
            }
        });
    }
}
