//! The task that owns the platform: whatever happens is told to it, one after the other, and what it wants is carried out in order.
//!
//! Messages, connections and news wait in one queue of [`SIP_EVENTS_MAX`](crate::config::SIP_EVENTS_MAX) events, the operator's questions in one of [`ERRANDS_MAX`], tasks
//! in [`Jobs`]. Questions and news of media come before messages, so a flood of messages keeps no operator out. What survives a restart is
//! written at most once in [`SAVE_EVERY`], and so seldom that it takes one part in [`SAVE_PAUSES`] of the time; where only times
//! have changed, once in [`SAVE_TIMES_EVERY`]. Not here: what is done about anything (`protocol/gb28181/platform`).

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use log::Level;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::counters::Counters;
use super::file::StateFile;
use super::media::{self, Media};
use super::notes::Notes;
use super::tcp::{self, Held, TcpConnections};
use super::udp::UdpSockets;
use crate::media::Stamp;
use crate::protocol::gb28181::platform::ask::{Answer, Ask, RefusedKind};
use crate::protocol::gb28181::platform::{Clock, Input, Output, Platform, Saved, Ticket};
use crate::protocol::gb28181::sip::{Carrier, ConnectionId, Hop};
use crate::shard::message::Report;

/// Questions that wait to be asked; more wait at the door.
pub const ERRANDS_MAX: usize = 64;
/// Questions that have been asked and not answered; more are refused.
const TICKETS_MAX: usize = 1_024;
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// The pause behind a writing, in times that it took: 2 % of the time is for it.
const SAVE_PAUSES: u32 = 50;
const SAVE_TIMES_EVERY: Duration = Duration::from_secs(60);
/// The platform may want to be told at once that its time has come, but not more often than this.
const TIMER_STEP: Duration = Duration::from_millis(1);
/// How long a connection to another platform may take.
const CONNECT: Duration = Duration::from_secs(5);
/// When nothing waits.
const FAR: Duration = Duration::from_secs(3_600);

/// What the network brings.
#[derive(Debug)]
pub enum Event {
    Message {
        hop: Hop,
        bytes: Bytes,
        held: Option<Held>,
    },
    Accepted {
        stream: TcpStream,
        peer: SocketAddr,
    },
    Closed(ConnectionId),
    /// Connections hold more than all may.
    Crowded,
}

/// What the rest of the control plane wants.
#[derive(Debug)]
pub enum Errand {
    Ask(Ask, oneshot::Sender<Answer>),
    /// Say goodbye, and write down what survives; answered when that is done.
    Finish(oneshot::Sender<()>),
}

/// What the host needs of the platform. Tests have one of their own.
pub trait Brain: Send + 'static {
    type Saved: Serialize + Send + 'static;

    fn handle(&mut self, clock: Clock, input: Input<'_>, out: &mut Vec<Output>);
    fn next_timeout(&self) -> Option<Stamp>;
    fn saved(&self) -> Self::Saved;
    /// It has said goodbye and waits for answers: the end may wait with it.
    fn is_leaving(&self) -> bool {
        false
    }
}

impl Brain for Platform {
    type Saved = Saved;

    fn handle(&mut self, clock: Clock, input: Input<'_>, out: &mut Vec<Output>) {
        self.handle(clock, input, out);
    }

    fn next_timeout(&self) -> Option<Stamp> {
        self.next_timeout()
    }

    fn saved(&self) -> Saved {
        self.saved()
    }
}

/// A task's end.
#[derive(Debug)]
enum Job {
    Media(media::Done),
    /// To another platform.
    Connected(SocketAddr, Result<TcpStream, String>),
    Saved(io::Result<()>),
}

/// Tasks that run beside the host: a few for each call, one that writes.
#[derive(Debug, Default)]
pub struct Jobs(JoinSet<Job>);

impl Jobs {
    pub fn start(&mut self, job: impl Future<Output = media::Done> + Send + 'static) {
        self.0.spawn(async move { Job::Media(job.await) });
    }

    fn connect(&mut self, to: SocketAddr) {
        self.0.spawn(async move {
            let connected = match timeout(CONNECT, TcpStream::connect(to)).await {
                Ok(connected) => connected.map_err(|error| format!("cannot connect to {to}: {error}")),
                Err(_) => Err(format!("cannot connect to {to}: no answer in {} s", CONNECT.as_secs())),
            };
            Job::Connected(to, connected)
        });
    }
}

/// Where everything comes from.
#[derive(Debug)]
pub struct Inlets {
    pub events: mpsc::Receiver<Event>,
    pub errands: mpsc::Receiver<Errand>,
    pub reports: flume::Receiver<Report>,
}

/// Of the file.
#[derive(Debug)]
struct Saving {
    file: StateFile,
    is_due: bool,
    /// When it is due though only times have changed.
    times_due: Option<Instant>,
    running: bool,
    /// Of the last writing.
    began: Instant,
    next: Instant,
    /// Who waits for the last word.
    finished: Option<oneshot::Sender<()>>,
}

