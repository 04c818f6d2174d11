//! Playlists read, and compared with the rules of RFC 8216bis and with those before them.

use std::collections::BTreeMap;

use crate::media::Stamp;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Item {
    pub msn: u64,
    pub name: Option<String>,
    pub micros: i64,
    pub discontinuity: bool,
    pub map: Option<String>,
    pub date: Option<String>,
    pub parts: Vec<PartItem>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PartItem {
    pub name: String,
    pub micros: i64,
    pub independent: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Playlist {
    pub version: u32,
    pub target: i64,
    pub part_target: Option<i64>,
    pub control: BTreeMap<String, String>,
    pub first_msn: u64,
    pub discontinuities: u64,
    pub independent: bool,
    pub skipped: u64,
    pub segments: Vec<Item>,
    /// The segment that is not complete.
    pub edge: Item,
    pub hint: Option<String>,
    pub ended: bool,
}

fn micros(text: &str) -> i64 {
    (text.parse::<f64>().unwrap() * 1e6).round() as i64
}

/// `A=1,B="x,y"` as a map.
fn attributes(text: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut rest = text;
    while let Some((name, value)) = rest.split_once('=') {
        let (value, behind) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap(),
            None => value.split_at(value.find(',').unwrap_or(value.len())),
        };
        all.insert(name.to_owned(), value.to_owned());
        rest = behind.strip_prefix(',').unwrap_or(behind);
    }
    all
}

impl Playlist {
    pub fn parse(text: &str) -> Playlist {
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("#EXTM3U"));
        let mut list = Playlist::default();
        let mut item = Item::default();
        let mut map = None;
        for line in lines {
            let (tag, value) = line.split_once(':').unwrap_or((line, ""));
            match tag {
                "#EXT-X-VERSION" => list.version = value.parse().unwrap(),
                "#EXT-X-TARGETDURATION" => list.target = micros(value),
                "#EXT-X-SERVER-CONTROL" => list.control = attributes(value),
                "#EXT-X-PART-INF" => list.part_target = Some(micros(&attributes(value)["PART-TARGET"])),
                "#EXT-X-MEDIA-SEQUENCE" => list.first_msn = value.parse().unwrap(),
                "#EXT-X-DISCONTINUITY-SEQUENCE" => list.discontinuities = value.parse().unwrap(),
                "#EXT-X-INDEPENDENT-SEGMENTS" => list.independent = true,
                "#EXT-X-SKIP" => list.skipped = attributes(value)["SKIPPED-SEGMENTS"].parse().unwrap(),
                "#EXT-X-DISCONTINUITY" => item.discontinuity = true,
                "#EXT-X-MAP" => map = Some(attributes(value)["URI"].clone()),
                "#EXT-X-PROGRAM-DATE-TIME" => item.date = Some(value.to_owned()),
                "#EXT-X-PART" => {
                    let attributes = attributes(value);
                    let independent = attributes.get("INDEPENDENT").is_some_and(|value| value == "YES");
                    let (name, micros) = (attributes["URI"].clone(), micros(&attributes["DURATION"]));
                    item.parts.push(PartItem { name, micros, independent });
                }
                "#EXTINF" => item.micros = micros(value.trim_end_matches(',')),
                "#EXT-X-PRELOAD-HINT" => list.hint = Some(attributes(value)["URI"].clone()),
                "#EXT-X-ENDLIST" => list.ended = true,
                name if !name.starts_with('#') => {
                    item.msn = list.first_msn + list.skipped + list.segments.len() as u64;
                    item.map = map.clone();
                    item.name = Some(line.to_owned());
                    list.segments.push(std::mem::take(&mut item));
                }
                other => panic!("{other}"),
            }
        }
        item.msn = list.first_msn + list.skipped + list.segments.len() as u64;
        item.map = map;
        list.edge = item;
        list
    }

    /// Everything that it lists can be fetched.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let items = self.segments.iter().chain([&self.edge]);
        let of = |item: &Item| {
            let parts = item.parts.iter().map(|part| part.name.clone());
            item.map.clone().into_iter().chain(item.name.clone()).chain(parts).collect::<Vec<_>>()
        };
        items.flat_map(of).collect::<Vec<_>>().into_iter()
    }

    /// Whether a delta update says the same.
    pub fn without_skipped(&self, delta: &Playlist) -> Result<(), String> {
        let mut expected = self.clone();
        expected.skipped = delta.skipped;
        expected.segments.drain(..delta.skipped as usize);
        if delta.skipped as usize >= self.segments.len() {
            return Err("skips everything".to_owned());
        }
        let to_end = self.duration() - self.segments[..delta.skipped as usize].iter().map(|item| item.micros).sum::<i64>();
        if delta.skipped > 0 && (delta.version < 9 || to_end < 6 * self.target) {
            return Err(format!("skips what is {to_end} µs before the end"));
        }
        if expected == *delta { Ok(()) } else { Err("differs".to_owned()) }
    }

    pub fn duration(&self) -> i64 {
        let listed: i64 = self.segments.iter().map(|item| item.micros).sum();
        listed + self.edge.parts.iter().map(|part| part.micros).sum::<i64>()
    }

    /// The rules that one playlist shows.
    fn check(&self) -> Result<(), String> {
        let fail = |what: String| Err(what);
        let least = if self.part_target.is_some() { 9 } else { 6 };
        if self.version < least || self.target % 1_000_000 != 0 || self.segments.is_empty() {
            return fail("head".to_owned());
        }
        for item in &self.segments {
            if (item.micros + 500_000) / 1_000_000 * 1_000_000 > self.target || item.micros <= 0 {
                return fail(format!("segment {} of {} µs", item.msn, item.micros));
            }
            if item.map.is_none() || item.date.is_none() {
                return fail(format!("segment {} without map or date", item.msn));
            }
            let parts: i64 = item.parts.iter().map(|part| part.micros).sum();
            if !item.parts.is_empty() && parts != item.micros {
                return fail(format!("the parts of segment {} have {parts} of {} µs", item.msn, item.micros));
            }
        }
        if let Some(target) = self.part_target {
            self.check_parts(target)?;
        } else if !self.edge.parts.is_empty() || self.hint.is_some() || !self.control.is_empty() {
            return fail("parts without a part target".to_owned());
        }
        Ok(())
    }

    fn check_parts(&self, target: i64) -> Result<(), String> {
        let control = |name: &str| self.control.get(name).map_or(0, |value| micros(value));
        if control("PART-HOLD-BACK") < 3 * target
            || control("HOLD-BACK") < 3 * self.target
            || control("CAN-SKIP-UNTIL") < 6 * self.target
        {
            return Err("server control".to_owned());
        }
        if self.control["CAN-BLOCK-RELOAD"] != "YES" || self.hint.is_some() == self.ended {
            return Err("no blocking reload, or no hint".to_owned());
        }
        let mut from_end = self.duration();
        for item in self.segments.iter().chain([&self.edge]) {
            from_end -= item.micros;
            let is_far = item.name.is_some() && from_end >= 3 * self.target;
            if is_far != item.parts.is_empty() && item.name.is_some() {
                return Err(format!("segment {} has {} parts", item.msn, item.parts.len()));
            }
            if self.independent && item.parts.first().is_some_and(|part| !part.independent) {
                return Err(format!("segment {} is not independent", item.msn));
            }
        }
        if let Some(hint) = &self.hint
            && !hint.ends_with(&format!("-{}-{}.m4s", self.edge.msn, self.edge.parts.len()))
        {
            return Err(format!("hint {hint}"));
        }
        Ok(())
    }
}

