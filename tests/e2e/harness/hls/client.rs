//! A player that looks at everything: it follows a live playlist as the server wants it, fetches every part and every segment, and holds
//! each answer against the rules.
//!
//! Each request has a connection of its own where that is asked for, so that every shard of the server answers.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::fmp4::{self, Continuity, Init};
use super::playlist::{Media, Multivariant, Segment};
use super::ts::Checker;
use super::{Fault, Watch};
use crate::harness::SOON;
use crate::harness::api::Response;

pub type Answer = Response;

/// A connection that stays, and answers one request after the other.
pub struct Connection {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
    keep: bool,
}

impl Connection {
    /// One for all requests.
    pub fn kept(address: SocketAddr) -> Self {
        Connection { address, stream: None, keep: true }
    }

    /// A new one for each request.
    pub fn fresh(address: SocketAddr) -> Self {
        Connection { address, stream: None, keep: false }
    }

    #[track_caller]
    pub fn get(&mut self, path: &str, headers: &[&str]) -> Answer {
        self.try_get(path, headers).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub fn try_get(&mut self, path: &str, headers: &[&str]) -> io::Result<Answer> {
        let mut stream = match self.stream.take().filter(|_| self.keep) {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address)?;
                stream.set_read_timeout(Some(SOON))?;
                stream.set_nodelay(true)?;
                BufReader::new(stream)
            }
        };
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let close = if self.keep { "" } else { "Connection: close\r\n" };
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{close}{headers}\r\n", self.address);
        stream.get_mut().write_all(request.as_bytes())?;
        let answer = Response::read(&mut stream)?;
        self.stream = Some(stream);
        Ok(answer)
    }
}

/// A path next to another: `seg-1.ts` next to `/live/a/media.m3u8?session=1`.
pub fn resolve(base: &str, uri: &str) -> String {
    if uri.starts_with('/') {
        return uri.to_owned();
    }
    let folder = base.split('?').next().unwrap().rsplit_once('/').map_or("", |(folder, _)| folder);
    format!("{folder}/{uri}")
}

/// A path with a further parameter.
pub fn with_query(path: &str, query: &str) -> String {
    format!("{path}{}{query}", if path.contains('?') { '&' } else { '?' })
}

/// What gzip packed.
#[track_caller]
pub fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut command = Command::new("gzip");
    let mut gzip = command.arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    gzip.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = gzip.wait_with_output().unwrap();
    assert!(output.status.success(), "not packed by gzip");
    output.stdout
}

/// A segment that was listed and fetched.
pub struct Fetched {
    pub segment: Segment,
    pub bytes: Vec<u8>,
    pub path: String,
}

/// What a player has seen.
#[derive(Default)]
pub struct Watched {
    pub multivariant: Multivariant,
    /// Path of the media playlist.
    pub path: String,
    pub watch: Watch,
    pub segments: BTreeMap<u64, Fetched>,
    pub parts: BTreeMap<(u64, usize), Vec<u8>>,
    pub inits: BTreeMap<String, Vec<u8>>,
    /// Updates that came as a delta, packed, and not at all because nothing had changed.
    pub deltas: usize,
    pub packed: usize,
    pub unchanged: usize,
    /// Segments that had left the playlist and were there as long as they must be.
    pub old: usize,
    parsed: BTreeMap<String, Init>,
    continuity: Continuity,
    part_continuity: Continuity,
    checker: Checker,
}

pub struct Player {
    connection: Connection,
    pub seen: Watched,
    updates: usize,
}

/// How often one of the other ways to ask is tried as well.
const ASIDE: usize = 7;

