//! One payload type's `rtpmap` and `fmtp` → [`RtpPayload`].
//!
//! The RFCs are those that [`super`] names. Parameter sets and configs from here only help a player to begin sooner: what is missing or
//! broken is left out, because the packets may bring it. Limits: [`CLOCK_RATES`]; [`SETS_MAX`] parameter sets of a kind, of [`SET_BYTES_MAX`]; names of
//! unknown codecs are cut at [`NAME_CHARS_MAX`].

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;

use super::Unusable;
use crate::format::rtp::payload::{CLOCK_RATES, VIDEO_CLOCK_RATE};
use crate::format::rtp::{PayloadForm, RtpPayload};
use crate::media::Codec;
use crate::media::aac::AacConfig;
use crate::media::h264::{self, AvcConfig};
use crate::media::h265::{self, HevcConfig};
use crate::media::latm::StreamMux;
use crate::media::nal::{SET_BYTES_MAX, SETS_MAX, annex_b_units, starts_with_start_code};
use crate::media::opus::{OpusHead, SAMPLE_RATE};

const NAME_CHARS_MAX: usize = 64;

/// Of G.711, if it is not said, in Hz.
const G711_CLOCK_RATE: u32 = 8_000;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true),
);

/// The parameters of one payload type: `name=value; name=value`, perhaps over several lines.
pub(super) struct Parameters<'a>(Vec<&'a str>);

impl<'a> Parameters<'a> {
    pub fn new(lines: Vec<&'a str>) -> Self {
        Parameters(lines)
    }

    /// The first value of `name`, whose case does not matter. A value may contain `=`.
    fn value(&self, name: &str) -> Option<&'a str> {
        let pairs = self.0.iter().flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
        let mut values = pairs.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value);
        values.next().map(|value| value.trim().trim_matches('"'))
    }

    fn number(&self, name: &str) -> Option<u32> {
        self.value(name)?.parse().ok()
    }

    fn is_set(&self, name: &str) -> bool {
        self.number(name).is_some_and(|number| number > 0)
    }

    /// The NAL units of a list of parameter sets, without start codes.
    fn nal_units(&self, name: &str) -> Vec<Bytes> {
        let sets = self.value(name).unwrap_or_default().split(',').take(SETS_MAX);
        let decoded = sets.filter_map(|set| BASE64.decode(set.trim()).ok());
        decoded.flat_map(units_of_set).filter(|unit| (1..=SET_BYTES_MAX).contains(&unit.len())).take(SETS_MAX).collect()
    }

    fn hex(&self, name: &str) -> Option<Vec<u8>> {
        let digits = self.value(name)?.as_bytes();
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|value| value as u8);
        digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
    }
}

/// Some cameras put start codes in front, and several sets into one.
fn units_of_set(set: Vec<u8>) -> Vec<Bytes> {
    if starts_with_start_code(&set) {
        return annex_b_units(&set).map(Bytes::copy_from_slice).collect();
    }
    vec![set.into()]
}

/// `name/clock rate/channels`; zeros: not said.
struct Encoding<'a> {
    name: &'a str,
    clock_rate: u32,
    channels: u8,
}

impl<'a> Encoding<'a> {
    fn parse(map: &'a str) -> Self {
        let mut fields = map.split('/').map(str::trim);
        Encoding {
            name: fields.next().unwrap_or_default(),
            clock_rate: fields.next().and_then(|rate| rate.parse().ok()).unwrap_or(0),
            channels: fields.next().and_then(|channels| channels.parse().ok()).unwrap_or(0),
        }
    }

    /// RFC 3551 §6, as far as it is carried.
    fn of_static(payload_type: u8) -> Option<Encoding<'static>> {
        match payload_type {
            0 => Some(Encoding { name: "PCMU", clock_rate: G711_CLOCK_RATE, channels: 1 }),
            8 => Some(Encoding { name: "PCMA", clock_rate: G711_CLOCK_RATE, channels: 1 }),
            14 => Some(Encoding { name: "MPA", clock_rate: VIDEO_CLOCK_RATE, channels: 0 }),
            _ => None,
        }
    }

    fn clock_rate_or(&self, default: u32) -> u32 {
        if self.clock_rate == 0 { default } else { self.clock_rate }
    }
}

