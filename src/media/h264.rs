//! H.264: the decoder configuration record (`avcC`) and the sequence parameter set, as far as the server needs them.
//!
//! Spec: ISO/IEC 14496-15 §5.3.3 (record), ITU-T H.264 §7.3.2.1 and Annex E (SPS, VUI). Parameter sets share the record's memory.
//! Not here: slices, and the framing of access units ([`super::nal`]).

use bytes::{BufMut, Bytes, BytesMut};

use super::TrackShape;
use super::bits::{BitReader, rbsp, rbsp_start};
pub use super::nal::{BrokenFrame, ConfigError, canonical_access_unit};

/// `nal_unit_type` (Table 7-1), as far as the server tells them apart.
pub const NAL_IDR: u8 = 5;
pub const NAL_SEI: u8 = 6;
pub const NAL_SPS: u8 = 7;
pub const NAL_PPS: u8 = 8;
pub const NAL_AUD: u8 = 9;

/// `nal_unit_type` of a NAL unit with this header.
pub const fn nal_type(header: u8) -> u8 {
    header & 0x1F
}

/// Whether a NAL unit is an access unit delimiter.
pub fn is_aud(nal: &[u8]) -> bool {
    nal.first().is_some_and(|header| nal_type(*header) == NAL_AUD)
}

/// The id of a sequence parameter set.
pub fn sps_id(nal: &[u8]) -> Option<u32> {
    // Profile, constraints and level stand in front.
    let payload = rbsp_start(nal.get(4..)?);
    BitReader::new(&payload).ue()
}

/// The id of a picture parameter set, and that of the sequence parameter set it refers to.
pub fn pps_ids(nal: &[u8]) -> Option<(u32, u32)> {
    let payload = rbsp_start(nal.get(1..)?);
    let mut bits = BitReader::new(&payload);
    Some((bits.ue()?, bits.ue()?))
}

/// What a sequence parameter set says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sps {
    /// `profile_idc`.
    pub profile: u8,
    /// `level_idc`: ten times the level.
    pub level: u8,
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
    pub reorder_frames: Option<u8>,
    /// Where a slice says of which field it is; `None`: all pictures are whole frames.
    pub fields: Option<FieldCoding>,
}

/// What it takes to read the beginning of a slice in a stream that may have fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldCoding {
    frame_number_bits: u8,
    separate_planes: bool,
}

/// One of the two fields of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    frame_number: u32,
    is_bottom: bool,
    is_reference: bool,
}

/// So much of a slice tells its field.
pub const FIELD_BYTES: usize = 24;

impl FieldCoding {
    #[cfg(test)]
    pub fn frame_number_bits(self) -> u32 {
        self.frame_number_bits.into()
    }

    /// `nal`: a slice, of which [`FIELD_BYTES`] are enough. `None`: it is of a whole frame, or cut off (§7.3.3).
    pub fn field(self, nal: &[u8]) -> Option<Field> {
        let payload = rbsp(&nal.get(1..)?[..nal.len().min(FIELD_BYTES) - 1]);
        let mut bits = BitReader::new(&payload);
        for _first_type_and_set in 0..3 {
            bits.ue()?;
        }
        if self.separate_planes {
            bits.skip(2)?;
        }
        let frame_number = bits.bits(self.frame_number_bits.into())?;
        let is_field = bits.flag()?;
        let is_bottom = bits.flag()?;
        is_field.then_some(Field { frame_number, is_bottom, is_reference: nal[0] & 0x60 != 0 })
    }
}

impl Field {
    /// Whether `next`, which comes right behind, is the other field of the same frame (§7.4.1.2.4).
    pub fn is_paired_with(&self, next: &Field) -> bool {
        self.frame_number == next.frame_number && self.is_bottom != next.is_bottom && self.is_reference == next.is_reference
    }
}

/// `profile_idc` of the Baseline profile: it has no pictures out of order.
const PROFILE_BASELINE: u8 = 66;

