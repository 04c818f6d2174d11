//! One connection over the impaired link: two sockets, and what is on its way between them.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

use super::profile::Lane;
use super::{UNDERWAY_BYTES_MAX, Way};
use crate::poll::now;

/// What is read at a time: small, so that bytes arrive as they would over the link, not all at the end.
const PIECE_BYTES: usize = 8 * 1024;

pub struct Stream {
    /// Those that read for the way up and for the way down.
    sockets: [TcpStream; 2],
    underway: [Underway; 2],
}

#[derive(Default)]
struct Underway {
    pieces: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Bytes of the first piece that have been written.
    written: usize,
    /// When the last piece arrives.
    last: u64,
}

impl Stream {
    /// `begin`: before this time nothing arrives at the server.
    pub fn open(viewer: TcpStream, server: SocketAddr, begin: u64) -> io::Result<Stream> {
        let sockets = [viewer, TcpStream::connect(server)?];
        for socket in &sockets {
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
        }
        let underway = [Underway { last: begin, ..Underway::default() }, Underway::default()];
        Ok(Stream { sockets, underway })
    }

    /// By the way for which they read.
    pub fn sockets(&self) -> [RawFd; 2] {
        [self.sockets[0].as_raw_fd(), self.sockets[1].as_raw_fd()]
    }

    /// Whether its sender has to wait.
    pub fn is_full(&self, way: Way) -> bool {
        self.underway[way as usize].bytes >= UNDERWAY_BYTES_MAX
    }

    /// Takes a piece; says when it arrives.
    pub fn read(&mut self, way: Way, lane: &mut Lane) -> io::Result<Option<u64>> {
        let mut piece = vec![0; PIECE_BYTES];
        match self.sockets[way as usize].read(&mut piece) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                piece.truncate(count);
                let underway = &mut self.underway[way as usize];
                underway.bytes += count;
                underway.pieces.push_back(piece);
                underway.last = lane.piece(now(), count, underway.last);
                Ok(Some(underway.last))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Hands the first piece over; false: not all of it was taken.
    pub fn write(&mut self, way: Way) -> io::Result<bool> {
        let Underway { pieces, bytes, written, .. } = &mut self.underway[way as usize];
        let Some(piece) = pieces.front() else { return Ok(true) };
        match self.sockets[1 - way as usize].write(&piece[*written..]) {
            Ok(count) => {
                *bytes -= count;
                *written += count;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        let done = *written == piece.len();
        if done {
            pieces.pop_front();
            *written = 0;
        }
        Ok(done)
    }
}
