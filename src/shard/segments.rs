//! Streams that are fetched in segments: the owner cuts them, and sessions on any shard are answered.
//!
//! A session's [`Output::Fetch`](crate::session::Output::Fetch) is served at once if the stream is owned here, else sent to the owner, who
//! answers by message. What is not there yet is parked at the owner with a deadline; a stream that is not there at all is waited for as
//! viewers wait. Messages may be lost: a request is repeated every [`REPEAT_MS`], and given up by [`GIVE_UP_MS`]. Of a stream that has
//! ended, pieces can be fetched for the length of its playlist, and its end by those who have played it; the other shards are told where. Who
//! comes new waits as for a stream that never was.
//!
//! Limits: [`PARKED_MAX`] parked requests and [`VIEWERS_MAX`] viewers counted per stream, [`KEPT_MAX`] ended streams; what segments hold
//! counts in `limits.media_bytes_max`. Not here: how a stream is cut (`protocol/hls`), and what a request looks like on the wire.

use std::collections::{HashMap, VecDeque};

use rustc_hash::FxHashMap;

use super::conn::{Conn, Playing, StreamIndex};
use super::core::{Answer, Core, Ports};
use super::message::{Message, SegmentsSnapshot, ShardId, Ticket};
use super::streams::{Slot, Source};
use crate::hub::fanout::ConnIndex;
use crate::media::{MediaEvent, Stamp};
use crate::protocol::hls::{Reply, Shelf};
use crate::session::fetch::{Packing, Resource};
use crate::session::{FetchRequest, Fetched, StreamKey};

/// Requests that wait for one stream; more are refused.
const PARKED_MAX: usize = 65_536;
/// Viewers of one stream; more are served and not counted.
const VIEWERS_MAX: usize = 65_536;
/// Ended streams per shard; the oldest go early.
const KEPT_MAX: usize = 64;
/// Where other shards keep ended streams.
const ELSEWHERE_MAX: usize = 1_024;
/// How long an owner is remembered, who may keep what the directory knows no more.
const OWNER_MS: u64 = 5_000;
/// How long a first playlist may take: encoders often set a keyframe every ten seconds.
const FIRST_MS_MAX: u64 = 15_000;
/// How often a request is sent again to an owner who has not answered.
const REPEAT_MS: u64 = 1_000;
/// When a request is given up that the owner has never answered, behind `viewer.wait_ms`.
const GIVE_UP_MS: u64 = 60_000;

/// A stream that is cut.
pub struct Segmented {
    shelf: Shelf,
    parked: FxHashMap<Ticket, Parked>,
    viewers: HashMap<u64, (Stamp, Packing)>,
    /// When somebody has last asked for anything.
    asked: Stamp,
    counts: Counts,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    requests: u64,
    timed_out: u64,
    refused: u64,
}

struct Parked {
    request: Box<FetchRequest>,
    until: Stamp,
}

/// A stream that has ended.
struct Kept {
    key: StreamKey,
    segmented: Box<Segmented>,
    until: Stamp,
}

/// What a shard knows of segments apart from its streams.
#[derive(Default)]
pub struct Segments {
    next_id: u64,
    kept: VecDeque<Kept>,
    elsewhere: HashMap<StreamKey, (ShardId, Stamp)>,
    /// Who owned a stream when it was last asked: an end may be heard of by players before it is by this shard.
    owners: HashMap<StreamKey, (ShardId, Stamp)>,
    /// A stream that is cut again gets higher numbers than all before.
    first_msn: u64,
}

impl Segments {
    pub fn bytes(&self) -> usize {
        self.kept.iter().map(|kept| kept.segmented.shelf.bytes()).sum()
    }

    fn remember_owner(&mut self, key: &StreamKey, owner: ShardId, now: Stamp) {
        let until = now.after_millis(OWNER_MS);
        if let Some(known) = self.owners.get_mut(key) {
            *known = (owner, until);
        } else if self.owners.len() < ELSEWHERE_MAX {
            self.owners.insert(key.clone(), (owner, until));
        }
    }

    /// For pieces only: for a playlist one waits until the stream is there again.
    fn last_owner(&self, request: &FetchRequest, now: Stamp) -> Option<ShardId> {
        let (owner, until) = self.owners.get(&request.key).filter(|_| request.resource.playlist().is_none())?;
        (*until > now).then_some(*owner)
    }

