//! The load generator: publishes, plays, measures, reports. It speaks standard protocols only, so it measures any server.
//!
//! Exit codes: 0 after a run, 1 when it could not be done.

mod args;
mod clip;
mod compare;
mod density;
mod gb28181;
mod load;
mod mark;
mod page;
mod poll;
mod process;
mod publisher;
mod ratios;
mod relay;
mod report;
mod rtmp;
mod rtsp;
mod scan;
mod schedule;
#[path = "../../tests/e2e/harness/standstill.rs"]
mod standstill;
mod syscalls;
mod tally;
mod timeline;
mod trend;
mod units;
mod viewer;

use std::io;
use std::process::ExitCode;

use clap::Parser;

use args::{Action, Args, LoadArgs};
use report::Report;

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.action {
        Some(Action::Compare { names, left, right }) => compare::compare(names, left, right).map(|text| print!("{text}")),
        Some(Action::Ratios(args)) => ratios::table(args).map(|text| print!("{text}")),
        Some(Action::Page { out, runs }) => page::of_files(runs).and_then(|page| std::fs::write(out, page)),
        Some(Action::Density(args)) => {
            shardcast::io::socket::raise_file_limit();
            density::run(args).and_then(|report| tell(&args.load, &report))
        }
        Some(Action::Gb28181Device(args)) => {
            shardcast::io::socket::raise_file_limit();
            gb28181::run(args)
        }
        None => {
            shardcast::io::socket::raise_file_limit();
            load::run(&args.load).and_then(|outcome| tell(&args.load, &Report::new(&args.load, &outcome)))
        }
    };
    if let Err(error) = done {
        eprintln!("shardcast-loadtest: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn tell(args: &LoadArgs, report: &Report) -> io::Result<()> {
    print!("{}", report.table());
    let json = report.json();
    if let Some(file) = &args.json {
        std::fs::write(file, format!("{json:#}\n"))?;
    }
    match &args.html {
        Some(file) => std::fs::write(file, page::page(&[json])),
        None => Ok(()),
    }
}
