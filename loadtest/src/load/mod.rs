//! The run: publish, let the viewers join, measure, and wait for what is still on its way. One thread, one wait.

mod crowd;
mod slow;
mod visitors;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::Rc;

use self::slow::Slow;
use self::visitors::Visitors;
pub use self::visitors::Visits;
use crate::args::{LoadArgs, Play, Publish};
use crate::clip::{Clip, Shape};
use crate::gb28181::args::DeviceArgs;
use crate::gb28181::fleet::Fleet;
use crate::gb28181::start;
use crate::poll::{NANOS_PER_SECOND, Poll, Ready, Token, now};
use crate::process::Usage;
use crate::publisher::Publisher;
use crate::relay::Relay;
use crate::rtsp::datagrams::Receiver;
use crate::rtsp::rtcp;
use crate::schedule::Schedule;
use crate::standstill::Standstill;
use crate::syscalls::Counter;
use crate::tally::Tally;
use crate::viewer::Viewer;

const MILLIS: u64 = 1_000_000;
const READ_BYTES: usize = 256 * 1024;
/// Sockets that are read between two looks at the clock for what is to be sent: some 20 microseconds.
const EVENTS_PER_CLOCK: usize = 4;
/// How long publishers may take until the server has agreed.
const PUBLISH_LIMIT: u64 = 5 * NANOS_PER_SECOND;
/// How long viewers may take until all have a picture.
const JOIN_LIMIT: u64 = 30 * NANOS_PER_SECOND;
/// Between the last join and the first measured frame.
const SETTLE: u64 = NANOS_PER_SECOND;
/// How late a frame may be at most to be counted, and where it comes in segments.
const DRAIN: u64 = 2 * NANOS_PER_SECOND;
const DRAIN_SEGMENTS: u64 = 20 * NANOS_PER_SECOND;
/// Samples of the server's process that a run takes at most.
const SAMPLES_MAX: u64 = 720;
/// How often its memory is looked at in a GOP.
const RSS_SAMPLES: u64 = 20;

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
    /// Those that came and went.
    pub visits: Option<Visits>,
    /// What viewers got that read slowly, and how many of them the server sent away.
    pub slow: Option<(Tally, u64)>,
    /// At the beginning and at the end of measuring.
    pub own: (Usage, Usage),
    pub server: Option<ServerUsage>,
}

pub struct ServerUsage {
    /// Before anything was published.
    pub idle: Usage,
    /// Resident memory over one GOP, in the mean: with one viewer per stream, and with all. What more viewers add is theirs alone, and the
    /// GOP that a server keeps, which grows and shrinks, is in both.
    pub rss_of_one: u64,
    pub rss_of_all: u64,
    /// At the beginning and at the end of measuring.
    pub begin: Usage,
    pub end: Usage,
    /// While measuring: seconds since its beginning, and what was held then.
    pub samples: Vec<(f64, Usage)>,
    /// While measuring, or why they could not be counted; `None`: not asked for.
    pub syscalls: Option<Result<u64, String>>,
}

