//! Any bytes as a client of the server session: no panic, and nothing after the end. Input that begins with 3 holds its own handshake
//! (the captured transcripts do); other input comes behind a finished one.
#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use shardcast::config::Config;
use shardcast::media::Stamp;
use shardcast::protocol::SessionContext;
use shardcast::protocol::rtmp::session::RtmpSession;
use shardcast::session::{Input, Output, Session};

fuzz_target!(|data: &[u8]| {
    let mut now = Stamp::from_millis(1);
    let context = SessionContext::lone(Config::default(), SocketAddr::from(([127, 0, 0, 1], 1)));
    let mut session = RtmpSession::new(&context, now);
    let mut out = Vec::new();
    if data.first() != Some(&3) {
        let hello = [&[3][..], &[0; 3072]].concat();
        session.handle(now, Input::Bytes(&hello), &mut out).expect("an unsigned hello is fine");
    }
    let piece = usize::from(data.last().copied().unwrap_or(0)) + 1;
    for bytes in data.chunks(piece * 8) {
        now = now.after_millis(10);
        out.clear();
        if session.handle(now, Input::Bytes(bytes), &mut out).is_err() {
            return;
        }
        let answers: Vec<Input<'_>> = out
            .iter()
            .filter_map(|output| match output {
                Output::Publish(_) => Some(Input::Publishing),
                Output::Play(_) => Some(Input::Playing(None)),
                _ => None,
            })
            .collect();
        let closed = out.iter().position(|output| *output == Output::Close);
        assert!(closed.is_none_or(|at| at + 1 == out.len()), "nothing comes after the close");
        for answer in answers {
            session.handle(now, answer, &mut out).expect("an answer of the shard is no fault");
        }
        if closed.is_some() {
            out.clear();
            session.handle(now, Input::Bytes(bytes), &mut out).expect("input after the close is ignored");
            assert!(out.is_empty());
            return;
        }
        assert!(session.next_timeout().is_some());
    }
    session.handle(now, Input::Ended, &mut out).expect("the end of a stream is no fault");
});
