//! The routes below `/api/v1/gb28181`: what they accept, what they ask the platform, and what they answer.
//!
//! Bodies and queries are checked here as far as that needs no knowledge of devices; the rest the platform answers, with a reason. Times are
//! taken in every form of [`Moment`]. `docs/API.md` shows an answer of each. Not here: what a device is told to do (`controls.rs`).

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::super::api::{ApiError, App, limit};
use super::super::words::read;
use super::{NoAnswer, controls};
use crate::config::MediaTransport;
use crate::protocol::gb28181::cascade::view::UpstreamView;
use crate::protocol::gb28181::moment::Moment;
use crate::protocol::gb28181::platform::CallId;
use crate::protocol::gb28181::platform::ask::{
    Answer, Ask, CallOptions, Channel, PlayingControl, RecordKind, Refused, RefusedKind,
};
use crate::protocol::gb28181::platform::view::{
    AlarmView, CallView, ChannelView, ConfigView, CruiseNameView, CruiseView, DeviceView, PositionView, PresetView,
    PtzPositionView, RecordsView, StatusView, SubscriptionView,
};
use crate::session::{StreamKey, StreamKeyError};
use crate::shard::message::Command;

/// How fast records are played, forwards or backwards (GB/T 28181-2016 Annex B).
const SCALE_MIN: f64 = 0.25;
const SCALE_MAX: f64 = 4.0;

/// All routes.
pub fn router() -> Router<Arc<App>> {
    let devices = Router::new()
        .route("/devices", get(devices))
        .route("/devices/{id}", get(device).delete(forget))
        .route("/devices/{id}/status", get(status))
        .route("/devices/{id}/channels", get(channels))
        .route("/devices/{id}/subscriptions", get(subscriptions))
        .route("/devices/{id}/alarms", get(alarms_of))
        .route("/devices/{id}/positions", get(positions_of))
        .route("/devices/{id}/records", get(records))
        .route("/devices/{id}/config", get(config))
        .route("/devices/{id}/presets", get(presets))
        .route("/devices/{id}/cruises", get(cruises))
        .route("/devices/{id}/cruises/{number}", get(cruise))
        .route("/devices/{id}/ptz_position", get(ptz_position))
        .route("/alarms", get(alarms))
        .route("/positions", get(positions))
        .route("/upstreams", get(upstreams))
        .route("/refresh", post(refresh));
    let calls = Router::new()
        .route("/play", post(play))
        .route("/playback", post(playback))
        .route("/download", post(download))
        .route("/talk", post(talk))
        .route("/calls", get(calls))
        .route("/calls/{id}", get(call).delete(stop))
        .route("/calls/{id}/control", post(control_playing));
    Router::new().nest("/api/v1/gb28181", devices.merge(calls).merge(controls::router()))
}

