//! One viewer: asks for a stream and scans what comes.

mod hls;
mod playlist;
mod rtmp;
mod rtsp;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};

use socket2::{Domain, Protocol, Socket, Type};

use self::hls::HlsViewer;
use self::rtmp::RtmpViewer;
use self::rtsp::RtspViewer;
use crate::args::{LoadArgs, Play};
use crate::load::{Buffers, Route};
use crate::mark::Mark;
use crate::poll::now;
use crate::scan::Found;
use crate::scan::flv::FlvScanner;
use crate::scan::fmp4::Fmp4Scanner;
use crate::scan::http::HttpScanner;
use crate::scan::ts::TsScanner;
use crate::scan::websocket::WebSocketScanner;
use crate::tally::{Fate, Tally};

/// What a viewer that never reads lets the kernel keep for it.
const STALLED_BUFFER_BYTES: usize = 4096;

pub struct Viewer {
    socket: TcpStream,
    wire: Wire,
    connected: u64,
    progress: Progress,
}

/// What a viewer has got so far.
#[derive(Default)]
struct Progress {
    /// From connecting to the end of the first keyframe, in nanoseconds.
    join: Option<u64>,
    /// The number of the first access unit, the highest one, and which of the 64 up to that have come.
    first: u32,
    sequence: Option<u32>,
    seen: u64,
    /// Those between the first and the last that have not come.
    missing: u64,
}

enum Wire {
    HttpFlv(HttpScanner, FlvScanner),
    HttpFmp4(HttpScanner, Box<Fmp4Scanner>),
    HttpTs(HttpScanner, Box<TsScanner>),
    Hls(Box<HlsViewer>),
    WsFlv(HttpScanner, WebSocketScanner, FlvScanner),
    Rtmp(Box<RtmpViewer>),
    Rtsp(Box<RtspViewer>),
}

impl Viewer {
    /// `stalled`: with as small a receive buffer as the kernel gives.
    pub fn connect(args: &LoadArgs, route: &Route, publisher: u16, stalled: bool) -> io::Result<Viewer> {
        let connected = now();
        let socket = Socket::new(Domain::for_address(route.address), Type::STREAM, Some(Protocol::TCP))?;
        if stalled {
            socket.set_recv_buffer_size(STALLED_BUFFER_BYTES)?;
        }
        socket.connect(&route.address.into())?;
        let socket = TcpStream::from(socket);
        socket.set_nodelay(true)?;
        let mut hello = Vec::new();
        let wire = match args.play {
            Play::HttpFlv => {
                ask_http(args, publisher, "flv", "", &mut hello);
                Wire::HttpFlv(HttpScanner::default(), FlvScanner::default())
            }
            Play::HttpFmp4 => {
                ask_http(args, publisher, "mp4", "", &mut hello);
                Wire::HttpFmp4(HttpScanner::default(), Box::default())
            }
            Play::HttpTs => {
                ask_http(args, publisher, "ts", "", &mut hello);
                Wire::HttpTs(HttpScanner::default(), Box::default())
            }
            Play::Hls | Play::HlsTs | Play::LlHls => Wire::Hls(Box::new(HlsViewer::new(args, publisher, &mut hello))),
            Play::WsFlv => {
                let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Key: bG9hZHRlc3Qtdmlld2VyIQ==\r\n";
                ask_http(args, publisher, "flv", upgrade, &mut hello);
                Wire::WsFlv(HttpScanner::default(), WebSocketScanner::default(), FlvScanner::default())
            }
            Play::Rtmp => Wire::Rtmp(Box::new(RtmpViewer::new(args, publisher, &mut hello)?)),
            Play::RtspTcp | Play::RtspUdp => Wire::Rtsp(Box::new(RtspViewer::new(args, publisher, &socket, route, &mut hello)?)),
        };
        (&socket).write_all(&hello)?;
        socket.set_nonblocking(true)?;
        Ok(Viewer { socket, wire, connected, progress: Progress::default() })
    }

    /// The connection, then the sockets for datagrams.
    pub fn sockets(&self) -> Vec<RawFd> {
        let datagrams = match &self.wire {
            Wire::Rtsp(viewer) => viewer.sockets(),
            _ => Vec::new(),
        };
        [vec![self.socket.as_raw_fd()], datagrams].concat()
    }

    /// From connecting to the end of the first keyframe, in nanoseconds.
    pub fn join_time(&self) -> Option<u64> {
        self.progress.join
    }

    /// Access units between the first and the last that have not come.
    pub fn missing(&self) -> u64 {
        self.progress.missing
    }

    /// The server has been asked for the stream in full: one that never reads may stop now.
    pub fn has_asked(&self) -> bool {
        match &self.wire {
            Wire::Rtmp(viewer) => viewer.has_asked(),
            Wire::Rtsp(viewer) => viewer.has_asked(),
            _ => true,
        }
    }

    /// Datagrams that its sockets had no room for.
    pub fn dropped(&self) -> u64 {
        match &self.wire {
            Wire::Rtsp(viewer) => viewer.dropped(),
            _ => 0,
        }
    }

    /// HTTP requests, and how many of them were not granted.
    pub fn requests(&self) -> (u64, u64) {
        match &self.wire {
            Wire::Hls(viewer) => (viewer.requests, viewer.failed),
            _ => (0, 0),
        }
    }

    /// When it does something by itself.
    pub fn turn(&self) -> Option<u64> {
        match &self.wire {
            Wire::Hls(viewer) => viewer.turn(),
            _ => None,
        }
    }

