//! AAC: the AudioSpecificConfig, read and written, and the frames of ADTS, read.
//!
//! Spec: ISO/IEC 14496-3 §1.6.2.1 and Table 1.16/1.18/1.19, §1.6.5 (signalling of SBR and PS); ISO/IEC 13818-7 §6.2 (ADTS). Not here: raw
//! frames.

use bytes::Bytes;

use super::TrackShape;
use super::bits::BitReader;

/// By index (Table 1.18).
pub const SAMPLE_RATES: [u32; 13] = [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350];
const RATE_INDEX_EXPLICIT: u32 = 15;

const OBJECT_LC: u8 = 2;
const OBJECT_SBR: u8 = 5;
const OBJECT_SCALABLE: u8 = 6;
const OBJECT_ER_SCALABLE: u8 = 20;
const OBJECT_ER_BSAC: u8 = 22;
const OBJECT_ER_LD: u8 = 23;
const OBJECT_PS: u8 = 29;
const OBJECT_ER_ELD: u8 = 39;
const OBJECT_ESCAPE: u32 = 31;

/// What the backward-compatible extensions begin with (§1.6.5.3).
const SBR_SYNC: u32 = 0x2B7;
const PS_SYNC: u32 = 0x548;

/// Before each frame of ADTS; with a checksum two more.
pub const ADTS_HEADER_BYTES: usize = 7;
const ADTS_CRC_BYTES: usize = 2;

/// What an AudioSpecificConfig says of the sound that comes out of the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AacConfig {
    /// The core's audio object type, 2 for AAC-LC, also under SBR and PS.
    pub object_type: u8,
    /// Output rate in Hz: with SBR, twice the core's as a rule.
    pub sample_rate: u32,
    /// Rate of the core, which raw frames and ADTS headers count in.
    pub core_sample_rate: u32,
    /// Samples of a raw frame, at the core's rate.
    pub frame_samples: u16,
    /// Output channels: 2 with parametric stereo. 0: not said.
    pub channels: u8,
}

impl AacConfig {
    /// Bytes behind the config are not looked at.
    pub fn parse(config: &[u8]) -> Option<AacConfig> {
        read_config(&mut BitReader::new(config)).map(|(config, _)| config)
    }

    /// Builds a config without SBR. Object types up to 30; a rate outside the table is written out (24 bits).
    pub fn build(object_type: u8, sample_rate: u32, channels: u8) -> Bytes {
        let channel_configuration = match channels {
            8 => 7,
            1..=6 => channels,
            _ => 0,
        };
        // Object type 5, rate index 4 [rate 24], channels 4, then three zero flags.
        let (mut bits, mut count) = (u64::from(object_type & 0x1F), 5);
        match SAMPLE_RATES.iter().position(|rate| *rate == sample_rate) {
            Some(index) => (bits, count) = (bits << 4 | index as u64, count + 4),
            None => {
                bits = (bits << 4 | u64::from(RATE_INDEX_EXPLICIT)) << 24 | u64::from(sample_rate & 0xFF_FFFF);
                count += 28;
            }
        }
        (bits, count) = (bits << 7 | u64::from(channel_configuration) << 3, count + 7);
        Bytes::copy_from_slice(&(bits << (64 - count)).to_be_bytes()[..count / 8])
    }

    /// An AAC-LC config.
    pub fn build_lc(sample_rate: u32, channels: u8) -> Bytes {
        AacConfig::build(OBJECT_LC, sample_rate, channels)
    }

    pub fn shape(&self) -> TrackShape {
        TrackShape::Audio { sample_rate: self.sample_rate, channels: self.channels }
    }
}

/// The sync word, with layer 0 (ISO/IEC 13818-7 §6.2).
pub fn is_adts(bytes: &[u8]) -> bool {
    matches!(bytes, [0xFF, second, ..] if second & 0xF6 == 0xF0)
}

/// The length that an ADTS header says its frame has, header and all; `None`: it is none.
pub fn adts_bytes(bytes: &[u8]) -> Option<usize> {
    let header = bytes.first_chunk::<ADTS_HEADER_BYTES>().filter(|header| is_adts(&header[..]))?;
    SAMPLE_RATES.get(usize::from(header[2] >> 2 & 0x0F))?;
    let length = usize::from(header[3] & 3) << 11 | usize::from(header[4]) << 3 | usize::from(header[5] >> 5);
    (length > ADTS_HEADER_BYTES).then_some(length)
}

