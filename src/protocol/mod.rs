//! The protocols, as a table. Everything else lists and starts protocols from here and names none of them.

pub mod clip;
pub mod common;
pub mod gb28181;
pub mod hls;
pub mod http;
pub mod record;
pub mod rtmp;
pub mod rtsp;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::Config;
use crate::protocol::common::auth::Authority;
use crate::session::Session;

/// What a session is made from.
#[derive(Clone, Debug)]
pub struct SessionContext {
    pub config: Arc<Config>,
    pub peer: SocketAddr,
    /// The connection is over TLS.
    pub encrypted: bool,
    /// Who may do what.
    pub authority: Arc<Authority>,
    /// Different for every session: for numbers that are not to be guessed.
    pub seed: u64,
}

/// Where a protocol listens over TLS.
#[derive(Clone, Copy)]
pub struct OverTls {
    pub name: &'static str,
    pub listen: fn(&Config) -> &[SocketAddr],
}

impl SessionContext {
    /// For a session by itself: what it shares with nobody, and a constant seed.
    pub fn lone(config: Config, peer: SocketAddr) -> Self {
        let authority = Arc::new(Authority::new(&config.auth, [0; 32]));
        SessionContext { config: Arc::new(config), peer, encrypted: false, authority, seed: 1 }
    }
}

/// One protocol that listens.
pub struct Protocol {
    pub name: &'static str,
    pub listen: fn(&Config) -> &[SocketAddr],
    /// The same over TLS, if it has that.
    pub tls: Option<OverTls>,
    pub session: fn(&SessionContext, now: crate::media::Stamp) -> Box<dyn Session>,
}

pub const PROTOCOLS: &[Protocol] = &[rtmp::PROTOCOL, http::PROTOCOL, rtsp::PROTOCOL];
