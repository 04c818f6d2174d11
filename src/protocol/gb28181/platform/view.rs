//! What the platform shows of devices, channels, calls and answers, as the API prints it.
//!
//! Ages are milliseconds, moments of devices are text as they sent it. What is not known is `null`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::CallId;
use crate::format::rtp::demux::Received;

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DeviceView {
    pub id: String,
    pub online: bool,
    /// Online, or why it is not.
    pub detail: String,
    /// `udp` or `tcp`; `None`: not heard of since the start.
    pub transport: Option<&'static str>,
    pub address: Option<String>,
    pub registered_age_ms: Option<u64>,
    pub keepalive_age_ms: Option<u64>,
    /// What is left of its registration.
    pub expires_ms: Option<u64>,
    /// What its header `X-GB-Ver` says.
    pub version: Option<String>,
    pub agent: Option<String>,
    pub name: Option<String>,
    pub manufacturer: Option<String>,
    pub model: Option<String>,
    pub firmware: Option<String>,
    /// How many channels of its catalog are known, and how many it says to have.
    pub channels: usize,
    pub channels_announced: Option<u32>,
    pub status: Option<StatusView>,
}

/// The last answer to DeviceStatus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StatusView {
    pub online: Option<bool>,
    pub ok: Option<bool>,
    pub reason: Option<String>,
    pub encoding: Option<bool>,
    pub recording: Option<bool>,
    pub device_time: Option<String>,
    /// Alarm inputs: id and duty.
    pub alarms: BTreeMap<String, String>,
}

/// One item of a catalog.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ChannelView {
    pub id: String,
    pub device: String,
    /// The name under which it is played; `None`: no camera.
    pub stream: Option<String>,
    /// Digits 11 to 13 of the id in words: `camera`, `alarm_input`, `audio_output`, `group` …
    pub kind: &'static str,
    pub name: Option<String>,
    pub manufacturer: Option<String>,
    pub model: Option<String>,
    pub owner: Option<String>,
    pub civil_code: Option<String>,
    pub address: Option<String>,
    pub parental: Option<bool>,
    pub parent_id: Option<String>,
    /// What the device says of it.
    pub online: Option<bool>,
    /// The last event that it has told: `VLOST`, `DEFECT` …
    pub event: Option<String>,
    pub ptz_type: Option<u8>,
    pub longitude: Option<f64>,
    pub latitude: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AlarmView {
    pub device: String,
    pub channel: String,
    pub age_ms: u64,
    pub priority: Option<u8>,
    pub method: Option<u8>,
    pub kind: Option<u32>,
    /// Method and kind in words.
    pub detail: String,
    pub time: Option<String>,
    pub description: Option<String>,
    pub longitude: Option<f64>,
    pub latitude: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PositionView {
    pub device: String,
    pub channel: String,
    pub age_ms: u64,
    pub time: Option<String>,
    pub longitude: Option<f64>,
    pub latitude: Option<f64>,
    pub speed_km_h: Option<f64>,
    pub direction_degrees: Option<f64>,
    pub altitude_m: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SubscriptionView {
    /// `catalog`, `alarm` or `mobile_position`.
    pub event: &'static str,
    /// `asked`, `active`, `ended`.
    pub state: &'static str,
    pub detail: String,
    pub expires_ms: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RecordsView {
    /// How many the device says there are.
    pub announced: u32,
    /// Whether all have come.
    pub complete: bool,
    pub records: Vec<RecordView>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RecordView {
    pub channel: String,
    pub name: Option<String>,
    pub path: Option<String>,
    pub address: Option<String>,
    pub start: Option<String>,
    pub end: Option<String>,
    pub secrecy: Option<u8>,
    pub kind: Option<String>,
    pub recorder: Option<String>,
    pub bytes: Option<u64>,
}

/// Sections of a configuration, with the texts of their fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConfigView {
    pub sections: BTreeMap<String, BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PresetView {
    pub number: u32,
    pub name: Option<String>,
}

/// A track along which a camera moves by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CruiseNameView {
    pub number: u32,
    pub name: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CruiseView {
    #[serde(flatten)]
    pub track: CruiseNameView,
    pub points: Vec<CruisePointView>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CruisePointView {
    pub preset: u32,
    pub stay_s: Option<u32>,
    pub speed: Option<u32>,
}

/// Angles in degrees, zoom as a factor, the distance in metres.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PtzPositionView {
    pub pan: Option<f64>,
    pub tilt: Option<f64>,
    pub zoom: Option<f64>,
    pub horizontal_angle: Option<f64>,
    pub vertical_angle: Option<f64>,
    pub distance_m: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CallKind {
    Play,
    Playback,
    Download,
    Talk,
}

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CallState {
    /// Asks a shard for a port.
    Opening,
    /// The INVITE is sent; for a talk: the device is asked to call.
    Invited,
    Answered,
    MediaSeen,
    TracksFound,
    Playing,
    /// It is over as it should be.
    Ended,
    /// It is over for a reason that somebody may want to look after.
    Failed,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CallView {
    pub id: CallId,
    pub kind: CallKind,
    pub device: String,
    pub channel: String,
    pub stream: String,
    pub state: CallState,
    /// The state in words, with its reason.
    pub detail: String,
    /// `udp`, `tcp_passive` or `tcp_active`.
    pub transport: &'static str,
    pub port: Option<u16>,
    pub ssrc: Option<u32>,
    pub source: Option<String>,
    pub tracks: Vec<&'static str>,
    pub packets: Received,
    /// Since it was begun.
    pub age_ms: u64,
    /// From its beginning to its end, if it is over.
    pub lasted_ms: Option<u64>,
    /// From the INVITE to the answer of the device, and to the first media.
    pub answered_ms: Option<u64>,
    pub media_ms: Option<u64>,
}