/// One ADTS frame: its AudioSpecificConfig, the raw frame, and what is behind.
pub fn adts_frame(bytes: &[u8]) -> Option<(Bytes, &[u8], &[u8])> {
    let header = bytes.first_chunk::<ADTS_HEADER_BYTES>()?;
    let (frame, behind) = bytes.split_at_checked(adts_bytes(bytes)?)?;
    let crc_bytes = if header[1] & 1 == 0 { ADTS_CRC_BYTES } else { 0 };
    let object_type = (header[2] >> 6) + 1;
    let sample_rate = *SAMPLE_RATES.get(usize::from(header[2] >> 2 & 0x0F))?;
    let channels = (header[2] & 1) << 2 | header[3] >> 6;
    let raw = frame.get(ADTS_HEADER_BYTES + crc_bytes..)?;
    let channels = if channels == 7 { 8 } else { channels };
    Some((AacConfig::build(object_type, sample_rate, channels), raw, behind))
}

/// What a frame of ADTS has in front of the raw frames of a config, but for their length; see [`AdtsHeader::of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdtsHeader {
    profile: u8,
    rate_index: u8,
    channel_configuration: u8,
}

impl AdtsHeader {
    /// Of an AudioSpecificConfig. `None`: ADTS cannot say it (object types above 4, rates outside the table, channels that are told in the
    /// raw frames). Of SBR and PS the core is said: decoders find them in the frames.
    pub fn from_config(config: &[u8]) -> Option<AdtsHeader> {
        let core = AacConfig::parse(config)?;
        let rate_index = SAMPLE_RATES.iter().position(|rate| *rate == core.core_sample_rate)? as u8;
        let mut bits = BitReader::new(config);
        object_type(&mut bits)?;
        sample_rate(&mut bits)?;
        let channel_configuration = bits.bits(4)? as u8;
        let is_said = matches!(core.object_type, 1..=4) && matches!(channel_configuration, 1..=7) && core.frame_samples == 1_024;
        is_said.then_some(AdtsHeader { profile: core.object_type - 1, rate_index, channel_configuration })
    }

    /// Of a raw frame of so many bytes; `None`: it has too many.
    pub fn of(self, raw_bytes: usize) -> Option<[u8; ADTS_HEADER_BYTES]> {
        let AdtsHeader { profile, rate_index, channel_configuration } = self;
        let length = u16::try_from(raw_bytes + ADTS_HEADER_BYTES).ok().filter(|length| *length < 1 << 13)?;
        Some([
            0xFF,
            0xF1,
            profile << 6 | rate_index << 2 | channel_configuration >> 2,
            channel_configuration << 6 | (length >> 11) as u8,
            (length >> 3) as u8,
            // The fullness of the buffer: a variable bit rate.
            (length << 5) as u8 | 0x1F,
            0xFC,
        ])
    }
}

fn object_type(bits: &mut BitReader<'_>) -> Option<u8> {
    let short = bits.bits(5)?;
    let object_type = if short == OBJECT_ESCAPE { 32 + bits.bits(6)? } else { short };
    (object_type != 0).then_some(object_type as u8)
}

/// `frameLengthFlag`, which GASpecificConfig (§4.4.1) and ELDSpecificConfig (§4.6.20) begin with.
fn frame_samples(mut bits: BitReader<'_>, object_type: u8) -> u16 {
    match (object_type, bits.flag().unwrap_or(false)) {
        (OBJECT_ER_LD | OBJECT_ER_ELD, false) => 512,
        (OBJECT_ER_LD | OBJECT_ER_ELD, true) => 480,
        (_, false) => 1_024,
        (_, true) => 960,
    }
}

fn sample_rate(bits: &mut BitReader<'_>) -> Option<u32> {
    let index = bits.bits(4)?;
    if index == RATE_INDEX_EXPLICIT { bits.bits(24) } else { SAMPLE_RATES.get(index as usize).copied() }
}

/// Table 1.19; 0 for "in the program config".
fn channel_count(configuration: u32) -> u8 {
    match configuration {
        1..=6 => configuration as u8,
        7 | 12 | 14 => 8,
        11 => 7,
        13 => 24,
        _ => 0,
    }
}

