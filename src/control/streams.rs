//! The snapshots of one stream on many shards, made into one stream, and its JSON form.
//!
//! What comes in is the owner's to say; what goes out (viewers, packets, drops, latency) is summed over all shards. If the owner's
//! shard is silent, the watchers' part is shown and the state is `unknown`.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::recordings::StatusView;
use crate::hub::stats::{DropReason, Latency, PacketFate, StreamCounters};
use crate::media::timeline::Repair;
use crate::media::{Discard, Track, TrackKind, TrackShape, Tracks};
use crate::protocol::record::RecorderStatus;
use crate::session::StreamKey;
use crate::shard::message::{PublisherSnapshot, SegmentsSnapshot, ShardId, StreamRole, StreamSnapshot};

/// One stream, over all shards.
#[derive(Clone, Debug)]
pub struct Stream {
    pub key: StreamKey,
    /// The shard that a publisher is (or was) on, as its own snapshot or a watcher says.
    pub owner: Option<ShardId>,
    /// What the owner itself says.
    pub owned: Option<Owned>,
    pub tracks: Tracks,
    /// Of what came in, the owner's; of what went out, sums.
    pub counters: StreamCounters,
    /// Viewers by protocol.
    pub viewers: BTreeMap<&'static str, u64>,
    /// Latency by protocol.
    pub latency: BTreeMap<&'static str, Latency>,
    pub recorders: Vec<RecorderStatus>,
    /// The owner's, while the stream is cut.
    pub segments: Option<SegmentsSnapshot>,
}

#[derive(Clone, Debug)]
pub struct Owned {
    pub publisher: Option<PublisherSnapshot>,
    pub watching_shards: Vec<ShardId>,
    pub age_ms: u64,
}

/// Groups the snapshots of all shards by stream.
pub fn group(answers: Vec<Option<Vec<StreamSnapshot>>>) -> BTreeMap<StreamKey, Vec<StreamSnapshot>> {
    let mut streams: BTreeMap<StreamKey, Vec<StreamSnapshot>> = BTreeMap::new();
    for snapshot in answers.into_iter().flatten().flatten() {
        streams.entry(snapshot.key.clone()).or_default().push(snapshot);
    }
    streams
}

impl Stream {
    /// Merges the snapshots of one stream. While a name changes hands two shards may call themselves owner: the one with a publisher
    /// counts, else the younger.
    pub fn merge(key: StreamKey, snapshots: Vec<StreamSnapshot>) -> Self {
        let mut stream = Stream {
            key,
            owner: None,
            owned: None,
            tracks: Tracks::default(),
            counters: StreamCounters::default(),
            viewers: BTreeMap::new(),
            latency: BTreeMap::new(),
            recorders: Vec::new(),
            segments: None,
        };
        for snapshot in &snapshots {
            stream.add_sent(snapshot);
        }
        let sent = stream.counters.clone();
        let owner = snapshots.iter().filter_map(|snapshot| match &snapshot.role {
            StreamRole::Owner { publisher, age_ms, .. } => Some(((publisher.is_none(), *age_ms), snapshot)),
            StreamRole::Watcher { .. } => None,
        });
        if let Some((_, owner)) = owner.min_by_key(|(rank, _)| *rank) {
            stream.take_owner(owner);
        } else if let Some(watcher) = snapshots.first() {
            stream.tracks = watcher.tracks.clone();
            stream.owner = match watcher.role {
                StreamRole::Watcher { owner } => Some(owner),
                StreamRole::Owner { .. } => None,
            };
        }
        stream.counters.packets_out = sent.packets_out;
        stream.counters.bytes_out = sent.bytes_out;
        stream.counters.dropped = sent.dropped;
        stream.counters.skips = sent.skips;
        stream
    }

    fn add_sent(&mut self, snapshot: &StreamSnapshot) {
        self.counters.add_sent(&snapshot.counters);
        for (protocol, count) in &snapshot.viewers {
            *self.viewers.entry(protocol).or_default() += count;
        }
        for (protocol, latency) in &snapshot.latency {
            self.latency.entry(protocol).or_default().merge(latency);
        }
    }

