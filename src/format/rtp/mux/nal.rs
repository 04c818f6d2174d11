//! H.264 (RFC 6184, packetization mode 1) and H.265 (RFC 7798): the NAL units of an access unit → packets.
//!
//! Units that fit a packet together are aggregated (STAP-A, AP), one that fits alone is sent as it is, a larger one is cut into
//! fragments of equal size (FU-A, FU). A unit of more than 65,535 bytes is never aggregated, so the 16-bit sizes suffice. Units of
//! types that mean a packet in RTP are left out: nothing could carry them.

use bytes::Bytes;
use smallvec::SmallVec;

use super::writer::Writer;
use crate::format::rtp::nal_packets::{FU_END, FU_START, H264_FU_A, H264_STAP_A, H265_AP, H265_FU};
use crate::media::nal::canonical_units;
use crate::media::{h264, h265};

type Units<'a> = SmallVec<[&'a [u8]; 16]>;

pub fn h264(parameter_sets: &[Bytes], unit: &Bytes, writer: &mut Writer) {
    let is_carried = |nal: &[u8]| matches!(nal, [header, ..] if (1..H264_STAP_A).contains(&h264::nal_type(*header)));
    packetize(parameter_sets, unit, writer, is_carried, 1, h264_aggregate, h264_fragments);
}

pub fn h265(parameter_sets: &[Bytes], unit: &Bytes, writer: &mut Writer) {
    let is_carried = |nal: &[u8]| matches!(nal, [header, _, ..] if h265::nal_type(*header) < H265_AP);
    packetize(parameter_sets, unit, writer, is_carried, 2, h265_aggregate, h265_fragments);
}

fn packetize(
    parameter_sets: &[Bytes],
    unit: &Bytes,
    writer: &mut Writer,
    is_carried: fn(&[u8]) -> bool,
    header_bytes: usize,
    aggregate: fn(&[&[u8]], &mut Writer),
    fragments: fn(&[u8], &mut Writer),
) {
    let sets = parameter_sets.iter().map(|set| &set[..]);
    let nals: Units<'_> = sets.chain(canonical_units(unit)).filter(|nal| is_carried(nal)).collect();
    let bytes_max = writer.payload_bytes_max();
    let mut rest = &nals[..];
    while let Some(first) = rest.first() {
        if first.len() > bytes_max {
            fragments(first, writer);
            rest = &rest[1..];
            continue;
        }
        let count = aggregated(rest, header_bytes, bytes_max);
        if count > 1 {
            aggregate(&rest[..count], writer);
        } else {
            writer.begin();
            writer.put(first);
        }
        rest = &rest[count..];
    }
    writer.mark();
}

/// How many of the units fit one packet together, one at least.
fn aggregated(nals: &[&[u8]], header_bytes: usize, bytes_max: usize) -> usize {
    let mut bytes = header_bytes;
    let fits = |nal: &&&[u8]| {
        bytes += 2 + nal.len();
        bytes <= bytes_max
    };
    nals.iter().take_while(fits).count().max(1)
}

fn put_sized(nals: &[&[u8]], writer: &mut Writer) {
    for nal in nals {
        writer.put(&(nal.len() as u16).to_be_bytes());
        writer.put(nal);
    }
}

/// RFC 6184 §5.7.1: the header has the highest NRI of the units, and F if one has it.
fn h264_aggregate(nals: &[&[u8]], writer: &mut Writer) {
    let importance = nals.iter().map(|nal| nal[0] & 0x60).max().unwrap_or(0);
    let forbidden = nals.iter().fold(0, |bit, nal| bit | (nal[0] & 0x80));
    writer.begin();
    writer.put(&[forbidden | importance | H264_STAP_A]);
    put_sized(nals, writer);
}

/// RFC 6184 §5.8.
fn h264_fragments(nal: &[u8], writer: &mut Writer) {
    let indicator = (nal[0] & 0xE0) | H264_FU_A;
    fragments(&nal[1..], writer, &[indicator], h264::nal_type(nal[0]));
}

/// RFC 7798 §4.4.2: the lowest layer and temporal id of the units.
fn h265_aggregate(nals: &[&[u8]], writer: &mut Writer) {
    let layer = nals.iter().map(|nal| (nal[0] & 1) << 5 | nal[1] >> 3).min().unwrap_or(0);
    let temporal_id = nals.iter().map(|nal| nal[1] & 7).min().unwrap_or(1);
    let forbidden = nals.iter().fold(0, |bit, nal| bit | (nal[0] & 0x80));
    writer.begin();
    writer.put(&[forbidden | H265_AP << 1 | layer >> 5, layer << 3 | temporal_id]);
    put_sized(nals, writer);
}

/// RFC 7798 §4.4.3.
fn h265_fragments(nal: &[u8], writer: &mut Writer) {
    let header = [(nal[0] & 0x81) | H265_FU << 1, nal[1]];
    fragments(&nal[2..], writer, &header, h265::nal_type(nal[0]));
}

fn fragments(body: &[u8], writer: &mut Writer, header: &[u8], nal_type: u8) {
    let step = writer.payload_bytes_max() - header.len() - 1;
    let last = body.len().div_ceil(step) - 1;
    for (at, piece) in body.chunks(step).enumerate() {
        let start = if at == 0 { FU_START } else { 0 };
        let end = if at == last { FU_END } else { 0 };
        writer.begin();
        writer.put(header);
        writer.put(&[start | end | nal_type]);
        writer.put(piece);
    }
}
