//! How many connections each worker has.

use crate::sync::{AtomicUsize, Ordering};

/// Connections of each worker, those on their way to it included. One thread places connections,
/// and any may take them off.
#[derive(Debug)]
pub(crate) struct Loads(Vec<AtomicUsize>);

impl Loads {
    pub(crate) fn new(workers: usize) -> Loads {
        Loads((0..workers).map(|_| AtomicUsize::new(0)).collect())
    }

    /// Connections of all workers.
    pub(crate) fn total(&self) -> usize {
        self.0.iter().map(|load| load.load(Ordering::SeqCst)).sum()
    }

    /// Counts a connection for the worker that has the fewest, and says which one that is; `None`
    /// if there are `max` already.
    ///
    /// # Panics
    ///
    /// If there are no workers.
    pub(crate) fn place(&self, max: usize) -> Option<usize> {
        if self.total() >= max {
            return None;
        }
        let loads = self.0.iter().enumerate();
        let fewest = loads.min_by_key(|(_, load)| load.load(Ordering::SeqCst));
        let (worker, _) = fewest.expect("at least one worker");
        self.add(worker);
        Some(worker)
    }

    /// Counts a connection for this worker.
    pub(crate) fn add(&self, worker: usize) {
        self.0[worker].fetch_add(1, Ordering::SeqCst);
    }

    /// A connection of this worker has ended.
    pub(crate) fn take_off(&self, worker: usize) {
        self.0[worker].fetch_sub(1, Ordering::SeqCst);
    }
}
