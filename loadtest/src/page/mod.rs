//! Reports of runs → one page that stands by itself: their plots and their tables. No script, nothing from elsewhere.

mod plot;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::PathBuf;

use serde_json::Value;

use self::plot::{Axis, Plot, Series};
use crate::report::number;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em;color:#223}\
    table{border-collapse:collapse;font-variant-numeric:tabular-nums}td,th{padding:.15em .8em;border-bottom:1px solid #dde;text-align:right}\
    td:first-child,th:first-child{text-align:left}.plots{display:flex;flex-wrap:wrap;gap:1.5em}figure{margin:0}\
    figcaption{font-weight:600}svg text{font:12px system-ui,sans-serif;fill:#445}.warning{color:#a40}div.wide{overflow-x:auto}";
/// With more runs than this a plot over time leaves the others out, and with more than that one of the tail the first bytes.
const TIMELINES_MAX: usize = 8;
const FIRST_BYTES_MAX: usize = 4;

pub fn of_files(files: &[PathBuf]) -> io::Result<String> {
    let read = |file: &PathBuf| -> io::Result<Value> {
        let run: serde_json::Result<Value> = serde_json::from_slice(&fs::read(file)?);
        run.map_err(|error| io::Error::other(format!("{}: {error}", file.display())))
    };
    Ok(page(&files.iter().map(read).collect::<io::Result<Vec<Value>>>()?))
}

pub fn page(runs: &[Value]) -> String {
    let names: Vec<String> = (0..runs.len()).map(|at| name(runs, at)).collect();
    let plots = [tail(runs, &names), over_time(runs, &names)].into_iter().chain(
        [
            ("CPU per delivered Gbit by viewers", "server_cpu_per_gbit", "s"),
            ("Memory per viewer", "server_rss_per_viewer", "bytes"),
        ]
        .map(|(title, figure, unit)| by_viewers(runs, title, figure, unit)),
    );
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Load and latency</title><style>{STYLE}</style>\n<h1>Load and latency</h1>\n<div class=\"plots\">\n"
    );
    plots.filter(|plot| !plot.is_empty()).for_each(|plot| html.push_str(&plot.svg()));
    html.push_str("</div>\n<h2>Figures</h2>\n<div class=\"wide\"><table>\n");
    table(runs, &names, &mut html);
    html.push_str("</table></div>\n");
    for (run, name) in runs.iter().zip(&names) {
        for warning in run["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let _ = writeln!(html, "<p class=\"warning\">{}: {}</p>", escape(name), escape(warning));
        }
    }
    html.push_str("</html>\n");
    html
}

/// What a run is called: as it was told, else by how it was played; with a number where another has that name.
fn name(runs: &[Value], at: usize) -> String {
    let base = |run: &Value| {
        let settings = &run["settings"];
        settings["name"].as_str().or(settings["play"].as_str()).unwrap_or("run").to_owned()
    };
    let name = base(&runs[at]);
    let same = |runs: &[Value]| runs.iter().filter(|run| base(run) == name).count();
    if same(runs) > 1 { format!("{name} {}", same(&runs[..=at])) } else { name }
}

fn points<const N: usize>(value: &Value) -> Vec<[f64; N]> {
    let point = |value: &Value| -> Option<[f64; N]> {
        let numbers: Vec<f64> = value.as_array()?.iter().filter_map(Value::as_f64).collect();
        numbers.try_into().ok()
    };
    value.as_array().into_iter().flatten().filter_map(point).collect()
}

/// Which latency is not exceeded by 90 %, 99 %, 99.9 % … of the frames.
fn tail(runs: &[Value], names: &[String]) -> Plot {
    let all = runs.iter().zip(names).flat_map(|(run, name)| {
        let line = |curve: &str, label: &str, dashed| Series {
            name: format!("{name}, {label}"),
            points: points(&run["curves"][curve]).into_iter().map(|[nines, millis]| (millis, nines)).collect(),
            dashed,
            dots: false,
        };
        let first = (runs.len() <= FIRST_BYTES_MAX).then(|| line("first_byte", "first byte", true));
        [line("last_byte", "last byte", false)].into_iter().chain(first)
    });
    Plot {
        title: "Latency: share of the frames that came in time".to_owned(),
        x: Axis { label: "ms", logarithmic: true, step: None, name: |value| number(value) },
        y: Axis { label: "", logarithmic: false, step: Some(1.0), name: share },
        series: all.collect(),
    }
}

/// 0, 90 %, 99 %, 99.9 % …
fn share(nines: f64) -> String {
    match nines.round() as usize {
        0 => "0".to_owned(),
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        more => format!("99.{} %", "9".repeat(more - 2)),
    }
}

