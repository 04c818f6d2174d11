//! The queue from the shards to the writer: bounded in bytes and in entries, never waited for.
//!
//! Over a bound an order is refused, and whoever gave it drops a GOP. The end of a file is always taken: there is one for each file that
//! was begun, so those are bounded by the files. What is queued shares its memory with the stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::protocol::record::{Action, DiskOrder};

/// Orders that wait.
const ENTRIES_MAX: usize = 16 * 1024;

/// What waits.
#[derive(Debug, Default)]
struct Waiting {
    bytes: AtomicUsize,
    entries: AtomicUsize,
}

/// How much waits, for `/metrics`: does not keep the queue open.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<Waiting>);

impl Gauge {
    pub fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }

    pub fn entries(&self) -> usize {
        self.0.entries.load(Ordering::Relaxed)
    }
}

/// Where shards give their orders.
#[derive(Clone, Debug)]
pub struct Orders {
    orders: flume::Sender<DiskOrder>,
    waiting: Arc<Waiting>,
    bytes_max: usize,
}

/// Where the writer takes them.
pub(super) struct Ordered {
    orders: flume::Receiver<DiskOrder>,
    waiting: Arc<Waiting>,
}

pub(super) fn queue(bytes_max: usize) -> (Orders, Ordered) {
    let (start, end) = flume::unbounded();
    let waiting = Arc::new(Waiting::default());
    (Orders { orders: start, waiting: waiting.clone(), bytes_max }, Ordered { orders: end, waiting })
}

fn bytes_of(order: &DiskOrder) -> usize {
    if let Action::Append(append) = &order.action { append.len } else { 0 }
}

impl Orders {
    /// Takes an order; `false`: the disk is behind.
    pub fn give(&self, order: DiskOrder) -> bool {
        let bytes = bytes_of(&order);
        // Shards count at the same time: what is over the bound is taken back, so it is never passed by more than it looks for a moment.
        let bytes_before = self.waiting.bytes.fetch_add(bytes, Ordering::Relaxed);
        let entries_before = self.waiting.entries.fetch_add(1, Ordering::Relaxed);
        let is_end = matches!(order.action, Action::Finish);
        let fits = entries_before < ENTRIES_MAX && (bytes_before == 0 || bytes_before + bytes <= self.bytes_max);
        if (fits || is_end) && self.orders.send(order).is_ok() {
            return true;
        }
        self.waiting.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.waiting.entries.fetch_sub(1, Ordering::Relaxed);
        false
    }

    pub fn gauge(&self) -> Gauge {
        Gauge(self.waiting.clone())
    }
}

impl Ordered {
    /// The next order, when it is there; `None`: nobody is left to give one. The bytes count until [`Ordered::done`].
    pub fn next(&self) -> Option<(DiskOrder, usize)> {
        let order = self.orders.recv().ok()?;
        let bytes = bytes_of(&order);
        Some((order, bytes))
    }

    /// The order is carried out, and its memory let go.
    pub fn done(&self, bytes: usize) {
        self.waiting.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.waiting.entries.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::protocol::record::{Append, FileTag, Progress};

    fn order(action: Action) -> DiskOrder {
        DiskOrder { tag: FileTag { shard: 0, recorder: 1, file: 0 }, action }
    }

    fn append(len: usize) -> DiskOrder {
        let parts = vec![Bytes::from(vec![0; len])];
        order(Action::Append(Append { parts, len, begins: false, resumes_micros: None, progress: Progress::default() }))
    }

    #[test]
    fn what_is_over_the_bound_is_refused_and_ends_are_not() {
        let (orders, ordered) = queue(1_000);
        assert!(orders.give(append(600)) && orders.give(append(400)));
        assert!(!orders.give(append(1)), "full");
        assert!(orders.give(order(Action::Finish)), "the end of a file is always taken");
        let (_, bytes) = ordered.next().unwrap();
        assert!(!orders.give(append(1)), "what is being written counts");
        ordered.done(bytes);
        assert!(orders.give(append(600)));
        assert_eq!(orders.gauge().bytes(), 1_000);
    }

    #[test]
    fn one_order_larger_than_the_bound_fits_an_empty_queue() {
        let (orders, _ordered) = queue(1_000);
        assert!(orders.give(append(5_000)));
        assert!(!orders.give(append(1)));
    }

    #[test]
    fn entries_are_bounded_too() {
        let (orders, _ordered) = queue(1 << 30);
        for _ in 0..ENTRIES_MAX {
            assert!(orders.give(append(1)));
        }
        assert!(!orders.give(append(1)));
        assert_eq!(orders.gauge().bytes(), ENTRIES_MAX);
    }

    #[test]
    fn without_a_writer_nothing_is_taken() {
        let (orders, ordered) = queue(1_000);
        drop(ordered);
        assert!(!orders.give(append(1)));
        assert_eq!(orders.gauge().bytes(), 0);
    }
}
