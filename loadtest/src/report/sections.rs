//! The figures of a report, one section of them after the other.

use hdrhistogram::Histogram;

use super::{Report, number};
use crate::args::LoadArgs;
use crate::load::Outcome;
use crate::process::Usage;
use crate::tally::histogram;
use crate::trend::slope;

const SLO_NANOS: u64 = 100_000_000;
const PERCENTILES: [(&str, f64); 4] = [("p50", 50.0), ("p99", 99.0), ("p99_9", 99.9), ("p99_99", 99.99)];
/// Above this share of its core, or with senders later than that, or bytes that waited longer in it, the generator may have been the limit.
const OWN_CPU_MAX: f64 = 0.85;
const LATENESS_MAX_MS: f64 = 5.0;
const READING_MAX_MS: f64 = 5.0;
/// A shorter run shows no trend, and only a long one a leak.
const TREND_SECONDS_MIN: f64 = 30.0;
const LEAK_SECONDS_MIN: f64 = 1800.0;

impl Report {
    pub(super) fn publishing(&mut self, outcome: &Outcome) {
        self.add("published", outcome.tally.expected.iter().sum::<u64>() as f64, "frames");
        self.add("published_rate", outcome.tally.bytes_published as f64 * 8.0 / 1e6 / outcome.seconds, "Mbit/s");
        if let Some(lost) = outcome.reported_lost {
            self.add("published_lost", lost as f64, "packets");
        }
    }

    pub(super) fn delivery(&mut self, outcome: &Outcome) {
        let tally = &outcome.tally;
        let due: u64 = tally.expected.iter().zip(&outcome.viewers).map(|(units, viewers)| units * viewers).sum();
        self.add("expected", due as f64, "frames");
        self.add("delivered", tally.delivered as f64, "frames");
        self.add("lost", due.saturating_sub(tally.delivered) as f64, "frames");
        self.add("duplicated", tally.duplicated as f64, "frames");
        self.add("out_of_order", tally.out_of_order as f64, "frames");
        self.add("closed", outcome.closed.values().sum::<usize>() as f64, "viewers");
        self.add("delivered_gbit", gbit(outcome), "Gbit");
        self.add("delivered_rate", gbit(outcome) * 1e3 / outcome.seconds, "Mbit/s");
        let within = tally.last.count_between(0, SLO_NANOS);
        self.add("within_100_ms", within as f64 * 100.0 / due.max(1) as f64, "%");
    }

    /// Where media comes in RTP packets.
    pub(super) fn packets(&mut self, outcome: &Outcome) {
        let packets = &outcome.tally.packets;
        if packets.received > 0 {
            self.add("packets", packets.received as f64, "packets");
            self.add("packets_lost", packets.missing.saturating_sub(packets.late) as f64, "packets");
            self.add("packets_duplicated", packets.duplicated as f64, "packets");
            self.add("packets_out_of_order", packets.late as f64, "packets");
        }
    }

    /// Of players in segments, from the first on.
    pub(super) fn requests(&mut self, outcome: &Outcome) {
        let (requests, failed) = outcome.requests;
        if requests > 0 {
            self.add("requests", requests as f64, "requests");
            self.add("requests_failed", failed as f64, "requests");
        }
    }

    pub(super) fn latency(&mut self, name: &str, histogram: &Histogram<u64>) {
        for (label, percentile) in PERCENTILES {
            self.add(format!("{name}_{label}"), millis(histogram.value_at_percentile(percentile)), "ms");
        }
        self.add(format!("{name}_max"), millis(histogram.max()), "ms");
    }

    pub(super) fn joins(&mut self, name: &str, times: &[u64]) {
        let mut joins = histogram();
        times.iter().for_each(|join| joins.saturating_record(*join));
        self.spread_of_joins(name, &joins);
    }

    pub(super) fn spread_of_joins(&mut self, name: &str, joins: &Histogram<u64>) {
        self.add(format!("{name}_p50"), millis(joins.value_at_percentile(50.0)), "ms");
        self.add(format!("{name}_p99"), millis(joins.value_at_percentile(99.0)), "ms");
        self.add(format!("{name}_max"), millis(joins.max()), "ms");
    }

    /// Those beside the viewers that are measured.
    pub(super) fn others(&mut self, outcome: &Outcome) {
        if let Some(visits) = &outcome.visits {
            self.add("visits", visits.came as f64, "viewers");
            self.add("visits_in_vain", visits.in_vain as f64, "viewers");
            self.add("visits_closed", visits.closed as f64, "viewers");
            self.add("visits_lost", visits.lost as f64, "frames");
            self.add("visits_duplicated", visits.tally.duplicated as f64, "frames");
            self.spread_of_joins("visits_join", &visits.joins);
        }
        if let Some((tally, closed)) = &outcome.slow {
            let due: u64 = tally.expected.iter().sum();
            self.add("slow_expected", due as f64, "frames");
            self.add("slow_delivered", tally.delivered as f64, "frames");
            self.add("slow_rate", tally.bytes as f64 * 8.0 / 1e6 / outcome.seconds, "Mbit/s");
            self.add("slow_closed", *closed as f64, "viewers");
            self.latency("slow_last_byte", &tally.last);
        }
    }

