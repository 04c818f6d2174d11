//! Any bytes as a session description of GB/T 28181, and as a body of MANSRTSP: no panic; limits hold; what is written of what was read is
//! read as the same, and so is its answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardcast::protocol::gb28181::mansrtsp;
use shardcast::protocol::gb28181::sdp::{self, Answer, Description, MEDIA_MAX, PAYLOADS_MAX, PS_PAYLOAD_TYPE};

fn check(description: &Description) {
    assert!(description.media.len() <= MEDIA_MAX);
    for media in &description.media {
        assert!(media.payloads.len() <= PAYLOADS_MAX);
        assert!(media.payloads.iter().all(|payload| payload.payload_type < 128));
    }
}

/// What a description says of itself; the first time, what nobody can say is left out.
fn again(description: &Description) -> Option<Description> {
    let text = description.to_string();
    assert!(text.split_terminator("\r\n").all(|line| line.as_bytes().get(1) == Some(&b'=') && !line.contains('\n')));
    sdp::parse(text.as_bytes()).ok()
}

fn describe(input: &[u8]) {
    let Ok(description) = sdp::parse(input) else { return };
    check(&description);
    let answer = Answer {
        owner: "34020000001310000001",
        address: [192, 0, 2, 1].into(),
        port: 1,
        payload_type: PS_PAYLOAD_TYPE,
        ssrc: None,
        file_size: None,
    };
    let answer = description.answer(&answer);
    assert_eq!(answer.media.len(), 1);
    for description in [description, answer] {
        let Some(first) = again(&description) else { continue };
        check(&first);
        assert_eq!(again(&first).as_ref(), Some(&first));
    }
}

fn control(input: &[u8]) {
    if let Ok((request, cseq)) = mansrtsp::Request::parse(input) {
        assert_eq!(mansrtsp::Request::parse(request.write(cseq).as_bytes()), Ok((request, cseq)));
    }
    if let Ok(answer) = mansrtsp::Answer::parse(input) {
        assert_eq!(mansrtsp::Answer::parse(answer.write().as_bytes()), Ok(answer));
    }
}

fuzz_target!(|input: &[u8]| {
    describe(input);
    control(input);
});
