//! RTCP compound packets ⇄ the reports in them.
//!
//! RFC 3550 §6.4 (SR, RR), §6.5 (SDES), §6.6 (BYE). Report blocks are written, but what receivers say of us is not read: nothing is done
//! about it. Every packet begins with
//!
//! ```text
//! |V=2|P|  count  |  packet type  |  length in words, less one  |
//! ```
//!
//! [`parse`] walks what it is given and skips what it does not know; it does not insist on the order that §6.1 asks for, because
//! encoders send bare reports. It keeps nothing. The writers append to the caller's buffer.
//!
//! Not here: when a report is due, and what its numbers mean ([`super::demux`], [`super::mux`]).

use bytes::{BufMut, BytesMut};

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const BYE: u8 = 203;
const CNAME: u8 = 1;

/// Who we are, as a sender and as a receiver.
const NAME: &str = "shardcast";

/// Seconds from 1900, where NTP counts from, to 1970.
const NTP_EPOCH_SECONDS: u64 = 2_208_988_800;

/// A wall-clock time in nanoseconds since 1970 as NTP writes it: seconds since 1900, 32.32 fixed point (RFC 3550 §4).
pub fn ntp_of_nanos(nanos: u64) -> u64 {
    let seconds = (nanos / 1_000_000_000 + NTP_EPOCH_SECONDS) & 0xFFFF_FFFF;
    let fraction = ((nanos % 1_000_000_000) << 32) / 1_000_000_000;
    seconds << 32 | fraction
}

/// The sender information of a sender report (RFC 3550 §6.4.1): the relation of its two clocks, and what it has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderReport {
    pub ssrc: u32,
    /// 32.32 fixed point seconds since 1900.
    pub ntp: u64,
    /// The same moment on the clock of the RTP timestamps.
    pub rtp_timestamp: u32,
    pub packets: u32,
    pub octets: u32,
}

/// What a receiver says of one source (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportBlock {
    pub ssrc: u32,
    /// Since the last report, in 1/256.
    pub fraction_lost: u8,
    /// 24 bits on the wire; negative when more came than were expected.
    pub cumulative_lost: i32,
    pub highest_sequence: u32,
    /// In ticks of the timestamp.
    pub jitter: u32,
    /// The middle 32 bits of the NTP time of the last sender report.
    pub last_sr: u32,
    /// In 1/65536 s.
    pub delay_since_last_sr: u32,
}

/// What one packet says, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    Sender(SenderReport),
    Bye { ssrc: u32 },
}

/// Why a packet is no RTCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RtcpError {
    #[error("an RTCP packet is cut off")]
    Truncated,
    #[error("RTCP version {0} instead of 2")]
    Version(u8),
}

/// Whether a packet is RTCP where RTP may come too: its type lies where no payload type with a marker bit is given out (RFC 5761 §4).
pub fn is_rtcp(packet: &[u8]) -> bool {
    packet.len() >= 4 && (192..=223).contains(&packet[1])
}

/// Gives `each` what the packets of a compound say.
pub fn parse(compound: &[u8], mut each: impl FnMut(Report)) -> Result<(), RtcpError> {
    let mut rest = compound;
    while !rest.is_empty() {
        let [first, packet_type, length @ ..] = rest.first_chunk::<4>().ok_or(RtcpError::Truncated)?;
        if first >> 6 != 2 {
            return Err(RtcpError::Version(first >> 6));
        }
        let bytes = 4 * (usize::from(u16::from_be_bytes(*length)) + 1);
        let (packet, behind) = rest.split_at_checked(bytes).ok_or(RtcpError::Truncated)?;
        match *packet_type {
            SENDER_REPORT => each(Report::Sender(sender_report(&packet[4..])?)),
            BYE => packet[4..]
                .chunks_exact(4)
                .take(usize::from(first & 0x1F))
                .for_each(|ssrc| each(Report::Bye { ssrc: word(ssrc, 0) })),
            _ => {}
        }
        rest = behind;
    }
    Ok(())
}

fn sender_report(body: &[u8]) -> Result<SenderReport, RtcpError> {
    if body.len() < 24 {
        return Err(RtcpError::Truncated);
    }
    Ok(SenderReport {
        ssrc: word(body, 0),
        ntp: u64::from(word(body, 4)) << 32 | u64::from(word(body, 8)),
        rtp_timestamp: word(body, 12),
        packets: word(body, 16),
        octets: word(body, 20),
    })
}

/// The caller has checked the length.
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn write_header(out: &mut BytesMut, count: u8, packet_type: u8, words_behind: u16) {
    out.put_u8(2 << 6 | count);
    out.put_u8(packet_type);
    out.put_u16(words_behind);
}

/// Appends a sender report without blocks: 28 bytes.
pub fn write_sender_report(out: &mut BytesMut, report: &SenderReport) {
    write_header(out, 0, SENDER_REPORT, 6);
    out.put_u32(report.ssrc);
    out.put_u64(report.ntp);
    out.put_u32(report.rtp_timestamp);
    out.put_u32(report.packets);
    out.put_u32(report.octets);
}

