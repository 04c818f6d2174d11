//! Requests for a stream's playlists and segments → answers, now or later.
//!
//! bis §6.2.5.2 (blocking reload) and §6.2.6 (preload hints): what is not there yet but will be next is waited for. A playlist is written once
//! per change and kind and shared by all who ask, as text and compressed. Limit: [`TEXTS_MAX`] kept texts. Not here: who waits and how long.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::Settings;
use super::packager::Packager;
use super::playlist::{MediaPlaylist, SKIP_TARGETS, Variant};
use super::window::Segment;
use crate::format::mp4::FragmentWriter;
use crate::format::ts;
use crate::media::codec_string::codec_string;
use crate::media::{MediaEvent, Stamp, TrackKind, TrackShape, Tracks};
use crate::session::Fetched;
use crate::session::fetch::{Body, Content, FetchRequest, Lifetime, Packing, Place, Resource};

/// Playlists that are kept as they were written last: two packings, whole and as delta, compressed or not.
const TEXTS_MAX: usize = 8;
/// Shorter texts are not worth compressing.
const GZIP_BYTES_MIN: usize = 256;
/// How far behind the end of the playlist may be asked for (bis §6.2.5.2).
const AHEAD_MAX: u64 = 2;
/// What a stream may have above the rate that was measured, in percent.
const PEAK_PERCENT: u64 = 110;

/// What became of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Ready(Fetched),
    /// It will come: ask again when the version has grown.
    Wait,
}

/// A stream's packager with the playlists that were written of it.
pub struct Shelf {
    packager: Packager,
    /// When it was made, in nanoseconds since 1970: no two shelves of a stream have the same.
    made_nanos: u64,
    texts: Vec<Text>,
    texts_version: u64,
}

struct Text {
    packing: Packing,
    skip: bool,
    gzip: bool,
    suffix: Arc<str>,
    body: Body,
}

/// What a shelf holds, for the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    pub segments: u64,
    pub parts: u64,
    pub bytes: u64,
    /// Segments that went before their time.
    pub dropped: u64,
}

impl Shelf {
    /// See [`Packager::new`].
    pub fn new(settings: Settings, epoch_nanos: u64, now: Stamp, gop_ms: u64, first_msn: u64) -> Self {
        let packager = Packager::new(settings, epoch_nanos, now, gop_ms, first_msn);
        Shelf { packager, made_nanos: epoch_nanos + now.as_nanos(), texts: Vec::new(), texts_version: 0 }
    }

    /// See [`Packager::follow`].
    pub fn follow(&mut self, before: &Shelf) {
        self.packager.follow(&before.packager);
    }

    pub fn push(&mut self, event: &MediaEvent, now: Stamp) {
        self.packager.push(event, now);
    }

    /// A turn's share of work that was put off.
    pub fn work(&mut self) {
        self.packager.write_ts();
    }

    pub fn tick(&mut self, now: Stamp) {
        self.packager.tick(now);
    }

    pub fn shed(&mut self) {
        self.packager.shed();
    }

    pub fn bytes(&self) -> usize {
        self.packager.bytes()
    }

    pub fn version(&self) -> u64 {
        self.packager.version()
    }

    pub fn next_msn(&self) -> u64 {
        self.packager.next_msn()
    }

    /// See [`Packager::patience_ms`].
    pub fn patience_ms(&self) -> u64 {
        self.packager.patience_ms()
    }

    /// How long it takes to play what is listed.
    pub fn list_ms(&self) -> u64 {
        u64::try_from(self.packager.window().duration() / 1000).unwrap_or(0)
    }

    pub fn holdings(&self) -> Holdings {
        let window = self.packager.window();
        Holdings {
            segments: window.len() as u64,
            parts: self.packager.parts() as u64,
            bytes: self.packager.bytes() as u64,
            dropped: window.dropped(),
        }
    }

    /// Of the addresses that it gives.
    fn epoch(&self) -> u64 {
        self.made_nanos / 1_000_000
    }

    pub fn fetch(&mut self, request: &FetchRequest, now: Stamp) -> Reply {
        if request.resource.epoch().is_some_and(|epoch| epoch != self.epoch()) {
            return Reply::Ready(Fetched::NotFound);
        }
        match request.resource {
            Resource::Multivariant(Packing::Ts)
            | Resource::Playlist { packing: Packing::Ts, .. }
            | Resource::Segment { packing: Packing::Ts, .. } => self.packager.want_ts(now),
            _ => {}
        }
        match request.resource {
            Resource::Multivariant(packing) => self.multivariant(packing, request, now),
            Resource::Playlist { packing, wanted, skip } => self.playlist((packing, skip), wanted, request, now),
            Resource::Init { number, .. } => found(self.packager.init(number).map(|init| {
                let pieces: Arc<[Bytes]> = [init.clone()].into();
                Body::segment(pieces, Content::Init, self.tag((Content::Init, u64::from(number), 0)))
            })),
            Resource::Segment { packing: Packing::Ts, msn, .. } if self.packager.owes_ts(msn) => Reply::Wait,
            Resource::Segment { packing, msn, .. } => {
                found(self.packager.window().get(msn).and_then(|segment| self.body_of(segment, packing)))
            }
            Resource::Part { msn, part, .. } => self.part(msn, part),
        }
    }

