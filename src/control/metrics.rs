//! `/metrics`: one scrape as OpenMetrics text, which Prometheus reads.
//!
//! Series of their own have at most `metrics.max_streams` streams, those with the most viewers; the others are summed under
//! `stream="_other"` (no stream can be called that: a stream's name has a slash). The registry is made per scrape from snapshots, so
//! nothing is counted twice. Not here: asking the shards.

mod platform;
mod recording;

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

pub use self::platform::Platform;
pub use self::recording::DiskFigures;
use super::process::Process;
use super::streams::{AddSent, Stream, decimal};
use crate::hub::stats::{DropReason, Latency, PacketFate, StreamCounters};
use crate::media::Discard;
use crate::media::timeline::Repair;
use crate::protocol::record::RecorderState;
use crate::shard::message::{RecordTotals, SegmentsSnapshot, ShardSnapshot};

/// Of the text that [`text`] makes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The label of the streams that have no series of their own.
const OTHER: &str = "_other";

/// Upper bounds of the latency buckets.
const BUCKETS_MS: [u64; 10] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000];

/// A latency histogram, cut down to what is shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets {
    /// Packets up to each of [`BUCKETS_MS`], cumulative.
    up_to: [u64; BUCKETS_MS.len()],
    count: u64,
    within_slo: u64,
    sum_micros: u64,
}

impl From<&Latency> for Buckets {
    fn from(latency: &Latency) -> Self {
        let count = latency.count();
        Buckets {
            up_to: BUCKETS_MS.map(|ms| latency.count_up_to(ms * 1_000)),
            count,
            within_slo: (latency.share_within_slo() * count as f64).round() as u64,
            sum_micros: latency.sum_micros(),
        }
    }
}

impl Buckets {
    fn add(&mut self, other: &Buckets) {
        for (sum, part) in self.up_to.iter_mut().zip(other.up_to) {
            *sum += part;
        }
        self.count += other.count;
        self.within_slo += other.within_slo;
        self.sum_micros += other.sum_micros;
    }

    fn share_within_slo(&self) -> f64 {
        if self.count == 0 { 1.0 } else { self.within_slo as f64 / self.count as f64 }
    }

    /// What prometheus-client wants: the bound in seconds, and how many lie between it and the bound before.
    fn steps(&self) -> Vec<(f64, u64)> {
        let mut below = 0;
        let bounds = BUCKETS_MS.iter().map(|ms| *ms as f64 / 1_000.0).chain([f64::INFINITY]);
        let counts = self.up_to.iter().copied().chain([self.count]);
        let step = |(bound, up_to): (f64, u64)| {
            let step = (bound, up_to.saturating_sub(below));
            below = below.max(up_to);
            step
        };
        bounds.zip(counts).map(step).collect()
    }
}

/// Latency by protocol.
type ByProtocol = BTreeMap<&'static str, Buckets>;

fn by_protocol(stream: &Stream) -> ByProtocol {
    stream.latency.iter().map(|(protocol, latency)| (*protocol, latency.into())).collect()
}

/// One line of per-stream series: a stream, or the sum of the rest.
#[derive(Debug)]
struct Row {
    name: String,
    viewers: BTreeMap<&'static str, u64>,
    counters: StreamCounters,
    latency: ByProtocol,
    /// Of a stream that is cut.
    segments: Option<SegmentsSnapshot>,
    recorded: RecordTotals,
}

impl From<&Stream> for Row {
    fn from(stream: &Stream) -> Self {
        Row {
            name: stream.key.to_string(),
            viewers: stream.viewers.clone(),
            counters: stream.counters.clone(),
            latency: by_protocol(stream),
            segments: stream.segments,
            recorded: stream.recorders.iter().fold(RecordTotals::default(), |mut sum, status| {
                sum.add(status);
                sum
            }),
        }
    }
}

impl Row {
    fn empty(name: &str) -> Self {
        Row {
            name: name.to_owned(),
            viewers: BTreeMap::new(),
            counters: StreamCounters::default(),
            latency: ByProtocol::new(),
            segments: None,
            recorded: RecordTotals::default(),
        }
    }

