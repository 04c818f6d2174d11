//! The run: publish, let the viewers join, measure, and wait for what is still on its way. One thread, one wait.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::Rc;

use crate::args::{LoadArgs, Play, Publish};
use crate::clip::{Clip, Shape};
use crate::gb28181::args::DeviceArgs;
use crate::gb28181::fleet::Fleet;
use crate::gb28181::start;
use crate::poll::{NANOS_PER_SECOND, Poll, Ready, Token, now};
use crate::process::Usage;
use crate::publisher::Publisher;
use crate::rtsp::datagrams::Receiver;
use crate::rtsp::rtcp;
use crate::schedule::Schedule;
use crate::standstill::Standstill;
use crate::tally::Tally;
use crate::viewer::Viewer;

const MILLIS: u64 = 1_000_000;
const READ_BYTES: usize = 256 * 1024;
/// How long publishers may take until the server has agreed.
const PUBLISH_LIMIT: u64 = 5 * NANOS_PER_SECOND;
/// How long viewers may take until all have a picture.
const JOIN_LIMIT: u64 = 30 * NANOS_PER_SECOND;
/// Viewers connect in groups, so that joining does not hold up publishing.
const CONNECTS_AT_ONCE: usize = 10;
const CONNECT_PAUSE: u64 = 10 * MILLIS;
/// Between the last join and the first measured frame.
const SETTLE: u64 = NANOS_PER_SECOND;
/// How late a frame may be at most to be counted, and where it comes in segments.
const DRAIN: u64 = 2 * NANOS_PER_SECOND;
const DRAIN_SEGMENTS: u64 = 20 * NANOS_PER_SECOND;

/// What a run has shown.
pub struct Outcome {
    pub tally: Tally,
    /// Viewers that were there to be counted, per publisher.
    pub viewers: Vec<u64>,
    /// Per viewer that got a picture, in nanoseconds.
    pub joins: Vec<u64>,
    /// Why viewers went away, and how many did.
    pub closed: BTreeMap<String, usize>,
    /// Packets that the server reports as lost on their way to it, until now; `None`: no report has come.
    pub reported_lost: Option<i64>,
    /// Datagrams that publishers could not send, and that viewers' sockets had no room for, until now.
    pub unsent: u64,
    pub dropped: u64,
    /// HTTP requests of players in segments, and how many were not granted.
    pub requests: (u64, u64),
    /// Bytes received and time passed while measuring.
    pub bytes: u64,
    pub seconds: f64,
    /// At the beginning and at the end of measuring.
    pub own: (Usage, Usage),
    pub server: Option<ServerUsage>,
}

pub struct ServerUsage {
    /// Before anything was published.
    pub idle: Usage,
    /// With one viewer per stream: what more viewers add is theirs alone.
    pub one_viewer: Usage,
    /// At the beginning and at the end of measuring.
    pub begin: Usage,
    pub end: Usage,
}

