//! Boxes, written and read: `size (4) | kind (4) | [size (8) if the first is 1] | content`.
//!
//! ISO/IEC 14496-12 §4.2. Not here: what is in them.

use bytes::{BufMut, BytesMut};

/// The four letters of a box.
pub type Kind = [u8; 4];

/// Flags of samples (§8.8.3.1): depends on no other; depends on others and is no place to begin.
pub const SAMPLE_KEY: u32 = 0x0200_0000;
pub const SAMPLE_DELTA: u32 = 0x0101_0000;
/// `sample_is_non_sync_sample`.
pub const SAMPLE_NON_SYNC: u32 = 0x0001_0000;

/// Appends a box; `content` writes what is in it.
pub fn put_box(out: &mut BytesMut, kind: &Kind, content: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32(0);
    out.put_slice(kind);
    content(out);
    // What is written with this are tables of bounded length, never media.
    let size = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

/// As [`put_box`], with a version and 24 flags in front of the content.
pub fn put_full_box(out: &mut BytesMut, kind: &Kind, version: u8, flags: u32, content: impl FnOnce(&mut BytesMut)) {
    put_box(out, kind, |out| {
        out.put_u32(u32::from(version) << 24 | flags & 0xFF_FFFF);
        content(out);
    });
}

/// What a box begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: Kind,
    /// Of the header itself: 8 or 16.
    pub header_bytes: u64,
    /// Of the whole box; `None`: it goes to the end of what it is in.
    pub bytes: Option<u64>,
}

impl Header {
    /// The longest header.
    pub const BYTES_MAX: usize = 16;

    /// `None`: cut off, or a size that is less than its own header.
    pub fn parse(bytes: &[u8]) -> Option<Header> {
        let [size @ .., k0, k1, k2, k3] = *bytes.first_chunk::<8>()?;
        let kind = [k0, k1, k2, k3];
        let (header_bytes, size) = match u32::from_be_bytes(size) {
            0 => (8, None),
            1 => (16, Some(u64::from_be_bytes(*bytes.get(8..)?.first_chunk()?))),
            size => (8, Some(u64::from(size))),
        };
        if size.is_some_and(|size| size < header_bytes) {
            return None;
        }
        Some(Header { kind, header_bytes, bytes: size })
    }
}

/// The boxes that stand one behind the other in `bytes`, with their contents; ends at the first that is broken or cut off.
pub fn children(bytes: &[u8]) -> impl Iterator<Item = (Kind, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let header = Header::parse(rest)?;
        let size = usize::try_from(header.bytes.unwrap_or(rest.len() as u64)).ok()?;
        let (whole, behind) = rest.split_at_checked(size)?;
        rest = behind;
        Some((header.kind, whole.get(header.header_bytes as usize..)?))
    })
}

/// The content of the first child of that kind.
pub fn child<'a>(bytes: &'a [u8], kind: &Kind) -> Option<&'a [u8]> {
    children(bytes).find(|(other, _)| other == kind).map(|(_, content)| content)
}

/// Follows a path of kinds downwards.
pub fn descend<'a>(bytes: &'a [u8], path: &[&Kind]) -> Option<&'a [u8]> {
    path.iter().try_fold(bytes, |bytes, kind| child(bytes, kind))
}

/// Reads fields from the front of a box's content; every field is an `Option`.
#[derive(Clone, Copy)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    pub fn skip(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.get(bytes..)?;
        Some(())
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    pub fn i32(&mut self) -> Option<i32> {
        self.take().map(i32::from_be_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    /// 64 bits if `wide`, else 32.
    pub fn unsigned(&mut self, wide: bool) -> Option<u64> {
        if wide { self.u64() } else { self.u32().map(u64::from) }
    }

    /// The version and the flags of a full box.
    pub fn version_and_flags(&mut self) -> Option<(u8, u32)> {
        self.u32().map(|word| ((word >> 24) as u8, word & 0xFF_FFFF))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_written_and_read() {
        let mut out = BytesMut::new();
        put_box(&mut out, b"moov", |out| {
            put_full_box(out, b"mvhd", 1, 7, |out| out.put_u16(0xABCD));
            put_box(out, b"free", |_| {});
        });
        assert_eq!(&out[..], b"\0\0\0\x1Emoov\0\0\0\x0Emvhd\x01\0\0\x07\xAB\xCD\0\0\0\x08free");
        let mvhd = descend(&out, &[b"moov", b"mvhd"]).unwrap();
        let mut fields = Fields(mvhd);
        assert_eq!((fields.version_and_flags(), fields.u16(), fields.u8()), (Some((1, 7)), Some(0xABCD), None));
        assert_eq!(children(child(&out, b"moov").unwrap()).count(), 2);
        assert!(descend(&out, &[b"moov", b"trak"]).is_none());
    }

    #[test]
    fn headers() {
        let large = [&b"\0\0\0\x01mdat"[..], &0x1_0000_0000u64.to_be_bytes()].concat();
        type Case<'a> = (&'a str, &'a [u8], Option<(u64, Option<u64>)>);
        let cases: [Case<'_>; 6] = [
            ("plain", b"\0\0\0\x10mdat", Some((8, Some(16)))),
            ("to the end", b"\0\0\0\0mdat", Some((8, None))),
            ("large", &large, Some((16, Some(0x1_0000_0000)))),
            ("large, cut off", &large[..12], None),
            ("less than its header", b"\0\0\0\x07mdat", None),
            ("cut off", b"\0\0\0\x10mda", None),
        ];
        for (name, bytes, expected) in cases {
            assert_eq!(Header::parse(bytes).map(|header| (header.header_bytes, header.bytes)), expected, "{name}");
        }
        assert_eq!(children(b"\0\0\0\x08free\0\0\0\x09cut?").count(), 1);
    }
}