    fn add(&mut self, other: &Row) {
        let (sum, part) = (&mut self.counters, &other.counters);
        sum.add_sent(part);
        sum.frames_in += part.frames_in;
        sum.bytes_in += part.bytes_in;
        sum.bitrate += part.bitrate;
        sum.publishers += part.publishers;
        sum.gops_not_kept += part.gops_not_kept;
        self.recorded.merge(&other.recorded);
        sum.repairs.iter_mut().zip(part.repairs).for_each(|(sum, part)| *sum += part);
        sum.discarded.iter_mut().zip(part.discarded).for_each(|(sum, part)| *sum += part);
        sum.packets_in.iter_mut().zip(part.packets_in).for_each(|(sum, part)| *sum += part);
        for (protocol, count) in &other.viewers {
            *self.viewers.entry(protocol).or_default() += count;
        }
        for (protocol, buckets) in &other.latency {
            self.latency.entry(protocol).or_default().add(buckets);
        }
        if let Some(segments) = &other.segments {
            self.segments.get_or_insert_default().add(segments);
        }
    }
}

/// Everything that one scrape shows.
#[derive(Debug)]
pub struct Scrape {
    streams: usize,
    rows: Vec<Row>,
    all: Row,
    shards: Vec<Option<ShardSnapshot>>,
    process: Process,
    /// `None`: it is not enabled.
    platform: Option<Platform>,
    /// How many recorders are in each state.
    recorders: BTreeMap<&'static str, u64>,
    disk: DiskFigures,
}

impl Scrape {
    /// The sums over all streams take in those that are over: a counter that shrinks would read as a restart.
    pub fn new(
        mut streams: Vec<Stream>,
        shards: Vec<Option<ShardSnapshot>>,
        streams_max: usize,
        platform: Option<Platform>,
    ) -> Self {
        streams.sort_by(|a, b| b.viewers_total().cmp(&a.viewers_total()).then_with(|| a.key.cmp(&b.key)));
        let mut all = Row::empty("");
        let mut other = Row::empty(OTHER);
        let mut rows = Vec::new();
        let mut recorders: BTreeMap<&'static str, u64> = RecorderState::ALL.map(|state| (state.name(), 0)).into();
        for status in streams.iter().flat_map(|stream| &stream.recorders) {
            *recorders.entry(status.state.name()).or_default() += 1;
        }
        for (rank, stream) in streams.iter().enumerate() {
            let row = Row::from(stream);
            all.add(&row);
            if rank < streams_max {
                rows.push(row);
            } else {
                other.add(&row);
            }
        }
        if streams.len() > streams_max {
            rows.push(other);
        }
        for shard in shards.iter().flatten() {
            all.recorded.merge(&shard.retired_recorders);
            for (protocol, latency) in &shard.retired_latency {
                all.latency.entry(protocol).or_default().add(&latency.into());
            }
            for (sum, dropped) in all.counters.dropped.iter_mut().zip(shard.retired_dropped) {
                *sum += dropped;
            }
        }
        Scrape {
            streams: streams.len(),
            rows,
            all,
            shards,
            process: Process::read(),
            platform,
            recorders,
            disk: DiskFigures::default(),
        }
    }

    pub fn with_disk(mut self, disk: DiskFigures) -> Self {
        self.disk = disk;
        self
    }
}

/// The scrape as text.
pub fn text(scrape: Scrape) -> String {
    let mut registry = Registry::with_prefix("shardcast");
    registry.register_collector(Box::new(scrape));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("writing to a string does not fail");
    text
}

