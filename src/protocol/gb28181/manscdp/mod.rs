//! MANSCDP (GB/T 28181-2016 Annex A; names of 2022 are taken too): the XML that devices and platforms send each other, to values and back.
//!
//! [`decode`] takes the body of a SIP MESSAGE, NOTIFY or SUBSCRIBE in any charset (`charset`) and leniently (`xml`): names in any case,
//! missing and unknown elements, texts that are no values. [`encode`] writes the elements in the standard's order. Both directions are
//! there, because a platform is also a device of the one above it. Ids are opaque texts, of a few digits or any.
//!
//! Limits: [`BODY_BYTES_MAX`], and those of `xml`. Not here: SIP, who may send what, and the parts of an answer that belong together.

pub mod catalog;
pub mod charset;
pub mod control;
pub mod device;
pub mod event;
mod field;
pub mod precise;
pub mod record;
#[cfg(test)]
mod tests;
pub mod xml;

pub use catalog::{Catalog, Item, ItemEvent, ItemFields, ItemInfo, ItemStatus};
pub use charset::Charset;
pub use control::{
    AlarmScope, Command, DeviceControl, GuardAction, HomePosition, RecordAction, Rectangle as ZoomRectangle, Zoom as DragZoom,
};
pub use device::{AlarmInput, DeviceConfig, DeviceInfo, DeviceStatus, Outcome, Preset, Presets, Section, StatusFields};
pub use event::{Alarm, AlarmFields, AlarmQuery, Keepalive, Position};
pub use field::Elements;
pub use precise::{CruiseList, CruiseName, CruisePoint, CruiseTrack, PrecisePtz, PtzPosition};
pub use record::{Record, RecordQuery, RecordType, Records};

use xml::{DEPTH_MAX, ELEMENTS_MAX, Element, TEXT_BYTES_MAX, Writer};

/// A longer body is not read.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// The notification of a `MediaStatus` that means the end of what was recorded.
pub const END_OF_MEDIA: u32 = 121;

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Joins an answer to its question; 0 where there is none.
    pub sn: u64,
    /// The device or channel that it is of or for; empty in a broadcast.
    pub device: String,
    pub body: Body,
}

/// By the root element.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Control(Control),
    Query(Query),
    Notify(Notify),
    Response(Response),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Control {
    Device(DeviceControl),
    /// Another one, by its `CmdType`.
    Other(String),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Query {
    Catalog {
        start_time: String,
        end_time: String,
    },
    DeviceInfo,
    DeviceStatus,
    RecordInfo(RecordQuery),
    /// Kinds of settings, joined by `/`.
    ConfigDownload(String),
    PresetQuery,
    CruiseTracks,
    /// One of them, by its number.
    CruiseTrack(u32),
    PtzPosition,
    /// `None`: each 5 seconds.
    MobilePosition {
        interval_s: Option<u32>,
    },
    Alarm(AlarmQuery),
    Other(String),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Notify {
    Keepalive(Keepalive),
    Catalog(Catalog),
    MobilePosition(Position),
    Alarm(Alarm),
    /// The media of a call: [`END_OF_MEDIA`].
    MediaStatus(u32),
    Broadcast {
        source: String,
        target: String,
    },
    Other(String),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    Catalog(Catalog),
    DeviceInfo(DeviceInfo),
    DeviceStatus(DeviceStatus),
    RecordInfo(Records),
    ConfigDownload(DeviceConfig),
    PresetQuery(Presets),
    CruiseTracks(CruiseList),
    CruiseTrack(CruiseTrack),
    PtzPosition(PtzPosition),
    /// To one of these, with nothing more to say: `DeviceControl`, `Alarm`, `Broadcast`, and all others.
    Plain {
        command: String,
        result: Option<Outcome>,
    },
}

/// Why a body is no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManscdpError {
    #[error("a body may have {BODY_BYTES_MAX} bytes at most")]
    TooLong,
    #[error("the XML declares a document type, as nobody needs who means well")]
    DocumentType,
    #[error("the elements of the XML are more than {DEPTH_MAX} deep")]
    TooDeep,
    #[error("the XML has more than {ELEMENTS_MAX} elements")]
    TooManyElements,
    #[error("an element of the XML has more than {TEXT_BYTES_MAX} bytes of text")]
    TextTooLong,
    #[error("the XML ends before its root does")]
    Incomplete,
    #[error("the XML cannot be read: {0}")]
    Syntax(String),
    #[error("the root of the XML is none of Control, Query, Notify and Response")]
    UnknownRoot,
    #[error("the XML has no CmdType")]
    NoCommand,
}

impl ManscdpError {
    /// The label under which it is counted.
    pub const fn reason(&self) -> &'static str {
        match self {
            ManscdpError::TooLong => "xml_too_long",
            ManscdpError::DocumentType => "xml_document_type",
            ManscdpError::TooDeep => "xml_too_deep",
            ManscdpError::TooManyElements => "xml_too_many_elements",
            ManscdpError::TextTooLong => "xml_text_too_long",
            ManscdpError::Incomplete => "xml_incomplete",
            ManscdpError::Syntax(_) => "xml_syntax",
            ManscdpError::UnknownRoot => "xml_unknown_root",
            ManscdpError::NoCommand => "xml_no_command",
        }
    }
}

