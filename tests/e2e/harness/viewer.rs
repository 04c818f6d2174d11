//! Viewers of our own, for what no player can tell: every tag that came, over HTTP-FLV, WebSocket-FLV or RTMP, and whether the
//! connection still stands. Each reads on a thread of its own.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use shardcast::media::Stamp;
use shardcast::protocol::rtmp::client::{ClientEvent, ClientOutput, RtmpClient};

use super::api::read_head;
use super::chunked::Chunked;
use super::flv::{Parser, Tag, VIDEO};
use super::rtsp_viewer::Unit;
use super::{SOON, Server};

const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// How a viewer is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    HttpFlv,
    WsFlv,
    Rtmp,
}

impl Over {
    pub const ALL: [Over; 3] = [Over::HttpFlv, Over::WsFlv, Over::Rtmp];
}

/// What a viewer has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub tags: Vec<Tag>,
    /// When each of them was there.
    pub times: Vec<Instant>,
    /// The flags of the FLV header.
    pub flags: Option<u8>,
    /// Over WebSocket the FLV bytes as they came, over HTTP the body of an answer that is no stream.
    pub bytes: Vec<u8>,
    /// The head of the answer, or the codes of the statuses.
    pub said: String,
    /// The connection has ended, and how.
    pub ended: Option<String>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    changed: Condvar,
}

impl Seen {
    fn extend(&mut self, tags: impl IntoIterator<Item = Tag>) {
        self.tags.extend(tags);
        self.times.resize(self.tags.len(), Instant::now());
    }

    /// The frames of H.264 and AAC without what FLV puts in front of them.
    pub fn units(&self) -> Vec<Unit> {
        let frames = self.tags.iter().zip(&self.times).filter(|(tag, _)| tag.is_frame());
        let unit = |(tag, at): (&Tag, &Instant)| {
            let header_bytes = if tag.kind == VIDEO { 5 } else { 2 };
            Unit { kind: tag.kind, data: tag.body[header_bytes..].to_vec(), at: *at }
        };
        frames.map(unit).collect()
    }
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().unwrap());
        self.changed.notify_all();
    }
}

/// Collects the binary messages of a WebSocket until it is closed. `path`: with extension and query.
pub fn messages(server: &Server, path: &str) -> JoinHandle<Vec<Vec<u8>>> {
    let (socket, url) = (TcpStream::connect(server.http).unwrap(), format!("ws://{}/{path}", server.http));
    std::thread::spawn(move || {
        let (mut websocket, _) = tungstenite::client(url, socket).unwrap();
        let mut messages = Vec::new();
        loop {
            match websocket.read() {
                Ok(tungstenite::Message::Binary(bytes)) => messages.push(bytes.to_vec()),
                Ok(tungstenite::Message::Close(_)) | Err(_) => return messages,
                Ok(_) => {}
            }
        }
    })
}

/// A connected viewer; disconnects when dropped.
pub struct Viewer {
    pub name: String,
    socket: TcpStream,
    shared: Arc<Shared>,
}

impl Viewer {
    /// Asks for `path`: the stream's name, and a query if one is wanted.
    pub fn open(server: &Server, over: Over, path: &str) -> Self {
        let (name, query) = path.split_once('?').map_or((path, String::new()), |(name, query)| (name, format!("?{query}")));
        let (http, rtmp) = (server.http, server.rtmp);
        let who = format!("{over:?} {path}");
        match over {
            Over::HttpFlv => {
                let target = format!("/{name}.flv{query}");
                Viewer::start(who, http, move |socket, shared| read_http(socket, shared, &target))
            }
            Over::WsFlv => {
                let url = format!("ws://{http}/{name}.flv{query}");
                Viewer::start(who, http, move |socket, shared| read_websocket(socket, shared, &url))
            }
            Over::Rtmp => {
                let (app, name) = name.rsplit_once('/').unwrap();
                let client = RtmpClient::play(app, &format!("{name}{query}"), &format!("rtmp://{rtmp}/{app}"), MESSAGE_BYTES_MAX);
                Viewer::start(who, rtmp, move |socket, shared| read_rtmp(socket, shared, client))
            }
        }
    }

