//! What RFC 6184 (H.264, §5.2, §5.8) and RFC 7798 (H.265, §4.4) add to the types of NAL units: those that mean a packet, and the flags of
//! fragments. For both ways.

/// Several NAL units, each behind its size.
pub const H264_STAP_A: u8 = 24;
pub const H265_AP: u8 = 48;
/// A fragment of one.
pub const H264_FU_A: u8 = 28;
pub const H265_FU: u8 = 49;

/// Of the byte behind the header of a fragment; below them stands the type of the NAL unit.
pub const FU_START: u8 = 0x80;
pub const FU_END: u8 = 0x40;