/// `map`: what stands in the `rtpmap` behind the payload type; `None`: there is none.
pub(super) fn payload(payload_type: u8, map: Option<&str>, parameters: &Parameters<'_>) -> Result<RtpPayload, Unusable> {
    let encoding = map.map(Encoding::parse).or_else(|| Encoding::of_static(payload_type));
    let Some(encoding) = encoding else { return Err(Unusable::Codec(format!("payload type {payload_type}"))) };
    let video = |codec, form, config| RtpPayload {
        payload_type,
        clock_rate: encoding.clock_rate_or(VIDEO_CLOCK_RATE),
        codec,
        form,
        channels: 0,
        config,
    };
    let audio =
        |codec, form, clock_rate, channels, config| RtpPayload { payload_type, clock_rate, codec, form, channels, config };
    let g711 = |codec| {
        let clock_rate = encoding.clock_rate_or(G711_CLOCK_RATE);
        audio(codec, PayloadForm::G711, clock_rate, encoding.channels.max(1), Bytes::new())
    };
    let payload = match encoding.name.to_ascii_uppercase().as_str() {
        "H264" if parameters.number("packetization-mode") == Some(2) => return Err(Unusable::Interleaved),
        "H264" => video(Codec::H264, PayloadForm::H264, avc_record(parameters)),
        "H265" | "HEVC" => {
            let donl = parameters.is_set("sprop-max-don-diff");
            video(Codec::H265, PayloadForm::H265 { donl }, hevc_record(parameters))
        }
        "AV1" => video(Codec::Av1, PayloadForm::Av1, Bytes::new()),
        "VP8" => video(Codec::Vp8, PayloadForm::Vp8, Bytes::new()),
        "VP9" => video(Codec::Vp9, PayloadForm::Vp9, Bytes::new()),
        "MPEG4-GENERIC" => {
            let (form, clock_rate, channels, config) = mpeg4_generic(&encoding, parameters)?;
            audio(Codec::Aac, form, clock_rate, channels, config)
        }
        "MP4A-LATM" => {
            let (form, clock_rate, channels, config) = latm(&encoding, parameters)?;
            audio(Codec::Aac, form, clock_rate, channels, config)
        }
        "OPUS" => {
            let head = opus_head(&encoding, parameters);
            audio(Codec::Opus, PayloadForm::Opus, SAMPLE_RATE, head.channels, head.build())
        }
        "PCMU" => g711(Codec::G711U),
        "PCMA" => g711(Codec::G711A),
        "MPA" => audio(Codec::Mp3, PayloadForm::Mpa, encoding.clock_rate_or(VIDEO_CLOCK_RATE), encoding.channels, Bytes::new()),
        _ => return Err(Unusable::Codec(shown(encoding.name))),
    };
    if CLOCK_RATES.contains(&payload.clock_rate) { Ok(payload) } else { Err(Unusable::Parameters) }
}

/// A name as it may stand in a message.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect()
}

/// Empty unless there is a readable SPS and a PPS.
fn avc_record(parameters: &Parameters<'_>) -> Bytes {
    let units = parameters.nal_units("sprop-parameter-sets");
    let of_type = |kind| -> Vec<Bytes> { units.iter().filter(|unit| h264::nal_type(unit[0]) == kind).cloned().collect() };
    let (sps, pps) = (of_type(h264::NAL_SPS), of_type(h264::NAL_PPS));
    let is_readable = sps.first().is_some_and(|sps| h264::Sps::parse(sps).is_some());
    if is_readable && !pps.is_empty() { AvcConfig::record(&sps, &pps) } else { Bytes::new() }
}

/// Empty unless there is a VPS, a readable SPS and a PPS. What a set is says its header, not the parameter it stands in.
fn hevc_record(parameters: &Parameters<'_>) -> Bytes {
    let names = ["sprop-vps", "sprop-sps", "sprop-pps"];
    let units: Vec<Bytes> = names.iter().flat_map(|name| parameters.nal_units(name)).collect();
    let of_type = |kind| -> Vec<Bytes> { units.iter().filter(|unit| h265::nal_type(unit[0]) == kind).cloned().collect() };
    let (vps, sps, pps) = (of_type(h265::NAL_VPS), of_type(h265::NAL_SPS), of_type(h265::NAL_PPS));
    let is_readable = sps.first().is_some_and(|sps| h265::Sps::parse(sps).is_some());
    if is_readable && !vps.is_empty() && !pps.is_empty() { HevcConfig::record(&vps, &sps, &pps) } else { Bytes::new() }
}

/// Form, clock rate, channels and AudioSpecificConfig of AAC.
type Aac = (PayloadForm, u32, u8, Bytes);

