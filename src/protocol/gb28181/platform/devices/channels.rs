//! The catalog of a device: replaced when it has been asked for, changed by what the device tells of it.
//!
//! Limits: [`CHANNELS_MAX`] a device, [`BYTES_MAX`] for the catalogs and unfinished answers of all. Not here: the questions.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Devices, ID_BYTES_MAX, Id, News};
use crate::media::Stamp;
use crate::protocol::gb28181::manscdp::{Catalog, Elements as _, Item, ItemEvent, ItemStatus};
use crate::protocol::gb28181::platform::Output;
use crate::protocol::gb28181::platform::context::Context;

/// Items of a device's catalog; more are not kept.
pub const CHANNELS_MAX: usize = 10_000;
/// Of catalogs and unfinished answers; what does not fit is not kept.
pub const BYTES_MAX: usize = 256 * 1024 * 1024;
/// How often a catalog that does not come whole is asked for with [`PAUSE_MS`] in between; from then on it is with [`LONG_PAUSE_MS`].
const TRIES_MAX: u8 = 3;
pub const PAUSE_MS: u64 = 60_000;
const LONG_PAUSE_MS: u64 = 600_000;

/// What is left of [`BYTES_MAX`].
#[derive(Debug, Default)]
pub(super) struct Bytes {
    used: usize,
}

impl Bytes {
    /// `false`: there is not so much left.
    pub fn take(&mut self, bytes: usize) -> bool {
        let fits = self.used + bytes <= BYTES_MAX;
        if fits {
            self.used += bytes;
        }
        fits
    }

    pub fn give_back(&mut self, bytes: usize) {
        self.used -= bytes;
    }

    #[cfg(test)]
    pub fn used(&self) -> usize {
        self.used
    }
}

/// How much of a catalog is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Extent {
    #[default]
    Nothing,
    /// As it was before a restart, or as it came.
    Whole,
    /// So many items have come.
    Part(usize),
}

#[derive(Clone, Debug)]
pub(super) struct Channel {
    pub item: Item,
    /// What the device has told of it last.
    pub event: Option<ItemEvent>,
}

#[derive(Debug, Default)]
pub(super) struct Channels {
    /// Shared with what is written down until either changes.
    by_id: Arc<BTreeMap<String, Channel>>,
    bytes: usize,
    pub announced: Option<u32>,
    pub extent: Extent,
    tries: u8,
    /// When it was last asked for again.
    tried: Option<Stamp>,
}

impl Channels {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Has as many items as the device has said since the start, and some.
    pub fn is_whole(&self) -> bool {
        let is_all = self.announced.is_some_and(|announced| announced as usize <= self.len());
        self.extent == Extent::Whole && is_all && self.len() > 0
    }

    pub fn get(&self, id: &str) -> Option<&Item> {
        self.by_id.get(id).map(|channel| &channel.item)
    }

    pub fn shared(&self) -> Arc<BTreeMap<String, Channel>> {
        self.by_id.clone()
    }

    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.by_id.values().map(|channel| &channel.item)
    }

    pub fn all(&self) -> impl Iterator<Item = &Channel> {
        self.by_id.values()
    }

    /// Whether it should be asked for again.
    pub fn try_again(&mut self, now: Stamp) -> bool {
        let pause_ms = if self.tries < TRIES_MAX { PAUSE_MS } else { LONG_PAUSE_MS };
        let again = self.extent != Extent::Whole && self.tried.is_none_or(|tried| now.millis_since(tried) >= pause_ms);
        if again {
            (self.tries, self.tried) = (self.tries.saturating_add(1), Some(now));
        }
        again
    }

    pub fn begin_tries(&mut self) {
        self.tries = 1;
    }

    /// Takes items over whose bytes have been taken before. `whole`: those that are not among them are gone.
    pub fn take_over(&mut self, items: Vec<Item>, whole: bool, bytes: &mut Bytes) {
        if whole {
            bytes.give_back(self.bytes);
            self.bytes = 0;
            self.by_id = Arc::default();
        }
        for item in items {
            self.put(item, bytes);
        }
    }

    /// Takes an item whose bytes have been taken before.
    fn put(&mut self, item: Item, bytes: &mut Bytes) {
        let size = item.bytes();
        if self.by_id.len() >= CHANNELS_MAX && !self.by_id.contains_key(&item.device_id) {
            return bytes.give_back(size);
        }
        self.bytes += size;
        let old = Arc::make_mut(&mut self.by_id).insert(item.device_id.clone(), Channel { item, event: None });
        self.release(old, bytes);
    }

    fn remove(&mut self, id: &str, bytes: &mut Bytes) {
        if self.by_id.contains_key(id) {
            let old = Arc::make_mut(&mut self.by_id).remove(id);
            self.release(old, bytes);
        }
    }

    fn release(&mut self, old: Option<Channel>, bytes: &mut Bytes) {
        let size = old.map_or(0, |old| old.item.bytes());
        self.bytes -= size;
        bytes.give_back(size);
    }

    /// What a device tells of an item. `Err`: of one that is not known, or for which there is no room.
    fn change(&mut self, mut item: Item, bytes: &mut Bytes) -> Result<(), ()> {
        let event = item.fields.event.take();
        let id = item.device_id.clone();
        match event {
            Some(ItemEvent::Delete) => {
                self.remove(&id, bytes);
                return Ok(());
            }
            Some(ItemEvent::On | ItemEvent::Off | ItemEvent::VideoLoss | ItemEvent::Defect) => {
                let known = self.channel(&id).ok_or(())?;
                let is_on = event == Some(ItemEvent::On);
                known.item.fields.status = Some(if is_on { ItemStatus::On } else { ItemStatus::Off });
            }
            Some(ItemEvent::Add | ItemEvent::Update) | None => {
                if let Some(known) = self.by_id.get(&id) {
                    let mut merged = known.item.clone();
                    merged.merge(item);
                    item = merged;
                }
                if !is_item(&item) || !bytes.take(item.bytes()) {
                    return Err(());
                }
                self.put(item, bytes);
            }
        }
        if let Some(channel) = self.channel(&id) {
            channel.event = event;
        }
        Ok(())
    }

    /// To be changed: what is written down at the moment keeps what it has.
    fn channel(&mut self, id: &str) -> Option<&mut Channel> {
        if self.by_id.contains_key(id) { Arc::make_mut(&mut self.by_id).get_mut(id) } else { None }
    }
}

/// Whether an item has an id that can be used.
pub(super) fn is_item(item: &Item) -> bool {
    (1..=ID_BYTES_MAX).contains(&item.device_id.len())
}

impl Devices {
    /// A notification of what has changed. Of items that are not known the whole catalog is asked for.
    pub(super) fn catalog_changes(&mut self, context: &mut Context<'_>, sender: &Id, catalog: Catalog) {
        let Some(device) = self.by_id.get_mut(sender) else { return };
        let mut unknown = 0;
        for item in catalog.items {
            unknown += usize::from(device.channels.change(item, &mut self.bytes).is_err());
        }
        if unknown > 0 {
            if device.channels.extent == Extent::Whole {
                device.channels.extent = Extent::Part(device.channels.len());
            }
            self.ask_again(context, sender);
        }
        self.news.push(News::Catalog(sender.clone()));
        context.out.push(Output::Save);
    }
}
