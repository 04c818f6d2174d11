//! Recording: a stream's events become files, by orders that a disk carries out.
//!
//! A [`Recorder`] takes the events of one stream where they come together and gives out [`DiskOrder`]s. It waits for nobody: an order that
//! is refused costs the stream's file a GOP and nothing else. Like all protocols it has no file, socket, clock or lock; `disk/` writes.
//! Spec: none of its own; the containers are `format/`'s.

pub mod order;
pub mod path;

mod container;
mod recorder;

pub use order::{Action, Append, DiskNews, DiskOrder, FileStart, FileTag, Progress};
pub use recorder::{Recorder, RecorderState, RecorderStatus, Settings};
