//! Payloads of H.264 in any order → access units: no panic, bounded, and every unit canonical.
//!
//! Input: one byte that says whether the parameter sets are known from outside, then packets as `depacketize` reads them.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use shardcast::format::rtp::{PayloadForm, RtpPayload};
use shardcast::media::Codec;
use shardcast_fuzz::{AVCC, Choices, depacketize, payload};

fuzz_target!(|input: &[u8]| {
    let mut choices = Choices::new(input);
    let config = if choices.byte() & 1 == 0 { Bytes::new() } else { Bytes::from_static(AVCC) };
    let payload = RtpPayload { config, ..payload(Codec::H264, PayloadForm::H264, 90_000) };
    depacketize(&payload, &mut choices);
});