    /// Memory is wanted: what nobody needs for a live picture goes first.
    pub fn give_up_kept(&mut self) {
        self.kept.clear();
    }
}

impl Segmented {
    pub fn bytes(&self) -> usize {
        self.shelf.bytes()
    }

    pub fn shed(&mut self) {
        self.shelf.shed();
    }

    pub fn has_viewers(&self) -> bool {
        !self.viewers.is_empty() || !self.parked.is_empty()
    }

    pub fn snapshot(&self) -> SegmentsSnapshot {
        let holdings = self.shelf.holdings();
        SegmentsSnapshot {
            segments: holdings.segments,
            parts: holdings.parts,
            bytes: holdings.bytes,
            dropped: holdings.dropped,
            waiting: self.parked.len() as u64,
            requests: self.counts.requests,
            timed_out: self.counts.timed_out,
            refused: self.counts.refused,
        }
    }

    /// Viewers per label.
    pub fn viewers(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [Packing::Fmp4, Packing::Ts].into_iter().filter_map(|packing| {
            let count = self.viewers.values().filter(|(_, of)| *of == packing).count() as u64;
            (count > 0).then_some((packing.label(), count))
        })
    }

    /// Of an ended stream: pieces, and its end for those who have played it. Who comes new waits for the stream to come again.
    fn is_for(&self, request: &FetchRequest) -> bool {
        match request.resource {
            Resource::Multivariant(_) => false,
            Resource::Playlist { .. } => self.viewers.contains_key(&request.viewer) || self.viewers.len() >= VIEWERS_MAX,
            Resource::Init { .. } | Resource::Segment { .. } | Resource::Part { .. } => true,
        }
    }

    fn note(&mut self, request: &FetchRequest, now: Stamp) {
        self.asked = now;
        self.counts.requests += 1;
        if let Some(packing) = request.resource.playlist()
            && (self.viewers.len() < VIEWERS_MAX || self.viewers.contains_key(&request.viewer))
        {
            self.viewers.insert(request.viewer, (now, packing));
        }
    }

    /// The answer, or `None`: it waits.
    fn serve(&mut self, ticket: Ticket, request: Box<FetchRequest>, now: Stamp, wait_ms: u64) -> Option<Fetched> {
        // Sent again, because the answer is slow.
        if self.parked.contains_key(&ticket) {
            return None;
        }
        if request.is_expired && !self.viewers.contains_key(&request.viewer) {
            return Some(Fetched::Expired);
        }
        self.note(&request, now);
        match self.shelf.fetch(&request, now) {
            Reply::Ready(fetched) => Some(fetched),
            Reply::Wait if self.parked.len() >= PARKED_MAX => {
                self.counts.refused += 1;
                Some(Fetched::Busy)
            }
            Reply::Wait => {
                let is_first = self.shelf.holdings().segments == 0;
                let patience_ms = if is_first { wait_ms.max(FIRST_MS_MAX) } else { self.shelf.patience_ms() };
                self.parked.insert(ticket, Parked { request, until: now.after_millis(patience_ms) });
                None
            }
        }
    }

    /// What has become of those who wait.
    fn settle(&mut self, now: Stamp) -> Vec<(Ticket, Fetched)> {
        let mut ready = Vec::new();
        let Segmented { shelf, parked, counts, .. } = self;
        parked.retain(|ticket, waits| {
            let fetched = match shelf.fetch(&waits.request, now) {
                Reply::Ready(fetched) => fetched,
                Reply::Wait if waits.until <= now => {
                    counts.timed_out += 1;
                    Fetched::TimedOut
                }
                Reply::Wait => return true,
            };
            ready.push((*ticket, fetched));
            false
        });
        ready
    }

    fn forget_viewers(&mut self, now: Stamp) {
        let patience_ms = self.shelf.patience_ms();
        self.viewers.retain(|_, (seen, _)| now.millis_since(*seen) <= patience_ms);
    }
}

impl<P: Ports> Core<P> {
    // ---- the asking side

    pub(super) fn fetch(&mut self, index: ConnIndex, now: Stamp, request: Box<FetchRequest>) {
        self.stop_playing(index, now);
        if self.draining() {
            return self.answer(index, Answer::Fetched(Fetched::ShuttingDown));
        }
        self.segments.next_id += 1;
        let id = self.segments.next_id;
        let until = now.after_millis(self.config.viewer.wait_ms);
        let is_new = matches!(request.resource, Resource::Multivariant(_));
        self.conns[index].playing = Playing::Fetching { id, request, until, sent: None, is_new };
        self.rearm(index);
        self.dispatch_or_wait(index, now);
    }

