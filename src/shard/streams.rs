//! Publishing, playing, and watching a stream that another shard owns.

use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use super::conn::{Datagrams, Moving, Playing, State, StreamIndex};
use super::core::{Answer, Core, Ports};
use super::flush::{take_drops, viewer_place};
use super::groups::StreamGroup;
use super::message::{Batch, Message, ShardId};
use super::passes::Place;
use super::taps::Taps;
use crate::config::PublishConflict;
use crate::format::rtp::RtpStart;
use crate::hub::fanout::{ConnIndex, Fanout};
use crate::hub::outgoing::Subscription;
use crate::hub::ring::Cursor;
use crate::hub::stats::{DropReason, merge_latency};
use crate::hub::{Claim, Stream};
use crate::media::{Discard, MediaEvent, Stamp, TrackKind};
use crate::session::{CloseReason, Delivery, Output, PairTarget, PlayRequest, Refusal, StreamKey};

/// How long a watched stream without viewers is kept.
const WATCH_LINGER_MS: u64 = 1_000;
/// How often an unanswered watch is repeated, and how often waiting viewers' streams are looked up again.
const WATCH_RETRY_MS: u64 = 1_000;
/// A connection that was sent from owner to owner this often is refused.
const MOVES_MAX: u8 = 4;

/// A stream in the shard's table.
pub struct Slot {
    pub stream: Stream,
    pub source: Source,
    pub group: Option<StreamGroup>,
    pub dirty: bool,
    /// Whether its viewers are being served, and in which pass they were last.
    pub place: Place,
    pub last_pass: u64,
    pub began: Stamp,
    /// Nothing comes any more; goes when the last viewer has got what there was.
    pub ended: bool,
    /// Since when nobody views it here.
    pub idle_since: Option<Stamp>,
    /// Of an owner: since when nobody views it or waits for it on any shard, as the last look has found.
    pub unwatched_since: Option<Stamp>,
    /// Of an owner: who takes all of its events besides viewers and other shards.
    pub taps: Taps,
}

impl Slot {
    /// Whether its events are collected for others than the viewers here.
    pub(super) fn collect_events(&mut self) {
        let is_watched = matches!(&self.source, Source::Owner { watchers, .. } if !watchers.is_empty());
        self.stream.watched = is_watched || !self.taps.is_empty();
    }
}

/// Where a stream's events come from.
pub enum Source {
    Owner {
        /// `None`: gone without a goodbye, at `gone_since`.
        publisher: Option<ConnIndex>,
        gone_since: Stamp,
        watchers: Vec<Watcher>,
    },
    Watcher {
        owner: ShardId,
        watch: u64,
        asked: Stamp,
    },
}

/// A shard that watches a stream owned here.
pub struct Watcher {
    pub shard: ShardId,
    pub watch: u64,
    pub step: Step,
}

/// What a watching shard has of what came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    New,
    /// All: the next batch simply goes on.
    In,
    /// Its lane was full: what comes before the next keyframe is lost for it.
    Behind,
}

impl<P: Ports> Core<P> {
    // ---- publishing

    pub(super) fn publish(&mut self, index: ConnIndex, now: Stamp, key: StreamKey) {
        if self.draining() {
            return self.answer(index, Answer::Refused(Refusal::ShuttingDown));
        }
        if self.conns[index].publishing.is_some() {
            return self.answer(index, Answer::Refused(Refusal::NameInUse));
        }
        let owned_here = self.by_key.get(&key).copied().filter(|at| matches!(self.streams[*at].source, Source::Owner { .. }));
        match owned_here {
            Some(at) => self.publish_again(index, now, at),
            None => match self.directory.claim(&key, self.id) {
                Claim::Owned => self.publish_new(index, now, key),
                Claim::HeldBy(owner) => self.move_to(index, owner, Output::Publish(key)),
            },
        }
    }