    fn take_owner(&mut self, snapshot: &StreamSnapshot) {
        self.owner = Some(snapshot.shard);
        self.tracks = snapshot.tracks.clone();
        self.counters = snapshot.counters.clone();
        self.recorders = snapshot.recorders.clone();
        self.segments = snapshot.segments;
        if let StreamRole::Owner { publisher, watching_shards, age_ms } = &snapshot.role {
            let mut watching_shards = watching_shards.clone();
            watching_shards.sort_unstable();
            self.owned = Some(Owned { publisher: publisher.clone(), watching_shards, age_ms: *age_ms });
        }
    }

    pub fn viewers_total(&self) -> u64 {
        self.viewers.values().sum()
    }

    /// `live`: has a publisher; `waiting`: waits for one; `unknown`: the owner's shard did not answer.
    pub fn state(&self) -> &'static str {
        match &self.owned {
            Some(Owned { publisher: Some(_), .. }) => "live",
            Some(Owned { publisher: None, .. }) => "waiting",
            None => "unknown",
        }
    }

    /// Of all protocols together.
    pub fn latency_total(&self) -> Latency {
        merged(self.latency.values())
    }
}

/// All of `parts` in one.
pub fn merged<'a>(parts: impl Iterator<Item = &'a Latency>) -> Latency {
    parts.fold(Latency::default(), |mut sum, part| {
        sum.merge(part);
        sum
    })
}

/// Adding up what was sent.
pub trait AddSent {
    fn add_sent(&mut self, other: &StreamCounters);
}

impl AddSent for StreamCounters {
    fn add_sent(&mut self, other: &StreamCounters) {
        self.packets_out += other.packets_out;
        self.bytes_out += other.bytes_out;
        self.skips += other.skips;
        for (sum, part) in self.dropped.iter_mut().zip(other.dropped) {
            *sum += part;
        }
    }
}

/// One stream as the API shows it.
#[derive(Debug, Serialize)]
pub struct StreamView {
    key: String,
    app: String,
    name: String,
    state: &'static str,
    age_ms: Option<u64>,
    owner_shard: Option<ShardId>,
    watching_shards: Vec<ShardId>,
    publisher: Option<PublisherView>,
    publishers_so_far: u64,
    tracks: Vec<TrackView>,
    bitrate_bits_per_second: u64,
    frames_per_second: f64,
    gop: GopView,
    viewers: ViewersView,
    frames_in: u64,
    bytes_in: u64,
    packets_out: u64,
    bytes_out: u64,
    dropped_packets: Map<String, Value>,
    skips: u64,
    repairs: Map<String, Value>,
    discarded_frames: Map<String, Value>,
    rtp_packets_in: Map<String, Value>,
    latency: LatenciesView,
    recorders: Vec<StatusView>,
    segments: Option<SegmentsView>,
}

/// A stream that is cut into segments.
#[derive(Debug, Serialize)]
struct SegmentsView {
    kept: u64,
    parts: u64,
    bytes: u64,
    dropped: u64,
    waiting: u64,
    requests: u64,
    timed_out: u64,
    refused: u64,
}

#[derive(Debug, Serialize)]
struct PublisherView {
    session: String,
    peer: Option<String>,
    protocol: &'static str,
    agent: Option<String>,
}

#[derive(Debug, Default, Serialize)]
struct TrackView {
    id: u8,
    kind: &'static str,
    codec: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frames_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sample_rate: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<u8>,
}

#[derive(Debug, Serialize)]
struct GopView {
    ms: u64,
    frames: u64,
    not_kept: u64,
}

#[derive(Debug, Serialize)]
struct ViewersView {
    total: u64,
    protocols: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Serialize)]
struct LatenciesView {
    all: LatencyView,
    protocols: BTreeMap<&'static str, LatencyView>,
}

#[derive(Debug, Serialize)]
struct LatencyView {
    count: u64,
    p50_ms: f64,
    p99_ms: f64,
    p99_9_ms: f64,
    p99_99_ms: f64,
    max_ms: f64,
    share_within_slo: f64,
}