    fn dispatch_or_wait(&mut self, index: ConnIndex, now: Stamp) {
        let Playing::Fetching { request, .. } = &self.conns[index].playing else { return };
        let owner = self.owner_of(&request.key);
        let keeper = self.keeper_of(&request.key).or_else(|| self.segments.last_owner(request, now));
        if !self.dispatch(index, now, owner, keeper) {
            self.wait_or_refuse(index);
        }
    }

    /// The shard where the stream is now.
    fn owner_of(&self, key: &StreamKey) -> Option<ShardId> {
        if self.owned_here(key).is_some() {
            return Some(self.id);
        }
        self.directory.owner(key).filter(|owner| *owner != self.id)
    }

    /// The shard that has what a stream has left.
    fn keeper_of(&self, key: &StreamKey) -> Option<ShardId> {
        if self.segments.kept.iter().any(|kept| kept.key == *key) {
            return Some(self.id);
        }
        self.segments.elsewhere.get(key).map(|(shard, _)| *shard)
    }

    /// Takes a request to whoever has the stream, or what is left of it; `false`: nobody has.
    fn dispatch(&mut self, index: ConnIndex, now: Stamp, owner: Option<ShardId>, keeper: Option<ShardId>) -> bool {
        let Playing::Fetching { id, request, is_new, .. } = &self.conns[index].playing else { return true };
        let Some(place) = owner.or(keeper.filter(|_| !is_new)) else { return false };
        let (id, request) = (*id, request.clone());
        let ticket = Ticket { shard: self.id, index, id };
        if owner == Some(place) && place != self.id {
            self.segments.remember_owner(&request.key, place, now);
        }
        let give_up = now.after_millis(self.config.viewer.wait_ms + GIVE_UP_MS);
        if let Playing::Fetching { until, sent, .. } = &mut self.conns[index].playing {
            if sent.is_none() {
                *until = give_up.max(*until);
            }
            *sent = (place != self.id).then_some(now);
        }
        if place == self.id {
            self.serve_fetch(ticket, request, now);
        } else {
            self.ports.post(place, Message::Fetch { ticket, request });
        }
        true
    }

    fn wait_or_refuse(&mut self, index: ConnIndex) {
        let Playing::Fetching { request, sent, .. } = &mut self.conns[index].playing else { return };
        if request.resource.playlist().is_some() {
            *sent = None;
            let key = request.key.clone();
            self.wait_for(&key, index);
        } else {
            self.conns[index].playing = Playing::No;
            self.answer(index, Answer::Fetched(Fetched::NotFound));
        }
    }

    /// A stream of that name may be there now: those who want to fetch of it do not wait any longer.
    pub(super) fn dispatch_waiting(&mut self, now: Stamp, key: &StreamKey) {
        if !self.waiting.contains_key(key) {
            return;
        }
        let (owner, keeper) = (self.owner_of(key), self.keeper_of(key));
        if owner.or(keeper).is_none() {
            return;
        }
        let fetches = |conn: &Conn| matches!(conn.playing, Playing::Fetching { is_new, .. } if owner.is_some() || !is_new);
        let Some(waiting) = self.waiting.get_mut(key) else { return };
        let mut fetching = Vec::new();
        waiting.retain(|index| {
            let is_fetching = self.conns.get(*index).is_some_and(fetches);
            if is_fetching {
                fetching.push(*index);
            }
            !is_fetching
        });
        if waiting.is_empty() {
            self.waiting.remove(key);
        }
        for index in fetching {
            if !self.dispatch(index, now, owner, keeper) {
                self.waiting.entry(key.clone()).or_default().push_back(index);
            }
        }
    }

    /// The answer to a request of a session here.
    pub(super) fn fetched(&mut self, ticket: Ticket, fetched: Fetched) {
        let Some(conn) = self.conns.get(ticket.index) else { return };
        let Playing::Fetching { id, request, is_new, .. } = &conn.playing else { return };
        if *id != ticket.id {
            return;
        }
        // The keeper of an ended stream does not know this viewer.
        let is_newcomer = fetched == Fetched::NotFound && request.resource.playlist().is_some() && !is_new;
        if is_newcomer && self.owner_of(&request.key).is_none() {
            return self.wait_anew(ticket.index);
        }
        self.conns[ticket.index].playing = Playing::No;
        self.answer(ticket.index, Answer::Fetched(fetched));
    }

