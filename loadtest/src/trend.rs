//! Samples over time → the slope of the line through them, and how sure that is: what grows while a server runs for hours.
//!
//! Ordinary least squares. Neighbouring samples hang together, so they are first taken together to at most [`GROUPS_MAX`] means: the
//! interval of confidence is that of the groups, which is wider and nearer to the truth.

const GROUPS_MAX: usize = 60;
/// The samples of this share of the time are left out: a server that has just begun grows.
const WARM_UP: f64 = 0.1;
/// Fewer groups say nothing.
const GROUPS_MIN: usize = 3;

/// A slope and half of the width of its 95 % interval of confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slope {
    pub value: f64,
    pub uncertainty: f64,
}

impl Slope {
    /// Whether growth is certain.
    pub fn grows(&self) -> bool {
        self.value - self.uncertainty > 0.0
    }
}

/// Of samples `(x, y)` in the order of x.
pub fn slope(samples: &[(f64, f64)]) -> Option<Slope> {
    let (first, last) = (samples.first()?.0, samples.last()?.0);
    let warm = first + (last - first) * WARM_UP;
    let kept = &samples[samples.partition_point(|(x, _)| *x < warm)..];
    let groups: Vec<(f64, f64)> = kept.chunks(kept.len().div_ceil(GROUPS_MAX).max(1)).map(mean).collect();
    if groups.len() < GROUPS_MIN {
        return None;
    }
    let count = groups.len() as f64;
    let (mean_x, mean_y) = mean(&groups);
    let square = groups.iter().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>();
    let value = groups.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / square;
    let residue = groups.iter().map(|(x, y)| (y - mean_y - value * (x - mean_x)).powi(2)).sum::<f64>();
    let error = (residue / (count - 2.0) / square).sqrt();
    Some(Slope { value, uncertainty: student(groups.len() - 2) * error })
}

fn mean(samples: &[(f64, f64)]) -> (f64, f64) {
    let count = samples.len() as f64;
    (samples.iter().map(|(x, _)| x).sum::<f64>() / count, samples.iter().map(|(_, y)| y).sum::<f64>() / count)
}

/// Student's t for 95 %, two-sided, rounded up between the rows of the table.
fn student(freedom: usize) -> f64 {
    const TABLE: [(usize, f64); 9] =
        [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (6, 2.447), (10, 2.228), (15, 2.131), (20, 2.086), (30, 2.042)];
    TABLE.iter().rev().find(|(row, _)| *row <= freedom).map_or(f64::INFINITY, |(_, t)| *t)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sixty times the same pseudo-random noise between -1 and 1.
    fn noise(at: usize) -> f64 {
        ((at * 7_919) % 2_001) as f64 / 1_000.0 - 1.0
    }

    #[test]
    fn a_line_is_found_under_noise_and_noise_alone_is_not_growth() {
        let line = |slope: f64| (0..600).map(|at| (at as f64, 5.0 + slope * at as f64 + noise(at))).collect::<Vec<_>>();
        let found = slope(&line(0.25)).unwrap();
        assert!((found.value - 0.25).abs() <= found.uncertainty && found.uncertainty < 0.001 && found.grows(), "{found:?}");
        let flat = slope(&line(0.0)).unwrap();
        assert!(!flat.grows() && flat.value.abs() <= flat.uncertainty, "{flat:?}");
    }

    #[test]
    fn the_beginning_is_left_out() {
        let samples: Vec<(f64, f64)> = (0..100).map(|at| (f64::from(at), if at < 9 { f64::from(at) } else { 9.0 })).collect();
        assert_eq!(slope(&samples).map(|slope| slope.value), Some(0.0));
    }

    #[test]
    fn few_samples_say_nothing() {
        assert_eq!(slope(&[]), None);
        assert_eq!(slope(&[(0.0, 1.0), (1.0, 2.0)]), None);
    }
}