impl Player {
    /// Asks for a multivariant playlist, and for the first media playlist.
    #[track_caller]
    pub fn open(mut connection: Connection, path: &str) -> Self {
        let answer = connection.get(path, &[]);
        assert_eq!(answer.status, 200, "{path}: {} {}", answer.head, answer.text());
        assert_playlist_head(&answer);
        let multivariant = Multivariant::parse(&answer.text()).unwrap_or_else(|fault| panic!("{path}: {fault}"));
        let media = resolve(path, &multivariant.variants[0].uri);
        let seen = Watched { multivariant, path: media, ..Watched::default() };
        let mut player = Player { connection, seen, updates: 0 };
        let path = player.seen.path.clone();
        player.update(&path, None);
        player
    }

    pub fn last(&self) -> &Media {
        self.seen.watch.last().expect("a playlist has come")
    }

    pub fn get(&mut self, path: &str, headers: &[&str]) -> Answer {
        self.connection.get(path, headers)
    }

    /// Follows the playlist until `enough`, or until it has ended.
    #[track_caller]
    pub fn follow(&mut self, mut enough: impl FnMut(&Watched) -> bool) {
        while !self.last().ended && !enough(&self.seen) {
            self.step();
        }
    }

    /// The next update, and what it brings.
    #[track_caller]
    pub fn step(&mut self) {
        let (msn, part) = self.last().coming();
        let path = self.seen.path.clone();
        self.updates += 1;
        if !self.last().control.block_reload {
            // A player asks twice per target duration.
            std::thread::sleep(Duration::from_secs(u64::from(self.last().target)) / 2);
            self.update(&path, None);
        } else if self.last().part_target.is_some() {
            self.update(&with_query(&path, &format!("_HLS_msn={msn}&_HLS_part={part}")), Some((msn, Some(part))));
        } else {
            self.update(&with_query(&path, &format!("_HLS_msn={msn}")), Some((msn, None)));
        }
        match self.updates % ASIDE {
            1 => self.ask_packed(),
            2 => self.ask_delta(),
            3 => self.ask_unchanged(),
            4 => self.ask_hint(),
            5 => self.ask_old(),
            _ => {}
        }
    }

    /// Takes a playlist, and fetches what is new.
    #[track_caller]
    fn update(&mut self, path: &str, asked: Option<(u64, Option<usize>)>) {
        let sent = Instant::now();
        let answer = self.connection.get(path, &[]);
        let came = Instant::now();
        assert_eq!(answer.status, 200, "{path}: {} {}", answer.head, answer.text());
        assert_playlist_head(&answer);
        let list = parse(&answer.text(), path);
        if let Some((msn, part)) = asked
            && !list.ended
        {
            assert!(list.contains(msn, part), "§6.2.5.2: {path} was answered before there was that:\n{}", answer.text());
        }
        self.learn(sent, came, &list, &answer.text());
        self.fetch_new(&list);
    }

    #[track_caller]
    fn learn(&mut self, sent: Instant, came: Instant, list: &Media, text: &str) {
        let last = self.seen.watch.last().map(Media::coming);
        if let Err(fault) = self.seen.watch.push(sent, came, list) {
            panic!("{}: {fault}, behind {last:?}:\n{text}", self.seen.path);
        }
    }

    #[track_caller]
    fn fetch_new(&mut self, list: &Media) {
        let open = [(list.next(), list.open.clone())];
        let all: Vec<(u64, Segment)> = list.numbered().map(|(msn, segment)| (msn, segment.clone())).chain(open).collect();
        for (msn, segment) in all {
            self.fetch_init(&segment);
            self.fetch_parts(msn, &segment);
            if msn < list.next() && !self.seen.segments.contains_key(&msn) {
                self.fetch_segment(msn, &segment);
            }
        }
    }

