//! Recordings and recorders: their routes and their JSON form.
//!
//! The index is in memory; whatever touches a file is asked of the disk's threads and waited for [`DISK_MS_MAX`] at most. A recording is
//! named by its id, never by a path. Not here: the files (`disk/`), sending one (`download.rs`).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::api::{ApiError, App, Page, limit};
use super::shards::silent;
use super::words;
use crate::config::{Problem, RecordFormat, RecordWish};
use crate::disk::{self, Entry, EntryState, ExportError, KeepError, KeepOrder, RecordedTrack};
use crate::format::mp4::file::FileError;
use crate::protocol::common::utc::{parse_rfc3339, rfc3339};
use crate::protocol::record::RecorderStatus;
use crate::session::{StreamKey, StreamKeyError};
use crate::shard::message::{Command, RecordAnswer, RecorderSnapshot, ShardId};

/// How long the disk is waited for; and for an export, which may have to write first.
pub const DISK_MS_MAX: u64 = 5_000;
pub const EXPORT_MS_MAX: u64 = 120_000;

/// Why a request about recordings is not granted.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("no recording {0}")]
    NotFound(String),
    #[error("{0:?} is no moment: write 2026-01-31T23:59:59.999Z, or milliseconds since 1970")]
    Moment(String),
    #[error("no stream {0} is there to be recorded")]
    NoStream(StreamKey),
    #[error("{0} is recorded as {1} already")]
    Already(StreamKey, &'static str),
    #[error("{0} is not recorded")]
    NotRecorded(StreamKey),
    #[error(transparent)]
    Key(#[from] StreamKeyError),
    #[error("the disk does not answer")]
    DiskSilent,
    #[error("the recording {0}: {1}")]
    Keep(String, KeepError),
    #[error("the recording {0} cannot be read: {1}")]
    Read(String, io::Error),
    #[error("the recording {0} has no playlist")]
    NoPlaylist(String),
    #[error("{0:?} is no state of a recording: recording, finishing, whole or failed")]
    State(String),
    #[error("stream: a pattern of app/name has no control characters and at most 512 bytes")]
    Pattern,
    #[error("{0:?} is a pattern: an export is of one stream")]
    OneStream(String),
    #[error("{0}: {1}")]
    Wish(&'static str, Problem),
    #[error("from must be before to")]
    EmptyRange,
    #[error(transparent)]
    Export(ExportError),
}

impl RecordError {
    pub fn status(&self) -> StatusCode {
        match self {
            RecordError::NotFound(_) | RecordError::NoStream(_) | RecordError::NotRecorded(_) => StatusCode::NOT_FOUND,
            RecordError::NoPlaylist(_) | RecordError::Export(ExportError::Nothing | ExportError::Plan(FileError::Empty)) => {
                StatusCode::NOT_FOUND
            }
            RecordError::Read(_, error) if error.kind() == io::ErrorKind::NotFound => StatusCode::NOT_FOUND,
            RecordError::Read(..) | RecordError::Export(ExportError::Read(..)) => StatusCode::INTERNAL_SERVER_ERROR,
            RecordError::Export(ExportError::TooLong(_) | ExportError::TooMany | ExportError::TooLarge) => {
                StatusCode::BAD_REQUEST
            }
            RecordError::Export(ExportError::NoRoom) => StatusCode::INSUFFICIENT_STORAGE,
            RecordError::State(_) | RecordError::Pattern | RecordError::OneStream(_) | RecordError::Wish(..) => {
                StatusCode::BAD_REQUEST
            }
            RecordError::Export(_) => StatusCode::CONFLICT,
            RecordError::Moment(_) | RecordError::Key(_) | RecordError::EmptyRange => StatusCode::BAD_REQUEST,
            RecordError::Already(..) | RecordError::Keep(_, KeepError::Busy) => StatusCode::CONFLICT,
            RecordError::DiskSilent => StatusCode::SERVICE_UNAVAILABLE,
            RecordError::Keep(_, KeepError::NotFound) => StatusCode::NOT_FOUND,
            RecordError::Keep(_, KeepError::Io(_)) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// From one moment to another, as a question of theirs has them.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct RangeView {
    from: String,
    to: String,
}

impl RecordError {
    /// What can be had instead of an export that cannot.
    pub fn ranges(&self) -> Vec<RangeView> {
        let RecordError::Export(ExportError::Changes(ranges)) = self else { return Vec::new() };
        ranges.iter().map(|(from, to)| RangeView { from: rfc3339(*from), to: rfc3339(*to) }).collect()
    }
}

/// Waits for what one of the disk's threads answers.
async fn answer_of<T>(answer: flume::Receiver<T>) -> Result<T, RecordError> {
    answer_within(DISK_MS_MAX, answer).await
}

pub async fn answer_within<T>(limit_ms: u64, answer: flume::Receiver<T>) -> Result<T, RecordError> {
    let waited = tokio::time::timeout(Duration::from_millis(limit_ms), answer.recv_async()).await;
    waited.ok().and_then(Result::ok).ok_or(RecordError::DiskSilent)
}

// ---- recordings

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordingsQuery {
    stream: Option<String>,
    format: Option<RecordFormat>,
    state: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    offset: usize,
}

#[derive(Debug, Serialize)]
pub struct RecordingsPage {
    recordings: Vec<RecordingView>,
}

/// One recording as the API shows it.
#[derive(Debug, Serialize)]
pub struct RecordingView {
    id: String,
    stream: String,
    state: &'static str,
    error: Option<String>,
    format: &'static str,
    path: String,
    start: String,
    end: String,
    start_ms: f64,
    duration_ms: f64,
    bytes: u64,
    frames: u64,
    cut_short: bool,
    gops_dropped: u64,
    tracks: Vec<RecordedTrack>,
}

impl From<&Entry> for RecordingView {
    fn from(entry: &Entry) -> Self {
        let recording = &entry.recording;
        RecordingView {
            id: entry.id.clone(),
            stream: recording.stream.clone(),
            state: entry.state.name(),
            error: (!entry.error.is_empty()).then(|| entry.error.clone()),
            format: recording.format.name(),
            path: entry.path.clone(),
            start: rfc3339(recording.start_micros),
            end: rfc3339(recording.end_micros()),
            start_ms: recording.start_micros as f64 / 1000.0,
            duration_ms: recording.duration_micros as f64 / 1000.0,
            bytes: recording.bytes,
            frames: recording.frames,
            cut_short: recording.cut_short,
            gops_dropped: recording.gops_dropped,
            tracks: recording.tracks.clone(),
        }
    }
}

pub async fn recordings(
    State(app): State<Arc<App>>,
    query: Result<Query<RecordingsQuery>, QueryRejection>,
) -> Result<Json<Page<RecordingsPage>>, ApiError> {
    let Query(query) = query?;
    let limit = limit(query.limit)?;
    let wanted = disk::Query {
        stream: query.stream.as_deref().map(pattern).transpose()?,
        format: query.format,
        state: query.state.as_deref().map(state).transpose()?,
        from: query.from.as_deref().map(moment).transpose()?,
        to: query.to.as_deref().map(moment).transpose()?,
    };
    let (total, found) = app.disk.index.find(&wanted, query.offset, limit);
    let recordings = found.iter().map(|entry| RecordingView::from(&**entry)).collect();
    let entries = RecordingsPage { recordings };
    Ok(Json(Page { total, offset: query.offset, limit, silent_shards: Vec::new(), entries }))
}

/// The name of a stream, or a pattern of such.
fn pattern(text: &str) -> Result<String, ApiError> {
    const PATTERN_BYTES_MAX: usize = 512;
    if !text.contains('*') {
        return Ok(StreamKey::parse(text)?.to_string());
    }
    let is_pattern = text.len() <= PATTERN_BYTES_MAX && !text.contains(char::is_control);
    if is_pattern { Ok(text.to_owned()) } else { Err(RecordError::Pattern.into()) }
}

fn state(name: &str) -> Result<EntryState, RecordError> {
    let found = EntryState::ALL.into_iter().find(|state| state.name() == name);
    found.ok_or_else(|| RecordError::State(name.chars().take(40).collect()))
}

/// A moment in microseconds since 1970: milliseconds, or as RFC 3339 writes it.
pub fn moment(text: &str) -> Result<i64, RecordError> {
    let no_moment = || RecordError::Moment(text.chars().take(40).collect());
    if let Ok(millis) = text.parse::<f64>() {
        let micros = millis * 1000.0;
        return if micros.abs() < 4e18 { Ok(micros as i64) } else { Err(no_moment()) };
    }
    parse_rfc3339(text).ok_or_else(no_moment)
}

pub fn find(app: &App, id: &str) -> Result<Arc<Entry>, RecordError> {
    let not_found = || RecordError::NotFound(id.chars().take(40).filter(|c| !c.is_control()).collect());
    app.disk.index.get(id).ok_or_else(not_found)
}

pub async fn recording(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<RecordingView>, ApiError> {
    let Path(id) = id?;
    Ok(Json(RecordingView::from(&*find(&app, &id)?)))
}

pub async fn delete(State(app): State<Arc<App>>, id: Result<Path<String>, PathRejection>) -> Result<StatusCode, ApiError> {
    let Path(id) = id?;
    let id = find(&app, &id)?.id.clone();
    let (reply, answer) = flume::bounded(1);
    if app.disk.keeps.send(KeepOrder::Delete { id: id.clone(), reply }).is_err() {
        return Err(RecordError::DiskSilent.into());
    }
    answer_of(answer).await?.map_err(|error| RecordError::Keep(id.clone(), error))?;
    log::info!("recording {id} deleted by the operator");
    Ok(StatusCode::NO_CONTENT)
}

// ---- recorders

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartRequest {
    stream: String,
    format: Option<RecordFormat>,
    path: Option<String>,
    split_ms: Option<u64>,
    split_bytes: Option<u64>,
    keep_ms: Option<u64>,
    pre_roll_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordersQuery {
    limit: Option<usize>,
    #[serde(default)]
    offset: usize,
}

#[derive(Debug, Serialize)]
pub struct RecordersPage {
    recorders: Vec<RecorderView>,
}

/// One recorder as the API shows it.
#[derive(Debug, Serialize)]
pub struct RecorderView {
    stream: String,
    shard: ShardId,
    #[serde(flatten)]
    status: StatusView,
}

/// What a recorder says of itself.
#[derive(Debug, Serialize)]
pub struct StatusView {
    format: &'static str,
    state: &'static str,
    path: Option<String>,
    file_start: Option<String>,
    file_duration_ms: Option<f64>,
    files: u64,
    bytes: u64,
    gops_dropped: u64,
    bytes_dropped: u64,
    failures: u64,
    last_error: Option<String>,
}

impl From<&RecorderStatus> for StatusView {
    fn from(status: &RecorderStatus) -> Self {
        StatusView {
            format: status.format.name(),
            state: status.state.name(),
            path: status.path.as_ref().map(|path| format!("{path}.{}", status.format.extension())),
            file_start: status.file_start_micros.map(rfc3339),
            file_duration_ms: status.file_duration_micros.map(|micros| micros as f64 / 1000.0),
            files: status.files,
            bytes: status.bytes,
            gops_dropped: status.gops_dropped,
            bytes_dropped: status.bytes_dropped,
            failures: status.failures,
            last_error: (!status.last_error.is_empty()).then(|| status.last_error.clone()),
        }
    }
}

impl From<&RecorderSnapshot> for RecorderView {
    fn from(snapshot: &RecorderSnapshot) -> Self {
        RecorderView { stream: snapshot.key.to_string(), shard: snapshot.shard, status: (&snapshot.status).into() }
    }
}

pub async fn recorders(
    State(app): State<Arc<App>>,
    query: Result<Query<RecordersQuery>, QueryRejection>,
) -> Result<Json<Page<RecordersPage>>, ApiError> {
    let Query(query) = query?;
    let limit = limit(query.limit)?;
    let answers = app.shards.ask(Command::Recorders).await;
    let silent_shards = silent(&answers);
    let mut found: Vec<RecorderSnapshot> = answers.into_iter().flatten().flatten().collect();
    found.sort_by(|a, b| (&a.key, a.status.format).cmp(&(&b.key, b.status.format)));
    let total = found.len();
    let recorders = found.iter().skip(query.offset).take(limit).map(RecorderView::from).collect();
    Ok(Json(Page { total, offset: query.offset, limit, silent_shards, entries: RecordersPage { recorders } }))
}

pub async fn start(State(app): State<Arc<App>>, body: axum::body::Bytes) -> Result<Response, ApiError> {
    let StartRequest { stream, format, path, split_ms, split_bytes, keep_ms, pre_roll_ms } = words::read(&body)?;
    let key = StreamKey::parse(&stream).map_err(RecordError::Key)?;
    let wish = RecordWish { format, path, split_ms, split_bytes, keep_ms, pre_roll_ms };
    if let Some((field, problem)) = wish.problem() {
        return Err(RecordError::Wish(field, problem).into());
    }
    let wish = Box::new(wish);
    let answers = app.shards.ask(|reply| Command::Record { key: key.clone(), wish: wish.clone(), reply }).await;
    let answer = answers.into_iter().flatten().find(|answer| *answer != RecordAnswer::NotHere);
    match answer.unwrap_or(RecordAnswer::NotHere) {
        RecordAnswer::Started(format) => {
            log::info!("{key}: recording as {} asked for by the operator", format.name());
            let answer = serde_json::json!({ "stream": key.as_str(), "format": format.name() });
            Ok((StatusCode::CREATED, Json(answer)).into_response())
        }
        RecordAnswer::Already(format) => Err(RecordError::Already(key, format.name()).into()),
        RecordAnswer::NotHere => Err(RecordError::NoStream(key).into()),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopQuery {
    format: Option<RecordFormat>,
}

pub async fn stop(
    State(app): State<Arc<App>>,
    key: Result<Path<String>, PathRejection>,
    query: Result<Query<StopQuery>, QueryRejection>,
) -> Result<StatusCode, ApiError> {
    let (Path(key), Query(StopQuery { format })) = (key?, query?);
    let key = StreamKey::parse(&key)?;
    let answers = app.shards.ask(|reply| Command::StopRecording { key: key.clone(), format, reply }).await;
    if answers.into_iter().flatten().sum::<usize>() == 0 {
        return Err(RecordError::NotRecorded(key).into());
    }
    log::info!("{key}: recording ended by the operator");
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_they_are_written() {
        for micros in [0, 951_782_400_000_000, 1_709_251_199_999_000, 4_107_542_400_000_000] {
            assert_eq!(moment(&rfc3339(micros)).unwrap(), micros);
        }
        let cases = [
            ("1970-01-01T08:00:00+08:00", Some(0)),
            ("1970-01-01T00:00:00.5Z", Some(500_000)),
            ("1000", Some(1_000_000)),
            ("1.5", Some(1_500)),
            ("1970-01-01", None),
            ("1970-13-01T00:00:00Z", None),
            ("1970-02-29T00:00:00Z", None),
            ("1972-02-29T00:00:00Z", Some(68_169_600_000_000)),
            ("1969-12-31T23:59:59Z", Some(-1_000_000)),
            ("1970-01-01T00:00:00", None),
            ("1970-01-01T00:00:00+8", None),
            ("1970-01-01T00:00:00é", None),
            ("", None),
            ("yesterday", None),
            ("1e300", None),
            ("NaN", None),
        ];
        for (text, micros) in cases {
            assert_eq!(moment(text).ok(), micros, "{text}");
        }
    }
}
