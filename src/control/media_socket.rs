//! Connections to senders of media that wait to be connected to: made here, served by a shard.
//!
//! GB/T 28181 Annex L, TCP active. Nothing is read or written here. Limits: [`CONNECT_MS_MAX`] per connection. Not here: who is connected
//! to, and what is said there.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::time::timeout;

/// How long a connection may take.
pub const CONNECT_MS_MAX: u64 = 5_000;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot connect to {0}: {1}")]
    Failed(SocketAddr, io::Error),
    #[error("cannot connect to {0}: no answer in {CONNECT_MS_MAX} ms")]
    NoAnswer(SocketAddr),
}

/// Connects, and gives the socket in blocking mode, as a shard takes it.
pub async fn connect(to: SocketAddr) -> Result<OwnedFd, ConnectError> {
    let failed = |error| ConnectError::Failed(to, error);
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(failed)?;
    let connected = timeout(Duration::from_millis(CONNECT_MS_MAX), socket.connect(to)).await;
    let stream = connected.map_err(|_| ConnectError::NoAnswer(to))?.map_err(failed)?;
    let stream = stream.into_std().map_err(failed)?;
    stream.set_nonblocking(false).map_err(failed)?;
    Ok(stream.into())
}