    fn publish_new(&mut self, index: ConnIndex, now: Stamp, key: StreamKey) {
        if self.streams.len() >= self.config.limits.streams_per_shard_max {
            self.directory.release(&key, self.id);
            return self.answer(index, Answer::Refused(Refusal::LimitReached));
        }
        // A stream of that name which was watched from here is over: its owner gave the name up.
        if let Some(old) = self.by_key.get(&key).copied() {
            self.end_stream(old);
        }
        let source = Source::Owner { publisher: None, gone_since: now, watchers: Vec::new() };
        let at = self.insert_stream(now, key.clone(), source);
        if self.config.hls.always {
            self.begin_segments(at, now);
        }
        self.dispatch_waiting(now, &self.streams[at].stream.key.clone());
        self.begin_publishing(index, now, at);
        for shard in (0..self.shards).filter(|shard| *shard != self.id) {
            self.ports.post(shard, Message::Published(key.clone()));
        }
    }

    /// The name is known here: its publisher comes back, or somebody else wants it.
    fn publish_again(&mut self, index: ConnIndex, now: Stamp, at: StreamIndex) {
        let Source::Owner { publisher, .. } = &self.streams[at].source else { return };
        if let Some(holder) = *publisher {
            let silent_ms = now.millis_since(self.conns[holder].last_input);
            let config = &self.config.stream;
            if config.publish_conflict == PublishConflict::Reject || silent_ms < config.takeover_silence_ms {
                let (key, peer) = (&self.streams[at].stream.key, self.conns[index].peer_text());
                log::info!("{key}: {peer} may not publish, the name is in use by {}", self.conns[holder].peer_text());
                return self.answer(index, Answer::Refused(Refusal::NameInUse));
            }
            let (key, peer) = (&self.streams[at].stream.key, self.conns[holder].peer_text());
            log::info!("{key}: taken over from {peer}, silent for {silent_ms} ms");
            self.conns[holder].publishing = None;
            self.close_with(holder, CloseReason::TakenOver);
        }
        self.begin_publishing(index, now, at);
    }

    fn begin_publishing(&mut self, index: ConnIndex, now: Stamp, at: StreamIndex) {
        let slot = &mut self.streams[at];
        if let Source::Owner { publisher, .. } = &mut slot.source {
            *publisher = Some(index);
        }
        slot.unwatched_since = None;
        slot.stream.begin_segment();
        let conn = &mut self.conns[index];
        conn.publishing = Some(at);
        conn.moves = 0;
        conn.last_input = now;
        log::info!("{}: {} publishes from {}", slot.stream.key, conn.protocol, conn.peer_text());
        self.answer(index, Answer::Publishing);
    }

    /// What it wants is on another shard: the connection goes there and asks again.
    pub(super) fn move_to(&mut self, index: ConnIndex, owner: ShardId, wish: Output) {
        let conn = &mut self.conns[index];
        if conn.moves >= MOVES_MAX || conn.socket.is_none() {
            return self.answer(index, Answer::Refused(Refusal::NameInUse));
        }
        let moving = Moving { to: owner, moves: conn.moves + 1, outputs: vec![wish], answers: Vec::new() };
        conn.moving = Some(Box::new(moving));
        conn.wake();
        log::debug!("{} {}: moves from shard {} to {owner}", conn.protocol, conn.peer_text(), self.id);
    }

    pub(super) fn publish_event(&mut self, index: ConnIndex, now: Stamp, event: MediaEvent) {
        let conn = &mut self.conns[index];
        let Some(at) = conn.publishing else { return };
        // The built-in clip has no peer that is heard.
        conn.last_input = now;
        self.advance(at, now, |stream| stream.publish(event));
    }

    /// Brings a stream on; whoever waited for what has come is served.
    fn advance(&mut self, at: StreamIndex, now: Stamp, act: impl FnOnce(&mut Stream)) {
        let slot = &mut self.streams[at];
        let (was_settled, changes) = (slot.stream.settled(), slot.stream.track_changes());
        act(&mut slot.stream);
        let is_settled = slot.stream.settled();
        if is_settled && (slot.stream.track_changes() != changes || !was_settled) {
            if !was_settled && matches!(slot.source, Source::Owner { .. }) {
                log::info!("{}: {}", slot.stream.key, slot.stream.describe());
            }
            self.serve_waiting(at, now);
        }
        if is_settled && !was_settled {
            self.bring_into_step(at);
            if matches!(self.streams[at].source, Source::Owner { .. }) {
                self.start_ruled_recorders(at, now);
            }
        }
        self.mark_stream(at);
    }

