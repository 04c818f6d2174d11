//! AMF0 and AMF3: any bytes decode or are refused, and what decoded survives being written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shardcast::format::amf0;

fuzz_target!(|data: &[u8]| {
    let Ok(values) = amf0::decode_all(data) else { return };
    let mut written = Vec::new();
    values.iter().for_each(|value| amf0::encode(value, &mut written));
    // Text that was not UTF-8 has grown, and may now be over the limit.
    let Ok(again) = amf0::decode_all(&written) else { return };
    let mut rewritten = Vec::new();
    again.iter().for_each(|value| amf0::encode(value, &mut rewritten));
    assert!(written == rewritten);
});
