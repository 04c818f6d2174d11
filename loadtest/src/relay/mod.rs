//! The impaired link: a thread that stands between viewers and the server, and lets what they send arrive later, slower, or not at all.
//!
//! Viewers connect to [`Relay::address`]. One that takes datagrams gives the server a pair of doors instead of its own ports: what comes
//! in at a door from the server goes to the viewer, and the other way round. All share one [`Lane`] in each direction.
//!
//! Limits: [`UNDERWAY_BYTES_MAX`] of each connection are on their way in each direction, then its sender waits, as it would for TCP's window.

mod door;
mod profile;
mod stream;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use self::door::Door;
use self::profile::Lane;
pub use self::profile::Profile;
use self::stream::Stream;
use crate::poll::{Poll, Token, now};
use crate::rtsp::client::PortPair;
use crate::rtsp::datagrams::Pair;
use crate::schedule::Schedule;

/// Of one connection in one direction: what 100 Mbit/s carry in 40 ms.
const UNDERWAY_BYTES_MAX: usize = 512 * 1024;
/// How long a message to the thread waits at most until it is looked for.
const LOOK_NANOS: u64 = 1_000_000;

/// Which way something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Up = 0,
    Down = 1,
}

/// What arrives at its time.
enum Arrival {
    /// The next piece of a connection.
    Piece {
        at: usize,
        way: Way,
    },
    Datagram {
        at: usize,
        way: Way,
        bytes: Vec<u8>,
    },
}

/// The way to the thread. It ends with the process.
#[derive(Clone)]
pub struct Relay {
    pub address: SocketAddr,
    new_doors: Sender<(Pair, SocketAddr, SocketAddr)>,
}

impl Relay {
    /// Between those who connect to its address and `server`.
    pub fn start(profile: Profile, server: SocketAddr) -> io::Result<Relay> {
        let listener = TcpListener::bind((server.ip(), 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (new_doors, coming) = mpsc::channel();
        let poll = Poll::new()?;
        poll.add(listener.as_raw_fd(), Token::Input, false)?;
        let lanes = [Lane::new(profile, 0), Lane::new(profile, 1)];
        let (streams, doors, arrivals) = (Vec::new(), Vec::new(), Schedule::default());
        let thread = Thread { profile, server, listener, poll, lanes, streams, doors, arrivals, coming };
        thread::Builder::new().name("relay".to_owned()).spawn(move || thread.run())?;
        Ok(Relay { address, new_doors })
    }

    /// Doors for a viewer with these ports; says which ports the server shall send to.
    pub fn open_doors(&self, ip: IpAddr, near: PortPair) -> io::Result<PortPair> {
        let pair = Pair::open(ip, false)?;
        let ports = pair.ports()?;
        let near = (SocketAddr::new(ip, near.rtp), SocketAddr::new(ip, near.rtcp));
        self.new_doors.send((pair, near.0, near.1)).map_err(|_| io::Error::other("the relay has ended"))?;
        Ok(ports)
    }
}

struct Thread {
    profile: Profile,
    server: SocketAddr,
    listener: TcpListener,
    poll: Poll,
    /// Up, down.
    lanes: [Lane; 2],
    /// `None`: over.
    streams: Vec<Option<Stream>>,
    doors: Vec<Door>,
    arrivals: Schedule<Arrival>,
    coming: Receiver<(Pair, SocketAddr, SocketAddr)>,
}

impl Thread {
    fn run(mut self) {
        if let Err(error) = self.serve() {
            eprintln!("shardcast-loadtest: the impaired link has ended: {error}");
        }
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut ready = Vec::new();
        loop {
            self.poll.wait(self.arrivals.next().min(now() + LOOK_NANOS), &mut ready)?;
            self.take_doors()?;
            for event in ready.drain(..) {
                match event.token {
                    Token::Input => self.accept()?,
                    Token::Relay { at, socket } => self.read_stream(at, if socket == 0 { Way::Up } else { Way::Down })?,
                    Token::Viewer { at, .. } => self.read_door(at)?,
                    _ => {}
                }
            }
            while let Some(arrival) = self.arrivals.take_due(now()) {
                match arrival {
                    Arrival::Piece { at, way } => self.deliver(at, way)?,
                    Arrival::Datagram { at, way, bytes } => self.doors[at].send(way, &bytes)?,
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        let (viewer, _) = match self.listener.accept() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            other => other?,
        };
        // SYN and its answer take a ping before the first byte leaves, which takes half of one.
        let stream = Stream::open(viewer, self.server, now() + self.profile.ping * 3 / 2)?;
        let at = self.streams.len();
        for (socket, fd) in stream.sockets().into_iter().enumerate() {
            self.poll.add(fd, Token::Relay { at, socket }, false)?;
        }
        self.streams.push(Some(stream));
        Ok(())
    }

    fn read_stream(&mut self, at: usize, way: Way) -> io::Result<()> {
        let Some(stream) = &mut self.streams[at] else { return Ok(()) };
        let piece = stream.read(way, &mut self.lanes[way as usize]);
        if stream.is_full(way) {
            self.poll.remove(stream.sockets()[way as usize])?;
        }
        match piece {
            Ok(due) => due.into_iter().for_each(|due| self.arrivals.add(due, Arrival::Piece { at, way })),
            Err(_) => self.streams[at] = None,
        }
        Ok(())
    }

    fn deliver(&mut self, at: usize, way: Way) -> io::Result<()> {
        let Some(stream) = &mut self.streams[at] else { return Ok(()) };
        let was_full = stream.is_full(way);
        let written = stream.write(way);
        if was_full && !stream.is_full(way) {
            self.poll.add(stream.sockets()[way as usize], Token::Relay { at, socket: way as usize }, false)?;
        }
        match written {
            Ok(true) => {}
            // Who receives has no room: later.
            Ok(false) => self.arrivals.add(now() + LOOK_NANOS, Arrival::Piece { at, way }),
            Err(_) => self.streams[at] = None,
        }
        Ok(())
    }

    fn take_doors(&mut self) -> io::Result<()> {
        while let Ok((pair, rtp, rtcp)) = self.coming.try_recv() {
            for (socket, near) in [(pair.rtp, rtp), (pair.rtcp, rtcp)] {
                self.poll.add(socket.as_raw_fd(), Token::Viewer { at: self.doors.len(), socket: 0 }, false)?;
                self.doors.push(Door::new(socket, near));
            }
        }
        Ok(())
    }

    fn read_door(&mut self, at: usize) -> io::Result<()> {
        while let Some((way, bytes)) = self.doors[at].receive()? {
            if let Some(due) = self.lanes[way as usize].datagram(now(), bytes.len()) {
                self.arrivals.add(due, Arrival::Datagram { at, way, bytes });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