    pub(super) fn server(&mut self, args: &LoadArgs, outcome: &Outcome) {
        let Some(server) = &outcome.server else { return };
        let (begin, end) = (&server.begin, &server.end);
        let cpu = end.cpu_seconds - begin.cpu_seconds;
        self.add("server_cpu", cpu, "s");
        self.add("server_cpu_share", cpu * 100.0 / outcome.seconds, "%");
        let publishers = f64::from(args.publishers);
        if args.viewers > 0 {
            self.add("server_cpu_per_gbit", cpu / gbit(outcome), "s/Gbit");
            self.add("server_rss", end.rss_bytes as f64 / 1e6, "MB");
            let first = args.viewers.min(args.publishers.into());
            let grown = server.rss_of_all as f64 - server.rss_of_one as f64;
            let added = (args.viewers - first + args.stalled).max(1) as f64;
            self.add("server_rss_per_viewer", grown / added, "bytes");
        } else {
            self.add("server_cpu_per_publisher", cpu * 1e3 / publishers / outcome.seconds, "ms/s");
            self.add("server_cpu_per_gbit", cpu / (outcome.tally.bytes_published as f64 * 8.0 / 1e9), "s/Gbit");
            self.add("server_rss", end.rss_bytes as f64 / 1e6, "MB");
            let grown = end.rss_bytes as f64 - server.idle.rss_bytes as f64;
            self.add("server_rss_per_publisher", grown / publishers / 1e3, "kB");
        }
        let per_second = |get: fn(&Usage) -> u64| (get(end) - get(begin)) as f64 / outcome.seconds;
        self.add("server_voluntary_switches", per_second(|usage| usage.voluntary_switches), "1/s");
        self.add("server_involuntary_switches", per_second(|usage| usage.involuntary_switches), "1/s");
        let frames = if args.viewers > 0 { outcome.tally.delivered } else { outcome.tally.expected.iter().sum() };
        let per_frame = |count: u64| count as f64 / frames.max(1) as f64;
        let switches = |usage: &Usage| usage.voluntary_switches + usage.involuntary_switches;
        self.add("server_switches_per_frame", per_frame(switches(end) - switches(begin)), "");
        match &server.syscalls {
            Some(Ok(count)) => self.add("server_syscalls_per_frame", per_frame(*count), ""),
            Some(Err(error)) => self.warnings.push(format!("system calls are not counted: {error}")),
            None => {}
        }
    }

    /// What the server's process holds more and more of, if the run was long enough to tell.
    pub(super) fn trends(&mut self, outcome: &Outcome) {
        type Trend = (&'static str, fn(&Usage) -> f64, &'static str);
        const TRENDS: [Trend; 3] = [
            ("server_rss_growth", |usage| usage.rss_bytes as f64 / 1e6, "MB/h"),
            ("server_descriptors_growth", |usage| usage.descriptors as f64, "1/h"),
            ("server_tasks_growth", |usage| usage.tasks as f64, "1/h"),
        ];
        let Some(server) = outcome.server.as_ref().filter(|_| outcome.seconds >= TREND_SECONDS_MIN) else { return };
        for (key, get, unit) in TRENDS {
            let samples: Vec<(f64, f64)> = server.samples.iter().map(|(at, usage)| (at / 3600.0, get(usage))).collect();
            let Some(slope) = slope(&samples) else { continue };
            self.add(key, slope.value, unit);
            self.add(format!("{key}_uncertainty"), slope.uncertainty, unit);
            if slope.grows() && outcome.seconds >= LEAK_SECONDS_MIN {
                self.warnings.push(format!("{key}: {} ± {} {unit}", number(slope.value), number(slope.uncertainty)));
            }
        }
    }

    pub(super) fn generator(&mut self, args: &LoadArgs, outcome: &Outcome) {
        let (begin, end) = &outcome.own;
        self.add("generator_cpu_share", (end.cpu_seconds - begin.cpu_seconds) * 100.0 / outcome.seconds, "%");
        self.add("generator_lateness_p99", millis(outcome.tally.lateness.value_at_percentile(99.0)), "ms");
        self.add("generator_lateness_max", millis(outcome.tally.lateness.max()), "ms");
        if args.viewers > 0 {
            self.add("generator_reading_p50", millis(outcome.tally.reading.value_at_percentile(50.0)), "ms");
            self.add("generator_reading_p99", millis(outcome.tally.reading.value_at_percentile(99.0)), "ms");
        }
    }

    pub(super) fn warn(&mut self, args: &LoadArgs, outcome: &Outcome) {
        let value = |key| self.value(key).unwrap_or(0.0);
        let mut limits = Vec::new();
        let (share, late) = (value("generator_cpu_share") / 100.0, value("generator_lateness_p99"));
        let (waited, latency) = (value("generator_reading_p99"), value("last_byte_p99"));
        if share > OWN_CPU_MAX {
            limits.push(format!("the generator used {:.0} % of its core: it may have been the limit", share * 100.0));
        }
        if late > LATENESS_MAX_MS {
            limits.push(format!("1 % of the frames were sent more than {late:.1} ms late: the generator was the limit"));
        }
        if waited > READING_MAX_MS && waited > latency / 2.0 {
            limits.push(format!("{waited:.1} ms of the p99 of {latency:.1} ms are spent in the generator, which was the limit"));
        }
        if outcome.unsent > 0 {
            limits.push(format!("{} datagrams could not be sent: the generator was the limit", outcome.unsent));
        }
        if outcome.dropped > 0 {
            let dropped = outcome.dropped;
            limits.push(format!("the viewers' sockets had no room for {dropped} datagrams: the generator was the limit"));
        }
        self.generator_limited = !limits.is_empty();
        self.warnings.extend(limits);
        if outcome.joins.len() < args.viewers {
            self.warnings.push(format!("{} viewers never got a picture", args.viewers - outcome.joins.len()));
        }
        for (reason, count) in &outcome.closed {
            self.warnings.push(format!("{count} viewers were lost: {reason}"));
        }
    }
}

fn gbit(outcome: &Outcome) -> f64 {
    outcome.bytes as f64 * 8.0 / 1e9
}

fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}
