//! The `shardcast` program: reads the configuration, starts the shards and the control plane, and waits for the end.
//!
//! Exit codes: 0 after a drain, 1 when it could not start, a shard died or a second signal cut the drain short, 2 for a command line
//! that makes no sense. Everything that serves is in the library; what is printed for a person is in `cli.rs`.

mod cli;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use shardcast::{config, control, shard};

use cli::{Action, Args};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What remains to be done when the drain time is over: noticing that the last shard has ended.
const DRAIN_SLACK: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let args = Args::read();
    let done = match &args.action {
        Some(Action::Check { file }) => cli::check(file, &args.set),
        Some(Action::Demo) => serve(&args, true),
        None => serve(&args, false),
    };
    done.unwrap_or_else(|error| {
        cli::complain(&args, error.as_ref());
        ExitCode::FAILURE
    })
}

/// What the main thread waits for.
enum Notice {
    /// A signal has reached the shards.
    Draining,
    /// All shards have ended; `false`: one of them died.
    Ended(bool),
}

fn serve(args: &Args, demo: bool) -> Result<ExitCode, Box<dyn Error>> {
    let config = Arc::new(config::load(args.config.as_deref(), &args.set)?);
    cli::start_log();
    log::info!("shardcast {}", env!("CARGO_PKG_VERSION"));
    log::info!("{}", config.budget());
    config.warnings().iter().for_each(|warning| log::warn!("{warning}"));
    // Before the shards: their listeners share ports, so only this one notices another shardcast on the same configuration.
    let control = control::bind(&config)?;
    let cluster = shard::start(config.clone())?;
    let mut listening = cluster.listening().to_vec();
    listening.extend_from_slice(control.listening());
    for (name, address) in &listening {
        log::info!("listening {name} {address}");
    }
    let (notices, noticed) = flume::unbounded();
    let draining = notices.clone();
    let on_drain = move || drop(draining.send(Notice::Draining));
    let disk = cluster.disk();
    let links = control::Links {
        commands: cluster.commands(),
        reports: cluster.reports(),
        heartbeats: cluster.heartbeats(),
        certificates: cluster.certificates(),
        disk: disk.clone(),
    };
    control.serve(config.clone(), links, on_drain)?;
    if demo {
        cluster.publish_demo(cli::demo_key());
    }
    log::info!("ready");
    if demo {
        cli::print_demo_urls(&listening);
    }
    std::thread::Builder::new().name("join".to_owned()).spawn(move || notices.send(Notice::Ended(cluster.join())))?;
    let drain = Duration::from_millis(config.server.drain_ms);
    let code = wait(&noticed, drain);
    if !disk.wait(drain.max(DRAIN_SLACK)) {
        log::warn!("the disk did not take all within the drain time: the next start finishes what was being recorded");
    }
    log::info!("ended");
    Ok(code)
}

/// Until a signal and the end of all shards, or of the drain time.
fn wait(noticed: &flume::Receiver<Notice>, drain: Duration) -> ExitCode {
    let ended = match noticed.recv() {
        Ok(Notice::Draining) => match noticed.recv_timeout(drain + DRAIN_SLACK) {
            Ok(Notice::Ended(well)) => well,
            _ => {
                log::warn!("some connections did not end within the drain time");
                true
            }
        },
        // Shards may end before the notice of the signal that ended them is here.
        Ok(Notice::Ended(well)) => well && matches!(noticed.recv_timeout(DRAIN_SLACK), Ok(Notice::Draining)),
        Err(flume::RecvError::Disconnected) => false,
    };
    if !ended {
        log::error!("a shard has died");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
