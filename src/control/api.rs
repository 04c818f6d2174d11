//! The REST API: routes, what they accept, and what they answer. `docs/API.md` shows an answer of each.
//!
//! Every answer but `/metrics` is JSON, errors too: `{"error": "one sentence"}`. Lists are cut into pages of [`LIMIT_MAX`] at most,
//! bodies at `control.body_bytes_max`. A shard that does not answer is named in `silent_shards` and is no error of a list. Not here:
//! sockets (`listener.rs`), the text of `/metrics` (`metrics.rs`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::download;
use super::gb28181::api::PlatformError;
use super::gb28181::{self, Desk};
use super::health::Health;
use super::load::{Loads, ShardView};
use super::metrics::{self, Scrape};
use super::process::Process;
use super::receivers::{self, BadRequest, OpenRequest, ReceiverView, StartError};
use super::recordings::{self, RecordError};
use super::senders;
use super::sessions::{Role, SessionView};
use super::shards::{Shards, Unanswered, silent};
use super::streams::{Stream, StreamView, group};
use super::words;
use crate::config::Config;
use crate::disk::Disk;
use crate::protocol::gb28181::receiver;
use crate::session::{CloseReason, Reception, StreamKey, StreamKeyError};
use crate::shard::message::{Command, SessionId, ShardId, ShardSnapshot};

/// The most entries of one page.
const LIMIT_MAX: usize = 1_000;
/// Entries of a page that does not say how many it wants.
const LIMIT_DEFAULT: usize = 100;

/// What the handlers share.
#[derive(Debug)]
pub struct App {
    pub config: Arc<Config>,
    pub shards: Shards,
    pub health: Arc<Health>,
    /// `None`: it is not enabled.
    pub gb28181: Option<Desk>,
    pub disk: Disk,
    pub started: Instant,
    loads: Mutex<Loads>,
}

impl App {
    pub fn new(config: Arc<Config>, shards: Shards, health: Arc<Health>, gb28181: Option<Desk>, disk: Disk) -> Self {
        let started = Instant::now();
        let loads = Mutex::new(Loads::new(shards.count(), started));
        App { config, shards, health, gb28181, disk, started, loads }
    }

    /// A snapshot of every shard; what a shard tells only once is kept.
    async fn shard_snapshots(&self) -> Vec<Option<ShardSnapshot>> {
        let answers = self.shards.ask(Command::Shard).await;
        let mut loads = lock(&self.loads);
        answers.iter().flatten().for_each(|snapshot| loads.note(snapshot));
        answers
    }
}

/// A panic elsewhere leaves numbers behind that are at worst stale.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/api/v1/streams", get(streams))
        .route("/api/v1/streams/{*key}", get(stream))
        .route("/api/v1/sessions", get(sessions))
        .route("/api/v1/sessions/{id}", get(session).delete(kick))
        .route("/api/v1/rtp", get(list_receivers).post(open_receiver))
        .route("/api/v1/rtp/senders", get(senders::senders).post(senders::start))
        .route("/api/v1/rtp/senders/{id}", get(senders::sender).delete(senders::close))
        .route("/api/v1/rtp/{id}", get(receiver).delete(close_receiver))
        .route("/api/v1/recordings", get(recordings::recordings))
        .route("/api/v1/recordings/{id}", get(recordings::recording).delete(recordings::delete))
        .route("/api/v1/recordings/{id}/file", get(download::file))
        // Players take segments by their ending.
        .route("/api/v1/recordings/{id}/file.ts", get(download::file))
        .route("/api/v1/recordings/{id}/index.m3u8", get(download::index_m3u8))
        .route("/api/v1/recordings/export", get(download::export))
        .route("/api/v1/recorders", get(recordings::recorders).post(recordings::start))
        .route("/api/v1/recorders/{*key}", delete(recordings::stop))
        .route("/api/v1/shards", get(shards))
        .route("/api/v1/version", get(version))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics_text))
        .merge(gb28181::api::router())
        .fallback(async || ApiError::NoRoute)
        .method_not_allowed_fallback(async || ApiError::BadMethod)
        .layer(middleware::from_fn_with_state(app.clone(), guard))
        .with_state(app)
}

