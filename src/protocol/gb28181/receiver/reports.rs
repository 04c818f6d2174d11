//! What a sender of RTP is told of its packets: receiver reports (RFC 3550 §6.4.2) every [`REPORT_MS`], where something came since.
//!
//! They go where the sender's own reports come from, else to the port behind the one it sends RTP from (§11). Not here: the socket.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};

use crate::format::rtp::demux::Statistics;
use crate::format::rtp::{RtpHeader, rtcp};
use crate::media::Stamp;

/// The interval of §6.2.
pub const REPORT_MS: u64 = 5_000;

#[derive(Debug, Default)]
pub struct Reports {
    statistics: Statistics,
    ssrc: Option<u32>,
    has_new: bool,
    /// Where reports of the sender came from.
    reports_from: Option<SocketAddr>,
    due: Option<Stamp>,
}

impl Reports {
    /// A packet of media, as it arrives.
    pub fn packet(&mut self, now: Stamp, header: &RtpHeader, clock_rate: u32) {
        if self.ssrc.replace(header.ssrc) != Some(header.ssrc) {
            *self = Reports { ssrc: Some(header.ssrc), ..Reports::default() };
        }
        self.statistics.packet(now, header.sequence, header.timestamp, clock_rate);
        self.has_new = true;
        self.due.get_or_insert(now.after_millis(REPORT_MS));
    }

    /// A compound of the sender's machine.
    pub fn heard(&mut self, now: Stamp, from: SocketAddr, compound: &[u8]) {
        let (ssrc, mut is_of_source) = (self.ssrc, false);
        // What can be read of a broken compound counts.
        let _ = rtcp::parse(compound, |report| {
            if let rtcp::Report::Sender(report) = report
                && ssrc == Some(report.ssrc)
            {
                self.statistics.sender_report(now, &report);
                is_of_source = true;
            }
        });
        if is_of_source {
            self.reports_from = Some(from);
        }
    }

    pub fn deadline(&self) -> Option<Stamp> {
        self.due
    }

    /// The report that is due, and where it goes; `source`: where media comes from.
    pub fn take_due(&mut self, now: Stamp, source: SocketAddr) -> Option<(SocketAddr, Bytes)> {
        if self.due.is_none_or(|due| due > now) {
            return None;
        }
        self.due = Some(now.after_millis(REPORT_MS));
        if !std::mem::take(&mut self.has_new) {
            return None;
        }
        let ssrc = self.ssrc?;
        let block = self.statistics.block(now, ssrc)?;
        // Any but the sender's.
        let own = !ssrc;
        let mut out = BytesMut::with_capacity(64);
        rtcp::write_receiver_report(&mut out, own, &block);
        rtcp::write_cname(&mut out, own);
        let behind = SocketAddr::new(source.ip(), source.port().checked_add(1)?);
        Some((self.reports_from.unwrap_or(behind), out.freeze()))
    }
}
