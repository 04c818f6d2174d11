//! Any bytes as the body of a MANSCDP message, and as the code of a PTZ command: no panic; limits hold; and what was read is read as the
//! same when it is written again, in either charset.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardcast::protocol::gb28181::manscdp::{self, BODY_BYTES_MAX, Body, Charset, Command, Control, Message};
use shardcast::protocol::gb28181::ptz::{self, Code, Instruction};

/// What is not written again.
fn is_lost(message: &Message) -> bool {
    matches!(&message.body, Body::Control(Control::Device(control)) if matches!(control.command, Command::Other(_)))
}

/// Words in GB18030 can be valid UTF-8 by accident.
fn is_ambiguous(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| !text.is_ascii())
}

fn write_again(message: &Message) {
    for charset in [Charset::Utf8, Charset::Gb18030] {
        let bytes = manscdp::encode(message, charset);
        if bytes.len() > BODY_BYTES_MAX || charset == Charset::Gb18030 && is_ambiguous(&bytes) {
            continue;
        }
        let (read, _) = manscdp::decode(&bytes).expect("what is written can be read");
        assert!(is_lost(message) || read == *message, "{message:?} became {read:?}");
    }
}

/// The meaning of a code survives; its bytes may differ where they mean nothing.
fn move_again(code: &Code) {
    assert_eq!(ptz::parse_hex(&ptz::hex(code)), Some(*code));
    if let Ok((instruction, address)) = Instruction::parse(code) {
        let again = instruction.code(address);
        assert_eq!(Instruction::parse(&again), Ok((instruction, address)));
    }
}

fuzz_target!(|input: &[u8]| {
    if let Ok((message, _)) = manscdp::decode(input) {
        write_again(&message);
    }
    if let Some(code) = input.first_chunk() {
        move_again(code);
    }
    if let Some(code) = ptz::parse_hex(&String::from_utf8_lossy(input)) {
        move_again(&code);
    }
});
