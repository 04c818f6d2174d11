//! The thread that reads recordings for the control plane, a piece at a time: who reads slowly holds nothing up but its own connection.
//! A panic costs the question at hand, whose asker finds that no answer comes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::files;

/// Questions that wait.
pub const READS_MAX: usize = 256;
/// The most that is read for one question.
pub const READ_BYTES_MAX: usize = 512 * 1024;

/// Control → reader. A reply that nobody waits for any more is no fault.
pub enum ReadOrder {
    /// Opens a recording by its path in the folder, under the name of a finished file or of one that is written.
    Open { path: String, reply: flume::Sender<io::Result<Opened>> },
    /// Reads spans of files behind one another, [`READ_BYTES_MAX`] at most.
    Read { spans: Vec<Span>, reply: flume::Sender<io::Result<Bytes>> },
}

#[derive(Clone, Debug)]
pub struct Opened {
    pub file: Arc<File>,
    pub bytes: u64,
}

/// Some bytes of a file.
#[derive(Clone, Debug)]
pub struct Span {
    pub file: Arc<File>,
    pub offset: u64,
    pub len: u64,
}

pub(super) struct Reader {
    folder: PathBuf,
}

impl Reader {
    pub fn new(folder: PathBuf) -> Self {
        Reader { folder }
    }

    /// Until nobody asks any more.
    pub fn run(self, orders: &flume::Receiver<ReadOrder>) {
        for order in orders {
            if catch_unwind(AssertUnwindSafe(|| self.carry_out(order))).is_err() {
                log::error!("reading a recording panicked; the others are read on");
            }
        }
    }

    fn carry_out(&self, order: ReadOrder) {
        match order {
            ReadOrder::Open { path, reply } => {
                let _ = reply.try_send(open(&self.folder, &path));
            }
            ReadOrder::Read { spans, reply } => {
                let _ = reply.try_send(read(&spans));
            }
        }
    }
}

/// Opens a recording under the name of a finished file or of one that is written.
pub(super) fn open(folder: &Path, path: &str) -> io::Result<Opened> {
    let whole = folder.join(path);
    let file = files::open(&whole).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => files::open(&files::part_of(&whole)),
        _ => Err(error),
    })?;
    let bytes = file.metadata()?.len();
    Ok(Opened { file: Arc::new(file), bytes })
}

fn read(spans: &[Span]) -> io::Result<Bytes> {
    let wanted = spans.iter().map(|span| span.len).sum::<u64>().min(READ_BYTES_MAX as u64) as usize;
    let mut bytes = BytesMut::zeroed(wanted);
    let mut rest = &mut bytes[..];
    for span in spans {
        let some = rest.len().min(usize::try_from(span.len).unwrap_or(usize::MAX));
        let (now, later) = rest.split_at_mut(some);
        span.file.read_exact_at(now, span.offset)?;
        rest = later;
    }
    Ok(bytes.freeze())
}
