//! What several targets share: choices read from the input, payloads fed to a depacketizer, and what every frame must be.
//!
//! Everything is made from the input alone, so a run can be repeated. Not here: what a target asserts.

pub mod elementary;

use bytes::Bytes;
use shardcast::format::rtp::depacketize::{Depacketized, Depacketizer, Piece};
use shardcast::format::rtp::{PayloadForm, RtpPayload};
use shardcast::media::aac::AacConfig;
use shardcast::media::h264::AvcConfig;
use shardcast::media::h265::HevcConfig;
use shardcast::media::{Codec, Stamp, Track, TrackId, TrackKind, TrackShape};

/// Records of real encoders.
pub const AVCC: &[u8] = include_bytes!("../../tests/corpus/h264/avcc");
pub const HVCC: &[u8] = include_bytes!("../../tests/corpus/h265/hvcc");

/// Bytes that one run feeds at most, repetitions included: more than five units in progress may have.
const FED_BYTES_MAX: usize = 44 * 1024 * 1024;

/// The input, read as choices; zeros when it is used up.
#[derive(Clone)]
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub fn new(input: &'a [u8]) -> Self {
        Choices(input)
    }

    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub fn word(&mut self) -> u16 {
        u16::from(self.byte()) << 8 | u16::from(self.byte())
    }

    pub fn number(&mut self) -> u32 {
        u32::from(self.word()) << 16 | u32::from(self.word())
    }

    /// Fewer at the end.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Bytes behind their number, which has two bytes.
    pub fn sized(&mut self) -> &'a [u8] {
        let count = self.word();
        self.bytes(count.into())
    }

    pub fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// A payload format without anything known from outside.
pub fn payload(codec: Codec, form: PayloadForm, clock_rate: u32) -> RtpPayload {
    RtpPayload { payload_type: 96, clock_rate, codec, form, channels: 1, config: Bytes::new() }
}

/// Feeds a depacketizer what `choices` say, checking everything that comes out. Each packet is a byte of flags (marker; loss before; restart
/// before; two bits for the timestamp: the same, the next, a step of 16 or of 32 bits; three set for repeated), its step, how often, and a
/// sized payload.
pub fn depacketize(payload: &RtpPayload, choices: &mut Choices<'_>) {
    let mut depacketizer = Depacketizer::new(payload);
    let mut out = Vec::new();
    let (mut timestamp, mut fed, mut given, mut packets, mut results) = (0i64, 0, 0, 0, 0);
    while !choices.is_over() && fed < FED_BYTES_MAX {
        let flags = choices.byte();
        timestamp += match flags >> 3 & 3 {
            0 => 0,
            1 => 3_000,
            2 => i64::from(choices.word().cast_signed()),
            _ => i64::from(choices.number().cast_signed()),
        };
        let times = if flags >= 0xE0 { u16::from(choices.byte()) * 8 + 1 } else { 1 };
        let bytes = choices.sized();
        if flags & 2 != 0 {
            depacketizer.lost(&mut out);
        }
        if flags & 4 != 0 {
            depacketizer.restart();
        }
        for _ in 0..times {
            fed += bytes.len() + 1;
            packets += 1;
            depacketizer.push(Piece { payload: bytes, timestamp, marker: flags & 1 != 0, arrival: Stamp::ZERO }, &mut out);
            results += out.len();
            for result in out.drain(..) {
                given += check(payload, &result);
            }
        }
    }
    // A NAL unit in an aggregate has two bytes of length and then four, one by itself none and then four; one in fragments a header
    // less and then four; an OBU may get a size.
    assert!(given <= 3 * fed + 8 * packets, "{given} bytes of {fed}");
    assert!(results <= fed + 4 * packets, "{results} results of {fed} bytes");
}

