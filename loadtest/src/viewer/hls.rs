//! A player of HLS on one connection: asks for a playlist, fetches what is new in it, asks again.
//!
//! With parts (`ll-hls`) it asks for what comes next, which the server answers when it is there, and begins at the newest keyframe; else it
//! begins three segments from the end and asks twice per target duration until something is new, as RFC 8216 §6.3.4 has it.

use std::collections::VecDeque;
use std::io;

use super::playlist::Playlist;
use crate::args::{LoadArgs, Play};
use crate::poll::NANOS_PER_SECOND;
use crate::scan::fmp4::Fmp4Scanner;
use crate::scan::response::{Event, ResponseScanner};
use crate::scan::ts::TsScanner;
use crate::scan::{Broken, Found};

/// A playlist that cannot be had is asked for again after so long.
const RETRY_NANOS: u64 = NANOS_PER_SECOND / 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Multivariant,
    Playlist,
    Init,
    Media,
}

enum Scanner {
    Fmp4(Box<Fmp4Scanner>),
    Ts(Box<TsScanner>),
}

pub struct HlsViewer {
    host: String,
    low: bool,
    /// Of the playlist.
    path: String,
    asked: Asked,
    status: u16,
    responses: ResponseScanner,
    scanner: Scanner,
    text: Vec<u8>,
    /// What is to be fetched.
    queue: VecDeque<(Asked, String)>,
    map: Option<String>,
    /// The segment and the part that come next, once it has begun.
    next: Option<(u64, usize)>,
    skips: bool,
    /// When the playlist may be asked for again.
    poll_at: u64,
    /// When that is done; `None`: a request is under way.
    turn: Option<u64>,
    pub requests: u64,
    pub failed: u64,
}

impl HlsViewer {
    pub fn new(args: &LoadArgs, publisher: u16, hello: &mut Vec<u8>) -> HlsViewer {
        let (app, name) = args.stream(publisher.into());
        let is_ts = args.play == Play::HlsTs;
        let mut viewer = HlsViewer {
            host: args.http.address.clone(),
            low: args.play == Play::LlHls,
            path: format!("/{app}/{name}/{}", if is_ts { "ts.m3u8" } else { "index.m3u8" }),
            asked: Asked::Multivariant,
            status: 0,
            responses: ResponseScanner::default(),
            scanner: if is_ts { Scanner::Ts(Box::default()) } else { Scanner::Fmp4(Box::default()) },
            text: Vec::new(),
            queue: VecDeque::new(),
            map: None,
            next: None,
            skips: false,
            poll_at: 0,
            turn: None,
            requests: 0,
            failed: 0,
        };
        viewer.ask(Asked::Multivariant, &viewer.path.clone(), hello);
        viewer
    }

    pub fn turn(&self) -> Option<u64> {
        self.turn
    }

    /// Its turn has come.
    pub fn take_turn(&mut self, now: u64, reply: &mut Vec<u8>) {
        if self.turn.take_if(|turn| *turn <= now).is_some() {
            self.ask_playlist(reply);
        }
    }

    pub fn feed(&mut self, now: u64, bytes: &[u8], found: &mut impl FnMut(Found<'_>), reply: &mut Vec<u8>) -> io::Result<()> {
        let mut responses = std::mem::take(&mut self.responses);
        let fed = responses.feed(bytes, &mut |event| self.take(now, event, found, reply));
        self.responses = responses;
        Ok(fed?)
    }

    fn take(&mut self, now: u64, event: Event<'_>, found: &mut impl FnMut(Found<'_>), reply: &mut Vec<u8>) -> Result<(), Broken> {
        match event {
            Event::Head(status) => {
                self.status = status;
                self.failed += u64::from(status != 200);
                self.text.clear();
            }
            Event::Body(_) if self.status != 200 => {}
            Event::Body(bytes) => match (&mut self.scanner, self.asked) {
                (_, Asked::Multivariant | Asked::Playlist) => self.text.extend_from_slice(bytes),
                (Scanner::Fmp4(scanner), _) => scanner.feed(bytes, found)?,
                (Scanner::Ts(scanner), _) => scanner.feed(bytes, found)?,
            },
            Event::End => {
                if let (Scanner::Ts(scanner), Asked::Media) = (&mut self.scanner, self.asked) {
                    scanner.end(found);
                }
                self.answered(now, reply);
            }
        }
        Ok(())
    }

