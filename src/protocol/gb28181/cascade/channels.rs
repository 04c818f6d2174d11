//! What the platforms above are shown: streams and the channels of devices as items of a catalog.
//!
//! A channel of a device keeps its id. A stream has one of type 131 that is made of its name: a number of six digits behind the domain, the
//! next free one where two names meet. Which name has which number survives a restart ([`Ids`]), so an id never means another stream.
//! Streams that have been there stay in the catalog, offline. Limits: [`NAMES_MAX`], [`STREAMS_MAX`]. Not here: who asks.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::config::{Gb28181, Upstream};
use crate::protocol::common::auth::matches;
use crate::protocol::gb28181::manscdp::{Item, ItemFields, ItemInfo, ItemStatus};
use crate::protocol::gb28181::platform::ask::Channel;
use crate::protocol::gb28181::platform::view::ChannelView;
use crate::session::StreamKey;

/// Names that have a number; no others get one.
pub const NAMES_MAX: usize = 100_000;
/// Streams that are shown; over it those that are gone are forgotten.
pub const STREAMS_MAX: usize = 10_000;
/// What the streams of devices begin with.
const DEVICES: &str = "gb/";
const NUMBERS: u32 = 1_000_000;
const CAMERA: &str = "131";
const MANUFACTURER: &str = "Shardcast";

/// The ids of streams, by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ids(BTreeMap<String, u32>);

/// Where the media of a channel comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    Stream,
    Device(Channel),
}

/// A channel as one platform above sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    pub id: String,
    pub name: String,
    pub online: bool,
    pub key: StreamKey,
    pub source: Source,
}

/// A channel of a device.
#[derive(Clone, Debug, PartialEq)]
struct Camera {
    key: StreamKey,
    online: bool,
    view: ChannelView,
}

#[derive(Debug)]
pub struct Channels {
    own_id: String,
    /// What ids of streams begin with.
    prefix: String,
    civil_code: String,
    ids: Ids,
    taken: HashSet<u32>,
    /// All that were there when it was told last, shown or not.
    told: Option<Vec<StreamKey>>,
    /// Whether each is there now.
    streams: BTreeMap<StreamKey, bool>,
    cameras: Vec<Camera>,
    /// By id, with the place of a camera.
    by_id: HashMap<String, (Shown, Option<usize>)>,
    full: bool,
    has_new: bool,
}

impl Channels {
    pub fn new(section: &Gb28181, ids: Ids) -> Self {
        let domain: String = section.domain.chars().chain(std::iter::repeat('0')).take(10).collect();
        let network = section.id.chars().nth(13).unwrap_or('0');
        let taken = ids.0.values().copied().collect();
        let mut channels = Channels {
            own_id: section.id.clone(),
            prefix: format!("{domain}{CAMERA}{network}"),
            civil_code: domain[..6].to_owned(),
            ids,
            taken,
            told: None,
            streams: BTreeMap::new(),
            cameras: Vec::new(),
            by_id: HashMap::new(),
            full: false,
            has_new: false,
        };
        // A name without a star is shown before it is ever published.
        let names = section.upstream.iter().flat_map(|upstream| &upstream.share).filter(|pattern| !pattern.contains('*'));
        for key in names.filter_map(|name| StreamKey::parse(name).ok()).filter(|key| !is_of_device(key)) {
            channels.streams.insert(key, false);
        }
        channels.index();
        channels
    }

    /// What survives a restart.
    pub fn ids(&self) -> &Ids {
        &self.ids
    }

    /// Whether nothing has changed since it was told last.
    pub fn are_same(&self, keys: &[StreamKey]) -> bool {
        self.told.as_deref() == Some(keys)
    }

    /// These can be viewed now, and no others. Returns whether that is news.
    pub fn set_streams(&mut self, keys: Vec<StreamKey>, upstreams: &[Upstream]) -> bool {
        let mut streams: BTreeMap<StreamKey, bool> = self.streams.keys().map(|key| (key.clone(), false)).collect();
        let is_shown = |key: &StreamKey| !is_of_device(key) && upstreams.iter().any(|upstream| shares(upstream, key));
        for key in keys.iter().filter(|key| is_shown(key)) {
            streams.insert(key.clone(), true);
        }
        self.told = Some(keys);
        if streams.len() > STREAMS_MAX {
            streams.retain(|_, live| *live);
        }
        let is_news = streams != self.streams;
        if is_news {
            self.streams = streams;
            self.index();
        }
        is_news
    }

