//! Latencies as they come → percentiles per interval of a run, for the plot of latency over time. Sans-IO: the time is handed in.
//!
//! Limits: [`POINTS_MAX`] intervals; when they are full, two neighbours become one, and intervals last twice as long.

use hdrhistogram::Histogram;

use crate::poll::NANOS_PER_SECOND;
use crate::tally::histogram;

const POINTS_MAX: usize = 600;

/// One interval: when it began, in nanoseconds since the beginning, and its latencies, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    pub begin: u64,
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
}

impl Point {
    /// Of two neighbours: the worse one of each.
    fn join(self, other: Point) -> Point {
        let Point { begin, p50, p99, max } = self;
        Point { begin, p50: p50.max(other.p50), p99: p99.max(other.p99), max: max.max(other.max) }
    }
}

pub struct Timeline {
    began: u64,
    interval: u64,
    /// Number of the interval that `current` is of.
    at: u64,
    current: Histogram<u64>,
    points: Vec<Point>,
}

impl Timeline {
    pub fn new(began: u64) -> Timeline {
        Timeline { began, interval: NANOS_PER_SECOND, at: 0, current: histogram(), points: Vec::new() }
    }

    pub fn record(&mut self, now: u64, latency: u64) {
        let at = now.saturating_sub(self.began) / self.interval;
        if at > self.at {
            self.close();
            self.at = now.saturating_sub(self.began) / self.interval;
        }
        self.current.saturating_record(latency);
    }

    fn close(&mut self) {
        self.points.extend(self.open_point());
        self.current.reset();
        if self.points.len() >= POINTS_MAX {
            self.points = self.points.chunks(2).map(|pair| pair.iter().copied().reduce(Point::join).unwrap_or(pair[0])).collect();
            self.interval *= 2;
        }
    }

    fn open_point(&self) -> Option<Point> {
        let (begin, of) = (self.at * self.interval, &self.current);
        let (p50, p99) = (of.value_at_percentile(50.0), of.value_at_percentile(99.0));
        (!of.is_empty()).then(|| Point { begin, p50, p99, max: of.max() })
    }

    /// All intervals so far, the open one included.
    pub fn points(&self) -> Vec<Point> {
        self.points.iter().copied().chain(self.open_point()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_has_a_point_and_what_nothing_came_in_has_none() {
        let mut timeline = Timeline::new(5 * NANOS_PER_SECOND);
        for (second, latency) in [(5, 1_000_000), (5, 3_000_000), (7, 2_000_000)] {
            timeline.record(second * NANOS_PER_SECOND + 1, latency);
        }
        let points = timeline.points();
        let begins: Vec<u64> = points.iter().map(|point| point.begin / NANOS_PER_SECOND).collect();
        assert_eq!(begins, [0, 2]);
        let near = |is: u64, wanted: u64| is.abs_diff(wanted) < wanted / 100;
        assert!(near(points[0].p50, 1_000_000) && near(points[0].max, 3_000_000) && near(points[1].p99, 2_000_000), "{points:?}");
    }

    #[test]
    fn hours_have_no_more_points_than_minutes() {
        let mut timeline = Timeline::new(0);
        for second in 0..10_000 {
            timeline.record(second * NANOS_PER_SECOND, if second == 5_000 { 70_000_000 } else { 1_000_000 });
        }
        let points = timeline.points();
        assert!(points.len() <= POINTS_MAX && points.windows(2).all(|pair| pair[0].begin < pair[1].begin));
        assert_eq!(points.iter().filter(|point| point.max > 60_000_000).count(), 1, "the worst stays");
    }
}
