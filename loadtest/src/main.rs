//! The load generator: publishes, plays, measures, reports. It speaks standard protocols only, so it measures any server.
//!
//! Exit codes: 0 after a run, 1 when it could not be done.

mod args;
mod clip;
mod compare;
mod gb28181;
mod load;
mod mark;
mod poll;
mod process;
mod publisher;
mod report;
mod rtmp;
mod rtsp;
mod scan;
mod schedule;
#[path = "../../tests/e2e/harness/standstill.rs"]
mod standstill;
mod tally;
mod viewer;

use std::io;
use std::process::ExitCode;

use clap::Parser;

use args::{Action, Args, LoadArgs};

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.action {
        Some(Action::Compare { names, left, right }) => compare::compare(names, left, right).map(|text| print!("{text}")),
        Some(Action::Gb28181Device(args)) => {
            shardcast::io::socket::raise_file_limit();
            gb28181::run(args)
        }
        None => measure(&args.load),
    };
    if let Err(error) = done {
        eprintln!("shardcast-loadtest: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn measure(args: &LoadArgs) -> io::Result<()> {
    shardcast::io::socket::raise_file_limit();
    let outcome = load::run(args)?;
    let report = report::Report::new(args, &outcome);
    print!("{}", report.table());
    if let Some(file) = &args.json {
        std::fs::write(file, format!("{:#}\n", report.json()))?;
    }
    Ok(())
}
