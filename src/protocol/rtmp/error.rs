//! Everything that ends an RTMP connection: the protocol's errors, who is at fault, and the label under which each is counted.
//!
//! Not here: refusals that RTMP has words for (a bad name, a name in use), which are answered with an `onStatus`.

use super::handshake::HandshakeError;
use crate::format::amf0::Amf0Error;
use crate::format::flv::FlvError;
use crate::format::rtmp_chunk::ChunkError;
use crate::session::{Fault, SessionError};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RtmpError {
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    #[error(transparent)]
    Amf(#[from] Amf0Error),
    #[error(transparent)]
    Flv(#[from] FlvError),
    #[error("a control message of type {0} is shorter than its fields")]
    ControlTooShort(u8),
    #[error("a command does not begin with its name")]
    NoCommandName,
    #[error("a command needs a connection that connect has opened")]
    NotConnected,
    #[error("connect was sent twice")]
    ConnectTwice,
    #[error("message stream {0} was not created")]
    NoSuchStream(u32),
    #[error("an aggregate message is cut off")]
    AggregateTruncated,
    #[error("neither publish nor play within {0} ms")]
    SetupTimeout(u64),
    #[error("the publisher sent nothing for {0} ms")]
    PublisherTimeout(u64),
}

impl RtmpError {
    /// Stable; counted under this name.
    pub const fn label(&self) -> &'static str {
        match self {
            RtmpError::Handshake(HandshakeError::NotRtmp(_)) => "handshake_not_rtmp",
            RtmpError::Handshake(HandshakeError::Encrypted(_)) => "handshake_encrypted",
            RtmpError::Chunk(error) => match error {
                ChunkError::MessageTooLong { .. } => "chunk_message_too_long",
                ChunkError::TooMuchUnfinished { .. } => "chunk_too_much_unfinished",
                ChunkError::TooManyChunkStreams => "chunk_too_many_streams",
                ChunkError::NoEarlierHeader(_) => "chunk_no_earlier_header",
                ChunkError::MessageInMessage(_) => "chunk_message_in_message",
                ChunkError::ExtendedTimestamp(_) => "chunk_extended_timestamp",
                ChunkError::ChunkSize => "chunk_size",
                ChunkError::ControlTooShort => "control_too_short",
            },
            RtmpError::Amf(error) => error.label(),
            RtmpError::Flv(error) => error.label(),
            RtmpError::ControlTooShort(_) => "control_too_short",
            RtmpError::NoCommandName => "command_without_name",
            RtmpError::NotConnected => "command_before_connect",
            RtmpError::ConnectTwice => "connect_twice",
            RtmpError::NoSuchStream(_) => "no_such_message_stream",
            RtmpError::AggregateTruncated => "aggregate_truncated",
            RtmpError::SetupTimeout(_) => "setup_timeout",
            RtmpError::PublisherTimeout(_) => "publisher_timeout",
        }
    }

    const fn fault(&self) -> Fault {
        match self {
            RtmpError::Handshake(HandshakeError::Encrypted(_)) => Fault::Unsupported,
            RtmpError::SetupTimeout(_) | RtmpError::PublisherTimeout(_) => Fault::TimedOut,
            _ => Fault::Misbehaved,
        }
    }
}

impl From<RtmpError> for SessionError {
    fn from(error: RtmpError) -> Self {
        SessionError { fault: error.fault(), reason: error.label(), message: error.to_string() }
    }
}
