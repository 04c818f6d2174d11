//! Any datagram → `RtpHeader::parse`: no panic, and the payload lies inside the packet behind the fixed header.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardcast::format::rtp::RtpHeader;

fuzz_target!(|packet: &[u8]| {
    if let Ok(header) = RtpHeader::parse(packet) {
        assert!(header.payload.start >= 12);
        assert!(header.payload_type < 128);
        assert!(packet.get(header.payload).is_some());
    }
});
