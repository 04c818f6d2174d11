//! Session descriptions: the server's → the tracks that are played; the clip's → the text that is announced.
//!
//! Spec: RFC 8866 §5; RFC 2326 §C.1.1 (control URLs); RFC 6184 §8.2.1 (H.264); RFC 3640 §4.1 (AAC-hbr). The first video and the first
//! audio section are taken. Not here: any codec but H.264 for video, because marks stand in its NAL units.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{Kind, VIDEO_CLOCK};
use crate::clip::Codecs;
use crate::scan::Broken;

/// Payload types of what is announced.
pub const VIDEO_PAYLOAD_TYPE: u8 = 96;
pub const AUDIO_PAYLOAD_TYPE: u8 = 97;

/// One track of a description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    pub kind: Kind,
    pub payload_type: u8,
    /// Where it is set up.
    pub url: String,
}

/// `base`: the URL that controls are relative to.
pub fn parse(text: &str, base: &str) -> Result<Vec<Media>, Broken> {
    let mut sections = text.split("\nm=");
    let aggregate = resolve(base, attribute(sections.next().unwrap_or_default(), "control:").unwrap_or("*"));
    let mut tracks: Vec<Media> = Vec::new();
    for section in sections {
        let mut words = section.lines().next().unwrap_or_default().split_ascii_whitespace();
        let kind = match words.next() {
            Some("video") => Kind::Video,
            Some("audio") => Kind::Audio,
            _ => continue,
        };
        if tracks.iter().any(|track| track.kind == kind) {
            continue;
        }
        let payload_type = words.nth(2).and_then(|word| word.parse().ok()).ok_or(Broken("a description without payload type"))?;
        if kind == Kind::Video && !is_h264(section, payload_type) {
            return Err(Broken("the stream's video is not H.264"));
        }
        let url = attribute(section, "control:").map_or(aggregate.clone(), |control| resolve(&aggregate, control));
        tracks.push(Media { kind, payload_type, url });
    }
    if tracks.is_empty() { Err(Broken("a description without video and audio")) } else { Ok(tracks) }
}

fn attribute<'a>(section: &'a str, name: &str) -> Option<&'a str> {
    section.lines().find_map(|line| line.strip_prefix("a=")?.strip_prefix(name)).map(str::trim)
}

fn is_h264(section: &str, payload_type: u8) -> bool {
    let maps = section.lines().filter_map(|line| line.strip_prefix("a=rtpmap:")?.split_once(' '));
    maps.filter(|(number, _)| number.trim().parse() == Ok(payload_type))
        .any(|(_, encoding)| encoding.trim().to_ascii_uppercase().starts_with("H264/"))
}

fn resolve(base: &str, control: &str) -> String {
    match control {
        "*" | "" => base.to_owned(),
        absolute if absolute.starts_with("rtsp://") => absolute.to_owned(),
        relative if base.ends_with('/') => format!("{base}{relative}"),
        relative => format!("{base}/{relative}"),
    }
}

