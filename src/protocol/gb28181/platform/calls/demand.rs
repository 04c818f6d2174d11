//! Viewers wait for streams that calls can bring: a call for each, and none too often for one that fails.

use std::collections::HashMap;

use super::invite::Wish;
use super::{Call, Calls, Camera, Registry, names};
use crate::media::Stamp;
use crate::protocol::gb28181::platform::ask::{CallOptions, Channel};
use crate::protocol::gb28181::platform::context::Context;
use crate::session::StreamKey;

/// After a call that failed the next one waits so long, twice as long after each further one.
pub const RETRY_MS: u64 = 5_000;
pub const RETRY_MS_MAX: u64 = 60_000;
/// A failure that is so old counts no more.
const FORGOTTEN_MS: u64 = 300_000;
/// Calls of one device that viewers have begun: the largest recorders have 256 channels, each with a main and a sub stream.
pub const ON_DEMAND_PER_DEVICE_MAX: usize = 512;
/// Streams of which failures are kept; of more, the oldest failures are forgotten first.
const FAILURES_MAX: usize = 16_384;

#[derive(Clone, Copy, Debug)]
struct Failures {
    last: Stamp,
    pause_ms: u64,
}

#[derive(Debug, Default)]
pub struct Demand {
    failures: HashMap<StreamKey, Failures>,
}

impl Demand {
    fn may(&self, now: Stamp, key: &StreamKey) -> bool {
        self.failures.get(key).is_none_or(|failures| now.millis_since(failures.last) >= failures.pause_ms)
    }

    pub fn failed(&mut self, now: Stamp, key: &StreamKey) {
        if self.failures.len() >= FAILURES_MAX && !self.failures.contains_key(key) {
            self.failures.retain(|_, failures| now.millis_since(failures.last) < failures.pause_ms);
            if self.failures.len() >= FAILURES_MAX
                && let Some(oldest) = self.failures.iter().min_by_key(|(_, failures)| failures.last).map(|(key, _)| key.clone())
            {
                self.failures.remove(&oldest);
            }
        }
        let known = self.failures.get(key).filter(|failures| now.millis_since(failures.last) < FORGOTTEN_MS);
        let pause_ms = known.map_or(RETRY_MS, |failures| (2 * failures.pause_ms).min(RETRY_MS_MAX));
        self.failures.insert(key.clone(), Failures { last: now, pause_ms });
    }

    pub fn succeeded(&mut self, key: &StreamKey) {
        self.failures.remove(key);
    }
}

impl Calls {
    /// A viewer waits for a stream of that name.
    pub fn wanted(&mut self, context: &mut Context<'_>, registry: &mut dyn Registry, key: &StreamKey) {
        let now = context.now();
        if self.by_key.contains_key(key) || !self.demand.may(now, key) {
            return;
        }
        let Some((of, stream_number)) = names::wanted(key) else { return };
        if let Some((level, reason, why)) = self.unwanted(registry, &of) {
            if level == log::Level::Warn {
                self.demand.failed(now, key);
            }
            return context.note(level, Some(reason), format!("{key} is wanted, {why}"));
        }
        let options = CallOptions { stream_number, transport: None };
        match self.begin(context, registry, Wish::live(of, options)) {
            Ok(id) => {
                if let Some(call) = self.calls.get_mut(&id) {
                    call.is_on_demand = true;
                }
            }
            Err(refused) => {
                self.demand.failed(now, key);
                context.note(log::Level::Warn, Some("call_not_begun"), format!("{key} is wanted: {}", refused.why));
            }
        }
    }

    /// Why a viewer may not begin a call. Whoever makes up names makes no device busy, and no log long.
    fn unwanted(&self, registry: &dyn Registry, of: &Channel) -> Option<(log::Level, &'static str, String)> {
        let camera = registry.camera(of);
        if camera == Camera::No {
            return Some((log::Level::Debug, "call_unknown_channel", "and no device is known to have it".to_owned()));
        }
        let of_viewers = || self.of_device(&of.device).filter(|call| call.is_on_demand);
        let is_made_up = |call: &Call| call.of.channel != of.channel && registry.camera(&call.of) == Camera::MayBe;
        if camera == Camera::MayBe && of_viewers().any(is_made_up) {
            let why = "the catalog of its device has not come, and another of its channels is called already".to_owned();
            return Some((log::Level::Debug, "call_unlisted_channel", why));
        }
        let is_full = of_viewers().count() >= ON_DEMAND_PER_DEVICE_MAX;
        let why = || format!("and viewers have begun {ON_DEMAND_PER_DEVICE_MAX} calls of its device already");
        is_full.then(|| (log::Level::Warn, "call_device_limit", why()))
    }
}
