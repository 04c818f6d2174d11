//! Plans carried out and read again; joined, cut and refused pieces.

use bytes::Bytes;

use super::*;
use crate::format::mp4::demux;
use crate::format::mp4::testing::every_track;

const SECOND: i64 = 1_000_000;

/// A movie of pictures of 40 ms with a key every second and B-frames in between, and sound of 20 ms, in a source of numbered bytes.
fn movie(begin_millis: i64, seconds: i64, config: Option<&'static [u8]>) -> (Movie, Vec<u8>) {
    let mut bytes = Vec::new();
    let mut put = |size: u32, value: u8| {
        bytes.resize(bytes.len() + size as usize, value);
        bytes.len() as u64 - u64::from(size)
    };
    let (mut pictures, mut sound) = (Vec::new(), Vec::new());
    for index in 0..seconds * 25 {
        // I P B B P B B …
        let (key, cts) = match index % 25 {
            0 => (true, 0),
            in_gop if in_gop % 3 == 1 => (false, 7_200),
            _ => (false, -3_600),
        };
        let dts = begin_millis * 90 + index * 3_600;
        pictures.push(SampleInfo {
            offset: put(100 + index as u32 % 7, 1),
            dts,
            size: 100 + index as u32 % 7,
            duration: 3_600,
            cts,
            key,
        });
        for half in 0..2 {
            let dts = begin_millis * 48 + 480 + (index * 2 + half) * 960;
            sound.push(SampleInfo { offset: put(10, 2), dts, size: 10, duration: 960, cts: 0, key: true });
        }
    }
    let mut tracks = [every_track().remove(0), every_track().remove(6)];
    tracks[1].id = TrackId(1);
    if let Some(config) = config {
        tracks[1].config = Bytes::from_static(config);
    }
    let [video, audio] = tracks;
    let tracks = vec![
        MovieTrack { track: video, timescale: 90_000, samples: pictures },
        MovieTrack { track: audio, timescale: 48_000, samples: sound },
    ];
    (Movie { tracks, whole_bytes: bytes.len() as u64, is_truncated: false }, bytes)
}

fn carry_out(plan: &Plan, sources: &[&[u8]]) -> Vec<u8> {
    let mut file = plan.head.to_vec();
    for range in &plan.ranges {
        file.extend_from_slice(&sources[range.source][range.offset as usize..(range.offset + range.len) as usize]);
    }
    assert_eq!(file.len() as u64, plan.len);
    file
}

#[test]
fn a_whole_file_is_read_as_it_was() {
    let (movie, bytes) = movie(7_000, 3, None);
    let plan = plan(&[Piece::whole(&movie, 0)]).unwrap();
    let file = carry_out(&plan, &[&bytes]);
    let read = demux::read(&mut &file[..]).unwrap();
    assert_eq!((read.whole_bytes, read.is_truncated), (file.len() as u64, false));
    assert_eq!((plan.begin_micros, plan.duration_micros), (7 * SECOND, 3 * SECOND + 10_000));
    for (track, before) in read.tracks.iter().zip(&movie.tracks) {
        assert_eq!((track.timescale, track.samples.len()), (before.timescale, before.samples.len()));
        for (sample, before_sample) in track.samples.iter().zip(&before.samples) {
            // The presentation begins at zero, within the millisecond of edit lists.
            let moved = track.micros(before_sample.pts()) - track.micros(sample.pts());
            assert!((moved - plan.begin_micros).abs() <= 500, "{moved}");
            assert_eq!(
                (sample.size, sample.cts - before_sample.cts, sample.key),
                (before_sample.size, track.samples[0].cts - before.samples[0].cts, before_sample.key)
            );
            let value = if track.track.id == TrackId(0) { 1 } else { 2 };
            assert!(file[sample.offset as usize..][..sample.size as usize].iter().all(|byte| *byte == value));
        }
    }
    // Half a second of one track lies together: six chunks each.
    let neighbours = read.tracks[0].samples.windows(2).filter(|pair| pair[0].offset + u64::from(pair[0].size) != pair[1].offset);
    assert_eq!(neighbours.count(), 5);
}

