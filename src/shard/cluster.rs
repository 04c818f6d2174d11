//! All shards of the process: opens the sockets, lays the channels, starts the threads.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::Builder;

use rustls::ServerConfig;

use super::driver::{self, Listening, Parts};
use super::message::{Batch, Command, Message, Report, ShardId};
use super::shared_ports;
use crate::config::Config;
use crate::disk::{self, Disk};
use crate::hub::Directory;
use crate::io::tls::{CertificateError, Certificates};
use crate::io::udp::{self, SendWay};
use crate::io::{probe, socket};
use crate::protocol::PROTOCOLS;
use crate::protocol::common::auth::Authority;
use crate::protocol::record::DiskNews;
use crate::session::StreamKey;

/// Messages that wait for one shard. Over it they are dropped; every sender repeats or times out.
const INBOX_MESSAGES_MAX: usize = 16 * 1024;
/// Reports that wait for the control plane, of all shards. Over it they are dropped and counted; every shard repeats what still holds.
const REPORTS_MAX: usize = 1024;
/// Commands of the control plane that wait for one shard.
const COMMANDS_MAX: usize = 256;

/// Why the server cannot start; each reads as one sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{protocol} cannot listen on {address}: {error}")]
    Listen { protocol: &'static str, address: SocketAddr, error: io::Error },
    #[error("{0}")]
    Runtime(String),
    #[error("tls: {0}")]
    Certificate(#[from] CertificateError),
    #[error("the disk's threads cannot be started: {0}")]
    Disk(io::Error),
    #[error("a shard's thread cannot be started: {0}")]
    Thread(io::Error),
}

/// The running shards.
pub struct Cluster {
    commands: Vec<flume::Sender<Command>>,
    heartbeats: Arc<[AtomicU64]>,
    listening: Addresses,
    certificates: Option<Certificates>,
    reports: flume::Receiver<Report>,
    disk: Disk,
    /// Each shard says here how it ended; `false`: badly.
    ended: flume::Receiver<bool>,
}

/// Starts all shards; when this returns, every address is open.
pub fn start(config: Arc<Config>) -> Result<Cluster, StartError> {
    let cores = socket::cores();
    let shards = usize::from(config.server.shards.count());
    let (backend, why) = probe::choose(config.server.runtime, shards).map_err(StartError::Runtime)?;
    log::info!("runtime {}: {why}; {shards} shard{}", backend.name(), if shards == 1 { "" } else { "s" });
    let (send_way, why) = SendWay::choose(config.datagrams().segmentation);
    log::info!("datagrams by {}: {why}", send_way.name());
    let files = socket::raise_file_limit();
    log::info!("up to {files} open files");
    let certificates = certificates(&config)?;
    let tls = certificates.as_ref().map(Certificates::server_config).transpose()?;
    let (listening, sockets) = open_listeners(&config, shards, tls.as_ref())?;
    let mut shared = open_shared(&config, shards)?.into_iter();
    let (commands, command_ends): (Vec<_>, Vec<_>) = (0..shards).map(|_| flume::bounded(COMMANDS_MAX)).unzip();
    let (inboxes, inbox_ends): (Vec<_>, Vec<_>) = (0..shards).map(|_| flume::bounded(INBOX_MESSAGES_MAX)).unzip();
    let (lanes, lane_ends) = lay_lanes(shards, config.limits.lane_batches_max);
    let heartbeats: Arc<[AtomicU64]> = (0..shards).map(|_| AtomicU64::new(0)).collect();
    let directory = Arc::new(Directory::default());
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| StartError::Runtime(format!("the system gives no random numbers: {error}")))?;
    let authority = Arc::new(Authority::new(&config.auth, secret));
    let (endings, ended) = flume::bounded(shards);
    let (report_start, reports) = flume::bounded(REPORTS_MAX);
    let shard_inboxes = inboxes.clone();
    let tell = move |news: DiskNews| {
        // It is said again with the recorder's next order.
        let _ = shard_inboxes[usize::from(news.tag.shard)].try_send(Message::Disk(news));
    };
    let (orders, disk) = disk::start(&Arc::new(config.record.clone()), tell).map_err(StartError::Disk)?;
    let ends = command_ends.into_iter().zip(inbox_ends).zip(lanes.into_iter().zip(lane_ends)).zip(sockets).enumerate();
    for (at, (((commands, inbox), (lanes_out, lanes_in)), listeners)) in ends {
        let parts = Parts {
            id: at as ShardId,
            config: config.clone(),
            directory: directory.clone(),
            authority: authority.clone(),
            backend,
            send_way,
            core_id: Some(cores[at % cores.len()]),
            listeners,
            shared: shared.next(),
            commands,
            inbox,
            inboxes: inboxes.clone(),
            lanes_out,
            lanes_in,
            heartbeats: heartbeats.clone(),
            reports: report_start.clone(),
            disk: orders.clone(),
        };
        let ending = Ending { well: false, ended: endings.clone() };
        let thread = Builder::new().name(format!("shard-{at}")).spawn(move || run_shard(parts, ending));
        thread.map_err(StartError::Thread)?;
    }
    Ok(Cluster { commands, heartbeats, listening, certificates, reports, disk, ended })
}

