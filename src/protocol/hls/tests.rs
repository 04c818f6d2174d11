//! What a shelf promises: streams of many kinds are cut, and every playlist is compared with the rules and with those before it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Reply, Settings, Shelf};
use crate::media::h264::AvcConfig;
use crate::media::{Codec, Frame, MediaEvent, MediaTime, Stamp, Track, TrackId, TrackShape, Tracks};
use crate::protocol::common::random::SplitMix64;
use crate::session::StreamKey;
use crate::session::fetch::{Body, Content, FetchRequest, Fetched, Lifetime, Packing, Place, Resource};

mod rules;

use rules::{Playlist, Watcher};

pub const SETTINGS: Settings =
    Settings { segment_ms: 2_000, part_ms: 200, segments: 7, idle_ms: 30_000, bytes_max: 64 * 1024 * 1024 };
const EPOCH_NANOS: u64 = 1_700_000_000_000_000_000;
const EPOCH_MS: u64 = EPOCH_NANOS / 1_000_000;
const VIDEO: TrackId = TrackId(0);
const AUDIO: TrackId = TrackId(1);

fn video_track(pps: u8) -> Track {
    let sps = Bytes::from_static(&[0x67, 0x42, 0xC0, 0x0D, 0xDA, 0x05, 0x07, 0xC4]);
    let pps = Bytes::from(vec![0x68, 0xCE, 0x3C, pps]);
    let shape = TrackShape::Video { width: 320, height: 240, frames_per_second: 25.0 };
    Track { id: VIDEO, codec: Codec::H264, config: AvcConfig::record(&[sps], &[pps]), shape }
}

fn audio_track() -> Track {
    let shape = TrackShape::Audio { sample_rate: 48_000, channels: 2 };
    Track { id: AUDIO, codec: Codec::Aac, config: Bytes::from_static(&[0x11, 0x90]), shape }
}

fn tracks(list: Vec<Track>) -> MediaEvent {
    MediaEvent::Tracks(Tracks::new(list, Bytes::new()))
}

fn frame(track: TrackId, at: i64, key: bool, segment: u32) -> Frame {
    let data = if track == VIDEO { vec![0, 0, 0, 2, if key { 0x65 } else { 0x41 }, 0x88] } else { vec![0x21, 0x10, 4] };
    let arrival = Stamp::from_millis(u64::try_from(at / 1000).unwrap());
    Frame { data: data.into(), arrival, dts: MediaTime::from_micros(at), cts: 0, segment, track, key }
}

fn request(resource: Resource) -> FetchRequest {
    FetchRequest {
        key: StreamKey::parse("live/a").unwrap(),
        resource,
        viewer: 1,
        session: "s".into(),
        is_expired: false,
        suffix: "".into(),
        gzip: false,
    }
}

fn playlist(packing: Packing) -> Resource {
    Resource::Playlist { packing, wanted: None, skip: false }
}

fn wanted(msn: u64, part: Option<u32>) -> Resource {
    Resource::Playlist { packing: Packing::Fmp4, wanted: Some(Place { msn, part }), skip: false }
}

fn text(body: &Body) -> String {
    String::from_utf8(body.parts.concat()).unwrap()
}

/// As many as are needed for what is put off.
const TURNS: usize = 3;

/// A shelf with a clock.
struct Bench {
    shelf: Shelf,
    now: Stamp,
}

impl Bench {
    fn new(settings: Settings) -> Bench {
        Bench { shelf: Shelf::new(settings, EPOCH_NANOS, Stamp::ZERO, 0, 0), now: Stamp::ZERO }
    }

    fn push(&mut self, event: &MediaEvent) {
        if let MediaEvent::Frame(frame) = event {
            self.now = self.now.max(frame.arrival);
        }
        self.shelf.push(event, self.now);
        self.shelf.work();
    }

    /// Asks again when what was put off is done.
    fn fetch(&mut self, resource: Resource) -> Reply {
        let reply = self.shelf.fetch(&request(resource), self.now);
        if reply != Reply::Wait {
            return reply;
        }
        (0..TURNS).for_each(|_| self.shelf.work());
        self.shelf.fetch(&request(resource), self.now)
    }

    fn body(&mut self, resource: Resource) -> Option<Body> {
        match self.fetch(resource) {
            Reply::Ready(Fetched::Body(body)) => Some(body),
            _ => None,
        }
    }

    fn text(&mut self, resource: Resource) -> Option<String> {
        self.body(resource).map(|body| text(&body))
    }

