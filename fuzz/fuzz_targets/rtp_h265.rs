//! Payloads of H.265 in any order → access units: no panic, bounded, and every unit canonical.
//!
//! Input: one byte that says whether units have decoding order numbers and whether the parameter sets are known from outside, then
//! packets as `depacketize` reads them.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use shardcast::format::rtp::{PayloadForm, RtpPayload};
use shardcast::media::Codec;
use shardcast_fuzz::{Choices, HVCC, depacketize, payload};

fuzz_target!(|input: &[u8]| {
    let mut choices = Choices::new(input);
    let options = choices.byte();
    let config = if options & 1 == 0 { Bytes::new() } else { Bytes::from_static(HVCC) };
    let form = PayloadForm::H265 { donl: options & 2 != 0 };
    depacketize(&RtpPayload { config, ..payload(Codec::H265, form, 90_000) }, &mut choices);
});
