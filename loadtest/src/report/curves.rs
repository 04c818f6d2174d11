//! What is drawn of a run: latencies by percentile and over time, and what the server held.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::load::Outcome;

/// Points per nine of a percentile.
const STEPS: i32 = 10;

pub fn of(outcome: &Outcome) -> Value {
    let millis = |nanos: u64| nanos as f64 / 1e6;
    let points = outcome.tally.timeline.points();
    let timeline: Vec<[f64; 4]> =
        points.iter().map(|point| [point.begin as f64 / 1e9, millis(point.p50), millis(point.p99), millis(point.max)]).collect();
    let samples: Vec<[f64; 4]> = outcome
        .server
        .iter()
        .flat_map(|server| &server.samples)
        .map(|(at, usage)| [*at, usage.rss_bytes as f64 / 1e6, usage.descriptors as f64, usage.tasks as f64])
        .collect();
    json!({
        "first_byte": nines(&outcome.tally.first), "last_byte": nines(&outcome.tally.last), "timeline": timeline, "samples": samples,
    })
}

/// Latencies in milliseconds by nines: 0 is the least, 1 stands for 90 %, 2 for 99 %, and so on as far as there are enough of them.
fn nines(histogram: &Histogram<u64>) -> Vec<[f64; 2]> {
    let nines = (0..).map(|step| f64::from(step) / f64::from(STEPS));
    let known = nines.take_while(|nines| 10f64.powf(*nines) <= histogram.len() as f64);
    known.map(|nines| [nines, histogram.value_at_quantile(1.0 - 10f64.powf(-nines)) as f64 / 1e6]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_goes_as_far_as_there_are_frames() {
        let mut histogram = crate::tally::histogram();
        (1..=1_000).for_each(|micros| histogram.record(micros * 1_000).unwrap());
        let points = nines(&histogram);
        let at = |nines: f64| points.iter().find(|point| (point[0] - nines).abs() < 1e-9).unwrap()[1];
        assert!((at(1.0) - 0.9).abs() < 0.01 && (at(2.0) - 0.99).abs() < 0.01 && (at(3.0) - 1.0).abs() < 0.01, "{points:?}");
        assert_eq!(points.len(), 31);
    }
}
