//! Files read: those that the server writes, cut anywhere; and broken ones.

use bytes::Bytes;

use super::*;
use crate::format::mp4::file::{Piece, plan};
use crate::format::mp4::testing::{every_track, tracks};
use crate::format::mp4::{Fragment, FragmentWriter, Sample, init_segment};
use crate::media::nal::canonical_units;
use crate::media::{Codec, MediaTime, TrackId};

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
            // Sound says itself how long it is.
            duration: if data.len() > 2 { 40_000 } else { 0 },
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

/// Of ffmpeg, a second of five pictures with B-frames and sound each.
const FOREIGN: [(&str, &[u8]); 4] = [
    ("plain", include_bytes!("../../../../tests/corpus/mp4/plain")),
    ("moov behind", include_bytes!("../../../../tests/corpus/mp4/moov_behind")),
    ("fragments", include_bytes!("../../../../tests/corpus/mp4/fragments")),
    ("fragments without offsets", include_bytes!("../../../../tests/corpus/mp4/fragments_delayed")),
];
/// Sound in samples of one byte.
const QUICKTIME: &[u8] = include_bytes!("../../../../tests/corpus/mp4/quicktime_alaw");

#[test]
fn files_of_others_are_read() {
    for (name, file) in FOREIGN {
        let movie = read(&mut &file[..]).unwrap();
        assert!(!movie.is_truncated && movie.whole_bytes == file.len() as u64, "{name}");
        let [video, audio] = &movie.tracks[..] else { panic!("{name}: {movie:?}") };
        assert_eq!((video.track.codec, audio.track.codec), (Codec::H264, Codec::Aac), "{name}");
        assert_eq!(video.samples.len(), 5, "{name}");
        assert_eq!(video.samples.iter().filter(|sample| sample.key).count(), 1, "{name}");
        // Each sample is what its track says: NAL units behind their lengths.
        for sample in &video.samples {
            let data = data(file, sample);
            assert!(canonical_units(data).map(|unit| unit.len() + 4).sum::<usize>() == data.len(), "{name}");
        }
        let mut shown: Vec<i64> = video.samples.iter().map(|sample| video.micros(sample.pts())).collect();
        shown.sort_unstable();
        let steps: Vec<i64> = shown.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(steps, [200_000; 4], "{name}");
        assert!((8..=10).contains(&audio.samples.len()) && audio.samples.iter().all(|sample| sample.key), "{name}");
    }
    let sound = read(&mut &QUICKTIME[..]).unwrap().tracks.remove(0);
    assert_eq!((sound.track.codec, sound.timescale), (Codec::G711A, 8_000));
    assert_eq!(sound.samples.iter().map(|sample| sample.size).sum::<u32>(), 2_400);
    assert_eq!(sound.samples.iter().map(|sample| sample.duration).sum::<u32>(), 2_400);
    assert!(sound.samples.len() < 10, "in blocks");
}

#[test]
fn fragments_that_do_not_say_when_they_begin_follow_the_ones_before() {
    let (_, file) = FOREIGN[2];
    let mut silent = file.to_vec();
    let times: Vec<usize> = (0..file.len() - 4).filter(|at| file[*at..].starts_with(b"tfdt")).collect();
    assert!(times.len() > 1);
    times.iter().for_each(|at| silent[*at..][..4].copy_from_slice(b"free"));
    assert_eq!(read(&mut &silent[..]).unwrap(), read(&mut &file[..]).unwrap());
}

/// What is read of it lies in the file, and what is planned of it is read again.
fn check(file: &[u8]) {
    let Ok(movie) = read(&mut &file[..]) else { return };
    assert!(movie.tracks.iter().flat_map(|track| &track.samples).all(|sample| sample.end() <= file.len() as u64));
    let Ok(plan) = plan(&[Piece::whole(&movie, 0)]) else { return };
    let mut again = plan.head.to_vec();
    for range in &plan.ranges {
        again.extend_from_slice(&file[range.offset as usize..][..range.len as usize]);
    }
    assert!(!read(&mut &again[..]).unwrap().is_truncated);
}

#[test]
fn no_broken_byte_is_fatal() {
    let (own, _) = fragmented();
    for file in FOREIGN.into_iter().map(|(_, file)| file).chain([QUICKTIME, &own]) {
        for at in 0..file.len() {
            for value in [0, 0xFF] {
                let mut broken = file.to_vec();
                broken[at] = value;
                check(&broken);
            }
        }
    }
}

#[test]
fn no_cut_is_fatal() {
    for (_, file) in FOREIGN {
        (0..file.len()).for_each(|cut| check(&file[..cut]));
    }
}

#[test]
fn a_picture_without_parameter_sets_is_no_track() {
    let file = include_bytes!("../../../../tests/corpus/mp4/without_pps");
    let movie = read(&mut &file[..]);
    assert!(!movie.is_ok_and(|movie| movie.tracks.iter().any(|track| track.track.codec == Codec::H264)));
}
