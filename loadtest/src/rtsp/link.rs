//! What publisher and viewer have in common: the session, what has come of its messages, a pair of sockets per track if media travels as
//! datagrams, reports, and signs of life.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use super::client::{Carriage, Path, RtspClient};
use super::datagrams::Pair;
use super::message::{Reader, write_frame_header};
use crate::poll::NANOS_PER_SECOND;
use crate::relay::Relay;

pub struct Link {
    pub client: RtspClient,
    pub reader: Reader,
    /// One per track; none on the connection.
    pub pairs: Vec<Pair>,
    /// Behind an impaired link: where each track's datagrams go in the server's place.
    pub doors: Vec<Path>,
    next_sign: u64,
}

impl Link {
    /// `joined`: `Some` opens sockets for datagrams, which the kernel may hand over joined; with a `relay` the server sends to
    /// its doors. `start` begins the session, with the
    /// server's address.
    pub fn open(
        socket: &TcpStream,
        joined: Option<bool>,
        relay: Option<&Relay>,
        start: impl FnOnce(IpAddr, Carriage) -> RtspClient,
    ) -> io::Result<Link> {
        let ip = socket.local_addr()?.ip();
        let (mut carriage, mut pairs, mut doors) = (Carriage::Interleaved, Vec::new(), Vec::new());
        if let Some(joined) = joined {
            pairs = vec![Pair::open(ip, joined)?, Pair::open(ip, joined)?];
            let mut ports = [pairs[0].ports()?, pairs[1].ports()?];
            if let Some(relay) = relay {
                for ports in &mut ports {
                    *ports = relay.open_doors(ip, *ports)?;
                    doors.push(Path::Addresses { rtp: (ip, ports.rtp).into(), rtcp: (ip, ports.rtcp).into() });
                }
            }
            carriage = Carriage::Datagrams(ports);
        }
        let client = start(socket.peer_addr()?.ip(), carriage);
        Ok(Link { client, reader: Reader::default(), pairs, doors, next_sign: 0 })
    }

    /// Those for RTP and RTCP of each track.
    pub fn sockets(&self) -> Vec<RawFd> {
        self.pairs.iter().flat_map(|pair| [pair.rtp.as_raw_fd(), pair.rtcp.as_raw_fd()]).collect()
    }

    /// One of [`Link::sockets`].
    pub fn socket(&self, at: usize) -> RawFd {
        let pair = &self.pairs[at / 2];
        if at.is_multiple_of(2) { pair.rtp.as_raw_fd() } else { pair.rtcp.as_raw_fd() }
    }

    /// Sends a report on a track, whose media goes by `path`; what goes on the connection is put into `out`.
    pub fn report(&self, track: usize, path: Path, report: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match path {
            Path::Channels { rtcp, .. } => {
                write_frame_header(rtcp, report.len(), out);
                out.extend_from_slice(report);
                Ok(())
            }
            Path::Addresses { rtcp, .. } => send(&self.pairs[track].rtcp, report, rtcp),
        }
    }

    /// A request before half of the session's time is over.
    pub fn keep_alive(&mut self, now: u64, out: &mut Vec<u8>) {
        if now >= self.next_sign {
            if self.next_sign > 0 {
                self.client.keep_alive(out);
            }
            self.next_sign = now + self.client.timeout_seconds() * NANOS_PER_SECOND / 2;
        }
    }
}

/// A datagram that is lost is lost.
pub fn send(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
    match socket.send_to(bytes, to) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused) => Err(error),
        _ => Ok(()),
    }
}
