//! H.264: parameter sets, configuration records, and access units in every framing; canonical output stays as it is.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use shardcast::media::h264::{self, AvcConfig, Sps};
use shardcast::media::nal::canonical_access_unit;

fuzz_target!(|data: &[u8]| {
    let _ = Sps::parse(data);
    let data = Bytes::copy_from_slice(data);
    if let Ok(config) = AvcConfig::parse(&data) {
        let _ = config.shape();
        let rebuilt = AvcConfig::parse(&AvcConfig::record(&config.sps, &config.pps)).expect("what is built can be read");
        assert_eq!((rebuilt.sps, rebuilt.pps), (config.sps, config.pps));
    }
    for nal_length_bytes in 1..=4 {
        if let Ok(Some(unit)) = canonical_access_unit(data.clone(), nal_length_bytes, h264::is_aud) {
            assert_eq!(canonical_access_unit(unit.clone(), 4, h264::is_aud), Ok(Some(unit)));
        }
    }
});