pub fn run(args: &LoadArgs) -> io::Result<Outcome> {
    let mut load = Load::open(args)?;
    load.resize(args.viewers)?;
    load.join_others()?;
    let _held = hold(args)?;
    load.measure(args.seconds)
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

impl Buffers {
    /// `bytes`: what is read of a connection at a time.
    pub fn new(bytes: usize) -> Buffers {
        Buffers { stream: vec![0; bytes], datagrams: Receiver::new() }
    }
}

/// Where viewers connect: the server, or what stands in front of it.
pub struct Route {
    pub address: SocketAddr,
    pub relay: Option<Relay>,
}

pub struct Load {
    args: LoadArgs,
    route: Route,
    poll: Poll,
    publishers: Vec<Publisher>,
    /// Devices that publish instead.
    fleet: Option<Fleet>,
    /// When each publisher sends its next frame, once it may.
    schedule: Schedule<usize>,
    /// When each viewer does something by itself that does.
    turns: Schedule<usize>,
    /// `None`: gone.
    viewers: Vec<Option<Viewer>>,
    visitors: Visitors,
    slow: Slow,
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
    /// The server's process before anything was published, and its memory with one viewer per stream.
    baseline: (Usage, u64),
}

impl Load {
    /// Publishes, and lets one viewer join each stream.
    pub fn open(args: &LoadArgs) -> io::Result<Load> {
        let idle = server_usage(args)?.unwrap_or_default();
        let mut load = Load::new(args)?;
        load.publish()?;
        load.resize(args.viewers.min(args.publishers.into()))?;
        load.run_until(now() + SETTLE, |_| false)?;
        load.baseline = (idle, load.rss_over_a_gop()?);
        Ok(load)
    }

    /// The server's resident memory, in the mean of a whole GOP.
    fn rss_over_a_gop(&mut self) -> io::Result<u64> {
        if self.args.server_pid.is_none() {
            return Ok(0);
        }
        let mut samples = Vec::new();
        for _ in 0..RSS_SAMPLES {
            self.run_until(now() + self.args.gop_ms * MILLIS / RSS_SAMPLES, |_| false)?;
            samples.extend(server_usage(&self.args)?.map(|usage| usage.rss_bytes));
        }
        Ok(samples.iter().sum::<u64>() / samples.len().max(1) as u64)
    }

    fn new(args: &LoadArgs) -> io::Result<Load> {
        let shape = Shape { frames_per_second: args.fps, gop_ms: args.gop_ms, bits_per_second: args.rate.0 };
        let clip = Rc::new(Clip::new(shape));
        let resolve = |address: &str| {
            address.to_socket_addrs()?.next().ok_or_else(|| io::Error::other(format!("{address}: the host has no address")))
        };
        let (publish_address, play_address) = (resolve(args.publish_address())?, resolve(args.play_address())?);
        let relay = args.link.map(|profile| Relay::start(profile, play_address)).transpose()?;
        let route = Route { address: relay.as_ref().map_or(play_address, |relay| relay.address), relay };
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
        Ok(Load {
            args: args.clone(),
            route,
            poll,
            expecting: vec![0; count],
            publishers,
            fleet,
            schedule: Schedule::default(),
            turns: Schedule::default(),
            viewers: Vec::new(),
            visitors: Visitors::new(args),
            slow: Slow::new(args),
            stalled: Vec::new(),
            closed: BTreeMap::new(),
            next_report: 0,
            reporter: 0,
            tally: Tally::new(count),
            buffers: Buffers::new(READ_BYTES),
            baseline: Default::default(),
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

    /// What those get that are here, from now on for so many seconds. May be called again, with other viewers.
    pub fn measure(&mut self, seconds: u64) -> io::Result<Outcome> {
        self.run_until(now() + SETTLE + self.visitors.stay(), |_| false)?;
        let mut syscalls = self.args.server_pid.filter(|_| self.args.syscalls).map(Counter::open);
        let own_begin = Usage::of(std::process::id())?;
        let server_begin = server_usage(&self.args)?;
        let began = now();
        let end = began + seconds * NANOS_PER_SECOND;
        for tally in [&mut self.tally, &mut self.slow.tally, &mut self.visitors.visits.tally] {
            *tally = Tally::new(self.args.publishers.into());
            tally.measure(began, end);
        }
        let mut samples = Vec::new();
        let interval = seconds.div_ceil(SAMPLES_MAX).max(1) * NANOS_PER_SECOND;
        for at in (began..end).step_by(interval as usize) {
            samples.extend(server_usage(&self.args)?.map(|usage| ((at - began) as f64 / NANOS_PER_SECOND as f64, usage)));
            self.run_until(end.min(at + interval), |_| false)?;
        }
        let server_end = server_usage(&self.args)?;
        let count = |counter: &mut io::Result<Counter>| match counter {
            Ok(counter) => counter.count().map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let syscalls = syscalls.as_mut().map(count);
        let own = (own_begin, Usage::of(std::process::id())?);
        let (elapsed, bytes) = ((now() - began) as f64 / NANOS_PER_SECOND as f64, self.tally.bytes);
        let drain = if matches!(self.args.play, Play::Hls | Play::HlsTs | Play::LlHls) { DRAIN_SEGMENTS } else { DRAIN };
        self.run_until(now() + drain, Load::all_delivered)?;

        let (idle, rss_of_one) = self.baseline;
        let server = server_begin.zip(server_end);
        let server = server.map(|(begin, end)| ServerUsage { idle, rss_of_one, rss_of_all: 0, begin, end, samples, syscalls });
        let mut outcome = self.outcome(bytes, elapsed, own, server);
        if let Some(server) = &mut outcome.server {
            server.rss_of_all = self.rss_over_a_gop()?;
        }
        Ok(outcome)
    }

    fn outcome(&mut self, bytes: u64, seconds: f64, own: (Usage, Usage), server: Option<ServerUsage>) -> Outcome {
        let viewers = || self.viewers.iter().flatten();
        let add = |(all, failed): (u64, u64), (more, more_failed): (u64, u64)| (all + more, failed + more_failed);
        let of_devices = self.fleet.iter().filter_map(Fleet::reported_lost);
        let reported: Vec<i64> = self.publishers.iter().filter_map(Publisher::reported_lost).chain(of_devices).collect();
        let unsent = self.publishers.iter().map(Publisher::unsent).chain(self.fleet.iter().map(Fleet::unsent)).sum();
        let (joins, dropped) = (viewers().filter_map(Viewer::join_time).collect(), viewers().map(Viewer::dropped).sum());
        let requests = viewers().map(Viewer::requests).fold((0, 0), add);
        let tally = std::mem::replace(&mut self.tally, Tally::new(self.expecting.len()));
        Outcome {
            slow: self.slow.take(&tally.expected),
            tally,
            viewers: self.expecting.clone(),
            joins,
            closed: self.closed.clone(),
            reported_lost: (!reported.is_empty()).then(|| reported.iter().sum()),
            unsent,
            dropped,
            requests,
            bytes,
            seconds,
            visits: self.visitors.take(),
            own,
            server,
        }
    }

    fn all_delivered(&self) -> bool {
        let due: u64 = self.tally.expected.iter().zip(&self.expecting).map(|(units, viewers)| units * viewers).sum();
        self.tally.delivered == due
    }

    fn run_until(&mut self, until: u64, done: impl Fn(&Load) -> bool) -> io::Result<()> {
        let mut ready = Vec::new();
        while now() < until && !done(self) {
            let due = self.next_due().min(self.next_report).min(self.turns.next());
            let due = due.min(self.slow.next()).min(self.visitors.next());
            self.poll.wait(due.min(until), &mut ready)?;
            let woken = now();
            let mut next_due = self.send_due()?;
            self.report_due();
            self.turns_due();
            self.slow.read_due(now());
            self.visits_due()?;
            for (handled, event) in ready.drain(..).enumerate() {
                self.handle(event, woken)?;
                if handled % EVENTS_PER_CLOCK == 0 && now() >= next_due {
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
            Token::Timer | Token::Signal | Token::Input | Token::Relay { .. } => Ok(()),
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
                match viewer.read_all(socket, event.ended, woken, &mut self.buffers, &mut self.tally) {
                    Ok(()) => viewer.turn().into_iter().for_each(|turn| self.turns.add(turn, at)),
                    Err(error) => self.close_viewer(at, &error),
                }
                Ok(())
            }
            Token::Visitor { at, socket } => {
                self.visitors.readable(at, socket, woken, &mut self.buffers);
                Ok(())
            }
        }
    }
}

/// Now, if it is asked for.
fn server_usage(args: &LoadArgs) -> io::Result<Option<Usage>> {
    let usage = args.server_pid.map(Usage::of).transpose();
    usage.map_err(|error| io::Error::other(format!("the server's process: {error}")))
}
