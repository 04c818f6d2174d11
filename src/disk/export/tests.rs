//! What of recordings goes into one file, and within which bounds.

use super::*;
use crate::disk::tests::{Folder, Setup};

/// Those that the index finds.
fn in_range(entries: &[Arc<Entry>], from: i64, to: i64) -> Vec<Arc<Entry>> {
    let is_in = |entry: &&Arc<Entry>| entry.recording.end_micros() > from && entry.recording.start_micros < to;
    entries.iter().filter(is_in).cloned().collect()
}

#[test]
fn the_frames_of_an_export_are_bounded_over_all_files() {
    let folder = Folder::new("export");
    let setup = Setup::new(&folder.0, |_| ());
    for second in [1, 3, 5] {
        setup.record(RecordFormat::Fmp4, second, second * 1_000, 2);
    }
    let entries = setup.end();
    // Two seconds have fifty pictures and fifty pieces of sound.
    for (samples_max, from, to, is_granted) in
        [(300, 0, 9, true), (299, 0, 9, false), (100, 1, 3, true), (100, 3, 5, true), (99, 3, 5, false), (50, 3, 4, true)]
    {
        let record = Record { folder: folder.0.clone(), free_bytes_min: 0, ..Record::default() };
        let exporter = Exporter { samples_max, ..Exporter::new(Arc::new(record)) };
        let (from, to) = (from * 1_000_000, to * 1_000_000);
        let entries = in_range(&entries, from, to);
        let exported = exporter.export(&entries, (from, to), &|| true);
        let name = format!("{from} to {to}, {samples_max} frames: {:?}", exported.as_ref().err());
        assert_eq!(exported.is_ok(), is_granted, "{name}");
        assert!(is_granted || matches!(exported, Err(ExportError::TooLong(_))), "{name}");
    }
}

fn exporter(folder: &Folder) -> Exporter {
    Exporter::new(Arc::new(Record { folder: folder.0.clone(), free_bytes_min: 0, ..Record::default() }))
}

/// How many pictures an export has, and when it begins.
fn pictures(exported: &Exported) -> (usize, i64) {
    let mut bytes = exported.head.to_vec();
    for span in &exported.spans {
        let at = bytes.len();
        bytes.resize(at + span.len as usize, 0);
        std::os::unix::fs::FileExt::read_exact_at(&*span.file, &mut bytes[at..], span.offset).unwrap();
    }
    let movie = demux::read(&mut &bytes[..]).unwrap();
    (movie.tracks[0].samples.len(), exported.begin_micros)
}

#[test]
fn flv_is_written_anew_from_the_key_before_the_wanted_time_on() {
    let folder = Folder::new("export-flv");
    let setup = Setup::new(&folder.0, |_| ());
    setup.record(RecordFormat::Flv, 1, 10_000, 8);
    setup.record(RecordFormat::Flv, 2, 18_000, 4);
    let entries = setup.end();
    let second = 1_000_000;
    // From, to, pictures, begin, in seconds: a key frame stands at each.
    let cases = [(0, 99, 300, 10), (13, 15, 50, 13), (16, 20, 100, 16), (19, 99, 75, 19)];
    for (from, to, count, begin) in cases {
        let found = in_range(&entries, from * second, to * second);
        let exported = exporter(&folder).export(&found, (from * second, to * second), &|| true).unwrap();
        assert_eq!(pictures(&exported), (count, begin * second), "{from} s to {to} s");
        assert_eq!(exported.duration_micros, count as i64 * 40_000);
    }
    let refused = exporter(&folder).export(&entries, (0, 99 * second), &|| false);
    assert!(matches!(refused, Err(ExportError::Read(..))), "nobody waits for it");
    let full = Exporter::new(Arc::new(Record { folder: folder.0.clone(), free_bytes_min: 1 << 59, ..Record::default() }));
    assert!(matches!(full.export(&entries, (0, 99 * second), &|| true), Err(ExportError::NoRoom)));
}

#[test]
fn of_two_formats_at_a_time_the_one_is_taken_that_is_read_as_it_is() {
    let folder = Folder::new("export-both");
    let setup = Setup::new(&folder.0, |_| ());
    for (number, format) in (1..).zip([RecordFormat::Flv, RecordFormat::Fmp4]) {
        setup.record(format, number, 10_000, 4);
    }
    let entries = setup.end();
    let chosen = choose(&entries).unwrap();
    assert_eq!(chosen.iter().map(|entry| entry.recording.format).collect::<Vec<_>>(), [RecordFormat::Fmp4]);
}
