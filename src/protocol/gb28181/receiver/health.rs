//! What an operator should know of a stream that is received: silence, pictures that cannot be begun with, codecs that were guessed or
//! have changed. GB/T 28181 leaves it to platforms to find out; each remark is one clause of the state in words.
//!
//! Numbers in the words are rounded down to whole steps, so that the words change seldom. Not here: whose packets are taken (`source.rs`).

use crate::format::ps::Map;
use crate::media::{Codec, Frame, Stamp, TrackKind, Tracks};

/// What is missing for so long is told, and again after each such step.
const STEP_SECONDS: u64 = 5;
const KEYFRAME_STEP_SECONDS: u64 = 10;

#[derive(Debug, Default)]
pub struct Health {
    /// When media began, and when a picture came last that viewers can begin with.
    began: Option<Stamp>,
    key: Option<Stamp>,
    video: Option<Codec>,
    audio: Option<Codec>,
    /// What a codec was before it changed last.
    was: Option<(Codec, Codec)>,
    told: Told,
}

/// What stands in the log already.
#[derive(Debug, Default)]
struct Told {
    no_keyframe: bool,
    map: Option<Map>,
}

/// Something for the log, and the name under which it is counted.
pub type Event = (Option<&'static str>, String);

impl Health {
    pub fn packet(&mut self, now: Stamp) {
        self.began.get_or_insert(now);
    }

    /// A frame has come: of a codec, perhaps, that the track did not have before.
    pub fn frame(&mut self, now: Stamp, frame: &Frame, tracks: &Tracks) -> Option<Event> {
        let codec = tracks.get(frame.track)?.codec;
        let is_video = codec.kind() == TrackKind::Video;
        if is_video && frame.key {
            self.key = Some(now);
            self.told.no_keyframe = false;
        }
        let known = if is_video { &mut self.video } else { &mut self.audio };
        let was = known.replace(codec).filter(|was| *was != codec)?;
        self.was = Some((was, codec));
        Some((Some("codec_changed"), change(was, codec)))
    }

    pub fn media_age_ms(&self, now: Stamp) -> Option<u64> {
        Some(now.millis_since(self.began?))
    }

    pub fn has_sound(&self) -> bool {
        self.audio.is_some()
    }

    pub fn has_heard(&self, codec: Codec) -> bool {
        self.video == Some(codec) || self.audio == Some(codec)
    }

    /// Another source: what was known of the last one's codecs stays, so that a change is seen.
    pub fn restart(&mut self) {
        (self.began, self.key, self.told) = (None, None, Told::default());
    }

    /// What has become worth a line in the log.
    pub fn look(&mut self, now: Stamp, has_video: bool, map: Option<Map>) -> Option<Event> {
        let words = map_words(map);
        if words.is_some() && self.told.map != map {
            self.told.map = map;
            return words.map(|words| (None, words));
        }
        if !has_video || self.told.no_keyframe {
            return None;
        }
        let words = self.no_keyframe(now)?;
        self.told.no_keyframe = true;
        Some((Some("no_keyframe"), words))
    }

    fn no_keyframe(&self, now: Stamp) -> Option<String> {
        let seconds = steps(now, self.key.or(self.began)?, KEYFRAME_STEP_SECONDS)?;
        Some(format!("no keyframe for {seconds} s"))
    }

    /// All clauses, in the order in which they should be read.
    pub fn remarks(&self, now: Stamp, last_media: Stamp, has_video: bool, map: Option<Map>) -> Vec<String> {
        if self.began.is_none() {
            return Vec::new();
        }
        let silent = steps(now, last_media, STEP_SECONDS).map(|seconds| format!("no RTP for {seconds} s"));
        // Where nothing comes, no keyframe comes either.
        let no_keyframe = if has_video && silent.is_none() { self.no_keyframe(now) } else { None };
        let changed = self.was.map(|(was, is)| change(was, is));
        [silent, no_keyframe, map_words(map), changed].into_iter().flatten().collect()
    }
}

/// Whole steps of seconds that have passed; `None`: not one.
fn steps(now: Stamp, since: Stamp, step: u64) -> Option<u64> {
    let seconds = now.millis_since(since) / 1_000;
    (seconds >= step).then_some(seconds / step * step)
}

fn change(was: Codec, is: Codec) -> String {
    format!("codec changed from {} to {}", title(was), title(is))
}

fn map_words(map: Option<Map>) -> Option<String> {
    match map? {
        Map::Right => None,
        Map::Missing { is } => Some(format!("PS has no PSM: codec guessed {}", title(is))),
        Map::Wrong { says, is } => Some(format!("PSM says {}, but it is {}", title(says), title(is))),
    }
}

/// As people write it.
fn title(codec: Codec) -> &'static str {
    match codec {
        Codec::H264 => "H.264",
        Codec::H265 => "H.265",
        Codec::G711A => "G.711 A-law",
        Codec::G711U => "G.711 µ-law",
        other => other.name(),
    }
}
