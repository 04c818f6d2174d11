//! How much later than it should have come everything came, because the machine had other things to do: seen by a viewer over HTTP-FLV of the
//! same stream, whose frames pass the same publisher, the same server and a thread of the same process as those of the viewer that is judged.

use std::time::{Duration, Instant};

use super::viewer::Viewer;
use super::{Over, Server};

/// More than lies between two frames of our streams, sound and picture together.
const USUAL: Duration = Duration::from_millis(60);

/// Stands by a stream from its opening on.
pub struct Lateness {
    viewer: Viewer,
}

impl Lateness {
    pub fn of(server: &Server, key: &str) -> Self {
        let viewer = Viewer::open(server, Over::HttpFlv, key);
        viewer.wait("a frame", |seen| !seen.times.is_empty());
        Lateness { viewer }
    }

    /// How much of the time between two moments nothing came though it should have.
    pub fn between(&self, from: Instant, to: Instant) -> Duration {
        lost(&self.viewer.seen().times, from, to)
    }

    /// The longest time in which nothing came though it should have.
    pub fn worst(&self) -> Duration {
        let times = self.viewer.seen().times;
        let gaps = times.windows(2).map(|pair| pair[1].duration_since(pair[0]));
        gaps.max().unwrap_or_default().saturating_sub(USUAL)
    }
}

fn lost(times: &[Instant], from: Instant, to: Instant) -> Duration {
    let within = times.iter().filter(|at| (from..to).contains(*at));
    let mut last = times.iter().rev().find(|at| **at < from).copied().unwrap_or(from);
    let mut lost = Duration::ZERO;
    for at in within.chain([&to]) {
        let gap = at.saturating_duration_since(last).saturating_sub(USUAL);
        lost += gap.min(at.saturating_duration_since(from));
        last = *at;
    }
    lost
}

#[test]
fn what_did_not_come_in_time_is_lost() {
    let began = Instant::now();
    let at = |ms: u64| began + Duration::from_millis(ms);
    let times: Vec<Instant> = [0, 40, 80, 1_000, 1_040, 1_080].map(at).to_vec();
    let cases = [
        ("nothing", 0, 80, 0),
        ("a stall", 0, 1_080, 860),
        ("its end", 900, 1_080, 100),
        ("its beginning", 40, 300, 160),
        ("what has not come yet", 1_000, 2_080, 940),
    ];
    for (name, from, to, ms) in cases {
        assert_eq!(lost(&times, at(from), at(to)), Duration::from_millis(ms), "{name}");
    }
}