/// Why the platform does not do it.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    #[error(
        "GB28181 is not enabled: set gb28181.enabled: true and gb28181.password in the configuration, or --set gb28181.enabled=true"
    )]
    Disabled,
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
    #[error("{}", .0.why)]
    Refused(Refused),
    #[error("{0} must be a time such as 2026-01-02T15:04:05, or seconds since 1970")]
    BadMoment(&'static str),
    #[error("end must be later than start")]
    BadSpan,
    #[error("{name} must be -{max} to {max}")]
    BadSpeed { name: &'static str, max: i64 },
    #[error("give pan, tilt and zoom, or focus and iris; zeros stop")]
    BadMove,
    #[error("{0} needs a value")]
    NoValue(&'static str),
    #[error("seek must be 0 to {} seconds from the beginning of the span, and is never negative", u32::MAX)]
    BadSeek,
    #[error("scale must be {SCALE_MIN} to {SCALE_MAX}, or as much backwards: -{SCALE_MAX} to -{SCALE_MIN}")]
    BadScale,
    #[error("a cruise track has a number")]
    BadCruise,
    #[error("a call id is a number")]
    BadCallId,
    #[error("stream: {0}")]
    BadStream(StreamKeyError),
    #[error("device {0} has not told its status yet; POST /api/v1/gb28181/refresh asks for it")]
    NoStatus(String),
    #[error("the platform has answered something else")]
    Odd,
}

impl PlatformError {
    pub fn status(&self) -> StatusCode {
        match self {
            PlatformError::Disabled | PlatformError::NoStatus(_) => StatusCode::NOT_FOUND,
            PlatformError::NoAnswer(NoAnswer::TooLate) => StatusCode::GATEWAY_TIMEOUT,
            PlatformError::NoAnswer(NoAnswer::Gone) => StatusCode::SERVICE_UNAVAILABLE,
            PlatformError::Refused(refused) => match refused.kind {
                RefusedKind::NotFound => StatusCode::NOT_FOUND,
                RefusedKind::Bad => StatusCode::BAD_REQUEST,
                RefusedKind::Conflict => StatusCode::CONFLICT,
                RefusedKind::Full => StatusCode::SERVICE_UNAVAILABLE,
                RefusedKind::Device => StatusCode::BAD_GATEWAY,
                RefusedKind::Silent => StatusCode::GATEWAY_TIMEOUT,
            },
            PlatformError::Odd => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

type Reply<T> = Result<Json<T>, ApiError>;
pub type Done = Result<StatusCode, ApiError>;
type Id = Result<Path<String>, PathRejection>;
type Asked<T> = Result<Query<T>, QueryRejection>;

impl App {
    async fn ask_platform(&self, ask: Ask) -> Result<Answer, ApiError> {
        let desk = self.gb28181.as_ref().ok_or(PlatformError::Disabled)?;
        match desk.ask(ask).await.map_err(PlatformError::from)? {
            Answer::Refused(refused) => Err(PlatformError::Refused(refused).into()),
            answer => Ok(answer),
        }
    }

    pub async fn done(&self, ask: Ask) -> Done {
        match self.ask_platform(ask).await? {
            Answer::Done => Ok(StatusCode::NO_CONTENT),
            _ => Err(PlatformError::Odd.into()),
        }
    }

    async fn call(&self, ask: Ask) -> Reply<CallView> {
        match self.ask_platform(ask).await? {
            Answer::Call(call) => Ok(Json(*call)),
            _ => Err(PlatformError::Odd.into()),
        }
    }

    async fn device(&self, id: String) -> Result<DeviceView, ApiError> {
        match self.ask_platform(Ask::Device(id)).await? {
            Answer::Device(device) => Ok(*device),
            _ => Err(PlatformError::Odd.into()),
        }
    }

    /// `None`: nobody has it, and not every shard has answered.
    async fn has_stream(&self, key: &StreamKey) -> Option<bool> {
        let answers = self.shards.ask(Command::Names).await;
        let has_it = answers.iter().flatten().any(|names| names.contains(key));
        (has_it || answers.iter().all(Option::is_some)).then_some(has_it)
    }

    fn moment(&self, name: &'static str, moment: &Moment) -> Result<u64, ApiError> {
        let unix_s = moment.unix_s(self.config.gb28181.utc_offset_minutes);
        Ok(unix_s.ok_or(PlatformError::BadMoment(name))?)
    }

    fn span(&self, start: &Moment, end: &Moment) -> Result<(u64, u64), ApiError> {
        let (from, to) = (self.moment("start", start)?, self.moment("end", end)?);
        if from < to { Ok((from, to)) } else { Err(PlatformError::BadSpan.into()) }
    }
}

/// A device that is a camera itself is its own channel.
pub fn channel(device: String, channel: Option<String>) -> Channel {
    Channel { channel: channel.unwrap_or_else(|| device.clone()), device }
}

/// One page of a list.
#[derive(Debug, Serialize)]
struct List<T> {
    /// How many there are on all pages.
    total: usize,
    offset: usize,
    limit: usize,
    #[serde(flatten)]
    entries: T,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    limit: Option<usize>,
    #[serde(default)]
    offset: usize,
}

impl PageQuery {
    fn page<T, E>(&self, all: Vec<T>, entries: impl Fn(Vec<T>) -> E) -> Reply<List<E>> {
        let (total, offset, limit) = (all.len(), self.offset, limit(self.limit)?);
        let page = all.into_iter().skip(offset).take(limit).collect();
        Ok(Json(List { total, offset, limit, entries: entries(page) }))
    }
}

#[derive(Debug, Serialize)]
struct Devices {
    devices: Vec<DeviceView>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DevicesQuery {
    online: Option<bool>,
    limit: Option<usize>,
    #[serde(default)]
    offset: usize,
}

async fn devices(State(app): State<Arc<App>>, query: Asked<DevicesQuery>) -> Reply<List<Devices>> {
    let Query(DevicesQuery { online, limit, offset }) = query?;
    let Answer::Devices(mut devices) = app.ask_platform(Ask::Devices).await? else { return Err(PlatformError::Odd.into()) };
    devices.retain(|device| online.is_none_or(|online| device.online == online));
    PageQuery { limit, offset }.page(devices, |devices| Devices { devices })
}

async fn device(State(app): State<Arc<App>>, id: Id) -> Reply<DeviceView> {
    let Path(id) = id?;
    Ok(Json(app.device(id).await?))
}

async fn forget(State(app): State<Arc<App>>, id: Id) -> Done {
    let Path(id) = id?;
    app.done(Ask::Forget(id)).await
}

async fn status(State(app): State<Arc<App>>, id: Id) -> Reply<StatusView> {
    let Path(id) = id?;
    let device = app.device(id.clone()).await?;
    Ok(Json(device.status.ok_or(PlatformError::NoStatus(id))?))
}

#[derive(Debug, Serialize)]
struct Channels {
    channels: Vec<ChannelView>,
}

async fn channels(State(app): State<Arc<App>>, id: Id, query: Asked<PageQuery>) -> Reply<List<Channels>> {
    let (Path(id), Query(query)) = (id?, query?);
    let Answer::Channels(channels) = app.ask_platform(Ask::Channels(id)).await? else { return Err(PlatformError::Odd.into()) };
    query.page(channels, |channels| Channels { channels })
}

#[derive(Debug, Serialize)]
struct Subscriptions {
    subscriptions: Vec<SubscriptionView>,
}

async fn subscriptions(State(app): State<Arc<App>>, id: Id) -> Reply<Subscriptions> {
    let Path(id) = id?;
    match app.ask_platform(Ask::Subscriptions(id)).await? {
        Answer::Subscriptions(subscriptions) => Ok(Json(Subscriptions { subscriptions })),
        _ => Err(PlatformError::Odd.into()),
    }
}

#[derive(Debug, Serialize)]
struct Alarms {
    alarms: Vec<AlarmView>,
}

async fn list_alarms(app: &App, device: Option<String>, query: &PageQuery) -> Reply<List<Alarms>> {
    let Answer::Alarms(alarms) = app.ask_platform(Ask::Alarms(device)).await? else { return Err(PlatformError::Odd.into()) };
    query.page(alarms, |alarms| Alarms { alarms })
}

async fn alarms(State(app): State<Arc<App>>, query: Asked<PageQuery>) -> Reply<List<Alarms>> {
    list_alarms(&app, None, &query?.0).await
}

async fn alarms_of(State(app): State<Arc<App>>, id: Id, query: Asked<PageQuery>) -> Reply<List<Alarms>> {
    list_alarms(&app, Some(id?.0), &query?.0).await
}

#[derive(Debug, Serialize)]
struct Positions {
    positions: Vec<PositionView>,
}

async fn list_positions(app: &App, device: Option<String>, query: &PageQuery) -> Reply<List<Positions>> {
    match app.ask_platform(Ask::Positions(device)).await? {
        Answer::Positions(positions) => query.page(positions, |positions| Positions { positions }),
        _ => Err(PlatformError::Odd.into()),
    }
}

async fn positions(State(app): State<Arc<App>>, query: Asked<PageQuery>) -> Reply<List<Positions>> {
    list_positions(&app, None, &query?.0).await
}

async fn positions_of(State(app): State<Arc<App>>, id: Id, query: Asked<PageQuery>) -> Reply<List<Positions>> {
    list_positions(&app, Some(id?.0), &query?.0).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordsQuery {
    channel: Option<String>,
    start: String,
    end: String,
    #[serde(default)]
    kind: RecordKind,
}

async fn records(State(app): State<Arc<App>>, id: Id, query: Asked<RecordsQuery>) -> Reply<RecordsView> {
    let (Path(id), Query(query)) = (id?, query?);
    let (from_unix_s, to_unix_s) = app.span(&Moment::Text(query.start), &Moment::Text(query.end))?;
    let of = channel(id, query.channel);
    match app.ask_platform(Ask::Records { of, from_unix_s, to_unix_s, kind: query.kind }).await? {
        Answer::Records(records) => Ok(Json(records)),
        _ => Err(PlatformError::Odd.into()),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigQuery {
    channel: Option<String>,
    /// Names with commas between them.
    #[serde(default = "basic")]
    kinds: String,
}

fn basic() -> String {
    "BasicParam".to_owned()
}

async fn config(State(app): State<Arc<App>>, id: Id, query: Asked<ConfigQuery>) -> Reply<ConfigView> {
    let (Path(id), Query(query)) = (id?, query?);
    let kinds = query.kinds.split(',').map(str::to_owned).collect();
    match app.ask_platform(Ask::Config { of: channel(id, query.channel), kinds }).await? {
        Answer::Config(config) => Ok(Json(config)),
        _ => Err(PlatformError::Odd.into()),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChannelQuery {
    channel: Option<String>,
}

#[derive(Debug, Serialize)]
struct Presets {
    presets: Vec<PresetView>,
}

async fn presets(State(app): State<Arc<App>>, id: Id, query: Asked<ChannelQuery>) -> Reply<Presets> {
    let (Path(id), Query(query)) = (id?, query?);
    match app.ask_platform(Ask::Presets(channel(id, query.channel))).await? {
        Answer::Presets(presets) => Ok(Json(Presets { presets })),
        _ => Err(PlatformError::Odd.into()),
    }
}

#[derive(Debug, Serialize)]
struct Cruises {
    cruises: Vec<CruiseNameView>,
}

async fn cruises(State(app): State<Arc<App>>, id: Id, query: Asked<ChannelQuery>) -> Reply<Cruises> {
    let (Path(id), Query(query)) = (id?, query?);
    match app.ask_platform(Ask::Cruises(channel(id, query.channel))).await? {
        Answer::Cruises(cruises) => Ok(Json(Cruises { cruises })),
        _ => Err(PlatformError::Odd.into()),
    }
}

async fn cruise(
    State(app): State<Arc<App>>,
    id: Result<Path<(String, String)>, PathRejection>,
    query: Asked<ChannelQuery>,
) -> Reply<CruiseView> {
    let (Path((id, number)), Query(query)) = (id?, query?);
    let number = number.parse().map_err(|_| PlatformError::BadCruise)?;
    match app.ask_platform(Ask::Cruise { of: channel(id, query.channel), number }).await? {
        Answer::Cruise(cruise) => Ok(Json(cruise)),
        _ => Err(PlatformError::Odd.into()),
    }
}

async fn ptz_position(State(app): State<Arc<App>>, id: Id, query: Asked<ChannelQuery>) -> Reply<PtzPositionView> {
    let (Path(id), Query(query)) = (id?, query?);
    match app.ask_platform(Ask::PtzPosition(channel(id, query.channel))).await? {
        Answer::PtzPosition(position) => Ok(Json(position)),
        _ => Err(PlatformError::Odd.into()),
    }
}

/// The platforms above this one.
#[derive(Debug, Serialize)]
struct Upstreams {
    upstreams: Vec<UpstreamView>,
}

async fn upstreams(State(app): State<Arc<App>>) -> Reply<Upstreams> {
    match app.ask_platform(Ask::Upstreams).await? {
        Answer::Upstreams(upstreams) => Ok(Json(Upstreams { upstreams })),
        _ => Err(PlatformError::Odd.into()),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceBody {
    device: String,
}

async fn refresh(State(app): State<Arc<App>>, body: Bytes) -> Reply<List<Channels>> {
    let DeviceBody { device } = read(&body)?;
    let Answer::Channels(channels) = app.ask_platform(Ask::Refresh(device)).await? else {
        return Err(PlatformError::Odd.into());
    };
    PageQuery { limit: None, offset: 0 }.page(channels, |channels| Channels { channels })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlayBody {
    device: String,
    channel: Option<String>,
    transport: Option<MediaTransport>,
    stream_number: Option<u8>,
}

async fn play(State(app): State<Arc<App>>, body: Bytes) -> Reply<CallView> {
    let PlayBody { device, channel: of, transport, stream_number } = read(&body)?;
    app.call(Ask::Play { of: channel(device, of), options: CallOptions { transport, stream_number } }).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlaybackBody {
    device: String,
    channel: Option<String>,
    start: Moment,
    end: Moment,
    transport: Option<MediaTransport>,
    stream_number: Option<u8>,
}

async fn playback(State(app): State<Arc<App>>, body: Bytes) -> Reply<CallView> {
    let body: PlaybackBody = read(&body)?;
    let (from_unix_s, to_unix_s) = app.span(&body.start, &body.end)?;
    let options = CallOptions { transport: body.transport, stream_number: body.stream_number };
    app.call(Ask::Playback { of: channel(body.device, body.channel), from_unix_s, to_unix_s, options }).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DownloadBody {
    device: String,
    channel: Option<String>,
    start: Moment,
    end: Moment,
    #[serde(default = "speed")]
    speed: u32,
    transport: Option<MediaTransport>,
    stream_number: Option<u8>,
}

fn speed() -> u32 {
    1
}

async fn download(State(app): State<Arc<App>>, body: Bytes) -> Reply<CallView> {
    let body: DownloadBody = read(&body)?;
    let (from_unix_s, to_unix_s) = app.span(&body.start, &body.end)?;
    let options = CallOptions { transport: body.transport, stream_number: body.stream_number };
    let of = channel(body.device, body.channel);
    app.call(Ask::Download { of, from_unix_s, to_unix_s, speed: body.speed, options }).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TalkBody {
    device: String,
    channel: Option<String>,
    stream: String,
}

async fn talk(State(app): State<Arc<App>>, body: Bytes) -> Reply<CallView> {
    let body: TalkBody = read(&body)?;
    let stream = StreamKey::parse(&body.stream).map_err(PlatformError::BadStream)?;
    if !app.config.on_demand(stream.as_str()) && app.has_stream(&stream).await == Some(false) {
        return Err(ApiError::NoStream(stream));
    }
    app.call(Ask::Talk { of: channel(body.device, body.channel), stream }).await
}

#[derive(Debug, Serialize)]
struct Calls {
    calls: Vec<CallView>,
}

async fn calls(State(app): State<Arc<App>>, query: Asked<PageQuery>) -> Reply<List<Calls>> {
    let Query(query) = query?;
    let Answer::Calls(calls) = app.ask_platform(Ask::Calls).await? else { return Err(PlatformError::Odd.into()) };
    query.page(calls, |calls| Calls { calls })
}

fn call_id(id: Id) -> Result<CallId, ApiError> {
    let Path(id) = id?;
    Ok(CallId(id.parse().map_err(|_| PlatformError::BadCallId)?))
}

async fn call(State(app): State<Arc<App>>, id: Id) -> Reply<CallView> {
    app.call(Ask::Call(call_id(id)?)).await
}

async fn stop(State(app): State<Arc<App>>, id: Id) -> Done {
    app.done(Ask::Stop(call_id(id)?)).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlayingBody {
    action: PlayingAction,
    value: Option<f64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PlayingAction {
    Pause,
    Resume,
    Scale,
    Seek,
}

impl TryFrom<PlayingBody> for PlayingControl {
    type Error = PlatformError;

    fn try_from(body: PlayingBody) -> Result<Self, PlatformError> {
        Ok(match (body.action, body.value) {
            (PlayingAction::Pause, _) => PlayingControl::Pause,
            (PlayingAction::Resume, _) => PlayingControl::Resume,
            (PlayingAction::Scale, Some(scale)) if (SCALE_MIN..=SCALE_MAX).contains(&scale.abs()) => PlayingControl::Scale(scale),
            (PlayingAction::Scale, Some(_)) => return Err(PlatformError::BadScale),
            (PlayingAction::Scale, None) => return Err(PlatformError::NoValue("scale")),
            (PlayingAction::Seek, Some(seconds)) if (0.0..=f64::from(u32::MAX)).contains(&seconds) => {
                PlayingControl::Seek(seconds as u32)
            }
            (PlayingAction::Seek, Some(_)) => return Err(PlatformError::BadSeek),
            (PlayingAction::Seek, None) => return Err(PlatformError::NoValue("seek")),
        })
    }
}

async fn control_playing(State(app): State<Arc<App>>, id: Id, body: Bytes) -> Done {
    let (call, body) = (call_id(id)?, read::<PlayingBody>(&body)?);
    app.done(Ask::Playing { call, control: body.try_into()? }).await
}
