//! A program stream that another program has made → its packs, as units at the times that their headers say (ISO/IEC 13818-1 §2.5.3.3,
//! ISO/IEC 11172-1 §2.4.3.2).
//!
//! What is in a pack is nobody's business here: it is sent as it is. A file that does not begin with a pack is none.

use super::media::{Kind, Media, Unit};

pub const PACK: [u8; 4] = [0, 0, 1, 0xBA];
/// Up to the end of the time.
const HEADER_BYTES: usize = 9;

/// The packs of a file that begins with one.
pub fn read(bytes: &[u8]) -> Result<Media, &'static str> {
    let is_pack = |at: &usize| bytes[*at..].starts_with(&PACK) && time(&bytes[*at..]).is_some();
    let starts: Vec<usize> = (0..bytes.len()).filter(is_pack).collect();
    let first = starts.first().and_then(|at| time(&bytes[*at..])).ok_or("a program stream without packs")?;
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    let mut dts = 0;
    let units: Vec<Unit> = starts
        .iter()
        .zip(ends)
        .map(|(&start, end)| {
            // Nothing goes back in time.
            dts = time(&bytes[start..]).map_or(dts, |time| time.saturating_sub(first)).max(dts);
            Unit { kind: Kind::Pack { last: end == bytes.len() }, dts, pts: dts, data: bytes[start..end].to_vec(), mark_at: None }
        })
        .collect();
    Ok(Media { video: None, audio: None, units, duration: dts + 1 })
}

/// The time of a pack, in ticks.
fn time(pack: &[u8]) -> Option<u64> {
    let header: &[u8; HEADER_BYTES] = pack.first_chunk()?;
    let [a, b, c, d, e] = [4, 5, 6, 7, 8].map(|at| u64::from(header[at]));
    match header[4] {
        mpeg2 if mpeg2 >> 6 == 0b01 => {
            Some((a >> 3 & 7) << 30 | (a & 3) << 28 | b << 20 | (c >> 3) << 15 | (c & 3) << 13 | d << 5 | e >> 3)
        }
        mpeg1 if mpeg1 >> 4 == 0b0010 => Some((a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pack header of MPEG-2 with that time, and something behind it.
    fn pack(time: u64) -> Vec<u8> {
        let [a, b, c] = [time >> 30 & 7, time >> 15 & 0x7FFF, time & 0x7FFF];
        let head = [0x44 | a << 3 | b >> 13, b >> 5 & 0xFF, (b & 0x1F) << 3 | 4 | c >> 13, c >> 5 & 0xFF, (c & 0x1F) << 3 | 4];
        [&PACK[..], &head.map(|byte| byte as u8), &[1, 1, 0x89, 0xC3, 0xF8, 0, 0, 1, 0xE0]].concat()
    }

    #[test]
    fn packs_have_the_times_of_their_headers() {
        let times = [0x1_2345_6789, 0x1_2345_6789 + 3_600, 0x1_2345_6789 + 90_000];
        let media = read(&times.map(pack).concat()).unwrap();
        let found: Vec<(u64, Kind, usize)> = media.units.iter().map(|unit| (unit.dts, unit.kind, unit.data.len())).collect();
        let of = |last| Kind::Pack { last };
        assert_eq!(found, [(0, of(false), 18), (3_600, of(false), 18), (90_000, of(true), 18)]);
        // A header of MPEG-1: 0010, the time in 3, 15 and 15 bits with a one behind each.
        assert_eq!(time(&[0, 0, 1, 0xBA, 0x21, 0, 3, 0, 3]), Some(1 << 15 | 1));
        assert_eq!(read(b"FLV").unwrap_err(), "a program stream without packs");
    }
}
