//! Descriptions of encoders and cameras → payload formats; our own descriptions, read back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;

use super::*;
use crate::format::rtp::PayloadForm;
use crate::format::rtp::payload::outgoing;
use crate::media::aac::AacConfig;
use crate::media::h264::AvcConfig;
use crate::media::h265::HevcConfig;
use crate::media::opus::OpusHead;
use crate::media::{Codec, Track, TrackId, TrackShape, Tracks};

const HBR: PayloadForm = PayloadForm::AacHbr { size_bits: 13, index_bits: 3, index_delta_bits: 3 };

/// ffmpeg 5.1 announcing H.264 and AAC.
const FFMPEG: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=No Name\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\na=tool:libavformat 59.27.100\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1; \
    sprop-parameter-sets=Z/QACpGbKFidgIgAAAMACAAAAwBQeJEssA==,aOvjxEhE; profile-level-id=F4000A\r\na=control:streamid=0\r\n\
    m=audio 0 RTP/AVP 97\r\nb=AS:69\r\na=rtpmap:97 MPEG4-GENERIC/44100/1\r\na=fmtp:97 profile-level-id=1;mode=AAC-hbr;sizelength=13;\
    indexlength=3;indexdeltalength=3; config=120856E500\r\na=control:streamid=1\r\n";

/// As GStreamer's rtspclientsink announces: audio first, LATM, attributes in its own order.
const GSTREAMER: &str = "v=0\r\no=- 1188340656180883 1 IN IP4 127.0.0.1\r\ns=Session streamed with GStreamer\r\n\
    i=rtsp-server\r\nt=0 0\r\na=tool:GStreamer\r\na=type:broadcast\r\na=control:*\r\na=range:npt=now-\r\n\
    m=audio 0 RTP/AVP 97\r\nc=IN IP4 127.0.0.1\r\na=rtpmap:97 MP4A-LATM/44100\r\na=fmtp:97 cpresent=0;config=40002410adca00\r\n\
    a=control:stream=0\r\na=ssrc:12 cname:user1@host\r\n\
    m=video 0 RTP/AVP 96\r\nc=IN IP4 127.0.0.1\r\na=rtpmap:96 H264/90000\r\na=framerate:25\r\n\
    a=fmtp:96 packetization-mode=1;profile-level-id=f4000a;sprop-parameter-sets=\"Z/QACpGbKFidgIgAAAMACAAAAwBQeJEssA,aOvjxEhE\"\r\n\
    a=control:stream=1\r\n";

/// In the manner of Hikvision: absolute controls, private lines, static audio without `rtpmap`, a track of metadata.
const HIKVISION: &str = "v=0\no=- 1109162014219182 1109162014219192 IN IP4 192.0.2.64\ns=Media Presentation\ne=NONE\nb=AS:5100\nt=0 0\n\
    a=control:rtsp://192.0.2.64/Streaming/Channels/101/\n\
    m=video 0 RTP/AVP 96\nc=IN IP4 0.0.0.0\nb=AS:5000\na=recvonly\na=x-dimensions:176,144\n\
    a=control:rtsp://192.0.2.64/Streaming/Channels/101/trackID=1\na=rtpmap:96 H265/90000\n\
    a=fmtp:96 sprop-vps=QAEMAf//BAgAAAMAnggAAAMAAB6VmAk=; sprop-sps=QgEBBAgAAAMAnggAAAMAAB6QAsQEiyys0kmV4C3AgIABAAADAAEAAAMABQg=; sprop-pps=RAHBcoYMRiQ=\n\
    m=audio 0 RTP/AVP 8\nb=AS:50\na=recvonly\na=control:rtsp://192.0.2.64/Streaming/Channels/101/trackID=2\na=Media_header:MEDIAINFO=494D4B48;\n\
    m=application 0 RTP/AVP 107\na=control:rtsp://192.0.2.64/Streaming/Channels/101/trackID=3\n\
    a=rtpmap:107 vnd.onvif.metadata/90000\na=appversion:1.0\n";

