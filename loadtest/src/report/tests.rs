//! What reports say of made-up runs.

use clap::Parser;

use super::*;
use crate::args::Args;
use crate::load::{ServerUsage, Visits};
use crate::mark::Mark;
use crate::process::Usage;
use crate::scan::order::Arrival;
use crate::tally::{Fate, Tally};

/// Ten frames sent, and 100,000 bytes, in two seconds.
fn outcome(viewers: u64) -> Outcome {
    let usage = |cpu_seconds, rss_bytes| Usage { cpu_seconds, rss_bytes, ..Usage::default() };
    let mut tally = Tally::new(1);
    tally.measure(0, 1_000);
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
        visits: None,
        slow: None,
        own: (usage(0.0, 0), usage(0.1, 0)),
        server: Some(ServerUsage {
            idle: usage(1.0, 10_000_000),
            rss_of_one: 11_000_000,
            rss_of_all: 11_008_000,
            begin: usage(2.0, 12_000_000),
            end: usage(2.4, 14_000_000),
            samples: Vec::new(),
            syscalls: None,
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
        ("server_rss_per_viewer", 8_000.0),
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

#[test]
fn what_the_server_did_and_holds_is_told_per_frame_and_per_hour() {
    let mut outcome = outcome(1);
    for sequence in 0..10 {
        outcome.tally.last_byte(&Mark { sent: 5, sequence, publisher: 0 }, 10, Fate::InOrder);
    }
    outcome.seconds = 3_600.0;
    let server = outcome.server.as_mut().unwrap();
    (server.end.voluntary_switches, server.end.involuntary_switches) = (15, 5);
    server.syscalls = Some(Ok(40));
    let sample = |at: u64| Usage { rss_bytes: 1_000_000 * at / 36, tasks: 3, descriptors: 9, ..Usage::default() };
    server.samples = (0..360).map(|at| (10.0 * at as f64, sample(at))).collect();
    let report = report(&["--viewers", "1"], &outcome);
    let expected = [
        ("server_switches_per_frame", 2.0),
        ("server_syscalls_per_frame", 4.0),
        ("server_rss_growth", 10.0),
        ("server_descriptors_growth", 0.0),
        ("server_tasks_growth", 0.0),
    ];
    for (key, value) in expected {
        assert!(report.value(key).is_some_and(|is| (is - value).abs() < 1e-3), "{key}: {:?}", report.value(key));
    }
    assert!(report.warnings.iter().any(|warning| warning.starts_with("server_rss_growth: 10")), "{:?}", report.warnings);
    assert!(!report.generator_limited);
}

#[test]
fn those_beside_the_viewers_are_told() {
    let mut outcome = outcome(1);
    let mut visits = Visits::new(1);
    (visits.came, visits.in_vain, visits.lost) = (7, 1, 2);
    let mut slow = Tally::new(1);
    (slow.expected, slow.delivered, slow.bytes) = (vec![100], 30, 250_000);
    (outcome.visits, outcome.slow) = (Some(visits), Some((slow, 1)));
    let report = report(&["--viewers", "1", "--churn", "2", "--slow", "1"], &outcome);
    let expected = [
        ("visits", 7.0),
        ("visits_in_vain", 1.0),
        ("visits_lost", 2.0),
        ("slow_expected", 100.0),
        ("slow_delivered", 30.0),
        ("slow_rate", 1.0),
        ("slow_closed", 1.0),
    ];
    for (key, value) in expected {
        assert_eq!(report.value(key), Some(value), "{key}");
    }
}

#[test]
fn a_generator_that_is_the_limit_says_so() {
    let mut outcome = outcome(1);
    outcome.own.1.cpu_seconds = 1.9;
    let report = report(&["--viewers", "1"], &outcome);
    assert!(report.generator_limited && report.warnings[0].starts_with("the generator used 95 % of its core"));
    assert_eq!(report.json()["generator_limited"], true);
}
