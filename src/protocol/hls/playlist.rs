//! Segments → the text of playlists.
//!
//! RFC 8216bis §4.4: media playlists with the tags of low latency (parts, preload hint, delta updates) where there are parts, and the
//! multivariant playlist. Versions (§8): 3 for MPEG-TS, 7 for fMP4 (6 would do, 7 is what players expect), 9 with delta updates. A stream has
//! one rendition, hence no `EXT-X-RENDITION-REPORT`: there is no other to report on. A delta update repeats the map of its first segment.
//!
//! Not here: which segments are listed, compression, and caches.

use std::fmt::Write as _;

use super::window::{Segment, Window};
use crate::protocol::common::segment_names::Name;
use crate::protocol::common::utc::rfc3339;
use crate::session::fetch::{Packing, Resource};

/// Parts are listed of segments that begin so many target durations before the end (RFC 8216bis §4.4.4.9).
const PARTS_TARGETS: i64 = 3;
/// A playlist has so many target durations at least when a segment has left it (§6.2.2).
const LEFT_TARGETS: i64 = 3;
/// Older segments than so many target durations may be left out of a delta update (§4.4.3.8).
pub const SKIP_TARGETS: u64 = 6;
/// How far from the end players begin (§4.4.3.8).
const HOLD_BACK_TARGETS: u64 = 3;
const HOLD_BACK_PARTS: f64 = 3.0;

/// What a media playlist is made from.
pub struct MediaPlaylist<'a> {
    /// Of all addresses, see [`Resource`].
    pub epoch: u64,
    pub packing: Packing,
    pub window: &'a Window,
    /// The segment that is not complete yet.
    pub building: Option<&'a Segment>,
    pub next_msn: u64,
    pub target_s: u64,
    /// Microseconds; `None`: no parts.
    pub part_target: Option<i64>,
    pub ended: bool,
    pub suffix: &'a str,
    /// Leave out what the client knows.
    pub skip: bool,
}

impl MediaPlaylist<'_> {
    pub fn write(&self) -> String {
        let mut text = String::with_capacity(4096);
        let skipped = if self.skip && self.lists_parts() { self.skippable() } else { 0 };
        self.write_head(&mut text);
        let mut init = None;
        if skipped > 0 {
            line(&mut text, format_args!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}"));
        }
        let first_with_parts = self.first_with_parts();
        for (index, segment) in self.window.listed().enumerate().skip(skipped.max(self.unwritten())) {
            self.write_beginning(&mut text, segment, &mut init);
            if index >= first_with_parts {
                self.write_parts(&mut text, segment);
            }
            let name = Name(Resource::Segment { epoch: self.epoch, packing: self.packing, msn: segment.msn });
            line(&mut text, format_args!("#EXTINF:{},\n{name}{}", seconds(segment.duration), self.suffix));
        }
        if self.ended {
            text.push_str("#EXT-X-ENDLIST\n");
        } else if self.lists_parts() {
            self.write_edge(&mut text, &mut init);
        }
        text
    }

    fn write_head(&self, text: &mut String) {
        let version = match (self.packing, self.lists_parts()) {
            (_, true) => 9,
            (Packing::Fmp4, false) => 7,
            (Packing::Ts, false) => 3,
        };
        line(text, format_args!("#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:{}", self.target_s));
        if self.lists_parts()
            && let Some(part) = self.part_target
        {
            let part = part as f64 / 1e6;
            line(
                text,
                format_args!(
                    "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={:.3},CAN-SKIP-UNTIL={:.1},HOLD-BACK={:.1}\n\
                     #EXT-X-PART-INF:PART-TARGET={part:.3}",
                    part * HOLD_BACK_PARTS,
                    (SKIP_TARGETS * self.target_s) as f64,
                    (HOLD_BACK_TARGETS * self.target_s) as f64,
                ),
            );
        }
        let unwritten = self.unwritten();
        let first = self.window.listed().nth(unwritten).map_or(self.next_msn, |segment| segment.msn);
        line(text, format_args!("#EXT-X-MEDIA-SEQUENCE:{first}"));
        let breaks = self.window.listed().take(unwritten).filter(|segment| segment.discontinuity).count() as u64;
        let discontinuities = self.window.discontinuities() + breaks;
        if discontinuities > 0 {
            line(text, format_args!("#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuities}"));
        }
        if self.window.listed().chain(self.building).all(|segment| segment.independent) {
            text.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
        }
    }

    /// What stands before the parts and the address of a segment.
    fn write_beginning(&self, text: &mut String, segment: &Segment, init: &mut Option<u32>) {
        if segment.discontinuity {
            text.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if self.packing == Packing::Fmp4 && init.replace(segment.init) != Some(segment.init) {
            line(
                text,
                format_args!(
                    "#EXT-X-MAP:URI=\"{}{}\"",
                    Name(Resource::Init { epoch: self.epoch, number: segment.init }),
                    self.suffix
                ),
            );
        }
        line(text, format_args!("#EXT-X-PROGRAM-DATE-TIME:{}", rfc3339((segment.wall_nanos / 1_000) as i64)));
    }

    fn write_parts(&self, text: &mut String, segment: &Segment) {
        for (number, part) in segment.parts.iter().enumerate() {
            let name = Name(Resource::Part { epoch: self.epoch, msn: segment.msn, part: number as u32 });
            let independent = if part.independent { ",INDEPENDENT=YES" } else { "" };
            let duration = seconds(part.duration);
            line(text, format_args!("#EXT-X-PART:DURATION={duration},URI=\"{name}{}\"{independent}", self.suffix));
        }
    }

    /// The parts of the segment that is not complete, and the one that comes next.
    fn write_edge(&self, text: &mut String, init: &mut Option<u32>) {
        let mut next = Resource::Part { epoch: self.epoch, msn: self.next_msn, part: 0 };
        if let Some(building) = self.building {
            if !building.parts.is_empty() {
                self.write_beginning(text, building, init);
                self.write_parts(text, building);
            }
            next = Resource::Part { epoch: self.epoch, msn: building.msn, part: building.parts.len() as u32 };
        }
        line(text, format_args!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{}{}\"", Name(next), self.suffix));
    }

    /// How many of the listed segments are left out at the front in this packing: those that are too old to have been written, and those of
    /// which nobody can decode the beginning, if what is left is long enough (§6.2.2).
    fn unwritten(&self) -> usize {
        if self.packing == Packing::Fmp4 {
            return 0;
        }
        let unwritten = self.window.listed().take_while(|segment| segment.ts.is_none()).count();
        let broken = self.window.listed().skip(unwritten).take_while(|segment| !segment.begins_with_key()).count();
        let left: i64 = self.window.listed().skip(unwritten + broken).map(|segment| segment.duration).sum();
        let is_enough = left >= LEFT_TARGETS * self.target_s as i64 * 1_000_000;
        if is_enough { unwritten + broken } else { unwritten }
    }

    fn lists_parts(&self) -> bool {
        self.packing == Packing::Fmp4 && self.part_target.is_some()
    }

    /// The index of the first listed segment whose parts are listed.
    fn first_with_parts(&self) -> usize {
        if !self.lists_parts() {
            return usize::MAX;
        }
        let reach = PARTS_TARGETS * self.target_s as i64 * 1_000_000;
        let mut from_end = self.building_duration();
        for (index, segment) in self.window.listed().enumerate().rev() {
            from_end += segment.duration;
            if from_end >= reach {
                return index;
            }
        }
        0
    }

    /// How many segments at the front lie before the skip boundary.
    fn skippable(&self) -> usize {
        let boundary = (SKIP_TARGETS * self.target_s) as i64 * 1_000_000;
        let mut to_end = self.window.duration() + self.building_duration();
        let mut count = 0;
        for segment in self.window.listed() {
            to_end -= segment.duration;
            if to_end < boundary {
                break;
            }
            count += 1;
        }
        count
    }

    fn building_duration(&self) -> i64 {
        self.building.map_or(0, |segment| segment.parts.iter().map(|part| part.duration).sum())
    }
}

