//! Everything that ends an RTSP connection: who is at fault, the status that is said last, the label under which it is counted.
//!
//! RFC 2326 §11. Not here: requests that are only refused; they are answered and the connection goes on.

use super::message::{BODY_BYTES_MAX, HEAD_BYTES_MAX, Status};
use super::session::{HELD_BYTES_MAX, STRAY_FRAMES_MAX};
use crate::session::{Fault, SessionError};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RtspError {
    #[error("byte {0:#04x} begins neither a message nor an interleaved frame")]
    NotRtsp(u8),
    #[error("the first line of a message cannot be read")]
    BadFirstLine,
    #[error("Content-Length is not one number")]
    BadContentLength,
    #[error("a message head may have {HEAD_BYTES_MAX} bytes at most")]
    HeadTooLarge,
    #[error("a message body may have {BODY_BYTES_MAX} bytes at most")]
    BodyTooLarge,
    #[error("an HTTP request that is not for a tunnel")]
    NotTunnel,
    #[error("a tunnel through HTTP is broken: its other half is missing, or it is not base64")]
    BadTunnel,
    #[error("more than {HELD_BYTES_MAX} bytes came behind a request that was not yet answered")]
    HeldTooMuch,
    #[error("more than {STRAY_FRAMES_MAX} interleaved frames came on channels that were never set up")]
    StrayFrames,
    #[error("no request within {0} ms")]
    HandshakeTimeout(u64),
    #[error("no sign of life for {0} ms")]
    SessionTimeout(u64),
    #[error("the publisher sent no media for {0} ms")]
    PublisherTimeout(u64),
}

impl RtspError {
    /// Stable; counted under this name.
    pub const fn label(self) -> &'static str {
        match self {
            RtspError::NotRtsp(_) => "not_rtsp",
            RtspError::BadFirstLine => "bad_first_line",
            RtspError::BadContentLength => "bad_content_length",
            RtspError::HeadTooLarge => "head_too_large",
            RtspError::BodyTooLarge => "body_too_large",
            RtspError::NotTunnel => "not_tunnel",
            RtspError::BadTunnel => "bad_tunnel",
            RtspError::HeldTooMuch => "held_too_much",
            RtspError::StrayFrames => "stray_frames",
            RtspError::HandshakeTimeout(_) => "handshake_timeout",
            RtspError::SessionTimeout(_) => "session_timeout",
            RtspError::PublisherTimeout(_) => "publisher_timeout",
        }
    }

    /// What the peer is told before the connection ends; `None`: nothing that it would understand.
    pub const fn status(self) -> Option<Status> {
        match self {
            RtspError::NotRtsp(_) | RtspError::BadFirstLine | RtspError::BadContentLength => Some(Status::BadRequest),
            RtspError::HeadTooLarge => Some(Status::HeadTooLarge),
            RtspError::BodyTooLarge => Some(Status::BodyTooLarge),
            RtspError::NotTunnel
            | RtspError::BadTunnel
            | RtspError::HeldTooMuch
            | RtspError::StrayFrames
            | RtspError::HandshakeTimeout(_)
            | RtspError::SessionTimeout(_)
            | RtspError::PublisherTimeout(_) => None,
        }
    }

    pub const fn fault(self) -> Fault {
        match self {
            RtspError::HeadTooLarge | RtspError::BodyTooLarge | RtspError::NotTunnel => Fault::Unsupported,
            RtspError::HandshakeTimeout(_) | RtspError::SessionTimeout(_) | RtspError::PublisherTimeout(_) => Fault::TimedOut,
            _ => Fault::Misbehaved,
        }
    }
}

impl From<RtspError> for SessionError {
    fn from(error: RtspError) -> Self {
        SessionError { fault: error.fault(), reason: error.label(), message: error.to_string() }
    }
}
