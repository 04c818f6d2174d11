//! One RTP packet → its fixed header and where the payload lies.
//!
//! RFC 3550 §5.1 (fixed header, CSRC list, padding) and §5.3.1 (header extension), parsed by the crate `rtp-rs`:
//!
//! ```text
//!  0                   1                   2                   3
//! |V=2|P|X|  CC   |M|     PT      |       sequence number         |
//! |                           timestamp                           |
//! |                             SSRC                              |
//! |            CSRC, CC times; extension, if X: id, words, data   |
//! |            payload ...        padding, if P: last byte counts |
//! ```
//!
//! Limits: none of its own; the packet's length bounds everything. Borrows the packet during the call and keeps nothing of it: the
//! payload is a range, so that the caller slices its own shared buffer. CSRCs and the content of extensions are skipped.
//!
//! Not here: telling RTCP from RTP, payload formats, sequence and clock arithmetic.

use std::ops::Range;

use rtp_rs::{RtpReader, RtpReaderError};

/// What the fixed header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtpHeader {
    /// 0 to 127.
    pub payload_type: u8,
    /// For video, usually: the last packet of an access unit.
    pub marker: bool,
    pub sequence: u16,
    /// In ticks of the payload type's clock.
    pub timestamp: u32,
    pub ssrc: u32,
    /// Where the payload lies in the packet, without padding. May be empty.
    pub payload: Range<usize>,
}

/// Why a datagram is no RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RtpHeaderError {
    #[error("an RTP packet has 12 bytes at least, this one {packet_bytes}")]
    TooShort { packet_bytes: usize },
    #[error("RTP version {0} instead of 2")]
    Version(u8),
    #[error("the RTP header needs {header_bytes} bytes, the packet has {packet_bytes}")]
    Truncated { header_bytes: usize, packet_bytes: usize },
    #[error("an RTP padding of {0} bytes is impossible here")]
    Padding(u8),
}

impl RtpHeaderError {
    /// Stable name for counters.
    pub const fn label(self) -> &'static str {
        match self {
            RtpHeaderError::TooShort { .. } => "rtp_too_short",
            RtpHeaderError::Version(_) => "rtp_version",
            RtpHeaderError::Truncated { .. } => "rtp_truncated",
            RtpHeaderError::Padding(_) => "rtp_padding",
        }
    }
}

impl From<RtpReaderError> for RtpHeaderError {
    fn from(error: RtpReaderError) -> Self {
        match error {
            RtpReaderError::BufferTooShort(packet_bytes) => RtpHeaderError::TooShort { packet_bytes },
            RtpReaderError::UnsupportedVersion(version) => RtpHeaderError::Version(version),
            RtpReaderError::HeadersTruncated { header_len, buffer_len } => {
                RtpHeaderError::Truncated { header_bytes: header_len, packet_bytes: buffer_len }
            }
            RtpReaderError::PaddingLengthInvalid(padding) => RtpHeaderError::Padding(padding),
        }
    }
}

impl RtpHeader {
    /// `packet` is one whole RTP packet: a datagram, or what stands between two interleaved headers.
    pub fn parse(packet: &[u8]) -> Result<Self, RtpHeaderError> {
        let reader = RtpReader::new(packet)?;
        let start = reader.payload_offset();
        Ok(RtpHeader {
            payload_type: reader.payload_type(),
            marker: reader.mark(),
            sequence: reader.sequence_number().into(),
            timestamp: reader.timestamp(),
            ssrc: reader.ssrc(),
            payload: start..start + reader.payload().len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First byte, then marker + payload type 96, sequence 0x0102, timestamp 0x03040506, SSRC 0x0708090A, then `rest`.
    fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![first, 0xE0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
        packet.extend_from_slice(rest);
        packet
    }

    #[test]
    fn the_fixed_header_is_read() {
        let header = RtpHeader::parse(&packet(0x80, b"abc")).unwrap();
        let expected = RtpHeader {
            payload_type: 96,
            marker: true,
            sequence: 0x0102,
            timestamp: 0x0304_0506,
            ssrc: 0x0708_090A,
            payload: 12..15,
        };
        assert_eq!(header, expected);
        let mut unmarked = packet(0x80, b"");
        unmarked[1] = 0x08;
        let header = RtpHeader::parse(&unmarked).unwrap();
        assert_eq!((header.payload_type, header.marker, header.payload), (8, false, 12..12));
    }

    #[test]
    fn payload_ranges_and_errors() {
        use RtpHeaderError::*;
        let cases = [
            ("plain", packet(0x80, b"abc"), Ok(12..15)),
            ("two CSRCs", packet(0x82, b"11112222abc"), Ok(20..23)),
            ("fifteen CSRCs", packet(0x8F, &[0; 61]), Ok(72..73)),
            ("CSRCs cut off", packet(0x82, b"1111222"), Err(Truncated { header_bytes: 20, packet_bytes: 19 })),
            ("extension of no words", packet(0x90, &[0xBE, 0xDE, 0, 0, 7]), Ok(16..17)),
            ("extension of one word", packet(0x90, &[0xBE, 0xDE, 0, 1, 1, 2, 3, 4, 7]), Ok(20..21)),
            ("extension behind a CSRC", packet(0x91, &[0, 0, 0, 1, 0xBE, 0xDE, 0, 1, 1, 2, 3, 4, 7]), Ok(24..25)),
            ("extension header cut off", packet(0x90, &[0xBE]), Err(Truncated { header_bytes: 16, packet_bytes: 13 })),
            (
                "extension longer than the packet",
                packet(0x90, &[0xBE, 0xDE, 0xFF, 0xFF]),
                Err(Truncated { header_bytes: 16 + 4 * 0xFFFF, packet_bytes: 16 }),
            ),
            ("padding", packet(0xA0, &[7, 7, 0, 2]), Ok(12..14)),
            ("nothing but padding", packet(0xA0, &[0, 2]), Ok(12..12)),
            ("extension and padding", packet(0xB0, &[0, 0, 0, 1, 1, 2, 3, 4, 7, 0, 2]), Ok(20..21)),
            ("padding of none", packet(0xA0, &[7, 0]), Err(Padding(0))),
            ("padding longer than the payload", packet(0xA0, &[7, 3]), Err(Padding(3))),
            ("version 1", packet(0x40, b"abc"), Err(Version(1))),
            ("a STUN message", vec![0; 20], Err(Version(0))),
        ];
        for (name, packet, expected) in cases {
            assert_eq!(RtpHeader::parse(&packet).map(|header| header.payload), expected, "{name}");
        }
    }

    #[test]
    fn every_cut_is_an_error_or_a_shorter_payload() {
        let whole = packet(0x92, &[1, 1, 1, 1, 2, 2, 2, 2, 0xBE, 0xDE, 0, 1, 1, 2, 3, 4, b'a', b'b']);
        for len in 0..whole.len() {
            match RtpHeader::parse(&whole[..len]) {
                Ok(header) => assert_eq!(header.payload, 28..len),
                Err(RtpHeaderError::TooShort { packet_bytes }) => assert!(packet_bytes == len && len < 12),
                Err(error) => assert!(matches!(error, RtpHeaderError::Truncated { .. }) && len < 28, "{len}: {error}"),
            }
        }
    }
}