    /// Video with a keyframe every `gop` frames of 40 ms, and sound, from `from` to `to` milliseconds.
    fn play(&mut self, from: i64, to: i64, gop: i64, segment: u32) {
        for number in from / 40..to / 40 {
            let at = number * 40_000;
            self.push(&MediaEvent::Frame(frame(VIDEO, at, number % gop == 0, segment)));
            self.push(&MediaEvent::Frame(frame(AUDIO, at + 1_000, true, segment)));
            self.push(&MediaEvent::Frame(frame(AUDIO, at + 22_000, true, segment)));
        }
    }

    fn begin(settings: Settings) -> Bench {
        let mut bench = Bench::new(settings);
        bench.push(&tracks(vec![video_track(0x80), audio_track()]));
        bench
    }
}

// ---- what is written

#[test]
fn a_playlist_with_parts() {
    let mut bench = Bench::begin(SETTINGS);
    bench.play(0, 960, 25, 0);
    assert_eq!(bench.fetch(playlist(Packing::Fmp4)), Reply::Wait, "the first segment is not complete");
    assert_eq!(bench.fetch(Resource::Multivariant(Packing::Fmp4)), Reply::Wait);
    bench.play(960, 1_480, 25, 0);
    let expected = "\
#EXTM3U
#EXT-X-VERSION:9
#EXT-X-TARGETDURATION:2
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.606,CAN-SKIP-UNTIL=12.0,HOLD-BACK=6.0
#EXT-X-PART-INF:PART-TARGET=0.202
#EXT-X-MEDIA-SEQUENCE:1700000000
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MAP:URI=\"init-18bcfe56800-1700000000.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:20.000Z
#EXT-X-PART:DURATION=0.200,URI=\"part-18bcfe56800-1700000000-0.m4s\",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.200,URI=\"part-18bcfe56800-1700000000-1.m4s\"
#EXT-X-PART:DURATION=0.200,URI=\"part-18bcfe56800-1700000000-2.m4s\"
#EXT-X-PART:DURATION=0.200,URI=\"part-18bcfe56800-1700000000-3.m4s\"
#EXT-X-PART:DURATION=0.200,URI=\"part-18bcfe56800-1700000000-4.m4s\"
#EXTINF:1.000,
seg-18bcfe56800-1700000000.m4s
#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:21.000Z
#EXT-X-PART:DURATION=0.200,URI=\"part-18bcfe56800-1700000001-0.m4s\",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.200,URI=\"part-18bcfe56800-1700000001-1.m4s\"
#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"part-18bcfe56800-1700000001-2.m4s\"
";
    assert_eq!(bench.text(playlist(Packing::Fmp4)).unwrap(), expected);
    bench.push(&MediaEvent::End);
    let ended = bench.text(playlist(Packing::Fmp4)).unwrap();
    assert!(ended.ends_with("#EXTINF:0.480,\nseg-18bcfe56800-1700000001.m4s\n#EXT-X-ENDLIST\n"), "{ended}");
}

#[test]
fn a_playlist_without_parts_and_one_of_transport_streams() {
    for (settings, packing) in [(Settings { part_ms: 0, ..SETTINGS }, Packing::Fmp4), (SETTINGS, Packing::Ts)] {
        let mut bench = Bench::begin(settings);
        bench.play(0, 3_200, 25, 0);
        let (version, map, ending) = match packing {
            Packing::Fmp4 => (7, "#EXT-X-MAP:URI=\"init-18bcfe56800-1700000000.mp4\"\n", "m4s"),
            Packing::Ts => (3, "", "ts"),
        };
        let expected = format!(
            "#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:1700000000\n\
             #EXT-X-INDEPENDENT-SEGMENTS\n{map}#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:20.000Z\n#EXTINF:1.000,\nseg-18bcfe56800-1700000000.{ending}\n\
             #EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:21.000Z\n#EXTINF:2.000,\nseg-18bcfe56800-1700000001.{ending}\n"
        );
        assert_eq!(bench.text(playlist(packing)).unwrap(), expected);
    }
}

#[test]
fn a_multivariant_playlist_says_what_was_measured() {
    let mut bench = Bench::begin(SETTINGS);
    bench.play(0, 1_200, 25, 0);
    let text = bench.text(Resource::Multivariant(Packing::Fmp4)).unwrap();
    let segment = bench.body(Resource::Segment { epoch: EPOCH_MS, packing: Packing::Fmp4, msn: 1_700_000_000 }).unwrap();
    let rate = segment.len as u64 * 8;
    let expected = format!(
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={rate},\
         CODECS=\"avc1.42c00d,mp4a.40.2\",RESOLUTION=320x240,FRAME-RATE=25.000\nmedia.m3u8?session=s\n",
        rate * 110 / 100
    );
    assert_eq!(text, expected);
    let ts = bench.text(Resource::Multivariant(Packing::Ts)).unwrap();
    assert!(ts.contains("#EXT-X-VERSION:3\n") && ts.ends_with("\nmedia-ts.m3u8?session=s\n"), "{ts}");
}

