//! Senders of RTP: how they are asked for and started, their routes, and their JSON form.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::api::{ApiError, App, Page, limit, session_id, unanswered};
use super::media_socket;
use super::receivers::{Ssrc, StartError};
use super::sessions::as_text;
use super::shards::{Shards, Unanswered, silent};
use super::words;
use crate::format::rtp::SourceContent;
use crate::protocol::gb28181::sender::{self, G711A_PAYLOAD_TYPE, PS_PAYLOAD_TYPE, Request, Sender, Transport};
use crate::session::{CloseReason, Sending, SendingState, StreamKey, StreamKeyError};
use crate::shard::message::{Command, Receiving, SessionId, ShardId};

pub const WAIT_MS_MIN: u64 = 100;
pub const WAIT_MS_MAX: u64 = 3_600_000;
const WAIT_MS_DEFAULT: u64 = 10_000;

/// What is sent to start one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartRequest {
    stream: String,
    transport: TransportName,
    address: Option<SocketAddr>,
    ssrc: Ssrc,
    #[serde(default)]
    payload: PayloadName,
    payload_type: Option<u8>,
    wait_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TransportName {
    Udp,
    TcpPassive,
    TcpActive,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PayloadName {
    #[default]
    Ps,
    G711a,
}

/// Why a request cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum BadRequest {
    #[error(transparent)]
    Key(#[from] StreamKeyError),
    #[error("ssrc must be a number below 4294967296, or its digits")]
    Ssrc,
    #[error("address: give the receiver's address and port, but not with tcp_passive")]
    Address,
    #[error("payload_type must be below 128")]
    PayloadType,
    #[error("wait_ms must be {WAIT_MS_MIN} to {WAIT_MS_MAX}")]
    Wait,
}

impl TryFrom<StartRequest> for Request {
    type Error = BadRequest;

    fn try_from(request: StartRequest) -> Result<Request, BadRequest> {
        let key = StreamKey::parse(&request.stream)?;
        let ssrc = request.ssrc.number().ok_or(BadRequest::Ssrc)?;
        let transport = match (request.transport, request.address) {
            (TransportName::Udp, Some(to)) if to.port() != 0 => Transport::Udp { to },
            (TransportName::TcpActive, Some(to)) if to.port() != 0 => Transport::TcpActive { to },
            (TransportName::TcpPassive, None) => Transport::TcpPassive,
            _ => return Err(BadRequest::Address),
        };
        let (content, usual) = match request.payload {
            PayloadName::Ps => (SourceContent::Ps, PS_PAYLOAD_TYPE),
            PayloadName::G711a => (SourceContent::G711A, G711A_PAYLOAD_TYPE),
        };
        let payload_type = request.payload_type.unwrap_or(usual);
        if payload_type > 127 {
            return Err(BadRequest::PayloadType);
        }
        let wait_ms = request.wait_ms.unwrap_or(WAIT_MS_DEFAULT);
        if !(WAIT_MS_MIN..=WAIT_MS_MAX).contains(&wait_ms) {
            return Err(BadRequest::Wait);
        }
        Ok(Request { key, transport, content, ssrc, payload_type, wait_ms })
    }
}

/// Starts a sender, on any shard: it is a viewer like others. Connects first where that is asked for.
pub async fn begin(shards: &Shards, request: &Request) -> Result<(SessionId, Sending), StartError> {
    let shard = shards.next();
    let (session, protocol) = (Sender::boxed(request.clone()), sender::NAME);
    let answer = match request.transport {
        Transport::TcpActive { to } => {
            let socket = media_socket::connect(to).await?;
            shards.ask_one(shard, |reply| Command::Adopt { socket, session, protocol, peer: to, reply }).await?
        }
        Transport::Udp { .. } | Transport::TcpPassive => {
            shards.ask_one(shard, |reply| Command::Receive { session, protocol, reply }).await?
        }
    };
    match answer {
        Receiving::Sends(_, Sending { refusal: Some(_), detail, .. }) => Err(StartError::NoRoom(detail)),
        Receiving::Sends(id, sending) => {
            log::info!("sender {id} of {} started: {}", sending.key, sending.transport);
            Ok((id, sending))
        }
        Receiving::Started(..) | Receiving::Elsewhere(_) | Receiving::Refused(_) => {
            Err(StartError::NoRoom("a limit of the server is reached, or it is shutting down".to_owned()))
        }
    }
}

/// One sender as the API shows it.
#[derive(Debug, Serialize)]
pub struct SenderView {
    #[serde(serialize_with = "as_text")]
    id: SessionId,
    shard: ShardId,
    stream: String,
    transport: &'static str,
    payload: &'static str,
    port: Option<u16>,
    to: Option<String>,
    ssrc: u32,
    state: &'static str,
    detail: String,
    tracks: Vec<&'static str>,
    left_out: Vec<&'static str>,
    bytes: u64,
}

impl From<(SessionId, Sending)> for SenderView {
    fn from((id, sending): (SessionId, Sending)) -> Self {
        SenderView {
            id,
            shard: id.shard,
            stream: sending.key.to_string(),
            transport: sending.transport,
            payload: sending.payload,
            port: sending.port,
            to: sending.to.map(|to| to.to_string()),
            ssrc: sending.ssrc,
            state: match sending.state {
                SendingState::Waiting => "waiting",
                SendingState::Sending => "sending",
                SendingState::Ended => "ended",
            },
            detail: sending.detail,
            tracks: sending.tracks,
            left_out: sending.left_out,
            bytes: sending.bytes,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendersQuery {
    limit: Option<usize>,
    #[serde(default)]
    offset: usize,
}

#[derive(Debug, Serialize)]
pub struct SendersPage {
    senders: Vec<SenderView>,
}

pub async fn senders(
    State(app): State<Arc<App>>,
    query: Result<Query<SendersQuery>, QueryRejection>,
) -> Result<Json<Page<SendersPage>>, ApiError> {
    let Query(query) = query?;
    let limit = limit(query.limit)?;
    let answers = app.shards.ask(Command::Sendings).await;
    let silent_shards = silent(&answers);
    let mut found: Vec<(SessionId, Sending)> = answers.into_iter().flatten().flatten().collect();
    found.sort_by_key(|(id, _)| *id);
    let total = found.len();
    let senders = found.into_iter().skip(query.offset).take(limit).map(SenderView::from).collect();
    Ok(Json(Page { total, offset: query.offset, limit, silent_shards, entries: SendersPage { senders } }))
}

pub async fn start(State(app): State<Arc<App>>, body: axum::body::Bytes) -> Result<Response, ApiError> {
    let request: StartRequest = words::read(&body)?;
    let request = Request::try_from(request)?;
    let started = begin(&app.shards, &request).await?;
    Ok((StatusCode::CREATED, Json(SenderView::from(started))).into_response())
}

async fn find(app: &App, id: SessionId) -> Result<(SessionId, Sending), ApiError> {
    let no_sender = |why| match why {
        Unanswered::NoShard => ApiError::NoSender(id),
        Unanswered::Silent(shard) => ApiError::Silent(shard),
    };
    let found = app.shards.ask_one(id.shard, Command::Sendings).await.map_err(no_sender)?;
    found.into_iter().find(|(of, _)| *of == id).ok_or(ApiError::NoSender(id))
}

pub async fn sender(State(app): State<Arc<App>>, id: Result<Path<String>, PathRejection>) -> Result<Json<SenderView>, ApiError> {
    Ok(Json(find(&app, session_id(id)?).await?.into()))
}

pub async fn close(State(app): State<Arc<App>>, id: Result<Path<String>, PathRejection>) -> Result<StatusCode, ApiError> {
    let id = session_id(id)?;
    find(&app, id).await?;
    let question = |done| Command::Close { session: id, reason: CloseReason::Kicked, done };
    if !app.shards.ask_one(id.shard, question).await.map_err(unanswered(id))? {
        return Err(ApiError::NoSender(id));
    }
    log::info!("sender {id} closed by the operator");
    Ok(StatusCode::NO_CONTENT)
}
