//! Whether what a player got is an unbroken part of what was sent.

use std::collections::BTreeMap;

use super::framemd5::Streams;
use super::rtsp::micros;

/// Fails unless the packets of every stream of `seen` stand, one behind the other, in `sent`, at times that are off a common offset by no
/// more than `slack` microseconds. How many packets of each are missing behind its last.
#[track_caller]
pub fn assert_part(seen: &Streams, sent: &Streams, slack: Option<i64>, who: &str) -> BTreeMap<String, usize> {
    assert_eq!(seen.keys().collect::<Vec<_>>(), sent.keys().collect::<Vec<_>>(), "{who}: the streams");
    let (mut offset, mut missing) = (None, BTreeMap::new());
    for (kind, seen) in seen {
        let sent = &sent[kind];
        let first = &seen.lines.first().unwrap_or_else(|| panic!("{who}: no {kind}")).hash;
        // What is sent over and over is there more than once: the place is the last from which all is the same.
        let is_here = |from: usize| seen.lines.iter().zip(&sent.lines[from..]).all(|(seen, sent)| seen.hash == sent.hash);
        let count = seen.lines.len();
        let places =
            (0..=sent.lines.len().saturating_sub(count)).filter(|at| sent.lines.get(*at).is_some_and(|line| line.hash == *first));
        let Some(from) = places.filter(|at| at + count <= sent.lines.len()).rfind(|at| is_here(*at)) else {
            let near = seen.lines.iter().take(40).map(|line| sent.lines.iter().position(|sent| sent.hash == line.hash));
            let near: Vec<_> = near.collect();
            panic!("{who}: {count} packets of {kind} are no part of {}: {near:?}", sent.lines.len());
        };
        println!("{who}: {kind}: {count} of {} packets from {from} on", sent.lines.len());
        missing.insert(kind.clone(), sent.lines.len() - from - count);
        let Some(slack) = slack else { continue };
        for (at, (line, original)) in seen.lines.iter().zip(&sent.lines[from..]).enumerate() {
            let off = micros(seen, line.pts) - micros(sent, original.pts);
            let off = off - *offset.get_or_insert(off);
            assert!(off.abs() <= slack, "{who}: packet {at} of {kind} is {off} µs off");
        }
    }
    missing
}
