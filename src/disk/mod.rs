//! The disk: the only code that reads and writes recordings, on threads of its own.
//!
//! | thread | does | is told by |
//! |---|---|---|
//! | `disk-writer` | creates files and appends to them, nothing else | shards, through a queue bounded in bytes and entries ([`Orders`]) |
//! | `disk-keeper` | fsync, finalising, names, sidecar files, recovery at the start, retention, deletion | the writer, the control plane |
//! | `disk-reader` | reads for downloads | the control plane, through a queue of [`READS_MAX`] |
//! | `disk-exporter` | plans exports, and writes anew what cannot be read as it is | the control plane, through a queue of [`EXPORTS_MAX`] |
//!
//! So a disk that stands still stops these threads and nobody else: the queues fill, recordings drop GOPs, downloads are refused. What
//! goes wrong with a file is told to its recorder. The [`Index`] is what control and disk threads share; shards never touch it, and it is
//! never locked over I/O. Imports media, format, protocol/record and the clock. Not here: what is in a file (`protocol/record`), HTTP.

mod export;
mod files;
mod heads;
mod index;
mod keeper;
mod measure;
mod order;
mod queue;
mod reader;
mod retention;
mod sidecar;
#[cfg(test)]
mod tests;
mod writer;

use std::io;
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use crate::config::Record;
use crate::protocol::record::DiskNews;

pub use export::{EXPORT_FILES_MAX, EXPORTS_MAX, ExportError, ExportOrder, Exported};
pub use index::{Entry, EntryState, Index, Query};
pub use keeper::{KeepError, KeepOrder};
pub use order::playlist;
pub use queue::{Gauge, Orders};
pub use reader::{Opened, READ_BYTES_MAX, READS_MAX, ReadOrder, Span};
pub use sidecar::{Part, RecordedTrack, Recording};

/// What the control plane has of the disk.
#[derive(Clone, Debug)]
pub struct Disk {
    pub index: Arc<Index>,
    pub reads: flume::Sender<ReadOrder>,
    pub exports: flume::Sender<ExportOrder>,
    pub keeps: flume::Sender<KeepOrder>,
    /// What waits for the writer.
    pub queue: Gauge,
    ended: flume::Receiver<()>,
}

impl Disk {
    /// Without threads and recordings, for tests of others.
    #[cfg(test)]
    pub fn none() -> Self {
        let (reads, exports) = (flume::unbounded().0, flume::unbounded().0);
        let (keeps, ended) = (flume::unbounded().0, flume::unbounded().1);
        Disk { index: Arc::default(), reads, exports, keeps, queue: Gauge::default(), ended }
    }

    /// Waits until everything that shards have ordered is on the disk; `false`: not within `limit`. Shards must have ended, or it never is.
    pub fn wait(&self, limit: Duration) -> bool {
        // The keeper says nothing: its end closes the channel.
        matches!(self.ended.recv_timeout(limit), Ok(()) | Err(flume::RecvTimeoutError::Disconnected))
    }
}

/// Starts the threads. `tell` hands news to recorders; it must not wait.
pub fn start(record: &Arc<Record>, tell: impl Fn(DiskNews) + Send + 'static) -> io::Result<(Orders, Disk)> {
    let index = Arc::new(Index::default());
    let (orders, ordered) = queue::queue(record.queue_bytes_max);
    let (reads, read_orders) = flume::bounded(READS_MAX);
    let (exports, export_orders) = flume::bounded(EXPORTS_MAX);
    let (keeps, keep_orders) = flume::unbounded();
    let (ending, ended) = flume::bounded::<()>(1);
    let writer = writer::Writer::new(record.clone(), index.clone(), keeps.clone(), Box::new(tell));
    spawn("disk-writer", move || writer.run(&ordered))?;
    let keeper = keeper::Keeper::new(record.clone(), index.clone());
    spawn("disk-keeper", move || {
        keeper.run(&keep_orders);
        drop(ending);
    })?;
    let reader = reader::Reader::new(record.folder.clone());
    spawn("disk-reader", move || reader.run(&read_orders))?;
    let exporter = export::Exporter::new(record.clone());
    spawn("disk-exporter", move || exporter.run(&export_orders))?;
    let queue = orders.gauge();
    Ok((orders, Disk { index, reads, exports, keeps, queue, ended }))
}

/// A thread that stands back where a shard wants the same core: it does not preempt one, is no realtime thread if the process is started as
/// such, and gets a third of the time of a core that is too small for both.
fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    const NICE: libc::c_int = 5;
    let stand_back = || {
        // SAFETY: all zeros is a value of this plain structure.
        let plain: libc::sched_param = unsafe { std::mem::zeroed() };
        // SAFETY: `plain` is valid for the call; the other takes no pointers. Both are about this thread alone. A refusal changes nothing.
        unsafe {
            libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const plain);
            libc::setpriority(libc::PRIO_PROCESS, 0, NICE);
        }
    };
    Builder::new().name(name.to_owned()).spawn(move || {
        stand_back();
        run();
    })?;
    Ok(())
}