/// In the manner of Dahua: spaces at odd places, sets with start codes, a back channel.
const DAHUA: &str = "v=0\r\no=- 2252478537 2252478537 IN IP4 0.0.0.0\r\ns=RTSP Session/2.0\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n\
    a=range:npt=now-\r\na=packetization-supported:DH\r\n\
    m=video 0 RTP/AVP 96\r\na=control:trackID=0\r\na=framerate:25.000000\r\na=rtpmap:96  h264/90000 \r\n\
    a=fmtp:96 packetization-mode=1;PROFILE-LEVEL-ID=F4000A;SPROP-PARAMETER-SETS=AAAAAWf0AAqRmyhYnYCIAAADAAgAAAMAUHiRLLAAAAABaOvjxEhE\r\n\
    a=recvonly\r\n\
    m=audio 0 RTP/AVP 97\r\na=control:trackID=1\r\na=rtpmap:97 MPEG4-GENERIC/16000\r\na=fmtp:97 streamtype=5;profile-level-id=1;\
    mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3;config=1408\r\na=recvonly\r\n\
    m=audio 0 RTP/AVP 0 8 97\r\na=control:trackID=5\r\na=rtpmap:97 MPEG4-GENERIC/8000\r\na=sendonly\r\n\0";

/// Kind, control, and what matters of the payload: type, codec, form, clock, channels, length of the config.
fn summary(text: &str) -> Vec<String> {
    let of_payload = |payload: &RtpPayload| {
        let RtpPayload { payload_type, codec, form, clock_rate, channels, config } = payload;
        format!("{payload_type} {} {form:?} {clock_rate}/{channels} {}", codec.name(), config.len())
    };
    let of_media = |media: &Media| {
        let payload = media.payload.as_ref().map_or_else(|error| error.to_string(), of_payload);
        format!("{:?} {} {payload}", media.kind, media.control.as_deref().unwrap_or("-"))
    };
    parse(text).unwrap().media.iter().map(of_media).collect()
}

#[test]
fn descriptions_of_encoders_and_cameras() {
    let hbr = format!("{HBR:?}");
    let cases: [(&str, &str, Option<&str>, &[String]); 4] = [
        (
            "ffmpeg",
            FFMPEG,
            None,
            &[
                "Some(Video) streamid=0 96 H264 H264 90000/0 42".to_owned(),
                format!("Some(Audio) streamid=1 97 AAC {hbr} 44100/1 5"),
            ],
        ),
        (
            "GStreamer",
            GSTREAMER,
            Some("*"),
            &[
                "Some(Audio) stream=0 97 AAC Latm { config_in_band: false } 44100/1 5".to_owned(),
                "Some(Video) stream=1 96 H264 H264 90000/0 42".to_owned(),
            ],
        ),
        (
            "Hikvision",
            HIKVISION,
            Some("rtsp://192.0.2.64/Streaming/Channels/101/"),
            &[
                "Some(Video) rtsp://192.0.2.64/Streaming/Channels/101/trackID=1 96 H265 H265 { donl: false } 90000/0 113"
                    .to_owned(),
                "Some(Audio) rtsp://192.0.2.64/Streaming/Channels/101/trackID=2 8 G711A G711 8000/1 0".to_owned(),
                "None rtsp://192.0.2.64/Streaming/Channels/101/trackID=3 vnd.onvif.metadata is not carried".to_owned(),
            ],
        ),
        (
            "Dahua",
            DAHUA,
            Some("*"),
            &[
                "Some(Video) trackID=0 96 H264 H264 90000/0 42".to_owned(),
                format!("Some(Audio) trackID=1 97 AAC {hbr} 16000/1 2"),
                "Some(Audio) trackID=5 0 G711U G711 8000/1 0".to_owned(),
            ],
        ),
    ];
    for (name, text, control, expected) in cases {
        assert_eq!(summary(text), expected, "{name}");
        assert_eq!(parse(text).unwrap().control.as_deref(), control, "{name}");
        assert_eq!(summary(&text.replace('\r', "")), expected, "{name}: bare line feeds");
        for cut in 0..text.len() {
            let _ = parse(&text[..cut]);
        }
    }
}

