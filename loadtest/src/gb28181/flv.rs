//! FLV files (Adobe FLV 10.1 Annex E; Enhanced RTMP for `hvc1`) → access units as a camera sends them: H.264 and H.265 in Annex B with their
//! parameter sets in front of every keyframe, AAC in ADTS, G.711.

use super::media::{AudioCodec, Kind, Media, Unit, VideoCodec, adts, put_nal, put_nals};

const FILE_HEADER_BYTES: usize = 9;
const TAG_HEADER_BYTES: usize = 11;
const AUDIO: u8 = 8;
const VIDEO: u8 = 9;
/// Ticks per millisecond.
const TICKS: u64 = 90;

/// The units in the order of the file; the duration is not known yet.
pub fn read(bytes: &[u8]) -> Result<Media, &'static str> {
    let mut rest = bytes.strip_prefix(b"FLV\x01").and_then(|_| bytes.get(FILE_HEADER_BYTES + 4..)).ok_or("no FLV file")?;
    let mut reader = Reader::default();
    while let Some((tag, behind)) = tag(rest) {
        rest = behind;
        match tag.kind {
            AUDIO => reader.audio(tag.timestamp, tag.body)?,
            VIDEO => reader.video(tag.timestamp, tag.body)?,
            _ => {}
        }
    }
    Ok(Media { video: reader.video, audio: reader.audio, units: reader.units, duration: 0 })
}

struct Tag<'a> {
    kind: u8,
    /// In milliseconds.
    timestamp: u32,
    body: &'a [u8],
}

fn tag(bytes: &[u8]) -> Option<(Tag<'_>, &[u8])> {
    let [kind, s2, s1, s0, t2, t1, t0, t3, ..] = *bytes.first_chunk::<TAG_HEADER_BYTES>()?;
    let end = TAG_HEADER_BYTES + u32::from_be_bytes([0, s2, s1, s0]) as usize;
    let body = bytes.get(TAG_HEADER_BYTES..end)?;
    Some((Tag { kind, timestamp: u32::from_be_bytes([t3, t2, t1, t0]), body }, bytes.get(end + 4..).unwrap_or_default()))
}

#[derive(Default)]
struct Reader {
    video: Option<VideoCodec>,
    audio: Option<AudioCodec>,
    sets: Vec<Vec<u8>>,
    audio_config: Vec<u8>,
    units: Vec<Unit>,
}

impl Reader {
    fn video(&mut self, timestamp: u32, body: &[u8]) -> Result<(), &'static str> {
        let [first, head @ ..] = *body.first_chunk::<5>().ok_or("an FLV video tag that is too short")?;
        let key = first >> 4 & 7 == 1;
        // What the packet is, and how many bytes stand in front of the payload.
        let (codec, is_config, composition, payload) = match (first & 0x80 != 0, first & 0x0F) {
            (true, packet) if head == *b"hvc1" => match packet {
                0 => (VideoCodec::H265, true, [0; 3], 5),
                1 => {
                    (VideoCodec::H265, false, body.get(5..8).and_then(|time| time.first_chunk().copied()).unwrap_or_default(), 8)
                }
                3 => (VideoCodec::H265, false, [0; 3], 5),
                _ => return Ok(()),
            },
            (false, codec @ (7 | 12)) => {
                let codec = if codec == 7 { VideoCodec::H264 } else { VideoCodec::H265 };
                let [packet, c2, c1, c0] = head;
                match packet {
                    0 => (codec, true, [0; 3], 5),
                    1 => (codec, false, [c2, c1, c0], 5),
                    _ => return Ok(()),
                }
            }
            _ => return Err("a clip whose picture is neither H.264 nor H.265"),
        };
        let payload = body.get(payload..).unwrap_or_default();
        self.video = Some(codec);
        if is_config {
            self.sets = parameter_sets(codec, payload).ok_or("parameter sets that cannot be read")?;
            return Ok(());
        }
        let mut data = Vec::new();
        if key {
            self.sets.iter().for_each(|set| put_nal(set, &mut data));
        }
        put_nals(payload, &mut data);
        let [c2, c1, c0] = composition;
        // Signed, of 24 bits.
        let composition = i64::from(i32::from_be_bytes([c2, c1, c0, 0]) >> 8) * TICKS as i64;
        let dts = u64::from(timestamp) * TICKS;
        let pts = dts.saturating_add_signed(composition);
        self.units.push(Unit { kind: Kind::Video { key }, dts, pts, data, mark_at: None });
        Ok(())
    }

    fn audio(&mut self, timestamp: u32, body: &[u8]) -> Result<(), &'static str> {
        let (codec, payload) = match *body {
            [] => return Ok(()),
            [first, packet, ..] if first >> 4 == 10 => {
                self.audio = Some(AudioCodec::Aac);
                if packet == 0 {
                    self.audio_config = body[2..].to_vec();
                    return Ok(());
                }
                (AudioCodec::Aac, adts(&self.audio_config, &body[2..]))
            }
            [first, ..] if first >> 4 == 7 => (AudioCodec::Alaw, body[1..].to_vec()),
            [first, ..] if first >> 4 == 8 => (AudioCodec::Ulaw, body[1..].to_vec()),
            _ => return Err("a clip whose sound is neither AAC nor G.711"),
        };
        self.audio = Some(codec);
        let time = u64::from(timestamp) * TICKS;
        self.units.push(Unit { kind: Kind::Audio, dts: time, pts: time, data: payload, mark_at: None });
        Ok(())
    }
}

