//! One viewer: asks for a stream and scans what comes.
//!
//! Over RTMP the library's client speaks until the server agrees to play; from then on only the scanner sees the bytes, and what a
//! player still has to say (acknowledgements, pongs) is said here.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

use shardcast::format::rtmp_chunk::{CHUNK_SIZE_DEFAULT, MessageHeader, chunk_stream, message_type, write_message};
use shardcast::media::Stamp;
use shardcast::protocol::rtmp::client::{ClientEvent, ClientOutput, RtmpClient};
use socket2::{Domain, Protocol, Socket, Type};

use crate::args::{LoadArgs, Play};
use crate::mark::Mark;
use crate::poll::now;
use crate::scan::chunk::ChunkScanner;
use crate::scan::flv::FlvScanner;
use crate::scan::http::HttpScanner;
use crate::scan::websocket::WebSocketScanner;
use crate::scan::{Broken, Found};
use crate::tally::Tally;

/// S0, S1 and S2 (RTMP §5.2).
const HANDSHAKE_BYTES: usize = 1 + 2 * 1536;
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Acknowledge after so many bytes, unless the server says otherwise.
const WINDOW_BYTES: u32 = 2_500_000;
/// What a viewer that never reads lets the kernel keep for it.
const STALLED_BUFFER_BYTES: usize = 4096;
const PING_REQUEST: [u8; 2] = [0, 6];
const PING_RESPONSE: [u8; 2] = [0, 7];

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
    /// Number of the last access unit.
    sequence: Option<u32>,
}

enum Wire {
    HttpFlv(HttpScanner, FlvScanner),
    WsFlv(HttpScanner, WebSocketScanner, FlvScanner),
    Rtmp(Box<RtmpWire>),
}

struct RtmpWire {
    /// Until the server agrees to play.
    client: Option<RtmpClient>,
    handshake_left: usize,
    scanner: ChunkScanner,
    window: u32,
    received: u32,
    acknowledged: u32,
}

impl Viewer {
    /// `stalled`: with as small a receive buffer as the kernel gives.
    pub fn connect(args: &LoadArgs, address: SocketAddr, publisher: u16, stalled: bool) -> io::Result<Viewer> {
        let connected = now();
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if stalled {
            socket.set_recv_buffer_size(STALLED_BUFFER_BYTES)?;
        }
        socket.connect(&address.into())?;
        let socket = TcpStream::from(socket);
        socket.set_nodelay(true)?;
        let name = args.url.stream_name(publisher.into(), args.publishers);
        let path = format!("/{}/{name}.flv", args.url.app);
        let host = &args.http.address;
        let mut hello = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: shardcast-loadtest\r\n").into_bytes();
        let wire = match args.play {
            Play::HttpFlv => {
                hello.extend_from_slice(b"\r\n");
                Wire::HttpFlv(HttpScanner::default(), FlvScanner::default())
            }
            Play::WsFlv => {
                hello.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n");
                hello.extend_from_slice(b"Sec-WebSocket-Key: bG9hZHRlc3Qtdmlld2VyIQ==\r\n\r\n");
                Wire::WsFlv(HttpScanner::default(), WebSocketScanner::default(), FlvScanner::default())
            }
            Play::Rtmp => {
                let mut client = RtmpClient::play(&args.url.app, &name, &args.url.tc_url(), MESSAGE_BYTES_MAX);
                hello.clear();
                talk(&mut client, &[], &mut hello)?;
                Wire::Rtmp(Box::new(RtmpWire::new(client)))
            }
        };
        (&socket).write_all(&hello)?;
        socket.set_nonblocking(true)?;
        Ok(Viewer { socket, wire, connected, progress: Progress::default() })
    }

    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// From connecting to the end of the first keyframe, in nanoseconds.
    pub fn join_time(&self) -> Option<u64> {
        self.progress.join
    }

    /// The server has been asked for the stream in full: one that never reads may stop now.
    pub fn has_asked(&self) -> bool {
        !matches!(&self.wire, Wire::Rtmp(wire) if wire.client.is_some())
    }

