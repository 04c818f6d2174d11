//! What the shard tells the control plane, copied out on request.

use super::conn::{Conn, Playing};
use super::core::{Core, Ports};
use super::flush::viewer_place;
use super::message::{PublisherSnapshot, SessionId, SessionSnapshot, ShardSnapshot, StreamRole, StreamSnapshot};
use super::streams::{Slot, Source};
use crate::hub::stats::merge_latency;
use crate::media::Stamp;
use crate::session::StreamKey;

impl<P: Ports> Core<P> {
    pub(super) fn stream_snapshots(&self, key: Option<&StreamKey>, now: Stamp) -> Vec<StreamSnapshot> {
        let wanted = |slot: &Slot| !slot.ended && key.is_none_or(|key| *key == slot.stream.key);
        let live = self.streams.iter().filter(|(_, slot)| wanted(slot));
        live.map(|(_, slot)| self.stream_snapshot(slot, now)).collect()
    }

    pub(super) fn stream_names(&self) -> Vec<StreamKey> {
        let is_viewable = |slot: &Slot| {
            let has_publisher = matches!(slot.source, Source::Owner { publisher: Some(_), .. });
            has_publisher && !slot.ended && !slot.stream.tracks().is_empty()
        };
        self.streams.iter().filter(|(_, slot)| is_viewable(slot)).map(|(_, slot)| slot.stream.key.clone()).collect()
    }

    fn stream_snapshot(&self, slot: &Slot, now: Stamp) -> StreamSnapshot {
        let role = match &slot.source {
            Source::Watcher { owner, .. } => StreamRole::Watcher { owner: *owner },
            Source::Owner { publisher, watchers, .. } => StreamRole::Owner {
                publisher: publisher.and_then(|index| self.conns.get(index)).map(|conn| self.publisher_snapshot(conn)),
                watching_shards: watchers.iter().map(|watcher| watcher.shard).collect(),
                age_ms: now.millis_since(slot.began),
            },
        };
        let segmented = &slot.taps.segmented;
        StreamSnapshot {
            key: slot.stream.key.clone(),
            shard: self.id,
            role,
            tracks: slot.stream.tracks().clone(),
            counters: slot.stream.counters.clone(),
            viewers: slot
                .stream
                .viewers()
                .into_iter()
                .chain(segmented.iter().flat_map(|segmented| segmented.viewers()))
                .collect(),
            latency: slot.stream.latency(),
            segments: segmented.as_ref().map(|segmented| segmented.snapshot()),
            recorders: slot.taps.recorders.statuses(),
        }
    }

    fn publisher_snapshot(&self, conn: &Conn) -> PublisherSnapshot {
        PublisherSnapshot {
            session: SessionId { shard: self.id, number: conn.number },
            peer: conn.peer,
            protocol: conn.protocol,
            agent: conn.agent.clone(),
        }
    }

    pub(super) fn session_snapshots(&mut self, now: Stamp) -> Vec<SessionSnapshot> {
        let lag_ms_max = self.config.viewer.lag_ms_max;
        let mut all = Vec::with_capacity(self.conns.len());
        for (_, conn) in &mut self.conns {
            let mut lag_ms = 0;
            if let Some((at, fanout_at)) = viewer_place(&conn.playing, &self.streams) {
                let stream = &mut self.streams[at].stream;
                let ring = &stream.fanouts[fanout_at].ring;
                // Lag is looked at when the stream has something new; here it must be as of now.
                stream.counters.skips += u64::from(conn.out.skip_if_late(ring, now, lag_ms_max));
                lag_ms = conn.out.lag_ms(ring, now);
            }
            let published = conn.publishing.map(|at| self.streams[at].stream.key.clone());
            all.push(SessionSnapshot {
                id: SessionId { shard: self.id, number: conn.number },
                peer: conn.peer,
                protocol: conn.label(),
                role: conn.role(),
                stream: published.or_else(|| conn.played_key().cloned()),
                agent: conn.agent.clone(),
                age_ms: now.millis_since(conn.accepted),
                bytes_in: conn.bytes_in,
                bytes_out: conn.out.bytes_sent,
                lag_ms,
                skips: conn.out.subscription.as_ref().map_or(0, |subscription| subscription.skips),
            });
        }
        all
    }

    /// What the core knows; the driver adds what it measures itself.
    pub(super) fn shard_snapshot(&self) -> ShardSnapshot {
        let counters = &self.counters;
        let sent: u64 = self.conns.iter().map(|(_, conn)| conn.out.bytes_sent).sum();
        let viewing = |conn: &Conn| matches!(conn.playing, Playing::Viewing { .. });
        let mut snapshot = ShardSnapshot {
            shard: self.id,
            connections: self.conns.len() as u64,
            streams: self.by_key.len() as u64,
            viewers: self.conns.iter().filter(|(_, conn)| viewing(conn)).count() as u64,
            accepted: counters.accepted,
            bytes_in: counters.bytes_in,
            bytes_out: counters.bytes_out + sent,
            refused: counters.refused,
            panics: counters.panics,
            lane_full: counters.lane_full,
            reports_dropped: counters.reports_dropped,
            stray_datagrams: self.shared.stray_datagrams,
            stray_connections: self.shared.stray_connections,
            shared_kernel_drops: self.shared.kernel_drops,
            retired_recorders: self.recorders.retired,
            retired_latency: counters.latency.clone(),
            retired_dropped: counters.dropped,
            ..ShardSnapshot::default()
        };
        snapshot.session_errors =
            counters.session_errors.iter().map(|((protocol, reason), n)| (*protocol, *reason, *n)).collect();
        // Streams that have ended but still have viewers are not reported by themselves any more.
        for (_, slot) in self.streams.iter().filter(|(_, slot)| slot.ended) {
            merge_latency(&mut snapshot.retired_latency, &slot.stream.latency());
            for (sum, dropped) in snapshot.retired_dropped.iter_mut().zip(slot.stream.counters.dropped) {
                *sum += dropped;
            }
        }
        self.ports.complete(&mut snapshot);
        snapshot
    }
}
