//! One format of one stream on one shard: muxes each event once, for all its viewers.

use smallvec::SmallVec;

use super::ring::Ring;
use super::stats::Latency;
use crate::format::{Format, Muxer, MuxerContext, Packet};
use crate::media::{MediaEvent, Stamp, TrackKind, Tracks};

/// Index of a connection in the shard's table.
pub type ConnIndex = usize;

/// Where a round over the viewers stands: each is served once, with all there is when its turn comes.
#[derive(Debug, Default)]
pub struct Round {
    /// Viewers at places below this have been served.
    next: usize,
    goes_on: bool,
    /// Something has come since the last round began.
    wanted: bool,
}

impl Round {
    pub fn goes_on(&self) -> bool {
        self.goes_on
    }

    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Begins a round, if something has come.
    pub fn begin(&mut self) {
        self.goes_on |= std::mem::take(&mut self.wanted);
    }
}

pub struct Fanout {
    pub format: Format,
    /// The label under which these viewers are counted.
    pub protocol: &'static str,
    pub ring: Ring,
    pub viewers: Vec<ConnIndex>,
    pub round: Round,
    pub latency: Latency,
    muxer: Box<dyn Muxer>,
    scratch: Vec<Packet>,
}

impl Fanout {
    pub fn new(format: Format, protocol: &'static str, ring: Ring, context: MuxerContext) -> Self {
        let muxer = format.muxer(context);
        let (round, latency) = (Round::default(), Latency::default());
        Fanout { format, protocol, ring, viewers: Vec::new(), round, latency, muxer, scratch: Vec::new() }
    }

    /// The viewer whose turn it is; `None`: the round is over.
    pub fn next_in_round(&mut self) -> Option<ConnIndex> {
        let next = self.viewers.get(self.round.next).copied();
        match next {
            Some(_) => self.round.next += 1,
            None => self.round = Round { wanted: self.round.wanted, ..Round::default() },
        }
        next
    }

    /// Takes the viewer at `place` out. Others take its place, so that all served ones stand before all others: who, and where.
    pub fn remove_viewer(&mut self, place: usize) -> SmallVec<[(ConnIndex, usize); 2]> {
        let mut gap = place;
        let mut moved: SmallVec<[usize; 2]> = SmallVec::new();
        if place < self.round.next {
            self.round.next -= 1;
            gap = self.round.next;
            self.viewers.swap(place, gap);
            moved.push(place);
        }
        self.viewers.swap_remove(gap);
        moved.push(gap);
        moved.dedup();
        moved.into_iter().filter_map(|place| Some((*self.viewers.get(place)?, place))).collect()
    }

    pub fn push(&mut self, event: &MediaEvent) {
        if let MediaEvent::Tracks(tracks) = event {
            self.ring.set_has_video(self.format.carried(tracks).has(TrackKind::Video));
        }
        self.round.wanted = true;
        self.muxer.push(event, &mut self.scratch);
        for packet in self.scratch.drain(..) {
            self.ring.push(packet);
        }
    }

    /// Fills a new fan-out with what a newcomer needs.
    pub fn fill<'a>(&mut self, tracks: &Tracks, frames: impl Iterator<Item = &'a crate::media::Frame>) {
        self.push(&MediaEvent::Tracks(tracks.clone()));
        for frame in frames {
            self.push(&MediaEvent::Frame(frame.clone()));
        }
    }

    /// Bytes of frames that are kept here and may be kept by other formats, too.
    pub fn shared_bytes(&self) -> usize {
        self.ring.shared_bytes() + self.muxer.held_bytes()
    }

    /// Forgets all media that is kept.
    pub fn forget(&mut self) {
        self.ring.clear();
        self.muxer.forget();
    }

    /// What stands before the first config of a viewer that begins now.
    pub fn head(&self) -> Option<bytes::Bytes> {
        self.muxer.head()
    }
}

/// Packets accepted by the kernel whose latency is not recorded yet: the clock is read once for many viewers.
#[derive(Debug, Default)]
pub struct SentLog {
    entries: Vec<(Stamp, u32)>,
}

impl SentLog {
    /// One viewer's packet with this arrival went out.
    pub fn add(&mut self, arrival: Stamp) {
        // Viewers take the same few packets, so the list is as long as the burst, not as the audience.
        match self.entries.iter_mut().find(|(stamp, _)| *stamp == arrival) {
            Some(entry) => entry.1 += 1,
            None => self.entries.push((arrival, 1)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Records all as accepted by `now`; says how many packets that was.
    pub fn record(&mut self, now: Stamp, latency: &mut Latency) -> u64 {
        let mut count = 0;
        for (arrival, viewers) in self.entries.drain(..) {
            latency.record(arrival, now, viewers);
            count += u64::from(viewers);
        }
        count
    }
}