    fn answered(&mut self, now: u64, reply: &mut Vec<u8>) {
        match self.asked {
            Asked::Multivariant | Asked::Playlist if self.status != 200 => {
                self.turn = Some(now + RETRY_NANOS);
                return;
            }
            Asked::Multivariant => {
                let text = String::from_utf8_lossy(&self.text);
                if let Some(variant) = Playlist::parse(&text).segments.first() {
                    self.path = beside(&self.path, &variant.uri);
                }
                self.asked = Asked::Playlist;
                return self.ask_playlist(reply);
            }
            Asked::Playlist => {
                let list = Playlist::parse(&String::from_utf8_lossy(&self.text));
                let before = self.next;
                self.plan(&list);
                let is_new = self.next != before;
                let target = list.target.max(1) * NANOS_PER_SECOND;
                // Where the server does not wait, it is not asked without a pause.
                self.poll_at = match (is_new, self.low && list.has_parts) {
                    (true, true) => now,
                    (true, false) => now + target,
                    (false, _) => now + target / 2,
                };
            }
            Asked::Init | Asked::Media => {}
        }
        match self.queue.pop_front() {
            Some((what, path)) => self.ask(what, &path, reply),
            None if self.poll_at <= now => self.ask_playlist(reply),
            None => self.turn = Some(self.poll_at),
        }
    }

    /// What is new goes into the queue.
    fn plan(&mut self, list: &Playlist) {
        self.skips = list.skips;
        let low = self.low && list.has_parts;
        let (mut msn, mut part) = self.next.unwrap_or_else(|| list.start(low));
        for (number, segment) in list.from(msn.max(list.sequence)) {
            let is_open = number == list.next();
            if number != msn {
                (msn, part) = (number, 0);
            }
            let new: Vec<&String> = match low {
                true => segment.parts.iter().skip(part).map(|part| &part.uri).collect(),
                false if is_open => Vec::new(),
                false => vec![&segment.uri],
            };
            if !new.is_empty() && segment.map.is_some() && segment.map != self.map {
                self.map.clone_from(&segment.map);
                self.queue.extend(self.map.iter().map(|uri| (Asked::Init, beside(&self.path, uri))));
            }
            part += if low { new.len() } else { 0 };
            self.queue.extend(new.into_iter().map(|uri| (Asked::Media, beside(&self.path, uri))));
            if !is_open {
                (msn, part) = (number + 1, 0);
            }
        }
        self.next = Some((msn, part));
    }

    fn ask_playlist(&mut self, reply: &mut Vec<u8>) {
        self.turn = None;
        if self.asked == Asked::Multivariant {
            return self.ask(Asked::Multivariant, &self.path.clone(), reply);
        }
        let mut path = self.path.clone();
        let mut add = |name: &str, value: &str| {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(name);
            path.push_str(value);
        };
        if let (true, Some((msn, part))) = (self.low, self.next) {
            add("_HLS_msn=", &msn.to_string());
            add("_HLS_part=", &part.to_string());
        }
        if self.skips {
            add("_HLS_skip=", "YES");
        }
        self.ask(Asked::Playlist, &path, reply);
    }

    fn ask(&mut self, what: Asked, path: &str, reply: &mut Vec<u8>) {
        (self.asked, self.requests) = (what, self.requests + 1);
        // Players unpack playlists.
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: shardcast-loadtest\r\n\r\n", self.host);
        reply.extend_from_slice(request.as_bytes());
    }
}

