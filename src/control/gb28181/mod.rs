//! The platform of GB/T 28181 among real sockets: SIP over UDP and TCP in and out, receivers on shards, the operator's questions, a file.
//!
//! It is one task on the control thread ([`host`]), so media does not notice when it has much to do. [`bind`] opens the sockets before the
//! shards start, [`Sockets::serve`] begins, and a [`Desk`] is how the rest of the control plane talks to it. Not here: the protocol
//! (`protocol/gb28181`), which knows nothing of sockets.

pub mod api;
#[cfg(test)]
mod api_tests;
mod controls;
mod counters;
mod file;
mod host;
mod media;
mod notes;
mod station;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use self::counters::Counters;
pub use self::counters::CountersView;
use self::file::{Found, StateFile};
use self::host::{Brain, ERRANDS_MAX, Errand, Host, Inlets};
use self::media::Media;
use self::station::Station;
use self::tcp::{STRANGERS_MAX, TcpConnections};
use self::udp::{Locals, UdpSockets};
use super::ControlError;
use super::shards::Shards;
use crate::config::{Config, SIP_EVENTS_MAX};
use crate::protocol::gb28181::cascade::Cascade;
use crate::protocol::gb28181::platform::ask::{Answer, Ask};
use crate::protocol::gb28181::platform::{Platform, Saved};
use crate::shard::message::Report;

/// What a socket is called in the log.
pub const UDP: &str = "gb28181 udp";
pub const TCP: &str = "gb28181 tcp";

const BACKLOG: i32 = 1_024;
/// How many ports are tried where any will do: it has to be free for UDP and TCP.
const PORTS_TRIED_MAX: usize = 16;
/// Connections beside those of devices and strangers.
const SPARE_CONNECTIONS: usize = 64;
/// The shortest time that a connection may say nothing.
const IDLE_MS_MIN: u64 = 180_000;
/// How long the server waits for the platform's goodbyes before it ends itself.
const GOODBYE: Duration = Duration::from_secs(1);
const STATE_FILE: &str = "gb28181.json";
/// The longest that a question waits for its answer: less than a client of the API may be idle.
const ANSWER: Duration = Duration::from_secs(25);

