//! For tests: shards that answer from a script, an HTTP client of a few lines, folders that go away.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::api::{App, router};
use super::gb28181::Desk;
use super::health::Health;
use super::listener::{Door, Places};
use super::shards::Shards;
use crate::config::Config;
use crate::disk::Disk;
use crate::hub::stats::{Latency, StreamCounters};
use crate::media::{Stamp, Tracks};
use crate::session::{Reception, Refusal, Sending, StreamKey};
use crate::shard::message::*;

/// What one shard answers.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub streams: Vec<StreamSnapshot>,
    pub sessions: Vec<SessionSnapshot>,
    pub shard: ShardSnapshot,
    pub receptions: Vec<(SessionId, Reception)>,
    pub sendings: Vec<(SessionId, Sending)>,
    /// No receiver is started, for this reason.
    pub refuses: Option<Refusal>,
    /// Takes commands and answers none.
    pub silent: bool,
}

/// Sessions that were closed, in order.
pub type Closed = Arc<Mutex<Vec<SessionId>>>;

pub fn spawn_shard(script: Script, closed: Closed) -> flume::Sender<Command> {
    let (commands, inbox) = flume::unbounded();
    std::thread::spawn(move || {
        // A silent shard keeps the reply channels open, as one that hangs does.
        let mut unanswered = Vec::new();
        for command in inbox.iter() {
            if script.silent {
                unanswered.push(command);
                continue;
            }
            match command {
                Command::Streams { key, reply } => {
                    let wanted = |stream: &StreamSnapshot| key.as_ref().is_none_or(|key| *key == stream.key);
                    reply.send(script.streams.iter().filter(|stream| wanted(stream)).cloned().collect()).unwrap();
                }
                Command::Names(reply) => reply.send(script.streams.iter().map(|stream| stream.key.clone()).collect()).unwrap(),
                Command::Sessions(reply) => reply.send(script.sessions.clone()).unwrap(),
                Command::Shard(reply) => reply.send(script.shard.clone()).unwrap(),
                Command::Close { session, done, .. } => {
                    closed.lock().unwrap().push(session);
                    done.send(script.sessions.iter().any(|known| known.id == session)).unwrap();
                }
                Command::Receive { session, reply, .. } | Command::Adopt { session, reply, .. } => {
                    let id = SessionId { shard: 0, number: 9 };
                    let answer = match (script.refuses, session.reception()) {
                        (Some(refusal), _) => Receiving::Refused(refusal),
                        (None, Some(reception)) => Receiving::Started(id, reception),
                        (None, None) => Receiving::Sends(id, session.sending().unwrap()),
                    };
                    reply.send(answer).unwrap();
                }
                Command::Sendings(reply) => reply.send(script.sendings.clone()).unwrap(),
                Command::Receptions(reply) => reply.send(script.receptions.clone()).unwrap(),
                Command::Expect { done, .. } => done.send(true).unwrap(),
                Command::Record { key, wish, reply } => {
                    let is_there = script.streams.iter().any(|stream| stream.key == key);
                    let answer = RecordAnswer::Started(wish.format.unwrap_or_default());
                    reply.send(if is_there { answer } else { RecordAnswer::NotHere }).unwrap();
                }
                Command::StopRecording { key, reply, .. } => {
                    reply.send(script.streams.iter().filter(|stream| stream.key == key).count()).unwrap();
                }
                Command::Recorders(reply) => reply.send(Vec::new()).unwrap(),
                Command::PublishClip(_) => {}
                Command::Drain => return,
            }
        }
    });
    commands
}

/// A control plane over scripted shards, on a free port.
pub struct Server {
    pub address: SocketAddr,
    pub app: Arc<App>,
    pub closed: Closed,
    /// Serving ends when this is dropped.
    _running: flume::Sender<()>,
}

impl Server {
    pub fn start(config: Config, scripts: Vec<Script>) -> Self {
        Server::with_platform(config, scripts, None)
    }

    pub fn with_platform(config: Config, scripts: Vec<Script>, platform: Option<Desk>) -> Self {
        let closed = Closed::default();
        let heartbeats = scripts.iter().map(|_| Default::default()).collect();
        let commands = scripts.into_iter().map(|script| spawn_shard(script, closed.clone())).collect();
        let app = Arc::new(App::new(
            Arc::new(config),
            Shards::new(commands),
            Arc::new(Health::new(heartbeats)),
            platform,
            Disk::none(),
        ));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = {
            let _inside = runtime.enter();
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            tokio::net::TcpListener::from_std(listener).unwrap()
        };
        let address = listener.local_addr().unwrap();
        let served = router(app.clone());
        let door = Door { listener, places: Places::default() };
        let (running, ended) = flume::bounded::<()>(1);
        std::thread::spawn(move || {
            runtime.block_on(async move {
                tokio::spawn(async move { axum::serve(door, served).await });
                let _ = ended.recv_async().await;
            });
        });
        Server { address, app, closed, _running: running }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "", "")
    }

    /// `headers`: whole lines, each with its CRLF.
    pub fn request(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let mut socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{length}{headers}\r\n", self.address);
        socket.write_all(head.as_bytes()).unwrap();
        socket.write_all(body.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }
}

/// An HTTP answer; the head is in lower case.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        assert!(self.head.contains("content-type: application/json"), "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }

    #[track_caller]
    pub fn error(&self) -> (u16, String) {
        (self.status, self.json()["error"].as_str().unwrap().to_owned())
    }
}

/// `viewers` packets after each of `ms`.
pub fn latency(ms: &[u64], viewers: u32) -> Latency {
    let mut latency = Latency::default();
    ms.iter().for_each(|ms| latency.record(Stamp::from_millis(1), Stamp::from_millis(1 + ms), viewers));
    latency
}

/// A watcher's view of `key` on `shard`, owned by shard 0.
pub fn watched(key: &str, shard: ShardId, viewers: u64) -> StreamSnapshot {
    StreamSnapshot {
        key: StreamKey::parse(key).unwrap(),
        shard,
        role: StreamRole::Watcher { owner: 0 },
        tracks: Tracks::default(),
        counters: StreamCounters::default(),
        viewers: vec![("rtmp", viewers)],
        latency: Vec::new(),
        segments: None,
        recorders: Vec::new(),
    }
}

/// The owner's view of `key` on `shard`, with a publisher.
pub fn owned(key: &str, shard: ShardId, viewers: u64) -> StreamSnapshot {
    let publisher = PublisherSnapshot {
        session: SessionId { shard, number: 7 },
        peer: Some(([192, 0, 2, 1], 50_000).into()),
        protocol: "rtmp",
        agent: Some("FMLE/3.0".to_owned()),
    };
    let role = StreamRole::Owner { publisher: Some(publisher), watching_shards: Vec::new(), age_ms: 90_000 };
    StreamSnapshot { role, ..watched(key, shard, viewers) }
}

pub fn session(shard: ShardId, number: u64, role: SessionRole, stream: Option<&str>) -> SessionSnapshot {
    SessionSnapshot {
        id: SessionId { shard, number },
        peer: Some(([192, 0, 2, 9], 40_000).into()),
        protocol: "http-flv",
        role,
        stream: stream.map(|key| StreamKey::parse(key).unwrap()),
        agent: None,
        age_ms: 5_000,
        bytes_in: 100,
        bytes_out: 2_000,
        lag_ms: 3,
        skips: 1,
    }
}

/// A folder of its own, gone with this.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// `name`: unique in this process.
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("shardcast-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What a test leaves behind fails no test.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