/// Why a request is not granted.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("no such route")]
    NoRoute,
    #[error("this route does not take that method")]
    BadMethod,
    #[error("no stream {0}")]
    NoStream(StreamKey),
    #[error("no session {0}")]
    NoSession(SessionId),
    #[error(transparent)]
    BadKey(#[from] StreamKeyError),
    #[error("a session id looks like 0-42")]
    BadId,
    #[error("{0}")]
    BadPath(#[from] PathRejection),
    #[error("{0}")]
    BadQuery(#[from] QueryRejection),
    #[error("limit must be 1 to {LIMIT_MAX}")]
    BadLimit,
    #[error("a page of another site may not change anything here")]
    ForeignOrigin,
    #[error("the body cannot be read or has more than {0} bytes")]
    BadBody(usize),
    #[error("shard {0} does not answer")]
    Silent(ShardId),
    #[error("no receiver {0}")]
    NoReceiver(SessionId),
    #[error("no sender {0}")]
    NoSender(SessionId),
    #[error("the body is not what this route takes: {0}")]
    BadJson(String),
    #[error(transparent)]
    BadRequest(#[from] BadRequest),
    #[error(transparent)]
    BadSender(#[from] senders::BadRequest),
    #[error(transparent)]
    NotStarted(#[from] StartError),
    #[error(transparent)]
    Platform(#[from] PlatformError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl ApiError {
    fn status(&self) -> StatusCode {
        match self {
            ApiError::NoRoute | ApiError::NoStream(_) | ApiError::NoSession(_) => StatusCode::NOT_FOUND,
            ApiError::NoReceiver(_) | ApiError::NoSender(_) => StatusCode::NOT_FOUND,
            ApiError::BadMethod => StatusCode::METHOD_NOT_ALLOWED,
            ApiError::BadKey(_) | ApiError::BadId | ApiError::BadPath(_) | ApiError::BadQuery(_) | ApiError::BadLimit => {
                StatusCode::BAD_REQUEST
            }
            ApiError::BadJson(_) | ApiError::BadRequest(_) | ApiError::BadSender(_) => StatusCode::BAD_REQUEST,
            ApiError::NotStarted(StartError::NameInUse(_)) => StatusCode::CONFLICT,
            ApiError::NotStarted(StartError::Connect(_)) => StatusCode::BAD_GATEWAY,
            ApiError::ForeignOrigin => StatusCode::FORBIDDEN,
            ApiError::BadBody(_) => StatusCode::PAYLOAD_TOO_LARGE,
            ApiError::Silent(_) | ApiError::NotStarted(StartError::NoRoom(_) | StartError::Silent(_)) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            ApiError::Platform(error) => error.status(),
            ApiError::Record(error) => error.status(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let message = match &self {
            ApiError::BadQuery(rejection) => format!("the query is not what this route takes: {}", words::of_query(rejection)),
            other => other.to_string(),
        };
        let body = match &self {
            ApiError::Record(error) if !error.ranges().is_empty() => json!({ "error": message, "ranges": error.ranges() }),
            _ => json!({ "error": message }),
        };
        (self.status(), Json(body)).into_response()
    }
}

/// Before every route: no page of another site changes anything, and no body is larger than allowed.
async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Result<Response, ApiError> {
    if !request.method().is_safe() && !same_site(request.headers()) {
        return Err(ApiError::ForeignOrigin);
    }
    let bytes_max = app.config.control.body_bytes_max;
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, bytes_max).await.map_err(|_| ApiError::BadBody(bytes_max))?;
    Ok(next.run(Request::from_parts(head, Body::from(body))).await)
}

/// Whether a browser's request comes from this server's own pages. Other clients send no `Origin` (RFC 6454, section 7).
fn same_site(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    matches!((authority, host), (Some(authority), Some(host)) if authority.eq_ignore_ascii_case(host))
}

/// One page of a list.
#[derive(Debug, Serialize)]
pub(super) struct Page<T> {
    /// How many there are on all pages.
    pub total: usize,
    pub offset: usize,
    pub limit: usize,
    pub silent_shards: Vec<ShardId>,
    #[serde(flatten)]
    pub entries: T,
}

pub(super) fn limit(asked: Option<usize>) -> Result<usize, ApiError> {
    let limit = asked.unwrap_or(LIMIT_DEFAULT);
    if (1..=LIMIT_MAX).contains(&limit) { Ok(limit) } else { Err(ApiError::BadLimit) }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamsQuery {
    app: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    offset: usize,
}

#[derive(Debug, Serialize)]
struct StreamsPage {
    streams: Vec<StreamView>,
}

async fn streams(
    State(app): State<Arc<App>>,
    query: Result<Query<StreamsQuery>, QueryRejection>,
) -> Result<Json<Page<StreamsPage>>, ApiError> {
    let Query(query) = query?;
    let limit = limit(query.limit)?;
    let answers = app.shards.ask(|reply| Command::Streams { key: None, reply }).await;
    let silent_shards = silent(&answers);
    let mut found = group(answers);
    if let Some(app) = &query.app {
        found.retain(|key, _| key.app() == app);
    }
    let total = found.len();
    let page = found.into_iter().skip(query.offset).take(limit);
    let streams = page.map(|(key, snapshots)| StreamView::from(&Stream::merge(key, snapshots))).collect();
    Ok(Json(Page { total, offset: query.offset, limit, silent_shards, entries: StreamsPage { streams } }))
}

async fn stream(State(app): State<Arc<App>>, key: Result<Path<String>, PathRejection>) -> Result<Json<StreamView>, ApiError> {
    let Path(key) = key?;
    let key = StreamKey::parse(&key)?;
    let answers = app.shards.ask(|reply| Command::Streams { key: Some(key.clone()), reply }).await;
    let silent_shards = silent(&answers);
    match group(answers).remove(&key) {
        Some(snapshots) => Ok(Json(StreamView::from(&Stream::merge(key, snapshots)))),
        // The stream may be on a shard that did not say so.
        None => Err(silent_shards.first().map_or(ApiError::NoStream(key), |shard| ApiError::Silent(*shard))),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionsQuery {
    stream: Option<String>,
    role: Option<Role>,
    limit: Option<usize>,
    #[serde(default)]
    offset: usize,
}

#[derive(Debug, Serialize)]
struct SessionsPage {
    sessions: Vec<SessionView>,
}

async fn sessions(
    State(app): State<Arc<App>>,
    query: Result<Query<SessionsQuery>, QueryRejection>,
) -> Result<Json<Page<SessionsPage>>, ApiError> {
    let Query(query) = query?;
    let limit = limit(query.limit)?;
    let answers = app.shards.ask(Command::Sessions).await;
    let silent_shards = silent(&answers);
    let mut found: Vec<_> = answers.into_iter().flatten().flatten().collect();
    found.retain(|session| {
        let on_stream = query.stream.as_deref().is_none_or(|key| session.stream.as_ref().is_some_and(|of| of.as_str() == key));
        on_stream && query.role.is_none_or(|role| Role::from(session.role) == role)
    });
    found.sort_unstable_by_key(|session| session.id);
    let total = found.len();
    let sessions = found.into_iter().skip(query.offset).take(limit).map(SessionView::from).collect();
    Ok(Json(Page { total, offset: query.offset, limit, silent_shards, entries: SessionsPage { sessions } }))
}

pub(super) fn session_id(path: Result<Path<String>, PathRejection>) -> Result<SessionId, ApiError> {
    let Path(id) = path?;
    id.parse().map_err(|()| ApiError::BadId)
}

pub(super) fn unanswered(id: SessionId) -> impl Fn(Unanswered) -> ApiError {
    move |why| match why {
        Unanswered::NoShard => ApiError::NoSession(id),
        Unanswered::Silent(shard) => ApiError::Silent(shard),
    }
}

async fn session(State(app): State<Arc<App>>, id: Result<Path<String>, PathRejection>) -> Result<Json<SessionView>, ApiError> {
    let id = session_id(id)?;
    let sessions = app.shards.ask_one(id.shard, Command::Sessions).await.map_err(unanswered(id))?;
    let found = sessions.into_iter().find(|session| session.id == id);
    found.map(|session| Json(session.into())).ok_or(ApiError::NoSession(id))
}

async fn kick(State(app): State<Arc<App>>, id: Result<Path<String>, PathRejection>) -> Result<StatusCode, ApiError> {
    let id = session_id(id)?;
    let question = |done| Command::Close { session: id, reason: CloseReason::Kicked, done };
    let was_there = app.shards.ask_one(id.shard, question).await.map_err(unanswered(id))?;
    if !was_there {
        return Err(ApiError::NoSession(id));
    }
    log::info!("session {id} closed by the operator");
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReceiversQuery {
    limit: Option<usize>,
    #[serde(default)]
    offset: usize,
}

#[derive(Debug, Serialize)]
struct ReceiversPage {
    receivers: Vec<ReceiverView>,
}

async fn list_receivers(
    State(app): State<Arc<App>>,
    query: Result<Query<ReceiversQuery>, QueryRejection>,
) -> Result<Json<Page<ReceiversPage>>, ApiError> {
    let Query(query) = query?;
    let limit = limit(query.limit)?;
    let answers = app.shards.ask(Command::Receptions).await;
    let silent_shards = silent(&answers);
    let mut found: Vec<(SessionId, Reception)> = answers.into_iter().flatten().flatten().collect();
    found.sort_by_key(|(id, _)| *id);
    let total = found.len();
    let receivers = found.into_iter().skip(query.offset).take(limit).map(ReceiverView::from).collect();
    Ok(Json(Page { total, offset: query.offset, limit, silent_shards, entries: ReceiversPage { receivers } }))
}

/// Opens a port for RTP, on the shard of the stream if it has one.
async fn open_receiver(State(app): State<Arc<App>>, body: axum::body::Bytes) -> Result<Response, ApiError> {
    let request: OpenRequest = words::read(&body)?;
    let request = receiver::Request::try_from(request)?;
    let started = receivers::start(&app.shards, &app.config, &request).await?;
    Ok((StatusCode::CREATED, Json(ReceiverView::from(started))).into_response())
}

async fn find_receiver(app: &App, id: SessionId) -> Result<(SessionId, Reception), ApiError> {
    let no_receiver = |why| match why {
        Unanswered::NoShard => ApiError::NoReceiver(id),
        Unanswered::Silent(shard) => ApiError::Silent(shard),
    };
    let found = app.shards.ask_one(id.shard, Command::Receptions).await.map_err(no_receiver)?;
    found.into_iter().find(|(of, _)| *of == id).ok_or(ApiError::NoReceiver(id))
}

async fn receiver(State(app): State<Arc<App>>, id: Result<Path<String>, PathRejection>) -> Result<Json<ReceiverView>, ApiError> {
    let id = session_id(id)?;
    Ok(Json(find_receiver(&app, id).await?.into()))
}

async fn close_receiver(State(app): State<Arc<App>>, id: Result<Path<String>, PathRejection>) -> Result<StatusCode, ApiError> {
    let id = session_id(id)?;
    find_receiver(&app, id).await?;
    let question = |done| Command::Close { session: id, reason: CloseReason::Kicked, done };
    if !app.shards.ask_one(id.shard, question).await.map_err(unanswered(id))? {
        return Err(ApiError::NoReceiver(id));
    }
    log::info!("receiver {id} closed by the operator");
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Serialize)]
struct ShardsAnswer {
    uptime_ms: u64,
    process: Process,
    shards: Vec<ShardView>,
}

async fn shards(State(app): State<Arc<App>>) -> Json<ShardsAnswer> {
    let answers = app.shard_snapshots().await;
    let now = Instant::now();
    let mut loads = lock(&app.loads);
    let views = (0..).zip(answers).map(|(shard, answer)| loads.view(shard, answer, app.health.still_ms(shard), now));
    let uptime_ms = u64::try_from(app.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Json(ShardsAnswer { uptime_ms, process: Process::read(), shards: views.collect() })
}

async fn version() -> Json<serde_json::Value> {
    Json(json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") }))
}

/// For load balancers and supervisors: may new connections come here?
async fn healthz(State(app): State<Arc<App>>) -> Response {
    let mut reasons = Vec::new();
    if app.health.is_draining() {
        reasons.push("shutting down".to_owned());
    }
    reasons.extend(app.health.stopped().iter().map(|(shard, ms)| format!("shard {shard}: no heartbeat for {ms} ms")));
    if reasons.is_empty() {
        let answers = app.shard_snapshots().await;
        reasons.extend(silent(&answers).iter().map(|shard| format!("shard {shard} does not answer")));
    }
    if reasons.is_empty() {
        return "ok".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": reasons.join(", ") }))).into_response()
}

async fn metrics_text(State(app): State<Arc<App>>) -> Response {
    let streams = app.shards.ask(|reply| Command::Streams { key: None, reply }).await;
    let shards = app.shard_snapshots().await;
    let streams: Vec<Stream> = group(streams).into_iter().map(|(key, snapshots)| Stream::merge(key, snapshots)).collect();
    let platform = match &app.gb28181 {
        Some(desk) => Some(metrics::Platform::look(desk).await),
        None => None,
    };
    let scrape = Scrape::new(streams, shards, app.config.metrics.max_streams, platform);
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text(scrape.with_disk(metrics::DiskFigures::look(&app.disk))))
        .into_response()
}

#[cfg(test)]
mod tests;