/// Reads an AudioSpecificConfig with its backward-compatible extension, and says whether all of it was understood, so that what follows
/// it begins here.
pub(crate) fn read_config(bits: &mut BitReader<'_>) -> Option<(AacConfig, bool)> {
    let mut kind = object_type(bits)?;
    let core_sample_rate = sample_rate(bits)?;
    let channel_configuration = bits.bits(4)?;
    let mut sample_rate_out = core_sample_rate;
    let mut parametric_stereo = kind == OBJECT_PS;
    let explicit_sbr = matches!(kind, OBJECT_SBR | OBJECT_PS);
    if explicit_sbr {
        sample_rate_out = sample_rate(bits)?;
        kind = object_type(bits)?;
        if kind == OBJECT_ER_BSAC {
            bits.skip(4)?;
        }
    }
    let frame_samples = frame_samples(bits.clone(), kind);
    let mut channels = channel_count(channel_configuration);
    // What follows is optional detail: a config that ends here is still of use.
    let in_program = general_config(bits, kind, channel_configuration);
    channels = channels.max(in_program.unwrap_or(0));
    if in_program.is_some() && !explicit_sbr {
        let (rate, stereo) = sync_extension(bits);
        (sample_rate_out, parametric_stereo) = (rate.unwrap_or(core_sample_rate), stereo);
    }
    if parametric_stereo && channels == 1 {
        channels = 2;
    }
    let config = AacConfig { object_type: kind, sample_rate: sample_rate_out, core_sample_rate, frame_samples, channels };
    Some((config, in_program.is_some()))
}

/// GASpecificConfig (§4.4.1): reads to its end and returns the channels of its program config, if it has one.
fn general_config(bits: &mut BitReader<'_>, object_type: u8, channel_configuration: u32) -> Option<u8> {
    if !matches!(object_type, 1..=4 | OBJECT_SCALABLE | 7 | 17 | 19..=23) {
        return None;
    }
    bits.skip(1)?;
    if bits.flag()? {
        bits.skip(14)?;
    }
    let extended = bits.flag()?;
    let channels = if channel_configuration == 0 { program_config(bits)? } else { 0 };
    if matches!(object_type, OBJECT_SCALABLE | OBJECT_ER_SCALABLE) {
        bits.skip(3)?;
    }
    if extended {
        match object_type {
            OBJECT_ER_BSAC => bits.skip(16)?,
            17 | 19 | 20 | 23 => bits.skip(3)?,
            _ => {}
        }
        bits.skip(1)?;
    }
    Some(channels)
}

/// program_config_element (Table 4.2): the sum of its channels.
fn program_config(bits: &mut BitReader<'_>) -> Option<u8> {
    bits.skip(10)?;
    let (front, side, back, low) = (bits.bits(4)?, bits.bits(4)?, bits.bits(4)?, bits.bits(2)?);
    let (data, coupled) = (bits.bits(3)?, bits.bits(4)?);
    for mixdown_bits in [4, 4, 3] {
        if bits.flag()? {
            bits.skip(mixdown_bits)?;
        }
    }
    let mut channels = low;
    for _ in 0..front + side + back {
        // A pair or one channel.
        channels += if bits.flag()? { 2 } else { 1 };
        bits.skip(4)?;
    }
    bits.skip(((low + data) * 4 + coupled * 5) as usize)?;
    bits.skip(bits.bits_left() % 8)?;
    let comment_bytes = bits.bits(8)?;
    bits.skip(comment_bytes as usize * 8)?;
    Some(channels as u8)
}