type Labels = Vec<(&'static str, String)>;

/// Writes families: description first, then all samples.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn gauge<V: EncodeGaugeValue>(
        &mut self,
        (name, unit, help): (&str, Option<Unit>, &str),
        samples: impl IntoIterator<Item = (Labels, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        samples.into_iter().try_for_each(|(labels, value)| {
            // The encoder writes empty braces for a family without labels.
            if labels.is_empty() { family.encode_gauge(&value) } else { family.encode_family(&labels)?.encode_gauge(&value) }
        })
    }

    fn counter<V: EncodeCounterValue>(
        &mut self,
        (name, unit, help): (&str, Option<Unit>, &str),
        samples: impl IntoIterator<Item = (Labels, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        samples.into_iter().try_for_each(|(labels, value)| {
            // As for gauges.
            if labels.is_empty() {
                return family.encode_counter::<NoLabelSet, V, u64>(&value, None);
            }
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, V, u64>(&value, None)
        })
    }

    fn histogram(
        &mut self,
        (name, unit, help): (&str, Option<Unit>, &str),
        samples: impl IntoIterator<Item = (Labels, Buckets)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Histogram)?;
        samples.into_iter().try_for_each(|(labels, buckets)| {
            let sum = buckets.sum_micros as f64 / 1e6;
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, buckets.count, &buckets.steps(), None)
        })
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer(encoder);
        self.encode_server(&mut writer)?;
        self.encode_all_streams(&mut writer)?;
        self.encode_streams(&mut writer)?;
        self.encode_stream_counters(&mut writer)?;
        self.encode_recording(&mut writer)?;
        self.encode_shards(&mut writer)?;
        self.platform.iter().try_for_each(|platform| platform.encode(&mut writer))
    }
}

impl Scrape {
    fn encode_server(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let version: Labels = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        writer.0.encode_descriptor("build", "The version that runs", None, MetricType::Info)?.encode_info(&version)?;
        let plain = |value: Option<u64>| value.map(|value| (Labels::new(), value));
        let Process { rss_bytes, fds, fds_max } = self.process;
        writer.gauge(("process_resident_memory", Some(Unit::Bytes), "Resident memory of the process"), plain(rss_bytes))?;
        writer.gauge(("process_open_fds", None, "Open file descriptors"), plain(fds))?;
        writer.gauge(("process_max_fds", None, "How many file descriptors may be open"), plain(fds_max))
    }

    fn encode_all_streams(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let all = &self.all;
        let protocol = |protocol: &&'static str| vec![("protocol", (*protocol).to_owned())];
        writer.gauge(("streams", None, "Streams, with or without a publisher"), [(Labels::new(), self.streams as u64)])?;
        writer.gauge(
            ("viewers", None, "Viewers of all streams, by protocol"),
            all.viewers.iter().map(|(name, count)| (protocol(name), *count)),
        )?;
        writer.histogram(
            (
                "latency",
                Some(Unit::Seconds),
                "Added latency of all streams, by protocol: from the last byte of a frame in to the last byte of its packet out",
            ),
            all.latency.iter().map(|(name, buckets)| (protocol(name), buckets.clone())),
        )?;
        let dropped = DropReason::ALL.iter().zip(all.counters.dropped);
        writer.counter(
            ("dropped_packets", None, "Packets not sent to a viewer, of all streams, by reason"),
            dropped.map(|(reason, count)| (vec![("reason", reason.label().to_owned())], count)),
        )?;
        writer.gauge(
            ("latency_slo_share", None, "Share of packets within 100 ms since the start, of all streams, by protocol"),
            all.latency.iter().map(|(name, buckets)| (protocol(name), buckets.share_within_slo())),
        )
    }

    fn encode_streams(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let stream = |row: &Row| vec![("stream", row.name.clone())];
        let with_protocol = |row: &Row, name: &str| vec![("stream", row.name.clone()), ("protocol", name.to_owned())];
        let viewers = self.rows.iter().flat_map(|row| row.viewers.iter().map(|(name, n)| (with_protocol(row, name), *n)));
        writer.gauge(("stream_viewers", None, "Viewers, by stream and protocol"), viewers)?;
        let latency = self
            .rows
            .iter()
            .flat_map(|row| row.latency.iter().map(|(name, buckets)| (with_protocol(row, name), buckets.clone())));
        writer.histogram(("stream_latency", Some(Unit::Seconds), "Added latency, by stream and protocol"), latency)?;
        let share = self.rows.iter().map(|row| {
            let mut sum = Buckets::default();
            row.latency.values().for_each(|buckets| sum.add(buckets));
            (stream(row), sum.share_within_slo())
        });
        writer.gauge(
            ("stream_latency_slo_share", None, "Share of packets within 100 ms since the stream began, by stream"),
            share,
        )?;
        let bitrate = self.rows.iter().map(|row| (stream(row), row.counters.bitrate));
        writer.gauge(("stream_bits_per_second", None, "Bitrate of what comes in, by stream"), bitrate)?;
        // Neither has a meaning for a sum of streams.
        let single = || self.rows.iter().filter(|row| row.name != OTHER);
        let rate = single().map(|row| (stream(row), decimal(row.counters.frames_per_second)));
        writer.gauge(("stream_frames_per_second", None, "Video frame rate of what comes in, by stream"), rate)?;
        let gop = single().map(|row| (stream(row), row.counters.gop_ms as f64 / 1e3));
        writer.gauge(("stream_gop", Some(Unit::Seconds), "Length of the last complete GOP, by stream"), gop)?;
        self.encode_segments(writer)
    }