    pub(super) fn count_discard(&mut self, index: ConnIndex, discard: Discard) {
        if let Some(at) = self.conns[index].publishing {
            let stream = &mut self.streams[at].stream;
            let count = &mut stream.counters.discarded[discard as usize];
            if *count == 0 && discard == Discard::UnknownCodec {
                log::warn!("{}: has media in a codec that is not carried; it is left out", stream.key);
            }
            *count += 1;
        }
    }

    pub(super) fn unpublish(&mut self, index: ConnIndex, _now: Stamp) {
        if let Some(at) = self.conns[index].publishing.take() {
            log::info!("{}: ended by its publisher {}", self.streams[at].stream.key, self.conns[index].peer_text());
            self.end_stream(at);
        }
    }

    /// The publisher's connection is over without a goodbye: viewers wait for it.
    pub(super) fn publisher_left(&mut self, index: ConnIndex, now: Stamp) {
        let Some(at) = self.conns[index].publishing.take() else { return };
        let slot = &mut self.streams[at];
        if let Source::Owner { publisher, gone_since, .. } = &mut slot.source {
            *publisher = None;
            *gone_since = now;
        }
        let (key, peer) = (slot.stream.key.clone(), self.conns[index].peer_text());
        let grace_ms = self.config.stream.publisher_grace_ms;
        if self.draining() || grace_ms == 0 {
            log::info!("{key}: publisher {peer} gone, ended");
            self.end_stream(at);
        } else {
            log::info!("{key}: publisher {peer} gone, waiting {grace_ms} ms for it");
        }
    }

    // ---- the table of streams

    fn insert_stream(&mut self, now: Stamp, key: StreamKey, source: Source) -> StreamIndex {
        let stream = Stream::new(key.clone(), &self.config);
        let slot = Slot {
            stream,
            source,
            group: None,
            dirty: false,
            place: Place::Idle,
            last_pass: 0,
            began: now,
            ended: false,
            idle_since: Some(now),
            unwatched_since: None,
            taps: Taps::default(),
        };
        let at = self.streams.insert(slot);
        self.by_key.insert(key, at);
        at
    }

    pub(super) fn mark_stream(&mut self, at: StreamIndex) {
        let slot = &mut self.streams[at];
        if !std::mem::replace(&mut slot.dirty, true) {
            self.dirty_streams.push_back(at);
        }
    }

    /// Nothing more comes: gives the name up and lets viewers finish.
    fn end_stream(&mut self, at: StreamIndex) {
        let slot = &mut self.streams[at];
        if slot.ended {
            return;
        }
        if matches!(slot.source, Source::Owner { .. }) {
            let now = self.ports.now();
            self.advance(at, now, Stream::release);
        }
        let slot = &mut self.streams[at];
        slot.ended = true;
        slot.stream.push(MediaEvent::End);
        let key = slot.stream.key.clone();
        if self.by_key.get(&key) == Some(&at) {
            self.by_key.remove(&key);
        }
        match &slot.source {
            Source::Owner { .. } => self.directory.release(&key, self.id),
            Source::Watcher { owner, watch, .. } => {
                self.ports.post(*owner, Message::Unwatch { key, watch: *watch, from: self.id });
            }
        }
        self.mark_stream(at);
    }

    pub(super) fn sweep_streams(&mut self, now: Stamp) {
        let grace_ms = self.config.stream.publisher_grace_ms;
        let all: Vec<StreamIndex> = self.streams.iter().map(|(at, _)| at).collect();
        for at in all {
            let slot = &self.streams[at];
            let idle_ms = slot.idle_since.map_or(0, |since| now.millis_since(since));
            match &slot.source {
                _ if slot.ended && slot.idle_since.is_some() && !slot.dirty => self.remove_stream(at),
                _ if slot.ended => self.mark_stream(at),
                Source::Owner { publisher: None, gone_since, .. } if now.millis_since(*gone_since) >= grace_ms => {
                    log::info!("{}: ended, its publisher did not come back", slot.stream.key);
                    self.end_stream(at);
                }
                Source::Watcher { .. } if idle_ms >= WATCH_LINGER_MS && !self.waiting.contains_key(&slot.stream.key) => {
                    self.end_stream(at);
                }
                Source::Watcher { asked, .. } if !slot.stream.settled() && now.millis_since(*asked) >= WATCH_RETRY_MS => {
                    self.ask_owner(at, now);
                }
                _ => {}
            }
        }
        self.look_up_waiting(now);
        self.tell_unwatched(now);
        self.repeat_wanted(now);
        self.bound_media();
    }