pub fn run(args: &LoadArgs) -> io::Result<Outcome> {
    let server = |at: &str| {
        let usage = args.server_pid.map(Usage::of).transpose();
        usage.map_err(|error| io::Error::other(format!("the server's process {at}: {error}")))
    };
    let idle = server("before all")?;
    let mut load = Load::new(args)?;
    load.publish()?;
    load.join_first()?;
    let one_viewer = server("with one viewer")?;
    load.join()?;
    let _held = hold(args)?;
    load.run_until(now() + SETTLE, |_| false)?;

    let (began, bytes_before) = (now(), load.tally.bytes);
    load.tally.window = (began, began + args.seconds * NANOS_PER_SECOND);
    let (own_begin, server_begin) = (Usage::of(std::process::id())?, server("at the beginning")?);
    load.run_until(load.tally.window.1, |_| false)?;
    let (own_end, server_end) = (Usage::of(std::process::id())?, server("at the end")?);
    let (seconds, bytes) = ((now() - began) as f64 / NANOS_PER_SECOND as f64, load.tally.bytes - bytes_before);
    let drain = if matches!(args.play, Play::Hls | Play::HlsTs | Play::LlHls) { DRAIN_SEGMENTS } else { DRAIN };
    load.run_until(now() + drain, Load::all_delivered)?;

    let server = match (idle, one_viewer, server_begin, server_end) {
        (Some(idle), Some(one_viewer), Some(begin), Some(end)) => Some(ServerUsage { idle, one_viewer, begin, end }),
        _ => None,
    };
    let joins = load.viewers.iter().flatten().filter_map(Viewer::join_time).collect();
    let dropped = load.viewers.iter().flatten().map(Viewer::dropped).sum();
    let add = |(all, failed): (u64, u64), (more, more_failed): (u64, u64)| (all + more, failed + more_failed);
    let requests = load.viewers.iter().flatten().map(Viewer::requests).fold((0, 0), add);
    let of_devices = load.fleet.iter().filter_map(Fleet::reported_lost);
    let reported: Vec<i64> = load.publishers.iter().filter_map(Publisher::reported_lost).chain(of_devices).collect();
    let reported_lost = (!reported.is_empty()).then(|| reported.iter().sum());
    let unsent = load.publishers.iter().map(Publisher::unsent).chain(load.fleet.iter().map(Fleet::unsent)).sum();
    let Load { tally, expecting: viewers, closed, .. } = load;
    let own = (own_begin, own_end);
    Ok(Outcome { tally, viewers, joins, closed, reported_lost, unsent, dropped, requests, bytes, seconds, own, server })
}

/// The thread that is to stand still, for as long as this is kept.
fn hold(args: &LoadArgs) -> io::Result<Option<Standstill>> {
    let (Some(thread), Some(pid)) = (&args.hold_thread, args.server_pid) else { return Ok(None) };
    let held = Standstill::of(pid, thread).ok_or_else(|| io::Error::other(format!("the thread {thread} cannot be held")))?;
    Ok(Some(held))
}

/// What is read goes here first.
pub struct Buffers {
    pub stream: Vec<u8>,
    pub datagrams: Receiver,
}

struct Load {
    args: LoadArgs,
    play_address: SocketAddr,
    poll: Poll,
    publishers: Vec<Publisher>,
    /// Devices that publish instead.
    fleet: Option<Fleet>,
    /// When each publisher sends its next frame, once it may.
    schedule: Schedule,
    /// When each viewer does something by itself that does.
    turns: Schedule,
    /// `None`: gone.
    viewers: Vec<Option<Viewer>>,
    /// Connected, and never read.
    stalled: Vec<Viewer>,
    /// Viewers per publisher, be they gone or not.
    expecting: Vec<u64>,
    closed: BTreeMap<String, usize>,
    /// When the next viewer sends its reports, and which one that is.
    next_report: u64,
    reporter: usize,
    tally: Tally,
    buffers: Buffers,
}

impl Load {
    fn new(args: &LoadArgs) -> io::Result<Load> {
        let shape = Shape { frames_per_second: args.fps, gop_ms: args.gop_ms, bits_per_second: args.rate.0 };
        let clip = Rc::new(Clip::new(shape));
        let resolve = |address: &str| {
            address.to_socket_addrs()?.next().ok_or_else(|| io::Error::other(format!("{address}: the host has no address")))
        };
        let (publish_address, play_address) = (resolve(args.publish_address())?, resolve(args.play_address())?);
        let poll = Poll::new()?;
        let mut publishers = Vec::new();
        let is_devices = args.publish == Publish::Gb28181;
        let fleet = is_devices.then(|| Fleet::open(&DeviceArgs::of_load(args), &poll)).transpose()?;
        for number in 0..if is_devices { 0 } else { args.publishers } {
            let publisher = Publisher::connect(number, args, publish_address, clip.clone())
                .map_err(|error| io::Error::new(error.kind(), format!("{publish_address}: {error}")))?;
            for (socket, fd) in publisher.sockets().into_iter().enumerate() {
                poll.add(fd, Token::Publisher { at: number.into(), socket }, false)?;
            }
            publishers.push(publisher);
        }
        let count = usize::from(args.publishers);
        let tally = Tally::new(count);
        Ok(Load {
            args: args.clone(),
            play_address,
            poll,
            expecting: vec![0; count],
            publishers,
            fleet,
            schedule: Schedule::default(),
            turns: Schedule::default(),
            viewers: Vec::new(),
            stalled: Vec::new(),
            closed: BTreeMap::new(),
            next_report: 0,
            reporter: 0,
            tally,
            buffers: Buffers { stream: vec![0; READ_BYTES], datagrams: Receiver::new() },
        })
    }

