//! RTMP commands: message bodies ⇄ [`Command`], and the values that the answers are made of.
//!
//! Adobe RTMP 1.0 §7.1.1 and §7.2. Limits: those of `format::amf0`. A command owns its values. Not here: what a command does.

use super::error::RtmpError;
use crate::format::amf0::{self, Value};

/// `name, transaction id, command object, arguments…`
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    pub name: String,
    /// Zero: no answer is wanted.
    pub transaction: f64,
    /// What stands third: an object, or null.
    pub object: Value,
    pub arguments: Vec<Value>,
}

impl Command {
    pub fn new(name: &str, transaction: f64, object: Value, arguments: Vec<Value>) -> Self {
        Command { name: name.to_owned(), transaction, object, arguments }
    }

    /// Takes the body of a command message, without the format byte of type 17.
    pub fn parse(body: &[u8]) -> Result<Self, RtmpError> {
        let mut values = amf0::decode_all(body)?.into_iter();
        let Some(Value::String(name)) = values.next() else { return Err(RtmpError::NoCommandName) };
        let transaction = values.next().and_then(|value| value.as_number()).unwrap_or(0.0);
        let object = values.next().unwrap_or(Value::Null);
        Ok(Command { name, transaction, object, arguments: values.collect() })
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        amf0::encode(&Value::String(self.name.clone()), &mut body);
        amf0::encode(&Value::Number(self.transaction), &mut body);
        amf0::encode(&self.object, &mut body);
        for argument in &self.arguments {
            amf0::encode(argument, &mut body);
        }
        body
    }

    /// A string property of the command object.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.object.property(key).and_then(Value::as_str)
    }

    /// `_result` for this command.
    pub fn result(&self, object: Value, argument: Value) -> Command {
        Command::new("_result", self.transaction, object, vec![argument])
    }

    /// `_error` for this command.
    pub fn error(&self, description: &str) -> Command {
        let info = status_info(Level::Error, "NetConnection.Call.Failed", description);
        Command::new("_error", self.transaction, Value::Null, vec![info])
    }

    /// `onStatus` or one of its relatives (`onFCPublish`).
    pub fn status(name: &str, level: Level, code: &str, description: &str) -> Command {
        Command::new(name, 0.0, Value::Null, vec![status_info(level, code, description)])
    }
}

/// The `level` of a status (§7.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Status,
    Error,
}

fn status_info(level: Level, code: &str, description: &str) -> Value {
    let level = match level {
        Level::Status => "status",
        Level::Error => "error",
    };
    object(&[("level", text(level)), ("code", text(code)), ("description", text(description))])
}

pub fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

pub fn object(fields: &[(&str, Value)]) -> Value {
    Value::Object(fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_survive_their_encoding() {
        let play = Command::new("play", 0.0, Value::Null, vec![text("a"), Value::Number(-2000.0)]);
        assert_eq!(Command::parse(&play.encode()), Ok(play));
        let connect = Command::new("connect", 1.0, object(&[("app", text("live"))]), vec![]);
        assert_eq!(Command::parse(&connect.encode()).unwrap().text("app"), Some("live"));
    }

    #[test]
    fn odd_and_broken_commands() {
        assert_eq!(Command::parse(b"\x02\0\x01x"), Ok(Command::new("x", 0.0, Value::Null, vec![])), "name alone");
        assert_eq!(Command::parse(b"\x02\0\x01x\x05"), Ok(Command::new("x", 0.0, Value::Null, vec![])), "no transaction id");
        assert_eq!(Command::parse(b""), Err(RtmpError::NoCommandName));
        assert_eq!(Command::parse(b"\x05"), Err(RtmpError::NoCommandName));
        assert!(matches!(Command::parse(b"\x02\0\x09x"), Err(RtmpError::Amf(_))));
    }
}