    #[track_caller]
    fn fetch(&mut self, uri: &str) -> Vec<u8> {
        let path = resolve(&self.seen.path, uri);
        let answer = self.connection.get(&path, &[]);
        assert_eq!(answer.status, 200, "{path}: {} {}", answer.head, answer.text());
        let kinds: &[&str] = match uri {
            _ if uri.ends_with(".ts") => &["video/mp2t"],
            _ if uri.ends_with(".mp4") => &["video/mp4"],
            _ => &["video/iso.segment", "video/mp4"],
        };
        let kind = answer.header("Content-Type").unwrap_or_default();
        assert!(kinds.contains(&kind), "{path}: {kind}");
        let control = answer.header("Cache-Control").unwrap_or_default();
        assert!(control.contains("max-age") && !control.contains("no-"), "{path} never changes: {control:?}");
        assert!(answer.header("ETag").is_some() || control.contains("immutable"), "{path}: {}", answer.head);
        answer.body
    }

    #[track_caller]
    fn fetch_init(&mut self, segment: &Segment) {
        let Some(uri) = segment.map.clone().filter(|uri| !self.seen.inits.contains_key(uri)) else { return };
        let bytes = self.fetch(&uri);
        let init = fmp4::init(&bytes).unwrap_or_else(|fault| panic!("{uri}: {fault}"));
        self.seen.parsed.insert(uri.clone(), init);
        self.seen.inits.insert(uri, bytes);
    }

    #[track_caller]
    fn fetch_parts(&mut self, msn: u64, segment: &Segment) {
        for (at, part) in segment.parts.iter().enumerate() {
            if self.seen.parts.contains_key(&(msn, at)) {
                continue;
            }
            let bytes = self.fetch(&part.uri);
            let init = &self.seen.parsed[segment.map.as_ref().expect("parts have a map")];
            let fragments = fmp4::fragments(&bytes, init).unwrap_or_else(|fault| panic!("{}: {fault}", part.uri));
            let seconds = fmp4::seconds(&fragments, init);
            assert!((seconds - part.duration).abs() <= PART_SLACK, "{} holds {seconds} s: {part:?}", part.uri);
            let picture = fragments.iter().flat_map(|fragment| &fragment.runs).find(|run| init[&run.track].handler == "vide");
            let begins_with_key = picture.is_none_or(|run| run.key);
            assert_eq!(part.independent, begins_with_key, "{}: INDEPENDENT and what is in it", part.uri);
            if at == 0 && segment.discontinuity {
                self.seen.part_continuity.restart();
            }
            for fragment in &fragments {
                let pushed = self.seen.part_continuity.push(fragment, init);
                pushed.unwrap_or_else(|fault| panic!("{}: {fault}", part.uri));
            }
            self.seen.parts.insert((msn, at), bytes);
        }
    }

    #[track_caller]
    fn fetch_segment(&mut self, msn: u64, segment: &Segment) {
        let is_ts = segment.map.is_none();
        let bytes = self.fetch(&segment.uri);
        if is_ts {
            self.check_ts(segment, &bytes)
        } else {
            self.check_fmp4(segment, &bytes)
        }
        let parts: Vec<&Vec<u8>> = (0..).map_while(|at| self.seen.parts.get(&(msn, at))).collect();
        if !parts.is_empty() {
            let joined: Vec<u8> = parts.into_iter().flatten().copied().collect();
            assert!(joined == bytes, "{} is {} bytes, its parts are {}", segment.uri, bytes.len(), joined.len());
        }
        let path = resolve(&self.seen.path, &segment.uri);
        self.seen.segments.insert(msn, Fetched { segment: segment.clone(), bytes, path });
    }

    #[track_caller]
    fn check_fmp4(&mut self, segment: &Segment, bytes: &[u8]) {
        let init = &self.seen.parsed[segment.map.as_ref().unwrap()];
        let fail = |fault: Fault| -> ! { panic!("{}: {fault}", segment.uri) };
        let fragments = fmp4::fragments(bytes, init).unwrap_or_else(|fault| fail(fault));
        let seconds = fmp4::seconds(&fragments, init);
        if (seconds - segment.duration).abs() > PART_SLACK {
            fail(format!("it holds {seconds} s, EXTINF says {}", segment.duration));
        }
        let picture = fragments.iter().flat_map(|fragment| &fragment.runs).find(|run| init[&run.track].handler == "vide");
        // The one behind the first may have been begun in haste.
        if self.last().independent && picture.is_some_and(|run| !run.key) {
            fail("it begins with no keyframe".to_owned());
        }
        if segment.discontinuity {
            self.seen.continuity.restart();
        }
        for fragment in &fragments {
            self.seen.continuity.push(fragment, init).unwrap_or_else(|fault| fail(fault));
        }
    }