/// Sees one playlist after another.
#[derive(Default)]
pub struct Watcher {
    /// The stream has frames that last longer than its beginning showed, and nothing to fill the time with: parts cannot keep their lengths.
    has_holes: bool,
    last: Option<Playlist>,
    known: BTreeMap<u64, Item>,
    /// How many discontinuities there are up to a segment.
    joints: BTreeMap<u64, u64>,
    /// Until when those must be there that have left the list.
    gone: Vec<(String, Stamp)>,
}

impl Watcher {
    pub fn new(has_holes: bool) -> Self {
        Watcher { has_holes, ..Watcher::default() }
    }

    pub fn last(&self) -> Option<&Playlist> {
        self.last.as_ref()
    }

    pub fn segments_seen(&self) -> usize {
        self.known.len()
    }

    pub fn still_fetchable(&self, now: Stamp) -> impl Iterator<Item = String> {
        self.gone.iter().filter(move |(_, until)| now < *until).map(|(name, _)| name.clone())
    }

    pub fn look(&mut self, list: &Playlist, now: Stamp) -> Result<(), String> {
        list.check()?;
        if let Some(last) = self.last.take() {
            let constant = |list: &Playlist| (list.version, list.target, list.part_target, list.control.clone());
            if constant(&last) != constant(list) {
                return Err("the head has changed".to_owned());
            }
            if list.first_msn < last.first_msn || list.edge.msn < last.edge.msn || list.discontinuities < last.discontinuities {
                return Err("a number goes back".to_owned());
            }
            self.check_window(&last, list, now)?;
        }
        self.check_joints(list)?;
        self.check_segments(list)?;
        self.last = Some(list.clone());
        Ok(())
    }

