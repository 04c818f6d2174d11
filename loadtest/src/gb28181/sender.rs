//! The media of one call: units of a clip in real time, or as fast as was asked for, over UDP or over TCP by either side's connection.
//!
//! Times that are sent go with the clock, whatever the speed (RFC 2326 Appendix B), unless the device's quirk is to send those of the
//! recording. Limits: [`WAITING_BYTES_MAX`] of what a connection has not taken; beyond that, units are dropped and counted.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

use serde_json::{Value, json};
use socket2::{Domain, SockAddr, Socket, Type};

use super::args::Quirks;
use super::media::{Kind, Media, Unit};
use super::ps::Streams;
use super::rtp::{Source, nanos, ticks};
use super::sdp::{Description, Transport};
use super::turn::Turn;
use crate::mark::Mark;
use crate::poll::{NANOS_PER_SECOND, now};
use crate::rtsp::datagrams::{self, Pair};
use crate::rtsp::rtcp;

const WAITING_BYTES_MAX: usize = 4 << 20;
/// GB/T 28181-2022: a connection is tried again so often, and not sooner than this.
const CONNECTS_MAX: u32 = 3;
const CONNECT_PAUSE: u64 = NANOS_PER_SECOND;
/// The first time that is sent, in ticks.
const FIRST_TICKS: u64 = 90_000;
/// From another address of this machine than the one that was told.
const ELSEWHERE: &str = "127.0.0.2:0";

/// How the media is to be sent.
#[derive(Clone)]
pub struct Plan {
    /// More than one: in turn.
    pub clips: Vec<Rc<Media>>,
    pub quirks: Quirks,
    /// Begins again at its end.
    pub repeats: bool,
    /// Waits for [`Sender::go`].
    pub held: bool,
    pub speed: f64,
    /// Stands in marks.
    pub publisher: u16,
    /// How long the first unit waits, so that not all devices send at once.
    pub offset: u64,
}

/// What was sent so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub units: u64,
    pub packets: u64,
    pub bytes: u64,
    /// Packets that the kernel did not take, or that nobody was there for.
    pub unsent: u64,
    /// Receiver reports of the platform, and what the last one says of loss.
    pub reports: u64,
    pub lost: Option<i64>,
}

impl Sent {
    pub fn json(&self) -> Value {
        let Sent { units, packets, bytes, unsent, reports, lost } = self;
        json!({ "units": units, "packets": packets, "bytes": bytes, "unsent": unsent, "reports": reports, "lost": lost })
    }
}

/// When what is due: at `wall` the media is at `position`.
#[derive(Clone, Copy, Debug)]
struct Pace {
    wall: u64,
    position: u64,
    speed: f64,
}

pub struct Sender {
    plan: Plan,
    source: Source,
    carriage: Carriage,
    clip: usize,
    at: usize,
    /// Ticks of the passes before this one.
    passed: u64,
    began: u64,
    pace: Pace,
    running: bool,
    paused: bool,
    /// The last unit was sent.
    over: bool,
    marks: u32,
    pub sent: Sent,
}

impl Sender {
    /// Opens the socket that the answer tells of.
    pub fn open(plan: Plan, offer: &Description, local: SocketAddr) -> io::Result<Sender> {
        let carriage = Carriage::open(offer, local, &plan.quirks)?;
        let ssrc = offer.ssrc_number();
        let ssrc = if plan.quirks.wrong_ssrc { ssrc.wrapping_add(4_321) } else { ssrc };
        let payload_type = if plan.quirks.raw_h264 { 98 } else { 96 };
        let source = Source { ssrc, sequence: ssrc as u16, payload_type, double_marker: plan.quirks.double_marker };
        let pace = Pace { wall: 0, position: 0, speed: plan.speed };
        let (clip, at, passed, began, marks) = (0, 0, 0, 0, 0);
        let (running, paused, over, sent) = (false, false, false, Sent::default());
        Ok(Sender { plan, source, carriage, clip, at, passed, began, pace, running, paused, over, marks, sent })
    }

    /// Where it sends from, or listens.
    pub fn local(&self) -> SocketAddr {
        self.carriage.local
    }