    /// Keeps this shard within its part of `limits.media_bytes_max`: the largest stream gives up what it keeps.
    fn bound_media(&mut self) {
        let part = self.config.limits.media_bytes_max / usize::from(self.shards);
        let media_bytes = |slot: &Slot| slot.stream.media_bytes() + slot.segment_bytes() + slot.taps.kept_bytes();
        let mut kept: usize = self.streams.iter().map(|(_, slot)| media_bytes(slot)).sum::<usize>() + self.segments.bytes();
        if kept > part {
            kept -= self.segments.bytes();
            self.segments.give_up_kept();
        }
        if kept <= part {
            return;
        }
        let mut sized: BinaryHeap<(usize, StreamIndex)> = self.streams.iter().map(|(at, slot)| (media_bytes(slot), at)).collect();
        while kept > part
            && let Some((_, at)) = sized.pop()
        {
            let given = self.give_up_media(at);
            kept = kept.saturating_sub(given);
            // Who can give nothing is asked no more.
            if given > 0 {
                sized.push((media_bytes(&self.streams[at]), at));
            }
        }
    }

    /// A stream gives up half of its segments, else what it keeps for newcomers: how many bytes that was.
    fn give_up_media(&mut self, at: StreamIndex) -> usize {
        let slot = &mut self.streams[at];
        let stream = &mut slot.stream;
        if let Some(segmented) = &mut slot.taps.segmented {
            let before = segmented.bytes();
            segmented.shed();
            let shed = before.saturating_sub(segmented.bytes());
            if shed > 0 {
                log::warn!("{}: gives up {} KiB of segments, limits.media_bytes_max is reached", stream.key, shed / 1024);
                return shed;
            }
        }
        if let Some(given) = slot.taps.pre_roll.as_mut().map(|pre_roll| pre_roll.drop_oldest()).filter(|given| *given > 0) {
            log::warn!("{}: gives up {} KiB of pre-roll, limits.media_bytes_max is reached", stream.key, given / 1024);
            return given;
        }
        let before = stream.media_bytes();
        if before == 0 {
            return 0;
        }
        stream.forget_media();
        let given = before.saturating_sub(stream.media_bytes());
        log::warn!("{}: gives up {} KiB of kept media, limits.media_bytes_max is reached", stream.key, given / 1024);
        self.mark_stream(at);
        given
    }

    fn remove_stream(&mut self, at: StreamIndex) {
        let slot = self.streams.remove(at);
        self.retire_recorders(slot.taps.recorders);
        merge_latency(&mut self.counters.latency, &slot.stream.latency());
        for (sum, dropped) in self.counters.dropped.iter_mut().zip(slot.stream.counters.dropped) {
            *sum += dropped;
        }
        self.dirty_streams.retain(|dirty| *dirty != at);
        self.passes.remove(at);
    }

    // ---- playing

    pub(super) fn play(&mut self, index: ConnIndex, now: Stamp, request: PlayRequest) {
        self.stop_playing(index, now);
        if self.draining() {
            return self.answer(index, Answer::Refused(Refusal::ShuttingDown));
        }
        let key = request.key.clone();
        let is_known = |stream: &Stream| stream.settled() && stream.has_media_for(request.format, now).is_some();
        if let Some(at) = self.by_key.get(&key).copied().filter(|at| is_known(&self.streams[*at].stream)) {
            return self.attach(index, at, now, request);
        }
        let until = now.after_millis(self.config.viewer.wait_ms);
        self.conns[index].playing = Playing::Waiting { request: Box::new(request), until };
        self.wait_for(&key, index);
        self.rearm(index);
        self.watch_if_owned_elsewhere(now, &key);
    }

