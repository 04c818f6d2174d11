//! The last step of a file: what its format wants beside fsync and its name.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::files::{self, beside};
use super::measure::FileSource;
use super::sidecar::{Part, Recording};
use crate::format::mp4::demux;
use crate::format::mp4::file::{Piece, plan};
use crate::protocol::common::utc::rfc3339;

const COPY_BYTES: usize = 1024 * 1024;

/// Writes a fragmented file anew with its index in front, as `whole`; says how large it is.
pub fn faststart(part: &File, whole: &Path) -> io::Result<u64> {
    let movie = demux::read(&mut FileSource::new(part)?).map_err(io::Error::other)?;
    let plan = plan(&[Piece::whole(&movie, 0)]).map_err(io::Error::other)?;
    let unfinished = beside(whole, ".", ".new");
    // Of a try that was cut short.
    drop(fs::remove_file(&unfinished));
    let written = files::create(&unfinished).and_then(|file| {
        let mut out = BufWriter::with_capacity(COPY_BYTES, file);
        out.write_all(&plan.head)?;
        let mut buffer = vec![0; COPY_BYTES];
        for range in &plan.ranges {
            copy(part, range.offset, range.len, &mut buffer, &mut out)?;
        }
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    });
    written.and_then(|()| fs::rename(&unfinished, whole)).inspect_err(|_| drop(fs::remove_file(&unfinished)))?;
    Ok(plan.len)
}

fn copy(from: &File, mut offset: u64, len: u64, buffer: &mut [u8], to: &mut impl Write) -> io::Result<()> {
    let end = offset + len;
    while offset < end {
        let some = (end - offset).min(buffer.len() as u64) as usize;
        from.read_exact_at(&mut buffer[..some], offset)?;
        to.write_all(&buffer[..some])?;
        offset += some as u64;
    }
    Ok(())
}

/// A playlist of the parts of one file (RFC 8216 §4.3.2.2: byte ranges want version 4); what goes on behind a hole does not join
/// (§4.3.2.3).
pub fn playlist(recording: &Recording, uri: &str) -> String {
    let ends = recording.parts.iter().skip(1).map(|next| (next.offset, next.start_micros - next.hole_micros));
    let ends = ends.chain([(recording.bytes, recording.duration_micros)]);
    let parts: Vec<(&Part, u64, f64)> = recording
        .parts
        .iter()
        .zip(ends)
        .map(|(part, (end, until))| {
            let seconds = (until - part.start_micros).max(0) as f64 / 1e6;
            (part, end.saturating_sub(part.offset), seconds)
        })
        .collect();
    let target = parts.iter().map(|(_, _, seconds)| seconds.round() as u64).max().unwrap_or(0).max(1);
    let mut text = format!(
        "#EXTM3U\n#EXT-X-VERSION:4\n#EXT-X-TARGETDURATION:{target}\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-MEDIA-SEQUENCE:0\n\
         #EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-PROGRAM-DATE-TIME:{}\n",
        rfc3339(recording.start_micros)
    );
    // Writing into a string cannot fail.
    for (part, bytes, seconds) in parts {
        if part.hole_micros > 0 {
            let date = rfc3339(recording.start_micros.saturating_add(part.start_micros));
            let _ = write!(text, "#EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:{date}\n");
        }
        let _ = write!(text, "#EXTINF:{seconds:.6},\n#EXT-X-BYTERANGE:{bytes}@{}\n{uri}\n", part.offset);
    }
    text.push_str("#EXT-X-ENDLIST\n");
    text
}

/// Puts the playlist of an HLS recording beside its file.
pub fn write_playlist(recording: &Recording, whole: &Path) -> io::Result<()> {
    let name = whole.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    files::replace(&whole.with_extension("m3u8"), playlist(recording, &name.replace('%', "%25")).as_bytes(), true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RecordFormat;

    #[test]
    fn what_goes_on_behind_a_hole_is_a_discontinuity() {
        let part = |offset, start_s: i64, hole_s: i64| Part {
            offset,
            start_micros: start_s * 1_000_000,
            hole_micros: hole_s * 1_000_000,
        };
        let recording = Recording {
            stream: "live/a".to_owned(),
            format: RecordFormat::Hls,
            start_micros: 1_700_000_000_000_000,
            duration_micros: 41_000_000,
            bytes: 500,
            frames: 1,
            tracks: Vec::new(),
            parts: vec![part(0, 0, 0), part(100, 6, 0), part(200, 35, 25)],
            keep_ms: None,
            cut_short: false,
            gops_dropped: 25,
        };
        let expected = "#EXTM3U\n#EXT-X-VERSION:4\n#EXT-X-TARGETDURATION:6\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-MEDIA-SEQUENCE:0\n\
            #EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:20.000Z\n\
            #EXTINF:6.000000,\n#EXT-X-BYTERANGE:100@0\na.ts\n\
            #EXTINF:4.000000,\n#EXT-X-BYTERANGE:100@100\na.ts\n\
            #EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:55.000Z\n\
            #EXTINF:6.000000,\n#EXT-X-BYTERANGE:300@200\na.ts\n#EXT-X-ENDLIST\n";
        assert_eq!(playlist(&recording, "a.ts"), expected);
    }
}
