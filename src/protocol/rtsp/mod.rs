//! RTSP: bytes of a connection and datagrams ⇄ the session contract.
//!
//! RFC 2326 (RTSP 1.0). [`message`] cuts the bytes into requests and `$` frames and writes responses, [`transport`] and [`url`] read
//! what stands in them, [`session`] leads the connection and `requests` what all methods share; `publish` and `play` hold the methods
//! and the media of either direction, `path` how a track travels, `tunnel` the way
//! through HTTP. RTP, RTCP and session descriptions are the
//! business of `format::rtp` and `protocol::common`.
//!
//! Not here: TLS (it stands in front), and RTSP 2.0 (RFC 7826), which is answered by 505.

pub mod error;
pub mod message;
pub mod session;
pub mod transport;
pub mod url;

mod path;
mod play;
mod publish;
mod requests;
#[cfg(test)]
mod tests;
mod tunnel;

use super::{OverTls, Protocol};

pub const PROTOCOL: Protocol = Protocol {
    name: "rtsp",
    listen: |config| &config.rtsp.listen,
    tls: Some(OverTls { name: "rtsps", listen: |config| &config.rtsp.tls_listen }),
    session: |context, now| Box::new(session::RtspSession::new(context, now)),
};
