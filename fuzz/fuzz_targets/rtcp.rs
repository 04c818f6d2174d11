//! Any packet as RTCP: no panic, no more reports than there is room for, and what was read can be written and read again.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use shardcast::format::rtp::rtcp::{self, Report};

fn read(packet: &[u8]) -> (Vec<Report>, bool) {
    let mut reports = Vec::new();
    let is_whole = rtcp::parse(packet, |report| reports.push(report)).is_ok();
    (reports, is_whole)
}

fuzz_target!(|packet: &[u8]| {
    let (reports, is_whole) = read(packet);
    assert!(reports.len() <= packet.len() / 4);
    if is_whole && !reports.is_empty() {
        assert!(packet.len() >= 8);
    }
    for report in reports {
        let mut written = BytesMut::new();
        match &report {
            Report::Sender(sender) => rtcp::write_sender_report(&mut written, sender),
            Report::Bye { ssrc } => rtcp::write_bye(&mut written, *ssrc),
        }
        assert!(rtcp::is_rtcp(&written));
        assert_eq!(read(&written), (vec![report], true));
    }
});
