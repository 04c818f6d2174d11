//! The eight bytes of a `PTZCmd` (GB/T 28181-2016 A.3) ⇄ what a camera is to do.
//!
//! The first byte is A5, the second the version and a check of both, the last the sum of all before. Not here: who may move what.

use serde::Deserialize;

use crate::protocol::common::hex as digits;

/// As they stand in a message, in 16 hex digits.
pub type Code = [u8; 8];

/// The address that means whatever the message is for.
pub const ANY_ADDRESS: u16 = 1;

const START: u8 = 0xA5;
const VERSION: u8 = 0;
/// The largest number that two bytes hold between them.
pub const TWELVE_BITS_MAX: u16 = 0xFFF;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// `pan`: right if positive, `tilt`: up, both −255..=255; `zoom`: in, −15..=15. All 0: stop.
    Move {
        pan: i16,
        tilt: i16,
        zoom: i8,
    },
    /// `focus`: far if positive, `iris`: open, both −255..=255. All 0: stop.
    Lens {
        focus: i16,
        iris: i16,
    },
    Preset(PresetAction, u8),
    Cruise {
        group: u8,
        action: CruiseAction,
    },
    Scan {
        group: u8,
        action: ScanAction,
    },
    /// A switch; 1 is the wiper.
    Auxiliary {
        number: u8,
        on: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PresetAction {
    Set,
    Call,
    Delete,
}

/// A way from preset to preset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CruiseAction {
    AddPoint(u8),
    DeletePoint(u8),
    DeleteAll,
    /// 12 bits.
    Speed(u16),
    /// Seconds at each point, 12 bits.
    Dwell(u16),
    Start,
}