/// The message of a body, and the charset that its sender uses.
pub fn decode(bytes: &[u8]) -> Result<(Message, Charset), ManscdpError> {
    if bytes.len() > BODY_BYTES_MAX {
        return Err(ManscdpError::TooLong);
    }
    let (text, charset) = charset::decode(bytes);
    let root = Element::parse(&text)?;
    let command: String = field::read(&root, "CmdType");
    let body = match root.name.to_ascii_lowercase().as_str() {
        _ if command.is_empty() => return Err(ManscdpError::NoCommand),
        "control" => Body::Control(Control::read(&root, command)),
        "query" => Body::Query(Query::read(&root, command)),
        "notify" => Body::Notify(Notify::read(&root, command)),
        "response" => Body::Response(Response::read(&root, command)),
        _ => return Err(ManscdpError::UnknownRoot),
    };
    let sn = field::value(&root, "SN").unwrap_or_default();
    Ok((Message { sn, device: field::read(&root, "DeviceID"), body }, charset))
}

/// The body of a message.
pub fn encode(message: &Message, charset: Charset) -> Vec<u8> {
    let mut writer = Writer::new(charset.declared());
    let (root, command) = match &message.body {
        Body::Control(control) => ("Control", control.command()),
        Body::Query(query) => ("Query", query.command()),
        Body::Notify(notify) => ("Notify", notify.command()),
        Body::Response(response) => ("Response", response.command()),
    };
    writer.element(root, |writer| {
        writer.text("CmdType", command);
        writer.text("SN", &message.sn.to_string());
        writer.text("DeviceID", &message.device);
        match &message.body {
            Body::Control(control) => control.write(writer),
            Body::Query(query) => query.write(writer),
            Body::Notify(notify) => notify.write(writer),
            Body::Response(response) => response.write(writer),
        }
    });
    charset::encode(&writer.finish(), charset).into_owned()
}

impl Control {
    fn read(root: &Element, command: String) -> Self {
        match command.to_ascii_lowercase().as_str() {
            "devicecontrol" => Control::Device(DeviceControl::read(root)),
            _ => Control::Other(command),
        }
    }

    fn command(&self) -> &str {
        match self {
            Control::Device(_) => "DeviceControl",
            Control::Other(command) => command,
        }
    }

    fn write(&self, writer: &mut Writer) {
        if let Control::Device(control) = self {
            control.write(writer);
        }
    }
}

impl Query {
    /// All items, whenever they were made.
    pub const CATALOG: Query = Query::Catalog { start_time: String::new(), end_time: String::new() };

    fn read(root: &Element, command: String) -> Self {
        match command.to_ascii_lowercase().as_str() {
            "catalog" => Query::Catalog { start_time: field::read(root, "StartTime"), end_time: field::read(root, "EndTime") },
            "deviceinfo" => Query::DeviceInfo,
            "devicestatus" => Query::DeviceStatus,
            "recordinfo" => Query::RecordInfo(RecordQuery::read(root)),
            "configdownload" => Query::ConfigDownload(field::read(root, "ConfigType")),
            "presetquery" => Query::PresetQuery,
            "cruisetracklistquery" => Query::CruiseTracks,
            "cruisetrackquery" => Query::CruiseTrack(field::value(root, "Number").unwrap_or_default()),
            "ptzposition" => Query::PtzPosition,
            "mobileposition" => Query::MobilePosition { interval_s: field::value(root, "Interval") },
            "alarm" => Query::Alarm(AlarmQuery::read(root)),
            _ => Query::Other(command),
        }
    }

    pub fn command(&self) -> &str {
        match self {
            Query::Catalog { .. } => "Catalog",
            Query::DeviceInfo => "DeviceInfo",
            Query::DeviceStatus => "DeviceStatus",
            Query::RecordInfo(_) => "RecordInfo",
            Query::ConfigDownload(_) => "ConfigDownload",
            Query::PresetQuery => "PresetQuery",
            Query::CruiseTracks => "CruiseTrackListQuery",
            Query::CruiseTrack(_) => "CruiseTrackQuery",
            Query::PtzPosition => "PTZPosition",
            Query::MobilePosition { .. } => "MobilePosition",
            Query::Alarm(_) => "Alarm",
            Query::Other(command) => command,
        }
    }