impl Sps {
    /// `nal`: a NAL unit with its header byte. A VUI that is cut off only costs the frame rate.
    pub fn parse(nal: &[u8]) -> Option<Sps> {
        let payload = rbsp(nal.get(1..)?);
        let mut bits = BitReader::new(&payload);
        let profile = bits.bits(8)? as u8;
        bits.skip(8)?;
        let level = bits.bits(8)? as u8;
        bits.ue()?;
        let chroma = ChromaFields::parse(&mut bits, profile)?;
        let frame_number_bits = u8::try_from(bits.ue()?).ok().filter(|more| *more <= 12)? + 4;
        let in_order = skip_picture_order_count(&mut bits)? || profile == PROFILE_BASELINE;
        bits.ue()?;
        bits.skip(1)?;
        let width_mbs = bits.ue()?.checked_add(1)?;
        let height_map_units = bits.ue()?.checked_add(1)?;
        let frame_mbs_only = bits.flag()?;
        if !frame_mbs_only {
            bits.skip(1)?;
        }
        bits.skip(1)?;
        // A map unit of a stream with fields is a pair of macroblocks.
        let field_factor = if frame_mbs_only { 1 } else { 2 };
        let (crop_x, crop_y) = cropping(&mut bits, chroma.crop_unit(), field_factor)?;
        let width = width_mbs.checked_mul(16)?.checked_sub(crop_x)?;
        let height = height_map_units.checked_mul(16 * field_factor)?.checked_sub(crop_y)?;
        let mut vui = Vui::default();
        // What is cut off stays unsaid.
        let _cut_off = vui.read(&mut bits);
        let reorder_frames = if in_order { Some(0) } else { vui.reorder_frames };
        let ChromaFields { format: chroma_format, bit_depth_luma, bit_depth_chroma, .. } = chroma;
        Some(Sps {
            profile,
            level,
            width,
            height,
            frames_per_second: vui.frames_per_second,
            chroma_format,
            bit_depth_luma,
            bit_depth_chroma,
            reorder_frames,
            fields: (!frame_mbs_only).then_some(FieldCoding { frame_number_bits, separate_planes: chroma.separate_planes }),
        })
    }
}

/// The fields that only the High profiles carry.
struct ChromaFields {
    format: u8,
    bit_depth_luma: u8,
    bit_depth_chroma: u8,
    separate_planes: bool,
}

