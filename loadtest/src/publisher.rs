//! One publisher: an RTMP client that sends the clip on time.
//!
//! Each access unit is stamped right before it is given to the kernel. What the kernel does not take at once waits in one buffer, so a
//! slow server shows as latency, not as a late stamp.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

use shardcast::format::rtmp_chunk::{MessageHeader, OUT_CHUNK_SIZE, chunk_stream, message_type, write_message};
use shardcast::media::Stamp;
use shardcast::protocol::rtmp::client::{ClientEvent, ClientOutput, RtmpClient};

use crate::args::LoadArgs;
use crate::clip::Clip;
use crate::mark::Mark;
use crate::poll::now;
use crate::tally::Tally;

const NANOS: u64 = 1_000_000_000;
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

pub struct Publisher {
    number: u16,
    socket: TcpStream,
    client: RtmpClient,
    clip: Rc<Clip>,
    frames_per_second: u64,
    /// When the first frame is due, once the server has agreed.
    began: Option<u64>,
    /// How far this one's first frame stands behind the agreement, so that publishers do not all send at once.
    offset: u64,
    message_stream: u32,
    video: u64,
    audio: u64,
    out: Vec<u8>,
    /// Bytes of `out` that the kernel has taken.
    taken: usize,
}

impl Publisher {
    pub fn connect(number: u16, args: &LoadArgs, clip: Rc<Clip>) -> io::Result<Publisher> {
        let socket = TcpStream::connect(&args.url.address)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let name = args.url.stream_name(number.into(), args.publishers);
        let client = RtmpClient::publish(&args.url.app, &name, &args.url.tc_url(), MESSAGE_BYTES_MAX);
        let frames_per_second = u64::from(args.fps);
        let offset = NANOS / frames_per_second * u64::from(number) / u64::from(args.publishers);
        let mut publisher = Publisher {
            number,
            socket,
            client,
            clip,
            frames_per_second,
            began: None,
            offset,
            message_stream: 0,
            video: 0,
            audio: 0,
            out: Vec::new(),
            taken: 0,
        };
        publisher.handle(&[])?;
        publisher.flush()?;
        Ok(publisher)
    }

    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub fn is_live(&self) -> bool {
        self.began.is_some()
    }

    /// Whether the kernel has to take more.
    pub fn is_blocked(&self) -> bool {
        self.taken < self.out.len()
    }

    /// Reads what the server says.
    pub fn readable(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        match self.socket.read(buffer) {
            Ok(0) => Err(io::Error::other("the server closed the connection")),
            Ok(count) => {
                self.handle(&buffer[..count])?;
                self.flush()
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn handle(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut outputs = Vec::new();
        self.client.handle(Stamp::from_nanos(now()), bytes, &mut outputs).map_err(|error| io::Error::other(error.to_string()))?;
        for output in outputs {
            match output {
                ClientOutput::Send(bytes) => self.out.extend_from_slice(&bytes),
                ClientOutput::Event(ClientEvent::Ready { message_stream }) => self.begin(message_stream),
                ClientOutput::Event(ClientEvent::Status { error: true, code, description }) => {
                    return Err(io::Error::other(format!("the server says {code}: {description}")));
                }
                ClientOutput::Event(_) => {}
            }
        }
        Ok(())
    }

    fn begin(&mut self, message_stream: u32) {
        self.message_stream = message_stream;
        self.began = Some(now() + self.offset);
        for tag in &self.clip.config {
            for part in self.client.write_tag(tag) {
                self.out.extend_from_slice(&part);
            }
        }
    }

    /// When the next frame is due; never, before the server has agreed.
    pub fn next_due(&self) -> u64 {
        self.began.map_or(u64::MAX, |began| began + self.video_offset().min(self.audio_offset()))
    }

    fn video_offset(&self) -> u64 {
        self.video * NANOS / self.frames_per_second
    }

    fn audio_offset(&self) -> u64 {
        self.audio * self.clip.audio_nanos
    }

    /// Sends all frames that are due.
    pub fn send_due(&mut self, tally: &mut Tally) -> io::Result<()> {
        while self.next_due() <= now() {
            let due = self.next_due();
            if self.video_offset() <= self.audio_offset() {
                self.send_video(due, tally);
            } else {
                self.send_audio();
            }
        }
        self.flush()
    }

    fn send_video(&mut self, due: u64, tally: &mut Tally) {
        let planned = self.clip.video(self.video);
        let millis = |frames: u64| frames * 1000 / self.frames_per_second;
        let timestamp = millis(self.video);
        let [_, c2, c1, c0] = ((millis(self.video + u64::from(planned.delay)) - timestamp) as u32).to_be_bytes();
        let head = [if planned.key { 0x17 } else { 0x27 }, 1, c2, c1, c0];
        let sent = now();
        let mark = Mark { sent, sequence: self.video as u32, publisher: self.number };
        tally.sent(&mark, sent - due);
        let [filler_head, filler, filler_end] = planned.filler;
        let payload = [&head[..], &mark.encode(), planned.data, filler_head, filler, filler_end];
        let header = self.header(chunk_stream::VIDEO, message_type::VIDEO, timestamp);
        write_message(&header, &payload, OUT_CHUNK_SIZE, &mut self.out);
        self.video += 1;
    }

    fn send_audio(&mut self) {
        const AAC_RAW: [u8; 2] = [0xAF, 1];
        let header = self.header(chunk_stream::AUDIO, message_type::AUDIO, self.audio_offset() / 1_000_000);
        let audio = self.clip.audio(self.audio).clone();
        write_message(&header, &[&AAC_RAW, &audio], OUT_CHUNK_SIZE, &mut self.out);
        self.audio += 1;
    }

    fn header(&self, chunk_stream: u8, message_type: u8, timestamp: u64) -> MessageHeader {
        MessageHeader { chunk_stream, timestamp: timestamp as u32, message_type, message_stream: self.message_stream }
    }

    /// Gives the kernel what it takes.
    pub fn flush(&mut self) -> io::Result<()> {
        while self.is_blocked() {
            match self.socket.write(&self.out[self.taken..]) {
                Ok(count) => self.taken += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.taken = 0;
        Ok(())
    }
}
