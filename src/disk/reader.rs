//! The thread that reads recordings for the control plane, a piece at a time: who reads slowly holds nothing up but its own connection.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::files;

/// Questions that wait.
pub const READS_MAX: usize = 256;
/// The most that is read for one question.
const READ_BYTES_MAX: usize = 1024 * 1024;

/// Control → reader. A reply that nobody waits for any more is no fault.
pub enum ReadOrder {
    /// Opens a recording by its path in the folder, under the name of a finished file or of one that is written.
    Open { path: String, reply: flume::Sender<io::Result<Opened>> },
    /// Reads up to 1 MiB of it.
    Read { file: Arc<File>, offset: u64, len: usize, reply: flume::Sender<io::Result<Bytes>> },
}

#[derive(Clone, Debug)]
pub struct Opened {
    pub file: Arc<File>,
    pub bytes: u64,
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
            match order {
                ReadOrder::Open { path, reply } => {
                    let _ = reply.try_send(self.open(&path));
                }
                ReadOrder::Read { file, offset, len, reply } => {
                    let _ = reply.try_send(read(&file, offset, len));
                }
            }
        }
    }

    fn open(&self, path: &str) -> io::Result<Opened> {
        let whole = self.folder.join(path);
        let file = files::open(&whole).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => files::open(&files::part_of(&whole)),
            _ => Err(error),
        })?;
        let bytes = file.metadata()?.len();
        Ok(Opened { file: Arc::new(file), bytes })
    }
}

fn read(file: &File, offset: u64, len: usize) -> io::Result<Bytes> {
    let mut bytes = BytesMut::zeroed(len.min(READ_BYTES_MAX));
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes.freeze())
}
