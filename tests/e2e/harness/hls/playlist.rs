//! Text to playlists, strictly: what the grammar does not allow, or a playlist of a live server has no use for, is a fault.
//!
//! Spec: RFC 8216bis §4 (tags), §4.2 (attribute lists), §8 (versions).

use std::collections::BTreeMap;

use super::Fault;

/// A media playlist.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Media {
    pub version: u32,
    /// The version that its tags ask for, and which tag that is.
    pub version_min: (u32, &'static str),
    /// In seconds.
    pub target: u32,
    pub sequence: u64,
    pub discontinuity_sequence: u64,
    /// Every segment begins with a keyframe.
    pub independent: bool,
    pub part_target: Option<f64>,
    pub control: Control,
    /// Segments that an EXT-X-SKIP stands for.
    pub skipped: u64,
    pub segments: Vec<Segment>,
    /// Of the segment that is not finished, with what was said of it so far.
    pub open: Segment,
    /// The URI of the part that comes next.
    pub hint: Option<String>,
    pub ended: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Control {
    pub block_reload: bool,
    pub part_hold_back: Option<f64>,
    pub hold_back: Option<f64>,
    pub skip_until: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Segment {
    pub uri: String,
    pub duration: f64,
    pub discontinuity: bool,
    /// Its own EXT-X-PROGRAM-DATE-TIME, in seconds since 1970.
    pub date: Option<f64>,
    /// The initialisation section in force.
    pub map: Option<String>,
    pub parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub uri: String,
    pub duration: f64,
    pub independent: bool,
}

impl Media {
    /// The number of the segment that is not finished.
    pub fn next(&self) -> u64 {
        self.sequence + self.skipped + self.segments.len() as u64
    }

    /// The listed segments with their numbers.
    pub fn numbered(&self) -> impl DoubleEndedIterator<Item = (u64, &Segment)> {
        self.segments.iter().enumerate().map(|(at, segment)| (self.sequence + self.skipped + at as u64, segment))
    }

    /// One of the listed segments, or the open one.
    pub fn segment(&self, msn: u64) -> Option<&Segment> {
        if msn == self.next() {
            return Some(&self.open);
        }
        self.numbered().find(|(number, _)| *number == msn).map(|(_, segment)| segment)
    }

    /// Finished segments and parts of the open one, in seconds.
    pub fn duration(&self) -> f64 {
        let finished: f64 = self.segments.iter().map(|segment| segment.duration).sum();
        finished + self.open.parts.iter().map(|part| part.duration).sum::<f64>()
    }

    /// All but which version it is written in.
    pub fn said(&self) -> Media {
        Media { version: 0, version_min: (0, ""), ..self.clone() }
    }

    /// Whether it has the segment, or at least part `part` of it.
    pub fn contains(&self, msn: u64, part: Option<usize>) -> bool {
        self.next() > msn || part.is_some_and(|part| self.next() == msn && self.open.parts.len() > part)
    }

    /// The segment and the part that come next: what a player asks to be told of.
    pub fn coming(&self) -> (u64, usize) {
        (self.next(), self.open.parts.len())
    }

    /// What a delta update stands for, given the playlist that it was asked with.
    pub fn expand(mut self, known: &Media) -> Result<Media, Fault> {
        if self.skipped == 0 {
            return Ok(self);
        }
        let skipped = self.sequence..self.sequence + self.skipped;
        let mut segments: Vec<Segment> =
            known.numbered().filter(|(msn, _)| skipped.contains(msn)).map(|(_, segment)| segment.clone()).collect();
        if segments.len() as u64 != self.skipped {
            return Err(format!("§5.2: the update skips {skipped:?}, of which {} are known", segments.len()));
        }
        // What an EXT-X-MAP that was skipped says holds on.
        let inherited = segments.last().and_then(|segment| segment.map.clone());
        for segment in self.segments.iter_mut().chain([&mut self.open]).take_while(|segment| segment.map.is_none()) {
            segment.map.clone_from(&inherited);
        }
        segments.append(&mut self.segments);
        (self.segments, self.skipped) = (segments, 0);
        Ok(self)
    }

    pub fn parse(text: &str) -> Result<Media, Fault> {
        let mut reader = Reader::default();
        for line in lines(text)? {
            reader.line(line).map_err(|fault| format!("{fault}: {line}"))?;
        }
        reader.finish()
    }
}

/// The lines behind the first, but for empty ones and comments.
fn lines(text: &str) -> Result<impl Iterator<Item = &str>, Fault> {
    let mut lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    if lines.next() != Some("#EXTM3U") {
        return Err(format!("§4.4.1.1: the first line is not EXTM3U: {text:.80}"));
    }
    if let Some(control) = text.chars().find(|letter| letter.is_control() && !matches!(letter, '\n' | '\r')) {
        return Err(format!("§4.1: {control:?} in a playlist"));
    }
    Ok(lines.filter(|line| !line.is_empty() && (!line.starts_with('#') || line.starts_with("#EXT"))))
}

/// What belongs to the playlist, and what to the segment that follows.
#[derive(Default)]
struct Reader {
    media: Media,
    seen: Vec<String>,
    extinf: bool,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), Fault> {
        if !line.starts_with('#') {
            return self.uri(line);
        }
        if self.media.ended {
            return Err("something behind the end".to_owned());
        }
        let (tag, value) = line.split_once(':').map_or((line, None), |(tag, value)| (tag, Some(value)));
        let is_once =
            !matches!(tag, "#EXTINF" | "#EXT-X-DISCONTINUITY" | "#EXT-X-PROGRAM-DATE-TIME" | "#EXT-X-MAP" | "#EXT-X-PART");
        if is_once && self.seen.iter().any(|seen| seen == tag) {
            return Err(format!("§4.4: a second {tag}"));
        }
        self.seen.push(tag.to_owned());
        match (tag, value) {
            ("#EXT-X-INDEPENDENT-SEGMENTS", None) => self.media.independent = true,
            ("#EXT-X-ENDLIST", None) => self.media.ended = true,
            ("#EXT-X-DISCONTINUITY", None) => self.discontinuity()?,
            (_, Some(value)) => self.valued(tag, value)?,
            _ => return Err("an unknown tag".to_owned()),
        }
        Ok(())
    }

    fn valued(&mut self, tag: &str, value: &str) -> Result<(), Fault> {
        let is_before_all = self.media.segments.is_empty() && self.media.open == Segment::default();
        match tag {
            "#EXT-X-VERSION" => self.media.version = integer(value)? as u32,
            "#EXT-X-TARGETDURATION" => self.media.target = integer(value)? as u32,
            "#EXT-X-MEDIA-SEQUENCE" | "#EXT-X-DISCONTINUITY-SEQUENCE" if !is_before_all => {
                return Err("§4.4.3: behind a segment".to_owned());
            }
            "#EXT-X-MEDIA-SEQUENCE" => self.media.sequence = integer(value)?,
            "#EXT-X-DISCONTINUITY-SEQUENCE" => self.media.discontinuity_sequence = integer(value)?,
            "#EXT-X-PART-INF" => {
                self.media.part_target = Some(Attributes::parse(value)?.only(&["PART-TARGET"])?.decimal("PART-TARGET")?)
            }
            "#EXT-X-SERVER-CONTROL" => self.control(value)?,
            "#EXT-X-SKIP" if !is_before_all => return Err("§4.4.5.2: a skip behind a segment".to_owned()),
            "#EXT-X-SKIP" => {
                self.media.skipped = Attributes::parse(value)?.only(&["SKIPPED-SEGMENTS"])?.number("SKIPPED-SEGMENTS")?;
                self.needs(9, "EXT-X-SKIP");
            }
            "#EXT-X-MAP" => {
                if !self.media.open.parts.is_empty() {
                    return Err("§4.4.4.5: a map within a segment".to_owned());
                }
                self.media.open.map = Some(Attributes::parse(value)?.only(&["URI"])?.quoted("URI")?);
                self.needs(6, "EXT-X-MAP");
            }
            "#EXT-X-PROGRAM-DATE-TIME" => {
                if self.media.open.date.replace(date(value)?).is_some() || !self.media.open.parts.is_empty() {
                    return Err("§4.4.4.6: a second date, or one within a segment".to_owned());
                }
            }
            "#EXT-X-PART" => self.part(value)?,
            "#EXT-X-PRELOAD-HINT" => {
                let hint = Attributes::parse(value)?.only(&["TYPE", "URI"])?;
                if hint.word("TYPE")? != "PART" {
                    return Err("§4.4.5.3: a hint of another type".to_owned());
                }
                self.media.hint = Some(hint.quoted("URI")?);
            }
            "#EXTINF" => self.extinf(value)?,
            _ => return Err("an unknown tag".to_owned()),
        }
        Ok(())
    }

    fn needs(&mut self, version: u32, tag: &'static str) {
        self.media.version_min = self.media.version_min.max((version, tag));
    }

    fn discontinuity(&mut self) -> Result<(), Fault> {
        let open = &mut self.media.open;
        if std::mem::replace(&mut open.discontinuity, true) || !open.parts.is_empty() {
            return Err("§4.4.4.3: a second discontinuity, or one within a segment".to_owned());
        }
        Ok(())
    }

    fn control(&mut self, value: &str) -> Result<(), Fault> {
        let known = ["CAN-BLOCK-RELOAD", "PART-HOLD-BACK", "HOLD-BACK", "CAN-SKIP-UNTIL"];
        let attributes = Attributes::parse(value)?.only(&known)?;
        let decimal = |name| attributes.has(name).then(|| attributes.decimal(name)).transpose();
        self.media.control = Control {
            block_reload: attributes.has("CAN-BLOCK-RELOAD") && attributes.word("CAN-BLOCK-RELOAD")? == "YES",
            part_hold_back: decimal("PART-HOLD-BACK")?,
            hold_back: decimal("HOLD-BACK")?,
            skip_until: decimal("CAN-SKIP-UNTIL")?,
        };
        Ok(())
    }

    fn part(&mut self, value: &str) -> Result<(), Fault> {
        let attributes = Attributes::parse(value)?.only(&["DURATION", "URI", "INDEPENDENT"])?;
        let independent = attributes.has("INDEPENDENT");
        if independent && attributes.word("INDEPENDENT")? != "YES" {
            return Err("§4.4.4.9: INDEPENDENT is YES or not there".to_owned());
        }
        if self.media.hint.is_some() {
            return Err("§4.4.5.3: a part behind the hint".to_owned());
        }
        self.media.open.parts.push(Part {
            uri: attributes.quoted("URI")?,
            duration: attributes.decimal("DURATION")?,
            independent,
        });
        Ok(())
    }

    fn extinf(&mut self, value: &str) -> Result<(), Fault> {
        let (duration, title) = value.split_once(',').ok_or("§4.4.4.1: no comma behind the duration")?;
        if self.extinf || !title.is_empty() {
            return Err("§4.4.4.1: a second EXTINF, or a title".to_owned());
        }
        self.extinf = true;
        self.media.open.duration = decimal(duration)?;
        if duration.contains('.') {
            self.needs(3, "EXTINF with a fraction");
        }
        Ok(())
    }

    fn uri(&mut self, line: &str) -> Result<(), Fault> {
        if !std::mem::take(&mut self.extinf) {
            return Err("§4.4.4.1: a segment without EXTINF".to_owned());
        }
        if line.contains([' ', '"']) {
            return Err("§4.1: this is no URI".to_owned());
        }
        let next = Segment { map: self.media.open.map.clone(), ..Segment::default() };
        let mut segment = std::mem::replace(&mut self.media.open, next);
        segment.uri = line.to_owned();
        self.media.segments.push(segment);
        Ok(())
    }

    fn finish(self) -> Result<Media, Fault> {
        for tag in ["#EXT-X-VERSION", "#EXT-X-TARGETDURATION", "#EXT-X-MEDIA-SEQUENCE"] {
            if !self.seen.iter().any(|seen| seen == tag) {
                return Err(format!("§4.4: no {tag}"));
            }
        }
        if self.extinf {
            return Err("§4.4.4.1: EXTINF without a segment".to_owned());
        }
        Ok(self.media)
    }
}

/// A multivariant playlist.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Multivariant {
    pub version: u32,
    pub independent: bool,
    pub variants: Vec<Variant>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Variant {
    pub uri: String,
    pub bandwidth: u64,
    pub average_bandwidth: Option<u64>,
    pub codecs: String,
    pub resolution: Option<(u32, u32)>,
    pub frame_rate: Option<f64>,
}

impl Multivariant {
    pub fn parse(text: &str) -> Result<Multivariant, Fault> {
        let mut list = Multivariant::default();
        let mut coming: Option<Variant> = None;
        for line in lines(text)? {
            let fault = |fault| format!("{fault}: {line}");
            let (tag, value) = line.split_once(':').unwrap_or((line, ""));
            match tag {
                "#EXT-X-VERSION" => list.version = integer(value).map_err(fault)? as u32,
                "#EXT-X-INDEPENDENT-SEGMENTS" => list.independent = true,
                "#EXT-X-STREAM-INF" if coming.is_none() => coming = Some(Variant::parse(value).map_err(fault)?),
                _ if !line.starts_with('#') => {
                    let variant = coming.take().ok_or_else(|| format!("§4.4.6.2: a URI without its tag: {line}"))?;
                    list.variants.push(Variant { uri: line.to_owned(), ..variant });
                }
                _ => return Err(format!("an unknown tag: {line}")),
            }
        }
        if coming.is_some() || list.variants.is_empty() {
            return Err(format!("§4.4.6.2: no variant, or one without its URI: {text}"));
        }
        Ok(list)
    }
}

impl Variant {
    fn parse(value: &str) -> Result<Variant, Fault> {
        let known = ["BANDWIDTH", "AVERAGE-BANDWIDTH", "CODECS", "RESOLUTION", "FRAME-RATE"];
        let attributes = Attributes::parse(value)?.only(&known)?;
        let resolution = match attributes.0.get("RESOLUTION") {
            Some(text) => {
                let (width, height) = text.split_once('x').ok_or("§4.2: a resolution is WxH")?;
                Some((integer(width)? as u32, integer(height)? as u32))
            }
            None => None,
        };
        Ok(Variant {
            uri: String::new(),
            bandwidth: attributes.number("BANDWIDTH")?,
            average_bandwidth: attributes.has("AVERAGE-BANDWIDTH").then(|| attributes.number("AVERAGE-BANDWIDTH")).transpose()?,
            codecs: attributes.quoted("CODECS")?,
            resolution,
            frame_rate: attributes.has("FRAME-RATE").then(|| attributes.decimal("FRAME-RATE")).transpose()?,
        })
    }
}

/// `NAME=value,NAME="value"`; quoted values keep their quotes.
struct Attributes(BTreeMap<String, String>);

impl Attributes {
    fn parse(mut rest: &str) -> Result<Attributes, Fault> {
        let mut found = BTreeMap::new();
        while !rest.is_empty() {
            let (name, behind) = rest.split_once('=').ok_or("§4.2: an attribute without a value")?;
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-') {
                return Err(format!("§4.2: an attribute is not called {name:?}"));
            }
            let length = match behind.strip_prefix('"') {
                Some(quoted) => quoted.find('"').ok_or("§4.2: a quoted string without its end")? + 2,
                None => behind.find(',').unwrap_or(behind.len()),
            };
            let (value, behind) = behind.split_at(length);
            if value.is_empty() || found.insert(name.to_owned(), value.to_owned()).is_some() {
                return Err(format!("§4.2: {name} is empty or there twice"));
            }
            rest = match behind.strip_prefix(',') {
                Some(more) if !more.is_empty() => more,
                None if behind.is_empty() => behind,
                _ => return Err("§4.2: something behind an attribute".to_owned()),
            };
        }
        Ok(Attributes(found))
    }

    fn only(self, known: &[&str]) -> Result<Attributes, Fault> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(format!("an unknown attribute {name}")),
            None => Ok(self),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn word(&self, name: &str) -> Result<&str, Fault> {
        self.0.get(name).map(String::as_str).ok_or_else(|| format!("no {name}"))
    }

    fn quoted(&self, name: &str) -> Result<String, Fault> {
        let inner = self.word(name)?.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        inner.filter(|inner| !inner.is_empty()).map(str::to_owned).ok_or_else(|| format!("§4.2: {name} is not a quoted string"))
    }

    fn decimal(&self, name: &str) -> Result<f64, Fault> {
        decimal(self.word(name)?)
    }

    fn number(&self, name: &str) -> Result<u64, Fault> {
        integer(self.word(name)?)
    }
}