    pub fn media(&self) -> &Rc<Media> {
        &self.plan.clips[self.clip]
    }

    /// The call is agreed. `slot`: of its sockets.
    pub fn start(&mut self, slot: usize, turn: &mut Turn<'_>) -> io::Result<()> {
        if !std::mem::replace(&mut self.running, true) {
            self.carriage.start(slot, turn)?;
            if !self.plan.held {
                self.go(turn.now);
            }
        }
        Ok(())
    }

    /// What was held goes.
    pub fn go(&mut self, now: u64) {
        self.plan.held = false;
        if self.running && self.began == 0 {
            self.began = now + self.plan.offset;
            self.pace.wall = self.began;
        }
    }

    fn is_silent(&self) -> bool {
        self.began == 0 || self.paused || self.over || self.plan.quirks.never_sends
    }

    /// When the first unit was sent; `None`: none was.
    pub fn first_sent(&self) -> Option<u64> {
        (self.sent.units > 0).then_some(self.began)
    }

    pub fn is_over(&self) -> bool {
        self.over
    }

    fn position(&self) -> u64 {
        self.passed + self.media().units[self.at].dts
    }

    fn unit_due(&self) -> u64 {
        let ahead = nanos(self.position().saturating_sub(self.pace.position));
        self.pace.wall + (ahead as f64 / self.pace.speed) as u64
    }

    pub fn next_due(&self) -> u64 {
        let unit = if self.is_silent() || !self.carriage.is_there() { u64::MAX } else { self.unit_due() };
        unit.min(self.carriage.retry_at)
    }

    pub fn pause(&mut self) {
        self.paused = true;
    }

    pub fn resume(&mut self, now: u64) {
        if std::mem::take(&mut self.paused) {
            self.pace = Pace { wall: now, position: self.position(), ..self.pace };
        }
    }

    pub fn set_speed(&mut self, speed: f64, now: u64) {
        self.pace = Pace { wall: now, position: self.position(), speed };
        self.paused = false;
    }

    /// Goes on at the last keyframe up to that time.
    pub fn seek(&mut self, ticks: u64, now: u64) {
        (self.at, self.passed) = (self.media().key_at(ticks), 0);
        self.pace = Pace { wall: now, position: self.position(), ..self.pace };
        (self.paused, self.over) = (false, false);
    }

    /// Sends all units that are due.
    pub fn send_due(&mut self, slot: usize, turn: &mut Turn<'_>) -> io::Result<()> {
        self.carriage.retry(slot, turn)?;
        while !self.is_silent() && self.carriage.is_there() && self.unit_due() <= now() {
            self.send(turn)?;
            self.advance();
        }
        self.carriage.flush(slot, turn)
    }

    fn send(&mut self, turn: &mut Turn<'_>) -> io::Result<()> {
        let (media, due, now) = (self.media().clone(), self.unit_due(), now());
        let unit = &media.units[self.at];
        let (dts, pts) = self.times(unit, due);
        let scratch = &mut *turn.scratch;
        scratch.packets.clear();
        scratch.packets.framed = self.carriage.stream_is_framed();
        let streams = Streams { video: media.video, audio: media.audio };
        let mark = Mark { sent: now, sequence: self.marks, publisher: self.plan.publisher };
        if self.plan.quirks.raw_h264 {
            if unit.kind == Kind::Audio {
                return Ok(());
            }
            scratch.unit.clear();
            scratch.unit.extend_from_slice(&unit.data);
            unit.stamp(&mark, &mut scratch.unit);
            self.source.h264(pts, &scratch.unit, &mut scratch.packets);
        } else if let Kind::Pack { last } = unit.kind {
            self.source.pieces(dts, &unit.data, last, &mut scratch.packets);
        } else {
            let pack = &mut scratch.pack;
            self.plan.quirks.style.write(streams, unit.kind, pts, dts, &unit.data, pack);
            if let Some(payload) = pack.bytes.get_mut(pack.payload_at..) {
                unit.stamp(&mark, payload);
            }
            self.source.pack(dts, &pack.bytes, &pack.ends, &mut scratch.packets);
        }
        if unit.mark_at.is_some() {
            self.marks = self.marks.wrapping_add(1);
            turn.tally.sent(&mark, now.saturating_sub(due));
        }
        let taken = self.carriage.send(scratch)?;
        let (packets, bytes) = (scratch.packets.count(), scratch.packets.bytes.len());
        self.sent.units += 1;
        self.sent.packets += taken;
        self.sent.unsent += packets - taken;
        self.sent.bytes += bytes as u64;
        turn.tally.published(now, bytes);
        Ok(())
    }

