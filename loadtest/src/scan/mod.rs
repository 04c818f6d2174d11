//! Incremental scanners: they find access units and their marks in a received byte stream, whatever pieces it comes in, or in RTP packets.
//!
//! Payloads are not kept: of a unit that comes in pieces only the first [`PREFIX_BYTES`] are copied, to find the mark and, for protocol
//! control, to be read by the owner. Nothing is allocated per frame.

pub mod chunk;
pub mod flv;
pub mod fmp4;
pub mod http;
pub mod order;
pub mod response;
pub mod rtp;
pub mod ts;
pub mod websocket;

use std::io;

use crate::mark::Mark;
use order::Arrival;

/// How much of a unit's beginning is looked at. The mark stands in the first 60 bytes; a server may add parameter sets before it.
pub const PREFIX_BYTES: usize = 256;

/// A message or tag type (FLV §E.4.1, RTMP §7.1).
pub const AUDIO: u8 = 8;
pub const VIDEO: u8 = 9;

/// The stream broke its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken(pub &'static str);

impl From<Broken> for io::Error {
    fn from(broken: Broken) -> io::Error {
        io::Error::other(broken.0)
    }
}

/// What was found, in order.
#[derive(Debug)]
pub enum Found<'a> {
    /// The mark of an access unit has come.
    First(Mark),
    /// The last byte of a marked access unit has come.
    Last { mark: Mark, key: bool },
    /// A whole audio frame.
    Audio,
    /// An RTP packet.
    Packet(Arrival),
    /// A whole message of another type, its beginning.
    Other { kind: u8, prefix: &'a [u8] },
}

/// One tag or message body as it comes.
pub struct Unit {
    kind: u8,
    /// Bytes still to come.
    left: usize,
    prefix: [u8; PREFIX_BYTES],
    prefix_bytes: usize,
    /// The first byte of the body: a frame's type stands in it.
    first: Option<u8>,
    mark: Option<Mark>,
    /// Where the container says it, whether it is a keyframe.
    key: Option<bool>,
}

impl Default for Unit {
    fn default() -> Self {
        Unit { kind: 0, left: 0, prefix: [0; PREFIX_BYTES], prefix_bytes: 0, first: None, mark: None, key: None }
    }
}

impl Unit {
    pub fn begin(&mut self, kind: u8, length: usize) {
        (self.kind, self.left, self.prefix_bytes, self.first, self.mark, self.key) = (kind, length, 0, None, None, None);
    }

    /// One that has no FLV header in front of it.
    pub fn begin_sample(&mut self, kind: u8, length: usize, key: bool) {
        self.begin(kind, length);
        self.key = Some(key);
    }

    pub fn left(&self) -> usize {
        self.left
    }

    /// Takes bytes of the body, at most as many as are left.
    pub fn feed(&mut self, bytes: &[u8], found: &mut impl FnMut(Found<'_>)) {
        self.left -= bytes.len();
        self.first = self.first.or(bytes.first().copied());
        match self.kind {
            VIDEO if self.mark.is_none() => self.look_for_mark(bytes, found),
            VIDEO | AUDIO => {}
            _ => self.keep(bytes),
        }
        if self.left == 0 {
            self.finish(found);
        }
    }

    fn look_for_mark(&mut self, bytes: &[u8], found: &mut impl FnMut(Found<'_>)) {
        let is_whole = self.prefix_bytes == 0 && (self.left == 0 || bytes.len() >= PREFIX_BYTES);
        self.mark = if is_whole {
            // Nothing behind it is looked at.
            self.prefix_bytes = PREFIX_BYTES;
            Mark::find(&bytes[..bytes.len().min(PREFIX_BYTES)])
        } else if self.prefix_bytes < PREFIX_BYTES {
            self.keep(bytes);
            Mark::find(&self.prefix[..self.prefix_bytes])
        } else {
            None
        };
        if let Some(mark) = self.mark {
            found(Found::First(mark));
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let copied = bytes.len().min(PREFIX_BYTES - self.prefix_bytes);
        self.prefix[self.prefix_bytes..][..copied].copy_from_slice(&bytes[..copied]);
        self.prefix_bytes += copied;
    }

    fn finish(&self, found: &mut impl FnMut(Found<'_>)) {
        match (self.kind, self.mark) {
            // The frame type stands in bits 4 to 6, in the classic and in the enhanced form.
            (VIDEO, Some(mark)) => {
                found(Found::Last { mark, key: self.key.or(self.first.map(|first| first >> 4 & 7 == 1)) == Some(true) })
            }
            // A sequence header.
            (VIDEO, None) => {}
            (AUDIO, _) => found(Found::Audio),
            (kind, _) => found(Found::Other { kind, prefix: &self.prefix[..self.prefix_bytes] }),
        }
    }
}

/// Collects a header of a few bytes.
pub struct Header<const N: usize> {
    pub bytes: [u8; N],
    pub len: usize,
}

impl<const N: usize> Default for Header<N> {
    fn default() -> Self {
        Header { bytes: [0; N], len: 0 }
    }
}

impl<const N: usize> Header<N> {
    /// Takes bytes off the front of `input` until `wanted` are here; false: more are needed.
    pub fn collect(&mut self, wanted: usize, input: &mut &[u8]) -> bool {
        let take = wanted.saturating_sub(self.len).min(input.len());
        self.bytes[self.len..][..take].copy_from_slice(&input[..take]);
        self.len += take;
        *input = &input[take..];
        self.len >= wanted
    }
}

#[cfg(test)]
pub mod testing {
    //! What the scanners' tests share.

    use super::*;

    /// What was found, without borrowed parts.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum Seen {
        First(u32),
        Last(u32, bool),
        Audio,
        Packet(Arrival),
        Other(u8, usize),
    }

    pub fn seen(found: &Found<'_>) -> Seen {
        match found {
            Found::First(mark) => Seen::First(mark.sequence),
            Found::Last { mark, key } => Seen::Last(mark.sequence, *key),
            Found::Audio => Seen::Audio,
            Found::Packet(arrival) => Seen::Packet(*arrival),
            Found::Other { kind, prefix } => Seen::Other(*kind, prefix.len()),
        }
    }

    /// Gives `bytes` to a fresh scanner in pieces of every size; all must find the same.
    pub fn scan_in_pieces<S>(
        bytes: &[u8],
        new: impl Fn() -> S,
        feed: impl Fn(&mut S, &[u8], &mut dyn FnMut(Found<'_>)),
    ) -> Vec<Seen> {
        let scan = |size| {
            let mut all = Vec::new();
            let mut scanner = new();
            for piece in bytes.chunks(size) {
                feed(&mut scanner, piece, &mut |found| all.push(seen(&found)));
            }
            all
        };
        let whole = scan(bytes.len());
        for size in [1, 2, 3, 7, 11, 100, 1000] {
            assert_eq!(scan(size), whole, "in pieces of {size}");
        }
        whole
    }

    /// A video body with a mark.
    pub fn video(sequence: u32, key: bool, length: usize) -> Vec<u8> {
        let mut body = vec![if key { 0x17 } else { 0x27 }, 1, 0, 0, 0];
        body.extend_from_slice(&Mark { sent: 5, sequence, publisher: 0 }.encode());
        body.resize(length, 0xFF);
        body
    }
}
