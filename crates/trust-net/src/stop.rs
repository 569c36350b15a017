//! How a server is told to stop, from another thread.

use crate::sync::{AtomicU8, Ordering};

/// How far stopping has been asked for. It only ever goes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Stop {
    /// Serve.
    No = 0,
    /// Accept no more, finish what has begun.
    Drain = 1,
    /// Cut what is left.
    Cut = 2,
}

/// The flag between the threads.
#[derive(Debug, Default)]
pub(crate) struct StopFlag(AtomicU8);

impl StopFlag {
    pub(crate) fn raise(&self, stop: Stop) {
        self.0.fetch_max(stop as u8, Ordering::SeqCst);
    }

    pub(crate) fn load(&self) -> Stop {
        match self.0.load(Ordering::SeqCst) {
            0 => Stop::No,
            1 => Stop::Drain,
            _ => Stop::Cut,
        }
    }
}
