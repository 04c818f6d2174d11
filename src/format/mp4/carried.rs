//! Which tracks go into an MP4, under which numbers, and with which clocks.
//!
//! All but script data, and those with a record that is broken. Not here: how a sample entry looks.

use bytes::Bytes;

use super::{VIDEO_TIMESCALE, sample_entry};
use crate::media::{Codec, Track, TrackId, TrackKind, TrackShape, Tracks, opus};

const G711_RATE: u32 = 8_000;
/// Of pictures that do not say how many there are in a second.
const FRAMES_PER_SECOND: f32 = 25.0;

/// A track in the file.
#[derive(Clone, Debug)]
pub struct Carried {
    pub id: TrackId,
    /// `track_ID`: 1 and on.
    pub number: u32,
    pub timescale: u32,
    pub is_video: bool,
    /// The sample entry, a whole box.
    pub entry: Bytes,
    pub width: u32,
    pub height: u32,
    /// What a frame lasts, as far as the track says.
    pub usual_ticks: u32,
}

/// In the order of `tracks`.
pub fn carried(tracks: &Tracks) -> Vec<(Carried, &Track)> {
    let entries = tracks.iter().filter_map(|track| Some((track, sample_entry::entry(track)?)));
    let numbered = (1..).zip(entries);
    numbered.map(|(number, (track, entry))| (Carried::new(number, track, entry), track)).collect()
}

impl Carried {
    fn new(number: u32, track: &Track, entry: Bytes) -> Self {
        let (width, height, frames_per_second) = match track.shape {
            TrackShape::Video { width, height, frames_per_second } => (width, height, frames_per_second),
            TrackShape::Audio { .. } | TrackShape::Data => (0, 0, 0.0),
        };
        let timescale = timescale(track);
        let rate = if frames_per_second >= 1.0 { frames_per_second } else { FRAMES_PER_SECOND };
        let usual_ticks = (timescale as f32 / rate).round() as u32;
        let is_video = track.codec.kind() == TrackKind::Video;
        Carried { id: track.id, number, timescale, is_video, entry, width, height, usual_ticks }
    }
}

fn timescale(track: &Track) -> u32 {
    match (track.codec, track.shape) {
        (Codec::Opus, _) => opus::SAMPLE_RATE,
        (_, TrackShape::Audio { sample_rate, .. }) if sample_rate > 0 => sample_rate,
        (Codec::G711A | Codec::G711U, _) => G711_RATE,
        _ => VIDEO_TIMESCALE,
    }
}