    /// Waits for the stream to come again, as for one that never was there.
    fn wait_anew(&mut self, index: ConnIndex) {
        let wait_until = self.ports.now().after_millis(self.config.viewer.wait_ms);
        self.segments.next_id += 1;
        if let Playing::Fetching { id, until, sent, is_new, .. } = &mut self.conns[index].playing {
            // Another answer to what was sent does not count any more.
            *id = self.segments.next_id;
            (*until, *sent, *is_new) = (wait_until, None, true);
        }
        self.rearm(index);
        self.wait_or_refuse(index);
    }

    /// The session has waited long enough.
    pub(super) fn give_up_fetching(&mut self, index: ConnIndex) {
        let Playing::Fetching { sent, request, .. } = &self.conns[index].playing else { return };
        let fetched = if sent.is_some() { Fetched::TimedOut } else { Fetched::NotFound };
        log::info!("{}: not there for {} from {}", request.key, self.conns[index].label(), self.conns[index].peer_text());
        self.leave_waiting(index);
        self.answer(index, Answer::Fetched(fetched));
    }

    // ---- the owner's side

    pub(super) fn owned_here(&self, key: &StreamKey) -> Option<StreamIndex> {
        self.by_key.get(key).copied().filter(|at| matches!(self.streams[*at].source, Source::Owner { .. }))
    }

    pub(super) fn serve_fetch(&mut self, ticket: Ticket, request: Box<FetchRequest>, now: Stamp) {
        let wait_ms = self.config.viewer.wait_ms;
        let nothing = if request.is_expired { Fetched::Expired } else { Fetched::NotFound };
        let mut answer = Some(nothing.clone());
        if let Some(at) = self.owned_here(&request.key) {
            // Who asks for a piece has seen a playlist, or guesses.
            if request.resource.playlist().is_some() && !request.is_expired {
                self.begin_segments(at, now);
            }
            if let Some(segmented) = &mut self.streams[at].taps.segmented {
                answer = segmented.serve(ticket, request.clone(), now, wait_ms);
            }
        }
        // Also what the stream before of that name has left.
        if answer.as_ref() == Some(&nothing)
            && let Some(kept) = self.segments.kept.iter_mut().rev().find(|kept| kept.key == request.key)
            && kept.segmented.is_for(&request)
        {
            answer = kept.segmented.serve(ticket, request, now, wait_ms);
        }
        if let Some(fetched) = answer {
            self.answer_fetch(ticket, fetched);
        }
    }

    fn answer_fetch(&mut self, ticket: Ticket, fetched: Fetched) {
        if ticket.shard == self.id {
            self.fetched(ticket, fetched);
        } else {
            self.ports.post(ticket.shard, Message::Fetched(vec![(ticket, fetched)]));
        }
    }

    /// Many at once: one message per shard.
    fn answer_fetches(&mut self, ready: Vec<(Ticket, Fetched)>) {
        let mut elsewhere: FxHashMap<ShardId, Vec<(Ticket, Fetched)>> = FxHashMap::default();
        for (ticket, fetched) in ready {
            if ticket.shard == self.id {
                self.fetched(ticket, fetched);
            } else {
                elsewhere.entry(ticket.shard).or_default().push((ticket, fetched));
            }
        }
        for (shard, answers) in elsewhere {
            self.ports.post(shard, Message::Fetched(answers));
        }
    }

    /// From now on the stream is cut.
    pub(super) fn begin_segments(&mut self, at: StreamIndex, now: Stamp) {
        if self.streams[at].taps.segmented.is_some() || !self.config.hls.enabled {
            return;
        }
        let epoch_nanos = self.ports.muxer_context().epoch_nanos;
        let events = self.begin_tap(at);
        let slot = &mut self.streams[at];
        let settings = (&self.config.hls).into();
        let mut shelf = Shelf::new(settings, epoch_nanos, now, slot.stream.counters.gop_ms, self.segments.first_msn);
        if let Some(before) = self.segments.kept.iter().rev().find(|kept| kept.key == slot.stream.key) {
            shelf.follow(&before.segmented.shelf);
        }
        events.iter().for_each(|event| shelf.push(event, now));
        let segmented =
            Segmented { shelf, parked: FxHashMap::default(), viewers: HashMap::new(), asked: now, counts: Counts::default() };
        slot.taps.segmented = Some(Box::new(segmented));
        slot.collect_events();
    }