#[test]
fn parameter_sets_become_records() {
    let media = parse(FFMPEG).unwrap().media;
    let record = media[0].payload.clone().unwrap().config;
    let config = AvcConfig::parse(&record).unwrap();
    assert_eq!((config.sps.len(), config.pps.len()), (1, 1));
    assert_eq!(config.shape(), TrackShape::Video { width: 176, height: 144, frames_per_second: 5.0 });
    for other in [GSTREAMER, DAHUA] {
        let media = parse(other).unwrap().media;
        let video = media.iter().find(|media| media.kind == Some(TrackKind::Video)).unwrap();
        assert_eq!(video.payload.clone().unwrap().config, record);
    }
    let media = parse(HIKVISION).unwrap().media;
    let config = HevcConfig::parse(&media[0].payload.clone().unwrap().config).unwrap();
    assert_eq!((config.vps.len(), config.sps.len(), config.pps.len()), (1, 1, 1));
    assert_eq!(config.shape(), TrackShape::Video { width: 176, height: 144, frames_per_second: 5.0 });
}

fn one(media: &str, lines: &str) -> Result<RtpPayload, Unusable> {
    let description = parse(&format!("v=0\nm={media}\n{lines}\n")).unwrap();
    description.media[0].payload.clone()
}

fn found(payload_type: u8, codec: Codec, form: PayloadForm, clock_rate: u32, channels: u8, config: &[u8]) -> RtpPayload {
    RtpPayload { payload_type, clock_rate, codec, form, channels, config: Bytes::copy_from_slice(config) }
}

fn opus(channels: u8) -> RtpPayload {
    let head = OpusHead { channels, pre_skip: 0, input_sample_rate: 48_000 }.build();
    found(96, Codec::Opus, PayloadForm::Opus, 48_000, channels, &head)
}

#[test]
fn single_video_formats() {
    use Unusable::*;
    let sps = "Z/QACpGbKFidgIgAAAMACAAAAwBQeJEssA==";
    // An SPS that begins well and does not end, and a PPS.
    let huge = format!("{}{},aOvjxEhE", "Z/QACpGbKFidgIgAAAMACAAAAwBQeJEs", "AAAA".repeat(1_400));
    let bare = |form| match form {
        PayloadForm::H264 => Ok(found(96, Codec::H264, form, 90_000, 0, &[])),
        _ => Ok(found(96, Codec::H265, form, 90_000, 0, &[])),
    };
    let cases = [
        ("no fmtp", "rtpmap:96 H264/90000", bare(PayloadForm::H264)),
        ("no clock", "rtpmap:96 H264", bare(PayloadForm::H264)),
        ("mode 0", "rtpmap:96 H264/90000\na=fmtp:96 packetization-mode=0", bare(PayloadForm::H264)),
        ("mode 2", "rtpmap:96 H264/90000\na=fmtp:96 Packetization-Mode=2", Err(Interleaved)),
        ("only an SPS", &format!("rtpmap:96 H264/90000\na=fmtp:96 sprop-parameter-sets={sps}"), bare(PayloadForm::H264)),
        ("not base64", "rtpmap:96 H264/90000\na=fmtp:96 sprop-parameter-sets=!!,??", bare(PayloadForm::H264)),
        ("broken SPS", "rtpmap:96 H264/90000\na=fmtp:96 sprop-parameter-sets=Z/Q=,aOvjxEhE", bare(PayloadForm::H264)),
        ("huge SPS", &format!("rtpmap:96 H264/90000\na=fmtp:96 sprop-parameter-sets={huge}"), bare(PayloadForm::H264)),
        ("HEVC", "rtpmap:96 HEVC/90000\na=fmtp:96 sprop-max-don-diff=0", bare(PayloadForm::H265 { donl: false })),
        ("with DONL", "rtpmap:96 h265/90000\na=fmtp:96 sprop-max-don-diff=2", bare(PayloadForm::H265 { donl: true })),
        ("VP8", "rtpmap:96 VP8/90000", Ok(found(96, Codec::Vp8, PayloadForm::Vp8, 90_000, 0, &[]))),
        ("VP9", "rtpmap:96 vp9/90000\na=fmtp:96 profile-id=0", Ok(found(96, Codec::Vp9, PayloadForm::Vp9, 90_000, 0, &[]))),
        ("AV1", "rtpmap:96 AV1/90000", Ok(found(96, Codec::Av1, PayloadForm::Av1, 90_000, 0, &[]))),
        ("a clock of one tick", "rtpmap:96 H264/1", Err(Parameters)),
        ("the fastest clock that can be said", "rtpmap:96 VP8/4294967295", Err(Parameters)),
        ("unknown", "rtpmap:96 H263-1998/90000", Err(Codec("H263-1998".into()))),
        ("no rtpmap", "rtpmap:97 H264/90000", Err(Codec("payload type 96".into()))),
        ("audio in a section of video", "rtpmap:96 PCMU/8000", Err(Codec("G711U".into()))),
    ];
    use crate::media::Codec;
    for (name, lines, expected) in cases {
        assert_eq!(one("video 0 RTP/AVP 96", &format!("a={lines}")), expected, "{name}");
    }
}