    /// Until every stream is live and the server's memory of its last GOP is full.
    fn publish(&mut self) -> io::Result<()> {
        self.register()?;
        let live = |load: &Load| load.publishers.iter().all(Publisher::is_live) && load.fleet.iter().all(Fleet::all_send);
        self.run_until(now() + PUBLISH_LIMIT, live)?;
        if !live(self) {
            return Err(io::Error::other("the server does not let all publishers publish"));
        }
        self.run_until(now() + 2 * self.args.gop_ms.max(500) * MILLIS, |_| false)
    }

    /// Devices register, and the server is asked to play all.
    fn register(&mut self) -> io::Result<()> {
        if self.fleet.is_none() {
            return Ok(());
        }
        let registered = |load: &Load| load.fleet.iter().all(Fleet::all_registered);
        self.run_until(now() + PUBLISH_LIMIT, registered)?;
        if !registered(self) {
            return Err(io::Error::other("the server does not let all devices register"));
        }
        let starter = start::start(self.args.control.clone(), self.args.publishers);
        self.run_until(now() + JOIN_LIMIT, |_| starter.is_finished())?;
        if !starter.is_finished() {
            return Err(io::Error::other("the server does not answer whether devices may send"));
        }
        starter.join().map_err(|_| io::Error::other("the request to play did not end"))?
    }

    /// One viewer per stream.
    fn join_first(&mut self) -> io::Result<()> {
        for number in 0..self.args.viewers.min(self.args.publishers.into()) {
            self.connect(number)?;
        }
        self.run_until(now() + JOIN_LIMIT, Load::all_joined)?;
        self.run_until(now() + SETTLE, |_| false)
    }

    fn join(&mut self) -> io::Result<()> {
        for number in 0..self.args.stalled {
            self.connect_stalled(number)?;
        }
        let limit = now() + JOIN_LIMIT;
        for number in self.viewers.len()..self.args.viewers {
            if number % CONNECTS_AT_ONCE == 0 {
                self.run_until(now() + CONNECT_PAUSE, |_| false)?;
            }
            self.connect(number)?;
        }
        self.run_until(limit, Load::all_joined)
    }

    fn all_joined(&self) -> bool {
        self.viewers.iter().flatten().all(|viewer| viewer.join_time().is_some())
    }

    fn publisher_for(&self, number: usize) -> u16 {
        (number % usize::from(self.args.publishers)) as u16
    }

    fn connect(&mut self, number: usize) -> io::Result<()> {
        let publisher = self.publisher_for(number);
        self.expecting[usize::from(publisher)] += 1;
        let viewer = Viewer::connect(&self.args, self.play_address, publisher, false)?;
        for (socket, fd) in viewer.sockets().into_iter().enumerate() {
            self.poll.add(fd, Token::Viewer { at: self.viewers.len(), socket }, false)?;
        }
        self.viewers.push(Some(viewer));
        Ok(())
    }

    /// It only reads until the server has been asked in full.
    fn connect_stalled(&mut self, number: usize) -> io::Result<()> {
        let mut viewer = Viewer::connect(&self.args, self.play_address, self.publisher_for(number), true)?;
        let limit = now() + PUBLISH_LIMIT;
        // What it reads is not counted.
        let mut ignored = Tally::new(self.args.publishers.into());
        while !viewer.has_asked() && now() < limit {
            viewer.readable(0, now(), &mut self.buffers, &mut ignored)?;
            self.run_until(now() + MILLIS, |_| false)?;
        }
        self.stalled.push(viewer);
        Ok(())
    }

    fn all_delivered(&self) -> bool {
        let due: u64 = self.tally.expected.iter().zip(&self.expecting).map(|(units, viewers)| units * viewers).sum();
        self.tally.delivered == due
    }