    /// Reads once. `woken`: when the kernel said that there is something.
    pub fn readable(&mut self, woken: u64, buffer: &mut [u8], tally: &mut Tally) -> io::Result<()> {
        let count = match self.socket.read(buffer) {
            Ok(0) => return Err(io::Error::other("the server closed the connection")),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let now = now();
        tally.bytes += count as u64;
        tally.read(now, now - woken);
        let mut reply = Vec::new();
        self.scan(now, &buffer[..count], tally, &mut reply)?;
        if !reply.is_empty() {
            self.socket.write_all(&reply)?;
        }
        Ok(())
    }

    fn scan(&mut self, now: u64, bytes: &[u8], tally: &mut Tally, reply: &mut Vec<u8>) -> io::Result<()> {
        let Viewer { wire, progress, connected, .. } = self;
        let mut found = |found: Found<'_>| progress.take(&found, now, *connected, tally);
        let scanned = match wire {
            Wire::HttpFlv(http, flv) => http.feed(200, bytes, &mut |data| flv.feed(data, &mut found)),
            Wire::WsFlv(http, frames, flv) => {
                http.feed(101, bytes, &mut |data| frames.feed(data, &mut |data| flv.feed(data, &mut found)))
            }
            Wire::Rtmp(wire) => return wire.feed(bytes, &mut found, reply),
        };
        scanned.map_err(to_io)
    }
}

impl Progress {
    fn take(&mut self, found: &Found<'_>, now: u64, connected: u64, tally: &mut Tally) {
        match found {
            Found::First(mark) => tally.first_byte(mark, now),
            Found::Last { mark, key } => self.last_byte(mark, *key, now, connected, tally),
            Found::Audio => tally.audio += 1,
            Found::Other { .. } => {}
        }
    }

    fn last_byte(&mut self, mark: &Mark, key: bool, now: u64, connected: u64, tally: &mut Tally) {
        if key && self.join.is_none() {
            self.join = Some(now - connected);
        }
        let in_order = self.sequence.is_none_or(|sequence| mark.sequence > sequence);
        tally.last_byte(mark, now, in_order);
        self.sequence = self.sequence.max(Some(mark.sequence));
    }
}

impl RtmpWire {
    fn new(client: RtmpClient) -> RtmpWire {
        let scanner = ChunkScanner::default();
        let (client, handshake_left) = (Some(client), HANDSHAKE_BYTES);
        RtmpWire { client, handshake_left, scanner, window: WINDOW_BYTES, received: 0, acknowledged: 0 }
    }

    fn feed(&mut self, bytes: &[u8], found: &mut impl FnMut(Found<'_>), reply: &mut Vec<u8>) -> io::Result<()> {
        self.received = self.received.wrapping_add(bytes.len() as u32);
        if let Some(client) = &mut self.client
            && talk(client, bytes, reply)?
        {
            self.client = None;
        }
        let speaks = self.client.is_none();
        let handshake = self.handshake_left.min(bytes.len());
        self.handshake_left -= handshake;
        let mut window = self.window;
        let mut control = |item: Found<'_>| match item {
            Found::Other { kind: message_type::WINDOW_ACKNOWLEDGEMENT_SIZE, prefix } => {
                window = prefix.first_chunk().map_or(window, |bytes| u32::from_be_bytes(*bytes)).max(1);
            }
            Found::Other { kind: message_type::USER_CONTROL, prefix } if speaks && prefix.starts_with(&PING_REQUEST) => {
                write_control(message_type::USER_CONTROL, &[&PING_RESPONSE, &prefix[2..]], reply);
            }
            other => found(other),
        };
        self.scanner.feed(&bytes[handshake..], &mut control).map_err(to_io)?;
        self.window = window;
        if speaks && self.received.wrapping_sub(self.acknowledged) >= self.window {
            self.acknowledged = self.received;
            write_control(message_type::ACKNOWLEDGEMENT, &[&self.received.to_be_bytes()], reply);
        }
        Ok(())
    }
}

fn write_control(message_type: u8, payload: &[&[u8]], out: &mut Vec<u8>) {
    let header = MessageHeader { chunk_stream: chunk_stream::CONTROL, timestamp: 0, message_type, message_stream: 0 };
    // No control message is longer than the smallest chunk.
    write_message(&header, payload, CHUNK_SIZE_DEFAULT, out);
}

/// Lets the client answer; says whether the server has agreed to play.
fn talk(client: &mut RtmpClient, bytes: &[u8], reply: &mut Vec<u8>) -> io::Result<bool> {
    let mut outputs = Vec::new();
    client.handle(Stamp::from_nanos(now()), bytes, &mut outputs).map_err(|error| io::Error::other(error.to_string()))?;
    let mut agreed = false;
    for output in outputs {
        match output {
            ClientOutput::Send(bytes) => reply.extend_from_slice(&bytes),
            ClientOutput::Event(ClientEvent::Ready { .. }) => agreed = true,
            ClientOutput::Event(ClientEvent::Status { error: true, code, description }) => {
                return Err(io::Error::other(format!("the server says {code}: {description}")));
            }
            ClientOutput::Event(_) => {}
        }
    }
    Ok(agreed)
}

fn to_io(broken: Broken) -> io::Error {
    io::Error::other(broken.0)
}