    fn write(&self, writer: &mut Writer) {
        match self {
            Query::Catalog { start_time, end_time } => {
                writer.text("StartTime", start_time);
                writer.text("EndTime", end_time);
            }
            Query::RecordInfo(query) => query.write(writer),
            Query::ConfigDownload(kinds) => writer.text("ConfigType", kinds),
            Query::CruiseTrack(number) => writer.text("Number", &number.to_string()),
            Query::MobilePosition { interval_s } => writer.text("Interval", &field::Field::write(interval_s)),
            Query::Alarm(query) => query.write(writer),
            Query::DeviceInfo | Query::DeviceStatus | Query::PresetQuery => {}
            Query::CruiseTracks | Query::PtzPosition | Query::Other(_) => {}
        }
    }
}

impl Notify {
    fn read(root: &Element, command: String) -> Self {
        match command.to_ascii_lowercase().as_str() {
            "keepalive" => Notify::Keepalive(Keepalive::read(root)),
            "catalog" => Notify::Catalog(Catalog::read(root)),
            "mobileposition" => Notify::MobilePosition(Position::read(root)),
            "alarm" => Notify::Alarm(Alarm::read(root)),
            "mediastatus" => Notify::MediaStatus(field::value(root, "NotifyType").unwrap_or_default()),
            "broadcast" => Notify::Broadcast { source: field::read(root, "SourceID"), target: field::read(root, "TargetID") },
            _ => Notify::Other(command),
        }
    }

    fn command(&self) -> &str {
        match self {
            Notify::Keepalive(_) => "Keepalive",
            Notify::Catalog(_) => "Catalog",
            Notify::MobilePosition(_) => "MobilePosition",
            Notify::Alarm(_) => "Alarm",
            Notify::MediaStatus(_) => "MediaStatus",
            Notify::Broadcast { .. } => "Broadcast",
            Notify::Other(command) => command,
        }
    }

    fn write(&self, writer: &mut Writer) {
        match self {
            Notify::Keepalive(keepalive) => keepalive.write(writer),
            Notify::Catalog(catalog) => catalog.write(writer),
            Notify::MobilePosition(position) => position.write(writer),
            Notify::Alarm(alarm) => alarm.write(writer),
            Notify::MediaStatus(kind) => writer.text("NotifyType", &kind.to_string()),
            Notify::Broadcast { source, target } => {
                writer.text("SourceID", source);
                writer.text("TargetID", target);
            }
            Notify::Other(_) => {}
        }
    }
}

impl Response {
    /// To a control, an alarm or a broadcast.
    pub fn plain(command: &str, result: Outcome) -> Self {
        Response::Plain { command: command.to_owned(), result: Some(result) }
    }

    fn read(root: &Element, command: String) -> Self {
        let is_error = field::value(root, "Result") == Some(Outcome::Error);
        match command.to_ascii_lowercase().as_str() {
            "catalog" => Response::Catalog(Catalog::read(root)),
            "deviceinfo" => Response::DeviceInfo(DeviceInfo::read(root)),
            "devicestatus" => Response::DeviceStatus(DeviceStatus::read(root)),
            "recordinfo" => Response::RecordInfo(Records::read(root)),
            "configdownload" => Response::ConfigDownload(DeviceConfig::read(root)),
            "presetquery" => Response::PresetQuery(Presets::read(root)),
            // Who does not know it says no more than that.
            "cruisetracklistquery" | "cruisetrackquery" | "ptzposition" if is_error => {
                Response::Plain { result: Some(Outcome::Error), command }
            }
            "cruisetracklistquery" => Response::CruiseTracks(CruiseList::read(root)),
            "cruisetrackquery" => Response::CruiseTrack(CruiseTrack::read(root)),
            // Some put what they say into an element of its own.
            "ptzposition" => Response::PtzPosition(PtzPosition::read(root.child("PTZPosition").unwrap_or(root))),
            _ => Response::Plain { result: field::value(root, "Result"), command },
        }
    }

    pub fn command(&self) -> &str {
        match self {
            Response::Catalog(_) => "Catalog",
            Response::DeviceInfo(_) => "DeviceInfo",
            Response::DeviceStatus(_) => "DeviceStatus",
            Response::RecordInfo(_) => "RecordInfo",
            Response::ConfigDownload(_) => "ConfigDownload",
            Response::PresetQuery(_) => "PresetQuery",
            Response::CruiseTracks(_) => "CruiseTrackListQuery",
            Response::CruiseTrack(_) => "CruiseTrackQuery",
            Response::PtzPosition(_) => "PTZPosition",
            Response::Plain { command, .. } => command,
        }
    }

    fn write(&self, writer: &mut Writer) {
        match self {
            Response::Catalog(catalog) => catalog.write(writer),
            Response::DeviceInfo(info) => info.write(writer),
            Response::DeviceStatus(status) => status.write(writer),
            Response::RecordInfo(records) => records.write(writer),
            Response::ConfigDownload(config) => config.write(writer),
            Response::PresetQuery(presets) => presets.write(writer),
            Response::CruiseTracks(list) => list.write(writer),
            Response::CruiseTrack(track) => track.write(writer),
            Response::PtzPosition(position) => position.write(writer),
            Response::Plain { result, .. } => writer.text("Result", &field::Field::write(result)),
        }
    }
}
