//! A publisher of our own: sends the tags that a test gives it, when the test says so.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use shardcast::format::flv::TagType;
use shardcast::format::flv_mux;
use shardcast::media::Stamp;
use shardcast::protocol::rtmp::client::{ClientEvent, ClientOutput, RtmpClient};

use super::flv::Tag;
use super::{SOON, Server};

const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// A connection that publishes. Dropping it is a crash: no goodbye.
pub struct Publisher {
    client: RtmpClient,
    socket: TcpStream,
}

impl Publisher {
    #[track_caller]
    pub fn connect(server: &Server, key: &str) -> Self {
        Publisher::try_connect(server, key).unwrap_or_else(|why| panic!("{key} cannot be published: {why}"))
    }

    /// The status code if the server refuses.
    pub fn try_connect(server: &Server, key: &str) -> Result<Self, String> {
        let (app, name) = key.rsplit_once('/').unwrap();
        let url = format!("rtmp://{}/{app}", server.rtmp);
        let mut client = RtmpClient::publish(app, name, &url, MESSAGE_BYTES_MAX).with_four_ccs(&["hvc1", "av01", "vp09", "Opus"]);
        let mut socket = TcpStream::connect(server.rtmp).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let (mut outputs, mut buffer, mut count) = (Vec::new(), vec![0; 1 << 14], 0);
        loop {
            client.handle(Stamp::ZERO, &buffer[..count], &mut outputs).map_err(|error| error.to_string())?;
            for output in outputs.drain(..) {
                match output {
                    ClientOutput::Send(bytes) => socket.write_all(&bytes).map_err(|error| error.to_string())?,
                    ClientOutput::Event(ClientEvent::Ready { .. }) => {
                        discard_answers(&socket);
                        return Ok(Publisher { client, socket });
                    }
                    ClientOutput::Event(ClientEvent::Status { error: true, code, .. }) => return Err(code),
                    ClientOutput::Event(_) => {}
                }
            }
            count = socket.read(&mut buffer).map_err(|error| error.to_string())?;
            if count == 0 {
                return Err("closed".to_owned());
            }
        }
    }

    /// `false`: the connection is gone.
    pub fn send(&mut self, tag: &Tag) -> bool {
        let kind = TagType::from_byte(tag.kind).unwrap();
        let tag =
            flv_mux::Tag { tag: kind, timestamp_ms: tag.timestamp, head: tag.body.as_slice().into(), body: Default::default() };
        self.client.write_tag(&tag).iter().all(|part| self.socket.write_all(part).is_ok())
    }

    /// Says goodbye: the stream ends at once.
    pub fn finish(mut self) {
        let mut outputs = Vec::new();
        self.client.finish(&mut outputs);
        for output in outputs {
            if let ClientOutput::Send(bytes) = output {
                self.socket.write_all(&bytes).unwrap();
            }
        }
    }

    /// Sends tags in real time on a thread of its own, over and over.
    pub fn stream(self, tags: Vec<Tag>) -> Streaming {
        let last = tags.iter().map(|tag| tag.timestamp).max().unwrap_or(0);
        self.stream_every(tags, last + 40)
    }

    /// As [`Publisher::stream`], where it is given how long tags last.
    pub fn stream_every(self, tags: Vec<Tag>, period_ms: u32) -> Streaming {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || send_in_real_time(self, &tags, period_ms, &stopped));
        Streaming { stop, thread: Some(thread) }
    }
}

impl Drop for Publisher {
    /// Also where others still have the socket, such as who reads its answers.
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}

fn discard_answers(socket: &TcpStream) {
    let mut socket = socket.try_clone().unwrap();
    socket.set_read_timeout(None).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while matches!(socket.read(&mut buffer), Ok(count) if count > 0) {}
    });
}

/// Returns the publisher and everything that it sent.
fn send_in_real_time(mut publisher: Publisher, tags: &[Tag], period_ms: u32, stop: &AtomicBool) -> (Publisher, Vec<Tag>) {
    let (began, mut sent) = (Instant::now(), Vec::new());
    for round in 0.. {
        for tag in tags.iter().filter(|tag| round == 0 || tag.is_frame()) {
            let timestamp = tag.timestamp + round * period_ms;
            let due = began + Duration::from_millis(timestamp.into());
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let tag = Tag { timestamp, ..tag.clone() };
            if stop.load(Ordering::Relaxed) || !publisher.send(&tag) {
                return (publisher, sent);
            }
            sent.push(tag);
        }
    }
    unreachable!("the rounds do not end")
}

/// A publisher at work; crashes when dropped.
pub struct Streaming {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<(Publisher, Vec<Tag>)>>,
}

impl Streaming {
    /// Stops sending; the connection stays.
    pub fn stop(mut self) -> (Publisher, Vec<Tag>) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }

    /// Ends the stream in order; returns what was sent.
    pub fn finish(self) -> Vec<Tag> {
        let (publisher, sent) = self.stop();
        publisher.finish();
        sent
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
