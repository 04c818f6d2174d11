//! The parameter sets of H.264 and H.265, as they come → the decoder configuration record.
//!
//! H.264 §7.4.1.2.1, H.265 §7.4.2.4.2: a set replaces the one of its kind with the same id, and no other. A picture parameter set is
//! dropped besides when the sequence parameter set it refers to has changed and others have come for that one: it was made for the old
//! one. Limits: [`SETS_MAX`] sets of a kind, of which the oldest go, and [`SET_BYTES_MAX`]. Keeps a copy of each set. Not here: what else
//! they say, and when they hold.

use bytes::Bytes;

use crate::media::h264::{self, AvcConfig};
use crate::media::h265::{self, HevcConfig};
use crate::media::nal::{SET_BYTES_MAX, SETS_MAX};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetKind {
    /// Of H.265.
    Vps,
    Sps,
    Pps,
}

/// A set is too long, or one of too many.
#[derive(Debug)]
pub struct TooMuch;

pub struct ParameterSets {
    is_h264: bool,
    vps: Vec<Bytes>,
    /// The newest id first: pictures are most likely of that one, and the record's profile is that of the first.
    sps: Vec<Bytes>,
    pps: Vec<Bytes>,
    /// Come, but not in effect yet.
    new: Vec<(SetKind, Bytes)>,
    record: Bytes,
}

impl ParameterSets {
    /// `config`: a record that is known from outside; what cannot be read is none.
    pub fn new(is_h264: bool, config: &Bytes) -> Self {
        let [vps, sps, pps] = if is_h264 {
            AvcConfig::parse(config).map(|config| [Vec::new(), config.sps, config.pps]).unwrap_or_default()
        } else {
            HevcConfig::parse(config).map(|config| [config.vps, config.sps, config.pps]).unwrap_or_default()
        };
        let mut sets =
            ParameterSets { is_h264, vps: Vec::new(), sps: Vec::new(), pps: Vec::new(), new: Vec::new(), record: Bytes::new() };
        for (kind, known) in [(SetKind::Vps, vps), (SetKind::Sps, sps), (SetKind::Pps, pps)] {
            sets.new.extend(known.into_iter().map(|set| (kind, set)));
        }
        sets.take_effect();
        sets
    }

    /// Empty: something is still missing.
    pub fn record(&self) -> &Bytes {
        &self.record
    }

    /// Takes a set, a NAL unit with its header, to be in effect later.
    pub fn add(&mut self, kind: SetKind, nal: &[u8]) -> Result<(), TooMuch> {
        if self.new.iter().any(|(other, set)| *other == kind && set == nal) {
            return Ok(());
        }
        if nal.len() > SET_BYTES_MAX || self.new.iter().filter(|(other, _)| *other == kind).count() >= SETS_MAX {
            return Err(TooMuch);
        }
        self.new.push((kind, Bytes::copy_from_slice(nal)));
        Ok(())
    }

    /// What has come is in effect from here on. Says whether the record is another one now.
    pub fn take_effect(&mut self) -> bool {
        let new = std::mem::take(&mut self.new);
        if new.iter().all(|(kind, set)| self.of_kind(*kind).contains(set)) {
            // Nearly always nothing has come, or the same as ever.
            return false;
        }
        self.drop_outdated(&new);
        for kind in [SetKind::Vps, SetKind::Sps, SetKind::Pps] {
            let mut newcomers = 0;
            for (_, set) in new.iter().filter(|(other, _)| *other == kind) {
                let at = self.of_kind(kind).iter().position(|known| self.id(kind, known) == self.id(kind, set));
                let sets = self.of_kind_mut(kind);
                match at {
                    Some(at) => sets[at] = set.clone(),
                    None => {
                        sets.insert(newcomers, set.clone());
                        newcomers += 1;
                    }
                }
            }
            self.of_kind_mut(kind).truncate(SETS_MAX);
        }
        self.refresh_record()
    }

    /// Drops the picture parameter sets that were made for another content of a sequence parameter set, if it has new ones.
    fn drop_outdated(&mut self, new: &[(SetKind, Bytes)]) {
        let of_kind = |kind| new.iter().filter(move |(other, _)| *other == kind).map(|(_, set)| set);
        let changed = of_kind(SetKind::Sps).filter(|sps| !self.sps.contains(sps)).filter_map(|sps| self.id(SetKind::Sps, sps));
        let has_new = |sps: &u32| of_kind(SetKind::Pps).any(|pps| self.refers_to(pps) == Some(*sps));
        let renewed: Vec<u32> = changed.filter(has_new).collect();
        let is_outdated = |pps: &Bytes| self.refers_to(pps).is_some_and(|sps| renewed.contains(&sps));
        let kept = self.pps.iter().filter(|pps| !is_outdated(pps)).cloned().collect();
        self.pps = kept;
    }

    fn refresh_record(&mut self) -> bool {
        let ParameterSets { vps, sps, pps, is_h264, .. } = &*self;
        if sps.is_empty() || pps.is_empty() || (!is_h264 && vps.is_empty()) {
            return false;
        }
        let record = if *is_h264 { AvcConfig::record(sps, pps) } else { HevcConfig::record(vps, sps, pps) };
        let changed = record != self.record;
        self.record = record;
        changed
    }

    fn of_kind(&self, kind: SetKind) -> &[Bytes] {
        match kind {
            SetKind::Vps => &self.vps,
            SetKind::Sps => &self.sps,
            SetKind::Pps => &self.pps,
        }
    }

    fn of_kind_mut(&mut self, kind: SetKind) -> &mut Vec<Bytes> {
        match kind {
            SetKind::Vps => &mut self.vps,
            SetKind::Sps => &mut self.sps,
            SetKind::Pps => &mut self.pps,
        }
    }

