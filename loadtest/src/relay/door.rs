//! A port that a server takes for a viewer's: datagrams from the viewer go on to the server, all others to the viewer.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use super::Way;
use crate::rtsp::link::send;

const DATAGRAM_BYTES_MAX: usize = 64 * 1024;

pub struct Door {
    socket: UdpSocket,
    /// The viewer.
    near: SocketAddr,
    /// The server, once it has sent something.
    far: Option<SocketAddr>,
    buffer: Vec<u8>,
}

impl Door {
    pub fn new(socket: UdpSocket, near: SocketAddr) -> Door {
        Door { socket, near, far: None, buffer: vec![0; DATAGRAM_BYTES_MAX] }
    }

    /// The next datagram that waits at the door, and which way it goes.
    pub fn receive(&mut self) -> io::Result<Option<(Way, Vec<u8>)>> {
        loop {
            match self.socket.recv_from(&mut self.buffer) {
                Ok((count, from)) => {
                    let way = if from == self.near { Way::Up } else { Way::Down };
                    if way == Way::Down {
                        self.far = Some(from);
                    }
                    return Ok(Some((way, self.buffer[..count].to_vec())));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                // Nobody listens any more where something went.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub fn send(&self, way: Way, bytes: &[u8]) -> io::Result<()> {
        match (way, self.far) {
            (Way::Down, _) => send(&self.socket, bytes, self.near),
            (Way::Up, Some(far)) => send(&self.socket, bytes, far),
            (Way::Up, None) => Ok(()),
        }
    }
}