    /// Of streams that are cut alone.
    fn encode_segments(&self, writer: &mut Writer<'_>) -> fmt::Result {
        type Field = fn(&SegmentsSnapshot) -> u64;
        let of = |field: Field| {
            let cut = self.rows.iter().filter_map(|row| Some((row, row.segments.as_ref()?)));
            cut.map(move |(row, segments)| (vec![("stream", row.name.clone())], field(segments)))
        };
        writer.gauge(("stream_segments", None, "Segments that can be fetched, by stream"), of(|s| s.segments))?;
        writer.gauge(("stream_segments", Some(Unit::Bytes), "What they hold, by stream"), of(|s| s.bytes))?;
        writer.gauge(("stream_segment_waiting", None, "Requests that wait for a segment, by stream"), of(|s| s.waiting))?;
        let counters: [(&str, &str, Field); 4] = [
            ("stream_segment_requests", "Requests for playlists and segments, by stream", |s| s.requests),
            ("stream_segments_dropped", "Segments that went before their time for want of memory, by stream", |s| s.dropped),
            ("stream_segment_timeouts", "Requests whose segment did not come in time, by stream", |s| s.timed_out),
            ("stream_segment_refusals", "Requests that found too many waiting, by stream", |s| s.refused),
        ];
        for (name, help, field) in counters {
            writer.counter((name, None, help), of(field))?;
        }
        Ok(())
    }

    fn encode_stream_counters(&self, writer: &mut Writer<'_>) -> fmt::Result {
        type Field = fn(&StreamCounters) -> u64;
        let plain: [(&str, Option<Unit>, &str, Field); 7] = [
            ("stream_received_frames", None, "Frames in, by stream", |c| c.frames_in),
            ("stream_received", Some(Unit::Bytes), "Bytes of media in, by stream", |c| c.bytes_in),
            ("stream_sent_packets", None, "Packets out to all viewers, by stream", |c| c.packets_out),
            ("stream_sent", Some(Unit::Bytes), "Bytes out to all viewers, by stream", |c| c.bytes_out),
            ("stream_skips", None, "Times that a viewer was moved to a keyframe because it lagged, by stream", |c| c.skips),
            ("stream_publishers", None, "Publishers so far, by stream", |c| c.publishers),
            ("stream_gops_not_kept", None, "GOPs too large to be kept for newcomers, by stream", |c| c.gops_not_kept),
        ];
        for (name, unit, help, field) in plain {
            let samples = self.rows.iter().map(|row| (vec![("stream", row.name.clone())], field(&row.counters)));
            writer.counter((name, unit, help), samples)?;
        }
        let dropped = (DropReason::ALL.map(DropReason::label), "reason");
        let repairs = (Repair::ALL.map(Repair::label), "kind");
        let discards = (Discard::ALL.map(Discard::label), "reason");
        let fates = (PacketFate::ALL.map(PacketFate::label), "fate");
        writer.counter(
            ("stream_dropped_packets", None, "Packets not sent to a viewer, by stream and reason"),
            self.labelled(dropped, |c| c.dropped),
        )?;
        writer.counter(
            ("stream_timeline_repairs", None, "Timestamps that had to be mended, by stream and kind"),
            self.labelled(repairs, |c| c.repairs),
        )?;
        writer.counter(
            ("stream_discarded_frames", None, "Frames of the publisher that were left out, by stream and reason"),
            self.labelled(discards, |c| c.discarded),
        )?;
        writer.counter(
            ("stream_rtp_packets", None, "RTP packets of the publisher, by stream and what became of them"),
            self.labelled(fates, |c| c.packets_in),
        )
    }