    fn part(&self, msn: u64, part: u32) -> Reply {
        let building = self.packager.building().filter(|segment| segment.msn == msn);
        let segment = self.packager.window().get(msn).or(building);
        let parts = segment.map_or(&[][..], |segment| &segment.parts);
        if let Some(found) = parts.get(part as usize) {
            let tag = self.tag((Content::Fmp4, msn, u64::from(part) + 1));
            return Reply::Ready(Fetched::Body(Body::segment(found.pieces.clone(), Content::Fmp4, tag)));
        }
        let is_hinted = !self.packager.ended() && msn == self.packager.next_msn() && part as usize == parts.len();
        if is_hinted && self.packager.settings().part_ms > 0 { Reply::Wait } else { Reply::Ready(Fetched::NotFound) }
    }

    fn body_of(&self, segment: &Segment, packing: Packing) -> Option<Body> {
        match packing {
            Packing::Fmp4 => Some(Body::segment(segment.pieces(), Content::Fmp4, self.tag((Content::Fmp4, segment.msn, 0)))),
            Packing::Ts => {
                let pieces: Arc<[Bytes]> = [segment.ts.clone()?].into();
                let tag = self.tag((Content::Ts, segment.msn, self.packager.ts_rounds()));
                Some(Body::segment(pieces, Content::Ts, tag))
            }
        }
    }

