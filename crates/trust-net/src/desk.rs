//! Where a worker of the event loop is reached from other threads.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use mio::net::TcpStream;
use mio::{Poll, Token, Waker};

/// The token of the event that wakes a worker.
pub(crate) const WAKER: Token = Token(usize::MAX - 1);

/// What a worker needs of the kernel, made before the server starts so that a lack of descriptors is
/// an error of starting.
pub(crate) struct Seat {
    pub(crate) poll: Poll,
    pub(crate) desk: Arc<Desk>,
}

/// A worker's inbox and its bell.
pub(crate) struct Desk {
    waker: Waker,
    inbox: Mutex<Vec<Newcomer>>,
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
        Ok(Seat { poll, desk: Arc::new(Desk { waker, inbox: Mutex::default() }) })
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
    pub(crate) fn wake(&self) {
        // Fails only if the worker's poll is gone, and then nobody needs to be woken.
        let _ = self.waker.wake();
    }

    /// Leaves a client for the worker and wakes it.
    pub(crate) fn hand_over(&self, newcomer: Newcomer) {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).push(newcomer);
        self.wake();
    }

    /// The clients that were left since the last look.
    pub(crate) fn take_newcomers(&self) -> Vec<Newcomer> {
        std::mem::take(&mut *self.inbox.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