/// The certificate that a server with this configuration needs; `None`: nothing listens over TLS.
pub fn certificates(config: &Config) -> Result<Option<Certificates>, StartError> {
    let wanted = PROTOCOLS.iter().filter_map(|protocol| protocol.tls).any(|over| !(over.listen)(config).is_empty());
    let load = || Certificates::load(&config.tls.certificate, &config.tls.private_key);
    Ok(wanted.then(load).transpose()?)
}

/// Tells how a shard ended, also when it panicked.
struct Ending {
    well: bool,
    ended: flume::Sender<bool>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        // There is room for every shard's; without a listener the process is ending.
        let _ = self.ended.try_send(self.well);
    }
}

fn run_shard(parts: Parts, mut ending: Ending) {
    let id = parts.id;
    match driver::run(parts) {
        Ok(()) => ending.well = true,
        Err(error) => log::error!("shard {id} cannot run: {error}"),
    }
}

type Addresses = Vec<(&'static str, SocketAddr)>;

/// The addresses in use, and the sockets of each shard.
fn open_listeners(
    config: &Config,
    shards: usize,
    tls: Option<&Arc<ServerConfig>>,
) -> Result<(Addresses, Vec<Vec<Listening>>), StartError> {
    let mut listening = Vec::new();
    let mut per_shard: Vec<Vec<Listening>> = (0..shards).map(|_| Vec::new()).collect();
    for protocol in PROTOCOLS {
        let over_tls = protocol.tls.map(|over| (over.name, (over.listen)(config), tls));
        for (name, addresses, tls) in [Some((protocol.name, (protocol.listen)(config), None)), over_tls].into_iter().flatten() {
            for address in addresses {
                let opened = socket::listen(*address, shards);
                let (address, sockets) =
                    opened.map_err(|error| StartError::Listen { protocol: name, address: *address, error })?;
                listening.push((name, address));
                for (listeners, socket) in per_shard.iter_mut().zip(sockets) {
                    listeners.push(Listening { protocol, socket, tls: tls.cloned() });
                }
            }
        }
    }
    Ok((listening, per_shard))
}

/// The port of each shard that many sessions receive on; none if that is not asked for.
fn open_shared(config: &Config, shards: usize) -> Result<Vec<shared_ports::Sockets>, StartError> {
    const BACKLOG: i32 = 256;
    let datagrams = config.datagrams();
    let Some(first) = datagrams.shared_port else { return Ok(Vec::new()) };
    let open = |port: u16| {
        let address = SocketAddr::new(datagrams.address, port);
        let failed = |error| StartError::Listen { protocol: "the port that receivers share", address, error };
        let pair = udp::bind_pair(address.ip(), port, datagrams.shared_receive_buffer_bytes).map_err(failed)?;
        udp::warn_if_capped(datagrams.shared_receive_buffer_bytes, pair.receive_buffer_bytes_granted);
        let listener = socket::listen_alone(address, BACKLOG).map_err(failed)?;
        Ok(shared_ports::Sockets { port, rtp: pair.rtp, rtcp: pair.rtcp, listener })
    };
    (first..).step_by(2).take(shards).map(open).collect()
}

type LaneStarts = Vec<Option<flume::Sender<Batch>>>;
type LaneEnds = Vec<(ShardId, flume::Receiver<Batch>)>;

/// One lane per ordered pair of shards: what each shard sends into, and what it receives from.
fn lay_lanes(shards: usize, batches_max: usize) -> (Vec<LaneStarts>, Vec<LaneEnds>) {
    let mut starts: Vec<LaneStarts> = Vec::with_capacity(shards);
    let mut ends: Vec<LaneEnds> = (0..shards).map(|_| Vec::new()).collect();
    for from in 0..shards {
        let lane = |to: usize| {
            (to != from).then(|| {
                let (start, end) = flume::bounded(batches_max);
                ends[to].push((from as ShardId, end));
                start
            })
        };
        starts.push((0..shards).map(lane).collect());
    }
    (starts, ends)
}

impl Cluster {
    /// Where each shard takes commands, by shard.
    pub fn commands(&self) -> Vec<flume::Sender<Command>> {
        self.commands.clone()
    }

    /// Per shard the monotonic milliseconds at which it last said that it lives; at least ten times a second.
    pub fn heartbeats(&self) -> Arc<[AtomicU64]> {
        self.heartbeats.clone()
    }

    /// Protocol and address of every open listener, port 0 resolved.
    pub fn listening(&self) -> &[(&'static str, SocketAddr)] {
        &self.listening
    }

    /// What the shards tell the control plane on their own.
    pub fn reports(&self) -> flume::Receiver<Report> {
        self.reports.clone()
    }

    /// The recordings, and the threads that have them.
    pub fn disk(&self) -> Disk {
        self.disk.clone()
    }

    /// What listeners over TLS show; `None`: there are none.
    pub fn certificates(&self) -> Option<Certificates> {
        self.certificates.clone()
    }

    /// Publishes the built-in clip as `key`.
    pub fn publish_demo(&self, key: StreamKey) {
        // A shard that has just started has no commands waiting.
        let _ = self.commands[0].try_send(Command::PublishClip(key));
    }

    /// Waits for all shards to end; `false` as soon as one could not run or has died.
    pub fn join(self) -> bool {
        self.commands.iter().all(|_| self.ended.recv().unwrap_or(false))
    }
}