    /// Events of a stream that is cut.
    pub(super) fn cut(&mut self, at: StreamIndex, events: &[MediaEvent]) {
        let Some(segmented) = &mut self.streams[at].taps.segmented else { return };
        let now = self.ports.now();
        let version = segmented.shelf.version();
        events.iter().for_each(|event| segmented.shelf.push(event, now));
        segmented.shelf.work();
        let ready = if segmented.shelf.version() == version { Vec::new() } else { segmented.settle(now) };
        self.answer_fetches(ready);
        if events.contains(&MediaEvent::End) {
            self.keep_segments(at, now);
        }
    }

    /// The stream is over: players have still to fetch its end.
    fn keep_segments(&mut self, at: StreamIndex, now: Stamp) {
        let Some(segmented) = self.streams[at].taps.segmented.take() else { return };
        self.streams[at].collect_events();
        self.segments.first_msn = self.segments.first_msn.max(segmented.shelf.next_msn());
        if segmented.shelf.list_ms() == 0 {
            return;
        }
        let key = self.streams[at].stream.key.clone();
        let ms = segmented.shelf.list_ms() + segmented.shelf.patience_ms();
        for shard in (0..self.shards).filter(|shard| *shard != self.id) {
            self.ports.post(shard, Message::Kept { key: key.clone(), from: self.id, ms });
        }
        self.segments.kept.retain(|kept| kept.key != key);
        if self.segments.kept.len() >= KEPT_MAX {
            self.segments.kept.pop_front();
        }
        self.segments.kept.push_back(Kept { key, segmented, until: now.after_millis(ms) });
    }

    /// Another shard keeps the end of a stream.
    pub(super) fn kept_elsewhere(&mut self, now: Stamp, key: StreamKey, from: ShardId, ms: u64) {
        if self.segments.elsewhere.len() < ELSEWHERE_MAX {
            self.segments.elsewhere.insert(key.clone(), (from, now.after_millis(ms)));
        }
        // Who has asked in between waits for somebody to publish.
        self.dispatch_waiting(now, &key);
    }

    pub(super) fn sweep_segments(&mut self, now: Stamp) {
        let config = self.config.clone();
        let mut ready = Vec::new();
        for (_, slot) in &mut self.streams {
            let Some(segmented) = &mut slot.taps.segmented else { continue };
            let version = segmented.shelf.version();
            segmented.shelf.tick(now);
            segmented.forget_viewers(now);
            let is_new = segmented.shelf.version() != version;
            if is_new || segmented.parked.values().any(|parked| parked.until <= now) {
                ready.append(&mut segmented.settle(now));
            }
            // Who plays asks once in a target duration.
            let idle_ms = config.hls.idle_ms.max(segmented.shelf.patience_ms());
            let is_idle = segmented.parked.is_empty() && now.millis_since(segmented.asked) >= idle_ms;
            if is_idle && !config.hls.always {
                self.segments.first_msn = self.segments.first_msn.max(segmented.shelf.next_msn());
                log::info!("{}: nobody fetches its segments any more", slot.stream.key);
                slot.taps.segmented = None;
                slot.collect_events();
            }
        }
        self.answer_fetches(ready);
        self.segments.kept.retain(|kept| kept.until > now);
        self.segments.elsewhere.retain(|_, (_, until)| *until > now);
        self.segments.owners.retain(|_, (_, until)| *until > now);
        self.repeat_fetches(now);
    }

    /// Messages between shards may be lost.
    fn repeat_fetches(&mut self, now: Stamp) {
        let is_due = |playing: &Playing| matches!(playing, Playing::Fetching { sent: Some(sent), .. } if now.millis_since(*sent) >= REPEAT_MS);
        let due: Vec<ConnIndex> = self.conns.iter().filter(|(_, conn)| is_due(&conn.playing)).map(|(index, _)| index).collect();
        due.into_iter().for_each(|index| self.dispatch_or_wait(index, now));
    }
}

impl Slot {
    /// What is held of it in segments.
    pub(super) fn segment_bytes(&self) -> usize {
        self.taps.segmented.as_ref().map_or(0, |segmented| segmented.bytes())
    }
}
