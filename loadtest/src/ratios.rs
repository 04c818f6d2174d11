//! Runs of several rounds → a table of ratios between runs of the same round, in Markdown, with what each must be.
//!
//! A round is a folder; runs of a round were made close to each other in time, so their ratio says more than their figures.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::Value;

use crate::args::RatiosArgs;
use crate::compare::median;
use crate::report::number;

/// One row of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    label: String,
    figure: String,
    run: String,
    base: Option<String>,
    bound: Option<Bound>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    Most(f64),
    Least(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Bound::Most(bound) => value <= bound,
            Bound::Least(bound) => value >= bound,
        }
    }
}

impl FromStr for Row {
    type Err = String;

    fn from_str(text: &str) -> Result<Row, String> {
        let parts: Vec<&str> = text.split('|').collect();
        let [label, figure, run, base, bound] = parts[..] else { return Err("LABEL|FIGURE|RUN|BASE|BOUND".to_owned()) };
        let value = |text: &str| text.parse().map_err(|_| format!("{text}: a number"));
        let bound = match (bound.strip_prefix("<="), bound.strip_prefix(">=")) {
            (Some(most), _) => Some(Bound::Most(value(most)?)),
            (_, Some(least)) => Some(Bound::Least(value(least)?)),
            _ if bound.is_empty() => None,
            _ => return Err(format!("{bound}: begins with <= or >=")),
        };
        let base = (!base.is_empty()).then(|| base.to_owned());
        Ok(Row { label: label.to_owned(), figure: figure.to_owned(), run: run.to_owned(), base, bound })
    }
}

pub fn table(args: &RatiosArgs) -> io::Result<String> {
    let mut rounds: Vec<PathBuf> = fs::read_dir(&args.folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    rounds.retain(|path| path.is_dir());
    rounds.sort();
    let mut text =
        "| | figure | of the other | ratio: median (least to most; rounds) | must be | |\n|---|---|---|---|---|---|\n".to_owned();
    for row in &args.rows {
        let pairs: Vec<(f64, f64)> = rounds.iter().filter_map(|round| pair(round, row)).collect();
        line(row, &pairs, &mut text);
    }
    Ok(text)
}

/// The two figures of a round, if it has them.
fn pair(round: &Path, row: &Row) -> Option<(f64, f64)> {
    let read = |run: &str| -> Option<f64> {
        let run: Value = serde_json::from_slice(&fs::read(round.join(format!("{run}.json"))).ok()?).ok()?;
        run["figures"][&row.figure].as_f64()
    };
    let base = row.base.as_ref().map_or(Some(1.0), |base| read(base))?;
    Some((read(&row.run)?, base))
}

fn line(row: &Row, pairs: &[(f64, f64)], text: &mut String) {
    let mut ratios: Vec<f64> = pairs.iter().map(|(figure, base)| figure / base).collect();
    ratios.sort_by(f64::total_cmp);
    let (must, verdict) = match row.bound {
        Some(bound) => {
            let (sign, value) = match bound {
                Bound::Most(value) => ("≤", value),
                Bound::Least(value) => ("≥", value),
            };
            let verdict = median(&ratios).map_or("not measured", |ratio| if bound.holds(ratio) { "met" } else { "**missed**" });
            (format!("{sign} {value}"), verdict)
        }
        None => (String::new(), ""),
    };
    let middle = |values: Vec<f64>| median(&values).map_or("-".to_owned(), number);
    let figure = middle(pairs.iter().map(|(figure, _)| *figure).collect());
    let base = if row.base.is_some() { middle(pairs.iter().map(|(_, base)| *base).collect()) } else { String::new() };
    let ratio = match (median(&ratios), &ratios[..]) {
        (Some(ratio), [least, .., most]) => format!("{ratio:.2} ({least:.2} to {most:.2}; {})", ratios.len()),
        (Some(ratio), _) => format!("{ratio:.2}"),
        (None, _) => "-".to_owned(),
    };
    let _ = writeln!(text, "| {} | {figure} | {base} | {ratio} | {must} | {verdict} |", row.label);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_written_with_bars() {
        let row: Row = "RTMP|server_cpu_per_gbit|ours|nginx|<=0.95".parse().unwrap();
        assert_eq!((row.base.as_deref(), row.bound), (Some("nginx"), Some(Bound::Most(0.95))));
        assert_eq!("a|b|c||".parse::<Row>().unwrap().bound, None);
        for text in ["a|b|c|d", "a|b|c|d|0.95", "a|b|c|d|<=x"] {
            assert!(text.parse::<Row>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_line_says_median_spread_and_verdict() {
        let text = |row: &str, pairs: &[(f64, f64)]| {
            let mut text = String::new();
            line(&row.parse().unwrap(), pairs, &mut text);
            text
        };
        let pairs = [(2.0, 4.0), (3.0, 5.0), (1.0, 1.0)];
        assert_eq!(text("a|f|x|y|<=0.6", &pairs), "| a | 2 | 4 | 0.60 (0.50 to 1.00; 3) | ≤ 0.6 | met |\n");
        assert_eq!(text("a|f|x|y|>=3", &pairs), "| a | 2 | 4 | 0.60 (0.50 to 1.00; 3) | ≥ 3 | **missed** |\n");
        assert_eq!(text("a|f|x||", &[(0.25, 1.0)]), "| a | 0.250 |  | 0.25 |  |  |\n");
        assert_eq!(text("a|f|x|y|<=1", &[]), "| a | - | - | - | ≤ 1 | not measured |\n");
    }

    #[test]
    fn rounds_are_folders() {
        let folder = std::env::temp_dir().join(format!("shardcast-ratios-{}", std::process::id()));
        for (round, ours) in [("1", 2.0), ("2", 3.0)] {
            fs::create_dir_all(folder.join(round)).unwrap();
            for (name, value) in [("ours", ours), ("base", 4.0)] {
                fs::write(folder.join(round).join(format!("{name}.json")), format!("{{\"figures\":{{\"f\":{value}}}}}")).unwrap();
            }
        }
        let args = RatiosArgs { folder: folder.clone(), rows: vec!["a|f|ours|base|".parse().unwrap()] };
        assert!(table(&args).unwrap().ends_with("| a | 2.500 | 4 | 0.62 (0.50 to 0.75; 2) |  |  |\n"));
        fs::remove_dir_all(folder).unwrap();
    }
}