    pub fn take_turn(&mut self) -> io::Result<()> {
        let mut reply = Vec::new();
        if let Wire::Hls(viewer) = &mut self.wire {
            viewer.take_turn(now(), &mut reply);
        }
        self.reply(&reply)
    }

    /// As [`Viewer::readable`], until nothing is left. `ended`: the end of the connection is there, behind what is left.
    pub fn read_all(
        &mut self,
        socket: usize,
        ended: bool,
        woken: u64,
        buffers: &mut Buffers,
        tally: &mut Tally,
    ) -> io::Result<()> {
        while self.readable(socket, woken, buffers, tally)? || (ended && socket == 0) {}
        Ok(())
    }

    /// Reads once; whether there may be more. `socket`: an index into [`Viewer::sockets`]. `woken`: when the kernel said that there is
    /// something.
    pub fn readable(&mut self, socket: usize, woken: u64, buffers: &mut Buffers, tally: &mut Tally) -> io::Result<bool> {
        if let (Wire::Rtsp(viewer), 1..) = (&mut self.wire, socket) {
            let now = now();
            tally.read(now, now - woken);
            let (progress, connected) = (&mut self.progress, self.connected);
            let mut found = |found: Found<'_>| progress.take(&found, now, connected, tally);
            let bytes = viewer.datagrams(now, socket - 1, &mut buffers.datagrams, &mut found)?;
            tally.bytes += bytes;
            return Ok(false);
        }
        let count = match self.socket.read(&mut buffers.stream) {
            Ok(0) => return Err(io::Error::other("the server closed the connection")),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        let now = now();
        tally.bytes += count as u64;
        tally.read(now, now - woken);
        let mut reply = Vec::new();
        self.scan(now, &buffers.stream[..count], tally, &mut reply)?;
        self.reply(&reply)?;
        // A read that leaves room has taken all there was.
        Ok(count == buffers.stream.len())
    }

    fn scan(&mut self, now: u64, bytes: &[u8], tally: &mut Tally, reply: &mut Vec<u8>) -> io::Result<()> {
        let Viewer { wire, progress, connected, .. } = self;
        let mut found = |found: Found<'_>| progress.take(&found, now, *connected, tally);
        let scanned = match wire {
            Wire::HttpFlv(http, flv) => http.feed(200, bytes, &mut |data| flv.feed(data, &mut found)),
            Wire::HttpFmp4(http, mp4) => http.feed(200, bytes, &mut |data| mp4.feed(data, &mut found)),
            Wire::HttpTs(http, ts) => http.feed(200, bytes, &mut |data| ts.feed(data, &mut found)),
            Wire::Hls(viewer) => return viewer.feed(now, bytes, &mut found, reply),
            Wire::WsFlv(http, frames, flv) => {
                http.feed(101, bytes, &mut |data| frames.feed(data, &mut |data| flv.feed(data, &mut found)))
            }
            Wire::Rtmp(viewer) => return viewer.feed(bytes, &mut found, reply),
            Wire::Rtsp(viewer) => return viewer.feed(now, bytes, &mut found, reply),
        };
        Ok(scanned?)
    }

    fn reply(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() { Ok(()) } else { self.socket.write_all(bytes) }
    }

    /// Tells the server what has come, where the protocol has that.
    pub fn report(&mut self) -> io::Result<()> {
        let mut reply = Vec::new();
        if let Wire::Rtsp(viewer) = &mut self.wire {
            viewer.report(now(), &mut reply)?;
        }
        self.reply(&reply)
    }
}

fn ask_http(args: &LoadArgs, publisher: u16, extension: &str, headers: &str, out: &mut Vec<u8>) {
    let (app, name) = args.stream(publisher.into());
    let host = &args.http.address;
    let request =
        format!("GET /{app}/{name}.{extension} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: shardcast-loadtest\r\n{headers}\r\n");
    out.extend_from_slice(request.as_bytes());
}

impl Progress {
    fn take(&mut self, found: &Found<'_>, now: u64, connected: u64, tally: &mut Tally) {
        match found {
            Found::First(mark) => tally.first_byte(mark, now),
            Found::Last { mark, key } => {
                if *key && self.join.is_none() {
                    self.join = Some(now - connected);
                }
                let fate = self.fate(mark);
                tally.last_byte(mark, now, fate);
            }
            Found::Audio => tally.audio += 1,
            Found::Packet(arrival) => tally.packet(now, *arrival),
            Found::Other { .. } => {}
        }
    }

    fn fate(&mut self, mark: &Mark) -> Fate {
        let bit = |back: u32| 1u64.checked_shl(back).unwrap_or(0);
        match self.sequence {
            Some(highest) if mark.sequence <= highest => {
                // What is too far back to be known has been there, most likely.
                let bit = bit(highest - mark.sequence);
                if bit == 0 || self.seen & bit != 0 {
                    return Fate::Duplicate;
                }
                self.seen |= bit;
                self.missing -= u64::from(mark.sequence > self.first);
                Fate::Late
            }
            highest => {
                if highest.is_none() {
                    self.first = mark.sequence;
                }
                let step = highest.map_or(0, |highest| mark.sequence - highest);
                self.missing += u64::from(step.saturating_sub(1));
                self.seen = self.seen.checked_shl(step).unwrap_or(0) | 1;
                self.sequence = Some(mark.sequence);
                Fate::InOrder
            }
        }
    }
}

#[cfg(test)]
mod tests;
