//! Where a picture ends whose sender does not say so, as far as the sizes of its PES packets tell.
//!
//! ISO/IEC 13818-1 leaves open how pictures are put into packets. Senders begin each with a packet, and either have one packet a picture, or fill
//! packets up to a size of theirs and put the rest into a last one, or have a packet for each slice. So a packet is taken for the last one if
//!
//! - it is smaller than all that the next one went on with, of which there are [`FULL_PACKETS`] or more of one size, [`EVEN_BYTES`] up or down; or
//! - some picture before has ended with one as large or larger, of no more than [`WHOLE_BYTES_MAX`], and the next one went on with none as small, and
//! - where slices or fields have packets of their own: each of [`EVEN_PICTURES`] pictures or more had as many as this one now.
//!
//! Whoever fills packets up is never mistaken. Who puts one slice into a packet and later several into several, or has packets of any size, may be
//! once: the rest that comes then is counted as a broken frame, and no packet of the stream is taken for the last one any more. Not here: lengths
//! that are wrong, marks.

use crate::format::pes::video::Video;

/// A packet of more may be the first of several, whatever came before.
const WHOLE_BYTES_MAX: usize = 60_000;
/// Packets that show the size of full ones.
const FULL_PACKETS: u32 = 2;
/// How far full packets differ: by the headers that stand in front of some.
const EVEN_BYTES: usize = 128;
/// Pictures that show how many slices all have.
pub(super) const EVEN_PICTURES: u32 = 8;

#[derive(Default)]
pub struct Ends {
    /// The payload of the picture's packet at hand and of the last one, as they say.
    bytes: Option<usize>,
    last_bytes: Option<usize>,
    /// The largest packet with which a picture has ended.
    last_bytes_max: Option<usize>,
    /// How many packets the next one went on with; the smallest and the largest of them.
    full: u32,
    full_bytes: Option<(usize, usize)>,
    /// A packet was taken for the last one, and was not.
    pub was_wrong: bool,
}

impl Ends {
    /// A picture's packet begins.
    pub fn begin(&mut self, bytes: Option<usize>) {
        (self.last_bytes, self.bytes) = (self.bytes, bytes);
    }

    /// What came last is not known.
    pub fn lost(&mut self) {
        (self.last_bytes, self.bytes) = (None, None);
    }

    /// The packet at hand begins a picture: the one before was the last of another.
    pub fn picture_ended(&mut self) {
        self.last_bytes_max = self.last_bytes_max.max(self.last_bytes);
    }

    /// The packet at hand went on with what stood in the one before.
    pub fn went_on(&mut self) {
        if let Some(bytes) = self.last_bytes {
            let (min, max) = self.full_bytes.unwrap_or((bytes, bytes));
            self.full_bytes = Some((min.min(bytes), max.max(bytes)));
            self.full = self.full.saturating_add(1);
        }
    }

    /// Whether the packet at hand, which is over, is the last of its picture.
    pub fn is_last(&self, video: &Video) -> bool {
        let Some((bytes, last_bytes_max)) = self.bytes.zip(self.last_bytes_max) else { return false };
        let was_last = bytes <= last_bytes_max.min(WHOLE_BYTES_MAX);
        let is_rest = match self.full_bytes {
            Some((min, max)) => bytes < min && max - min <= EVEN_BYTES && (was_last || self.full >= FULL_PACKETS),
            None => was_last,
        };
        let has_slices = if video.slices_apart { video.has_all_slices(EVEN_PICTURES) } else { video.has_slices() };
        has_slices && is_rest && !self.was_wrong && !video.begins_inside
    }
}
