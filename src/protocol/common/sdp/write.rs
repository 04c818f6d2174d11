//! Tracks → the session description that a player is told.
//!
//! RFC 8866 §5, RFC 2326 §C.1; the `fmtp` lines of the RFCs that [`super`] names. The `o=` line has no clock to take numbers from: the
//! session's number comes from its name and the version from what is described, so that equal descriptions are equal texts.

use std::fmt::Write as _;
use std::hash::Hasher as _;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use rustc_hash::FxHasher;

use crate::format::rtp::payload::outgoing;
use crate::format::rtp::{PayloadForm, RtpPayload};
use crate::media::h264::AvcConfig;
use crate::media::h265::HevcConfig;
use crate::media::opus::OpusHead;
use crate::media::{Codec, Track, TrackKind, TrackShape, Tracks};
use crate::protocol::common::hex;

/// Describes the tracks as they are sent by [`crate::format::rtp`]: video under the control `trackID=0`, audio under `trackID=1`.
/// `name` is the session's name, `origin` the server's address. `None`: no track can be sent by RTP.
pub fn write(tracks: &Tracks, name: &str, origin: IpAddr) -> Option<String> {
    let kinds = [(TrackKind::Video, "video"), (TrackKind::Audio, "audio")];
    let mut sections = String::new();
    for (number, (kind, media)) in kinds.into_iter().enumerate() {
        let Some(track) = tracks.first(kind) else { continue };
        let Some(payload) = outgoing(track) else { continue };
        put_section(&mut sections, media, track, &payload);
        put(&mut sections, format_args!("a=control:trackID={number}"));
    }
    if sections.is_empty() {
        return None;
    }
    let mut text = String::with_capacity(sections.len() + 256);
    put(&mut text, format_args!("v=0"));
    let (id, version) = (number_of(name), number_of(&sections));
    put(&mut text, format_args!("o=- {id} {version} IN {} {origin}", family(origin)));
    put(&mut text, format_args!("s={}", session_name(name)));
    put(&mut text, format_args!("c=IN {}", anywhere(origin)));
    for line in ["t=0 0", "a=tool:shardcast", "a=control:*", "a=range:npt=now-"] {
        put(&mut text, format_args!("{line}"));
    }
    text.push_str(&sections);
    Some(text)
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing into a String cannot fail.
    let _ = text.write_fmt(line);
    text.push_str("\r\n");
}

/// 32 bits: some parsers take no more.
fn number_of(text: &str) -> u32 {
    let mut hasher = FxHasher::default();
    hasher.write(text.as_bytes());
    (hasher.finish() >> 32) as u32
}

const fn family(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IP4",
        IpAddr::V6(_) => "IP6",
    }
}

/// RFC 8866 §5.3: must not be empty.
fn session_name(name: &str) -> String {
    let name: String = name.chars().filter(|c| !c.is_control()).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

/// Of the `c=` line: where the media goes is settled by SETUP.
const fn anywhere(origin: IpAddr) -> &'static str {
    match origin {
        IpAddr::V4(_) => "IP4 0.0.0.0",
        IpAddr::V6(_) => "IP6 ::",
    }
}

fn put_section(text: &mut String, media: &str, track: &Track, payload: &RtpPayload) {
    let RtpPayload { payload_type, clock_rate, .. } = payload;
    put(text, format_args!("m={media} 0 RTP/AVP {payload_type}"));
    let name = encoding_name(payload);
    match channels(payload) {
        0 => put(text, format_args!("a=rtpmap:{payload_type} {name}/{clock_rate}")),
        channels => put(text, format_args!("a=rtpmap:{payload_type} {name}/{clock_rate}/{channels}")),
    }
    if let Some(parameters) = parameters(track, payload) {
        put(text, format_args!("a=fmtp:{payload_type} {parameters}"));
    }
}

const fn encoding_name(payload: &RtpPayload) -> &'static str {
    match payload.form {
        PayloadForm::H264 => "H264",
        PayloadForm::H265 { .. } => "H265",
        PayloadForm::AacHbr { .. } => "MPEG4-GENERIC",
        PayloadForm::Latm { .. } => "MP4A-LATM",
        PayloadForm::Opus => "opus",
        PayloadForm::Mpa => "MPA",
        PayloadForm::G711 => match payload.codec {
            Codec::G711A => "PCMA",
            _ => "PCMU",
        },
        PayloadForm::Av1 => "AV1",
        PayloadForm::Vp8 => "VP8",
        PayloadForm::Vp9 => "VP9",
    }
}

/// What stands last in the `rtpmap`; 0: nothing. One channel goes without saying (RFC 8866 §6.6), but AAC players want it said.
const fn channels(payload: &RtpPayload) -> u8 {
    match payload.form {
        PayloadForm::Opus => 2,
        PayloadForm::AacHbr { .. } => payload.channels,
        PayloadForm::G711 if payload.channels > 1 => payload.channels,
        _ => 0,
    }
}

/// The `fmtp` line; `None`: it would be empty.
fn parameters(track: &Track, payload: &RtpPayload) -> Option<String> {
    match payload.form {
        PayloadForm::H264 => Some(avc_parameters(&payload.config)),
        PayloadForm::H265 { .. } => hevc_parameters(&payload.config),
        PayloadForm::AacHbr { size_bits, index_bits, index_delta_bits } => Some(format!(
            "streamtype=5;profile-level-id=1;mode=AAC-hbr;sizelength={size_bits};indexlength={index_bits};\
             indexdeltalength={index_delta_bits};config={}",
            hex::upper(&payload.config)
        )),
        PayloadForm::Opus => {
            let stereo = opus_channels(track)? > 1;
            Some(format!("sprop-stereo={}", u8::from(stereo)))
        }
        _ => None,
    }
}

fn opus_channels(track: &Track) -> Option<u8> {
    let of_shape = match track.shape {
        TrackShape::Audio { channels, .. } => channels,
        TrackShape::Video { .. } | TrackShape::Data => 0,
    };
    OpusHead::parse(&track.config).map(|head| head.channels).or(Some(of_shape)).filter(|channels| *channels > 0)
}

fn avc_parameters(record: &Bytes) -> String {
    let mode = "packetization-mode=1";
    match AvcConfig::parse(record) {
        Ok(config) if !config.sps.is_empty() => {
            // The record's bytes 1 to 3 are those of the first SPS: profile, constraints, level.
            let sets = base64_list(&[config.sps, config.pps].concat());
            format!("{mode};profile-level-id={};sprop-parameter-sets={sets}", hex::upper(&record[1..4]))
        }
        _ => mode.to_owned(),
    }
}

fn hevc_parameters(record: &Bytes) -> Option<String> {
    let HevcConfig { vps, sps, pps, .. } = HevcConfig::parse(record).ok()?;
    let lists = [("sprop-vps", vps), ("sprop-sps", sps), ("sprop-pps", pps)];
    let given = lists.iter().filter(|(_, sets)| !sets.is_empty());
    let parameters: Vec<String> = given.map(|(name, sets)| format!("{name}={}", base64_list(sets))).collect();
    (!parameters.is_empty()).then(|| parameters.join(";"))
}

fn base64_list(sets: &[Bytes]) -> String {
    sets.iter().map(|set| BASE64.encode(set)).collect::<Vec<_>>().join(",")
}
