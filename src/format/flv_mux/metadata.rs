//! `onMetaData` as it is sent: the publisher's, with the keys corrected that players act on, or a small own one.
//!
//! Spec: FLV 10.1 §E.5, Enhanced RTMP v2 (codec ids as FourCC numbers). Made once per change of tracks. Not here: other script data.

use bytes::Bytes;

use crate::format::HevcForm;
use crate::format::amf0::{self, Value};
use crate::media::{Codec, TrackKind, TrackShape, Tracks};

/// The private codec id of H.265.
pub(super) const HEVC_LEGACY_ID: u8 = 12;

/// The name and the value, encoded.
pub(super) fn encode(tracks: &Tracks, hevc: HevcForm) -> Bytes {
    let sent = publishers_fields(tracks.metadata());
    let fields = match sent {
        Some(fields) => corrected(fields, tracks, hevc),
        None => own(tracks, hevc),
    };
    let mut out = Vec::with_capacity(256);
    amf0::encode(&Value::String("onMetaData".to_owned()), &mut out);
    amf0::encode(&Value::EcmaArray(fields), &mut out);
    out.into()
}

/// `None`: the publisher sent none.
fn publishers_fields(metadata: &Bytes) -> Option<Vec<(String, Value)>> {
    match amf0::decode(&mut &metadata[..]) {
        Ok(Value::Object(fields) | Value::EcmaArray(fields) | Value::Typed { fields, .. }) => Some(fields),
        _ => None,
    }
}

fn corrected(mut fields: Vec<(String, Value)>, tracks: &Tracks, hevc: HevcForm) -> Vec<(String, Value)> {
    // A live stream has neither, and some players would show an end.
    fields.retain(|(key, _)| key != "duration" && key != "filesize");
    let codec_id = |kind| tracks.first(kind).map(|track| codec_id(track.codec, hevc));
    put(&mut fields, "videocodecid", codec_id(TrackKind::Video));
    put(&mut fields, "audiocodecid", codec_id(TrackKind::Audio));
    if let Some((width, height, _)) = picture(tracks) {
        put(&mut fields, "width", Some(width));
        put(&mut fields, "height", Some(height));
    }
    fields
}

/// Puts `value` where the first `key` stands, or at the end; `None` removes the key.
fn put(fields: &mut Vec<(String, Value)>, key: &str, value: Option<f64>) {
    let place = fields.iter().position(|(name, _)| name == key);
    let mut index = 0;
    fields.retain(|(name, _)| {
        index += 1;
        name != key || (Some(index - 1) == place && value.is_some())
    });
    let Some(number) = value.map(Value::Number) else { return };
    match place {
        Some(place) => fields[place].1 = number,
        None => fields.push((key.to_owned(), number)),
    }
}

fn own(tracks: &Tracks, hevc: HevcForm) -> Vec<(String, Value)> {
    let mut fields = Vec::new();
    let mut add = |key: &str, value: Value| fields.push((key.to_owned(), value));
    if let Some(track) = tracks.first(TrackKind::Video) {
        if let Some((width, height, frames_per_second)) = picture(tracks) {
            add("width", Value::Number(width));
            add("height", Value::Number(height));
            if frames_per_second > 0.0 {
                add("framerate", Value::Number(frames_per_second));
            }
        }
        add("videocodecid", Value::Number(codec_id(track.codec, hevc)));
    }
    if let Some(track) = tracks.first(TrackKind::Audio) {
        add("audiocodecid", Value::Number(codec_id(track.codec, hevc)));
        if let TrackShape::Audio { sample_rate: sample_rate @ 1.., channels } = track.shape {
            add("audiosamplerate", Value::Number(f64::from(sample_rate)));
            add("stereo", Value::Boolean(channels != 1));
        }
    }
    fields
}

/// Width, height and frame rate of the video track, if its size is known.
fn picture(tracks: &Tracks) -> Option<(f64, f64, f64)> {
    match tracks.first(TrackKind::Video)?.shape {
        TrackShape::Video { width: width @ 1.., height: height @ 1.., frames_per_second } => {
            Some((f64::from(width), f64::from(height), f64::from(frames_per_second)))
        }
        _ => None,
    }
}

/// `videocodecid` and `audiocodecid`: the classic number, or the FourCC read as one.
fn codec_id(codec: Codec, hevc: HevcForm) -> f64 {
    let four_cc = |name: &[u8; 4]| f64::from(u32::from_be_bytes(*name));
    match (codec, hevc) {
        (Codec::H264, _) => 7.0,
        (Codec::H265, HevcForm::Legacy) => f64::from(HEVC_LEGACY_ID),
        (Codec::H265, HevcForm::Enhanced) => four_cc(b"hvc1"),
        (Codec::Av1, _) => four_cc(b"av01"),
        (Codec::Vp8, _) => four_cc(b"vp08"),
        (Codec::Vp9, _) => four_cc(b"vp09"),
        (Codec::Aac, _) => 10.0,
        (Codec::Opus, _) => four_cc(b"Opus"),
        (Codec::Mp3, _) => 2.0,
        (Codec::G711A, _) => 7.0,
        (Codec::G711U, _) => 8.0,
        (Codec::Script, _) => 0.0,
    }
}
