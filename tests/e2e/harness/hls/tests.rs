//! Every rule has an example that breaks it; what keeps all is accepted.

use std::time::{Duration, Instant};

use super::fmp4::{self, Continuity};
use super::playlist::{Media, Multivariant};
use super::rules;
use super::ts::Checker;
use super::watch::Watch;

/// A live playlist of segments of 2 s with four parts, from number `from` on, with `open` parts of the unfinished one. Segment 103 and what
/// follows is behind a discontinuity.
fn text(from: u64, to: u64, open: usize) -> String {
    let mut text = format!(
        "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n#EXT-X-INDEPENDENT-SEGMENTS\n\
         #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.6,HOLD-BACK=6.0,CAN-SKIP-UNTIL=12.0\n\
         #EXT-X-PART-INF:PART-TARGET=0.5\n#EXT-X-MEDIA-SEQUENCE:{from}\n#EXT-X-DISCONTINUITY-SEQUENCE:{}\n",
        u64::from(from > 103)
    );
    let map = |msn| if msn < 103 { "init-0.mp4" } else { "init-1.mp4" };
    for msn in from..=to {
        let begins = msn == from || msn == 103;
        if msn == 103 {
            text += "#EXT-X-DISCONTINUITY\n";
        }
        if begins {
            text += &format!("#EXT-X-MAP:URI=\"{}\"\n", map(msn));
        }
        text += &format!("#EXT-X-PROGRAM-DATE-TIME:2026-11-27T21:{:02}:{:02}.000Z\n", msn * 2 / 60, msn * 2 % 60);
        for part in 0..if msn + 3 >= to { 4 } else { 0 } {
            // The last of a segment may be shorter.
            if msn == to && part >= open {
                break;
            }
            let independent = if part == 0 { ",INDEPENDENT=YES" } else { "" };
            text += &format!("#EXT-X-PART:DURATION=0.50000,URI=\"part-{msn}-{part}.m4s\"{independent}\n");
        }
        if msn < to {
            text += &format!("#EXTINF:2.00000,\nseg-{msn}.m4s\n");
        }
    }
    text + &format!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"part-{to}-{open}.m4s\"\n")
}

fn fault_of(text: &str) -> Option<String> {
    Media::parse(text).and_then(|list| rules::check(&list)).err()
}

#[test]
fn a_playlist_that_keeps_all_rules_is_accepted() {
    for text in [text(100, 108, 2), text(103, 111, 0), text(104, 112, 3).replace('\n', "\r\n")] {
        assert_eq!(fault_of(&text), None, "{text}");
    }
    let ts = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:7\n# a comment\n\
              #EXT-X-PROGRAM-DATE-TIME:1970-01-02T00:00:00.250Z\n#EXTINF:2.4,\nseg-7.ts?a=b\n";
    assert_eq!(fault_of(ts), None);
    assert_eq!(Media::parse(ts).unwrap().segments[0].date, Some(86_400.25));
    assert_eq!(Media::parse(&text(100, 108, 2)).unwrap().coming(), (108, 2));
}

