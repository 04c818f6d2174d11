//! What is measured: plain counters and latency histograms, owned by one shard, copied out on request.

use hdrhistogram::Histogram;

use crate::media::{Discard, Stamp};

/// The service level: this share of packets leaves within [`SLO_MICROS`].
pub const SLO_MICROS: u64 = 100_000;

/// Latency above this is recorded as this.
const MICROS_MAX: u64 = 60_000_000;

/// Added latency of one stream and protocol on one shard: from the last byte of a frame in to the last byte of its packet out, per
/// viewer, in microseconds, two significant digits. The burst that a viewer gets when it joins is not in it.
#[derive(Clone, Debug)]
pub struct Latency {
    histogram: Histogram<u32>,
    within_slo: u64,
    sum_micros: u64,
}

impl Default for Latency {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, MICROS_MAX, 2).expect("constant bounds are valid");
        Latency { histogram, within_slo: 0, sum_micros: 0 }
    }
}

impl Latency {
    /// `viewers` packets with the same arrival were accepted by the kernel by `now`.
    pub fn record(&mut self, arrival: Stamp, now: Stamp, viewers: u32) {
        let micros = (now.since(arrival).as_nanos() / 1000) as u64;
        self.histogram.saturating_record_n(micros.max(1), viewers);
        self.sum_micros += micros * u64::from(viewers);
        if micros <= SLO_MICROS {
            self.within_slo += u64::from(viewers);
        }
    }

    pub fn merge(&mut self, other: &Latency) {
        self.histogram.add(&other.histogram).expect("all histograms have the same bounds");
        self.within_slo += other.within_slo;
        self.sum_micros += other.sum_micros;
    }

    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    pub fn sum_micros(&self) -> u64 {
        self.sum_micros
    }

    /// Microseconds at `percentile` (0–100); zero when nothing was recorded.
    pub fn percentile(&self, percentile: f64) -> u64 {
        self.histogram.value_at_percentile(percentile)
    }

    pub fn max(&self) -> u64 {
        self.histogram.max()
    }

    /// How many were at most `micros`, to the precision of the histogram.
    pub fn count_up_to(&self, micros: u64) -> u64 {
        self.histogram.count_between(0, micros)
    }

    /// Share of packets within [`SLO_MICROS`], 1.0 when nothing was recorded.
    pub fn share_within_slo(&self) -> f64 {
        let count = self.count();
        if count == 0 { 1.0 } else { self.within_slo as f64 / count as f64 }
    }
}

/// Adds `more` to what `all` has under the same labels.
pub fn merge_latency(all: &mut Vec<(&'static str, Latency)>, more: &[(&'static str, Latency)]) {
    for (label, latency) in more {
        match all.iter_mut().find(|(known, _)| known == label) {
            Some((_, sum)) => sum.merge(latency),
            None => all.push((label, latency.clone())),
        }
    }
}

/// Why packets were not sent to a viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DropReason {
    /// The viewer lagged more than `lag_ms_max`.
    ViewerLag,
    /// The ring was full before the viewer took the packet.
    RingFull,
    /// The lane between two shards was full.
    LaneFull,
    /// The kernel refused the viewer's datagrams, or took only some of the packet's.
    NotTaken,
}

impl DropReason {
    pub const ALL: [DropReason; 4] = [DropReason::ViewerLag, DropReason::RingFull, DropReason::LaneFull, DropReason::NotTaken];

    pub const fn label(self) -> &'static str {
        match self {
            DropReason::ViewerLag => "viewer_lag",
            DropReason::RingFull => "ring_full",
            DropReason::LaneFull => "lane_full",
            DropReason::NotTaken => "not_taken",
        }
    }
}

/// What became of a publisher's RTP packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PacketFate {
    Received,
    /// Came after a later one, but in time; counted as received too.
    Reordered,
    /// Given up after `reorder_ms`, whoever lost it.
    Lost,
    /// Came twice, too late, or from elsewhere.
    Useless,
    /// The kernel had no room for the datagram: not the network's fault. It counts as lost too, once the gap shows.
    KernelDrop,
}

impl PacketFate {
    pub const ALL: [PacketFate; 5] =
        [PacketFate::Received, PacketFate::Reordered, PacketFate::Lost, PacketFate::Useless, PacketFate::KernelDrop];

    pub const fn label(self) -> &'static str {
        match self {
            PacketFate::Received => "received",
            PacketFate::Reordered => "reordered",
            PacketFate::Lost => "lost",
            PacketFate::Useless => "useless",
            PacketFate::KernelDrop => "kernel_drop",
        }
    }
}

/// Counters of one stream on one shard. Only the owner counts what comes in; every shard counts what goes out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamCounters {
    pub frames_in: u64,
    pub bytes_in: u64,
    pub packets_out: u64,
    pub bytes_out: u64,
    /// Bits per second of media, over the last second or two.
    pub bitrate: u64,
    /// Video frames per second, over the same time.
    pub frames_per_second: f32,
    /// Length of the last complete GOP.
    pub gop_ms: u64,
    pub gop_frames: u64,
    /// Publishers so far, the present one included.
    pub publishers: u64,
    /// Timeline repairs, in the order of [`crate::media::timeline::Repair::ALL`].
    pub repairs: [u64; crate::media::timeline::Repair::ALL.len()],
    /// In the order of [`Discard::ALL`].
    pub discarded: [u64; Discard::ALL.len()],
    /// Packets dropped, in the order of [`DropReason::ALL`].
    pub dropped: [u64; DropReason::ALL.len()],
    /// Times that a viewer was moved to a keyframe.
    pub skips: u64,
    /// GOPs that were not kept for newcomers because of their size.
    pub gops_not_kept: u64,
    /// RTP packets of the publisher, in the order of [`PacketFate::ALL`].
    pub packets_in: [u64; PacketFate::ALL.len()],
}
