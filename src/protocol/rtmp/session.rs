//! The server's session: from the handshake to the goodbye.
//!
//! Adobe RTMP 1.0 §7.2. This file holds the life of a connection: inputs, timeouts, and the answers of the shard. The commands of the
//! client are in `requests.rs`, what a publisher sends in `publication.rs`.
//!
//! Limits: `limits.handshake_ms_max` until something is published or played, `limits.idle_ms_max` of silence from a publisher;
//! messages of [`SETUP_MESSAGE_BYTES_MAX`] until the client asks to publish, then `limits.message_bytes_max`. A connection that waits
//! owns a few hundred bytes.

use std::net::IpAddr;
use std::sync::Arc;

use super::command::{Command, Level, text};
use super::error::RtmpError;
use super::handshake::{ServerHandshake, Step};
use super::publication::Publication;
use super::wire::{Wire, event};
use crate::config::Config;
use crate::format::HevcForm;
use crate::format::amf0::Value;
use crate::format::rtmp_chunk::{Message, message_type};
use crate::media::Stamp;
use crate::protocol::SessionContext;
use crate::protocol::common::auth::Authority;
use crate::session::{CloseReason, Input, Output, Refusal, Session, SessionError};

/// Who has not asked to publish sends commands only.
const SETUP_MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// A player that has been silent so long is sent a ping, so that a connection that nobody holds any more is noticed.
const PING_MS: u64 = 20_000;

pub struct RtmpSession {
    pub(super) config: Arc<Config>,
    pub(super) authority: Arc<Authority>,
    pub(super) address: IpAddr,
    seed: u64,
    phase: Phase,
    pub(super) wire: Wire,
    /// What `connect` said.
    pub(super) client: Option<Box<Client>>,
    /// Bit n: message stream n + 1 exists.
    pub(super) message_streams: u8,
    pub(super) publication: Option<Box<Publication>>,
    pub(super) subscription: Option<Subscription>,
    /// Since when nothing is published or played.
    pub(super) idle_since: Stamp,
    last_input: Stamp,
    last_ping: Stamp,
}

#[derive(Debug)]
enum Phase {
    Handshake(ServerHandshake),
    Open,
    /// To be closed as soon as everything has been sent.
    Closing,
    Closed,
}

#[derive(Debug)]
pub(super) struct Client {
    pub app: String,
    pub tc_url: String,
    /// The form of H.265 that the client said it takes.
    pub hevc: Option<HevcForm>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Subscription {
    pub message_stream: u32,
    pub granted: bool,
}

impl RtmpSession {
    pub fn new(context: &SessionContext, now: Stamp) -> Self {
        RtmpSession {
            config: Arc::clone(&context.config),
            authority: Arc::clone(&context.authority),
            address: context.peer.ip(),
            seed: now.as_nanos() ^ u64::from(context.peer.port()) << 48,
            phase: Phase::Handshake(ServerHandshake::default()),
            wire: Wire::new(SETUP_MESSAGE_BYTES_MAX),
            client: None,
            message_streams: 0,
            publication: None,
            subscription: None,
            idle_since: now,
            last_input: now,
            last_ping: now,
        }
    }

    fn input(&mut self, now: Stamp, input: Input<'_>, out: &mut Vec<Output>) -> Result<(), RtmpError> {
        if matches!(self.phase, Phase::Closed) {
            return Ok(());
        }
        match input {
            Input::Bytes(bytes) => return self.bytes(now, bytes, out),
            // Never asked for.
            Input::Described(_) | Input::Datagram { .. } | Input::PairOpened { .. } | Input::GroupJoined(_) => {}
            // It has opened no port.
            Input::PortOpened(_) | Input::Connected(_) | Input::Disconnected | Input::Unwatched | Input::Expect(_) => {}
            // It fetches nothing.
            Input::Fetched(_) | Input::Sent => {}
            Input::Timeout => return self.timeout(now),
            Input::Publishing => self.publishing(out),
            Input::Playing(_) => self.playing(),
            Input::Refused(refusal) => self.refused(refusal),
            Input::Ended => self.ended(now),
            Input::Closing(reason) => self.closing(reason),
        }
        Ok(())
    }