    fn start<R>(name: String, address: SocketAddr, reader: R) -> Self
    where
        R: FnOnce(TcpStream, &Shared) -> io::Result<String> + Send + 'static,
    {
        let socket = TcpStream::connect(address).unwrap();
        let shared = Arc::new(Shared::default());
        let viewer = Viewer { name, socket: socket.try_clone().unwrap(), shared: shared.clone() };
        std::thread::spawn(move || {
            let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| reader(socket, &shared)));
            let ended = read.map_or("not understood".to_owned(), |read| read.unwrap_or_else(|error| error.to_string()));
            shared.change(|seen| seen.ended = Some(ended));
        });
        viewer
    }

    pub fn seen(&self) -> Seen {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Waits until what was seen satisfies `enough`.
    #[track_caller]
    pub fn wait(&self, what: &str, enough: impl Fn(&Seen) -> bool) -> Seen {
        let deadline = Instant::now() + SOON;
        let mut seen = self.shared.seen.lock().unwrap();
        loop {
            if enough(&seen) {
                return seen.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || seen.ended.is_some() {
                let Seen { tags, said, ended, .. } = seen.clone();
                drop(seen);
                panic!("{} waited in vain: {what}; {} tags, said {said:?}, ended {ended:?}", self.name, tags.len());
            }
            seen = self.shared.changed.wait_timeout(seen, left.min(Duration::from_secs(1))).unwrap().0;
        }
    }

    /// Waits for at least `count` frames of one kind.
    #[track_caller]
    pub fn wait_frames(&self, kind: u8, count: usize) -> Seen {
        self.wait(&format!("{count} frames of kind {kind}"), |seen| super::flv::of_kind(&seen.tags, kind).count() >= count)
    }

    /// Waits for the end of the stream: over RTMP the connection may stay.
    #[track_caller]
    pub fn wait_over(&self) -> Seen {
        self.wait("the end of the stream", |seen| seen.ended.is_some() || seen.said.contains("NetStream.Play.UnpublishNotify"))
    }

    /// Waits for the end of the connection.
    #[track_caller]
    pub fn wait_end(&self) -> Seen {
        self.wait("the end", |seen| seen.ended.is_some())
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

fn take(shared: &Shared, parser: &mut Parser, bytes: &[u8]) {
    let tags = parser.push(bytes);
    shared.change(|seen| {
        seen.flags = parser.flags;
        seen.extend(tags);
    });
}

fn read_http(mut socket: TcpStream, shared: &Shared, target: &str) -> io::Result<String> {
    write!(socket, "GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let head = read_head(&mut socket)?;
    let is_flv = head.starts_with("HTTP/1.1 200");
    shared.change(|seen| seen.said = head);
    let (mut chunked, mut parser, mut buffer) = (Chunked::default(), Parser::default(), vec![0; 1 << 16]);
    loop {
        match socket.read(&mut buffer)? {
            0 if is_flv && !chunked.ended => return Ok("cut off".to_owned()),
            0 => return Ok("closed".to_owned()),
            count if is_flv => take(shared, &mut parser, &chunked.push(&buffer[..count])),
            count => shared.change(|seen| seen.bytes.extend_from_slice(&buffer[..count])),
        }
    }
}

/// The connection of a viewer over HTTP-FLV whose kernel buffer is as small as the kernel allows; nobody reads from it.
pub fn narrow_viewer(server: &Server, key: &str) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&server.http.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(SOON)).unwrap();
    write!(stream, "GET /{key}.flv HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert!(read_head(&mut stream).unwrap().starts_with("HTTP/1.1 200"));
    stream
}

fn read_websocket(socket: TcpStream, shared: &Shared, url: &str) -> io::Result<String> {
    let (mut websocket, answer) = match tungstenite::client(url, socket) {
        Ok(open) => open,
        Err(error) => return Ok(error.to_string()),
    };
    shared.change(|seen| seen.said = answer.status().to_string());
    let mut parser = Parser::default();
    loop {
        match websocket.read() {
            Ok(tungstenite::Message::Binary(bytes)) => {
                take(shared, &mut parser, &bytes);
                shared.change(|seen| seen.bytes.extend_from_slice(&bytes));
            }
            Ok(tungstenite::Message::Close(frame)) => {
                return Ok(frame.map_or("closed".to_owned(), |frame| format!("closed with code {}", u16::from(frame.code))));
            }
            Ok(_) => {}
            Err(error) => return Ok(error.to_string()),
        }
    }
}

fn read_rtmp(mut socket: TcpStream, shared: &Shared, mut client: RtmpClient) -> io::Result<String> {
    let (mut outputs, mut buffer, mut count) = (Vec::new(), vec![0; 1 << 16], 0);
    loop {
        if let Err(error) = client.handle(Stamp::ZERO, &buffer[..count], &mut outputs) {
            return Ok(format!("not RTMP: {error}"));
        }
        for output in outputs.drain(..) {
            match output {
                ClientOutput::Send(bytes) => socket.write_all(&bytes)?,
                ClientOutput::Event(ClientEvent::Message(message)) if matches!(message.message_type, 8 | 9 | 18) => {
                    let tag = Tag { kind: message.message_type, timestamp: message.timestamp, body: message.body.to_vec() };
                    shared.change(|seen| seen.extend([tag]));
                }
                ClientOutput::Event(ClientEvent::Status { code, .. }) => shared.change(|seen| {
                    seen.said.push_str(&code);
                    seen.said.push(' ');
                }),
                ClientOutput::Event(_) => {}
            }
        }
        count = socket.read(&mut buffer)?;
        if count == 0 {
            return Ok("closed".to_owned());
        }
    }
}
