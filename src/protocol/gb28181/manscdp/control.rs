//! What a device is told to do (GB/T 28181-2016 A.2.3). One command a message; the bytes of movements are `ptz`'s.

use super::field::{self, Elements, elements, words};
use super::precise::PrecisePtz;
use super::xml::{Element, Writer};
use crate::protocol::gb28181::ptz;

words! {
    pub enum RecordAction {
        Start = "Record",
        Stop = "StopRecord",
    }
}

words! {
    pub enum GuardAction {
        Set = "SetGuard",
        Reset = "ResetGuard",
    }
}

words! {
    pub enum Zoom {
        In = "DragZoomIn",
        Out = "DragZoomOut",
    }
}

elements! {
    /// A rectangle in a picture as the operator sees it: size of the picture, middle and size of the rectangle, in pixels.
    pub struct Rectangle {
        pub length: Option<u32> = "Length",
        pub width: Option<u32> = "Width",
        pub mid_point_x: Option<u32> = "MidPointX",
        pub mid_point_y: Option<u32> = "MidPointY",
        pub length_x: Option<u32> = "LengthX",
        pub length_y: Option<u32> = "LengthY",
    }
}

elements! {
    /// Where a camera goes by itself: `enabled` 1 or 0, after `reset_time` seconds, to the preset.
    pub struct HomePosition {
        pub enabled: Option<u8> = "Enabled",
        pub reset_time: Option<u32> = "ResetTime",
        pub preset_index: Option<u8> = "PresetIndex",
    }
}

elements! {
    /// Of which alarms: method and type.
    pub struct AlarmScope {
        pub method: String = "AlarmMethod",
        pub alarm_type: String = "AlarmType",
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Ptz(ptz::Code),
    /// In degrees (2022).
    PrecisePtz(PrecisePtz),
    TeleBoot,
    Record(RecordAction),
    Guard(GuardAction),
    ResetAlarm(AlarmScope),
    /// A picture that can be decoded by itself.
    IFrame,
    DragZoom(Zoom, Rectangle),
    HomePosition(HomePosition),
    /// Another one, by the name of its element; it is never written.
    Other(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct DeviceControl {
    pub command: Command,
    pub priority: Option<u8>,
}

impl From<Command> for DeviceControl {
    fn from(command: Command) -> Self {
        DeviceControl { command, priority: None }
    }
}

impl Command {
    /// Whether the device says what has become of it (§9.3.2).
    pub const fn is_answered(&self) -> bool {
        matches!(self, Command::Record(_) | Command::Guard(_) | Command::ResetAlarm(_) | Command::HomePosition(_))
    }

    fn read(root: &Element) -> Self {
        let found = root.children.iter().find_map(|child| Self::read_one(root, child));
        found.unwrap_or_else(|| {
            let common = ["CmdType", "SN", "DeviceID", "Info"];
            let other = root.children.iter().find(|child| !common.iter().any(|name| child.is(name)));
            Command::Other(other.map(|child| child.name.clone()).unwrap_or_default())
        })
    }

    fn read_one(root: &Element, child: &Element) -> Option<Self> {
        use field::Value;
        match child.name.to_ascii_lowercase().as_str() {
            "ptzcmd" => ptz::parse_hex(&child.text).map(Command::Ptz),
            "ptzprecisectrl" => Some(Command::PrecisePtz(PrecisePtz::read(child))),
            "teleboot" => Some(Command::TeleBoot),
            "recordcmd" => RecordAction::read(&child.text).map(Command::Record),
            "guardcmd" => GuardAction::read(&child.text).map(Command::Guard),
            "alarmcmd" => Some(Command::ResetAlarm(AlarmScope::read(root.child("Info").unwrap_or(root)))),
            "ifamecmd" | "iframecmd" => Some(Command::IFrame),
            "homeposition" => Some(Command::HomePosition(HomePosition::read(child))),
            _ => Zoom::read(&child.name).map(|zoom| Command::DragZoom(zoom, Rectangle::read(child))),
        }
    }

    fn write(&self, writer: &mut Writer) {
        use field::Value;
        match self {
            Command::Ptz(code) => writer.text("PTZCmd", &ptz::hex(code)),
            Command::PrecisePtz(precise) => writer.element("PTZPreciseCtrl", |writer| precise.write(writer)),
            Command::TeleBoot => writer.text("TeleBoot", "Boot"),
            Command::Record(action) => writer.text("RecordCmd", &action.write()),
            Command::Guard(action) => writer.text("GuardCmd", &action.write()),
            Command::ResetAlarm(_) => writer.text("AlarmCmd", "ResetAlarm"),
            // Spelt as in the standard of 2016, and as in that of 2022: a device looks for the one that it knows.
            Command::IFrame => {
                writer.text("IFameCmd", "Send");
                writer.text("IFrameCmd", "Send");
            }
            Command::DragZoom(zoom, rectangle) => writer.element(&zoom.write(), |writer| rectangle.write(writer)),
            Command::HomePosition(home) => writer.element("HomePosition", |writer| home.write(writer)),
            Command::Other(_) => {}
        }
    }
}

impl DeviceControl {
    pub(super) fn read(root: &Element) -> Self {
        let priority = root.child("Info").and_then(|info| field::value(info, "ControlPriority"));
        DeviceControl { command: Command::read(root), priority }
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        self.command.write(writer);
        writer.element_of_any("Info", |writer| {
            writer.text("ControlPriority", &field::Field::write(&self.priority));
            if let Command::ResetAlarm(scope) = &self.command {
                scope.write(writer);
            }
        });
    }
}
