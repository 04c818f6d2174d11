//! RTCP: the reports of those who send and of those who receive, written and read. Spec: RFC 3550 §6.4, §6.5.
//!
//! Every report goes with a source description. Jitter is not measured and reported as none. Not here: when a report is due, except
//! that [`INTERVAL_NANOS`] lies between two of them.

use crate::poll::NANOS_PER_SECOND;
use crate::scan::order::Totals;

/// Between two reports (RFC 3550 §6.2).
pub const INTERVAL_NANOS: u64 = 5_000_000_000;

const VERSION: u8 = 0x80;
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const CNAME: &[u8] = b"shardcast-loadtest";
/// Seconds from 1900, where NTP counts from, to 1970.
const NTP_EPOCH_SECONDS: u64 = 2_208_988_800;
/// Behind the header: SSRC, NTP time, RTP time, packets, octets.
const SENDER_INFO_BYTES: usize = 24;
const BLOCK_BYTES: usize = 24;

/// An empty receiver report: opens the way through address translators, and says nothing.
pub const EMPTY_RECEIVER_REPORT: [u8; 8] = [VERSION, RECEIVER_REPORT, 0, 1, 0, 0, 0, 0];

/// Now, as 32.32 fixed point seconds since 1900 (RFC 3550 §4).
pub fn ntp_now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let (seconds, nanos) = (now.as_secs() + NTP_EPOCH_SECONDS, u64::from(now.subsec_nanos()));
    (seconds << 32) | ((nanos << 32) / NANOS_PER_SECOND)
}

/// A report of the sender `ssrc`: `timestamp` is `ntp` on its RTP clock.
pub fn write_sender_report(ssrc: u32, ntp: u64, timestamp: u32, packets: u32, octets: u32, out: &mut Vec<u8>) {
    write_header(0, SENDER_REPORT, SENDER_INFO_BYTES, out);
    out.extend_from_slice(&ssrc.to_be_bytes());
    out.extend_from_slice(&ntp.to_be_bytes());
    for word in [timestamp, packets, octets] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    write_cname(ssrc, out);
}

/// What a receiver remembers between its reports on a source.
#[derive(Default)]
pub struct Reporter {
    /// Middle 32 bits of the NTP time of the last sender report, and when that came, in nanoseconds.
    last_sender_report: Option<(u32, u64)>,
    /// Packets expected and received up to the last report.
    before: (u64, u64),
}

impl Reporter {
    /// The server's RTCP for this track has come.
    pub fn take(&mut self, now: u64, compound: &[u8]) {
        for (_, packet_type, body) in packets(compound) {
            if packet_type == SENDER_REPORT && body.len() >= SENDER_INFO_BYTES {
                self.last_sender_report = Some((word(body, 6), now));
            }
        }
    }

    /// A report of the receiver `own` on what it has got of `source`.
    pub fn write(&mut self, now: u64, own: u32, source: u32, totals: Totals, out: &mut Vec<u8>) {
        let Totals { expected, received, highest } = totals;
        let (new_expected, new_received) = (expected.saturating_sub(self.before.0), received.saturating_sub(self.before.1));
        self.before = (expected, received);
        let new_lost = new_expected.saturating_sub(new_received);
        let fraction = (new_lost << 8).checked_div(new_expected).unwrap_or(0).min(255) as u32;
        let lost = expected.saturating_sub(received).min(0x7F_FFFF) as u32;
        let (sender_report, came) = self.last_sender_report.unwrap_or_default();
        // In 1/65536 s; nothing, as long as there was no sender report.
        let delay = self.last_sender_report.map_or(0, |_| (now.saturating_sub(came) / 1000 * 65_536 / 1_000_000) as u32);
        write_header(1, RECEIVER_REPORT, 4 + BLOCK_BYTES, out);
        for word in [own, source, fraction << 24 | lost, highest, 0, sender_report, delay] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        write_cname(own, out);
    }
}

/// Packets that the server says were lost on their way to it, of all that this RTCP reports on; `None`: it reports on nothing.
pub fn reported_lost(compound: &[u8]) -> Option<i64> {
    let mut lost = None;
    for (count, packet_type, body) in packets(compound) {
        let blocks = match packet_type {
            SENDER_REPORT => body.get(SENDER_INFO_BYTES..),
            RECEIVER_REPORT => body.get(4..),
            _ => None,
        };
        for block in blocks.unwrap_or_default().chunks_exact(BLOCK_BYTES).take(count) {
            // 24 bits with a sign.
            let cumulative = (word(block, 4) << 8).cast_signed() >> 8;
            lost = Some(lost.unwrap_or(0) + i64::from(cumulative));
        }
    }
    lost
}

/// Count, type and body of each packet of a compound, as far as they can be read.
fn packets(mut compound: &[u8]) -> impl Iterator<Item = (usize, u8, &[u8])> {
    std::iter::from_fn(move || {
        let [first, packet_type, l1, l0] = *compound.first_chunk()?;
        let bytes = 4 + 4 * usize::from(u16::from_be_bytes([l1, l0]));
        let (packet, rest) = compound.split_at_checked(bytes).filter(|_| first >> 6 == 2)?;
        compound = rest;
        Some((usize::from(first & 0x1F), packet_type, &packet[4..]))
    })
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn write_header(count: u8, packet_type: u8, body_bytes: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&[VERSION | count, packet_type]);
    out.extend_from_slice(&((body_bytes / 4) as u16).to_be_bytes());
}

fn write_cname(ssrc: u32, out: &mut Vec<u8>) {
    const CNAME_ITEM: u8 = 1;
    // SSRC, item type and length, text, and at least one zero up to the next word.
    let body_bytes = (4 + 2 + CNAME.len() + 1).next_multiple_of(4);
    write_header(1, SOURCE_DESCRIPTION, body_bytes, out);
    let end = out.len() + body_bytes;
    out.extend_from_slice(&ssrc.to_be_bytes());
    out.extend_from_slice(&[CNAME_ITEM, CNAME.len() as u8]);
    out.extend_from_slice(CNAME);
    out.resize(end, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receiver_reports_say_what_was_lost_since_the_last_one() {
        let mut reporter = Reporter::default();
        let mut sender_report = Vec::new();
        write_sender_report(9, 0x1111_2222_3333_4444, 5, 6, 7, &mut sender_report);
        reporter.take(1_000_000_000, &sender_report);
        let mut report = |now, expected, received| {
            let mut out = Vec::new();
            reporter.write(now, 8, 9, Totals { expected, received, highest: 70_000 }, &mut out);
            assert_eq!(packets(&out).map(|(_, packet_type, _)| packet_type).collect::<Vec<_>>(), [201, 202]);
            assert_eq!(packets(&out).map(|(_, _, body)| body.len() + 4).sum::<usize>(), out.len());
            out
        };
        let first = report(1_500_000_000, 100, 75);
        assert_eq!((word(&first, 4), word(&first, 8), word(&first, 16)), (8, 9, 70_000));
        assert_eq!((first[12], reported_lost(&first)), (64, Some(25)), "a quarter");
        assert_eq!((word(&first, 24), word(&first, 28)), (0x2222_3333, 32_768), "half a second behind the sender's report");
        let second = report(2_000_000_000, 200, 175);
        assert_eq!((second[12], reported_lost(&second)), (0, Some(25)), "nothing more");
        assert_eq!((reported_lost(&sender_report), reported_lost(&first[..20])), (None, None), "nothing reported; cut off");
    }
}