    /// Says what a stream consists of, waiting for it as a viewer does. Who views already is answered at once.
    pub(super) fn describe(&mut self, index: ConnIndex, now: Stamp, key: StreamKey) {
        let views = matches!(self.conns[index].playing, Playing::Viewing { .. });
        let is_known = |stream: &Stream| if views { stream.settled() } else { stream.is_complete(now) };
        if let Some(at) = self.by_key.get(&key).copied().filter(|at| is_known(&self.streams[*at].stream)) {
            let tracks = self.streams[at].stream.tracks().clone();
            return self.answer(index, Answer::Described(tracks));
        }
        if views {
            return self.answer(index, Answer::Refused(Refusal::NotFound));
        }
        self.stop_playing(index, now);
        if self.draining() {
            return self.answer(index, Answer::Refused(Refusal::ShuttingDown));
        }
        let until = now.after_millis(self.config.viewer.wait_ms);
        self.conns[index].playing = Playing::Describing { key: key.clone(), until };
        self.wait_for(&key, index);
        self.rearm(index);
        self.watch_if_owned_elsewhere(now, &key);
    }

    fn attach(&mut self, index: ConnIndex, at: StreamIndex, now: Stamp, request: PlayRequest) {
        let stream = &self.streams[at].stream;
        if stream.has_media_for(request.format, now) == Some(false) {
            let (key, label) = (&stream.key, request.protocol);
            log::info!("{key}: {label} to {} refused, {} has no place in it", self.conns[index].peer_text(), stream.describe());
            return self.answer(index, Answer::Refused(Refusal::NotCarried));
        }
        if !stream.has_room_for(request.format) {
            let (key, label) = (&stream.key, request.protocol);
            log::warn!("{key}: {label} to {} refused, too many channel numbers at once", self.conns[index].peer_text());
            return self.answer(index, Answer::Refused(Refusal::LimitReached));
        }
        let datagrams = self.datagrams_of(index, request.delivery);
        self.attach_with(index, at, request, datagrams);
    }

    /// `None`: what it is sent goes over its connection.
    pub(super) fn attach_with(&mut self, index: ConnIndex, at: StreamIndex, request: PlayRequest, datagrams: Option<Datagrams>) {
        let slot = &mut self.streams[at];
        let context = self.ports.muxer_context();
        let fanout_at = slot.stream.fanout(request.format, request.protocol, context);
        let fanout = &mut slot.stream.fanouts[fanout_at];
        let place = fanout.viewers.len();
        fanout.viewers.push(index);
        slot.idle_since = None;
        let conn = &mut self.conns[index];
        let slot = &self.streams[at];
        let fanout = &slot.stream.fanouts[fanout_at];
        let subscription = Subscription::new(&fanout.ring, request.start, datagrams.is_some());
        let start = start_of(&slot.stream, fanout, &subscription);
        conn.out.subscription = Some(subscription);
        conn.datagrams = datagrams.map(Box::new);
        log::info!("{}: {} plays to {}", slot.stream.key, request.protocol, conn.peer_text());
        let PlayRequest { key, format, protocol, .. } = request;
        conn.playing = Playing::Viewing { stream: at, key, format, protocol, place };
        self.mark_conn(index);
        self.answer(index, Answer::Playing(start));
    }

    fn datagrams_of(&self, index: ConnIndex, delivery: Delivery) -> Option<Datagrams> {
        let Delivery::Datagrams { video, audio } = delivery else { return None };
        let with_pair = |target: Option<PairTarget>| target.and_then(|target| Some((self.pair(index, target.pair)?, target)));
        Some(Datagrams { video: with_pair(video), audio: with_pair(audio), paced_until: Stamp::ZERO })
    }

