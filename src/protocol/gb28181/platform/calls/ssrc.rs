//! Numbers of media sources: GB/T 28181-2016 Annex F (`y=`), unique among the calls that run.

use std::collections::HashSet;

/// Numbers of one kind in a domain.
pub const SSRCS_MAX: u32 = 10_000;
const HISTORY: u32 = 1_000_000_000;

#[derive(Debug)]
pub struct Ssrcs {
    /// Digits 4 to 8 of the domain.
    domain: u32,
    next: u32,
    used: HashSet<u32>,
}

impl Ssrcs {
    /// `first`: where it begins, so that senders that still serve an earlier process are not mistaken for others.
    pub fn new(domain: &str, first: u32) -> Self {
        let digits = domain.get(3..8).and_then(|digits| digits.parse().ok());
        Ssrcs { domain: digits.unwrap_or(0), next: first % SSRCS_MAX, used: HashSet::new() }
    }

    /// 0 or 1 (live or recorded), five digits of the domain, four of the call. `None`: all are in use.
    pub fn take(&mut self, is_recorded: bool) -> Option<u32> {
        let base = self.domain * SSRCS_MAX + if is_recorded { HISTORY } else { 0 };
        for _ in 0..SSRCS_MAX {
            self.next = (self.next + 1) % SSRCS_MAX;
            if self.used.insert(base + self.next) {
                return Some(base + self.next);
            }
        }
        None
    }

    pub fn give_back(&mut self, ssrc: u32) {
        self.used.remove(&ssrc);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_of_sources() {
        let mut ssrcs = Ssrcs::new("34020000", 0);
        assert_eq!(ssrcs.take(false), Some(200_000_001));
        assert_eq!(ssrcs.take(true), Some(1_200_000_002));
        let mut ssrcs = Ssrcs::new("1301000000", 9_999);
        assert_eq!(ssrcs.take(false), Some(100_000_000));
        assert_eq!(Ssrcs::new("x", 7).take(false), Some(8));
        assert_eq!(Ssrcs::new("340摄像头", 7).take(false), Some(8));
    }

    #[test]
    fn none_is_given_out_twice() {
        let mut ssrcs = Ssrcs::new("3402000000", 5);
        let mut all: Vec<u32> = (0..SSRCS_MAX).map(|_| ssrcs.take(false).unwrap()).collect();
        assert_eq!(ssrcs.take(false), None);
        ssrcs.give_back(all[3]);
        assert_eq!(ssrcs.take(false), Some(all[3]));
        assert!(ssrcs.take(true).is_some());
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), SSRCS_MAX as usize);
    }
}
