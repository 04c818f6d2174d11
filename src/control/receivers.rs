//! Receivers of plain RTP: how they are asked for, and their JSON form.

use serde::{Deserialize, Serialize};

use super::sessions::as_text;
use crate::protocol::gb28181::receiver::{Request, Transport};
use crate::session::{Reception, ReceptionState, StreamKey, StreamKeyError};
use crate::shard::message::{SessionId, ShardId};

pub const TIMEOUT_MS_MIN: u64 = 100;
pub const TIMEOUT_MS_MAX: u64 = 3_600_000;
const TIMEOUT_MS_DEFAULT: u64 = 15_000;

/// What is sent to open one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenRequest {
    stream: String,
    transport: TransportName,
    ssrc: Option<Ssrc>,
    timeout_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TransportName {
    Udp,
    Tcp,
}

/// A number, or its digits as they stand in the `y=` line of a session description, with leading zeros.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Ssrc {
    Number(u32),
    Digits(String),
}

impl Ssrc {
    pub fn number(&self) -> Option<u32> {
        match self {
            Ssrc::Number(number) => Some(*number),
            Ssrc::Digits(digits) => digits.parse().ok(),
        }
    }
}

/// Why a request cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum BadRequest {
    #[error(transparent)]
    Key(#[from] StreamKeyError),
    #[error("ssrc must be a number below 4294967296, or its digits")]
    Ssrc,
    #[error("timeout_ms must be {TIMEOUT_MS_MIN} to {TIMEOUT_MS_MAX}")]
    Timeout,
}

impl TryFrom<OpenRequest> for Request {
    type Error = BadRequest;

    fn try_from(request: OpenRequest) -> Result<Request, BadRequest> {
        let key = StreamKey::parse(&request.stream)?;
        let ssrc = request.ssrc.map(|ssrc| ssrc.number().ok_or(BadRequest::Ssrc)).transpose()?;
        let timeout_ms = request.timeout_ms.unwrap_or(TIMEOUT_MS_DEFAULT);
        if !(TIMEOUT_MS_MIN..=TIMEOUT_MS_MAX).contains(&timeout_ms) {
            return Err(BadRequest::Timeout);
        }
        let transport = match request.transport {
            TransportName::Udp => Transport::Udp,
            TransportName::Tcp => Transport::Tcp,
        };
        Ok(Request { key, transport, ssrc, timeout_ms })
    }
}

/// One receiver as the API shows it.
#[derive(Debug, Serialize)]
pub struct ReceiverView {
    #[serde(serialize_with = "as_text")]
    id: SessionId,
    shard: ShardId,
    stream: String,
    transport: &'static str,
    port: Option<u16>,
    ssrc: Option<u32>,
    source: Option<String>,
    state: &'static str,
    detail: String,
    tracks: Vec<&'static str>,
    packets: Packets,
}

#[derive(Debug, Serialize)]
struct Packets {
    received: u64,
    lost: u64,
    reordered: u64,
    useless: u64,
}

impl From<(SessionId, Reception)> for ReceiverView {
    fn from((id, reception): (SessionId, Reception)) -> Self {
        let received = reception.received;
        ReceiverView {
            id,
            shard: id.shard,
            stream: reception.key.to_string(),
            transport: reception.transport,
            port: reception.port,
            ssrc: reception.ssrc,
            source: reception.source.map(|source| source.to_string()),
            state: match reception.state {
                ReceptionState::Waiting => "waiting",
                ReceptionState::MediaSeen => "media_seen",
                ReceptionState::TracksFound => "tracks_found",
                ReceptionState::Playing => "playing",
                ReceptionState::Ended => "ended",
            },
            detail: reception.detail,
            tracks: reception.tracks,
            packets: Packets {
                received: received.received,
                lost: received.lost,
                reordered: received.reordered,
                useless: received.useless,
            },
        }
    }
}