/// Out of an AVCDecoderConfigurationRecord (ISO/IEC 14496-15 §5.3.3) or an HEVCDecoderConfigurationRecord (§8.3.3).
fn parameter_sets(codec: VideoCodec, record: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut sets = Vec::new();
    let mut take = |count: usize, mut rest: &[u8]| -> Option<usize> {
        let before = rest.len();
        for _ in 0..count {
            let (length, behind) = rest.split_first_chunk()?;
            let (set, behind) = behind.split_at_checked(u16::from_be_bytes(*length).into())?;
            sets.push(set.to_vec());
            rest = behind;
        }
        Some(before - rest.len())
    };
    match codec {
        VideoCodec::H264 => {
            let at = 6 + take((record.get(5)? & 0x1F).into(), record.get(6..)?)?;
            take((*record.get(at)?).into(), record.get(at + 1..)?)?;
        }
        VideoCodec::H265 => {
            let mut at = 23;
            for _ in 0..*record.get(22)? {
                let count = u16::from_be_bytes([*record.get(at + 1)?, *record.get(at + 2)?]);
                at += 3 + take(count.into(), record.get(at + 3..)?)?;
            }
        }
    }
    Some(sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(tags: &[(u8, u32, &[u8])]) -> Vec<u8> {
        let mut file = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
        for (kind, time, body) in tags {
            let [t3, t2, t1, t0] = time.to_be_bytes();
            file.push(*kind);
            file.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
            file.extend_from_slice(&[t2, t1, t0, t3, 0, 0, 0]);
            file.extend_from_slice(body);
            file.extend_from_slice(&(body.len() as u32 + 11).to_be_bytes());
        }
        file
    }

    const AVC_CONFIG: &[u8] = &[0x17, 0, 0, 0, 0, 1, 66, 0, 30, 0xFF, 0xE1, 0, 2, 0x67, 9, 1, 0, 2, 0x68, 8];

    #[test]
    fn h264_and_g711_become_what_cameras_send() {
        let media = Media::from_file(&file(&[
            (18, 0, &[2]),
            (VIDEO, 0, AVC_CONFIG),
            (VIDEO, 40, &[0x17, 1, 0, 0, 80, 0, 0, 0, 2, 0x65, 1]),
            (AUDIO, 40, &[0x72, 5, 6]),
            (VIDEO, 80, &[0x27, 1, 0xFF, 0xFF, 0xD8, 0, 0, 0, 2, 0x41, 1]),
        ]))
        .unwrap();
        assert_eq!((media.video, media.audio, media.duration), (Some(VideoCodec::H264), Some(AudioCodec::Alaw), 120 * TICKS));
        let key = [&[0, 0, 0, 1, 0x67, 9, 0, 0, 0, 1, 0x68, 8][..], &[0, 0, 0, 1, 0x65, 1]].concat();
        let unit = |kind, dts, pts, data| Unit { kind, dts: dts * TICKS, pts: pts * TICKS, data, mark_at: None };
        let expected = [
            unit(Kind::Video { key: true }, 40, 120, key),
            unit(Kind::Audio, 40, 40, vec![5, 6]),
            unit(Kind::Video { key: false }, 80, 40, vec![0, 0, 0, 1, 0x41, 1]),
        ];
        assert_eq!(media.units, expected);
    }

    #[test]
    fn h265_is_read_under_both_its_names() {
        let record: &[u8] = &[&[1; 22][..], &[2, 0x20, 0, 1, 0, 2, 0x40, 1, 0x21, 0, 1, 0, 2, 0x42, 1]].concat();
        let head = |first, packet: &[u8]| [&[first][..], packet].concat();
        let picture: &[u8] = &[0, 0, 0, 2, 0x26, 1];
        for (config, frame) in [
            (head(0x90, b"hvc1"), head(0x93, b"hvc1")),
            (head(0x90, b"hvc1"), head(0x91, b"hvc1\0\0\0")),
            (head(0x1C, &[0; 4]), head(0x1C, &[1, 0, 0, 0])),
        ] {
            let (config, frame) = ([&config[..], record].concat(), [&frame[..], picture].concat());
            let media =
                Media::from_file(&file(&[(VIDEO, 0, &config), (VIDEO, 0, &frame), (AUDIO, 0, &[0xAF, 0, 0x12, 0x10])])).unwrap();
            assert_eq!((media.video, media.audio), (Some(VideoCodec::H265), Some(AudioCodec::Aac)));
            let expected = [0, 0, 0, 1, 0x40, 1, 0, 0, 0, 1, 0x42, 1, 0, 0, 0, 1, 0x26, 1];
            assert_eq!(media.units[0].data, expected);
        }
    }

    #[test]
    fn other_files_are_refused_in_words() {
        for (bytes, expected) in [
            (b"RIFF".to_vec(), "no FLV file"),
            (file(&[]), "an FLV file without frames"),
            (file(&[(VIDEO, 0, &[0x12, 0, 0, 0, 0])]), "a clip whose picture is neither H.264 nor H.265"),
            (file(&[(AUDIO, 0, &[0x2F, 0])]), "a clip whose sound is neither AAC nor G.711"),
        ] {
            assert_eq!(Media::from_file(&bytes).unwrap_err(), expected);
        }
    }
}
