//! What is told of a run: one list of figures, printed as a table and written as JSON.

mod curves;
mod sections;

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::args::LoadArgs;
use crate::load::Outcome;

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
    /// The generator itself was the limit, or may have been.
    pub generator_limited: bool,
    /// What is drawn, and what a search has tried.
    curves: Value,
    /// Viewers that got a picture.
    pub pictures: usize,
    pub probes: Vec<Value>,
}

impl Report {
    pub fn new(args: &LoadArgs, outcome: &Outcome) -> Report {
        let link = args.link.map(|link| {
            json!({
                "rate_bits": link.rate, "ping_ms": link.ping as f64 / 1e6, "jitter_ms": link.jitter as f64 / 1e6,
                "loss": link.loss, "reorder": link.reorder, "seed": link.seed,
            })
        });
        let settings = json!({
            "name": args.name, "link": link, "slow": args.slow, "slow_rate_bits": args.slow_rate.0, "churn": args.churn,
            "publish": args.publish.name(), "publishers": args.publishers, "play": args.play.name(), "viewers": args.viewers,
            "stalled": args.stalled, "gro": args.gro, "rate_bits": args.rate.0, "fps": args.fps, "gop_ms": args.gop_ms, "seconds": args.seconds,
        });
        let mut report = Report {
            settings,
            figures: Vec::new(),
            warnings: Vec::new(),
            generator_limited: false,
            curves: curves::of(outcome),
            pictures: outcome.joins.len(),
            probes: Vec::new(),
        };
        report.publishing(outcome);
        if args.viewers > 0 {
            report.delivery(outcome);
            report.packets(outcome);
            report.requests(outcome);
            report.latency("first_byte", &outcome.tally.first);
            report.latency("last_byte", &outcome.tally.last);
            report.joins("join", &outcome.joins);
            report.others(outcome);
        }
        report.server(args, outcome);
        report.trends(outcome);
        report.generator(args, outcome);
        report.warn(args, outcome);
        report
    }

    pub fn add(&mut self, key: impl Into<String>, value: f64, unit: &'static str) {
        self.figures.push(Figure { key: key.into(), value, unit });
    }

    pub fn value(&self, key: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.key == key).map(|figure| figure.value)
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
        json!({
            "settings": self.settings, "order": order, "figures": figures, "units": units, "warnings": self.warnings,
            "generator_limited": self.generator_limited, "curves": self.curves, "probes": self.probes,
        })
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

#[cfg(test)]
mod tests;
