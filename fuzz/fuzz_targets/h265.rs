//! H.265: parameter sets, configuration records, and access units in every framing; canonical output stays as it is.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use shardcast::media::h265::{self, HevcConfig, Sps};
use shardcast::media::nal::canonical_access_unit;

fuzz_target!(|data: &[u8]| {
    let _ = Sps::parse(data);
    let data = Bytes::copy_from_slice(data);
    if let Ok(config) = HevcConfig::parse(&data) {
        let _ = config.shape();
        let _ = HevcConfig::parse(&HevcConfig::record(&config.vps, &config.sps, &config.pps)).expect("what is built can be read");
    }
    for nal_length_bytes in 1..=4 {
        if let Ok(Some(unit)) = canonical_access_unit(data.clone(), nal_length_bytes, h265::is_aud) {
            assert_eq!(canonical_access_unit(unit.clone(), 4, h265::is_aud), Ok(Some(unit)));
        }
    }
});