/// Fails unless a result is one that may go on; the bytes of its unit.
pub fn check(payload: &RtpPayload, result: &Depacketized) -> usize {
    match result {
        Depacketized::Config(config) => {
            check_config(payload.codec, config);
            0
        }
        Depacketized::Unit(unit) => {
            check_unit(payload.codec, &unit.data);
            assert!(unit.key || !matches!(payload.form, PayloadForm::Opus | PayloadForm::G711 | PayloadForm::Mpa));
            unit.data.len()
        }
        Depacketized::Discarded(_) | Depacketized::Lost => 0,
    }
}

/// A track as an encoder could have announced it.
pub fn track(id: u8, codec: Codec) -> Track {
    let config = match codec {
        Codec::H264 => Bytes::from_static(AVCC),
        Codec::H265 => Bytes::from_static(HVCC),
        Codec::Aac => AacConfig::build_lc(44_100, 2),
        _ => Bytes::new(),
    };
    let shape = match codec.kind() {
        TrackKind::Video => TrackShape::Video { width: 0, height: 0, frames_per_second: 0.0 },
        _ => TrackShape::Audio { sample_rate: 8_000, channels: 1 },
    };
    Track { id: TrackId(id), codec, config, shape }
}

/// Fails unless a decoder configuration can be read.
pub fn check_config(codec: Codec, config: &Bytes) {
    let can_be_read = match codec {
        Codec::H264 => AvcConfig::parse(config).is_ok_and(|config| !config.sps.is_empty() && !config.pps.is_empty()),
        Codec::H265 => HevcConfig::parse(config).is_ok_and(|config| !config.sps.is_empty() && !config.pps.is_empty()),
        Codec::Aac => AacConfig::parse(config).is_some(),
        _ => true,
    };
    assert!(can_be_read, "{codec:?}: {config:x?}");
}

/// Fails unless `data` is what `shardcast::media` says of frames of this codec.
pub fn check_unit(codec: Codec, data: &[u8]) {
    assert!(!data.is_empty());
    match codec {
        Codec::H264 => {
            let kinds: Vec<u8> = nal_units(data, 1).iter().map(|nal| nal[0] & 0x1F).collect();
            assert!(kinds.iter().all(|kind| matches!(kind, 1..=6 | 10..=23)), "{kinds:?}");
            assert!(kinds.iter().any(|kind| *kind <= 5), "no slice: {kinds:?}");
        }
        Codec::H265 => {
            let kinds: Vec<u8> = nal_units(data, 2).iter().map(|nal| nal[0] >> 1 & 0x3F).collect();
            assert!(kinds.iter().all(|kind| matches!(kind, 0..=31 | 36..=47)), "{kinds:?}");
            assert!(kinds.iter().any(|kind| *kind <= 31), "no slice: {kinds:?}");
        }
        Codec::Av1 => {
            let kinds = obu_kinds(data);
            assert!(kinds.iter().all(|kind| *kind != 2), "a temporal delimiter: {kinds:?}");
        }
        _ => {}
    }
}

/// The NAL units of a canonical access unit.
pub fn nal_units(mut data: &[u8], header_bytes: usize) -> Vec<&[u8]> {
    let mut units = Vec::new();
    while !data.is_empty() {
        let (length, rest) = data.split_first_chunk::<4>().expect("a length");
        let (unit, behind) = rest.split_at_checked(u32::from_be_bytes(*length) as usize).expect("as many bytes as said");
        assert!(unit.len() >= header_bytes, "a NAL unit without its header");
        units.push(unit);
        data = behind;
    }
    units
}

/// The types of the open bitstream units of a temporal unit, each of which must have its size.
fn obu_kinds(mut data: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let [header, rest @ ..] = data {
        assert!(header & 2 != 0, "an OBU without a size");
        let mut choices = Choices::new(if header & 4 != 0 { &rest[1..] } else { rest });
        let mut size = 0;
        for at in 0..5 {
            let byte = choices.byte();
            size |= usize::from(byte & 0x7F) << (7 * at);
            if byte & 0x80 == 0 {
                break;
            }
        }
        assert_eq!(choices.bytes(size).len(), size, "as many bytes as said");
        kinds.push(header >> 3 & 0x0F);
        data = choices.rest();
    }
    kinds
}