#[test]
fn every_rule_of_one_playlist_is_held() {
    let cases: &[(&str, &str, &str, &str)] = &[
        ("the first line", "#EXTM3U\n", "\n#EXTM3U\n", "EXTM3U"),
        ("a byte order mark", "#EXTM3U", "\u{feff}#EXTM3U", "EXTM3U"),
        ("a control character", "seg-105", "seg\t105", "§4.1"),
        ("no version", "#EXT-X-VERSION:9\n", "", "no #EXT-X-VERSION"),
        ("two versions", "#EXT-X-VERSION:9\n", "#EXT-X-VERSION:9\n#EXT-X-VERSION:9\n", "a second"),
        ("no target", "#EXT-X-TARGETDURATION:2\n", "", "no #EXT-X-TARGETDURATION"),
        ("no sequence", "#EXT-X-MEDIA-SEQUENCE:100\n", "", "no #EXT-X-MEDIA-SEQUENCE"),
        ("a target with a fraction", "TARGETDURATION:2", "TARGETDURATION:2.0", "decimal integer"),
        ("a version too low for the map", "VERSION:9", "VERSION:5", "§8"),
        ("a version too low for fractions", "VERSION:9", "VERSION:2", "§8"),
        ("an unknown tag", "#EXTINF:2.00000,\nseg-104", "#EXT-X-KEY:METHOD=NONE\n#EXTINF:2.00000,\nseg-104", "unknown"),
        ("an unknown attribute", "PART-TARGET=0.5", "PART-TARGET=0.5,X=1", "unknown attribute"),
        ("an attribute twice", "PART-TARGET=0.5", "PART-TARGET=0.5,PART-TARGET=0.5", "twice"),
        ("an attribute without quotes", "URI=\"init-0.mp4\"", "URI=init-0.mp4", "quoted"),
        ("a blank between attributes", "YES,PART-HOLD-BACK", "YES, PART-HOLD-BACK", "not called"),
        (
            "the sequence behind a segment",
            "#EXTINF:2.00000,\nseg-104.m4s\n",
            "#EXTINF:2.00000,\nseg-104.m4s\n#EXT-X-DISCONTINUITY-SEQUENCE:1\n",
            "a second",
        ),
        ("EXTINF without a comma", "#EXTINF:2.00000,\nseg-104", "#EXTINF:2.00000\nseg-104", "comma"),
        ("a segment without EXTINF", "#EXTINF:2.00000,\nseg-104", "seg-104", "without EXTINF"),
        ("EXTINF without a segment", "#EXT-X-PRELOAD-HINT", "#EXTINF:0.5,\n#EXT-X-PRELOAD-HINT", "EXTINF without a segment"),
        ("a negative duration", "#EXTINF:2.00000,\nseg-104", "#EXTINF:-2.00000,\nseg-104", "decimal number"),
        ("a segment above the target", "#EXTINF:2.00000,\nseg-102", "#EXTINF:2.50000,\nseg-102", "§4.4.3.1"),
        ("no map", "#EXT-X-MAP:URI=\"init-0.mp4\"\n", "", "has a map"),
        ("a map for TS", "seg-104.m4s", "seg-104.ts", "TS has none"),
        ("another map without a discontinuity", "#EXT-X-DISCONTINUITY\n", "", "another map"),
        (
            "a map within a segment",
            "#EXT-X-PART:DURATION=0.50000,URI=\"part-107-1",
            "#EXT-X-MAP:URI=\"x\"\n#EXT-X-PART:DURATION=0.50000,URI=\"part-107-1",
            "within",
        ),
        ("two discontinuities", "#EXT-X-DISCONTINUITY\n", "#EXT-X-DISCONTINUITY\n#EXT-X-DISCONTINUITY\n", "second discontinuity"),
        ("a date without milliseconds", "21:03:24.000Z", "21:03:24Z", "date with milliseconds"),
        ("no date at the beginning", "#EXT-X-PROGRAM-DATE-TIME:2026-11-27T21:03:20.000Z\n", "", "without a date"),
        ("no date behind a discontinuity", "#EXT-X-PROGRAM-DATE-TIME:2026-11-27T21:03:26.000Z\n", "", "without a date"),
        ("a date that is off", "21:03:32.000Z", "21:03:32.100Z", "0.100 s off"),
        ("parts without their target", "#EXT-X-PART-INF:PART-TARGET=0.5\n", "", "EXT-X-PART-INF"),
        ("a part above its target", "0.50000,URI=\"part-107-1", "0.50100,URI=\"part-107-1", "of 0.5 s"),
        ("a part that is too short", "0.50000,URI=\"part-108-1", "0.40000,URI=\"part-108-1", "85 %"),
        ("parts that are not their segment", "#EXTINF:2.00000,\nseg-107", "#EXTINF:1.99000,\nseg-107", "parts of seg-107"),
        ("a first part that is not independent", "part-107-0.m4s\",INDEPENDENT=YES", "part-107-0.m4s\"", "not independent"),
        ("INDEPENDENT=NO", "part-107-0.m4s\",INDEPENDENT=YES", "part-107-0.m4s\",INDEPENDENT=NO", "YES or not"),
        ("no hold back of parts", "PART-HOLD-BACK=1.6,", "", "without PART-HOLD-BACK"),
        ("a hold back below two parts", "PART-HOLD-BACK=1.6", "PART-HOLD-BACK=0.9", "twice"),
        ("a hold back below three parts", "PART-HOLD-BACK=1.6", "PART-HOLD-BACK=1.4", "three times"),
        ("no blocking reload", "CAN-BLOCK-RELOAD=YES,", "", "CAN-BLOCK-RELOAD"),
        ("a hold back below three targets", ",HOLD-BACK=6.0", ",HOLD-BACK=5.9", "HOLD-BACK 5.9"),
        ("a skip boundary below six targets", "CAN-SKIP-UNTIL=12.0", "CAN-SKIP-UNTIL=11.9", "CAN-SKIP-UNTIL"),
        ("no hint", "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"part-108-2.m4s\"\n", "", "the hint"),
        ("a hint of another type", "TYPE=PART", "TYPE=MAP", "another type"),
        ("a hint for what is there", "URI=\"part-108-2.m4s\"\n", "URI=\"part-108-1.m4s\"\n", "announced and there"),
        ("a hint behind the end", "URI=\"part-108-2.m4s\"\n", "URI=\"part-108-2.m4s\"\n#EXT-X-ENDLIST\n", "the hint"),
        ("a segment twice", "seg-105.m4s", "seg-104.m4s", "listed twice"),
        ("a part twice", "part-107-2.m4s", "part-107-1.m4s", "listed twice"),
    ];
    let good = text(100, 108, 2);
    for (name, from, to, expected) in cases {
        assert_eq!(good.matches(from).count(), 1, "{name}: {from:?} in\n{good}");
        let fault = fault_of(&good.replace(from, to));
        assert!(fault.as_ref().is_some_and(|fault| fault.contains(expected)), "{name}: {fault:?}");
    }
    let without_parts = |msn: u64| -> String {
        let prefix = format!("URI=\"part-{msn}-");
        good.lines().filter(|line| !line.contains(&prefix)).map(|line| format!("{line}\n")).collect()
    };
    assert!(fault_of(&without_parts(106)).unwrap().contains("has no parts"));
    let old = good
        .replace("#EXTINF:2.00000,\nseg-101", "#EXT-X-PART:DURATION=2,URI=\"old\",INDEPENDENT=YES\n#EXTINF:2.00000,\nseg-101");
    assert!(
        fault_of(&old.replace("PART-TARGET=0.5", "PART-TARGET=2").replace("PART-HOLD-BACK=1.6", "PART-HOLD-BACK=6")).is_some()
    );
}