impl Saving {
    /// When it is to be written next.
    fn due(&self) -> Option<Instant> {
        let due = if self.is_due { Some(self.next) } else { self.times_due.map(|due| due.max(self.next)) };
        due.filter(|_| !self.running)
    }
}

pub struct Host<P: Brain> {
    platform: P,
    started: Instant,
    /// When the platform was last told that its time has come.
    last_timeout: Instant,
    udp: UdpSockets,
    tcp: TcpConnections,
    media: Media,
    saving: Saving,
    tickets: HashMap<Ticket, oneshot::Sender<Answer>>,
    next_ticket: u64,
    jobs: Jobs,
    /// What the platform is still to be told because of what it wanted.
    news: VecDeque<Input<'static>>,
    notes: Notes,
    counters: Arc<Counters>,
}

impl<P: Brain> Host<P> {
    pub fn new(
        platform: P,
        udp: UdpSockets,
        tcp: TcpConnections,
        media: Media,
        file: StateFile,
        counters: Arc<Counters>,
    ) -> Self {
        let now = Instant::now();
        Host {
            platform,
            started: now,
            last_timeout: now,
            udp,
            tcp,
            media,
            saving: Saving { file, is_due: false, times_due: None, running: false, began: now, next: now, finished: None },
            tickets: HashMap::new(),
            next_ticket: 1,
            jobs: Jobs::default(),
            news: VecDeque::new(),
            notes: Notes::new(now),
            counters,
        }
    }

    /// Runs until nobody can send an errand any more.
    pub async fn run(mut self, mut inlets: Inlets) {
        let mut has_reports = true;
        loop {
            let deadline = self.deadline();
            tokio::select! {
                biased;
                () = sleep_until(deadline) => self.on_time(),
                Some(job) = self.jobs.0.join_next() => self.on_job(job),
                errand = inlets.errands.recv() => match errand {
                    Some(errand) => self.on_errand(errand),
                    None => return,
                },
                report = inlets.reports.recv_async(), if has_reports => match report {
                    Ok(Report::Wanted(key)) => self.tell(Input::Wanted(key)),
                    Err(flume::RecvError::Disconnected) => has_reports = false,
                },
                Some(event) = inlets.events.recv() => self.on_event(event),
            }
        }
    }

    /// The next moment at which something is to be done without being asked.
    fn deadline(&self) -> Instant {
        let of_platform = self.platform.next_timeout().map(|stamp| {
            let due = self.started + Duration::from_nanos(stamp.as_nanos()).min(self.started.elapsed() + FAR);
            due.max(self.last_timeout + TIMER_STEP)
        });
        let all = [of_platform, self.saving.due(), self.media.next_ask(), self.notes.due()];
        all.into_iter().flatten().min().unwrap_or_else(|| Instant::now() + FAR)
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        if self.platform.next_timeout().is_some_and(|due| self.clock().now >= due) && now >= self.last_timeout + TIMER_STEP {
            self.last_timeout = now;
            self.tell(Input::Timeout);
        }
        self.media.ask(now, &mut self.jobs);
        if self.saving.due().is_some_and(|due| now >= due) {
            self.save();
        }
        if let Some(line) = self.notes.left_out(now) {
            log::warn!("{line}");
        }
    }

    fn on_job(&mut self, job: Result<Job, JoinError>) {
        match job {
            Ok(Job::Media(done)) => {
                for news in self.media.done(done, &mut self.jobs) {
                    self.tell(news);
                }
            }
            Ok(Job::Connected(to, connected)) => {
                let hop = connected.and_then(|stream| self.tcp.connected(stream, to));
                self.tell(Input::Reached { to, hop });
            }
            Ok(Job::Saved(result)) => self.saved(result),
            Err(error) => log::error!("a task of gb28181 has failed: {error}"),
        }
    }

    fn on_errand(&mut self, errand: Errand) {
        match errand {
            Errand::Ask(ask, answer) => {
                if self.tickets.len() >= TICKETS_MAX {
                    self.tickets.retain(|_, waiting| !waiting.is_closed());
                }
                if self.tickets.len() >= TICKETS_MAX {
                    // Whoever asked may have gone.
                    let _ =
                        answer.send(Answer::refused(RefusedKind::Full, format!("{TICKETS_MAX} questions wait for an answer")));
                    return;
                }
                let ticket = Ticket(self.next_ticket);
                self.next_ticket += 1;
                self.tickets.insert(ticket, answer);
                self.tell(Input::Ask { ticket, ask });
            }
            Errand::Finish(finished) => {
                self.tell(Input::Finishing);
                self.saving.finished = Some(finished);
                self.saving.is_due = true;
                if !self.saving.running {
                    self.save();
                }
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Message { hop, bytes, held } => {
                self.tell(Input::Message { hop, bytes: &bytes });
                drop(held);
            }
            Event::Accepted { stream, peer } => {
                let (gone, taken) = self.tcp.accepted(stream, peer);
                if let Err(why) = taken {
                    self.note(Level::Warn, &why);
                }
                self.tell_closed(gone);
            }
            Event::Closed(id) => {
                if self.tcp.ended(id) {
                    self.tell(Input::Closed(id));
                }
            }
            Event::Crowded => {
                let gone = self.tcp.make_room();
                self.tell_closed(gone);
            }
        }
    }

    fn tell_closed(&mut self, gone: Vec<ConnectionId>) {
        for id in gone {
            self.tell(Input::Closed(id));
        }
    }

    fn clock(&self) -> Clock {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { now: Stamp::ZERO.after(self.started.elapsed()), unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX) }
    }