    /// Whether a name has got an id, told once.
    pub fn take_new(&mut self) -> bool {
        std::mem::take(&mut self.has_new)
    }

    /// All channels of all devices, with whether their device is online. Returns whether that is news.
    pub fn set_cameras(&mut self, cameras: Vec<(bool, ChannelView)>) -> bool {
        let camera = |(online, view): (bool, ChannelView)| {
            let key = StreamKey::parse(view.stream.as_deref()?).ok()?;
            Some(Camera { key, online: online && view.online != Some(false), view })
        };
        let cameras: Vec<Camera> = cameras.into_iter().filter_map(camera).collect();
        let is_news = cameras != self.cameras;
        if is_news {
            self.cameras = cameras;
            self.index();
        }
        is_news
    }

    /// Whether there is a channel, told once, that found no number.
    pub fn take_full(&mut self) -> bool {
        std::mem::take(&mut self.full)
    }

    fn index(&mut self) {
        let mut by_id = HashMap::new();
        let streams: Vec<(StreamKey, bool)> = self.streams.iter().map(|(key, live)| (key.clone(), *live)).collect();
        for (key, online) in streams {
            let Some(id) = self.id_of(&key) else { continue };
            let name = key.as_str().to_owned();
            by_id.insert(id.clone(), (Shown { id, name, online, key, source: Source::Stream }, None));
        }
        for (at, camera) in self.cameras.iter().enumerate() {
            let view = &camera.view;
            let (id, name) =
                (view.id.clone(), view.name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| view.id.clone()));
            let source = Source::Device(Channel { device: view.device.clone(), channel: view.id.clone() });
            // Of two devices that say the same id the first has it.
            let shown = Shown { id: id.clone(), name, online: camera.online, key: camera.key.clone(), source };
            by_id.entry(id).or_insert((shown, Some(at)));
        }
        self.by_id = by_id;
    }

    fn id_of(&mut self, key: &StreamKey) -> Option<String> {
        let number = match self.ids.0.get(key.as_str()) {
            Some(number) => *number,
            None if self.ids.0.len() >= NAMES_MAX => {
                self.full = true;
                return None;
            }
            None => {
                let first = hash(key.as_str()) % NUMBERS;
                let number = (0..NUMBERS).map(|step| (first + step) % NUMBERS).find(|number| !self.taken.contains(number))?;
                self.has_new = true;
                self.taken.insert(number);
                self.ids.0.insert(key.as_str().to_owned(), number);
                number
            }
        };
        Some(format!("{}{number:06}", self.prefix))
    }

    /// What a platform is shown, by id.
    pub fn shown(&self, upstream: &Upstream) -> Vec<Shown> {
        let all = self.by_id.values().map(|(shown, _)| shown);
        let mut shown: Vec<Shown> = all.filter(|shown| shares(upstream, &shown.key)).cloned().collect();
        shown.iter_mut().for_each(|shown| rename(shown, upstream));
        shown.sort_by(|one, other| one.id.cmp(&other.id));
        shown
    }

    /// How many channels a platform is shown, and how many of them are online.
    pub fn count(&self, upstream: &Upstream) -> (usize, usize) {
        let all = self.by_id.values().map(|(shown, _)| shown).filter(|shown| shares(upstream, &shown.key));
        all.fold((0, 0), |(all, online), shown| (all + 1, online + usize::from(shown.online)))
    }

    /// The ids of what a platform is shown, in order.
    pub fn ids_shown(&self, upstream: &Upstream) -> Vec<String> {
        let all = self.by_id.iter().filter(|(_, (shown, _))| shares(upstream, &shown.key));
        let mut ids: Vec<String> = all.map(|(id, _)| id.clone()).collect();
        ids.sort_unstable();
        ids
    }

    /// As it stands in a catalog, offline if it has gone meanwhile.
    pub fn item_of(&self, upstream: &Upstream, id: &str) -> Item {
        if let Some(shown) = self.find(upstream, id) {
            return self.item(&shown);
        }
        let (device_id, name, parent_id) = (id.to_owned(), id.to_owned(), self.own_id.clone());
        let fields = ItemFields { device_id, name, parent_id, status: Some(ItemStatus::Off), ..ItemFields::default() };
        Item { fields, info: ItemInfo::default() }
    }

    pub fn find(&self, upstream: &Upstream, id: &str) -> Option<Shown> {
        let (shown, _) = self.by_id.get(id).filter(|(shown, _)| shares(upstream, &shown.key))?;
        let mut shown = shown.clone();
        rename(&mut shown, upstream);
        Some(shown)
    }

    /// As it stands in a catalog.
    pub fn item(&self, shown: &Shown) -> Item {
        let at = self.by_id.get(&shown.id).and_then(|(_, at)| *at);
        let view = at.map(|at| &self.cameras[at].view);
        let text = |field: fn(&ChannelView) -> &Option<String>, otherwise: &str| {
            view.and_then(|view| field(view).clone()).unwrap_or_else(|| otherwise.to_owned())
        };
        let fields = ItemFields {
            device_id: shown.id.clone(),
            name: shown.name.clone(),
            manufacturer: text(|view| &view.manufacturer, MANUFACTURER),
            model: text(|view| &view.model, "stream"),
            owner: text(|view| &view.owner, "0"),
            civil_code: text(|view| &view.civil_code, &self.civil_code),
            address: text(|view| &view.address, shown.key.as_str()),
            parental: Some(0),
            parent_id: self.own_id.clone(),
            safety_way: Some(0),
            register_way: Some(1),
            secrecy: Some(0),
            status: Some(if shown.online { ItemStatus::On } else { ItemStatus::Off }),
            longitude: view.and_then(|view| view.longitude),
            latitude: view.and_then(|view| view.latitude),
            ..ItemFields::default()
        };
        Item { fields, info: ItemInfo { ptz_type: view.and_then(|view| view.ptz_type), ..ItemInfo::default() } }
    }
}

