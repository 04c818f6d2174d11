//! What the operator wants a camera to do → the command of the standard (GB/T 28181-2016 A.2.3, A.3).

use crate::protocol::gb28181::manscdp::{
    AlarmScope, Command, DeviceControl, DragZoom, GuardAction, HomePosition, PrecisePtz, RecordAction, ZoomRectangle,
};
use crate::protocol::gb28181::platform::ask::{self, Refused, RefusedKind};
use crate::protocol::gb28181::ptz::{self, ANY_ADDRESS, Instruction, TWELVE_BITS_MAX};

/// As a factor: no lens has more.
const ZOOM_MAX: f64 = 1_000.0;

/// `Err`: numbers that a command cannot hold.
pub(super) fn of(control: &ask::DeviceControl) -> Result<DeviceControl, Refused> {
    use ask::DeviceControl as Ask;
    let command = match *control {
        Ask::Move { .. } | Ask::Lens { .. } | Ask::Preset { .. } | Ask::Cruise { .. } | Ask::Scan { .. } | Ask::Switch { .. } => {
            Command::Ptz(instruction(control)?.code(ANY_ADDRESS))
        }
        Ask::Look { pan, tilt, zoom } => Command::PrecisePtz(look(pan, tilt, zoom)?),
        Ask::Record { on } => Command::Record(if on { RecordAction::Start } else { RecordAction::Stop }),
        Ask::Guard { on } => Command::Guard(if on { GuardAction::Set } else { GuardAction::Reset }),
        Ask::ResetAlarm => Command::ResetAlarm(AlarmScope::default()),
        Ask::Reboot => Command::TeleBoot,
        Ask::KeyFrame => Command::IFrame,
        Ask::DragZoom { zoom_in, length, width, mid_x, mid_y, length_x, length_y } => {
            let rectangle = ZoomRectangle {
                length: Some(length),
                width: Some(width),
                mid_point_x: Some(mid_x),
                mid_point_y: Some(mid_y),
                length_x: Some(length_x),
                length_y: Some(length_y),
            };
            Command::DragZoom(if zoom_in { DragZoom::In } else { DragZoom::Out }, rectangle)
        }
        Ask::HomePosition { on, reset_s, preset } => {
            Command::HomePosition(HomePosition { enabled: Some(on.into()), reset_time: reset_s, preset_index: preset })
        }
    };
    Ok(command.into())
}

/// A.2.3.1.11 of the standard of 2022.
fn look(pan: Option<f64>, tilt: Option<f64>, zoom: Option<f64>) -> Result<PrecisePtz, Refused> {
    for (name, value, min, max) in [("pan", pan, 0.0, 360.0), ("tilt", tilt, -90.0, 90.0), ("zoom", zoom, 0.0, ZOOM_MAX)] {
        if value.is_some_and(|value| !(min..=max).contains(&value)) {
            return Err(bad(format!("{name} is a number from {min} to {max}")));
        }
    }
    match (pan, tilt, zoom) {
        (None, None, None) => Err(bad("give pan, tilt or zoom".to_owned())),
        _ => Ok(PrecisePtz { pan, tilt, zoom }),
    }
}

fn instruction(control: &ask::DeviceControl) -> Result<Instruction, Refused> {
    use ask::DeviceControl as Ask;
    match *control {
        Ask::Move { pan, tilt, zoom } => {
            in_range("pan", pan, 255)?;
            in_range("tilt", tilt, 255)?;
            in_range("zoom", zoom.into(), 15)?;
            Ok(Instruction::Move { pan, tilt, zoom })
        }
        Ask::Lens { focus, iris } => {
            in_range("focus", focus, 255)?;
            in_range("iris", iris, 255)?;
            Ok(Instruction::Lens { focus, iris })
        }
        Ask::Preset { number: 0, .. } => Err(bad("presets are numbered from 1 to 255".to_owned())),
        Ask::Preset { action, number } => Ok(Instruction::Preset(action, number)),
        Ask::Cruise { action, group, value } => cruise(action, group, value),
        Ask::Scan { action, group, value } => scan(action, group, value),
        Ask::Switch { number, on } => Ok(Instruction::Auxiliary { number, on }),
        _ => Ok(Instruction::STOP),
    }
}

fn cruise(action: ask::CruiseAction, group: u8, value: u16) -> Result<Instruction, Refused> {
    use ask::CruiseAction as Ask;
    let preset = || match u8::try_from(value) {
        Ok(preset @ 1..) => Ok(preset),
        _ => Err(bad("presets are numbered from 1 to 255".to_owned())),
    };
    let action = match action {
        Ask::AddPoint => ptz::CruiseAction::AddPoint(preset()?),
        // 0: all points.
        Ask::DeletePoint if value == 0 => ptz::CruiseAction::DeleteAll,
        Ask::DeletePoint => ptz::CruiseAction::DeletePoint(preset()?),
        Ask::Speed => ptz::CruiseAction::Speed(twelve_bits(value)?),
        Ask::DwellSeconds => ptz::CruiseAction::Dwell(twelve_bits(value)?),
        Ask::Start => ptz::CruiseAction::Start,
        Ask::Stop => return Ok(Instruction::STOP),
    };
    Ok(Instruction::Cruise { group, action })
}