    /// Sets whose id cannot be read count as one.
    fn id(&self, kind: SetKind, set: &[u8]) -> Option<u32> {
        match kind {
            SetKind::Vps => h265::vps_id(set),
            SetKind::Sps if self.is_h264 => h264::sps_id(set),
            SetKind::Sps => h265::sps_id(set),
            SetKind::Pps => self.pps_ids(set).map(|(id, _)| id),
        }
    }

    fn refers_to(&self, pps: &[u8]) -> Option<u32> {
        self.pps_ids(pps).map(|(_, sps)| sps)
    }

    fn pps_ids(&self, pps: &[u8]) -> Option<(u32, u32)> {
        if self.is_h264 { h264::pps_ids(pps) } else { h265::pps_ids(pps) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sequence and picture parameter sets of H.264 with these ids; the last byte is what is in them.
    fn sps(id: u8, content: u8) -> Vec<u8> {
        vec![0x67, 0x42, 0xC0, 0x1F, [0x80, 0x40, 0x60][usize::from(id)], content]
    }

    fn pps(id: u8, sps: u8, content: u8) -> Vec<u8> {
        let bits = match (id, sps) {
            (0, 0) => 0b1100_0000,
            (1, 0) => 0b0101_0000,
            (0, 1) => 0b1010_0000,
            _ => 0b0100_1000,
        };
        vec![0x68, bits, content]
    }

    #[test]
    fn a_set_replaces_the_one_with_its_id() {
        let start = [sps(0, 1), pps(0, 0, 1), pps(1, 0, 1)];
        type Case<'a> = (&'a str, &'a [Vec<u8>], &'a [Vec<u8>], &'a [Vec<u8>]);
        let cases: [Case<'_>; 7] = [
            ("nothing", &[], &[sps(0, 1)], &[pps(0, 0, 1), pps(1, 0, 1)]),
            ("the same", &[pps(1, 0, 1)], &[sps(0, 1)], &[pps(0, 0, 1), pps(1, 0, 1)]),
            ("one alone", &[pps(1, 0, 2)], &[sps(0, 1)], &[pps(0, 0, 1), pps(1, 0, 2)]),
            ("a changed SPS alone", &[sps(0, 2)], &[sps(0, 2)], &[pps(0, 0, 1), pps(1, 0, 1)]),
            ("a changed SPS with what belongs to it", &[sps(0, 2), pps(1, 0, 1)], &[sps(0, 2)], &[pps(1, 0, 1)]),
            ("another SPS", &[sps(1, 1), pps(0, 1, 1)], &[sps(1, 1), sps(0, 1)], &[pps(0, 1, 1), pps(1, 0, 1)]),
            ("one twice", &[pps(0, 0, 2), pps(0, 0, 3)], &[sps(0, 1)], &[pps(0, 0, 3), pps(1, 0, 1)]),
        ];
        let bytes = |sets: &[Vec<u8>]| -> Vec<Bytes> { sets.iter().cloned().map(Bytes::from).collect() };
        for (name, new, expected_sps, expected_pps) in cases {
            let config = AvcConfig::record(&bytes(&start[..1]), &bytes(&start[1..]));
            let mut sets = ParameterSets::new(true, &config);
            assert_eq!(sets.record(), &config, "{name}");
            for set in new {
                let kind = if set[0] == 0x67 { SetKind::Sps } else { SetKind::Pps };
                sets.add(kind, set).unwrap();
            }
            let expected = AvcConfig::record(&bytes(expected_sps), &bytes(expected_pps));
            assert_eq!((sets.take_effect(), sets.record()), (expected != config, &expected), "{name}");
            assert!(!sets.take_effect(), "{name}: once");
        }
    }

    #[test]
    fn h265_has_ids_too() {
        let [vps, sps, pps]: [&[u8]; 3] =
            [&[0x40, 1, 0x0C], &[[0x42, 1, 1].as_slice(), &[0x60; 12], &[0xA0]].concat(), &[0x44, 1, 0xC0]];
        let mut sets = ParameterSets::new(false, &Bytes::new());
        for (kind, set) in [(SetKind::Vps, vps), (SetKind::Sps, sps), (SetKind::Pps, pps)] {
            assert!(sets.record().is_empty());
            sets.add(kind, set).unwrap();
            sets.take_effect();
        }
        let second = &[0x44, 1, 0x50, 7];
        sets.add(SetKind::Pps, second).unwrap();
        assert!(sets.take_effect());
        let config = HevcConfig::parse(sets.record()).unwrap();
        assert!(config.vps == [vps] && config.sps == [sps] && config.pps == [&second[..], pps], "{config:x?}");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut sets = ParameterSets::new(true, &Bytes::new());
        sets.add(SetKind::Sps, &sps(0, 1)).unwrap();
        // Seven zeros, then eight bits: 127 and more.
        let long_id = |number: u32| [&[0x68][..], &((128 + number) << 9 | 0x100).to_be_bytes()[1..]].concat();
        for number in 0..100 {
            sets.add(SetKind::Pps, &long_id(number)).unwrap();
            sets.take_effect();
        }
        let config = AvcConfig::parse(sets.record()).unwrap();
        assert_eq!((config.pps.len(), &config.pps[0][..]), (SETS_MAX, &long_id(99)[..]), "the oldest went");
        assert!(sets.add(SetKind::Pps, &[0x68; SET_BYTES_MAX + 1]).is_err());
        let taken = (0..100).filter(|number| sets.add(SetKind::Pps, &long_id(*number)).is_ok()).count();
        assert_eq!(taken, SETS_MAX);
    }
}