fn over_time(runs: &[Value], names: &[String]) -> Plot {
    let all = runs.iter().zip(names).take(TIMELINES_MAX).flat_map(|(run, name)| {
        let points: Vec<[f64; 4]> = points(&run["curves"]["timeline"]);
        let line = |label: &str, at: usize, dashed| Series {
            name: format!("{name}, {label}"),
            points: points.iter().map(|point| (point[0], point[at])).collect(),
            dashed,
            dots: false,
        };
        [line("p99", 2, false), line("max", 3, true)]
    });
    Plot {
        title: "Latency of the last byte over time".to_owned(),
        x: Axis { label: "s", logarithmic: false, step: None, name: |value| number(value) },
        y: Axis { label: "ms", logarithmic: true, step: None, name: |value| number(value) },
        series: all.collect(),
    }
}

/// One line per name, one point per run and per probe of a search.
fn by_viewers(runs: &[Value], title: &str, figure: &str, unit: &'static str) -> Plot {
    let mut series: Vec<Series> = Vec::new();
    for run in runs {
        let settings = &run["settings"];
        let name = settings["name"].as_str().or(settings["play"].as_str()).unwrap_or("run");
        let at = series.iter().position(|series| series.name == name).unwrap_or_else(|| {
            series.push(Series { name: name.to_owned(), points: Vec::new(), dashed: false, dots: true });
            series.len() - 1
        });
        let probes = run["probes"].as_array().into_iter().flatten().map(|probe| (&probe["viewers"], &probe[figure]));
        for (viewers, value) in [(&settings["viewers"], &run["figures"][figure])].into_iter().chain(probes) {
            series[at].points.extend(viewers.as_f64().zip(value.as_f64()));
        }
    }
    series.iter_mut().for_each(|series| series.points.sort_by(|one, other| one.0.total_cmp(&other.0)));
    Plot {
        title: title.to_owned(),
        x: Axis { label: "viewers", logarithmic: false, step: None, name: |value| number(value) },
        y: Axis { label: unit, logarithmic: false, step: None, name: |value| number(value) },
        series,
    }
}

fn table(runs: &[Value], names: &[String], html: &mut String) {
    html.push_str("<tr><th></th>");
    names.iter().for_each(|name| {
        let _ = write!(html, "<th>{}</th>", escape(name));
    });
    html.push_str("<th></th></tr>\n");
    let mut keys: Vec<&str> = Vec::new();
    for key in runs.iter().flat_map(|run| run["order"].as_array().into_iter().flatten()).filter_map(Value::as_str) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    for key in keys {
        let _ = write!(html, "<tr><td>{}</td>", escape(key));
        for run in runs {
            let _ = write!(html, "<td>{}</td>", run["figures"][key].as_f64().map(number).unwrap_or_default());
        }
        let unit = runs.iter().find_map(|run| run["units"][key].as_str()).unwrap_or_default();
        let _ = writeln!(html, "<td>{}</td></tr>", escape(unit));
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(name: &str, viewers: u64) -> Value {
        json!({
            "settings": { "name": name, "play": "rtmp", "viewers": viewers },
            "order": ["delivered", "server_cpu_per_gbit"],
            "figures": { "delivered": 10.0, "server_cpu_per_gbit": 0.25, "server_rss_per_viewer": 4096.0 },
            "units": { "delivered": "frames" },
            "warnings": ["a < b"],
            "curves": {
                "last_byte": [[0.0, 0.5], [1.0, 1.0], [2.0, 4.0]], "first_byte": [[0.0, 0.4], [1.0, 0.9], [2.0, 3.0]],
                "timeline": [[0.0, 0.5, 1.0, 2.0], [1.0, 0.5, 1.5, 4.0]],
            },
        })
    }

    #[test]
    fn a_page_has_its_plots_and_needs_nothing_from_elsewhere() {
        let html = page(&[run("ours", 100), run("ours", 300), run("<peer>", 300)]);
        assert_eq!(html.matches("<svg").count(), 4);
        for text in ["ours 1", "ours 2", "&lt;peer&gt;", "99 %", "a &lt; b", "0.250"] {
            assert!(html.contains(text), "{text}");
        }
        for text in ["<script", "http://", "https://", "NaN", "inf", "<peer>"] {
            assert!(!html.contains(text), "{text}");
        }
    }

    #[test]
    fn runs_without_viewers_or_curves_leave_plots_out() {
        let html = page(&[json!({ "settings": { "publish": "rtmp" }, "figures": {} })]);
        assert_eq!(html.matches("<svg").count(), 0);
    }
}