#[test]
fn single_audio_formats() {
    let lbr = PayloadForm::AacHbr { size_bits: 6, index_bits: 2, index_delta_bits: 2 };
    let odd = PayloadForm::AacHbr { size_bits: 16, index_bits: 0, index_delta_bits: 0 };
    let latm = |config_in_band| PayloadForm::Latm { config_in_band };
    let he_aac = [0x13, 0x10, 0x56, 0xE5, 0x98];
    let cases = [
        ("no lengths", "mpeg4-generic/44100/2", "config=1210", Ok(found(96, Codec::Aac, HBR, 44_100, 2, &[0x12, 0x10]))),
        (
            "lower case",
            "Mpeg4-Generic/44100/2",
            "CONFIG=1210;Mode=aac-HBR",
            Ok(found(96, Codec::Aac, HBR, 44_100, 2, &[0x12, 0x10])),
        ),
        ("lbr", "mpeg4-generic/48000", "mode=AAC-lbr;config=1190", Ok(found(96, Codec::Aac, lbr, 48_000, 2, &[0x11, 0x90]))),
        (
            "own lengths",
            "mpeg4-generic/48000",
            "sizelength=16; indexlength=0; indexdeltalength=0; config=1190",
            Ok(found(96, Codec::Aac, odd, 48_000, 2, &[0x11, 0x90])),
        ),
        ("no config", "mpeg4-generic/48000/2", "", Ok(found(96, Codec::Aac, HBR, 48_000, 2, &[0x11, 0x90]))),
        ("broken config", "mpeg4-generic/44100", "config=zz", Ok(found(96, Codec::Aac, HBR, 44_100, 1, &[0x12, 0x08]))),
        ("extensions stay", "mpeg4-generic/24000/2", "config=131056E598", Ok(found(96, Codec::Aac, HBR, 24_000, 2, &he_aac))),
        ("neither config nor clock", "mpeg4-generic", "", Err(Unusable::Parameters)),
        ("another mode", "mpeg4-generic/8000", "mode=CELP-vbr;config=1210", Err(Unusable::Parameters)),
        ("a length too long", "mpeg4-generic/48000", "sizelength=33", Err(Unusable::Parameters)),
        ("a length that is none", "mpeg4-generic/48000", "sizelength=x", Err(Unusable::Parameters)),
        ("fields in between", "mpeg4-generic/48000", "CTSDeltaLength=4", Err(Unusable::Parameters)),
        (
            "LATM, ffmpeg",
            "MP4A-LATM/44100/1",
            "cpresent=0;config=400024103fc0",
            Ok(found(96, Codec::Aac, latm(false), 44_100, 1, &[0x12, 0x08])),
        ),
        (
            "LATM, GStreamer",
            "MP4A-LATM/44100",
            "cpresent=0;config=40002410adca00",
            Ok(found(96, Codec::Aac, latm(false), 44_100, 1, &[0x12, 0x08, 0x56, 0xE5, 0x00])),
        ),
        ("LATM, two programs", "MP4A-LATM/44100", "cpresent=0;config=40022410adca00", Err(Unusable::Parameters)),
        ("LATM in band", "mp4a-latm/48000/2", "", Ok(found(96, Codec::Aac, latm(true), 48_000, 2, &[]))),
        ("LATM, broken", "mp4a-latm/48000/2", "cpresent=0;config=40", Err(Unusable::Parameters)),
        ("Opus", "opus/48000/2", "", Ok(opus(2))),
        ("Opus, stereo", "OPUS/48000/2", "sprop-stereo=1", Ok(opus(2))),
        ("Opus, mono", "opus/48000/2", "stereo=1;sprop-stereo=0", Ok(opus(1))),
        ("Opus, wrong clock", "opus/16000/1", "", Ok(opus(1))),
        ("dynamic G.711", "PCMA/16000/2", "", Ok(found(96, Codec::G711A, PayloadForm::G711, 16_000, 2, &[]))),
        ("dynamic MPA", "mpa/90000", "", Ok(found(96, Codec::Mp3, PayloadForm::Mpa, 90_000, 0, &[]))),
        ("the slowest clock", "PCMA/1000", "", Ok(found(96, Codec::G711A, PayloadForm::G711, 1_000, 1, &[]))),
        ("a slower one", "PCMA/999", "", Err(Unusable::Parameters)),
        ("a faster one than there is", "mpa/1000001", "", Err(Unusable::Parameters)),
        ("AAC whose config alone says an absurd clock", "mpeg4-generic", "config=1780000110", Err(Unusable::Parameters)),
        ("G.726", "G726-32/8000", "", Err(Unusable::Codec("G726-32".into()))),
    ];
    for (name, map, parameters, expected) in cases {
        let lines = format!("a=rtpmap:96 {map}\na=fmtp:96 {parameters}");
        assert_eq!(one("audio 0 RTP/AVP 96", &lines), expected, "{name}");
    }
}

