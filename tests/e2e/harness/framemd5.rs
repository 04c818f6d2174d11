//! The text that ffmpeg's `framemd5` writes: one line per packet, with its times and its hash.

use std::collections::BTreeMap;
use std::path::Path;

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub dts: i64,
    pub pts: i64,
    pub size: u64,
    pub hash: String,
}

/// One elementary stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    pub time_base: String,
    /// Size and hash of the decoder configuration.
    pub config: String,
    pub lines: Vec<Line>,
}

/// The streams of a file by media type.
pub type Streams = BTreeMap<String, Stream>;

/// `-c copy -f framemd5` of everything in `input`, with the times that it has.
pub fn arguments(input: &str, output: &Path) -> Vec<String> {
    let words = ["-copyts", "-i", input, "-map", "0:v?", "-map", "0:a?", "-c", "copy", "-f", "framemd5"];
    words.iter().map(|word| (*word).to_owned()).chain([output.display().to_string()]).collect()
}

pub fn read(path: &Path) -> Streams {
    let text = std::fs::read_to_string(path).unwrap();
    let mut kinds: BTreeMap<usize, String> = BTreeMap::new();
    let mut streams = Streams::new();
    let field = |line: &str, name: &str| -> Option<(usize, String)> {
        let (index, value) = line.strip_prefix(name)?.split_once(':')?;
        Some((index.trim().parse().ok()?, value.trim().to_owned()))
    };
    for line in text.lines().filter(|line| line.starts_with('#')) {
        if let Some((index, kind)) = field(line, "#media_type") {
            streams.entry(kind.clone()).or_default();
            kinds.insert(index, kind);
        }
    }
    for line in text.lines() {
        if let Some((index, value)) = field(line, "#tb") {
            streams.get_mut(&kinds_at(&kinds, index, &text)).unwrap().time_base = value;
        } else if let Some((index, value)) = field(line, "#extradata") {
            streams.get_mut(&kinds_at(&kinds, index, &text)).unwrap().config = value;
        } else if !line.starts_with('#') {
            let cells: Vec<&str> = line.split(',').map(str::trim).collect();
            // Side data, such as a new configuration, may follow.
            let [index, dts, pts, _duration, size, hash, ..] = cells[..] else { continue };
            let number = |cell: &str| cell.parse::<i64>().unwrap_or_else(|_| panic!("a number: {line}"));
            let line = Line { dts: number(dts), pts: number(pts), size: number(size) as u64, hash: hash.to_owned() };
            streams.get_mut(&kinds_at(&kinds, index.parse().unwrap(), &text)).unwrap().lines.push(line);
        }
    }
    streams
}

fn kinds_at(kinds: &BTreeMap<usize, String>, index: usize, text: &str) -> String {
    kinds.get(&index).unwrap_or_else(|| panic!("stream {index} has no type:\n{text}")).clone()
}

/// Fails unless every stream of `seen` is what its counterpart in `sent` ends with: the same packets in the same order, the same
/// decoder configuration, and times that differ by one constant for all streams together. Returns the packets seen per stream.
#[track_caller]
pub fn assert_tail(seen: &Streams, sent: &Streams, who: &str) -> BTreeMap<String, usize> {
    let kinds = |streams: &Streams| streams.keys().cloned().collect::<Vec<_>>();
    assert_eq!(kinds(seen), kinds(sent), "{who}: the streams");
    let mut offset = None;
    let mut counts = BTreeMap::new();
    for (kind, seen) in seen {
        let sent = &sent[kind];
        assert_eq!(seen.config, sent.config, "{who}: the configuration of {kind}");
        assert_eq!(seen.time_base, sent.time_base, "{who}: the time base of {kind}");
        assert!(!seen.lines.is_empty(), "{who}: no {kind}");
        assert!(seen.lines.len() <= sent.lines.len(), "{who}: {} of {} packets of {kind}", seen.lines.len(), sent.lines.len());
        let from = sent.lines.len() - seen.lines.len();
        for (at, (seen, sent)) in seen.lines.iter().zip(&sent.lines[from..]).enumerate() {
            let offset = *offset.get_or_insert(seen.dts - sent.dts);
            let shifted = Line { dts: sent.dts + offset, pts: sent.pts + offset, ..sent.clone() };
            assert_eq!(*seen, shifted, "{who}: packet {at} of {kind}, which was sent as number {}", from + at);
        }
        counts.insert(kind.clone(), seen.lines.len());
    }
    counts
}

/// Fails unless decoding times grow strictly in each stream.
#[track_caller]
pub fn assert_monotonic(streams: &Streams, who: &str) {
    for (kind, stream) in streams {
        if let Some(pair) = stream.lines.windows(2).find(|pair| pair[1].dts <= pair[0].dts) {
            panic!("{who}: {kind} goes from {} to {}", pair[0].dts, pair[1].dts);
        }
    }
}
