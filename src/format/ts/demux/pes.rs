//! The payloads of one PID's packets → PES packets.
//!
//! ISO/IEC 13818-1 §2.4.3.6. Headers may be cut anywhere. A packet ends by its length, or where the next begins if it has none. Limits: nothing
//! but an incomplete header is kept. Not here: what is in the payload.

use crate::format::pes::read_time;

/// Up to the length of what else stands in the header.
const HEAD_BYTES: usize = 9;

/// A part of a packet, as far as it has come.
#[derive(Debug, PartialEq)]
pub enum Part<'a> {
    /// Times in 90 kHz. `bytes`: of the payload, as it says; `None`: it does not.
    Begin {
        pts: Option<u64>,
        dts: Option<u64>,
        bytes: Option<usize>,
    },
    Payload(&'a [u8]),
    End {
        by_length: bool,
    },
    /// It is over before its end, or none at all.
    Broken,
}

enum State {
    /// Waits for the next to begin.
    Outside,
    Header,
    Payload {
        left: Option<usize>,
    },
}

pub struct PesReader {
    header: Vec<u8>,
    state: State,
}

impl PesReader {
    pub fn new() -> Self {
        PesReader { header: Vec::new(), state: State::Outside }
    }

    pub fn held_bytes(&self) -> usize {
        self.header.len()
    }

    /// Bytes are missing: the packet under way is passed over.
    pub fn lost(&mut self) {
        self.header.clear();
        self.state = State::Outside;
    }

    /// The payload of a packet of the transport stream.
    pub fn push(&mut self, starts: bool, mut payload: &[u8], sink: &mut dyn FnMut(Part<'_>)) {
        if starts {
            self.finish(sink);
            self.state = State::Header;
        }
        if let State::Header = self.state {
            payload = self.read_header(payload, sink);
        }
        if let State::Payload { left } = &mut self.state {
            let now = &payload[..left.unwrap_or(usize::MAX).min(payload.len())];
            if !now.is_empty() {
                sink(Part::Payload(now));
            }
            if let Some(left) = left {
                *left -= now.len();
                if *left == 0 {
                    self.state = State::Outside;
                    sink(Part::End { by_length: true });
                }
            }
        }
    }

    /// Nothing more comes of the packet under way.
    pub fn finish(&mut self, sink: &mut dyn FnMut(Part<'_>)) {
        match std::mem::replace(&mut self.state, State::Outside) {
            State::Outside => {}
            State::Payload { left: None } => sink(Part::End { by_length: false }),
            State::Header | State::Payload { left: Some(_) } => sink(Part::Broken),
        }
        self.header.clear();
    }

    /// Returns what stands behind the header, if that is whole now.
    fn read_header<'a>(&mut self, payload: &'a [u8], sink: &mut dyn FnMut(Part<'_>)) -> &'a [u8] {
        let rest = self.fill_header(HEAD_BYTES, payload);
        let Some(more) = self.header.get(HEAD_BYTES - 1) else { return &[] };
        let whole = HEAD_BYTES + usize::from(*more);
        let rest = self.fill_header(whole, rest);
        if self.header.len() < whole {
            return &[];
        }
        match Head::parse(&self.header) {
            Some(Head { pts, dts, bytes }) => {
                self.state = State::Payload { left: bytes };
                sink(Part::Begin { pts, dts, bytes });
            }
            None => {
                self.state = State::Outside;
                sink(Part::Broken);
            }
        }
        self.header.clear();
        rest
    }

    /// Brings the header up to `bytes`; returns what is left.
    fn fill_header<'a>(&mut self, bytes: usize, payload: &'a [u8]) -> &'a [u8] {
        let (now, later) = payload.split_at(payload.len().min(bytes.saturating_sub(self.header.len())));
        self.header.extend_from_slice(now);
        later
    }
}

/// What a header says.
struct Head {
    pts: Option<u64>,
    dts: Option<u64>,
    bytes: Option<usize>,
}

impl Head {
    /// `header` is whole.
    fn parse(header: &[u8]) -> Option<Head> {
        let [0, 0, 1, _id, high, low, first, flags, more, fields @ ..] = header else { return None };
        if first >> 6 != 0b10 {
            return None;
        }
        let pts = if flags & 0x80 != 0 { read_time(fields) } else { None };
        let dts = if flags & 0xC0 == 0xC0 { fields.get(5..).and_then(read_time) } else { None };
        let bytes = match usize::from(u16::from_be_bytes([*high, *low])) {
            0 => None,
            length => Some(length.checked_sub(3 + usize::from(*more))?),
        };
        Some(Head { pts, dts, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One letter per part, and the payload.
    fn parts(packets: &[(bool, &[u8])]) -> (String, Vec<u8>) {
        let (mut reader, mut letters, mut payload) = (PesReader::new(), String::new(), Vec::new());
        for (starts, bytes) in packets {
            reader.push(*starts, bytes, &mut |part| match part {
                Part::Begin { pts, dts, bytes } => {
                    letters.push_str(&format!("[{} {} {}]", pts.is_some(), dts.is_some(), bytes.unwrap_or(9_999)));
                }
                Part::Payload(bytes) => payload.extend_from_slice(bytes),
                Part::End { by_length } => letters.push(if by_length { 'L' } else { 'N' }),
                Part::Broken => letters.push('B'),
            });
        }
        (letters, payload)
    }

    const HEAD: &[u8] = &[0, 0, 1, 0xE0, 0, 11, 0x80, 0x80, 5, 0x21, 0x00, 0x05, 0xBF, 0x21];

    #[test]
    fn packets_end_by_their_length_or_where_the_next_begins() {
        let mut unbounded = HEAD.to_vec();
        unbounded[5] = 0;
        type Case<'a> = (&'a str, &'a [(bool, &'a [u8])], &'a str, &'a [u8]);
        let cases: [Case<'_>; 7] = [
            ("by length", &[(true, HEAD), (false, &[1, 2, 3, 4])], "[true false 3]L", &[1, 2, 3]),
            ("by the next", &[(true, &unbounded), (false, &[1, 2]), (true, HEAD)], "[true false 9999]N[true false 3]", &[1, 2]),
            ("cut off", &[(true, HEAD), (false, &[1]), (true, HEAD)], "[true false 3]B[true false 3]", &[1]),
            ("begun before", &[(false, &[1, 2]), (true, HEAD)], "[true false 3]", &[]),
            ("no start code", &[(true, &[0, 0, 2, 0xE0, 0, 0, 0x80, 0, 0]), (false, &[1])], "B", &[]),
            ("MPEG-1", &[(true, &[0, 0, 1, 0xE0, 0, 9, 0x0F, 0, 0, 0])], "B", &[]),
            ("shorter than its header", &[(true, &[0, 0, 1, 0xE0, 0, 2, 0x80, 0, 0])], "B", &[]),
        ];
        for (name, packets, letters, payload) in cases {
            assert_eq!(parts(packets), (letters.to_owned(), payload.to_vec()), "{name}");
        }
    }

    #[test]
    fn headers_may_be_cut_anywhere() {
        let whole = [HEAD, &[1, 2, 3]].concat();
        for cut in 0..whole.len() {
            let seen = parts(&[(true, &whole[..cut]), (false, &whole[cut..])]);
            assert_eq!(seen, ("[true false 3]L".to_owned(), vec![1, 2, 3]), "cut at {cut}");
        }
    }
}