#[test]
fn static_types_and_alternatives() {
    // Else each of them would cost another look at all parameters.
    let often = format!("audio 0 RTP/AVP{} 0", " 9".repeat(PAYLOAD_TYPES_MAX));
    let cases = [
        ("µ-law", "audio 0 RTP/AVP 0", "", Ok((0, 8_000))),
        ("A-law", "audio 0 RTP/AVP 8", "", Ok((8, 8_000))),
        ("MPEG audio", "audio 0 RTP/AVP 14", "", Ok((14, 90_000))),
        ("another port and profile", "AUDIO 5004/2 RTP/SAVPF 8", "", Ok((8, 8_000))),
        ("described anew", "audio 0 RTP/AVP 8", "a=rtpmap:8 PCMA/16000", Ok((8, 16_000))),
        ("the first usable", "audio 0 RTP/AVP 9 18 97 0", "a=rtpmap:97 opus/48000/2", Ok((97, 48_000))),
        ("said often", &often, "", Ok((0, 8_000))),
        ("the first is blamed", "audio 0 RTP/AVP 9 96", "a=rtpmap:9 G722/8000", Err(Unusable::Codec("G722".into()))),
        ("said by the session", "audio 0 RTP/AVP 97", "", Ok((97, 32_000))),
        ("transport stream", "video 0 RTP/AVP 33", "", Err(Unusable::Codec("payload type 33".into()))),
        ("no type", "audio 0 RTP/AVP", "", Err(Unusable::Parameters)),
        ("no fields", "audio", "", Err(Unusable::Parameters)),
        ("types that are none", "audio 0 RTP/AVP 128 x -1", "", Err(Unusable::Parameters)),
    ];
    for (name, media, line, expected) in cases {
        let text = format!("v=0\na=rtpmap:97 PCMU/32000\nm={media}\n{line}\n");
        let payload = parse(&text).unwrap().media[0].payload.clone();
        assert_eq!(payload.map(|payload| (payload.payload_type, payload.clock_rate)), expected, "{name}");
    }
}