/// The path of what stands beside a playlist.
fn beside(playlist: &str, uri: &str) -> String {
    if uri.starts_with('/') {
        return uri.to_owned();
    }
    let folder = playlist.split('?').next().unwrap_or_default().rsplit_once('/').map_or("", |(folder, _)| folder);
    format!("{folder}/{uri}")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Args;

    /// Answers requests as long as there are any; what was asked for.
    fn talk(viewer: &mut HlsViewer, mut out: Vec<u8>, now: u64, answer: impl Fn(&str) -> Option<(u16, String)>) -> Vec<String> {
        let mut asked = Vec::new();
        while !out.is_empty() {
            let request = String::from_utf8(std::mem::take(&mut out)).unwrap();
            let path = request.split(' ').nth(1).unwrap().to_owned();
            let answer = answer(&path);
            asked.push(path);
            let Some((status, body)) = answer else { break };
            let response = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            viewer.feed(now, response.as_bytes(), &mut |_| {}, &mut out).unwrap();
        }
        asked
    }

    fn viewer(play: &str) -> (HlsViewer, Vec<u8>) {
        let args = Args::try_parse_from(["loadtest", "--play", play]).unwrap().load;
        let mut hello = Vec::new();
        (HlsViewer::new(&args, 0, &mut hello), hello)
    }

    fn list(path: &str) -> Option<(u16, String)> {
        let segments = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-PART-INF:PART-TARGET=1\n#EXT-X-MEDIA-SEQUENCE:5\n\
            #EXT-X-MAP:URI=\"i.mp4\"\n#EXTINF:2,\n5.m4s\n#EXTINF:2,\n6.m4s\n#EXTINF:2,\n7.m4s\n#EXTINF:2,\n8.m4s\n\
            #EXT-X-PART:DURATION=1,URI=\"9.0\",INDEPENDENT=YES\n";
        let text = match path {
            "/live/load/index.m3u8" => "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nmedia.m3u8?session=7\n",
            "/live/load/media.m3u8?session=7" => segments,
            path if path.contains("_HLS_msn") => return None,
            _ => "",
        };
        Some((200, text.to_owned()))
    }

    #[test]
    fn it_begins_three_segments_from_the_end_and_asks_in_its_turn() {
        let (mut viewer, hello) = viewer("hls");
        let asked = talk(&mut viewer, hello, 10, list);
        let folder = |names: &[&str]| names.iter().map(|name| format!("/live/load/{name}")).collect::<Vec<_>>();
        assert_eq!(asked, folder(&["index.m3u8", "media.m3u8?session=7", "i.mp4", "6.m4s", "7.m4s", "8.m4s"]));
        assert_eq!((viewer.turn(), viewer.next), (Some(10 + 2 * NANOS_PER_SECOND), Some((9, 0))));
        let mut reply = Vec::new();
        viewer.take_turn(20, &mut reply);
        assert!(reply.is_empty(), "not yet");
        viewer.take_turn(3 * NANOS_PER_SECOND, &mut reply);
        assert_eq!(talk(&mut viewer, reply, 3 * NANOS_PER_SECOND, list), folder(&["media.m3u8?session=7"]));
        assert_eq!(viewer.turn(), Some(4 * NANOS_PER_SECOND), "nothing was new");
    }

    #[test]
    fn with_parts_it_asks_for_what_comes_next() {
        let (mut viewer, hello) = viewer("ll-hls");
        let asked = talk(&mut viewer, hello, 10, list);
        assert_eq!(asked[2..4], ["/live/load/i.mp4", "/live/load/9.0"]);
        assert_eq!(asked[4], "/live/load/media.m3u8?session=7&_HLS_msn=9&_HLS_part=1");
        assert_eq!((viewer.turn(), viewer.requests, viewer.failed), (None, 5, 0));
    }

    #[test]
    fn what_cannot_be_had_is_asked_for_again() {
        let (mut viewer, hello) = viewer("hls-ts");
        assert_eq!(talk(&mut viewer, hello, 10, |_| Some((503, String::new()))), ["/live/load/ts.m3u8"]);
        assert_eq!((viewer.turn(), viewer.failed), (Some(10 + RETRY_NANOS), 1));
        let mut reply = Vec::new();
        viewer.take_turn(u64::MAX, &mut reply);
        assert!(reply.starts_with(b"GET /live/load/ts.m3u8 "));
    }
}
