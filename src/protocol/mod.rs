//! The protocols, as a table. Everything else lists and starts protocols from here and names none of them.

pub mod clip;
pub mod common;
pub mod http;
pub mod rtmp;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::Config;
use crate::session::Session;

/// What a session is made from.
#[derive(Clone, Debug)]
pub struct SessionContext {
    pub config: Arc<Config>,
    pub peer: SocketAddr,
}

/// One protocol that listens.
pub struct Protocol {
    pub name: &'static str,
    pub listen: fn(&Config) -> &[SocketAddr],
    pub session: fn(&SessionContext, now: crate::media::Stamp) -> Box<dyn Session>,
}

pub const PROTOCOLS: &[Protocol] = &[rtmp::PROTOCOL, http::PROTOCOL];
