//! Payloads of AV1, VP8 and VP9 in any order → frames: no panic, bounded, and temporal units of AV1 in the low-overhead format.
//!
//! Input: one byte for the format, then packets as `depacketize` reads them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardcast::format::rtp::PayloadForm;
use shardcast::media::Codec;
use shardcast_fuzz::{Choices, depacketize, payload};

fuzz_target!(|input: &[u8]| {
    let mut choices = Choices::new(input);
    let (codec, form) = match choices.byte() % 3 {
        0 => (Codec::Av1, PayloadForm::Av1),
        1 => (Codec::Vp8, PayloadForm::Vp8),
        _ => (Codec::Vp9, PayloadForm::Vp9),
    };
    depacketize(&payload(codec, form, 90_000), &mut choices);
});
