//! What a session asks of a stream that is cut into segments, and what it is answered.
//!
//! A [`FetchRequest`] goes to the shard that owns the stream, wherever the session is, and comes back as one [`Fetched`]: bodies are shared,
//! not copied. Not here: how a resource is called in a URL (`protocol/common/segment_names.rs`), and how segments come about.

use std::sync::Arc;

use bytes::Bytes;

use super::StreamKey;

/// What segments are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Packing {
    Fmp4,
    Ts,
}

impl Packing {
    /// The name under which viewers are counted.
    pub const fn label(self) -> &'static str {
        match self {
            Packing::Fmp4 => "hls",
            Packing::Ts => "hls-ts",
        }
    }
}

/// A place in a playlist that is to be there before the answer: a whole segment, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub msn: u64,
    pub part: Option<u32>,
}

/// `epoch`: when the stream began to be cut, in milliseconds since 1970. Nothing that is cut later has the same addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// The playlist that names the media playlist.
    Multivariant(Packing),
    Playlist {
        packing: Packing,
        /// The answer waits for it.
        wanted: Option<Place>,
        /// The client knows the older segments.
        skip: bool,
    },
    /// What a decoder needs before the segments that name it.
    Init {
        epoch: u64,
        number: u32,
    },
    Segment {
        epoch: u64,
        packing: Packing,
        msn: u64,
    },
    Part {
        epoch: u64,
        msn: u64,
        part: u32,
    },
}

impl Resource {
    /// The packing of a playlist: who asks for one is a viewer.
    pub const fn playlist(self) -> Option<Packing> {
        match self {
            Resource::Multivariant(packing) | Resource::Playlist { packing, .. } => Some(packing),
            Resource::Init { .. } | Resource::Segment { .. } | Resource::Part { .. } => None,
        }
    }

    /// Of a playlist there is none.
    pub const fn epoch(self) -> Option<u64> {
        match self {
            Resource::Multivariant(_) | Resource::Playlist { .. } => None,
            Resource::Init { epoch, .. } | Resource::Segment { epoch, .. } | Resource::Part { epoch, .. } => Some(epoch),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct FetchRequest {
    pub key: StreamKey,
    pub resource: Resource,
    /// Tells viewers apart.
    pub viewer: u64,
    /// The name of the viewer's session, for the address of the media playlist.
    pub session: Arc<str>,
    /// The session is older than it may be, unless its viewer has been watching all the time.
    pub is_expired: bool,
    /// What stands behind the address of every segment; the same for all viewers of the stream.
    pub suffix: Arc<str>,
    /// Text may come compressed.
    pub gzip: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Fetched {
    Body(Body),
    /// Whose session is too old must say again who it is.
    Expired,
    /// There is no such stream, or not that of it.
    NotFound,
    /// It is asked for what comes long after the end of the playlist.
    TooFar,
    /// What was waited for did not come in time.
    TimedOut,
    /// Too many wait already.
    Busy,
    ShuttingDown,
}

/// A complete answer. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    pub parts: Arc<[Bytes]>,
    /// Sum of the lengths of `parts`.
    pub len: usize,
    pub content: Content,
    pub lifetime: Lifetime,
    /// Tells it from every other answer for the same address, for ever; `None`: it is made for one viewer.
    pub tag: Option<u64>,
    pub gzip: bool,
}

impl Body {
    pub fn text(text: String, lifetime: Lifetime, tag: Option<u64>) -> Body {
        let bytes = Bytes::from(text);
        Body { len: bytes.len(), parts: [bytes].into(), content: Content::Playlist, lifetime, tag, gzip: false }
    }

    pub fn segment(parts: Arc<[Bytes]>, content: Content, tag: u64) -> Body {
        let len = parts.iter().map(Bytes::len).sum();
        Body { parts, len, content, lifetime: Lifetime::Immutable, tag: Some(tag), gzip: false }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    Playlist,
    Init,
    Fmp4,
    Ts,
}

/// How long a cache may keep an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Not at all.
    None,
    /// As long as it asks each time whether it is still the same.
    Checked,
    /// The answer to a request that has waited stays the same for so many seconds.
    Seconds(u64),
    /// It never changes.
    Immutable,
}