/// Appends a receiver report with one block: 32 bytes.
pub fn write_receiver_report(out: &mut BytesMut, ssrc: u32, block: &ReportBlock) {
    write_header(out, 1, RECEIVER_REPORT, 7);
    out.put_u32(ssrc);
    out.put_u32(block.ssrc);
    out.put_u32(u32::from(block.fraction_lost) << 24 | (block.cumulative_lost as u32 & 0x00FF_FFFF));
    out.put_u32(block.highest_sequence);
    out.put_u32(block.jitter);
    out.put_u32(block.last_sr);
    out.put_u32(block.delay_since_last_sr);
}

/// Appends a source description with our canonical name.
pub fn write_cname(out: &mut BytesMut, ssrc: u32) {
    // The list of items ends with a zero byte and is filled up to a word (§6.5).
    const ITEM_BYTES: usize = 2 + NAME.len() + 1;
    const WORDS: u16 = 1 + ITEM_BYTES.div_ceil(4) as u16;
    write_header(out, 1, SOURCE_DESCRIPTION, WORDS);
    out.put_u32(ssrc);
    out.put_slice(&[CNAME, NAME.len() as u8]);
    out.put_slice(NAME.as_bytes());
    out.put_bytes(0, 1 + ITEM_BYTES.next_multiple_of(4) - ITEM_BYTES);
}

/// Appends a goodbye: 8 bytes.
pub fn write_bye(out: &mut BytesMut, ssrc: u32) {
    write_header(out, 1, BYE, 1);
    out.put_u32(ssrc);
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: SenderReport =
        SenderReport { ssrc: 0x0102_0304, ntp: 0xE000_0000_8000_0000, rtp_timestamp: 90_000, packets: 5, octets: 6_000 };
    const BLOCK: ReportBlock = ReportBlock {
        ssrc: 9,
        fraction_lost: 64,
        cumulative_lost: -3,
        highest_sequence: 70_000,
        jitter: 11,
        last_sr: 0x1234_5678,
        delay_since_last_sr: 65_536,
    };

    fn read(compound: &[u8]) -> Result<Vec<Report>, RtcpError> {
        let mut reports = Vec::new();
        parse(compound, |report| reports.push(report)).map(|()| reports)
    }

    #[test]
    fn what_is_written_is_read() {
        let mut out = BytesMut::new();
        write_sender_report(&mut out, &REPORT);
        write_receiver_report(&mut out, 7, &BLOCK);
        write_cname(&mut out, 7);
        write_bye(&mut out, 7);
        assert_eq!(read(&out).unwrap(), [Report::Sender(REPORT), Report::Bye { ssrc: 7 }]);
    }

    #[test]
    fn what_is_not_read_is_as_the_rfc_draws_it() {
        let mut out = BytesMut::new();
        write_receiver_report(&mut out, 7, &BLOCK);
        let words = [0x81C9_0007, 7, 9, 0x40FF_FFFD, 70_000, 11, 0x1234_5678, 65_536u32];
        assert_eq!(&out[..], words.map(u32::to_be_bytes).concat());
        out.clear();
        write_cname(&mut out, 1);
        assert_eq!(&out[..], [&[0x81, 202, 0, 4, 0, 0, 0, 1, 1, 9][..], b"shardcast\0"].concat());
    }

    #[test]
    fn broken_packets_are_refused_and_strange_ones_skipped() {
        let mut whole = BytesMut::new();
        write_sender_report(&mut whole, &REPORT);
        for cut in 1..whole.len() {
            assert_eq!(read(&whole[..cut]), Err(RtcpError::Truncated), "cut at {cut}");
        }
        let cases: [(&str, &[u8], Result<usize, RtcpError>); 6] = [
            ("nothing", &[], Ok(0)),
            ("version 1", &[0x40, 200, 0, 0], Err(RtcpError::Version(1))),
            ("sender report without a body", &[0x80, 200, 0, 0], Err(RtcpError::Truncated)),
            ("application packet", &[0x80, 204, 0, 1, 0, 0, 0, 1], Ok(0)),
            ("receiver report", &[0x80, 201, 0, 1, 0, 0, 0, 1], Ok(0)),
            ("goodbye of two", &[0x82, 203, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2], Ok(2)),
        ];
        for (name, packet, expected) in cases {
            assert_eq!(read(packet).map(|reports| reports.len()), expected, "{name}");
        }
    }

    #[test]
    fn rtcp_is_told_from_rtp() {
        for (byte, expected) in [(200, true), (206, true), (96, false), (0x80 | 96, false), (0x80 | 8, false)] {
            assert_eq!(is_rtcp(&[0x80, byte, 0, 0]), expected, "{byte}");
        }
        assert!(!is_rtcp(&[0x80, 200, 0]));
    }

    #[test]
    fn ntp_counts_from_1900() {
        assert_eq!(ntp_of_nanos(0), 2_208_988_800 << 32);
        assert_eq!(ntp_of_nanos(1_500_000_000), 2_208_988_801 << 32 | 0x8000_0000);
    }
}
