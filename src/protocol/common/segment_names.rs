//! How the pieces of a stream that is cut into segments are called behind `/{app}/{name}/`: file names ↔ [`Resource`].
//!
//! A name is never used twice for different content: segments are numbered from a clock on, and an initialisation segment that changes has
//! another number. Not here: queries, and what stands in the files.

use std::fmt;

use crate::session::fetch::{Packing, Resource};

/// `init-7.mp4`, `seg-1700000000.m4s`, … Of a playlist the name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name(pub Resource);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Resource::Multivariant(Packing::Fmp4) => f.write_str("index.m3u8"),
            Resource::Multivariant(Packing::Ts) => f.write_str("ts.m3u8"),
            Resource::Playlist { packing: Packing::Fmp4, .. } => f.write_str("media.m3u8"),
            Resource::Playlist { packing: Packing::Ts, .. } => f.write_str("media-ts.m3u8"),
            Resource::Init(number) => write!(f, "init-{number}.mp4"),
            Resource::Segment { packing: Packing::Fmp4, msn } => write!(f, "seg-{msn}.m4s"),
            Resource::Segment { packing: Packing::Ts, msn } => write!(f, "seg-{msn}.ts"),
            Resource::Part { msn, part } => write!(f, "part-{msn}-{part}.m4s"),
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
    match (kind, ending) {
        ("init", "mp4") => Some(Resource::Init(u32::try_from(number(numbers)?).ok()?)),
        ("seg", "m4s") => Some(Resource::Segment { packing: Packing::Fmp4, msn: number(numbers)? }),
        ("seg", "ts") => Some(Resource::Segment { packing: Packing::Ts, msn: number(numbers)? }),
        ("part", "m4s") => {
            let (msn, part) = numbers.split_once('-')?;
            Some(Resource::Part { msn: number(msn)?, part: u32::try_from(number(part)?).ok()? })
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
            (Resource::Init(3), "init-3.mp4"),
            (Resource::Segment { packing: Packing::Fmp4, msn: 1_700_000_000 }, "seg-1700000000.m4s"),
            (Resource::Segment { packing: Packing::Ts, msn: 0 }, "seg-0.ts"),
            (Resource::Part { msn: 12, part: 0 }, "part-12-0.m4s"),
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
            "seg-.ts",
            "seg-01.ts",
            "seg--1.ts",
            "seg-1.m4s.ts",
            "seg-1",
            "part-1.m4s",
            "part-1-2.ts",
            "part-1-2-3.m4s",
            "init-4294967296.mp4",
            "seg-18446744073709551616.ts",
            "seg-+1.ts",
            "seg-1.mp4",
            "../index.m3u8",
        ];
        for name in names {
            assert_eq!(parse(name), None, "{name:?}");
        }
    }
}