#[test]
fn what_is_no_description_and_what_is_too_much() {
    let section = "m=audio 0 RTP/AVP 0\n";
    for text in ["", "\0", "hello", "<html>\na=b", "a=control:*"] {
        assert_eq!(parse(text), Err(SdpError::NotSdp), "{text:?}");
    }
    assert_eq!(parse("v=0").map(|description| description.media.len()), Ok(0));
    assert_eq!(parse(section).map(|description| description.media.len()), Ok(1));
    assert_eq!(parse(&section.repeat(MEDIA_MAX)).map(|description| description.media.len()), Ok(MEDIA_MAX));
    assert_eq!(parse(&section.repeat(MEDIA_MAX + 1)), Err(SdpError::TooManyMedia));
    let others: String = (15..).take(PAYLOAD_TYPES_MAX).map(|number| format!("{number} ")).collect();
    let late = format!("m=audio 0 RTP/AVP {others}0\n");
    assert!(parse(&late).unwrap().media[0].payload.is_err());
    let late = format!("m=audio 0 RTP/AVP 96\n{}a=rtpmap:96 PCMU/8000\n", "a=rtpmap:97 PCMU/8000\n".repeat(ATTRIBUTES_MAX));
    assert!(parse(&late).unwrap().media[0].payload.is_err());
    let long = |bytes: usize| parse(&format!("{section}{}", "x".repeat(bytes - section.len())));
    assert!(long(TEXT_BYTES_MAX).is_ok());
    assert_eq!(long(TEXT_BYTES_MAX + 1), Err(SdpError::TooLong));
    let control = |bytes: usize| parse(&format!("v=0\na=control:{}\n", "x".repeat(bytes))).unwrap().control;
    assert!(control(CONTROL_BYTES_MAX).is_some() && control(CONTROL_BYTES_MAX + 1).is_none() && control(0).is_none());
}

fn track(codec: Codec, config: &[u8], sample_rate: u32, channels: u8) -> Track {
    let shape = match codec.kind() {
        TrackKind::Video => TrackShape::Video { width: 0, height: 0, frames_per_second: 0.0 },
        _ => TrackShape::Audio { sample_rate, channels },
    };
    Track { id: TrackId(codec.kind() as u8), codec, config: Bytes::copy_from_slice(config), shape }
}

fn avc() -> Track {
    track(Codec::H264, include_bytes!("../../../../tests/corpus/h264/avcc"), 0, 0)
}

const ORIGIN: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

#[test]
fn what_is_written() {
    let tracks = Tracks::new(vec![track(Codec::Aac, &[0x12, 0x10], 44_100, 2), track(Codec::Vp8, &[], 0, 0)], Bytes::new());
    let text = write(&tracks, "live/a", ORIGIN).unwrap();
    let (head, rest) = text.split_once("\r\ns=").unwrap();
    let numbers: Vec<&str> = head.strip_prefix("v=0\r\no=- ").unwrap().split(' ').collect();
    assert!(numbers[..2].iter().all(|number| number.parse::<u32>().is_ok()), "{head}");
    assert_eq!(numbers[2..], ["IN", "IP4", "192.0.2.1"]);
    let expected = "live/a\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=tool:shardcast\r\na=control:*\r\na=range:npt=now-\r\n\
        m=video 0 RTP/AVP 101\r\na=rtpmap:101 VP8/90000\r\na=control:trackID=0\r\n\
        m=audio 0 RTP/AVP 98\r\na=rtpmap:98 MPEG4-GENERIC/44100/2\r\na=fmtp:98 streamtype=5;profile-level-id=1;mode=AAC-hbr;\
        sizelength=13;indexlength=3;indexdeltalength=3;config=1210\r\na=control:trackID=1\r\n";
    assert_eq!(rest, expected);
    assert_eq!(write(&tracks, "live/a", ORIGIN), Some(text), "the same tracks, the same text");
}

