//! What the operator asks of the platform, and how it answers. Each question is answered exactly once, under its `Ticket`.
//!
//! Not here: the HTTP forms (`control`), and what is done about a question (`devices`, `calls`).

use serde::{Deserialize, Serialize};

pub use crate::protocol::gb28181::ptz::PresetAction;

use super::CallId;
use super::view::{
    AlarmView, CallView, ChannelView, ConfigView, CruiseNameView, CruiseView, DeviceView, PositionView, PresetView,
    PtzPositionView, RecordsView, SubscriptionView,
};
use crate::config::MediaTransport;
use crate::protocol::gb28181::cascade::view::UpstreamView;
use crate::session::StreamKey;

/// A camera behind a device. A device that is a camera itself may be its own channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel {
    pub device: String,
    pub channel: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// → [`Answer::Devices`], by id.
    Devices,
    /// → [`Answer::Device`].
    Device(String),
    /// What is known of the channels of a device, without asking it → [`Answer::Channels`].
    Channels(String),
    /// The last alarms that a device has told, or all devices → [`Answer::Alarms`], the newest first.
    Alarms(Option<String>),
    /// The last position of each channel of a device, or of all devices → [`Answer::Positions`].
    Positions(Option<String>),
    /// What is subscribed to at a device → [`Answer::Subscriptions`].
    Subscriptions(String),
    /// Forget a device that is offline → [`Answer::Done`].
    Forget(String),
    /// Ask a device again for its catalog, information and status → [`Answer::Channels`] when the catalog is complete.
    Refresh(String),
    /// → [`Answer::Records`] when all have come, or with those that came in time.
    Records { of: Channel, from_unix_s: u64, to_unix_s: u64, kind: RecordKind },
    /// → [`Answer::Config`]. `kinds`: names of sections such as `BasicParam`.
    Config { of: Channel, kinds: Vec<String> },
    /// → [`Answer::Presets`].
    Presets(Channel),
    /// The tracks along which a camera moves by itself (2022) → [`Answer::Cruises`].
    Cruises(Channel),
    /// One of them, by its number → [`Answer::Cruise`].
    Cruise { of: Channel, number: u32 },
    /// Where a camera looks (2022) → [`Answer::PtzPosition`].
    PtzPosition(Channel),
    /// Move, zoom, presets, and everything else of DeviceControl → [`Answer::Done`] once the device has taken it.
    Control { of: Channel, control: DeviceControl },
    /// Begin to receive, or join the call that runs → [`Answer::Call`] once the device has answered.
    Play { of: Channel, options: CallOptions },
    /// Records of a span of time → [`Answer::Call`] once the device has answered.
    Playback { of: Channel, from_unix_s: u64, to_unix_s: u64, options: CallOptions },
    /// As playback, as fast as `speed` says (1, 2, 4 …).
    Download { of: Channel, from_unix_s: u64, to_unix_s: u64, speed: u32, options: CallOptions },
    /// Pause, seek and the like in a playback → [`Answer::Done`] once the device has agreed.
    Playing { call: CallId, control: PlayingControl },
    /// The sound of a published stream to a device → [`Answer::Call`] once it goes there.
    Talk { of: Channel, stream: StreamKey },
    /// End a call → [`Answer::Done`].
    Stop(CallId),
    /// Those that run, and the last that are over → [`Answer::Calls`], the newest first.
    Calls,
    /// → [`Answer::Call`].
    Call(CallId),
    /// The platforms above this one → [`Answer::Upstreams`]. Never asked of the platform that devices register with.
    Upstreams,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Done,
    Devices(Vec<DeviceView>),
    Device(Box<DeviceView>),
    Channels(Vec<ChannelView>),
    Alarms(Vec<AlarmView>),
    Positions(Vec<PositionView>),
    Subscriptions(Vec<SubscriptionView>),
    Records(RecordsView),
    Config(ConfigView),
    Presets(Vec<PresetView>),
    Cruises(Vec<CruiseNameView>),
    Cruise(CruiseView),
    PtzPosition(PtzPositionView),
    Calls(Vec<CallView>),
    Call(Box<CallView>),
    Upstreams(Vec<UpstreamView>),
    Refused(Refused),
}

/// Why a wish was not granted: a kind for machines, and one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub kind: RefusedKind,
    pub why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedKind {
    /// No such device, channel or call.
    NotFound,
    /// The question makes no sense.
    Bad,
    /// Not in this state: the device is offline, the call is none of recorded media.
    Conflict,
    /// A limit is reached, or no port is left.
    Full,
    /// The device has refused.
    Device,
    /// The device has not answered in time.
    Silent,
}

impl Answer {
    pub fn refused(kind: RefusedKind, why: impl Into<String>) -> Answer {
        Answer::Refused(Refused { kind, why: why.into() })
    }
}

/// Of which records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordKind {
    #[default]
    All,
    Time,
    Alarm,
    Manual,
}

/// How the media of a call is to come; `None`: as configured, the main stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallOptions {
    pub transport: Option<MediaTransport>,
    /// The number of the device's stream: 0 is the main one, 1 the small one.
    pub stream_number: Option<u8>,
}

/// GB/T 28181-2016 Annex B: what can be asked for in a playback.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PlayingControl {
    Pause,
    Resume,
    /// 0.25, 0.5, 1, 2, 4 …; negative: backwards.
    Scale(f64),
    /// Seconds from the beginning of the span that was asked for.
    Seek(u32),
}

/// GB/T 28181-2016 A.2.3: what a device is told to do.
#[derive(Clone, Debug, PartialEq)]
pub enum DeviceControl {
    /// Pan and tilt −255 to 255 (left and down are negative), zoom −15 to 15 (out is negative); zeros stop.
    Move {
        pan: i16,
        tilt: i16,
        zoom: i8,
    },
    /// To where (2022): pan 0 to 360 degrees, tilt −90 to 90, zoom as a factor; what is `None` stays.
    Look {
        pan: Option<f64>,
        tilt: Option<f64>,
        zoom: Option<f64>,
    },
    /// −255 to 255: focus near is negative, iris closing is negative; zeros stop.
    Lens {
        focus: i16,
        iris: i16,
    },
    Preset {
        action: PresetAction,
        number: u8,
    },
    Cruise {
        action: CruiseAction,
        group: u8,
        value: u16,
    },
    Scan {
        action: ScanAction,
        group: u8,
        value: u16,
    },
    /// An auxiliary switch; 1 is the wiper.
    Switch {
        number: u8,
        on: bool,
    },
    Record {
        on: bool,
    },
    Guard {
        on: bool,
    },
    ResetAlarm,
    /// Start anew.
    Reboot,
    /// The next picture is to be a key frame.
    KeyFrame,
    DragZoom {
        zoom_in: bool,
        length: u32,
        width: u32,
        mid_x: u32,
        mid_y: u32,
        length_x: u32,
        length_y: u32,
    },
    HomePosition {
        on: bool,
        reset_s: Option<u32>,
        preset: Option<u8>,
    },
}

/// What `value` of a cruise is: the preset, the speed, the seconds; nothing where it is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CruiseAction {
    AddPoint,
    DeletePoint,
    Speed,
    DwellSeconds,
    Start,
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScanAction {
    Start,
    LeftLimit,
    RightLimit,
    Speed,
    Stop,
}
