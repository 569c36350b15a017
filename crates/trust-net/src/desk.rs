//! Where a worker of the event loop is reached from other threads.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

use mio::net::TcpStream;
use mio::{Poll, Token};

use crate::alarm::Alarm;
use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering, Waker};

/// The token of the event that wakes a worker.
pub(crate) const WAKER: Token = Token(usize::MAX - 1);

/// The token of the event that tells a worker that its alarm went off.
pub(crate) const ALARM: Token = Token(usize::MAX - 2);

/// What a worker needs of the kernel, made before the server starts so that a lack of descriptors is
/// an error of starting.
pub(crate) struct Seat {
    pub(crate) poll: Poll,
    pub(crate) alarm: Alarm,
    pub(crate) desk: Arc<Desk>,
}

/// A worker's inbox and its bell.
pub(crate) struct Desk {
    waker: Waker,
    inbox: Mutex<Vec<Newcomer>>,
}

/// The desks of all workers.
pub(crate) struct Desks {
    desks: Vec<Arc<Desk>>,
    /// Nobody is handed over any more.
    closed: AtomicBool,
}

/// A client on its way to the worker that will serve it.
pub(crate) struct Newcomer {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) id: u64,
}

impl Seat {
    pub(crate) fn new() -> io::Result<Seat> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let alarm = Alarm::new(poll.registry(), ALARM)?;
        Ok(Seat { poll, alarm, desk: Arc::new(Desk::new(waker)) })
    }
}

/// Seats for that many workers.
pub(crate) fn seats(workers: usize) -> io::Result<Vec<Seat>> {
    (0..workers).map(|_| Seat::new()).collect()
}

/// What wakes all workers.
pub(crate) fn waker(seats: &[Seat]) -> Arc<dyn Fn() + Send + Sync> {
    let desks: Vec<Arc<Desk>> = seats.iter().map(|seat| Arc::clone(&seat.desk)).collect();
    Arc::new(move || desks.iter().for_each(|desk| desk.wake()))
}

impl Desk {
    pub(crate) fn new(waker: Waker) -> Desk {
        Desk { waker, inbox: Mutex::default() }
    }

    pub(crate) fn wake(&self) {
        // Fails only if the worker's poll is gone, and then nobody needs to be woken.
        let _ = self.waker.wake();
    }

    fn inbox(&self) -> MutexGuard<'_, Vec<Newcomer>> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Desks {
    pub(crate) fn new(desks: Vec<Arc<Desk>>) -> Desks {
        Desks { desks, closed: AtomicBool::new(false) }
    }

    /// Leaves a client for a worker and wakes it.
    pub(crate) fn hand_over(&self, worker: usize, newcomer: Newcomer) {
        self.desks[worker].inbox().push(newcomer);
        self.desks[worker].wake();
    }

    /// Nobody will be handed over from now on: wakes all workers for a last look at their inboxes.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.desks.iter().for_each(|desk| desk.wake());
    }

    /// Whether nobody will be handed over any more.
    pub(crate) fn are_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// The clients that were left for a worker since the last look.
    pub(crate) fn newcomers(&self, worker: usize) -> Vec<Newcomer> {
        std::mem::take(&mut *self.desks[worker].inbox())
    }

    /// The same once nobody will be handed over any more, so that nobody is left behind.
    pub(crate) fn last_newcomers(&self, worker: usize) -> Option<Vec<Newcomer>> {
        self.are_closed().then(|| self.newcomers(worker))
    }
}