    /// A stream has settled, has got another track, or is old enough to be described.
    fn serve_waiting(&mut self, at: StreamIndex, now: Stamp) {
        let stream = &self.streams[at].stream;
        let (key, is_complete) = (stream.key.clone(), stream.is_complete(now));
        let Some(waiting) = self.waiting.remove(&key) else { return };
        let mut left = VecDeque::new();
        for index in waiting {
            let Some(conn) = self.conns.get_mut(index) else { continue };
            match std::mem::replace(&mut conn.playing, Playing::No) {
                Playing::Waiting { request, .. } if self.streams[at].stream.has_media_for(request.format, now).is_some() => {
                    self.attach(index, at, now, *request);
                }
                Playing::Describing { .. } if is_complete => {
                    let tracks = self.streams[at].stream.tracks().clone();
                    self.answer(index, Answer::Described(tracks));
                }
                other => {
                    if !matches!(other, Playing::No | Playing::Viewing { .. }) {
                        left.push_back(index);
                    }
                    conn.playing = other;
                }
            }
        }
        if !left.is_empty() {
            self.waiting.insert(key, left);
        }
    }

    pub(super) fn give_up_waiting(&mut self, index: ConnIndex) {
        let conn = &self.conns[index];
        if let Some(key) = conn.played_key() {
            log::info!("{key}: not there for {} from {}", conn.label(), conn.peer_text());
        }
        self.leave_waiting(index);
        self.answer(index, Answer::Refused(Refusal::NotFound));
    }

    pub(super) fn leave_waiting(&mut self, index: ConnIndex) {
        let key = match std::mem::replace(&mut self.conns[index].playing, Playing::No) {
            Playing::Waiting { request, .. } => request.key,
            Playing::Describing { key, .. } => key,
            Playing::Fetching { request, .. } => request.key,
            Playing::No | Playing::Viewing { .. } => return,
        };
        if let Some(list) = self.waiting.get_mut(&key) {
            // Who has waited longest stands in front, and goes first where many give up.
            if let Some(at) = list.iter().position(|waiting| *waiting == index) {
                list.remove(at);
            }
            if list.is_empty() {
                self.waiting.remove(&key);
            }
        }
    }

    pub(super) fn stop_playing(&mut self, index: ConnIndex, now: Stamp) {
        match &self.conns[index].playing {
            Playing::No => {}
            Playing::Waiting { .. } | Playing::Describing { .. } | Playing::Fetching { .. } => self.leave_waiting(index),
            Playing::Viewing { .. } => self.detach(index, now),
        }
    }

    fn detach(&mut self, index: ConnIndex, now: Stamp) {
        let conn = &mut self.conns[index];
        let Playing::Viewing { stream: at, format, protocol, place: left, .. } =
            std::mem::replace(&mut conn.playing, Playing::No)
        else {
            return;
        };
        let slot = &mut self.streams[at];
        let stream = &mut slot.stream;
        log::info!("{}: {protocol} to {} ended", stream.key, conn.peer_text());
        let of_request = |fanout: &crate::hub::Fanout| fanout.format == format && fanout.protocol == protocol;
        let fanout_at = stream.fanouts.iter().position(of_request);
        conn.datagrams = None;
        conn.out.unsubscribe(fanout_at.map(|at| &stream.fanouts[at].ring));
        take_drops(&mut conn.out, &mut stream.counters);
        if let Some(fanout_at) = fanout_at {
            let fanout = &mut stream.fanouts[fanout_at];
            debug_assert_eq!(fanout.viewers[left], index, "every viewer knows its place");
            for (moved, to) in fanout.remove_viewer(left) {
                if let Playing::Viewing { place, .. } = &mut self.conns[moved].playing {
                    *place = to;
                }
            }
            if fanout.viewers.is_empty() {
                stream.retire_fanout(fanout_at);
            }
        }
        if stream.fanouts.is_empty() {
            slot.idle_since = Some(now);
        }
    }

    pub(super) fn pause(&mut self, index: ConnIndex, paused: bool) {
        let conn = &mut self.conns[index];
        let Some((at, fanout_at)) = viewer_place(&conn.playing, &self.streams) else { return };
        if let Some(fanout) = self.streams[at].stream.fanouts.get(fanout_at) {
            conn.out.set_paused(paused, &fanout.ring);
        }
    }

    /// A viewer has been sent all of a stream that is over.
    pub(super) fn viewer_finished(&mut self, index: ConnIndex, now: Stamp) {
        if let Some(at) = self.group_viewed(index) {
            return self.end_group(at, now);
        }
        if self.conns.get(index).is_some_and(|conn| conn.state == State::Open) {
            self.stop_playing(index, now);
            self.answer(index, Answer::Ended);
        }
    }

