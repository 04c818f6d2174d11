//! The TCP connections that carry SIP: bytes in, cut into messages; messages out, in order.
//!
//! Each has a task of its own that reads and writes; the host of the platform owns the table. Limits, and what happens there: so many
//! connections (more are closed at once); [`STRANGERS_MAX`] of them, and [`STRANGERS_OF_ONE_MAX`] of one address, to which the platform has not
//! yet said anything good (the oldest goes); a message must be
//! whole within [`WHOLE_MESSAGE`]; [`UNSENT_BYTES_MAX`] wait for one that takes nothing (it is closed); all together hold
//! [`SIP_HELD_BYTES_MAX`] (the largest holder goes). Each is counted. Not here: what the messages say, and connections that carry media.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::counters::{Counters, Way};
use super::host::Event;
use super::udp::Locals;
use crate::config::SIP_HELD_BYTES_MAX;
use crate::protocol::gb28181::sip::framing::{Framing, FramingError};
use crate::protocol::gb28181::sip::{Carrier, ConnectionId, Hop};

/// Connections of which nothing has come that the platform takes for a device's: whoever may not register stays a stranger.
pub const STRANGERS_MAX: usize = 256;
/// Of one address. Devices behind one router are no strangers once they have registered.
const STRANGERS_OF_ONE_MAX: usize = 64;
/// How long the first message, and the rest of one that has begun, is waited for.
const WHOLE_MESSAGE: Duration = Duration::from_secs(10);
/// How long a connection may take nothing while something waits for it.
const WRITE: Duration = Duration::from_secs(10);
const UNSENT_BYTES_MAX: usize = 1024 * 1024;
const UNSENT_MESSAGES_MAX: usize = 256;
const READ_BYTES: usize = 16 * 1024;
/// After a failed accept (no file descriptors): how long to wait for better times.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Accepts for ever.
pub async fn accept(listener: TcpListener, events: mpsc::Sender<Event>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if events.send(Event::Accepted { stream, peer }).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                log::warn!("SIP over TCP cannot accept: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What one connection holds, and with it all. All who count are on one thread.
#[derive(Debug)]
struct Share {
    own: AtomicUsize,
    all: Arc<AtomicUsize>,
    /// The connection is closed: its bytes count no more, although its task is still to let go of them.
    forgotten: AtomicBool,
}

impl Share {
    fn add(&self, bytes: usize) {
        if !self.forgotten.load(Ordering::Relaxed) {
            self.own.fetch_add(bytes, Ordering::Relaxed);
            self.all.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    fn give_back(&self, bytes: usize) {
        if !self.forgotten.load(Ordering::Relaxed) {
            self.own.fetch_sub(bytes, Ordering::Relaxed);
            self.all.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    fn forget(&self) {
        self.give_back(self.own());
        self.forgotten.store(true, Ordering::Relaxed);
    }

    fn own(&self) -> usize {
        self.own.load(Ordering::Relaxed)
    }
}

/// Bytes that count until this is gone.
#[derive(Debug)]
pub struct Held {
    share: Arc<Share>,
    bytes: usize,
}

impl Held {
    fn new(share: &Arc<Share>, bytes: usize) -> Self {
        share.add(bytes);
        Held { share: share.clone(), bytes }
    }

    fn set(&mut self, bytes: usize) {
        self.share.add(bytes);
        self.share.give_back(std::mem::replace(&mut self.bytes, bytes));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.share.give_back(self.bytes);
    }
}

/// Without its end of the queue the task sends what waits there, and ends.
#[derive(Debug)]
struct Connection {
    out: mpsc::Sender<(Bytes, Held)>,
    share: Arc<Share>,
    task: AbortHandle,
}

/// All of them.
#[derive(Debug)]
pub struct TcpConnections {
    open: HashMap<ConnectionId, Connection>,
    /// The oldest first.
    strangers: VecDeque<(ConnectionId, IpAddr)>,
    next: u64,
    max: usize,
    idle: Duration,
    held: Arc<AtomicUsize>,
    locals: Locals,
    events: mpsc::Sender<Event>,
    counters: Arc<Counters>,
}

impl TcpConnections {
    pub fn new(max: usize, idle: Duration, locals: Locals, events: mpsc::Sender<Event>, counters: Arc<Counters>) -> Self {
        let held = Arc::default();
        TcpConnections { open: HashMap::new(), strangers: VecDeque::new(), next: 1, max, idle, held, locals, events, counters }
    }

    /// Takes a new connection in, or says why not. Returns those that had to go for it, too.
    pub fn accepted(&mut self, stream: TcpStream, peer: SocketAddr) -> (Vec<ConnectionId>, Result<(), String>) {
        let refusal = match self.begin(stream, peer) {
            Ok(Hop { carrier: Carrier::Tcp(id), .. }) => {
                self.strangers.push_back((id, peer.ip().to_canonical()));
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(why) => Err(format!("SIP over TCP from {peer} is refused: {why}")),
        };
        (self.replace_strangers(peer.ip().to_canonical()), refusal)
    }

    /// Takes a connection in that has been made to another platform.
    pub fn connected(&mut self, stream: TcpStream, peer: SocketAddr) -> Result<Hop, String> {
        self.begin(stream, peer)
    }

    fn begin(&mut self, stream: TcpStream, peer: SocketAddr) -> Result<Hop, String> {
        if self.open.len() >= self.max {
            self.counters.dropped("connections_full");
            return Err(format!("{} connections are open", self.max));
        }
        let local = stream.local_addr().map_err(|error| error.to_string())?;
        let local = self.locals.of(local, peer).ok_or_else(|| format!("there is no way back to {peer}"))?;
        let id = ConnectionId(self.next);
        self.next += 1;
        // A message is sent as a whole; waiting for more of it would only be slow.
        let _ = stream.set_nodelay(true);
        let (out, unsent) = mpsc::channel(UNSENT_MESSAGES_MAX);
        let share = Arc::new(Share { own: AtomicUsize::new(0), all: self.held.clone(), forgotten: AtomicBool::new(false) });
        let hop = Hop { carrier: Carrier::Tcp(id), peer, local };
        let (events, counters) = (self.events.clone(), self.counters.clone());
        let task = Task { stream, hop, share: share.clone(), events, idle: self.idle, counters };
        let task = tokio::spawn(task.run(id, unsent)).abort_handle();
        self.open.insert(id, Connection { out, share, task });
        self.counters.set_connections(self.open.len());
        Ok(hop)
    }

    /// `newest`: the address of the one that has come last.
    fn replace_strangers(&mut self, newest: IpAddr) -> Vec<ConnectionId> {
        let mut gone = Vec::new();
        loop {
            let is_of_newest = |(_, ip): &&(ConnectionId, IpAddr)| *ip == newest;
            let oldest = if self.strangers.iter().filter(is_of_newest).count() > STRANGERS_OF_ONE_MAX {
                self.strangers.iter().find(is_of_newest)
            } else if self.strangers.len() > STRANGERS_MAX {
                self.strangers.front()
            } else {
                return gone;
            };
            let Some((oldest, _)) = oldest.copied() else { return gone };
            self.welcome(oldest);
            if self.close(oldest) {
                self.counters.dropped("stranger_replaced");
                gone.push(oldest);
            }
        }
    }

    /// The platform takes it for a device's.
    pub fn welcome(&mut self, id: ConnectionId) {
        // Connections that have proven themselves were strangers a short while ago.
        if let Some(at) = self.strangers.iter().rposition(|(stranger, _)| *stranger == id) {
            self.strangers.remove(at);
        }
    }

    /// `false`: there is no such connection now; if there was one, it is closed because it takes nothing.
    #[must_use]
    pub fn send(&mut self, id: ConnectionId, bytes: Bytes) -> bool {
        let Some(connection) = self.open.get(&id) else {
            self.counters.dropped("no_connection");
            return false;
        };
        let held = Held::new(&connection.share, bytes.len());
        if connection.share.own() <= UNSENT_BYTES_MAX && connection.out.try_send((bytes, held)).is_ok() {
            return true;
        }
        self.counters.dropped("connection_stalled");
        connection.task.abort();
        self.ended(id);
        false
    }

    /// Closes it, once what waits has been sent. Returns whether it was there.
    pub fn close(&mut self, id: ConnectionId) -> bool {
        let was_there = self.open.remove(&id).is_some();
        self.counters.set_connections(self.open.len());
        was_there
    }

    /// A connection has ended by itself. Returns whether it was there.
    pub fn ended(&mut self, id: ConnectionId) -> bool {
        self.welcome(id);
        self.close(id)
    }

    /// Closes the largest holders while all hold more than they may. Returns those.
    pub fn make_room(&mut self) -> Vec<ConnectionId> {
        let mut gone = Vec::new();
        while self.held.load(Ordering::Relaxed) > SIP_HELD_BYTES_MAX {
            let largest = self.open.iter().map(|(id, connection)| (connection.share.own(), *id)).max();
            let Some((_, id)) = largest.filter(|(bytes, _)| *bytes > 0) else { break };
            self.counters.dropped("held_bytes");
            self.open[&id].share.forget();
            self.open[&id].task.abort();
            self.ended(id);
            gone.push(id);
        }
        gone
    }
}

/// Whether what the platform sends on a connection shows that it takes it for a device's: a request, or an answer that accepts one. Anybody's
/// OPTIONS are accepted, which shows nothing.
pub fn is_welcome(sent: &[u8]) -> bool {
    let Some(status) = sent.strip_prefix(b"SIP/2.0 ") else { return true };
    let is_of_options = || sent.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"CSeq:") && has_options(line));
    status.first() == Some(&b'2') && !is_of_options()
}

fn has_options(line: &[u8]) -> bool {
    line.trim_ascii_end().ends_with(b"OPTIONS")
}

/// What serves one connection.
struct Task {
    stream: TcpStream,
    hop: Hop,
    share: Arc<Share>,
    events: mpsc::Sender<Event>,
    idle: Duration,
    counters: Arc<Counters>,
}

impl Task {
    async fn run(self, id: ConnectionId, unsent: mpsc::Receiver<(Bytes, Held)>) {
        let why = tokio::select! {
            why = self.read() => why,
            why = self.write(unsent) => why,
        };
        log::debug!("SIP over TCP with {}: {why}", self.hop.peer);
        drop(self.stream);
        // If nobody listens, the server is ending.
        let _ = self.events.send(Event::Closed(id)).await;
    }

    async fn read(&self) -> &'static str {
        let mut framing = Framing::default();
        let mut held = Held::new(&self.share, 0);
        let mut messages = Vec::new();
        let mut deadline = Instant::now() + WHOLE_MESSAGE;
        loop {
            match timeout_at(deadline, self.stream.readable()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return "it has failed",
                Err(_) => {
                    self.counters.dropped("connection_silent");
                    return "it says nothing, or not all";
                }
            }
            let was_whole = framing.held_bytes() == 0;
            let taken = take(&self.stream, &mut framing, &mut messages);
            match &taken {
                Taken::Bytes | Taken::Nonsense(_) => {}
                Taken::Nothing => continue,
                Taken::End => return "it has ended",
            }
            held.set(framing.held_bytes());
            let has_begun = framing.held_bytes() > 0;
            if !has_begun {
                deadline = Instant::now() + self.idle;
            } else if was_whole || !messages.is_empty() {
                deadline = Instant::now() + WHOLE_MESSAGE;
            }
            for bytes in messages.drain(..) {
                self.counters.received(Way::Tcp);
                let held = Held::new(&self.share, bytes.len());
                if self.events.send(Event::Message { hop: self.hop, bytes, held: Some(held) }).await.is_err() {
                    return "the server is ending";
                }
            }
            if let Taken::Nonsense(error) = taken {
                self.counters.dropped(error.reason());
                // A last word, if the kernel takes it: nothing follows it.
                let _ = error.answer.map(|answer| self.stream.try_write(&answer));
                return "it sends what is no message";
            }
            if self.share.all.load(Ordering::Relaxed) > SIP_HELD_BYTES_MAX && self.events.send(Event::Crowded).await.is_err() {
                return "the server is ending";
            }
        }
    }

    async fn write(&self, mut unsent: mpsc::Receiver<(Bytes, Held)>) -> &'static str {
        while let Some((bytes, _held)) = unsent.recv().await {
            let mut sent = 0;
            while sent < bytes.len() {
                match timeout(WRITE, self.stream.writable()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return "it has failed",
                    Err(_) => {
                        self.counters.dropped("connection_stalled");
                        return "it takes nothing";
                    }
                }
                match self.stream.try_write(&bytes[sent..]) {
                    Ok(count) => sent += count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return "it has failed",
                }
            }
            self.counters.sent(Way::Tcp);
        }
        "it is closed by the platform"
    }
}

enum Taken {
    Bytes,
    Nothing,
    End,
    /// What comes cannot be cut into messages.
    Nonsense(FramingError),
}

/// Reads once. The buffer is on the stack: a connection that waits has none.
fn take(stream: &TcpStream, framing: &mut Framing, messages: &mut Vec<Bytes>) -> Taken {
    let mut buffer = [0; READ_BYTES];
    match stream.try_read(&mut buffer) {
        Ok(0) => Taken::End,
        Ok(count) => {
            let mut rest = &buffer[..count];
            loop {
                match framing.next(&mut rest) {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => return Taken::Bytes,
                    Err(error) => return Taken::Nonsense(error),
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Taken::Nothing,
        Err(_) => Taken::End,
    }
}
