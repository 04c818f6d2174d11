//! What a receiver tells a sender: loss, jitter, and how long ago the last report came (RFC 3550 §6.4.1, A.3, A.8).

use crate::format::rtp::rtcp::{ReportBlock, SenderReport};
use crate::media::Stamp;

#[derive(Debug, Default)]
pub struct Statistics {
    /// First and highest number, wraps counted in the upper 16 bits.
    base: Option<u32>,
    highest: u32,
    received: u32,
    /// At the last report.
    expected_before: u32,
    received_before: u32,
    /// Sixteen times the jitter, in ticks.
    jitter_16: i64,
    /// Arrival minus timestamp, in ticks; both wrap.
    transit: Option<u32>,
    last_report: Option<(u32, Stamp)>,
}

impl Statistics {
    /// A packet that belongs to the sequence, as it arrives.
    pub fn packet(&mut self, now: Stamp, number: u16, timestamp: u32, clock_rate: u32) {
        match self.base {
            None => (self.base, self.highest) = (Some(u32::from(number)), u32::from(number)),
            Some(_) => {
                let step = number.wrapping_sub(self.highest as u16).cast_signed();
                if step > 0 {
                    self.highest = self.highest.wrapping_add(u32::from(step.unsigned_abs()));
                }
            }
        }
        self.received = self.received.wrapping_add(1);
        let arrival = (u128::from(now.as_nanos()) * u128::from(clock_rate) / 1_000_000_000) as u32;
        let transit = arrival.wrapping_sub(timestamp);
        if let Some(before) = self.transit.replace(transit) {
            // A step of more than a second is a new clock, not jitter.
            let difference = transit.wrapping_sub(before).cast_signed().unsigned_abs().min(clock_rate);
            self.jitter_16 += i64::from(difference) - ((self.jitter_16 + 8) >> 4);
        }
    }

    pub fn sender_report(&mut self, now: Stamp, report: &SenderReport) {
        self.last_report = Some(((report.ntp >> 16) as u32, now));
    }

    /// What is to be said of the source now; `None`: nothing has come of it.
    pub fn block(&mut self, now: Stamp, ssrc: u32) -> Option<ReportBlock> {
        let expected = self.highest.wrapping_sub(self.base?).wrapping_add(1);
        let lost = i64::from(expected) - i64::from(self.received);
        let expected_since = expected.wrapping_sub(self.expected_before);
        let received_since = self.received.wrapping_sub(self.received_before);
        (self.expected_before, self.received_before) = (expected, self.received);
        let lost_since = expected_since.saturating_sub(received_since);
        let fraction_lost =
            if expected_since == 0 { 0 } else { (u64::from(lost_since) * 256 / u64::from(expected_since)).min(255) };
        let (last_sr, delay) = match self.last_report {
            Some((ntp, at)) => (ntp, (now.since(at).as_nanos() * 65_536 / 1_000_000_000) as u32),
            None => (0, 0),
        };
        Some(ReportBlock {
            ssrc,
            fraction_lost: fraction_lost as u8,
            cumulative_lost: lost.clamp(-0x80_0000, 0x7F_FFFF) as i32,
            highest_sequence: self.highest,
            jitter: (self.jitter_16 >> 4) as u32,
            last_sr,
            delay_since_last_sr: delay,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_counted_in_all_and_since_the_last_report() {
        let mut statistics = Statistics::default();
        assert_eq!(statistics.block(Stamp::ZERO, 9), None);
        for number in (65_500u32..65_600).filter(|number| number % 4 != 0) {
            statistics.packet(Stamp::from_millis(u64::from(number)), number as u16, number * 90, 90_000);
        }
        let block = statistics.block(Stamp::ZERO, 9).unwrap();
        assert_eq!((block.highest_sequence, block.cumulative_lost, block.fraction_lost), (65_599, 24, (24 * 256 / 99u32) as u8));
        assert_eq!(block.jitter, 0, "packets come as fast as they are stamped");
        let block = statistics.block(Stamp::ZERO, 9).unwrap();
        assert_eq!((block.cumulative_lost, block.fraction_lost), (24, 0), "nothing since");
    }

    #[test]
    fn jitter_and_round_trip() {
        let mut statistics = Statistics::default();
        for number in 0..1_000u64 {
            let late = (number % 2) * 10;
            statistics.packet(Stamp::from_millis(number * 20 + late), number as u16, number as u32 * 1_800, 90_000);
        }
        let report = SenderReport { ssrc: 1, ntp: 0x1122_3344_5566_7788, rtp_timestamp: 0, packets: 0, octets: 0 };
        statistics.sender_report(Stamp::from_millis(20_000), &report);
        let block = statistics.block(Stamp::from_millis(20_500), 9).unwrap();
        assert!((890..=900).contains(&block.jitter), "10 ms of 90 kHz: {}", block.jitter);
        assert_eq!((block.last_sr, block.delay_since_last_sr), (0x3344_5566, 32_768));
    }
}