    // ---- watching

    fn watch_if_owned_elsewhere(&mut self, now: Stamp, key: &StreamKey) {
        if self.by_key.contains_key(key) {
            return;
        }
        let Some(owner) = self.directory.owner(key).filter(|owner| *owner != self.id) else { return };
        self.next_watch += 1;
        let source = Source::Watcher { owner, watch: self.next_watch, asked: now };
        let at = self.insert_stream(now, key.clone(), source);
        self.ask_owner(at, now);
    }

    fn ask_owner(&mut self, at: StreamIndex, now: Stamp) {
        let slot = &mut self.streams[at];
        if let Source::Watcher { owner, watch, asked } = &mut slot.source {
            *asked = now;
            let message = Message::Watch { key: slot.stream.key.clone(), watch: *watch, from: self.id };
            self.ports.post(*owner, message);
        }
    }

    pub(super) fn published(&mut self, now: Stamp, key: &StreamKey) {
        self.dispatch_waiting(now, key);
        if self.waiting.contains_key(key) {
            self.watch_if_owned_elsewhere(now, key);
        }
    }

    /// Messages between shards may be lost when an inbox is full; the directory is not. Who wants a description waits for time alone.
    fn look_up_waiting(&mut self, now: Stamp) {
        let keys: Vec<StreamKey> = self.waiting.keys().cloned().collect();
        for key in keys {
            self.dispatch_waiting(now, &key);
            if !self.waiting.contains_key(&key) {
                continue;
            }
            match self.by_key.get(&key).copied() {
                Some(at) if self.streams[at].stream.settled() => self.serve_waiting(at, now),
                Some(_) => {}
                None => self.watch_if_owned_elsewhere(now, &key),
            }
        }
    }

    /// Another shard wants a stream.
    pub(super) fn watch_asked(&mut self, key: &StreamKey, watch: u64, from: ShardId) {
        let at = self.by_key.get(key).copied();
        let owned = at.filter(|at| matches!(self.streams[*at].source, Source::Owner { .. }));
        let Some(at) = owned else {
            return self.ports.post(from, Message::Gone { key: key.clone(), watch });
        };
        if let Source::Owner { watchers, .. } = &mut self.streams[at].source {
            // The same watch asked again, because the answer was slow: what it has got it must not get twice.
            if !watchers.iter().any(|watcher| watcher.shard == from && watcher.watch == watch) {
                watchers.retain(|watcher| watcher.shard != from);
                watchers.push(Watcher { shard: from, watch, step: Step::New });
            }
        }
        self.streams[at].collect_events();
        if self.streams[at].stream.settled() {
            self.bring_into_step(at);
        }
    }

    pub(super) fn unwatch_asked(&mut self, key: &StreamKey, watch: u64, from: ShardId) {
        let Some(slot) = self.by_key.get(key).and_then(|at| self.streams.get_mut(*at)) else { return };
        if let Source::Owner { watchers, .. } = &mut slot.source {
            watchers.retain(|watcher| watcher.shard != from || watcher.watch != watch);
        }
        slot.collect_events();
    }

    pub(super) fn watch_refused(&mut self, _now: Stamp, key: &StreamKey, watch: u64) {
        let Some(at) = self.by_key.get(key).copied() else { return };
        if matches!(self.streams[at].source, Source::Watcher { watch: asked, .. } if asked == watch) {
            self.end_stream(at);
        }
    }

    /// Sends what happened in this turn to the shards that watch. One that missed a batch goes on at the next keyframe.
    pub(super) fn forward(&mut self, at: StreamIndex) {
        let Some(events) = self.send_outgoing(at) else { return };
        let stream = &self.streams[at].stream;
        if stream.settled() && last_beginning(stream, &events).is_some() {
            self.bring_into_step(at);
        }
    }