    fn run_until(&mut self, until: u64, done: impl Fn(&Load) -> bool) -> io::Result<()> {
        let mut ready = Vec::new();
        while now() < until && !done(self) {
            let due = self.next_due().min(self.next_report).min(self.turns.next());
            self.poll.wait(due.min(until), &mut ready)?;
            let woken = now();
            let mut next_due = self.send_due()?;
            self.report_due();
            self.turns_due();
            for event in ready.drain(..) {
                self.handle(event, woken)?;
                if now() >= next_due {
                    next_due = self.send_due()?;
                }
            }
        }
        Ok(())
    }

    /// Sends what is due now, once per publisher; says when the next frame is.
    fn send_due(&mut self) -> io::Result<u64> {
        let now = now();
        while let Some(at) = self.schedule.take_due(now) {
            let publisher = &mut self.publishers[at];
            let was_blocked = publisher.is_blocked();
            publisher.send_due(&mut self.tally)?;
            self.schedule.add(publisher.next_due(), at);
            self.watch_publisher(at, was_blocked)?;
        }
        if let Some(fleet) = &mut self.fleet {
            fleet.run_due(&self.poll, &mut self.tally)?;
            fleet.events.clear();
        }
        Ok(self.next_due())
    }

    fn next_due(&self) -> u64 {
        self.fleet.as_ref().map_or(u64::MAX, Fleet::next_due).min(self.schedule.next())
    }

    /// Viewers that report to the server do so one after the other, each in its turn of one interval.
    fn report_due(&mut self) {
        if !matches!(self.args.play, Play::RtspTcp | Play::RtspUdp) {
            self.next_report = u64::MAX;
            return;
        }
        if self.next_report <= now() {
            // Who is late has the next turn at once.
            let interval = rtcp::INTERVAL_NANOS / self.viewers.len().max(1) as u64;
            self.next_report = (self.next_report + interval).max(now());
            self.reporter = (self.reporter + 1) % self.viewers.len().max(1);
            if let Some(Some(viewer)) = self.viewers.get_mut(self.reporter)
                && let Err(error) = viewer.report()
            {
                self.close_viewer(self.reporter, &error);
            }
        }
    }

    /// Viewers that wait for a time, not for the server.
    fn turns_due(&mut self) {
        let now = now();
        while let Some(at) = self.turns.take_due(now) {
            if let Some(viewer) = &mut self.viewers[at]
                && let Err(error) = viewer.take_turn()
            {
                self.close_viewer(at, &error);
            }
        }
    }

    /// Its sockets leave the wait with their last descriptor.
    fn close_viewer(&mut self, at: usize, error: &io::Error) {
        *self.closed.entry(error.to_string()).or_default() += 1;
        self.viewers[at] = None;
    }

    fn watch_publisher(&self, at: usize, was_blocked: bool) -> io::Result<()> {
        let publisher = &self.publishers[at];
        if publisher.is_blocked() != was_blocked {
            self.poll.change(publisher.sockets()[0], Token::Publisher { at, socket: 0 }, publisher.is_blocked())?;
        }
        Ok(())
    }

    fn handle(&mut self, event: Ready, woken: u64) -> io::Result<()> {
        match event.token {
            Token::Timer | Token::Signal | Token::Input => Ok(()),
            Token::Device { at, socket } => match &mut self.fleet {
                Some(fleet) => fleet.ready(at, socket, event.readable || event.writable, &self.poll, &mut self.tally),
                None => Ok(()),
            },
            Token::Publisher { at, socket } => {
                let publisher = &mut self.publishers[at];
                let (was_blocked, was_live) = (publisher.is_blocked(), publisher.is_live());
                if event.readable {
                    publisher.readable(socket, &mut self.buffers)?;
                }
                if event.writable {
                    publisher.flush()?;
                }
                if publisher.is_live() && !was_live {
                    self.schedule.add(publisher.next_due(), at);
                }
                self.watch_publisher(at, was_blocked)
            }
            Token::Viewer { at, socket } => {
                let Some(viewer) = &mut self.viewers[at] else { return Ok(()) };
                match viewer.readable(socket, woken, &mut self.buffers, &mut self.tally) {
                    Ok(()) => viewer.turn().into_iter().for_each(|turn| self.turns.add(turn, at)),
                    Err(error) => self.close_viewer(at, &error),
                }
                Ok(())
            }
        }
    }
}