fn never(_: Instant, _: Instant) -> Duration {
    Duration::ZERO
}

fn watch(texts: &[String]) -> Result<Watch, String> {
    watch_from(Instant::now(), texts)
}

fn watch_from(began: Instant, texts: &[String]) -> Result<Watch, String> {
    let mut watch = Watch::default();
    for (at, text) in texts.iter().enumerate() {
        let came = began + Duration::from_millis(500) * at as u32;
        watch.push(came, came, &Media::parse(text)?)?;
    }
    Ok(watch)
}

#[test]
fn a_playlist_that_moves_on_is_accepted() {
    let texts = [
        text(100, 108, 1),
        text(100, 108, 2),
        text(100, 108, 2),
        text(101, 109, 0),
        text(103, 111, 1),
        text(104, 112, 0),
        text(104, 112, 0).replace("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"part-112-0.m4s\"\n", "#EXT-X-ENDLIST\n"),
    ];
    let began = Instant::now();
    let watch = watch_from(began, &texts).unwrap();
    assert_eq!((watch.discontinuities, watch.maps.len(), watch.segments().count()), (1, 2, 12));
    assert_eq!(watch.longest_silence, Duration::from_secs(1));
    watch.assert_lively(never).unwrap();
    // The first went after 1.5 s; it and the longest list, of 17 s, last 19 s, and a player learns of it late.
    assert_eq!(watch.owed(began + Duration::from_millis(17_400)), Some(100));
    assert_eq!(watch.owed(began + Duration::from_millis(17_600)), Some(101));
}