impl From<&Stream> for StreamView {
    fn from(stream: &Stream) -> Self {
        let counters = &stream.counters;
        let owned = stream.owned.as_ref();
        StreamView {
            key: stream.key.to_string(),
            app: stream.key.app().to_owned(),
            name: stream.key.name().to_owned(),
            state: stream.state(),
            age_ms: owned.map(|owned| owned.age_ms),
            owner_shard: stream.owner,
            watching_shards: owned.map_or_else(Vec::new, |owned| owned.watching_shards.clone()),
            publisher: owned.and_then(|owned| owned.publisher.as_ref()).map(PublisherView::from),
            publishers_so_far: counters.publishers,
            tracks: stream.tracks.iter().map(TrackView::from).collect(),
            bitrate_bits_per_second: counters.bitrate,
            frames_per_second: decimal(counters.frames_per_second),
            gop: GopView { ms: counters.gop_ms, frames: counters.gop_frames, not_kept: counters.gops_not_kept },
            viewers: ViewersView { total: stream.viewers_total(), protocols: stream.viewers.clone() },
            frames_in: counters.frames_in,
            bytes_in: counters.bytes_in,
            packets_out: counters.packets_out,
            bytes_out: counters.bytes_out,
            dropped_packets: labelled(DropReason::ALL.map(DropReason::label), counters.dropped),
            skips: counters.skips,
            repairs: labelled(Repair::ALL.map(Repair::label), counters.repairs),
            discarded_frames: labelled(Discard::ALL.map(Discard::label), counters.discarded),
            rtp_packets_in: labelled(PacketFate::ALL.map(PacketFate::label), counters.packets_in),
            latency: LatenciesView {
                all: LatencyView::from(&stream.latency_total()),
                protocols: stream.latency.iter().map(|(protocol, latency)| (*protocol, latency.into())).collect(),
            },
            recorders: stream.recorders.iter().map(StatusView::from).collect(),
            segments: stream.segments.map(SegmentsView::from),
        }
    }
}

impl From<SegmentsSnapshot> for SegmentsView {
    fn from(snapshot: SegmentsSnapshot) -> Self {
        let SegmentsSnapshot { segments, parts, bytes, dropped, waiting, requests, timed_out, refused } = snapshot;
        SegmentsView { kept: segments, parts, bytes, dropped, waiting, requests, timed_out, refused }
    }
}

impl From<&PublisherSnapshot> for PublisherView {
    fn from(publisher: &PublisherSnapshot) -> Self {
        PublisherView {
            session: publisher.session.to_string(),
            peer: publisher.peer.map(|peer| peer.to_string()),
            protocol: publisher.protocol,
            agent: publisher.agent.clone(),
        }
    }
}

impl From<&Track> for TrackView {
    fn from(track: &Track) -> Self {
        let kind = match track.codec.kind() {
            TrackKind::Video => "video",
            TrackKind::Audio => "audio",
            TrackKind::Data => "data",
        };
        let view = TrackView { id: track.id.0, kind, codec: track.codec.name(), ..TrackView::default() };
        let known = |number: u32| (number != 0).then_some(number);
        match track.shape {
            TrackShape::Video { width, height, frames_per_second } => TrackView {
                width: known(width),
                height: known(height),
                frames_per_second: (frames_per_second > 0.0).then(|| decimal(frames_per_second)),
                ..view
            },
            TrackShape::Audio { sample_rate, channels } => {
                TrackView { sample_rate: known(sample_rate), channels: (channels != 0).then_some(channels), ..view }
            }
            TrackShape::Data => view,
        }
    }
}

impl From<&Latency> for LatencyView {
    fn from(latency: &Latency) -> Self {
        let ms = |micros: u64| micros as f64 / 1000.0;
        LatencyView {
            count: latency.count(),
            p50_ms: ms(latency.percentile(50.0)),
            p99_ms: ms(latency.percentile(99.0)),
            p99_9_ms: ms(latency.percentile(99.9)),
            p99_99_ms: ms(latency.percentile(99.99)),
            max_ms: ms(latency.max()),
            share_within_slo: latency.share_within_slo(),
        }
    }
}

/// Two decimals: `29.97` rather than the `29.969999313354492` that a widened `f32` prints.
pub fn decimal(number: f32) -> f64 {
    (f64::from(number) * 100.0).round() / 100.0
}

fn labelled<const N: usize>(labels: [&'static str; N], counts: [u64; N]) -> Map<String, Value> {
    labels.into_iter().zip(counts).map(|(label, count)| (label.to_owned(), count.into())).collect()
}