    /// Decoding and presentation time as they are sent.
    fn times(&self, unit: &Unit, due: u64) -> (u64, u64) {
        let reordered = unit.pts as i64 - unit.dts as i64;
        let (dts, reordered) = if self.plan.quirks.recorded_times {
            (self.position(), reordered)
        } else {
            (ticks(due.saturating_sub(self.began)), (reordered as f64 / self.pace.speed) as i64)
        };
        let dts = FIRST_TICKS + dts;
        (dts, dts.saturating_add_signed(reordered))
    }

    fn advance(&mut self) {
        self.at += 1;
        if self.at < self.media().units.len() {
            return;
        }
        if !self.plan.repeats {
            (self.at, self.over) = (self.at - 1, true);
            return;
        }
        self.passed += self.media().duration;
        self.at = 0;
        self.clip = (self.clip + 1) % self.plan.clips.len();
    }

    /// One of its sockets has something.
    pub fn ready(&mut self, slot: usize, turn: &mut Turn<'_>) -> io::Result<()> {
        if let Way::Udp { pair, .. } = &self.carriage.way {
            let sent = &mut self.sent;
            for fd in [pair.rtcp.as_raw_fd(), pair.rtp.as_raw_fd()] {
                turn.scratch.receiver.receive(fd, |bytes| {
                    sent.reports += 1;
                    sent.lost = rtcp::reported_lost(bytes).or(sent.lost);
                })?;
            }
            return Ok(());
        }
        self.carriage.ready(slot, turn)
    }
}

enum Way {
    Udp { pair: Pair, elsewhere: Option<UdpSocket> },
    Tcp { listener: Option<TcpListener>, stream: Option<TcpStream>, connects: bool },
}

/// Where the packets go.
struct Carriage {
    way: Way,
    local: SocketAddr,
    peer: SocketAddr,
    /// What a connection has not taken yet, and how much of that it has.
    out: Vec<u8>,
    taken: usize,
    /// The kernel was asked to tell when it takes more.
    watched: bool,
    connects: u32,
    retry_at: u64,
}

impl Carriage {
    fn open(offer: &Description, local: SocketAddr, quirks: &Quirks) -> io::Result<Carriage> {
        let here = SocketAddr::new(local.ip(), 0);
        let (way, local) = match offer.transport {
            Transport::Udp => {
                let pair = Pair::open(local.ip(), false)?;
                pair.rtp.connect(offer.address)?;
                let elsewhere = quirks.elsewhere.then(|| UdpSocket::bind(ELSEWHERE)).transpose()?;
                if let Some(socket) = &elsewhere {
                    socket.connect(offer.address)?;
                }
                let local = pair.rtp.local_addr()?;
                (Way::Udp { pair, elsewhere }, local)
            }
            Transport::Listen => {
                let listener = TcpListener::bind(here)?;
                listener.set_nonblocking(true)?;
                let local = listener.local_addr()?;
                (Way::Tcp { listener: Some(listener), stream: None, connects: false }, local)
            }
            Transport::Connect => {
                let connects = !quirks.never_connects;
                (Way::Tcp { listener: None, stream: None, connects }, SocketAddr::new(local.ip(), 9))
            }
        };
        let (out, taken, watched, connects) = (Vec::new(), 0, false, 0);
        Ok(Carriage { way, local, peer: offer.address, out, taken, watched, connects, retry_at: u64::MAX })
    }

    fn start(&mut self, slot: usize, turn: &mut Turn<'_>) -> io::Result<()> {
        match &self.way {
            Way::Udp { pair, .. } => {
                turn.poll.add(pair.rtcp.as_raw_fd(), turn.token(slot), false)?;
                turn.poll.add(pair.rtp.as_raw_fd(), turn.token(slot), false)
            }
            Way::Tcp { listener: Some(listener), .. } => turn.poll.add(listener.as_raw_fd(), turn.token(slot), false),
            Way::Tcp { connects: true, .. } => self.connect(slot, turn),
            Way::Tcp { .. } => Ok(()),
        }
    }