    fn labelled<const N: usize>(
        &self,
        (values, label): ([&'static str; N], &'static str),
        field: impl Fn(&StreamCounters) -> [u64; N],
    ) -> impl Iterator<Item = (Labels, u64)> {
        self.rows.iter().flat_map(move |row| {
            let named = values.into_iter().zip(field(&row.counters));
            named.map(move |(value, count)| (vec![("stream", row.name.clone()), (label, value.to_owned())], count))
        })
    }

    fn encode_shards(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let label = |shard: usize| vec![("shard", shard.to_string())];
        let up = self.shards.iter().enumerate().map(|(shard, answer)| (label(shard), u64::from(answer.is_some())));
        writer.gauge(("shard_up", None, "Whether the shard answered this scrape"), up)?;
        let answered: Vec<_> =
            self.shards.iter().enumerate().filter_map(|(n, answer)| Some((label(n), answer.as_ref()?))).collect();
        let seconds = |field: fn(&ShardSnapshot) -> u64| answered.iter().map(move |(l, s)| (l.clone(), field(s) as f64 / 1e6));
        writer.counter(("shard_cpu", Some(Unit::Seconds), "CPU time of the shard's thread"), seconds(|s| s.cpu_micros))?;
        let stall = ("shard_stall_max", Some(Unit::Seconds), "Longest delay of the shard's timer since the start");
        writer.gauge(stall, seconds(|s| s.stall_micros_max))?;
        type Field = fn(&ShardSnapshot) -> u64;
        let gauges: [(&str, &str, Field); 3] = [
            ("shard_connections", "Open connections", |s| s.connections),
            ("shard_streams", "Streams that the shard owns or watches", |s| s.streams),
            ("shard_viewers", "Viewers on the shard", |s| s.viewers),
        ];
        for (name, help, field) in gauges {
            writer.gauge((name, None, help), answered.iter().map(|(label, shard)| (label.clone(), field(shard))))?;
        }
        let counters: [(&str, Option<Unit>, &str, Field); 11] = [
            ("shard_accepted_connections", None, "Connections accepted", |s| s.accepted),
            ("shard_refused_connections", None, "Connections refused at a limit", |s| s.refused),
            ("shard_accept_pauses", None, "Times that accepting paused for want of file descriptors", |s| s.accept_pauses),
            ("shard_panics", None, "Panics contained", |s| s.panics),
            ("shard_full_lanes", None, "Batches of media that found a full lane to another shard", |s| s.lane_full),
            ("shard_reports_dropped", None, "Reports to the control plane that found no room", |s| s.reports_dropped),
            ("shard_stray_datagrams", None, "Datagrams to the shared port that were nobody's", |s| s.stray_datagrams),
            ("shard_stray_connections", None, "Connections to the shared port that were nobody's", |s| s.stray_connections),
            ("shard_shared_kernel_drops", None, "Datagrams to the shared port that the kernel had no room for", |s| {
                s.shared_kernel_drops
            }),
            ("shard_received", Some(Unit::Bytes), "Bytes read from connections", |s| s.bytes_in),
            ("shard_sent", Some(Unit::Bytes), "Bytes written to connections", |s| s.bytes_out),
        ];
        for (name, unit, help, field) in counters {
            writer.counter((name, unit, help), answered.iter().map(|(label, shard)| (label.clone(), field(shard))))?;
        }
        let mut errors: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for (protocol, reason, count) in answered.iter().flat_map(|(_, shard)| &shard.session_errors) {
            *errors.entry((protocol, reason)).or_default() += count;
        }
        writer.counter(
            ("session_errors", None, "Sessions that ended with an error, and what was refused, by protocol and reason"),
            errors.into_iter().map(|((protocol, reason), count)| {
                (vec![("protocol", protocol.to_owned()), ("reason", reason.to_owned())], count)
            }),
        )
    }
}

#[cfg(test)]
mod tests;