/// What a multivariant playlist says of its only variant.
pub struct Variant {
    pub packing: Packing,
    /// Bits per second: of the largest segment, and of all together.
    pub peak: u64,
    pub average: u64,
    /// In the order of the tracks.
    pub codecs: Vec<String>,
    pub resolution: Option<(u32, u32)>,
    pub frame_rate: Option<f64>,
    pub independent: bool,
}

impl Variant {
    /// `session`: names the viewer in the address of the media playlist.
    pub fn write(&self, session: &str) -> String {
        let version = match self.packing {
            Packing::Fmp4 => 7,
            Packing::Ts => 3,
        };
        let mut text = format!("#EXTM3U\n#EXT-X-VERSION:{version}\n");
        if self.independent {
            text.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
        }
        let mut attributes = format!("BANDWIDTH={},AVERAGE-BANDWIDTH={}", self.peak.max(self.average), self.average);
        if !self.codecs.is_empty() {
            append(&mut attributes, format_args!(",CODECS=\"{}\"", self.codecs.join(",")));
        }
        if let Some((width, height)) = self.resolution {
            append(&mut attributes, format_args!(",RESOLUTION={width}x{height}"));
        }
        if let Some(frame_rate) = self.frame_rate {
            append(&mut attributes, format_args!(",FRAME-RATE={frame_rate:.3}"));
        }
        let name = Name(Resource::Playlist { packing: self.packing, wanted: None, skip: false });
        line(&mut text, format_args!("#EXT-X-STREAM-INF:{attributes}\n{name}?session={session}"));
        text
    }
}

/// Microseconds as decimal seconds, exact but without zeros at the end.
fn seconds(micros: i64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    let kept = text.trim_end_matches('0').len();
    // Three decimals are what players are used to.
    text[..kept.max(text.len() - 3)].to_owned()
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    append(text, arguments);
    text.push('\n');
}

fn append(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // A string takes everything.
    let _ = text.write_fmt(arguments);
}
