//! Any bytes from an HTTP client → `HttpSession`: no panic; what comes out does not depend on how the bytes were cut; nothing comes
//! out behind a close.
//!
//! Input: one byte that chooses the shard's answer to a wish to play, one that says how many bytes come before that answer (times
//! 16), one for the size of the pieces, then the bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardcast::config::Config;
use shardcast::media::Stamp;
use shardcast::protocol::{SessionContext, http};
use shardcast::session::{CloseReason, Input, Output, Refusal, Session, SessionError};

fn answer(choice: u8) -> Input<'static> {
    match choice % 8 {
        0 => Input::Refused(Refusal::NotFound),
        1 => Input::Closing(CloseReason::ShuttingDown),
        2 => Input::Ended,
        3 => Input::Timeout,
        _ => Input::Playing(None),
    }
}

/// All that is sent, and every other output, in order.
fn run(choice: u8, before: &[u8], after: &[u8], piece: usize) -> (Vec<u8>, Vec<Output>, Result<(), SessionError>) {
    let context = SessionContext::lone(Config::default(), ([127, 0, 0, 1], 1).into());
    let mut session = (http::PROTOCOL.session)(&context, Stamp::ZERO);
    let mut out = Vec::new();
    let result = feed(&mut *session, choice, before, after, piece, &mut out);
    let mut sent = Vec::new();
    let mut rest = Vec::new();
    for output in out {
        assert_ne!(rest.last(), Some(&Output::Close), "{output:?} behind a close");
        match output {
            Output::Send(bytes) => sent.extend_from_slice(&bytes),
            other => rest.push(other),
        }
    }
    (sent, rest, result)
}

fn feed(
    session: &mut dyn Session,
    choice: u8,
    before: &[u8],
    after: &[u8],
    piece: usize,
    out: &mut Vec<Output>,
) -> Result<(), SessionError> {
    let now = Stamp::from_millis(1);
    for piece in before.chunks(piece) {
        session.handle(now, Input::Bytes(piece), out)?;
    }
    if out.iter().any(|output| matches!(output, Output::Play(_))) && !out.contains(&Output::Close) {
        session.handle(now, answer(choice), out)?;
    }
    for piece in after.chunks(piece) {
        session.handle(now, Input::Bytes(piece), out)?;
    }
    if let Some(at) = session.next_timeout() {
        session.handle(at, Input::Timeout, out)?;
    }
    Ok(())
}

fuzz_target!(|input: &[u8]| {
    let [choice, split, piece, bytes @ ..] = input else { return };
    let (before, after) = bytes.split_at((usize::from(*split) * 16).min(bytes.len()));
    let whole = run(*choice, before, after, usize::MAX);
    let cut = run(*choice, before, after, usize::from(*piece).max(1));
    assert_eq!(whole, cut);
});
