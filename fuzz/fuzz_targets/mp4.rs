//! A file of MP4 → its tables: no panic; every sample lies in the file; what can be planned as a plain file is read again whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardcast::format::mp4::demux::{self, Movie};
use shardcast::format::mp4::file::{Piece, plan};
use shardcast::media::TrackKind;
use shardcast_fuzz::check_config;

fn samples(movie: &Movie, kind: TrackKind) -> usize {
    let track = movie.tracks.iter().find(|track| track.track.codec.kind() == kind);
    track.map_or(0, |track| track.samples.len())
}

fuzz_target!(|data: &[u8]| {
    let Ok(movie) = demux::read(&mut &data[..]) else { return };
    assert!(movie.whole_bytes <= data.len() as u64);
    for track in &movie.tracks {
        if track.track.codec.needs_config() {
            check_config(track.track.codec, &track.track.config);
        }
        for sample in &track.samples {
            assert!(sample.size > 0 && sample.offset + u64::from(sample.size) <= data.len() as u64);
        }
    }
    let Ok(plan) = plan(&[Piece::whole(&movie, 0)]) else { return };
    let mut file = plan.head.to_vec();
    for range in &plan.ranges {
        file.extend_from_slice(&data[range.offset as usize..][..range.len as usize]);
    }
    assert_eq!(file.len() as u64, plan.len);
    let again = demux::read(&mut &file[..]).expect("a file that was written");
    assert!(!again.is_truncated);
    for kind in [TrackKind::Video, TrackKind::Audio] {
        assert!(samples(&again, kind) <= samples(&movie, kind));
    }
    let planned: usize = plan.ranges.iter().map(|range| range.len as usize).sum();
    let read = again.tracks.iter().flat_map(|track| &track.samples).map(|sample| sample.size as usize).sum::<usize>();
    assert_eq!(read, planned);
});
