//! Two groups of runs side by side: medians and their ratios.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::PathBuf;

use serde_json::Value;

use crate::report::number;

/// The table for the terminal. Figures that a run lacks are left out.
pub fn compare(names: &[String], left: &[PathBuf], right: &[PathBuf]) -> io::Result<String> {
    let (left, right) = (read(left)?, read(right)?);
    let [left_name, right_name] = names else { return Err(io::Error::other("two names are needed")) };
    let first = &left[0];
    let mut text = format!("{} (medians of {} and {} runs)\n", first["settings"], left.len(), right.len());
    let _ = writeln!(text, "{:<28} {left_name:>12} {right_name:>12} {:>7}  unit", "", "ratio");
    for key in first["order"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let (Some(a), Some(b)) = (median_of(&left, key), median_of(&right, key)) else { continue };
        let ratio = if b == 0.0 { "-".to_owned() } else { format!("{:.3}", a / b) };
        let unit = first["units"][key].as_str().unwrap_or_default();
        let _ = writeln!(text, "{key:<28} {:>12} {:>12} {ratio:>7}  {unit}", number(a), number(b));
    }
    for (name, runs) in [(left_name, &left), (right_name, &right)] {
        for warning in runs.iter().flat_map(|run| run["warnings"].as_array().into_iter().flatten()) {
            let _ = writeln!(text, "WARNING ({name}): {}", warning.as_str().unwrap_or_default());
        }
    }
    Ok(text)
}

fn read(files: &[PathBuf]) -> io::Result<Vec<Value>> {
    let read = |file: &PathBuf| -> io::Result<Value> {
        let fail = |error: &dyn std::fmt::Display| io::Error::other(format!("{}: {error}", file.display()));
        serde_json::from_slice(&fs::read(file).map_err(|error| fail(&error))?).map_err(|error| fail(&error))
    };
    files.iter().map(read).collect()
}

fn median_of(runs: &[Value], key: &str) -> Option<f64> {
    let values: Vec<f64> = runs.iter().filter_map(|run| run["figures"][key].as_f64()).collect();
    median(&values)
}

pub fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn medians_of_odd_and_even_counts() {
        let runs = |values: &[f64]| values.iter().map(|value| json!({ "figures": { "a": value } })).collect::<Vec<_>>();
        assert_eq!(median_of(&runs(&[3.0, 1.0, 2.0]), "a"), Some(2.0));
        assert_eq!(median_of(&runs(&[4.0, 1.0, 2.0, 3.0]), "a"), Some(2.5));
        assert_eq!(median_of(&runs(&[1.0]), "b"), None);
    }
}