/// Sockets that are open and not yet served.
#[derive(Debug, Default)]
pub struct Sockets {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
    listening: Vec<(&'static str, SocketAddr)>,
}

/// Opens a UDP and a TCP socket at each address of the configuration, if the platform is enabled. The error comes with the address.
pub fn bind(config: &Config) -> Result<Sockets, (SocketAddr, io::Error)> {
    let mut sockets = Sockets::default();
    let addresses = if config.gb28181.enabled { config.gb28181.listen.as_slice() } else { &[] };
    for &address in addresses {
        let (udp, tcp) = open_both(address).map_err(|error| (address, error))?;
        let failed = |error| (address, error);
        sockets.listening.push((UDP, udp.local_addr().map_err(failed)?));
        sockets.listening.push((TCP, tcp.local_addr().map_err(failed)?));
        sockets.udp.push(udp);
        sockets.tcp.push(tcp);
    }
    Ok(sockets)
}

/// The same port for both.
fn open_both(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let tries = if address.port() == 0 { PORTS_TRIED_MAX } else { 1 };
    for left in (0..tries).rev() {
        let udp = udp::open(address)?;
        match listen(udp.local_addr()?) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && left > 0 => {}
            tcp => return Ok((udp, tcp?)),
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A server that starts again need not wait for the connections of the one before.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

impl Sockets {
    /// What is open, port 0 resolved.
    pub fn listening(&self) -> &[(&'static str, SocketAddr)] {
        &self.listening
    }

    /// Starts the platform, if it is enabled, with what is known from before. Inside the runtime.
    pub fn start(
        self,
        config: &Arc<Config>,
        shards: &Shards,
        reports: flume::Receiver<Report>,
    ) -> Result<Option<Desk>, ControlError> {
        if !config.gb28181.enabled {
            return Ok(None);
        }
        let file = StateFile::new(&config.server.data, STATE_FILE);
        let saved: station::Saved<Saved> = match file.read() {
            Found::Whole(saved) => saved,
            Found::Nothing => station::Saved::default(),
            Found::Broken(why) => {
                log::warn!("{why}");
                station::Saved::default()
            }
        };
        let (mut below, mut above) = ([0; 32], [0; 32]);
        for secret in [&mut below, &mut above] {
            getrandom::fill(secret).map_err(ControlError::Random)?;
        }
        let platform = Platform::new(config.clone(), saved.platform, below);
        let cascade = Cascade::new(&config.gb28181, &above, saved.channels);
        Ok(Some(self.serve(config, shards.clone(), reports, Station::new(platform, cascade), file)?))
    }

    fn serve<P: Brain>(
        self,
        config: &Arc<Config>,
        shards: Shards,
        reports: flume::Receiver<Report>,
        platform: P,
        file: StateFile,
    ) -> io::Result<Desk> {
        let section = &config.gb28181;
        let counters = Arc::new(Counters::default());
        let (events, event_ends) = mpsc::channel(SIP_EVENTS_MAX);
        let (errands, errand_ends) = mpsc::channel(ERRANDS_MAX);
        let locals = Locals::new(section.address);
        let udp = UdpSockets::serve(self.udp, &locals, &events, &counters)?;
        for listener in self.tcp {
            tokio::spawn(tcp::accept(tokio::net::TcpListener::from_std(listener)?, events.clone()));
        }
        let idle = Duration::from_millis(IDLE_MS_MIN.max(section.keepalive_ms * (section.keepalive_count + 1)));
        let tcp =
            TcpConnections::new(section.devices_max + STRANGERS_MAX + SPARE_CONNECTIONS, idle, locals, events, counters.clone());
        let host = Host::new(platform, udp, tcp, Media::new(shards, config.clone()), file, counters.clone());
        tokio::spawn(host.run(Inlets { events: event_ends, errands: errand_ends, reports }));
        Ok(Desk { errands, counters })
    }
}

/// Where the rest of the control plane asks.
#[derive(Clone, Debug)]
pub struct Desk {
    errands: mpsc::Sender<Errand>,
    counters: Arc<Counters>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    #[error("the platform has not answered within {} s", ANSWER.as_secs())]
    TooLate,
    #[error("the platform is not running")]
    Gone,
}

impl Desk {
    pub async fn ask(&self, ask: Ask) -> Result<Answer, NoAnswer> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.errands.send(Errand::Ask(ask, reply)).await.map_err(|_| NoAnswer::Gone)?;
            answer.await.map_err(|_| NoAnswer::Gone)
        };
        timeout(ANSWER, asked).await.map_err(|_| NoAnswer::TooLate)?
    }

    /// Has the platform say goodbye, and writes down what survives. Takes [`GOODBYE`] at most.
    pub async fn goodbye(&self) {
        let (reply, finished) = oneshot::channel();
        let said = async {
            if self.errands.send(Errand::Finish(reply)).await.is_ok() {
                // The host ends with the process at the latest.
                let _ = finished.await;
            }
        };
        if timeout(GOODBYE, said).await.is_err() {
            log::warn!("gb28181: there was no time for all goodbyes");
        }
    }

    pub fn counters(&self) -> CountersView {
        self.counters.view()
    }
}

#[cfg(test)]
impl Desk {
    /// One behind which nobody sits but `answer`.
    pub fn answered_by(mut answer: impl FnMut(Ask) -> Option<Answer> + Send + 'static) -> Self {
        let (errands, mut asked) = mpsc::channel(ERRANDS_MAX);
        std::thread::spawn(move || {
            while let Some(Errand::Ask(ask, reply)) = asked.blocking_recv() {
                // Without an answer the reply's end is let go.
                drop(answer(ask).map(|answer| reply.send(answer)));
            }
        });
        Desk { errands, counters: Arc::default() }
    }
}
