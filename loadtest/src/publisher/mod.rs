//! One publisher: sends the clip on time, over RTMP or RTSP.
//!
//! Each access unit is stamped right before it is given to the kernel. What the kernel does not take at once on a connection waits in
//! one buffer, so a slow server shows as latency, not as a late stamp.

mod rtmp;
mod rtsp;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

use bytes::Bytes;

use self::rtmp::RtmpPublisher;
use self::rtsp::RtspPublisher;
use crate::args::{LoadArgs, Publish};
use crate::clip::{Clip, Planned};
use crate::load::Buffers;
use crate::mark::{MARK_BYTES, Mark};
use crate::poll::{NANOS_PER_SECOND, now};
use crate::tally::Tally;

/// One access unit on its way out.
struct Picture<'a> {
    planned: Planned<'a>,
    mark: [u8; MARK_BYTES],
    /// Counts from the beginning.
    number: u64,
    frames_per_second: u64,
    /// Now, and since the beginning, in nanoseconds.
    now: u64,
    elapsed: u64,
}

impl Picture<'_> {
    /// Decoding and presentation time in ticks of a clock.
    fn times(&self, ticks_per_second: u64) -> (u64, u64) {
        let ticks = |frames: u64| frames * ticks_per_second / self.frames_per_second;
        (ticks(self.number), ticks(self.number + u64::from(self.planned.delay)))
    }
}

enum Wire {
    Rtmp(Box<RtmpPublisher>),
    Rtsp(Box<RtspPublisher>),
}

pub struct Publisher {
    number: u16,
    socket: TcpStream,
    wire: Wire,
    clip: Rc<Clip>,
    frames_per_second: u64,
    /// When the first frame is due, once the server has agreed.
    began: Option<u64>,
    /// How far this one's first frame stands behind the agreement, so that neither frames nor keyframes of all come at once.
    offset: u64,
    video: u64,
    audio: u64,
    out: Vec<u8>,
    /// Bytes of `out` that the kernel has taken.
    taken: usize,
}

impl Publisher {
    pub fn connect(number: u16, args: &LoadArgs, address: SocketAddr, clip: Rc<Clip>) -> io::Result<Publisher> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let mut out = Vec::new();
        let wire = match args.publish {
            Publish::Gb28181 => return Err(io::Error::other("devices do not publish over a connection of their own")),
            Publish::Rtmp => Wire::Rtmp(Box::new(RtmpPublisher::new(number, args, &mut out)?)),
            Publish::RtspTcp | Publish::RtspUdp => {
                Wire::Rtsp(Box::new(RtspPublisher::new(number, args, &socket, &clip, &mut out)?))
            }
        };
        let frames_per_second = u64::from(args.fps);
        let spread = NANOS_PER_SECOND / frames_per_second + clip.frames_per_gop as u64 * NANOS_PER_SECOND / frames_per_second;
        let offset = spread * u64::from(number) / u64::from(args.publishers);
        let (began, video, audio, taken) = (None, 0, 0, 0);
        let mut publisher = Publisher { number, socket, wire, clip, frames_per_second, began, offset, video, audio, out, taken };
        publisher.flush()?;
        Ok(publisher)
    }

    /// The connection, then the sockets for datagrams.
    pub fn sockets(&self) -> Vec<RawFd> {
        let datagrams = match &self.wire {
            Wire::Rtmp(_) => Vec::new(),
            Wire::Rtsp(publisher) => publisher.sockets(),
        };
        [vec![self.socket.as_raw_fd()], datagrams].concat()
    }

    pub fn is_live(&self) -> bool {
        self.began.is_some()
    }

    /// Whether the kernel has to take more.
    pub fn is_blocked(&self) -> bool {
        self.taken < self.out.len()
    }

    /// Packets that the server reports as lost on their way to it; `None`: this protocol has no such report.
    pub fn reported_lost(&self) -> Option<i64> {
        match &self.wire {
            Wire::Rtmp(_) => None,
            Wire::Rtsp(publisher) => publisher.reported_lost(),
        }
    }

    /// Datagrams that the kernel did not take.
    pub fn unsent(&self) -> u64 {
        match &self.wire {
            Wire::Rtmp(_) => 0,
            Wire::Rtsp(publisher) => publisher.unsent,
        }
    }

    /// Reads what the server says. `socket`: an index into [`Publisher::sockets`].
    pub fn readable(&mut self, socket: usize, buffers: &mut Buffers) -> io::Result<()> {
        if let (Wire::Rtsp(publisher), 1..) = (&mut self.wire, socket) {
            return publisher.datagrams(socket - 1, &mut buffers.datagrams);
        }
        match self.socket.read(&mut buffers.stream) {
            Ok(0) => Err(io::Error::other("the server closed the connection")),
            Ok(count) => {
                let bytes = &buffers.stream[..count];
                let agreed = match &mut self.wire {
                    Wire::Rtmp(publisher) => publisher.handle(bytes, &self.clip, &mut self.out)?,
                    Wire::Rtsp(publisher) => publisher.handle(bytes, &mut self.out)?,
                };
                if agreed && self.began.is_none() {
                    self.began = Some(now() + self.offset);
                }
                self.flush()
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// When the next frame is due; never, before the server has agreed.
    pub fn next_due(&self) -> u64 {
        self.began.map_or(u64::MAX, |began| began + self.video_offset().min(self.audio_offset()))
    }

    fn video_offset(&self) -> u64 {
        self.video * NANOS_PER_SECOND / self.frames_per_second
    }

    fn audio_offset(&self) -> u64 {
        self.audio * self.clip.audio_nanos
    }

    /// Sends all frames that are due.
    pub fn send_due(&mut self, tally: &mut Tally) -> io::Result<()> {
        while self.next_due() <= now() {
            let bytes = if self.video_offset() <= self.audio_offset() {
                self.send_video(self.next_due(), tally)?
            } else {
                self.send_audio()?
            };
            tally.published(now(), bytes);
        }
        self.flush()
    }

    /// Says how many bytes that made.
    fn send_video(&mut self, due: u64, tally: &mut Tally) -> io::Result<usize> {
        let now = now();
        let mark = Mark { sent: now, sequence: self.video as u32, publisher: self.number };
        tally.sent(&mark, now - due);
        let picture = Picture {
            planned: self.clip.video(self.video),
            mark: mark.encode(),
            number: self.video,
            frames_per_second: self.frames_per_second,
            now,
            elapsed: now - self.began.unwrap_or(now),
        };
        self.video += 1;
        match &mut self.wire {
            Wire::Rtmp(publisher) => Ok(publisher.video(&picture, &mut self.out)),
            Wire::Rtsp(publisher) => publisher.video(&picture, &mut self.out),
        }
    }

    fn send_audio(&mut self) -> io::Result<usize> {
        let (number, offset) = (self.audio, self.audio_offset());
        let frame: &Bytes = self.clip.audio(number);
        self.audio += 1;
        match &mut self.wire {
            Wire::Rtmp(publisher) => Ok(publisher.audio(frame, offset, &mut self.out)),
            Wire::Rtsp(publisher) => publisher.audio(frame, number, &mut self.out),
        }
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