    fn bytes(&mut self, now: Stamp, mut input: &[u8], out: &mut Vec<Output>) -> Result<(), RtmpError> {
        self.last_input = now;
        while let Phase::Handshake(handshake) = &mut self.phase {
            match handshake.step(&mut input, (now.as_nanos() / 1_000_000) as u32, self.seed)? {
                Step::Wait => return Ok(()),
                Step::Send(bytes) => out.push(Output::Send(bytes)),
                Step::Done => self.phase = Phase::Open,
            }
        }
        while matches!(self.phase, Phase::Open) {
            let Some(message) = self.wire.read(&mut input)? else { break };
            self.message(now, message, out)?;
        }
        self.wire.acknowledge();
        Ok(())
    }

    fn message(&mut self, now: Stamp, message: Message, out: &mut Vec<Output>) -> Result<(), RtmpError> {
        match message.message_type {
            message_type::COMMAND_AMF0 => self.request(now, message.message_stream, &Command::parse(&message.body)?, out),
            message_type::COMMAND_AMF3 => {
                // One byte says the format and is zero; then come AMF0 values, which may switch to AMF3 themselves.
                let body = message.body.strip_prefix(&[0]).unwrap_or(&message.body);
                self.request(now, message.message_stream, &Command::parse(body)?, out)
            }
            _ => match &mut self.publication {
                Some(publication) => publication.push(message, now, out),
                // Media may still be on its way when a publication has ended.
                None => Ok(()),
            },
        }
    }

    fn timeout(&mut self, now: Stamp) -> Result<(), RtmpError> {
        let limits = &self.config.limits;
        if self.setup_deadline().is_some_and(|deadline| now >= deadline) {
            return Err(RtmpError::SetupTimeout(limits.handshake_ms_max));
        }
        if self.publisher_deadline().is_some_and(|deadline| now >= deadline) {
            return Err(RtmpError::PublisherTimeout(limits.idle_ms_max));
        }
        if self.ping_deadline().is_some_and(|deadline| now >= deadline) {
            self.last_ping = now;
            self.wire.send_event(event::PING_REQUEST, (now.as_nanos() / 1_000_000) as u32);
        }
        Ok(())
    }

    fn setup_deadline(&self) -> Option<Stamp> {
        let idle = self.publication.is_none() && self.subscription.is_none();
        idle.then(|| self.idle_since.after_millis(self.config.limits.handshake_ms_max))
    }

    fn publisher_deadline(&self) -> Option<Stamp> {
        self.publication.as_ref().map(|_| self.last_input.after_millis(self.config.limits.idle_ms_max))
    }

    fn ping_deadline(&self) -> Option<Stamp> {
        self.subscription.map(|_| self.last_input.max(self.last_ping).after_millis(PING_MS))
    }

    fn publishing(&mut self, out: &mut Vec<Output>) {
        let Some(publication) = &mut self.publication else { return };
        let message_stream = publication.message_stream;
        publication.grant(out);
        self.wire.send_event(event::STREAM_BEGIN, message_stream);
        self.status(message_stream, Level::Status, "NetStream.Publish.Start", "The stream is being published.");
    }

    fn playing(&mut self) {
        let Some(subscription) = &mut self.subscription else { return };
        subscription.granted = true;
        let message_stream = subscription.message_stream;
        self.wire.send_event(event::STREAM_BEGIN, message_stream);
        self.status(message_stream, Level::Status, "NetStream.Play.Reset", "The playlist is empty.");
        self.status(message_stream, Level::Status, "NetStream.Play.Start", "The stream is being played.");
        // Flash players show no picture data to scripts without it.
        self.wire.send_data(message_stream, &[text("|RtmpSampleAccess"), Value::Boolean(true), Value::Boolean(true)]);
    }

