//! Receivers of RTP: how they are asked for and started, and their JSON form.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use super::media_socket::{self, ConnectError};
use super::sessions::as_text;
use super::shards::{Shards, Unanswered};
use crate::config::Config;
use crate::protocol::gb28181::receiver::{self, Receiver, Request, TIMEOUT_MS_DEFAULT, Transport};
use crate::session::{ExpectedSource, Reception, ReceptionState, Refusal, Session, StreamKey, StreamKeyError};
use crate::shard::message::{Command, Receiving, SessionId, ShardId};

pub const TIMEOUT_MS_MIN: u64 = 100;
pub const TIMEOUT_MS_MAX: u64 = 3_600_000;

/// What is sent to open one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenRequest {
    stream: String,
    transport: TransportName,
    ssrc: Option<Ssrc>,
    strict: Option<bool>,
    timeout_ms: Option<u64>,
    idle_ms: Option<u64>,
    address: Option<SocketAddr>,
    #[serde(default)]
    shared_port: bool,
    source: Option<IpAddr>,
    #[serde(default)]
    receiver_reports: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TransportName {
    Udp,
    #[serde(alias = "tcp")]
    TcpPassive,
    TcpActive,
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
    #[error("idle_ms must be {TIMEOUT_MS_MIN} to {TIMEOUT_MS_MAX}")]
    Idle,
    #[error("shared_port: give ssrc or source, by which media is told from that of others")]
    NoSource,
    #[error("address: give the sender's address and port with tcp_active, and with nothing else")]
    Address,
}

impl TryFrom<OpenRequest> for Request {
    type Error = BadRequest;

    fn try_from(request: OpenRequest) -> Result<Request, BadRequest> {
        let key = StreamKey::parse(&request.stream)?;
        let ssrc = request.ssrc.map(|ssrc| ssrc.number().ok_or(BadRequest::Ssrc)).transpose()?;
        let timeout_ms = request.timeout_ms.unwrap_or(TIMEOUT_MS_DEFAULT);
        let is_time = |ms: &u64| (TIMEOUT_MS_MIN..=TIMEOUT_MS_MAX).contains(ms);
        if !is_time(&timeout_ms) {
            return Err(BadRequest::Timeout);
        }
        if request.idle_ms.is_some_and(|ms| !is_time(&ms)) {
            return Err(BadRequest::Idle);
        }
        let transport = match (request.transport, request.address) {
            (TransportName::Udp, None) => Transport::Udp,
            (TransportName::TcpPassive, None) => Transport::TcpPassive,
            (TransportName::TcpActive, Some(to)) if to.port() != 0 => Transport::TcpActive { to },
            _ => return Err(BadRequest::Address),
        };
        if request.shared_port && ssrc.is_none() && request.source.is_none() {
            return Err(BadRequest::NoSource);
        }
        // Who names an SSRC wants no other, unless he says so.
        let source = ExpectedSource { ssrc, strict: ssrc.is_some() && request.strict != Some(false), ip: request.source };
        let OpenRequest { idle_ms, shared_port, receiver_reports, .. } = request;
        Ok(Request { source, timeout_ms, idle_ms, shared_port, receiver_reports, ..Request::new(key, transport) })
    }
}

/// Why a receiver has not begun.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}: the name is in use")]
    NameInUse(StreamKey),
    #[error("{0}")]
    NoRoom(String),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("shard {0} does not answer")]
    Silent(ShardId),
}

impl From<Unanswered> for StartError {
    fn from(why: Unanswered) -> Self {
        match why {
            Unanswered::NoShard => StartError::NoRoom("no shard".to_owned()),
            Unanswered::Silent(shard) => StartError::Silent(shard),
        }
    }
}

/// Starts a receiver, on the shard of its stream if that has one, else on the next one in turn; connects first where that is asked for.
pub async fn start(shards: &Shards, config: &Config, request: &Request) -> Result<(SessionId, Reception), StartError> {
    let connection = match request.transport {
        Transport::TcpActive { to } => Some((media_socket::connect(to).await?, to)),
        Transport::Udp | Transport::TcpPassive => None,
    };
    let ask = async |shard| ask_to_receive(shards, shard, Receiver::boxed(request.clone(), config), connection.as_ref()).await;
    let mut answer = ask(shards.next()).await?;
    if let Receiving::Elsewhere(owner) = answer {
        answer = ask(owner).await?;
    }
    let refused = |refusal, why: String| match refusal {
        Refusal::NameInUse => StartError::NameInUse(request.key.clone()),
        _ => StartError::NoRoom(why),
    };
    match answer {
        Receiving::Started(_, Reception { refusal: Some(refusal), detail, .. }) => Err(refused(refusal, detail)),
        Receiving::Started(id, reception) => {
            let at = reception.port.map_or_else(|| "connected".to_owned(), |port| format!("port {port}"));
            log::info!("receiver {id} of {} opened: {} {at}", reception.key, reception.transport);
            Ok((id, reception))
        }
        // Its owner has changed between the two questions: as a publisher that comes at the same moment.
        Receiving::Elsewhere(_) | Receiving::Sends(..) => Err(refused(Refusal::NameInUse, String::new())),
        Receiving::Refused(refusal) => {
            Err(refused(refusal, "a limit of the server is reached, or it is shutting down".to_owned()))
        }
    }
}

async fn ask_to_receive(
    shards: &Shards,
    shard: ShardId,
    session: Box<dyn Session>,
    connection: Option<&(OwnedFd, SocketAddr)>,
) -> Result<Receiving, StartError> {
    let protocol = receiver::NAME;
    let Some((socket, peer)) = connection else {
        return Ok(shards.ask_one(shard, |reply| Command::Receive { session, protocol, reply }).await?);
    };
    // A shard that knows a better one lets its descriptor go.
    let socket = socket.try_clone().map_err(|error| StartError::NoRoom(error.to_string()))?;
    Ok(shards.ask_one(shard, |reply| Command::Adopt { socket, session, protocol, peer: *peer, reply }).await?)
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
    bytes: u64,
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
            bytes: reception.bytes,
        }
    }
}
