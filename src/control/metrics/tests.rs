//! `/metrics` read back by a small parser.

use std::collections::BTreeMap;

use super::*;
use crate::config::Config;
use crate::control::gb28181::Desk;
use crate::control::testing::*;
use crate::protocol::gb28181::platform::ask::{Answer, Ask};
use crate::protocol::gb28181::platform::view::DeviceView;

/// Samples by name and labels as written. Asserts the form: description before samples, no family twice, no sample twice, `# EOF` last.
#[track_caller]
fn parse(text: &str) -> BTreeMap<String, f64> {
    let body = text.strip_suffix("# EOF\n").expect("ends with EOF");
    let mut types: BTreeMap<&str, &str> = BTreeMap::new();
    let mut helped = "";
    let mut family = "";
    let mut samples = BTreeMap::new();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(help.ends_with(|c: char| c == '.' || c.is_alphanumeric()), "{line}");
            helped = name;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(helped, name, "HELP before TYPE");
            assert!(types.insert(name, kind).is_none(), "{name} twice");
            family = name;
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            let (name, unit) = rest.split_once(' ').unwrap();
            assert!(name == family && name.ends_with(unit), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let suffixes: &[&str] = match types[family] {
                "counter" => &["_total"],
                "gauge" => &[""],
                "info" => &["_info"],
                "histogram" => &["_sum", "_count", "_bucket"],
                other => panic!("{other}"),
            };
            let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{name} under {family}"));
            assert!(suffixes.contains(&suffix), "{line}");
            assert!(name.starts_with("shardcast_"), "{line}");
            assert!(samples.insert(series.to_owned(), value.parse().unwrap()).is_none(), "{series} twice");
        }
    }
    samples
}

fn streams(snapshots: Vec<crate::shard::message::StreamSnapshot>) -> Vec<Stream> {
    let merge = |(key, snapshots)| Stream::merge(key, snapshots);
    crate::control::streams::group(vec![Some(snapshots)]).into_iter().map(merge).collect()
}

fn scrape(streams: Vec<Stream>, streams_max: usize) -> BTreeMap<String, f64> {
    parse(&text(Scrape::new(streams, Vec::new(), streams_max, None)))
}

#[test]
fn an_idle_server_has_a_well_formed_page() {
    let samples = scrape(Vec::new(), 200);
    assert_eq!(samples["shardcast_streams"], 0.0);
    assert_eq!(samples[concat!("shardcast_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}")], 1.0);
    assert!(samples["shardcast_process_resident_memory_bytes"] > 0.0);
}

#[test]
fn latency_is_a_histogram_with_growing_buckets() {
    let mut stream = owned("live/a", 0, 1);
    stream.latency = vec![("rtmp", latency(&[1, 3, 30, 99, 150, 2_000], 2))];
    let samples = scrape(streams(vec![stream]), 200);
    for (name, labels) in [("latency", ""), ("stream_latency", "stream=\"live/a\",")] {
        let mut counts = Vec::new();
        for bound in ["0.001", "0.002", "0.005", "0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1.0", "+Inf"] {
            let series = format!("shardcast_{name}_seconds_bucket{{le=\"{bound}\",{labels}protocol=\"rtmp\"}}");
            counts.push(samples[&series]);
        }
        assert_eq!(counts, [2.0, 2.0, 4.0, 4.0, 4.0, 6.0, 8.0, 10.0, 10.0, 10.0, 12.0], "{name}");
        assert_eq!(samples[&format!("shardcast_{name}_seconds_count{{{labels}protocol=\"rtmp\"}}")], 12.0);
        assert_eq!(samples[&format!("shardcast_{name}_seconds_sum{{{labels}protocol=\"rtmp\"}}")], 4.566);
    }
    let share = samples["shardcast_latency_slo_share{protocol=\"rtmp\"}"];
    assert!((share - 8.0 / 12.0).abs() < 1e-9, "{share}");
}

#[test]
fn streams_beyond_the_limit_are_summed() {
    let stream = |name: &str, viewers, frames, packets| {
        let mut stream = owned(name, 0, viewers);
        stream.counters.frames_in = frames;
        stream.counters.packets_out = packets;
        stream.counters.dropped = [packets, 0, 1, 0];
        stream.latency = vec![("rtmp", latency(&[1], viewers as u32))];
        stream
    };
    let all = vec![
        stream("live/few", 1, 10, 1),
        stream("live/most", 9, 20, 2),
        stream("live/\"some\"", 5, 30, 3),
        stream("live/one", 1, 40, 4),
    ];
    let samples = scrape(streams(all), 2);
    let names: Vec<_> = samples.keys().filter(|series| series.starts_with("shardcast_stream_received_frames_total")).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    let expected = [
        ("stream_viewers{stream=\"live/most\",protocol=\"rtmp\"}", 9.0),
        ("stream_viewers{stream=\"_other\",protocol=\"rtmp\"}", 2.0),
        ("stream_received_frames_total{stream=\"live/\\\"some\\\"\"}", 30.0),
        ("stream_received_frames_total{stream=\"_other\"}", 50.0),
        ("stream_sent_packets_total{stream=\"_other\"}", 5.0),
        ("stream_dropped_packets_total{stream=\"_other\",reason=\"viewer_lag\"}", 5.0),
        ("stream_dropped_packets_total{stream=\"_other\",reason=\"lane_full\"}", 2.0),
        ("stream_latency_seconds_count{stream=\"_other\",protocol=\"rtmp\"}", 2.0),
        ("viewers{protocol=\"rtmp\"}", 16.0),
        ("streams", 4.0),
    ];
    for (series, value) in expected {
        assert_eq!(samples.get(&format!("shardcast_{series}")), Some(&value), "{series}");
    }
    assert!(!samples.keys().any(|series| series.contains("per_second{stream=\"_other\"}") && series.contains("frames")));
}

