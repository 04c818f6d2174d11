//! Files read: those that the server writes, cut anywhere; and broken ones.

use bytes::Bytes;

use super::*;
use crate::format::mp4::testing::{every_track, tracks};
use crate::format::mp4::{Fragment, FragmentWriter, Sample, init_segment};
use crate::media::{MediaTime, TrackId};

const VIDEO: TrackId = TrackId(0);
const AUDIO: TrackId = TrackId(1);

/// Three fragments of two pictures and two frames of sound; and where each ends.
fn fragmented() -> (Vec<u8>, Vec<usize>) {
    let tracks = tracks(every_track()[..2].to_vec());
    let mut file = init_segment(&tracks).unwrap().to_vec();
    let mut writer = FragmentWriter::new(&tracks).unwrap();
    let mut ends = vec![file.len()];
    for sequence in 0..3 {
        let begin = 1_000 + i64::from(sequence) * 80;
        let sample = |millis, cts, data: &'static [u8], key| Sample {
            data: Bytes::from_static(data),
            dts: MediaTime::from_millis(begin + millis),
            duration: 40_000,
            cts,
            key,
        };
        let pictures = [sample(0, 40_000, b"key", sequence == 0), sample(40, -40_000, b"delta", false)];
        let sound = [sample(0, 0, b"a", true), sample(23, 0, b"bc", true)];
        let parts = writer.fragment(&Fragment { sequence, tracks: &[(VIDEO, &pictures), (AUDIO, &sound)] });
        file.extend_from_slice(&parts.head);
        parts.payload.iter().for_each(|data| file.extend_from_slice(data));
        ends.push(file.len());
    }
    (file, ends)
}

fn data<'a>(file: &'a [u8], sample: &SampleInfo) -> &'a [u8] {
    &file[sample.offset as usize..sample.end() as usize]
}

#[test]
fn fragments_are_read_as_they_were_written() {
    let (file, _) = fragmented();
    let movie = read(&mut &file[..]).unwrap();
    assert_eq!(movie.tracks(), tracks(every_track()[..2].iter().cloned().map(without_rate).collect()));
    assert_eq!((movie.whole_bytes, movie.is_truncated), (file.len() as u64, false));
    let [video, audio] = &movie.tracks[..] else { panic!("{movie:?}") };
    let rows = |track: &MovieTrack| -> Vec<(i64, u32, i32, bool, Vec<u8>)> {
        let row = |s: &SampleInfo| (s.dts, s.duration, s.cts, s.key, data(&file, s).to_vec());
        track.samples.iter().map(row).collect()
    };
    assert_eq!((video.timescale, audio.timescale, video.samples.len(), audio.samples.len()), (90_000, 44_100, 6, 6));
    assert_eq!(
        rows(video)[..2],
        [(90_000, 3_600, 3_600, true, b"key".to_vec()), (93_600, 3_600, -3_600, false, b"delta".to_vec())]
    );
    assert_eq!(rows(video)[2], (97_200, 3_600, 3_600, false, b"key".to_vec()));
    assert_eq!(rows(audio)[..2], [(44_100, 1_024, 0, true, b"a".to_vec()), (45_124, 1_024, 0, true, b"bc".to_vec())]);
    assert_eq!(movie.span_micros(), Some((1_000_000, 1_240_000)));
}

/// The frame rate stands in the parameter sets or nowhere.
fn without_rate(mut track: crate::media::Track) -> crate::media::Track {
    if let crate::media::TrackShape::Video { frames_per_second, .. } = &mut track.shape {
        *frames_per_second = 0.0;
    }
    track
}

#[test]
fn a_file_that_ends_too_early_is_read_up_to_its_last_whole_fragment() {
    let (file, ends) = fragmented();
    for cut in ends[0]..=file.len() {
        let movie = read(&mut &file[..cut]).unwrap();
        let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
        assert_eq!(movie.whole_bytes as usize, ends[whole], "cut at {cut}");
        assert_eq!(movie.is_truncated, !ends.contains(&cut), "cut at {cut}");
        assert!(movie.tracks.iter().all(|track| track.samples.len() == 2 * whole), "cut at {cut}");
    }
    for cut in 0..ends[0] {
        assert!(matches!(read(&mut &file[..cut]), Err(ReadError::NoMovie)), "cut at {cut}");
    }
    let movie = read(&mut &[&file[..], &[0; 512]].concat()[..]).unwrap();
    assert_eq!((movie.whole_bytes as usize, movie.is_truncated), (file.len(), true), "zeros behind the end");
}

#[test]
fn no_broken_byte_is_fatal() {
    let (file, _) = fragmented();
    for at in 0..file.len() {
        for value in [0, 1, 0x7F, 0xFF] {
            let mut broken = file.clone();
            broken[at] = value;
            if let Ok(movie) = read(&mut &broken[..]) {
                assert!(movie.tracks.iter().flat_map(|track| &track.samples).all(|sample| sample.end() <= file.len() as u64));
            }
        }
    }
}
