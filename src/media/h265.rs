//! H.265: the decoder configuration record (`hvcC`) and the sequence parameter set, as far as the server needs them.
//!
//! Spec: ISO/IEC 14496-15 §8.3.3 (record), ITU-T H.265 §7.3.2.2, §7.3.3, §7.3.4, §7.3.7 and Annex E (SPS). Parameter sets share the
//! record's memory. Not here: slices, and the framing of access units ([`super::nal`]).

use bytes::{BufMut, Bytes, BytesMut};

use super::TrackShape;
use super::bits::{BitReader, rbsp, rbsp_start};
use super::h264::{frame_rate, parameter_sets, put_parameter_sets, skip_vui_colours, take};
use super::nal::ConfigError;

/// `nal_unit_type` (Table 7-1), as far as the server tells them apart.
pub const NAL_VPS: u8 = 32;
pub const NAL_SPS: u8 = 33;
pub const NAL_PPS: u8 = 34;
pub const NAL_AUD: u8 = 35;
pub const NAL_PREFIX_SEI: u8 = 39;

/// `nal_unit_type` of a NAL unit whose header begins with this byte.
pub const fn nal_type(header: u8) -> u8 {
    header >> 1 & 0x3F
}

/// Whether a NAL unit is an access unit delimiter.
pub fn is_aud(nal: &[u8]) -> bool {
    nal.first().is_some_and(|header| nal_type(*header) == NAL_AUD)
}

/// The id of a video parameter set.
pub fn vps_id(nal: &[u8]) -> Option<u32> {
    BitReader::new(nal.get(2..)?).bits(4)
}

/// The id of a sequence parameter set.
pub fn sps_id(nal: &[u8]) -> Option<u32> {
    let payload = rbsp_start(nal.get(2..)?);
    let mut bits = BitReader::new(&payload);
    bits.skip(4)?;
    let sub_layers = bits.bits(3)?;
    bits.skip(1)?;
    skip_profile_tier_level(&mut bits, sub_layers)?;
    bits.ue()
}

/// The id of a picture parameter set, and that of the sequence parameter set it refers to.
pub fn pps_ids(nal: &[u8]) -> Option<(u32, u32)> {
    let payload = rbsp_start(nal.get(2..)?);
    let mut bits = BitReader::new(&payload);
    Some((bits.ue()?, bits.ue()?))
}

/// What a sequence parameter set says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sps {
    /// Profile, tier, compatibility, constraints and level, as the first 12 bytes of `profile_tier_level`.
    pub general: [u8; 12],
    /// Temporal layers: 1 to 7.
    pub temporal_layers: u8,
    pub temporal_id_nested: bool,
    /// After cropping, in pixels.
    pub width: u32,
    pub height: u32,
    /// From the VUI's timing; 0: not said.
    pub frames_per_second: f32,
    /// `chroma_format_idc`: 1 for 4:2:0.
    pub chroma_format: u8,
    pub bit_depth_luma: u8,
    pub bit_depth_chroma: u8,
    /// How many pictures may come before one in decoding order and behind it in output order; `None`: not said.
    pub reorder_pictures: Option<u8>,
}

impl Sps {
    /// `nal`: a NAL unit with its two header bytes. What is cut off behind the picture's size only costs the frame rate.
    pub fn parse(nal: &[u8]) -> Option<Sps> {
        let payload = rbsp(nal.get(2..)?);
        let mut bits = BitReader::new(&payload);
        bits.skip(4)?;
        let sub_layers = bits.bits(3)?;
        let temporal_id_nested = bits.flag()?;
        let general = payload.get(1..13)?.try_into().ok()?;
        skip_profile_tier_level(&mut bits, sub_layers)?;
        bits.ue()?;
        let chroma_format = u8::try_from(bits.ue()?).ok().filter(|format| *format <= 3)?;
        if chroma_format == 3 {
            bits.skip(1)?;
        }
        let (coded_width, coded_height) = (bits.ue()?, bits.ue()?);
        let (crop_x, crop_y) = cropping(&mut bits, chroma_format)?;
        let mut bit_depth = || u8::try_from(bits.ue()?).ok().filter(|depth| *depth <= 8).map(|depth| depth + 8);
        let (bit_depth_luma, bit_depth_chroma) = (bit_depth()?, bit_depth()?);
        let mut reorder_pictures = None;
        Some(Sps {
            general,
            temporal_layers: sub_layers as u8 + 1,
            temporal_id_nested,
            width: coded_width.checked_sub(crop_x)?,
            height: coded_height.checked_sub(crop_y)?,
            chroma_format,
            bit_depth_luma,
            bit_depth_chroma,
            frames_per_second: frames_per_second(&mut bits, sub_layers, &mut reorder_pictures).unwrap_or(0.0),
            reorder_pictures,
        })
    }
}