    #[track_caller]
    fn check_ts(&mut self, segment: &Segment, bytes: &[u8]) {
        if segment.discontinuity {
            self.seen.checker.restart();
        }
        let summary = self.seen.checker.segment(bytes).unwrap_or_else(|fault| panic!("{}: {fault}", segment.uri));
        if summary.pictures > 1 {
            let between = (summary.last + (1 << 33) - summary.first) % (1 << 33);
            let seconds = between as f64 / 90_000.0 * summary.pictures as f64 / (summary.pictures - 1) as f64;
            assert!((seconds - segment.duration).abs() < TS_SLACK, "{} holds {seconds} s: {segment:?}", segment.uri);
        }
    }

    /// The playlist as it is, packed and not.
    #[track_caller]
    fn ask_packed(&mut self) {
        let path = self.seen.path.clone();
        for _ in 0..ATTEMPTS {
            let packed = self.connection.get(&path, &["Accept-Encoding: gzip"]);
            let plain = self.connection.get(&path, &["Accept-Encoding: identity"]);
            assert_eq!((packed.status, plain.status), (200, 200), "{path}");
            let says = packed.header("Vary").unwrap_or_default().to_ascii_lowercase();
            assert!(says.contains("accept-encoding"), "{path} depends on what is accepted: {}", packed.head);
            if packed.header("Content-Encoding").is_none() && plain.body.len() < SMALL_BYTES {
                return;
            }
            assert_eq!((packed.header("Content-Encoding"), plain.header("Content-Encoding")), (Some("gzip"), None), "{path}");
            if gunzip(&packed.body) == plain.body {
                assert_ne!(packed.header("ETag"), plain.header("ETag"), "{path}: other bytes have another tag");
                self.seen.packed += 1;
                return;
            }
        }
        panic!("{path}: packed it is something else, {ATTEMPTS} times");
    }

    /// A delta update to the newest playlist that is known.
    #[track_caller]
    fn ask_delta(&mut self) {
        let known = self.last().clone();
        let Some(boundary) = known.control.skip_until else { return };
        let path = self.seen.path.clone();
        for _ in 0..ATTEMPTS {
            let delta = self.connection.get(&with_query(&path, "_HLS_skip=YES"), &[]);
            let full = self.connection.get(&path, &[]);
            let (delta, full) = (parse(&delta.text(), &path), parse(&full.text(), &path));
            if delta.coming() != full.coming() || delta.sequence != full.sequence || delta.ended != full.ended {
                continue;
            }
            super::rules::check(&delta).unwrap_or_else(|fault| panic!("{path}: {fault}"));
            let kept: f64 = delta.duration();
            assert!(delta.skipped == 0 || kept >= boundary - 1e-3, "§6.2.5.1: {kept} s are left, {boundary} s was promised");
            let skippable = full.duration() - full.segments.first().map_or(0.0, |segment| segment.duration) >= boundary;
            assert!(delta.skipped > 0 || !skippable, "§6.2.5.1: nothing is skipped of {} s", full.duration());
            self.seen.deltas += usize::from(delta.skipped > 0);
            let expanded = delta.expand(&known).unwrap_or_else(|fault| panic!("{path}: {fault}"));
            assert_eq!(expanded.said(), full.said(), "{path}: the delta stands for something else");
            return;
        }
        panic!("{path}: delta and whole were never of one moment");
    }

