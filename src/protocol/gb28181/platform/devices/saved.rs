//! What survives a restart: which devices were registered, where, until when, and what they have.
//!
//! A device that was saved is not heard of until it sends. Over UDP it can be asked and called at once; one that came by TCP must connect
//! first. Times are of the wall clock. Catalogs are shared with the devices, so that it costs little to say what is to be saved. Not here: the
//! file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::channels::{CHANNELS_MAX, Channel, Extent, is_item};
use super::presence::GRACE_MS;
use super::{Device, Devices, Id};
use crate::media::Stamp;
use crate::protocol::gb28181::manscdp::{Charset, DeviceInfo, Item};
use crate::protocol::gb28181::platform::Clock;
use crate::protocol::gb28181::platform::context::Context;
use crate::protocol::gb28181::sip::{Carrier, Hop};

/// Of the form below; another one is not read.
pub const VERSION: u32 = 1;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    pub version: u32,
    pub devices: Vec<SavedDevice>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedDevice {
    pub id: String,
    /// Where it was, and at which address of ours.
    pub peer: SocketAddr,
    pub local: SocketAddr,
    pub udp: bool,
    /// Milliseconds since 1970.
    pub expires_unix_ms: u64,
    #[serde(default)]
    pub charset: Charset,
    #[serde(default)]
    pub version: Option<String>,
    #[serde(default)]
    pub info: DeviceInfo,
    #[serde(default)]
    pub channels: SavedChannels,
}

/// The items of a catalog; in the file, a list of them.
#[derive(Clone, Debug, Default)]
pub struct SavedChannels(Arc<BTreeMap<String, Channel>>);

impl SavedChannels {
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.0.values().map(|channel| &channel.item)
    }

    fn into_items(self) -> impl Iterator<Item = Item> {
        Arc::unwrap_or_clone(self.0).into_values().map(|channel| channel.item)
    }
}

#[cfg(test)]
impl SavedChannels {
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl PartialEq for SavedChannels {
    fn eq(&self, other: &Self) -> bool {
        self.items().eq(other.items())
    }
}

impl Serialize for SavedChannels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.items())
    }
}

impl<'de> Deserialize<'de> for SavedChannels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let items = Vec::<Item>::deserialize(deserializer)?.into_iter();
        let channels = items.map(|item| (item.device_id.clone(), Channel { item, event: None }));
        Ok(SavedChannels(Arc::new(channels.collect())))
    }
}

impl Devices {
    /// The devices whose registration goes on.
    pub fn saved(&self, clock: Clock) -> Saved {
        let now = clock.now;
        let live = self.by_id.iter().filter(|(_, device)| device.may_send(now));
        let save = |(id, device): (&Id, &Device)| SavedDevice {
            id: id.to_string(),
            peer: device.peer,
            local: device.local,
            udp: device.is_udp,
            expires_unix_ms: clock.unix_ms + device.expires.millis_since(now),
            charset: device.charset,
            version: device.version.clone(),
            info: device.info.clone(),
            channels: SavedChannels(device.channels.shared()),
        };
        Saved { version: VERSION, devices: live.map(save).collect() }
    }

    /// Takes over what was saved, before anything has come. Registrations that have ended meanwhile are left out.
    pub fn restore(&mut self, context: &mut Context<'_>, saved: Saved) {
        if saved.version != VERSION {
            let message = format!("devices are not restored: they were saved in version {} of the form", saved.version);
            return context.note(log::Level::Warn, None, message);
        }
        let mut restored = 0;
        for device in saved.devices {
            if self.by_id.len() < context.settings.devices_max
                && device.expires_unix_ms.saturating_add(GRACE_MS) > context.clock.unix_ms
            {
                restored += 1;
                self.restore_device(context, device);
            }
        }
        context.note(log::Level::Info, None, format!("{restored} devices are known from before the start"));
    }

    fn restore_device(&mut self, context: &Context<'_>, saved: SavedDevice) {
        let (now, id): (Stamp, Id) = (context.now(), saved.id.as_str().into());
        let hop = Hop { carrier: Carrier::Udp, peer: saved.peer, local: saved.local };
        let mut device = Device::new(hop, now);
        if !saved.udp {
            (device.hop, device.is_udp) = (None, false);
        }
        device.expires = now.after_millis(saved.expires_unix_ms.saturating_sub(context.clock.unix_ms));
        (device.charset, device.version, device.info) = (saved.charset, saved.version, saved.info);
        let items = saved.channels.into_items().filter(is_item).take(CHANNELS_MAX);
        let items: Vec<Item> = items.filter(|item| self.bytes.take(item.bytes())).collect();
        if !items.is_empty() {
            device.channels.take_over(items, true, &mut self.bytes);
            device.channels.extent = Extent::Whole;
        }
        self.by_peer.insert(saved.peer, id.clone());
        if let Some(old) = self.by_id.insert(id.clone(), device) {
            self.bytes.give_back(old.channels.bytes());
        }
        self.watch_presence(context, &id);
    }
}