/// §7.3.3
fn skip_profile_tier_level(bits: &mut BitReader<'_>, sub_layers: u32) -> Option<()> {
    const PROFILE_BITS: usize = 88;
    const LEVEL_BITS: usize = 8;
    bits.skip(PROFILE_BITS + LEVEL_BITS)?;
    if sub_layers == 0 {
        return Some(());
    }
    let mut skipped = 0;
    for layer in 0..8 {
        let (profile, level) = (bits.flag()?, bits.flag()?);
        if layer < sub_layers {
            skipped += if profile { PROFILE_BITS } else { 0 } + if level { LEVEL_BITS } else { 0 };
        }
    }
    bits.skip(skipped)
}

/// Luma samples cut off in each direction by the conformance window.
fn cropping(bits: &mut BitReader<'_>, chroma_format: u8) -> Option<(u32, u32)> {
    if !bits.flag()? {
        return Some((0, 0));
    }
    let (left, right, top, bottom) = (bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?);
    let (unit_x, unit_y) = match chroma_format {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    Some((left.checked_add(right)?.checked_mul(unit_x)?, top.checked_add(bottom)?.checked_mul(unit_y)?))
}

/// Reads on from behind the bit depths to the VUI's timing.
fn frames_per_second(bits: &mut BitReader<'_>, sub_layers: u32, reorder_pictures: &mut Option<u8>) -> Option<f32> {
    let order_count_bits = bits.ue()?.checked_add(4).filter(|count| *count <= 16)?;
    let ordering_entries = if bits.flag()? { sub_layers + 1 } else { 1 };
    // The entry of the highest layer comes last.
    for _ in 0..ordering_entries {
        bits.ue()?;
        *reorder_pictures = u8::try_from(bits.ue()?).ok().filter(|pictures| *pictures <= 16);
        bits.ue()?;
    }
    // Block sizes and depths.
    for _ in 0..6 {
        bits.ue()?;
    }
    if bits.flag()? && bits.flag()? {
        skip_scaling_lists(bits)?;
    }
    bits.skip(2)?;
    if bits.flag()? {
        bits.skip(8)?;
        bits.ue()?;
        bits.ue()?;
        bits.skip(1)?;
    }
    skip_short_term_sets(bits)?;
    if bits.flag()? {
        let count = bits.ue()?.min(32);
        bits.skip((count * (order_count_bits + 1)) as usize)?;
    }
    bits.skip(2)?;
    if !bits.flag()? {
        return None;
    }
    vui_frame_rate(bits)
}

/// §7.3.4
fn skip_scaling_lists(bits: &mut BitReader<'_>) -> Option<()> {
    for size in 0..4 {
        for _ in 0..if size == 3 { 2 } else { 6 } {
            if !bits.flag()? {
                bits.ue()?;
                continue;
            }
            if size > 1 {
                bits.se()?;
            }
            for _ in 0..64.min(1 << (4 + 2 * size)) {
                bits.se()?;
            }
        }
    }
    Some(())
}

/// §7.3.7. Only the number of entries of the previous set matters for finding the end of the next.
fn skip_short_term_sets(bits: &mut BitReader<'_>) -> Option<()> {
    let count = bits.ue().filter(|count| *count <= 64)?;
    let mut entries = 0;
    for index in 0..count {
        if index > 0 && bits.flag()? {
            bits.skip(1)?;
            bits.ue()?;
            let mut kept = 0;
            for _ in 0..=entries {
                let used = bits.flag()?;
                let predicted = used || bits.flag()?;
                kept += u32::from(predicted);
            }
            entries = kept;
        } else {
            let (before, after) = (bits.ue()?, bits.ue()?);
            entries = before.checked_add(after).filter(|entries| *entries <= 32)?;
            for _ in 0..entries {
                bits.ue()?;
                bits.skip(1)?;
            }
        }
    }
    Some(())
}

/// Annex E.2.1
fn vui_frame_rate(bits: &mut BitReader<'_>) -> Option<f32> {
    skip_vui_colours(bits)?;
    bits.skip(3)?;
    if bits.flag()? {
        for _ in 0..4 {
            bits.ue()?;
        }
    }
    if !bits.flag()? {
        return None;
    }
    let (ticks, per_second) = (bits.bits(32)?, bits.bits(32)?);
    frame_rate(f64::from(per_second), f64::from(ticks))
}

/// The HEVCDecoderConfigurationRecord.
///
/// ```text
/// 01 | profile … level (12 bytes) | F000 + segmentation | FC + parallelism | FC + chroma format | F8 + luma depth - 8 | F8 + chroma depth - 8
/// | frame rate u16 | constant rate (2 bits), layers (3), nested (1), length size - 1 (2) | number of arrays
/// | (complete + NAL type, u16 count, (u16 length, NAL unit)*)*
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HevcConfig {
    /// Bytes of the length in front of each NAL unit: 1 to 4.
    pub nal_length_bytes: usize,
    pub vps: Vec<Bytes>,
    pub sps: Vec<Bytes>,
    pub pps: Vec<Bytes>,
}

const FIXED_BYTES: usize = 23;
/// Offset of the byte with the length size.
pub(crate) const LENGTH_SIZE_AT: usize = 21;

impl HevcConfig {
    /// The parameter sets share `record`; arrays of other NAL units are read over. Version 0 is what some encoders write for 1.
    pub fn parse(record: &Bytes) -> Result<HevcConfig, ConfigError> {
        let mut rest = record.clone();
        let fixed = take(&mut rest, FIXED_BYTES)?;
        if fixed[0] > 1 {
            return Err(ConfigError::UnknownVersion(fixed[0]));
        }
        let nal_length_bytes = usize::from(fixed[LENGTH_SIZE_AT] & 3) + 1;
        let mut config = HevcConfig { nal_length_bytes, vps: Vec::new(), sps: Vec::new(), pps: Vec::new() };
        for _ in 0..fixed[FIXED_BYTES - 1] {
            let head = take(&mut rest, 3)?;
            let sets = parameter_sets(&mut rest, usize::from(u16::from_be_bytes([head[1], head[2]])))?;
            match head[0] & 0x3F {
                NAL_VPS => config.vps.extend(sets),
                NAL_SPS => config.sps.extend(sets),
                NAL_PPS => config.pps.extend(sets),
                _ => {}
            }
        }
        Ok(config)
    }

    /// Builds a record with 4-byte lengths. Takes the first 255 sets of each kind; sets over 65,535 bytes are left out.
    pub fn record(vps: &[Bytes], sps: &[Bytes], pps: &[Bytes]) -> Bytes {
        let first = sps.first().and_then(|sps| Sps::parse(sps));
        let mut record = BytesMut::new();
        record.put_u8(1);
        record.put_slice(&first.map_or([0; 12], |sps| sps.general));
        record.put_u16(0xF000);
        record.put_u8(0xFC);
        record.put_u8(0xFC | first.map_or(1, |sps| sps.chroma_format));
        record.put_u8(0xF8 | first.map_or(0, |sps| sps.bit_depth_luma - 8));
        record.put_u8(0xF8 | first.map_or(0, |sps| sps.bit_depth_chroma - 8));
        record.put_u16(0);
        let layers = first.map_or(1, |sps| sps.temporal_layers);
        let nested = first.is_some_and(|sps| sps.temporal_id_nested);
        record.put_u8(layers << 3 | u8::from(nested) << 2 | 3);
        let kinds = [(NAL_VPS, vps), (NAL_SPS, sps), (NAL_PPS, pps)];
        record.put_u8(kinds.len() as u8);
        for (kind, sets) in kinds {
            let sets: Vec<&Bytes> = sets.iter().filter(|set| set.len() <= usize::from(u16::MAX)).take(0xFF).collect();
            // The top bit: the array is complete.
            record.put_u8(0x80 | kind);
            record.put_u16(sets.len() as u16);
            put_parameter_sets(&sets, &mut record);
        }
        record.freeze()
    }

    /// The picture's size and rate, from the first SPS; zeros if that cannot be read.
    pub fn shape(&self) -> TrackShape {
        match self.sps.first().and_then(|sps| Sps::parse(sps)) {
            Some(Sps { width, height, frames_per_second, .. }) => TrackShape::Video { width, height, frames_per_second },
            None => TrackShape::Video { width: 0, height: 0, frames_per_second: 0.0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HVCC: &[u8] = include_bytes!("../../tests/corpus/h265/hvcc");

    #[test]
    fn sps_of_real_encoders() {
        type Case<'a> = (&'a str, &'a [u8], (u32, u32, f32, u8, u8));
        // As ffprobe reads them.
        let cases: [Case<'_>; 4] = [
            ("1080p", include_bytes!("../../tests/corpus/h265/sps_1080p"), (1920, 1080, 29.97, 1, 8)),
            ("cropped", include_bytes!("../../tests/corpus/h265/sps_318x182"), (318, 182, 25.0, 1, 8)),
            ("4:2:2 10 bit, two layers", include_bytes!("../../tests/corpus/h265/sps_422_10"), (718, 478, 50.0, 2, 10)),
            ("4:4:4", include_bytes!("../../tests/corpus/h265/sps_444"), (1278, 718, 60.0, 3, 8)),
        ];
        for (name, nal, (width, height, frames_per_second, chroma_format, depth)) in cases {
            let sps = Sps::parse(nal).unwrap();
            assert_eq!((sps.width, sps.height), (width, height), "{name}");
            assert!((sps.frames_per_second - frames_per_second).abs() < 0.01, "{name}: {}", sps.frames_per_second);
            assert_eq!((sps.chroma_format, sps.bit_depth_luma, sps.bit_depth_chroma), (chroma_format, depth, depth), "{name}");
            for cut in 0..nal.len() {
                let _ = Sps::parse(&nal[..cut]);
            }
        }
    }

    #[test]
    fn the_record_is_read_and_rebuilt() {
        let record = Bytes::from_static(HVCC);
        let config = HevcConfig::parse(&record).unwrap();
        assert_eq!((config.nal_length_bytes, config.vps.len(), config.sps.len(), config.pps.len()), (4, 1, 1, 1));
        assert_eq!(config.shape(), TrackShape::Video { width: 176, height: 144, frames_per_second: 25.0 });
        let rebuilt = HevcConfig::record(&config.vps, &config.sps, &config.pps);
        assert_eq!(HevcConfig::parse(&rebuilt).as_ref(), Ok(&config));
        // ffmpeg's record differs in the number of arrays only: it has one more, with SEI.
        assert_eq!(rebuilt[..FIXED_BYTES - 1], record[..FIXED_BYTES - 1]);
    }

    #[test]
    fn broken_records_are_refused() {
        for cut in (0..200).chain([HVCC.len() - 1]) {
            let parsed = HevcConfig::parse(&Bytes::copy_from_slice(&HVCC[..cut]));
            assert_eq!(parsed, Err(ConfigError::Truncated), "cut at {cut}");
        }
        assert_eq!(HevcConfig::parse(&Bytes::from_static(&[2; 23])), Err(ConfigError::UnknownVersion(2)));
        let no_sets = HevcConfig::parse(&HevcConfig::record(&[], &[], &[])).unwrap();
        assert_eq!(no_sets.shape(), TrackShape::Video { width: 0, height: 0, frames_per_second: 0.0 });
    }

    #[test]
    fn reference_picture_sets_may_predict_each_other() {
        // Two sets: one entry before; then predicted: sign, distance, entry unused but kept, the new one used.
        let bits = "011 010 1 1 1 1 0 1 0 1 1";
        let bits: Vec<u8> = bits.bytes().filter(|bit| *bit != b' ').map(|bit| bit - b'0').collect();
        let bytes: Vec<u8> =
            bits.chunks(8).map(|byte| byte.iter().fold(0, |value, bit| value << 1 | bit) << (8 - byte.len())).collect();
        let mut reader = BitReader::new(&bytes);
        assert_eq!((skip_short_term_sets(&mut reader), reader.bits_left()), (Some(()), 1));
    }
}