impl ChromaFields {
    fn parse(bits: &mut BitReader<'_>, profile: u8) -> Option<Self> {
        if !matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
            return Some(ChromaFields { format: 1, bit_depth_luma: 8, bit_depth_chroma: 8, separate_planes: false });
        }
        let format = u8::try_from(bits.ue()?).ok().filter(|format| *format <= 3)?;
        let separate_planes = format == 3 && bits.flag()?;
        let mut bit_depth = || u8::try_from(bits.ue()?).ok().filter(|depth| *depth <= 6).map(|depth| depth + 8);
        let (bit_depth_luma, bit_depth_chroma) = (bit_depth()?, bit_depth()?);
        bits.skip(1)?;
        if bits.flag()? {
            let lists = if format == 3 { 12 } else { 8 };
            for list in 0..lists {
                if bits.flag()? {
                    skip_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
        Some(ChromaFields { format, bit_depth_luma, bit_depth_chroma, separate_planes })
    }

    /// In luma samples of a frame (Table 6-1).
    fn crop_unit(&self) -> (u32, u32) {
        match self.format {
            1 => (2, 2),
            2 => (2, 1),
            _ => (1, 1),
        }
    }
}

/// §7.3.2.1.1.1
fn skip_scaling_list(bits: &mut BitReader<'_>, size: usize) -> Option<()> {
    let (mut last, mut next) = (8i32, 8i32);
    for _ in 0..size {
        if next != 0 {
            next = last.wrapping_add(bits.se()?).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

/// Says whether pictures come in output order (`pic_order_cnt_type` 2).
fn skip_picture_order_count(bits: &mut BitReader<'_>) -> Option<bool> {
    match bits.ue()? {
        0 => bits.ue().map(|_| false),
        1 => {
            bits.skip(1)?;
            bits.se()?;
            bits.se()?;
            for _ in 0..bits.ue()?.min(255) {
                bits.se()?;
            }
            Some(false)
        }
        kind => Some(kind == 2),
    }
}

/// Luma samples cut off in each direction.
fn cropping(bits: &mut BitReader<'_>, (unit_x, unit_y): (u32, u32), field_factor: u32) -> Option<(u32, u32)> {
    if !bits.flag()? {
        return Some((0, 0));
    }
    let (left, right, top, bottom) = (bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?);
    let x = left.checked_add(right)?.checked_mul(unit_x)?;
    let y = top.checked_add(bottom)?.checked_mul(unit_y * field_factor)?;
    Some((x, y))
}

/// What the VUI (Annex E.1.1) says.
#[derive(Default)]
struct Vui {
    frames_per_second: f32,
    reorder_frames: Option<u8>,
}

impl Vui {
    fn read(&mut self, bits: &mut BitReader<'_>) -> Option<()> {
        if !bits.flag()? {
            return None;
        }
        skip_vui_colours(bits)?;
        if bits.flag()? {
            // A tick is a field, hence the 2.
            let (ticks, per_second) = (bits.bits(32)?, bits.bits(32)?);
            self.frames_per_second = frame_rate(f64::from(per_second), f64::from(ticks) * 2.0).unwrap_or(0.0);
            bits.skip(1)?;
        }
        let (nal_hrd, vcl_hrd) = (skip_hrd_if_there(bits)?, skip_hrd_if_there(bits)?);
        bits.skip(if nal_hrd || vcl_hrd { 2 } else { 1 })?;
        if bits.flag()? {
            bits.skip(1)?;
            for _ in 0..4 {
                bits.ue()?;
            }
            self.reorder_frames = u8::try_from(bits.ue()?).ok().filter(|frames| *frames <= 16);
        }
        Some(())
    }
}

/// Annex E.1.2, behind the flag that says whether it is there.
fn skip_hrd_if_there(bits: &mut BitReader<'_>) -> Option<bool> {
    if !bits.flag()? {
        return Some(false);
    }
    let count = bits.ue().filter(|count| *count < 32)? + 1;
    bits.skip(8)?;
    for _ in 0..count {
        bits.ue()?;
        bits.ue()?;
        bits.skip(1)?;
    }
    bits.skip(20)?;
    Some(true)
}

/// `None` for rates that no camera has.
pub(super) fn frame_rate(per_second: f64, ticks: f64) -> Option<f32> {
    let rate = per_second / ticks;
    (rate.is_finite() && rate > 0.0 && rate < 1000.0).then_some(rate as f32)
}

/// The VUI's first fields, equal in H.264 and H.265: aspect ratio, overscan, colours, chroma location.
pub(super) fn skip_vui_colours(bits: &mut BitReader<'_>) -> Option<()> {
    const ASPECT_RATIO_EXTENDED: u32 = 255;
    if bits.flag()? && bits.bits(8)? == ASPECT_RATIO_EXTENDED {
        bits.skip(32)?;
    }
    if bits.flag()? {
        bits.skip(1)?;
    }
    if bits.flag()? {
        bits.skip(4)?;
        if bits.flag()? {
            bits.skip(24)?;
        }
    }
    if bits.flag()? {
        bits.ue()?;
        bits.ue()?;
    }
    Some(())
}

/// The AVCDecoderConfigurationRecord.
///
/// ```text
/// 01 | profile | compatibility | level | FC + length size - 1 | E0 + number of SPS | (u16 length, SPS)* | number of PPS | (u16 length, PPS)*
/// profiles with chroma fields: FC + chroma format | F8 + luma depth - 8 | F8 + chroma depth - 8 | number of SPS extensions
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvcConfig {
    /// Bytes of the length in front of each NAL unit: 1 to 4.
    pub nal_length_bytes: usize,
    pub sps: Vec<Bytes>,
    pub pps: Vec<Bytes>,
}

/// Offset of the byte with the length size.
pub(crate) const LENGTH_SIZE_AT: usize = 4;

impl AvcConfig {
    /// The parameter sets share `record`. Bytes behind the PPS are not looked at.
    pub fn parse(record: &Bytes) -> Result<AvcConfig, ConfigError> {
        let mut rest = record.clone();
        let fixed = take(&mut rest, 6)?;
        if fixed[0] != 1 {
            return Err(ConfigError::UnknownVersion(fixed[0]));
        }
        let sps = parameter_sets(&mut rest, usize::from(fixed[5] & 0x1F))?;
        let pps_count = take(&mut rest, 1)?[0];
        let pps = parameter_sets(&mut rest, usize::from(pps_count))?;
        Ok(AvcConfig { nal_length_bytes: usize::from(fixed[LENGTH_SIZE_AT] & 3) + 1, sps, pps })
    }

    /// Builds a record with 4-byte lengths. Takes the first 31 SPS and 255 PPS; sets over 65,535 bytes are left out.
    pub fn record(sps: &[Bytes], pps: &[Bytes]) -> Bytes {
        let fits = |set: &&Bytes| set.len() <= usize::from(u16::MAX);
        let sps: Vec<&Bytes> = sps.iter().filter(fits).take(0x1F).collect();
        let pps: Vec<&Bytes> = pps.iter().filter(fits).take(0xFF).collect();
        let first: [u8; 3] = sps.first().and_then(|sps| sps.get(1..4)?.try_into().ok()).unwrap_or_default();
        let mut record = BytesMut::new();
        record.put_u8(1);
        record.put_slice(&first);
        record.put_u8(0xFF);
        record.put_u8(0xE0 | sps.len() as u8);
        put_parameter_sets(&sps, &mut record);
        record.put_u8(pps.len() as u8);
        put_parameter_sets(&pps, &mut record);
        // The extension is written for exactly the profiles that §5.3.3.1.2 names.
        if let (100 | 110 | 122 | 144, Some(sps)) = (first[0], sps.first().and_then(|sps| Sps::parse(sps))) {
            record.put_slice(&[0xFC | sps.chroma_format, 0xF8 | (sps.bit_depth_luma - 8), 0xF8 | (sps.bit_depth_chroma - 8), 0]);
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

/// The next `count` bytes of a record.
pub(super) fn take(rest: &mut Bytes, count: usize) -> Result<Bytes, ConfigError> {
    if rest.len() < count {
        return Err(ConfigError::Truncated);
    }
    Ok(rest.split_to(count))
}

/// `count` times a u16 length and as many bytes.
pub(super) fn parameter_sets(rest: &mut Bytes, count: usize) -> Result<Vec<Bytes>, ConfigError> {
    let mut sets = Vec::new();
    for _ in 0..count {
        let len = take(rest, 2)?;
        sets.push(take(rest, usize::from(u16::from_be_bytes([len[0], len[1]])))?);
    }
    Ok(sets)
}

/// The counterpart of [`parameter_sets`], for sets that fit.
pub(super) fn put_parameter_sets(sets: &[&Bytes], record: &mut BytesMut) {
    for set in sets {
        record.put_u16(set.len() as u16);
        record.put_slice(set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AVCC: &[u8] = include_bytes!("../../tests/corpus/h264/avcc");

    #[test]
    fn sps_of_real_encoders() {
        type Case<'a> = (&'a str, &'a [u8], (u8, u8, u32, u32, f32, u8, u8));
        // As ffprobe reads them.
        let cases: [Case<'_>; 6] = [
            ("1080p", include_bytes!("../../tests/corpus/h264/sps_1080p"), (66, 40, 1920, 1080, 29.97, 1, 8)),
            ("cropped", include_bytes!("../../tests/corpus/h264/sps_318x182"), (66, 12, 318, 182, 25.0, 1, 8)),
            ("interlaced", include_bytes!("../../tests/corpus/h264/sps_1080i"), (77, 40, 1920, 1080, 25.0, 1, 8)),
            ("4:4:4", include_bytes!("../../tests/corpus/h264/sps_720p444"), (244, 32, 1278, 718, 60.0, 3, 8)),
            ("4:2:2 10 bit, VUI colours", include_bytes!("../../tests/corpus/h264/sps_422_10"), (122, 31, 718, 478, 50.0, 2, 10)),
            ("scaling matrix", include_bytes!("../../tests/corpus/h264/sps_cqm"), (100, 12, 320, 240, 15.0, 1, 8)),
        ];
        for (name, nal, (profile, level, width, height, frames_per_second, chroma_format, depth)) in cases {
            let sps = Sps::parse(nal).unwrap();
            assert_eq!((sps.profile, sps.level, sps.width, sps.height), (profile, level, width, height), "{name}");
            assert!((sps.frames_per_second - frames_per_second).abs() < 0.01, "{name}: {}", sps.frames_per_second);
            assert_eq!((sps.chroma_format, sps.bit_depth_luma, sps.bit_depth_chroma), (chroma_format, depth, depth), "{name}");
            for cut in 0..nal.len() {
                let _ = Sps::parse(&nal[..cut]);
            }
        }
    }

    #[test]
    fn a_sps_without_its_vui_still_has_a_size() {
        let nal = include_bytes!("../../tests/corpus/h264/sps_1080p");
        let sps = Sps::parse(&nal[..14]).unwrap();
        assert_eq!((sps.width, sps.height, sps.frames_per_second), (1920, 1080, 0.0));
    }

    #[test]
    fn the_record_is_read_and_rebuilt() {
        let record = Bytes::from_static(AVCC);
        let config = AvcConfig::parse(&record).unwrap();
        assert_eq!((config.nal_length_bytes, config.sps.len(), config.pps.len()), (4, 1, 1));
        assert_eq!(config.shape(), TrackShape::Video { width: 176, height: 144, frames_per_second: 25.0 });
        assert_eq!(AvcConfig::record(&config.sps, &config.pps), record, "profile 100, so with the extension");
        assert!(record.as_ptr_range().contains(&config.sps[0].as_ptr()), "shared, not copied");
    }

    #[test]
    fn a_record_without_the_extension_for_lower_profiles() {
        let sps = Bytes::from_static(include_bytes!("../../tests/corpus/h264/sps_1080p"));
        let pps = Bytes::from_static(&[0x68, 0xCE, 0x3C, 0x80]);
        let record = AvcConfig::record(std::slice::from_ref(&sps), std::slice::from_ref(&pps));
        assert_eq!(&record[..6], &[1, 66, 0xC0, 40, 0xFF, 0xE1]);
        assert_eq!(record.len(), 6 + 2 + sps.len() + 1 + 2 + pps.len());
        assert_eq!(AvcConfig::parse(&record), Ok(AvcConfig { nal_length_bytes: 4, sps: vec![sps], pps: vec![pps] }));
    }

    #[test]
    fn broken_records_are_refused() {
        let end_of_pps = AVCC.len() - 4;
        for cut in 0..AVCC.len() {
            let parsed = AvcConfig::parse(&Bytes::copy_from_slice(&AVCC[..cut]));
            assert_eq!(parsed.is_ok(), cut >= end_of_pps, "cut at {cut}");
        }
        assert_eq!(AvcConfig::parse(&Bytes::from_static(&[0; 7])), Err(ConfigError::UnknownVersion(0)));
        let no_sets = AvcConfig::parse(&AvcConfig::record(&[], &[])).unwrap();
        assert_eq!(no_sets.shape(), TrackShape::Video { width: 0, height: 0, frames_per_second: 0.0 });
    }
}
