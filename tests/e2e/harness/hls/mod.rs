//! HLS as a player sees it, by a reader of our own that knows nothing of the server's writer: a strict parser of playlists
//! ([`playlist`]), the rules that one playlist must keep ([`rules`]) and those that a live one must keep while it moves on ([`watch`]), a
//! client that follows it ([`client`]), and what is in the segments ([`fmp4`], [`ts`]).
//!
//! Spec: RFC 8216, RFC 8216bis (draft-pantos-hls-rfc8216bis). Not here: encryption, byte ranges, I-frame playlists, date ranges, alternative
//! renditions; a playlist with one of them is refused as unknown.

pub mod client;
pub mod fmp4;
pub mod playlist;
pub mod rules;
pub mod ts;
pub mod watch;

mod tests;

pub use client::{Connection, Player, Watched};
pub use playlist::Multivariant;
pub use watch::Watch;

/// What is wrong, with the rule that it breaks.
pub type Fault = String;
