//! What is told of a run: one list of figures, printed as a table and written as JSON.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::args::LoadArgs;
use crate::load::Outcome;
use crate::process::Usage;

const SLO_NANOS: u64 = 100_000_000;
const PERCENTILES: [(&str, f64); 4] = [("p50", 50.0), ("p99", 99.0), ("p99_9", 99.9), ("p99_99", 99.99)];
/// Above this share of its core, or with senders later than that, the generator may have been the limit.
const OWN_CPU_MAX: f64 = 0.85;
const LATENESS_MAX_MS: f64 = 5.0;

/// One figure.
pub struct Figure {
    pub key: String,
    pub value: f64,
    pub unit: &'static str,
}

pub struct Report {
    settings: Value,
    pub figures: Vec<Figure>,
    /// What makes the figures doubtful.
    pub warnings: Vec<String>,
}

impl Report {
    pub fn new(args: &LoadArgs, outcome: &Outcome) -> Report {
        let settings = json!({
            "publish": args.publish.name(), "publishers": args.publishers, "play": args.play.name(), "viewers": args.viewers,
            "stalled": args.stalled, "gro": args.gro, "rate_bits": args.rate.0, "fps": args.fps, "gop_ms": args.gop_ms, "seconds": args.seconds,
        });
        let mut report = Report { settings, figures: Vec::new(), warnings: Vec::new() };
        report.publishing(outcome);
        if args.viewers > 0 {
            report.delivery(outcome);
            report.packets(outcome);
            report.requests(outcome);
            report.latency("first_byte", &outcome.tally.first);
            report.latency("last_byte", &outcome.tally.last);
            report.joins(outcome);
        }
        report.server(args, outcome);
        report.generator(args, outcome);
        report.warn(args, outcome);
        report
    }

    fn add(&mut self, key: impl Into<String>, value: f64, unit: &'static str) {
        self.figures.push(Figure { key: key.into(), value, unit });
    }

    pub fn value(&self, key: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.key == key).map(|figure| figure.value)
    }

    fn publishing(&mut self, outcome: &Outcome) {
        self.add("published", outcome.tally.expected.iter().sum::<u64>() as f64, "frames");
        self.add("published_rate", outcome.tally.bytes_published as f64 * 8.0 / 1e6 / outcome.seconds, "Mbit/s");
        if let Some(lost) = outcome.reported_lost {
            self.add("published_lost", lost as f64, "packets");
        }
    }

    fn delivery(&mut self, outcome: &Outcome) {
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
    fn packets(&mut self, outcome: &Outcome) {
        let packets = &outcome.tally.packets;
        if packets.received > 0 {
            self.add("packets", packets.received as f64, "packets");
            self.add("packets_lost", packets.missing.saturating_sub(packets.late) as f64, "packets");
            self.add("packets_duplicated", packets.duplicated as f64, "packets");
            self.add("packets_out_of_order", packets.late as f64, "packets");
        }
    }

    /// Of players in segments, from the first on.
    fn requests(&mut self, outcome: &Outcome) {
        let (requests, failed) = outcome.requests;
        if requests > 0 {
            self.add("requests", requests as f64, "requests");
            self.add("requests_failed", failed as f64, "requests");
        }
    }

    fn latency(&mut self, name: &str, histogram: &Histogram<u64>) {
        for (label, percentile) in PERCENTILES {
            self.add(format!("{name}_{label}"), millis(histogram.value_at_percentile(percentile)), "ms");
        }
        self.add(format!("{name}_max"), millis(histogram.max()), "ms");
    }

    fn joins(&mut self, outcome: &Outcome) {
        let mut joins = crate::tally::histogram();
        outcome.joins.iter().for_each(|join| joins.saturating_record(*join));
        self.add("join_p50", millis(joins.value_at_percentile(50.0)), "ms");
        self.add("join_p99", millis(joins.value_at_percentile(99.0)), "ms");
    }

    fn server(&mut self, args: &LoadArgs, outcome: &Outcome) {
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
            let grown = end.rss_bytes as f64 - server.one_viewer.rss_bytes as f64;
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
    }

    fn generator(&mut self, args: &LoadArgs, outcome: &Outcome) {
        let (begin, end) = &outcome.own;
        self.add("generator_cpu_share", (end.cpu_seconds - begin.cpu_seconds) * 100.0 / outcome.seconds, "%");
        self.add("generator_lateness_p99", millis(outcome.tally.lateness.value_at_percentile(99.0)), "ms");
        self.add("generator_lateness_max", millis(outcome.tally.lateness.max()), "ms");
        if args.viewers > 0 {
            self.add("generator_reading_p50", millis(outcome.tally.reading.value_at_percentile(50.0)), "ms");
            self.add("generator_reading_p99", millis(outcome.tally.reading.value_at_percentile(99.0)), "ms");
        }
    }

    fn warn(&mut self, args: &LoadArgs, outcome: &Outcome) {
        let share = self.value("generator_cpu_share").unwrap_or(0.0) / 100.0;
        if share > OWN_CPU_MAX {
            self.warnings.push(format!("the generator used {:.0} % of its core: it may have been the limit", share * 100.0));
        }
        let late = self.value("generator_lateness_p99").unwrap_or(0.0);
        if late > LATENESS_MAX_MS {
            self.warnings.push(format!("1 % of the frames were sent more than {late:.1} ms late: the generator was the limit"));
        }
        if outcome.unsent > 0 {
            self.warnings.push(format!("{} datagrams could not be sent: the generator was the limit", outcome.unsent));
        }
        if outcome.dropped > 0 {
            let dropped = outcome.dropped;
            self.warnings.push(format!("the viewers' sockets had no room for {dropped} datagrams: the generator was the limit"));
        }
        if outcome.joins.len() < args.viewers {
            self.warnings.push(format!("{} viewers never got a picture", args.viewers - outcome.joins.len()));
        }
        for (reason, count) in &outcome.closed {
            self.warnings.push(format!("{count} viewers were lost: {reason}"));
        }
    }

    pub fn table(&self) -> String {
        let mut text = format!("{}\n", self.settings);
        for Figure { key, value, unit } in &self.figures {
            let _ = writeln!(text, "{key:<28} {:>14} {unit}", number(*value));
        }
        for warning in &self.warnings {
            let _ = writeln!(text, "WARNING: {warning}");
        }
        text
    }

    pub fn json(&self) -> Value {
        let figures: Map<String, Value> = self.figures.iter().map(|figure| (figure.key.clone(), json!(figure.value))).collect();
        let units: Map<String, Value> = self.figures.iter().map(|figure| (figure.key.clone(), json!(figure.unit))).collect();
        let order: Vec<&str> = self.figures.iter().map(|figure| figure.key.as_str()).collect();
        json!({ "settings": self.settings, "order": order, "figures": figures, "units": units, "warnings": self.warnings })
    }
}