    /// Datagrams always find a way.
    fn is_there(&self) -> bool {
        !matches!(self.way, Way::Tcp { stream: None, .. })
    }

    fn stream_is_framed(&self) -> bool {
        matches!(self.way, Way::Tcp { .. })
    }

    /// Without waiting for it.
    fn connect(&mut self, slot: usize, turn: &mut Turn<'_>) -> io::Result<()> {
        self.connects += 1;
        self.retry_at = u64::MAX;
        let socket = Socket::new(Domain::for_address(self.peer), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&SockAddr::from(self.peer)) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => self.lose(turn.now),
            _ => {
                let stream = TcpStream::from(socket);
                stream.set_nodelay(true)?;
                turn.poll.add(stream.as_raw_fd(), turn.token(slot), false)?;
                self.attach(stream);
            }
        }
        Ok(())
    }

    fn attach(&mut self, new: TcpStream) {
        if let Way::Tcp { stream, .. } = &mut self.way {
            *stream = Some(new);
            self.out.clear();
            (self.taken, self.watched) = (0, false);
        }
    }

    /// The connection is no more; it may be tried again.
    fn lose(&mut self, now: u64) {
        if let Way::Tcp { stream, connects, .. } = &mut self.way {
            *stream = None;
            if *connects && self.connects < CONNECTS_MAX {
                self.retry_at = now + CONNECT_PAUSE;
            }
        }
    }

    fn retry(&mut self, slot: usize, turn: &mut Turn<'_>) -> io::Result<()> {
        if self.retry_at <= turn.now { self.connect(slot, turn) } else { Ok(()) }
    }

    /// Says how many packets were taken.
    fn send(&mut self, scratch: &super::turn::Scratch) -> io::Result<u64> {
        let packets = &scratch.packets;
        match &self.way {
            Way::Udp { pair, elsewhere } => {
                match datagrams::send(elsewhere.as_ref().unwrap_or(&pair.rtp), packets.iter()) {
                    Ok(count) => Ok(count as u64),
                    // Nobody listens there any more.
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(0),
                    Err(error) => Err(error),
                }
            }
            Way::Tcp { .. } if self.out.len() - self.taken > WAITING_BYTES_MAX => Ok(0),
            Way::Tcp { .. } => {
                self.out.extend_from_slice(&packets.bytes);
                Ok(packets.count())
            }
        }
    }

    /// Gives the kernel what it takes.
    fn flush(&mut self, slot: usize, turn: &mut Turn<'_>) -> io::Result<()> {
        let Way::Tcp { stream: Some(stream), .. } = &mut self.way else { return Ok(()) };
        while self.taken < self.out.len() {
            match stream.write(&self.out[self.taken..]) {
                Ok(count) => self.taken += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.lose(turn.now);
                    return Ok(());
                }
            }
        }
        if self.taken == self.out.len() {
            self.out.clear();
            self.taken = 0;
        }
        let fd: RawFd = stream.as_raw_fd();
        let blocked = !self.out.is_empty();
        if std::mem::replace(&mut self.watched, blocked) != blocked {
            turn.poll.change(fd, turn.token(slot), blocked)?;
        }
        Ok(())
    }

    fn ready(&mut self, slot: usize, turn: &mut Turn<'_>) -> io::Result<()> {
        let Way::Tcp { listener, stream, .. } = &mut self.way else { return Ok(()) };
        if let Some(stream) = stream {
            match stream.read(&mut turn.scratch.stream) {
                Ok(0) => self.lose(turn.now),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.lose(turn.now),
            }
            return self.flush(slot, turn);
        }
        let Some(Ok((stream, _))) = listener.as_ref().map(TcpListener::accept) else { return Ok(()) };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        turn.poll.add(stream.as_raw_fd(), turn.token(slot), false)?;
        self.attach(stream);
        Ok(())
    }
}
