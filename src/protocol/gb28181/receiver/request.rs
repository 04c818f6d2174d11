//! What a receiver is asked to do.
//!
//! GB/T 28181 §9.2 and Annex L name the transports from the platform's side: passive is the sender connecting. Not here: who may ask.

use std::net::SocketAddr;

use crate::session::{ExpectedSource, StreamKey};

/// Unless something else is asked for.
pub const TIMEOUT_MS_DEFAULT: u64 = 15_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    /// The sender connects.
    TcpPassive,
    /// The server has connected to the sender: the session is given that connection.
    TcpActive {
        to: SocketAddr,
    },
}

impl Transport {
    pub const fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::TcpPassive => "tcp_passive",
            Transport::TcpActive { .. } => "tcp_active",
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    pub key: StreamKey,
    pub transport: Transport,
    /// On the port that the shard has for many, instead of one of its own; nothing to one that connects.
    pub shared_port: bool,
    /// Whose packets are taken.
    pub source: ExpectedSource,
    /// Without media for so long the session is over.
    pub timeout_ms: u64,
    /// When nobody has watched the stream for so long the session is over; `None`: never.
    pub idle_ms: Option<u64>,
    /// Whether the sender is told what has come of its packets (RTCP, over UDP).
    pub receiver_reports: bool,
}

impl Request {
    /// Of whoever sends first, for as long as media comes.
    pub fn new(key: StreamKey, transport: Transport) -> Self {
        Request {
            key,
            transport,
            shared_port: false,
            source: ExpectedSource::default(),
            timeout_ms: TIMEOUT_MS_DEFAULT,
            idle_ms: None,
            receiver_reports: false,
        }
    }
}
