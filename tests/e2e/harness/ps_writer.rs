//! A writer of MPEG-2 program streams as cameras make them (GB/T 28181 Annex C), with their quirks: pack, system header, stream map, PES
//! packets. For unit tests and end-to-end tests. ISO/IEC 13818-1 §2.4.3.6, §2.5.3.

/// `stream_type` of a stream map.
pub const H264: u8 = 0x1B;
pub const H265: u8 = 0x24;
pub const AAC: u8 = 0x0F;
pub const G711A: u8 = 0x90;

pub const VIDEO_ID: u8 = 0xE0;
pub const AUDIO_ID: u8 = 0xC0;

/// What the lengths of a picture's PES packets say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lengths {
    Right,
    Zero,
    /// So many bytes more (or fewer) than there are.
    Off(i32),
}

/// How a camera writes.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// `None`: no stream map. Else the types of picture and sound; 0: not in it.
    pub map: Option<(u8, u8)>,
    pub system_header: bool,
    pub lengths: Lengths,
    /// The largest payload of one PES packet.
    pub pes_bytes_max: usize,
    /// Bytes of stuffing in each pack header.
    pub stuffing: u8,
}

pub const PLAIN: Style =
    Style { map: Some((H264, G711A)), system_header: true, lengths: Lengths::Right, pes_bytes_max: 65_000, stuffing: 0 };

impl Style {
    /// A picture in a pack of its own. Times in 90 kHz.
    pub fn picture(&self, key: bool, pts: u64, dts: u64, annex_b: &[u8]) -> Vec<u8> {
        let mut out = self.pack(dts);
        if key && self.system_header {
            out.extend_from_slice(&[0, 0, 1, 0xBB, 0, 12, 0x80, 4, 1, 4, 0xE1, 0x7F, 0xE0, 0xE0, 0x80, 0xC0, 0xC0, 8]);
        }
        if key && let Some(map) = self.map {
            out.extend_from_slice(&stream_map(map));
        }
        let mut times = Some((pts, dts));
        for piece in annex_b.chunks(self.pes_bytes_max) {
            out.extend_from_slice(&pes(VIDEO_ID, times.take(), piece, self.lengths));
        }
        out
    }

    /// Sound, without a pack of its own.
    pub fn sound(&self, pts: u64, payload: &[u8]) -> Vec<u8> {
        pes(AUDIO_ID, Some((pts, pts)), payload, Lengths::Right)
    }

    fn pack(&self, scr: u64) -> Vec<u8> {
        let scr = scr & ((1 << 33) - 1);
        let bits = (0b01u64 << 46) | ((scr >> 30) << 43) | (1 << 42) | ((scr >> 15 & 0x7FFF) << 27) | (1 << 26);
        let bits = bits | ((scr & 0x7FFF) << 11) | (1 << 10) | 1;
        let mut out = vec![0, 0, 1, 0xBA];
        out.extend_from_slice(&bits.to_be_bytes()[2..]);
        out.extend_from_slice(&[0x01, 0x89, 0xC3, 0xF8 | self.stuffing]);
        out.resize(out.len() + usize::from(self.stuffing), 0xFF);
        out
    }
}

fn stream_map((video, audio): (u8, u8)) -> Vec<u8> {
    let mut entries = Vec::new();
    for (kind, id) in [(video, VIDEO_ID), (audio, AUDIO_ID)].into_iter().filter(|(kind, _)| *kind != 0) {
        entries.extend_from_slice(&[kind, id, 0, 0]);
    }
    let mut out = vec![0, 0, 1, 0xBC];
    out.extend_from_slice(&(10 + entries.len() as u16).to_be_bytes());
    out.extend_from_slice(&[0xE0, 0xFF, 0, 0]);
    out.extend_from_slice(&(entries.len() as u16).to_be_bytes());
    out.extend_from_slice(&entries);
    // Cameras seldom compute the checksum.
    out.extend_from_slice(&[0; 4]);
    out
}

/// One PES packet. `times`: PTS and DTS.
pub fn pes(id: u8, times: Option<(u64, u64)>, payload: &[u8], lengths: Lengths) -> Vec<u8> {
    let mut header = vec![0x80, 0, 0];
    match times {
        Some((pts, dts)) if pts == dts => {
            header[1] = 0x80;
            header.extend_from_slice(&time(0b0010, pts));
        }
        Some((pts, dts)) => {
            header[1] = 0xC0;
            header.extend_from_slice(&time(0b0011, pts));
            header.extend_from_slice(&time(0b0001, dts));
        }
        None => {}
    }
    header[2] = header.len() as u8 - 3;
    let length = header.len() + payload.len();
    let length = match lengths {
        Lengths::Right => length as u16,
        Lengths::Zero => 0,
        Lengths::Off(by) => (length as i32 + by) as u16,
    };
    let mut out = vec![0, 0, 1, id];
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(payload);
    out
}

fn time(prefix: u8, ticks: u64) -> [u8; 5] {
    let byte = |shift: u32| (ticks >> shift) as u8;
    [prefix << 4 | (byte(30) & 7) << 1 | 1, byte(22), byte(14) | 1, byte(7), byte(0) << 1 | 1]
}

/// A raw AAC frame behind an ADTS header (ISO/IEC 13818-7 §6.2): AAC-LC.
pub fn adts(rate_index: u8, channels: u8, raw: &[u8]) -> Vec<u8> {
    let length = raw.len() + 7;
    let mut out = vec![0xFF, 0xF1, 0x40 | rate_index << 2 | channels >> 2, channels << 6 | (length >> 11) as u8];
    out.extend_from_slice(&[(length >> 3) as u8, (length << 5) as u8 | 0x1F, 0xFC]);
    out.extend_from_slice(raw);
    out
}

/// Canonical NAL units, each behind its length, as Annex B with `sets` in front.
pub fn annex_b(sets: &[Vec<u8>], unit: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for set in sets {
        out.extend_from_slice(&[0, 0, 0, 1]);
        out.extend_from_slice(set);
    }
    let mut rest = unit;
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let (nal, behind) = behind.split_at(u32::from_be_bytes(*length) as usize);
        out.extend_from_slice(&[0, 0, 0, 1]);
        out.extend_from_slice(nal);
        rest = behind;
    }
    out
}