/// As few digits as say it.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size.fract() == 0.0 || size >= 1000.0 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.1}"),
        size if size >= 10.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn gbit(outcome: &Outcome) -> f64 {
    outcome.bytes as f64 * 8.0 / 1e9
}

fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Args;
    use crate::load::ServerUsage;
    use crate::mark::Mark;
    use crate::scan::order::Arrival;
    use crate::tally::{Fate, Tally};

    /// Ten frames sent, and 100,000 bytes, in two seconds.
    fn outcome(viewers: u64) -> Outcome {
        let usage = |cpu_seconds, rss_bytes| Usage { cpu_seconds, rss_bytes, ..Usage::default() };
        let mut tally = Tally::new(1);
        tally.window = (0, 1_000);
        for sequence in 0..10 {
            tally.sent(&Mark { sent: 5, sequence, publisher: 0 }, 0);
        }
        tally.published(5, 100_000);
        Outcome {
            tally,
            viewers: vec![viewers],
            joins: vec![1_000_000; viewers as usize],
            closed: std::collections::BTreeMap::new(),
            reported_lost: Some(3),
            unsent: 0,
            dropped: 0,
            requests: (0, 0),
            bytes: 0,
            seconds: 2.0,
            own: (usage(0.0, 0), usage(0.1, 0)),
            server: Some(ServerUsage {
                idle: usage(1.0, 10_000_000),
                one_viewer: usage(1.5, 11_000_000),
                begin: usage(2.0, 12_000_000),
                end: usage(2.4, 14_000_000),
            }),
        }
    }

    fn report(options: &[&str], outcome: &Outcome) -> Report {
        Report::new(&Args::try_parse_from([&["loadtest"], options].concat()).unwrap().load, outcome)
    }

    #[test]
    fn without_viewers_publishing_is_measured() {
        let report = report(&["--viewers", "0", "--publishers", "20"], &outcome(0));
        let expected = [
            ("published", 10.0),
            ("published_rate", 0.4),
            ("published_lost", 3.0),
            ("server_cpu_per_publisher", 10.0),
            ("server_rss", 14.0),
            ("server_rss_per_publisher", 200.0),
        ];
        for (key, value) in expected {
            assert!(report.value(key).is_some_and(|is| (is - value).abs() < 1e-9), "{key}: {:?}", report.value(key));
        }
        assert_eq!((report.value("delivered"), report.value("join_p50"), report.value("packets")), (None, None, None));
        assert!(report.figures.iter().all(|figure| figure.value.is_finite()), "{}", report.table());
        assert_eq!(report.warnings, Vec::<String>::new());
    }

    #[test]
    fn viewers_and_their_packets_are_told() {
        let mut outcome = outcome(2);
        for (sequence, fate) in [(0, Fate::InOrder), (2, Fate::InOrder), (1, Fate::Late), (1, Fate::Duplicate)] {
            outcome.tally.last_byte(&Mark { sent: 5, sequence, publisher: 0 }, 10, fate);
        }
        for arrival in [Arrival::Ahead { missing: 3 }, Arrival::Late, Arrival::Duplicate] {
            outcome.tally.packet(10, arrival);
        }
        (outcome.dropped, outcome.requests) = (1, (5, 2));
        let report = report(&["--viewers", "2", "--play", "rtsp-udp"], &outcome);
        let expected = [
            ("expected", 20.0),
            ("delivered", 3.0),
            ("lost", 17.0),
            ("duplicated", 1.0),
            ("out_of_order", 1.0),
            ("packets", 3.0),
            ("packets_lost", 2.0),
            ("packets_duplicated", 1.0),
            ("packets_out_of_order", 1.0),
            ("requests", 5.0),
            ("requests_failed", 2.0),
        ];
        for (key, value) in expected {
            assert_eq!(report.value(key), Some(value), "{key}");
        }
        assert_eq!(report.warnings, ["the viewers' sockets had no room for 1 datagrams: the generator was the limit"]);
    }
}
