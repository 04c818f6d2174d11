//! What a device has at hand while it handles something: the time, and places for what it sends and tells.

use serde_json::{Value, json};

use super::ps::Pack;
use super::rtp::Packets;
use crate::poll::{Poll, Token};
use crate::rtsp::datagrams::Receiver;
use crate::tally::Tally;

/// Kept for their capacity, one set for all devices.
pub struct Scratch {
    pub unit: Vec<u8>,
    pub pack: Pack,
    pub packets: Packets,
    pub stream: Vec<u8>,
    pub receiver: Receiver,
}

impl Scratch {
    pub fn new() -> Scratch {
        let (unit, pack, packets) = (Vec::new(), Pack::default(), Packets::default());
        Scratch { unit, pack, packets, stream: vec![0; 64 * 1024], receiver: Receiver::new() }
    }
}

pub struct Turn<'a> {
    /// On the monotonic clock, in nanoseconds.
    pub now: u64,
    pub poll: &'a Poll,
    /// The device's place among all.
    pub device: usize,
    /// SIP messages, in order.
    pub out: &'a mut Vec<Vec<u8>>,
    pub events: &'a mut Vec<Value>,
    pub tally: &'a mut Tally,
    pub scratch: &'a mut Scratch,
}

impl Turn<'_> {
    /// Of one of the device's own sockets.
    pub fn token(&self, slot: usize) -> Token {
        Token::Device { at: self.device, socket: slot }
    }

    /// Tells something, with further fields.
    pub fn tell(&mut self, event: &str, device: &str, fields: Value) {
        let mut line = json!({ "event": event, "device": device });
        if let (Some(line), Value::Object(fields)) = (line.as_object_mut(), fields) {
            line.extend(fields);
        }
        self.events.push(line);
    }
}

/// Numbers that look random: tags, branches, Call-IDs. Spec: splitmix64.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut number = self.0;
        number = (number ^ number >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        number = (number ^ number >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        number ^ number >> 31
    }

    pub fn word(&mut self) -> String {
        format!("{:016x}", self.number())
    }
}