    /// MPEG-TS that is written again has other bytes at the same address, and a clock that was set back may give an epoch for the second time.
    fn tag(&self, piece: (Content, u64, u64)) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.made_nanos, piece).hash(&mut hasher);
        hasher.finish()
    }

    fn playlist(&mut self, (packing, skip): (Packing, bool), wanted: Option<Place>, request: &FetchRequest, now: Stamp) -> Reply {
        if let Some(reply) = self.before_the_first(now, packing) {
            return reply;
        }
        if let Some(wanted) = wanted.filter(|_| !self.packager.ended())
            && let Some(reply) = self.wait_for(wanted)
        {
            return reply;
        }
        self.packager.fix_target();
        if self.texts_version != self.packager.version() {
            self.texts.clear();
            self.texts_version = self.packager.version();
        }
        let is_same =
            |text: &&Text| (text.packing, text.skip, text.gzip) == (packing, skip, request.gzip) && text.suffix == request.suffix;
        let mut body = match self.texts.iter().find(is_same) {
            Some(text) => text.body.clone(),
            None => {
                let body = self.write(packing, skip, request);
                if self.texts.len() == TEXTS_MAX {
                    self.texts.remove(0);
                }
                let suffix = request.suffix.clone();
                self.texts.push(Text { packing, skip, gzip: request.gzip, suffix, body: body.clone() });
                body
            }
        };
        if wanted.is_some() {
            body.lifetime = Lifetime::Seconds(SKIP_TARGETS * self.packager.target_s());
        }
        Reply::Ready(Fetched::Body(body))
    }

    /// `None`: there is a segment, and as MPEG-TS all that will be.
    fn before_the_first(&mut self, now: Stamp, packing: Packing) -> Option<Reply> {
        if self.packager.window().is_empty() {
            self.packager.want_first(now);
        }
        if packing == Packing::Ts && self.packager.owes_ts(self.packager.next_msn() - 1) {
            return Some(Reply::Wait);
        }
        let is_listed = |segment: &Segment| packing == Packing::Fmp4 || segment.ts.is_some();
        let is_empty = !self.packager.window().listed().any(is_listed);
        is_empty.then(|| if self.packager.ended() { Reply::Ready(Fetched::NotFound) } else { Reply::Wait })
    }

    /// `None`: it is there.
    fn wait_for(&self, wanted: Place) -> Option<Reply> {
        let window = self.packager.window();
        let last = window.last_msn()?;
        let mut wanted = wanted;
        // A part that its segment has not is the first of the next one (bis §6.2.5.2).
        if let (Some(part), Some(segment)) = (wanted.part, window.get(wanted.msn))
            && part as usize >= segment.parts.len()
        {
            wanted = Place { msn: wanted.msn + 1, part: Some(0) };
        }
        let building = self.packager.building().filter(|segment| segment.msn == wanted.msn);
        let parts_ahead = wanted
            .part
            .filter(|_| wanted.msn > last)
            .map_or(0, |part| u64::from(part).saturating_sub(building.map_or(0, |segment| segment.parts.len() as u64)));
        if wanted.msn > last + AHEAD_MAX || parts_ahead > self.parts_ahead_max() {
            return Some(Reply::Ready(Fetched::TooFar));
        }
        let is_there = match (wanted.part, building) {
            _ if wanted.msn <= last => true,
            (Some(part), Some(segment)) => segment.parts.len() > part as usize,
            _ => false,
        };
        (!is_there).then_some(Reply::Wait)
    }

    /// The Advance Part Limit (bis §6.2.5.2): three parts, or as many as three seconds have.
    fn parts_ahead_max(&self) -> u64 {
        let target = self.packager.part_target().and_then(|micros| u64::try_from(micros).ok()).unwrap_or(0);
        3_000_000_u64.checked_div(target).map_or(3, |parts| (parts + 1).max(3))
    }

    fn write(&self, packing: Packing, skip: bool, request: &FetchRequest) -> Body {
        let packager = &self.packager;
        let text = MediaPlaylist {
            epoch: self.epoch(),
            packing,
            window: packager.window(),
            building: packager.building(),
            next_msn: packager.next_msn(),
            target_s: packager.target_s(),
            part_target: packager.part_target().filter(|_| packager.settings().part_ms > 0),
            ended: packager.ended(),
            suffix: &request.suffix,
            skip,
        }
        .write();
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let body = Body::text(text, Lifetime::Checked, Some(hasher.finish()));
        if request.gzip { compressed(body) } else { body }
    }

    fn multivariant(&mut self, packing: Packing, request: &FetchRequest, now: Stamp) -> Reply {
        if let Some(reply) = self.before_the_first(now, packing) {
            return reply;
        }
        self.packager.fix_target();
        match self.variant(packing) {
            Some(variant) => Reply::Ready(Fetched::Body(Body::text(variant.write(&request.session), Lifetime::None, None))),
            None => Reply::Ready(Fetched::NotFound),
        }
    }

    /// As measured over what is listed; `None`: nothing of the stream can be carried.
    fn variant(&self, packing: Packing) -> Option<Variant> {
        let window = self.packager.window();
        let last = window.listed().next_back()?;
        let tracks = carried(&last.tracks, packing);
        if tracks.is_empty() {
            return None;
        }
        let rate =
            |bytes: usize, micros: i64| (bytes as u64 * 8).saturating_mul(1_000_000) / u64::try_from(micros).unwrap_or(1).max(1);
        let sizes = || window.listed().map(|segment| (len_of(segment, packing), segment.duration));
        // What is shorter says nothing of a rate (bis §4.4.6.2).
        let half_target = i64::try_from(self.packager.target_s()).unwrap_or(i64::MAX).saturating_mul(500_000);
        let is_long = |(_, micros): &(usize, i64)| *micros >= half_target;
        let average = rate(sizes().map(|(bytes, _)| bytes).sum(), window.duration());
        let peak = sizes().filter(is_long).map(|(bytes, micros)| rate(bytes, micros)).max().unwrap_or(average);
        let frames: usize = window.listed().map(|segment| segment.video_frames).sum();
        let frame_rate = frames as f64 * 1e6 / window.duration().max(1) as f64;
        let video = tracks.first(TrackKind::Video).map(|track| track.shape);
        Some(Variant {
            packing,
            peak: peak * PEAK_PERCENT / 100,
            average,
            codecs: tracks.iter().filter_map(codec_string).collect(),
            resolution: match video {
                Some(TrackShape::Video { width, height, .. }) if width > 0 && height > 0 => Some((width, height)),
                _ => None,
            },
            frame_rate: (video.is_some() && frames > 0).then_some(frame_rate),
            independent: window.listed().chain(self.packager.building()).all(|segment| segment.independent),
        })
    }
}

fn found(body: Option<Body>) -> Reply {
    Reply::Ready(body.map_or(Fetched::NotFound, Fetched::Body))
}

fn len_of(segment: &Segment, packing: Packing) -> usize {
    match packing {
        Packing::Fmp4 => segment.len(),
        Packing::Ts => segment.ts.as_ref().map_or(0, Bytes::len),
    }
}

fn carried(tracks: &Tracks, packing: Packing) -> Tracks {
    let fmp4 = FragmentWriter::new(tracks);
    tracks.only(|track| match packing {
        Packing::Fmp4 => fmp4.as_ref().is_some_and(|writer| writer.carries(track.id)),
        Packing::Ts => ts::write::carries(track),
    })
}

/// The same, smaller; as it is where that is not worth it.
fn compressed(body: Body) -> Body {
    let Some(text) = body.parts.first().filter(|text| text.len() >= GZIP_BYTES_MIN) else { return body };
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 4), Compression::fast());
    match encoder.write_all(text).and_then(|()| encoder.finish()) {
        Ok(bytes) => {
            let len = bytes.len();
            // Another representation has another tag (RFC 9110 §8.8.3).
            Body { parts: [Bytes::from(bytes)].into(), len, tag: body.tag.map(|tag| !tag), gzip: true, ..body }
        }
        Err(_) => body,
    }
}
