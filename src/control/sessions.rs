//! Sessions in their JSON form, and the filter of their list.

use serde::{Deserialize, Serialize};

use crate::shard::message::{SessionId, SessionRole, SessionSnapshot, ShardId};

/// A role, by the word that the API uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Idle,
    Publisher,
    Waiting,
    Viewer,
}

impl From<SessionRole> for Role {
    fn from(role: SessionRole) -> Self {
        match role {
            SessionRole::Idle => Role::Idle,
            SessionRole::Publisher => Role::Publisher,
            SessionRole::Waiting => Role::Waiting,
            SessionRole::Viewer => Role::Viewer,
        }
    }
}

/// One connection as the API shows it.
#[derive(Debug, Serialize)]
pub struct SessionView {
    #[serde(serialize_with = "as_text")]
    id: SessionId,
    shard: ShardId,
    peer: Option<String>,
    protocol: &'static str,
    role: Role,
    stream: Option<String>,
    agent: Option<String>,
    age_ms: u64,
    bytes_in: u64,
    bytes_out: u64,
    lag_ms: u64,
    skips: u64,
}

pub fn as_text<S: serde::Serializer>(id: &SessionId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

impl From<SessionSnapshot> for SessionView {
    fn from(session: SessionSnapshot) -> Self {
        SessionView {
            id: session.id,
            shard: session.id.shard,
            peer: session.peer.map(|peer| peer.to_string()),
            protocol: session.protocol,
            role: session.role.into(),
            stream: session.stream.map(|key| key.to_string()),
            agent: session.agent,
            age_ms: session.age_ms,
            bytes_in: session.bytes_in,
            bytes_out: session.bytes_out,
            lag_ms: session.lag_ms,
            skips: session.skips,
        }
    }
}