#[test]
fn every_rule_of_a_live_playlist_is_held() {
    /// What is wrong, of which list, what stands there instead of what, and what is said.
    type Case = (&'static str, (u64, u64, usize), &'static str, &'static str, &'static str);
    let cases: &[Case] = &[
        ("another target", (100, 108, 3), "TARGETDURATION:2", "TARGETDURATION:1", "§4.4.3.1"),
        ("another part target", (100, 108, 3), "PART-TARGET=0.5", "PART-TARGET=0.50001", "§4.4.3.1"),
        ("other promises", (100, 108, 3), "CAN-SKIP-UNTIL=12.0", "CAN-SKIP-UNTIL=14.0", "§4.4.3.1"),
        ("a sequence that goes back", (99, 108, 3), "", "", "goes from 100 to 99"),
        ("an end that goes back", (100, 107, 3), "", "", "the list ended before"),
        ("a part that is gone again", (100, 108, 1), "", "", "the list ended before"),
        ("another URI", (100, 108, 3), "seg-105.m4s", "seg-x.m4s", "segment 105"),
        ("another duration", (100, 108, 3), "#EXTINF:2.00000,\nseg-101", "#EXTINF:2.00100,\nseg-101", "segment 101"),
        ("another map", (100, 108, 3), "init-1.mp4", "init-2.mp4", "segment 103"),
        ("another date", (100, 108, 3), "21:03:32.000Z", "21:03:32.010Z", "the date of segment 106"),
        ("a number too much", (102, 108, 3), "MEDIA-SEQUENCE:102", "MEDIA-SEQUENCE:103", "segment 103"),
        (
            "a discontinuity that was not counted",
            (104, 112, 3),
            "DISCONTINUITY-SEQUENCE:1",
            "DISCONTINUITY-SEQUENCE:0",
            "behind discontinuity",
        ),
        ("a window that is too small", (106, 108, 3), "", "", "are left of"),
        ("a URI for the second time", (101, 109, 0), "seg-108.m4s", "seg-100.m4s", "was number 100"),
        ("a part that is another", (100, 108, 3), "part-108-1.m4s", "part-108-x.m4s", "part 1 of segment 108"),
        ("another part than announced", (100, 108, 3), "part-108-2.m4s", "part-108-x.m4s", "was announced"),
        (
            "the segment ended without it",
            (101, 109, 0),
            "#EXT-X-PART:DURATION=0.50000,URI=\"part-108-2.m4s\"\n",
            "",
            "parts of seg-108",
        ),
    ];
    let first = text(100, 108, 2);
    for (name, (from, to, open), old, new, expected) in cases {
        let second = text(*from, *to, *open);
        let second = if old.is_empty() { second } else { second.replacen(old, new, 1) };
        let fault = watch(&[first.clone(), second]).err();
        assert!(fault.as_ref().is_some_and(|fault| fault.contains(expected)), "{name}: {fault:?}");
    }
    let ended = first.replace("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"part-108-2.m4s\"\n", "#EXT-X-ENDLIST\n");
    assert!(watch(&[ended, first.clone()]).unwrap_err().contains("behind the end"));
    let two = text(101, 109, 0).replace("#EXT-X-PART:DURATION=0.50000,URI=\"part-108-2.m4s\"\n", "");
    let two = two
        .replace("#EXT-X-PART:DURATION=0.50000,URI=\"part-108-3.m4s\"\n", "")
        .replace("#EXTINF:2.00000,\nseg-108", "#EXTINF:1.00000,\nseg-108");
    let two = two.replace("21:03:38.000Z", "21:03:37.000Z");
    assert!(watch(&[first.clone(), two]).unwrap_err().contains("was announced and part-109-0"));
    let (mut silent, now) = (Watch::default(), Instant::now());
    let later = now + Duration::from_millis(3_100);
    silent.push(now, now, &Media::parse(&first).unwrap()).unwrap();
    silent.push(now, later, &Media::parse(&text(100, 108, 3)).unwrap()).unwrap();
    assert!(silent.assert_lively(never).unwrap_err().contains("no update"));
    silent.assert_lively(|_, _| Duration::from_millis(200)).unwrap();
    let mut same = Watch::default();
    same.push(now, now, &Media::parse(&first).unwrap()).unwrap();
    same.push(later, later, &Media::parse(&first).unwrap()).unwrap();
    assert!(same.assert_lively(never).unwrap_err().contains("no update"));
    let mut late = Watch::default();
    late.push(now, now, &Media::parse(&first).unwrap()).unwrap();
    late.push(later, later, &Media::parse(&text(100, 108, 3)).unwrap()).unwrap();
    late.assert_lively(never).unwrap();
}

#[test]
fn a_delta_update_stands_for_the_whole() {
    let full = Media::parse(&text(100, 108, 2)).unwrap();
    let next = text(101, 109, 1);
    let begin = next.find("#EXT-X-MAP").unwrap();
    // Segments 101 and 102 and what stands in front of them.
    let end = next.find("#EXT-X-DISCONTINUITY\n").unwrap();
    let delta = format!("{}#EXT-X-SKIP:SKIPPED-SEGMENTS=2\n{}", &next[..begin], &next[end..]);
    let parsed = Media::parse(&delta).unwrap();
    rules::check(&parsed).unwrap();
    assert_eq!(parsed.expand(&full).unwrap().said(), Media::parse(&next).unwrap().said());
    assert!(Media::parse(&delta.replace("SEGMENTS=2", "SEGMENTS=12")).unwrap().expand(&full).unwrap_err().contains("§5.2"));
    let old = Media::parse(&delta.replace("VERSION:9", "VERSION:8")).unwrap();
    assert!(rules::check(&old).unwrap_err().contains("EXT-X-SKIP"));
    let unpromised = Media::parse(&delta.replace(",CAN-SKIP-UNTIL=12.0", "")).unwrap();
    assert!(rules::check(&unpromised).unwrap_err().contains("promised"));
}

