//! How an HTTP connection fails: what the peer did, the status it is told, the fault it is counted under.
//!
//! RFC 9110 §15 (status codes), RFC 9112 §2–§7. What is only refused (a wrong name, an unknown path) is an answer and not listed here.

use super::request::{BODY_BYTES_MAX, HEAD_BYTES_MAX, HEADERS_MAX};
use super::response::Status;
use crate::format::websocket::WebSocketError;
use crate::session::{Fault, SessionError};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    #[error("not an HTTP/1 request: {0}")]
    Malformed(httparse::Error),
    #[error("the request target is neither a path nor an absolute URL")]
    BadTarget,
    #[error("an HTTP/1.1 request needs exactly one Host header")]
    BadHost,
    #[error("Content-Length is not one number")]
    BadContentLength,
    #[error("a request head may have {HEAD_BYTES_MAX} bytes and {HEADERS_MAX} headers at most")]
    HeadTooLarge,
    #[error("a request body may have {BODY_BYTES_MAX} bytes at most")]
    BodyTooLarge,
    #[error("a request body with Transfer-Encoding is not supported")]
    TransferEncoding,
    #[error("no complete request came in time")]
    RequestTimeout,
    #[error("a viewer sent too many bytes that mean nothing")]
    ExcessBytes,
    #[error("WebSocket frames came before the handshake was answered")]
    EarlyFrames,
    #[error("a response was not taken in time")]
    ResponseTimeout,
    #[error(transparent)]
    WebSocket(#[from] WebSocketError),
}

impl HttpError {
    /// Stable name for counters.
    pub const fn label(self) -> &'static str {
        match self {
            HttpError::Malformed(_) => "malformed_request",
            HttpError::BadTarget => "bad_target",
            HttpError::BadHost => "bad_host",
            HttpError::BadContentLength => "bad_content_length",
            HttpError::HeadTooLarge => "head_too_large",
            HttpError::BodyTooLarge => "body_too_large",
            HttpError::TransferEncoding => "transfer_encoding",
            HttpError::RequestTimeout => "request_timeout",
            HttpError::ExcessBytes => "excess_bytes",
            HttpError::EarlyFrames => "ws_early_frames",
            HttpError::ResponseTimeout => "response_timeout",
            HttpError::WebSocket(error) => error.label(),
        }
    }

    /// What the peer is told, if a response can still be sent.
    pub const fn status(self) -> Option<Status> {
        match self {
            HttpError::Malformed(_) | HttpError::BadTarget | HttpError::BadHost | HttpError::BadContentLength => {
                Some(Status::BadRequest)
            }
            HttpError::HeadTooLarge => Some(Status::RequestHeaderFieldsTooLarge),
            HttpError::BodyTooLarge => Some(Status::ContentTooLarge),
            HttpError::TransferEncoding => Some(Status::NotImplemented),
            HttpError::RequestTimeout => Some(Status::RequestTimeout),
            HttpError::ExcessBytes | HttpError::EarlyFrames | HttpError::ResponseTimeout | HttpError::WebSocket(_) => None,
        }
    }

    pub const fn fault(self) -> Fault {
        match self {
            HttpError::RequestTimeout | HttpError::ResponseTimeout => Fault::TimedOut,
            HttpError::TransferEncoding | HttpError::BodyTooLarge | HttpError::HeadTooLarge => Fault::Unsupported,
            _ => Fault::Misbehaved,
        }
    }
}

impl From<HttpError> for SessionError {
    fn from(error: HttpError) -> Self {
        SessionError { fault: error.fault(), reason: error.label(), message: error.to_string() }
    }
}