/// §1.6.5.3, backward compatible signalling: the output rate, if it says one, and whether there is parametric stereo. Reads over what is
/// there and nothing else.
fn sync_extension(bits: &mut BitReader<'_>) -> (Option<u32>, bool) {
    let mut ahead = bits.clone();
    let is_sbr = ahead.bits(11) == Some(SBR_SYNC) && ahead.bits(5) == Some(OBJECT_SBR.into());
    let Some(has_rate) = ahead.flag().filter(|_| is_sbr) else { return (None, false) };
    *bits = ahead.clone();
    let Some(rate) = has_rate.then(|| sample_rate(&mut ahead)).flatten() else { return (None, false) };
    *bits = ahead.clone();
    let stereo = ahead.bits(11).filter(|sync| *sync == PS_SYNC).and_then(|_| ahead.flag());
    if stereo.is_some() {
        *bits = ahead;
    }
    (Some(rate), stereo == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_configs_of_real_encoders() {
        type Case<'a> = (&'a str, &'a [u8], (u8, u32, u32, u8));
        let cases: [Case<'_>; 9] = [
            ("LC 44.1 kHz mono", &[0x12, 0x08], (2, 44100, 44100, 1)),
            ("LC 48 kHz stereo", &[0x11, 0x90], (2, 48000, 48000, 2)),
            ("with explicit no-SBR", &[0x12, 0x10, 0x56, 0xE5, 0x00], (2, 44100, 44100, 2)),
            ("SBR, backward compatible", &[0x13, 0x10, 0x56, 0xE5, 0x98], (2, 48000, 24000, 2)),
            ("SBR and PS, backward compatible", &[0x13, 0x08, 0x56, 0xE5, 0x9D, 0x48, 0x80], (2, 48000, 24000, 2)),
            ("SBR, hierarchical", &[0x2B, 0x11, 0x88, 0x00], (2, 48000, 24000, 2)),
            ("PS, hierarchical", &[0xEB, 0x09, 0x88, 0x00], (2, 48000, 24000, 2)),
            ("explicit rate", &[0x17, 0x80, 0x1F, 0x40, 0x10], (2, 16000, 16000, 2)),
            ("7.1", &[0x11, 0xB8], (2, 48000, 48000, 8)),
        ];
        for (name, config, (object_type, sample_rate, core_sample_rate, channels)) in cases {
            let expected = AacConfig { object_type, sample_rate, core_sample_rate, frame_samples: 1_024, channels };
            assert_eq!(AacConfig::parse(config), Some(expected), "{name}");
            for cut in 0..config.len() {
                let _ = AacConfig::parse(&config[..cut]);
            }
        }
        for broken in [&[][..], &[0x12], &[0x00, 0x10], &[0x16, 0x90]] {
            assert_eq!(AacConfig::parse(broken), None, "{broken:x?}");
        }
    }

    #[test]
    fn headers_of_adts_read_back() {
        for (rate, channels) in [(8_000, 1), (44_100, 2), (48_000, 8), (96_000, 6)] {
            let (config, raw) = (AacConfig::build_lc(rate, channels), vec![7; 1_500]);
            let header = AdtsHeader::from_config(&config).unwrap().of(raw.len()).unwrap();
            let bytes = [&header[..], &raw, &[9]].concat();
            assert_eq!(adts_frame(&bytes), Some((config, &raw[..], &[9][..])), "{rate}, {channels}");
        }
        let core = AdtsHeader::from_config(&[0xEB, 0x09, 0x88, 0x00]).unwrap().of(100).unwrap();
        assert_eq!(
            adts_frame(&[&core[..], &[0; 100]].concat()).unwrap().0,
            AacConfig::build_lc(24_000, 1),
            "SBR and PS: the core"
        );
        let not_said: [(&str, Bytes); 4] = [
            ("a rate outside the table", AacConfig::build_lc(12_345, 2)),
            ("channels in the frames", Bytes::from_static(&[0x11, 0x80, 0, 0, 0])),
            ("AAC-LD", AacConfig::build(23, 48_000, 2)),
            ("nothing", Bytes::new()),
        ];
        for (name, config) in not_said {
            assert_eq!(AdtsHeader::from_config(&config), None, "{name}");
        }
        assert_eq!(AdtsHeader::from_config(&AacConfig::build_lc(48_000, 2)).unwrap().of(8_185), None);
    }

    #[test]
    fn channels_from_a_program_config() {
        // LC 48 kHz, channel configuration 0; the program: two front pairs and one low frequency channel.
        let bits = "00010 0011 0000 000".to_owned()
            + " 0000 01 0011 0010 0000 0000 01 000 0000 000 1 0000 1 0001 0000"
            + " 0000000"
            + " 00000000";
        let bits: Vec<u8> = bits.bytes().filter(|bit| *bit != b' ').map(|bit| bit - b'0').collect();
        let config: Vec<u8> =
            bits.chunks(8).map(|byte| byte.iter().fold(0, |value, bit| value << 1 | bit) << (8 - byte.len())).collect();
        assert_eq!(AacConfig::parse(&config).unwrap().channels, 5);
    }

    #[test]
    fn what_is_built_reads_back() {
        assert_eq!(&AacConfig::build_lc(44100, 1)[..], &[0x12, 0x08]);
        assert_eq!(&AacConfig::build_lc(48000, 2)[..], &[0x11, 0x90]);
        for rate in [8000, 16000, 44100, 48000, 96000, 12345] {
            for channels in [1, 2, 6, 8] {
                let parsed = AacConfig::parse(&AacConfig::build(2, rate, channels)).unwrap();
                assert_eq!((parsed.object_type, parsed.sample_rate, parsed.channels), (2, rate, channels));
            }
        }
    }
}