#[test]
fn a_segment_that_was_cut_off_says_nothing_of_the_rate() {
    let rate_of = |bench: &mut Bench| {
        let text = bench.text(Resource::Multivariant(Packing::Fmp4)).unwrap();
        let rate = text.split_once(":BANDWIDTH=").unwrap().1.split(',').next().unwrap();
        rate.parse::<u64>().unwrap()
    };
    let mut bench = Bench::begin(SETTINGS);
    bench.play(0, 5_040, 25, 0);
    let before = rate_of(&mut bench);
    // The publisher goes after the keyframe, and one comes back.
    let mut key = frame(VIDEO, 5_040_000, true, 1);
    key.data = vec![0; 1_000].into();
    bench.push(&MediaEvent::Frame(key));
    bench.push(&MediaEvent::Frame(frame(VIDEO, 5_080_000, true, 2)));
    assert!(bench.text(playlist(Packing::Fmp4)).unwrap().contains("#EXTINF:0.040,"));
    assert!(rate_of(&mut bench) < before * 2, "not ten times as much");
}

#[test]
fn compressed_playlists_and_tokens() {
    let mut bench = Bench::begin(SETTINGS);
    bench.play(0, 1_200, 25, 0);
    let plain = bench.body(playlist(Packing::Fmp4)).unwrap();
    let now = bench.now;
    let mut gzip = FetchRequest { gzip: true, ..request(playlist(Packing::Fmp4)) };
    let mut fetch = |request: &FetchRequest| match bench.shelf.fetch(request, now) {
        Reply::Ready(Fetched::Body(body)) => body,
        other => panic!("{other:?}"),
    };
    let compressed = fetch(&gzip);
    assert!(compressed.gzip && compressed.len < plain.len && compressed.tag != plain.tag);
    let mut unpacked = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&compressed.parts[0][..]), &mut unpacked).unwrap();
    assert_eq!(unpacked, text(&plain));
    assert_eq!(fetch(&gzip).parts[0].as_ptr(), compressed.parts[0].as_ptr(), "written once");
    gzip.gzip = false;
    gzip.suffix = Arc::from("?token=x");
    let with_token = text(&fetch(&gzip));
    let addresses = with_token.matches(".m4s").count() + with_token.matches(".mp4").count();
    assert_eq!(with_token.matches("?token=x").count(), addresses);
    assert_eq!(with_token.replace("?token=x", ""), text(&plain));
}

// ---- who waits

#[test]
fn blocking_reloads() {
    let first = 1_700_000_000;
    let mut bench = Bench::begin(SETTINGS);
    bench.play(0, 1_480, 25, 0);
    // Complete: segment 0 with five parts, two parts of segment 1.
    let cases = [
        ("long there", wanted(first, None), true),
        ("a part of what is complete", wanted(first, Some(4)), true),
        ("a part that it has not is the next one's first", wanted(first, Some(5)), true),
        ("any such part", wanted(first, Some(99)), true),
        ("the last part", wanted(first + 1, Some(1)), true),
        ("the next part", wanted(first + 1, Some(2)), false),
        ("a later part", wanted(first + 1, Some(9)), false),
        ("the segment", wanted(first + 1, None), false),
        ("the next segment", wanted(first + 2, Some(0)), false),
        ("far in the past", wanted(first - 1000, None), true),
    ];
    for (name, resource, is_there) in cases {
        let reply = bench.fetch(resource);
        assert_eq!(matches!(&reply, Reply::Ready(Fetched::Body(_))), is_there, "{name}");
        assert_eq!(reply == Reply::Wait, !is_there, "{name}");
    }
    assert_eq!(bench.fetch(wanted(first + 3, None)), Reply::Ready(Fetched::TooFar));
    let body = bench.body(wanted(first, None)).unwrap();
    assert_eq!(body.lifetime, Lifetime::Seconds(12));
    bench.play(1_480, 1_680, 25, 0);
    assert!(bench.text(wanted(first + 1, Some(2))).is_some_and(|text| text.contains("part-18bcfe56800-1700000001-2.m4s")));
    bench.push(&MediaEvent::End);
    assert!(
        bench.text(wanted(first + 50, None)).is_some_and(|text| text.ends_with("#EXT-X-ENDLIST\n")),
        "nothing more will come"
    );
}