    #[track_caller]
    fn ask_unchanged(&mut self) {
        let path = self.seen.path.clone();
        for _ in 0..ATTEMPTS {
            let first = self.connection.get(&path, &[]);
            let tag = first.header("ETag").unwrap_or_else(|| panic!("{path}: {}", first.head)).to_owned();
            let second = self.connection.get(&path, &[&format!("If-None-Match: {tag}")]);
            match second.status {
                304 => {
                    assert!(second.body.is_empty() && second.header("ETag") == Some(&tag), "{path}: {}", second.head);
                    self.seen.unchanged += 1;
                    return;
                }
                status => assert_eq!((status, second.body == first.body), (200, false), "{path} was the same with the tag {tag}"),
            }
        }
        panic!("{path} changed {ATTEMPTS} times");
    }

    /// What is announced is asked for before it is there, comes when it is, and is what is listed then.
    #[track_caller]
    fn ask_hint(&mut self) {
        let Some(hint) = self.last().hint.clone() else { return };
        let path = resolve(&self.seen.path, &hint);
        let answer = self.connection.get(&path, &[]);
        // A run that ends takes it back.
        if answer.status == 404 || answer.status == 503 {
            return;
        }
        assert_eq!(answer.status, 200, "{path}: {}", answer.head);
        let (msn, at) = self.last().coming();
        let plain = self.seen.path.clone();
        self.update(&plain, None);
        let listed = self
            .last()
            .segments
            .iter()
            .chain([&self.last().open])
            .flat_map(|segment| &segment.parts)
            .any(|part| part.uri == hint);
        assert!(listed, "{hint} was there as {msn}.{at} and is not listed");
        let same = self.seen.parts.values().any(|bytes| *bytes == answer.body);
        assert!(same, "{hint} was something else before it was listed");
    }

    /// The oldest segment that must still be there though it is listed no more.
    #[track_caller]
    fn ask_old(&mut self) {
        let owed = self.seen.watch.owed(Instant::now());
        let Some(Fetched { bytes, path, .. }) = owed.and_then(|msn| self.seen.segments.get(&msn)) else { return };
        let answer = self.connection.get(path, &[]);
        assert_eq!((answer.status, answer.body == *bytes), (200, true), "§6.2.2: {path} has gone too early");
        self.seen.old += 1;
    }
}

/// A playlist of so few bytes needs no packing.
const SMALL_BYTES: usize = 512;
/// Another moment is seen by chance, not every time.
const ATTEMPTS: usize = 20;
/// How far what is written of a part or segment may be off its samples, in seconds.
const PART_SLACK: f64 = 0.0021;
/// Of TS, the last picture's duration is not known.
const TS_SLACK: f64 = 0.02;

#[track_caller]
fn parse(text: &str, path: &str) -> Media {
    Media::parse(text).unwrap_or_else(|fault| panic!("{path}: {fault}\n{text}"))
}

#[track_caller]
fn assert_playlist_head(answer: &Answer) {
    assert_eq!(answer.header("Content-Type"), Some("application/vnd.apple.mpegurl"), "{}", answer.head);
    assert!(answer.header("Cache-Control").is_some(), "{}", answer.head);
    assert_eq!(answer.header("Access-Control-Allow-Origin"), Some("*"), "{}", answer.head);
}

impl Watched {
    /// Runs of segments between discontinuities, as files that a demuxer reads.
    pub fn runs(&self) -> Vec<Vec<u8>> {
        let mut runs: Vec<Vec<u8>> = Vec::new();
        let mut last = None;
        for (msn, Fetched { segment, bytes, .. }) in &self.segments {
            let follows = last.replace(*msn).is_some_and(|last: u64| last + 1 == *msn);
            if !follows || segment.discontinuity {
                runs.push(segment.map.as_ref().map_or_else(Vec::new, |map| self.inits[map].clone()));
            }
            runs.last_mut().unwrap().extend_from_slice(bytes);
        }
        runs
    }
}