    /// Empties `outgoing` into the lanes of those who are in step, and into the taps.
    pub(super) fn send_outgoing(&mut self, at: StreamIndex) -> Option<Arc<[MediaEvent]>> {
        let slot = &mut self.streams[at];
        if slot.stream.outgoing.is_empty() {
            return None;
        }
        let events: Arc<[MediaEvent]> = slot.stream.outgoing.drain(..).collect();
        // Who is brought into step at a beginning gets what follows it.
        let before_beginning = last_beginning(&slot.stream, &events).unwrap_or(events.len()) as u64;
        let Source::Owner { watchers, .. } = &mut slot.source else { return None };
        if self.draining {
            // Each shard tells its viewers that the server ends. The end of the stream from here could be there earlier.
            self.tap(at, &events);
            return Some(events);
        }
        let dropped = &mut slot.stream.counters.dropped[DropReason::LaneFull as usize];
        for watcher in watchers.iter_mut().filter(|watcher| watcher.step != Step::New) {
            if watcher.step == Step::In {
                let batch = Batch { key: slot.stream.key.clone(), watch: watcher.watch, events: events.clone() };
                if self.ports.lane(watcher.shard, batch) {
                    continue;
                }
                watcher.step = Step::Behind;
                self.counters.lane_full += 1;
            }
            *dropped += before_beginning;
        }
        self.tap(at, &events);
        Some(events)
    }

    /// Gives shards that watch, but have missed what came before, the tracks and the GOP.
    fn bring_into_step(&mut self, at: StreamIndex) {
        let slot = &self.streams[at];
        let Source::Owner { watchers, .. } = &slot.source else { return };
        if watchers.iter().all(|watcher| watcher.step == Step::In) {
            return;
        }
        // The GOP holds what `outgoing` holds: those in step get that first.
        self.send_outgoing(at);
        let slot = &mut self.streams[at];
        let mut events = slot.stream.catch_up();
        if slot.ended {
            events.push(MediaEvent::End);
        }
        let events: Arc<[MediaEvent]> = events.into();
        let Source::Owner { watchers, .. } = &mut slot.source else { return };
        for watcher in watchers.iter_mut().filter(|watcher| watcher.step != Step::In) {
            let batch = Batch { key: slot.stream.key.clone(), watch: watcher.watch, events: events.clone() };
            if self.ports.lane(watcher.shard, batch) {
                watcher.step = Step::In;
            }
        }
    }

    /// Media from the shard that owns a stream watched here.
    pub fn batch(&mut self, now: Stamp, from: ShardId, batch: &Batch) {
        let at = self.by_key.get(&batch.key).copied();
        let at = at.filter(|at| matches!(self.streams[*at].source, Source::Watcher { watch, .. } if watch == batch.watch));
        let Some(at) = at else {
            // A watch that is over here: the owner did not hear of it.
            let message = Message::Unwatch { key: batch.key.clone(), watch: batch.watch, from: self.id };
            return self.ports.post(from, message);
        };
        for event in batch.events.iter() {
            if *event == MediaEvent::End {
                self.end_stream(at);
                break;
            }
            let event = event.clone();
            self.advance(at, now, |stream| stream.push(event));
        }
        if !self.streams[at].stream.settled() && !self.streams[at].ended {
            self.streams[at].stream.settle();
            self.serve_waiting(at, now);
        }
        self.settle_answers(now);
    }
}

/// Where the media that a viewer will get begins, if that is known.
fn start_of(stream: &Stream, fanout: &Fanout, subscription: &Subscription) -> Option<RtpStart> {
    let Cursor::At(at) = subscription.cursor() else { return None };
    let packets = (at..fanout.ring.end()).filter_map(|number| fanout.ring.get(number));
    fanout.format.start(stream.tracks(), fanout.ring.key_config(), packets)
}

/// The place of the last event with which a shard can begin that has nothing of what came before.
fn last_beginning(stream: &Stream, events: &[MediaEvent]) -> Option<usize> {
    let has_video = stream.tracks().has(TrackKind::Video);
    events.iter().rposition(|event| match event {
        MediaEvent::Frame(frame) => !has_video || (frame.key && is_video(stream, frame.track)),
        MediaEvent::End => true,
        MediaEvent::Tracks(_) => false,
    })
}

fn is_video(stream: &Stream, track: crate::media::TrackId) -> bool {
    stream.tracks().get(track).is_some_and(|track| track.codec.kind() == TrackKind::Video)
}