/// The clip as a publisher announces it.
pub fn write(codecs: &Codecs) -> String {
    let sets: Vec<String> = codecs.parameter_sets.iter().map(|set| BASE64.encode(set)).collect();
    // Profile, constraints and level are the bytes behind the header of a sequence parameter set.
    let profile = codecs.parameter_sets.first().and_then(|set| set.get(1..4)).map(hex).unwrap_or_default();
    let (config, rate, channels) = (hex(&codecs.audio_config), codecs.sample_rate, codecs.channels);
    let (video, audio) = (VIDEO_PAYLOAD_TYPE, AUDIO_PAYLOAD_TYPE);
    format!(
        "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=shardcast-loadtest\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n\
         m=video 0 RTP/AVP {video}\r\na=rtpmap:{video} H264/{VIDEO_CLOCK}\r\n\
         a=fmtp:{video} packetization-mode=1;profile-level-id={profile};sprop-parameter-sets={}\r\na=control:streamid=0\r\n\
         m=audio 0 RTP/AVP {audio}\r\na=rtpmap:{audio} MPEG4-GENERIC/{rate}/{channels}\r\n\
         a=fmtp:{audio} streamtype=5;profile-level-id=1;mode=AAC-hbr;config={config};\
         sizelength=13;indexlength=3;indexdeltalength=3\r\na=control:streamid=1\r\n",
        sets.join(",")
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media(kind: Kind, payload_type: u8, url: &str) -> Media {
        Media { kind, payload_type, url: url.to_owned() }
    }

    #[test]
    fn descriptions() {
        const H264: &str = "a=rtpmap:96 H264/90000\r\n";
        type Case<'a> = (&'a str, String, Result<Vec<Media>, Broken>);
        let cases: [Case<'_>; 7] = [
            (
                "relative controls",
                format!(
                    "v=0\r\na=control:*\r\nm=video 0 RTP/AVP 96\r\n{H264}a=control:trackID=0\r\n\
                     m=audio 0 RTP/AVP 97\r\na=rtpmap:97 MPEG4-GENERIC/44100/2\r\na=control:trackID=1\r\n"
                ),
                Ok(vec![media(Kind::Video, 96, "rtsp://h/a/b/trackID=0"), media(Kind::Audio, 97, "rtsp://h/a/b/trackID=1")]),
            ),
            (
                "absolute controls, audio first, bare line ends",
                "v=0\nm=audio 0 RTP/AVP 8\na=control:rtsp://h/x\nm=video 5000 RTP/AVP 99 96\na=rtpmap:99 h264/90000\n\
                 a=control:rtsp://h/y\n"
                    .to_owned(),
                Ok(vec![media(Kind::Audio, 8, "rtsp://h/x"), media(Kind::Video, 99, "rtsp://h/y")]),
            ),
            (
                "other sections and a second picture are left out",
                format!(
                    "v=0\r\nm=application 0 RTP/AVP 107\r\na=control:meta\r\nm=video 0 RTP/AVP 96\r\n{H264}\
                     m=video 0 RTP/AVP 98\r\na=rtpmap:98 H265/90000\r\n"
                ),
                Ok(vec![media(Kind::Video, 96, "rtsp://h/a/b/")]),
            ),
            (
                "a control for all",
                format!("v=0\r\na=control:rtsp://h/all\r\nm=video 0 RTP/AVP 96\r\n{H264}a=control:v\r\n"),
                Ok(vec![media(Kind::Video, 96, "rtsp://h/all/v")]),
            ),
            (
                "another codec",
                "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H265/90000\r\n".to_owned(),
                Err(Broken("the stream's video is not H.264")),
            ),
            ("no tracks", "v=0\r\n".to_owned(), Err(Broken("a description without video and audio"))),
            ("no payload type", "v=0\r\nm=audio 0 RTP/AVP\r\n".to_owned(), Err(Broken("a description without payload type"))),
        ];
        for (name, text, expected) in cases {
            assert_eq!(parse(&text, "rtsp://h/a/b/"), expected, "{name}");
        }
    }

    #[test]
    fn what_is_announced_can_be_read_by_those_who_play() {
        let codecs = Codecs {
            parameter_sets: vec![vec![0x67, 0x64, 0, 0x1F, 1].into(), vec![0x68, 2].into()],
            audio_config: vec![0x12, 0x10].into(),
            sample_rate: 44_100,
            channels: 2,
        };
        let text = write(&codecs);
        for part in
            ["profile-level-id=64001f;sprop-parameter-sets=Z2QAHwE=,aAI=\r\n", "MPEG4-GENERIC/44100/2\r\n", "config=1210;"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        let expected = vec![media(Kind::Video, 96, "rtsp://h/a/b/streamid=0"), media(Kind::Audio, 97, "rtsp://h/a/b/streamid=1")];
        assert_eq!(parse(&text, "rtsp://h/a/b"), Ok(expected));
    }
}