#[test]
fn variants_are_read() {
    let text = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-STREAM-INF:BANDWIDTH=700000,AVERAGE-BANDWIDTH=600000,\
                CODECS=\"avc1.64000d,mp4a.40.2\",RESOLUTION=320x180,FRAME-RATE=25.000\nmedia.m3u8?session=1\n";
    let variant = &Multivariant::parse(text).unwrap().variants[0];
    assert_eq!((variant.bandwidth, variant.average_bandwidth, variant.resolution), (700_000, Some(600_000), Some((320, 180))));
    assert_eq!(
        (variant.codecs.as_str(), variant.frame_rate, variant.uri.as_str()),
        ("avc1.64000d,mp4a.40.2", Some(25.0), "media.m3u8?session=1")
    );
    for (from, to) in
        [("BANDWIDTH=700000,", ""), ("320x180", "320"), ("media.m3u8?session=1\n", ""), ("#EXT-X-STREAM-INF", "#EXT-X-MEDIA")]
    {
        assert!(Multivariant::parse(&text.replacen(from, to, 1)).is_err(), "{from}");
    }
}

/// What ffmpeg writes is read, and what is broken is not.
#[test]
fn segments_of_ffmpeg_follow_each_other() {
    use crate::harness::media::H264_AAC;
    use crate::harness::{Client, ffmpeg, fresh_folder, missing};
    if missing(&["ffmpeg"]) {
        return;
    }
    let folder = fresh_folder("segments");
    for (format, options) in [("fmp4", "seg-%d.m4s"), ("mpegts", "seg-%d.ts")] {
        let mut command = ffmpeg();
        command.arg("-i").arg(H264_AAC.file().unwrap()).args([
            "-c",
            "copy",
            "-f",
            "hls",
            "-hls_time",
            "2",
            "-hls_list_size",
            "0",
        ]);
        command.args(["-hls_segment_type", format, "-hls_fmp4_init_filename", "init.mp4", "-hls_segment_filename"]);
        Client::start(command.arg(folder.join(options)).arg(folder.join(format!("{format}.m3u8")))).succeed();
    }
    let read = |name: String| std::fs::read(folder.join(name)).unwrap();
    let init = fmp4::init(&read("init.mp4".to_owned())).unwrap();
    assert_eq!(init.values().map(|track| track.handler.as_str()).collect::<Vec<_>>(), ["vide", "soun"]);
    let (mut continuity, mut checker, mut pictures) = (Continuity::default(), Checker::default(), 0);
    for number in 0..4 {
        let segment = read(format!("seg-{number}.m4s"));
        let fragments = fmp4::fragments(&segment, &init).unwrap();
        assert!((fmp4::seconds(&fragments, &init) - 2.0).abs() < 0.001);
        assert!(fragments[0].runs[0].key);
        fragments.iter().for_each(|fragment| continuity.push(fragment, &init).unwrap());
        assert!(fmp4::fragments(&segment[..segment.len() - 1], &init).is_err());
        let segment = read(format!("seg-{number}.ts"));
        let ours: Vec<u8> =
            segment.chunks(188).filter(|packet| packet[1] & 0x1F != 0 || packet[2] != 0x11).flatten().copied().collect();
        pictures += checker.segment(&ours).unwrap_or_else(|fault| panic!("{number}: {fault}")).pictures;
    }
    assert_eq!((continuity.samples[&1], pictures), (200, 200));
    let again = fmp4::fragments(&read("seg-0.m4s".to_owned()), &init).unwrap();
    assert!(continuity.push(&again[0], &init).is_err());
    let mut late = again[0].clone();
    (late.sequence, late.runs[0].begin) = (1_000, late.runs[0].begin + 1);
    assert!(continuity.push(&late, &init).unwrap_err().contains("off where the last ended"));
    assert!(checker.segment(&read("seg-2.ts".to_owned())).is_err(), "counters go back");
    let _ = std::fs::remove_dir_all(folder);
}
