//! Where a worker of the event loop is reached from other threads.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError};

use mio::{Poll, Token};

use crate::address::Peer;
use crate::alarm::Alarm;
use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering, Waker};

/// The token of the event that wakes a worker.
pub(crate) const WAKER: Token = Token(usize::MAX - 1);

/// The token of the event that wakes a worker when its alarm goes off.
pub(crate) const ALARM: Token = Token(usize::MAX - 2);

/// What a worker needs from the kernel. It is made before the server starts, so that a lack of
/// descriptors is a startup error.
pub(crate) struct WorkerResources {
    pub(crate) poll: Poll,
    pub(crate) alarm: Alarm,
    pub(crate) handoff: Arc<Handoff>,
}

/// A worker's inbox and its bell.
pub(crate) struct Handoff {
    waker: Waker,
    inbox: Mutex<Vec<HandedOver>>,
}

/// The handoffs of all workers.
pub(crate) struct Handoffs {
    handoffs: Vec<Arc<Handoff>>,
    /// No more clients are handed over.
    closed: AtomicBool,
}

/// A client on its way to the worker that will serve it.
pub(crate) struct HandedOver {
    pub(crate) stream: OwnedFd,
    pub(crate) peer: Peer,
    pub(crate) id: u64,
}

impl WorkerResources {
    pub(crate) fn new() -> io::Result<WorkerResources> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let alarm = Alarm::new(poll.registry(), ALARM)?;
        Ok(WorkerResources { poll, alarm, handoff: Arc::new(Handoff::new(waker)) })
    }
}

/// Resources for that many workers.
pub(crate) fn resources(workers: usize) -> io::Result<Vec<WorkerResources>> {
    (0..workers).map(|_| WorkerResources::new()).collect()
}

/// What wakes all workers.
pub(crate) fn waker(resources: &[WorkerResources]) -> Arc<dyn Fn() + Send + Sync> {
    let handoffs: Vec<Arc<Handoff>> =
        resources.iter().map(|resources| Arc::clone(&resources.handoff)).collect();
    Arc::new(move || handoffs.iter().for_each(|handoff| handoff.wake()))
}

impl Handoff {
    pub(crate) fn new(waker: Waker) -> Handoff {
        Handoff { waker, inbox: Mutex::default() }
    }

    pub(crate) fn wake(&self) {
        // Fails only if the worker's poll is gone, and then there is no worker to wake.
        let _ = self.waker.wake();
    }

    fn inbox(&self) -> MutexGuard<'_, Vec<HandedOver>> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handoffs {
    pub(crate) fn new(handoffs: Vec<Arc<Handoff>>) -> Handoffs {
        Handoffs { handoffs, closed: AtomicBool::new(false) }
    }

    /// Leaves a client for a worker and wakes it.
    pub(crate) fn hand_over(&self, worker: usize, client: HandedOver) {
        self.handoffs[worker].inbox().push(client);
        self.handoffs[worker].wake();
    }

    /// No more clients will be handed over from now on: wakes all workers for a last look at their
    /// inboxes.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.handoffs.iter().for_each(|handoff| handoff.wake());
    }

    /// Whether no more clients will be handed over.
    pub(crate) fn are_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// The clients that were left for a worker since the last look.
    pub(crate) fn handed_over(&self, worker: usize) -> Vec<HandedOver> {
        std::mem::take(&mut *self.handoffs[worker].inbox())
    }

    /// The same once no more clients will be handed over, so that none is left behind.
    pub(crate) fn last_handed_over(&self, worker: usize) -> Option<Vec<HandedOver>> {
        self.are_closed().then(|| self.handed_over(worker))
    }
}
