//! The client's session: connects, and publishes or plays one stream.
//!
//! The same rules as for the server's: bytes and the time in, consequences out, no socket and no clock. It leaves media as messages
//! ([`ClientEvent::Message`], [`RtmpClient::write_tag`]) because its owners want them as they are on the wire.
//!
//! Limits: those of the chunk reader. Not here: the digest handshake, and reconnecting.

use bytes::Bytes;
use smallvec::SmallVec;

use super::command::{Command, object, text};
use super::error::RtmpError;
use super::handshake::{ClientHandshake, Step};
use super::wire::Wire;
use crate::format::amf0::Value;
use crate::format::flv_mux::Tag;
use crate::format::rtmp_chunk::{Message, message_parts, message_type, tag_header};
use crate::media::Stamp;

/// How much a player says that it buffers, in milliseconds.
const BUFFER_MS: u32 = 3000;

/// The transactions that are answered.
const CONNECT: f64 = 1.0;
const CREATE_STREAM: f64 = 4.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Publisher,
    Player,
}

#[derive(Debug)]
enum Phase {
    Handshake(ClientHandshake),
    Open,
}

/// What a client wants done, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientOutput {
    /// Bytes for the server.
    Send(Bytes),
    Event(ClientEvent),
}

#[derive(Clone, Debug, PartialEq)]
pub enum ClientEvent {
    /// The server has accepted `connect`.
    Connected,
    /// The stream is being published or played.
    Ready { message_stream: u32 },
    /// Audio, video or data.
    Message(Message),
    /// An `onStatus`, or the reason in an `_error`.
    Status { error: bool, code: String, description: String },
}

#[derive(Debug)]
pub struct RtmpClient {
    role: Role,
    app: String,
    name: String,
    tc_url: String,
    four_ccs: Vec<String>,
    phase: Phase,
    wire: Wire,
    message_stream: u32,
}

impl RtmpClient {
    /// `message_bytes_max` as for the server.
    pub fn publish(app: &str, name: &str, tc_url: &str, message_bytes_max: usize) -> Self {
        RtmpClient::new(Role::Publisher, app, name, tc_url, message_bytes_max)
    }

    pub fn play(app: &str, name: &str, tc_url: &str, message_bytes_max: usize) -> Self {
        RtmpClient::new(Role::Player, app, name, tc_url, message_bytes_max)
    }

    fn new(role: Role, app: &str, name: &str, tc_url: &str, message_bytes_max: usize) -> Self {
        RtmpClient {
            role,
            app: app.to_owned(),
            name: name.to_owned(),
            tc_url: tc_url.to_owned(),
            four_ccs: Vec::new(),
            phase: Phase::Handshake(ClientHandshake::default()),
            wire: Wire::new(message_bytes_max),
            message_stream: 0,
        }
    }

    /// Announces Enhanced RTMP codecs in `connect` (`fourCcList`).
    pub fn with_four_ccs(mut self, four_ccs: &[&str]) -> Self {
        self.four_ccs = four_ccs.iter().map(|four_cc| (*four_cc).to_owned()).collect();
        self
    }

    /// Takes the server's bytes. Call it first with none: the client speaks first.
    pub fn handle(&mut self, now: Stamp, bytes: &[u8], out: &mut Vec<ClientOutput>) -> Result<(), RtmpError> {
        let result = self.bytes(now, bytes, out);
        out.extend(self.wire.take().map(ClientOutput::Send));
        result
    }

    /// One media message for the server, in parts that are sent in order. Only after [`ClientEvent::Ready`].
    pub fn write_tag(&self, tag: &Tag) -> SmallVec<[Bytes; 3]> {
        message_parts(&tag_header(tag, self.message_stream), &tag.head, &tag.body, self.wire.out_chunk_size())
    }

