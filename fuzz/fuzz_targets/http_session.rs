//! Any bytes from an HTTP client → `HttpSession`: no panic; what comes out does not depend on how the bytes were cut; nothing comes
//! out behind a close; one piece of a stream is asked for at a time.
//!
//! Input: one byte that chooses the shard's answer to a wish to play or to fetch, one that says how many bytes come before the answer to a
//! wish to play (times 16), one for the size of the pieces, then the bytes. What is fetched is answered at once.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use shardcast::config::Config;
use shardcast::media::Stamp;
use shardcast::protocol::{SessionContext, http};
use shardcast::session::fetch::{Body, Content, Lifetime};
use shardcast::session::{CloseReason, Fetched, Input, Output, Refusal, Session, SessionError};

const BYTES_MAX: usize = 8 * 1024;

fn answer(choice: u8) -> Input<'static> {
    match choice % 8 {
        0 => Input::Refused(Refusal::NotFound),
        1 => Input::Closing(CloseReason::ShuttingDown),
        2 => Input::Ended,
        3 => Input::Timeout,
        _ => Input::Playing(None),
    }
}

fn fetched(choice: u8) -> Fetched {
    let pieces: Arc<[_]> = [bytes::Bytes::from_static(b"0123"), bytes::Bytes::from_static(b"456789")].into();
    match choice % 8 {
        0 => Fetched::NotFound,
        1 => Fetched::TooFar,
        2 => Fetched::TimedOut,
        3 => Fetched::Body(Body::text("#EXTM3U\n".to_owned(), Lifetime::Checked, Some(7))),
        4 => Fetched::Body(Body::text(String::new(), Lifetime::None, None)),
        _ => Fetched::Body(Body::segment(pieces, Content::Fmp4, 7)),
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
            Output::Body(pieces) => pieces.iter().for_each(|piece| sent.extend_from_slice(piece)),
            other => rest.push(other),
        }
    }
    (sent, rest, result)
}

/// Gives one input, and answers to everything that is fetched because of it.
fn give(session: &mut dyn Session, choice: u8, input: Input<'_>, out: &mut Vec<Output>) -> Result<(), SessionError> {
    let now = Stamp::from_millis(1);
    let mut seen = out.len();
    session.handle(now, input, out)?;
    loop {
        let fresh = &out[seen..];
        let fetches = fresh.iter().filter(|output| matches!(output, Output::Fetch(_))).count();
        let bodies = fresh.iter().filter(|output| matches!(output, Output::Body(_))).count();
        assert!(fetches + bodies <= 1, "one at a time: {fresh:?}");
        seen = out.len();
        match (fetches, bodies) {
            (1, _) => session.handle(now, Input::Fetched(fetched(choice)), out)?,
            (_, 1) => session.handle(now, Input::Sent, out)?,
            _ => return Ok(()),
        }
    }
}

fn feed(
    session: &mut dyn Session,
    choice: u8,
    before: &[u8],
    after: &[u8],
    piece: usize,
    out: &mut Vec<Output>,
) -> Result<(), SessionError> {
    for piece in before.chunks(piece) {
        give(session, choice, Input::Bytes(piece), out)?;
    }
    if out.iter().any(|output| matches!(output, Output::Play(_))) && !out.contains(&Output::Close) {
        give(session, choice, answer(choice), out)?;
    }
    for piece in after.chunks(piece) {
        give(session, choice, Input::Bytes(piece), out)?;
    }
    if let Some(at) = session.next_timeout() {
        session.handle(at, Input::Timeout, out)?;
    }
    Ok(())
}

fuzz_target!(|input: &[u8]| {
    let [choice, split, piece, bytes @ ..] = input else { return };
    // More than may wait behind a request that is not answered yet: in pieces it would not have to wait.
    let bytes = &bytes[..bytes.len().min(BYTES_MAX)];
    let (before, after) = bytes.split_at((usize::from(*split) * 16).min(bytes.len()));
    let whole = run(*choice, before, after, usize::MAX);
    let cut = run(*choice, before, after, usize::from(*piece).max(1));
    assert_eq!(whole, cut);
});
