//! What is shown of the platforms above, as the API prints it. Ages are milliseconds; what is not known is `null`.

use serde::Serialize;

use crate::config::SipTransport;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UpstreamView {
    pub id: String,
    pub address: String,
    pub transport: SipTransport,
    /// `waiting`, `reaching`, `registering`, `online`, `leaving`, `gone`.
    pub state: &'static str,
    /// The state in words, with its reason.
    pub detail: String,
    pub registered_age_ms: Option<u64>,
    /// What is left of the registration.
    pub expires_ms: Option<u64>,
    pub keepalive_age_ms: Option<u64>,
    pub keepalives_missed: u32,
    /// What it is shown.
    pub channels: usize,
    pub channels_online: usize,
    pub subscriptions: usize,
    /// Those that run, and the last that are over, the newest first.
    pub calls: Vec<UpstreamCallView>,
}

/// A call of a platform above.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UpstreamCallView {
    /// `play`, `playback`, `download`.
    pub kind: crate::protocol::gb28181::sdp::Kind,
    pub channel: String,
    pub stream: String,
    /// `invited`, `answered`, `sending`, `ended`.
    pub state: &'static str,
    pub detail: String,
    pub transport: &'static str,
    pub to: Option<String>,
    pub ssrc: u32,
    pub bytes: u64,
    pub age_ms: u64,
}