#[test]
fn sections_of_every_codec() {
    let hvcc = include_bytes!("../../../../tests/corpus/h265/hvcc");
    let mono = OpusHead { channels: 1, pre_skip: 0, input_sample_rate: 48_000 }.build();
    let cases = [
        ("H.264", avc(), "H264/90000\r\na=fmtp:96 packetization-mode=1;profile-level-id="),
        ("H.264, nothing known", track(Codec::H264, &[], 0, 0), "H264/90000\r\na=fmtp:96 packetization-mode=1\r\n"),
        ("H.265", track(Codec::H265, hvcc, 0, 0), "H265/90000\r\na=fmtp:97 sprop-vps="),
        ("H.265, nothing known", track(Codec::H265, &[], 0, 0), "H265/90000\r\na=control"),
        ("AV1", track(Codec::Av1, &[], 0, 0), "AV1/90000\r\na=control"),
        ("VP9", track(Codec::Vp9, &[], 0, 0), "VP9/90000\r\na=control"),
        ("Opus, mono", track(Codec::Opus, &mono, 48_000, 1), "opus/48000/2\r\na=fmtp:99 sprop-stereo=0\r\n"),
        ("Opus, stereo", track(Codec::Opus, &[], 48_000, 2), "opus/48000/2\r\na=fmtp:99 sprop-stereo=1\r\n"),
        ("Opus, nothing known", track(Codec::Opus, &[], 0, 0), "opus/48000/2\r\na=control"),
        ("µ-law", track(Codec::G711U, &[], 8_000, 1), "PCMU/8000\r\na=control"),
        ("A-law, wide", track(Codec::G711A, &[], 16_000, 2), "PCMA/16000/2\r\na=control"),
        ("MP3", track(Codec::Mp3, &[], 44_100, 2), "MPA/90000\r\na=control"),
    ];
    for (name, track, expected) in cases {
        let tracks = Tracks::new(vec![track.clone()], Bytes::new());
        let text = write(&tracks, "", ORIGIN).unwrap();
        assert!(text.contains(expected), "{name}: {text}");
        assert!(text.contains("\r\ns=-\r\n"), "{name}: {text}");
        // What is read is what the muxer sends; of Opus the header is made anew.
        let read = parse(&text).unwrap().media[0].payload.clone().unwrap();
        let sent = outgoing(&track).unwrap();
        let facts = |payload: &RtpPayload| (payload.payload_type, payload.clock_rate, payload.codec, payload.form);
        assert_eq!(facts(&read), facts(&sent), "{name}");
        match track.codec {
            Codec::H264 if !track.config.is_empty() => {
                let (read, given) = (AvcConfig::parse(&read.config).unwrap(), AvcConfig::parse(&track.config).unwrap());
                assert_eq!((read.sps, read.pps), (given.sps, given.pps));
            }
            Codec::H265 if !track.config.is_empty() => {
                assert_eq!(HevcConfig::parse(&read.config), HevcConfig::parse(&track.config));
            }
            _ => {}
        }
    }
    let unsendable = Tracks::new(vec![track(Codec::Script, &[], 0, 0), track(Codec::Aac, &[], 0, 0)], Bytes::new());
    assert_eq!(write(&unsendable, "a", ORIGIN), None);
    assert_eq!(write(&Tracks::default(), "a", ORIGIN), None);
}

#[test]
fn addresses_in_the_text() {
    let cases = [
        ("IPv4", ORIGIN, "IN IP4 192.0.2.1\r\n", "c=IN IP4 0.0.0.0\r\n"),
        ("IPv6", Ipv6Addr::LOCALHOST.into(), "IN IP6 ::1\r\n", "c=IN IP6 ::\r\n"),
    ];
    let tracks = Tracks::new(vec![avc(), track(Codec::G711A, &[], 8_000, 1)], Bytes::new());
    for (name, origin, of_origin, connection) in cases {
        let text = write(&tracks, "a\r\nx=y", origin).unwrap();
        for part in [of_origin, connection, "m=video 0 ", "m=audio 0 ", "\r\ns=ax=y\r\n"] {
            assert!(text.contains(part), "{name}: {part}: {text}");
        }
    }
    let aac = AacConfig::build_lc(48_000, 2);
    let more = Tracks::new(vec![avc(), track(Codec::Aac, &aac, 48_000, 2)], Bytes::new());
    let version = |tracks| write(tracks, "a", ORIGIN).unwrap().split(' ').nth(2).unwrap().to_owned();
    assert_ne!(version(&tracks), version(&more));
}

/// A text that says the same a thousand times is looked at once.
#[test]
fn repeats_and_endless_parameters_cost_nothing() {
    let sets = |count: usize| format!("sprop-parameter-sets={}", "Z/QACpGbKFidgIgAAAMACAAAAwBQeJEssA==,".repeat(count));
    let section = format!("m=video 0 RTP/AVP{}\n", " 96".repeat(64));
    for (count, is_read) in [(8, true), (1_500, false)] {
        let text = format!("v=0\na=rtpmap:96 H264/90000\na=fmtp:96 {}aMuDyyA=\n{}", sets(count), section.repeat(16));
        let found = parse(&text).unwrap();
        assert_eq!(found.media.len(), 16);
        let payload = found.media[0].payload.as_ref().unwrap();
        assert_eq!(!payload.config.is_empty(), is_read, "{count} sets");
    }
}