fn scan(action: ask::ScanAction, group: u8, value: u16) -> Result<Instruction, Refused> {
    use ask::ScanAction as Ask;
    let action = match action {
        Ask::Start => ptz::ScanAction::Start,
        Ask::LeftLimit => ptz::ScanAction::LeftLimit,
        Ask::RightLimit => ptz::ScanAction::RightLimit,
        Ask::Speed => ptz::ScanAction::Speed(twelve_bits(value)?),
        Ask::Stop => return Ok(Instruction::STOP),
    };
    Ok(Instruction::Scan { group, action })
}

fn in_range(name: &str, value: i16, max: u16) -> Result<(), Refused> {
    (value.unsigned_abs() <= max).then_some(()).ok_or_else(|| bad(format!("{name} is a number from -{max} to {max}")))
}

fn twelve_bits(value: u16) -> Result<u16, Refused> {
    (value <= TWELVE_BITS_MAX).then_some(value).ok_or_else(|| bad(format!("value is a number from 0 to {TWELVE_BITS_MAX}")))
}

fn bad(why: String) -> Refused {
    Refused { kind: RefusedKind::Bad, why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::gb28181::ptz::hex;

    #[test]
    fn wishes_are_commands() {
        use ask::DeviceControl as Ask;
        let ptz = |control: Ask| match of(&control).map(|control| control.command) {
            Ok(Command::Ptz(code)) => hex(&code),
            other => format!("{other:?}"),
        };
        let cruise = |action, value| Ask::Cruise { action, group: 3, value };
        let scan = |action, value| Ask::Scan { action, group: 2, value };
        let cases = [
            (Ask::Move { pan: 64, tilt: 0, zoom: 0 }, "A50F0101400000F6"),
            (Ask::Move { pan: 0, tilt: 0, zoom: 0 }, "A50F0100000000B5"),
            (Ask::Lens { focus: -16, iris: 0 }, "A50F014210000007"),
            (Ask::Preset { action: ask::PresetAction::Call, number: 1 }, "A50F018200010038"),
            (cruise(ask::CruiseAction::AddPoint, 5), "A50F018403050041"),
            (cruise(ask::CruiseAction::DeletePoint, 5), "A50F018503050042"),
            (cruise(ask::CruiseAction::DeletePoint, 0), "A50F01850300003D"),
            (cruise(ask::CruiseAction::Start, 0), "A50F018803000040"),
            (cruise(ask::CruiseAction::Stop, 0), "A50F0100000000B5"),
            (scan(ask::ScanAction::LeftLimit, 0), "A50F018902010041"),
            (scan(ask::ScanAction::Stop, 0), "A50F0100000000B5"),
            (Ask::Switch { number: 1, on: true }, "A50F018C01000042"),
        ];
        for (control, code) in cases {
            let text = format!("{control:?}");
            assert_eq!(ptz(control), code, "{text}");
        }
        let refused = [
            Ask::Move { pan: 256, tilt: 0, zoom: 0 },
            Ask::Move { pan: 0, tilt: i16::MIN, zoom: 0 },
            Ask::Move { pan: 0, tilt: 0, zoom: 16 },
            Ask::Lens { focus: 0, iris: -256 },
            Ask::Preset { action: ask::PresetAction::Set, number: 0 },
            cruise(ask::CruiseAction::AddPoint, 256),
            cruise(ask::CruiseAction::Speed, 4_096),
            scan(ask::ScanAction::Speed, 4_096),
            Ask::Look { pan: None, tilt: None, zoom: None },
            Ask::Look { pan: Some(360.5), tilt: None, zoom: None },
            Ask::Look { pan: None, tilt: Some(f64::NAN), zoom: None },
        ];
        for control in refused {
            assert_eq!(of(&control).map_err(|refused| refused.kind), Err(RefusedKind::Bad), "{control:?}");
        }
    }

    #[test]
    fn other_commands_keep_their_numbers() {
        let home = of(&ask::DeviceControl::HomePosition { on: false, reset_s: Some(30), preset: None }).unwrap();
        let expected = HomePosition { enabled: Some(0), reset_time: Some(30), preset_index: None };
        assert_eq!(home.command, Command::HomePosition(expected));
        let look = of(&ask::DeviceControl::Look { pan: Some(360.0), tilt: Some(-3.5), zoom: None }).unwrap();
        assert_eq!(look.command, Command::PrecisePtz(PrecisePtz { pan: Some(360.0), tilt: Some(-3.5), zoom: None }));
        let guard = of(&ask::DeviceControl::Guard { on: true }).unwrap();
        assert_eq!(guard.command, Command::Guard(GuardAction::Set));
    }
}
