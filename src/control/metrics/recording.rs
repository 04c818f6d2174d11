//! The series of recording: what recorders do and have done, what waits for the disk, and what is on it.

use std::fmt;

use prometheus_client::registry::Unit;

use super::{Labels, Scrape, Writer};
use crate::disk::Disk;
use crate::shard::message::RecordTotals;

/// What there is on the disk, and what waits for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskFigures {
    recordings: usize,
    bytes: u64,
    queue_bytes: usize,
    queue_entries: usize,
    finish_failures: u64,
}

impl DiskFigures {
    pub fn look(disk: &Disk) -> Self {
        let (recordings, bytes) = disk.index.size();
        DiskFigures {
            recordings,
            bytes,
            queue_bytes: disk.queue.bytes(),
            queue_entries: disk.queue.entries(),
            finish_failures: disk.index.finish_failures(),
        }
    }
}

type Field = fn(&RecordTotals) -> u64;

impl Scrape {
    pub(super) fn encode_recording(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let states = self.recorders.iter().map(|(state, count)| (vec![("state", (*state).to_owned())], *count));
        writer.gauge(("recorders", None, "Recorders, by state"), states)?;
        let disk = &self.disk;
        let gauges = [
            ("recordings", None, "Recordings that are known", disk.recordings as u64),
            ("recordings_size", Some(Unit::Bytes), "Bytes of all recordings that are known", disk.bytes),
            ("disk_queue", Some(Unit::Bytes), "Bytes of recordings that wait for the disk", disk.queue_bytes as u64),
            ("disk_queue_entries", None, "Orders that wait for the disk", disk.queue_entries as u64),
        ];
        for (name, unit, help, value) in gauges {
            writer.gauge((name, unit, help), [(Labels::new(), value)])?;
        }
        writer.counter(
            ("recordings_not_finished", None, "Recordings that could not be put in order after their end"),
            [(Labels::new(), disk.finish_failures)],
        )?;
        let fields: [(&str, &str, Option<Unit>, &str, Field); 4] = [
            ("recorded", "stream_recorded", Some(Unit::Bytes), "Bytes handed over to the disk", |t| t.bytes),
            ("recorded_files", "stream_recorded_files", None, "Files begun", |t| t.files),
            (
                "recording_dropped_gops",
                "stream_recording_dropped_gops",
                None,
                "GOPs not recorded because the disk was behind",
                |t| t.gops_dropped,
            ),
            ("recording_failures", "stream_recording_failures", None, "Times that a file ended for an error", |t| t.failures),
        ];
        for (name, of_stream, unit, help, field) in fields {
            writer.counter((name, unit.clone(), help), [(Labels::new(), field(&self.all.recorded))])?;
            let recorded = self.rows.iter().filter(|row| row.recorded != RecordTotals::default());
            let samples = recorded.map(|row| (vec![("stream", row.name.clone())], field(&row.recorded)));
            writer.counter((of_stream, unit, &format!("{help}, by stream")), samples)?;
        }
        Ok(())
    }
}