    /// Says why in the words of the request that was refused, and ends the connection.
    fn refused(&mut self, refusal: Refusal) {
        let publication = self.publication.take_if(|publication| !publication.is_granted() && refusal != Refusal::NotFound);
        let (message_stream, kind) = match (publication, self.subscription.take()) {
            (Some(publication), _) => (publication.message_stream, "Publish"),
            (None, Some(subscription)) => (subscription.message_stream, "Play"),
            (None, None) => return,
        };
        let (code, description) = match (refusal, kind) {
            (Refusal::NameInUse, _) => ("NetStream.Publish.BadName".to_owned(), "The name is in use by another publisher."),
            (Refusal::NotFound, _) => ("NetStream.Play.StreamNotFound".to_owned(), "There is no such stream."),
            (Refusal::NotCarried, kind) => (format!("NetStream.{kind}.Failed"), "The stream has nothing that can be played so."),
            (Refusal::LimitReached, kind) => (format!("NetStream.{kind}.Failed"), "A limit of the server is reached."),
            (Refusal::ShuttingDown, kind) => (format!("NetStream.{kind}.Failed"), "The server is shutting down."),
        };
        self.status(message_stream, Level::Error, &code, description);
        self.phase = Phase::Closing;
    }

    /// The stream that was played is over. Players such as rtmpdump end only when they are told and the connection closes.
    fn ended(&mut self, now: Stamp) {
        let Some(subscription) = self.subscription.take() else { return };
        self.idle_since = now;
        self.end_of_play(subscription);
        if self.publication.is_none() {
            self.phase = Phase::Closing;
        }
    }

    fn end_of_play(&mut self, subscription: Subscription) {
        let message_stream = subscription.message_stream;
        self.wire.send_event(event::STREAM_EOF, message_stream);
        self.status(message_stream, Level::Status, "NetStream.Play.UnpublishNotify", "The stream has ended.");
        self.status(message_stream, Level::Status, "NetStream.Play.Stop", "The stream has ended.");
    }

    fn closing(&mut self, reason: CloseReason) {
        if !matches!(self.phase, Phase::Open) {
            return;
        }
        let (code, description) = match reason {
            CloseReason::ShuttingDown => ("NetConnection.Connect.AppShutdown", "The server is shutting down."),
            CloseReason::Kicked => ("NetConnection.Connect.Closed", "The operator has closed the connection."),
            CloseReason::TakenOver => ("NetConnection.Connect.Closed", "Another publisher has taken the name."),
            CloseReason::Stalled => ("NetConnection.Connect.Closed", "The connection has stalled."),
        };
        if let Some(publication) = self.publication.take() {
            self.status(publication.message_stream, Level::Status, "NetStream.Unpublish.Success", description);
        }
        if let Some(subscription) = self.subscription.take() {
            self.end_of_play(subscription);
        }
        self.status(0, Level::Status, code, description);
        self.phase = Phase::Closed;
    }

    pub(super) fn status(&mut self, message_stream: u32, level: Level, code: &str, description: &str) {
        self.wire.send_command(message_stream, &Command::status("onStatus", level, code, description));
    }

    /// The connection ends once this call's answers are sent.
    pub(super) fn close(&mut self) {
        self.phase = Phase::Closing;
    }
}

impl Session for RtmpSession {
    fn handle(&mut self, now: Stamp, input: Input<'_>, out: &mut Vec<Output>) -> Result<(), SessionError> {
        let result = self.input(now, input, out);
        out.extend(self.wire.take().map(Output::Send));
        if matches!(self.phase, Phase::Closing) {
            self.phase = Phase::Closed;
            out.push(Output::Close);
        }
        result.map_err(SessionError::from)
    }

    fn next_timeout(&self) -> Option<Stamp> {
        if matches!(self.phase, Phase::Closed) {
            return None;
        }
        [self.setup_deadline(), self.publisher_deadline(), self.ping_deadline()].into_iter().flatten().min()
    }

    fn held_bytes(&self) -> usize {
        self.wire.held_bytes()
    }
}