#[test]
fn who_waits_for_the_first_segment_waits_for_a_keyframe_that_is_about_to_come_alone() {
    // Milliseconds: from keyframe to keyframe, as it was and as it is; what is there when it is asked; when there is a playlist, with parts
    // and without, and how long the segment is in it.
    type Case = (&'static str, u64, i64, i64, [(i64, i64); 2]);
    let cases: [Case; 6] = [
        ("the keyframe comes soon", 1_000, 1_000, 600, [(1_040, 1_000); 2]),
        ("it comes late", 1_000, 1_000, 480, [(520, 480), (480, 440)]),
        ("much later", 10_000, 10_000, 5_000, [(5_000, 4_960); 2]),
        ("the GOP has just begun", 1_000, 1_000, 40, [(520, 480), (360, 320)]),
        ("the keyframe does not come when it should", 700, 1_600, 600, [(1_120, 1_080); 2]),
        ("nobody knows when one comes", 0, 1_600, 600, [(1_640, 1_600); 2]),
    ];
    for (name, known_gop_ms, gop_ms, there, expected) in cases {
        let seen = [200, 0].map(|part_ms| {
            let settings = Settings { part_ms, ..SETTINGS };
            let mut bench = Bench { shelf: Shelf::new(settings, EPOCH_NANOS, Stamp::ZERO, known_gop_ms, 0), now: Stamp::ZERO };
            bench.push(&tracks(vec![video_track(0x80), audio_track()]));
            bench.play(0, there, gop_ms / 40, 0);
            let mut now = there;
            let list = loop {
                if let Some(text) = bench.text(playlist(Packing::Fmp4)) {
                    break Playlist::parse(&text);
                }
                bench.play(now, now + 40, gop_ms / 40, 0);
                now += 40;
                assert!(now < 3_000, "{name}");
            };
            bench.play(now, now + gop_ms + 40, gop_ms / 40, 0);
            let later = Playlist::parse(&bench.text(playlist(Packing::Fmp4)).unwrap());
            let is_whole = list.segments[0].micros == gop_ms * 1_000;
            assert_eq!((later.independent, list.target), (is_whole, later.target), "{name}");
            (now, list.segments[0].micros / 1_000)
        });
        assert_eq!(seen, expected, "{name}");
    }
}

#[test]
fn pieces_that_are_there_will_be_or_never_were() {
    let first = 1_700_000_000;
    let mut bench = Bench::begin(SETTINGS);
    bench.play(0, 1_480, 25, 0);
    let part = |msn, part| Resource::Part { epoch: EPOCH_MS, msn, part };
    let segment = |packing, msn| Resource::Segment { epoch: EPOCH_MS, packing, msn };
    let cases = [
        ("a part", part(first, 3), Some(true)),
        ("of the segment that grows", part(first + 1, 1), Some(true)),
        ("the hinted one", part(first + 1, 2), None),
        ("behind the hinted one", part(first + 1, 3), Some(false)),
        ("a part that a segment has not", part(first, 5), Some(false)),
        ("a segment", segment(Packing::Fmp4, first), Some(true)),
        ("one that grows", segment(Packing::Fmp4, first + 1), Some(false)),
        ("as a transport stream", segment(Packing::Ts, first), Some(true)),
        ("before all", segment(Packing::Fmp4, 5), Some(false)),
        ("the init segment", Resource::Init { epoch: EPOCH_MS, number: first as u32 }, Some(true)),
        ("another", Resource::Init { epoch: EPOCH_MS, number: 7 }, Some(false)),
    ];
    for (name, resource, expected) in cases {
        let found = match bench.fetch(resource) {
            Reply::Wait => None,
            Reply::Ready(Fetched::Body(body)) => Some(body.lifetime == Lifetime::Immutable),
            Reply::Ready(Fetched::NotFound) => Some(false),
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(found, expected, "{name}");
    }
    bench.play(1_480, 3_200, 25, 0);
    let whole = bench.body(segment(Packing::Fmp4, first + 1)).unwrap();
    let parts: Vec<Bytes> = (0..10).flat_map(|n| bench.body(part(first + 1, n)).unwrap().parts.to_vec()).collect();
    assert_eq!(whole.parts.concat(), parts.concat(), "a segment is its parts");
    assert_eq!(whole.content, Content::Fmp4);
}

#[test]
fn frames_are_not_copied() {
    let mut bench = Bench::begin(SETTINGS);
    let key = frame(VIDEO, 0, true, 0);
    let memory = key.data.as_ptr();
    bench.push(&MediaEvent::Frame(key));
    bench.play(40, 1_200, 25, 0);
    let segment = bench.body(Resource::Segment { epoch: EPOCH_MS, packing: Packing::Fmp4, msn: 1_700_000_000 }).unwrap();
    assert!(segment.parts.iter().any(|piece| piece.as_ptr() == memory));
}

#[test]
fn transport_streams_are_written_while_somebody_asks() {
    let mut bench = Bench::begin(SETTINGS);
    bench.play(0, 7_000, 25, 0);
    let without = bench.shelf.bytes();
    let segment = Resource::Segment { epoch: EPOCH_MS, packing: Packing::Ts, msn: 1_700_000_001 };
    let body = bench.body(segment).unwrap();
    assert!(body.len.is_multiple_of(188) && body.parts[0][0] == 0x47 && body.content == Content::Ts);
    assert!(bench.shelf.bytes() > without);
    bench.now = Stamp::from_millis(7_000 + SETTINGS.idle_ms);
    bench.shelf.tick(bench.now);
    assert!(bench.shelf.bytes() <= without);
    assert!(bench.body(segment).is_none_or(|again| again.len == body.len), "and again if it is still there");
}

#[test]
fn transport_streams_are_written_one_segment_a_turn_and_not_from_the_beginning() {
    let mut bench = Bench::begin(SETTINGS);
    bench.play(0, 13_040, 25, 0);
    let ask = request(playlist(Packing::Ts));
    for turn in 1..TURNS {
        let before = bench.shelf.bytes();
        assert_eq!(bench.shelf.fetch(&ask, bench.now), Reply::Wait, "turn {turn}");
        let version = bench.shelf.version();
        bench.shelf.work();
        assert!(bench.shelf.bytes() > before && bench.shelf.version() > version, "turn {turn}");
    }
    let list = bench.text(playlist(Packing::Ts)).unwrap();
    let segments: Vec<&str> = list.lines().filter(|line| line.starts_with("seg-")).collect();
    assert_eq!(
        segments,
        ["seg-18bcfe56800-1700000004.ts", "seg-18bcfe56800-1700000005.ts", "seg-18bcfe56800-1700000006.ts"],
        "of seven"
    );
    assert!(list.contains("#EXT-X-MEDIA-SEQUENCE:1700000004\n"), "{list}");
    assert_eq!(
        bench.fetch(Resource::Segment { epoch: EPOCH_MS, packing: Packing::Ts, msn: 1_700_000_003 }),
        Reply::Ready(Fetched::NotFound)
    );
    bench.push(&MediaEvent::End);
    let ended = bench.text(playlist(Packing::Ts)).unwrap();
    assert!(ended.ends_with("seg-18bcfe56800-1700000007.ts\n#EXT-X-ENDLIST\n"), "{ended}");
    // Who asks for it only then gets it at once.
    let mut late = Bench::begin(SETTINGS);
    late.play(0, 13_040, 25, 0);
    late.push(&MediaEvent::End);
    assert_ne!(late.shelf.fetch(&ask, late.now), Reply::Wait);
}

#[test]
fn transport_streams_begin_with_a_key_frame() {
    // Whoever asks first between keyframes gets a short segment, and the next one begins without a keyframe.
    for (asked_ms, later_ms) in [(2_640, 5_600), (2_640, 9_000), (2_640, 13_000), (2_640, 30_000), (400, 4_900), (1_500, 4_300)] {
        let mut bench = Bench { shelf: Shelf::new(SETTINGS, EPOCH_NANOS, Stamp::ZERO, 2_000, 0), now: Stamp::ZERO };
        bench.push(&tracks(vec![video_track(0x80), audio_track()]));
        bench.play(2_000, 2_000 + asked_ms, 50, 0);
        let _ = bench.fetch(playlist(Packing::Fmp4));
        bench.play(2_000 + asked_ms, 2_000 + later_ms, 50, 0);
        let mut from = 2_000 + later_ms;
        while from < 60_000 {
            let list = bench.text(playlist(Packing::Ts)).unwrap();
            let name = list.lines().find(|line| line.starts_with("seg-")).unwrap();
            let msn = name.trim_end_matches(".ts").rsplit('-').next().unwrap().parse().unwrap();
            let body = bench.body(Resource::Segment { epoch: EPOCH_MS, packing: Packing::Ts, msn }).unwrap();
            let bytes = body.parts.concat();
            // The first PES packet of the picture: parameter sets stand in it.
            let first = bytes.chunks(188).find(|packet| packet.windows(4).any(|four| four == [0, 0, 1, 0xE0])).unwrap();
            let has_sets = first.windows(4).any(|four| four == [0, 0, 1, 0x68]);
            assert!(has_sets, "asked at {asked_ms} ms and {later_ms} ms, at {from} ms: {name} begins without\n{list}");
            bench.play(from, from + 1_000, 50, 0);
            from += 1_000;
        }
    }
}

#[test]
fn the_target_duration_covers_what_was_there_before_the_first_playlist() {
    let mut bench = Bench::begin(SETTINGS);
    bench.play(0, 9_000, 100, 0);
    let text = bench.text(playlist(Packing::Fmp4)).unwrap();
    // Four seconds each, and the third has begun.
    assert!(text.contains("#EXT-X-TARGETDURATION:4\n"), "{text}");
    bench.play(9_000, 30_000, 250, 0);
    let text = bench.text(playlist(Packing::Fmp4)).unwrap();
    assert!(text.contains("#EXT-X-TARGETDURATION:4\n"), "and never changes: {text}");
    assert!(!text.contains("#EXT-X-INDEPENDENT-SEGMENTS"), "a longer GOP is cut");
}

#[test]
fn the_memory_of_a_stream_is_bounded() {
    let settings = Settings { bytes_max: 200_000, ..SETTINGS };
    let mut bench = Bench::begin(settings);
    for number in 0..1_000 {
        let mut frame = frame(VIDEO, number * 40_000, number % 25 == 0, 0);
        frame.data = vec![0; 4_000].into();
        bench.push(&MediaEvent::Frame(frame));
        // Half for the segment that grows, and three at least are listed.
        assert!(bench.shelf.bytes() < 2 * settings.bytes_max + 250_000, "{}", bench.shelf.bytes());
    }
    assert!(bench.shelf.holdings().dropped > 0);
}

#[test]
fn the_same_tracks_may_be_called_otherwise() {
    let mut bench = Bench::begin(SETTINGS);
    bench.play(0, 3_000, 25, 0);
    let renamed = |track: Track, id| Track { id: TrackId(id), ..track };
    bench.push(&tracks(vec![renamed(video_track(0x80), 1), renamed(audio_track(), 2)]));
    for number in 75..150 {
        let video = frame(VIDEO, number * 40_000, number % 25 == 0, 1);
        bench.push(&MediaEvent::Frame(Frame { track: TrackId(1), ..video }));
        bench.push(&MediaEvent::Frame(Frame { track: TrackId(2), ..frame(AUDIO, number * 40_000 + 1_000, true, 1) }));
    }
    let list = bench.text(playlist(Packing::Fmp4)).unwrap();
    assert!(list.matches("#EXTINF").count() >= 3, "it goes on: {list}");
    assert_eq!((list.matches("#EXT-X-DISCONTINUITY\n").count(), list.matches("#EXT-X-MAP").count()), (1, 1), "{list}");
}

#[test]
fn tracks_that_change_before_anything_was_cut_with_them() {
    let mut bench = Bench::begin(SETTINGS);
    bench.play(0, 3_000, 25, 0);
    bench.push(&tracks(vec![video_track(0x81), audio_track()]));
    bench.push(&tracks(vec![video_track(0x82), audio_track()]));
    bench.play(3_000, 6_000, 25, 0);
    let list = bench.text(playlist(Packing::Fmp4)).unwrap();
    let name = list.rsplit_once("#EXT-X-MAP:URI=\"").unwrap().1.split('"').next().unwrap();
    let resource = crate::protocol::common::segment_names::parse(name).unwrap();
    let init = crate::format::mp4::init_segment(&Tracks::new(vec![video_track(0x82), audio_track()], Bytes::new()));
    assert_eq!(bench.body(resource).map(|body| body.parts[0].clone()), init);
}

#[test]
fn slow_video_and_one_that_stops_do_not_hold_the_sound_back() {
    let cases = [("stops", 0), ("slow", 1_000), ("slower", 2_000)];
    for (name, every_ms) in cases {
        let settings = Settings { bytes_max: 400_000, ..SETTINGS };
        let mut bench = Bench::begin(settings);
        for at in (0..20_000).step_by(20) {
            if at == 0 || (every_ms > 0 && at % every_ms == 0) {
                bench.push(&MediaEvent::Frame(frame(VIDEO, at * 1_000, true, 0)));
            }
            let sound = Frame { data: vec![0; 1_000].into(), ..frame(AUDIO, at * 1_000 + 500, true, 0) };
            bench.push(&MediaEvent::Frame(sound));
            assert!(bench.shelf.bytes() < 2 * settings.bytes_max + 250_000, "{name} at {at}: {}", bench.shelf.bytes());
        }
        assert!(bench.text(playlist(Packing::Fmp4)).is_some(), "{name}");
    }
}

#[test]
fn memory_that_is_wanted_before_the_first_cut() {
    let mut bench = Bench::begin(SETTINGS);
    bench.play(0, 200, 25, 0);
    assert!(bench.shelf.bytes() > 0);
    bench.shelf.shed();
    assert_eq!(bench.shelf.bytes(), 0);
    bench.play(1_000, 2_600, 25, 0);
    assert!(bench.text(playlist(Packing::Fmp4)).is_some(), "it begins anew at a keyframe");
}

#[test]
fn a_stream_that_comes_again_goes_on_counting() {
    let mut old = Bench::begin(SETTINGS);
    old.play(0, 8_200, 100, 0);
    for publisher in 1..12 {
        let from = 8_200 + i64::from(publisher) * 1_000;
        old.play(from, from + 1_000, 25, publisher);
    }
    old.push(&MediaEvent::End);
    let number =
        |list: &str, tag: &str| list.split_once(tag).map_or(0, |(_, rest)| rest.lines().next().unwrap().parse().unwrap());
    let list = old.text(playlist(Packing::Fmp4)).unwrap();
    let count = |list: &str| number(list, "DISCONTINUITY-SEQUENCE:") + list.matches("#EXT-X-DISCONTINUITY\n").count() as u64;
    let (target, before) = (number(&list, "TARGETDURATION:"), count(&list));
    assert!(target >= 4 && before == 11, "{list}");
    let mut new = Bench::new(SETTINGS);
    new.shelf.follow(&old.shelf);
    new.push(&tracks(vec![video_track(0x80), audio_track()]));
    new.play(0, 1_200, 25, 0);
    let list = new.text(playlist(Packing::Fmp4)).unwrap();
    assert_eq!((number(&list, "TARGETDURATION:"), count(&list)), (target, before + 1), "{list}");
    assert!(number(&list, "MEDIA-SEQUENCE:") >= old.shelf.next_msn());
}

#[test]
fn tags_belong_to_bytes() {
    let first: u64 = 1_700_000_000;
    let ts = Resource::Segment { epoch: EPOCH_MS, packing: Packing::Ts, msn: first + 8 };
    let pieces = [
        Resource::Init { epoch: EPOCH_MS, number: first as u32 },
        Resource::Segment { epoch: EPOCH_MS, packing: Packing::Fmp4, msn: first + 8 },
        ts,
    ];
    let of = |bench: &mut Bench| pieces.map(|piece| bench.body(piece).unwrap_or_else(|| panic!("{piece:?}")).tag);
    let mut bench = Bench::begin(SETTINGS);
    bench.play(0, 20_000, 25, 0);
    let tags = of(&mut bench);
    assert_eq!(of(&mut bench), tags);
    bench.now = bench.now.after_millis(SETTINGS.idle_ms);
    // What is listed stays.
    bench.shelf.tick(bench.now);
    assert_ne!(bench.body(ts).unwrap().tag, tags[2], "written anew");
    let mut other = Bench { shelf: Shelf::new(SETTINGS, EPOCH_NANOS + 1, Stamp::ZERO, 0, 0), now: Stamp::ZERO };
    other.push(&tracks(vec![video_track(0x80), audio_track()]));
    other.play(0, 20_000, 25, 0);
    assert!(of(&mut other).iter().zip(&tags).all(|(one, other)| one != other), "the same addresses in another process");
}

// ---- any stream

/// What a made-up stream is like.
#[derive(Debug)]
struct Kind {
    has_video: bool,
    has_audio: bool,
    step_micros: i64,
    /// Steps differ by so much at the most.
    uneven_micros: i64,
    gop: u64,
    part_ms: u64,
    audio_late_micros: i64,
    whole_millis: bool,
    events: bool,
}

impl Kind {
    fn of(random: &mut SplitMix64) -> Kind {
        let mut below = |limit: u64| random.next() % limit;
        let has_video = below(5) > 0;
        let step_micros = [16_667, 20_000, 33_367, 40_000, 41_708, 66_667, 200_000][below(7) as usize];
        Kind {
            has_video,
            has_audio: !has_video || below(4) > 0,
            step_micros,
            uneven_micros: if below(3) == 0 { step_micros * 4 / 5 } else { 0 },
            gop: [5, 12, 25, 50, 120, 300][below(6) as usize],
            part_ms: [0, 100, 200, 200, 500][below(5) as usize],
            audio_late_micros: [0, 0, 50_000, 300_000, -150_000][below(5) as usize],
            whole_millis: below(2) == 0,
            events: below(2) == 0,
        }
    }
}

/// All frames of a stream in the order in which they come, and what happens in between.
fn events_of(kind: &Kind, random: &mut SplitMix64) -> Vec<MediaEvent> {
    let mut below = |limit: u64| random.next() % limit;
    let list = |pps| {
        let video = kind.has_video.then(|| video_track(pps));
        let audio = kind.has_audio.then(audio_track);
        tracks(video.into_iter().chain(audio).collect())
    };
    // By arrival; the number keeps the order of what arrives together.
    let mut timed: BTreeMap<(i64, u32), MediaEvent> = BTreeMap::new();
    let mut number = 0;
    let mut add = |at: i64, event: MediaEvent| {
        timed.insert((at, number), event);
        number += 1;
    };
    add(0, list(0x80));
    let (mut at, mut sound_at, mut publisher, mut since_key, mut pps) = (200_000, 200_000, 0, u64::MAX, 0x80);
    while at < 45_000_000 {
        if kind.events && below(400) == 0 {
            match below(3) {
                0 => {
                    publisher += 1;
                    at += 40_000;
                    since_key = u64::MAX;
                }
                1 => {
                    pps ^= 1;
                    add(at, list(pps));
                    since_key = u64::MAX;
                }
                _ => at += 300_000 + below(8_000_000) as i64,
            }
            sound_at = sound_at.max(at);
        }
        let shown = if kind.whole_millis { at / 1000 * 1000 } else { at };
        if kind.has_video {
            let is_key = since_key >= kind.gop;
            since_key = if is_key { 1 } else { since_key + 1 };
            add(at, MediaEvent::Frame(frame(VIDEO, shown, is_key, publisher)));
        }
        at += kind.step_micros;
        if kind.uneven_micros > 0 {
            at += below(2 * kind.uneven_micros as u64) as i64 - kind.uneven_micros;
        }
        while kind.has_audio && sound_at < at {
            let shown = if kind.whole_millis { sound_at / 1000 * 1000 } else { sound_at };
            add((sound_at + kind.audio_late_micros).max(0), MediaEvent::Frame(frame(AUDIO, shown, true, publisher)));
            sound_at += 21_333;
        }
    }
    timed.into_values().collect()
}

#[test]
fn every_rule_holds_for_any_stream() {
    let seeds = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(40);
    for seed in 0..seeds {
        let mut random = SplitMix64::new(seed);
        let kind = Kind::of(&mut random);
        let events = events_of(&kind, &mut random);
        let settings = Settings { part_ms: kind.part_ms, ..SETTINGS };
        let gop_ms = if random.next().is_multiple_of(2) { kind.gop * kind.step_micros as u64 / 1000 } else { 0 };
        let mut bench = Bench { shelf: Shelf::new(settings, EPOCH_NANOS, Stamp::ZERO, gop_ms, 0), now: Stamp::ZERO };
        // Some have been cut for a while when the first viewer comes.
        let first_look = Stamp::from_millis(random.next() % 10_000);
        let mut watcher = Watcher::new(kind.events || (kind.uneven_micros > 0 && kind.step_micros > 60_000));
        for event in events {
            let version = bench.shelf.version();
            bench.push(&event);
            if bench.now >= first_look && bench.shelf.version() != version {
                watch(&mut bench, &mut watcher, seed);
            }
        }
        bench.push(&MediaEvent::End);
        watch(&mut bench, &mut watcher, seed);
        let (last, name) = (watcher.last(), format!("seed {seed}, {kind:?}"));
        assert!(last.is_some_and(|last| last.ended), "{name}");
        assert!(watcher.segments_seen() >= 1, "{name}: {}", watcher.segments_seen());
    }
}

/// Looks at all playlists, and that what they list is there.
fn watch(bench: &mut Bench, watcher: &mut Watcher, seed: u64) {
    let Some(text) = bench.text(playlist(Packing::Fmp4)) else { return };
    let whole = Playlist::parse(&text);
    if let Err(fault) = watcher.look(&whole, bench.now) {
        panic!("seed {seed}: {fault}\n{text}");
    }
    let skip = Resource::Playlist { packing: Packing::Fmp4, wanted: None, skip: true };
    let delta = bench.text(skip).unwrap();
    assert_eq!(whole.without_skipped(&Playlist::parse(&delta)), Ok(()), "seed {seed}\n{text}\n{delta}");
    for name in whole.names().chain(watcher.still_fetchable(bench.now)) {
        let resource = crate::protocol::common::segment_names::parse(&name).unwrap();
        assert!(bench.body(resource).is_some(), "seed {seed}: {name} is not there\n{text}");
    }
    if let Some(hint) = &whole.hint {
        let resource = crate::protocol::common::segment_names::parse(hint).unwrap();
        assert_eq!(bench.fetch(resource), Reply::Wait, "seed {seed}: {hint}");
    }
}