/// RFC 3640 §3.3.5 and §3.3.6. A missing config is made from the `rtpmap`.
fn mpeg4_generic(encoding: &Encoding<'_>, parameters: &Parameters<'_>) -> Result<Aac, Unusable> {
    // Sizes of fields that no mode for AAC has.
    let others =
        ["ctsdeltalength", "dtsdeltalength", "randomaccessindication", "streamstateindication", "auxiliarydatasizelength"];
    let (size, index) = match parameters.value("mode") {
        Some(mode) if mode.eq_ignore_ascii_case("AAC-lbr") => (6, 2),
        Some(mode) if !mode.eq_ignore_ascii_case("AAC-hbr") => return Err(Unusable::Parameters),
        _ => (13, 3),
    };
    let bits = |name, default| match parameters.value(name) {
        None => Ok(default),
        Some(text) => text.parse::<u8>().ok().filter(|bits| *bits <= 32).ok_or(Unusable::Parameters),
    };
    let form = PayloadForm::AacHbr {
        size_bits: bits("sizelength", size)?,
        index_bits: bits("indexlength", index)?,
        index_delta_bits: bits("indexdeltalength", index)?,
    };
    if others.iter().any(|name| parameters.is_set(name)) {
        return Err(Unusable::Parameters);
    }
    let given = parameters.hex("config").filter(|config| AacConfig::parse(config).is_some());
    let config = match (given, encoding.clock_rate) {
        (Some(config), _) => config.into(),
        (None, 0) => return Err(Unusable::Parameters),
        (None, rate) => AacConfig::build_lc(rate, encoding.channels.max(1)),
    };
    aac(encoding, form, config)
}

/// RFC 6416 §7.3. Without `cpresent=0` the packets may bring the config.
fn latm(encoding: &Encoding<'_>, parameters: &Parameters<'_>) -> Result<Aac, Unusable> {
    let config_in_band = parameters.number("cpresent") != Some(0);
    let stated = parameters.hex("config");
    let config = stated.and_then(|mux| StreamMux::parse(&mux).map(|mux| mux.config).or_else(|| config_at_end(&mux)));
    match config.filter(|config| AacConfig::parse(config).is_some()) {
        None if !config_in_band => Err(Unusable::Parameters),
        config => aac(encoding, PayloadForm::Latm { config_in_band }, config.unwrap_or_default()),
    }
}

/// GStreamer ends its StreamMuxConfig with the AudioSpecificConfig, which begins at bit 15 if there is one frame, program and layer.
fn config_at_end(stream_mux: &[u8]) -> Option<Bytes> {
    const ONE_OF_EACH: u16 = 0x4000;
    let (&[first, second], rest) = stream_mux.split_first_chunk()?;
    if u16::from_be_bytes([first, second]) & 0xFFFE != ONE_OF_EACH {
        return None;
    }
    let mut before = second;
    Some(rest.iter().map(|byte| std::mem::replace(&mut before, *byte) << 7 | byte >> 1).collect())
}

fn aac(encoding: &Encoding<'_>, form: PayloadForm, config: Bytes) -> Result<Aac, Unusable> {
    let parsed = AacConfig::parse(&config);
    let clock_rate = encoding.clock_rate_or(parsed.map_or(0, |config| config.core_sample_rate));
    if clock_rate == 0 {
        return Err(Unusable::Parameters);
    }
    let channels = parsed.map(|config| config.channels).filter(|channels| *channels > 0).unwrap_or(encoding.channels);
    Ok((form, clock_rate, channels, config))
}

/// The `rtpmap` always says two channels (RFC 7587 §7); what is sent, the parameters say.
fn opus_head(encoding: &Encoding<'_>, parameters: &Parameters<'_>) -> OpusHead {
    let channels = match parameters.number("sprop-stereo").or(parameters.number("stereo")) {
        Some(0) => 1,
        Some(_) => 2,
        None if encoding.channels == 1 => 1,
        None => 2,
    };
    OpusHead { channels, pre_skip: 0, input_sample_rate: SAMPLE_RATE }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::TrackKind;

    #[test]
    fn parameters_are_found_in_any_case_and_shape() {
        let parameters = Parameters::new(vec!["A=1; b = x=y= ;;flag; C=\"q\"", "a=2;d=7;hex=0aFFc"]);
        let cases = [("a", Some("1")), ("B", Some("x=y=")), ("c", Some("q")), ("d", Some("7")), ("flag", None), ("e", None)];
        for (name, expected) in cases {
            assert_eq!(parameters.value(name), expected, "{name}");
        }
        assert_eq!(parameters.hex("hex"), Some(vec![0x0A, 0xFF]));
        assert_eq!((parameters.hex("b"), parameters.number("b")), (None, None));
    }

    #[test]
    fn every_codec_is_audio_or_video() {
        for map in ["H264/90000", "HEVC/90000", "opus/48000/2", "PCMA", "MPA", "vp9/90000"] {
            let payload = payload(96, Some(map), &Parameters::new(vec![])).unwrap();
            assert_ne!(payload.codec.kind(), TrackKind::Data, "{map}");
            assert_ne!(payload.clock_rate, 0, "{map}");
        }
    }
}
