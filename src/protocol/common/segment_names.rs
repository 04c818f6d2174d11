//! How the pieces of a stream that is cut into segments are called behind `/{app}/{name}/`: file names ↔ [`Resource`].
//!
//! A name is never used twice for different content: it says when its stream began to be cut, in hexadecimal, and an initialisation segment
//! that changes has another number. Not here: queries, and what stands in the files.

use std::fmt;

use crate::session::fetch::{Packing, Resource};

/// `init-18bcfe56800-7.mp4`, `seg-18bcfe56800-1700000000.m4s`, … Of a playlist the name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name(pub Resource);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Resource::Multivariant(Packing::Fmp4) => f.write_str("index.m3u8"),
            Resource::Multivariant(Packing::Ts) => f.write_str("ts.m3u8"),
            Resource::Playlist { packing: Packing::Fmp4, .. } => f.write_str("media.m3u8"),
            Resource::Playlist { packing: Packing::Ts, .. } => f.write_str("media-ts.m3u8"),
            Resource::Init { epoch, number } => write!(f, "init-{epoch:x}-{number}.mp4"),
            Resource::Segment { epoch, packing: Packing::Fmp4, msn } => write!(f, "seg-{epoch:x}-{msn}.m4s"),
            Resource::Segment { epoch, packing: Packing::Ts, msn } => write!(f, "seg-{epoch:x}-{msn}.ts"),
            Resource::Part { epoch, msn, part } => write!(f, "part-{epoch:x}-{msn}-{part}.m4s"),
        }
    }
}

/// The resource that a file name stands for.
pub fn parse(name: &str) -> Option<Resource> {
    let playlist = |packing| Some(Resource::Playlist { packing, wanted: None, skip: false });
    match name {
        "index.m3u8" => return Some(Resource::Multivariant(Packing::Fmp4)),
        "ts.m3u8" => return Some(Resource::Multivariant(Packing::Ts)),
        "media.m3u8" => return playlist(Packing::Fmp4),
        "media-ts.m3u8" => return playlist(Packing::Ts),
        _ => {}
    }
    let (stem, ending) = name.rsplit_once('.')?;
    let (kind, numbers) = stem.split_once('-')?;
    let (epoch, numbers) = numbers.split_once('-')?;
    let epoch = u64::from_str_radix(epoch, 16).ok().filter(|number| format!("{number:x}") == epoch)?;
    match (kind, ending) {
        ("init", "mp4") => Some(Resource::Init { epoch, number: u32::try_from(number(numbers)?).ok()? }),
        ("seg", "m4s") => Some(Resource::Segment { epoch, packing: Packing::Fmp4, msn: number(numbers)? }),
        ("seg", "ts") => Some(Resource::Segment { epoch, packing: Packing::Ts, msn: number(numbers)? }),
        ("part", "m4s") => {
            let (msn, part) = numbers.split_once('-')?;
            Some(Resource::Part { epoch, msn: number(msn)?, part: u32::try_from(number(part)?).ok()? })
        }
        _ => None,
    }
}

/// A number as it is written: digits alone, without zeros in front.
pub fn number(text: &str) -> Option<u64> {
    let is_canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_canonical { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_what_they_name() {
        let playlist = |packing| Resource::Playlist { packing, wanted: None, skip: false };
        let cases = [
            (Resource::Multivariant(Packing::Fmp4), "index.m3u8"),
            (Resource::Multivariant(Packing::Ts), "ts.m3u8"),
            (playlist(Packing::Fmp4), "media.m3u8"),
            (playlist(Packing::Ts), "media-ts.m3u8"),
            (Resource::Init { epoch: 0x18bc_fe56_800, number: 3 }, "init-18bcfe56800-3.mp4"),
            (Resource::Segment { epoch: 10, packing: Packing::Fmp4, msn: 1_700_000_000 }, "seg-a-1700000000.m4s"),
            (Resource::Segment { epoch: u64::MAX, packing: Packing::Ts, msn: 0 }, "seg-ffffffffffffffff-0.ts"),
            (Resource::Part { epoch: 1, msn: 12, part: 0 }, "part-1-12-0.m4s"),
        ];
        for (resource, name) in cases {
            assert_eq!((Name(resource).to_string().as_str(), parse(name)), (name, Some(resource)));
        }
    }

    #[test]
    fn other_names_are_none_of_it() {
        let names = [
            "",
            "index.m3u",
            "Index.m3u8",
            "seg-1.ts",
            "seg-1-.ts",
            "seg--1.ts",
            "seg-A-1.ts",
            "seg-0a-1.ts",
            "seg-+a-1.ts",
            "seg-10000000000000000-1.ts",
            "seg-a-01.ts",
            "seg-a--1.ts",
            "seg-a-1.m4s.ts",
            "seg-a-1",
            "part-a-1.m4s",
            "part-a-1-2.ts",
            "part-a-1-2-3.m4s",
            "init-a-4294967296.mp4",
            "seg-a-18446744073709551616.ts",
            "seg-a-+1.ts",
            "seg-a-1.mp4",
            "../index.m3u8",
        ];
        for name in names {
            assert_eq!(parse(name), None, "{name:?}");
        }
    }
}
