//! RTMP: bytes of a connection ⇄ the session contract.
//!
//! Adobe RTMP 1.0 and Enhanced RTMP v2. A connection begins with the [`handshake`]; then [`wire`] turns chunks into messages,
//! [`session`] leads the connection, `requests` answers the client's commands, and `publication` turns what a publisher sends into
//! media events. What a viewer is sent is written by `format::rtmp_chunk::RtmpMuxer`. [`client`] is the other side, for tests, the
//! load generator and relays.
//!
//! Not here: RTMPS (TLS stands in front of it), RTMPT and RTMPE.

pub mod client;
pub mod command;
pub mod error;
pub mod handshake;
pub mod name;
pub mod session;
pub mod wire;

mod publication;
mod requests;
#[cfg(test)]
mod tests;

use super::Protocol;

pub const PROTOCOL: Protocol = Protocol {
    name: "rtmp",
    listen: |config| &config.rtmp.listen,
    tls: None,
    session: |context, now| Box::new(session::RtmpSession::new(context, now)),
};