#[test]
fn shards_show_their_counters() {
    let shard = |shard, count| ShardSnapshot {
        shard,
        cpu_micros: 2_500_000,
        stall_micros_max: 1_500,
        connections: count,
        accepted: 10 * count,
        refused: 2,
        panics: 1,
        session_errors: vec![("rtmp", "bad_chunk", count), ("http", "too_long", 1)],
        ..ShardSnapshot::default()
    };
    let samples = parse(&text(Scrape::new(Vec::new(), vec![Some(shard(0, 3)), None, Some(shard(2, 4))], 9, None)));
    let expected = [
        ("shard_up{shard=\"1\"}", 0.0),
        ("shard_cpu_seconds_total{shard=\"0\"}", 2.5),
        ("shard_stall_max_seconds{shard=\"2\"}", 0.0015),
        ("shard_connections{shard=\"2\"}", 4.0),
        ("shard_accepted_connections_total{shard=\"0\"}", 30.0),
        ("shard_refused_connections_total{shard=\"0\"}", 2.0),
        ("shard_panics_total{shard=\"2\"}", 1.0),
        ("session_errors_total{protocol=\"rtmp\",reason=\"bad_chunk\"}", 7.0),
        ("session_errors_total{protocol=\"http\",reason=\"too_long\"}", 2.0),
    ];
    for (series, value) in expected {
        assert_eq!(samples.get(&format!("shardcast_{series}")), Some(&value), "{series}");
    }
}

#[test]
fn streams_that_are_over_stay_in_the_sums() {
    let mut stream = owned("live/a", 0, 1);
    stream.latency = vec![("rtmp", latency(&[1], 4))];
    stream.counters.dropped = [1, 0, 0, 0];
    let shard = ShardSnapshot {
        retired_latency: vec![("rtmp", latency(&[1], 5)), ("http-flv", latency(&[1], 2))],
        retired_dropped: [2, 3, 0, 0],
        ..ShardSnapshot::default()
    };
    let samples = parse(&text(Scrape::new(streams(vec![stream]), vec![Some(shard)], 9, None)));
    let expected = [
        ("latency_seconds_count{protocol=\"rtmp\"}", 9.0),
        ("latency_seconds_count{protocol=\"http-flv\"}", 2.0),
        ("stream_latency_seconds_count{stream=\"live/a\",protocol=\"rtmp\"}", 4.0),
        ("dropped_packets_total{reason=\"viewer_lag\"}", 3.0),
        ("dropped_packets_total{reason=\"ring_full\"}", 3.0),
    ];
    for (series, value) in expected {
        assert_eq!(samples.get(&format!("shardcast_{series}")), Some(&value), "{series}");
    }
}

#[test]
fn the_route_says_what_it_serves() {
    let script = Script { streams: vec![owned("live/a", 0, 2)], ..Script::default() };
    let server = Server::start(Config::default(), vec![script]);
    let answer = server.get("/metrics");
    assert!(answer.head.contains(&format!("content-type: {CONTENT_TYPE}")), "{}", answer.head);
    assert_eq!(parse(&answer.body)["shardcast_viewers{protocol=\"rtmp\"}"], 2.0);
}

#[test]
fn the_platform_has_series_of_its_own() {
    let desk = Desk::answered_by(|ask| {
        let device = |online| DeviceView { online, ..DeviceView::default() };
        match ask {
            Ask::Devices => Some(Answer::Devices(vec![device(true), device(false), device(true)])),
            _ => None,
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let platform = runtime.block_on(Platform::look(&desk));
    let samples = parse(&text(Scrape::new(Vec::new(), Vec::new(), 9, Some(platform))));
    let expected = [
        ("shardcast_gb28181_devices{state=\"online\"}", Some(2.0)),
        ("shardcast_gb28181_devices{state=\"offline\"}", Some(1.0)),
        // The platform has not said.
        ("shardcast_gb28181_calls{state=\"playing\"}", None),
        ("shardcast_gb28181_connections", Some(0.0)),
        ("shardcast_gb28181_received_messages_total{transport=\"udp\"}", Some(0.0)),
        ("shardcast_gb28181_sent_messages_total{transport=\"tcp\"}", Some(0.0)),
        ("shardcast_gb28181_left_out_log_lines_total", Some(0.0)),
    ];
    for (series, value) in expected {
        assert_eq!(samples.get(series).copied(), value, "{series}");
    }
}