    /// Segments leave at the front alone, late enough, and can be fetched for a while.
    fn check_window(&mut self, last: &Playlist, list: &Playlist, now: Stamp) -> Result<(), String> {
        let removed = (list.first_msn - last.first_msn) as usize;
        let listed: i64 = list.segments.iter().map(|item| item.micros).sum();
        if removed > 0 && listed < 3 * list.target {
            return Err(format!("the list has {listed} µs"));
        }
        for item in last.segments.iter().take(removed) {
            let until = now.after_millis((last.segments.iter().map(|item| item.micros).sum::<i64>() + item.micros) as u64 / 1000);
            self.gone.push((item.name.clone().unwrap_or_default(), until));
        }
        self.gone.retain(|(_, until)| now < *until);
        Ok(())
    }

    fn check_joints(&mut self, list: &Playlist) -> Result<(), String> {
        let mut joints = list.discontinuities;
        for item in &list.segments {
            joints += u64::from(item.discontinuity);
            if *self.joints.entry(item.msn).or_insert(joints) != joints {
                return Err(format!("discontinuities up to segment {}", item.msn));
            }
        }
        Ok(())
    }

    /// What was said of a segment stays so; parts may only be added at the end, or leave together.
    fn check_segments(&mut self, list: &Playlist) -> Result<(), String> {
        let part_target = list.part_target.unwrap_or(i64::MAX);
        let edge = std::slice::from_ref(&list.edge).iter().filter(|item| !item.parts.is_empty());
        for item in list.segments.iter().chain(edge) {
            let is_new = !self.known.contains_key(&item.msn);
            let before = self.known.entry(item.msn).or_insert_with(|| item.clone());
            let facts = |item: &Item| (item.discontinuity, item.map.clone(), item.date.clone());
            let renamed = before.name.is_some() && (&before.name, before.micros) != (&item.name, item.micros);
            if facts(before) != facts(item) || renamed {
                return Err(format!("segment {} was {before:?}", item.msn));
            }
            let kept = before.parts.len().min(item.parts.len());
            if before.parts[..kept] != item.parts[..kept] || (item.name.is_none() && item.parts.len() < before.parts.len()) {
                return Err(format!("parts of segment {} were {:?}", item.msn, before.parts));
            }
            let has_all = item.name.is_some();
            for (number, part) in item.parts.iter().enumerate() {
                let is_last = has_all && number + 1 == item.parts.len();
                // The next one shows whether this one could have been longer.
                if part.micros > part_target && !self.has_holes {
                    return Err(format!("{} is too long: {} µs of {part_target}", part.name, part.micros));
                }
                if !is_last && has_all && part.micros * 100 < part_target * 85 && !self.has_holes {
                    return Err(format!("{} is too short: {} µs of {part_target}", part.name, part.micros));
                }
            }
            if is_new || item.parts.len() >= before.parts.len() {
                *before = item.clone();
            }
        }
        Ok(())
    }
}
