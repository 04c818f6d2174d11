//! What each case costs in instructions, allocations and bytes copied, compared with the baseline in `benches/instructions.txt`. These repeat on
//! a busy machine, so CI can tell a change of a few percent, which it cannot in time.
//!
//! `scripts/instructions.sh [--accept] [FILTER]`. The program runs itself under callgrind, which collects between entry and exit of one function
//! and writes a dump at each exit: one dump per case. Setting up is not counted. Not here: time (`time`).

mod baseline;
mod callgrind;
#[path = "../cases/mod.rs"]
mod cases;
mod memory;

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use baseline::{Baseline, Cost, Row, Verdict};

/// Calls that are made before, so that buffers have found their sizes, and calls that are counted.
const CALLS_BEFORE: usize = 2;
const CALLS_COUNTED: usize = cases::CALLS_PREPARED - CALLS_BEFORE;
/// Names the mode in which the program counts, then the file for what callgrind does not see.
const COUNT: &str = "--count";
const ACCEPT: &str = "--accept";
/// Given by cargo.
const BENCH: &str = "--bench";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != BENCH).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [COUNT, file] => count(Path::new(file), ""),
        [COUNT, file, filter] => count(Path::new(file), filter),
        [] => judge(""),
        [ACCEPT] => accept(),
        [filter] if !filter.starts_with('-') => judge(filter),
        _ => Err("usage: scripts/instructions.sh [--accept | FILTER]".into()),
    };
    result.unwrap_or_else(|error| {
        eprintln!("instructions: {error}");
        ExitCode::FAILURE
    })
}

/// What callgrind counts: from entry to exit.
#[inline(never)]
#[unsafe(no_mangle)]
fn shardcast_counted(call: &mut dyn FnMut()) {
    (0..CALLS_COUNTED).for_each(|_| call());
}

/// Runs the cases, and writes what callgrind does not see: a line for each, with name, units, allocations, bytes.
fn count(file: &Path, filter: &str) -> Result<ExitCode, Box<dyn Error>> {
    let mut lines = String::new();
    for case in cases::all().iter().filter(|case| case.name.contains(filter)) {
        let mut work = (case.set_up)();
        (0..CALLS_BEFORE).for_each(|_| (work.call)());
        let before = memory::counts();
        shardcast_counted(&mut work.call);
        let after = memory::counts();
        let units = work.units * CALLS_COUNTED as f64;
        writeln!(lines, "{} {units} {} {}", case.name, after.allocations - before.allocations, after.bytes - before.bytes)?;
    }
    fs::write(file, lines)?;
    Ok(ExitCode::SUCCESS)
}

/// The cost of each case, in their order.
fn measure(filter: &str) -> Result<Vec<Row>, Box<dyn Error>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/instructions-counted");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let program = env::current_exe()?;
    let (dumps, sizes) = (folder.join("dump"), folder.join("sizes"));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--compress-strings=no", "--compress-pos=no"])
        .args(["--toggle-collect=shardcast_counted", "--dump-after=shardcast_counted"])
        .arg(format!("--callgrind-out-file={}", dumps.display()))
        .arg(&program)
        .args([COUNT.as_ref(), sizes.as_os_str(), filter.as_ref()])
        .output()
        .map_err(|error| format!("valgrind cannot be started: {error}"))?;
    if !output.status.success() {
        return Err(format!("the run under valgrind failed:\n{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let mut units = cases::all().into_iter().filter(|case| case.name.contains(filter)).map(|case| case.unit);
    let mut rows = Vec::new();
    for (at, line) in fs::read_to_string(sizes)?.lines().enumerate() {
        let [name, count, allocations, bytes] = line.split(' ').collect::<Vec<_>>()[..] else {
            return Err(format!("{line:?} is no line of sizes").into());
        };
        let dump = fs::read_to_string(format!("{}.{}", dumps.display(), at + 1))?;
        let instructions = callgrind::instructions(&dump, &program.to_string_lossy(), memory::UNCOUNTED);
        let count: f64 = count.parse()?;
        let per_unit = |total: f64| total / count;
        let cost = Cost {
            instructions: per_unit(instructions as f64),
            allocations: per_unit(allocations.parse()?),
            bytes: per_unit(bytes.parse()?),
        };
        rows.push(Row { name: name.to_owned(), cost, unit: units.next().unwrap_or_default().to_owned() });
    }
    Ok(rows)
}

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt")
}

fn accept() -> Result<ExitCode, Box<dyn Error>> {
    let baseline = Baseline { machine: machine()?, rows: measure("")? };
    fs::write(file(), baseline.to_string())?;
    println!("{baseline}\n{} cases accepted into {}", baseline.rows.len(), file().display());
    Ok(ExitCode::SUCCESS)
}

/// Shows the costs beside the baseline, and fails if one has grown.
fn judge(filter: &str) -> Result<ExitCode, Box<dyn Error>> {
    let text =
        fs::read_to_string(file()).map_err(|error| format!("no baseline ({error}): run scripts/instructions.sh --accept"))?;
    let mut baseline = Baseline::parse(&text)?;
    baseline.rows.retain(|row| row.name.contains(filter));
    let now = Baseline { machine: machine()?, rows: measure(filter)? };
    let comparison = baseline::compare(&baseline, &now);
    print!("{comparison}");
    let failed = matches!(comparison.verdict(), Verdict::Worse);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What instruction counts depend on besides the source: the compiler, and what the processor offers to code that asks at run time.
fn machine() -> Result<String, Box<dyn Error>> {
    let output = Command::new("rustc").arg("--version").output()?;
    let version = String::from_utf8(output.stdout)?;
    let version = version.split(' ').nth(1).unwrap_or("unknown");
    Ok(format!("rustc {version}, {}, {}", env::consts::ARCH, memory::features()))
}
