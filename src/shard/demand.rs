//! Streams that are brought on demand: which ones viewers wait for, and which ones nobody watches any more.
//!
//! Of names that can be brought ([`Config::on_demand`](crate::config::Config::on_demand)) the control plane is told as soon as somebody
//! waits, and again every [`WANTED_MS`] as long as anybody does. A publisher that has asked for it is told when nobody has watched its
//! stream: viewers here, shards that watch (a second longer than their last viewer), who fetches segments (for three target durations) and
//! whoever still waits all count. Not here: what is done about either.

use super::core::{Answer, Core, Ports};
use super::message::Report;
use super::streams::{Slot, Source};
use crate::hub::fanout::ConnIndex;
use crate::media::Stamp;
use crate::session::StreamKey;

/// How often it is said again that a stream is waited for.
const WANTED_MS: u64 = 500;

impl<P: Ports> Core<P> {
    /// A viewer waits for a stream that is not there.
    pub(super) fn wait_for(&mut self, key: &StreamKey, index: ConnIndex) {
        let waiting = self.waiting.entry(key.clone()).or_default();
        waiting.push_back(index);
        // Those who come later are in what is repeated.
        if waiting.len() == 1 {
            self.report_wanted(key.clone());
        }
    }

    pub(super) fn repeat_wanted(&mut self, now: Stamp) {
        if now < self.next_wanted {
            return;
        }
        self.next_wanted = now.after_millis(WANTED_MS);
        // Viewers of a stream whose publisher is gone wait too.
        let orphaned = |slot: &&Slot| {
            let is_orphan = matches!(slot.source, Source::Owner { publisher: None, .. });
            is_orphan && !slot.ended && is_watched(slot)
        };
        let orphans = self.streams.iter().map(|(_, slot)| slot).filter(orphaned).map(|slot| &slot.stream.key);
        let wanted: Vec<StreamKey> = self.waiting.keys().chain(orphans).cloned().collect();
        for key in wanted {
            self.report_wanted(key);
        }
    }

    fn report_wanted(&mut self, key: StreamKey) {
        if self.config.on_demand(key.as_str()) && !self.ports.report(Report::Wanted(key)) {
            self.counters.reports_dropped += 1;
        }
    }

    pub(super) fn tell_unwatched(&mut self, now: Stamp) {
        let mut due = Vec::new();
        for (_, slot) in &mut self.streams {
            if slot.ended || is_watched(slot) || self.waiting.contains_key(&slot.stream.key) {
                slot.unwatched_since = None;
                continue;
            }
            let since = *slot.unwatched_since.get_or_insert(now);
            // Somebody may have come and gone since the last look.
            let since = slot.idle_since.map_or(since, |idle| idle.max(since));
            if let Source::Owner { publisher: Some(index), .. } = slot.source
                && let Some(conn) = self.conns.get_mut(index)
                && conn.unwatched_ms.is_some_and(|ms| now.millis_since(since) >= ms)
            {
                conn.unwatched_ms = None;
                due.push(index);
            }
        }
        for index in due {
            self.answer(index, Answer::Unwatched);
        }
    }
}

/// Whether it has viewers, here or on a shard that watches, or such as fetch its segments; or is recorded.
fn is_watched(slot: &Slot) -> bool {
    let has_watchers = matches!(&slot.source, Source::Owner { watchers, .. } if !watchers.is_empty());
    slot.idle_since.is_none() || slot.taps.has_viewers() || has_watchers || !slot.taps.recorders.is_empty()
}
