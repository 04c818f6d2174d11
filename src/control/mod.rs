//! The control plane: one thread with a small tokio runtime that answers operators, watches the shards, speaks SIP and hears signals.
//!
//! It talks to the shards by [`Command`] only and owns no media; if it is slow, live does not notice.
//! Limits: [`CONTROL_CONNECTIONS_MAX`](crate::config::CONTROL_CONNECTIONS_MAX), `control.body_bytes_max`, one second per question.
//! Not here: starting and joining the shards (`main.rs` does).

mod api;
mod certificates;
mod download;
mod gb28181;
mod health;
mod listener;
mod load;
mod media_socket;
mod metrics;
mod process;
mod receivers;
mod recordings;
mod senders;
mod sessions;
mod shards;
mod streams;
#[cfg(test)]
mod testing;
mod words;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::signal::unix::{Signal, SignalKind, signal};

use self::api::App;
use self::health::Health;
use self::listener::{Door, Places};
use self::shards::Shards;
use crate::config::Config;
use crate::disk::Disk;
use crate::io::tls::Certificates;
use crate::shard::message::{Command, Report};

/// Why the control plane does not run.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("control.listen: cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("gb28181.listen: cannot listen on {address} over UDP and TCP: {source}")]
    Sip { address: SocketAddr, source: io::Error },
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    #[error("cannot start the control thread: {0}")]
    Thread(#[from] io::Error),
}

/// Sockets that are open and not yet served: a port in use is known before any shard starts.
#[derive(Debug)]
pub struct Bound {
    listeners: Vec<TcpListener>,
    sip: gb28181::Sockets,
    listening: Vec<(&'static str, SocketAddr)>,
}

/// Opens the listeners of the control plane, and those for SIP if that is enabled; none is fine.
pub fn bind(config: &Config) -> Result<Bound, ControlError> {
    let sip = gb28181::bind(config).map_err(|(address, source)| ControlError::Sip { address, source })?;
    let mut bound = Bound { listeners: Vec::new(), listening: sip.listening().to_vec(), sip };
    for &address in &config.control.listen {
        let failed = |source| ControlError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        bound.listening.push(("control", listener.local_addr().map_err(failed)?));
        bound.listeners.push(listener);
    }
    Ok(bound)
}

/// What the control plane is connected to.
pub struct Links {
    /// Where each shard takes commands.
    pub commands: Vec<flume::Sender<Command>>,
    pub reports: flume::Receiver<Report>,
    pub heartbeats: Arc<[AtomicU64]>,
    pub certificates: Option<Certificates>,
    pub disk: Disk,
}

impl Bound {
    /// What is heard where: port 0 is resolved.
    pub fn listening(&self) -> &[(&'static str, SocketAddr)] {
        &self.listening
    }

    /// Starts the thread. `on_drain` is called once, after a first SIGTERM or SIGINT has been passed on to the shards; a second one
    /// ends the process with code 1.
    pub fn serve(self, config: Arc<Config>, links: Links, on_drain: impl FnOnce() + Send + 'static) -> Result<(), ControlError> {
        let Links { commands, reports, heartbeats, certificates, disk } = links;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let inside = runtime.enter();
        // From here on a signal is heard, even before the thread runs.
        let signals = Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
        let hangup = signal(SignalKind::hangup())?;
        let shards = Shards::new(commands);
        let doors = doors(self.listeners)?;
        let platform = self.sip.start(&config, &shards, reports)?;
        let app = Arc::new(App::new(config, shards, Arc::new(Health::new(heartbeats)), platform, disk));
        drop(inside);
        std::thread::Builder::new().name("control".to_owned()).spawn(move || {
            runtime.spawn(certificates::watch(certificates, hangup));
            runtime.block_on(run(app, doors, signals, on_drain));
        })?;
        Ok(())
    }
}

/// Inside the runtime.
fn doors(listeners: Vec<TcpListener>) -> io::Result<Vec<Door>> {
    let places = Places::default();
    let door = |listener| Ok(Door { listener: tokio::net::TcpListener::from_std(listener)?, places: places.clone() });
    listeners.into_iter().map(door).collect()
}

/// The two signals that end the server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn run(app: Arc<App>, doors: Vec<Door>, mut signals: Signals, on_drain: impl FnOnce()) {
    tokio::spawn(health::watch(app.health.clone()));
    for door in doors {
        let router = api::router(app.clone());
        // Serving ends only with the process: `Door::accept` never fails.
        tokio::spawn(async move { axum::serve(door, router).await });
    }
    signals.next().await;
    log::info!("shutting down");
    app.health.set_draining();
    let drained = async {
        if let Some(desk) = &app.gb28181 {
            desk.goodbye().await;
        }
        app.shards.drain();
        on_drain();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = drained => {}
        () = signals.next() => {}
    }
    log::warn!("second signal: ending at once");
    std::process::exit(1);
}
