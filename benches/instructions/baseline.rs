//! The accepted costs of all cases as a text file, and what has become of them.
//!
//! A file is lines: comments with `#`; `machine` and what the counts depend on; else name, instructions, allocations and bytes per unit, and
//! what a unit is.

use std::fmt;

/// A cost may grow by this share.
const TOLERANCE: f64 = 0.05;
/// Costs are written with two digits behind the point: a smaller difference is none.
const ROUNDING: f64 = 0.01;

/// Per unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Of the program itself: not of the C library, and not those that copy.
    pub instructions: f64,
    pub allocations: f64,
    /// Copied or filled.
    pub bytes: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub name: String,
    pub cost: Cost,
    pub unit: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// The compiler and what of the processor matters: instructions of others cannot be compared.
    pub machine: String,
    pub rows: Vec<Row>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaselineError {
    #[error("line {0} of the baseline is none")]
    Line(usize),
    #[error("the baseline does not say for which machine it is")]
    NoMachine,
}

impl Baseline {
    pub fn parse(text: &str) -> Result<Baseline, BaselineError> {
        let (mut machine, mut rows) = (None, Vec::new());
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            match line.strip_prefix("machine ") {
                Some(name) => machine = Some(name.trim().to_owned()),
                None => rows.push(row(line).ok_or(BaselineError::Line(at + 1))?),
            }
        }
        Ok(Baseline { machine: machine.ok_or(BaselineError::NoMachine)?, rows })
    }

    fn get(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }
}

fn row(line: &str) -> Option<Row> {
    let mut fields = line.split_whitespace();
    let name = fields.next()?.to_owned();
    let mut number = || fields.next()?.parse().ok();
    let cost = Cost { instructions: number()?, allocations: number()?, bytes: number()? };
    let unit: Vec<&str> = fields.collect();
    (!unit.is_empty()).then(|| Row { name, cost, unit: unit.join(" ") })
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# What each case in benches/cases costs per unit. Written by scripts/instructions.sh --accept; see CONTRIBUTING.md."
        )?;
        writeln!(f, "machine {}\n", self.machine)?;
        writeln!(f, "# {:30} {:>12} {:>12} {:>12} per", "case", "instructions", "allocations", "bytes copied")?;
        for Row { name, cost, unit } in &self.rows {
            let Cost { instructions, allocations, bytes } = cost;
            writeln!(f, "{name:32} {instructions:12.2} {allocations:12.2} {bytes:12.2} {unit}")?;
        }
        Ok(())
    }
}

/// What has become of a case.
#[derive(Clone, Debug, PartialEq)]
enum Change {
    /// It is not in the baseline.
    New(Cost),
    /// It is not measured any more.
    Missing,
    Compared {
        before: Cost,
        now: Cost,
        /// Costs that are too high, by name.
        worse: Vec<&'static str>,
        better: Vec<&'static str>,
    },
}

/// All that is to be said about a measurement.
#[derive(Debug)]
pub struct Comparison {
    changes: Vec<(String, Change)>,
    /// The machine of the baseline and this one, if they differ: then instructions and bytes are shown and not judged.
    machines: Option<[String; 2]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Well,
    /// The baseline can be tightened.
    Better,
    Worse,
}

pub fn compare(baseline: &Baseline, now: &Baseline) -> Comparison {
    let is_comparable = baseline.machine == now.machine;
    let measured = now.rows.iter().map(|row| {
        let change = match baseline.get(&row.name) {
            Some(before) => compared(before.cost, row.cost, is_comparable),
            None => Change::New(row.cost),
        };
        (row.name.clone(), change)
    });
    let missing = baseline.rows.iter().filter(|row| now.get(&row.name).is_none()).map(|row| (row.name.clone(), Change::Missing));
    let machines = (!is_comparable).then(|| [baseline.machine.clone(), now.machine.clone()]);
    Comparison { changes: measured.chain(missing).collect(), machines }
}

fn compared(before: Cost, now: Cost, is_comparable: bool) -> Change {
    let costs = [
        ("instructions", before.instructions, now.instructions),
        ("bytes", before.bytes, now.bytes),
        ("allocations", before.allocations, now.allocations),
    ];
    // Another compiler allocates as often; how it copies and what it inlines is its own.
    let judged = if is_comparable { &costs[..] } else { &costs[2..] };
    let is_more = |a: f64, b: f64| a > b * (1.0 + TOLERANCE) && a - b > ROUNDING;
    let names = |is: &dyn Fn(f64, f64) -> bool| {
        judged.iter().filter(|(_, before, now)| is(*before, *now)).map(|(name, ..)| *name).collect::<Vec<_>>()
    };
    let (worse, better) = (names(&|before, now| is_more(now, before)), names(&is_more));
    Change::Compared { before, now, worse, better }
}

impl Comparison {
    pub fn verdict(&self) -> Verdict {
        let is_worse = |change: &Change| match change {
            Change::New(_) | Change::Missing => true,
            Change::Compared { worse, .. } => !worse.is_empty(),
        };
        let is_better = |change: &Change| matches!(change, Change::Compared { better, .. } if !better.is_empty());
        if self.changes.iter().any(|(_, change)| is_worse(change)) {
            Verdict::Worse
        } else if self.changes.iter().any(|(_, change)| is_better(change)) {
            Verdict::Better
        } else {
            Verdict::Well
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:32} {:>12} {:>12} {:>6}  {:>15} {:>21}",
            "per unit", "baseline", "instructions", "ratio", "allocations", "bytes copied"
        )?;
        for (name, change) in &self.changes {
            writeln!(f, "{name:32} {change}")?;
        }
        if let Some([baseline, now]) = &self.machines {
            writeln!(
                f,
                "\nThe baseline is for {baseline}; this is {now}. Instructions and bytes are not judged, only allocations."
            )?;
        }
        match self.verdict() {
            Verdict::Well => writeln!(f, "\nNothing has grown by more than {} %.", TOLERANCE * 100.0),
            Verdict::Better => writeln!(
                f,
                "\nNothing has grown by more than {0} %. Some cases have become better by more than {0} %: scripts/instructions.sh --accept keeps that.",
                TOLERANCE * 100.0
            ),
            Verdict::Worse => writeln!(
                f,
                "\nCases cost over {} % more than accepted, or are new or gone. If that is meant: scripts/instructions.sh --accept, and say why in the commit.",
                TOLERANCE * 100.0
            ),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::New(now) => {
                write!(
                    f,
                    "{:>12} {:12.2} {:>6}  {:>15.2} {:>21.2}  NOT IN THE BASELINE",
                    "", now.instructions, "", now.allocations, now.bytes
                )
            }
            Change::Missing => write!(f, "IN THE BASELINE ONLY"),
            Change::Compared { before, now, worse, better } => {
                let ratio = if before.instructions > 0.0 { now.instructions / before.instructions } else { 1.0 };
                let pair = |before: f64, now: f64| {
                    if (now - before).abs() <= ROUNDING { format!("{now:.2}") } else { format!("{before:.2} > {now:.2}") }
                };
                let allocations = pair(before.allocations, now.allocations);
                let bytes = pair(before.bytes, now.bytes);
                write!(f, "{:12.2} {:12.2} {ratio:6.3}  {allocations:>15} {bytes:>21}", before.instructions, now.instructions)?;
                if !worse.is_empty() {
                    write!(f, "  WORSE: {}", worse.join(", "))?;
                }
                if !better.is_empty() {
                    write!(f, "  better: {}", better.join(", "))?;
                }
                Ok(())
            }
        }
    }
}
