//! How many viewers a server holds within the objective: tries one number of viewers after the other, in one run.
//!
//! Viewers that are there stay; others join gradually, and those that are too many leave, so that it is the load that fails, not the rush.

mod search;

use std::io;

use serde_json::json;

use self::search::{Probe, Search};
use crate::args::DensityArgs;
use crate::load::Load;
use crate::report::Report;

/// The report of the longest run with as many viewers as were found; its figure `density` says how many.
pub fn run(args: &DensityArgs) -> io::Result<Report> {
    let mut load = Load::open(&args.load)?;
    load.join_others()?;
    let mut search = Search::new(args.from, args.most, args.resolution / 100.0);
    let (mut probes, mut limited, mut held) = (Vec::new(), false, None);
    while let Some(Probe { viewers, confirms }) = search.next() {
        let seconds = if confirms { args.load.seconds } else { args.probe_seconds };
        load.resize(viewers)?;
        let mut with = args.load.clone();
        (with.viewers, with.seconds) = (viewers, seconds);
        let report = Report::new(&with, &load.measure(seconds)?);
        let (passes, value) = (passes(&report, viewers, args.share), |key| report.value(key).unwrap_or(0.0));
        let (share, lost, p9999) = (value("within_100_ms"), value("lost"), value("last_byte_p99_99"));
        let verdict = if passes { "holds" } else { "fails" };
        println!("{viewers} viewers, {seconds} s: {verdict}; {share:.4} % in time, {lost} lost, p99.99 {p9999:.1} ms");
        report.warnings.iter().for_each(|warning| println!("  {warning}"));
        probes.push(json!({
            "viewers": viewers, "seconds": seconds, "holds": passes, "within_100_ms": share, "lost": lost, "last_byte_p99_99": p9999,
            "generator_limited": report.generator_limited, "server_cpu_share": report.value("server_cpu_share"),
            "server_cpu_per_gbit": report.value("server_cpu_per_gbit"),
            "server_rss_per_viewer": report.value("server_rss_per_viewer"),
        }));
        limited |= !passes && report.generator_limited;
        search.take(passes);
        if passes && confirms {
            held = Some(report);
        }
    }
    let mut report = held.ok_or_else(|| io::Error::other("the server holds no viewers within the objective"))?;
    report.add("density", search.found() as f64, "viewers");
    report.probes = probes;
    if limited {
        report.generator_limited = true;
        report.warnings.push("the generator was the limit where more viewers failed: the server may hold more".to_owned());
    } else if search.found() >= args.most {
        report.warnings.push("the search went no further: the server may hold more".to_owned());
    }
    Ok(report)
}

fn passes(report: &Report, viewers: usize, share: f64) -> bool {
    let value = |key| report.value(key).unwrap_or(f64::NAN);
    value("within_100_ms") > share && value("lost") == 0.0 && value("closed") == 0.0 && report.pictures == viewers
}