/// A way to and fro between two limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanAction {
    Start,
    LeftLimit,
    RightLimit,
    /// 12 bits.
    Speed(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PtzError {
    #[error("a PTZ command begins with A5 and a check of its version")]
    Start,
    #[error("the sum of a PTZ command is wrong")]
    Sum,
    #[error("the PTZ command {0:02X} is unknown")]
    Unknown(u8),
}

impl Instruction {
    pub const STOP: Instruction = Instruction::Move { pan: 0, tilt: 0, zoom: 0 };

    /// Numbers beyond their ranges are brought into them.
    pub fn code(self, address: u16) -> Code {
        let [command, first, second, third] = self.bytes();
        let [high, low] = address.to_be_bytes();
        let check = ((START >> 4) + (START & 15) + VERSION) & 15;
        let mut code = [START, VERSION << 4 | check, low, command, first, second, third << 4 | high & 15, 0];
        code[7] = sum(&code);
        code
    }

    /// Command, data 1 to 3; the last of 4 bits.
    fn bytes(self) -> [u8; 4] {
        match self {
            Instruction::Move { pan, tilt, zoom } => {
                let bits = sign(pan, 0x01, 0x02) | sign(tilt, 0x08, 0x04) | sign(zoom.into(), 0x10, 0x20);
                [bits, speed(pan), speed(tilt), zoom.unsigned_abs().min(15)]
            }
            Instruction::Lens { focus, iris } => {
                [0x40 | sign(focus, 0x01, 0x02) | sign(iris, 0x04, 0x08), speed(focus), speed(iris), 0]
            }
            Instruction::Preset(PresetAction::Set, number) => [0x81, 0, number, 0],
            Instruction::Preset(PresetAction::Call, number) => [0x82, 0, number, 0],
            Instruction::Preset(PresetAction::Delete, number) => [0x83, 0, number, 0],
            Instruction::Cruise { group, action } => match action {
                CruiseAction::AddPoint(preset) => [0x84, group, preset, 0],
                CruiseAction::DeletePoint(preset) => [0x85, group, preset, 0],
                CruiseAction::DeleteAll => [0x85, group, 0, 0],
                CruiseAction::Speed(speed) => twelve_bits(0x86, group, speed),
                CruiseAction::Dwell(seconds) => twelve_bits(0x87, group, seconds),
                CruiseAction::Start => [0x88, group, 0, 0],
            },
            Instruction::Scan { group, action } => match action {
                ScanAction::Start => [0x89, group, 0, 0],
                ScanAction::LeftLimit => [0x89, group, 1, 0],
                ScanAction::RightLimit => [0x89, group, 2, 0],
                ScanAction::Speed(speed) => twelve_bits(0x8A, group, speed),
            },
            Instruction::Auxiliary { number, on } => [if on { 0x8C } else { 0x8D }, number, 0, 0],
        }
    }

    /// What a code means, and for which address.
    pub fn parse(code: &Code) -> Result<(Instruction, u16), PtzError> {
        let [start, check, low, command, first, second, last, _] = *code;
        if start != START || check & 15 != ((start >> 4) + (start & 15) + (check >> 4)) & 15 {
            return Err(PtzError::Start);
        }
        if code[7] != sum(code) {
            return Err(PtzError::Sum);
        }
        let address = u16::from_be_bytes([last & 15, low]);
        let number = u16::from(last >> 4) << 8 | u16::from(second);
        Ok((Self::of(command, first, second, last >> 4, number).ok_or(PtzError::Unknown(command))?, address))
    }

    fn of(command: u8, first: u8, second: u8, third: u8, number: u16) -> Option<Instruction> {
        let cruise = |action| Some(Instruction::Cruise { group: first, action });
        let scan = |action| Some(Instruction::Scan { group: first, action });
        match command {
            0x00..=0x3F => Some(Instruction::Move {
                pan: signed(command, 0x01, 0x02, first),
                tilt: signed(command, 0x08, 0x04, second),
                zoom: signed(command, 0x10, 0x20, third) as i8,
            }),
            0x40..=0x4F => {
                Some(Instruction::Lens { focus: signed(command, 0x01, 0x02, first), iris: signed(command, 0x04, 0x08, second) })
            }
            0x81 => Some(Instruction::Preset(PresetAction::Set, second)),
            0x82 => Some(Instruction::Preset(PresetAction::Call, second)),
            0x83 => Some(Instruction::Preset(PresetAction::Delete, second)),
            0x84 => cruise(CruiseAction::AddPoint(second)),
            0x85 if second == 0 => cruise(CruiseAction::DeleteAll),
            0x85 => cruise(CruiseAction::DeletePoint(second)),
            0x86 => cruise(CruiseAction::Speed(number)),
            0x87 => cruise(CruiseAction::Dwell(number)),
            0x88 => cruise(CruiseAction::Start),
            0x89 => scan(match second {
                0 => ScanAction::Start,
                1 => ScanAction::LeftLimit,
                2 => ScanAction::RightLimit,
                _ => return None,
            }),
            0x8A => scan(ScanAction::Speed(number)),
            0x8C | 0x8D => Some(Instruction::Auxiliary { number: first, on: command == 0x8C }),
            _ => None,
        }
    }
}

fn sum(code: &Code) -> u8 {
    code[..7].iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn sign(value: i16, positive: u8, negative: u8) -> u8 {
    match value.signum() {
        1 => positive,
        -1 => negative,
        _ => 0,
    }
}

fn speed(value: i16) -> u8 {
    value.unsigned_abs().min(255) as u8
}

fn twelve_bits(command: u8, group: u8, number: u16) -> [u8; 4] {
    let [high, low] = number.min(TWELVE_BITS_MAX).to_be_bytes();
    [command, group, low, high]
}

/// A speed with the sign of its bit; the first wins where both are set.
fn signed(command: u8, positive: u8, negative: u8, speed: u8) -> i16 {
    match command {
        _ if command & positive != 0 => speed.into(),
        _ if command & negative != 0 => -i16::from(speed),
        _ => 0,
    }
}

/// 16 digits.
pub fn hex(code: &Code) -> String {
    digits::upper(code)
}

/// Digits of either case, with or without spaces; `None` unless they are 16. Neither start nor sum is looked at.
pub fn parse_hex(text: &str) -> Option<Code> {
    let mut code = Code::default();
    let mut nibbles = text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16));
    for byte in &mut code {
        *byte = (nibbles.next()?? << 4 | nibbles.next()??) as u8;
    }
    nibbles.next().is_none().then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_have_the_codes_of_the_standard() {
        let moved = |pan, tilt, zoom| Instruction::Move { pan, tilt, zoom };
        let lens = |focus, iris| Instruction::Lens { focus, iris };
        let cruise = |action| Instruction::Cruise { group: 3, action };
        let scan = |action| Instruction::Scan { group: 2, action };
        let cases = [
            ("A50F0100000000B5", Instruction::STOP),
            ("A50F0101400000F6", moved(0x40, 0, 0)),
            ("A50F0102400000F7", moved(-0x40, 0, 0)),
            ("A50F0108004000FD", moved(0, 0x40, 0)),
            ("A50F0104004000F9", moved(0, -0x40, 0)),
            ("A50F010AFF0100BF", moved(-0xFF, 1, 0)),
            ("A50F011000008045", moved(0, 0, 8)),
            ("A50F0120000010E5", moved(0, 0, -1)),
            ("A50F0140000000F5", lens(0, 0)),
            ("A50F014110000006", lens(0x10, 0)),
            ("A50F014210000007", lens(-0x10, 0)),
            ("A50F014400200019", lens(0, 0x20)),
            ("A50F01480020001D", lens(0, -0x20)),
            ("A50F018100010037", Instruction::Preset(PresetAction::Set, 1)),
            ("A50F018200010038", Instruction::Preset(PresetAction::Call, 1)),
            ("A50F018300FF0037", Instruction::Preset(PresetAction::Delete, 255)),
            ("A50F01840305 0041", cruise(CruiseAction::AddPoint(5))),
            ("A50F018503050042", cruise(CruiseAction::DeletePoint(5))),
            ("A50F01850300003D", cruise(CruiseAction::DeleteAll)),
            ("A50F018803000040", cruise(CruiseAction::Start)),
            ("A50F018902000040", scan(ScanAction::Start)),
            ("A50F018902010041", scan(ScanAction::LeftLimit)),
            ("a50f018902020042", scan(ScanAction::RightLimit)),
            ("A50F018C01000042", Instruction::Auxiliary { number: 1, on: true }),
            ("A50F018D01000043", Instruction::Auxiliary { number: 1, on: false }),
        ];
        for (text, instruction) in cases {
            let code = parse_hex(text).expect(text);
            assert_eq!(hex(&instruction.code(ANY_ADDRESS)), text.to_uppercase().replace(' ', ""));
            assert_eq!(Instruction::parse(&code), Ok((instruction, ANY_ADDRESS)), "{text}");
        }
    }

    #[test]
    fn numbers_of_twelve_bits_and_addresses_are_in_two_bytes() {
        for action in [CruiseAction::Speed(0x123), CruiseAction::Dwell(TWELVE_BITS_MAX)] {
            let instruction = Instruction::Cruise { group: 9, action };
            let code = instruction.code(0xABC);
            assert_eq!((code[2], code[6] & 15), (0xBC, 0xA));
            assert_eq!(Instruction::parse(&code), Ok((instruction, 0xABC)));
        }
        let code = Instruction::Scan { group: 1, action: ScanAction::Speed(0x7FFF) }.code(1);
        assert_eq!((code[5], code[6]), (0xFF, 0xF0));
    }

    #[test]
    fn speeds_stay_in_their_ranges() {
        let code = Instruction::Move { pan: i16::MIN, tilt: i16::MAX, zoom: i8::MIN }.code(1);
        assert_eq!(code[3..7], [0x2A, 255, 255, 0xF0]);
    }

    #[test]
    fn codes_that_are_none_are_refused() {
        let cases = [
            ("A60F0100000000B6", PtzError::Start),
            ("A50E0100000000B4", PtzError::Start),
            ("A50F0100000000B6", PtzError::Sum),
            ("A50F01F0000000A5", PtzError::Unknown(0xF0)),
            ("A50F018902030043", PtzError::Unknown(0x89)),
        ];
        for (text, error) in cases {
            assert_eq!(Instruction::parse(&parse_hex(text).unwrap()), Err(error), "{text}");
        }
        for text in ["", "A5", "A50F0100000000B", "A50F0100000000B50", "A50F0100000000BX"] {
            assert_eq!(parse_hex(text), None, "{text}");
        }
    }
}
