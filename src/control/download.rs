//! Recordings over HTTP: whole, in ranges, or several as one MP4.
//!
//! RFC 9110 §13 (conditions), §14 (ranges): one range of bytes; of several the whole is sent, as a server may. Bytes are asked of the disk's
//! reader as the client takes them, 512 KiB at a time, so a client that is slow holds two pieces and nobody else up.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_lite::stream;
use serde::Deserialize;

use super::api::{ApiError, App};
use super::recordings::{DISK_MS_MAX, EXPORT_MS_MAX, RecordError, answer_within, find, moment};
use crate::config::RecordFormat;
use crate::disk::{self, EXPORT_FILES_MAX, Entry, EntryState, ExportOrder, READ_BYTES_MAX, ReadOrder, Span, playlist};
use crate::protocol::common::ranges::{Wanted, lists, parse_range};
use crate::protocol::common::utc::{Moment, rfc3339};
use crate::session::StreamKey;

type Reads = flume::Sender<ReadOrder>;

/// What is sent: `head`, then the spans.
struct Content {
    head: Bytes,
    spans: Vec<Span>,
    /// Where each span begins.
    starts: Vec<u64>,
    len: u64,
    media_type: &'static str,
    name: String,
    etag: String,
}

impl Content {
    fn new(head: Bytes, spans: Vec<Span>, media_type: &'static str, name: String, etag: String) -> Self {
        let mut len = head.len() as u64;
        let mut starts = Vec::with_capacity(spans.len());
        for span in &spans {
            starts.push(len);
            len += span.len;
        }
        Content { head, spans, starts, len, media_type, name, etag }
    }

    /// What to read for the bytes from `from` on, up to `to` and not too many: some of the head, or spans.
    fn next(&self, from: u64, to: u64) -> Piece {
        if from < self.head.len() as u64 {
            let end = to.min(self.head.len() as u64);
            return Piece::Ready(self.head.slice(from as usize..end as usize));
        }
        let mut spans = Vec::new();
        let (mut at, end) = (from, to.min(from + READ_BYTES_MAX as u64));
        let first = self.starts.partition_point(|start| *start <= from).saturating_sub(1);
        for (span, start) in self.spans.iter().zip(&self.starts).skip(first) {
            if at >= end {
                break;
            }
            let inside = at - start;
            let len = (span.len - inside).min(end - at);
            if len > 0 {
                spans.push(Span { file: span.file.clone(), offset: span.offset + inside, len });
            }
            at += len;
        }
        Piece::Read(spans)
    }
}

enum Piece {
    Ready(Bytes),
    Read(Vec<Span>),
}

/// Asks the reader.
async fn ask<T>(reads: &Reads, order: impl FnOnce(flume::Sender<T>) -> ReadOrder) -> Result<T, RecordError> {
    ask_within(DISK_MS_MAX, reads, order).await
}

/// Asks a thread of the disk; a queue that stays full is a disk that does not answer.
async fn ask_within<O, T>(
    limit_ms: u64,
    orders: &flume::Sender<O>,
    order: impl FnOnce(flume::Sender<T>) -> O,
) -> Result<T, RecordError> {
    let (reply, answer) = flume::bounded(1);
    let sending = tokio::time::timeout(Duration::from_millis(limit_ms), orders.send_async(order(reply))).await;
    sending.ok().and_then(Result::ok).ok_or(RecordError::DiskSilent)?;
    answer_within(limit_ms, answer).await
}

/// The answer to a request for `content`.
fn respond(reads: Reads, content: Content, headers: &HeaderMap) -> Response {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let mut response = Response::new(Body::empty());
    let set = |response: &mut Response, name: header::HeaderName, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    };
    set(&mut response, header::ETAG, content.etag.clone());
    set(&mut response, header::ACCEPT_RANGES, "bytes".to_owned());
    if text(header::IF_NONE_MATCH).is_some_and(|list| lists(list, &content.etag)) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    let is_current = text(header::IF_RANGE).is_none_or(|tag| tag.trim() == content.etag);
    let wanted = text(header::RANGE).filter(|_| is_current).map_or(Wanted::All, |range| parse_range(range, content.len));
    let (from, to) = match wanted {
        Wanted::All => (0, content.len),
        Wanted::Some(from, to) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            set(&mut response, header::CONTENT_RANGE, format!("bytes {from}-{}/{}", to - 1, content.len));
            (from, to)
        }
        Wanted::Nothing => {
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            set(&mut response, header::CONTENT_RANGE, format!("bytes */{}", content.len));
            return response;
        }
    };
    set(&mut response, header::CONTENT_TYPE, content.media_type.to_owned());
    set(&mut response, header::CONTENT_LENGTH, (to - from).to_string());
    set(&mut response, header::CONTENT_DISPOSITION, disposition(&content.name));
    *response.body_mut() = body(reads, content, from, to);
    response
}

/// What a recording is called when it is saved: its stream, and when it begins.
fn file_name(stream: &str, start_micros: i64, extension: &str) -> String {
    let moment = Moment::from_micros(start_micros);
    let time = moment.time().replace(':', "-");
    let stream: String = stream.chars().map(|c| if c.is_alphanumeric() || matches!(c, '-' | '.') { c } else { '_' }).collect();
    format!("{stream}_{}T{}Z.{extension}", moment.date(), time)
}