    /// Tells the platform, and does what it wants; then whatever came of that.
    fn tell(&mut self, input: Input<'_>) {
        self.tell_one(input);
        while let Some(news) = self.news.pop_front() {
            self.tell_one(news);
        }
    }

    fn tell_one(&mut self, input: Input<'_>) {
        let mut out = Vec::new();
        let clock = self.clock();
        let platform = &mut self.platform;
        if catch_unwind(AssertUnwindSafe(|| platform.handle(clock, input, &mut out))).is_err() {
            self.counters.refused("panic");
            log::error!("gb28181: the platform has panicked over something that it was told, and goes on");
        }
        for output in out {
            self.carry_out(output);
        }
        self.finish_if_done();
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Send { hop: Hop { carrier: Carrier::Udp, peer, local }, bytes } => self.udp.send(local, peer, &bytes),
            Output::Send { hop: Hop { carrier: Carrier::Tcp(id), .. }, bytes } => {
                if tcp::is_welcome(&bytes) {
                    self.tcp.welcome(id);
                }
                if !self.tcp.send(id, bytes) {
                    self.news.push_back(Input::Closed(id));
                }
            }
            Output::Hangup(id) => {
                self.tcp.ended(id);
            }
            Output::OpenReceiver { call, request } => self.media.open_receiver(call, request, &mut self.jobs),
            Output::CloseReceiver(call) => self.media.close_receiver(call, &mut self.jobs),
            Output::ExpectSource { call, source } => self.media.expect(call, source, &mut self.jobs),
            Output::OpenSender { call, request } => self.media.open_sender(call, request, &mut self.jobs),
            Output::CloseSender(call) => self.media.close_sender(call, &mut self.jobs),
            Output::Reach { to, tcp: false } => {
                let hop = self.udp.way(to).ok_or_else(|| format!("there is no way to {to} from the addresses of gb28181.listen"));
                self.news.push_back(Input::Reached { to, hop });
            }
            Output::Reach { to, tcp: true } => self.jobs.connect(to),
            Output::ListStreams => self.media.list(),
            Output::Answer { ticket, answer } => {
                if let Some(waiting) = self.tickets.remove(&ticket) {
                    // Whoever asked may have gone.
                    let _ = waiting.send(answer);
                }
            }
            // Whoever wants to know has heard it.
            Output::DeviceChanged(_) => {}
            Output::Save => self.saving.is_due = true,
            Output::SaveLater => {
                self.saving.times_due.get_or_insert_with(|| Instant::now() + SAVE_TIMES_EVERY);
            }
            Output::Note { level, reason, message } => {
                if let Some(reason) = reason {
                    self.counters.refused(reason);
                }
                self.note(level, &message);
            }
        }
    }

    fn note(&mut self, level: Level, message: &str) {
        if self.notes.may(Instant::now(), level) {
            log::log!(level, "{message}");
        } else {
            self.counters.note_left_out();
        }
    }

    fn save(&mut self) {
        (self.saving.is_due, self.saving.times_due, self.saving.running) = (false, None, true);
        self.saving.began = Instant::now();
        let (file, state) = (self.saving.file.clone(), self.platform.saved());
        self.jobs.0.spawn(async move {
            let written = tokio::task::spawn_blocking(move || file.write(&state)).await;
            Job::Saved(written.unwrap_or_else(|error| Err(io::Error::other(error))))
        });
    }

    fn saved(&mut self, result: io::Result<()>) {
        let pause = (self.saving.began.elapsed() * SAVE_PAUSES).max(SAVE_EVERY);
        (self.saving.running, self.saving.next) = (false, Instant::now() + pause);
        if let Err(error) = result {
            self.counters.dropped("not_saved");
            log::error!("{} cannot be written: {error}", self.saving.file.path().display());
        }
        if self.saving.finished.is_some() && self.saving.is_due {
            self.save();
        }
        self.finish_if_done();
    }

    /// All is written, and all goodbyes are answered.
    fn finish_if_done(&mut self) {
        let is_written = !self.saving.is_due && !self.saving.running;
        if self.saving.finished.is_some()
            && is_written
            && !self.platform.is_leaving()
            && let Some(finished) = self.saving.finished.take()
        {
            // Whoever waited may have lost patience.
            let _ = finished.send(());
        }
    }
}
