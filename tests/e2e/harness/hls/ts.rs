//! MPEG-TS by hand: whether segments are whole and follow each other without a gap.
//!
//! Spec: ISO/IEC 13818-1 §2.4.3 (packets, adaptation fields, PES headers), §2.4.4 (tables); RFC 8216bis §3.1.1 (segments of TS).

use std::collections::BTreeMap;

use super::Fault;

const PACKET_BYTES: usize = 188;
/// Ticks of 90 kHz at most between two clock references.
const PCR_GAP_MAX: u64 = 9_000;
/// Times have 33 bits.
const TIMES: u64 = 1 << 33;

/// What one segment holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Access units of the picture and PES packets of the sound.
    pub pictures: usize,
    pub sounds: usize,
    /// Decoding times of the first and the last picture.
    pub first: u64,
    pub last: u64,
}

/// Goes on from segment to segment.
#[derive(Debug, Default)]
pub struct Checker {
    counters: BTreeMap<u16, u8>,
    times: BTreeMap<u16, u64>,
    pcr: Option<u64>,
    pmt: Option<u16>,
    /// By stream: its type.
    streams: BTreeMap<u16, u8>,
}

impl Checker {
    /// A discontinuity: times begin anew. Counters go on.
    pub fn restart(&mut self) {
        (self.times, self.pcr) = (BTreeMap::new(), None);
    }

    pub fn segment(&mut self, bytes: &[u8]) -> Result<Summary, Fault> {
        if bytes.is_empty() || !bytes.len().is_multiple_of(PACKET_BYTES) {
            return Err(format!("{} bytes are no whole packets", bytes.len()));
        }
        let mut summary = Summary::default();
        for (at, packet) in bytes.chunks(PACKET_BYTES).enumerate() {
            self.packet(at, packet, &mut summary).map_err(|fault| format!("packet {at}: {fault}"))?;
        }
        Ok(summary)
    }

    fn packet(&mut self, at: usize, packet: &[u8], summary: &mut Summary) -> Result<(), Fault> {
        let pid = u16::from_be_bytes([packet[1] & 0x1F, packet[2]]);
        if packet[0] != 0x47 || packet[1] & 0x80 != 0 {
            return Err("no sync byte, or an error is marked".to_owned());
        }
        let (starts, has_field, has_payload) = (packet[1] & 0x40 != 0, packet[3] & 0x20 != 0, packet[3] & 0x10 != 0);
        let is_expected = match at {
            0 => pid == 0,
            1 => Some(pid) == self.pmt,
            _ => true,
        };
        if !is_expected {
            return Err(format!("a segment begins with PAT and PMT, this is PID {pid}"));
        }
        self.count(pid, packet[3] & 0x0F, has_payload)?;
        let field = if has_field { packet.get(5..5 + usize::from(packet[4])).ok_or("a field behind the end")? } else { &[] };
        let flags = field.first().copied().unwrap_or(0);
        if flags & 0x10 != 0 {
            self.clock(field.get(1..7).ok_or("a clock that is cut off")?)?;
        }
        let payload = &packet[4 + if has_field { 1 + field.len() } else { 0 }..];
        match pid {
            0 if starts => self.pat(payload),
            _ if Some(pid) == self.pmt && starts => self.pmt(payload),
            _ if starts && self.streams.contains_key(&pid) => self.pes(pid, payload, flags & 0x40 != 0, summary),
            _ => Ok(()),
        }
    }

    fn count(&mut self, pid: u16, counter: u8, has_payload: bool) -> Result<(), Fault> {
        if let Some(last) = self.counters.insert(pid, counter) {
            let expected = if has_payload { (last + 1) % 16 } else { last };
            if counter != expected {
                return Err(format!("PID {pid} counts {counter} behind {last}"));
            }
        }
        Ok(())
    }

    fn clock(&mut self, field: &[u8]) -> Result<(), Fault> {
        let base = field[..4].iter().fold(0u64, |all, byte| all << 8 | u64::from(*byte)) << 1 | u64::from(field[4] >> 7);
        if let Some(last) = self.pcr.replace(base) {
            let gap = (base + TIMES - last) % TIMES;
            if gap > PCR_GAP_MAX {
                return Err(format!("the clock goes from {last} to {base}"));
            }
        }
        Ok(())
    }

    fn pat(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let section = section(payload, 0)?;
        let entry = section.get(8..12).ok_or("PAT without a program")?;
        self.pmt = Some(u16::from_be_bytes([entry[2] & 0x1F, entry[3]]));
        Ok(())
    }

    fn pmt(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let section = section(payload, 2)?;
        let length = |at: usize| section.get(at..at + 2).map(|two| usize::from(u16::from_be_bytes([two[0] & 0x0F, two[1]])));
        let mut at = 12 + length(10).ok_or("PMT is cut off")?;
        self.streams.clear();
        while at + 4 < section.len().saturating_sub(4) {
            self.streams.insert(u16::from_be_bytes([section[at + 1] & 0x1F, section[at + 2]]), section[at]);
            at += 5 + length(at + 3).ok_or("PMT is cut off")?;
        }
        if self.streams.is_empty() { Err("PMT without a stream".to_owned()) } else { Ok(()) }
    }

    fn pes(&mut self, pid: u16, payload: &[u8], random_access: bool, summary: &mut Summary) -> Result<(), Fault> {
        if payload.len() < 14 || payload[..3] != [0, 0, 1] {
            return Err(format!("PID {pid}: no PES header"));
        }
        let times = |at: usize| {
            let five = &payload[at..at + 5];
            u64::from(five[0] >> 1 & 7) << 30
                | u64::from(five[1]) << 22
                | u64::from(five[2] >> 1) << 15
                | u64::from(five[3]) << 7
                | u64::from(five[4] >> 1)
        };
        let dts = match payload[7] >> 6 {
            2 => times(9),
            3 if payload.len() >= 19 => times(14),
            _ => return Err(format!("PID {pid}: a unit without times")),
        };
        if let Some(last) = self.times.insert(pid, dts) {
            let step = (dts + TIMES - last) % TIMES;
            if step == 0 || step > 90_000 {
                return Err(format!("PID {pid}: from {last} to {dts}"));
            }
        }
        if payload[3] & 0xF0 != 0xE0 {
            summary.sounds += 1;
            return Ok(());
        }
        if summary.pictures == 0 {
            summary.first = dts;
            if !random_access {
                return Err("the first picture is not announced as random access".to_owned());
            }
        }
        (summary.pictures, summary.last) = (summary.pictures + 1, dts);
        Ok(())
    }
}

/// A whole table section in one packet, whose checksum is right.
fn section(payload: &[u8], table: u8) -> Result<&[u8], Fault> {
    let pointer = usize::from(*payload.first().ok_or("no table")?);
    let section = payload.get(1 + pointer..).filter(|section| section.len() > 12).ok_or("a table is cut off")?;
    let length = 3 + usize::from(u16::from_be_bytes([section[1] & 0x0F, section[2]]));
    let section = section.get(..length).ok_or("a table of several packets")?;
    let crc = section.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| if crc >> 31 != 0 { crc << 1 ^ 0x04C1_1DB7 } else { crc << 1 })
    });
    if section[0] != table || crc != 0 {
        return Err(format!("table {} with the checksum {crc:x}", section[0]));
    }
    Ok(section)
}