/// RFC 6266: a name for those who know ASCII only, and as it is (RFC 8187) where that is not the same.
fn disposition(name: &str) -> String {
    use std::fmt::Write;
    let plain: String = name.chars().map(|c| if c.is_ascii() { c } else { '_' }).collect();
    let mut text = format!("inline; filename=\"{plain}\"");
    if plain != name {
        text.push_str("; filename*=UTF-8''");
        for byte in name.bytes() {
            // Writing into a string cannot fail.
            let _ = match byte {
                byte if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_') => write!(text, "{}", byte as char),
                byte => write!(text, "%{byte:02X}"),
            };
        }
    }
    text
}

/// The bytes from `from` to below `to`, read as they are taken.
fn body(reads: Reads, content: Content, from: u64, to: u64) -> Body {
    let pieces = stream::try_unfold((reads, content, from), move |(reads, content, at)| async move {
        if at >= to {
            return Ok(None);
        }
        let bytes = match content.next(at, to) {
            Piece::Ready(bytes) => bytes,
            Piece::Read(spans) => {
                let answer = ask(&reads, |reply| ReadOrder::Read { spans, reply }).await;
                answer.map_err(std::io::Error::other)??
            }
        };
        if bytes.is_empty() {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
        }
        let behind = at + bytes.len() as u64;
        Ok(Some((bytes, (reads, content, behind))))
    });
    Body::from_stream(pieces)
}

fn media_type(format: RecordFormat) -> &'static str {
    match format {
        RecordFormat::Flv => "video/x-flv",
        RecordFormat::Fmp4 | RecordFormat::Mp4 => "video/mp4",
        RecordFormat::Ts | RecordFormat::Hls => "video/mp2t",
    }
}

pub async fn file(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Path(id) = id?;
    let entry = find(&app, &id)?;
    let reads = app.disk.reads.clone();
    let path = entry.path.clone();
    let opened = ask(&reads, |reply| ReadOrder::Open { path, reply }).await?;
    let opened = opened.map_err(|error| RecordError::Read(entry.id.clone(), error))?;
    // What is being written is whole up to here.
    let len = if entry.state == EntryState::Recording { entry.recording.bytes.min(opened.bytes) } else { opened.bytes };
    let format = entry.recording.format;
    let name = file_name(&entry.recording.stream, entry.recording.start_micros, format.extension());
    let etag = format!("\"{}-{len:x}\"", entry.id);
    let content = Content::new(Bytes::new(), vec![Span { file: opened.file, offset: 0, len }], media_type(format), name, etag);
    Ok(respond(reads, content, &headers))
}

/// The playlist of an HLS recording, whose file is `file.ts`.
pub async fn index_m3u8(State(app): State<Arc<App>>, id: Result<Path<String>, PathRejection>) -> Result<Response, ApiError> {
    let Path(id) = id?;
    let entry = find(&app, &id)?;
    if entry.recording.format != RecordFormat::Hls {
        return Err(RecordError::NoPlaylist(entry.id.clone()).into());
    }
    let head = [(header::CONTENT_TYPE, "application/vnd.apple.mpegurl"), (header::CACHE_CONTROL, "no-cache")];
    Ok((head, playlist(&entry.recording, "file.ts")).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportQuery {
    stream: String,
    from: String,
    to: String,
}

pub async fn export(
    State(app): State<Arc<App>>,
    query: Result<Query<ExportQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Query(ExportQuery { stream, from, to }) = query?;
    let key = StreamKey::parse(&stream)?;
    // The index would take it for many streams.
    if key.as_str().contains('*') {
        return Err(RecordError::OneStream(stream).into());
    }
    let (from, to) = (moment(&from)?, moment(&to)?);
    if from >= to {
        return Err(RecordError::EmptyRange.into());
    }
    let wanted = disk::Query { stream: Some(key.to_string()), from: Some(from), to: Some(to), ..disk::Query::default() };
    // Some more, because a stream may be recorded in several formats.
    let (_, entries) = app.disk.index.find(&wanted, 0, 4 * EXPORT_FILES_MAX);
    let etag = export_etag(&entries, from, to);
    let reads = app.disk.reads.clone();
    let exported = ask_within(EXPORT_MS_MAX, &app.disk.exports, |reply| ExportOrder { entries, from, to, reply }).await?;
    let exported = exported.map_err(RecordError::Export)?;
    let (begin, duration) = (rfc3339(exported.begin_micros), exported.duration_micros / 1000);
    let name = file_name(key.as_str(), exported.begin_micros, "mp4");
    let content = Content::new(exported.head, exported.spans, "video/mp4", name, etag);
    let mut response = respond(reads, content, &headers);
    // Where it really begins: at the key frame before.
    for (name, value) in [("x-recording-start", begin), ("x-recording-duration-ms", duration.to_string())] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

/// The same for the same part of the same files.
fn export_etag(entries: &[Arc<Entry>], from: i64, to: i64) -> String {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    let mut add =
        |bytes: &[u8]| hash = bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3));
    for entry in entries {
        add(entry.id.as_bytes());
        add(&entry.recording.bytes.to_be_bytes());
    }
    add(&from.to_be_bytes());
    add(&to.to_be_bytes());
    format!("\"e-{hash:016x}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_called_as_their_stream_and_time() {
        let cases = [
            ("live/a", "inline; filename=\"live_a_1970-01-01T00-00-01.500Z.mp4\""),
            ("live/\"; x=\r\n", "inline; filename=\"live____x____1970-01-01T00-00-01.500Z.mp4\""),
            (
                "live/門",
                "inline; filename=\"live___1970-01-01T00-00-01.500Z.mp4\"; filename*=UTF-8''live_%E9%96%80_1970-01-01T00-00-01.500Z.mp4",
            ),
        ];
        for (stream, expected) in cases {
            assert_eq!(disposition(&file_name(stream, 1_500_000, "mp4")), expected);
        }
    }
}
