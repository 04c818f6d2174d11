//! Whose packets are taken: an SSRC (RFC 3550 §8), and where it sends from.
//!
//! The first that comes is taken, whatever was agreed (GB/T 28181 senders often keep to an SSRC of their own), unless the agreement is
//! strict. Another one is followed if the taken one has been silent for [`RELOCK_SILENCE_MS`], or if it fits what was agreed, by SSRC or
//! by address, and the taken one does not: so a stranger that came first keeps nobody out. Not here: the guard of the address's port
//! (`common/source`).

use std::net::IpAddr;

use crate::protocol::common::source::RELOCK_SILENCE_MS;
use crate::session::ExpectedSource;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Taken {
    ssrc: u32,
    ip: Option<IpAddr>,
}

/// What is to become of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is of the source that is taken, or of the first.
    Known,
    /// Another source is to be taken from here on.
    Follow,
    Foreign,
}

#[derive(Debug)]
pub struct Sources {
    expected: ExpectedSource,
    taken: Option<Taken>,
    /// The last SSRC that was not taken.
    foreign: Option<u32>,
}

impl Sources {
    pub fn new(expected: ExpectedSource) -> Self {
        Sources { expected, taken: None, foreign: None }
    }

    /// The source that is taken, else the expected one.
    pub fn ssrc(&self) -> Option<u32> {
        self.taken.map(|taken| taken.ssrc).or(self.expected.ssrc)
    }

    /// Of the only packets that can come.
    pub fn certain(&self) -> Option<u32> {
        self.taken.map(|taken| taken.ssrc).or(self.expected.ssrc.filter(|_| self.expected.strict))
    }

    /// Something else has been agreed. `true`: what was taken is not to be taken any more.
    pub fn expect(&mut self, expected: ExpectedSource) -> bool {
        self.expected = expected;
        self.foreign = None;
        let is_refused = self.taken.is_some_and(|taken| self.is_excluded(taken.ssrc));
        if is_refused {
            self.taken = None;
        }
        is_refused
    }

    /// `silent_ms`: how long nothing has come of the taken one.
    pub fn judge(&mut self, ssrc: u32, ip: Option<IpAddr>, silent_ms: u64) -> Verdict {
        let follows = match self.taken {
            _ if self.is_excluded(ssrc) => false,
            Some(taken) if taken.ssrc == ssrc => return Verdict::Known,
            None => return Verdict::Known,
            Some(taken) => silent_ms >= RELOCK_SILENCE_MS || self.fits(Taken { ssrc, ip }) && !self.fits(taken),
        };
        if follows {
            return Verdict::Follow;
        }
        self.foreign = Some(ssrc);
        Verdict::Foreign
    }

    /// The source of a packet that was not judged to be foreign.
    pub fn take(&mut self, ssrc: u32, ip: Option<IpAddr>) {
        let taken = Some(Taken { ssrc, ip });
        if self.taken != taken {
            (self.taken, self.foreign) = (taken, None);
        }
    }

    /// Whoever was taken sends nothing of use.
    pub fn forget(&mut self) {
        self.taken = None;
    }

    fn is_excluded(&self, ssrc: u32) -> bool {
        self.expected.strict && self.expected.ssrc.is_some_and(|expected| expected != ssrc)
    }

    fn fits(&self, source: Taken) -> bool {
        let by_address = self.expected.ip.is_some_and(|ip| source.ip.is_some_and(|of| of.to_canonical() == ip.to_canonical()));
        self.expected.ssrc == Some(source.ssrc) || by_address
    }

    /// Whether the source that is taken is not the agreed one.
    pub fn is_other(&self) -> bool {
        self.taken.is_some_and(|taken| self.expected.ssrc.is_some_and(|expected| expected != taken.ssrc))
    }

    /// What an operator should know of it.
    pub fn remark(&self) -> Option<String> {
        let seen = |ssrc| format!("RTP seen with SSRC {ssrc}");
        match (self.foreign, self.taken, self.expected.ssrc) {
            (Some(foreign), _, _) => self.ssrc().map(|ssrc| format!("{}, {ssrc} expected: ignored", seen(foreign))),
            (None, Some(taken), Some(expected)) if taken.ssrc != expected => {
                Some(format!("{}, SDP says {expected}: accepted", seen(taken.ssrc)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));
    const B: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)));

    #[test]
    fn who_is_taken() {
        use Verdict::{Follow, Foreign, Known};
        let of = |ssrc, ip| ExpectedSource { ssrc, strict: false, ip };
        let strict = ExpectedSource { ssrc: Some(7), strict: true, ip: None };
        // What was agreed; SSRC, address and silence of each packet, and what becomes of it.
        type Packets<'a> = &'a [(u32, Option<IpAddr>, u64, Verdict)];
        let cases: [(&str, ExpectedSource, Packets<'_>); 6] = [
            ("the first, and no other", of(None, None), &[(1, A, 0, Known), (2, A, 4_999, Foreign), (1, B, 0, Known)]),
            ("another after a silence", of(None, None), &[(1, A, 0, Known), (2, B, 5_000, Follow), (1, A, 0, Foreign)]),
            ("strict", strict, &[(8, A, 9_999, Foreign), (7, A, 0, Known), (8, A, 9_999, Foreign)]),
            ("not as agreed, then as agreed", of(Some(7), None), &[(8, A, 0, Known), (7, B, 0, Follow), (8, A, 0, Foreign)]),
            ("from elsewhere, then from there", of(Some(7), A), &[(8, B, 0, Known), (9, A, 0, Follow), (7, B, 0, Foreign)]),
            ("both fit", of(Some(7), A), &[(7, B, 0, Known), (8, A, 0, Foreign)]),
        ];
        for (name, expected, packets) in cases {
            let mut sources = Sources::new(expected);
            for (at, (ssrc, ip, silent_ms, verdict)) in packets.iter().enumerate() {
                assert_eq!(sources.judge(*ssrc, *ip, *silent_ms), *verdict, "{name}, packet {at}");
                if *verdict != Foreign {
                    sources.take(*ssrc, *ip);
                }
            }
        }
    }

    #[test]
    fn what_is_said_of_it() {
        let mut sources = Sources::new(ExpectedSource { ssrc: Some(7), ..ExpectedSource::default() });
        assert_eq!(sources.remark(), None);
        sources.take(8, A);
        assert_eq!(sources.remark().unwrap(), "RTP seen with SSRC 8, SDP says 7: accepted");
        assert_eq!(sources.judge(9, A, 0), Verdict::Foreign);
        assert_eq!(sources.remark().unwrap(), "RTP seen with SSRC 9, 8 expected: ignored");
        // The answer names the SSRC that is sent.
        assert!(!sources.expect(ExpectedSource { ssrc: Some(8), ..ExpectedSource::default() }));
        assert_eq!((sources.remark(), sources.ssrc()), (None, Some(8)));
        assert!(sources.expect(ExpectedSource { ssrc: Some(7), strict: true, ip: None }));
        assert_eq!((sources.ssrc(), sources.certain()), (Some(7), Some(7)));
    }
}