    /// Says goodbye: ends the stream in order.
    pub fn finish(&mut self, out: &mut Vec<ClientOutput>) {
        if self.message_stream > 0 {
            if self.role == Role::Publisher {
                self.command(0, "FCUnpublish", 0.0, vec![text(&self.name)]);
            }
            self.command(0, "deleteStream", 0.0, vec![Value::Number(f64::from(self.message_stream))]);
        }
        out.extend(self.wire.take().map(ClientOutput::Send));
    }

    fn bytes(&mut self, now: Stamp, mut input: &[u8], out: &mut Vec<ClientOutput>) -> Result<(), RtmpError> {
        while let Phase::Handshake(handshake) = &mut self.phase {
            match handshake.step(&mut input, (now.as_nanos() / 1_000_000) as u32, now.as_nanos())? {
                Step::Wait => return Ok(()),
                Step::Send(bytes) => out.push(ClientOutput::Send(bytes)),
                Step::Done => {
                    self.phase = Phase::Open;
                    self.connect();
                }
            }
        }
        while let Some(message) = self.wire.read(&mut input)? {
            match message.message_type {
                message_type::COMMAND_AMF0 => self.answer(&Command::parse(&message.body)?, out),
                _ => out.push(ClientOutput::Event(ClientEvent::Message(message))),
            }
        }
        self.wire.acknowledge();
        Ok(())
    }

    fn connect(&mut self) {
        let mut fields = vec![
            ("app", text(&self.app)),
            ("flashVer", text(concat!("shardcast/", env!("CARGO_PKG_VERSION")))),
            ("tcUrl", text(&self.tc_url)),
        ];
        if self.role == Role::Publisher {
            fields.push(("type", text("nonprivate")));
        }
        if !self.four_ccs.is_empty() {
            fields.push(("fourCcList", Value::StrictArray(self.four_ccs.iter().map(|four_cc| text(four_cc)).collect())));
        }
        self.wire.send_command(0, &Command::new("connect", CONNECT, object(&fields), vec![]));
    }

    fn command(&mut self, message_stream: u32, name: &str, transaction: f64, arguments: Vec<Value>) {
        self.wire.send_command(message_stream, &Command::new(name, transaction, Value::Null, arguments));
    }

    fn answer(&mut self, command: &Command, out: &mut Vec<ClientOutput>) {
        match command.name.as_str() {
            "_result" if command.transaction == CONNECT => {
                out.push(ClientOutput::Event(ClientEvent::Connected));
                self.wire.send_chunk_size();
                if self.role == Role::Publisher {
                    self.command(0, "releaseStream", 2.0, vec![text(&self.name)]);
                    self.command(0, "FCPublish", 3.0, vec![text(&self.name)]);
                }
                self.command(0, "createStream", CREATE_STREAM, vec![]);
            }
            "_result" if command.transaction == CREATE_STREAM => {
                let number = command.arguments.first().and_then(Value::as_number).unwrap_or(1.0);
                self.message_stream = number as u32;
                let name = text(&self.name);
                match self.role {
                    Role::Publisher => self.command(self.message_stream, "publish", 5.0, vec![name, text("live")]),
                    Role::Player => {
                        self.command(self.message_stream, "play", 0.0, vec![name, Value::Number(-2000.0)]);
                        self.wire.send_buffer_length(self.message_stream, BUFFER_MS);
                    }
                }
            }
            "onStatus" | "_error" => self.status(command, out),
            _ => {}
        }
    }

    fn status(&mut self, command: &Command, out: &mut Vec<ClientOutput>) {
        let Some(info) = command.arguments.first() else { return };
        let field = |key| info.property(key).and_then(Value::as_str).unwrap_or_default();
        let code = field("code").to_owned();
        let ready = matches!(code.as_str(), "NetStream.Publish.Start" | "NetStream.Play.Start");
        let error = command.name == "_error" || field("level") == "error";
        let description = field("description").to_owned();
        out.push(ClientOutput::Event(ClientEvent::Status { error, code, description }));
        if ready {
            out.push(ClientOutput::Event(ClientEvent::Ready { message_stream: self.message_stream }));
        }
    }
}