fn integer(text: &str) -> Result<u64, Fault> {
    let is_number = !text.is_empty() && text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number).ok_or_else(|| format!("§4.2: {text:?} is not a decimal integer"))
}

fn decimal(text: &str) -> Result<f64, Fault> {
    let is_number =
        text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && text.starts_with(|first: char| first.is_ascii_digit());
    text.parse().ok().filter(|_| is_number).ok_or_else(|| format!("§4.2: {text:?} is not a decimal number"))
}

/// `2026-11-27T21:03:04.567Z` to seconds since 1970; milliseconds are asked for, and UTC.
fn date(text: &str) -> Result<f64, Fault> {
    let wrong = || format!("§4.4.4.6: {text:?} is not a date with milliseconds");
    let template = "0000-00-00T00:00:00.000Z";
    let fits = |(is, template): (u8, u8)| if template == b'0' { is.is_ascii_digit() } else { is == template };
    if text.len() != template.len() || !text.bytes().zip(template.bytes()).all(fits) {
        return Err(wrong());
    }
    let part = |range: std::ops::Range<usize>| text[range].parse::<i64>().map_err(|_| wrong());
    let (year, month, day) = (part(0..4)?, part(5..7)?, part(8..10)?);
    let (hour, minute, second, millis) = (part(11..13)?, part(14..16)?, part(17..19)?, part(20..23)?);
    // Days of the civil calendar, counted in years that begin in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Ok((((days * 24 + hour) * 60 + minute) * 60 + second) as f64 + millis as f64 / 1e3)
}
