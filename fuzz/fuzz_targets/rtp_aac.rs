//! Payloads of AAC (RFC 3640), and of the other formats for sound, in any order → frames: no panic, bounded.
//!
//! Input: one byte for the format: AAC-hbr, AAC-lbr, AAC with widths of three more bytes, Opus, MPEG audio, G.711; its upper half says
//! whether a config is known from outside. Then packets as `depacketize` reads them.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use shardcast::format::rtp::{PayloadForm, RtpPayload};
use shardcast::media::Codec;
use shardcast::media::aac::AacConfig;
use shardcast_fuzz::{Choices, depacketize, payload};

fuzz_target!(|input: &[u8]| {
    let mut choices = Choices::new(input);
    let options = choices.byte();
    let aac = |size_bits, index_bits, index_delta_bits| PayloadForm::AacHbr { size_bits, index_bits, index_delta_bits };
    let mut width = || choices.byte() % 33;
    let (codec, form) = match options % 6 {
        0 => (Codec::Aac, aac(13, 3, 3)),
        1 => (Codec::Aac, aac(6, 2, 2)),
        2 => (Codec::Aac, aac(width(), width(), width())),
        3 => (Codec::Opus, PayloadForm::Opus),
        4 => (Codec::Mp3, PayloadForm::Mpa),
        _ => (Codec::G711A, PayloadForm::G711),
    };
    let is_known = codec == Codec::Aac && options & 0x80 != 0;
    let config = if is_known { AacConfig::build_lc(48_000, 2) } else { Bytes::new() };
    depacketize(&RtpPayload { config, ..payload(codec, form, 48_000) }, &mut choices);
});
