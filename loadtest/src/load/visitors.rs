//! Viewers that come at a rate, stay for a while, and go: what joining and leaving costs those who stay, and whether all get a picture.
//!
//! A visitor is due every access unit between the first and the last that it got.

use std::io;

use hdrhistogram::Histogram;

use super::{Buffers, Load, NANOS_PER_SECOND, Token, now};
use crate::args::LoadArgs;
use crate::schedule::Schedule;
use crate::tally::{Tally, histogram};
use crate::viewer::Viewer;

/// What those got that have gone.
pub struct Visits {
    pub came: u64,
    /// Without a picture.
    pub in_vain: u64,
    /// Sent away by the server.
    pub closed: u64,
    /// Access units left out.
    pub lost: u64,
    pub joins: Histogram<u64>,
    pub tally: Tally,
}

pub struct Visitors {
    /// Between two that come, in nanoseconds; `None`: nobody comes.
    interval: Option<u64>,
    stay: u64,
    next: u64,
    /// `None`: free.
    places: Vec<Option<Viewer>>,
    free: Vec<usize>,
    leaving: Schedule<usize>,
    pub visits: Visits,
}

impl Visitors {
    pub fn new(args: &LoadArgs) -> Visitors {
        let interval = (args.churn > 0.0).then(|| (NANOS_PER_SECOND as f64 / args.churn) as u64);
        Visitors {
            interval,
            stay: interval.map_or(0, |_| args.stay * NANOS_PER_SECOND),
            next: u64::MAX,
            places: Vec::new(),
            free: Vec::new(),
            leaving: Schedule::default(),
            visits: Visits::new(args.publishers.into()),
        }
    }

    pub fn begin(&mut self, now: u64) {
        self.next = self.interval.map_or(u64::MAX, |_| now);
    }

    /// How long each stays, and so how long it takes until as many go as come.
    pub fn stay(&self) -> u64 {
        self.stay
    }

    pub fn next(&self) -> u64 {
        self.next.min(self.leaving.next())
    }

    pub fn readable(&mut self, at: usize, socket: usize, woken: u64, buffers: &mut Buffers) {
        let Some(viewer) = &mut self.places[at] else { return };
        if viewer.readable(socket, woken, buffers, &mut self.visits.tally).is_err() {
            self.visits.closed += 1;
            self.leave(at);
        }
    }

    fn leave(&mut self, at: usize) {
        if let Some(viewer) = self.places[at].take() {
            match viewer.join_time() {
                Some(join) => self.visits.joins.saturating_record(join),
                None => self.visits.in_vain += 1,
            }
            self.visits.lost += viewer.missing();
        }
    }

    /// What has been seen, if anybody was to come.
    pub fn take(&mut self) -> Option<Visits> {
        let publishers = self.visits.tally.expected.len();
        self.interval.map(|_| std::mem::replace(&mut self.visits, Visits::new(publishers)))
    }
}

impl Visits {
    pub fn new(publishers: usize) -> Visits {
        Visits { came: 0, in_vain: 0, closed: 0, lost: 0, joins: histogram(), tally: Tally::new(publishers) }
    }
}

impl Load {
    /// Lets those go and come whose time it is.
    pub(super) fn visits_due(&mut self) -> io::Result<()> {
        let now = now();
        while let Some(at) = self.visitors.leaving.take_due(now) {
            self.visitors.leave(at);
            self.visitors.free.push(at);
        }
        while self.visitors.next <= now {
            let number = self.visitors.visits.came as usize;
            let viewer = Viewer::connect(&self.args, &self.route, self.publisher_for(number), false)?;
            let visitors = &mut self.visitors;
            visitors.next += visitors.interval.unwrap_or(u64::MAX - visitors.next);
            visitors.visits.came += 1;
            let at = visitors.free.pop().unwrap_or(visitors.places.len());
            for (socket, fd) in viewer.sockets().into_iter().enumerate() {
                self.poll.add(fd, Token::Visitor { at, socket }, false)?;
            }
            if at == visitors.places.len() {
                visitors.places.push(None);
            }
            visitors.places[at] = Some(viewer);
            visitors.leaving.add(now + visitors.stay, at);
        }
        Ok(())
    }
}
