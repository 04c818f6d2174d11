//! As much of an HLS playlist as a player needs that plays on. Spec: RFC 8216 §4.3, RFC 8216bis §4.4.

#[derive(Debug, Default, PartialEq)]
pub struct Playlist {
    /// In seconds.
    pub target: u64,
    /// Number of the first segment below.
    pub sequence: u64,
    pub segments: Vec<Segment>,
    /// Parts of the segment that is not finished.
    pub open: Segment,
    pub has_parts: bool,
    pub skips: bool,
    pub ended: bool,
}

#[derive(Debug, Default, PartialEq)]
pub struct Segment {
    pub uri: String,
    pub map: Option<String>,
    pub parts: Vec<Part>,
}

#[derive(Debug, Default, PartialEq)]
pub struct Part {
    pub uri: String,
    pub independent: bool,
}

impl Playlist {
    pub fn parse(text: &str) -> Playlist {
        let mut list = Playlist::default();
        for line in text.lines() {
            let (tag, value) = line.split_once(':').unwrap_or((line, ""));
            let number = || value.trim().parse().unwrap_or(0);
            match tag {
                "#EXT-X-TARGETDURATION" => list.target = number(),
                "#EXT-X-MEDIA-SEQUENCE" => list.sequence = number(),
                "#EXT-X-SKIP" => {
                    list.sequence += attribute(value, "SKIPPED-SEGMENTS").and_then(|count| count.parse().ok()).unwrap_or(0)
                }
                "#EXT-X-PART-INF" => list.has_parts = true,
                "#EXT-X-SERVER-CONTROL" => list.skips = value.contains("CAN-SKIP-UNTIL"),
                "#EXT-X-MAP" => list.open.map = attribute(value, "URI").map(str::to_owned),
                "#EXT-X-PART" => {
                    let uri = attribute(value, "URI").unwrap_or_default().to_owned();
                    list.open.parts.push(Part { uri, independent: value.contains("INDEPENDENT=YES") });
                }
                "#EXT-X-ENDLIST" => list.ended = true,
                _ if line.is_empty() || line.starts_with('#') => {}
                _ => {
                    let next = Segment { map: list.open.map.clone(), ..Segment::default() };
                    let mut segment = std::mem::replace(&mut list.open, next);
                    segment.uri = line.to_owned();
                    list.segments.push(segment);
                }
            }
        }
        list
    }

    /// Number of the segment that is not finished.
    pub fn next(&self) -> u64 {
        self.sequence + self.segments.len() as u64
    }

    /// The segments from number `from` on, the last being the open one.
    pub fn from(&self, from: u64) -> impl Iterator<Item = (u64, &Segment)> {
        let all = self.segments.iter().chain([&self.open]).enumerate().map(|(at, segment)| (self.sequence + at as u64, segment));
        all.filter(move |(msn, _)| *msn >= from)
    }

    /// Where playing begins: with parts at the newest that is independent, else three segments from the end.
    pub fn start(&self, low: bool) -> (u64, usize) {
        let newest = self.from(self.sequence).filter_map(|(msn, segment)| {
            let at = segment.parts.iter().rposition(|part| part.independent)?;
            Some((msn, at))
        });
        let newest = if low { newest.last() } else { None };
        newest.unwrap_or((self.next().saturating_sub(3).max(self.sequence), 0))
    }
}

/// The value of an attribute, without its quotes.
fn attribute<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = list;
    loop {
        let (found, behind) = rest.split_once('=')?;
        let (value, behind) = match behind.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => behind.split_at(behind.find(',').unwrap_or(behind.len())),
        };
        if found == name {
            return Some(value);
        }
        rest = behind.strip_prefix(',')?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12.0\n\
        #EXT-X-PART-INF:PART-TARGET=0.2\n#EXT-X-MEDIA-SEQUENCE:10\n#EXT-X-SKIP:SKIPPED-SEGMENTS=2\n#EXTINF:2.0,\nseg-12.m4s\n\
        #EXT-X-MAP:URI=\"init-1.mp4\"\n#EXT-X-PART:DURATION=0.2,URI=\"part-13-0.m4s\",INDEPENDENT=YES\n\
        #EXT-X-PART:DURATION=0.2,URI=\"part-13-1.m4s\"\n#EXTINF:0.4,\nseg-13.m4s\n\
        #EXT-X-PART:DURATION=0.2,INDEPENDENT=YES,URI=\"a,b=c\"\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"part-14-1.m4s\"\n";

    #[test]
    fn what_a_player_needs_is_read() {
        let list = Playlist::parse(LIST);
        assert_eq!(
            (list.target, list.sequence, list.next(), list.has_parts, list.skips, list.ended),
            (2, 12, 14, true, true, false)
        );
        assert_eq!((list.segments[0].map.as_deref(), list.segments[1].map.as_deref()), (None, Some("init-1.mp4")));
        assert_eq!((list.open.map.as_deref(), list.open.parts[0].uri.as_str()), (Some("init-1.mp4"), "a,b=c"));
        assert_eq!((list.start(true), list.start(false)), ((14, 0), (12, 0)));
        assert_eq!(list.from(13).map(|(msn, segment)| (msn, segment.parts.len())).collect::<Vec<_>>(), [(13, 2), (14, 1)]);
        assert_eq!(Playlist::parse("#EXTM3U\nx.m3u8\n").segments[0].uri, "x.m3u8");
    }
}