#[test]
fn a_range_begins_at_the_key_before_it() {
    let (movie, bytes) = movie(0, 5, None);
    let piece = Piece { from: 2 * SECOND + 300_000, to: 4 * SECOND, ..Piece::whole(&movie, 0) };
    let plan = plan(&[piece]).unwrap();
    let read = demux::read(&mut &carry_out(&plan, &[&bytes])[..]).unwrap();
    assert_eq!((read.tracks[0].samples.len(), read.tracks[1].samples.len()), (50, 101));
    assert!(read.tracks[0].samples[0].key && plan.begin_micros == 2 * SECOND);
    assert_eq!(read.tracks[1].samples[0].dts, -480, "the sound goes on in the middle of a frame");
    assert_eq!(super::plan(&[Piece { from: 9 * SECOND, to: 9 * SECOND, ..piece }]).err(), None, "the last key is before it");
    assert_eq!(super::plan(&[Piece { from: i64::MIN, to: -SECOND, ..piece }]), Err(FileError::Empty));
}

#[test]
fn a_trimmed_movie_has_the_same_plan() {
    let (movie, _) = movie(0, 5, None);
    let cases =
        [(i64::MIN, i64::MAX), (2_300_000, 4_000_000), (0, 1), (-5, 700_000), (4_999_999, 9_000_000), (9_000_000, 9_500_000)];
    for (from, to) in cases {
        let mut trimmed = movie.clone();
        trim(&mut trimmed, from, to);
        let [before, after] = [&movie, &trimmed].map(|movie| plan(&[Piece { from, to, ..Piece::whole(movie, 0) }]).unwrap());
        assert_eq!(before, after, "{from} to {to}");
        let samples = |movie: &Movie| movie.tracks.iter().map(|track| track.samples.len()).sum::<usize>();
        assert_eq!(samples(&trimmed) < samples(&movie), from > 0 || to < 5 * SECOND, "{from} to {to}");
    }
}

#[test]
fn pieces_are_joined_and_never_overlap() {
    let ((first, first_bytes), (second, second_bytes)) = (movie(0, 2, None), movie(0, 2, None));
    for (shift, expected) in [(2 * SECOND, 4_010_000), (3 * SECOND, 5_010_000), (SECOND, 4_010_000)] {
        let pieces = [Piece::whole(&first, 0), Piece { shift, ..Piece::whole(&second, 1) }];
        let plan = plan(&pieces).unwrap();
        let read = demux::read(&mut &carry_out(&plan, &[&first_bytes, &second_bytes])[..]).unwrap();
        assert_eq!(read.tracks.iter().map(|track| track.samples.len()).collect::<Vec<_>>(), [100, 200], "{shift}");
        for track in &read.tracks {
            assert!(track.samples.windows(2).all(|pair| pair[0].dts < pair[1].dts), "{shift}");
        }
        assert!((plan.duration_micros - expected).abs() <= 1_000, "{shift}: {}", plan.duration_micros);
    }
}

#[test]
fn pieces_that_differ_are_refused() {
    let (first, _) = movie(0, 1, None);
    let (second, _) = movie(0, 1, Some(b"OpusHead\x01\x01\x38\x01\x80\xBB\x00\x00\x00\x00\x00"));
    let pieces = [Piece::whole(&first, 0), Piece { shift: SECOND, ..Piece::whole(&second, 1) }];
    assert_eq!(plan(&pieces), Err(FileError::DifferentTracks));
    let mut silent = second.clone();
    silent.tracks.remove(1);
    let pieces = [Piece::whole(&silent, 0), Piece { shift: SECOND, ..Piece::whole(&first, 1) }];
    assert!(plan(&pieces).is_ok(), "sound may come later");
    assert_eq!(plan(&[]), Err(FileError::Empty));
}

#[test]
fn large_files_have_wide_offsets() {
    let (mut movie, _) = movie(0, 2, None);
    movie.tracks[0].samples.iter_mut().for_each(|sample| sample.size = 100_000_000);
    let plan = plan(&[Piece::whole(&movie, 0)]).unwrap();
    let find = |kind: &[u8; 4]| plan.head.windows(4).any(|window| window == kind);
    assert!(find(b"co64") && !find(b"stco"));
    assert_eq!(plan.head[plan.head.len() - 16..][..8], *b"\0\0\0\x01mdat");
}
