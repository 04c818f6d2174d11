//! Payloads of AAC in LATM (RFC 6416) in any order → frames: no panic, bounded, and every config can be read.
//!
//! Input: one byte that says whether the elements bring their config, then packets as `depacketize` reads them.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use shardcast::format::rtp::{PayloadForm, RtpPayload};
use shardcast::media::Codec;
use shardcast::media::aac::AacConfig;
use shardcast_fuzz::{Choices, depacketize, payload};

fuzz_target!(|input: &[u8]| {
    let mut choices = Choices::new(input);
    let config_in_band = choices.byte() & 1 == 0;
    let config = if config_in_band { Bytes::new() } else { AacConfig::build_lc(44_100, 1) };
    let form = PayloadForm::Latm { config_in_band };
    depacketize(&RtpPayload { config, ..payload(Codec::Aac, form, 44_100) }, &mut choices);
});
