//! What a path names: a stream, in the form that its extension says. One row in [`CONTAINERS`] per form.
//!
//! | extension | body | query |
//! |---|---|---|
//! | `.flv` | FLV | `hevc=legacy` or `enhanced`: the form of H.265 |
//! | `.mp4` | fragmented MP4, a fragment per frame | `frag=gop`: a fragment per GOP |
//! | `.ts` | MPEG-TS | |
//! | `.aac`, `.mp3` | the sound alone, if it is of that codec | |
//!
//! Other values count as absent. A name may have dots: only the last extension counts, so `/live/a.ts.ts` is the stream
//! `live/a.ts`. Not here: who may play, responses.

use super::request::Request;
use crate::config::Config;
use crate::format::mp4::FragmentMode;
use crate::format::{AudioForm, Envelope, Format, HevcForm};
use crate::protocol::common::url::percent_decode;
use crate::session::StreamKey;
use crate::session::fetch::Resource;

/// One way of serving a stream.
pub struct Container {
    suffix: &'static str,
    pub content_type: &'static str,
    /// The labels under which viewers are counted.
    pub http_label: &'static str,
    pub websocket_label: &'static str,
    pub format: fn(&Config, &Request, Envelope) -> Format,
}

pub const CONTAINERS: &[Container] = &[
    Container { suffix: ".flv", content_type: "video/x-flv", http_label: "http-flv", websocket_label: "ws-flv", format: flv },
    Container { suffix: ".mp4", content_type: "video/mp4", http_label: "http-fmp4", websocket_label: "ws-fmp4", format: fmp4 },
    Container { suffix: ".ts", content_type: "video/mp2t", http_label: "http-ts", websocket_label: "ws-ts", format: ts },
    Container { suffix: ".aac", content_type: "audio/aac", http_label: "http-aac", websocket_label: "ws-aac", format: aac },
    Container { suffix: ".mp3", content_type: "audio/mpeg", http_label: "http-mp3", websocket_label: "ws-mp3", format: mp3 },
];

fn flv(config: &Config, request: &Request, envelope: Envelope) -> Format {
    let hevc = match request.query.get("hevc") {
        Some("legacy") => HevcForm::Legacy,
        Some("enhanced") => HevcForm::Enhanced,
        _ => config.http.hevc,
    };
    Format::Flv { hevc, envelope }
}

fn fmp4(_: &Config, request: &Request, envelope: Envelope) -> Format {
    let fragments = match request.query.get("frag") {
        Some("gop") => FragmentMode::PerGop,
        _ => FragmentMode::PerFrame,
    };
    Format::Fmp4 { fragments, envelope }
}

fn ts(_: &Config, _: &Request, envelope: Envelope) -> Format {
    Format::Ts { envelope }
}

fn aac(_: &Config, _: &Request, envelope: Envelope) -> Format {
    Format::Audio { form: AudioForm::Adts, envelope }
}

fn mp3(_: &Config, _: &Request, envelope: Envelope) -> Format {
    Format::Audio { form: AudioForm::Mp3, envelope }
}

/// What a path names.
pub enum Target {
    Stream(&'static Container, StreamKey),
    /// A piece of a stream that is cut into segments.
    Fetch(StreamKey, Resource),
    /// Ends like a stream, but no stream can have that name.
    BadName(String),
    Unknown,
}

impl Target {
    pub fn of(path: &str) -> Target {
        let Some(path) = path.strip_prefix('/') else { return Target::Unknown };
        let named = CONTAINERS.iter().find_map(|container| Some((container, path.strip_suffix(container.suffix)?)));
        let Some((container, name)) = named else { return Target::Unknown };
        let Some(name) = percent_decode(name) else {
            return Target::BadName("the path has a broken percent-encoding".to_owned());
        };
        match StreamKey::parse(&name) {
            Ok(key) => Target::Stream(container, key),
            Err(error) => Target::BadName(error.to_string()),
        }
    }
}