fn shares(upstream: &Upstream, key: &StreamKey) -> bool {
    upstream.share.iter().any(|pattern| matches(pattern, key.as_str()))
}

/// Whether a platform may be shown channels of devices.
pub fn shares_devices(upstream: &Upstream) -> bool {
    // The patterns that some name with that beginning fits.
    upstream.share.iter().any(|pattern| {
        let fixed = pattern.split('*').next().unwrap_or_default();
        fixed.starts_with(DEVICES) || pattern.contains('*') && DEVICES.starts_with(fixed)
    })
}

fn rename(shown: &mut Shown, upstream: &Upstream) {
    if let Some(name) = upstream.names.get(shown.key.as_str()) {
        shown.name.clone_from(name);
    }
}

pub fn is_of_device(key: &StreamKey) -> bool {
    key.as_str().starts_with(DEVICES)
}

/// FNV-1a.
fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> StreamKey {
        StreamKey::parse(name).unwrap()
    }

    fn upstream(share: &[&str]) -> Upstream {
        Upstream { share: share.iter().map(|pattern| (*pattern).to_owned()).collect(), ..Upstream::default() }
    }

    fn section(upstreams: Vec<Upstream>) -> Gb28181 {
        Gb28181 { upstream: upstreams, ..Gb28181::default() }
    }

    #[test]
    fn ids_are_made_of_names_and_stay() {
        let upstreams = vec![upstream(&["live/*"])];
        let mut channels = Channels::new(&section(upstreams.clone()), Ids::default());
        channels.set_streams(vec![key("live/a"), key("live/b"), key("other/c"), key("gb/1/2")], &upstreams);
        assert!(channels.take_new());
        let ids = |channels: &Channels| -> Vec<(String, String, bool)> {
            channels.shown(&upstreams[0]).into_iter().map(|shown| (shown.name, shown.id, shown.online)).collect()
        };
        let mut first = ids(&channels);
        first.sort();
        assert_eq!(first.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>(), ["live/a", "live/b"]);
        assert!(first.iter().all(|(_, id, online)| id.len() == 20 && id.starts_with("34020000001310") && *online), "{first:?}");
        assert_ne!(first[0].1, first[1].1);
        // Gone, and in another process: the same ids.
        channels.set_streams(vec![], &upstreams);
        assert!(!channels.take_new());
        let gone: Vec<bool> = ids(&channels).into_iter().map(|(.., online)| online).collect();
        assert_eq!(gone, [false, false]);
        let mut again = Channels::new(&section(upstreams.clone()), Ids::default());
        again.set_streams(vec![key("live/b"), key("live/a")], &upstreams);
        let mut second = ids(&again);
        second.sort();
        assert_eq!(second, first);
    }

    #[test]
    fn names_that_meet_have_different_ids_that_survive() {
        let upstreams = vec![upstream(&["*"])];
        let first = hash("live/a") % NUMBERS;
        let rival = (0..).map(|at| format!("live/x{at}")).find(|name| hash(name) % NUMBERS == first).unwrap();
        let mut channels = Channels::new(&section(upstreams.clone()), Ids::default());
        channels.set_streams(vec![key(&rival)], &upstreams);
        channels.set_streams(vec![key("live/a"), key(&rival)], &upstreams);
        let id = |channels: &Channels, name: &str| {
            let shown = channels.shown(&upstreams[0]);
            shown.into_iter().find(|shown| shown.name == name).unwrap().id
        };
        let (mine, of_rival) = (id(&channels, "live/a"), id(&channels, &rival));
        assert!(mine.ends_with(&format!("{:06}", (first + 1) % NUMBERS)) && of_rival.ends_with(&format!("{first:06}")));
        // In the other order, but with what was remembered.
        let mut again = Channels::new(&section(upstreams.clone()), channels.ids().clone());
        again.set_streams(vec![key("live/a")], &upstreams);
        assert!(!again.take_new());
        assert_eq!(id(&again, "live/a"), mine);
    }

    #[test]
    fn channels_of_devices_keep_their_ids_and_say_what_they_are() {
        let mut above = upstream(&["gb/34020000001110000001/*", "live/gate"]);
        above.names.insert("live/gate".to_owned(), "Gate".to_owned());
        let mut channels = Channels::new(&section(vec![above.clone()]), Ids::default());
        let view = |device: &str, id: &str, online: Option<bool>| ChannelView {
            id: id.to_owned(),
            device: device.to_owned(),
            stream: Some(format!("gb/{device}/{id}")),
            name: Some("Door".to_owned()),
            online,
            ptz_type: Some(1),
            ..ChannelView::default()
        };
        channels.set_streams(vec![], std::slice::from_ref(&above));
        channels.set_cameras(vec![
            (true, view("34020000001110000001", "34020000001310000001", None)),
            (true, view("34020000001110000001", "34020000001310000002", Some(false))),
            (false, view("34020000001110000002", "34020000001310000003", Some(true))),
            (true, ChannelView { id: "34020000001340000001".to_owned(), ..ChannelView::default() }),
        ]);
        let shown: Vec<(String, String, bool)> =
            channels.shown(&above).into_iter().map(|shown| (shown.id, shown.name, shown.online)).collect();
        assert_eq!(shown.len(), 3);
        assert_eq!(shown[0], ("34020000001310000001".to_owned(), "Door".to_owned(), true));
        assert_eq!(shown[1], ("34020000001310000002".to_owned(), "Door".to_owned(), false));
        assert_eq!((shown[2].1.as_str(), shown[2].2), ("Gate", false), "a name that was never published");
        assert!(channels.find(&above, "34020000001310000003").is_none(), "not shared");
        let door = channels.find(&above, "34020000001310000001").unwrap();
        let item = channels.item(&door);
        assert_eq!(
            (item.parent_id.as_str(), item.status, item.info.ptz_type),
            ("34020000002000000001", Some(ItemStatus::On), Some(1))
        );
        assert_eq!((item.civil_code.as_str(), item.parental), ("340200", Some(0)));
    }

    #[test]
    fn who_is_shown_devices() {
        let cases: [(&[&str], bool); 7] = [
            (&["live/*"], false),
            (&["gb/*"], true),
            (&["gb/1/2"], true),
            (&["*"], true),
            (&["g*"], true),
            (&["gb"], false),
            (&["gbx/*"], false),
        ];
        for (share, expected) in cases {
            assert_eq!(shares_devices(&upstream(share)), expected, "{share:?}");
        }
    }
}
